"""What an overwrite would take along: labels and other groups inside of what is replaced.

An image is its levels. What lies in its group beside them, such as a segmentation under
``labels/``, is somebody's work of its own, and no overwrite of the image removes it; nor does
one of a group remove the images that are collected in it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from typing import Any

from scout_dask_io.core.messages import OVERWRITE
from scout_dask_io.errors import ChunkReadError, LayoutError, TargetExistsError
from scout_dask_io.files.location import Location
from scout_dask_io.store.layout import OWN_PREFIX
from scout_dask_io.store.metadata import NODE_FILES, Node, read_node

#: What the attributes of a group say where it is an image, or collects some.
_OME_KEYS = ("multiscales", "labels", "plate", "well", "bioformats2raw.layout", "image-label")


def check_members(location: Location, names: Iterable[str] | None = None) -> None:
    """Refuse to replace what holds labels or other nodes that are no part of it.

    Reads the metadata of the node, and of groups in it where it is no image. Changes nothing.

    Parameters
    ----------
    location : Location
        What is to be overwritten.
    names : iterable of str, optional
        All that lies below, where it was listed already.

    Raises
    ------
    TargetExistsError
        If there is any, naming it.
    """
    nodes = sorted(_nodes_below(location) if names is None else _nodes_among(names))
    if not nodes:
        return
    node = _read(location)
    attributes = None if node is None else _ome_attributes(node)
    if attributes is None:
        # Of an image that is not whole or is damaged, numbers are levels.
        kept = [name for name in nodes if not name.split("/")[0].isdigit()]
    elif "multiscales" in attributes:
        levels = _level_paths(attributes["multiscales"])
        kept = [n for n in nodes if not any(f"{own}/".startswith(f"{n}/") for own in levels)]
    else:
        kept = [name for name in nodes if _is_ome(_read(location / name))]
    if not kept:
        return
    top = [n for n in kept if posixpath.dirname(n) not in kept]
    told = ", ".join(repr(name) for name in top[:5]) + (" and others" if len(top) > 5 else "")
    raise TargetExistsError(
        f"{location} also holds {told}, no part of what is replaced, which "
        + OVERWRITE
        + " would remove: nothing was changed. Move what is to be kept away, or remove it "
        "yourself, or choose another path."
    )


def _nodes_among(names: Iterable[str]) -> set[str]:
    found = (name.rpartition("/") for name in names)
    return {
        folder
        for folder, _, name in found
        if folder and name in NODE_FILES and not folder.startswith(OWN_PREFIX)
    }


def _nodes_below(location: Location, above: str = "") -> Iterator[str]:
    """Yield the names of the nodes below a group on a disk; no folder of an array is listed."""
    if not (node := _read(location)) or node.kind != "group":
        return
    for entry, is_folder in location.entries():
        if is_folder and not entry.name.startswith(OWN_PREFIX) and _read(entry) is not None:
            name = f"{above}{entry.name}"
            yield name
            yield from _nodes_below(entry, f"{name}/")


def _read(location: Location) -> Node | None:
    try:
        return read_node(location)
    except (LayoutError, ChunkReadError):
        return None


def _ome_attributes(node: Node) -> dict[str, Any] | None:
    """Give what a node says of an image; ``None`` where that cannot be read."""
    try:
        ome = node.attributes.get("ome")
        return ome if isinstance(ome, dict) else node.attributes
    except (LayoutError, ChunkReadError):
        return None


def _is_ome(node: Node | None) -> bool:
    if node is None or node.kind != "group":
        return False
    attributes = _ome_attributes(node)
    return attributes is None or any(key in attributes for key in _OME_KEYS)


def _level_paths(multiscales: Any) -> set[str]:
    """Give where the levels of the images that metadata state lie; damaged entries have none."""
    found = set()
    for image in multiscales if isinstance(multiscales, list) else ():
        datasets = image.get("datasets") if isinstance(image, dict) else None
        for entry in datasets if isinstance(datasets, list) else ():
            if isinstance(entry, dict):
                found.add(posixpath.normpath(str(entry.get("path", ""))))
    return found
