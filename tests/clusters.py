"""Clusters of processes for tests: in one call, or by the commands of dask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster


@contextmanager
def cluster(n: int, *, threads: int = 1, limit: Any = "auto", **settings: Any) -> Iterator[Client]:
    """Give a client of ``n`` workers, each a process; ``settings`` are dask's."""
    with (
        dask.config.set({"distributed.worker.memory.terminate": False, **settings}),
        LocalCluster(
            n_workers=n,
            threads_per_worker=threads,
            processes=True,
            memory_limit=limit,
            dashboard_address=None,
        ) as local,
        Client(local) as client,
    ):
        yield client


@contextmanager
def cluster_in_process(threads: int) -> Iterator[Client]:
    """Give a client of one worker in this process, which is not the one that runs by default."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=None
        ) as local,
        Client(local, set_as_default=False) as client,
    ):
        yield client


def start(*command: str, first_on_path: Path | None = None, **env: str) -> subprocess.Popen[bytes]:
    """Start one of dask's own commands, silent, with this process's import path."""
    paths = [str(first_on_path)] if first_on_path else []
    paths += [p or os.getcwd() for p in sys.path]
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *command],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, stopped or not, and wait for it."""
    process.send_signal(signal.SIGCONT)
    process.kill()
    process.wait()


@contextmanager
def scheduler(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start ``dask scheduler``; give its address and its process."""
    file = folder / "scheduler.json"
    process = start(
        "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
        "--scheduler-file", str(file), "--no-show",
    )  # fmt: skip
    try:
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        import json

        yield json.loads(file.read_text())["address"], process
    finally:
        end(process)


@contextmanager
def worker(
    client: Client, *options: str, first_on_path: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``dask worker`` without a nanny, and wait until the scheduler knows it."""
    before = len(client.nthreads())
    process = start(
        "worker", client.scheduler.address, "--no-nanny", "--nthreads", "1", "--no-dashboard",
        *options, first_on_path=first_on_path,
    )  # fmt: skip
    try:
        client.wait_for_workers(before + 1, timeout=60)
        yield process
    finally:
        end(process)


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop, "waited too long"
        time.sleep(0.02)


def in_background(function: Callable[[], Any]) -> Future[Any]:
    """Call a function in another thread."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(function)
    pool.shutdown(wait=False)
    return future
