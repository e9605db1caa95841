"""What TIFF files state about their channels: names and colours. Metadata alone, no pixels.

Sources: the OME schema 2016-06, ``Channel`` (``Name``, and ``Color`` as a signed 32-bit
integer of red, green, blue and alpha, from the highest byte to the lowest); and ImageJ's
metadata, whose ``LUTs`` have 256 reds, greens and blues a channel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tifffile

from scout_dask_io.tiff.stated import ask, local_name, ome_pixels

__all__ = ["NO_CHANNELS", "Channels", "ome_color", "stated_channels"]

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
    for find in (_from_shaped, _from_ome, _from_imagej):
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


def _from_shaped(tif: tifffile.TiffFile, series: int) -> Channels:
    found = tif.shaped_metadata
    said: dict[str, Any] = found[0] if found else {}
    names, colors = said.get("channels", ()), said.get("colors", ())
    return Channels(tuple(map(str, names)), tuple(map(str, colors)))


def _from_ome(tif: tifffile.TiffFile, series: int) -> Channels:
    pixels = ome_pixels(tif, series)
    found = [] if pixels is None else [e for e in pixels if local_name(e) == "Channel"]
    return Channels(
        tuple((e.get("Name") or "").strip() for e in found),
        tuple(f"{(int(e.get('Color') or 0) & 0xFFFFFFFF) >> 8:06X}" for e in found),
    )


def _from_imagej(tif: tifffile.TiffFile, series: int) -> Channels:
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
