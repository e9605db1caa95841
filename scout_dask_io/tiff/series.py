"""Which pages of a file make an image: tifffile's series, turned into page tables.

Pages that only tifffile understands: their segments and their decoder.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tifffile

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.messages import Option, joined, message_of, warn
from scout_dask_io.core.selection import ALL_PAGES, Selection
from scout_dask_io.errors import ArgumentError, TiffReadError
from scout_dask_io.tiff._tifffile import page_at, series_pages, silenced
from scout_dask_io.tiff.ifd import (
    GDAL_NODATA,
    Damaged,
    Header,
    Window,
    check_claims,
    check_segments,
    describe_ifd,
    hole_of,
    read_header,
    read_ifd,
)
from scout_dask_io.tiff.image_record import ask
from scout_dask_io.tiff.ome_xml import let_go, local_name, ome_root
from scout_dask_io.tiff.open_file import OpenFile, SegmentTable
from scout_dask_io.tiff.page_chain import (
    PageChain,
    check_chain,
    check_ome_claims,
    miscounted,
    own_count,
    walk_chain,
)
from scout_dask_io.tiff.page_layout import DescribedPage, PageLayout, SourceFile
from scout_dask_io.tiff.range_reader import Handle


@dataclass(frozen=True, slots=True)
class Headers:
    """What is read of an open file before tifffile looks at it, and what is wanted of it.

    ``header`` and ``chain`` are ``None`` where tifffile alone knows the directories.
    """

    file: SourceFile
    window: Window
    header: Header | None
    chain: PageChain | None
    selection: Selection


def read_headers(window: Window, file: SourceFile, selection: Selection) -> Headers:
    """Follow the chain of a file's directories.

    Raises
    ------
    Damaged
        If it goes astray, unless whatever pages there are have been asked for.
    """
    header, chain = read_header(window, file.path), None
    if header is not None:
        chain = walk_chain(window, header)
        if selection.pages != "all" and chain.trouble:
            check_chain(chain, read_ifd(window, header, header.first), window)
    return Headers(file, window, header, chain, selection)


def choose_series(
    tif: tifffile.TiffFile, file: SourceFile, series: int, level: int, *, is_plane: bool = False
) -> tifffile.TiffPageSeries:
    """Give a series of a file at a resolution level.

    A file that is one plane of several may hold one page and tell of more: the description of
    a whole stack stays on its first plane where the stack is split.

    Raises
    ------
    ArgumentError
        If there is no such series or level; the message lists what there is.
    TiffReadError
        If the file has no page, or says that it holds pages which it does not.
    """
    found = series_of(tif)
    if not found or not len(tif.pages):
        raise Damaged("it has no pages")
    if tif.is_ome and found[0].kind != "ome":
        _refuse_split_ome(tif, file)
    _check_promises(tif, found, file.size if is_plane else -1)
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


def series_of(tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """Give the series of a file as tifffile arranges them, if it counts what a file may hold.

    Raises
    ------
    Damaged
        If its OME-XML counts planes beyond reason.
    """
    if "series" not in vars(tif) and tif.is_ome and len(tif.pages):
        page = tif.pages.first
        # What is no XML counts nothing; tifffile says what is wrong.
        root = ask(lambda: ome_root(tif))
        if root is not None:
            check_ome_claims(root, len(tif.pages), page.imagelength * page.imagewidth)
    found: list[tifffile.TiffPageSeries] = tif.series
    return found


def warn_of_others(tif: tifffile.TiffFile, path: str) -> None:
    """Warn where a file holds more than one series, and say how to get the others.

    Thumbnails and reduced resolutions are no images that anybody would miss.
    """
    if _extra_series(tif):
        first = "series 0"
        if tif.series[0].keyframe.is_reduced:
            first += ", which the file calls a reduced image, a thumbnail"
        warn(
            f"{path!r} holds {len(tif.series)} series ({_listing(tif.series)}); this is {first}. "
            + Option("series", _extra_series(tif)[0])
            + " and so on for the others."
        )


def _listing(found: list[tifffile.TiffPageSeries]) -> str:
    return joined(", ", (f"{k}: {s.shape} {s.dtype}" for k, s in enumerate(found)), 8)


def _extra_series(tif: tifffile.TiffFile) -> list[int]:
    """Give the numbers of full-resolution images beside the first series.

    Thumbnails and reduced resolutions do not count.
    """
    return [k for k, s in enumerate(tif.series) if k and not s.keyframe.is_reduced]


def check_only_image(tif: tifffile.TiffFile, file: SourceFile) -> None:
    """Refuse a file of several images; thumbnails after the first do not count.

    Raises
    ------
    TiffReadError
        If there are more; the message has their shapes, and what chooses one of each file.
    """
    extra = _extra_series(tif)
    if not extra:
        return
    found = series_of(tif)
    first, choice, which = "the first", 0, "the first"
    if found[0].keyframe.is_reduced:
        first, choice, which = "a thumbnail that comes first,", extra[0], "the image"
    raise TiffReadError(
        f"{file.path!r} holds {len(extra)} more image(s) beside {first} {found[0].shape}: "
        f"{', '.join(str(found[k].shape) for k in extra)}. One image a file was expected; "
        + Option("series", choice)
        + f" takes {which} of each."
    )


def _refuse_split_ome(tif: tifffile.TiffFile, file: SourceFile) -> None:
    """Refuse an OME-TIFF whose metadata names other files: they would be read unasked."""
    own = os.path.basename(file.path).lower()
    root = ask(lambda: ome_root(tif))
    if root is None:
        return
    companions = [e.get("MetadataFile") for e in root.iter() if local_name(e) == "BinaryOnly"]
    if companions:
        warn(
            f"{file.path!r} holds pages alone; its metadata lie in {companions[0]!r}, which is "
            "not read: the pages come one after the other."
        )
    names = [e.get("FileName") for e in root.iter() if local_name(e) == "UUID"]
    others = sorted({n for n in names if n and n.lower() != own})
    if others:
        shown = joined(", ", map(repr, others), 3)
        raise TiffReadError(
            f"{file.path!r} is one of several files of an OME-TIFF; its metadata names "
            f"{len(others)} other(s): {shown}. " + ALL_PAGES + " reads the pages of this one alone."
        )


def _holds_one_page(tif: tifffile.TiffFile, size: int) -> bool:
    """Tell whether a file has no more bytes than its only page and directory account for."""
    page = tif.pages.first
    ends = [page.offset + 18 + 20 * len(page.tags)]
    ends += [tag.valueoffset + tag.valuebytecount for tag in page.tags]
    ends += [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
    return size <= max(ends) + 16


def _check_promises(
    tif: tifffile.TiffFile, found: list[tifffile.TiffPageSeries], plane_nbytes: int
) -> None:
    """Refuse files whose metadata promises more pages than tifffile could arrange.

    ``plane_nbytes`` is the size of a file that may be the first plane of a stack, else -1.
    """
    meta = tif.imagej_metadata if tif.is_imagej else None
    if meta and found[0].kind not in ("imagej", "ome", "shaped"):
        promised, there = int(meta.get("images", 1)), len(tif.pages)
        # One page and nothing else is the first plane of a stack that was split.
        whole = there == 1 and plane_nbytes > 0 and _holds_one_page(tif, plane_nbytes)
        if promised > there and not whole:
            raise miscounted("ImageJ's description", promised, there)
    if tif.is_shaped and found[0].kind != "shaped":
        shaped = tif.shaped_metadata
        first = shaped[0].get("shape") if shaped else None
        if first and math.prod(first) > sum(math.prod(s.shape) for s in found):
            raise Damaged(
                f"it says that it holds an array of shape {tuple(first)}; it is truncated. "
                + ALL_PAGES
                + " reads the pages that are there"
            )


def check_counts(tif: tifffile.TiffFile, headers: Headers) -> None:
    """Refuse a file that has other pages than its metadata count; of others than planes, warn.

    Nothing is asked where those which are counted are wanted.

    Raises
    ------
    Damaged
        If there are pages left of which ImageJ or OME-XML know nothing, and they are like
        those of the first series.
    """
    header, chain, window = headers.header, headers.chain, headers.window
    found = series_of(tif)
    if chain is None or header is None or headers.selection.pages == "counted" or not found:
        return
    who = _COUNTING.get(found[0].kind)
    if who is None:
        return
    first = found[0].keyframe
    if found[0].kind == "imagej":
        counted = max(math.prod(found[0].shape) // max(math.prod(first.shape), 1), 1)
        left = list(chain.offsets[counted:])
    else:
        listed = {
            p.offset for s in found for n in s.levels for p in series_pages(n) if p is not None
        }
        left = [at for at in chain.offsets if at not in listed]
    if not left:
        return
    counted = len(chain) - len(left)
    ifd = read_ifd(window, header, left[0])
    extent = ifd.one(257, window, 0), ifd.one(256, window, 0)
    bits, kind = ifd.ints(258, window, (1,))[0], ifd.one(339, window, 1)
    alike = extent == (first.imagelength, first.imagewidth) and bits == first.bitspersample
    if alike and kind == int(first.sampleformat) and not ifd.one(254, window, 0) & 1:
        raise miscounted(who, counted, len(chain))
    warn(
        f"{headers.file.path!r}: {who} counts {counted:,} pages, and the file has {len(chain):,}; "
        "the others are of another kind, and are not read. "
        + ALL_PAGES
        + " tells what they are like."
    )


def as_counted(
    lead: Shape, pages: tuple[DescribedPage, ...], headers: Headers
) -> tuple[Shape, tuple[DescribedPage, ...]]:
    """Hold a stack that is read as it lies against what OME-XML counts, if that is of it alone.

    A single page may tell of a whole stack, and a file of a set of all files.

    Raises
    ------
    Damaged
        If there are other pages than that; the message has both numbers.
    """
    chain, header = headers.chain, headers.header
    if chain is None or header is None or lead != (len(chain),):
        return lead, pages
    ifd = read_ifd(headers.window, header, header.first)
    counted = own_count(ifd, headers.window, os.path.basename(headers.file.path))
    if counted is None or counted == len(pages):
        return lead, pages
    if headers.selection.pages != "counted" or counted > len(pages):
        raise miscounted("OME-XML", counted, len(pages))
    return ((counted,) if counted > 1 else ()), pages[:counted]


#: Kinds of series whose metadata count the pages of the whole file.
_COUNTING = {"imagej": "ImageJ's description", "ome": "OME-XML"}


def describe_pages(
    tif: tifffile.TiffFile, headers: Headers
) -> tuple[Shape, tuple[DescribedPage, ...]]:
    """Give all pages of a file one after the other, whatever its metadata say of them.

    Thumbnails do not count, nor do pages that are cut at the end of the file: a warning tells.

    Raises
    ------
    Damaged
        If there is none, if they differ, or one that is followed by others cannot be read.
    """
    chain = headers.chain
    if chain is None:  # tifffile alone knows its directories
        chain = PageChain(tuple(page.offset for page in tif.pages))
    told = [f"{chain.trouble}; what comes after is lost"] if chain.trouble else []
    described: list[DescribedPage] = []
    usual: PageLayout | None = None
    n_small = 0
    for number, offset in enumerate(chain.offsets):
        try:
            pages = _describe_page(tif, offset, headers)
        except Damaged as err:
            if not described or number < len(chain) - 1:
                raise Damaged(f"page {number} of {len(chain)}: " + message_of(err)) from err
            told.append(f"page {number}, its last, is left out: {err}")
            break
        layout = pages[0].layout
        usual = usual or layout
        if (layout.shape, layout.dtype[1:]) != (usual.shape, usual.dtype[1:]):
            if page_at(tif, offset).is_reduced:
                n_small += 1
                continue
            raise Damaged(
                f"page {number} is {layout.shape} {np.dtype(layout.dtype)}, and page 0 is "
                f"{usual.shape} {np.dtype(usual.dtype)}: they are no one stack; "
                + Option("series", 1)
                + " and so on give those that are alike"
            )
        described += pages
    if not described:
        raise Damaged("it has no pages")
    if n_small:
        told.append(f"{n_small:,} thumbnails among its pages are left out")
    if told:
        what = "; ".join([f"{len(described):,} pages are read", *told])
        warn(f"{headers.file.path!r}: {what}")
    return ((len(described),) if len(described) > 1 else ()), tuple(described)


def describe_series(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, headers: Headers
) -> tuple[Shape, tuple[DescribedPage, ...]]:
    """Give the leading axes of a series and its pages, in order.

    Raises
    ------
    Damaged
        If pages are missing, differ, or lie outside of the file.
    """
    file, pages = headers.file, series_pages(series)
    listed = [p for p in pages if p is not None]
    missing = len(pages) - len(listed)
    if missing or not listed:
        raise TiffReadError(
            f"{file.path!r} lacks {missing} of the {len(pages)} pages that its metadata name; "
            f"it has {len(listed)} of them. " + ALL_PAGES + " reads the pages that are there."
        )
    if series.kind == "imagej" and len(listed) > 1:
        # Where pages follow that it does not count, tifffile lists them all the same.
        listed = listed[: max(math.prod(series.shape) // math.prod(series.keyframe.shape), 1)]
    if series.transform is not None:
        raise Damaged(f"its {series.kind} pixels need a transformation that is not supported")
    described: list[DescribedPage] = []
    for page in listed:
        described += _describe_page(tif, page.offset, headers)
    first = described[0].layout
    for number, other in enumerate(described):
        a, b = np.dtype(first.dtype), np.dtype(other.layout.dtype)
        if other.layout.shape != first.shape or a.newbyteorder("=") != b.newbyteorder("="):
            raise Damaged(
                f"page {number} of the series is {other.layout.shape} {b}, "
                f"page 0 is {first.shape} {a}"
            )
    if len(listed) == 1 and series.dataoffset is not None and first.coding == "raw":
        described = _virtual_pages(series, described, file.size)
    if series.kind == "scanimage" and _n_stated(series.shape, first) != len(described):
        warn(
            f"{file.path!r}: the {len(described)} pages do not fill the {series.shape} "
            f"({series.axes}) that ScanImage states; they are read one after the other."
        )
        return (len(described),), tuple(described)
    lead = _leading_axes(series.shape, series.axes, first, len(described))
    return lead, tuple(described)


def with_last_axis(
    shape: Shape, lead: Shape, pages: tuple[DescribedPage, ...]
) -> tuple[Shape, tuple[DescribedPage, ...]]:
    """Give leading axes and pages with the last axis of one element that a series has, if it does.

    A page has no room for it: what was ``(y, x, 1)`` is known by the description alone.
    """
    page = pages[0].layout.shape
    if len(page) != 2 or shape[-3:] != (*page, 1) or math.prod(shape[:-3]) != len(pages):
        return lead, pages
    if shape[-2:] == page and math.prod(shape[:-2]) == len(pages):
        return lead, pages
    layouts = {p.layout: replace(p.layout, samples=1) for p in pages}
    return shape[:-3], tuple(replace(p, layout=layouts[p.layout]) for p in pages)


def _n_stated(shape: Shape, layout: PageLayout) -> int:
    return math.prod(shape) // max(math.prod(layout.shape), 1)


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
            f"its {count} pages end at byte {end}, but the file has {size} bytes; it is truncated. "
            + ALL_PAGES
            + " reads the one page that has a directory"
        )
    step = first.layout.nbytes
    return [DescribedPage(first.layout, first.ifd, first.data + k * step) for k in range(count)]


def _leading_axes(shape: Shape, axes: str, layout: PageLayout, n_pages: int) -> Shape:
    page: Shape = layout.shape
    if layout.planar:
        page = (layout.samples, layout.rows, layout.columns)
        at = axes.rfind("S", 0, len(shape) - 3)
        if at >= 0 and shape[at] == layout.samples and shape[-2:] == page[1:]:
            # Of volumes the planes come after the samples.
            shape = (*shape[:at], *shape[at + 1 : -2], *page)
    lead = shape[: len(shape) - len(page)]
    if shape[len(lead) :] != page:
        lead = (n_pages,) if n_pages > 1 else ()
    if math.prod(lead) != n_pages:
        raise Damaged(
            f"its metadata says shape {shape}, which needs {math.prod(lead)} pages of "
            f"{page}; it has {n_pages}. " + ALL_PAGES + " reads these one after the other"
        )
    return lead


def _describe_page(tif: tifffile.TiffFile, offset: int, headers: Headers) -> list[DescribedPage]:
    """Describe the page at an offset, by the compact reader or else by tifffile."""
    window, header = headers.window, headers.header
    allow_sparse = headers.selection.allow_sparse
    if header is not None:
        page = describe_ifd(read_ifd(window, header, offset), window, allow_sparse)
        if page is not None:
            return [page]
    return _describe_by_tifffile(tif, page_at(tif, offset), window.size, allow_sparse)


def describe_page_at(
    tif: tifffile.TiffFile, offset: int, window: Window, allow_sparse: bool = False
) -> DescribedPage:
    """Describe the page at an offset as tifffile sees it.

    Raises
    ------
    Damaged
        If its pixels are of no kind that is read, or lie outside of the file.
    """
    found = _describe_by_tifffile(tif, page_at(tif, offset), window.size, allow_sparse)
    if len(found) != 1:
        raise Damaged("its pages are volumes, which are not read in sets of files")
    return found[0]


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
        depth=1 if raw else depth,
        segment_depth=page.tiledepth if page.is_tiled and not raw else 1,
    )
    if sparse:
        layout = replace(layout, hole=hole_of(str(page.tags.valueof(GDAL_NODATA, "")), layout))
    if raw:
        start, step = page.dataoffsets[0], layout.nbytes
        if start < 8 or start + depth * step > size:
            raise Damaged(
                f"its pixels would lie at bytes {start} to {start + depth * step}, "
                f"but the file has {size} bytes; it is truncated"
            )
        return [DescribedPage(layout, page.offset, start + k * step) for k in range(depth)]
    if not (all(page.dataoffsets) and all(page.databytecounts)):
        general_table(page, layout, size)  # its error says what to do
    check_claims(layout, size)
    general_table(page, layout, size)
    return [DescribedPage(layout, page.offset, -1 - k) for k in range(depth)]


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
    # By itself a handle has no folder: tifffile would look for files of a set where the program
    # runs, and take pages of others for those of this one.
    how = {"name": os.path.basename(file.path), "is_mmstack": False, "is_ndtiff": False}
    with (
        silenced(),
        _as_python_has_it(fd) as handle,
        tifffile.TiffFile(handle, **{**how, **options}) as tif,
    ):
        try:
            yield tif
        finally:
            let_go(tif)


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
