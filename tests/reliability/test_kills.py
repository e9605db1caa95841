"""Kill loop: a writer is killed at any moment, and the same call with ``resume=True`` goes on."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import time
from functools import cache
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
from faults import Faults, injected
from harness import figure, litter, run, say, start, tree
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.core.grid import iter_block_regions, iter_chunk_indices
from scout_dask_io.store.journal import read_units

SEED = 20261122
SHAPE, CHUNKS = (40, 200, 230), (16, 64, 64)


@cache
def data(version: int) -> np.ndarray:
    return make_volume((1, *SHAPE[1:]), seed=version) + np.arange(SHAPE[0], dtype="u2").reshape(
        -1, 1, 1
    )


def write(path: str, version: int, overwrite: bool, resume: bool) -> None:
    say("ready")
    io.write_zarr(
        path,
        data(version),
        CHUNKS,
        overwrite=overwrite,
        resume=resume,
        nb_workers=2,
        max_mem="200MB",
    )


def write_computed(path: str, version: int, overwrite: bool, resume: bool) -> None:
    lazy = da.from_array(data(version), chunks=(16, 100, 230), name=f"v{version}") + 0
    say("ready")
    io.write_zarr(
        path, lazy, CHUNKS, overwrite=overwrite, resume=resume, nb_workers=2, max_mem="200MB"
    )


def write_naively(path: str, version: int, overwrite: bool, resume: bool) -> None:
    import zarr

    array = da.from_array(data(version), chunks=(16, 200, 230))
    say("ready")
    target = zarr.create(
        store=path, shape=SHAPE, chunks=CHUNKS, dtype="u2", zarr_format=2, overwrite=True
    )
    da.store(array, target, lock=False, scheduler="threads")


def state(path: Path) -> str:
    if not path.exists():
        return "absent"
    try:
        found = io.read_zarr(path).compute(scheduler="sync")
    except io.ScoutIOError as err:
        return str(err)
    for version in (1, 2):
        if found.shape == SHAPE and (found == data(version)).all():
            return f"version {version}"
    return "wrong"


def kept_chunks(path: Path) -> dict[str, tuple[int, int]]:
    """Give inode and mtime of the chunk files of the units that the journal holds."""
    kept = {}
    for job in path.parent.glob(f".{path.name}.scout-partial/*/job.json"):
        units = tuple(tuple(axis) for axis in json.loads(job.read_text())["units"])
        finished = read_units(job.parent / "journal")
        for unit, (_, region) in enumerate(iter_block_regions(units)):
            if unit in finished:
                for index in iter_chunk_indices(region, CHUNKS):
                    info = (job.parent / "array").joinpath(*map(str, index)).stat()
                    kept["/".join(map(str, index))] = (info.st_ino, info.st_mtime_ns)
    return kept


def wait_for_chunks(folder: Path, child: Any, n: int) -> None:
    """Wait until a writer has written so many chunk files, or has ended."""
    while child.process.is_alive():
        if sum(len(names) for _, _, names in os.walk(folder)) >= n:
            return
        time.sleep(0.001)


def kill_once(
    folder: Path, writer: Any, n_chunks: int, delay_s: float, overwrite: bool
) -> dict[str, Any]:
    """Kill a writer when some chunks are in, or at once; give what stood, and what resume made."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    path = folder / "a.zarr"
    if overwrite:
        io.write_zarr(path, data(1), CHUNKS, nb_workers=2)
    already = sum(len(names) for _, _, names in os.walk(folder))
    child = start(writer, str(path), 2, overwrite, False, seconds=90)
    child.wait_for("ready")
    if n_chunks:
        wait_for_chunks(folder, child, already + n_chunks)
    time.sleep(delay_s)
    child.kill(signal.SIGKILL)
    outcome = child.join()
    found: dict[str, Any] = {
        "killed": outcome.signal == signal.SIGKILL,
        "after kill": state(path),
    }
    # Killed right after the publication, the job's remains are not of this array.
    found["kept"] = {} if found["after kill"] == "version 2" else kept_chunks(path)
    if writer is write_naively:
        return found
    again = run(writer, str(path), 2, overwrite, True, seconds=90)
    found["error"] = again.error and str(again)
    found["after resume"] = state(path)
    now = {k: path.joinpath(*k.split("/")).stat() for k in found["kept"]}
    found["rewritten"] = sum(
        (now[k].st_ino, now[k].st_mtime_ns) != v for k, v in found["kept"].items()
    )
    found["litter"] = litter(folder, "a.zarr")
    found["temporary"] = [n for n in tree(path) if "tmp" in n or "partial" in n]
    found["notes"] = (folder / "notes.txt").read_text()
    return found


numbers = pytest.mark.parametrize("n", [12, pytest.param(200, marks=pytest.mark.slow)])


