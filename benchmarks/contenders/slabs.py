"""z-slabs on threads: read with tifffile, assigned to TensorStore or zarr-python arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contenders.common import Reader, new_v2_array, over_slabs, whole_slab_sum
from benchmarks.job import Job

#: Blocks that a careful user would give TensorStore under dask: 64 MB of uint16 here.
DASK_BLOCKS = (64, 256, 2048)


def _context(job: Job) -> dict[str, Any]:
    return {
        "data_copy_concurrency": {"limit": job.n_workers},
        "file_io_concurrency": {"limit": job.n_workers},
        # No cache: nothing is read twice in a convert, and boxes are random.
        "cache_pool": {"total_bytes_limit": 0},
    }


def _tensorstore(job: Job, path: str, *, create: bool) -> Any:
    import tensorstore as ts

    spec: dict[str, Any] = {
        "driver": "zarr",
        "kvstore": {"driver": "file", "path": path},
        "context": _context(job),
    }
    if create:
        spec["metadata"] = {
            "shape": list(job.shape),
            "chunks": list(job.chunks),
            "dtype": "<u2",
            "compressor": job.codec,
            "fill_value": 0,
            "order": "C",
            "dimension_separator": "/",
        }
    return ts.open(spec, create=create).result()


def _use_pipeline(job: Job, writer: str) -> None:
    import zarr

    if writer == "zarrs":
        import zarrs  # noqa: F401

        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    zarr.config.set({"threading.max_workers": job.n_workers})


def convert(job: Job, writer: str) -> Callable[[], None]:
    """Write one slab a thread."""
    import tifffile  # noqa: F401

    if writer == "tensorstore":
        import tensorstore  # noqa: F401

        def work() -> None:
            array = _tensorstore(job, job.out, create=True)

            def write(start: int, stop: int, slab: np.ndarray) -> None:
                array[start:stop].write(slab).result()

            over_slabs(job, write)

        return work

    _use_pipeline(job, writer)

    def work_zarr() -> None:
        array = new_v2_array(job)
        over_slabs(job, lambda start, stop, slab: array.__setitem__(slice(start, stop), slab))

    return work_zarr


class _Indexed:
    """A TensorStore as dask wants an array."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.shape = tuple(store.shape)
        self.dtype = np.dtype(store.dtype.numpy_dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self.store[index].read().result())


def reader(job: Job, writer: str, under_dask: bool = False) -> Reader:
    """Read through the library's own indexing, or through dask over it."""
    if writer == "tensorstore":
        array: Any = _Indexed(_tensorstore(job, job.stored, create=False))
    else:
        _use_pipeline(job, writer)
        import zarr

        array = zarr.open_array(job.stored, mode="r", zarr_format=2)
    if under_dask:
        import dask.array as da

        blocks = tuple(min(b, n) for b, n in zip(DASK_BLOCKS, job.shape, strict=True))
        lazy = da.from_array(array, chunks=blocks, name=False)
        return Reader(
            lambda region: lazy[region].compute(),
            lambda: int(lazy.sum(dtype=np.uint64).compute()),
        )
    return Reader(
        lambda region: np.asarray(array[region]),
        lambda: whole_slab_sum(job, lambda region: np.asarray(array[region])),
    )
