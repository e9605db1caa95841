"""How the chunks of an array are stored, whichever Zarr format it has.

What writes, reads and checks chunks file by file asks a ``ChunkFormat``: a plain v2 array's
(:mod:`~scout_dask_io.store.chunk_v2`) or a v3 array's (:mod:`~scout_dask_io.store.chunk_v3`).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from scout_dask_io.core.grid import Region, Shape
from scout_dask_io.store.chunk_v2 import ArrayFormat
from scout_dask_io.store.chunk_v3 import ShardFormat
from scout_dask_io.store.layout import detect_layout
from scout_dask_io.store.metadata import Node


class Encoder(Protocol):
    """Turns whole chunks into the bytes of their files; one a task, not shared by threads."""

    def encode(self, chunk: np.ndarray) -> Any | None:
        """Give a chunk's bytes, or ``None`` where every element is the fill value."""


class Decoder(Protocol):
    """Turns the bytes of files into chunks; one a task, not shared by threads."""

    def decode(self, data: Any, path: str, part: Region | None = None) -> np.ndarray:
        """Give the chunk in ``data``, good until the next call; ``path`` is named in errors.

        Of what lies outside of a ``part``, relative to the chunk, elements may be anything.
        """


class ChunkFormat(Protocol):
    """What turns a chunk into a file and back. Picklable, no open files.

    Of an array with shards a *chunk* is a whole shard: what one file holds.
    """

    @property
    def shape(self) -> Shape:
        """Of the array, in elements."""

    @property
    def chunks(self) -> Shape:
        """Extent of what one file holds, in elements."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the elements, as they are stored."""

    @property
    def chunk_nbytes(self) -> int:
        """Size of one decoded chunk, in bytes."""

    @property
    def max_nbytes(self) -> int:
        """Size that no encoding of a chunk exceeds, in bytes."""

    def fill(self) -> Any:
        """Give the value of elements without a file."""

    def chunk_key(self, index: Shape) -> str:
        """Give the name of a chunk's file below the array."""

    def described(self) -> dict[str, Any]:
        """Give what a manifest's settings say of the format, by the same names."""

    def encoder(self) -> Encoder:
        """Give what encodes chunks."""

    def decoder(self) -> Decoder:
        """Give what decodes chunks."""


def format_of(
    metadata: dict[str, Any], separator: str, file: object = ".zarray"
) -> ChunkFormat | None:
    """Give the format that metadata describe, or ``None`` where zarr itself must be asked."""
    if metadata["zarr_format"] == 3:
        return ShardFormat.from_metadata(metadata)
    return ArrayFormat.from_metadata(metadata, separator, file)


def format_at(node: Node) -> ChunkFormat | None:
    """Give the format of an array that stands, as :func:`format_of`.

    Raises
    ------
    LayoutError
        If it cannot be told how its chunks lie.
    """
    layout = detect_layout(node)
    return format_of(layout.metadata, layout.separator, node.location / ".zarray")
