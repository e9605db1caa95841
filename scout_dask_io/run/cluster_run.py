"""A graph computed on a cluster: its units followed, and after a failure stopped and waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Set
from contextlib import suppress
from typing import Any

from scout_dask_io.errors import ClusterError
from scout_dask_io.run.admission import Asked, fault_of_late_workers
from scout_dask_io.run.cluster import TIMEOUT_S
from scout_dask_io.run.progress import Report

__all__ = ["run_on_cluster"]

# How long units that finish are gathered before they are reported.
REPORT_S = 0.05


def run_on_cluster(
    client: Any,
    graph: Any,
    final: Hashable,
    units: Set[Any],
    already: int,
    report: Report | None,
    drain: Callable[[], Awaitable[None]] | None,
    asked: Asked | None,
) -> Any:
    """Compute the key ``final``, as :func:`~scout_dask_io.run.scheduler.run_tasks` does."""
    futures = client.get(graph, [final, *(units if report else ())], sync=False)
    try:
        if report is not None:
            _follow(client, futures[1:], already, report)
        return futures[0].result()
    except BaseException as err:
        _stop(client, futures, drain)
        lost = _lost(client, err)
        is_new = isinstance(err, Exception) and not isinstance(err, ClusterError)
        if lost is None and asked is not None and is_new:
            lost = fault_of_late_workers(client, asked)
        if lost is None:
            raise
        raise lost from err
    finally:
        # An exception's traceback would hold them, and the cluster go on writing.
        for future in futures:
            future.release()


def _follow(client: Any, futures: list[Any], already: int, report: Report) -> None:
    """Report units as they finish; an error of one is raised."""
    from distributed import as_completed

    done, nbytes, total = already, 0, already + len(futures)
    report(done, total, 0)
    finished = as_completed(futures)
    for first in finished:
        if done + 1 < total:
            # What units wrote is fetched for many at once: one by one, that doubled
            # the cost of a unit to this process, from 1.2 to 2.4 ms of CPU.
            time.sleep(REPORT_S)
        for written in client.gather([first, *finished.next_batch(block=False)]):
            done += 1
            nbytes += int(written)
            report(done, total, nbytes)


def _stop(client: Any, futures: list[Any], drain: Callable[[], Awaitable[None]] | None) -> None:
    """Take back what has not begun, and wait for what runs, as far as workers can be reached."""
    if client.status != "running":
        return

    async def stop() -> None:
        await client.cancel(futures)
        if drain is not None:
            await client.run(drain, on_error="return")

    async def in_time() -> None:
        await asyncio.wait_for(stop(), TIMEOUT_S)

    # What failed first must not be hidden by a worker that is gone or stopped.
    with suppress(Exception):
        client.sync(in_time)


def _lost(client: Any, err: BaseException) -> ClusterError | None:
    """Give an error of the cluster, and not of a task, as one of the library."""
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    if isinstance(err, KilledWorker):
        return ClusterError(
            f"workers died while they ran one task, the last of them {err.last_worker}: "
            "it needs more memory than a worker has, or crashes. Their logs say which; smaller "
            f"blocks, or workers with fewer threads, help with the former. ({err})"
        )
    if isinstance(err, (CancelledError, CommClosedError)) or client.status != "running":
        return ClusterError(
            f"the scheduler of the cluster was lost, or the job was cancelled there: {err}"
        )
    return None
