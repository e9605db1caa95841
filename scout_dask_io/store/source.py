"""Stored Zarr arrays as sources: chunk files decoded straight into the region.

Whether a stored array is still the one that was opened, and a name for the state it is in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cache, cached_property, lru_cache, partial
from typing import Any, cast

import numpy as np
import zarr
from zarr.storage import StorePath

from scout_dask_io.core.blocks import default_blocks
from scout_dask_io.core.grid import (
    Blocks,
    Region,
    Shape,
    chunk_region,
    clipped_chunks,
    full_region,
    intersect,
    iter_chunk_indices,
    region_shape,
    relative_to,
)
from scout_dask_io.core.image_info import FilledPlane, ImageInfo
from scout_dask_io.core.ome_metadata import Multiscale
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.errors import ChunkReadError, LayoutError, PathNotFoundError, ScoutIOError
from scout_dask_io.files.location import Location, as_remote, locate
from scout_dask_io.files.requests import BATCH_NBYTES
from scout_dask_io.files.whole_files import Newest
from scout_dask_io.store.chunk_format import ChunkFormat
from scout_dask_io.store.chunk_v2 import ArrayFormat, crc32c
from scout_dask_io.store.chunk_v3 import ShardFormat
from scout_dask_io.store.collection import held_by
from scout_dask_io.store.decompression import bounded
from scout_dask_io.store.fingerprint import Fingerprint, LastLook
from scout_dask_io.store.image import find_level
from scout_dask_io.store.image_info import filled_of, stored_info
from scout_dask_io.store.layout import detect_layout
from scout_dask_io.store.manifest import (
    MANIFEST_NAME,
    UNKNOWN,
    manifest_data,
    parse_manifest,
    read_manifest,
)
from scout_dask_io.store.metadata import Node, attributes_file, read_node
from scout_dask_io.store.nodes import (
    UNKNOWN_CODEC,
    check_keys,
    missing_codec,
    open_node,
    open_with_zarr,
    store_of,
)
from scout_dask_io.store.shards import ShardIndex, iter_parts


class _StoredSource(Source):
    """What is said of a stored array however its chunks are read.

    An array that is being written has no fingerprint: its metadata are not in their place yet.
    """

    root: Location
    fingerprint: Fingerprint | None
    #: The image that the array was found by, and which level of it this is.
    level: tuple[Multiscale, int] | None = None
    #: The array as it was opened; it does not travel.
    node: Node | None = None

    def _look(self, given: VoxelSize | None = None) -> ImageInfo:
        node = self.node or (None if self.fingerprint is None else read_node(self.root))
        return ImageInfo() if node is None else stored_info(node, self.shape, self.level, given)

    def __getstate__(self) -> dict[str, Any]:
        stays = ("node", "_first_records")
        return {k: v for k, v in self.__dict__.items() if k not in stays}

    @property
    def filled(self) -> tuple[FilledPlane, ...]:
        """Those on record, which a region that is written may add to."""
        return filled_of(self.root)

    def check(self) -> None:
        """Refuse an array that is no longer the one that was opened.

        Raises
        ------
        SourceChangedError
            If it was replaced or removed.
        """
        if self.fingerprint is not None:
            self.fingerprint.check()

    def _records(self, *, anew: bool = False) -> np.ndarray | None:
        """Give the records of chunk files; ``None`` where nothing is on record.

        Those that came with the array as it was opened; else, or ``anew``, the state of the
        manifest is looked at, which is read once a process and write.
        """
        found = self.fingerprint
        if found is None or not found.written:
            return None
        if not anew and self.node is not None and self._is_vouched and not found.regions:
            return self._first_records
        state = self.root.file_state(MANIFEST_NAME)
        return _records_on_record(cast(Hashable, self.root), found.written, found.regions, state)

    @property
    def _is_vouched(self) -> bool:
        """Whether chunks are held against what is known of them before the array is looked at anew.

        In a store, and on a disk that takes as long to answer and has them on record.
        """
        on_record = self.fingerprint is not None and self.fingerprint.written != ""
        return not self.root.on_disk or (on_record and self.root.takes_long)

    @cached_property
    def _first_records(self) -> np.ndarray | None:
        data = None if self.node is None else manifest_data(self.node)
        try:
            return None if data is None else parse_manifest(data, MANIFEST_NAME).records
        except LayoutError:
            return None  # verify and info say that it is damaged

    def _stands_now(self, key: str, region: Region, chunks: Shape) -> bool:
        """Tell whether a chunk that is on record and was found without a file has one now.

        ``False`` where none is on record any more. Another writer may have put it meanwhile.

        Raises
        ------
        ChunkReadError
            If it is lost.
        SourceChangedError
            If another array has taken this one's place.
        """
        # What another writer changed since is read anew before anything is called lost.
        _records_on_record.cache_clear()
        nbytes = _size_of(self._records(anew=True), region, chunks)
        if not nbytes:
            return False
        self.check()
        if (self.root / key).is_file():
            return True
        raise ChunkReadError(
            f"{self.root / key}: the chunk is lost: there is none, and {MANIFEST_NAME} has "
            f"{nbytes:,} bytes on record for it. Restore the file, or write the array again; "
            "verify names all chunks that are lost. If other software emptied the chunk on "
            f"purpose, remove {MANIFEST_NAME} to go on without."
        )


def _record_of(records: np.ndarray | None, region: Region, chunks: Shape) -> tuple[int, int] | None:
    """Give size and CRC32C on record of the chunk file that a region lies in, if they are."""
    index = tuple(s.start // c for s, c in zip(region, chunks, strict=True))
    if records is None or len(index) != records.ndim:
        return None
    if any(i >= n for i, n in zip(index, records.shape, strict=True)):
        return None  # of before the array has grown
    nbytes, checksum = map(int, records[index].item())
    return None if nbytes == UNKNOWN["nbytes"] else (nbytes, checksum)


def _size_of(records: np.ndarray | None, region: Region, chunks: Shape) -> int:
    """Give the size on record of the chunk file that a region lies in; 0 where it has none."""
    found = _record_of(records, region, chunks)
    return 0 if found is None else found[0]


@lru_cache(8)
def _records_on_record(
    root: Hashable, written: str, regions: str, state: tuple[Any, ...] | None
) -> np.ndarray | None:
    """Give the records of an array's chunk files as its manifest has them; ``None`` without."""
    try:
        found = read_manifest(cast(Location, root))
    except LayoutError:
        return None  # verify and info say that it is damaged
    return None if found is None else found.records


