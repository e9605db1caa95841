"""A band of whole chunks in memory, each chunk contiguous, filled piece by piece.

Planes come in rows; chunks go out as cubes. Copying each plane's rows straight
into their chunks while they are still in the processor's cache costs half of
what cutting the chunks out of an assembled region does (0.12 against 0.25 s for
540 MB). No I/O.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from scout_dask_io.core.grid import Region, Shape, chunk_counts, region_shape, region_size

Parts: TypeAlias = list[tuple[slice, slice, slice]]


class BufferPool:
    """Memory that buffers take and give back. New memory costs 3 % of a write to clear.

    May be shared by threads.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []
        self._lock = threading.Lock()

    def take(self, nbytes: int) -> np.ndarray:
        """Give at least so many bytes; what they hold is not defined."""
        with self._lock:
            self._free.sort(key=len)
            for k, buffer in enumerate(self._free):
                if len(buffer) >= nbytes:
                    return self._free.pop(k)
            # In the place of one that is too small, so that no more is kept than is in use.
            if self._free:
                self._free.pop()
        return np.empty(nbytes, np.uint8)

    def give(self, buffer: np.ndarray) -> None:
        """Take memory back that nobody looks at any more."""
        with self._lock:
            self._free.append(buffer)


class ChunkBuffer:
    """Room for the chunks of one band, used again for band after band.

    Parameters
    ----------
    chunks : tuple of int
        Chunk extents, in elements.
    dtype : numpy.dtype
        Of the chunks as they are stored; pieces are converted as they are copied in.
    fill_value
        What chunks at the array's upper edge hold past the edge.
    pool : BufferPool, optional
        Where its memory comes from, and goes when it is closed.
    """

    def __init__(
        self, chunks: Shape, dtype: np.dtype[Any], fill_value: Any, pool: BufferPool | None = None
    ) -> None:
        self._chunks = chunks
        self._dtype = dtype
        self._fill = fill_value
        # (0, ndim, 1, ndim + 1, ...): grid and inner axes, taken in turns.
        ndim = len(chunks)
        self._turns = [axis for k in range(ndim) for axis in (k, ndim + k)]
        self._pool = pool or BufferPool()
        self._store = np.empty(0, np.uint8)
        self._cells = np.empty(0, dtype)
        self._region: Region = ()
        self._filled = 0
        self._splits: dict[tuple[int, int, int], Parts] = {}

    def begin(self, region: Region) -> None:
        """Start a band: ``region`` begins on chunk edges, in array coordinates."""
        counts = chunk_counts(region_shape(region), self._chunks)
        size = math.prod(counts) * math.prod(self._chunks)
        nbytes = size * self._dtype.itemsize
        if nbytes > len(self._store):
            self.close()
            self._store = self._pool.take(nbytes)
        self._cells = self._store[:nbytes].view(self._dtype).reshape(counts + self._chunks)
        self._region = region
        self._filled = 0
        # Only the last chunk of a ragged axis has elements past the edge.
        ndim = len(counts)
        for axis, (n, c) in enumerate(zip(region_shape(region), self._chunks, strict=True)):
            if n % c:
                past: list[Any] = [slice(None)] * (2 * ndim)
                past[axis] = -1
                past[ndim + axis] = slice(n % c, None)
                self._cells[tuple(past)] = self._fill

    def close(self) -> None:
        """Give the memory back; chunks that were given are no longer good."""
        if len(self._store):
            buffer, self._store = self._store, np.empty(0, np.uint8)
            self._pool.give(buffer)

    def put(self, where: Region, values: np.ndarray) -> None:
        """Copy a piece in; ``where`` is relative to the band's start."""
        itemsize = self._dtype.itemsize
        # Rows are copied as one item each where nothing is converted, which is quicker.
        as_rows = values.dtype == self._dtype and values.strides[-1] == itemsize
        for parts in product(*map(self._split, where, self._chunks)):
            grid, inner, taken = zip(*parts, strict=True)
            cells = self._cells[grid + inner].transpose(self._turns)
            piece = values[taken].reshape(cells.shape)
            if as_rows:
                row = np.dtype((np.void, cells.shape[-1] * itemsize))
                cells.view(row)[...] = piece.view(row)
            else:
                cells[...] = piece
        self._filled += region_size(where)

    def part(self, cell: Shape, inside: Region) -> np.ndarray:
        """Give a part of one chunk, to be filled in place; it does not count as put in.

        ``cell`` is the chunk's grid index relative to the band's first chunk.
        """
        found: np.ndarray = self._cells[cell][inside]
        return found

    def _split(self, where: slice, chunk: int) -> Parts:
        # A band's pieces are cut alike over and over: plane by plane, row by row.
        key = (where.start, where.stop, chunk)
        found = self._splits.get(key)
        if found is None:
            found = self._splits[key] = list(_split_axis(where, chunk))
        return found

    def is_full(self) -> bool:
        """Tell whether pieces as large as the band were put in."""
        return self._filled == region_size(self._region)

    def iter_chunks(self) -> Iterator[tuple[Shape, np.ndarray]]:
        """Yield ``(index, chunk)`` in C order: a chunk's grid index and its contiguous elements."""
        ndim = len(self._chunks)
        grid = (
            range(s.start // c, s.start // c + n)
            for s, c, n in zip(self._region, self._chunks, self._cells.shape[:ndim], strict=True)
        )
        yield from zip(product(*grid), self._cells.reshape(-1, *self._chunks), strict=True)


def _split_axis(where: slice, chunk: int) -> Iterator[tuple[slice, slice, slice]]:
    """Split one axis at chunk edges: ``(chunks, elements in them, elements of the piece)``.

    Parts that are whole chunks are taken together, so at most three parts come.
    """
    start, stop = where.start, where.stop
    while start < stop:
        cell, offset = divmod(start, chunk)
        if offset == 0 and stop - start >= chunk:
            count = (stop - start) // chunk
            end = start + count * chunk
            grid, inner = slice(cell, cell + count), slice(0, chunk)
        else:
            end = min(stop, (cell + 1) * chunk)
            grid, inner = slice(cell, cell + 1), slice(offset, offset + end - start)
        yield grid, inner, slice(start - where.start, end - where.start)
        start = end
