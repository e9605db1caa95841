"""Writing the levels of an image: the tasks of its passes, and its metadata at the end."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dask
import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.delayed import Delayed, delayed

from scout_dask_io.downsample import HalvedSource
from scout_dask_io.errors import ArgumentError
from scout_dask_io.grid import Blocks
from scout_dask_io.image_plan import ImagePlan, plan_pass
from scout_dask_io.levels import Level
from scout_dask_io.ome import omero_metadata
from scout_dask_io.source import Source
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.growing import finished_units, is_finished
from scout_dask_io.store.growing_image import begin_image, finish_image, resume_image
from scout_dask_io.store.staging import check_destination, discard_staging
from scout_dask_io.store.units import Lower, Target, cancel, drain, working
from scout_dask_io.store.zarr_source import open_source
from scout_dask_io.voxel import ATTRIBUTE, VoxelSize
from scout_dask_io.write_run import leave, run_write
from scout_dask_io.write_tasks import level_tasks, unit_tasks

if TYPE_CHECKING:
    import zarr

__all__ = ["channel_labels", "describe_image", "level_attributes", "write_levels"]

# Elements of a channel that are read to measure its contrast, and that are sorted for it.
SAMPLED, SORTED = 2**22, 2**19


def write_levels(
    destination: Path,
    image: ImagePlan,
    source: Source | None,
    array: da.Array | None,
    settings: dict[str, Any],
    describe: Callable[[Path], dict[str, Any]],
    *,
    array_settings: dict[str, Any],
    overwrite: bool,
    resume: bool,
    durable: bool,
    compute: bool,
    progress: Any,
    linked: Path | None = None,
) -> zarr.Group | Delayed:
    """Write the levels of a plan, or finish writing them, and give the group its name.

    ``describe`` gives the group's attributes from the path of the lowest level.
    With ``linked``, an array that stands becomes level 0 by links to its files, and
    the plan's levels come after it.
    """
    plan, first = image.write, int(linked is not None)
    settings = {**settings, "first": first}
    resumed = resume_image(destination, settings, durable=durable) if resume else None
    if resumed is None:
        if resume and not overwrite and is_finished(destination, settings):
            return _open(destination) if compute else cast(Any, delayed(_open)(destination))
        check_destination(destination, overwrite=overwrite)
        if overwrite:
            discard_staging(destination)
        targets = begin_image(
            destination,
            [level.shape for level in image.levels],
            {**settings, "passes": [(first + n, p.units) for n, p in image.passes]},
            plan=plan,
            axes=image.axes,
            overwrite=overwrite,
            durable=durable,
            **array_settings,
        )
    else:
        targets, begun = resumed
        plans = [plan if n == first else plan_pass(plan, image.levels, n - first) for n, _ in begun]
        image = replace(
            image,
            passes=tuple(
                (n - first, replace(p, units=u)) for p, (n, u) in zip(plans, begun, strict=True)
            ),
        )
    if compute and array is not None and source is None:
        # Slices are fused into the reads under them.
        (array,) = dask.optimize(array)
    tops = _with_lower(image, targets)
    name = f"write-{targets[0].staging.job_id}"
    tasks, units, ends, already = _image_tasks(name, image, targets, tops, source, array)
    final = f"{name}-publish"
    of_levels = [image.units_of(n) for n in range(len(targets))]
    tasks[final] = Task(
        final, _finish, targets, of_levels, describe, overwrite, linked, List(*map(TaskRef, ends))
    )
    return cast(
        "zarr.Group | Delayed",
        run_write(
            tasks,
            final,
            units,
            array if source is None else None,
            compute=compute,
            progress=progress,
            label=f"write {destination.name}",
            nb_workers=plan.nb_workers,
            already=already,
            on_failure=partial(cancel, tops[0]),
            drain=partial(drain, tops[0].attempt),
            after_failure=partial(leave, targets[0]),
        ),
    )


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
        staging: Any = top.staging
        done = finished_units(staging)
        already += len(done)
        here = f"{name}-{first}"
        if k == 0:
            found, last = unit_tasks(here, plan, source, array, top, done)
        else:
            # What lies above is whole once all tasks of the pass before are done.
            above = f"{here}-above"
            tasks[above] = Task(above, _wait, List(*map(TaskRef, ends)))
            halved = HalvedSource(
                open_source(cast(Any, targets[first - 1].staging).array),
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


def channel_labels(
    channels: Sequence[str] | None, axes: str, shape: Sequence[int], path: Path
) -> list[str]:
    """Give the names of all channels: those given, else their numbers, or the image's own."""
    n = shape[axes.index("c")] if "c" in axes else 1
    if channels is None:
        return [str(k) for k in range(n)] if "c" in axes else [path.name.removesuffix(".zarr")]
    names = [channels] if isinstance(channels, str) else [str(c) for c in channels]
    if len(names) != n:
        raise ArgumentError(
            f"channels must be {n} names, as many as the data have channels, got {channels!r}"
        )
    return names


