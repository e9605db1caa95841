"""The description of a Zarr v3 array by its stored objects: shards, or chunks where it has none.

Source: the Zarr v3 core specification, and its "sharding_indexed" codec. What lies
in one object is zarr's business: an array of one object alone, in memory, is
written or read for each, with the codecs of the array.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from scout_dask_io.core.grid import Region, Shape, chunk_counts
from scout_dask_io.errors import ChunkReadError, LayoutError
from scout_dask_io.store.chunk_v2 import StrPath, is_fill
from scout_dask_io.store.decompression import bounded
from scout_dask_io.store.metadata import separator_of

# The sizes that a shard's index and its chunks' compressors add to a chunk, at most.
CHUNK_OVERHEAD = 256


@dataclass(frozen=True)
class ShardFormat:
    """What turns a stored object of a v3 array into bytes and back: picklable, no open files.

    Attributes
    ----------
    shape : tuple of int
        In elements.
    chunks : tuple of int
        Extent of one stored object: a shard, or a chunk where there are no shards.
    inner : tuple of int
        Extent of a chunk.
    dtype : numpy.dtype
        Of the elements, in native byte order.
    fill_value : numpy scalar
        What an object that is not there holds.
    prefix, separator : str
        Of the keys of stored objects.
    document : str
        ``zarr.json``, of an array of one object.
    """

    shape: Shape
    chunks: Shape
    inner: Shape
    dtype: np.dtype[Any]
    fill_value: Any
    prefix: str
    separator: str
    document: str

    @classmethod
    def from_metadata(cls, meta: dict[str, Any]) -> ShardFormat | None:
        """Give the format of a ``zarr.json``, or ``None`` where zarr itself must be asked.

        Raises
        ------
        LayoutError
            If zarr cannot make an array of it.
        """
        grid = meta["chunk_grid"]
        extents = grid.get("configuration", {}).get("chunk_shape") if "name" in grid else None
        if grid.get("name") != "regular" or not extents or len(extents) != len(meta["shape"]):
            return None
        chunks = tuple(int(n) for n in extents)
        document = json.dumps({**meta, "shape": chunks, "attributes": {}, "dimension_names": None})
        try:
            array, _ = _one_object(document)
        except Exception as err:  # zarr has no family of errors
            raise LayoutError(f"zarr cannot read the metadata: {err}") from err
        dtype = np.dtype(array.dtype)
        if dtype.kind not in "biufc":
            return None
        return cls(
            shape=tuple(int(n) for n in meta["shape"]),
            chunks=chunks,
            inner=tuple(array.chunks),
            dtype=dtype.newbyteorder("="),
            fill_value=dtype.type(array.fill_value),
            prefix="c" if meta["chunk_key_encoding"]["name"] == "default" else "",
            separator=separator_of(meta) or "/",
            document=document,
        )

    @property
    def chunk_nbytes(self) -> int:
        """Size of one decoded object, in bytes; those at the array's edge are stored whole too."""
        return math.prod(self.chunks) * self.dtype.itemsize

    @property
    def max_nbytes(self) -> int:
        """Size that no encoding of an object exceeds, in bytes."""
        n_chunks = math.prod(chunk_counts(self.chunks, self.inner))
        return self.chunk_nbytes + self.chunk_nbytes // 64 + (n_chunks + 16) * CHUNK_OVERHEAD

    def fill(self) -> Any:
        """Give the value of elements without a stored object."""
        return self.fill_value

    def chunk_key(self, index: Shape) -> str:
        """Give the name of an object's file below the array."""
        parts = [*([self.prefix] if self.prefix else []), *map(str, index)]
        return self.separator.join(parts) or "0"

    def encoder(self) -> ObjectEncoder:
        """Give what encodes stored objects; one a task, not shared by threads."""
        return ObjectEncoder(self)

    def decoder(self) -> ObjectDecoder:
        """Give what decodes stored objects; one a task, not shared by threads."""
        return ObjectDecoder(self)

    def described(self) -> dict[str, Any]:
        """Give what a manifest's settings say of the format, by the same names."""
        sharded = self.inner != self.chunks
        return {
            "zarr_format": 3,
            "shape": list(self.shape),
            "chunks": list(self.inner),
            "shards": list(self.chunks) if sharded else None,
            "dtype": self.dtype.str,
        }


def _one_object(document: str) -> tuple[zarr.Array[Any], dict[str, Buffer]]:
    """Give an array of one stored object, in memory, and the dictionary that holds it."""
    content = default_buffer_prototype().buffer.from_bytes(document.encode())
    objects: dict[str, Buffer] = {"zarr.json": content}
    array = zarr.open_array(store=MemoryStore(objects), mode="r+", zarr_format=3)
    return bounded(array), objects


def _key(array: zarr.Array[Any]) -> str:
    return str(array.metadata.encode_chunk_key((0,) * array.ndim))


class ObjectEncoder:
    """Turns whole shards, or chunks, into the bytes of their files, through zarr."""

    def __init__(self, fmt: ShardFormat) -> None:
        self._array, self._objects = _one_object(fmt.document)
        self._fill = np.array(fmt.fill_value, fmt.dtype)

    def encode(self, chunk: np.ndarray) -> Any | None:
        """Give an object's bytes, or ``None`` where every element is the fill value.

        Parameters
        ----------
        chunk : numpy.ndarray
            C-contiguous, of the extent and dtype of a stored object.
        """
        if is_fill(chunk, self._fill):
            return None
        self._array[...] = chunk
        # Taken out, so that the next object's memory is not asked for beside this one's.
        return self._objects.pop(_key(self._array)).to_bytes()


class ObjectDecoder:
    """Turns the bytes of stored objects into arrays, through zarr."""

    def __init__(self, fmt: ShardFormat) -> None:
        # Made for the first: making one takes as long as decoding a small chunk.
        self._fmt = fmt
        self._made: tuple[zarr.Array[Any], dict[str, Buffer]] | None = None

    def decode(self, data: Any, path: StrPath, part: Region | None = None) -> np.ndarray:
        """Give the elements of one object, whatever ``part`` of them is needed.

        Raises
        ------
        ChunkReadError
            If ``data`` is damaged.
        """
        try:
            self._made = self._made or _one_object(self._fmt.document)
            array, objects = self._made
            objects[_key(array)] = default_buffer_prototype().buffer.from_bytes(bytes(data))
            return np.asarray(array[...])
        except Exception as err:  # zarr gives on whatever its codecs raise
            raise ChunkReadError(
                f"{path}: the {len(data)} bytes cannot be decoded ({type(err).__name__}: {err}). "
                "The file is damaged; restore it or write the array again."
            ) from err
