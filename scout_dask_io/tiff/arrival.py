"""Which files of a folder that still grows are whole, as polling sees it.

A microscope gives no sign when a file is done. Here one counts once nothing about it (size,
times, inode) has changed for a settled time and its header and all its segments lie inside of
it; or, where the writer leaves a marker beside each file, once that is there and the file is
whole by its header. Network shares tell of no change, so folders are listed; a poll costs one
listing a folder, a ``stat`` of each file that is not known to be whole, and of some that are, in
turn: what changes after it was taken for whole is found. Between two polls, files that have settled
by then are looked at alone. A header is parsed once in each state of its file.

No clock and no disk of its own: who polls says when, and how to list and look.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from scout_dask_io.errors import ScoutIOError
from scout_dask_io.tiff.page_layout import PageLayout
from scout_dask_io.tiff.stack_check import DescribedFile

#: Files taken for whole that are looked at again at each poll, the longest ago first.
N_CHECKED = 256
_MASK = 0xFFFFFFFFFFFFFFFF


class FileState(NamedTuple):
    """What changes when a file is written. ``ctime_ns`` also where its times were set back."""

    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int


def state_of(path: str) -> FileState | None:
    """Look at a file; ``None`` where there is no regular file, or it cannot be asked now."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return FileState(
        found.st_size, found.st_mtime_ns & _MASK, found.st_ino, found.st_ctime_ns & _MASK
    )


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file that is whole: the state in which it was described, and when that was."""

    state: FileState
    file: DescribedFile
    since_s: float


@dataclass(slots=True)
class _Waiting:
    """A file that is not whole yet: its state, since when, and what its header lacked."""

    state: FileState
    since_s: float
    refused: ScoutIOError | None = None


@dataclass(frozen=True, slots=True)
class Poll:
    """What a poll found: names that became whole, and that are no longer what was described."""

    whole: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    #: Whether anything moved: a name came or went, or a file that is not whole grew.
    stirred: bool = False


@dataclass(slots=True)
class Arrivals:
    """The files of a folder that grows, between two polls.

    Parameters
    ----------
    names
        Lists the names of the TIFF files that are there now.
    look
        Gives the state of one, as :func:`state_of` does.
    describe
        Describes one, or raises a ``ScoutIOError`` where it is not whole.
    settle_s : float
        How long nothing may have changed, by the clock of who polls; the times that files carry
        are compared, and never held against that clock.
    is_marked, optional
        Tells whether the writer's marker of a file is there; without one none is waited for.
    """

    names: Callable[[], Iterable[str]]
    look: Callable[[str], FileState | None]
    describe: Callable[[str], DescribedFile]
    settle_s: float = 2.0
    is_marked: Callable[[str], bool] | None = None
    whole: dict[str, Arrived] = field(default_factory=dict)
    _waiting: dict[str, _Waiting] = field(default_factory=dict)
    _layouts: dict[PageLayout, PageLayout] = field(default_factory=dict)

    @property
    def n_waiting(self) -> int:
        """How many files are there that are not whole."""
        return len(self._waiting)

    @property
    def due_s(self) -> float:
        """When the first that waits has settled, if nothing changes; by a marker that is not told.

        In the past where it was looked at then, and is to be looked at by the next poll.
        """
        if self.is_marked is not None:
            return math.inf
        waits = (one.since_s for one in self._waiting.values() if one.refused is None)
        return min(waits, default=math.inf) + self.settle_s

    def reasons(self) -> dict[str, str]:
        """Say of each file that is there and not whole why it does not count."""
        return {
            name: "it has not been left alone for long enough"
            if waiting.refused is None
            else str(waiting.refused)
            for name, waiting in sorted(self._waiting.items())
        }

    def poll(self, now_s: float) -> Poll:
        """List the files and look at those that are not whole, and at some that were."""
        there = set(self.names())
        lost = [name for name in self.whole if name not in there]
        for name in lost:
            del self.whole[name]
        stirred = bool(lost)
        for name in self._waiting.keys() - there:
            del self._waiting[name]
            stirred = True
        # Before new ones come in behind them: the dictionary has the longest unseen first.
        changed = self._check(list(islice(self.whole, N_CHECKED)), now_s)
        found = self._look_at(there - self.whole.keys() - set(changed), now_s)
        lost += changed
        return Poll(found.whole, tuple(lost), stirred or found.stirred or bool(changed))

    def settle(self, now_s: float) -> Poll:
        """Look at those files alone that have waited for the settled time, without a listing."""
        due = [n for n, one in self._waiting.items() if self._is_settled(n, one, now_s)]
        return self._look_at(due, now_s)

    def recheck(self, now_s: float) -> tuple[str, ...]:
        """Look at every file that is whole, and give those that changed or went."""
        return tuple(self._check(list(self.whole), now_s))

    def _check(self, names: Iterable[str], now_s: float) -> list[str]:
        changed = []
        for name in names:
            arrived = self.whole.pop(name)
            state = self.look(name)
            if state == arrived.state:
                self.whole[name] = arrived  # now the last that was looked at
                continue
            changed.append(name)
            if state is not None:
                self._waiting[name] = _Waiting(state, now_s)
        return changed

    def _look_at(self, names: Iterable[str], now_s: float) -> Poll:
        """Look at files that are not whole; tell which are now, and whether any moved."""
        whole, stirred = [], False
        for name in sorted(names):
            moved, arrived = self._look_at_one(name, now_s)
            stirred |= moved or arrived
            if arrived:
                whole.append(name)
        return Poll(tuple(whole), (), stirred)

    def _look_at_one(self, name: str, now_s: float) -> tuple[bool, bool]:
        """Look at a file that is not whole; tell whether it moved, and whether it is whole now."""
        state, known = self.look(name), self._waiting.get(name)
        if state is None:
            return self._waiting.pop(name, None) is not None, False
        moved = known is None or known.state != state
        if known is None or moved:
            known = self._waiting[name] = _Waiting(state, now_s)
        if known.refused is not None or not self._is_settled(name, known, now_s):
            return moved, False
        try:
            found = self.describe(name)
        except ScoutIOError as err:
            known.refused = err
            return moved, False
        if (found.file.size, found.file.mtime_ns, found.file.inode) != state[:3]:
            known.since_s = now_s  # it moved between the two looks
            return True, False
        del self._waiting[name]
        self.whole[name] = Arrived(state, self._lean(found), now_s)
        return moved, True

    def _is_settled(self, name: str, known: _Waiting, now_s: float) -> bool:
        if self.is_marked is not None:
            return self.is_marked(name)
        return now_s >= known.since_s + self.settle_s

    def _lean(self, found: DescribedFile) -> DescribedFile:
        """Give a description that shares its layout with the others: there are 100,000."""
        pages = tuple(
            replace(page, layout=self._layouts.setdefault(page.layout, page.layout))
            for page in found.pages
        )
        return replace(found, pages=pages)
