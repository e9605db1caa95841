"""Any array streamed into a chunked Zarr array: planned, in bounded memory, whole or absent."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import dask
import dask.array as da
import numpy as np
from dask._task_spec import List, Task, TaskRef
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

from scout_dask_io.errors import ArgumentError, ScoutIOError
from scout_dask_io.execute import run_tasks, worker_count
from scout_dask_io.grid import Blocks, expand_chunks
from scout_dask_io.lazy import source_of
from scout_dask_io.memory import resolve_max_mem
from scout_dask_io.plan import (
    WritePlan,
    blocks_fit_chunks,
    plan_blocks,
    plan_gather,
    plan_source,
)
from scout_dask_io.progress import reporting
from scout_dask_io.source import ArraySource, Source
from scout_dask_io.store.checksum import array_crc32c
from scout_dask_io.store.codecs import resolve_codec
from scout_dask_io.store.create import local_path
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.growing import (
    begin_array,
    finish_array,
    finished_units,
    is_finished,
    resume_array,
)
from scout_dask_io.store.regions import (
    begin_region,
    check_region,
    discard_region,
    finish_region,
    stored_format,
)
from scout_dask_io.store.staging import check_destination, discard_staging, drop_staging
from scout_dask_io.store.units import Target, cancel
from scout_dask_io.write_tasks import unit_tasks

if TYPE_CHECKING:
    import zarr

__all__ = ["plan_zarr", "write_zarr"]


def plan_zarr(
    data: Any,
    chunks: int | Sequence[int] = (64, 64, 64),
    *,
    codec: Any = "zstd",
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
) -> WritePlan:
    """Give the plan that :func:`write_zarr` would follow, without writing anything.

    Parameters
    ----------
    data, chunks, codec, max_mem, nb_workers
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
    source, array = _readable(data)
    plan = _plan(source, array, chunks, max_mem, nb_workers)
    _compressor(plan, codec)
    return plan


