"""Headers that are yet to be read: each before the first pixel of its pages, and held to the first.

With ``check="first"`` an array of many files is described by a few of them. The others are known
by name, size and time; what their headers say is read where their pixels are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from scout_dask_io.core.fork import in_forked_child
from scout_dask_io.core.grid import Region, full_region
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.errors import ScoutIOError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location, as_remote
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.tiff.open_file import BoundedCache, find_file, what_changed
from scout_dask_io.tiff.page_layout import DATA, FILE, IFD, LAYOUT, UNREAD, SourceFile
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.range_reader import find_object
from scout_dask_io.tiff.stack_check import DescribedFile, Survey

#: Headers that are read beside the first and the last, here and there.
N_SAMPLED = 16
# Looks at files, and headers of one region, at one time.
_AT_ONCE, _BATCH = 16, 64

_described: BoundedCache[DescribedFile] = BoundedCache(8 << 20, lambda f: 600 + 200 * len(f.pages))
in_forked_child(_described.begin_anew)


def sampled(n: int) -> set[int]:
    """Give which of so many files are read: the first, the last, and some between."""
    return set(np.linspace(0, n - 1, min(n, N_SAMPLED + 2)).round().astype(int).tolist())


def find_files(paths: Sequence[Location]) -> Iterator[SourceFile | None]:
    """Yield the facts of files without opening them, ``None`` of what must be looked at closer.

    Of a disk that is one ``stat`` each, 16 at once; of a store what its listing said.
    """

    def find(some: Iterable[Location]) -> list[SourceFile | None]:
        return [_find(path) for path in some]

    batches = [paths[k : k + _BATCH] for k in range(0, len(paths), _BATCH)]
    n = min(_AT_ONCE, len(batches))
    for found in work_ahead(find, batches, n, 2 * n if n > 1 else 1):
        yield from found


def _find(path: Location) -> SourceFile | None:
    try:
        found = find_file(path) if path.on_disk else find_object(as_remote(path))
    except ScoutIOError:
        return None
    return found if found.size else None


@dataclass(frozen=True, slots=True)
class PendingHeaders:
    """What files of a stack must be whose headers are not read yet. Picklable.

    Attributes
    ----------
    example : DescribedFile
        The first file, which the others are held to.
    describe : callable
        Reads and checks the header of a file, as for all of them.
    options : dict or None
        What it takes to reach files in a store.
    """

    example: DescribedFile
    describe: Callable[..., DescribedFile]
    options: dict[str, Any] | None

    def settle(self, table: PageTable, lead: Region) -> tuple[PageTable, Region]:
        """Give a table in which the pages of a region are all known, and where the region is in it.

        Reads the headers that were not read yet in this process.

        Raises
        ------
        ShapeMismatchError
            If a file has another shape or dtype than the first.
        SourceChangedError, TiffReadError
            If a file is another one by now, or cannot be read.
        """
        rows = table.pages[lead]
        unread = rows[..., IFD] == UNREAD
        if not unread.any():
            return table, lead
        numbers = np.unique(rows[..., FILE][unread]).tolist()
        files = [table.file_of([number, 0, 0, 0]) for number in numbers]
        layouts = dict(zip(table.layouts, range(len(table.layouts)), strict=True))
        rows = rows.copy()
        n = min(_AT_ONCE, len(files)) if self.options is not None else 1
        for number, found in zip(numbers, work_ahead(self._header, files, n, n), strict=True):
            of_file = unread & (rows[..., FILE] == number)
            picked = rows[of_file]
            for row in picked:
                page = found.pages[row[DATA]]
                row[LAYOUT] = layouts.setdefault(page.layout, len(layouts))
                row[IFD], row[DATA] = page.ifd, page.data
            rows[of_file] = picked
        whole = full_region(rows.shape[:-1])
        return table.with_pages(tuple(layouts), rows), whole

    def _header(self, file: SourceFile) -> DescribedFile:
        return _described.get((file, self.example.file), partial(self._read, file))

    def _read(self, file: SourceFile) -> DescribedFile:
        place: Location = LocalLocation(file.path)
        if self.options is not None:
            place = RemoteLocation(file.path, self.options)
        found = self.describe(place, file=file)
        if found.file != file:
            raise what_changed(file, found.file)
        both = Survey()
        both.add(self.example)
        both.add(found)
        both.check("error")
        return found
