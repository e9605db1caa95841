"""Programs as pipelines are: they compute, and then work in a pool of processes.

``python fork_scenarios.py NAME METHOD ROUNDS FOLDER`` prints how many rounds were right, and how
many hung: that many seconds passed without an answer, and their processes were ended.
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import tifffile
from dask._expr import Expr, HLGExpr
from tqdm import tqdm

import scout_dask_io as io

#: What no round takes however loaded the machine is: processes that are spawned import all anew.
ROUND_S = 120.0
SHAPE, CHUNKS = (12, 37, 53), (4, 16, 32)
N_PROCESSES = 2

# What children find in the memory that they inherit.
inherited: dict[str, Any] = {}


def volume() -> np.ndarray:
    return np.arange(np.prod(SHAPE), dtype="u2").reshape(SHAPE)


def make_planes(folder: Path) -> list[str]:
    folder.mkdir()
    paths = [str(folder / f"z{z:04d}.tif") for z in range(SHAPE[0])]
    for path, plane in zip(paths, volume(), strict=True):
        tifffile.imwrite(path, plane, photometric="minisblack", compression="zlib", rowsperstrip=8)
    return paths


def same(found: Any, expected: np.ndarray) -> bool:
    return bool(found.dtype == expected.dtype and np.array_equal(found, expected))


@contextmanager
def load(folder: Path) -> Iterator[None]:
    """Compute, read behind a gate, write and draw in other threads of this process."""
    stop = threading.Event()
    planes, gated = io.imread_folder(folder), io.imread_folder(folder, nb_workers=1)

    def compute() -> None:
        while not stop.is_set():
            (planes.rechunk(CHUNKS) + 1).sum().compute()
            gated[:3].compute()

    def write() -> None:
        with tempfile.TemporaryDirectory() as scratch, open(os.devnull, "w") as nowhere:
            bar = tqdm(file=nowhere, mininterval=0)
            while not stop.is_set():
                io.write_zarr(f"{scratch}/a.zarr", gated, CHUNKS, overwrite=True)
                io.imsave(f"{scratch}/a.tif", planes * 2)
                for _ in range(100):
                    bar.update()
            bar.close()

    threads = [threading.Thread(target=work) for work in (compute, write)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold every lock in another thread, as one may at the moment of a fork."""
    import zarr.core.config
    import zarr.core.sync
    from dask import config, threaded, tokenize
    from fsspec import asyn

    from scout_dask_io.tiff import open_file, segment_reader
    from scout_dask_io.write import attempt

    with tqdm(total=1, disable=True):
        locks = [
            tokenize.tokenize_lock,
            config.config_lock,
            threaded.pools_lock,
            asyn.get_lock(),
            zarr.core.sync._get_lock(),
            zarr.core.config.config.config_lock,
            tqdm.get_lock().th_lock,
            tempfile._once_lock,
            attempt._lock,
            open_file._gates_lock,
            segment_reader._tables._lock,
            segment_reader._decoders._lock,
            *(each._slots for each in open_file._gates.values()),
            *(lock for kind in (da.Array, HLGExpr, Expr) for lock in property_locks(kind)),
        ]
    held, done = threading.Event(), threading.Event()

    def keep() -> None:
        for lock in locks:
            lock.acquire()
        held.set()
        done.wait()
        for lock in locks:
            lock.release()

    thread = threading.Thread(target=keep)
    thread.start()
    held.wait()
    try:
        yield
    finally:
        done.set()
        thread.join()


def property_locks(kind: type) -> list[Any]:
    """Give the locks that cached properties have up to Python 3.11."""
    found = (getattr(each, "lock", None) for each in vars(kind).values())
    return [lock for lock in found if hasattr(lock, "acquire")]


@contextmanager
def compute_first(folder: Path) -> Iterator[None]:
    """Be amid the first computation of a process, which imports, in another thread."""
    thread = threading.Thread(target=inherited["planes"].compute)
    thread.start()
    while "distributed" not in sys.modules:
        pass
    yield
    thread.join()


# What the children do.


