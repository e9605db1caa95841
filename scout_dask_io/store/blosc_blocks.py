"""Some blocks of a Blosc buffer as a buffer of its own, for a part of a chunk.

Blosc compresses a chunk in blocks, each by itself, and decodes all of them or none. A plane through
a chunk of 64 x 64 x 64 lies in one of 16 blocks of those that TensorStore and zarr write, and most
boxes take half of a chunk: the header and the blocks that hold it are a buffer that any Blosc
decodes. What this library writes has one block a chunk, which is smaller and sooner read whole.

Source: the Blosc 1 chunk format (``README_CHUNK_FORMAT.rst`` of c-blosc): a header of 16 bytes,
where each block begins (32-bit, from the start of the buffer), and the blocks, which threads may
have put in any order; the last may be shorter than the others.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

# Version of the format, of the codec, flags, size of an element; bytes decoded, of a block, in all.
_HEADER = struct.Struct("<BBBBIII")
_IS_COPY = 0x2  # of flags: the elements follow as they are, in no blocks


def blocks_of(data: Any, start: int, stop: int) -> tuple[bytes, int, int] | None:
    """Give the blocks that hold some bytes of a chunk, as a buffer of their own.

    Parameters
    ----------
    data : bytes-like
        A whole Blosc buffer.
    start, stop : int
        The bytes of the decoded chunk that are wanted.

    Returns
    -------
    (bytes, int, int) or None
        The buffer, and the bytes of the chunk that it decodes to; ``None`` where that would be all
        of them, or the buffer is not as it should be: its own decoder says what is wrong.

    Examples
    --------
    >>> from numcodecs import Blosc
    >>> import numpy as np
    >>> whole = Blosc("zstd", 1, 1, 4096).encode(np.arange(65536, dtype="u2"))
    >>> some, low, high = blocks_of(whole, 40_000, 40_002)
    >>> low, high, int(np.frombuffer(Blosc().decode(some), "u2")[(40_000 - low) // 2])
    (36864, 40960, 20000)
    """
    view = memoryview(data).cast("B")
    if len(view) < _HEADER.size:
        return None
    *kind, nbytes, extent, stored = _HEADER.unpack_from(view)
    if kind[2] & _IS_COPY or not 0 < extent < nbytes or not 0 <= start < stop <= nbytes:
        return None
    n_blocks = -(-nbytes // extent)
    first, last = start // extent, -(-stop // extent)
    least = _HEADER.size + 4 * n_blocks
    if last - first == n_blocks or stored != len(view) or least > stored:
        return None
    begins = np.frombuffer(view, "<u4", n_blocks, _HEADER.size).astype(np.int64)
    in_file = np.sort(begins)
    if in_file[0] < least or in_file[-1] >= stored:
        return None
    ends = np.append(in_file[1:], stored)
    wanted = begins[first:last]
    sizes = ends[np.searchsorted(in_file, wanted)] - wanted
    head = _HEADER.size + 4 * len(wanted)
    places = (head + np.cumsum(sizes) - sizes).astype("<u4")
    low, high = first * extent, min(last * extent, nbytes)
    header = _HEADER.pack(*kind, high - low, extent, head + int(sizes.sum()))
    parts = [view[b : b + n] for b, n in zip(wanted.tolist(), sizes.tolist(), strict=True)]
    return b"".join((header, places.tobytes(), *parts)), low, high
