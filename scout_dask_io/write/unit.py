"""Writing one unit: read its region, cut it into chunks, encode them, write their files.

Everything happens inside the call, in the calling thread: when it returns, the
unit's chunks are on disk and the journal says so; when it raises, nothing goes
on behind the caller's back.

The chunks of one unit on their way to the disk, and the lower levels that they become.

A unit that holds whole chunks of several levels of a pyramid makes all of them
from its own pixels. The first lower level comes from the pieces of the source, while
these are in the processor's cache, or else from whole chunks; each further one from
the chunks of the level above, right before they are encoded (5 % of a whole write).

The first lower level is written a *window* at a time, the fewest bands that become
whole chunks of it, so no more of it is in memory. What is below holds the whole unit.

How a task puts what it has encoded in its place: files on a disk, objects in a store.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scout_dask_io.core.chunk_buffer import BufferPool, ChunkBuffer
from scout_dask_io.core.downsample import PieceHalver, downsample
from scout_dask_io.core.fork import in_forked_child
from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import (
    Region,
    Shape,
    chunk_counts,
    iter_regions,
    region_shape,
    region_size,
    relative_to,
    shifted,
    window_of,
)
from scout_dask_io.core.messages import RESUME
from scout_dask_io.core.source import Source
from scout_dask_io.errors import WriteError
from scout_dask_io.store.chunk_format import ChunkFormat
from scout_dask_io.store.chunk_v2 import crc32c, write_file
from scout_dask_io.store.journal import CHUNK_RECORD, append_unit
from scout_dask_io.store.remote_staging import RemoteStaging
from scout_dask_io.store.staging import Staging
from scout_dask_io.write.qc.gather import PlaneGatherer

_cancelled: set[str] = set()
_running: Counter[str] = Counter()
# What the tasks of an attempt hand to one another, kept while one of them runs.
_pools: dict[str, BufferPool] = {}
_lock = threading.Lock()


@in_forked_child
def _forget_attempts() -> None:
    """Let go of the parent's attempts: none of their tasks runs in a forked child."""
    for kept in (_cancelled, _running, _pools):
        kept.clear()


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
    format: ChunkFormat
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
                _pools.pop(target.attempt, None)


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
        pool = _pools.setdefault(target.attempt, BufferPool())
        buffer = ChunkBuffer(fmt.chunks, fmt.dtype, fmt.fill(), pool)
        lower = Cascade(target.lower, target, region, pool) if target.lower else None
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


