"""How an export runs: rows are read, converted and encoded in threads, and written in order."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Region, region_shape, region_size
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.jobs.export_files import Files
from scout_dask_io.jobs.export_parts import Parts
from scout_dask_io.jobs.export_selection import Selection
from scout_dask_io.jobs.export_values import Clipped, Conversion
from scout_dask_io.run.progress import Report
from scout_dask_io.tiff.bands import Rows
from scout_dask_io.tiff.channels import NO_CHANNELS, Channels
from scout_dask_io.tiff.record import record_text
from scout_dask_io.tiff.write_layout import TiffLayout, plan_layout
from scout_dask_io.tiff.write_metadata import Notes, imagej_notes, ome_notes, plain_notes
from scout_dask_io.tiff.writer import TiffDraft
from scout_dask_io.write.tiff import encode_in_order

__all__ = ["Job", "run"]


@dataclass(slots=True)
class Job:
    """How an array is read, converted and written, and what was found on the way."""

    kind: str
    chosen: Selection
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
        chosen, layout = self.chosen, self.file_layout
        said: dict[str, Any] = {
            "software": record_text(self.record(number)),
            "voxel": chosen.voxel,
            "channels": Channels(chosen.channels, chosen.colors),
        }
        if self.kind == "ome":
            return ome_notes(layout, chosen.axes, **said)
        if self.kind == "imagej":
            return imagej_notes(layout, chosen.axes, ranges=self._ranges(), **said)
        if self.kind == "planes":
            said["channels"] = NO_CHANNELS  # a plane is of one, and its folder says which
            return plain_notes(layout, **said)
        known = set(chosen.axes) <= set("tczyxs")
        return plain_notes(layout, chosen.axes if known else "", **said)

    def _ranges(self) -> list[tuple[float, float]]:
        if self.least is None or self.greatest is None or not np.isfinite(self.least).all():
            return []
        at = self.chosen.axes.find("c")
        rest = tuple(k for k in range(len(self.layout.lead)) if k != at)
        pairs = zip(
            self.least.min(axis=rest).ravel(), self.greatest.max(axis=rest).ravel(), strict=True
        )
        return [(_plain(low), _plain(high)) for low, high in pairs]

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
