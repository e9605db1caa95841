"""Holds what a contender left behind against the planes, bit by bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from benchmarks.contenders import Contender
from benchmarks.contenders.common import subtract_background
from benchmarks.job import Job

__all__ = ["check_result", "size_on_disk"]


def size_on_disk(path: Path) -> tuple[int, int]:
    """Give the number of files under a path and their bytes together."""
    n_files = nbytes = 0
    for folder, _, names in os.walk(path):
        for name in names:
            n_files += 1
            nbytes += (Path(folder) / name).stat().st_size
    return n_files, nbytes


def _opened(job: Job, output: str) -> Any:
    import zarr

    if output == "shards":
        return zarr.open_array(f"{job.out}/0", mode="r", zarr_format=3)
    return zarr.open_array(job.out, mode="r", zarr_format=2)


def _check_volume(job: Job, output: str) -> str:
    array = _opened(job, output)
    shape = array.shape[::-1] if output == "shards" else array.shape
    if shape != job.shape or array.dtype != np.uint16:
        return f"WRONG: the array is {shape} {array.dtype}, the planes are {job.shape} uint16"
    if output == "zarr" and array.chunks != job.chunks:
        return f"WRONG: chunks are {array.chunks}, asked for were {job.chunks}"
    for region in _bands(job):
        expected = _read_planes(job.paths[region[0]], region[1])
        if job.kind == "computed":
            expected = subtract_background(expected)
        found = array[region[::-1]].T if output == "shards" else array[region]
        if not np.array_equal(found, expected):
            z, y, _ = region
            return (
                f"WRONG: planes {z.start} to {z.stop}, rows {y.start} to {y.stop} differ in "
                f"{(found != expected).sum()} voxels"
            )
    return "equal"


def _bands(job: Job) -> Iterator[tuple[slice, slice, slice]]:
    """Yield regions of whole rows that tile the volume, one slab high and some 500 MB large."""
    _, height, width = job.shape
    step = max(1, 2**29 // (job.chunks[0] * width * 2))
    for start, stop in job.slabs:
        for y in range(0, height, step):
            yield slice(start, stop), slice(y, min(y + step, height)), slice(0, width)


def _read_planes(paths: list[str], rows: slice) -> np.ndarray:
    # A map of a raw plane costs nothing but the rows; planes of other kinds are small here.
    def read(path: str) -> np.ndarray:
        try:
            return tifffile.memmap(path, mode="r")[rows]
        except ValueError:
            return np.asarray(tifffile.imread(path)[rows])

    return np.stack([read(path) for path in paths])


def check_result(job: Job, contender: Contender, value: Any, *, stored_sum: int | None) -> str:
    """Say ``"equal"``, ``"not compared: ..."`` or ``"WRONG: ..."`` of one run's result."""
    if job.kind in ("convert", "computed"):
        if contender.output == "none":
            return "not compared: leaves nothing behind"
        return _check_volume(job, contender.output)
    if job.kind == "read-whole" and value != stored_sum and contender.output != "none":
        return f"WRONG: the sum is {value}, that of the planes is {stored_sum}"
    if job.kind in ("index", "plan") and tuple(value["shape"]) != job.shape:
        return f"WRONG: the shape is {value['shape']}, expected {job.shape}"
    if job.kind in ("index", "plan") and value["dtype"] != "uint16":
        return f"WRONG: the dtype is {value['dtype']}, expected uint16"
    return "equal"
