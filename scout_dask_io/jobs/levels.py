"""The level of an OME-Zarr image that serves a picture of some size."""

from __future__ import annotations

import os
from dataclasses import dataclass

import dask.array as da

from scout_dask_io.ome import Multiscale
from scout_dask_io.readers import read_zarr
from scout_dask_io.store.image import read_image
from scout_dask_io.voxel import VoxelSize

__all__ = ["Level", "open_level"]


@dataclass(frozen=True, slots=True)
class Level:
    """One level of an OME-Zarr image.

    Attributes
    ----------
    array : dask.array.Array
        Lazy; ``(z, y, x)`` or ``(c, z, y, x)``, the first time point where there are several.
    number, n_levels : int
        Which level it is, 0 being the full one, and of how many.
    voxel_size : VoxelSize or None
        Of this level.
    channels, colors : tuple of str
        Names and colours, ``"#rrggbb"``, of the channels; empty where not stated.
    """

    array: da.Array
    number: int
    n_levels: int
    voxel_size: VoxelSize | None
    channels: tuple[str, ...]
    colors: tuple[str, ...]


def open_level(path: str | os.PathLike[str], size: int) -> Level | None:
    """Open the smallest level whose longest axis in space still has ``size`` elements.

    ``None`` where the path is no OME-Zarr image. Reads metadata, no pixels.

    Raises
    ------
    LayoutError
        If the image's metadata are damaged.
    """
    image = read_image(path)
    if image is None:
        return None
    number, array = _choose(path, image, size)
    if "t" in image.axes:
        array = array[tuple(0 if a == "t" else slice(None) for a in image.axes)]
    return Level(
        array,
        number,
        len(image.levels),
        image.voxel_size(number, "OME-Zarr metadata"),
        image.channels,
        tuple(f"#{color}" for color in image.colors if len(color) == 6),
    )


def _choose(path: str | os.PathLike[str], image: Multiscale, size: int) -> tuple[int, da.Array]:
    space = [k for k, a in enumerate(image.axes) if a in "zyx"]
    number, chosen = 0, read_zarr(path)
    for k in range(1, len(image.levels)):
        array = read_zarr(path, level=k)
        if max(array.shape[a] for a in space) >= size:
            number, chosen = k, array
    return number, chosen
