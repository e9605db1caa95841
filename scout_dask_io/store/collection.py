"""Groups that hold images and are none: plates, wells, collections; where an image lies in one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

from scout_dask_io.errors import ChunkReadError, LayoutError, PathNotFoundError
from scout_dask_io.files.location import Location
from scout_dask_io.store.conventions import group_text
from scout_dask_io.store.image import ome_attributes, read_image
from scout_dask_io.store.metadata import Node, read_node

#: So many images are named.
_NAMED = 4


def held_by(node: Node) -> str:
    """Say what a group holds, and what to give: an array, or an image in a group below it."""
    below = _folders_in(node.location)
    # A SpatialData collection has its images one group deeper.
    for name in ("images", "labels") if "spatialdata_attrs" in node.attributes else ():
        below += [f"{name}/{inner}" for inner in _folders_in(node.location / name)]
    images: list[str] = []
    for name in chain(sorted(below), _fields_of(node)):
        with suppress(LayoutError, PathNotFoundError, ChunkReadError):
            place = node.location.below(name)
            if place is None or str(place) in images:
                continue
            if read_image(place) is not None:
                images.append(str(place))
        if len(images) == _NAMED:
            break
    if not images:
        return group_text(node)
    return f"it holds images. Give one of them, as {', '.join(images)}."


def _fields_of(node: Node) -> Iterator[str]:
    """Yield where the images of a plate lie, or of a well: in the fields that a well names."""
    said = ome_attributes(node)
    plate, well = said.get("plate"), said.get("well")
    if isinstance(well, dict):
        yield from _paths(well.get("images"))
    for path in _paths(plate.get("wells")) if isinstance(plate, dict) else ():
        own: Any = None
        with suppress(LayoutError, ChunkReadError):
            place = node.location.below(path)
            found = None if place is None else read_node(place)
            own = None if found is None else ome_attributes(found).get("well")
        fields = _paths(own.get("images")) if isinstance(own, dict) else []
        yield from (f"{path}/{field}" for field in fields or ["0"])


def _paths(entries: Any) -> list[str]:
    """Give the paths of a list of entries as OME-Zarr has them."""
    found = entries if isinstance(entries, list) else []
    return [str(e["path"]) for e in found if isinstance(e, dict) and e.get("path")]


def _folders_in(place: Location) -> list[str]:
    with suppress(ChunkReadError, FileNotFoundError):
        return [child.name for child in place.children() if child.is_folder]
    return []  # of a store that lists nothing
