"""Images that grow: every level, its metadata and its manifest are those of one write."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import described, make_volume
from object_store import Lab

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, ChunkError, ShapeMismatchError

CHUNKS = (8, 16, 16)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("ends", "size", "levels"),
    [
        ([37, 38, 41, 60], (2, 1, 1), 4),  # an odd end, at which no level gets longer
        ([40, 80], (1, 1, 1), 4),
        ([1, 5, 60], (1, 1, 1), 4),  # halved along an axis that had one element
        ([130, 260], (2, 1, 1), None),  # levels that a larger image has
    ],
    ids=str,
)
def test_an_image_that_grew_in_steps_is_what_one_write_makes(
    tmp_path: Path, version: str, ends: list[int], size: Any, levels: int | None
) -> None:
    y, x = (70, 50) if levels else (30, 20)
    volume = make_volume((ends[-1], y, x))
    whole, grown = tmp_path / "whole/a.zarr", tmp_path / "grown/a.zarr"
    how: dict[str, Any] = {"version": version, "voxel_size": size, "levels": levels}
    io.write_ome_zarr(whole, volume, CHUNKS, **how)
    io.write_ome_zarr(grown, volume[: ends[0]], CHUNKS, **how)
    for start, stop in pairwise(ends):
        group = io.write_ome_zarr(grown, volume[start:stop], append="z")
        assert group["0"].shape == (stop, y, x)
    assert described(grown) == described(whole)
    assert io.verify(grown).ok


def test_an_image_grows_along_y_and_x_too(tmp_path: Path) -> None:
    volume = make_volume((9, 70, 51))
    whole, grown = tmp_path / "whole/a.zarr", tmp_path / "grown/a.zarr"
    io.write_ome_zarr(whole, volume, CHUNKS, levels=3)
    io.write_ome_zarr(grown, volume[:5, :33, :17], CHUNKS, levels=3)
    io.write_ome_zarr(grown, volume[:5, 33:, :17], append="y")
    io.write_ome_zarr(grown, volume[5:, :, :17], append="z")
    io.write_ome_zarr(grown, volume[:, :, 17:], append="x")
    assert described(grown) == described(whole)


def test_channels_and_times_are_appended_with_names_and_colours(tmp_path: Path) -> None:
    volume = make_volume((3, 9, 40, 30))
    whole, grown = tmp_path / "whole/a.zarr", tmp_path / "grown/a.zarr"
    how: dict[str, Any] = {"levels": 2}
    io.write_ome_zarr(whole, volume, CHUNKS, channels=["a", "b", "c"], **how)
    io.write_ome_zarr(grown, volume[:2], CHUNKS, channels=["a", "b"], **how)
    io.write_ome_zarr(grown, volume[2:], append="c", channels=["c"])
    found, want = (zarr.open_group(str(p), mode="r") for p in (grown, whole))
    assert found.attrs["omero"] == want.attrs["omero"]
    assert found["1"].attrs.asdict() == want["1"].attrs.asdict()
    np.testing.assert_array_equal(found["1"][...], want["1"][...])
    times = tmp_path / "t.zarr"
    io.write_ome_zarr(times, volume[:1], CHUNKS, axes="tzyx", levels=2)
    io.write_ome_zarr(times, volume[1:], append="t")
    np.testing.assert_array_equal(zarr.open_group(str(times), mode="r")["0"][...], volume)


def test_labels_stay_labels_and_those_below_an_image_are_told_of(tmp_path: Path) -> None:
    cells = np.arange(20, dtype="u2").repeat(400).reshape(20, 20, 20)
    image = tmp_path / "a.zarr"
    io.write_ome_zarr(image, cells[:7] * 9, CHUNKS, levels=2)
    io.write_labels(image, "cells", cells[:7])
    with pytest.warns(UserWarning, match="labels 'cells' end where it ended along 'z'"):
        io.write_ome_zarr(image, cells[7:] * 9, append="z")
    io.write_ome_zarr(image / "labels/cells", cells[7:], append="z")  # the way
    np.testing.assert_array_equal(io.read_zarr(image, label="cells").compute(), cells)
    lower = io.read_zarr(image, label="cells", level=1).compute()
    assert set(np.unique(lower)) <= set(range(20))  # the mode of odd rows and even ones
    assert io.verify(image / "labels/cells").ok


@pytest.mark.parametrize(
    ("data", "settings", "error", "named"),
    [
        (np.zeros((3, 40, 31), "u2"), {}, ShapeMismatchError, ["(3, 40, 31)", "(9, 40, 30)"]),
        (np.zeros((3, 40, 30), "u1"), {}, ArgumentError, ["uint8", "uint16"]),
        (np.zeros((3, 40, 30), "u2"), {"levels": 3}, ArgumentError, ["levels is 3", "2"]),
        (np.zeros((3, 40, 30), "u2"), {"chunks": 32}, ChunkError, ["32", "(8, 16, 16)"]),
        (np.zeros((3, 40, 30), "u2"), {"labels": True}, ArgumentError, ["labels", "False"]),
        (np.zeros((3, 40, 30), "u2"), {"version": "0.5"}, ArgumentError, ["'0.5'", "'0.4'"]),
        (np.zeros((3, 40, 30), "u2"), {"codec": "none"}, ArgumentError, ["none", "zstd"]),
        (np.zeros((3, 40, 30), "u2"), {"channels": ["a"]}, ArgumentError, ["channels"]),
        (np.zeros((3, 40, 30), "u2"), {"qc": True}, ArgumentError, ["qc"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_an_image_is_one_error(
    tmp_path: Path, data: Any, settings: Any, error: Any, named: list[str]
) -> None:
    path = tmp_path / "a.zarr"
    io.write_ome_zarr(path, make_volume((9, 40, 30)), CHUNKS, levels=2)
    before = described(path)
    with pytest.raises(error) as caught:
        io.write_ome_zarr(path, data, append="z", **settings)
    assert all(text in str(caught.value) for text in named), str(caught.value)
    assert described(path) == before


def test_an_array_and_a_level_are_refused_with_the_way(tmp_path: Path) -> None:
    volume = make_volume((9, 40, 30))
    io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS)
    io.write_ome_zarr(tmp_path / "i.zarr", volume, CHUNKS, levels=2)
    with pytest.raises(ArgumentError, match="write_zarr"):
        io.write_ome_zarr(tmp_path / "a.zarr", volume, append="z")
    with pytest.raises(ArgumentError, match="write_ome_zarr"):
        io.write_zarr(tmp_path / "i.zarr/0", volume, append="z")


def test_an_image_in_a_store_grows(lab: Lab) -> None:
    volume = make_volume((19, 40, 30))
    options: dict[str, Any] = {"storage_options": lab.options}
    io.write_ome_zarr(lab.url, volume[:7], CHUNKS, levels=3, **options)
    io.write_ome_zarr(lab.url, volume[7:8], append="z", **options)
    delayed = io.write_ome_zarr(lab.url, volume[8:], append="z", compute=False, **options)
    assert io.read_zarr(lab.url, **options).shape == (8, 40, 30)
    delayed.compute()
    for level in range(3):
        lab_level = io.read_zarr(lab.url, level=level, **options)
        want = volume
        assert lab_level.shape[0] == -(-19 // 2**level)
        if level == 0:
            np.testing.assert_array_equal(lab_level.compute(), want)
    assert io.verify(lab.url, **options).ok
    assert not [n for n in lab.names() if "append" in n]
