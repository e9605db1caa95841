"""What one task of a check does: chunk files read, and held against their records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from scout_dask_io.core.grid import Region, Shape, chunk_counts, chunk_region
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.files.location import AnyPath, RemotePath
from scout_dask_io.store.checksum import crc32c
from scout_dask_io.store.chunk_format import StoredFormat, decoder_of
from scout_dask_io.store.chunk_v2 import ChunkDecoder, read_file
from scout_dask_io.store.chunk_v3 import ObjectDecoder
from scout_dask_io.store.manifest import UNKNOWN
from scout_dask_io.store.remote_contents import read_object

Decoder: TypeAlias = ChunkDecoder | ObjectDecoder
Reader: TypeAlias = Callable[[str, bytearray], memoryview | None]

__all__ = ["BadChunk", "Part", "check_chunks"]


@dataclass(frozen=True, slots=True)
class BadChunk:
    """A chunk that is not what the manifest says.

    Attributes
    ----------
    kind : str
        ``"missing"``: a file was written and is not there; ``"corrupt"``: it has
        another size or checksum, or does not decode; ``"extra"``: a file where
        every element is the fill value; ``"unknown"``: in a region whose writing
        was not finished.
    index : tuple of int
        In the chunk grid.
    region : tuple of slice
        Where it lies in the array.
    reason : str
        What was found and what was expected.
    """

    kind: str
    index: Shape
    region: Region
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one task found; as an int, the bytes that it read."""

    counts: Counter[str]
    bad: tuple[BadChunk, ...]
    nbytes: int

    def __int__(self) -> int:
        return self.nbytes


def check_chunks(
    root: AnyPath,
    fmt: StoredFormat,
    first: int,
    last: int,
    records: np.ndarray | None,
    deep: bool,
    limit: int,
) -> Part:
    """Check the chunks from one number in the grid to another, against their records if any."""
    counts: Counter[str] = Counter()
    bad: list[BadChunk] = []
    nbytes = 0
    grid = chunk_counts(fmt.shape, fmt.chunks)
    decoder = decoder_of(fmt) if deep else None
    room = bytearray(fmt.max_nbytes)
    read: Reader = partial(read_object, root) if isinstance(root, RemotePath) else read_file
    above = root.key if isinstance(root, RemotePath) else str(root)
    for number in range(first, last):
        index = tuple(int(i) for i in np.unravel_index(number, grid))
        path = fmt.chunk_path(above, index)
        expected = None if records is None else tuple(map(int, records[number - first]))
        kind, reason, size = _check_one(read, path, room, expected, decoder)
        counts[kind] += 1
        counts["file"] += size > 0 and kind != "file"
        nbytes += size
        if reason and len(bad) < limit:
            region = chunk_region(index, fmt.shape, fmt.chunks)
            bad.append(BadChunk(kind, index, region, reason))
    return Part(counts, tuple(bad), nbytes)


def _check_one(
    read: Reader,
    path: str,
    room: bytearray,
    expected: Sequence[int] | None,
    decoder: Decoder | None,
) -> tuple[str, str, int]:
    """Give what a chunk is, what is wrong with it, and the bytes read."""
    try:
        data = read(path, room)
    except ChunkReadError as err:
        return "corrupt", str(err), 0
    if expected is not None and expected[0] == UNKNOWN["nbytes"]:
        return "unknown", f"{path}: the writing of its region was not finished", len(data or b"")
    if data is None:
        if expected is None or expected[0] == 0:
            return "empty", "", 0
        return "missing", f"{path} is missing: it had {expected[0]} bytes", 0
    if expected is not None and expected[0] == 0:
        return "extra", f"{path}: a file of {len(data)} bytes, the chunk was empty", len(data)
    found = (len(data), crc32c(data))
    if expected is not None and found != tuple(expected):
        reason = (
            f"{path}: {found[0]} bytes of CRC32C {found[1]:08x}, "
            f"written were {expected[0]} of {expected[1]:08x}"
        )
        return "corrupt", reason, len(data)
    if decoder is not None:
        try:
            decoder.decode(data, path)
        except ChunkReadError as err:
            return "corrupt", str(err), len(data)
    return "file", "", len(data)
