"""Chunk files: encode and decode one chunk, write and read one file.

One trip through zarr-python costs more than the compression itself, so chunks
of plain v2 arrays on a local disk are written and read here. The bytes are
those that zarr writes: any Zarr software reads them.

The description of a Zarr v2 array that chunk files are written and read by.

Source: the Zarr v2 specification, "Arrays": a JSON object ``.zarray`` with
``zarr_format``, ``shape``, ``chunks``, ``dtype``, ``compressor``, ``fill_value``,
``order``, ``filters`` and, since zarr 2.8, ``dimension_separator``.

CRC32C, the checksum of the manifest (RFC 3720, Castagnoli's polynomial): 11 GB/s a core here.
"""

from __future__ import annotations

import base64
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import google_crc32c
import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray
from numcodecs.registry import get_codec

from scout_dask_io.core.formatting import cut, format_found
from scout_dask_io.core.grid import Region, Shape
from scout_dask_io.errors import ChunkReadError, LayoutError
from scout_dask_io.files.disk import make_dirs
from scout_dask_io.files.system import CREATE, replace
from scout_dask_io.store.blosc_blocks import blocks_of
from scout_dask_io.store.decompression import check_claim, decompress
from scout_dask_io.store.metadata import dtype_named

StrPath: TypeAlias = "str | os.PathLike[str]"


class ChunkEncoder:
    """Turns whole chunks into the bytes of their files; one a task, not shared by threads."""

    def __init__(self, fmt: ArrayFormat) -> None:
        self._codec: Codec | None = fmt.make_codec()
        self._order = fmt.order
        self._fill = np.array(fmt.fill(), fmt.dtype)

    def encode(self, chunk: np.ndarray) -> Any | None:
        """Give a chunk's bytes, or ``None`` where every element is the fill value.

        Parameters
        ----------
        chunk : numpy.ndarray
            C-contiguous, of the format's chunk shape and dtype.
        """
        if is_fill(chunk, self._fill):
            return None
        if self._order == "F":
            chunk = np.ascontiguousarray(chunk.T)
        encoded = chunk if self._codec is None else self._codec.encode(chunk)
        if isinstance(encoded, bytes):
            return encoded
        # Codecs such as PackBits and Delta give arrays.
        return ensure_contiguous_ndarray(encoded).reshape(-1).view(np.uint8).data


