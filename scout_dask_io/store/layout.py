"""What lies on disk at a Zarr path: which node, which format, which chunk layout.

*Nested* chunk files lie in directories (``0/1/2``), *flat* ones carry all their
indices in the name (``0.1.2``). Zarr v2 metadata need not say which, and software
that guesses wrong reads zeros, so the files themselves are asked.

How much of an array is on disk: chunk files counted, bytes summed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scout_dask_io.core.formatting import format_found
from scout_dask_io.core.grid import Shape, chunk_counts
from scout_dask_io.errors import ChunkReadError, LayoutError, PathNotFoundError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location
from scout_dask_io.store.metadata import (
    METADATA_FILES,
    NODE_FILES,
    Node,
    Separator,
    is_litter,
    read_node,
    separator_of,
)

#: Names of the library's own files and directories begin so.
OWN_PREFIX = ".scout"

#: Of a number in the key of a chunk.
INDEX = "(?:0|[1-9][0-9]*)"
_INDEX_NAME = re.compile(INDEX)
# zarr-python writes a file beside its place, and leaves it there when it is killed.
_PARTIAL = re.compile(r".+\.[0-9a-f]{32}\.partial")


@dataclass(frozen=True)
class ArrayLayout:
    """How the chunks of an array are keyed.

    Attributes
    ----------
    zarr_format : int
        2 or 3.
    separator : str
        ``"/"`` where chunk files are nested, ``"."`` where they are flat.
    decided_by : str
        ``"disk"``: chunk files lie there; ``"metadata"``: none does, and the
        metadata say it; ``"argument"``: neither does.
    metadata : dict
        The document of ``.zarray`` or ``zarr.json``, as it is on disk.
    """

    zarr_format: Literal[2, 3]
    separator: Separator
    decided_by: Literal["disk", "metadata", "argument"]
    metadata: dict[str, Any]

    @property
    def nested(self) -> bool:
        """Whether chunk files lie in directories."""
        return self.separator == "/"


def detect_layout(node: Node, *, nested: bool = True) -> ArrayLayout:
    """Tell how the chunks of an array are keyed.

    What lies on disk decides, over the metadata and over ``nested``; without a
    chunk file the metadata decide, and where they are silent too, ``nested``.
    Chunks of one axis are keyed alike either way. Lists one directory of a v2 array;
    one in a store only where the metadata do not say that chunks are nested.

    Parameters
    ----------
    node : Node
        Of an array.
    nested : bool
        What to take a v2 array for that has no chunk yet and no
        ``dimension_separator``.

    Raises
    ------
    LayoutError
        If both layouts lie there.
    """
    metadata = node.metadata
    if node.zarr_format == 3:
        # v3 metadata always say how chunks are keyed, and no software guesses.
        return ArrayLayout(3, separator_of(metadata) or "/", "metadata", metadata)
    if node.location.on_disk:
        folder = LocalLocation(os.fspath(node.location))  # type: ignore[call-overload]
        return ArrayLayout(2, *choose_separator(folder, metadata, nested=nested), metadata)
    return ArrayLayout(2, separator_of(metadata) or ".", "metadata", metadata)


def array_at(location: Location) -> Node:
    """Give the array at a location.

    Raises
    ------
    PathNotFoundError
        If there is none.
    LayoutError
        If v2 and v3 metadata lie side by side, or the metadata are damaged.
    """
    return checked_array(location, read_node(location))


def checked_array(location: Location, node: Node | None) -> Node:
    """Give what was found at a location, refusing what is no array.

    Raises
    ------
    PathNotFoundError
        If it is a group, or there is nothing.
    """
    if node is None or node.kind != "array":
        found = "a group" if node else "no Zarr metadata" if location.exists() else "nothing"
        raise PathNotFoundError(
            f"{location}: expected a Zarr array, found {found}. Give the directory that holds "
            "its .zarray or zarr.json."
        )
    return node


def choose_separator(
    path: Path, metadata: dict[str, Any], *, nested: bool
) -> tuple[Separator, Literal["disk", "metadata", "argument"]]:
    """Give the separator of the v2 array at a path, and what decided it."""
    if (found := _separator_on_disk(path, len(metadata["shape"]))) is not None:
        return found, "disk"
    if (stated := separator_of(metadata)) is not None:
        return stated, "metadata"
    return "/" if nested else ".", "argument"


def _separator_on_disk(path: Path, ndim: int) -> Separator | None:
    """Tell from the chunk files under ``path`` how they are keyed; ``None`` if there is none.

    Also ``None`` below two axes, where both keys are the same. Lists the
    directory itself, and of nested chunks only down to the first file.

    Raises
    ------
    LayoutError
        If flat and nested chunk files lie side by side.
    """
    if ndim < 2:
        return None
    flat_name = re.compile(rf"{INDEX}(?:\.{INDEX}){{{ndim - 1}}}")
    flat = nested = None
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                name = entry.name
                if flat is None and flat_name.fullmatch(name) and entry.is_file():
                    flat = name
                elif nested is None and _INDEX_NAME.fullmatch(name) and entry.is_dir():
                    # An empty directory, left behind by deleted chunks, is no sign.
                    nested = _first_chunk(entry.path, ndim - 1)
                if flat is not None and nested is not None:
                    below = os.path.relpath(nested, path).replace(os.sep, "/")
                    raise both_layouts(path, flat, below)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return "." if flat is not None else "/" if nested is not None else None


def both_layouts(where: object, flat: str, nested: str) -> LayoutError:
    """Give the error of an array that holds flat and nested chunks, of each the name of one."""
    return LayoutError(
        f"{where}: holds flat chunk files ({flat!r}) and nested ones ({nested!r}), so either half "
        "would read as zeros. Some software wrote to the array in the wrong layout. Find out "
        "which files are the data (their dates help), and move the others away."
    )


def _first_chunk(path: str, depth: int) -> str | None:
    """Give the first chunk file ``depth`` levels of index names below a directory."""
    with os.scandir(path) as entries:
        for entry in entries:
            if not _INDEX_NAME.fullmatch(entry.name):
                continue
            if depth == 1:
                if entry.is_file():
                    return entry.path
            elif entry.is_dir():
                found = _first_chunk(entry.path, depth - 1)
                if found is not None:
                    return found
    return None


def find_stranger(path: str | os.PathLike[str]) -> Path | None:
    """Give the first thing found under ``path`` that is no part of a Zarr array or group.

    ``None`` of a directory that removing loses nothing but Zarr of: one that holds array or group
    metadata, chunk keys, names that begin with ``.scout`` and what file managers leave, and an
    empty one. Any other file, and a symbolic link, is a stranger at any depth; ``path`` itself is
    one if it is a link or no directory. Lists every directory below, which is less work than the
    removal that follows; never goes through a link.
    """
    path = LocalLocation(path)
    if path.is_symlink() or not path.is_dir():
        return path
    try:
        node = read_node(path)
    except LayoutError:
        # Nobody can say what the other files here belong to.
        return next(p for p in (path / n for n in NODE_FILES) if os.path.lexists(p))
    ndim = None
    if node is not None and node.kind == "array":
        ndim = len(node.metadata["shape"])
    with os.scandir(path) as entries:
        for entry in entries:
            stranger = _stranger(entry, node, ndim)
            if stranger is not None:
                return stranger
    return None


def stale_files(path: Path) -> Iterator[Path]:
    """Yield temporary files and directories of killed writers in an array or group."""
    with os.scandir(path) as scanned:
        entries = sorted(scanned, key=lambda e: e.name)
    for entry in entries:
        name, is_dir = entry.name, entry.is_dir(follow_symlinks=False)
        ours = name.startswith(OWN_PREFIX) and (
            name.endswith(".tmp") or "-region-" in name or "-dead-" in name
        )
        if ours or (not is_dir and _PARTIAL.fullmatch(name)):
            yield Path(entry.path)
        elif is_dir and not name.startswith("."):
            yield from stale_files(Path(entry.path))


def _stranger(entry: os.DirEntry[str], node: Node | None, ndim: int | None) -> Path | None:
    """Give what is foreign about one entry of a node's directory, or ``None``."""
    here = Path(entry.path)
    if entry.is_symlink():
        return here
    if entry.name.startswith(OWN_PREFIX):
        return None
    if entry.is_file(follow_symlinks=False):
        if node is not None and is_litter(entry.name):
            return None
        known = entry.name in METADATA_FILES or _PARTIAL.fullmatch(entry.name)
        chunk = node is not None and ndim is not None and _is_flat_key(entry.name, ndim, node)
        return None if (known and node is not None) or chunk else here
    if node is None or not entry.is_dir(follow_symlinks=False):
        return here
    if node.kind == "group":
        # A child is a node of its own; a directory without metadata is not ours.
        try:
            is_node = read_node(LocalLocation(here)) is not None
        except LayoutError:
            return here
        return find_stranger(here) if is_node else here
    if entry.name == "c" and node.zarr_format == 3:
        return _foreign_in_chunks(entry.path, ndim or 0)
    if ndim is not None and ndim > 1 and _INDEX_NAME.fullmatch(entry.name):
        return _foreign_in_chunks(entry.path, ndim - 1)
    return here


