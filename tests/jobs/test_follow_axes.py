"""Channel folders and named datasets that are followed: held against a conversion afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from following import Stage, Stopped, assert_as_converted, pixels, put
from helpers import make_volume

import scout_dask_io as io

VOLUME = make_volume((2, 9, 24, 30))
MOVIE = make_volume((3, 2, 5, 24, 30))
PATTERN = "s_t{t}_C{c}_Z{z}.tif"


def channel_steps(src, order):
    return [
        lambda c=c, z=z: put(src / f"color_{c}" / f"z{z:02d}.tif", VOLUME[c, z]) for c, z in order
    ]


def movie_steps(src, order):
    return [
        lambda t=t, c=c, z=z: put(src / f"s_t{t}_C{c}_Z{z:02d}.tif", MOVIE[t, c, z])
        for t, c, z in order
    ]


ORDERS = {
    "one channel after the other": [(c, z) for c in range(2) for z in range(9)],
    "plane by plane": [(c, z) for z in range(9) for c in range(2)],
    "any": [tuple(divmod(int(k), 9)) for k in np.random.default_rng(1).permutation(18)],
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("options", [{}, {"ome": True, "levels": 2, "qc": True}], ids=["", "ome"])
def test_channel_folders_become_what_convert_makes_of_them(tmp_path, order, options):
    src, dst = tmp_path / "brain", tmp_path / "a.ome.zarr" if options else tmp_path / "a.zarr"
    Stage(channel_steps(src, order)).follow(src, dst, {"c": 2, "z": 9}, **options)
    assert np.array_equal(pixels(dst), VOLUME)
    assert_as_converted(src, dst, tmp_path, **options)


@pytest.mark.posix  # a growing array is seen by hard links alone
def test_of_channels_readers_see_the_planes_that_all_of_them_have(tmp_path):
    src, dst = tmp_path / "brain", tmp_path / "a.zarr"
    seen = set()

    def see():
        if dst.exists():
            array = zarr.open_array(str(dst), mode="r")
            seen.add(array.shape)
            assert np.array_equal(array[...], VOLUME[:, : array.shape[1]])

    Stage(channel_steps(src, ORDERS["plane by plane"]), see).follow(src, dst, {"c": 2, "z": 9})
    assert {(2, 4, 24, 30), (2, 8, 24, 30)} <= seen


MOVIE_ORDERS = {
    "as a microscope": [(t, c, z) for t in range(3) for z in range(5) for c in range(2)],
    "any": [
        tuple(map(int, np.unravel_index(k, (3, 2, 5))))
        for k in np.random.default_rng(2).permutation(30)
    ],
}


@pytest.mark.parametrize("order", MOVIE_ORDERS.values(), ids=MOVIE_ORDERS)
@pytest.mark.parametrize("options", [{}, {"ome": True, "levels": 2}], ids=["", "ome"])
def test_names_with_time_channel_and_z_become_what_convert_makes_of_them(tmp_path, order, options):
    src, dst = tmp_path / "movie", tmp_path / "a.ome.zarr" if options else tmp_path / "a.zarr"
    options = {"pattern": PATTERN, **options}
    Stage(movie_steps(src, order)).follow(src, dst, {"t": 3, "c": 2, "z": 5}, **options)
    assert np.array_equal(pixels(dst), MOVIE)
    assert_as_converted(src, dst, tmp_path, **options)


@pytest.mark.posix  # a growing array is seen by hard links alone
def test_of_time_points_readers_see_those_that_are_whole(tmp_path):
    src, dst = tmp_path / "movie", tmp_path / "a.zarr"
    seen = set()

    def see():
        if dst.exists():
            array = zarr.open_array(str(dst), mode="r")
            seen.add(array.shape[0])
            assert np.array_equal(array[...], MOVIE[: array.shape[0]])

    steps = movie_steps(src, MOVIE_ORDERS["as a microscope"])
    Stage(steps, see).follow(src, dst, {"t": 3, "c": 2, "z": 5}, pattern=PATTERN)
    assert {1, 2} <= seen


@pytest.mark.parametrize("stop_at", range(4, 40, 7))
def test_names_that_are_followed_go_on_after_a_kill(tmp_path, stop_at):
    src, dst = tmp_path / "movie", tmp_path / "a.zarr"
    stage = Stage(movie_steps(src, MOVIE_ORDERS["as a microscope"]))
    stage.stop_at = stop_at
    planes = {"t": 3, "c": 2, "z": 5}
    try:
        stage.follow(src, dst, planes, pattern=PATTERN)
    except Stopped:
        stage.follow(src, dst, planes, pattern=PATTERN, resume=True)
    assert np.array_equal(pixels(dst), MOVIE)
    assert_as_converted(src, dst, tmp_path, pattern=PATTERN)


def test_a_channel_that_nobody_counted_is_an_error(tmp_path):
    src, dst = tmp_path / "brain", tmp_path / "a.zarr"
    steps = channel_steps(src, ORDERS["one channel after the other"])
    steps.append(lambda: put(src / "color_2" / "z00.tif", VOLUME[0, 0]))
    with pytest.raises(io.ShapeMismatchError, match="19 planes, and 18 were to come"):
        Stage([lambda: [step() for step in steps]]).follow(src, dst, {"c": 2, "z": 9})
