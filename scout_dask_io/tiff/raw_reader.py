"""Decoding a region of one page: raw pixels are read in place, segments are decoded once each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import numpy as np

from scout_dask_io.tiff.page_layout import PageLayout
from scout_dask_io.tiff.page_reader import (
    PIECE_NBYTES,
    Area,
    AreaReader,
    Page,
    Scratch,
    depth_of,
    span,
)
from scout_dask_io.tiff.segment_reader import SegmentReader

#: One read of a raw page: offset from its first pixel, where it goes, and what it gives, with
#: room for several pages.
Step: TypeAlias = tuple[int, list[memoryview], Area, np.ndarray]

#: Rows this long are read in part where less than an eighth of them is wanted.
_LONG_ROW_NBYTES = 64 << 10


def area_reader(
    layout: PageLayout, area: Area, gate: AbstractContextManager[Any], scratch: Scratch
) -> AreaReader:
    """Give the reader of an area of pages with a layout."""
    kind = RawReader if layout.coding == "raw" else SegmentReader
    return kind(layout, area, gate, scratch)


class RawReader(AreaReader):
    """Reads pages whose pixels lie in one run of bytes, rows at a time."""

    _steps: list[Step] | None = None

    @property
    def depth(self) -> int:
        """How many pages go in a stack, 1 where a page takes several reads."""
        return len(self._all_steps()[0][1]) if self._all_steps() else 1

    @property
    def reach_nbytes(self) -> int:
        """The size of the rows that the area touches, in bytes."""
        return sum(len(buffers[0]) for _, buffers, _, _ in self._all_steps())

    def _ranges(self, page: Page) -> list[tuple[int, int]]:
        return [
            (page.data + offset, len(buffers[0])) for offset, buffers, _, _ in self._all_steps()
        ]

    def pieces(self, page: Page) -> Iterator[tuple[Area, np.ndarray]]:
        """Yield some rows at a time, in file byte order."""
        for offset, buffers, where, values in self._all_steps():
            self._fill(page, page.data + offset, buffers[0])
            yield where, values[0]

    def read(self, page: Page, at: int) -> None:
        """Read the rows of a page into its place in a stack."""
        offset, buffers, _, _ = self._all_steps()[0]
        self._fill(page, page.data + offset, buffers[at])

    def stack(self, n: int) -> np.ndarray:
        """Give what was read, but for columns and samples that are not wanted."""
        _, _, _, values = self._all_steps()[0]
        return values[:n]

    def read_rows(self, page: Page, out: memoryview) -> None:
        """Fill a buffer with the bytes of a raw page, from the first row of the area on."""
        layout = self.layout
        row_nbytes = layout.columns * layout.interleaved * np.dtype(layout.dtype).itemsize
        self._fill(page, page.data + self.area[0].start * row_nbytes, out)

    def _all_steps(self) -> list[Step]:
        if self._steps is None:
            self._steps = list(self._raw_steps())
        return self._steps

    def _raw_steps(self) -> Iterator[Step]:
        """Yield the reads of a raw page: equal for all pages, into memory that stays."""
        layout = self.layout
        rows, columns, samples = self.area
        dtype = np.dtype(layout.dtype)
        pixel = layout.interleaved * dtype.itemsize
        row_nbytes = layout.columns * pixel
        wanted = columns.stop - columns.start
        if row_nbytes >= _LONG_ROW_NBYTES and wanted * 8 <= layout.columns:
            left, width, step = columns.start, wanted, 1
        else:
            left, width, step = 0, layout.columns, max(1, PIECE_NBYTES // row_nbytes)
        step = min(step, rows.stop - rows.start)
        inside = slice(columns.start - left, columns.stop - left)
        if layout.planar:
            bands = [(b - samples.start, slice(0, 1), b) for b in span(samples)]
        else:
            bands = [(0, samples, 0)]
        nbytes = step * width * pixel
        depth = 1
        if len(bands) == 1 and step == rows.stop - rows.start:
            depth = depth_of(nbytes)
        memory = self.scratch.pixels(depth * nbytes)
        for at, chosen, band in bands:
            where_samples = slice(at, at + chosen.stop - chosen.start)
            for row in range(rows.start, rows.stop, step):
                n = min(step, rows.stop - row)
                nbytes = n * width * pixel
                buffer = memory[: depth * nbytes]
                buffers = [buffer[k * nbytes : (k + 1) * nbytes].data for k in range(depth)]
                values = buffer.view(dtype).reshape(depth, n, width, layout.interleaved)
                where_rows = slice(row - rows.start, row - rows.start + n)
                offset = (band * layout.rows + row) * row_nbytes + left * pixel
                where = (where_rows, slice(0, wanted), where_samples)
                yield offset, buffers, where, values[:, :, inside, chosen]
