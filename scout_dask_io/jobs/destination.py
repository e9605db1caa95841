"""Whether a conversion may go to its destination, and what room there is."""

from __future__ import annotations

from pathlib import Path

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.messages import warn
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location, as_local, as_remote
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.store.remote_staging import check_free, find_unfinished
from scout_dask_io.store.staging import check_destination, find_staging
from scout_dask_io.store.unfinished import in_the_way


def check_target(
    src: Location, dst: Location, *, overwrite: bool, resume: bool
) -> tuple[bool, bool]:
    """Refuse a destination that must not be written; tell whether it is replaced, and resumed.

    Raises
    ------
    ArgumentError
        If it is the source, or one of the two lies in the other.
    TargetExistsError
        If it holds what is not to be replaced.
    """
    if not dst.on_disk:
        return _check_remote(src, as_remote(dst), overwrite=overwrite, resume=resume)
    if src.on_disk:
        _check_apart(as_local(src), as_local(dst))
    path = as_local(dst)
    unfinished = find_staging(path) is not None
    if overwrite or not resume:
        # With resume alone, what stands finished may be the very array: the writer compares.
        check_destination(path, overwrite=overwrite)
    if unfinished and not (resume or overwrite):
        raise in_the_way(dst, "beside it")
    return overwrite and path.is_dir() and any(path.iterdir()), resume and unfinished


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
    src: Location, dst: RemoteLocation, *, overwrite: bool, resume: bool
) -> tuple[bool, bool]:
    if src.lies_in(dst) or dst.lies_in(src):
        raise ArgumentError(
            f"the destination {dst} and the source {src} lie in each other: choose another "
            "destination, so that the source stays as it is"
        )
    if overwrite or not resume:
        check_free(dst, overwrite=overwrite)
    unfinished = find_unfinished(dst) is not None
    return overwrite and dst.exists(), resume and unfinished


def warn_of_a_full_disk(nbytes: int, destination: Location, free: int | None) -> None:
    """Warn where that many bytes of elements may not fit in what is free on the disk."""
    # How well data compress is not known before; twice as small is usual for camera data.
    if free is not None and nbytes > free:
        warn(
            f"the array holds {format_nbytes(nbytes)} before compression and the disk of "
            f"{destination} has {format_nbytes(free)} free: it may not fit"
        )
