"""Pages of TIFF files as a source: a description that reads regions, and travels."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import product
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from scout_dask_io.errors import ScoutIOError
from scout_dask_io.grid import Region, Shape, region_shape
from scout_dask_io.indexing import normalize_index, take, takes_all
from scout_dask_io.remote import RemotePath
from scout_dask_io.source import FilledPlane, Piece, Source
from scout_dask_io.tiff.decode import AreaReader, Page, Scratch, unreadable
from scout_dask_io.tiff.fetch import fetch_pages
from scout_dask_io.tiff.files import Place, open_checked
from scout_dask_io.tiff.layout import (
    DATA,
    FILE,
    IFD,
    LAYOUT,
    NO_FILE,
    FileTable,
    PageLayout,
    SourceFile,
)
from scout_dask_io.tiff.remote_file import RemoteFile

__all__ = ["MAX_BLOCK_NBYTES", "TiffSource"]

#: A dask block is a page by default, up to this size.
MAX_BLOCK_NBYTES = 256 << 20


class _Gate:
    """Lets at most so many threads read the files of one array at once."""

    def __init__(self, limit: int) -> None:
        self._slots = threading.BoundedSemaphore(limit)

    def __enter__(self) -> None:
        self._slots.acquire()

    def __exit__(self, *exc: object) -> None:
        self._slots.release()


# All parts of an array in a process share one gate; it goes with the last part.
_gates: WeakValueDictionary[tuple[str, int], _Gate] = WeakValueDictionary()
_gates_lock = threading.Lock()


class TiffSource(Source):
    """Pages of one or more TIFF files, stacked in leading axes. Reads nothing by itself.

    The shape is that of the leading axes and then that of a page: ``(rows,
    columns)`` or ``(rows, columns, samples)``. Every read opens a file, compares
    it with the one that was described, reads the segments that the region
    needs and closes it.

    Parameters
    ----------
    files : FileTable
        The files, in the order of their first pages.
    layouts : sequence of PageLayout
        All of one shape, and of one dtype but for its byte order.
    pages : numpy.ndarray
        Page table, int64, of shape ``(*lead, 4)``: see :mod:`.layout`. A page of
        no file holds zeros.
    token : str
        Names the content.
    nb_workers : int, optional
        How many threads of a process read these files at once.
    file_ndim : int
        How many of the leading axes count files; those after them count the
        pages of a file.
    series, level : int
        Which image of a file, at which resolution, the pages are of.
    filled : sequence of FilledPlane
        What the pages of no file stand for.
    options : dict, optional
        What it takes to reach files in an object store; ``None`` says that they are
        local. No part of the token, and shown nowhere: there may be secrets in it.

    Raises
    ------
    SourceChangedError
        On reading, if a file is not the one that was described.
    TiffReadError
        On reading, if a file is damaged.
    """

    def __init__(
        self,
        files: FileTable,
        layouts: Sequence[PageLayout],
        pages: np.ndarray,
        token: str,
        *,
        nb_workers: int | None = None,
        file_ndim: int = 0,
        series: int = 0,
        level: int = 0,
        filled: Sequence[FilledPlane] = (),
        options: dict[str, Any] | None = None,
    ) -> None:
        self._files = files
        self._layouts = tuple(layouts)
        self._pages = pages
        self._first_file = 0
        self._filled = tuple(filled)
        self._options = options
        self.has_own_threads = options is not None  # pages are fetched ahead
        self._gate_key = token
        self._gate: _Gate | None = None
        self.token = token
        self.nb_workers = nb_workers
        self.file_ndim = file_ndim
        self.series = series
        self.level = level
        self.dtype = np.dtype(layouts[0].dtype).newbyteorder("=")
        self.shape = (*pages.shape[:-1], *layouts[0].shape)

    @property
    def lead_ndim(self) -> int:
        """Number of axes before the page's own."""
        return self._pages.ndim - 1

    @property
    def layouts(self) -> tuple[PageLayout, ...]:
        """The layouts that the pages have."""
        return self._layouts

    @property
    def files(self) -> list[SourceFile]:
        """The files that are read, with the facts by which a change is noticed."""
        return [self._files[k] for k in range(len(self._files))]

    def place_of(self, file: SourceFile) -> Place:
        """Give where one of the files lies."""
        return file.path if self._options is None else RemotePath(file.path, self._options)

    def landmarks(self) -> list[tuple[str, int]]:
        """Give the first file and the last; none of a store, which tells by its answers."""
        if self._options is not None:
            return []
        ends = sorted({0, len(self._files) - 1})
        return [self._files[k][:2] for k in ends] if len(self._files) else []

    @property
    def filled(self) -> tuple[FilledPlane, ...]:
        """Planes that hold zeros because their files could not be read.

        Known of the whole stack; a narrowed source reads them as zeros, and does
        not carry the record.
        """
        return self._filled

    @property
    def read_shape(self) -> Shape:
        """A row of raw pages, a strip or a tile of others; the largest where pages differ."""
        each = zip(*(layout.read_shape for layout in self._layouts), strict=True)
        return (1,) * self.lead_ndim + tuple(max(extents) for extents in each)

    @property
    def default_chunks(self) -> tuple[tuple[int, ...], ...]:
        """One block a file, or a page where that is over 256 MiB, or bands of segments."""
        extents = [1] * self.lead_ndim + list(self.shape[self.lead_ndim :])
        block_nbytes = math.prod(extents) * self.dtype.itemsize
        if self.file_ndim:
            in_file = math.prod(self.shape[self.file_ndim : self.lead_ndim])
            if in_file * block_nbytes <= MAX_BLOCK_NBYTES:
                extents[self.file_ndim : self.lead_ndim] = self.shape[
                    self.file_ndim : self.lead_ndim
                ]
        if block_nbytes > MAX_BLOCK_NBYTES:
            at = self.lead_ndim
            row_nbytes = block_nbytes // self.shape[at]
            step = self.read_shape[at]
            extents[at] = max(1, MAX_BLOCK_NBYTES // (row_nbytes * step)) * step
        return tuple(_cut(n, e) for n, e in zip(self.shape, extents, strict=True))

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the region in pieces that stay in the cache, page by page.

        Pieces are rows of raw pages and clipped segments of others, in file
        byte order where nothing had to be undone.
        """
        if 0 in region_shape(region):
            return
        n = self.lead_ndim
        new_axes = (*(np.newaxis,) * n, ...)
        has_samples = len(region) - n > 2
        readers = self._readers(region[n:])
        zeros = np.broadcast_to(self.dtype.type(0), (*(1,) * n, *region_shape(region[n:])))
        whole = tuple(slice(0, k) for k in zeros.shape[n:])
        for place, number, page in self._open_pages(region[:n], readers):
            if page is None:
                yield (*place, *whole), zeros
                continue
            try:
                for where, values in readers[number].pieces(page):
                    if has_samples:
                        yield (*place, *where), values[new_axes]
                    else:
                        yield (*place, where[0], where[1]), values[..., 0][new_axes]
            except (ScoutIOError, MemoryError):
                raise
            except Exception as err:
                raise unreadable(page, err) from err

    def _readers(self, inner: Region) -> list[AreaReader]:
        area = (inner[0], inner[1], inner[2] if len(inner) > 2 else slice(0, 1))
        gate, scratch = self._shared_gate(), Scratch()
        return [AreaReader(layout, area, gate, scratch) for layout in self._layouts]

    def _open_pages(
        self, lead: Region, readers: Sequence[AreaReader]
    ) -> Iterator[tuple[tuple[slice, ...], int, Page | None]]:
        """Yield where each page goes, its layout and the page, its file open.

        ``None`` stands for a page of zeros. A file is opened once for a run of
        pages, and closed before the next.
        """
        picked = self._pages[lead]
        spans = [[slice(i, i + 1) for i in range(k)] for k in picked.shape[:-1]]
        rows = picked.reshape(-1, 4).tolist()
        if self._options is not None:
            numbers = [row[LAYOUT] for row in rows]
            some = RemotePath(self._files[0].path, self._options) if len(self._files) else None
            pages = fetch_pages(
                map(self._remote_page, rows),
                numbers,
                readers,
                serves_threads=some is not None and some.serves_threads,
            )
            yield from zip(product(*spans), numbers, pages, strict=True)
            return
        fd, opened = -1, -1
        file: SourceFile | None = None
        try:
            for place, row in zip(product(*spans), rows, strict=True):
                if row[FILE] == NO_FILE:
                    yield place, row[LAYOUT], None
                    continue
                if row[FILE] != opened or file is None:
                    if fd >= 0:
                        os.close(fd)
                        fd = -1
                    opened = row[FILE]
                    file = self._files[opened - self._first_file]
                    fd = open_checked(file)
                yield place, row[LAYOUT], Page(fd, file, row[IFD], row[DATA])
        finally:
            if fd >= 0:
                os.close(fd)

    def _remote_page(self, row: list[int]) -> Page | None:
        if row[FILE] == NO_FILE:
            return None
        file = self._files[row[FILE] - self._first_file]
        place = RemotePath(file.path, self._options or {})
        return Page(RemoteFile(place, file), file, row[IFD], row[DATA])

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Read one region into an array of its shape, in native byte order."""
        n = self.lead_ndim
        inner = region[n:]
        whole_rows = region_shape(inner[1:]) == self.shape[n + 1 :]
        as_in_memory = whole_rows and out.size and out[(0,) * n].flags.c_contiguous
        if not as_in_memory or not all(_is_memory_image(layout) for layout in self._layouts):
            super().read_into(region, out)
            return
        # Pixels lie in the file as they will in memory: no copy is needed.
        readers = self._readers(inner)
        for place, number, page in self._open_pages(region[:n], readers):
            if page is None:
                out[place] = 0
                continue
            room = out[place].reshape(-1).view(np.uint8).data
            try:
                readers[number].read_rows(page, room)
            except (ScoutIOError, MemoryError):
                raise
            except Exception as err:
                raise unreadable(page, err) from err

    def __getitem__(self, index: Any) -> np.ndarray:
        region, rest = normalize_index(index, self.shape)
        n = self.lead_ndim
        if all(map(takes_all, rest[:n])):
            return take(self.read(region), rest)
        # Steps and lists along the leading axes must not read what lies between.
        picks = [
            np.arange(s.start, s.stop)[slice(0, 1) if isinstance(r, int) else r]
            for s, r in zip(region[:n], rest[:n], strict=True)
        ]
        part = self._with_pages(self._pages[np.ix_(*picks)], "picked")
        whole = tuple(slice(0, len(k)) for k in picks)
        kept = tuple(0 if isinstance(r, int) else slice(None) for r in rest[:n])
        return take(part.read((*whole, *region[n:])), (*kept, *rest[n:]))

    def narrow(self, region: Region) -> tuple[Source, Region]:
        """Give a source with only the pages and files that the region needs."""
        n = self.lead_ndim
        lead = region[:n]
        if region_shape(lead) == self.shape[:n]:
            return self, region
        part = self._with_pages(self._pages[lead], ",".join(f"{s.start}:{s.stop}" for s in lead))
        inner = tuple(slice(0, s.stop - s.start) for s in lead)
        return part, (*inner, *region[n:])

    def _with_pages(self, pages: np.ndarray, where: str) -> TiffSource:
        part = object.__new__(TiffSource)
        part.__dict__.update(self.__dict__)
        part.shape = (*pages.shape[:-1], *self.shape[self.lead_ndim :])
        part.token = f"{self.token}[{where}]"
        part._pages = pages
        part._filled = ()
        if pages.size == 0:
            return part
        if len(self._layouts) > 1:
            used, numbers = np.unique(pages[..., LAYOUT], return_inverse=True)
            part._layouts = tuple(self._layouts[k] for k in used.tolist())
            part._pages = pages = pages.copy()
            pages[..., LAYOUT] = numbers.reshape(pages.shape[:-1])
        read = pages[..., FILE] != NO_FILE
        numbers = pages[..., FILE][read]
        if not numbers.size:
            part._files, part._first_file = self._files.span(0, 0), 0
        elif len(self._files) > 1:
            low, high = int(numbers.min()), int(numbers.max())
            if high - low < numbers.size:
                start = low - self._first_file
                part._files = self._files.span(start, start + high - low + 1)
                part._first_file = low
            else:
                used, renamed = np.unique(numbers, return_inverse=True)
                part._files = self._files.pick((used - self._first_file).tolist())
                part._pages = pages = pages.copy()
                pages[..., FILE][read] = renamed.reshape(-1)
                part._first_file = 0
        return part

    def _shared_gate(self) -> AbstractContextManager[Any]:
        if self.nb_workers is None:
            return nullcontext()
        if self._gate is None:
            key = (self._gate_key, self.nb_workers)
            with _gates_lock:
                gate = _gates.get(key)
                if gate is None:
                    gate = _gates[key] = _Gate(self.nb_workers)
            self._gate = gate
        return self._gate

    def __reduce__(self) -> tuple[Any, ...]:
        state = dict(self.__dict__, _gate=None)
        pages = state.pop("_pages")
        state.pop("dtype")
        return _load, (state, pages.shape, pages.tobytes())


def _load(state: dict[str, Any], shape: Shape, pages: bytes) -> TiffSource:
    source = object.__new__(TiffSource)
    source.__dict__.update(state)
    source._pages = np.frombuffer(pages, np.int64).reshape(shape)
    source.dtype = np.dtype(source._layouts[0].dtype).newbyteorder("=")
    return source


def _is_memory_image(layout: PageLayout) -> bool:
    return layout.coding == "raw" and not layout.planar and np.dtype(layout.dtype).isnative


def _cut(n: int, extent: int) -> tuple[int, ...]:
    whole, rest = divmod(n, extent)
    return (extent,) * whole + ((rest,) if rest else ())
