"""What the planes of an array are like, gathered from its chunks while they are in memory.

A *plane* is one ``(y, x)`` section; the axes before are counted through in C
order. What :class:`PlaneGatherer` keeps of one write unit is a *record*, bytes of
at most a sixteenth of the unit, usually a few hundredths: exact of every plane
are the least, the largest and the saturated values; everything else rests on
pixels of a grid. Records do not depend on the order of chunks, and parts of one
plane in several records add up, so units may be written anywhere and in any order.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np

from scout_dask_io.grid import Region, Shape

__all__ = ["SATURATED", "PlaneGatherer", "Record", "no_planes", "sample_steps", "saturated"]

#: The largest values of cameras of 12, 14 and 16 bits, in arrays whose dtype holds more.
SATURATED = (4095, 16383, 65535)
# Pixels of a grid along each axis of a plane, at most, and the least distance between them
# in planes that are not tiny: a sixteenth of the pixels is still cheap to copy.
GRID, LEAST_STEP, TINY = 256, 4, 64
# Parts of a chunk that are looked at twice while they are in the processor's cache.
PIECE_NBYTES = 2**19
# Chunks whose minima and maxima are put together at once.
BATCH = 32
_HEAD = np.dtype("<i8")


def _plane_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(
        [
            ("min", dtype),
            ("max", dtype),
            ("n", np.int64),  # finite elements
            ("n_strange", np.int64),  # NaN and infinite
            ("n_top", np.int64),  # elements equal to max, where that is a saturated() value
        ]
    )


def no_planes(n: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Give the exact part of a record of planes of which no element is known."""
    planes = np.zeros(n, _plane_dtype(dtype))
    planes["min"], planes["max"] = _limits(n, dtype)
    return planes


