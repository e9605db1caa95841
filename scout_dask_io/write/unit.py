"""Writing one unit: read its region, cut it into chunks, encode them, write their files.

Everything happens inside the call: when it returns, the unit's chunks are where they belong and
the journal says so; when it raises, nothing goes on behind the caller's back. On a disk all is
done in the calling thread; to a store chunks are sent by threads of their own.

The chunks of one unit on their way to the disk, and the lower levels that they become.

A unit that holds whole chunks of several levels of a pyramid makes all of them
from its own pixels. The first lower level comes from the pieces of the source, while
these are in the processor's cache, or else from whole chunks; each further one from
the chunks of the level above, right before they are encoded (5 % of a whole write).

The first lower level is written a *window* at a time, the fewest bands that become
whole chunks of it, so no more of it is in memory. What is below holds the whole unit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from scout_dask_io.core.chunk_buffer import ChunkBuffer
from scout_dask_io.core.downsample import PieceHalver, downsample
from scout_dask_io.core.grid import (
    Blocks,
    Region,
    Shape,
    chunk_counts,
    iter_chunk_indices,
    iter_regions,
    region_shape,
    region_size,
    relative_to,
    shifted,
    window_of,
)
from scout_dask_io.core.source import Source
from scout_dask_io.files.requests import AHEAD_NBYTES
from scout_dask_io.store.chunk_format import ChunkFormat
from scout_dask_io.store.chunk_v2 import crc32c
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.transaction import Transaction, finished_units
from scout_dask_io.write.attempt import Attempt, Cancelled, Running, Turn
from scout_dask_io.write.qc.gather import PlaneGatherer, is_whole
from scout_dask_io.write.uploads import UploadLimit, Uploads, uploads_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """What tasks need to know of the array that they write. Picklable.

    Attributes
    ----------
    transaction : Transaction
        Takes the chunks, and what is noted of them.
    format : ArrayFormat or ShardFormat
        How its chunks are stored; where it has shards, they are written as chunks are.
    band : tuple of int
        The part of a unit that is in memory at one time, in elements.
    level : int or None
        Which level of an image it is.
    attempt : Attempt
        This run of the write.
    lower : tuple of Lower
        Lower levels of a pyramid that each unit makes too, the highest first.
    qc : bool
        Whether each unit leaves a record of its planes beside the journal.
    uploads : UploadLimit, optional
        What may be under way at once; where there is none, chunks are written one by one.
    ahead_nbytes : int
        What a task may hold of answers of its source ahead; 0 for what is usual.
    """

    transaction: Transaction
    format: ChunkFormat
    band: Shape
    level: int | None = None
    attempt: Attempt = field(default_factory=Attempt)
    lower: tuple[Lower, ...] = ()
    qc: bool = False
    uploads: UploadLimit | None = None
    ahead_nbytes: int = 0


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


@dataclass(frozen=True, slots=True)
class WrittenUnit:
    """What a task says of the unit that it wrote. Picklable; as an int, its size.

    Attributes
    ----------
    unit : int
        Its number.
    nbytes : int
        Bytes of elements written.
    noted : dict
        Of a store, what is in the journal of each level: the records of the unit's chunks.
    """

    unit: int
    nbytes: int
    noted: Mapping[int | None, np.ndarray]

    def __int__(self) -> int:
        return self.nbytes


def noted_by(written: Iterable[Any]) -> dict[int | None, dict[int, np.ndarray]]:
    """Give what units that were written now have in the journals, by level and unit.

    What is written in several passes comes as lists in lists; what is no unit is left out.
    """
    found: dict[int | None, dict[int, np.ndarray]] = {}
    for each in written:
        if isinstance(each, WrittenUnit):
            for level, records in each.noted.items():
                found.setdefault(level, {})[each.unit] = records
        elif isinstance(each, list):
            for level, noted in noted_by(each).items():
                found.setdefault(level, {}).update(noted)
    return found


def write_unit(
    target: Target, unit: int, region: Region, source: Source, inside: Region
) -> WrittenUnit:
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
    WrittenUnit
        Its size, and what was noted of it.

    Raises
    ------
    WriteError
        If a file cannot be written, naming it. The unit can be written again.
    """
    began = time.perf_counter()
    origin = target.transaction.origin
    if origin:
        region = tuple(slice(s.start + o, s.stop + o) for s, o in zip(region, origin, strict=True))
    fmt = target.format
    limit = target.uploads
    n, n_begun = (0, 0) if limit is None else (limit.n_working, limit.n_begun)
    with target.attempt.working() as running, Turn(running, n, n_begun) as turn:
        uploads = uploads_of(target.transaction, target.uploads, running)
        work = UnitWork(
            running, ChunkBuffer(fmt.chunks, fmt.dtype, fmt.fill(), running.pool), uploads, turn
        )
        lower = Cascade(target.lower, target, region, work) if target.lower else None
        room = AHEAD_NBYTES.set(target.ahead_nbytes or AHEAD_NBYTES.get())
        try:
            noted = _write_unit(target, unit, region, source, inside, work, lower)
        finally:
            AHEAD_NBYTES.reset(room)
            work.buffer.close()
            if lower is not None:
                lower.close()
            uploads.close()
    nbytes = int(np.prod(region_shape(region))) * fmt.dtype.itemsize
    _LOG.debug("unit %s, %s: %.3f s", unit, region, time.perf_counter() - began)
    # On a disk the journal is read at the end: one file for many units.
    return WrittenUnit(unit, nbytes, {} if target.transaction.destination.on_disk else noted)


