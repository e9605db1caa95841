"""Any array streamed into a chunked Zarr array: planned, in bounded memory, whole or absent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from dask.delayed import Delayed

from scout_dask_io.core.axes import (
    DIMENSIONS_ATTRIBUTE,
    names_to_store,
    pages_as_planes,
    stated_axes,
)
from scout_dask_io.core.grid import Blocks
from scout_dask_io.core.plan import WritePlan
from scout_dask_io.core.voxel_size import VoxelSizeLike, as_voxel_size
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.read.data_array import from_xarray, is_data_array
from scout_dask_io.read.missing_planes import attributes_with_filled, filled_record
from scout_dask_io.read.voxel_size import attributes_with
from scout_dask_io.run.lazy import Pixels
from scout_dask_io.run.progress import Report
from scout_dask_io.store.codecs import CodecLike
from scout_dask_io.store.image_info import attributes_of
from scout_dask_io.store.nodes import open_with_zarr
from scout_dask_io.store.region_write import RegionWrite
from scout_dask_io.store.transaction import begin, begin_region
from scout_dask_io.store.unfinished import NewArray
from scout_dask_io.write.append import append_array
from scout_dask_io.write.arguments import (
    check_fill,
    check_remote,
    compressor_of,
    plan_stored,
    plan_write,
    settings_of,
)
from scout_dask_io.write.inputs import WriteInput, readable
from scout_dask_io.write.options import CHUNKS, DEFAULT, Limits, Storage, WriteMode, usual_codecs
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.qc.findings import Subject
from scout_dask_io.write.qc.run import check_qc, info_of, put_sheet, subject_of
from scout_dask_io.write.region import check_region, stored_format
from scout_dask_io.write.tasks import open_standing, run_write, standing_at, unit_tasks
from scout_dask_io.write.unit import Target, noted_by, units_done
from scout_dask_io.write.uploads import upload_limit

if TYPE_CHECKING:
    import zarr


def plan_zarr(
    data: Pixels,
    chunks: int | Sequence[int] | None = None,
    *,
    codec: CodecLike = "default",
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
    storage = Storage(chunks, codec, zarr_format, shards)
    plan = plan_write(readable(data), storage, Limits(max_mem, nb_workers))
    compressor_of(plan, _codec_of(codec))
    return plan


def write_zarr(
    path: str | os.PathLike[str] | Location,
    data: Pixels,
    chunks: int | Sequence[int] | None = None,
    *,
    codec: CodecLike = "default",
    fill_value: Any = 0,
    attributes: dict[str, Any] | None = None,
    voxel_size: VoxelSizeLike = None,
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
    append: str | int | None = None,
    compute: bool = True,
    progress: bool | Report = False,
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
    chunks : int or sequence of int, optional
        Chunk extents for the last axes, in elements; axes before them get 1,
        and -1 is a whole axis. By default ``(64, 64, 64)``, or what ``dask.config`` has.
    codec
        ``"zstd"`` (Blosc, level 1, bitshuffle), ``"lz4"`` (twice as fast, 4 %
        larger), ``"none"``, a numcodecs codec, or its configuration. By default zstd, or what
        ``dask.config`` has.
    fill_value
        What chunks that hold nothing else are not stored for.
    attributes : dict, optional
        JSON attributes of the array, which count before those that data as a reader gave them
        bring along: its own, and names of channels, colours, contrast windows, and where the
        image lies. Planes that a reader filled are put on record in ``filled_planes``.
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
    append : str or int, optional
        Let the array that stands at ``path`` grow along this axis, by its letter, name or
        number: the data come after its last element there, and are as long as it is along all
        other axes. Settings are its own, and need not be given. Readers see the old shape, and
        the old elements bit for bit, until all is in; then its metadata are replaced in one
        step. Chunks that the old end lies in are read back, held against the manifest, and
        written again. With ``resume``, an append that was interrupted is finished, and one that
        was finished is not done twice; ``overwrite`` drops one that was interrupted, and nothing
        else.
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
    mode = WriteMode(overwrite, resume, durable, compute, progress)
    limits = Limits(max_mem, nb_workers)
    coordinates = is_data_array(data)
    if coordinates:
        data, stated = from_xarray(data)
        if region is None and append is None:
            attributes = {**attributes_of(stated, stated.names), **(attributes or {})}
            axes = (stated.axes or None) if axes is None else axes
            voxel_size = stated.voxel_size if voxel_size is None else voxel_size
    if append is not None:
        if region is not None or qc or any(g is not None for g in (attributes, voxel_size, axes)):
            raise ArgumentError(
                "append goes with none of region, qc, attributes, voxel_size and axes: the array "
                "that stands has its own"
            )
        given = _given(chunks, codec, fill_value, zarr_format, shards)
        grown = append_array(destination, data, append, mode, limits, given)
        return cast("zarr.Array[Any] | Delayed", grown)
    pixels = readable(data)
    subject = None
    if region is not None:
        own = (attributes, voxel_size, axes)
        if overwrite or resume or qc or any(given is not None for given in own):
            raise ArgumentError(
                "region goes with none of overwrite, resume, qc, attributes, voxel_size and axes"
            )
        _check_own(chunks, codec, fill_value, zarr_format, shards)
        fmt = stored_format(destination)
        where = check_region(region, fmt, pixels.shape, pixels.dtype)
        sharded = fmt.described().get("shards") is not None
        plan = plan_stored(pixels, fmt.chunks, limits, sharded=sharded)
        check_remote(destination, plan, data, overwrite=False)
        limit = upload_limit(destination, plan)
        if compute:
            preflight([data], destination, in_place=True)
        into = RegionWrite(where, fmt, filled_record(where, data))
        txn = begin_region(destination, into, durable=durable)
    else:
        plan = plan_write(pixels, Storage(chunks, codec, zarr_format, shards), limits)
        compressor = compressor_of(plan, _codec_of(codec))
        check_fill(fill_value, plan.dtype)
        limit = upload_limit(destination, plan)
        if not coordinates:  # which say all that is known
            known = _attributes_of(pixels, axes, voxel_size)
            attributes = {**known, **(attributes or {})} or None
        attributes = attributes_with_filled(attributes_with(attributes, data, voxel_size), data)
        settings = settings_of(plan, pixels, compressor, fill_value, attributes)
        names = _names_of_axes(axes, pixels, attributes, len(plan.shape))
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
            return cast("zarr.Array[Any] | Delayed", standing_at(destination, mode))
        txn = begun
        plan = replace(plan, units=tuple(map(tuple, txn.settings["units"])))
        pixels = pixels.kept_rows(txn, None)
    target = Target(txn, txn.format(None), plan.band, qc=qc, uploads=limit)
    done = units_done(target, {None: plan.units}, resume=resume, deep=durable)
    name = f"write-{txn.name}"
    graph = unit_tasks(name, plan, pixels, target, done, mode)
    publish = partial(_commit, target, plan.units, subject)
    written = run_write(graph, publish, pixels.array, target, plan, mode)
    return cast("zarr.Array[Any] | Delayed", written)


def _attributes_of(pixels: WriteInput, axes: Any, voxel_size: Any) -> dict[str, Any]:
    """Give the attributes that state what is known of data as a reader gave them."""
    info, shape = pixels.info.sized(as_voxel_size(voxel_size)), pixels.shape
    letters = info.axes if axes is None else stated_axes(list(axes), len(shape))
    if letters != info.axes:
        info = info.renamed(letters, shape) if letters else replace(info, axes="", frame=())
    # The attribute names what lies along the first axis; the record has channels of any.
    leads = letters[:1] in ("", "c") and shape[:1] == (len(info.names),)
    return attributes_of(info, info.names if leads else ())


def _names_of_axes(
    axes: Any, pixels: WriteInput, attributes: Mapping[str, Any] | None, ndim: int
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
    if pixels.source is None or DIMENSIONS_ATTRIBUTE in (attributes or {}):
        return None
    known = (attributes or {}).get("channels") or ()
    stated = pixels.info.axes
    if pixels.source.has_pages:
        stated = pages_as_planes(stated)  # beside colour or channels, which the array would lose
    return names_to_store(stated, known, pixels.shape)


def _check_own(*given: Any) -> None:
    """Refuse what an array that stands has of its own, where it is not left as it is."""
    if names := list(_given(*given)):
        raise ArgumentError(
            f"region goes with none of {', '.join(names)}: the array that stands has its own"
        )


def _given(*values: Any) -> dict[str, Any]:
    """Give what is said of how an array is stored: chunks, codec and so on, where not left out."""
    # The second are those of 0.1, which may stand in calls.
    defaults: dict[str, tuple[Any, ...]] = {
        "chunks": (None, CHUNKS), "codec": (DEFAULT, "zstd"), "fill_value": (0,),
        "zarr_format": (2,), "shards": (None,),
    }  # fmt: skip
    pairs = zip(defaults.items(), values, strict=True)
    return {name: value for (name, left_out), value in pairs if value not in left_out}


def _codec_of(codec: Any) -> Any:
    """Give the codec that is given, or else the usual one."""
    return usual_codecs(codec)[0] if isinstance(codec, str) else codec


def _commit(target: Target, units: Blocks, subject: Subject | None, written: list[Any]) -> Any:
    txn = target.transaction
    with target.attempt.working():
        if subject is not None:
            put_sheet(target, units, subject)
        node = txn.commit({None: units}, known=noted_by(written))
        if node is not None:
            return open_with_zarr(node, read_only=False)
        return open_standing(txn.destination)
