"""A directory beside a destination for as long as it takes to see who can write there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scout_dask_io.files.disk import naming_errors, remove_tree
from scout_dask_io.store.staging import DRAFT_SUFFIX

__all__ = ["probing"]


@contextmanager
def probing(destination: Path, *, in_place: bool = False) -> Iterator[str]:
    """Give a new directory in the nearest one that exists; it is gone afterwards.

    One that a kill leaves beside the destination is swept by the next write.

    Raises
    ------
    WriteError
        If this process cannot make it.
    """
    parent = destination.absolute() if in_place else destination.absolute().parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    probe = parent / f".{destination.name}{DRAFT_SUFFIX}{uuid.uuid4().hex}"
    with naming_errors(parent, "nothing can be written there"):
        probe.mkdir()
    try:
        yield os.fspath(probe)
    finally:
        remove_tree(probe)
