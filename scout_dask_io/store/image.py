"""OME-Zarr images where they are stored: what a group says of its levels, and where these lie."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

from scout_dask_io.core.ome_metadata import Multiscale, parse_image
from scout_dask_io.errors import ArgumentError, ChunkReadError, LayoutError
from scout_dask_io.files.location import AnyPath, RemotePath, locate
from scout_dask_io.store.metadata import read_attributes, read_node
from scout_dask_io.store.nodes_remote import check_whole


def read_image(path: AnyPath | str | os.PathLike[str]) -> Multiscale | None:
    """Give what the group at a path says of its image; ``None`` where there is no such group.

    A URL must be located, with what it takes to reach it.

    Raises
    ------
    LayoutError
        If its metadata are damaged.
    PathNotFoundError
        If an unfinished write lies at a URL.
    """
    found = locate(path)
    if isinstance(found, RemotePath):
        check_whole(found)
    elif not found.is_dir():
        return None
    node = read_node(found)
    if node is None or node.kind != "group":
        return None
    return parse_image(read_attributes(found, node), str(found))


def image_above(path: AnyPath) -> tuple[Multiscale, int] | None:
    """Give the image that the array at a path is a level of, and which level."""
    # Some writers put a level two folders deep, as "scale0/image".
    groups: tuple[AnyPath, ...] = tuple(path.parents[:2])
    for group in groups:
        try:
            image = read_image(group)
        except (LayoutError, ChunkReadError, FileNotFoundError):
            return None  # the array is read by its own path, whatever is wrong around it
        for number, level in enumerate(() if image is None else image.levels):
            if image is not None and group / level.path == path:
                return image, number
    return None


def level_path(path: AnyPath | str | os.PathLike[str], level: int) -> AnyPath:
    """Give where a level of the image at a path lies; of what is no image, the path itself.

    Raises
    ------
    ArgumentError
        If there is no such level.
    LayoutError
        If it lies outside of the image.
    """
    return find_level(path, level)[0]


def find_level(
    path: AnyPath | str | os.PathLike[str], level: int
) -> tuple[AnyPath, tuple[Multiscale, int] | None]:
    """Give where a level lies, as :func:`level_path`, and of which image it is which one."""
    found = locate(path)
    image = read_image(found)
    n_levels = 1 if image is None else len(image.levels)
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < n_levels:
        what = "array, which has no levels" if image is None else f"image of {n_levels} levels"
        raise ArgumentError(f"level {level!r} of {path}: it is an {what}; 0 is the full resolution")
    return (found, None) if image is None else (place_of_level(found, image, level), (image, level))


def place_of_level(group: AnyPath, image: Multiscale, level: int) -> AnyPath:
    """Give where a level of an image lies that was read from ``group``.

    Raises
    ------
    LayoutError
        If it lies outside of the image.
    """
    name = image.levels[level].path
    if isinstance(group, Path):
        found: AnyPath = group / name
        inside = (group / name).resolve().is_relative_to(group.resolve())
    else:
        below = posixpath.normpath(name)
        found = group / below
        inside = not posixpath.isabs(below) and below.split("/")[0] != ".."
    if not inside:
        raise LayoutError(f"{group}: its level {level} would lie outside of it, at {found}")
    return found
