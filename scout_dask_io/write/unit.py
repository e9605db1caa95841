"""Writing one unit: read its region, cut it into chunks, encode them, write their files.

Everything happens inside the call, in the calling thread: when it returns, the
unit's chunks are on disk and the journal says so; when it raises, nothing goes
on behind the caller's back.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from scout_dask_io.core.chunk_buffer import ChunkBuffer, Rooms
from scout_dask_io.core.grid import Region, Shape, iter_regions, region_shape, shifted
from scout_dask_io.core.source import Source
from scout_dask_io.store.chunk_format import StoredFormat
from scout_dask_io.store.remote_staging import RemoteStaging
from scout_dask_io.store.staging import Staging
from scout_dask_io.write.cascade import Cascade, ChunkWriter
from scout_dask_io.write.qc.gather import PlaneGatherer

__all__ = [
    "Cancelled",
    "Lower",
    "Target",
    "cancel",
    "drain",
    "record_name",
    "shift",
    "working",
    "write_unit",
]

_cancelled: set[str] = set()
_running: Counter[str] = Counter()
# What the tasks of an attempt hand to one another, kept while one of them runs.
_rooms: dict[str, Rooms] = {}
_lock = threading.Lock()


class Cancelled(Exception):
    """Raised inside a task whose job was given up; never reaches the caller."""


@dataclass(frozen=True)
class Target:
    """What tasks need to know of the array that they write. Picklable.

    Attributes
    ----------
    staging : Staging or RemoteStaging
        Where the array grows.
    format : ArrayFormat or ShardFormat
        How its chunks are stored; where it has shards, they are written as chunks are.
    band : tuple of int
        The part of a unit that is in memory at one time, in elements.
    durable : bool
        Whether files are synced to the disk before they count as written.
    attempt : str
        Names this run of the write, for :func:`cancel`.
    origin : tuple of int
        Where in the array the units' coordinates begin; empty for its origin.
    in_place : bool
        Whether chunks may stand already, so that empty ones must be removed.
    lower : tuple of Lower
        Lower levels of a pyramid that each unit makes too, the highest first.
    qc : bool
        Whether each unit leaves a record of its planes beside the journal.
    """

    staging: Staging | RemoteStaging
    format: StoredFormat
    band: Shape
    durable: bool = False
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)
    origin: Shape = ()
    in_place: bool = False
    lower: tuple[Lower, ...] = ()
    qc: bool = False


@dataclass(frozen=True)
class Lower:
    """A lower level, made from the pixels of a unit of the level above while they are in memory.

    Attributes
    ----------
    target : Target
        Its array.
    factors : tuple of int
        1 or 2 per axis.
    method : str
        As for :func:`~scout_dask_io.core.downsample.downsample`.
    """

    target: Target
    factors: Shape
    method: str


def cancel(target: Target) -> None:
    """Make this process's running tasks of one attempt stop at their next band."""
    _cancelled.add(target.attempt)


@contextmanager
def working(target: Target) -> Iterator[None]:
    """Count a task that changes files, for :func:`drain`.

    Raises
    ------
    Cancelled
        If the attempt was given up before.
    """
    with _lock:
        if target.attempt in _cancelled:
            raise Cancelled
        _running[target.attempt] += 1
    try:
        yield
    finally:
        with _lock:
            _running[target.attempt] -= 1
            if not _running[target.attempt]:
                del _running[target.attempt]
                _rooms.pop(target.attempt, None)


async def drain(attempt: str) -> None:
    """Cancel an attempt in this process, and wait until none of its tasks changes files."""
    _cancelled.add(attempt)
    while attempt in _running:
        await asyncio.sleep(0.02)


def write_unit(target: Target, unit: int, region: Region, source: Source, inside: Region) -> int:
    """Write the chunks of one unit and note it in the journal.

    Parameters
    ----------
    target : Target
        The array.
    unit : int
        The unit's number, under which the journal notes it.
    region : tuple of slice
        Whole chunks of the array.
    source, inside
        What to read, and the region in it that becomes ``region``.

    Returns
    -------
    int
        Bytes of elements written.

    Raises
    ------
    WriteError
        If a file cannot be written, naming it. The unit can be written again.
    """
    region = shift(region, target.origin)
    fmt = target.format
    with working(target):
        rooms = _rooms.setdefault(target.attempt, Rooms())
        buffer = ChunkBuffer(fmt.chunks, fmt.dtype, fmt.fill(), rooms)
        lower = Cascade(target.lower, target, region, rooms) if target.lower else None
        try:
            _write_unit(target, unit, region, source, inside, buffer, lower)
        finally:
            buffer.close()
            if lower is not None:
                lower.close()
    return int(np.prod(region_shape(region))) * fmt.dtype.itemsize


def _write_unit(
    target: Target,
    unit: int,
    region: Region,
    source: Source,
    inside: Region,
    buffer: ChunkBuffer,
    lower: Cascade | None,
) -> None:
    fmt = target.format
    writer = ChunkWriter(target, region)
    planes = PlaneGatherer(fmt.shape, fmt.dtype, region) if target.qc else None
    whole = region_shape(region)
    extent = whole if lower is None else lower.window(target.band)
    for window in iter_regions(whole, tuple(max(n, 1) for n in extent)):
        if lower is not None:
            lower.open(shifted(window, region))
        for place in iter_regions(region_shape(window), target.band):
            if target.attempt in _cancelled:
                raise Cancelled
            writer.check()
            part = shifted(place, window)
            band = shifted(part, region)
            buffer.begin(band)
            if lower is not None:
                lower.begin(band)
            for where, values in source.iter_pieces(shifted(part, inside)):
                if planes is not None:
                    values = planes.put(shifted(where, part), values)
                if lower is not None:
                    lower.take(where, values)
                buffer.put(where, values)
            if not buffer.is_full():
                raise RuntimeError(f"{type(source).__name__} left elements of {part} out")
            below = None if lower is None or lower.end(band) else lower
            for index, chunk in buffer.iter_chunks():
                if below is not None:
                    # First, as it leaves the chunk in the cache for the encoder.
                    below.put(index, chunk)
                writer.write(index, chunk)
        if lower is not None:
            lower.flush()
    if planes is not None:
        writer.keep(record_name(unit), planes.record())
    if lower is not None:
        lower.finish(unit)
    # Last: a unit that is in the journal has its lower levels there, and its record.
    writer.note(unit)


def record_name(unit: int) -> str:
    """Give the name of a unit's record of planes, beside the journal."""
    return f"{unit}.planes"


def shift(region: Region, origin: Shape) -> Region:
    """Give a region in coordinates in which its own begin at ``origin``."""
    if not origin:
        return region
    return tuple(slice(s.start + o, s.stop + o) for s, o in zip(region, origin, strict=True))
