"""A TIFF file that is written beside its place and appears there whole.

Strips may be written in any order and the directories come last, so pixels can
be written in the order in which they are computed, however blocks cut planes.
"""

from __future__ import annotations

import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tifffile

from scout_dask_io.errors import WriteError
from scout_dask_io.files.disk import hidden_name
from scout_dask_io.files.system import replace
from scout_dask_io.tiff.encode import (
    HEADER_NBYTES,
    Band,
    Encoded,
    Tag,
    encode_directory,
    encode_header,
)
from scout_dask_io.tiff.write_layout import TiffLayout
from scout_dask_io.tiff.write_metadata import Notes, common_tags, first_page_tags, plain_notes

# What is kept free for the only directory of a file whose pixels reach beyond the
# offsets of a classic TIFF: it stands before them.
FRONT_NBYTES = 2**16
_DRAFT = re.compile(r"\.(.+)\.[0-9a-f]{12}\.partial")


class TiffDraft:
    """A TIFF file in the making, beside the place where it will stand.

    Bands go in by :meth:`write`, in any order, each once; :meth:`publish` adds
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
        self.partial = target.with_name(f"{hidden_name(target)}.{uuid.uuid4().hex[:12]}.partial")
        tables = [(layout.n_pages, layout.n_segments(k)) for k in range(layout.n_levels)]
        self._offsets = [np.zeros(table, np.uint64) for table in tables]
        self._counts = [np.zeros(table, np.uint64) for table in tables]
        self._rows_written = np.zeros((layout.n_pages, layout.n_levels), np.int64)
        self._heights = np.array([height for height, _ in layout.levels])
        self._n_rows_missing = int(self._heights.sum()) * layout.n_pages
        self._begin = FRONT_NBYTES if layout.one_directory else HEADER_NBYTES
        self._end = self._begin
        with self._naming_errors(), open(self.partial, "xb"):
            pass

    def write(self, bands: Iterable[Band]) -> None:
        """Add bands, or in an uncompressed file of strips any rows of any page.

        Errors that the iterable raises pass through as they are.
        """
        layout = self.layout
        page_nbytes = layout.height * layout.row_nbytes
        with self._naming_errors():
            handle = open(self.partial, "r+b", buffering=0)  # noqa: SIM115
        try:
            for page, row, segments, level in bands:
                if layout.is_run:
                    at = self._begin + page * page_nbytes + row * layout.row_nbytes
                    n_rows = len(segments[0]) // layout.row_nbytes
                else:
                    at = self._end
                    n_rows = min(layout.rows_per_write, int(self._heights[level]) - row)
                    first = row // layout.rows_per_write * len(segments)
                    place = slice(first, first + len(segments))
                    sizes = [len(s) for s in segments]
                    self._offsets[level][page, place] = at + np.cumsum([0, *sizes[:-1]])
                    self._counts[level][page, place] = sizes
                with self._naming_errors():
                    handle.seek(at)
                    for data in segments:
                        _write_all(handle, data)
                        at += len(data)
                self._rows_written[page, level] += n_rows
                self._n_rows_missing -= n_rows
                self._end = max(self._end, at)
        finally:
            handle.close()

    @property
    def is_whole(self) -> bool:
        """Whether all rows of all pages are written."""
        return self._n_rows_missing == 0

    def publish(self, notes: Notes | None = None) -> None:
        """Finish the file, check it, and put it in its place in one step.

        Parameters
        ----------
        notes : Notes, optional
            What the file says of itself; by default the array's shape alone.

        Raises
        ------
        WriteError
            If the directories cannot be written, or the file does not read
            back with the pages that were meant.
        """
        missing = np.flatnonzero((self._rows_written != self._heights).any(axis=1))
        if missing.size:
            raise RuntimeError(
                f"{self.target}: {missing.size} of {self.layout.n_pages} pages are not whole, "
                f"the first is page {missing[0]}"
            )
        with self._naming_errors():
            self._write_directories(notes or plain_notes(self.layout))
            self._check()
            with suppress(FileNotFoundError):
                os.chmod(self.partial, stat.S_IMODE(os.stat(self.target).st_mode))
            replace(self.partial, self.target)

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

    def _write_directories(self, notes: Notes) -> None:
        layout = self.layout
        if layout.is_run:
            page_nbytes = layout.height * layout.row_nbytes
            pages = np.arange(layout.n_pages, dtype=np.uint64)
            self._offsets[0][:, 0] = self._begin + pages * np.uint64(page_nbytes)
            self._counts[0][:, 0] = page_nbytes
        at = HEADER_NBYTES if layout.one_directory else self._end + self._end % 2
        n_directories = 1 if layout.one_directory else layout.n_pages
        with open(self.partial, "r+b") as handle:
            handle.seek(at)
            # The smaller levels first, since a page's own directory points to them.
            levels: list[list[int]] = [[] for _ in range(layout.n_pages)]
            for level in range(1, layout.n_levels):
                for page in range(layout.n_pages):
                    levels[page].append(at)
                    tags = self._tags(notes, page, level)
                    at += handle.write(encode_directory(tags, at, layout.big, last=True))
            first = at
            for page in range(n_directories):
                tags = self._tags(notes, page, 0)
                if levels[page]:
                    tags.append(Tag(330, "OFFSET", levels[page]))
                if page == 0:
                    tags += first_page_tags(notes)
                last = page == n_directories - 1
                at += handle.write(encode_directory(tags, at, layout.big, last=last))
            if layout.one_directory and at > FRONT_NBYTES:
                raise RuntimeError(f"{self.target}: a directory of {at} bytes")
            handle.seek(0)
            # Last of all: a file that breaks off before is no TIFF at all.
            handle.write(encode_header(first, layout.big))

    def _tags(self, notes: Notes, page: int, level: int) -> list[Tag]:
        codes = (324, 325) if self.layout.tile else (273, 279)
        tables = (self._offsets[level][page], self._counts[level][page])
        places = [Tag(c, "OFFSET", t.tolist()) for c, t in zip(codes, tables, strict=True)]
        return common_tags(self.layout, notes, level) + places

    def _check(self) -> None:
        layout = self.layout
        with tifffile.TiffFile(self.partial) as file:
            first = file.pages[0]
            dtype = first.dtype and first.dtype.newbyteorder("=")
            found = (len(file.pages), first.shape, dtype)
        n_pages = 1 if layout.one_directory else layout.n_pages
        meant = (n_pages, layout.shape[len(layout.lead) :], layout.dtype)
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


def sweep_drafts(targets: Iterable[Path]) -> None:
    """Remove the drafts that killed programs left of some files, as far as that goes."""
    names: dict[Path, set[str]] = {}
    for target in targets:
        names.setdefault(target.parent, set()).add(target.name)
    for folder, meant in names.items():
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                found = _DRAFT.fullmatch(entry.name)
                if found and found[1] in meant:
                    os.unlink(entry.path)


def _write_all(handle: Any, data: Encoded) -> None:
    """Write to an unbuffered file until all is written, or raise."""
    view = memoryview(data)
    while view:
        view = view[handle.write(view) :]
