"""Images of sets of files as sources: every page described in the file that holds it.

What is not there, or cannot be read, is an error that names it; or planes of zeros on record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from scout_dask_io.core.image_info import FilledPlane
from scout_dask_io.core.messages import Message, Option, joined, warn
from scout_dask_io.core.selection import ALL_PAGES, AS_IT_IS, COUNTED_PAGES, Selection
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.errors import PathNotFoundError, ScoutIOError, ShapeMismatchError, TiffReadError
from scout_dask_io.files.location import Location
from scout_dask_io.tiff.ifd import Damaged, Header, Ifd, Window, describe_ifd, read_header, read_ifd
from scout_dask_io.tiff.metadata import Stated, stated_by
from scout_dask_io.tiff.open_file import opened
from scout_dask_io.tiff.page_chain import check_chain, miscounted, walk_chain
from scout_dask_io.tiff.page_layout import NO_FILE, DescribedPage, FileTable, PageLayout, SourceFile
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.plane_map import FileSet, PlaneAt, PlaneMap
from scout_dask_io.tiff.range_reader import is_unreached
from scout_dask_io.tiff.series import describe_page_at, open_tiff
from scout_dask_io.tiff.source import TiffSource, token_of
from scout_dask_io.tiff.stack_check import NAMED, Refused, refuse

#: Files that one thread describes in one go.
_BATCH = 64
_FILL = Option("missing", "fill")
#: The tag of directories below a page's own.
_SUB_IFDS = 330


def describe_map(
    folder: Location,
    members: FileSet,
    image: PlaneMap,
    selection: Selection = AS_IT_IS,
    nb_workers: int | None = None,
    *,
    own: str = "",
    level: int = 0,
) -> TiffSource:
    """Describe one image of a set of files; reads the directories of its pages, no pixel.

    Its axes are those of ``image``. With ``missing="fill"``, planes of files that are not there
    or cannot be read hold zeros; with ``pages="counted"``, those that lie in no file are left out
    where they are at an end. ``own`` is the file that was opened, if one was.

    Raises
    ------
    PathNotFoundError
        If files of the set are not there; the message names them.
    TiffReadError
        If planes are in no file, or pages are damaged.
    ShapeMismatchError
        If pages differ in shape or dtype.
    """
    missing, pages = selection.missing, selection.pages
    what = str(folder / own) if own else str(folder)
    if pages == "counted":
        image = image.counted().squeezed()
    lacking = [name for name in image.files if name in members.lacking]
    if lacking and missing != "fill":
        raise _not_there(what, own, lacking, members)
    if image.n_lacking and missing != "fill":
        raise _no_file(what, own, image, members)
    survey = survey_map(folder, members, image, selection, nb_workers, level)
    _check_refused(what, survey.refused, survey.n_files, missing)
    _check_alike(what, survey)
    page = survey.layouts[0]
    stated = _stated(folder, image, members, page)
    filled = [
        FilledPlane(tuple(map(int, np.unravel_index(k, image.shape))), *survey.reasons[k])
        for k in sorted(survey.reasons)
    ]
    if filled:
        shown = joined("; ", map(image.words, sorted(survey.reasons)), NAMED)
        warn(f"{what!r} lacks {shown}. Their planes hold zeros.")
    table, files = survey.table, survey.files
    told = f"{members.kind} {image.name} {image.axes} {image.shape} level {level} pages={pages}"
    told += (
        f" allow_sparse={selection.allow_sparse} " + hashlib.blake2b(table.tobytes()).hexdigest()
    )
    return TiffSource(
        PageTable(FileTable.of(files), survey.layouts, table.reshape(*image.shape, 4)),
        token_of(files, told), nb_workers=nb_workers, filled=filled,
        options=folder.options,
        stated=replace(stated, axes=image.axes + "yxs"[: len(page.shape)], level=level),
    )  # fmt: skip


@dataclass(frozen=True)
class MapSurvey:
    """Every file of an image of a set, looked at.

    Attributes
    ----------
    files, layouts, table
        What can be read, as a source has it; a row of the table a plane.
    refused : list of Refused
        Files that cannot be read.
    reasons : dict
        Of the planes that no file gives: the file that should, and why it does not.
    """

    files: list[SourceFile]
    layouts: tuple[PageLayout, ...]
    table: np.ndarray
    refused: list[Refused]
    reasons: dict[int, tuple[str, str]]

    @property
    def n_files(self) -> int:
        """How many files were looked at."""
        return len(self.files) + len(self.refused)


def survey_map(
    folder: Location,
    members: FileSet,
    image: PlaneMap,
    selection: Selection = AS_IT_IS,
    nb_workers: int | None = None,
    level: int = 0,
) -> MapSurvey:
    """Read and check the directories of every file of an image, whatever is found.

    Raises
    ------
    TiffReadError
        If a store does not answer.
    """
    numbers: dict[str, list[int]] = {}
    for number, plane in enumerate(image.planes):
        if plane is not None and plane.file not in members.lacking:
            numbers.setdefault(plane.file, []).append(number)
    counted = dict.fromkeys(numbers, 0)
    if selection.pages is None and members.kind == "an OME-TIFF":
        counted = _counted(members, numbers)
    describe = partial(
        _describe_file, folder=folder, image=image, allow_sparse=selection.allow_sparse,
        level=level, counted=counted,
    )  # fmt: skip
    items = list(numbers.items())
    n_batch = _BATCH if folder.on_disk else 1
    batches = [items[k : k + n_batch] for k in range(0, len(items), n_batch)]
    workers = min(nb_workers or 8, len(batches)) if folder.serves_threads else 1
    refused: list[Refused] = []
    reasons: dict[int, tuple[str, str]] = {
        k: (str(folder if p is None else folder / p.file), "there is no such file")
        for k, p in enumerate(image.planes)
        if p is None or p.file in members.lacking
    }
    files: list[SourceFile] = []
    layouts: dict[PageLayout, int] = {}
    table = np.full((len(image.planes), 4), (NO_FILE, 0, 0, -1), np.int64)
    batch = partial(_describe_batch, describe=describe)
    results = work_ahead(batch, batches, workers, 2 * workers if workers > 1 else 1)
    for name, found in (pair for result in results for pair in result):
        if isinstance(found, Refused):
            refused.append(found)
            reasons |= dict.fromkeys(numbers[name], (found.file.path, found.reason))
            continue
        file, described = found
        for number, page in zip(numbers[name], described, strict=True):
            at = layouts.setdefault(page.layout, len(layouts))
            table[number] = (len(files), at, page.ifd, page.data)
        files.append(file)
    return MapSurvey(files, tuple(layouts), table, refused, reasons)


def _counted(members: FileSet, names: Iterable[str]) -> dict[str, int]:
    """Give how many pages the metadata count in each file, of all images."""
    found: dict[str, set[int]] = {name: set() for name in names}
    for image in members.images:
        for plane in image.planes:
            if plane is not None and plane.file in found:
                found[plane.file].add(plane.page)
    return {name: len(pages) for name, pages in found.items()}


def _describe_batch(
    items: Sequence[tuple[str, list[int]]], describe: Callable[..., Any]
) -> list[tuple[str, Any]]:
    return [(name, describe(name, numbers)) for name, numbers in items]


def _describe_file(
    name: str,
    numbers: Sequence[int],
    *,
    folder: Location,
    image: PlaneMap,
    allow_sparse: bool,
    level: int,
    counted: Mapping[str, int],
) -> tuple[SourceFile, list[DescribedPage]] | Refused:
    try:
        with opened(folder / name) as (fd, file):
            window = Window(fd, file.size)
            header = read_header(window, file.path)
            if header is None:
                raise Damaged("it is no TIFF of pages as sets of files have them")
            planes = [p for k in numbers if (p := image.planes[k]) is not None]
            places = _offsets(planes, window, header, counted[name])
            found: list[DescribedPage] = []
            with _Opener(fd, file) as tif:
                for number, (plane, at) in enumerate(zip(planes, places, strict=True)):
                    try:
                        if level:
                            at = _level_of(read_ifd(window, header, at), window, level)
                        one = describe_ifd(read_ifd(window, header, at), window, allow_sparse)
                        if one is None:
                            one = describe_page_at(tif(), at, window, allow_sparse)
                    except Damaged as err:
                        if plane.ifd < 0:
                            raise
                        raise _cut_off(number, len(planes), err) from err
                    found.append(_moved(one, plane.data, file) if plane.data >= 0 else one)
            return file, found
    except ScoutIOError as err:
        if not folder.on_disk and is_unreached(err):
            raise  # a store that does not answer would not for the others either
        return refuse(folder / name, err)


def _cut_off(number: int, n_planes: int, err: Damaged) -> Damaged:
    """Give the error of a file whose index lists a page that cannot be read."""
    return Damaged(
        f"page {number} of the {n_planes} that its index lists cannot be read ({err}); it is "
        "truncated or damaged. " + ALL_PAGES + " reads the pages that are whole, " + _FILL
        + " puts zeros in the place of those of the file"
    )  # fmt: skip


class _Opener:
    """A file as tifffile has it, opened where that is needed."""

    def __init__(self, fd: Any, file: SourceFile) -> None:
        self._how = fd, file
        self._open: Any = None
        self._tif: Any = None

    def __enter__(self) -> Callable[[], Any]:
        return self._get

    def _get(self) -> Any:
        if self._open is None:
            self._open = open_tiff(*self._how, is_ome=False)
            self._tif = self._open.__enter__()
        return self._tif

    def __exit__(self, *exc: Any) -> None:
        if self._open is not None:
            self._open.__exit__(*exc)


def _offsets(planes: Sequence[PlaneAt], window: Window, header: Header, counted: int) -> list[int]:
    """Give the offset of the directory of each plane in a file."""
    if all(p.ifd >= 0 for p in planes):
        return [p.ifd for p in planes]
    if all(p.data >= 0 for p in planes):
        return [header.first] * len(planes)
    chain = walk_chain(window, header)
    most = max(p.page for p in planes)
    if most >= len(chain):
        check_chain(chain, read_ifd(window, header, header.first), window)
        raise Damaged(
            f"OME-XML says that its page {most} is one of the image, and it has {len(chain)} "
            f"page(s); " + ALL_PAGES + " reads the pages of this file alone"
        )
    if counted and len(chain) > counted:
        raise miscounted("OME-XML", counted, len(chain))
    return [chain.offsets[p.page] for p in planes]


def _level_of(ifd: Ifd, window: Window, level: int) -> int:
    below = ifd.ints(_SUB_IFDS, window, ())
    if level > len(below):
        raise Damaged(f"its pages have {len(below)} lower resolutions, and no level {level}")
    return below[level - 1]


def _moved(page: DescribedPage, data: int, file: SourceFile) -> DescribedPage:
    """Give a page as another one of its file, whose pixels lie where an index says."""
    if page.data < 0:
        raise Damaged("its index lists pages that are not raw")
    if data < 8 or data + page.layout.nbytes > file.size:
        raise Damaged(
            f"its index has a page at byte {data}, and the file has {file.size} bytes; it is "
            "truncated"
        )
    return DescribedPage(page.layout, page.ifd, data)


def _not_there(what: str, own: str, lacking: Sequence[str], members: FileSet) -> PathNotFoundError:
    """Give the error of a set of which files are missing."""
    shown = joined(", ", map(repr, sorted(lacking)), 5)
    n = len(members.files)
    start = f"{what!r} is one of {n} files of {members.kind}, of which {len(lacking)} are not "
    if not own:
        start = f"{what!r} holds {n - len(lacking)} of {n} files of {members.kind}; the others "
        start += "are not "
    text = start + f"beside it: {shown}. Put them there; or " + _FILL
    text += " puts zeros in the place of their planes and says so, "
    if own:
        return PathNotFoundError(text + ALL_PAGES + " reads the pages of this file alone.")
    return PathNotFoundError(text + Option("names", "ignore") + " stacks the files that are there.")


def _no_file(what: str, own: str, image: PlaneMap, members: FileSet) -> TiffReadError:
    """Give the error of planes that lie in no file."""
    n, lacks = len(image.planes), image.n_lacking
    empty = [k for k, p in enumerate(image.planes) if p is None]
    shown = joined("; ", map(image.words, empty), NAMED)
    is_part = f"is a part of {members.kind}" if own else f"is {members.kind}"
    text: str = (
        f"{what!r} {is_part} of {n:,} planes, of which {n - lacks:,} are in it and the files "
        f"beside it; there is no {shown}: other files of the set are missing, or the acquisition "
        "was stopped. "
    )
    text += _FILL + " puts zeros in their places and says so, " + COUNTED_PAGES
    text = text + " reads the planes that there are where they are whole"
    text = text + (
        ", " + ALL_PAGES + " the pages of this file one after the other." if own else "."
    )
    return TiffReadError(text)


def _check_refused(what: str, refused: Sequence[Refused], n_files: int, missing: str) -> None:
    bad = [r for r in refused if missing != "fill" or r.kind == "unreachable"]
    if not bad and len(refused) < n_files:
        return
    bad = bad or list(refused)
    if not bad:
        raise PathNotFoundError(f"none of the files of the set of {what!r} is there")
    if len(bad) == 1:
        raise bad[0].error
    shown = (f"{r.file.path.rpartition('/')[2]!r} (" + r.reason + ")" for r in bad)
    text = Message(f"{len(bad)} of the {n_files} files of the set of {what!r} cannot be read: ")
    raise type(bad[0].error)(text + joined(", ", shown, NAMED)) from bad[0].error


def _check_alike(what: str, survey: MapSurvey) -> None:
    first = survey.layouts[0]
    for number, other in enumerate(survey.layouts):
        if (other.shape, other.dtype[1:]) != (first.shape, first.dtype[1:]):
            names = [
                survey.files[int(survey.table[survey.table[:, 1] == k][-1, 0])].path
                for k in (number, 0)
            ]
            raise ShapeMismatchError(
                f"planes of the set of {what!r} differ: {names[0]!r} has {other.shape} "
                f"{np.dtype(other.dtype)}, {names[1]!r} has {first.shape} "
                f"{np.dtype(first.dtype)}. They are no one image; "
                + ALL_PAGES
                + " reads the pages of one file alone."
            )


def _stated(folder: Location, image: PlaneMap, members: FileSet, layout: PageLayout) -> Stated:
    """Give what the metadata of the set state, and after it the first file's own tags."""
    first = next(p.file for p in image.planes if p is not None and p.file not in members.lacking)
    if image.sizes and None not in image.sizes[0].micrometres:
        return Stated("", image.sizes, image.channels)
    with opened(folder / first) as (fd, file):
        own = stated_by(fd, file, (), layout)
    return Stated("", (*image.sizes, *own.sizes), image.channels)
