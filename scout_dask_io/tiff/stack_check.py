"""Every file of a stack, looked at: which fit together, which do not and why. No I/O.

A stack is read whole or refused with every file that keeps it from that; or, where
the caller says so, such files are left out and their planes hold zeros.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scout_dask_io.core.formatting import format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import FilledPlane
from scout_dask_io.core.messages import Option, Way, joined, message_of, warn
from scout_dask_io.errors import PathNotFoundError, ScoutIOError, ShapeMismatchError
from scout_dask_io.files.location import Location, as_local, as_remote
from scout_dask_io.tiff.metadata import Stated
from scout_dask_io.tiff.page_layout import (
    NO_FILE,
    UNREAD,
    DescribedPage,
    PageLayout,
    SourceFile,
)
from scout_dask_io.tiff.range_reader import find_object

#: Files that a message names one by one.
NAMED = 10

#: In the place of a file's kind: its header is yet to be read.
_LATER = -2
_FILL = Option("missing", "fill")
#: What the system says where nothing is known of the file: it may be read another time.
_UNREACHABLE = {
    errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ELOOP,
    errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENODEV, errno.ENXIO,
    errno.EINTR, errno.EAGAIN, errno.EBUSY, errno.ENAMETOOLONG,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class DescribedFile:
    """One file of a stack: how its pages are arranged, and where they lie.

    ``stated`` is what it says beside its pixels, where that was asked.
    """

    file: SourceFile
    lead: Shape
    pages: tuple[DescribedPage, ...]
    stated: Stated | None = None

    @property
    def shape(self) -> Shape:
        """Shape of what the file holds."""
        return (*self.lead, *self.pages[0].layout.shape)

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Pixel type, in native byte order."""
        return np.dtype(self.pages[0].layout.dtype).newbyteorder("=")


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that keeps its stack from being read whole.

    Attributes
    ----------
    file : SourceFile
        Its path, and the facts by which a change is noticed; -1 where they are not known.
    kind : str
        ``"empty"``: it has no byte; ``"unreadable"``: damaged, truncated, sparse or
        not a TIFF; ``"odd"``: readable, but unlike most others; ``"unreachable"``:
        missing, not permitted, or the disk does not answer.
    reason : str
        What was found, and what was expected.
    error : ScoutIOError
        What reading it alone raises; of an odd one, what stacking it does.
    """

    file: SourceFile
    kind: str
    reason: str
    error: ScoutIOError


@dataclass(frozen=True, slots=True)
class _Kind:
    """What files of a stack must share."""

    lead: Shape
    page: Shape
    dtype: np.dtype[np.generic]

    @property
    def shape(self) -> Shape:
        return (*self.lead, *self.page)


def refuse(path: Location, error: ScoutIOError) -> Refused:
    """Give the record of a file that reading alone refuses."""
    try:
        if not path.on_disk:
            file = find_object(as_remote(path))
        else:
            found = os.stat(as_local(path))
            file = SourceFile(str(path), found.st_size, found.st_mtime_ns, found.st_ino)
    except (OSError, ValueError):
        file = SourceFile(str(path), -1, -1, -1)
    cause = error.__cause__
    if isinstance(error, PathNotFoundError) or (
        isinstance(cause, OSError) and cause.errno in _UNREACHABLE
    ):
        kind = "unreachable"
    else:
        kind = "empty" if file.size == 0 else "unreadable"
    reason = message_of(error, f"cannot read {file.path!r}: ")
    return Refused(file, kind, reason, error)


class Survey:
    """Files of a stack in their order, each described or refused, as they come in."""

    def __init__(self) -> None:
        self._files: list[SourceFile] = []
        self._kind_of: list[int] = []
        self._pages: list[tuple[tuple[int, int, int], ...]] = []
        self._kinds: dict[_Kind, int] = {}
        self._layouts: dict[PageLayout, int] = {}
        self._kind_of_layout: dict[tuple[Shape, int], int] = {}
        self._refused: dict[int, Refused] = {}
        #: What the first file states beside its pixels.
        self.stated: Stated | None = None
        #: The first file, where it could be read.
        self.first: DescribedFile | None = None

    def __len__(self) -> int:
        return len(self._files)

    def add(self, found: DescribedFile | Refused | SourceFile) -> None:
        """Take in the next file; one of which its facts alone are known is read later."""
        if isinstance(found, SourceFile):
            self._kind_of.append(_LATER)
            self._pages.append(())
            self._files.append(found)
            return
        if isinstance(found, Refused):
            self._refused[len(self._files)] = found
            self._kind_of.append(-1)
            self._pages.append(())
            self._files.append(found.file)
            return
        if not self._files:
            self.stated, self.first = found.stated, found
        layouts = self._layouts
        pages = tuple(
            (layouts.setdefault(p.layout, len(layouts)), p.ifd, p.data) for p in found.pages
        )
        key = (found.lead, pages[0][0])
        kind = self._kind_of_layout.get(key)
        if kind is None:
            whole = _Kind(found.lead, found.pages[0].layout.shape, found.dtype)
            kind = self._kinds.setdefault(whole, len(self._kinds))
            self._kind_of_layout[key] = kind
        self._kind_of.append(kind)
        self._pages.append(pages)
        self._files.append(found.file)

    @property
    def has_unread(self) -> bool:
        """Whether headers are yet to be read."""
        return _LATER in self._kind_of

    @property
    def nbytes(self) -> int:
        """Size of all files, in bytes."""
        return sum(max(f.size, 0) for f in self._files)

    @property
    def n_pages(self) -> int:
        """Pages of all readable files."""
        return sum(map(len, self._pages))

    @property
    def compressions(self) -> Counter[int]:
        """How many readable files have which compression, by the number in their tag."""
        layouts = list(self._layouts)
        return Counter(layouts[p[0][0]].compression for p in self._pages if p)

    @property
    def kind(self) -> _Kind | None:
        """Shape and dtype of a file, as most have it; the first of those that are as many."""
        number = self._usual()
        return None if number < 0 else list(self._kinds)[number]

    def _usual(self) -> int:
        counts = Counter(k for k in self._kind_of if k >= 0)
        return counts.most_common(1)[0][0] if counts else -1

    def refused(self) -> dict[int, Refused]:
        """Give the files that do not fit, by their place in the stack; the odd ones too."""
        usual = self._usual()
        kinds = list(self._kinds)
        found = dict(self._refused)
        for place, number in enumerate(self._kind_of):
            if number not in (-1, _LATER, usual):
                example = self._files[self._kind_of.index(usual)]
                found[place] = _odd(self._files[place], kinds[number], example, kinds[usual])
        return dict(sorted(found.items()))

    def check(self, missing: str) -> dict[int, Refused]:
        """Give the files whose planes are to be filled, by their place in the stack.

        Warns
        -----
        UserWarning
            If there are such.

        Raises
        ------
        PathNotFoundError, TiffReadError, ShapeMismatchError
            If a file does not fit, or with ``missing="fill"`` if one cannot be
            reached or none can be read; the message names all of them, or the first
            ten and how many there are.
        """
        refused = self.refused()
        if missing == "fill" and len(refused) < len(self):
            bad = [r for r in refused.values() if r.kind == "unreachable"]
        else:
            bad = list(refused.values())
        if bad:
            raise self._error(bad, missing) from bad[0].error
        if refused:
            warn(self._list_of(list(refused.values())) + ". Their planes hold zeros.")
        return refused

    def _error(self, bad: Sequence[Refused], missing: str) -> ScoutIOError:
        first = next((r for r in bad if r.kind != "odd"), bad[0])
        # Where half of the files differ, another folder is the likelier mistake.
        offer = missing != "fill" and not any(r.kind == "unreachable" for r in bad)
        offer = offer and 2 * len(bad) < len(self)
        if len(bad) == 1:
            text = message_of(first.error)
            end = " " if text.endswith(".") else ". "
            hint = end + _FILL + " puts zeros in its place and says so."
            return type(first.error)(text + hint if offer else text)
        more: str = ", and " + _FILL + " puts zeros in their place and says so" if offer else ""
        return type(first.error)(
            self._list_of(bad) + ". Mend or remove them; scan names them all" + more + "."
        )

    def _list_of(self, bad: Sequence[Refused]) -> str:
        """Give ``1 of the 9 files of '<folder>' cannot be read as one stack: 'a.tif' (…)``."""
        folder = os.path.commonpath([os.path.dirname(f.path) for f in self._files])
        if not self._files[0].path.startswith(folder):  # a URL, which has two slashes in a row
            folder = folder.replace("/", "//", 1)
        start = len(os.path.join(folder, ""))
        shown = (f"{r.file.path[start:]!r} (" + r.reason + ")" for r in bad)
        text = f"{len(bad):,} of the {len(self):,} files of {folder!r} "
        return text + "cannot be read as one stack: " + joined(", ", shown, NAMED)

    def table(
        self, left_out: dict[int, Refused]
    ) -> tuple[list[SourceFile], tuple[PageLayout, ...], list[tuple[int, int, int, int]]]:
        """Give files, layouts and page table of the stack, in which some files are left out."""
        known = list(self._layouts)
        kind = self.kind
        n_pages = int(np.prod(kind.lead)) if kind is not None else 1
        used: dict[int, int] = {}
        files: list[SourceFile] = []
        rows: list[tuple[int, int, int, int]] = []
        for place, (file, pages) in enumerate(zip(self._files, self._pages, strict=True)):
            if place in left_out:
                rows += [(NO_FILE, 0, 0, -1)] * n_pages
                continue
            if self._kind_of[place] == _LATER:
                rows += [(len(files), 0, UNREAD, k) for k in range(n_pages)]
                files.append(file)
                continue
            rows += [
                (len(files), used.setdefault(number, len(used)), ifd, data)
                for number, ifd, data in pages
            ]
            files.append(file)
        return files, tuple(known[k] for k in used), rows


def filled_planes(left_out: dict[int, Refused], lead: Shape) -> tuple[FilledPlane, ...]:
    """Give the record of the planes that stand for files left out of a stack."""
    return tuple(
        FilledPlane(tuple(map(int, np.unravel_index(place, lead))), r.file.path, r.reason)
        for place, r in left_out.items()
    )


def _odd(file: SourceFile, found: _Kind, example: SourceFile, usual: _Kind) -> Refused:
    what, a, b = "dtype", str(found.dtype), str(usual.dtype)
    if (found.lead, found.page) != (usual.lead, usual.page):
        what, a, b = "shape", str(found.shape), str(usual.shape)
    error = ShapeMismatchError(
        f"planes differ in {what}: {file.path!r} is {a}, {example.path!r} is {b}. "
        "Correct or remove it, or "
        + Way(
            "pass the paths to stack to imread_parallel",
            "put those that belong together in a folder of their own",
        )
        + "."
    )
    reason = (
        f"{format_shape(found.shape)} {found.dtype}, most are "
        f"{format_shape(usual.shape)} {usual.dtype}"
    )
    return Refused(file, "odd", reason, error)
