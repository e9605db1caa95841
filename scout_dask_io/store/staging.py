"""The place where an array grows, beside its destination.

```
<parent>/<name>                          what stands, untouched until the end
<parent>/.<name>.scout-partial/<job>/    one unfinished write
    array/      the growing Zarr array
    tmp/        files before they are whole that replace others, blocks that wait
    journal/    the units that are finished
    job.json    what is written, and with which settings
    beside/     files that get names beside the array, once it has its own
    old/        the array that was replaced, between two renames
```

The ``<job>`` level is unique: when an unfinished write is discarded, a worker that
wakes up late finds its directory gone and fails instead of mixing old and new.

Publishing renames the staged array to its name, so what stands there is whole. An
array that is replaced changes places with it in one step where the system can
do that (Linux), and by two renames elsewhere; :func:`recover` finishes or undoes
what was cut in between.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import OVERWRITE, RESUME
from scout_dask_io.errors import TargetExistsError, WriteError
from scout_dask_io.files.disk import (
    exchange,
    hidden_name,
    naming_errors,
    remove_tree,
    sync_tree,
)
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.system import patiently, rename_dir, sync_dir
from scout_dask_io.store.growth import settle
from scout_dask_io.store.layout import find_stranger
from scout_dask_io.store.manifest import manifest_job
from scout_dask_io.store.members import check_members
from scout_dask_io.store.sidecar import check_beside, move_beside
from scout_dask_io.store.unfinished import in_the_way

PARTIAL_SUFFIX = ".scout-partial"
DEAD_SUFFIX = ".scout-dead-"
DRAFT_SUFFIX = ".scout-draft-"


@dataclass(frozen=True, slots=True)
class Staging:
    """Paths of one unfinished write. Picklable."""

    destination: LocalLocation
    job: LocalLocation

    @property
    def array(self) -> LocalLocation:
        """The growing array's directory, or the image's."""
        return self.job / "array"

    @property
    def tmp(self) -> LocalLocation:
        """Where chunk files are written before they are renamed into the array."""
        return self.job / "tmp"

    @property
    def journal(self) -> LocalLocation:
        """Where finished units are noted."""
        return self.job / "journal"

    @property
    def old(self) -> LocalLocation:
        """Where the array that is replaced lies between two renames."""
        return self.job / "old"

    @property
    def beside(self) -> LocalLocation:
        """Where files lie that are to stand beside the array."""
        return self.job / "beside"

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Write ``job.json``, which marks the write as begun."""
        draft = self.job / "job.json.tmp"
        with naming_errors(draft, "the settings of the write cannot be noted"):
            draft.write_text(json.dumps(settings))
            draft.replace(self.job / "job.json")

    def read_settings(self) -> dict[str, Any] | None:
        """Give what ``job.json`` says, or ``None`` where the write stopped before it had begun."""
        try:
            found = parse_json((self.job / "job.json").read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def _partial_dir(destination: Path) -> Path:
    return destination.parent / f"{hidden_name(destination)}{PARTIAL_SUFFIX}"


def find_staging(destination: Path) -> Staging | None:
    """Give the unfinished write that lies beside ``destination``, or ``None``.

    Raises
    ------
    WriteError
        If it cannot be told.
    """
    partial = _partial_dir(destination)
    try:
        with naming_errors(partial, "the unfinished write there cannot be looked at"):
            jobs = patiently(lambda: sorted(p for p in partial.iterdir() if p.is_dir()))
    except (FileNotFoundError, WriteError) as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    return Staging(LocalLocation(destination), LocalLocation(jobs[0])) if jobs else None


def begin_staging(destination: Path, *, durable: bool = False) -> Staging:
    """Make a new, empty staging directory. One caller wins where several try at once.

    With ``durable``, directories above it that were made are synced into theirs.

    Raises
    ------
    TargetExistsError
        If an unfinished write lies there already, or another has just begun.
    WriteError
        If the directory cannot be made.
    """
    partial = _partial_dir(destination)
    staging = Staging(LocalLocation(destination), LocalLocation(partial / uuid.uuid4().hex))
    with naming_errors(partial, "the directory in which the array grows cannot be made"):
        missing = [p for p in (partial, *partial.parents) if durable and not p.exists()]
        while not _claim(staging):
            pass
        try:
            for path in missing:
                sync_dir(path.parent)
        except BaseException:
            drop_staging(staging)
            raise
    return staging


def _claim(staging: Staging) -> bool:
    """Make the directory of the unfinished write with its one job; ``False`` to try again.

    It is made aside and renamed to its name, which goes where there is nothing or
    an empty directory: of many that try at once one comes first, and no other
    can put a job of its own beside it.
    """
    destination, partial = staging.destination, staging.job.parent
    draft = destination.parent / f"{hidden_name(destination)}{DRAFT_SUFFIX}{uuid.uuid4().hex}"
    job = draft / staging.job.name
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        job.mkdir()
        for path in (staging.array, staging.tmp, staging.journal):
            (job / path.name).mkdir()
        rename_dir(draft, partial)
    except BaseException as err:
        remove_tree(draft)
        if isinstance(err, FileNotFoundError):
            return False  # another process has taken it for a leftover
        if isinstance(err, OSError) and err.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise in_the_way(destination, f"in {partial}") from err
        raise
    return True


def discard_staging(destination: Path) -> None:
    """Remove the unfinished write beside ``destination``, whosever it is, if there is one.

    Raises
    ------
    WriteError
        If it cannot be moved out of the way. What then cannot be removed has a
        name that nothing looks at, and goes with the next write.
    """
    partial = _partial_dir(destination)
    # Renamed first, so that no name in it is valid while it goes.
    dead = _dead_name(destination)
    with naming_errors(partial, "the unfinished write there cannot be removed"):
        try:
            partial.rename(dead)
        except FileNotFoundError:
            return
    remove_tree(dead)


def drop_staging(staging: Staging) -> None:
    """Remove one job, and no other that may have begun since, as far as that goes."""
    dead = _dead_name(staging.destination)
    try:
        staging.job.rename(dead)
    except OSError:
        dead = staging.job
    remove_tree(dead)
    with suppress(OSError):
        staging.job.parent.rmdir()


def _dead_name(destination: Path) -> Path:
    return destination.parent / f"{hidden_name(destination)}{DEAD_SUFFIX}{uuid.uuid4().hex}"


def leftovers(destination: Path) -> list[Path]:
    """Give what earlier writes of the same destination were too late to remove."""
    prefixes = tuple(f"{hidden_name(destination)}{end}" for end in (DEAD_SUFFIX, DRAFT_SUFFIX))
    try:
        return sorted(p for p in destination.parent.iterdir() if p.name.startswith(prefixes))
    except OSError:
        return []


def sweep(destination: Path) -> None:
    """Remove what earlier writes of the same destination were too late to remove."""
    for path in leftovers(destination):
        dead = _dead_name(destination)
        # Renamed first: a draft that is just being made is taken as a whole or not at all.
        with suppress(OSError):
            path.rename(dead)
        remove_tree(dead)
    with suppress(OSError):
        _partial_dir(destination).rmdir()  # only where it is empty


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """Refuse a destination that must not be replaced. Nothing is changed.

    Raises
    ------
    TargetExistsError
        If something stands there and ``overwrite`` is not given; or if it is
        not a Zarr array or group alone, or an image with labels or other groups
        beside its levels, which are never removed.
    """
    recover(destination)
    sweep(destination)
    with naming_errors(destination, "it cannot be told whether it may be written"):
        _refuse(destination, overwrite)


def _refuse(destination: Path, overwrite: bool) -> None:
    if not os.path.lexists(destination):
        return
    if os.path.ismount(destination):
        raise TargetExistsError(
            f"{destination} is a mount point, and a finished array takes the place of its "
            "destination: give a name inside of it."
        )
    if not destination.is_dir() or destination.is_symlink():
        raise TargetExistsError(
            f"{destination} is a file or a link, expected a free name or a Zarr array's "
            "directory. Choose another path; it is never removed."
        )
    if not any(destination.iterdir()):
        return
    if (stranger := find_stranger(destination)) is not None:
        name = os.path.relpath(stranger, destination).replace(os.sep, "/")
        raise TargetExistsError(
            f"{destination} holds more than a Zarr array, {name!r}: it is never removed, "
            + OVERWRITE
            + " or "
            "not. Choose another path, or move the foreign files away."
        )
    if not overwrite:
        raise TargetExistsError(
            f"{destination} already holds a Zarr array. Choose another path, or give "
            + OVERWRITE
            + " to replace it once the new one is whole."
        )
    check_members(LocalLocation(destination))


def publish(staging: Staging, *, overwrite: bool, durable: bool = False) -> None:
    """Give the finished array its name, and remove what is left of the job.

    With ``durable``, the directories are synced before the array gets its name,
    and the one that holds the name after it, once more when what lies beside has its own.

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
        check_beside(LocalLocation(destination), overwrite=overwrite)
    try:
        # Without this directory, a writer that comes late cannot put a chunk in.
        shutil.rmtree(staging.tmp)
        if durable:
            sync_tree(staging.array)
            sync_dir(staging.job)
        if overwrite and os.path.lexists(destination):
            _replace(staging)
        else:
            rename_dir(staging.array, destination)
        if durable:
            sync_dir(destination.parent)
            sync_dir(staging.job)
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
            f"It is whole, in {staging.array}; " + RESUME + " tries again."
        )
        error.errno = err.errno
        raise error from err
    with naming_errors(staging.beside, f"{destination} stands, whole, but not what lies beside it"):
        if move_beside(staging.beside, destination) and durable:
            sync_dir(destination.parent)
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
    if os.path.lexists(destination) and not staging.array.exists():
        settle(LocalLocation(destination))  # where it is a patch that was decided
    with naming_errors(destination, "an overwrite that was cut off cannot be undone"):
        if os.path.lexists(destination):
            if manifest_job(destination) == staging.job.name:
                move_beside(staging.beside, destination)
                drop_staging(staging)
        elif os.path.lexists(staging.old):
            with suppress(FileNotFoundError):
                staging.old.rename(destination)