def is_fill(chunk: np.ndarray, fill: np.ndarray) -> bool:
    """Tell whether every element of a C-contiguous chunk is the fill value, byte by byte.

    NaN equals NaN, and -0.0 is not 0.0.
    """
    # The first element settles it for nearly every chunk that holds an image.
    raw = fill.tobytes()
    if chunk.ravel()[:1].tobytes() != raw:
        return False
    size = len(raw) if len(raw) in (1, 2, 4, 8) else 1
    view = chunk.reshape(-1).view(f"u{size}").reshape(-1, len(raw) // size)
    return bool((view == np.frombuffer(raw, f"u{size}")).all())


class ChunkDecoder:
    """Turns the bytes of chunk files into arrays; one a task, not shared by threads."""

    def __init__(self, fmt: ArrayFormat) -> None:
        self._fmt = fmt
        self._codec: Codec | None = fmt.make_codec()
        try:
            self._buffer = np.empty(fmt.chunk_nbytes, np.uint8)
        except MemoryError as err:
            raise ChunkReadError(
                f"the array's chunks of {fmt.chunks} {fmt.dtype} have {fmt.chunk_nbytes:,} bytes "
                "each, more than this machine has memory for. Check chunks in the metadata, or "
                "have the array written with smaller ones."
            ) from err

    def decode(self, data: Any, path: StrPath, part: Region | None = None) -> np.ndarray:
        """Give the chunk in ``data``: a view of a buffer that the next call uses again.

        Where a ``part`` of the chunk is all that is needed, the blocks of Blosc that hold it may be
        all that is decoded.

        Raises
        ------
        ChunkReadError
            If ``data`` is damaged or decodes to another size than a chunk has.
        """
        expected = self._fmt.chunk_nbytes
        if self._codec is None:
            return self._shaped(np.frombuffer(data, np.uint8), path)
        try:
            check_claim(self._codec.codec_id, data, expected, exact=True)
        except ValueError as err:
            raise ChunkReadError(
                f"{path}: {err}. The file is damaged or belongs to another array; restore it or "
                "write the array again."
            ) from err
        try:
            raw = decompress(self._codec, data, expected)
            if raw is None and self._codec.codec_id in ("blosc", "lz4", "zstd"):
                some = None
                if part is not None and self._codec.codec_id == "blosc":
                    some = blocks_of(data, *self._span(part))
                needed, low, high = some or (data, 0, expected)
                self._codec.decode(needed, out=self._buffer[low:high])
                return self._shaped(self._buffer, path)
            raw = self._codec.decode(data) if raw is None else raw
        except Exception as err:  # numcodecs raises whatever its C libraries give it
            raise ChunkReadError(
                f"{path}: the chunk of {len(data)} bytes cannot be decoded "
                f"({type(err).__name__}: {err}). The file is damaged; restore it or write "
                "the array again."
            ) from err
        return self._shaped(np.frombuffer(raw, np.uint8), path)

    def _span(self, part: Region) -> tuple[int, int]:
        """Give where the first element of a part of a chunk begins, and the last ends, in bytes."""
        fmt = self._fmt
        extents, slices = fmt.chunks, tuple(part)
        if fmt.order == "F":
            extents, slices = extents[::-1], slices[::-1]
        first = last = 0
        for n, one in zip(extents, slices, strict=True):
            first, last = first * n + one.start, last * n + one.stop - 1
        itemsize = fmt.dtype.itemsize
        return first * itemsize, (last + 1) * itemsize

    def _shaped(self, raw: np.ndarray, path: StrPath) -> np.ndarray:
        fmt = self._fmt
        if raw.nbytes != fmt.chunk_nbytes:
            raise ChunkReadError(
                f"{path}: the chunk holds {raw.nbytes} bytes, expected {fmt.chunk_nbytes} for "
                f"{fmt.chunks} of {fmt.dtype}. The file is damaged or belongs to another array."
            )
        values = raw.view(fmt.dtype)
        if fmt.order == "F":
            return values.reshape(fmt.chunks[::-1]).T
        return values.reshape(fmt.chunks)


def write_file(
    path: StrPath,
    temporary: StrPath,
    data: Any,
    *,
    root: StrPath,
    durable: bool = False,
    unseen: bool = False,
) -> None:
    """Write ``data`` to ``path`` whole or not at all: to ``temporary``, then renamed.

    The directories of ``path`` below ``root`` are made if they are missing;
    ``root`` and the directory of ``temporary``, on the same file system, must
    exist: once they are gone, so is the job, and a late writer fails instead of
    touching what was published.

    Where the array is ``unseen`` until it is published, a file that is not there yet is written in
    its place: a rename is a round trip of a share, which lets one through at a time. Who finds a
    file there, of a writer that was killed or is late, replaces it by a rename; a late writer
    has another file open then.
    """
    if unseen and _write_in_place(path, data, root, durable=durable):
        return
    fd = os.open(temporary, CREATE, 0o666)
    try:
        _fill(fd, data, durable=durable)
        try:
            replace(temporary, path)
        except FileNotFoundError:
            make_dirs(Path(path).parent, Path(root))
            replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _write_in_place(path: StrPath, data: Any, root: StrPath, *, durable: bool) -> bool:
    """Write a file that is not there yet; tell whether it was not."""
    try:
        try:
            fd = os.open(path, CREATE, 0o666)
        except FileNotFoundError:
            if Path(path).parent == Path(root):
                raise  # the root itself is gone
            make_dirs(Path(path).parent, Path(root))
            fd = os.open(path, CREATE, 0o666)
    except (FileExistsError, IsADirectoryError):
        return False
    # What an error leaves is of a unit that is not noted, and replaced when it is written again.
    _fill(fd, data, durable=durable)
    return True


def _fill(fd: int, data: Any, *, durable: bool) -> None:
    """Write into a new file, and close it."""
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)


_SPECIAL_FLOATS: dict[Any, Any] = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


