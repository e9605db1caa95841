"""The arithmetic of regions and chunk grids, held against numpy and against counting by hand."""

from __future__ import annotations

from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scout_dask_io.core.grid import (
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
    overlapping_blocks,
    region_shape,
    region_size,
    relative_to,
    uniform_blocks,
)
from scout_dask_io.errors import ChunkError

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
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
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
