"""The chunks of one unit on their way to the disk, and the lower levels that they become.

A unit that holds whole chunks of several levels of a pyramid makes all of them
from its own pixels: each chunk is halved right before it is encoded, so that both
find it in the processor's cache (5 % of a whole write), and goes into the chunks
of the level below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scout_dask_io.chunkbuffer import ChunkBuffer
from scout_dask_io.downsample import downsample
from scout_dask_io.grid import Region, Shape, chunk_counts, region_shape
from scout_dask_io.store.checksum import crc32c
from scout_dask_io.store.formats import encoder_of
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.sinks import sink_of

if TYPE_CHECKING:
    from scout_dask_io.store.units import Lower, Target

__all__ = ["Cascade", "ChunkWriter"]


class ChunkWriter:
    """Writes the chunks of one unit, and keeps what the journal is to say of them."""

    def __init__(self, target: Target, region: Region) -> None:
        fmt = target.format
        self.target = target
        self._sink = sink_of(target.staging, durable=target.durable, in_place=target.in_place)
        self.check = self._sink.check
        self._encoder = encoder_of(fmt)
        self._first = tuple(s.start // c for s, c in zip(region, fmt.chunks, strict=True))
        self._records = np.zeros(chunk_counts(region_shape(region), fmt.chunks), CHUNK_RECORD)

    def write(self, index: Shape, chunk: np.ndarray) -> None:
        """Encode a chunk and write it; a chunk that is all fill value is not stored."""
        data = self._encoder.encode(chunk)
        path = self.target.format.chunk_path(self._sink.root, index)
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
    """

    def __init__(self, lower: tuple[Lower, ...], above: Target, region: Region) -> None:
        here, *rest = lower
        self._factors, self._method = here.factors, here.method
        self._above = above.format
        self._region = tuple(
            slice(s.start // f, -(-s.stop // f)) for s, f in zip(region, here.factors, strict=True)
        )
        fmt = here.target.format
        self.writer = ChunkWriter(here.target, self._region)
        self._buffer = ChunkBuffer(fmt.chunks, fmt.dtype, fmt.fill())
        self._buffer.begin(self._region)
        self._next = Cascade(tuple(rest), here.target, self._region) if rest else None

    def put(self, index: Shape, chunk: np.ndarray) -> None:
        """Take a chunk of the level above; what lies past the array's edge does not count."""
        fmt = self._above
        cell = tuple(
            slice(i * c, min((i + 1) * c, n))
            for i, c, n in zip(index, fmt.chunks, fmt.shape, strict=True)
        )
        inside = tuple(slice(0, s.stop - s.start) for s in cell)
        where = tuple(
            slice(s.start // f - r.start, -(-s.stop // f) - r.start)
            for s, f, r in zip(cell, self._factors, self._region, strict=True)
        )
        self._buffer.put(where, downsample(chunk[inside], self._factors, self._method))

    def finish(self, unit: int) -> None:
        """Write the level's chunks and note them, and do so for the levels below.

        Raises
        ------
        RuntimeError
            If chunks of the level above were left out.
        """
        if not self._buffer.is_full():
            raise RuntimeError(
                f"unit {unit} lacks chunks of the level above {self.writer.target.staging.where}"
            )
        for index, chunk in self._buffer.iter_chunks():
            if self._next is not None:
                self._next.put(index, chunk)
            self.writer.write(index, chunk)
        if self._next is not None:
            self._next.finish(unit)
        self.writer.note(unit)
