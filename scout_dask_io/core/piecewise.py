"""Halving a band piece by piece, as its pieces come from their file. No files.

A piece that was just read or decoded is in the processor's cache; the chunks that it goes
into have left it when the band is full, and fetching them again takes as long as halving
them. And rows of planes are long, where those of chunks are short.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scout_dask_io.core.downsample import downsample, halved_shape
from scout_dask_io.core.grid import Region, Shape

# Pieces above this, and pairs that wait for their other half, are no longer in the cache.
CACHED_NBYTES = 2**22

__all__ = ["PieceHalver"]


class PieceHalver:
    """Halves the pieces of one band after another, if they allow it.

    They do if they cut no pair in two, but for planes that come one at a time where planes
    are halved too: the first of two waits for the second.

    Parameters
    ----------
    factors : tuple of int
        1 or 2 per axis.
    method : str
        As for :func:`~scout_dask_io.core.downsample.downsample`.
    dtype : numpy.dtype
        Of the halved pieces, but for the byte order, which is native.
    """

    def __init__(self, factors: Shape, method: str, dtype: np.dtype[Any]) -> None:
        self._factors = factors
        self._method = method
        self._dtype = dtype.newbyteorder("=")
        self._out = np.empty(0, self._dtype)
        # By where the halved pair begins: room for both halves, and the one that is there.
        self._pairs: dict[Shape, tuple[np.ndarray, int]] = {}
        self._room = self._out
        self._shape: Shape = ()
        self._filled = 0
        self._cut = True

    def begin(self, shape: Shape) -> None:
        """Start a band; an axis that is halved is even, or ends where the array does."""
        self._shape = shape
        self._filled = 0
        self._cut = False
        self._pairs.clear()

    def is_whole(self) -> bool:
        """Tell whether what was given back is the whole band, halved."""
        return not self._cut and self._filled == math.prod(halved_shape(self._shape, self._factors))

    def put(self, where: Region, values: np.ndarray) -> tuple[Region, np.ndarray] | None:
        """Take a piece, and give what can be halved with it and where that lies, if anything.

        Both are relative to the band's start. The array is a view of memory that the next
        call uses again.
        """
        if self._cut:
            return None
        odd, shape = [], []
        lower = []
        for axis, f in enumerate(self._factors):
            start, stop = where[axis].start, where[axis].stop
            if f == 2:
                if start % 2 or (stop % 2 and stop != self._shape[axis]):
                    odd.append(axis)
                start, stop = start // 2, (stop + 1) // 2
            lower.append(slice(start, stop))
            shape.append(stop - start)
        self._cut = (
            values.nbytes > CACHED_NBYTES
            or (values.dtype != self._dtype and values.dtype.newbyteorder("=") != self._dtype)
            or (bool(odd) and (len(odd) > 1 or values.shape[odd[0]] != 1))
        )
        if self._cut:
            return None
        if odd:
            pair = self._pair(odd[0], where[odd[0]].start % 2, tuple(lower), values)
            if pair is None:
                return None
            values = pair
        size = math.prod(shape)
        if size > self._out.size:
            self._out = np.empty(size, self._dtype)
        out = self._out[:size].reshape(shape)
        downsample(values, self._factors, self._method, out)
        self._filled += size
        return tuple(lower), out

    def _pair(self, axis: int, at: int, lower: Region, values: np.ndarray) -> np.ndarray | None:
        """Put one half of a pair beside the other, and give both if the other has come."""
        key = tuple(s.start for s in lower)
        shape = (*values.shape[:axis], 2, *values.shape[axis + 1 :])
        waiting = self._pairs.pop(key, None)
        if waiting is None:
            pair, self._room = self._room, np.empty(0, self._dtype)
            if pair.shape != shape:
                pair = np.empty(shape, self._dtype)
            self._pairs[key] = pair, at
            self._cut = len(self._pairs) * pair.nbytes > CACHED_NBYTES
        else:
            pair, other = waiting
            if pair.shape != shape or other == at:
                self._cut = True
                return None
            self._room = pair
        pair[(slice(None),) * axis + (slice(at, at + 1),)] = values
        return None if waiting is None else pair
