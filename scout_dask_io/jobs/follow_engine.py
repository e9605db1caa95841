"""How a folder is followed: polled, its planes placed, slabs written, and all of it finished.

One thread polls and decides; the others write units. All that it decides by is what polls found and
what is noted beside the journal, so a run that goes on after a kill decides the same.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from scout_dask_io.core.formatting import format_count, format_s
from scout_dask_io.core.grid import uniform_blocks
from scout_dask_io.core.image_info import named_channels
from scout_dask_io.core.messages import OVERWRITE, RESUME, joined, warn
from scout_dask_io.core.voxel_size import as_voxel_size
from scout_dask_io.errors import (
    ArgumentError,
    PathNotFoundError,
    ResumeError,
    ScoutIOError,
    ShapeMismatchError,
    SourceChangedError,
    TiffReadError,
)
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location
from scout_dask_io.jobs.convert import (
    ConvertOptions,
    ConvertPlan,
    ConvertReport,
    plan_with,
)
from scout_dask_io.read.any import Opened
from scout_dask_io.run.lazy import lazy_array, source_of
from scout_dask_io.run.progress import Followed, FollowReporter
from scout_dask_io.store.local_transaction import LocalTransaction
from scout_dask_io.store.staging import find_staging
from scout_dask_io.store.unfinished import ADOPTS
from scout_dask_io.tiff.arrival import Arrivals, FileState, Poll, state_of
from scout_dask_io.tiff.describe import describe_plane
from scout_dask_io.tiff.metadata import Stated
from scout_dask_io.tiff.page_layout import FILE, NO_FILE, FileTable
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.placement import Placement, missing_places, placement_of
from scout_dask_io.tiff.source import TiffSource
from scout_dask_io.tiff.stack_check import DescribedFile, Survey
from scout_dask_io.write.growth import Growing, Growth, Slab, moved

#: What the first planes tell of the whole only for the time being; see ``adopted``.
_OPEN = ("attributes", "axes", "shown", "stated")
#: What is kept beside the journal while convert finishes a write: the name that its source had.
_FOLLOWED = "followed"
#: A poll may take at most a twentieth of the time, but for headers, which are read once a file:
#: with them, a fast writer made it 4 s from one poll to the next.
_REST = 20
#: How often at most it is told that nothing has been converted since.
_TOLD_S = 1.0
#: How long it is waited before a folder is listed again that could not be.
_RETRY_S = 5.0
#: Planes that there is room for at first where their number is not known.
_ROOM = 256
#: Files and places that a message names.
_NAMED = 10

#: ``pause(running, seconds)``: wait until one of these ends, no longer than that.
Pause: TypeAlias = Callable[[set[Future[Any]], float], None]


def pause(running: set[Future[Any]], seconds: float) -> None:
    """Wait for some time, or until something that is written is done."""
    if running:
        wait(running, seconds, FIRST_COMPLETED)
    else:
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How a folder is followed: the parameters of ``follow`` that ``convert`` has not."""

    planes: Mapping[str, int]
    settle_s: float = 2.0
    poll_s: float = 0.5
    idle_s: float = 1800.0
    marker: str | None = None
    until: Path | None = None
    clock: Callable[[], float] = time.monotonic
    pause: Pause = pause


