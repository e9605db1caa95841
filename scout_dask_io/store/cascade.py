"""The chunks of one unit on their way to the disk, and the lower levels that they become.

A unit that holds whole chunks of several levels of a pyramid makes all of them
from its own pixels: each chunk is halved while it is in the processor's cache,
right after it was encoded, and goes into the chunks of the level below.
"""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scout_dask_io.chunkbuffer import ChunkBuffer
from scout_dask_io.downsample import downsample
from scout_dask_io.grid import Region, Shape, chunk_counts, region_shape
from scout_dask_io.store.checksum import crc32c
from scout_dask_io.store.chunkfile import write_file
from scout_dask_io.store.formats import encoder_of
from scout_dask_io.store.journal import CHUNK_RECORD, append_unit

if TYPE_CHECKING:
    from scout_dask_io.store.units import Lower, Target

__all__ = ["Cascade", "ChunkWriter"]

_counter = count()


class ChunkWriter:
    """Writes the chunks of one unit, and keeps what the journal is to say of them.

    ``path`` is the file that is written, or was last.
    """

    def __init__(self, target: Target, region: Region, prefix: str) -> None:
        fmt = target.format
        self.target = target
        self.path = self._root = os.fspath(target.staging.array)
        self._prefix = prefix
        self._encoder = encoder_of(fmt)
        self._first = tuple(s.start // c for s, c in zip(region, fmt.chunks, strict=True))
        self._records = np.zeros(chunk_counts(region_shape(region), fmt.chunks), CHUNK_RECORD)

    def write(self, index: Shape, chunk: np.ndarray) -> None:
        """Encode a chunk and write its file; a chunk that is all fill value has none."""
        target = self.target
        data = self._encoder.encode(chunk)
        if data is None and not target.in_place:
            return
        self.path = target.format.chunk_path(self._root, index)
        if data is None:
            Path(self.path).unlink(missing_ok=True)
            return
        temporary = f"{self._prefix}{next(_counter)}"
        write_file(self.path, temporary, data, root=self._root, durable=target.durable)
        at = tuple(i - f for i, f in zip(index, self._first, strict=True))
        self._records[at] = (len(data), crc32c(data))

    def note(self, unit: int) -> None:
        """Note in the journal that the unit is finished."""
        journal = self.target.staging.journal
        self.path = os.fspath(journal)
        append_unit(journal, unit, self._records, durable=self.target.durable)


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
    prefix : str
        Of the names of temporary files.
    """

    def __init__(
        self, lower: tuple[Lower, ...], above: Target, region: Region, prefix: str
    ) -> None:
        here, *rest = lower
        self._factors, self._method = here.factors, here.method
        self._above = above.format
        self._region = tuple(
            slice(s.start // f, -(-s.stop // f)) for s, f in zip(region, here.factors, strict=True)
        )
        fmt = here.target.format
        self.writer = ChunkWriter(here.target, self._region, prefix)
        self._buffer = ChunkBuffer(fmt.chunks, fmt.dtype, fmt.fill())
        self._buffer.begin(self._region)
        self._next = Cascade(tuple(rest), here.target, self._region, prefix) if rest else None

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
            raise RuntimeError(f"unit {unit} lacks chunks of the level above {self.writer.path}")
        for index, chunk in self._buffer.iter_chunks():
            self.writer.write(index, chunk)
            if self._next is not None:
                self._next.put(index, chunk)
        if self._next is not None:
            self._next.finish(unit)
        self.writer.note(unit)

    @property
    def path(self) -> str:
        """The file that is written, or was last."""
        return self.writer.path if self._next is None else self._next.path
