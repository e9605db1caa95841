"""Locations: the same questions of a disk and of a store, names that are never patterns."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import fsspec
import pytest
from object_store import Lab, Memory

from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    LayoutError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location, as_local, as_remote, locate
from scout_dask_io.files.remote import RemoteLocation

ODD = ["a", "a*", "a?", "a[b]", "ab", "*"]


@pytest.fixture(params=["disk", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """Give an empty folder on each kind of storage."""
    if request.param == "disk":
        return locate(tmp_path)
    if request.param == "memory":
        made: Memory = request.getfixturevalue("memory")
        return locate(made.url)
    lab: Lab = request.getfixturevalue("lab")
    return locate(lab.url, lab.options)


def put(place: Location, *names: str) -> None:
    for name in names:
        path = place / name
        if place.on_disk:
            as_local(path).parent.mkdir(parents=True, exist_ok=True)
        path.write(name.encode())


def test_what_is_written_is_read_whole_in_part_and_many_at_once(place: Location):
    put(place, "a", "below/b")
    assert (place / "a").read() == b"a"
    assert (place / "below" / "b").read(3) == b"bel"
    assert (place / "none").read() is None
    found = place.read_many(["a", "none", "below/b"])
    assert found == {"a": b"a", "none": None, "below/b": b"below/b"}


def test_files_come_in_the_order_asked_for_and_what_is_too_large_is_an_error(place: Location):
    put(place, "a", "long-name", "c")
    found = [
        (
            name,
            None if data is None or isinstance(data, ChunkReadError) else bytes(data),
            type(data),
        )
        for name, data in place.iter_files(["c", "none", "long-name", "a"], 4)
    ]
    assert [(name, data) for name, data, _ in found] == [
        ("c", b"c"), ("none", None), ("long-name", None), ("a", b"a"),
    ]  # fmt: skip
    assert [issubclass(kind, ChunkReadError) for _, _, kind in found] == [False, False, True, False]


class Answers:
    """A store whose answers come when they are let; the second does when the third is asked for."""

    at_once = 3

    def __init__(self) -> None:
        self.asked: dict[str, Future[Any]] = {}

    def key_of(self, url: str) -> str:
        return url

    def begin(self, key: str, start: int, stop: int) -> Future[Any]:
        name = key.rpartition("/")[2]
        self.asked[name] = Future()
        if name == "c":
            self.come("b")
        return self.asked[name]

    def come(self, name: str) -> None:
        self.asked[name].set_result((name.encode(), None))


def test_files_of_a_store_come_as_they_are_answered_where_the_order_is_of_no_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = Answers()
    monkeypatch.setattr(RemoteLocation, "client", answers)
    files = locate("s3://lab").iter_files(iter("abcde"), 4, in_order=False)
    assert next(files) == ("b", b"b")
    answers.come("c")
    assert next(files) == ("c", b"c")
    assert list(answers.asked) == list("abcd")  # three at once, and the next for one that has come
    answers.come("d")
    assert next(files) == ("d", b"d")
    answers.come("a")
    assert next(files) == ("a", b"a")
    answers.come("e")
    assert list(files) == [("e", b"e")]


def test_an_empty_file_is_no_missing_one(place: Location):
    (place / "empty").write(b"")
    assert (place / "empty").read() == b""
    assert (place / "empty").read(10) == b""
    assert place.read_many(["empty", "none"], 10) == {"empty": b"", "none": None}
    ((_, data),) = place.iter_files(["empty"], 10)
    assert isinstance(data, (bytes, memoryview))
    assert len(data) == 0


def test_removing_takes_names_for_names_and_not_for_patterns(place: Location):
    put(place, *ODD)
    place.remove(["a*", "[a]", "*"])
    assert sorted(name for name, _ in place.find()) == ["a", "a?", "a[b]", "ab"]


def test_removing_what_is_not_there_leaves_nothing_else_standing(place: Location):
    put(place, "a", "b", "c")
    place.remove(["a", "none", "b"])
    assert [name for name, _ in place.find()] == ["c"]
    (place / "none").remove()


def test_writing_new_refuses_what_is_there(place: Location):
    put(place, "a")
    with pytest.raises(TargetExistsError):
        (place / "a").write(b"other", new=True)
    assert (place / "a").read() == b"a"
    (place / "b").write(b"b", new=True)
    assert (place / "b").read() == b"b"


def test_children_and_entries_tell_folders_from_files(place: Location):
    put(place, "b", "a/x", "a/y")
    assert [(child.name, folder) for child, folder in place.entries()] == [
        ("a", True), ("b", False),
    ]  # fmt: skip
    assert [child.name for child in place.children()] == ["a", "b"]
    assert dict(place.find()) == {"a/x": 3, "a/y": 3, "b": 1}
    assert list((place / "none").children()) == []


def test_locations_are_values_that_travel(place: Location):
    again = pickle.loads(pickle.dumps(place / "a"))
    assert again == place / "a"
    assert again.parent == place
    assert repr(again) == repr(str(again))
    assert (place / "a" / "b").lies_in(place)
    assert not place.lies_in(place / "a")


def test_a_stated_name_that_leads_out_is_nothing(place: Location):
    assert place.below("a/b") == place / "a/b"
    assert place.below("../b") is None
    assert place.below("a/../../b") is None


def test_a_file_that_is_replaced_has_another_identity(place: Location):
    put(place, "a")
    before = (place / "a").identity()
    (place / "a").write(b"another")
    assert before is not None
    assert (place / "a").identity() != before
    assert (place / "none").identity() is None


def test_on_a_disk_nothing_but_regular_files_is_read(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("fifo", "link", "."):
        with pytest.raises(LayoutError, match="expected a regular file"):
            LocalLocation(tmp_path / name).read()


def test_a_write_that_fails_leaves_what_stood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = LocalLocation(tmp_path / "a")
    path.write(b"old")
    path.chmod(0o640)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            path.write(b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read() == b"old"
    path.write(b"new")
    assert path.read() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_disk_is_told_from_a_store_by_name(tmp_path: Path):
    assert as_local(locate(tmp_path)) == tmp_path
    with pytest.raises(ArgumentError, match="is a URL"):
        as_local(locate("memory://x"))
    with pytest.raises(ArgumentError, match="local path, expected a URL"):
        as_remote(locate(tmp_path))


def test_names_with_signs_of_patterns_overwrite_their_own_array_alone(memory: Memory):
    import numpy as np

    import scout_dask_io as io

    above = memory.url.rpartition("/")[0]
    data = np.arange(64, dtype="u2").reshape(4, 4, 4)
    for name in ("a1", "a2", "a*", "a?", "a[1]"):
        io.write_zarr(f"{above}/{name}", data, (2, 2, 2))
    fs = fsspec.filesystem("memory")
    before = {k for k in fs.find(memory.key.rpartition("/")[0]) if "/a*/" not in k}
    io.write_zarr(f"{above}/a*", data + 1, (2, 2, 2), overwrite=True)
    after = set(fs.find(memory.key.rpartition("/")[0]))
    assert before <= after
    for name in ("a1", "a2", "a?", "a[1]"):
        assert (io.read_zarr(f"{above}/{name}").compute() == data).all()
    assert (io.read_zarr(f"{above}/a*").compute() == data + 1).all()


def test_one_that_cannot_be_removed_keeps_no_other(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = locate(memory.url)
    put(place, "a", "b", "c")
    real = memory.fs.rm_file

    def refusing(key: str) -> None:
        if key.endswith("/a"):
            raise PermissionError(key)
        real(key)

    monkeypatch.setattr(type(memory.fs), "rm_file", staticmethod(refusing))
    with pytest.raises(WriteError, match="PermissionError"):
        place.remove(["a", "b", "c"])
    assert memory.names() == ["a"]
