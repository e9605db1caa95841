"""A directory where an array or an image comes to stand: it grows beside it, and is renamed.

```
<job>/array/             the growing array, or the image's group
<job>/array/0 1 2 ...    of an image its levels, each an array
<job>/journal/           the finished units; of an image a folder a level
```

A unit that makes several levels is noted in the journal of the highest last.
The group of an image has a manifest without chunks, by which it is known as the
work of its job; each level has its own, as an array has.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Blocks, chunk_counts
from scout_dask_io.core.messages import OVERWRITE
from scout_dask_io.core.source import Source
from scout_dask_io.errors import LayoutError, ResumeError, WriteError
from scout_dask_io.files.disk import naming_errors
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.store.chunk_format import ChunkFormat, format_at
from scout_dask_io.store.create import write_metadata
from scout_dask_io.store.journal import CHUNK_RECORD, read_units
from scout_dask_io.store.layout import array_at
from scout_dask_io.store.manifest import MANIFEST_NAME, write_manifest
from scout_dask_io.store.source import ChunkFileSource, ZarrSource, open_source
from scout_dask_io.store.staging import (
    Staging,
    begin_staging,
    check_destination,
    discard_staging,
    drop_staging,
    find_staging,
    publish,
    recover,
    sweep,
)
from scout_dask_io.store.unfinished import (
    NewArray,
    differences,
    gather_records,
    group_documents,
    level_settings,
)
from scout_dask_io.write.unit import Target


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A directory, on a local or shared disk."""

    path: Path

    def begin(
        self,
        arrays: Sequence[NewArray],
        settings: dict[str, Any],
        *,
        overwrite: bool,
        durable: bool,
    ) -> list[Target]:
        """Make the staging directory and the empty arrays in it; ``job.json`` comes last.

        Raises
        ------
        TargetExistsError
            If the destination is not to be replaced, or another write has begun.
        WriteError
            If a file cannot be written; nothing is left.
        """
        check_destination(self.path, overwrite=overwrite)
        if overwrite:
            discard_staging(self.path)
        staging = begin_staging(self.path)
        try:
            # Once more: another write may have been published since.
            check_destination(self.path, overwrite=overwrite)
            with naming_errors(staging.array, "what is to grow there cannot be made"):
                for new in arrays:
                    here = staging.of_level(new.level)
                    if new.level is not None:
                        here.array.mkdir()
                        here.journal.mkdir()
                    write_metadata(here.array, new.shape, new.chunks, new.dtype, **new.settings)
                staging.write_settings(settings)
                return [_target(staging.of_level(new.level), durable) for new in arrays]
        except BaseException:
            drop_staging(staging)
            raise

    def resume(
        self, settings: dict[str, Any], levels: Sequence[int | None], *, durable: bool
    ) -> tuple[list[Target], dict[str, Any]] | None:
        """Give the unfinished arrays, and the settings that they were begun with.

        ``None`` where there are none, or where the write was stopped before it had
        begun. What a kill left half written is removed.

        Raises
        ------
        ResumeError
            If it was begun with other data or settings, naming them.
        """
        recover(self.path)
        sweep(self.path)
        staging = find_staging(self.path)
        if staging is None:
            return None
        stored = staging.read_settings()
        if stored is None:
            drop_staging(staging)
            return None
        details = differences(stored, settings)
        if details:
            raise ResumeError(
                f"the unfinished write of {self.path} in {staging.job} was begun with other data "
                f"or settings: {details}. Repeat them, or start afresh with "
                + OVERWRITE
                + " and no resume."
            )
        with naming_errors(staging.job, "the unfinished write there cannot be continued"):
            staging.tmp.mkdir(exist_ok=True)
            # A kill in the last moment may leave the draft of a manifest, of the
            # array or of a level of an image.
            draft = f"{MANIFEST_NAME}-*.tmp"
            drafts = [*staging.array.glob(draft), *staging.array.glob(f"*/{draft}")]
            for leftover in [*staging.tmp.iterdir(), *drafts]:
                leftover.unlink(missing_ok=True)
            return [_target(staging.of_level(level), durable) for level in levels], stored

    def source_of(self, target: Target) -> Source:
        """Give a growing array as a source, for the levels that are made from it."""
        staging: Any = target.staging
        return open_source(staging.array)

    def finish(
        self,
        targets: Sequence[Target],
        units: Sequence[Blocks],
        *,
        overwrite: bool,
        describe: Callable[[Path], dict[str, Any]] | None = None,
        shared: ChunkFileSource | ZarrSource | None = None,
    ) -> None:
        """Check that every unit is in, write manifests and the group, and give it its name.

        Parameters
        ----------
        targets, units
            The arrays, and the units of each.
        overwrite : bool
            Whether what stands there is replaced.
        describe
            Of an image: gives the group's attributes, from the path of the lowest level.
        shared : ChunkFileSource or ZarrSource, optional
            An array on this disk whose files become those of level 0 too, by hard links.

        Raises
        ------
        ResumeError
            If a unit is missing from a journal.
        """
        places: list[Any] = [target.staging for target in targets]
        staging: Staging = places[0].of_level(None)
        with naming_errors(staging.job, "what grew there cannot be finished"):
            records = [_records(t, u) for t, u in zip(targets, units, strict=True)]
            settings = staging.read_settings()
            if settings is None or not staging.array.is_dir():
                raise WriteError(
                    f"the unfinished write of {self.path} in {staging.job} is gone: it was "
                    "discarded, or finished elsewhere. What stands at the destination was not "
                    "changed."
                )
            job = staging.job.name
            for target, here, found in zip(targets, places, records, strict=True):
                of_level = level_settings(settings, here.level, target.format.shape)
                write_manifest(here.array, found, of_level, job)
            if shared is not None:
                full = staging.of_level(0).array
                shutil.rmtree(full, ignore_errors=True)  # of a run that was cut off here
                shutil.copytree(str(shared.root), full, copy_function=os.link)
                shared.check()
            if describe is not None:
                attributes = describe(places[-1].array)
                for name, document in group_documents(settings["zarr_format"], attributes).items():
                    (staging.array / name).write_bytes(document)
                write_manifest(staging.array, np.zeros(0, CHUNK_RECORD), settings, job)
        publish(staging, overwrite=overwrite, durable=targets[0].durable)


def _target(staging: Staging, durable: bool) -> Target:
    fmt = format_at(array_at(LocalLocation(staging.array)))
    if fmt is None:
        raise LayoutError(f"{staging.array}: its metadata are not of a kind that is written")
    return Target(staging, fmt, fmt.chunks, durable)


def _records(target: Target, units: Blocks) -> np.ndarray:
    """Give the records of all chunks from the journal; of a write that is gone, none."""
    staging: Any = target.staging
    noted = read_units(staging.journal)
    fmt: ChunkFormat = target.format
    if not staging.job.exists():
        return np.zeros(chunk_counts(fmt.shape, fmt.chunks), CHUNK_RECORD)
    return gather_records(fmt.shape, fmt.chunks, units, noted, staging.journal)
