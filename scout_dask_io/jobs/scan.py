"""Looking through TIFF files before they are converted: headers alone, every file by name.

What ``scan`` reports: every file that does not fit, and what people should know.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from scout_dask_io.core.formatting import Row, format_count, format_nbytes, format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.messages import Option, joined, message_of, warn
from scout_dask_io.core.name_fields import AmbiguousNamesError
from scout_dask_io.core.selection import Selection
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.jobs.report import JobReport, table
from scout_dask_io.read.any import kind_of
from scout_dask_io.read.dataset import Reading, dataset_at, grid_at, odd_about
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.tiff.describe import survey_image, survey_planes
from scout_dask_io.tiff.folder import (
    check_numbering,
    is_channel_folder,
    is_tiff,
    natural_key,
    odd_names,
)
from scout_dask_io.tiff.page_layout import CODEC_NAMES
from scout_dask_io.tiff.plane_map import Place
from scout_dask_io.tiff.range_reader import answered
from scout_dask_io.tiff.set_folder import SetReading
from scout_dask_io.tiff.stack_check import Survey


def scan(
    src: str | os.PathLike[str] | Location,
    *,
    nb_workers: int | None = None,
    pattern: str | None = None,
    position: str | None = None,
    names: str = "allow",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> ScanReport:
    """Look through a TIFF file, a folder of planes, or a folder of channels. Reads no pixel.

    Every header is read and checked as the readers do it: all files are looked
    at, and each that is damaged, truncated, sparse, empty, or unlike the others
    is named with the reason. Of a store that means a listing and the first 32 KiB
    of each file; where it no longer answers, the scan ends.

    Parameters
    ----------
    src : path-like
        A TIFF file, a folder of them, or a folder with one folder a channel; or the URL of one.
    nb_workers : int, optional
        How many headers are read at once; 8 where not given.
    pattern, position, names
        How the files of a dataset are read, as for :func:`~scout_dask_io.convert`; all positions
        are looked at where none is given.
    series, pages, allow_sparse
        Which image and which pages of each file, as for :func:`~scout_dask_io.imread_folder`.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Raises
    ------
    PathNotFoundError
        If there is nothing at ``src``, or no TIFF file in it.
    ArgumentError
        If it is a file of another name, or ``nb_workers`` no positive int.
    TiffReadError
        If a store cannot be asked.
    """
    start = time.perf_counter()
    check_nb_workers(nb_workers)
    how = Selection(
        pattern=pattern, position=position, names=names,
        series=series, pages=pages, allow_sparse=allow_sparse,
    )  # fmt: skip
    survey = partial(survey_planes, nb_workers=nb_workers, selection=how)
    path = locate(src, storage_options)
    folders: tuple[FolderScan, ...]
    listed = _list(path)
    reading, mismatch = _dataset(path, listed, how)
    if reading is not None:
        one = reading if position is None else grid_at(reading, position)
        if isinstance(one, SetReading):
            folders = (_of_sets(str(path), one, nb_workers, how),)
        else:
            planes = [path / name for _, name in sorted(one.files.items())]
            folders = (_summary(str(path), planes, survey, (), (), odd_about(reading)),)
        if one.holes:
            mismatch = f"{reading.how} there is no {'; no '.join(one.holes[:_NAMED])}"
            more = len(one.holes) - _NAMED
            mismatch += f"; and {more:,} more are missing" if more > 0 else ": missing"
    elif listed is not None:
        found = _folder(path, listed, survey)
        below = [p for p in listed.folders if is_channel_folder(p)]
        if not found.n_files and below and not found.hidden:
            folders = tuple(_channels(below, survey))
        else:
            folders = (found,)
        if not any(f.n_files for f in folders):
            raise PathNotFoundError(f"{path} holds no TIFF file, nor do its sub-folders")
    else:
        folders = (_file(path, how),)
    mismatch = mismatch or _differing(folders)
    return ScanReport(
        str(path), folders, mismatch, time.perf_counter() - start,
        "" if reading is None else str(reading),
        () if reading is None else tuple(reading.rows),
        "" if reading is None else reading.pattern,
        () if reading is None else reading.positions,
        () if reading is None else tuple(reading.places),
    )  # fmt: skip


def _dataset(
    path: Location, listed: _Listed | None, selection: Selection
) -> tuple[Reading | None, str]:
    """Give how the files of a dataset are arranged, if it is one, or why that cannot be told."""
    try:
        return dataset_at(path, "tiff" if listed is None else kind_of(path), selection), ""
    except AmbiguousNamesError as err:
        return None, message_of(err)
    except PathNotFoundError:
        if selection.pattern is not None:
            raise
        return None, ""


class _Listed(NamedTuple):
    """What lies in a folder, each sorted by name."""

    files: list[Any]
    folders: list[Any]


def _list(path: Location) -> _Listed | None:
    """List a folder; ``None`` where the path is that of a file, or of a link to nowhere."""
    with answered():
        found = path.entries()
        is_folder = bool(found) or (path.on_disk and path.is_folder)
        if not is_folder and not path.stands():
            raise PathNotFoundError(f"there is nothing at {path}")
    if not is_folder:
        return None
    return _Listed([p for p, below in found if not below], [p for p, below in found if below])


def _file(path: Location, selection: Selection) -> FolderScan:
    """Look through one file as :func:`~scout_dask_io.imread` reads it.

    Raises
    ------
    ArgumentError
        If it is no TIFF file, neither by its name nor by what is in it.
    """
    if not is_tiff(path.name) and (kind := kind_of(path)) != "tiff":
        raise ArgumentError(f"{path} is neither a folder nor a TIFF file, but {kind}")
    found = survey_image(path, selection)
    refused = found.refused()
    if refused and not is_tiff(path.name):
        raise ArgumentError(f"{path} is neither a folder nor a TIFF file: " + refused[0].reason)
    return _summary(str(path), [path], lambda _: found, (), ())


def _channels(folders: Sequence[Location], survey: Callable[..., Survey]) -> Iterator[FolderScan]:
    """Look through the folders that hold planes; others are passed over, and told of."""
    for folder in folders:
        try:
            found = _folder(folder, _list(folder) or _Listed([], []), survey)
        except PathNotFoundError as err:
            warn(f"{err}: it is no channel, and passed over")
            continue
        if found.n_files or found.hidden:
            yield found
        else:
            warn(f"{folder} holds no TIFF file: it is no channel, and passed over")


def _folder(path: Location, listed: _Listed, survey: Callable[..., Survey]) -> FolderScan:
    planes, hidden, others = [], [], []
    for file in listed.files:
        if not is_tiff(file.name):
            others.append(file.name)
        elif file.name.startswith("."):
            hidden.append(file.name)
        else:
            planes.append(locate(file))
    return _summary(str(path), planes, survey, hidden, others)


def _summary(
    path: str,
    planes: list[Location],
    survey: Callable[..., Survey],
    hidden: Sequence[str],
    others: Sequence[str],
    odd: Sequence[str] | None = None,
) -> FolderScan:
    found = Survey() if not planes else survey(planes)
    kind = found.kind
    codecs = found.compressions.most_common()
    named = [(CODEC_NAMES.get(number, str(number)), n) for number, n in codecs]
    names = [os.path.basename(str(p)) for p in planes] if odd is None else []
    gaps, duplicates = check_numbering(names)
    return FolderScan(
        path=path,
        n_files=len(planes),
        nbytes=found.nbytes,
        shape=None if kind is None else kind.shape,
        dtype="" if kind is None else str(kind.dtype),
        compression=named[0][0] if named else "",
        n_pages=found.n_pages,
        compressions=_added(named),
        problems=tuple(Problem(r.file.path, r.kind, r.reason) for r in found.refused().values()),
        gaps=gaps,
        duplicates=duplicates,
        hidden=tuple(hidden),
        others=tuple(others),
        natural=names == sorted(names, key=natural_key),
        names=odd_names(names) if odd is None else tuple(odd),
    )


def _of_sets(
    path: str, reading: SetReading, nb_workers: int | None, selection: Selection
) -> FolderScan:
    """Look at the files of sets, position after position."""
    nbytes: dict[str, int] = {}
    codecs: dict[str, set[str]] = {}
    problems: dict[str, Problem] = {}
    n_pages, shape, dtype = 0, None, ""
    images = [one.image for one in reading.members.values()]
    for image, found in zip(images, reading.survey(nb_workers, selection), strict=True):
        nbytes |= {f.path: f.size for f in found.files}
        for refused in found.refused:
            nbytes[refused.file.path] = max(refused.file.size, 0)
            problems[refused.file.path] = Problem(refused.file.path, refused.kind, refused.reason)
        rows = found.table[found.table[:, 0] >= 0]
        n_pages += len(rows)
        for file, k in {(int(f), int(n)) for f, n in rows[:, :2]}:
            code = found.layouts[k].compression
            codecs.setdefault(CODEC_NAMES.get(code, str(code)), set()).add(found.files[file].path)
        for number, layout in enumerate(found.layouts):
            first = found.layouts[0]
            if (layout.shape, layout.dtype[1:]) != (first.shape, first.dtype[1:]):
                odd = found.files[int(rows[rows[:, 1] == number][0, 0])].path
                told = f"its planes are {layout.shape} {layout.dtype}, others {first.shape} "
                problems[odd] = Problem(odd, "odd", told + first.dtype)
        if shape is None and found.layouts:
            shape = (*image.shape, *found.layouts[0].shape)
            dtype = str(np.dtype(found.layouts[0].dtype).newbyteorder("="))
    compressions = {name: len(files) for name, files in codecs.items()}
    return FolderScan(
        path=path, n_files=len(nbytes), nbytes=sum(nbytes.values()), shape=shape, dtype=dtype,
        compression=max(compressions, key=lambda k: compressions[k], default=""),
        n_pages=n_pages, compressions=compressions, problems=tuple(problems.values()),
        gaps=(), duplicates=(), hidden=(), others=(), natural=True,
        names=tuple(odd_about(reading)), whole=True,
    )  # fmt: skip


def _added(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add the numbers of files of one compression that has two tags."""
    found: dict[str, int] = {}
    for name, n in counts:
        found[name] = found.get(name, 0) + n
    return found


