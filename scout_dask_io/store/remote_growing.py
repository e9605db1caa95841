"""Where an array grows in an object store, which has no rename.

```
<array>/.scout-unfinished             the settings of the write: put first, removed last
<array>/.scout-journal/<job>/<unit>   one object a finished unit, with the records of its chunks
<array>/0/0/0 …                       chunks or shards, each put whole
<array>/.scout-manifest               put when every unit is in
<array>/.zarray or zarr.json …        put after it: until then no software finds an array here
```

An array with ``.scout-unfinished`` is refused by the readers of this library; others
find no metadata. What cannot be had without a rename: an array that is overwritten
is gone from the moment its successor begins, and a writer that was stopped and wakes
up after the job has ended notices so at its next band, not at its next chunk.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype

from scout_dask_io.errors import (
    LayoutError,
    ResumeError,
    ScoutIOError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.remote import RemotePath
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.manifest import MANIFEST_NAME, manifest_bytes, parse_manifest
from scout_dask_io.store.metadata import METADATA_FILES, NODE_FILES

__all__ = ["MARKER_NAME", "RemoteStaging", "begin", "check_free", "clear", "find_unfinished"]

MARKER_NAME = ".scout-unfinished"
JOURNAL_NAME = ".scout-journal"
_INDEX = "(?:0|[1-9][0-9]*)"
_OWN_KEY = re.compile(rf"(?:c[./])?{_INDEX}(?:[./]{_INDEX})*|c|\.scout[^/]*(?:/.*)?")


@dataclass(frozen=True, slots=True)
class RemoteStaging:
    """One unfinished write of an array in an object store. Picklable."""

    destination: RemotePath
    job_id: str

    @property
    def marker(self) -> RemotePath:
        """The object that says the array is not whole."""
        return self.destination / MARKER_NAME

    @property
    def journal(self) -> RemotePath:
        """Below it are the records of finished units."""
        return self.destination / f"{JOURNAL_NAME}/{self.job_id}"

    @property
    def where(self) -> str:
        """What to call it in a message."""
        return str(self.destination)

    @property
    def root(self) -> str:
        """What the keys of chunks begin with."""
        return self.destination.key

    def read_settings(self) -> dict[str, Any] | None:
        """Give what the marker says, ``None`` where the write was discarded or is finished."""
        found = find_unfinished(self.destination)
        return found if found is not None and found.get("job") == self.job_id else None

    def check(self) -> None:
        """Refuse to go on with a write that was discarded, or finished elsewhere.

        Raises
        ------
        WriteError
            If it was.
        """
        if self.read_settings() is None:
            raise WriteError(
                f"the unfinished write of {self.destination} that this task belongs to is gone: "
                "it was discarded, or finished elsewhere. Nothing more is written."
            )

    def put(self, path: str, data: Any) -> None:
        """Put one chunk or shard; ``path`` begins with ``root``."""
        self._write(self.destination / path[len(self.root) + 1 :], bytes(data))

    def remove(self, path: str) -> None:
        """Remove one chunk or shard; none is no error."""
        (self.destination / path[len(self.root) + 1 :]).remove()

    def note(self, unit: int, records: np.ndarray) -> None:
        """Note that a unit is finished."""
        body = base64.b64encode(records.tobytes())
        self._write(self.journal / str(unit), f"{zlib.crc32(body):08x} ".encode() + body)

    def _write(self, place: RemotePath, data: bytes) -> None:
        try:
            place.write(data)
        except WriteError as err:
            raise WriteError(
                f"{err}. What is finished is kept: once the cause is mended, the same call with "
                "resume=True goes on."
            ) from err

    def read_units(self) -> dict[int, np.ndarray]:
        """Give the finished units and their chunks' records."""
        units: dict[int, np.ndarray] = {}
        for name, _ in self.journal.find():
            checksum, _, body = ((self.journal / name).read() or b"").partition(b" ")
            if name.isdigit() and checksum == f"{zlib.crc32(body):08x}".encode():
                units[int(name)] = np.frombuffer(base64.b64decode(body), CHUNK_RECORD)
        return units

    def finished(self) -> set[int]:
        """Give the numbers of the units that the journal holds; reads their names alone."""
        return {int(name) for name, _ in self.journal.find() if name.isdigit()}

    def publish(self, records: np.ndarray, settings: dict[str, Any]) -> None:
        """Put the manifest and the metadata, remove the journal and, last, the marker."""
        kept = {k: v for k, v in settings.items() if k not in ("job", "metadata")}
        (self.destination / MANIFEST_NAME).write(manifest_bytes(records, kept, self.job_id))
        for name, document in settings["metadata"].items():
            (self.destination / name).write(document.encode())
        self._remove_journal()
        self.marker.remove()

    def drop(self) -> None:
        """Remove the marker of a write that has no finished unit, and the chunks that it has."""
        if self.read_settings() is not None:
            clear(self.destination, keep_marker=True)
            self.marker.remove()

    def _remove_journal(self) -> None:
        above = self.destination / JOURNAL_NAME
        above.remove([name for name, _ in above.find()])


