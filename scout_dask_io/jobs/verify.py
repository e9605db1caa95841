"""Comparing two arrays pixel by pixel, streaming, on any scheduler.

Two sources compared, unit by unit, and what the tasks found put together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypedDict, Unpack, overload

import numpy as np

from scout_dask_io.core.formatting import Row, format_count, format_nbytes, format_s
from scout_dask_io.core.grid import (
    Region,
    Shape,
    full_region,
    iter_regions,
    region_shape,
    region_size,
    shifted,
)
from scout_dask_io.core.image_info import FilledPlane
from scout_dask_io.core.messages import joined
from scout_dask_io.core.plan import Room, WritePlan, plan_source
from scout_dask_io.core.selection import Selection
from scout_dask_io.core.source import Source
from scout_dask_io.errors import ArgumentError, TiffReadError
from scout_dask_io.files.location import locate
from scout_dask_io.jobs.report import JobReport, filled_text
from scout_dask_io.jobs.verify_manifest import (
    CheckReport,
    ImageCheckReport,
    check_image,
    check_node,
)
from scout_dask_io.read.any import (
    Opened,
    image_axes,
    kind_of,
    locate_all,
    node_at_url,
    open_any,
    with_axes,
)
from scout_dask_io.read.dataset import dataset_at
from scout_dask_io.run._dask import DataNode, List, Task, TaskRef
from scout_dask_io.run.lazy import source_of, turned
from scout_dask_io.run.memory import parse_nbytes
from scout_dask_io.run.progress import Report, reporting
from scout_dask_io.run.scheduler import check_nb_workers, planned, run_tasks
from scout_dask_io.store.image import image_of_node
from scout_dask_io.store.nodes import open_node
from scout_dask_io.write.preflight import preflight

_KINDS = {"tiff": "a TIFF file", "folder": "a folder of planes", "channels": "a folder of channels",
          "dataset": "a dataset of files"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VerifyReport(JobReport):
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
    filled : tuple of FilledPlane
        Planes of ``dst`` that hold the fill value, by its own record.
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
    filled: tuple[FilledPlane, ...]
    elapsed_s: float

    @property
    def equal(self) -> bool:
        """Whether shape, dtype and every element are the same."""
        return not self.mismatch and self.n_differing == 0

    @property
    def ok(self) -> bool:
        """The same as ``equal``."""
        return self.equal

    def verdict(self) -> str:
        """Say whether the two are equal, and if not, in how much they differ."""
        if self.mismatch:
            return "different"
        n_voxels = format_count(self.n_voxels, "pixel")
        if self.equal:
            return f"equal in all {n_voxels}"
        n_regions = format_count(self.n_regions, "region")
        return f"different in {self.n_differing:,} of {n_voxels}, in {n_regions}"

    def title(self) -> str:
        """Say which two are equal or not."""
        return f"{self.src} and {self.dst}: {self.verdict()}"

    def rows(self) -> Iterable[Row]:
        """Say where they differ first, and what was compared."""
        if self.mismatch:
            yield None, self.mismatch
            return
        for r in self.regions:
            region = ", ".join(f"{s.start}:{s.stop}" for s in r.region)
            yield (
                None,
                (
                    f"[{region}]: {format_count(r.n_differing, 'pixel')}, the first at "
                    f"[{', '.join(map(str, r.index))}]: {r.src_value} and {r.dst_value}"
                ),
            )
        if rest := self.n_regions - len(self.regions):
            yield None, f"and {format_count(rest, 'more region')}"
        rate = format_nbytes(self.nbytes / max(self.elapsed_s, 1e-9))
        yield (
            None,
            (f"compared {format_nbytes(self.nbytes)} in {format_s(self.elapsed_s)}, {rate}/s"),
        )
        yield from ((None, line) for line in filled_text(self.filled))


class _Options(TypedDict, total=False):
    deep: bool
    nb_workers: int | None
    max_mem: int | str | None
    order: str
    pattern: str | None
    position: str | None
    names: str
    series: int | None
    pages: str | None
    allow_sparse: bool
    axes: str | None
    progress: bool | Report
    limit: int
    storage_options: Mapping[str, Any] | None


@overload
def verify(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], **options: Unpack[_Options]
) -> VerifyReport: ...


@overload
def verify(
    src: str | os.PathLike[str], dst: None = ..., **options: Unpack[_Options]
) -> CheckReport | ImageCheckReport: ...


def verify(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None = None,
    *,
    deep: bool = False,
    nb_workers: int | None = None,
    max_mem: int | str | None = None,
    order: str = "alphabetical",
    pattern: str | None = None,
    position: str | None = None,
    names: str = "allow",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    axes: str | None = None,
    progress: bool | Report = False,
    limit: int = 10,
    storage_options: Mapping[str, Any] | None = None,
) -> VerifyReport | CheckReport | ImageCheckReport:
    """Compare two stored arrays pixel by pixel, or check one against its manifest.

    With one path, every chunk file of that Zarr array is read and its size and
    checksum compared with what was written: see ``jobs.verify_manifest``. Of an OME-Zarr
    image, those of every level.
    With two, in bounded memory:

    Both are read by regions of whole chunks of ``dst``, on the scheduler that
    dask is set to. Elements are equal if their bytes are, in native byte order:
    a NaN equals the same NaN, and 0.0 does not equal -0.0. Nothing is written.

    Where ``dst`` says that planes were filled, since their files could not be
    read, the report repeats it. Such a plane counts as equal while its file still
    cannot be read and ``dst`` holds zeros there; once the file can be read, it is
    compared as any other. A plane of ``src`` that cannot be read and is not on
    that record is an error.

    Parameters
    ----------
    src, dst : path-like
        Each a TIFF file, a folder of planes or of channels, a Zarr array, or an
        OME-Zarr image, of which level 0 is compared; or the URL of one.
    deep : bool
        With one path, decode the chunks too; with two, all is decoded anyway.
    nb_workers : int, optional
        Regions compared at once in one process; by default one a core.
    max_mem : int or str, optional
        Memory to use, in bytes or as ``"2GB"``; by default a quarter of what is free.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    pattern, position, names
        How the files of ``src`` are read, as for :func:`~scout_dask_io.convert`.
    series, pages, allow_sparse
        Which image and which pages of TIFF files at ``src``, as for
        :func:`~scout_dask_io.imread_folder`.
    axes : str, optional
        What the axes of ``src`` are, as for :func:`~scout_dask_io.convert`.
    progress : bool or callable
        As for :func:`~scout_dask_io.write_zarr`.
    limit : int
        How many differing regions to name.
    storage_options : dict, optional
        What fsspec needs to reach those of the two that are URLs.

    Returns
    -------
    VerifyReport, CheckReport or ImageCheckReport
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
    how = Selection(
        order, pattern=pattern, position=position, names=names,
        series=series, pages=pages, allow_sparse=allow_sparse,
    )  # fmt: skip
    if dst is None:
        asked: dict[str, Any] = {
            "deep": deep, "nb_workers": nb_workers, "progress": progress, "limit": limit,
        }  # fmt: skip
        place = locate(src, storage_options)
        node = node_at_url(place)
        kind = "zarr" if node is not None else kind_of(place)
        if kind != "zarr":
            raise ArgumentError(
                f"{src} is {_KINDS[kind]}, and only a Zarr array has a manifest to be checked "
                "against. Give what it is to be compared with as the second path."
            )
        dataset_at(place, kind, how)  # for its errors
        node = open_node(place) if node is None else node
        image = image_of_node(node)
        return check_node(node, **asked) if image is None else check_image(node, image, **asked)
    if max_mem is not None:
        parse_nbytes(max_mem)
    check_nb_workers(nb_workers)
    first, second = locate_all(src, dst, storage_options)
    right = open_any(second, nb_workers, Selection(order))
    # Whether planes are filled as the record says can be seen, and no more.
    left = open_any(first, nb_workers, replace(how, missing="fill" if right.filled else "error"))
    left = _as_right(left if axes is None else with_axes(left, axes), right)
    _check_record(left, right)
    mismatch = _mismatch(left, right)
    if mismatch:
        found = Compared(0, 0, 0, (), 0)
    else:
        src_source, dst_source = _source(left), _source(right)
        found = compare(
            src_source,
            dst_source,
            _chunks(right, dst_source),
            os.path.basename(right.path),
            nb_workers=nb_workers,
            max_mem=max_mem,
            progress=progress,
            limit=limit,
        )
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
        filled=right.filled,
        elapsed_s=time.perf_counter() - start,
    )


