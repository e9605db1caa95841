"""Rows of a standing array read back, each chunk file held against the manifest.

What is read is written again beside new rows: a damaged chunk must not get a checksum of its own,
and one that is lost must not become the fill value. The chunks' own format decodes them, so that
plain and sharded arrays are read alike.

An update reads those of planes that did not change, which costs less than to decode and to halve
these again: :class:`KeptRows`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from scout_dask_io.core.grid import (
    Region,
    Shape,
    chunk_cells,
    chunk_region,
    clipped_chunks,
    full_region,
    intersect,
    iter_chunk_indices,
    region_shape,
    relative_to,
    shifted,
)
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.files.location import Location
from scout_dask_io.store.chunk_format import ChunkFormat, format_at
from scout_dask_io.store.chunk_v2 import crc32c
from scout_dask_io.store.manifest import MANIFEST_NAME, UNKNOWN, read_manifest
from scout_dask_io.store.metadata import read_node


@dataclass(frozen=True)
class Rows:
    """Which chunks are read back. Picklable.

    Attributes
    ----------
    root : Location
        The array.
    format : ChunkFormat
        How its chunks are stored.
    region : tuple of slice
        What is read of it; begins on the edge of chunks.
    records : numpy.ndarray or None
        Of the chunks that it touches, as the manifest has them; ``None`` where there is none.
    """

    root: Location
    format: ChunkFormat
    region: Region
    records: np.ndarray | None

    @classmethod
    def of(
        cls, root: Location, fmt: ChunkFormat, region: Region, records: np.ndarray | None
    ) -> Rows:
        """Give a region's rows, with the records of its chunks of those of all."""
        own = None if records is None else records[chunk_cells(region, fmt.chunks)].copy()
        return cls(root, fmt, region, own)


