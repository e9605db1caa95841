"""Opening, checking and reading files: descriptors are short-lived, reads are exact.

Two small per-process memories: segment tables by file and page, decoders by layout.

How many threads of a process read the files of one array at once: ``nb_workers=`` of readers.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from scout_dask_io.core.fork import in_forked_child
from scout_dask_io.core.formatting import cut
from scout_dask_io.core.messages import Message
from scout_dask_io.errors import (
    PathNotFoundError,
    ScoutIOError,
    SourceChangedError,
    TiffReadError,
)
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location, as_local, as_remote
from scout_dask_io.files.system import READ, read_some_at
from scout_dask_io.tiff.page_layout import SourceFile
from scout_dask_io.tiff.range_reader import RemoteFile, find_object

#: A file that is open: a descriptor, or what stands for one of an object in a store.
OpenFile: TypeAlias = int | RemoteFile

_MASK = 0xFFFFFFFFFFFFFFFF


def _find_file(path: LocalLocation) -> os.stat_result:
    """Look at a file without opening it.

    Raises
    ------
    PathNotFoundError
        If there is nothing at ``path``.
    TiffReadError
        If it is no regular file. FIFOs and devices are never opened: that can
        wait for ever or act on the device.
    """
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise PathNotFoundError(
                f"{path!r} is a link to {os.readlink(path)!r}, which does not exist"
            ) from None
        raise PathNotFoundError(f"there is no file {path!r}") from None
    except (OSError, ValueError) as err:
        raise TiffReadError(f"cannot look at {path!r}: {err}") from err
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a FIFO, a device or a socket"
        raise TiffReadError(f"{path!r} is {kind}, not a regular file")
    return found


def find_file(path: Location) -> SourceFile:
    """Give the facts that identify a regular file on a disk, without opening it.

    Raises
    ------
    PathNotFoundError, TiffReadError
        If there is none, or it is none.
    """
    found = _find_file(as_local(path))
    return _facts(str(path), found)


def _facts(path: str, found: os.stat_result) -> SourceFile:
    return SourceFile(path, found.st_size, found.st_mtime_ns & _MASK, found.st_ino)


@contextmanager
def _open_found(path: Location, known: SourceFile | None) -> Iterator[tuple[OpenFile, SourceFile]]:
    """Open a regular file for reading, with the facts that identify it.

    What is ``known`` of an object is not asked for again: each answer says what it is from.
    """
    if not path.on_disk:
        remote = as_remote(path)
        file = known or find_object(remote)
        yield RemoteFile(remote, file), file
        return
    path = as_local(path)
    _find_file(path)
    try:
        fd = os.open(path, READ)
    except OSError as err:
        raise TiffReadError(f"cannot open {path!r}: {err}") from err
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise TiffReadError(f"{path!r} is not a regular file")
        yield fd, _facts(str(path), found)
    finally:
        os.close(fd)


# What Python raises where tifffile takes a damaged tag for what it should be.
_STUMBLES = (
    TypeError, AttributeError, LookupError, ArithmeticError, NameError, AssertionError,
    RecursionError,
)  # fmt: skip


@contextmanager
def opened(
    path: Location, known: SourceFile | None = None
) -> Iterator[tuple[OpenFile, SourceFile]]:
    """Open a file; whatever goes wrong with it becomes one error that names it."""
    try:
        with _open_found(path, known) as found:
            yield found
    except (ScoutIOError, MemoryError):
        raise
    except Exception as err:
        # Joined and not formatted, so that an argument which the message names stays one.
        what = err.args[0] if err.args and isinstance(err.args[0], str) else str(err)
        what = what if isinstance(what, Message) else cut(what or type(err).__name__, 1000)
        if isinstance(err, _STUMBLES):
            what = f"its tags are damaged, or make no sense together ({type(err).__name__}: {what})"
        raise TiffReadError(f"cannot read {str(path)!r}: " + what) from err


def open_checked(file: SourceFile) -> int:
    """Open a file that was described before, and give its descriptor.

    Raises
    ------
    SourceChangedError
        If it is no longer the file that was described.
    """
    try:
        fd = os.open(file.path, READ)
    except FileNotFoundError:
        raise SourceChangedError(
            f"{file.path!r} is gone: it was there when the array was built. "
            "Put it back, or build the array again."
        ) from None
    except OSError as err:
        raise TiffReadError(f"cannot open {file.path!r}: {err}") from err
    return check_open(fd, file)


def check_open(fd: int, file: SourceFile) -> int:
    """Give a descriptor of a file that was described before; close it where it is not that one.

    Raises
    ------
    SourceChangedError
        If it is no longer the file that was described.
    """
    try:
        now = os.fstat(fd)
        if (
            now.st_size != file.size
            or now.st_mtime_ns & _MASK != file.mtime_ns
            or now.st_ino != file.inode
        ):
            raise what_changed(file, _facts(file.path, now), stat.S_ISREG(now.st_mode))
    except BaseException:
        os.close(fd)
        raise
    return fd


def what_changed(file: SourceFile, now: SourceFile, is_regular: bool = True) -> SourceChangedError:
    """Give the error of a file that is another one than was described."""
    changes = []
    if not is_regular:
        changes.append("it is no longer a regular file")
    if now.size != file.size:
        changes.append(f"size was {file.size} bytes, is {now.size}")
    if now.mtime_ns != file.mtime_ns:
        before, after = _moment(file.mtime_ns), _moment(now.mtime_ns)
        changes.append(f"last modified {before}, is {after}")
    if now.inode != file.inode:
        changes.append("another file stands at this path")
    return SourceChangedError(
        f"{file.path!r} changed after the array was built: {'; '.join(changes)}. "
        "Build the array again to read what is there now."
    )


def _moment(mtime_ns: int) -> str:
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, tz=UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{mtime_ns} ns"


def read_at(fd: OpenFile, offset: int, out: memoryview) -> int:
    """Read from a file into a buffer, as far as the file goes; give the number of bytes.

    Every pixel, and of a disk every table, comes through here: tests replace it to
    see which bytes are asked for.
    """
    if not isinstance(fd, int):
        return fd.read(offset, out)
    done, wanted = 0, len(out)
    while done < wanted:
        got = read_some_at(fd, offset + done, out[done:] if done else out)
        if got == 0:
            break
        done += got
    return done


def read_bytes(fd: OpenFile, offset: int, nbytes: int) -> bytearray:
    """Read up to ``nbytes`` bytes of a directory or a table; fewer where the file ends before."""
    if not isinstance(fd, int):
        return fd.head(offset, nbytes)
    out = bytearray(nbytes)
    got = read_at(fd, offset, memoryview(out))
    # Not cut in place: a profiler that looks at this thread's frames, as a dask
    # worker's does, may hold the view still, and then bytes cannot be re-sized.
    return out if got == nbytes else out[:got]


V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class SegmentTable:
    """Where the segments of one page lie in its file, and what JPEG segments share."""

    offsets: np.ndarray
    counts: np.ndarray
    jpeg_tables: bytes | None = None
    jpeg_header: bytes | None = None

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes, roughly."""
        shared = len(self.jpeg_tables or b"") + len(self.jpeg_header or b"")
        return self.offsets.nbytes + self.counts.nbytes + shared + 500