def _as_right(left: Opened, right: Opened) -> Opened:
    """Give the source with its axes as those of the destination lie, where both are stated.

    ``convert`` turns what it makes an image of; the same pixels in another order are the same.
    """
    stated = right.info.axes and (left.info.axes or left.kind != "zarr")
    if not stated or left.array.ndim != right.array.ndim:
        return left
    axes, order = image_axes(left), image_axes(right)
    if len(set(axes)) < len(axes) or sorted(axes) != sorted(order):
        return left
    return replace(left, array=turned(left.array, axes, order))


def _check_record(left: Opened, right: Opened) -> None:
    """Refuse a source in which more is unreadable than the destination's record says."""
    known = {f.plane for f in right.filled}
    new = [f for f in left.filled if f.plane not in known]
    if left.kind != "zarr" and new and () not in known:
        shown = joined(", ", (f"{f.file!r} ({f.reason})" for f in new), 10)
        raise TiffReadError(
            f"{format_count(len(new), 'plane')} of {left.path} cannot be read now, and "
            f"{right.path} does not say that they were filled: {shown}. "
            "Bring them back to compare."
        )


def _mismatch(left: Opened, right: Opened) -> str:
    for what in ("shape", "dtype"):
        a, b = getattr(left.array, what), getattr(right.array, what)
        if a != b:
            return f"the {what} differs: {a} in {left.path}, {b} in {right.path}"
    return ""


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
    plan = planned(
        _plan_thirds, src.shape, src.dtype, chunks, src.read_shape,
        max_mem=max_mem, nb_workers=nb_workers,
    )  # fmt: skip
    preflight([src, dst])
    tasks: dict[Any, Any] = {}
    pairs = zip(_narrowed(src, plan), _narrowed(dst, plan), plan.iter_units(), strict=True)
    for unit, ((a, at), (b, bt), region) in enumerate(pairs):
        key = ("verify", unit)
        tasks[key] = Task(
            key, compare_unit, DataNode(None, a), at, DataNode(None, b), bt, region, plan.band,
            chunks, limit,
        )  # fmt: skip
    units = set(tasks)
    parts = [TaskRef(key) for key in tasks]
    tasks["verify-report"] = Task("verify-report", merge, List(*parts), limit)
    with reporting(progress, f"verify {name}") as report:
        found: Compared = run_tasks(
            tasks,
            "verify-report",
            units,
            nb_workers=plan.nb_workers,
            report=report,
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


def _plan_thirds(
    shape: Shape, dtype: np.dtype[Any], chunks: Shape, read_shape: Shape, room: Room
) -> WritePlan:
    # A writer holds one band a task. Here there are two, and the mask of where
    # they differ, of a byte an element: at most three.
    third = room._replace(max_mem=room.max_mem // 3)
    return plan_source(shape, dtype, chunks, read_shape, third)
