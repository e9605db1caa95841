"""Updates: what stands becomes what a conversion of the whole makes, and little is written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from helpers import described, make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.cli import cli
from scout_dask_io.errors import ArgumentError, PathNotFoundError, TargetExistsError
from scout_dask_io.jobs.update import plan_update

CHUNKS = (4, 16, 16)
KINDS: list[dict[str, Any]] = [
    {},
    {"zarr_format": 3},
    {"zarr_format": 3, "shards": (8, 32, 32)},
    {"ome": True, "levels": 3},
    {"ome": True, "levels": 3, "zarr_format": 3},
    {"durable": True},
]
OPTIONS: dict[str, Any] = {"chunks": CHUNKS, "names": "allow"}


@pytest.fixture
def volume() -> np.ndarray:
    return make_volume((22, 37, 29))


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.tif"))


def again(folder: Path, number: int, plane: np.ndarray) -> None:
    """Acquire a plane again: another file, of another time, at the same place."""
    file = files_of(folder)[number]
    state = file.stat()
    tifffile.imwrite(file, plane)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))


def inodes(path: Path) -> dict[str, int]:
    found = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(path).as_posix(): p.stat().st_ino for p in found if p.name != "zarr.json"}


def fresh(tmp_path: Path, **options: Any) -> dict[str, Any]:
    """Give what a conversion of the whole makes."""
    path = tmp_path / "fresh" / "a.zarr"
    io.convert(tmp_path / "planes", path, overwrite=True, **OPTIONS, **options)
    return described(path)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_planes_that_changed_are_found_and_only_their_chunks_written(
    tmp_path: Path, volume: np.ndarray, options: dict[str, Any]
) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume)
    io.convert(src, dst, **OPTIONS, **options)
    before, folder = inodes(dst), dst.stat().st_ino
    again(src, 9, volume[9] + 1)
    plan = plan_update(src, dst, **OPTIONS, **options)
    assert plan.changed == (files_of(src)[9].name,)
    assert (plan.came, plan.went, plan.moved) == ((), (), ())
    report = io.update(src, dst, **OPTIONS, **options)
    assert described(dst) == fresh(tmp_path, **options)
    assert io.verify(dst).ok
    assert io.verify(src, dst).ok
    after = inodes(dst)
    assert dst.stat().st_ino == folder  # nothing but these chunks was touched
    kept = {name for name in before if before[name] == after.get(name)}
    assert len(after) - len(kept) == report.n_chunks == plan.n_chunks
    assert 0 < plan.n_chunks <= plan.n_all_chunks / 2
    assert not [p for p in tmp_path.iterdir() if "scout-partial" in p.name]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"zarr_format": 3, "shards": (8, 32, 32)},
        {"ome": True, "levels": 3},
        {"ome": True, "factors": ((2, 2, 2), (4, 1, 2))},
    ],
    ids=str,
)
def test_planes_that_did_not_change_are_not_decoded_again(
    tmp_path: Path, volume: np.ndarray, options: dict[str, Any]
) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume, compression="zlib")
    io.convert(src, dst, **OPTIONS, **options)
    for number in (9, 21):
        file, state = files_of(src)[number], files_of(src)[number].stat()
        tifffile.imwrite(file, volume[number] + 1, compression="zlib")
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    want = fresh(tmp_path, **options)
    # The pixels of all that are not beside these two, in a lower level, are lost to a reader.
    for number in {*range(22)} - {8, 9, 20, 21}:
        file = files_of(src)[number]
        state, raw = file.stat(), bytearray(file.read_bytes())
        with tifffile.TiffFile(file) as tif:
            (start,), (size,) = (
                getattr(tif.pages[0], n) for n in ("dataoffsets", "databytecounts")
            )
        raw[start : start + size] = bytes(size)
        file.write_bytes(raw)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    io.update(src, dst, **OPTIONS, **options)
    assert described(dst) == want
    assert io.verify(dst).ok


@pytest.mark.parametrize("options", [KINDS[0], KINDS[3]], ids=str)
def test_chunks_that_are_damaged_beside_a_plane_that_changed_are_read_anew(
    tmp_path: Path, volume: np.ndarray, options: dict[str, Any]
) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume, compression="zlib")
    io.convert(src, dst, **OPTIONS, **options)
    again(src, 9, volume[9] + 1)
    levels = [dst / "0", dst / "1"] if options else [dst]
    for number, level in enumerate(levels):
        chunk = level.joinpath(*"200" if not number else "100")
        chunk.write_bytes(chunk.read_bytes()[::-1])
    io.update(src, dst, **OPTIONS, **options)
    assert described(dst) == fresh(tmp_path, **options)
    assert io.verify(dst).ok


@pytest.mark.parametrize("options", [KINDS[0], KINDS[3]], ids=str)
def test_planes_that_came_went_and_moved_are_what_a_conversion_makes(
    tmp_path: Path, volume: np.ndarray, options: dict[str, Any]
) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume[:19])
    io.convert(src, dst, **OPTIONS, **options)
    # Three come at the end, one of the old ones changes.
    write_planes(tmp_path / "all", volume)
    for file in files_of(tmp_path / "all")[19:]:
        shutil.copy2(file, src / file.name)
    again(src, 0, volume[0] + 1)
    report = io.update(src, dst, **OPTIONS, **options)
    assert (len(report.came), len(report.changed), report.moved) == (3, 1, ())
    assert described(dst) == fresh(tmp_path, **options)
    # The last ones go: nothing but the last chunks is written again.
    for file in files_of(src)[17:]:
        file.unlink()
    report = io.update(src, dst, **OPTIONS, **options)
    assert (len(report.went), report.moved, report.changed) == (5, (), (files_of(src)[16].name,))
    assert described(dst) == fresh(tmp_path, **options)
    # One goes in the middle: all after it have another place.
    files_of(src)[12].unlink()
    with pytest.warns(UserWarning, match="missing"):
        report = io.update(src, dst, **OPTIONS, **options)
    assert (len(report.went), len(report.moved)) == (1, 4)
    with pytest.warns(UserWarning, match="missing"):
        assert described(dst) == fresh(tmp_path, **options)
    assert io.verify(dst).ok


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_an_update_of_what_was_changed_since_it_was_interrupted_begins_afresh(
    tmp_path: Path, volume: np.ndarray
) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume)
    io.convert(src, dst, **OPTIONS)
    again(src, 9, volume[9] + 1)
    with pytest.raises(KeyboardInterrupt):
        io.update(src, dst, progress=stop, **OPTIONS)
    io.write_zarr(dst, volume[:4] + 3, region=slice(0, 4))
    # What was begun knows nothing of the region: chunks of it would stay.
    io.update(src, dst, content=True, **OPTIONS)
    assert described(dst) == fresh(tmp_path)
    assert io.verify(dst).ok


def test_an_append_that_is_unfinished_is_not_dropped_by_an_update(
    tmp_path: Path, volume: np.ndarray
) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume[:14])
    io.convert(src, dst, **OPTIONS)
    again(src, 9, volume[9] + 1)
    with pytest.raises(KeyboardInterrupt):
        io.write_zarr(dst, volume[14:], append="z", progress=Stopping(1))
    with pytest.raises(TargetExistsError, match=r"append.*resume=True.*overwrite=True"):
        io.update(src, dst, **OPTIONS)
    io.write_zarr(dst, volume[14:], append="z", resume=True)  # the way
    np.testing.assert_array_equal(io.read_zarr(dst)[14:], volume[14:])


class Stopping:
    """Stops a write by Ctrl-C once some of its units are finished."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, done: int, *_: Any) -> None:
        if done >= self.n:
            raise KeyboardInterrupt


