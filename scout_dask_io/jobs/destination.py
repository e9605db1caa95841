"""Whether a conversion may go to its destination, and what room there is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.messages import OVERWRITE, RESUME, warn
from scout_dask_io.errors import ArgumentError, TargetExistsError
from scout_dask_io.files.location import AnyPath, RemotePath
from scout_dask_io.store.remote_staging import check_free, find_unfinished
from scout_dask_io.store.staging import check_destination, find_staging


def check_target(src: AnyPath, dst: AnyPath, *, overwrite: bool, resume: bool) -> tuple[bool, bool]:
    """Refuse a destination that must not be written; tell whether it is replaced, and resumed.

    Raises
    ------
    ArgumentError
        If it is the source, or one of the two lies in the other.
    TargetExistsError
        If it holds what is not to be replaced.
    """
    if isinstance(dst, RemotePath):
        return _check_remote(src, dst, overwrite=overwrite, resume=resume)
    if isinstance(src, Path):
        _check_apart(src, dst)
    unfinished = find_staging(dst) is not None
    if overwrite or not resume:
        # With resume alone, what stands finished may be the very array: the writer compares.
        check_destination(dst, overwrite=overwrite)
    if unfinished and not (resume or overwrite):
        raise TargetExistsError(
            f"an unfinished write of {dst} lies beside it: it was interrupted, or another process "
            "is at it now. " + RESUME + " finishes it, " + OVERWRITE + " starts afresh."
        )
    return overwrite and dst.is_dir() and any(dst.iterdir()), resume and unfinished


def _check_apart(src: Path, dst: Path) -> None:
    # Through links, so that a link into the source is seen too.
    source, destination = src.resolve(), dst.resolve()
    if source == destination:
        raise ArgumentError(f"{dst} is the source itself: choose another destination")
    if destination.is_relative_to(source):
        raise ArgumentError(
            f"the destination {dst} lies inside the source {src}: choose one outside it, so that "
            "the source stays as it is"
        )
    if source.is_relative_to(destination):
        raise ArgumentError(
            f"the source {src} lies inside the destination {dst}: choose another destination"
        )


def _check_remote(
    src: AnyPath, dst: RemotePath, *, overwrite: bool, resume: bool
) -> tuple[bool, bool]:
    if isinstance(src, RemotePath) and (
        src == dst or f"{src}/".startswith(f"{dst}/") or f"{dst}/".startswith(f"{src}/")
    ):
        raise ArgumentError(
            f"the destination {dst} and the source {src} lie in each other: choose another "
            "destination, so that the source stays as it is"
        )
    if overwrite or not resume:
        check_free(dst, overwrite=overwrite)
    unfinished = find_unfinished(dst) is not None
    return overwrite and dst.exists(), resume and unfinished


def warn_of_a_full_disk(nbytes: int, destination: AnyPath, free: int | None) -> None:
    """Warn where that many bytes of elements may not fit in what is free on the disk."""
    # How well data compress is not known before; twice as small is usual for camera data.
    if free is not None and nbytes > free:
        warn(
            f"the array holds {format_nbytes(nbytes)} before compression and the disk of "
            f"{destination} has {format_nbytes(free)} free: it may not fit"
        )


def free_nbytes(path: AnyPath) -> int | None:
    """Give what is free where a path is to stand, in bytes; ``None`` of an object store."""
    if isinstance(path, RemotePath):
        return None
    there = path.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def stored_nbytes(path: AnyPath) -> int:
    """Give the size of all files of an array, in bytes."""
    if isinstance(path, RemotePath):
        return sum(nbytes for _, nbytes in path.find())
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(path)
        for name in names
    )
