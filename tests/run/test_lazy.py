"""Lazy arrays: what is read, when, and by which task."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from dask._task_spec import DataNode
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.core.grid import Region, Shape, full_region, region_shape
from scout_dask_io.core.source import ArraySource, Piece, Source
from scout_dask_io.errors import ChunkError
from scout_dask_io.run.lazy import lazy_array, source_of

SHAPE = (6, 20, 30)


class RecordingSource(Source):
    """Notes every region that it is asked for, in the coordinates of the whole array."""

    def __init__(
        self,
        array: np.ndarray,
        token: str = "t",
        *,
        log: list[Region] | None = None,
        origin: Shape | None = None,
    ) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.token = token
        self.log: list[Region] = [] if log is None else log
        self.origin = origin or (0,) * array.ndim
        self._lock = threading.Lock()

    @property
    def default_chunks(self) -> tuple[tuple[int, ...], ...]:
        return ((1,) * self.shape[0], *((n,) for n in self.shape[1:]))

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        with self._lock:
            self.log.append(
                tuple(
                    slice(s.start + o, s.stop + o) for s, o in zip(region, self.origin, strict=True)
                )
            )
        yield full_region(region_shape(region)), self.array[region]

    def narrow(self, region: Region) -> tuple[Source, Region]:
        part = RecordingSource(
            self.array[region],
            log=self.log,
            origin=tuple(s.start + o for s, o in zip(region, self.origin, strict=True)),
        )
        return part, full_region(part.shape)

    def asked(self) -> list[tuple[tuple[int, int], ...]]:
        """The regions asked for so far, sorted, as pairs of start and stop."""
        return sorted(tuple((s.start, s.stop) for s in r) for r in self.log)


@pytest.fixture
def volume() -> np.ndarray:
    return make_volume(SHAPE)


@pytest.fixture
def source(volume: np.ndarray) -> RecordingSource:
    return RecordingSource(volume)


def test_nothing_is_read_before_compute(source: RecordingSource, volume: np.ndarray) -> None:
    array = lazy_array(source)
    later = (array[2:5, 3:] + 1).sum(axis=0).rechunk((8, 8)).T
    assert source.log == []
    np.testing.assert_array_equal(later.compute(), (volume[2:5, 3:] + 1).sum(axis=0).T)
    assert source.log != []


def test_values_shape_dtype_and_chunks_are_the_sources(
    source: RecordingSource, volume: np.ndarray
) -> None:
    array = lazy_array(source, (4, 7, -1))
    assert array.shape == SHAPE
    assert array.dtype == np.dtype("u2")
    assert array.chunks == ((4, 2), (7, 7, 6), (30,))
    assert type(array._meta) is np.ndarray
    got = array.compute()
    np.testing.assert_array_equal(got, volume)
    assert got.dtype == np.dtype("u2")


def test_a_slice_reads_that_slice_and_no_more(source: RecordingSource, volume: np.ndarray) -> None:
    got = lazy_array(source)[:, 5:8].compute()
    np.testing.assert_array_equal(got, volume[:, 5:8])
    assert source.asked() == [((z, z + 1), (5, 8), (0, 30)) for z in range(6)]


def test_a_slice_of_a_slice_reads_no_more_than_the_first(
    source: RecordingSource, volume: np.ndarray
) -> None:
    # dask fuses two indexing steps, further ones are applied to what was read.
    got = lazy_array(source, (3, 20, 30))[2:4, 4:9, 10:20][:, 1:3][..., ::2].compute()
    np.testing.assert_array_equal(got, volume[2:4, 5:7, 10:20:2])
    for (z, y, x), expected in zip(source.asked(), [(2, 3), (3, 4)], strict=True):
        assert z == expected
        assert 4 <= y[0] <= 5 <= 7 <= y[1] <= 9
        assert 10 <= x[0] <= x[1] <= 20


def test_a_slice_with_a_step_reads_from_its_first_element_to_its_last(
    source: RecordingSource, volume: np.ndarray
) -> None:
    got = lazy_array(source, (6, 20, 30))[1::2, :, 3:26:4].compute()
    np.testing.assert_array_equal(got, volume[1::2, :, 3:26:4])
    assert source.asked() == [((1, 6), (0, 20), (3, 24))]


def test_a_plane_reads_one_block_alone(source: RecordingSource, volume: np.ndarray) -> None:
    got = lazy_array(source)[4].compute()
    np.testing.assert_array_equal(got, volume[4])
    assert source.asked() == [((4, 5), (0, 20), (0, 30))]


def test_each_block_is_read_once(source: RecordingSource) -> None:
    array = lazy_array(source, (2, 9, 30))
    dask.compute(array.sum(), array.max())
    blocks = [((z, z + 2), (y, min(y + 9, 20)), (0, 30)) for z in (0, 2, 4) for y in (0, 9, 18)]
    assert source.asked() == sorted(blocks)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (None, ((1,) * 6, (20,), (30,))),  # the source's own
        (7, ((6,), (7, 7, 6), (7, 7, 7, 7, 2))),
        (np.int64(7), ((6,), (7, 7, 6), (7, 7, 7, 7, 2))),
        (-1, ((6,), (20,), (30,))),
        ((4, -1, 16), ((4, 2), (20,), (16, 14))),
        ((4, None, 16), ((4, 2), (20,), (16, 14))),
        ([4, 20, 16], ((4, 2), (20,), (16, 14))),
        ({0: 4, 2: 16}, ((4, 2), (20,), (16, 14))),
        (((1, 5), (20,), (29, 1)), ((1, 5), (20,), (29, 1))),
        (((1, 5), 20, -1), ((1, 5), (20,), (30,))),
        ("auto", ((6,), (20,), (30,))),
        ((1, "auto", "auto"), ((1,) * 6, (20,), (30,))),
    ],
)
def test_chunks_in_every_form_that_dask_takes(
    source: RecordingSource, volume: np.ndarray, chunks: Any, expected: Any
) -> None:
    array = lazy_array(source, chunks)
    assert array.chunks == expected
    assert all(type(n) is int for axis in array.chunks for n in axis)
    np.testing.assert_array_equal(array.compute(), volume)


def test_chunks_in_bytes_bound_a_block(source: RecordingSource, volume: np.ndarray) -> None:
    array = lazy_array(source, "1kB")
    assert all(np.prod(c) * 2 <= 1000 for c in (array.chunksize,))
    np.testing.assert_array_equal(array.compute(), volume)


@pytest.mark.parametrize(
    "chunks",
    [
        0,
        -2,
        2.5,
        "lots",
        (2, 3),
        (2, 3, 4, 5),
        (0, 5, 5),
        (2.5, 3, 3),
        ((2, 2), 20, 30),
        ((7, -1), 20, 30),
        (np.nan, 20, 30),
        ((np.nan, 2), 20, 30),
        {3: 4},
        {"z": 4},
        object(),
    ],
)
def test_chunks_that_do_not_fit_are_refused_before_anything_is_read(
    source: RecordingSource, chunks: Any
) -> None:
    with pytest.raises(ChunkError) as caught:
        lazy_array(source, chunks)
    assert "(6, 20, 30)" in str(caught.value)
    assert source.log == []


def test_the_name_follows_from_the_token_and_the_blocks(volume: np.ndarray) -> None:
    name = lazy_array(RecordingSource(volume, "a"), 5).name
    assert name == lazy_array(RecordingSource(volume, "a"), 5).name
    assert name == lazy_array(RecordingSource(volume, "a"), (5, 5, 5)).name
    assert name != lazy_array(RecordingSource(volume, "b"), 5).name
    assert name != lazy_array(RecordingSource(volume, "a"), 6).name
    assert lazy_array(RecordingSource(volume, "a"), 5, name="imread").name.startswith("imread-")


def test_each_task_carries_its_own_part_and_there_is_no_root_task() -> None:
    volume = make_volume(SHAPE)
    array = lazy_array(ArraySource(volume, "t"), (2, -1, -1))
    tasks = dict(array.__dask_graph__())
    assert set(tasks) == {(array.name, z, 0, 0) for z in range(3)}
    for (_, z, _, _), task in tasks.items():
        assert task.dependencies == frozenset()
        (part,) = [a.value for a in task.args if isinstance(a, DataNode)]
        np.testing.assert_array_equal(part.array, volume[2 * z : 2 * z + 2])


def test_a_lazy_array_pickles() -> None:
    volume = make_volume(SHAPE)
    copy = pickle.loads(pickle.dumps(lazy_array(ArraySource(volume, "t"), (2, 7, 30))))
    np.testing.assert_array_equal(copy.compute(), volume)
    assert isinstance(source_of(copy), ArraySource)


@pytest.mark.parametrize("shape", [(0,), (5, 0, 7), (0, 0)])
def test_an_axis_without_elements_stays_one(shape: Shape) -> None:
    array = lazy_array(ArraySource(np.zeros(shape, "f4"), "t"))
    assert array.shape == shape
    assert array.compute().shape == shape


def test_source_of_finds_the_source_of_a_reader(tmp_path: Path) -> None:
    volume = make_volume(SHAPE)
    write_planes(tmp_path / "ch0", volume)
    io.write_zarr(tmp_path / "a.zarr", volume, (4, 8, 8))
    for array in (io.imread_folder(tmp_path / "ch0"), io.read_zarr(tmp_path / "a.zarr")):
        source = source_of(array)
        assert isinstance(source, Source)
        np.testing.assert_array_equal(source.read(full_region(SHAPE)), volume)


@pytest.mark.parametrize(
    "compute_on",
    [
        lambda a: a + 1,
        lambda a: a[1:],
        lambda a: a.T,
        lambda a: a.astype("f4"),
        lambda a: a.rechunk(5),
        lambda a: da.stack([a, a]),
        lambda a: da.from_array(np.zeros(3)),
    ],
)
def test_source_of_is_none_once_something_is_computed(
    source: RecordingSource, compute_on: Any
) -> None:
    assert source_of(compute_on(lazy_array(source))) is None


def test_source_of_is_none_for_a_persisted_array(source: RecordingSource) -> None:
    assert source_of(lazy_array(source).persist(scheduler="sync")) is None
