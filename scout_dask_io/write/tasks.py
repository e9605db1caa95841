"""From a plan and data to the tasks of a write: one task a unit, and one that publishes."""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import DataNode, List, Task, TaskRef

from scout_dask_io.core.grid import (
    Region,
    full_region,
    intersect,
    iter_block_regions,
    overlapping_blocks,
    region_shape,
    relative_to,
)
from scout_dask_io.core.plan import WritePlan
from scout_dask_io.core.source import ArraySource, PiecesSource, Source
from scout_dask_io.errors import ShapeMismatchError
from scout_dask_io.run.scratch import ScratchSource, scratch_path, spill
from scout_dask_io.write.unit import Target, working, write_unit

__all__ = [
    "level_tasks",
    "unit_tasks",
]

Tasks = dict[Any, Any]


def unit_tasks(
    name: str,
    plan: WritePlan,
    source: Source | None,
    array: da.Array | None,
    target: Target,
    done: Set[int],
) -> tuple[Tasks, list[Any]]:
    """Give the tasks of a write, and the keys that must be computed before it is published."""
    skip = done.__contains__
    if source is not None:
        tasks = _source_tasks(name, plan, source, target, skip)
    elif array is None:
        raise TypeError("neither a source nor an array")
    elif plan.route == "blocks":
        tasks = _block_tasks(name, array, target, skip)
    elif plan.route == "gather":
        tasks = _gather_tasks(name, plan, array, target, skip)
    else:
        tasks = _scratch_tasks(name, plan, array, target, skip)
        return tasks, [k for k in tasks if k[0] in (name, f"{name}-drop")]
    return tasks, list(tasks)


def _source_tasks(
    name: str, plan: WritePlan, source: Source, target: Target, skip: Callable[[int], bool]
) -> Tasks:
    """One task a unit, each with the part of the source that it reads."""
    tasks: Tasks = {}
    last: Region = ()
    part, inside = source, full_region(source.shape)
    for unit, region in enumerate(plan.iter_units()):
        if skip(unit):
            continue
        # Units that differ along the last two axes alone share one narrowed
        # source: narrowing touches every page of a slab.
        slab = region[:-2] + full_region(source.shape)[-2:] if source.ndim > 2 else ()
        if slab and slab != last:
            part, inside = source.narrow(slab)
            last = slab
        where = (*inside[:-2], *region[-2:]) if slab else region
        key = (name, unit)
        tasks[key] = Task(key, write_unit, target, unit, region, DataNode(None, part), where)
    return tasks


def level_tasks(
    name: str,
    plan: WritePlan,
    source: Source,
    target: Target,
    skip: Callable[[int], bool],
    above: Any,
) -> Tasks:
    """One task a unit of what is read from the level above, once the task ``above`` is done."""
    tasks: Tasks = {}
    for unit, region in enumerate(plan.iter_units()):
        if not skip(unit):
            key = (name, unit)
            tasks[key] = Task(
                key, _write_level, target, unit, region, DataNode(None, source), TaskRef(above)
            )
    return tasks


def _write_level(target: Target, unit: int, region: Region, source: Source, above: Any) -> int:
    return write_unit(target, unit, region, source, region)


def _block_tasks(name: str, data: da.Array, target: Target, skip: Callable[[int], bool]) -> Tasks:
    """One task a computed block; blocks are whole chunks."""
    tasks: Tasks = {}
    for unit, (ind, region) in enumerate(iter_block_regions(data.chunks)):
        if not skip(unit):
            key = (name, unit)
            tasks[key] = Task(key, _write_block, target, unit, region, TaskRef((data.name, *ind)))
    return tasks


def _write_block(target: Target, unit: int, region: Region, block: Any) -> int:
    array = _checked(block, region, target.format.dtype)
    return write_unit(target, unit, region, ArraySource(array, ""), full_region(array.shape))


