"""What napari asks when a folder of planes, a TIFF or a Zarr is dropped on it.

Source: napari's plugin contributions, "readers" (https://napari.org): a function
that gives ``None``, or a function that gives layers. Nothing of napari is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from scout_dask_io.core.selection import Selection
from scout_dask_io.errors import ScoutIOError
from scout_dask_io.files.location import locate
from scout_dask_io.read.any import kind_of
from scout_dask_io.read.dataset import dataset_at
from scout_dask_io.read.tiff import imread_parallel
from scout_dask_io.read.volume import Volume, open_volume
from scout_dask_io.store.image import image_of_node
from scout_dask_io.store.metadata import read_node
from scout_dask_io.tiff.folder import is_tiff

# Units of time that napari knows, as OME-Zarr names them.
_TIMES = frozenset(["day", "hour", "minute", "second", "millisecond", "microsecond", "nanosecond"])

Paths: TypeAlias = "str | Sequence[str]"
#: Data, what napari's ``add_image`` or ``add_labels`` takes besides, and the kind of layer.
Layer: TypeAlias = tuple[Any, dict[str, Any], str]


def get_reader(path: Paths) -> Callable[[Paths], list[Layer]] | None:
    """Give what reads a path, or several TIFF files as a stack; ``None`` for anything else.

    Looks at names and metadata, no pixels.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if len(paths) > 1:
        stack = all(is_tiff(p) and os.path.isfile(p) for p in paths)
        return read_layers if stack else None
    return read_layers if paths and _is_readable(paths[0]) else None


def _is_readable(name: str) -> bool:
    try:
        path = locate(name)
        kind = kind_of(path)
        if kind == "tiff":
            return is_tiff(path.name) and path.is_file()
        if kind in ("hdf5", "npy"):
            return False  # napari and its plugins have readers of their own
        node = read_node(path) if kind == "zarr" else None
        return node is None or node.kind == "array" or image_of_node(node) is not None
    except (ScoutIOError, OSError):
        return False


def read_layers(path: Paths) -> list[Layer]:
    """Give the layers of a path: lazy, with levels, voxel sizes, time and a layer a channel.

    Of a dataset of several positions, a layer each.

    Several paths are TIFF files, stacked in their order.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if len(paths) > 1:
        return [_layer(open_volume(imread_parallel(paths), os.path.basename(paths[0])))]
    place = locate(paths[0])
    grid = dataset_at(place, kind_of(place))
    positions = () if grid is None or len(grid.positions) < 2 else grid.positions
    chosen = [Selection(position=p) for p in positions or (None,)]
    return [_layer(open_volume(paths[0], "", one, times=True)) for one in chosen]


def _layer(volume: Volume) -> Layer:
    # A plane has no z; napari puts the channel axis first and scales the others.
    info, several, time = volume.info, volume.has_channels, volume.time
    n_axes = volume.levels[0].ndim - several - (time is not None)
    scale, shift = volume.scales[0][-n_axes:], volume.translations[0][-n_axes:]
    units: tuple[str, ...] = () if volume.unit is None else (volume.unit,) * n_axes
    if time is not None:
        scale, shift = (time.scale or 1.0, *scale), (time.translation, *shift)
        units = (time.unit if time.unit in _TIMES else "pixel", *units) if units else ()
    labels = ("t",) * (time is not None) + tuple("zyx"[-n_axes:])
    shown: dict[str, Any] = {"name": volume.name, "scale": scale, "translate": shift}
    shown["axis_labels"] = labels
    if units:
        shown["units"] = units
    levels = list(volume.levels)
    shown["multiscale"] = len(levels) > 1
    data = levels if len(levels) > 1 else levels[0]
    if info.labels and not several and levels[0].dtype.kind in "iu":
        return data, shown, "labels"
    if several:
        shown["channel_axis"] = 0 if time is None else 1
        shown["name"] = [f"{volume.name} {name}" for name in info.names]
    windows = [w for w in info.windows if w is not None]
    if len(windows) == len(info.channels):
        shown["contrast_limits"] = windows if several else windows[0]
    colors = [f"#{color}" for color in info.colors]
    if colors:
        shown["colormap"] = colors if several else colors[0]
    return data, shown, "image"
