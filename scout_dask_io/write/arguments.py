"""The arguments of a write, checked before anything is created: data, plan, codec, settings."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import Shape, expand_chunks
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import OVERWRITE, Option
from scout_dask_io.core.plan import WritePlan, copies_of, plan_computed, plan_source
from scout_dask_io.core.shards import fit_shards
from scout_dask_io.core.source import ArraySource, Source
from scout_dask_io.errors import ArgumentError, ChunkError, MemoryLimitError
from scout_dask_io.files.location import Location
from scout_dask_io.run.graph_search import search_graph
from scout_dask_io.run.lazy import source_of
from scout_dask_io.run.scheduler import planned
from scout_dask_io.store.chunk_v2 import array_crc32c
from scout_dask_io.store.codecs import resolve_codec, v3_compressors
from scout_dask_io.store.journal import MAX_CHUNK_NBYTES
from scout_dask_io.store.readers import may_read
from scout_dask_io.write.tasks import check_unmasked


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
    plan = plan_stored(
        source, array, fitted or inner, max_mem, nb_workers, sharded=fitted is not None
    )
    return replace(plan, chunks=inner, shards=fitted, zarr_format=zarr_format)


def plan_stored(
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
            room |= {"band_nbytes": source.band_nbytes, "ahead_nbytes": source.ahead_nbytes}
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
        return parse_json(json.dumps(attributes or {}, allow_nan=False))
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
