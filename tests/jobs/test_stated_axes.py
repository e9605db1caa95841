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
