"""Whether a stored array is still the one that was opened, and a name for the state it is in."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from scout_dask_io.errors import SourceChangedError
from scout_dask_io.files.location import AnyPath, RemotePath
from scout_dask_io.store.manifest import MANIFEST_NAME

__all__ = ["array_token", "check_identity", "identity_of"]


def identity_of(root: AnyPath) -> tuple[Any, ...] | None:
    """Give what tells the array at a path from another one that takes its place."""
    if isinstance(root, RemotePath):
        # The manifest names the write, which the metadata may not tell from the next.
        # One of v2 needs two requests for all: this is asked once a block.
        node = (root / ".zarray").identity() or (root / "zarr.json").identity()
        return node and (node, (root / MANIFEST_NAME).identity())
    for name in (".zarray", "zarr.json"):
        with suppress(OSError):
            info = os.stat(root / name)
            return info.st_ino, info.st_size, info.st_mtime_ns
    return None


def check_identity(root: AnyPath, expected: tuple[Any, ...] | None) -> None:
    """Refuse an array that is no longer the one that was opened.

    Raises
    ------
    SourceChangedError
        If it was replaced or removed.
    """
    # An overwrite puts another array in this one's place: chunks of both
    # would make a whole that never was.
    if identity_of(root) != expected:
        raise SourceChangedError(
            f"{root} is no longer the array that was opened: it was replaced, resized or "
            "removed. Open it again to read what is there now."
        )


def array_token(root: Path) -> str:
    """Name the state of a stored array: its metadata file, and its directories' last changes.

    A chunk that is added or replaced by a rename changes its directory; one
    that is overwritten in place does not, and cannot be seen without reading.
    At most 4,096 directories are looked at.
    """
    newest, seen, queue = 0, 0, [os.fspath(root)]
    while queue and seen < 4096:
        here = queue.pop()
        seen += 1
        newest = max(newest, os.stat(here).st_mtime_ns)
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
                elif entry.name[:1].isdigit():
                    # Chunk files: no directory lies beside them.
                    break
    meta = root / (".zarray" if (root / ".zarray").exists() else "zarr.json")
    info = os.stat(meta)
    return json.dumps([os.fspath(root), info.st_size, info.st_mtime_ns, info.st_ino, newest, seen])
