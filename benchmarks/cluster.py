"""What a dask cluster costs and gives: scaling, overhead, large graphs, P2P against scratch files.

    python -m benchmarks.cluster [PART ...] [--repeat N] [--shape Z Y X] [--dir FOLDER]

PART is any of
  scaling   deflated planes to the default codec, on clusters of one and of two worker
            processes of one thread each, and in as many processes without a cluster,
            which is what the machine can give; by turns, wall seconds
  overhead  2,048 units that do next to nothing: CPU seconds of the process that holds
            client and scheduler, by unit
  start     100,000 planes of 7000 x 7000: seconds to build the graph, its size, and
            seconds until its first task has run in a worker
  rechunk   a computed array of whole planes into cubes, where a row of cubes does not
            fit: through scratch files, as write_zarr does it, and through dask's P2P
  workers   the write of 100,000 planes of 7000 x 7000 on a hundred workers, which share a
            process and sleep a second instead of writing a unit: CPU and memory of the
            process that holds client and scheduler, seconds to the first unit, and the tail
  plan      what 100 TB on 1,000 workers take, by constants that are measured here

All of them without a PART. Files are in /dev/shm, so no disk is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import pickle
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import cloudpickle
import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, Worker

import scout_dask_io as io
from benchmarks.data import make_planes
from benchmarks.described import described_planes
from benchmarks.layouts import Planes
from benchmarks.meter import cpu_s, own_peak_nbytes
from scout_dask_io.run.lazy import lazy_array
from scout_dask_io.write.unit import WrittenUnit

MB = 10**6
QUIET = {"voxel_size": (1, 1, 1)}  # else it is looked for in the first file


def _prepare() -> None:
    import scout_dask_io.write.zarr  # noqa: F401

    # Tasks that fail on purpose are not to be told of.
    logging.getLogger("distributed.worker").setLevel(logging.CRITICAL)


@contextmanager
def cluster(n_workers: int, **settings: Any) -> Iterator[Client]:
    """Give a client, not the default one, of worker processes with one thread each."""
    with (
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address=None, **settings
        ) as found,
        Client(found, set_as_default=False) as client,
    ):
        client.run(_prepare)
        yield client


def by_turns(repeat: int, runs: dict[Any, Callable[[], float]]) -> dict[Any, list[float]]:
    """Call each function ``repeat`` times, in turns whose order turns too, after one to warm up."""
    found: dict[Any, list[float]] = {name: [] for name in runs}
    for number in range(repeat + 1):
        for name in list(runs)[:: 1 if number % 2 else -1]:
            result = runs[name]()
            if number:
                found[name].append(result)
    return found


def wall_s(function: Callable[[], Any]) -> float:
    """Give the seconds that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def convert_part(paths: list[str], out: str) -> None:
    """Convert planes on one thread."""
    io.write_zarr(out, io.imread_parallel(paths), nb_workers=1, overwrite=True)


