"""Any array streamed into a chunked Zarr array: planned, in bounded memory, whole or absent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from dask.delayed import Delayed, delayed

from scout_dask_io.core.grid import Blocks
from scout_dask_io.core.plan import WritePlan
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import RemotePath, locate
from scout_dask_io.read.missing_planes import attributes_with_filled, note_filled
from scout_dask_io.read.voxel_size import attributes_with
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.unfinished import NewArray
from scout_dask_io.write.job import place_of
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.qc.findings import Subject
from scout_dask_io.write.qc.run import check_qc, put_sheet, subject_of
from scout_dask_io.write.region import begin_region, check_region, finish_region, stored_format
from scout_dask_io.write.tasks import unit_tasks
from scout_dask_io.write.unit import Target, working
from scout_dask_io.write.write_arguments import (
    check_fill,
    compressor_of,
    plan_write,
    readable,
    settings_of,
)
from scout_dask_io.write.write_begin import begin_or_resume, check_remote
from scout_dask_io.write.write_run import run_write

if TYPE_CHECKING:
    import zarr

__all__ = ["plan_zarr", "write_zarr"]


def plan_zarr(
    data: Any,
    chunks: int | Sequence[int] = (64, 64, 64),
    *,
    codec: Any = "zstd",
    zarr_format: int = 2,
    shards: int | Sequence[int] | None = None,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
) -> WritePlan:
    """Give the plan that :func:`write_zarr` would follow, without writing anything.

    Parameters
    ----------
    data, chunks, codec, zarr_format, shards, max_mem, nb_workers
        As for :func:`write_zarr`.

    Returns
    -------
    WritePlan
        Write units, bands, workers and the projected peak memory in bytes.

    Raises
    ------
    ArgumentError, ChunkError, MemoryLimitError
        As for :func:`write_zarr`.
    """
    source, array = readable(data)
    plan = plan_write(source, array, chunks, max_mem, nb_workers, zarr_format, shards)
    compressor_of(plan, codec)
    return plan


def write_zarr(
    path: str | os.PathLike[str] | RemotePath,
    data: Any,
    chunks: int | Sequence[int] = (64, 64, 64),
    *,
    codec: Any = "zstd",
    fill_value: Any = 0,
    attributes: dict[str, Any] | None = None,
    voxel_size: Any = None,
    zarr_format: int = 2,
    shards: int | Sequence[int] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    durable: bool = False,
    qc: bool = False,
    region: Any = None,
    compute: bool = True,
    progress: Any = False,
    storage_options: Mapping[str, Any] | None = None,
) -> zarr.Array[Any] | Delayed:
    """Stream a dask or numpy array into a nested Zarr array, in bounded memory.

    What stands at ``path`` afterwards is whole: the array grows beside it, in
    ``.<name>.scout-partial``, and gets its name by a rename when its last chunk
    is in. Every chunk is written by one task. An array that a reader of this
    library gave is read again from its files by the regions that the writer
    needs; nothing is rechunked.

    Parameters
    ----------
    path : str or path-like
        The array's directory, on a local or shared disk; missing parents are made. Or
        the URL of a place that fsspec reaches, such as ``"s3://bucket/a.zarr"``: there is
        no rename there, so an unfinished array lies at its own place, without metadata
        and refused by the readers, and ``overwrite`` removes the old one first.
    data : dask.array.Array or numpy.ndarray
        1 to 5 axes, bool, integer, float or complex.
    chunks : int or sequence of int
        Chunk extents for the last axes, in elements; axes before them get 1,
        and -1 is a whole axis.
    codec
        ``"zstd"`` (Blosc, level 1, bitshuffle), ``"lz4"`` (twice as fast, 4 %
        larger), ``"none"``, a numcodecs codec, or its configuration.
    fill_value
        What chunks that hold nothing else are not stored for.
    attributes : dict, optional
        JSON attributes of the array. Planes that a reader filled are put on record
        in ``filled_planes``.
    voxel_size : VoxelSize or sequence of float, optional
        ``(z, y, x)`` in micrometres, kept as the attribute ``voxel_size_um``. By
        default what :func:`voxel_size` finds for data as a reader gave them.
    zarr_format : {2, 3}
        3 is what ``shards`` need; older software reads 2 alone.
    shards : int or sequence of int, optional
        Extents of what one file holds, as ``chunks`` and multiples of them; without
        it a chunk. For arrays of over a million chunks: 512 along each axis, or
        about 256 MiB of elements, since a shard is in memory whole, about six times,
        while it is written. Readers still decode single chunks.
    overwrite : bool
        Replace a Zarr array at ``path`` once the new one is whole. Anything
        that is not a Zarr array alone is never removed.
    resume : bool
        Finish the write that was interrupted, with the same data and settings;
        finished units are not computed again. Where there is none, begin; where
        the array stands finished with the same data and settings, nothing is done.
    max_mem : int or str, optional
        Bytes, or a text such as ``"2GB"``, that one process may use beyond its
        imports; where not given, a quarter of the free memory, or on a cluster
        half of the memory limit of the smallest worker. Computed blocks that
        wait for their neighbours, as overlaps need, are kept in scratch files beside
        the array where they are more than fit; with ``compute=False`` that is up to
        what computes. What the caller's own functions need on top is not counted.
    nb_workers : int, optional
        Threads of a local run; the processor's count where not given.
    durable : bool
        Sync every file before it counts as written, and all directories before
        the array gets its name, for power failures.
    qc : bool
        Gather what the planes are like from the pixels on their way, and put it beside
        the array: ``<path>.qc.html``, a sheet to look at, and ``<path>.qc.json``. Blank,
        identical and saturated planes, least and largest values are exact; means,
        percentiles, histograms and projections of a sample. The files appear right
        after the array, in an object store right before it is whole, and are replaced
        with it. Beside what ``max_mem`` counts, a task
        holds about a sixtieth of its unit for it, a sixteenth where planes are small, and
        all where they have at most 64 pixels along both axes. Not with ``region``.
    region : tuple of slice, optional
        Write into the array that stands at ``path``: only these chunks, with
        its own chunks or shards, codec and fill value. It must start and end on the edges
        of them, or at the array's. Each chunk is replaced in one step; after a
        failure some are new. The data must not be read from the array itself.
    compute : bool
        ``False`` gives a ``dask.delayed.Delayed`` of the array instead, on any
        scheduler; the staging directory is made at once. ``dask.compute`` of
        several, computed from the same arrays, reads and computes what they
        share once; each needs its ``max_mem``. Data that a reader gave and
        nothing was computed on are read by regions of their own.
    progress : bool or callable
        ``True`` shows a bar or quiet lines; a callable gets ``(finished units,
        all units, finished bytes)``.
    storage_options : dict, optional
        What fsspec needs to reach a URL, e.g. ``{"endpoint_url": "https://…"}``.

    Returns
    -------
    zarr.Array or Delayed
        The finished array, open for reading and writing.

    Raises
    ------
    ArgumentError, ChunkError
        If an argument does not fit; nothing is created or changed.
    MemoryLimitError
        If the write cannot fit in ``max_mem``; nothing is created.
    TargetExistsError
        If ``path`` holds something that is not to be replaced.
    ResumeError
        If the unfinished write has other data or settings.
    WriteError
        If a file cannot be written; the finished part stays for ``resume``.
    ClusterError
        If a worker of the cluster does not see the files or the destination, or
        has other versions, before anything is created, or later if it joins while
        the job runs; or if the scheduler, or the workers of one task, are lost.

    Notes
    -----
    On a cluster, ``dask.annotate`` around the call pins the tasks
    (``workers=``, ``resources=``) and has a task that failed run again
    (``retries=3``); workers that it leaves out need not see the files.

    Examples
    --------
    >>> import dask.array as da, tempfile
    >>> volume = da.ones((30, 100, 100), dtype="uint16", chunks=(1, 100, 100))
    >>> array = write_zarr(tempfile.mkdtemp() + "/ones.zarr", volume, (16, 64, 64))
    >>> array.shape, array.chunks
    ((30, 100, 100), (16, 64, 64))
    """
    destination = locate(path, storage_options)
    source, array = readable(data)
    subject = None
    if region is not None:
        if overwrite or resume or qc or attributes is not None or voxel_size is not None:
            raise ArgumentError(
                "region goes with none of overwrite, resume, qc, attributes and voxel_size"
            )
        fmt = stored_format(destination)
        part: Any = data
        where = check_region(region, fmt, part.shape, part.dtype.newbyteorder("="))
        plan = plan_write(source, array, fmt.chunks, max_mem, nb_workers)
        check_remote(destination, plan, data, overwrite=False)
        asked = preflight([data], destination, in_place=True) if compute else None
        note_filled(destination, where, data)
        target = begin_region(destination, fmt, where, plan.band, durable)
    else:
        plan = plan_write(source, array, chunks, max_mem, nb_workers, zarr_format, shards)
        compressor = compressor_of(plan, codec)
        check_fill(fill_value, plan.dtype)
        attributes = attributes_with_filled(attributes_with(attributes, data, voxel_size), data)
        settings = settings_of(plan, source, array, compressor, fill_value, attributes)
        if qc:
            check_qc(plan.shape, np.dtype(plan.dtype), destination)
            subject = subject_of(destination, data, plan, attributes=attributes)
        asked = preflight([data], destination) if compute else None
        of_array: dict[str, Any] = {"compressor": compressor, "fill_value": fill_value}
        of_array |= {"attributes": attributes, "zarr_format": plan.zarr_format}
        of_array |= {"shards": plan.shards} if plan.shards else {}
        begun = begin_or_resume(
            destination,
            data,
            plan,
            [NewArray(plan.shape, plan.chunks, plan.dtype, of_array)],
            {**settings, "qc": qc},
            {"units": plan.units},
            overwrite=overwrite,
            resume=resume,
            durable=durable,
            qc=qc,
        )
        if begun is None:
            return _open(destination) if compute else cast(Any, delayed(_open)(destination))
        (target,), noted = begun
        plan = replace(plan, units=tuple(map(tuple, noted["units"])))
        target = replace(target, band=plan.band, qc=qc)
    done = set() if target.in_place else target.staging.finished()
    name = f"write-{target.staging.job_id}"
    tasks, ends = unit_tasks(name, plan, source, array, target, done)
    written = run_write(
        name,
        tasks,
        {key for key in tasks if key[0] == name},
        ends,
        partial(_publish, target, plan.units, overwrite, subject),
        array,
        target,
        plan,
        compute=compute,
        progress=progress,
        already=len(done),
        asked=asked,
    )
    return cast("zarr.Array[Any] | Delayed", written)


def _publish(
    target: Target, units: Blocks, overwrite: bool, subject: Subject | None, written: list[Any]
) -> zarr.Array[Any]:
    with working(target):
        if subject is not None:
            put_sheet(target, units, subject)
        if target.in_place:
            finish_region(target, units)
        else:
            place_of(target.staging.destination).finish([target], [units], overwrite=overwrite)
        return _open(target.staging.destination)


def _open(path: Any) -> zarr.Array[Any]:
    return cast("zarr.Array[Any]", open_zarr(path, mode="r+"))
