"""Planes that could not be read and hold the fill value: on record wherever they go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da

from scout_dask_io.core.grid import Region
from scout_dask_io.core.source import FilledPlane, Source
from scout_dask_io.files.location import RemotePath
from scout_dask_io.run.lazy import SourceLayer, source_of
from scout_dask_io.store.manifest import noted, read_manifest
from scout_dask_io.store.metadata import read_attributes, read_node
from scout_dask_io.store.source import ChunkFileSource, ZarrSource

#: Attribute of a stored array: a list of ``{"plane", "file", "reason"}``.
FILLED_ATTRIBUTE = "filled_planes"


def filled_in(data: Any) -> tuple[FilledPlane, ...]:
    """Give the filled planes in what a reader gave, or in what an array was computed from.

    Of a computed array, a slice too, it is known which files are lacking in what
    it was made from, not which of its planes that concerns. Of stored arrays,
    their attributes are read.
    """
    if isinstance(data, Source):
        return _of_source(data)
    if not isinstance(data, da.Array):
        return ()
    source = source_of(data)
    if source is not None:
        return _of_source(source)
    layers = [x for x in getattr(data.dask, "layers", {}).values() if isinstance(x, SourceLayer)]
    found = (replace(f, plane=()) for layer in layers for f in _of_source(layer.source))
    return tuple(dict.fromkeys(found))


def _of_source(source: Source) -> tuple[FilledPlane, ...]:
    if isinstance(source, (ChunkFileSource, ZarrSource)):
        return filled_of(source.root)
    return source.filled


def filled_of(path: str | os.PathLike[str] | RemotePath) -> tuple[FilledPlane, ...]:
    """Give the filled planes of a stored array: by its attributes, or else its manifest.

    Raises
    ------
    LayoutError
        If its metadata are damaged, or its manifest is.
    """
    node = read_node(path)
    if node is None or node.kind != "array":
        return ()
    found = read_attributes(path, node).get(FILLED_ATTRIBUTE)
    if found is None:
        manifest = read_manifest(path if isinstance(path, RemotePath) else Path(path))
        attributes = None if manifest is None else manifest.settings.get("attributes")
        found = attributes.get(FILLED_ATTRIBUTE) if isinstance(attributes, dict) else None
    elif isinstance(path, RemotePath):
        # Of two that add to the attributes of an object at once, one may lose: not its note.
        found = [*(found if isinstance(found, list) else []), *noted(path, FILLED_ATTRIBUTE)]
    return tuple(dict.fromkeys(_parsed(found))) if isinstance(found, list) else ()


def _parsed(entries: Sequence[Any]) -> Iterable[FilledPlane]:
    for entry in entries:
        try:
            plane = tuple(int(n) for n in entry["plane"] or ())
            yield FilledPlane(plane, str(entry["file"]), str(entry["reason"]))
        except (TypeError, ValueError, KeyError):
            # Never silent: whoever changed the record, something was filled.
            yield FilledPlane((), "?", f"its record cannot be understood: {entry!r}")


def attributes_with_filled(attributes: dict[str, Any] | None, data: Any) -> dict[str, Any] | None:
    """Give the attributes of an array that is written from ``data``, with its filled planes."""
    found = filled_in(data)
    if not found:
        return attributes
    return {**(attributes or {}), FILLED_ATTRIBUTE: _record(found)}


def filled_record(region: Region, data: Any) -> dict[str, list[Any]]:
    """Give what the filled planes in data add to the record of the array they go into.

    It is added before the region is written: a record of too much is no harm.
    """
    found = filled_in(data)
    if not found:
        return {}
    offset = [s.start for s in region]
    moved = [replace(f, plane=tuple(p + o for p, o in zip(f.plane, offset, strict=False)))
             for f in found]  # fmt: skip
    return {FILLED_ATTRIBUTE: _record(dict.fromkeys(moved))}


def _record(found: Iterable[FilledPlane]) -> list[dict[str, Any]]:
    return [{"plane": list(f.plane) or None, "file": f.file, "reason": f.reason} for f in found]
