"""Chunks on their way to a store: how many at once, what is noted when, what a failure leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dask
import dask.array as da
import numpy as np
import pytest
from object_store import Lab, Memory

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, TargetExistsError, WriteError
from scout_dask_io.files.location import locate
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.store.transaction import Transaction
from scout_dask_io.write.attempt import Cancelled, Running
from scout_dask_io.write.uploads import (
    ON_THE_WAY_NBYTES,
    SETTING,
    DirectUploads,
    UploadLimit,
    WindowedUploads,
    upload_limit,
)


class Store:
    """Takes chunks when it is let, and notes what it has and how many were under way."""

    def __init__(self, fails: str = "") -> None:
        self.open, self.lock = threading.Event(), threading.Lock()
        self.taken: dict[str, bytes] = {}
        self.fails, self.n, self.most, self.nbytes, self.most_nbytes = fails, 0, 0, 0, 0

    def put(self, level: int | None, key: str, data: bytes) -> None:
        with self.lock:
            self.n, self.nbytes = self.n + 1, self.nbytes + len(data)
            self.most, self.most_nbytes = max(self.most, self.n), max(self.most_nbytes, self.nbytes)
        self.open.wait(10)
        with self.lock:
            self.n, self.nbytes = self.n - 1, self.nbytes - len(data)
            if key == self.fails:
                raise WriteError(f"{key} on purpose")
            self.taken[key] = data

    def remove(self, level: int | None, key: str) -> None:
        raise NotImplementedError


def windowed(store: Store, n: int, nbytes: int, running: Running | None = None) -> WindowedUploads:
    limit = UploadLimit(n, nbytes, 2, 2)
    return WindowedUploads(cast(Transaction, store), limit, running or Running())


@pytest.mark.parametrize(
    ("n", "nbytes", "most"),
    [(3, 10**6, 3), (8, 250, 2), (8, 0, 1), (1, 10**6, 1)],
    ids=["by number", "by bytes", "one always", "one"],
)
def test_a_window_is_bounded_in_number_and_in_bytes(n: int, nbytes: int, most: int) -> None:
    store = Store()
    uploads = windowed(store, n, nbytes)
    data = bytearray(b"x" * 100)

    def puts() -> None:
        for k in range(12):
            data[0] = k
            uploads.put(None, str(k), data)

    thread = threading.Thread(target=puts)
    thread.start()
    while store.n < most:
        thread.join(0.001)
    store.open.set()
    thread.join(10)
    uploads.confirm()
    assert store.most == most
    assert store.most_nbytes <= max(nbytes, 100)
    # Each as it was when it was handed over, though its memory was used again.
    assert [store.taken[str(k)][0] for k in range(12)] == list(range(12))
    uploads.close()


def test_a_put_that_fails_surfaces_in_its_unit_and_in_no_other() -> None:
    running = Running()
    bad, good = Store(fails="1"), Store()
    mine, other = windowed(bad, 8, 10**6, running), windowed(good, 8, 10**6, running)
    for k in range(3):
        mine.put(None, str(k), b"a")
        other.put(None, str(k), b"a")
    bad.open.set()
    with pytest.raises(WriteError, match="1 on purpose"):
        mine.confirm()
    with pytest.raises(WriteError, match="1 on purpose"):
        mine.put(None, "9", b"a")
    mine.close()
    good.open.set()
    other.confirm()
    assert set(good.taken) == {"0", "1", "2"}
    assert (running.window.n, running.window.nbytes) == (0, 0)


def test_a_unit_that_is_given_up_waits_for_what_is_under_way() -> None:
    running, store = Running(), Store()
    uploads = windowed(store, 2, 10**6, running)
    uploads.put(None, "0", b"a")
    uploads.put(None, "1", b"a")
    running.cancelled = True
    with pytest.raises(Cancelled):
        uploads.put(None, "2", b"a")
    threading.Timer(0.01, store.open.set).start()
    uploads.close()
    assert store.n == 0
    assert running.window.n == 0
    assert set(store.taken) <= {"0", "1"}


def test_no_chunk_is_sent_before_the_answer_that_it_is_held_for() -> None:
    store, asked = Store(), threading.Event()
    store.open.set()
    uploads = windowed(store, 4, 10**6)
    uploads.hold(uploads.ask(lambda: asked.wait(10) and None))
    uploads.put(None, "0", b"a")
    assert store.taken == {}
    asked.set()
    uploads.confirm()
    assert set(store.taken) == {"0"}

    def gone() -> None:
        raise WriteError("gone")

    uploads.hold(uploads.ask(gone))
    with pytest.raises(WriteError, match="gone"):  # though nothing is put
        uploads.confirm()
    uploads.put(None, "1", b"a")
    with pytest.raises(WriteError, match="gone"):
        uploads.confirm()
    assert set(store.taken) == {"0"}
    uploads.close()


def test_what_is_asked_beside_the_chunks_raises_where_it_is_waited_for() -> None:
    def gone() -> None:
        raise WriteError("gone")

    answer = windowed(Store(), 2, 10).ask(gone)
    with pytest.raises(WriteError, match="gone"):
        answer()
    with pytest.raises(WriteError, match="gone"):
        DirectUploads(cast(Transaction, Store())).ask(gone)


def plan_of(max_mem: int, projected: int) -> Any:
    return SimpleNamespace(max_mem=max_mem, projected_mem=projected, nb_workers=3)


@pytest.mark.parametrize("n", [0, -3, True, "many", 2.5])
def test_a_window_of_no_number_is_refused_before_anything_is_written(n: Any) -> None:
    store = Memory()
    with dask.config.set({SETTING: n}), pytest.raises(ArgumentError, match=SETTING):
        io.write_zarr(store.url, np.ones((4, 5, 6), "u2"), (2, 3, 4))
    assert store.names() == []


def test_the_window_is_what_the_plan_leaves_of_max_mem_and_only_where_threads_may_ask(
    lab: Lab, tmp_path: Path
) -> None:
    there = locate(lab.url, lab.options)
    assert upload_limit(there, plan_of(100, 60)) == UploadLimit(64, 40, 3, 3)
    assert upload_limit(there, plan_of(60, 60)) == UploadLimit(64, 0, 3, 3)
    with dask.config.set({SETTING: 5}):
        assert upload_limit(there, plan_of(100, 60)) == UploadLimit(5, 40, 3, 3)
    with dask.config.set({SETTING: 1}):
        assert upload_limit(there, plan_of(100, 60)) is None
    assert upload_limit(locate(Memory().url), plan_of(100, 60)) is None
    on_disk = upload_limit(locate(tmp_path / "a.zarr"), plan_of(100, 60))
    assert on_disk == UploadLimit(16, 40, 3, 3, on_disk=True)
    # What is left beyond is for bands of tasks that wait for what they read.
    with_room = upload_limit(there, plan_of(60 + ON_THE_WAY_NBYTES + 45, 60))
    assert with_room == UploadLimit(64, ON_THE_WAY_NBYTES, 3, 5)
    assert upload_limit(there, plan_of(10**12, 60)) == UploadLimit(64, ON_THE_WAY_NBYTES, 3, 16)


@pytest.mark.parametrize("ome", [False, True], ids=["array", "image"])
def test_a_put_that_fails_in_flight_never_leaves_its_unit_noted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, ome: bool
) -> None:
    write, log = RemoteLocation.write, list[str]()
    failing = {"0/1/1/1" if ome else "1/1/1"}

    def noted(place: RemoteLocation, data: bytes, **more: Any) -> None:
        name = place.url.removeprefix(f"{lab.url}/")
        if name in failing:
            raise WriteError(f"{place}: on purpose")
        write(place, data, **more)
        log.append(name)

    monkeypatch.setattr(RemoteLocation, "write", noted)
    data = np.arange(1, 1 + 8 * 12 * 16, dtype="u2").reshape(8, 12, 16)
    call: Any = io.write_ome_zarr if ome else io.write_zarr
    settings: dict[str, Any] = {"chunks": (4, 6, 8), "storage_options": lab.options}
    with pytest.raises(WriteError, match="on purpose"):
        call(lab.url, data, **settings, nb_workers=1)
    # One that was noted without it would not be written again, and read as zeros there.
    failing.clear()
    call(lab.url, data, **settings, nb_workers=1, resume=True)
    assert (io.read_zarr(lab.url, storage_options=lab.options).compute() == data).all()
    chunks = [name for name in log if name.replace("/", "").isdigit()]
    # What is noted comes after what it speaks of: the last chunk before the last note.
    assert log.index(chunks[-1]) < max(k for k, n in enumerate(log) if ".scout-journal" in n)


#: Has a function called before each object is put; gives their names as they are put.
Writes = Callable[[Callable[[str], None]], list[str]]


@pytest.fixture
def writes(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Writes:
    """Have a function called before each object is put; gives the names as they are put."""
    pytest.importorskip("obstore")  # which many threads may ask at once
    write = RemoteLocation.write

    def before(call: Callable[[str], None]) -> list[str]:
        log: list[str] = []

        def noted(place: RemoteLocation, data: bytes, **more: Any) -> None:
            name = place.url.removeprefix(f"{lab.url}/")
            call(name)
            write(place, data, **more)
            log.append(name)

        monkeypatch.setattr(RemoteLocation, "write", noted)
        return log

    return before


DATA = np.arange(1, 1 + 8 * 12 * 16, dtype="u2").reshape(8, 12, 16)
MARKER = ".scout-unfinished"


@pytest.mark.parametrize("ome", [False, True], ids=["array", "image"])
def test_a_write_begins_while_its_first_unit_is_read(lab: Lab, writes: Writes, ome: bool) -> None:
    read = threading.Event()

    def block() -> np.ndarray:
        read.set()
        return DATA

    def wait(name: str) -> None:
        assert name != MARKER or read.wait(30), "nothing is read before the write has begun"

    log = writes(wait)
    data = da.from_delayed(dask.delayed(block)(), DATA.shape, DATA.dtype)
    call: Any = io.write_ome_zarr if ome else io.write_zarr
    axes = {"axes": "zyx"} if ome else {}
    call(lab.url, data, (8, 12, 16), storage_options=lab.options, **axes)
    assert log[0] == MARKER
    assert (io.read_zarr(lab.url, storage_options=lab.options).compute() == DATA).all()


def test_a_write_that_cannot_begin_puts_nothing(lab: Lab, writes: Writes) -> None:
    def fail(name: str) -> None:
        if name == MARKER:
            raise WriteError("the store is full, on purpose")

    log = writes(fail)
    with pytest.raises(WriteError, match="on purpose") as caught:
        io.write_zarr(lab.url, DATA, (4, 6, 8), storage_options=lab.options)
    assert (log, lab.names()) == ([], [])
    assert not hasattr(caught.value, "__notes__")


def test_who_comes_second_to_a_free_place_is_refused_and_changes_nothing(
    lab: Lab, writes: Writes
) -> None:
    def come_first(name: str) -> None:
        if name == MARKER:
            lab.put(f"deep/a.zarr/{MARKER}", b"{}")

    log = writes(come_first)
    with pytest.raises(TargetExistsError, match=MARKER):
        io.write_zarr(lab.url, DATA, (4, 6, 8), storage_options=lab.options)
    assert (log, lab.names()) == ([], [MARKER])
