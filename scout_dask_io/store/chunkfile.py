"""Chunk files: encode and decode one chunk, write and read one file.

One trip through zarr-python costs more than the compression itself, so chunks
of plain v2 arrays on a local disk are written and read here. The bytes are
those that zarr writes: any Zarr software reads them.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs.abc import Codec

from scout_dask_io.errors import ChunkReadError
from scout_dask_io.store.format import ArrayFormat

_BLOSC_SIZES = struct.Struct("<III")

__all__ = ["ChunkDecoder", "ChunkEncoder", "read_file", "write_file"]


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
        if self._is_fill(chunk):
            return None
        if self._order == "F":
            chunk = np.ascontiguousarray(chunk.T)
        return (
            chunk.reshape(-1).view(np.uint8).data
            if self._codec is None
            else self._codec.encode(chunk)
        )

    def _is_fill(self, chunk: np.ndarray) -> bool:
        # Bytes are compared, so that NaN equals NaN and -0.0 is kept. The first
        # element settles it for nearly every chunk that holds an image.
        raw = self._fill.tobytes()
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
        self._is_blosc = fmt.codec is not None and fmt.codec.get("id") == "blosc"
        self._buffer = np.empty(fmt.chunk_nbytes, np.uint8)

    def decode(self, data: Any, path: Path) -> np.ndarray:
        """Give the chunk in ``data``: a view of a buffer that the next call uses again.

        Raises
        ------
        ChunkReadError
            If ``data`` is damaged or decodes to another size than a chunk has.
        """
        expected = self._fmt.chunk_nbytes
        if self._codec is None:
            return self._shaped(np.frombuffer(data, np.uint8), path)
        try:
            if self._is_blosc:
                self._check_blosc_header(data, path)
                self._codec.decode(data, out=self._buffer)
                return self._shaped(self._buffer, path)
            if self._codec.codec_id in ("zlib", "gzip"):
                # Bounded: a bomb is cut one byte past a chunk.
                wbits = zlib.MAX_WBITS | (32 if self._codec.codec_id == "gzip" else 0)
                raw = zlib.decompressobj(wbits).decompress(bytes(data), expected + 1)
            else:
                raw = self._codec.decode(data)
        except ChunkReadError:
            raise
        except Exception as err:  # numcodecs raises whatever its C libraries give it
            raise ChunkReadError(
                f"{path}: the chunk of {len(data)} bytes cannot be decoded "
                f"({type(err).__name__}: {err}). The file is damaged; restore it or write "
                "the array again."
            ) from err
        return self._shaped(np.frombuffer(raw, np.uint8), path)

    def _check_blosc_header(self, data: bytes, path: Path) -> None:
        # Asked first: the header of a damaged or hostile chunk may claim
        # gigabytes, which decoding would allocate. Source: the Blosc 1 chunk
        # format, a header of 16 bytes with nbytes and cbytes at 4 and 12.
        expected = self._fmt.chunk_nbytes
        found, _, stored = _BLOSC_SIZES.unpack_from(data, 4) if len(data) >= 16 else (0, 0, 0)
        if found != expected or stored != len(data):
            raise ChunkReadError(
                f"{path}: the chunk's header says {found} bytes in {stored}, expected {expected} "
                f"in the {len(data)} bytes of the file. The file is damaged or belongs to another "
                "array; restore it or write the array again."
            )

    def _shaped(self, raw: np.ndarray, path: Path) -> np.ndarray:
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


def read_file(path: Path, max_nbytes: int) -> bytes | None:
    """Read a whole regular file of at most ``max_nbytes``, or give ``None`` if there is none.

    Raises
    ------
    ChunkReadError
        If it is no regular file, larger than allowed, or cannot be read.
    """
    try:
        # O_NONBLOCK: a FIFO in a chunk's place must not hang the reader.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as err:
        raise ChunkReadError(f"{path}: the chunk cannot be opened ({err.strerror})") from err
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ChunkReadError(f"{path}: expected a chunk's regular file, found something else")
        if info.st_size > max_nbytes:
            raise ChunkReadError(
                f"{path}: the file has {info.st_size} bytes, more than any encoding of this "
                f"array's chunks ({max_nbytes}). It is damaged or belongs to another array."
            )
        data = os.read(fd, info.st_size)
        while len(data) < info.st_size:
            more = os.read(fd, info.st_size - len(data))
            if not more:
                raise ChunkReadError(f"{path}: ended after {len(data)} of {info.st_size} bytes")
            data += more
        return data
    except ChunkReadError:
        raise
    except OSError as err:
        raise ChunkReadError(f"{path}: the chunk cannot be read ({err.strerror})") from err
    finally:
        os.close(fd)


def write_file(path: Path, temporary: Path, data: Any, *, durable: bool = False) -> None:
    """Write ``data`` to ``path`` whole or not at all: to ``temporary``, then renamed.

    The directory of ``path`` is made if it is missing; that of ``temporary``,
    on the same file system, must exist: once it is gone, so is the job, and a
    late writer fails instead of touching what was published.
    """
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.replace(temporary, path)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
