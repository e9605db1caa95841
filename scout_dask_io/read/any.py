"""What lies at a path, and a lazy array of it: how the jobs open whatever they are given."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import dask.array as da

from scout_dask_io.core.source import FilledPlane
from scout_dask_io.core.voxel_size import VoxelSize, as_voxel_size
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.location import AnyPath, RemotePath, locate
from scout_dask_io.files.urls import is_url
from scout_dask_io.read.channels import channel_names, imread_channels
from scout_dask_io.read.missing_planes import filled_in
from scout_dask_io.read.tiff import imread, imread_folder
from scout_dask_io.read.voxel_size import voxel_size as stated_voxel_size
from scout_dask_io.read.zarr import read_zarr
from scout_dask_io.run.lazy import source_of
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.store.image import read_image
from scout_dask_io.store.metadata import NODE_FILES, read_attributes, read_node
from scout_dask_io.store.nodes_remote import remote_node
from scout_dask_io.store.staging import find_staging
from scout_dask_io.tiff.folder import ORDERS, is_tiff
from scout_dask_io.tiff.numbering import check_numbering
from scout_dask_io.tiff.source import TiffSource

#: ``"tiff"`` is one file, ``"folder"`` one of planes, ``"channels"`` one with a
#: folder of planes a channel, ``"zarr"`` an array or a group.
Kind: TypeAlias = Literal["tiff", "folder", "channels", "zarr"]

__all__ = ["Kind", "Opened", "kind_of", "locate_all", "open_any", "warn_of_numbering"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A path, opened.

    Attributes
    ----------
    place : Path or RemotePath
        Absolute.
    kind : str
        ``"tiff"``, ``"folder"``, ``"channels"`` or ``"zarr"``.
    array : dask.array.Array
        Lazy, straight from the reader.
    channels : tuple of str or None
        Names along the first axis, where there are any.
    voxel_size : VoxelSize or None
        As it is stated, in whole or in part.
    axes : str
        A letter an axis, where Zarr metadata state them; else empty.
    """

    place: AnyPath
    kind: Kind
    array: da.Array
    channels: tuple[str, ...] | None
    voxel_size: VoxelSize | None
    axes: str = ""

    @property
    def path(self) -> str:
        """What to call it."""
        return str(self.place)

    @property
    def filled(self) -> tuple[FilledPlane, ...]:
        """Planes that hold the fill value because their files could not be read."""
        return filled_in(self.array)


