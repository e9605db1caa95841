"""What lies at a path, and a lazy array of it: how the jobs open whatever they are given.

Sources of any axes and channels as OME-Zarr has them, in the order ``(t, c, z, y, x)``.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import dask.array as da

from scout_dask_io.core.grid import full_region
from scout_dask_io.core.image_info import AXES, FilledPlane, ImageInfo, axes_of, named_channels
from scout_dask_io.core.messages import RESUME, warn
from scout_dask_io.core.source import ViewSource
from scout_dask_io.core.voxel_size import as_voxel_size
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.location import AnyPath, RemotePath, is_url, locate
from scout_dask_io.read.channels import imread_channels
from scout_dask_io.read.missing_planes import filled_in
from scout_dask_io.read.tiff import imread, imread_folder
from scout_dask_io.read.zarr import read_zarr
from scout_dask_io.run.lazy import lazy_array, source_of
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.store.metadata import NODE_FILES
from scout_dask_io.store.nodes_remote import remote_node
from scout_dask_io.store.staging import find_staging
from scout_dask_io.tiff.folder import ORDERS, check_numbering, is_tiff
from scout_dask_io.tiff.source import TiffSource

#: ``"tiff"`` is one file, ``"folder"`` one of planes, ``"channels"`` one with a
#: folder of planes a channel, ``"zarr"`` an array or a group.
Kind: TypeAlias = Literal["tiff", "folder", "channels", "zarr"]


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
    info : ImageInfo
        What the files state of it.
    """

    place: AnyPath
    kind: Kind
    array: da.Array
    info: ImageInfo

    @property
    def path(self) -> str:
        """What to call it."""
        return str(self.place)

    @property
    def axes(self) -> str:
        """A letter an axis, as the files state them or by their number."""
        return self.info.axes or axes_of(self.array.ndim, channels=bool(self.info.names))

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of its channels, where it has an axis for them."""
        axes, names = self.info.axes, self.info.names
        at = axes.find("c") if axes else 0
        return names if names and at >= 0 and len(names) == self.array.shape[at] else ()

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
    if kind == "zarr":
        array: da.Array = read_zarr(found)
    elif kind == "tiff":
        array = imread(found)
    elif kind == "folder":
        array = imread_folder(found, nb_workers, order=order, missing=missing)
    else:
        array = imread_channels(found, nb_workers, order=order, missing=missing)
    source = source_of(array)
    return Opened(found, kind, array, ImageInfo() if source is None else source.info_with(given))


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
                warn(
                    f"{folder!r} has {what}: {', '.join(found[:10])}{more}. Its planes are stacked "
                    "as they are, one after the other."
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
        text: str = f"there is nothing at {path}"
        if staging is not None:
            text += f"; an unfinished write of it lies in {staging.job}: repeat the write with "
            text += RESUME + " to finish it"
        raise PathNotFoundError(text)
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


_ORDER = AXES[5]
# Names of colour samples, and how they are shown as channels; alpha is no colour.
_SAMPLES = {"red": "FF0000", "green": "00FF00", "blue": "0000FF", "alpha": "000000"}


def as_image(opened: Opened) -> tuple[da.Array, ImageInfo]:
    """Give what was opened with its axes in OME-Zarr's order, and what is known of it then.

    Colour samples become channels. An array whose axes lie in order is given as
    it is; another one is read turned.

    Raises
    ------
    ArgumentError
        If an OME-Zarr image cannot have the axes.
    """
    array, axes = opened.array, opened.axes
    names, colors = opened.info.names, opened.info.colors
    if axes.endswith("s") and "c" not in axes:
        axes = axes[:-1] + "c"
        names = tuple(_SAMPLES)[: array.shape[-1]]
    strange = [a for a in axes if a not in _ORDER]
    if len(strange) == 1 and "z" not in axes:
        # Pages of a file that does not say what they are.
        axes = axes.replace(strange[0], "z")
    order = "".join(sorted(set(axes) & set(_ORDER), key=_ORDER.index))
    source = source_of(array)
    if len(order) != len(axes) or not order.endswith("yx") or source is None:
        raise ArgumentError(
            f"{opened.path} has the axes {axes!r}, and an OME-Zarr image has (t, c, z, y, x) or "
            "some of these: read it, bring its axes into that order, and use write_ome_zarr"
        )
    if order != axes:
        turned = ViewSource(source, full_region(source.shape), [axes.index(a) for a in order])
        array = lazy_array(turned)
    n_channels = array.shape[order.index("c")] if "c" in order else 1
    names = names if "c" in order and len(names) == n_channels else ()
    colors = colors or _sample_colors(names)
    windows = opened.info.windows
    channels = named_channels(
        names,
        colors if len(colors) == n_channels else (),
        windows if len(windows) == n_channels else (),
    )
    return array, replace(opened.info, axes=order, channels=channels)


def has_alpha(info: ImageInfo) -> bool:
    """Tell whether channels are colour samples, and the last of them is alpha."""
    return info.names == tuple(_SAMPLES)


def _sample_colors(names: Sequence[str]) -> tuple[str, ...]:
    """Give the colours of channels that are colour samples; empty for any others."""
    is_rgb = len(names) in (3, 4) and tuple(names) == tuple(_SAMPLES)[: len(names)]
    return tuple(_SAMPLES.values())[: len(names)] if is_rgb else ()


def leading_channels(opened: Opened) -> tuple[str, ...]:
    """Give the names along the first axis of what was opened, where they are stated."""
    return opened.channels if opened.info.axes[:1] in ("", "c") else ()
