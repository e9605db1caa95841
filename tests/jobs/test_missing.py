"""Planes that cannot be read, from ``convert`` on: on record, told at every look, never silent."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, write_channels, write_planes

from scout_dask_io.errors import ResumeError, TiffReadError
from scout_dask_io.jobs.convert import convert, plan_convert
from scout_dask_io.jobs.info import info
from scout_dask_io.jobs.scan import scan
from scout_dask_io.jobs.verify import verify
from scout_dask_io.read.missing_planes import filled_in
from scout_dask_io.read.tiff import imread_folder
from scout_dask_io.read.voxel_size import voxel_size
from scout_dask_io.read.zarr import read_zarr
from scout_dask_io.store.legacy_store import NestedDirectoryStore
from scout_dask_io.store.manifest import read_manifest
from scout_dask_io.write.zarr import write_zarr

VOLUME = make_volume((9, 40, 44))
CHUNKS = (4, 16, 16)


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    """A folder of nine planes, of which the second is empty and the sixth is cut."""
    paths = write_planes(tmp_path / "planes", VOLUME)
    paths[1].write_bytes(b"")
    os.truncate(paths[5], 900)
    return tmp_path / "planes"


@pytest.fixture
def converted(tmp_path: Path, planes: Path) -> Path:
    path = tmp_path / "a.zarr"
    with pytest.warns(UserWarning, match=r"2 of the 9 files.*z0001\.tif.*z0005\.tif"):
        convert(planes, path, chunks=CHUNKS, missing="fill")
    return path


def expected() -> np.ndarray:
    out = VOLUME.copy()
    out[[1, 5]] = 0
    return out


def named(found: Any) -> Iterator[tuple[tuple[int, ...], str]]:
    for f in found:
        yield f.plane, Path(f.file).name


PLANES = [((1,), "z0001.tif"), ((5,), "z0005.tif")]


def test_convert_refuses_with_every_bad_file_before_it_creates_anything(
    tmp_path: Path, planes: Path
):
    for job in (convert, plan_convert):
        with pytest.raises(TiffReadError) as caught:
            job(planes, tmp_path / "a.zarr")
        text = str(caught.value)
        for word in ("2 of the 9", "z0001.tif", "z0005.tif", "scan", 'missing="fill"'):
            assert word in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["planes"]
    assert {Path(p.path).name for p in scan(planes).folders[0].problems} == {
        "z0001.tif",
        "z0005.tif",
    }


def test_filled_planes_are_recorded_in_the_attributes_and_the_manifest(
    converted: Path, planes: Path
):
    stored = zarr.open_array(NestedDirectoryStore(str(converted)), mode="r", zarr_format=2)
    np.testing.assert_array_equal(stored[:], expected())
    record = json.loads((converted / ".zattrs").read_text())["filled_planes"]
    assert [(e["plane"], Path(e["file"]).name) for e in record] == [
        ([1], "z0001.tif"),
        ([5], "z0005.tif"),
    ]
    assert record[0]["reason"] == "it is empty"
    assert "truncated" in record[1]["reason"]
    manifest = read_manifest(converted)
    assert manifest is not None
    assert manifest.settings["attributes"]["filled_planes"] == record


def test_info_and_verify_tell_it_every_time_in_text_and_json(converted: Path, planes: Path):
    for _ in range(2):
        found = info(converted)
        assert list(named(found.filled)) == PLANES
        report = verify(converted)
        assert report.ok
        assert list(named(report.filled)) == PLANES
        for text in (found.render(), report.render()):
            assert "2 planes could not be read; they hold the fill value" in text
            assert "plane 5" in text
            assert "z0005.tif" in text
        with pytest.warns(UserWarning, match="2 of the 9"):
            compared = verify(planes, converted)
        for document in (found.to_json(), report.to_json(), compared.to_json()):
            entries = json.loads(document)["filled"]
            assert [e["plane"] for e in entries] == [[1], [5]]
            assert entries[0]["reason"] == "it is empty"
    # The manifest remembers where other software drops the attributes.
    (converted / ".zattrs").unlink()
    assert list(named(info(converted).filled)) == PLANES
    assert list(named(verify(converted).filled)) == PLANES


def test_verify_holds_filled_planes_against_the_record(converted: Path, planes: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = verify(planes, converted)
        assert report.equal
        assert list(named(report.filled)) == PLANES
        # What can be read again is compared again.
        tifffile.imwrite(planes / "z0005.tif", VOLUME[5], photometric="minisblack")
        report = verify(planes, converted)
        assert (report.n_differing, report.n_regions) == (np.count_nonzero(VOLUME[5]), 9)
        # What the record does not have is not taken for equal.
        (planes / "z0007.tif").write_bytes(b"")
        with pytest.raises(TiffReadError, match=r"1 plane of.*does not say.*z0007\.tif"):
            verify(planes, converted)


def test_a_filled_plane_that_holds_something_else_differs(converted: Path, planes: Path):
    array = zarr.open_array(NestedDirectoryStore(str(converted)), mode="r+", zarr_format=2)
    array[1, 3, 4] = 7
    with pytest.warns(UserWarning, match="2 of the 9"):
        report = verify(planes, converted)
    assert [(r.index, r.src_value, r.dst_value) for r in report.regions] == [((1, 3, 4), 0, 7)]


def test_a_resumed_write_must_have_the_same_planes_filled(tmp_path: Path, planes: Path):
    path = tmp_path / "a.zarr"

    def stop(done: int, total: int, nbytes: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"chunks": CHUNKS, "missing": "fill", "max_mem": "2MB"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(KeyboardInterrupt):
            convert(planes, path, **options, nb_workers=1, progress=stop)
        good = (planes / "z0005.tif").read_bytes()
        os.truncate(planes / "z0005.tif", 800)
        with pytest.raises(ResumeError, match="source was"):
            convert(planes, path, **options, resume=True)
        (planes / "z0005.tif").write_bytes(good)
        with pytest.raises(ResumeError, match="source was"):  # its time has changed
            convert(planes, path, **options, resume=True)
        convert(planes, path, **options, overwrite=True)
    np.testing.assert_array_equal(read_zarr(path).compute(), expected())


def test_the_record_goes_where_the_pixels_go(tmp_path: Path, converted: Path, planes: Path):
    again = tmp_path / "again.zarr"
    report = convert(converted, again, chunks=(2, 40, 44))
    assert list(named(report.filled)) == PLANES
    assert list(named(info(again).filled)) == PLANES
    with pytest.warns(UserWarning, match="2 of the 9"):
        lazy = imread_folder(planes, missing="fill")
    unknown = [((), "z0001.tif"), ((), "z0005.tif")]
    for n, made in enumerate((lazy[2:] + 1, lazy[:, 3:], read_zarr(converted) // 2)):
        write_zarr(tmp_path / f"{n}.zarr", made, CHUNKS)
        found = info(tmp_path / f"{n}.zarr")
        assert list(named(found.filled)) == unknown
        assert "in some plane" in found.render()


def test_a_region_of_filled_planes_adds_to_the_record_of_the_array(tmp_path: Path, planes: Path):
    path = tmp_path / "a.zarr"
    write_zarr(path, np.zeros((2, 9, 40, 44), "u2"), CHUNKS, attributes={"kept": 1})
    with pytest.warns(UserWarning, match="2 of the 9"):
        lazy = imread_folder(planes, missing="fill")
    whole = tuple(slice(0, n) for n in VOLUME.shape)
    write_zarr(path, lazy[None], region=(slice(1, 2), *whole))
    assert list(named(info(path).filled)) == [((), "z0001.tif"), ((), "z0005.tif")]
    single = tmp_path / "b.zarr"
    write_zarr(single, np.zeros((17, 40, 44), "u2"), CHUNKS)
    for _ in range(2):
        write_zarr(single, lazy[:], region=(slice(8, 17), *whole[1:]))
    assert list(named(info(single).filled)) == [((9,), "z0001.tif"), ((13,), "z0005.tif")]
    assert json.loads((path / ".zattrs").read_text())["kept"] == 1


def test_an_array_that_was_opened_before_knows_what_a_region_adds(tmp_path: Path, planes: Path):
    path = tmp_path / "a.zarr"
    write_zarr(path, np.zeros(VOLUME.shape, VOLUME.dtype), (4, 16, 16), voxel_size=(4, 1, 1))
    opened = read_zarr(path)
    assert voxel_size(opened) is not None  # its metadata were looked at
    with pytest.warns(UserWarning, match="hold zeros"):
        lazy = imread_folder(planes, missing="fill")
    write_zarr(path, lazy, region=tuple(slice(0, n) for n in VOLUME.shape))
    expected = [f.plane for f in filled_in(lazy)]
    assert [f.plane for f in filled_in(opened)] == expected != []


def test_channels_are_filled_and_named_by_channel_and_plane(tmp_path: Path):
    volume = make_volume((2, 9, 40, 44))
    folders = write_channels(tmp_path / "brain", volume)
    (folders[1] / "z0000.tif").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 of the 18.*color_1/z0000\.tif"):
        report = convert(tmp_path / "brain", tmp_path / "a.zarr", chunks=CHUNKS, missing="fill")
    assert [f.plane for f in report.filled] == [(1, 0)]
    volume[1, 0] = 0
    np.testing.assert_array_equal(read_zarr(tmp_path / "a.zarr").compute(), volume)
    assert "plane 1, 0" in info(tmp_path / "a.zarr").render()


def test_convert_warns_of_gaps_and_doubles_in_the_numbers_and_fills_none(tmp_path: Path):
    names = ["z000.tif", "z001.tif", "z003.tif", "z004.tif", "z01.tif"]
    write_planes(tmp_path / "planes", VOLUME[:5], names=names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan_convert(tmp_path / "planes", tmp_path / "a.zarr", missing="fill", names="allow")
        convert(tmp_path / "planes", tmp_path / "a.zarr", missing="fill", names="allow")
    texts = [str(w.message) for w in caught]
    assert sum("numbers that are missing: z002.tif" in t for t in texts) == 2
    assert sum("same number: z001.tif and z01.tif" in t for t in texts) == 2
    np.testing.assert_array_equal(read_zarr(tmp_path / "a.zarr").compute(), VOLUME[:5])
    assert info(tmp_path / "a.zarr").filled == ()


def test_convert_reads_each_header_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from scout_dask_io.tiff import describe

    write_planes(tmp_path / "planes", VOLUME)
    looked: list[str] = []
    real = describe.describe_plane

    def note(path: str, *args: Any, **more: Any) -> Any:
        looked.append(Path(path).name)
        return real(path, *args, **more)

    monkeypatch.setattr(describe, "describe_plane", note)
    convert(tmp_path / "planes", tmp_path / "a.zarr", chunks=CHUNKS)
    assert sorted(looked) == [f"z{k:04d}.tif" for k in range(9)]


def test_the_commands_fill_and_say_so(tmp_path: Path, planes: Path):
    from cli.test_cli import run

    _, err = run("convert", "planes", "a.zarr", code=1, cwd=tmp_path)
    assert err.count("\n") == 1
    assert "2 of the 9 files" in err
    assert "--missing fill" in err
    out, err = run("convert", "planes", "a.zarr", "--missing", "fill", "--dry-run", cwd=tmp_path)
    assert "2 planes could not be read" in out
    out, err = run("convert", "planes", "a.zarr", "--missing", "fill", "--durable", cwd=tmp_path)
    assert err.startswith("warning: 2 of the 9 files")
    assert "plane 1: " in out
    for args in (["info", "a.zarr"], ["verify", "a.zarr"], ["verify", "planes", "a.zarr"]):
        out, _ = run(*args, cwd=tmp_path)
        assert "2 planes could not be read; they hold the fill value" in out
        out, _ = run(*args, "--json", cwd=tmp_path)
        assert [e["plane"] for e in json.loads(out)["filled"]] == [[1], [5]]