def scaling(root: Path, repeat: int, shape: tuple[int, int, int]) -> None:
    """Print how much faster two workers convert than one, and two processes without a cluster."""
    layout = Planes(*shape, compression="deflate", rows_per_strip=64)
    paths = sorted(map(str, make_planes(root, layout).glob("*.tif")))
    volume = io.imread_parallel(paths)
    # Slabs of whole chunks, so that both do the same work.
    half = -(-len(paths) // 128) * 64
    parts = [(paths[:half], str(root / "p.zarr")), (paths[half:], str(root / "q.zarr"))]
    used: dict[str, list[tuple[float, float]]] = {}

    with ExitStack() as stack:
        clients = {n: stack.enter_context(cluster(n)) for n in (1, 2)}
        plain = stack.enter_context(ProcessPoolExecutor(2, mp_context=get_context("spawn")))

        def on_cluster(n: int) -> float:
            with clients[n].as_current():
                own, all_ = time.process_time(), cpu_s()
                found = wall_s(lambda: io.write_zarr(root / "a.zarr", volume, overwrite=True))
                own, all_ = time.process_time() - own, cpu_s() - all_
            used.setdefault(f"{n} of a cluster", []).append((own, all_ - own))
            return found

        def in_processes(n: int) -> float:
            jobs = parts if n == 2 else [(paths, str(root / "p.zarr"))]
            return wall_s(lambda: list(plain.map(convert_part, *zip(*jobs, strict=True))))

        runs = {
            "1 of a cluster": lambda: on_cluster(1),
            "2 of a cluster": lambda: on_cluster(2),
            "1 plain": lambda: in_processes(1),
            "2 plain": lambda: in_processes(2),
        }
        times = by_turns(repeat, runs)
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, found in times.items():
        each = ", ".join(f"{t:.2f}" for t in found)
        print(f"{name}: {layout.nbytes / medians[name] / MB:.0f} MB/s; seconds {each}")
    for name, found in used.items():
        own, others = (statistics.median(f[k] for f in found[1:]) for k in (0, 1))
        print(f"{name}: CPU {others:.2f} s of workers, {own:.2f} s of client and scheduler")
    for kind in ("of a cluster", "plain"):
        times_faster = medians[f"1 {kind}"] / medians[f"2 {kind}"]
        print(f"two processes {kind} are {times_faster:.2f} times as fast as one")


def overhead(root: Path, repeat: int, shape: tuple[int, int, int]) -> None:
    """Print what a unit costs the process that holds client and scheduler."""
    n_units = 2048
    volume = np.zeros((n_units, 8, 8), "u2")
    kinds = {
        "read from files": volume,
        "computed": da.from_array(volume, chunks=(1, 8, 8)).map_blocks(np.add, 1),
    }
    with cluster(1) as client, client.as_current():

        def write(data: Any, progress: Any) -> float:
            begin = time.process_time()
            # Units as small as they may be; jobs of terabytes have as many of 256 MB and more.
            with mock.patch("scout_dask_io.core.plan.unit_target", return_value=0):
                io.write_zarr(root / "a.zarr", data, (1, 8, 8), overwrite=True, progress=progress)
            return time.process_time() - begin

        runs = {
            (kind, told): lambda data=data, how=how: write(data, how)
            for kind, data in kinds.items()
            for told, how in (("silent", False), ("with progress", lambda *_: None))
        }
        times = by_turns(repeat, runs)
    for (kind, told), found in times.items():
        each = statistics.median(found) / n_units
        print(f"{kind}, {told}: {each * 1e3:.2f} ms of CPU a unit")


def build(root: Path, shape: tuple[int, int, int], **settings: Any) -> tuple[Any, float]:
    """Give the delayed write of planes that do not exist, and the seconds it takes to build."""
    source = described_planes(shape)
    start = time.perf_counter()
    write = io.write_zarr(
        root / "huge.zarr", lazy_array(source), **QUIET, compute=False, overwrite=True, **settings
    )
    return write, time.perf_counter() - start


def start(root: Path, repeat: int, shape: tuple[int, int, int]) -> None:
    """Print what the graph of 100,000 planes costs, and how soon its first task has run."""
    with cluster(2) as client:
        for _ in range(repeat):
            with client.as_current():
                write, built = build(root, (100_000, 7_000, 7_000))
                begin = time.perf_counter()
                future = client.compute(write)
                # There are no files, so the first task to run fails, and so does the write.
                error = future.exception()
                first = time.perf_counter() - begin
            assert isinstance(error, io.ScoutIOError), error
            future.release()
            nbytes = len(cloudpickle.dumps(write.dask))
            print(
                f"{len(write.dask) - 1:,} units: built in {built:.2f} s, {nbytes / MB:.1f} MB "
                f"pickled, the first task has run after {first:.2f} s"
            )


def rechunk(root: Path, repeat: int, shape: tuple[int, int, int]) -> None:
    """Print wall, CPU and peak memory of a worker: scratch files against P2P."""
    planes = make_planes(root, Planes(*shape))
    # A worker may hold eight planes, where a row of cubes needs 64.
    max_mem = 8 * shape[1] * shape[2] * 2
    chunks = (64, 64, 64)
    peaks: dict[str, list[int]] = {"scratch": [], "p2p": []}
    cpus: dict[str, list[float]] = {"scratch": [], "p2p": []}
    with dask.config.set(temporary_directory=str(root)), cluster(2, memory_limit="2GB") as client:

        def run(how: str) -> float:
            with client.as_current():
                data = io.imread_folder(planes) + 1
                room: Any = {"max_mem": max_mem}
                if how == "p2p":
                    data, room = data.rechunk((64, 64, -1), method="p2p"), {}
                else:
                    assert io.plan_zarr(data, chunks, **room).route == "scratch"
                client.run(lambda: Path("/proc/self/clear_refs").write_text("5"))
                used = cpu_s()
                found = wall_s(
                    lambda: io.write_zarr(root / "b.zarr", data, chunks, overwrite=True, **room)
                )
                cpus[how].append(cpu_s() - used)
                peaks[how].append(max(client.run(own_peak_nbytes).values()))
            return found

        times = by_turns(repeat, {"scratch": lambda: run("scratch"), "p2p": lambda: run("p2p")})
    for how, found in times.items():
        print(
            f"{how:7} wall {statistics.median(found):.2f} s, CPU "
            f"{statistics.median(cpus[how][1:]):.2f} s, peak of a worker "
            f"{statistics.median(peaks[how][1:]) / MB:.0f} MB"
        )


def _core_rate(root: Path, compression: str, repeat: int) -> float:
    """Give the bytes of elements a second that one core converts from planes."""
    layout = Planes(128, 1024, 1024, compression=compression, rows_per_strip=64)
    volume = io.imread_folder(make_planes(root, layout))
    found = []
    for _ in range(repeat + 1):
        begin = time.process_time()
        io.write_zarr(root / "a.zarr", volume, nb_workers=1, overwrite=True)
        found.append(time.process_time() - begin)
    return layout.nbytes / statistics.median(found[1:])


def _scheduler_nbytes(pickled: bytes) -> int:
    """Give by how much a process that holds client and scheduler grows with a graph."""
    write = pickle.loads(pickled)
    resident = Path("/proc/self/statm")
    with cluster(0) as client:
        before = int(resident.read_text().split()[1])
        future = client.compute(write)
        while not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
            time.sleep(0.1)
        grown = int(resident.read_text().split()[1]) - before
        future.cancel()
    return grown * os.sysconf("SC_PAGE_SIZE")


def plan(root: Path, repeat: int, shape: tuple[int, int, int]) -> None:
    """Print what a hundred terabytes on a thousand workers take."""
    huge, n_workers = (250_000, 14_142, 14_142), 1_000
    rates = {
        name: _core_rate(root, code, repeat) for name, code in (("raw", "none"), ("LZW", "lzw"))
    }
    for name, rate in rates.items():
        hours = 2 * np.prod(huge) / rate / n_workers / 3600
        print(
            f"{name} planes: {rate / MB:.0f} MB/s a core, {hours:.2f} h on {n_workers} workers, "
            f"{rate * n_workers / 1e9:.0f} GB/s read from the disks"
        )
    for shards in (None, 512):
        more = {} if shards is None else {"zarr_format": 3, "shards": shards}
        # As on a cluster: 2 GB for each of a thousand threads.
        with dask.config.set(scheduler="threads"):
            write, built = build(
                root, huge, max_mem=f"{2 * n_workers}GB", nb_workers=n_workers, **more
            )
        found = io.plan_zarr(
            lazy_array(described_planes(huge)), max_mem="2GB", nb_workers=1, **more
        )
        nbytes = len(pickle.dumps(write.dask))
        tasks = list(dict(write.dask).values())[:-1:997]
        one = statistics.mean(len(pickle.dumps(t)) for t in tasks)
        n_units = len(write.dask) - 1
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            grown = pool.submit(_scheduler_nbytes, cloudpickle.dumps(write)).result()
        print(
            f"shards of {shards}: {found.n_stored:,} files, {n_units:,} units of "
            f"{found.nbytes / n_units / 1e9:.1f} GB; graph built in {built:.1f} s, "
            f"{nbytes / MB:.0f} MB pickled, {one:,.0f} bytes a task sent to a worker; "
            f"client and scheduler grow by {grown / n_units:,.0f} bytes a unit"
        )


N_WORKERS, UNIT_S = 100, 1.0


def _sleep(target: Any, unit: int, region: Any, source: Any, inside: Any) -> WrittenUnit:
    time.sleep(UNIT_S)
    return WrittenUnit(unit, 1, {})


def _count(*args: Any) -> int:
    return len(args[-1])


async def _be_workers(address: str, n: int) -> None:
    # Tasks name these functions by their modules.
    with (
        mock.patch("scout_dask_io.write.unit.write_unit", _sleep),
        mock.patch("scout_dask_io.write.zarr._commit", _count),
    ):
        found = [
            await Worker(address, nthreads=1, memory_limit="4GB", dashboard=False) for _ in range(n)
        ]
        await asyncio.gather(*(worker.finished() for worker in found))


def _workers(address: str, n: int) -> None:
    _prepare()
    asyncio.run(_be_workers(address, n))


def _resident_nbytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def workers(root: Path, repeat: int, shape: tuple[int, int, int]) -> None:
    """Print what a large write costs the side of the scheduler, while workers only sleep."""
    volume = lazy_array(described_planes((100_000, 7_000, 7_000)))
    done: list[float] = []
    with cluster(0) as client:
        process = get_context("spawn").Process(
            target=_workers, args=(client.scheduler.address, N_WORKERS), daemon=True
        )
        process.start()
        client.wait_for_workers(N_WORKERS)
        with client.as_current(), mock.patch("scout_dask_io.write.zarr.preflight"):
            before, cpu, begin = _resident_nbytes(), time.process_time(), time.perf_counter()
            totals: list[int] = []
            most = before

            def told(n: int, total: int, nbytes: int) -> None:
                nonlocal most
                totals[:] = [total]
                done.extend([time.perf_counter() - begin] * (n - len(done)))
                most = max(most, _resident_nbytes())

            io.write_zarr(
                root / "a.zarr", volume, **QUIET, overwrite=True, max_mem="2GB", progress=told
            )
            end = time.perf_counter() - begin
            cpu = time.process_time() - cpu
        process.terminate()
    n = totals[0]
    ideal = -(-n // N_WORKERS) * UNIT_S
    print(
        f"{n:,} units of {UNIT_S:g} s on {N_WORKERS} workers: {end:.1f} s, {ideal:.0f} asleep; "
        f"the first unit after {done[0]:.2f} s, the last {N_WORKERS} in "
        f"{done[-1] - done[-N_WORKERS]:.2f} s, the end {end - done[-1]:.2f} s after the last; "
        f"client and scheduler {cpu:.1f} s of CPU, {cpu / n * 1e3:.2f} ms a unit, "
        f"{(most - before) / MB:.0f} MB"
    )


PARTS = {p.__name__: p for p in (scaling, overhead, start, rechunk, workers, plan)}


def main() -> None:
    """Run the parts that are asked for, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--shape", type=int, nargs=3, default=(256, 2048, 2048))
    parser.add_argument("--dir", type=Path, default=None)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    shm = "/dev/shm" if Path("/dev/shm").is_dir() else None
    root = Path(tempfile.mkdtemp(dir=args.dir or shm))
    try:
        for name in args.part or PARTS:
            print(f"== {name}", flush=True)
            PARTS[name](root, args.repeat, tuple(args.shape))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