@dataclass(frozen=True)
class ArrayFormat:
    """What turns a chunk into bytes and back: picklable, no open files.

    Attributes
    ----------
    shape, chunks : tuple of int
        In elements.
    dtype : numpy.dtype
        As stored, byte order included.
    fill_value : numpy scalar or None
        What a chunk without a file holds; ``None`` is undefined, read as zeros as zarr does.
    order : str
        ``"C"`` or ``"F"``: how elements lie inside a chunk.
    separator : str
        Between the chunk indices in a key, ``"/"`` or ``"."``.
    codec : dict or None
        The compressor's numcodecs configuration.
    """

    shape: Shape
    chunks: Shape
    dtype: np.dtype[Any]
    fill_value: Any
    order: str
    separator: str
    codec: dict[str, Any] | None

    @classmethod
    def from_metadata(
        cls, meta: dict[str, Any], separator: str, file: object = ".zarray"
    ) -> ArrayFormat | None:
        """Give the format of a ``.zarray``, or ``None`` where zarr itself must be asked.

        Numeric and bool arrays without filters are handled here; structured,
        object and string dtypes, filters and unknown codecs are not.
        """
        if meta.get("zarr_format") != 2 or meta.get("filters"):
            return None
        if not isinstance(meta.get("dtype"), str):
            return None
        try:
            dtype = dtype_named(meta["dtype"])
        except ValueError:
            return None
        if dtype.kind not in "biufc":
            return None
        config = meta.get("compressor")
        if config is not None:
            try:
                get_codec(dict(config))
            except (ValueError, KeyError, TypeError):
                return None
        return cls(
            shape=tuple(int(n) for n in meta["shape"]),
            chunks=tuple(int(n) for n in meta["chunks"]),
            dtype=dtype,
            fill_value=_decode_fill(meta.get("fill_value"), dtype, file),
            order=meta.get("order", "C"),
            separator=separator,
            codec=config,
        )

    @property
    def chunk_nbytes(self) -> int:
        """Size of one decoded chunk, in bytes; edge chunks are stored whole too."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def max_nbytes(self) -> int:
        """Size that no encoding of a chunk exceeds, in bytes.

        Blosc grows a chunk that it cannot compress by 16 bytes a block at most;
        zlib and others by less than this.
        """
        return self.chunk_nbytes + self.chunk_nbytes // 64 + 4096

    def described(self) -> dict[str, Any]:
        """Give what a manifest's settings say of the format, by the same names."""
        return {
            "zarr_format": 2,
            "shape": list(self.shape),
            "chunks": list(self.chunks),
            "dtype": self.dtype.str,
            "codec": self.codec,
        }

    def make_codec(self) -> Codec | None:
        """Give the compressor."""
        return None if self.codec is None else get_codec(dict(self.codec))

    def fill(self) -> Any:
        """Give the value of elements without a chunk file."""
        return self.dtype.type(0) if self.fill_value is None else self.fill_value

    def chunk_key(self, index: Shape) -> str:
        """Give the name of a chunk's file below the array."""
        # Text, not a Path: made for every chunk, and a Path costs 20 microseconds.
        return self.separator.join(map(str, index)) if index else "0"

    def encoder(self) -> ChunkEncoder:
        """Give what encodes chunks; one a task, not shared by threads."""
        return ChunkEncoder(self)

    def decoder(self) -> ChunkDecoder:
        """Give what decodes chunks; one a task, not shared by threads."""
        return ChunkDecoder(self)


def _decode_fill(value: Any, dtype: np.dtype[Any], file: object) -> Any:
    if value is None:
        return None
    try:
        if isinstance(value, str) and value in _SPECIAL_FLOATS:
            return np.array(_SPECIAL_FLOATS[value], dtype=dtype)[()]
        if isinstance(value, str) and (number := _number(value)) is not None:
            return np.array(number, dtype=dtype)[()]
        if isinstance(value, str):
            return np.frombuffer(base64.b64decode(value), dtype)[0]
        if isinstance(value, list) and dtype.kind == "c":
            real, imaginary = (_SPECIAL_FLOATS[v] if isinstance(v, str) else v for v in value)
            return np.array(complex(real, imaginary), dtype=dtype)[()]
        if isinstance(value, (list, dict)):
            raise TypeError("it is not one value")
        return np.array(value, dtype=dtype)[()]
    except (ValueError, TypeError, OverflowError, KeyError, IndexError) as err:
        raise LayoutError(
            f"{file}: fill_value {format_found(value)} does not fit dtype {dtype}: {cut(str(err))}"
        ) from err


def _number(text: str) -> int | float | None:
    """Give a number that is written as text, as n5-zarr and JZarr write fill values."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return None


def crc32c(data: Any) -> int:
    """Give the CRC32C of a bytes-like object."""
    return int(google_crc32c.value(data if isinstance(data, bytes) else bytes(data)))


def array_crc32c(array: np.ndarray) -> int:
    """Give the CRC32C of an array's elements in C order, whatever its memory layout."""
    crc = 0
    rows = max(1, 2**24 // max(array[:1].nbytes, 1))
    for start in range(0, len(array), rows):
        crc = int(google_crc32c.extend(crc, array[start : start + rows].tobytes()))
    return crc
