"""The mean of windows of integers: exact, in passes whose memory is laid out once for each shape.

Chunks are halved while they are in the processor's cache, where numpy's calls and new
memory take as long as the sums. So the passes over arrays of one shape are recorded with
the memory that they work in, and only gone through for each array. No files.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from scout_dask_io.core.grid import Shape

Step: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...]]

# Rows of fewer bytes are added as one: numpy takes 16 ns to begin with each.
LONG_ROW_NBYTES = 2**10
# Rows of more elements than this are added as they lie. Left to itself, numpy gathers rows in a
# buffer of 8192 elements if it holds three of them, which takes as long again as adding them.
BUFFER_ITEMS = 512
# A thread keeps its memory up to this size, and the passes of as many shapes.
KEPT_NBYTES = 2**22
KEPT_SHAPES = 16

_thread = threading.local()

__all__ = ["mean_of_integers"]


def mean_of_integers(values: np.ndarray, factors: Shape, out: np.ndarray) -> None:
    """Put the mean of each window into ``out``: the nearest whole number, of halves the even one.

    Parameters
    ----------
    values : numpy.ndarray
        Integers of at most 32 bits in native byte order, C-contiguous, of even extents
        where they are halved.
    factors : tuple of int
        1 or 2 per axis, at least one of them 2.
    out : numpy.ndarray
        Of the same dtype, and as many elements per axis as there are windows.
    """
    spare = min(_spare_bits(values), factors.count(2))
    room_nbytes = values.nbytes * (1 if factors[-1] == 2 else 2)
    kept = _kept(room_nbytes)
    key = (values.shape, values.dtype.str, factors, spare)
    passes = kept.passes.get(key)
    if passes is None:
        if len(kept.passes) == KEPT_SHAPES:
            kept.passes.clear()
        passes = _Passes(values.shape, values.dtype, factors, spare, kept.rooms)
        kept.passes[key] = passes
    passes.run(values, out)


class _Kept(NamedTuple):
    rooms: tuple[np.ndarray, np.ndarray]
    passes: dict[Any, _Passes]


def _kept(nbytes: int) -> _Kept:
    """Give this thread's two rooms of at least so many bytes, and the passes laid out in them."""
    kept: _Kept | None = getattr(_thread, "kept", None)
    if kept is None or len(kept.rooms[0]) < nbytes:
        kept = _Kept((np.empty(nbytes, np.uint8), np.empty(nbytes, np.uint8)), {})
        if nbytes <= KEPT_NBYTES:
            _thread.kept = kept
    return kept


def _spare_bits(values: np.ndarray) -> int:
    """Give how often the largest of unsigned values can be doubled within their dtype; else 0.

    Cameras of 12 and 14 bits leave some, and looking costs a tenth of what it saves.
    """
    if values.dtype.kind != "u":
        return 0
    return 8 * values.dtype.itemsize - int(np.maximum.reduce(values, None)).bit_length()


class _Source(NamedTuple):
    """A view of the array that will be averaged."""

    shape: Shape
    dtype: np.dtype[Any]
    offset: int
    strides: tuple[int, ...]


def _reads_source(args: tuple[Any, ...]) -> bool:
    return any(type(a) is _Source for a in args)


