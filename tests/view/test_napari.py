"""What napari finds and is given, asked through npe2 as napari asks; no display, no napari."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.core.name_layouts import TIFF_ENDINGS
from scout_dask_io.view.napari import get_reader

npe2 = pytest.importorskip("npe2")

SHAPE = (5, 40, 50)
SIZES = {
    f"PhysicalSize{a}{what}": value
    for a, size in (("Z", 4.0), ("Y", 0.5), ("X", 0.5))
    for what, value in (("", size), ("Unit", "µm"))
}


@pytest.fixture(scope="module")
def plugins() -> npe2.PluginManager:
    manager = npe2.PluginManager()
    manager.discover(include_npe1=False)
    assert "scout-dask-io" in manager
    manager.activate("scout-dask-io")
    return manager


def layers(plugins: npe2.PluginManager, *paths: Path, stack: bool = False) -> list:
    found, reader = npe2.io_utils._read(
        list(map(str, paths)), stack=stack, plugin_name="scout-dask-io", return_reader=True,
        _pm=plugins,
    )  # fmt: skip
    assert reader.command == "scout-dask-io.read"
    return found


def test_the_manifest_is_valid_and_names_a_function_that_is_there(plugins: npe2.PluginManager):
    manifest = plugins.get_manifest("scout-dask-io")
    manifest.validate_imports()
    (reader,) = manifest.contributions.readers
    assert reader.accepts_directories
    assert set(reader.filename_patterns) == {"*.zarr", *(f"*{end}" for end in TIFF_ENDINGS)}


def test_a_folder_of_planes_is_one_lazy_layer(plugins: npe2.PluginManager, tmp_path: Path):
    data = make_volume(SHAPE)
    write_planes(tmp_path / "planes", data)
    (tmp_path / "planes" / "voxel_size.csv").write_text("4000,1800,1800\n")
    ((array, shown, kind),) = layers(plugins, tmp_path / "planes")
    assert kind == "image"
    assert isinstance(array, da.Array)
    np.testing.assert_array_equal(array.compute(), data)
    assert shown["scale"] == (4.0, 1.8, 1.8)
    assert shown["units"] == ("micrometer",) * 3
    assert (shown["name"], shown["multiscale"]) == ("planes", False)


def test_a_plane_and_a_stack_of_files(plugins: npe2.PluginManager, tmp_path: Path):
    data = make_volume(SHAPE)
    paths = write_planes(tmp_path / "planes", data)
    ((array, shown, _),) = layers(plugins, Path(paths[1]))
    np.testing.assert_array_equal(array.compute(), data[1])
    assert len(shown["scale"]) == 2
    picked = [Path(paths[k]) for k in (3, 0)]
    ((array, shown, _),) = layers(plugins, *picked, stack=True)
    np.testing.assert_array_equal(array.compute(), data[[3, 0]])
    assert len(shown["scale"]) == 3


def test_channels_get_a_name_each(plugins: npe2.PluginManager, tmp_path: Path):
    data = make_volume((2, *SHAPE))
    for name, channel in zip(("nuclei", "axons"), data, strict=True):
        write_planes(tmp_path / "brain" / name, channel)
    ((array, shown, _),) = layers(plugins, tmp_path / "brain")
    np.testing.assert_array_equal(array.compute(), data[::-1])
    assert shown["channel_axis"] == 0
    assert shown["name"] == ["brain axons", "brain nuclei"]
    assert len(shown["scale"]) == 3


def test_an_ome_zarr_image_comes_with_its_levels(plugins: npe2.PluginManager, tmp_path: Path):
    data = make_volume((2, 20, 90, 110))
    io.write_ome_zarr(
        tmp_path / "a.zarr", data, (1, 16, 32, 32), levels=3, voxel_size=(8, 2, 2),
        channels=["nuclei", "axons"], colors=["0000FF", "FF8000"],
    )  # fmt: skip
    ((levels, shown, _),) = layers(plugins, tmp_path / "a.zarr")
    assert shown["multiscale"]
    assert shown["scale"] == (8.0, 2.0, 2.0)
    assert shown["name"] == ["a.zarr nuclei", "a.zarr axons"]
    assert len(shown["contrast_limits"]) == 2
    assert shown["colormap"] == ["#0000FF", "#FF8000"]
    for number, level in enumerate(levels):
        stored = zarr.open_array(tmp_path / "a.zarr" / str(number), mode="r")
        np.testing.assert_array_equal(level.compute(), stored[:])


def test_labels_come_as_labels(plugins: npe2.PluginManager, tmp_path: Path):
    data = make_volume((5, 300, 40), "u4")
    io.write_ome_zarr(tmp_path / "a.zarr", data, labels=True, voxel_size=(8, 2, 2))
    ((levels, shown, kind),) = layers(plugins, tmp_path / "a.zarr")
    assert kind == "labels"
    np.testing.assert_array_equal(levels[0].compute(), data)
    # What napari's add_labels takes, and no contrast or colours.
    assert set(shown) == {"name", "axis_labels", "scale", "translate", "units", "multiscale"}
    assert shown["scale"] == (8.0, 2.0, 2.0)


@pytest.mark.parametrize("made", ["nothing", "text", "text.tif folder", "group", "mixed"])
def test_what_is_not_ours_is_left_to_others(tmp_path: Path, made: str):
    path = tmp_path / "a.zarr"
    if made == "text":
        path.write_text("no image")
    elif made == "text.tif folder":
        path.mkdir()
        (path / "notes.txt").write_text("no image")
    elif made == "group":
        zarr.create_group(path, zarr_format=2)
    elif made == "mixed":
        (tmp_path / "a.tif").write_bytes(b"")
        assert get_reader([str(tmp_path / "a.tif"), str(path)]) is None
    assert get_reader(str(path)) is None


@pytest.mark.parametrize(
    ("axes", "scale", "units", "shown", "named"),
    [
        ("zyx", [4.0, 0.5, 0.6], [None] * 3, (4.0, 0.5, 0.6), None),
        ("zyx", [4.0, 0.5, 0.6], ["furlong"] * 3, (4.0, 0.5, 0.6), None),
        ("yx", [0.5, 0.6], ["micrometer"] * 2, (0.5, 0.6), "micrometer"),
        ("yx", [0.5, 0.6], [None] * 2, (0.5, 0.6), None),
        ("xyz", [500.0, 600.0, 4000.0], ["nanometer"] * 3, (4.0, 0.6, 0.5), "micrometer"),
    ],
)
def test_sizes_that_are_stated_are_shown_whatever_their_unit(
    plugins: npe2.PluginManager,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
    axes: str,
    scale: list[float],
    units: list[str | None],
    shown: tuple[float, ...],
    named: str | None,
):
    (_, found, _), *_ = layers(plugins, make_sized(tmp_path / "a.zarr", axes, scale, units))
    assert found["scale"] == pytest.approx(shown)
    assert found["translate"] == pytest.approx([2 * s for s in shown])
    assert found.get("units") == (None if named is None else (named,) * len(axes))
    assert not [w for w in recwarn if "cubes" in str(w.message)]


def test_sizes_in_several_units_are_told_of(plugins: npe2.PluginManager, tmp_path: Path):
    path = make_sized(tmp_path / "a.zarr", "zyx", [4.0, 0.5, 0.6], ["micrometer", None, None])
    with pytest.warns(UserWarning, match="shown as cubes"):
        (_, found, _), *_ = layers(plugins, path)
    assert found["scale"] == (1.0, 1.0, 1.0)


def make_sized(path: Path, axes: str, scale: list[float], units: list[str | None]) -> Path:
    """Write an image by zarr alone that begins two elements from the origin."""
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.create_array("0", data=np.ones((3, 5, 6)[: len(axes)], "u2"))
    entries = [
        {"name": a, "type": "space", **({"unit": unit} if unit else {})}
        for a, unit in zip(axes, units, strict=True)
    ]
    steps = [
        {"type": "scale", "scale": scale},
        {"type": "translation", "translation": [2 * s for s in scale]},
    ]
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": entries, "datasets": datasets}]
    return path


def test_a_plain_array_lies_where_the_image_did(plugins: npe2.PluginManager, tmp_path: Path):
    path = make_sized(tmp_path / "a.zarr", "zyx", [4.0, 0.5, 0.6], ["micrometer"] * 3)
    io.write_zarr(tmp_path / "b.zarr", io.read_zarr(path))
    io.write_zarr(tmp_path / "c.zarr", io.read_zarr(path), voxel_size=(8, 1, 1.2))
    (_, found, _), *_ = layers(plugins, tmp_path / "b.zarr")
    assert found["scale"] == (4.0, 0.5, 0.6)
    assert found["translate"] == pytest.approx((8.0, 1.0, 1.2))
    (_, found, _), *_ = layers(plugins, tmp_path / "c.zarr")
    assert found["scale"] == (8.0, 1.0, 1.2)
    assert found["translate"] == pytest.approx((8.0, 1.0, 1.2))


EXTENTS = {"t": 2, "c": 3, "z": 5, "y": 40, "x": 50}
SCALES = {"t": 1.5, "c": 1.0, "z": 4.0, "y": 2.0, "x": 1.0}
SHIFTS = {"z": 10.0, "y": -20.0, "x": 30.5}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
WRITTEN = pytest.mark.parametrize(
    ("axes", "version"),
    [
        (axes, version)
        for axes in ("yx", "zyx", "cyx", "tyx", "czyx", "tzyx", "tczyx")
        for version in ("0.4", "0.5")
    ],
)


def write_placed(path: Path, axes: str, version: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Write an image that lies somewhere, with labels; give its names, its pixels and those."""
    data = make_volume([EXTENTS[a] for a in axes])
    frame = [
        {"name": a, "scale": SCALES[a], "translation": SHIFTS.get(a, 0.0), "unit": UNITS.get(a)}
        for a in axes
    ]
    names = ["dapi", "gfp", "syto"] if "c" in axes else ["dapi"]
    plain = path.with_name("plain.zarr")
    io.write_zarr(plain, data, axes=axes, attributes={"image_frame": {"axes": frame}})
    io.write_ome_zarr(
        path, io.read_zarr(plain), channels=names, levels=2, version=version,
        colors=["FF0000", "00FF00", "0000FF"][: len(names)],
    )  # fmt: skip
    label = data.take(0, axes.index("c")) if "c" in axes else data
    io.write_labels(path, "cells", label)
    return names, data, label


