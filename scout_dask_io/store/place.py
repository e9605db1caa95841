"""Where an array is to stand, and how it comes to stand there: a disk, or an object store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from scout_dask_io.errors import LayoutError, MemoryLimitError, ResumeError
from scout_dask_io.grid import Blocks
from scout_dask_io.plan import WritePlan
from scout_dask_io.remote import RemotePath
from scout_dask_io.store import growing, remote_growing
from scout_dask_io.store.create import new_zarr
from scout_dask_io.store.formats import format_of
from scout_dask_io.store.manifest import MANIFEST_NAME, parse_manifest
from scout_dask_io.store.metadata import parse_metadata
from scout_dask_io.store.remote_growing import RemoteStaging
from scout_dask_io.store.staging import (
    check_destination,
    discard_staging,
    drop_staging,
)
from scout_dask_io.store.units import Target

__all__ = ["LocalPlace", "Place", "RemotePlace", "place_of"]


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A directory: the array grows beside it and gets its name by a rename."""

    path: Path

    def resume(
        self, plan: WritePlan, settings: dict[str, Any], *, durable: bool
    ) -> tuple[Target, WritePlan] | None:
        """Give the unfinished write and the plan with its units, or ``None``."""
        return growing.resume_array(self.path, plan, settings, durable=durable)

    def is_finished(self, settings: dict[str, Any]) -> bool:
        """Tell whether what stands here was written whole with these very settings."""
        return growing.is_finished(self.path, settings)

    def begin(
        self,
        plan: WritePlan,
        settings: dict[str, Any],
        *,
        array: dict[str, Any],
        overwrite: bool,
        durable: bool,
    ) -> Target:
        """Begin a write; ``array`` are the further arguments of ``new_zarr``."""
        check_destination(self.path, overwrite=overwrite)
        if overwrite:
            discard_staging(self.path)
        return growing.begin_array(
            self.path, plan, settings, array=array, overwrite=overwrite, durable=durable
        )

    def finished_units(self, staging: Any) -> set[int]:
        """Give the numbers of the units that are in."""
        return growing.finished_units(staging)

    def finish(self, target: Target, units: Blocks, *, overwrite: bool) -> None:
        """Publish the array when every unit is in."""
        growing.finish_array(target, units, overwrite)

    def drop(self, staging: Any) -> None:
        """Remove what a write without a finished unit has left."""
        drop_staging(staging)


@dataclass(frozen=True, slots=True)
class RemotePlace:
    """A prefix of an object store: a marker says that the array there is not whole."""

    path: RemotePath

    def resume(
        self, plan: WritePlan, settings: dict[str, Any], *, durable: bool
    ) -> tuple[Target, WritePlan] | None:
        """Give the unfinished write and the plan with its units, or ``None``.

        Raises
        ------
        ResumeError
            If it was begun with other data or settings, naming them.
        """
        found = remote_growing.find_unfinished(self.path)
        if found is None:
            return None
        details = growing.differences(found, settings)
        if details:
            raise ResumeError(
                f"the unfinished write of {self.path} was begun with other data or settings: "
                f"{details}. Repeat them, or start afresh with overwrite=True and no resume."
            )
        staging = remote_growing.resume(self.path)
        if staging is None:
            return None
        units: Blocks = tuple(tuple(axis) for axis in found["units"])
        return self._target(staging, found["metadata"], plan), replace(plan, units=units)

    def is_finished(self, settings: dict[str, Any]) -> bool:
        """Tell whether what stands here was written whole with these very settings."""
        raw = (self.path / MANIFEST_NAME).read()
        if raw is None or remote_growing.find_unfinished(self.path) is not None:
            return False
        manifest = parse_manifest(raw, self.path / MANIFEST_NAME)
        return not growing.differences(manifest.settings, settings)

    def begin(
        self,
        plan: WritePlan,
        settings: dict[str, Any],
        *,
        array: dict[str, Any],
        overwrite: bool,
        durable: bool,
    ) -> Target:
        """Begin a write; an object is durable once it is put.

        Raises
        ------
        MemoryLimitError
            If blocks would have to be spilled to a disk, which there is none of.
        """
        if plan.route == "scratch":
            raise MemoryLimitError(
                f"max_mem cannot hold a row of the array's blocks, which cross the borders of "
                f"chunks, and {self.path} has no disk to keep them on. Raise max_mem, give the "
                "array smaller blocks, or write to a disk first and copy that."
            )
        remote_growing.check_free(self.path, overwrite=overwrite)
        empty = new_zarr(None, plan.shape, plan.chunks, plan.dtype, in_memory=True, **array)
        noted = {**settings, "units": plan.units}
        staging = remote_growing.begin(self.path, empty, noted, overwrite=overwrite)
        found = staging.read_settings()
        if found is None:
            staging.check()
            raise LayoutError(f"{self.path}: the marker of the write is not there")
        return self._target(staging, found["metadata"], plan)

    def _target(self, staging: RemoteStaging, metadata: dict[str, str], plan: WritePlan) -> Target:
        name = "zarr.json" if "zarr.json" in metadata else ".zarray"
        document = parse_metadata(metadata[name].encode(), self.path / name)
        fmt = format_of(document, "/")
        if fmt is None:
            raise LayoutError(f"{self.path}: its metadata are not of a kind that is written")
        return Target(staging, fmt, plan.band)

    def finished_units(self, staging: Any) -> set[int]:
        """Give the numbers of the units that are in."""
        found: set[int] = staging.finished()
        return found

    def finish(self, target: Target, units: Blocks, *, overwrite: bool) -> None:
        """Publish the array when every unit is in.

        Raises
        ------
        ResumeError
            If one is not.
        """
        staging: Any = target.staging
        settings = staging.read_settings()
        if settings is None:
            staging.check()
            return
        records = growing.gather_records(target.format, units, staging.read_units(), self.path)
        staging.publish(records, settings)

    def drop(self, staging: Any) -> None:
        """Remove what a write without a finished unit has left."""
        staging.drop()


Place: TypeAlias = LocalPlace | RemotePlace


def place_of(path: Path | RemotePath) -> Place:
    """Give the place that a path names."""
    return RemotePlace(path) if isinstance(path, RemotePath) else LocalPlace(path)
