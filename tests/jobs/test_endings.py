"""A TIFF is one by whichever of its endings, wherever ``.tif`` would be: one list for all."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.view.napari import get_reader

ENDINGS = [".stk", ".lsm", ".btf", ".svs", ".tf8", ".ome.tif", ".qptiff", ".TIFF"]


def write(path: Path, plane: np.ndarray) -> None:
    tifffile.imwrite(path, plane, photometric="minisblack", metadata=None)


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_file_is_read_by_every_verb(tmp_path, ending):
    plane = make_volume((3, 23, 31))[1]
    path = tmp_path / f"cells{ending}"
    write(path, plane)
    assert io.info(path).shape == plane.shape
    (found,) = io.scan(path).folders
    assert (found.ok, found.shape) == (True, plane.shape)
    np.testing.assert_array_equal(io.imread(path).compute(), plane)
    assert get_reader(str(path)) is not None
    io.convert(path, tmp_path / "a.zarr")
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr").compute(), plane)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_folder_of_them_is_one_of_planes(tmp_path, ending):
    volume = make_volume((3, 23, 31))
    for k, plane in enumerate(volume):
        write(tmp_path / f"z{k:03d}{ending}", plane)
    (tmp_path / "notes.txt").write_text("?")
    np.testing.assert_array_equal(io.imread_folder(tmp_path).compute(), volume)
    assert io.info(tmp_path).shape == volume.shape
    assert io.scan(tmp_path).folders[0].n_files == 3
    assert get_reader([str(p) for p in sorted(tmp_path.glob("z*"))]) is not None


@pytest.mark.parametrize("ending", ENDINGS)
def test_names_of_two_channels_are_read_whatever_they_end_in(tmp_path, ending):
    volume = make_volume((2, 3, 23, 31))
    for c, z in np.ndindex(2, 3):
        write(tmp_path / f"brain_C{c:02d}_Z{z:03d}{ending}", volume[c, z])
    np.testing.assert_array_equal(io.imread_dataset(tmp_path).compute(), volume)


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_at_a_url_is_found(tmp_path, ending):
    plane = make_volume((3, 23, 31))[1]
    write(tmp_path / "a.tif", plane)
    fs = fsspec.filesystem("memory")
    url = f"memory://endings/cells{ending}"
    fs.pipe(url, (tmp_path / "a.tif").read_bytes())
    try:
        assert io.info(url).shape == plane.shape
        assert io.scan(url).ok
        assert io.info("memory://endings").shape == (1, *plane.shape)
        np.testing.assert_array_equal(io.imread(url).compute(), plane)
    finally:
        fs.rm("memory://endings", recursive=True)


def test_a_file_of_no_such_name_is_scanned_if_it_is_a_tiff(tmp_path):
    plane = make_volume((3, 23, 31))[1]
    write(tmp_path / "cells.img", plane)
    assert io.scan(tmp_path / "cells.img").folders[0].shape == plane.shape
    np.save(tmp_path / "a.npy", plane)
    with pytest.raises(io.ArgumentError, match=r"a\.npy.*neither a folder nor a TIFF file"):
        io.scan(tmp_path / "a.npy")


def test_a_file_of_two_images_is_scanned_as_it_is_read(tmp_path):
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as out:
        out.write(make_volume((2, 23, 31))[1], metadata=None)
        out.write(make_volume((2, 17, 19), "u1")[1], metadata=None)
    for series, shape in ((None, (23, 31)), (0, (23, 31)), (1, (17, 19))):
        (found,) = io.scan(path, series=series).folders
        assert (found.ok, found.shape) == (True, shape)
    with pytest.raises(io.ArgumentError, match=r"two\.tif.*no series 2.*it has 2"):
        io.scan(path, series=2)
