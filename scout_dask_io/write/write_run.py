"""Running the tasks of a write, or giving them as a Delayed; what a failure leaves is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import dask
import dask.array as da
from dask._task_spec import List, Task, TaskRef
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from scout_dask_io.core.plan import WritePlan
from scout_dask_io.errors import ScoutIOError
from scout_dask_io.run.admission import Asked
from scout_dask_io.run.progress import reporting
from scout_dask_io.run.scheduler import admitting, run_tasks
from scout_dask_io.run.spilling import SpillingCache, spilling_cache
from scout_dask_io.store.unfinished import unfinished
from scout_dask_io.write.region import discard_region
from scout_dask_io.write.unit import Target, cancel, drain

__all__ = ["DelayedWrite", "run_write"]


class DelayedWrite(Delayed):
    """A write that is to be computed, optimised as an array is.

    Slices are fused into the reads under them, which a plain ``Delayed`` would
    not do, and the blocks that several writes and arrays share are read and
    computed once where all are computed in one call.
    """

    __slots__ = ()

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
    name: str,
    tasks: dict[Any, Any],
    units: set[Any],
    ends: Sequence[Any],
    publish: Callable[[list[Any]], Any],
    array: da.Array | None,
    target: Target,
    plan: WritePlan,
    *,
    compute: bool,
    progress: Any,
    already: int,
    asked: Asked | None,
) -> Any:
    """Compute the tasks of a write, publish, and give what that gives; or else a Delayed of it.

    Parameters
    ----------
    name : str
        Names the write.
    tasks : dict
        All its tasks, but the one that publishes.
    units : set
        The keys of those that count as progress.
    ends : sequence of key
        Those that must be done before it is published.
    publish
        Called in the last task, with what the ends gave.
    array : dask.array.Array or None
        What the tasks use blocks of.
    target : Target
        What they write; of several, one, since all have the same attempt. After a
        failure its tasks are stopped and waited for, and what cannot be used is removed.
    plan : WritePlan
        Its workers run the tasks, its ``max_mem`` bounds the blocks that wait on threads.
    compute, progress, already
        As for :func:`~scout_dask_io.write_zarr` and :func:`~scout_dask_io.run.scheduler.run_tasks`.
    asked : Asked or None
        The workers of a cluster that were asked; those that join later are asked by
        their first unit.
    """
    final = f"{name}-publish"
    tasks = admitting(tasks, units, asked)
    tasks = {**tasks, final: Task(final, publish, List(*map(TaskRef, ends)))}
    if compute and array is not None:
        # Slices are fused into the reads under them.
        (array,) = dask.optimize(array)
    graph = HighLevelGraph.from_collections(
        final, tasks, dependencies=cast(Any, [] if array is None else [array])
    )
    if not compute:
        return DelayedWrite(final, graph)  # type: ignore[no-untyped-call]
    try:
        with (
            reporting(progress, f"write {target.staging.destination.name}") as report,
            nullcontext() if array is None else _waiting(array, plan, target) as cache,
        ):
            return run_tasks(
                graph,
                final,
                units,
                nb_workers=plan.nb_workers,
                already=already,
                report=report,
                on_failure=partial(cancel, target),
                drain=partial(drain, target.attempt),
                cache=cache,
                asked=asked,
            )
    except BaseException as err:
        if target.in_place:
            discard_region(target)
        else:
            _leave(target, err)
        raise


def _waiting(
    array: da.Array, plan: WritePlan, target: Target
) -> AbstractContextManager[SpillingCache]:
    """Give the room for blocks that wait: what the tasks at work do not need themselves."""
    at_work = 2 * math.prod(max(axis, default=0) for axis in array.chunks) * plan.itemsize
    max_nbytes = max(plan.max_mem - plan.nb_workers * at_work, plan.max_mem // 4)
    return spilling_cache(max_nbytes, getattr(target.staging, "tmp", None))


def _leave(target: Target, err: BaseException) -> None:
    """After a failure: keep what a resumed write can use and say so, or leave nothing."""
    destination = target.staging.destination
    try:
        finished = unfinished(destination)
        if finished is not None and not finished.n_finished:
            target.staging.drop()
    except (ScoutIOError, OSError) as second:
        # Tidying up must not hide what went wrong first.
        err.add_note(f"what was begun stays in {target.staging.where} ({second})")
        return
    if finished is None or not finished.n_finished:
        return
    then = "" if "resume=True" in str(err) else ". The same call with resume=True goes on"
    told = not isinstance(destination, Path) or "as it was" in str(err)
    stands = "" if told else f" {destination} is as it was."
    err.add_note(
        f"{finished.n_finished:,} of {finished.n_units:,} write units are finished and kept in "
        f"{finished.path}{then}.{stands}"
    )
