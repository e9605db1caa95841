"""OME-Zarr images on the disk: what a group says of its levels."""

from __future__ import annotations

import os
from pathlib import Path

from scout_dask_io.errors import ArgumentError
from scout_dask_io.ome import Multiscale, parse_image
from scout_dask_io.store.create import local_path
from scout_dask_io.store.metadata import read_attributes, read_node

__all__ = ["level_path", "read_image"]


def read_image(path: str | os.PathLike[str]) -> Multiscale | None:
    """Give what the group at a path says of its image; ``None`` where there is no such group.

    Raises
    ------
    LayoutError
        If its metadata are damaged.
    """
    found = local_path(path)
    node = read_node(found) if found.is_dir() else None
    if node is None or node.kind != "group":
        return None
    return parse_image(read_attributes(found, node), str(found))


def level_path(path: str | os.PathLike[str], level: int) -> Path:
    """Give where a level of the image at a path lies; of what is no image, the path itself.

    Raises
    ------
    ArgumentError
        If there is no such level.
    """
    image = read_image(path)
    n_levels = 1 if image is None else len(image.levels)
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < n_levels:
        what = "array, which has no levels" if image is None else f"image of {n_levels} levels"
        raise ArgumentError(f"level {level!r} of {path}: it is an {what}; 0 is the full resolution")
    return local_path(path) if image is None else local_path(path) / image.levels[level].path
