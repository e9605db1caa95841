"""What TIFF files, and the ``voxel_size.csv`` beside them, state about the size of a voxel.

What TIFF files state about their channels: names and colours. Metadata alone, no pixels.

Sources: the OME schema 2016-06, ``Channel`` (``Name``, and ``Color`` as a signed 32-bit
integer of red, green, blue and alpha, from the highest byte to the lowest); and ImageJ's
metadata, whose ``LUTs`` have 256 reds, greens and blues a channel.

Asking an open TIFF file what it states beside its pixels, whatever is in its metadata.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar
from xml.etree import ElementTree

import numpy as np
import tifffile

from scout_dask_io.core.messages import Option, warn
from scout_dask_io.core.voxel_size import ATTRIBUTE, VoxelSize, from_attribute, micrometres_of
from scout_dask_io.errors import ChunkReadError, LayoutError, ScoutIOError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.tiff.open_file import OpenFile, opened
from scout_dask_io.tiff.page_layout import SourceFile
from scout_dask_io.tiff.series import open_tiff

#: SCOUT's file of voxel sizes: three numbers (z, y, x) in nanometres, comma-separated.
CSV_NAME = "voxel_size.csv"

#: Dots per inch that programs write when they know of no size.
_PRINT_RESOLUTIONS = (72, 96, 100, 150, 200, 300, 600, 1200)


def csv_size(folder: str | os.PathLike[str] | Location) -> VoxelSize | None:
    """Give what SCOUT's ``voxel_size.csv`` in a folder says, ``None`` if there is none.

    Warns
    -----
    UserWarning
        If it is not three sizes, or cannot be read; it then does not count.
    """
    place = locate(folder) / CSV_NAME
    path = str(place)
    try:
        text = _start_of(place)
    except OSError as err:
        warn(
            f"{path!r} cannot be read ({err.strerror or err}), so the voxel size that it states is "
            "not known. Give " + Option("voxel_size", "") + ", or mend the cause and try again."
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
        warn(
            f"{path!r} does not count: expected one line of three numbers z,y,x in nanometres, "
            f"found {text[:80]!r}. Correct it, or give " + Option("voxel_size", "") + "."
        )
        return None
    # Divided: 700 times 0.001 is not 0.7.
    z, y, x = (None if v is None else v / 1000 for v in found.micrometres)
    return VoxelSize(z, y, x, path)


def _start_of(place: Location) -> str | None:
    """Give the first thousand bytes of a text file; ``None`` where there is none."""
    try:
        data = place.read(1000)
    except LayoutError as err:
        raise (err.__cause__ if isinstance(err.__cause__, OSError) else OSError(str(err))) from err
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
        opened(locate(path)) as (fd, file),
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


_WHITE, _BLACK = "FFFFFF", "000000"


class Channels(NamedTuple):
    """Names and colours (six hexadecimal digits), one a channel; empty where not stated."""

    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()


NO_CHANNELS = Channels()


def stated_channels(tif: tifffile.TiffFile, n: int, series: int = 0) -> Channels:
    """Give what an open file states about the ``n`` channels of a series.

    Of the description that this library writes, OME-XML, and ImageJ's metadata, what
    the first of them states. What is not stated of each channel is not stated, but
    for a name: such a channel has its number. Nor are colours that show nothing, black,
    and white of several channels, which the OME schema has for a channel of no colour.
    """
    names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    for find in (_channels_of_shaped, _channels_of_ome, _channels_of_imagej):
        found = ask(find, tif, series) or NO_CHANNELS
        names = names or _names(found.names, n)
        colors = colors or _colors(found.colors, n)
    return Channels(names, colors)


def ome_color(color: str) -> int:
    """Give six hexadecimal digits as OME-XML has them.

    Examples
    --------
    >>> ome_color("FF0000"), ome_color("0000FF")
    (-16776961, 65535)
    """
    value = int(color + "FF", 16)
    return value - 2**32 if value >= 2**31 else value


def _names(found: Sequence[str], n: int) -> tuple[str, ...]:
    if len(found) != n or not any(found):
        return ()
    return tuple(name or str(k) for k, name in enumerate(found))


def _colors(found: Sequence[str], n: int) -> tuple[str, ...]:
    """Give the colours if there is one of each channel and they show something."""
    stated = len(found) == n and all(re.fullmatch("[0-9A-F]{6}", c) for c in found)
    if not stated or _BLACK in found or (n > 1 and set(found) == {_WHITE}):
        return ()
    return tuple(found)


def _channels_of_shaped(tif: tifffile.TiffFile, series: int) -> Channels:
    found = tif.shaped_metadata
    said: dict[str, Any] = found[0] if found else {}
    names, colors = said.get("channels", ()), said.get("colors", ())
    return Channels(tuple(map(str, names)), tuple(map(str, colors)))


def _channels_of_ome(tif: tifffile.TiffFile, series: int) -> Channels:
    pixels = ome_pixels(tif, series)
    found = [] if pixels is None else [e for e in pixels if local_name(e) == "Channel"]
    return Channels(
        tuple((e.get("Name") or "").strip() for e in found),
        tuple(f"{(int(e.get('Color') or 0) & 0xFFFFFFFF) >> 8:06X}" for e in found),
    )


def _channels_of_imagej(tif: tifffile.TiffFile, series: int) -> Channels:
    meta = tif.imagej_metadata if tif.is_imagej else None
    if not meta:
        return NO_CHANNELS
    # As this library writes them, for Image > Show Info.
    lines = dict(_numbered_names(str(meta.get("Info", ""))))
    names = tuple(lines.get(k, "") for k in range(1, max(lines, default=0) + 1))
    luts = meta.get("LUTs") if meta.get("mode") != "grayscale" else None
    colors = tuple(_brightest(lut) for lut in luts) if luts is not None else ()
    return Channels(names, colors)


def _numbered_names(info: str) -> Iterator[tuple[int, str]]:
    for number, name in re.findall(r"^Channel (\d{1,4}): (.+)$", info, re.MULTILINE):
        yield int(number), name.strip()


def _brightest(lut: Any) -> str:
    red, green, blue = np.asarray(lut, np.uint8).reshape(3, 256)[:, -1].tolist()
    return f"{red:02X}{green:02X}{blue:02X}"


_T = TypeVar("_T")

# What metadata that make no sense raise, here and in tifffile.
_NONSENSE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ZeroDivisionError,
    IndexError,
    ElementTree.ParseError,
)


def ask(
    find: Callable[[tifffile.TiffFile, int], _T], tif: tifffile.TiffFile, series: int
) -> _T | None:
    """Give what a function finds about a series, ``None`` where the metadata make no sense."""
    try:
        return find(tif, series)
    except _NONSENSE:
        return None


def ome_pixels(tif: tifffile.TiffFile, series: int) -> ElementTree.Element | None:
    """Give the ``Pixels`` element of a series, ``None`` where OME-XML has none."""
    if not tif.is_ome or not tif.ome_metadata:
        return None
    root = ElementTree.fromstring(tif.ome_metadata)
    pixels = [e for e in root.iter() if local_name(e) == "Pixels"]
    return pixels[series] if series < len(pixels) else None


def local_name(element: ElementTree.Element) -> str:
    """Give the name of an element without its namespace."""
    return element.tag.rpartition("}")[2]
