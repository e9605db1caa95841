"""All planes of a volume from the records of its write units: exact values, and estimates."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from scout_dask_io.core.grid import Blocks, Region, Shape, chunk_counts, iter_block_regions
from scout_dask_io.write.qc.gather import (
    Record,
    grid_steps,
    next_pixels,
    no_planes,
    sample_thinning,
    saturated,
)
from scout_dask_io.write.qc.patterns import Displacement, displacement, prepared, stripes

#: Yields the records of units by their numbers, in that order.
Records: TypeAlias = Callable[[Iterable[int]], Iterator[bytes]]
#: The percentiles of every plane.
PERCENTILES = (1, 25, 50, 75, 99)
#: Series, which are channels as a rule, of which projections are kept.
N_SHOWN = 4
# Bins of the histogram, and rows of projections along y and x, at most.
N_BINS, N_ROWS = 256, 512
# Values from which on bins are wider the larger their values are: most pixels of a camera
# of 16 bits are dark, and a few saturated ones would leave them one bin of equal ones.
WIDE = 4096


@dataclass(frozen=True, slots=True)
class Projections:
    """Maxima of the pixels of the grid: ``(y, x)`` along z, ``(z, y)`` along x, ``(z, x)``."""

    xy: np.ndarray
    zy: np.ndarray
    zx: np.ndarray


@dataclass(frozen=True, slots=True)
class VolumeSummary:
    """What the planes of an array are like; all are counted through in C order.

    Attributes
    ----------
    lead : tuple of int
        Extents of the axes before the last two, ``(1,)`` of a single plane.
    planes : numpy.ndarray
        Exact: ``min``, ``max``, ``n``, ``n_strange``, an entry a plane.
    n_saturated : numpy.ndarray
        Exact: elements equal to ``saturation``.
    saturation : int or None
        The array's largest value, where it is one at which cameras saturate.
    mean : numpy.ndarray
        Of the pixels of the sample; NaN of a plane without a finite one.
    percentiles : numpy.ndarray
        ``(plane, PERCENTILES)``, of the same; each is a value of the sample.
    sharpness : numpy.ndarray
        How much pixels of the sample differ from those beside them, on average.
    stripes : numpy.ndarray
        ``(plane, 2)``: how much rows, and columns, differ beyond their pixels' noise.
    displaced : tuple of Displacement
        Planes that are more like the one before, of their series, in another place.
    crc32 : numpy.ndarray
        Of the sample's bytes, which tells planes apart.
    edges, counts : numpy.ndarray
        Histogram of the sample: ``(series, bin)``, of the first ``N_SHOWN`` series.
    projections : tuple of Projections
        Of the first series.
    """

    lead: Shape
    planes: np.ndarray
    n_saturated: np.ndarray
    saturation: int | None
    mean: np.ndarray
    percentiles: np.ndarray
    sharpness: np.ndarray
    stripes: np.ndarray
    displaced: tuple[Displacement, ...]
    crc32: np.ndarray
    edges: np.ndarray
    counts: np.ndarray
    projections: tuple[Projections, ...]


def summarise(shape: Shape, dtype: np.dtype[Any], units: Blocks, load: Records) -> VolumeSummary:
    """Put records together. Memory holds those of the units that share their planes.

    Parameters
    ----------
    shape, dtype
        Of the array.
    units : tuple of tuple of int
        Extents of the write units.
    load : callable
        Yields the records of units by their numbers. Called twice for all.
    """
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    lead = shape[:-2] or (1,)
    exact = _exact(shape, dtype, units, load)
    top = int(exact["max"].max()) if dtype.kind in "iu" else None
    saturation = top if top in saturated(dtype) else None
    edges = _edges(exact, dtype)
    mean, found = np.full(len(exact), np.nan), np.full((len(exact), len(PERCENTILES)), np.nan)
    crc = np.zeros(len(exact), np.uint32)
    sharpness, striped = np.full(len(exact), np.nan), np.full((len(exact), 2), np.nan)
    neighbours = _Neighbours(lead[-1])
    shown = _Shown(shape, dtype)
    n_z, n_shown = lead[-1], len(shown)
    counts = np.zeros((n_shown, len(edges) - 1), np.int64)
    for numbers, sample, beside, below in _slabs(shape, dtype, units, load, shown):
        values = sample.reshape(len(numbers), -1)
        mean[numbers], found[numbers] = _moments(values)
        sharpness[numbers] = _sharpness(sample, beside)
        striped[numbers] = stripes(sample, below, beside)
        for k, plane in zip(numbers.tolist(), prepared(sample), strict=True):
            neighbours.put(k, plane)
        crc[numbers] = [zlib.crc32(row.tobytes()) for row in values]
        for k in np.unique(numbers // n_z).tolist():
            if k < n_shown:
                counts[k] += _counts(values[numbers // n_z == k], edges, dtype)
    return VolumeSummary(
        lead=lead,
        planes=exact,
        n_saturated=np.where(exact["max"] == saturation, exact["n_top"], 0)
        if saturation is not None
        else np.zeros(len(exact), np.int64),
        saturation=saturation,
        mean=mean,
        percentiles=found,
        sharpness=sharpness,
        stripes=striped,
        displaced=tuple(neighbours.found),
        crc32=crc,
        edges=edges,
        counts=counts,
        projections=shown.projections(),
    )


def candidates(summary: VolumeSummary) -> list[list[int]]:
    """Give groups of planes that may be equal: all that was gathered of them is.

    Planes of one value, and those without a finite one, are left out.
    """
    planes = summary.planes
    groups: dict[tuple[Any, ...], list[int]] = {}
    several = (planes["min"] != planes["max"]) & (planes["n"] > 0)
    for k in np.flatnonzero(several | (planes["n_strange"] * planes["n"] > 0)).tolist():
        key = (*planes[k].item(), int(summary.crc32[k]))
        groups.setdefault(key, []).append(k)
    return [group for group in groups.values() if len(group) > 1]


def _exact(shape: Shape, dtype: np.dtype[Any], units: Blocks, load: Records) -> np.ndarray:
    whole = no_planes(math.prod(shape[:-2]), dtype)
    numbers = _numbers(shape)
    for raw, (_, region) in zip(load(_all_of(units)), iter_block_regions(units), strict=True):
        at = numbers[region[:-2]].reshape(-1)
        there, here = whole[at], Record(raw, dtype, exact_only=True).planes
        # Elements at the maximum count where it is the maximum of the whole plane.
        both = np.maximum(there["max"], here["max"])
        there["n_top"] = sum(np.where(p["max"] == both, p["n_top"], 0) for p in (there, here))
        there["max"], there["min"] = both, np.minimum(there["min"], here["min"])
        for name in ("n", "n_strange"):
            there[name] += here[name]
        whole[at] = there
    if np.any(whole["n"] + whole["n_strange"] != math.prod(shape[-2:])):
        raise RuntimeError("the records of the write units do not cover every plane")
    return whole


def _all_of(units: Blocks) -> range:
    return range(math.prod(map(len, units)))


def _numbers(shape: Shape) -> np.ndarray:
    return np.arange(math.prod(shape[:-2])).reshape(shape[:-2])


def _slabs(
    shape: Shape,
    dtype: np.dtype[Any],
    units: Blocks,
    load: Records,
    shown: _Shown,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield planes that lie in the same units: numbers, their sample, what is beside and below."""
    numbers = _numbers(shape)
    steps, (thin_y, thin_x) = grid_steps(shape), sample_thinning(shape)
    grid = chunk_counts(shape[-2:], steps)
    step_y, step_x = steps[0] * thin_y, steps[1] * thin_x
    n_below, n_beside = (
        next_pixels(0, n, step)[1] for n, step in zip(shape[-2:], (step_y, step_x), strict=True)
    )
    whole = beside = below = np.zeros((0, 0, 0), dtype)
    n_parts = len(units[-2]) * len(units[-1])
    records = load(_all_of(units))
    for unit, ((_, region), raw) in enumerate(zip(iter_block_regions(units), records, strict=True)):
        at = numbers[region[:-2]].reshape(-1)
        record = Record(raw, dtype)
        if unit % n_parts == 0:
            whole = np.zeros((len(at), *chunk_counts(grid, (thin_y, thin_x))), dtype)
            beside = np.zeros((*whole.shape[:2], n_beside), dtype)
            below = np.zeros((len(at), n_below, whole.shape[2]), dtype)
        top, left = chunk_counts(tuple(s.start for s in region[-2:]), steps)
        shown.put(region, at, record, top, left)
        y, x = chunk_counts((top, left), (thin_y, thin_x))
        high, wide = record.sample.shape[1:]
        whole[:, y : y + high, x : x + wide] = record.sample
        left = next_pixels(region[-1].start, region[-1].stop, step_x)[0]
        beside[:, y : y + high, left : left + record.beside.shape[2]] = record.beside
        top = next_pixels(region[-2].start, region[-2].stop, step_y)[0]
        below[:, top : top + record.below.shape[1], x : x + wide] = record.below
        if unit % n_parts == n_parts - 1:
            yield at, whole, beside, below


