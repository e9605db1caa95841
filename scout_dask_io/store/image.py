"""OME-Zarr images on the disk: what a group says of its levels."""

from __future__ import annotations

import os
from pathlib import Path

from scout_dask_io.errors import ArgumentError, LayoutError
from scout_dask_io.ome import Multiscale, parse_image
from scout_dask_io.remote import AnyPath, RemotePath
from scout_dask_io.store.create import local_path
from scout_dask_io.store.metadata import read_attributes, read_node

__all__ = ["image_of", "level_path", "read_image"]


def read_image(path: AnyPath | str | os.PathLike[str]) -> Multiscale | None:
    """Give what the group at a path says of its image; ``None`` where there is no such group.

    ``None`` of a URL too: images are read from disks alone.

    Raises
    ------
    LayoutError
        If its metadata are damaged.
    """
    if isinstance(path, RemotePath):
        return None
    found = local_path(path)
    node = read_node(found) if found.is_dir() else None
    if node is None or node.kind != "group":
        return None
    return parse_image(read_attributes(found, node), str(found))


def image_of(path: Path) -> tuple[Multiscale, int] | None:
    """Give the image that a path is, or that the array there is a level of, and which level."""
    image = read_image(path)
    if image is not None:
        return image, 0
    # Some writers put a level two folders deep, as "scale0/image".
    for group in path.parents[:2]:
        try:
            image = read_image(group)
        except LayoutError:
            return None  # the array is read by its own path, whatever is wrong around it
        for number, level in enumerate(() if image is None else image.levels):
            if image is not None and group / level.path == path:
                return image, number
    return None


def level_path(path: str | os.PathLike[str], level: int) -> Path:
    """Give where a level of the image at a path lies; of what is no image, the path itself.

    Raises
    ------
    ArgumentError
        If there is no such level.
    LayoutError
        If it lies outside of the image.
    """
    image = read_image(path)
    n_levels = 1 if image is None else len(image.levels)
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < n_levels:
        what = "array, which has no levels" if image is None else f"image of {n_levels} levels"
        raise ArgumentError(f"level {level!r} of {path}: it is an {what}; 0 is the full resolution")
    if image is None:
        return local_path(path)
    found = local_path(path) / image.levels[level].path
    if not found.resolve().is_relative_to(local_path(path).resolve()):
        raise LayoutError(f"{path}: its level {level} would lie outside of it, at {found}")
    return found
