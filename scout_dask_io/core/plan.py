"""Write plans: which task writes what, and how much memory it takes. Pure arithmetic.

A *write unit* is a region of whole chunks that one task writes, so each chunk
file has exactly one writer and no lock is needed. A unit is worked off in
*bands*, regions of whole chunks that are in memory at one time; the band, not
the unit, sets the memory.

Write plans of computed arrays: units from blocks that are whole chunks, or cross their borders.

Pure arithmetic. What is computed is held until the units that it belongs to are written: that,
and not the band alone, sets the memory.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from typing import Any, NamedTuple

import numpy as np

from scout_dask_io.core.formatting import (
    Row,
    format_count,
    format_nbytes,
    format_shape,
    html_table,
    memory_text,
    order_text,
    read_text,
)
from scout_dask_io.core.grid import (
    Blocks,
    Region,
    Shape,
    axis_amplification,
    axis_choices,
    chunk_counts,
    iter_block_regions,
    uniform_blocks,
)
from scout_dask_io.core.messages import Option
from scout_dask_io.errors import MemoryLimitError

# A task should run about a second: long against the scheduler's 0.2 to 1 ms a
# task, short against a night that is resumed. 256 MB take 0.5 to 1 s of a core.
UNIT_NBYTES = 256 * 2**20
# Fewer and longer reads and copies: bands of 32 MB took 10 % less CPU than
# bands of 16 MB (192 planes of 2048 x 2048), and larger ones no less.
BAND_NBYTES = 32 * 2**20
# Room that encoding takes beside the band, in chunks: before, after, and on its way.
COPIES = 3
# The same of a shard: zarr 3.4 puts one together in up to five times its memory, 3.1 in three.
SHARD_COPIES = 5
# More tasks than this burden a scheduler (1 kB each); units grow instead.
MAX_UNITS = 50_000


class Room(NamedTuple):
    """What a write has to work in.

    Attributes
    ----------
    nb_workers : int
        Tasks that a process runs at once.
    max_mem : int
        Bytes that they may use together.
    n_threads : int
        Tasks at once in all, where several processes share the work; else 0.
    """

    nb_workers: int
    max_mem: int
    n_threads: int = 0

    @property
    def n_parallel(self) -> int:
        """Tasks at once in all, for which units are cut."""
        return self.n_threads or self.nb_workers


def room_of(plan: WritePlan) -> Room:
    """Give what the tasks of a plan have to work in."""
    return Room(plan.nb_workers, plan.max_mem, plan.n_threads)


def copies_of(*, sharded: bool) -> int:
    """Give the room that encoding takes beside the band, in chunks or in shards."""
    return SHARD_COPIES if sharded else COPIES


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
        What it is expected to use, in bytes; never above ``max_mem``. While a disk is waited for,
        further units are begun in what ``max_mem`` leaves.
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
    n_threads : int
        Tasks that run at once in all processes of a cluster; 0 where there is one process.
    ahead_nbytes : int
        What a task may hold of answers to requests that it has not come to yet; a part of
        ``projected_mem``.
    cached_nbytes : int
        What the system's cache of files is asked to hold of the source at one time, so that each
        file is read once and in order, however many tasks take a part of it; 0 where it is not
        asked. No memory of the process: the cache gives way to whoever needs memory.
    n_reads : int
        In how many pieces a plane of a file on a disk is read from it: once and in order, or some
        rows at a time. 0 of what is not read from planes of files on a disk.
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
    n_threads: int = 0
    ahead_nbytes: int = 0
    cached_nbytes: int = 0
    n_reads: int = 0

    @property
    def n_parallel(self) -> int:
        """Tasks that run at once in all: units are cut so that none of them is idle."""
        return room_of(self).n_parallel

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

    def rows(self) -> list[Row]:
        """Say how the array is stored, and what writing it takes."""
        shards = ""
        if self.shards is not None:
            shards = f"{format_count(self.n_stored, 'shard')} of {format_shape(self.shards)}"
        return [
            ("array", f"{format_shape(self.shape)}, {self.dtype}, {format_nbytes(self.nbytes)}"),
            ("chunks", f"{format_count(self.n_chunks, 'chunk')} of {format_shape(self.chunks)}"),
            ("shards", shards),
            ("units", f"{format_count(self.n_units, 'write unit')} of {format_shape(self.unit)}"),
            ("workers", f"{format_count(self.nb_workers, 'task')} at a time"),
            ("memory", memory_text(self)),
            ("reads", read_text(self) + order_text(self.n_reads)),
        ]

    def __repr__(self) -> str:
        # All units would be a page.
        said = ", ".join(text for _, text in self.rows()[:4] if text)
        return f"<WritePlan: {said}>"

    def _repr_html_(self) -> str:
        """Give the plan as a table, for notebooks."""
        return html_table("Plan of a write", self.rows())

    def iter_units(self) -> Iterator[Region]:
        """Yield the units' regions in C order; disjoint, together the whole array."""
        return (region for _, region in iter_block_regions(self.units))


