"""Which files of a folder count, and in which order."""

from __future__ import annotations

import warnings

import pytest

from scout_dask_io import imread_folder
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.tiff.folder import list_planes, list_subfolders, natural_key


def names(paths: list[str]) -> list[str]:
    return [p.name for p in paths]


def test_tiffs_in_any_case_count_and_hidden_files_and_folders_do_not(tmp_path):
    for name in [
        "b.TIF",
        "a.tiff",
        "c.tif",
        "d.TiFf",
        "._a.tif",
        ".b.tif",
        "Thumbs.db",
        "e.tif.txt",
    ]:
        (tmp_path / name).touch()
    (tmp_path / "folder.tif").mkdir()
    assert names(list_planes(tmp_path)) == ["a.tiff", "b.TIF", "c.tif", "d.TiFf"]
    assert list_planes(str(tmp_path).encode())[0] == tmp_path / "a.tiff"


def test_natural_order_differs_with_a_warning_that_names_the_first_place(tmp_path):
    for name in ["z1.tif", "z2.tif", "z10.tif"]:
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=r"position 1 is 'z10.tif', by number.*'z2.tif'.*natural"):
        assert names(list_planes(tmp_path)) == ["z1.tif", "z10.tif", "z2.tif"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert names(list_planes(tmp_path, "natural")) == ["z1.tif", "z2.tif", "z10.tif"]


def test_padded_numbers_warn_of_nothing(tmp_path):
    for z in range(12):
        (tmp_path / f"z{z:03d}_ch1.tif").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list_planes(tmp_path)) == 12


@pytest.mark.parametrize(
    "ordered",
    [
        ["z1", "z2", "z10"],
        ["a", "a1", "a1b", "a2", "b"],
        ["1", "a"],
        ["a-2", "a-10", "a.tif", "a1.tif", "a_1.tif", "b"],
        ["x1y2", "x1y10", "x2y1"],
    ],
)
def test_natural_keys_sort_numbers_as_numbers(ordered):
    shuffled = ordered[::-1]
    assert sorted(shuffled, key=natural_key) == ordered


def test_digits_of_an_identifier_are_no_numbers():
    names = ["a_s189A35A04-20E3", "a_s1091EB8A5-272A", "a_s289A35A04-20E3-4B5C-8000-00A0C91E6BF6"]
    assert sorted(names, key=natural_key) == sorted(names)
    assert (
        sorted(["a_s10" + "0A" * 4 + "-20E3", "a_s9FFFFFFFF-0000"], key=natural_key)[0][:4]
        == "a_s9"
    )
    dates = ["20240101-1200_z2", "20240101-1200_z10"]
    assert sorted(dates, key=natural_key) == dates


def test_natural_keys_tell_padded_numbers_apart():
    assert sorted(["z1", "z01"], key=natural_key) == ["z01", "z1"]
    assert sorted(["z²", "z1"], key=natural_key) == ["z1", "z²"]  # a digit that int() refuses


def test_missing_empty_or_wrong_folders_are_errors(tmp_path):
    with pytest.raises(PathNotFoundError, match=r"no folder '.*nowhere'"):
        list_planes(tmp_path / "nowhere")
    with pytest.raises(PathNotFoundError, match=r"holds no TIFF file"):
        list_planes(tmp_path)
    (tmp_path / "a.tif").touch()
    with pytest.raises(ArgumentError, match="is a file, not a folder; read it with imread"):
        list_planes(tmp_path / "a.tif")
    with pytest.raises(ArgumentError, match="order must be one of 'alphabetical', 'natural'"):
        imread_folder(tmp_path, order="numeric")


def test_subfolders_are_channels_in_order_of_their_names(tmp_path):
    for name in ["ch1", "ch0", ".cache", "ch0.zarr", "all.ome.ZARR"]:
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").touch()
    assert names(list_subfolders(tmp_path)) == ["ch0", "ch1"]
    with pytest.raises(PathNotFoundError, match=r"no sub-folder.*imread_folder"):
        list_subfolders(tmp_path / "ch0")
