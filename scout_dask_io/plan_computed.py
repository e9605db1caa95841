"""Write plans of computed arrays: units from blocks that are whole chunks, or cross their borders.

Pure arithmetic. What is computed is held until the units that it belongs to are written: that,
and not the band alone, sets the memory.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from itertools import accumulate

from scout_dask_io.errors import MemoryLimitError
from scout_dask_io.grid import Blocks, Shape, uniform_blocks
from scout_dask_io.human import format_nbytes
from scout_dask_io.plan import COPIES, WritePlan, grow_unit, unit_target

__all__ = ["blocks_fit_chunks", "plan_blocks", "plan_gather"]


def blocks_fit_chunks(blocks: Blocks, chunks: Shape) -> bool:
    """Tell whether every border between dask blocks is a border between chunks."""
    return all(size % c == 0 for axis, c in zip(blocks, chunks, strict=True) for size in axis[:-1])


def plan_blocks(
    blocks: Blocks,
    dtype: str,
    itemsize: int,
    chunks: Shape,
    *,
    nb_workers: int,
    max_mem: int,
    n_copies: int = COPIES,
    n_threads: int = 0,
) -> WritePlan:
    """Plan the writing of computed blocks that are whole chunks: one unit a block.

    Raises
    ------
    MemoryLimitError
        If two of the largest blocks, what computing one takes at the least, do not fit.
    """
    shape = tuple(sum(axis) for axis in blocks)
    block = tuple(max(axis, default=0) for axis in blocks)
    mem = 2 * math.prod(block) * itemsize + n_copies * math.prod(chunks) * itemsize
    workers = _workers_that_fit(mem, nb_workers, max_mem, block, dtype)
    total = math.prod(shape) * itemsize
    return WritePlan(
        shape=shape,
        dtype=dtype,
        itemsize=itemsize,
        chunks=chunks,
        units=blocks,
        band=chunks,
        nb_workers=workers,
        max_mem=max_mem,
        projected_mem=mem * workers,
        read_nbytes=total,
        route="blocks",
    )


def plan_gather(
    blocks: Blocks,
    dtype: str,
    itemsize: int,
    chunks: Shape,
    *,
    nb_workers: int,
    max_mem: int,
    n_copies: int = COPIES,
    n_threads: int = 0,
) -> WritePlan:
    """Plan the writing of computed blocks that cross chunk borders.

    Units are put together in memory where the blocks that are computed before
    their units can be written fit, in smaller units if need be, and by way of
    scratch files where even those do not fit.

    Raises
    ------
    MemoryLimitError
        If two of the largest blocks do not fit in ``max_mem``.
    """
    shape = tuple(sum(axis) for axis in blocks)
    block = tuple(max(axis, default=0) for axis in blocks)
    block_nbytes = math.prod(block) * itemsize
    chunk_nbytes = math.prod(chunks) * itemsize
    total = math.prod(shape) * itemsize
    target = unit_target(min(total, 2**28), n_threads or nb_workers)
    # Whole rows of chunks along the last axis keep the copies long.
    wide = (*chunks[:-1], -(-max(shape[-1], 1) // chunks[-1]) * chunks[-1])
    route, workers = "gather", nb_workers
    for band, nbytes in ((wide, target), (wide, 0), (chunks, 0)):
        unit = grow_unit(shape, band, itemsize, nbytes)
        held = _most_held(blocks, unit, nb_workers) * itemsize
        in_hand = max(2 * block_nbytes, math.prod(band) * itemsize) + n_copies * chunk_nbytes
        projected = min(held, total) + nb_workers * in_hand
        if projected <= max_mem:
            break
    else:
        route = "scratch"
        for band in (wide, chunks):
            # A block, and its result or the band that it is read back into.
            mem = (
                block_nbytes
                + max(block_nbytes, math.prod(band) * itemsize)
                + (n_copies + 1) * chunk_nbytes
            )
            if mem * nb_workers <= max_mem:
                break
        workers = _workers_that_fit(mem, nb_workers, max_mem, block, dtype)
        projected = mem * workers
        unit = grow_unit(shape, band, itemsize, target)
    return WritePlan(
        shape=shape,
        dtype=dtype,
        itemsize=itemsize,
        chunks=chunks,
        units=uniform_blocks(shape, unit),
        band=band,
        nb_workers=workers,
        max_mem=max_mem,
        projected_mem=projected,
        read_nbytes=total,
        route=route,
    )


def _most_held(blocks: Blocks, unit: Shape, nb_workers: int) -> int:
    """Give the elements of blocks that are held at one time while units are gathered.

    Where the borders of blocks and units meet, a group of units ends that shares
    no block with the next. dask works off ``nb_workers + 1`` rows of units at a
    time along the first axis that has more than one, and anything goes along the
    axes after it; blocks that are units along the leading axes (channels) are
    worked off one after another. Where blocks are longer than units along one axis and shorter
    along a later one, it follows no such order, and the whole array counts.

    dask's local scheduler, simulated with random blocks and units on 1 to 4 axes,
    held more in 5 of 1,900 cases, all of blocks one element thin along an axis,
    and half of this for planes cut into cubes.
    """
    whole = tuple(map(sum, blocks))
    extents: list[int] = []
    is_longer, is_leading = False, True
    for axis, step, n in zip(blocks, unit, whole, strict=True):
        if is_longer and len(axis) > 1 and max(axis) < step:
            return math.prod(whole)
        is_longer = is_longer or max(axis) > step
        touched = _most_touched(axis, step)
        extents.append(touched if is_leading else n)
        is_leading = is_leading and (touched == n or max(axis) == touched == step)
    return (nb_workers + 1) * math.prod(extents)


def _most_touched(axis: tuple[int, ...], step: int) -> int:
    """Give the most elements of whole blocks that one step along an axis touches."""
    edges = list(accumulate(axis, initial=0))
    most = 0
    for start in range(0, edges[-1], step):
        stop = min(start + step, edges[-1])
        low, high = bisect_right(edges, start) - 1, bisect_left(edges, stop)
        most = max(most, edges[high] - edges[low])
    return most


def _workers_that_fit(mem: int, nb_workers: int, max_mem: int, block: Shape, dtype: str) -> int:
    workers = min(nb_workers, max_mem // mem) if mem else nb_workers
    if workers < 1:
        raise MemoryLimitError(
            f"max_mem={format_nbytes(max_mem)} cannot hold the array's own blocks: computing one "
            f"of {block} {dtype} takes about {format_nbytes(mem)}. Raise max_mem, or give the "
            "array smaller blocks where it is made (chunks= of the reader)."
        )
    return workers
