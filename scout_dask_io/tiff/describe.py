"""Describing TIFF files: headers are read and checked here, pixels never.

What there is to know about a TIFF file without reading its pixels.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tifffile

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.messages import Option, warn
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.core.voxel_size import merge_sizes
from scout_dask_io.errors import ArgumentError, PathNotFoundError, ScoutIOError, TiffReadError
from scout_dask_io.files.location import Location, locate_file
from scout_dask_io.tiff._tifffile import series_pages
from scout_dask_io.tiff.file_set import check_summary, describe_set, is_set, open_whole
from scout_dask_io.tiff.ifd import Damaged, Header, Ifd, Window, describe_ifd, read_header, read_ifd
from scout_dask_io.tiff.metadata import Stated, ask, stated_by, stated_in
from scout_dask_io.tiff.open_file import OpenFile, opened
from scout_dask_io.tiff.page_chain import PageChain, check_chain, check_pages, walk_chain
from scout_dask_io.tiff.page_layout import (
    CODEC_NAMES,
    DescribedPage,
    FileTable,
    PageLayout,
    SourceFile,
)
from scout_dask_io.tiff.range_reader import is_unreached
from scout_dask_io.tiff.series import (
    check_counts,
    choose_series,
    describe_pages,
    describe_series,
    extra_series,
    open_tiff,
    warn_of_others,
)
from scout_dask_io.tiff.source import TiffSource
from scout_dask_io.tiff.stack_check import (
    DescribedFile,
    Refused,
    Survey,
    check_missing,
    filled_planes,
    refuse,
)

#: Tags that say nothing about further pages or about another way to store pixels.
_PLAIN_TAGS = frozenset(
    {*range(254, 260), 262, 263, 266, *range(269, 275), *range(277, 290), 296, 297, 305, 306}
    | {315, 316, 317, 318, 319, 320, *range(322, 326), 338, 339, 340, 341, 347, 529, 530, 531, 532}
    | {700, 33432, 34665, 34675, 34377, 42112, 42113, 50838, 50839, 65000}
)
#: Files that one thread checks in one go: a thread switch costs as much as a file.
_BATCH = 64


def describe_plane(
    path: Any,
    allow_sparse: bool = False,
    *,
    asked: bool = False,
    pages: str | None = None,
    series: int | None = None,
    whole: bool = False,
) -> DescribedFile:
    """Describe one file of a folder: its header is read and checked, no pixel is.

    OME metadata is not followed: in a folder, each file is what it holds; but if ``whole``,
    an image that lies in the file whole has the axes that its OME-XML states. If ``asked``, it
    says what it states beside its pixels, which takes longer than all the rest. ``pages`` and
    ``series`` choose among the images of a file that has several.

    Raises
    ------
    TiffReadError
        If it is damaged or truncated, or holds pages that would not be read.
    """
    path = locate_file(path)
    with opened(path) as (fd, file):
        window = Window(fd, file.size)
        header = read_header(window, file.path)
        if header is not None:
            ifd = read_ifd(window, header, header.first)
            page = describe_ifd(ifd, window, allow_sparse)
            if page is not None and _is_only_page(ifd, window, page.layout):
                stated = stated_by(fd, file, (), page.layout) if asked else None
                return DescribedFile(file, (), (page,), stated)
        chain = _chain_of(window, header, pages)
        ome = {"_multifile": False} if whole and _is_whole_ome(fd, file) else {"is_ome": False}
        with open_tiff(fd, file, **ome) as tif:
            if pages == "all":
                lead, found = _all_pages(tif, file, chain, window, header, allow_sparse)
            else:
                chosen = choose_series(tif, file, series or 0, 0, is_plane=True)
                check_counts(tif, file, chain, window, header, pages)
                extra = extra_series(tif) if series is None else []
                if extra:
                    raise TiffReadError(
                        f"{file.path!r} holds {len(extra)} more image(s) beside the first "
                        f"{chosen.shape}: {', '.join(map(str, extra))}. One image a file was "
                        "expected; " + Option("series", 0) + " takes the first of each."
                    )
                lead, found = describe_series(tif, file, chosen, window, header, allow_sparse)
        stated = None
        if asked:
            stated = stated_by(fd, file, lead, found[0].layout, series or 0)
            stated = _plain(stated, lead, found[0].layout) if pages == "all" else stated
        return DescribedFile(file, lead, found, stated)


def _chain_of(window: Window, header: Header | None, pages: str | None) -> PageChain | None:
    """Give the chain of a file's directories, ``None`` where tifffile alone knows them.

    Raises
    ------
    Damaged
        If it goes astray, unless whatever pages there are have been asked for.
    """
    if header is None:
        return None
    chain = walk_chain(window, header)
    if pages != "all" and chain.trouble:
        check_chain(chain, read_ifd(window, header, header.first), window)
    return chain


def _all_pages(
    tif: tifffile.TiffFile,
    file: SourceFile,
    chain: PageChain | None,
    window: Window,
    header: Header | None,
    allow_sparse: bool,
) -> tuple[Shape, tuple[DescribedPage, ...]]:
    """Give all pages of a file one after the other, whatever its metadata say of them."""
    if chain is None:  # tifffile alone knows its directories
        chain = PageChain(tuple(page.offset for page in tif.pages))
    found, told = describe_pages(tif, chain, window, header, allow_sparse)
    for text in told:
        warn(f"{file.path!r}: {text}")
    return ((len(found),) if len(found) > 1 else ()), found


def _is_whole_ome(fd: OpenFile, file: SourceFile) -> bool:
    """Tell whether a file holds all pages of the image that its OME-XML describes."""
    with open_tiff(fd, file, _multifile=False) as tif:
        if not tif.is_ome:
            return False
        series = ask(lambda: tif.series)
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
            return bool(math.prod(json.loads(text)["shape"]) == math.prod(layout.shape))
        except (ValueError, KeyError, TypeError):
            return False
    return not text.startswith("shape=")


def describe_planes(
    paths: Sequence[Any],
    nb_workers: int | None = None,
    *,
    lead: Shape | None = None,
    channels: Sequence[str] = (),
    missing: str = "error",
    allow_sparse: bool = False,
    pages: str | None = None,
    series: int | None = None,
) -> TiffSource:
    """Describe files that stack along a new first axis, in the given order.

    Every header is read and checked, ``nb_workers`` at once (8 by default).
    Files may differ in compression, strips and byte order. Files of one page
    give ``(file, y, x)``, stacks of pages ``(file, page, y, x)``. ``lead``
    arranges the files in more axes than one, ``(channel, file)``, of which ``channels``
    are the names.
    With ``missing="fill"``, files that cannot be read, or differ from most, are
    planes of zeros, named in a warning and in the source's ``filled``. ``pages`` and ``series``
    are those of :func:`describe_image`, of each file.

    Raises
    ------
    PathNotFoundError
        If no path is given, or a file is missing.
    ShapeMismatchError
        If files differ in shape or dtype.
    TiffReadError
        If a file is damaged, truncated or no regular file.
    ArgumentError
        If ``missing`` is no policy.
    """
    paths = [locate_file(p) for p in paths]
    check_missing(missing)
    which = _which(pages, series)
    survey = survey_planes(paths, nb_workers, allow_sparse, asked=True, pages=pages, series=series)
    stacked = (len(survey),) if lead is None else lead
    left_out = survey.check(missing)
    files, layouts, table = survey.table(left_out)
    if left_out:
        warn(
            f"{len(left_out):,} of the {len(survey):,} files "
            f"{survey.list_refused(list(left_out.values()))}. Their planes hold zeros."
        )
    what = [f"planes {stacked}", *which]
    what += [f"{place} {r.file} left out" for place, r in left_out.items()]
    kind = survey.kind
    return TiffSource(
        FileTable.of(files),
        layouts,
        np.array(table, np.int64).reshape(*stacked, *(kind.lead if kind else ()), 4),
        token_of(files, "\n".join(what)),
        nb_workers=nb_workers,
        file_ndim=len(stacked),
        filled=filled_planes(left_out, stacked),
        options=paths[0].options,
        stated=stated_by_first(paths, survey, left_out, allow_sparse, pages=pages, series=series),
        channels=channels,
    )


def stated_by_first(
    paths: Sequence[Location],
    survey: Survey,
    left_out: Container[int],
    allow_sparse: bool,
    *,
    whole: bool = False,
    pages: str | None = None,
    series: int | None = None,
) -> Stated | None:
    """Give what the first file of a stack that is read states beside its pixels."""
    first = next(place for place in range(len(survey)) if place not in left_out)
    if first == 0:
        return survey.stated
    found = describe_plane(
        paths[first], allow_sparse, asked=True, whole=whole, pages=pages, series=series
    )
    return found.stated


def _which(pages: str | None, series: int | None) -> list[str]:
    """Check what chooses among the pages of a file, and give what a token says of it."""
    check_pages(pages)
    if series is not None:
        _check_number("series", series)
    return [f"{k}={v}" for k, v in (("pages", pages), ("series", series)) if v is not None]


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"{name} must be 0 or a positive int, got {value!r}")


def survey_planes(
    paths: Sequence[Any],
    nb_workers: int | None = None,
    allow_sparse: bool = False,
    *,
    asked: bool = False,
    pages: str | None = None,
    series: int | None = None,
    whole: bool = False,
) -> Survey:
    """Read and check the header of every file of a stack, whatever is found; see :class:`Survey`.

    If ``asked``, the first says what it states beside its pixels; ``whole`` as for
    :func:`describe_plane`.

    Raises
    ------
    PathNotFoundError
        If no path is given.
    """
    paths = [locate_file(p) for p in paths]
    if not paths:
        raise PathNotFoundError("no files to read: the list of paths is empty")
    survey = Survey()
    describe = partial(
        describe_plane, allow_sparse=allow_sparse, pages=pages, series=series, whole=whole
    )
    for found in _describe_all(paths, nb_workers, describe, paths[0] if asked else None):
        survey.add(found)
    return survey


def _describe_all(
    paths: Sequence[Location],
    nb_workers: int | None,
    describe: Callable[..., DescribedFile],
    asked: Location | None,
) -> Iterator[DescribedFile | Refused]:
    n_batch, workers = _BATCH, nb_workers or 8
    if not paths[0].on_disk:
        n_batch, workers = 1, workers if paths[0].serves_threads else 1
    batches = [paths[k : k + n_batch] for k in range(0, len(paths), n_batch)]
    workers = min(workers, len(batches))
    batch = partial(_describe_batch, describe=describe, asked=asked)
    for found in work_ahead(batch, batches, workers, 2 * workers if workers > 1 else 1):
        yield from found


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


def describe_image(
    path: Any,
    series: int = 0,
    level: int = 0,
    allow_sparse: bool = False,
    pages: str | None = None,
) -> TiffSource:
    """Describe one image of a TIFF file: a series, at a resolution level.

    With ``pages="all"`` that is every page of it, one after the other, whatever its metadata
    count; with ``"counted"`` what they count, though there are more.

    Raises
    ------
    ArgumentError
        If the file has no such series or level.
    TiffReadError
        If it is damaged, or an OME-TIFF whose pages lie in other files.
    """
    path = locate_file(path)
    _check_number("series", series)
    _check_number("level", level)
    check_pages(pages)
    if pages == "all" and (series or level):
        raise ArgumentError(
            'pages="all" gives all pages of a file: it has no series or level beside it'
        )
    with opened(path) as (fd, file):
        window = Window(fd, file.size)
        header = read_header(window, file.path)
        chain = _chain_of(window, header, pages)
        if pages == "all":
            with open_tiff(fd, file, is_ome=False) as tif:
                lead, found = _all_pages(tif, file, chain, window, header, allow_sparse)
            files, numbers = [file], (0,) * len(found)
            stated = _plain(stated_by(fd, file, lead, found[0].layout), lead, found[0].layout)
        else:
            with open_whole(fd, file, on_disk=path.on_disk) as tif:
                chosen = choose_series(tif, file, series, level)
                look = _Look(window, header, chain, pages, allow_sparse)
                lead, files, numbers, found = _pages_of(tif, file, chosen, look)
                if series == 0:
                    warn_of_others(tif, file.path)
                stated = _stated_alone(tif, lead, found[0].layout, series, level)
    layouts: dict[PageLayout, int] = {}
    table = [
        (k, layouts.setdefault(p.layout, len(layouts)), p.ifd, p.data)
        for k, p in zip(numbers, found, strict=True)
    ]
    return TiffSource(
        FileTable.of(files),
        tuple(layouts),
        np.array(table, np.int64).reshape(*lead, 4),
        token_of(files, "\n".join([f"series {series} level {level}", *_which(pages, None)])),
        series=series,
        level=level,
        options=path.options,
        stated=stated,
    )


def survey_image(
    path: Location,
    *,
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
) -> Survey:
    """Look at one file as :func:`describe_image` does, whatever is found; see :class:`Survey`.

    Raises
    ------
    ArgumentError
        If the file has no such series.
    """
    survey = Survey()
    try:
        source = describe_image(path, series or 0, 0, allow_sparse, pages)
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


class _Look(NamedTuple):
    """What pages are looked at by, and which of them are wanted."""

    window: Window
    header: Header | None
    chain: PageChain | None
    pages: str | None = None
    allow_sparse: bool = False


def _pages_of(
    tif: tifffile.TiffFile, file: SourceFile, series: tifffile.TiffPageSeries, look: _Look
) -> tuple[Shape, list[SourceFile], tuple[int, ...], tuple[DescribedPage, ...]]:
    """Give leading axes and files of a series, and its pages, each with its file's number."""
    if series.kind == "mmstack":
        check_summary(tif, file, series.shape, look.pages)
    if is_set(series):
        lead, files, members = describe_set(series, file)
        numbers, found = zip(*members, strict=True)
        return lead, files, numbers, found
    window, header, chain, pages, allow_sparse = look
    check_counts(tif, file, chain, window, header, pages)
    lead, found = describe_series(tif, file, series, window, header, allow_sparse)
    return lead, [file], (0,) * len(found), found


