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
from scout_dask_io.write import attempt as module
from scout_dask_io.write.attempt import Attempt, Cancelled


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
