"""A compact reader of TIFF headers and image file directories (IFDs).

tifffile takes 0.2 ms to open a plane file and list its tags, this a tenth of
it, which decides how long a folder of 10,000 planes takes to index.

From a directory to the layout of a page, with its claims checked against the file.

Understood here is what microscopes write by the million: strips and tiles of
byte-sized samples. Whatever is unusual is left to tifffile: ``None`` says so.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scout_dask_io.core.messages import Option
from scout_dask_io.tiff.open_file import OpenFile, read_bytes
from scout_dask_io.tiff.page_layout import CODEC_NAMES, DescribedPage, PageLayout

#: A table of strip offsets larger than this is refused (32 million strips).
_MAX_TABLE_NBYTES = 2**28

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}
_CHARS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


class Damaged(Exception):
    """A file breaks the rules of TIFF; the caller names the file and the page."""


@dataclass(frozen=True, slots=True)
class Header:
    """Byte order (``"<"`` or ``">"``), BigTIFF or classic, offset of the first IFD."""

    order: str
    big: bool
    first: int


class Window:
    """Bytes of a file through a small moving window: one read serves a whole IFD."""

    def __init__(self, fd: OpenFile, size: int, reach: int = 4096) -> None:
        self.fd = fd
        self.size = size
        self._reach = reach
        self._at = 0
        self._data = bytearray()

    def get(self, offset: int, nbytes: int) -> bytearray:
        """Give some bytes of the file."""
        low = offset - self._at
        if low < 0 or low + nbytes > len(self._data):
            if offset + nbytes > self.size:
                raise Damaged(
                    f"it points to {nbytes} bytes at offset {offset}, "
                    f"but the file has {self.size} bytes"
                )
            self._data = read_bytes(self.fd, offset, max(nbytes, self._reach))
            self._at, low = offset, 0
            if nbytes > len(self._data):
                raise Damaged(f"only {len(self._data)} of {nbytes} bytes could be read")
        return self._data[low : low + nbytes]


@dataclass(frozen=True, slots=True)
class Ifd:
    """One directory: per tag its type, count and the place of its value."""

    header: Header
    offset: int
    next: int
    entries: dict[int, tuple[int, int, bytes]]

    def bytes_of(self, code: int, window: Window) -> bytes | None:
        """Give the raw value of a tag, or ``None`` where it is missing."""
        entry = self.entries.get(code)
        if entry is None:
            return None
        kind, count, inline = entry
        nbytes = _SIZES.get(kind, 0) * count
        if nbytes <= len(inline):
            return inline[:nbytes]
        if nbytes > _MAX_TABLE_NBYTES:
            raise Damaged(f"tag {code} claims {nbytes} bytes")
        at = struct.unpack(self.header.order + ("Q" if self.header.big else "I"), inline)[0]
        return bytes(window.get(at, nbytes))

    def ints(self, code: int, window: Window, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Give the whole numbers of a tag."""
        data = self.bytes_of(code, window)
        if data is None:
            return default
        kind, count, _ = self.entries[code]
        char = _CHARS.get(kind)
        if char is None or count < 1:
            raise Damaged(f"tag {code} is of type {kind} and count {count}, not whole numbers")
        return struct.unpack(f"{self.header.order}{count}{char}", data)

    def one(self, code: int, window: Window, default: int) -> int:
        """Give the first whole number of a tag."""
        entry = self.entries.get(code)
        if entry is None:
            return default
        if entry[1] == 1 and entry[0] in (3, 4):  # most tags: 1 µs a tag is 0.2 s a folder
            value = entry[2][: 2 if entry[0] == 3 else 4]
            return int.from_bytes(value, "little" if self.header.order == "<" else "big")
        return self.ints(code, window, (default,))[0]

    def text(self, code: int, window: Window) -> str:
        """Give the text of a tag, empty where it is missing."""
        data = self.bytes_of(code, window)
        return "" if data is None else data.split(b"\0", 1)[0].decode("latin-1")

    def numbers(self, code: int, window: Window) -> np.ndarray:
        """Give the whole numbers of a long tag as an array of int64."""
        entry = self.entries.get(code)
        data = self.bytes_of(code, window)
        if entry is None or data is None:
            return np.zeros(0, np.int64)
        char = _CHARS.get(entry[0])
        if char is None:
            raise Damaged(f"tag {code} is of type {entry[0]}, not whole numbers")
        return np.frombuffer(data, self.header.order + char).astype(np.int64)


