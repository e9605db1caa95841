"""A write on a local or shared disk: it grows beside its destination, and is renamed.

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
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import Blocks, Shape
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import OVERWRITE, RESUME, warn
from scout_dask_io.core.source import Source
from scout_dask_io.errors import LayoutError, ResumeError, ScoutIOError, WriteError
from scout_dask_io.files.disk import (
    naming_errors,
    remove_tree,
    sync_files,
    sync_folders,
    sync_tree,
)
from scout_dask_io.files.local import DRAFT_PREFIX, LocalLocation
from scout_dask_io.files.system import NO_LINK, free_nbytes, locked, sync_dir
from scout_dask_io.store.chunk_format import ChunkFormat, format_at
from scout_dask_io.store.chunk_v2 import write_file
from scout_dask_io.store.create import documents_of
from scout_dask_io.store.growth import decide_patch
from scout_dask_io.store.journal import (
    CHUNK_RECORD,
    append_unit,
    read_units,
    strike_units,
    unit_times,
)
from scout_dask_io.store.layout import array_at
from scout_dask_io.store.manifest import UNKNOWN, change_records, write_manifest
from scout_dask_io.store.metadata import Node
from scout_dask_io.store.patch import describe_patch, state_of
from scout_dask_io.store.region_write import MIXED, REGION_PREFIX, RegionWrite, add_to_attributes
from scout_dask_io.store.sidecar import write_beside
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
    UPDATES,
    Describe,
    NewArray,
    Unfinished,
    adopted,
    differences,
    gather_records,
    group_documents,
    level_settings,
    progress_of,
)

_counter = count()


@dataclass(frozen=True, slots=True)
class LocalTransaction:
    """One write on a disk, as :class:`~scout_dask_io.store.transaction.Transaction` says.

    Attributes
    ----------
    staging : Staging
        Where it grows; of a region of an array that stands, what is kept until it is written.
    durable : bool
        Whether files are synced to the disk before they count as written.
    overwrite : bool
        Whether what stands at the destination is replaced.
    region : RegionWrite, optional
        What is written into an array that stands, whose chunks are replaced.
    settings : dict
        What was noted when the write began; empty in another process.
    """

    staging: Staging
    durable: bool = False
    overwrite: bool = False
    region: RegionWrite | None = None
    settings: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave the settings behind: every task has its transaction."""
        return LocalTransaction, (self.staging, self.durable, self.overwrite, self.region)

    @classmethod
    def begin(
        cls,
        path: LocalLocation,
        arrays: Sequence[NewArray],
        settings: dict[str, Any],
        *,
        overwrite: bool,
        durable: bool,
    ) -> Self:
        """Make the staging directory and the empty arrays in it; ``job.json`` comes last.

        Raises
        ------
        TargetExistsError
            If the destination is not to be replaced, or another write has begun.
        WriteError
            If a file cannot be written; nothing is left.
        """
        check_destination(path, overwrite=overwrite)
        if overwrite:
            discard_staging(path)
        staging = begin_staging(path, durable=durable)
        begun = cls(staging, durable, overwrite, settings=settings)
        try:
            if not overwrite:
                # Once more: another write may have been published since.
                check_destination(path, overwrite=overwrite)
            with naming_errors(staging.array, "what is to grow there cannot be made"):
                for new in arrays:
                    here = begun.array(new.level)
                    if new.level is not None:
                        here.mkdir()
                        begun.journal(new.level).mkdir()
                    # Nothing but these files: where the directory has gone, so has the write.
                    for name, content in documents_of(new).items():
                        (here / name).write_bytes(content)
                staging.write_settings(settings)
                if durable:
                    sync_files([staging.job / "job.json"])
                    sync_tree(staging.job)
                    sync_dir(staging.job.parent)
        except BaseException:
            drop_staging(staging)
            raise
        return begun

    @classmethod
    def begin_region(cls, path: LocalLocation, region: RegionWrite, *, durable: bool) -> Self:
        """Make room for the chunks in the making, and call those of the region unknown.

        Raises
        ------
        WriteError
            If a file cannot be written.
        """
        staging = Staging(path, path / f"{REGION_PREFIX}{uuid.uuid4().hex}")
        with naming_errors(path, "a region of it cannot be written"):
            try:
                for folder in (staging.job, staging.tmp, staging.journal):
                    folder.mkdir()
                with locked(path):
                    add_to_attributes(path, region.attributes, durable=durable)
                change_records(path, region.cells, UNKNOWN, durable=durable)
            except BaseException:
                remove_tree(staging.job)
                raise
        return cls(staging, durable, region=region)

    @classmethod
    def find(cls, path: LocalLocation) -> Self | None:
        """Give the unfinished write of a destination, ``None`` if there is none."""
        staging = find_staging(path)
        return None if staging is None else cls(staging)

    @classmethod
    def resume(
        cls, path: LocalLocation, settings: dict[str, Any], *, overwrite: bool, durable: bool
    ) -> Self | None:
        """Give the unfinished write; its ``settings`` are those that it was begun with.

        ``None`` where there is none, or where it was stopped before it had begun. What a
        kill left half written is removed.

        Raises
        ------
        ResumeError
            If it was begun with other data or settings, naming them.
        """
        recover(path)
        sweep(path)
        staging = find_staging(path)
        if staging is None:
            return None
        stored = staging.read_settings()
        if stored is None:
            drop_staging(staging)
            return None
        begun = stored
        stored = adopted(stored, settings)
        details = differences(stored, settings)
        if details:
            raise ResumeError(
                f"the unfinished write of {path} in {staging.job} was begun with other data "
                f"or settings: {details}. Repeat them, or start afresh with "
                + OVERWRITE
                + " and no "
                + RESUME.name
                + "."
            )
        if stored != begun:
            staging.write_settings(stored)
        with naming_errors(staging.job, "the unfinished write there cannot be continued"):
            staging.tmp.mkdir(exist_ok=True)
            # A kill in the last moment may leave the draft of a manifest, of the
            # array or of a level of an image.
            draft = f"{DRAFT_PREFIX}*.tmp"
            drafts = [*staging.array.glob(draft), *staging.array.glob(f"*/{draft}")]
            for leftover in [*staging.tmp.iterdir(), *drafts]:
                leftover.unlink(missing_ok=True)
        return cls(staging, durable, overwrite, settings=stored)

    def restore(self, arrays: Sequence[NewArray]) -> None:
        """Write directories and metadata of the growing arrays again where they are not as made.

        Raises
        ------
        WriteError
            If one cannot be written.
        """
        with naming_errors(self.staging.array, "what grows there cannot be continued"):
            for new in arrays:
                here = self.array(new.level)
                for folder in (here, self.journal(new.level)):
                    folder.mkdir(parents=True, exist_ok=True)
                for name, content in documents_of(new).items():
                    if not _says(here / name, content):
                        (here / name).write(content, durable=self.durable)
                        _format_in.cache_clear()

    def note(self, **changes: Any) -> dict[str, Any]:
        """Change what is noted of the write, in one step, and give all that is.

        Raises
        ------
        WriteError
            If it is gone, or cannot be noted.
        """
        settings = {**self._settings_now(), **changes}
        self.staging.write_settings(settings)
        return settings

    @property
    def name(self) -> str:
        """Names the write."""
        return self.staging.job.name

    @property
    def destination(self) -> LocalLocation:
        """What is to stand there."""
        return self.staging.destination

    @property
    def where(self) -> str:
        """What to call it in a message."""
        return str(self.staging.job)

    @property
    def origin(self) -> Shape:
        """Where the units' coordinates begin in the array that stands; empty of a new one."""
        return () if self.region is None else self.region.origin

    @property
    def tmp(self) -> LocalLocation:
        """Where computed blocks may wait."""
        return self.staging.tmp

    def array(self, level: int | None) -> LocalLocation:
        """Give the directory of the growing array, or of a level."""
        if self.region is not None:
            return self.staging.destination
        whole = self.staging.array
        return whole if level is None else whole / str(level)

    def journal(self, level: int | None) -> LocalLocation:
        """Give the directory in which the finished units are noted."""
        every = self.staging.journal
        return every if level is None else every / str(level)

    def format(self, level: int | None) -> ChunkFormat:
        """Give how the chunks are stored, by the metadata."""
        if self.region is not None:
            return self.region.format
        return _format_in(self.array(level))

    def source(self, level: int | None) -> Source:
        """Give a growing array as a source, for the levels that are made from it."""
        return open_source(self.array(level))

    def wait_until_begun(self) -> None:
        """Nothing: on a disk a write has begun when it is given."""

    def exists(self) -> bool:
        """Tell whether the write is neither discarded nor published."""
        return self.staging.job.exists()

    def check(self) -> None:
        """Nothing: in a directory that is gone no file can be written."""

    def put(self, level: int | None, key: str, data: Any) -> None:
        """Write a chunk's file."""
        root = self._root(level)
        # Of an array that stands, a chunk is replaced in one step.
        self._write(f"{root}/{key}", data, root, unseen=self.region is None)

    def remove(self, level: int | None, key: str) -> None:
        """Remove a chunk's file; none is no error."""
        path = f"{self._root(level)}/{key}"
        try:
            Path(path).unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as err:
            if self.region is None and os.path.isdir(path):
                remove_tree(Path(path))  # in staging, where all is the write's own
                return
            raise self._explained(err, path) from err

    def keep(self, level: int | None, name: str, data: bytes) -> None:
        """Write a file beside the journal's, whole or not at all."""
        folder = os.fspath(self.journal(level))
        self._write(f"{folder}/{name}", data, folder)
        if self.durable:
            with naming_errors(folder, "what is kept there cannot be synced"):
                sync_dir(Path(folder))

    def kept(self, level: int | None, names: Iterable[str]) -> Iterator[bytes | None]:
        """Yield what :meth:`keep` wrote, ``None`` where there is nothing."""
        journal = self.journal(level)
        for name in names:
            try:
                yield (journal / name).read_bytes()
            except FileNotFoundError:
                yield None

    def finish_unit(
        self, level: int | None, unit: int, records: np.ndarray, keys: Iterable[str]
    ) -> None:
        """Append to the journal, with ``durable`` once the names of the chunks are synced."""
        root, journal = self._root(level), self.journal(level)
        try:
            if self.durable:
                sync_folders(root, keys)
            append_unit(journal, unit, records, durable=self.durable)
        except OSError as err:
            raise self._explained(err, err.filename or os.fspath(journal)) from err

    def finished(self, level: int | None) -> dict[int, np.ndarray]:
        """Give the finished units and their chunks' records, as the journal holds them."""
        journal = self.journal(level)
        with naming_errors(journal, "the journal cannot be read"):
            return read_units(journal)

    def noted_at(self, level: int | None) -> dict[int, int]:
        """Give when each finished unit was noted, in nanoseconds by the clock of the disk."""
        journal = self.journal(level)
        with naming_errors(journal, "the journal cannot be read"):
            return unit_times(journal)

    def strike(self, level: int | None, units: Set[int]) -> None:
        """Take units out of the journal: they are to be written again."""
        journal = self.journal(level)
        with naming_errors(journal, "the journal cannot be brought up to date"):
            strike_units(journal, units, durable=self.durable)

    def _root(self, level: int | None) -> str:
        # Text, not a Path: made for every chunk.
        if self.region is not None:
            return str(self.staging.destination)
        whole = f"{self.staging.job}/array"
        return whole if level is None else f"{whole}/{level}"

    def _write(self, path: str, data: Any, root: str, *, unseen: bool = False) -> None:
        temporary = f"{self.staging.job}/tmp/{os.getpid()}-{threading.get_ident()}-{next(_counter)}"
        try:
            write_file(path, temporary, data, root=root, durable=self.durable, unseen=unseen)
        except OSError as err:
            raise self._explained(err, path) from err

    def _explained(self, err: OSError, path: str) -> WriteError:
        """Give a write failure as one that names the file and says how to go on."""
        staging = self.staging
        if not self.array(None).is_dir() or not staging.journal.is_dir():
            return WriteError(
                f"{path}: the unfinished write that this task belongs to is not there (as "
                f"{socket.gethostname()} sees it): it was discarded, or finished elsewhere, or "
                "this machine does not share the disk. Nothing was changed."
            )
        after: str = (
            f"The destination {staging.destination} is as it was. Once the cause is mended, the "
            "same call with " + RESUME + " goes on."
        )
        if self.region is not None:
            after = MIXED
        try:
            free = f" ({format_nbytes(free_nbytes(staging.job))} free)"
        except OSError:
            free = ""
        error = WriteError(f"{path} cannot be written: {err.strerror}{free}. " + after)
        error.errno = err.errno
        return error

    def put_beside(self, contents: Mapping[str, str]) -> None:
        """Write files, by their suffixes, that get names beside the array when it has its own."""
        write_beside(self.staging.beside, self.destination, contents, durable=self.durable)

    def commit(
        self,
        units: Mapping[int | None, Blocks],
        describe: Describe | None = None,
        shared: ChunkFileSource | ZarrSource | None = None,
        known: Mapping[int | None, Mapping[int, np.ndarray]] | None = None,
    ) -> Node | None:
        """Check that every unit is in, write manifests and the group, and give it its name.

        ``shared`` is an array on this disk whose files become those of level 0, by hard
        links, or as copies where the disk has none.

        Raises
        ------
        ResumeError
            If a unit is missing from a journal.
        """
        staging, region = self.staging, self.region
        if region is not None:
            with naming_errors(self.destination, "its manifest cannot be brought up to date"):
                records = region.records(units[None], self.finished(None), self.where)
                change_records(self.destination, region.cells, records, durable=self.durable)
            remove_tree(staging.job)
            return None
        with naming_errors(staging.job, "what grew there cannot be finished"):
            settings = {k: v for k, v in self._settings_now().items() if k != UPDATES}
            arrays = {}
            try:
                for level, blocks in units.items():
                    fmt = self.format(level)
                    noted, journal = self.finished(level), self.journal(level)
                    records = gather_records(fmt.shape, fmt.chunks, blocks, noted, journal)
                    arrays[level] = fmt.shape, records
            except ScoutIOError:
                self._settings_now()  # it may have gone meanwhile
                raise
            for level, (shape, records) in arrays.items():
                of_level = level_settings(settings, level, shape)
                write_manifest(self.array(level), records, of_level, self.name)
            if shared is not None:
                full = self.array(0)
                shutil.rmtree(full, ignore_errors=True)  # of a run that was cut off here
                share = _Sharing()
                shutil.copytree(str(shared.root), full, copy_function=share)
                if share.n_copied:
                    warn(
                        f"the disk of {full} has no hard links, or no more of a file: "
                        f"{share.n_copied:,} files of {shared.root} were copied, and take their "
                        "room twice"
                    )
                shared.check()
            if describe is not None:
                attributes = describe(self.source, max(n for n in units if n is not None))
                for name, document in group_documents(settings["zarr_format"], attributes).items():
                    (staging.array / name).write_bytes(document)
                write_manifest(staging.array, np.zeros(0, CHUNK_RECORD), settings, self.name)
        patch = self._settings_now().get(UPDATES)
        if isinstance(patch, dict):
            self._put_in(patch)
        else:
            publish(staging, overwrite=self.overwrite, durable=self.durable)
        return None

    def _put_in(self, patch: Mapping[str, Any]) -> None:
        """Put what grew into what stands, which must be what it was when that began."""
        staging = self.staging
        with naming_errors(staging.job, "what grew there cannot be put in"):
            for name, state in patch["states"].items():
                array = self.destination / name if name else self.destination
                if state_of(array) != state:
                    raise ResumeError(
                        f"{array} was changed since its update began: update it again, which "
                        "begins afresh. Nothing of it was put in."
                    )
            # Without this directory, a writer that comes late cannot put a chunk in.
            shutil.rmtree(staging.tmp, ignore_errors=True)
            describe_patch(staging.array, patch["arrays"], durable=self.durable)
            if self.durable:
                sync_tree(staging.array)
        decide_patch(self.destination, staging.array, durable=self.durable)
        drop_staging(staging)

    def _settings_now(self) -> dict[str, Any]:
        """Give the settings as they lie there; none of a write that is gone."""
        settings = self.staging.read_settings()
        if settings is None or not self.staging.array.is_dir():
            raise WriteError(
                f"the unfinished write of {self.destination} in {self.staging.job} is gone: it was "
                "discarded, or finished elsewhere. What stands at the destination was not "
                "changed."
            )
        return settings

    def progress(self) -> Unfinished:
        """Give how much of the write is done."""
        settings = self.staging.read_settings()
        return progress_of(self.where, settings, lambda level: len(self.finished(level)))

    def abandon(self) -> Unfinished | None:
        """After a failure, remove a write without a finished unit; give what is kept of another.

        Raises
        ------
        WriteError
            If it cannot be told.
        """
        if self.region is not None:
            remove_tree(self.staging.job)
            return None
        if not self.exists():
            return None
        found = self.progress()
        if found.n_finished:
            return found
        drop_staging(self.staging)
        return None


def _says(path: LocalLocation, content: bytes) -> bool:
    """Tell whether a JSON file says what it should."""
    try:
        return bool(parse_json(path.read() or b"") == parse_json(content))
    except (LayoutError, ValueError):
        return False


class _Sharing:
    """Gives files a second name where the disk has hard links, and copies them where not."""

    def __init__(self) -> None:
        self.n_copied = 0

    def __call__(self, src: str, dst: str) -> str:
        try:
            os.link(src, dst)
        except OSError as err:
            if err.errno not in NO_LINK:
                raise
            shutil.copy2(src, dst)
            self.n_copied += 1
        return dst


@lru_cache(64)
def _format_in(folder: LocalLocation) -> ChunkFormat:
    """Give how the chunks of a growing array are stored; its metadata stay as they were made."""
    fmt = format_at(array_at(folder))
    if fmt is None:
        raise LayoutError(f"{folder}: its metadata are not of a kind that is written")
    return fmt
