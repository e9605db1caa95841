"""Writing the levels of an image: the tasks of its passes, and its metadata at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import dask
import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.delayed import Delayed, delayed

from scout_dask_io.cluster import Asked
from scout_dask_io.downsample import HalvedSource
from scout_dask_io.errors import ArgumentError
from scout_dask_io.findings import Subject
from scout_dask_io.grid import Blocks
from scout_dask_io.image_plan import ImagePlan, plan_pass
from scout_dask_io.levels import Level
from scout_dask_io.ome import omero_metadata
from scout_dask_io.qc_run import put_sheet
from scout_dask_io.remote import AnyPath
from scout_dask_io.source import Source
from scout_dask_io.store.beside import check_beside
from scout_dask_io.store.create import local_path
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.growing import NewArray, is_finished
from scout_dask_io.store.place import Place, place_of
from scout_dask_io.store.units import Lower, Target, working
from scout_dask_io.store.zarr_source import open_source
from scout_dask_io.voxel import ATTRIBUTE, VoxelSize
from scout_dask_io.write_arguments import check_remote
from scout_dask_io.write_run import run_write
from scout_dask_io.write_tasks import level_tasks, unit_tasks

if TYPE_CHECKING:
    import zarr

__all__ = ["channel_labels", "describe_image", "level_attributes", "write_levels"]

# Elements of a channel that are read to measure its contrast, and that are sorted for it.
SAMPLED, SORTED = 2**22, 2**19


def write_levels(
    destination: AnyPath,
    image: ImagePlan,
    source: Source | None,
    array: da.Array | None,
    settings: dict[str, Any],
    describe: Callable[[Any], dict[str, Any]],
    *,
    array_settings: dict[str, Any],
    attributes: Sequence[dict[str, Any]],
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
    ``attributes`` are those of each level. With ``shared``, the source of an array that
    stands, that becomes level 0 as it is stored, and the plan's levels come after it. With
    ``subject``, what the planes of level 0 are like is gathered and put beside the group.
    ``asked`` is what ``preflight`` gave.
    """
    place, first = place_of(destination), int(shared is not None)
    settings = {**settings, "first": first, "qc": subject is not None}
    numbers = range(first, first + len(image.levels))
    resumed = place.resume(settings, numbers, durable=durable) if resume else None
    if resumed is None and resume and not overwrite and is_finished(destination, settings):
        return _open(destination) if compute else cast(Any, delayed(_open)(destination))
    if subject is not None:
        check_beside(local_path(destination), overwrite=overwrite)
    if resumed is None:
        data = array if source is None else source
        check_remote(destination, image.write, data, overwrite=overwrite)
        new = _new_arrays(image, numbers, array_settings, attributes)
        noted = {**settings, "passes": [(first + n, p.units) for n, p in image.passes]}
        targets = place.begin(new, noted, overwrite=overwrite, durable=durable)
    else:
        targets, stored = resumed
        image = _as_begun(image, [(n - first, units) for n, units in stored["passes"]])
    if compute and array is not None and source is None:
        # Slices are fused into the reads under them.
        (array,) = dask.optimize(array)
    tops = _with_lower(image, targets)
    tops[0] = replace(tops[0], qc=subject is not None)
    name = f"write-{targets[0].staging.job_id}"
    tasks, units, ends, already = _image_tasks(name, image, place, targets, tops, source, array)
    final = f"{name}-publish"
    of_levels = [image.units_of(n) for n in range(len(targets))]
    tasks[final] = Task(
        final, _finish, targets, of_levels, describe, overwrite, shared, subject,
        List(*map(TaskRef, ends)),
    )  # fmt: skip
    return cast(
        "zarr.Group | Delayed",
        run_write(
            tasks,
            final,
            units,
            array if source is None else None,
            tops[0],
            image.write,
            compute=compute,
            progress=progress,
            already=already,
            asked=asked,
        ),
    )


def _new_arrays(
    image: ImagePlan,
    numbers: Sequence[int],
    array_settings: dict[str, Any],
    attributes: Sequence[dict[str, Any]],
) -> list[NewArray]:
    """Give the levels as arrays that are to grow."""
    plan = image.write
    if plan.zarr_format == 3:
        # Version 0.5 asks for the axes' names in the arrays too; Zarr v2 has no place for them.
        of_v3 = {"zarr_format": 3, "shards": plan.shards, "dimension_names": list(image.axes)}
        array_settings = {**array_settings, **of_v3}
    return [
        NewArray(level.shape, plan.chunks, plan.dtype, {**array_settings, "attributes": own}, n)
        for n, level, own in zip(numbers, image.levels, attributes, strict=True)
    ]


def _as_begun(image: ImagePlan, passes: Sequence[tuple[int, Any]]) -> ImagePlan:
    """Give a plan with the units that an earlier run has begun with."""
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


def channel_labels(
    channels: Sequence[str] | None, axes: str, shape: Sequence[int], path: AnyPath
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
    lowest: AnyPath,
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
