"""The reader of bioio: what ``BioImage`` gives of folders, TIFF and Zarr."""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import entry_points, requires
from pathlib import Path

import numpy as np
import pytest
from helpers import write_planes

import scout_dask_io as io

xr = pytest.importorskip("xarray")
BioImage = pytest.importorskip("bioio").BioImage
UnsupportedFileFormatError = pytest.importorskip("bioio_base.exceptions").UnsupportedFileFormatError
Reader = pytest.importorskip("scout_dask_io.read.bioio").Reader

DATA = np.arange(2 * 6 * 40 * 50, dtype="u2").reshape(2, 6, 40, 50)


def test_bioio_finds_the_reader_and_its_bound_on_bioio_base() -> None:
    found = [e for e in entry_points(group="bioio.readers") if e.name == "scout-dask-io"]
    assert [e.load().ReaderMetadata.get_reader() for e in found] == [Reader]
    # bioio reads the bound of every plugin, and fails for all where one states it twice.
    stated = [r for r in requires("scout-dask-io") or () if r.startswith("bioio-base")]
    assert len(stated) == 1


def test_a_folder_of_planes_is_an_image_whatever_it_is_called(tmp_path: Path) -> None:
    write_planes(tmp_path / "planes", DATA[0])
    image = BioImage(tmp_path / "planes")
    assert isinstance(image.reader, Reader)
    assert (image.dims.order, image.shape) == ("TCZYX", (1, 1, 6, 40, 50))
    np.testing.assert_array_equal(image.dask_data[0, 0], DATA[0])
    assert image.physical_pixel_sizes == (None, None, None)


def test_an_image_has_its_channels_levels_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    io.write_ome_zarr(
        path, DATA, (4, 16, 16), channels=["syto", "sox2"], voxel_size=(4, 1.8, 1.8), levels=2
    )
    image = BioImage(path, reader=Reader)
    assert image.channel_names == ["syto", "sox2"]
    assert image.resolution_levels == (0, 1)
    assert image.physical_pixel_sizes == (4.0, 1.8, 1.8)
    assert str(image.dimension_properties.Z.unit) == "micrometer"
    np.testing.assert_array_equal(image.get_image_data("ZYX", C=1), DATA[1])
    image.set_resolution_level(1)
    assert (image.shape, image.physical_pixel_sizes) == ((1, 2, 6, 20, 25), (4.0, 3.6, 3.6))


def test_positions_of_a_dataset_are_scenes(tmp_path: Path) -> None:
    for s in range(2):
        write_planes(tmp_path, DATA[s], names=[f"img_S{s:02}_z{z:03}.tif" for z in range(6)])
    image = BioImage(tmp_path, reader=Reader)
    assert len(image.scenes) == 2
    for k, scene in enumerate(image.scenes):
        image.set_scene(scene)
        np.testing.assert_array_equal(image.data[0, 0], DATA[k])


def test_a_time_step_is_one(tmp_path: Path) -> None:
    times = xr.DataArray(DATA, dims=tuple("tzyx"), coords={"t": ("t", [0, 1.5], {"units": "min"})})
    io.write_zarr(tmp_path / "a.zarr", times, (1, 4, 16, 16))
    image = BioImage(tmp_path / "a.zarr", reader=Reader)
    assert image.dims.order == "TCZYX"
    assert image.time_interval == timedelta(seconds=90)


def test_what_cannot_be_read_is_said_to_be_of_no_format(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(UnsupportedFileFormatError, match="no folder with any"):
        BioImage(tmp_path, reader=Reader)
