"""Exporting a stored array as TIFF: a folder of planes, one file, ImageJ's or OME's."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scout_dask_io.errors import ArgumentError
from scout_dask_io.execute import worker_count
from scout_dask_io.filled import filled_in
from scout_dask_io.grid import Shape
from scout_dask_io.human import format_count
from scout_dask_io.jobs.export_files import name_files, prepare
from scout_dask_io.jobs.export_parts import plan_parts
from scout_dask_io.jobs.export_run import Job, run
from scout_dask_io.jobs.export_source import Selection, select
from scout_dask_io.jobs.export_values import Clipped, Conversion, plan_conversion
from scout_dask_io.memory import resolve_max_mem
from scout_dask_io.progress import Report, reporting
from scout_dask_io.remote import is_url, locate
from scout_dask_io.source import FilledPlane
from scout_dask_io.tiff.encode import TiffLayout, plan_layout
from scout_dask_io.tiff_writer import is_ome_name
from scout_dask_io.voxel import VoxelSize

__all__ = ["ExportReport", "export"]

_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What :func:`export` wrote.

    Attributes
    ----------
    path : str
        The file or the folder.
    kind : str
        ``"planes"``, ``"tiff"``, ``"imagej"`` or ``"ome"``.
    n_files, n_written : int
        TIFF files that stand there now, and those written by this call; the
        others stood already (``resume=True``).
    shape : tuple of int
        Of what was exported, in elements, in the order in which it is stored.
    axes : str
        A letter an axis.
    dtype : str
        Of the elements as written.
    nbytes, stored_nbytes : int
        Size of the elements, and of the files, in bytes.
    n_levels : int
        Resolutions.
    voxel_size : VoxelSize or None
        As written; z is the distance of planes.
    channels : tuple of str
        Names of the channels, as written.
    clipped : Clipped
        Elements, written by this call, that lay outside of ``scale`` or that the
        dtype could not hold.
    filled : tuple of FilledPlane
        Planes of the array whose files could not be read when it was made.
    read_amplification : float
        How often a chunk was decoded, on average; above 1 where ``max_mem``
        does not hold a row of chunks.
    elapsed_s : float
        From opening the source to the last file standing.
    """

    path: str
    kind: str
    n_files: int
    n_written: int
    shape: Shape
    axes: str
    dtype: str
    nbytes: int
    stored_nbytes: int
    n_levels: int
    voxel_size: VoxelSize | None
    channels: tuple[str, ...]
    clipped: Clipped
    filled: tuple[FilledPlane, ...]
    read_amplification: float
    elapsed_s: float


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

    The voxel size and the channel names go into the file in its own way, as far
    as it has one.

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
        ``(z, y, x)`` in micrometres, in the axes of ``src``; by default what it states.
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
    if is_url(out):
        raise ArgumentError(
            f"{out} is a URL, expected a local path: TIFF files go to disks alone. Export them to "
            "one, and copy them from there."
        )
    if isinstance(src, (str, os.PathLike)):
        src = locate(src, storage_options)
    elif storage_options:
        raise ArgumentError("storage_options are for URLs, and the source is an array")
    target = Path(out)
    kind = _kind(target, imagej)
    if n_levels is not None and kind != "ome":
        raise ArgumentError("n_levels is for an OME-TIFF, a name that ends in .ome.tif")
    chosen = select(src, level=level, axis=axis, region=region, voxel_size=voxel_size)
    if kind == "imagej":
        chosen = _for_imagej(chosen)
    filled = filled_in(chosen.view.source)
    if filled:
        warnings.warn(
            f"{format_count(len(filled), 'plane')} of the array could not be read when it was "
            "made, and are exported with the fill value that they hold; info names them",
            UserWarning,
            stacklevel=2,
        )
    conversion = plan_conversion(chosen.view.dtype, dtype, scale)
    layout = _plan_layout(kind, chosen, conversion, compress, n_levels)
    parts = plan_parts(chosen.view, layout, worker_count(nb_workers), resolve_max_mem(max_mem))
    files = name_files(target, chosen, layout.n_pages)
    job = Job(kind, chosen, conversion, layout, parts, files)
    if kind != "planes":
        job.notes(0)  # what the file cannot say is refused before anything is written
    records = {path: job.record(k) for k, path in enumerate(files.paths)}
    done = prepare(files, src, records, overwrite=overwrite, resume=resume)
    with reporting(progress, "export") as report:
        run(job, done, report)
    _warn_of_clipping(job)
    return ExportReport(
        path=os.fspath(target),
        kind=kind,
        n_files=len(files.paths),
        n_written=len(files.paths) - len(done),
        shape=chosen.view.shape,
        axes=chosen.axes,
        dtype=str(conversion.dtype),
        nbytes=layout.dtype.itemsize * job.n_elements,
        stored_nbytes=sum(os.stat(p).st_size for p in files.paths),
        n_levels=layout.n_levels,
        voxel_size=chosen.voxel,
        channels=chosen.channels,
        clipped=job.clipped,
        filled=filled,
        read_amplification=parts.read_amplification,
        elapsed_s=time.perf_counter() - start,
    )


