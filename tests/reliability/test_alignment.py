"""Blocks, chunks and regions of any extents: bit-equal, or an error before the first byte."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from harness import figure, run, tree
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.store import chunk_v2 as chunkfile
from scout_dask_io.store import local_transaction as sinks
from scout_dask_io.store.manifest import UNKNOWN, read_manifest

SEED = 4


def random_blocks(rng: random.Random, n: int) -> tuple[int, ...]:
    """Give blocks of odd extents, as slicing and filtering leave them."""
    out = []
    while sum(out) < n:
        out.append(min(rng.randint(1, max(1, n // 2)), n - sum(out)))
    return tuple(out)


def random_case(rng: random.Random) -> tuple[np.ndarray, tuple[int, ...], tuple[Any, ...]]:
    ndim = rng.choice((1, 2, 3, 3, 3, 4))
    shape = tuple(rng.randint(1, 12 if ndim > 3 else 40) for _ in range(ndim))
    chunks = tuple(rng.randint(1, n + 3) for n in shape)
    return make_volume(shape, seed=rng.randrange(1000)), chunks, tuple(
        random_blocks(rng, n) for n in shape
    )  # fmt: skip


def same(path: Path, expected: np.ndarray) -> bool:
    found = zarr.open_array(path, mode="r", zarr_format=2)[:]
    return found.shape == expected.shape and bool(np.array_equal(found, expected))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each chunk file is written."""
    writes: Counter[str] = Counter()
    real = chunkfile.write_file

    def count(path: Path, *args: Any, **kwargs: Any) -> None:
        writes[str(path)] += 1
        real(path, *args, **kwargs)

    monkeypatch.setattr(sinks, "write_file", count)
    return writes


@pytest.mark.parametrize("n", [30, pytest.param(600, marks=pytest.mark.slow)])
def test_row_04_any_blocks_into_any_chunks_are_bit_equal_and_each_chunk_is_written_once(
    tmp_path: Path, counted: Counter[str], n: int
):
    rng, refused = random.Random(SEED), 0
    for k in range(n):
        volume, chunks, blocks = random_case(rng)
        lazy = da.from_array(volume, chunks=blocks) + np.zeros((), volume.dtype)
        max_mem = rng.choice((200_000, 2_000_000, "1GB"))
        scheduler = rng.choice(("threads", "sync"))
        where = f"case {k}, seed {SEED}: {volume.shape} {chunks} {blocks} {max_mem} {scheduler}"
        counted.clear()
        path = tmp_path / f"{k}.zarr"
        workers = rng.choice((1, 3))
        try:
            with dask.config.set(scheduler=scheduler):
                io.write_zarr(path, lazy, chunks, max_mem=max_mem, nb_workers=workers)
        except io.MemoryLimitError:
            # What cannot fit is refused before the first byte.
            assert not list(tmp_path.glob(f"*{k}.zarr*")), where
            refused += 1
            continue
        assert same(path, volume), where
        assert not counted or max(counted.values()) == 1, where
    figure("alignment cases", tried=n, refused_for_memory=refused, wrong=0)
    assert refused < n // 4


@pytest.mark.posix  # a chunk is replaced while another thread reads it, which is refused there
def test_the_alignment_test_finds_a_writer_that_ignores_chunk_edges(tmp_path: Path):
    rng = random.Random(SEED)
    wrong = 0
    for k in range(8):
        volume = make_volume((1, 60, 60), seed=k)[0]
        chunks, block = rng.choice((7, 13, 29)), rng.choice((5, 8, 11))
        path = tmp_path / f"{k}.zarr"
        target = zarr.create(
            store=path, shape=volume.shape, chunks=chunks, dtype="u2", zarr_format=2
        )
        da.store(da.from_array(volume, chunks=block), target, lock=False, scheduler="threads")
        wrong += not same(path, volume)
    assert wrong > 0


def through_processes(path: str, volume: np.ndarray, chunks: Any, blocks: Any) -> None:
    lazy = da.from_array(volume, chunks=blocks) + np.zeros((), volume.dtype)
    with dask.config.set(scheduler="processes", num_workers=2):
        io.write_zarr(path, lazy, chunks, max_mem="1GB")


def test_row_04_processes_write_the_same(tmp_path: Path):
    volume = make_volume((10, 30, 31), seed=2)
    outcome = run(through_processes, str(tmp_path / "a.zarr"), volume, (4, 16, 16), (3, 7, 11),
                  seconds=60)  # fmt: skip
    assert not outcome.error, str(outcome)
    assert same(tmp_path / "a.zarr", volume)


