"""Stored Zarr arrays as sources: chunk files decoded straight into the region.

Whether a stored array is still the one that was opened, and a name for the state it is in.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import StorePath

from scout_dask_io.core.grid import (
    Blocks,
    Region,
    Shape,
    chunk_region,
    intersect,
    iter_chunk_indices,
    relative_to,
    uniform_blocks,
)
from scout_dask_io.core.image_info import FilledPlane, ImageInfo
from scout_dask_io.core.ome_metadata import Multiscale
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.errors import ChunkReadError, PathNotFoundError, ScoutIOError, SourceChangedError
from scout_dask_io.files.location import AnyPath, RemotePath, locate
from scout_dask_io.store.chunk_v2 import ArrayFormat, ChunkDecoder, read_file
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.image import find_level
from scout_dask_io.store.image_info import filled_of, stored_info
from scout_dask_io.store.layout import detect_layout
from scout_dask_io.store.manifest import MANIFEST_NAME, note_states
from scout_dask_io.store.nodes_remote import store_of

# A dask block of a few whole chunks: long against the scheduler's overhead,
# small enough that a dozen of them fit anywhere.
BLOCK_NBYTES = 32 * 2**20


def _default_blocks(
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


class ChunkFileSource(Source):
    """A plain v2 array on a local disk, read chunk file by chunk file.

    Parameters
    ----------
    root : Path
        The array's directory.
    fmt : ArrayFormat
        From its ``.zarray``.
    token : str
        Names the array's state.
    """

    #: The image that the array was found by, and which level of it this is.
    level: tuple[Multiscale, int] | None = None

    def __init__(self, root: Path, fmt: ArrayFormat, token: str) -> None:
        self.root = root
        self.format = fmt
        self._identity = identity_of(root)
        self.shape = fmt.shape
        self.dtype = fmt.dtype.newbyteorder("=")
        self.token = token

    def _look(self, given: VoxelSize | None = None) -> ImageInfo:
        return stored_info(self.root, self.shape, self.level, given)

    @property
    def filled(self) -> tuple[FilledPlane, ...]:
        """Those on record, which a region that is written may add to."""
        return filled_of(self.root)

    def sample_files(self) -> list[tuple[str, int]]:
        """Give the array's metadata file."""
        return [(os.fspath(self.root / ".zarray"), self._identity[1])] if self._identity else []

    @property
    def read_shape(self) -> Shape:
        """One chunk."""
        return tuple(max(1, min(c, n)) for c, n in zip(self.format.chunks, self.shape, strict=True))

    @property
    def default_chunks(self) -> Blocks:
        """A few whole chunks a block."""
        return _default_blocks(self.shape, self.format.chunks, self.dtype.itemsize)

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield one piece a chunk that the region touches; chunks without a file are fill.

        Raises
        ------
        ChunkReadError
            If a chunk is damaged.
        SourceChangedError
            At the end, if another array has taken this one's place.
        """
        fmt = self.format
        decoder = ChunkDecoder(fmt)
        buffer = bytearray(fmt.max_nbytes)
        fill = np.array(fmt.fill(), fmt.dtype)
        root = os.fspath(self.root)
        for index in iter_chunk_indices(region, fmt.chunks):
            cell = chunk_region(index, fmt.shape, fmt.chunks)
            shared = intersect(cell, region)
            if shared is None:
                continue
            path = fmt.chunk_path(root, index)
            data = read_file(path, buffer)
            inside = relative_to(shared, cell)
            if data is None:
                values = np.broadcast_to(fill, tuple(s.stop - s.start for s in inside))
            else:
                values = decoder.decode(data, path)[inside]
            yield relative_to(shared, region), values
        self.check()

    def check(self) -> None:
        """Refuse an array that is no longer the one that was opened.

        Raises
        ------
        SourceChangedError
            If it was replaced or removed.
        """
        check_identity(self.root, self._identity)


class ZarrSource(Source):
    """Any array that zarr can open, read through zarr: v3, sharded, filtered, remote.

    Of a shard, only the chunks that a region touches are read and decoded. What is
    ``growing`` has no metadata in its place yet by which it could be told from another.
    """

    has_own_threads = True
    #: The image that the array was found by, and which level of it this is.
    level: tuple[Multiscale, int] | None = None

    def __init__(
        self, root: AnyPath, array: zarr.Array[Any], token: str, *, growing: bool = False
    ) -> None:
        self.root = root
        self._growing = growing
        self.identity = None if growing else identity_of(root)
        self._array = array
        self.shape = array.shape
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.token = token

    def _look(self, given: VoxelSize | None = None) -> ImageInfo:
        if self._growing:
            return ImageInfo()
        return stored_info(self.root, self.shape, self.level, given)

    @property
    def filled(self) -> tuple[FilledPlane, ...]:
        """Those on record, which a region that is written may add to."""
        return filled_of(self.root)

    @property
    def read_shape(self) -> Shape:
        """One chunk."""
        return tuple(max(1, min(c, n)) for c, n in zip(self._array.chunks, self.shape, strict=True))

    @property
    def default_chunks(self) -> Blocks:
        """A few whole chunks, or whole shards, a block; of large shards, a part."""
        array = self._array
        return _default_blocks(self.shape, array.chunks, self.dtype.itemsize, array.shards)

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the region in one piece.

        Raises
        ------
        ChunkReadError
            If a chunk in it is damaged.
        SourceChangedError
            If another array has taken this one's place.
        """
        whole = tuple(slice(0, s.stop - s.start) for s in region)
        try:
            values = np.asarray(self._array[region])
        except ScoutIOError:
            raise
        except Exception as err:  # zarr gives on whatever its codecs and the system raise
            self.check()
            where = ", ".join(f"{s.start}:{s.stop}" for s in region)
            text = f"{type(err).__name__}: {err}"
            if isinstance(self.root, RemotePath):
                text = self.root.told(err)
            raise ChunkReadError(
                f"{self.root}: a chunk in [{where}] cannot be read ({text}). "
                "Its file is damaged or cannot be opened; verify finds which, where the array "
                "has a manifest."
            ) from err
        self.check()
        yield whole, values

    def check(self) -> None:
        """Refuse an array that is no longer the one that was opened.

        Raises
        ------
        SourceChangedError
            If it was replaced or removed.
        """
        if not self._growing:
            check_identity(self.root, self.identity)


