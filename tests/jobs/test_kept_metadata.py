"""What an image states beside its pixels is kept by whatever is made of it, and nothing made up."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import make_volume
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scout_dask_io as io
from scout_dask_io.core.image_info import Axis, ImageInfo
from scout_dask_io.core.ome_metadata import frame_record, parse_image, with_record
from scout_dask_io.errors import LayoutError

TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
WINDOW = {"start": 12.0, "end": 345.0, "min": -5.0, "max": 4000.0}


def make_image(
    path: Path, data: np.ndarray, axes: list[dict[str, Any]], steps: list[Any], **more: Any
) -> Path:
    """Write an image of one level as other software does, in 0.4, by zarr alone."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    array = group.create_array(
        "s0", shape=data.shape, dtype=data.dtype, chunks=tuple(min(n, 16) for n in data.shape),
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    array[...] = data
    multiscale = {
        "version": "0.4",
        "axes": axes,
        "datasets": [{"path": "s0", "coordinateTransformations": steps}],
    }
    group.attrs.update({"multiscales": [multiscale], **more})
    return path


def make_axes(letters: str, units: dict[str, str | None] | None = None) -> list[dict[str, Any]]:
    """Give entries of axes, each with a unit where there is one."""
    found = []
    for letter in letters:
        unit = (units or {}).get(letter)
        found.append({"name": letter, "type": TYPES[letter], **({"unit": unit} if unit else {})})
    return found


def image_of(path: Path) -> dict[str, Any]:
    """Give what the group at a path states of its image, in whichever version."""
    attributes: dict[str, Any] = dict(zarr.open_group(path, mode="r").attrs)
    return attributes.get("ome", attributes)


def placed(path: Path, level: int = 0) -> dict[str, tuple[float, float, Any]]:
    """Give scale, translation and unit of a level by axis, as the metadata have them."""
    (first,) = image_of(path)["multiscales"]
    steps = first["datasets"][level]["coordinateTransformations"]
    scale = steps[0]["scale"]
    shift = steps[1]["translation"] if len(steps) > 1 else [0.0] * len(scale)
    return {
        a["name"]: (s, d, a.get("unit"))
        for a, s, d in zip(first["axes"], scale, shift, strict=True)
    }


STEPS = [
    {"type": "scale", "scale": [2.5, 1.0, 0.004, 0.5, 0.7]},
    {"type": "translation", "translation": [3.0, 0.0, -0.1, 700.0, 900.0]},
]
AXES = make_axes("tczyx", {"t": "minute", "z": "millimeter", "y": "micrometer"})
PLACED = {
    "t": (2.5, 3.0, "minute"),
    "c": (1.0, 0.0, None),
    "z": (0.004, -0.1, "millimeter"),
    "y": (0.5, 700.0, "micrometer"),
    "x": (0.7, 900.0, None),
}
OMERO = {
    "id": 7,
    "rdefs": {"defaultT": 1, "model": "greyscale"},
    "channels": [
        {"label": "nuclei", "color": "12AB34", "active": False, "window": WINDOW, "coefficient": 2},
        {"color": "00FFFF", "window": WINDOW, "inverted": True},
    ],
}


@pytest.mark.parametrize("way", ["image", "v3", "array", "pyramid", "lazy", "turned"])
def test_what_an_image_states_is_kept(tmp_path: Path, way: str):
    data = make_volume((2, 2, 3, 20, 24))
    axes, steps = AXES, STEPS
    if way == "turned":
        order = [4, 0, 2, 1, 3]
        data, axes = data.transpose(order), [AXES[k] for k in order]
        steps = [{**step, (k := step["type"]): [step[k][n] for n in order]} for step in STEPS]  # type: ignore[misc]
    source = make_image(tmp_path / "a.zarr", data, axes, steps, omero=OMERO, scanner={"id": "q"})
    zarr.open_array(source / "s0", mode="r+").attrs["note"] = ["kept", 1]
    made = tmp_path / "b.zarr"
    if way == "pyramid":
        io.pyramid(source, made, levels=2)
    elif way == "lazy":
        io.write_ome_zarr(made, io.read_zarr(source), axes="tczyx", levels=2)
    elif way == "array":
        io.convert(source, tmp_path / "plain.zarr")
        assert zarr.open_array(tmp_path / "plain.zarr", mode="r").attrs["note"] == ["kept", 1]
        io.convert(tmp_path / "plain.zarr", made, ome=True, levels=2)
    else:
        io.convert(source, made, ome=True, levels=2, zarr_format=3 if way == "v3" else 2)
    assert placed(made) == PLACED
    # Sizes that are not known along each axis count as equal, so that all are halved.
    z, y, x = (placed(made, 1)[a] for a in "zyx")
    assert z == (0.008, pytest.approx(-0.098), "millimeter")
    assert y == (1.0, 700.25, "micrometer")
    assert x == (1.4, pytest.approx(900.35), None)
    assert zarr.open_group(made, mode="r").attrs["scanner"] == {"id": "q"}
    assert zarr.open_array(made / "0", mode="r").attrs["note"] == ["kept", 1]
    first, second = image_of(made)["omero"]["channels"]
    assert first == {**OMERO["channels"][0]}  # type: ignore[index]
    assert second == {
        "label": "1", "color": "00FFFF", "active": True, "window": WINDOW, "inverted": True
    }  # fmt: skip
    assert (image_of(made)["omero"]["id"], image_of(made)["omero"]["rdefs"]) == (
        7, OMERO["rdefs"]
    )  # fmt: skip