def read_header(window: Window, path: str = "") -> Header | None:
    """Read the first bytes of a file; ``None`` for a relative of TIFF that tifffile may know.

    So are the files of Hamamatsu's scanners: their offsets have 64 bits, which the name alone
    says.
    """
    if window.size < 8:
        raise Damaged(
            "it is empty" if window.size == 0 else f"it has {window.size} bytes, too few for a TIFF"
        )
    head = window.get(0, 8)
    order = {b"II": "<", b"MM": ">"}.get(bytes(head[:2]))
    if order is None:
        raise Damaged(f"it does not begin as a TIFF file does, but with {bytes(head[:4])!r}")
    version = struct.unpack(order + "H", head[2:4])[0]
    if version == 42 and not path.lower().endswith(".ndpi"):
        return Header(order, False, struct.unpack(order + "I", head[4:])[0])
    if version == 43 and struct.unpack(order + "HH", head[4:]) == (8, 0):
        return Header(order, True, struct.unpack(order + "Q", window.get(8, 8))[0])
    return None


def read_ifd(window: Window, header: Header, offset: int) -> Ifd:
    """Read the directory at an offset."""
    order = header.order
    if header.big:
        (count,) = struct.unpack(order + "Q", window.get(offset, 8))
        start, layout, width = offset + 8, struct.Struct(order + "HHQ8s"), 20
    else:
        (count,) = struct.unpack(order + "H", window.get(offset, 2))
        start, layout, width = offset + 2, struct.Struct(order + "HHI4s"), 12
    if not 0 < count <= 4096:
        raise Damaged(f"its directory at offset {offset} claims {count} tags")
    data = window.get(start, count * width)
    entries: dict[int, tuple[int, int, bytes]] = {}
    for code, kind, n, inline in layout.iter_unpack(data):
        entries.setdefault(code, (kind, n, inline))
    place = start + count * width
    link = "Q" if header.big else "I"
    try:
        following = struct.unpack(order + link, window.get(place, 8 if header.big else 4))[0]
    except Damaged:
        following = 0
    return Ifd(header, offset, following, entries)


#: Compressions that one imagecodecs call undoes.
DIRECT_CODECS = frozenset({1, 5, 8, 32946, 50000, 34926, 32773})
#: Most that a codec can expand: what claims more is no image but a bomb.
_MAX_RATIO = {1: 1, 5: 4096, 8: 1040, 32946: 1040, 50000: 65536, 34926: 65536, 32773: 128}
_MAX_RATIO |= {6: 4096, 7: 4096, 34892: 4096}
#: Decoders that cannot be bounded by a ratio may not make more than this at once.
_MAX_SEGMENT_NBYTES = 2**32
#: What a codec may add to segments that it cannot make smaller.
_SLACK_NBYTES = 1 << 16
#: Tags that change how pixels are laid out in ways that only tifffile knows.
_QUIRKS = frozenset({32997, 32998, 34412, 65420, 65426, 28672})
_KINDS = {1: "u", 2: "i", 3: "f"}
#: Tag of the value that GDAL has for pixels of no data, as text.
GDAL_NODATA = 42113
#: Tag of what the JPEG segments of a page share.
JPEG_TABLES = 347


def has_quirks(ifd: Ifd) -> bool:
    """Tell whether only tifffile knows how the pixels of a page are laid out."""
    return not _QUIRKS.isdisjoint(ifd.entries)


