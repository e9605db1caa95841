"""Whatever is to be looked at as levels along ``(c, z, y, x)``, each lazy, with sizes and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.axes import in_order
from scout_dask_io.core.image_info import Axis, ImageInfo
from scout_dask_io.core.messages import Option, warn
from scout_dask_io.core.ome_metadata import Multiscale
from scout_dask_io.core.selection import AS_IT_IS, Selection
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.location import is_path
from scout_dask_io.read.any import Opened, as_image, has_alpha, open_any
from scout_dask_io.read.voxel_size import voxel_size as stated_voxel_size
from scout_dask_io.run.lazy import lazy_array, turned
from scout_dask_io.store.image import place_of_level
from scout_dask_io.store.source import open_source


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume, opened.

    Attributes
    ----------
    name : str
        For people.
    levels : tuple of dask.array.Array
        The full one first, lazy: ``(y, x)``, ``(z, y, x)`` or ``(c, z, y, x)``, with time before
        these where ``time`` is given.
    scales, translations : tuple of tuple of float
        Of each level's voxels, ``(z, y, x)``, in ``unit``.
    unit : str or None
        ``"micrometer"``, or ``None`` where the size is not known along every
        axis; the scales are then relative to level 0.
    info : ImageInfo
        What is stated of level 0, in whole or in part, but for names: each channel has one.
    is_image : bool
        Whether it is an OME-Zarr image, whose levels are stored.
    time : Axis or None
        Step, unit and start of the first axis, where that is time.
    """

    name: str
    levels: tuple[da.Array, ...]
    scales: tuple[tuple[float, ...], ...]
    translations: tuple[tuple[float, ...], ...]
    unit: str | None
    info: ImageInfo
    is_image: bool = False
    time: Axis | None = None

    @property
    def has_channels(self) -> bool:
        """Whether the first axis, or the one after time, is one of channels."""
        return len(self.levels[0].shape) - (self.time is not None) == 4

    def level_for(self, size: int) -> int:
        """Give the smallest level whose longest axis in space still has ``size`` elements."""
        enough = [
            n for n, array in enumerate(self.levels) if max(array.shape[-3:], default=0) >= size
        ]
        return max(enough, default=0)

    def voxel_size_of(self, level: int) -> VoxelSize | None:
        """Give the size of a level's voxels, in whole or in part."""
        pairs = zip(self.scales[level], self.scales[0], strict=True)
        return self.info.level([own / full for own, full in pairs]).voxel_size


def open_volume(
    what: Any,
    name: str,
    selection: Selection = AS_IT_IS,
    *,
    voxel_size: VoxelSize | None = None,
    times: bool = False,
) -> Volume:
    """Open a path, or take an array; reads headers and metadata, no pixels.

    Whatever order a file's axes have, an ImageJ hyperstack's for instance, the
    levels have theirs; colour samples are channels, without alpha. Of several
    time points the first is taken, and the name says so; with ``times`` all are.

    Parameters
    ----------
    what : path-like, RemoteLocation, dask or numpy array
        A TIFF file, a folder of planes or of channels, a Zarr array, an OME-Zarr
        image, or an array.
    name : str
        Of an array; a path has its own.
    selection, voxel_size
        As for :func:`~scout_dask_io.read.any.open_any`.

    Raises
    ------
    PathNotFoundError, TiffReadError, LayoutError
        If a path cannot be read.
    """
    image, opened, time = None, None, None
    if is_path(what):
        opened = open_any(what, selection=selection, voxel_size=voxel_size)
        image, info = opened.image, opened.info
        name = opened.place.name or opened.path
        name += f" {selection.position}" if selection.position is not None else ""
        array, info, n_times = _turned(opened, times)
        if times and info.axes.startswith("t"):
            time = info.frame[0] if info.frame else Axis()
        elif n_times > 1:
            name += f", t=0 of {n_times}"
    else:
        array = what if isinstance(what, da.Array) else da.from_array(np.asarray(what))
        info = ImageInfo(voxel_size=voxel_size or stated_voxel_size(array))
    scale, unit = _shown_scale(info, array.ndim)
    levels: list[da.Array] = [array]
    scales: list[tuple[float, ...]] = [scale]
    shifts: list[tuple[float, ...]] = [_shown_shift(info, scale)]
    if opened is not None and image is not None:
        levels, scales, shifts = _levels(opened, image, scale, times)
    n_axes = levels[0].ndim - (time is not None)
    info = info.defaults(levels[0].shape[-4] if n_axes == 4 else 1)
    return Volume(
        name,
        tuple(levels),
        tuple(scales),
        tuple(shifts),
        unit,
        info,
        image is not None,
        time,
    )