class ChunkFileSource(_StoredSource):
    """A plain v2 array, read chunk file by chunk file.

    Parameters
    ----------
    root : Location
        Where the array lies.
    fmt : ChunkFormat
        From its metadata.
    fingerprint : Fingerprint or None
        Tells the array from one that takes its place.
    token : str
        Names the array's state.
    """

    def __init__(
        self, root: Location, fmt: ChunkFormat, fingerprint: Fingerprint | None, token: str
    ) -> None:
        self.root = root
        self.format = fmt
        self.fingerprint = fingerprint
        self.shape = fmt.shape
        self.dtype = fmt.dtype.newbyteorder("=")
        self.token = token
        self.ahead_nbytes = 0 if root.on_disk else BATCH_NBYTES
        # Whether chunks are known to lie where the metadata say: on a disk it was looked at, and
        # what this library wrote or is writing lies so.
        self._keyed = root.on_disk or fingerprint is None or bool(fingerprint.written)

    @property
    def asks_at_once(self) -> bool:
        """Of a store, or of a share: chunks are asked for at once, however few threads."""
        return self.root.takes_long

    def sample_files(self) -> list[tuple[str, int]]:
        """Give the array's metadata file."""
        return [] if self.fingerprint is None else self.fingerprint.sample_files()

    @property
    def read_shape(self) -> Shape:
        """One chunk."""
        return clipped_chunks(self.format.chunks, self.shape)

    @property
    def default_chunks(self) -> Blocks:
        """A few whole chunks a block."""
        return default_blocks(self.shape, self.format.chunks, self.dtype.itemsize)

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield one piece a chunk that the region touches; chunks without a file are fill.

        Raises
        ------
        ChunkReadError
            If a chunk is damaged, or lost while the manifest has it on record.
        LayoutError
            At the end, if no chunk was there, and others of the array lie by keys that its
            metadata do not state.
        SourceChangedError
            At the end, if another array has taken this one's place.
        """
        indices = iter_chunk_indices(region, self.format.chunks)
        for cell, values in self._iter_chunks(indices, lambda _: (region,), self.check):
            shared = intersect(cell, region)
            if shared is not None:
                yield relative_to(shared, region), values[relative_to(shared, cell)]

    def reads(
        self, regions: Sequence[Region], outs: Sequence[np.ndarray], n: int
    ) -> list[Callable[[], None]]:
        """Give the work of reading regions, in ``n`` parts: each chunk is read in one of them."""
        places: dict[Shape, list[int]] = {}
        for number, region in enumerate(regions):
            for index in iter_chunk_indices(region, self.format.chunks):
                places.setdefault(index, []).append(number)
        indices = sorted(places)
        n = max(1, min(n, len(indices)))
        look = LastLook(self.check, n).part_is_read

        def wanted(index: Shape) -> Iterable[Region]:
            return (regions[number] for number in places[index])

        def read(part: Sequence[Shape]) -> None:
            for cell, values in self._iter_chunks(part, wanted, look, in_order=False):
                index = tuple(s.start // c for s, c in zip(cell, self.format.chunks, strict=True))
                for number in places[index]:
                    shared = intersect(cell, regions[number])
                    if shared is not None:
                        where = relative_to(shared, regions[number])
                        outs[number][where] = values[relative_to(shared, cell)]

        parts = [indices[len(indices) * k // n : len(indices) * (k + 1) // n] for k in range(n)]
        return [partial(read, part) for part in parts if part]

    def _iter_chunks(
        self,
        indices: Iterable[Shape],
        wanted: Callable[[Shape], Iterable[Region]],
        look: Callable[[], None],
        *,
        in_order: bool = True,
    ) -> Iterator[Piece]:
        """Yield each chunk's region and its elements, good until the next.

        Those that no region holds which is ``wanted`` of a chunk may be anything.

        The array is looked at anew, by ``look``, once all files are read, unless the chunks
        themselves tell that they are its own.
        """
        fmt = self.format
        decoder = fmt.decoder()
        fill = np.broadcast_to(np.array(fmt.fill(), fmt.dtype), fmt.chunks)
        by_key = {fmt.chunk_key(index): index for index in indices}
        newest = Newest()
        records = cache(self._records)  # asked for once a region, and only where they are needed
        vouched = by_chunks = self._is_vouched
        then = None if by_chunks else look
        files = self.root.iter_files(by_key, fmt.max_nbytes, newest, in_order=in_order, then=then)
        reread = False
        keyed = self._keyed or not by_key
        for key, data in files:
            index = by_key[key]
            cell = chunk_region(index, fmt.shape, fmt.chunks)
            keyed = keyed or data is not None
            if data is None and _size_of(records(), cell, fmt.chunks):
                if self._stands_now(key, cell, fmt.chunks):
                    ((_, data),) = self.root.iter_files([key], fmt.max_nbytes)
                vouched, reread = False, True
            if isinstance(data, ChunkReadError):
                raise data
            vouched = vouched and self._is_own(data, records, cell, newest)
            if data is None:
                yield cell, fill
            else:
                part = _part_of(cell, wanted(index))
                yield cell, decoder.decode(data, f"{self.root}/{key}", part)
        if reread or (by_chunks and not vouched):
            self.check()
        if not keyed:
            # There may be none, or they lie where the metadata do not say.
            check_keys(self.node or open_node(self.root, reads=True))
        self._keyed = True

    def _is_own(
        self,
        data: Any,
        records: Callable[[], np.ndarray | None],
        region: Region,
        newest: Newest,
    ) -> bool:
        """Tell whether a chunk is this array's as surely as a second look at it would.

        By its record, or else by its age, with which an object comes from some stores.
        """
        if self.fingerprint is None:
            return True  # nothing takes its place while it grows
        if not self.fingerprint.written:
            return data is not None and self.fingerprint.stood_before(newest.ns)
        found = (0, 0) if data is None else (len(data), crc32c(data))
        return _record_of(records(), region, self.format.chunks) == found


def _part_of(cell: Region, regions: Iterable[Region]) -> Region | None:
    """Give the least part of a chunk that holds all that it shares with some regions, if any."""
    shared = [found for region in regions if (found := intersect(cell, region)) is not None]
    if not shared:
        return None
    around = (
        slice(min(s.start for s in axis), max(s.stop for s in axis))
        for axis in zip(*shared, strict=True)
    )
    return relative_to(tuple(around), cell)


class ZarrSource(_StoredSource):
    """Any array that zarr can open, read through zarr: v3, sharded, filtered, remote.

    Of a shard, only the chunks that a region touches are read and decoded. An array that is
    being written has no fingerprint: its metadata are not in their place yet.
    """

    has_own_threads = True

    def __init__(
        self,
        root: Location,
        array: zarr.Array[Any],
        fingerprint: Fingerprint | None,
        token: str,
        document: dict[str, Any] | None = None,
    ) -> None:
        self.root = root
        self.fingerprint = fingerprint
        self._array = array
        # On a disk zarr reads them as fast.
        self._shards: ShardIndex | None = None
        self.ahead_nbytes = 0 if root.on_disk else BATCH_NBYTES
        if not root.on_disk and array.shards is not None:
            self._shards = ShardIndex.of(document or {})
        self.shape = array.shape
        self.dtype = np.dtype(array.dtype).newbyteorder("=")
        self.token = token

    @property
    def read_shape(self) -> Shape:
        """One chunk."""
        return clipped_chunks(self._array.chunks, self.shape)

    @property
    def default_chunks(self) -> Blocks:
        """A few whole chunks, or whole shards, a block; of large shards, a part."""
        array = self._array
        return default_blocks(self.shape, array.chunks, self.dtype.itemsize, array.shards)

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the region in one piece.

        Raises
        ------
        ChunkReadError
            If a chunk in it is damaged, or lost while the manifest has it on record.
        SourceChangedError
            If another array has taken this one's place.
        """
        if self._shards is not None:
            yield from self._iter_shards(self._shards, region)
            return
        whole = full_region(region_shape(region))
        try:
            values = np.asarray(self._array[region])
        except ScoutIOError:
            raise
        except Exception as err:  # zarr gives on whatever its codecs and the system raise
            self.check()
            if isinstance(err, UNKNOWN_CODEC):
                raise ChunkReadError(missing_codec(self.root, err)) from err
            where = ", ".join(f"{s.start}:{s.stop}" for s in region)
            text = self.root.told(err)
            raise ChunkReadError(
                f"{self.root}: a chunk in [{where}] cannot be read ({text}). "
                "Its file is damaged or cannot be opened; verify finds which, where the array "
                "has a manifest."
            ) from err
        self.check()
        self._check_fill(region, values)
        yield whole, values

    def _iter_shards(self, shards: ShardIndex, region: Region) -> Iterator[Piece]:
        """Yield one piece a chunk that the region touches, of shards at a URL."""
        missing: list[Shape] = []
        for cell, values in iter_parts(as_remote(self.root), shards, region, missing):
            shared = intersect(cell, region)
            if shared is not None:
                yield relative_to(shared, region), values[relative_to(shared, cell)]
        self.check()
        records = self._records() if missing else None
        outer = shards.outer
        for index in missing:
            where = chunk_region(index, outer.shape, outer.chunks)
            if _size_of(records, where, outer.chunks):
                # It raises, but for one that another writer has put meanwhile.
                key = outer.chunk_key(index)
                if self._stands_now(key, where, outer.chunks):
                    raise ChunkReadError(
                        f"{self.root / key} was written while it was read: read it once more"
                    )

    def _check_fill(self, region: Region, values: np.ndarray) -> None:
        """Refuse fill that stands for chunks which the manifest knows and which are lost.

        Raises
        ------
        ChunkReadError
            If there are such.
        """
        # zarr does not tell one from the other. Only what is nothing but fill is looked for.
        array = self._array
        if self.fingerprint is None or not self.fingerprint.written or not values.size:
            return
        stored = array.shards or array.chunks
        fill = np.array(array.fill_value, self.dtype)
        records = cache(self._records)  # asked for once a region, and only where there is such fill
        for index in iter_chunk_indices(region, stored):
            shared = intersect(chunk_region(index, self.shape, stored), region)
            if shared is None:
                continue
            part = values[relative_to(shared, region)]
            first = part[(0,) * part.ndim]
            if _all_same(first, fill) and _all_same(part, fill):
                key = array.metadata.encode_chunk_key(index)
                lost = _size_of(records(), shared, stored) and not (self.root / key).is_file()
                if lost and self._stands_now(key, shared, stored):
                    values[relative_to(shared, region)] = self._array[shared]


