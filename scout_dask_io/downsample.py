"""Halving arrays: the mean of each pair, the most frequent value, or one of them. Exact; no files.

Every axis is halved or kept. A window at the upper edge of an odd extent holds
one element along that axis, not two; its mean is that of what it holds.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from scout_dask_io.errors import ArgumentError
from scout_dask_io.grid import Region, Shape, relative_to
from scout_dask_io.source import Piece, Source

Method: TypeAlias = Callable[[np.ndarray, Shape], np.ndarray]

# What is worked on at a time stays in the processor's cache; a chunk of 64 x 64 x 64 of 16 bits
# whole takes 0.14 ms, in halves 0.17 (2 MiB of second-level cache).
SLAB_NBYTES = 2**19

_thread = threading.local()

__all__ = ["METHODS", "HalvedSource", "downsample", "halved_shape", "method_for"]


def halved_shape(shape: Shape, factors: Shape) -> Shape:
    """Give the shape after halving: half as many elements, rounded up.

    Examples
    --------
    >>> halved_shape((5, 64, 7), (1, 2, 2))
    (5, 32, 4)
    """
    return tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))


def downsample(values: np.ndarray, factors: Shape, method: str = "mean") -> np.ndarray:
    """Give an array with each axis halved, or kept, in the same dtype.

    Parameters
    ----------
    values : numpy.ndarray
        Bool, integers, floats or complex.
    factors : tuple of int
        1 or 2 per axis.
    method : {"mean", "mode", "nearest"}
        ``"mean"``: whole numbers are rounded to the nearest, halves to the even
        one, and nothing overflows; floats of 16 and 32 bits are summed in 64.
        ``"mode"``: the most frequent value, of equally frequent ones the first
        in C order; ``"nearest"``: the first. Both make up no new labels.

    Raises
    ------
    ArgumentError
        If ``method`` is none of these.
    """
    if method not in METHODS:
        raise ArgumentError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if 2 not in factors or 0 in values.shape:
        return np.ascontiguousarray(values[tuple(slice(None, None, f) for f in factors)])
    shape = halved_shape(values.shape, factors)
    row_nbytes = values.nbytes // values.shape[0]
    step = factors[0] * max(1, SLAB_NBYTES // (row_nbytes * factors[0]))
    if step >= values.shape[0]:
        return METHODS[method](values, factors)
    out = np.empty(shape, values.dtype.newbyteorder("="))
    for start in range(0, values.shape[0], step):
        slab = METHODS[method](values[start : start + step], factors)
        out[start // factors[0] :][: len(slab)] = slab
    return out


def method_for(dtype: np.dtype[Any], labels: bool) -> str:
    """Give the method that suits: the mode for labels and for bools, else the mean."""
    return "mode" if labels or dtype.kind == "b" else "mean"


def _evened(values: np.ndarray, factors: Shape) -> np.ndarray:
    """Give a contiguous array whose halved axes are even, the last element doubled if need be.

    A window with each of its elements twice has the mean that it had.
    """
    for axis, (n, f) in enumerate(zip(values.shape, factors, strict=True)):
        if n % f:
            last = values[(slice(None),) * axis + (slice(n - 1, n),)]
            values = np.concatenate((values, last), axis=axis)
    return np.ascontiguousarray(values)


def _pairs(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    before = (slice(None),) * axis
    return values[(*before, slice(0, None, 2))], values[(*before, slice(1, None, 2))]


def _mean(values: np.ndarray, factors: Shape) -> np.ndarray:
    values = _evened(values, factors)
    kind, dtype = values.dtype.kind, values.dtype.newbyteorder("=")
    if kind in "fc":
        return _mean_of_floats(values, factors)
    if kind == "b":
        return np.asarray(_mean(values.view(np.uint8), factors).astype(bool))
    if dtype.itemsize == 8:
        return _mean_of_longs(values.astype(dtype, copy=False), factors)
    bits = factors.count(2)
    values = values.astype(dtype, copy=False)
    spare = _spare_bits(values)
    total, room = _sum(values, factors, spare)
    if spare >= bits:
        # The sums and what rounding adds to them fit: half the bytes to work through.
        total, room = total.astype(dtype), room.reshape(-1).view(dtype)[: total.size]
        room = room.reshape(total.shape)
    # Halves to the even number: what is above an odd one is rounded up by one more.
    odd = np.right_shift(total, bits, out=room)
    odd &= 1
    odd += (1 << (bits - 1)) - 1
    total += odd
    total >>= bits
    return total.astype(dtype, copy=False)


def _spare_bits(values: np.ndarray) -> int:
    """Give how often the largest of unsigned values can be doubled within their dtype; else 0.

    Cameras of 12 and 14 bits leave some, and looking costs a tenth of what it saves.
    """
    if values.dtype.kind != "u":
        return 0
    return 8 * values.dtype.itemsize - int(values.max()).bit_length()


def _sum(values: np.ndarray, factors: Shape, spare: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the sums of windows in integers twice as wide, in which 8 fit, and as much room.

    Both are memory of this thread that the next call uses again. Where as many
    ``spare`` bits as there are halved axes hold the sums, the upper half of each is
    not defined.
    """
    nbits = 8 * values.dtype.itemsize
    wide = np.dtype(f"{values.dtype.kind}{2 * values.dtype.itemsize}")
    rows = [axis for axis, f in enumerate(factors[:-1]) if f == 2]
    total = values
    spaces = _rooms(values.nbytes * (1 if factors[-1] == 2 else 2))
    for axis in rows[:spare]:
        total, spaces = _halved(total, axis, spaces[0]), spaces[::-1]
    if factors[-1] == 2:
        # Neighbours along x as one number of twice the width, whose halves are added:
        # 0.15 ns an element, where adding every second one to the others takes 0.7.
        pairs = total.view(wide)
        total, room = (_as(space, wide, pairs.shape) for space in spaces)
        np.right_shift(pairs, nbits, out=total)
        if spare >= len(rows) + 1:
            total += pairs
        else:
            if wide.kind == "u":
                np.bitwise_and(pairs, (1 << nbits) - 1, out=room)
            else:
                np.left_shift(pairs, nbits, out=room)
                np.right_shift(room, nbits, out=room)  # keeps the sign
            total += room
    else:
        out = _as(spaces[0], wide, total.shape)
        out[...] = total
        total = out
    spaces = spaces[::-1]
    for axis in rows[spare:]:
        total, spaces = _halved(total, axis, spaces[0]), spaces[::-1]
    return total, _as(spaces[0], wide, total.shape)