class StoredRows(Source):
    """A region of a standing array whose every chunk is checked when it is read."""

    def __init__(self, rows: Rows, token: str) -> None:
        self.rows = rows
        self.root = rows.root
        self.shape = region_shape(rows.region)
        self.dtype = rows.format.dtype.newbyteorder("=")
        self.token = token

    @property
    def read_shape(self) -> Shape:
        """One chunk, or one shard."""
        chunks = self.rows.format.chunks
        return clipped_chunks(chunks, self.shape)

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield one piece a chunk; chunks without a file are fill.

        Raises
        ------
        ChunkReadError
            If a chunk is not what the manifest says, or cannot be decoded.
        """
        rows = self.rows
        fmt, wanted = rows.format, shifted(region, rows.region)
        decoder = fmt.decoder()
        fill = np.broadcast_to(np.array(fmt.fill(), fmt.dtype), fmt.chunks)
        indices = list(iter_chunk_indices(wanted, fmt.chunks))
        files = rows.root.iter_files(map(fmt.chunk_key, indices), fmt.max_nbytes)
        for index, (key, data) in zip(indices, files, strict=True):
            if isinstance(data, ChunkReadError):
                raise data
            path = f"{rows.root}/{key}"
            self._check(index, path, data)
            cell = chunk_region(index, fmt.shape, fmt.chunks)
            shared = intersect(cell, wanted)
            if shared is not None:
                values = fill if data is None else decoder.decode(data, path)
                yield relative_to(shared, wanted), values[relative_to(shared, cell)]

    def _check(self, index: Shape, path: str, data: bytes | memoryview | None) -> None:
        rows = self.rows
        if rows.records is None:
            return
        first = [cell.start for cell in chunk_cells(rows.region, rows.format.chunks)]
        at = tuple(i - f for i, f in zip(index, first, strict=True))
        nbytes, checksum = map(int, rows.records[at].item())
        if nbytes == UNKNOWN["nbytes"]:
            raise ChunkReadError(
                f"{path}: a region was being written into this chunk and was not finished, so "
                "that it cannot be told whether its rows are whole, and they are not written "
                "again. Write that region again first."
            )
        found = (0, 0) if data is None else (len(data), crc32c(data))
        if found != (nbytes, checksum):
            raise ChunkReadError(
                f"{path}: found {found[0]:,} bytes of CRC32C {found[1]:08x}, on record in "
                f"{MANIFEST_NAME} are {nbytes:,} of {checksum:08x}: its rows are not written "
                "again as they are. Restore the file, or write its region again; if other "
                f"software changed it on purpose, remove {MANIFEST_NAME} to go on without."
            )


class KeptRows(Source):
    """Stored rows of the planes that stay, and another source's of those that changed.

    A chunk that is not what the manifest says gives no rows: all of its are the other source's.

    Parameters
    ----------
    stored : StoredRows
        The whole array that stands.
    anew : Source
        Of the same shape and dtype.
    changed : numpy.ndarray
        Tells which planes are read anew; 1 long along axes that are none of planes.
    """

    def __init__(self, stored: StoredRows, anew: Source, changed: np.ndarray) -> None:
        self.stored, self.anew, self.changed = stored, anew, changed
        self.shape, self.dtype = anew.shape, anew.dtype
        self.token = f"{anew.token}|{stored.token}"

    @property
    def read_shape(self) -> Shape:
        """That of the array that stands."""
        return self.stored.read_shape

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield rows that stay, chunk by chunk, and then what changed."""
        runs = list(self._runs(region))
        anew = [where for changed, where in runs if changed]
        fmt = self.stored.rows.format
        for index in iter_chunk_indices(region, fmt.chunks) if len(anew) < len(runs) else ():
            cell = chunk_region(index, fmt.shape, fmt.chunks)
            kept = [s for changed, r in runs if not changed and (s := intersect(r, cell))]
            if not kept:
                continue
            try:
                ((_, values),) = self.stored.iter_pieces(cell)
            except ChunkReadError:
                anew += kept
                continue
            for where in kept:
                yield relative_to(where, region), values[relative_to(where, cell)]
        for where in anew:
            for part, values in self.anew.iter_pieces(where):
                yield shifted(part, relative_to(where, region)), values

    def _runs(self, region: Region) -> Iterator[tuple[bool, Region]]:
        """Yield parts of a region, of planes that all changed or all stay, which tile it."""
        axes = [axis for axis, n in enumerate(self.changed.shape) if n > 1]
        part = self.changed[
            tuple(s if axis in axes else slice(None) for axis, s in enumerate(region))
        ]
        if not axes or part.all() or not part.any():
            yield bool(part.all()), region
            return
        last = axes[-1]
        for at in np.ndindex(*part.shape[:last]):
            row = part[at].reshape(-1)
            where = [
                slice(s.start + at[axis], s.start + at[axis] + 1) if axis in axes[:-1] else s
                for axis, s in enumerate(region)
            ]
            edges = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
            for first, stop in pairwise(edges):
                start = region[last].start
                where[last] = slice(start + first, start + stop)
                yield bool(row[first]), tuple(where)


def kept_rows(place: Location, level: int | None, update: Any, anew: Source) -> Source:
    """Give a source whose planes that did not change are read from what stands at a place.

    ``update`` is what is noted of the write as one, with what :func:`changed_rows` gave by the
    names of levels under ``"changed"``. Of a level that is not in it, of an array without a
    manifest, and in any other write, all is read from ``anew``.
    """
    name = "" if level is None else str(level)
    noted = update.get("changed", {}).get(name) if isinstance(update, Mapping) else None
    if noted is None:
        return anew
    root = place / name if name else place
    node, manifest = read_node(root), read_manifest(root)
    fmt = None if node is None else format_at(node)
    if fmt is None or manifest is None or fmt.shape != anew.shape:
        return anew
    mask = np.zeros(noted["shape"], bool)
    mask.flat[noted["planes"]] = True
    rows = Rows.of(root, fmt, full_region(fmt.shape), manifest.records)
    return KeptRows(StoredRows(rows, ""), anew, mask)


def changed_rows(mask: np.ndarray) -> dict[str, Any]:
    """Give as JSON which planes changed, of a mask that is 1 long along axes of none."""
    return {"shape": list(mask.shape), "planes": np.flatnonzero(mask).tolist()}