def scale_plane(job: tuple[str, str]) -> str:
    source, target = job
    plane = io.imread(source).compute()
    io.imsave(target, plane // 2, compress=1)
    return target


def write_slab(job: tuple[str, Any, int]) -> int:
    folder, array, start = job
    part = slice(start, start + CHUNKS[0])
    array[part] = (io.imread_folder(folder)[part] + 1).compute()
    return start


def write_inherited(start: int) -> int:
    part = slice(start, start + CHUNKS[0])
    inherited["zarr"][part] = (inherited["planes"][part] + 1).compute()
    return start


def draw_and_scale(job: tuple[str, str]) -> str:
    with open(os.devnull, "w") as nowhere:
        for _ in tqdm(range(3), file=nowhere, mininterval=0):
            pass
    return scale_plane(job)


def write_smoothed(job: tuple[str, str]) -> bool:
    folder, target = job
    planes = io.imread_folder(folder)
    widened = planes.map_overlap(lambda block: block + 1, depth=1, boundary="none")
    io.write_zarr(target, widened, CHUNKS, progress=True)
    ((first, second),) = [dask.compute(planes[0], io.read_zarr(target)[1])]
    return same(first, volume()[0]) and same(second, volume()[1] + 1)


def convert_and_verify(job: tuple[str, str]) -> bool:
    folder, target = job
    io.convert(folder, target, chunks=CHUNKS, progress=False)
    return bool(io.verify(folder, target).ok and io.verify(target).ok)


def compute_inherited(name: str) -> bool:
    return same(inherited[name].compute(), volume())


def compute_and_ask(job: tuple[str, str]) -> bool:
    """Compute and write here, and have a use of the parent's client refused."""
    right = compute_inherited("planes") and write_smoothed(job)
    try:
        inherited["client"].submit(int, 1).result()
    except Exception as err:
        return right and "closed" in f"{type(err).__name__} {err}".lower()
    return False


def everything(job: tuple[str, str]) -> bool:
    """Use whatever has a lock or threads of its own."""
    folder, target = job
    with dask.config.set({"array.slicing.split-large-chunks": False}):
        found = io.imread_folder(folder, nb_workers=1).compute()
    io.write_zarr(f"{target}.drawn.zarr", found, CHUNKS, qc=True)
    array = io.new_zarr(f"{target}.open.zarr", SHAPE, CHUNKS, "u2")
    array[:] = found
    region = io.read_region(io.imread_folder(folder), np.s_[:])
    draw_and_scale((f"{folder}/z0000.tif", f"{target}.tif"))
    right = [
        same(tifffile.imread(f"{target}.tif"), volume()[0] // 2),
        write_smoothed((folder, f"{target}.smooth.zarr")),
        convert_and_verify((folder, f"{target}.zarr")),
        same(found, volume()),
        same(region, volume()),
        same(array[:], volume()),
        *(compute_inherited(name) for name in ("planes", "gated") if name in inherited),
    ]
    return all(right)


# What the parents do: each gives a function that does one round in a pool.


Round = Callable[[Any, Path], bool]


def answers(pool: Any, function: Callable[[Any], Any], jobs: list[Any]) -> list[Any]:
    return list(pool.map_async(function, jobs, chunksize=1).get(ROUND_S))


def planes(folder: Path) -> Round:
    paths = make_planes(folder / "in")
    io.imread(paths[0]).compute()

    def once(pool: Any, out: Path) -> bool:
        jobs = [(path, str(out / f"{k}.tif")) for k, path in enumerate(paths)]
        written = answers(pool, scale_plane, jobs)
        found = np.stack([tifffile.imread(path) for path in written])
        return same(found, volume() // 2)

    return once


def slabs(folder: Path) -> Round:
    make_planes(folder / "in")
    io.imread_folder(folder / "in").compute()

    def once(pool: Any, out: Path) -> bool:
        array = io.new_zarr(out / "a.zarr", SHAPE, CHUNKS, "u2")
        array[0, 0, 0] = 1  # zarr has begun its threads
        starts = range(0, SHAPE[0], CHUNKS[0])
        answers(pool, write_slab, [(str(folder / "in"), array, k) for k in starts])
        return same(io.open(out / "a.zarr", mode="r")[:], volume() + 1)

    return once


def inherited_slabs(folder: Path) -> Round:
    make_planes(folder / "in")
    inherited["planes"] = io.imread_folder(folder / "in")
    inherited["planes"].compute()
    inherited["zarr"] = io.new_zarr(folder / "a.zarr", SHAPE, CHUNKS, "u2")

    def once(pool: Any, out: Path) -> bool:
        inherited["zarr"][:] = 0
        answers(pool, write_inherited, list(range(0, SHAPE[0], CHUNKS[0])))
        return same(inherited["zarr"][:], volume() + 1)

    return once


def progress(folder: Path) -> Round:
    paths = make_planes(folder / "in")
    io.imread(paths[0]).compute()

    def once(pool: Any, out: Path) -> bool:
        jobs = [(path, str(out / f"{k}.tif")) for k, path in enumerate(paths)]
        coming = pool.imap(draw_and_scale, jobs)
        written = [coming.next(ROUND_S) for _ in tqdm(jobs, total=len(jobs))]
        return same(np.stack([tifffile.imread(path) for path in written]), volume() // 2)

    return once


def _in_children(function: Callable[[Any], bool]) -> Callable[[Path], Round]:
    def prepare(folder: Path) -> Round:
        make_planes(folder / "in")
        inherited["planes"] = io.imread_folder(folder / "in")
        inherited["gated"] = io.imread_folder(folder / "in", nb_workers=1)
        inherited["planes"].compute()
        inherited["gated"].compute()

        def once(pool: Any, out: Path) -> bool:
            jobs = [(str(folder / "in"), str(out / f"{k}")) for k in range(N_PROCESSES)]
            return all(answers(pool, function, jobs))

        return once

    return prepare


def plain(folder: Path) -> Round:
    _in_children(write_smoothed)(folder)
    return lambda pool, out: all(answers(pool, compute_inherited, ["planes", "gated"]))


def first(folder: Path) -> Round:
    make_planes(folder / "in")
    inherited["planes"] = io.imread_folder(folder / "in")
    return lambda pool, out: all(answers(pool, compute_inherited, ["planes", "planes"]))


def late(folder: Path) -> Round:
    """The parent computes, and knows nothing of this library yet."""
    make_planes(folder / "in")
    da.ones((4, 4), chunks=2).sum().compute()

    def once(pool: Any, out: Path) -> bool:
        return all(answers(pool, write_smoothed, [(str(folder / "in"), str(out / "a.zarr"))]))

    return once


def own_pool(folder: Path) -> Round:
    dask.config.set(pool=ThreadPoolExecutor(2))
    return plain(folder)


def own_scheduler(folder: Path) -> Round:
    dask.config.set(scheduler=ThreadPoolExecutor(2))
    return plain(folder)


def cluster(folder: Path) -> Round:
    from distributed import Client

    inherited["client"] = Client(n_workers=1, processes=False, dashboard_address=None)
    prepared = _in_children(compute_and_ask)(folder)

    def once(pool: Any, out: Path) -> bool:
        # The parent's connections are as they were.
        return prepared(pool, out) and inherited["client"].submit(int, 7, pure=False).result() == 7

    return once


SCENARIOS: dict[str, Callable[[Path], Round]] = {
    "planes": planes,
    "slabs": slabs,
    "inherited_slabs": inherited_slabs,
    "progress": progress,
    "nested": _in_children(write_smoothed),
    "convert": _in_children(convert_and_verify),
    "plain": plain,
    "everything": _in_children(everything),
    "held": _in_children(everything),
    "first": first,
    "late": late,
    "own_pool": own_pool,
    "own_scheduler": own_scheduler,
    "cluster": cluster,
}
# What the parent does beside: nothing, where it is not load.
BESIDE: dict[str, Callable[[Path], Any]] = {
    "held": hold,
    "first": compute_first,
    "late": nullcontext,
    "own_pool": nullcontext,
    "own_scheduler": nullcontext,
    "cluster": nullcontext,
}


def run(name: str, method: str, rounds: int, folder: Path) -> dict[str, int]:
    """Give how many rounds were right, wrong, or hung."""
    once = SCENARIOS[name](folder)
    counts = {"right": 0, "wrong": 0, "hung": 0}
    with BESIDE.get(name, load)(folder / "in"):
        for k in range(rounds):
            out = folder / f"out-{k}"
            out.mkdir()
            with make_pool(method) as pool:
                try:
                    counts["right" if once(pool, out) else "wrong"] += 1
                except multiprocessing.TimeoutError:
                    counts["hung"] += 1
    return counts


def make_pool(method: str) -> Any:
    if method == "threads":
        from multiprocessing.pool import ThreadPool

        return ThreadPool(N_PROCESSES)
    if method == "loky":
        return LokyPool()
    # A child that hangs says where, before it is ended.
    say_where = (faulthandler.dump_traceback_later, (0.8 * ROUND_S,))
    return multiprocessing.get_context(method).Pool(N_PROCESSES, *say_where)


class LokyPool:
    """joblib's processes, in the words of ``multiprocessing``."""

    def __enter__(self) -> LokyPool:
        return self

    def __exit__(self, *exc: object) -> None:
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor().shutdown(wait=True)

    def map_async(self, function: Any, jobs: list[Any], chunksize: int = 1) -> LokyPool:
        self._work = function, jobs
        return self

    def get(self, timeout_s: float) -> list[Any]:
        import joblib

        function, jobs = self._work
        work = (joblib.delayed(function)(job) for job in jobs)
        return list(joblib.Parallel(N_PROCESSES, backend="loky", timeout=timeout_s)(work))


if __name__ == "__main__":
    name, method, rounds, where = sys.argv[1:]
    print(json.dumps(run(name, method, int(rounds), Path(where))))
