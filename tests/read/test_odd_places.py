"""What lies beside planes and is none, and places that a system hides or bends."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import make_volume, write_channels, write_planes

import scout_dask_io as io
from scout_dask_io.errors import PathNotFoundError, TiffReadError
from scout_dask_io.files.local import LocalLocation

VOLUME = make_volume((2, 3, 20, 31))


def brain(root: Path) -> Path:
    write_channels(root, VOLUME)
    (root / "notes").mkdir()
    (root / "notes" / "day 1.txt").write_text("it rained")
    (root / "empty").mkdir()
    (root / "deep" / "er").mkdir(parents=True)
    return root


def test_folders_without_planes_beside_channels_are_passed_over_and_told_of(tmp_path: Path):
    src = brain(tmp_path / "brain")
    with pytest.warns(UserWarning, match=r"notes' holds no TIFF file.*passed over"):
        np.testing.assert_array_equal(io.imread_channels(src).compute(), VOLUME)
    with pytest.warns(UserWarning, match="deep' holds no TIFF"):
        assert io.channel_names(src) == ["color_0", "color_1"]
    with pytest.warns(UserWarning, match="empty"):
        report = io.scan(src)
    assert (report.ok, len(report.folders)) == (True, 2)
    with pytest.warns(UserWarning, match="passed over"):
        assert io.convert(src, tmp_path / "a.ome.zarr", ome=True).shape == VOLUME.shape
    with pytest.warns(UserWarning, match="passed over"):
        assert io.info(src).channels == ("color_0", "color_1")
    with pytest.warns(UserWarning, match="passed over"):
        assert io.verify(src, tmp_path / "a.ome.zarr").equal


def test_a_folder_that_may_not_be_listed_is_passed_over_and_told_of(tmp_path, monkeypatch):
    src = brain(tmp_path / "brain")
    real = LocalLocation.entries

    def entries(self: LocalLocation):
        if self.name == "notes":
            raise PathNotFoundError(f"{self} cannot be listed: Permission denied")
        return real(self)

    monkeypatch.setattr(LocalLocation, "entries", entries)
    for look in (io.scan, io.info, io.imread_channels):
        with pytest.warns(UserWarning, match="notes cannot be listed.*passed over"):
            look(src)


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_names_of_bytes_that_are_no_text_go_through(tmp_path: Path):
    src = os.fsencode(tmp_path / "src") + b"\xff"
    os.mkdir(src)
    planes = []
    for k, plane in enumerate(VOLUME[0]):
        planes.append(Path(os.fsdecode(os.path.join(src, b"z\xe9%d.tif" % k))))
        tifffile.imwrite(planes[-1], plane)
    for given in (src, os.fsdecode(src)):
        np.testing.assert_array_equal(io.imread_folder(given).compute(), VOLUME[0])
    for path in (os.fsdecode(src), planes[0]):
        assert io.scan(path).ok
        assert io.info(path).shape[-2:] == VOLUME.shape[-2:]
        assert io.scan(path).to_json()
        io.preview(path).save(tmp_path / "p.png", overwrite=True)
        io.convert(path, tmp_path / "a.zarr", overwrite=True, qc=True)
        assert io.verify(path, tmp_path / "a.zarr").equal
    (planes[1]).write_bytes(b"no TIFF")
    with pytest.raises(TiffReadError, match=r"z.*1\.tif.*7 bytes"):
        io.imread_folder(src)


@pytest.mark.parametrize("name", ["z9.tif", "MAX.tif"])
def test_a_link_to_itself_is_an_error_of_ours(tmp_path: Path, name: str):
    write_planes(tmp_path / "planes", VOLUME[0])
    (tmp_path / "planes" / name).symlink_to(name)
    with pytest.raises(TiffReadError, match=name):
        io.imread_folder(tmp_path / "planes")
    (problem,) = io.scan(tmp_path / "planes").folders[0].problems
    assert (Path(problem.path).name, problem.kind) == (name, "unreachable")


def test_folders_that_lead_to_themselves_are_no_channels(tmp_path: Path):
    write_channels(tmp_path / "brain", VOLUME)
    (tmp_path / "brain" / "loop").symlink_to("loop")
    (tmp_path / "brain" / "color_1" / "up").symlink_to("../../brain")
    np.testing.assert_array_equal(io.imread_channels(tmp_path / "brain").compute(), VOLUME)
    assert io.scan(tmp_path / "brain").ok


def test_a_folder_that_leads_to_the_dataset_holds_no_planes(tmp_path: Path):
    write_channels(tmp_path / "brain", VOLUME)
    (tmp_path / "brain" / "self").symlink_to(".")
    with pytest.warns(UserWarning, match=r"self' holds no TIFF file.*passed over"):
        np.testing.assert_array_equal(io.imread_channels(tmp_path / "brain").compute(), VOLUME)
    with pytest.warns(UserWarning, match="passed over"):
        assert io.scan(tmp_path / "brain").ok


META = "[POSITION]\n[x_pos] 100.0\n\n[CFG]\n[Pixelsize in um] 5.26\n[z_stepsize] 10.0\n"


@pytest.mark.parametrize("suffix", [".tif", ".tiff", ".btf", ".ome.tif"])
def test_a_stack_of_mesospim_alone_has_the_size_that_lies_beside_it(tmp_path, suffix):
    path = tmp_path / f"mouse_Tile0_Ch561_Sh0_Rot0{suffix}"
    tifffile.imwrite(path, VOLUME[0], photometric="minisblack", metadata=None)
    (tmp_path / f"{path.name}_meta.txt").write_text(META)
    for found in (io.voxel_size(path), io.info(path).voxel_size, io.voxel_size(io.imread(path))):
        assert found is not None
        assert found.micrometres == (10.0, 5.26, 5.26)


def test_a_name_as_long_as_a_disk_takes_is_read(tmp_path: Path):
    path = tmp_path / ("n" * 251 + ".tif")
    tifffile.imwrite(path, VOLUME[0, 0])
    np.testing.assert_array_equal(io.imread(path).compute(), VOLUME[0, 0])
    assert io.voxel_size(path) is None


@pytest.mark.parametrize("other", ["link", "far red"])
def test_readers_agree_which_folders_are_channels(tmp_path: Path, other: str):
    volume = make_volume((3, 2, 8, 9))
    for name, stack in zip(("ch0", "ch1", other), volume, strict=True):
        if name != "link":
            write_planes(tmp_path / name, stack)
    if other == "link":  # to a folder that is there already, and is read by both names
        (tmp_path / "link").symlink_to(tmp_path / "ch0")
        volume[2] = volume[0]
    np.testing.assert_array_equal(io.imread_dataset(tmp_path).compute(), volume)
    assert io.info(tmp_path).shape == volume.shape
    assert tuple(io.channel_names(tmp_path)) == io.info(tmp_path).channels
