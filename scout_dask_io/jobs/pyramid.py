"""Levels for an array that stands: an OME-Zarr image whose full level is that array's own files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from scout_dask_io.core.ome_metadata import image_metadata
from scout_dask_io.files.location import AnyPath, RemotePath
from scout_dask_io.jobs.destination import free_nbytes, stored_nbytes
from scout_dask_io.jobs.pyramid_report import PyramidPlan, PyramidReport
from scout_dask_io.jobs.pyramid_source import added_levels
from scout_dask_io.run.progress import Report
from scout_dask_io.store.codecs import LEVEL_CODECS
from scout_dask_io.store.image import level_path, read_image
from scout_dask_io.store.layout import detect_layout
from scout_dask_io.store.usage import measure_array
from scout_dask_io.write.image_attributes import channel_labels, describe_image, level_attributes
from scout_dask_io.write.image_run import write_levels
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.write_arguments import settings_of

__all__ = ["plan_pyramid", "pyramid"]


def pyramid(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    levels: int | None = None,
    labels: bool = False,
    voxel_size: Any = None,
    codec: Any = LEVEL_CODECS,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    durable: bool = False,
    progress: bool | Report = False,
    storage_options: Mapping[str, Any] | None = None,
) -> PyramidReport:
    """Give an array that stands the levels of a pyramid, without writing its pixels again.

    The OME-Zarr image at ``dst`` has hard links to the array's files as level 0,
    and new arrays of the same chunks below it. No file of ``src`` is changed; it
    may be deleted afterwards, and the image stays whole. As long as both stand,
    they share their chunks: a program that rewrites a chunk file in place changes
    both. The image is whole or not there, as with
    :func:`~scout_dask_io.write_ome_zarr`.

    In an object store, which has no links, the store itself copies the objects of
    the array: they take their room twice, and do not pass through this machine.

    Parameters
    ----------
    src : str or path-like
        A Zarr array in nested directories, or an OME-Zarr image whose full level is
        taken; on a disk or at a URL.
    dst : str or path-like
        The image, outside ``src`` and on the same file system, or in the same store.
    levels, labels, voxel_size, codec
        As for :func:`~scout_dask_io.write_ome_zarr`; by default what ``src`` states.
    overwrite, resume, max_mem, nb_workers, durable, progress
        As for :func:`~scout_dask_io.write_ome_zarr`.
    storage_options : dict, optional
        What fsspec needs to reach the URLs.

    Raises
    ------
    PathNotFoundError, LayoutError
        If ``src`` cannot be read; nothing is created.
    ArgumentError
        If it is small enough to need no level, lies on another file system or in another
        store, or is stored in a way that OME-Zarr does not have; nothing is created.
    TargetExistsError, ResumeError, MemoryLimitError, WriteError
        As for :func:`~scout_dask_io.write_ome_zarr`.
    """
    start = time.perf_counter()
    found = added_levels(
        src, dst, levels, labels, voxel_size, codec, overwrite, resume, max_mem, nb_workers,
        storage_options,
    )  # fmt: skip
    image, top, destination = found.image, found.top, found.destination
    axes, size, shapes = image.axes, found.voxel_size, tuple(lv.shape for lv in found.levels)
    metadata = image_metadata(
        destination.name, axes, found.levels, size, version=found.version, method=image.method,
        labels=labels,
    )  # fmt: skip
    labelled = channel_labels(found.channels, axes, shapes[0], destination)
    shown = _shown(found.place, labelled)
    settings = {
        **settings_of(image.write, top, None, found.compressor, found.fill_value, metadata),
        "levels": list(shapes),
        "shown": shown,
    }
    asked = preflight([top], destination)
    describe = partial(
        describe_image, metadata=metadata, version=found.version, axes=axes,
        shown=None if labels else shown,
    )  # fmt: skip
    write_levels(
        destination,
        image,
        top,
        None,
        settings,
        describe,
        arrays=[
            {
                "compressor": found.compressor,
                "fill_value": found.fill_value,
                "attributes": level_attributes(level, axes, size, found.channels),
            }
            for level in found.levels[1:]
        ],
        overwrite=overwrite,
        resume=resume,
        durable=durable,
        compute=True,
        progress=progress,
        asked=asked,
        shared=top.source,
    )
    return PyramidReport(
        src=os.fspath(src),
        path=os.fspath(dst),
        levels=shapes,
        nbytes=found.added_nbytes,
        stored_nbytes=sum(stored_nbytes(destination / str(n)) for n in range(1, len(shapes))),
        copied=isinstance(destination, RemotePath),
        elapsed_s=time.perf_counter() - start,
    )


def plan_pyramid(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    levels: int | None = None,
    labels: bool = False,
    voxel_size: Any = None,
    codec: Any = LEVEL_CODECS,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> PyramidPlan:
    """Give what :func:`pyramid` would do with the same arguments, without writing anything.

    Reads metadata, and lists the files of the array. Whatever :func:`pyramid` would
    refuse before it writes is refused here with the same error; but whether what is
    resumed was begun with the same settings is seen when it is.
    """
    found = added_levels(
        src, dst, levels, labels, voxel_size, codec, overwrite, resume, max_mem, nb_workers,
        storage_options,
    )  # fmt: skip
    image, plan = found.image, found.image.write
    full = level_path(found.place, 0)
    used = measure_array(full, detect_layout(full))
    return PyramidPlan(
        source=os.fspath(src),
        destination=os.fspath(dst),
        replaces=found.replaces,
        resumes=found.resumes,
        levels=tuple(level.shape for level in found.levels),
        chunks=plan.chunks,
        shards=plan.shards,
        version=found.version,
        method=image.method,
        channels=tuple(found.channels or ()),
        voxel_size=found.voxel_size,
        copied=isinstance(found.destination, RemotePath),
        n_shared_files=used.n_files,
        shared_nbytes=used.stored_nbytes,
        nbytes=found.added_nbytes,
        # The group's metadata and manifest, and those of each level that is added.
        n_files=image.n_files + (3 - (found.version == "0.5")) * len(found.levels),
        write=plan,
        n_tasks=image.n_units + len(image.passes),
        free_nbytes=free_nbytes(found.destination),
    )


def _shown(source: AnyPath, names: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Give names and colours of the channels, the latter as an image states them."""
    image = read_image(source)
    colors = () if image is None else image.colors
    return list(names), list(colors) if len(colors) == len(names) else None
