"""The demonstration, and the synthetic organoid that it shows."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from scout_dask_io.errors import ArgumentError, TargetExistsError, WriteError
from scout_dask_io.jobs.demo import SHAPE, demo, organoid

SMALL = (9, 40, 50)


@pytest.mark.usefixtures("small_demo")
def test_demo_leaves_planes_and_an_equal_array(tmp_path: Path):
    said: list[str] = []
    report = demo(tmp_path / "new" / "demo", say=said.append)
    planes = tmp_path / "new" / "demo" / "organoid"
    assert (report.planes, report.zarr) == (str(planes), str(planes) + ".zarr")
    assert report.verify.equal
    assert report.n_files == 18
    assert len(said) == 3
    array = zarr.open(report.zarr, mode="r")
    assert array.shape == (2, *SMALL)
    assert dict(array.attrs)["channels"] == ["color_0", "color_1"]
    for channel, name in enumerate(("color_0", "color_1")):
        files = sorted((planes / name).iterdir())
        assert [p.name for p in files] == [f"z{z:04d}.tif" for z in range(9)]
        np.testing.assert_array_equal(tifffile.imread(files), organoid(channel, SMALL))
        np.testing.assert_array_equal(array[channel], organoid(channel, SMALL))


@pytest.mark.usefixtures("small_demo")
def test_demo_without_a_folder_makes_a_fresh_one_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first, second = demo(), demo()
    assert first.zarr != second.zarr
    assert len(list(tmp_path.iterdir())) == 2
    assert Path(first.zarr).is_relative_to(tmp_path)


@pytest.mark.usefixtures("small_demo")
def test_demo_takes_an_empty_folder(tmp_path: Path):
    assert demo(tmp_path).verify.equal


def test_demo_refuses_a_folder_with_something_in_it(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("keep")
    with pytest.raises(TargetExistsError, match="not empty"):
        demo(tmp_path)
    with pytest.raises(TargetExistsError, match="not a folder"):
        demo(tmp_path / "notes.txt")
    with pytest.raises(TargetExistsError, match="not a folder"):
        demo(tmp_path / "notes.txt" / "below")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "keep"


def test_demo_names_the_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(WriteError, match=r"locked cannot be made: Permission denied"):
        demo(tmp_path / "locked")


def test_the_organoid_is_as_large_as_the_demonstration_says():
    assert SHAPE == (48, 400, 500)
    assert "48 planes of 400 x 500 pixels" in str(demo.__doc__)
    assert inspect.signature(organoid).parameters["shape"].default == SHAPE


def test_the_organoid_is_the_same_for_a_seed_and_another_for_another():
    one = organoid(0, SMALL, seed=3)
    assert (one.shape, one.dtype) == (SMALL, np.dtype("u2"))
    np.testing.assert_array_equal(one, organoid(0, SMALL, seed=3))
    assert (one != organoid(0, SMALL, seed=4)).mean() > 0.5


def test_no_two_planes_of_the_organoid_are_alike():
    planes = [plane.tobytes() for channel in (0, 1) for plane in organoid(channel, SMALL)]
    assert len(set(planes)) == len(planes) == 18


def test_the_second_channel_shows_some_of_the_nuclei_of_the_first():
    shape = (24, 120, 130)
    first, second = organoid(0, shape), organoid(1, shape)
    bright = [volume > 250 for volume in (first, second)]
    assert 0 < bright[1].sum() < 0.7 * bright[0].sum()
    assert (bright[0] & bright[1]).sum() > 0.8 * bright[1].sum()


@pytest.mark.parametrize("channel", [2, -1])
def test_an_organoid_has_two_channels(channel: int):
    with pytest.raises(ArgumentError, match="channel must be 0 or 1"):
        organoid(channel, SMALL)


@pytest.mark.parametrize("shape", [(4, 5), (0, 5, 5)])
def test_an_organoid_has_three_axes(shape: tuple[int, ...]):
    with pytest.raises(ArgumentError, match="three extents"):
        organoid(0, shape)
