"""How many files an array makes, and shards that make fewer. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scout_dask_io.core.formatting import format_count, format_nbytes, format_shape
from scout_dask_io.core.grid import Shape, chunk_counts, expand_chunks, whole_chunks
from scout_dask_io.core.messages import Option
from scout_dask_io.errors import ChunkError

#: Above this, listing, copying and removing an array take hours on most file systems.
MANY_FILES = 10**6
# A shard is in memory whole while it is written, several times over: 256 MiB of
# elements is 1 GB a worker. Below this, the larger the better.
SHARD_NBYTES = 2**28
# The manifest counts the bytes of a file in 32 bits.
MAX_SHARD_NBYTES = 2**32 - 2**28


def fit_shards(
    shape: Shape, chunks: Shape, shards: int | Sequence[int] | None, itemsize: int
) -> Shape | None:
    """Give the extents of shards, in elements; ``None`` for no shards.

    Given as chunks are (the last axes, -1 a whole axis), and no longer than the
    array rounded up to whole chunks.

    Raises
    ------
    ChunkError
        If they are no multiple of the chunks, or a shard would have 4 GB.

    Examples
    --------
    >>> fit_shards((30, 510, 667), (16, 64, 64), (512, 512, 512), 2)
    (32, 512, 512)
    """
    if shards is None:
        return None
    whole = tuple(map(max, whole_chunks(shape, chunks), chunks))
    # An axis that is given as -1 is the whole one, in whole chunks.
    asked = expand_chunks(whole, shards)
    if any(s % c for s, c in zip(asked, chunks, strict=True)):
        raise ChunkError(
            f"shards of {asked} are not whole chunks of {chunks}: each extent must be a multiple"
        )
    found = tuple(min(s, n) for s, n in zip(asked, whole, strict=True))
    nbytes = math.prod(found) * itemsize
    if nbytes > MAX_SHARD_NBYTES:
        raise ChunkError(
            f"a shard of {found} has {format_nbytes(nbytes)}, more than the "
            f"{format_nbytes(MAX_SHARD_NBYTES)} that one may have: choose smaller shards"
        )
    return found


def suggest_shards(shape: Shape, chunks: Shape, itemsize: int) -> Shape | None:
    """Give shards of about 256 MiB of elements, ``None`` where a chunk is half of that already.

    Chunks are doubled, the shortest axis first, as far as the array goes.

    Examples
    --------
    >>> suggest_shards((20000, 50000, 50000), (64, 64, 64), 2)
    (512, 512, 512)
    """
    whole = tuple(map(max, whole_chunks(shape, chunks), chunks))
    found = list(chunks)
    while math.prod(found) * itemsize * 2 <= SHARD_NBYTES:
        room = [axis for axis, n in enumerate(whole) if found[axis] < n]
        if not room:
            break
        # The last of the shortest axes, so that shards grow as files are read: rows first.
        axis = min(room, key=lambda a: (found[a] / chunks[a], -a))
        found[axis] *= 2
    return None if tuple(found) == chunks else tuple(found)


def advise_shards(shape: Shape, chunks: Shape, stored: Shape, itemsize: int) -> str:
    """Say what an array of so many files would be better with; empty where all is well.

    Parameters
    ----------
    shape, chunks : tuple of int
        Of the array, in elements.
    stored : tuple of int
        Extent of what one file holds: a chunk, or a shard.
    itemsize : int
        Size of an element, in bytes.
    """
    n_files = math.prod(chunk_counts(shape, stored))
    if n_files <= MANY_FILES:
        return ""
    text = (
        f"{format_count(n_files, 'file')}: file systems slow down, and copies take days, above "
        f"{MANY_FILES:,}"
    )
    better = suggest_shards(shape, chunks, itemsize)
    if better is None or math.prod(better) <= math.prod(stored):
        return f"{text}. Larger chunks or shards make fewer."
    fewer = math.prod(chunk_counts(shape, better))
    return (
        f"{text}. "
        + Option("zarr_format", 3)
        + f" with shards of {format_shape(better)} makes {fewer:,}, of "
        f"{format_nbytes(math.prod(better) * itemsize)} at most before compression."
    )
