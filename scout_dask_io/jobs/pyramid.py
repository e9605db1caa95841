"""Levels for an array that stands: an OME-Zarr image whose full level is that array's own files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from scout_dask_io.downsample import HalvedSource, method_for
from scout_dask_io.errors import ArgumentError
from scout_dask_io.grid import Shape
from scout_dask_io.human import format_count, format_nbytes, format_s, format_shape
from scout_dask_io.image_plan import plan_ome_zarr
from scout_dask_io.image_run import (
    channel_labels,
    describe_image,
    level_attributes,
    write_levels,
)
from scout_dask_io.jobs.destination import check_target, stored_nbytes
from scout_dask_io.jobs.image import as_image
from scout_dask_io.jobs.json_text import to_json
from scout_dask_io.jobs.sources import locate_all, open_any
from scout_dask_io.lazy import source_of
from scout_dask_io.levels import plan_levels
from scout_dask_io.ome import VERSIONS, image_metadata
from scout_dask_io.preflight import preflight
from scout_dask_io.progress import Report
from scout_dask_io.remote import AnyPath, RemotePath
from scout_dask_io.source import Source, ViewSource
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.formats import format_at
from scout_dask_io.store.image import level_path, read_image
from scout_dask_io.store.layout import detect_layout
from scout_dask_io.write_arguments import compressor_of, settings_of

__all__ = ["PyramidReport", "pyramid"]


@dataclass(frozen=True, slots=True)
class PyramidReport:
    """What :func:`pyramid` wrote.

    Attributes
    ----------
    src, path : str
        The array, and the group of the image.
    levels : tuple of tuple of int
        Shapes, the full level first.
    nbytes, stored_nbytes : int
        Size of the elements of the levels that were added, and of their files, in bytes.
    copied : bool
        Whether the full level is a copy that the store made, and no link.
    elapsed_s : float
        From opening the array to the image standing at ``path``.
    """

    src: str
    path: str
    levels: tuple[Shape, ...]
    nbytes: int
    stored_nbytes: int
    copied: bool
    elapsed_s: float

    def to_json(self) -> str:
        """Give the report as JSON."""
        return to_json(self)

    def render(self) -> str:
        """Give the report as text."""
        shapes = ", ".join(map(format_shape, self.levels))
        full = f"the files of {self.src}, shared with it: change neither in place"
        if self.copied:
            full = f"the objects of {self.src}, copied by the store"
        return (
            f"Wrote {self.path}\n"
            f"  levels    {len(self.levels)}: {shapes}\n"
            f"  added     {format_count(len(self.levels) - 1, 'level')}, "
            f"{format_nbytes(self.nbytes)}, {format_nbytes(self.stored_nbytes)} on disk\n"
            f"  full      {full}\n"
            f"  took      {format_s(self.elapsed_s)}"
        )


def pyramid(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    levels: int | None = None,
    labels: bool = False,
    voxel_size: Any = None,
    codec: Any = "zstd",
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
    source_path, destination = locate_all(src, dst, storage_options)
    check_target(source_path, destination, overwrite=overwrite, resume=resume)
    opened = open_any(source_path, voxel_size=voxel_size)
    full = level_path(source_path, 0)
    if opened.kind != "zarr":
        raise ArgumentError(f"{source_path} is no Zarr array: use convert with ome=True")
    _check_stored(full, destination)
    data, axes, names = as_image(opened)
    source = source_of(data)
    if not isinstance(source, Source) or isinstance(source, ViewSource):
        raise ArgumentError(
            f"{source_path} has its axes in the order {opened.axes!r}, OME-Zarr in the order "
            "'tczyx': use convert with ome=True"
        )
    size = opened.voxel_size
    found = plan_levels(source.shape, axes, size, levels)
    if len(found) < 2:
        raise ArgumentError(
            f"{source_path} is {format_shape(source.shape)}: as small as the last level of a "
            "pyramid, so there is none to add. levels= says how many the image is to have."
        )
    times = dict(zip(axes, found[1].total, strict=True))
    method = method_for(np.dtype(source.dtype), labels)
    top = HalvedSource(source, found[1].factors, method)
    stored: Any = open_zarr(full, mode="r")
    version = {of: v for v, of in VERSIONS.items()}[stored.metadata.zarr_format]
    image = plan_ome_zarr(
        top,
        stored.chunks,
        levels=len(found) - 1,
        axes=axes,
        labels=labels,
        voxel_size=None if size is None else size.scaled([times.get(a, 1) for a in "zyx"]),
        version=version,
        shards=stored.shards if version == "0.5" else None,
        codec=codec,
        max_mem=max_mem,
        nb_workers=nb_workers,
    )
    metadata = image_metadata(
        destination.name, axes, found, size, version=version, method=method, labels=labels
    )
    shown = _shown(source_path, channel_labels(names, axes, source.shape, destination))
    compressor = compressor_of(image.write, codec)
    fill = None if stored.fill_value is None else np.asarray(stored.fill_value).item()
    settings = {
        **settings_of(image.write, top, None, compressor, fill, metadata),
        "levels": [level.shape for level in found],
        "shown": shown,
    }
    asked = preflight([top], destination)
    describe = partial(
        describe_image, metadata=metadata, version=version, axes=axes,
        shown=None if labels else shown,
    )  # fmt: skip
    write_levels(
        destination,
        image,
        top,
        None,
        settings,
        describe,
        array_settings={
            "compressor": compressor,
            "fill_value": fill,
        },
        attributes=[level_attributes(lv, axes, size, names) for lv in found[1:]],
        overwrite=overwrite,
        resume=resume,
        durable=durable,
        compute=True,
        progress=progress,
        asked=asked,
        shared=source,
    )
    shapes = tuple(level.shape for level in found)
    return PyramidReport(
        src=os.fspath(src),
        path=os.fspath(dst),
        levels=shapes,
        nbytes=sum(int(np.prod(s)) for s in shapes[1:]) * source.dtype.itemsize,
        stored_nbytes=sum(stored_nbytes(destination / str(n)) for n in range(1, len(shapes))),
        copied=isinstance(destination, RemotePath),
        elapsed_s=time.perf_counter() - start,
    )


def _check_stored(array: AnyPath, destination: AnyPath) -> None:
    """Refuse an array that cannot be level 0 as it is stored."""
    layout = detect_layout(array)
    if format_at(array) is None or not layout.nested or (
        layout.zarr_format == 2 and "dimension_separator" not in layout.metadata
    ):  # fmt: skip
        raise ArgumentError(
            f"{array} does not say that its chunks are nested, or is no plain array of numbers, "
            "as OME-Zarr asks: use repair where only the metadata are old, else convert with "
            "ome=True"
        )
    if not _lie_together(array, destination):
        raise ArgumentError(
            f"{destination} and {array} lie on different file systems or stores, which cannot "
            "share files: choose a destination beside the array, or use convert with ome=True"
        )


def _lie_together(array: AnyPath, destination: AnyPath) -> bool:
    if isinstance(array, RemotePath) and isinstance(destination, RemotePath):
        return bool(array.fs is destination.fs)
    if isinstance(array, RemotePath) or isinstance(destination, RemotePath):
        return False
    there = destination.parent
    while not there.exists():
        there = there.parent
    return there.stat().st_dev == array.stat().st_dev


def _shown(source: AnyPath, names: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Give names and colours of the channels, the latter as an image states them."""
    image = read_image(source)
    colors = [] if image is None else [c for c in image.colors if len(c) == 6]
    return list(names), colors if len(colors) == len(names) else None
