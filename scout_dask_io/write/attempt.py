"""One run of the tasks of a write: given up as a whole, wherever its tasks are.

A task carries the :class:`Attempt` to its process, where the tasks of one attempt find
one another by its name: they share memory, and whoever gives it up stops them and waits
for them. Nothing of it stays in a process when its last task there has ended, but for
the name of one that was given up: a task of it may come late.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from scout_dask_io.core.chunk_buffer import BufferPool
from scout_dask_io.core.fork import guard_forks, in_forked_child
from scout_dask_io.core.threads import WAITING
from scout_dask_io.run.scheduler import ADD_THREAD

#: Attempts that were given up whose names a process keeps, the newest.
N_GIVEN_UP = 1000


class Cancelled(Exception):
    """Raised inside a task whose job was given up; never reaches the caller."""


@dataclass(slots=True)
class RequestWindow:
    """The requests of an attempt that are under way in one process.

    Attributes
    ----------
    n, nbytes : int
        How many there are, and what they send.
    changed : threading.Condition
        Held to look at these, and told of every change.
    """

    n: int = 0
    nbytes: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)


@dataclass(slots=True)
class WorkSlots:
    """The tasks of an attempt that read and encode in one process.

    Attributes
    ----------
    n : int
        How many there are; the others wait for a disk, for a store, or for their turn.
    n_back : int
        Those that have what they waited for: they go on before others begin.
    n_begun : int
        Those that have begun and not ended: each holds a band.
    changed : threading.Condition
        Held to look at these, and told of every change.
    """

    n: int = 0
    n_back: int = 0
    n_begun: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)


@dataclass(slots=True)
class Running:
    """What the running tasks of an attempt share in one process.

    Attributes
    ----------
    pool : BufferPool
        What they hand to one another.
    window : RequestWindow
        What they have under way.
    slots : WorkSlots
        Which of them work.
    n_tasks : int
        How many there are.
    cancelled : bool
        Whether the attempt was given up.
    is_slow : bool
        Whether files took long to write: what is written on a disk goes through the window then.
    """

    pool: BufferPool = field(default_factory=BufferPool)
    window: RequestWindow = field(default_factory=RequestWindow)
    slots: WorkSlots = field(default_factory=WorkSlots)
    n_tasks: int = 0
    cancelled: bool = False
    is_slow: bool = False


class Turn(AbstractContextManager["Turn"]):
    """A task's turn to read and encode, once fewer than ``n`` others do; 0 is any number.

    Inside, whoever waits for a disk lets others work meanwhile, of which no more than ``n_begun``
    have begun at one time.

    Raises
    ------
    Cancelled
        If the attempt is given up while the task waits, for its turn or for a disk.
    """

    def __init__(self, running: Running, n: int, n_begun: int = 0) -> None:
        self._running = running
        self._n, self._n_begun = n or sys.maxsize, n_begun or sys.maxsize
        self._works = self._has_begun = False

    def __enter__(self) -> Turn:
        slots = self._running.slots
        with slots.changed:
            self._wait(lambda: slots.n + slots.n_back < self._n and slots.n_begun < self._n_begun)
            slots.n += 1
            slots.n_begun += 1
            self._works = self._has_begun = True
        self._outer = WAITING.set(self._let_others_work)
        return self

    def __exit__(self, *error: object) -> None:
        WAITING.reset(self._outer)
        self.end()

    def _wait(self, may_go_on: Callable[[], bool]) -> None:
        running = self._running
        running.slots.changed.wait_for(lambda: running.cancelled or may_go_on())
        if running.cancelled:
            raise Cancelled

    def end(self) -> None:
        """Let another task begin: what is left of this one is to wait, and holds no band."""
        slots = self._running.slots
        with slots.changed:
            slots.n -= self._works
            slots.n_begun -= self._has_begun
            self._works = self._has_begun = False
            slots.changed.notify_all()

    @contextmanager
    def _let_others_work(self) -> Iterator[None]:
        slots = self._running.slots
        with slots.changed:
            slots.n -= 1
            self._works = False
            slots.changed.notify_all()
        ADD_THREAD.get()()
        yield
        with slots.changed:
            slots.n_back += 1
            try:
                self._wait(lambda: slots.n < self._n)
            finally:
                slots.n_back -= 1
            slots.n += 1
            self._works = True


_lock = threading.Lock()
_running: dict[str, Running] = {}
_given_up: dict[str, None] = {}  # the oldest first


@in_forked_child
def _forget_attempts() -> None:
    """Let go of the parent's attempts: none of their tasks runs in a forked child."""
    _running.clear()
    _given_up.clear()


@dataclass(frozen=True, slots=True)
class Attempt:
    """Names one run of a write. Picklable."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    @contextmanager
    def working(self) -> Iterator[Running]:
        """Count a task that changes files, for :meth:`drain`; give what it shares with others.

        Raises
        ------
        Cancelled
            If the attempt was given up before.
        """
        guard_forks()
        with _lock:
            if self.name in _given_up:
                raise Cancelled
            running = _running.setdefault(self.name, Running())
            running.n_tasks += 1
        try:
            yield running
        finally:
            with _lock:
                running.n_tasks -= 1
                if not running.n_tasks:
                    del _running[self.name]

    def cancel(self) -> None:
        """Make this process's running tasks of the attempt stop at their next band."""
        with _lock:
            _given_up[self.name] = None
            if len(_given_up) > N_GIVEN_UP:
                del _given_up[next(iter(_given_up))]
            running = _running.get(self.name)
        if running is not None:
            running.cancelled = True
            for changed in (running.slots.changed, running.window.changed):
                with changed:
                    changed.notify_all()

    async def drain(self) -> None:
        """Cancel the attempt in this process, and wait until none of its tasks changes files."""
        self.cancel()
        while self.name in _running:
            await asyncio.sleep(0.02)
