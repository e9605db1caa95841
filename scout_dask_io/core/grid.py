"""Pure arithmetic on array regions and chunk grids: no dask, no files.

A *region* is a tuple of slices with step 1, one per axis, in array
coordinates. A *chunk* is the unit that Zarr stores; the chunk grid starts at
the origin and its upper edge may be ragged.

How often elements are read again when steps along an axis cut segments. Pure arithmetic.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, product
from operator import index as as_index
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np

from scout_dask_io.errors import ChunkError

_Value = TypeVar("_Value")

Shape: TypeAlias = tuple[int, ...]
Region: TypeAlias = tuple[slice, ...]
#: Block extents per axis, in order, as ``dask.array.Array.chunks`` gives them.
Blocks: TypeAlias = tuple[tuple[int, ...], ...]


def full_region(shape: Shape) -> Region:
    """Give the region that covers a whole array of ``shape``."""
    return tuple(slice(0, n) for n in shape)


def region_shape(region: Region) -> Shape:
    """Give the extent of a region per axis, in elements."""
    return tuple(s.stop - s.start for s in region)


def region_size(region: Region) -> int:
    """Give the number of elements in a region."""
    return math.prod(region_shape(region))


def with_axis(values: tuple[_Value, ...], axis: int, value: _Value) -> tuple[_Value, ...]:
    """Give extents, slices or an index with another value along an axis.

    Examples
    --------
    >>> with_axis((5, 64, 7), 1, 2)
    (5, 2, 7)
    """
    return (*values[:axis], value, *values[axis + 1 :])


def intersect(a: Region, b: Region) -> Region | None:
    """Give what two regions share, or ``None`` where they are disjoint."""
    both = tuple(
        slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True)
    )
    return both if all(s.start < s.stop for s in both) else None


def relative_to(region: Region, origin: Region) -> Region:
    """Give ``region`` in coordinates that begin where ``origin`` begins."""
    return tuple(
        slice(s.start - o.start, s.stop - o.start) for s, o in zip(region, origin, strict=True)
    )


def shifted(region: Region, origin: Region) -> Region:
    """Give ``region``, which begins where ``origin`` does, in the coordinates of ``origin``."""
    return tuple(
        slice(s.start + o.start, s.stop + o.start) for s, o in zip(region, origin, strict=True)
    )


def check_chunks(shape: Shape, chunks: Sequence[int]) -> Shape:
    """Give ``chunks`` as a tuple of ints, as many as ``shape`` has, each at least 1.

    Raises
    ------
    ChunkError
        If the lengths differ or a chunk extent is below 1.
    """
    try:
        found = tuple(as_index(c) for c in chunks)
    except TypeError:
        raise ChunkError(
            f"chunks must be whole numbers, one per axis, got {chunks!r}; "
            f"the array has shape {shape}"
        ) from None
    if len(found) != len(shape) or any(c < 1 for c in found):
        raise ChunkError(
            f"chunks {found} do not fit an array of shape {shape}: "
            f"give {len(shape)} extents, each at least 1"
        )
    return found


def expand_chunks(shape: Shape, chunks: int | Sequence[int]) -> Shape:
    """Fit chunk extents that were meant for the last axes to an array.

    One int stands for every axis. A shorter tuple is for the last axes, and
    the axes before them get 1: ``(64, 64, 64)`` on ``(c, z, y, x)`` is
    ``(1, 64, 64, 64)``. A longer one loses its first extents, so the default
    ``(64, 64, 64)`` is ``(64, 64)`` on a plane. ``-1`` is the whole axis.

    Raises
    ------
    ChunkError
        If an extent is neither -1 nor at least 1.

    Examples
    --------
    >>> expand_chunks((2, 30, 510, 667), (64, 64, 64))
    (1, 64, 64, 64)
    >>> expand_chunks((510, 667), (64, 64, 64))
    (64, 64)
    """
    ndim = len(shape)
    given: tuple[int, ...]
    try:
        given = (as_index(cast(Any, chunks)),) * ndim
    except TypeError:
        if isinstance(chunks, (str, bytes)) or not isinstance(chunks, (Sequence, np.ndarray)):
            raise ChunkError(
                f"chunks must be a whole number or a list of them, got {chunks!r}; "
                f"the array has shape {shape}"
            ) from None
        given = tuple(chunks)
    fitted = (1,) * (ndim - len(given)) + given[max(0, len(given) - ndim) :]
    whole = tuple(max(n, 1) if c == -1 else c for c, n in zip(fitted, shape, strict=True))
    return check_chunks(shape, whole)


def chunk_counts(shape: Shape, chunks: Shape) -> Shape:
    """Give the number of chunks along each axis, also the shape that halving leaves.

    Examples
    --------
    >>> chunk_counts((5, 64, 7), (1, 2, 2))
    (5, 32, 4)
    """
    return tuple(-(-n // c) for n, c in zip(shape, chunks, strict=True))


def whole_chunks(shape: Shape, chunks: Shape) -> Shape:
    """Give a shape rounded up to whole chunks; of an axis of length 0 none.

    Examples
    --------
    >>> whole_chunks((5, 64, 0), (2, 64, 2))
    (6, 64, 0)
    """
    return tuple(-(-n // c) * c for n, c in zip(shape, chunks, strict=True))


def clipped_chunks(chunks: Shape, shape: Shape) -> Shape:
    """Give the extent of a chunk, no larger than its array and at least 1.

    Examples
    --------
    >>> clipped_chunks((2, 64, 64), (5, 48, 0))
    (2, 48, 1)
    """
    return tuple(max(1, min(c, n)) for c, n in zip(chunks, shape, strict=True))


def chunk_cells(region: Region, chunks: Shape) -> Region:
    """Give the chunks that a region touches, as a region of the chunk grid.

    Examples
    --------
    >>> chunk_cells((slice(64, 130), slice(0, 7)), (64, 64))
    (slice(1, 3, None), slice(0, 1, None))
    """
    return tuple(slice(s.start // c, -(-s.stop // c)) for s, c in zip(region, chunks, strict=True))


def cuts(n: int, step: int, phase: int = 0) -> list[int]:
    """Give where an axis is cut in steps, with 0 and ``n``; it begins ``phase`` into a step.

    Examples
    --------
    >>> cuts(10, 4), cuts(10, 4, 3), cuts(2, 4)
    ([0, 4, 8, 10], [0, 1, 5, 9, 10], [0, 2])
    """
    return [0, *range(step - phase % step, n, step), n]


def iter_chunk_indices(region: Region, chunks: Shape) -> Iterator[Shape]:
    """Yield the grid indices of the chunks that a region touches, in C order."""
    return product(*(range(s.start, s.stop) for s in chunk_cells(region, chunks)))


def iter_regions(shape: Shape, chunks: Shape) -> Iterator[Region]:
    """Yield regions that tile an array, one per chunk, in C order.

    Regions are disjoint and together cover every element; those at the upper
    edge are clipped to ``shape``. No I/O.

    Parameters
    ----------
    shape : tuple of int
        Array extent per axis, in elements, e.g. ``(z, y, x)``.
    chunks : tuple of int
        Chunk extent per axis, in elements; as many as ``shape`` has.

    Raises
    ------
    ChunkError
        If the lengths differ or a chunk extent is below 1.

    Examples
    --------
    >>> list(iter_regions((3,), (2,)))
    [(slice(0, 2, None),), (slice(2, 3, None),)]
    """
    chunks = check_chunks(shape, chunks)
    for ind in iter_chunk_indices(full_region(shape), chunks):
        yield chunk_region(ind, shape, chunks)


def chunk_region(index: Shape, shape: Shape, chunks: Shape) -> Region:
    """Give where the chunk with an index in the grid lies, without what is past the array's edge.

    Examples
    --------
    >>> chunk_region((1, 0), (3, 2), (2, 2))
    (slice(2, 3, None), slice(0, 2, None))
    """
    return tuple(
        slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(index, chunks, shape, strict=True)
    )


def uniform_blocks(shape: Shape, step: Shape) -> Blocks:
    """Give blocks of one extent per axis, the last of an axis clipped, as dask writes them.

    Examples
    --------
    >>> uniform_blocks((5, 2), (2, 2))
    ((2, 2, 1), (2,))
    """
    return tuple(
        tuple(min(c, n - start) for start in range(0, n, c)) or (0,)
        for n, c in zip(shape, step, strict=True)
    )


def iter_block_regions(blocks: Blocks) -> Iterator[tuple[Shape, Region]]:
    """Yield ``(index, region)`` of every block, in C order; together they are the array."""
    edges = [list(accumulate(axis, initial=0)) for axis in blocks]
    for ind in product(*(range(len(axis)) for axis in blocks)):
        yield ind, tuple(slice(e[i], e[i + 1]) for e, i in zip(edges, ind, strict=True))


def overlapping_blocks(blocks: Blocks, region: Region) -> Iterator[tuple[Shape, Region]]:
    """Yield ``(index, region of the block)`` for every block that a region touches."""
    spans = []
    for axis, s in zip(blocks, region, strict=True):
        edges = list(accumulate(axis, initial=0))
        low, high = bisect_right(edges, s.start) - 1, bisect_left(edges, s.stop)
        spans.append([(i, slice(edges[i], edges[i + 1])) for i in range(low, high)])
    for combined in product(*spans):
        yield tuple(i for i, _ in combined), tuple(s for _, s in combined)


def is_aligned(region: Region, shape: Shape, chunks: Shape) -> bool:
    """Tell whether a region is made of whole chunks: it starts and ends on chunk edges.

    The upper edge of the array counts as a chunk edge.
    """
    return all(
        s.start % c == 0 and (s.stop % c == 0 or s.stop == n)
        for s, c, n in zip(region, chunks, shape, strict=True)
    )


def window_of(band: Shape, factors: Shape, chunks: Shape) -> Shape:
    """Give the extent of the fewest bands that, divided by factors, are whole chunks.

    Examples
    --------
    >>> window_of((64, 128, 2048), (1, 2, 2), (64, 64, 64))
    (64, 128, 2048)
    >>> window_of((8, 16, 96), (2, 2, 2), (8, 16, 32))
    (16, 32, 192)
    """
    return tuple(math.lcm(b, f * c) for b, f, c in zip(band, factors, chunks, strict=True))


def axis_amplification(n: int, step: int, read: int) -> float:
    """Give how often an element is read along one axis.

    The axis of ``n`` elements is worked off in steps of ``step``, and every
    step reads whole segments of ``read`` elements.

    Examples
    --------
    >>> axis_amplification(256, 64, 128)
    2.0
    >>> axis_amplification(256, 128, 64)
    1.0
    """
    if n == 0 or step >= n or step % read == 0:
        return 1.0
    touched = 0
    for start in range(0, n, step):
        stop = min(start + step, n)
        touched += min(-(-stop // read) * read, n) - start // read * read
    return touched / n


def axis_choices(n: int, chunk: int, read: int) -> list[int]:
    """Extents worth trying for a band along one axis: multiples of the chunk."""
    if axis_amplification(n, chunk, read) == 1.0:
        return [chunk]
    whole = -(-n // chunk) * chunk
    tries = {chunk, whole, math.lcm(chunk, read)}
    step = chunk
    while step < whole:
        tries.add(step)
        # Also one and two chunks past a power of two: a band a little larger
        # than a segment wastes little of its last one.
        tries.add(-(-step // read) * read // chunk * chunk + chunk)
        step *= 2
    return sorted(t for t in tries if chunk <= t <= whole)
