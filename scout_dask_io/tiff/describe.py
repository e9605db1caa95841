"""Describing TIFF files: headers are read and checked here, pixels never.

What there is to know about a TIFF file without reading its pixels.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import tifffile

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import named_channels
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import Option, joined, warn
from scout_dask_io.core.selection import ALL_PAGES, AS_IT_IS, Selection
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.errors import ArgumentError, PathNotFoundError, ScoutIOError, TiffReadError
from scout_dask_io.files.location import Location, locate_file
from scout_dask_io.files.pace import N_AT_ONCE, N_TIMED, Pace
from scout_dask_io.files.requests import WINDOW
from scout_dask_io.tiff._tifffile import series_pages
from scout_dask_io.tiff.file_set import find_set_of, has_index, names_others, open_alone
from scout_dask_io.tiff.ifd import Damaged, Header, Ifd, Window, describe_ifd, read_header, read_ifd
from scout_dask_io.tiff.image_record import ask
from scout_dask_io.tiff.metadata import Stated, stated_by, stated_in, stated_of
from scout_dask_io.tiff.open_file import OpenFile, opened
from scout_dask_io.tiff.page_layout import (
    DescribedPage,
    FileTable,
    PageLayout,
    SourceFile,
)
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.pending import PendingHeaders, find_files, sampled
from scout_dask_io.tiff.plane_map import FileSet
from scout_dask_io.tiff.range_reader import is_unreached
from scout_dask_io.tiff.series import (
    Headers,
    as_counted,
    check_counts,
    check_only_image,
    choose_series,
    describe_pages,
    describe_series,
    open_tiff,
    read_headers,
    series_of,
    warn_of_others,
    with_last_axis,
)
from scout_dask_io.tiff.set_source import describe_map
from scout_dask_io.tiff.source import TiffSource, token_of
from scout_dask_io.tiff.stack_check import (
    DescribedFile,
    Refused,
    Survey,
    filled_planes,
    refuse,
)

_T = TypeVar("_T")

#: Tags that say nothing about further pages or about another way to store pixels.
_PLAIN_TAGS = frozenset(
    {*range(254, 260), 262, 263, 266, *range(269, 275), *range(277, 290), 296, 297, 305, 306}
    | {315, 316, 317, 318, 319, 320, *range(322, 326), 338, 339, 340, 341, 347, 529, 530, 531, 532}
    | {700, 33432, 34665, 34675, 34377, 42112, 42113, 50838, 50839, 65000}
)
#: Files that one thread checks in one go: a thread switch costs as much as a file.
_BATCH = 64
# Threads that do so, where files wait for their disk, and not long.
_N_WORKERS = 8


def describe_plane(
    path: Any,
    selection: Selection = AS_IT_IS,
    *,
    asked: bool = False,
    whole: bool = False,
    file: SourceFile | None = None,
) -> DescribedFile:
    """Describe one file of a folder: its header is read and checked, no pixel is.

    OME metadata is not followed: in a folder, each file is what it holds; but if ``whole``,
    an image that lies in the file whole has the axes that its OME-XML states. If ``asked``, it
    says what it states beside its pixels, which takes longer than all the rest. What is known of
    the ``file`` is not asked of a store again.

    Raises
    ------
    TiffReadError
        If it is damaged or truncated, or holds pages that would not be read.
    """
    path = locate_file(path)
    with opened(path, file) as (fd, file):
        window = Window(fd, file.size)
        header = read_header(window, file.path)
        if header is not None:
            ifd = read_ifd(window, header, header.first)
            page = describe_ifd(ifd, window, selection.allow_sparse)
            if (
                page is not None
                and not selection.series
                and _is_only_page(ifd, window, page.layout)
            ):
                stated = None
                if asked:
                    stated = stated_by(fd, file, (), page.layout)
                    stated = replace(stated, names_others=names_others(window, header))
                return DescribedFile(file, (), (page,), stated)
            if whole and selection.pages != "all" and (own := _by_index(path, window, header)):
                return _member_of(file, path, own, selection)
        headers, series = read_headers(window, file, selection), selection.series or 0
        pages, stated = None, None
        if whole:
            with open_tiff(fd, file, _multifile=False) as tif:
                if _is_whole_ome(tif):
                    pages = _describe_pages_of(tif, file, headers, selection, is_ome=True)
                    if asked:
                        stated = stated_of(tif, pages[0], pages[1][0].layout, series)
        if pages is None:
            with open_tiff(fd, file, is_ome=False) as tif:
                pages = _describe_pages_of(tif, file, headers, selection, is_ome=False)
        lead, found = pages
        if asked:
            stated = stated or stated_by(fd, file, lead, found[0].layout, series)
            stated = _plain(stated, lead, found[0].layout) if selection.pages == "all" else stated
            told = selection.pages != "all" and names_others(window, header)
            stated = replace(stated, names_others=told)
        return DescribedFile(file, lead, found, stated)


def _describe_pages_of(
    tif: tifffile.TiffFile,
    file: SourceFile,
    headers: Headers,
    selection: Selection,
    *,
    is_ome: bool,
) -> tuple[Shape, tuple[DescribedPage, ...]]:
    """Describe the pages of a file that are read, and the axes that they lie along."""
    if selection.pages == "all":
        return describe_pages(tif, headers)
    chosen = choose_series(tif, file, selection.series or 0, 0, is_plane=True)
    check_counts(tif, headers)
    if selection.series is None:
        check_only_image(tif, file)
    lead, found = describe_series(tif, chosen, headers)
    return (lead, found) if is_ome or chosen.kind == "imagej" else as_counted(lead, found, headers)


def _by_index(path: Location, window: Window, header: Header) -> FileSet | None:
    """Give the set of a file that has all its planes itself, by an index of Micro-Manager's."""
    if not has_index(window):
        return None
    found = find_set_of(path, window, header)
    return found if found is not None and len(found.files) == 1 else None


