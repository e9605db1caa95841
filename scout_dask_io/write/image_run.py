"""Writing the levels of an image: the tasks of its passes, and one that publishes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import dask.array as da
from dask._task_spec import List, Task, TaskRef
from dask.delayed import Delayed, delayed

from scout_dask_io.core.downsample import HalvedSource
from scout_dask_io.core.grid import Blocks
from scout_dask_io.core.source import Source
from scout_dask_io.files.location import AnyPath
from scout_dask_io.run.admission import Asked
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.unfinished import NewArray
from scout_dask_io.write.image_plan import ImagePlan, plan_pass
from scout_dask_io.write.job import Place, place_of
from scout_dask_io.write.qc.findings import Subject
from scout_dask_io.write.qc.run import put_sheet
from scout_dask_io.write.tasks import level_tasks, unit_tasks
from scout_dask_io.write.unit import Lower, Target, working
from scout_dask_io.write.write_begin import begin_or_resume
from scout_dask_io.write.write_run import run_write

if TYPE_CHECKING:
    import zarr

__all__ = ["write_levels"]


def write_levels(
    destination: AnyPath,
    image: ImagePlan,
    source: Source | None,
    array: da.Array | None,
    settings: dict[str, Any],
    describe: Callable[[Any], dict[str, Any]],
    *,
    arrays: Sequence[dict[str, Any]],
    overwrite: bool,
    resume: bool,
    durable: bool,
    compute: bool,
    progress: Any,
    asked: Asked | None,
    shared: Any = None,
    subject: Subject | None = None,
) -> zarr.Group | Delayed:
    """Write the levels of a plan, or finish writing them, and give the group its name.

    ``describe`` gives the group's attributes from the path of the lowest level;
    ``arrays`` are the settings of each level's array. With ``shared``, the source of an array that
    stands, that becomes level 0 as it is stored, and the plan's levels come after it. With
    ``subject``, what the planes of level 0 are like is gathered and put beside the group.
    ``asked`` is what ``preflight`` gave.
    """
    first = int(shared is not None)
    settings = {**settings, "first": first, "qc": subject is not None}
    begun = begin_or_resume(
        destination,
        array if source is None else source,
        image.write,
        _new_arrays(image, first, arrays),
        settings,
        {"passes": [(first + n, plan.units) for n, plan in image.passes]},
        overwrite=overwrite,
        resume=resume,
        durable=durable,
        qc=subject is not None,
    )
    if begun is None:
        return _open(destination) if compute else cast(Any, delayed(_open)(destination))
    targets, noted = begun
    image = _as_begun(image, [(n - first, units) for n, units in noted["passes"]])
    tops = _with_lower(image, targets)
    tops[0] = replace(tops[0], qc=subject is not None)
    name = f"write-{targets[0].staging.job_id}"
    tasks, units, ends, already = _image_tasks(
        name, image, place_of(destination), targets, tops, source, array
    )
    of_levels = [image.units_of(n) for n in range(len(targets))]
    written = run_write(
        name,
        tasks,
        units,
        ends,
        partial(_publish, targets, of_levels, describe, overwrite, shared, subject),
        array,
        tops[0],
        image.write,
        compute=compute,
        progress=progress,
        already=already,
        asked=asked,
    )
    return cast("zarr.Group | Delayed", written)


def _new_arrays(
    image: ImagePlan,
    first: int,
    arrays: Sequence[dict[str, Any]],
) -> list[NewArray]:
    """Give the levels as arrays that are to grow, from the number ``first`` on."""
    plan = image.write
    of_v3: dict[str, Any] = {}
    if plan.zarr_format == 3:
        # Version 0.5 asks for the axes' names in the arrays too; Zarr v2 has no place for them.
        of_v3 = {"zarr_format": 3, "shards": plan.shards, "dimension_names": list(image.axes)}
    return [
        NewArray(level.shape, plan.chunks, plan.dtype, {**own, **of_v3}, n)
        for n, (level, own) in enumerate(zip(image.levels, arrays, strict=True), start=first)
    ]


def _as_begun(image: ImagePlan, passes: Sequence[tuple[int, Any]]) -> ImagePlan:
    """Give a plan with the units that the image was begun with, now or in an earlier run."""
    begun = []
    for first, units in passes:
        plan = plan_pass(image.write, image.levels, first) if first else image.write
        begun.append((first, replace(plan, units=tuple(map(tuple, units)))))
    return replace(image, passes=tuple(begun))


def _with_lower(image: ImagePlan, targets: Sequence[Target]) -> list[Target]:
    """Give the first target of each pass, with those that its units make too."""
    starts = [first for first, _ in image.passes] + [len(targets)]
    tops = []
    for k, (first, plan) in enumerate(image.passes):
        lower = tuple(
            Lower(targets[n], image.levels[n].factors, image.method)
            for n in range(first + 1, starts[k + 1])
        )
        # One attempt: whoever cancels it cancels the tasks of all levels.
        attempt = targets[0].attempt
        tops.append(replace(targets[first], band=plan.band, lower=lower, attempt=attempt))
    return tops


def _image_tasks(
    name: str,
    image: ImagePlan,
    place: Place,
    targets: Sequence[Target],
    tops: Sequence[Target],
    source: Source | None,
    array: da.Array | None,
) -> tuple[dict[Any, Any], set[Any], list[Any], int]:
    """Give all tasks but the last, those that count, those at the end, and how many are done."""
    tasks: dict[Any, Any] = {}
    units: set[Any] = set()
    ends: list[Any] = []
    already = 0
    for k, ((first, plan), top) in enumerate(zip(image.passes, tops, strict=True)):
        done = top.staging.finished()
        already += len(done)
        here = f"{name}-{first}"
        if k == 0:
            found, last = unit_tasks(here, plan, source, array, top, done)
        else:
            # What lies above is whole once all tasks of the pass before are done.
            above = f"{here}-above"
            tasks[above] = Task(above, _wait, List(*map(TaskRef, ends)))
            halved = HalvedSource(
                place.source_of(targets[first - 1]),
                image.levels[first].factors,
                image.method,
            )
            found = level_tasks(here, plan, halved, top, done.__contains__, above)
            last = [above, *found]
        tasks.update(found)
        units |= {key for key in found if key[0] == here}
        ends = last
    return tasks, units, ends, already


def _wait(above: list[Any]) -> None:
    return None


def _publish(
    targets: Sequence[Target],
    units: Sequence[Blocks],
    describe: Any,
    overwrite: bool,
    shared: Any,
    subject: Subject | None,
    written: list[Any],
) -> zarr.Group:
    destination = targets[0].staging.destination
    with working(targets[0]):
        if subject is not None:
            put_sheet(targets[0], units[0], subject)
        place: Any = place_of(destination)
        place.finish(targets, units, overwrite=overwrite, describe=describe, shared=shared)
        return _open(destination)


def _open(path: AnyPath) -> zarr.Group:
    return cast("zarr.Group", open_zarr(path, mode="r+"))
