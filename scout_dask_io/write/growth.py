"""A write whose planes are still coming: its units are written slab by slab, as these are whole.

A *slab* here is what units share along the leading axes: the planes that all of them read. Before
a unit of it runs, what it reads is noted beside the journal, each plane with the state of its
file; so a run that goes on after a kill knows what each finished unit was made of. A slab of
which a plane changed is struck from the journal, its chunks removed, and written again.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import accumulate, product
from typing import Any, NamedTuple, cast

import numpy as np

from scout_dask_io.core.grid import (
    Blocks,
    Region,
    Shape,
    full_region,
    iter_block_regions,
    iter_chunk_indices,
    region_shape,
)
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.store.excerpt import Excerpt, ShownLevel, seen_extent
from scout_dask_io.store.local_transaction import LocalTransaction
from scout_dask_io.store.resumption import written_here
from scout_dask_io.tiff.arrival import Arrived, FileState
from scout_dask_io.tiff.page_layout import FileTable, PageLayout
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.source import TiffSource
from scout_dask_io.write.attempt import Cancelled
from scout_dask_io.write.unit import Target, WrittenUnit, write_unit

#: What is kept beside the journal: names the run that went on with the write last.
_RUN = "run"


class ReadPlane(NamedTuple):
    """A plane that units of a slab read: its name below the source, and its file's state then."""

    name: str
    state: FileState


@dataclass(eq=False, slots=True)
class Slab:
    """The units that read the same planes.

    Attributes
    ----------
    number : int
        Names it beside the journal.
    lead : tuple of slice
        Its part of the leading axes.
    units : dict
        The region of each unit, by its number.
    planes : dict
        What the finished and the running units read, by its place; empty where none has begun.
    done : set of int
        Units that are in the journal.
    stale : bool
        Whether a plane changed since.
    failure : Exception or None
        Why a unit could not be written.
    """

    number: int
    lead: Region
    units: dict[int, Region] = field(default_factory=dict)
    planes: dict[Shape, ReadPlane] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    stale: bool = False
    failure: BaseException | None = None
    #: Whether readers see it as it was written last.
    shown: bool = False
    #: Whether chunks may lie there that no finished unit wrote, of a run that was killed.
    littered: bool = False

    @property
    def n_planes(self) -> int:
        """How many planes it has."""
        return math.prod(region_shape(self.lead))

    @property
    def is_done(self) -> bool:
        """Whether all of it is written, of planes that have not changed as far as is known."""
        return len(self.done) == len(self.units) and not self.stale

    def places(self) -> Iterator[Shape]:
        """Yield the places of its planes, in C order."""
        return product(*(range(s.start, s.stop) for s in self.lead))


@dataclass(frozen=True, slots=True)
class Growing:
    """How readers see a write that grows.

    Attributes
    ----------
    axis : int
        Along which it does, of those before the last two.
    group : dict or None
        Attributes of an image's group, for the levels that are seen meanwhile.
    is_open : bool
        Whether its extent in the end is not known yet.
    """

    axis: int
    group: dict[str, Any] | None = None
    is_open: bool = False


