"""How an export runs: rows are read, converted and encoded in threads, and written in order.

How an export reads: in parts of whole rows, each chunk once, within the memory allowed. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
from dask.system import CPU_COUNT

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import Region, Shape, cuts, full_region, region_shape, region_size
from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.messages import Option
from scout_dask_io.core.source import ViewSource
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.errors import MemoryLimitError
from scout_dask_io.jobs.export_files import Files
from scout_dask_io.jobs.export_selection import Exported
from scout_dask_io.jobs.export_values import Clipped, Conversion
from scout_dask_io.run.progress import Report
from scout_dask_io.tiff.encode import Rows, waiting_nbytes
from scout_dask_io.tiff.write_layout import TiffLayout, plan_layout
from scout_dask_io.tiff.write_metadata import (
    Notes,
    imagej_notes,
    ome_notes,
    plain_notes,
    record_text,
)
from scout_dask_io.tiff.writer import TiffDraft
from scout_dask_io.write.tiff import encode_in_order


@dataclass(slots=True)
class Job:
    """How an array is read, converted and written, and what was found on the way."""

    kind: str
    chosen: Exported
    conversion: Conversion
    layout: TiffLayout
    parts: Parts
    files: Files
    clipped: Clipped = field(default_factory=Clipped)
    # Of each page, for ImageJ's display ranges.
    least: np.ndarray | None = None
    greatest: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.kind == "imagej":
            self.least = np.full(self.layout.lead, np.inf)
            self.greatest = np.full(self.layout.lead, -np.inf)

    @property
    def n_elements(self) -> int:
        """Elements that are exported."""
        return math.prod(self.chosen.view.shape)

    @property
    def file_layout(self) -> TiffLayout:
        """Of one file: of all pages, or of one, its strips cut as in a file of all."""
        if self.kind != "planes":
            return self.layout
        lay = self.layout
        step = self.parts.rows
        page = plan_layout(
            lay.shape[len(lay.lead) :], lay.dtype, lay.compress, step=step, colour=lay.samples > 1
        )
        return replace(page, rows_per_strip=lay.rows_per_strip)

    def record(self, number: int) -> dict[str, Any]:
        """Give what a file's own note says of the export that wrote it."""
        scale = self.conversion.scale
        return {
            **self.chosen.record,
            "dtype": str(self.conversion.dtype),
            "scale": None if scale is None else list(scale),
            "compress": self.layout.compress,
            "kind": self.kind,
            "levels": self.layout.n_levels,
            "file": number,
        }

    def records(self) -> dict[Path, dict[str, Any]]:
        """Give what each file's own note says."""
        return {path: self.record(k) for k, path in enumerate(self.files.paths)}

    def wanted(self, done: set[Path]) -> np.ndarray:
        """Tell of each page, in the shape of the axes that count them, whether it is written."""
        pages = range(self.layout.n_pages)
        return np.array([self.files.place(page)[0] not in done for page in pages], bool).reshape(
            self.layout.lead
        )

    def todo(self, done: set[Path]) -> list[Region]:
        """Give the parts that have a page to be written."""
        wanted = self.wanted(done)
        return [part for part in self.parts if wanted[part[: wanted.ndim]].any()]

    def notes(self, number: int) -> Notes:
        """Give what a file says of itself."""
        layout, info = self.file_layout, self.conversion.shown(self.chosen.info)
        software = record_text(self.record(number))
        if self.kind == "ome":
            return ome_notes(layout, info, software=software)
        if self.kind == "imagej":
            return imagej_notes(layout, info, software=software, ranges=self._ranges())
        if self.kind == "planes":
            # The first tells of the stack. A plane is of one channel, and its folder says which.
            stack = info if number == 0 else None
            return plain_notes(
                layout, ImageInfo(voxel_size=info.voxel_size), software=software, stack=stack
            )
        if not set(info.axes) <= set("tczyxs"):
            info = replace(info, axes="")
        return plain_notes(layout, info, software=software)

    def _ranges(self) -> list[tuple[float, float]]:
        if self.least is None or self.greatest is None or not np.isfinite(self.least).all():
            return []
        at = self.chosen.axes.find("c")
        rest = tuple(k for k in range(len(self.layout.lead)) if k != at)
        pairs = zip(
            self.least.min(axis=rest).ravel(), self.greatest.max(axis=rest).ravel(), strict=True
        )
        found = [(_plain(low), _plain(high)) for low, high in pairs]
        stated = self.conversion.shown(self.chosen.info).windows
        if len(stated) != len(found):
            return found
        return [own or pair for own, pair in zip(stated, found, strict=True)]

    def read(self, region: Region) -> tuple[Region, np.ndarray, Clipped]:
        """Read and convert a region; runs in threads."""
        values, clipped = self.conversion(self.chosen.view.read(region))
        return region, values, clipped

    def measure(self, region: Region, values: np.ndarray) -> None:
        """Note the least and greatest value of each page, where that is wanted."""
        if self.least is None or self.greatest is None:
            return
        n_lead = len(self.layout.lead)
        lead, inner = region[:n_lead], tuple(range(n_lead, values.ndim))
        # A page of nothing but NaN has neither.
        low = np.fmin.reduce(values, axis=inner)
        self.least[lead] = np.fmin(self.least[lead], low)
        self.greatest[lead] = np.fmax(self.greatest[lead], np.fmax.reduce(values, axis=inner))


