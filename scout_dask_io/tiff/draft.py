"""A TIFF file that is written beside its place and appears there whole.

Strips may be written in any order and the directories come last, so pixels can
be written in the order in which they are computed, however blocks cut planes.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import tifffile

from scout_dask_io.errors import WriteError
from scout_dask_io.tiff.encode import Encoded, TiffLayout
from scout_dask_io.tiff.encode_ifd import HEADER_NBYTES, Tag, encode_directory, encode_header

#: Page number, first row in the page, stored bytes.
Strip: TypeAlias = tuple[int, int, Encoded]

__all__ = ["Strip", "TiffDraft"]

# Codes of the TIFF specification, by numpy's kind of dtype where that decides.
_SAMPLE_FORMAT = {"b": 1, "u": 1, "i": 2, "f": 3}
_DEFLATE = 8


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

    @property
    def is_whole(self) -> bool:
        """Whether all rows of all pages are written."""
        return bool((self._rows_written == self.layout.height).all())

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
        """Remove the draft, if it is still there and can be removed."""
        # What went wrong before, or that all went well, must not be hidden by this.
        with suppress(OSError):
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
        layout = self.layout
        with tifffile.TiffFile(self.partial) as file:
            first = file.pages[0]
            dtype = first.dtype and first.dtype.newbyteorder("=")
            found = (len(file.pages), first.shape, dtype)
        meant = (layout.n_pages, layout.shape[len(layout.lead) :], layout.dtype)
        if found != meant:
            raise WriteError(
                f"{self.target} was not written: the finished file has pages, shape of a page and "
                f"dtype {found} where {meant} was meant"
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


def _write_all(handle: Any, data: Encoded) -> None:
    """Write to an unbuffered file until all is written, or raise."""
    view = memoryview(data)
    while view:
        view = view[handle.write(view) :]


def _common_tags(layout: TiffLayout) -> list[Tag]:
    """Give the fields that all pages share."""
    # Resolution is required by the standard; 1 to 1 without a unit says nothing.
    across, down = layout.resolution or ((1, 1), (1, 1))
    bits = 1 if layout.dtype.kind == "b" else 8 * layout.dtype.itemsize
    tags = [
        Tag(256, "LONG", [layout.width]),
        Tag(257, "LONG", [layout.height]),
        Tag(258, "SHORT", [bits] * layout.samples),
        Tag(259, "SHORT", [_DEFLATE if layout.compress else 1]),
        Tag(262, "SHORT", [1 if layout.samples == 1 else 2]),
        Tag(277, "SHORT", [layout.samples]),
        Tag(278, "LONG", [layout.rows_per_strip]),
        Tag(282, "RATIONAL", across),
        Tag(283, "RATIONAL", down),
        Tag(284, "SHORT", [1]),
        Tag(296, "SHORT", [1 if layout.resolution is None else 3]),
        Tag(305, "ASCII", b"scout-dask-io"),
        Tag(339, "SHORT", [_SAMPLE_FORMAT[layout.dtype.kind]] * layout.samples),
    ]
    if layout.predictor:
        tags.append(Tag(317, "SHORT", [2]))
    if layout.samples == 4:
        # Alpha that colours are not multiplied by.
        tags.append(Tag(338, "SHORT", [2]))
    return tags
