"""A share, where each call on a file waits: chunks are read and written several at once."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import zarr
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import SourceChangedError, WriteError
from scout_dask_io.files import disk, whole_files
from scout_dask_io.files.location import locate
from scout_dask_io.store import chunk_v2
from scout_dask_io.store.fingerprint import Fingerprint
from scout_dask_io.store.transaction import Transaction
from scout_dask_io.write import uploads
from scout_dask_io.write.attempt import Running
from scout_dask_io.write.uploads import DiskUploads, UploadLimit


class Slow:
    """Clocks by which every call takes long, and what is done at once meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
        self.n = self.most = 0
        self.lock = threading.Lock()
        self.met = threading.Event()
        self.now = 0.0
        clock = type("Clock", (), {"perf_counter": staticmethod(self.tick)})
        monkeypatch.setattr(module, "time", clock)

    def tick(self) -> float:
        self.now += 1.0
        return self.now

    def work(self) -> None:
        """Be at work until a second one is, once calls are known to take long."""
        with self.lock:
            self.n += 1
            self.most = max(self.most, self.n)
            if self.n > 1:
                self.met.set()
        if threading.current_thread() is not threading.main_thread():
            self.met.wait(10)
        with self.lock:
            self.n -= 1


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    found = [str(k) for k in range(30)]
    for k, name in enumerate(found):
        if k % 7 != 3:
            (tmp_path / name).write_bytes(bytes([k]) * (k + 1))
    return found


