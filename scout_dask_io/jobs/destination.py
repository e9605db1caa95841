"""Whether a conversion may go to its destination, and what room there is."""

from __future__ import annotations

import os
from pathlib import Path

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.messages import warn
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location, as_local, as_remote, locate
from scout_dask_io.files.names import check_zarr_name
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.store.remote_staging import check_free, find_unfinished
from scout_dask_io.store.staging import check_destination, find_staging
from scout_dask_io.store.unfinished import in_the_way
from scout_dask_io.tiff.folder import holds_planes, is_channel


def check_target(
    src: Location, dst: Location, *, overwrite: bool, resume: bool
) -> tuple[bool, bool]:
    """Refuse a destination that must not be written; tell whether it is replaced, and resumed.

    Raises
    ------
    ArgumentError
        If it is the source, one of the two lies in the other, or its name is that of a file
        of another format and nothing stands there.
    TargetExistsError
        If it holds what is not to be replaced.
    """
    if not (resume or dst.stands()):
        check_zarr_name(dst)
    if not dst.on_disk:
        return _check_remote(src, as_remote(dst), overwrite=overwrite, resume=resume)
    if src.on_disk:
        _check_apart(as_local(src), as_local(dst))
        _warn_among_channels(as_local(src), as_local(dst))
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
    # realpath, which ends at a link to itself, where resolve raises.
    source, destination = (Path(os.path.realpath(p)) for p in (src, dst))
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


def _warn_among_channels(src: Path, dst: Path) -> None:
    """Warn where an array goes beside the folder that it is made of, with others of planes."""
    # Not by resolve(): of links in a loop the writer says what is wrong.
    folder = Path(os.path.realpath(dst)).parent
    source = Path(os.path.realpath(src))
    if not is_channel(dst.name) or source.parent != folder or not holds_planes(locate(source)):
        return
    beside = (p for p, is_folder in locate(folder).entries() if is_folder and is_channel(p.name))
    other = next((p for p in beside if p.name != source.name and holds_planes(p)), None)
    if other is not None:
        warn(
            f"{dst} lies among folders of planes ({source.name}, {other.name}), where other "
            f"software takes it for a channel of theirs: name it {dst.name}.zarr, or choose a "
            "place outside"
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
