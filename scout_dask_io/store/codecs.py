"""Compressors by name: SCOUT's Blosc presets, and whatever numcodecs offers.

Importing this changes no setting of Blosc.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numcodecs import Blosc
from numcodecs.abc import Codec
from numcodecs.registry import get_codec

from scout_dask_io.errors import ArgumentError, ChunkError

__all__ = ["LEVEL_CODECS", "PRESETS", "blosc_blocksize", "codecs_of_levels", "resolve_codec"]

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
