"""stack-to-chunk: its own converter, to its own layout (Zarr v3, one shard a slab)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.job import Job


def _warm(n: int) -> int:
    import stack_to_chunk._array_helpers  # noqa: F401
    import tifffile  # noqa: F401

    return n


def convert(job: Job) -> Callable[[], None]:
    """Convert with its pool of processes; started before, so that imports are left out."""
    import dask.array as da
    import stack_to_chunk
    import tifffile
    from joblib import Parallel, delayed
    from pydantic_zarr.v3 import ArraySpec

    Parallel(n_jobs=job.n_workers)(delayed(_warm)(n) for n in range(4 * job.n_workers))
    n_planes, height, width = job.shape
    codecs = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {
            "name": "blosc",
            "configuration": {
                "cname": job.codec["cname"],
                "clevel": job.codec["clevel"],
                "shuffle": "bitshuffle",
                "typesize": 2,
                "blocksize": job.codec["blocksize"],
            },
        },
    ]

    def work() -> None:
        paths = job.paths

        def read(block_id: tuple[int, ...]) -> np.ndarray:
            return np.asarray(tifffile.imread(paths[block_id[2]])).T[:, :, np.newaxis]

        volume = da.map_blocks(
            read,
            chunks=((width,), (height,), (1,) * n_planes),
            dtype=np.uint16,
            meta=np.empty((0, 0, 0), np.uint16),
        )
        spec = ArraySpec(
            attributes={},
            shape=(width, height, n_planes),
            data_type="uint16",
            chunk_grid={"name": "regular", "configuration": {"chunk_shape": job.chunks[::-1]}},
            chunk_key_encoding={"name": "default", "configuration": {"separator": "/"}},
            fill_value=0,
            codecs=codecs,
            storage_transformers=(),
        )
        group = stack_to_chunk.MultiScaleGroup(
            Path(job.out),
            name="benchmark",
            voxel_size=(1.0, 1.0, 1.0),
            spatial_unit="micrometer",
            array_spec=spec,
        )
        group.add_full_res_data(volume, n_processes=job.n_workers)

    return work
