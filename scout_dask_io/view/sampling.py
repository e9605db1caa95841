"""Enough of a volume for a picture: regions read once, reduced to bins as they come.

A picture of 512 pixels does not need every voxel of a terabyte. Each axis is
cut into bins, one a pixel; of each bin all elements are read where that costs
little more than one (rows of a strip, voxels of a chunk), and the middle one
where it does. Memory holds the bins and one band a thread.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import dask
import dask.array as da
import numpy as np

from scout_dask_io.core.grid import Region, Shape
from scout_dask_io.core.source import Source
from scout_dask_io.core.threads import work_ahead

#: What one look may cost: decoded bytes, and a seek's worth for each read.
MAX_COST_NBYTES = 2 << 30
#: A read that begins elsewhere costs as much as this many bytes more.
SEEK_NBYTES = 128 << 10
#: Bins along a long axis below which a picture says nothing any more.
MIN_BINS = 64
# Regions that are read, and held, at once.
N_THREADS = 4
_BAND_NBYTES = 16 << 20

Runs = list[tuple[int, int]]


@dataclass(frozen=True)
class Reader:
    """What is sampled: a source, or an array that must be computed.

    Attributes
    ----------
    data : Source or dask.array.Array
        What is read.
    cell : tuple of int
        Extent per axis of the least that is read at once.
    lead_ndim : int
        Leading axes along which neighbours are read singly; rows after them lie together.
    """

    data: Source | da.Array
    cell: Shape
    lead_ndim: int

    def iter_read(self, regions: Sequence[Region]) -> Iterator[np.ndarray]:
        """Read regions in threads, a few at once, and give each in turn."""
        if isinstance(self.data, da.Array):
            for start in range(0, len(regions), N_THREADS):
                yield from dask.compute(*(self.data[r] for r in regions[start : start + N_THREADS]))
        else:
            yield from work_ahead(self.data.read, regions, N_THREADS, N_THREADS)


@dataclass(frozen=True)
class SamplePlan:
    """Which elements are read, and the bin that each counts to.

    Attributes
    ----------
    bins : tuple of int
        Bins per axis.
    runs : tuple of list of (int, int)
        Per axis, the first and past-the-last index of each run that is read.
    step : tuple of int
        Elements a bin, per axis.
    cost_nbytes : int
        Bytes that are decoded, with a share for each read.
    """

    bins: Shape
    runs: tuple[Runs, ...]
    step: Shape
    cost_nbytes: int


def plan_samples(
    shape: Shape, itemsize: int, reader: Reader, fixed: dict[int, int], size: int, budget: int
) -> SamplePlan:
    """Choose what to read of an array so that at most ``size`` bins an axis come out.

    Parameters
    ----------
    shape : tuple of int
        Of the array.
    itemsize : int
        Bytes an element.
    reader : Reader
        How it is read.
    fixed : dict of int to int
        Axes that are held at one index.
    size : int
        Bins along each of the others, at most.
    budget : int
        What the reads may cost, in bytes; passed only where fewer than 64 bins were left.
    """
    while True:
        plan = _plan(shape, itemsize, reader, fixed, size)
        if plan.cost_nbytes <= budget or size <= MIN_BINS:
            return plan
        size = max(MIN_BINS, size * 3 // 4)


def _plan(
    shape: Shape, itemsize: int, reader: Reader, fixed: dict[int, int], size: int
) -> SamplePlan:
    runs: list[Runs] = []
    steps: list[int] = []
    cells: list[int] = []  # cells that are read, per axis
    row_nbytes = itemsize * shape[-1]
    for axis, (n, cell) in enumerate(zip(shape, reader.cell, strict=True)):
        if axis in fixed:
            runs.append([(fixed[axis], fixed[axis] + 1)])
            steps.append(n)
            cells.append(1)
            continue
        step = math.ceil(n / size)
        bins = math.ceil(n / step)
        together = axis == len(shape) - 2 and axis >= reader.lead_ndim
        whole = step <= cell or (
            together and n * row_nbytes <= bins * (cell * row_nbytes + SEEK_NBYTES)
        )
        if whole:
            runs.append([(0, n)])
            cells.append(math.ceil(n / cell))
        else:
            middles = [min(b * step + step // 2, n - 1) for b in range(bins)]
            runs.append([(m, m + 1) for m in middles])
            cells.append(bins)
        steps.append(step)
    reads = math.prod(len(r) for r in runs)
    cost = math.prod(cells) * math.prod(reader.cell) * itemsize + reads * SEEK_NBYTES
    bins_of = tuple(
        1 if k in fixed else math.ceil(n / s)
        for k, (n, s) in enumerate(zip(shape, steps, strict=True))
    )
    return SamplePlan(bins_of, tuple(runs), tuple(steps), cost)


def sample(
    reader: Reader,
    plan: SamplePlan,
    itemsize: int,
    *,
    projections: Sequence[int] = (),
    labels: bool = False,
) -> list[np.ndarray]:
    """Read what a plan names, and reduce it to bins.

    Returns
    -------
    list of numpy.ndarray
        The mean of what was read of each bin, float32, or float64 of an array of float64, of
        shape ``plan.bins``; of ``labels`` the element in its middle, as it is. With
        ``projections``, the maximum instead, along each of these axes in turn.
    """
    dtype = np.dtype(reader.data.dtype)
    kind: Any = np.float64 if dtype == np.float64 else np.float32
    least: float = -np.inf
    if labels and dtype.kind in "biu":
        # Names, which are none any more once rounded.
        kind = np.result_type(dtype, np.uint8)
        least = np.iinfo(kind).min
    outs: list[np.ndarray]
    if projections:
        outs = [np.full(_without(plan.bins, k), least, kind) for k in projections]
    else:
        outs = [np.zeros(plan.bins, kind)]
    jobs = list(_bands(reader, plan, itemsize))
    for region, values in zip(jobs, reader.iter_read(jobs), strict=True):
        if labels and not projections:
            where, parts = _middles(region, values, plan.step, reader.data.shape)
            outs[0][where] = parts
            continue
        if not projections:
            where, parts = _reduce(region, np.asarray(values, kind), plan.step, np.add)
            outs[0][where] += parts
            continue
        # The largest is the same before and after the numbers are widened, which takes memory.
        where, parts = _reduce(region, np.asarray(values), plan.step, np.maximum)
        for out, axis in zip(outs, projections, strict=True):
            view = out[_without(where, axis)]
            np.maximum(view, parts.max(axis=axis), out=view)
    if not projections and not labels:
        for axis, (runs, step, bins) in enumerate(
            zip(plan.runs, plan.step, plan.bins, strict=True)
        ):
            counts = np.zeros(bins, np.float32)
            for first, stop in runs:
                np.add.at(counts, np.arange(first, stop) // step, 1)
            outs[0] /= counts.reshape([-1 if k == axis else 1 for k in range(len(plan.bins))])
    return outs


def _bands(reader: Reader, plan: SamplePlan, itemsize: int) -> list[Region]:
    """Cut runs that are long into bands of whole cells, so that a band fits in memory."""
    runs = list(plan.runs)
    nbytes = itemsize * math.prod(max(b - a for a, b in r) for r in runs)
    for axis, cell in enumerate(reader.cell):
        if len(runs[axis]) > 1 or nbytes <= _BAND_NBYTES:
            continue
        ((first, stop),) = runs[axis]
        row = nbytes // (stop - first)
        thick = max(1, _BAND_NBYTES // max(row * cell, 1)) * cell
        runs[axis] = [(a, min(a + thick, stop)) for a in range(first, stop, thick)]
        nbytes = row * min(thick, stop - first)
    return [tuple(slice(a, b) for a, b in spans) for spans in product(*runs)]


def _reduce(
    region: Region, values: np.ndarray, step: Shape, function: Any
) -> tuple[Region, np.ndarray]:
    """Reduce a region to the bins it touches, and say which they are."""
    where = []
    for axis, (span, width) in enumerate(zip(region, step, strict=True)):
        first, last = span.start // width, (span.stop - 1) // width
        where.append(slice(first, last + 1))
        if span.stop - span.start > last - first + 1:
            edges = np.maximum(np.arange(first, last + 1) * width - span.start, 0)
            values = function.reduceat(values, edges, axis=axis)
    return tuple(where), values


def _middles(
    region: Region, values: np.ndarray, step: Shape, shape: Shape
) -> tuple[Region, np.ndarray]:
    """Give of each bin the element in its middle, where a region has it, and which bins these are.

    Those are the elements that are read where not all are.
    """
    where = []
    for axis, (span, width, n) in enumerate(zip(region, step, shape, strict=True)):
        bins = range(span.start // width, (span.stop - 1) // width + 1)
        middles = {b: min(b * width + width // 2, n - 1) for b in bins}
        if width == n:  # an axis that is held at one index
            middles = {0: span.start} if span.stop - span.start == 1 else middles
        found = [b for b in bins if span.start <= middles[b] < span.stop]
        first = found[0] if found else 0
        where.append(slice(first, first + len(found)))
        values = values.take([middles[b] - span.start for b in found], axis=axis)
    return tuple(where), values


def _without(items: Any, axis: int) -> Any:
    kept = list(items)
    del kept[axis]
    return tuple(kept)
