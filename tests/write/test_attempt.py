"""One run of a write: its tasks find one another, stop together, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.core.threads import WAITING
from scout_dask_io.write import attempt as module
from scout_dask_io.write.attempt import Attempt, Cancelled, Running, Turn


def test_tasks_of_an_attempt_share_memory_in_whatever_process_they_are() -> None:
    attempt = Attempt()
    with attempt.working() as one, pickle.loads(pickle.dumps(attempt)).working() as two:
        assert one is two
        with Attempt().working() as other:
            assert other.pool is not one.pool
    with attempt.working() as later:
        assert later is not one


def test_an_attempt_that_is_given_up_stops_its_tasks_and_refuses_late_ones() -> None:
    attempt = Attempt()
    with attempt.working() as running, Attempt().working() as other:
        attempt.cancel()
        assert running.cancelled
        assert not other.cancelled
    with pytest.raises(Cancelled), attempt.working():
        pass


class Step:
    """A task on a thread, which is let through its turn step by step."""

    def __init__(
        self, running: Running, n: int, order: list[str], name: str, n_begun: int = 0
    ) -> None:
        self.begun, self.may_wait, self.may_return = (threading.Event() for _ in range(3))
        self.cancelled = False
        self._say = lambda text: order.append(f"{name} {text}")
        self._turn = Turn(running, n, n_begun)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with self._turn:
                self._say("begins")
                self.begun.set()
                self.may_wait.wait(10)
                with WAITING.get()():
                    self.may_return.wait(10)
                self._say("is back")
        except Cancelled:
            self.cancelled = True


def test_a_task_that_waits_for_a_disk_lets_another_work_and_comes_back_before_a_new_one() -> None:
    running, order = Running(), list[str]()
    first = Step(running, 1, order, "first")
    assert first.begun.wait(10)
    second = Step(running, 1, order, "second")
    assert not second.begun.wait(0.01)
    first.may_wait.set()
    assert second.begun.wait(10)
    third = Step(running, 1, order, "third")
    first.may_return.set()
    # Nobody is told of it: who waits for its turn asks for nothing.
    with running.slots.changed:
        while not running.slots.n_back:
            running.slots.changed.wait(0.001)
    for event in (second.may_wait, third.may_wait):
        event.set()
    first.thread.join(10)
    for each in (second, third):
        each.may_return.set()
        each.thread.join(10)
    assert order[:3] == ["first begins", "second begins", "first is back"]
    assert set(order[3:]) == {"second is back", "third begins", "third is back"}
    assert running.slots.n == running.slots.n_back == 0


def test_no_more_tasks_begin_while_others_wait_than_there_is_memory_for() -> None:
    running, order = Running(), list[str]()
    first = Step(running, 1, order, "first", n_begun=2)
    assert first.begun.wait(10)
    first.may_wait.set()
    second = Step(running, 1, order, "second", n_begun=2)
    assert second.begun.wait(10)
    second.may_wait.set()
    # Both wait and hold a band each: nobody works, and the third does not begin.
    third = Step(running, 1, order, "third", n_begun=2)
    with running.slots.changed:
        while running.slots.n:
            running.slots.changed.wait(0.001)
    assert not third.begun.wait(0.01)
    first.may_return.set()
    assert third.begun.wait(10)
    for each in (second, third):
        each.may_wait.set()
        each.may_return.set()
    for each in (first, second, third):
        each.thread.join(10)
    assert running.slots.n == running.slots.n_back == running.slots.n_begun == 0


def test_tasks_that_wait_for_their_turn_end_with_their_attempt() -> None:
    attempt, order = Attempt(), list[str]()
    with attempt.working() as running:
        first = Step(running, 1, order, "first")
        assert first.begun.wait(10)
        second = Step(running, 1, order, "second")
        attempt.cancel()
        second.thread.join(10)
        first.may_wait.set()
        first.may_return.set()
        first.thread.join(10)
    assert (first.cancelled, second.cancelled) == (True, True)
    assert order == ["first begins"]


def test_whoever_drains_waits_for_the_last_task() -> None:
    attempt, ended = Attempt(), threading.Event()
    begun = threading.Event()

    def work() -> None:
        with attempt.working() as running:
            begun.set()
            while not running.cancelled:
                pass
            ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait(10)
    asyncio.run(attempt.drain())
    assert ended.is_set()
    thread.join()


def test_a_process_keeps_nothing_of_attempts_that_have_ended(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", make_volume((9, 20, 21)), 8)
    assert module._running == {}
    for _ in range(module.N_GIVEN_UP + 50):
        attempt = Attempt()
        with attempt.working():
            attempt.cancel()
    assert module._running == {}
    assert len(module._given_up) == module.N_GIVEN_UP
    # The newest are those of which a task may still come.
    with pytest.raises(Cancelled), attempt.working():
        pass


def test_a_fork_in_the_middle_of_tasks_can_write(tmp_path: Path) -> None:
    attempt = Attempt()
    with attempt.working(), module._lock:
        child = os.fork()
        if not child:
            signal.alarm(60)
            status = 1
            try:
                asyncio.run(attempt.drain())  # the task is not the child's
                with Attempt().working() as running:
                    status = int(running.n_tasks != 1)
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0


def test_a_failed_write_leaves_memory_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scout_dask_io.store import local_transaction

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local_transaction, "write_file", full)
    with pytest.raises(io.WriteError, match="No space"):
        io.write_zarr(tmp_path / "a.zarr", np.ones((9, 20, 21), "u2"), 8)
    assert module._running == {}
