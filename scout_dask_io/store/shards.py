"""Parts of shards at URLs: their indices are asked for at once, and then what is wanted of each.

Source: the "sharding_indexed" codec of Zarr v3. An index has offset and size of each chunk, 64
bits each, in C order; all ones stand for a chunk that is not there. zarr-python asks for the
chunks of a shard one after the other.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Region, Shape, chunk_counts, chunk_region, iter_chunk_indices
from scout_dask_io.core.source import Piece
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.files.remote import RemoteLocation, identity_of
from scout_dask_io.files.requests import AHEAD_NBYTES, RangeAnswer, settled
from scout_dask_io.store.chunk_v2 import crc32c
from scout_dask_io.store.chunk_v3 import ShardFormat

_ABSENT = 2**64 - 1
# Chunks that lie this close are fetched in one request, of at most so many bytes.
_GAP_NBYTES, _REQUEST_NBYTES = 64 << 10, 8 << 20
# Shards whose indices are asked for at once.
_N_INDICES = 32


@dataclass(frozen=True)
class ShardIndex:
    """Where the index of a shard lies, and how a chunk in it is stored. Picklable.

    Attributes
    ----------
    outer : ShardFormat
        Of the shards.
    inner : ShardFormat
        Of the chunks, as if each were an object.
    at_end : bool
        Whether the index comes after the chunks.
    has_checksum : bool
        Whether its CRC32C follows it.
    """

    outer: ShardFormat
    inner: ShardFormat
    at_end: bool
    has_checksum: bool

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> ShardIndex | None:
        """Give what a ``zarr.json`` says; ``None`` without shards, or where zarr must be asked."""
        codecs = metadata.get("codecs") or []
        if len(codecs) != 1 or codecs[0].get("name") != "sharding_indexed":
            return None
        outer = ShardFormat.from_metadata(metadata)
        inside = codecs[0].get("configuration") or {}
        of_index = inside.get("index_codecs") or []
        kinds = [c.get("name") for c in of_index]
        if outer is None or kinds not in (["bytes"], ["bytes", "crc32c"]):
            return None
        if (of_index[0].get("configuration") or {}).get("endian", "little") != "little":
            return None
        grid = {"name": "regular", "configuration": {"chunk_shape": list(outer.inner)}}
        inner = ShardFormat.from_metadata(
            {**metadata, "chunk_grid": grid, "codecs": inside.get("codecs") or []}
        )
        if inner is None or inner.inner != inner.chunks:
            return None
        at_end = inside.get("index_location", "end") == "end"
        return cls(outer, inner, at_end, len(kinds) > 1)

    @property
    def counts(self) -> Shape:
        """How many chunks a shard has, along each axis."""
        return chunk_counts(self.outer.chunks, self.inner.chunks)

    @property
    def nbytes(self) -> int:
        """Size of the index, in bytes."""
        return 16 * math.prod(self.counts) + 4 * self.has_checksum

    def begin(self, root: RemoteLocation, index: Shape) -> Future[RangeAnswer]:
        """Ask for the index of a shard."""
        place = root / self.outer.chunk_key(index)
        if self.at_end:
            return place.client.begin(place.key, -self.nbytes)
        return place.client.begin(place.key, 0, self.nbytes)

    def parse(self, data: bytes, where: str) -> np.ndarray:
        """Give offset and size of each chunk, of shape ``(*counts, 2)``.

        Raises
        ------
        ChunkReadError
            If the index is damaged.
        """
        table, checksum = data[: 16 * math.prod(self.counts)], data[self.nbytes - 4 : self.nbytes]
        good = len(data) == self.nbytes
        if good and self.has_checksum:
            good = crc32c(table) == int.from_bytes(checksum, "little")
        if not good:
            raise ChunkReadError(
                f"{where}: the index of the shard is damaged or cut off ({len(data)} bytes, "
                f"expected {self.nbytes}). Restore the object, or write the array again."
            )
        return np.frombuffer(table, "<u8").reshape(*self.counts, 2)


@dataclass(frozen=True, slots=True)
class _Request:
    """One range of a shard, and the chunks that lie in it."""

    key: str
    start: int
    stop: int
    chunks: tuple[tuple[Region, int, int], ...]  # region in the array, offset and size
    state: tuple[str, ...] | None  # of the object that the index came from


def iter_parts(
    root: RemoteLocation, shards: ShardIndex, region: Region, missing: list[Shape]
) -> Iterator[Piece]:
    """Yield the region of each chunk that a region touches, in the array, and its elements.

    What no object has is fill. Shards that have none are noted in ``missing``. Memory holds 32 MiB
    of requests, and a chunk. The elements are good until the next are asked for.

    Raises
    ------
    ChunkReadError
        If a shard is damaged, or was written again while it was read.
    """
    outer = shards.outer
    fill = np.broadcast_to(np.array(outer.fill(), outer.dtype), shards.inner.chunks)
    decoder = shards.inner.decoder()
    waiting = iter(list(iter_chunk_indices(region, outer.chunks)))
    while some := list(islice(waiting, _N_INDICES)):
        begun = [shards.begin(root, index) for index in some]
        requests: list[_Request] = []
        for index, answer in zip(some, settled([b.result for b in begun]), strict=True):
            place = root / outer.chunk_key(index)
            data = place.given(answer if isinstance(answer, BaseException) else answer[0])
            wanted = _wanted(shards, index, region)
            if data is None:
                missing.append(index)
                yield from ((cell, fill) for cell, _ in wanted)
                continue
            table = shards.parse(data, str(place))
            there = []
            for cell, at in wanted:
                offset, nbytes = map(int, table[at])
                if offset == nbytes == _ABSENT:
                    yield cell, fill
                    continue
                if nbytes > shards.inner.max_nbytes or offset >= _ABSENT - nbytes:
                    raise ChunkReadError(
                        f"{place}: its index has a chunk of {nbytes:,} bytes, more than any "
                        f"encoding has ({shards.inner.max_nbytes:,}). The shard is damaged; "
                        "restore it or write the array again."
                    )
                there.append((cell, offset, nbytes))
            requests += _joined(outer.chunk_key(index), there, identity_of(answer[1]))
        for request, fetched in _fetched(root, requests):
            where = f"{root}/{request.key}"
            for cell, offset, nbytes in request.chunks:
                part = fetched[offset - request.start : offset - request.start + nbytes]
                yield cell, decoder.decode(part, where)


def _wanted(shards: ShardIndex, index: Shape, region: Region) -> list[tuple[Region, Shape]]:
    """Give the chunks of a shard that a region touches: where each lies, and its place in it."""
    inner, counts = shards.inner, shards.counts
    first = tuple(i * n for i, n in zip(index, counts, strict=True))
    own = chunk_region(index, shards.outer.shape, shards.outer.chunks)
    shared = tuple(
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(own, region, strict=True)
    )
    return [
        (
            chunk_region(at, inner.shape, inner.chunks),
            tuple(i - f for i, f in zip(at, first, strict=True)),
        )
        for at in iter_chunk_indices(shared, inner.chunks)
    ]


def _joined(
    key: str, chunks: Iterable[tuple[Region, int, int]], state: tuple[str, ...] | None
) -> list[_Request]:
    """Give the requests for chunks of a shard: one for those that lie close together."""
    found: list[_Request] = []
    group: list[tuple[Region, int, int]] = []
    for chunk in sorted(chunks, key=lambda c: c[1]):
        _, offset, nbytes = chunk
        if group:
            start, stop = group[0][1], max(o + n for _, o, n in group)
            if offset - stop > _GAP_NBYTES or offset + nbytes - start > _REQUEST_NBYTES:
                found.append(_Request(key, start, stop, tuple(group), state))
                group = []
        group.append(chunk)
    if group:
        stop = max(o + n for _, o, n in group)
        found.append(_Request(key, group[0][1], stop, tuple(group), state))
    return found


def _fetched(
    root: RemoteLocation, requests: Sequence[_Request]
) -> Iterator[tuple[_Request, memoryview]]:
    """Yield what each request gives, in order, while the next are on their way."""
    client = root.client
    begun: deque[tuple[_Request, Future[RangeAnswer]]] = deque()
    waiting = deque(requests)
    held = 0
    try:
        while waiting or begun:
            while waiting and len(begun) < client.at_once:
                size = waiting[0].stop - waiting[0].start
                if begun and held + size > AHEAD_NBYTES.get():
                    break
                request = waiting.popleft()
                held += size
                place = root / request.key
                begun.append((request, client.begin(place.key, request.start, request.stop)))
            request, future = begun.popleft()
            (answer,) = settled([future.result])
            place = root / request.key
            data = place.given(answer if isinstance(answer, BaseException) else answer[0])
            now = None if isinstance(answer, BaseException) else identity_of(answer[1])
            if data is None or (None not in (now, request.state) and now != request.state):
                raise ChunkReadError(
                    f"{place} was written again while it was read: read it once more"
                )
            if len(data) != request.stop - request.start:
                raise ChunkReadError(
                    f"{place}: the shard ends before a chunk that its index has. It is damaged; "
                    "restore it or write the array again."
                )
            yield request, memoryview(data)
            held -= request.stop - request.start
    finally:
        for _, future in begun:
            future.cancel()
