"""Writing a region of an array that stands: whole chunks, each replaced in one step.

There is no staging: chunk files are written beside their places, in
``.scout-region-<job>`` inside the array, and renamed; in an object store they are put
in one step. A reader sees each chunk old or new, and after a failure the region is a
mixture of whole chunks, which the manifest calls unknown until the same region has been
written again.

In an object store, ``.scout-region-<job>`` in the array holds what is noted until all
are in; once it is gone, another array has taken this one's place, and a writer that
comes late stops.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Blocks, Region, Shape, chunk_cells, region_shape
from scout_dask_io.core.source import Source
from scout_dask_io.errors import ScoutIOError
from scout_dask_io.files.disk import naming_errors, remove_tree
from scout_dask_io.files.location import Location, as_local, as_remote
from scout_dask_io.store.chunk_format import ChunkFormat
from scout_dask_io.store.local_transaction import LocalTransaction
from scout_dask_io.store.manifest import (
    MANIFEST_NAME,
    NOTES_NAME,
    UNKNOWN,
    begin_note,
    change_records,
    finish_note,
    locked,
    parse_manifest,
)
from scout_dask_io.store.metadata import read_node, replace_attributes
from scout_dask_io.store.remote_transaction import BEGUN, RemoteTransaction
from scout_dask_io.store.source import ChunkFileSource, ZarrSource
from scout_dask_io.store.staging import Staging
from scout_dask_io.store.unfinished import gather_records

REGION_PREFIX = ".scout-region-"


@dataclass(frozen=True, slots=True)
class RegionTransaction:
    """The writing of one region, as :class:`~scout_dask_io.store.transaction.Transaction` says.

    Attributes
    ----------
    base : LocalTransaction or RemoteTransaction
        Takes the chunks, at the keys that they have in the array, and the journal.
    region : tuple of slice
        Whole chunks of the array.
    stored : ArrayFormat or ShardFormat
        How the array's chunks are stored.
    attributes : dict
        What is added to lists among the array's attributes, by their names.
    note : str
        In an object store, the name of the note that says which chunks are concerned.
    """

    base: LocalTransaction | RemoteTransaction
    region: Region
    stored: ChunkFormat
    attributes: Mapping[str, list[Any]] = field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        """Names the write."""
        return self.base.name

    @property
    def destination(self) -> Location:
        """The array."""
        return self.base.destination

    @property
    def where(self) -> str:
        """What to call it in a message."""
        return self.base.where

    @property
    def settings(self) -> dict[str, Any]:
        """Nothing: the array has its own."""
        return {}

    @property
    def origin(self) -> Shape:
        """Where in the array the units' coordinates begin."""
        return tuple(s.start for s in self.region)

    @property
    def tmp(self) -> Path | None:
        """Where computed blocks may wait."""
        return self.base.tmp

    def format(self, level: int | None) -> ChunkFormat:
        """Give how the chunks are stored."""
        return self.stored

    def source(self, level: int | None) -> Source:
        """Give the array as a source."""
        return self.base.source(level)

    def exists(self) -> bool:
        """Tell whether the write goes on."""
        return self.base.exists()

    def check(self) -> None:
        """Refuse to go on where another array has taken the place of this one."""
        self.base.check()

    def put(self, level: int | None, key: str, data: Any) -> None:
        """Replace a chunk or shard, in one step."""
        self.base.put(level, key, data)

    def remove(self, level: int | None, key: str) -> None:
        """Remove a chunk or shard that has become empty; none is no error."""
        self.base.remove(level, key)

    def keep(self, level: int | None, name: str, data: bytes) -> None:
        """Write what is to be found beside the journal."""
        self.base.keep(level, name, data)

    def kept(self, level: int | None, names: Iterable[str]) -> Iterator[bytes | None]:
        """Yield what :meth:`keep` wrote, ``None`` where there is nothing."""
        return self.base.kept(level, names)

    def put_beside(self, contents: Mapping[str, str]) -> None:
        """Write files beside the array."""
        self.base.put_beside(contents)

    def finish_unit(
        self, level: int | None, unit: int, records: np.ndarray, keys: Iterable[str]
    ) -> None:
        """Note that a unit is finished, when all its chunks are in."""
        self.base.finish_unit(level, unit, records, keys)

    def finished(self, level: int | None) -> dict[int, np.ndarray]:
        """Give the finished units and their chunks' records."""
        return self.base.finished(level)

    def commit(
        self,
        units: Mapping[int | None, Blocks],
        describe: Callable[[Any], dict[str, Any]] | None = None,
        shared: ChunkFileSource | ZarrSource | None = None,
    ) -> None:
        """Note what the region's chunks are now: the manifest is written once.

        Raises
        ------
        ResumeError
            If one was not written.
        WriteError
            If a file or object cannot be written.
        """
        base, chunks = self.base, self.stored.chunks
        base.check()
        cells = chunk_cells(self.region, chunks)
        with naming_errors(str(base.destination), "its manifest cannot be brought up to date"):
            # The region as an array of its own: it begins on the edge of a chunk.
            records = gather_records(
                region_shape(self.region), chunks, units[None], self.finished(None), base.where
            )
            if isinstance(base, RemoteTransaction):
                place = base.destination / NOTES_NAME / self.note
                finish_note(base.destination, place, cells, records, self.attributes)
            else:
                change_records(base.destination, cells, records, durable=base.durable)
        self._discard()

    def abandon(self) -> None:
        """Remove what a failed write has left besides its chunks."""
        with suppress(ScoutIOError):  # the store may be what failed
            self._discard()

    def _discard(self) -> None:
        if isinstance(self.base, RemoteTransaction):
            self.base.discard()
        else:
            remove_tree(self.base.staging.job)