def find_unfinished(path: RemotePath) -> dict[str, Any] | None:
    """Give what the marker of an unfinished write says, or ``None`` where there is none.

    Raises
    ------
    LayoutError
        If it cannot be understood.
    """
    raw = (path / MARKER_NAME).read()
    if raw is None:
        return None
    try:
        found = json.loads(raw)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise LayoutError(f"{path / MARKER_NAME} is damaged: overwrite=True starts afresh")


def check_free(path: RemotePath, *, overwrite: bool) -> None:
    """Refuse a place that must not be written. Nothing is changed; names are listed.

    Raises
    ------
    TargetExistsError
        If there are objects and ``overwrite`` is not given; or if any is no part
        of a Zarr array, which is never removed.
    """
    if path.is_file():
        raise TargetExistsError(f"{path} is an object, expected a free name or a Zarr array")
    if not overwrite and find_unfinished(path) is not None:
        raise TargetExistsError(
            f"an unfinished write of {path} lies there: it was interrupted, or another process is "
            "at it now. resume=True finishes it, overwrite=True starts afresh."
        )
    for name, _ in path.find():
        if name not in METADATA_FILES and not _OWN_KEY.fullmatch(name):
            raise TargetExistsError(
                f"{path} holds {name!r}, which is no part of a Zarr array: it is never removed, "
                "overwrite=True or not. Choose another path, or move what is foreign away."
            )
        if not overwrite:
            raise TargetExistsError(
                f"{path} already holds a Zarr array. Choose another path, or give overwrite=True: "
                "it is then removed before the new one is written."
            )


def clear(path: RemotePath, *, keep_marker: bool) -> None:
    """Remove an array's objects, its metadata first, so that no part of it reads as an array."""
    names = [name for name, _ in path.find() if not (keep_marker and name == MARKER_NAME)]
    owned = [name for name in names if name in METADATA_FILES or _OWN_KEY.fullmatch(name)]
    path.remove([name for name in owned if name in NODE_FILES])
    path.remove([name for name in owned if name not in NODE_FILES])


def begin(
    path: RemotePath, array: zarr.Array[Any], settings: dict[str, Any], *, overwrite: bool
) -> RemoteStaging:
    """Put the marker, and remove what is overwritten. ``array`` is the new one, in memory.

    Raises
    ------
    TargetExistsError
        If another write has begun.
    WriteError
        If the store does not take it.
    """
    job = uuid.uuid4().hex
    documents = array.metadata.to_buffer_dict(default_buffer_prototype())
    metadata = {name: content.to_bytes().decode() for name, content in documents.items()}
    marker = json.dumps({**settings, "job": job, "metadata": metadata}).encode()
    # An unfinished write that is overwritten has a marker; a job of another name is dead.
    (path / MARKER_NAME).write(marker, new=not overwrite)
    if overwrite:
        clear(path, keep_marker=True)
    return RemoteStaging(path, job)


def resume(path: RemotePath) -> RemoteStaging | None:
    """Give the unfinished write at a place, or ``None``.

    Raises
    ------
    ResumeError
        If what lies there is no write that can be resumed.
    """
    found = find_unfinished(path)
    if found is None:
        return None
    if not isinstance(found.get("metadata"), dict) or "units" not in found:
        raise ResumeError(
            f"the unfinished array at {path} was not written unit by unit: overwrite=True starts "
            "afresh"
        )
    staging = RemoteStaging(path, str(found["job"]))
    manifest = (path / MANIFEST_NAME).read()
    if manifest is not None:
        # It was cut off while it was published: all is in.
        try:
            done = parse_manifest(manifest, path / MANIFEST_NAME)
        except ScoutIOError:
            return staging
        if done.job == staging.job_id:
            staging.publish(done.records, found)
            return None
    return staging