def describe_ifd(ifd: Ifd, window: Window, allow_sparse: bool = False) -> DescribedPage | None:
    """Give the layout of a page and the place of its pixels.

    ``None`` where tifffile must look at it. The tables of segments are checked:
    as many as the page's shape asks for, none at offset 0 unless ``allow_sparse``,
    all inside the file.

    Raises
    ------
    Damaged
        If the page cannot be what it claims.
    """
    entries = ifd.entries
    if has_quirks(ifd):
        return None
    columns, rows = ifd.one(256, window, 0), ifd.one(257, window, 0)
    if rows < 1 or columns < 1:
        raise Damaged(f"its page has {rows} rows and {columns} columns")
    samples = ifd.one(277, window, 1)
    if samples < 1:
        raise Damaged(f"its pixels have {samples} samples")
    planar = ifd.one(284, window, 1)
    compression = ifd.one(259, window, 1)
    predictor = ifd.one(317, window, 1)
    bits = set(ifd.ints(258, window, (1,))[:samples])
    kinds = set(ifd.ints(339, window, (1,))[:samples])
    bit, kind = bits.pop(), _KINDS.get(kinds.pop())
    if (
        bits
        or kinds
        or kind is None
        or bit not in ((16, 32, 64) if kind == "f" else (8, 16, 32, 64))
        or compression not in DIRECT_CODECS
        or predictor not in (1, 2)
        or planar not in (1, 2)
        or ifd.one(266, window, 1) != 1
        or ifd.one(262, window, 1) == 6
    ):
        return None
    tiled = 322 in entries
    if tiled:
        high, wide = ifd.one(323, window, 0), ifd.one(322, window, 0)
    else:
        strip_rows = ifd.ints(278, window, (rows,))
        high, wide = (min(strip_rows[0], rows) if len(strip_rows) == 1 else rows), columns
    if high < 1 or wide < 1:
        raise Damaged(f"its segments have {high} rows and {wide} columns")
    layout = PageLayout(
        rows=rows,
        columns=columns,
        samples=samples if samples > 1 else 0,
        planar=planar == 2 and samples > 1,
        dtype=f"{ifd.header.order}{kind}{bit // 8}",
        compression=compression,
        predictor=predictor,
        tiled=tiled,
        segment_rows=high,
        segment_columns=wide,
        coding="direct",
    )
    if allow_sparse and _has_holes(ifd, window, layout):
        layout = replace(layout, sparse=True, hole=hole_of(ifd.text(GDAL_NODATA, window), layout))
    try:
        check_claims(layout, window.size)
    except Damaged:
        if 4 * layout.n_segments <= window.size and _has_holes(ifd, window, layout):
            read_segments(ifd, window, layout)  # for its error, which says what to do
        raise
    data = _place_of_pixels(ifd, window, layout)
    if data >= 0:
        layout = _as_raw(layout)
    return DescribedPage(layout, ifd.offset, data)


def _as_raw(layout: PageLayout) -> PageLayout:
    # Strips of raw pages no longer matter: pages that differ in them share a layout.
    return PageLayout(
        rows=layout.rows,
        columns=layout.columns,
        samples=layout.samples,
        planar=layout.planar,
        dtype=layout.dtype,
        compression=1,
        predictor=1,
        tiled=False,
        segment_rows=1,
        segment_columns=layout.columns,
        coding="raw",
    )


def hole_of(nodata: str, layout: PageLayout) -> bytes:
    """Give the pixel that stands for no data, by the text of GDAL's tag; empty for zero.

    A text that is no value of the pixels' type says nothing, as for tifffile.
    """
    dtype = np.dtype(layout.dtype)
    text = nodata.strip().replace(",", ".")
    try:
        value: Any = float(text) if dtype.kind == "f" else int(text)
        pixel = np.array(value).astype(dtype)
    except (ValueError, OverflowError):
        return b""
    if dtype.kind != "f" and int(pixel) != value:
        return b""
    return pixel.tobytes() if np.isnan(pixel) or pixel else b""


