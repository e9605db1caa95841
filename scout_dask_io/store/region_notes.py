"""What was written into an array of an object store by regions, since its manifest was put.

An object cannot be changed in place: of two writers of different regions, each would
undo what the other has put into the manifest. So each has an object of its own,
``<array>/.scout-regions/<number>-<job>``: one line of JSON, with the region in the chunk
grid, and the records of its chunks once they are all written. Higher numbers are newer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from scout_dask_io.core.grid import Region, intersect, region_shape
from scout_dask_io.errors import LayoutError
from scout_dask_io.files.location import RemotePath
from scout_dask_io.store.checksum import crc32c
from scout_dask_io.store.journal import CHUNK_RECORD

__all__ = ["NOTES_NAME", "RegionNote", "begin_note", "finish_note", "note_states", "read_notes"]

NOTES_NAME = ".scout-regions"


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
    """

    cells: Region
    records: np.ndarray | None
    written: str


def note_states(array: RemotePath) -> list[tuple[str, int]]:
    """Give names and sizes of the notes: they change whenever a region begins or is finished."""
    return list((array / NOTES_NAME).find())


def read_notes(array: RemotePath) -> Iterator[RegionNote]:
    """Yield the notes of an array, the oldest first.

    Raises
    ------
    LayoutError
        If one is damaged.
    """
    for name, _ in note_states(array):
        data = (array / NOTES_NAME / name).read()
        if data is not None:  # a newer note of the same chunks takes its place
            yield _parse(data, array / NOTES_NAME / name)


def begin_note(array: RemotePath, job: str, cells: Region) -> RemotePath:
    """Note that a region is being written, and give the place of the note."""
    numbers = [int(name.partition("-")[0]) for name, _ in note_states(array)]
    place = array / NOTES_NAME / f"{max(numbers, default=0) + 1:08d}-{job}"
    place.write(_bytes(cells, None))
    return place


def finish_note(array: RemotePath, place: RemotePath, cells: Region, records: np.ndarray) -> None:
    """Note that a region is written, and drop older notes of nothing but its chunks."""
    place.write(_bytes(cells, records))
    older = [name for name, _ in note_states(array) if name < place.name]
    notes = array / NOTES_NAME
    notes.remove([n for n in older if _is_inside((notes / n).read(), cells)])


def _is_inside(data: bytes | None, cells: Region) -> bool:
    if data is None:
        return False
    found = _cells(json.loads(data.partition(b"\n")[0])["cells"])
    return intersect(found, cells) == found


def _cells(stored: list[list[int]]) -> Region:
    return tuple(slice(start, stop) for start, stop in stored)


def _bytes(cells: Region, records: np.ndarray | None) -> bytes:
    body = b"" if records is None else np.ascontiguousarray(records, CHUNK_RECORD).tobytes()
    header = {
        "scout_region": 1,
        "cells": [[s.start, s.stop] for s in cells],
        "finished": records is not None,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "crc32c": crc32c(body),
    }
    return json.dumps(header).encode() + b"\n" + body


def _parse(data: bytes, place: RemotePath) -> RegionNote:
    head, _, body = data.partition(b"\n")
    try:
        header = json.loads(head)
        cells = _cells(header["cells"])
        if header["scout_region"] != 1 or crc32c(body) != header["crc32c"]:
            raise ValueError("its checksum does not fit")
        records = None
        if header["finished"]:
            records = np.frombuffer(body, CHUNK_RECORD).reshape(region_shape(cells))
        return RegionNote(cells, records, str(header["written"]))
    except (ValueError, KeyError, TypeError) as err:
        raise LayoutError(
            f"{place} is damaged ({err}): the array can still be read, but not checked. Write the "
            "region again, or remove the note."
        ) from err
