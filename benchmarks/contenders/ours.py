"""Us: scout_dask_io through its public names, as a user would call it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contenders.common import Reader
from benchmarks.contenders.dask_ways import plane_blocks
from benchmarks.job import Job


def convert(job: Job, codec: str = "zstd") -> Callable[[], None]:
    """Convert a folder of planes."""
    import scout_dask_io as io

    def work() -> None:
        lazy = io.imread_folder(job.planes)
        io.write_zarr(
            job.out,
            lazy,
            chunks=job.chunks,
            codec=codec,
            max_mem=job.max_mem,
            nb_workers=job.n_workers,
        )

    return work


def computed(job: Job) -> Callable[[], None]:
    """Store the same computed array as the peers."""
    import scout_dask_io as io

    def work() -> None:
        io.write_zarr(
            job.out,
            plane_blocks(job),
            chunks=job.chunks,
            max_mem=job.max_mem,
            nb_workers=job.n_workers,
        )

    return work


def reader(job: Job, direct: bool = False) -> Reader:
    """Read by ``read_zarr`` in the blocks that it chooses, or regions without a graph."""
    import scout_dask_io as io

    lazy = io.read_zarr(job.stored)
    return Reader(
        (lambda region: io.read_region(lazy, region)) if direct else lambda r: lazy[r].compute(),
        lambda: int(lazy.sum(dtype=np.uint64).compute()),
    )


def index(job: Job) -> Callable[[], dict[str, Any]]:
    """Open a folder: every header is checked."""
    import scout_dask_io as io

    def work() -> dict[str, Any]:
        lazy = io.imread_folder(job.planes)
        return {"shape": list(lazy.shape), "dtype": str(lazy.dtype)}

    return work


def plan(job: Job) -> Callable[[], dict[str, Any]]:
    """Build the lazy array, the write plan and the write's graph of a volume of raw planes.

    The planes are described as the header check would describe them; there are
    no files. Describing them is not timed: the index case measures it.
    """
    import scout_dask_io as io
    from benchmarks.described import described_planes
    from scout_dask_io.run.lazy import lazy_array

    source = described_planes(job.shape)

    def work() -> dict[str, Any]:
        lazy = lazy_array(source)
        found = io.plan_zarr(lazy, chunks=job.chunks, max_mem=job.max_mem, nb_workers=job.n_workers)
        graph: Any = io.write_zarr(
            job.out,
            lazy,
            chunks=job.chunks,
            max_mem=job.max_mem,
            nb_workers=job.n_workers,
            voxel_size=(1, 1, 1),  # else it is looked for in the first file, which is not there
            compute=False,
        )
        return {
            "shape": list(lazy.shape),
            "dtype": str(lazy.dtype),
            "n_blocks": lazy.npartitions,
            "n_write_tasks": len(graph.dask),
            "projected_mem": found.projected_mem,
        }

    return work
