"""The size of a voxel, where a file says it in a unit of length; nothing is guessed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import tifffile

__all__ = ["VoxelSize", "voxel_size"]

_MICROMETRES = {
    "pm": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25400.0,
    "inch": 25400.0,
}
#: Dots per inch that programs write when they know of no size.
_PRINT_RESOLUTIONS = frozenset({1, 72, 96, 100, 150, 200, 300, 600, 1200})


@dataclass(frozen=True, slots=True)
class VoxelSize:
    """Extent of a voxel per axis in micrometres, ``None`` where the file does not say.

    ``source`` tells where it was found: ``"OME"``, ``"ImageJ"`` or
    ``"resolution tags"``.
    """

    z: float | None
    y: float | None
    x: float | None
    source: str

    @property
    def micrometres(self) -> tuple[float | None, float | None, float | None]:
        """The extents as ``(z, y, x)``."""
        return self.z, self.y, self.x


def voxel_size(tif: tifffile.TiffFile, series: int = 0) -> VoxelSize | None:
    """Give the voxel size that an open file states, or ``None``.

    OME metadata comes first, then ImageJ's, then the resolution tags. Values
    without a unit of length, zeros, and print resolutions such as 72 dpi are
    no sizes.
    """
    for find in (_from_ome, _from_imagej, _from_tags):
        try:
            found = find(tif, series)
        except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError):
            continue
        except ElementTree.ParseError:
            continue
        if found is not None and any(v is not None for v in found.micrometres):
            return found
    return None


def _length(value: Any, unit: Any) -> float | None:
    """Give a length in micrometres, ``None`` where value or unit makes no sense."""
    # Greek mu and the micro sign are different characters that look the same;
    # ImageJ writes an escape of six characters.
    name = str(unit).strip().lower()
    for mu in ("\\u00b5", "\u03bc"):
        name = name.replace(mu, "\u00b5")
    scale = _MICROMETRES.get(name)
    if value is None or scale is None:
        return None
    length = float(value) * scale
    return length if math.isfinite(length) and length > 0 else None


def _from_ome(tif: tifffile.TiffFile, series: int) -> VoxelSize | None:
    if not tif.is_ome or not tif.ome_metadata:
        return None
    root = ElementTree.fromstring(tif.ome_metadata)
    pixels = [e for e in root.iter() if e.tag.endswith("}Pixels") or e.tag == "Pixels"]
    if series >= len(pixels):
        return None
    given = pixels[series].attrib
    z, y, x = (
        _length(given.get(f"PhysicalSize{a}"), given.get(f"PhysicalSize{a}Unit", "µm"))
        for a in "ZYX"
    )
    return VoxelSize(z, y, x, "OME")


def _from_imagej(tif: tifffile.TiffFile, series: int) -> VoxelSize | None:
    meta = tif.imagej_metadata if tif.is_imagej else None
    if not meta or "unit" not in meta:
        return None
    unit = meta["unit"]
    x = _length(_per_pixel(tif, 282), unit)
    y = _length(_per_pixel(tif, 283), meta.get("yunit", unit))
    z = _length(meta.get("spacing"), meta.get("zunit", unit))
    return VoxelSize(z, y, x, "ImageJ")


def _from_tags(tif: tifffile.TiffFile, series: int) -> VoxelSize | None:
    unit = {2: "inch", 3: "cm"}.get(int(tif.pages.first.tags.valueof(296, 1)))
    x, y = _per_pixel(tif, 282), _per_pixel(tif, 283)
    if unit is None or x is None or y is None or round(1 / x, 6) in _PRINT_RESOLUTIONS:
        return None
    return VoxelSize(None, _length(y, unit), _length(x, unit), "resolution tags")


def _per_pixel(tif: tifffile.TiffFile, code: int) -> float | None:
    """Give units per pixel from a tag that holds pixels per unit."""
    value = tif.pages.first.tags.valueof(code)
    if value is None or not value[0] or not value[1]:
        return None
    return float(value[1]) / float(value[0])
