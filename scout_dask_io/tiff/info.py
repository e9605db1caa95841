"""What there is to know about a TIFF file without reading its pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from scout_dask_io.core.grid import Shape
from scout_dask_io.tiff.channels import stated_channels
from scout_dask_io.tiff.general import open_tiff
from scout_dask_io.tiff.ifd import Window, read_header
from scout_dask_io.tiff.open_file import opened, place_of
from scout_dask_io.tiff.page_layout import CODEC_NAMES
from scout_dask_io.tiff.series import choose_series, describe_series

__all__ = ["TiffInfo", "describe_path"]


@dataclass(frozen=True, slots=True)
class TiffInfo:
    """A TIFF file as ``imread`` sees it; series 0 at full resolution.

    ``axes`` has a letter an axis of ``shape``, as tifffile names them.
    ``segment`` is ``"strip"`` or ``"tile"``, ``segment_shape`` its extent as
    stored, ``(rows, columns)``. ``levels`` are the shapes of the resolutions,
    the full one first. ``channels`` and ``colors`` are what the file states of each
    channel, its name and six hexadecimal digits; empty where it does not.
    """

    path: str
    shape: Shape
    dtype: str
    axes: str
    compression: str
    segment: str
    segment_shape: tuple[int, int]
    byte_order: str
    bigtiff: bool
    n_pages: int
    n_series: int
    levels: tuple[Shape, ...]
    file_nbytes: int
    channels: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()


def describe_path(path: Any) -> TiffInfo:
    """Describe a TIFF file, at a path or at a place in a store; reads its directories, no pixel.

    One file of a multi-file OME-TIFF is described by itself.

    Raises
    ------
    PathNotFoundError
        If there is no such file.
    TiffReadError
        If it is damaged or no regular file.
    """
    with opened(place_of(path)) as (fd, file):
        window = Window(fd, file.size)
        header = read_header(window)
        options: dict[str, Any] = {"_multifile": False}
        with open_tiff(fd, file, **options) as tif:
            if tif.is_ome and tif.series and tif.series[0].kind != "ome":
                options = {"is_ome": False}
        with open_tiff(fd, file, **options) as tif:
            series = choose_series(tif, file, 0, 0)
            lead, pages = describe_series(tif, series, window, header)
            first = series.keyframe
            layout = pages[0].layout
            axes = series.axes
            if layout.planar:
                axes = axes.replace("S", "") + "S"
            shape = (*lead, *layout.shape)
            axes = axes if len(axes) == len(shape) else "Q" * len(shape)
            n_channels = shape[axes.index("C")] if "C" in axes else 1
            names, colors = stated_channels(tif, n_channels)
            compression = int(first.compression)
            return TiffInfo(
                path=file.path,
                shape=shape,
                dtype=str(series.dtype),
                axes=axes,
                compression=CODEC_NAMES.get(compression, str(compression)),
                segment="tile" if first.is_tiled else "strip",
                segment_shape=(
                    (first.tilelength, first.tilewidth)
                    if first.is_tiled
                    else (first.rowsperstrip, first.imagewidth)
                ),
                byte_order="little" if tif.byteorder == "<" else "big",
                bigtiff=tif.is_bigtiff,
                n_pages=len(tif.pages),
                n_series=len(tif.series),
                levels=tuple(level.shape for level in series.levels),
                file_nbytes=file.size,
                channels=names,
                colors=colors,
            )
