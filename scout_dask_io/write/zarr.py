"""Any array streamed into a chunked Zarr array: planned, in bounded memory, whole or absent.

The arguments of a write, checked before anything is created: data, plan, codec, settings.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

from scout_dask_io.core.axes import DIMENSIONS_ATTRIBUTE, names_to_store
from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import Blocks, Shape, expand_chunks
from scout_dask_io.core.messages import OVERWRITE, Option
from scout_dask_io.core.plan import WritePlan, copies_of, plan_computed, plan_source
from scout_dask_io.core.shards import fit_shards
from scout_dask_io.core.source import ArraySource, Source
from scout_dask_io.errors import ArgumentError, ChunkError, MemoryLimitError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.read.data_array import from_xarray, is_data_array, stored_arguments
from scout_dask_io.read.missing_planes import attributes_with_filled, filled_record
from scout_dask_io.read.voxel_size import attributes_with
from scout_dask_io.run.graph_search import search_graph
from scout_dask_io.run.lazy import Pixels, source_of
from scout_dask_io.run.scheduler import planned
from scout_dask_io.store.chunk_v2 import array_crc32c
from scout_dask_io.store.codecs import CodecLike, resolve_codec, v3_compressors
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.journal import MAX_CHUNK_NBYTES
from scout_dask_io.store.nodes import open_with_zarr
from scout_dask_io.store.readers import may_read
from scout_dask_io.store.region_write import RegionWrite
from scout_dask_io.store.transaction import begin, begin_region
from scout_dask_io.store.unfinished import NewArray
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.qc.findings import Subject
from scout_dask_io.write.qc.run import check_qc, info_of, put_sheet, subject_of
from scout_dask_io.write.region import check_region, stored_format
from scout_dask_io.write.tasks import check_unmasked, run_write, unit_tasks
from scout_dask_io.write.unit import Target, units_done
from scout_dask_io.write.uploads import upload_limit

if TYPE_CHECKING:
    import zarr


def plan_zarr(
    data: Pixels,
    chunks: int | Sequence[int] = (64, 64, 64),
    *,
    codec: CodecLike = "zstd",
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
    if is_data_array(data):
        data, _ = from_xarray(data)
    source, array = readable(data)
    plan = plan_write(source, array, chunks, max_mem, nb_workers, zarr_format, shards)
    compressor_of(plan, codec)
    return plan


def write_zarr(
    path: str | os.PathLike[str] | Location,
    data: Pixels,
    chunks: int | Sequence[int] = (64, 64, 64),
    *,
    codec: CodecLike = "zstd",
    fill_value: Any = 0,
    attributes: dict[str, Any] | None = None,
    voxel_size: Any = None,
    axes: str | Sequence[str | None] | None = None,
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
    data : dask.array.Array, numpy.ndarray or xarray.DataArray
        1 to 5 axes, bool, integer, float or complex. What the coordinates of a
        ``DataArray`` state is kept, as :func:`to_xarray` gives it: axes, in OME-Zarr's order,
        names of channels, and where elements lie.
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
    axes : str or sequence of str, optional
        What the axes are: a letter each, such as ``"tyx"``, or names in words; kept as the
        attribute ``_ARRAY_DIMENSIONS``, of Zarr v3 as ``dimension_names``. By default what is
        stated for data as a reader gave them, where it is not what their number says.
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
        finished units are not computed again, but for those whose chunks do not lie
        there as they were written, by their sizes (with ``durable`` by their CRC32C), of
        which it warns. Where there is none, begin; where the array stands finished with
        the same data and settings, nothing is done.
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
        its own chunks or shards, codec, fill value and format, so that none is to be
        given. It must start and end on the edges of them, or at the array's. Each
        chunk is replaced in one step; after a failure some are new. The data must not
        be read from the array itself.
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
    if is_data_array(data):
        data, stated = from_xarray(data)
        if region is None:
            known = stored_arguments(stated)
            attributes = {**known["attributes"], **(attributes or {})}
            axes = known["axes"] if axes is None else axes
            voxel_size = known["voxel_size"] if voxel_size is None else voxel_size
    source, array = readable(data)
    subject = None
    if region is not None:
        own = (attributes, voxel_size, axes)
        if overwrite or resume or qc or any(given is not None for given in own):
            raise ArgumentError(
                "region goes with none of overwrite, resume, qc, attributes, voxel_size and axes"
            )
        _check_own(chunks, codec, fill_value, zarr_format, shards)
        fmt = stored_format(destination)
        part: Any = data
        where = check_region(region, fmt, part.shape, part.dtype.newbyteorder("="))
        sharded = fmt.described().get("shards") is not None
        plan = _plan(source, array, fmt.chunks, max_mem, nb_workers, sharded=sharded)
        check_remote(destination, plan, data, overwrite=False)
        limit = upload_limit(destination, plan)
        if compute:
            preflight([data], destination, in_place=True)
        into = RegionWrite(where, fmt, filled_record(where, data))
        txn = begin_region(destination, into, durable=durable)
    else:
        plan = plan_write(source, array, chunks, max_mem, nb_workers, zarr_format, shards)
        compressor = compressor_of(plan, codec)
        check_fill(fill_value, plan.dtype)
        limit = upload_limit(destination, plan)
        attributes = attributes_with_filled(attributes_with(attributes, data, voxel_size), data)
        settings = settings_of(plan, source, array, compressor, fill_value, attributes)
        names = _names_of_axes(axes, source, attributes, len(plan.shape))
        if axes is not None:
            settings["axes"] = names
        if qc:
            check_qc(plan.shape, np.dtype(plan.dtype), destination)
            subject = subject_of(destination, data, plan, info_of(attributes, plan.shape, names))
        if compute:
            preflight([data], destination)
        of_array: dict[str, Any] = {"compressor": compressor, "fill_value": fill_value}
        of_array |= {"attributes": attributes, "zarr_format": plan.zarr_format}
        of_array |= {"shards": plan.shards} if plan.shards else {}
        if names and plan.zarr_format == 3:
            of_array["dimension_names"] = names
        elif names:
            of_array["attributes"] = {**(attributes or {}), DIMENSIONS_ATTRIBUTE: names}
        begun = begin(
            destination,
            [NewArray(plan.shape, plan.chunks, plan.dtype, of_array)],
            {**settings, "qc": qc},
            {"units": plan.units},
            overwrite=overwrite,
            resume=resume,
            durable=durable,
            check=partial(check_remote, destination, plan, data, overwrite=overwrite),
        )
        if begun is None:
            return _open(destination) if compute else cast(Any, delayed(_open)(destination))
        txn = begun
        plan = replace(plan, units=tuple(map(tuple, txn.settings["units"])))
    target = Target(txn, txn.format(None), plan.band, qc=qc, uploads=limit)
    done = units_done(target, {None: plan.units}, resume=resume, deep=durable)
    name = f"write-{txn.name}"
    tasks, ends = unit_tasks(name, plan, source, array, target, done)
    written = run_write(
        name,
        tasks,
        {key for key in tasks if key[0] == name},
        ends,
        partial(_commit, target, plan.units, subject),
        array,
        target,
        plan,
        compute=compute,
        progress=progress,
        already=len(done),
    )
    return cast("zarr.Array[Any] | Delayed", written)


def _names_of_axes(
    axes: Any, source: Source | None, attributes: Mapping[str, Any] | None, ndim: int
) -> list[Any] | None:
    """Give the names of axes that an array stores: those given, else what its source states.

    Raises
    ------
    ArgumentError
        If those that are given are not as many as the array has axes, or are no names.
    """
    if axes is not None:
        names = list(axes)
        good = [n for n in names if n is None or isinstance(n, str)]
        if len(names) != ndim or len(good) != ndim:
            raise ArgumentError(
                f"axes must be {ndim} letters or names, one an axis of the array, got {axes!r}"
            )
        return names
    if source is None or DIMENSIONS_ATTRIBUTE in (attributes or {}):
        return None
    return names_to_store(source.info.axes, (attributes or {}).get("channels") or ())


def _check_own(*given: Any) -> None:
    """Refuse what an array that stands has of its own, where it is not left as it is."""
    defaults = {"chunks": (64, 64, 64), "codec": "zstd", "fill_value": 0, "zarr_format": 2}
    pairs = zip({**defaults, "shards": None}.items(), given, strict=True)
    if names := [name for (name, default), value in pairs if value != default]:
        raise ArgumentError(
            f"region goes with none of {', '.join(names)}: the array that stands has its own"
        )


def _commit(
    target: Target, units: Blocks, subject: Subject | None, written: list[Any]
) -> zarr.Array[Any]:
    txn = target.transaction
    with target.attempt.working():
        if subject is not None:
            put_sheet(target, units, subject)
        node = txn.commit({None: units})
        if node is not None:
            return cast("zarr.Array[Any]", open_with_zarr(node, read_only=False))
        return _open(txn.destination)


def _open(path: Any) -> zarr.Array[Any]:
    return cast("zarr.Array[Any]", open_zarr(path, mode="r+"))


def readable(data: Any) -> tuple[Source | None, da.Array | None]:
    """Give data as a source that is read by regions, or else as an array that must be computed.

    Raises
    ------
    ArgumentError
        If it is no array, masked, or of a kind that Zarr arrays of this library do not hold.
    """
    check_unmasked(data)
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
        source = source_of(data)
        return (None, data) if source is None else (source, None)
    if isinstance(data, Source):
        return data, None
    return ArraySource(data, f"numpy-{dtype.str}-{data.shape}-{array_crc32c(data):08x}"), None


def plan_write(
    source: Source | None,
    array: da.Array | None,
    chunks: int | Sequence[int],
    max_mem: int | str | None,
    nb_workers: int | None,
    zarr_format: int = 2,
    shards: int | Sequence[int] | None = None,
) -> WritePlan:
    """Give the plan of a write of what :func:`readable` gave; its units are whole shards.

    Raises
    ------
    ArgumentError, ChunkError, MemoryLimitError
        If an argument does not fit, or the write does not fit in ``max_mem``.
    """
    if zarr_format not in (2, 3) or isinstance(zarr_format, bool):
        raise ArgumentError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
    if shards is not None and zarr_format != 3:
        raise ArgumentError(
            "shards are a part of Zarr v3: give " + Option("zarr_format", 3) + " with them"
        )
    data: Any = source if source is not None else array
    dtype = data.dtype.newbyteorder("=")
    inner = expand_chunks(data.shape, chunks)
    fitted = fit_shards(data.shape, inner, shards, dtype.itemsize)
    # A file has one writer and is encoded whole, so to the plan a shard is a chunk.
    plan = _plan(source, array, fitted or inner, max_mem, nb_workers, sharded=fitted is not None)
    return replace(plan, chunks=inner, shards=fitted, zarr_format=zarr_format)


def _plan(
    source: Source | None,
    array: da.Array | None,
    stored: Shape,
    max_mem: int | str | None,
    nb_workers: int | None,
    *,
    sharded: bool,
) -> WritePlan:
    """Plan by the extent of what one file holds, a shard or a chunk."""
    data: Any = source if source is not None else array
    dtype = data.dtype.newbyteorder("=")
    kind = (dtype.name, dtype.itemsize, stored)
    room: dict[str, Any] = {"max_mem": max_mem, "nb_workers": nb_workers}
    room["n_copies"] = copies_of(sharded=sharded)
    try:
        if source is not None:
            room["band_nbytes"] = source.band_nbytes
            return planned(plan_source, source.shape, *kind, source.read_shape, **room)
        return planned(plan_computed, data.chunks, *kind, **room)
    except MemoryLimitError as err:
        if not sharded:
            raise
        nbytes = format_nbytes(math.prod(stored) * dtype.itemsize)
        raise MemoryLimitError(
            f"a shard of {stored}, {nbytes}, is in memory whole while it is encoded, as a chunk "
            "is: " + err.args[0] + " Smaller shards take less."
        ) from err


def compressor_of(plan: WritePlan, codec: Any) -> Any:
    """Give the numcodecs compressor for the chunks of a plan; ``None`` for no compression.

    Raises
    ------
    ArgumentError
        If it is not known, or the plan is of Zarr v3, which has none like it.
    ChunkError
        If a chunk is larger than what can be recorded of its file.
    """
    nbytes = math.prod(plan.chunks) * plan.itemsize
    # `fit_shards` has bounded shards.
    if nbytes > MAX_CHUNK_NBYTES:
        raise ChunkError(
            f"a chunk of {nbytes:,} bytes ({plan.chunks} of {plan.itemsize} bytes each) is more "
            f"than the {MAX_CHUNK_NBYTES:,} that can be recorded of one file: choose smaller chunks"
        )
    found = resolve_codec(codec, nbytes, plan.itemsize)
    if plan.zarr_format == 3:
        v3_compressors(found, nbytes, plan.itemsize)
    return found


def check_fill(fill_value: Any, dtype: str) -> None:
    """Refuse a fill value that the array's dtype cannot hold, before anything is created."""
    try:
        fill = np.array(0 if fill_value is None else fill_value, dtype=dtype)
        fits = fill.ndim == 0 and (fill.dtype.kind in "fc" or fill == (fill_value or 0))
    except (ValueError, TypeError, OverflowError):
        fits = False
    if not fits:
        raise ArgumentError(f"fill_value must be a number of dtype {dtype}, got {fill_value!r}")


