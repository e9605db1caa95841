"""What is asked of the system in one place, and goes where the system has it not."""

from __future__ import annotations

import ast
import errno
import multiprocessing
import os
from pathlib import Path

import pytest
from helpers import REPO, make_volume, python, write_channels

import scout_dask_io as io
from scout_dask_io.files import system

PACKAGE = REPO / "scout_dask_io"
#: What POSIX has and Windows lacks, beside what :mod:`os` gives everywhere.
POSIX = {
    "preadv", "pread", "readv", "pwritev", "statvfs", "fstatvfs", "mkfifo", "posix_fadvise",
    "getuid", "geteuid", "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "O_DIRECT", "O_NOFOLLOW",
    "sched_getaffinity",
}  # fmt: skip
MODULES = {"fcntl", "pwd", "grp", "resource", "termios", "posix"}

EVERY_VERB = """
import portable
import numpy as np, scout_dask_io as io

planes = np.stack([io.imread(f"brain/ch0/z{z:04d}.tif").compute() for z in range(9)])
array = io.imread_folder("brain/ch0")
io.convert("brain/ch0", "a.zarr", chunks=16, qc=True)
assert (io.read_zarr("a.zarr").compute() == planes).all()
io.convert("brain", "b.ome.zarr", ome=True, chunks=16, durable=True)
assert io.verify("brain/ch0", "a.zarr").n_differing == 0
io.write_zarr("a.zarr", array + 1, 16, overwrite=True)
part = io.read_region(io.read_zarr("a.zarr"), (slice(2, 5), slice(None), slice(None)))
assert (part == planes[2:5] + 1).all()
io.write_zarr("a.zarr", planes[:, :16], region=(slice(None), slice(0, 16), slice(None)))
io.write_zarr("a.zarr", planes, append=0)
assert io.read_zarr("a.zarr").shape == (18, 50, 60)
io.write_labels("b.ome.zarr", "seg", np.zeros((9, 50, 60), "u2"))
io.pyramid("a.zarr", "p.ome.zarr", levels=2)
io.export("b.ome.zarr", "b.ome.tif")
assert (io.imread("b.ome.tif").compute()[0] == planes).all()
io.imsave("c.tif", array)
# tifffile and this library read a file by turns, through one descriptor.
import os
from scout_dask_io.files.system import read_some_at
with open("c.tif", "rb") as file:
    os.lseek(file.fileno(), 3, os.SEEK_SET)
    assert read_some_at(file.fileno(), 8, memoryview(bytearray(5))) == 5
    assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 3
io.preview("b.ome.zarr").save("b.png")
io.new_zarr("n.zarr", (9, 50, 60), (16, 16, 16), "u2")[:] = planes
assert (io.open("n.zarr")[:] == planes).all()
print("every verb")
"""


def test_nothing_but_one_module_asks_for_what_windows_lacks() -> None:
    found = []
    for path in PACKAGE.rglob("*.py"):
        if path.name == "system.py" or "cgroup" in path.name:
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            names: set[str] = set()
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names = {node.attr} & POSIX if node.value.id == "os" else set()
            elif isinstance(node, ast.Import):
                names = {n.name for n in node.names} & MODULES
            elif isinstance(node, ast.ImportFrom):
                names = {str(node.module)} & MODULES
            found += [f"{path.relative_to(REPO)}:{node.lineno} {name}" for name in names]
    assert not found


def test_every_verb_goes_without_what_windows_lacks(tmp_path: Path) -> None:
    write_channels(tmp_path / "brain", make_volume((2, 9, 50, 60)), names=["ch0", "ch1"])
    (tmp_path / "portable.py").write_text((REPO / "tests" / "portable.py").read_text())
    done = python("-W", "ignore", "-c", EVERY_VERB, cwd=tmp_path)
    assert done.strip().endswith("every verb")


@pytest.mark.parametrize("name", ["NUL", "aux.tif", "a:b.zarr", "what?", "end.", "com1.zarr"])
def test_a_name_that_windows_takes_for_something_else_is_refused_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("scout_dask_io.files.location.WINDOWS", True)
    with pytest.raises(io.ArgumentError, match=r"is no name of a file on Windows.* Give a name"):
        io.write_zarr(tmp_path / name, make_volume((2, 3, 4)), 2)
    assert not list(tmp_path.iterdir())
    io.write_zarr(tmp_path / "auxiliary.zarr", make_volume((2, 3, 4)), 2)


@pytest.mark.parametrize("windows", [True, False])
def test_what_another_program_uses_for_a_moment_is_waited_for_on_windows_alone(
    monkeypatch: pytest.MonkeyPatch, windows: bool
) -> None:
    monkeypatch.setattr(system, "WINDOWS", windows)
    monkeypatch.setattr(system.time, "sleep", lambda _: None)
    answers = iter([PermissionError("sharing violation"), PermissionError("again"), "listed"])

    def ask() -> str:
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    if windows:
        assert system.patiently(ask) == "listed"
    else:
        with pytest.raises(PermissionError, match="sharing"):
            system.patiently(ask)


def test_what_may_only_be_read_is_synced_where_that_goes_and_else_opened_for_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"a")
    flags = []
    real_open, real_sync = os.open, os.fsync

    def noting(path: str, how: int, *more: int) -> int:
        flags.append(how & (os.O_WRONLY | os.O_RDWR))
        return real_open(path, how, *more)

    def refusing(fd: int) -> None:
        if not flags[-1]:
            raise OSError(errno.EBADF, "only what is open for writing")
        real_sync(fd)

    monkeypatch.setattr(os, "open", noting)
    monkeypatch.setattr(os, "fsync", refusing)
    system.sync_file(tmp_path / "a")
    assert flags == [0, os.O_RDWR]


@pytest.mark.parametrize("links", [True, False])
def test_a_name_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    for name in "ab":
        (tmp_path / name).write_text(name)
    system.move_to_new(tmp_path / "a", tmp_path / "c")
    with pytest.raises(FileExistsError):
        system.move_to_new(tmp_path / "b", tmp_path / "c")
    assert (tmp_path / "c").read_text() == "a"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "c"]


def test_bytes_at_a_place_are_read_to_the_end_of_the_file(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    with path.open("rb") as file:
        out = bytearray(10)
        assert system.read_some_at(file.fileno(), 95, memoryview(out)) == 5
        assert out[:5] == bytes(range(95, 100))
        assert system.read_some_at(file.fileno(), 100, memoryview(out)) == 0


def _try(folder: str, answer: multiprocessing.SimpleQueue[bool]) -> None:
    with system.locked(folder, wait=False) as got:
        answer.put(got)


@pytest.mark.posix
def test_a_directory_that_is_locked_is_so_for_others(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = []
    with system.locked(tmp_path) as got:
        assert got
        answers.append(_asked(context, tmp_path))
    answers.append(_asked(context, tmp_path))
    assert answers == [False, True]
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError), system.locked(tmp_path / "none"):
        pass


def _asked(context: multiprocessing.context.SpawnContext, folder: Path) -> bool:
    answer = context.SimpleQueue()
    child = context.Process(target=_try, args=(str(folder), answer))
    child.start()
    child.join()
    return answer.get()
