"""What the planes of an array are like, gathered from its pixels on their way to the chunks.

A *plane* is one ``(y, x)`` section; the axes before are counted through in C
order. What :class:`PlaneGatherer` keeps of one write unit is a *record*, bytes of
about a hundredth of the unit where planes are large: exact of every plane are the
least, the largest and the saturated values; everything else rests on pixels of a
grid. Records do not depend on the order of pieces, and parts of one plane in several
records add up, so units may be written anywhere and in any order.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Region, Shape, chunk_counts

#: The largest values of cameras of 12, 14 and 16 bits, in arrays whose dtype holds more.
SATURATED = (4095, 16383, 65535)
# Pixels of a grid along each axis of a plane, at most, and the least distance between them
# in planes that are not tiny: a sixteenth of the pixels is still cheap to copy. Distances are
# odd: stripes of 2, 4 and 8 pixels, as sensors have, would be the same in all pixels looked at.
GRID, LEAST_STEP, TINY = 256, 5, 64
# Planes of a piece that are counted with one call each.
PIECE_NBYTES = 2**21
# Parts of them that minimum and maximum look at in turn, while a second-level cache holds them. In
# smaller ones the calls cost more than is saved; in 2 MiB both wait for memory, half as long again.
PART_NBYTES = 2**19
# Places of pieces in their planes of which it is known what is kept; more are found out again.
MAX_WAYS = 1024
# Extents before a record: of planes, the sample, what is beside it, and the grid.
_HEAD, _N_HEAD = np.dtype("<i8"), 8


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


def grid_steps(shape: Shape) -> tuple[int, int]:
    """Give the distance in pixels, along y and x, of the grid whose pixels are looked at.

    Examples
    --------
    >>> grid_steps((100, 2048, 7000)), grid_steps((30, 50))
    ((9, 29), (1, 1))
    """
    y, x = (max(-(-n // GRID), LEAST_STEP if n > TINY else 1) | 1 for n in shape[-2:])
    return y, x


def sample_thinning(shape: Shape) -> tuple[int, int]:
    """Give how many pixels of the grid, along y and x, one of the sample stands for.

    About 50 along each axis are enough for percentiles, and sorting more is what a
    sheet would cost most.

    Examples
    --------
    >>> sample_thinning((100, 2048, 700)), sample_thinning((30, 50))
    ((5, 3), (1, 1))
    """
    grid = chunk_counts(shape[-2:], grid_steps(shape))
    y, x = (5 if n > 160 else 3 if n > 80 else 1 for n in grid)
    return y, x


def next_pixels(start: int, stop: int, step: int) -> tuple[int, int]:
    """Give which pixels next to one of the sample, one further along an axis, lie between places.

    They are numbered as those of the sample; where that has every pixel, there are none to be kept.

    Examples
    --------
    >>> next_pixels(0, 64, 8), next_pixels(64, 100, 8), next_pixels(0, 64, 1)
    ((0, 8), (8, 13), (0, 0))
    """
    return (-(-(start - 1) // step), -(-(stop - 1) // step)) if step > 1 else (0, 0)


class Record:
    """What was gathered of one unit.

    Attributes
    ----------
    planes : numpy.ndarray
        The exact part, one entry a plane, in C order of the axes before the last two.
    sample : numpy.ndarray
        ``(plane, y, x)``: of the pixels of the grid, those that percentiles rest on.
    beside : numpy.ndarray
        The pixels one column further than those of the sample, where these are not next to
        one another: how much they differ tells what is in focus.
    below : numpy.ndarray
        Those one row further. Rows and columns of what differs tell of fine stripes.
    xy, zy, zx : numpy.ndarray
        Maxima of all pixels of the grid: ``(series, y, x)`` along z, ``(plane, y)`` along
        x and ``(plane, x)`` along y.
    """

    __slots__ = ("below", "beside", "planes", "sample", "xy", "zx", "zy")

    def __init__(self, raw: bytes, dtype: np.dtype[Any], *, exact_only: bool = False) -> None:
        head = np.frombuffer(raw, _HEAD, _N_HEAD).tolist()
        n, high, wide, beside, below, n_series, grid_high, grid_wide = head
        kind = _plane_dtype(dtype)
        self.planes = np.frombuffer(raw, kind, n, offset=_N_HEAD * _HEAD.itemsize)
        if exact_only:
            return
        shapes = (
            (n, high, wide), (n, high, beside), (n, below, wide),
            (n_series, grid_high, grid_wide), (n, grid_high), (n, grid_wide),
        )  # fmt: skip
        # One look at the rest, cut into its arrays.
        rest = np.frombuffer(raw, dtype, offset=_N_HEAD * _HEAD.itemsize + n * kind.itemsize)
        ends = list(accumulate(map(math.prod, shapes)))
        if len(rest) != ends[-1]:
            raise ValueError(f"a record of {len(raw):,} bytes is damaged")
        self.sample, self.beside, self.below, self.xy, self.zy, self.zx = (
            part.reshape(shape)
            for part, shape in zip(np.split(rest, ends[:-1]), shapes, strict=True)
        )


def is_whole(dtype: np.dtype[Any], unit: int, raw: bytes) -> bool:
    """Tell whether the record of a unit can be understood."""
    try:
        Record(raw, dtype)
    except ValueError:
        return False
    return True


class PlaneGatherer:
    """Gathers from the pieces of which one unit is put together; used by one thread.

    Parameters
    ----------
    shape : tuple of int
        Of the array; at least two axes.
    dtype : numpy.dtype
        Bool, integer or float, as it is stored.
    region : tuple of slice
        The unit.
    """

    def __init__(self, shape: Shape, dtype: np.dtype[Any], region: Region) -> None:
        self._stored = dtype
        self._dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
        self._lead = tuple(s.stop - s.start for s in region[:-2])
        self._origin = tuple(s.start for s in region[-2:])
        n_planes = math.prod(self._lead)
        self._numbers = np.arange(n_planes).reshape(self._lead)
        self._low, self._high = _limits(n_planes, self._dtype)
        self._n, self._n_strange, self._n_top = np.zeros((3, n_planes), np.int64)
        steps, self._thinning = grid_steps(shape), sample_thinning(shape)
        # Those of the sample alone, and the columns and rows next to them.
        every = tuple(a * b for a, b in zip(steps, self._thinning, strict=True))
        # Pixels of the grid, and of the sample, before the unit and up to its end.
        self._before, stop = _pixels(region[-2:], steps)
        first, last = _pixels(region[-2:], every)
        after, end = zip(
            *(next_pixels(s.start, s.stop, t) for s, t in zip(region[-2:], every, strict=True)),
            strict=True,
        )
        self._sample, self._beside, self._below = (
            np.zeros((n_planes, b[0] - a[0], b[1] - a[1]), self._dtype)
            for a, b in (
                (self._before, stop),
                ((first[0], after[1]), (last[0], end[1])),
                ((after[0], first[1]), (end[0], last[1])),
            )
        )
        # What is kept, how far it lies from multiples of the distances, and how many are before.
        self._kept = (
            (self._sample, (0, 0), steps, self._before),
            (self._beside, (0, 1), every, (first[0], after[1])),
            (self._below, (1, 0), every, (after[0], first[1])),
        )
        self._ways: dict[Shape, list[tuple[np.ndarray, Region]]] = {}
        self._tops, self._seen_tops = frozenset(saturated(self._dtype)), False

    def put(self, where: Region, values: np.ndarray) -> np.ndarray:
        """Take a piece, once each; ``where`` is relative to the unit. Give its values back.

        They come as they are stored, so that what follows need not swap their bytes again.
        Here a piece is in the cache of the processor and no chunk is cut yet.
        """
        values = values.astype(self._stored, copy=False)
        high, wide = values.shape[-2:]
        part = values.view(np.uint8) if self._stored.kind == "b" else values
        planes = part.reshape(-1, high, wide)
        ways = self._ways_of(where[-2].start, where[-1].start, high, wide)
        numbers = self._numbers[where[:-2]].reshape(-1)
        some = max(1, PIECE_NBYTES // max(1, high * wide * planes.itemsize))
        for start in range(0, len(planes), some):
            stop = min(start + some, len(planes))
            first, last = int(numbers[start]), int(numbers[stop - 1])
            # Consecutive nearly always, and then what is indexed is a view.
            run = last - first + 1 == stop - start
            at: Any = slice(first, last + 1) if run else numbers[start:stop]
            these = planes[start:stop]
            if not self._count_plain(at, these):
                self._count(at, these)
            for kept, pixels in ways:
                kept[at] = these[pixels]
        return values

    def _count_plain(self, at: Any, planes: np.ndarray) -> bool:
        """Count rows of some planes, unless there is more to do than minimum and maximum.

        As :meth:`_count`, with half of its calls, each of which waits for memory.
        """
        flat = np.ascontiguousarray(planes).reshape(len(planes), -1)
        low, high = _extremes(flat)
        strange = self._dtype.kind == "f" and not np.isfinite(low + high).all()
        if strange or self._seen_tops or not self._tops.isdisjoint(high.tolist()):
            return False
        self._n[at] += flat.shape[1]
        self._low[at] = np.minimum(self._low[at], low)
        self._high[at] = np.maximum(self._high[at], high)
        return True

    def _count(self, at: Any, planes: np.ndarray) -> None:
        """Count whole rows of some planes."""
        flat = np.ascontiguousarray(planes).reshape(len(planes), -1)
        low, high = _extremes(flat)
        if self._dtype.kind == "f":
            n_strange = _leave_out_strange(flat, low, high)
            self._n_strange[at] += n_strange
            self._n[at] -= n_strange
        self._n[at] += flat.shape[1]
        before = self._high[at]
        # None in most stacks; then this is one look at the maxima.
        if self._seen_tops or not self._tops.isdisjoint(high.tolist()):
            self._seen_tops = True
            n_top = np.where(high > before, 0, self._n_top[at])
            for k in np.flatnonzero(high >= before):
                if int(high[k]) in self._tops:
                    n_top[k] += np.count_nonzero(flat[k] == high[k])
            self._n_top[at] = n_top
        self._high[at] = np.maximum(before, high)
        self._low[at] = np.minimum(self._low[at], low)

    def _ways_of(self, *piece: int) -> list[tuple[np.ndarray, Region]]:
        """Give where what is kept of planes goes, and which of their pixels it is.

        ``piece`` is the place of a piece in its planes, relative to the unit, and its extent.
        """
        found = self._ways.get(piece)
        if found is None:
            if len(self._ways) >= MAX_WAYS:
                self._ways.clear()
            y, x, *extent = piece
            start = (y + self._origin[0], x + self._origin[1])
            found = self._ways[piece] = []
            for kept, *axes in self._kept:
                if not kept.size:
                    continue
                taken, put = [], []
                for shift, step, before, at, n in zip(*axes, start, extent, strict=True):
                    pixels = range((shift - at) % step, n, step)
                    first = -(-(at - shift) // step) - before
                    taken.append(slice(pixels.start, n, step))
                    put.append(slice(first, first + len(pixels)))
                found.append((kept[:, put[0], put[1]], (slice(None), *taken)))
        return found

    def _exact(self) -> np.ndarray:
        planes = np.empty(len(self._n), _plane_dtype(self._dtype))
        planes["min"], planes["max"] = self._low, self._high
        planes["n"], planes["n_strange"], planes["n_top"] = self._n, self._n_strange, self._n_top
        return planes

    def record(self) -> bytes:
        """Give what was gathered, for :class:`Record`."""
        n_z = self._lead[-1] if self._lead else 1
        stack = self._sample
        largest: Any = np.fmax if stack.dtype.kind == "f" else np.maximum
        ty, tx = self._thinning
        each = stack.reshape(len(stack) // n_z, n_z, *stack.shape[1:])
        arrays = (
            self._exact(),
            # Counted from the array's first.
            stack[:, -self._before[0] % ty :: ty, -self._before[1] % tx :: tx],
            self._beside,
            self._below,
            largest.reduce(each, axis=1),
            _max_along(stack, 2, largest),
            _max_along(stack, 1, largest),
        )
        beside, below = arrays[2].shape[2], arrays[3].shape[1]
        head = np.array([*arrays[1].shape, beside, below, *arrays[4].shape], _HEAD)
        # numpy's own format takes ten times as long, for its headers.
        return b"".join(array.tobytes() for array in (head, *arrays))


def _pixels(region: Region, steps: Shape) -> tuple[Shape, Shape]:
    """Give how many multiples of the steps lie before the starts, and before the ends."""
    ends = list(zip(region, steps, strict=True))
    return tuple(-(-s.start // t) for s, t in ends), tuple(-(-s.stop // t) for s, t in ends)


def _extremes(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the minimum and the maximum of each row, a part that fits in a cache at a time.

    The last part comes first, as it was read last; what copies the piece begins with the first.
    """
    n, size = flat.shape
    if flat.nbytes <= PART_NBYTES:
        return np.minimum.reduce(flat, 1), np.maximum.reduce(flat, 1)
    some = max(1, PART_NBYTES // max(1, size * flat.itemsize))
    wide = max(1, min(size, PART_NBYTES // flat.itemsize))
    low, high = np.empty((2, n, max(1, -(-size // wide))), flat.dtype)
    for start in range(0, n, some)[::-1]:
        for k in range(low.shape[1])[::-1]:
            part = flat[start : start + some, k * wide : (k + 1) * wide]
            np.minimum.reduce(part, 1, out=low[start : start + some, k])
            np.maximum.reduce(part, 1, out=high[start : start + some, k])
    if low.shape[1] == 1:
        return low[:, 0], high[:, 0]
    return np.minimum.reduce(low, 1), np.maximum.reduce(high, 1)


def _leave_out_strange(flat: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Let minima and maxima be those of finite elements; count the others of each row."""
    n_strange = np.zeros(len(flat), np.int64)
    # NaN goes through both, and so do infinities.
    for k in np.flatnonzero(~(np.isfinite(low) & np.isfinite(high))):
        finite = flat[k][np.isfinite(flat[k])]
        n_strange[k] = flat.shape[1] - finite.size
        low[k], high[k] = (finite.min(), finite.max()) if finite.size else (np.inf, -np.inf)
    return n_strange


def _max_along(stack: np.ndarray, axis: int, largest: Any) -> np.ndarray:
    """Reduce an axis; one without a pixel of the grid gives nothing larger than anything."""
    if stack.shape[axis]:
        return np.asarray(largest.reduce(stack, axis=axis))
    low = np.iinfo(stack.dtype).min if stack.dtype.kind in "iu" else -np.inf
    return np.full(tuple(np.delete(stack.shape, axis)), low, stack.dtype)
