"""Where an array or an image grows in an object store, which has no rename.

```
<array>/.scout-unfinished             the settings of the write: put first, removed last
<array>/.scout-journal/<job>/<unit>   one object a finished unit, with the records of its chunks
<array>/.scout-journal/<job>/<unit>.planes   with qc, the record of its planes, put before it
<array>/0/0/0 …                       chunks or shards, each put whole
<array>/.scout-manifest               put when every unit is in
<array>/.zarray or zarr.json …        put after it: until then no software finds an array here

<image>/.scout-unfinished
<image>/.scout-journal/<job>/<level>/<unit>
<image>/0/0/0/0 …                     of each level
<image>/0/.scout-manifest  0/.zarray …   of each level, put when every unit of all is in
<image>/.zattrs .zgroup               put after them: until then no software finds an image here
<image>/.scout-manifest               put when the group is whole
```

What has ``.scout-unfinished`` is refused by the readers of this library; others find
no metadata. What cannot be had without a rename: an array that is overwritten
is gone from the moment its successor begins, and a writer that was stopped and wakes
up after the job has ended notices so at its next band, not at its next chunk.

What lies at a place in an object store: an array, an unfinished one, or what is foreign.

Nothing that is no part of a Zarr array or group is ever removed.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scout_dask_io.core.messages import OVERWRITE, RESUME
from scout_dask_io.errors import LayoutError, TargetExistsError, WriteError
from scout_dask_io.files.location import Location
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.metadata import METADATA_FILES, NODE_FILES

JOURNAL_NAME = ".scout-journal"


@dataclass(frozen=True, slots=True)
class RemoteStaging:
    """One unfinished write in an object store, or one level of the image that it writes. Picklable.

    Attributes
    ----------
    destination : RemoteLocation
        What is to stand there.
    job_id : str
        Names the write.
    level : int or None
        Which level of an image.
    """

    destination: RemoteLocation
    job_id: str
    level: int | None = None

    def of_level(self, level: int | None) -> RemoteStaging:
        """Give the place of a level; of the whole where ``level`` is ``None``."""
        return replace(self, level=level)

    @property
    def array(self) -> RemoteLocation:
        """Where the array itself lies."""
        return self.destination if self.level is None else self.destination / str(self.level)

    @property
    def marker(self) -> RemoteLocation:
        """The object that says the array is not whole."""
        return self.destination / MARKER_NAME

    @property
    def journal(self) -> RemoteLocation:
        """Below it are the records of finished units."""
        every = self.destination / f"{JOURNAL_NAME}/{self.job_id}"
        return every if self.level is None else every / str(self.level)

    @property
    def where(self) -> str:
        """What to call it in a message."""
        return str(self.destination)

    @property
    def root(self) -> str:
        """What the keys of chunks begin with."""
        return self.array.key

    def read_settings(self) -> dict[str, Any] | None:
        """Give what the marker says, ``None`` where the write was discarded or is finished."""
        found = find_unfinished(self.destination)
        return found if found is not None and found.get("job") == self.job_id else None

    def exists(self) -> bool:
        """Tell whether the write is neither discarded nor finished."""
        return self.read_settings() is not None

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
        self._write(self.array / path[len(self.root) + 1 :], bytes(data))

    def remove(self, path: str) -> None:
        """Remove one chunk or shard; none is no error."""
        (self.array / path[len(self.root) + 1 :]).remove()

    def note(self, unit: int, records: np.ndarray) -> None:
        """Note that a unit is finished."""
        body = base64.b64encode(records.tobytes())
        self._write(self.journal / str(unit), f"{zlib.crc32(body):08x} ".encode() + body)

    def keep(self, name: str, data: bytes) -> None:
        """Put an object beside the journal's; its name is no number."""
        self._write(self.journal / name, data)

    def kept(self, name: str) -> bytes | None:
        """Give what :meth:`keep` put, ``None`` if there is none."""
        return (self.journal / name).read()

    def _write(self, place: RemoteLocation, data: bytes) -> None:
        try:
            place.write(data)
        except WriteError as err:
            raise WriteError(
                f"{err}. What is finished is kept: once the cause is mended, the same call with "
                + RESUME
                + " goes on."
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

    def retire(self) -> None:
        """Remove the journal and, last, the marker: what stands there is whole."""
        above = self.destination / JOURNAL_NAME
        above.remove([name for name, _ in above.find()])
        self.marker.remove()

    def drop(self) -> None:
        """Remove the marker of a write that has no finished unit, and the chunks that it has."""
        if self.read_settings() is not None:
            clear(self.destination, keep_marker=True)
            self.marker.remove()


def begin(
    path: RemoteLocation, metadata: dict[str, str], settings: dict[str, Any], *, overwrite: bool
) -> RemoteStaging:
    """Put the marker, and remove what is overwritten.

    ``metadata`` are the documents of the new arrays, by their names below the place.

    Raises
    ------
    TargetExistsError
        If another write has begun.
    WriteError
        If the store does not take it.
    """
    job = uuid.uuid4().hex
    stored = {**settings, "job": job, "metadata": metadata}
    # An unfinished write that is overwritten has a marker; a job of another name is dead.
    noted = {**stored, "clearing": True} if overwrite else stored
    (path / MARKER_NAME).write(json.dumps(noted).encode(), new=not overwrite)
    if overwrite:
        finish_clearing(path, noted)
    return RemoteStaging(path, job)


def finish_clearing(path: RemoteLocation, stored: dict[str, Any]) -> None:
    """Remove what a write overwrites, where its marker says that this was not finished.

    A chunk of the old array that stays would read as one of the new where the new has none.
    """
    if "clearing" in stored:
        clear(path, keep_marker=True)
        whole = {k: v for k, v in stored.items() if k != "clearing"}
        (path / MARKER_NAME).write(json.dumps(whole).encode())


#: The object that says that an array or image is not whole.
MARKER_NAME = ".scout-unfinished"
_INDEX = "(?:0|[1-9][0-9]*)"
# Of an image that is not whole, levels have no metadata of their own.
_OWN_KEY = re.compile(
    rf"(?:{_INDEX}/)?(?:(?:c[./])?{_INDEX}(?:[./]{_INDEX})*|c|\.scout[^/]*(?:/.*)?)"
)


def find_unfinished(path: RemoteLocation) -> dict[str, Any] | None:
    """Give what the marker of an unfinished write says, or ``None`` where there is none.

    Raises
    ------
    LayoutError
        If it cannot be understood.
    """
    return parse_marker(path, (path / MARKER_NAME).read())


def parse_marker(location: Location, raw: bytes | None) -> dict[str, Any] | None:
    """Give what the marker of an unfinished write says that was read; ``None`` of ``None``.

    Raises
    ------
    LayoutError
        If it cannot be understood.
    """
    if raw is None:
        return None
    try:
        found = json.loads(raw)
        if isinstance(found, dict):
            return found
    except ValueError:
        pass
    raise LayoutError(f"{location / MARKER_NAME} is damaged: " + OVERWRITE + " starts afresh")


def check_free(path: RemoteLocation, *, overwrite: bool) -> None:
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
            "at it now. " + RESUME + " finishes it, " + OVERWRITE + " starts afresh."
        )
    names = [name for name, _ in path.find()]
    owned = _owned(names)
    for name in names:
        if name not in owned:
            raise TargetExistsError(
                f"{path} holds {name!r}, which is no part of a Zarr array: it is never removed, "
                + OVERWRITE
                + " or not. Choose another path, or move what is foreign away."
            )
        if not overwrite:
            raise TargetExistsError(
                f"{path} already holds a Zarr array. Choose another path, or give "
                + OVERWRITE
                + ": "
                "it is then removed before the new one is written."
            )


