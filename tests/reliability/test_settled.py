"""What may happen seldom: resumes at the same moment, workers that die all the time, little memory,
and stores that are less than S3. And what nobody may read: keys and passwords.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from clusters import cluster, in_background
from harness import MiB, _status, figure, litter, run, say, start
from helpers import make_volume
from object_store import Lab, faulty_proxy

import scout_dask_io as io
from scout_dask_io.files.location import locate
from scout_dask_io.store.local_transaction import LocalTransaction

SHAPE, CHUNKS = (12, 50, 51), (2, 16, 16)
VOLUME = make_volume(SHAPE, seed=28)


def killed_after(path: str, n: int) -> None:
    """Write, and be killed when so many units are finished."""
    finish, noted, one = LocalTransaction.finish_unit, [0], threading.Lock()

    def finish_or_die(self: Any, *args: Any, **kwargs: Any) -> None:
        with one:
            finish(self, *args, **kwargs)
            noted[0] += 1
            if noted[0] == n:
                os.kill(os.getpid(), signal.SIGKILL)

    LocalTransaction.finish_unit = finish_or_die  # type: ignore[method-assign]
    io.write_zarr(path, da.from_array(VOLUME, chunks=CHUNKS), CHUNKS, max_mem="200MB")


def resume(path: str, gate: str) -> str:
    data = da.from_array(VOLUME, chunks=CHUNKS)
    say("ready")
    while not os.path.exists(gate):
        pass
    try:
        io.write_zarr(path, data, CHUNKS, max_mem="200MB", resume=True)
    except io.ScoutIOError as err:
        return f"{type(err).__name__}: {err}"
    return "done"


@pytest.mark.parametrize("n", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_row_28_of_two_resumes_at_the_same_moment_the_array_is_whole(
    tmp_path: Path, n: int
) -> None:
    refused = 0
    for k in range(n):
        folder = tmp_path / str(k)
        folder.mkdir()
        path, gate = folder / "a.zarr", folder / "gate"
        assert run(killed_after, str(path), 3 + k % 7, seconds=90).signal == signal.SIGKILL
        assert not path.exists()
        children = [start(resume, str(path), str(gate), seconds=90) for _ in range(2)]
        for child in children:
            child.wait_for("ready")
        gate.touch()
        outcomes = [child.join() for child in children]
        assert not any(o.error or o.signal for o in outcomes), [str(o) for o in outcomes]
        assert "done" in [o.value for o in outcomes]
        refused += sum(o.value != "done" for o in outcomes)
        np.testing.assert_array_equal(io.read_zarr(path).compute(scheduler="sync"), VOLUME)
        assert io.verify(path, deep=True).ok
        assert litter(folder, "a.zarr") == []
    figure("two resumes at once", tried=n, refused_readably=refused, wrong=0)


def slow_plane(k: int) -> np.ndarray:
    time.sleep(0.4)
    return VOLUME[2 * k : 2 * k + 2]


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(900)
def test_row_28_workers_that_are_killed_every_two_seconds_end_in_a_whole_array(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.zarr"
    parts = [
        da.from_delayed(dask.delayed(slow_plane, pure=True)(k), (2, *SHAPE[1:]), "u2")
        for k in range(SHAPE[0] // 2)
    ]
    array, killed, writes, done = da.concatenate(parts), 0, 0, False
    with cluster(2, **{"distributed.scheduler.allowed-failures": 1}) as client:
        while not done:
            writes += 1
            assert writes < 40
            write = in_background(
                lambda: io.write_zarr(path, array, CHUNKS, max_mem="1GB", resume=True)
            )
            began = time.monotonic()
            while not write.done():
                if time.monotonic() - began > 2:
                    pids = [w["pid"] for w in _workers(client)]
                    if pids:
                        os.kill(pids[0], signal.SIGKILL)
                        killed += 1
                    began = time.monotonic()
                time.sleep(0.05)
            error = write.exception()
            assert error is None or isinstance(error, io.ScoutIOError), error
            assert error is None or not path.exists()
            done = error is None
    np.testing.assert_array_equal(io.read_zarr(path).compute(), VOLUME)
    assert io.verify(path, deep=True).ok
    assert litter(tmp_path, "a.zarr") == []
    figure("workers killed every 2 s", killed=killed, writes=writes, wrong=0)


def _workers(client: Any) -> list[dict[str, Any]]:
    found = []
    for address, pid in client.run(os.getpid, on_error="ignore").items():
        found.append({"address": address, "pid": pid})
    return found


def write_within(path: str, factor: float, growth: int) -> tuple[str, int]:
    """Write in so many times the address space that the write needs; give how it took."""
    import resource

    io.write_zarr(f"{path}.first", VOLUME, CHUNKS)  # what is imported and begun comes before
    before = _status("VmSize")
    if factor:
        most = before + int(factor * growth)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    data = da.ones((40, 600, 700), chunks=(10, 600, 700), dtype="u2") * 3
    try:
        io.write_zarr(path, data, (10, 64, 64), max_mem="64MB", nb_workers=2)
    except io.ScoutIOError as err:
        return f"{type(err).__name__}: {err}", 0
    return "done", _status("VmPeak") - before


# With half of what it needs, one run in many hung: where a new thread has no memory for its first
# step, CPython's Thread.start waits for it for ever.
@pytest.mark.parametrize("factor", [pytest.param(0.5, marks=pytest.mark.slow), 1, 1.5, 2])
def test_row_28_little_address_space_is_a_whole_array_or_an_error_of_ours(
    tmp_path: Path, factor: float
) -> None:
    path = tmp_path / "a.zarr"
    free = run(write_within, str(tmp_path / "free.zarr"), 0, 0)
    assert free.value is not None, str(free)
    growth = max(free.value[1], 64 * MiB)
    outcome = run(write_within, str(path), factor, growth)
    assert not outcome.signal, str(outcome)
    # Python's own MemoryError where an interpreter has no room for itself.
    assert not outcome.error or "MemoryError" in outcome.error, str(outcome)
    if outcome.value is not None and outcome.value[0] == "done":
        assert (io.read_zarr(path) == 3).all().compute()
    else:
        assert not path.exists()
        io.write_zarr(path, np.full((40, 600, 700), 3, "u2"), (10, 64, 64), overwrite=True)
    figure(
        f"address space of {factor} times the need",
        tried=1, whole=bool(outcome.value and outcome.value[0] == "done"), wrong=0,
    )  # fmt: skip


# Stores that are less than S3


@pytest.mark.parametrize("dropped", ["if-none-match", "range"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_row_28_a_store_that_ignores_a_header_gives_the_data_or_an_error(
    lab: Lab, dropped: str, zarr_format: int
) -> None:
    settings: dict[str, Any] = {"zarr_format": zarr_format}
    if zarr_format == 3:
        settings["shards"] = (4, 32, 32)
    regions = (np.s_[:], np.s_[3:5, 7:20, 40:], np.s_[11, 49, 50])
    with faulty_proxy(lab.address, lambda *_: None, dropped=(dropped,)) as address:
        reach = {**lab.options, "endpoint_url": address}
        io.write_zarr(lab.url, VOLUME, CHUNKS, storage_options=reach, **settings)
        # What it gives without a Range, or not at all, is never taken for what was asked.
        with pytest.raises((io.TargetExistsError, io.ChunkReadError)):
            io.write_zarr(lab.url, VOLUME, CHUNKS, storage_options=reach, **settings)
        refused = 0
        for region in regions:
            try:
                got = io.read_zarr(lab.url, storage_options=reach)[region].compute()
            except io.ChunkReadError:
                refused += 1
                continue
            np.testing.assert_array_equal(got, VOLUME[region])
        assert refused in (0, len(regions))
        assert dropped == "range" or not refused
    assert io.verify(lab.url, storage_options=lab.options).ok
    figure(f"stores that ignore {dropped}", tried=3, refused_readably=refused, wrong=0)


# What nobody may read


SECRETS = {"key": "AKIAHUSHHUSH", "secret": "hush-hush-secret", "token": "hush-hush-token"}


@pytest.mark.slow  # a store that is not there is asked again and again
def test_row_28_credentials_are_in_nothing_that_is_shown_or_stored(
    lab: Lab, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    reach = {**lab.options, **SECRETS}
    with faulty_proxy(lab.address, lambda *_: None) as address:
        reach["endpoint_url"] = address
        array = io.write_zarr(lab.url, VOLUME, CHUNKS, storage_options=reach)
        io.write_ome_zarr(f"{lab.url}.ome.zarr", VOLUME, storage_options=reach)
        lazy = io.read_zarr(lab.url, storage_options=reach)
        place = locate(lab.url, reach)
        shown = [repr(x) + str(x) for x in (
            array, lazy, lazy.dask, array.store, array.store_path, place, vars(place.client),
            io.info(lab.url, storage_options=reach), io.verify(lab.url, storage_options=reach),
        )]  # fmt: skip
        # Keys of tasks are shown by dask's page, and names of arrays in every repr.
        shown += [str(key) for key in lazy.__dask_graph__()]
        # A worker must be able to read: what is pickled is sent, and never written by us.
        assert SECRETS["secret"].encode() in pickle.dumps(lazy)
        stored = b"".join(lab.fs.cat_file(f"{lab.bucket}/{n}") for n in _all_of(lab))
        shown.append(stored.decode("latin-1"))
    reach["endpoint_url"] = "http://127.0.0.1:9"  # where nobody listens
    for work in (
        lambda: io.read_zarr(f"{lab.url}x", storage_options=reach),
        lambda: io.write_zarr(f"{lab.url}y", VOLUME, storage_options=reach),
        lambda: io.read_zarr(lab.url, storage_options={**reach, "unknown": 1}),
    ):
        with pytest.raises(io.ScoutIOError) as caught:
            work()
        shown.append("".join(traceback.format_exception(caught.value)))
    shown.append(failed("info", lab.url, "--storage-option", json.dumps(reach), "--debug"))
    shown += [caplog.text, *capfd.readouterr()]
    for text in shown:
        for secret in ("hush-hush-secret", "hush-hush-token"):
            assert secret not in text, text[max(0, text.index(secret) - 300) :][:600]
    figure("places without credentials", looked_at=len(shown), found=0)


def _all_of(lab: Lab) -> list[str]:
    return [name.partition("/")[2] for name in lab.fs.find(lab.bucket)]


def failed(*arguments: str) -> str:
    """Give all that a command prints that fails."""
    command = [sys.executable, "-m", "scout_dask_io", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1, done
    assert "Traceback" in done.stderr
    return done.stdout + done.stderr
