"""How the chunks of a unit leave: written at once, or sent while the next are being encoded.

A request to a store takes 10 to 100 ms, whatever it carries, and a chunk is encoded in 3: a
thread that waited for each would be idle most of the time. So chunks go to threads of their own,
and a unit is noted once the store has confirmed all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import dask

from scout_dask_io.core.fork import in_forked_child
from scout_dask_io.core.plan import WritePlan
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location
from scout_dask_io.files.pace import N_AT_ONCE, Pace
from scout_dask_io.store.transaction import Transaction
from scout_dask_io.write.attempt import Cancelled, Running

#: dask's setting of how many requests of a write are under way at once in a process.
SETTING = "scout_dask_io.uploads"
#: What it is where it is not set: at 30 ms a request, room for 2,000 chunks a second.
N_UPLOADS = 64
#: The bytes that wait for a store, at most: three times what 10 Gbit/s carry in 30 ms. More of them
#: would share a slow road, on which each request has its time.
ON_THE_WAY_NBYTES = 128 << 20
#: The same of a disk that answers slowly, as a network share does, and the bytes that wait there.
N_ON_DISK, ON_DISK_NBYTES = 16, 32 << 20
# A disk does so where the quickest of eight took this long: a chunk to a local one takes 0.2 ms.
_SLOW_S, _N_TIMED = 1.5e-3, 8
# Threads beside these for what is asked while they are at work.
_SPARE = 8


@dataclass(frozen=True, slots=True)
class UploadLimit:
    """How many requests of a write may be under way in a process, and how many bytes of chunks.

    ``n_working`` is how many tasks may read and encode at once there: where there are threads for
    more, the others wait for their requests, and hold no band; or they wait for what they read, and
    at most ``n_begun`` hold one. ``on_disk`` is the limit of a disk, where chunks are written one
    by one until that turns out to wait.
    """

    n: int
    nbytes: int
    n_working: int
    n_begun: int
    on_disk: bool = False


def upload_limit(destination: Location, plan: WritePlan) -> UploadLimit | None:
    """Give the limit for a write, in the memory that its plan leaves free of ``max_mem``.

    ``None`` in stores that take one request at a time.

    Raises
    ------
    ArgumentError
        If dask's setting ``scout_dask_io.uploads`` is no positive int.
    """
    n = dask.config.get(SETTING, N_UPLOADS)
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ArgumentError(f"dask's setting {SETTING} must be a positive int, got {n!r}")
    room = max(plan.max_mem - plan.projected_mem, 0)
    if n == 1 or not (destination.on_disk or destination.serves_threads):
        return None
    nbytes = min(room, ON_DISK_NBYTES if destination.on_disk else ON_THE_WAY_NBYTES)
    n_more = (room - nbytes) // max(plan.projected_mem // plan.nb_workers, 1)
    n_begun = min(plan.nb_workers + n_more, max(N_AT_ONCE, plan.nb_workers))
    on_disk = destination.on_disk
    return UploadLimit(
        min(n, N_ON_DISK) if on_disk else n, nbytes, plan.nb_workers, n_begun, on_disk
    )


class Uploads(Protocol):
    """What the writers of one unit hand their chunks to, for all its levels."""

    def put(self, level: int | None, key: str, data: Any) -> None:
        """Have a chunk written; what it holds may change after the call."""

    def remove(self, level: int | None, key: str) -> None:
        """Have a chunk removed."""

    def begin(self, nbytes: int, call: Callable[..., None], *args: Any) -> None:
        """Have another thing done that sends so many bytes."""

    def ask(self, call: Callable[[], None]) -> Callable[[], None]:
        """Begin to ask something; what comes back waits for the answer and raises its error."""

    def hold(self, answer: Callable[[], None]) -> None:
        """Send chunks from now on only once an answer has come, and raised nothing."""

    def confirm(self) -> None:
        """Wait until all that was handed over is done; raise the first error there was."""

    def close(self) -> None:
        """Leave undone what has not begun, and wait for the rest."""


class DirectUploads:
    """Everything is done in the call."""

    def __init__(self, transaction: Transaction) -> None:
        self.put, self.remove = transaction.put, transaction.remove

    def begin(self, nbytes: int, call: Callable[..., None], *args: Any) -> None:
        """Do it."""
        call(*args)

    def ask(self, call: Callable[[], None]) -> Callable[[], None]:
        """Ask at once."""
        call()
        return lambda: None

    def hold(self, answer: Callable[[], None]) -> None:
        """Wait for the answer."""
        answer()

    def confirm(self) -> None:
        """Nothing is left to wait for."""

    def close(self) -> None:
        """Nothing is left to wait for."""


class DiskUploads:
    """Chunks are written in the call, until that turns out to wait: then in a window.

    Threads take turns of 0.05 ms a chunk that a disk in this machine would not give back; on a
    share, where each chunk takes several round trips, they write ten times as many a second.
    """

    def __init__(self, transaction: Transaction, limit: UploadLimit, running: Running) -> None:
        self._transaction, self._limit, self._running = transaction, limit, running
        self._inner: DirectUploads | WindowedUploads = DirectUploads(transaction)
        self._put = transaction.put
        self._pace = Pace(_SLOW_S, _N_TIMED)
        if running.is_slow:
            self._open_window()

    def _open_window(self) -> None:
        self._inner = WindowedUploads(self._transaction, self._limit, self._running)
        self._put = self._inner.put

    def put(self, level: int | None, key: str, data: Any) -> None:
        """Have a chunk written."""
        began = time.perf_counter()
        self._put(level, key, data)
        if self._running.is_slow:
            if isinstance(self._inner, DirectUploads):
                self._open_window()
            return
        self._pace.note(time.perf_counter() - began, len(data))
        if self._pace.is_slow:
            self._running.is_slow = True

    def remove(self, level: int | None, key: str) -> None:
        """Have a chunk removed."""
        self._inner.remove(level, key)

    def begin(self, nbytes: int, call: Callable[..., None], *args: Any) -> None:
        """Have another thing done."""
        self._inner.begin(nbytes, call, *args)

    def ask(self, call: Callable[[], None]) -> Callable[[], None]:
        """Ask at once: on a disk there is nothing to ask."""
        call()
        return _nothing

    def hold(self, answer: Callable[[], None]) -> None:
        """Wait for the answer."""
        answer()

    def confirm(self) -> None:
        """Wait until all that was handed over is done."""
        self._inner.confirm()

    def close(self) -> None:
        """Leave undone what has not begun, and wait for the rest."""
        self._inner.close()


class WindowedUploads:
    """Requests of a unit in threads of their own, in the window that its attempt has.

    Parameters
    ----------
    transaction : Transaction
        Takes the chunks.
    limit : UploadLimit
        A unit that has no request under way may begin one whatever others have: the plan counts
        one chunk a task that is on its way.
    running : Running
        What the tasks of the attempt share here.
    """

    def __init__(self, transaction: Transaction, limit: UploadLimit, running: Running) -> None:
        self._transaction, self._limit, self._running = transaction, limit, running
        self._window = running.window
        self._pool = _pool(limit.n)
        self._pending: set[Future[None]] = set()
        self._failed: BaseException | None = None
        self._answer: Callable[[], None] = _nothing

    def put(self, level: int | None, key: str, data: Any) -> None:
        """Have a chunk sent, once there is room for it.

        Raises
        ------
        Exception
            Of an earlier request of this unit, if one failed.
        """
        self.begin(len(data), self._transaction.put, level, key, bytes(data))

    def remove(self, level: int | None, key: str) -> None:
        """Have a chunk removed, once there is room for the request."""
        self.begin(0, self._transaction.remove, level, key)

    def begin(self, nbytes: int, call: Callable[..., None], *args: Any) -> None:
        """Have something done, once there is room for it."""
        window, limit = self._window, self._limit
        with window.changed:
            while self._failed is None and not self._running.cancelled:
                fits = window.n < limit.n and window.nbytes + nbytes <= limit.nbytes
                if fits or not self._pending:
                    break
                window.changed.wait()
            if self._failed is not None:
                raise self._failed
            if self._running.cancelled:
                raise Cancelled
            window.n += 1
            window.nbytes += nbytes
            # Under the lock, so that it is not over before it is among those to wait for.
            future = self._pool.submit(_once, self._answer, call, *args)
            self._pending.add(future)
        future.add_done_callback(partial(self._ended, nbytes))

    def _ended(self, nbytes: int, future: Future[None]) -> None:
        with self._window.changed:
            self._window.n -= 1
            self._window.nbytes -= nbytes
            self._pending.discard(future)
            if not future.cancelled() and self._failed is None:
                self._failed = future.exception()
            self._window.changed.notify_all()

    def ask(self, call: Callable[[], None]) -> Callable[[], None]:
        """Begin to ask something beside the chunks."""
        return self._pool.submit(call).result

    def hold(self, answer: Callable[[], None]) -> None:
        """Send chunks from now on only once an answer has come; they are encoded meanwhile."""
        self._answer = answer

    def confirm(self) -> None:
        """Wait until the store has confirmed all that was handed over.

        Raises
        ------
        Exception
            The first that a request of this unit raised; others may still be under way.
        """
        self._answer()  # of a band without a chunk too
        with self._window.changed:
            self._window.changed.wait_for(lambda: self._failed or not self._pending)
            if self._failed is not None:
                raise self._failed

    def close(self) -> None:
        """Leave undone what has not begun, and wait for the rest."""
        for future in tuple(self._pending):
            future.cancel()
        with self._window.changed:
            self._window.changed.wait_for(lambda: not self._pending)


def _nothing() -> None:
    """Nothing is waited for."""


def _once(answer: Callable[[], None], call: Callable[..., None], *args: Any) -> None:
    """Do something once an answer has come, and raised nothing."""
    answer()
    call(*args)


def uploads_of(
    transaction: Transaction, limit: UploadLimit | None, running: Running
) -> DirectUploads | DiskUploads | WindowedUploads:
    """Give what the writers of a unit hand their chunks to."""
    if limit is None:
        return DirectUploads(transaction)
    if limit.on_disk:
        return DiskUploads(transaction, limit, running)
    return WindowedUploads(transaction, limit, running)


# The threads of a pool end once it is neither kept here nor at work.
@lru_cache(2)
def _pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n + _SPARE, thread_name_prefix="scout-upload")


in_forked_child(_pool.cache_clear)
