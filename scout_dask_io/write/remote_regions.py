"""Writing a region of an array that stands in an object store.

Each chunk is replaced by one put. ``.scout-region-<job>`` in the array holds what is
noted until all are in; once it is gone, another array has taken this one's place, and
a writer that comes late stops.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from scout_dask_io.core.grid import Blocks, Region, Shape, region_shape
from scout_dask_io.errors import WriteError
from scout_dask_io.files.location import RemotePath
from scout_dask_io.store.chunk_format import StoredFormat
from scout_dask_io.store.region_notes import NOTES_NAME, begin_note, finish_note
from scout_dask_io.store.remote_staging import RemoteStaging
from scout_dask_io.store.unfinished import gather_records
from scout_dask_io.write.unit import Target

__all__ = ["RemoteInPlace", "begin_remote_region", "finish_remote_region"]

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
    def journal(self) -> RemotePath:
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

    def _write(self, place: RemotePath, data: bytes) -> None:
        try:
            place.write(data)
        except WriteError as err:
            raise WriteError(
                f"{err}. Some chunks of the region are new. Write the region again when the cause "
                "is mended."
            ) from err


def begin_remote_region(path: RemotePath, fmt: StoredFormat, region: Region, band: Shape) -> Target:
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


def _cells(region: Region, chunks: Shape) -> Region:
    return tuple(slice(s.start // c, -(-s.stop // c)) for s, c in zip(region, chunks, strict=True))