class Growth:
    """The units of a write that has begun, by their slabs, and the threads that write them.

    Parameters
    ----------
    target : Target
        What units write; of an image, level 0 with those that are made with it.
    undone : set of int
        Units that an earlier run has not finished.
    shown : Growing
        What readers see of it.
    n_threads : int
        Units that are written at once.
    own : set of int
        Units that this very run has written, of those that are finished.
    """

    def __init__(
        self,
        target: Target,
        undone: Iterable[int],
        shown: Growing,
        n_threads: int,
        own: Iterable[int] = (),
    ) -> None:
        # Whoever begins it sees to it that the destination is on a disk.
        self.target, self.txn = target, cast(LocalTransaction, target.transaction)
        self.blocks = _blocks(self.txn)
        self.slabs = _slabs(self.blocks)
        factors = [(1,) * len(self.blocks), *(lower.factors for lower in target.lower)]
        totals = accumulate(factors, lambda a, b: tuple(m * n for m, n in zip(a, b, strict=True)))
        levels = [target.level, *(lower.target.level for lower in target.lower)]
        self.levels = [ShownLevel(n, total) for n, total in zip(levels, totals, strict=True)]
        self.excerpt = Excerpt(self.txn, self.levels, shown.axis, shown.group, shown.is_open)
        self.excerpt.recover()
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="scout-dask-io")
        self._running: dict[Future[WrittenUnit], tuple[Slab, int]] = {}
        self._ended: list[Slab] = []
        left = set(undone)
        self._own = set(own) - left
        # Another run that goes on with the write puts its own name there.
        self._run = uuid.uuid4().hex.encode()
        self.txn.keep(target.level, _RUN, self._run)
        #: Bytes of elements written, and how often a slab was taken back.
        self.nbytes, self.n_struck = 0, 0
        held = any(folder for _, folder in self.txn.array(target.level).entries())
        for slab in self.slabs:
            slab.done = set(slab.units) - left
            slab.planes = self._noted(slab)
            slab.littered = held and slab.done != set(slab.units)
            # One that ended with the room for planes was made of fewer than it has by now.
            slab.stale = bool(slab.done) and slab.planes.keys() != set(slab.places())
        self.show()

    @property
    def futures(self) -> set[Future[WrittenUnit]]:
        """What is being written."""
        return set(self._running)

    @property
    def n_planes_done(self) -> int:
        """Planes of the slabs that are written."""
        return sum(slab.n_planes for slab in self.slabs if slab.is_done)

    def own_units(self) -> Set[int]:
        """Give the finished units that this run has written; none once another has gone on."""
        (run,) = self.txn.kept(self.target.level, [_RUN])
        return frozenset(self._own if run == self._run else ())

    def written_here(self) -> AbstractContextManager[None]:
        """Let whoever goes on with the write know what has been written by this very run."""
        return written_here(self.txn.name, self.target.level, self.own_units())

    def _noted(self, slab: Slab) -> dict[Shape, ReadPlane]:
        """Give what an earlier run noted that the units of a slab read."""
        (raw,) = self.txn.kept(self.target.level, [_note_name(slab)])
        try:
            rows = parse_json(raw or b"[]")
            return {tuple(at): ReadPlane(name, FileState(*state)) for at, name, state in rows}
        except (ValueError, TypeError):
            return {}

    def begin(self, slab: Slab, planes: Mapping[Shape, tuple[str, Arrived]]) -> None:
        """Have the units of a slab written that are not, from these planes, one a place.

        Raises
        ------
        WriteError
            If it cannot be noted what they read.
        """
        if slab.littered:
            self._remove_chunks(slab, set(slab.units) - slab.done)
            slab.littered = False
        slab.planes = {at: ReadPlane(name, one.state) for at, (name, one) in planes.items()}
        rows = [[at, plane.name, plane.state] for at, plane in slab.planes.items()]
        self.txn.keep(self.target.level, _note_name(slab), json.dumps(rows).encode())
        source = _source_of(slab, [planes[at][1] for at in slab.places()])
        inside = full_region(region_shape(slab.lead))
        for unit in sorted(set(slab.units) - slab.done):
            region = slab.units[unit]
            work = self._pool.submit(
                write_unit, self.target, unit, region, source, (*inside, *region[-2:])
            )
            self._running[work] = slab, unit
            slab.running.add(unit)

    def collect(self) -> list[Slab]:
        """Take what was written since, and give the slabs that have just ended: done or failed.

        Those that went stale meanwhile are struck, and not among them.
        """
        for work in [work for work in self._running if work.done()]:
            slab, unit = self._running.pop(work)
            slab.running.discard(unit)
            if (error := work.exception()) is None:
                slab.done.add(unit)
                self._own.add(unit)
                self.nbytes += work.result().nbytes
            elif not isinstance(error, Cancelled):
                slab.failure = slab.failure or error
            if not slab.running:
                self._ended.append(slab)
        ended, self._ended = self._ended, []
        for slab in ended:
            if slab.stale:
                self.strike(slab)
        found = [slab for slab in ended if not slab.stale and slab.planes]
        if any(slab.is_done for slab in found):
            self.show()
        return found

    def strike(self, slab: Slab) -> None:
        """Take a slab back: none of its units is written; those that run are let end first."""
        slab.stale = True
        self.n_struck += 1
        if slab.running:
            return
        units = set(slab.units)
        self._own -= units
        for shown in self.levels:
            self.txn.strike(shown.level, units)
        self._remove_chunks(slab, units)
        slab.done, slab.planes, slab.failure, slab.stale = set(), {}, None, False
        slab.shown = False

    def _remove_chunks(self, slab: Slab, units: Iterable[int]) -> None:
        """Remove the chunks of units: a chunk that becomes all fill value has no file."""
        for unit in units:
            for shown in self.levels:
                fmt = self.txn.format(shown.level)
                for index in iter_chunk_indices(shown.region(slab.units[unit]), fmt.chunks):
                    self.txn.remove(shown.level, fmt.chunk_key(index))

    def show(self) -> None:
        """Let readers see the slabs that are done, as far as they follow one another."""
        excerpt = self.excerpt
        done = [r for slab in self.slabs if slab.is_done for r in slab.units.values()]
        shape = tuple(sum(axis) for axis in self.blocks)
        extent = max(seen_extent(shape, excerpt.axis, done), excerpt.extent)
        fresh = [
            slab
            for slab in self.slabs
            if slab.is_done and not slab.shown and slab.lead[excerpt.axis].stop <= extent
        ]
        if fresh and not excerpt.hidden:
            excerpt.show([r for slab in fresh for r in slab.units.values()], extent)
        for slab in fresh:
            slab.shown = True

    def close(self) -> None:
        """Stop what is being written, and wait for it."""
        self.target.attempt.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def end(self) -> None:
        """Let the threads go, once nothing is being written."""
        self._pool.shutdown(wait=True)


