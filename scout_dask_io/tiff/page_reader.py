"""One area of pages that share a layout: what is common to all ways to read it.

Pages read side by side: the rows of several are handed on as one piece.

Where an area has few bytes of a page, the calls around each piece, which take the
interpreter's lock anew, cost more than copying its pixels.

Pages opened one after another: of files on a disk, or fetched ahead from an object store.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from scout_dask_io.core.grid import Region
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.errors import ScoutIOError, TiffReadError
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.files.requests import AHEAD_NBYTES
from scout_dask_io.tiff import open_file as files
from scout_dask_io.tiff.ifd import Damaged
from scout_dask_io.tiff.open_file import open_checked
from scout_dask_io.tiff.page_layout import DATA, FILE, IFD, LAYOUT, NO_FILE, PageLayout, SourceFile
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.range_reader import RemoteFile

#: ``(rows, columns, samples)``, where pages without samples have one.
Area: TypeAlias = tuple[slice, slice, slice]

#: Rows are handed on in pieces of about this size, which are still in the processor's caches
#: when the caller copies them. In smaller ones, threads wait for the interpreter more often.
PIECE_NBYTES = 1 << 21
# Most pages whose rows are read side by side.
_MAX_DEPTH = 16


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


class AreaReader(ABC):
    """Reads one area of pages that share a layout; made once for a whole call.

    ``gate`` is held while bytes are read, and never while the caller works.
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

    @property
    @abstractmethod
    def reach_nbytes(self) -> int:
        """The most that is read of a page, in bytes, where compression made nothing larger."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many pages go in a stack: a power of two, 1 where pages are read by themselves."""

    @abstractmethod
    def read(self, page: Page, at: int) -> None:
        """Read the area of a page into its place in a stack, one below :attr:`depth`."""

    @abstractmethod
    def stack(self, n: int) -> np.ndarray:
        """Give the area of the first pages of a stack, a page along axis 0."""

    @abstractmethod
    def pieces(self, page: Page) -> Iterator[tuple[Area, np.ndarray]]:
        """Yield ``(where, values)``, where ``where`` is relative to the area.

        ``values`` has three axes, and is good until the next is asked for.
        """

    def fetch(self, page: Page) -> None:
        """Let a file in a store get what the area needs of a page, in as few requests as it can."""
        if isinstance(page.fd, int):
            return
        page.fd.expect(self._ranges(page))
        with self.gate:
            page.fd.fetch()

    @abstractmethod
    def _ranges(self, page: Page) -> Sequence[tuple[int, int]]:
        """Give offset and length of what will be read."""

    def _fill(self, page: Page, offset: int, out: memoryview) -> None:
        with self.gate:
            got = files.read_at(page.fd, offset, out)
        if got != len(out):
            raise Damaged(f"only {got} of {len(out)} bytes at offset {offset} could be read")