@WRITTEN
def test_what_is_written_lies_where_it_was_said_to(
    plugins: npe2.PluginManager, tmp_path: Path, axes: str, version: str
) -> None:
    names, data, label = write_placed(tmp_path / "b.zarr", axes, version)
    there = [a for a in "tzyx" if a in axes]
    for place, pixels, said in (("", data, "image"), ("labels/cells", label, "labels")):
        ((levels, shown, kind),) = layers(plugins, tmp_path / "b.zarr" / place)
        assert len(levels) == 2
        assert kind == said
        if axes == "cyx" and kind == "image":  # napari puts a plane of channels at z
            there = ["y", "x"]
        shown_axes = shown["scale"][-len(there) :], shown["translate"][-len(there) :]
        assert list(shown_axes[0]) == pytest.approx([SCALES[a] for a in there])
        assert list(shown_axes[1]) == pytest.approx([SHIFTS.get(a, 0) for a in there])
        assert shown["units"][-len(there) :] == tuple(UNITS[a] for a in there)
        np.testing.assert_array_equal(np.squeeze(levels[0].compute()), pixels)
        assert "t=0" not in str(shown["name"])
        if len(names) > 1 and kind == "image":
            assert levels[0].shape[shown["channel_axis"]] == len(names)
            assert [n.rpartition(" ")[2] for n in shown["name"]] == names


