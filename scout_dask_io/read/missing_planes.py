"""Planes that could not be read and hold the fill value: on record wherever they go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import dask.array as da

from scout_dask_io.core.grid import Region
from scout_dask_io.core.source import FilledPlane, Source
from scout_dask_io.files.location import Location, locate
from scout_dask_io.run.lazy import SourceLayer, source_of
from scout_dask_io.store.manifest import MANIFEST_NAME, parse_manifest
from scout_dask_io.store.metadata import Node, read_node, replace_attributes
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


def filled_of(path: str | os.PathLike[str] | Location) -> tuple[FilledPlane, ...]:
    """Give the filled planes of a stored array: by its attributes, or else its manifest.

    Raises
    ------
    LayoutError
        If its metadata are damaged, or its manifest is.
    """
    return filled_of_node(read_node(locate(path), (MANIFEST_NAME,)))


def filled_of_node(node: Node | None) -> tuple[FilledPlane, ...]:
    """Give the filled planes of an array that was opened, as :func:`filled_of` does."""
    if node is None or node.kind != "array":
        return ()
    found = node.attributes.get(FILLED_ATTRIBUTE)
    if found is None:
        data = node.file(MANIFEST_NAME)
        settings = {} if data is None else parse_manifest(data, node.location).settings
        attributes = settings.get("attributes")
        found = attributes.get(FILLED_ATTRIBUTE) if isinstance(attributes, dict) else None
    return tuple(_parsed(found)) if isinstance(found, list) else ()


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


def note_filled(path: Location, region: Region, data: Any) -> None:
    """Add the filled planes in data that go into a region to the record of an array that stands.

    The attributes are replaced in one step. It is done before the region is
    written: a record of too much is no harm.
    """
    found = filled_in(data)
    node = read_node(path)
    if not found or node is None:
        return
    offset = [s.start for s in region]
    moved = [replace(f, plane=tuple(p + o for p, o in zip(f.plane, offset, strict=False)))
             for f in found]  # fmt: skip
    every = tuple(dict.fromkeys([*filled_of_node(node), *moved]))
    replace_attributes(node, {**node.attributes, FILLED_ATTRIBUTE: _record(every)})


def _record(found: Iterable[FilledPlane]) -> list[dict[str, Any]]:
    return [{"plane": list(f.plane) or None, "file": f.file, "reason": f.reason} for f in found]
