"""``scan``, ``verify`` of one array and ``repair``: what they find, name, mend and leave alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
import zarr
from harness import tree
from helpers import make_volume, write_channels, write_planes

import scout_dask_io as io
from scout_dask_io.jobs.verify_manifest import CheckReport

VOLUME = make_volume((9, 40, 44), seed=3)
CHUNKS = (4, 16, 16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    volume = VOLUME.copy()
    volume[:4, :16, :16] = 0
    io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS)
    return tmp_path / "a.zarr"


def verified(path: Path, **settings: Any) -> CheckReport:
    report = io.verify(path, **settings)
    assert isinstance(report, CheckReport)
    return report


@pytest.mark.parametrize("deep", [False, True])
def test_row_09_verify_of_one_array_reads_every_chunk_file(path: Path, deep: bool):
    report = verified(path, deep=deep)
    assert report.ok
    assert report.has_manifest
    assert (report.n_chunks, report.n_files, report.n_empty) == (27, 26, 1)
    chunks = [p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")]
    assert report.nbytes == sum(p.stat().st_size for p in chunks)


def test_row_09_missing_corrupt_and_extra_chunks_are_told_apart_and_named(path: Path):
    (path / "1" / "1" / "1").unlink()
    corrupt = path / "2" / "0" / "2"
    corrupt.write_bytes(corrupt.read_bytes()[:-1] + b"?")
    (path / "0" / "0" / "0").write_bytes((path / "0" / "0" / "1").read_bytes())
    before = tree(path)
    for scheduler in ("threads", "sync"):
        with dask.config.set(scheduler=scheduler):
            report = verified(path)
        assert not report.ok
        assert (report.n_missing, report.n_corrupt, report.n_extra) == (1, 1, 1)
        assert [(b.kind, b.index) for b in report.bad] == [
            ("extra", (0, 0, 0)),
            ("missing", (1, 1, 1)),
            ("corrupt", (2, 0, 2)),
        ]
        assert report.bad[2].region == (slice(8, 9), slice(0, 16), slice(32, 44))
        assert str(corrupt) in report.bad[2].reason
    assert json.loads(report.to_json())["n_missing"] == 1
    assert tree(path) == before


def test_row_09_changed_metadata_are_noticed(path: Path):
    document = json.loads((path / ".zarray").read_text())
    document["dtype"] = "<i2"
    (path / ".zarray").write_text(json.dumps(document))
    report = verified(path)
    assert not report.ok
    assert "dtype" in report.mismatch


def test_an_array_without_a_manifest_is_decoded_or_refused(path: Path):
    (path / ".scout-manifest").unlink()
    with pytest.raises(io.ArgumentError, match="no manifest"):
        io.verify(path)
    assert verified(path, deep=True).ok
    (path / "1" / "1" / "1").write_bytes(b"rubbish")
    report = verified(path, deep=True)
    assert (report.n_corrupt, report.has_manifest) == (1, False)


def test_a_damaged_manifest_is_an_error_that_names_it(path: Path):
    file = path / ".scout-manifest"
    whole = file.read_bytes()
    for broken in (b"", whole[:-3], whole[:-1] + b"?", b"{}" + whole, whole.replace(b"{", b"[", 1)):
        file.write_bytes(broken)
        with pytest.raises(io.LayoutError, match="scout-manifest"):
            io.verify(path)
        assert io.read_zarr(path).compute().shape == VOLUME.shape


def legacy(path: Path) -> bytes:
    document = json.loads((path / ".zarray").read_text())
    del document["dimension_separator"]
    (path / ".zarray").write_text(json.dumps(document))
    return (path / ".zarray").read_bytes()


def test_row_03_repair_adds_the_missing_separator_and_changes_nothing_else(path: Path):
    before_key = legacy(path)
    expected = io.read_zarr(path).compute()
    assert not np.array_equal(zarr.open_array(path, mode="r", zarr_format=2)[:], expected)
    before = tree(path)
    report = io.repair(path, dry_run=True)
    assert len(report.actions) == 1
    assert "dimension_separator" in report.actions[0]
    assert tree(path) == before
    report = io.repair(path)
    assert len(report.actions) == 1
    assert np.array_equal(zarr.open_array(path, mode="r", zarr_format=2)[:], expected)
    changed = tree(path)
    assert {k for k in before if before[k] != changed.get(k)} == {".zarray"}
    assert json.loads((path / ".zarray").read_text()) == {
        **json.loads(before_key),
        "dimension_separator": "/",
    }
    assert io.repair(path).actions == ()
    assert verified(path).ok


def test_row_11_repair_sweeps_what_killed_writers_leave_and_no_more(path: Path):
    stale = [
        path / "1" / "1" / f"1.{'0' * 32}.partial",
        path / f".zarray.{'a' * 32}.partial",
        path / ".scout-manifest-00ff.tmp",
        path.with_name(".a.zarr.scout-dead-00ff"),
    ]
    for file in stale:
        file.write_bytes(b"?")
    (path / ".scout-region-00ff").mkdir()
    (path.with_name(".a.zarr.scout-partial") / "job").mkdir(parents=True)
    (path / "notes.txt").write_text("mine")
    before = tree(path.parent)
    report = io.repair(path, dry_run=True)
    assert len(report.actions) == 5
    assert tree(path.parent) == before
    assert report.unfinished.endswith("job")
    io.repair(path)
    gone = set(before) - set(tree(path.parent))
    assert gone == {str(p.relative_to(path.parent)) for p in [*stale, path / ".scout-region-00ff"]}
    assert io.repair(path).actions == ()


def test_repair_of_a_group_mends_every_array_and_of_nothing_is_an_error(tmp_path: Path):
    group = tmp_path / "g.zarr"
    io.open(group, mode="w-")
    for name in ("a", "b"):
        io.write_zarr(group / name, VOLUME, CHUNKS)
        legacy(group / name)
    assert len(io.repair(group).actions) == 2
    assert np.array_equal(zarr.open_array(group / "b", mode="r", zarr_format=2)[:], VOLUME)
    with pytest.raises(io.PathNotFoundError):
        io.repair(tmp_path / "none")


def test_row_21_scan_names_every_file_that_does_not_fit(tmp_path: Path):
    folder = tmp_path / "p"
    names = [f"z{k:03d}.tif" for k in (0, 1, 2, 3, 4, 5, 7, 8, 9)]
    paths = write_planes(folder, VOLUME, names=names, compression="zlib")
    assert io.scan(folder).ok
    tifffile.imwrite(paths[1], VOLUME[1].astype("f4"), photometric="minisblack")
    tifffile.imwrite(paths[2], VOLUME[2][:-1], photometric="minisblack")
    os.truncate(paths[3], 300)
    paths[4].write_bytes(b"")
    (folder / "._z000.tif").write_bytes(b"?")
    (folder / "Thumbs.db").write_bytes(b"?")
    tifffile.imwrite(folder / "z7.tif", VOLUME[0], photometric="minisblack")
    before = tree(folder)
    report = io.scan(folder)
    assert tree(folder) == before
    assert not report.ok
    (found,) = report.folders
    kinds = {os.path.basename(p.path): p.kind for p in found.problems}
    assert kinds == {
        "z001.tif": "odd",
        "z002.tif": "odd",
        "z003.tif": "unreadable",
        "z004.tif": "empty",
    }
    assert (found.n_files, found.shape, found.dtype) == (10, (40, 44), "uint16")
    assert found.gaps == ("z006.tif",)
    assert found.duplicates == ("z007.tif and z7.tif",)
    assert found.hidden == ("._z000.tif",)
    assert found.others == ("Thumbs.db",)
    assert found.compression == "deflate"
    text = report.render()
    for name in (*kinds, "z006.tif", "Thumbs.db", "cannot be read whole"):
        assert name in text
    assert json.loads(report.to_json())["folders"][0]["problems"][0]["kind"] == "odd"


def test_scan_reads_no_pixel_and_tells_channels_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    volume = make_volume((2, 3, 300, 310))
    write_channels(tmp_path / "brain", volume)
    from scout_dask_io.tiff import open_file as files

    read: list[int] = []
    real = files.read_some_at

    def note(fd: int, offset: int, out: memoryview) -> int:
        read.append(len(out))
        return real(fd, offset, out)

    monkeypatch.setattr(files, "read_some_at", note)
    report = io.scan(tmp_path / "brain")
    assert report.ok
    assert [f.shape for f in report.folders] == [(300, 310)] * 2
    assert 0 < sum(read) < volume.nbytes // 10
    (tmp_path / "brain" / "color_1" / "z0002.tif").unlink()
    report = io.scan(tmp_path / "brain")
    assert not report.ok
    assert "no channel 1, z 2" in report.mismatch


def test_a_zarr_beside_the_channels_that_it_was_made_of_is_no_channel(tmp_path: Path):
    volume = make_volume((2, 3, 30, 31))
    write_channels(tmp_path / "brain", volume)
    io.convert(tmp_path / "brain" / "color_0", tmp_path / "brain" / "color_0.zarr")
    report = io.scan(tmp_path / "brain")
    assert report.ok
    assert len(report.folders) == 2
    assert io.channel_names(tmp_path / "brain") == ["color_0", "color_1"]
    assert io.convert(tmp_path / "brain", tmp_path / "both.zarr").shape == volume.shape
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "both.zarr"), volume)


def test_scan_of_one_file_and_of_nothing(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", VOLUME, photometric="minisblack")
    (found,) = io.scan(tmp_path / "a.tif").folders
    assert (found.shape, found.n_pages) == (VOLUME.shape, 9)
    with pytest.raises(io.PathNotFoundError):
        io.scan(tmp_path / "none")
    (tmp_path / "b").mkdir()
    with pytest.raises(io.PathNotFoundError):
        io.scan(tmp_path / "b")
    (tmp_path / "c.txt").write_text("?")
    with pytest.raises(io.ArgumentError):
        io.scan(tmp_path / "c.txt")


def test_scan_takes_equal_steps_for_no_gap(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME[:4], names=[f"z{10 * k}.tif" for k in (0, 1, 2, 4)])
    (found,) = io.scan(tmp_path / "p").folders
    assert found.gaps == ("z30.tif",)
    write_planes(tmp_path / "q", VOLUME[:4], names=[f"z{10 * k}.tif" for k in range(4)])
    (found,) = io.scan(tmp_path / "q").folders
    assert found.gaps == ()


def command(*args: Any, code: int = 0) -> str:
    from click.testing import CliRunner

    from scout_dask_io.cli.base import State, cli

    done = CliRunner().invoke(cli, [str(a) for a in args], obj=State(), standalone_mode=False)
    assert done.exception is None, done.exception
    assert (done.return_value or 0) == code, done.output
    return done.stdout


def test_the_commands_say_what_the_functions_find(path: Path, tmp_path: Path):
    assert "as written" in command("verify", path)
    assert json.loads(command("verify", path, "--deep", "--json"))["ok"] is True
    (path / "1" / "1" / "1").unlink()
    text = command("verify", path, "-q", code=1)
    assert "1 of 27 chunks are bad" in text
    assert "missing" in text
    legacy(path)
    assert "would be mended" in command("repair", path, "--dry-run")
    assert "mended" in command("repair", path)
    assert "nothing to mend" in command("repair", path)
    write_planes(tmp_path / "p", VOLUME)
    assert "can be read whole" in command("scan", tmp_path / "p")
    (tmp_path / "p" / "z0003.tif").write_bytes(b"")
    assert "z0003.tif" in command("scan", tmp_path / "p", code=1)
    assert json.loads(command("scan", tmp_path / "p", "--json", code=1))["ok"] is False


def test_convert_with_resume_on_what_stands_finished_writes_nothing(tmp_path: Path):
    write_planes(tmp_path / "p", VOLUME)
    target = tmp_path / "a.zarr"
    first = io.convert(tmp_path / "p", target, chunks=CHUNKS)
    before = {p: p.stat().st_mtime_ns for p in target.rglob("*")}
    again = io.convert(tmp_path / "p", target, chunks=CHUNKS, resume=True, durable=True)
    assert again.shape == first.shape
    assert {p: p.stat().st_mtime_ns for p in target.rglob("*")} == before
    with pytest.raises(io.TargetExistsError):
        io.convert(tmp_path / "p", target, chunks=CHUNKS)
    with pytest.raises(io.TargetExistsError):
        io.convert(tmp_path / "p", target, chunks=(2, 16, 16), resume=True)
