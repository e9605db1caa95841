"""Which pages of a file make an image: tifffile's series, turned into page tables.

Pages that only tifffile understands: their segments and their decoder.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.messages import warn
from scout_dask_io.errors import ArgumentError, TiffReadError
from scout_dask_io.tiff._tifffile import page_at, series_pages
from scout_dask_io.tiff.ifd import (
    Damaged,
    Header,
    Window,
    check_claims,
    check_segments,
    describe_ifd,
    read_ifd,
)
from scout_dask_io.tiff.open_file import OpenFile, SegmentTable
from scout_dask_io.tiff.page_layout import DescribedPage, PageLayout, SourceFile
from scout_dask_io.tiff.range_reader import Handle


def choose_series(
    tif: tifffile.TiffFile, file: SourceFile, series: int, level: int
) -> tifffile.TiffPageSeries:
    """Give a series of a file at a resolution level.

    Raises
    ------
    ArgumentError
        If there is no such series or level; the message lists what there is.
    TiffReadError
        If the file has no page, or says that it holds pages which it does not.
    """
    found = tif.series
    if not found or not len(tif.pages):
        raise Damaged("it has no pages")
    if tif.is_ome and found[0].kind != "ome":
        _refuse_split_ome(tif, file)
    _check_promises(tif, found)
    if series >= len(found):
        raise ArgumentError(
            f"{file.path!r} has no series {series}; it has {len(found)}: {_listing(found)}"
        )
    levels = found[series].levels
    if level >= len(levels):
        sizes = ", ".join(f"{k}: {s.shape}" for k, s in enumerate(levels))
        raise ArgumentError(
            f"series {series} of {file.path!r} has no level {level}; it has {sizes}"
        )
    return levels[level]


def warn_of_others(tif: tifffile.TiffFile, path: str) -> None:
    """Warn where a file holds more than one series, and say how to get the others."""
    if len(tif.series) > 1:
        warn(
            f"{path!r} holds {len(tif.series)} series ({_listing(tif.series)}); this is series 0. "
            "Pass series=1 and so on for the others."
        )


def _listing(found: list[tifffile.TiffPageSeries]) -> str:
    shown = [f"{k}: {s.shape} {s.dtype}" for k, s in enumerate(found[:8])]
    return ", ".join(shown) + (", ..." if len(found) > 8 else "")


def extra_series(tif: tifffile.TiffFile) -> list[Shape]:
    """Give the shapes of full-resolution images beside the first series.

    Thumbnails and reduced resolutions do not count.
    """
    return [s.shape for s in tif.series[1:] if not s.keyframe.is_reduced]


def _refuse_split_ome(tif: tifffile.TiffFile, file: SourceFile) -> None:
    """Refuse an OME-TIFF whose metadata names other files: they would be read unasked."""
    own = os.path.basename(file.path).lower()
    try:
        root = ElementTree.fromstring(tif.ome_metadata or "")
    except ElementTree.ParseError:
        return
    names = [
        element.attrib.get("FileName") or element.attrib.get("MetadataFile")
        for element in root.iter()
        if element.tag.endswith(("}UUID", "}BinaryOnly"))
    ]
    others = sorted({n for n in names if n and n.lower() != own})
    if others:
        shown = ", ".join(map(repr, others[:3])) + (", ..." if len(others) > 3 else "")
        raise TiffReadError(
            f"{file.path!r} is one of several files of an OME-TIFF; its metadata names "
            f"{len(others)} other(s): {shown}. Read the folder with imread_folder, or pass the "
            "paths in order to imread_parallel."
        )


def _check_promises(tif: tifffile.TiffFile, found: list[tifffile.TiffPageSeries]) -> None:
    """Refuse files whose metadata promises more pages than tifffile could arrange."""
    meta = tif.imagej_metadata if tif.is_imagej else None
    if meta and found[0].kind not in ("imagej", "ome", "shaped"):
        promised = int(meta.get("images", 1))
        if promised > len(tif.pages):
            raise Damaged(
                f"ImageJ says that it holds {promised} images, but there are {len(tif.pages)}; "
                "it is truncated"
            )
    if tif.is_shaped and found[0].kind != "shaped":
        shaped = tif.shaped_metadata
        first = shaped[0].get("shape") if shaped else None
        if first and math.prod(first) > sum(math.prod(s.shape) for s in found):
            raise Damaged(
                f"it says that it holds an array of shape {tuple(first)}; it is truncated"
            )


def describe_series(
    tif: tifffile.TiffFile,
    series: tifffile.TiffPageSeries,
    window: Window,
    header: Header | None,
    allow_sparse: bool = False,
) -> tuple[Shape, tuple[DescribedPage, ...]]:
    """Give the leading axes of a series and its pages, in order.

    Raises
    ------
    Damaged
        If pages are missing, differ, or lie outside of the file.
    """
    pages = series_pages(series)
    listed = [p for p in pages if p is not None]
    missing = len(pages) - len(listed)
    if missing or not listed:
        raise TiffReadError(
            f"{tif.filename!r} lacks {missing} of the {len(pages)} pages that its metadata "
            "names; they may lie in other files. Read the folder with imread_folder, or pass "
            "the paths in order to imread_parallel."
        )
    if series.transform is not None:
        raise Damaged(f"its {series.kind} pixels need a transformation that is not supported")
    described: list[DescribedPage] = []
    for page in listed:
        described += _describe_page(tif, page.offset, window, header, allow_sparse)
    first = described[0].layout
    for number, other in enumerate(described):
        a, b = np.dtype(first.dtype), np.dtype(other.layout.dtype)
        if other.layout.shape != first.shape or a.newbyteorder("=") != b.newbyteorder("="):
            raise Damaged(
                f"page {number} of the series is {other.layout.shape} {b}, "
                f"page 0 is {first.shape} {a}"
            )
    if len(listed) == 1 and series.dataoffset is not None and first.coding == "raw":
        described = _virtual_pages(series, described, window.size)
    lead = _leading_axes(series.shape, first, len(described))
    return lead, tuple(described)


def _virtual_pages(
    series: tifffile.TiffPageSeries, described: list[DescribedPage], size: int
) -> list[DescribedPage]:
    """Give the pages that follow the only one that has a directory.

    ImageJ writes stacks above 4 GB so: one directory, and a count in its description.
    """
    first = described[0]
    count = math.prod(series.shape) // math.prod(first.layout.shape)
    if count <= len(described):
        return described
    end = first.data + count * first.layout.nbytes
    if end > size:
        raise Damaged(
            f"its {count} pages end at byte {end}, but the file has {size} bytes; it is truncated"
        )
    step = first.layout.nbytes
    return [DescribedPage(first.layout, first.ifd, first.data + k * step) for k in range(count)]


def _leading_axes(shape: Shape, layout: PageLayout, n_pages: int) -> Shape:
    page: Shape = layout.shape
    if layout.planar:
        page = (layout.samples, layout.rows, layout.columns)
    lead = shape[: len(shape) - len(page)]
    if shape[len(lead) :] != page:
        lead = (n_pages,) if n_pages > 1 else ()
    if math.prod(lead) != n_pages:
        raise Damaged(
            f"its metadata says shape {shape}, which needs {math.prod(lead)} pages of "
            f"{page}; it has {n_pages}"
        )
    return lead


def _describe_page(
    tif: tifffile.TiffFile,
    offset: int,
    window: Window,
    header: Header | None,
    allow_sparse: bool,
) -> list[DescribedPage]:
    """Describe the page at an offset, by the compact reader or else by tifffile."""
    if header is not None:
        page = describe_ifd(read_ifd(window, header, offset), window, allow_sparse)
        if page is not None:
            return [page]
    return _describe_by_tifffile(tif, page_at(tif, offset), window.size, allow_sparse)


def _describe_by_tifffile(
    tif: tifffile.TiffFile, page: tifffile.TiffPage, size: int, allow_sparse: bool
) -> list[DescribedPage]:
    if page.dtype is None:
        raise Damaged(
            f"its pixels ({page.bitspersample} bits, sample format {page.sampleformat}) "
            "are of no type that is read"
        )
    planes, depth, rows, columns, inter = page.shaped
    rows_of = page.tilelength if page.is_tiled else page.rowsperstrip
    columns_of = page.tilewidth if page.is_tiled else columns
    if min(planes, depth, rows, columns, inter, rows_of, columns_of) < 1:
        raise Damaged(f"its page has shape {page.shape} and segments of {rows_of}x{columns_of}")
    samples = max(planes, inter)
    sparse = allow_sparse and not (all(page.dataoffsets) and all(page.databytecounts))
    raw = page.is_final and not sparse and not (depth > 1 and samples > 1)
    order = tif.byteorder if raw else "="
    layout = PageLayout(
        rows=rows,
        columns=columns,
        samples=samples if samples > 1 else 0,
        planar=planes > 1,
        dtype=np.dtype(page.dtype.char).newbyteorder(order).str,
        compression=int(page.compression),
        predictor=int(page.predictor),
        tiled=page.is_tiled and not raw,
        segment_rows=1 if raw else rows_of,
        segment_columns=columns if raw else columns_of,
        coding="raw" if raw else "general",
        extra=0 if raw else _checksum(tif, page),
        sparse=sparse,
    )
    if raw:
        start, step = page.dataoffsets[0], layout.nbytes
        if start < 8 or start + depth * step > size:
            raise Damaged(
                f"its pixels would lie at bytes {start} to {start + depth * step}, "
                f"but the file has {size} bytes; it is truncated"
            )
        return [DescribedPage(layout, page.offset, start + k * step) for k in range(depth)]
    if depth > 1:
        raise Damaged("its segments are volumes (ImageDepth tag), which are read only uncompressed")
    check_claims(layout, size)
    general_table(page, layout, size)
    return [DescribedPage(layout, page.offset, -1)]


def _checksum(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    """Give a number that is equal where tifffile would use the same decoder."""
    facts: list[Any] = [tif.byteorder, *page.shaped, page.bitspersample, int(page.sampleformat)]
    facts += [int(page.photometric), int(page.fillorder), int(page.planarconfig), page.nodata]
    facts += [tuple(map(int, page.extrasamples)), page.is_subsampled, page.is_jfif, tif.is_eer]
    facts += [page.tags.valueof(code) for code in (292, 65007, 65008, 65009)]
    return int.from_bytes(hashlib.blake2b(repr(facts).encode(), digest_size=6).digest(), "little")


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
