"""What an interrupted write has really left: its journal held against what lies there.

The journal says what the chunks of a unit were when they were written. Since then a disk may have
lost power, or somebody may have tidied up: a chunk that is lost would be published as the fill
value, and a changed one as it is. So before a write goes on, each chunk of a finished unit
is looked at, and what does not fit is written again; but for units that the very caller wrote, of
which it knows as much as one who was never interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice, tee
from typing import NamedTuple

import numpy as np

from scout_dask_io.core.grid import Blocks, iter_block_regions, iter_chunk_indices
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.files.location import Location
from scout_dask_io.store.chunk_format import ChunkFormat
from scout_dask_io.store.chunk_v2 import crc32c

#: Names a write, the first level that its units make, and units that the caller wrote itself.
_OWN: ContextVar[tuple[str, int | None, Set[int]] | None] = ContextVar("own_units", default=None)

# Chunks whose names are held at one time, of those that are read.
BATCH = 1024


@contextmanager
def written_here(write: str, level: int | None, units: Set[int]) -> Iterator[None]:
    """Let whoever goes on with a write meanwhile take these units for what the journal says."""
    before = _OWN.set((write, level, units))
    try:
        yield
    finally:
        _OWN.reset(before)


def own_units(write: str, level: int | None) -> Set[int]:
    """Give the units that need not be looked at, as :func:`written_here` says."""
    own = _OWN.get()
    return own[2] if own is not None and own[:2] == (write, level) else frozenset()


class Noted(NamedTuple):
    """A chunk as its unit's record has it: ``nbytes`` is 0 where it has no file."""

    unit: int
    key: str
    nbytes: int
    crc32c: int


class Misfit(NamedTuple):
    """A chunk that does not lie there as it was noted, and what was found."""

    noted: Noted
    found: str

    def __str__(self) -> str:
        _, key, nbytes, checksum = self.noted
        return f"{key}: found {self.found}, written were {nbytes} bytes of CRC32C {checksum:08x}"

    @property
    def is_stray(self) -> bool:
        """Whether there is something where the chunk has no file, or what is no file."""
        return self.noted.nbytes == 0 or self.found == _NO_FILE


_NO_FILE = "no regular file"


def noted_chunks(
    fmt: ChunkFormat, units: Blocks, records: Mapping[int, np.ndarray]
) -> Iterator[Noted]:
    """Yield the chunks of all finished units, in the order of these. No I/O.

    A unit whose records are not as many as it has chunks is left out.
    """
    for unit, (_, region) in enumerate(iter_block_regions(units)):
        if unit in records:
            found = records[unit].reshape(-1).tolist()
            indices = list(iter_chunk_indices(region, fmt.chunks))
            if len(found) == len(indices):
                for index, (nbytes, checksum) in zip(indices, found, strict=True):
                    yield Noted(unit, fmt.chunk_key(index), nbytes, checksum)


def misfits(
    root: Location,
    fmt: ChunkFormat,
    chunks: Iterable[Noted],
    times: Mapping[int, int] | None,
    *,
    deep: bool,
) -> Iterator[Misfit]:
    """Yield the chunks below ``root`` that are not as they were noted.

    Each is looked at, for its size: a ``stat`` on a disk, in a store a listing of all. Those
    that changed after their unit was noted are read, and with ``deep`` all of them.

    Parameters
    ----------
    root : Location
        Of the array.
    fmt : ChunkFormat
        How its chunks are stored.
    chunks : iterable of Noted
        What they should be.
    times : mapping or None
        When their units were noted, in nanoseconds; without it none is read but with ``deep``.
    deep : bool
        Compare the CRC32C of each.

    Raises
    ------
    ChunkReadError
        If the disk or store cannot be asked.
    """
    listed, named = tee(chunks)
    states = root.states(chunk.key for chunk in named)
    suspects = _by_state(zip(listed, states, strict=True), times, deep)
    while batch := list(islice(suspects, BATCH)):
        yield from (each for each in batch if isinstance(each, Misfit))
        to_read = [each for each in batch if isinstance(each, Noted)]
        files = root.iter_files((chunk.key for chunk in to_read), fmt.max_nbytes)
        for chunk, (_, data) in zip(to_read, files, strict=True):
            if data is None:
                yield Misfit(chunk, "nothing")
            elif isinstance(data, ChunkReadError):
                yield Misfit(chunk, str(data))
            elif (len(data), crc32c(data)) != (chunk.nbytes, chunk.crc32c):
                yield Misfit(chunk, f"{len(data)} bytes of CRC32C {crc32c(data):08x}")


def _by_state(
    states: Iterable[tuple[Noted, tuple[int, int] | None]],
    times: Mapping[int, int] | None,
    deep: bool,
) -> Iterator[Misfit | Noted]:
    """Yield what does not fit by its size, and what must be read to tell."""
    for chunk, state in states:
        if state is None:
            if chunk.nbytes:
                yield Misfit(chunk, "nothing")
            continue
        nbytes, changed = state
        if nbytes < 0:
            yield Misfit(chunk, _NO_FILE)
        elif nbytes != chunk.nbytes or not chunk.nbytes:
            yield Misfit(chunk, f"{nbytes} bytes")
        elif deep or (times is not None and changed > times.get(chunk.unit, changed)):
            yield chunk
