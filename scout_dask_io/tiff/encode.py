"""Rows of an array as the bytes that are stored in a TIFF file. No files.

A *band* is some rows of one page at one level, across its whole width: the rows
of a strip, or of a row of tiles.

The bytes of TIFF headers and image file directories, classic and BigTIFF. No files.

Rows of pages, as they come, regrouped into the bands that a TIFF file stores. No files.

Rows come in the heights in which the array's chunks have them; strips and rows
of tiles have heights of their own. What is left over waits for the next rows of
its page, and each whole row of tiles gives half as many rows of the next level.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, cast

import imagecodecs
import numpy as np

from scout_dask_io.core.downsample import downsample, method_for
from scout_dask_io.tiff.write_layout import TiffLayout

Encoded: TypeAlias = bytes | bytearray | memoryview


class Band(NamedTuple):
    """Rows of a page as they are stored: one strip, or the tiles of a row from left to right."""

    page: int
    row: int
    segments: list[Encoded]
    level: int = 0


def encode_strip(layout: TiffLayout, rows: np.ndarray) -> Encoded:
    """Give the stored bytes of some rows of a page.

    ``rows`` has the shape ``(rows, width)``, with a third axis for colour, and
    the layout's dtype in any byte order. Uncompressed rows that need no change
    are not copied. Safe in threads; compression leaves the GIL.
    """
    if layout.dtype.kind == "b":
        stored = np.packbits(rows, axis=1)
    else:
        stored = np.ascontiguousarray(rows, layout.dtype.newbyteorder("<"))
    if not layout.compress:
        return stored.reshape(-1).view(np.uint8).data
    if layout.predictor:
        stored = imagecodecs.delta_encode(stored, axis=1)
    # Any buffer will do, whatever the library's hints say.
    encoded: Encoded = imagecodecs.deflate_encode(cast(Any, stored), level=layout.compress)
    return encoded


def encode_band(layout: TiffLayout, rows: np.ndarray) -> list[Encoded]:
    """Give the stored bytes of a band's strip or tiles; as :func:`encode_strip` in all else.

    Tiles at the lower and the right edge are filled up with zeros.
    """
    side = layout.tile
    if not side:
        return [encode_strip(layout, rows)]
    tiles = []
    for left in range(0, rows.shape[1], side):
        tile = rows[:, left : left + side]
        if tile.shape[:2] != (side, side):
            padding = [(0, side - n) for n in tile.shape[:2]] + [(0, 0)] * (tile.ndim - 2)
            tile = np.pad(tile, padding)
        tiles.append(encode_strip(layout, tile))
    return tiles


# A BigTIFF header; a classic one is 8 bytes and leaves the rest unused, so that
# pixels begin at an offset that suits every dtype.
HEADER_NBYTES = 16

# Number in the file, and struct character, of the field types that are written here.
_FIELDS = {"BYTE": (1, "B"), "SHORT": (3, "H"), "LONG": (4, "I"), "RATIONAL": (5, "I")}


@dataclass(frozen=True, slots=True)
class Tag:
    """One field of a directory: ``code`` as the TIFF 6.0 specification numbers it.

    ``kind`` is ``"ASCII"``, ``"BYTE"``, ``"SHORT"``, ``"LONG"``, ``"RATIONAL"`` (pairs) or
    ``"OFFSET"``, which is 4 bytes in a classic file and 8 in a BigTIFF.
    """

    code: int
    kind: str
    values: bytes | Sequence[int]

    def encode(self, big: bool) -> tuple[int, int, bytes]:
        """Give the field type, the number of values and the values' bytes."""
        if self.kind == "ASCII":
            text = bytes(self.values) + b"\0"
            return 2, len(text), text
        offset = (16, "Q") if big else (4, "I")
        number, char = offset if self.kind == "OFFSET" else _FIELDS[self.kind]
        data = struct.pack(f"<{len(self.values)}{char}", *self.values)
        return number, len(self.values) // (2 if self.kind == "RATIONAL" else 1), data


def encode_header(first_directory: int, big: bool) -> bytes:
    """Give the little-endian file header that points to the first directory."""
    if big:
        return struct.pack("<2sHHHQ", b"II", 43, 8, 0, first_directory)
    return struct.pack("<2sHI8x", b"II", 42, first_directory)


