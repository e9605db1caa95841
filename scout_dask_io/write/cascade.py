"""The chunks of one unit on their way to the disk, and the lower levels that they become.

A unit that holds whole chunks of several levels of a pyramid makes all of them
from its own pixels. The first lower level comes from the pieces of the source, while
these are in the processor's cache, or else from whole chunks; each further one from
the chunks of the level above, right before they are encoded (5 % of a whole write).

The first lower level is written a *window* at a time, the fewest bands that become
whole chunks of it, so no more of it is in memory. What is below holds the whole unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scout_dask_io.core.chunk_buffer import ChunkBuffer, Rooms
from scout_dask_io.core.downsample import downsample
from scout_dask_io.core.grid import (
    Region,
    Shape,
    chunk_counts,
    region_shape,
    region_size,
    relative_to,
    shifted,
    window_of,
)
from scout_dask_io.core.piecewise import PieceHalver
from scout_dask_io.store.checksum import crc32c
from scout_dask_io.store.chunk_format import encoder_of
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.write.sinks import sink_of

if TYPE_CHECKING:
    from scout_dask_io.write.unit import Lower, Target

__all__ = ["Cascade", "ChunkWriter"]


class ChunkWriter:
    """Writes the chunks of one unit, and keeps what the journal is to say of them."""

    def __init__(self, target: Target, region: Region) -> None:
        fmt = target.format
        self.target = target
        self._sink = sink_of(target.staging, durable=target.durable, in_place=target.in_place)
        self.check, self.keep = self._sink.check, self._sink.keep
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
    rooms : Rooms
        Where the memory of the levels comes from, and goes when this is closed.
    """

    def __init__(
        self, lower: tuple[Lower, ...], above: Target, region: Region, rooms: Rooms
    ) -> None:
        here, *rest = lower
        self._factors, self._method = here.factors, here.method
        self._above = above.format
        self._target = here.target
        fmt = here.target.format
        self._region = self._halved(region)
        self.writer = ChunkWriter(here.target, self._region)
        self._buffer = ChunkBuffer(fmt.chunks, fmt.dtype, fmt.fill(), rooms)
        self._next = Cascade(tuple(rest), here.target, self._region, rooms) if rest else None
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