@pytest.mark.parametrize("n", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_row_04_a_region_is_written_or_refused_before_the_first_byte(tmp_path: Path, n: int):
    rng = random.Random(SEED)
    written = refused = 0
    for k in range(n):
        volume, chunks, _ = random_case(rng)
        path = tmp_path / f"{k}.zarr"
        io.write_zarr(path, volume, chunks)
        before = tree(path)
        region = []
        for extent, c in zip(volume.shape, chunks, strict=True):
            edges = [*range(0, extent, c), extent]
            start, stop = sorted(rng.sample(edges, 2))
            if rng.random() < 0.15:
                start, stop = sorted(rng.sample(range(extent + 1), 2))
            region.append(slice(start, stop))
        where = tuple(region)
        aligned = all(
            s.start % c == 0 and (s.stop % c == 0 or s.stop == m)
            for s, c, m in zip(where, chunks, volume.shape, strict=True)
        )
        part = make_volume(volume[where].shape, seed=k)
        if rng.random() < 0.3:
            part[...] = 0  # chunks that stood must go
        data = part if k % 2 else da.from_array(part, chunks=rng.randint(1, 9)) + np.uint16(0)
        if aligned:
            io.write_zarr(path, data, region=where, nb_workers=2)
            volume[where] = part
            written += 1
        else:
            with pytest.raises(io.ChunkError, match="edges of chunks"):
                io.write_zarr(path, data, region=where)
            assert tree(path) == before
            refused += 1
        assert same(path, volume), f"case {k}, seed {SEED}: {volume.shape} {chunks} {where}"
        manifest = read_manifest(path)
        assert manifest is not None
        for index in np.ndindex(*manifest.records.shape):
            file = path.joinpath(*map(str, index))
            size = file.stat().st_size if file.exists() else 0
            assert manifest.records[index]["nbytes"] == size
        assert not [p for p in path.iterdir() if p.name.startswith(".scout-region")]
    figure("region cases", tried=n, written=written, refused=refused, wrong=0)
    assert written > n // 4
    assert refused > n // 10


def test_a_region_of_another_shape_dtype_or_of_no_array_is_refused(tmp_path: Path):
    path = tmp_path / "a.zarr"
    io.write_zarr(path, make_volume((4, 8, 8)), (2, 4, 4))
    before = tree(tmp_path)
    good = make_volume((2, 8, 8), seed=9)
    for data, region, error in (
        (good[:1], (slice(0, 2),), io.ShapeMismatchError),
        (good.astype("f4"), (slice(0, 2),), io.ArgumentError),
        (good, (slice(0, 4, 2),), io.ArgumentError),
        (good, (slice(-2, None),), io.ArgumentError),
        (good, (0,), io.ArgumentError),
        (good, (slice(3, 5),), io.ArgumentError),
    ):
        with pytest.raises(error):
            io.write_zarr(path, data, region=region)
    with pytest.raises(io.ArgumentError, match="overwrite"):
        io.write_zarr(path, good, region=(slice(0, 2),), overwrite=True)
    with pytest.raises(io.PathNotFoundError):
        io.write_zarr(tmp_path / "b.zarr", good, region=(slice(0, 2),))
    assert tree(tmp_path) == before


def test_a_region_write_that_fails_leaves_whole_chunks_that_the_manifest_calls_unknown(
    tmp_path: Path,
):
    path = tmp_path / "a.zarr"
    old, new = make_volume((4, 8, 8)), make_volume((4, 8, 8), seed=9)
    io.write_zarr(path, old, (2, 4, 4))

    def block(x: np.ndarray, block_info: Any = None) -> np.ndarray:
        if block_info[None]["chunk-location"] == (1, 1, 0):
            raise RuntimeError("a broken plane")
        return x

    lazy = da.from_array(new, chunks=(2, 4, 8)).map_blocks(block, dtype="u2")
    with pytest.raises(RuntimeError, match="a broken plane"):
        io.write_zarr(path, lazy, region=(slice(None),) * 3, nb_workers=1)
    found = io.read_zarr(path).compute()
    for z, y, x in np.ndindex(2, 2, 2):
        cell = (slice(2 * z, 2 * z + 2), slice(4 * y, 4 * y + 4), slice(4 * x, 4 * x + 4))
        assert np.array_equal(found[cell], old[cell]) or np.array_equal(found[cell], new[cell])
    manifest = read_manifest(path)
    assert manifest is not None
    assert (manifest.records == UNKNOWN).all()
    # The array that stands is no longer what was written first: resume must not say so.
    with pytest.raises(io.TargetExistsError):
        io.write_zarr(path, old, (2, 4, 4), resume=True)
    io.write_zarr(path, new, region=(slice(None),) * 3)
    assert same(path, new)


def test_row_07_an_array_and_a_folder_are_rewritten_onto_themselves_or_refused(tmp_path: Path):
    path = tmp_path / "a.zarr"
    volume = make_volume((5, 20, 21))
    io.write_zarr(path, volume, (2, 16, 16))
    io.write_zarr(path, io.read_zarr(path) + np.uint16(1), (2, 16, 16), overwrite=True)
    assert same(path, volume + 1)
    planes = tmp_path / "planes"
    write_planes(planes, volume)
    stack = io.imread_folder(planes)
    with pytest.raises(io.TargetExistsError):
        io.write_zarr(planes, stack + 1, overwrite=True)
    io.imsave(planes / "z0001.tif", stack[1] + np.uint16(1))
    assert (io.imread(planes / "z0001.tif").compute() == volume[1] + 1).all()
    with pytest.raises(io.SourceChangedError, match=r"z0001\.tif"):
        stack.compute()


def test_row_12_a_new_array_never_shows_old_chunks(tmp_path: Path):
    path = tmp_path / "a.zarr"
    io.write_zarr(path, make_volume((4, 20, 20)), (2, 8, 8))
    # 1. Created over an array that stands, and over chunk files without metadata.
    fresh = io.new_zarr(path, (4, 20, 20), (2, 8, 8), "u2", overwrite=True)
    assert (fresh[:] == 0).all()
    io.write_zarr(tmp_path / "b.zarr", make_volume((4, 20, 20)), (2, 8, 8))
    (tmp_path / "b.zarr" / ".zarray").unlink()
    with pytest.raises(io.TargetExistsError):
        io.new_zarr(tmp_path / "b.zarr", (4, 20, 20), (2, 8, 8), "u2")
    # 2. Shrunk, then grown: a smaller array is another directory.
    io.write_zarr(path, make_volume((2, 8, 8), seed=5), (2, 8, 8), overwrite=True)
    assert sorted(p.name for p in path.iterdir() if not p.name.startswith(".")) == ["0"]
    # 3. Resume over an unfinished write of another shape.
    with pytest.raises(io.TargetExistsError):
        io.write_zarr(path, make_volume((4, 20, 20)), (2, 8, 8), resume=True)
    assert same(path, make_volume((2, 8, 8), seed=5))


def test_row_02_a_path_with_colons_is_a_path(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    volume = make_volume((3, 9, 9))
    for name in ("a::b", "file:b", "zip::x.zarr", "http:", "%s", "a b", "ü", "-x", "a#1", "*"):
        io.write_zarr(f"{tmp_path}/{name}", volume, 4)
        assert same(tmp_path / name, volume)
        io.write_zarr(f"{tmp_path}/{name}", volume + 1, 4, overwrite=True)
        assert (io.read_zarr(f"{tmp_path}/{name}").compute() == volume + 1).all()
        io.imsave(tmp_path / f"{name}.tif", volume)
        assert (io.imread(tmp_path / f"{name}.tif").compute() == volume).all()
    assert (tmp_path / "a" / "notes.txt").read_text() == "mine"


def test_row_11_durable_syncs_files_before_their_names_and_directories_before_the_publication(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import os

    events: list[tuple[str, str]] = []

    def note(name: str, place: Any) -> Any:
        real = getattr(os, name)

        def call(first: Any, *args: Any, **kwargs: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
            events.append((name, os.path.relpath(path, tmp_path)))
            return real(first, *args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "replace", "rename"):
        note(name, None)
    volume = make_volume((3, 20, 20))
    io.write_zarr(tmp_path / "a.zarr", volume, (2, 16, 16), durable=True, nb_workers=1)
    published, job = max(
        (k, path)
        for k, (name, path) in enumerate(events)
        if name == "rename" and path.endswith("/array")
    )
    # Chunks are written in their places, which nobody sees before the publication.
    assert not [p for name, p in events if name == "replace" and "/tmp/" in p]
    chunks = [f"{job}/{z}/{y}/{x}" for z in range(2) for y in range(2) for x in range(2)]
    for path in chunks:
        assert events.index(("fsync", path)) < published
    synced = {p for name, p in events[:published] if name == "fsync"}
    for part in ("/.zarray", "/.scout-manifest"):
        assert job + part in synced, part
    if hasattr(os, "O_DIRECTORY"):  # else the system keeps names itself
        for part in ("", "/0", "/0/0", "/0/1", "/1", "/1/0", "/1/1"):
            assert job + part in synced, part
        assert ("fsync", ".") in events[published:]
    events.clear()
    io.write_zarr(tmp_path / "b.zarr", volume, (2, 16, 16), nb_workers=1)
    assert not [e for e in events if e[0] == "fsync"]


def test_resume_of_what_stands_finished_does_nothing(tmp_path: Path):
    path = tmp_path / "a.zarr"
    volume = make_volume((4, 20, 20))
    io.write_zarr(path, volume, (2, 8, 8), resume=True)
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    array = io.write_zarr(path, volume, (2, 8, 8), resume=True)
    assert array.shape == (4, 20, 20)
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before
    for settings in ({"chunks": (4, 8, 8)}, {"codec": "lz4"}, {"fill_value": 3}):
        with pytest.raises(io.TargetExistsError):
            io.write_zarr(path, volume, **{"chunks": (2, 8, 8), "resume": True, **settings})
    with pytest.raises(io.TargetExistsError):
        io.write_zarr(path, volume + 1, (2, 8, 8), resume=True)
    assert same(path, volume)
