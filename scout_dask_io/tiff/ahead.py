"""Work that waits, done ahead in threads: its results come in order, a bounded number at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

__all__ = ["work_ahead"]


def work_ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], n_threads: int, n_ahead: int
) -> Iterator[_Result]:
    """Yield ``work(item)`` of each item, in order.

    No item is taken from ``items`` before there is room for it, and that in the thread
    that asks for results. With one thread, all is done there. When the caller stops
    asking, what has not begun is left undone.

    Parameters
    ----------
    n_threads : int
        Items worked on at once.
    n_ahead : int
        Items under way, or done and not yet asked for.
    """
    if n_threads <= 1:
        yield from map(work, items)
        return
    pending = iter(items)
    running: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="tiff-ahead") as pool:
        try:
            running += (pool.submit(work, item) for item in islice(pending, n_ahead))
            while running:
                yield running.popleft().result()
                running += (pool.submit(work, item) for item in islice(pending, 1))
        finally:
            for future in running:
                future.cancel()
