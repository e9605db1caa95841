"""Planes that do not exist, described as the header check would describe them."""

from __future__ import annotations

import numpy as np

from scout_dask_io.tiff.page_layout import DATA, FILE, IFD, FileTable, PageLayout, SourceFile
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.source import TiffSource

__all__ = ["described_planes"]


def described_planes(shape: tuple[int, int, int]) -> TiffSource:
    """Give the source of a folder of uncompressed uint16 planes, ``(z, y, x)``."""
    n_planes, rows, columns = shape
    layout = PageLayout(
        rows=rows,
        columns=columns,
        samples=0,
        planar=False,
        dtype="<u2",
        compression=1,
        predictor=1,
        tiled=False,
        segment_rows=rows,
        segment_columns=columns,
        coding="raw",
    )
    pages = np.zeros((n_planes, 4), np.int64)
    pages[:, FILE] = np.arange(n_planes)
    pages[:, IFD], pages[:, DATA] = 8, 256
    size = 256 + rows * columns * 2
    files = FileTable.of(
        SourceFile(f"/volume/ch0/z{z:06d}.tif", size, 1_560_000_000_000_000_000 + z, 1_000 + z)
        for z in range(n_planes)
    )
    return TiffSource(PageTable(files, (layout,), pages), "described", file_ndim=1)
