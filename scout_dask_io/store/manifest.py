"""The manifest of a finished array: what each chunk's file must be. Other Zarr software ignores it.

``.scout-manifest`` in the array's directory: one line of JSON, then a record of
8 bytes a chunk in C order of the chunk grid (little-endian): the file's size in
bytes, 0 for a chunk without a file, and its CRC32C. A size of 2**32 - 1 stands for
a chunk in a region whose writing was not finished.

What was written into an array of an object store by regions, since its manifest was put.

An object cannot be changed in place: of two writers of different regions, each would
undo what the other has put into the manifest. So each has an object of its own,
``<array>/.scout-regions/<number>-<job>``: one line of JSON, with the region in the chunk
grid, and the records of its chunks once they are all written. Higher numbers are newer.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Region, chunk_counts, intersect, region_shape
from scout_dask_io.core.json_document import MAX_JSON_NBYTES, parse_json
from scout_dask_io.errors import ChunkReadError, LayoutError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location, locate
from scout_dask_io.files.system import locked
from scout_dask_io.store.chunk_v2 import crc32c
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.layout import chunk_grid
from scout_dask_io.store.metadata import HEAD_NBYTES, Node

MANIFEST_NAME = ".scout-manifest"
#: The source of an array that is no longer what was written from it.
CHANGED = "changed by regions"
#: The record of a chunk in a region whose writing has begun and was not finished.
UNKNOWN = np.array((2**32 - 1, 0), CHUNK_RECORD)


@dataclass(frozen=True)
class Manifest:
    """What a finished array's chunks must be.

    Attributes
    ----------
    records : numpy.ndarray
        ``nbytes`` and ``crc32c`` a chunk, shaped like the chunk grid.
    settings : dict
        Source and settings of the write.
    written : str
        When, ISO 8601 with the time zone; of an array that was changed since, the last change.
    library : str
        Version of this library that wrote it.
    job : str
        Names the write that made it.
    """

    records: np.ndarray
    settings: dict[str, Any]
    library: str
    written: str
    job: str = ""


@dataclass(frozen=True, slots=True)
class ManifestInfo:
    """What a manifest says of its array as a whole.

    Attributes
    ----------
    written : str
        When, ISO 8601 with the time zone; of an array that was changed since, the last change.
    library : str
        Version of this library that wrote it.
    n_files, n_empty, n_unknown : int
        Chunk files whose size and CRC32C it holds, chunks that are empty, and
        chunks in a region whose writing was not finished.
    """

    written: str
    library: str
    n_files: int
    n_empty: int
    n_unknown: int

    @property
    def checks(self) -> str:
        """What can be checked, in words."""
        text = f"size and CRC32C of {self.n_files:,} chunk files, {self.n_empty:,} chunks empty"
        if self.n_unknown:
            text += f", {self.n_unknown:,} of a region whose writing was not finished"
        return f"{text}; verify compares them"


def manifest_info(node: Node) -> ManifestInfo | None:
    """Give what the manifest of an array says as a whole; ``None`` without one.

    Raises
    ------
    LayoutError
        If it is damaged.
    """
    found = manifest_of(node)
    if found is None:
        return None
    sizes = found.records["nbytes"]
    unknown = int(np.count_nonzero(sizes == UNKNOWN["nbytes"]))
    empty = int(np.count_nonzero(sizes == 0))
    return ManifestInfo(found.written, found.library, sizes.size - unknown - empty, empty, unknown)


def manifest_bytes(records: np.ndarray, settings: dict[str, Any], job: str = "") -> bytes:
    """Give a manifest as it is stored."""
    body = records.tobytes()
    header = {
        "scout_manifest": 1,
        "library": sys.modules["scout_dask_io"].__version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "job": job,
        "grid": records.shape,
        "crc32c": crc32c(body),
        "settings": settings,
    }
    return json.dumps(header).encode() + b"\n" + body


def write_manifest(
    array: Path,
    records: np.ndarray,
    settings: dict[str, Any],
    job: str = "",
    *,
    durable: bool = False,
) -> None:
    """Write the manifest into a finished array's directory, in one step."""
    LocalLocation(array / MANIFEST_NAME).write(
        manifest_bytes(records, settings, job), durable=durable
    )


