"""OME-Zarr images where they are stored: what a group says of its levels, and where these lie."""

from __future__ import annotations

import os
from typing import Any

from scout_dask_io.core.formatting import format_found
from scout_dask_io.core.ome_metadata import Multiscale, parse_image
from scout_dask_io.errors import ArgumentError, ChunkReadError, LayoutError, PathNotFoundError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.store.metadata import Node, attributes_file, read_node
from scout_dask_io.store.nodes import find_node, open_array

#: The group in an image that holds its labels, and the attribute of it that lists them.
LABELS_NAME = "labels"


def ome_attributes(node: Node) -> dict[str, Any]:
    """Give what a group says by OME-Zarr, wherever the version has it."""
    ome = node.attributes.get("ome")
    return ome if isinstance(ome, dict) else node.attributes


def read_image(path: str | os.PathLike[str] | Location) -> Multiscale | None:
    """Give what the group at a path says of its image; ``None`` where there is no such group.

    A URL must be located, with what it takes to reach it.

    Raises
    ------
    LayoutError
        If its metadata are damaged.
    PathNotFoundError
        If an unfinished write lies at a URL.
    """
    return image_of_node(find_node(locate(path)))


def image_of_node(node: Node | None) -> Multiscale | None:
    """Give what a group that was opened says of its image; ``None`` of what is no such group."""
    if node is None or node.kind != "group":
        return None
    file = node.location / attributes_file(node)
    return parse_image(node.attributes, str(node.location), str(file))


def image_above(path: Location) -> tuple[Multiscale, int] | None:
    """Give the image that the array at a path is a level of, and which level."""
    if not path.on_disk and "." in path.name:
        return None  # no writer names a level so, and each look takes a request or more
    # Some writers put a level two folders deep, as "scale0/image".
    groups: tuple[Location, ...] = tuple(path.parents[:2])
    for group in groups:
        try:
            image = read_image(group)
        except (LayoutError, ChunkReadError, FileNotFoundError):
            return None  # the array is read by its own path, whatever is wrong around it
        for number, level in enumerate(() if image is None else image.levels):
            if image is not None and group / level.path == path:
                return image, number
    return None


def lies_under_labels(path: Location) -> bool:
    """Tell whether a level or an image lies where an image keeps its labels, by the groups above.

    Nothing is looked at where no folder above is named so.
    """
    for group in path.parents[:3]:
        if group.name != LABELS_NAME:
            continue
        try:
            node = read_node(group)
            listed = node is not None and LABELS_NAME in ome_attributes(node)
            return listed or read_image(group.parent) is not None
        except (LayoutError, ChunkReadError, FileNotFoundError):
            return False
    return False


def find_level(node: Node, level: int) -> tuple[Node, tuple[Multiscale, int] | None]:
    """Give a level of an image that was opened, and of which image it is which one.

    Of what is no image, level 0 is what it is.

    Raises
    ------
    PathNotFoundError
        If the level is not there.
    ArgumentError
        If there is no such level.
    LayoutError
        If it lies outside of the image.
    """
    image = image_of_node(node)
    n_levels = 1 if image is None else len(image.levels)
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < n_levels:
        what = "array, which has no levels" if image is None else f"image of {n_levels} levels"
        raise ArgumentError(
            f"level {level!r} of {node.location}: it is an {what}; 0 is the full resolution"
        )
    if image is None:
        return node, None
    return open_level_node(node, image, level, reads=True), (image, level)


def open_level_node(node: Node, image: Multiscale, level: int, *, reads: bool = False) -> Node:
    """Give the array that is a level of the image of a group that was opened.

    Raises
    ------
    PathNotFoundError
        If it is not there.
    LayoutError
        If it lies outside of the image, or is damaged.
    """
    place = place_of_level(node.location, image, level)
    try:
        return open_array(place, reads=reads)
    except PathNotFoundError as err:
        raise PathNotFoundError(
            f"{node.location}: no array lies where its multiscales have level {level}, at the path "
            f"{format_found(image.levels[level].path)} of datasets[{level}] in "
            f"{attributes_file(node)} ({err})"
        ) from err


def place_of_level(group: Location, image: Multiscale, level: int) -> Location:
    """Give where a level of an image lies that was read from ``group``.

    Raises
    ------
    LayoutError
        If it lies outside of the image.
    """
    name = image.levels[level].path
    found = group.below(name)
    if found is None or found == group:
        raise LayoutError(
            f"{group}: its level {level} would lie outside of it, or is no name that there can be: "
            f"the path of the dataset is {format_found(name)}"
        )
    return found
