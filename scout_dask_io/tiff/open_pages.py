"""Pages opened one after another: of files on a disk, or fetched ahead from an object store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from scout_dask_io.core.grid import Region
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.files.location import RemotePath
from scout_dask_io.tiff.open_file import open_checked
from scout_dask_io.tiff.page_layout import DATA, FILE, IFD, LAYOUT, NO_FILE, SourceFile
from scout_dask_io.tiff.page_reader import AreaReader, Page, naming
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.range_reader import RemoteFile

__all__ = ["open_pages"]

#: Pages that are fetched at once; clients have ten connections by default.
_N_PAGES = 8
#: What may be held of pages that are not yet asked for, in each call that reads.
_AHEAD_NBYTES = 16 << 20


def open_pages(
    table: PageTable,
    lead: Region,
    readers: Sequence[AreaReader],
    options: dict[str, Any] | None,
) -> Iterator[tuple[tuple[slice, ...], int, Page | None]]:
    """Yield where each page of a region goes, its layout, and the page with its file open.

    ``None`` stands for a page of zeros. A file is opened once for a run of
    pages, and closed before the next. With ``options`` the files are objects in a store.

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
        for place, row in zip(places, rows, strict=True):
            if row[FILE] == NO_FILE:
                yield place, row[LAYOUT], None
                continue
            if row[FILE] != opened or file is None:
                if fd >= 0:
                    os.close(fd)
                    fd = -1
                opened = row[FILE]
                file = table.file_of(row)
                fd = open_checked(file)
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
        remote = RemoteFile(RemotePath(file.path, options), file)
        return Page(remote, file, row[IFD], row[DATA])

    some = RemotePath(table.files[0].path, options) if len(table.files) else None
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
    n_pages = min(_N_PAGES, len(numbers), _AHEAD_NBYTES // max(reach_nbytes, 1))
    n_pages = n_pages if serves_threads else 1

    def fetch(item: tuple[int, Page | None]) -> Page | None:
        number, page = item
        if page is not None:
            with naming(page):
                readers[number].fetch(page)
        return page

    return work_ahead(fetch, zip(numbers, pages, strict=True), n_pages, n_pages)