def settings_of(
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
        "shards": plan.shards,
        "zarr_format": plan.zarr_format,
        "codec": None if compressor is None else compressor.get_config(),
        "fill_value": repr(fill),
        "attributes": _json(attributes),
    }


def _json(attributes: dict[str, Any] | None) -> Any:
    try:
        return json.loads(json.dumps(attributes or {}, allow_nan=False))
    except (TypeError, ValueError) as err:
        raise ArgumentError(
            f"attributes cannot be written as JSON: {err}. Give numbers, text, lists and dicts of "
            'them; for NaN and infinity None, or text such as "NaN".'
        ) from err


def check_remote(destination: Location, plan: WritePlan, data: Any, *, overwrite: bool) -> None:
    """Refuse what goes on a disk and not in an object store, of a write that is to begin there.

    An object store has no room for blocks that are kept for a while. And on a disk
    what is overwritten stands until the new is whole; in a store it is removed first,
    so data must not be read from it.

    Raises
    ------
    MemoryLimitError, ArgumentError
        If it is asked for.
    """
    if destination.on_disk:
        return
    if plan.route == "scratch":
        raise MemoryLimitError(
            Option("max_mem")
            + " cannot hold a row of the array's blocks, which cross the borders of "
            f"chunks, and {destination} has no disk to keep them on. Raise "
            + Option("max_mem")
            + ", give the "
            "array smaller blocks, or write to a disk first and copy that."
        )
    if overwrite and reads_from(data, destination):
        raise ArgumentError(
            f"the data are read from {destination}, or from where that cannot be told, which "
            + OVERWRITE
            + " removes before they are "
            "written: write to another path"
        )


def reads_from(data: Any, place: Location) -> bool:
    """Tell whether data are read from a place in a store, by whichever reader in their graph.

    ``True`` too where there is a store in the graph that does not say where it is.
    """
    if not isinstance(data, da.Array):
        return _lies_in(data, place)
    hits: list[Any] = []

    def look(found: Any) -> bool:
        if isinstance(found, Source):
            hits.extend([found] * _lies_in(found, place))
            return True
        reads = may_read(found, place)
        hits.extend([found] * bool(reads))
        return reads is not None or bool(hits)

    search_graph(data, look)
    return bool(hits)


def _lies_in(source: Any, place: Location) -> bool:
    # A view has what it is a view of.
    root, below = getattr(source, "root", None), getattr(source, "source", None)
    if below is not None and _lies_in(below, place):
        return True
    return root is not None and root.lies_in(place)
