"""Workers that die, poison their tasks, or wake up too late."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster
from harness import figure, litter, tree
from helpers import make_volume, write_planes

import scout_dask_io as io

pytestmark = pytest.mark.cluster

VOLUME = make_volume((24, 60, 62), seed=15)
CHUNKS = (4, 32, 32)


@contextmanager
def cluster(n: int, **settings: Any) -> Iterator[Client]:
    with (
        dask.config.set({"distributed.worker.memory.terminate": False, **settings}),
        LocalCluster(
            n_workers=n, threads_per_worker=1, processes=True, dashboard_address=None
        ) as local,
        Client(local) as client,
    ):
        yield client


def plane(k: int, folder: str, delay_s: float) -> np.ndarray:
    """Give planes, slowly, and say that they were computed."""
    (Path(folder) / f"computed-{k}-{os.getpid()}-{time.monotonic_ns()}").touch()
    time.sleep(delay_s)
    return VOLUME[4 * k : 4 * k + 4]


def lazy(folder: Path, delay_s: float) -> da.Array:
    folder.mkdir(exist_ok=True)
    parts = [
        da.from_delayed(
            dask.delayed(plane, pure=True)(k, str(folder), delay_s), (4, *VOLUME.shape[1:]), "u2"
        )
        for k in range(len(VOLUME) // 4)
    ]
    return da.concatenate(parts)


def computed(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def in_background(function: Any) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(1)
    future = pool.submit(function)
    pool.shutdown(wait=False)
    return future


def test_row_15_a_worker_that_is_killed_costs_its_tasks_alone(tmp_path: Path):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    with cluster(2) as client:
        pids = list(client.run(os.getpid).values())
        array = lazy(log, 0.3)
        write = in_background(lambda: io.write_zarr(path, array, CHUNKS, max_mem="1GB"))
        wait_for(lambda: len(computed(log)) >= 3)
        os.kill(pids[0], signal.SIGKILL)
        write.result(timeout=120)
    assert (io.read_zarr(path).compute() == VOLUME).all()
    assert litter(tmp_path, "a.zarr") == []
    figure("workers killed", tried=1, wrong=0)


@pytest.mark.slow
def test_row_15_all_workers_killed_the_write_resumes(tmp_path: Path):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    with cluster(2, **{"distributed.scheduler.allowed-failures": 0}) as client:
        pids = list(client.run(os.getpid).values())
        array = lazy(log, 0.3)
        write = in_background(lambda: io.write_zarr(path, array, CHUNKS, max_mem="1GB"))
        wait_for(lambda: list(tmp_path.glob(".a.zarr.scout-partial/*/journal/*")))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(Exception) as caught:  # noqa: PT011
            write.result(timeout=120)
        assert any("resume=True" in n for n in getattr(caught.value, "__notes__", [])), caught
    assert not path.exists()
    before = len(computed(log))
    io.write_zarr(path, lazy(log, 0.3), CHUNKS, max_mem="1GB", resume=True)
    assert (io.read_zarr(path).compute() == VOLUME).all()
    assert len(computed(log)) - before < 6, "finished units were computed again"
    figure("workers killed", tried=2, wrong=0)


def poison(x: np.ndarray, block_info: Any = None) -> np.ndarray:
    if block_info[None]["chunk-location"][0] == 3 and not os.environ.get("CURED"):
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.slow
def test_row_15_a_task_that_kills_its_workers_is_named_and_the_rest_is_kept(tmp_path: Path):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    array = lazy(log, 0).map_blocks(poison, dtype="u2")
    settings = {"distributed.scheduler.allowed-failures": 1}
    with cluster(2, **settings), pytest.raises(Exception, match="worker") as caught:
        io.write_zarr(path, array, CHUNKS, max_mem="1GB")
    assert not path.exists()
    assert any("resume=True" in n for n in getattr(caught.value, "__notes__", [])), caught
    os.environ["CURED"] = "1"
    try:
        io.write_zarr(path, array, CHUNKS, max_mem="1GB", resume=True)
    finally:
        del os.environ["CURED"]
    assert (io.read_zarr(path).compute() == VOLUME).all()
    figure("poison tasks", tried=1, wrong=0)


@contextmanager
def workers(client: Client, n: int) -> Iterator[list[int]]:
    """Start workers that no nanny restarts, and give their process ids."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address]
    command += ["--no-nanny", "--nthreads", "1", "--no-dashboard"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    started = [
        subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(n)
    ]
    try:
        client.wait_for_workers(n, timeout=60)
        yield [s.pid for s in started]
    finally:
        for process in started:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


@pytest.mark.slow
def test_row_08_a_worker_that_wakes_up_late_changes_nothing(tmp_path: Path):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    newer = make_volume(VOLUME.shape, seed=16)
    settings = {"distributed.scheduler.worker-ttl": "5s"}
    with cluster(0, **settings) as client, workers(client, 2) as pids:
        array = lazy(log, 0.5)
        write = in_background(lambda: io.write_zarr(path, array, CHUNKS, max_mem="1GB"))
        wait_for(lambda: len(computed(log)) >= 2)
        os.kill(pids[0], signal.SIGSTOP)
        write.result(timeout=120)
        assert (io.read_zarr(path).compute(scheduler="sync") == VOLUME).all()
        io.write_zarr(path, newer, CHUNKS, overwrite=True, max_mem="1GB")
        before = tree(path)
        os.kill(pids[0], signal.SIGCONT)
        time.sleep(4)
        assert tree(path) == before
        assert litter(tmp_path, "a.zarr") == []
    assert (io.read_zarr(path).compute() == newer).all()
    figure("workers stopped and woken", tried=1, wrong=0)


@pytest.mark.slow
def test_row_20_a_cluster_does_not_serve_the_data_of_a_file_before_its_change(tmp_path: Path):
    paths = write_planes(tmp_path / "p", VOLUME[:3])
    with cluster(1):
        kept = io.imread_folder(tmp_path / "p").persist()
        assert (kept.compute() == VOLUME[:3]).all()
        io.imsave(paths[1], VOLUME[9])
        assert (io.imread_folder(tmp_path / "p").persist()[1].compute() == VOLUME[9]).all()
