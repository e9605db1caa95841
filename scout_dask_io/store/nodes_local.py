"""Arrays and groups on a disk: opened in the layout that lies there, made beside their place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import zarr

from scout_dask_io.core.messages import OVERWRITE, RESUME
from scout_dask_io.errors import LayoutError, PathNotFoundError, ScoutIOError, TargetExistsError
from scout_dask_io.files.disk import naming_errors
from scout_dask_io.store.codecs import as_asked
from scout_dask_io.store.layout import detect_layout
from scout_dask_io.store.legacy_store import LayoutStore, NestedDirectoryStore, NestedGroupStore
from scout_dask_io.store.metadata import Node, read_node
from scout_dask_io.store.staging import (
    begin_staging,
    check_destination,
    discard_staging,
    drop_staging,
    find_staging,
    publish,
    recover,
)

_Node = TypeVar("_Node")


def open_local(path: Path, nested: bool, mode: str) -> zarr.Array[Any] | zarr.Group:
    """Open the array or group at a path, as :func:`~scout_dask_io.store.create.open` says.

    Raises
    ------
    PathNotFoundError
        If there is none and ``mode`` makes none, or an unfinished one.
    TargetExistsError
        If ``mode`` would replace or adopt what is not Zarr.
    LayoutError
        If both layouts lie on disk, or the metadata are damaged.
    """
    if not os.path.lexists(path):
        # An overwrite that was cut between its two renames is undone first.
        recover(path)
    if path.exists() and not path.is_dir():
        raise LayoutError(
            f"{path} is a file, expected the directory of a Zarr array or group. "
            "imread reads a TIFF file."
        )
    if mode in ("a", "r", "r+"):
        node = read_node(path)
        if node is not None:
            return _open_node(path, node, nested, mode)
        _check_absent(path, mode)
    return make_local(
        path,
        _group_kind(nested),
        lambda store: zarr.create_group(store=store, zarr_format=2),
        overwrite=mode == "w",
    )


def _group_kind(nested: bool) -> type[LayoutStore]:
    return NestedGroupStore if nested else LayoutStore


def _open_node(path: Path, node: Node, nested: bool, mode: str) -> zarr.Array[Any] | zarr.Group:
    read_only = mode == "r"
    if node.kind == "array":
        return _open_array(path, nested, read_only=read_only)
    with _naming_errors(path):
        return zarr.open_group(
            _group_kind(nested)(path, read_only=read_only),
            mode="r" if read_only else "r+",
            zarr_format=node.zarr_format,
        )


def _open_array(path: Path, nested: bool, *, read_only: bool) -> zarr.Array[Any]:
    layout = detect_layout(path, nested=nested)
    kind = NestedDirectoryStore if layout.nested else LayoutStore
    with _naming_errors(path):
        return zarr.open_array(
            store=kind(path, read_only=read_only),
            mode="r" if read_only else "r+",
            zarr_format=layout.zarr_format,
        )


@contextmanager
def _naming_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except ScoutIOError:
        raise
    except OSError as err:
        raise LayoutError(f"{path} cannot be opened: {err.strerror or err}") from err


def open_alike(path: Path, settings: Mapping[str, Any], mode: str) -> zarr.Array[Any] | None:
    """Open an existing array of the same shape, chunks and dtype; ``None`` if nothing is there.

    Raises
    ------
    TargetExistsError
        If what is there is another.
    PathNotFoundError
        If nothing is there, and ``mode`` makes none.
    """
    node = read_node(path) if path.is_dir() else None
    if node is None:
        if mode != "a":
            _check_absent(path, mode)
        return None
    return as_asked(path, _open_node(path, node, True, mode), settings)


def make_local(
    path: Path,
    kind: type[LayoutStore],
    make: Callable[[Any], _Node],
    *,
    overwrite: bool,
) -> _Node:
    """Make a node beside its place and rename it into it.

    Raises
    ------
    TargetExistsError
        If there is something that is not to be replaced.
    WriteError
        If it cannot be made or renamed.
    """
    check_destination(path, overwrite=overwrite)
    if overwrite:
        discard_staging(path)
    staging = begin_staging(path)
    try:
        store = kind(staging.array)
        with naming_errors(path, "the array or group cannot be made"):
            node = make(store)
        publish(staging, overwrite=overwrite)
    except BaseException:
        drop_staging(staging)
        raise
    # The node was made at its first place, and has moved with its directory.
    store.root = path
    return node


def _check_absent(path: Path, mode: str) -> None:
    """Refuse a path without Zarr metadata, but for ``"a"`` where nothing is there at all."""
    staging = find_staging(path)
    if staging is not None:
        raise PathNotFoundError(
            f"{path}: an unfinished write lies in {staging.job}, and nothing is published yet. "
            "Repeat the write with "
            + RESUME
            + " to finish it, or "
            + OVERWRITE
            + " to start afresh."
        )
    empty = not path.exists() or not any(path.iterdir())
    if mode == "a" and empty:
        return
    if mode == "a":
        raise TargetExistsError(
            f"{path} holds files but no Zarr metadata, so no group is made there. Give the "
            "directory of an array or group, or a path that is free."
        )
    found = "the directory holds no Zarr metadata" if path.exists() else "there is nothing"
    raise PathNotFoundError(
        f"{path}: {found}, expected a Zarr array or group. Check the path; nothing was created."
    )
