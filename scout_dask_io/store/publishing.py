"""The way of a finished array to its name, and what may not be in its way.

Publishing renames the staged array to its name, so what stands there is whole. An
array that is replaced changes places with it in one step where the system can
do that (Linux), and by two renames elsewhere; :func:`recover` finishes or undoes
what was cut in between.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from scout_dask_io.errors import TargetExistsError, WriteError
from scout_dask_io.files.disk import exchange, naming_errors, sync_dir, sync_tree
from scout_dask_io.store.beside import check_beside, move_beside
from scout_dask_io.store.layout import is_pure_zarr
from scout_dask_io.store.manifest import manifest_job
from scout_dask_io.store.staging import Staging, drop_staging, find_staging, sweep

__all__ = ["check_destination", "publish", "recover"]


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """Refuse a destination that must not be replaced. Nothing is changed.

    Raises
    ------
    TargetExistsError
        If something stands there and ``overwrite`` is not given; or if it is
        not a Zarr array or group alone, which is never removed.
    """
    recover(destination)
    sweep(destination)
    with naming_errors(destination, "it cannot be told whether it may be written"):
        _refuse(destination, overwrite)


def _refuse(destination: Path, overwrite: bool) -> None:
    if not os.path.lexists(destination):
        return
    if not destination.is_dir() or destination.is_symlink():
        raise TargetExistsError(
            f"{destination} is a file or a link, expected a free name or a Zarr array's "
            "directory. Choose another path; it is never removed."
        )
    if not any(destination.iterdir()):
        return
    if not is_pure_zarr(destination):
        raise TargetExistsError(
            f"{destination} holds more than a Zarr array: it is never removed, overwrite=True or "
            "not. Choose another path, or move the foreign files away."
        )
    if not overwrite:
        raise TargetExistsError(
            f"{destination} already holds a Zarr array. Choose another path, or give "
            "overwrite=True to replace it once the new one is whole."
        )


def publish(staging: Staging, *, overwrite: bool, durable: bool = False) -> None:
    """Give the finished array its name, and remove what is left of the job.

    With ``durable``, the directories are synced before the array gets its name,
    and the one that holds the name after it.

    Raises
    ------
    TargetExistsError
        If something has come to stand at the destination since the write began;
        the finished array stays in staging, and ``resume=True`` publishes it.
    WriteError
        If the rename fails for another reason.
    """
    destination = staging.destination
    check_destination(destination, overwrite=overwrite)
    if staging.beside.is_dir():
        check_beside(destination, overwrite=overwrite)
    try:
        # Without this directory, a writer that comes late cannot put a chunk in.
        shutil.rmtree(staging.tmp)
        if durable:
            sync_tree(staging.array)
        if overwrite and os.path.lexists(destination):
            _replace(staging)
        else:
            staging.array.rename(destination)
        if durable:
            sync_dir(destination.parent)
    except OSError as err:
        with suppress(OSError):
            staging.tmp.mkdir(exist_ok=True)
        if not staging.array.exists():
            where = "It stands there, whole, but may not be on the disk yet."
            if manifest_job(destination) != staging.job.name:
                where = "The write was discarded, or finished elsewhere."
            raise WriteError(f"{destination} could not be published: {err}. {where}") from err
        kind = TargetExistsError if os.path.lexists(destination) and not overwrite else WriteError
        error = kind(
            f"the finished array could not be given its name {destination}: {err.strerror or err}. "
            f"It is whole, in {staging.array}; resume=True tries again."
        )
        error.errno = err.errno
        raise error from err
    with naming_errors(staging.beside, f"{destination} stands, whole, but not what lies beside it"):
        move_beside(staging.beside, destination)
    drop_staging(staging)


def _replace(staging: Staging) -> None:
    """Let the new array and the one at the destination change places."""
    if exchange(staging.array, staging.destination):
        return
    staging.destination.rename(staging.old)
    try:
        staging.array.rename(staging.destination)
    except BaseException:
        staging.old.rename(staging.destination)
        raise


def recover(destination: Path) -> None:
    """Finish or undo a publication that was cut off.

    An array that was moved aside gets its name back if the new one has not
    taken it; the remains of a write that was published are removed.

    Raises
    ------
    WriteError
        If that fails.
    """
    staging = find_staging(destination)
    if staging is None:
        return
    with naming_errors(destination, "an overwrite that was cut off cannot be undone"):
        if os.path.lexists(destination):
            if manifest_job(destination) == staging.job.name:
                move_beside(staging.beside, destination)
                drop_staging(staging)
        elif os.path.lexists(staging.old):
            with suppress(FileNotFoundError):
                staging.old.rename(destination)