def write_zarr(
    path: str | os.PathLike[str],
    data: Any,
    chunks: int | Sequence[int] = (64, 64, 64),
    *,
    codec: Any = "zstd",
    fill_value: Any = 0,
    attributes: dict[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    durable: bool = False,
    region: Any = None,
    compute: bool = True,
    progress: Any = False,
) -> zarr.Array[Any] | Delayed:
    """Stream a dask or numpy array into a nested Zarr v2 array, in bounded memory.

    What stands at ``path`` afterwards is whole: the array grows beside it, in
    ``.<name>.scout-partial``, and gets its name by a rename when its last chunk
    is in. Every chunk is written by one task. An array that a reader of this
    library gave is read again from its files by the regions that the writer
    needs; nothing is rechunked.

    Parameters
    ----------
    path : str or path-like
        The array's directory, on a local or shared disk. Missing parents are made.
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
        JSON attributes of the array.
    overwrite : bool
        Replace a Zarr array at ``path`` once the new one is whole. Anything
        that is not a Zarr array alone is never removed.
    resume : bool
        Finish the write that was interrupted, with the same data and settings;
        finished units are not computed again. Where there is none, begin; where
        the array stands finished with the same data and settings, nothing is done.
    max_mem : int or str, optional
        Bytes, or a text such as ``"2GB"``, that one process may use beyond its
        imports; a quarter of the free memory where not given.
    nb_workers : int, optional
        Threads of a local run; the processor's count where not given.
    durable : bool
        Sync every file before it counts as written, and all directories before
        the array gets its name, for power failures.
    region : tuple of slice, optional
        Write into the array that stands at ``path``: only these chunks, with
        its own chunks, codec and fill value. It must start and end on the edges
        of chunks, or at the array's. Each chunk is replaced in one step; after a
        failure some are new. The data must not be read from the array itself.
    compute : bool
        ``False`` gives a ``dask.delayed.Delayed`` of the array instead, on any
        scheduler; the staging directory is made at once.
    progress : bool or callable
        ``True`` shows a bar or quiet lines; a callable gets ``(finished units,
        all units, finished bytes)``.

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

    Examples
    --------
    >>> import dask.array as da, tempfile
    >>> volume = da.ones((30, 100, 100), dtype="uint16", chunks=(1, 100, 100))
    >>> array = write_zarr(tempfile.mkdtemp() + "/ones.zarr", volume, (16, 64, 64))
    >>> array.shape, array.chunks
    ((30, 100, 100), (16, 64, 64))
    """
    destination = local_path(path)
    source, array = _readable(data)
    if region is not None:
        if overwrite or resume or attributes is not None:
            raise ArgumentError("region goes with none of overwrite, resume and attributes")
        fmt = stored_format(destination)
        part: Any = data
        where = check_region(region, fmt, part.shape, part.dtype.newbyteorder("="))
        plan = _plan(source, array, fmt.chunks, max_mem, nb_workers)
        target = begin_region(destination, fmt, where, plan.band, durable)
    else:
        plan = _plan(source, array, chunks, max_mem, nb_workers)
        compressor = _compressor(plan, codec)
        _check_fill(fill_value, plan.dtype)
        settings = _settings(plan, source, array, compressor, fill_value, attributes)
        resumed = resume_array(destination, plan, settings, durable=durable) if resume else None
        if resumed is None:
            if resume and not overwrite and is_finished(destination, settings):
                return _open(destination) if compute else cast(Any, delayed(_open)(destination))
            check_destination(destination, overwrite=overwrite)
            if overwrite:
                discard_staging(destination)
            target = begin_array(
                destination,
                plan,
                settings,
                codec=compressor,
                fill_value=fill_value,
                attributes=attributes,
                overwrite=overwrite,
                durable=durable,
            )
        else:
            target, plan = resumed
    if array is not None and source is None:
        # Slices are fused into the reads under them, which a Delayed would not do.
        (array,) = dask.optimize(array)
    done = finished_units(target.staging)
    name = f"write-{target.staging.job.name}"
    tasks, ends = unit_tasks(name, plan, source, array, target, done)
    final = f"{name}-publish"
    tasks[final] = Task(final, _finish, target, plan.units, overwrite, List(*map(TaskRef, ends)))
    units = {key for key in tasks if key[0] == name}
    graph = HighLevelGraph.from_collections(
        final,
        tasks,
        dependencies=cast(Any, [array] if source is None and array is not None else []),
    )
    if not compute:
        return Delayed(final, graph)
    try:
        with reporting(progress, f"write {destination.name}") as report:
            result: zarr.Array[Any] = run_tasks(
                graph,
                final,
                units,
                nb_workers=plan.nb_workers,
                already=len(done),
                report=report,
                on_failure=lambda: cancel(target),
            )
            return result
    except BaseException as err:
        if target.in_place:
            discard_region(target)
        else:
            _leave(target, err)
        raise


def _leave(target: Target, err: BaseException) -> None:
    """After a failure: keep what a resumed write can use and say so, or leave nothing."""
    try:
        finished = len(finished_units(target.staging))
        if not finished:
            drop_staging(target.staging)
    except (ScoutIOError, OSError) as second:
        # Tidying up must not hide what went wrong first.
        err.add_note(f"what was begun stays in {target.staging.job} ({second})")
        return
    if finished:
        err.add_note(
            f"{finished} finished write units of {target.staging.destination} are kept in "
            f"{target.staging.job}: the same call with resume=True goes on."
        )


def _finish(target: Target, units: Blocks, overwrite: bool, written: list[Any]) -> zarr.Array[Any]:
    if target.in_place:
        return _open(finish_region(target, units))
    return _open(finish_array(target, units, overwrite))


def _open(path: str | os.PathLike[str]) -> zarr.Array[Any]:
    return cast("zarr.Array[Any]", open_zarr(path, mode="r+"))


def _readable(data: Any) -> tuple[Source | None, da.Array | None]:
    """Give data as a source that is read by regions, or as an array that must be computed."""
    if isinstance(data, da.Array):
        if any(np.isnan(n) for n in data.shape):
            raise ArgumentError(
                f"the array's shape {data.shape} is not known before it is computed: call "
                "compute_chunk_sizes() on it first"
            )
    elif not isinstance(data, (Source, np.ndarray)):
        raise ArgumentError(
            f"data must be a dask or numpy array, got {type(data).__name__}. "
            "np.asarray or dask.array.from_array makes it one."
        )
    # "g" and "G" are C's long doubles, which Zarr does not have.
    dtype, ndim = data.dtype, data.ndim
    if not 1 <= ndim <= 5 or dtype.kind not in "biufc" or dtype.char in "gG":
        raise ArgumentError(
            f"data must have 1 to 5 axes and a bool, integer, float or complex dtype, got {ndim} "
            f"axes of {dtype}"
        )
    if isinstance(data, da.Array):
        return source_of(data), data
    if isinstance(data, Source):
        return data, None
    return ArraySource(data, f"numpy-{dtype.str}-{data.shape}-{array_crc32c(data):08x}"), None


def _plan(
    source: Source | None,
    array: da.Array | None,
    chunks: int | Sequence[int],
    max_mem: int | str | None,
    nb_workers: int | None,
) -> WritePlan:
    data: Any = source if source is not None else array
    dtype = data.dtype.newbyteorder("=")
    extents = expand_chunks(data.shape, chunks)
    allowed = resolve_max_mem(max_mem)
    workers = worker_count(nb_workers)
    kind = (dtype.name, dtype.itemsize, extents)
    if source is not None:
        return plan_source(
            source.shape, *kind, source.read_shape, nb_workers=workers, max_mem=allowed
        )
    aligned = blocks_fit_chunks(data.chunks, extents)
    plan = plan_blocks if aligned else plan_gather
    return plan(data.chunks, *kind, nb_workers=workers, max_mem=allowed)


def _compressor(plan: WritePlan, codec: Any) -> Any:
    return resolve_codec(codec, math.prod(plan.chunks) * plan.itemsize, plan.itemsize)


def _check_fill(fill_value: Any, dtype: str) -> None:
    """Refuse a fill value that the array's dtype cannot hold, before anything is created."""
    try:
        fill = np.array(0 if fill_value is None else fill_value, dtype=dtype)
        fits = fill.ndim == 0 and (fill.dtype.kind in "fc" or fill == (fill_value or 0))
    except (ValueError, TypeError, OverflowError):
        fits = False
    if not fits:
        raise ArgumentError(f"fill_value must be a number of dtype {dtype}, got {fill_value!r}")


def _settings(
    plan: WritePlan,
    source: Source | None,
    array: da.Array | None,
    compressor: Any,
    fill: Any,
    attributes: dict[str, Any] | None,
) -> dict[str, Any]:
    """Give what a resumed write must share with the one that began."""
    token = source.token if source is not None else str(array.name if array is not None else "")
    return {
        "source": hashlib.sha256(token.encode()).hexdigest(),
        "shape": plan.shape,
        "dtype": plan.dtype,
        "chunks": plan.chunks,
        "codec": None if compressor is None else compressor.get_config(),
        "fill_value": repr(fill),
        "attributes": _json(attributes),
    }


def _json(attributes: dict[str, Any] | None) -> Any:
    try:
        return json.loads(json.dumps(attributes or {}))
    except (TypeError, ValueError) as err:
        raise ArgumentError(f"attributes cannot be written as JSON: {err}") from err
