"""Running a graph: on threads that have ended, on the caller's scheduler, on a cluster."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import dask
import pytest
from clusters import cluster_in_process
from dask._task_spec import List, Task, TaskRef
from distributed import Client, Future, wait

from scout_dask_io.errors import ArgumentError
from scout_dask_io.run import cluster as cluster_run
from scout_dask_io.run import scheduler as execute
from scout_dask_io.run.cluster import active_client
from scout_dask_io.run.scheduler import ADD_THREAD, check_nb_workers, run_tasks, worker_count

N_UNITS = 7


def identity(value: int) -> int:
    return value


# Tasks of a cluster are pickled, so these stand in the module; its threads share them.
GO_ON = threading.Event()
BEGUN: list[int] = []


def first_fails(value: int) -> int:
    BEGUN.append(value)
    if len(BEGUN) == 1:
        raise ValueError("broken")
    GO_ON.wait(30)
    return value


def total(values: list[int]) -> int:
    return sum(values)


def make_graph(work: Any = identity) -> tuple[dict[Any, Any], set[Any]]:
    """Seven units that give 10, 11, ... and a final task that sums them."""
    keys = [("unit", k) for k in range(N_UNITS)]
    graph: dict[Any, Any] = {key: Task(key, work, 10 + key[1]) for key in keys}
    graph["final"] = Task("final", total, List(*map(TaskRef, keys)))
    return graph, set(keys)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with cluster_in_process(3) as found:
        yield found


class Calls:
    """A report that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []
        self.threads: set[int] = set()

    def __call__(self, done: int, n_units: int, nbytes: int) -> None:
        self.seen.append((done, n_units, nbytes))
        self.threads.add(threading.get_ident())


def check_calls(calls: Calls, *, already: int = 0) -> None:
    assert [c[0] for c in calls.seen] == list(range(already, already + N_UNITS + 1))
    assert {c[1] for c in calls.seen} == {already + N_UNITS}
    nbytes = [c[2] for c in calls.seen]
    assert nbytes == sorted(nbytes)
    assert nbytes[-1] == sum(10 + k for k in range(N_UNITS))
    assert calls.threads == {threading.get_ident()}


@pytest.mark.parametrize("scheduler", [None, "threads", "sync", "processes"])
def test_units_are_reported_one_by_one_on_local_schedulers(scheduler: str | None) -> None:
    graph, units = make_graph()
    calls = Calls()
    with dask.config.set(scheduler=scheduler):
        found = run_tasks(graph, "final", units, nb_workers=2, already=3, report=calls)
    assert found == sum(10 + k for k in range(N_UNITS))
    check_calls(calls, already=3)


def test_units_are_reported_one_by_one_on_a_cluster(client: Client) -> None:
    graph, units = make_graph()
    calls = Calls()
    with client.as_current():
        found = run_tasks(graph, "final", units, nb_workers=2, report=calls)
    assert found == sum(10 + k for k in range(N_UNITS))
    check_calls(calls)


def test_what_units_give_is_fetched_for_all_that_have_finished_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []
    gather = client.gather

    def counted(futures: Any) -> Any:
        fetched.append(len(futures))
        return gather(futures)

    def sleep_until_all_have_finished(_: float) -> None:
        wait([Future(key, client) for key in units])
        for _ in range(5):
            client.sync(asyncio.sleep, 0)  # the client's thread passes them on

    graph, units = make_graph()
    monkeypatch.setattr(client, "gather", counted)
    monkeypatch.setattr(cluster_run.time, "sleep", sleep_until_all_have_finished)
    calls = Calls()
    with client.as_current():
        run_tasks(graph, "final", units, nb_workers=2, report=calls)
    check_calls(calls)
    assert sum(fetched) == N_UNITS
    assert len(fetched) <= 3


def test_no_report_runs_all_the_same(client: Client) -> None:
    graph, units = make_graph()
    expected = sum(10 + k for k in range(N_UNITS))
    assert run_tasks(graph, "final", units, nb_workers=2) == expected
    with client.as_current():
        assert run_tasks(graph, "final", units, nb_workers=2) == expected


