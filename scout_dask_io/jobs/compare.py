"""Two sources compared, unit by unit, and what the tasks found put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from dask._task_spec import DataNode, List, Task, TaskRef

from scout_dask_io.core.grid import (
    Region,
    Shape,
    full_region,
    iter_regions,
    region_shape,
    region_size,
    shifted,
)
from scout_dask_io.core.plan import WritePlan, plan_source
from scout_dask_io.core.source import Source
from scout_dask_io.run.progress import Report, reporting
from scout_dask_io.run.scheduler import admitting, planned, run_tasks
from scout_dask_io.write.preflight import preflight

__all__ = ["Compared", "DifferingRegion", "compare"]


@dataclass(frozen=True, slots=True)
class DifferingRegion:
    """A chunk of the destination in which elements differ.

    Attributes
    ----------
    region : tuple of slice
        Where the chunk lies in the array.
    n_differing : int
        Elements in it that differ.
    index : tuple of int
        The first of them, in C order.
    src_value, dst_value : scalar
        What the two arrays hold there.
    """

    region: Region
    n_differing: int
    index: Shape
    src_value: Any
    dst_value: Any


@dataclass(frozen=True, slots=True)
class Compared:
    """What one task found; as an int, the bytes that it compared."""

    n_voxels: int
    n_differing: int
    n_regions: int
    regions: tuple[DifferingRegion, ...]
    nbytes: int

    def __int__(self) -> int:
        return self.nbytes


def compare_unit(
    src: Source,
    src_region: Region,
    dst: Source,
    dst_region: Region,
    region: Region,
    band: Shape,
    chunks: Shape,
    limit: int,
) -> Compared:
    """Compare one region, a band at a time; ``*_region`` is where it lies in each source."""
    n_differing = n_regions = 0
    regions: list[DifferingRegion] = []
    for part in iter_regions(region_shape(region), band):
        a = src.read(shifted(part, src_region))
        b = dst.read(shifted(part, dst_region))
        differs = _differs(a, b)
        if not differs.any():
            continue
        for found in _by_chunk(differs, a, b, shifted(part, region), chunks):
            n_differing += found.n_differing
            n_regions += 1
            regions.append(found)
        regions = _first(regions, limit)
    nbytes = region_size(region) * src.dtype.itemsize
    return Compared(region_size(region), n_differing, n_regions, tuple(regions), nbytes)


def _by_chunk(
    differs: np.ndarray, a: np.ndarray, b: np.ndarray, region: Region, chunks: Shape
) -> Iterator[DifferingRegion]:
    # A region starts on a chunk's edge, so chunks tile it as they tile the array.
    for cell in iter_regions(region_shape(region), chunks):
        inside = differs[cell]
        count = int(np.count_nonzero(inside))
        if count:
            first = np.unravel_index(int(inside.argmax()), inside.shape)
            at = tuple(int(i) + s.start for i, s in zip(first, cell, strict=True))
            index = tuple(i + s.start for i, s in zip(at, region, strict=True))
            yield DifferingRegion(shifted(cell, region), count, index, a[at].item(), b[at].item())


def _differs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Give where two arrays of one shape and dtype differ in any byte."""
    size = a.dtype.itemsize
    word = size if size in (1, 2, 4, 8) else 8 if size % 8 == 0 else 1
    shape = (*a.shape, size // word)
    unequal: np.ndarray = np.not_equal(
        a.reshape(-1).view(f"u{word}"), b.reshape(-1).view(f"u{word}")
    )
    if size == word:
        return unequal.reshape(a.shape)
    return np.asarray(unequal.reshape(shape).any(axis=-1))


def merge(parts: list[Compared], limit: int) -> Compared:
    """Put together what tasks found; ``limit`` regions are kept, the first in C order."""
    regions = [region for part in parts for region in part.regions]
    return Compared(
        sum(p.n_voxels for p in parts),
        sum(p.n_differing for p in parts),
        sum(p.n_regions for p in parts),
        tuple(_first(regions, limit)),
        sum(p.nbytes for p in parts),
    )


def _first(regions: list[DifferingRegion], limit: int) -> list[DifferingRegion]:
    """Give the first regions in C order of the array."""
    ordered = sorted(regions, key=lambda r: tuple(s.start for s in r.region))
    return list(islice(ordered, limit))


def compare(
    src: Source,
    dst: Source,
    chunks: Shape,
    name: str,
    *,
    nb_workers: int | None,
    max_mem: int | str | None,
    progress: bool | Report,
    limit: int,
) -> Compared:
    """Compare two sources of one shape and dtype, on the scheduler that dask is set to.

    Differences are counted in regions of ``chunks``, of which the first ``limit``
    are kept; ``name`` is for the progress.

    Raises
    ------
    MemoryLimitError
        If not even a chunk can be compared in ``max_mem``.
    """
    kind = (str(src.dtype), src.dtype.itemsize, chunks)
    plan = planned(
        _plan_thirds, src.shape, *kind, src.read_shape, max_mem=max_mem, nb_workers=nb_workers
    )
    asked = preflight([src, dst])
    tasks: dict[Any, Any] = {}
    pairs = zip(_narrowed(src, plan), _narrowed(dst, plan), plan.iter_units(), strict=True)
    for unit, ((a, at), (b, bt), region) in enumerate(pairs):
        key = ("verify", unit)
        tasks[key] = Task(
            key, compare_unit, DataNode(None, a), at, DataNode(None, b), bt, region, plan.band,
            chunks, limit,
        )  # fmt: skip
    units = set(tasks)
    tasks = admitting(tasks, units, asked)
    parts = [TaskRef(key) for key in tasks]
    tasks["verify-report"] = Task("verify-report", merge, List(*parts), limit)
    with reporting(progress, f"verify {name}") as report:
        found: Compared = run_tasks(
            tasks,
            "verify-report",
            units,
            nb_workers=plan.nb_workers,
            report=report,
            asked=asked,
        )
    return found


def _narrowed(source: Source, plan: WritePlan) -> Iterator[tuple[Source, Region]]:
    """Yield for each unit the part of a source that it needs, and where the unit lies in it."""
    last: Region | None = None
    part, inside = source, full_region(source.shape)
    for region in plan.iter_units():
        # Narrowing touches every page of a slab: units that differ along the
        # last two axes alone share one narrowed source.
        slab = region[:-2] + full_region(source.shape)[-2:]
        if slab != last:
            part, inside = source.narrow(slab)
            last = slab
        yield part, inside[:-2] + shifted(region[-2:], inside[-2:])


def _plan_thirds(*args: Any, nb_workers: int, max_mem: int, n_threads: int = 0) -> WritePlan:
    # A writer holds one band a task. Here there are two, and the mask of where
    # they differ, of a byte an element: at most three.
    return plan_source(*args, nb_workers=nb_workers, max_mem=max_mem // 3, n_threads=n_threads)
