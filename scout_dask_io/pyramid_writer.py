"""An OME-Zarr image written in one go: its levels from the same pixels, whole or absent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dask
import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.delayed import Delayed, delayed

from scout_dask_io.calibration import size_for
from scout_dask_io.downsample import HalvedSource
from scout_dask_io.errors import ArgumentError
from scout_dask_io.filled import attributes_with_filled
from scout_dask_io.grid import Blocks
from scout_dask_io.image_plan import ImagePlan, plan_ome_zarr, plan_pass
from scout_dask_io.ome import check_colors, image_metadata, omero_metadata
from scout_dask_io.preflight import preflight
from scout_dask_io.pyramid import Level
from scout_dask_io.source import Source
from scout_dask_io.store.create import local_path
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.growing import finished_units, is_finished
from scout_dask_io.store.growing_image import begin_image, finish_image, resume_image
from scout_dask_io.store.staging import check_destination, discard_staging
from scout_dask_io.store.units import Lower, Target, cancel, drain, working
from scout_dask_io.store.zarr_source import open_source
from scout_dask_io.voxel import ATTRIBUTE, VoxelSize
from scout_dask_io.write_arguments import (
    check_fill,
    compressor_of,
    readable,
    settings_of,
)
from scout_dask_io.write_run import leave, run_write
from scout_dask_io.write_tasks import level_tasks, unit_tasks

if TYPE_CHECKING:
    import zarr

__all__ = ["write_ome_zarr"]


def write_ome_zarr(
    path: str | os.PathLike[str],
    data: Any,
    chunks: int | Sequence[int] = (64, 64, 64),
    *,
    levels: int | None = None,
    axes: str | None = None,
    labels: bool = False,
    method: str | None = None,
    channels: Sequence[str] | None = None,
    colors: Sequence[str] | None = None,
    voxel_size: Any = None,
    version: str = "0.4",
    shards: int | Sequence[int] | None = None,
    codec: Any = "zstd",
    fill_value: Any = 0,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    durable: bool = False,
    compute: bool = True,
    progress: Any = False,
) -> zarr.Group | Delayed:
    """Stream an array into an OME-Zarr image: a group of levels, each half as large as the last.

    Level 0 holds the data as :func:`write_zarr` would; the levels below are made
    from the same pixels while they are in memory, as many as whole chunks allow,
    the others from the level above. y and x are halved alone until voxels are
    near isotropic (no edge 1.41 times another), where their size is known. The
    group appears at ``path`` whole, by one rename, and every level has its
    manifest; ``resume=True`` finishes an interrupted write.

    Parameters
    ----------
    path : str or path-like
        The group's directory.
    data : dask.array.Array or numpy.ndarray
        ``(y, x)``, ``(z, y, x)``, ``(c, z, y, x)`` or ``(t, c, z, y, x)``, unless ``axes``
        say otherwise.
    chunks : int or sequence of int
        Chunk extents of every level for the last axes, in elements.
    levels : int, optional
        How many, with level 0. By default down to one that is at most 256 wide,
        high and deep.
    axes : str, optional
        A letter an axis where it is another one than by their number, such as ``"tzyx"``.
    labels : bool
        The data are labels: lower levels hold the most frequent label, and no
        contrast is noted.
    method : {"mean", "mode", "nearest"}, optional
        How pairs become one; ``"mean"`` of images (rounded to the nearest whole
        number, halves to the even one), ``"mode"`` of labels and bools.
    channels : sequence of str, optional
        Names, as many as the axis ``c`` is long; with three axes, the first is ``c``.
    colors : sequence of str, optional
        As many, six hexadecimal digits each, such as ``"00FF00"``.
    voxel_size : VoxelSize or sequence of float, optional
        ``(z, y, x)`` in micrometres, of level 0; by default what
        :func:`voxel_size` finds for data as a reader gave them.
    version : {"0.4", "0.5"}
        Of OME-Zarr: 0.4 on Zarr v2, 0.5 on Zarr v3.
    shards : int or sequence of int, optional
        Extent of a shard; version 0.5 alone.
    codec, fill_value, overwrite, resume, max_mem, nb_workers, durable, compute, progress
        As for :func:`write_zarr`.

    Returns
    -------
    zarr.Group or Delayed
        The finished group, open for reading and writing.

    Raises
    ------
    ArgumentError, ChunkError, MemoryLimitError, TargetExistsError, ResumeError, WriteError
        As :func:`write_zarr`.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> volume = np.arange(8 * 600 * 500, dtype="u2").reshape(8, 600, 500)
    >>> group = write_ome_zarr(tempfile.mkdtemp() + "/a.zarr", volume, voxel_size=(4, 1, 1))
    >>> group["2"].shape, group["2"].attrs["voxel_size_um"]
    ((8, 150, 125), [4.0, 4.0, 4.0])
    """
    destination = local_path(path)
    image = plan_ome_zarr(
        data, chunks, levels=levels, axes=axes, labels=labels, method=method, channels=channels,
        voxel_size=voxel_size, version=version, shards=shards, codec=codec, max_mem=max_mem,
        nb_workers=nb_workers,
    )  # fmt: skip
    plan = image.write
    source, array = readable(data)
    check_fill(fill_value, plan.dtype)
    compressor = compressor_of(plan, codec)
    size = size_for(data, voxel_size)
    names = _check_names(channels, image.axes, plan.shape, destination)
    shown = check_colors(colors, len(names))
    metadata = image_metadata(
        destination.name, image.axes, image.levels, size, version=version, method=image.method,
        labels=labels,
    )  # fmt: skip
    attributes = [_level_attributes(lv, image.axes, size, channels) for lv in image.levels]
    attributes[0] = attributes_with_filled(attributes[0], data) or {}
    settings = {
        **settings_of(plan, source, array, compressor, fill_value, metadata),
        "levels": [level.shape for level in image.levels],
        "shown": [names, shown],
    }
    if compute:
        preflight([data], destination)
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
            {**settings, "passes": [(first, p.units) for first, p in image.passes]},
            plan=plan,
            axes=image.axes,
            codec=compressor,
            fill_value=fill_value,
            attributes=attributes,
            overwrite=overwrite,
            durable=durable,
        )  # fmt: skip
    else:
        targets, begun = resumed
        plans = [image.write if n == 0 else plan_pass(plan, image.levels, n) for n, _ in begun]
        image = replace(
            image,
            passes=tuple((n, replace(p, units=u)) for p, (n, u) in zip(plans, begun, strict=True)),
        )
    if compute and array is not None and source is None:
        # Slices are fused into the reads under them.
        (array,) = dask.optimize(array)
    tops = _with_lower(image, targets)
    name = f"write-{targets[0].staging.job_id}"
    tasks, units, ends, already = _image_tasks(name, image, tops, source, array)
    final = f"{name}-publish"
    describe = partial(
        _describe, metadata=metadata, version=version, axes=image.axes,
        shown=None if labels else (names, shown),
    )  # fmt: skip
    of_levels = [image.units_of(n) for n in range(len(targets))]
    tasks[final] = Task(
        final, _finish, targets, of_levels, describe, overwrite, List(*map(TaskRef, ends))
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
                open_source(staging.job / "array" / str(first - 1)),
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


def _check_names(
    channels: Sequence[str] | None, axes: str, shape: Sequence[int], path: Path
) -> list[str]:
    n = shape[axes.index("c")] if "c" in axes else 1
    if channels is None:
        return [str(k) for k in range(n)] if "c" in axes else [path.name.removesuffix(".zarr")]
    names = [channels] if isinstance(channels, str) else [str(c) for c in channels]
    if len(names) != n:
        raise ArgumentError(
            f"channels must be {n} names, as many as the data have channels, got {channels!r}"
        )
    return names


def _level_attributes(
    level: Level, axes: str, size: VoxelSize | None, channels: Sequence[str] | None
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if channels and axes[0] == "c":
        found["channels"] = list(channels)
    if size is not None:
        times = dict(zip(axes, level.total, strict=True))
        found[ATTRIBUTE] = list(size.scaled([times.get(a, 1) for a in "zyx"]).micrometres)
    return found


def _describe(
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
    windows = []
    for k in range(len(names)):
        at = tuple(slice(k, k + 1) if a == "c" else slice(None) for a in axes)
        windows.append(_window(source[at]))
    info = np.iinfo(source.dtype) if kind in "iu" else None
    limits = (float(info.min), float(info.max)) if info else (0.0, 1.0)
    omero = omero_metadata(names, colors, windows, limits)
    if version == "0.5":
        return {"ome": {**metadata["ome"], "omero": omero}}
    return {**metadata, "omero": omero}


def _window(values: np.ndarray) -> tuple[float, float]:
    """Give the 1st and the 99.9th percentile, which most images show well."""
    real = np.abs(values) if values.dtype.kind == "c" else values
    finite = real[np.isfinite(real)] if real.dtype.kind == "f" else real.reshape(-1)
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite.astype(np.float64), (1, 99.9)))
    return (low, high) if high > low else (low, low + 1.0)


def _finish(
    targets: Sequence[Target],
    units: Sequence[Blocks],
    describe: Any,
    overwrite: bool,
    written: list[Any],
) -> zarr.Group:
    with working(targets[0]):
        return _open(finish_image(targets, units, describe, overwrite))


def _open(path: str | os.PathLike[str]) -> zarr.Group:
    return cast("zarr.Group", open_zarr(path, mode="r+"))
