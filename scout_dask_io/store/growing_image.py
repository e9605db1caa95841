"""An OME-Zarr image from its first chunk to its name: a group of levels, whole by one rename.

```
<job>/array/.zgroup .zattrs      the growing group
<job>/array/0 1 2 ...            its levels, each an array
<job>/journal/0 1 2 ...          the finished units of each level
```

A unit that makes several levels is noted in the journal of the highest last.
The group has a manifest without chunks, by which it is known as the work of its
job; each level has its own, as an array has.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scout_dask_io.errors import WriteError
from scout_dask_io.grid import Blocks, Shape
from scout_dask_io.plan import WritePlan
from scout_dask_io.store.create import write_metadata
from scout_dask_io.store.growing import chunk_records, find_begun, load_format
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.manifest import write_manifest
from scout_dask_io.store.staging import (
    Staging,
    begin_staging,
    check_destination,
    drop_staging,
    naming_errors,
    publish,
)
from scout_dask_io.store.units import Target

__all__ = ["LevelStaging", "begin_image", "finish_image", "resume_image"]


@dataclass(frozen=True, slots=True)
class LevelStaging(Staging):
    """Paths of one level of an unfinished image."""

    level: int = 0

    @property
    def array(self) -> Path:
        """The growing level's directory."""
        return self.job / "array" / str(self.level)

    @property
    def journal(self) -> Path:
        """Where the level's finished units are noted."""
        return self.job / "journal" / str(self.level)


def begin_image(
    destination: Path,
    shapes: Sequence[Shape],
    settings: dict[str, Any],
    *,
    plan: WritePlan,
    axes: str,
    codec: Any,
    fill_value: Any,
    attributes: Sequence[dict[str, Any]],
    overwrite: bool,
    durable: bool,
) -> list[Target]:
    """Make the staging directory with the empty levels in it; ``job.json`` comes last.

    ``settings["first"]`` is the number of the first of them.

    Raises
    ------
    TargetExistsError
        If the destination is not to be replaced, or another write has begun.
    WriteError
        If a file cannot be written; nothing is left.
    """
    # Version 0.5 asks for the axes' names in the arrays too; Zarr v2 has no place for them.
    of_v3: dict[str, Any] = {
        "zarr_format": 3, "shards": plan.shards, "dimension_names": list(axes)
    }  # fmt: skip
    of_v3 = of_v3 if plan.zarr_format == 3 else {}
    staging = begin_staging(destination)
    try:
        check_destination(destination, overwrite=overwrite)
        with naming_errors(staging.array, "the empty image cannot be made"):
            _write_group(staging.array, plan.zarr_format, {})
            for level, shape in enumerate(shapes):
                place = LevelStaging(destination, staging.job, settings["first"] + level)
                place.array.mkdir()
                place.journal.mkdir()
                write_metadata(
                    place.array,
                    shape,
                    plan.chunks,
                    plan.dtype,
                    compressor=codec,
                    fill_value=fill_value,
                    attributes=attributes[level],
                    **of_v3,
                )
            staging.write_settings(settings)
            return _targets(staging, len(shapes), settings["first"], durable)
    except BaseException:
        drop_staging(staging)
        raise


def resume_image(
    destination: Path, settings: dict[str, Any], *, durable: bool
) -> tuple[list[Target], list[tuple[int, Blocks]]] | None:
    """Give the levels of the unfinished image beside ``destination``, and its passes.

    A pass is the level that it begins with and the units of that level.

    ``None`` where there is none, or where it was stopped before it had begun.

    Raises
    ------
    ResumeError
        If it was begun with other data or settings, naming them.
    """
    begun = find_begun(destination, {k: v for k, v in settings.items() if k != "passes"})
    if begun is None:
        return None
    staging, stored = begun
    with naming_errors(staging.job, "the unfinished write there cannot be continued"):
        first = stored["first"]
        targets = _targets(staging, len(stored["levels"]) - first, first, durable)
    return targets, [(n, tuple(map(tuple, units))) for n, units in stored["passes"]]


def _write_group(folder: Path, zarr_format: int, attributes: dict[str, Any]) -> None:
    """Write the metadata of a group into a directory that is there."""
    if zarr_format == 3:
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (folder / "zarr.json").write_text(json.dumps(document, indent=2))
        return
    (folder / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
    (folder / ".zattrs").write_text(json.dumps(attributes, indent=2))


def _targets(staging: Staging, n_levels: int, first: int, durable: bool) -> list[Target]:
    found: list[Target] = []
    for level in range(first, first + n_levels):
        place = LevelStaging(staging.destination, staging.job, level)
        fmt = load_format(place.array)
        found.append(Target(place, fmt, fmt.chunks, durable))
    return found


def finish_image(
    targets: Sequence[Target],
    units: Sequence[Blocks],
    describe: Callable[[Path], dict[str, Any]],
    overwrite: bool,
    linked: Path | None = None,
) -> str:
    """Check that every unit of every level is in, write manifests and metadata, give it its name.

    ``describe`` gives the group's attributes, from the path of the lowest level.
    ``linked`` is an array whose files become those of level 0 too, by hard links.

    Raises
    ------
    ResumeError
        If a unit is missing from a journal.
    """
    places: list[Any] = [target.staging for target in targets]
    place = places[0]
    staging = Staging(place.destination, place.job)
    with naming_errors(staging.job, "the image cannot be finished"):
        records = [chunk_records(t, u) for t, u in zip(targets, units, strict=True)]
        settings = staging.read_settings()
        if settings is None or not staging.array.is_dir():
            raise WriteError(
                f"the unfinished write of {staging.destination} in {staging.job} is gone: it was "
                "discarded, or finished elsewhere. What stands at the destination was not changed."
            )
        job = staging.job.name
        for target, here, found in zip(targets, places, records, strict=True):
            of_level = {**settings, "shape": target.format.shape, "level": here.level}
            write_manifest(here.array, found, of_level, job)
        if linked is not None:
            full = LevelStaging(place.destination, place.job, 0).array
            shutil.rmtree(full, ignore_errors=True)  # of a run that was cut off here
            shutil.copytree(linked, full, copy_function=os.link)
        attributes = describe(places[-1].array)
        _write_group(staging.array, settings["zarr_format"], attributes)
        write_manifest(staging.array, np.zeros(0, CHUNK_RECORD), settings, job)
    publish(staging, overwrite=overwrite, durable=targets[0].durable)
    return str(staging.destination)
