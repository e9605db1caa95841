"""What lies at a place in an object store: an array, an unfinished one, or what is foreign.

Nothing that is no part of a Zarr array or group is ever removed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import OVERWRITE
from scout_dask_io.errors import LayoutError, TargetExistsError
from scout_dask_io.files.location import Location
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.store.layout import INDEX
from scout_dask_io.store.members import check_members
from scout_dask_io.store.metadata import METADATA_FILES, NODE_FILES, is_litter
from scout_dask_io.store.unfinished import in_the_way

#: The object that says that an array or image is not whole.
MARKER_NAME = ".scout-unfinished"
# Of an image that is not whole, levels have no metadata of their own.
_OWN_KEY = re.compile(rf"(?:{INDEX}/)?(?:(?:c[./])?{INDEX}(?:[./]{INDEX})*|c|\.scout[^/]*(?:/.*)?)")


def find_unfinished(path: RemoteLocation) -> dict[str, Any] | None:
    """Give what the marker of an unfinished write says, or ``None`` where there is none.

    Raises
    ------
    LayoutError
        If it cannot be understood.
    """
    return parse_marker(path, (path / MARKER_NAME).read())


def parse_marker(location: Location, raw: bytes | None) -> dict[str, Any] | None:
    """Give what the marker of an unfinished write says that was read; ``None`` of ``None``.

    Raises
    ------
    LayoutError
        If it cannot be understood.
    """
    if raw is None:
        return None
    try:
        found = parse_json(raw)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise LayoutError(f"{location / MARKER_NAME} is damaged: " + OVERWRITE + " starts afresh")


def check_free(path: RemoteLocation, *, overwrite: bool) -> list[str]:
    """Refuse a place that must not be written. Nothing is changed; names are listed.

    Gives the names of what is there, which ``overwrite`` is then to remove.

    Raises
    ------
    TargetExistsError
        If there are objects and ``overwrite`` is not given; or if any is no part
        of a Zarr array, or no level of the image there, which is never removed.
    """
    asked: list[Callable[[], Any]] = [path.is_file, lambda: [name for name, _ in path.find()]]
    if not overwrite:
        asked.append(lambda: find_unfinished(path))
    is_file, names, *begun = path.together(asked)
    if is_file:
        raise TargetExistsError(f"{path} is an object, expected a free name or a Zarr array")
    if any(found is not None for found in begun):
        raise in_the_way(path, "there")
    owned = _owned(names)
    for name in names:
        if name not in owned:
            raise TargetExistsError(
                f"{path} holds {name!r}, which is no part of a Zarr array: it is never removed, "
                + OVERWRITE
                + " or not. Choose another path, or move what is foreign away."
            )
        if not overwrite:
            raise TargetExistsError(
                f"{path} already holds a Zarr array. Choose another path, or give "
                + OVERWRITE
                + ": "
                "it is then removed before the new one is written."
            )
    check_members(path, names)
    return list(names)


def clear(path: RemoteLocation, *, keep_marker: bool, names: Sequence[str] | None = None) -> None:
    """Remove the objects of an array or group, metadata first, so that no part of it reads as one.

    The group's own come before those of its members. ``names`` are those of all that is there,
    where it was listed.
    """
    owned = _owned([name for name, _ in path.find()] if names is None else names)
    found = sorted(owned - ({MARKER_NAME} if keep_marker else set()), key=_depth)
    path.remove([name for name in found if _is_node_file(name)])
    path.remove([name for name in found if not _is_node_file(name)])


def _owned(names: Sequence[str]) -> set[str]:
    """Give those objects, of all below a place, that are part of a Zarr array or group there.

    What is no part of it itself belongs to an array or group below, down to which
    there are groups all the way.
    """
    there = set(names)
    nodes = {""}
    for name in sorted(filter(_is_node_file, names), key=_depth):
        node = name.rpartition("/")[0]
        above = node.rpartition("/")[0]
        marks = (".zgroup", "zarr.json", MARKER_NAME)
        if above in nodes and any(_join(above, mark) in there for mark in marks):
            nodes.add(node)
    found = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder not in nodes:
            folder = folder.rpartition("/")[0]
        rest = name[len(folder) :].lstrip("/")
        if rest in METADATA_FILES or _OWN_KEY.fullmatch(rest):
            found.add(name)
        above, _, last = rest.rpartition("/")
        # Of a file manager, in a node's own folders; where there is no node it is foreign.
        is_node = any(_join(folder, mark) in there for mark in (*NODE_FILES, MARKER_NAME))
        if is_node and is_litter(last) and (not above or _OWN_KEY.fullmatch(above)):
            found.add(name)
    return found


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _depth(name: str) -> tuple[int, str]:
    return name.count("/"), name


def _is_node_file(name: str) -> bool:
    return name.rpartition("/")[2] in NODE_FILES
