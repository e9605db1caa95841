"""A write in an object store, which has no rename: it grows at its place, behind a marker.

```
<array>/.scout-unfinished             the settings of the write: put first, removed last,
                                      with the last of the notes in the journal
<array>/.scout-journal/<job>/<unit>   one object a finished unit, with the records of its chunks
<array>/.scout-journal/<job>/<unit>.planes   with qc, the record of its planes, put before it
<array>/0/0/0 …                       chunks or shards, each put whole
<array>/.scout-manifest               put when every unit is in
<array>/.zarray or zarr.json …        put with it: until then no software finds an array here

<image>/.scout-unfinished
<image>/.scout-journal/<job>/<level>/<unit>
<image>/0/0/0/0 …                     of each level
<image>/0/.scout-manifest  0/.zarray …   of each level, put when every unit of all is in
<image>/.zattrs                       put with them
<image>/.zgroup                       put after them: until then no software finds an image here
<image>/.scout-manifest               put with .zgroup
```

What has ``.scout-unfinished`` is refused by the readers of this library; others find
no metadata. What cannot be had without a rename: an array that is overwritten
is gone from the moment its successor begins, and a writer that was stopped and wakes
up after the job has ended notices so at its next band, not at its next chunk.
"""

from __future__ import annotations

import base64
import json
import math
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Self

import numpy as np

from scout_dask_io.core.grid import Blocks, Shape, chunk_counts
from scout_dask_io.core.messages import OVERWRITE, RESUME
from scout_dask_io.core.source import Source
from scout_dask_io.errors import LayoutError, ResumeError, ScoutIOError, WriteError
from scout_dask_io.files.location import as_remote
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.files.requests import asked_apart
from scout_dask_io.store.chunk_format import ChunkFormat, format_of
from scout_dask_io.store.create import documents_of
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.manifest import (
    MANIFEST_NAME,
    NOTES_NAME,
    begin_note,
    finish_note,
    manifest_bytes,
    parse_manifest,
)
from scout_dask_io.store.metadata import NODE_FILES, Node, parse_metadata
from scout_dask_io.store.region_write import MIXED, REGION_PREFIX, RegionWrite, add_to_attributes
from scout_dask_io.store.remote_staging import MARKER_NAME, check_free, clear, find_unfinished
from scout_dask_io.store.resumption import misfits, noted_chunks
from scout_dask_io.store.source import ChunkFileSource, ZarrSource, growing_source
from scout_dask_io.store.unfinished import (
    Describe,
    NewArray,
    Unfinished,
    differences,
    gather_records,
    group_documents,
    level_settings,
    progress_of,
)

