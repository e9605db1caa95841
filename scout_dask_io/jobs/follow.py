"""Converting while the microscope runs: planes are written as they arrive, the rest is convert's.

A folder that grows is polled (``tiff/arrival.py``); what is whole and has a sure place
(``tiff/placement.py``) is written slab by slab (``write/growth.py``) into an ordinary unfinished
write, and readers see an excerpt of it (``store/excerpt.py``). When all planes are there and none
has changed since it was read, ``convert`` finishes that write as it would one of its own that was
interrupted: so the array is the one that it would have made.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scout_dask_io.core.formatting import Row, format_count, format_s
from scout_dask_io.core.messages import Option
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import as_local, locate
from scout_dask_io.jobs.convert import ConvertOptions, ConvertReport, options_of, plan_with
from scout_dask_io.jobs.destination import check_target
from scout_dask_io.jobs.follow_engine import Follower, FollowOptions
from scout_dask_io.jobs.report import JobReport
from scout_dask_io.run.progress import FollowReporter, following
from scout_dask_io.store.staging import find_staging


def follow(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    planes: int | Mapping[str, int] | None = None,
    *,
    until: str | os.PathLike[str] | None = None,
    settle_s: float = 2.0,
    poll_s: float = 0.5,
    idle_s: float = 1800.0,
    marker: str | None = None,
    progress: bool | FollowReporter = False,
    **options: Any,
) -> FollowReport:
    """Convert a folder in which planes are still being written, as they arrive.

    What stands at ``dst`` in the end is what :func:`convert` makes of the whole folder, bit for
    bit, manifest and sheet included. Meanwhile readers see there, once the first slab is whole, an
    array (or an image of those levels that are made with the full one) of the slabs that are whole:
    its extent grows, its attribute ``scout_growing`` says how far it is and how far it will be, and
    every chunk that the extent counts is there. A reader that is open keeps the extent that
    it opened; a lazy array of this library says with ``SourceChangedError`` that it is to be
    opened again. A plane that is written again after it was shown is shown as it was until it
    is whole again and converted. With ``overwrite``, and on disks without hard links, what
    stands at ``dst`` stays as it is until the end.

    A plane counts once its header and all its segments lie inside of its file, and size, times
    and inode have not changed for ``settle_s``; with a ``marker``, once that is there. Files
    are polled. One that changes after it was read is found, by a look at some files at each poll
    and at all of them at the end, and what was made of it is written again.

    Parameters
    ----------
    src : path-like
        The folder, which may be empty or missing yet; one with a folder of planes a channel, or one
        whose names carry channel, time and z, as for :func:`convert`. On a disk.
    dst : path-like
        As for :func:`convert`. On a disk.
    planes : int or mapping
        How many there will be: of a folder a number, else one an axis, ``{"c": 2, "z": 400}``.
    until : path-like, optional
        In its place, of a folder of planes: a file that is there once no plane is to come.
    settle_s : float
        How long a file must have been left alone, in seconds.
    poll_s : float
        How often folders are listed, in seconds; less often where a listing takes long.
    idle_s : float
        Give up when nothing has come or changed for so long, in seconds.
    marker : str, optional
        What the writer adds to the name of a plane for a file that says that it is done, e.g.
        ``".done"``; then nothing need settle.
    progress : bool or callable
        ``True`` shows planes arrived, planes converted and the lag; a callable gets a
        ``Followed`` of these.
    **options
        As for :func:`convert`: ``ome``, ``chunks``, ``codec``, ``qc``, ``overwrite``, ``resume``
        and so on. ``resume=True`` goes on after a kill; planes that changed meanwhile are found.

    Returns
    -------
    FollowReport

    Raises
    ------
    PathNotFoundError
        If nothing comes for ``idle_s``; it names what lacks. What is converted is kept for
        ``resume``.
    ShapeMismatchError
        If a plane differs from the first in shape or dtype, as for :func:`convert`, or there
        are more planes than were to come; what is converted is kept.
    ArgumentError
        If an argument does not fit; nothing is created.
    TargetExistsError, ResumeError, MemoryLimitError, WriteError
        As for :func:`convert`.
    """
    how = FollowOptions(
        planes={"z": planes} if isinstance(planes, int) else dict(planes or {}),
        settle_s=settle_s,
        poll_s=poll_s,
        idle_s=idle_s,
        marker=marker,
        until=None if until is None else Path(until),
    )
    return run_follow(src, dst, how, options_of(options), progress)


@dataclass(frozen=True, slots=True)
class FollowReport(JobReport):
    """What :func:`follow` converted.

    Attributes
    ----------
    convert : ConvertReport
        What stands at the destination.
    n_planes : int
        Planes that came.
    n_again : int
        Slabs that were written again, since a plane of theirs changed or took another place.
    lag_s : float
        From the last plane being whole to the array standing at its place.
    elapsed_s : float
        From the first poll on.
    """

    convert: ConvertReport
    n_planes: int
    n_again: int
    lag_s: float
    elapsed_s: float

    @property
    def path(self) -> str:
        """Where it stands."""
        return self.convert.path

    def title(self) -> str:
        """Say where it stands."""
        return self.convert.title()

    def rows(self) -> list[Row]:
        """Say what was written, and how it went."""
        rows = [row for row in self.convert.rows() if row[0] not in ("took", "resumed")]
        again = format_count(self.n_again, "slab")
        return [
            *rows,
            ("followed", f"{format_count(self.n_planes, 'plane')} in {format_s(self.elapsed_s)}"),
            ("lag", f"{format_s(self.lag_s)} behind the last plane"),
            ("again", f"{again} of planes that changed" if self.n_again else ""),
        ]


def run_follow(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    how: FollowOptions,
    options: ConvertOptions,
    progress: bool | FollowReporter = False,
) -> FollowReport:
    """Do what :func:`follow` says, by a clock and a pause that may be others."""
    source, destination = _check(src, dst, how, options)
    start_s = how.clock()
    if options.resume and find_staging(destination) is None and destination.stands():
        # It may stand finished; a write that is to be resumed was never begun else.
        done = plan_with(src, dst, options).run()
        return FollowReport(done, math.prod(done.shape[:-2]), 0, 0.0, how.clock() - start_s)
    check_target(source, destination, overwrite=options.overwrite, resume=options.resume)
    with following(progress, f"follow {destination.name}") as report:
        follower = Follower(source, destination, how, options, report)
        try:
            done, lag_s = follower.run()
        except BaseException as err:
            follower.give_up(err)
            raise
    elapsed_s = how.clock() - start_s
    return FollowReport(done, follower.n_planes, follower.n_again, lag_s, elapsed_s)


def _check(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    how: FollowOptions,
    options: ConvertOptions,
) -> tuple[LocalLocation, LocalLocation]:
    """Refuse what cannot be followed, before anything is created, and give both places."""
    selection = options.selection
    for name, value in how.planes.items():
        if name not in ("t", "c", "z") or isinstance(value, bool) or not isinstance(value, int):
            raise ArgumentError(
                "planes must be a number, or numbers of the axes t, c and z that there are, got "
                f"{dict(how.planes)!r}: give " + Option("planes", "c=2,z=400")
            )
        if value < 1:
            raise ArgumentError(f"planes must be 1 or more along each axis, got {value}")
    if bool(how.planes) == (how.until is not None):
        raise ArgumentError(
            "give "
            + Option("planes", 400)
            + ", how many there will be, or of a folder of planes "
            + Option("until", "done.txt")
            + ", a file that is there once no plane is to come: one of the two"
        )
    if how.until is not None and (selection.pattern or selection.position):
        raise ArgumentError(
            Option("until")
            + " is for a folder of planes: of names that carry more axes give "
            + Option("planes", "c=2,z=400")
        )
    if how.planes and "z" not in how.planes and "t" not in how.planes:
        raise ArgumentError(
            "planes along z or t are followed, got none of them: give " + Option("planes", 400)
        )
    times = {"settle_s": how.settle_s, "poll_s": how.poll_s, "idle_s": how.idle_s}
    for name, seconds in times.items():
        if not (isinstance(seconds, (int, float)) and 0 <= seconds < math.inf):
            raise ArgumentError(Option(name) + f" must be seconds from 0 up, got {seconds!r}")
    if how.idle_s <= how.settle_s + how.poll_s:
        raise ArgumentError(
            Option("idle_s", how.idle_s)
            + f" would give up before a plane has settled ({how.settle_s} s): give more"
        )
    left = {"missing": selection.missing != "error", "pages": selection.pages}
    left |= {"series": selection.series is not None, "label": options.label}
    left |= {"labels_too": options.labels_too}
    for name, given in left.items():
        if given:
            raise ArgumentError(
                "a folder that grows is followed without "
                + Option(name)
                + ": leave it out, or convert with it once all planes are there"
            )
    source, destination = locate(src), locate(dst)
    if not (source.on_disk and destination.on_disk):
        url = destination if source.on_disk else source
        raise ArgumentError(
            f"{url} lies in an object store, and folders are followed from a disk to a disk: "
            "convert it once it is whole, or follow to a disk and convert from there"
        )
    if source.stands() and not source.is_folder:
        raise ArgumentError(f"{source} is a file, and folders of planes are followed: convert it")
    return as_local(source), as_local(destination)