def _all_same(values: Any, fill: np.ndarray) -> bool:
    """Tell whether values are all the fill value, which may be NaN."""
    return bool(np.all(values == fill) or (fill != fill and np.all(values != values)))


def _plain_v3(document: dict[str, Any]) -> ChunkFormat | None:
    """Give the format of a v3 array without shards, of which each chunk is one object."""
    try:
        found = ShardFormat.from_metadata(document)
    except LayoutError:
        return None  # zarr says what it is
    return found if found is not None and found.inner == found.chunks else None


def growing_source(root: Location, document: dict[str, Any]) -> ChunkFileSource | ZarrSource:
    """Give an array that is not finished, and whose metadata are elsewhere, as a source."""
    plain = ArrayFormat.from_metadata(document, "/")
    fmt = _plain_v3(document) if document["zarr_format"] == 3 else plain
    if fmt is not None:
        return ChunkFileSource(root, fmt, None, "")
    place = StorePath(store_of(root, read_only=True))
    array = bounded(zarr.Array.from_dict(place, document))
    return ZarrSource(root, array, None, "", document)


def open_level(
    path: str | os.PathLike[str] | Location, level: int = 0, *, nested: bool = True
) -> ChunkFileSource | ZarrSource:
    """Describe a level of the image at a path, or the array that lies there, as a source.

    Raises
    ------
    ArgumentError
        If there is no such level.
    PathNotFoundError, LayoutError
        As for :func:`open_source`.
    """
    return level_source(open_node(locate(path), reads=True), level, nested=nested)


