"""An array from its first chunk to its name: begun in staging, noted in the journal, published."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scout_dask_io.errors import LayoutError, ResumeError, WriteError
from scout_dask_io.grid import Blocks, chunk_counts, iter_block_regions
from scout_dask_io.plan import WritePlan
from scout_dask_io.remote import AnyPath, RemotePath
from scout_dask_io.store.create import write_metadata
from scout_dask_io.store.formats import StoredFormat, format_at
from scout_dask_io.store.journal import CHUNK_RECORD, read_units
from scout_dask_io.store.manifest import MANIFEST_NAME, read_manifest, write_manifest
from scout_dask_io.store.remote_growing import RemoteStaging, find_unfinished
from scout_dask_io.store.staging import (
    Staging,
    begin_staging,
    check_destination,
    drop_staging,
    find_staging,
    naming_errors,
    publish,
    recover,
    sweep,
)
from scout_dask_io.store.units import Target

__all__ = [
    "Unfinished",
    "begin_array",
    "chunk_records",
    "differences",
    "find_begun",
    "finish_array",
    "finished_units",
    "gather_records",
    "is_finished",
    "load_format",
    "resume_array",
    "unfinished",
]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A write that was interrupted, or is going on now.

    Attributes
    ----------
    path : str
        Where it lies.
    n_finished, n_units : int
        Write units that are finished, and all; 0 of 0 where it was stopped before it began.
    """

    path: str
    n_finished: int
    n_units: int

    def __str__(self) -> str:
        return f"{self.path}: {self.n_finished:,} of {self.n_units:,} write units are finished"


def load_format(array: Path) -> StoredFormat:
    """Give the format of an array that this library made."""
    fmt = format_at(array)
    if fmt is None:
        raise LayoutError(f"{array}: its metadata are not of a kind that is written directly")
    return fmt


def begin_array(
    destination: Path,
    plan: WritePlan,
    settings: dict[str, Any],
    *,
    array: dict[str, Any],
    overwrite: bool,
    durable: bool,
) -> Target:
    """Make the staging directory and the empty array in it; ``job.json`` comes last.

    ``array`` are the further arguments of ``new_zarr``.

    Raises
    ------
    TargetExistsError
        If the destination is not to be replaced, or another write has begun.
    WriteError
        If a file cannot be written; nothing is left.
    """
    staging = begin_staging(destination)
    try:
        # Once more: another write may have been published since the caller looked.
        check_destination(destination, overwrite=overwrite)
        with naming_errors(staging.array, "the empty array cannot be made"):
            write_metadata(staging.array, plan.shape, plan.chunks, plan.dtype, **array)
            staging.write_settings({**settings, "units": plan.units})
            fmt = load_format(staging.array)
    except BaseException:
        drop_staging(staging)
        raise
    return Target(staging, fmt, plan.band, durable)


def resume_array(
    destination: Path, plan: WritePlan, settings: dict[str, Any], *, durable: bool
) -> tuple[Target, WritePlan] | None:
    """Give the unfinished array beside ``destination`` and the plan with its units.

    ``None`` where there is none, or where it was stopped before it had begun.

    Raises
    ------
    ResumeError
        If it was begun with other data or settings, naming them.
    """
    begun = find_begun(destination, settings)
    if begun is None:
        return None
    staging, stored = begun
    units: Blocks = tuple(tuple(axis) for axis in stored["units"])
    with naming_errors(staging.job, "the unfinished write there cannot be continued"):
        target = Target(staging, load_format(staging.array), plan.band, durable)
    return target, replace(plan, units=units)


def find_begun(
    destination: Path, settings: dict[str, Any]
) -> tuple[Staging, dict[str, Any]] | None:
    """Give the unfinished write beside ``destination`` and its settings, ready to go on.

    ``None`` where there is none, or where it was stopped before it had begun.
    What a kill left half written in it is removed.

    Raises
    ------
    ResumeError
        If it was begun with other data or settings, naming them.
    """
    recover(destination)
    sweep(destination)
    staging = find_staging(destination)
    if staging is None:
        return None
    stored = staging.read_settings()
    if stored is None:
        drop_staging(staging)
        return None
    details = differences(stored, settings)
    if details:
        raise ResumeError(
            f"the unfinished write of {destination} in {staging.job} was begun with other data or "
            f"settings: {details}. Repeat them, or start afresh with overwrite=True and no resume."
        )
    with naming_errors(staging.job, "the unfinished write there cannot be continued"):
        staging.tmp.mkdir(exist_ok=True)
        # A kill in the last moment may leave the draft of a manifest, of the
        # array or of a level of an image.
        draft = f"{MANIFEST_NAME}-*.tmp"
        drafts = [*staging.array.glob(draft), *staging.array.glob(f"*/{draft}")]
        for leftover in [*staging.tmp.iterdir(), *drafts]:
            leftover.unlink(missing_ok=True)
    return staging, stored