def _limits(n: int, dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Give minima and maxima of what holds no element yet."""
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    low, high = (limits.max, limits.min) if limits else (np.inf, -np.inf)
    return np.full(n, low, dtype), np.full(n, high, dtype)


def saturated(dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Give the values at which a camera's pixels may be saturated; none of floats."""
    if dtype.kind not in "iu":
        return ()
    top = int(np.iinfo(dtype).max)
    return (*(v for v in SATURATED if v < top), top)


def sample_steps(shape: Shape) -> tuple[int, int]:
    """Give the distance in pixels, along y and x, of the grid whose pixels are kept.

    Examples
    --------
    >>> sample_steps((100, 2048, 7000)), sample_steps((30, 50))
    ((8, 28), (1, 1))
    """
    y, x = (max(-(-n // GRID), LEAST_STEP if n > TINY else 1) for n in shape[-2:])
    return y, x


class Record:
    """What was gathered of one unit.

    Attributes
    ----------
    planes : numpy.ndarray
        The exact part, one entry a plane, in C order of the axes before the last two.
    sample : numpy.ndarray
        ``(plane, y, x)``: every second pixel of the grid along y and x.
    xy, zy, zx : numpy.ndarray
        Maxima of all pixels of the grid: ``(series, y, x)`` along z, ``(plane, y)`` along
        x and ``(plane, x)`` along y.
    """

    __slots__ = ("planes", "sample", "xy", "zx", "zy")

    def __init__(self, raw: bytes, dtype: np.dtype[Any], *, exact_only: bool = False) -> None:
        n, high, wide, n_series, grid_high, grid_wide = np.frombuffer(raw, _HEAD, 6).tolist()
        kind = _plane_dtype(dtype)
        self.planes = np.frombuffer(raw, kind, n, offset=6 * _HEAD.itemsize)
        if exact_only:
            return
        shapes = (n, high, wide), (n_series, grid_high, grid_wide), (n, grid_high), (n, grid_wide)
        # One look at the rest, cut into its arrays.
        rest = np.frombuffer(raw, dtype, offset=6 * _HEAD.itemsize + n * kind.itemsize)
        ends = list(accumulate(map(math.prod, shapes)))
        if len(rest) != ends[-1]:
            raise ValueError(f"a record of {len(raw):,} bytes is damaged")
        self.sample, self.xy, self.zy, self.zx = (
            part.reshape(shape)
            for part, shape in zip(np.split(rest, ends[:-1]), shapes, strict=True)
        )


class PlaneGatherer:
    """Gathers from the chunks of one unit; used by one thread.

    Parameters
    ----------
    shape : tuple of int
        Of the array; at least two axes.
    chunks : tuple of int
        Extent of what :meth:`put` is given.
    dtype : numpy.dtype
        Bool, integer or float.
    region : tuple of slice
        The unit.
    """

    def __init__(self, shape: Shape, chunks: Shape, dtype: np.dtype[Any], region: Region) -> None:
        self._shape, self._chunks = shape, chunks
        self._dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        self._lead = tuple(s.stop - s.start for s in region[:-2])
        self._first = tuple(s.start for s in region[:-2])
        n_planes = math.prod(self._lead)
        self._numbers = np.arange(n_planes).reshape(self._lead)
        self._low, self._high = _limits(n_planes, self._dtype)
        self._n, self._n_strange, self._n_top = np.zeros((3, n_planes), np.int64)
        self._steps = sample_steps(shape)
        # Pixels of the grid before the unit, and those in it.
        ends = list(zip(region[-2:], self._steps, strict=True))
        self._before = tuple(-(-s.start // t) for s, t in ends)
        kept = (-(-s.stop // t) + -s.start // t for s, t in ends)
        self._sample = np.zeros((n_planes, *kept), self._dtype)
        self._tops = frozenset(saturated(self._dtype))
        # Of the chunks that were put since the last flush: a column of planes each.
        self._column: Shape | None = None
        self._at: Any = slice(0, 0)
        self._parts: list[np.ndarray] = []
        self._lows, self._highs = np.empty((2, BATCH, math.prod(chunks[:-2])), self._dtype)

    def put(self, index: Shape, chunk: np.ndarray) -> None:
        """Take a whole chunk; what lies past the array's edge does not count.

        ``chunk`` must stay as it is until :meth:`flush`. Little is done here: between
        two chunks the encoder fills the cache, and every step then waits for memory.
        Of 64 x 64 x 64 uint16 in the cache, minima and maxima take 18 microseconds.
        """
        if index[:-2] != self._column or len(self._parts) == BATCH:
            self.flush()
            self._begin(index[:-2])
        (ny, nx), (cy, cx), (ty, tx) = self._shape[-2:], self._chunks[-2:], self._steps
        y, x = index[-2] * cy, index[-1] * cx
        if self._dtype is not chunk.dtype and chunk.dtype.kind == "b":
            chunk = chunk.view(np.uint8)
        part = chunk[self._inside].reshape(-1, cy, cx)
        clipped = y + cy > ny or x + cx > nx
        if clipped:
            part = np.ascontiguousarray(part[:, : ny - y, : nx - x])
        flat = part.reshape(len(part), -1)
        k, n = len(self._parts), len(flat)
        some = max(1, PIECE_NBYTES // max(1, flat[0].nbytes))
        for start in range(0, n, some):
            rows = slice(start, min(start + some, n))
            np.minimum.reduce(flat[rows], 1, None, self._lows[k, rows])
            np.maximum.reduce(flat[rows], 1, None, self._highs[k, rows])
        self._parts.append(flat)
        found = part[:, -y % ty :: ty, -x % tx :: tx]
        top, left = -(-y // ty) - self._before[0], -(-x // tx) - self._before[1]
        self._sample[self._at, top : top + found.shape[1], left : left + found.shape[2]] = found
        if clipped:
            self.flush()  # it is a copy, and one is enough

    def _begin(self, column: Shape) -> None:
        """Look up the planes of the chunks that come."""
        self._column = column
        cell = [
            slice(i * c, min((i + 1) * c, n))
            for i, c, n in zip(column, self._chunks, self._shape, strict=False)
        ]
        self._inside = tuple(slice(0, s.stop - s.start) for s in cell)
        at = tuple(slice(s.start - f, s.stop - f) for s, f in zip(cell, self._first, strict=True))
        numbers = self._numbers[at].reshape(-1)
        # Consecutive nearly always, and then what is indexed is a view.
        first, last = int(numbers[0]), int(numbers[-1])
        self._at = slice(first, last + 1) if last - first + 1 == len(numbers) else numbers

    def flush(self) -> None:
        """Count the chunks that were put; after it, their memory may be used again."""
        k, at = len(self._parts), self._at
        if not k:
            return
        n = len(self._parts[0])
        lows, highs = self._lows[:k, :n], self._highs[:k, :n]
        if self._dtype.kind == "f":
            self._leave_out_strange(lows, highs)
        self._n[at] += sum(flat.shape[1] for flat in self._parts)
        self._low[at] = np.minimum(self._low[at], lows.min(axis=0))
        high = highs.max(axis=0)
        if not self._tops.isdisjoint(high.tolist()):
            self._count_tops(highs, high)
        elif self._tops:
            self._n_top[at] = np.where(high > self._high[at], 0, self._n_top[at])
        self._high[at] = np.maximum(self._high[at], high)
        self._parts.clear()

    def _count_tops(self, highs: np.ndarray, high: np.ndarray) -> None:
        at = self._at
        n_top = np.where(high > self._high[at], 0, self._n_top[at])
        for i in np.flatnonzero(high >= self._high[at]):
            if int(high[i]) in self._tops:
                with_it = np.flatnonzero(highs[:, i] == high[i])
                n_top[i] += sum(np.count_nonzero(self._parts[k][i] == high[i]) for k in with_it)
        self._n_top[at] = n_top

    def _leave_out_strange(self, lows: np.ndarray, highs: np.ndarray) -> None:
        """Let minima and maxima be those of finite elements; NaN goes through both."""
        n_strange = np.zeros(lows.shape[1], np.int64)
        for k, i in np.argwhere(~(np.isfinite(lows) & np.isfinite(highs))):
            row = self._parts[k][i]
            finite = row[np.isfinite(row)]
            n_strange[i] += row.size - finite.size
            lows[k, i], highs[k, i] = (
                (finite.min(), finite.max()) if finite.size else (np.inf, -np.inf)
            )
        self._n_strange[self._at] += n_strange
        self._n[self._at] -= n_strange

    def _exact(self) -> np.ndarray:
        planes = np.empty(len(self._n), _plane_dtype(self._dtype))
        planes["min"], planes["max"] = self._low, self._high
        planes["n"], planes["n_strange"], planes["n_top"] = self._n, self._n_strange, self._n_top
        return planes

    def record(self) -> bytes:
        """Give what was gathered, for :class:`Record`."""
        self.flush()
        n_z = self._lead[-1] if self._lead else 1
        stack = self._sample
        largest: Any = np.fmax if stack.dtype.kind == "f" else np.maximum
        each = stack.reshape(-1, n_z, *stack.shape[1:])
        arrays = (
            self._exact(),
            # Pixels of the coarser grid, counted from the array's first.
            stack[:, self._before[0] % 2 :: 2, self._before[1] % 2 :: 2],
            largest.reduce(each, axis=1),
            _max_along(stack, 2, largest),
            _max_along(stack, 1, largest),
        )
        head = np.array([*arrays[1].shape, *arrays[2].shape], _HEAD)
        # numpy's own format takes ten times as long, for its headers.
        return b"".join(array.tobytes() for array in (head, *arrays))


def _max_along(stack: np.ndarray, axis: int, largest: Any) -> np.ndarray:
    """Reduce an axis; one without a pixel of the grid gives nothing larger than anything."""
    if stack.shape[axis]:
        return np.asarray(largest.reduce(stack, axis=axis))
    low = np.iinfo(stack.dtype).min if stack.dtype.kind in "iu" else -np.inf
    return np.full(tuple(np.delete(stack.shape, axis)), low, stack.dtype)
