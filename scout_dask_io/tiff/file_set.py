"""Images whose pages lie in several files of one folder: OME-TIFF, Micro-Manager and NDTiff.

tifffile arranges the pages, by the UUIDs and file names of OME-XML or by the index of the
data set; here each page is described in the file that holds it. Files are looked for beside
the one that was opened, wherever the program runs, and nowhere else.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from xml.etree import ElementTree

import tifffile

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.selection import ALL_PAGES, COUNTED_PAGES, Selection
from scout_dask_io.errors import PathNotFoundError, TiffReadError
from scout_dask_io.files.location import locate_file
from scout_dask_io.tiff._tifffile import read_ndtiff_index, series_pages, silenced
from scout_dask_io.tiff.ifd import Damaged, Window, describe_ifd, read_header, read_ifd
from scout_dask_io.tiff.open_file import OpenFile, opened
from scout_dask_io.tiff.page_layout import DescribedPage, SourceFile
from scout_dask_io.tiff.series import open_tiff


@contextmanager
def open_whole(fd: OpenFile, file: SourceFile, *, on_disk: bool) -> Iterator[tifffile.TiffFile]:
    """Let tifffile look at an open file, and at those beside it where they make a set.

    Raises
    ------
    PathNotFoundError, TiffReadError
        If files of the set are missing, or lie outside of the folder.
    """
    with open_tiff(fd, file, _multifile=False, is_mmstack=None, is_ndtiff=None) as tif:
        name = _name_to_open(tif, file, on_disk=on_disk)
        if not name:
            yield tif
            return
    if name != file.path:
        with open_tiff(fd, file, name=name) as tif:
            yield tif
        return
    with silenced(), tifffile.TiffFile(os.path.abspath(file.path)) as tif:
        yield tif


def _name_to_open(tif: tifffile.TiffFile, file: SourceFile, *, on_disk: bool) -> str:
    """Give the name by which a file knows itself; its path where it belongs to a set of files.

    Empty where it is a file by itself.

    Raises
    ------
    PathNotFoundError
        If OME-XML names files that are not there; the message names them.
    TiffReadError
        If it names files outside of the folder.
    """
    folder, own = os.path.split(file.path)
    if tif.is_ome:
        names = _names_in_ome(tif)
        if names is None:
            return ""
        others = sorted(n for n in names if n.lower() != own.lower())
        if not others:
            return ""
        _check_names(others, f"the OME-XML of {file.path!r}")
        lacking = _lacking(folder, others) if on_disk else others
        if len(names) == 1 and lacking:
            return others[0]  # one file that was renamed
        if lacking and on_disk:
            raise _not_beside(file, lacking, len(names | {own}), "an OME-TIFF")
        return file.path if on_disk else ""
    if on_disk and (tif.is_mmstack or _has_index(tif, file)):
        return file.path
    return ""


def _has_index(tif: tifffile.TiffFile, file: SourceFile) -> bool:
    """Tell whether the index of an NDTiff data set lies beside a file of it."""
    folder = os.path.dirname(file.path)
    index = os.path.join(folder, "NDTiff.index")
    meta = tif.micromanager_metadata or {}
    if meta.get("MajorVersion", 0) < 2 or not os.path.isfile(index):
        return False
    names = {str(entry[1]) for entry in read_ndtiff_index(index)}
    _check_names(names, repr(index))
    if lacking := _lacking(folder, sorted(names)):
        raise _not_beside(file, lacking, len(names), "an NDTiff data set")
    return True


def _check_names(names: Iterable[str], who: str) -> None:
    """Refuse names of files that lead out of a folder; ``who`` has them."""
    strange = [n for n in names if n in (".", "..") or "/" in n or "\\" in n]
    if strange:
        raise TiffReadError(
            f"{who} names files outside of its folder: {', '.join(map(repr, strange[:3]))}; only "
            "files beside it are read"
        )


def _lacking(folder: str, names: Iterable[str]) -> list[str]:
    return [n for n in names if not os.path.isfile(os.path.join(folder, n))]


def _not_beside(
    file: SourceFile, lacking: Sequence[str], n_files: int, what: str
) -> PathNotFoundError:
    """Give the error of a set of which files are missing."""
    shown = ", ".join(map(repr, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
    return PathNotFoundError(
        f"{file.path!r} is one of {n_files} files of {what}, of which {len(lacking)} are not "
        f"beside it: {shown}. Put them there, or " + ALL_PAGES + " reads the pages of this file "
        "alone."
    )


def _names_in_ome(tif: tifffile.TiffFile) -> set[str] | None:
    """Give the files that OME-XML names, ``None`` where it is no description of pages."""
    try:
        root = ElementTree.fromstring(tif.ome_metadata or "")
    except ElementTree.ParseError:
        return None
    found = [e.get("FileName") for e in root.iter() if e.tag.endswith("}UUID")]
    return {name for name in found if name}


def check_summary(
    tif: tifffile.TiffFile, file: SourceFile, shape: Shape, pages: str | None
) -> None:
    """Refuse a part of a Micro-Manager data set that looks like the whole.

    Raises
    ------
    TiffReadError
        If its summary counts more planes than the files beside it hold.
    """
    meta = tif.micromanager_metadata
    summary = (meta or {}).get("Summary", {})
    counts = [int(summary.get(k) or 1) for k in ("Frames", "Slices", "Channels", "Positions")]
    expected, there = math.prod(counts), math.prod(shape[:-2])
    if there < expected and pages != "counted":
        raise TiffReadError(
            f"{file.path!r} is a part of a Micro-Manager data set of {expected} planes, of which "
            f"{there} are in it and the files beside it: other files of the set are missing, or "
            "the acquisition was stopped. " + COUNTED_PAGES + " reads those that its index "
            "has, " + ALL_PAGES + " the pages of this file one after the other."
        )


def is_set(series: tifffile.TiffPageSeries) -> bool:
    """Tell whether pages lie in several files, or are listed by an index alone."""
    listed = [p for p in series_pages(series) if p is not None]
    return len({id(p.parent) for p in listed}) > 1 or any(not p.offset for p in listed)


def describe_set(
    series: tifffile.TiffPageSeries, file: SourceFile, selection: Selection
) -> tuple[Shape, list[SourceFile], list[tuple[int, DescribedPage]]]:
    """Give leading axes, files and, in order, the pages of a series, each with its file's number.

    Raises
    ------
    TiffReadError
        If a page is in no file, or a file lies in another folder.
    Damaged
        If a page does not fit the others or its file.
    """
    pages = series_pages(series)
    lacking = pages.count(None)
    if lacking:
        raise TiffReadError(
            f"{file.path!r} belongs to a set of files that lacks {lacking} of its {len(pages)} "
            "pages. " + ALL_PAGES + " reads the pages of this file alone."
        )
    own = os.path.dirname(os.path.abspath(file.path))
    places: dict[str, list[int]] = defaultdict(list)
    for number, page in enumerate(pages):
        path = os.path.abspath(page.parent.filehandle.path)
        if os.path.dirname(path) != own:
            raise TiffReadError(
                f"{file.path!r} names {path!r}, which is not in its folder; only files beside it "
                "are read"
            )
        places[path].append(number)
    files: list[SourceFile] = []
    found: list[tuple[int, DescribedPage]] = [None] * len(pages)  # type: ignore[list-item]
    for path, numbers in places.items():
        with opened(locate_file(path)) as (fd, member):
            window = Window(fd, member.size)
            header = read_header(window)
            for number in numbers:
                page = pages[number]
                at = page.offset or page.keyframe.offset
                one = None
                if header is not None:
                    one = describe_ifd(read_ifd(window, header, at), window, selection.allow_sparse)
                if one is None:
                    raise Damaged(f"page {number} is of a kind that is not read in sets of files")
                if not page.offset:
                    one = _at(one, int(page.dataoffsets[0]), member)
                found[number] = len(files), one
            files.append(member)
    first = found[0][1].layout
    for number, (_, other) in enumerate(found):
        if (other.layout.shape, other.layout.dtype[1:]) != (first.shape, first.dtype[1:]):
            raise Damaged(f"page {number} is {other.layout.shape}, page 0 is {first.shape}")
    shape = tuple(series.shape)
    lead = shape[: len(shape) - len(first.shape)]
    if shape[len(lead) :] != first.shape or math.prod(lead) != len(found):
        raise Damaged(f"its metadata say shape {shape}, which {len(found)} pages do not have")
    return lead, files, found


def _at(page: DescribedPage, data: int, file: SourceFile) -> DescribedPage:
    """Give a page as another one of its file, whose pixels lie where an index says."""
    if page.data < 0:
        raise Damaged("its index lists pages that are not raw")
    if data < 8 or data + page.layout.nbytes > file.size:
        raise Damaged(
            f"its index has a page at byte {data} of {file.path!r}, which has {file.size} bytes; "
            "it is truncated"
        )
    return DescribedPage(page.layout, page.ifd, data)
