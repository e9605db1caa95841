"""A voxel size survives from the file that states it to the file that is written."""

from __future__ import annotations

import json
import os
import struct
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, shared_data, write_channels, write_planes

import scout_dask_io as io
from scout_dask_io.core.voxel_size import as_voxel_size, merge_sizes
from scout_dask_io.errors import ArgumentError, PathNotFoundError, TiffReadError
from scout_dask_io.tiff import metadata as tiff_metadata

VOLUME = make_volume((5, 21, 34))
IMAGEJ = {"imagej": True, "resolution": (2.0, 4.0), "metadata": {"unit": "um", "spacing": 3.0}}


def quiet_size(path_or_array: object) -> io.VoxelSize | None:
    """Give the voxel size, and fail on any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return io.voxel_size(path_or_array)


def test_what_planes_state_is_found_by_path_and_by_array(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME, **IMAGEJ)
    expected = io.VoxelSize(3.0, 0.25, 0.5, "ImageJ metadata of z0000.tif")
    first = tmp_path / "p" / "z0000.tif"
    for found in (tmp_path / "p", first, io.imread_folder(tmp_path / "p"), io.imread(first)):
        assert quiet_size(found) == expected
    assert quiet_size(io.imread_parallel([first])) == expected
    assert expected.unit == "micrometer"


@pytest.mark.parametrize("place", ["set/voxel_size.csv", "set/ch0/voxel_size.csv"])
def test_scout_s_csv_counts_beside_the_planes_and_in_the_dataset(tmp_path: Path, place: str):
    write_channels(tmp_path / "set", np.stack([VOLUME, VOLUME + 1]), names=["ch0", "ch1"])
    (tmp_path / place).write_text("4000, 1800,650\n")
    expected = io.VoxelSize(4.0, 1.8, 0.65, str(tmp_path / place))
    set_ = tmp_path / "set"
    for found in (set_, set_ / "ch0", io.imread_channels(set_), io.imread_folder(set_ / "ch0")):
        assert quiet_size(found) == expected
    if place.startswith("set/ch0"):
        assert quiet_size(set_ / "ch0" / "z0001.tif") == expected
        assert quiet_size(set_ / "ch1") is None


def test_the_folder_above_a_single_file_is_not_asked(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME)
    (tmp_path / "voxel_size.csv").write_text("4000,1800,650\n")
    assert quiet_size(tmp_path / "p" / "z0000.tif") is None
    assert quiet_size(tmp_path / "p") is not None


def test_an_axis_that_one_source_leaves_open_comes_from_the_next(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME, ome=True, metadata={"PhysicalSizeZ": 5.0},
                 resolution=(5000, 10000), resolutionunit="CENTIMETER")  # fmt: skip
    found = quiet_size(tmp_path / "p")
    assert found is not None
    assert found.micrometres == (5.0, 1.0, 2.0)
    assert found.source == "OME-XML of z0000.tif; resolution tags of z0000.tif"


def test_a_conflict_is_warned_about_with_both_names_and_the_first_counts(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME, **IMAGEJ)
    csv = tmp_path / "p" / "voxel_size.csv"
    csv.write_text("3000,250,700")
    with pytest.warns(UserWarning, match="voxel sizes differ along x") as caught:
        found = io.voxel_size(tmp_path / "p")
    assert len(caught) == 1
    message = str(caught[0].message)
    assert f"0.7 micrometres by {csv}" in message
    assert "0.5 by ImageJ metadata of z0000.tif" in message
    assert caught[0].filename == __file__
    assert found == io.VoxelSize(3.0, 0.25, 0.7, str(csv))
    csv.write_text("3001,250,502")  # the same, rounded otherwise
    assert quiet_size(tmp_path / "p") is not None


@pytest.mark.parametrize(
    "text", ["", "1800,1800", "4000;1800;1800", "4000,-1,5", "4000,nan,5", "z,y,x\n4,2,2", "\xff"]
)
def test_a_csv_that_is_no_voxel_size_is_named_and_does_not_count(tmp_path: Path, text: str):
    write_planes(tmp_path / "p", VOLUME)
    (tmp_path / "p" / "voxel_size.csv").write_bytes(text.encode("latin-1"))
    with pytest.warns(UserWarning, match=r"voxel_size\.csv' does not count: expected one line"):
        assert io.voxel_size(tmp_path / "p") is None


def test_a_csv_that_cannot_be_read_is_told_from_one_that_is_wrong(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME)
    (tmp_path / "p" / "voxel_size.csv").mkdir()
    with pytest.warns(UserWarning, match=r"voxel_size\.csv' cannot be read \("):
        assert io.voxel_size(tmp_path / "p") is None


def test_a_folder_is_known_by_the_first_plane_that_can_be_read(tmp_path: Path):
    first, *_ = write_planes(tmp_path / "p", VOLUME, **IMAGEJ)
    expected = quiet_size(tmp_path / "p")
    first.write_bytes(b"")
    found = quiet_size(tmp_path / "p")
    assert found is not None
    assert expected is not None
    assert found.micrometres == expected.micrometres
    for plane in (tmp_path / "p").iterdir():
        plane.write_bytes(b"")
    with pytest.raises(io.TiffReadError, match=r"z0004\.tif"):
        io.voxel_size(tmp_path / "p")


def test_a_write_opens_the_first_file_as_often_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    paths = write_planes(tmp_path / "p", VOLUME, **IMAGEJ)
    opened: Counter[str] = Counter()
    os_open = os.open

    def counted(path, *args, **more):
        opened[os.fspath(path)] += 1
        return os_open(path, *args, **more)

    monkeypatch.setattr(os, "open", counted)
    array = io.write_zarr(tmp_path / "a.zarr", io.imread_folder(tmp_path / "p"))
    assert array.attrs["voxel_size_um"] == [3.0, 0.25, 0.5]
    np.testing.assert_array_equal(array[:], VOLUME)
    # Once to describe it, once for its pixels, which are one unit.
    assert {path.name: opened[str(path)] for path in paths} == {p.name: 2 for p in paths}
    opened.clear()
    io.write_zarr(tmp_path / "b.zarr", io.imread(paths[0]))
    assert opened[str(paths[0])] == 2


def test_the_first_plane_that_is_read_states_the_size_where_others_are_filled(tmp_path: Path):
    paths = write_planes(tmp_path / "p", VOLUME, **IMAGEJ)
    paths[0].write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of the 5 files"):
        planes = io.imread_folder(tmp_path / "p", missing="fill")
    assert quiet_size(planes) == io.VoxelSize(3.0, 0.25, 0.5, "ImageJ metadata of z0001.tif")


def test_planes_are_read_where_what_they_state_cannot_be_made_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise struct.error("unpack requires a buffer of 8 bytes")

    paths = write_planes(tmp_path / "p", VOLUME)
    monkeypatch.setattr(tiff_metadata.Metadata, "sizes", fail)
    planes = io.imread_folder(tmp_path / "p")
    assert quiet_size(planes) is None
    np.testing.assert_array_equal(planes.compute(), VOLUME)
    with pytest.raises(TiffReadError, match=r"z0000\.tif.*buffer of 8"):
        io.voxel_size(paths[0])


def test_nothing_is_invented(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME, resolution=(72, 72), resolutionunit="INCH")
    assert quiet_size(tmp_path / "p") is None
    assert quiet_size(VOLUME) is None
    write_planes(tmp_path / "j", VOLUME, **IMAGEJ)
    # Who computes on an array may change the size of its voxels.
    assert quiet_size(io.imread_folder(tmp_path / "j")[:, ::2, ::2]) is None
    assert quiet_size(shared_data("brain", "ch0")) is None


def test_the_size_goes_through_zarr_and_tiff_and_back(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME, **IMAGEJ)
    array = io.write_zarr(tmp_path / "a.zarr", io.imread_folder(tmp_path / "p"), (4, 16, 16))
    assert dict(array.attrs) == {"voxel_size_um": [3.0, 0.25, 0.5]}
    stored = io.read_zarr(tmp_path / "a.zarr")
    expected = io.VoxelSize(3.0, 0.25, 0.5, f"attributes of {tmp_path / 'a.zarr'}")
    assert quiet_size(stored) == quiet_size(tmp_path / "a.zarr") == expected
    found = quiet_size(array)
    assert found is not None
    assert found.micrometres == expected.micrometres
    io.write_zarr(tmp_path / "b.zarr", stored, (2, 8, 8))
    assert dict(zarr.open(tmp_path / "b.zarr", mode="r").attrs) == dict(array.attrs)
    io.imsave(tmp_path / "back.tif", io.read_zarr(tmp_path / "b.zarr"))
    back = quiet_size(tmp_path / "back.tif")
    assert back is not None
    assert back.micrometres == (3.0, 0.25, 0.5)
    np.testing.assert_array_equal(io.imread(tmp_path / "back.tif").compute(), VOLUME)


@pytest.mark.parametrize("compress", [0, 1])
def test_other_programs_find_the_size_that_imsave_writes(tmp_path: Path, compress: int):
    size = (4.0, 1 / 3, 0.65)
    io.imsave(tmp_path / "a.tif", VOLUME, compress, voxel_size=size)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages.first
        assert page.tags.valueof(296) == tifffile.RESUNIT.CENTIMETER
        (xn, xd), (yn, yd) = page.tags.valueof(282), page.tags.valueof(283)
        assert 1e4 * xd / xn == pytest.approx(0.65, rel=1e-9)
        assert 1e4 * yd / yn == pytest.approx(1 / 3, rel=1e-9)
        assert json.loads(page.description) == {"shape": [5, 21, 34], "voxel_size_um": [*size]}
        assert tif.series[0].shape == VOLUME.shape
    found = quiet_size(tmp_path / "a.tif")
    assert found is not None
    assert found.micrometres == size
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), VOLUME)


def test_one_plane_of_a_folder_may_carry_a_size(tmp_path: Path):
    (tmp_path / "p").mkdir()
    for z, plane in enumerate(VOLUME):
        io.imsave(tmp_path / "p" / f"z{z}.tif", plane, voxel_size=(4, 2, None))
    found = quiet_size(io.imread_folder(tmp_path / "p"))
    assert found is not None
    assert found.micrometres == (4.0, 2.0, None)
    np.testing.assert_array_equal(io.imread_folder(tmp_path / "p").compute(), VOLUME)


def test_what_is_given_counts_and_attributes_of_the_caller_stay(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME, **IMAGEJ)
    vol = io.imread_folder(tmp_path / "p")
    array = io.write_zarr(tmp_path / "a.zarr", vol, attributes={"a": 1}, voxel_size=(9, None, 2))
    assert dict(array.attrs) == {"a": 1, "voxel_size_um": [9.0, None, 2.0]}
    array = io.write_zarr(tmp_path / "b.zarr", vol, attributes={"voxel_size_um": [1, 1, 1]})
    assert dict(array.attrs) == {"voxel_size_um": [1, 1, 1]}
    with pytest.raises(ArgumentError, match="region"):
        io.write_zarr(tmp_path / "a.zarr", vol, region=slice(None), voxel_size=(1, 1, 1))


def test_a_csv_beside_an_array_counts_where_it_has_no_attribute(tmp_path: Path):
    io.write_zarr(tmp_path / "syto.zarr", VOLUME)
    io.write_zarr(tmp_path / "sox2.zarr", VOLUME, voxel_size=(1, 2, 3))
    (tmp_path / "voxel_size.csv").write_text("4000,1800,650\n")
    found = [quiet_size(tmp_path / name) for name in ("syto.zarr", "sox2.zarr")]
    assert [f and f.micrometres for f in found] == [(4.0, 1.8, 0.65), (1.0, 2.0, 3.0)]


@pytest.mark.parametrize(
    "bad", [3, (1, 2), (1, 2, 0), (1, 2, "x"), "123", (None,) * 3, (1, 2, True)]
)
def test_what_is_no_voxel_size_is_refused_before_anything_is_made(tmp_path: Path, bad: object):
    for write in (io.write_zarr, io.imsave):
        with pytest.raises(ArgumentError, match="voxel_size must be three sizes"):
            write(tmp_path / "a", VOLUME, voxel_size=bad)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_asked_is_an_error(tmp_path: Path):
    with pytest.raises(PathNotFoundError):
        io.voxel_size(tmp_path / "missing")
    with pytest.raises(ArgumentError, match="a path or an array"):
        io.voxel_size(3)


def test_statements_are_merged_axis_by_axis():
    a = io.VoxelSize(None, 2.0, None, "a")
    b = io.VoxelSize(5.0, 2.01, None, "b")
    assert merge_sizes([a, b]) == io.VoxelSize(5.0, 2.0, None, "a; b")
    assert merge_sizes([]) is None
    assert as_voxel_size(a) is a
    assert a.scaled((2, 2, 2)) == io.VoxelSize(None, 4.0, None, "a")
    assert str(b) == "5 x 2.01 x ? micrometres (z, y, x)"
