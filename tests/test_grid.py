"""The arithmetic of regions and chunk grids, held against numpy and against counting by hand."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scout_dask_io.errors import ArgumentError, ChunkError
from scout_dask_io.grid import (
    Blocks,
    Region,
    Shape,
    check_chunks,
    chunk_counts,
    expand_chunks,
    full_region,
    intersect,
    is_aligned,
    iter_block_regions,
    iter_chunk_indices,
    iter_regions,
    normalize_index,
    overlapping_blocks,
    region_shape,
    region_size,
    relative_to,
    take,
    uniform_blocks,
)

shapes = st.lists(st.integers(0, 7), min_size=1, max_size=4).map(tuple)


filled_shapes = st.lists(st.integers(1, 7), min_size=1, max_size=3).map(tuple)


@st.composite
def shapes_and_chunks(
    draw: st.DrawFn, of: st.SearchStrategy[Shape] = shapes
) -> tuple[Shape, Shape]:
    shape = draw(of)
    return shape, tuple(draw(st.integers(1, 9)) for _ in shape)


@st.composite
def regions_in(draw: st.DrawFn, shape: Shape) -> Region:
    ends = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
    return tuple(slice(a, b) for a, b in ends)


@st.composite
def filled_regions_in(draw: st.DrawFn, shape: Shape) -> Region:
    """Draw a region with at least one element."""
    starts = [draw(st.integers(0, n - 1)) for n in shape]
    return tuple(slice(a, draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True))


@st.composite
def blocks_of(draw: st.DrawFn, shape: Shape) -> Blocks:
    """Draw any cut of each axis, blocks of no extent among them, as dask may have them."""
    axes = []
    for n in shape:
        cuts = sorted(draw(st.lists(st.integers(0, n), max_size=4)))
        edges = [0, *cuts, n]
        axes.append(tuple(b - a for a, b in pairwise(edges)))
    return tuple(axes)


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


@given(shapes_and_chunks())
def test_iter_regions_covers_every_element_exactly_once_in_c_order(
    case: tuple[Shape, Shape],
) -> None:
    shape, chunks = case
    seen = np.zeros(shape, int)
    order = []
    for region in iter_regions(shape, chunks):
        seen[region] += 1
        assert is_aligned(region, shape, chunks)
        assert all(n <= c for n, c in zip(region_shape(region), chunks, strict=True))
        order.append(tuple(s.start for s in region))
    assert (seen == 1).all()
    assert order == sorted(set(order))
    assert len(order) == np.prod(chunk_counts(shape, chunks))


@given(st.data())
def test_iter_chunk_indices_names_the_chunks_that_hold_an_element_of_the_region(
    data: st.DataObject,
) -> None:
    shape, chunks = data.draw(shapes_and_chunks(filled_shapes))
    region = data.draw(filled_regions_in(shape))
    inside = product(*(range(s.start, s.stop) for s in region))
    touched = {tuple(k // c for k, c in zip(at, chunks, strict=True)) for at in inside}
    assert list(iter_chunk_indices(region, chunks)) == sorted(touched)


@given(st.data())
def test_is_aligned_means_made_of_whole_chunks(data: st.DataObject) -> None:
    shape, chunks = data.draw(shapes_and_chunks(filled_shapes))
    region = data.draw(filled_regions_in(shape))
    inside = np.zeros(shape, bool)
    inside[region] = True
    whole = all(inside[r].all() or not inside[r].any() for r in iter_regions(shape, chunks))
    assert is_aligned(region, shape, chunks) == whole


@given(st.data())
def test_intersect_and_relative_to_select_the_shared_elements(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    a, b = data.draw(regions_in(shape)), data.draw(regions_in(shape))
    array = _numbered(shape)
    common = np.intersect1d(array[a], array[b])
    shared = intersect(a, b)
    if shared is None:
        assert common.size == 0
    else:
        assert sorted(array[shared].ravel()) == list(common)
        np.testing.assert_array_equal(array[a][relative_to(shared, a)], array[shared])
        np.testing.assert_array_equal(array[b][relative_to(shared, b)], array[shared])


@given(shapes_and_chunks())
def test_uniform_blocks_are_the_regions_of_the_chunk_grid(case: tuple[Shape, Shape]) -> None:
    shape, step = case
    blocks = uniform_blocks(shape, step)
    assert tuple(sum(axis) for axis in blocks) == shape
    regions = [r for _, r in iter_block_regions(blocks)]
    if 0 in shape:
        # dask writes an empty axis as one block of no extent.
        assert all(axis == (0,) for axis, n in zip(blocks, shape, strict=True) if n == 0)
        assert all(region_size(r) == 0 for r in regions)
    else:
        assert regions == list(iter_regions(shape, step))


@given(st.data())
def test_iter_block_regions_covers_every_element_exactly_once(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    blocks = data.draw(blocks_of(shape))
    seen = np.zeros(shape, int)
    for ind, region in iter_block_regions(blocks):
        assert region_shape(region) == tuple(a[i] for a, i in zip(blocks, ind, strict=True))
        starts = tuple(sum(a[:i]) for a, i in zip(blocks, ind, strict=True))
        assert tuple(s.start for s in region) == starts
        seen[region] += 1
    assert (seen == 1).all()


@given(st.data())
def test_overlapping_blocks_are_those_that_share_elements_with_the_region(
    data: st.DataObject,
) -> None:
    shape = data.draw(filled_shapes)
    blocks = data.draw(blocks_of(shape))
    region = data.draw(filled_regions_in(shape))
    found = list(overlapping_blocks(blocks, region))
    with_elements = [(i, r) for i, r in found if region_size(r)]
    assert with_elements == [
        (i, r) for i, r in iter_block_regions(blocks) if intersect(r, region) is not None
    ]
    assert {i for i, _ in found} <= {i for i, _ in iter_block_regions(blocks)}


@given(shapes)
def test_full_region_selects_the_whole_array(shape: Shape) -> None:
    region = full_region(shape)
    assert region_shape(region) == shape
    assert region_size(region) == np.prod(shape)
    assert region == tuple(slice(0, n) for n in shape)


@pytest.mark.parametrize(
    ("shape", "chunks", "expected"),
    [
        ((30, 510, 667), 64, (64, 64, 64)),
        ((30, 510, 667), np.int64(64), (64, 64, 64)),
        ((2, 30, 510, 667), (64, 64, 64), (1, 64, 64, 64)),  # channels apart
        ((510, 667), (64, 64, 64), (64, 64)),  # the default on one plane
        ((667,), (64, 32, 16), (16,)),
        ((30, 510, 667), (-1, 64, -1), (30, 64, 667)),
        ((30, 510, 667), -1, (30, 510, 667)),
        ((0, 510), (-1, 64), (1, 64)),  # a chunk has at least one element
        ((30, 510, 667), [16, 256, 256], (16, 256, 256)),
        ((30, 510), (np.int16(5), np.uint8(9)), (5, 9)),
        ((30, 510), (), (1, 1)),
    ],
)
def test_expand_chunks_fits_the_last_axes(shape: Shape, chunks: Any, expected: Shape) -> None:
    found = expand_chunks(shape, chunks)
    assert found == expected
    assert all(type(c) is int for c in found)


@pytest.mark.parametrize(
    "chunks",
    [0, -2, (64, 0, 64), (64, 64.0, 64), "64", "auto", None, 2.5, (None, 1, 1), {1: 64}, {64}],
)
def test_expand_chunks_refuses_what_is_no_extent(chunks: Any) -> None:
    with pytest.raises(ChunkError):
        expand_chunks((30, 510, 667), chunks)


@pytest.mark.parametrize("chunks", [(1,), (1, 2, 3), (0, 1), (-1, 2), (1.5, 2), ("a", 2)])
def test_check_chunks_names_the_chunks_and_the_shape(chunks: Any) -> None:
    with pytest.raises(ChunkError) as caught:
        check_chunks((30, 510), chunks)
    assert "(30, 510)" in str(caught.value)
    assert str(chunks) in str(caught.value)