def _member_of(
    file: SourceFile, path: Location, members: FileSet, selection: Selection
) -> DescribedFile:
    """Describe a file of a stack whose own index says what its pages are.

    Raises
    ------
    TiffReadError
        If it holds several positions, or not all planes that its summary counts.
    """
    image = members.images[0].squeezed()
    if "r" in image.axes:
        raise TiffReadError(
            f"{str(path)!r} holds {len(image.positions)} positions, each of which is an array of "
            "its own: put it in a folder of its own, which gives each by its name"
        )
    source = describe_map(
        path.parent, members, image, replace(selection, missing="error"), own=path.name
    )
    pages = [
        DescribedPage(source.layouts[layout], ifd, data)
        for _, layout, ifd, data in source.table.pages.reshape(-1, 4).tolist()
    ]
    return DescribedFile(file, image.shape, tuple(pages), source.stated)


def _is_whole_ome(tif: tifffile.TiffFile) -> bool:
    """Tell whether a file holds all pages of the image that its OME-XML describes."""
    if not tif.is_ome:
        return False
    series = ask(lambda: series_of(tif))
    if not series or series[0].kind != "ome":
        return False
    return len(series) == 1 and None not in series_pages(series[0])


def _is_only_page(ifd: Ifd, window: Window, layout: PageLayout) -> bool:
    """Tell whether a file surely holds one page and nothing else."""
    if ifd.next or not _PLAIN_TAGS.issuperset(ifd.entries) or ifd.one(254, window, 0):
        return False
    try:
        # The most that the strings below need; a description can be megabytes of XML.
        text = ifd.text(270, window)[:4000]
    except Damaged:
        return True  # a plane whose description cannot be read is a plane all the same
    if text.startswith("ImageJ="):
        counts = re.findall(r"^(?:images|channels|slices|frames)=(\d+)", text, re.MULTILINE)
        return all(int(n) == 1 for n in counts)
    if text.startswith('{"shape"'):
        try:
            return bool(math.prod(parse_json(text)["shape"]) == math.prod(layout.shape))
        except (ValueError, KeyError, TypeError):
            return False
    return not text.startswith("shape=")


