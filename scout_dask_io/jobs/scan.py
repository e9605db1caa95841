"""Looking through TIFF files before they are converted: headers alone, every file by name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.execute import check_nb_workers
from scout_dask_io.grid import Shape
from scout_dask_io.human import format_count, format_nbytes, format_shape
from scout_dask_io.jobs.render import to_json
from scout_dask_io.tiff.describe import survey_planes
from scout_dask_io.tiff.files import absolute
from scout_dask_io.tiff.layout import CODEC_NAMES
from scout_dask_io.tiff.numbering import check_numbering
from scout_dask_io.tiff.order import natural_key
from scout_dask_io.tiff.survey import Survey

__all__ = ["FolderScan", "Problem", "ScanReport", "scan"]

_SUFFIXES = (".tif", ".tiff")
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
class FolderScan:
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

    @property
    def ok(self) -> bool:
        """Whether all files can be read as one stack."""
        return self.n_files > 0 and not self.problems

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader would not stumble over, but people should know."""
        found = []
        if self.gaps:
            found.append(f"numbers that are missing: {_some(self.gaps)}")
        if self.duplicates:
            found.append(f"files of the same number: {_some(self.duplicates)}")
        if not self.natural:
            found.append("alphabetical order is not that of the numbers; order='natural' is")
        if self.hidden:
            found.append(f"hidden files, which are not read: {_some(self.hidden)}")
        if self.others:
            found.append(f"files that are no TIFF: {_some(self.others)}")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class ScanReport:
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
    """

    path: str
    folders: tuple[FolderScan, ...]
    mismatch: str
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """Whether all can be read as one array."""
        return not self.mismatch and all(folder.ok for folder in self.folders)

    def to_json(self) -> str:
        """Give the report as JSON."""
        return to_json(self)

    def render(self) -> str:
        """Give the report as text."""
        lines = []
        for folder in self.folders:
            lines += _text(folder)
        if self.mismatch:
            lines.append(self.mismatch)
        verdict = "can be read whole" if self.ok else "cannot be read whole as it is"
        return "\n".join([*lines, f"{self.path} {verdict}"])


def scan(src: str | os.PathLike[str], *, nb_workers: int | None = None) -> ScanReport:
    """Look through a TIFF file, a folder of planes, or a folder of channels. Reads no pixel.

    Every header is read and checked as the readers do it: all files are looked
    at, and each that is damaged, truncated, sparse, empty, or unlike the others
    is named with the reason.

    Parameters
    ----------
    src : path-like
        A TIFF file, a folder of them, or a folder with one folder a channel.
    nb_workers : int, optional
        How many headers are read at once; 8 where not given.

    Raises
    ------
    PathNotFoundError
        If there is nothing at ``src``, or no TIFF file in it.
    ArgumentError
        If it is a file of another name, or ``nb_workers`` no positive int.
    """
    start = time.perf_counter()
    check_nb_workers(nb_workers)
    path = Path(absolute(src))
    folders: tuple[FolderScan, ...]
    if path.is_dir():
        found = _folder(path, nb_workers)
        below = [p for p in sorted(path.iterdir()) if p.is_dir() and not p.name.startswith(".")]
        if not found.n_files and below and not found.hidden:
            folders = tuple(_folder(p, nb_workers) for p in below)
        else:
            folders = (found,)
        if not any(f.n_files for f in folders):
            raise PathNotFoundError(f"{path} holds no .tif or .tiff file, nor do its sub-folders")
    elif path.name.lower().endswith(_SUFFIXES) and os.path.lexists(path):
        folders = (_summary(str(path), [str(path)], nb_workers, (), ()),)
    elif os.path.lexists(path):
        raise ArgumentError(f"{path} is neither a folder nor a .tif or .tiff file")
    else:
        raise PathNotFoundError(f"there is nothing at {path}")
    return ScanReport(str(path), folders, _differing(folders), time.perf_counter() - start)


def _folder(path: Path, nb_workers: int | None) -> FolderScan:
    planes, hidden, others = [], [], []
    with os.scandir(path) as entries:
        for entry in entries:
            is_tiff = entry.name.lower().endswith(_SUFFIXES)
            if entry.is_dir():
                continue
            if is_tiff and entry.name.startswith("."):
                hidden.append(entry.name)
            elif is_tiff:
                planes.append(entry.path)
            else:
                others.append(entry.name)
    return _summary(str(path), sorted(planes), nb_workers, sorted(hidden), sorted(others))


def _summary(
    path: str,
    planes: list[str],
    nb_workers: int | None,
    hidden: Sequence[str],
    others: Sequence[str],
) -> FolderScan:
    found = Survey() if not planes else survey_planes(planes, nb_workers)
    kind = found.kind
    codecs = found.compressions.most_common()
    named = [(CODEC_NAMES.get(number, str(number)), n) for number, n in codecs]
    names = [os.path.basename(p) for p in planes]
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
    )


def _added(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Add the numbers of files of one compression that has two tags."""
    found: dict[str, int] = {}
    for name, n in counts:
        found[name] = found.get(name, 0) + n
    return found


def _differing(folders: Sequence[FolderScan]) -> str:
    for what in ("n_files", "shape", "dtype"):
        values = {Path(f.path).name: getattr(f, what) for f in folders}
        if len(set(values.values())) > 1:
            found = ", ".join(f"{name} has {value}" for name, value in values.items())
            return f"channels differ in {what.replace('n_files', 'their number of files')}: {found}"
    return ""


def _text(folder: FolderScan) -> list[str]:
    what = f"{format_shape(folder.shape)} {folder.dtype}" if folder.shape else "none readable"
    each = "each " if folder.shape and folder.n_files > 1 else ""
    codecs = ", ".join(
        f"{n:,} {'uncompressed' if name == 'none' else name}"
        for name, n in folder.compressions.items()
    )
    lines = [
        f"{folder.path}: {format_count(folder.n_files, 'file')}, "
        f"{format_nbytes(folder.nbytes)}, {each}{what}; {codecs or 'no compression known'}"
    ]
    for problem in folder.problems[:_NAMED]:
        lines.append(f"  {os.path.basename(problem.path)} ({problem.kind}): {problem.reason}")
    if len(folder.problems) > _NAMED:
        lines.append(f"  and {len(folder.problems) - _NAMED:,} more such files")
    return lines + [f"  {warning}" for warning in folder.warnings]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