def _halved(values: np.ndarray, axis: int, space: np.ndarray) -> np.ndarray:
    """Add the pairs along an axis that is not the last, into a part of ``space``."""
    shape = (*values.shape[:axis], values.shape[axis] // 2, *values.shape[axis + 1 :])
    # Two rows as one of twice the length: twice as fast as every second row.
    rows = values.reshape(*shape[: axis + 1], -1)
    half = rows.shape[-1] // 2
    out = _as(space, values.dtype, (*shape[: axis + 1], half))
    np.add(rows[..., :half], rows[..., half:], out=out)
    return out.reshape(shape)


def _as(space: np.ndarray, dtype: np.dtype[Any], shape: Shape) -> np.ndarray:
    """Give the first bytes of a space as an array."""
    return space[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


def _rooms(nbytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Give two spaces of bytes that this thread keeps: fresh memory costs more than the sums."""
    kept = getattr(_thread, "rooms", None)
    if kept is None or kept.shape[1] < nbytes:
        kept = np.empty((2, nbytes), np.uint8)
        if nbytes <= 4 * SLAB_NBYTES:
            _thread.rooms = kept
    return kept[0], kept[1]


def _mean_of_longs(values: np.ndarray, factors: Shape) -> np.ndarray:
    """The mean of 64-bit integers, whose sums have no wider integer: quotients and rests apart."""
    bits = factors.count(2)
    quotient, rest = values >> bits, values & ((1 << bits) - 1)
    for axis, f in enumerate(factors):
        if f == 2:
            (a, b), (c, d) = _pairs(quotient, axis), _pairs(rest, axis)
            quotient, rest = a + b, c + d
    quotient = quotient + (rest >> bits)
    rest &= (1 << bits) - 1
    half = 1 << (bits - 1)
    up = (rest > half) | ((rest == half) & (quotient & 1 == 1))
    return np.asarray(quotient + up.astype(quotient.dtype))


def _mean_of_floats(values: np.ndarray, factors: Shape) -> np.ndarray:
    dtype = values.dtype.newbyteorder("=")
    if dtype.itemsize < 8 and dtype.kind == "f":
        values = values.astype(np.float64)
    # Halved before they are added, which is exact, so that the largest do not overflow.
    with np.errstate(all="ignore"):
        for axis, f in enumerate(factors):
            if f == 2:
                first, second = _pairs(values, axis)
                values = 0.5 * first + 0.5 * second
        return np.asarray(values.astype(dtype))


def _nearest(values: np.ndarray, factors: Shape) -> np.ndarray:
    return np.ascontiguousarray(values[tuple(slice(None, None, f) for f in factors)])


def _mode(values: np.ndarray, factors: Shape) -> np.ndarray:
    values = _evened(values, factors)
    corners = product(*(range(f) for f in factors))
    windows = [
        values[tuple(slice(c, None, f) for c, f in zip(corner, factors, strict=True))]
        for corner in corners
    ]
    best = windows[0].copy()
    most = np.zeros(best.shape, np.uint8)
    for window in windows:
        count = np.zeros(best.shape, np.uint8)
        for other in windows:
            count += window == other
        better = count > most
        np.copyto(best, window, where=better)
        np.copyto(most, count, where=better)
    return best


METHODS: dict[str, Method] = {"mean": _mean, "mode": _mode, "nearest": _nearest}


class HalvedSource(Source):
    """A source as :func:`downsample` makes it, read by regions: each piece as it comes."""

    def __init__(self, source: Source, factors: Shape, method: str) -> None:
        self.source = source
        self.factors = factors
        self.method = method
        self.shape = halved_shape(source.shape, factors)
        self.dtype = source.dtype
        self.token = f"{source.token}/{factors}/{method}"

    @property
    def read_shape(self) -> Shape:
        """What is read at once of the source, halved."""
        return halved_shape(self.source.read_shape, self.factors)

    def narrow(self, region: Region) -> tuple[Source, Region]:
        """Narrow the source, if that leaves its pairs together."""
        return self, region

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the region piece by piece where pieces keep pairs together, else in one."""
        wanted = tuple(
            slice(s.start * f, min(s.stop * f, n))
            for s, f, n in zip(region, self.factors, self.source.shape, strict=True)
        )
        if self._cuts_no_pair():
            for where, values in self.source.iter_pieces(wanted):
                at = tuple(
                    slice(w.start // f, -(-w.stop // f))
                    for w, f in zip(where, self.factors, strict=True)
                )
                yield at, downsample(values, self.factors, self.method)
            return
        yield (
            relative_to(region, region),
            downsample(self.source.read(wanted), self.factors, self.method),
        )

    def _cuts_no_pair(self) -> bool:
        extents = zip(self.source.read_shape, self.factors, self.source.shape, strict=True)
        return all(r % f == 0 or r >= n for r, f, n in extents)
