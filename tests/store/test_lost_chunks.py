"""A chunk that the manifest has on record and that is gone is an error, never the fill value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume
from object_store import Lab, Memory

import scout_dask_io as io
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.store.manifest import MANIFEST_NAME
from scout_dask_io.store.source import open_source

SHAPE, CHUNKS = (7, 9, 10), (4, 4, 4)
V3 = {"zarr_format": 3}
KINDS: dict[str, dict[str, Any]] = {
    "v2": {},
    "v2, with another fill value": {"fill_value": 7},
    "v3": V3,
    "shards": {**V3, "shards": (4, 8, 8)},
}


def keys(names: Any) -> list[str]:
    return sorted(n for n in names if n.rpartition("/")[2].isdigit())


def volume() -> np.ndarray:
    """Give a volume whose first chunk along all axes is empty and has no file."""
    made = make_volume(SHAPE) + 1
    made[:4, :8, :8] = 0
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_chunk_is_told_and_an_empty_one_is_fill(tmp_path: Path, kind: str) -> None:
    path, want = tmp_path / "a.zarr", volume()
    want[want == 0] = KINDS[kind].get("fill_value", 0)
    io.write_zarr(path, want, CHUNKS, **KINDS[kind])
    found = keys(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    array = io.read_zarr(path)
    np.testing.assert_array_equal(array.compute(), want)
    kept = (path / found[-1]).read_bytes()
    (path / found[-1]).unlink()
    for data in (array, io.read_zarr(path)):
        np.testing.assert_array_equal(data[:4, :8, :8].compute(), want[:4, :8, :8])
        with pytest.raises(
            ChunkReadError, match=f"{found[-1].replace('/', '.')}: the chunk is lost"
        ):
            data[4:].compute()
    with pytest.raises(ChunkReadError, match="lost"):
        io.convert(path, tmp_path / "b.zarr")
    # Both ways out lead out.
    (path / found[-1]).write_bytes(kept)
    np.testing.assert_array_equal(io.read_zarr(path).compute(), want)
    (path / found[-1]).unlink()
    (path / ".scout-manifest").unlink()
    got = io.read_zarr(path).compute()
    np.testing.assert_array_equal(got[:4], want[:4])
    assert got[-1, -1, -1] == KINDS[kind].get("fill_value", 0)


@pytest.mark.in_process
@pytest.mark.parametrize("kind", ["v2", "v3"])
def test_the_manifest_is_looked_at_once_a_region_however_many_chunks_are_empty(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = np.zeros(SHAPE, "u2")
    data[0, 0, 0] = 1
    io.write_zarr(tmp_path / "a.zarr", data, CHUNKS, **KINDS[kind])
    whole = io.read_zarr(tmp_path / "a.zarr", chunks=-1)
    looked: list[str] = []
    real = LocalLocation.file_state
    monkeypatch.setattr(
        LocalLocation, "file_state", lambda self, name: looked.append(name) or real(self, name)
    )
    np.testing.assert_array_equal(whole.compute(), data)
    assert looked.count(MANIFEST_NAME) == 1


@pytest.mark.parametrize("where", ["memory", "s3"])
@pytest.mark.parametrize("kind", ["v2", "shards"])
def test_an_object_that_is_lost_is_told(lab: Lab, memory: Memory, where: str, kind: str) -> None:
    url, fs, key = memory.url, memory.fs, memory.key
    reach: dict[str, Any] = {}
    if where == "s3":
        url, fs, key = lab.url, lab.fs, f"{lab.bucket}/deep/a.zarr"
        reach = {"storage_options": lab.options}
    io.write_zarr(url, volume(), CHUNKS, **KINDS[kind], **reach)
    np.testing.assert_array_equal(io.read_zarr(url, **reach).compute(), volume())
    lost = keys(fs.find(key))[-1]
    fs.rm_file(lost)
    with pytest.raises(ChunkReadError, match="the chunk is lost"):
        io.read_zarr(url, **reach).compute()


def test_a_level_of_an_image_tells_too(tmp_path: Path) -> None:
    io.write_ome_zarr(tmp_path / "a.zarr", make_volume((8, 20, 24)), 4, levels=2)
    gone = keys(p.relative_to(tmp_path).as_posix() for p in (tmp_path / "a.zarr/1").rglob("*"))[-1]
    (tmp_path / gone).unlink()
    io.read_zarr(tmp_path / "a.zarr").compute()
    with pytest.raises(ChunkReadError, match="the chunk is lost"):
        io.read_zarr(tmp_path / "a.zarr", level=1).compute()


@pytest.mark.parametrize("kind", ["v2", "shards"])
def test_a_region_that_empties_or_fills_a_chunk_is_read_as_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zarr"
    io.write_zarr(path, volume(), CHUNKS, **KINDS[kind])
    before = open_source(path)
    whole = (slice(0, 7), slice(0, 9), slice(0, 10))
    before.read(whole)  # the manifest is known
    region = (slice(4, 7), slice(0, 9), slice(0, 10))
    io.write_zarr(path, np.zeros((3, 9, 10), "u2"), region=region)
    assert not before.read(region).any()
    io.write_zarr(path, volume()[4:], region=region)
    np.testing.assert_array_equal(before.read(whole), volume())
