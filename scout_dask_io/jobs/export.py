"""Exporting a stored array as TIFF: a folder of planes, one file, ImageJ's or OME's."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scout_dask_io.core.formatting import format_count
from scout_dask_io.core.grid import region_size
from scout_dask_io.core.messages import warn
from scout_dask_io.core.source import FilledPlane
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import AnyPath, is_url, locate
from scout_dask_io.jobs.destination import free_nbytes
from scout_dask_io.jobs.export_engine import Job, plan_parts, run
from scout_dask_io.jobs.export_files import (
    file_kind,
    for_imagej,
    lay_out,
    make_folders,
    name_files,
    standing,
)
from scout_dask_io.jobs.export_report import ExportPlan, ExportReport
from scout_dask_io.jobs.export_selection import select
from scout_dask_io.jobs.export_values import plan_conversion
from scout_dask_io.read.missing_planes import filled_in
from scout_dask_io.run.memory import resolve_max_mem
from scout_dask_io.run.progress import Report, reporting
from scout_dask_io.run.scheduler import worker_count


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
    voxel_size: Any = None,
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
      tile. Levels are means of 2 x 2 pixels; of masks and of integers above
      16 bits, which mostly are labels, the most frequent of the four.

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
        Path or URL of a Zarr array or of an OME-Zarr group; or a source, or a lazy
        array as a reader gave it.
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
    start = time.perf_counter()
    place, job, filled = _prepare(
        src, out, level, axis, region, dtype, scale, imagej, n_levels, compress, voxel_size,
        nb_workers, max_mem, storage_options,
    )  # fmt: skip
    files, layout = job.files, job.layout
    done = standing(files, place, job.records(), overwrite=overwrite, resume=resume)
    make_folders(files, sweep=overwrite or resume)
    with reporting(progress, "export") as report:
        run(job, done, report)
    lost = job.conversion.told(job.clipped, job.n_elements)
    if lost:
        warn(lost)
    return ExportReport(
        path=os.fspath(out),
        kind=job.kind,
        n_files=len(files.paths),
        n_written=len(files.paths) - len(done),
        shape=job.chosen.view.shape,
        axes=job.chosen.axes,
        dtype=str(job.conversion.dtype),
        nbytes=layout.dtype.itemsize * job.n_elements,
        stored_nbytes=sum(os.stat(p).st_size for p in files.paths),
        n_levels=layout.n_levels,
        voxel_size=job.chosen.voxel,
        channels=job.chosen.channels,
        clipped=job.clipped,
        filled=filled,
        read_amplification=job.parts.read_amplification,
        elapsed_s=time.perf_counter() - start,
    )


def plan_export(
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
    voxel_size: Any = None,
    nb_workers: int | None = None,
    max_mem: int | str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> ExportPlan:
    """Give what :func:`export` would do with the same arguments, without writing anything.

    Reads metadata, and with ``resume`` the headers of files that stand. Whatever
    :func:`export` would refuse before it writes is refused here with the same error.
    """
    place, job, filled = _prepare(
        src, out, level, axis, region, dtype, scale, imagej, n_levels, compress, voxel_size,
        nb_workers, max_mem, storage_options,
    )  # fmt: skip
    files, layout, parts, view = job.files, job.file_layout, job.parts, job.chosen.view
    done = standing(files, place, job.records(), overwrite=overwrite, resume=resume)
    n_read = sum(map(region_size, job.todo(done)))
    return ExportPlan(
        source="the array" if place is None else str(place),
        destination=os.fspath(out),
        kind=job.kind,
        n_files=len(files.paths),
        first_file=str(files.paths[0]),
        last_file=str(files.paths[-1]),
        n_standing=len(done),
        n_replaced=sum(path.exists() for path in files.paths) - len(done),
        shape=view.shape,
        axes=job.chosen.axes,
        dtype=str(job.conversion.dtype),
        nbytes=layout.dtype.itemsize * job.n_elements,
        written_nbytes=layout.nbytes * (len(files.paths) - len(done)),
        levels=tuple(layout.levels),
        segment=(layout.tile,) * 2 if layout.tile else (layout.rows_per_strip, layout.width),
        compress=layout.compress,
        bigtiff=layout.big,
        voxel_size=job.chosen.voxel,
        channels=job.chosen.channels,
        filled=filled,
        chunks=tuple(min(c, n) for c, n in zip(view.read_shape, view.shape, strict=True)),
        read_nbytes=round(n_read * view.dtype.itemsize * parts.read_amplification),
        read_amplification=parts.read_amplification,
        nb_workers=parts.nb_workers,
        max_mem=parts.max_mem,
        projected_mem=parts.projected_mem,
        free_nbytes=free_nbytes(files.paths[0]) or 0,
    )


def _prepare(
    src: Any,
    out: str | os.PathLike[str],
    level: int | None,
    axis: str,
    region: Any,
    dtype: Any,
    scale: Sequence[float] | None,
    imagej: bool,
    n_levels: int | None,
    compress: int | None,
    voxel_size: Any,
    nb_workers: int | None,
    max_mem: int | str | None,
    storage_options: Mapping[str, Any] | None,
) -> tuple[AnyPath | None, Job, tuple[FilledPlane, ...]]:
    """Give where the source lies, if at a path, what there is to do, and its filled planes."""
    if is_url(out):
        raise ArgumentError(
            f"{out} is a URL, expected a local path: TIFF files go to disks alone. Export them to "
            "one, and copy them from there."
        )
    place = locate(src, storage_options) if isinstance(src, (str, os.PathLike)) else None
    if place is None and storage_options:
        raise ArgumentError("storage_options are for URLs, and the source is an array")
    target = Path(out)
    kind = file_kind(target, imagej)
    chosen = select(place or src, level=level, axis=axis, region=region, voxel_size=voxel_size)
    if kind == "imagej":
        chosen = for_imagej(chosen)
    filled = filled_in(chosen.view.source)
    if filled:
        warn(
            f"{format_count(len(filled), 'plane')} of the array could not be read when it was "
            "made, and are exported with the fill value that they hold; info names them"
        )
    conversion = plan_conversion(chosen.view.dtype, dtype, scale)
    layout = lay_out(kind, chosen, conversion, compress, n_levels)
    parts = plan_parts(chosen.view, layout, worker_count(nb_workers), resolve_max_mem(max_mem))
    files = name_files(target, chosen, layout.n_pages)
    job = Job(kind, chosen, conversion, layout, parts, files)
    if kind != "planes":
        job.notes(0)  # what the file cannot say is refused before anything is written
    return place, job, filled
