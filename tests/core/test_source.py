"""Sources: regions read once each, narrowed to what a task needs, picklable."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dask.base import tokenize
from helpers import make_volume

from scout_dask_io.core.grid import Region, full_region, region_shape
from scout_dask_io.core.source import ArraySource, Piece, PiecesSource, Source

SHAPE = (5, 7, 9)
REGION = (slice(1, 4), slice(2, 7), slice(3, 8))


class RowsSource(Source):
    """Yields one row at a time out of one buffer, big-endian, as a TIFF of rows does."""

    def __init__(self, array: np.ndarray, *, lost: int = 0) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.token = "rows"
        self.lost = lost

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        extent = region_shape(region)
        values = self.array[region]
        buffer = np.empty((1,) * (len(extent) - 1) + extent[-1:], self.dtype.newbyteorder(">"))
        for at in list(np.ndindex(*extent[:-1]))[self.lost :]:
            buffer[...] = values[at]
            yield (*(slice(k, k + 1) for k in at), slice(0, extent[-1])), buffer


def sources() -> dict[str, tuple[Source, np.ndarray]]:
    volume = make_volume(SHAPE)
    halves = [
        ((slice(0, 2), slice(0, 7), slice(0, 9)), volume[:2]),
        ((slice(2, 5), slice(0, 3), slice(0, 9)), volume[2:, :3]),
        ((slice(2, 5), slice(3, 7), slice(0, 9)), volume[2:, 3:]),
    ]
    return {
        "array": (ArraySource(volume, "t"), volume),
        "pieces": (PiecesSource(SHAPE, halves, volume.dtype), volume),
        "rows": (RowsSource(volume), volume),
    }


@pytest.fixture(params=["array", "pieces", "rows"])
def case(request: pytest.FixtureRequest) -> tuple[Source, np.ndarray]:
    return sources()[request.param]


def test_read_gives_the_region_as_a_new_contiguous_array(case: tuple[Source, np.ndarray]) -> None:
    source, volume = case
    got = source.read(REGION)
    np.testing.assert_array_equal(got, volume[REGION])
    assert got.shape == (3, 5, 5)
    assert got.dtype == np.dtype("=u2")
    assert got.flags.c_contiguous
    assert not np.shares_memory(got, volume)


def test_pieces_are_disjoint_and_cover_the_region(case: tuple[Source, np.ndarray]) -> None:
    source, volume = case
    seen = np.zeros(region_shape(REGION), int)
    for where, values in source.iter_pieces(REGION):
        assert values.shape == region_shape(where)
        np.testing.assert_array_equal(values, volume[REGION][where])
        seen[where] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize(
    "index",
    [
        (2, slice(None, None, -2), [8, 0, 3]),
        (..., -1),
        (slice(1, 4),),
        (np.array([True, False, True, False, True]), 3, slice(5, 5)),
        ([4, 4, -5], ..., [0]),
    ],
)
def test_indexing_is_numpys(case: tuple[Source, np.ndarray], index: Any) -> None:
    source, volume = case
    expected = volume
    given = list(index)
    if Ellipsis in [i if i is Ellipsis else None for i in given]:
        at = next(k for k, i in enumerate(given) if i is Ellipsis)
        given[at : at + 1] = [slice(None)] * (3 - len(given) + 1)
    for axis in reversed(range(len(given))):
        expected = expected[(slice(None),) * axis + (given[axis],)]
    got = source[index]
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


def test_narrow_gives_the_same_elements(case: tuple[Source, np.ndarray]) -> None:
    source, volume = case
    narrowed, inside = source.narrow(REGION)
    np.testing.assert_array_equal(narrowed.read(inside), volume[REGION])
    assert narrowed.dtype == source.dtype


def test_a_source_pickles(case: tuple[Source, np.ndarray]) -> None:
    source, volume = case
    copy = pickle.loads(pickle.dumps(source))
    assert copy.shape == SHAPE
    np.testing.assert_array_equal(copy.read(full_region(SHAPE)), volume)


def test_a_source_becomes_a_numpy_array(case: tuple[Source, np.ndarray]) -> None:
    source, volume = case
    np.testing.assert_array_equal(np.asarray(source), volume)
    assert np.asarray(source, dtype="f4").dtype == np.dtype("f4")


def test_sizes_follow_from_shape_and_dtype(case: tuple[Source, np.ndarray]) -> None:
    source, volume = case
    assert (source.ndim, source.nbytes) == (3, volume.nbytes)
    assert len(source.read_shape) == 3
    assert tuple(map(sum, source.default_chunks)) == SHAPE


def test_an_empty_region_is_read_without_asking_for_pieces() -> None:
    source = RowsSource(make_volume(SHAPE))
    got = source.read((slice(0, 5), slice(3, 3), slice(0, 9)))
    assert got.shape == (5, 0, 9)


def test_pieces_that_do_not_cover_the_region_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="RowsSource gave 306 of the 315 elements"):
        RowsSource(make_volume(SHAPE), lost=1).read(full_region(SHAPE))


def test_a_narrowed_array_source_carries_its_part_alone() -> None:
    volume = make_volume((40, 50, 60))
    whole = ArraySource(volume, "t")
    part, _ = whole.narrow((slice(3, 4), slice(0, 50), slice(0, 60)))
    assert len(pickle.dumps(part)) < len(pickle.dumps(whole)) / 30


def test_dask_names_a_source_by_its_token() -> None:
    volume = make_volume(SHAPE)
    assert tokenize(ArraySource(volume, "a")) == tokenize(ArraySource(volume + 1, "a"))
    assert tokenize(ArraySource(volume, "a")) != tokenize(ArraySource(volume, "b"))


def test_a_big_endian_array_is_a_native_source() -> None:
    volume = make_volume(SHAPE, ">u2")
    source = ArraySource(volume, "t")
    got = source.read(REGION)
    assert source.dtype == got.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(got, volume[REGION])
