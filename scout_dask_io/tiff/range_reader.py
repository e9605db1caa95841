"""TIFF files in object stores: read by ranges, a few requests a plane, and never a mixture.

A request takes as long as a megabyte does to come, so what lies close together is
fetched at once: the directory and its tables in one window, the segments of an
area in one range where they touch. Nothing is open between two requests.
"""

from __future__ import annotations

import errno
import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    PathNotFoundError,
    ScoutIOError,
    SourceChangedError,
    TiffReadError,
)
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.tiff.page_layout import SourceFile

#: One batch of requests; a connection that is cut costs no more than this again.
_BATCH_NBYTES = 8 << 20
_BATCH_RANGES = 64
#: What lies between two segments is fetched with them up to this size.
_GAP_NBYTES = 256 << 10
# A header, its directory, and tables of 2,000 strips. Some writers put a directory at the
# end, and its tables before it.
_WINDOW_NBYTES = 32 << 10
_BEFORE_NBYTES = 8 << 10
#: Windows that a file keeps, in bytes; the last one stays whatever its size.
_KEPT_NBYTES = 32 << 20
#: By what stores tell one state of an object from another, where they give no ETag.
_MARKS = ("mtime", "LastModified", "last_modified", "Last-Modified", "modified", "created")


@contextmanager
def answered() -> Iterator[None]:
    """Turn the error of a store that cannot be asked into that of a TIFF that cannot be read."""
    try:
        yield
    except ChunkReadError as err:
        raise TiffReadError(str(err)) from _unreached(err.__cause__ or err, str(err))


def find_object(place: RemoteLocation) -> SourceFile:
    """Give the facts of an object: those of the listing it is from, or else what the store says.

    Raises
    ------
    PathNotFoundError
        If there is none.
    ArgumentError
        If it is a folder.
    TiffReadError
        If the store cannot be asked, or does not say how large it is.
    """
    entry = place.entry
    if entry is None or entry.get("size") is None:
        with answered():
            entry = place.info()
        if entry is None:
            with answered():
                below = place.exists()
            if below:
                raise ArgumentError(
                    f"'{place}' is a folder, not a file; read a folder of planes with "
                    "imread_folder, one of channel folders with imread_channels"
                )
            raise PathNotFoundError(f"there is no object '{place}'")
    if entry.get("size") is None:
        raise TiffReadError(f"'{place}' is of unknown size: its server does not tell it")
    return SourceFile(place.url, int(entry["size"]), _state(entry), 0)


def is_unreached(error: ScoutIOError) -> bool:
    """Tell whether a store did not answer, so that nothing is known of the file."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno == errno.EIO


def _state(entry: Mapping[str, Any]) -> int:
    """Give a number of 64 bits that is another one when the object was written again."""
    # An ETag alone where there is one: S3 tells times to the second here, finer ones there.
    marks = [str(entry.get("ETag") or entry.get("etag") or "").strip('"')]
    if not marks[0]:
        # Memory tells the same moment now as a number, now as a date.
        found = (entry.get(name) for name in _MARKS)
        marks = [str(m.timestamp() if isinstance(m, datetime) else m) for m in found]
    digest = hashlib.blake2b("\0".join(marks).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def _unreached(cause: BaseException, told: str) -> OSError:
    """Give the store's own error as one of input and output, or of permission."""
    error = OSError(f"the store does not give it ({told})")
    error.errno = errno.EACCES if isinstance(cause, PermissionError) else errno.EIO
    error.__cause__ = cause
    return error