def level_attributes(
    level: Level, axes: str, size: VoxelSize | None, channels: Sequence[str] | None
) -> dict[str, Any]:
    """Give the attributes of a level's array: channel names and the size of its voxels."""
    found: dict[str, Any] = {}
    if channels and axes[0] == "c":
        found["channels"] = list(channels)
    if size is not None:
        times = dict(zip(axes, level.total, strict=True))
        found[ATTRIBUTE] = list(size.scaled([times.get(a, 1) for a in "zyx"]).micrometres)
    return found


def describe_image(
    lowest: Path,
    *,
    metadata: dict[str, Any],
    version: str,
    axes: str,
    shown: tuple[list[str], list[str] | None] | None,
) -> dict[str, Any]:
    """Give the group's attributes: contrast windows are of the lowest level."""
    if shown is None:
        return metadata
    names, colors = shown
    source = open_source(lowest)
    kind = source.dtype.kind
    windows = [_window(_sample(source, axes, k)) for k in range(len(names))]
    info = np.iinfo(source.dtype) if kind in "iu" else None
    limits = (float(info.min), float(info.max)) if info else (0.0, 1.0)
    omero = omero_metadata(names, colors, windows, limits)
    if version == "0.5":
        return {"ome": {**metadata["ome"], "omero": omero}}
    return {**metadata, "omero": omero}


def _sample(source: Source, axes: str, channel: int) -> np.ndarray:
    """Read a channel, or of a large one as many chunks here and there as are 4 million elements."""
    chunks = source.read_shape
    grid = [
        1 if a == "c" else -(-n // c) for a, n, c in zip(axes, source.shape, chunks, strict=True)
    ]
    n_chunks = math.prod(grid)
    wanted = min(n_chunks, max(1, SAMPLED // math.prod(chunks)))
    if wanted == n_chunks:
        return source[tuple(slice(channel, channel + 1) if a == "c" else slice(None) for a in axes)]
    found = []
    for number in np.random.default_rng(0).choice(n_chunks, wanted, replace=False):
        index = np.unravel_index(number, grid)
        at = tuple(
            slice(channel, channel + 1) if a == "c" else slice(int(i) * c, (int(i) + 1) * c)
            for a, i, c in zip(axes, index, chunks, strict=True)
        )
        found.append(source[at].reshape(-1))
    return np.concatenate(found)


def _window(values: np.ndarray) -> tuple[float, float]:
    """Give the 1st and the 99.9th percentile, which most images show well."""
    real = np.abs(values) if values.dtype.kind == "c" else values
    finite = real[np.isfinite(real)] if real.dtype.kind == "f" else real.reshape(-1)
    if not finite.size:
        return 0.0, 1.0
    # Of half a million elements: sorting all of them took a tenth of a small write.
    some = finite[:: max(1, finite.size // SORTED)].astype(np.float64)
    low, high = (float(v) for v in np.percentile(some, (1, 99.9)))
    return (low, high) if high > low else (low, low + 1.0)


def _finish(
    targets: Sequence[Target],
    units: Sequence[Blocks],
    describe: Any,
    overwrite: bool,
    linked: Path | None,
    written: list[Any],
) -> zarr.Group:
    with working(targets[0]):
        return _open(finish_image(targets, units, describe, overwrite, linked))


def _open(path: str | os.PathLike[str]) -> zarr.Group:
    return cast("zarr.Group", open_zarr(path, mode="r+"))