class ChunkWriter:
    """Writes the chunks of one unit, and keeps what the journal is to say of them."""

    def __init__(self, target: Target, region: Region) -> None:
        fmt = target.format
        self.target = target
        self._sink = sink_of(target.staging, durable=target.durable, in_place=target.in_place)
        self.check, self.keep = self._sink.check, self._sink.keep
        self._encoder = fmt.encoder()
        self._first = tuple(s.start // c for s, c in zip(region, fmt.chunks, strict=True))
        self._records = np.zeros(chunk_counts(region_shape(region), fmt.chunks), CHUNK_RECORD)

    def write(self, index: Shape, chunk: np.ndarray) -> None:
        """Encode a chunk and write it; a chunk that is all fill value is not stored."""
        data = self._encoder.encode(chunk)
        path = f"{self._sink.root}/{self.target.format.chunk_key(index)}"
        if data is not None:
            self._sink.put(path, data)
            at = tuple(i - f for i, f in zip(index, self._first, strict=True))
            self._records[at] = (len(data), crc32c(data))
        elif self.target.in_place:
            self._sink.remove(path)

    def note(self, unit: int) -> None:
        """Note in the journal that the unit is finished."""
        self._sink.note(unit, self._records)


class Cascade:
    """The level below, and those below it, of one unit.

    Parameters
    ----------
    lower : tuple of Lower
        The levels, the highest first; at least one.
    above : Target
        The level whose chunks come in.
    region : tuple of slice
        The unit in that level: whole chunks there, and of every level here.
    pool : BufferPool
        Where the memory of the levels comes from, and goes when this is closed.
    """

    def __init__(
        self, lower: tuple[Lower, ...], above: Target, region: Region, pool: BufferPool
    ) -> None:
        here, *rest = lower
        self._factors, self._method = here.factors, here.method
        self._above = above.format
        self._target = here.target
        fmt = here.target.format
        self._region = self._halved(region)
        self.writer = ChunkWriter(here.target, self._region)
        self._buffer = ChunkBuffer(fmt.chunks, fmt.dtype, fmt.fill(), pool)
        self._next = Cascade(tuple(rest), here.target, self._region, pool) if rest else None
        self._pieces = PieceHalver(here.factors, here.method, fmt.dtype)
        self._first: Shape = ()
        self._missing = 0  # elements of the level above
        self._band: Region = ()
        if self._next is not None:
            self._next.open(self._region)

    def window(self, band: Shape) -> Shape:
        """Give the extent, in the level above, of the fewest bands that make whole chunks here."""
        return window_of(band, self._factors, self._target.format.chunks)

    def _halved(self, region: Region) -> Region:
        return tuple(
            slice(s.start // f, -(-s.stop // f)) for s, f in zip(region, self._factors, strict=True)
        )

    def close(self) -> None:
        """Give the memory of the levels back."""
        self._buffer.close()
        if self._next is not None:
            self._next.close()

    def open(self, window: Region) -> None:
        """Start whole chunks of this level: ``window`` is what becomes them, in the level above."""
        self._region = self._halved(window)
        self._buffer.begin(self._region)
        chunks = self._target.format.chunks
        self._first = tuple(s.start // c for s, c in zip(self._region, chunks, strict=True))
        self._missing = region_size(window)

    def begin(self, band: Region) -> None:
        """Start a band of the window, in coordinates of the level above."""
        self._pieces.begin(region_shape(band))
        self._band = relative_to(self._halved(band), self._region)

    def take(self, where: Region, values: np.ndarray) -> None:
        """Take a piece of the band, while it is in the processor's cache."""
        found = self._pieces.put(where, values)
        if found is not None:
            self._buffer.put(shifted(found[0], self._band), found[1])

    def end(self, band: Region) -> bool:
        """End a band, and tell whether its pieces sufficed: else its chunks must be put."""
        whole = self._pieces.is_whole()
        if whole:
            self._missing -= region_size(band)
        return whole

    def put(self, index: Shape, chunk: np.ndarray) -> None:
        """Take a chunk of the level above; what lies past the array's edge does not count."""
        above = self._above
        # Chunks of both levels have one extent, so what a chunk becomes lies in one chunk.
        cell, inside, part = [], [], []
        for i, f, first, c, n in zip(
            index, self._factors, self._first, above.chunks, above.shape, strict=True
        ):
            extent, start = min(c, n - i * c), i % f * (c // f)
            cell.append(i // f - first)
            inside.append(slice(extent))
            part.append(slice(start, start + -(-extent // f)))
        out = self._buffer.part(tuple(cell), tuple(part))
        values = chunk[tuple(inside)]
        downsample(values, self._factors, self._method, out)
        self._missing -= values.size

    def flush(self) -> None:
        """Write the window's chunks, which go into the levels below too.

        Raises
        ------
        RuntimeError
            If chunks of the level above were left out.
        """
        if self._missing:
            raise RuntimeError(f"elements were left out above {self._target.staging.where}")
        for index, chunk in self._buffer.iter_chunks():
            if self._next is not None:
                self._next.put(index, chunk)
            self.writer.write(index, chunk)

    def finish(self, unit: int) -> None:
        """Write the chunks of the levels below, and note the unit in all of them."""
        if self._next is not None:
            self._next.flush()
            self._next.finish(unit)
        self.writer.note(unit)


_counter = count()


class Sink(Protocol):
    """What a unit needs of the place where its array grows."""

    @property
    def root(self) -> str:
        """What the paths of chunks begin with."""

    def check(self) -> None:
        """Refuse to go on where the write was given up; called once a band."""

    def put(self, path: str, data: Any) -> None:
        """Write a chunk or shard, whole or not at all."""

    def remove(self, path: str) -> None:
        """Remove a chunk that stands; none is no error."""

    def keep(self, name: str, data: bytes) -> None:
        """Write what is to be found beside the journal, whole or not at all."""

    def note(self, unit: int, records: np.ndarray) -> None:
        """Note that a unit is finished, when all its chunks are in."""


class FileSink:
    """Writes files beside their places, and renames them."""

    def __init__(self, staging: Staging, *, durable: bool, in_place: bool) -> None:
        self._staging, self._durable, self._in_place = staging, durable, in_place
        self._root = os.fspath(staging.array)
        self._prefix = f"{staging.tmp}/{os.getpid()}-{threading.get_ident()}-"

    @property
    def root(self) -> str:
        """The growing array's directory."""
        return self._root

    def check(self) -> None:
        """Nothing: in a directory that is gone no file can be written."""

    def put(self, path: str, data: Any) -> None:
        """Write a chunk's file."""
        try:
            write_file(path, self._temporary(), data, root=self._root, durable=self._durable)
        except OSError as err:
            raise self._explained(err, path) from err

    def _temporary(self) -> str:
        return f"{self._prefix}{next(_counter)}"

    def remove(self, path: str) -> None:
        """Remove a chunk's file."""
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as err:
            raise self._explained(err, path) from err

    def keep(self, name: str, data: bytes) -> None:
        """Write a file beside the journal's, whole or not at all."""
        path = os.fspath(self._staging.journal / name)
        try:
            write_file(path, self._temporary(), data, root=self._root, durable=self._durable)
        except OSError as err:
            raise self._explained(err, path) from err

    def note(self, unit: int, records: np.ndarray) -> None:
        """Append to the journal."""
        journal = self._staging.journal
        try:
            append_unit(journal, unit, records, durable=self._durable)
        except OSError as err:
            raise self._explained(err, os.fspath(journal)) from err

    def _explained(self, err: OSError, path: str) -> WriteError:
        """Give a write failure as one that names the file and says how to go on."""
        staging = self._staging
        if not staging.array.is_dir() or not staging.journal.is_dir():
            return WriteError(
                f"{path}: the unfinished write that this task belongs to is not there (as "
                f"{socket.gethostname()} sees it): it was discarded, or finished elsewhere, or "
                "this machine does not share the disk. Nothing was changed."
            )
        after: str = (
            f"The destination {staging.destination} is as it was. Once the cause is mended, the "
            "same call with " + RESUME + " goes on."
        )
        if self._in_place:
            after = (
                "Some chunks of the region are new. Write the region again when the cause is "
                "mended."
            )
        try:
            found = os.statvfs(staging.job)
            free = f" ({format_nbytes(found.f_bavail * found.f_frsize)} free)"
        except OSError:
            free = ""
        error = WriteError(f"{path} cannot be written: {err.strerror}{free}. " + after)
        error.errno = err.errno
        return error


def sink_of(
    staging: Staging | RemoteStaging, *, durable: bool = False, in_place: bool = False
) -> Sink:
    """Give what takes the chunks of one unit to the place where the array grows."""
    if isinstance(staging, RemoteStaging):
        return staging
    return FileSink(staging, durable=durable, in_place=in_place)
