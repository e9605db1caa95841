"""From a plan and data to the tasks of a write: one task a unit, and one that publishes.

Running the tasks of a write, or giving them as a Delayed; what a failure leaves is told.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import dask
import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import (
    Blocks,
    Region,
    full_region,
    intersect,
    iter_block_regions,
    overlapping_blocks,
    region_shape,
    relative_to,
)
from scout_dask_io.core.messages import RESUME
from scout_dask_io.core.plan import WritePlan, slab_nbytes
from scout_dask_io.core.source import ArraySource, PiecesSource, ReadAhead, Source
from scout_dask_io.errors import ScoutIOError, ShapeMismatchError
from scout_dask_io.files.location import Location
from scout_dask_io.run._dask import DataNode, List, Task, TaskRef, flatten
from scout_dask_io.run.progress import reporting
from scout_dask_io.run.scheduler import run_tasks, runs_here
from scout_dask_io.run.scratch import (
    ScratchSource,
    SpillingCache,
    scratch_path,
    spill,
    spilling_cache,
)
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.transaction import Transaction
from scout_dask_io.write.inputs import WriteInput, check_unmasked
from scout_dask_io.write.options import WriteMode
from scout_dask_io.write.unit import Target, WrittenUnit, units_done, write_unit

_LOG = logging.getLogger(__name__)

Tasks = dict[Any, Any]


@dataclass(frozen=True)
class WriteGraph:
    """All tasks of a write but the one that publishes.

    Attributes
    ----------
    name : str
        Names the write.
    tasks : dict
        By key.
    units : set of key
        Those that count as progress.
    ends : sequence of key
        Those that must be done before it is published.
    already : int
        Units that were finished before.
    ahead : ReadAhead or None
        Who reads the source's files in order; closed when the tasks have ended.
    """

    name: str
    tasks: Tasks
    units: Set[Any]
    ends: Sequence[Any]
    already: int = 0
    ahead: ReadAhead | None = None


def unit_tasks(
    name: str,
    plan: WritePlan,
    pixels: WriteInput,
    target: Target,
    done: Set[int],
    mode: WriteMode,
) -> WriteGraph:
    """Give the tasks of a write, but for units that are done."""
    skip, array = done.__contains__, pixels.array
    ends: Sequence[Any] | None = None
    ahead = None
    if pixels.source is not None:
        if plan.cached_nbytes and mode.compute and runs_here():
            ahead = pixels.source.read_ahead(max(plan.cached_nbytes - slab_nbytes(plan), 0))
        tasks = _source_tasks(name, plan, pixels.source, target, skip, ahead)
    elif array is None:
        raise TypeError("neither a source nor an array")
    elif plan.route == "blocks":
        tasks = _block_tasks(name, array, target, skip)
    elif plan.route == "gather":
        tasks = _gather_tasks(name, plan, array, target, skip)
    else:
        tasks = _scratch_tasks(name, plan, array, target, skip)
        ends = [k for k in tasks if k[0] in (name, f"{name}-drop")]
    units = {key for key in tasks if key[0] == name}
    ends = list(tasks) if ends is None else ends
    return WriteGraph(name, tasks, units, ends, len(done), ahead)


def _source_tasks(
    name: str,
    plan: WritePlan,
    source: Source,
    target: Target,
    skip: Callable[[int], bool],
    ahead: ReadAhead | None,
) -> Tasks:
    """One task a unit, each with the part of the source that it reads.

    Where files are read ahead, each task takes the unit whose turn it is.
    """
    tasks: Tasks = {}
    turns: list[partial[WrittenUnit]] = []
    taken = iter(turns)
    target = replace(target, ahead_nbytes=plan.ahead_nbytes)
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
            part = part if ahead is None else ahead.follow(part)
            last = slab
        where = (*inside[:-2], *region[-2:]) if slab else region
        key = (name, unit)
        if ahead is None:
            tasks[key] = Task(key, write_unit, target, unit, region, DataNode(None, part), where)
        else:
            turns.append(partial(write_unit, target, unit, region, part, where))
            tasks[key] = Task(key, _write_next, DataNode(None, taken))
    return tasks


def _write_next(turns: Iterator[partial[WrittenUnit]]) -> WrittenUnit:
    """Write the unit whose turn it is: dask begins tasks in an order of its own."""
    return next(turns)()


@dataclass(frozen=True)
class Pass:
    """Levels of an image whose units are written by one task each.

    Attributes
    ----------
    number : int
        That of the first of them among the levels that are written.
    plan : WritePlan
        Of the first.
    target : Target
        Of the first, with the others that its units make too.
    units : dict
        The blocks of each level.
    source : Source or None
        What is read of the level above; ``None`` of the pixels themselves.
    """

    number: int
    plan: WritePlan
    target: Target
    units: Mapping[int | None, Blocks]
    source: Source | None = None


def image_tasks(
    name: str, passes: Iterable[Pass], pixels: WriteInput, mode: WriteMode
) -> WriteGraph:
    """Give the tasks of an image, of each pass once the levels of the one before are whole."""
    tasks: Tasks = {}
    units: set[Any] = set()
    ends: Sequence[Any] = ()
    already = 0
    ahead: ReadAhead | None = None
    for one in passes:
        done = units_done(one.target, one.units, resume=mode.resume, deep=mode.durable)
        here = f"{name}-{one.number}"
        if one.source is None:
            found = unit_tasks(here, one.plan, pixels, one.target, done, mode)
            ahead = found.ahead
        else:
            above = f"{here}-above"
            tasks[above] = Task(above, _wait, List(*map(TaskRef, ends)))
            found = _level_tasks(here, one.plan, one.source, one.target, done, above)
        tasks.update(found.tasks)
        units |= found.units
        ends = found.ends
        already += found.already
    return WriteGraph(name, tasks, units, ends, already, ahead)


def _level_tasks(
    name: str, plan: WritePlan, source: Source, target: Target, done: Set[int], above: Any
) -> WriteGraph:
    """One task a unit of what is read from the level above, once the task ``above`` is done."""
    tasks: Tasks = {}
    for unit, region in enumerate(plan.iter_units()):
        if unit not in done:
            key = (name, unit)
            tasks[key] = Task(
                key, _write_after, target, unit, region, DataNode(None, source), TaskRef(above)
            )
    return WriteGraph(name, tasks, set(tasks), [above, *tasks], len(done))


def _wait(above: list[Any]) -> list[Any]:
    """Give what tasks gave once all are done: what lies above a level is whole then."""
    return above


def _write_after(
    target: Target, unit: int, region: Region, source: Source, before: Any
) -> WrittenUnit:
    """Write a unit of what tasks that come before it have left for it."""
    return write_unit(target, unit, region, source, region)


def _block_tasks(name: str, data: da.Array, target: Target, skip: Callable[[int], bool]) -> Tasks:
    """One task a computed block; blocks are whole chunks."""
    tasks: Tasks = {}
    for unit, (ind, region) in enumerate(iter_block_regions(data.chunks)):
        if not skip(unit):
            key = (name, unit)
            tasks[key] = Task(key, _write_block, target, unit, region, TaskRef((data.name, *ind)))
    return tasks


def _write_block(target: Target, unit: int, region: Region, block: Any) -> WrittenUnit:
    array = checked_block(block, region, target.format.dtype)
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
) -> WrittenUnit:
    pieces = []
    for where, block in zip(regions, blocks, strict=True):
        shared = intersect(where, region)
        if shared is not None:
            array = checked_block(block, where, target.format.dtype)
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
    folder = target.transaction.tmp
    if folder is None:
        raise TypeError(f"{target.transaction.where} has no place for blocks that wait")
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
            files.append((where, scratch_path(folder, ind)))
            spilled.append(TaskRef((f"{name}-spill", *ind)))
        source = ScratchSource(plan.shape, data.dtype, files)
        tasks[key] = Task(
            key, _write_after, target, unit, region, DataNode(None, source), List(*spilled)
        )
    for ind, where in regions.items():
        path = scratch_path(folder, ind)
        spill_key, drop_key = (f"{name}-spill", *ind), (f"{name}-drop", *ind)
        tasks[spill_key] = Task(
            spill_key, _spill_block, target, path, where, data.dtype, TaskRef((data.name, *ind))
        )
        tasks[drop_key] = Task(drop_key, _drop_block, path, List(*readers[ind]))
    return tasks


def _spill_block(
    target: Target, path: Path, region: Region, dtype: np.dtype[Any], block: Any
) -> None:
    with target.attempt.working():
        spill(path, checked_block(block, region, dtype))


def _drop_block(path: Path, readers: list[WrittenUnit]) -> None:
    path.unlink(missing_ok=True)


def checked_block(block: Any, region: Region, dtype: np.dtype[Any]) -> np.ndarray:
    """Give a computed block as an array of the shape and dtype that its dask array declared.

    Raises
    ------
    ShapeMismatchError
        If it has another shape, or a dtype whose values the declared one cannot
        hold. dask checks neither: a 1x1 block would be broadcast, and fractions
        would be cut off. A narrower dtype loses nothing, and many functions give one.
    ArgumentError
        If it is masked, which the dask array need not declare either.
    """
    check_unmasked(block)
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


class DelayedWrite(Delayed):
    """A write that is to be computed, optimised as an array is.

    Slices are fused into the reads under them, which a plain ``Delayed`` would
    not do, and the blocks that several writes and arrays share are read and
    computed once where all are computed in one call.

    Attributes
    ----------
    target : Target
        What its tasks write; of an image, level 0 with those that are made with it.
    undone : frozenset of int
        The units of that which an earlier run has not finished.
    """

    __slots__ = ("target", "undone")

    target: Target
    undone: frozenset[int]

    @property
    def __dask_optimize__(self) -> Any:
        # Arrays are optimised together with what has the very same function, but
        # its fusion of tasks forgets annotations.
        layers = self.dask.layers.values()
        if any(layer.annotations for layer in layers):
            return _optimize_apart
        return da.Array.__dask_optimize__


def _optimize_apart(graph: HighLevelGraph, keys: Any, **_: Any) -> HighLevelGraph:
    """Optimise what writes need as arrays are, and leave the writes' own layers as they are."""
    writes = {key: graph.layers[key] for key in flatten(keys)}
    needed = {
        dep for layer in writes.values() for task in layer.values() for dep in task.dependencies
    }
    needed -= {key for layer in writes.values() for key in layer}
    rest = HighLevelGraph(
        {name: layer for name, layer in graph.layers.items() if name not in writes},
        {name: deps for name, deps in graph.dependencies.items() if name not in writes},
    )
    blocks = dict(da.Array.__dask_optimize__(rest, list(needed))) if needed else {}
    below = "-".join(("blocks", *map(str, writes)))
    return HighLevelGraph(
        {**writes, below: MaterializedLayer(blocks)},
        {**{name: {below} for name in writes}, below: set()},
    )


