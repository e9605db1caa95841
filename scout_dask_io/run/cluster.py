"""A dask cluster as its client sees it: who works there, with what, and in how much memory.

Nothing here starts or stops a cluster, and ``distributed`` is imported only where a client
has been made already. Workers are asked once, before a job begins: those that do not see its
files or have other versions are refused. A graph computed there is followed unit by unit, and
after a failure stopped and waited for.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import dask

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.errors import ClusterError
from scout_dask_io.run._dask import get_scheduler
from scout_dask_io.run._distributed import failure_question, worker_question
from scout_dask_io.run.progress import Report

#: How long a cluster without workers is waited for, and a worker that does not answer.
TIMEOUT_S = 30.0
# dask spills at 0.6 or 0.7 of a worker's limit and pauses it at 0.8; what a job
# holds beyond the imports (0.2 GB) must stay below.
LIMIT_SHARE = 2
FREE_SHARE = 4
# Workers with other versions read or write other things, or cannot unpickle the tasks.
PACKAGES = ("scout_dask_io", "zarr", "numcodecs", "dask", "distributed", "tifffile")

#: What workers answered, by their addresses.
Answers = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the workers that may run a job have.

    Attributes
    ----------
    n_threads : int
        Tasks that run at once in the whole cluster.
    threads : int
        Tasks that run at once in one worker, at most.
    thread_nbytes : int
        Memory for one task where none is asked for, in bytes: of the worker
        with the least, half of its limit over its threads; without a limit, a
        quarter of what is free there over all the threads on that machine.
    """

    n_threads: int
    threads: int
    thread_nbytes: int


def active_client() -> Any | None:
    """Give the ``distributed.Client`` that would run a computation now, if there is one."""
    if "distributed" not in sys.modules:
        return None
    from distributed import Client

    owner = getattr(get_scheduler(), "__self__", None)
    return owner if isinstance(owner, Client) else None


#: Seconds to wait for whatever listens at the address of a scheduler, and for its greeting.
_LISTENS_S, _GREETS_S = 2.5, 10


def connect(address: str) -> Any:
    """Give a client of the scheduler at an address.

    Raises
    ------
    ClusterError
        If nothing listens there, which is seen within seconds, or it is no scheduler.
    ValueError
        If it is no address.
    """
    from distributed import Client

    told = (
        "Check the address (a scheduler prints it when it starts), that it still runs, and that "
        "this machine reaches it."
    )
    scheme, host, port = _parts(address)
    if scheme in ("tcp", "tls"):
        # A client would try again and again, and leave what it began to end after it.
        try:
            socket.create_connection((host, port), timeout=_LISTENS_S).close()
        except OSError as err:
            why = err.strerror or str(err) or type(err).__name__
            raise ClusterError(f"no scheduler answers at {address}: {why}. {told}") from err
        try:
            asyncio.run(_greet(address))
        except Exception as err:  # others than schedulers send what makes no sense as a greeting
            raise ClusterError(
                f"what answers at {address} is no dask scheduler that this version can talk to "
                f"({type(err).__name__}: {err}). {told}"
            ) from err
    return Client(address, timeout=_GREETS_S)


async def _greet(address: str) -> None:
    from distributed.comm import connect
    from distributed.security import Security

    comm = await connect(address, timeout=_GREETS_S, **Security().get_connection_args("client"))
    await comm.close()


def _parts(address: str) -> tuple[str, str, int]:
    """Give protocol, host and port; protocols of others than sockets have no more than theirs."""
    from distributed.comm import parse_address, parse_host_port

    scheme, place = parse_address(address)
    if scheme not in ("tcp", "tls"):
        return scheme, place, 0
    host, port = parse_host_port(place)
    return scheme, host, int(port)


