"""Axes that metadata state are followed by every job, whatever their names and order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, LayoutError

EXTENTS = {"t": 2, "c": 3, "z": 5, "y": 12, "x": 14}
TYPES = {"t": "time", "c": "channel"}
#: Names that state axes, and the letters that they mean.
STATED = [
    (["X", "Y", "Z"], "xyz"),
    (["z", "y", "x", "channel"], "zyxc"),
    (["Time", "depth", "row", "column"], "tzyx"),
    (["frame", "y", "x"], "tyx"),
    (["c", "t", "z", "y", "x"], "ctzyx"),
    (["x", "y"], "xy"),
]


def volume(axes: str) -> np.ndarray:
    """Give an array of axes, every element along them another."""
    return make_volume(tuple(EXTENTS[a] for a in axes))


def stored(path: Path, names: list[str], axes: str, way: str) -> np.ndarray:
    """Write an array as other software has it, and give its pixels as an image has them."""
    data = volume(axes)
    where: Any = path / "0" if way == "image" else path
    of_v3 = {"dimension_names": names} if way == "v3" else {}
    attributes = {"_ARRAY_DIMENSIONS": names} if way == "v2" else {}
    if way == "image":
        entries = [
            {"name": n, "type": TYPES.get(a, "space")} for n, a in zip(names, axes, strict=True)
        ]
        steps = [{"type": "scale", "scale": [1.0] * len(axes)}]
        datasets = [{"path": "0", "coordinateTransformations": steps}]
        image = {"version": "0.4", "axes": entries, "datasets": datasets}
        zarr.open_group(path, mode="w", zarr_format=2).attrs["multiscales"] = [image]
    array = zarr.create_array(
        where, shape=data.shape, chunks=tuple(max(1, n // 2) for n in data.shape), dtype="u2",
        zarr_format=3 if way == "v3" else 2, attributes=attributes, **of_v3,
    )  # fmt: skip
    array[...] = data
    return data.transpose([axes.index(a) for a in "tczyx" if a in axes])


@pytest.mark.parametrize("way", ["v2", "v3", "image"])
@pytest.mark.parametrize(("names", "axes"), STATED)
def test_every_job_follows_the_axes_that_are_stated(
    tmp_path: Path, names: list[str], axes: str, way: str
):
    right = stored(tmp_path / "a.zarr", names, axes, way)
    order = "".join(a for a in "tczyx" if a in axes)
    assert io.info(tmp_path / "a.zarr").axes == axes
    io.export(tmp_path / "a.zarr", tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert dict(zip(tif.series[0].axes.lower(), tif.series[0].shape, strict=True)) == {
            a: EXTENTS[a] for a in axes
        }
        assert np.array_equal(tif.asarray(), right)
    io.convert(tmp_path / "a.zarr", tmp_path / "b.ome.zarr", ome=True)
    assert io.info(tmp_path / "b.ome.zarr").axes == order
    assert np.array_equal(io.read_zarr(tmp_path / "b.ome.zarr").compute(), right)
    assert io.verify(tmp_path / "a.zarr", tmp_path / "b.ome.zarr").equal
    assert io.preview(tmp_path / "a.zarr").shape[-2:] == (12, 14)
    io.convert(tmp_path / "b.ome.zarr", tmp_path / "c.zarr")
    assert io.info(tmp_path / "c.zarr").axes == order


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("axes", ["tyx", "cyx", "zcyx", "tzcyx"])
def test_a_hyperstack_keeps_its_axes_through_a_plain_array_and_back(
    tmp_path: Path, axes: str, zarr_format: int
):
    data = volume(axes)
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": axes.upper()})
    io.convert(tmp_path / "a.tif", tmp_path / "a.zarr", zarr_format=zarr_format)
    array = zarr.open_array(tmp_path / "a.zarr", mode="r")
    kept = array.metadata.dimension_names if zarr_format == 3 else array.attrs["_ARRAY_DIMENSIONS"]
    assert list(kept) == list(axes)
    io.export(tmp_path / "a.zarr", tmp_path / "b.tif", imagej=True)
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.series[0].axes.lower() == "".join(a for a in "tzcyx" if a in axes)
    assert io.verify(tmp_path / "a.tif", tmp_path / "b.tif").equal


@pytest.mark.parametrize(
    ("samples", "dtype", "axes"), [(3, "u1", "zyxs"), (2, "f4", "zyxc"), (5, "u2", "zyxc")]
)
def test_pages_with_samples_are_planes_in_a_plain_array_and_no_channels(
    tmp_path: Path, samples: int, dtype: str, axes: str
):
    pages = make_volume((3, 9, 8, samples), dtype)
    photometric = "rgb" if axes[-1] == "s" else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif", pages, photometric=photometric, planarconfig="contig", metadata=None
    )
    io.convert(tmp_path / "a.tif", tmp_path / "a.zarr")
    assert io.info(tmp_path / "a.zarr").axes == axes
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr").compute(), pages)
    io.export(tmp_path / "a.zarr", tmp_path / "b.ome.tif")
    told = io.info(tmp_path / "b.ome.tif")
    assert dict(zip(told.axes, told.shape, strict=True))["z"] == 3
    assert len(io.preview(tmp_path / "a.zarr").channels) == samples


def test_names_of_axes_can_be_given_to_a_writer_and_must_fit(tmp_path: Path):
    io.write_zarr(tmp_path / "a.zarr", volume("tyx"), axes=["time", "y", "x"])
    assert io.info(tmp_path / "a.zarr").axes == "tyx"
    with pytest.raises(ArgumentError, match="axes must be 3 letters or names"):
        io.write_zarr(tmp_path / "b.zarr", volume("tyx"), axes="zyxc")
    assert not (tmp_path / "b.zarr").exists()


@pytest.mark.parametrize("way", ["v2", "image"])
def test_axes_that_do_not_fit_the_array_are_refused_by_name(tmp_path: Path, way: str):
    stored(tmp_path / "a.zarr", ["z", "y", "x"], "zyx", way)
    flat = tmp_path / "a.zarr" / ("0" if way == "image" else "")
    attributes = {"_ARRAY_DIMENSIONS": ["z", "y", "x"]} if way == "v2" else {}
    zarr.create_array(
        flat, shape=(2, 3), dtype="u1", zarr_format=2, overwrite=True, attributes=attributes
    )
    if way == "v2":  # info tells of what cannot be read, too
        assert "axes" in io.info(tmp_path / "a.zarr").render()
    for job in (io.preview, lambda p: io.convert(p, tmp_path / "b.zarr", ome=True)):
        with pytest.raises(LayoutError, match="axes"):
            job(tmp_path / "a.zarr")
    if way == "image":  # the way out that is named
        assert io.read_zarr(flat).shape == (2, 3)
        assert io.info(flat).shape == (2, 3)


@pytest.mark.parametrize("names", [["angle", "y", "x"], ["t", "y", "c"]])
def test_axes_that_no_picture_has_are_refused_not_guessed(tmp_path: Path, names: list[str]):
    zarr.create_array(
        tmp_path / "a.zarr", shape=(2, 3, 4), dtype="u1", zarr_format=3, dimension_names=names
    )
    with pytest.raises(ArgumentError, match="has the axes"):
        io.convert(tmp_path / "a.zarr", tmp_path / "b.zarr", ome=True)
    with pytest.raises(ArgumentError, match="has the axes"):
        io.preview(tmp_path / "a.zarr")
    io.convert(tmp_path / "a.zarr", tmp_path / "c.zarr")


def image_axes(path: Path) -> str:
    """Give the axes that an image states."""
    (image,) = dict(zarr.open_group(path, mode="r").attrs)["multiscales"]
    return "".join(a["name"] for a in image["axes"])


@pytest.mark.parametrize("axes", ["tzyx", "cyx", "tyx", "tcyx", "yx"])
def test_an_image_of_data_as_a_reader_gave_them_has_the_axes_that_they_state(
    tmp_path: Path, axes: str, recwarn: pytest.WarningsRecorder
):
    data = volume(axes)
    io.write_zarr(tmp_path / "a.zarr", data, axes=axes)
    lazy = io.read_zarr(tmp_path / "a.zarr")
    io.write_ome_zarr(tmp_path / "b.zarr", lazy, levels=1)
    assert image_axes(tmp_path / "b.zarr") == axes
    io.imsave(tmp_path / "b.ome.tif", lazy)
    io.imsave(tmp_path / "b.tif", lazy)
    for name in ("b.ome.tif", "b.tif"):
        assert io.info(tmp_path / name).axes == axes
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name), data)
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


@pytest.mark.parametrize("axes", ["xyz", "zyxc", "ctzyx"])
def test_axes_in_another_order_are_refused_by_writers_of_images(tmp_path: Path, axes: str):
    io.write_zarr(tmp_path / "a.zarr", volume(axes), axes=axes)
    lazy = io.read_zarr(tmp_path / "a.zarr")
    told = f"stated to have the axes {', '.join(axes)}"
    with pytest.raises(ArgumentError, match=told):
        io.write_ome_zarr(tmp_path / "b.zarr", lazy)
    with pytest.raises(ArgumentError, match=told):
        io.imsave(tmp_path / "b.ome.tif", lazy)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr"]
    # The two ways that the errors name.
    io.convert(tmp_path / "a.zarr", tmp_path / "b.zarr", ome=True)
    assert image_axes(tmp_path / "b.zarr") == "".join(a for a in "tczyx" if a in axes)
    order = [axes.index(a) for a in "tczyx" if a in axes]
    io.write_ome_zarr(
        tmp_path / "c.zarr", lazy.transpose(order), axes="".join(axes[k] for k in order)
    )
    io.imsave(tmp_path / "b.tif", lazy)
    np.testing.assert_array_equal(io.imread(tmp_path / "b.tif").compute(), volume(axes))


def test_colour_samples_are_no_axis_of_space(tmp_path: Path):
    tifffile.imwrite(tmp_path / "rgb.tif", volume("yx")[..., None].repeat(3, -1).astype("u1"))
    with pytest.raises(ArgumentError, match="axes y, x, s"):
        io.write_ome_zarr(tmp_path / "a.zarr", io.imread(tmp_path / "rgb.tif"))


@pytest.mark.parametrize(("ndim", "axes"), [(3, "zyx"), (4, "czyx"), (5, "tczyx")])
def test_a_guess_is_told(tmp_path: Path, ndim: int, axes: str):
    data = volume("tczyx"[-ndim:])
    np.save(tmp_path / "a.npy", data)
    text = f"nothing states the axes.*taken as {', '.join(axes)}"
    with pytest.warns(UserWarning, match=text):
        io.write_ome_zarr(tmp_path / "a.zarr", data, levels=1)
    with pytest.warns(UserWarning, match=text):
        io.convert(tmp_path / "a.npy", tmp_path / "b.zarr", ome=True)
    with pytest.warns(UserWarning, match=f"nothing states.*{', '.join(axes)}"):
        io.imsave(tmp_path / "a.ome.tif", data)


def test_what_the_caller_says_of_axes_is_no_guess(tmp_path: Path, recwarn: pytest.WarningsRecorder):
    data = volume("zyx")
    io.write_ome_zarr(tmp_path / "a.zarr", data, axes="zyx")
    io.write_ome_zarr(tmp_path / "b.zarr", data, voxel_size=(3, 1, 1))
    io.write_ome_zarr(tmp_path / "c.zarr", data, channels=list("abcde"))
    assert image_axes(tmp_path / "c.zarr") == "cyx"
    io.write_ome_zarr(tmp_path / "d.zarr", volume("yx"))
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


@pytest.mark.parametrize("given", ["tyx", "xyt", "cyx", "xzy"])
def test_axes_can_be_given_to_convert_and_to_verify(tmp_path: Path, given: str):
    data = make_volume((4, 12, 14))
    np.save(tmp_path / "a.npy", data)
    io.convert(tmp_path / "a.npy", tmp_path / "b.zarr", ome=True, axes=given)
    order = [given.index(a) for a in "tczyx" if a in given]
    assert image_axes(tmp_path / "b.zarr") == "".join(given[k] for k in order)
    found = io.read_zarr(tmp_path / "b.zarr").compute()
    np.testing.assert_array_equal(found, data.transpose(order))
    assert io.verify(tmp_path / "a.npy", tmp_path / "b.zarr", axes=given).equal
    io.convert(tmp_path / "a.npy", tmp_path / "c.zarr", axes=given)
    assert io.info(tmp_path / "c.zarr").axes == given
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "c.zarr").compute(), data)


@pytest.mark.parametrize("given", ["yx", "zzyx", "abc", "zyq", "tcz"])
def test_axes_that_are_given_must_fit(tmp_path: Path, given: str):
    np.save(tmp_path / "a.npy", make_volume((4, 12, 14)))
    with pytest.raises(ArgumentError, match=f"3 different letters.*{given}"):
        io.convert(tmp_path / "a.npy", tmp_path / "b.zarr", ome=True, axes=given)
    assert not (tmp_path / "b.zarr").exists()


def test_axes_that_sizes_or_channels_tell_are_no_guess(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
):
    io.write_zarr(tmp_path / "a.zarr", volume("zyx"), voxel_size=(3, 1, 1))
    io.write_zarr(tmp_path / "b.zarr", volume("czyx"), attributes={"channels": ["a", "b", "c"]})
    for name, axes in (("a", "zyx"), ("b", "czyx")):
        io.convert(tmp_path / f"{name}.zarr", tmp_path / f"{name}.ome.zarr", ome=True)
        assert image_axes(tmp_path / f"{name}.ome.zarr") == axes
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]
