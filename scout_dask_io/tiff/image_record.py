"""What a TIFF file carries of an image in a record of this library, or of the time between frames.

The record holds what a kind of TIFF file has no place for; see ``core.ome_metadata``. It lies in
the description of a plain file, in an annotation of OME-XML, or in ImageJ's Info.

Sources: the OME schema 2016-06, ``CommentAnnotation`` and ``TimeIncrement``; and ImageJ's
description, whose ``finterval`` is in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from xml.etree import ElementTree

import tifffile

from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.ome_metadata import RECORD_KEY
from scout_dask_io.tiff.ome_xml import ome_root

_T = TypeVar("_T")

#: What metadata that make no sense raise, here and in tifffile.
NONSENSE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ZeroDivisionError,
    IndexError,
    ElementTree.ParseError,
)

#: Of the annotation in OME-XML that holds what OME-XML has no place for.
NAMESPACE = "scout-dask-io/image_frame"
#: Units of time, by their names in OME-Zarr: as OME-XML has them, and in seconds.
TIME_UNITS = {
    "nanosecond": "ns",
    "microsecond": "µs",
    "millisecond": "ms",
    "second": "s",
    "minute": "min",
    "hour": "h",
    "day": "d",
}
SECONDS = dict(zip(TIME_UNITS, (1e-9, 1e-6, 1e-3, 1.0, 60.0, 3600.0, 86400.0), strict=True))


def record_of(
    tif: tifffile.TiffFile,
    shaped: Mapping[str, Any],
    pixels: ElementTree.Element | None,
    imagej: dict[str, Any],
) -> dict[str, Any]:
    """Give the record of an open file, or one of the time step alone; empty where nothing is said.

    ``shaped``, ``pixels`` and ``imagej`` are its metadata of each kind, parsed.
    """
    for find in (
        lambda: shaped.get(RECORD_KEY),
        lambda: _annotation_of(tif),
        lambda: _record_of_imagej(imagej),
        lambda: _time_step(*_step_of_ome(pixels)),
        lambda: _time_step(*_step_of_imagej(imagej)),
    ):
        found = ask(find)
        if isinstance(found, dict) and found:
            return found
    return {}


def coarser(record: dict[str, Any], times: Mapping[str, float]) -> dict[str, Any]:
    """Give a record of a lower level, whose pixels are the means of so many along each axis."""
    axes = record.get("axes")
    if not isinstance(axes, list):
        return record
    return {**record, "axes": [_coarser(axis, times) for axis in axes]}


def _coarser(axis: Any, times: Mapping[str, float]) -> Any:
    """Give the record of an axis at a lower level, whose pixels are the means of so many."""
    n = times.get(axis.get("name", ""), 1.0) if isinstance(axis, dict) else 1.0
    if n == 1.0:
        return axis
    scale, shift = axis.get("scale"), axis.get("translation", 0.0)
    step = 1.0 if scale is None else scale
    found = ask(lambda: {"scale": step * n, "translation": shift + step * (n - 1) / 2})
    return {**axis, **(found or {})}


def _annotation_of(tif: tifffile.TiffFile) -> Any:
    """Give the record that this library puts in OME-XML; the first, of several images."""
    root = ome_root(tif)
    for note in () if root is None else root.iter():
        if note.get("Namespace") == NAMESPACE:
            return parse_json("".join(note.itertext()))
    return None


def _record_of_imagej(meta: dict[str, Any]) -> Any:
    for line in str(meta.get("Info", "")).splitlines():
        if line.startswith(f"{RECORD_KEY}: "):
            return parse_json(line.removeprefix(f"{RECORD_KEY}: "))
    return None


def _step_of_ome(pixels: ElementTree.Element | None) -> tuple[Any, Any]:
    given = {} if pixels is None else pixels.attrib
    units = {symbol: name for name, symbol in TIME_UNITS.items()}
    return given.get("TimeIncrement"), units.get(given.get("TimeIncrementUnit", "s"))


def _step_of_imagej(meta: dict[str, Any]) -> tuple[Any, Any]:
    unit = str(meta.get("tunit", "sec")).strip().lower()
    return meta.get("finterval"), "second" if unit in ("s", "sec", "second", "seconds") else None


def _time_step(step: Any, unit: Any) -> dict[str, Any] | None:
    """Give a record of the time from one moment to the next; ``None`` where it is none."""
    seconds = 0.0 if step is None or unit is None else float(step)
    if not (math.isfinite(seconds) and seconds > 0):
        return None
    return {"axes": [{"name": "t", "scale": seconds, "unit": unit}]}


def ask(find: Callable[[], _T | None]) -> _T | None:
    """Give what a function finds, ``None`` where the metadata make no sense."""
    try:
        return find()
    except NONSENSE:
        return None