@pytest.mark.parametrize("nb_workers", [1, 2, 3])
def test_no_more_tasks_run_at_once_than_workers(nb_workers: int) -> None:
    running, most, begun, lock = 0, 0, 0, threading.Lock()
    meet = threading.Barrier(nb_workers)

    def work(value: int) -> int:
        nonlocal running, most, begun
        with lock:
            begun += 1
            is_early = begun <= nb_workers
            running += 1
            most = max(most, running)
        if is_early:
            meet.wait(30)  # all workers are inside at one time
        with lock:
            running -= 1
        return value

    graph, units = make_graph(work)
    run_tasks(graph, "final", units, nb_workers=nb_workers)
    assert most == nb_workers


def test_threads_are_added_while_tasks_wait_as_far_as_there_may_be_more() -> None:
    running, most, begun, lock = 0, 0, 0, threading.Lock()
    meet = threading.Barrier(3)

    def work(value: int) -> int:
        nonlocal running, most, begun
        with lock:
            begun += 1
            is_early = begun <= 3
            running += 1
            most = max(most, running)
        ADD_THREAD.get()()
        if is_early:
            meet.wait(30)
        with lock:
            running -= 1
        return value

    graph, units = make_graph(work)
    run_tasks(graph, "final", units, nb_workers=(1, 3))
    assert most == 3


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_running_tasks_have_ended_when_a_failure_is_raised(error: type[BaseException]) -> None:
    asked = threading.Event()
    meet = threading.Barrier(3)
    ended: list[int] = []

    def work(value: int) -> int:
        if meet.wait(30) == 0:
            raise error("broken")
        asked.wait(30)  # goes on until the failure is known
        ended.append(value)
        return value

    class Attempt:
        def cancel(self) -> None:
            asked.set()

        async def drain(self) -> None:
            raise AssertionError("there is no cluster")

    graph, units = make_graph(work)
    with pytest.raises(error, match="broken"):
        run_tasks(graph, "final", units, nb_workers=3, attempt=Attempt())
    assert asked.is_set()
    assert len(ended) == 2
    assert [t for t in threading.enumerate() if t.name.startswith("scout-dask-io")] == []


def test_a_report_that_raises_stops_the_run() -> None:
    def report(done: int, n_units: int, nbytes: int) -> None:
        if done == 2:
            raise RuntimeError("enough")

    graph, units = make_graph()
    with pytest.raises(RuntimeError, match="enough"):
        run_tasks(graph, "final", units, nb_workers=2, report=report)
    assert [t for t in threading.enumerate() if t.name.startswith("scout-dask-io")] == []


def test_a_failure_on_a_cluster_lets_the_other_tasks_go(client: Client) -> None:
    graph, units = make_graph(first_fails)
    with client.as_current(), pytest.raises(ValueError, match="broken") as caught:
        run_tasks(graph, "final", units, nb_workers=1, report=Calls())
    # The exception is alive, and its traceback the frames: the futures are not.
    assert caught.value.__traceback__ is not None
    client.sync(asyncio.sleep, 0)  # the client's thread does what it was told
    held = dict(client.futures)
    GO_ON.set()
    assert held == {}


@pytest.mark.parametrize("nb_workers", [None, 1, 17])
def test_check_nb_workers_gives_back_what_is_right(nb_workers: Any) -> None:
    assert check_nb_workers(nb_workers) == nb_workers


@pytest.mark.parametrize("nb_workers", [0, -1, True, False, 1.0, "2", [1]])
def test_check_nb_workers_refuses_the_rest(nb_workers: Any) -> None:
    with pytest.raises(ArgumentError, match="nb_workers"):
        check_nb_workers(nb_workers)
    with pytest.raises(ArgumentError, match="nb_workers"):
        worker_count(nb_workers)


def test_worker_count_follows_the_caller_then_dask_then_the_machine() -> None:
    assert worker_count(5) == 5
    with dask.config.set(num_workers=3):
        assert worker_count(None) == 3
    assert worker_count(None) == execute.CPU_COUNT


def test_a_cluster_counts_its_own_threads(client: Client) -> None:
    assert active_client() is None
    with client.as_current():
        assert active_client() is client
        assert worker_count(None) == 3
        with dask.config.set(scheduler="threads"):
            assert active_client() is None
    assert active_client() is None
