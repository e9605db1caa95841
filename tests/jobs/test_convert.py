"""Converting whatever is given to chunked Zarr, and saying before what it would take."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, write_channels, write_planes

from scout_dask_io.errors import (
    ArgumentError,
    MemoryLimitError,
    PathNotFoundError,
    ShapeMismatchError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.jobs.convert import convert, plan_convert
from scout_dask_io.write.zarr import write_zarr

VOLUME = make_volume((7, 50, 70))


def names(folder: Path) -> list[str]:
    """Give every name in a folder, hidden ones too."""
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    """Give a folder of the planes of ``VOLUME``."""
    write_planes(tmp_path / "planes", VOLUME)
    return tmp_path / "planes"


def test_a_folder_of_planes_becomes_an_array_in_native_byte_order(tmp_path: Path):
    write_planes(tmp_path / "planes", VOLUME, byteorder=">")
    report = convert(tmp_path / "planes", tmp_path / "out.zarr", chunks=(4, 16, 32))
    array = zarr.open(tmp_path / "out.zarr", mode="r")
    np.testing.assert_array_equal(array[...], VOLUME)
    assert (array.shape, array.chunks, array.dtype.str) == ((7, 50, 70), (4, 16, 32), "<u2")
    assert (report.shape, report.chunks, report.dtype) == ((7, 50, 70), (4, 16, 32), "uint16")
    assert report.path == str(tmp_path / "out.zarr")
    assert report.nbytes == VOLUME.nbytes
    assert report.n_chunks == 2 * 4 * 3
    files = [p for p in (tmp_path / "out.zarr").rglob("*") if p.is_file()]
    assert report.stored_nbytes == sum(p.stat().st_size for p in files)
    assert report.ratio == report.nbytes / report.stored_nbytes
    assert report.elapsed_s > 0


def test_a_dataset_keeps_the_names_of_its_channels(tmp_path: Path):
    both = make_volume((2, 7, 50, 70))
    write_channels(tmp_path / "brain", both, names=["auto", "neun"])
    report = convert(tmp_path / "brain", tmp_path / "out.zarr", chunks=(4, 16, 32))
    array = zarr.open(tmp_path / "out.zarr", mode="r")
    np.testing.assert_array_equal(array[...], both)
    assert report.chunks == array.chunks == (1, 4, 16, 32)
    assert dict(array.attrs) == {"channels": ["auto", "neun"]}


def test_a_voxel_size_is_kept_in_micrometres(tmp_path: Path):
    tifffile.imwrite(
        tmp_path / "stack.tif", VOLUME, imagej=True, resolution=(1 / 0.65, 1 / 0.5),
        metadata={"axes": "ZYX", "spacing": 2.0, "unit": "um"},
    )  # fmt: skip
    plan = plan_convert(tmp_path / "stack.tif", tmp_path / "out.zarr")
    convert(tmp_path / "stack.tif", tmp_path / "out.zarr")
    attributes = dict(zarr.open(tmp_path / "out.zarr", mode="r").attrs)
    assert attributes == {"voxel_size_um": pytest.approx([2.0, 0.5, 0.65])}
    assert plan.voxel_size is not None
    assert plan.voxel_size.micrometres == pytest.approx((2.0, 0.5, 0.65))
    assert plan.voxel_size.source == "ImageJ metadata of stack.tif"
    convert(tmp_path / "out.zarr", tmp_path / "again.zarr")
    assert dict(zarr.open(tmp_path / "again.zarr", mode="r").attrs) == attributes


def test_without_names_or_sizes_there_are_no_attributes(planes: Path, tmp_path: Path):
    convert(planes, tmp_path / "out.zarr")
    assert dict(zarr.open(tmp_path / "out.zarr", mode="r").attrs) == {}


def test_an_array_becomes_one_of_other_chunks(tmp_path: Path):
    write_zarr(tmp_path / "a.zarr", VOLUME, (7, 50, 70))
    convert(tmp_path / "a.zarr", tmp_path / "b.zarr", chunks=(2, 16, 32), codec="lz4")
    array = zarr.open(tmp_path / "b.zarr", mode="r")
    assert array.chunks == (2, 16, 32)
    np.testing.assert_array_equal(array[...], VOLUME)
    meta = json.loads((tmp_path / "b.zarr" / ".zarray").read_text())
    assert meta["compressor"]["cname"] == "lz4"


def test_progress_counts_every_unit_and_byte(planes: Path, tmp_path: Path):
    calls: list[tuple[int, int, int]] = []
    convert(planes, tmp_path / "out.zarr", progress=lambda *call: calls.append(call))
    total = calls[0][1]
    assert [done for done, _, _ in calls] == list(range(total + 1))
    assert calls[-1] == (total, total, VOLUME.nbytes)


def inside(tmp_path: Path) -> Path:
    return tmp_path / "planes" / "out.zarr"


def through_a_link(tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to(tmp_path / "planes", target_is_directory=True)
    return tmp_path / "link" / "out.zarr"


def itself(tmp_path: Path) -> Path:
    return tmp_path / "somewhere" / ".." / "planes"


def around(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("dst", [inside, through_a_link, itself, around])
@pytest.mark.parametrize("job", [convert, plan_convert])
def test_a_destination_in_or_around_the_source_is_refused(planes: Path, tmp_path: Path, dst, job):
    destination = dst(tmp_path)
    before = names(tmp_path)
    with pytest.raises(ArgumentError, match="destination"):
        job(planes, destination, overwrite=True)
    assert names(tmp_path) == before
    assert names(planes) == [f"z{z:04d}.tif" for z in range(7)]


def test_a_neighbour_whose_name_begins_alike_is_no_part_of_the_source(planes: Path):
    convert(planes, planes.with_name("planes.zarr"))
    assert zarr.open(planes.with_name("planes.zarr"), mode="r").shape == (7, 50, 70)


@pytest.mark.parametrize("job", [convert, plan_convert])
def test_nothing_is_created_when_the_source_is_bad(planes: Path, tmp_path: Path, job):
    tifffile.imwrite(planes / "z0003.tif", VOLUME[0, :40])
    with pytest.raises(ShapeMismatchError, match=r"z0003\.tif"):
        job(planes, tmp_path / "deep" / "out.zarr")
    with pytest.raises(PathNotFoundError, match="missing"):
        job(tmp_path / "missing", tmp_path / "deep" / "out.zarr")
    assert names(tmp_path) == ["planes"]


@pytest.mark.parametrize("job", [convert, plan_convert])
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"chunks": (0, 64, 64)}, ValueError),
        ({"codec": "zip"}, ArgumentError),
        ({"order": "random"}, ArgumentError),
        ({"max_mem": "much"}, ArgumentError),
        ({"max_mem": "10kB"}, MemoryLimitError),
        ({"nb_workers": 0}, ArgumentError),
        ({"nb_workers": True}, ArgumentError),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_and_nothing_created(
    planes: Path, tmp_path: Path, job, options, error
):
    with pytest.raises(error):
        job(planes, tmp_path / "out.zarr", **options)
    assert names(tmp_path) == ["planes"]


def test_the_plan_is_what_convert_then_does(tmp_path: Path):
    both = make_volume((2, 7, 50, 70))
    write_channels(tmp_path / "brain", both)
    options = {"chunks": (4, 16, 32), "max_mem": "30MB", "nb_workers": 2}
    plan = plan_convert(tmp_path / "brain", tmp_path / "deep" / "out.zarr", **options)
    assert names(tmp_path) == ["brain"]
    calls: list[tuple[int, int, int]] = []
    report = convert(
        tmp_path / "brain", tmp_path / "deep" / "out.zarr",
        progress=lambda *call: calls.append(call), **options,
    )  # fmt: skip
    assert calls[-1][1] == plan.write.n_units == plan.n_tasks - 1
    assert (report.shape, report.chunks) == (plan.write.shape, plan.write.chunks)
    assert report.n_chunks == plan.write.n_chunks
    assert plan.channels == ("color_0", "color_1")
    assert (plan.replaces, plan.resumes) == (False, False)
    assert plan.write.max_mem == 30_000_000
    files = [p for p in (tmp_path / "deep" / "out.zarr").rglob("*") if p.is_file()]
    own = [p for p in files if ".scout" in str(p.relative_to(tmp_path))]
    assert len(files) - len(own) == plan.n_files  # no plane is empty, so every chunk has a file
    assert plan.free_nbytes == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_the_plan_says_what_it_would_replace(planes: Path, tmp_path: Path):
    convert(planes, tmp_path / "out.zarr")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        plan_convert(planes, tmp_path / "out.zarr")
    assert plan_convert(planes, tmp_path / "out.zarr", overwrite=True).replaces


def test_an_unfinished_write_is_resumed_or_begun_afresh_only_when_told(
    planes: Path, tmp_path: Path
):
    calls: list[int] = []

    def fail(done: int, total: int, nbytes: int) -> None:
        calls.append(done)
        if done == 2:
            raise WriteError("the disk is full")

    options = {"chunks": (1, 8, 8), "nb_workers": 1}
    with pytest.raises(WriteError, match="the disk is full"):
        convert(planes, tmp_path / "out.zarr", progress=fail, **options)
    assert not (tmp_path / "out.zarr").exists()
    for job in (convert, plan_convert):
        with pytest.raises(TargetExistsError, match="resume=True"):
            job(planes, tmp_path / "out.zarr", **options)
    plan = plan_convert(planes, tmp_path / "out.zarr", resume=True, **options)
    assert (plan.replaces, plan.resumes) == (False, True)
    assert not plan_convert(planes, tmp_path / "out.zarr", overwrite=True, **options).resumes
    calls.clear()
    convert(
        planes, tmp_path / "out.zarr", resume=True,
        progress=lambda done, *_: calls.append(done), **options,
    )  # fmt: skip
    assert calls[0] >= 2  # what was finished is not done again
    np.testing.assert_array_equal(zarr.open(tmp_path / "out.zarr", mode="r")[...], VOLUME)
    assert names(tmp_path) == ["out.zarr", "planes"]


def test_a_full_disk_is_warned_of_before(
    planes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []

    def usage(path: os.PathLike[str]) -> SimpleNamespace:
        asked.append(os.fspath(path))
        return SimpleNamespace(free=24_500)

    monkeypatch.setattr("scout_dask_io.files.local.shutil.disk_usage", usage)
    with pytest.warns(UserWarning, match=r"holds 49 kB .* 24\.5 kB free: it may not fit"):
        plan = plan_convert(planes, tmp_path / "deep" / "out.zarr")
    assert plan.free_nbytes == 24_500
    assert set(asked) == {str(tmp_path)}  # the folders below are still to be made
    with pytest.warns(UserWarning, match="may not fit"):
        convert(planes, tmp_path / "deep" / "out.zarr")