def check_claims(layout: PageLayout, size: int) -> None:
    """Refuse a page that a file of this size cannot hold.

    Raises
    ------
    Damaged
        If it claims more pixels than its codec can make of the file's bytes,
        or more segments than the file can list.
    """
    codec = CODEC_NAMES.get(layout.compression, str(layout.compression))
    ratio = _MAX_RATIO.get(layout.compression)
    if ratio is not None and layout.coding == "general":
        ratio *= 8  # bits may be packed
    nbytes = layout.nbytes * layout.depth
    if ratio is not None and nbytes > ratio * size and not layout.sparse:
        raise Damaged(
            f"its page claims {layout.rows} rows of {layout.columns} columns, "
            f"{nbytes} bytes ({codec}), but the file has {size} bytes; "
            "it is truncated or its header is wrong"
        )
    if layout.n_segments > 1 and 4 * layout.n_segments > size:
        raise Damaged(
            f"its page claims {layout.n_segments} segments, but the file has {size} bytes"
        )
    # A segment can be larger than the page, but not by orders: a tile of 256
    # pixels square may hold a thumbnail.
    bounded = ratio is not None and not layout.sparse
    limit = max(2**20, (ratio or 1) * size) if bounded else _MAX_SEGMENT_NBYTES
    if layout.coding != "raw" and layout.segment_nbytes > limit:
        raise Damaged(
            f"its segments claim {layout.segment_nbytes} bytes each ({codec}), "
            f"but the file has {size} bytes"
        )


def read_segments(ifd: Ifd, window: Window, layout: PageLayout) -> tuple[np.ndarray, np.ndarray]:
    """Give offset and byte count of every segment, checked against the file.

    Of a sparse page, segments that were never written have 0 bytes at offset 0.

    Raises
    ------
    Damaged
        If there are fewer than the page needs, one is at offset 0 or empty, or
        one ends outside of the file.
    """
    return check_segments(*_tables(ifd, window, layout), layout, window.size)


def _tables(ifd: Ifd, window: Window, layout: PageLayout) -> tuple[np.ndarray, np.ndarray]:
    """Give offset and byte count of every segment, counts that cannot be right put right."""
    n = layout.n_segments
    offsets = ifd.numbers(324 if layout.tiled and 324 in ifd.entries else 273, window)
    counts = ifd.numbers(325 if layout.tiled and 325 in ifd.entries else 279, window)
    if layout.coding == "general" or layout.compression not in DIRECT_CODECS:
        return offsets, counts
    if len(offsets) < n:
        return offsets, counts  # before anything is made for each segment that is claimed
    if layout.compression == 1 and not len(counts):
        return offsets, _needed(layout)
    if len(offsets) < n or len(counts) < n or bool((offsets[:n] <= 0).any()):
        return offsets, counts
    offsets, counts = offsets[:n], counts[:n]
    if not counts.any():
        # No writer that was cut off leaves offsets and no counts at all.
        room = room_of(offsets, ifd.offset, window.size)
        need = _needed(layout)
        counts = np.minimum(need if layout.compression == 1 else 2 * need + _SLACK_NBYTES, room)
    elif layout.compression == 1 and bool((counts < (need := _needed(layout))).any()):
        # The size of a plain segment follows from the other tags. A count of whole rows may be
        # right, and the height wrong; unless it is one of pixels, which some writers state.
        row = layout.segment_nbytes // layout.segment_rows
        n_pixels = need // np.dtype(layout.dtype).itemsize
        states_rows = (counts % row == 0) & (counts != n_pixels)
        states_rows &= counts != n_pixels // layout.interleaved
        room = room_of(offsets, ifd.offset, window.size)
        wrong = (counts > 0) & (counts < need) & ~states_rows & (need <= room)
        counts = np.where(wrong, need, counts)
    return offsets, counts


def room_of(offsets: np.ndarray, ifd: int, size: int) -> np.ndarray:
    """Give the bytes from the start of each segment to what follows it in the file.

    That is another segment, the page's directory, or the end of the file.
    """
    starts = np.unique(np.append(offsets, (ifd, size)))
    after = np.searchsorted(starts, offsets, "right").clip(max=len(starts) - 1)
    return np.asarray(starts[after] - offsets)


def _needed(layout: PageLayout) -> np.ndarray:
    """Give the decoded size of every segment, in bytes."""
    need = np.full(layout.n_segments, _segment_nbytes(layout, 0), np.int64)
    down = layout.grid[0]
    if not layout.tiled:
        need[down - 1 :: down] = _segment_nbytes(layout, down - 1)
    return need