def clear(path: RemoteLocation, *, keep_marker: bool) -> None:
    """Remove the objects of an array or group, metadata first, so that no part of it reads as one.

    The group's own come before those of its members.
    """
    owned = _owned([name for name, _ in path.find()])
    found = sorted(owned - ({MARKER_NAME} if keep_marker else set()), key=_depth)
    path.remove([name for name in found if _is_node_file(name)])
    path.remove([name for name in found if not _is_node_file(name)])


def _owned(names: Sequence[str]) -> set[str]:
    """Give those objects, of all below a place, that are part of a Zarr array or group there.

    What is no part of it itself belongs to an array or group below, down to which
    there are groups all the way.
    """
    there = set(names)
    nodes = {""}
    for name in sorted(filter(_is_node_file, names), key=_depth):
        node = name.rpartition("/")[0]
        above = node.rpartition("/")[0]
        marks = (".zgroup", "zarr.json", MARKER_NAME)
        if above in nodes and any(_join(above, mark) in there for mark in marks):
            nodes.add(node)
    found = set()
    for name in names:
        folder = name.rpartition("/")[0]
        while folder not in nodes:
            folder = folder.rpartition("/")[0]
        rest = name[len(folder) :].lstrip("/")
        if rest in METADATA_FILES or _OWN_KEY.fullmatch(rest):
            found.add(name)
    return found


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _depth(name: str) -> tuple[int, str]:
    return name.count("/"), name


def _is_node_file(name: str) -> bool:
    return name.rpartition("/")[2] in NODE_FILES