def _gather_tasks(
    name: str, plan: WritePlan, data: da.Array, target: Target, skip: Callable[[int], bool]
) -> Tasks:
    """One task a unit, fed with the computed blocks that it overlaps."""
    tasks: Tasks = {}
    for unit, region in enumerate(plan.iter_units()):
        if skip(unit):
            continue
        parts = list(overlapping_blocks(data.chunks, region))
        key = (name, unit)
        blocks = List(*(TaskRef((data.name, *ind)) for ind, _ in parts))
        regions = [r for _, r in parts]
        tasks[key] = Task(key, _write_gathered, target, unit, region, regions, blocks)
    return tasks


def _write_gathered(
    target: Target, unit: int, region: Region, regions: list[Region], blocks: list[Any]
) -> int:
    pieces = []
    for where, block in zip(regions, blocks, strict=True):
        shared = intersect(where, region)
        if shared is not None:
            array = _checked(block, where, target.format.dtype)
            pieces.append((relative_to(shared, region), array[relative_to(shared, where)]))
    source = PiecesSource(region_shape(region), pieces, target.format.dtype)
    return write_unit(target, unit, region, source, full_region(source.shape))


def _scratch_tasks(
    name: str, plan: WritePlan, data: da.Array, target: Target, skip: Callable[[int], bool]
) -> Tasks:
    """Spill every block to a file, and write the units from the files.

    A task a block, a task a unit, and a task a block that removes its file once
    the units that need it are written, so memory holds a block and a band per
    worker, and the disk about a slab. On a cluster too: dask's P2P rechunk of 128
    planes of 2048 x 2048 took 1.2 times the time and CPU of this, and 808 MB of a
    worker where this took 157 (``python -m benchmarks.cluster rechunk``).
    """
    staging: Any = target.staging
    tasks: Tasks = {}
    readers: dict[Any, list[Any]] = {}
    regions: dict[Any, Region] = {}
    for unit, region in enumerate(plan.iter_units()):
        if skip(unit):
            continue
        key, files, spilled = (name, unit), [], []
        for ind, where in overlapping_blocks(data.chunks, region):
            regions[ind] = where
            readers.setdefault(ind, []).append(TaskRef(key))
            files.append((where, scratch_path(staging.tmp, ind)))
            spilled.append(TaskRef((f"{name}-spill", *ind)))
        source = ScratchSource(plan.shape, data.dtype, files)
        tasks[key] = Task(
            key, _write_scratched, target, unit, region, DataNode(None, source), List(*spilled)
        )
    for ind, where in regions.items():
        path = scratch_path(staging.tmp, ind)
        spill_key, drop_key = (f"{name}-spill", *ind), (f"{name}-drop", *ind)
        tasks[spill_key] = Task(
            spill_key, _spill_block, target, path, where, data.dtype, TaskRef((data.name, *ind))
        )
        tasks[drop_key] = Task(drop_key, _drop_block, path, List(*readers[ind]))
    return tasks


def _write_scratched(
    target: Target, unit: int, region: Region, source: ScratchSource, spilled: list[None]
) -> int:
    return write_unit(target, unit, region, source, region)


def _spill_block(
    target: Target, path: Path, region: Region, dtype: np.dtype[Any], block: Any
) -> None:
    with working(target):
        spill(path, _checked(block, region, dtype))


def _drop_block(path: Path, readers: list[int]) -> None:
    path.unlink(missing_ok=True)


def _checked(block: Any, region: Region, dtype: np.dtype[Any]) -> np.ndarray:
    """Give a computed block as an array of the shape and dtype that its dask array declared.

    Raises
    ------
    ShapeMismatchError
        If it has another shape, or a dtype whose values the declared one cannot
        hold. dask checks neither: a 1x1 block would be broadcast, and fractions
        would be cut off.
    """
    array = np.asarray(block)
    if not np.can_cast(array.dtype, dtype, "safe"):
        raise ShapeMismatchError(
            f"a computed block has dtype {array.dtype}, the dask array declared {dtype} at "
            f"{region}. Mend the function that made it, or its dtype=."
        )
    if array.shape != region_shape(region):
        raise ShapeMismatchError(
            f"a computed block has shape {array.shape}, the dask array declared "
            f"{region_shape(region)} at {region}. Mend the function that made it, or its chunks=."
        )
    return array.astype(dtype.newbyteorder("="), copy=False)
