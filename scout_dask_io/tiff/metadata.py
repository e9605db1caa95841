"""What TIFF files, and the ``voxel_size.csv`` beside them, state about the size of a voxel."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from typing import Any

import tifffile

from scout_dask_io.core.voxel_size import ATTRIBUTE, VoxelSize, from_attribute, micrometres_of
from scout_dask_io.errors import ChunkReadError, ScoutIOError
from scout_dask_io.files.location import RemotePath
from scout_dask_io.tiff.general import open_tiff
from scout_dask_io.tiff.open_file import OpenFile, Place, opened, place_of
from scout_dask_io.tiff.page_layout import SourceFile
from scout_dask_io.tiff.stated import ask, ome_pixels

__all__ = ["CSV_NAME", "csv_size", "file_sizes", "sizes_in", "stated_sizes"]

#: SCOUT's file of voxel sizes: three numbers (z, y, x) in nanometres, comma-separated.
CSV_NAME = "voxel_size.csv"

#: Dots per inch that programs write when they know of no size.
_PRINT_RESOLUTIONS = (72, 96, 100, 150, 200, 300, 600, 1200)


def csv_size(folder: str | os.PathLike[str] | RemotePath) -> VoxelSize | None:
    """Give what SCOUT's ``voxel_size.csv`` in a folder says, ``None`` if there is none.

    Warns
    -----
    UserWarning
        If it is not three sizes, or cannot be read; it then does not count.
    """
    place: Place = (
        folder / CSV_NAME if isinstance(folder, RemotePath) else os.path.join(folder, CSV_NAME)
    )
    path = str(place)
    try:
        text = _start_of(place)
    except OSError as err:
        warnings.warn(
            f"{path!r} cannot be read ({err.strerror or err}), so the voxel size that it states is "
            "not known. Give voxel_size=, or mend the cause and try again.",
            UserWarning,
            stacklevel=4,
        )
        return None
    except ValueError as err:
        found, text = None, str(err)
    else:
        if text is None:
            return None
        lines = [line for line in text.splitlines() if line.strip()]
        numbers = [part.strip() for part in lines[0].split(",")] if len(lines) == 1 else []
        found = from_attribute(numbers, path)
    if found is None:
        warnings.warn(
            f"{path!r} does not count: expected one line of three numbers z,y,x in nanometres, "
            f"found {text[:80]!r}. Correct it, or give voxel_size=.",
            UserWarning,
            stacklevel=4,
        )
        return None
    # Divided: 700 times 0.001 is not 0.7.
    z, y, x = (None if v is None else v / 1000 for v in found.micrometres)
    return VoxelSize(z, y, x, path)


def _start_of(place: Place) -> str | None:
    """Give the first thousand bytes of a text file; ``None`` where there is none."""
    try:
        if isinstance(place, RemotePath):
            data = place.read(1000)
        else:
            with open(place, "rb") as file:
                data = file.read(1000)
    except FileNotFoundError:
        return None
    except ChunkReadError as err:
        # So say stores of what is not there to who may not list what is.
        if isinstance(err.__cause__, PermissionError):
            return None
        raise
    return None if data is None else data.decode("utf-8-sig")


def file_sizes(path: Any) -> list[VoxelSize]:
    """Give what a TIFF file states, the most telling first; reads its directories alone.

    ``path`` is a path, or the place of an object in a store.

    Raises
    ------
    PathNotFoundError, TiffReadError
        If the file cannot be read.
    """
    with (
        opened(place_of(path)) as (fd, file),
        open_tiff(fd, file, _multifile=False) as tif,
    ):
        return list(stated_sizes(tif))


def sizes_in(fd: OpenFile, file: SourceFile) -> tuple[VoxelSize, ...]:
    """Give what a file that is open states; metadata that tifffile cannot make out state nothing.

    For who describes the file anyway, and must not refuse it for what stands beside its pixels.
    """
    try:
        with open_tiff(fd, file, _multifile=False) as tif:
            return tuple(stated_sizes(tif))
    except (ScoutIOError, OSError, MemoryError):
        raise
    except Exception:
        return ()


def stated_sizes(tif: tifffile.TiffFile, series: int = 0, level: int = 0) -> Iterator[VoxelSize]:
    """Yield what an open file states about a series at a resolution level.

    In this order: the description that this library writes, OME-XML, ImageJ's
    metadata, and the resolution tags. Values without a unit of length, zeros, and
    print resolutions such as 72 dpi are no sizes. Lower levels are as much larger
    as they have fewer pixels.
    """
    factors = _level_factors(tif, series, level)
    for find in (_from_shaped, _from_ome, _from_imagej, _from_tags):
        found = ask(find, tif, series)
        if found is not None and any(v is not None for v in found.micrometres):
            name = tif.filehandle.path or tif.filehandle.name
            yield VoxelSize(*found.scaled(factors).micrometres, f"{found.source} of {name}")


def _level_factors(tif: tifffile.TiffFile, series: int, level: int) -> tuple[float, float, float]:
    if level == 0:
        return 1.0, 1.0, 1.0
    levels = tif.series[series].levels
    extents = [dict(zip(s.axes, s.shape, strict=True)) for s in (levels[0], levels[level])]
    z, y, x = (extents[0].get(a, 1) / max(extents[1].get(a, 1), 1) for a in "ZYX")
    return z, y, x


def _length(value: Any, unit: Any) -> float | None:
    """Give a length in micrometres, ``None`` where value or unit makes no sense."""
    scale = micrometres_of(unit)
    if value is None or scale is None:
        return None
    length = float(value) * scale
    return length if math.isfinite(length) and length > 0 else None


def _from_shaped(tif: tifffile.TiffFile, series: int) -> VoxelSize | None:
    found = tif.shaped_metadata
    return from_attribute(found[0].get(ATTRIBUTE), "description") if found else None


def _from_ome(tif: tifffile.TiffFile, series: int) -> VoxelSize | None:
    pixels = ome_pixels(tif, series)
    if pixels is None:
        return None
    given = pixels.attrib
    z, y, x = (
        _length(given.get(f"PhysicalSize{a}"), given.get(f"PhysicalSize{a}Unit", "µm"))
        for a in "ZYX"
    )
    return VoxelSize(z, y, x, "OME-XML")


def _from_imagej(tif: tifffile.TiffFile, series: int) -> VoxelSize | None:
    meta = tif.imagej_metadata if tif.is_imagej else None
    if not meta or "unit" not in meta:
        return None
    unit = meta["unit"]
    x = _length(_per_pixel(tif, 282), unit)
    y = _length(_per_pixel(tif, 283), meta.get("yunit", unit))
    z = _length(meta.get("spacing"), meta.get("zunit", unit))
    return VoxelSize(z, y, x, "ImageJ metadata")


def _from_tags(tif: tifffile.TiffFile, series: int) -> VoxelSize | None:
    code = int(tif.pages.first.tags.valueof(296, 1))
    unit, inches = {2: ("inch", 1.0), 3: ("cm", 1 / 2.54)}.get(code, ("", 0.0))
    x, y = _per_pixel(tif, 282), _per_pixel(tif, 283)
    if not unit or x is None or y is None or x == 1:
        return None
    dpi = 1 / (x * inches)
    if any(abs(dpi - n) < 0.005 * n for n in _PRINT_RESOLUTIONS):
        return None
    return VoxelSize(None, _length(y, unit), _length(x, unit), "resolution tags")


def _per_pixel(tif: tifffile.TiffFile, code: int) -> float | None:
    """Give units per pixel from a tag that holds pixels per unit."""
    value = tif.pages.first.tags.valueof(code)
    if value is None or not value[0] or not value[1]:
        return None
    return float(value[1]) / float(value[0])
