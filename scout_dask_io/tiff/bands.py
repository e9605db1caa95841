"""Rows of pages, as they come, regrouped into the bands that a TIFF file stores. No files.

Rows come in the heights in which the array's chunks have them; strips and rows
of tiles have heights of their own. What is left over waits for the next rows of
its page, and each whole row of tiles gives half as many rows of the next level.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from scout_dask_io.core.downsample import downsample, method_for
from scout_dask_io.tiff.write_layout import TiffLayout

#: Page number, first row in the page, rows not yet encoded.
Rows: TypeAlias = tuple[int, int, np.ndarray]

__all__ = ["Rows", "Values", "iter_bands", "waiting_nbytes"]


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
        self.room: np.ndarray | None = None

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
                if self.room is None:
                    self.room = np.empty((extent, *pixels.shape[1:]), pixels.dtype)
                self.room[self.n : self.n + taken] = part
                self.n += taken
                if self.n < extent:
                    return
                whole, self.room, self.n = self.room, None, 0
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
            yield from _feed(layout, held, page, level + 1, _halved(band))
    if here.row == height:
        del held[page, level]


def _halved(pixels: np.ndarray) -> np.ndarray:
    """Give rows at half the height and width.

    Integers above 16 bits mostly are labels, of which a mean would be another one.
    """
    dtype = pixels.dtype
    method = method_for(dtype, labels=dtype.kind in "iu" and dtype.itemsize > 2)
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