def _write_unit(
    target: Target,
    unit: int,
    region: Region,
    source: Source,
    inside: Region,
    work: UnitWork,
    lower: Cascade | None,
) -> dict[int | None, np.ndarray]:
    uploads = work.uploads
    writer = ChunkWriter(target, region, uploads)
    # A call of its own: what it holds of the source is let go before the store is waited for.
    _write_bands(target, unit, region, source, inside, work, writer, lower)
    # The memory goes to the next unit while this one waits for the store.
    work.buffer.close()
    if lower is not None:
        lower.close()
    work.turn.end()
    # What is noted is there: first all chunks, then what the levels below note of them.
    uploads.confirm()
    noted = {}
    if lower is not None:
        noted = lower.finish(unit)
        uploads.confirm()
    # Last: a unit that is in the journal has its lower levels there, and its record.
    noted[target.level] = writer.finish(unit)
    uploads.confirm()
    return noted


def _write_bands(
    target: Target,
    unit: int,
    region: Region,
    source: Source,
    inside: Region,
    work: UnitWork,
    writer: ChunkWriter,
    lower: Cascade | None,
) -> None:
    """Read a unit band by band, and hand its chunks over."""
    fmt, buffer, uploads = target.format, work.buffer, work.uploads
    planes = PlaneGatherer(fmt.shape, fmt.dtype, region) if target.qc else None
    whole = region_shape(region)
    extent = whole if lower is None else lower.window(target.band)
    for window in iter_regions(whole, tuple(max(n, 1) for n in extent)):
        if lower is not None:
            lower.open(shifted(window, region))
        for place in iter_regions(region_shape(window), target.band):
            if work.running.cancelled:
                raise Cancelled
            check = uploads.ask(target.transaction.check)
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
            uploads.hold(check)
            below = None if lower is None or lower.end(band) else lower
            for index, chunk in buffer.iter_chunks():
                if below is not None:
                    # First, as it leaves the chunk in the cache for the encoder.
                    below.put(index, chunk)
                writer.write(index, chunk)
        if lower is not None:
            lower.flush()
    if planes is not None:
        record = planes.record()
        keep = target.transaction.keep
        uploads.begin(len(record), keep, target.level, record_name(unit), record)
    if lower is not None:
        lower.end_unit()