def ask_workers(client: Any, files: Sequence[tuple[str, int]] = (), folder: str = "") -> Answers:
    """Ask every worker that may run a job now what it is, and what it sees.

    Workers that ``dask.annotate(workers=...)`` or ``(resources=...)`` leave out
    are not asked. A cluster that starts workers on demand is given a first task.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    files : sequence of (str, int)
        Paths and sizes in bytes that each must see.
    folder : str
        A directory in which each must be able to write, if given.

    Returns
    -------
    dict
        Answers by the workers' addresses.

    Raises
    ------
    ClusterError
        If there is no worker, or one does not answer.
    """
    from distributed import wait

    if not client.nthreads():
        future = client.submit(int, pure=False)
        try:
            wait(future, timeout=TIMEOUT_S)
        except TimeoutError as err:
            raise ClusterError(
                f"the cluster at {_address(client)} has no worker that may run this job, and none "
                f"came within {TIMEOUT_S:g} s. Start one (dask worker {_address(client)}), or call "
                "client.wait_for_workers(1) first where a queue takes longer."
            ) from err
        finally:
            future.release()

    async def ask() -> Answers:
        question = client.run(worker_question(), PACKAGES, list(files), folder, on_error="return")
        return dict(await asyncio.wait_for(question, TIMEOUT_S))

    try:
        answers = client.sync(ask)
    except TimeoutError as err:
        raise ClusterError(
            f"a worker of the cluster at {_address(client)} did not answer within {TIMEOUT_S:g} s: "
            "it is stopped, or its disk hangs. Close it, or wait until the scheduler has let it go."
        ) from err
    for worker, answer in answers.items():
        if isinstance(answer, BaseException):
            raise ClusterError(
                f"worker {worker} cannot be asked what it sees: {type(answer).__name__}: {answer}"
            ) from answer
    chosen = {w: a for w, a in answers.items() if _may_run(w, a)}
    if not chosen:
        raise ClusterError(
            f"none of the {len(answers)} workers of the cluster at {_address(client)} fits the "
            f"annotations {dask.get_annotations()!r}. Start workers with these resources or names, "
            "or change dask.annotate."
        )
    return chosen


def _address(client: Any) -> str:
    return str(client.scheduler.address)


def _may_run(worker: str, answer: dict[str, Any]) -> bool:
    """Tell whether the annotations in force let a worker run the job."""
    wanted = dask.get_annotations()
    needs = wanted.get("resources") or {}
    if any(answer["resources"].get(name, 0) < amount for name, amount in needs.items()):
        return False
    named = wanted.get("workers")
    if not named or wanted.get("allow_other_workers"):
        return True
    names = {named} if isinstance(named, str) else set(map(str, named))
    host = worker.partition("://")[2].rpartition(":")[0]
    return bool(names & {worker, answer["name"], answer["host"], host})


def fleet_of(answers: Answers) -> Fleet:
    """Give what the workers that answered have together."""
    on_host: Counter[str] = Counter()
    for answer in answers.values():
        on_host[answer["host"]] += answer["threads"]
    shares = [
        a["limit"] // LIMIT_SHARE // a["threads"]
        if a["limit"]
        else a["free"] // FREE_SHARE // on_host[a["host"]]
        for a in answers.values()
    ]
    threads = [a["threads"] for a in answers.values()]
    return Fleet(sum(threads), max(threads), max(min(shares), 1))


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
) -> Any:
    """Compute the key ``final``, as :func:`~scout_dask_io.run.scheduler.run_tasks` does."""
    futures = client.get(graph, [final, *(units if report else ())], sync=False)
    try:
        if report is not None:
            _follow(client, futures[1:], already, report)
        return futures[0].result()
    except BaseException as err:
        where = _failed_on(client, futures) if isinstance(err, Exception) else ""
        _stop(client, futures, drain)
        lost = _lost(client, err)
        if lost is None:
            if where:
                err.add_note(f"The task that failed ran in worker {where}.")
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


def _failed_on(client: Any, futures: list[Any]) -> str:
    """Give the addresses of the workers in which a task failed; empty where that is not known."""

    async def in_time() -> list[str]:
        keys = [future.key for future in futures if future.status == "error"]
        question = client.run_on_scheduler(failure_question(), keys)
        return list(await asyncio.wait_for(question, TIMEOUT_S))

    # What failed first must not be hidden by a scheduler that is gone.
    with suppress(Exception):
        return ", ".join(client.sync(in_time))
    return ""


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


ADVICE = (
    "Workers need the same paths and the same versions as here; dask.annotate(workers=...) leaves "
    "workers out."
)


def check_workers(client: Any, files: Sequence[tuple[str, int]], folder: str) -> None:
    """Refuse a cluster in which a worker could not do its part. Changes nothing.

    A worker that joins while the job runs is not asked: where it lacks something, its
    first task fails, and the error names the worker.

    Raises
    ------
    ClusterError
        If a worker does not see the files, cannot write in the folder, or has
        other versions of the libraries, naming all that do not.
    """
    here = {name: str(sys.modules[name].__version__) for name in PACKAGES if name in sys.modules}
    lines = []
    for worker, answer in ask_workers(client, files, folder).items():
        there = answer["versions"]
        found = [f"{n} is {there[n]}, here {v}" for n, v in here.items() if there[n] != v]
        if found := found + answer["faults"]:
            limit = format_nbytes(answer["limit"]) if answer["limit"] else "no limit"
            lines.append(f"worker {worker} on {answer['host']} ({limit}): {'; '.join(found)}")
    if lines:
        more = f"; and {len(lines) - 5} more workers" if len(lines) > 5 else ""
        raise ClusterError(f"{'. '.join(lines[:5])}{more}. {ADVICE} Nothing was created.")
