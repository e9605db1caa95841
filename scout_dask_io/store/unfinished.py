"""What a growing array and a growing image have in common, on a disk and in an object store.

An image is a group of levels, each an array at its number. Its passes are noted
in the settings, each with the level that it begins with and the units of that;
an array has ``units``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from scout_dask_io.core.grid import Blocks, Shape, chunk_cells, chunk_counts, iter_block_regions
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import OVERWRITE, RESUME
from scout_dask_io.core.source import Source
from scout_dask_io.errors import ResumeError, TargetExistsError
from scout_dask_io.files.location import Location
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.manifest import read_manifest


@dataclass(frozen=True)
class NewArray:
    """An array that is to grow, by itself or as a level of an image.

    Attributes
    ----------
    shape, chunks : tuple of int
        In elements.
    dtype : str
        Of its elements.
    settings : dict
        The further arguments of ``new_zarr``.
    level : int or None
        Which level of the image.
    documents : dict, optional
        Its metadata files by name, where they are not made of the others.
    """

    shape: Shape
    chunks: Shape
    dtype: str
    settings: dict[str, Any] = field(default_factory=dict)
    level: int | None = None
    documents: dict[str, bytes] = field(default_factory=dict)


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


def progress_of(
    where: str, settings: dict[str, Any] | None, n_finished: Callable[[int | None], int]
) -> Unfinished:
    """Give how much of a write is done; ``n_finished`` counts the journal of a level."""
    if settings is None or not ("passes" in settings or "units" in settings):
        return Unfinished(where, 0, 0)
    # An image has passes, each with the units and the journal of its first level.
    passes = settings.get("passes") or [(None, settings["units"])]
    n_units = sum(math.prod(len(axis) for axis in units) for _, units in passes)
    return Unfinished(where, sum(n_finished(first) for first, _ in passes), n_units)


#: Gives the attributes of an image's group, from what gives a level as a source and the number of
#: the lowest.
Describe: TypeAlias = Callable[[Callable[[int | None], Source], int], dict[str, Any]]


def in_the_way(destination: object, where: str) -> TargetExistsError:
    """Give the error for a write that is to begin where an unfinished one lies."""
    return TargetExistsError(
        f"an unfinished write of {destination} lies {where}: it was interrupted, or another "
        "process is at it now. " + RESUME + " finishes it, " + OVERWRITE + " starts afresh."
    )


def differences(stored: dict[str, Any], settings: dict[str, Any]) -> str:
    """Give in words how the settings of two writes differ, empty where they do not."""
    here = parse_json(json.dumps(settings))
    # Files that are others have another source, which is said in fewer words.
    differing = [k for k in here if k != PLANES and stored.get(k) != here[k]]
    return "; ".join(f"{k} was {stored.get(k)!r}, is {here[k]!r}" for k in differing)


#: Of a write, the planes that it reads, each with the state of its file.
PLANES = "planes"
#: Of an unfinished write, that its units are those of an update of what stands; of one that becomes
#: a patch of it, which they are, of which chunks, and the states of what stands.
UPDATES = "update"
#: Of an unfinished write, the names of settings that whoever goes on with it may say anew.
ADOPTS = "adopts"


def adopted(stored: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Give what was noted of a write, with what it leaves open to whoever goes on as that says it.

    So is what the first planes of a folder that grows told of all of it, once all are there.
    """
    here, names = parse_json(json.dumps(settings)), {*stored.get(ADOPTS, ()), PLANES}
    kept = {k: v for k, v in stored.items() if k not in names and k != ADOPTS}
    # In the order of a write that is begun, so that its manifest is the same.
    known = {k: here[k] if k in names else kept[k] for k in here if k in names or k in kept}
    return known | {k: v for k, v in kept.items() if k not in known}


def is_finished(destination: Location, settings: dict[str, Any]) -> bool:
    """Tell whether what stands at the destination was written whole with these very settings."""
    manifest = read_manifest(destination)
    return manifest is not None and not differences(manifest.settings, settings)


def level_settings(settings: dict[str, Any], level: int | None, shape: Shape) -> dict[str, Any]:
    """Give what the manifest of an array, or of a level of an image, says of its write."""
    if level is None:
        return settings
    own = {k: v for k, v in settings.items() if k not in ("lower_codec", PLANES)}
    if level > 0 and "lower_codec" in settings:
        own["codec"] = settings["lower_codec"]
    return {**own, "shape": shape, "level": level}


def group_documents(zarr_format: int, attributes: dict[str, Any]) -> dict[str, bytes]:
    """Give the metadata files of a group, the one that makes it a group last."""
    if zarr_format == 3:
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        return {"zarr.json": json.dumps(document, indent=2).encode()}
    return {
        ".zattrs": json.dumps(attributes, indent=2).encode(),
        ".zgroup": json.dumps({"zarr_format": 2}).encode(),
    }


def gather_records(
    shape: Shape, chunks: Shape, units: Blocks, noted: dict[int, np.ndarray], journal: Any
) -> np.ndarray:
    """Give the records of all chunks, shaped like the chunk grid, from those of the units.

    Raises
    ------
    ResumeError
        If a unit is missing, naming the journal.
    """
    records = np.zeros(chunk_counts(shape, chunks), CHUNK_RECORD)
    for unit, (_, region) in enumerate(iter_block_regions(units)):
        cells = chunk_cells(region, chunks)
        if unit not in noted:
            raise ResumeError(
                f"unit {unit} is not in the journal {journal}: the write is not complete. The "
                "same call with " + RESUME + " goes on."
            )
        records[cells] = noted[unit].reshape(records[cells].shape)
    return records
