"""Planes become a TIFF file: its layout, its strips, and a draft that is published whole.

Strips may be written in any order and the directories come last, so pixels can
be written in the order in which they are computed, however the blocks cut the
planes.
"""

from __future__ import annotations

import json
import math
import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import imagecodecs
import numpy as np
import tifffile

from scout_dask_io.errors import ArgumentError, WriteError
from scout_dask_io.grid import Shape
from scout_dask_io.tiff.encode_ifd import HEADER_NBYTES, Tag, encode_directory, encode_header

#: Page number, first row in the page, encoded bytes.
Strip: TypeAlias = tuple[int, int, bytes | memoryview]

__all__ = ["Strip", "TiffDraft", "TiffLayout", "encode_strip", "plan_layout"]

# A region read decodes whole strips; 256 KiB are 64 rows of 2048 uint16, the
# height of a default chunk, and enough for Deflate to do its best.
STRIP_NBYTES = 2**18
# Deflate wants some context: below this, strips may cut across the caller's steps.
LEAST_STRIP_NBYTES = 2**15
# Offsets in a classic file have 32 bits; the margin is tifffile's, for the directories.
CLASSIC_NBYTES = 2**32 - 2**25

_KINDS = {"b": "bool", "u": "unsigned int", "i": "int", "f": "float"}
_SAMPLE_FORMAT = {"b": 1, "u": 1, "i": 2, "f": 3}
_DEFLATE = 8


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """How an array lies in one TIFF file.

    Attributes
    ----------
    shape : tuple of int
        Of the whole array; the file carries it, so it reads back unchanged.
    dtype : numpy.dtype
        Of the elements. Pixels are stored little-endian; bools as single bits.
    compress : int
        0 for plain pixels, all pages in one run; 1 to 9 for Deflate.
    samples : int
        3 or 4 where the last axis is colour, else 1.
    rows_per_strip : int
        Height of a strip; the whole page where nothing is compressed.
    big : bool
        BigTIFF rather than classic TIFF.
    """

    shape: Shape
    dtype: np.dtype[Any]
    compress: int
    samples: int
    rows_per_strip: int
    big: bool

    @property
    def n_page_axes(self) -> int:
        """Trailing axes of the array that one page holds: 2, or 3 with colour."""
        return 2 if self.samples == 1 else 3

    @property
    def lead(self) -> Shape:
        """Axes that count the pages, in C order."""
        return self.shape[: -self.n_page_axes]

    @property
    def n_pages(self) -> int:
        """Number of pages; 1 for a single plane."""
        return math.prod(self.lead)

    @property
    def height(self) -> int:
        """Rows of a page."""
        return self.shape[-self.n_page_axes]

    @property
    def width(self) -> int:
        """Columns of a page."""
        return self.shape[1 - self.n_page_axes]

    @property
    def row_nbytes(self) -> int:
        """Stored size of a row before compression."""
        return _row_nbytes(self.width * self.samples, self.dtype)

    @property
    def n_strips(self) -> int:
        """Strips of a page."""
        return -(-self.height // self.rows_per_strip)

    @property
    def row_step(self) -> int:
        """Rows between places where a page may be cut for writing."""
        return self.rows_per_strip if self.compress else 1

    @property
    def rows_per_write(self) -> int:
        """Rows that :func:`encode_strip` is best given at a time."""
        return self.rows_per_strip if self.compress else max(1, 2**22 // self.row_nbytes)

    @property
    def predictor(self) -> bool:
        """Whether pixels are stored as differences from their left neighbours.

        On for 8 and 16 bit integers: 2 to 12 % smaller on light-sheet planes,
        8 % larger on masks, at the same speed. Label images are mostly wider
        and shrink about 100-fold either way, floats would only grow.
        """
        return self.compress > 0 and self.dtype.kind in "iu" and self.dtype.itemsize <= 2

    @property
    def description(self) -> bytes:
        """The array's shape in the form that tifffile writes and reads."""
        return json.dumps({"shape": list(self.shape)}).encode("ascii")


def _row_nbytes(n_values: int, dtype: np.dtype[Any]) -> int:
    return -(-n_values // 8) if dtype.kind == "b" else n_values * dtype.itemsize


def plan_layout(
    shape: Shape, dtype: Any, compress: int = 1, *, step: int | None = None
) -> TiffLayout:
    """Choose how an array lies in a TIFF file. No I/O.

    A ``uint8`` or ``uint16`` array of three or more axes whose last has 3 or 4
    elements is colour: one RGB or RGBA page for each ``(y, x)``. Anything else
    is one grey page for each ``(y, x)``. The shape reads back the same either
    way; the choice is about what an image viewer shows.

    Parameters
    ----------
    shape : tuple of int
        Array extent per axis, in elements; at least two axes.
    dtype
        Bool, integer of 8 to 64 bits, or float of 16, 32 or 64 bits.
    compress : int
        0 is uncompressed, 1 (fast) to 9 (small) Deflate.
    step : int, optional
        Rows in which the pixels will come. Strips are chosen to end where
        steps do, if that makes strips of a reasonable size.

    Raises
    ------
    ArgumentError
        If a TIFF cannot hold such an array, or ``compress`` is no level.
    """
    found = np.dtype(dtype).newbyteorder("=")
    if found.kind not in _KINDS or found.itemsize > 8:
        raise ArgumentError(
            f"a TIFF cannot hold {np.dtype(dtype)}: give bool, integers of 8 to 64 bits, or "
            "floats of 16, 32 or 64 bits (save the real and the imaginary part of complex data "
            "apart)"
        )
    if len(shape) < 2 or 0 in shape:
        raise ArgumentError(
            f"a TIFF holds planes, and an array of shape {shape} has none: give at least two "
            "axes, none of them empty"
        )
    is_level = isinstance(compress, (int, np.integer)) and not isinstance(compress, bool)
    if not is_level or not 0 <= compress <= 9:
        raise ArgumentError(
            f"compress must be a whole number from 0 (none) to 9 (smallest), got {compress!r}"
        )
    colour = len(shape) >= 3 and shape[-1] in (3, 4) and found in (np.uint8, np.uint16)
    samples = shape[-1] if colour else 1
    *lead, height, width = shape[:-1] if colour else shape
    row = _row_nbytes(width * samples, found)
    rows = _choose_rows(height, row, step or height) if compress else height
    n_strips = -(-height // rows)
    directories = math.prod(lead) * (512 + 16 * n_strips)
    return TiffLayout(
        shape=tuple(shape),
        dtype=found,
        compress=int(compress),
        samples=samples,
        rows_per_strip=rows,
        big=math.prod(lead) * height * row + directories > CLASSIC_NBYTES,
    )


def _choose_rows(height: int, row_nbytes: int, step: int) -> int:
    """Give the height of a strip of about ``STRIP_NBYTES`` that goes well with ``step``."""
    most = max(1, STRIP_NBYTES // row_nbytes)
    if step >= height:
        return min(most, height)
    if step <= most:
        return min(most // step * step, height)
    divisor = next(d for d in range(most, 0, -1) if step % d == 0)
    return divisor if divisor == most or divisor * row_nbytes >= LEAST_STRIP_NBYTES else most


def encode_strip(layout: TiffLayout, rows: np.ndarray) -> bytes | memoryview:
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
    encoded: bytes = imagecodecs.deflate_encode(stored, level=layout.compress)
    return encoded


class TiffDraft:
    """A TIFF file in the making, beside the place where it will stand.

    Strips go in by :meth:`write`, in any order, each once; :meth:`publish` adds
    the directories and moves the file to ``target`` in one step. Until then
    ``target`` is untouched; the draft has a hidden name that readers skip. As a
    context manager the draft is removed on the way out, unless published.

    The file is open only while it is written to. Not safe in threads.

    Parameters
    ----------
    target : Path
        Where the file will stand; what stands there is replaced.
    layout : TiffLayout
        Of the file.

    Raises
    ------
    WriteError
        If the file cannot be created, here or in any method.
    """

    def __init__(self, target: Path, layout: TiffLayout) -> None:
        self.target = target
        self.layout = layout
        self.partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.partial")
        table = (layout.n_pages, layout.n_strips)
        self._offsets = np.zeros(table, np.uint64)
        self._counts = np.zeros(table, np.uint64)
        self._rows_written = np.zeros(layout.n_pages, np.int64)
        self._end = HEADER_NBYTES
        with self._naming_errors(), open(self.partial, "xb"):
            pass

    def write(self, strips: Iterable[Strip]) -> None:
        """Add encoded strips, or in an uncompressed file any rows of any page.

        Errors that the iterable raises pass through as they are.
        """
        layout = self.layout
        page_nbytes = layout.height * layout.row_nbytes
        with self._naming_errors():
            handle = open(self.partial, "r+b", buffering=0)  # noqa: SIM115
        try:
            for page, row, data in strips:
                if layout.compress:
                    at = self._end
                    strip = row // layout.rows_per_strip
                    n_rows = min(layout.rows_per_strip, layout.height - row)
                    self._offsets[page, strip] = at
                    self._counts[page, strip] = len(data)
                else:
                    at = HEADER_NBYTES + page * page_nbytes + row * layout.row_nbytes
                    n_rows = len(data) // layout.row_nbytes
                with self._naming_errors():
                    handle.seek(at)
                    _write_all(handle, data)
                self._rows_written[page] += n_rows
                self._end = max(self._end, at + len(data))
        finally:
            handle.close()

    def publish(self) -> None:
        """Finish the file, check it, and put it in its place in one step.

        Raises
        ------
        WriteError
            If the directories cannot be written, or the file does not read
            back with the pages that were meant.
        """
        missing = np.flatnonzero(self._rows_written != self.layout.height)
        if missing.size:
            raise RuntimeError(
                f"{self.target}: {missing.size} of {self.layout.n_pages} pages are not whole, "
                f"the first is page {missing[0]}"
            )
        with self._naming_errors():
            self._write_directories()
            self._check()
            with suppress(FileNotFoundError):
                os.chmod(self.partial, stat.S_IMODE(os.stat(self.target).st_mode))
            os.replace(self.partial, self.target)

    def discard(self) -> None:
        """Remove the draft, if it is still there."""
        with suppress(FileNotFoundError):
            os.unlink(self.partial)

    def __enter__(self) -> TiffDraft:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()

    def _write_directories(self) -> None:
        layout = self.layout
        if not layout.compress:
            page_nbytes = layout.height * layout.row_nbytes
            pages = np.arange(layout.n_pages, dtype=np.uint64)
            self._offsets[:, 0] = HEADER_NBYTES + pages * np.uint64(page_nbytes)
            self._counts[:, 0] = page_nbytes
        common = _common_tags(layout)
        first = at = self._end + self._end % 2
        with open(self.partial, "r+b") as handle:
            handle.seek(at)
            for page in range(layout.n_pages):
                tags = [
                    *common,
                    Tag(273, "OFFSET", self._offsets[page].tolist()),
                    Tag(279, "OFFSET", self._counts[page].tolist()),
                ]
                if page == 0:
                    tags.append(Tag(270, "ASCII", layout.description))
                last = page == layout.n_pages - 1
                at += handle.write(encode_directory(tags, at, layout.big, last=last))
            handle.seek(0)
            # Last of all: a file that breaks off before is no TIFF at all.
            handle.write(encode_header(first, layout.big))

    def _check(self) -> None:
        with tifffile.TiffFile(self.partial) as file:
            found = (len(file.pages), file.series[0].shape, file.series[0].dtype.newbyteorder("="))
        meant = (self.layout.n_pages, self.layout.shape, self.layout.dtype)
        if found != meant:
            raise WriteError(
                f"{self.target} was not written: the finished file has (pages, shape, dtype) "
                f"{found} where {meant} was meant"
            )

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        try:
            yield
        except WriteError:
            raise
        except OSError as err:
            error = WriteError(
                f"{self.target} was not written, and what stood there is as it was: "
                f"{err.strerror or err}"
            )
            error.errno = err.errno
            raise error from err


def _write_all(handle: Any, data: bytes | memoryview) -> None:
    """Write to an unbuffered file until all is written, or raise."""
    view = memoryview(data)
    while view:
        view = view[handle.write(view) :]


def _common_tags(layout: TiffLayout) -> list[Tag]:
    """Give the fields that all pages share."""
    bits = 1 if layout.dtype.kind == "b" else 8 * layout.dtype.itemsize
    tags = [
        Tag(256, "LONG", [layout.width]),
        Tag(257, "LONG", [layout.height]),
        Tag(258, "SHORT", [bits] * layout.samples),
        Tag(259, "SHORT", [_DEFLATE if layout.compress else 1]),
        Tag(262, "SHORT", [1 if layout.samples == 1 else 2]),
        Tag(277, "SHORT", [layout.samples]),
        Tag(278, "LONG", [layout.rows_per_strip]),
        # Resolution is required by the standard; 1 to 1 without a unit says nothing.
        Tag(282, "RATIONAL", [1, 1]),
        Tag(283, "RATIONAL", [1, 1]),
        Tag(284, "SHORT", [1]),
        Tag(296, "SHORT", [1]),
        Tag(305, "ASCII", b"scout-dask-io"),
        Tag(339, "SHORT", [_SAMPLE_FORMAT[layout.dtype.kind]] * layout.samples),
    ]
    if layout.predictor:
        tags.append(Tag(317, "SHORT", [2]))
    if layout.samples == 4:
        # Alpha that colours are not multiplied by.
        tags.append(Tag(338, "SHORT", [2]))
    return tags
