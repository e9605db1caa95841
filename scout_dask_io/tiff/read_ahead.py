"""Files read in one order by the kernel, ahead of tasks that each read a part of every file.

A write of cubes from planes reads some rows of 64 planes, then the next rows of the same planes:
a disk that seeks goes back and forth, one request a plane and rows. Here a thread has each plane
brought into the system's cache of files as a whole, in the order in which tasks come to them, and
the tasks take their rows from there. Nothing is held: the cache gives way to whoever needs memory,
and what is gone by then is read as if nobody had been ahead.

The kernel is asked for the bytes, which copies nothing and has much under way at once. On a disk it
may go by many small requests where reading goes by large ones, up to twice as fast: so on slow
storage both are tried, and the one that was faster is kept, see :class:`ReadingWay`.
"""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from scout_dask_io.core.threads import WAITING
from scout_dask_io.files.system import READ, ask_for, max_open_files, read_some_at
from scout_dask_io.tiff.open_file import check_open, open_checked
from scout_dask_io.tiff.page_layout import DATA, FILE, IFD, LAYOUT, NO_FILE, UNREAD, SourceFile
from scout_dask_io.tiff.page_table import PageTable

#: What is asked for at once. Two such requests are under way, so that the disk never waits.
WINDOW_NBYTES = 16 << 20
# How much is brought in by each way before they are compared, and how fast storage is that is not
# slow: to copy what a fast disk gives costs more than is won.
_TRIED_NBYTES, _FAST_NBYTES_PER_S = 64 << 20, 500e6
# A page that is in the system's cache comes sooner: who waits longer lets others work.
_SHORT_S = 0.01
# Files kept open for the tasks, at most, and as a share of what the process may have open.
_MAX_OPEN, _OPEN_SHARE = 256, 4


class Window(NamedTuple):
    """Bytes of a file that are asked for at once; the last of a page says so."""

    position: int
    fd: int
    start: int
    stop: int
    is_last: bool


class ReadingWay:
    """Whether bytes are asked for, or read into memory that nobody looks at: what is faster.

    They are asked for at first, and for good where they come fast, as from a cache; else read, and
    then the way is kept that was faster.

    Attributes
    ----------
    reads : bool
        Whether they are read.

    Examples
    --------
    >>> way = ReadingWay()
    >>> way.note(2**27, 1.0), way.reads
    (None, True)
    >>> way.note(2**27, 2.0), way.reads
    (None, False)
    """

    def __init__(self) -> None:
        self.reads, self._is_chosen = False, False
        self._nbytes, self._took_s = [0, 0], [0.0, 0.0]

    def note(self, nbytes: int, took_s: float) -> None:
        """Take note of how long bytes took by the way that is taken now."""
        here = int(self.reads)
        self._nbytes[here] += nbytes
        self._took_s[here] += took_s
        if self._is_chosen or self._nbytes[here] < _TRIED_NBYTES:
            return
        if self.reads:
            asked, read = (
                n / max(s, 1e-9) for n, s in zip(self._nbytes, self._took_s, strict=True)
            )
            self.reads, self._is_chosen = read >= asked, True
        elif self._nbytes[0] < _FAST_NBYTES_PER_S * self._took_s[0]:
            self.reads = True
        else:
            # What comes next may not be in the cache.
            self._nbytes[0], self._took_s[0] = 0, 0.0


