"""One run of the tasks of a write: given up as a whole, wherever its tasks are.

A task carries the :class:`Attempt` to its process, where the tasks of one attempt find
one another by its name: they share memory, and whoever gives it up stops them and waits
for them. Nothing of it stays in a process when its last task there has ended, but for
the name of one that was given up: a task of it may come late.
"""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from scout_dask_io.core.chunk_buffer import BufferPool

#: Attempts that were given up whose names a process keeps, the newest.
N_GIVEN_UP = 1000


class Cancelled(Exception):
    """Raised inside a task whose job was given up; never reaches the caller."""


@dataclass(slots=True)
class Running:
    """What the running tasks of an attempt share in one process.

    Attributes
    ----------
    pool : BufferPool
        What they hand to one another.
    n_tasks : int
        How many there are.
    cancelled : bool
        Whether the attempt was given up.
    """

    pool: BufferPool = field(default_factory=BufferPool)
    n_tasks: int = 0
    cancelled: bool = False


class _Attempts:
    """The attempts of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[str, Running] = {}
        self.given_up: dict[str, None] = {}  # the oldest first


# By process: a fork while another thread holds the lock would leave the child with it locked,
# and tasks that are not its own.
_by_process: dict[int, _Attempts] = {}


def _attempts() -> _Attempts:
    process = os.getpid()
    found = _by_process.get(process)
    if found is None:
        found = _by_process.setdefault(process, _Attempts())
        for other in [p for p in _by_process if p != process]:
            _by_process.pop(other, None)
    return found


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
        here = _attempts()
        with here.lock:
            if self.name in here.given_up:
                raise Cancelled
            running = here.running.setdefault(self.name, Running())
            running.n_tasks += 1
        try:
            yield running
        finally:
            with here.lock:
                running.n_tasks -= 1
                if not running.n_tasks:
                    del here.running[self.name]

    def cancel(self) -> None:
        """Make this process's running tasks of the attempt stop at their next band."""
        here = _attempts()
        with here.lock:
            here.given_up[self.name] = None
            if len(here.given_up) > N_GIVEN_UP:
                del here.given_up[next(iter(here.given_up))]
            if self.name in here.running:
                here.running[self.name].cancelled = True

    async def drain(self) -> None:
        """Cancel the attempt in this process, and wait until none of its tasks changes files."""
        self.cancel()
        while self.name in _attempts().running:
            await asyncio.sleep(0.02)