class Follower:
    """One run over a folder that grows.

    Parameters
    ----------
    root, destination : LocalLocation
        What is followed, and where it goes.
    how, options
        How it is followed, and how it is converted.
    report
        Called with how far it is.
    """

    def __init__(
        self,
        root: LocalLocation,
        destination: LocalLocation,
        how: FollowOptions,
        options: ConvertOptions,
        report: FollowReporter | None,
    ) -> None:
        self._root, self._destination = root, destination
        self._how, self._options, self._report = how, options, report
        #: How many planes there will be along each axis; until it is known, room for them.
        self._planes: Mapping[str, int] = how.planes or {"z": self._room()}
        #: Whether it is known.
        self._is_closed = how.until is None
        self._placement = self._place_by()
        self._arrivals = Arrivals(
            self._names, self._state, self._describe, how.settle_s, self._marked()
        )
        self._placed: dict[tuple[int, ...], str] = {}
        # How often planes were placed; with how often slabs were struck, when this was looked at.
        self._n_placed, self._looked_at = 0, (-1, -1)
        self._first: DescribedFile | None = None
        #: Why the folder could not be listed last.
        self._trouble = ""
        #: Whether the file that says that no plane is to come was there before the last poll, and
        #: whether all that this has found are whole.
        self._is_ending = self._is_over = False
        self._growth: Growth | None = None
        self._told: Followed | None = None
        self._told_s = -math.inf
        self._next_poll_s = self._stirred_s = how.clock()
        #: When a file that waits has settled, between two polls.
        self._due_s = math.inf
        self._arrived_s = how.clock()
        #: How long reading headers has taken in the last poll.
        self._described_s = 0.0
        #: Slabs that were written again.
        self.n_again = 0

    @property
    def n_planes(self) -> int:
        """How many files there will be, or that there is room for."""
        return math.prod(self._planes.values())

    # What arrives

    def _place_by(self) -> Placement:
        return placement_of(self._root, self._planes, self._options.selection)

    def _names(self) -> list[str]:
        if self._growth is None:
            self._placement = self._place_by()  # by what has come to be there
        return self._placement.names()

    def _state(self, name: str) -> FileState | None:
        return state_of(f"{self._root}/{name}")

    def _describe(self, name: str) -> DescribedFile:
        start_s, whole = self._how.clock(), self._placement.kind == "dataset"
        try:
            return describe_plane(self._root / name, self._options.selection, whole=whole)
        finally:
            self._described_s += self._how.clock() - start_s

    def _marked(self) -> Callable[[str], bool] | None:
        marker = self._how.marker
        if marker is None:
            return None
        return lambda name: os.path.exists(f"{self._root}/{name}{marker}")

    def _state_now(self, name: str) -> FileState | None:
        """Give the state in which a file was described, where it is whole."""
        found = self._arrivals.whole.get(name)
        return None if found is None else found.state

    # The loop

    def run(self) -> tuple[ConvertReport, float]:
        """Follow until all stands; give what convert says of it, and the lag in seconds."""
        clock = self._how.clock
        while True:
            now_s = clock()
            if now_s >= self._next_poll_s:
                self._poll(now_s)
            elif now_s >= self._due_s:
                self._take_in(self._arrivals.settle(now_s), now_s)
            if self._growth is None and self._placed:
                self._growth = self._begin(self._expected_plan(self._options))
            if self._growth is not None:
                self._write(self._growth)
                self._tell()
                if not self._is_closed and not self._growth.futures:
                    anew = self._close(self._growth)
                    if anew is not None:
                        return anew, clock() - self._arrived_s
                if self._is_complete(self._growth):
                    done = self._finish(self._growth)
                    if done is not None:
                        return done, clock() - self._arrived_s
            running = set() if self._growth is None else self._growth.futures
            if running:
                self._stirred_s = clock()
            elif clock() - self._stirred_s > self._how.idle_s:
                raise self._idle()
            next_s = min(self._next_poll_s, self._due_s)
            self._how.pause(running, max(0.0, next_s - clock()))

    def _poll(self, now_s: float) -> None:
        until = self._how.until
        over = until is not None and until.exists()  # before the folder is listed
        self._described_s = 0.0
        try:
            found = self._arrivals.poll(now_s)
        except PathNotFoundError as err:
            # A share that does not answer for a while is no reason to end the night.
            self._trouble = f"; the folder could not be listed last: {err}"
            self._next_poll_s = now_s + max(self._how.poll_s, _RETRY_S)
            return
        self._trouble = ""
        self._is_ending = over
        self._take_in(found, now_s)
        took_s = self._how.clock() - now_s - self._described_s
        self._next_poll_s = now_s + max(self._how.poll_s, _REST * took_s)

    def _take_in(self, found: Poll, now_s: float) -> None:
        """Take in what a look at the folder found, and say when the next has settled."""
        if found.stirred:
            self._stirred_s = now_s
        self._is_over = self._is_ending and not self._arrivals.n_waiting
        if found.whole or found.lost:
            self._arrived_s = now_s
            self._check(found.whole)
            self._place()
        due_s = self._arrivals.due_s
        self._due_s = due_s if due_s > now_s else math.inf

    def _check(self, names: tuple[str, ...]) -> None:
        """Refuse planes that do not fit the first, or of which there are too many."""
        whole, n_planes = self._arrivals.whole, self.n_planes
        for name in names:
            found = whole[name].file
            if len(found.shape) != 2:
                raise ArgumentError(
                    f"{found.file.path!r} holds {found.shape}, and files of one grey plane each "
                    "are followed: convert them once all are there"
                )
            self._first = self._first or found
            if (found.shape, found.dtype) != (self._first.shape, self._first.dtype):
                survey = Survey()
                survey.add(self._first)
                survey.add(found)
                survey.check("error")
        if self._is_closed and len(whole) > n_planes:
            more = ", ".join(map(repr, sorted(whole)[n_planes:][:_NAMED]))
            raise ShapeMismatchError(
                f"{self._root} holds {len(whole):,} planes, and {n_planes:,} were to come "
                f"({dict(self._planes)}): beyond these there is {more}. Give the number of "
                "all, or move away what is no plane; " + RESUME + " goes on."
            )

    def _write(self, growth: Growth) -> None:
        """Take in what was written, take back what changed, and begin what is ready."""
        for slab in growth.collect():
            if slab.failure is not None:
                self._take_back(growth, slab, slab.failure)
        if self._looked_at == (self._n_placed, growth.n_struck):
            return  # nothing came, changed or was taken back
        for slab in growth.slabs:
            if slab.planes and not slab.stale and moved(slab, self._placed, self._state_now):
                self.n_again += 1
                growth.strike(slab)
            elif slab.stale and not slab.running:
                growth.strike(slab)
            if not (slab.is_done or slab.running or slab.stale):
                names = {at: self._placed.get(at) for at in slab.places()}
                planes = {at: (n, self._arrivals.whole[n]) for at, n in names.items() if n}
                if len(planes) == slab.n_planes:
                    growth.begin(slab, planes)
        self._looked_at = self._n_placed, growth.n_struck

    def _place(self) -> None:
        """Say anew where the planes belong that are whole."""
        self._placed = self._placement.places(list(self._arrivals.whole))
        self._n_placed += 1

    def _take_back(self, growth: Growth, slab: Slab, failure: BaseException) -> None:
        """Have a slab written again whose planes changed while they were read; else raise."""
        changed = any(self._state(plane.name) != plane.state for plane in slab.planes.values())
        of_files = (SourceChangedError, TiffReadError, PathNotFoundError)
        if not (changed and isinstance(failure, of_files)):
            raise failure
        self.n_again += 1
        growth.strike(slab)
        self._lose(self._arrivals.recheck(self._how.clock()))

    def _lose(self, names: tuple[str, ...]) -> bool:
        """Take in that planes changed or went; tell whether any did."""
        if names:
            self._is_ending = self._is_over = False  # until a poll has found all of them
            self._stirred_s = self._how.clock()
            self._place()
        return bool(names)

    def _is_complete(self, growth: Growth) -> bool:
        return (
            self._is_closed
            and len(self._placed) == self.n_planes
            and not self._arrivals.n_waiting
            and all(slab.is_done for slab in growth.slabs)
        )

    def _tell(self) -> None:
        growth, whole = self._growth, self._arrivals.whole
        if self._report is None or growth is None:
            return
        now_s, n_converted = self._how.clock(), growth.n_planes_done
        moved_on = self._told is None or n_converted != self._told.n_converted
        if not moved_on and now_s - self._told_s < _TOLD_S:
            return
        self._told_s = now_s
        written = {p.name for slab in growth.slabs if slab.is_done for p in slab.planes.values()}
        waits = (one.since_s for name, one in whole.items() if name not in written)
        lag_s = max(0.0, now_s - min(waits, default=now_s))
        n_planes = self.n_planes if self._is_closed else None
        found = Followed(len(whole), n_converted, n_planes, lag_s, growth.nbytes)
        if found != self._told:
            self._told = found
            self._report(found)

    # The write

    def _expected_plan(self, how: ConvertOptions) -> ConvertPlan:
        """Give the plan of all planes, by what the first tells of them."""
        name = self._placed[min(self._placed)]
        whole = self._placement.kind == "dataset"
        first = describe_plane(self._root / name, how.selection, asked=True, whole=whole)
        source = _expected(first, self._placement, self._root)
        given = as_voxel_size(how.voxel_size)

        def expect(place: Location) -> Opened:
            kind = self._placement.kind
            return Opened(place, kind, lazy_array(source), source.info_with(given))

        plan = plan_with(self._root, self._destination, how, expect)
        if plan.source_array().shape != source.shape:
            raise ArgumentError(
                f"{self._root}: planes of {source.shape} would become an image of "
                f"{plan.source_array().shape}, which cannot be followed: convert them once all "
                "are there"
            )
        return plan

    def _begin(self, plan: ConvertPlan, own: Iterable[int] = ()) -> Growth:
        """Begin the write of all planes, or go on with it; ``own`` units this run has written."""
        self._take_over(plan)
        begun = plan.begin()
        if begun is None:
            raise ResumeError(f"{self._destination} stands finished")
        growing = self._placement.axes.index("t" if self._planes.get("t", 1) > 1 else "z")
        n_levels = len(begun.target.lower) + 1
        txn = cast(LocalTransaction, begun.target.transaction)
        settings = txn.note(**{ADOPTS: list(_OPEN)})
        group = _first_levels(settings["attributes"], n_levels) if self._options.ome else None
        excerpt = Growing(growing, group, is_open=not self._is_closed)
        return Growth(begun.target, begun.undone, excerpt, plan.write.nb_workers, own)

    def _take_over(self, plan: ConvertPlan) -> None:
        """Make a write that convert was finishing one that is followed again.

        It has the name of the whole folder then, of which a plane may have changed since.
        """
        found = LocalTransaction.find(self._destination) if self._options.resume else None
        noted = None if found is None else found.staging.read_settings()
        source = source_of(plan.source_array())
        if found is None or noted is None or source is None:
            return
        digest = hashlib.sha256(source.token.encode()).hexdigest()
        (followed,) = found.kept(None, [_FOLLOWED])
        if followed == digest.encode() and noted.get("source") != digest:
            found.note(source=digest, **{ADOPTS: list(_OPEN)})

    # Where it is not known how many planes there will be

    def _room(self) -> int:
        """Give for how many planes there is room: of a run that goes on, as many as it had."""
        staging = find_staging(self._destination) if self._options.resume else None
        settings = None if staging is None else staging.read_settings()
        try:
            return int(settings["shape"][0]) if settings else _ROOM
        except (KeyError, TypeError, ValueError, IndexError):
            return _ROOM

    def _close(self, growth: Growth) -> ConvertReport | None:
        """Make the array as long as it will be once that is known, and longer where it must be.

        Where levels of that length are others than were begun, all is converted anew, and what
        convert says of it is given.
        """
        n_planes = len(self._arrivals.whole)
        if not self._placed:
            return None
        if self._is_over:
            self._is_closed = True
        elif n_planes > self.n_planes:
            n_planes = 2 * self.n_planes
        else:
            return None
        self._planes = {"z": n_planes}
        self._placement = self._place_by()
        self._place()
        plan = self._expected_plan(replace(self._options, resume=True, overwrite=False))
        settings = _resized(growth.txn.settings, plan)
        if settings is not None:
            growth.end()
            growth.txn.note(**settings)
            with suppress(ResumeError), growth.written_here():
                self._growth = self._begin(plan, growth.own_units())
                self._looked_at = (-1, -1)
                return None
        if not self._is_closed:
            raise ResumeError(
                f"{self._root} holds {len(self._arrivals.whole):,} planes, for which the levels "
                "that were begun have no room: give their number, with "
                + OVERWRITE
                + ", or convert once all are there"
            )
        return self._anew(growth)

    def _finish(self, growth: Growth) -> ConvertReport | None:
        """Have convert finish the write; ``None`` where a plane has changed after all."""
        if self._lose(self._arrivals.recheck(self._how.clock())):
            return None
        txn, ours = growth.txn, growth.excerpt.is_shown()
        plan = self._plan(overwrite=self._options.overwrite or ours)
        token = self._checked_token(plan, growth)
        if token is None and self._lose(self._arrivals.recheck(self._how.clock())):
            return None
        growth.end()
        if token is not None:
            txn.keep(None, _FOLLOWED, str(txn.settings["source"]).encode())
            txn.note(source=hashlib.sha256(token.encode()).hexdigest(), **{ADOPTS: list(_OPEN)})
            with suppress(ResumeError), growth.written_here():
                return plan.run()
        return self._anew(growth)

    def _anew(self, growth: Growth) -> ConvertReport:
        """Convert the whole folder, and leave what was written."""
        growth.end()
        warn(
            f"{self._root}: the whole folder reads otherwise than its first planes told, and is "
            "converted anew"
        )
        how = replace(self._options, resume=False, overwrite=True)
        return plan_with(self._root, self._destination, how).run()

    def _plan(self, *, overwrite: bool) -> ConvertPlan:
        """Give the plan that finishes the write, by the headers that were read of whole files."""
        whole = self._placement.kind == "dataset"
        known = {(a.file.file.path, whole): a.file for a in self._arrivals.whole.values()}
        selection = replace(self._options.selection, known=known)
        how = replace(self._options, resume=True, overwrite=overwrite, selection=selection)
        plan = plan_with(self._root, self._destination, how)
        known.clear()  # the report keeps its plan: of 100,000 planes these are 60 MB
        return plan

    def _checked_token(self, plan: ConvertPlan, growth: Growth) -> str | None:
        """Give what names the content of the folder, where units read just these files."""
        source = source_of(plan.source_array())
        if not isinstance(source, TiffSource) or source.shape[:-2] != self._placement.extents:
            return None
        files, numbers = source.files, source.table.pages[..., FILE]
        for slab in growth.slabs:
            for at, plane in slab.planes.items():
                number = int(numbers[at])
                if number == NO_FILE:
                    return None
                file = files[number]
                here = (f"{self._root}/{plane.name}", *plane.state[:3])
                if (file.path, file.size, file.mtime_ns, file.inode) != here:
                    return None
        return source.token

    # The end

    def _idle(self) -> PathNotFoundError:
        whole, n_planes = self._arrivals.whole, self.n_planes
        told = [
            f"{self._root}: nothing has come or changed for {format_s(self._how.idle_s)}, and "
            + (
                f"{len(whole):,} of {format_count(n_planes, 'plane')} are whole"
                if self._is_closed
                else f"{format_count(len(whole), 'plane')} are whole and there is no "
                f"{self._how.until}"
            )
        ]
        reasons = self._arrivals.reasons()
        if reasons:
            some = [f"{name!r} ({why})" for name, why in list(reasons.items())[:_NAMED]]
            more = f" and {len(reasons) - _NAMED:,} more" if len(reasons) > _NAMED else ""
            told.append(f"not whole: {', '.join(some)}{more}")
        lacking = missing_places(self._placement.extents, self._placed)
        if whole and lacking and self._is_closed:
            at = ", ".join(
                f"{a} {n}" for a, n in zip(self._placement.axes, lacking[0], strict=True)
            )
            told.append(f"the first place without a plane is {at}")
        text = (
            joined("; ", told)
            + self._trouble
            + ". If more is to come, the same call with "
            + RESUME
        )
        return PathNotFoundError(
            text + " goes on; if not, convert takes what is there, with " + OVERWRITE + " and "
            "without following."
        )

    def give_up(self, err: BaseException) -> None:
        """Stop, keep what a run that goes on can use, and say so."""
        growth = self._growth
        if growth is None:
            return
        growth.close()
        if any("are finished and kept" in note for note in getattr(err, "__notes__", ())):
            return  # convert was at it, and has said so
        with suppress(ScoutIOError, OSError):
            kept = growth.txn.abandon()
            if kept is not None:
                then = (
                    "" if str(RESUME) in str(err) else ". The same call with " + RESUME + " goes on"
                )
                err.add_note(
                    f"{kept.n_finished:,} of {kept.n_units:,} write units are finished and kept in "
                    f"{kept.path}" + then + "."
                )


