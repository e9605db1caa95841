"""Writing a region of an array that stands: whole chunks, each replaced in one step.

There is no staging: chunk files are written beside their places, in
``.scout-region-<job>`` inside the array, and renamed; in an object store they are put
in one step. A reader sees each chunk old or new, and after a failure the region is a
mixture of whole chunks, which the manifest calls unknown until the same region has been
written again.

Writing a region of an array that stands in an object store.

Each chunk is replaced by one put. ``.scout-region-<job>`` in the array holds what is
noted until all are in; once it is gone, another array has taken this one's place, and
a writer that comes late stops.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import index as as_index
from pathlib import Path
from typing import Any

from scout_dask_io.core.grid import (
    Blocks,
    Region,
    Shape,
    is_aligned,
    iter_block_regions,
    region_shape,
)
from scout_dask_io.errors import (
    ArgumentError,
    ChunkError,
    ScoutIOError,
    ShapeMismatchError,
    WriteError,
)
from scout_dask_io.files.disk import naming_errors, remove_tree
from scout_dask_io.files.location import Location, as_local, as_remote
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.store.chunk_format import ChunkFormat, format_at
from scout_dask_io.store.journal import read_units
from scout_dask_io.store.manifest import (
    NOTES_NAME,
    UNKNOWN,
    begin_note,
    change_records,
    finish_note,
)
from scout_dask_io.store.nodes import open_array
from scout_dask_io.store.remote_staging import RemoteStaging
from scout_dask_io.store.staging import Staging
from scout_dask_io.store.unfinished import gather_records
from scout_dask_io.write.unit import Target, shift

REGION_PREFIX = ".scout-region-"


@dataclass(frozen=True, slots=True)
class InPlace(Staging):
    """Paths of the writing of one region."""

    @property
    def array(self) -> Path:
        """The array itself."""
        return self.destination


def stored_format(path: Location) -> ChunkFormat:
    """Give the format of the array that a region is written into.

    Raises
    ------
    PathNotFoundError
        If there is no array.
    LayoutError
        If it cannot be told how its chunks lie.
    ArgumentError
        If it has filters, an unknown codec, or elements that are no numbers.
    """
    fmt = format_at(open_array(path))
    if fmt is None:
        raise ArgumentError(
            f"{path} is not a plain array of numbers (it has filters or an unknown codec): "
            "regions of it are not written. Open it with zarr and write whole chunks of it."
        )
    return fmt


def check_region(region: Any, fmt: ChunkFormat, shape: Shape, dtype: Any) -> Region:
    """Give a region as slices of the array, checked against its chunks and the data.

    Raises
    ------
    ArgumentError
        If it is no tuple of slices of step 1, or the data have another dtype.
    ChunkError
        If it does not start and end on the edges of chunks.
    ShapeMismatchError
        If the data have another shape.
    """
    given = tuple(region) if isinstance(region, (tuple, list)) else (region,)
    if len(given) > len(fmt.shape) or not all(isinstance(s, slice) for s in given):
        raise ArgumentError(
            f"region must be up to {len(fmt.shape)} slices, one an axis, got {region!r}"
        )
    given += (slice(None),) * (len(fmt.shape) - len(given))
    found = []
    for s, n in zip(given, fmt.shape, strict=True):
        try:
            start = 0 if s.start is None else as_index(s.start)
            stop = n if s.stop is None else as_index(s.stop)
        except TypeError:
            raise ArgumentError(f"region must be made of whole numbers, got {s}") from None
        if s.step not in (None, 1) or not 0 <= start < stop <= n:
            raise ArgumentError(
                f"region has {s} on an axis of {n} elements, expected "
                f"0 <= start < stop <= {n} and no step"
            )
        found.append(slice(start, stop))
    where = tuple(found)
    if not is_aligned(where, fmt.shape, fmt.chunks):
        raise ChunkError(
            f"region {_text(where)} does not start and end on the edges of chunks of "
            f"{fmt.chunks} in an array of {fmt.shape}: two writers of one chunk would undo each "
            "other. Extend it to whole chunks; nothing was written."
        )
    if shape != region_shape(where):
        raise ShapeMismatchError(
            f"the data have shape {shape}, the region {_text(where)} has {region_shape(where)}"
        )
    if dtype != fmt.dtype.newbyteorder("="):
        raise ArgumentError(f"the data are {dtype}, the array holds {fmt.dtype}: convert them")
    return where


def _text(region: Sequence[slice]) -> str:
    return "[" + ", ".join(f"{s.start}:{s.stop}" for s in region) + "]"


def begin_region(
    path: Location, fmt: ChunkFormat, region: Region, band: Shape, durable: bool
) -> Target:
    """Make room for the chunks in the making, and call those of the region unknown.

    Raises
    ------
    WriteError
        If a file cannot be written.
    """
    if not path.on_disk:
        return begin_remote_region(as_remote(path), fmt, region, band)
    path = as_local(path)
    staging = InPlace(path, path / f"{REGION_PREFIX}{uuid.uuid4().hex}")
    with naming_errors(path, "a region of it cannot be written"):
        try:
            for folder in (staging.job, staging.tmp, staging.journal):
                folder.mkdir()
            change_records(path, _cells(region, fmt.chunks), UNKNOWN)
        except BaseException:
            remove_tree(staging.job)
            raise
    origin = tuple(s.start for s in region)
    return Target(staging, fmt, band, durable, origin=origin, in_place=True)


def finish_region(target: Target, units: Blocks) -> None:
    """Note the new chunks in the manifest.

    Raises
    ------
    WriteError
        If a file cannot be written.
    """
    if isinstance(target.staging, RemoteInPlace):
        finish_remote_region(target, units)
        return
    staging: Any = target.staging
    fmt = target.format
    with naming_errors(staging.destination, "its manifest cannot be brought up to date"):
        noted = read_units(staging.journal)
        for unit, (_, region) in enumerate(iter_block_regions(units)):
            where = shift(region, target.origin)
            change_records(staging.destination, _cells(where, fmt.chunks), noted[unit])
    remove_tree(staging.job)


def discard_region(target: Target) -> None:
    """Remove what a failed write has left besides its chunks."""
    staging: Any = target.staging
    if isinstance(staging, RemoteInPlace):
        with suppress(ScoutIOError):  # the store may be what failed
            staging.discard()
    else:
        remove_tree(staging.job)


def _cells(region: Region, chunks: Shape) -> Region:
    return tuple(slice(s.start // c, -(-s.stop // c)) for s, c in zip(region, chunks, strict=True))


BEGUN = "begun"


@dataclass(frozen=True, slots=True)
class RemoteInPlace(RemoteStaging):
    """The writing of one region of an array that stands. Picklable.

    Attributes
    ----------
    note_name : str
        Of the note that says which chunks are concerned.
    """

    note_name: str = ""

    @property
    def journal(self) -> RemoteLocation:
        """Below it are the records of finished units, and what says that it goes on."""
        return self.destination / f".scout-region-{self.job_id}"

    def check(self) -> None:
        """Refuse to go on where another array has taken the place of this one.

        Raises
        ------
        WriteError
            If it has.
        """
        if (self.journal / BEGUN).read() is None:
            raise WriteError(
                f"{self.destination} was replaced or removed while a region of it was written. "
                "Nothing more is written."
            )

    def discard(self) -> None:
        """Remove what is noted until all is in."""
        self.journal.remove([name for name, _ in self.journal.find()])

    def _write(self, place: RemoteLocation, data: bytes) -> None:
        try:
            place.write(data)
        except WriteError as err:
            raise WriteError(
                f"{err}. Some chunks of the region are new. Write the region again when the cause "
                "is mended."
            ) from err


def begin_remote_region(
    path: RemoteLocation, fmt: ChunkFormat, region: Region, band: Shape
) -> Target:
    """Call the chunks of a region unknown, before the first of them is written.

    Raises
    ------
    WriteError
        If the store does not take it.
    """
    job = uuid.uuid4().hex
    note = begin_note(path, job, _cells(region, fmt.chunks))
    staging = RemoteInPlace(path, job, note_name=note.name)
    (staging.journal / BEGUN).write(b"")
    origin = tuple(s.start for s in region)
    return Target(staging, fmt, band, origin=origin, in_place=True)


def finish_remote_region(target: Target, units: Blocks) -> None:
    """Note what the region's chunks are now.

    Raises
    ------
    ResumeError
        If one was not written.
    WriteError
        If the store does not take it.
    """
    staging, fmt = target.staging, target.format
    if not isinstance(staging, RemoteInPlace):
        raise TypeError(f"{staging} is not in place")
    staging.check()
    region = tuple(slice(at, at + sum(axis)) for at, axis in zip(target.origin, units, strict=True))
    cells = _cells(region, fmt.chunks)
    # The region as an array of its own: it begins on the edge of a chunk.
    records = gather_records(
        region_shape(region), fmt.chunks, units, staging.read_units(), staging.journal
    )
    notes = staging.destination / NOTES_NAME
    finish_note(staging.destination, notes / staging.note_name, cells, records)
    staging.discard()