def open_any(
    path: str | os.PathLike[str] | RemotePath,
    nb_workers: int | None = None,
    *,
    order: str = "alphabetical",
    missing: str = "error",
    voxel_size: Any = None,
) -> Opened:
    """Open a TIFF file, a folder of planes or of channels, or Zarr, whichever it is.

    Of an OME-Zarr image that is level 0, with what the image says of it.

    Reads headers and metadata, no pixels.

    Parameters
    ----------
    path : path-like
        What to open; URLs as :func:`locate_all` gives them.
    nb_workers : int, optional
        How many threads of a process read the files at once.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    missing : {"error", "fill"}
        What to do about planes in a folder that cannot be read.
    voxel_size : VoxelSize or sequence of float, optional
        Counts instead of whatever is stated.

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
    given = as_voxel_size(voxel_size)
    if order not in ORDERS:
        raise ArgumentError(f"order must be one of {', '.join(map(repr, ORDERS))}, got {order!r}")
    found = locate(path)
    kind = kind_of(found)
    channels: Sequence[str] | None = None
    axes = ""
    if kind == "zarr":
        array: da.Array = read_zarr(found)
        channels, axes = _stated(found, array)
    elif kind == "tiff":
        array = imread(found)
    elif kind == "folder":
        array = imread_folder(found, nb_workers, order=order, missing=missing)
    else:
        array = imread_channels(found, nb_workers, order=order, missing=missing)
        channels = channel_names(found)
    size = given or stated_voxel_size(array)
    return Opened(found, kind, array, tuple(channels) if channels else None, size, axes)


def _stated(path: AnyPath, array: da.Array) -> tuple[list[str] | None, str]:
    """Give the channel names and the letters of the axes that Zarr metadata state."""
    image = read_image(path)
    if image is not None:
        named = "c" in image.axes and len(image.channels) == array.shape[image.axes.index("c")]
        return list(image.channels) if named else None, image.axes
    node = read_node(path)
    if node is None:
        return None, ""
    attributes = read_attributes(path, node)
    letters = node.metadata.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS") or ()
    fits = len(letters) == array.ndim and all(isinstance(n, str) and len(n) == 1 for n in letters)
    return _named(attributes.get("channels"), array), "".join(letters).lower() if fits else ""


def warn_of_numbering(opened: Opened) -> None:
    """Warn of numbers that are missing in the names of planes, and of such that come twice.

    Only the names are looked at. What is read is what is there: no plane is put in a gap.
    """
    source = source_of(opened.array)
    if not isinstance(source, TiffSource) or not source.file_ndim:
        return
    folders: dict[str, list[str]] = defaultdict(list)
    for path in [*(f.path for f in source.files), *(f.file for f in source.filled)]:
        folder, name = os.path.split(path)
        folders[folder].append(name)
    for folder, names in folders.items():
        for what, found in zip(
            ("numbers that are missing", "files of the same number"),
            check_numbering(names),
            strict=True,
        ):
            if found:
                more = f" and {len(found) - 10:,} more" if len(found) > 10 else ""
                warnings.warn(
                    f"{folder!r} has {what}: {', '.join(found[:10])}{more}. Its planes are stacked "
                    "as they are, one after the other.",
                    UserWarning,
                    stacklevel=4,
                )


def kind_of(path: AnyPath) -> Kind:
    """Tell what lies at a path, by names alone.

    Raises
    ------
    PathNotFoundError
        If there is nothing, or a folder that holds neither Zarr nor TIFF.
    """
    if isinstance(path, RemotePath):
        return _kind_of_url(path)
    if not path.exists():
        staging = find_staging(path)
        hint = (
            f"; an unfinished write of it lies in {staging.job}: repeat the write with "
            "resume=True to finish it"
            if staging is not None
            else ""
        )
        raise PathNotFoundError(f"there is nothing at {path}{hint}")
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


def _kind_of_url(path: RemotePath) -> Kind:
    if is_tiff(path.name) and path.is_file():
        return "tiff"
    if remote_node(path) is not None:
        return "zarr"
    folders = _list(path)
    if folders is None:
        return "folder"
    if any(_list(folder) is None for folder in folders):
        return "channels"
    if path.is_file():
        return "tiff"
    raise PathNotFoundError(
        f"{path} holds no Zarr array (.zarray or zarr.json), no .tif or .tiff file, and no folder "
        "with any. Check the URL; it may be of a TIFF file, a folder of planes, a folder of such "
        "folders, or a Zarr array."
    )


def locate_all(*paths: Any) -> list[AnyPath]:
    """Give several paths, the last argument being the ``storage_options`` for the URLs among them.

    Raises
    ------
    ArgumentError
        If there are options and no URL.
    """
    *given, options = paths
    if options and not any(is_url(path) for path in given):
        return [locate(path, options) for path in given]
    return [locate(path, options if is_url(path) else None) for path in given]


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
                elif is_tiff(entry.name):
                    return None
    except PermissionError as err:
        raise PathNotFoundError(f"{path} cannot be listed: {err.strerror}") from err
    return folders


def _list(path: RemotePath) -> list[RemotePath] | None:
    """Give the folders in a folder of a store, or ``None`` if it has a TIFF file; hidden ones not.

    The empty object that stands for a folder in some stores is no file.
    """
    shown = [child for child in path.children() if not child.name.startswith(".")]
    if any(is_tiff(child.name) and not child.is_folder for child in shown):
        return None
    return [child for child in shown if child.is_folder]


def _named(found: Any, array: da.Array) -> list[str] | None:
    """Give channel names where they are as many as the first axis is long."""
    if not isinstance(found, list) or array.ndim < 3 or len(found) != array.shape[0]:
        return None
    return [str(name) for name in found]