def describe_planes(
    paths: Sequence[Any],
    nb_workers: int | None = None,
    selection: Selection = AS_IT_IS,
    *,
    lead: Shape | None = None,
    channels: Sequence[str] = (),
) -> TiffSource:
    """Describe files that stack along a new first axis, in the given order.

    Every header is read and checked, ``nb_workers`` at once; by default one after the other where
    files do not wait for their disk, and else 8 or, on a share, 16.
    Files may differ in compression, strips and byte order. Files of one page
    give ``(file, y, x)``, stacks of pages ``(file, page, y, x)``. ``lead``
    arranges the files in more axes than one, ``(channel, file)``, of which ``channels``
    are the names.
    With ``missing="fill"``, files that cannot be read, or differ from most, are
    planes of zeros, named in a warning and in the source's ``filled``. With ``check="first"``, the
    first header, the last and some between are read now, and each other before a pixel of its
    file is.

    Raises
    ------
    PathNotFoundError
        If no path is given, or a file is missing.
    ShapeMismatchError
        If files differ in shape or dtype.
    TiffReadError
        If a file is damaged, truncated or no regular file.
    """
    paths = [locate_file(p) for p in paths]
    survey = survey_planes(paths, nb_workers, selection, asked=True)
    stacked = (len(survey),) if lead is None else lead
    left_out = survey.check(selection.missing)
    files, layouts, table = survey.table(left_out)
    what = [f"planes {stacked}", *(f"{k}={v}" for k, v in selection.chosen)]
    what += [f"{place} {r.file} left out" for place, r in left_out.items()]
    pages = np.array(table, np.int64).reshape(
        *stacked, *(survey.kind.lead if survey.kind else ()), 4
    )
    stated = stated_by_first(paths, survey, left_out, selection) or Stated()
    if len(stacked) > 1:
        stated = replace(stated, channels=named_channels(stated.telling(channels)))
    return TiffSource(
        PageTable(FileTable.of(files), layouts, pages),
        token_of(files, "\n".join(what)),
        nb_workers=nb_workers,
        file_ndim=len(stacked),
        filled=filled_planes(left_out, stacked),
        options=paths[0].options,
        stated=stated,
        pending=pending_of(paths, survey, selection),
    )


def pending_of(
    paths: Sequence[Location], survey: Survey, selection: Selection, *, whole: bool = False
) -> PendingHeaders | None:
    """Give what the files of a stack must be whose headers are yet to be read, if any are."""
    if not survey.has_unread or survey.first is None:
        return None
    example = replace(survey.first, stated=None)
    describe = partial(describe_plane, selection=selection, whole=whole)
    return PendingHeaders(example, describe, paths[0].options)


def stated_by_first(
    paths: Sequence[Location],
    survey: Survey,
    left_out: Container[int],
    selection: Selection,
    *,
    whole: bool = False,
) -> Stated | None:
    """Give what the first file of a stack that is read states beside its pixels."""
    first = next(place for place in range(len(survey)) if place not in left_out)
    if first == 0:
        return survey.stated
    return describe_plane(paths[first], selection, asked=True, whole=whole).stated


def survey_planes(
    paths: Sequence[Any],
    nb_workers: int | None = None,
    selection: Selection = AS_IT_IS,
    *,
    asked: bool = False,
    whole: bool = False,
) -> Survey:
    """Read and check the header of every file of a stack, whatever is found; see :class:`Survey`.

    If ``asked``, the first says what it states beside its pixels; ``whole`` as for
    :func:`describe_plane`. With ``check="first"`` a few are read, and the others looked at; what
    the selection says is ``known`` is taken from there.

    Raises
    ------
    PathNotFoundError
        If no path is given.
    """
    paths = [locate_file(p) for p in paths]
    if not paths:
        raise PathNotFoundError("no files to read: the list of paths is empty")
    survey = Survey()
    describe = partial(describe_plane, selection=selection, whole=whole)
    known: list[DescribedFile | SourceFile | None] = [None] * len(paths)
    if selection.known:
        known = [selection.known.get((str(path), whole)) for path in paths]
        if asked:
            known[0] = None
    if selection.check == "first":
        now = sampled(len(paths))
        known = [None if k in now else f for k, f in enumerate(find_files(paths))]
    read = [path for path, file in zip(paths, known, strict=True) if file is None]
    found = _describe_all(read, nb_workers, describe, paths[0] if asked else None)
    for file in known:
        survey.add(next(found) if file is None else file)
    return survey