def _kind(target: Path, imagej: bool) -> str:
    name = target.name.lower()
    ome = is_ome_name(name)
    if imagej and (ome or not name.endswith((".tif", ".tiff"))):
        raise ArgumentError(
            f"imagej=True writes one file, and {target} is not the name of one: give a name that "
            "ends in .tif, and not in .ome.tif"
        )
    if ome:
        return "ome"
    if imagej:
        return "imagej"
    return "tiff" if name.endswith((".tif", ".tiff")) else "planes"


def _for_imagej(chosen: Selection) -> Selection:
    """Give the axes in ImageJ's order."""
    strange = set(chosen.axes) - set("tzcyxs")
    if strange:
        raise ArgumentError(
            f"ImageJ knows the axes t, z, c, y, x, and the array of shape {chosen.view.shape} has "
            f"{', '.join(chosen.axes)}: leave imagej out, or export a region of one element"
        )
    return chosen.reordered("".join(a for a in "tzcyxs" if a in chosen.axes))


def _plan_layout(
    kind: str,
    chosen: Selection,
    conversion: Conversion,
    compress: int | None,
    n_levels: int | None,
) -> TiffLayout:
    shape, dtype = chosen.view.shape, conversion.dtype
    if n_levels is not None and (isinstance(n_levels, bool) or not 1 <= n_levels <= 32):
        raise ArgumentError(f"n_levels must be a whole number from 1 to 32, got {n_levels!r}")
    row_axis = len(shape) - (3 if chosen.colour else 2)
    layout = plan_layout(
        shape,
        dtype,
        (0 if kind == "imagej" else 1) if compress is None else compress,
        step=min(chosen.view.read_shape[row_axis], shape[row_axis]),
        tiled=kind == "ome",
        n_levels=n_levels,
        colour=chosen.colour,
    )
    if kind != "imagej":
        return layout
    good = dtype.name in _IMAGEJ_DTYPES if layout.samples == 1 else shape[-1] == 3
    if not good or (layout.samples == 3 and dtype.name != "uint8"):
        raise ArgumentError(
            f"ImageJ reads uint8, uint16, float32 and RGB of uint8, and this would be {dtype}: "
            "give dtype= one of them, with scale=(low, high) where it does not hold every value"
        )
    if layout.big and layout.compress:
        raise ArgumentError(
            "ImageJ reads files above 4 GB only where nothing is compressed: give compress=0"
        )
    return replace(layout, big=False, one_directory=layout.big)


def _warn_of_clipping(job: Job) -> None:
    clipped = job.clipped
    named = {"below": clipped.n_below, "above": clipped.n_above, "not a number": clipped.n_nan}
    beyond = ", ".join(f"{n:,} {where}" for where, n in named.items() if n)
    if not beyond:
        return
    share = f"{clipped.total:,} pixels ({100 * clipped.total / job.n_elements:.2g} %)"
    if job.conversion.scale is None:
        text = (
            f"{share} are beyond what {job.conversion.dtype} holds, and became infinite: {beyond}"
        )
    else:
        low, high = job.conversion.scale
        text = f"{share} lie outside of {low:g} to {high:g}, and were clipped: {beyond}"
    warnings.warn(text, UserWarning, stacklevel=3)
