"""One write of an array or an image: begun, or gone on with, and committed or abandoned.

A :class:`Transaction` takes the chunks of an array that grows, or of a region of one that
stands, and what units note of them. It is picklable, so that each task has it, and the
same for all that writes: on a disk what grows gets its name by a rename, in an object
store a marker goes, and a region is on record in the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scout_dask_io.core.formatting import format_count
from scout_dask_io.core.grid import Blocks, Shape
from scout_dask_io.core.messages import warn
from scout_dask_io.core.source import Source
from scout_dask_io.files.location import Location, as_local, as_remote
from scout_dask_io.store.chunk_format import ChunkFormat
from scout_dask_io.store.local_transaction import LocalTransaction
from scout_dask_io.store.metadata import Node
from scout_dask_io.store.region_write import RegionWrite
from scout_dask_io.store.remote_transaction import RemoteTransaction
from scout_dask_io.store.resumption import misfits, noted_chunks, own_units
from scout_dask_io.store.sidecar import check_beside
from scout_dask_io.store.source import ChunkFileSource, ZarrSource
from scout_dask_io.store.unfinished import UPDATES, Describe, NewArray, Unfinished, is_finished


class Transaction(Protocol):
    """What a write needs of the place where it goes; ``level`` is ``None`` of a single array."""

    @property
    def name(self) -> str:
        """Names the write."""

    @property
    def destination(self) -> Location:
        """What stands there when it is committed."""

    @property
    def where(self) -> str:
        """What to call it in a message."""

    @property
    def settings(self) -> dict[str, Any]:
        """What was noted when it began, here or in an earlier process; empty in a worker."""

    @property
    def origin(self) -> Shape:
        """Where the units' coordinates begin in the array that stands; empty of a new one."""

    @property
    def tmp(self) -> Path | None:
        """Where computed blocks may wait; ``None`` where there is no disk for it."""

    def format(self, level: int | None) -> ChunkFormat:
        """Give how the chunks of an array are stored."""

    def array(self, level: int | None) -> Location:
        """Give where an array lies that is written."""

    def source(self, level: int | None) -> Source:
        """Give a growing array as a source, for the levels that are made from it."""

    def wait_until_begun(self) -> None:
        """Wait for what beginning asks of a store, which goes on while the caller goes on."""

    def exists(self) -> bool:
        """Tell whether the write is neither discarded nor finished."""

    def check(self) -> None:
        """Refuse to go on where the write was given up; called once a band."""

    def put(self, level: int | None, key: str, data: Any) -> None:
        """Write a chunk or shard, whole or not at all."""

    def remove(self, level: int | None, key: str) -> None:
        """Remove a chunk or shard that stands; none is no error."""

    def keep(self, level: int | None, name: str, data: bytes) -> None:
        """Write what is to be found beside the journal, whole or not at all."""

    def kept(self, level: int | None, names: Iterable[str]) -> Iterator[bytes | None]:
        """Yield what :meth:`keep` wrote, ``None`` where there is nothing."""

    def finish_unit(
        self, level: int | None, unit: int, records: np.ndarray, keys: Iterable[str]
    ) -> None:
        """Note that a unit is finished, when all its chunks are in.

        ``records`` are those of its chunks, in C order; ``keys`` may have had a file each.
        """

    def finished(self, level: int | None) -> dict[int, np.ndarray]:
        """Give the finished units, and the records of their chunks."""

    def noted_at(self, level: int | None) -> dict[int, int]:
        """Give when each finished unit was noted: nanoseconds, by the clock of disk or store."""

    def strike(self, level: int | None, units: Set[int]) -> None:
        """Take back that units are finished: they are to be written again."""

    def restore(self, arrays: Sequence[NewArray]) -> None:
        """Before a write goes on, make metadata of growing arrays what they were."""

    def put_beside(self, contents: Mapping[str, str]) -> None:
        """Write files that stand beside the array once it stands, by their suffixes."""

    def commit(
        self,
        units: Mapping[int | None, Blocks],
        describe: Describe | None = None,
        shared: ChunkFileSource | ZarrSource | None = None,
        known: Mapping[int | None, Mapping[int, np.ndarray]] | None = None,
    ) -> Node | None:
        """Check that every unit is in, and let it stand.

        Gives the array or group as it was put, where that takes no look at it: in a store.

        Parameters
        ----------
        units : mapping
            Extents of the units of each level.
        describe : callable, optional
            Of an image: gives the group's attributes, from what gives a level as a source and
            the number of the lowest.
        shared : ChunkFileSource or ZarrSource, optional
            An array whose files or objects become those of level 0 too.
        known : mapping, optional
            What journals are known to say, by level and unit: a store is not asked for it.
        """

    def abandon(self) -> Unfinished | None:
        """After a failure, remove what a resumed write cannot use; say how much is kept."""


