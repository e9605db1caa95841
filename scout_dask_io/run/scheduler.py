"""Running a write: on this process's threads, or on whatever scheduler the caller set up."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import dask
from dask import threaded
from dask.callbacks import Callback
from dask.system import CPU_COUNT

from scout_dask_io.core.fork import guard_forks
from scout_dask_io.core.plan import Room, WritePlan
from scout_dask_io.errors import ArgumentError, MemoryLimitError
from scout_dask_io.run._dask import get_scheduler
from scout_dask_io.run.cluster import (
    active_client,
    ask_workers,
    fleet_of,
    run_on_cluster,
)
from scout_dask_io.run.memory import resolve_max_mem
from scout_dask_io.run.progress import Report
from scout_dask_io.run.settings import configured


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


def worker_count(nb_workers: int | None) -> int:
    """Give how many tasks run at once in one process."""
    nb_workers = configured("nb_workers") if nb_workers is None else nb_workers
    if check_nb_workers(nb_workers) is not None:
        return int(nb_workers or 1)
    client = active_client()
    if client is not None:
        threads = list(client.nthreads().values())
        return max(threads, default=1)
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


def planned(
    plan: Callable[..., WritePlan],
    *args: Any,
    max_mem: int | str | None,
    nb_workers: int | None,
    **more: Any,
) -> WritePlan:
    """Call a planning function for what will run the plan: threads here, or a cluster's workers.

    On a cluster every thread of every worker runs tasks, so each must do with
    its share of ``max_mem``, which counts for one worker; where it is not
    given, it is a share of the memory limit of the smallest worker.

    Parameters
    ----------
    plan
        :func:`~scout_dask_io.core.plan.plan_source` or one like it.
    *args, **more
        Its other arguments, before the room and after it.
    max_mem, nb_workers
        As for ``write_zarr``; ``nb_workers`` is of no account on a cluster.

    Raises
    ------
    ClusterError
        If there is no worker.
    MemoryLimitError
        If what one task needs does not fit.
    """
    client = active_client()
    if client is None:
        allowed = resolve_max_mem(max_mem)
        return plan(*args, Room(worker_count(nb_workers), allowed), **more)
    check_nb_workers(nb_workers)
    fleet = fleet_of(ask_workers(client))
    max_mem = configured("max_mem") if max_mem is None else max_mem
    share = fleet.thread_nbytes if max_mem is None else resolve_max_mem(max_mem) // fleet.threads
    try:
        one = plan(*args, Room(1, max(share, 1), fleet.n_threads), **more)
    except MemoryLimitError as err:
        raise MemoryLimitError(
            f"{err} That is the share of one of {fleet.threads} threads of a worker: workers with "
            "fewer threads, or with more memory, have a larger one."
        ) from err
    return replace(
        one,
        nb_workers=fleet.threads,
        n_threads=fleet.n_threads,
        max_mem=share * fleet.threads,
        projected_mem=one.projected_mem * fleet.threads,
    )


def _scheduler_set() -> Any:
    """Give what the caller set up to compute; ``None`` where that is nothing.

    dask would import ``distributed`` to look for a client, which costs a third of a second: where
    nobody has imported it, there is none.
    """
    if "distributed" not in sys.modules and dask.config.get("scheduler", None) is None:
        return None
    return get_scheduler()


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


#: Called by a task that is going to wait: another may begin, if there is a thread left for it.
ADD_THREAD: ContextVar[Callable[[], None]] = ContextVar("add_thread", default=lambda: None)


class TaskThreads(ThreadPoolExecutor):
    """Threads for tasks: ``n``, and while tasks wait one more each time, up to ``n_most``.

    A thread that has worked keeps 9 MB in the allocator's hands, so none takes a task before it
    is needed.
    """

    def __init__(self, n: int, n_most: int) -> None:
        super().__init__(n_most, thread_name_prefix="scout-dask-io")
        self._n_allowed, self._n_most, self._n_begun = n, n_most, 0
        self._tasks: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._changes = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a task run, in the order of the calls."""
        future: Future[Any] = Future()
        with self._changes:
            self._tasks.append((future, partial(fn, *args, **kwargs)))
            self._begin()
        return future

    def add_thread(self) -> None:
        """Let one task more run."""
        with self._changes:
            self._n_allowed = min(self._n_allowed + 1, self._n_most)
            self._begin()

    def _begin(self) -> None:
        if self._tasks and self._n_begun < self._n_allowed:
            self._n_begun += 1
            super().submit(self._run)

    def _run(self) -> None:
        ADD_THREAD.set(self.add_thread)
        while True:
            with self._changes:
                if not self._tasks:
                    self._n_begun -= 1
                    return
                future, call = self._tasks.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as err:
                    future.set_exception(err)
            del future, call  # what it gave is not to be held here

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave out what has not begun, where that is asked for, and wait for the rest."""
        if cancel_futures:
            with self._changes:
                while self._tasks:
                    self._tasks.popleft()[0].cancel()
        super().shutdown(wait)


def runs_here() -> bool:
    """Tell whether tasks run on threads of this process: they share what is in its memory."""
    return active_client() is None and _scheduler_set() in (None, threaded.get)


class Stoppable(Protocol):
    """Work whose tasks can be told to stop."""

    def cancel(self) -> None:
        """Have this process's running tasks end soon."""

    async def drain(self) -> None:
        """Do the same in a worker of a cluster, and wait until none of them changes files."""


def run_tasks(
    graph: Any,
    final: Any,
    units: Set[Any],
    *,
    nb_workers: int | tuple[int, int],
    already: int = 0,
    report: Report | None = None,
    attempt: Stoppable | None = None,
    cache: Any = None,
) -> Any:
    """Compute the key ``final`` of a graph and give its value.

    Every task that was running when another failed, or when Ctrl-C came, has
    ended before this returns: no write goes on behind the caller. On a cluster
    that holds for the workers that answer within half a minute, and not once the
    scheduler is lost.

    Parameters
    ----------
    graph
        Any dask graph.
    final : key
        What to compute.
    units : set of key
        The tasks that count as progress; their values are bytes written.
    nb_workers : int or (int, int)
        Threads of a local run; a cluster has its own. Of two numbers, the second is how many there
        may be while tasks wait and call :data:`ADD_THREAD`.
    already : int
        Units that were finished before, counted in the report.
    report
        Called after every unit, from this thread.
    attempt : Stoppable, optional
        What is given up after a failure, before running tasks are waited for; picklable.
    cache : MutableMapping, optional
        Where threads of this process keep results that are yet to be used; a dict by default.

    Raises
    ------
    ClusterError
        If a task killed its workers, or the scheduler is lost.
    """
    guard_forks()
    client = active_client()
    if client is not None:
        drain = None if attempt is None else attempt.drain
        return run_on_cluster(client, graph, final, units, already, report, drain)
    get = _scheduler_set()
    n, n_most = (nb_workers, nb_workers) if isinstance(nb_workers, int) else nb_workers
    with ExitStack() as stack:
        if report is not None:
            stack.enter_context(_Counting(units, already, report))
        if get is not None and get is not threaded.get:
            return get(graph, final, num_workers=n)
        pool = TaskThreads(n, n_most)
        try:
            return threaded.get(graph, final, cache, n_most, pool)
        except BaseException:
            if attempt is not None:
                attempt.cancel()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
