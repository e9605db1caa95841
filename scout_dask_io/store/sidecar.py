"""Files that tell of an array and lie beside it: ``<array>.qc.json`` and ``<array>.qc.html``.

On a disk they are made in a folder of the unfinished write and moved to their names
right after the array got its own; :func:`~scout_dask_io.store.staging.recover` moves
what a kill in between has left. In an object store they are put right before the array
is whole. Only files of their kind are ever replaced.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scout_dask_io.core.messages import OVERWRITE
from scout_dask_io.errors import LayoutError, TargetExistsError
from scout_dask_io.files.location import Location
from scout_dask_io.files.system import replace, sync_dir

#: Tells files of this kind from others: it is among the first characters of both.
FORMAT = "scout-dask-io qc"
#: What the names of both have after that of their array.
JSON_SUFFIX, HTML_SUFFIX = ".qc.json", ".qc.html"


def sheet_paths(destination: Location) -> tuple[Any, Any]:
    """Give the places of the JSON file and of the HTML file that tell of an array's planes."""
    return destination.suffixed(JSON_SUFFIX), destination.suffixed(HTML_SUFFIX)


def has_beside(destination: Location) -> bool:
    """Tell whether anything can lie beside a place; beside a whole bucket there are others."""
    return bool(destination.parents)


def check_beside(destination: Location, *, overwrite: bool) -> None:
    """Refuse the names beside an array that hold something. Nothing is changed.

    Raises
    ------
    TargetExistsError
        If one is there and ``overwrite`` is not given, or is no file of its kind.
    """
    for path in sheet_paths(destination):
        if not stands(path):
            continue
        if not _is_ours(path):
            raise TargetExistsError(
                f"{path} is not a file of this library, expected a free name for what is gathered "
                "of the planes: it is never replaced. Move it away, or choose another path for "
                "the array."
            )
        if not overwrite:
            raise TargetExistsError(
                f"{path} already tells of the planes of an array. Remove it, choose another path "
                "for the array, or give " + OVERWRITE + " to replace both."
            )


def stands(path: Location) -> bool:
    """Tell whether there is anything of that name."""
    return path.stands() if path.on_disk else path.is_file()


def _is_ours(path: Location) -> bool:
    try:
        return not path.is_link() and FORMAT.encode() in (path.read(512) or b"")
    except LayoutError:
        return False


def write_beside(
    folder: Path, destination: Path, contents: Mapping[str, str], *, durable: bool
) -> None:
    """Write files that are to be moved, whole, to their names; ``folder`` is of the write."""
    folder.mkdir(exist_ok=True)
    for suffix, text in contents.items():
        # The source's path is in the text, and may be of bytes that are no UTF-8.
        path = folder / f"{destination.name}{suffix}"
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
    if durable:
        sync_dir(folder)


def move_beside(folder: Path, destination: Path) -> bool:
    """Move what :func:`write_beside` wrote to its names; tell whether anything was left."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in found:
        replace(path, destination.parent / path.name)
    return bool(found)