class _Neighbours:
    """Compares each plane with the one before it in its series."""

    def __init__(self, n_z: int) -> None:
        self._n_z = n_z
        self._last: dict[int, tuple[int, np.ndarray]] = {}
        self.found: list[Displacement] = []

    def put(self, number: int, plane: np.ndarray) -> None:
        """Take a plane that is :func:`prepared`; those of a series come in order."""
        if not plane.any():
            return  # a blank one is like nothing
        series = number // self._n_z
        before = self._last.get(series)
        if before is not None and before[0] >= number - 2:
            found = displacement(number, before[1], plane)
            if found is not None:
                self.found.append(found)
        self._last[series] = number, plane


def _sharpness(sample: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Give the mean difference of pixels that are next to one another along x."""
    kind = np.float32 if sample.dtype.itemsize <= 2 else np.float64
    if beside.shape[-1]:
        one, other = sample[..., : beside.shape[-1]], beside
    else:
        one, other = sample[..., :-1], sample[..., 1:]
    if not one.size:
        return np.full(len(sample), np.nan)
    with np.errstate(invalid="ignore"):
        apart = np.abs(one.astype(kind) - other.astype(kind)).reshape(len(sample), -1)
    if sample.dtype.kind != "f":
        return np.asarray(apart.mean(axis=1, dtype=np.float64))
    known = np.isfinite(apart)
    n = known.sum(axis=1)
    total = np.where(known, apart, 0).sum(axis=1, dtype=np.float64)
    return np.asarray(total / np.where(n, n, np.nan))


class _Shown:
    """Projections in the making."""

    def __init__(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        self._n_z = shape[-3] if len(shape) > 2 else 1
        self._step = -(-self._n_z // N_ROWS)
        grid = chunk_counts(shape[-2:], grid_steps(shape))
        n = min(N_SHOWN, math.prod(shape[:-3]))
        rows = -(-self._n_z // self._step)
        low = np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf
        self._xy = np.full((n, *grid), low, dtype)
        self._zy, self._zx = (np.full((n, rows, extent), low, dtype) for extent in grid)
        self._larger: Any = np.fmax if dtype.kind == "f" else np.maximum

    def __len__(self) -> int:
        return len(self._xy)

    def put(self, region: Region, numbers: np.ndarray, record: Record, top: int, left: int) -> None:
        """Take the record of a unit whose first pixel of the grid is ``(top, left)``."""
        series, z = np.divmod(numbers, self._n_z)
        for k, image in zip(np.unique(series).tolist(), record.xy, strict=True):
            if k < len(self):
                high, wide = image.shape
                there = self._xy[k, top : top + high, left : left + wide]
                self._larger(there, image, out=there)
                here = series == k
                rows, starts = np.unique(z[here] // self._step, return_index=True)
                for whole, part, at in (
                    (self._zy[k], record.zy[here], slice(top, top + high)),
                    (self._zx[k], record.zx[here], slice(left, left + wide)),
                ):
                    found = self._larger.reduceat(part, starts, axis=0)
                    whole[rows, at] = self._larger(whole[rows, at], found)

    def projections(self) -> tuple[Projections, ...]:
        return tuple(
            Projections(*found) for found in zip(self._xy, self._zy, self._zx, strict=True)
        )


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the means and the percentiles of the finite elements of each row."""
    n = np.full(len(values), values.shape[1])
    if values.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, np.nan)
        n -= np.isnan(values).sum(axis=1)
        total = np.nansum(values, axis=1, dtype=np.float64)
    else:
        total = values.sum(axis=1, dtype=_sum_dtype(values))
    # A radix sort of 16 bits, four times as fast as the default; NaN go last.
    ordered = np.sort(values, axis=1, kind="stable")
    ranks = np.ceil(np.outer(n, PERCENTILES) / 100).astype(int) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / np.where(n, n, np.nan)
    found = np.take_along_axis(ordered, np.clip(ranks, 0, None), axis=1).astype(np.float64)
    found[n == 0] = np.nan
    return mean, found


