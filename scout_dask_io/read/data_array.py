"""Lazy arrays with named axes and coordinates, as xarray has them, and what they state.

Axes go by one letter (``t c z y x``), as the arrays of OME-Zarr do; an axis has coordinates
where the files state where its elements lie, and channels have theirs where they have names.
Nothing is made up: an axis of which nothing is known has no coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from scout_dask_io.core.axes import ORDER, stated_axes
from scout_dask_io.core.image_info import Axis, Channel, ImageInfo
from scout_dask_io.core.messages import warn
from scout_dask_io.core.selection import Selection
from scout_dask_io.core.voxel_size import VoxelSize, micrometres_of
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import is_path, locate
from scout_dask_io.read.any import open_any
from scout_dask_io.read.zarr import read_zarr
from scout_dask_io.run.lazy import source_of, turned

if TYPE_CHECKING:
    import xarray

# How far a step may be from the mean one: coordinates are floats, at times 32 bits of them.
_EVEN = 1e-4


def to_xarray(
    data: Any,
    *,
    level: int = 0,
    pattern: str | None = None,
    position: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> xarray.DataArray:
    """Give a lazy ``xarray.DataArray``, with the axes, channels and sizes that the files state.

    Reads headers and metadata, no pixels. :func:`write_zarr` and :func:`write_ome_zarr` take
    what it gives, a part of it or anything computed from it, and keep what it states.

    Parameters
    ----------
    data : path-like or dask.array.Array
        What :func:`convert` takes: a TIFF file, a folder of planes, of channels or of a
        dataset, a Zarr array, an OME-Zarr image, or the URL of one; or an array as a reader
        of this library gave it.
    level : int
        Of an OME-Zarr image, which level.
    pattern, position : str, optional
        As for :func:`imread_dataset`.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    xarray.DataArray
        Its dimensions are letters, such as ``("c", "z", "y", "x")``, or ``dim_0`` and so on
        where nothing states or tells them. Coordinates of lengths and times are of the centre
        of each element, in the unit that ``attrs["units"]`` of the coordinate names (none where
        none is stated); those of ``c`` are the names of the channels. Its own ``attrs`` are
        those of the array.

    Raises
    ------
    ImportError
        If xarray is not installed.
    ArgumentError
        If ``level`` is none of the image, or an argument does not go with ``data``.
    PathNotFoundError, TiffReadError, ShapeMismatchError, LayoutError
        If the path cannot be read.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> import scout_dask_io as io
    >>> path = tempfile.mkdtemp() + "/a.ome.zarr"
    >>> _ = io.write_ome_zarr(path, np.ones((4, 50, 60), "u2"), voxel_size=(4, 1.8, 1.8))
    >>> image = io.to_xarray(path)
    >>> image.dims, image.z.values.tolist(), image.z.attrs
    (('z', 'y', 'x'), [0.0, 4.0, 8.0, 12.0], {'units': 'micrometer'})
    """
    name = None
    if is_path(data):
        place = locate(data, storage_options)
        opened = open_any(place, selection=Selection(pattern=pattern, position=position))
        array, info, axes = opened.array, opened.info, opened.info.axes or opened.axes
        axes = "" if opened.unclear else axes
        name = place.name
        if level:
            array = read_zarr(place, level=level)
            source = source_of(array)
            info = ImageInfo() if source is None else source.info
    elif isinstance(data, da.Array):
        if level or pattern is not None or position is not None:
            raise ArgumentError("level, pattern and position go with a path, not with an array")
        array, source = data, source_of(data)
        info = ImageInfo() if source is None else source.info
        axes = info.axes
    else:
        raise ArgumentError(
            f"a path or a dask array was expected, got {type(data).__name__}. "
            "xarray.DataArray(data) makes one of any array."
        )
    import xarray

    named = axes and "?" not in axes
    dims = list(axes) if named else [f"dim_{k}" for k in range(array.ndim)]
    coords = _coordinates(info, axes, array.shape) if named else {}
    return xarray.DataArray(array, coords, dims, name=name, attrs=dict(info.attributes))


def _coordinates(info: ImageInfo, axes: str, shape: tuple[int, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    placed = info.measured if info.axes else ImageInfo(axes, info.voxel_size).measured
    for letter, axis, n in zip(axes, placed or (Axis(),) * len(axes), shape, strict=True):
        if letter == "c":
            if len(info.names) == n:
                found["c"] = ("c", np.array(info.names, object))
        elif axis.scale is not None:
            units = {} if axis.unit is None else {"units": axis.unit}
            values = axis.translation + axis.scale * np.arange(n)
            found[letter] = (letter, values, units)
    return found


def is_data_array(data: Any) -> bool:
    """Tell whether something is a ``DataArray``, without importing xarray."""
    return type(data).__module__.partition(".")[0] == "xarray" and hasattr(data, "dims")


def from_xarray(data: Any) -> tuple[Any, ImageInfo]:
    """Give the array in a ``DataArray``, in OME-Zarr's order of axes, and what it states.

    Computes nothing, but for coordinates that are lazy themselves.

    Raises
    ------
    ArgumentError
        If it is a dataset of several arrays.
    """
    if not hasattr(data, "variable"):
        raise ArgumentError(
            f"data must be one array, got an xarray {type(data).__name__}: choose a variable of "
            f"it, such as data[{next(iter(getattr(data, 'data_vars', ['name'])), 'name')!r}]"
        )
    axes = stated_axes([str(d) for d in data.dims], data.ndim)
    pixels = data.data if isinstance(data.data, (np.ndarray, da.Array)) else np.asarray(data.data)
    if axes and set(axes) <= set(ORDER):
        order = [axes.index(a) for a in ORDER if a in axes]
        if order != sorted(order):
            data = data.transpose(*(data.dims[k] for k in order))
            there, axes = axes, "".join(axes[k] for k in order)
            # What a reader gave stays what it gave, and says what it says.
            if isinstance(pixels, da.Array) and source_of(pixels) is not None:
                pixels = turned(pixels, there, axes)
            else:
                pixels = pixels.transpose(order)
    source = source_of(pixels) if isinstance(pixels, da.Array) else None
    known = ImageInfo() if source is None else source.info
    attributes = {str(k): _plain(v) for k, v in data.attrs.items()}
    if not axes:
        return pixels, ImageInfo(attributes=attributes)
    frame = tuple(_axis_of(data, dim, a) for dim, a in zip(data.dims, axes, strict=True))
    # Of an array that a reader gave as it is, colours and windows are known too.
    channels = known.channels if known.axes == axes else ()
    if "c" in axes and (names := _names_of(data, data.dims[axes.index("c")])):
        channels = channels if len(channels) == len(names) else (Channel(),) * len(names)
        channels = tuple(
            Channel(name, c.color, c.window, c.limits, c.active, c.extras)
            for name, c in zip(names, channels, strict=True)
        )
    sizes = {a: axis.micrometres for a, axis in zip(axes, frame, strict=True)}
    z, y, x = (sizes.get(a) for a in "zyx")
    size = VoxelSize(z, y, x, "coordinates") if z or y or x else None
    info = ImageInfo(axes, size, channels, frame=frame, attributes=attributes, labels=known.labels)
    if known.axes == axes:
        display, noted = known.display, known.group_attributes
        info = replace(info, display=display, group_attributes=noted)
    return pixels, info


def _axis_of(data: Any, dim: Any, letter: str) -> Axis:
    """Give what the coordinates of a dimension state: where it begins, its step and its unit."""
    if letter in "cs" or dim not in data.coords or data.coords[dim].dims != (dim,):
        return Axis()
    values, attrs = np.asarray(data.coords[dim].values), data.coords[dim].attrs
    unit = attrs.get("units") or attrs.get("unit")
    if values.dtype.kind == "m":
        values, unit = values / np.timedelta64(1, "ns") / 1e9, "second"
    if values.dtype.kind not in "iuf" or not len(values):
        warn(f"the coordinates of {dim!r} are {values.dtype}, no numbers, and are not kept")
        return Axis()
    # One element alone states where it is, and no step.
    steps = np.diff(values.astype(float))
    step = float(steps.mean()) if len(steps) else None
    if step is not None:
        # What the rounding of the coordinates left: 1.8 and not 1.8000000000000003.
        step = float(f"{step:.{6 if values.dtype.itemsize < 8 else 12}g}")
    if step is not None and not (step > 0 and np.abs(steps - step).max() <= _EVEN * step):
        warn(
            f"the coordinates of {dim!r} do not rise in even steps and are not kept: Zarr states "
            "where elements lie by their first one and a step"
        )
        return Axis()
    first = float(values[0])
    return Axis(step, first, None if unit is None else _unit(str(unit)))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _unit(unit: str) -> str:
    return "micrometer" if micrometres_of(unit) == 1.0 else unit


def _names_of(data: Any, dim: Any) -> list[str]:
    found = data.coords.get(dim)
    return (
        [str(v) for v in found.values] if found is not None and found.dtype.kind in "UOST" else []
    )
