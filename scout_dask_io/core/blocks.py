"""Dask blocks of arrays that are stored in chunks, by default.

Why it is short: Zarr, HDF5 and NumPy files are read by the one rule.
"""

from __future__ import annotations

import math

from scout_dask_io.core.grid import Blocks, Shape, uniform_blocks

# A dask block of a few whole chunks: long against the scheduler's overhead,
# small enough that a dozen of them fit anywhere.
BLOCK_NBYTES = 32 * 2**20


def default_blocks(
    shape: Shape, chunks: Shape, itemsize: int, shards: Shape | None = None
) -> Blocks:
    """Blocks of whole chunks, wide along the last axes, of about ``BLOCK_NBYTES``.

    Blocks of an array whose shards are larger than this divide a shard.
    """
    if shards is not None:
        if math.prod(shards) * itemsize > BLOCK_NBYTES:
            return uniform_blocks(shape, _part_of_shard(shards, chunks, itemsize))
        chunks = shards
    block = list(chunks)
    nbytes = itemsize
    for c in chunks:
        nbytes *= c
    for axis in reversed(range(len(shape))):
        times = max(1, min(BLOCK_NBYTES // max(nbytes, 1), -(-shape[axis] // chunks[axis])))
        block[axis] = chunks[axis] * times
        nbytes *= times
    return uniform_blocks(shape, tuple(block))


def _part_of_shard(shards: Shape, chunks: Shape, itemsize: int) -> Shape:
    part = list(chunks)
    for axis in reversed(range(len(chunks))):
        room = max(1, BLOCK_NBYTES // (math.prod(part) * itemsize))
        whole = shards[axis] // chunks[axis]
        part[axis] *= max(n for n in range(1, min(room, whole) + 1) if whole % n == 0)
    return tuple(part)
