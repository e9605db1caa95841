"""Arrays as other and older software wrote them, and large ones in little memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from harness import MiB, figure, run, tree
from helpers import make_volume, shared_data

import scout_dask_io as io

VOLUME = make_volume((5, 20, 21), seed=3)
CHUNKS = (2, 8, 8)


def stored(path: Path, separator: str, says: str | None) -> None:
    """Write an array by zarr with a separator, and let its metadata say another, or nothing."""
    array = zarr.create(
        store=path, shape=VOLUME.shape, chunks=CHUNKS, dtype="u2", zarr_format=2,
        dimension_separator=separator,
    )  # fmt: skip
    array[:] = VOLUME
    metadata = json.loads((path / ".zarray").read_text())
    metadata.pop("dimension_separator", None)
    if says is not None:
        metadata["dimension_separator"] = says
    (path / ".zarray").write_text(json.dumps(metadata))


LAYOUTS = {
    "nested and says so": ("/", "/"),
    "nested and says nothing": ("/", None),
    "nested and says flat": ("/", "."),
    "flat and says so": (".", "."),
    "flat and says nothing": (".", None),
    "flat and says nested": (".", "/"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("nested", [True, False])
def test_row_03_every_layout_reads_right_whatever_it_says(
    tmp_path: Path, layout: str, nested: bool
):
    path = tmp_path / "a.zarr"
    stored(path, *LAYOUTS[layout])
    before = tree(path)
    assert (io.read_zarr(path, nested=nested).compute() == VOLUME).all()
    assert (io.open(path, nested=nested, mode="r")[:] == VOLUME).all()
    assert tree(path) == before
    figure("legacy layouts", read=1, wrong=0)


def test_row_03_both_layouts_in_one_array_are_refused(tmp_path: Path):
    path = tmp_path / "a.zarr"
    stored(path, "/", None)
    # As zarr 3 leaves it after a write to an array that says nothing.
    shutil.copy(path / "0" / "0" / "0", path / "0.0.0")
    for call in (io.read_zarr, io.open):
        with pytest.raises(io.LayoutError, match=r"0\.0\.0"):
            call(path)
    with pytest.raises(io.LayoutError):
        io.write_zarr(path, VOLUME[:2], region=(slice(0, 2),))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_row_03_a_region_is_written_in_the_layout_that_lies_there(tmp_path: Path, layout: str):
    path = tmp_path / "a.zarr"
    stored(path, *LAYOUTS[layout])
    names = sorted(tree(path))
    io.write_zarr(path, VOLUME[2:4] + np.uint16(5), region=(slice(2, 4),))
    expected = VOLUME.copy()
    expected[2:4] += 5
    assert (io.read_zarr(path).compute() == expected).all()
    assert sorted(tree(path)) == names


def test_row_03_the_array_that_scout_wrote_reads_right():
    path, planes = shared_data("legacy_scout.zarr"), shared_data("brain", "ch0")
    found = io.read_zarr(path).compute()
    expected = np.stack([tifffile.imread(p) for p in sorted(planes.glob("*.tif"))])
    assert found.shape == expected.shape
    assert (found == expected).all()
    assert found.any()


def write_long(folder: str, n: int) -> int:
    stack = io.imread_folder(folder, chunks=(16, -1, -1))[:n]
    io.write_zarr(f"{folder}-{n}.zarr", stack, (8, 16, 16), max_mem="100MB", nb_workers=2)
    return len(stack)


@pytest.mark.slow
def test_row_26_two_thousand_planes_and_twenty_thousand_chunks_in_little_memory(tmp_path: Path):
    folder = tmp_path / "p"
    folder.mkdir()
    plane = make_volume((1, 128, 160), seed=1)[0]
    for k in range(2000):
        tifffile.imwrite(folder / f"z{k:04d}.tif", plane + np.uint16(k), photometric="minisblack")
    short = run(write_long, str(folder), 500, nofile=256, seconds=300)
    whole = run(write_long, str(folder), 2000, nofile=256, seconds=300)
    assert not short.error, str(short)
    assert not whole.error, str(whole)
    array = io.open(f"{folder}-2000.zarr", mode="r")
    assert array.nchunks == 20_000
    assert (array[1234] == plane + np.uint16(1234)).all()
    row = 8 * 128 * 160 * 2
    figure("load", chunks=20_000, planes=2000, peak_MiB=whole.peak_nbytes // MiB,
           peak_of_a_quarter_MiB=short.peak_nbytes // MiB)  # fmt: skip
    assert whole.peak_nbytes < 300 * MiB + 4 * row
    assert whole.peak_nbytes < short.peak_nbytes * 1.1 + 16 * MiB