def test_nothing_is_written_where_nothing_changed(tmp_path: Path, volume: np.ndarray) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume)
    io.convert(src, dst, **OPTIONS)
    before = {p: p.stat() for p in dst.rglob("*")}
    report = io.update(src, dst, **OPTIONS)
    assert report.plan.current
    assert {p: p.stat() for p in dst.rglob("*")} == before
    assert not list(tmp_path.glob(".a.zarr*"))


def test_channels_are_told_apart(tmp_path: Path, volume: np.ndarray) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    for name in ("color_0", "color_1"):
        write_planes(src / name, volume)
    options = {"ome": True, "levels": 2}
    io.convert(src, dst, **OPTIONS, **options)
    again(src / "color_1", 3, volume[3] + 1)
    report = io.update(src, dst, **OPTIONS, **options)
    assert report.changed == ("color_1/" + files_of(src / "color_1")[3].name,)
    assert described(dst) == fresh(tmp_path, **options)


def test_pixels_are_compared_on_request(tmp_path: Path, volume: np.ndarray) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume)
    io.convert(src, dst, **OPTIONS)
    for file in files_of(src):
        os.utime(file)  # a copy with new times
    again(src, 9, volume[9] + 1)
    assert len(plan_update(src, dst, **OPTIONS).changed) == 22
    report = io.update(src, dst, content=True, **OPTIONS)
    assert report.changed == (files_of(src)[9].name,)
    assert described(dst) == fresh(tmp_path)
    # Without a record, as of an older release, pixels are all there is to go by.
    manifest = dst / ".scout-manifest"
    head, _, body = manifest.read_bytes().partition(b"\n")
    header = json.loads(head)
    del header["settings"]["planes"]
    manifest.write_bytes(json.dumps(header).encode() + b"\n" + body)
    again(src, 2, volume[2] + 1)
    with pytest.raises(ArgumentError, match="content=True"):
        io.update(src, dst, **OPTIONS)
    io.update(src, dst, content=True, **OPTIONS)
    assert described(dst) == fresh(tmp_path)