class RemoteFile:
    """A TIFF file in an object store: takes the place of a file descriptor.

    Directories and tables come from windows that are kept. Pixels come in the
    ranges that :meth:`expect` was told of; each answer says what object it is from, or
    else the store is asked after each batch whether it is the one that was described, so
    that a torn read is an error. Not to be shared by threads.

    Parameters
    ----------
    place : RemoteLocation
        Where it is.
    file : SourceFile
        The state in which it was described.
    """

    def __init__(self, place: RemoteLocation, file: SourceFile) -> None:
        self.file = file
        # What it takes to ask is at hand before another thread does.
        self._place = place
        _ = place.client
        self._windows: OrderedDict[int, bytes] = OrderedDict()
        self._kept_nbytes = 0
        self._expected: list[tuple[int, int]] = []
        self._held: list[tuple[int, bytes]] = []

    def head(self, offset: int, nbytes: int) -> bytearray:
        """Give bytes of a directory or a table; fewer where the file ends before."""
        stop = min(offset + nbytes, self.file.size)
        for at, data in reversed(self._windows.items()):
            if at <= offset and stop <= at + len(data):
                self._windows.move_to_end(at)
                return bytearray(data[offset - at : stop - at])
        if offset >= stop:
            return bytearray()
        start = 0 if offset < _WINDOW_NBYTES else offset - _BEFORE_NBYTES
        end = min(max(stop, start + _WINDOW_NBYTES), self.file.size)
        ((_, data),) = self._get([(start, end)], is_head=True)
        self._kept_nbytes -= len(self._windows.pop(start, b""))
        self._windows[start] = data
        self._kept_nbytes += len(data)
        while self._kept_nbytes > _KEPT_NBYTES and len(self._windows) > 1:
            self._kept_nbytes -= len(self._windows.popitem(last=False)[1])
        return bytearray(data[offset - start : stop - start])

    def expect(self, spans: Sequence[tuple[int, int]]) -> None:
        """Take note of the ``(offset, nbytes)`` of pixels that will be read, in whatever order."""
        ranges: list[tuple[int, int]] = []
        for offset, nbytes in sorted(spans):
            stop = min(offset + nbytes, self.file.size)
            if ranges and offset - ranges[-1][1] <= _GAP_NBYTES:
                ranges[-1] = (ranges[-1][0], max(ranges[-1][1], stop))
            else:
                ranges.append((offset, stop))
        self._expected = [
            (start, min(start + _BATCH_NBYTES, stop))
            for first, stop in ranges
            for start in range(first, stop, _BATCH_NBYTES)
        ]
        self._held = []

    def fetch(self, offset: int | None = None) -> None:
        """Fetch a batch of what is expected, from an offset on; from the first byte if ``None``."""
        batch: list[tuple[int, int]] = []
        nbytes = 0
        for start, stop in self._expected:
            if offset is not None and stop <= offset:
                continue
            if batch and (nbytes + stop - start > _BATCH_NBYTES or len(batch) == _BATCH_RANGES):
                break
            batch.append((start, stop))
            nbytes += stop - start
        if batch:
            self._held = []  # before the next is here, so that there is never twice as much
            self._held = self._get(batch)

    def read(self, offset: int, out: memoryview) -> int:
        """Read pixels into a buffer, as far as the file goes; give the number of bytes."""
        done, wanted = 0, min(len(out), self.file.size - offset)
        while done < wanted:
            at = offset + done
            piece = self._piece_at(at)
            if piece is None:
                if not any(start <= at < stop for start, stop in self._expected):
                    self.expect([(at, wanted - done)])
                self.fetch(at)
                piece = self._piece_at(at)
                if piece is None:
                    break
            start, data = piece
            part = memoryview(data)[at - start : at - start + wanted - done]
            out[done : done + len(part)] = part
            done += len(part)
        return max(done, 0)

    def _piece_at(self, offset: int) -> tuple[int, bytes] | None:
        for start, data in self._held:
            if start <= offset < start + len(data):
                return start, data
        return None

    def verify(self) -> None:
        """Ask the store whether the object is still the one that was described.

        Raises
        ------
        SourceChangedError
            If it was written again, or removed.
        """
        with answered():
            entry = self._place.info()
        self._check(entry)

    def _check(self, entry: Mapping[str, Any] | None) -> None:
        """Refuse an object of which the store says other than it was described by."""
        if entry is None:
            raise SourceChangedError(
                f"{self.file.path!r} is gone: it was there when the array was built. "
                "Put it back, or build the array again."
            )
        if (entry.get("size"), _state(entry)) != (self.file.size, self.file.mtime_ns):
            raise SourceChangedError(
                f"{self.file.path!r} changed after the array was built: it had "
                f"{self.file.size} bytes, and an object of {entry.get('size')} bytes was put in "
                "its place. Build the array again to read what is there now."
            )

    def _get(
        self, ranges: list[tuple[int, int]], *, is_head: bool = False
    ) -> list[tuple[int, bytes]]:
        """Give ``(offset, bytes)`` of ranges that lie in the file, all asked for at once.

        Where the answers do not say what object they are from, it is asked for, but for a
        directory, whose pixels are yet to come.
        """
        try:
            answers = self._place.read_ranges(ranges)
        except Exception as err:  # whatever the store's own library raises, after all its tries
            if isinstance(err, OSError) and err.errno in (None, errno.ENOENT, errno.EINVAL):
                # One that was removed, or replaced by a shorter one that has no such range.
                with suppress(TiffReadError):
                    self.verify()
            raise _unreached(err, self._place.told(err)) from err
        entries = [entry for _, entry in answers if entry is not None]
        for entry in entries:
            self._check(entry)
        for (part, _), (start, stop) in zip(answers, ranges, strict=True):
            if len(part) != stop - start:
                self.verify()
                told = f"{len(part)} bytes came where {stop - start} were asked for"
                raise _unreached(OSError(told), told)
        if len(entries) < len(answers) and not is_head:
            self.verify()
        return [(start, part) for (start, _), (part, _) in zip(ranges, answers, strict=True)]


class Handle(io.RawIOBase):
    """A remote file as Python's files are, for tifffile to look at its directories."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that any part can be read."""
        return True

    def tell(self) -> int:
        """Give the place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.file.size}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read from the present place on."""
        view = memoryview(buffer).cast("B")
        data = self._file.head(self._at, len(view))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
