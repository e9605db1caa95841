"""What is known of an image follows its axes, and each guess is made in one place."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from scout_dask_io.core.axes import axes_of, guessed_axes, stated_axes
from scout_dask_io.core.image_info import (
    COLORS,
    Channel,
    FilledPlane,
    ImageInfo,
    channel_colors,
    named_channels,
)
from scout_dask_io.core.ome_metadata import parse_image
from scout_dask_io.core.source import ArraySource, ViewSource
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.errors import ArgumentError

SIZE = VoxelSize(4.0, 2.0, 1.0, "given")
INFO = ImageInfo(
    "zcyx", SIZE, named_channels(("a", "b", "c"), COLORS[:3]), (FilledPlane((3,), "x.tif", "?"),)
)


def test_channels_follow_a_region_and_filled_planes_lose_their_place():
    part = INFO.cropped((slice(2, 5), slice(1, 3), slice(0, 7), slice(0, 8)))
    assert (part.axes, part.names, part.colors) == ("zcyx", ("b", "c"), COLORS[1:3])
    assert part.missing == (FilledPlane((), "x.tif", "?"),)
    assert part.voxel_size == SIZE


def test_axes_follow_their_order_and_sizes_their_level():
    assert INFO.transposed((1, 0, 2, 3)).axes == "czyx"
    assert ImageInfo().transposed((1, 0)).axes == ""
    lower = INFO.level((1, 2, 2)).voxel_size
    assert lower is not None
    assert lower.micrometres == (4.0, 4.0, 2.0)
    assert ImageInfo().level((1, 2, 2)) == ImageInfo()


def test_it_travels():
    assert pickle.loads(pickle.dumps(INFO)) == INFO


def test_a_view_has_what_its_source_has():
    source = ArraySource(np.zeros((4, 3, 7, 8)), "")
    source._info = INFO
    view = ViewSource(
        source, (slice(0, 4), slice(2, 3), slice(0, 7), slice(0, 8)), (1, 0, 2, 3)
    )  # fmt: skip
    assert (view.info.axes, view.info.names) == ("czyx", ("c",))
    assert view.info_with(VoxelSize(1, 1, 1, "x")).voxel_size == VoxelSize(1, 1, 1, "x")
    assert view.info.voxel_size == SIZE


@pytest.mark.parametrize(
    ("channels", "names", "colors"),
    [
        ((), (), ()),
        ((Channel(), Channel()), (), ()),
        ((Channel("a"), Channel(color="00FF00")), ("a", ""), ()),
        ((Channel("a", "FFFFFF"),), ("a",), ("FFFFFF",)),
    ],
)
def test_colours_are_known_of_each_channel_or_none(channels, names, colors):
    info = ImageInfo(channels=channels)
    assert (info.names, info.colors) == (names, colors)


def test_channels_that_do_not_fit_have_the_names_of_the_house():
    assert INFO.defaults(2).names == ("channel 0", "channel 1")
    assert INFO.defaults(2).colors == ()
    assert INFO.defaults(3) == INFO
    assert ImageInfo(channels=(Channel(color="0000FF"),)).defaults(1).channels == (
        Channel("channel 0", "0000FF"),
    )


def test_one_channel_is_white_and_seven_begin_again():
    assert channel_colors((), 1) == ("FFFFFF",)
    assert channel_colors((), 7) == (*COLORS, COLORS[0])
    assert channel_colors(("0000FF",), 2) == COLORS[:2]


@pytest.mark.parametrize(
    ("names", "ndim", "axes"),
    [
        (["Z", "Y", "X"], 3, "zyx"),
        (["time", "channel", "y", "x"], 4, "tcyx"),
        (["z", "y", "x"], 4, ""),
        (["y", "y"], 2, ""),
        (["Row", "x"], 2, "yx"),
        (["round", "y", "x"], 3, "qyx"),
        (["dim_0", "dim_1"], 2, ""),
        (["i", "j"], 2, ""),
        ([None, "x"], 2, "yx"),
        (["x", None, None], 3, "xzy"),
        ([None, None], 2, ""),
        ("yx", 2, ""),
        (None, 0, ""),
    ],
)
def test_names_state_axes_if_one_has_a_meaning_and_no_two_the_same(names, ndim, axes):
    assert stated_axes(names, ndim) == axes


def test_axes_are_guessed_by_their_number():
    assert [guessed_axes(n) for n in range(2, 6)] == ["yx", "zyx", "czyx", "tczyx"]
    assert guessed_axes(3, channels=True) == "cyx"
    assert guessed_axes(6) == "qtczyx"
    assert guessed_axes(12) == "?" * 12
    with pytest.raises(ArgumentError, match="2 to 5 axes"):
        axes_of(6)


def test_axes_of_ome_ngff_count_by_name_and_by_type():
    image = parse_image(
        {
            "multiscales": [
                {
                    "axes": [
                        {"name": "frame", "type": "time"},
                        {"name": "wave", "type": "channel"},
                        {"name": "Z", "type": "space", "unit": "micrometer"},
                        {"name": "y", "type": "space"},
                        {"name": "width", "type": "space"},
                    ],
                    "datasets": [
                        {
                            "path": "0",
                            "coordinateTransformations": [
                                {"type": "scale", "scale": [1, 1, 4.0, 2.0, 2.0]}
                            ],
                        }
                    ],
                }
            ]
        },
        "a",
    )
    assert image is not None
    assert image.axes == "tczyx"
    assert image.info.voxel_size == VoxelSize(4.0, None, None, "OME-Zarr metadata of a")
