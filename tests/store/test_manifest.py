"""The manifest: what it says comes back, and damage to it never goes unseen."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import LayoutError
from scout_dask_io.store.chunk_v2 import array_crc32c, crc32c
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.manifest import (
    MANIFEST_NAME,
    change_records,
    manifest_job,
    read_manifest,
    write_manifest,
)


def records() -> np.ndarray:
    found = np.zeros((2, 3, 4), CHUNK_RECORD)
    found["nbytes"] = np.arange(24).reshape(2, 3, 4)
    found["crc32c"] = 2**32 - 1 - found["nbytes"]
    return found


def test_a_manifest_comes_back(tmp_path: Path) -> None:
    write_manifest(tmp_path, records(), {"source": "x", "units": [[1, 2]]}, "job-1")
    found = read_manifest(tmp_path)
    assert found is not None
    assert found.records.shape == (2, 3, 4)
    np.testing.assert_array_equal(found.records, records())
    assert found.settings == {"source": "x", "units": [[1, 2]]}
    assert found.job == manifest_job(tmp_path) == "job-1"
    assert [p.name for p in tmp_path.iterdir()] == [MANIFEST_NAME]


def test_an_array_without_one_has_none(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    assert manifest_job(tmp_path) is None


def test_the_manifest_of_a_written_array_is_true_of_its_files(tmp_path: Path) -> None:
    data = make_volume((9, 20, 31))
    data[:4] = 0
    io.write_zarr(tmp_path / "a.zarr", data, (4, 8, 16))
    found = read_manifest(tmp_path / "a.zarr")
    assert found is not None
    assert found.records.shape == (3, 3, 2)
    for index in np.ndindex(3, 3, 2):
        file = tmp_path / "a.zarr" / "/".join(map(str, index))
        expected = (0, 0)
        if file.exists():
            expected = (file.stat().st_size, crc32c(file.read_bytes()))
        assert tuple(found.records[index]) == expected
    assert (found.records["nbytes"] == 0).any()
    assert (found.records["nbytes"] > 0).any()


def test_zarr_passes_over_the_manifest(tmp_path: Path) -> None:
    data = make_volume((9, 20, 31))
    io.write_zarr(tmp_path / "g" / "a", data, 8)
    (tmp_path / "g" / ".zgroup").write_text('{"zarr_format": 2}')
    group = zarr.open_group(tmp_path / "g", mode="r")
    assert list(group) == ["a"]
    np.testing.assert_array_equal(group["a"][...], data)


@pytest.mark.parametrize("at", [0, 20, -1, -100])
def test_a_flipped_byte_is_found(tmp_path: Path, at: int) -> None:
    write_manifest(tmp_path, records(), {})
    raw = bytearray((tmp_path / MANIFEST_NAME).read_bytes())
    raw[at] ^= 0x55
    (tmp_path / MANIFEST_NAME).write_bytes(raw)
    if at == 20:  # inside the text of the header: its JSON may stay whole
        return
    with pytest.raises(LayoutError, match=r"\.scout-manifest is damaged"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    "raw", [b"", b"\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b'{"scout_manifest": 2}\n', b"{"]
)
def test_what_is_no_manifest_is_an_error(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(raw)
    with pytest.raises(LayoutError, match="damaged"):
        read_manifest(tmp_path)
    assert manifest_job(tmp_path) is None


@pytest.mark.parametrize("nbytes", [-8, -1, 1, 8])
def test_a_manifest_of_another_length_is_an_error(tmp_path: Path, nbytes: int) -> None:
    write_manifest(tmp_path, records(), {})
    raw = (tmp_path / MANIFEST_NAME).read_bytes()
    raw = raw[:nbytes] if nbytes < 0 else raw + b"\0" * nbytes
    (tmp_path / MANIFEST_NAME).write_bytes(raw)
    with pytest.raises(LayoutError, match="checksum or size"):
        read_manifest(tmp_path)


def test_a_failed_write_of_the_manifest_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path, records(), {"old": 1})

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match="Input/output"):
            write_manifest(tmp_path, records(), {"new": 1})
    found = read_manifest(tmp_path)
    assert found is not None
    assert found.settings == {"old": 1}
    assert os.listdir(tmp_path) == [MANIFEST_NAME]


def test_changed_records_are_put_in_and_the_source_is_forgotten(tmp_path: Path) -> None:
    write_manifest(tmp_path, records(), {"source": "x", "codec": None}, "job-1")
    new = np.zeros((1, 2, 4), CHUNK_RECORD)
    new["nbytes"] = 99
    change_records(tmp_path, (slice(1, 2), slice(0, 2), slice(0, 4)), new)
    expected = records()
    expected[1:2, 0:2] = new
    found = read_manifest(tmp_path)
    assert found is not None
    np.testing.assert_array_equal(found.records, expected)
    assert found.settings["source"] != "x"
    assert found.settings["codec"] is None


def test_an_array_without_a_manifest_gets_none_by_a_change(tmp_path: Path) -> None:
    change_records(tmp_path, (slice(0, 1),), np.zeros(1, CHUNK_RECORD))
    assert list(tmp_path.iterdir()) == []


def test_a_copied_array_keeps_its_manifest(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", make_volume((5, 6, 7)), 4)
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr")
    one, two = read_manifest(tmp_path / "a.zarr"), read_manifest(tmp_path / "b.zarr")
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.records, two.records)
    head = (tmp_path / "b.zarr" / MANIFEST_NAME).read_bytes().partition(b"\n")[0]
    assert json.loads(head)["scout_manifest"] == 1


def test_crc32c_is_castagnolis() -> None:
    # RFC 3720, B.4: 32 bytes of zeros, of ones, and rising.
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(memoryview(bytes(range(32)))) == 0x46DD794E


def test_the_checksum_of_an_array_is_that_of_its_elements_in_c_order() -> None:
    volume = make_volume((5, 6, 7))
    expected = crc32c(volume.tobytes())
    for array in (volume, np.asfortranarray(volume), np.ascontiguousarray(volume.T).T):
        assert array_crc32c(array) == expected
    assert array_crc32c(volume[::-1]) != expected
    assert array_crc32c(np.zeros((0, 5))) == 0