def _is_flat_key(name: str, ndim: int, node: Node) -> bool:
    # v2 keys "0.1.2", v3 keys "c.0.1.2" or as v2; without axes "0" and "c".
    if ndim == 0:
        return name == "0" or (name == "c" and node.zarr_format == 3)
    parts = (name.removeprefix("c.") if node.zarr_format == 3 else name).split(".")
    return len(parts) == ndim and all(_INDEX_NAME.fullmatch(p) for p in parts)


def _foreign_in_chunks(path: str, depth: int) -> Path | None:
    """Give what is neither an index directory nor, ``depth`` levels down, a chunk file."""
    with os.scandir(path) as entries:
        for entry in entries:
            if _INDEX_NAME.fullmatch(entry.name):
                if depth == 1 and entry.is_file(follow_symlinks=False):
                    continue
                if depth > 1 and entry.is_dir(follow_symlinks=False):
                    foreign = _foreign_in_chunks(entry.path, depth - 1)
                    if foreign is None:
                        continue
                    return foreign
            elif entry.is_file(follow_symlinks=False) and (
                _PARTIAL.fullmatch(entry.name) or is_litter(entry.name)
            ):
                continue
            return Path(entry.path)
    return None


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


def chunk_grid(node: Node) -> tuple[Shape, Shape]:
    """Give the shape of an array, and the extent of what one chunk file holds.

    Raises
    ------
    LayoutError
        If the chunks are not on a regular grid.
    """
    metadata = node.metadata
    shape = tuple(metadata["shape"])
    if node.zarr_format == 2:
        return shape, tuple(metadata["chunks"])
    grid = metadata["chunk_grid"]
    chunks = grid.get("configuration", {}).get("chunk_shape") if isinstance(grid, dict) else None
    if (
        not isinstance(chunks, list)
        or len(chunks) != len(shape)
        or not all(isinstance(c, int) and c > 0 for c in chunks)
    ):
        raise LayoutError(
            f"{node.location / 'zarr.json'}: the chunk_grid {format_found(grid)} is not a regular "
            f"one of {len(shape)} axes"
        )
    return shape, tuple(int(c) for c in chunks)


def measure_array(node: Node, layout: ArrayLayout) -> ArrayUsage:
    """Count an array's chunk files and sum the sizes of its files. Lists all that lies below it.

    A file counts as a chunk if its key is one of the array's; leftovers and
    chunks outside the shape do not. Links are not followed. A store that lets files be read and
    not be listed has none, not even those of the metadata.
    """
    shape, chunks = chunk_grid(node)
    counts = chunk_counts(shape, chunks)
    head: tuple[str, ...] = ()
    if layout.zarr_format == 3 and layout.metadata["chunk_key_encoding"]["name"] == "default":
        head = ("c",)
    present = files = stored = 0
    try:
        listed = node.files
    except ChunkReadError as err:
        if not isinstance(err.__cause__, PermissionError):
            raise
        listed = []
    for name, nbytes in listed:
        files += 1
        stored += nbytes
        present += _is_chunk(tuple(name.split("/")), head, layout.separator, counts)
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
