"""Pages that only tifffile understands: their segments and their decoder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tifffile

from scout_dask_io.tiff.cache import SegmentTable
from scout_dask_io.tiff.open_file import OpenFile
from scout_dask_io.tiff.page_layout import PageLayout, SourceFile
from scout_dask_io.tiff.pages import check_segments
from scout_dask_io.tiff.range_reader import Handle

__all__ = ["general_decoder", "general_table", "open_tiff", "page_at"]


def page_at(tif: tifffile.TiffFile, ifd: int) -> tifffile.TiffPage:
    """Give tifffile's view of the page whose directory is at an offset."""
    first = tif.pages.first
    if first.offset == ifd:
        return first
    tif.filehandle.seek(ifd)
    return tifffile.TiffPage(tif, index=1)


@contextmanager
def open_tiff(fd: OpenFile, file: SourceFile, **options: Any) -> Iterator[tifffile.TiffFile]:
    """Let tifffile look at a file that is open already, so that it sees the same one."""
    with (
        _as_python_has_it(fd) as handle,
        tifffile.TiffFile(handle, name=os.path.basename(file.path), **options) as tif,
    ):
        yield tif


def _as_python_has_it(fd: OpenFile) -> Any:
    if not isinstance(fd, int):
        return Handle(fd)
    # Reads here go by offset, but tifffile begins at the descriptor's position.
    os.lseek(fd, 0, os.SEEK_SET)
    return open(fd, "rb", closefd=False)


def general_decoder(fd: OpenFile, file: SourceFile, ifd: int) -> Callable[..., Any]:
    """Give tifffile's decoder of the segments of a page; it holds no open file."""
    with open_tiff(fd, file, is_ome=False) as tif:
        decoder: Callable[..., Any] = page_at(tif, ifd).decode
        return decoder


def general_table(page: tifffile.TiffPage, layout: PageLayout, size: int) -> SegmentTable:
    """Give the segments of a page as tifffile sees them, checked against the file."""
    offsets = np.array(page.dataoffsets, np.int64)
    counts = np.array(page.databytecounts, np.int64)
    offsets, counts = check_segments(offsets, counts, layout, size)
    return SegmentTable(offsets, counts, page.jpegtables, page.jpegheader)
