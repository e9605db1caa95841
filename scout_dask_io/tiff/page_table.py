"""Which pages an array is made of, and where each lies: the table that a TIFF source carries.

An array of 100,000 planes has as many rows. What is done to a part of it, here, is to
keep the rows of its pages, and the files and layouts that these rows name.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Region, Shape
from scout_dask_io.tiff.page_layout import FILE, LAYOUT, NO_FILE, FileTable, PageLayout, SourceFile


class PageTable:
    """Pages along leading axes, with the files that hold them and the layouts that they have.

    Parameters
    ----------
    files : FileTable
        The files, in the order of their first pages.
    layouts : sequence of PageLayout
        What the pages' layouts are counted in.
    pages : numpy.ndarray
        int64, of shape ``(*lead, 4)``, columns as ``page_layout`` has them. A page of no file
        holds zeros.
    first_file : int
        The number that the table has for the first of ``files``.
    """

    __slots__ = ("_first_file", "files", "layouts", "pages")

    def __init__(
        self,
        files: FileTable,
        layouts: tuple[PageLayout, ...],
        pages: np.ndarray,
        first_file: int = 0,
    ) -> None:
        self.files = files
        self.layouts = layouts
        self.pages = pages
        self._first_file = first_file

    def rows(self, lead: Region) -> tuple[list[list[int]], product[tuple[slice, ...]]]:
        """Give the rows of a region's pages, in C order, and the place of each in it."""
        picked = self.pages[lead]
        places = product(*([slice(i, i + 1) for i in range(k)] for k in picked.shape[:-1]))
        return picked.reshape(-1, 4).tolist(), places

    def file_of(self, row: list[int]) -> SourceFile:
        """Give the file of a row's page."""
        return self.files[row[FILE] - self._first_file]

    def part(self, lead: Any) -> PageTable:
        """Give the table of some pages, by any index along the leading axes that keeps them all."""
        pages, layouts = self.pages[lead], self.layouts
        if pages.size == 0:
            return PageTable(self.files, layouts, pages, self._first_file)
        if len(layouts) > 1:
            used, numbers = np.unique(pages[..., LAYOUT], return_inverse=True)
            layouts = tuple(layouts[k] for k in used.tolist())
            pages = pages.copy()
            pages[..., LAYOUT] = numbers.reshape(pages.shape[:-1])
        read = pages[..., FILE] != NO_FILE
        numbers = pages[..., FILE][read]
        if not numbers.size:
            return PageTable(self.files.span(0, 0), layouts, pages)
        if len(self.files) == 1:
            return PageTable(self.files, layouts, pages, self._first_file)
        low, high = int(numbers.min()), int(numbers.max())
        if high - low < numbers.size:
            # Of a run of files nothing is copied, and rows keep the numbers that they have.
            start = low - self._first_file
            return PageTable(self.files.span(start, start + high - low + 1), layouts, pages, low)
        used, renamed = np.unique(numbers, return_inverse=True)
        pages = pages.copy()
        pages[..., FILE][read] = renamed.reshape(-1)
        return PageTable(self.files.pick((used - self._first_file).tolist()), layouts, pages)

    def with_pages(self, layouts: tuple[PageLayout, ...], pages: np.ndarray) -> PageTable:
        """Give a table of the same files with other rows, which count layouts in these."""
        return PageTable(self.files, layouts, pages, self._first_file)

    def __reduce__(self) -> tuple[Any, ...]:
        pages = self.pages
        return _load, (self.files, self.layouts, self._first_file, pages.shape, pages.tobytes())


def _load(
    files: FileTable, layouts: tuple[PageLayout, ...], first_file: int, shape: Shape, pages: bytes
) -> PageTable:
    return PageTable(files, layouts, np.frombuffer(pages, np.int64).reshape(shape), first_file)
