"""Work that waits, done ahead in threads: its results come in order, a bounded number at once.

Why it is short: nothing else here starts threads; TIFF, export and pictures need it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import ContextVar
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Entered by who waits for a disk: a task of a write lets another work meanwhile.
WAITING: ContextVar[Callable[[], AbstractContextManager[None]]] = ContextVar(
    "waiting", default=nullcontext
)


def work_ahead(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    n_threads: int,
    n_ahead: int,
    pool: ThreadPoolExecutor | None = None,
) -> Generator[_Result]:
    """Yield ``work(item)`` of each item, in order.

    No item is taken from ``items`` before there is room for it, and that in the thread
    that asks for results. Where the items end in an error, it is raised once the results
    of those before it are out. On the way out, however that comes about, what has not
    begun is left undone and the rest is waited for, so nothing runs on.

    Parameters
    ----------
    n_threads : int
        Items worked on at once.
    n_ahead : int
        Items under way, or done and not yet asked for. With one, all is done in the
        thread that asks.
    pool : ThreadPoolExecutor, optional
        Whose threads do it, in the place of ``n_threads`` new ones: for work that takes no longer
        than it takes to start a thread.
    """
    if n_ahead <= 1:
        yield from map(work, items)
        return
    pending: Iterator[_Item] | None = iter(items)
    running: deque[Future[_Result]] = deque()
    failure: Exception | None = None
    with ExitStack() as stack:
        if pool is None:
            own = ThreadPoolExecutor(n_threads, thread_name_prefix="scout-tiff")
            pool = stack.enter_context(own)
        try:
            while True:
                while pending is not None and len(running) < n_ahead:
                    try:
                        # No name for the item: it is not to be held here while it is waited for.
                        running.append(pool.submit(work, next(pending)))
                    except StopIteration:
                        pending = None
                    except Exception as err:
                        failure, pending = err, None
                if not running:
                    break
                yield running.popleft().result()
            if failure is not None:
                raise failure
        finally:
            for future in running:
                future.cancel()
            wait(running)
