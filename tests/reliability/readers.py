"""Readers of arrays that are being changed: other software, which knows nothing of it, and ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorstore
import zarr

import scout_dask_io as io


def levels(path: Path, kind: str) -> list[Path]:
    return [path / str(n) for n in range(3)] if "image" in kind else [path]


def by_zarr(path: Path) -> np.ndarray:
    return np.asarray(zarr.open_array(str(path), mode="r")[...])


def by_tensorstore(path: Path) -> np.ndarray:
    driver = "zarr3" if (path / "zarr.json").exists() else "zarr"
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
    return np.asarray(tensorstore.open(spec, read=True).result().read().result())


def by_us(path: Path) -> np.ndarray:
    return np.asarray(io.read_zarr(path).compute(scheduler="sync"))
