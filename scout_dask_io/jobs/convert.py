"""Converting TIFFs, folders of planes, channel datasets or Zarr arrays into Zarr or OME-Zarr."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.shards import advise_shards
from scout_dask_io.files.location import AnyPath
from scout_dask_io.jobs.convert_report import ConvertPlan, ConvertReport
from scout_dask_io.jobs.convert_source import to_convert
from scout_dask_io.jobs.destination import free_nbytes, stored_nbytes, warn_of_many_files
from scout_dask_io.jobs.qc import read_qc, warn_of_an_old_sheet
from scout_dask_io.run.progress import Report
from scout_dask_io.store.beside import sheet_paths
from scout_dask_io.store.codecs import LEVEL_CODECS
from scout_dask_io.store.image import read_image
from scout_dask_io.store.manifest import read_manifest
from scout_dask_io.store.unfinished import unfinished
from scout_dask_io.write.image_plan import plan_ome_zarr
from scout_dask_io.write.ome_zarr import write_ome_zarr
from scout_dask_io.write.zarr import plan_zarr, write_zarr

__all__ = ["convert", "plan_convert"]


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    ome: bool = False,
    labels: bool = False,
    levels: int | None = None,
    chunks: int | Sequence[int] = (64, 64, 64),
    codec: Any = LEVEL_CODECS,
    zarr_format: int = 2,
    shards: int | Sequence[int] | None = None,
    order: str = "alphabetical",
    missing: str = "error",
    voxel_size: Any = None,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    durable: bool = False,
    qc: bool = False,
    progress: bool | Report = False,
    storage_options: Mapping[str, Any] | None = None,
) -> ConvertReport:
    """Convert a source of pixels to a chunked Zarr array or an OME-Zarr image, in bounded memory.

    The array at ``dst`` is whole or not there, as with
    :func:`~scout_dask_io.write_zarr`. Channel names and the voxel size are kept
    as the attributes ``channels`` and ``voxel_size_um`` (z, y, x, micrometres)
    where they are known, the latter ``null`` along an axis that nothing states.
    An OME-Zarr image has them, and the colours of channels, in its own metadata.
    They are those of channel folders, OME-XML, ImageJ and Zarr metadata.

    Parameters
    ----------
    src : str or path-like
        A TIFF, a folder of planes, a folder with one folder of planes a
        channel, or a Zarr array; or the URL of one.
    dst : str or path-like
        The directory of the array or image, outside ``src``; or a URL such as
        ``"s3://bucket/a.zarr"``.
    ome : bool
        Write an OME-Zarr image, as :func:`~scout_dask_io.write_ome_zarr` does: version
        0.4, or 0.5 with ``zarr_format=3``. Axes that lie in another order than
        ``(t, c, z, y, x)`` are put into it, and colour samples become channels.
    labels : bool
        The pixels of the image are labels, which are never averaged.
    levels : int, optional
        How many levels the image has, with the full one; by default down to one of at
        most 256 elements along each axis.
    codec
        Of the array, as for :func:`~scout_dask_io.write_zarr`; or of the full level of an
        image and of those below it, as for :func:`~scout_dask_io.write_ome_zarr`.
    chunks, zarr_format, shards, overwrite, resume, max_mem, nb_workers, durable, progress
        As for :func:`~scout_dask_io.write_zarr`.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    missing : {"error", "fill"}
        What to do about planes in a folder that cannot be read. By default the
        error names every one, and nothing is created. ``"fill"`` writes the fill
        value in their place, as :func:`~scout_dask_io.imread_folder` says, and
        records plane, file and reason in the manifest and the attribute
        ``filled_planes``; :func:`~scout_dask_io.info` and
        :func:`~scout_dask_io.verify` repeat it.
    storage_options : dict, optional
        What fsspec needs to reach those of the two that are URLs.
    voxel_size : VoxelSize or sequence of float, optional
        ``(z, y, x)`` in micrometres; by default what
        :func:`~scout_dask_io.voxel_size` finds.
    qc : bool
        Put a sheet beside the array that says what the planes are like, as for
        :func:`~scout_dask_io.write_zarr`.

    Warns
    -----
    UserWarning
        Of planes that are filled, of numbers missing or doubled in the names of
        planes, and where the array may not fit on the disk.

    Raises
    ------
    PathNotFoundError, TiffReadError, ShapeMismatchError, LayoutError
        If the source cannot be read; nothing is created.
    ArgumentError
        If an argument does not fit, or one of the two paths lies in the other;
        nothing is created.
    TargetExistsError, ResumeError, MemoryLimitError, WriteError
        As for :func:`~scout_dask_io.write_zarr`.
    """
    start = time.perf_counter()
    found = to_convert(
        src, dst, ome, labels, levels, codec, zarr_format, shards, order, missing, voxel_size,
        overwrite, resume, max_mem, nb_workers, qc, storage_options,
    )  # fmt: skip
    destination, data, opened, options = found.destination, found.data, found.opened, found.options
    if overwrite and not qc:
        warn_of_an_old_sheet(destination)
    before = _finished_before(destination, overwrite=overwrite, resume=resume)
    warn_of_many_files(data, chunks, shards)
    write: Any = write_ome_zarr
    if ome:
        options = {**options, "colors": found.colors or None}
    else:
        write = write_zarr
        options = {
            **options,
            "voxel_size": opened.voxel_size,
            "attributes": {"channels": list(found.channels)} if found.channels else {},
        }
    written = write(
        destination,
        data,
        chunks,
        overwrite=overwrite,
        resume=resume,
        durable=durable,
        qc=qc,
        progress=progress,
        **options,
    )
    image = read_image(destination) if ome else None
    arrays = [written] if image is None else [written[level.path] for level in image.levels]
    array = arrays[0]
    n_units = _count_units(destination)
    return ConvertReport(
        path=os.fspath(dst),
        shape=tuple(array.shape),
        dtype=str(array.dtype),
        chunks=tuple(array.chunks),
        levels=tuple(tuple(a.shape) for a in arrays) if ome else (),
        nbytes=int(data.nbytes),
        stored_nbytes=stored_nbytes(destination),
        n_chunks=sum(a.nchunks for a in arrays),
        n_units=n_units,
        n_resumed=n_units if before is None else before,
        filled=opened.filled,
        qc=read_qc(destination) if qc else None,
        elapsed_s=time.perf_counter() - start,
    )


def plan_convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    ome: bool = False,
    labels: bool = False,
    levels: int | None = None,
    chunks: int | Sequence[int] = (64, 64, 64),
    codec: Any = LEVEL_CODECS,
    zarr_format: int = 2,
    shards: int | Sequence[int] | None = None,
    order: str = "alphabetical",
    missing: str = "error",
    voxel_size: Any = None,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    qc: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> ConvertPlan:
    """Give what :func:`convert` would do with the same arguments, without writing anything.

    Reads the headers of the source. Whatever :func:`convert` would refuse
    before it writes is refused here with the same error.
    """
    found = to_convert(
        src, dst, ome, labels, levels, codec, zarr_format, shards, order, missing, voxel_size,
        overwrite, resume, max_mem, nb_workers, qc, storage_options,
    )  # fmt: skip
    destination, data, opened = found.destination, found.data, found.opened
    shapes: tuple[Shape, ...] = ()
    if ome:
        image = plan_ome_zarr(data, chunks, **found.options)
        plan, shapes = image.write, tuple(level.shape for level in image.levels)
        # One task a unit, one that waits for each pass, the last of which publishes the image.
        n_tasks = image.n_units + len(image.passes)
        # A group's metadata and manifest, and each level's.
        n_files = image.n_files + (3 - (zarr_format == 3)) * (1 + len(shapes))
    else:
        plan = plan_zarr(data, chunks, **found.options)
        n_tasks = plan.n_units + 1
        # zarr.json; or .zarray, and .zattrs where there is something to say.
        stated = bool(found.channels or opened.voxel_size or opened.filled)
        n_files = plan.n_stored + 1 + (zarr_format == 2 and stated)
    return ConvertPlan(
        source=os.fspath(src),
        destination=os.fspath(dst),
        replaces=found.replaces,
        resumes=found.resumes,
        write=plan,
        levels=shapes,
        n_tasks=n_tasks,
        channels=found.channels,
        voxel_size=opened.voxel_size,
        n_files=n_files,
        qc_sheet=str(sheet_paths(destination)[1]) if qc else "",
        filled=opened.filled,
        advice=advise_shards(plan.shape, plan.chunks, plan.stored, plan.itemsize),
        free_nbytes=free_nbytes(destination),
    )


def _finished_before(destination: AnyPath, *, overwrite: bool, resume: bool) -> int | None:
    """Give how many units an interrupted run had finished; ``None`` where all stands finished."""
    if not resume:
        return 0
    there = unfinished(destination)
    if there is not None:
        return there.n_finished
    return None if destination.exists() and not overwrite else 0


def _count_units(destination: AnyPath) -> int:
    manifest = read_manifest(destination)
    settings = {} if manifest is None else manifest.settings
    # An image has passes, each with the units of its first level.
    passes = [units for _, units in settings.get("passes", ())] or [settings.get("units", ())]
    return sum(math.prod(len(axis) for axis in units) for units in passes)