def _sum_dtype(values: np.ndarray) -> Any:
    """Give the narrowest dtype that holds sums of rows: 32 bits are twice as fast as 64."""
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2 and values.shape[1] <= 2**16:
        return np.uint32
    return np.float64 if values.dtype.itemsize > 4 else np.int64


def _edges(planes: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Give the edges of bins that hold every finite element; of integers, whole numbers."""
    planes = planes[planes["n"] > 0]
    if not len(planes):
        return np.array([0.0, 1.0])
    low, high = planes["min"].min(), planes["max"].max()
    if dtype.kind in "iu":
        low, n_values = int(low), int(high) - int(low) + 1
        if low >= 0 and n_values > WIDE:
            steps = np.unique(np.floor(np.geomspace(1, n_values + 1, N_BINS + 1)))
            return low + steps - 1
        width = -(-n_values // N_BINS)
        return low + width * np.arange(-(-n_values // width) + 1, dtype=np.float64)
    return np.histogram_bin_edges(np.zeros(0), N_BINS, (float(low), float(high)))


def _counts(values: np.ndarray, edges: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        # A count of each value first, which is the fastest.
        kind = f"u{dtype.itemsize}"
        above = values.view(kind) - np.array(int(edges[0]), dtype).view(kind)
        n_values = int(edges[-1] - edges[0])
        each = np.bincount(above.reshape(-1), minlength=n_values)[:n_values]
        return np.asarray(np.add.reduceat(each, (edges[:-1] - edges[0]).astype(np.int64)))
    if dtype.kind == "f":
        values = values[np.isfinite(values)]
        return np.histogram(values.astype(np.float64), len(edges) - 1, (edges[0], edges[-1]))[0]
    return np.histogram(values.astype(np.float64), edges)[0]