def test_a_voxel_size_that_is_given_counts_and_the_image_stays_where_it_is(tmp_path: Path):
    source = make_image(tmp_path / "a.zarr", make_volume((2, 2, 3, 20, 24)), AXES, STEPS)
    io.convert(source, tmp_path / "b.zarr", ome=True, voxel_size=(5, 0.5, 2.1))
    found = placed(tmp_path / "b.zarr")
    assert found["z"] == (5.0, -100.0, "micrometer")
    assert found["y"] == PLACED["y"]
    # Where it lay was told in no unit: as many elements from the origin as it was.
    assert found["x"] == (2.1, pytest.approx(2700.0), "micrometer")
    assert found["t"] == PLACED["t"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_keeps_its_attributes_dimension_names_and_fill_value(tmp_path, zarr_format: int):
    names = ["depth", "row", "up"]
    source = zarr.create_array(
        tmp_path / "a.zarr", shape=(4, 5, 6), chunks=(2, 5, 3), dtype="f4", fill_value=np.nan,
        dimension_names=names, attributes={"units": "counts", "valid_range": [0, 9]},
    )  # fmt: skip
    source[...] = 3
    io.convert(tmp_path / "a.zarr", tmp_path / "b.zarr", zarr_format=zarr_format)
    found: Any = zarr.open_array(tmp_path / "b.zarr", mode="r")
    attributes = dict(found.attrs)
    stated = found.metadata.dimension_names if zarr_format == 3 else None
    assert list(stated or attributes.pop("_ARRAY_DIMENSIONS")) == names
    assert attributes == {"units": "counts", "valid_range": [0, 9]}
    assert np.isnan(found.fill_value)
    io.convert(tmp_path / "b.zarr", tmp_path / "c.zarr", zarr_format=3)
    back: Any = zarr.open_array(tmp_path / "c.zarr", mode="r")
    assert (back.metadata.dimension_names, dict(back.attrs)) == (tuple(names), dict(source.attrs))


@pytest.mark.parametrize(
    ("steps", "scale", "shift", "warned"),
    [
        ([{"type": "scale", "scale": [0, 2.0]}], (None, 2.0), (0, 0), r"scale is \[0, 2\.0\]"),
        ([{"type": "scale", "scale": [-1, 2.0]}], (None, 2.0), (0, 0), r"\[-1, 2\.0\]"),
        ([{"type": "scale", "scale": [float("nan"), 2.0]}], (None, 2.0), (0, 0), "nan"),
        ([{"type": "scale", "scale": [None, 2.0]}], (None, 2.0), (0, 0), "None"),
        ([{"type": "scale", "scale": ["3", 2.0]}], (None, 2.0), (0, 0), "'3'"),
        ([{"type": "scale", "scale": [True, 2.0]}], (None, 2.0), (0, 0), "True"),
        ([{"type": "scale", "scale": [3.0]}], (None, None), (0, 0), r"\[3\.0\], expected 2"),
        ([{"type": "scale", "scale": 3.0}], (None, None), (0, 0), "is 3.0"),
        (
            [STEPS[0] | {"scale": [1, 2]}, {"type": "translation", "translation": ["a", 4]}],
            (1.0, 2.0), (0, 4), "translation is",
        ),
        ([], (None, None), (0, 0), None),
        ([{"type": "identity"}, {"type": "scale", "scale": [3, 2]}], (3.0, 2.0), (0, 0), None),
        (
            [
                {"type": "scale", "scale": [3, 2]},
                {"type": "translation", "translation": [1, 1]},
                {"type": "scale", "scale": [2, 2]},
            ],
            (6.0, 4.0), (2, 2), None,
        ),
        (
            [
                {"type": "sequence", "transformations": [
                    {"type": "translation", "translation": [1, 1]},
                    {"type": "scale", "scale": [5, 7]},
                ]}
            ],
            (5.0, 7.0), (5, 7), None,
        ),
        ([{"type": "affine", "affine": [[4, 0, 9], [0, 2, 8]]}], (4.0, 2.0), (9, 8), None),
        (
            [{"type": "affine", "affine": [[4, 0, 9], [0, 2, 8], [0, 0, 1]]}],
            (4.0, 2.0), (9, 8), None,
        ),
        ([{"type": "rotation", "rotation": [[1, 0], [0, 1]]}], (1.0, 1.0), (0, 0), None),
    ],
)  # fmt: skip
def test_scales_and_translations_are_composed_and_those_that_cannot_be_meant_are_told(
    steps: Any, scale: Any, shift: Any, warned: str | None
):
    attributes = {
        "multiscales": [{
            "version": "0.4", "axes": make_axes("yx", {"y": "nm", "x": "nm"}),
            "datasets": [{"path": "0", "coordinateTransformations": steps}],
        }]
    }  # fmt: skip
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = parse_image(attributes, "a.zarr", "a.zarr/.zattrs")
    assert image is not None
    assert tuple(axis.scale for axis in image.info.frame) == scale
    assert tuple(axis.translation for axis in image.info.frame) == shift
    size = image.info.voxel_size
    known = (None, *(None if s is None else pytest.approx(s / 1000) for s in scale))
    assert (None if size is None else size.micrometres) == (known if any(scale) else None)
    texts = [str(w.message) for w in caught]
    assert len(texts) == (warned is not None)
    if warned is not None:
        with pytest.raises(AssertionError, match=warned):
            raise AssertionError(texts[0])
        assert texts[0].startswith("a.zarr/.zattrs: datasets[0].coordinateTransformations")


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ({"type": "affine", "affine": [[1, 0.2, 0], [0, 1, 0]]}, "'affine'"),
        ({"type": "affine", "affine": [[1, 0], [0, 1], [0, 0]]}, "'affine'"),
        ({"type": "rotation", "rotation": [[0, -1], [1, 0]]}, "'rotation'"),
        ({"type": "scale", "path": "coordinates/scale"}, "'scale' by the path 'coordinates/scale'"),
        ({"type": "displacements", "path": "warp"}, "'displacements'"),
        ({"type": "sequence", "transformations": [{"type": "mapAxis"}]}, "'mapAxis'"),
    ],
)
def test_a_transformation_that_is_not_understood_is_refused_and_its_level_can_be_read(
    tmp_path: Path, step: Any, named: str
):
    data = make_volume((20, 24))
    source = make_image(tmp_path / "a.zarr", data, make_axes("yx"), [step])
    with pytest.raises(LayoutError, match=named) as caught:
        io.read_zarr(source)
    assert "damaged" not in str(caught.value)
    np.testing.assert_array_equal(io.read_zarr(source / "s0").compute(), data)
    assert io.voxel_size(source / "s0") is None