def _describe_all(
    paths: Sequence[Location],
    nb_workers: int | None,
    describe: Callable[..., DescribedFile],
    asked: Location | None,
) -> Iterator[DescribedFile | Refused]:
    batch = partial(_describe_batch, describe=describe, asked=asked)
    n_batch, workers = _BATCH, nb_workers or _N_WORKERS
    if paths and not paths[0].on_disk:
        # They wait for the store alone.
        n_batch, workers = 1, (nb_workers or WINDOW) if paths[0].serves_threads else 1
    else:
        # Whether they wait for a share is told by the first.
        first, paths = paths[:N_TIMED], paths[N_TIMED:]
        pace = Pace()
        for path in first:
            began = time.perf_counter()
            yield from batch([path])
            pace.note(time.perf_counter() - began)
        if pace.is_slow:
            workers = nb_workers or N_AT_ONCE
            n_batch = max(1, min(_BATCH, len(paths) // (2 * workers)))
        elif nb_workers is None:
            # Python parses one at a time: threads are of use once files wait for a disk.
            waits = False
            while paths and not waits:
                first, paths = paths[:n_batch], paths[n_batch:]
                described, waits = _waits(partial(batch, first))
                yield from described
    batches = [paths[k : k + n_batch] for k in range(0, len(paths), n_batch)]
    workers = min(workers, len(batches))
    for found in work_ahead(batch, batches, workers, 2 * workers if workers > 1 else 1):
        yield from found


def _waits(work: Callable[[], _T]) -> tuple[_T, bool]:
    """Give what a work gives, and whether it took twice as long as it worked."""
    began_s, worked_s = time.perf_counter(), time.thread_time()
    found = work()
    took_s, worked_s = time.perf_counter() - began_s, time.thread_time() - worked_s
    return found, took_s > 2 * worked_s


def _describe_batch(
    paths: Iterable[Location], describe: Callable[..., DescribedFile], asked: Location | None
) -> list[DescribedFile | Refused]:
    return [_describe_or_refuse(path, describe, path is asked) for path in paths]


def _describe_or_refuse(
    path: Location, describe: Callable[..., DescribedFile], asked: bool
) -> DescribedFile | Refused:
    try:
        return describe(path, asked=asked)
    except ScoutIOError as err:
        # A store that does not answer after all tries would not for ten thousand files more.
        if not path.on_disk and is_unreached(err):
            raise
        return refuse(path, err)


def describe_image(path: Any, selection: Selection = AS_IT_IS, level: int = 0) -> TiffSource:
    """Describe one image of a TIFF file: a series, at a resolution level.

    With ``pages="all"`` that is every page of it, one after the other, whatever its metadata
    count; with ``"counted"`` what they count, though there are more. An image that lies in
    several files is described as one; ``missing="fill"`` has zeros where some of them lack.

    Raises
    ------
    ArgumentError
        If the file has no such series or level.
    TiffReadError
        If it is damaged, or the files that it belongs to lack planes.
    """
    path = locate_file(path)
    selection.check_level(level)
    series, is_alone = selection.series or 0, selection.pages == "all"
    with opened(path) as (fd, file):
        window = Window(fd, file.size)
        members = set_of(path, window, selection)
        if members is not None and not is_alone:
            return describe_member(path, members, selection, level)
        with looked_at(fd, file, window, selection) as (tif, headers):
            lead, found = pages_of(tif, headers, level)
            if not series and not is_alone:
                warn_of_others(tif, file.path)
            stated = stated_alone(fd, tif, headers, lead, found[0].layout, level)
    if members is not None and len(members.files) > 1:
        warn(
            f"{file.path!r} is {one_of(members)}, and its own pages alone are read. Without "
            + ALL_PAGES
            + " that is the image, of whichever files; and its folder gives all that the set holds."
        )
    layouts: dict[PageLayout, int] = {}
    table = [(0, layouts.setdefault(p.layout, len(layouts)), p.ifd, p.data) for p in found]
    what = [f"series {series} level {level}"]
    what += [] if selection.pages is None else [f"pages={selection.pages}"]
    pages = np.array(table, np.int64).reshape(*lead, 4)
    return TiffSource(
        PageTable(FileTable.of([file]), tuple(layouts), pages),
        token_of([file], "\n".join(what)),
        options=path.options,
        stated=stated,
    )


def set_of(path: Location, window: Window, selection: Selection) -> FileSet | None:
    """Give the set that an open file belongs to; of one that is read alone, if that can be told.

    Raises
    ------
    TiffReadError
        If it is of a set whose planes cannot be told.
    """
    try:
        return find_set_of(path, window, read_header(window, str(path)))
    except (ScoutIOError, Damaged):
        if selection.pages == "all":
            return None
        raise


def one_of(members: FileSet) -> str:
    """Say of how many files of which kind a file is one."""
    return f"one of {len(members.files):,} files of {members.kind}"


def describe_member(
    path: Location, members: FileSet, selection: Selection, level: int = 0
) -> TiffSource:
    """Describe one image of the set that a file belongs to.

    Raises
    ------
    ArgumentError
        If the set has no such series.
    """
    images, series = members.images, selection.series or 0
    if series >= len(images):
        raise ArgumentError(f"{str(path)!r} has no series {series}; it has {_images_of(members)}")
    own = members.series_of(path.name)
    if series == 0 and len(images) > 1:
        text: str = f"{str(path)!r} is {one_of(members)}, which holds {_images_of(members)}; "
        if 0 in own:
            text += "this is series 0. Pass " + Option("series", 1) + " and so on for the others"
        else:
            text += "this is series 0, which lies in other files, and its own is "
            text += Option("series", own[0] if own else 1)
        warn(text + "; the folder gives each by its name.")
    image = images[series].squeezed()
    return describe_map(path.parent, members, image, selection, own=path.name, level=level)


def _images_of(members: FileSet) -> str:
    shown = joined(", ", (f"{k}: {one.name!r}" for k, one in enumerate(members.images)), 8)
    return f"{len(members.images)} series ({shown})"


def survey_image(path: Location, selection: Selection = AS_IT_IS) -> Survey:
    """Look at one file as :func:`describe_image` does, whatever is found; see :class:`Survey`.

    Raises
    ------
    ArgumentError
        If the file has no such series.
    """
    survey = Survey()
    try:
        source = describe_image(path, selection)
    except ArgumentError:
        raise
    except ScoutIOError as err:
        survey.add(refuse(path, err))
        return survey
    table = source.table.pages
    described = [
        DescribedPage(source.layouts[layout], ifd, data)
        for _, layout, ifd, data in table.reshape(-1, 4).tolist()
    ]
    survey.add(DescribedFile(source.files[0], table.shape[:-1], tuple(described)))
    return survey


@contextmanager
def looked_at(
    fd: OpenFile, file: SourceFile, window: Window, selection: Selection
) -> Iterator[tuple[tifffile.TiffFile, Headers]]:
    """Let tifffile look at an open file as its metadata have it, or for its pages alone."""
    headers = read_headers(window, file, selection)
    how = (
        open_tiff(fd, file, is_ome=False)
        if selection.pages == "all"
        else open_alone(fd, file, window, headers.header)
    )
    with how as tif:
        yield tif, headers


def pages_of(
    tif: tifffile.TiffFile, headers: Headers, level: int = 0
) -> tuple[Shape, tuple[DescribedPage, ...]]:
    """Give leading axes and pages of an image of a file that holds all of them."""
    selection = headers.selection
    if selection.pages == "all":
        return describe_pages(tif, headers)
    series = choose_series(tif, headers.file, selection.series or 0, level)
    check_counts(tif, headers)
    lead, found = describe_series(tif, series, headers)
    return with_last_axis(series.shape, lead, found)


def stated_alone(
    fd: OpenFile,
    tif: tifffile.TiffFile,
    headers: Headers,
    lead: Shape,
    layout: PageLayout,
    level: int = 0,
) -> Stated:
    """Give what a file that is read by its own metadata states of an image.

    Nothing is to be asked of ``tif`` after it: where it was opened for its pages alone, the
    metadata take another look at the file.
    """
    if headers.selection.pages == "all":
        return _plain(stated_by(fd, headers.file, lead, layout), lead, layout)
    series = headers.selection.series or 0
    stated = stated_in(tif, lead, layout, series=series, level=level)
    return stated if stated.axes else _plain(stated, lead, layout)


def _plain(stated: Stated, lead: Shape, layout: PageLayout) -> Stated:
    """Give what a file states of pages that are not as its metadata say.

    Letters that mean nothing count them, and of channels nothing is known.
    """
    axes = "q" * len(lead) + "yxs"[: len(layout.shape)]
    return replace(stated, axes=axes, channels=(), record={})