def _shown_scale(info: ImageInfo, ndim: int) -> tuple[tuple[float, ...], str | None]:
    """Give the size ``(z, y, x)`` of a voxel and its unit, ``None`` where that is no length.

    What is not stated of each axis that there is, in one unit, is not shown of any: all are 1.
    An axis that there is not is as long as the longest.
    """
    axes = info.axes or "zyx"[-ndim:]
    there = [a for a in "zyx" if a in axes]
    size = info.voxel_size
    known: dict[str, float | None] = dict(
        zip("zyx", size.micrometres if size else (None,) * 3, strict=True)
    )
    unit: str | None = "micrometer"
    if not all(known[a] for a in there):
        frame = dict(zip(info.axes, info.frame, strict=False))
        known |= {a: frame[a].scale for a in there if a in frame}
        # Sizes without a unit of length say at least how many times as long as wide a voxel is.
        unit = None
        if len({frame[a].unit for a in there if a in frame}) != 1:
            known = dict.fromkeys("zyx")
    sizes = [known[a] for a in there]
    found = [v for v in sizes if v]
    if not there or len(found) < len(there):
        if size is not None or any(axis.scale not in (None, 1.0) for axis in info.frame):
            warn(
                "the size of a voxel is not stated along each axis in one unit, and voxels are "
                "shown as cubes: " + Option("voxel_size", "") + " says what it is"
            )
        return (1.0, 1.0, 1.0), None
    return tuple(known[a] or max(found) if a in there else max(found) for a in "zyx"), unit


def _shown_shift(info: ImageInfo, scale: Sequence[float]) -> tuple[float, ...]:
    """Give where an array that is no image lies, ``(z, y, x)``, in the sizes that are shown."""
    frame = dict(zip(info.axes, info.frame, strict=False))
    placed = (frame.get(a, Axis()) for a in "zyx")
    return tuple(
        axis.translation * s / (axis.scale or 1.0) for axis, s in zip(placed, scale, strict=True)
    )


def _turned(opened: Opened, times: bool) -> tuple[da.Array, ImageInfo, int]:
    """Give an array as ``(c, z, y, x)`` or a part of that, what is known, and how many times.

    With ``times`` time comes before these.
    """
    try:
        array, info = as_image(opened)
    except ArgumentError:  # axes of no meaning: whoever shows them says what they need
        if opened.kind == "zarr" and opened.info.axes:
            raise  # what is stated is never taken for something else
        return opened.array, replace(opened.info, axes=""), 1
    n_times = array.shape[0] if info.axes.startswith("t") else 1
    array = _shown_axes(array, info.axes, times)
    if has_alpha(info):
        array = array[..., :3, :, :, :]
        info = replace(info, channels=info.channels[:3])
    return array, info, n_times


def _shown_axes(array: da.Array, axes: str, times: bool) -> da.Array:
    """Give ``(c, z, y, x)`` or a part of that: the first time point, or with ``times`` all.

    Where nothing is dropped or added, the array itself, which still knows what it reads.
    """
    array = array[0] if "t" in axes and not times else array
    return array[..., None, :, :] if axes.replace("t", "") == "cyx" else array


def _levels(
    opened: Opened, image: Multiscale, scale: Sequence[float], times: bool
) -> tuple[list[da.Array], list[tuple[float, ...]], list[tuple[float, ...]]]:
    arrays: list[da.Array] = []
    scales: list[tuple[float, ...]] = []
    shifts: list[tuple[float, ...]] = []
    base = _zyx(image.levels[0].scale, image.axes, 1.0)
    # In the sizes that are shown, which may be others than the image's own.
    unit = [s / b for s, b in zip(scale, base, strict=True)]
    for number, level in enumerate(image.levels):
        array = opened.array
        if number:
            try:
                source = open_source(place_of_level(opened.place, image, number))
            except PathNotFoundError:
                warn(f"{opened.place}: level {level.path} is stated, and is not there")
                continue
            array = lazy_array(source, name="read-zarr")
        order = in_order(image.axes)
        arrays.append(_shown_axes(turned(array, image.axes, order), order, times))
        own, shift = _zyx(level.scale, image.axes, 1.0), _zyx(level.translation, image.axes, 0.0)
        scales.append(tuple(v * u for v, u in zip(own, unit, strict=True)))
        shifts.append(tuple(v * u for v, u in zip(shift, unit, strict=True)))
    return arrays, scales, shifts


def _zyx(values: Sequence[float], axes: str, missing: float) -> list[float]:
    found = dict(zip(axes, values, strict=True))
    return [found.get(a, missing) for a in "zyx"]
