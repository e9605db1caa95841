"""Writing one unit: read its region, cut it into chunks, encode them, write their files.

Everything happens inside the call, in the calling thread: when it returns, the
unit's chunks are on disk and the journal says so; when it raises, nothing goes
on behind the caller's back.
"""

from __future__ import annotations

import os
import threading
import uuid
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np

from scout_dask_io.chunkbuffer import ChunkBuffer
from scout_dask_io.errors import ScoutIOError, WriteError
from scout_dask_io.grid import Region, Shape, chunk_counts, iter_regions, region_shape
from scout_dask_io.human import format_nbytes
from scout_dask_io.source import Source
from scout_dask_io.store.checksum import crc32c
from scout_dask_io.store.chunkfile import write_file
from scout_dask_io.store.formats import StoredFormat, encoder_of
from scout_dask_io.store.journal import CHUNK_RECORD, append_unit
from scout_dask_io.store.staging import Staging

__all__ = ["Cancelled", "Target", "cancel", "shift", "write_unit"]

_counter = count()
_cancelled: set[str] = set()


class Cancelled(Exception):
    """Raised inside a task whose job was given up; never reaches the caller."""


@dataclass(frozen=True)
class Target:
    """What tasks need to know of the array that they write. Picklable.

    Attributes
    ----------
    staging : Staging
        Where the array grows.
    format : ArrayFormat or ShardFormat
        How its chunks are stored; where it has shards, they are written as chunks are.
    band : tuple of int
        The part of a unit that is in memory at one time, in elements.
    durable : bool
        Whether files are synced to the disk before they count as written.
    attempt : str
        Names this run of the write, for :func:`cancel`.
    origin : tuple of int
        Where in the array the units' coordinates begin; empty for its origin.
    in_place : bool
        Whether chunks may stand already, so that empty ones must be removed.
    """

    staging: Staging
    format: StoredFormat
    band: Shape
    durable: bool = False
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)
    origin: Shape = ()
    in_place: bool = False


def cancel(target: Target) -> None:
    """Make this process's running tasks of one attempt stop at their next band."""
    _cancelled.add(target.attempt)


def write_unit(target: Target, unit: int, region: Region, source: Source, inside: Region) -> int:
    """Write the chunks of one unit and note it in the journal.

    Parameters
    ----------
    target : Target
        The array.
    unit : int
        The unit's number, under which the journal notes it.
    region : tuple of slice
        Whole chunks of the array.
    source, inside
        What to read, and the region in it that becomes ``region``.

    Returns
    -------
    int
        Bytes of elements written.

    Raises
    ------
    WriteError
        If a file cannot be written, naming it. The unit can be written again.
    """
    fmt, staging = target.format, target.staging
    region = shift(region, target.origin)
    encoder = encoder_of(fmt)
    buffer = ChunkBuffer(fmt.chunks, fmt.dtype, fmt.fill())
    records = np.zeros(chunk_counts(region_shape(region), fmt.chunks), CHUNK_RECORD)
    first = tuple(s.start // c for s, c in zip(region, fmt.chunks, strict=True))
    root = path = os.fspath(staging.array)
    prefix = f"{staging.tmp}/{os.getpid()}-{threading.get_ident()}-"
    try:
        for part in iter_regions(region_shape(region), target.band):
            if target.attempt in _cancelled:
                raise Cancelled
            buffer.begin(_shift(part, region))
            for where, values in source.iter_pieces(_shift(part, inside)):
                buffer.put(where, values)
            if not buffer.is_full():
                raise RuntimeError(f"{type(source).__name__} left elements of {part} out")
            for index, chunk in buffer.iter_chunks():
                data = encoder.encode(chunk)
                if data is None and not target.in_place:
                    continue
                path = fmt.chunk_path(root, index)
                if data is None:
                    Path(path).unlink(missing_ok=True)
                    continue
                write_file(
                    path, f"{prefix}{next(_counter)}", data, root=root, durable=target.durable
                )
                at = tuple(i - f for i, f in zip(index, first, strict=True))
                records[at] = (len(data), crc32c(data))
        path = os.fspath(staging.journal)
        append_unit(staging.journal, unit, records, durable=target.durable)
    except ScoutIOError:
        raise
    except OSError as err:
        raise _explained(err, path, target) from err
    return int(np.prod(region_shape(region))) * fmt.dtype.itemsize


def shift(region: Region, origin: Shape) -> Region:
    """Give a region in coordinates in which its own begin at ``origin``."""
    if not origin:
        return region
    return tuple(slice(s.start + o, s.stop + o) for s, o in zip(region, origin, strict=True))


def _shift(part: Region, origin: Region) -> Region:
    return tuple(
        slice(p.start + o.start, p.stop + o.start) for p, o in zip(part, origin, strict=True)
    )


def _explained(err: OSError, path: str, target: Target) -> WriteError:
    """Give a write failure as one that names the file and says how to go on."""
    if not target.staging.array.is_dir() or not target.staging.journal.is_dir():
        return WriteError(
            f"{path}: the unfinished write that this task belongs to is gone: it was discarded, "
            "or finished elsewhere. Nothing was changed."
        )
    after = (
        f"The destination {target.staging.destination} is as it was; the finished part is kept "
        "beside it. Once the cause is mended, the same call with resume=True goes on."
    )
    if target.in_place:
        after = (
            "Some chunks of the region are new. Write the region again when the cause is mended."
        )
    try:
        found = os.statvfs(target.staging.job)
        free = f" ({format_nbytes(found.f_bavail * found.f_frsize)} free)"
    except OSError:
        free = ""
    error = WriteError(f"{path} cannot be written: {err.strerror}{free}. {after}")
    error.errno = err.errno
    return error
