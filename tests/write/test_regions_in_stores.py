"""Regions written into arrays that stand in object stores, chunk by chunk, each on record."""

from __future__ import annotations

import json
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from helpers import make_volume
from object_store import Failing, Memory

import scout_dask_io as io
from scout_dask_io.errors import (
    ArgumentError,
    ChunkError,
    LayoutError,
    PathNotFoundError,
    WriteError,
)
from scout_dask_io.store.manifest import UNKNOWN, read_manifest

SHAPE, CHUNKS = (11, 30, 41), (4, 8, 16)
OLD, NEW = make_volume(SHAPE, seed=1), make_volume(SHAPE, seed=2)
REGION = np.s_[4:8, 8:30, 16:41]


@pytest.mark.parametrize(
    "settings", [{}, {"zarr_format": 3}, {"zarr_format": 3, "shards": (4, 8, 32)}], ids=str
)
def test_the_chunks_of_a_region_are_replaced_and_no_others(
    memory: Memory, settings: dict[str, Any]
) -> None:
    region = np.s_[4:8, 8:30, 32:41] if "shards" in settings else REGION
    io.write_zarr(memory.url, OLD, CHUNKS, **settings)
    expected, before = OLD.copy(), memory.objects()
    # One of the chunks becomes empty.
    part = NEW[region].copy()
    part[:, :8] = 0
    expected[region] = part
    name = io.read_zarr(memory.url).name
    array = io.write_zarr(memory.url, da.from_array(part, chunks=(4, 8, -1)), region=region)
    np.testing.assert_array_equal(array[...], expected)
    there = zarr.storage.FsspecStore.from_url(memory.url)
    np.testing.assert_array_equal(zarr.open_array(there, mode="r")[...], expected)
    assert io.read_zarr(memory.url).name != name
    changed = {n for n, data in before.items() if memory.objects().get(n) != data}
    assert {tuple(map(int, n.removeprefix("c/").split("/")[:1])) for n in changed} == {(1,)}
    assert len(before) - len(memory.objects()) == len(changed) / 3
    report: Any = io.verify(memory.url)
    assert (report.ok, report.has_manifest, report.n_empty) == (True, True, len(changed) / 3)
    assert [n for n in memory.names() if n.startswith(".scout-region-")] == []


def test_writers_of_different_regions_undo_nothing_of_one_anothers_record(memory: Memory) -> None:
    io.write_zarr(memory.url, OLD, CHUNKS)
    halves = [np.s_[:4], np.s_[4:11]]
    # Both begin before either is finished.
    writes = [io.write_zarr(memory.url, NEW[h], region=h, compute=False) for h in halves]
    manifest = read_manifest(_place(memory))
    assert manifest is not None
    assert (manifest.records == UNKNOWN).all()
    dask.compute(*writes)
    np.testing.assert_array_equal(io.read_zarr(memory.url).compute(), NEW)
    assert io.verify(memory.url).ok
    assert len([n for n in memory.names() if n.startswith(".scout-regions/")]) == 2
    # One that covers both takes the place of their notes.
    io.write_zarr(memory.url, OLD, region=np.s_[:])
    assert len([n for n in memory.names() if n.startswith(".scout-regions/")]) == 1
    assert io.verify(memory.url).ok


def _place(memory: Memory) -> Any:
    from scout_dask_io.files.location import locate

    return locate(memory.url)


def test_after_a_failure_chunks_are_unknown_until_the_region_is_written_again(
    memory: Memory, failing: Failing
) -> None:
    io.write_zarr(memory.url, OLD, CHUNKS)
    failing.left = 5
    with pytest.raises(WriteError, match=r"on purpose.*Write the region again"):
        io.write_zarr(memory.url, NEW[REGION], region=REGION, nb_workers=1)
    failing.left = 10**9
    report: Any = io.verify(memory.url, limit=100)
    assert {bad.kind for bad in report.bad} == {"unknown"}
    assert sorted(bad.index for bad in report.bad) == [
        (1, y, x) for y in (1, 2, 3) for x in (1, 2)
    ]  # fmt: skip
    outside = np.ones(SHAPE, bool)
    outside[REGION] = False
    np.testing.assert_array_equal(io.read_zarr(memory.url).compute()[outside], OLD[outside])
    io.write_zarr(memory.url, NEW[REGION], region=REGION)
    assert io.verify(memory.url).ok
    assert len([n for n in memory.names() if n.startswith(".scout-regions/")]) == 1


def test_what_does_not_fit_is_refused_and_nothing_is_changed(memory: Memory) -> None:
    io.write_zarr(memory.url, OLD, CHUNKS)
    before = memory.names()
    with pytest.raises(ChunkError, match="edges of chunks"):
        io.write_zarr(memory.url, NEW[1:5], region=np.s_[1:5])
    with pytest.raises(ArgumentError, match="region goes with none"):
        io.write_zarr(memory.url, NEW, region=np.s_[:], overwrite=True)
    with pytest.raises(PathNotFoundError):
        io.write_zarr(f"{memory.url}/none", NEW, region=np.s_[:])
    assert memory.names() == before
    io.write_zarr(f"{memory.url}-b", OLD, CHUNKS, compute=False)
    with pytest.raises(PathNotFoundError, match="unfinished"):
        io.write_zarr(f"{memory.url}-b", NEW, region=np.s_[:])


def test_an_array_that_is_replaced_meanwhile_keeps_nothing_of_the_region(memory: Memory) -> None:
    io.write_zarr(memory.url, OLD, CHUNKS)
    late = io.write_zarr(memory.url, NEW[REGION], region=REGION, compute=False)
    io.write_zarr(memory.url, OLD + 1, CHUNKS, overwrite=True)
    with pytest.raises(WriteError, match="replaced or removed"):
        late.compute()
    np.testing.assert_array_equal(io.read_zarr(memory.url).compute(), OLD + 1)
    assert io.verify(memory.url).ok


def test_an_array_without_a_manifest_takes_regions_too(memory: Memory) -> None:
    io.new_zarr(memory.url, SHAPE, CHUNKS, "u2")
    io.write_zarr(memory.url, NEW[REGION], region=REGION)
    expected = np.zeros(SHAPE, "u2")
    expected[REGION] = NEW[REGION]
    np.testing.assert_array_equal(io.read_zarr(memory.url).compute(), expected)
    assert read_manifest(_place(memory)) is None


def test_a_damaged_note_is_an_error_that_names_it(memory: Memory) -> None:
    io.write_zarr(memory.url, OLD, CHUNKS)
    io.write_zarr(memory.url, NEW[REGION], region=REGION)
    (note,) = [n for n in memory.names() if n.startswith(".scout-regions/")]
    head, _, body = memory.fs.cat_file(f"{memory.key}/{note}").partition(b"\n")
    assert json.loads(head)["cells"] == [[1, 2], [1, 4], [1, 3]]
    memory.put(note, head + b"\n" + body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(LayoutError, match=note):
        io.verify(memory.url)
