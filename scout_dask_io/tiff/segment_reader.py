"""Strips and tiles: each that an area needs is read and decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, TypeAlias

import imagecodecs
import numpy as np

from scout_dask_io.core.fork import in_forked_child
from scout_dask_io.tiff._tifffile import page_at
from scout_dask_io.tiff.ifd import (
    JPEG_TABLES,
    Damaged,
    Window,
    has_quirks,
    read_header,
    read_ifd,
    read_segments,
    room_of,
)
from scout_dask_io.tiff.open_file import BoundedCache, SegmentTable
from scout_dask_io.tiff.page_reader import PIECE_NBYTES, Area, AreaReader, Page, depth_of, span
from scout_dask_io.tiff.series import general_decoder, general_table, open_tiff

Decoder: TypeAlias = Callable[..., Any]
#: A sample plane, and rows and columns of segments in it.
Group: TypeAlias = tuple[int, range, range]

#: Compressed segments that touch are read at once, up to this many bytes.
_RUN_NBYTES = 4 << 20
#: Writers align segments to words: so small a gap is read with its neighbours.
_GAP_NBYTES = 16

_CODECS: dict[int, Decoder] = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    32773: imagecodecs.packbits_decode,
    34926: imagecodecs.zstd_decode,
    50000: imagecodecs.zstd_decode,
}

#: Codecs whose data say where they end, and that they are whole.
_SELF_ENDING = frozenset({8, 32946, 34926, 50000})

# Plain data only, no handle. A plane of 2,048 one-row strips holds 32 kB here.
_tables: BoundedCache[SegmentTable] = BoundedCache(32 << 20, lambda table: table.nbytes)
_decoders: BoundedCache[Decoder] = BoundedCache(64, lambda decoder: 1)
in_forked_child(_tables.begin_anew)
in_forked_child(_decoders.begin_anew)


def _most(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).max)


class SegmentReader(AreaReader):
    """Reads pages of strips or tiles: one codec call a segment, or tifffile where only it can."""

    @property
    def reach_nbytes(self) -> int:
        """The decoded size of the segments that the area touches, in bytes."""
        return self.layout.segment_nbytes * sum(
            len(downs) * len(acrosses) for _, downs, acrosses in self._groups(1)
        )

    def _ranges(self, page: Page) -> list[tuple[int, int]]:
        table = self._table(page)
        picks = [n for group in self._groups(1) for n in self._numbers(*group, page.data)]
        offsets, counts = table.offsets[picks].tolist(), table.counts[picks].tolist()
        return [(o, n) for o, n in zip(offsets, counts, strict=True) if n]

    @cached_property
    def depth(self) -> int:
        """How many pages go in a stack, 1 where an area of a page is not a few strips."""
        group = self._only_strips
        return 1 if group is None else depth_of(self._strips_nbytes(group))

    def read(self, page: Page, at: int) -> None:
        """Decode the strips of a page into its place in a stack."""
        group, strips = self._stack
        self._strips(page, group, strips[at])

    def stack(self, n: int) -> np.ndarray:
        """Give what was decoded, but for rows, columns and samples that are not wanted."""
        group, strips = self._stack
        layout, (rows, columns, samples) = self.layout, self.area
        dtype = np.dtype(layout.dtype)
        if layout.predictor != 1:
            dtype = dtype.newbyteorder("=")
        shape = (n, -1, layout.segment_columns, layout.interleaved)
        values = strips[:n].reshape(-1).view(dtype).reshape(shape)
        first = group[1].start * layout.segment_rows
        return values[:, rows.start - first : rows.stop - first, columns, samples]

    @cached_property
    def _only_strips(self) -> Group | None:
        """The strips that the area touches, where they are one piece's worth."""
        layout = self.layout
        if layout.coding != "direct" or layout.tiled or layout.planar:
            return None
        groups = list(self._groups(self._per_group()))
        return groups[0] if len(groups) == 1 else None

    @cached_property
    def _stack(self) -> tuple[Group, np.ndarray]:
        """The strips of each page, and a row of memory for those of each."""
        group: Any = self._only_strips
        memory = self.scratch.pixels(self.depth * self._strips_nbytes(group))
        return group, memory.reshape(self.depth, -1)

    def pieces(self, page: Page) -> Iterator[tuple[Area, np.ndarray]]:
        """Yield what the area has of each segment, or of a few strips at once."""
        return self._direct(page) if self.layout.coding == "direct" else self._general(page)

    def _direct(self, page: Page) -> Iterator[tuple[Area, np.ndarray]]:
        layout = self.layout
        high, wide, inter = layout.segment_rows, layout.segment_columns, layout.interleaved
        for group in self._groups(self._per_group()):
            band, downs, acrosses = group
            first = downs.start * high
            if not layout.tiled:
                values = self._strips(page, group, self.scratch.pixels(self._strips_nbytes(group)))
                yield self._clip(values, first, 0, band)
                continue
            picks = self._numbers(*group)
            for at, coded in self._runs(page, self._table(page), picks):
                buffer = self.scratch.pixels(layout.segment_nbytes)
                self._decode_into(page, coded, buffer, picks[at])
                values = self._unpredict(buffer.view(layout.dtype).reshape(high, wide, inter))
                if not coded and layout.hole:
                    values[:] = self._hole
                yield self._clip(values, first, (acrosses.start + at) * wide, band)

    @cached_property
    def _hole(self) -> Any:
        """What a pixel is where a segment was never written."""
        dtype = np.dtype(self.layout.dtype)
        return np.frombuffer(self.layout.hole or bytes(dtype.itemsize), dtype)[0]

    def _per_group(self) -> int:
        """Give how many rows of segments are decoded side by side into one piece: of tiles, one."""
        layout = self.layout
        return 1 if layout.tiled else max(1, PIECE_NBYTES // layout.segment_nbytes)

    def _strips_nbytes(self, group: Group) -> int:
        layout, downs = self.layout, group[1]
        high = layout.segment_rows
        n_rows = min(downs.stop * high, layout.rows) - downs.start * high
        return n_rows * self._row_nbytes()

    def _row_nbytes(self) -> int:
        layout = self.layout
        return layout.segment_columns * layout.interleaved * np.dtype(layout.dtype).itemsize

    def _strips(self, page: Page, group: Group, out: np.ndarray) -> np.ndarray:
        """Decode some strips one below the other, and give their rows."""
        layout = self.layout
        nbytes = layout.segment_rows * self._row_nbytes()
        picks = self._numbers(*group)
        for at, coded in self._runs(page, self._table(page), picks):
            self._decode_into(page, coded, out[at * nbytes : (at + 1) * nbytes], picks[at])
        shape = (-1, layout.segment_columns, layout.interleaved)
        values = self._unpredict(out.view(layout.dtype).reshape(shape))
        if layout.hole:
            for at in np.flatnonzero(self._table(page).counts[picks] == 0).tolist():
                values[at * layout.segment_rows : (at + 1) * layout.segment_rows] = self._hole
        return values

    def _decode_into(self, page: Page, coded: memoryview, out: np.ndarray, number: int) -> None:
        if not coded:
            out[:] = 0  # of a sparse page: never written
            return
        codec = _CODECS.get(self.layout.compression)
        if codec is None:
            out[:] = np.frombuffer(coded[: out.size], np.uint8)
            return
        try:
            got = len(codec(coded, out=out))
        except Exception:
            if not self._decode_longer(page, len(coded), out, number):
                raise
            return
        if got != out.size:
            raise Damaged(f"segment {number} holds {got} bytes of pixels, not {out.size}")

    def _decode_longer(self, page: Page, count: int, out: np.ndarray, number: int) -> bool:
        """Decode a segment that goes on beyond a byte count that is too small; tell whether it did.

        Of codecs alone that end by themselves, so that what follows is not taken for pixels.
        """
        if self.layout.compression not in _SELF_ENDING:
            return False
        offsets = self._table(page).offsets
        room = int(room_of(offsets, page.ifd, page.file.size)[number])
        room = min(room, count + 2 * out.size + _GAP_NBYTES)
        if room <= count:
            return False
        longer = memoryview(bytearray(room))
        self._fill(page, int(offsets[number]), longer)
        try:
            return len(_CODECS[self.layout.compression](longer, out=out)) == out.size
        except Exception:
            return False

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
            picks = self._numbers(band, downs, acrosses, page.data)
            for at, coded in self._runs(page, table, picks):
                # Of a sparse page, a segment that was never written has no bytes.
                values, place, shape = decode(bytes(coded) or None, picks[at], **extra)
                if values is None:
                    values = np.full(shape, self._hole)
                if values.dtype == np.uint8 and dtype == np.bool_:
                    values = values != 0  # a byte a bit, as decoders of fax give them
                if values.dtype.kind == dtype.kind == "u" and values.max(initial=0) <= _most(dtype):
                    values = values.astype(dtype, copy=False)  # few bits in wider numbers
                plane = -1 - page.data - place[1]
                if values.ndim != 4 or len(values) <= plane or values.dtype != dtype:
                    raise Damaged(
                        f"segment {picks[at]} decodes to {values.dtype} of shape {values.shape}"
                    )
                yield self._clip(values[plane], place[2], place[3], band)

    def _table(self, page: Page) -> SegmentTable:
        file = page.file

        def make() -> SegmentTable:
            window = Window(page.fd, file.size)
            header = read_header(window, file.path)
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

    def _groups(self, per_group: int) -> Iterator[Group]:
        """Yield the segments that an area touches: a sample plane, rows and columns of them."""
        rows, columns, samples = self.area
        high, wide = self.layout.segment_rows, self.layout.segment_columns
        down = range(rows.start // high, -(-rows.stop // high))
        across = range(columns.start // wide, -(-columns.stop // wide))
        bands = span(samples) if self.layout.planar else range(1)
        for band in bands:
            for start in range(down.start, down.stop, per_group):
                yield band, range(start, min(start + per_group, down.stop)), across

    def _numbers(self, band: int, downs: range, acrosses: range, data: int = -1) -> list[int]:
        """Give the numbers of segments; ``data`` of a page is which of a volume's planes it is."""
        layout = self.layout
        down, across = layout.grid
        start = (band * layout.deep + (-1 - data) // layout.segment_depth) * down * across
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