def manifest_job(array: Path) -> str | None:
    """Give the write that made an array, as its manifest says it; ``None`` where none does."""
    try:
        with (array / MANIFEST_NAME).open("rb") as file:
            return str(parse_json(file.readline())["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def change_records(
    array: LocalLocation, cells: tuple[slice, ...], records: Any, *, durable: bool = False
) -> None:
    """Put records of some chunks into the manifest of an array, if it has one, in one step.

    The settings lose their source: the array is no longer what was written from it.
    """
    # So that writers of other regions lose nothing.
    with locked(array):
        manifest = read_manifest(array)
        if manifest is not None:
            changed = manifest.records.copy()
            changed[cells] = (
                np.reshape(records, changed[cells].shape) if np.ndim(records) else records
            )
            settings = {**manifest.settings, "source": CHANGED}
            write_manifest(array, changed, settings, manifest.job, durable=durable)


def read_manifest(array: str | os.PathLike[str] | Location) -> Manifest | None:
    """Give the manifest of the array in a directory, or ``None`` if it has none.

    Raises
    ------
    LayoutError
        If it is damaged.
    """
    array = locate(array)
    path = array / MANIFEST_NAME
    data = _whole(path, path.read(HEAD_NBYTES))
    if data is None:
        return None
    manifest = parse_manifest(data, path)
    return manifest if array.on_disk else _with_regions(manifest, array)


def manifest_of(node: Node) -> Manifest | None:
    """Give the manifest of an array that was opened, as :func:`read_manifest` does."""
    data = manifest_data(node)
    if data is None:
        return None
    manifest = parse_manifest(data, node.location / MANIFEST_NAME)
    if node.location.on_disk or not _has_notes(node):
        return manifest
    return _with_regions(manifest, node.location)


def _has_notes(node: Node) -> bool:
    """Tell whether there are notes of regions; where nothing may be listed, by their state."""
    try:
        return node.has_below(NOTES_NAME)
    except ChunkReadError as err:
        if isinstance(err.__cause__, PermissionError) and node.head(REGIONS_NAME) is None:
            return False  # the first note changes it
        raise


def manifest_data(node: Node) -> bytes | None:
    """Give the manifest of an array that was opened, as it is stored; ``None`` without one."""
    grid: tuple[int, ...] = (0,)  # an image's own
    if node.kind == "array":
        grid = chunk_counts(*chunk_grid(node))
    return _whole(node.location / MANIFEST_NAME, node.head(MANIFEST_NAME), grid)


def _whole(
    path: Location, head: bytes | None, of_array: tuple[int, ...] | None = None
) -> bytes | None:
    """Give a manifest whose first bytes are known: no more of it than its own grid takes.

    One of a larger grid than the array has is damaged, and not read any further.
    """
    if head is None or len(head) < HEAD_NBYTES:
        return head
    first = head if b"\n" in head else path.read(MAX_JSON_NBYTES) or b""
    line = first.partition(b"\n")[0]
    try:
        grid = _grid(parse_json(line))
        if of_array is not None and (
            len(grid) != len(of_array) or any(n > m for n, m in zip(grid, of_array, strict=True))
        ):
            return head
        nbytes = math.prod(grid) * CHUNK_RECORD.itemsize
        # One byte more tells one that is too long.
        return path.read(min(len(line) + 2 + nbytes, sys.maxsize))
    except (ValueError, KeyError, TypeError):
        return head  # damaged, as who parses it says


def _with_regions(manifest: Manifest, array: Location) -> Manifest:
    """Give a manifest with what was written by regions since it was put."""
    records, written = manifest.records.copy(), ""
    for note in read_notes(array):
        records[note.cells] = UNKNOWN if note.records is None else note.records
        written = max(written, note.written)
    if not written:
        return manifest
    settings = {**manifest.settings, "source": CHANGED}
    return replace(manifest, records=records, settings=settings, written=written)


def parse_manifest(data: bytes, path: Any) -> Manifest:
    """Give the manifest that was stored as ``data``; ``path`` is named in errors.

    Raises
    ------
    LayoutError
        If it is damaged.
    """
    head, _, body = data.partition(b"\n")
    try:
        header = parse_json(head)
        grid = _grid(header)
        whole = len(body) == math.prod(grid) * CHUNK_RECORD.itemsize
        if header["scout_manifest"] != 1 or not whole or crc32c(body) != header["crc32c"]:
            raise ValueError("its checksum or size does not fit")
        records = np.frombuffer(body, CHUNK_RECORD).reshape(grid)
        settings, job = header["settings"], str(header.get("job", ""))
        if not isinstance(settings, dict):
            raise ValueError("its settings are no object")
        return Manifest(records, settings, str(header["library"]), str(header["written"]), job)
    except (ValueError, KeyError, TypeError) as err:
        raise LayoutError(
            f"{path} is damaged ({err}): the array can still be read, but not checked against it. "
            "Write the array again, or remove the manifest to go on without."
        ) from err


def _grid(header: Any) -> tuple[int, ...]:
    grid = tuple(header["grid"])
    if not all(isinstance(n, int) and n >= 0 for n in grid):
        raise ValueError("its grid is no list of whole numbers")
    return grid


NOTES_NAME = ".scout-regions"
#: Changes whenever a region begins or is finished, so that nothing need be listed to see it.
REGIONS_NAME = ".scout-regions-state"


@dataclass(frozen=True)
class RegionNote:
    """One region that was written, or whose writing has begun.

    Attributes
    ----------
    cells : tuple of slice
        Its chunks, in the chunk grid.
    records : numpy.ndarray or None
        Of these chunks; ``None`` where the writing was not finished.
    written : str
        When, ISO 8601 with the time zone.
    attributes : dict
        What is to be added to lists among the array's attributes, by their names.
    """

    cells: Region
    records: np.ndarray | None
    written: str
    attributes: dict[str, list[Any]]


def note_states(array: Location) -> list[tuple[str, int]]:
    """Give names and sizes of the notes: they change whenever a region begins or is finished."""
    return list((array / NOTES_NAME).find())


def read_notes(array: Location) -> Iterator[RegionNote]:
    """Yield the notes of an array, the oldest first.

    Raises
    ------
    LayoutError
        If one is damaged.
    """
    notes = array / NOTES_NAME
    for name, data in notes.read_many([name for name, _ in note_states(array)]).items():
        if data is not None:  # a newer note of the same chunks takes its place
            yield _parse(data, notes / name)


def noted(array: Location, attribute: str) -> list[Any]:
    """Give what the notes of an array add to a list among its attributes."""
    return [e for note in read_notes(array) for e in note.attributes.get(attribute, [])]


def begin_note(
    array: Location, job: str, cells: Region, attributes: Mapping[str, list[Any]]
) -> Location:
    """Note that a region is being written, and give the place of the note."""
    numbers = [int(name.partition("-")[0]) for name, _ in note_states(array)]
    place = array / NOTES_NAME / f"{max(numbers, default=0) + 1:08d}-{job}"
    place.write(_bytes(cells, None, attributes))
    (array / REGIONS_NAME).write(place.name.encode())
    return place


def finish_note(
    array: Location,
    place: Location,
    cells: Region,
    records: np.ndarray,
    attributes: Mapping[str, list[Any]],
) -> None:
    """Note that a region is written, and drop older notes of nothing but its chunks."""
    place.write(_bytes(cells, records, attributes))
    (array / REGIONS_NAME).write(f"{place.name} finished".encode())
    notes = array / NOTES_NAME
    older = notes.read_many([name for name, _ in note_states(array) if name < place.name])
    notes.remove([name for name, data in older.items() if _is_inside(data, cells)])


def _is_inside(data: bytes | None, cells: Region) -> bool:
    if data is None:
        return False
    try:
        found = _cells(parse_json(data.partition(b"\n")[0])["cells"])
    except (ValueError, KeyError, TypeError):
        return False  # a damaged note is for verify to name
    return intersect(found, cells) == found


def _cells(stored: list[list[int]]) -> Region:
    return tuple(slice(start, stop) for start, stop in stored)


def _bytes(cells: Region, records: np.ndarray | None, attributes: Mapping[str, list[Any]]) -> bytes:
    body = b"" if records is None else np.ascontiguousarray(records, CHUNK_RECORD).tobytes()
    header = {
        "scout_region": 1,
        "cells": [[s.start, s.stop] for s in cells],
        "finished": records is not None,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "crc32c": crc32c(body),
        **({"attributes": attributes} if attributes else {}),
    }
    return json.dumps(header).encode() + b"\n" + body


def _parse(data: bytes, place: Location) -> RegionNote:
    head, _, body = data.partition(b"\n")
    try:
        header = parse_json(head)
        cells = _cells(header["cells"])
        if header["scout_region"] != 1 or crc32c(body) != header["crc32c"]:
            raise ValueError("its checksum does not fit")
        records = None
        if header["finished"]:
            records = np.frombuffer(body, CHUNK_RECORD).reshape(region_shape(cells))
        attributes = dict(header.get("attributes", {}))
        return RegionNote(cells, records, str(header["written"]), attributes)
    except (ValueError, KeyError, TypeError) as err:
        raise LayoutError(
            f"{place} is damaged ({err}): the array can still be read, but not checked. Write the "
            "region again, or remove the note."
        ) from err
