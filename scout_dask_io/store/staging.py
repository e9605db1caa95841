"""The place where an array grows, beside its destination, and the way it gets there.

```
<parent>/<name>                          what stands, untouched until the end
<parent>/.<name>.scout-partial/<job>/    one unfinished write
    array/      the growing Zarr array
    tmp/        chunk files before they are whole
    journal/    the units that are finished
    job.json    what is written, and with which settings
```

Publishing renames ``array`` to its name, so what stands there is whole. The
``<job>`` level is unique: when an unfinished write is discarded, a worker that
wakes up late finds its directory gone and fails instead of mixing old and new.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scout_dask_io.errors import TargetExistsError, WriteError
from scout_dask_io.store.layout import is_pure_zarr

__all__ = [
    "Staging",
    "begin_staging",
    "check_destination",
    "discard_staging",
    "find_staging",
    "publish",
]

PARTIAL_SUFFIX = ".scout-partial"
OLD_SUFFIX = ".scout-old"


@dataclass(frozen=True, slots=True)
class Staging:
    """Paths of one unfinished write. Picklable."""

    destination: Path
    job: Path

    @property
    def array(self) -> Path:
        """The growing array's directory."""
        return self.job / "array"

    @property
    def tmp(self) -> Path:
        """Where chunk files are written before they are renamed into the array."""
        return self.job / "tmp"

    @property
    def journal(self) -> Path:
        """Where finished units are noted."""
        return self.job / "journal"

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Write ``job.json``, which marks the write as begun."""
        draft = self.job / "job.json.tmp"
        draft.write_text(json.dumps(settings))
        draft.replace(self.job / "job.json")

    def read_settings(self) -> dict[str, Any] | None:
        """Give what ``job.json`` says, or ``None`` where the write stopped before it had begun."""
        try:
            found = json.loads((self.job / "job.json").read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None


def _partial_dir(destination: Path) -> Path:
    return destination.parent / f".{destination.name}{PARTIAL_SUFFIX}"


def find_staging(destination: Path) -> Staging | None:
    """Give the unfinished write that lies beside ``destination``, or ``None``."""
    partial = _partial_dir(destination)
    try:
        jobs = sorted(p for p in partial.iterdir() if p.is_dir())
    except FileNotFoundError:
        return None
    return Staging(destination, jobs[0] if jobs else partial / "none")


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """Refuse a destination that must not be replaced. Nothing is changed.

    Raises
    ------
    TargetExistsError
        If something stands there and ``overwrite`` is not given; or if it is
        not a Zarr array or group alone, which is never removed.
    """
    recover(destination)
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


def begin_staging(destination: Path) -> Staging:
    """Make a new, empty staging directory. One caller wins where several try at once.

    Raises
    ------
    TargetExistsError
        If an unfinished write lies there already, or another has just begun.
    WriteError
        If the directory cannot be made.
    """
    partial = _partial_dir(destination)
    staging = Staging(destination, partial / uuid.uuid4().hex)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except FileExistsError as err:
        raise TargetExistsError(
            f"an unfinished write of {destination} lies in {partial}: it was interrupted, or "
            "another process is at it now. resume=True finishes it, overwrite=True starts afresh."
        ) from err
    except OSError as err:
        raise WriteError(f"{partial} cannot be made: {err.strerror or err}") from err
    for path in (staging.job, staging.array, staging.tmp, staging.journal):
        path.mkdir()
    return staging


def discard_staging(destination: Path) -> None:
    """Remove the unfinished write beside ``destination``, if there is one."""
    partial = _partial_dir(destination)
    # Renamed first, so that no name in it is valid while it goes.
    dead = partial.with_name(f"{partial.name}-{uuid.uuid4().hex}")
    try:
        partial.rename(dead)
    except FileNotFoundError:
        return
    shutil.rmtree(dead, ignore_errors=True)


def publish(staging: Staging, *, overwrite: bool) -> None:
    """Give the finished array its name, and remove what is left of the job.

    Raises
    ------
    TargetExistsError
        If something has come to stand at the destination since the write began;
        the finished array stays in staging, and ``resume=True`` publishes it.
    WriteError
        If the rename fails for another reason.
    """
    destination = staging.destination
    old: Path | None = None
    check_destination(destination, overwrite=overwrite)
    try:
        shutil.rmtree(staging.tmp)
        if overwrite and destination.exists():
            old = destination.parent / f".{destination.name}{OLD_SUFFIX}"
            destination.rename(old)
        try:
            staging.array.rename(destination)
        except BaseException:
            if old is not None:
                old.rename(destination)
            raise
    except OSError as err:
        staging.tmp.mkdir(exist_ok=True)
        kind = TargetExistsError if destination.exists() else WriteError
        raise kind(
            f"the finished array could not be given its name {destination}: {err.strerror or err}. "
            f"It is whole, in {staging.array}; resume=True tries again."
        ) from err
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(_partial_dir(destination), ignore_errors=True)


def recover(destination: Path) -> None:
    """Undo an overwrite that was cut between its two renames: the old array gets its name back."""
    old = destination.parent / f".{destination.name}{OLD_SUFFIX}"
    if not os.path.lexists(old):
        return
    if os.path.lexists(destination):
        # The new array is in place: only the removal of the old one was cut.
        shutil.rmtree(old, ignore_errors=True)
        return
    with contextlib.suppress(FileNotFoundError):
        old.rename(destination)
