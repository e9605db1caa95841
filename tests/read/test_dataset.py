"""Datasets by the names of their files: values, axes, channels, positions, holes, laziness."""

from __future__ import annotations

import re
import warnings
from itertools import product
from pathlib import Path

import dask
import numpy as np
import pytest
import tifffile
from helpers import make_volume
from hypothesis import given, settings
from hypothesis import strategies as st

import scout_dask_io as io
from scout_dask_io.run.lazy import source_of


def write_named(
    folder: Path,
    volume: np.ndarray,
    axes: str,
    form: str,
    photometric: str = "minisblack",
    **names: list,
) -> None:
    """Write a plane a file; ``form`` has a field an axis, whose values are ``names`` or numbers."""
    for index in product(*map(range, volume.shape[: len(axes)])):
        values = {a: names[a][k] if a in names else k for a, k in zip(axes, index, strict=True)}
        path = folder / form.format(**values)
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, volume[index], photometric=photometric)


CASES = {
    # form, axes of the names, words, names of the channels
    "UltraMicroscope": ("11-02-59_b_UltraII_C{c:02d}_xyz-Table Z{z:04d}.ome.tif", "cz", {},
                        ["C00", "C01"]),
    "Leica": ("Series002_z{z:02d}_ch{c:02d}.tif", "cz", {}, ["ch00", "ch01"]),
    "time as folders": ("t{t:04d}/color_{c}/{z:05d}.tif", "tcz", {}, ["color_0", "color_1"]),
    "wavelengths as folders": ("{c}/{z:04d}.tif", "cz", {"c": ["Ex_488_Em_525", "Ex_642_Em_690"]},
                               ["Ex_488_Em_525", "Ex_642_Em_690"]),
    "wavelengths": ("b_{z:03d}_{c}nm.tif", "cz", {"c": [488, 561]}, ["488nm", "561nm"]),
    "wavelengths alone": ("{c}_{z:03d}.tif", "cz", {"c": [405, 638]}, ["405", "638"]),
    "letters": ("Z{z:02d}C{c:02d}.tif", "cz", {}, ["C00", "C01"]),
    "dyes": ("cells_{c}_t{t}.tif", "tc", {"c": ["dapi", "gfp"]}, ["dapi", "gfp"]),
    "channels alone": ("organoid-ch{c}.tif", "c", {}, ["ch0", "ch1"]),
    "stage from the middle": ("c{c}/p_{z}.tif", "cz", {"z": [-300, -100, 100]}, ["c0", "c1"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_names_become_axes_and_channels(tmp_path: Path, case: str):
    form, axes, names, channels = CASES[case]
    extents = {"t": 2, "c": 2, "z": 3}
    volume = make_volume((*(extents[a] for a in axes), 30, 40))
    write_named(tmp_path, volume, axes, form, **names)
    got = io.imread_dataset(tmp_path)
    np.testing.assert_array_equal(got.compute(), volume)
    assert got.npartitions == volume[..., 0, 0].size
    info = source_of(got).info
    assert (info.axes, list(info.names)) == (axes + "yx", channels)


@pytest.mark.parametrize("form", ["ch{c}/z{z}.tif", "a_c{c}_z{z}.tif"])
def test_colour_planes_of_channels_keep_their_samples_and_either_way_out_leads_out(
    tmp_path: Path, form: str
):
    volume = make_volume((2, 3, 30, 40, 3), "u1")
    write_named(tmp_path / "src", volume, "cz", form, photometric="rgb")
    got = io.imread_dataset(tmp_path / "src")
    np.testing.assert_array_equal(got.compute(), volume)
    assert source_of(got).info.axes == io.info(tmp_path / "src").axes == "czyxs"
    assert io.scan(tmp_path / "src").ok
    with pytest.raises(io.ArgumentError, match=r"has the axes 'czyxs'.*write_ome_zarr"):
        io.convert(tmp_path / "src", tmp_path / "a.zarr", ome=True)
    assert not (tmp_path / "a.zarr").exists()
    io.convert(tmp_path / "src", tmp_path / "b.zarr")
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "b.zarr").compute(), volume)


def test_no_pixel_is_read_and_a_block_reads_its_own_file(tmp_path: Path):
    volume = make_volume((2, 3, 30, 40))
    write_named(tmp_path, volume, "cz", "a_C{c}_Z{z}.tif")
    got = io.imread_dataset(tmp_path)
    for c, z in product(range(2), range(3)):
        if (c, z) != (1, 2):
            (tmp_path / f"a_C{c}_Z{z}.tif").unlink()
    np.testing.assert_array_equal(got[1, 2].compute(), volume[1, 2])
    with pytest.raises(io.SourceChangedError), dask.config.set(scheduler="sync"):
        got[0, 0].compute()


MEMBERS = {
    "a time point a file, OME": ("t{}.ome.tif", (3, 2, 5, 30, 40), "tczyx", 0,
                                 {"ome": True, "metadata": {"axes": "CZYX"}}),
    "a time point a file, ImageJ": ("t{}.tif", (4, 5, 30, 40), "tzyx", 0,
                                    {"imagej": True, "metadata": {"axes": "ZYX"}}),
    "a channel a folder": ("ch{}/fused.tif", (2, 5, 30, 40), "czyx", 0,
                           {"imagej": True, "metadata": {"axes": "ZYX"}}),
    "a channel a file, pages that say nothing": ("brain_C{}.tif", (2, 5, 30, 40), "czyx", 0,
                                                 {"metadata": None}),
    "a plane a file of time and channels": ("z{}.ome.tif", (2, 3, 4, 30, 40), "tczyx", 2,
                                            {"ome": True, "metadata": {"axes": "TCYX"}}),
}  # fmt: skip


@pytest.mark.parametrize("case", MEMBERS)
def test_axes_inside_files_and_in_names_come_together(tmp_path: Path, case: str):
    form, shape, axes, at, how = MEMBERS[case]
    volume = make_volume(shape)
    for k, part in enumerate(np.moveaxis(volume, at, 0)):
        path = tmp_path / form.format(k)
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, part, photometric="minisblack", **how)
    got = io.imread_dataset(tmp_path)
    np.testing.assert_array_equal(got.compute(), volume)
    assert (source_of(got).info.axes, got.npartitions) == (axes, shape[at])


