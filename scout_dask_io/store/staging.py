"""The place where an array grows, beside its destination.

```
<parent>/<name>                          what stands, untouched until the end
<parent>/.<name>.scout-partial/<job>/    one unfinished write
    array/      the growing Zarr array
    tmp/        chunk files before they are whole
    journal/    the units that are finished
    job.json    what is written, and with which settings
    beside/     files that get names beside the array, once it has its own
    old/        the array that was replaced, between two renames
```

The ``<job>`` level is unique: when an unfinished write is discarded, a worker that
wakes up late finds its directory gone and fails instead of mixing old and new.
:mod:`~scout_dask_io.store.publishing` gives the finished array its name.
"""

from __future__ import annotations

import errno
import json
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scout_dask_io.errors import TargetExistsError, WriteError
from scout_dask_io.files.disk import naming_errors, remove_tree
from scout_dask_io.store.journal import read_units

__all__ = [
    "Staging",
    "begin_staging",
    "discard_staging",
    "drop_staging",
    "find_staging",
    "leftovers",
    "sweep",
]

PARTIAL_SUFFIX = ".scout-partial"
DEAD_SUFFIX = ".scout-dead-"
DRAFT_SUFFIX = ".scout-draft-"


@dataclass(frozen=True, slots=True)
class Staging:
    """Paths of one unfinished write, or of one level of the image that it writes. Picklable."""

    destination: Path
    job: Path
    level: int | None = None

    @property
    def job_id(self) -> str:
        """Names the write."""
        return self.job.name

    @property
    def where(self) -> str:
        """What to call it in a message."""
        return str(self.job)

    @property
    def array(self) -> Path:
        """The growing array's directory, or the image's; of a level, its own in it."""
        whole = self.job / "array"
        return whole if self.level is None else whole / str(self.level)

    @property
    def tmp(self) -> Path:
        """Where chunk files are written before they are renamed into the array."""
        return self.job / "tmp"

    @property
    def journal(self) -> Path:
        """Where finished units are noted."""
        every = self.job / "journal"
        return every if self.level is None else every / str(self.level)

    @property
    def old(self) -> Path:
        """Where the array that is replaced lies between two renames."""
        return self.job / "old"

    @property
    def beside(self) -> Path:
        """Where files lie that are to stand beside the array."""
        return self.job / "beside"

    def of_level(self, level: int | None) -> Staging:
        """Give the paths of a level; of the whole where ``level`` is ``None``."""
        return replace(self, level=level)

    def finished(self) -> set[int]:
        """Give the numbers of the units that the journal holds.

        Raises
        ------
        WriteError
            If it cannot be read.
        """
        with naming_errors(self.journal, "the journal cannot be read"):
            return set(read_units(self.journal))

    def exists(self) -> bool:
        """Tell whether the write is neither discarded nor published."""
        return self.job.exists()

    def kept(self, name: str) -> bytes | None:
        """Give a file that lies beside the journal's, ``None`` if there is none."""
        try:
            return (self.journal / name).read_bytes()
        except FileNotFoundError:
            return None

    def drop(self) -> None:
        """Remove what a write without a finished unit has left."""
        drop_staging(self)

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Write ``job.json``, which marks the write as begun."""
        draft = self.job / "job.json.tmp"
        with naming_errors(draft, "the settings of the write cannot be noted"):
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
    """Give the unfinished write that lies beside ``destination``, or ``None``.

    Raises
    ------
    WriteError
        If it cannot be told.
    """
    partial = _partial_dir(destination)
    try:
        with naming_errors(partial, "the unfinished write there cannot be looked at"):
            jobs = sorted(p for p in partial.iterdir() if p.is_dir())
    except (FileNotFoundError, WriteError) as err:
        if err.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    return Staging(destination, jobs[0]) if jobs else None


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
    with naming_errors(partial, "the directory in which the array grows cannot be made"):
        while not _claim(staging):
            pass
    return staging


def _claim(staging: Staging) -> bool:
    """Make the directory of the unfinished write with its one job; ``False`` to try again.

    It is made aside and renamed to its name, which goes where there is nothing or
    an empty directory: of many that try at once one comes first, and no other
    can put a job of its own beside it.
    """
    destination, partial = staging.destination, staging.job.parent
    draft = destination.parent / f".{destination.name}{DRAFT_SUFFIX}{uuid.uuid4().hex}"
    job = draft / staging.job.name
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        job.mkdir()
        for path in (staging.array, staging.tmp, staging.journal):
            (job / path.name).mkdir()
        draft.rename(partial)
    except BaseException as err:
        remove_tree(draft)
        if isinstance(err, FileNotFoundError):
            return False  # another process has taken it for a leftover
        if isinstance(err, OSError) and err.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise TargetExistsError(
                f"an unfinished write of {destination} lies in {partial}: it was interrupted, or "
                "another process is at it now. resume=True finishes it, overwrite=True starts "
                "afresh."
            ) from err
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
    return destination.parent / f".{destination.name}{DEAD_SUFFIX}{uuid.uuid4().hex}"


def leftovers(destination: Path) -> list[Path]:
    """Give what earlier writes of the same destination were too late to remove."""
    prefixes = tuple(f".{destination.name}{end}" for end in (DEAD_SUFFIX, DRAFT_SUFFIX))
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
