"""How a task puts what it has encoded in its place: files on a disk, objects in a store."""

from __future__ import annotations

import os
import socket
import threading
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.errors import WriteError
from scout_dask_io.store.chunk_v2 import write_file
from scout_dask_io.store.journal import append_unit
from scout_dask_io.store.remote_staging import RemoteStaging
from scout_dask_io.store.staging import Staging

__all__ = ["FileSink", "Sink", "sink_of"]

_counter = count()


class Sink(Protocol):
    """What a unit needs of the place where its array grows."""

    @property
    def root(self) -> str:
        """What the paths of chunks begin with."""

    def check(self) -> None:
        """Refuse to go on where the write was given up; called once a band."""

    def put(self, path: str, data: Any) -> None:
        """Write a chunk or shard, whole or not at all."""

    def remove(self, path: str) -> None:
        """Remove a chunk that stands; none is no error."""

    def keep(self, name: str, data: bytes) -> None:
        """Write what is to be found beside the journal, whole or not at all."""

    def note(self, unit: int, records: np.ndarray) -> None:
        """Note that a unit is finished, when all its chunks are in."""


class FileSink:
    """Writes files beside their places, and renames them."""

    def __init__(self, staging: Staging, *, durable: bool, in_place: bool) -> None:
        self._staging, self._durable, self._in_place = staging, durable, in_place
        self._root = os.fspath(staging.array)
        self._prefix = f"{staging.tmp}/{os.getpid()}-{threading.get_ident()}-"

    @property
    def root(self) -> str:
        """The growing array's directory."""
        return self._root

    def check(self) -> None:
        """Nothing: in a directory that is gone no file can be written."""

    def put(self, path: str, data: Any) -> None:
        """Write a chunk's file."""
        try:
            write_file(path, self._temporary(), data, root=self._root, durable=self._durable)
        except OSError as err:
            raise self._explained(err, path) from err

    def _temporary(self) -> str:
        return f"{self._prefix}{next(_counter)}"

    def remove(self, path: str) -> None:
        """Remove a chunk's file."""
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as err:
            raise self._explained(err, path) from err

    def keep(self, name: str, data: bytes) -> None:
        """Write a file beside the journal's, whole or not at all."""
        path = os.fspath(self._staging.journal / name)
        try:
            write_file(path, self._temporary(), data, root=self._root, durable=self._durable)
        except OSError as err:
            raise self._explained(err, path) from err

    def note(self, unit: int, records: np.ndarray) -> None:
        """Append to the journal."""
        journal = self._staging.journal
        try:
            append_unit(journal, unit, records, durable=self._durable)
        except OSError as err:
            raise self._explained(err, os.fspath(journal)) from err

    def _explained(self, err: OSError, path: str) -> WriteError:
        """Give a write failure as one that names the file and says how to go on."""
        staging = self._staging
        if not staging.array.is_dir() or not staging.journal.is_dir():
            return WriteError(
                f"{path}: the unfinished write that this task belongs to is not there (as "
                f"{socket.gethostname()} sees it): it was discarded, or finished elsewhere, or "
                "this machine does not share the disk. Nothing was changed."
            )
        after = (
            f"The destination {staging.destination} is as it was. Once the cause is mended, the "
            "same call with resume=True goes on."
        )
        if self._in_place:
            after = (
                "Some chunks of the region are new. Write the region again when the cause is "
                "mended."
            )
        try:
            found = os.statvfs(staging.job)
            free = f" ({format_nbytes(found.f_bavail * found.f_frsize)} free)"
        except OSError:
            free = ""
        error = WriteError(f"{path} cannot be written: {err.strerror}{free}. {after}")
        error.errno = err.errno
        return error


def sink_of(
    staging: Staging | RemoteStaging, *, durable: bool = False, in_place: bool = False
) -> Sink:
    """Give what takes the chunks of one unit to the place where the array grows."""
    if isinstance(staging, RemoteStaging):
        return staging
    return FileSink(staging, durable=durable, in_place=in_place)