def _plain(value: float) -> float:
    return int(value) if float(value).is_integer() else float(value)


def run(job: Job, done: set[Path], report: Report | None) -> None:
    """Read in threads, encode in threads, write in order, publish each file when it is whole."""
    drafts: dict[Path, TiffDraft] = {}
    layout = job.file_layout
    rows = _iter_rows(job, done, report)
    try:
        with closing(rows), closing(encode_in_order(layout, rows, job.parts.encode_ahead)) as bands:
            for band in bands:
                path, number = job.files.place(band.page)
                if path not in drafts:
                    drafts[path] = TiffDraft(path, layout)
                drafts[path].write([band._replace(page=number)])
                if drafts[path].is_whole:
                    drafts[path].publish(job.notes(band.page // job.files.pages_each))
                    del drafts[path]
    finally:
        for draft in drafts.values():
            draft.discard()


def _iter_rows(job: Job, done: set[Path], report: Report | None) -> Generator[Rows]:
    """Yield the rows of all pages that are to be written, part after part."""
    lead = job.layout.lead
    pages = np.arange(job.layout.n_pages).reshape(lead)
    wanted, todo = job.wanted(done), job.todo(done)
    n_done, nbytes = len(job.parts) - len(todo), 0
    if n_done and report is not None:
        report(n_done, len(job.parts), 0)
    read = work_ahead(job.read, todo, job.parts.nb_workers, job.parts.ahead)
    with closing(read):
        for region, values, clipped in read:
            job.clipped += clipped
            job.measure(region, values)
            at = region[len(lead)].start
            for index in np.ndindex(region_shape(region[: len(lead)])):
                place = tuple(s.start + k for s, k in zip(region, index, strict=False))
                if wanted[place]:
                    yield int(pages[place]), at, values[index]
            del values  # not to be held while the next part is awaited
            n_done += 1
            nbytes += region_size(region) * job.layout.dtype.itemsize
            if report is not None:
                report(n_done, len(job.parts), nbytes)


# What one thread reads at a time, where max_mem allows and the chunks ask for
# no more: long against the overhead, short against the memory.
PART_NBYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Parts:
    """Regions of whole rows that tile a view, and how many are in memory.

    Attributes
    ----------
    shape : tuple of int
        Of the view.
    slab : tuple of int
        Extent of a part along the axes before a page's own.
    rows : int
        Its rows.
    phase : tuple of int
        How far into a slab and into its rows the view begins, per axis.
    nb_workers, ahead : int
        Threads that read, and parts that are read or wait at once.
    encode_ahead : int
        Bands that are encoded or wait at once.
    read_amplification : float
        How often a chunk is decoded, on average.
    max_mem, projected_mem : int
        What may be used, and what all that is in memory at once takes, in bytes.
    """

    shape: Shape
    slab: Shape
    rows: int
    phase: Shape
    nb_workers: int
    ahead: int
    encode_ahead: int
    read_amplification: float
    max_mem: int
    projected_mem: int

    @property
    def _cuts(self) -> list[list[int]]:
        steps = (*self.slab, self.rows)
        extents = self.shape[: len(steps)]
        return [cuts(n, s, p) for n, s, p in zip(extents, steps, self.phase, strict=True)]

    def __len__(self) -> int:
        return math.prod(len(c) - 1 for c in self._cuts)

    def __iter__(self) -> Iterator[Region]:
        """Yield the parts, slab after slab, the top rows first."""
        whole = full_region(self.shape)[len(self.slab) + 1 :]
        for spans in product(*(pairwise(c) for c in self._cuts)):
            yield (*(slice(a, b) for a, b in spans), *whole)


def plan_parts(view: ViewSource, layout: TiffLayout, nb_workers: int, max_mem: int) -> Parts:
    """Choose the parts, the least that decode no chunk twice, and how many are in memory.

    Where ``max_mem`` does not hold two of them, one in hand and one that is
    read, slabs are made thinner, and chunks are decoded more than once.

    Raises
    ------
    MemoryLimitError
        If not even the rows of one plane that a chunk has fit.
    """
    n_lead = len(layout.lead)
    # Not clipped to the view: a chunk is decoded whole, and parts end where chunks do.
    chunk = view.read_shape
    step, height = chunk[n_lead], layout.height
    n_steps = -(-(height + view.phase[n_lead]) // step)
    per_row = math.prod(view.shape[n_lead + 1 :])
    converted = layout.dtype.itemsize if layout.dtype != view.dtype else 0
    itemsize = view.dtype.itemsize + converted
    band_nbytes = layout.rows_per_write * per_row * layout.dtype.itemsize
    # Bands in the encoders hold as much again once encoded; no more of them than a
    # quarter of the memory, whatever the threads.
    encode_ahead = int(np.clip(max_mem // 4 // max(2 * band_nbytes, 1), 1, 2 * CPU_COUNT))
    slab = list(chunk[:n_lead])
    while True:
        n_pages = math.prod(min(s, n) for s, n in zip(slab, view.shape, strict=False))
        row_nbytes = n_pages * per_row * itemsize
        for n_steps_each in (min(n_steps, max(1, PART_NBYTES // (row_nbytes * step))), 1):
            rows = step * n_steps_each
            aligned = rows % layout.rows_per_write == 0 or rows >= height
            fixed = waiting_nbytes(layout, n_pages, aligned=aligned and not view.phase[n_lead])
            fixed += 0 if layout.is_run else encode_ahead * 2 * band_nbytes
            # A part, and the chunk in hand before and after decoding.
            part = row_nbytes * min(rows, height) + 2 * math.prod(chunk) * view.dtype.itemsize
            at_once = (max_mem - fixed) // part
            if at_once >= 2:
                workers = min(nb_workers, at_once - 1)
                ahead = min(workers + 1, at_once - 1)
                return Parts(
                    shape=view.shape,
                    slab=tuple(slab),
                    rows=rows,
                    phase=tuple(p % s for p, s in zip(view.phase, (*slab, rows), strict=False)),
                    nb_workers=workers,
                    ahead=ahead,
                    encode_ahead=encode_ahead,
                    read_amplification=_amplification(view, slab),
                    max_mem=max_mem,
                    projected_mem=fixed + (ahead + 1) * part,  # those ahead, and one in hand
                )
        if n_pages == 1:
            raise MemoryLimitError(
                Option("max_mem")
                + f"={format_nbytes(max_mem)} cannot hold {min(step, height)} rows of one "
                f"plane of shape {view.shape[n_lead:]} {view.dtype} and a chunk of {chunk}, both "
                "of them twice: "
                f"about {format_nbytes(2 * part + fixed)} are needed. Raise "
                + Option("max_mem")
                + "."
            )
        longest = max(range(len(slab)), key=lambda axis: slab[axis])
        slab[longest] = -(-slab[longest] // 2)


def _amplification(view: ViewSource, slab: list[int]) -> float:
    """Give how many chunks all slabs touch, against how many there are."""
    times = 1.0
    for n, s, c, phase in zip(view.shape, slab, view.read_shape, view.phase, strict=False):
        n_touched = sum(
            (b + phase - 1) // c - (a + phase) // c + 1 for a, b in pairwise(cuts(n, s, phase))
        )
        times *= n_touched / (len(cuts(n, c, phase)) - 1)
    return times