def begin(
    location: Location,
    arrays: Sequence[NewArray],
    settings: dict[str, Any],
    units: dict[str, Any],
    *,
    overwrite: bool,
    resume: bool,
    durable: bool,
    check: Callable[[], None],
) -> Transaction | None:
    """Begin a write, or give the one that was interrupted: its ``settings`` hold the units.

    ``None`` where all stands finished with the same data and settings, and ``resume``
    asks for no more.

    Parameters
    ----------
    location : Location
        Where it is to stand.
    arrays : sequence of NewArray
        One, or the levels of an image.
    settings : dict
        What a resumed write must share with the one that began; ``"qc"`` says whether
        files come to stand beside it.
    units : dict
        What is noted beside them: the units, which a resumed write takes over.
    overwrite, resume, durable : bool
        As for :func:`~scout_dask_io.write_zarr`.
    check
        Called before anything is made: refuses what cannot be written there.

    Raises
    ------
    TargetExistsError, ResumeError, WriteError
        If the write cannot begin; nothing is created.
    """
    found: Transaction | None = None
    if resume:
        if location.on_disk:
            found = LocalTransaction.resume(
                as_local(location), settings, overwrite=overwrite, durable=durable
            )
        else:
            found = RemoteTransaction.resume(as_remote(location), settings)
        if found is None and not overwrite and is_finished(location, settings):
            return None
    if settings["qc"]:
        # In a store, what lies there may be this write's own.
        ours = found is not None and not location.on_disk
        check_beside(location, overwrite=overwrite or ours)
    check()
    if found is not None:
        found.restore(arrays)
        return found
    noted = {**settings, **units}
    if not location.on_disk:
        return RemoteTransaction.begin(as_remote(location), arrays, noted, overwrite=overwrite)
    return LocalTransaction.begin(
        as_local(location), arrays, noted, overwrite=overwrite, durable=durable
    )


def finished_units(
    txn: Transaction,
    units: Mapping[int | None, Blocks],
    *,
    deep: bool,
    kept: Callable[[int, bytes], bool] | None = None,
    kept_name: Callable[[int], str] = str,
) -> set[int]:
    """Give the units of an earlier run that need not be written again; the others are struck.

    Each chunk that the journal has is looked at, and read where it changed since, but for those
    that the caller wrote itself: see :mod:`~scout_dask_io.store.resumption`. Warns of units that
    do not fit.

    Parameters
    ----------
    txn : Transaction
        The write that goes on.
    units : mapping
        The extents of the units, of each level that they make; the first is where they count.
    deep : bool
        Read every chunk.
    kept, kept_name : callable, optional
        Tells whether what a unit kept beside the journal is whole, and its name.

    Raises
    ------
    WriteError, ChunkReadError
        If the disk or store cannot be asked, or what is in the way cannot be removed.
    """
    noted = {level: txn.finished(level) for level in units}
    first = next(iter(units))
    done = set.intersection(*(set(found) for found in noted.values()))
    unseen = done - own_units(txn.name, first)
    broken: dict[int, str] = {}
    # Of a patch, chunks that stay as they are stand elsewhere.
    patch = txn.settings.get(UPDATES)
    patched = patch["units"] if isinstance(patch, dict) else None
    for level, blocks in units.items() if unseen else ():
        fmt, root = txn.format(level), txn.array(level)
        records = {n: noted[level][n] for n in unseen}
        if patched is not None:
            stay = patched["" if level is None else str(level)]
            records = {n: records[n] for n in stay if n in records}
        chunks = noted_chunks(fmt, blocks, records)
        for misfit in misfits(root, fmt, chunks, txn.noted_at(level), deep=deep):
            chunk = misfit.noted
            if misfit.is_stray:
                txn.remove(level, chunk.key)
            if chunk.nbytes:
                broken.setdefault(chunk.unit, f"{root}/{misfit}")
    if kept is not None and unseen:
        numbers = sorted(unseen)
        beside = txn.kept(first, map(kept_name, numbers))
        for unit, record in zip(numbers, beside, strict=True):
            if record is None or not kept(unit, record):
                broken.setdefault(unit, f"its record {kept_name(unit)} is lost or damaged")
    done -= set(broken)
    for level, found in noted.items():
        if again := set(found) - done:
            txn.strike(level, again)
    if broken:
        warn(
            f"{txn.destination}: of {format_count(len(broken), 'write unit')} that an earlier run "
            "has finished, chunks do not lie there as they were written: they are written again. "
            f"{next(iter(broken.values()))}"
        )
    return done


def begin_region(location: Location, region: RegionWrite, *, durable: bool) -> Transaction:
    """Begin to write a region of an array that stands.

    No other writer's additions to its attributes are lost: on a disk a lock sees to that,
    in a store the note of the region has them too.

    Raises
    ------
    WriteError
        If a file or object cannot be written.
    """
    if location.on_disk:
        return LocalTransaction.begin_region(as_local(location), region, durable=durable)
    return RemoteTransaction.begin_region(as_remote(location), region)


def unfinished(destination: Location) -> Unfinished | None:
    """Give the unfinished write of a destination and how much of it is done, if there is any.

    Raises
    ------
    WriteError
        If it cannot be looked at.
    """
    found: LocalTransaction | RemoteTransaction | None
    if destination.on_disk:
        found = LocalTransaction.find(as_local(destination))
    else:
        found = RemoteTransaction.find(as_remote(destination))
    return None if found is None else found.progress()
