"""Pools of processes: what a parent computed before never makes its children wait for ever.

Forked children inherit a parent's memory without its threads. Each scenario is a program of
its own, ended with all its processes where it takes too long.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import figure, python
from object_store import options

import scout_dask_io
import scout_dask_io as io
from run.fork_scenarios import CHUNKS, ROUND_S, same, volume

HERE = Path(__file__).resolve().parent
#: Where the modules of the tests are found.
ABOVE = HERE.parent
UNDER_LOAD = (
    "planes",
    "slabs",
    "inherited_slabs",
    "progress",
    "nested",
    "convert",
    "plain",
    "everything",
)
#: What does the most of them, in the everyday run.
EVERYDAY = ("slabs", "nested", "everything")


def ended(*args: str, cwd: Path, seconds: float) -> tuple[int, str, str]:
    """Run this Python, and end it with all its children when it is done or time is up.

    Gives the exit code, that of a signal where time was up, and what it printed.
    """
    root = str(Path(scout_dask_io.__file__).parent.parent)
    paths = [root, str(HERE), str(ABOVE), *filter(None, [os.environ.get("PYTHONPATH")])]
    with (cwd / "printed").open("w+") as printed, (cwd / "errors").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *args],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=printed,
            stderr=errors,
            start_new_session=True,
        )
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        finally:
            with suppress(ProcessLookupError):  # all have ended
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        printed.seek(0)
        errors.seek(0)
        return code, printed.read(), errors.read()


def check(scenario: str, method: str, rounds: int, folder: Path) -> None:
    code, printed, errors = ended(
        str(HERE / "fork_scenarios.py"),
        *(scenario, method, str(rounds), str(folder)),
        cwd=folder,
        seconds=60 + rounds * ROUND_S,
    )
    assert code == 0, f"exit code {code}\n{errors[-20000:]}"
    counts = json.loads(printed)
    figure(f"pools by {method}", rounds=rounds, wrong=counts["wrong"], hung=counts["hung"])
    assert counts == {"right": rounds, "wrong": 0, "hung": 0}, errors[-20000:]


def test_forks_are_guarded_from_the_first_array_on_and_not_before():
    code = (
        # The libraries come first: some register what they do themselves.
        "import os, dask.array, tifffile, zarr, zarr.storage, scout_dask_io as io\n"
        "calls = []\n"
        "os.register_at_fork = lambda **hooks: calls.append(hooks)\n"
        "for name in io.__all__: getattr(io, name)\n"
        "print(len(calls))\n"
        "io.new_zarr(None, (4, 4), (2, 2), 'u2', in_memory=True)\n"
        "begun = len(calls)\n"
        "io.new_zarr(None, (4, 4), (2, 2), 'u2', in_memory=True)\n"
        "print(begun > 0, len(calls) == begun)\n"
    )
    assert python("-c", code).split() == ["0", "True", "True"]


@pytest.mark.parametrize("scenario", EVERYDAY)
def test_forked_children_work_while_the_parent_computes(scenario: str, tmp_path: Path):
    check(scenario, "fork", 2, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenario", UNDER_LOAD)
def test_forked_children_work_many_times_while_the_parent_computes(scenario: str, tmp_path: Path):
    # Fifty take a minute a scenario; what CI runs for every change is a fifth of it.
    check(scenario, "fork", 10 if os.environ.get("CI") else 50, tmp_path)


@pytest.mark.parametrize("scenario", ["late", "own_pool", "own_scheduler"])
def test_forked_children_use_no_threads_of_the_parent(scenario: str, tmp_path: Path):
    check(scenario, "fork", 2, tmp_path)


def test_forked_children_take_locks_that_other_threads_of_the_parent_hold(tmp_path: Path):
    check("held", "fork", 2, tmp_path)


def test_a_fork_amid_an_import_of_another_thread_waits_for_it(tmp_path: Path):
    check("first", "fork", 1, tmp_path)


@pytest.mark.cluster
def test_forked_children_of_a_client_compute_by_themselves(tmp_path: Path):
    check("cluster", "fork", 2, tmp_path)


@pytest.mark.parametrize(
    ("method", "scenario"),
    [
        ("threads", "everything"),
        ("forkserver", "slabs"),
        *(
            pytest.param(method, scenario, marks=pytest.mark.slow)
            for method in ("spawn", "forkserver", "threads", "loky")
            for scenario in ("slabs", "everything")
            if (method, scenario) not in {("threads", "everything"), ("forkserver", "slabs")}
        ),
    ],
)
def test_other_pools_work_while_the_parent_computes(method: str, scenario: str, tmp_path: Path):
    if method == "loky":
        pytest.importorskip("joblib")
    check(scenario, method, 1, tmp_path)


inherited: dict[str, Any] = {}


def test_forked_children_reach_object_stores_by_connections_of_their_own(
    s3_address: str, bucket: str
):
    reach = {"storage_options": options(s3_address)}
    io.write_zarr(f"s3://{bucket}/a.zarr", volume(), CHUNKS, **reach)
    inherited["lazy"] = io.read_zarr(f"s3://{bucket}/a.zarr", **reach)
    inherited["open"] = io.open(f"s3://{bucket}/a.zarr", mode="r", **reach)
    assert same(inherited["lazy"].compute(), inherited["open"][:])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(_read_and_write_there, (f"s3://{bucket}/b.zarr", reach)).get(60)
    assert all(same(each, volume()) for each in found)
    assert same(io.read_zarr(f"s3://{bucket}/b.zarr", **reach).compute(), volume() + 1)
    assert same(inherited["lazy"].compute(), inherited["open"][:])


def _read_and_write_there(url: str, reach: dict[str, Any]) -> list[np.ndarray]:
    io.write_zarr(url, inherited["lazy"] + 1, CHUNKS, **reach)
    return [inherited["lazy"].compute(), inherited["open"][:]]


def test_spawning_without_a_main_guard_ends_with_the_advice_of_python(tmp_path: Path):
    (tmp_path / "script.py").write_text(
        "import multiprocessing, os\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "import numpy as np\n"
        "import scout_dask_io as io\n"
        "print('begins', flush=True)\n"
        "data = np.arange(60, dtype='u2').reshape(3, 4, 5)\n"
        "io.write_zarr(f'{os.getpid()}.zarr', data, (2, 2, 2))\n"
        "context = multiprocessing.get_context('spawn')\n"
        "with ProcessPoolExecutor(2, mp_context=context) as pool:\n"
        "    print(list(pool.map(abs, [1, 2])))\n"
    )
    code, printed, errors = ended("script.py", cwd=tmp_path, seconds=120)
    assert code == 1, f"exit code {code}\n{errors}"
    assert "bootstrapping phase" in errors
    assert "BrokenProcessPool" in errors
    # The script itself, and its two processes once each.
    assert printed.count("begins") <= 3


def test_a_package_that_a_parent_was_importing_is_imported_whole_by_its_child(tmp_path: Path):
    # Its submodule is there before the fork, and would not be known to the package.
    (tmp_path / "numcodecs").mkdir()
    (tmp_path / "numcodecs" / "errors.py").write_text("")
    (tmp_path / "numcodecs" / "__init__.py").write_text(
        "import os, amid\n"
        "import numcodecs.errors\n"
        "if os.getpid() == amid.parent:\n"
        "    amid.begun.set()\n"
        "    amid.forked.wait()\n"
    )
    (tmp_path / "amid.py").write_text(
        "import os, threading\n"
        "parent, begun, forked = os.getpid(), threading.Event(), threading.Event()\n"
    )
    (tmp_path / "script.py").write_text(
        "import importlib, os, threading\n"
        "import amid\n"
        "from scout_dask_io.core import fork\n"
        "fork.IMPORTS_S = 0.01\n"
        "fork.guard_forks()\n"
        "thread = threading.Thread(target=importlib.import_module, args=['numcodecs'])\n"
        "thread.start()\n"
        "amid.begun.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    import numcodecs\n"
        "    os._exit(0 if numcodecs.errors else 1)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "amid.forked.set()\n"
        "thread.join()\n"
        "raise SystemExit(code)\n"
    )
    code, _, errors = ended("script.py", cwd=tmp_path, seconds=60)
    assert code == 0, errors
