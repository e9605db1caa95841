"""Names and colours of channels go from TIFF metadata into images, and out again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import make_volume, read_ome

import scout_dask_io as io
from scout_dask_io.jobs.convert import plan_convert
from scout_dask_io.tiff.describe import describe_path
from scout_dask_io.tiff.metadata import ome_color

BOTH = make_volume((2, 3, 40, 50))
NAMES, COLORS = ("syto", "SOX2 µ"), ("0000FF", "FF8000")


def write_ome(path: Path, channel: Any, data: np.ndarray = BOTH, axes: str = "CZYX") -> None:
    tifffile.imwrite(path, data, metadata={"axes": axes, "Channel": channel}, ome=True)


def shown(path: Path) -> list[tuple[str, str]]:
    """Give the label and colour of each channel that an OME-Zarr image states."""
    attributes = json.loads((path / ".zattrs").read_text())
    return [(c["label"], c["color"]) for c in attributes["omero"]["channels"]]


def test_those_of_ome_xml_are_those_of_the_image(tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    write_ome(path, {"Name": NAMES, "Color": [ome_color(c) for c in COLORS]})
    assert io.channel_names(path) == list(NAMES)
    io.convert(path, tmp_path / "a.zarr", ome=True)
    assert shown(tmp_path / "a.zarr") == list(zip(NAMES, COLORS, strict=True))
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr"), BOTH)
    assert io.info(path).channels == NAMES
    assert io.preview(path).channels == NAMES


def test_those_of_each_file_of_a_folder_are_those_of_the_first(tmp_path: Path):
    (tmp_path / "planes").mkdir()
    for z in range(3):
        channel = {"Name": NAMES, "Color": [ome_color(c) for c in COLORS]}
        write_ome(tmp_path / "planes" / f"{z}.tif", channel, BOTH[:, z], "CYX")
    io.convert(tmp_path / "planes", tmp_path / "a.zarr", ome=True)
    assert shown(tmp_path / "a.zarr") == list(zip(NAMES, COLORS, strict=True))
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr"), BOTH)


def test_those_of_imagej_are_its_lookup_tables(tmp_path: Path):
    luts = [np.zeros((3, 256), np.uint8), np.zeros((3, 256), np.uint8)]
    luts[0][2] = luts[1][0] = np.arange(256)
    luts[1][1] = np.arange(256) // 255 * 128
    tifffile.imwrite(
        tmp_path / "a.tif", BOTH.swapaxes(0, 1), imagej=True,
        metadata={"axes": "ZCYX", "mode": "composite", "LUTs": luts},
    )  # fmt: skip
    io.convert(tmp_path / "a.tif", tmp_path / "a.zarr", ome=True)
    assert shown(tmp_path / "a.zarr") == [("0", "0000FF"), ("1", "FF8000")]
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr"), BOTH)


@pytest.mark.parametrize("out", ["a.ome.tif", "a.tif", "fiji.tif"])
@pytest.mark.parametrize("region", [None, [slice(1, 2), slice(0, 3), slice(0, 40), slice(5, 45)]])
def test_an_export_states_them(tmp_path: Path, out: str, region: Any):
    io.write_ome_zarr(tmp_path / "a.zarr", BOTH, channels=NAMES, colors=COLORS)
    io.export(tmp_path / "a.zarr", tmp_path / out, region=region, imagej=out == "fiji.tif")
    found = describe_path(tmp_path / out).info
    kept = slice(None) if region is None else region[0]
    expected = NAMES[kept], COLORS[kept]
    assert (found.names, found.colors) == expected
    if out == "a.ome.tif":
        channels = read_ome(tmp_path / out).images[0].pixels.channels
        assert [c.name for c in channels] == list(NAMES[kept])
        assert [c.color.as_hex("long") for c in channels] == [f"#{c.lower()}" for c in COLORS[kept]]
    if region is None:
        io.convert(tmp_path / out, tmp_path / "b.zarr", ome=True)
        assert shown(tmp_path / "b.zarr") == shown(tmp_path / "a.zarr")


def test_one_channel_keeps_its_name_and_its_colour(tmp_path: Path):
    write_ome(
        tmp_path / "a.ome.tif", {"Name": "DAPI", "Color": ome_color("0000FF")}, BOTH[0], "ZYX"
    )
    io.convert(tmp_path / "a.ome.tif", tmp_path / "a.zarr", ome=True)
    assert shown(tmp_path / "a.zarr") == [("DAPI", "0000FF")]
    assert io.channel_names(tmp_path / "a.ome.tif") == []


def test_an_array_has_the_names_along_its_first_axis(tmp_path: Path):
    write_ome(tmp_path / "a.ome.tif", {"Name": NAMES})
    write_ome(tmp_path / "b.ome.tif", {"Name": NAMES}, BOTH.swapaxes(0, 1), "ZCYX")
    for name, expected in (("a", list(NAMES)), ("b", None)):
        plan = plan_convert(tmp_path / f"{name}.ome.tif", tmp_path / f"{name}.zarr")
        io.convert(tmp_path / f"{name}.ome.tif", tmp_path / f"{name}.zarr")
        attributes = tmp_path / f"{name}.zarr" / ".zattrs"
        found = json.loads(attributes.read_text()) if attributes.exists() else {}
        assert found.get("channels") == expected
        assert plan.channels == tuple(expected or ())


@pytest.mark.parametrize(
    ("channel", "names", "colors"),
    [
        ({}, (), ()),
        ({"Name": ["syto", ""]}, ("syto", "1"), ()),
        # What the schema has for channels of no colour, and what shows nothing.
        ({"Color": [-1, -1]}, (), ()),
        ({"Color": [ome_color("000000"), ome_color("00FF00")]}, (), ()),
        ({"Color": [-1, ome_color("00FF00")]}, (), ("FFFFFF", "00FF00")),
        # Blue without alpha; and of red alone, none is stated of each.
        ({"Color": [0x0000FF00, -(2**31)]}, (), ("0000FF", "800000")),
    ],
)
def test_what_is_not_stated_of_each_channel_is_not_made_up(
    tmp_path: Path, channel: Any, names: tuple[str, ...], colors: tuple[str, ...]
):
    write_ome(tmp_path / "a.ome.tif", channel)
    found = describe_path(tmp_path / "a.ome.tif").info
    assert (found.names, found.colors) == (names, colors)


@pytest.mark.parametrize("said", ['Color="blue"', 'Name="a"/><Channel Name="b"'])
def test_metadata_that_do_not_fit_state_nothing(tmp_path: Path, said: str):
    path = tmp_path / "a.ome.tif"
    write_ome(path, {"Name": ["same", "same"]})
    xml = tifffile.tiffcomment(path)
    assert xml.count('Name="same"') == 2
    tifffile.tiffcomment(path, xml.replace('Name="same"', said).encode())
    found = describe_path(path).info
    assert (found.names, found.colors) == ((), ())
    np.testing.assert_array_equal(io.imread(path), BOTH)
