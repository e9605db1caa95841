"""What an index asks for, held against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scout_dask_io.core.grid import Shape, region_shape
from scout_dask_io.core.indexing import normalize_index, take, takes_all
from scout_dask_io.errors import ArgumentError

shapes = st.lists(st.integers(0, 7), min_size=1, max_size=4).map(tuple)


@st.composite
def axis_indices(draw: st.DrawFn, n: int) -> Any:
    kinds = ["slice", "list", "array", "mask"] + (["int", "npint"] if n else [])
    kind = draw(st.sampled_from(kinds))
    ends = st.none() | st.integers(-n - 2, n + 2)
    if kind == "slice":
        step = draw(st.none() | st.integers(-3, 3).filter(bool))
        return slice(draw(ends), draw(ends), step)
    if kind == "mask":
        return np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    if kind == "int":
        return draw(st.integers(-n, n - 1))
    if kind == "npint":
        return np.int32(draw(st.integers(-n, n - 1)))
    picks = draw(st.lists(st.integers(-n, n - 1), max_size=5)) if n else []
    if kind == "list":
        return picks
    if all(p >= 0 for p in picks) and draw(st.booleans()):
        return np.array(picks, np.uint8)
    return np.array(picks, np.int16)


@st.composite
def arrays_and_indices(draw: st.DrawFn) -> tuple[np.ndarray, Any]:
    shape = draw(shapes)
    index = [draw(axis_indices(n)) for n in shape]
    keep = draw(st.integers(0, len(index)))
    if draw(st.booleans()):
        index = index[:keep]
        if len(index) == 1 and draw(st.booleans()):
            return _numbered(shape), index[0]
    else:
        gap = draw(st.integers(0, len(index) - keep))
        index = [*index[:keep], Ellipsis, *index[len(index) - gap :]]
    return _numbered(shape), tuple(index)


def _numbered(shape: Shape) -> np.ndarray:
    return np.arange(int(np.prod(shape))).reshape(shape)


def _index_axis_by_axis(array: np.ndarray, index: Any) -> np.ndarray:
    """What numpy gives where each item selects along its own axis."""
    given = list(index) if isinstance(index, tuple) else [index]
    at = next((k for k, i in enumerate(given) if i is Ellipsis), None)
    if at is not None:
        given[at : at + 1] = [slice(None)] * (array.ndim - len(given) + 1)
    for axis in reversed(range(len(given))):
        array = array[(slice(None),) * axis + (given[axis],)]
    return array


@given(arrays_and_indices())
@example((_numbered((300,)), np.array([1, 2], np.uint8)))
@example((_numbered((200,)), np.array([-1, 100], np.int8)))
def test_normalize_index_and_take_give_what_numpy_gives(case: tuple[np.ndarray, Any]) -> None:
    array, index = case
    expected = _index_axis_by_axis(array, index)
    region, rest = normalize_index(index, array.shape)
    got = take(array[region], rest)
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


@given(arrays_and_indices())
def test_normalize_index_gives_the_least_region_inside_the_array(
    case: tuple[np.ndarray, Any],
) -> None:
    array, index = case
    region, _ = normalize_index(index, array.shape)
    assert all(s.step is None for s in region)
    assert all(0 <= s.start <= s.stop <= n for s, n in zip(region, array.shape, strict=True))
    picked = _index_axis_by_axis(array, index)
    if picked.size:
        at = np.unravel_index(picked.ravel(), array.shape)
        least = tuple(slice(int(a.min()), int(a.max()) + 1) for a in at)
        assert region == least


@pytest.mark.parametrize(
    "index",
    [5, -6, (0, 0, 0), [0, 5], [-6], np.array([2**40]), np.ones(4, bool), np.zeros((1, 1), int)],
)
def test_normalize_index_refuses_what_is_out_of_bounds(index: Any) -> None:
    with pytest.raises(IndexError):
        normalize_index(index, (5, 3))


@pytest.mark.parametrize("index", [None, "a", 1.5, (..., ...)])
def test_normalize_index_refuses_what_is_no_index(index: Any) -> None:
    with pytest.raises(ArgumentError, match="ints, slices and lists"):
        normalize_index(index, (5, 3))


def test_normalize_index_refuses_a_list_of_fractions() -> None:
    with pytest.raises(IndexError, match="whole numbers"):
        normalize_index([0.5], (5,))


@given(st.data())
def test_takes_all_tells_whether_every_element_of_the_region_is_asked_for(
    data: st.DataObject,
) -> None:
    n = data.draw(st.integers(1, 9))
    region, (rest,) = normalize_index(data.draw(axis_indices(n)), (n,))
    picked = np.atleast_1d(take(np.arange(n)[region], (rest,)))
    everything = np.arange(n)[region].tolist()
    if takes_all(rest):
        assert sorted(picked.tolist()) == everything
    elif isinstance(rest, slice):
        # One element is taken whatever the step says.
        assert len(picked) < region_shape(region)[0] or len(picked) == 1
