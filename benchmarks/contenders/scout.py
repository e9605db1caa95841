"""The original SCOUT way: a pool of processes, each reads a slab and assigns it to the array."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable

from benchmarks.contenders.common import new_v2_array, read_slab
from benchmarks.job import Job


def _open(path: str) -> object:
    import zarr

    if zarr.__version__.startswith("2."):
        return zarr.open(zarr.NestedDirectoryStore(path), mode="r+")
    return zarr.open_array(path, mode="r+", zarr_format=2)


def _convert_slab(path: str, start: int, stop: int, paths: list[str]) -> None:
    _open(path)[start:stop] = read_slab(paths)  # type: ignore[index]


def convert(job: Job) -> Callable[[], None]:
    """Convert z-slabs in a pool; numcodecs threads as they come, as SCOUT had them."""
    import numcodecs  # noqa: F401
    import tifffile  # noqa: F401
    import zarr  # noqa: F401

    def work() -> None:
        new_v2_array(job)
        paths = job.paths
        tasks = [(job.out, start, stop, paths[start:stop]) for start, stop in job.slabs]
        # Forked, as on Linux at SCOUT's time: the children import nothing again.
        with multiprocessing.get_context("fork").Pool(job.n_workers) as pool:
            pool.starmap(_convert_slab, tasks, chunksize=1)
            # Waited for, so that their CPU seconds are counted.
            pool.close()
            pool.join()

    return work
