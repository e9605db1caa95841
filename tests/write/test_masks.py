"""Masked arrays are refused by all that writes: no file shows what a mask hides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError

VOLUME = np.ma.masked_less(make_volume((3, 8, 9)).astype("f4"), 100)
LAZY = da.from_array(VOLUME, chunks=(2, 8, 9))
WRITERS: dict[str, Callable[[Path, Any], Any]] = {
    "write_zarr": lambda p, a: io.write_zarr(p / "a.zarr", a, 4),
    "write_zarr, later": lambda p, a: io.write_zarr(p / "a.zarr", a, 4, compute=False),
    "write_ome_zarr": lambda p, a: io.write_ome_zarr(p / "a.zarr", a, 4),
    "imsave": lambda p, a: io.imsave(p / "a.tif", a),
    "imsave, OME-TIFF": lambda p, a: io.imsave(p / "a.ome.tif", a),
}
MASKED = {
    "numpy": VOLUME,
    "dask": LAZY,
    "computed on": da.concatenate([LAZY[1:] + 1, da.zeros((1, 8, 9), dtype="f4")]),
    "masked by dask": da.ma.masked_equal(da.ones((3, 8, 9), chunks=2, dtype="f4"), 1),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", MASKED)
def test_a_masked_array_is_refused_and_nothing_is_made(
    tmp_path: Path, writer: str, kind: str
) -> None:
    with pytest.raises(ArgumentError, match=r"masked.*filled") as caught:
        WRITERS[writer](tmp_path, MASKED[kind])
    assert ("dask.array.ma.filled" in str(caught.value)) == (kind != "numpy")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("writer", ["write_zarr", "write_ome_zarr", "imsave"])
def test_blocks_that_turn_out_masked_are_refused(tmp_path: Path, writer: str) -> None:
    plain = da.ones((4, 8, 9), chunks=(2, 8, 9), dtype="f4")
    hidden = plain.map_blocks(np.ma.masked_equal, 1, meta=np.empty((0, 0, 0), "f4"))
    with pytest.raises(ArgumentError, match="masked"):
        WRITERS[writer](tmp_path, hidden)
    assert not list(tmp_path.iterdir())


def test_what_is_filled_is_written(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", VOLUME.filled(0), 4)
    io.imsave(tmp_path / "a.tif", da.ma.filled(LAZY, 0))
    for found in (io.read_zarr(tmp_path / "a.zarr"), io.imread(tmp_path / "a.tif")):
        np.testing.assert_array_equal(found.compute(), VOLUME.filled(0))
    with pytest.raises(ArgumentError, match="masked"):
        io.write_zarr(tmp_path / "a.zarr", VOLUME, region=(slice(None),))