def check_segments(
    offsets: np.ndarray, counts: np.ndarray, layout: PageLayout, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give offset and byte count of every segment of a page in a file of ``size`` bytes.

    Raises
    ------
    Damaged
        As :func:`read_segments`.
    """
    what, n = "tiles" if layout.tiled else "strips", layout.n_segments
    if len(offsets) < n or len(counts) < n:
        raise Damaged(
            f"its page of {layout.rows} rows needs {n} {what}, "
            f"but it lists {len(offsets)} offsets and {len(counts)} sizes"
        )
    offsets, counts = offsets[:n], counts[:n]
    if layout.sparse:
        hole = (offsets == 0) | (counts == 0)
        offsets, counts = np.where(hole, 0, offsets), np.where(hole, 0, counts)
    unwritten = (offsets < 0) | (counts < 0) if layout.sparse else (offsets <= 0) | (counts <= 0)
    if bool(unwritten.any()):
        bad = int(np.flatnonzero(unwritten)[0])
        raise Damaged(
            f"segment {bad} of its {n} {what} has offset {offsets[bad]} and "
            f"{counts[bad]} bytes: it was never written; "
            + Option("allow_sparse", True)
            + " gives zeros there, or what GDAL's tag for no data says"
        )
    # Compared without adding: offset + count may not fit 64 bits.
    beyond = (counts > size) | (offsets > size - counts)
    if bool(beyond.any()):
        bad = int(np.flatnonzero(beyond)[0])
        raise Damaged(
            f"segment {bad} of its {n} {what} ends at byte {int(offsets[bad]) + int(counts[bad])}, "
            f"but the file has {size} bytes; it is truncated"
        )
    return offsets, counts


def _has_holes(ifd: Ifd, window: Window, layout: PageLayout) -> bool:
    """Tell whether a segment of a page was never written."""
    n = layout.n_segments
    return any(bool((table[:n] == 0).any()) for table in _tables(ifd, window, layout))


def _segment_nbytes(layout: PageLayout, at: int) -> int:
    """Give the decoded size of one segment; the last strip may be shorter."""
    if layout.tiled:
        return layout.segment_nbytes
    row = at % layout.grid[0] * layout.segment_rows
    return (
        layout.segment_nbytes // layout.segment_rows * min(layout.segment_rows, layout.rows - row)
    )


def _place_of_pixels(ifd: Ifd, window: Window, layout: PageLayout) -> int:
    """Give the offset of the pixels where they lie in one run of bytes, else -1."""
    n = layout.n_segments
    plain = layout.compression == 1 and layout.predictor == 1 and not layout.sparse
    if n == 1 and not layout.tiled and plain:
        offset = ifd.one(273, window, 0)
        count = ifd.one(279, window, layout.nbytes)
        if offset > 0 and offset + layout.nbytes <= window.size:
            if count >= layout.nbytes or ifd.text(270, window).startswith("ImageJ="):
                return offset
            count = int(_tables(ifd, window, layout)[1][0])
            if count >= layout.nbytes:
                return offset
            raise Damaged(
                f"its page needs {layout.nbytes} bytes of pixels, its one strip holds {count}"
            )
        if offset > 0:
            raise Damaged(
                f"its pixels end at byte {offset + layout.nbytes}, but the file has "
                f"{window.size} bytes; it is truncated"
            )
    offsets, counts = read_segments(ifd, window, layout)
    if layout.compression != 1:
        return -1
    need = _needed(layout)
    short = (counts < need) & ((counts > 0) | (not layout.sparse))
    if bool(short.any()):
        bad = int(np.flatnonzero(short)[0])
        raise Damaged(f"segment {bad} needs {need[bad]} bytes of pixels, it holds {counts[bad]}")
    if layout.tiled or not plain:
        return -1
    joined = bool((offsets[:-1] + need[:-1] == offsets[1:]).all())
    return int(offsets[0]) if joined else -1