@pytest.mark.parametrize("how", ["OME", "ImageJ", "names"])
def test_all_time_points_of_tiff_files_are_shown(
    plugins: npe2.PluginManager, tmp_path: Path, how: str
) -> None:
    data = make_volume((3, 2, 4, 20, 30))
    path = tmp_path / "a.ome.tif"
    if how == "OME":
        step = {"TimeIncrement": 2.5, "TimeIncrementUnit": "ms"}
        tifffile.imwrite(path, data, metadata={"axes": "TCZYX", **step, **SIZES})
    elif how == "ImageJ":
        tifffile.imwrite(
            path, data.swapaxes(1, 2), imagej=True, resolution=(2, 2),
            metadata={"axes": "TZCYX", "finterval": 2.5, "unit": "um", "spacing": 4},
        )  # fmt: skip
    else:
        path = tmp_path / "a"
        for t, c in np.ndindex(3, 2):
            write_planes(path, data[t, c], names=[f"t{t}_c{c}_z{z}.tif" for z in range(4)])
        (path / "voxel_size.csv").write_text("4000,500,500\n")
    ((array, shown, _),) = layers(plugins, path)
    np.testing.assert_array_equal(array.compute(), data)
    assert shown["channel_axis"] == 1
    assert shown["scale"] == (1.0 if how == "names" else 2.5, 4.0, 0.5, 0.5)
    step = {"OME": "millisecond", "ImageJ": "second", "names": "pixel"}[how]
    assert shown["units"] == (step, *["micrometer"] * 3)


