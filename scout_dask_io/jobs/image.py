"""Sources of any axes as OME-Zarr has them, in the order ``(t, c, z, y, x)``."""

from __future__ import annotations

from collections.abc import Sequence

import dask.array as da

from scout_dask_io.errors import ArgumentError
from scout_dask_io.grid import full_region
from scout_dask_io.jobs.sources import Opened
from scout_dask_io.lazy import lazy_array, source_of
from scout_dask_io.levels import AXES, axes_of
from scout_dask_io.source import ViewSource
from scout_dask_io.store.image import read_image
from scout_dask_io.tiff.info import describe_path
from scout_dask_io.tiff.source import TiffSource

__all__ = ["as_image", "sample_colors", "stated_axes", "stated_colors"]

_ORDER = AXES[5]
_LEAD = {"tiff": "", "folder": "z", "channels": "cz"}
# Names of colour samples, and how they are shown as channels; alpha is no colour.
_SAMPLES = {"red": "FF0000", "green": "00FF00", "blue": "0000FF", "alpha": "000000"}


def as_image(opened: Opened) -> tuple[da.Array, str, tuple[str, ...] | None]:
    """Give what was opened with its axes in OME-Zarr's order, their letters, and channel names.

    Colour samples become channels. An array whose axes lie in order is given as
    it is; another one is read turned. Reads the header of the first TIFF file.

    Raises
    ------
    ArgumentError
        If an OME-Zarr image cannot have the axes.
    """
    array, names = opened.array, opened.channels
    axes = stated_axes(opened)
    if axes.endswith("s") and "c" not in axes:
        axes = axes[:-1] + "c"
        names = names or tuple(_SAMPLES)[: array.shape[-1]]
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
    return array, order, names if "c" in order else None


def sample_colors(names: Sequence[str] | None) -> tuple[str, ...]:
    """Give the colours of channels that are colour samples; empty for any others."""
    given = tuple(names or ())
    is_rgb = len(given) in (3, 4) and given == tuple(_SAMPLES)[: len(given)]
    return tuple(_SAMPLES.values())[: len(given)] if is_rgb else ()


def stated_colors(opened: Opened, names: Sequence[str] | None) -> tuple[str, ...] | None:
    """Give the colours of the channels of what was opened, where they are known for each."""
    image = read_image(opened.place) if opened.kind == "zarr" else None
    colors = sample_colors(names) if image is None else image.colors
    return colors if colors and len(colors) == len(names or "1") else None


def stated_axes(opened: Opened) -> str:
    """Give a letter an axis, as the files state them or as the house has them."""
    source = source_of(opened.array)
    axes = opened.axes
    if isinstance(source, TiffSource):
        axes = _LEAD[opened.kind] + describe_path(source.place_of(source.files[0])).axes.lower()
    ndim = opened.array.ndim
    return axes if len(axes) == ndim else axes_of(ndim, channels=bool(opened.channels))
