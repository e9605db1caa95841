"""Parts read at once: what numpy gives, each cell decoded once, on as many threads as asked."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.core.grid import Region, Shape, full_region, iter_chunk_indices, region_shape
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.errors import ArgumentError, ChunkReadError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.run.lazy import lazy_array

SHAPE = (7, 19, 23)
CELL = (2, 4, 8)


class CellSource(Source):
    """An array that is decoded cell by cell, and notes which thread decoded which."""

    read_shape = CELL

    def __init__(self) -> None:
        self.array = make_volume(SHAPE)
        self.shape, self.dtype, self.token = SHAPE, self.array.dtype, "cells"
        self.decoded: list[Shape] = []
        self.threads: set[str] = set()
        self.meeting: threading.Barrier | None = None

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        self.decoded += iter_chunk_indices(region, CELL)
        self.threads.add(threading.current_thread().name)
        if self.meeting is not None:
            self.meeting.wait(timeout=60)
        yield full_region(region_shape(region)), self.array[region]


INDICES = [
    np.s_[2, 3:9, 5],
    np.s_[1:4, 10:, ::2],
    np.s_[[0, 5, 2], 4, ...],
    np.s_[-1],
    np.s_[4:4],
    np.s_[::-1, 2:15],
    np.s_[:],
]


@pytest.mark.parametrize("nb_workers", [None, 1, 3])
@pytest.mark.parametrize("index", INDICES, ids=str)
def test_read_region_gives_what_numpy_gives_of_files(
    tmp_path: Path, index: Any, nb_workers: int | None
):
    data = make_volume(SHAPE)
    write_planes(tmp_path / "planes", data)
    io.write_zarr(tmp_path / "a.zarr", data, (4, 8, 16))
    io.write_zarr(tmp_path / "s.zarr", data, (2, 4, 8), zarr_format=3, shards=(4, 8, 16))
    for array in (
        io.imread_folder(tmp_path / "planes"),
        io.imread_folder(tmp_path / "planes", chunks=(3, 5, -1)),
        io.read_zarr(tmp_path / "a.zarr"),
        io.read_zarr(tmp_path / "s.zarr"),
    ):
        found = io.read_region(array, index, nb_workers)
        assert isinstance(found, np.ndarray)
        assert found.dtype == data.dtype
        np.testing.assert_array_equal(found, data[index])


@pytest.mark.parametrize("nb_workers", [1, 2, 5])
@pytest.mark.parametrize(
    "region",
    [np.s_[1:6, 3:9, 5:20], np.s_[0:7, 0:19, 0:23], np.s_[3:4, 5:6, 9:10], np.s_[0:1, 1:18, 0:8]],
    ids=str,
)
def test_each_cell_is_decoded_once_however_many_threads_read(region: Region, nb_workers: int):
    source = CellSource()
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("a graph was run")):
        found = io.read_region(lazy_array(source), region, nb_workers)
    np.testing.assert_array_equal(found, source.array[region])
    assert Counter(source.decoded) == Counter(iter_chunk_indices(region, CELL))


def test_as_many_threads_as_asked_for_read_side_by_side():
    source = CellSource()
    # Four parts in twos: nothing is read unless two threads read at one time.
    source.meeting = threading.Barrier(2)
    io.read_region(lazy_array(source), np.s_[:4, :, :16], 2)
    assert len(source.threads) == 2
    assert threading.current_thread().name in source.threads  # it would only wait


def test_a_region_that_is_asked_for_backwards_is_read_by_several_threads_too():
    source = CellSource()
    source.meeting = threading.Barrier(2)
    found = io.read_region(lazy_array(source), np.s_[3::-1, ::-1, :16], 2)
    np.testing.assert_array_equal(found, source.array[3::-1, ::-1, :16])
    assert len(source.threads) == 2


def test_the_threads_of_a_count_end_when_two_other_counts_were_asked_for():
    begun: list[list[threading.Thread]] = []
    for nb_workers in range(21, 26):  # that nothing else asks for
        before = set(threading.enumerate())
        io.read_region(lazy_array(CellSource()), np.s_[:4, :, :16], nb_workers)
        begun.append([t for t in set(threading.enumerate()) - before if "scout-read" in t.name])
    assert all(begun)
    for thread in (t for threads in begun[:-2] for t in threads):
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_one_worker_is_the_calling_thread():
    source = CellSource()
    io.read_region(lazy_array(source), ..., nb_workers=1)
    assert source.threads == {threading.current_thread().name}


@pytest.mark.parametrize("nb_workers", [None, 1, 3])
def test_a_list_of_parts_is_a_list_of_what_numpy_gives(tmp_path: Path, nb_workers: int | None):
    data = make_volume(SHAPE)
    write_planes(tmp_path / "planes", data)
    io.write_zarr(tmp_path / "a.zarr", data, (4, 8, 16))
    for array in (
        io.imread_folder(tmp_path / "planes"),
        io.read_zarr(tmp_path / "a.zarr"),
        io.read_zarr(tmp_path / "a.zarr") + 0,
    ):
        parts = [np.s_[1:3, 2:9, 3:20], np.s_[2, 5:12], *INDICES]
        for index, found in zip(parts, io.read_region(array, parts, nb_workers), strict=True):
            np.testing.assert_array_equal(found, data[index])
            assert found.dtype == data.dtype


def test_of_a_list_of_parts_each_chunk_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = make_volume(SHAPE)
    io.write_zarr(tmp_path / "a.zarr", data, (4, 8, 16))
    read: list[str] = []
    real = LocalLocation.iter_files

    def noted(place: LocalLocation, names: Any, *args: Any, **more: Any) -> Any:
        for name, found in real(place, names, *args, **more):
            read.append(name)
            yield name, found

    monkeypatch.setattr(LocalLocation, "iter_files", noted)
    parts = [np.s_[0:5, 0:3, y : y + 3] for y in range(0, 20, 2)]
    found = io.read_region(io.read_zarr(tmp_path / "a.zarr"), parts, 2)
    assert all((a == data[p]).all() for a, p in zip(found, parts, strict=True))
    assert sorted(read) == ["0/0/0", "0/0/1", "1/0/0", "1/0/1"]


def test_read_region_computes_what_was_computed_on():
    source = CellSource()
    found = io.read_region(lazy_array(source) + 1, np.s_[2, :4])
    np.testing.assert_array_equal(found, source.array[2, :4] + 1)


def test_a_damaged_chunk_is_an_error_on_any_thread(tmp_path: Path):
    io.write_zarr(tmp_path / "a.zarr", make_volume(SHAPE), (4, 8, 16))
    array = io.read_zarr(tmp_path / "a.zarr")
    damaged = tmp_path / "a.zarr/1/2/1"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ChunkReadError, match=r"1.2.1"):
        io.read_region(array, ..., nb_workers=2)


@pytest.mark.parametrize("nb_workers", [0, -1, 1.5, True])
def test_a_wrong_number_of_workers_is_refused(nb_workers: Any):
    with pytest.raises(ArgumentError, match="nb_workers"):
        io.read_region(lazy_array(CellSource()), ..., nb_workers=nb_workers)


def test_a_forked_child_reads_on_threads_of_its_own():
    source = CellSource()
    array = lazy_array(source)
    io.read_region(array, ..., nb_workers=2)  # starts the parent's threads
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        got = pool.apply_async(_read_in_child, (array,)).get(timeout=60)
    np.testing.assert_array_equal(got, source.array)


def _read_in_child(array: Any) -> np.ndarray:
    return io.read_region(array, ..., nb_workers=2)