def _expected(first: DescribedFile, placement: Placement, root: LocalLocation) -> TiffSource:
    """Give the array that there will be, every page of which is the first one's for now."""
    (page,) = first.pages
    extents, axes = placement.extents, placement.axes
    table = np.zeros((*extents, 4), np.int64)
    table[...] = (0, 0, page.ifd, page.data)
    stated = first.stated or Stated()
    n_channels = extents[axes.index("c")] if "c" in axes else 0
    names = list(map(str, range(n_channels)))
    file_ndim = len(extents)
    if placement.kind == "dataset":
        stated = replace(stated, axes=f"{axes}yx", channels=named_channels(names))
        file_ndim = 0
    elif file_ndim > 1:
        stated = replace(stated, channels=named_channels(stated.telling(names)))
    pages = PageTable(FileTable.of([first.file]), (page.layout,), table)
    token = f"follow {root} {axes}"
    return TiffSource(pages, token, file_ndim=file_ndim, stated=stated)


def _resized(settings: Mapping[str, Any], plan: ConvertPlan) -> dict[str, Any] | None:
    """Give what is to be noted of a write whose first axis becomes as long as a plan has it.

    Units keep their numbers, since the first axis counts first. ``None`` where the plan has
    other levels.
    """
    shape, shapes = list(plan.write.shape), [list(level) for level in plan.levels]
    if len(shapes) != len(settings.get("levels", ())):
        return None
    if not shapes:
        return {"shape": shape, "units": _clipped(settings["units"], shape[0])}
    passes = [(n, _clipped(units, shapes[n][0])) for n, units in settings["passes"]]
    return {"shape": shape, "levels": shapes, "passes": passes}


def _clipped(units: Any, n: int) -> list[list[int]]:
    """Give the extents of units of which the first axis is ``n`` long, cut as it was."""
    first, *others = units
    return [list(axis) for axis in (*uniform_blocks((n,), (first[0],)), *others)]


def _first_levels(attributes: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Give the attributes of an image's group with its first ``n`` levels alone."""
    ome = attributes.get("ome", attributes)
    images = [{**image, "datasets": image["datasets"][:n]} for image in ome["multiscales"]]
    shown = {**ome, "multiscales": images}
    return {**attributes, "ome": shown} if "ome" in attributes else shown