def encode_directory(tags: Sequence[Tag], at: int, big: bool, *, last: bool) -> bytes:
    """Give a directory that will stand at file offset ``at``, its long values behind it.

    The next directory is expected right behind these bytes, unless this is the
    last. The length is a multiple of 8, so a directory that starts at an even
    offset is followed by one that does.

    Raises
    ------
    struct.error
        If an offset does not fit in a classic file.
    """
    count_format, entry_format, next_format, inline_nbytes = (
        ("<Q", "<HHQ", "<Q", 8) if big else ("<H", "<HHI", "<I", 4)
    )
    encoded = [(tag.code, *tag.encode(big)) for tag in sorted(tags, key=lambda t: t.code)]
    entry_nbytes = struct.calcsize(entry_format) + inline_nbytes
    fixed = struct.calcsize(count_format) + entry_nbytes * len(encoded) + inline_nbytes
    head = [struct.pack(count_format, len(encoded))]
    tail: list[bytes] = []
    end = fixed + fixed % 2
    for code, number, count, data in encoded:
        head.append(struct.pack(entry_format, code, number, count))
        if len(data) <= inline_nbytes:
            head.append(data.ljust(inline_nbytes, b"\0"))
        else:
            head.append(struct.pack(next_format, at + end))
            tail.append(data + b"\0" * (len(data) % 2))
            end += len(tail[-1])
    padding = -end % 8
    head.append(struct.pack(next_format, 0 if last else at + end + padding))
    return b"".join([*head, b"\0" * (fixed % 2), *tail, b"\0" * padding])


#: Page number, first row in the page, rows not yet encoded.
Rows: TypeAlias = tuple[int, int, np.ndarray]


class Values(NamedTuple):
    """The pixels of one band: rows of a page at one level, across its whole width."""

    page: int
    level: int
    row: int
    pixels: np.ndarray


def iter_bands(layout: TiffLayout, rows: Iterable[Rows]) -> Iterator[Values]:
    """Yield the bands of all pages and levels, each as soon as its rows are in.

    The rows of a page must come from the top down; pages in any order. Bands
    that lie in one of the given arrays are views of it; rows that wait are
    copied, so that nothing keeps what they came from.
    """
    if layout.is_run:
        for page, row, pixels in rows:
            for at in range(0, len(pixels), layout.rows_per_write):
                yield Values(page, 0, row + at, pixels[at : at + layout.rows_per_write])
        return
    held: dict[tuple[int, int], _Held] = {}
    for page, _, pixels in rows:
        yield from _feed(layout, held, page, 0, pixels)


class _Held:
    """Rows of a page at one level that do not yet make a band, and where they begin."""

    def __init__(self) -> None:
        self.row = 0
        self.n = 0
        self.rows: np.ndarray | None = None

    def add(self, pixels: np.ndarray, step: int, height: int) -> Iterator[tuple[int, np.ndarray]]:
        """Take rows in, and yield the bands that they complete."""
        at = 0
        while at < len(pixels):
            extent = min(step, height - self.row)
            taken = min(extent - self.n, len(pixels) - at)
            part = pixels[at : at + taken]
            at += taken
            if taken == extent:
                yield self.row, part
            else:
                if self.rows is None:
                    self.rows = np.empty((extent, *pixels.shape[1:]), pixels.dtype)
                self.rows[self.n : self.n + taken] = part
                self.n += taken
                if self.n < extent:
                    return
                whole, self.rows, self.n = self.rows, None, 0
                yield self.row, whole
            self.row += extent


def _feed(
    layout: TiffLayout,
    held: dict[tuple[int, int], _Held],
    page: int,
    level: int,
    pixels: np.ndarray,
) -> Iterator[Values]:
    here = held.setdefault((page, level), _Held())
    height = layout.levels[level][0]
    for row, band in here.add(pixels, layout.rows_per_write, height):
        yield Values(page, level, row, band)
        if level + 1 < layout.n_levels:
            # A row of tiles is even, so that all but the last row have a partner.
            yield from _feed(layout, held, page, level + 1, _halved(band, layout.labels))
    if here.row == height:
        del held[page, level]


def _halved(pixels: np.ndarray, is_labels: bool) -> np.ndarray:
    """Give rows at half the height and width.

    Integers above 16 bits mostly are labels too, of which a mean would be another one.
    """
    dtype = pixels.dtype
    method = method_for(dtype, is_labels or (dtype.kind in "iu" and dtype.itemsize > 2))
    return downsample(pixels, (2, 2) + (1,) * (pixels.ndim - 2), method)


def waiting_nbytes(layout: TiffLayout, n_pages: int, *, aligned: bool) -> int:
    """Give what :func:`iter_bands` may hold while so many pages are under way, in bytes.

    ``aligned`` says that rows come in whole bands, so that none of the first
    level wait.
    """
    if layout.is_run:
        return 0
    first = 1 if aligned else 0
    widths = [w for _, w in layout.levels[first:]]
    itemsize = layout.dtype.itemsize * layout.samples
    return n_pages * layout.rows_per_write * sum(widths) * itemsize