def test_a_region_written_since_and_an_append_are_found(tmp_path: Path, volume: np.ndarray) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume[:12])
    io.convert(src, dst, **OPTIONS)
    io.write_zarr(dst, volume[12:], append="z")
    write_planes(tmp_path / "all", volume)
    for file in files_of(tmp_path / "all")[12:]:
        shutil.copy2(file, src / file.name)
    io.update(src, dst, **OPTIONS)  # what was appended is not on record as planes
    assert described(dst) == fresh(tmp_path)
    io.write_zarr(dst, volume[:4] + 3, region=slice(0, 4))
    with pytest.raises(ArgumentError, match="regions of it were written"):
        io.update(src, dst, **OPTIONS)
    io.update(src, dst, content=True, **OPTIONS)
    assert described(dst) == fresh(tmp_path)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"chunks": (8, 16, 16)}, ["[4, 16, 16]", "[8, 16, 16]"]),
        ({"codec": "lz4"}, ["zstd", "lz4"]),
        ({"ome": True}, ["is an array", "ome=False"]),
        ({"zarr_format": 3}, ["'zarr_format': 2", "'zarr_format': 3"]),
        ({"qc": True}, ["qc"]),
        ({"overwrite": True}, ["overwrite"]),
    ],
)
def test_other_options_than_those_it_was_converted_with_are_refused(
    tmp_path: Path, volume: np.ndarray, options: dict[str, Any], named: list[str]
) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume)
    io.convert(src, dst, **OPTIONS)
    before = described(dst)
    again(src, 9, volume[9] + 1)
    with pytest.raises(ArgumentError) as caught:
        io.update(src, dst, **{**OPTIONS, **options})
    assert all(text in str(caught.value) for text in named), str(caught.value)
    assert described(dst) == before
    assert not list(tmp_path.glob(".a.zarr*"))


def test_planes_of_another_size_and_what_is_no_tiff_are_refused(
    tmp_path: Path, volume: np.ndarray
) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume)
    with pytest.raises(PathNotFoundError):
        io.update(src, dst, **OPTIONS)
    io.convert(src, dst, **OPTIONS)
    write_planes(tmp_path / "wide", make_volume((22, 37, 30)))
    with pytest.raises(ArgumentError, match=r"\(22, 37, 29\).*\(22, 37, 30\)"):
        io.update(tmp_path / "wide", dst, **OPTIONS)
    io.convert(dst, tmp_path / "b.zarr", chunks=CHUNKS)
    with pytest.raises(ArgumentError, match="no folder of TIFF planes"):
        io.update(dst, tmp_path / "b.zarr", chunks=CHUNKS)


def test_labels_below_an_image_are_not_lost(tmp_path: Path, volume: np.ndarray) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume)
    io.convert(src, dst, ome=True, **OPTIONS)
    io.write_labels(dst, "cells", volume)
    again(src, 9, volume[9] + 1)
    with pytest.raises(TargetExistsError, match="labels"):
        io.update(src, dst, ome=True, **OPTIONS)
    assert "labels" in zarr.open_group(str(dst), mode="r")
    # The way: moved away, and back; they are those of before.
    labels = described(dst / "labels")
    shutil.move(dst / "labels", tmp_path / "labels")
    io.update(src, dst, ome=True, **OPTIONS)
    assert described(dst) == fresh(tmp_path, ome=True)
    shutil.move(tmp_path / "labels", dst / "labels")
    assert described(dst / "labels") == labels
    np.testing.assert_array_equal(io.read_zarr(dst / "labels" / "cells").compute(), volume)
    assert io.verify(dst).ok


def test_a_sheet_is_had_by_converting_again(tmp_path: Path, volume: np.ndarray) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume)
    io.convert(src, dst, qc=True, **OPTIONS)
    before = described(dst)
    again(src, 9, volume[9] + 1)
    with pytest.raises(ArgumentError, match=r"sheet tells of all planes.*overwrite=True for a sh"):
        io.update(src, dst, qc=True, **OPTIONS)
    assert described(dst) == before
    io.convert(src, dst, qc=True, overwrite=True, **OPTIONS)
    assert described(dst) == fresh(tmp_path, qc=True)
    assert (tmp_path / "a.zarr.qc.html").exists()


def test_the_command_lists_planes_and_updates(tmp_path: Path, volume: np.ndarray) -> None:
    src, dst = tmp_path / "planes", tmp_path / "a.zarr"
    write_planes(src, volume)
    run = CliRunner().invoke
    said = ["convert", str(src), str(dst), "--chunks", "4,16,16"]
    assert run(cli, said).exit_code == 0
    again(src, 9, volume[9] + 1)
    dry = run(cli, [*said, "--update", "--dry-run", "--json"])
    assert json.loads(dry.stdout)["changed"] == [files_of(src)[9].name]
    done = run(cli, [*said, "--update"])
    assert done.exit_code == 0
    assert "1 file: " + files_of(src)[9].name in done.stdout
    assert "is up to date" in run(cli, [*said, "--update"]).stdout
    assert run(cli, [*said, "--content"]).exit_code == 2
