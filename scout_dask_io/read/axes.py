"""What the axes of data are: as their reader found them stated, or guessed, which is said.

Why it is short: whoever writes images asks alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from scout_dask_io.core.axes import ORDER, axes_of, in_order, pages_as_planes
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.messages import Option, warn
from scout_dask_io.core.source import Source
from scout_dask_io.errors import ArgumentError
from scout_dask_io.tiff.source import TiffSource


def image_axes_for(
    source: Source | None,
    shape: Shape,
    given: str | None,
    channels: Sequence[str] | None = None,
    *,
    sized: bool = False,
) -> str:
    """Give the axes of an OME-Zarr image: those given, else those stated, else by their number.

    Names of as many channels as a stack of three axes is long say that these are its first
    axis; ``sized`` says that the caller spoke of z, y and x.

    Warns
    -----
    UserWarning
        If they are guessed, of more than two.

    Raises
    ------
    ArgumentError
        If an image does not have the axes, or not in this order.
    """
    ndim = len(shape)
    if given is not None:
        return axes_of(ndim, axes=given)
    stated = stated_for(source)
    names = [channels] if isinstance(channels, str) else channels or ()
    if "c" not in stated and ndim == 3 and len(names) == shape[0]:
        stated = ""
    if not stated:
        found = axes_of(ndim, channels=channels is not None)
        if ndim > 2 and channels is None and not (sized and ndim == 3):
            say_guess("the array", found)
        return found
    if set(stated) <= set(ORDER) and stated.endswith("yx") and in_order(stated) == stated:
        return stated
    raise ArgumentError(
        f"the array is stated to have the axes {', '.join(stated)}, and an OME-Zarr image has "
        "(t, c, z, y, x) or some of these, in this order: bring them into it and give "
        + Option("axes", "…")
        + ", or have convert do so, with "
        + Option("ome", True)
    )


def stated_for(source: Source | None) -> str:
    """Give the axes that a source states; empty where none, or nothing, does."""
    if source is None:
        return ""
    axes = source.info.axes
    return pages_as_planes(axes) if isinstance(source, TiffSource) else axes


def say_guess(what: str, axes: str) -> None:
    """Warn of axes that nothing states."""
    warn(
        f"nothing states the axes of {what}: they are taken as {', '.join(axes)}, by their "
        "number alone. " + Option("axes", axes) + " says that this is so, or which they are."
    )
