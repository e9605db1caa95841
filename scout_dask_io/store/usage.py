"""How much of an array is on disk: chunk files counted, bytes summed."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scout_dask_io.core.grid import Shape, chunk_counts
from scout_dask_io.errors import LayoutError
from scout_dask_io.files.location import RemotePath
from scout_dask_io.store.layout import ArrayLayout

__all__ = ["ArrayUsage", "chunk_grid", "measure_array"]


@dataclass(frozen=True, slots=True)
class ArrayUsage:
    """What an array's directory holds.

    Attributes
    ----------
    n_chunks : int
        Chunk files that a full array has; of a sharded one, shards.
    n_present : int
        Chunk files that are there; those that are not hold the fill value.
    n_files : int
        All files, metadata and leftovers too.
    stored_nbytes : int
        Their size, in bytes.
    """

    n_chunks: int
    n_present: int
    n_files: int
    stored_nbytes: int


def chunk_grid(metadata: dict[str, Any]) -> tuple[Shape, Shape]:
    """Give the shape of an array, and the extent of what one chunk file holds.

    Raises
    ------
    LayoutError
        If the chunks are not on a regular grid.
    """
    shape = tuple(metadata["shape"])
    if metadata["zarr_format"] == 2:
        return shape, tuple(metadata["chunks"])
    grid = metadata["chunk_grid"]
    chunks = grid.get("configuration", {}).get("chunk_shape") if isinstance(grid, dict) else None
    if not isinstance(chunks, list) or len(chunks) != len(shape):
        raise LayoutError(f"the chunk grid {grid!r} is not a regular one of {len(shape)} axes")
    return shape, tuple(int(c) for c in chunks)


def measure_array(path: str | os.PathLike[str] | RemotePath, layout: ArrayLayout) -> ArrayUsage:
    """Count an array's chunk files and sum the sizes of its files. Lists every directory below it.

    A file counts as a chunk if its key is one of the array's; leftovers and
    chunks outside the shape do not. Links are not followed.
    """
    shape, chunks = chunk_grid(layout.metadata)
    counts = chunk_counts(shape, chunks)
    head: tuple[str, ...] = ()
    if layout.zarr_format == 3 and layout.metadata["chunk_key_encoding"]["name"] == "default":
        head = ("c",)
    present = files = stored = 0
    if isinstance(path, RemotePath):
        for name, nbytes in path.find():
            files += 1
            stored += nbytes
            present += _is_chunk(tuple(name.split("/")), head, layout.separator, counts)
        return ArrayUsage(math.prod(counts), present, files, stored)
    queue: list[tuple[str, tuple[str, ...]]] = [(os.fspath(Path(path)), ())]
    while queue:
        folder, above = queue.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    queue.append((entry.path, (*above, entry.name)))
                elif entry.is_file(follow_symlinks=False):
                    files += 1
                    stored += entry.stat(follow_symlinks=False).st_size
                    present += _is_chunk((*above, entry.name), head, layout.separator, counts)
    return ArrayUsage(math.prod(counts), present, files, stored)


def _is_chunk(parts: tuple[str, ...], head: tuple[str, ...], separator: str, counts: Shape) -> bool:
    """Tell whether the parts of a path are the key of a chunk on the grid."""
    if separator == "." or len(counts) < 2:
        if len(parts) == 1:
            parts = tuple(parts[0].split("."))
        elif separator == ".":
            return False
    if not counts:
        return parts == (head or ("0",))
    if parts[: len(head)] != head:
        return False
    index = parts[len(head) :]
    return len(index) == len(counts) and all(
        part.isascii() and part.isdigit() and str(int(part)) == part and int(part) < n
        for part, n in zip(index, counts, strict=True)
    )
