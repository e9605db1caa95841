"""How a folder is followed: polled, its planes placed, slabs written, and all of it finished.

One thread polls and decides; the others write units. All that it decides by is what polls found and
what is noted beside the journal, so a run that goes on after a kill decides the same.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import numpy as np

from scout_dask_io.core.formatting import format_count, format_s
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
from scout_dask_io.read.any import Kind, Opened
from scout_dask_io.run.lazy import lazy_array, source_of
from scout_dask_io.run.progress import Followed, FollowReporter
from scout_dask_io.store.local_transaction import LocalTransaction
from scout_dask_io.store.unfinished import ADOPTS
from scout_dask_io.tiff.arrival import Arrivals, FileState, state_of
from scout_dask_io.tiff.describe import describe_plane
from scout_dask_io.tiff.metadata import Stated
from scout_dask_io.tiff.page_layout import FILE, NO_FILE, FileTable
from scout_dask_io.tiff.placement import (
    ChannelPlacement,
    FolderPlacement,
    NamedPlacement,
    Placement,
    missing_places,
    placement_of,
)
from scout_dask_io.tiff.source import TiffSource
from scout_dask_io.tiff.stack_check import DescribedFile, Survey
from scout_dask_io.write.growth import Growth, Slab, moved

#: What the first planes tell of the whole only for the time being; see ``adopted``.
_OPEN = ("attributes", "shown", "stated")
#: A poll may take at most a twentieth of the time.
_REST = 20
#: How often at most it is told that nothing has been converted since.
_TOLD_S = 1.0
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
    clock: Callable[[], float] = time.monotonic
    pause: Pause = pause

    @property
    def n_planes(self) -> int:
        """How many files there will be."""
        return math.prod(self.planes.values())


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
        self._placement = self._place_by()
        self._arrivals = Arrivals(
            self._names, self._state, self._describe, how.settle_s, self._marked()
        )
        self._placed: dict[tuple[int, ...], str] = {}
        # How often planes were placed; with how often slabs were struck, when this was looked at.
        self._n_placed, self._looked_at = 0, (-1, -1)
        self._first: DescribedFile | None = None
        self._growth: Growth | None = None
        self._told: Followed | None = None
        self._told_s = -math.inf
        self._next_poll_s = self._stirred_s = how.clock()
        self._arrived_s = how.clock()
        #: Slabs that were written again.
        self.n_again = 0

    # What arrives

    def _place_by(self) -> Placement:
        return placement_of(self._root, self._how.planes, self._options.selection)

    def _names(self) -> list[str]:
        if self._growth is None:
            self._placement = self._place_by()  # by what has come to be there
        return self._placement.names()

    def _state(self, name: str) -> FileState | None:
        return state_of(f"{self._root}/{name}")

    def _describe(self, name: str) -> DescribedFile:
        named = isinstance(self._placement, NamedPlacement)
        return describe_plane(self._root / name, self._options.selection, whole=named)

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
            if self._growth is None and self._placed:
                self._growth = self._begin()
            if self._growth is not None:
                self._write(self._growth)
                self._tell()
                if self._is_complete(self._growth):
                    done = self._finish(self._growth)
                    if done is not None:
                        return done, clock() - self._arrived_s
            running = set() if self._growth is None else self._growth.futures
            if running:
                self._stirred_s = clock()
            elif clock() - self._stirred_s > self._how.idle_s:
                raise self._idle()
            self._how.pause(running, max(0.0, self._next_poll_s - clock()))

    def _poll(self, now_s: float) -> None:
        found = self._arrivals.poll(now_s)
        if found.stirred:
            self._stirred_s = now_s
        if found.whole or found.lost:
            self._arrived_s = now_s
            self._check(found.whole)
            self._place()
        took_s = self._how.clock() - now_s
        self._next_poll_s = now_s + max(self._how.poll_s, _REST * took_s)

    def _check(self, names: tuple[str, ...]) -> None:
        """Refuse planes that do not fit the first, or of which there are too many."""
        whole, n_planes = self._arrivals.whole, self._how.n_planes
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
        if len(whole) > n_planes:
            more = ", ".join(map(repr, sorted(whole)[n_planes:][:_NAMED]))
            raise ShapeMismatchError(
                f"{self._root} holds {len(whole):,} planes, and {n_planes:,} were to come "
                f"({dict(self._how.planes)}): beyond these there is {more}. Give the number of "
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
            self._stirred_s = self._how.clock()
            self._place()
        return bool(names)

    def _is_complete(self, growth: Growth) -> bool:
        return (
            len(self._placed) == self._how.n_planes
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
        found = Followed(len(whole), n_converted, self._how.n_planes, lag_s, growth.nbytes)
        if found != self._told:
            self._told = found
            self._report(found)

    # The write

    def _begin(self) -> Growth:
        """Begin the write of all planes, by what the first tells of them."""
        name = self._placed[min(self._placed)]
        named = isinstance(self._placement, NamedPlacement)
        how = self._options
        first = describe_plane(self._root / name, how.selection, asked=True, whole=named)
        source = _expected(first, self._placement, self._root)
        given = as_voxel_size(how.voxel_size)

        def expect(place: Location) -> Opened:
            return Opened(
                place, _kind(self._placement), lazy_array(source), source.info_with(given)
            )

        plan = plan_with(self._root, self._destination, how, expect)
        if plan.source_array().shape != source.shape:
            raise ArgumentError(
                f"{self._root}: planes of {source.shape} would become an image of "
                f"{plan.source_array().shape}, which cannot be followed: convert them once all "
                "are there"
            )
        begun = plan.begin()
        if begun is None:
            raise ResumeError(f"{self._destination} stands finished")
        growing = self._placement.axes.index("t" if self._how.planes.get("t", 1) > 1 else "z")
        n_threads = plan.write.nb_workers
        n_levels = len(begun.target.lower) + 1
        txn = cast(LocalTransaction, begun.target.transaction)
        settings = txn.note(**{ADOPTS: list(_OPEN)})
        group = _first_levels(settings["attributes"], n_levels) if how.ome else None
        return Growth(begun.target, begun.undone, growing, n_threads, group)

    def _finish(self, growth: Growth) -> ConvertReport | None:
        """Have convert finish the write; ``None`` where a plane has changed after all."""
        if self._lose(self._arrivals.recheck(self._how.clock())):
            return None
        how, txn = self._options, growth.txn
        ours = growth.excerpt.is_shown()
        plan = self._plan(resume=True, overwrite=how.overwrite or ours)
        token = self._checked_token(plan, growth)
        if token is None and self._lose(self._arrivals.recheck(self._how.clock())):
            return None
        growth.end()
        if token is not None:
            txn.note(source=hashlib.sha256(token.encode()).hexdigest(), **{ADOPTS: list(_OPEN)})
            with suppress(ResumeError):
                return plan.run()
        warn(
            f"{self._root}: the whole folder reads otherwise than its first planes told, and is "
            "converted anew"
        )
        return self._plan(resume=False, overwrite=True).run()

    def _plan(self, *, resume: bool, overwrite: bool) -> ConvertPlan:
        how = replace(self._options, resume=resume, overwrite=overwrite)
        return plan_with(self._root, self._destination, how)

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
        whole, n_planes = self._arrivals.whole, self._how.n_planes
        told = [
            f"{self._root}: nothing has come or changed for {format_s(self._how.idle_s)}, and "
            f"{len(whole):,} of {format_count(n_planes, 'plane')} are whole"
        ]
        reasons = self._arrivals.reasons()
        if reasons:
            some = [f"{name!r} ({why})" for name, why in list(reasons.items())[:_NAMED]]
            more = f" and {len(reasons) - _NAMED:,} more" if len(reasons) > _NAMED else ""
            told.append(f"not whole: {', '.join(some)}{more}")
        lacking = missing_places(self._placement.extents, self._placed)
        if whole and lacking:
            at = ", ".join(
                f"{a} {n}" for a, n in zip(self._placement.axes, lacking[0], strict=True)
            )
            told.append(f"the first place without a plane is {at}")
        text = joined("; ", told) + ". If more is to come, the same call with " + RESUME
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


def _kind(placement: Placement) -> Kind:
    if isinstance(placement, FolderPlacement):
        return "folder"
    return "channels" if isinstance(placement, ChannelPlacement) else "dataset"


def _expected(first: DescribedFile, placement: Placement, root: LocalLocation) -> TiffSource:
    """Give the array that there will be, every page of which is the first one's for now."""
    (page,) = first.pages
    extents, axes = placement.extents, placement.axes
    table = np.zeros((*extents, 4), np.int64)
    table[...] = (0, 0, page.ifd, page.data)
    stated = first.stated or Stated()
    n_channels = extents[axes.index("c")] if "c" in axes else 0
    channels: Any = list(map(str, range(n_channels)))
    file_ndim = len(extents)
    if isinstance(placement, NamedPlacement):
        stated = replace(stated, axes=f"{axes}yx", channels=named_channels(channels))
        channels, file_ndim = (), 0
    return TiffSource(
        FileTable.of([first.file]), (page.layout,), table, f"follow {root} {axes} {extents}",
        file_ndim=file_ndim, stated=stated, channels=channels,
    )  # fmt: skip


def _first_levels(attributes: Mapping[str, Any], n: int) -> dict[str, Any]:
    """Give the attributes of an image's group with its first ``n`` levels alone."""
    ome = attributes.get("ome", attributes)
    images = [{**image, "datasets": image["datasets"][:n]} for image in ome["multiscales"]]
    shown = {**ome, "multiscales": images}
    return {**attributes, "ome": shown} if "ome" in attributes else shown
