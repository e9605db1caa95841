"""The kinds of TIFF files that an export writes, and how an array lies in them. No files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scout_dask_io.errors import ArgumentError
from scout_dask_io.jobs.export_selection import Selection
from scout_dask_io.jobs.export_values import Conversion
from scout_dask_io.tiff.write_layout import TiffLayout, plan_layout
from scout_dask_io.write.tiff import is_ome_name

__all__ = ["file_kind", "for_imagej", "lay_out"]

_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")


def file_kind(target: Path, imagej: bool) -> str:
    """Give what a name asks for: ``"planes"``, ``"tiff"``, ``"imagej"`` or ``"ome"``.

    Raises
    ------
    ArgumentError
        If it is no name of an ImageJ file, where one is asked for.
    """
    name = target.name.lower()
    ome = is_ome_name(name)
    if imagej and (ome or not name.endswith((".tif", ".tiff"))):
        raise ArgumentError(
            f"imagej=True writes one file, and {target} is not the name of one: give a name that "
            "ends in .tif, and not in .ome.tif"
        )
    if ome:
        return "ome"
    if imagej:
        return "imagej"
    return "tiff" if name.endswith((".tif", ".tiff")) else "planes"


def for_imagej(chosen: Selection) -> Selection:
    """Give a selection with its axes in ImageJ's order.

    Raises
    ------
    ArgumentError
        If ImageJ has no such axes.
    """
    strange = set(chosen.axes) - set("tzcyxs")
    if strange:
        raise ArgumentError(
            f"ImageJ knows the axes t, z, c, y, x, and the array of shape {chosen.view.shape} has "
            f"{', '.join(chosen.axes)}: leave imagej out, or export a region of one element"
        )
    return chosen.reordered("".join(a for a in "tzcyxs" if a in chosen.axes))


def lay_out(
    kind: str,
    chosen: Selection,
    conversion: Conversion,
    compress: int | None,
    n_levels: int | None,
) -> TiffLayout:
    """Give how a selection lies in files of a kind.

    Raises
    ------
    ArgumentError
        If it cannot lie in them, or an argument does not go with them.
    """
    if n_levels is not None and kind != "ome":
        raise ArgumentError("n_levels is for an OME-TIFF, a name that ends in .ome.tif")
    shape, dtype = chosen.view.shape, conversion.dtype
    if n_levels is not None and (isinstance(n_levels, bool) or not 1 <= n_levels <= 32):
        raise ArgumentError(f"n_levels must be a whole number from 1 to 32, got {n_levels!r}")
    row_axis = len(shape) - (3 if chosen.colour else 2)
    layout = plan_layout(
        shape,
        dtype,
        (0 if kind == "imagej" else 1) if compress is None else compress,
        step=min(chosen.view.read_shape[row_axis], shape[row_axis]),
        tiled=kind == "ome",
        n_levels=n_levels,
        colour=chosen.colour,
    )
    if kind != "imagej":
        return layout
    good = dtype.name in _IMAGEJ_DTYPES if layout.samples == 1 else shape[-1] == 3
    if not good or (layout.samples == 3 and dtype.name != "uint8"):
        raise ArgumentError(
            f"ImageJ reads uint8, uint16, float32 and RGB of uint8, and this would be {dtype}: "
            "give dtype= one of them, with scale=(low, high) where it does not hold every value"
        )
    if layout.big and layout.compress:
        raise ArgumentError(
            "ImageJ reads files above 4 GB only where nothing is compressed: give compress=0"
        )
    return replace(layout, big=False, one_directory=layout.big)
