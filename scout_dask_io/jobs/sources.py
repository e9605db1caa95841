"""What lies at a path, and a lazy array of it: how the jobs open whatever they are given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import dask.array as da

from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.execute import check_nb_workers
from scout_dask_io.lazy import source_of
from scout_dask_io.readers import (
    channel_names,
    imread,
    imread_channels,
    imread_folder,
    read_zarr,
)
from scout_dask_io.store.create import local_path
from scout_dask_io.store.metadata import NODE_FILES, read_attributes, read_node
from scout_dask_io.store.staging import find_staging
from scout_dask_io.tiff.info import describe_path
from scout_dask_io.tiff.order import ORDERS
from scout_dask_io.tiff.source import TiffSource

#: ``"tiff"`` is one file, ``"folder"`` one of planes, ``"channels"`` one with a
#: folder of planes a channel, ``"zarr"`` an array or a group.
Kind: TypeAlias = Literal["tiff", "folder", "channels", "zarr"]

__all__ = ["Kind", "Opened", "kind_of", "open_any"]

_TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Opened:
    """A path, opened.

    Attributes
    ----------
    path : str
        Absolute.
    kind : str
        ``"tiff"``, ``"folder"``, ``"channels"`` or ``"zarr"``.
    array : dask.array.Array
        Lazy, straight from the reader.
    channels : tuple of str or None
        Names along the first axis, where there are any.
    voxel_size_um : tuple of float or None
        ``(z, y, x)`` in micrometres, where all three are stated.
    """

    path: str
    kind: Kind
    array: da.Array
    channels: tuple[str, ...] | None
    voxel_size_um: tuple[float, float, float] | None


def open_any(
    path: str | os.PathLike[str], nb_workers: int | None = None, *, order: str = "alphabetical"
) -> Opened:
    """Open a TIFF file, a folder of planes or of channels, or a Zarr array, whichever it is.

    Reads headers and metadata, no pixels.

    Parameters
    ----------
    path : path-like
        What to open.
    nb_workers : int, optional
        How many threads of a process read the files at once.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.

    Raises
    ------
    PathNotFoundError
        If there is nothing at the path that can be read.
    ArgumentError
        If an argument is not one of the above.
    TiffReadError, ShapeMismatchError, LayoutError
        If what is there is damaged, or does not fit together.
    """
    check_nb_workers(nb_workers)
    if order not in ORDERS:
        raise ArgumentError(f"order must be one of {', '.join(map(repr, ORDERS))}, got {order!r}")
    found = local_path(path)
    kind = kind_of(found)
    channels: Sequence[str] | None = None
    if kind == "zarr":
        array = read_zarr(found)
        node = read_node(found)
        attributes = {} if node is None else read_attributes(found, node)
        channels = _named(attributes.get("channels"), array)
        voxel = _extents(attributes.get("voxel_size_um"))
    elif kind == "tiff":
        array = imread(found)
        voxel = _extents(_voxel_size(array))
    elif kind == "folder":
        array = imread_folder(found, nb_workers, order=order)
        voxel = _extents(_voxel_size(array))
    else:
        array = imread_channels(found, nb_workers, order=order)
        channels = channel_names(found)
        voxel = _extents(_voxel_size(array))
    return Opened(str(found), kind, array, tuple(channels) if channels else None, voxel)


def kind_of(path: Path) -> Kind:
    """Tell what lies at a path, by names alone.

    Raises
    ------
    PathNotFoundError
        If there is nothing, or a folder that holds neither Zarr nor TIFF.
    """
    if not path.exists():
        staging = find_staging(path)
        hint = (
            f"; an unfinished write of it lies in {staging.job}: repeat the write with "
            "resume=True to finish it"
            if staging is not None
            else ""
        )
        raise PathNotFoundError(f"there is no {path}{hint}")
    if not path.is_dir():
        return "tiff"
    if any(os.path.lexists(path / name) for name in NODE_FILES):
        return "zarr"
    folders = _scan(path)
    if folders is None:
        return "folder"
    if any(_scan(folder) is None for folder in folders):
        return "channels"
    raise PathNotFoundError(
        f"{path} holds no Zarr array (.zarray or zarr.json), no .tif or .tiff file, and no folder "
        "with any. Give a TIFF file, a folder of planes, a folder of such folders, or a Zarr array."
    )


def _scan(path: Path) -> list[Path] | None:
    """Give the folders in a folder, or ``None`` once a TIFF file is seen; hidden ones not."""
    folders = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.append(Path(entry.path))
                elif entry.name.lower().endswith(_TIFF_SUFFIXES):
                    return None
    except PermissionError as err:
        raise PathNotFoundError(f"{path} cannot be listed: {err.strerror}") from err
    return folders


def _voxel_size(array: da.Array) -> tuple[float | None, float | None, float | None] | None:
    """Give the ``(z, y, x)`` extent of a voxel in micrometres that the first file states."""
    source = source_of(array)
    if not isinstance(source, TiffSource):
        return None
    found = describe_path(source.files[0].path).voxel_size
    return None if found is None else found.micrometres


def _extents(found: Any) -> tuple[float, float, float] | None:
    try:
        z, y, x = (float(v) for v in found)
    except (TypeError, ValueError):
        return None
    return (z, y, x) if min(z, y, x) > 0 else None


def _named(found: Any, array: da.Array) -> list[str] | None:
    """Give channel names where they are as many as the first axis is long."""
    if not isinstance(found, list) or array.ndim < 3 or len(found) != array.shape[0]:
        return None
    return [str(name) for name in found]