def _differing(folders: Sequence[FolderScan]) -> str:
    for what in ("n_files", "shape", "dtype"):
        values = {os.path.basename(f.path): getattr(f, what) for f in folders}
        if len(set(values.values())) > 1:
            found = ", ".join(f"{name} has {value}" for name, value in values.items())
            return f"channels differ in {what.replace('n_files', 'their number of files')}: {found}"
    return ""


#: Names that are listed one by one in a report's text.
_NAMED = 10


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that keeps its folder from being read as one stack.

    Attributes
    ----------
    path : str
        The file.
    kind : str
        ``"empty"``: it has no byte; ``"unreadable"``: damaged, truncated,
        sparse, or not a TIFF; ``"odd"``: readable, but unlike most others;
        ``"unreachable"``: a dangling link, not permitted, or the disk does not answer.
    reason : str
        What was found, and what was expected.
    """

    path: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class FolderScan(JobReport):
    """What lies in one folder of planes.

    Attributes
    ----------
    path : str
        The folder, or the one file that was looked at.
    n_files, nbytes : int
        TIFF files that are not hidden, and their size in bytes.
    shape : tuple of int or None
        Of a file, as most have it; ``None`` where none is readable.
    dtype, compression : str
        As most have it.
    n_pages : int
        Of all readable files.
    compressions : dict
        How many readable files have which.
    problems : tuple of Problem
        Files that could not be stacked.
    gaps, duplicates : tuple of str
        Numbers that are missing between the first and the last, and names that
        have the same number.
    hidden, others : tuple of str
        Hidden TIFF files, which no reader reads, and files that are no TIFF.
    natural : bool
        Whether alphabetical order is the order of the numbers.
    names : tuple of str
        Why the files may be no one stack of planes, by their names.
    whole : bool
        Whether the shape is that of what all files hold together, as sets of files do.
    """

    path: str
    n_files: int
    nbytes: int
    shape: Shape | None
    dtype: str
    compression: str
    n_pages: int
    compressions: dict[str, int]
    problems: tuple[Problem, ...]
    gaps: tuple[str, ...]
    duplicates: tuple[str, ...]
    hidden: tuple[str, ...]
    others: tuple[str, ...]
    natural: bool
    names: tuple[str, ...] = ()
    whole: bool = False

    @property
    def ok(self) -> bool:
        """Whether all files can be read as one stack."""
        return self.n_files > 0 and not self.problems

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader would not stumble over, but people should know."""
        found = []
        if self.gaps:
            found.append(f"numbers that are missing: {joined(', ', self.gaps, _NAMED)}")
        if self.duplicates:
            found.append(f"files of the same number: {joined(', ', self.duplicates, _NAMED)}")
        found += self.names[:5]
        if not self.natural:
            found.append(
                "alphabetical order is not that of the numbers; "
                + Option("order", "natural")
                + " is"
            )
        if self.hidden:
            found.append(f"hidden files, which are not read: {joined(', ', self.hidden, _NAMED)}")
        if self.others:
            found.append(f"files that are no TIFF: {joined(', ', self.others, _NAMED)}")
        return tuple(found)

    def title(self) -> str:
        """Say what the files are like, as most are."""
        what = f"{format_shape(self.shape)} {self.dtype}" if self.shape else "none readable"
        each = "each " if self.shape and self.n_files > 1 and not self.whole else ""
        codecs = ", ".join(
            f"{n:,} {'uncompressed' if name == 'none' else name}"
            for name, n in self.compressions.items()
        )
        return (
            f"{self.path}: {format_count(self.n_files, 'file')}, {format_nbytes(self.nbytes)}, "
            f"{each}{what}; {codecs or 'no compression known'}"
        )

    def rows(self) -> Iterable[Row]:
        """Name the files that do not fit, and what people should know."""
        for problem in self.problems[:_NAMED]:
            yield None, f"{os.path.basename(problem.path)} ({problem.kind}): " + problem.reason
        if len(self.problems) > _NAMED:
            yield None, f"and {len(self.problems) - _NAMED:,} more such files"
        yield from ((None, warning) for warning in self.warnings)


