"""Halving arrays: the mean of each pair, the most frequent value, or one of them. Exact; no files.

Every axis is halved or kept. A window at the upper edge of an odd extent holds
one element along that axis, not two; its mean is that of what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from scout_dask_io.core.grid import Region, Shape, relative_to
from scout_dask_io.core.integer_mean import mean_of_integers
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.errors import ArgumentError

Method: TypeAlias = Callable[[np.ndarray, Shape, np.ndarray], None]

# What is worked on at a time, with as much for sums, should stay in the processor's caches. A piece
# of 2 MiB as four takes no less time and four times the calls.
SLAB_NBYTES = 2**21

__all__ = ["METHODS", "HalvedSource", "downsample", "halved_shape", "method_for"]


def halved_shape(shape: Shape, factors: Shape) -> Shape:
    """Give the shape after halving: half as many elements, rounded up.

    Examples
    --------
    >>> halved_shape((5, 64, 7), (1, 2, 2))
    (5, 32, 4)
    """
    return tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))


def downsample(
    values: np.ndarray, factors: Shape, method: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
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
    out : numpy.ndarray, optional
        Where to put it, in native byte order; by default in a new array.

    Raises
    ------
    ArgumentError
        If ``method`` is none of these.
    """
    if method not in METHODS:
        raise ArgumentError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if out is None:
        out = np.empty(halved_shape(values.shape, factors), values.dtype.newbyteorder("="))
    if 2 not in factors or 0 in values.shape:
        _nearest(values, factors, out)
        return out
    row_nbytes = values.nbytes // values.shape[0]
    step = factors[0] * max(1, SLAB_NBYTES // (row_nbytes * factors[0]))
    for start in range(0, values.shape[0], step):
        first = start // factors[0]
        slab = out[first : first + step // factors[0]]
        METHODS[method](values[start : start + step], factors, slab)
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


def _mean(values: np.ndarray, factors: Shape, out: np.ndarray) -> None:
    values = _evened(values, factors)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    kind = values.dtype.kind
    if kind in "fc":
        out[...] = _mean_of_floats(values, factors)
    elif kind == "b":
        mean = np.empty(out.shape, np.uint8)
        mean_of_integers(values.view(np.uint8), factors, mean)
        out[...] = mean
    elif values.dtype.itemsize == 8:
        out[...] = _mean_of_longs(values, factors)
    else:
        mean_of_integers(values, factors, out)


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


def _nearest(values: np.ndarray, factors: Shape, out: np.ndarray) -> None:
    out[...] = values[tuple(slice(None, None, f) for f in factors)]


def _mode(values: np.ndarray, factors: Shape, out: np.ndarray) -> None:
    values = _evened(values, factors)
    corners = product(*(range(f) for f in factors))
    windows = [
        values[tuple(slice(c, None, f) for c, f in zip(corner, factors, strict=True))]
        for corner in corners
    ]
    out[...] = windows[0]
    most = np.zeros(out.shape, np.uint8)
    for window in windows:
        count = np.zeros(out.shape, np.uint8)
        for other in windows:
            count += window == other
        better = count > most
        np.copyto(out, window, where=better)
        np.copyto(most, count, where=better)


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
