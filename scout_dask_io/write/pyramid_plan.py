"""Which levels of a pyramid are made together: passes, each one plan of a write. Pure arithmetic.

A *pass* reads one level, or the source, and writes a level from it, and from the
same pixels as many levels below that as its units allow. A unit must hold whole
chunks of each of them, so that every chunk has one writer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from scout_dask_io.core.grid import Blocks, Shape, uniform_blocks, window_of
from scout_dask_io.core.plan import UNIT_NBYTES, WritePlan, grow_unit, unit_target
from scout_dask_io.core.plan_computed import blocks_fit_chunks, plan_computed
from scout_dask_io.core.pyramid import Level
from scout_dask_io.errors import MemoryLimitError

# A level that is read again costs 3 to 6 % of the CPU of level 0, and reading up to a quarter
# of its size. Units of a few seconds do for that where they are many: none waits long at the end.
LARGE_UNIT_NBYTES = 4 * UNIT_NBYTES
MANY_UNITS = 64

__all__ = ["fuse_levels", "halved_blocks", "stored_extent"]


def stored_extent(plan: WritePlan) -> Shape:
    """Give the extent of what one file holds: a shard, or a chunk."""
    return plan.shards or plan.chunks


def halved_blocks(blocks: Blocks, factors: Shape) -> Blocks:
    """Give the blocks of the level below, each of what a block here becomes.

    Every border between blocks must be a multiple of the factor.

    Examples
    --------
    >>> halved_blocks(((64, 64, 5), (7,)), (2, 1))
    ((32, 32, 3), (7,))
    """
    return tuple(tuple(-(-n // f) for n in axis) for axis, f in zip(blocks, factors, strict=True))


def fuse_levels(
    plan: WritePlan, levels: Sequence[Level], blocks: Blocks | None = None
) -> tuple[WritePlan, int]:
    """Give a plan whose units make lower levels too, and how many of these.

    As many as go without units above 256 MiB, or above 1 GiB where there are many,
    and none that leave workers idle; always one where it fits. The memory of their
    chunks in the making counts.

    Parameters
    ----------
    plan : WritePlan
        Of the first level.
    levels : sequence of Level
        The first level, and those below it.
    blocks : tuple of tuple of int, optional
        Of the dask array that is computed, if one is.
    """
    candidates = list(_candidates(levels, stored_extent(plan)))
    # Computed blocks that are whole units need not wait for one another.
    fitting = [c for c in candidates if blocks_fit_chunks(plan.units, c[1])]
    for n, least in reversed(fitting if plan.route == "blocks" and fitting else candidates):
        found = _with_units(plan, least, blocks)
        if found is None:
            continue
        least_units = 2
        if math.prod(found.unit) * plan.itemsize > UNIT_NBYTES:
            least_units = MANY_UNITS
        if n > 1 and (
            math.prod(found.unit) * plan.itemsize > LARGE_UNIT_NBYTES
            or found.n_units < least_units * plan.nb_workers
        ):
            continue
        held = _held_nbytes(found, levels[: n + 1])
        workers = found.nb_workers
        if found.projected_mem + workers * held <= plan.max_mem:
            return replace(found, projected_mem=found.projected_mem + workers * held), n
    return plan, 0


def _candidates(levels: Sequence[Level], extent: Shape) -> Iterator[tuple[int, Shape]]:
    """Yield how many lower levels may be made at once, and the least unit that takes."""
    first = levels[0]
    for n, level in enumerate(levels[1:], start=1):
        # Chunks are halved one by one, so no pair may lie in two of them.
        cut = any(
            f == 2 and c % 2 and m > c
            for f, c, m in zip(level.factors, extent, levels[n - 1].shape, strict=True)
        )
        if cut:
            return
        times = (t // f for t, f in zip(level.total, first.total, strict=True))
        yield n, tuple(c * t for c, t in zip(extent, times, strict=True))


def _with_units(plan: WritePlan, least: Shape, blocks: Blocks | None) -> WritePlan | None:
    """Give the plan with units that are multiples of an extent, ``None`` if that cannot be."""
    shape, itemsize = plan.shape, plan.itemsize
    if blocks_fit_chunks(plan.units, least):
        return plan
    if plan.route == "source":
        # Whole bands too, so that no part of the source is read twice for it.
        step = tuple(
            n if m >= n or b >= n else math.lcm(b, m)
            for n, m, b in zip(shape, least, plan.band, strict=True)
        )
        unit = grow_unit(shape, step, itemsize, unit_target(plan.nbytes, plan.nb_workers))
        return replace(plan, units=uniform_blocks(shape, unit))
    if blocks is None:
        return None
    try:
        found = plan_computed(
            blocks,
            plan.dtype,
            itemsize,
            least,
            nb_workers=plan.nb_workers,
            max_mem=plan.max_mem,
        )
    except MemoryLimitError:
        return None
    if found.route == "scratch" and plan.route != "scratch":
        return None
    return replace(found, chunks=plan.chunks, shards=plan.shards, zarr_format=plan.zarr_format)


def _held_nbytes(plan: WritePlan, levels: Sequence[Level]) -> int:
    """Give the bytes of lower levels that one unit holds: of the first of them, what a window does.

    The first lower level is written as soon as bands have made whole chunks of it.
    """
    first, extent = levels[0], stored_extent(plan)
    total = 0
    for level in levels[1:]:
        times = tuple(t // f for t, f in zip(level.total, first.total, strict=True))
        held = plan.unit
        if level is levels[1]:
            held = tuple(map(min, plan.unit, window_of(plan.band, times, extent)))
        halved = (-(-u // t) for u, t in zip(held, times, strict=True))
        total += math.prod(-(-h // c) * c for h, c in zip(halved, extent, strict=True))
    return total * plan.itemsize
