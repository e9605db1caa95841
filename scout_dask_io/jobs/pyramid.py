"""Levels for an array that stands: an OME-Zarr image whose full level is that array's own files.

The array that levels are added to: whether it can have them, and their plan.

What adding levels reports: what it would do, and what it has written.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np

from scout_dask_io.core.downsample import LowerSource, method_for
from scout_dask_io.core.formatting import Row, format_count, format_nbytes, format_s, format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.messages import Option, about
from scout_dask_io.core.ome_metadata import VERSIONS, image_metadata
from scout_dask_io.core.plan import WritePlan
from scout_dask_io.core.pyramid import Level, plan_levels
from scout_dask_io.core.source import Source, ViewSource
from scout_dask_io.core.voxel_size import VoxelSize, VoxelSizeLike
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location
from scout_dask_io.jobs.destination import check_target
from scout_dask_io.jobs.report import JobReport, Planned, levels_text, room_text, voxel_text
from scout_dask_io.read.any import as_image, locate_all, open_any
from scout_dask_io.run.lazy import source_of
from scout_dask_io.run.progress import Report
from scout_dask_io.store.chunk_format import format_of
from scout_dask_io.store.codecs import LevelCodecs
from scout_dask_io.store.image import find_level
from scout_dask_io.store.layout import ArrayUsage, detect_layout, measure_array
from scout_dask_io.store.metadata import Node
from scout_dask_io.store.nodes import open_node, open_with_zarr
from scout_dask_io.write.arguments import compressor_of, settings_of
from scout_dask_io.write.inputs import WriteInput
from scout_dask_io.write.ome_zarr import (
    LevelsRecord,
    arrays_of,
    level_attributes,
    shown_settings,
    with_labels,
    write_levels,
)
from scout_dask_io.write.options import WriteMode, usual_codecs
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.pyramid_plan import ImagePlan, plan_ome_zarr
from scout_dask_io.write.shown import describe_image

_OME = Option("ome", True, of="convert")


def pyramid(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    levels: int | Sequence[Sequence[int]] | None = None,
    factors: Sequence[Sequence[int]] | None = None,
    labels: bool | None = None,
    voxel_size: VoxelSizeLike = None,
    codec: LevelCodecs = "default",
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
    :func:`~scout_dask_io.write_ome_zarr`. On a disk without hard links, as exFAT and many
    network drives are, the files are copied, with a warning.

    In an object store, which has no links, the store itself copies the objects of
    the array: they take their room twice, and do not pass through this machine.

    Parameters
    ----------
    src : str or path-like
        A Zarr array in nested directories, or an OME-Zarr image whose full level is
        taken; on a disk or at a URL.
    dst : str or path-like
        The image, outside ``src`` and on the same file system, or in the same store.
    levels, factors, labels, voxel_size, codec
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
    plan = plan_pyramid(
        src, dst, levels=levels, factors=factors, labels=labels, voxel_size=voxel_size, codec=codec,
        overwrite=overwrite, resume=resume, max_mem=max_mem, nb_workers=nb_workers,
        durable=durable, storage_options=storage_options,
    )  # fmt: skip
    return plan.run(progress)


@dataclass(frozen=True, slots=True)
class PyramidOptions:
    """How :func:`pyramid` adds levels: its parameters but ``progress``, which are said there."""

    levels: int | Sequence[Sequence[int]] | None = None
    factors: Sequence[Sequence[int]] | None = None
    labels: bool | None = None
    voxel_size: VoxelSizeLike = None
    codec: LevelCodecs = "default"
    overwrite: bool = False
    resume: bool = False
    max_mem: int | str | None = None
    nb_workers: int | None = None
    durable: bool = False
    storage_options: Mapping[str, Any] | None = None


def plan_pyramid(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], **options: Any
) -> PyramidPlan:
    """Give what :func:`pyramid` would do with the same arguments, without writing anything.

    Reads metadata, and lists the files of the array. Whatever :func:`pyramid` would
    refuse before it writes is refused here with the same error; but whether what is
    resumed was begun with the same settings is seen when it is.
    """
    start = time.perf_counter()
    how = PyramidOptions(**options)
    _, lower = usual_codecs(how.codec)
    place, destination = locate_all(src, dst, how.storage_options)
    replaces, resumes = check_target(place, destination, overwrite=how.overwrite, resume=how.resume)
    opened = open_any(place, voxel_size=how.voxel_size)
    if opened.kind != "zarr":
        raise ArgumentError(f"{place} is no Zarr array: use convert with " + _OME)
    full, _ = find_level(open_node(place), 0)
    _check_stored(full, destination)
    with about(place):
        data, info = as_image(opened)
    labels = info.labels if how.labels is None else how.labels
    info = replace(info, labels=labels)
    axes, size = info.axes, info.voxel_size
    source = source_of(data)
    if not isinstance(source, Source) or isinstance(source, ViewSource):
        raise ArgumentError(
            f"{place} has its axes in the order {opened.axes!r}, OME-Zarr in the order "
            "'tczyx': use convert with " + _OME
        )
    levels = plan_levels(source.shape, axes, size, how.levels, how.factors)
    if len(levels) < 2:
        raise ArgumentError(
            f"{place} is {format_shape(source.shape)}: as small as the last level of a "
            "pyramid, so there is none to add. "
            + Option("levels", "")
            + " says how many the image is to have."
        )
    times = dict(zip(axes, levels[1].total, strict=True))
    top = LowerSource(source, levels[1].factors, method_for(np.dtype(source.dtype), labels))
    stored: Any = open_with_zarr(full)
    version = {of: v for v, of in VERSIONS.items()}[stored.metadata.zarr_format]
    image = plan_ome_zarr(
        top,
        stored.chunks,
        factors=[level.factors for level in levels[2:]],
        axes=axes,
        labels=labels,
        voxel_size=None if size is None else size.scaled([times.get(a, 1) for a in "zyx"]),
        version=version,
        shards=stored.shards if version == "0.5" else None,
        codec=lower,
        max_mem=how.max_mem,
        nb_workers=how.nb_workers,
    )
    fill = None if stored.fill_value is None else np.asarray(stored.fill_value).item()
    shapes = tuple(level.shape for level in levels)
    return PyramidPlan(
        source=os.fspath(src),
        destination=os.fspath(dst),
        replaces=replaces,
        resumes=resumes,
        levels=shapes,
        chunks=image.write.chunks,
        shards=image.write.shards,
        version=version,
        method=image.method,
        channels=info.names,
        voxel_size=size,
        copied=destination.shares_by_copies,
        nbytes=sum(map(math.prod, shapes[1:])) * int(top.dtype.itemsize),
        # The group's metadata and manifest, and those of each level that is added.
        n_files=image.n_files + (3 - (version == "0.5")) * len(levels),
        write=image.write,
        n_tasks=image.n_units + len(image.passes),
        free_nbytes=destination.free_nbytes(),
        _job=_Job(
            how, place, destination, levels, top, image, compressor_of(image.write, lower), fill,
            info, cache(partial(_measure, full)), took_s=time.perf_counter() - start,
        ),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Job:
    """What a plan needs to run.

    Attributes
    ----------
    place, destination : Path or RemoteLocation
        Of the array or image that stands, and of the new image.
    levels : tuple of Level
        The full one, which stands, first.
    top : LowerSource
        Gives the first of those that are added.
    image, compressor
        Of those that are added.
    fill_value : int, float, bool or None
        Of every level.
    info : ImageInfo
        What the array states.
    measure : callable
        Lists the files of the array, once.
    took_s : float
        What the planning took.
    """

    how: PyramidOptions
    place: Location
    destination: Location
    levels: tuple[Level, ...]
    top: LowerSource
    image: ImagePlan
    compressor: Any
    fill_value: Any
    info: ImageInfo
    measure: Callable[[], ArrayUsage]
    took_s: float


def _measure(node: Node) -> ArrayUsage:
    return measure_array(node, detect_layout(node))


def _check_stored(node: Node, destination: Location) -> None:
    """Refuse an array that cannot be level 0 as it is stored."""
    array, layout = node.location, detect_layout(node)
    if format_of(layout.metadata, layout.separator) is None or not layout.nested or (
        layout.zarr_format == 2 and "dimension_separator" not in layout.metadata
    ):  # fmt: skip
        raise ArgumentError(
            f"{array} does not say that its chunks are nested, or is no plain array of numbers "
            "(dtype, filters, compressor), as OME-Zarr asks: use repair where only the metadata "
            "are old, else convert with " + _OME
        )
    if not destination.can_share_files(array):
        raise ArgumentError(
            f"{destination} and {array} lie on different file systems or stores, which cannot "
            "share files: choose a destination beside the array, or use convert with " + _OME
        )


@dataclass(frozen=True, slots=True)
class PyramidReport(JobReport):
    """What :func:`pyramid` wrote.

    Attributes
    ----------
    plan : PyramidPlan
        What was planned, and what is said of it there: ``levels``, ``nbytes``, ``copied``;
        ``src`` and ``path`` are its source and destination.
    stored_nbytes : int
        Size of the files of the levels that were added, in bytes.
    elapsed_s : float
        From opening the array to the image standing at ``path``.
    """

    src = Planned[str]("source")
    path = Planned[str]("destination")
    levels = Planned[tuple[Shape, ...]]("levels")
    nbytes = Planned[int]("nbytes")
    copied = Planned[bool]("copied")
    plan: PyramidPlan
    stored_nbytes: int
    elapsed_s: float

    def title(self) -> str:
        """Say where the image stands."""
        return f"Wrote {self.path}"

    def rows(self) -> Iterable[Row]:
        """Say what it is made of."""
        full = f"the files of {self.src}, shared with it: change neither in place"
        if self.copied:
            full = f"the objects of {self.src}, copied by the store"
        added = format_count(len(self.levels) - 1, "level")
        sizes = f"{format_nbytes(self.nbytes)}, {format_nbytes(self.stored_nbytes)} on disk"
        yield "levels", levels_text(self.levels)
        yield "added", f"{added}, {sizes}"
        yield "full", full
        yield "took", format_s(self.elapsed_s)


@dataclass(frozen=True, slots=True)
class PyramidPlan(JobReport):
    """What :func:`pyramid` would do.

    Attributes
    ----------
    source, destination : str
        Paths.
    replaces, resumes : bool
        Whether an image at the destination would be replaced, and whether an
        unfinished write of it would be finished.
    levels : tuple of tuple of int
        Shapes, the full level first.
    chunks : tuple of int
        Of every level, in elements.
    shards : tuple of int or None
        Extent of a shard of every level, where there are shards.
    version : str
        Of the OME-Zarr metadata, ``"0.4"`` or ``"0.5"``.
    method : str
        How the levels are made: ``"mean"``, ``"mode"`` or ``"nearest"``.
    channels : tuple of str
        Names of the channels, where there are any.
    voxel_size : VoxelSize or None
        Of the full level.
    copied : bool
        Whether the store would copy the full level, instead of a link.
    nbytes : int
        Size of the elements of the levels that would be added, in bytes.
    n_files : int
        New files at most, without those: a chunk that is all fill value has none.
    write : WritePlan
        Of the first level that is added, and those made with it.
    n_tasks : int
        Tasks that dask would run: one a unit, and those that wait for them.
    free_nbytes : int or None
        Free on the destination's disk, in bytes; an object store does not say.
    """

    source: str
    destination: str
    replaces: bool
    resumes: bool
    levels: tuple[Shape, ...]
    chunks: Shape
    shards: Shape | None
    version: str
    method: str
    channels: tuple[str, ...]
    voxel_size: VoxelSize | None
    copied: bool
    nbytes: int
    n_files: int
    write: WritePlan
    n_tasks: int
    free_nbytes: int | None
    _job: _Job = field(repr=False, compare=False)

    @property
    def n_shared_files(self) -> int:
        """Files of the array that would be linked or copied."""
        return self._job.measure().n_files

    @property
    def shared_nbytes(self) -> int:
        """Size of these files, in bytes."""
        return self._job.measure().stored_nbytes

    def run(self, progress: bool | Report = False) -> PyramidReport:
        """Do it, and give what was written; errors are those of :func:`pyramid`."""
        start = time.perf_counter()
        job, how, image = self._job, self._job.how, self._job.image
        destination, top, pixels = job.destination, job.top, WriteInput(job.top)
        info = job.info
        metadata = image_metadata(
            destination.name, info, job.levels, version=self.version, method=self.method
        )
        shown = with_labels(info, self.levels[0], destination)
        settings = {
            **settings_of(image.write, pixels, job.compressor, job.fill_value, metadata),
            "levels": list(self.levels),
            **shown_settings(shown),
        }
        describe = partial(describe_image, metadata=metadata, version=self.version, info=shown)
        preflight([top], destination)
        codecs = (job.compressor, job.compressor)
        attributes = (level_attributes(level, info) for level in job.levels[1:])
        record = LevelsRecord(settings, describe, arrays_of(codecs, job.fill_value, attributes))
        mode = WriteMode(how.overwrite, how.resume, how.durable, progress=progress)
        write_levels(destination, image, pixels, record, mode, shared=top.source)
        n_levels = len(self.levels)
        return PyramidReport(
            plan=self,
            stored_nbytes=sum(
                size for n in range(1, n_levels) for _, size in (destination / str(n)).find()
            ),
            elapsed_s=job.took_s + time.perf_counter() - start,
        )

    def title(self) -> str:
        """Say what is to become of what."""
        return f"Would add levels to {self.source} at {self.destination}; nothing was written"

    def rows(self) -> Iterable[Row]:
        """Say what the image would be, and what it would take."""
        write = self.write
        shards = f" in shards of {format_shape(self.shards)}" if self.shards else ""
        how = "copied by the store" if self.copied else "linked"
        files = format_count(self.n_shared_files, "object" if self.copied else "file")
        return [
            ("image", f"OME-Zarr {self.version}"),
            ("levels", levels_text(self.levels)),
            ("channels", ", ".join(self.channels)),
            ("voxel", voxel_text(self.voxel_size)),
            ("full", f"{files} of {self.source}, {format_nbytes(self.shared_nbytes)}, {how}"),
            ("added", f"{format_count(len(self.levels) - 1, 'level')} by {self.method}"),
            ("chunks", format_shape(self.chunks) + shards),
            ("tasks", f"{self.n_tasks:,}: one a unit, and those that publish the image"),
            *(row for row in write.rows() if row[0] in ("workers", "memory", "reads")),
            ("files", f"{self.n_files:,} new at most"),
            ("disk", room_text(self.nbytes, self.free_nbytes)),
            ("replaces", f"the image at {self.destination}" if self.replaces else ""),
            ("resumes", "the unfinished write beside it" if self.resumes else ""),
        ]
