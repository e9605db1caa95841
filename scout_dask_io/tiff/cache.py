"""Two small per-process memories: segment tables by file and page, decoders by layout."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

__all__ = ["BoundedCache", "SegmentTable"]

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