def depth_of(nbytes: int) -> int:
    """Give how many pages go in a stack of which each takes so many bytes."""
    fit = min(PIECE_NBYTES // max(nbytes, 1), _MAX_DEPTH)
    return 1 << max(fit, 1).bit_length() - 1


def span(one: slice) -> range:
    """Give the numbers in a slice of step 1."""
    return range(one.start, one.stop)


class naming:
    """While a page is read, makes what goes wrong an error that names the file and the page."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, err: BaseException | None, traceback: Any) -> None:
        if not isinstance(err, Exception) or isinstance(err, (ScoutIOError, MemoryError)):
            return
        page, what = self._page, str(err) or type(err).__name__
        raise TiffReadError(
            f"cannot read {page.file.path!r} (page whose directory is at byte {page.ifd}): {what}"
        ) from err


Lead: TypeAlias = tuple[slice, ...]
#: Gives an open descriptor of the file of a page, by the page's number in a region.
Opener: TypeAlias = Callable[[int, SourceFile], int]


def iter_stacks(
    reader: AreaReader, pages: Iterable[tuple[Lead, int, Page | None]]
) -> Iterator[tuple[Lead, np.ndarray | None]]:
    """Yield where some consecutive pages go, and the whole area of each.

    The values have four axes, the first along the last leading one, and are good until the
    next are asked for; there are none of a page of zeros. No stack crosses a multiple of
    ``reader.depth``, which is a power of two, so that planes which become one of a lower
    level come together.

    Raises
    ------
    SourceChangedError, TiffReadError
        If a page is not the one that was described, or cannot be read.
    """
    first: Lead = ()
    n = 0
    for place, _, page in pages:
        if n and (page is None or not _follows(first, n, place)):
            yield _from(first, n), reader.stack(n)
            n = 0
        if page is None:
            yield place, None
            continue
        if not n:
            first = place
        with naming(page):
            reader.read(page, n)
        n += 1
        if place[-1].stop % reader.depth == 0:
            yield _from(first, n), reader.stack(n)
            n = 0
    if n:
        yield _from(first, n), reader.stack(n)


def _follows(first: Lead, n: int, place: Lead) -> bool:
    return place[-1].start == first[-1].start + n and place[:-1] == first[:-1]


def _from(first: Lead, n: int) -> Lead:
    return (*first[:-1], slice(first[-1].start, first[-1].start + n))


#: Pages that are fetched at once, in each call that reads.
_N_PAGES = 16


def open_pages(
    table: PageTable,
    lead: Region,
    readers: Sequence[AreaReader],
    options: dict[str, Any] | None,
    opener: Opener | None = None,
) -> Generator[tuple[tuple[slice, ...], int, Page | None]]:
    """Yield where each page of a region goes, its layout, and the page with its file open.

    ``None`` stands for a page of zeros. A file is opened once for a run of
    pages, and closed before the next. With ``options`` the files are objects in a store. With
    ``opener`` it is asked for the file of each page, by the page's number in the region in C order.

    Raises
    ------
    SourceChangedError, TiffReadError
        If a file is not the one that was described, or cannot be read.
    """
    rows, places = table.rows(lead)
    if options is not None:
        numbers = [row[LAYOUT] for row in rows]
        yield from zip(places, numbers, _remote_pages(table, rows, readers, options), strict=True)
        return
    fd, opened = -1, -1
    file: SourceFile | None = None
    try:
        for number, (place, row) in enumerate(zip(places, rows, strict=True)):
            if row[FILE] == NO_FILE:
                yield place, row[LAYOUT], None
                continue
            if row[FILE] != opened or file is None or opener is not None:
                if fd >= 0:
                    os.close(fd)
                    fd = -1
                opened = row[FILE]
                file = table.file_of(row)
                fd = open_checked(file) if opener is None else opener(number, file)
            yield place, row[LAYOUT], Page(fd, file, row[IFD], row[DATA])
    finally:
        if fd >= 0:
            os.close(fd)


def _remote_pages(
    table: PageTable,
    rows: Sequence[list[int]],
    readers: Sequence[AreaReader],
    options: dict[str, Any],
) -> Iterator[Page | None]:
    def page_of(row: list[int]) -> Page | None:
        if row[FILE] == NO_FILE:
            return None
        file = table.file_of(row)
        remote = RemoteFile(RemoteLocation(file.path, options), file)
        return Page(remote, file, row[IFD], row[DATA])

    some = RemoteLocation(table.files[0].path, options) if len(table.files) else None
    return _fetch_ahead(
        map(page_of, rows),
        [row[LAYOUT] for row in rows],
        readers,
        serves_threads=some is not None and some.serves_threads,
    )


def _fetch_ahead(
    pages: Iterable[Page | None],
    numbers: Sequence[int],
    readers: Sequence[AreaReader],
    *,
    serves_threads: bool,
) -> Iterator[Page | None]:
    """Yield the pages in order, each when what its area needs is here, or the first batch of it.

    Parameters
    ----------
    pages : iterable of Page or None
        Of files in a store; those that were yielded are let go, with what they hold. ``None``
        is a page of zeros, for which nothing is fetched.
    numbers : sequence of int
        Which of the readers each page is for.
    serves_threads : bool
        Whether several threads may ask the store at once.

    Raises
    ------
    SourceChangedError, TiffReadError
        If the store does not give what a page needs.
    """
    reach_nbytes = max((readers[k].reach_nbytes for k in set(numbers)), default=0)
    n_pages = min(_N_PAGES, len(numbers), AHEAD_NBYTES.get() // max(reach_nbytes, 1))
    n_pages = n_pages if serves_threads else 1

    def fetch(item: tuple[int, Page | None]) -> Page | None:
        number, page = item
        if page is not None:
            with naming(page):
                readers[number].fetch(page)
        return page

    return work_ahead(fetch, zip(numbers, pages, strict=True), n_pages, n_pages)
