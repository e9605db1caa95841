"""Asking an open TIFF file what it states beside its pixels, whatever is in its metadata."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from xml.etree import ElementTree

import tifffile

_T = TypeVar("_T")

__all__ = ["ask", "local_name", "ome_pixels"]

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
