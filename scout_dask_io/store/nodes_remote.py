"""Arrays and groups in object stores: opened, and made, through zarr."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeVar

import zarr
from zarr.storage import FsspecStore

from scout_dask_io.core.messages import OVERWRITE, RESUME
from scout_dask_io.errors import ChunkReadError, LayoutError, PathNotFoundError
from scout_dask_io.files.location import RemotePath
from scout_dask_io.store.codecs import as_asked
from scout_dask_io.store.layout import OWN_PREFIX
from scout_dask_io.store.metadata import Node, read_node, separator_of
from scout_dask_io.store.remote_staging import MARKER_NAME, check_free, clear, find_unfinished

_Node = TypeVar("_Node")


class _NodeStore(FsspecStore):
    """zarr's store for a URL, in which the library's own objects are no members of a group."""

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a prefix; zarr warns of those that it does not know."""
        async for name in super().list_dir(prefix):
            if not name.startswith(OWN_PREFIX):
                yield name


def store_of(path: RemotePath, *, read_only: bool) -> FsspecStore:
    """Give zarr's store for a URL."""
    _ = path.fs  # for its errors
    options = {"use_listings_cache": False, **path.options}
    return _NodeStore.from_url(path.url, storage_options=options, read_only=read_only)


def check_whole(path: RemotePath) -> None:
    """Refuse an array whose writing was not finished.

    Raises
    ------
    PathNotFoundError
        If it was not.
    """
    if find_unfinished(path) is not None:
        raise PathNotFoundError(
            f"{path}: an unfinished write lies there, and nothing is published yet. Repeat the "
            "write with " + RESUME + " to finish it, or " + OVERWRITE + " to start afresh."
        )


def remote_node(path: RemotePath) -> Node | None:
    """Give the whole array or group at a URL, ``None`` where there is none.

    Raises
    ------
    PathNotFoundError
        If an unfinished write lies there.
    LayoutError
        If the metadata are damaged, or do not say how chunks are keyed that lie nested.
    """
    check_whole(path)
    node = read_node(path)
    if node is None:
        # A level of an image that is not whole has no metadata yet.
        for group in path.parents[:1]:
            with suppress(ChunkReadError):
                check_whole(group)
    elif node.kind == "array":
        _check_layout(path, node)
    return node


def _check_layout(path: RemotePath, node: Node) -> None:
    # zarr takes a v2 array for flat that does not say otherwise, finds no chunk, and gives zeros.
    if node.zarr_format == 3 or len(node.metadata["shape"]) < 2:
        return
    if separator_of(node.metadata) != "/" and any(
        c.is_folder and re.fullmatch("[0-9]+", c.name) for c in path.children()
    ):
        raise LayoutError(
            f"{path}: chunks are nested, and .zarray does not say so: other software reads zeros. "
            'Add "dimension_separator": "/" to it, or mend a local copy with repair.'
        )


def open_remote(path: RemotePath, mode: str) -> zarr.Array[Any] | zarr.Group:
    """Open the array or group at a URL, as :func:`~scout_dask_io.store.create.open` does on a disk.

    Raises
    ------
    PathNotFoundError
        If there is none and ``mode`` makes none, or an unfinished one.
    TargetExistsError
        If ``mode`` would replace or adopt what is not Zarr.
    """
    if mode in ("a", "r", "r+"):
        node = remote_node(path)
        if node is not None:
            return _open_node(path, node, mode)
        if mode != "a":
            raise _absent(path, mode)
    return make_remote(
        path, lambda store: zarr.create_group(store=store, zarr_format=2), overwrite=mode == "w"
    )


def _open_node(path: RemotePath, node: Node, mode: str) -> zarr.Array[Any] | zarr.Group:
    read_only = mode == "r"
    kind: Any = zarr.open_array if node.kind == "array" else zarr.open_group
    opened: zarr.Array[Any] | zarr.Group = kind(
        store=store_of(path, read_only=read_only),
        mode="r" if read_only else "r+",
        zarr_format=node.zarr_format,
    )
    return opened


def _absent(path: RemotePath, mode: str) -> PathNotFoundError:
    return PathNotFoundError(
        f"{path}: there is no Zarr array or group. Check the URL; mode {mode!r} creates nothing."
    )


def make_remote(path: RemotePath, make: Callable[[Any], _Node], *, overwrite: bool) -> _Node:
    """Make a node at a URL, behind a marker until it is there.

    Raises
    ------
    TargetExistsError
        If there is something that is not to be replaced.
    WriteError
        If the store does not take it.
    """
    check_free(path, overwrite=overwrite)
    marker = path / MARKER_NAME
    marker.write(json.dumps({"job": uuid.uuid4().hex}).encode(), new=not overwrite)
    if overwrite:
        clear(path, keep_marker=True)
    with path.writing("the array or group cannot be made"):
        node = make(store_of(path, read_only=False))
    marker.remove()
    return node


def open_alike(path: RemotePath, settings: dict[str, Any], mode: str) -> zarr.Array[Any] | None:
    """Open an existing array of the same shape, chunks and dtype; ``None`` if nothing is there.

    Raises
    ------
    TargetExistsError
        If what is there is another.
    PathNotFoundError
        If nothing is there, and ``mode`` makes none.
    """
    node = remote_node(path)
    if node is None:
        if mode != "a":
            raise _absent(path, mode)
        return None
    return as_asked(path, _open_node(path, node, mode), settings)