def growing_source(root: RemotePath, document: dict[str, Any]) -> ZarrSource:
    """Give an array that is not finished, and whose metadata are elsewhere, as a source."""
    place = StorePath(store_of(root, read_only=True))
    return ZarrSource(root, zarr.Array.from_dict(place, document), "", growing=True)


def open_level(
    path: str | os.PathLike[str] | RemotePath, level: int = 0, *, nested: bool = True
) -> Source:
    """Describe a level of the image at a path, or the array that lies there, as a source.

    Raises
    ------
    ArgumentError
        If there is no such level.
    PathNotFoundError, LayoutError
        As for :func:`open_source`.
    """
    found, image = find_level(path, level)
    source = open_source(found, nested=nested)
    source.level = image
    return source


def open_source(
    path: str | os.PathLike[str] | RemotePath, *, nested: bool = True
) -> ChunkFileSource | ZarrSource:
    """Describe the array at a path as a source. Reads its metadata alone.

    Raises
    ------
    PathNotFoundError
        If there is no array; if there is a group, the message lists its arrays.
    LayoutError
        If it cannot be told how the chunks lie.
    """
    root = locate(path)
    array = open_zarr(root, nested=nested, mode="r")
    if isinstance(array, zarr.Group):
        names = sorted(name for name, _ in array.arrays())
        held = f"it holds the arrays {', '.join(names)}" if names else "it holds no array"
        raise PathNotFoundError(
            f"{root} is a Zarr group, expected an array; {held}. Give an array's path."
        )
    if isinstance(root, RemotePath):
        # A region that was written changes what is there, and not what the array is.
        source = ZarrSource(root, array, "")
        source.token = json.dumps([root.url, source.identity, note_states(root)])
        return source
    layout = detect_layout(root, nested=nested)
    fmt = None
    if layout.zarr_format == 2:
        fmt = ArrayFormat.from_metadata(layout.metadata, layout.separator)
    token = array_token(root)
    return ZarrSource(root, array, token) if fmt is None else ChunkFileSource(root, fmt, token)


def identity_of(root: AnyPath) -> tuple[Any, ...] | None:
    """Give what tells the array at a path from another one that takes its place."""
    if isinstance(root, RemotePath):
        # The manifest names the write, which the metadata may not tell from the next.
        # One of v2 needs two requests for all: this is asked once a block.
        node = (root / ".zarray").identity() or (root / "zarr.json").identity()
        return node and (node, (root / MANIFEST_NAME).identity())
    for name in (".zarray", "zarr.json"):
        with suppress(OSError):
            info = os.stat(root / name)
            return info.st_ino, info.st_size, info.st_mtime_ns
    return None


def check_identity(root: AnyPath, expected: tuple[Any, ...] | None) -> None:
    """Refuse an array that is no longer the one that was opened.

    Raises
    ------
    SourceChangedError
        If it was replaced or removed.
    """
    # An overwrite puts another array in this one's place: chunks of both
    # would make a whole that never was.
    if identity_of(root) != expected:
        raise SourceChangedError(
            f"{root} is no longer the array that was opened: it was replaced, resized or "
            "removed. Open it again to read what is there now."
        )


def array_token(root: Path) -> str:
    """Name the state of a stored array: its metadata file, and its directories' last changes.

    A chunk that is added or replaced by a rename changes its directory; one
    that is overwritten in place does not, and cannot be seen without reading.
    At most 4,096 directories are looked at.
    """
    newest, seen, queue = 0, 0, [os.fspath(root)]
    while queue and seen < 4096:
        here = queue.pop()
        seen += 1
        newest = max(newest, os.stat(here).st_mtime_ns)
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
                elif entry.name[:1].isdigit():
                    # Chunk files: no directory lies beside them.
                    break
    meta = root / (".zarray" if (root / ".zarray").exists() else "zarr.json")
    info = os.stat(meta)
    return json.dumps([os.fspath(root), info.st_size, info.st_mtime_ns, info.st_ino, newest, seen])