def run_write(
    graph: WriteGraph,
    publish: Callable[[list[Any]], Any],
    array: da.Array | None,
    target: Target,
    plan: WritePlan,
    mode: WriteMode,
) -> Any:
    """Compute the tasks of a write, publish, and give what that gives; or else a Delayed of it.

    Parameters
    ----------
    graph : WriteGraph
        All tasks, but the one that publishes.
    publish
        Called in the last task, with what the ends gave.
    array : dask.array.Array or None
        What the tasks use blocks of.
    target : Target
        What they write; of several, one, since all have the same attempt. After a
        failure its tasks are stopped and waited for, and what cannot be used is removed.
    plan : WritePlan
        Its workers run the tasks, its ``max_mem`` bounds the blocks that wait on threads.
    mode : WriteMode
        Whether it is computed, and what is told meanwhile.
    """
    final = f"{graph.name}-publish"
    tasks = {**graph.tasks, final: Task(final, publish, List(*map(TaskRef, graph.ends)))}
    if mode.compute and array is not None:
        # Slices are fused into the reads under them.
        (array,) = dask.optimize(array)
    layers = HighLevelGraph.from_collections(
        final, tasks, dependencies=cast(Any, [] if array is None else [array])
    )
    if not (mode.compute and runs_here()):
        target.transaction.wait_until_begun()
    if not mode.compute:
        if graph.ahead is not None:
            graph.ahead.close()  # who computes it does not say when it is over
        write = DelayedWrite(final, layers)  # type: ignore[no-untyped-call]
        write.target = target
        # Those of an image's levels are told apart by the first level that they make.
        first = (graph.name, f"{graph.name}-0")
        write.undone = frozenset(key[1] for key in graph.units if key[0] in first)
        return write
    began, destination = time.perf_counter(), target.transaction.destination
    _LOG.info(
        "%s: %s of %s in chunks of %s, %s units (%s done before), %s at once, about %s of memory",
        destination, plan.shape, plan.dtype, plan.chunks, len(graph.units), graph.already,
        plan.nb_workers, format_nbytes(plan.projected_mem),
    )  # fmt: skip
    try:
        with (
            reporting(mode.progress, f"write {target.transaction.destination.name}") as report,
            nullcontext() if array is None else _waiting(array, plan, target) as cache,
        ):
            written = run_tasks(
                layers,
                final,
                graph.units,
                nb_workers=_n_threads(plan, target, graph.ahead),
                already=graph.already,
                report=report,
                attempt=target.attempt,
                cache=cache,
            )
        _LOG.info("%s: published after %.1f s", destination, time.perf_counter() - began)
        return written
    except BaseException as err:
        _LOG.info("%s: stopped by %s", destination, type(err).__name__)
        _abandon(target.transaction, err)
        raise
    finally:
        if graph.ahead is not None:
            graph.ahead.close()


