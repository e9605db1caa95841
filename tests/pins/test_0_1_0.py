"""What version 0.1.0 wrote is read, verified, and finished where it was interrupted."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

import scout_dask_io as io

DATA = Path(__file__).resolve().parent.parent / "data" / "0.1.0"


def _load_maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_0_1_0", DATA / "make_0_1_0.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


maker = _load_maker()
ARRAYS = ["v2.zarr", "v3.zarr", "sharded.zarr", "qc.zarr"]
IMAGES = ["image.ome.zarr", "image5.ome.zarr"]
#: Means of twos along y and x, and along z too where voxels are near isotropic.
LEVEL_SHAPES = [(11, 29, 31), (11, 15, 16), (6, 8, 8)]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Give a copy of the files, with the empty folders that git does not keep."""
    folder = tmp_path / "old"
    shutil.copytree(DATA, folder)
    for job in folder.glob("unfinished*/.*.scout-partial/*/job.json"):
        (job.parent / "tmp").mkdir()
        for level in (job.parent / "array").glob("*/.zarray"):
            (job.parent / "journal" / level.parent.name).mkdir(exist_ok=True)
    return folder


@pytest.fixture
def store(old: Path) -> Iterator[str]:
    """Give the URL of a store in memory that holds what was written into one."""
    fs = fsspec.filesystem("memory")
    root = f"/{old.parent.name}"
    for folder in (old / "unfinished_in_store", old / "in_store"):
        for path in folder.rglob("*"):
            if path.is_file():
                fs.pipe_file(f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    yield f"memory:/{root}"
    fs.rm(root, recursive=True)


def keys(url: str) -> list[str]:
    fs, root = fsspec.core.url_to_fs(url)
    return sorted(key[len(root) + 1 :] for key in fs.find(root))


def chunk_files(folder: Path) -> dict[tuple[int, ...], tuple[str, ...]]:
    """Give chunk files by what they are: inode and time of change, which a rename keeps."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name.isdigit():
            stat = path.stat()
            found[stat.st_ino, stat.st_mtime_ns] = path.parts[-3:]
    return found


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_is_read_and_stands_its_manifest(old: Path, name: str) -> None:
    lazy = io.read_zarr(old / name)
    assert (lazy.shape, lazy.dtype) == (maker.SHAPE, np.dtype("uint16"))
    np.testing.assert_array_equal(lazy.compute(), maker.volume())
    np.testing.assert_array_equal(lazy[3:10, 7, 20:].compute(), maker.volume()[3:10, 7, 20:])
    report: Any = io.verify(old / name, deep=True)
    assert (report.has_manifest, report.mismatch) == (True, "")
    assert (report.ok, report.bad) == (True, ())
    found: Any = io.info(old / name)
    assert (found.shape, found.n_present) == (maker.SHAPE, 2 if name == "sharded.zarr" else 8)


@pytest.mark.parametrize("name", ["v2.zarr", "v3.zarr", "sharded.zarr"])
def test_attributes_and_chunks_are_as_they_were(old: Path, name: str) -> None:
    array: Any = io.open(old / name, mode="r")
    assert array.attrs.asdict() == {"made": "0.1.0"}
    assert array.chunks == maker.CHUNKS
    assert array.shards == (maker.SHARDS if name == "sharded.zarr" else None)


def test_a_damaged_chunk_is_still_found(old: Path) -> None:
    chunk = old / "v2.zarr" / "1" / "0" / "1"
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(bytes(data))
    (old / "v2.zarr" / "0" / "1" / "1").unlink()
    report: Any = io.verify(old / "v2.zarr")
    assert [(b.kind, b.index) for b in report.bad] == [
        ("missing", (0, 1, 1)), ("corrupt", (1, 0, 1)),
    ]  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_read_and_stands_its_manifests(old: Path, name: str) -> None:
    found = [io.read_zarr(old / name, level=n) for n in range(3)]
    assert [level.shape for level in found] == LEVEL_SHAPES
    np.testing.assert_array_equal(found[0].compute(), maker.volume())
    group = zarr.open_group(old / name, mode="r")
    for n, level in enumerate(found):
        np.testing.assert_array_equal(level.compute(), group[str(n)][...])
    size = io.voxel_size(old / name)
    assert size is not None
    assert (size.z, size.y, size.x) == maker.VOXEL_SIZE
    report: Any = io.verify(old / name, deep=True)
    assert report.ok


@pytest.mark.parametrize("name", [*ARRAYS[:3], *IMAGES])
def test_a_finished_write_is_finished_still(old: Path, name: str) -> None:
    before = chunk_files(old / name)
    write, given = io.write_zarr, dict(maker.ARRAY)
    if name in IMAGES:
        write, given = io.write_ome_zarr, dict(maker.IMAGE)
        given["version"] = "0.5" if name == IMAGES[1] else "0.4"
    elif name != "v2.zarr":
        given["zarr_format"] = 3
        given["shards"] = maker.SHARDS if name == "sharded.zarr" else None
    write(old / name, maker.volume(), resume=True, **given, **maker.ROOM)
    assert chunk_files(old / name) == before


def test_the_sheet_of_planes_is_read(old: Path) -> None:
    sheet = json.loads((old / "qc.zarr.qc.json").read_text())
    assert io.info(old / "qc.zarr").shape == maker.SHAPE
    assert sheet["shape"] == list(maker.SHAPE)
    # What stands beside an old array is replaced with it.
    io.write_zarr(
        old / "qc.zarr", maker.volume(5), maker.CHUNKS, qc=True, overwrite=True, **maker.ROOM
    )
    assert set(json.loads((old / "qc.zarr.qc.json").read_text())) >= {"shape"}


def test_an_interrupted_array_is_refused_by_name_and_finished(old: Path) -> None:
    path = old / "unfinished" / "a.zarr"
    with pytest.raises(io.PathNotFoundError, match=r"unfinished write"):
        io.read_zarr(path)
    with pytest.raises(io.ResumeError, match="source was"):
        io.write_zarr(path, maker.volume(9), resume=True, **maker.ARRAY, **maker.ROOM)
    seen: list[int] = []
    kept = chunk_files(path.parent)
    assert len(kept) == maker.OF_ARRAY
    io.write_zarr(
        path, maker.volume(1), resume=True, progress=lambda n, *_: seen.append(n),
        **maker.ARRAY, **maker.ROOM,
    )  # fmt: skip
    # The chunks that were finished are taken over as they are.
    assert kept.items() <= chunk_files(path).items()
    assert (min(seen), max(seen)) == (maker.OF_ARRAY, 8)
    np.testing.assert_array_equal(io.read_zarr(path).compute(), maker.volume(1))
    assert io.verify(path).ok
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.zarr"]


def test_an_interrupted_image_is_refused_by_name_and_finished(old: Path) -> None:
    path = old / "unfinished_image" / "a.ome.zarr"
    with pytest.raises(io.PathNotFoundError, match=r"unfinished write"):
        io.read_zarr(path)
    with pytest.raises(io.ResumeError, match="source was"):
        io.write_ome_zarr(path, maker.volume(9), resume=True, **maker.IMAGE, **maker.ROOM)
    kept = chunk_files(path.parent)
    assert len(kept) == 5  # four chunks of level 0 and one of level 1
    io.write_ome_zarr(path, maker.volume(2), resume=True, **maker.IMAGE, **maker.ROOM)
    assert kept.items() <= chunk_files(path).items()
    np.testing.assert_array_equal(io.read_zarr(path).compute(), maker.volume(2))
    afresh = old / "afresh.ome.zarr"
    io.write_ome_zarr(afresh, maker.volume(2), **maker.IMAGE, **maker.ROOM)
    for level in range(3):
        np.testing.assert_array_equal(
            io.read_zarr(path, level=level).compute(), io.read_zarr(afresh, level=level).compute()
        )
    assert io.verify(path).ok
    assert sorted(p.name for p in path.parent.iterdir()) == ["a.ome.zarr"]


@pytest.mark.parametrize("name", ["a.zarr", "a.ome.zarr"])
def test_an_interrupted_write_in_a_store_is_refused_by_name_and_finished(
    store: str, name: str
) -> None:
    url = f"{store}/{name}"
    write: Any = io.write_zarr if name == "a.zarr" else io.write_ome_zarr
    given = maker.ARRAY if name == "a.zarr" else maker.IMAGE
    data = maker.volume(3 if name == "a.zarr" else 4)
    before = keys(url)
    with pytest.raises(io.PathNotFoundError, match=r"unfinished write"):
        io.read_zarr(url)
    with pytest.raises(io.ResumeError, match="source was"):
        write(url, maker.volume(9), resume=True, **given, **maker.ROOM)
    assert keys(url) == before
    seen: list[int] = []
    write(url, data, resume=True, progress=lambda n, *_: seen.append(n), **given, **maker.ROOM)
    assert min(seen) == (maker.OF_ARRAY if name == "a.zarr" else maker.OF_IMAGE)
    np.testing.assert_array_equal(io.read_zarr(url).compute(), data)
    assert io.verify(url).ok
    assert not [k for k in keys(url) if "unfinished" in k or "journal" in k]
    # No chunk that lay there has another name now.
    assert {k for k in before if ".scout" not in k} <= set(keys(url))


def test_regions_written_into_a_store_are_known_and_one_begun_is_told(store: str) -> None:
    url = f"{store}/regions.zarr"
    expected = maker.volume()
    expected[maker.DONE] = maker.volume(5)[maker.DONE]
    lazy = io.read_zarr(url)
    np.testing.assert_array_equal(lazy[:8].compute(), expected[:8])
    report: Any = io.verify(url)
    # Any of its chunks may be old or new.
    assert {(b.kind, b.index) for b in report.bad} == {
        ("unknown", (1, y, x)) for y in (0, 1) for x in (0, 1)
    }
    assert io.info(url).shape == maker.SHAPE
    assert len([k for k in keys(url) if ".scout-regions/" in k]) == 2
    io.write_zarr(url, maker.volume(6)[maker.BEGUN], region=maker.BEGUN, **maker.ROOM)
    expected[maker.BEGUN] = maker.volume(6)[maker.BEGUN]
    np.testing.assert_array_equal(io.read_zarr(url).compute(), expected)
    assert io.verify(url).ok
    # The new note takes the place of the one that was begun.
    assert len([k for k in keys(url) if ".scout-regions/" in k]) == 2