def test_an_axis_in_names_and_files_is_asked_for_and_what_the_message_names_leads_out(
    tmp_path: Path,
):
    volume = make_volume((3, 4, 30, 40))
    for k, part in enumerate(volume):
        tifffile.imwrite(tmp_path / f"stack_{k}.tif", part, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(io.ArgumentError, match="each file holds 4 of 'z'") as caught:
        io.imread_dataset(tmp_path)
    patterns = re.findall('pattern="(.+?)"', str(caught.value))
    assert patterns == ["stack_{t}.tif", "stack_{c}.tif", "stack_{position}.tif"]
    for pattern in patterns[:2]:
        np.testing.assert_array_equal(io.imread_dataset(tmp_path, pattern).compute(), volume)
    one = io.imread_dataset(tmp_path, patterns[2], position="1")
    np.testing.assert_array_equal(one.compute(), volume[1])


def test_two_readings_are_an_error_and_either_pattern_chooses(tmp_path: Path):
    volume = make_volume((3, 2, 30, 40))
    write_named(tmp_path, volume, "zc", "{z:02d}_{c:02d}.tif")
    with pytest.raises(io.ArgumentError, match="do not say which axis is which") as caught:
        io.imread_dataset(tmp_path)
    first, second = re.findall('pattern="(.+?)"', str(caught.value))[:2]
    np.testing.assert_array_equal(
        io.imread_dataset(tmp_path, first).compute(), volume.swapaxes(0, 1)
    )
    np.testing.assert_array_equal(io.imread_dataset(tmp_path, second).compute(), volume)
    again = io.imread_dataset(tmp_path, r"(?P<z>\d+)_(?P<c>\d+)\.tif")
    np.testing.assert_array_equal(again.compute(), volume.swapaxes(0, 1))


@pytest.mark.parametrize("words", [("left", "right"), ("k", "q"), ("b", "g", "r")])
@pytest.mark.parametrize("depth", [None, 4])
def test_every_reader_agrees_about_files_that_words_tell_apart(
    tmp_path: Path, words: tuple, depth: int | None
):
    volume = make_volume((len(words), *([] if depth is None else [depth]), 8, 9))
    for word, part in zip(words, volume, strict=True):
        tifffile.imwrite(tmp_path / f"{word}.tif", part, photometric="minisblack")
    if depth and words == ("k", "q"):
        with pytest.raises(io.ArgumentError, match="what 'k' and 'q' are: give pattern="):
            io.imread_dataset(tmp_path)
        assert io.info(tmp_path).axes is None
        return
    channels = () if words[0] in ("left", "k") and depth is None else words
    got, told = io.imread_dataset(tmp_path), io.info(tmp_path)
    np.testing.assert_array_equal(got.compute(), volume)
    axes = ("c" if channels else "z") + "z" * bool(depth) + "yx"
    assert source_of(got).info.axes == told.axes == axes
    assert told.channels == tuple(io.channel_names(tmp_path)) == channels


def test_each_position_is_an_array_and_an_error_lists_them(tmp_path: Path):
    volume = make_volume((2, 2, 3, 30, 40))
    write_named(tmp_path, volume, "pcz", "P_S{p:02d}_C{c}_Z{z}.tif")
    assert io.dataset_positions(tmp_path) == ["S0", "S1"]
    with pytest.raises(io.ArgumentError, match=r"2 positions: 'S0', 'S1'.*position=\"S0\""):
        io.imread_dataset(tmp_path)
    for k, name in enumerate(["S0", "S1"]):
        got = io.imread_dataset(tmp_path, position=name)
        np.testing.assert_array_equal(got.compute(), volume[k])
    with pytest.raises(io.ArgumentError, match="'S7' is none of them"):
        io.imread_dataset(tmp_path, position="S7")


def test_files_that_are_missing_are_named_or_filled_on_record(tmp_path: Path):
    volume = make_volume((2, 4, 30, 40))
    write_named(tmp_path, volume, "cz", "a_C{c}_Z{z}.tif")
    (tmp_path / "a_C1_Z2.tif").unlink()
    with pytest.raises(io.ShapeMismatchError, match="lacks channel 1, z 2 by the names"):
        io.imread_dataset(tmp_path)
    with pytest.warns(UserWarning, match="channel 1, z 2"):
        got = io.imread_dataset(tmp_path, missing="fill")
    volume[1, 2] = 0
    np.testing.assert_array_equal(got.compute(), volume)
    assert [f.plane for f in source_of(got).filled] == [(1, 2)]


def test_files_of_another_name_and_numbers_left_out_are_told_of(tmp_path: Path):
    volume = make_volume((2, 4, 30, 40))
    write_named(tmp_path, volume, "cz", "a_C{c}_Z{z}.tif", z=[0, 1, 2, 4])
    tifffile.imwrite(tmp_path / "background.tif", volume[0, 0])
    with (
        pytest.warns(UserWarning, match="'background.tif' is not named as the others"),
        pytest.warns(UserWarning, match="missing by the names: z 3"),
    ):
        got = io.imread_dataset(tmp_path)
    np.testing.assert_array_equal(got.compute(), volume)


def test_a_folder_that_leads_back_and_one_without_tiffs_are_passed_over(tmp_path: Path):
    volume = make_volume((2, 3, 30, 40))
    write_named(tmp_path, volume, "cz", "ch{c}/z{z}.tif")
    (tmp_path / "ch0" / "again").symlink_to(tmp_path)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no plane")
    np.testing.assert_array_equal(io.imread_dataset(tmp_path).compute(), volume)


@settings(max_examples=12, deadline=None)
@given(
    extents=st.tuples(st.integers(2, 3), st.integers(2, 3), st.integers(2, 4)),
    order=st.permutations(["T{t}", "ch{c:02d}", "z{z:03d}"]),
    between=st.sampled_from(["_", "-", "/", ""]),
    lost=st.integers(0, 10**6),
    decoy=st.booleans(),
)
def test_a_random_dataset_reads_as_what_made_it(
    tmp_path_factory, extents, order, between, lost, decoy
):
    folder = tmp_path_factory.mktemp("dataset")
    volume = make_volume((*extents, 5, 7), seed=lost)
    form = "scan_" + between.join(order) + ".tif"
    write_named(folder, volume, "tcz", form)
    hole = tuple(int(k) for k in np.unravel_index(lost % np.prod(extents), extents))
    (folder / form.format(**dict(zip("tcz", hole, strict=True)))).unlink()
    if decoy:
        beside = next(folder.rglob("*.tif")).parent
        tifffile.imwrite(beside / "MAX_of it.tif", volume[0, 0, 0])
    volume[hole] = 0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        got = io.imread_dataset(folder, missing="fill")
    np.testing.assert_array_equal(got.compute(), volume)
    assert [f.plane for f in source_of(got).filled] == [hole]
    assert any("MAX_of it.tif" in str(w.message) for w in told) == decoy


@pytest.mark.parametrize("names", [("run_Stack.tif", "run_Stack_1.tif")])
def test_stacks_whose_names_tell_nothing_are_refused_with_the_way(tmp_path, names):
    stacks = make_volume((6, 8, 9)).reshape(2, 3, 8, 9)
    for name, stack in zip(names, stacks, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / name, stack, photometric="minisblack", metadata=None)
    with pytest.raises(io.ArgumentError, match="do not say how they belong together") as caught:
        io.imread_dataset(tmp_path)
    assert "pattern=" in str(caught.value)
    assert names[0] in str(caught.value)
    np.testing.assert_array_equal(io.imread(tmp_path / names[1]), stacks[1])  # the way out


def test_a_stack_with_two_axes_that_nothing_names_is_asked_about(tmp_path: Path):
    volume = make_volume((2, 3, 2, 8, 9))
    for c in range(2):
        path = tmp_path / f"a_ch{c}.tif"
        tifffile.imwrite(path, volume[c], photometric="minisblack", metadata={"axes": "QQYX"})
    with pytest.raises(io.ArgumentError, match="holds 3x2 pages that do not say what they are"):
        io.imread_dataset(tmp_path)
