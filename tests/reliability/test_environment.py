"""Disks that are full or read-only, links, pipes, few handles: an error that can be read."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from harness import MiB, Outcome, figure, litter, run, tree
from helpers import make_volume, write_planes

import scout_dask_io as io

VOLUME = make_volume((6, 40, 42), seed=25)
CHUNKS = (2, 16, 16)
NOBODY = 65534


def write(path: str, **settings: Any) -> str:
    io.write_zarr(path, VOLUME, CHUNKS, nb_workers=2, max_mem="200MB", **settings)
    return "written"


def overwrite(path: str) -> str:
    return write(path, overwrite=True)


def new(path: str) -> str:
    io.new_zarr(path, VOLUME.shape, CHUNKS, "u2")
    return "written"


def save(path: str) -> str:
    io.imsave(path, da.from_array(VOLUME, chunks=(1, 40, 42)))
    return "written"


def read_array(path: str) -> str:
    return str(io.read_zarr(path).compute(scheduler="sync").shape)


def read_image(path: str) -> str:
    return str(io.imread(path).compute(scheduler="sync").shape)


def read_folder(path: str) -> str:
    return str(io.imread_folder(path).compute(scheduler="sync").shape)


def _file(path: Path) -> None:
    path.write_text("mine")


def _folder(path: Path) -> None:
    path.mkdir()
    _file(path / "notes.txt")


def _link_to_folder(path: Path) -> None:
    _folder(path.with_name("other"))
    path.symlink_to(path.with_name("other"))


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        here = os.getcwd()
        os.chdir(path.parent)
        try:
            sock.bind(path.name)
        finally:
            os.chdir(here)


def _fifo(path: Path) -> None:
    os.mkfifo(path)  # not in the table: there are systems without


def _under_a_file(path: Path) -> None:
    _file(path.parent / "parent")


#: What stands, the call, the name it is given, and which errors say so.
CASES: dict[str, tuple[Callable[[Path], None], Callable[[str], str], str, tuple[str, ...]]] = {
    "write onto a file": (_file, write, "a", ("TargetExistsError",)),
    "overwrite a file": (_file, overwrite, "a", ("TargetExistsError",)),
    "overwrite a folder of notes": (_folder, overwrite, "a", ("TargetExistsError",)),
    "overwrite a link to a folder": (_link_to_folder, overwrite, "a", ("TargetExistsError",)),
    "overwrite a dangling link": (_dangling, overwrite, "a", ("TargetExistsError",)),
    "overwrite a FIFO": (_fifo, overwrite, "a", ("TargetExistsError",)),
    "overwrite a socket": (_socket, overwrite, "a", ("TargetExistsError",)),
    "write below a file": (_under_a_file, write, "parent/a", ("WriteError", "TargetExistsError")),
    "a name that is too long": (_folder, write, "n" * 300, ("ArgumentError",)),
    "new_zarr onto a folder": (_folder, new, "a", ("TargetExistsError",)),
    "imsave onto a folder": (_folder, save, "a", ("TargetExistsError",)),
    "imsave onto a FIFO": (_fifo, save, "a", ("TargetExistsError",)),
    "imsave below nothing": (_folder, save, "none/a.tif", ("PathNotFoundError",)),
    "read an array of nothing": (_folder, read_array, "none", ("PathNotFoundError",)),
    "read an array of a file": (_file, read_array, "a", ("LayoutError", "PathNotFoundError")),
    "read an array of a FIFO": (_fifo, read_array, "a", ("LayoutError", "PathNotFoundError")),
    "read an image of a folder": (_folder, read_image, "a", ("ArgumentError", "TiffReadError")),
    "read an image of a FIFO": (_fifo, read_image, "a", ("TiffReadError",)),
    "read an image of a socket": (_socket, read_image, "a", ("TiffReadError",)),
    "read an image of a dangling link": (_dangling, read_image, "a", ("PathNotFoundError",)),
    "read an image of a link to itself": (_loop, read_image, "a", ("TiffReadError",)),
    "read a folder of a file": (_file, read_folder, "a", ("PathNotFoundError", "ArgumentError")),
    "read a folder of notes": (_folder, read_folder, "a", ("PathNotFoundError",)),
}


@pytest.mark.parametrize("case", CASES)
def test_row_01_what_cannot_be_used_is_an_error_and_all_else_stays(tmp_path: Path, case: str):
    before, call, name, errors = CASES[case]
    before(tmp_path / "a")
    standing = tree(tmp_path)
    outcome = run(call, str(tmp_path / name), seconds=90)
    figure("environment cases", tried=1, bystanders_changed=0)
    assert not outcome.signal, str(outcome)
    assert outcome.error[:1] in [(e,) for e in errors], str(outcome)
    assert str(tmp_path) in outcome.message
    assert outcome.seconds < 5
    assert tree(tmp_path) == standing


def test_row_01_a_directory_with_notes_outlives_every_entry_point(tmp_path: Path):
    path = tmp_path / "a.zarr"
    io.write_zarr(path, VOLUME, CHUNKS)
    (path / "notes.txt").write_text("mine")
    planes = write_planes(tmp_path / "p", VOLUME)
    before = tree(tmp_path)
    calls: list[Callable[[], Any]] = [
        lambda: io.write_zarr(path, VOLUME, CHUNKS, overwrite=True),
        lambda: io.new_zarr(path, (4, 4), (2, 2), "u2", overwrite=True),
        lambda: io.new_zarr(path, (4, 4), (2, 2), "u2", mode="w"),
        lambda: io.new_zarr_like(path, VOLUME, overwrite=True),
        lambda: io.open(path, mode="w"),
        lambda: io.convert(tmp_path / "p", path, overwrite=True),
        lambda: io.write_zarr(planes[0].parent, VOLUME, overwrite=True),
        lambda: io.new_zarr(planes[0].parent, (4, 4), (2, 2), "u2", mode="w"),
    ]
    for call in calls:
        with pytest.raises(io.TargetExistsError):
            call()
        assert tree(tmp_path) == before
    with pytest.raises((io.ArgumentError, io.ChunkError)):
        io.write_zarr(path, VOLUME, (0, 0, 0), overwrite=True)
    assert tree(tmp_path) == before


def readable(outcome: Outcome, path: Path) -> None:
    """One paragraph that names the file, the cause and the way on."""
    assert outcome.error[:1] == ("WriteError",), str(outcome)
    assert str(path) in outcome.message
    assert "resume=True" in outcome.message
    assert "\n" not in outcome.message
    assert len(outcome.message) < 600


def write_noise(path: str, resume: bool) -> str:
    noise = np.random.default_rng(1).integers(0, 2**16, (64, 128, 128), dtype="u2")
    noise[0] = 0  # small first chunks come first
    io.write_zarr(path, noise, (8, 64, 64), resume=resume, nb_workers=1, max_mem="200MB")
    return str(int(io.read_zarr(path).astype("u8").sum().compute(scheduler="sync")))


def write_growing(path: str, resume: bool) -> str:
    """Chunks that get larger and larger: a limit on files hits after some units."""
    noise = np.random.default_rng(1).integers(0, 2**16, (8, 64, 64), dtype="u2")
    for k in range(8):
        noise[k, :, 8 * (k + 1) :] = 0
    lazy = da.from_array(noise, chunks=(1, 64, 64)) + np.uint16(0)
    io.write_zarr(path, lazy, (1, 64, 64), resume=resume, nb_workers=1, max_mem="200MB")
    return str(int(io.read_zarr(path).astype("u8").sum().compute(scheduler="sync")))


def test_row_05_a_limit_on_file_sizes_is_a_readable_error_and_resumes(tmp_path: Path):
    path = tmp_path / "a.zarr"
    outcome = run(write_growing, str(path), False, fsize_nbytes=6000, seconds=60)
    readable(outcome, path)
    assert not path.exists()
    again = run(write_growing, str(path), True, seconds=60)
    assert not again.error, str(again)
    other = run(write_growing, str(tmp_path / "b.zarr"), False, seconds=60)
    assert again.value == other.value
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@contextmanager
def small_disk(path: Path, nbytes: int) -> Iterator[Path]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


@pytest.mark.root
def test_row_05_a_full_disk_is_a_readable_error_and_resumes_with_more_space(tmp_path: Path):
    with small_disk(tmp_path / "disk", 3 * MiB // 2) as disk:
        (disk / "notes.txt").write_text("mine")
        path = disk / "a.zarr"
        outcome = run(write_noise, str(path), False, seconds=90)
        readable(outcome, path)
        assert "No space left" in outcome.message
        assert not path.exists()
        subprocess.run(["mount", "-o", f"remount,size={64 * MiB}", str(disk)], check=True)
        again = run(write_noise, str(path), True, seconds=90)
        assert not again.error, str(again)
        assert again.value == run(write_noise, str(tmp_path / "b.zarr"), False, seconds=90).value
        assert sorted(p.name for p in disk.iterdir()) == ["a.zarr", "notes.txt"]
        outcome = run(save_noise, str(disk / "a.tif"), seconds=90)
        assert not outcome.error
        subprocess.run(["mount", "-o", f"remount,size={5 * MiB}", str(disk)], check=True)
        before = tree(disk)
        outcome = run(save_noise, str(disk / "b.tif"), seconds=90)
        assert outcome.error[:1] == ("WriteError",), str(outcome)
        assert str(disk / "b.tif") in outcome.message
        assert tree(disk) == before


def convert_command(*args: Any, fsize_nbytes: int | None = None) -> tuple[int, str]:
    """Run ``scout-dask-io convert`` and give its exit code and what it said on stderr."""

    def limit() -> None:
        if fsize_nbytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (fsize_nbytes, fsize_nbytes))

    done = subprocess.run(
        [sys.executable, "-m", "scout_dask_io", "convert", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=limit,
    )
    return done.returncode, done.stderr


def paragraph(err: str, path: Path, *words: str) -> None:
    """Hold what a command says when it ran out of space against what people need to read."""
    text = "\n".join(line for line in err.splitlines() if line.startswith("error: "))
    assert text.count("\n") == 0
    assert "Traceback" not in err
    assert err.rstrip().endswith(text), "nothing comes after the error"
    assert len(text) < 900
    for word in (
        str(path),
        "is as it was",
        "--resume",
        "write units are finished and kept",
        *words,
    ):
        assert word in text, text


def test_row_05_the_command_says_how_to_resume_where_a_limit_on_file_sizes_stops_it(
    tmp_path: Path,
):
    # The last planes are noise, which does not compress: their chunks are too large.
    volume = make_volume((24, 250, 260))
    volume[:20] //= 4096
    write_planes(tmp_path / "p", volume)
    path = tmp_path / "a.zarr"
    args = [tmp_path / "p", path, "--chunks", "1,128,128", "-n", "1"]
    code, err = convert_command(*args, fsize_nbytes=20_000)
    assert code == 1
    paragraph(err, path, "File too large", "free")
    assert not path.exists()
    code, err = convert_command(*args, "--resume")
    assert code == 0, err
    assert "units were finished" in err
    assert np.array_equal(io.read_zarr(path).compute(), volume)
    assert io.verify(path).ok
    assert litter(tmp_path, "a.zarr") == []


@pytest.mark.root
def test_row_05_the_command_says_how_to_resume_on_a_full_disk_of_64_mb(tmp_path: Path):
    volume = np.random.default_rng(5).integers(0, 2**16, (72, 512, 1024), dtype="u2")
    write_planes(tmp_path / "p", volume)
    with small_disk(tmp_path / "disk", 64 * MiB) as disk:
        path = disk / "a.zarr"
        code, err = convert_command(tmp_path / "p", path, "--chunks", "8,256,256")
        assert code == 1
        paragraph(err, path, "No space left on device", "free")
        assert not path.exists()
        subprocess.run(["mount", "-o", f"remount,size={160 * MiB}", str(disk)], check=True)
        code, err = convert_command(tmp_path / "p", path, "--chunks", "8,256,256", "--resume")
        assert code == 0, err
        assert "units were finished" in err
        assert np.array_equal(io.read_zarr(path).compute(), volume)
        assert io.verify(path).ok
        assert [p.name for p in disk.iterdir()] == ["a.zarr"]


def save_noise(path: str) -> None:
    noise = np.random.default_rng(1).integers(0, 2**16, (20, 200, 200), dtype="u2")
    io.imsave(path, da.from_array(noise, chunks=(1, 200, 200)))


@pytest.mark.root
def test_row_01_a_read_only_disk_is_an_error_that_says_so(tmp_path: Path):
    with small_disk(tmp_path / "disk", 4 * MiB) as disk:
        io.write_zarr(disk / "old.zarr", VOLUME, CHUNKS)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        before = tree(disk)
        for call, name in ((write, "a"), (overwrite, "old.zarr"), (save, "a.tif"), (new, "a")):
            outcome = run(call, str(disk / name), seconds=90)
            assert outcome.error[:1] == ("WriteError",), str(outcome)
            assert str(disk) in outcome.message
            assert "Read-only" in outcome.message
        assert tree(disk) == before
        assert run(read_array, str(disk / "old.zarr")).value == "(6, 40, 42)"


@pytest.mark.root
def test_row_01_a_folder_of_another_user_is_an_error_that_says_so(tmp_path: Path):
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    (tmp_path / "mine").mkdir(mode=0o755)
    io.write_zarr(tmp_path / "mine" / "old.zarr", VOLUME, CHUNKS)
    (tmp_path / "secret.tif").write_bytes(b"II*\0")
    (tmp_path / "secret.tif").chmod(0o600)
    before = tree(tmp_path)
    for call, name in (
        (write, "mine/a"), (overwrite, "mine/old.zarr"), (save, "mine/a.tif"), (new, "mine/a"),
        (read_image, "secret.tif"),
    ):  # fmt: skip
        outcome = run(call, str(tmp_path / name), uid=NOBODY, seconds=90)
        assert outcome.is_typed, str(outcome)
        assert "ermission denied" in outcome.message
        assert str(tmp_path) in outcome.message
    assert tree(tmp_path) == before
    found = run(read_array, str(tmp_path / "mine" / "old.zarr"), uid=NOBODY)
    assert found.value == "(6, 40, 42)", str(found)


def test_row_26_few_handles_do_for_writing_and_reading(tmp_path: Path):
    for call, name, text in (
        (write, "a", "written"), (read_array, "a", "(6, 40, 42)"),
        (save, "a.tif", "written"), (read_image, "a.tif", "(6, 40, 42)"),
    ):  # fmt: skip
        outcome = run(call, str(tmp_path / name), nofile=40, seconds=60)
        assert outcome.value == text, str(outcome)


def test_links_in_a_path_are_followed_and_a_plane_may_be_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(str(tmp_path / "link" / "a.zarr"))
    assert (io.read_zarr(tmp_path / "real" / "a.zarr").compute() == VOLUME).all()
    planes = write_planes(tmp_path / "p", VOLUME)
    planes[2].rename(tmp_path / "elsewhere.tif")
    planes[2].symlink_to(tmp_path / "elsewhere.tif")
    assert (io.imread_folder(tmp_path / "p").compute() == VOLUME).all()
    assert tifffile.imread(planes[2]).shape == (40, 42)
