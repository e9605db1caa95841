"""The arguments of a new array, checked and put as zarr takes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import index as as_index
from typing import Any, cast

import numpy as np
import zarr
from numcodecs import Blosc, GZip, Zstd
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

from scout_dask_io.core.grid import Shape, check_chunks, expand_chunks
from scout_dask_io.errors import ArgumentError, TargetExistsError
from scout_dask_io.store.codecs import blosc_blocksize, resolve_codec

__all__ = ["array_settings", "as_asked", "v3_compressors"]

DEFAULT_CHUNKS = (64, 64, 64)
# What zarr.create_array takes and zarr.create does not.
_V3_ONLY = frozenset(("shards", "compressors", "serializer"))


def array_settings(
    shape: Any, chunks: Any, dtype: Any, kwargs: Mapping[str, Any]
) -> tuple[Callable[..., zarr.Array[Any]], dict[str, Any]]:
    """Give the function of zarr that creates the array, and its arguments but for the store.

    Raises
    ------
    ArgumentError, ChunkError
        If one is not what :func:`~scout_dask_io.new_zarr` accepts.
    """
    if "store" in kwargs:
        raise ArgumentError("store is not accepted: path says where the array lies")
    extents = _check_shape(shape)
    fitted = _fit_chunks(extents, chunks)
    found = np.dtype(dtype)
    nbytes = math.prod(fitted) * found.itemsize
    settings = {**kwargs, "shape": extents, "chunks": fitted, "dtype": found}
    settings["zarr_format"] = kwargs.get("zarr_format") or 2
    codec = kwargs.get("compressor", "zstd")
    codec = "zstd" if codec in ("auto", "default") else codec
    if settings["zarr_format"] == 2:
        settings["compressor"] = resolve_codec(codec, nbytes, found.itemsize)
        settings["dimension_separator"] = kwargs.get("dimension_separator") or "/"
        return zarr.create, settings
    settings.pop("compressor", None)
    compressors = v3_compressors(codec, nbytes, found.itemsize)
    if _V3_ONLY & kwargs.keys():
        settings.setdefault("compressors", compressors)
        return zarr.create_array, settings
    settings.setdefault("codecs", [BytesCodec(), *compressors])
    return zarr.create, settings


def v3_compressors(codec: Any, chunk_nbytes: int, itemsize: int) -> list[BytesBytesCodec]:
    """Give the codecs of Zarr v3 that do what a numcodecs compressor does.

    Raises
    ------
    ArgumentError
        If there is none: v3 has Blosc, Zstandard and gzip.
    """
    found = resolve_codec(codec, chunk_nbytes, itemsize)
    if found is None:
        return []
    if isinstance(found, Zstd):
        return [ZstdCodec(level=found.level, checksum=found.checksum)]
    if isinstance(found, GZip):
        return [GzipCodec(level=found.level)]
    if not isinstance(found, Blosc):
        raise ArgumentError(
            f"codec {codec!r} is not one of Zarr v3, which has Blosc, Zstd and GZip of numcodecs"
        )
    shuffles = {Blosc.NOSHUFFLE: "noshuffle", Blosc.SHUFFLE: "shuffle"}
    return [
        BloscCodec(
            typesize=itemsize,
            cname=found.cname,
            clevel=found.clevel,
            shuffle=cast(Any, shuffles.get(found.shuffle, "bitshuffle")),
            blocksize=found.blocksize or blosc_blocksize(chunk_nbytes, itemsize),
        )
    ]


def _check_shape(shape: Any) -> Shape:
    try:
        extents = tuple(as_index(n) for n in (shape if np.iterable(shape) else (shape,)))
    except TypeError:
        extents = (-1,)
    if any(n < 0 for n in extents):
        raise ArgumentError(f"shape must be whole numbers, each at least 0, got {shape!r}")
    return extents


def _fit_chunks(shape: Shape, chunks: Any) -> Shape:
    if chunks is None or chunks is True:
        return expand_chunks(shape, DEFAULT_CHUNKS)
    if chunks is False:
        return expand_chunks(shape, -1)
    if not np.iterable(chunks):
        return expand_chunks(shape, chunks)
    given = tuple(chunks)
    if len(given) == len(shape):
        given = tuple(max(n, 1) if c == -1 else c for c, n in zip(given, shape, strict=True))
    return check_chunks(shape, given)


def as_asked(
    path: object, found: zarr.Array[Any] | zarr.Group, settings: Mapping[str, Any]
) -> zarr.Array[Any]:
    """Give what stands at a path if it is an array of the shape, chunks and dtype asked for.

    Raises
    ------
    TargetExistsError
        If it is not, naming what differs.
    """
    if isinstance(found, zarr.Group):
        raise TargetExistsError(f"{path} holds a Zarr group, expected an array. Use another path.")
    for name in ("shape", "chunks", "dtype"):
        there, expected = getattr(found, name), settings[name]
        if there != expected:
            raise TargetExistsError(
                f"{path} holds an array of {name} {there}, asked for {expected}. Give "
                "overwrite=True to replace it, or another path."
            )
    return found
