"""Levels by explicit factors or shapes: written, checked, appended to, updated and followed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from helpers import described, make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.cli import main
from scout_dask_io.core.grid import chunk_counts
from scout_dask_io.errors import ArgumentError

CHUNKS, SIZE = (8, 16, 16), (2.0, 1.0, 1.0)
FACTORS = [(1, 2, 2), (4, 1, 8)]
HOW: dict[str, Any] = {"voxel_size": SIZE, "factors": FACTORS}
VOLUME = make_volume((37, 50, 45))


def mean(values: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Give the mean of each window by numpy, halves to the even one."""
    out = np.empty(chunk_counts(values.shape, factors), values.dtype)
    for at in np.ndindex(*out.shape):
        window = values[tuple(slice(i * f, (i + 1) * f) for i, f in zip(at, factors, strict=True))]
        out[at] = np.rint(window.astype(float).sum() / window.size)
    return out


@pytest.fixture(scope="module")
def lower() -> list[np.ndarray]:
    first = mean(VOLUME, FACTORS[0])
    return [first, mean(first, FACTORS[1])]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_each_level_is_made_by_its_factors_and_says_so(
    tmp_path: Path, lower: list[np.ndarray], version: str
) -> None:
    path = tmp_path / "a.zarr"
    group = io.write_ome_zarr(path, VOLUME, CHUNKS, version=version, **HOW)
    for name, expected in zip(("1", "2"), lower, strict=True):
        np.testing.assert_array_equal(group[name][...], expected)
    assert io.verify(path).ok
    found = io.info(path).levels
    assert [level.scale for level in found] == [(2, 1, 1), (2, 2, 2), (8, 2, 16)]
    assert [level.translation for level in found] == [(0, 0, 0), (0, 0.5, 0.5), (3, 0.5, 7.5)]
    shapes = [level.shape for level in found]
    again = tmp_path / "again" / "a.zarr"
    io.write_ome_zarr(again, VOLUME, CHUNKS, version=version, levels=shapes, voxel_size=SIZE)
    assert described(again) == described(path)


def test_an_image_of_such_levels_grows_and_has_labels_of_them(tmp_path: Path) -> None:
    whole, grown = tmp_path / "whole/a.zarr", tmp_path / "grown/a.zarr"
    io.write_ome_zarr(whole, VOLUME, CHUNKS, **HOW)
    io.write_ome_zarr(grown, VOLUME[:18], CHUNKS, **HOW)
    io.write_ome_zarr(grown, VOLUME[18:21], append="z")
    io.write_ome_zarr(grown, VOLUME[21:], append="z")
    assert described(grown) == described(whole)
    with pytest.raises(ArgumentError, match="leave factors out"):
        io.write_ome_zarr(grown, VOLUME[:3], append="z", factors=FACTORS)
    io.write_labels(grown, "seg", (VOLUME > 9).astype("u1"))
    labels = zarr.open_group(grown / "labels/seg", mode="r")
    assert [labels[n].shape for n in "012"] == [(37, 50, 45), (37, 25, 23), (10, 25, 3)]


def test_levels_are_added_to_an_array_by_factors(tmp_path: Path, lower: list[np.ndarray]) -> None:
    io.write_zarr(tmp_path / "a.zarr", VOLUME, CHUNKS)
    report = io.pyramid(tmp_path / "a.zarr", tmp_path / "b.zarr", **HOW)
    assert report.levels == (VOLUME.shape, *(level.shape for level in lower))
    group = zarr.open_group(tmp_path / "b.zarr", mode="r")
    np.testing.assert_array_equal(group["2"][...], lower[1])


def test_converted_updated_and_followed_they_are_what_one_write_makes(tmp_path: Path) -> None:
    planes = tmp_path / "planes"
    write_planes(planes, VOLUME[:20])
    how: dict[str, Any] = {"ome": True, "chunks": CHUNKS, **HOW}
    io.convert(planes, tmp_path / "a.zarr", **how)
    file = sorted(planes.iterdir())[13]
    before = file.stat().st_mtime_ns
    tifffile.imwrite(file, VOLUME[30])
    os.utime(file, ns=(before, before + 10**9))
    report = io.update(planes, tmp_path / "a.zarr", **how)
    assert (len(report.changed), report.n_chunks < report.n_all_chunks) == (1, True)
    whole, followed = tmp_path / "whole/a.zarr", tmp_path / "followed/a.zarr"
    io.convert(planes, whole, **how)
    io.follow(planes, followed, 20, settle_s=0, poll_s=0.01, **how)
    assert described(tmp_path / "a.zarr") == described(whole)
    assert described(followed) == described(whole)


def test_the_command_line_takes_a_word_a_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_planes(tmp_path / "planes", VOLUME[:9])
    chunks = ["--chunks", "8,16,16", "-q"]
    for args, shapes in (
        (["--factors", "1,2,2", "2,2,4", "planes", "a.zarr"], [(9, 25, 23), (5, 13, 6)]),
        (["planes", "--levels=5,25,45", "5,13,12", "b.zarr"], [(5, 25, 45), (5, 13, 12)]),
        (["planes", "c.zarr", "--factors", "2,2", "--factors=2,1,1"], [(9, 25, 23), (5, 25, 23)]),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["convert", "--ome", *args, *chunks])
        assert ended.value.code == 0
        name = next(a for a in args if a.endswith(".zarr"))
        assert [level.shape for level in io.info(name).levels[1:]] == shapes
    for option, said in (("--factors=a,b", "is not by what a level"), ("--levels=0", "is not how")):
        with pytest.raises(SystemExit) as ended:
            main(["convert", "--ome", "planes", "d.zarr", option])
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"factors": [(3, 1, 1)]}, "3 along 'z', which does not divide the 8 elements of a chunk"),
        ({"factors": [(2, 2, 2)], "levels": 2}, "give one of the two"),
        ({"factors": [(1, 1, 1)]}, "level 1 would be as large as the level above, 37 x 50 x 45"),
        ({"factors": [(1, 2, 2), (64, 1, 1)]}, "level 2 .* by 64 along 'z', .* above has 37"),
        ({"factors": [(1, 2, 2, 2)]}, "along the last axes, of which there are 3"),
        ({"factors": 2}, "factors must be whole numbers from 1 up for each level"),
        ({"factors": [(2, 2, 2, 2)], "axes": "czyx"}, "by 2 along 'c': time and channels are kept"),
        ({"levels": [(30, 50, 45)]}, "cannot be 30 x 50 x 45: .* next smaller one is 19 x 50 x 45"),
        ({"levels": "three"}, "levels must be whole numbers"),
        ({"levels": 0}, "or the shapes of levels, got 0"),
    ],
)
def test_levels_that_cannot_be_are_refused_before_anything_is_written(
    tmp_path: Path, how: dict[str, Any], match: str
) -> None:
    data = VOLUME[None] if "axes" in how else VOLUME
    how = {"axes": "zyx", **how}
    with pytest.raises(ArgumentError, match=match):
        io.write_ome_zarr(tmp_path / "a.zarr", data, CHUNKS, **how)
    assert not list(tmp_path.iterdir())
    # Chunks of a multiple are the way out that the first of them names.
    if how.get("factors") == [(3, 1, 1)]:
        group = io.write_ome_zarr(tmp_path / "a.zarr", data, (9, 16, 16), **how)
        np.testing.assert_array_equal(group["1"][...], mean(VOLUME, (3, 1, 1)))