@dataclass(frozen=True, slots=True)
class UnitWork:
    """What a task works with while it writes a unit."""

    running: Running
    buffer: ChunkBuffer
    uploads: Uploads
    turn: Turn


def units_done(
    target: Target, units: Mapping[int | None, Blocks], *, resume: bool, deep: bool
) -> set[int]:
    """Give the units of an earlier run that are not written again.

    ``units`` are their extents in each level that they make, the target's first; with ``deep``
    every chunk of theirs is read.
    """
    if not resume:
        return set()
    whole = partial(is_whole, target.format.dtype) if target.qc else None
    return finished_units(target.transaction, units, deep=deep, kept=whole, kept_name=record_name)


def record_name(unit: int) -> str:
    """Give the name of a unit's record of planes, beside the journal."""
    return f"{unit}.planes"


class ChunkWriter:
    """Writes the chunks of one unit, and keeps what the journal is to say of them."""

    def __init__(self, target: Target, region: Region, uploads: Uploads) -> None:
        fmt = target.format
        self._transaction, self._format, self._level = target.transaction, fmt, target.level
        self._uploads, self._put = uploads, uploads.put
        # Of a region of an array that stands, a chunk may stand that becomes empty.
        self._removes = bool(target.transaction.origin)
        self._encoder = fmt.encoder()
        self._region = region
        self._first = tuple(s.start // c for s, c in zip(region, fmt.chunks, strict=True))
        self._records = np.zeros(chunk_counts(region_shape(region), fmt.chunks), CHUNK_RECORD)

    def write(self, index: Shape, chunk: np.ndarray) -> None:
        """Encode a chunk and write it; a chunk that is all fill value is not stored."""
        data = self._encoder.encode(chunk)
        key = self._format.chunk_key(index)
        if data is not None:
            self._put(self._level, key, data)
            at = tuple(i - f for i, f in zip(index, self._first, strict=True))
            self._records[at] = (len(data), crc32c(data))
        elif self._removes:
            self._uploads.remove(self._level, key)

    def finish(self, unit: int) -> np.ndarray:
        """Have it noted in the journal that the unit is finished, all whose chunks are there.

        Gives what is noted.
        """
        indices = iter_chunk_indices(self._region, self._format.chunks)
        keys = map(self._format.chunk_key, indices)
        note = self._transaction.finish_unit
        self._uploads.begin(self._records.nbytes, note, self._level, unit, self._records, keys)
        return self._records.reshape(-1)


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
    work : UnitWork
        Where the memory of the levels comes from, and goes when this is closed; and what their
        chunks are handed to.
    """

    def __init__(
        self, lower: tuple[Lower, ...], above: Target, region: Region, work: UnitWork
    ) -> None:
        pool = work.running.pool
        here, *rest = lower
        self._factors, self._method = here.factors, here.method
        self._above = above.format
        self._target = here.target
        fmt = here.target.format
        self._region = self._halved(region)
        self.writer = ChunkWriter(here.target, self._region, work.uploads)
        self._buffer = ChunkBuffer(fmt.chunks, fmt.dtype, fmt.fill(), pool)
        self._next = Cascade(tuple(rest), here.target, self._region, work) if rest else None
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
            raise RuntimeError(f"elements were left out above {self._target.transaction.where}")
        for index, chunk in self._buffer.iter_chunks():
            if self._next is not None:
                self._next.put(index, chunk)
            self.writer.write(index, chunk)

    def end_unit(self) -> None:
        """Write what is left: the chunks of the levels below this one."""
        if self._next is not None:
            self._next.flush()
            self._next.end_unit()

    def finish(self, unit: int) -> dict[int | None, np.ndarray]:
        """Have the unit noted in all levels, once their chunks are there; give what is noted."""
        noted = {} if self._next is None else self._next.finish(unit)
        noted[self._target.level] = self.writer.finish(unit)
        return noted