def token_of(files: Iterable[SourceFile], what: str) -> str:
    """Name the content of a source by its files, as they were found, and what is made of them."""
    digest = hashlib.blake2b(what.encode(), digest_size=16)
    for f in files:
        digest.update(f"\0{f.path}\0{f.size}\0{f.mtime_ns}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _stated_alone(
    tif: tifffile.TiffFile, lead: Shape, layout: PageLayout, series: int = 0, level: int = 0
) -> Stated:
    """Give what a file that is read by its own metadata states of a series."""
    stated = stated_in(tif, lead, layout, series=series, level=level)
    if stated.axes:
        return stated
    return _plain(stated, lead, layout)


def _plain(stated: Stated, lead: Shape, layout: PageLayout) -> Stated:
    """Give what a file states of pages that are not as its metadata say.

    Letters that mean nothing count them, and of channels nothing is known.
    """
    axes = "q" * len(lead) + "yxs"[: len(layout.shape)]
    return replace(stated, axes=axes, channels=())


@dataclass(frozen=True, slots=True)
class TiffInfo:
    """A TIFF file as ``imread`` sees it; series 0 at full resolution.

    ``stated`` has a letter an axis of ``shape``.
    ``segment`` is ``"strip"`` or ``"tile"``, ``segment_shape`` its extent as
    stored, ``(rows, columns)``. ``levels`` are the shapes of the resolutions,
    the full one first.
    """

    path: str
    shape: Shape
    dtype: str
    stated: Stated
    compression: str
    segment: str
    segment_shape: tuple[int, int]
    byte_order: str
    bigtiff: bool
    n_pages: int
    n_series: int
    levels: tuple[Shape, ...]
    file_nbytes: int

    @property
    def info(self) -> ImageInfo:
        """What the file states by itself, whatever lies beside it."""
        stated = self.stated
        return ImageInfo(stated.axes, merge_sizes(stated.sizes), stated.channels)