@numbers
def test_row_05_a_killed_writer_leaves_nothing_or_the_old_or_the_new_and_resumes(
    tmp_path: Path, n: int
):
    rng = random.Random(SEED)
    killed = part = kept = 0
    for k in range(n):
        overwrite = bool(k % 2)
        writer = write_computed if k % 4 == 3 else write
        # By the clock, and by how far the writer has come: a machine may be busy.
        n_chunks, delay_s = (0, rng.uniform(0.005, 0.08)) if k % 5 == 0 else (rng.randint(1, 45), 0)
        found = kill_once(tmp_path / "w", writer, n_chunks, delay_s, overwrite)
        where = f"kill {k}, {n_chunks} chunks, {delay_s * 1000:.1f} ms, {writer.__name__}: {found}"
        killed += found["killed"]
        kept += len(found["kept"])
        part += len(found["kept"]) > 0
        allowed = {"version 1" if overwrite else "absent", "version 2"}
        assert found["after kill"] in allowed, where
        assert not found["error"], where
        assert found["after resume"] == "version 2", where
        assert found["rewritten"] == 0, where
        assert found["litter"] == [], where
        assert found["temporary"] == [], where
        assert found["notes"] == "mine", where
    figure("kills", tried=n, killed=killed, with_finished_units=part, chunks_kept=kept, wrong=0)
    # A loop that kills nobody, or finds nothing begun, shows nothing.
    assert killed > n // 4
    assert part > 0


def test_the_kill_loop_finds_the_naive_writer(tmp_path: Path):
    found = [
        kill_once(tmp_path / "w", write_naively, n, 0, False)["after kill"] for n in (2, 5, 20, 30)
    ]
    assert "wrong" in found


def killed_at(folder: str, nth: int, job: str) -> None:
    from scout_dask_io.store import staging as publishing

    root = Path(folder)
    if job == "two renames":
        publishing.exchange = lambda a, b: False  # type: ignore[assignment]
    with injected(Faults(root, nth, kill=True)) as faults, dask.config.set(scheduler="sync"):
        if job == "imsave":
            io.imsave(root / "a.tif", da.from_array(data(2)[:6, :50, :60], chunks=(1, 50, 60)))
        else:
            small = make_volume((3, 17, 20), seed=5)
            io.write_zarr(
                root / "a.zarr", small, (2, 16, 16), nb_workers=1, overwrite=job != "fresh"
            )
    return faults.count


def steps(job: str, everyday: int) -> list[Any]:
    return [
        pytest.param(job, everyday, id=f"{job}-every-{everyday}"),
        pytest.param(job, 1, id=f"{job}-each", marks=pytest.mark.slow),
    ]


