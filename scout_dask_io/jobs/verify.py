"""Comparing two arrays pixel by pixel, streaming, on any scheduler."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, overload

import numpy as np
from dask._task_spec import DataNode, List, Task, TaskRef

from scout_dask_io.errors import ArgumentError
from scout_dask_io.execute import check_nb_workers, planned, run_tasks
from scout_dask_io.grid import (
    Region,
    Shape,
    full_region,
    iter_regions,
    region_shape,
    region_size,
)
from scout_dask_io.jobs.check import CheckReport, check
from scout_dask_io.jobs.render import to_json
from scout_dask_io.jobs.sources import Opened, open_any
from scout_dask_io.lazy import source_of
from scout_dask_io.memory import parse_nbytes
from scout_dask_io.plan import WritePlan, plan_source
from scout_dask_io.preflight import preflight
from scout_dask_io.progress import Report, reporting
from scout_dask_io.source import Source

__all__ = ["DifferingRegion", "VerifyReport", "verify"]


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
class VerifyReport:
    """What :func:`verify` found.

    Attributes
    ----------
    src, dst : str
        The two paths.
    shape : tuple of int
        Of the source, in elements.
    dtype : str
        Of the source.
    mismatch : str
        Why elements were not compared: the shapes or dtypes differ. Empty otherwise.
    n_voxels : int
        Elements that were compared.
    n_differing : int
        Elements that differ, in all regions.
    n_regions : int
        Chunks of the destination in which any differs.
    regions : tuple of DifferingRegion
        The first of them, in C order.
    nbytes : int
        Size of the elements that were compared, of one array, in bytes.
    elapsed_s : float
        From opening the two to this report.
    """

    src: str
    dst: str
    shape: Shape
    dtype: str
    mismatch: str
    n_voxels: int
    n_differing: int
    n_regions: int
    regions: tuple[DifferingRegion, ...]
    nbytes: int
    elapsed_s: float

    @property
    def equal(self) -> bool:
        """Whether shape, dtype and every element are the same."""
        return not self.mismatch and self.n_differing == 0

    @property
    def ok(self) -> bool:
        """The same as ``equal``."""
        return self.equal

    def to_json(self) -> str:
        """Give the report as JSON."""
        return to_json(self)


@dataclass(frozen=True, slots=True)
class _Compared:
    """What one task found; as an int, the bytes that it compared."""

    n_voxels: int
    n_differing: int
    n_regions: int
    regions: tuple[DifferingRegion, ...]
    nbytes: int

    def __int__(self) -> int:
        return self.nbytes


@overload
def verify(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    deep: bool = ...,
    nb_workers: int | None = ...,
    max_mem: int | str | None = ...,
    order: str = ...,
    progress: bool | Report = ...,
    limit: int = ...,
) -> VerifyReport: ...


@overload
def verify(
    src: str | os.PathLike[str],
    dst: None = ...,
    *,
    deep: bool = ...,
    nb_workers: int | None = ...,
    max_mem: int | str | None = ...,
    order: str = ...,
    progress: bool | Report = ...,
    limit: int = ...,
) -> CheckReport: ...


def verify(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None = None,
    *,
    deep: bool = False,
    nb_workers: int | None = None,
    max_mem: int | str | None = None,
    order: str = "alphabetical",
    progress: bool | Report = False,
    limit: int = 10,
) -> VerifyReport | CheckReport:
    """Compare two stored arrays pixel by pixel, or check one against its manifest.

    With one path, every chunk file of that Zarr array is read and its size and
    checksum compared with what was written: see :func:`~.check.check`.
    With two, in bounded memory:

    Both are read by regions of whole chunks of ``dst``, on the scheduler that
    dask is set to. Elements are equal if their bytes are, in native byte order:
    a NaN equals the same NaN, and 0.0 does not equal -0.0. Nothing is written.

    Parameters
    ----------
    src, dst : path-like
        Each a TIFF file, a folder of planes or of channels, or a Zarr array.
    deep : bool
        With one path, decode the chunks too; with two, all is decoded anyway.
    nb_workers : int, optional
        Regions compared at once in one process; by default one a core.
    max_mem : int or str, optional
        Memory to use, in bytes or as ``"2GB"``; by default a quarter of what is free.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    progress : bool or callable
        As for :func:`~scout_dask_io.write_zarr`.
    limit : int
        How many differing regions to name.

    Returns
    -------
    VerifyReport or CheckReport
        Arrays that differ in shape or dtype are unequal, and not read.

    Raises
    ------
    PathNotFoundError, TiffReadError, ChunkReadError, LayoutError
        If either cannot be read.
    ArgumentError
        If an argument is not one of the above.
    MemoryLimitError
        If not even a chunk of ``dst`` can be compared in ``max_mem``.
    """
    start = time.perf_counter()
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ArgumentError(f"limit must be a whole number from 0 up, got {limit!r}")
    if dst is None:
        return check(src, deep=deep, nb_workers=nb_workers, progress=progress, limit=limit)
    if max_mem is not None:
        parse_nbytes(max_mem)
    check_nb_workers(nb_workers)
    left, right = (open_any(path, nb_workers, order=order) for path in (src, dst))
    mismatch = _mismatch(left, right)
    if mismatch:
        found = _Compared(0, 0, 0, (), 0)
    else:
        found = _compare(left, right, nb_workers, max_mem, progress, limit)
    return VerifyReport(
        src=left.path,
        dst=right.path,
        shape=tuple(left.array.shape),
        dtype=str(left.array.dtype),
        mismatch=mismatch,
        n_voxels=found.n_voxels,
        n_differing=found.n_differing,
        n_regions=found.n_regions,
        regions=found.regions,
        nbytes=found.nbytes,
        elapsed_s=time.perf_counter() - start,
    )


def _mismatch(left: Opened, right: Opened) -> str:
    for what in ("shape", "dtype"):
        a, b = getattr(left.array, what), getattr(right.array, what)
        if a != b:
            return f"the {what} differs: {a} in {left.path}, {b} in {right.path}"
    return ""


def _compare(
    left: Opened,
    right: Opened,
    nb_workers: int | None,
    max_mem: int | str | None,
    progress: bool | Report,
    limit: int,
) -> _Compared:
    src, dst = _source(left), _source(right)
    chunks = _chunks(right, dst)
    kind = (str(src.dtype), src.dtype.itemsize, chunks)
    plan = planned(
        _plan_thirds, src.shape, *kind, src.read_shape, max_mem=max_mem, nb_workers=nb_workers
    )
    preflight([src, dst])
    tasks: dict[Any, Any] = {}
    pairs = zip(_narrowed(src, plan), _narrowed(dst, plan), plan.iter_units(), strict=True)
    for unit, ((a, at), (b, bt), region) in enumerate(pairs):
        key = ("verify", unit)
        tasks[key] = Task(
            key, _compare_unit, DataNode(None, a), at, DataNode(None, b), bt, region, plan.band,
            chunks, limit,
        )  # fmt: skip
    units = set(tasks)
    parts = [TaskRef(key) for key in tasks]
    tasks["verify-report"] = Task("verify-report", _merge, List(*parts), limit)
    with reporting(progress, f"verify {os.path.basename(right.path)}") as report:
        found: _Compared = run_tasks(
            tasks, "verify-report", units, nb_workers=plan.nb_workers, report=report
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
        yield part, inside[:-2] + _shift(region[-2:], inside[-2:])


def _source(opened: Opened) -> Source:
    source = source_of(opened.array)
    if source is None:
        raise TypeError(f"the array of {opened.path} was not built by a reader")
    return source


def _chunks(opened: Opened, source: Source) -> Shape:
    """Give the regions in which differences are counted: chunks, or of TIFF files planes."""
    if opened.kind == "zarr":
        return source.read_shape
    lead = max(source.ndim - 2, 0)
    return (1,) * lead + tuple(max(n, 1) for n in source.shape[lead:])


def _plan_thirds(*args: Any, nb_workers: int, max_mem: int, n_threads: int = 0) -> WritePlan:
    # A writer holds one band a task. Here there are two, and the mask of where
    # they differ, of a byte an element: at most three.
    return plan_source(*args, nb_workers=nb_workers, max_mem=max_mem // 3, n_threads=n_threads)


def _compare_unit(
    src: Source,
    src_region: Region,
    dst: Source,
    dst_region: Region,
    region: Region,
    band: Shape,
    chunks: Shape,
    limit: int,
) -> _Compared:
    """Compare one region, a band at a time; ``*_region`` is where it lies in each source."""
    n_differing = n_regions = 0
    regions: list[DifferingRegion] = []
    for part in iter_regions(region_shape(region), band):
        a = src.read(_shift(part, src_region))
        b = dst.read(_shift(part, dst_region))
        differs = _differs(a, b)
        if not differs.any():
            continue
        for found in _by_chunk(differs, a, b, _shift(part, region), chunks):
            n_differing += found.n_differing
            n_regions += 1
            regions.append(found)
        regions = _first(regions, limit)
    nbytes = region_size(region) * src.dtype.itemsize
    return _Compared(region_size(region), n_differing, n_regions, tuple(regions), nbytes)


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
            yield DifferingRegion(_shift(cell, region), count, index, a[at].item(), b[at].item())


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


def _shift(region: Region, origin: Region) -> Region:
    """Give a region in the coordinates in which ``origin`` is given."""
    return tuple(
        slice(s.start + o.start, s.stop + o.start) for s, o in zip(region, origin, strict=True)
    )


def _merge(parts: list[_Compared], limit: int) -> _Compared:
    regions = [region for part in parts for region in part.regions]
    return _Compared(
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
