"""``to_xarray`` and back: dimensions, coordinates and names as files state them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from helpers import write_planes

import scout_dask_io as io

xr = pytest.importorskip("xarray")

DATA = np.arange(2 * 6 * 40 * 50, dtype="u2").reshape(2, 6, 40, 50)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.ome.zarr"
    io.write_ome_zarr(
        path, DATA, (4, 16, 16), channels=["syto", "sox2"], voxel_size=(4, 1.8, 1.8), levels=2
    )
    return path


def test_an_image_becomes_a_lazy_array_with_its_axes_names_and_micrometres(image: Path) -> None:
    found = io.to_xarray(image)
    assert isinstance(found.data, da.Array)
    assert (found.dims, found.shape, found.dtype) == (("c", "z", "y", "x"), DATA.shape, "u2")
    assert found.c.values.tolist() == ["syto", "sox2"]
    np.testing.assert_allclose(found.z, 4.0 * np.arange(6))
    np.testing.assert_allclose(found.x, 1.8 * np.arange(50))
    assert {d: found[d].attrs for d in "zyx"} == {dim: {"units": "micrometer"} for dim in "zyx"}
    np.testing.assert_array_equal(found.sel(c="sox2", z=8.0), DATA[1, 2])


def test_a_level_has_the_coordinates_of_its_own_voxels(image: Path) -> None:
    found = io.to_xarray(image, level=1)
    lower = zarr.open_array(str(image / "1"), mode="r")
    np.testing.assert_array_equal(found, lower[:])
    # Its voxels are two of level 0, and lie amid them.
    scale, shift = json.loads((image / ".zattrs").read_text())["multiscales"][0]["datasets"][1][
        "coordinateTransformations"
    ]
    for n, dim in enumerate("czyx"[1:], start=1):
        expected = shift["translation"][n] + scale["scale"][n] * np.arange(found.sizes[dim])
        np.testing.assert_allclose(found[dim], expected)


def test_a_folder_of_planes_without_a_size_has_no_coordinates(tmp_path: Path) -> None:
    write_planes(tmp_path / "planes", DATA[0])
    found = io.to_xarray(tmp_path / "planes")
    assert (found.dims, dict(found.coords)) == (("z", "y", "x"), {})
    np.testing.assert_array_equal(found, DATA[0])


def test_an_array_of_a_reader_has_what_its_files_state(image: Path) -> None:
    found = io.to_xarray(io.read_zarr(image))
    xr.testing.assert_identical(found.rename("image.ome.zarr"), io.to_xarray(image))
    plain = io.to_xarray(da.ones((3, 4)))
    assert (plain.dims, dict(plain.coords)) == (("dim_0", "dim_1"), {})


@pytest.mark.parametrize(
    ("write", "suffix"), [(io.write_zarr, ".zarr"), (io.write_ome_zarr, ".ome.zarr")]
)
def test_a_part_that_was_computed_keeps_where_it_lies(
    image: Path, tmp_path: Path, write: object, suffix: str
) -> None:
    part = io.to_xarray(image).isel(z=slice(2, 6), y=slice(10, 40)).sel(c=["sox2"]) + 1
    path = tmp_path / f"part{suffix}"
    write(path, part, (4, 16, 16))  # type: ignore[operator]
    found = io.to_xarray(path)
    assert found.dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(found, DATA[1:, 2:6, 10:] + 1)
    assert found.c.values.tolist() == ["sox2"]
    for dim in "zyx":
        np.testing.assert_allclose(found[dim], part[dim])
        assert found[dim].attrs["units"] == "micrometer"
    assert io.voxel_size(path) is not None
    assert io.voxel_size(path).micrometres == (4.0, 1.8, 1.8)  # type: ignore[union-attr]


def test_dimensions_in_another_order_and_in_words_are_put_in_the_order_of_images(
    tmp_path: Path,
) -> None:
    array = xr.DataArray(
        np.moveaxis(DATA, 0, -1),
        dims=("Depth", "y", "x", "channel"),
        coords={
            "channel": ["a", "b"],
            "Depth": ("Depth", 3.0 + 2.5 * np.arange(6), {"units": "mm"}),
        },
        attrs={"stain": "syto", "gain": np.float32(2.0)},
    )
    io.write_ome_zarr(tmp_path / "a.ome.zarr", array, (4, 16, 16))
    found = io.to_xarray(tmp_path / "a.ome.zarr")
    assert found.dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(found, DATA)
    np.testing.assert_allclose(found.z, 3.0 + 2.5 * np.arange(6))
    assert (found.z.attrs, found.c.values.tolist()) == ({"units": "mm"}, ["a", "b"])
    assert found.attrs == {"stain": "syto", "gain": 2.0}


def test_times_keep_their_step_through_a_plain_array(tmp_path: Path) -> None:
    array = xr.DataArray(
        DATA, dims=tuple("tzyx"), coords={"t": ("t", [10.0, 40.0], {"units": "second"})}
    )
    io.write_zarr(tmp_path / "a.zarr", array, (1, 4, 16, 16))
    found = io.to_xarray(tmp_path / "a.zarr")
    assert (found.dims, found.t.values.tolist()) == (tuple("tzyx"), [10.0, 40.0])
    assert found.t.attrs == {"units": "second"}


@pytest.mark.parametrize("dims", ["tczyx", "xyzct"])
def test_an_array_with_coordinates_becomes_a_tiff_with_all_that_it_states(
    tmp_path: Path, dims: str
) -> None:
    data = np.arange(2 * 3 * 4 * 20 * 24, dtype="u2").reshape(2, 3, 4, 20, 24)
    image = xr.DataArray(
        da.from_array(data), dims=list("tczyx"),
        coords={
            "t": ("t", [0.0, 2.5], {"units": "second"}),
            "c": ["dapi", "gfp", "syto"],
            "z": ("z", 10 + 4.0 * np.arange(4), {"units": "micrometer"}),
            "y": ("y", 1.5 * np.arange(20), {"units": "micrometer"}),
            "x": ("x", 1.5 * np.arange(24), {"units": "micrometer"}),
        },
    ).transpose(*dims)  # fmt: skip
    io.imsave(tmp_path / "a.ome.tif", image)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.series[0].axes == "TCZYX"
        np.testing.assert_array_equal(tif.asarray(), data)
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert [pixels[f"PhysicalSize{a}"] for a in "ZYX"] == [4.0, 1.5, 1.5]
    assert [c["Name"] for c in pixels["Channel"]] == ["dapi", "gfp", "syto"]
    assert (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (2.5, "s")
    back = io.to_xarray(tmp_path / "a.ome.tif")
    assert back.z.values.tolist() == [10.0, 14.0, 18.0, 22.0]


def test_an_image_of_another_order_keeps_colours_and_windows(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=np.arange(24 * 20 * 2, dtype="u2").reshape(24, 20, 2))
    axes = [{"name": a, "type": "channel" if a == "c" else "space"} for a in "xyc"]
    steps = [{"type": "scale", "scale": [0.5, 0.25, 1.0]}]
    channels = [
        {"label": n, "color": k, "window": {"start": 1, "end": 9, "min": 0, "max": 99}}
        for n, k in (("dapi", "0000FF"), ("gfp", "00FF00"))
    ]
    group.attrs["multiscales"] = [{
        "version": "0.4", "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }]  # fmt: skip
    group.attrs["omero"] = {"channels": channels, "rdefs": {"model": "color"}}
    io.write_ome_zarr(tmp_path / "b.zarr", io.to_xarray(tmp_path / "a.zarr"))
    found = dict(zarr.open_group(tmp_path / "b.zarr", mode="r").attrs)
    shown = found["omero"]
    assert [(c["label"], c["color"]) for c in shown["channels"]] == [
        ("dapi", "0000FF"), ("gfp", "00FF00"),
    ]  # fmt: skip
    assert all(c["window"] == channels[0]["window"] for c in shown["channels"])
    assert shown["rdefs"] == {"model": "color"}
    assert [a["name"] for a in found["multiscales"][0]["axes"]] == ["c", "y", "x"]
    (step,) = found["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert step["scale"] == [1.0, 0.25, 0.5]


def test_coordinates_that_rise_unevenly_are_told_of_and_left(tmp_path: Path) -> None:
    array = xr.DataArray(DATA[0], dims=tuple("zyx"), coords={"z": [0.0, 1, 2, 4, 5, 6]})
    with pytest.warns(UserWarning, match="'z' do not rise in even steps"):
        io.write_zarr(tmp_path / "a.zarr", array, (4, 16, 16))
    assert "z" not in io.to_xarray(tmp_path / "a.zarr").coords


def test_a_dataset_is_refused_with_the_variable_to_choose(tmp_path: Path) -> None:
    several = xr.Dataset({"raw": (tuple("zyx"), DATA[0])})
    with pytest.raises(io.ArgumentError, match=r"data\['raw'\]"):
        io.write_zarr(tmp_path / "a.zarr", several)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    io.write_zarr(tmp_path / "a.zarr", several["raw"])


def test_the_plan_is_the_one_that_the_write_follows(image: Path) -> None:
    array = io.to_xarray(image)
    assert io.plan_zarr(array, (4, 16, 16)).shape == DATA.shape
    assert io.plan_ome_zarr(array.transpose("z", "c", "y", "x"), (4, 16, 16)).axes == "czyx"


def test_a_level_of_an_image_opens_in_xarray_with_its_dimensions(image: Path) -> None:
    found = xr.open_zarr(image, consolidated=False, drop_variables=["1"], mask_and_scale=False)
    assert found["0"].dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(found["0"], DATA)


def test_an_ome_tiff_has_its_dimensions_and_sizes(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        DATA,
        metadata={"axes": "TZYX", "PhysicalSizeZ": 2, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5},
        photometric="minisblack",
    )
    found = io.to_xarray(tmp_path / "a.ome.tif")
    assert found.dims == tuple("tzyx")
    np.testing.assert_allclose(found.y, 0.5 * np.arange(40))


def test_without_xarray_the_rest_of_the_library_goes_on(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    np.testing.assert_array_equal(io.read_zarr(image), DATA)
    with pytest.raises(ImportError):
        io.to_xarray(image)