@pytest.mark.parametrize("version", ["0.6", "0.6-dev2", "1.0", None])
def test_a_later_version_is_named_and_its_level_can_be_read(tmp_path: Path, version: str | None):
    data = make_volume((20, 24))
    source = make_image(tmp_path / "a.zarr", data, make_axes("yx"), [])
    group = zarr.open_group(source, mode="r+")
    (first,) = dict(group.attrs)["multiscales"]
    del first["version"]
    systems = [{"name": "world", "axes": first.pop("axes")}]
    first |= {"coordinateSystems": systems} | ({"version": version} if version else {})
    group.attrs["multiscales"] = [first]
    with pytest.raises(LayoutError, match=version or "coordinateSystems") as caught:
        io.info(source)
    assert "damaged" not in str(caught.value)
    assert str(source / "s0") in str(caught.value)
    np.testing.assert_array_equal(io.read_zarr(source / "s0").compute(), data)


@pytest.mark.parametrize(
    ("version", "axes"),
    [("0.1", None), ("0.2", None), (None, None), ("0.3", list("tczyx")), ("0.3", ["z", "y", "x"])],
)
def test_early_versions_are_read(tmp_path: Path, version: str | None, axes: Any):
    data = make_volume((1, 2, 3, 20, 24) if axes is None or len(axes) == 5 else (3, 20, 24))
    source = make_image(tmp_path / "a.zarr", data, axes, [])
    group = zarr.open_group(source, mode="r+")
    first: dict[str, Any] = {"datasets": [{"path": "s0"}]}
    first |= {"axes": axes} if axes else {}
    first |= {"version": version} if version else {}
    group.attrs["multiscales"] = [first]
    assert io.info(source).axes == "".join(axes or "tczyx")
    assert io.voxel_size(source) is None
    io.convert(source, tmp_path / "b.zarr", ome=True)
    assert list(placed(tmp_path / "b.zarr")) == list(axes or "tczyx")
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "b.zarr").compute(), data)


