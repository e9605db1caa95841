"""What an image states is the same after a conversion, an export as TIFF, and a conversion back.

On a disk, in memory and in a bucket; the images that go in are made by zarr alone.
"""

from __future__ import annotations

import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import Lab, options

import scout_dask_io as io

TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
UNITS = {
    "time": [None, "second", "millisecond", "hour"],
    "channel": [None],
    "space": [None, "micrometer", "nanometer", "millimeter", "furlong"],
}


class Made:
    """An image as some other program wrote it, and what it states."""

    def __init__(self, draw: Any, letters: str, *, labels: bool) -> None:
        self.letters = "".join(draw(st.permutations(list(letters))))
        self.shape = tuple(draw(st.integers(1 if a in "tcz" else 2, 5)) for a in self.letters)
        self.pixels = make_volume(self.shape)
        self.units = {a: draw(st.sampled_from(UNITS[TYPES[a]])) for a in self.letters}
        self.scale = {a: draw(st.floats(1e-2, 1e3)) for a in self.letters}
        self.shift = {a: draw(st.floats(-99, 99)) if a != "c" else 0.0 for a in self.letters}
        n = self.shape[self.letters.index("c")] if "c" in self.letters else 1
        self.channels = [] if labels else [self._channel(draw, k) for k in range(n)]
        self.colors = [{"label-value": 1, "rgba": [255, draw(st.integers(0, 255)), 0, 255]}]
        self.labels = labels

    def _channel(self, draw: Any, number: int) -> dict[str, Any]:
        low, high = draw(st.tuples(st.integers(0, 99), st.integers(100, 999)))
        return {
            "label": draw(st.text("ab µ<&", min_size=1, max_size=4)) + str(number),
            "color": f"{draw(st.integers(1, 2**24 - 2)):06X}",
            "active": draw(st.booleans()),
            "window": {"start": low, "end": high, "min": 0, "max": draw(st.integers(1, 9999))},
        }

    @property
    def attributes(self) -> dict[str, Any]:
        """What the group says, in 0.4."""
        axes = [
            {"name": a, "type": TYPES[a], **({"unit": self.units[a]} if self.units[a] else {})}
            for a in self.letters
        ]
        steps = [
            {"type": "scale", "scale": [self.scale[a] for a in self.letters]},
            {"type": "translation", "translation": [self.shift[a] for a in self.letters]},
        ]
        dataset = {"path": "s0", "coordinateTransformations": steps}
        found: dict[str, Any] = {
            "multiscales": [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
        }
        if self.labels:
            return found | {"image-label": {"version": "0.4", "colors": self.colors}}
        return found | {"omero": {"channels": self.channels}}

    def write(self, place: str, how: dict[str, Any] | None) -> None:
        """Write it by zarr alone."""
        group = zarr.open_group(place, mode="w", zarr_format=2, storage_options=how)
        array = group.create_array(
            "s0", shape=self.shape, dtype="u2", chunks=tuple(min(n, 4) for n in self.shape),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )  # fmt: skip
        array[...] = self.pixels
        group.attrs.update(self.attributes)


def stated(place: str, how: dict[str, Any] | None) -> dict[str, Any]:
    """Give what the group at a place states of its image, in whichever version."""
    group = zarr.open_group(place, mode="r", storage_options=how)
    attributes: dict[str, Any] = dict(group.attrs)
    return attributes.get("ome", attributes)


def check_same(made: Made, place: str, how: dict[str, Any] | None) -> None:
    """Hold what an image at a place states, and its pixels, against what was made."""
    found = stated(place, how)
    (image,) = found["multiscales"]
    axes = [a["name"] for a in image["axes"]]
    # Readers of OME-TIFF and ImageJ leave axes of one element out; one plane in a folder has z.
    n = dict(zip(made.letters, made.shape, strict=True))
    assert [a for a in "tczyx" if n.get(a, 1) > 1] == [a for a in axes if n.get(a, 1) > 1]
    steps = image["datasets"][0]["coordinateTransformations"]
    shifts = steps[1]["translation"] if len(steps) > 1 else [0.0] * len(axes)
    for axis, scale, shift in zip(image["axes"], steps[0]["scale"], shifts, strict=True):
        a = axis["name"]
        if a not in made.letters:
            continue
        assert axis.get("unit") == made.units[a]
        assert scale == pytest.approx(made.scale[a])
        assert shift == pytest.approx(made.shift[a])
    if made.labels:
        assert found["image-label"]["colors"] == made.colors
        assert "omero" not in found
    else:
        assert found["omero"]["channels"] == made.channels
    order = [made.letters.index(a) for a in "tczyx" if a in made.letters]
    data = io.read_zarr(place, storage_options=how).compute()
    np.testing.assert_array_equal(np.squeeze(data), np.squeeze(made.pixels.transpose(order)))


def exported(there: str, folder: Path, kind: str, how: dict[str, Any] | None) -> Path:
    """Export an image as TIFF, and give where it lies."""
    out = {"ome": "a.ome.tif", "imagej": "b.tif", "plain": "c.tif", "folder": "planes"}[kind]
    io.export(
        there, folder / out, imagej=kind == "imagej", compress=0 if kind == "imagej" else 1,
        storage_options=how,
    )  # fmt: skip
    return folder / out


@pytest.fixture(params=["disk", "memory", "s3"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Give new places, and what it takes to reach them."""
    if request.param == "disk":
        return lambda: (str(tmp_path / uuid.uuid4().hex), None)
    if request.param == "memory":
        return lambda: (f"memory://{uuid.uuid4().hex}", None)
    lab: Lab = request.getfixturevalue("lab")
    return lambda: (f"s3://{lab.bucket}/{uuid.uuid4().hex}", options(lab.address))


@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.data())
def test_an_image_is_the_same_after_conversions_and_an_export(
    tmp_path_factory: pytest.TempPathFactory, places: Any, data: st.DataObject
):
    draw = data.draw
    folder, (place, how) = tmp_path_factory.mktemp("trips"), places()
    kind = draw(st.sampled_from(["ome", "imagej", "plain", "folder"]))
    lead = ["", "z", "c", "cz"] if kind == "folder" else ["", "z", "c", "t", "tz", "tcz"]
    made = Made(draw, draw(st.sampled_from(lead)) + "yx", labels=draw(st.booleans()))
    made.write(f"{place}/a.zarr", how)
    version = draw(st.sampled_from([2, 3]))
    to = f"{place}/b.zarr"
    io.convert(f"{place}/a.zarr", to, ome=True, zarr_format=version, storage_options=how)
    check_same(made, to, how)
    if draw(st.booleans()):
        io.convert(to, f"{place}/c.zarr", storage_options=how)
        to = f"{place}/c.zarr"
    tiff = exported(to, folder, kind, how)
    with warnings.catch_warnings():
        # How the names in a folder are read is told.
        warnings.simplefilter("ignore" if kind == "folder" else "error")
        io.convert(tiff, f"{place}/d.zarr", ome=True, names="allow", storage_options=how)
    check_same(made, f"{place}/d.zarr", how)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.data())
def test_an_image_is_the_same_after_a_plain_array(places: Any, data: st.DataObject):
    draw, (place, how) = data.draw, places()
    lead = draw(st.sampled_from(["", "z", "c", "t", "cz", "tz", "tc", "tcz"]))
    made = Made(draw, lead + "yx", labels=draw(st.booleans()))
    made.write(f"{place}/a.zarr", how)
    url: dict[str, Any] = {} if how is None else {"storage_options": how}
    version = draw(st.sampled_from([2, 3]))
    lazy = io.read_zarr(f"{place}/a.zarr", **url)
    io.write_zarr(f"{place}/b.zarr", lazy, zarr_format=version, **url)
    # A plain array of a plain array, by the other writer.
    io.convert(f"{place}/b.zarr", f"{place}/c.zarr", **url)
    io.convert(f"{place}/c.zarr", f"{place}/d.zarr", ome=True, **url)
    check_same(made, f"{place}/d.zarr", how)
    order = [made.letters.index(a) for a in "tczyx" if a in made.letters]
    if order == sorted(order):
        plain = io.read_zarr(f"{place}/b.zarr", **url)
        io.write_ome_zarr(f"{place}/e.zarr", plain, **url)
        check_same(made, f"{place}/e.zarr", how)


@settings(max_examples=2, deadline=None, derandomize=True)
@given(data=st.data())
def test_labels_below_an_image_are_the_same_after_conversions_and_an_export(
    tmp_path_factory: pytest.TempPathFactory, places: Any, data: st.DataObject
):
    draw, (place, how) = data.draw, places()
    url: dict[str, Any] = {} if how is None else {"storage_options": how}
    lead = draw(st.sampled_from(["z", "cz", "tz", "tcz", "c"]))
    image = Made(draw, lead + "yx", labels=False)
    image.write(f"{place}/a.zarr", how)
    names = draw(st.lists(st.sampled_from(["cells", "n 1", "µ-tubes"]), min_size=1, unique=True))
    every = {name: Made(draw, lead.replace("c", "") + "yx", labels=True) for name in names}
    n = dict(zip(image.letters, image.shape, strict=True))
    for name, made in every.items():  # labels have the extents, and the places, of their image
        made.units, made.scale, made.shift = image.units, image.scale, image.shift
        made.shape = tuple(n[a] for a in made.letters)
        made.pixels = make_volume(made.shape)
        made.write(f"{place}/a.zarr/labels/{name}", how)
    listed = zarr.open_group(f"{place}/a.zarr/labels", mode="a", zarr_format=2, storage_options=how)
    listed.attrs["labels"] = names
    version = draw(st.sampled_from([2, 3]))
    for old, new in (("a", "b"), ("b", "c")):
        io.convert(
            f"{place}/{old}.zarr", f"{place}/{new}.zarr", ome=True, labels_too=True,
            levels=draw(st.sampled_from([None, 1])), zarr_format=version, **url,
        )  # fmt: skip
        version = 5 - version
    check_same(image, f"{place}/c.zarr", how)
    assert stated(f"{place}/c.zarr/labels", how)["labels"] == names
    io.convert(f"{place}/c.zarr", f"{place}/d.zarr", ome=True, **url)
    for name, made in every.items():
        there = f"{place}/c.zarr/labels/{name}"
        check_same(made, there, how)
        folder = tmp_path_factory.mktemp("labels")
        tiff = exported(there, folder, draw(st.sampled_from(["ome", "imagej", "plain"])), how)
        io.convert(tiff, f"{place}/d.zarr", label=name, **url)
        check_same(made, f"{place}/d.zarr/labels/{name}", how)
        found = io.read_zarr(f"{place}/d.zarr", label=name, **url).compute()
        order = [made.letters.index(a) for a in "tczyx" if a in made.letters]
        np.testing.assert_array_equal(found.squeeze(), made.pixels.transpose(order).squeeze())
    assert stated(f"{place}/d.zarr/labels", how)["labels"] == names


def test_other_programs_find_the_time_step_and_the_place_in_an_export(tmp_path: Path):
    data = make_volume((2, 3, 20, 24))
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=data)
    axes = [("t", "time", "minute"), *((a, "space", "micrometer") for a in "zyx")]
    steps = [
        {"type": "scale", "scale": [1.5, 2.0, 0.5, 0.25]},
        {"type": "translation", "translation": [0.0, 10.0, 20.0, -30.0]},
    ]
    window = {"start": 5, "end": 99, "min": 0, "max": 65535}
    group.attrs["multiscales"] = [{
        "version": "0.4",
        "axes": [{"name": a, "type": kind, "unit": unit} for a, kind, unit in axes],
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }]  # fmt: skip
    group.attrs["omero"] = {"channels": [{"label": "w", "color": "00FF00", "window": window}]}
    io.export(tmp_path / "a.zarr", tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["TimeIncrement"], pixels["TimeIncrementUnit"]) == (1.5, "min")
    planes = pixels["Plane"]
    assert [p["PositionZ"] for p in planes] == [10.0, 12.0, 14.0] * 2
    assert {(p["PositionY"], p["PositionX"], p["PositionXUnit"]) for p in planes} == {
        (20.0, -30.0, "µm")
    }
    io.export(tmp_path / "a.zarr", tmp_path / "b.tif", imagej=True)
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        found = tif.imagej_metadata
    assert found["finterval"] == 90.0
    assert [found[f"{a}origin"] for a in "zyx"] == [-5.0, -40.0, 120.0]
    assert (found["min"], found["max"]) == (5, 99)


@pytest.mark.parametrize("writer", ["ome", "imagej"])
def test_the_time_step_of_other_programs_is_kept(tmp_path: Path, writer: str):
    data = make_volume((3, 20, 24))
    if writer == "ome":
        tifffile.imwrite(
            tmp_path / "a.ome.tif", data,
            metadata={"axes": "TYX", "TimeIncrement": 2.5, "TimeIncrementUnit": "ms"},
        )  # fmt: skip
    else:
        tifffile.imwrite(
            tmp_path / "a.ome.tif", data, imagej=True, metadata={"axes": "TYX", "finterval": 2.5}
        )
    io.convert(tmp_path / "a.ome.tif", tmp_path / "a.zarr", ome=True)
    (image,) = stated(str(tmp_path / "a.zarr"), None)["multiscales"]
    unit = "millisecond" if writer == "ome" else "second"
    assert image["axes"][0] == {"name": "t", "type": "time", "unit": unit}
    assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == [2.5, 1.0, 1.0]


def test_windows_go_with_the_values_that_an_export_scales(tmp_path: Path):
    data = make_volume((3, 20, 24))
    channel = io.write_ome_zarr(tmp_path / "a.zarr", data, axes="zyx", levels=1)
    omero = dict(channel.attrs)["omero"]
    omero["channels"][0]["window"] = {"start": 100, "end": 300, "min": 100, "max": 1100}
    channel.attrs["omero"] = omero
    io.export(tmp_path / "a.zarr", tmp_path / "a.tif", dtype="u1", scale=(100, 1100))
    io.convert(tmp_path / "a.tif", tmp_path / "b.zarr", ome=True)
    found = stated(str(tmp_path / "b.zarr"), None)["omero"]["channels"][0]["window"]
    assert found == {"start": 0.0, "end": 51.0, "min": 0.0, "max": 255.0}


def test_planes_along_another_axis_keep_its_scale_and_place(tmp_path: Path):
    made = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2)
    made.create_array("0", data=make_volume((3, 20, 24)))
    steps = [
        {"type": "scale", "scale": [4.0, 2.0, 1.0]},
        {"type": "translation", "translation": [1.0, 20.0, 300.0]},
    ]
    made.attrs["multiscales"] = [{
        "version": "0.4",
        "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": steps}],
    }]  # fmt: skip
    io.export(tmp_path / "a.zarr", tmp_path / "a.tif", axis="x", region=((0, 3), (5, 20), (6, 24)))
    io.convert(tmp_path / "a.tif", tmp_path / "b.zarr", ome=True)
    (image,) = stated(str(tmp_path / "b.zarr"), None)["multiscales"]
    scale, shift = image["datasets"][0]["coordinateTransformations"]
    # Planes along x have rows z and columns y.
    assert scale["scale"] == [1.0, 4.0, 2.0]
    assert shift["translation"] == [306.0, 1.0, 30.0]