class BoundedCache(Generic[V]):
    """A thread-safe mapping that forgets what was used longest ago when it is full.

    A value that is missing is made outside of the lock: two threads may make
    it twice, none waits for another's I/O.
    """

    def __init__(self, limit: int, size_of: Callable[[V], int]) -> None:
        self._limit = limit
        self._size_of = size_of
        self.begin_anew()

    def begin_anew(self) -> None:
        """Hold nothing, under a new lock: another thread may have been amid a change at a fork."""
        self._held = 0
        self._lock = threading.Lock()
        self._items: OrderedDict[Hashable, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: Hashable, make: Callable[[], V]) -> V:
        """Give the value of a key, made by ``make`` where it is not held."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        value = make()
        size = self._size_of(value)
        with self._lock:
            if key not in self._items and size <= self._limit:
                self._items[key] = value
                self._held += size
                while self._held > self._limit:
                    _, old = self._items.popitem(last=False)
                    self._held -= self._size_of(old)
        return value

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._items.clear()
            self._held = 0

    def __reduce__(self) -> Any:
        raise TypeError("a per-process cache does not travel")


class _Gate:
    """Lets at most so many threads in."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.begin_anew()

    def begin_anew(self) -> None:
        self._slots = threading.BoundedSemaphore(self._limit)

    def __enter__(self) -> None:
        self._slots.acquire()

    def __exit__(self, *exc: object) -> None:
        self._slots.release()


# Who holds a gate keeps it: it goes with the last part of its array.
_gates: WeakValueDictionary[tuple[str, int], _Gate] = WeakValueDictionary()
_gates_lock = threading.Lock()


@in_forked_child
def _open_gates() -> None:
    """Let out the parent's threads, which are not there to go out of a gate in a forked child."""
    for gate in list(_gates.values()):
        gate.begin_anew()


def shared_gate(array: str, limit: int | None) -> AbstractContextManager[Any]:
    """Give the gate that all parts of an array in this process share.

    ``array`` names the array that the parts are of; without a ``limit`` the gate is open.
    """
    if limit is None:
        return nullcontext()
    with _gates_lock:
        gate = _gates.get((array, limit))
        if gate is None:
            gate = _gates[array, limit] = _Gate(limit)
    return gate
