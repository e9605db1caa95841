"""Exporting a stored array as TIFF: a folder of planes, one file, ImageJ's or OME's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scout_dask_io.core.axes import in_order
from scout_dask_io.core.formatting import (
    Row,
    format_count,
    format_nbytes,
    format_s,
    format_shape,
    memory_text,
    read_text,
)
from scout_dask_io.core.grid import Shape, region_size
from scout_dask_io.core.image_info import FilledPlane
from scout_dask_io.core.messages import about, warn
from scout_dask_io.core.voxel_size import VoxelSize, VoxelSizeLike
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import is_path, locate
from scout_dask_io.files.remote import is_url
from scout_dask_io.jobs.export_engine import Job, plan_parts, run
from scout_dask_io.jobs.export_files import (
    file_kind,
    for_imagej,
    lay_out,
    make_folders,
    name_files,
    standing,
)
from scout_dask_io.jobs.export_selection import select
from scout_dask_io.jobs.export_values import Clipped, plan_conversion
from scout_dask_io.jobs.report import (
    JobReport,
    Planned,
    array_text,
    filled_rows,
    room_text,
    voxel_text,
)
from scout_dask_io.read.missing_planes import filled_in
from scout_dask_io.run.memory import resolve_max_mem
from scout_dask_io.run.progress import Report, reporting
from scout_dask_io.run.scheduler import worker_count

_KINDS = {
    "planes": "one plane a file",
    "tiff": "one of all planes",
    "imagej": "a hyperstack for ImageJ",
    "ome": "an OME-TIFF",
}


def export(
    src: Any,
    out: str | os.PathLike[str],
    *,
    level: int | None = None,
    axis: str = "z",
    region: Any = None,
    dtype: Any = None,
    scale: Sequence[float] | None = None,
    imagej: bool = False,
    n_levels: int | None = None,
    compress: int | None = None,
    voxel_size: VoxelSizeLike = None,
    nb_workers: int | None = None,
    max_mem: int | str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | Report = False,
    storage_options: Mapping[str, Any] | None = None,
) -> ExportReport:
    """Write a stored array, or a part of it, as TIFF.

    What is written depends on ``out``:

    - a folder: ``z0000.tif``, ``z0001.tif`` … of a ``(z, y, x)`` array; of a
      ``(c, z, y, x)`` array one folder of these a channel, ``c0``, ``c1`` …, which
      :func:`imread_channels` reads;
    - ``NAME.tif``: one file of all planes, BigTIFF where it may exceed 4 GB; with
      ``imagej=True`` a hyperstack of axes TZCYX that Fiji and ImageJ open, its
      display range set to the least and greatest value of each channel. Above
      4 GB ImageJ's own convention is used, one directory and then all pixels;
    - ``NAME.ome.tif``: an OME-TIFF in tiles of 256 x 256, with a pyramid: each
      level half the height and width of the one before, until one fits in a
      tile. Levels are means of 2 x 2 pixels; of masks, of labels as their source
      states them and of integers above 16 bits, which mostly are labels, the most
      frequent of the four.

    The voxel size and the names and colours of channels go into the file in its own
    way, as far as it has one.

    Threads of this process read rows of whole chunks, each chunk once, also where
    a dask cluster is active. Memory is ``nb_workers + 2`` times what a row of
    chunks takes (the planes of a chunk, its rows, the array's whole width), and
    for tiles and levels what does not yet make a row of them. Where that exceeds
    ``max_mem``, fewer threads run; where one is too many, they take fewer planes
    at a time and decode chunks more than once.

    Every file appears when it is whole. After a failure the planes of earlier
    slabs stand, the others are absent or as they were, and no part of a file
    is left.

    Parameters
    ----------
    src : str, path-like, Source or dask.array.Array
        Path or URL of a Zarr array or of an OME-Zarr group, or of files as :func:`convert`
        reads them without further options; or a source, or a lazy array as a reader gave it.
    out : str or path-like
        The file or the folder, on a disk; its parent must exist.
    level : int, optional
        Of an OME-Zarr group: 0, the full size, by default.
    axis : {"z", "y", "x"}
        What the planes lie along: of ``"y"`` they have rows z and columns x, of
        ``"x"`` rows z and columns y.
    region : sequence of slice or of (start, stop), optional
        The part to export, for every axis or for the last ones, in elements of
        the level.
    dtype : data-type, optional
        To write; the array's own by default. One that does not hold every value
        needs ``scale``.
    scale : (low, high), optional
        The values that become the least and the greatest of an integer dtype, or
        0 and 1 of a float. What lies beyond is clipped, and counted.
    imagej : bool
        Write an ImageJ hyperstack; of uint8, uint16 or float32.
    n_levels : int, optional
        Levels of an OME-TIFF, 1 for no pyramid.
    compress : int, optional
        0 uncompressed, 1 (fast) to 9 (small) Deflate; lossless. By default 1,
        and 0 for ImageJ, which maps such files instead of loading them.
    voxel_size : VoxelSize or sequence of float, optional
        ``(z, y, x)`` in micrometres, in the axes of ``src``, and of its full level, whichever
        is exported; by default what it states.
    nb_workers : int, optional
        Threads that read at once; ``None`` for as many as dask uses.
    max_mem : int or str, optional
        What the export may use, in bytes or as ``"2GB"``; by default a quarter
        of what is free.
    overwrite : bool
        Replace files of the same names. Nothing else is touched, and a folder
        that holds other planes is refused, since it would read as a mixture.
    resume : bool
        Go on with an export that was interrupted: files that it wrote, of the same
        source with the same settings, are checked to be whole and stay. A single
        file is begun anew unless it stands.
    progress : bool or callable
        ``True`` for a bar, or ``f(done_units, total_units, done_nbytes)``.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Warns
    -----
    UserWarning
        If elements were clipped, with how many; or if planes of the array hold the
        fill value because they could not be read when it was made.

    Raises
    ------
    ArgumentError
        If the source or an argument is not what is described here.
    PathNotFoundError
        If the source, or the parent of ``out``, does not exist.
    TargetExistsError
        If ``out`` holds something, and ``overwrite`` is not given or does not
        allow it.
    ResumeError
        If a file that stands is of another export.
    MemoryLimitError
        If not even one plane's row of chunks fits in ``max_mem``.
    WriteError
        If a file cannot be written.
    """
    plan = plan_export(
        src, out, level=level, axis=axis, region=region, dtype=dtype, scale=scale, imagej=imagej,
        n_levels=n_levels, compress=compress, voxel_size=voxel_size, nb_workers=nb_workers,
        max_mem=max_mem, overwrite=overwrite, resume=resume, storage_options=storage_options,
    )  # fmt: skip
    return plan.run(progress)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How :func:`export` writes: its parameters but ``progress``, which are said there."""

    level: int | None = None
    axis: str = "z"
    region: Any = None
    dtype: Any = None
    scale: Sequence[float] | None = None
    imagej: bool = False
    n_levels: int | None = None
    compress: int | None = None
    voxel_size: VoxelSizeLike = None
    nb_workers: int | None = None
    max_mem: int | str | None = None
    overwrite: bool = False
    resume: bool = False
    storage_options: Mapping[str, Any] | None = None


def plan_export(src: Any, out: str | os.PathLike[str], **options: Any) -> ExportPlan:
    """Give what :func:`export` would do with the same arguments, without writing anything.

    Reads metadata, and with ``resume`` the headers of files that stand. Whatever
    :func:`export` would refuse before it writes is refused here with the same error.
    """
    start = time.perf_counter()
    how = ExportOptions(**options)
    if is_url(out):
        raise ArgumentError(
            f"{out} is a URL, expected a local path: TIFF files go to disks alone. Export them to "
            "one, and copy them from there."
        )
    place = locate(src, how.storage_options) if is_path(src) else None
    if place is None and how.storage_options:
        raise ArgumentError("storage_options are for URLs, and the source is an array")
    target = Path(out)
    locate(target)  # for its errors
    kind = file_kind(target, how.imagej)
    chosen = select(
        place or src,
        level=how.level,
        axis=how.axis,
        region=how.region,
        voxel_size=how.voxel_size,
    )
    if kind == "imagej":
        chosen = for_imagej(chosen)
    elif kind == "ome":
        # Of the orders that OME-XML knows, the one that an image has.
        chosen = chosen.reordered(in_order(chosen.axes))
    filled = filled_in(chosen.view.source)
    if filled:
        warn(
            f"{format_count(len(filled), 'plane')} of the array could not be read when it was "
            "made, and are exported with the fill value that they hold; info names them"
        )
    conversion = plan_conversion(chosen.view.dtype, how.dtype, how.scale)
    with about(src) if 0 in chosen.view.shape else nullcontext():
        pages = lay_out(kind, chosen, conversion, how.compress, how.n_levels)
    if chosen.info.labels:
        pages = replace(pages, labels=True)
    workers, max_mem = worker_count(how.nb_workers), resolve_max_mem(how.max_mem)
    parts = plan_parts(chosen.view, pages, workers, max_mem)
    files = name_files(target, chosen, pages.n_pages)
    job = Job(kind, chosen, conversion, pages, parts, files)
    if kind != "planes":
        job.notes(0)  # what the file cannot say is refused before anything is written
    done = standing(files, place, job.records(), overwrite=how.overwrite, resume=how.resume)
    layout, view = job.file_layout, chosen.view
    n_read = sum(map(region_size, job.todo(done)))
    return ExportPlan(
        source="the array" if place is None else str(place),
        destination=os.fspath(out),
        kind=kind,
        n_files=len(files.paths),
        first_file=str(files.paths[0]),
        last_file=str(files.paths[-1]),
        n_standing=len(done),
        n_replaced=sum(path.exists() for path in files.paths) - len(done),
        shape=view.shape,
        axes=chosen.axes,
        dtype=str(conversion.dtype),
        nbytes=layout.dtype.itemsize * job.n_elements,
        written_nbytes=layout.nbytes * (len(files.paths) - len(done)),
        levels=tuple(layout.levels),
        segment=(layout.tile,) * 2 if layout.tile else (layout.rows_per_strip, layout.width),
        compress=layout.compress,
        bigtiff=layout.big,
        voxel_size=chosen.info.voxel_size,
        channels=chosen.info.names,
        filled=filled,
        chunks=tuple(min(c, n) for c, n in zip(view.read_shape, view.shape, strict=True)),
        read_nbytes=round(n_read * view.dtype.itemsize * parts.read_amplification),
        read_amplification=parts.read_amplification,
        nb_workers=parts.nb_workers,
        max_mem=parts.max_mem,
        projected_mem=parts.projected_mem,
        free_nbytes=LocalLocation(files.paths[0]).free_nbytes() or 0,
        _job=job,
        _done=done,
        _sweep=how.overwrite or how.resume,
        _took_s=time.perf_counter() - start,
    )


@dataclass(frozen=True, slots=True)
class ExportReport(JobReport):
    """What :func:`export` wrote.

    Attributes
    ----------
    plan : ExportPlan
        What was planned, and what is said of it there: ``kind``, ``n_files``, ``shape``,
        ``axes``, ``dtype``, ``nbytes``, ``voxel_size``, ``channels``, ``filled`` and
        ``read_amplification``; ``path`` is its destination.
    n_written : int
        Files written by this call; the others stood already (``resume=True``).
    stored_nbytes : int
        Size of all files, in bytes.
    n_levels : int
        Resolutions.
    clipped : Clipped
        Elements, written by this call, that lay outside of ``scale`` or that the
        dtype could not hold.
    elapsed_s : float
        From opening the source to the last file standing.
    """

    path = Planned[str]("destination")
    kind = Planned[str]("kind")
    n_files = Planned[int]("n_files")
    shape = Planned[Shape]("shape")
    axes = Planned[str]("axes")
    dtype = Planned[str]("dtype")
    nbytes = Planned[int]("nbytes")
    voxel_size = Planned[VoxelSize | None]("voxel_size")
    channels = Planned[tuple[str, ...]]("channels")
    filled = Planned[tuple[FilledPlane, ...]]("filled")
    read_amplification = Planned[float]("read_amplification")
    plan: ExportPlan
    n_written: int
    stored_nbytes: int
    n_levels: int
    clipped: Clipped
    elapsed_s: float

    def title(self) -> str:
        """Say where the files stand."""
        return f"{'Wrote' if self.n_written else 'Nothing to do for'} {self.path}"

    def rows(self) -> Iterable[Row]:
        """Say what they hold."""
        files = format_count(self.n_files, "file")
        stood = self.n_files - self.n_written
        rate = format_nbytes(self.nbytes / max(self.elapsed_s, 1e-9))
        return [
            ("array", f"{array_text(self)} ({', '.join(self.axes)})"),
            ("channels", ", ".join(self.channels)),
            ("voxel", str(self.voxel_size or "")),
            ("levels", f"{self.n_levels}" if self.n_levels > 1 else ""),
            ("on disk", f"{files}, {format_nbytes(self.stored_nbytes)}"),
            *filled_rows(self.filled),
            ("stood", f"{format_count(stood, 'file')} of an earlier run" if stood else ""),
            ("took", format_s(self.elapsed_s) + ("" if stood else f", {rate}/s")),
        ]


@dataclass(frozen=True, slots=True)
class ExportPlan(JobReport):
    """What :func:`export` would do.

    Attributes
    ----------
    source, destination : str
        Paths; the source is ``"the array"`` where it was given as one.
    kind : str
        ``"planes"``, ``"tiff"``, ``"imagej"`` or ``"ome"``.
    n_files : int
        TIFF files that would stand there.
    first_file, last_file : str
        Their paths, in order.
    n_standing, n_replaced : int
        Those that stand already and stay (``resume=True``), and those that would
        be written in the place of others (``overwrite=True``).
    shape : tuple of int
        Of what would be exported, in elements, in the order in which it is stored.
    axes : str
        A letter an axis.
    dtype : str
        Of the elements as written.
    nbytes : int
        Size of the elements, in bytes.
    written_nbytes : int
        Size of those that would be written, of all levels, before compression, in bytes.
    levels : tuple of tuple of int
        Rows and columns of a page at each resolution, the full one first.
    segment : tuple of int
        Rows and columns of a strip, or of a tile.
    compress : int
        0 uncompressed, 1 to 9 Deflate.
    bigtiff : bool
        Whether a file is BigTIFF, which may exceed 4 GB.
    voxel_size : VoxelSize or None
        As it would be written; z is the distance of planes.
    channels : tuple of str
        Names of the channels, as they would be written.
    filled : tuple of FilledPlane
        Planes of the array whose files could not be read when it was made.
    chunks : tuple of int
        What is decoded as a whole, in elements, along the axes of ``shape``.
    read_nbytes : int
        Decoded bytes that would be read; parts that are read twice count twice.
    read_amplification : float
        How often a chunk would be decoded, on average.
    nb_workers : int
        Threads that would read at once.
    max_mem, projected_mem : int
        What the export may use, and is expected to use, in bytes.
    free_nbytes : int
        Free on the destination's disk, in bytes.
    """

    source: str
    destination: str
    kind: str
    n_files: int
    first_file: str
    last_file: str
    n_standing: int
    n_replaced: int
    shape: Shape
    axes: str
    dtype: str
    nbytes: int
    written_nbytes: int
    levels: tuple[Shape, ...]
    segment: Shape
    compress: int
    bigtiff: bool
    voxel_size: VoxelSize | None
    channels: tuple[str, ...]
    filled: tuple[FilledPlane, ...]
    chunks: Shape
    read_nbytes: int
    read_amplification: float
    nb_workers: int
    max_mem: int
    projected_mem: int
    free_nbytes: int
    _job: Job = field(repr=False, compare=False)
    _done: set[Path] = field(repr=False, compare=False)
    _sweep: bool = field(repr=False, compare=False)
    _took_s: float = field(repr=False, compare=False)

    def run(self, progress: bool | Report = False) -> ExportReport:
        """Do it, once, and give what was written; errors are those of :func:`export`."""
        start = time.perf_counter()
        job, files = self._job, self._job.files
        make_folders(files, sweep=self._sweep)
        with reporting(progress, "export") as report:
            run(job, self._done, report)
        if lost := job.conversion.told(job.clipped, job.n_elements):
            warn(lost)
        return ExportReport(
            plan=self,
            n_written=self.n_files - self.n_standing,
            stored_nbytes=sum(os.stat(path).st_size for path in files.paths),
            n_levels=len(self.levels),
            clipped=job.clipped,
            elapsed_s=self._took_s + time.perf_counter() - start,
        )

    def title(self) -> str:
        """Say what is to become of what."""
        return f"Would export {self.source} to {self.destination}; nothing was written"

    def rows(self) -> Iterable[Row]:
        """Say what the files would be, and what it would take."""
        to = f" to {self.last_file}" if self.n_files > 1 else ""
        big = "BigTIFF" if self.bigtiff else "TIFF"
        segments = "tiles" if self.kind == "ome" else "strips"
        packed = f"Deflate {self.compress}" if self.compress else "uncompressed"
        shapes = ", ".join(map(format_shape, self.levels))
        standing = format_count(self.n_standing, "whole file")
        replaced = format_count(self.n_replaced, "file")
        return [
            ("array", f"{array_text(self)} ({', '.join(self.axes)})"),
            ("channels", ", ".join(self.channels)),
            ("voxel", voxel_text(self.voxel_size)),
            ("files", f"{self.n_files:,}, {_KINDS[self.kind]}: {self.first_file}{to}"),
            ("format", f"{big}, {segments} of {format_shape(self.segment)}, {packed}"),
            ("levels", f"{len(self.levels)}: {shapes}" if len(self.levels) > 1 else ""),
            ("chunks", f"{format_shape(self.chunks)} in the source"),
            ("reads", read_text(self)),
            ("workers", f"{format_count(self.nb_workers, 'thread')} that read"),
            ("memory", memory_text(self)),
            ("disk", room_text(self.written_nbytes, self.free_nbytes)),
            *filled_rows(self.filled),
            ("resumes", f"{standing} of an earlier run would stay" if self.n_standing else ""),
            ("replaces", f"{replaced} of the same names" if self.n_replaced else ""),
        ]