def standing_at(place: Location, mode: WriteMode) -> Any:
    """Give the array or image that stands at a place, where nothing is left to write."""
    return open_standing(place) if mode.compute else cast(Any, delayed(open_standing)(place))


def open_standing(place: Location) -> Any:
    """Open the array or image at a place for reading and writing."""
    return open_zarr(place, mode="r+")


def _n_threads(plan: WritePlan, target: Target, ahead: ReadAhead | None) -> tuple[int, int]:
    """Give the threads for the tasks, and for those that wait for a disk besides.

    Three times those that work at once, where units wait for a store.

    A unit waits for its last chunks, and for its note: two round trips to a store, in which two
    others read and encode. Each thread more than that keeps 9 MB in the allocator's hands.
    Computed blocks have no such bound: more threads would compute more of them at once.
    """
    limit = target.uploads
    waits = limit is not None and not limit.on_disk and plan.route == "source"
    n = plan.nb_workers * (3 if waits else 1)
    if limit is None or ahead is None:
        return n, n
    # All units of a slab take their rows of a plane once it is there: they are decoded when the
    # last plane comes. More would ask for planes of the next slab.
    return n, max(n, min(limit.n_begun, math.prod(map(len, plan.units[-2:]))))


def _waiting(
    array: da.Array, plan: WritePlan, target: Target
) -> AbstractContextManager[SpillingCache]:
    """Give the room for blocks that wait: what the tasks at work do not need themselves."""
    at_work = 2 * math.prod(max(axis, default=0) for axis in array.chunks) * plan.itemsize
    max_nbytes = max(plan.max_mem - plan.nb_workers * at_work, plan.max_mem // 4)
    return spilling_cache(max_nbytes, target.transaction.tmp)


def _abandon(transaction: Transaction, err: BaseException) -> None:
    """After a failure: keep what a resumed write can use and say so, or leave nothing."""
    try:
        kept = transaction.abandon()
    except (ScoutIOError, OSError) as second:
        # Tidying up must not hide what went wrong first.
        err.add_note(f"what was begun stays in {transaction.where} ({second})")
        return
    if kept is None:
        return
    destination = transaction.destination
    then = "" if str(RESUME) in str(err) else ". The same call with " + RESUME + " goes on"
    told = not destination.on_disk or "as it was" in str(err)
    stands = "" if told else f" {destination} is as it was."
    err.add_note(
        f"{kept.n_finished:,} of {kept.n_units:,} write units are finished and kept in "
        f"{kept.path}" + then + f".{stands}"
    )
