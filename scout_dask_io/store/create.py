"""Create and open Zarr arrays: the seed's ``new_zarr``, ``new_zarr_like`` and ``open``.

A new array is made beside its place and renamed into it, so what stands at a
path is whole, and nothing is removed before every argument has been accepted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import zarr
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from scout_dask_io.core.fork import guard_forks
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.store.codecs import array_settings
from scout_dask_io.store.legacy_store import LayoutStore, NestedDirectoryStore
from scout_dask_io.store.nodes import make_node, open_alike, open_stored
from scout_dask_io.store.unfinished import NewArray

MODES = ("r", "r+", "a", "w", "w-", "x")


def new_zarr(
    path: str | os.PathLike[str] | None,
    shape: int | Sequence[int],
    chunks: int | bool | Sequence[int] | None,
    dtype: Any,
    in_memory: bool = False,
    *,
    storage_options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> zarr.Array[Any]:
    """Create a Zarr array and give it open for writing.

    Zarr v2 with nested chunk files and ``"dimension_separator": "/"``: what
    ``scout.io`` wrote, and what OME-Zarr 0.4 asks for. Elements that are not
    written are ``fill_value``. Missing parent directories are made. After a
    failure, what stood at ``path`` stands there still.

    Parameters
    ----------
    path : path-like or None
        A local directory, or a URL such as ``"s3://bucket/a.zarr"``. Not used with
        ``in_memory``.
    shape : int or sequence of int
        Extent per axis, in elements.
    chunks : int, sequence of int, bool or None
        Chunk extent per axis, in elements; -1 is the whole axis. ``None`` or
        ``True`` is ``(64, 64, 64)`` on the last axes, ``False`` one chunk.
    dtype : data-type
        Of the elements; its byte order is kept.
    in_memory : bool
        Keep the array in memory alone.
    storage_options : dict, optional
        What fsspec needs to reach a URL, e.g. ``{"anon": True}``.
    **kwargs
        As for ``zarr.open`` and ``zarr.create``: ``compressor`` (also
        ``"zstd"``, the default, ``"lz4"``, ``"none"``), ``fill_value`` (0),
        ``order``, ``filters``, ``attributes``, ``dimension_separator``,
        ``zarr_format=3`` with ``codecs`` or ``shards``, and so on.
        ``overwrite=True`` or ``mode="w"`` replaces the array or group at
        ``path``; ``mode="a"`` opens one that is alike.

    Returns
    -------
    zarr.Array

    Raises
    ------
    TargetExistsError
        If ``path`` holds anything and ``overwrite`` is not given; or if it holds
        more than Zarr, which is never removed. A ``FileExistsError``.
    ChunkError
        If ``chunks`` does not fit ``shape``.
    ArgumentError
        If another argument is not what the call accepts.

    Examples
    --------
    >>> z = new_zarr(None, (30, 510, 667), (16, 256, 256), "u2", in_memory=True)
    >>> z.shape, z.chunks, z.dtype.name
    ((30, 510, 667), (16, 256, 256), 'uint16')
    """
    guard_forks()
    mode = _check_mode(kwargs.pop("mode", None))
    overwrite = bool(kwargs.pop("overwrite", False)) or mode == "w"
    create, settings = array_settings(shape, chunks, dtype, kwargs)
    if in_memory:
        return create(store=MemoryStore(), **settings)
    target = locate(path, storage_options)
    if mode in ("a", "r", "r+") and not overwrite:
        existing = open_alike(target, settings, mode)
        if existing is not None:
            return existing
    # In memory first: zarr checks its arguments only as it creates.
    create(store=MemoryStore(), **settings)
    flat = settings.get("dimension_separator") == "."
    kind = LayoutStore if flat else NestedDirectoryStore
    return make_node(target, kind, lambda s: create(store=s, **settings), overwrite=overwrite)


def documents_of(new: NewArray) -> dict[str, bytes]:
    """Give the metadata files of an array that is to grow, by name."""
    return new.documents or metadata_documents(new.shape, new.chunks, new.dtype, new.settings)


def metadata_documents(
    shape: Any, chunks: Any, dtype: Any, settings: Mapping[str, Any]
) -> dict[str, bytes]:
    """Give the metadata files of a new array, by name; ``settings`` are those of ``new_zarr``."""
    empty = new_zarr(None, shape, chunks, dtype, in_memory=True, **settings)
    documents = empty.metadata.to_buffer_dict(default_buffer_prototype())
    return {name: content.to_bytes() for name, content in documents.items()}


def new_zarr_like(path: str | os.PathLike[str] | None, arr: Any, **kwargs: Any) -> zarr.Array[Any]:
    """Create a Zarr array with the shape, chunks and dtype of another array.

    Parameters
    ----------
    path : path-like or None
        As for :func:`new_zarr`.
    arr : array-like
        A Zarr array gives its chunks, a dask array its block size; anything
        else has the default, 64 along the last three axes.
    **kwargs
        As for :func:`new_zarr`; ``shape``, ``chunks`` and ``dtype`` may be given too.

    Returns
    -------
    zarr.Array

    Raises
    ------
    TargetExistsError, ChunkError, ArgumentError
        As :func:`new_zarr`.

    Examples
    --------
    >>> new_zarr_like(None, np.zeros((100, 80), "f4"), in_memory=True).chunks
    (64, 64)
    """
    if not hasattr(arr, "shape") or not hasattr(arr, "dtype"):
        raise ArgumentError(f"arr must be an array with a shape and a dtype, got {type(arr)}")
    chunks = getattr(arr, "chunksize", None) or getattr(arr, "chunks", None)
    if chunks is not None:
        # The blocks of an empty dask array have no extent; a chunk has at least 1.
        chunks = tuple(c or 1 for c in chunks)
    settings = {"shape": arr.shape, "chunks": chunks, "dtype": arr.dtype, **kwargs}
    return new_zarr(path, **settings)


def open(
    path: str | os.PathLike[str] | Location,
    nested: bool = True,
    mode: str = "a",
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> zarr.Array[Any] | zarr.Group:
    """Open the Zarr array or group at a path.

    The layout of an array's chunk files is what lies on disk, whatever the
    metadata or ``nested`` say: a legacy array reads right, and none reads as
    zeros because of its layout. Nothing is written to what is opened.

    Parameters
    ----------
    path : path-like
        A local directory, or a URL such as ``"s3://bucket/a.zarr"``: text that begins
        with the ``scheme://`` of a store that fsspec knows.
    nested : bool
        What to take an array for that has no chunk yet and says nothing, and
        how arrays created in a group are laid out.
    mode : {"a", "r", "r+", "w", "w-"}
        ``"r"`` reads only; ``"r+"`` reads and writes what exists; ``"a"`` does
        too, and makes an empty group where nothing exists; ``"w"`` puts an
        empty group in the place of an array or group; ``"w-"`` makes one and
        fails if there is anything.
    storage_options : dict, optional
        What fsspec needs to reach a URL, e.g. ``{"anon": True}``.

    Returns
    -------
    zarr.Array or zarr.Group

    Raises
    ------
    PathNotFoundError
        If there is no array or group and ``mode`` makes none; nothing is
        created. Also if an unfinished write lies there. A ``FileNotFoundError``.
    TargetExistsError
        If ``mode`` would replace or adopt something that is not Zarr.
    LayoutError
        If both layouts lie on disk, or the metadata are damaged.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> new_zarr(f"{folder}/a.zarr", (4, 6), (2, 3), "u2")[:] = 7
    >>> open(f"{folder}/a.zarr", mode="r")[0, 0].item()
    7
    """
    guard_forks()
    target = locate(path, storage_options)
    checked = _check_mode(mode) or "a"
    return open_stored(target, nested, checked)


def _check_mode(mode: Any) -> str | None:
    if mode is not None and mode not in MODES:
        raise ArgumentError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
    return cast("str | None", mode)
