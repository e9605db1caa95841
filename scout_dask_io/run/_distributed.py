"""Every attribute of distributed's workers and scheduler that it does not document.

They are asked where they live: the questions travel as their code, so that a worker or a
scheduler without this library, or with another version of it, can still answer.
distributed promises nothing of these, so a release of it may break this module alone:

- ``Worker.state.nthreads`` and ``.total_resources``, ``Worker.memory_manager.memory_limit``:
  how many tasks share how much memory. Without them no write on a cluster could be planned
  within its memory, and no worker be left out by its resources. ``Client.scheduler_info`` gives
  them too, but of at most five workers in some releases.
- ``Scheduler.tasks``, ``TaskState.exception_blame`` and ``.erred_on``: in which worker a task
  failed. Without them an error would not name the worker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


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


def failure_question() -> Callable[..., list[str]]:
    """Give the function that the scheduler runs: it tells in which workers tasks failed."""

    def look(keys: list[Any], dask_scheduler: Any) -> list[str]:
        tasks = [dask_scheduler.tasks[key] for key in keys if key in dask_scheduler.tasks]
        blamed = [task.exception_blame for task in tasks if task.exception_blame]
        return sorted({worker for task in blamed for worker in task.erred_on})

    return look
