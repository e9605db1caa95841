"""The labels that an image keeps below itself: their group, and the list in it.

Readers find labels by the list alone, so that who writes some adds their name, and takes none
of another away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scout_dask_io.core.messages import warn
from scout_dask_io.core.ome_metadata import LABEL_KEY
from scout_dask_io.errors import ArgumentError, ChunkReadError, LayoutError, PathNotFoundError
from scout_dask_io.files.location import Location, as_local
from scout_dask_io.files.system import WINDOWS, locked, refused_name
from scout_dask_io.store.image import LABELS_NAME, image_of_node, ome_attributes
from scout_dask_io.store.metadata import Node, read_node, replace_attributes
from scout_dask_io.store.nodes import open_node
from scout_dask_io.store.unfinished import group_documents

# In a store two writers may list at once, of which the second takes the place of the first.
_TRIES = 4


def label_place(image: Location, name: str) -> Location:
    """Give where labels of a name lie in an image.

    Raises
    ------
    ArgumentError
        If that is no name of a group.
    """
    good = isinstance(name, str) and name.strip() == name and not set(name) & set("/\\")
    good = good and not (WINDOWS and refused_name(name))
    if not good or not name or name.startswith(".") or name == "zarr.json":
        raise ArgumentError(
            f"the name of labels must be that of one folder, such as 'cells', got {name!r}"
        )
    return image / LABELS_NAME / name


def labels_in(image: Location) -> tuple[str, ...]:
    """Give the names of the labels that an image lists; none where it keeps none."""
    try:
        node = read_node(image / LABELS_NAME)
    except (LayoutError, ChunkReadError):
        return ()
    return () if node is None else tuple(map(str, _listed(node)))


def open_label(image: Location, name: str) -> Node:
    """Give the node of labels of an image.

    Raises
    ------
    PathNotFoundError
        If there are none of this name; those that there are are named.
    """
    place = label_place(image, name)
    try:
        return open_node(place)
    except PathNotFoundError as err:
        found = ", ".join(map(repr, labels_in(image)))
        held = f"it lists the labels {found}" if found else "it lists no labels"
        raise PathNotFoundError(f"{image} has no labels {name!r}: {held}.") from err


def list_label(path: Location) -> None:
    """Add labels that stand below an image to its list, which is made where there is none.

    Whatever is no label image below the ``labels`` of an image is left alone. On a disk under a
    lock; in a store the list is read again, and written until the name is in it.

    Raises
    ------
    WriteError
        If the list cannot be written: the labels stand all the same.
    """
    group, name = path.parent, path.name
    if group.name != LABELS_NAME:
        return
    image, labels = read_node(group.parent), read_node(path)
    if image is None or image_of_node(image) is None or labels is None:
        return
    if LABEL_KEY not in ome_attributes(labels):
        return
    with _one_writer(group):
        for _ in range(_TRIES):
            if not _add(group, name, image):
                break
    consolidated = image.metadata.get("consolidated_metadata") or image.head(".zmetadata")
    if consolidated:
        warn(
            f"{image.location} has consolidated metadata, which do not know of the labels "
            f"{name!r}: readers that go by them alone find these once they are consolidated again"
        )


def _add(group: Location, name: str, image: Node) -> bool:
    """Add a name to the list, and tell whether it was not there."""
    node = read_node(group)
    if node is None:
        said: dict[str, Any] = {LABELS_NAME: [name]}
        if image.zarr_format == 3:
            said = {"ome": {"version": "0.5", **said}}
        for file, content in group_documents(image.zarr_format, said).items():
            (group / file).write(content)
        return True
    there = _listed(node)
    if name in there:
        return False
    attributes = dict(node.attributes)
    if node.zarr_format == 3:
        own = attributes.get("ome")
        own = own if isinstance(own, dict) else {"version": "0.5"}
        attributes["ome"] = {**own, LABELS_NAME: [*there, name]}
    else:
        attributes[LABELS_NAME] = [*there, name]
    replace_attributes(node, attributes)
    return True


def _listed(node: Node) -> list[Any]:
    found = ome_attributes(node).get(LABELS_NAME)
    return found if isinstance(found, list) else []


@contextmanager
def _one_writer(group: Location) -> Iterator[None]:
    if not group.on_disk:
        yield
        return
    with locked(as_local(group)):
        yield