@dataclass(frozen=True, slots=True)
class ScanReport(JobReport):
    """What :func:`scan` found.

    Attributes
    ----------
    path : str
        What was looked at.
    folders : tuple of FolderScan
        One, or one a channel.
    mismatch : str
        How channels differ; empty where they do not.
    elapsed_s : float
        From the first listing to this report.
    reading, pattern : str
        How the names of a dataset's files are read: in a sentence, and as a pattern.
    fields : tuple of (str, str)
        Its fields: the axis, and what the names have along it.
    positions : tuple of str
        Names of its positions, where there are several.
    positions_um : tuple of (float, float, float)
        Where the stage was at each, ``(z, y, x)`` in micrometres, as far as that is stated.
    """

    path: str
    folders: tuple[FolderScan, ...]
    mismatch: str
    elapsed_s: float
    reading: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    pattern: str = ""
    positions: tuple[str, ...] = ()
    positions_um: tuple[Place | None, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all can be read as one array."""
        return not self.mismatch and all(folder.ok for folder in self.folders)

    def title(self) -> str:
        """Say whether all can be read as one array."""
        verdict = "can be read whole" if self.ok else "cannot be read whole as it is"
        return f"{self.path} {verdict}"

    def render(self) -> str:
        """Give the report as text: folder after folder, and what comes of it last."""
        lines = []
        for folder in self.folders:
            lines += [folder.title(), *table(folder.rows())]
        if self.reading:
            rows: list[Row] = [("names", self.reading), *self.fields, ("pattern", self.pattern)]
            known = list(zip(self.positions, self.positions_um, strict=False))
            rows += [(name, _place_text(at)) for name, at in known[:_NAMED] if at is not None]
            lines += table(rows)
        return joined("\n", [*lines, *filter(None, [self.mismatch]), self.title()])


def _place_text(place: Place) -> str:
    found = ", ".join(f"{a} {v:,.6g}" for a, v in zip("zyx", place, strict=True) if v is not None)
    return f"at {found} micrometres"
