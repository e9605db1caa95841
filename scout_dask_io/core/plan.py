"""Write plans: which task writes what, and how much memory it takes. Pure arithmetic.

A *write unit* is a region of whole chunks that one task writes, so each chunk
file has exactly one writer and no lock is needed. A unit is worked off in
*bands*, regions of whole chunks that are in memory at one time; the band, not
the unit, sets the memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from scout_dask_io.core.amplification import axis_amplification, axis_choices
from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import (
    Blocks,
    Region,
    Shape,
    chunk_counts,
    iter_block_regions,
    uniform_blocks,
)
from scout_dask_io.errors import MemoryLimitError

__all__ = [
    "COPIES",
    "UNIT_NBYTES",
    "WritePlan",
    "grow_unit",
    "plan_source",
    "unit_target",
]

# A task should run about a second: long against the scheduler's 0.2 to 1 ms a
# task, short against a night that is resumed. 256 MB take 0.5 to 1 s of a core.
UNIT_NBYTES = 256 * 2**20
# Fewer and longer reads and copies: bands of 32 MB took 10 % less CPU than
# bands of 16 MB (192 planes of 2048 x 2048), and larger ones no less.
BAND_NBYTES = 32 * 2**20
# Room that encoding takes beside the band, in chunks: before, after, and on its way.
COPIES = 3
# More tasks than this burden a scheduler (1 kB each); units grow instead.
MAX_UNITS = 50_000


@dataclass(frozen=True, slots=True)
class WritePlan:
    """How an array will be written: disjoint units of whole chunks that cover it.

    Attributes
    ----------
    shape, chunks : tuple of int
        Of the array, in elements.
    dtype : str
        Of the array.
    itemsize : int
        Size of an element, in bytes.
    units : tuple of tuple of int
        Extents of the write units per axis, in order, as dask writes blocks.
    band : tuple of int
        Extent of the part of a unit that is in memory at one time; a multiple
        of ``chunks``.
    nb_workers : int
        Tasks that run at once in one process.
    max_mem : int
        What the job may use, in bytes, beyond the interpreter and its imports.
    projected_mem : int
        What it is expected to use, in bytes; never above ``max_mem``.
    read_nbytes : int
        Decoded bytes that are read from the source; parts that are read twice count twice.
    route : str
        ``"source"``: regions read straight from files; ``"blocks"``: computed
        blocks that are whole chunks; ``"gather"``: units put together from
        computed blocks in memory; ``"scratch"``: the same by way of files.
    zarr_format : int
        Of the array, 2 or 3.
    shards : tuple of int or None
        Extent of a shard, in elements; units and bands are then whole shards.
    """

    shape: Shape
    dtype: str
    itemsize: int
    chunks: Shape
    units: Blocks
    band: Shape
    nb_workers: int
    max_mem: int
    projected_mem: int
    read_nbytes: int
    route: str
    zarr_format: int = 2
    shards: Shape | None = None

    @property
    def nbytes(self) -> int:
        """Size of the array's elements, in bytes."""
        return math.prod(self.shape) * self.itemsize

    @property
    def n_units(self) -> int:
        """Number of write units, each one task."""
        return math.prod(len(axis) for axis in self.units)

    @property
    def unit(self) -> Shape:
        """Extent of the largest write unit."""
        return tuple(max(axis) for axis in self.units)

    @property
    def n_chunks(self) -> int:
        """Number of chunks in the grid."""
        return math.prod(chunk_counts(self.shape, self.chunks))

    @property
    def stored(self) -> Shape:
        """Extent of what one file holds: a shard, or a chunk where there are no shards."""
        return self.shards or self.chunks

    @property
    def n_stored(self) -> int:
        """Number of files that chunks or shards make, at most."""
        return math.prod(chunk_counts(self.shape, self.stored))

    @property
    def read_amplification(self) -> float:
        """How often an element is decoded, on average; 1.0 is the least."""
        return self.read_nbytes / self.nbytes if self.nbytes else 1.0

    def iter_units(self) -> Iterator[Region]:
        """Yield the units' regions in C order; disjoint, together the whole array."""
        return (region for _, region in iter_block_regions(self.units))