class PageQueue:
    """Pages in the order in which tasks first come to them, and how far they are read.

    Parameters
    ----------
    ahead_nbytes : int
        How far the thread goes beyond the last page that a task came to.
    """

    def __init__(self, ahead_nbytes: int) -> None:
        self._ahead_nbytes = ahead_nbytes
        self._tables: list[PageTable] = []
        self._starts = [0]
        self._ends = array("q", [0])  # bytes up to each page
        self._changed = threading.Condition()
        self._open: OrderedDict[int, int] = OrderedDict()
        self._max_open = min(_MAX_OPEN, max_open_files() // _OPEN_SHARE)
        self._asked, self._front, self._done = -1, 0, 0
        self._works = self._closed = False
        #: How bytes are brought in, where they go if they are read, and when the last had come.
        self._way, self._unseen, self._last_s = ReadingWay(), memoryview(b""), 0.0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="scout-read-ahead")

    def add(self, table: PageTable) -> int:
        """Add the pages of a table, in C order, after those before; give the number of the first.

        Before any task comes to one.
        """
        rows = table.pages.reshape(-1, 4).tolist()
        self._tables.append(table)
        self._starts.append(self._starts[-1] + len(rows))
        for row in rows:
            self._ends.append(self._ends[-1] + _extent(table, row)[1])
        return self._starts[-2]

    def open(self, position: int, file: SourceFile) -> int:
        """Wait until a page is in the cache, and give a descriptor of its file, to be closed.

        Raises
        ------
        SourceChangedError, TiffReadError
            If it is no longer the file that was described, or cannot be opened.
        """
        if position > self._asked or position >= self._done:
            self._come_to(position)
        with self._changed:
            fd = self._open.get(position)
            fd = None if fd is None else os.dup(fd)
        return open_checked(file) if fd is None else check_open(fd, file)

    def _come_to(self, position: int) -> None:
        with self._changed:
            self._asked = max(self._asked, position)
            if not self._works and not self._closed and self._may_go_on():
                self._works = True
                self._pool.submit(self._go_on)
            if self._changed.wait_for(lambda: self._is_here(position), _SHORT_S):
                return
        with WAITING.get()(), self._changed:
            self._changed.wait_for(lambda: self._is_here(position))

    def _is_here(self, position: int) -> bool:
        return position < self._done or self._closed

    def _may_go_on(self) -> bool:
        if self._front >= self._starts[-1]:
            return False
        ahead = self._ends[self._front] - self._ends[self._asked + 1]
        return self._front <= self._asked or ahead < self._ahead_nbytes

    def _go_on(self) -> None:
        under_way: deque[Window] = deque()
        self._last_s = time.monotonic()
        try:
            for window in self._windows():
                if self._closed:
                    break
                if not self._way.reads:
                    with suppress(OSError):
                        ask_for(window.fd, window.start, window.stop - window.start)
                under_way.append(window)
                while len(under_way) > (0 if self._way.reads else 1):
                    self._wait_for(under_way.popleft())
            while under_way:
                self._wait_for(under_way.popleft())
        finally:
            with self._changed:
                # After an error nobody is to wait: tasks find it themselves.
                self._done = max(self._done, self._front)
                # A task may have come further since the last window was asked for.
                self._works = not self._closed and self._may_go_on()
                if self._works:
                    self._pool.submit(self._go_on)
                self._changed.notify_all()

    def _windows(self) -> Iterator[Window]:
        """Yield what is to be asked for, as far as tasks have come and a little further."""
        at = 0
        while True:
            with self._changed:
                if self._closed or not self._may_go_on():
                    return
                position, self._front = self._front, self._front + 1
            while self._starts[at + 1] <= position:
                at += 1
            table = self._tables[at]
            row = table.pages.reshape(-1, 4)[position - self._starts[at]].tolist()
            start, nbytes = _extent(table, row)
            fd = self._opened(position, table, row) if nbytes else -1
            if fd < 0:
                yield Window(position, -1, 0, 0, True)
                continue
            stop = start + nbytes
            for low in range(start, stop, WINDOW_NBYTES):
                high = min(low + WINDOW_NBYTES, stop)
                yield Window(position, fd, low, high, high == stop)

    def _opened(self, position: int, table: PageTable, row: list[int]) -> int:
        """Open the file of a page, or give it as it is open; -1 where that fails."""
        with suppress(OSError, ValueError):
            fd = os.open(table.file_of(row).path, READ)
            with self._changed:
                self._open[position] = fd
                # Two are under way.
                while len(self._open) > max(self._max_open, 3):
                    os.close(self._open.popitem(last=False)[1])
            return fd
        return -1

    def _wait_for(self, window: Window) -> None:
        if window.fd >= 0:
            # Of what was asked for, the last byte comes last.
            nbytes = window.stop - window.start if self._way.reads else 1
            if len(self._unseen) < nbytes:
                self._unseen = memoryview(bytearray(nbytes))
            with suppress(OSError):
                read_some_at(window.fd, window.stop - nbytes, self._unseen[:nbytes])
            now_s = time.monotonic()
            self._way.note(window.stop - window.start, now_s - self._last_s)
            self._last_s = now_s
        if window.is_last:
            with self._changed:
                self._done = window.position + 1
                self._changed.notify_all()

    def close(self) -> None:
        """Read no further, and close what is open; tasks that come later read by themselves."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown(wait=True)
        while self._open:
            os.close(self._open.popitem()[1])


def _extent(table: PageTable, row: list[int]) -> tuple[int, int]:
    """Give where the pixels of a page begin in its file, and how many bytes they have.

    Of a page that is not the only one of its file, and compressed or yet to be described, that is
    not known: nothing is asked for.
    """
    if row[FILE] == NO_FILE:
        return 0, 0
    file, layout = table.file_of(row), table.layouts[row[LAYOUT]]
    nbytes = layout.nbytes
    if file.size <= 2 * nbytes:
        return 0, file.size
    if layout.coding == "raw" and row[IFD] != UNREAD and row[DATA] >= 0:
        return row[DATA], min(nbytes, file.size - row[DATA])
    return 0, 0
