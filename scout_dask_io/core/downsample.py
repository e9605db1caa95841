"""Making arrays smaller: the mean of each window, its most frequent value, or one. Exact; no files.

Every axis is halved or kept, or made smaller by a factor that was asked for. A window at the
upper edge holds what is left along that axis, one element of an odd extent and not two; its mean
is that of what it holds.

The mean of windows of integers: exact, in passes whose memory is laid out once for each shape.

Chunks are halved while they are in the processor's cache, where numpy's calls and new
memory take as long as the sums. So the passes over arrays of one shape are recorded with
the memory that they work in, and only gone through for each array. No files.

Halving a band piece by piece, as its pieces come from their file. No files.

A piece that was just read or decoded is in the processor's cache; the chunks that it goes
into have left it when the band is full, and fetching them again takes as long as halving
them. And rows of planes are long, where those of chunks are short.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from scout_dask_io.core.grid import Region, Shape, chunk_cells, chunk_counts, relative_to
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.errors import ArgumentError

Method: TypeAlias = Callable[[np.ndarray, Shape, np.ndarray], None]

# What is worked on at a time, with as much for sums, should stay in the processor's caches. A piece
# of 2 MiB as four takes no less time and four times the calls.
SLAB_NBYTES = 2**21


def downsample(
    values: np.ndarray, factors: Shape, method: str = "mean", out: np.ndarray | None = None
) -> np.ndarray:
    """Give an array with each axis halved, kept, or made smaller by a factor, in the same dtype.

    Parameters
    ----------
    values : numpy.ndarray
        Bool, integers, floats or complex.
    factors : tuple of int
        Elements of a window per axis, from 1 up; those of 1 and 2 are quickest.
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
        out = np.empty(chunk_counts(values.shape, factors), values.dtype.newbyteorder("="))
    if max(factors) == 1 or 0 in values.shape:
        _nearest(values, factors, out)
        return out
    row_nbytes = values.nbytes // values.shape[0]
    step = factors[0] * max(1, SLAB_NBYTES // (row_nbytes * factors[0]))
    for start in range(0, values.shape[0], step):
        first = start // factors[0]
        slab = out[first : first + step // factors[0]]
        _put(values[start : start + step], factors, method, slab)
    return out


def _put(values: np.ndarray, factors: Shape, method: str, out: np.ndarray) -> None:
    """Put what windows become, apart for those at the upper edge that hold less."""
    if max(factors) > 2 and method != "nearest":
        for axis, (n, f) in enumerate(zip(values.shape, factors, strict=True)):
            if rest := n % f:
                at = (slice(None),) * axis
                for part, times in ((slice(n - rest), f), (slice(n - rest, n), rest)):
                    if part.start != n and part.stop:
                        own = (*factors[:axis], times, *factors[axis + 1 :])
                        to = slice(n // f) if times == f else slice(n // f, None)
                        _put(values[(*at, part)], own, method, out[(*at, to)])
                return
    if max(factors) == 1:
        out[...] = values
    else:
        METHODS[method](values, factors, out)


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
    if max(factors) > 2:
        out[...] = _mean_of_windows(values, factors)
        return
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


def _mean_of_windows(values: np.ndarray, factors: Shape) -> np.ndarray:
    """The mean of windows of any extent, all whole."""
    n, kind = math.prod(factors), values.dtype.kind
    dtype = values.dtype.newbyteorder("=")
    if kind in "fc":
        wide = np.result_type(dtype, np.float64)
        # By a power of two, which is exact, so that the largest do not overflow.
        scale = 2.0 ** -n.bit_length()
        with np.errstate(all="ignore"):
            total = _added(values.astype(wide) * scale, factors)
            return np.asarray((total / (n * scale)).astype(dtype))
    if dtype.itemsize == 8:
        # Of 64 bits, whose sums have no wider integer: quotients and rests apart.
        native = values.astype(dtype)
        quotient, rest = _added(native // n, factors), _added(native % n, factors)
        quotient, rest = quotient + rest // n, rest % n
    else:
        quotient, rest = np.divmod(_added(values.astype(np.int64), factors), n)
    up = (2 * rest > n) | ((2 * rest == n) & (quotient & 1 == 1))
    return np.asarray((quotient + up).astype(dtype))


def _added(values: np.ndarray, factors: Shape) -> np.ndarray:
    """Add the elements of whole windows, in the dtype that they have."""
    for axis, f in enumerate(factors):
        at = (slice(None),) * axis
        total = values[(*at, slice(0, None, f))].copy()
        for k in range(1, f):
            total += values[(*at, slice(k, None, f))]
        values = total
    return values


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
    counter = np.min_scalar_type(len(windows))
    most = np.zeros(out.shape, counter)
    for window in windows:
        count = np.zeros(out.shape, counter)
        for other in windows:
            count += window == other
        better = count > most
        np.copyto(out, window, where=better)
        np.copyto(most, count, where=better)


METHODS: dict[str, Method] = {"mean": _mean, "mode": _mode, "nearest": _nearest}


class LowerSource(Source):
    """A source as :func:`downsample` makes it, read by regions: each piece as it comes."""

    def __init__(self, source: Source, factors: Shape, method: str) -> None:
        self.source = source
        self.factors = factors
        self.method = method
        self.shape = chunk_counts(source.shape, factors)
        self.dtype = source.dtype
        self.token = f"{source.token}/{factors}/{method}"

    @property
    def read_shape(self) -> Shape:
        """What is read at once of the source, made smaller."""
        return chunk_counts(self.source.read_shape, self.factors)

    def narrow(self, region: Region) -> tuple[Source, Region]:
        """Narrow the source, if that leaves its windows together."""
        return self, region

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the region piece by piece where pieces keep windows together, else in one."""
        wanted = tuple(
            slice(s.start * f, min(s.stop * f, n))
            for s, f, n in zip(region, self.factors, self.source.shape, strict=True)
        )
        if self._cuts_no_window():
            for where, values in self.source.iter_pieces(wanted):
                at = chunk_cells(where, self.factors)
                yield at, downsample(values, self.factors, self.method)
            return
        yield (
            relative_to(region, region),
            downsample(self.source.read(wanted), self.factors, self.method),
        )

    def _cuts_no_window(self) -> bool:
        extents = zip(self.source.read_shape, self.factors, self.source.shape, strict=True)
        return all(r % f == 0 or r >= n for r, f, n in extents)


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
    buffer_nbytes = values.nbytes * (1 if factors[-1] == 2 else 2)
    kept = _kept(buffer_nbytes)
    key = (values.shape, values.dtype.str, factors, spare)
    passes = kept.passes.get(key)
    if passes is None:
        if len(kept.passes) == KEPT_SHAPES:
            kept.passes.clear()
        passes = _Passes(values.shape, values.dtype, factors, spare, kept.buffers)
        kept.passes[key] = passes
    passes.run(values, out)


class _Kept(NamedTuple):
    buffers: tuple[np.ndarray, np.ndarray]
    passes: dict[Any, _Passes]


def _kept(nbytes: int) -> _Kept:
    """Give this thread's two buffers of at least so many bytes, and the passes laid out in them."""
    kept: _Kept | None = getattr(_thread, "kept", None)
    if kept is None or len(kept.buffers[0]) < nbytes:
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
    them and what rounding adds. Each pass leaves its result in the buffer in which the one
    before it did not.
    """

    def __init__(
        self,
        shape: Shape,
        dtype: np.dtype[Any],
        factors: Shape,
        spare: int,
        buffers: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self._buffers = buffers
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

    def _buffer(self, dtype: np.dtype[Any], shape: Shape) -> np.ndarray:
        """Give the buffer that is free; the other one is so from then on."""
        first, second = self._buffers
        self._buffers = second, first
        return first[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    def _copy(self, values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        out = self._buffer(dtype, values.shape)
        self._record(np.copyto, out, values, "unsafe")
        return out

    def _add_rows(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Add the pairs along an axis that is not the last."""
        shape = (*values.shape[:axis], values.shape[axis] // 2, *values.shape[axis + 1 :])
        # Two rows as one of twice the length: twice as fast as every second row.
        half = math.prod(shape[axis + 1 :])
        if half * values.itemsize >= LONG_ROW_NBYTES:
            self._unbuffered |= half >= BUFFER_ITEMS
            rows, out = values.reshape(-1, 2 * half), self._buffer(values.dtype, shape)
            self._record(np.add, rows[:, :half], rows[:, half:], out.reshape(-1, half))
            return out
        # Every row and the next, in one go; of these every second one.
        flat, sums = values.reshape(-1), self._buffer(values.dtype, (values.size,))
        self._record(np.add, flat[:-half], flat[half:], sums[:-half])
        row = np.dtype((np.void, half * values.itemsize))
        out = self._buffer(values.dtype, shape)
        self._record(np.copyto, out.reshape(-1).view(row), sums.view(row)[::2])
        return out

    def _add_pairs(self, pairs: np.ndarray) -> np.ndarray:
        """Add neighbours along x, whose sums fit in their dtype.

        Every element and the next, in one go; of these every second one, which is the lower
        half of an integer twice as wide. Adding only every second one takes three times as long.
        """
        values = pairs.reshape(-1).view(self._dtype)
        sums = self._buffer(self._dtype, values.shape)
        lower = sums[:-1] if sys.byteorder == "little" else sums[1:]
        self._record(np.add, values[:-1], values[1:], lower)
        return self._copy(sums.view(pairs.dtype).reshape(pairs.shape), self._dtype)

    def _add_halves(self, pairs: np.ndarray) -> np.ndarray:
        """Add the halves of integers twice as wide, which are neighbours along x."""
        nbits = 4 * pairs.itemsize
        out = self._buffer(pairs.dtype, pairs.shape)
        self._record(np.right_shift, pairs, nbits, out)
        # In the place of the pairs where these are in a buffer, and no longer needed.
        lower = self._buffer(pairs.dtype, pairs.shape)
        if pairs.dtype.kind == "u":
            self._record(np.bitwise_and, pairs, (1 << nbits) - 1, lower)
        else:
            self._record(np.left_shift, pairs, nbits, lower)
            self._record(np.right_shift, lower, nbits, lower)  # keeps the sign
        self._record(np.add, out, lower, lower)
        return lower

    def _round(self, total: np.ndarray) -> np.ndarray:
        """Add what rounds the quotient: halves to the even, one more above an odd number."""
        odd = self._buffer(total.dtype, total.shape)
        self._record(np.right_shift, total, self._bits, odd)
        self._record(np.bitwise_and, odd, 1, odd)
        self._record(np.add, odd, (1 << (self._bits - 1)) - 1, odd)
        self._record(np.add, odd, total, odd)
        return odd


# Pieces above this, and pairs that wait for their other half, are no longer in the cache.
CACHED_NBYTES = 2**22


class PieceHalver:
    """Halves the pieces of one band after another, if they allow it, and no factor is above 2.

    They do if they cut no pair in two, but for planes that come one at a time where planes
    are halved too: the first of two waits for the second.

    Parameters
    ----------
    factors : tuple of int
        Per axis.
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
        self._buffer = self._out
        self._shape: Shape = ()
        self._filled = 0
        self._cut = True

    def begin(self, shape: Shape) -> None:
        """Start a band; an axis that is halved is even, or ends where the array does."""
        self._shape = shape
        self._filled = 0
        self._cut = max(self._factors) > 2
        self._pairs.clear()

    def is_whole(self) -> bool:
        """Tell whether what was given back is the whole band, halved."""
        return not self._cut and self._filled == math.prod(chunk_counts(self._shape, self._factors))

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
            pair, self._buffer = self._buffer, np.empty(0, self._dtype)
            if pair.shape != shape:
                pair = np.empty(shape, self._dtype)
            self._pairs[key] = pair, at
            self._cut = len(self._pairs) * pair.nbytes > CACHED_NBYTES
        else:
            pair, other = waiting
            if pair.shape != shape or other == at:
                self._cut = True
                return None
            self._buffer = pair
        pair[(slice(None),) * axis + (slice(at, at + 1),)] = values
        return None if waiting is None else pair
