"""A place in an object store where an array or an image comes to stand, behind a marker.

:mod:`~scout_dask_io.store.remote_staging` says what lies there while it grows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Blocks
from scout_dask_io.core.messages import OVERWRITE
from scout_dask_io.core.source import Source
from scout_dask_io.errors import LayoutError, ResumeError, ScoutIOError
from scout_dask_io.files.location import as_remote
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.store.chunk_format import format_of
from scout_dask_io.store.create import metadata_documents
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.manifest import MANIFEST_NAME, manifest_bytes, parse_manifest
from scout_dask_io.store.metadata import parse_metadata
from scout_dask_io.store.remote_staging import (
    RemoteStaging,
    begin,
    check_free,
    find_unfinished,
    finish_clearing,
)
from scout_dask_io.store.source import ZarrSource, growing_source
from scout_dask_io.store.unfinished import (
    NewArray,
    differences,
    gather_records,
    group_documents,
    level_settings,
)
from scout_dask_io.write.unit import Target


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """A prefix of an object store."""

    path: RemoteLocation

    def begin(
        self,
        arrays: Sequence[NewArray],
        settings: dict[str, Any],
        *,
        overwrite: bool,
        durable: bool,
    ) -> list[Target]:
        """Put the marker of the write; an object is durable once it is put.

        Raises
        ------
        TargetExistsError
            If there is what is not to be replaced, or another write has begun.
        WriteError
            If the store does not take it.
        """
        check_free(self.path, overwrite=overwrite)
        metadata: dict[str, str] = {}
        for new in arrays:
            documents = metadata_documents(new.shape, new.chunks, new.dtype, new.settings)
            for name, content in documents.items():
                metadata[_below(new.level, name)] = content.decode()
        staging = begin(self.path, metadata, settings, overwrite=overwrite)
        return [_target(staging.of_level(new.level), metadata) for new in arrays]

    def resume(
        self, settings: dict[str, Any], levels: Sequence[int | None], *, durable: bool
    ) -> tuple[list[Target], dict[str, Any]] | None:
        """Give the unfinished arrays, and the settings that they were begun with, or ``None``.

        Where all was in and only its marker was not removed yet, it is removed.

        Raises
        ------
        ResumeError
            If it was begun with other data or settings, naming them.
        """
        found = find_unfinished(self.path)
        if found is None:
            return None
        if not isinstance(found.get("metadata"), dict):
            raise ResumeError(
                f"the unfinished array at {self.path} was not written unit by unit: "
                + OVERWRITE
                + " starts afresh"
            )
        details = differences(found, settings)
        if details:
            raise ResumeError(
                f"the unfinished write of {self.path} was begun with other data or settings: "
                f"{details}. Repeat them, or start afresh with " + OVERWRITE + " and no resume."
            )
        finish_clearing(self.path, found)
        staging = RemoteStaging(self.path, str(found["job"]))
        raw = (self.path / MANIFEST_NAME).read()
        try:
            whole = raw is not None and parse_manifest(raw, self.path / MANIFEST_NAME).job
        except ScoutIOError:
            whole = False
        if whole == staging.job_id:
            # It was cut off while it was published: all is in, but for metadata perhaps.
            _write_metadata(self.path, found)
            staging.retire()
            return None
        return [_target(staging.of_level(level), found["metadata"]) for level in levels], found

    def source_of(self, target: Target) -> Source:
        """Give a growing array as a source, for the levels that are made from it.

        Its metadata are those in the marker: in the store there are none yet.
        """
        staging: Any = target.staging
        found = staging.read_settings()
        if found is None:
            staging.check()
        _, document = _document(staging, found["metadata"])
        return growing_source(staging.array, document)

    def finish(
        self,
        targets: Sequence[Target],
        units: Sequence[Blocks],
        *,
        overwrite: bool,
        describe: Callable[[RemoteLocation], dict[str, Any]] | None = None,
        shared: ZarrSource | None = None,
    ) -> None:
        """Check that every unit is in, and put manifests, metadata and the group.

        Parameters
        ----------
        targets, units
            The arrays, and the units of each.
        overwrite : bool
            What stood there was removed when the write began.
        describe
            Of an image: gives the group's attributes, from the place of the lowest level.
        shared : ZarrSource, optional
            An array of the same store whose objects are copied, by the store itself, as
            those of level 0.

        Raises
        ------
        ResumeError
            If a unit is missing from a journal.
        """
        places: list[Any] = [target.staging for target in targets]
        staging: RemoteStaging = places[0].of_level(None)
        stored = staging.read_settings()
        if stored is None:
            staging.check()
            return
        settings = {k: v for k, v in stored.items() if k not in ("job", "metadata")}
        records = [
            gather_records(t.format.shape, t.format.chunks, blocks, here.read_units(), here.journal)
            for t, blocks, here in zip(targets, units, places, strict=True)
        ]
        if shared is not None and not shared.root.on_disk:
            as_remote(shared.root).copy_below(staging.of_level(0).array)
            shared.check()
        for target, here, found in zip(targets, places, records, strict=True):
            of_level = level_settings(settings, here.level, target.format.shape)
            (here.array / MANIFEST_NAME).write(manifest_bytes(found, of_level, staging.job_id))
        _write_metadata(self.path, stored)
        if describe is not None:
            attributes = describe(places[-1].array)
            for name, document in group_documents(settings["zarr_format"], attributes).items():
                (self.path / name).write(document)
            whole = manifest_bytes(np.zeros(0, CHUNK_RECORD), settings, staging.job_id)
            (self.path / MANIFEST_NAME).write(whole)
        staging.retire()


def _write_metadata(path: RemoteLocation, stored: dict[str, Any]) -> None:
    for name, document in stored["metadata"].items():
        (path / name).write(document.encode())


def _below(level: int | None, name: str) -> str:
    return name if level is None else f"{level}/{name}"


def _document(staging: RemoteStaging, metadata: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Give the name and the content of the document that describes a growing array."""
    names = [_below(staging.level, name) for name in ("zarr.json", ".zarray")]
    name = next(name for name in names if name in metadata)
    return name, parse_metadata(metadata[name].encode(), staging.destination / name)


def _target(staging: RemoteStaging, metadata: dict[str, str]) -> Target:
    _, document = _document(staging, metadata)
    fmt = format_of(document, "/")
    if fmt is None:
        raise LayoutError(f"{staging.array}: its metadata are not of a kind that is written")
    return Target(staging, fmt, fmt.chunks)