def level_source(node: Node, level: int, *, nested: bool = True) -> ChunkFileSource | ZarrSource:
    """Describe a level of an image that was opened, or an array, as :func:`open_level` does."""
    found, image = find_level(node, level)
    source = source_of_node(found, nested=nested)
    if image is not None and len(image[0].axes) != len(source.shape):
        raise LayoutError(
            f"{node.location}: its metadata state the axes {', '.join(image[0].axes)}, and level "
            f"{level} has {len(source.shape)}, of shape {source.shape}. Correct the axes in the "
            f"multiscales metadata of {node.location / attributes_file(node)}, or read the level "
            f"by its own path, {found.location}."
        )
    source.level = image
    return source


def open_source(path: str | os.PathLike[str] | Location) -> ChunkFileSource | ZarrSource:
    """Describe the array at a path as a source. Reads its metadata alone.

    Raises
    ------
    PathNotFoundError
        If there is no array; if there is a group, the message lists its arrays.
    LayoutError
        If it cannot be told how the chunks lie.
    """
    return source_of_node(open_node(locate(path), reads=True))


def source_of_node(node: Node, *, nested: bool = True) -> ChunkFileSource | ZarrSource:
    """Describe an array that was opened as a source, as :func:`open_source` does."""
    root = node.location
    if node.kind == "group":
        raise PathNotFoundError(f"{root} is a Zarr group, expected an array; {held_by(node)}")
    layout = detect_layout(node, nested=nested)
    fmt: ChunkFormat | None = None
    if layout.zarr_format == 2:
        fmt = ArrayFormat.from_metadata(layout.metadata, layout.separator, root / ".zarray")
    elif not root.on_disk:
        fmt = _plain_v3(layout.metadata)
    found = Fingerprint.of(node)
    token = found.token()
    source: ChunkFileSource | ZarrSource
    if fmt is not None:
        source = ChunkFileSource(root, fmt, found, token)
    else:
        if not root.on_disk:
            check_keys(node)  # of what zarr reads, nobody sees that there is no chunk
        stored = cast("zarr.Array[Any]", open_with_zarr(node, nested=nested))
        if not isinstance(stored.dtype, np.dtype) or stored.dtype.kind in "OT":
            raise LayoutError(
                f"{root} holds text (strings of any length) or other objects, {stored.dtype}, "
                "expected numbers: they have no picture. Read it with zarr.open_array."
            )
        source = ZarrSource(root, stored, found, token, layout.metadata)
    source.node = node
    return source
