"""Running a write: on this process's threads, or on whatever scheduler the caller set up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import dask
from dask import threaded
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.system import CPU_COUNT

from scout_dask_io.errors import ArgumentError

__all__ = ["Report", "active_client", "check_nb_workers", "run_tasks", "worker_count"]

#: Called with finished units, all units, and bytes of elements finished.
Report = Callable[[int, int, int], None]


def check_nb_workers(nb_workers: int | None) -> int | None:
    """Give ``nb_workers`` back if it is ``None`` or a positive int.

    Raises
    ------
    ArgumentError
        For anything else.
    """
    if nb_workers is None:
        return None
    if isinstance(nb_workers, bool) or not isinstance(nb_workers, int) or nb_workers < 1:
        raise ArgumentError(f"nb_workers must be None or a positive int, got {nb_workers!r}")
    return nb_workers


def active_client() -> Any | None:
    """Give the ``distributed.Client`` that would run a computation now, if there is one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import Client

    owner = getattr(get_scheduler(), "__self__", None)
    return owner if isinstance(owner, Client) else None


def worker_count(nb_workers: int | None) -> int:
    """Give how many tasks run at once in one process."""
    if check_nb_workers(nb_workers) is not None:
        return int(nb_workers or 1)
    client = active_client()
    if client is not None:
        threads = list(client.nthreads().values())
        return max(threads, default=1)
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


class _Counting(Callback):
    """Reports each finished unit of a local run."""

    def __init__(self, units: Set[Any], already: int, report: Report) -> None:
        super().__init__(posttask=self._count)  # type: ignore[no-untyped-call]
        self._units, self._report = units, report
        self._done, self._nbytes, self._total = already, 0, already + len(units)
        report(self._done, self._total, 0)

    def _count(self, key: Hashable, result: Any, dsk: Any, state: Any, worker: Any) -> None:
        if key in self._units:
            self._done += 1
            self._nbytes += int(result)
            self._report(self._done, self._total, self._nbytes)


def run_tasks(
    graph: Any,
    final: Any,
    units: Set[Any],
    *,
    nb_workers: int,
    already: int = 0,
    report: Report | None = None,
    on_failure: Callable[[], None] | None = None,
) -> Any:
    """Compute the key ``final`` of a graph and give its value.

    On threads, every task that was running when another failed, or when Ctrl-C
    came, has ended before this returns: no write goes on behind the caller.

    Parameters
    ----------
    graph
        Any dask graph.
    final : key
        What to compute.
    units : set of key
        The tasks that count as progress; their values are bytes written.
    nb_workers : int
        Threads of a local run; a cluster has its own.
    already : int
        Units that were finished before, counted in the report.
    report
        Called after every unit, from this thread.
    on_failure
        Called before running tasks are waited for.
    """
    client = active_client()
    if client is not None:
        return _run_on_cluster(client, graph, final, units, already, report)
    get = get_scheduler()
    with ExitStack() as stack:
        if report is not None:
            stack.enter_context(_Counting(units, already, report))
        if get is not None and get is not threaded.get:
            return get(graph, final, num_workers=nb_workers)
        pool = ThreadPoolExecutor(nb_workers, thread_name_prefix="scout-dask-io")
        try:
            return threaded.get(graph, final, pool=pool, num_workers=nb_workers)
        except BaseException:
            if on_failure is not None:
                on_failure()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_on_cluster(
    client: Any,
    graph: Any,
    final: Hashable,
    units: Set[Any],
    already: int,
    report: Report | None,
) -> Any:
    from distributed import as_completed

    if report is None:
        return client.get(graph, final)
    wanted = [final, *units]
    futures = client.get(graph, wanted, sync=False)
    try:
        done, nbytes, total = already, 0, already + len(units)
        report(done, total, 0)
        for _, written in as_completed(futures[1:], with_results=True):
            done += 1
            nbytes += int(written)
            report(done, total, nbytes)
        return futures[0].result()
    finally:
        # An exception's traceback would hold them, and the cluster go on writing.
        for future in futures:
            future.release()
