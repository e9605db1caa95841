"""A dask cluster as its client sees it: who works there, with what, and in how much memory.

Nothing here starts or stops a cluster, and ``distributed`` is imported only
where a client has been made already.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dask
from dask.base import get_scheduler

from scout_dask_io.errors import ClusterError

__all__ = [
    "PACKAGES",
    "TIMEOUT_S",
    "Answers",
    "Fleet",
    "active_client",
    "ask_workers",
    "fleet_of",
    "worker_question",
]

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


def worker_question() -> Callable[..., dict[str, Any]]:
    """Give the function that each worker runs: it tells what the worker is, and what it sees.

    A function inside a function travels as its code, so that a worker without
    this library, or with another version of it, can still say so.
    """

    def look(
        packages: Sequence[str], files: list[tuple[str, int]], folder: str, dask_worker: Any
    ) -> dict[str, Any]:
        import importlib
        import os
        import socket
        import uuid

        import psutil

        versions = {}
        for name in packages:
            try:
                versions[name] = str(importlib.import_module(name).__version__)
            except ImportError:
                versions[name] = "absent"
        faults = []
        for path, size in files:
            try:
                found = os.stat(path).st_size
            except OSError as err:
                faults.append(f"{path} cannot be seen: {err.strerror}")
            else:
                if found != size:
                    faults.append(f"{path} is another file: {found} bytes, not {size}")
        if folder:
            trial = os.path.join(folder, uuid.uuid4().hex)
            try:
                with open(trial, "xb") as file:
                    file.write(b"0")
                os.unlink(trial)
            except OSError as err:
                parent = os.path.dirname(folder)
                faults.append(f"{parent} cannot be written, or is another folder: {err.strerror}")
        return {
            "versions": versions,
            "faults": faults,
            "host": socket.gethostname(),
            "name": str(dask_worker.name),
            "threads": dask_worker.state.nthreads,
            "limit": int(dask_worker.memory_manager.memory_limit or 0),
            "free": int(psutil.virtual_memory().available),
            "resources": dict(dask_worker.state.total_resources),
        }

    return look


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
