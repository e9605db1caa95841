"""The units of an update: which of them planes that changed have touched, level by level.

Each is as thick as a chunk along axes of planes, so that one plane touches as little as can be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from scout_dask_io.core.grid import (
    Blocks,
    Region,
    Shape,
    chunk_cells,
    chunk_counts,
    iter_block_regions,
    region_shape,
    uniform_blocks,
)
from scout_dask_io.core.plan import MAX_UNITS, UNIT_NBYTES
from scout_dask_io.jobs.convert import ConvertPlan
from scout_dask_io.store.manifest import UNKNOWN
from scout_dask_io.store.reuse import Standing
from scout_dask_io.write.planes import Planes


def units_of(plan: ConvertPlan, now: Planes) -> dict[int | None, Blocks]:
    """Give the units of each level: as thick as a chunk along axes of planes, and wide else."""
    write = plan.write
    shapes: dict[int | None, Shape] = dict(enumerate(plan.levels)) or {None: write.shape}
    return {level: _cut(shape, plan, now) for level, shape in shapes.items()}


def total_of(plan: ConvertPlan, level: int | None) -> Shape:
    """Give how many elements of the full level are one of a level, per axis, rounded."""
    return plan.totals()[level or 0]


def _cut(shape: Shape, plan: ConvertPlan, now: Planes) -> Blocks:
    unit, itemsize = list(plan.write.stored), plan.write.itemsize
    target = max(UNIT_NBYTES, 2 * math.prod(shape) * itemsize // MAX_UNITS)
    for axis in reversed(range(len(unit))):
        if axis not in now.axes:
            steps = -(-max(shape[axis], 1) // unit[axis])
            room = max(1, target // (math.prod(unit) * itemsize))
            unit[axis] *= min(room, steps)
    return uniform_blocks(shape, tuple(unit))


def touched_units(
    units: Blocks, standing: Standing | None, mask: np.ndarray, now: Planes, total: Shape
) -> set[int]:
    """Give the units that hold what a changed plane became, or what is not known to be whole."""
    if standing is None:
        return set(range(math.prod(map(len, units))))
    found = set()
    for number, (_, region) in enumerate(iter_block_regions(units)):
        lead = tuple(
            slice(region[axis].start * total[axis], region[axis].stop * total[axis])
            for axis in now.axes
        )
        if mask[lead].any() or not _is_whole(region, standing):
            found.add(number)
    return found


def _is_whole(region: Region, standing: Standing) -> bool:
    """Tell whether all chunks of a region stand, and the manifest says what they are."""
    cells = chunk_cells(region, standing.format.chunks)
    if any(c.stop > n for c, n in zip(cells, standing.records.shape, strict=True)):
        return False
    return not (standing.records[cells]["nbytes"] == UNKNOWN["nbytes"]).any()


def changed_at(mask: np.ndarray, now: Planes, total: Shape) -> np.ndarray:
    """Give which rows of planes of a level changed, 1 long along axes of none."""
    shape = [1] * len(total)
    for n, axis in zip(now.lead, now.axes, strict=True):
        shape[axis] = n
    found = mask.transpose(np.argsort(now.axes)).reshape(shape)
    for axis in now.axes:
        starts = np.arange(0, shape[axis], total[axis])
        found = np.logical_or.reduceat(found, starts, axis=axis)
    return found


def is_direct(plan: ConvertPlan, mask: np.ndarray, now: Planes) -> bool:
    """Tell whether the first lower level is made from the few planes that its rows are made of.

    Else it is made from the chunks of the full one, all of whose planes are decoded for them; a
    plane may take some eight times as long to read.
    """
    if len(plan.levels) < 2:
        return False
    below, chunks = plan.totals()[1], plan.write.chunks
    n_read, n_decoded = (
        int(changed_at(mask, now, each).sum()) * math.prod(each[axis] for axis in now.axes)
        for each in (below, chunks)
    )
    return 8 * n_read <= n_decoded


def count_chunks(plan: ConvertPlan, units: Blocks, numbers: set[int] | None) -> int:
    """Give how many chunks so many units have, or all of them."""
    return sum(
        math.prod(chunk_counts(region_shape(region), plan.write.stored))
        for number, (_, region) in enumerate(iter_block_regions(units))
        if numbers is None or number in numbers
    )


def units_read(
    plan: ConvertPlan,
    units: Mapping[int | None, Blocks],
    touched: Mapping[int | None, set[int]],
    arrays: Mapping[int | None, Standing],
) -> dict[int | None, set[int]]:
    """Give units that stay, and are read for lower levels: below those that are written anew.

    Of an image's lowest level that is all, whose values say how it is shown.
    """
    found: dict[int | None, set[int]] = {level: set() for level in units}
    levels = [level for level in units if level is not None]
    for level in levels[1:]:
        above, chunks = units[level - 1], arrays[level - 1].format.chunks
        ratio = [
            a // b for a, b in zip(total_of(plan, level), total_of(plan, level - 1), strict=True)
        ]
        mask = np.zeros(chunk_counts(tuple(map(sum, above)), chunks), bool)
        for number, (_, region) in enumerate(iter_block_regions(units[level])):
            if number in touched[level]:
                part = tuple(
                    slice(s.start * r, s.stop * r) for s, r in zip(region, ratio, strict=True)
                )
                mask[chunk_cells(part, chunks)] = True
        found[level - 1] = {
            number
            for number, (_, region) in enumerate(iter_block_regions(above))
            if mask[chunk_cells(region, chunks)].any()
        }
    if levels:
        found[levels[-1]] = set(range(math.prod(map(len, units[levels[-1]]))))
    return found
