"""What the names of files tell of a dataset: fields, their axes, holes, and what is ambiguous."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scout_dask_io.core.name_fields import (
    AmbiguousNamesError,
    grid_of_names,
    grid_of_pattern,
)
from scout_dask_io.errors import ArgumentError, PathNotFoundError

LAYOUTS = {
    # Names as programs of microscopes write them, and what they are.
    "UltraMicroscope": ("12-30-01_b_UltraII_C{c:02d}_xyz-Table Z{z:04d}.ome.tif", "cz"),
    "Leica": ("Series001_z{z:02d}_ch{c:02d}.tif", "cz"),
    "Yokogawa": ("Plate_B03_T0001F{p:03d}L01A01Z{z:02d}C{c:02d}.tif", "pcz"),
    "Micro-Manager": ("img_channel{c:03d}_position{p:03d}_time{t:09d}_z{z:03d}.tif", "ptcz"),
    "folders": ("t{t:04d}/color_{c}/plane{z}.tif", "tcz"),
    "wavelengths": ("img_{z:03d}_4{c}8nm.tif", "cz"),
    "tiles": ("brain_X{p}_z{z}.tif", "pz"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_read_whole(layout: str):
    form, axes = LAYOUTS[layout]
    extents = dict(zip("ptcz", (2, 3, 2, 4), strict=True))
    every = {
        index: form.format(**dict(zip(axes, index, strict=True)))
        for index in product(*(range(1, 1 + extents[a]) for a in axes))
    }
    grid = grid_of_names(every.values())
    assert grid.axes == axes
    assert grid.shape == tuple(extents[a] for a in axes)
    assert grid.holes == grid.strays == ()
    assert {tuple(n - 1 for n in index): name for index, name in every.items()} == grid.files


@given(
    extents=st.tuples(st.integers(2, 3), st.integers(2, 4), st.integers(2, 12)),
    order=st.permutations(["T{t}", "C{c:02d}", "Z{z:03d}"]),
    separator=st.sampled_from("_-. "),
    first=st.integers(0, 7),
    step=st.integers(1, 5),
    seed=st.integers(0, 999),
)
def test_a_grid_with_holes_and_decoys_is_what_made_it(extents, order, separator, first, step, seed):
    rng = np.random.default_rng(seed)
    form = "scan 7" + separator + separator.join(order) + ".tif"
    made = {
        (t, c, z): form.format(t=t, c=c, z=first + step * z)
        for t, c, z in product(*map(range, extents))
    }
    full = [tuple(index) for index in made]
    lost = full[int(rng.integers(len(full)))] if len(full) > 12 else None
    names = [name for index, name in made.items() if index != lost]
    decoys = ["MAX_of_all.tif", "copy of scan.tif"]
    grid = grid_of_names([*names, *decoys])
    assert grid.axes == "tcz"
    assert grid.strays == tuple(sorted(decoys))
    assert len(grid.files) == len(names)
    for index, name in grid.files.items():
        values = [f.values[n] for f, n in zip(grid.fields, index, strict=True)]
        t, c, z = values
        assert name == form.format(t=t, c=c, z=z)
    if lost is not None and grid.shape == extents:
        t, c, z = lost
        assert f"time {t}, channel {c}, z {first + step * z}" in grid.holes


def test_numbers_that_go_on_over_channels_begin_anew_in_each():
    names = [f"ch{c}/ch{c}{z:04d}.tif" for c in range(2) for z in range(30)]
    grid = grid_of_names(names)
    assert (grid.axes, grid.shape) == ("cz", (2, 30))
    assert grid.files[1, 7] == "ch1/ch10007.tif"


def test_signs_count_where_a_separator_stands_before_them():
    grid = grid_of_names([f"plane_{z}.tif" for z in (-200, -100, 0, 100)])
    assert grid.fields[0].values == (-200, -100, 0, 100)
    grid = grid_of_names([f"brain-{z}.tif" for z in (1, 2, 3)])
    assert grid.fields[0].values == (1, 2, 3)


@pytest.mark.parametrize(
    ("form", "values", "read"),
    [
        ("z-{}.tif", (30, 20, 10), None),
        ("C0_slice-{}.tif", (8, 9, 10), None),
        ("z-{}um.tif", (2.5, 5.0, 7.5), None),
        ("z-{:03d}.tif", (10, 20, 30), (10, 20, 30)),  # zeros before a number
        ("z-{}.tif", (0, 1, 2), (0, 1, 2)),
        ("z-{}.tif", (1, 2, 3, 4), (1, 2, 3, 4)),
        ("day-3_z-{}.tif", (10, 20, 30), (10, 20, 30)),  # a separator elsewhere too
        ("z_-{}.tif", (10, 20, 30), (-30, -20, -10)),
        ("-{}.tif", (10, 20, 30), (-30, -20, -10)),
        ("brain-{}.tif", (10, 20, 30), (10, 20, 30)),
    ],
)
def test_a_hyphen_that_may_be_a_minus_is_asked_for(form, values, read):
    names = [form.format(v) for v in values]
    if read is not None:
        assert grid_of_names(names).along("z").values == read
        return
    with pytest.raises(AmbiguousNamesError, match=r"whether the hyphen .* is a minus") as caught:
        grid_of_names(names)
    found = [grid_of_pattern(names, p).along("z").values for p in patterns_in(caught.value)]
    assert found == [tuple(sorted(-v for v in values)), tuple(sorted(values))]


def test_teras_of_tiles_are_known_by_their_folders():
    names = [
        f"Ex_{c}/{x:06d}/{x:06d}_{y:06d}/{z:06d}.tif"
        for c in (488, 561) for x in (0, 100) for y in (0, 50) for z in range(3)
    ]  # fmt: skip
    grid = grid_of_names(names)
    assert (grid.axes, grid.shape) == ("pcz", (4, 2, 3))


def test_two_bare_numbers_are_asked_for_and_the_patterns_that_are_named_choose():
    names = [f"{a:03d}_{b:03d}.tif" for a in range(3) for b in range(2)]
    with pytest.raises(AmbiguousNamesError, match=r'pattern="\{z\}_\{c\}\.tif"') as caught:
        grid_of_names(names)
    assert "0, 1, 2 (3 values)" in caught.value.varying
    assert grid_of_pattern(names, "{z}_{c}.tif").shape == (2, 3)
    assert grid_of_pattern(names, "{c}_{z}.tif").shape == (3, 2)


def patterns_in(error: Exception) -> list[str]:
    return re.findall('pattern="(.+?)"', str(error))


def test_wells_alone_may_be_words_and_a_counter_and_are_asked_for():
    names = [f"{row}{column:02d}.tif" for row in "AB" for column in range(1, 13)]
    with pytest.raises(AmbiguousNamesError, match="A01, A02, A03") as caught:
        grid_of_names(names)
    wells, both = (grid_of_pattern(names, p) for p in patterns_in(caught.value))
    assert (wells.axes, wells.positions[:2], len(wells.positions)) == ("p", ("A01", "A02"), 24)
    assert (both.axes, both.shape, both.along("c").labels) == ("cz", (2, 12), ("A", "B"))


@pytest.mark.parametrize(
    ("form", "values", "axes"),
    [
        ("a_c{c}_z_{z:.2f}.tif", [0.0, 0.25, 0.5, 0.75, 1.0], "cz"),
        ("a_c{c}_z{z:.1f}.tif", [9.5, 10.0, 10.5], "cz"),
        ("t{c}h{z:.1f}.tif", [9.0, 9.5, 10.5], "tz"),
    ],
)
def test_numbers_with_a_point_are_asked_for_and_read_in_their_order(form, values, axes):
    names = [form.format(c=c, z=z) for c in (1, 2) for z in values]
    with pytest.raises(AmbiguousNamesError) as caught:
        grid_of_names(names)
    read = [grid_of_pattern(names, p) for p in patterns_in(caught.value)]
    grid = next(g for g in read if g.axes == axes and not g.holes)
    assert grid.along("z").values == tuple(values)


def test_gaps_are_told_of_numbers_with_a_point_too():
    grid = grid_of_names([f"a_{z}um.tif" for z in (0, 2.5, 5, 10, 12.5)])
    assert (grid.axes, grid.gaps) == ("z", ("z 7.5",))


@pytest.mark.parametrize(
    ("names", "n"),
    [
        ([f"brain{b}_C{c}_z{z}.tif" for b in (1, 2) for c in (0, 1) for z in range(3)], 2),
        (["2023-01-01_10h00/z0.tif", "2023-01-01_10h05/z0.tif", "2023-01-01_11h00/z0.tif"], 3),
        ([f"{a}_{b}_{c}.tif" for a in range(2) for b in range(3) for c in range(2)], 4),
    ],
)
def test_every_pattern_that_is_offered_takes_all_files_and_no_axis_twice(names, n):
    with pytest.raises(AmbiguousNamesError) as caught:
        grid_of_names(names)
    patterns = patterns_in(caught.value)
    assert len(patterns) >= n
    for pattern in patterns:
        grid = grid_of_pattern(names, pattern)
        assert (grid.strays, len(grid.files)) == ((), len(names))
    assert any("{p}" in pattern for pattern in patterns)


@pytest.mark.parametrize(
    ("names", "axes", "guessed"),
    [
        (["a.tif", "b.tif", "c.tif"], "z", "z by the order of the words alone"),
        (["left.tif", "right.tif"], "z", "z by the order of the words alone"),
        (["dapi.tif", "sox.tif"], "c", ""),
        (["DAPI.tif", "Cy5.tif", "GFP.tif"], "c", ""),
        (["r.tif", "g.tif", "b.tif"], "c", ""),
        ([f"{k}{z:03d}.tif" for k in "rg" for z in range(3)], "cz", "z by the numbers alone"),
        ([f"{k}/z{z}.tif" for k in "kq" for z in range(3)], "cz", ""),
    ],
)
def test_words_are_channels_where_they_say_so_or_are_folders(names, axes, guessed):
    grid = grid_of_names(names)
    assert grid.axes == axes
    assert guessed in str(grid)
    assert ("alone" in str(grid)) == bool(guessed)


def test_letters_before_numbers_may_be_anything_and_are_asked_for():
    names = [f"{k}_{z:03d}.tif" for k in "kq" for z in range(3)]
    with pytest.raises(AmbiguousNamesError, match=r"k, q \(2 values\)") as caught:
        grid_of_names(names)
    found = [grid_of_pattern(names, p) for p in patterns_in(caught.value)]
    assert [(g.axes, g.shape) for g in found] == [("pz", (2, 3)), ("cz", (2, 3)), ("tz", (2, 3))]


def test_a_projection_or_a_copy_is_no_channel():
    names = [f"ch{c}_z{z}.tif" for c in range(2) for z in range(4)]
    for odd in ("MAX_z0.tif", "ch1_z3 - Copy.tif", "ch1_zmax.tif"):
        grid = grid_of_names([*names, odd])
        assert (grid.axes, grid.shape, grid.strays) == ("cz", (2, 4), (odd,))


def test_names_of_which_no_two_are_alike_tell_nothing():
    grid = grid_of_names(["a_s189A35A04-20E3.tif", "a_s1091EB8A5-272A.tif"])
    assert grid.fields == ()
    assert grid.files == {}


def test_patterns_take_words_and_regular_expressions_and_name_what_is_wrong():
    names = [f"{c}_{z:02d}.tif" for c in ("dapi", "gfp") for z in range(3)]
    grid = grid_of_pattern([*names, "notes.txt"], "{channel}_{z}.tif")
    assert grid.along("c").labels == ("dapi", "gfp")
    assert grid.strays == ("notes.txt",)
    again = grid_of_pattern(names, r"(?P<c>[a-z]+)_(?P<z>\d+)\.tif")
    assert again.files == grid.files
    with pytest.raises(PathNotFoundError, match=r"no file fits the pattern .* there are dapi_00"):
        grid_of_pattern(names, "C{c}_Z{z}.tif")
    with pytest.raises(ArgumentError, match="has no field"):
        grid_of_pattern(names, "{name}.tif")
    with pytest.raises(ArgumentError, match="are the same by their names"):
        grid_of_pattern(names, "{name}_{z}.tif")


def test_folders_named_unlike_each_other_are_channels_where_their_planes_are_named_alike():
    folders = ["DAPI", "Cy5 far red", "Ex_488_Em_525"]
    names = [f"{folder}/z{z:03d}.tif" for folder in folders for z in range(4)]
    for lost in ([], ["DAPI/z001.tif"]):
        grid = grid_of_names(sorted(set(names) - set(lost)))
        assert (grid.axes, grid.along("c").labels) == ("cz", tuple(sorted(folders)))
        assert grid.holes == tuple("channel DAPI, z 1" for _ in lost)
        assert grid_of_pattern(names, grid.pattern).shape == (3, 4)
    few = [*names, "MIP/MAX_DAPI.tif"]
    assert "MIP/MAX_DAPI.tif" in grid_of_names(few).strays
    assert "previews/z002.tif" in grid_of_names([*names, "previews/z002.tif"]).strays
