"""Workers that die, poison their tasks, or wake up too late."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from clusters import cluster, in_background, scheduler, wait_for, worker
from distributed import Client
from harness import figure, litter, tree
from helpers import make_volume, write_planes

import scout_dask_io as io

pytestmark = pytest.mark.cluster

VOLUME = make_volume((24, 60, 62), seed=15)
CHUNKS = (4, 32, 32)


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


def test_row_15_a_worker_that_is_killed_costs_its_tasks_alone(tmp_path: Path):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    with cluster(2) as client:
        pids = list(client.run(os.getpid).values())
        array = lazy(log, 0.2)
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
        with pytest.raises(io.ClusterError, match="workers died") as caught:
            write.result(timeout=120)
        assert any("resume=True" in n for n in getattr(caught.value, "__notes__", [])), caught
    assert not path.exists()
    before = len(computed(log))
    io.write_zarr(path, lazy(log, 0.3), CHUNKS, max_mem="1GB", resume=True)
    assert (io.read_zarr(path).compute() == VOLUME).all()
    assert len(computed(log)) - before < 6, "finished units were computed again"
    figure("workers killed", tried=2, wrong=0)


@pytest.mark.slow
def test_row_15_the_scheduler_killed_the_write_resumes_on_threads(tmp_path: Path):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        scheduler(tmp_path) as (address, process),
        Client(address) as client,
        worker(client),
        worker(client),
    ):
        array = lazy(log, 0.3)
        write = in_background(lambda: io.write_zarr(path, array, CHUNKS, max_mem="1GB"))
        wait_for(lambda: list(tmp_path.glob(".a.zarr.scout-partial/*/journal/*")))
        process.kill()
        with pytest.raises(io.ClusterError, match="scheduler") as caught:
            write.result(timeout=120)
        assert any("resume=True" in n for n in getattr(caught.value, "__notes__", [])), caught
    assert not path.exists()
    io.write_zarr(path, array, CHUNKS, max_mem="1GB", resume=True)
    assert (io.read_zarr(path).compute() == VOLUME).all()
    assert litter(tmp_path, "a.zarr") == []
    figure("schedulers killed", tried=1, wrong=0)


@pytest.mark.parametrize("first", ["threads", pytest.param("cluster", marks=pytest.mark.slow)])
def test_row_09_what_threads_began_a_cluster_finishes_and_the_other_way_round(
    tmp_path: Path, first: str
):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    log.mkdir()
    broken = tmp_path / "broken"
    broken.touch()
    array = lazy(log, 0).map_blocks(fails_while, str(broken), dtype="u2")
    with cluster(2) as client:
        order: list[Any] = [client, "sync"]
        if first == "threads":
            order.reverse()
        with dask.config.set(scheduler=order[0]), pytest.raises(ValueError, match="not yet") as err:
            io.write_zarr(path, array, CHUNKS, max_mem="1GB")
        assert any("resume=True" in n for n in err.value.__notes__)
        assert not path.exists()
        (journal,) = tmp_path.glob(".a.zarr.scout-partial/*/journal")
        begun = len(computed(log))
        finished = units_in(journal)
        assert 0 < finished < 6
        broken.unlink()
        with dask.config.set(scheduler=order[1]):
            io.write_zarr(path, array, CHUNKS, max_mem="1GB", resume=True)
    assert len(computed(log)) - begun == 6 - finished
    assert (io.read_zarr(path).compute() == VOLUME).all()
    assert litter(tmp_path, "a.zarr") == []


def units_in(journal: Path) -> int:
    from scout_dask_io.store.journal import read_units

    return len(read_units(journal))


def fails_while(x: np.ndarray, mark: str, block_info: Any = None) -> np.ndarray:
    if block_info[None]["chunk-location"][0] == 2 and Path(mark).exists():
        time.sleep(0.5)  # others get done
        raise ValueError("not yet")
    return x


def poison(x: np.ndarray, block_info: Any = None) -> np.ndarray:
    if block_info[None]["chunk-location"][0] == 3 and not os.environ.get("CURED"):
        os.kill(os.getpid(), signal.SIGKILL)
    return x


@pytest.mark.slow
def test_row_15_a_task_that_kills_its_workers_is_named_and_the_rest_is_kept(tmp_path: Path):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    array = lazy(log, 0).map_blocks(poison, dtype="u2")
    settings = {"distributed.scheduler.allowed-failures": 1}
    with cluster(2, **settings), pytest.raises(io.ClusterError, match="workers died") as caught:
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


@pytest.mark.slow
def test_row_08_a_worker_that_wakes_up_late_changes_nothing(tmp_path: Path):
    path, log = tmp_path / "a.zarr", tmp_path / "log"
    newer = make_volume(VOLUME.shape, seed=16)
    settings = {"distributed.scheduler.worker-ttl": "5s"}
    with cluster(0, **settings) as client, worker(client) as first, worker(client):
        array = lazy(log, 0.5)
        write = in_background(lambda: io.write_zarr(path, array, CHUNKS, max_mem="1GB"))
        wait_for(lambda: len(computed(log)) >= 2)
        first.send_signal(signal.SIGSTOP)
        write.result(timeout=120)
        assert (io.read_zarr(path).compute(scheduler="sync") == VOLUME).all()
        io.write_zarr(path, newer, CHUNKS, overwrite=True, max_mem="1GB")
        before = tree(path)
        first.send_signal(signal.SIGCONT)
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
