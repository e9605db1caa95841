"""Paths that are odd, or that there cannot be: written, or one error of ours and nothing left."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.store import staging

VOLUME = make_volume((3, 6, 7))

WRITERS: dict[str, Callable[[Path, str], Any]] = {
    "write_zarr": lambda src, dst: io.write_zarr(dst, VOLUME, (2, 4, 4)),
    "convert": lambda src, dst: io.convert(src / "planes", dst),
    "convert ome": lambda src, dst: io.convert(src / "planes", dst, ome=True),
    "convert qc": lambda src, dst: io.convert(src / "planes", dst, qc=True),
    "pyramid": lambda src, dst: io.pyramid(src / "a.zarr", dst, levels=2),
    "new_zarr": lambda src, dst: io.new_zarr(dst, (3, 4, 5), (1, 2, 2), "u2"),
    "open": lambda src, dst: io.open(dst, mode="w"),
    "export": lambda src, dst: io.export(src / "a.zarr", dst),
    "imsave": lambda src, dst: io.imsave(dst, VOLUME),
}
READERS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        io.read_zarr, io.imread, io.imread_folder, io.imread_channels, io.imread_dataset, io.info,
        io.scan, io.verify, io.preview, io.open, io.viewer,
    )
}  # fmt: skip


@pytest.fixture
def src(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with an array and a folder of planes, and work in an empty one beside it."""
    made = tmp_path / "src"
    write_planes(made / "planes", VOLUME)
    io.write_zarr(made / "a.zarr", VOLUME, (2, 4, 4))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return made


IMPOSSIBLE = {
    "zero byte": "a\0b.zarr",
    "half a surrogate": "a\ud812b",
    "300 bytes": "m" * 300,
    "5,000 bytes": "/".join(["k" * 99] * 50),
}


@pytest.mark.parametrize("verb", WRITERS)
@pytest.mark.parametrize("path", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_names_that_no_file_has_are_an_error_of_our_own_of_every_writer(
    src: Path, verb: str, path: str
) -> None:
    with pytest.raises(io.ArgumentError, match="path"):
        WRITERS[verb](src, path)
    assert os.listdir() == []


@pytest.mark.parametrize("verb", READERS)
@pytest.mark.parametrize("path", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_names_that_no_file_has_are_an_error_of_our_own_of_every_reader(
    src: Path, verb: str, path: str
) -> None:
    with pytest.raises(io.ScoutIOError):
        READERS[verb](path)


@pytest.mark.parametrize("verb", [*WRITERS, *READERS])
def test_a_working_directory_that_is_gone_is_told(src: Path, verb: str) -> None:
    os.rmdir(os.getcwd())
    with pytest.raises(io.ScoutIOError, match=r"working directory|no directory"):
        WRITERS[verb](src, "x.zarr") if verb in WRITERS else READERS[verb]("x.zarr")


@pytest.mark.parametrize("verb", WRITERS)
@pytest.mark.parametrize("path", ["gone/x.zarr", "round/x.zarr", "round"])
def test_links_that_lead_nowhere_are_an_error_and_nothing_is_left(
    src: Path, verb: str, path: str
) -> None:
    os.symlink("not/there", "gone")
    os.symlink("round", "round")
    if verb == "imsave" and path == "round":
        pytest.skip("a link is what is written through")
    with pytest.raises(io.ScoutIOError, match=path.split("/")[0]):
        WRITERS[verb](src, path)
    assert sorted(os.listdir()) == ["gone", "round"]


@pytest.mark.parametrize("name", ["w" * 212, "w" * 240, "w" * 255, "é" * 120])
@pytest.mark.parametrize("verb", ["write_zarr", "convert", "convert ome", "pyramid", "open"])
def test_names_as_long_as_a_disk_takes_are_written_and_overwritten(
    src: Path, verb: str, name: str
) -> None:
    WRITERS[verb](src, name)
    assert os.listdir() == [name]
    if verb == "write_zarr":
        io.write_zarr(name, VOLUME + 1, (2, 4, 4), overwrite=True)
        np.testing.assert_array_equal(io.read_zarr(name).compute(), VOLUME + 1)
        assert os.listdir() == [name]


def test_a_long_name_of_a_tiff_is_written(src: Path) -> None:
    io.imsave("t" * 251 + ".tif", VOLUME)
    np.testing.assert_array_equal(io.imread("t" * 251 + ".tif").compute(), VOLUME)
    assert len(os.listdir()) == 1


def test_two_long_names_have_places_of_their_own_to_grow_in() -> None:
    parts = {staging._partial_dir(Path("/d") / ("q" * 240 + end)) for end in ("1", "2")}
    assert len(parts) == 2
    assert staging._partial_dir(Path("/d/a.zarr")) == Path("/d/.a.zarr.scout-partial")


def test_a_mount_point_is_refused_before_anything_is_computed(src: Path, monkeypatch: Any) -> None:
    Path("disk").mkdir()
    real = os.path.ismount
    here = os.path.abspath("disk")
    monkeypatch.setattr(os.path, "ismount", lambda p: os.fspath(p) == here or real(p))
    for verb in ("write_zarr", "convert", "pyramid", "new_zarr", "open"):
        with pytest.raises(io.TargetExistsError, match="mount point"):
            WRITERS[verb](src, "disk")
    assert os.listdir() == ["disk"]


def test_a_name_that_is_not_utf8_is_written_and_refused_with_qc(src: Path) -> None:
    name = os.fsdecode(b"gr\xfcn.zarr")
    with pytest.raises(io.ArgumentError, match="not UTF-8"):
        WRITERS["convert qc"](src, name)
    assert os.listdir() == []
    WRITERS["convert"](src, name)
    np.testing.assert_array_equal(io.read_zarr(name).compute(), VOLUME)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "nothing"])
def test_what_is_no_file_in_the_place_of_a_chunk_is_an_error_however_it_is_read(
    src: Path, zarr_format: int, kind: str
) -> None:
    io.write_zarr("a.zarr", VOLUME, (2, 4, 4), zarr_format=zarr_format)
    chunk = Path("a.zarr", *(["c"] if zarr_format == 3 else []), "0", "0", "0")
    chunk.unlink()
    Path("a.zarr/.scout-manifest").unlink(missing_ok=True)
    for manifest in Path("a.zarr").glob(".scout*"):
        manifest.unlink()
    if kind == "folder":
        chunk.mkdir()
    elif kind == "fifo":
        os.mkfifo(chunk)
    else:
        chunk.symlink_to("/dev/zero" if kind == "device" else "gone")
    with pytest.raises(io.ChunkReadError, match=r"0.0.0|chunk in"):
        io.read_zarr("a.zarr").compute()
    with pytest.raises(io.ChunkReadError, match=r"0.0.0"):
        np.asarray(io.open("a.zarr", mode="r"))
