"""Planes that could not be read and hold the fill value: on record wherever they go.

Why it is short: what is on record of a stored array is in the store.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dask.array as da

from scout_dask_io.core.grid import Region
from scout_dask_io.core.image_info import FilledPlane
from scout_dask_io.core.source import Source
from scout_dask_io.run.lazy import source_of, sources_in
from scout_dask_io.store.image_info import FILLED_ATTRIBUTE


def filled_in(data: Any) -> tuple[FilledPlane, ...]:
    """Give the filled planes in what a reader gave, or in what an array was computed from.

    Of a computed array, a slice too, it is known which files are lacking in what
    it was made from, not which of its planes that concerns. Of stored arrays,
    their attributes are read.
    """
    if isinstance(data, Source):
        return data.filled
    if not isinstance(data, da.Array):
        return ()
    source = source_of(data)
    if source is not None:
        return source.filled
    found = (replace(f, plane=()) for source in sources_in(data) for f in source.filled)
    return tuple(dict.fromkeys(found))


def attributes_with_filled(attributes: dict[str, Any] | None, data: Any) -> dict[str, Any] | None:
    """Give the attributes of an array that is written from ``data``, with its filled planes."""
    found = filled_in(data)
    if not found:
        return attributes
    return {**(attributes or {}), FILLED_ATTRIBUTE: [f.record for f in found]}


def filled_record(region: Region, data: Any) -> dict[str, list[Any]]:
    """Give what the filled planes in data add to the record of the array they go into.

    It is added before the region is written: a record of too much is no harm.
    """
    found = filled_in(data)
    offset = [s.start for s in region]
    moved = [replace(f, plane=tuple(p + o for p, o in zip(f.plane, offset, strict=False)))
             for f in found]  # fmt: skip
    return {FILLED_ATTRIBUTE: [f.record for f in dict.fromkeys(moved)]} if found else {}
