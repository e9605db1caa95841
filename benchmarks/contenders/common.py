"""What several contenders share, so that they differ in nothing but their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.job import BACKGROUND, Job

__all__ = [
    "Reader",
    "chunk_keys",
    "new_v2_array",
    "over_slabs",
    "read_slab",
    "subtract_background",
    "whole_slab_sum",
]


class Reader:
    """A stored array in a contender's hands: ``get`` one region, ``total`` of all voxels."""

    def __init__(
        self, get: Callable[[tuple[slice, ...]], np.ndarray], total: Callable[[], int]
    ) -> None:
        self.get = get
        self.total = total


def read_slab(paths: list[str]) -> np.ndarray:
    """Read planes with tifffile into one slab, plane by plane."""
    import tifffile

    first = tifffile.imread(paths[0])
    slab = np.empty((len(paths), *first.shape), first.dtype)
    slab[0] = first
    for z, path in enumerate(paths[1:], 1):
        tifffile.imread(path, out=slab[z])
    return slab


def new_v2_array(job: Job) -> Any:
    """Create the nested v2 array that a zarr-python contender writes, in SCOUT's codec."""
    import numcodecs
    import zarr

    codec = numcodecs.get_codec(dict(job.codec))
    if zarr.__version__.startswith("2."):
        return zarr.open(
            zarr.NestedDirectoryStore(job.out),
            mode="w",
            shape=job.shape,
            chunks=job.chunks,
            dtype="<u2",
            compressor=codec,
        )
    return zarr.create_array(
        job.out,
        shape=job.shape,
        chunks=job.chunks,
        dtype="uint16",
        zarr_format=2,
        compressors=codec,
        filters=None,
        fill_value=0,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )


def over_slabs(job: Job, write: Callable[[int, int, np.ndarray], None]) -> None:
    """Read each slab and hand it to ``write``, on as many threads as the job has workers."""
    paths = job.paths

    def one(bounds: tuple[int, int]) -> None:
        start, stop = bounds
        write(start, stop, read_slab(paths[start:stop]))

    with ThreadPoolExecutor(job.n_workers) as pool:
        list(pool.map(one, job.slabs))


def whole_slab_sum(job: Job, get: Callable[[tuple[slice, ...]], np.ndarray]) -> int:
    """Sum an array slab by slab, on as many threads as the job has workers."""

    def one(bounds: tuple[int, int]) -> int:
        return int(get((slice(*bounds), slice(None), slice(None))).sum(dtype=np.uint64))

    with ThreadPoolExecutor(job.n_workers) as pool:
        return sum(pool.map(one, job.slabs))


def subtract_background(block: np.ndarray) -> np.ndarray:
    """Do the little work of the computed case; cheap, so that the writer is measured."""
    return np.maximum(block, BACKGROUND) - np.uint16(BACKGROUND)


def chunk_keys(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the chunk grid's indices in C order."""
    return np.ndindex(*(-(-n // c) for n, c in zip(shape, chunks, strict=True)))
