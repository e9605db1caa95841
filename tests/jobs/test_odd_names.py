"""Folders that are no one stack by their names: convert and scan say so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import make_volume, write_planes

import scout_dask_io as io


def folder(path: Path, names: list[str]) -> Path:
    write_planes(path, make_volume((len(names), 30, 40)), names=names)
    return path


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([f"brain_z{z:03d}_ch01.tif" for z in (0, 1, 2, 4, 5)], "missing by the names: z 3"),
        ([f"img_{z:03d}_488nm.tif" for z in (0, 1, 3, 4)], "missing by the names: z 2"),
        ([*(f"z{z:03d}.tif" for z in range(5)), "background.tif"],
         "'background.tif' is not named as the others are"),
        ([*(f"z{z:03d}.tif" for z in range(5)), "z002 - Copy.tif"], "'z002 - Copy.tif'"),
    ],
)  # fmt: skip
def test_convert_refuses_and_scan_tells_of_names_that_make_no_one_stack(
    tmp_path: Path, names: list[str], told: str
):
    src = folder(tmp_path / "src", names)
    with pytest.raises(io.ArgumentError, match=re.escape(told)):
        io.convert(src, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    with pytest.warns(UserWarning, match=re.escape(told)):
        io.convert(src, tmp_path / "a.zarr", names="allow")
    assert io.read_zarr(tmp_path / "a.zarr").shape == (len(names), 30, 40)
    report = io.scan(src)
    assert any(told in text for text in report.folders[0].warnings)


def test_convert_of_names_that_may_be_read_in_two_ways_is_told_which_one(tmp_path: Path):
    src = folder(tmp_path / "src", [f"{a:02d}_{b:02d}.tif" for a in range(3) for b in range(2)])
    with pytest.raises(io.ArgumentError, match=r"do not say which axis is which") as caught:
        io.convert(src, tmp_path / "a.zarr")
    assert str(caught.value) in io.scan(src).mismatch
    assert not io.scan(src).ok
    io.convert(src, tmp_path / "a.zarr", pattern="{z}_{c}.tif")
    assert io.read_zarr(tmp_path / "a.zarr").shape == (2, 3, 30, 40)
    with pytest.warns(UserWarning, match="several numbers vary"):
        io.convert(src, tmp_path / "b.zarr", names="ignore")
    assert io.read_zarr(tmp_path / "b.zarr").shape == (6, 30, 40)


def test_an_image_says_how_the_names_were_read_that_it_was_made_of(tmp_path: Path):
    names = [f"b_S{p}_C{c:02d}_Z{z:04d}.tif" for p in range(2) for c in range(2) for z in range(4)]
    src = folder(tmp_path / "src", names)
    volume = io.imread_dataset(src, position="S1")
    io.convert(src, tmp_path / "a.ome.zarr", ome=True, position="S1")
    io.convert(src, tmp_path / "a.zarr", position="S1")
    io.write_ome_zarr(tmp_path / "b.ome.zarr", volume)
    for array in ("a.ome.zarr/0", "a.zarr", "b.ome.zarr/0"):
        record = dict(io.open(tmp_path / array, mode="r").attrs)["dataset"]
        assert record["axes"] == "czyx"
        assert record["position"] == "S1"
        assert record["fields"]["z"] == ["Z0", "Z1", "Z2", "Z3"]
        again = io.imread_dataset(src, record["pattern"], position="1")
        np.testing.assert_array_equal(again.compute(), volume.compute())
    io.write_zarr(tmp_path / "c.zarr", volume[:, 1:3].rechunk(5))
    assert "dataset" not in io.open(tmp_path / "c.zarr", mode="r").attrs


TWO_CHANNELS = [
    [f"b_C{c:02d}_xyz-Table Z{z:04d}.ome.tif" for c in range(2) for z in range(4)],
    [f"S1_z{z:02d}_ch{c:02d}.tif" for z in range(4) for c in range(2)],
]


@pytest.mark.parametrize("names", TWO_CHANNELS, ids=["one after the other", "in turn"])
def test_jobs_agree_about_two_channels_in_one_folder(tmp_path: Path, names: list[str]):
    src, dst = folder(tmp_path / "src", names), tmp_path / "a.zarr"
    with pytest.warns(UserWarning, match=r"is read by the names.*2 channels x 4 planes"):
        io.convert(src, dst)
    volume = io.read_zarr(dst)
    np.testing.assert_array_equal(volume.compute(), io.imread_dataset(src).compute())
    assert io.verify(src, dst).equal
    attributes = dict(io.open(dst, mode="r").attrs)
    labels = io.channel_names(src)
    assert attributes["channels"] == attributes["dataset"]["fields"]["channel"] == labels
    again = io.imread_dataset(src, attributes["dataset"]["pattern"])
    np.testing.assert_array_equal(again.compute(), volume.compute())
    report, info = io.scan(src), io.info(src)
    assert report.ok
    assert info.axes == "czyx"
    assert report.reading == info.reading == "8 files: 2 channels x 4 planes"
    assert report.fields == info.fields
    assert f"2: {labels[0]}, {labels[1]}" in report.render()
    assert io.preview(src).channels == tuple(labels)


def test_jobs_take_the_position_that_is_asked_for(tmp_path: Path):
    names = [f"S{s}_z{z}.tif" for s in range(2) for z in range(3)]
    src = folder(tmp_path / "src", names)
    with pytest.raises(io.ArgumentError, match=r"2 positions: 'S0', 'S1'"):
        io.convert(src, tmp_path / "a.zarr")
    assert io.scan(src).positions == ("S0", "S1")
    with pytest.warns(UserWarning, match="is read by the names"):
        io.convert(src, tmp_path / "a.zarr", position="S1", ome=True)
    want = io.imread_dataset(src, position="S1").compute()
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr").compute(), want)
    assert io.verify(src, tmp_path / "a.zarr", position="S1").equal
    assert not io.verify(src, tmp_path / "a.zarr", position="S0").equal
    assert io.info(src, position="S1").shape == (3, 30, 40)


def test_names_of_one_stack_are_told_of_by_nothing(tmp_path: Path, recwarn):
    for names in ([f"z{z:03d}.tif" for z in range(5)], ["a.tif"], ["x.tif", "y.tif"]):
        src = folder(tmp_path / names[0], names)
        io.convert(src, tmp_path / f"{names[0]}.zarr")
        assert io.scan(src).folders[0].names == ()
    assert not [w for w in recwarn if issubclass(w.category, UserWarning)]


def test_the_way_out_leads_out_a_folder_a_channel_is_read_as_channels(tmp_path: Path):
    volume = make_volume((2, 4, 30, 40))
    for c in range(2):
        write_planes(tmp_path / f"C{c}", volume[c], names=[f"C{c}_Z{z}.tif" for z in range(4)])
    np.testing.assert_array_equal(io.imread_channels(tmp_path).compute(), volume)


def test_negative_positions_are_warned_of_and_sorted_by_number(tmp_path: Path):
    for z in (-200, -100, 0, 100):
        write_planes(tmp_path, np.full((1, 30, 40), z + 200, "u2"), names=[f"plane_{z}.tif"])
    with pytest.warns(UserWarning, match="not their natural order"):
        io.imread_folder(tmp_path)
    stack = io.imread_folder(tmp_path, order="natural")
    assert stack[:, 0, 0].compute().tolist() == [0, 100, 200, 300]
