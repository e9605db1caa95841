"""What lies at a path, and a lazy array of it: how the jobs open whatever they are given.

Sources of any axes and channels as OME-Zarr has them, in the order ``(t, c, z, y, x)``.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import dask.array as da

from scout_dask_io.core.grid import full_region
from scout_dask_io.core.messages import RESUME, warn
from scout_dask_io.core.pyramid import AXES, axes_of
from scout_dask_io.core.source import FilledPlane, ViewSource
from scout_dask_io.core.voxel_size import VoxelSize, as_voxel_size
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.location import Location, as_local, locate
from scout_dask_io.files.remote import is_url
from scout_dask_io.read.channels import channel_names, imread_channels
from scout_dask_io.read.missing_planes import filled_in
from scout_dask_io.read.tiff import imread, imread_folder
from scout_dask_io.read.voxel_size import size_of_node
from scout_dask_io.read.voxel_size import voxel_size as stated_voxel_size
from scout_dask_io.run.lazy import lazy_array, source_of
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.store.image import image_of_node, place_of_level, read_image
from scout_dask_io.store.metadata import NODE_FILES, Node
from scout_dask_io.store.nodes import find_node, open_node
from scout_dask_io.store.source import source_of_node
from scout_dask_io.store.staging import find_staging
from scout_dask_io.tiff.describe import TiffInfo, describe_path
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
    place : Path or RemoteLocation
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

    place: Location
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
    path: str | os.PathLike[str] | Location,
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
    if kind == "zarr":
        return open_zarr(open_node(found), given)
    if kind == "tiff":
        array: da.Array = imread(found)
    elif kind == "folder":
        array = imread_folder(found, nb_workers, order=order, missing=missing)
    else:
        array = imread_channels(found, nb_workers, order=order, missing=missing)
        channels = channel_names(found)
    size = given or stated_voxel_size(array)
    return Opened(found, kind, array, tuple(channels) if channels else None, size)


def open_zarr(node: Node, voxel_size: VoxelSize | None = None) -> Opened:
    """Give an array, or level 0 of an image, as :func:`open_any` does; ``node`` is not read again.

    Raises
    ------
    PathNotFoundError
        If it is another group.
    LayoutError
        If it cannot be told how the chunks lie.
    """
    image = image_of_node(node)
    stored = node
    if image is not None:
        stored = open_node(place_of_level(node.location, image, 0))
    array = lazy_array(source_of_node(stored), name="read-zarr")
    if image is not None:
        named = "c" in image.axes and len(image.channels) == array.shape[image.axes.index("c")]
        channels, axes = list(image.channels) if named else None, image.axes
    else:
        channels, axes = _stated(node, array)
    size = voxel_size or size_of_node(stored)
    return Opened(node.location, "zarr", array, tuple(channels or ()) or None, size, axes)


def _stated(node: Node, array: da.Array) -> tuple[list[str] | None, str]:
    """Give the channel names and the letters of the axes that an array's metadata state."""
    attributes = node.attributes
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
                warn(
                    f"{folder!r} has {what}: {', '.join(found[:10])}{more}. Its planes are stacked "
                    "as they are, one after the other."
                )


def kind_of(path: Location) -> Kind:
    """Tell what lies at a path, by names alone.

    Raises
    ------
    PathNotFoundError
        If there is nothing, or a folder that holds neither Zarr nor TIFF.
    """
    if path.on_disk:
        if not path.exists():
            raise _nothing_at(path)
        if not path.is_folder:
            return "tiff"
        # A dangling link or a FIFO is something, and is refused when it is read.
        if any((path / name).stands() for name in NODE_FILES):
            return "zarr"
    else:
        if is_tiff(path.name) and path.is_file():
            return "tiff"
        if find_node(path) is not None:
            return "zarr"
    folders = _folders_of(path)
    if folders is None:
        return "folder"
    if any(_folders_of(folder) is None for folder in folders):
        return "channels"
    if not path.on_disk and path.is_file():
        return "tiff"
    told = "Give a TIFF file" if path.on_disk else "Check the URL; it may be of a TIFF file"
    raise PathNotFoundError(
        f"{path} holds no Zarr array (.zarray or zarr.json), no .tif or .tiff file, and no folder "
        f"with any. {told}, a folder of planes, a folder of such folders, or a Zarr array."
    )


