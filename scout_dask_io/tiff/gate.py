"""How many threads of a process read the files of one array at once: ``nb_workers=`` of readers."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakValueDictionary

__all__ = ["shared_gate"]


class _Gate:
    """Lets at most so many threads in."""

    def __init__(self, limit: int) -> None:
        self._slots = threading.BoundedSemaphore(limit)

    def __enter__(self) -> None:
        self._slots.acquire()

    def __exit__(self, *exc: object) -> None:
        self._slots.release()


# Who holds a gate keeps it: it goes with the last part of its array.
_gates: WeakValueDictionary[tuple[str, int], _Gate] = WeakValueDictionary()
_gates_lock = threading.Lock()


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
