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
from scout_dask_io.core.grid import expand_chunks
from scout_dask_io.core.plan import WritePlan, plan_source
from scout_dask_io.core.plan_computed import plan_computed
from scout_dask_io.core.shards import fit_shards
from scout_dask_io.core.source import ArraySource, Source
from scout_dask_io.errors import ArgumentError, MemoryLimitError
from scout_dask_io.run.lazy import source_of
from scout_dask_io.run.scheduler import planned
from scout_dask_io.store.checksum import array_crc32c
from scout_dask_io.store.codecs import resolve_codec
from scout_dask_io.store.settings import v3_compressors

__all__ = ["check_fill", "compressor_of", "plan_write", "readable", "settings_of"]

# zarr 3.4 puts a shard together in up to five times its memory, 3.1 in three times.
SHARD_COPIES = 5


def readable(data: Any) -> tuple[Source | None, da.Array | None]:
    """Give data as a source that is read by regions, or else as an array that must be computed.

    Raises
    ------
    ArgumentError
        If it is no array, or of a kind that Zarr arrays of this library do not hold.
    """
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
        raise ArgumentError("shards are a part of Zarr v3: give zarr_format=3 with them")
    data: Any = source if source is not None else array
    dtype = data.dtype.newbyteorder("=")
    inner = expand_chunks(data.shape, chunks)
    fitted = fit_shards(data.shape, inner, shards, dtype.itemsize)
    # A file has one writer and is encoded whole, so to the plan a shard is a chunk.
    extents = fitted or inner
    kind = (dtype.name, dtype.itemsize, extents)
    room: dict[str, Any] = {"max_mem": max_mem, "nb_workers": nb_workers}
    if fitted:
        room["n_copies"] = SHARD_COPIES
    try:
        if source is not None:
            plan = planned(plan_source, source.shape, *kind, source.read_shape, **room)
        else:
            plan = planned(plan_computed, data.chunks, *kind, **room)
    except MemoryLimitError as err:
        if fitted is None:
            raise
        nbytes = format_nbytes(math.prod(fitted) * dtype.itemsize)
        raise MemoryLimitError(
            f"a shard of {fitted}, {nbytes}, is in memory whole while it is encoded, as a chunk "
            f"is: {err} Smaller shards take less."
        ) from err
    return replace(plan, chunks=inner, shards=fitted, zarr_format=zarr_format)


def compressor_of(plan: WritePlan, codec: Any) -> Any:
    """Give the numcodecs compressor for the chunks of a plan; ``None`` for no compression.

    Raises
    ------
    ArgumentError
        If it is not known, or the plan is of Zarr v3, which has none like it.
    """
    nbytes = math.prod(plan.chunks) * plan.itemsize
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
        return json.loads(json.dumps(attributes or {}))
    except (TypeError, ValueError) as err:
        raise ArgumentError(f"attributes cannot be written as JSON: {err}") from err