def _nothing_at(path: Location) -> PathNotFoundError:
    staging = find_staging(as_local(path))
    text: str = f"there is nothing at {path}"
    if staging is not None:
        text += f"; an unfinished write of it lies in {staging.job}: repeat the write with "
        text += RESUME + " to finish it"
    return PathNotFoundError(text)


def _folders_of(path: Location) -> list[Location] | None:
    """Give the folders in a folder, or ``None`` if there is a TIFF file; hidden ones not.

    The empty object that stands for a folder in some stores is no file.
    """
    shown = [(child, folder) for child, folder in path.entries() if not child.name.startswith(".")]
    if any(is_tiff(child.name) and not folder for child, folder in shown):
        return None
    return [child for child, folder in shown if folder]


def locate_all(*paths: Any) -> list[Location]:
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


def _named(found: Any, array: da.Array) -> list[str] | None:
    """Give channel names where they are as many as the first axis is long."""
    if not isinstance(found, list) or array.ndim < 3 or len(found) != array.shape[0]:
        return None
    return [str(name) for name in found]


_ORDER = AXES[5]
_LEAD = {"tiff": "", "folder": "z", "channels": "cz"}
# Names of colour samples, and how they are shown as channels; alpha is no colour.
_SAMPLES = {"red": "FF0000", "green": "00FF00", "blue": "0000FF", "alpha": "000000"}


class Image(NamedTuple):
    """What was opened, as an OME-Zarr image has it.

    Attributes
    ----------
    array : dask.array.Array
        Its axes in the order ``(t, c, z, y, x)``.
    axes : str
        A letter an axis.
    channels : tuple of str or None
        Names, where there are channels and they are named.
    colors : tuple of str
        Six hexadecimal digits a channel, where they are known for each.
    has_alpha : bool
        Whether the channels are colour samples, and the last of them is alpha.
    """

    array: da.Array
    axes: str
    channels: tuple[str, ...] | None
    colors: tuple[str, ...] = ()
    has_alpha: bool = False


def as_image(opened: Opened) -> Image:
    """Give what was opened with its axes in OME-Zarr's order, and what is stated of its channels.

    Colour samples become channels. An array whose axes lie in order is given as
    it is; another one is read turned. Reads the header of the first TIFF file.

    Raises
    ------
    ArgumentError
        If an OME-Zarr image cannot have the axes.
    """
    array, names = opened.array, opened.channels
    described = _described(opened)
    axes = _axes(opened, described)
    if axes.endswith("s") and "c" not in axes:
        axes = axes[:-1] + "c"
        names = names or tuple(_SAMPLES)[: array.shape[-1]]
    elif described is not None and opened.kind != "channels":
        names = described.channels or None
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
    names = names if "c" in order else None
    samples = _sample_colors(names)
    colors = _stated_colors(opened, described) or samples
    n_channels = array.shape[order.index("c")] if "c" in order else 1
    return Image(
        array, order, names, colors if len(colors) == n_channels else (), len(samples) == 4
    )


def _sample_colors(names: Sequence[str] | None) -> tuple[str, ...]:
    """Give the colours of channels that are colour samples; empty for any others."""
    given = tuple(names or ())
    is_rgb = len(given) in (3, 4) and given == tuple(_SAMPLES)[: len(given)]
    return tuple(_SAMPLES.values())[: len(given)] if is_rgb else ()


def leading_channels(opened: Opened) -> tuple[str, ...] | None:
    """Give the names along the first axis of what was opened, where they are stated."""
    if opened.kind != "tiff":
        return opened.channels
    described = _described(opened)
    return (described.channels or None) if described and described.axes[0] == "C" else None


def stated_axes(opened: Opened) -> str:
    """Give a letter an axis, as the files state them or as the house has them."""
    return _axes(opened, _described(opened))


def _described(opened: Opened) -> TiffInfo | None:
    """Describe the first TIFF file; ``None`` where there is none."""
    source = source_of(opened.array)
    if not isinstance(source, TiffSource):
        return None
    return describe_path(source.place_of(source.files[0]))


def _axes(opened: Opened, described: TiffInfo | None) -> str:
    axes = opened.axes if described is None else _LEAD[opened.kind] + described.axes.lower()
    ndim = opened.array.ndim
    return axes if len(axes) == ndim else axes_of(ndim, channels=bool(opened.channels))


def _stated_colors(opened: Opened, described: TiffInfo | None) -> tuple[str, ...]:
    if described is not None:
        return () if opened.kind == "channels" else described.colors
    image = read_image(opened.place) if opened.kind == "zarr" else None
    return () if image is None else image.colors
