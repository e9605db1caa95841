"""Decoding a region of one page: each segment that it needs is read and decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import imagecodecs
import numpy as np

from scout_dask_io.errors import TiffReadError
from scout_dask_io.tiff import files
from scout_dask_io.tiff.cache import BoundedCache, SegmentTable
from scout_dask_io.tiff.general import general_decoder, general_table, open_tiff, page_at
from scout_dask_io.tiff.ifd import Damaged, Window, read_header, read_ifd
from scout_dask_io.tiff.layout import PageLayout, SourceFile
from scout_dask_io.tiff.pages import JPEG_TABLES, has_quirks, read_segments

Area: TypeAlias = tuple[slice, slice, slice]
Decoder: TypeAlias = Callable[..., Any]
#: One read of a raw page: offset from its first pixel, room, and what it gives.
Step: TypeAlias = tuple[int, memoryview, Area, np.ndarray]

__all__ = ["PIECE_NBYTES", "AreaReader", "Page", "Scratch", "unreadable"]

#: Rows are handed on in pieces of about this size, which stay in the L2 cache
#: between the read and the copy that the caller makes.
PIECE_NBYTES = 1 << 20
#: Compressed segments that touch are read at once, up to this many bytes.
_RUN_NBYTES = 4 << 20
#: Writers align segments to words: so small a gap is read with its neighbours.
_GAP_NBYTES = 16
#: Rows this long are read in part where less than an eighth of them is wanted.
_LONG_ROW_NBYTES = 64 << 10

_CODECS: dict[int, Decoder] = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    32773: imagecodecs.packbits_decode,
    34926: imagecodecs.zstd_decode,
    50000: imagecodecs.zstd_decode,
}

# Plain data only, no handle. A plane of 2,048 one-row strips holds 32 kB here.
_tables: BoundedCache[SegmentTable] = BoundedCache(32 << 20, lambda table: table.nbytes)
_decoders: BoundedCache[Decoder] = BoundedCache(64, lambda decoder: 1)


class Scratch:
    """Memory that is used again from page to page of one call; never shared by threads."""

    def __init__(self) -> None:
        self._pixels = np.empty(0, np.uint8)
        self._coded = bytearray()

    def pixels(self, nbytes: int) -> np.ndarray:
        """Give room for decoded bytes."""
        if self._pixels.size < nbytes:
            self._pixels = np.empty(nbytes, np.uint8)
        return self._pixels[:nbytes]

    def coded(self, nbytes: int) -> memoryview:
        """Give room for bytes as they lie in the file."""
        if len(self._coded) < nbytes:
            self._coded = bytearray(nbytes)
        return memoryview(self._coded)[:nbytes]


class Page(NamedTuple):
    """One page of an open file."""

    fd: files.OpenFile
    file: SourceFile
    ifd: int
    data: int


class AreaReader:
    """Reads one area of pages that share a layout; made once for a whole call.

    An area is ``(rows, columns, samples)``, where pages without samples have
    one. ``gate`` is held while bytes are read, and never while the caller works.
    Not to be shared by threads.
    """

    def __init__(
        self,
        layout: PageLayout,
        area: Area,
        gate: AbstractContextManager[Any],
        scratch: Scratch | None = None,
    ) -> None:
        self.layout = layout
        self.area = area
        self.gate = gate
        self.scratch = scratch or Scratch()
        self._steps: list[Step] | None = None

    @property
    def reach_nbytes(self) -> int:
        """The most that is read of a page, in bytes, where compression made nothing larger."""
        if self.layout.coding == "raw":
            return sum(len(room) for _, room, _, _ in self._all_steps())
        return self.layout.segment_nbytes * sum(
            len(downs) * len(acrosses) for _, downs, acrosses in self._groups(1)
        )

    def fetch(self, page: Page) -> None:
        """Let a file in a store get what the area needs of a page, in as few requests as it can."""
        if isinstance(page.fd, int):
            return
        if self.layout.coding == "raw":
            steps = self._all_steps()
            page.fd.expect([(page.data + offset, len(room)) for offset, room, _, _ in steps])
        else:
            table = self._table(page)
            picks = [n for group in self._groups(1) for n in self._numbers(*group)]
            offsets, counts = table.offsets[picks].tolist(), table.counts[picks].tolist()
            page.fd.expect([(o, n) for o, n in zip(offsets, counts, strict=True) if n])
        with self.gate:
            page.fd.fetch()

    def pieces(self, page: Page) -> Iterator[tuple[Area, np.ndarray]]:
        """Yield ``(where, values)``, where ``where`` is relative to the area.

        ``values`` has three axes, and is good until the next is asked for.
        """
        if self.layout.coding == "raw":
            return self._raw(page)
        if self.layout.coding == "direct":
            return self._direct(page)
        return self._general(page)

    def read_rows(self, page: Page, out: memoryview) -> None:
        """Fill a buffer with the bytes of a raw page, from the first row of the area on."""
        layout = self.layout
        row_nbytes = layout.columns * layout.interleaved * np.dtype(layout.dtype).itemsize
        self._fill(page, page.data + self.area[0].start * row_nbytes, out)

    def _fill(self, page: Page, offset: int, out: memoryview) -> None:
        with self.gate:
            got = files.read_at(page.fd, offset, out)
        if got != len(out):
            raise Damaged(f"only {got} of {len(out)} bytes at offset {offset} could be read")

    def _raw(self, page: Page) -> Iterator[tuple[Area, np.ndarray]]:
        for offset, buffer, where, values in self._all_steps():
            self._fill(page, page.data + offset, buffer)
            yield where, values

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
        memory = self.scratch.pixels(step * width * pixel)
        if layout.planar:
            bands = [(b - samples.start, slice(0, 1), b) for b in _range(samples)]
        else:
            bands = [(0, samples, 0)]
        for at, chosen, band in bands:
            where_samples = slice(at, at + chosen.stop - chosen.start)
            for row in range(rows.start, rows.stop, step):
                n = min(step, rows.stop - row)
                buffer = memory[: n * width * pixel]
                values = buffer.view(dtype).reshape(n, width, layout.interleaved)
                where_rows = slice(row - rows.start, row - rows.start + n)
                offset = (band * layout.rows + row) * row_nbytes + left * pixel
                where = (where_rows, slice(0, wanted), where_samples)
                yield offset, buffer.data, where, values[:, inside, chosen]

    def _direct(self, page: Page) -> Iterator[tuple[Area, np.ndarray]]:
        layout = self.layout
        high, wide, inter = layout.segment_rows, layout.segment_columns, layout.interleaved
        # Strips of a few rows are decoded side by side into one piece.
        per_group = 1 if layout.tiled else max(1, PIECE_NBYTES // layout.segment_nbytes)
        table = self._table(page)
        row_nbytes = wide * inter * np.dtype(layout.dtype).itemsize
        strip_nbytes = high * row_nbytes
        for band, downs, acrosses in self._groups(per_group):
            first = downs.start * high
            n_rows = high if layout.tiled else min(downs.stop * high, layout.rows) - first
            nbytes = n_rows * row_nbytes
            picks = self._numbers(band, downs, acrosses)
            for at, coded in self._runs(page, table, picks):
                buffer = self.scratch.pixels(nbytes)
                if layout.tiled:
                    self._decode_into(coded, buffer, picks[at])
                    left = (acrosses.start + at) * wide
                else:
                    low = at * strip_nbytes
                    self._decode_into(coded, buffer[low : low + strip_nbytes], picks[at])
                    if at < len(picks) - 1:
                        continue
                    left = 0
                values = self._unpredict(buffer.view(layout.dtype).reshape(n_rows, wide, inter))
                yield self._clip(values, first, left, band)

    def _decode_into(self, coded: memoryview, out: np.ndarray, number: int) -> None:
        if not coded:
            out[:] = 0  # of a sparse page: never written
            return
        codec = _CODECS.get(self.layout.compression)
        if codec is None:
            out[:] = np.frombuffer(coded[: out.size], np.uint8)
            return
        got = len(codec(coded, out=out))
        if got != out.size:
            raise Damaged(f"segment {number} holds {got} bytes of pixels, not {out.size}")

    def _unpredict(self, values: np.ndarray) -> np.ndarray:
        if self.layout.predictor == 1:
            return values
        if not values.dtype.isnative:
            values.byteswap(inplace=True)
            values = values.view(values.dtype.newbyteorder("="))
        imagecodecs.delta_decode(values, axis=-2, out=values)
        return values

    def _general(self, page: Page) -> Iterator[tuple[Area, np.ndarray]]:
        layout = self.layout
        table = self._table(page)
        decode = _decoders.get(layout, lambda: general_decoder(page.fd, page.file, page.ifd))
        extra: dict[str, Any] = {}
        if layout.compression in (6, 7, 34892, 33007):
            extra = {"jpegtables": table.jpeg_tables, "jpegheader": table.jpeg_header}
        dtype = np.dtype(layout.dtype)
        for band, downs, acrosses in self._groups(1):
            picks = self._numbers(band, downs, acrosses)
            for at, coded in self._runs(page, table, picks):
                # Of a sparse page, a segment that was never written has no bytes.
                values, place, shape = decode(bytes(coded) or None, picks[at], **extra)
                if values is None:
                    values = np.zeros((1, *shape[1:]), dtype)
                if values.ndim != 4 or values.shape[0] != 1 or values.dtype != dtype:
                    raise Damaged(
                        f"segment {picks[at]} decodes to {values.dtype} of shape {values.shape}"
                    )
                yield self._clip(values[0], place[2], place[3], band)

    def _table(self, page: Page) -> SegmentTable:
        file = page.file

        def make() -> SegmentTable:
            window = Window(page.fd, file.size)
            header = read_header(window)
            general = self.layout.coding == "general"
            if header is not None:
                ifd = read_ifd(window, header, page.ifd)
                try:
                    if not (general and has_quirks(ifd)):
                        offsets, counts = read_segments(ifd, window, self.layout)
                        return SegmentTable(offsets, counts, ifd.bytes_of(JPEG_TABLES, window))
                except Damaged:
                    if not general:
                        raise
            # tifffile mends the tables of some old writers; it takes ten times as long.
            with open_tiff(page.fd, file, is_ome=False) as tif:
                return general_table(page_at(tif, page.ifd), self.layout, file.size)

        def gated() -> SegmentTable:
            with self.gate:
                return make()

        return _tables.get((*file, page.ifd), gated)

    def _groups(self, per_group: int) -> Iterator[tuple[int, range, range]]:
        """Yield the segments that an area touches: a sample plane, rows and columns of them."""
        rows, columns, samples = self.area
        high, wide = self.layout.segment_rows, self.layout.segment_columns
        down = range(rows.start // high, -(-rows.stop // high))
        across = range(columns.start // wide, -(-columns.stop // wide))
        bands = _range(samples) if self.layout.planar else range(1)
        for band in bands:
            for start in range(down.start, down.stop, per_group):
                yield band, range(start, min(start + per_group, down.stop)), across

    def _numbers(self, band: int, downs: range, acrosses: range) -> list[int]:
        down, across = self.layout.grid
        start = band * down * across
        return [start + i * across + j for i in downs for j in acrosses]

    def _runs(
        self, page: Page, table: SegmentTable, picks: list[int]
    ) -> Iterator[tuple[int, memoryview]]:
        """Yield the coded bytes of segments in turn; those that touch are read at once."""
        offsets = table.offsets[picks].tolist()
        counts = table.counts[picks].tolist()
        at = 0
        while at < len(picks):
            end, stop = at + 1, offsets[at] + counts[at]
            while (
                end < len(picks)
                and 0 <= offsets[end] - stop < _GAP_NBYTES
                and offsets[end] + counts[end] - offsets[at] <= _RUN_NBYTES
            ):
                stop = offsets[end] + counts[end]
                end += 1
            start = offsets[at]
            run = self.scratch.coded(stop - start)
            self._fill(page, start, run)
            for k in range(at, end):
                low = offsets[k] - start
                yield k, run[low : low + counts[k]]
            at = end

    def _clip(
        self, values: np.ndarray, row: int, column: int, band: int
    ) -> tuple[Area, np.ndarray]:
        """Give the part of a decoded segment that lies in the area, and where it goes."""
        rows, columns, samples = self.area
        top, bottom = max(row, rows.start), min(row + self._rows_of(values, row), rows.stop)
        left = max(column, columns.start)
        right = min(column + self.layout.segment_columns, columns.stop)
        if self.layout.planar:
            chosen, where_samples = (
                slice(0, 1),
                slice(band - samples.start, band - samples.start + 1),
            )
        else:
            chosen, where_samples = samples, slice(0, samples.stop - samples.start)
        part = values[top - row : bottom - row, left - column : right - column, chosen]
        want = (bottom - top, right - left, chosen.stop - chosen.start)
        if part.shape != want:
            raise Damaged(f"a segment holds {values.shape} pixels, too few for {want}")
        where = (
            slice(top - rows.start, bottom - rows.start),
            slice(left - columns.start, right - columns.start),
            where_samples,
        )
        return where, part

    def _rows_of(self, values: np.ndarray, row: int) -> int:
        # A group of strips has more rows than a segment, the last strip fewer.
        if self.layout.coding == "general":
            return min(self.layout.segment_rows, self.layout.rows - row)
        return int(values.shape[0])


def _range(span: slice) -> range:
    return range(span.start, span.stop)


def unreadable(page: Page, err: Exception) -> TiffReadError:
    """Give the error that names the file and the page."""
    what = str(err) or type(err).__name__
    return TiffReadError(
        f"cannot read {page.file.path!r} (page whose directory is at byte {page.ifd}): {what}"
    )
