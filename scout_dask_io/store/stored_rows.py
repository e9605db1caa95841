"""Rows of a standing array read back, each chunk file held against the manifest.

What is read is written again beside new rows: a damaged chunk must not get a checksum of its own,
and one that is lost must not become the fill value. The chunks' own format decodes them, so that
plain and sharded arrays are read alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scout_dask_io.core.grid import (
    Region,
    Shape,
    chunk_cells,
    chunk_region,
    clipped_chunks,
    intersect,
    iter_chunk_indices,
    region_shape,
    relative_to,
    shifted,
)
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.files.location import Location
from scout_dask_io.store.chunk_format import ChunkFormat
from scout_dask_io.store.chunk_v2 import crc32c
from scout_dask_io.store.manifest import MANIFEST_NAME, UNKNOWN


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