def begin_region(
    path: Location,
    fmt: ChunkFormat,
    region: Region,
    *,
    durable: bool = False,
    attributes: Mapping[str, list[Any]] | None = None,
) -> RegionTransaction:
    """Make room for the chunks in the making, and call those of the region unknown.

    Parameters
    ----------
    path : Location
        The array.
    fmt : ArrayFormat or ShardFormat
        How its chunks are stored.
    region : tuple of slice
        Whole chunks of it.
    durable : bool
        Whether files are synced before they count as written.
    attributes : mapping, optional
        What to add to lists among its attributes, by their names. No other writer's are
        lost: on a disk a lock sees to that, in a store the note of the region has them too.

    Raises
    ------
    WriteError
        If a file or object cannot be written.
    """
    job, added = uuid.uuid4().hex, dict(attributes or {})
    cells = chunk_cells(region, fmt.chunks)
    if not path.on_disk:
        note = begin_note(path, job, cells, added)
        _add_to_attributes(path, added)
        remote = RemoteTransaction(as_remote(path), job, in_place=True)
        (remote.journal(None) / BEGUN).write(b"")
        return RegionTransaction(remote, region, fmt, added, note.name)
    here = as_local(path)
    staging = Staging(here, here / f"{REGION_PREFIX}{job}")
    with naming_errors(here, "a region of it cannot be written"):
        try:
            for folder in (staging.job, staging.tmp, staging.journal):
                folder.mkdir()
            with locked(here):
                _add_to_attributes(here, added, durable=durable)
            change_records(here, cells, UNKNOWN, durable=durable)
        except BaseException:
            remove_tree(staging.job)
            raise
    return RegionTransaction(LocalTransaction(staging, durable, in_place=True), region, fmt, added)


def _add_to_attributes(
    path: Location, added: Mapping[str, list[Any]], *, durable: bool = False
) -> None:
    """Add to lists among an array's attributes."""
    node = read_node(path, (MANIFEST_NAME,)) if added else None
    if node is None:
        return
    attributes = dict(node.attributes)
    for name, entries in added.items():
        there = attributes.get(name)
        if there is None:
            raw = node.file(MANIFEST_NAME)
            settings = {} if raw is None else parse_manifest(raw, path).settings
            noted = settings.get("attributes")
            there = noted.get(name) if isinstance(noted, dict) else None
        there = there if isinstance(there, list) else []
        attributes[name] = [*there, *(entry for entry in entries if entry not in there)]
    replace_attributes(node, attributes, durable=durable)