def describe_path(path: Any) -> TiffInfo:
    """Describe a TIFF file, at a path or at a place in a store; reads its directories, no pixel.

    What lies in several files is described as one, as :func:`describe_image` reads it.

    Raises
    ------
    PathNotFoundError
        If there is no such file.
    TiffReadError
        If it is damaged or no regular file.
    """
    place = locate_file(path)
    with opened(place) as (fd, file), open_whole(fd, file, on_disk=place.on_disk) as tif:
        return _describe_open(tif, fd, file)


def _describe_open(tif: tifffile.TiffFile, fd: OpenFile, file: SourceFile) -> TiffInfo:
    window = Window(fd, file.size)
    header = read_header(window, file.path)
    look = _Look(window, header, _chain_of(window, header, None))
    series = choose_series(tif, file, 0, 0)
    lead, _, _, pages = _pages_of(tif, file, series, look)
    first, layout = series.keyframe, pages[0].layout
    compression = int(first.compression)
    return TiffInfo(
        path=file.path,
        shape=(*lead, *layout.shape),
        dtype=str(series.dtype),
        stated=_stated_alone(tif, lead, layout),
        compression=CODEC_NAMES.get(compression, str(compression)),
        segment="tile" if first.is_tiled else "strip",
        segment_shape=(
            (first.tilelength, first.tilewidth)
            if first.is_tiled
            else (first.rowsperstrip, first.imagewidth)
        ),
        byte_order="little" if tif.byteorder == "<" else "big",
        bigtiff=tif.is_bigtiff,
        n_pages=len(tif.pages),
        n_series=len(tif.series),
        levels=tuple(level.shape for level in series.levels),
        file_nbytes=file.size,
    )
