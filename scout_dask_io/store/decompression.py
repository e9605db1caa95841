"""Compressed chunks are decoded as far as the metadata allow, and no further.

A gzip stream of 2 MB can hold 2 GB, and the header of a Blosc, LZ4 or Zstandard buffer may claim
them, which decoders ask memory for before they look at anything else. The size of a decoded chunk
is known beforehand: by it a claim is refused, and a stream cut off.

Those that decode chunk files here ask :func:`decompress`; what zarr decodes is bounded by
:func:`bounded`, which gives an array the same codecs with this in the place of their own.
"""

from __future__ import annotations

import asyncio
import bz2
import lzma
import math
import struct
import zlib
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import zarr
from numcodecs.abc import Codec
from numcodecs.registry import get_codec
from zarr.abc.codec import ArrayBytesCodec, BytesBytesCodec
from zarr.codecs import BloscCodec, BytesCodec, GzipCodec, ShardingCodec, ZstdCodec

from scout_dask_io.core.grid import chunk_counts

# What filters, an index of shards, or a codec below another one add to a chunk at most: from
# 8-bit numbers to complex ones it is sixteen times as large.
_MORE, _OVERHEAD = 16, 2**16
_BLOSC_SIZES = struct.Struct("<III")


def check_claim(codec_id: str, data: bytes, most: int, *, exact: bool) -> None:
    """Refuse a buffer whose header claims another size than a chunk has.

    Parameters
    ----------
    codec_id : str
        Of numcodecs; one that claims nothing is not looked at.
    data : bytes-like
        The buffer.
    most : int
        What it may decode to, in bytes: no less either, where that is ``exact``.

    Raises
    ------
    ValueError
        Saying what is claimed, and what was expected.
    """
    claim = _CLAIMS.get(codec_id)
    if claim is None:
        return
    found, stored = claim(data)
    unknown_bomb = found is None and not exact
    good = not unknown_bomb and (found is None or (found == most if exact else found <= most))
    if good and stored in (-1, len(data)):
        return
    size = "no size" if found is None else f"{found} bytes"
    size += f" in {stored}" if stored >= 0 else ""
    expected = f"{most}" if exact else f"at most {most}"
    raise ValueError(
        f"the chunk's header says {size}, expected {expected} in the {len(data)} bytes of the file"
    )


def decompress(codec: Codec, data: Any, most: int) -> bytes | None:
    """Decode a stream of gzip, zlib, bz2 or LZMA up to a size; ``None`` for other codecs.

    Raises
    ------
    ValueError
        If it is larger, or cut off.
    """
    stream = _decompressor(codec)
    if stream is None:
        return None
    found = stream.decompress(data, most + 1)
    while stream.eof and len(found) <= most and codec.codec_id != "zlib":
        # gzip and bz2 files may be put one after another.
        rest = stream.unused_data
        if not rest.rstrip(b"\0"):
            break
        stream = _decompressor(codec)
        found += stream.decompress(rest, most + 1 - len(found))
    if len(found) > most:
        raise ValueError(f"the chunk decodes to more than {most} bytes")
    if not stream.eof:
        raise ValueError("the compressed stream is cut off")
    return cast(bytes, found)


def _decompressor(codec: Codec) -> Any:
    """Give what decodes a stream up to a number of bytes, or ``None`` if there is no such thing."""
    if codec.codec_id == "zlib":
        return zlib.decompressobj()
    if codec.codec_id == "gzip":
        return zlib.decompressobj(zlib.MAX_WBITS | 16)
    if codec.codec_id == "bz2":
        return bz2.BZ2Decompressor()
    if codec.codec_id == "lzma":
        raw = codec.format == lzma.FORMAT_RAW
        return lzma.LZMADecompressor(codec.format, filters=codec.filters if raw else None)
    return None


def _blosc_claim(data: bytes) -> tuple[int | None, int]:
    """Give what a chunk's header says: bytes decoded and, or -1, bytes encoded.

    Source: the Blosc 1 chunk format, 16 bytes with nbytes and cbytes at 4 and 12.
    """
    if len(data) < 16:
        return 0, len(data)
    found, _, stored = _BLOSC_SIZES.unpack_from(data, 4)
    return found, stored


def _lz4_claim(data: bytes) -> tuple[int | None, int]:
    """As for Blosc. numcodecs puts the decoded size, 4 bytes, before an LZ4 block."""
    return int.from_bytes(data[:4], "little") if len(data) > 4 else 0, -1


def _zstd_claim(data: bytes) -> tuple[int | None, int]:
    """As for Blosc, ``None`` where the frame does not say it. Source: RFC 8878, 3.1.1.1."""
    if data[:4] != b"\x28\xb5\x2f\xfd" or len(data) < 6:
        return 0, -1
    flag, single, dictionary = data[4] >> 6, data[4] >> 5 & 1, data[4] & 3
    if flag == 0 and not single:
        return None, -1
    start = 5 + (not single) + (0, 1, 2, 4)[dictionary]
    size = int.from_bytes(data[start : start + (1, 2, 4, 8)[flag]], "little")
    return size + 256 * (flag == 1), -1


_CLAIMS = {"blosc": _blosc_claim, "lz4": _lz4_claim, "zstd": _zstd_claim}


def _decoded(codec: Codec, data: Any, most: int, *, exact: bool) -> Any:
    """Decode a buffer whose codec is numcodecs', to ``most`` bytes at most, or just so many.

    Raises
    ------
    ValueError
        If it is of another size.
    """
    raw = np.frombuffer(data, np.uint8)
    check_claim(codec.codec_id, raw.data, most, exact=exact)  # type: ignore[arg-type]
    if codec.codec_id == "zstd" and exact:
        # Of a frame that does not say its size no more is decoded than there is room for.
        out = np.empty(most, np.uint8)
        codec.decode(raw, out=out)
        return out
    found = decompress(codec, raw.data, most)
    return codec.decode(raw) if found is None else found