@pytest.mark.parametrize(
    ("job", "step"), [*steps("fresh", 12), *steps("exchange", 12), *steps("two renames", 12)]
)
def test_rows_05_11_a_writer_killed_at_any_operation_leaves_what_resume_needs(
    tmp_path: Path, job: str, step: int
):
    old, new = make_volume((2, 5, 7), seed=4), make_volume((3, 17, 20), seed=5)
    kills = 0
    # The last operations, around the publication, are all tried.
    total = run(killed_at, str(_prepared(tmp_path / "count", job, old)), 0, job).value
    points = sorted(
        {*range(1, total - 30, step), *range(max(1, total - 30), total + 1, 1 + step // 5)}
    )
    for nth in points:
        folder = _prepared(tmp_path / "w", job, old)
        outcome = run(killed_at, str(folder), nth, job)
        assert outcome.signal == signal.SIGKILL, f"operation {nth}: {outcome}"
        kills += 1
        path = folder / "a.zarr"
        found = io.read_zarr(path).compute() if path.exists() else None
        if found is None and job == "two renames":
            # Between the renames the name is free; opening the array brings it back.
            found = _read_or_none(path)
        assert _is(found, old if job != "fresh" else None) or _is(found, new), f"operation {nth}"
        io.write_zarr(
            path, new, (2, 16, 16), nb_workers=1, resume=True, overwrite=not _is(found, new)
        )
        assert _is(io.read_zarr(path).compute(), new), f"operation {nth}"
        assert litter(folder, "a.zarr") == [], f"operation {nth}"
        shutil.rmtree(folder)
    figure("kill points", tried=kills, wrong=0)
    assert kills >= 10


def killed_with_a_sheet(folder: str, nth: int) -> int:
    faults = Faults(Path(folder), nth, kill=True)
    with injected(faults), dask.config.set(scheduler="sync"):
        small = make_volume((3, 17, 20), seed=5)
        io.write_zarr(Path(folder) / "a.zarr", small, (2, 16, 16), nb_workers=1, qc=True)
    return faults.count


@pytest.mark.parametrize("step", [60, pytest.param(1, marks=pytest.mark.slow)])
def test_rows_05_11_a_kill_at_any_operation_leaves_no_sheet_without_its_array(
    tmp_path: Path, step: int
):
    def sheet(folder: Path) -> dict[str, Any]:
        found = json.loads((folder / "a.zarr.qc.json").read_text())
        assert (folder / "a.zarr.qc.html").read_text().endswith("</html>\n")
        return {key: value for key, value in found.items() if key != "written"}

    (tmp_path / "count").mkdir()
    total = run(killed_with_a_sheet, str(tmp_path / "count"), 0).value
    want = sheet(tmp_path / "count")
    points = sorted({*range(1, total - 20, step), *range(total - 20, total + 1, 1 + step // 5)})
    for nth in points:
        folder = tmp_path / "w"
        folder.mkdir()
        outcome = run(killed_with_a_sheet, str(folder), nth)
        assert outcome.signal == signal.SIGKILL, f"operation {nth}: {outcome}"
        beside = sorted(p.name for p in folder.glob("a.zarr.*"))
        assert beside == [] or (folder / "a.zarr").exists(), f"operation {nth}"
        for name in beside:
            assert (folder / name).read_bytes() != b"", f"operation {nth}"
        small = make_volume((3, 17, 20), seed=5)
        io.write_zarr(folder / "a.zarr", small, (2, 16, 16), nb_workers=1, qc=True, resume=True)
        assert sheet(folder) == want, f"operation {nth}"
        assert litter(folder, "a.zarr") == [], f"operation {nth}"
        shutil.rmtree(folder)
    figure("kill points", tried=len(points), wrong=0)


def _prepared(folder: Path, job: str, old: np.ndarray) -> Path:
    folder.mkdir()
    if job in ("exchange", "two renames"):
        io.write_zarr(folder / "a.zarr", old, (2, 16, 16), nb_workers=1)
    return folder


def _read_or_none(path: Path) -> np.ndarray | None:
    try:
        return np.asarray(io.read_zarr(path).compute())
    except io.PathNotFoundError:
        return None


def _is(found: np.ndarray | None, expected: np.ndarray | None) -> bool:
    if found is None or expected is None:
        return found is expected
    return found.shape == expected.shape and bool((found == expected).all())


@pytest.mark.parametrize("step", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_row_25_a_killed_tiff_writer_leaves_no_file_at_the_name(tmp_path: Path, step: int):
    folder = tmp_path / "count"
    folder.mkdir()
    total = run(killed_at, str(folder), 0, "imsave").value
    expected = data(2)[:6, :50, :60]
    assert np.array_equal(tifffile.imread(folder / "a.tif"), expected)
    kills = 0
    for nth in range(1, total + 1, step):
        folder = tmp_path / f"w{nth}"
        folder.mkdir()
        outcome = run(killed_at, str(folder), nth, "imsave")
        assert outcome.signal == signal.SIGKILL, f"operation {nth}: {outcome}"
        kills += 1
        if (folder / "a.tif").exists():
            assert np.array_equal(tifffile.imread(folder / "a.tif"), expected)
        # What is left has a name that no reader of folders takes for a plane.
        assert all(p.name.startswith(".") for p in folder.iterdir() if p.name != "a.tif")
        io.imsave(folder / "a.tif", expected)
        assert np.array_equal(tifffile.imread(folder / "a.tif"), expected)
    figure("TIFF kills", tried=kills, wrong=0)
    assert kills >= 5


def interrupted(path: str) -> None:
    calls = itertools.count(1)

    def block(block_info: Any = None) -> np.ndarray:
        at = block_info[None]["array-location"]
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return data(1)[at[0][0] : at[0][1], 0, : at[1][1]]

    blocks = da.map_blocks(block, chunks=((16, 16, 8), (230,)), dtype="u2")
    io.write_zarr(path, blocks, (16, 64), nb_workers=1, max_mem="200MB")


def test_row_06_ctrl_c_leaves_what_resume_needs_and_says_so(tmp_path: Path):
    path = tmp_path / "a.zarr"
    outcome = run(interrupted, str(path), seconds=60)
    assert outcome.error[0] == "KeyboardInterrupt", str(outcome)
    assert any("resume=True" in note for note in outcome.notes)
    assert not path.exists()
    before = kept_names(tmp_path)
    time.sleep(0.5)
    assert kept_names(tmp_path) == before, "writes went on after the exception"
    assert litter(tmp_path, "a.zarr") == [".a.zarr.scout-partial"]


def kept_names(folder: Path) -> list[str]:
    return sorted(tree(folder))


def test_row_06_after_an_error_nothing_is_written_any_more(tmp_path: Path):
    calls = itertools.count(1)

    def block(block_info: Any = None) -> np.ndarray:
        at = block_info[None]["array-location"]
        if next(calls) == 8:
            raise RuntimeError("a broken plane")
        time.sleep(0.01)
        return data(1)[at[0][0] : at[0][1], :64, :64]

    lazy = da.map_blocks(block, chunks=((2,) * 20, (64,), (64,)), dtype="u2")
    with pytest.raises(RuntimeError, match="a broken plane") as caught:
        io.write_zarr(tmp_path / "a.zarr", lazy, (2, 32, 32), nb_workers=4)
    before = kept_names(tmp_path)
    time.sleep(1)
    assert kept_names(tmp_path) == before
    assert any("resume=True" in note for note in caught.value.__notes__)
    assert not (tmp_path / "a.zarr").exists()


def stopped_at(folder: str, nth: int) -> str:
    faults = Faults(Path(folder), nth, stop=True)
    small = make_volume((3, 17, 20), seed=5)
    with injected(faults), dask.config.set(scheduler="sync"):
        io.write_zarr(f"{folder}/a.zarr", small, (2, 16, 16), nb_workers=1)
    return "written"


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_row_08_a_writer_that_is_stopped_and_wakes_up_late_changes_nothing(
    tmp_path: Path, step: int
):
    folder = tmp_path / "count"
    folder.mkdir()
    total = run(killed_at, str(folder), 0, "fresh").value
    newer = make_volume((3, 17, 20), seed=6)
    tried = lost = 0
    for nth in range(1, total + 1, step):
        folder = tmp_path / f"w{nth}"
        folder.mkdir()
        child = start(stopped_at, str(folder), nth, seconds=90)
        _until_stopped(child)
        io.write_zarr(folder / "a.zarr", newer, (2, 16, 16), nb_workers=1, overwrite=True)
        before = tree(folder)
        child.kill(signal.SIGCONT)
        outcome = child.join()
        tried += 1
        lost += bool(outcome.error)
        assert not outcome.error or outcome.is_typed, f"operation {nth}: {outcome}"
        now = tree(folder)
        assert now == before, f"operation {nth}: {outcome}, {set(now) ^ set(before)}"
        assert (io.read_zarr(folder / "a.zarr").compute() == newer).all()
        shutil.rmtree(folder)
    figure("writers stopped and woken", tried=tried, failed_readably=lost, wrong=0)
    assert lost > 0


def _until_stopped(child: Any) -> None:
    """Wait until a child has stopped itself."""
    status = Path(f"/proc/{child.process.pid}/stat")
    while status.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)


def test_row_13_a_resumed_write_knows_empty_chunks_from_unwritten_ones(tmp_path: Path):
    path, volume = tmp_path / "a.zarr", make_volume((16, 32, 32), seed=13)
    volume[::2] = 0  # every second chunk holds the fill value, and has no file
    computed: list[int] = []
    broken = {11}

    def block(x: np.ndarray, block_info: Any = None) -> np.ndarray:
        k = block_info[None]["chunk-location"][0]
        if k in broken:
            raise RuntimeError("a broken plane")
        computed.append(k)
        return x

    lazy = da.from_array(volume, chunks=(1, 32, 32)).map_blocks(block, dtype="u2", name="planes")
    with pytest.raises(RuntimeError, match="a broken plane"):
        io.write_zarr(path, lazy, (1, 16, 16), nb_workers=1)
    (journal,) = tmp_path.glob(".a.zarr.scout-partial/*/journal")
    finished = set(read_units(journal))
    assert finished
    assert any(k % 2 == 0 for k in finished)
    for settings in ({"codec": "lz4"}, {"fill_value": 1}, {"attributes": {"a": 1}}):
        with pytest.raises(io.ResumeError, match=next(iter(settings))):
            io.write_zarr(path, lazy, (1, 16, 16), nb_workers=1, resume=True, **settings)
    with pytest.raises(io.ResumeError, match="source"):
        io.write_zarr(path, volume, (1, 16, 16), resume=True)
    broken.clear()
    computed.clear()
    io.write_zarr(path, lazy, (1, 16, 16), nb_workers=1, resume=True)
    assert sorted(computed) == sorted(set(range(16)) - finished)
    assert (io.read_zarr(path).compute() == volume).all()
    assert not (path / "0").exists()
    assert io.verify(path).ok


def test_row_11_a_resumed_write_sweeps_the_draft_of_a_manifest(tmp_path: Path):
    path = tmp_path / "a.zarr"

    def stop(done: int, total: int, nbytes: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        io.write_zarr(path, data(1), CHUNKS, nb_workers=1, max_mem="8MB", progress=stop)
    (array,) = tmp_path.glob(".a.zarr.scout-partial/*/array")
    draft = array / f".scout-manifest-{'0' * 32}.tmp"
    draft.write_bytes(b"a kill came while it was written")
    io.write_zarr(path, data(1), CHUNKS, nb_workers=1, max_mem="8MB", resume=True)
    assert state(path) == "version 1"
    assert [n for n in tree(path) if "tmp" in n] == []
