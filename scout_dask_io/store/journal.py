"""The journal of an unfinished write: which units are finished, and what their chunks are.

Every task appends one line for its unit to a file that no other process or
thread writes, so a kill can only tear the last line, which readers skip. A
unit without a line is written again; units are idempotent.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import zlib
from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scout_dask_io.core.json_document import parse_json
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.system import APPEND, sync_dir

#: Size of a chunk's file in bytes (0: no file, every element is the fill value) and its CRC32C.
CHUNK_RECORD = np.dtype([("nbytes", "<u4"), ("crc32c", "<u4")])
#: Largest chunk that is written, in bytes before it is encoded: a record holds 4 GiB, of which a
#: codec that cannot make noise smaller takes up to 1/128 for itself.
MAX_CHUNK_NBYTES = 2**32 - 2**25


def append_unit(journal: Path, unit: int, records: np.ndarray, *, durable: bool = False) -> None:
    """Note that a unit is finished. ``records`` are its chunks', in C order.

    The directory must exist: if it is gone, the job was discarded.

    Raises
    ------
    OSError
        If the line cannot be written whole, naming its file.
    """
    body = json.dumps({"unit": unit, "chunks": base64.b64encode(records.tobytes()).decode()})
    line = f"{zlib.crc32(body.encode()):08x} {body}\n".encode()
    path = journal / f"{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}.log"
    fd = os.open(path, APPEND, 0o666)
    try:
        new = durable and not os.fstat(fd).st_size
        # A line torn by an earlier failure must not swallow this one.
        rest = memoryview(b"\n" + line)
        while rest:
            rest = rest[os.write(fd, rest) :]
        if durable:
            os.fsync(fd)
    except OSError as err:
        err.filename = os.fspath(path)
        raise
    finally:
        os.close(fd)
    if new:
        sync_dir(journal)


def read_units(journal: Path) -> dict[int, np.ndarray]:
    """Give the finished units and their chunks' records; torn lines do not count."""
    units: dict[int, np.ndarray] = {}
    for path in sorted(journal.glob("*.log")):
        for entry in _lines(path):
            units[entry.unit] = entry.records
    return units


def unit_times(journal: Path) -> dict[int, int]:
    """Give when each unit was noted, or a little later: nanoseconds, by the disk's clock."""
    times: dict[int, int] = {}
    for path in sorted(journal.glob("*.log")):
        written = path.stat().st_mtime_ns
        times |= {entry.unit: written for entry in _lines(path)}
    return times


def strike_units(journal: LocalLocation, units: Set[int], *, durable: bool = False) -> None:
    """Take units out of the journal, for they are written again; no other unit is lost.

    A second line for a unit, in the file of another process, might not be the one that counts.

    Raises
    ------
    WriteError
        If a file cannot be written again; it is as it was.
    """
    for path in sorted(journal.glob("*.log")):
        lines = list(_lines(path))
        kept = [entry for entry in lines if entry.unit not in units]
        if len(kept) < len(lines):
            text = b"".join(b"\n" + entry.line + b"\n" for entry in kept)
            LocalLocation(path).write(text, durable=durable)


class _Entry(NamedTuple):
    line: bytes
    unit: int
    records: np.ndarray


def _lines(path: Path) -> Iterator[_Entry]:
    """Yield what the whole lines of a file say; one that says anything else is as good as torn.

    Raises
    ------
    LayoutError
        If the file is no regular one.
    """
    for line in (LocalLocation(path).read() or b"").split(b"\n"):
        checksum, _, body = line.partition(b" ")
        if not body or checksum != f"{zlib.crc32(body):08x}".encode():
            continue
        try:
            found = parse_json(body)
            unit, chunks = found["unit"], base64.b64decode(found["chunks"], validate=True)
            records = np.frombuffer(chunks, CHUNK_RECORD)
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(unit, int) and not isinstance(unit, bool):
            yield _Entry(line, unit, records)