class _Passes:
    """The passes over an array of one shape.

    Sums are kept in integers twice as wide, in which 8 fit; or in the dtype itself, half
    the bytes to work through, where as many ``spare`` bits as there are halved axes hold
    them and what rounding adds. Each pass leaves its result in the room in which the one
    before it did not.
    """

    def __init__(
        self,
        shape: Shape,
        dtype: np.dtype[Any],
        factors: Shape,
        spare: int,
        rooms: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self._rooms = rooms
        self._steps: list[Step] = []
        self._unbuffered = False
        self._bits = bits = factors.count(2)
        self._dtype = dtype
        self._source = np.empty(shape, dtype)
        wide = np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")
        rows = [axis for axis, f in enumerate(factors[:-1]) if f == 2]
        total = self._source
        for axis in rows[:spare]:
            total = self._add_rows(total, axis)
        if factors[-1] == 2:
            total = (self._add_pairs if spare == bits else self._add_halves)(total.view(wide))
        elif spare < bits:
            total = self._copy(total, wide)
        for axis in rows[spare:]:
            total = self._add_rows(total, axis)
        self._total = self._round(total)
        del self._source
        n = 1 + max(k for k, (_, args) in enumerate(self._steps) if _reads_source(args))
        self._first, self._rest = self._steps[:n], self._steps[n:]

    def run(self, values: np.ndarray, out: np.ndarray) -> None:
        """Go through the passes for one array."""
        before = np.setbufsize(BUFFER_ITEMS) if self._unbuffered else None  # of this thread
        try:
            for function, args in self._first:
                function(
                    *[np.ndarray(*a[:2], values, *a[2:]) if type(a) is _Source else a for a in args]
                )
            for function, args in self._rest:
                function(*args)
        finally:
            if before is not None:
                np.setbufsize(before)
        if self._total.dtype == out.dtype:
            np.right_shift(self._total, self._bits, out)
        else:
            np.right_shift(self._total, self._bits, self._total)
            np.copyto(out, self._total, "unsafe")

    def _record(self, function: Callable[..., Any], *args: Any) -> None:
        self._steps.append((function, tuple(map(self._operand, args))))

    def _operand(self, arg: Any) -> Any:
        if not isinstance(arg, np.ndarray) or not np.may_share_memory(arg, self._source):
            return arg
        offset = arg.ctypes.data - self._source.ctypes.data
        return _Source(arg.shape, arg.dtype, offset, arg.strides)

    def _room(self, dtype: np.dtype[Any], shape: Shape) -> np.ndarray:
        """Give the room that is free; the other one is so from then on."""
        first, second = self._rooms
        self._rooms = second, first
        return first[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    def _copy(self, values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        out = self._room(dtype, values.shape)
        self._record(np.copyto, out, values, "unsafe")
        return out

    def _add_rows(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Add the pairs along an axis that is not the last."""
        shape = (*values.shape[:axis], values.shape[axis] // 2, *values.shape[axis + 1 :])
        # Two rows as one of twice the length: twice as fast as every second row.
        half = math.prod(shape[axis + 1 :])
        if half * values.itemsize >= LONG_ROW_NBYTES:
            self._unbuffered |= half >= BUFFER_ITEMS
            rows, out = values.reshape(-1, 2 * half), self._room(values.dtype, shape)
            self._record(np.add, rows[:, :half], rows[:, half:], out.reshape(-1, half))
            return out
        # Every row and the next, in one go; of these every second one.
        flat, sums = values.reshape(-1), self._room(values.dtype, (values.size,))
        self._record(np.add, flat[:-half], flat[half:], sums[:-half])
        row = np.dtype((np.void, half * values.itemsize))
        out = self._room(values.dtype, shape)
        self._record(np.copyto, out.reshape(-1).view(row), sums.view(row)[::2])
        return out

    def _add_pairs(self, pairs: np.ndarray) -> np.ndarray:
        """Add neighbours along x, whose sums fit in their dtype.

        Every element and the next, in one go; of these every second one, which is the lower
        half of an integer twice as wide. Adding only every second one takes three times as long.
        """
        values = pairs.reshape(-1).view(self._dtype)
        sums = self._room(self._dtype, values.shape)
        lower = sums[:-1] if sys.byteorder == "little" else sums[1:]
        self._record(np.add, values[:-1], values[1:], lower)
        return self._copy(sums.view(pairs.dtype).reshape(pairs.shape), self._dtype)

    def _add_halves(self, pairs: np.ndarray) -> np.ndarray:
        """Add the halves of integers twice as wide, which are neighbours along x."""
        nbits = 4 * pairs.itemsize
        out = self._room(pairs.dtype, pairs.shape)
        self._record(np.right_shift, pairs, nbits, out)
        # In the place of the pairs where these are in a room, and no longer needed.
        lower = self._room(pairs.dtype, pairs.shape)
        if pairs.dtype.kind == "u":
            self._record(np.bitwise_and, pairs, (1 << nbits) - 1, lower)
        else:
            self._record(np.left_shift, pairs, nbits, lower)
            self._record(np.right_shift, lower, nbits, lower)  # keeps the sign
        self._record(np.add, out, lower, lower)
        return lower

    def _round(self, total: np.ndarray) -> np.ndarray:
        """Add what rounds the quotient: halves to the even, one more above an odd number."""
        odd = self._room(total.dtype, total.shape)
        self._record(np.right_shift, total, self._bits, odd)
        self._record(np.bitwise_and, odd, 1, odd)
        self._record(np.add, odd, (1 << (self._bits - 1)) - 1, odd)
        self._record(np.add, odd, total, odd)
        return odd