def _blocks(txn: LocalTransaction) -> Blocks:
    """Give the extents of the units of a write's first pass."""
    settings: Mapping[str, Any] = txn.settings
    units = settings["passes"][0][1] if "passes" in settings else settings["units"]
    return tuple(map(tuple, units))


def _slabs(blocks: Blocks) -> list[Slab]:
    slabs: dict[Shape, Slab] = {}
    for unit, (index, region) in enumerate(iter_block_regions(blocks)):
        slab = slabs.setdefault(index[:-2], Slab(len(slabs), region[:-2]))
        slab.units[unit] = region
    return list(slabs.values())


def _note_name(slab: Slab) -> str:
    return f"{slab.number}.read"


def _source_of(slab: Slab, planes: list[Arrived]) -> TiffSource:
    """Give the planes of a slab as a source, in C order of their places."""
    layouts: dict[PageLayout, int] = {}
    rows = [
        (k, layouts.setdefault(page.layout, len(layouts)), page.ifd, page.data)
        for k, page in enumerate(one.file.pages[0] for one in planes)
    ]
    table = np.array(rows, np.int64).reshape(*region_shape(slab.lead), 4)
    files = FileTable.of(one.file.file for one in planes)
    return TiffSource(PageTable(files, tuple(layouts), table), f"slab {slab.number}")


def moved(
    slab: Slab, placed: Mapping[Shape, str], state: Callable[[str], FileState | None]
) -> bool:
    """Tell whether a plane that units of a slab read is another one now, or has another state.

    What is not known now, since its file is not whole or its place not sure, has not moved.
    """
    for at, plane in slab.planes.items():
        name = placed.get(at)
        if name is None:
            continue
        now = state(name)
        if now is not None and (name, now) != plane:
            return True
    return False