def slab_nbytes(plan: WritePlan) -> int:
    """Give the size of the planes that the largest unit has parts of, in bytes."""
    return math.prod((*plan.unit[:-2], *plan.shape[-2:])) * plan.itemsize


def pieces_of_plane(plan: WritePlan) -> int:
    """Give in how many bands a plane of the source is read, at most."""
    return math.prod(chunk_counts(plan.shape[-2:], plan.band[-2:]))


def plan_source(
    shape: Shape,
    dtype: np.dtype[Any],
    chunks: Shape,
    read_shape: Shape,
    room: Room,
    *,
    n_copies: int = COPIES,
    band_nbytes: int = 0,
    ahead_nbytes: int = 0,
) -> WritePlan:
    """Plan the writing of an array that is read from files by regions.

    The band is the least one that reads no element twice; where that does not
    fit in ``max_mem``, fewer workers or repeated reads, whichever costs less. Bands, and the units
    with them, grow to ``band_nbytes`` where that is more than is best on a disk, memory and a unit
    a worker permitting: a plane is then asked for whole. Of what a task would hold of answers
    ahead, ``ahead_nbytes``, it may hold a quarter of its share of ``max_mem``, and none where
    that would leave no room for a chunk.

    Raises
    ------
    MemoryLimitError
        If not even one chunk fits in ``max_mem``.
    """
    itemsize, nb_workers, max_mem = dtype.itemsize, room.nb_workers, room.max_mem
    chunk_nbytes = math.prod(chunks) * itemsize
    segment_nbytes = math.prod(read_shape) * itemsize
    ahead = min(ahead_nbytes, max_mem // (4 * nb_workers))
    options: list[tuple[float, int, float, int, Shape]] = []
    choices = [
        [(b, axis_amplification(n, b, r)) for b in axis_choices(n, c, r)]
        for n, c, r in zip(shape, chunks, read_shape, strict=True)
    ]
    for combined in product(*choices):
        band = tuple(b for b, _ in combined)
        amplification = math.prod(a for _, a in combined)
        # The band cut into chunks, the segment in hand, a chunk before and after encoding, and
        # what is ahead.
        mem = math.prod(band) * itemsize + 2 * segment_nbytes + n_copies * chunk_nbytes + ahead
        workers = min(nb_workers, max_mem // mem)
        if workers >= 1:
            # Decoding costs about what encoding costs: (1 + a) work over the workers.
            options.append(((1 + amplification) / workers, mem, amplification, workers, band))
    if not options and ahead > 1:
        return plan_source(
            shape, dtype, chunks, read_shape, room,
            n_copies=n_copies, band_nbytes=band_nbytes, ahead_nbytes=1,
        )  # fmt: skip
    if not options:
        least = chunk_nbytes * (n_copies + 1) + 2 * segment_nbytes + ahead
        raise MemoryLimitError(
            Option("max_mem")
            + f"={format_nbytes(max_mem)} cannot hold one chunk of {chunks} and one segment "
            f"of {read_shape} of {dtype.name}: about {format_nbytes(least)} are needed. "
            "Raise " + Option("max_mem") + " or choose smaller chunks."
        )
    _, mem, amplification, workers, least_band = min(options)
    total = math.prod(shape) * itemsize
    n_parallel = room.n_parallel
    # Chunks at the edge count whole, as they do in a band.
    padded = math.prod(-(-n // c) * c for n, c in zip(shape, chunks, strict=True)) * itemsize
    long_nbytes = min(band_nbytes, padded // n_parallel)
    target = max(unit_target(total, n_parallel), long_nbytes)
    least_nbytes = math.prod(least_band) * itemsize
    left = max_mem // workers - mem + least_nbytes
    most = max(min(BAND_NBYTES, target), long_nbytes)
    band = grow_unit(shape, least_band, itemsize, min(most, left))
    mem += math.prod(band) * itemsize - least_nbytes
    unit = grow_unit(shape, band, itemsize, target)
    return WritePlan(
        shape=shape,
        dtype=dtype.name,
        itemsize=itemsize,
        chunks=chunks,
        units=uniform_blocks(shape, unit),
        band=band,
        nb_workers=workers,
        max_mem=max_mem,
        projected_mem=mem * workers,
        read_nbytes=round(total * amplification),
        route="source",
        ahead_nbytes=ahead,
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


def blocks_fit_chunks(blocks: Blocks, chunks: Shape) -> bool:
    """Tell whether every border between dask blocks is a border between chunks."""
    return all(size % c == 0 for axis, c in zip(blocks, chunks, strict=True) for size in axis[:-1])


def plan_computed(
    blocks: Blocks,
    dtype: np.dtype[Any],
    chunks: Shape,
    room: Room,
    *,
    n_copies: int = COPIES,
) -> WritePlan:
    """Plan the writing of an array that is computed block by block.

    Blocks that are whole chunks are units as they are. Others are put together to units
    in memory, where those fit that are computed before their units can be written; in
    smaller units if need be; and by way of scratch files where even those do not fit.

    Raises
    ------
    MemoryLimitError
        If two of the largest blocks, what computing one takes at the least, do not fit
        in ``max_mem``.
    """
    itemsize = dtype.itemsize
    copies = _Copies(room, n_copies * math.prod(chunks) * itemsize, dtype.name)
    if blocks_fit_chunks(blocks, chunks):
        cut = _whole_blocks(blocks, itemsize, chunks, copies)
    else:
        cut = _gathered(blocks, itemsize, chunks, copies)
    shape = tuple(sum(axis) for axis in blocks)
    return WritePlan(
        shape=shape,
        dtype=dtype.name,
        itemsize=itemsize,
        chunks=chunks,
        units=cut.units,
        band=cut.band,
        nb_workers=cut.nb_workers,
        max_mem=room.max_mem,
        projected_mem=cut.projected_mem,
        read_nbytes=math.prod(shape) * itemsize,
        route=cut.route,
    )


class _Copies(NamedTuple):
    """What there is to work in, of which encoding takes ``copies_nbytes`` beside a band."""

    room: Room
    copies_nbytes: int
    dtype: str

    def workers_that_fit(self, mem: int, block: Shape) -> int:
        """Give how many tasks of ``mem`` bytes each go at once."""
        workers = (
            min(self.room.nb_workers, self.room.max_mem // mem) if mem else self.room.nb_workers
        )
        if workers < 1:
            raise MemoryLimitError(
                Option("max_mem")
                + f"={format_nbytes(self.room.max_mem)} cannot hold the array's own blocks: "
                f"computing one of {block} {self.dtype} takes about {format_nbytes(mem)}. Raise "
                + Option("max_mem")
                + ", or give the array smaller blocks where it is made (chunks= of the "
                "reader)."
            )
        return workers


class _Cut(NamedTuple):
    """How an array is cut into units, and what that takes; as :class:`WritePlan` has it."""

    route: str
    units: Blocks
    band: Shape
    nb_workers: int
    projected_mem: int


def _whole_blocks(blocks: Blocks, itemsize: int, chunks: Shape, copies: _Copies) -> _Cut:
    """Make each block a unit."""
    block = _largest(blocks)
    mem = 2 * math.prod(block) * itemsize + copies.copies_nbytes
    workers = copies.workers_that_fit(mem, block)
    return _Cut("blocks", blocks, chunks, workers, mem * workers)


def _gathered(blocks: Blocks, itemsize: int, chunks: Shape, copies: _Copies) -> _Cut:
    """Make units of parts of blocks, which wait in memory, or in files, for their neighbours."""
    room = copies.room
    shape = tuple(sum(axis) for axis in blocks)
    block = _largest(blocks)
    block_nbytes = math.prod(block) * itemsize
    total = math.prod(shape) * itemsize
    target = unit_target(min(total, 2**28), room.n_parallel)
    # Whole rows of chunks along the last axis keep the copies long.
    wide = (*chunks[:-1], -(-max(shape[-1], 1) // chunks[-1]) * chunks[-1])
    for band, nbytes in ((wide, target), (wide, 0), (chunks, 0)):
        unit = grow_unit(shape, band, itemsize, nbytes)
        held = _most_held(blocks, unit, room.nb_workers) * itemsize
        in_hand = max(2 * block_nbytes, math.prod(band) * itemsize) + copies.copies_nbytes
        projected = min(held, total) + room.nb_workers * in_hand
        if projected <= room.max_mem:
            return _Cut("gather", uniform_blocks(shape, unit), band, room.nb_workers, projected)
    chunk_nbytes = math.prod(chunks) * itemsize
    for band in (wide, chunks):
        # A block, and its result or the band that it is read back into.
        held = block_nbytes + max(block_nbytes, math.prod(band) * itemsize)
        mem = held + copies.copies_nbytes + chunk_nbytes
        if mem * room.nb_workers <= room.max_mem:
            break
    workers = copies.workers_that_fit(mem, block)
    unit = grow_unit(shape, band, itemsize, target)
    return _Cut("scratch", uniform_blocks(shape, unit), band, workers, mem * workers)


def _largest(blocks: Blocks) -> Shape:
    return tuple(max(axis, default=0) for axis in blocks)


def _most_held(blocks: Blocks, unit: Shape, nb_workers: int) -> int:
    """Give the elements of blocks that are held at one time while units are gathered.

    Where the borders of blocks and units meet, a group of units ends that shares
    no block with the next. dask works off ``nb_workers + 1`` rows of units at a
    time along the first axis that has more than one, and anything goes along the
    axes after it; blocks that are units along the leading axes (channels) are
    worked off one after another. Where blocks are longer than units along one axis and shorter
    along a later one, it follows no such order, and the whole array counts.

    dask's local scheduler, simulated with random blocks and units on 1 to 4 axes,
    held more in 5 of 1,900 cases, all of blocks one element thin along an axis,
    and half of this for planes cut into cubes.
    """
    whole = tuple(map(sum, blocks))
    extents: list[int] = []
    is_longer, is_leading = False, True
    for axis, step, n in zip(blocks, unit, whole, strict=True):
        if is_longer and len(axis) > 1 and max(axis) < step:
            return math.prod(whole)
        is_longer = is_longer or max(axis) > step
        touched = _most_touched(axis, step)
        extents.append(touched if is_leading else n)
        is_leading = is_leading and (touched == n or max(axis) == touched == step)
    return (nb_workers + 1) * math.prod(extents)


def _most_touched(axis: tuple[int, ...], step: int) -> int:
    """Give the most elements of whole blocks that one step along an axis touches."""
    edges = list(accumulate(axis, initial=0))
    most = 0
    for start in range(0, edges[-1], step):
        stop = min(start + step, edges[-1])
        low, high = bisect_right(edges, start) - 1, bisect_left(edges, stop)
        most = max(most, edges[high] - edges[low])
    return most
