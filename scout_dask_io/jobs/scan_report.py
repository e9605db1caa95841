"""What ``scan`` reports: every file that does not fit, and what people should know."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from scout_dask_io.core.formatting import format_count, format_nbytes, format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.jobs.json_text import to_json

__all__ = ["FolderScan", "Problem", "ScanReport"]

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
        From the first listing to this report.
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
