"""Compressors by name: SCOUT's Blosc presets, and whatever numcodecs offers.

Importing this changes no setting of Blosc.

The arguments of a new array, checked and put as zarr takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from operator import index as as_index
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import zarr
from numcodecs import Blosc, GZip, Zstd
from numcodecs.abc import Codec
from numcodecs.registry import get_codec
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ZstdCodec

from scout_dask_io.core.grid import Shape, check_chunks, expand_chunks
from scout_dask_io.core.messages import OVERWRITE
from scout_dask_io.errors import ArgumentError, ChunkError, TargetExistsError


class NumcodecsCodec(Protocol):
    """A codec of numcodecs, which has no hints of its own, by what is asked of one."""

    def encode(self, buf: Any, /) -> Any:
        """Compress."""

    def decode(self, buf: Any, /) -> Any:
        """Decompress."""

    def get_config(self) -> Any:
        """Give what it is made by."""


#: A codec as it is given: a name, a configuration of numcodecs, one of its codecs, or none.
CodecLike: TypeAlias = str | Mapping[str, Any] | NumcodecsCodec | None
#: Of all levels of an image, or of the full one and of those below it.
LevelCodecs: TypeAlias = CodecLike | tuple[CodecLike, CodecLike]

#: What the names stand for. Bitshuffle suits the 12 to 14 used bits of camera pixels.
PRESETS: dict[str, dict[str, Any] | None] = {
    "zstd": {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": Blosc.BITSHUFFLE},
    "lz4": {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": Blosc.BITSHUFFLE},
    "none": None,
}

#: Of the full level of an image, and of those below. By ``python -m benchmarks.codecs``, averages
#: of noisy pixels take zstd half as long again as the pixels do. lz4 takes less than half of that,
#: its files are 9 % larger (of the lower levels, so 1 to 3 % in all), and viewers, which read
#: these levels most, decode them in 0.6 of the time.
LEVEL_CODECS = ("zstd", "lz4")

# Above these, larger blocks bring nothing more, and whole chunks of 8 MiB lose.
BLOCK_NBYTES = 2**20
WIDE_BLOCK_ITEMS = 2**18
WIDE_SMALL_ITEMS = 2**15
# Blosc's own limit for one buffer: 2 GiB less its header.
BLOSC_MAX_NBYTES = 2**31 - 1 - 16


def blosc_blocksize(chunk_nbytes: int, itemsize: int) -> int:
    """Give the Blosc block size for chunks of ``chunk_nbytes``, in bytes.

    Measured by ``python -m benchmarks.codecs`` over chunk shapes and dtypes:

    - 8 and 16 bit: the whole chunk, up to 1 MiB. On 64 cubed uint16 chunks that
      encodes 1.4 to 1.6 times as fast as Blosc's own 32 KiB, and 2 to 3 % smaller.
    - 32 and 64 bit: 2**18 elements (1 MiB of float32) where the chunk has them,
      4 % smaller than Blosc's own; else at most 2**15, since blocks between the
      two cost up to 20 % in size (zstd changes its strategy by input size).

    Always a multiple of ``itemsize``.
    """
    if itemsize <= 2:
        return min(chunk_nbytes, BLOCK_NBYTES)
    large = WIDE_BLOCK_ITEMS * itemsize
    return large if chunk_nbytes >= large else min(chunk_nbytes, WIDE_SMALL_ITEMS * itemsize)


def codecs_of_levels(codec: Any) -> tuple[Any, Any]:
    """Give the codec of an image's full level and that of the levels below it.

    A tuple holds the two; anything else stands for both.

    Examples
    --------
    >>> codecs_of_levels(("zstd", "lz4")), codecs_of_levels("none")
    (('zstd', 'lz4'), ('none', 'none'))
    """
    if not isinstance(codec, tuple):
        return codec, codec
    if len(codec) != 2:
        raise ArgumentError(
            "codec must be one for all levels, or two: of the full level and of those below it; "
            f"got {codec!r}"
        )
    return codec


def resolve_codec(codec: Any, chunk_nbytes: int, itemsize: int) -> Codec | None:
    """Give the numcodecs compressor that an argument stands for, ``None`` for no compression.

    Parameters
    ----------
    codec : str, numcodecs codec, mapping or None
        ``"zstd"`` (SCOUT's: Blosc, zstd level 1, bitshuffle), ``"lz4"`` (Blosc,
        lz4 level 1, bitshuffle: 4 % larger, twice as fast), ``"none"`` or
        ``None``; a codec is used as it is, and a mapping is the configuration
        of one, e.g. ``{"id": "zlib", "level": 3}``.
    chunk_nbytes : int
        Size of a decoded chunk, in bytes.
    itemsize : int
        Size of an element, in bytes.

    Raises
    ------
    ArgumentError
        If it is none of these, or numcodecs does not know it.
    ChunkError
        If Blosc would be given chunks above its limit of 2 GiB.

    Examples
    --------
    >>> resolve_codec("zstd", 64**3 * 2, 2)
    Blosc(cname='zstd', clevel=1, shuffle=BITSHUFFLE, blocksize=524288)
    """
    found: Codec | None
    if codec is None:
        return None
    if isinstance(codec, str):
        if codec not in PRESETS:
            raise ArgumentError(
                f"codec {codec!r} is not known: give one of {', '.join(map(repr, PRESETS))}, a "
                "numcodecs codec, or its configuration such as {'id': 'zlib', 'level': 3}"
            )
        preset = PRESETS[codec]
        if preset is None:
            return None
        found = get_codec({**preset, "blocksize": blosc_blocksize(chunk_nbytes, itemsize)})
    elif isinstance(codec, Mapping):
        try:
            found = get_codec(dict(codec))
        except (ValueError, KeyError, TypeError) as err:
            raise ArgumentError(
                f"codec {dict(codec)!r} is no configuration that numcodecs knows: {err}"
            ) from err
    elif isinstance(codec, Codec):
        found = codec
    else:
        raise ArgumentError(
            f"codec must be a name, a numcodecs codec or its configuration, got {codec!r}"
        )
    if isinstance(found, Blosc) and chunk_nbytes > BLOSC_MAX_NBYTES:
        raise ChunkError(
            f"a chunk of {chunk_nbytes:,} bytes is more than the {BLOSC_MAX_NBYTES:,} that Blosc "
            "takes: choose smaller chunks"
        )
    return found


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
                + OVERWRITE
                + " to replace it, or another path."
            )
    return found