def plan_source(
    shape: Shape,
    dtype: str,
    itemsize: int,
    chunks: Shape,
    read_shape: Shape,
    *,
    nb_workers: int,
    max_mem: int,
    n_copies: int = COPIES,
    n_threads: int = 0,
) -> WritePlan:
    """Plan the writing of an array that is read from files by regions.

    The band is the least one that reads no element twice; where that does not
    fit in ``max_mem``, fewer workers or repeated reads, whichever costs less. Units
    are cut for ``n_threads`` in all, where several processes share the work.

    Raises
    ------
    MemoryLimitError
        If not even one chunk fits in ``max_mem``.
    """
    chunk_nbytes = math.prod(chunks) * itemsize
    segment_nbytes = math.prod(read_shape) * itemsize
    options: list[tuple[float, int, float, int, Shape]] = []
    choices = [
        [(b, axis_amplification(n, b, r)) for b in axis_choices(n, c, r)]
        for n, c, r in zip(shape, chunks, read_shape, strict=True)
    ]
    for combined in product(*choices):
        band = tuple(b for b, _ in combined)
        amplification = math.prod(a for _, a in combined)
        # The band cut into chunks, the segment in hand, and a chunk before and after encoding.
        mem = math.prod(band) * itemsize + 2 * segment_nbytes + n_copies * chunk_nbytes
        workers = min(nb_workers, max_mem // mem)
        if workers >= 1:
            # Decoding costs about what encoding costs: (1 + a) work over the workers.
            options.append(((1 + amplification) / workers, mem, amplification, workers, band))
    if not options:
        least = chunk_nbytes * (n_copies + 1) + 2 * segment_nbytes
        raise MemoryLimitError(
            f"max_mem={format_nbytes(max_mem)} cannot hold one chunk of {chunks} and one segment "
            f"of {read_shape} of {dtype}: about {format_nbytes(least)} are needed. "
            "Raise max_mem or choose smaller chunks."
        )
    _, mem, amplification, workers, least_band = min(options)
    total = math.prod(shape) * itemsize
    target = unit_target(total, n_threads or nb_workers)
    least_nbytes = math.prod(least_band) * itemsize
    room = max_mem // workers - mem + least_nbytes
    band = grow_unit(shape, least_band, itemsize, min(BAND_NBYTES, target, room))
    mem += math.prod(band) * itemsize - least_nbytes
    unit = grow_unit(shape, band, itemsize, target)
    return WritePlan(
        shape=shape,
        dtype=dtype,
        itemsize=itemsize,
        chunks=chunks,
        units=uniform_blocks(shape, unit),
        band=band,
        nb_workers=workers,
        max_mem=max_mem,
        projected_mem=mem * workers,
        read_nbytes=round(total * amplification),
        route="source",
    )


def unit_target(total_nbytes: int, nb_workers: int) -> int:
    """Give the bytes a unit should have: enough units to share, not too many to schedule."""
    shared = total_nbytes // (8 * nb_workers)
    # Units are whole bands, so they may come out at half of the target.
    return max(min(shared, UNIT_NBYTES), 2 * total_nbytes // MAX_UNITS)


def grow_unit(shape: Shape, band: Shape, itemsize: int, target: int) -> Shape:
    """Extend a band, last axis first, to about ``target`` bytes."""
    unit = list(band)
    for axis in reversed(range(len(shape))):
        size = math.prod(unit) * itemsize
        room = max(1, target // max(size, 1))
        steps = -(-shape[axis] // band[axis]) if band[axis] else 1
        unit[axis] = band[axis] * max(1, min(room, steps))
        if room < steps:
            break
    return tuple(unit)
