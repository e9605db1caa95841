"""From and to everything: each line of ``docs/conversions.md`` is run, and its pixels compared."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.cli import main

VOLUME = make_volume((9, 50, 42))
CELLS = (VOLUME % 5).astype("u2")
TEXT = (Path(__file__).parents[2] / "docs/conversions.md").read_text()
ROWS = re.findall(r"^\| (.+?) \| (.+?) \| `(.+?)` \|$", TEXT, re.M)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with whatever the commands name."""
    here = tmp_path_factory.mktemp("conversions")
    io.write_zarr(here / "v2.zarr", VOLUME, (4, 16, 16))
    io.write_zarr(here / "v3.zarr", VOLUME, (4, 16, 16), zarr_format=3)
    io.write_zarr(here / "shards.zarr", VOLUME, (4, 8, 8), zarr_format=3, shards=(8, 16, 16))
    filtered = zarr.create_array(
        here / "filtered.zarr", shape=VOLUME.shape, dtype=VOLUME.dtype, chunks=(5, 16, 20),
        zarr_format=2, filters=[numcodecs.Delta(VOLUME.dtype)], order="F",
    )  # fmt: skip
    filtered[...] = VOLUME
    for name, version in (("image.ome.zarr", "0.4"), ("image5.ome.zarr", "0.5")):
        io.write_ome_zarr(here / name, VOLUME, (4, 16, 16), levels=2, version=version)
    io.write_labels(here / "image.ome.zarr", "cells", CELLS)
    tifffile.imwrite(here / "stack.tif", VOLUME, photometric="minisblack")
    tifffile.imwrite(here / "seg.tif", CELLS, photometric="minisblack")
    (here / "planes").mkdir()
    for n, plane in enumerate(VOLUME):
        tifffile.imwrite(here / f"planes/z{n:03d}.tif", plane)
    np.save(here / "volume.npy", VOLUME)
    np.save(here / "fortran.npy", np.asfortranarray(VOLUME))
    try:
        import h5py
    except ImportError:
        return here
    with h5py.File(here / "volume.h5", "w") as file:
        file.create_dataset("data", data=VOLUME, chunks=(4, 16, 16), compression="gzip")
    with h5py.File(here / "many.h5", "w") as file:
        file["t00000/s00/0/cells"] = VOLUME
        file["t00000/s01/0/cells"] = VOLUME + 1
    with h5py.File(here / "scan.ims", "w") as file:
        channel = file.create_group("DataSet/ResolutionLevel 0/TimePoint 0/Channel 0")
        padded = np.zeros((16, 64, 64), VOLUME.dtype)
        padded[:9, :50, :42] = VOLUME
        channel.create_dataset("Data", data=padded, chunks=(8, 32, 32), compression="gzip")
        for axis, n in zip("ZYX", VOLUME.shape, strict=True):
            channel.attrs[f"ImageSize{axis}"] = np.array(list(str(n)), "S1")
        file["DataSetInfo/Image"] = np.zeros((2, 2))
    return here


def test_the_tables_have_rows() -> None:
    assert len(ROWS) > 25


@pytest.mark.parametrize("command", [row[2] for row in ROWS])
def test_a_conversion_of_the_tables(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    if ".h5" in command or ".ims" in command:
        pytest.importorskip("h5py")
    for entry in sources.iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    if "--into" in command:
        (tmp_path / "image.ome.zarr").unlink()
        shutil.copytree(sources / "image.ome.zarr", tmp_path / "image.ome.zarr")
    if "pyramid" in command:
        (tmp_path / "v2.zarr").unlink()
        shutil.copytree(sources / "v2.zarr", tmp_path / "v2.zarr")
    monkeypatch.chdir(tmp_path)
    _, *words = shlex.split(command)
    with pytest.raises(SystemExit) as ended:
        main([*words, "-q"])
    assert not ended.value.code
    if words[0] == "export":
        made = Path(words[2])
        files = sorted(made.iterdir()) if made.is_dir() else made
        found = tifffile.imread(files)
    elif "--into" in words:
        found = io.read_zarr("image.ome.zarr", label="seg").compute()
    else:
        found = io.read_zarr(words[2]).compute()
    expected = VOLUME
    if "/1 " in command:
        expected = zarr.open_array(sources / "image.ome.zarr/1", mode="r")[...]
    elif "labels/cells" in command or "--into" in command:
        expected = CELLS
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype
    if "--labels-too" in command:
        np.testing.assert_array_equal(io.read_zarr(words[2], label="cells").compute(), CELLS)