class _BoundedCodec:
    """What a codec of Zarr v3 has before its own class, so that it decodes no more than it may.

    Two of it: ``_exact`` where what it gives is the elements of a chunk, and nothing else.
    """

    _exact = False

    def _plain(self) -> Any:
        """Give the codec as zarr has it."""
        return _as(type(self).__mro__[2], self)

    def __reduce__(self) -> Any:
        return _bounded_codec, (self._plain(), self._exact)

    def __eq__(self, other: object) -> bool:
        plain = other._plain() if isinstance(other, _BoundedCodec) else other
        return bool(self._plain() == plain)

    def __hash__(self) -> int:
        return hash(self._plain())

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        most = math.prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        if not self._exact:
            most = _MORE * most + _OVERHEAD
        found = _decoded(_numcodec_of(self), chunk_bytes.as_array_like(), most, exact=self._exact)
        return chunk_spec.prototype.buffer.from_array_like(np.frombuffer(found, np.uint8))

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return await asyncio.to_thread(self._decode_sync, chunk_bytes, chunk_spec)


class _BoundedCompressor:
    """What a compressor of Zarr v2 has before its own class, so that it decodes no more."""

    _most, _exact = 0, False

    def _plain(self) -> Any:
        return _as(type(self).__mro__[2], self, leave=("_most", "_exact"))

    def __reduce__(self) -> Any:
        return _bounded_compressor, (self._plain(), self._most, self._exact)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Decode, as the codec does."""
        if out is not None:
            return self._plain().decode(buf, out)
        return _decoded(self._plain(), buf, self._most, exact=self._exact)


def _as(kind: type, found: Any, leave: tuple[str, ...] = ()) -> Any:
    """Give an object of another class with the same attributes."""
    made: Any = object.__new__(kind)
    vars(made).update({k: v for k, v in vars(found).items() if k not in leave})
    return made


@cache
def _kind(ours: Any, theirs: Any, exact: bool) -> type:
    name = theirs.__qualname__
    attributes = {"__qualname__": name, "__module__": theirs.__module__, "_exact": exact}
    return type(theirs.__name__, (ours, theirs), attributes)


def _bounded_codec(codec: Any, exact: bool) -> Any:
    kind: Any = type(codec)
    return _as(_kind(_BoundedCodec, kind, exact), codec)


def _bounded_compressor(codec: Any, most: int, exact: bool) -> Any:
    kind: Any = type(codec)
    made = _as(_kind(_BoundedCompressor, kind, exact), codec)
    made._most = most
    return made


def _numcodec_of(codec: Any) -> Codec:
    """Give the codec of numcodecs that decodes what a codec of v3 encodes."""
    config = getattr(codec, "codec_config", None) or {"id": _NAMES[type(codec).__mro__[2]]}
    return get_codec(dict(config))


_NAMES = {GzipCodec: "gzip", ZstdCodec: "zstd", BloscCodec: "blosc"}
_BOUNDED = ("gzip", "zlib", "bz2", "lzma", *_CLAIMS)


def bounded(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Give an array whose compressors decode no more than its metadata allow.

    They are what they were in all else: their configuration, and what they encode. Codecs that are
    neither zarr's nor numcodecs' are left as they are.
    """
    metadata: Any = array.metadata
    if metadata.zarr_format == 3:
        codecs = _bounded_codecs(metadata.codecs)
        changed = replace(metadata, codecs=codecs) if codecs is not metadata.codecs else metadata
    else:
        changed, codec = metadata, metadata.compressor
        native = metadata.dtype.to_native_dtype()
        if codec is not None and codec.codec_id in _BOUNDED and native.kind in "biufcmMSUV":
            most, exact = math.prod(metadata.chunks) * native.itemsize, not metadata.filters
            most = most if exact else _MORE * most + _OVERHEAD
            changed = replace(metadata, compressor=_bounded_compressor(codec, most, exact))
    if changed is metadata:
        return array
    return zarr.Array(zarr.AsyncArray(metadata=changed, store_path=array.store_path))


def max_stored_nbytes(array: zarr.Array[Any]) -> int | None:
    """Give what no stored object of an array exceeds, in bytes; ``None`` of text and the like."""
    native = array.metadata.dtype.to_native_dtype()
    if native.kind not in "biufcmMSUV":
        return None
    shape = array.shards or array.chunks
    n_chunks = math.prod(chunk_counts(shape, array.chunks))
    return 2 * math.prod(shape) * native.itemsize + _OVERHEAD + 1024 * n_chunks


def _bounded_codecs(codecs: tuple[Any, ...]) -> tuple[Any, ...]:
    found: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            inner = _bounded_codecs(codec.codecs)
            found.append(codec if inner is codec.codecs else replace(codec, codecs=inner))
        elif isinstance(codec, BytesBytesCodec) and _is_known(codec):
            found.append(_bounded_codec(codec, isinstance(found[-1], BytesCodec)))
        else:
            found.append(codec)
        if isinstance(codec, ArrayBytesCodec) and not isinstance(
            codec, (BytesCodec, ShardingCodec)
        ):
            return codecs  # text, of whatever size
    return codecs if all(a is b for a, b in zip(found, codecs, strict=True)) else tuple(found)


def _is_known(codec: Any) -> bool:
    config = getattr(codec, "codec_config", None)
    return type(codec) in _NAMES or (isinstance(config, dict) and config.get("id") in _BOUNDED)
