"""The ways that dask's own tools offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contenders.common import Reader, new_v2_array, subtract_background
from benchmarks.job import Job


def _open_planes(job: Job, reader: str) -> Any:
    import dask.array as da

    if reader == "dask-image":
        import dask_image.imread

        return dask_image.imread.imread(f"{job.planes}/*.tif")
    import tifffile

    return da.from_zarr(tifffile.imread(job.paths, aszarr=True))


def _check_imports(reader: str) -> None:
    import dask.array  # noqa: F401
    import tifffile  # noqa: F401

    if reader == "dask-image":
        import dask_image.imread  # noqa: F401
    elif reader == "aszarr":
        import zarr  # noqa: F401


def convert(job: Job, reader: str) -> Callable[[], None]:
    """Read lazily, rechunk to the stored chunks, store."""
    import dask.array as da

    _check_imports(reader)

    def work() -> None:
        lazy = _open_planes(job, reader)
        da.to_zarr(lazy.rechunk(job.chunks), new_v2_array(job))

    return work


def plane_blocks(job: Job) -> Any:
    """Give a computed array in blocks of one plane, which no reader's source is behind."""
    import dask.array as da
    import tifffile

    paths = job.paths

    def read(block_id: tuple[int, ...]) -> np.ndarray:
        return np.asarray(tifffile.imread(paths[block_id[0]]))[np.newaxis]

    n_planes, height, width = job.shape
    planes = da.map_blocks(
        read,
        chunks=((1,) * n_planes, (height,), (width,)),
        dtype=np.uint16,
        meta=np.empty((0, 0, 0), np.uint16),
    )
    return planes.map_blocks(subtract_background, dtype=np.uint16)


def computed(job: Job) -> Callable[[], None]:
    """Store a computed array of plane blocks as cubes."""
    import dask.array as da

    def work() -> None:
        da.to_zarr(plane_blocks(job).rechunk(job.chunks), new_v2_array(job))

    return work


def reader(job: Job, reader: str) -> Reader:
    """Read by ``da.from_zarr`` in the blocks that it chooses."""
    import dask.array as da

    lazy = da.from_zarr(job.stored)
    return Reader(
        lambda region: lazy[region].compute(),
        lambda: int(lazy.sum(dtype=np.uint64).compute()),
    )


def index(job: Job, reader: str) -> Callable[[], dict[str, Any]]:
    """Open a folder as a lazy stack; all but ``headers`` look at one file only."""
    _check_imports(reader)
    if reader == "headers":
        import tifffile

        def headers() -> dict[str, Any]:
            found = set()
            for path in job.paths:
                with tifffile.TiffFile(path, is_ome=False) as tif:
                    found.add((tif.pages.first.shape, str(tif.pages.first.dtype)))
            ((shape, dtype),) = found
            return {"shape": [len(job.paths), *shape], "dtype": dtype}

        return headers

    def work() -> dict[str, Any]:
        lazy = _open_planes(job, reader)
        return {"shape": list(lazy.shape), "dtype": str(lazy.dtype)}

    return work


def plan(job: Job) -> Callable[[], dict[str, Any]]:
    """Build the graph that ``to_zarr`` would compute; nothing is read."""
    import dask.array as da

    def work() -> dict[str, Any]:
        n_planes, height, width = job.shape
        lazy = da.zeros(job.shape, chunks=((1,) * n_planes, height, width), dtype=np.uint16)
        graph = da.to_zarr(lazy.rechunk(job.chunks), new_v2_array(job), compute=False)
        return {
            "shape": list(lazy.shape),
            "dtype": str(lazy.dtype),
            "n_blocks": lazy.npartitions,
            "n_write_tasks": len(graph.dask),
        }

    return work
