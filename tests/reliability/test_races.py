"""Several processes at one path: one winner, and readers see whole versions alone."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from harness import figure, litter, run, say, start
from helpers import make_volume

import scout_dask_io as io

SHAPE, CHUNKS = (6, 50, 51), (2, 16, 16)


def version(number: int) -> np.ndarray:
    return make_volume(SHAPE, seed=number)


def write(path: str, number: int, gate: str, overwrite: bool) -> str:
    data = version(number)
    say("ready")
    while not os.path.exists(gate):
        pass
    try:
        io.write_zarr(path, data, CHUNKS, overwrite=overwrite, nb_workers=1, max_mem="200MB")
    except io.ScoutIOError as err:
        return f"{type(err).__name__}: {err}"
    return "won"


def watch(path: str, gate: str, stop: str) -> dict[str, int]:
    """Read the array again and again; count what is seen."""
    whole = [version(k) for k in range(4)]
    seen: Counter[str] = Counter()
    say("ready")
    while not os.path.exists(stop):
        try:
            found = io.read_zarr(path).compute(scheduler="sync")
        except io.SourceChangedError:
            seen["changed"] += 1
        except io.PathNotFoundError:
            seen["absent"] += 1
        except io.ScoutIOError as err:
            seen[f"{type(err).__name__}: {err}"] += 1
        else:
            seen["whole" if any(np.array_equal(found, w) for w in whole) else "mixed"] += 1
    return seen


def race(folder: Path, overwrite: bool) -> tuple[list[str], Counter[str]]:
    folder.mkdir()
    path, gate, stop = folder / "a.zarr", folder / "gate", folder / "stop"
    if overwrite:
        io.write_zarr(path, version(0), CHUNKS, nb_workers=1)
    children = [start(write, str(path), k, str(gate), overwrite, seconds=60) for k in (1, 2, 3)]
    watcher = start(watch, str(path), str(gate), str(stop), seconds=60)
    for child in (*children, watcher):
        child.wait_for("ready")
    gate.touch()
    outcomes = [child.join() for child in children]
    stop.touch()
    seen = watcher.join()
    assert not seen.error, str(seen)
    assert not any(o.error for o in outcomes), [str(o) for o in outcomes]
    return [o.value for o in outcomes], Counter(seen.value)


rounds = pytest.mark.parametrize("n", [4, pytest.param(20, marks=pytest.mark.slow)])


@rounds
def test_row_14_of_three_processes_that_write_a_new_array_exactly_one_does(tmp_path: Path, n: int):
    seen: Counter[str] = Counter()
    for k in range(n):
        results, watched = race(tmp_path / f"{k}", overwrite=False)
        seen += watched
        assert results.count("won") == 1, results
        assert all(r == "won" or r.startswith("TargetExistsError") for r in results), results
        found = io.read_zarr(tmp_path / f"{k}" / "a.zarr").compute()
        assert np.array_equal(found, version(1 + results.index("won")))
        assert litter(tmp_path / f"{k}", "a.zarr") == []
    assert set(seen) <= {"absent", "whole"}, seen
    figure("races for a new array", rounds=n, winners=n, versions_never_whole=0)


@rounds
def test_row_14_of_three_processes_that_overwrite_an_array_the_last_stands_whole(
    tmp_path: Path, n: int
):
    seen: Counter[str] = Counter()
    for k in range(n):
        results, watched = race(tmp_path / f"{k}", overwrite=True)
        seen += watched
        assert "won" in results, results
        assert all(
            r == "won" or r.startswith(("TargetExistsError", "WriteError")) for r in results
        ), results
        found = io.read_zarr(tmp_path / f"{k}" / "a.zarr").compute()
        winners = [k + 1 for k, r in enumerate(results) if r == "won"]
        assert any(np.array_equal(found, version(w)) for w in winners), results
        assert litter(tmp_path / f"{k}", "a.zarr") == []
    # No reader found the name free, or chunks of two versions in one array.
    assert set(seen) <= {"whole", "changed"}, seen
    figure("races to overwrite", rounds=n, versions_never_whole=0)


@pytest.mark.posix  # in a child, where there are no forks
def test_row_16_a_fork_under_load_neither_hangs_nor_aborts():
    outcome = run(fork_under_load, seconds=300)
    assert not outcome.signal, str(outcome)
    assert outcome.value == [0] * 5, str(outcome)


def fork_under_load() -> list[int]:
    import tempfile
    import threading

    folder = tempfile.mkdtemp()
    io.write_zarr(f"{folder}/a.zarr", version(1), CHUNKS)
    stop = threading.Event()

    # Read without a graph: dask's locks, and Python 3.11's on cached properties,
    # may be held at the fork, and are not what is tested.
    array = io.read_zarr(f"{folder}/a.zarr")

    def load() -> None:
        while not stop.is_set():
            io.read_region(array, ...)

    # All is imported, for the same reason.
    io.read_region(array, ...)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    for k in range(5):
        time.sleep(0.02)
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            io.write_zarr(f"{folder}/{k}.zarr", version(2), CHUNKS)
            found = io.read_region(io.read_zarr(f"{folder}/{k}.zarr"), ...)
            same = np.array_equal(found, version(2))
            os._exit(0 if same else 1)
        codes.append(os.waitpid(pid, 0)[1])
    stop.set()
    for thread in threads:
        thread.join()
    return codes


def test_row_16_what_does_not_survive_a_fork_is_not_imported(tmp_path: Path):
    outcome = run(imported)
    assert outcome.value == [], str(outcome)


def imported() -> list[str]:
    import sys

    import scout_dask_io.cli  # noqa: F401

    return [m for m in ("tensorstore", "zarrs") if m in sys.modules]