JOURNAL_NAME = ".scout-journal"
#: Of a region of an array that stands: what says that its writing goes on.
BEGUN = "begun"
# Bytes of what units have kept that are read at one time.
BATCH_NBYTES = 32 * 2**20
# Objects that a store removes by one request.
N_REMOVED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class RemoteTransaction:
    """One write in an object store, as :class:`~scout_dask_io.store.transaction.Transaction` says.

    Attributes
    ----------
    destination : RemoteLocation
        What is to stand there.
    name : str
        Names the write.
    region : RegionWrite, optional
        What is written into an array that stands, whose chunks are replaced.
    settings : dict
        What was noted when the write began, and the metadata of its arrays; empty in
        another process.
    begun : Future, optional
        The end of what :meth:`begin` asks of the store, where the caller goes on meanwhile.
    """

    destination: RemoteLocation
    name: str
    region: RegionWrite | None = None
    settings: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    begun: Future[None] | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the settings behind: every task has its transaction. It has begun elsewhere."""
        self.wait_until_begun()
        return RemoteTransaction, (self.destination, self.name, self.region)

    @classmethod
    def begin(
        cls,
        path: RemoteLocation,
        arrays: Sequence[NewArray],
        settings: dict[str, Any],
        *,
        overwrite: bool,
    ) -> Self:
        """Put the marker of the write, and remove what is overwritten.

        An object is durable once it is put. Of a store that takes several requests at once this
        goes on while the caller has what is to be written read and encoded: :meth:`check` waits
        for it, and raises its error.

        Raises
        ------
        TargetExistsError
            If there is what is not to be replaced, or another write has begun.
        WriteError
            If the store does not take it.
        """
        names = check_free(path, overwrite=overwrite)
        metadata: dict[str, str] = {}
        for new in arrays:
            for name, content in documents_of(new).items():
                metadata[_below(new.level, name)] = content.decode()
        job = uuid.uuid4().hex
        stored = {**settings, "job": job, "metadata": metadata}
        # An unfinished write that is overwritten has a marker; a job of another name is dead.
        noted = {**stored, "clearing": True} if names else stored

        def put() -> None:
            (path / MARKER_NAME).write(json.dumps(noted).encode(), new=not overwrite)
            _finish_clearing(path, noted, names)

        if path.serves_threads:
            return cls(path, job, settings=stored, begun=asked_apart(put))
        put()
        return cls(path, job, settings=stored)

    def wait_until_begun(self) -> None:
        """Wait for the answers to what :meth:`begin` asked.

        Raises
        ------
        ScoutIOError
            If the write could not begin.
        """
        if self.begun is not None:
            self.begun.result()

    @classmethod
    def begin_region(cls, path: RemoteLocation, region: RegionWrite) -> Self:
        """Call the chunks of a region unknown, before the first of them is written.

        Raises
        ------
        WriteError
            If the store does not take it.
        """
        job = uuid.uuid4().hex
        note = begin_note(path, job, region.cells, region.attributes)
        add_to_attributes(path, region.attributes)
        begun = cls(path, job, replace(region, note=note.name))
        (begun.journal(None) / BEGUN).write(b"")
        return begun

    @classmethod
    def find(cls, path: RemoteLocation) -> Self | None:
        """Give the unfinished write of a place, ``None`` if there is none."""
        found = find_unfinished(path)
        return None if found is None else cls(path, str(found.get("job")), settings=found)

    @classmethod
    def resume(cls, path: RemoteLocation, settings: dict[str, Any]) -> Self | None:
        """Give the unfinished write; its ``settings`` are those that it was begun with.

        ``None`` where there is none. Where all was in and only its marker was not
        removed yet, it is removed.

        Raises
        ------
        ResumeError
            If it was begun with other data or settings, naming them.
        """
        found = find_unfinished(path)
        if found is None:
            return None
        if not isinstance(found.get("metadata"), dict):
            raise ResumeError(
                f"the unfinished array at {path} was not written unit by unit: "
                + OVERWRITE
                + " starts afresh"
            )
        details = differences(found, settings)
        if details:
            raise ResumeError(
                f"the unfinished write of {path} was begun with other data or settings: "
                f"{details}. Repeat them, or start afresh with "
                + OVERWRITE
                + " and no "
                + RESUME.name
                + "."
            )
        _finish_clearing(path, found)
        begun = cls(path, str(found["job"]), settings=found)
        raw = (path / MANIFEST_NAME).read()
        try:
            whole = raw is not None and parse_manifest(raw, path / MANIFEST_NAME).job
        except ScoutIOError:
            whole = False
        if whole == begun.name and begun._lies_whole():
            # It was cut off while it was published: all is in, but for metadata perhaps.
            _put_documents(path, _documents_of(found))
            begun._clear_up(name for name, _ in (path / JOURNAL_NAME).find())
            return None
        return begun

    def _lies_whole(self) -> bool:
        """Tell whether all chunks are there, by their sizes, that manifests of this write have.

        Of an image, the group too, whose attributes nobody has noted.
        """
        levels = {name.rpartition("/")[0] for name in self.settings["metadata"]}
        for level in (int(name) if name else None for name in sorted(levels)):
            fmt, root = self.format(level), self.array(level)
            raw = (root / MANIFEST_NAME).read()
            records = None if raw is None else parse_manifest(raw, root / MANIFEST_NAME).records
            if records is None or records.shape != chunk_counts(fmt.shape, fmt.chunks):
                return False
            chunks = noted_chunks(fmt, tuple((n,) for n in fmt.shape), {0: records})
            if next(misfits(root, fmt, chunks, None, deep=False), None) is not None:
                return False
        group = (".zgroup", "zarr.json")
        return "" in levels or any((self.destination / name).is_file() for name in group)

    @property
    def where(self) -> str:
        """What to call it in a message."""
        return str(self.destination)

    @property
    def origin(self) -> Shape:
        """Where the units' coordinates begin in the array that stands; empty of a new one."""
        return () if self.region is None else self.region.origin

    @property
    def tmp(self) -> None:
        """Where computed blocks may wait: a store has no such place."""
        return None

    def array(self, level: int | None) -> RemoteLocation:
        """Give where the array itself lies, or a level."""
        return self.destination if level is None else self.destination / str(level)

    def journal(self, level: int | None) -> RemoteLocation:
        """Give below what the records of finished units are."""
        if self.region is not None:
            return self.destination / f"{REGION_PREFIX}{self.name}"
        every = self.destination / f"{JOURNAL_NAME}/{self.name}"
        return every if level is None else every / str(level)

    def format(self, level: int | None) -> ChunkFormat:
        """Give how the chunks are stored, by the metadata that will be put."""
        if self.region is not None:
            return self.region.format
        fmt = format_of(self._document(level), "/")
        if fmt is None:
            raise LayoutError(
                f"{self.array(level)}: its metadata are not of a kind that is written"
            )
        return fmt

    def source(self, level: int | None) -> Source:
        """Give a growing array as a source, for the levels that are made from it.

        Its metadata are those in the marker: in the store there are none yet.
        """
        return growing_source(self.array(level), self._document(level))

    def _document(self, level: int | None) -> dict[str, Any]:
        """Give the content of the document that describes a growing array."""
        metadata = (self.settings or self._settings_now())["metadata"]
        names = [_below(level, name) for name in ("zarr.json", ".zarray")]
        name = next(name for name in names if name in metadata)
        return parse_metadata(metadata[name].encode(), self.destination / name)

    def exists(self) -> bool:
        """Tell whether the write is neither discarded nor finished."""
        return self._read_settings() is not None

    def check(self) -> None:
        """Refuse to go on with a write that was discarded, or finished elsewhere.

        Of a region, where another array has taken the place of this one.

        Raises
        ------
        WriteError
            If it was.
        """
        if self.region is None:
            begins = self.begun is not None and not self.begun.done()
            self.wait_until_begun()
            if not begins:  # else it was put just now
                self._settings_now()
        elif (self.journal(None) / BEGUN).read() is None:
            raise WriteError(
                f"{self.destination} was replaced or removed while a region of it was written. "
                "Nothing more is written."
            )

    def _read_settings(self) -> dict[str, Any] | None:
        """Give what the marker says now, ``None`` where the write was discarded or is finished."""
        self.wait_until_begun()
        found = find_unfinished(self.destination)
        return found if found is not None and found.get("job") == self.name else None

    def _settings_now(self) -> dict[str, Any]:
        found = self._read_settings()
        if found is None:
            raise WriteError(
                f"the unfinished write of {self.destination} that this task belongs to is gone: "
                "it was discarded, or finished elsewhere. Nothing more is written."
            )
        return found

    def put(self, level: int | None, key: str, data: Any) -> None:
        """Put one chunk or shard."""
        self._write(self.array(level) / key, bytes(data))

    def remove(self, level: int | None, key: str) -> None:
        """Remove one chunk or shard; none is no error."""
        (self.array(level) / key).remove()

    def keep(self, level: int | None, name: str, data: bytes) -> None:
        """Put an object beside the journal's; its name is no number."""
        self._write(self.journal(level) / name, data)

    def kept(self, level: int | None, names: Iterable[str]) -> Iterator[bytes | None]:
        """Yield what :meth:`keep` put, ``None`` where there is nothing; many are asked for at once.

        Memory holds 32 MiB of them.
        """
        journal = self.journal(level)
        sizes = dict(journal.find())
        batch: list[str] = []
        nbytes = 0
        for name in names:
            if batch and nbytes + sizes.get(name, 0) > BATCH_NBYTES:
                yield from journal.read_many(batch).values()
                batch, nbytes = [], 0
            batch.append(name)
            nbytes += sizes.get(name, 0)
        yield from journal.read_many(batch).values()

    def finish_unit(
        self, level: int | None, unit: int, records: np.ndarray, keys: Iterable[str]
    ) -> None:
        """Note that a unit is finished."""
        body = base64.b64encode(records.tobytes())
        self._write(self.journal(level) / str(unit), f"{zlib.crc32(body):08x} ".encode() + body)

    def finished(self, level: int | None) -> dict[int, np.ndarray]:
        """Give the finished units and their chunks' records; all are asked for at once."""
        return self._noted(level, self._units(level))

    def _noted(self, level: int | None, names: Sequence[str]) -> dict[int, np.ndarray]:
        """Give those units that are finished, of some, by the names of their notes."""
        journal = self.journal(level)
        units: dict[int, np.ndarray] = {}
        for name, raw in journal.read_many(names).items():
            checksum, _, body = (raw or b"").partition(b" ")
            if checksum == f"{zlib.crc32(body):08x}".encode():
                units[int(name)] = np.frombuffer(base64.b64decode(body), CHUNK_RECORD)
        return units

    def noted_at(self, level: int | None) -> dict[int, int]:
        """Give when each finished unit was noted, in nanoseconds by the clock of the store."""
        names = self._units(level)
        states = zip(names, self.journal(level).states(names), strict=True)
        return {int(name): state[1] for name, state in states if state is not None}

    def strike(self, level: int | None, units: Set[int]) -> None:
        """Take back that units are finished: they are to be written again."""
        self.journal(level).remove([str(unit) for unit in sorted(units)])

    def restore(self, arrays: Sequence[NewArray]) -> None:
        """Nothing: the metadata of what grows are in the marker alone."""

    def _units(self, level: int | None) -> list[str]:
        return [name for name, _ in self.journal(level).find() if name.isdigit()]

    def _write(self, place: RemoteLocation, data: bytes) -> None:
        try:
            place.write(data)
        except WriteError as err:
            after: str = (
                "What is finished is kept: once the cause is mended, the same call with "
                + RESUME
                + " goes on."
            )
            if self.region is not None:
                after = MIXED
            raise WriteError(f"{err}. " + after) from err

    def put_beside(self, contents: Mapping[str, str]) -> None:
        """Put objects beside the array, by their suffixes, the last named last."""
        for suffix, text in contents.items():
            self.destination.suffixed(suffix).write(text.encode(errors="backslashreplace"))

    def commit(
        self,
        units: Mapping[int | None, Blocks],
        describe: Describe | None = None,
        shared: ChunkFileSource | ZarrSource | None = None,
        known: Mapping[int | None, Mapping[int, np.ndarray]] | None = None,
    ) -> Node | None:
        """Check that every unit is in, and put manifests, metadata and the group.

        ``shared`` is an array of the same store whose objects are copied, by the store
        itself, as those of level 0.

        Raises
        ------
        ResumeError
            If a unit is missing from a journal.
        """
        region = self.region
        if region is not None:
            self.check()
            here = dict((known or {}).get(None, {}))
            if len(here) < math.prod(map(len, units[None])):
                here = self.finished(None)
            records = region.records(units[None], here, self.where)
            note = self.destination / NOTES_NAME / region.note
            finish_note(self.destination, note, region.cells, records, region.attributes)
            self._discard()
            return None
        # Names are known, and of units that this run wrote what is noted: only those of an
        # earlier run are asked for.
        written = {level: dict((known or {}).get(level, {})) for level in units}
        names = {
            level: [str(u) for u in range(math.prod(map(len, blocks))) if u not in written[level]]
            for level, blocks in units.items()
        }
        above = self.destination / JOURNAL_NAME
        lowest = max((level for level in units if level is not None), default=0)
        describing = (dict) if describe is None else partial(describe, self.source, lowest)
        stored, notes, attributes, *found = self.destination.together(
            [
                self._settings_now,
                lambda: list(above.find()),
                describing,
                *(partial(self._noted, *each) for each in names.items()),
            ]
        )
        settings = {k: v for k, v in stored.items() if k not in ("job", "metadata")}
        arrays = {}
        for (level, blocks), rest in zip(units.items(), found, strict=True):
            fmt, in_all = self.format(level), {**written[level], **rest}
            records = gather_records(fmt.shape, fmt.chunks, blocks, in_all, self.journal(level))
            arrays[level] = fmt.shape, records
        if shared is not None and not shared.root.on_disk:
            as_remote(shared.root).copy_below(self.array(0))
            shared.check()
        documents = _documents_of(stored)
        for level, (shape, records) in arrays.items():
            noted = level_settings(settings, level, shape)
            documents[_below(level, MANIFEST_NAME)] = manifest_bytes(records, noted, self.name)
        if describe is None:
            _put_documents(self.destination, documents)
        else:
            group = group_documents(settings["zarr_format"], attributes)
            *beside, last = group
            _put_documents(self.destination, documents | {name: group[name] for name in beside})
            # An image is one from here on: what it is made of is there.
            whole = manifest_bytes(np.zeros(0, CHUNK_RECORD), settings, self.name)
            _put_documents(self.destination, {last: group[last], MANIFEST_NAME: whole})
            documents = group
        self._clear_up(name for name, _ in notes)
        return self._as_put(documents, "array" if describe is None else "group")

    def _clear_up(self, notes: Iterable[str]) -> None:
        """Remove the journal and the marker, which goes with the last notes."""
        names = [f"{JOURNAL_NAME}/{name}" for name in notes]
        first = max(len(names) - N_REMOVED_AT_ONCE + 1, 0)
        if first:
            self.destination.remove(names[:first])
        self.destination.remove([*names[first:], MARKER_NAME])

    def _as_put(self, documents: Mapping[str, bytes], kind: Literal["array", "group"]) -> Node:
        """Give the array or group that stands now, of what was put."""
        name = next(n for n in (".zarray", ".zgroup", "zarr.json") if n in documents)
        metadata = parse_metadata(documents[name], self.destination / name)
        beside = {".zattrs": documents.get(".zattrs")}
        return Node(self.destination, kind, metadata["zarr_format"], metadata, beside)

    def progress(self) -> Unfinished:
        """Give how much of the write is done; names are listed alone."""
        settings = self.settings or self._read_settings()
        return progress_of(self.where, settings, lambda level: len(self._units(level)))

    def abandon(self) -> Unfinished | None:
        """After a failure, remove a write without a finished unit; give what is kept of another.

        Raises
        ------
        ScoutIOError
            If the store cannot be asked.
        """
        if self.region is not None:
            with suppress(ScoutIOError):  # the store may be what failed
                self._discard()
            return None
        try:
            self.wait_until_begun()
        except ScoutIOError:
            return None  # which the caller is told of
        if not self.exists():
            return None
        found = self.progress()
        if found.n_finished:
            return found
        clear(self.destination, keep_marker=True)
        (self.destination / MARKER_NAME).remove()
        return None

    def _discard(self) -> None:
        """Remove what is noted of a region until all is in."""
        journal = self.journal(None)
        journal.remove([name for name, _ in journal.find()])


