"""Whole files of a disk: one after the other, or several at once where each takes long.

Into memory that is used again, and only as much as a chunk of an array can have.
"""

from __future__ import annotations

import math
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache, partial
from threading import Lock
from typing import TypeAlias

from scout_dask_io.core.fork import in_forked_child
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.files.pace import N_AT_ONCE, Pace, pace_of
from scout_dask_io.files.system import READ, is_below_a_file, read_some

#: What files that are read at once may hold together.
AHEAD_NBYTES = 32 << 20

#: A name, and what its file holds: ``None`` if there is none, an error where it cannot be read.
Answer: TypeAlias = "tuple[str, memoryview | bytes | ChunkReadError | None]"


class Newest:
    """When the newest of some files was written, in nanoseconds; infinity where that is unknown."""

    ns: float = 0

    def note(self, changed_ns: int) -> None:
        """Take note of a file; 0 is unknown."""
        self.ns = max(self.ns, changed_ns or math.inf)


def iter_whole(
    root: str,
    names: Iterable[str],
    max_nbytes: int,
    then: Callable[[], None] | None = None,
) -> Iterator[Answer]:
    """Yield what files below a folder hold, in order; each is good until the next.

    Several are read at once where it was found to take long. ``then`` is called once all are read;
    what it raises is raised at the end.
    """
    room, pace, left = Room(max_nbytes), pace_of(root), iter(names)
    n = min(N_AT_ONCE, AHEAD_NBYTES // max(max_nbytes, 1))
    while n < 2 or not pace.is_slow:
        name = next(left, None)
        if name is None:
            if then is not None:
                then()
            return
        yield _answer(root, name, room, pace)
    yield from _iter_at_once(partial(_answer_alone, root, max_nbytes, pace), left, n, then)


def _answer(root: str, name: str, room: Room, pace: Pace) -> Answer:
    """Read a file, and note how long it took."""
    began = time.perf_counter()
    found: memoryview | ChunkReadError | None
    try:
        found = read_file(f"{root}/{name}", room)
    except ChunkReadError as err:
        found = err
    nbytes = len(found) if isinstance(found, memoryview) else 0
    pace.note(time.perf_counter() - began, nbytes)
    return name, found


def _answer_alone(root: str, most: int, pace: Pace, name: str) -> tuple[Room, Answer]:
    """Read a file into room of its own."""
    room = Room(most, _spare_buffer())
    return room, _answer(root, name, room, pace)


def _iter_at_once(
    read: Callable[[str], tuple[Room, Answer]],
    names: Iterator[str],
    n: int,
    then: Callable[[], None] | None,
) -> Iterator[Answer]:
    """Yield what files hold, ``n`` of them read at once; each is good until the next."""
    if then is None:
        yield from _given_back(work_ahead(read, names, n, n, _readers()))
        return
    reading = _Reading(then)

    def read_counted(name: str) -> tuple[Room, Answer]:
        try:
            return read(name)
        finally:
            reading.end()

    yield from _given_back(work_ahead(read_counted, reading.of(names), n, n, _readers()))
    reading.result()


def _given_back(found: Iterable[tuple[Room, Answer]]) -> Iterator[Answer]:
    """Yield answers, and keep the room of each for the next."""
    for room, answer in found:
        yield answer
        if len(room.buffer) <= _SPARE_NBYTES:
            _SPARE.append(room.buffer)


class _Reading:
    """Files that are being read: once the last of them is, ``then`` begins, in a thread."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then
        self._lock = Lock()
        self._n = 1  # the names, which may go on
        self._looked: Future[None] | None = None

    def of(self, names: Iterable[str]) -> Iterator[str]:
        """Yield the names; each that is taken is read."""
        for name in names:
            with self._lock:
                self._n += 1
            yield name
        self.end()

    def end(self) -> None:
        """Take note that a file is read, or that there are no more names."""
        with self._lock:
            self._n -= 1
            if not self._n:
                self._looked = _readers().submit(self._then)

    def result(self) -> None:
        """Wait for ``then``, and raise what it raised."""
        if self._looked is not None:
            self._looked.result()


@lru_cache
def _readers() -> ThreadPoolExecutor:
    """Give threads for files that are read at once: two readers have as many as they ask for."""
    return ThreadPoolExecutor(2 * N_AT_ONCE, thread_name_prefix="scout-file")


in_forked_child(_readers.cache_clear)
#: Memory of files that were read at once, for those of the next region.
_SPARE: deque[bytearray] = deque(maxlen=N_AT_ONCE)
_SPARE_NBYTES = 1 << 20


def _spare_buffer() -> bytearray:
    with suppress(IndexError):  # another thread may have taken the last
        return _SPARE.pop()
    return bytearray()


class Room:
    """Memory for one file after another, up to a size, and no more than the largest so far.

    New memory for every chunk costs four times the read itself (0.30 against 0.07 ms for 256 kB).
    """

    def __init__(self, most: int, buffer: bytearray | None = None) -> None:
        self.most, self.buffer = most, bytearray() if buffer is None else buffer

    def of(self, nbytes: int) -> memoryview:
        """Give room for so many bytes: what was given before is filled anew."""
        if nbytes > len(self.buffer):
            # Chunks differ a little in size.
            self.buffer = bytearray(min(nbytes + nbytes // 8, self.most))
        return memoryview(self.buffer)[:nbytes]


def read_file(path: str | os.PathLike[str], room: Room) -> memoryview | None:
    """Read a whole regular file, or give ``None`` if there is none; good until the next one.

    Raises
    ------
    ChunkReadError
        If it is no regular file, larger than allowed, or cannot be read.
    """
    try:
        fd = os.open(path, READ)
    except FileNotFoundError as err:
        if os.path.islink(path):  # never fill: the chunk is somewhere else, or was
            raise ChunkReadError(f"{path}: expected a chunk's file, found a link to "
                                 "nothing") from err  # fmt: skip
        if is_below_a_file(path):
            raise ChunkReadError(
                f"{path}: the chunk cannot be opened (a file lies where its folder belongs)"
            ) from err
        return None
    except OSError as err:
        raise ChunkReadError(f"{path}: the chunk cannot be opened ({err.strerror})") from err
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise ChunkReadError(f"{path}: expected a chunk's regular file, found something else")
        if info.st_size > room.most:
            raise ChunkReadError(
                f"{path}: the file has {info.st_size} bytes, more than any encoding of this "
                f"array's chunks ({room.most}). It is damaged or belongs to another array."
            )
        try:
            data = room.of(info.st_size)
        except MemoryError as err:
            raise ChunkReadError(
                f"{path}: the file has {info.st_size:,} bytes, more than there is memory for"
            ) from err
        got = 0
        while got < len(data):
            more = read_some(fd, data[got:])
            if not more:
                raise ChunkReadError(f"{path}: ended after {got} of {info.st_size} bytes")
            got += more
        return data
    except ChunkReadError:
        raise
    except OSError as err:
        raise ChunkReadError(f"{path}: the chunk cannot be read ({err.strerror})") from err
    finally:
        os.close(fd)