def differences(stored: dict[str, Any], settings: dict[str, Any]) -> str:
    """Give in words how the settings of two writes differ, empty where they do not."""
    here = json.loads(json.dumps(settings))
    differing = [k for k in here if stored.get(k) != here[k]]
    return "; ".join(f"{k} was {stored.get(k)!r}, is {here[k]!r}" for k in differing)


def is_finished(destination: Path, settings: dict[str, Any]) -> bool:
    """Tell whether what stands at the destination was written whole with these very settings."""
    manifest = read_manifest(destination)
    return manifest is not None and not differences(manifest.settings, settings)


def unfinished(destination: AnyPath) -> Unfinished | None:
    """Give the unfinished write beside ``destination`` and how much of it is done, if any is there.

    Raises
    ------
    WriteError
        If it cannot be looked at.
    """
    if isinstance(destination, RemotePath):
        marker = find_unfinished(destination)
        if marker is None:
            return None
        done = RemoteStaging(destination, str(marker.get("job"))).finished()
        n_units = math.prod(len(axis) for axis in marker.get("units", [()]))
        return Unfinished(str(destination), len(done), n_units)
    staging = find_staging(destination)
    if staging is None:
        return None
    stored = staging.read_settings()
    if stored is None:
        return Unfinished(str(staging.job), 0, 0)
    # An image has passes, each with the units and the journal of its first level.
    passes = [(staging.journal / str(first), units) for first, units in stored.get("passes", ())]
    passes = passes or [(staging.journal, stored["units"])]
    with naming_errors(staging.journal, "the journal cannot be read"):
        n_finished = sum(len(read_units(journal)) for journal, _ in passes)
    n_units = sum(math.prod(len(axis) for axis in units) for _, units in passes)
    return Unfinished(str(staging.job), n_finished, n_units)


def finished_units(staging: Staging) -> set[int]:
    """Give the numbers of the units that the journal holds.

    Raises
    ------
    WriteError
        If the journal cannot be read.
    """
    with naming_errors(staging.journal, "the journal cannot be read"):
        return set(read_units(staging.journal))


def finish_array(target: Target, units: Blocks, overwrite: bool) -> str:
    """Check that every unit is in, write the manifest, and give the array its name.

    Returns
    -------
    str
        The path at which the array now stands.

    Raises
    ------
    ResumeError
        If a unit is missing from the journal.
    """
    staging: Any = target.staging
    with naming_errors(staging.job, "the array cannot be finished"):
        records = chunk_records(target, units)
        settings = staging.read_settings()
        if settings is None or not staging.array.is_dir():
            raise WriteError(
                f"the unfinished write of {staging.destination} in {staging.job} is gone: it was "
                "discarded, or finished elsewhere. What stands at the destination was not changed."
            )
        write_manifest(staging.array, records, settings, staging.job.name)
    publish(staging, overwrite=overwrite, durable=target.durable)
    return str(staging.destination)


def chunk_records(target: Target, units: Blocks) -> np.ndarray:
    """Give the records of all chunks from the journal, shaped like the chunk grid.

    Raises
    ------
    ResumeError
        If a unit is missing.
    """
    staging: Any = target.staging
    noted = read_units(staging.journal)
    if not staging.job.exists():
        return np.zeros(chunk_counts(target.format.shape, target.format.chunks), CHUNK_RECORD)
    return gather_records(target.format, units, noted, staging.journal)


def gather_records(
    fmt: StoredFormat, units: Blocks, noted: dict[int, np.ndarray], journal: Any
) -> np.ndarray:
    """Give the records of all chunks, shaped like the chunk grid, from those of the units.

    Raises
    ------
    ResumeError
        If a unit is missing, naming the journal.
    """
    records = np.zeros(chunk_counts(fmt.shape, fmt.chunks), CHUNK_RECORD)
    for unit, (_, region) in enumerate(iter_block_regions(units)):
        cells = tuple(
            slice(s.start // c, -(-s.stop // c)) for s, c in zip(region, fmt.chunks, strict=True)
        )
        if unit not in noted:
            raise ResumeError(
                f"unit {unit} is not in the journal {journal}: the write is not complete. The "
                "same call with resume=True goes on."
            )
        records[cells] = noted[unit].reshape(records[cells].shape)
    return records