def _finish_clearing(
    path: RemoteLocation, stored: dict[str, Any], names: Sequence[str] | None = None
) -> None:
    """Remove what a write overwrites, where its marker says that this was not finished.

    A chunk of the old array that stays would read as one of the new where the new has none.
    """
    if "clearing" in stored:
        clear(path, keep_marker=True, names=names)
        whole = {k: v for k, v in stored.items() if k != "clearing"}
        (path / MARKER_NAME).write(json.dumps(whole).encode())


def _documents_of(settings: Mapping[str, Any]) -> dict[str, bytes]:
    """Give the metadata of the arrays of a write, by their names below the destination."""
    return {name: text.encode() for name, text in settings["metadata"].items()}


def _put_documents(path: RemoteLocation, documents: Mapping[str, bytes]) -> None:
    """Put manifests and metadata, at once but for what makes a node of its attributes: it is last.

    Readers here look at none of them until the marker goes; others see a whole array, or none.
    """
    nodes = {n for n in documents if n.rpartition("/")[2] in NODE_FILES}
    attributes = {n for n in documents if n.rpartition("/")[2] == ".zattrs"}
    steps = [documents.keys() - nodes, nodes] if attributes else [documents.keys()]
    for names in steps:
        path.together([partial((path / name).write, documents[name]) for name in sorted(names)])


def _below(level: int | None, name: str) -> str:
    return name if level is None else f"{level}/{name}"
