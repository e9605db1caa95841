"""The arguments of a write, checked before anything is created: plan, codec, settings."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import Shape, expand_chunks
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import OVERWRITE, Option
from scout_dask_io.core.plan import (
    WritePlan,
    copies_of,
    pieces_of_plane,
    plan_computed,
    plan_source,
    slab_nbytes,
)
from scout_dask_io.core.shards import fit_shards
from scout_dask_io.core.source import Source
from scout_dask_io.errors import ArgumentError, ChunkError, MemoryLimitError
from scout_dask_io.files.location import Location
from scout_dask_io.run.graph_search import search_graph
from scout_dask_io.run.memory import free_mem
from scout_dask_io.run.scheduler import planned, runs_here
from scout_dask_io.store.codecs import resolve_codec, v3_compressors
from scout_dask_io.store.journal import MAX_CHUNK_NBYTES
from scout_dask_io.store.readers import may_read
from scout_dask_io.write.inputs import WriteInput
from scout_dask_io.write.options import Limits, Storage, usual_chunks
from scout_dask_io.write.planes import planes_noted


def plan_write(pixels: WriteInput, storage: Storage, limits: Limits) -> WritePlan:
    """Give the plan of a write; its units are whole shards.

    Raises
    ------
    ArgumentError, ChunkError, MemoryLimitError
        If an argument does not fit, or the write does not fit in ``max_mem``.
    """
    zarr_format, shards = storage.zarr_format, storage.shards
    if zarr_format not in (2, 3) or isinstance(zarr_format, bool):
        raise ArgumentError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
    if shards is not None and zarr_format != 3:
        raise ArgumentError(
            "shards are a part of Zarr v3: give " + Option("zarr_format", 3) + " with them"
        )
    inner = expand_chunks(
        pixels.shape, usual_chunks() if storage.chunks is None else storage.chunks
    )
    fitted = fit_shards(pixels.shape, inner, shards, pixels.dtype.itemsize)
    # A file has one writer and is encoded whole, so to the plan a shard is a chunk.
    plan = plan_stored(pixels, fitted or inner, limits, sharded=fitted is not None)
    return replace(plan, chunks=inner, shards=fitted, zarr_format=zarr_format)


def plan_stored(pixels: WriteInput, stored: Shape, limits: Limits, *, sharded: bool) -> WritePlan:
    """Plan by the extent of what one file holds, a shard or a chunk."""
    source, dtype = pixels.source, pixels.dtype
    room: dict[str, Any] = {"max_mem": limits.max_mem, "nb_workers": limits.nb_workers}
    room["n_copies"] = copies_of(sharded=sharded)
    try:
        if source is not None:
            room |= {"band_nbytes": source.band_nbytes, "ahead_nbytes": source.ahead_nbytes}
            plan = planned(plan_source, source.shape, dtype, stored, source.read_shape, **room)
            cached_nbytes, n_reads = _reads_of(source, plan)
            return replace(plan, cached_nbytes=cached_nbytes, n_reads=n_reads)
        return planned(plan_computed, pixels.data.chunks, dtype, stored, **room)
    except MemoryLimitError as err:
        if not sharded:
            raise
        nbytes = format_nbytes(math.prod(stored) * dtype.itemsize)
        raise MemoryLimitError(
            f"a shard of {stored}, {nbytes}, is in memory whole while it is encoded, as a chunk "
            "is: " + err.args[0] + " Smaller shards take less."
        ) from err


def _reads_of(source: Source, plan: WritePlan) -> tuple[int, int]:
    """Give what the cache of files is to hold of planes on a disk, and how often each is read.

    The planes in work, and as many of the next, but not more than half of what is free. Where that
    does not hold the planes in work, rows are read as they are needed; and so on a cluster, where
    a worker needs few rows of each plane.
    """
    if not source.reads_ahead:
        return 0, 0
    n_pieces, slab = pieces_of_plane(plan), slab_nbytes(plan)
    room = free_mem() // 2 if runs_here() else 0
    if n_pieces < 2 or slab > room:
        return 0, n_pieces
    return min(2 * slab, plan.nbytes, room), 1


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
    pixels: WriteInput,
    compressor: Any,
    fill: Any,
    attributes: dict[str, Any] | None,
) -> dict[str, Any]:
    """Give what a resumed write must share with the one that began."""
    return {
        "source": pixels.digest,
        "shape": plan.shape,
        "dtype": plan.dtype,
        "chunks": plan.chunks,
        "shards": plan.shards,
        "zarr_format": plan.zarr_format,
        "codec": None if compressor is None else compressor.get_config(),
        "fill_value": repr(fill),
        "attributes": _json(attributes),
        **planes_noted(pixels.source),
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
