"""Where planes belong while others are yet to come: held against the rank among all of them."""

from __future__ import annotations

import random

import pytest

from scout_dask_io.files.local import LocalLocation
from scout_dask_io.tiff.placement import (
    ChannelPlacement,
    FolderPlacement,
    NamedPlacement,
    missing_places,
    placement_of,
    run_of,
)

ROOT = LocalLocation("/nowhere/at/all")


@pytest.mark.parametrize(
    ("names", "n"),
    [
        ([], 0),
        (["z7.tif"], 1),
        (["z0.tif", "z1.tif", "z2.tif"], 3),
        (["z0.tif", "z1.tif", "z3.tif"], 2),
        (["z0000.tif", "z0010.tif", "z0020.tif"], 3),
        (["z0000.tif", "z0010.tif", "z0015.tif"], 1),
        (["z0_11h02.tif", "z1_11h05.tif", "z2_11h01.tif"], 3),
        (["a.tif", "b.tif", "c.tif"], 1),
        (["z1.tif", "z10.tif", "z11.tif", "z2.tif"], 1),
    ],
)
def test_a_run_ends_where_a_number_is_missing_or_a_name_is_another(names, n):
    assert run_of(names) == n


@pytest.mark.parametrize("seed", range(5))
def test_once_the_first_plane_is_there_no_place_ever_changes(seed):
    names = [f"img_{z:04d}.tif" for z in range(0, 400, 10)]
    final = {(k,): name for k, name in enumerate(names)}
    late = names[1:]
    random.Random(seed).shuffle(late)
    placement = FolderPlacement(ROOT, (len(names),))
    for n in range(2, len(names) + 1):
        placed = placement.places([names[0], *late[: n - 1]])
        # The step of two planes far apart is not known to be too large.
        if n > 10:
            assert placed.items() <= final.items()
    assert placed == final


def test_all_planes_have_places_once_they_are_as_many_as_are_to_come():
    names = ["a.tif", "b.tif", "x7.tif"]
    assert FolderPlacement(ROOT, (4,)).places(names) == {(0,): "a.tif"}
    assert FolderPlacement(ROOT, (3,)).places(names) == {(k,): n for k, n in enumerate(names)}


def test_natural_order_places_z2_before_z10():
    names = [f"z{z}.tif" for z in range(1, 13)]
    placed = FolderPlacement(ROOT, (20,), "natural").places(names)
    assert placed == {(k,): name for k, name in enumerate(names)}


def test_each_channel_has_a_run_of_its_own():
    names = ["color_0/z0.tif", "color_0/z1.tif", "color_1/z0.tif", "color_1/z1.tif"]
    names.append("color_1/z3.tif")
    assert ChannelPlacement(ROOT, (2, 4)).places(names) == {
        (0, 0): "color_0/z0.tif",
        (0, 1): "color_0/z1.tif",
        (1, 0): "color_1/z0.tif",
        (1, 1): "color_1/z1.tif",
    }


def test_names_that_carry_time_channel_and_z_are_placed_in_this_order():
    names = [f"s_t{t}_C{c}_Z{z:02d}.tif" for t in range(2) for z in range(3) for c in range(2)]
    placement = NamedPlacement(ROOT, "tcz", (3, 2, 3), "s_t{t}_C{c}_Z{z}.tif")
    placed = placement.places(names)
    assert placed[1, 0, 2] == "s_t1_C0_Z02.tif"
    assert len(placed) == len(names)


def test_a_gap_along_an_axis_ends_what_is_known_of_it():
    names = [f"t{t}_z{z}.tif" for t in (0, 1, 2) for z in (0, 1, 3)]
    placed = NamedPlacement(ROOT, "tz", (9, 9), "t{t}_z{z}.tif").places(names)
    assert sorted(placed) == [(t, z) for t in range(3) for z in range(2)]


def test_names_that_carry_another_axis_than_is_counted_have_no_place():
    names = [f"t{t}_z{z}.tif" for t in range(2) for z in range(2)]
    assert NamedPlacement(ROOT, "z", (2,)).places(names) == {}
    assert NamedPlacement(ROOT, "tz", (2, 2)).places([]) == {}


def test_what_is_counted_and_what_is_there_choose_the_placement(tmp_path):
    root = LocalLocation(tmp_path)
    assert isinstance(placement_of(root, {"z": 3}), FolderPlacement)
    assert isinstance(placement_of(root, {"z": 3, "c": 2}), ChannelPlacement)
    (tmp_path / "c0_z0.tif").touch()
    assert isinstance(placement_of(root, {"z": 3, "c": 2}), NamedPlacement)
    named = placement_of(root, {"z": 3, "t": 2})
    assert (named.axes, named.extents) == ("tz", (2, 3))


def test_listing_leaves_out_hidden_files_folders_and_other_suffixes(tmp_path):
    for name in ("z0.tif", "z1.TIFF", ".z2.tif", "z3.tif.part", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "z4.tif").mkdir()
    root = LocalLocation(tmp_path)
    assert sorted(FolderPlacement(root, (9,)).names()) == ["z0.tif", "z1.TIFF"]
    (tmp_path / "color_0").mkdir()
    (tmp_path / "color_0" / "z0.tif").touch()
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "z0.tif").touch()
    assert ChannelPlacement(root, (1, 9)).names() == ["color_0/z0.tif"]
    assert FolderPlacement(ROOT, (9,)).names() == []
    assert NamedPlacement(ROOT, "z", (9,)).names() == []


def test_missing_places_are_those_that_nothing_is_there_for():
    assert missing_places((2, 2), {(0, 0): "a", (1, 1): "b"}) == [(0, 1), (1, 0)]