@pytest.mark.compat
@WRITTEN
def test_the_other_reader_of_napari_opens_what_is_written(
    tmp_path: Path, axes: str, version: str
) -> None:
    napari_ome_zarr = pytest.importorskip("napari_ome_zarr")
    path = str(tmp_path / "b.zarr")
    names, data, label = write_placed(tmp_path / "b.zarr", axes, version)
    found = napari_ome_zarr.napari_get_reader(path)(path)
    assert [kind for _, _, kind in found] == ["image", "labels"]
    letters = axes.replace("c", "")
    for levels, shown, kind in found:
        np.testing.assert_array_equal(np.asarray(levels[0]), label if kind == "labels" else data)
        # It looks at the first transformation of a level alone, so that a place is not asked for.
        assert shown["scale"] == pytest.approx([SCALES[a] for a in letters])
        assert list(shown["units"]) == [UNITS[a] for a in letters]
        assert tuple(shown["axis_labels"]) == tuple(letters)
        if kind == "image":
            called = [shown["name"]] if isinstance(shown["name"], str) else shown["name"]
            assert [n.rpartition(": ")[2] for n in called] == names


@pytest.mark.compat
def test_napari_itself_shows_axes_scale_names_and_levels(
    plugins: npe2.PluginManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    components = pytest.importorskip("napari.components")
    monkeypatch.setattr(npe2.PluginManager, "instance", lambda: plugins)
    data = make_volume((2, 9, 40, 50))
    path = tmp_path / "brain.ome.zarr"
    io.write_ome_zarr(
        path, data, (8, 16, 16), axes="czyx", channels=["nuclei", "axons"],
        voxel_size=(4, 2, 1), factors=[(1, 2, 2)],
    )  # fmt: skip
    viewer = components.ViewerModel()  # what the window shows, without one
    layers = viewer.open(str(path), plugin="scout-dask-io")
    assert [layer.name for layer in layers] == ["brain.ome.zarr nuclei", "brain.ome.zarr axons"]
    assert viewer.dims.axis_labels == ("z", "y", "x")
    for layer, channel in zip(layers, data, strict=True):
        assert tuple(layer.scale) == (4, 2, 1)
        assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
        assert [level.shape for level in layer.data] == [(9, 40, 50), (9, 20, 25)]
        np.testing.assert_array_equal(np.asarray(layer.data[0]), channel)
