"""Sources of any axes and channels as OME-Zarr has them, in the order ``(t, c, z, y, x)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import dask.array as da

from scout_dask_io.core.grid import full_region
from scout_dask_io.core.pyramid import AXES, axes_of
from scout_dask_io.core.source import ViewSource
from scout_dask_io.errors import ArgumentError
from scout_dask_io.read.any import Opened
from scout_dask_io.run.lazy import lazy_array, source_of
from scout_dask_io.store.image import read_image
from scout_dask_io.tiff.info import TiffInfo, describe_path
from scout_dask_io.tiff.source import TiffSource

__all__ = ["Image", "as_image", "leading_channels", "stated_axes"]

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
