"""A resumed write trusts no chunk that it has not looked at: what was lost comes again."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from helpers import make_volume
from object_store import Failing, Memory

import scout_dask_io as io
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.store.chunk_v2 import crc32c
from scout_dask_io.store.local_transaction import LocalTransaction
from scout_dask_io.store.remote_transaction import RemoteTransaction

SHAPE, CHUNKS = (12, 20, 30), (4, 8, 16)


def _data() -> np.ndarray:
    volume = make_volume(SHAPE)
    volume[:4, :8, :16] = 0  # an empty chunk
    return volume


def _blocks(calls: list[int] | None = None) -> da.Array:
    """Give data by blocks of one chunk, each a unit; ``calls`` gets those computed."""
    volume = _data()

    def block(number: int, first: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
        if calls is not None:
            calls.append(number)
        return volume[tuple(slice(a, a + n) for a, n in zip(first, shape, strict=True))]

    chunks = ((4, 4, 4), (8, 8, 4), (16, 14))
    graph = {
        ("told", *at): (
            block,
            number,
            tuple(sum(c[:k]) for c, k in zip(chunks, at, strict=True)),
            tuple(c[k] for c, k in zip(chunks, at, strict=True)),
        )
        for number, at in enumerate(np.ndindex(3, 3, 2))
    }
    # By its own name: that of map_blocks is another for each function in some versions of dask.
    return da.Array(graph, "told", chunks, dtype="u2")


def _write(path: Any, data: da.Array, kind: str, **how: Any) -> None:
    how = {"nb_workers": 1, "chunks": CHUNKS, **how}
    if kind == "image":
        io.write_ome_zarr(path, data, levels=2, **how)
    else:
        formats: dict[str, Any] = {"v3": {"zarr_format": 3}, "qc": {"qc": True}}
        io.write_zarr(path, data, **how, **formats.get(kind, {}))


def _cut_off(path: Any, kind: str, **how: Any) -> None:
    """Write every unit, and stop before anything is published."""

    def commit(*args: Any, **known: Any) -> None:
        raise RuntimeError("cut off")

    with pytest.MonkeyPatch.context() as patch:
        for transaction in (LocalTransaction, RemoteTransaction):
            patch.setattr(transaction, "commit", commit)
        with pytest.raises(RuntimeError, match="cut off"):
            _write(path, _blocks(), kind, **how)


def _unlink(path: Path) -> None:
    path.unlink()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-5] ^= 0x10
    path.write_bytes(raw)


def _flip_and_hide(path: Path) -> None:
    """Change a chunk as tools do that put times back."""
    found = path.stat()
    _flip(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _folder(path: Path) -> None:
    path.unlink()
    (path / "deep").mkdir(parents=True)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def _lose_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def _stray(path: Path) -> None:
    (path.parents[2] / "0" / "0").mkdir(parents=True, exist_ok=True)
    (path.parents[2] / "0" / "0" / "0").write_bytes(path.read_bytes())


DAMAGES = [
    _unlink,
    _empty,
    _cut,
    _flip,
    _flip_and_hide,
    _folder,
    _fifo,
    _dangling,
    _lose_folder,
    _stray,
]


def _lines_of(folder: Path) -> list[bytes]:
    logs = folder.glob(".a.zarr.scout-partial/*/journal/*.log")
    return [line for log in logs for line in log.read_bytes().splitlines()]


def _staged(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f".a.zarr.scout-partial/*/array/{name}")
    return found


KINDS = {"array": "0/1/1", "v3": "c/0/1/1", "image": "0/0/1/1", "qc": "0/1/1"}


@pytest.mark.parametrize(
    ("kind", "damage"),
    [("array", damage) for damage in DAMAGES]
    + [(kind, damage) for kind in ("v3", "image", "qc") for damage in (_unlink, _flip)],
    ids=lambda f: f if isinstance(f, str) else f.__name__[1:],
)
def test_a_resumed_write_writes_again_what_does_not_lie_there_as_it_was_noted(
    tmp_path: Path, damage: Callable[[Path], None], kind: str
) -> None:
    path = tmp_path / "a.zarr"
    _cut_off(path, kind)
    damage(_staged(tmp_path, KINDS[kind]))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _write(path, _blocks(), kind, resume=True)
    assert any("written again" in str(w.message) for w in told) == (damage is not _stray)
    level = {"level": 0} if kind == "image" else {}
    np.testing.assert_array_equal(io.read_zarr(path, **level), _data())
    assert io.verify(path).ok


@pytest.mark.parametrize("durable", [False, True])
def test_of_a_resumed_write_only_units_that_do_not_fit_are_computed_again(
    tmp_path: Path, durable: bool
) -> None:
    path = tmp_path / "a.zarr"
    _cut_off(path, "array", durable=durable)
    _staged(tmp_path, "0/2/1").unlink()
    calls: list[int] = []
    with pytest.warns(UserWarning, match=r"1 write unit .*.0.2.1: found nothing, written were"):
        _write(path, _blocks(calls), "array", resume=True, durable=durable)
    assert sorted(calls) == [5]
    np.testing.assert_array_equal(io.read_zarr(path), _data())


def test_durable_reads_what_a_power_failure_may_have_left_at_the_right_size(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.zarr"
    _cut_off(path, "array")
    _flip(_staged(tmp_path, "0/1/1"))
    for log in tmp_path.glob(".a.zarr.scout-partial/*/journal/*.log"):
        os.utime(log)  # as where the damage came before the last unit was noted
    with pytest.warns(UserWarning, match=r"0.1.1: found \d+ bytes of CRC32C"):
        _write(path, _blocks(), "array", resume=True, durable=True)
    np.testing.assert_array_equal(io.read_zarr(path), _data())


def test_a_unit_that_is_written_again_has_one_record(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    _cut_off(path, "array")
    (log,) = tmp_path.glob(".a.zarr.scout-partial/*/journal/*.log")
    # Sorted after the file of this process.
    log.rename(log.with_name("zzz-1-1.log"))
    chunk = _staged(tmp_path, "0/1/1")
    raw = chunk.read_bytes()
    chunk.write_bytes(raw + b"!")
    with pytest.warns(UserWarning, match="written again"):
        _cut_off(path, "array", resume=True)
    found = LocalTransaction.find(LocalLocation(path))
    assert found is not None
    assert found.finished(None)[3].reshape(-1).tolist() == [(len(raw), crc32c(raw))]
    assert sum(b'"unit": 3,' in line for line in _lines_of(tmp_path)) == 1


@pytest.mark.parametrize(
    ("name", "damage"),
    [(".zarray", _unlink), (".zarray", _cut), (".zattrs", _empty)],
    ids=["no .zarray", "half a .zarray", "an empty .zattrs"],
)
def test_metadata_that_were_lost_are_those_that_the_write_was_begun_with(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    path = tmp_path / "a.zarr"
    how: dict[str, Any] = {"attributes": {"stain": "DAPI"}, "fill_value": 7}
    _cut_off(path, "array", **how)
    document = json.loads(_staged(tmp_path, name).read_text())
    damage(_staged(tmp_path, name))
    _write(path, _blocks(), "array", resume=True, **how)
    assert json.loads((path / name).read_text()) == document
    np.testing.assert_array_equal(io.read_zarr(path), _data())


def test_a_lost_record_of_planes_is_gathered_again(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    for damage in (_unlink, _empty, _cut):
        _cut_off(path, "qc", overwrite=True)
        (record,) = tmp_path.glob(".a.zarr.scout-partial/*/journal/3.planes")
        damage(record)
        with pytest.warns(UserWarning, match=r"3\.planes is lost or damaged"):
            _write(path, _blocks(), "qc", resume=True, overwrite=True)
        assert io.verify(path).ok
        assert (tmp_path / "a.zarr.qc.json").is_file()


@pytest.mark.parametrize("kind", ["array", "image"])
@pytest.mark.parametrize("durable", [False, True])
def test_in_a_store_objects_that_do_not_fit_are_put_again(
    memory: Memory, kind: str, durable: bool
) -> None:
    _cut_off(memory.url, kind)
    full = "" if kind == "array" else "0/"
    lost, cut, changed = (f"{full}0/{k}/{n}" for k, n in ((1, 1), (1, 0), (2, 0)))
    memory.fs.rm(f"{memory.key}/{lost}")
    raw = memory.fs.cat_file(f"{memory.key}/{cut}")
    memory.put(cut, raw[:-2])
    raw = memory.fs.cat_file(f"{memory.key}/{changed}")
    memory.put(changed, raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.warns(UserWarning, match=r"write units? .*written again"):
        _write(memory.url, _blocks(), kind, resume=True, durable=durable)
    level = {"level": 0} if kind == "image" else {}
    np.testing.assert_array_equal(io.read_zarr(memory.url, **level), _data())
    assert io.verify(memory.url).ok


@pytest.mark.parametrize("kind", ["array", "image"])
def test_in_a_store_a_publication_that_was_cut_off_lacks_nothing_afterwards(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with monkeypatch.context() as patch:
        failing = Failing(patch)
        _write(memory.url, _blocks(), kind)
        n_steps = len(failing.log)
    memory.fs.rm(memory.key, recursive=True)
    with monkeypatch.context() as patch:
        failing = Failing(patch)
        failing.left = n_steps - 1  # all but the removal of the marker
        with pytest.raises(io.WriteError, match="on purpose"):
            _write(memory.url, _blocks(), kind)
    memory.fs.rm(f"{memory.key}/{'' if kind == 'array' else '1/'}0/1/0")
    _write(memory.url, _blocks(), kind, resume=True)
    assert io.verify(memory.url).ok