def test_files_that_take_long_are_read_several_at_once_and_come_in_order(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(monkeypatch, whole_files)
    real = whole_files.read_file

    def read_file(*args: Any) -> Any:
        slow.work()
        return real(*args)

    monkeypatch.setattr(whole_files, "read_file", read_file)
    found = [(n, None if d is None else bytes(cast(Any, d))) for n, d in
             locate(tmp_path).iter_files(names, 100)]  # fmt: skip
    assert [n for n, _ in found] == names
    for k, (_, data) in enumerate(found):
        assert data == (None if k % 7 == 3 else bytes([k]) * (k + 1))
    assert 1 < slow.most <= whole_files.N_AT_ONCE


def test_files_that_do_not_are_read_one_by_one(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = type("Clock", (), {"perf_counter": staticmethod(lambda: 0.0)})
    monkeypatch.setattr(whole_files, "time", clock)
    monkeypatch.setattr(whole_files, "work_ahead", None)
    assert len(list(locate(tmp_path).iter_files(names, 100))) == len(names)


def test_large_files_are_never_held_together(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Slow(monkeypatch, whole_files)
    monkeypatch.setattr(whole_files, "work_ahead", None)
    assert len(list(locate(tmp_path).iter_files(names, whole_files.AHEAD_NBYTES))) == len(names)


@pytest.mark.in_process
def test_an_array_on_a_share_is_written_and_read_as_on_any_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = io.write_zarr(tmp_path / "fast.zarr", make_volume((40, 50, 60)), (8, 8, 8))
    state = locate(tmp_path / "fast.zarr").tree_state()
    Slow(monkeypatch, whole_files)
    Slow(monkeypatch, uploads)
    io.write_zarr(tmp_path / "slow.zarr", make_volume((40, 50, 60)), (8, 8, 8))
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "slow.zarr").compute(), fast[...])
    assert io.verify(tmp_path / "slow.zarr").ok
    assert locate(tmp_path / "fast.zarr").tree_state() == state
    files = {p.relative_to(tmp_path / "fast.zarr") for p in (tmp_path / "fast.zarr").rglob("*")}
    assert files == {
        p.relative_to(tmp_path / "slow.zarr") for p in (tmp_path / "slow.zarr").rglob("*")
    }


def test_folders_of_chunks_are_not_listed_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io.write_zarr(tmp_path / "a.zarr", make_volume((40, 50, 60)), (8, 8, 8))
    state = locate(tmp_path / "a.zarr").tree_state()
    listed: list[str] = []
    real = os.scandir

    def scandir(path: Any) -> Any:
        listed.append(os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert locate(tmp_path / "a.zarr").tree_state() == state
    # The array, the 5 folders of z, and one of the 35 of y.
    assert len(listed) == 7
    (tmp_path / "a.zarr" / "4" / "6" / "new").touch()
    assert locate(tmp_path / "a.zarr").tree_state() != state


@pytest.mark.in_process
def test_chunks_on_a_share_that_are_as_on_record_need_no_second_look_at_their_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make_volume((16, 24, 24))
    path = tmp_path / "a.zarr"
    io.write_zarr(path, volume, (8, 8, 8))
    looks: list[Fingerprint] = []
    real = Fingerprint.check

    def check(self: Fingerprint) -> None:
        looks.append(self)
        real(self)

    monkeypatch.setattr(Fingerprint, "check", check)
    lazy = io.read_zarr(path)
    lazy.compute(scheduler="sync")
    n_fast = len(looks)
    Slow(monkeypatch, whole_files)
    lazy.compute(scheduler="sync")  # by which it is known
    looks.clear()
    np.testing.assert_array_equal(io.read_region(lazy, np.s_[3:13, :9, 2:]), volume[3:13, :9, 2:])
    assert (n_fast > 0, len(looks)) == (True, 0)
    # A chunk that other software changed is looked after, and so is an array in this one's place.
    zarr.open_array(str(path), mode="r+")[3, 3, 3] = 7
    assert io.read_region(lazy, np.s_[3, 3, 3]) == 7
    assert len(looks) > 0
    io.write_zarr(path, volume[::-1], (8, 8, 8), overwrite=True)
    with pytest.raises(SourceChangedError, match="no longer the array"):
        io.read_region(lazy, np.s_[:, :9, 2:])


def write_with_zarr(path: Path, volume: np.ndarray) -> None:
    """Write as other software does, in the place of what stands there."""
    array = zarr.create_array(
        str(path), shape=volume.shape, dtype=volume.dtype, chunks=(8, 8, 8), zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"}, overwrite=True,
    )  # fmt: skip
    array[...] = volume


@pytest.mark.in_process
@pytest.mark.parametrize("replaced_after", [None, 1, 8])
def test_an_array_of_other_software_on_a_share_is_looked_at_once_a_region_when_all_is_read(
    replaced_after: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make_volume((16, 24, 24))
    path = tmp_path / "a.zarr"
    write_with_zarr(path, volume)
    events: list[str] = []
    lock = threading.Lock()
    look, read = Fingerprint.check, whole_files.read_file

    def check(self: Fingerprint) -> None:
        events.append("look")
        look(self)

    def read_file(*args: Any) -> Any:
        found = read(*args)
        with lock:
            events.append("read")
            if events.count("read") == replaced_after:
                write_with_zarr(path, volume[::-1])
        return found

    lazy = io.read_zarr(path)
    Slow(monkeypatch, whole_files)
    lazy.compute(scheduler="sync")  # by which it is known
    monkeypatch.setattr(Fingerprint, "check", check)
    monkeypatch.setattr(whole_files, "read_file", read_file)
    for compute in (
        lambda: io.read_region(lazy, np.s_[3:13, :9, 2:14], nb_workers=2),
        lambda: lazy[3:13, :9, 2:14].compute(scheduler="sync"),
    ):
        events.clear()
        if replaced_after is None:
            np.testing.assert_array_equal(compute(), volume[3:13, :9, 2:14])
        else:
            with pytest.raises(SourceChangedError, match="no longer the array"):
                compute()
        assert events == [*["read"] * 8, "look"]


def test_folders_on_a_share_are_removed_several_at_once_and_links_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    array = tmp_path / "a.zarr"
    io.write_zarr(array, make_volume((40, 50, 60)), (4, 8, 8))
    (array / "3" / "link").symlink_to(tmp_path / "mine", target_is_directory=True)
    slow = Slow(monkeypatch, disk)
    real = os.scandir

    def scandir(path: Any) -> Any:
        slow.work()
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    disk.remove_tree(array)
    monkeypatch.undo()
    assert 1 < slow.most <= whole_files.N_AT_ONCE
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "notes.txt"]


class Store:
    """A disk that writes chunks when it is told."""

    def __init__(self, slow: Slow, fails: str = "") -> None:
        self.slow, self.fails = slow, fails
        self.taken: dict[str, bytes] = {}

    def put(self, level: int | None, key: str, data: Any) -> None:
        self.slow.work()
        if key == self.fails:
            raise WriteError(f"{key} on purpose")
        self.taken[key] = bytes(data)

    def remove(self, level: int | None, key: str) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("fails", ["", "20"])
def test_chunks_that_take_long_leave_in_a_window_and_errors_come_to_their_unit(
    monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    store = Store(Slow(monkeypatch, uploads), fails)
    running = Running()
    each = DiskUploads(cast(Transaction, store), UploadLimit(4, 1000, 2, 2, on_disk=True), running)
    data = bytearray(9)

    def write() -> None:
        for k in range(40):
            data[0] = k
            each.put(None, str(k), data)
        each.confirm()

    if fails:
        with pytest.raises(WriteError, match="on purpose"):
            write()
    else:
        write()
        assert store.taken == {str(k): bytes([k]) + bytes(8) for k in range(40)}
    each.close()
    assert running.is_slow
    assert running.window.n == 0
    assert 1 < store.slow.most <= 4


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is put in place by a rename."""
    counts: Counter[str] = Counter()
    real = chunk_v2.replace

    def counted(source: Any, target: Any) -> None:
        counts[str(target)] += 1
        real(source, target)

    monkeypatch.setattr(chunk_v2, "replace", counted)
    return counts


def test_a_chunk_that_is_new_is_written_in_place_and_one_that_is_there_replaced(
    tmp_path: Path, renamed: Counter[str]
) -> None:
    path, draft = tmp_path / "0" / "1", tmp_path / "draft"
    chunk_v2.write_file(path, draft, b"first", root=tmp_path, unseen=True)
    assert (path.read_bytes(), dict(renamed)) == (b"first", {})
    chunk_v2.write_file(path, draft, b"second", root=tmp_path, unseen=True)
    assert (path.read_bytes(), dict(renamed)) == (b"second", {str(path): 1})
    assert not draft.exists()
    with pytest.raises(FileNotFoundError):
        chunk_v2.write_file(
            tmp_path / "gone" / "0", draft, b"x", root=tmp_path / "gone", unseen=True
        )


@pytest.mark.posix
def test_a_writer_that_was_stopped_amid_a_chunk_does_not_write_into_what_replaced_it(
    tmp_path: Path, renamed: Counter[str]
) -> None:
    path, draft = tmp_path / "0" / "1", tmp_path / "draft"
    chunk_v2.write_file(path, draft, b"first", root=tmp_path, unseen=True)
    late = os.open(path, os.O_WRONLY)
    chunk_v2.write_file(path, draft, b"second", root=tmp_path, unseen=True)
    os.write(late, b"LATE")
    os.close(late)
    assert (path.read_bytes(), dict(renamed)) == (b"second", {str(path): 1})