def test_a_region_lies_where_it_was_cut_out():
    info = ImageInfo("tcyx", frame=(Axis(2.0, 1.0, "second"), Axis(), Axis(0.5, 3.0), Axis()))
    part = info.cropped((slice(1, 2), slice(1, 2), slice(4, 9), slice(6, 8)))
    assert [axis.translation for axis in part.frame] == [3.0, 0.0, 5.0, 6.0]
    assert part.transposed((2, 3, 0, 1)).frame[0] == Axis(0.5, 5.0)
    size = io.VoxelSize(None, 2.0, 3.0, "given")
    plain = ImageInfo("yx", size).cropped((slice(5, 6), slice(0, 2)))
    assert plain.frame == (Axis(2.0, 10.0, "micrometer"), Axis(3.0, 0.0, "micrometer"))


numbers = st.floats(1e-3, 1e4)
units = st.sampled_from([None, "micrometer", "nanometer", "second", "furlong"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_image_is_the_same_after_any_way_there_and_back(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("ways")
    lead = data.draw(st.sampled_from(["", "z", "c", "t", "cz", "tz", "tc", "tcz"]))
    letters = "".join(data.draw(st.permutations(list(lead + "yx"))))
    shape = tuple(data.draw(st.integers(1, 4)) for _ in letters)
    axes = make_axes(letters, {a: data.draw(units) for a in letters})
    steps: list[dict[str, Any]] = [
        {"type": "scale", "scale": [data.draw(numbers) for _ in letters]},
        {"type": "translation", "translation": [data.draw(st.floats(-99, 99)) for _ in letters]},
    ]
    n_channels = shape[letters.index("c")] if "c" in letters else 1
    channels = []
    for k in range(n_channels):
        low, high = sorted(data.draw(st.tuples(st.integers(0, 99), st.integers(100, 999))))
        window = {"start": low, "end": high, "min": 0, "max": data.draw(st.integers(1, 9999))}
        label = data.draw(st.text("ab µ", min_size=1, max_size=4)) + str(k)
        color = f"{data.draw(st.integers(1, 2**24 - 1)):06X}"
        active = data.draw(st.booleans())
        channels.append({"label": label, "color": color, "active": active, "window": window})
    pixels = make_volume(shape)
    make_image(folder / "a.zarr", pixels, axes, steps, omero={"channels": channels})
    there = folder / "a.zarr"
    for k, way in enumerate(data.draw(st.lists(st.sampled_from(["array", "2", "3"]), max_size=3))):
        made = folder / f"{k}.zarr"
        io.convert(there, made, ome=way != "array", zarr_format=3 if way == "3" else 2)
        there = made
    io.convert(there, folder / "z.zarr", ome=True)
    found = placed(folder / "z.zarr")
    assert list(found) == [a for a in "tczyx" if a in letters]
    for at, entry in enumerate(axes):
        scale, shift, unit = found[entry["name"]]
        assert scale == pytest.approx(steps[0]["scale"][at])
        assert shift == pytest.approx(steps[1]["translation"][at])
        assert unit == entry.get("unit")
    assert image_of(folder / "z.zarr")["omero"]["channels"] == channels
    order = [letters.index(a) for a in found]
    np.testing.assert_array_equal(
        io.read_zarr(folder / "z.zarr").compute(), pixels.transpose(order)
    )


def test_a_record_that_makes_no_sense_is_none():
    info = ImageInfo("yx")
    for bad in (None, [], {"axes": 3}, {"axes": [1, {"name": "q"}]}, {"omero": {"channels": 5}}):
        assert with_record(info, bad, "a.zarr") in (info, with_record(info, bad, "b.zarr"))
    assert json.loads(json.dumps(frame_record(info))) == {}
