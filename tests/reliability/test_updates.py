"""Updates: killed at any operation what stands is old or new, all levels alike."""

from __future__ import annotations

import shutil
import signal
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
import zarr
from faults import Faults, Watched, injected
from harness import run
from helpers import described, make_volume, write_planes
from readers import by_tensorstore, by_us, by_zarr, levels

import scout_dask_io as io
from scout_dask_io.errors import SourceChangedError
from scout_dask_io.store import growth, patch

VOLUME = make_volume((13, 37, 29), seed=7)
OPTIONS: dict[str, Any] = {"chunks": (4, 16, 16), "nb_workers": 1, "max_mem": "1GB"}
KINDS: dict[str, dict[str, Any]] = {
    "array": {},
    "v3": {"zarr_format": 3},
    "shards": {"zarr_format": 3, "shards": (8, 32, 32)},
    "image": {"ome": True, "levels": 3},
    "image v3": {"ome": True, "levels": 3, "zarr_format": 3},
}


def update(folder: str, nth: int, kind: str) -> int:
    faults = Faults(Path(folder) / "w", nth, kill=True)
    with injected(faults), dask.config.set(scheduler="sync"):
        io.update(Path(folder) / "planes", Path(folder) / "w/a.zarr", **OPTIONS, **KINDS[kind])
    return faults.count


def prepare(tmp_path: Path, kind: str, *, shorter: bool) -> Path:
    """Convert before and after planes change, half of each to fill; give a copy to work on."""
    files = write_planes(tmp_path / "planes", VOLUME)
    io.convert(tmp_path / "planes", tmp_path / "old/a.zarr", **OPTIONS, **KINDS[kind])
    for z in range(4, 8):  # chunks become empty
        tifffile.imwrite(files[z], np.where(np.arange(29) < 16, 0, VOLUME[z] + 1).astype("u2"))
    if shorter:
        files[-1].unlink()
    io.convert(tmp_path / "planes", tmp_path / "new/a.zarr", **OPTIONS, **KINDS[kind])
    shutil.copytree(tmp_path / "old", tmp_path / "w")
    return tmp_path / "w" / "a.zarr"


def points(total: int, n: int) -> list[int]:
    """Give operations here and there, and most of those near the end, where it is put in."""
    few = np.linspace(1, total, n - n // 3).astype(int).tolist()
    late = np.linspace(total * 0.8, total - 1, n // 3).astype(int).tolist()
    return sorted({*few, *late})


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n_points", [4, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kill_at_any_operation_of_an_update_leaves_old_or_new(
    tmp_path: Path, kind: str, n_points: int
) -> None:
    here = prepare(tmp_path, kind, shorter=False)
    old, new = (described(tmp_path / name / "a.zarr") for name in ("old", "new"))
    total = run(update, str(tmp_path), 0, kind).value
    assert described(here) == new
    states = set()
    for nth in points(total, n_points):
        shutil.rmtree(here.parent)
        shutil.copytree(tmp_path / "old", here.parent)
        outcome = run(update, str(tmp_path), nth, kind)
        assert outcome.signal == signal.SIGKILL, f"operation {nth}: {outcome}"
        # Other software finds each pixel old or new, as it lies there.
        for level in levels(here, kind):
            name, found = level.relative_to(here.parent), by_zarr(level)
            a, b = (by_zarr(tmp_path / which / name) for which in ("old", "new"))
            assert ((found == a) | (found == b)).all(), f"operation {nth}"
        # We finish what was decided: then all of it is old, or new.
        assert io.verify(here).ok, f"operation {nth}"
        found = {k: v for k, v in described(here).items() if not k.startswith(".scout-append-dead")}
        assert found in (old, new), f"operation {nth}"
        states.add("new" if found == new else "old")
        again = run(update, str(tmp_path), 0, kind)
        assert not again.error, f"operation {nth}: {again}"
        assert described(here) == new, f"operation {nth}"
        assert [p.name for p in here.parent.iterdir()] == ["a.zarr"], f"operation {nth}"
        assert not list(here.glob(".scout-append*")), f"operation {nth}"
    assert states == {"old", "new"}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n_points", [4, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["array", "image"])
def test_a_kill_while_an_array_gets_shorter_leaves_old_or_new_to_everybody(
    tmp_path: Path, kind: str, n_points: int
) -> None:
    here = prepare(tmp_path, kind, shorter=True)
    old, new = (described(tmp_path / name / "a.zarr") for name in ("old", "new"))
    total = run(update, str(tmp_path), 0, kind).value
    assert described(here) == new
    states = set()
    for nth in [*points(total, n_points), total - 8]:
        shutil.rmtree(here.parent)
        shutil.copytree(tmp_path / "old", here.parent)
        outcome = run(update, str(tmp_path), nth, kind)
        assert outcome.signal == signal.SIGKILL, f"operation {nth}: {outcome}"
        # As it lies there, without anything being opened by us first.
        found = described(here)
        assert found in (old, new), f"operation {nth}"
        states.add("new" if found == new else "old")
        level = here / "0" if kind == "image" else here
        assert zarr.open_array(str(level), mode="r").shape in ((13, 37, 29), (12, 37, 29))
        assert io.verify(here).ok
        again = run(update, str(tmp_path), 0, kind)
        assert not again.error, f"operation {nth}: {again}"
        assert described(here) == new, f"operation {nth}"
        assert [p.name for p in here.parent.iterdir()] == ["a.zarr"], f"operation {nth}"
    assert states == {"old", "new"}


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("array", 3),
        ("image v3", 6),
        *(pytest.param(kind, 1, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_readers_that_look_at_every_operation_see_pixels_that_are_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, step: int
) -> None:
    here = prepare(tmp_path, kind, shorter=False)
    pairs = [
        (
            level,
            by_zarr(tmp_path / "old" / level.relative_to(here.parent)),
            by_zarr(tmp_path / "new" / level.relative_to(here.parent)),
        )
        for level in levels(here, kind)
    ]
    opened = io.read_zarr(levels(here, kind)[0])
    theirs = zarr.open_array(str(levels(here, kind)[0]), mode="r")
    told = 0

    monkeypatch.setattr(growth, "PATIENCE_S", 0.0)
    refused = 0

    def look() -> None:
        nonlocal told, refused
        for level, before, after in pairs:
            for read in (by_zarr, by_tensorstore):
                found = read(level)
                assert found.shape == before.shape
                assert ((found == before) | (found == after)).all()
            # Who opens it with us has all old or all new, or is told to wait.
            try:
                found = by_us(level)
                assert (found == before).all() or (found == after).all()
            except SourceChangedError as err:
                refused += "Open it again later" in str(err)
        # Who opened it before is told; other software has old and new chunks.
        _, before, after = pairs[0]
        try:
            found = opened.compute(scheduler="sync")
            assert (found == before).all()
            assert not told
        except SourceChangedError:
            told += 1
        found = np.asarray(theirs[...])
        assert ((found == before) | (found == after)).all()

    watched = Watched(here.parent, look, step)
    with injected(watched), dask.config.set(scheduler="sync"):
        io.update(tmp_path / "planes", here, **OPTIONS, **KINDS[kind])
    look()
    assert watched.count > 20
    assert told > 1
    # Who looks between the decision and the first chunk puts it in, and nobody waits for anybody.
    assert refused > 1 or step == 1
    for level, _, after in pairs:
        np.testing.assert_array_equal(by_zarr(level), after)


@pytest.mark.parametrize("kind", ["array", "image"])
def test_who_opens_it_while_it_is_put_in_waits_for_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    here = prepare(tmp_path, kind, shorter=False)
    level = levels(here, kind)[0]
    after = by_zarr(tmp_path / "new" / level.relative_to(here.parent))
    read, looked, move = Future[np.ndarray](), threading.Event(), patch._move
    look = growth._is_updated_elsewhere

    def looking(place: Any) -> bool:
        found = look(place)
        looked.set()
        return found

    def reading() -> None:
        read.set_result(by_us(level))
        looked.set()

    def moving(*names: Any) -> None:
        if not looked.is_set():
            threading.Thread(target=reading).start()
            assert looked.wait(60)
        assert not read.done()
        move(*names)

    monkeypatch.setattr(growth, "_is_updated_elsewhere", looking)
    monkeypatch.setattr(growth, "PATIENCE_S", 60.0)
    monkeypatch.setattr(patch, "_move", moving)
    with dask.config.set(scheduler="sync"):
        io.update(tmp_path / "planes", here, **OPTIONS, **KINDS[kind])
    np.testing.assert_array_equal(read.result(60), after)


@pytest.mark.parametrize("kind", list(KINDS))
def test_other_software_finds_each_chunk_whole_while_an_update_is_put_in(
    tmp_path: Path, kind: str
) -> None:
    here = prepare(tmp_path, kind, shorter=False)
    old, new = (chunks_of(tmp_path / which / "a.zarr") for which in ("old", "new"))
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    pixels = [
        [by_zarr(tmp_path / which / level.relative_to(here.parent)) for which in ("old", "new")]
        for level in levels(here, kind)
    ]
    n_new = [0]

    def look() -> None:
        found = chunks_of(here)
        assert found.keys() <= old.keys() | new.keys()
        assert all(found.get(name) in (old.get(name), new.get(name)) for name in found | old)
        n_new.append(sum(found.get(name) == new.get(name) for name in changed))
        if n_new[-1] == n_new[-2]:
            return
        for level, (before, after) in zip(levels(here, kind), pixels, strict=True):
            for read in (by_zarr, by_tensorstore):
                values = read(level)
                assert ((values == before) | (values == after)).all()

    with injected(Watched(here.parent, look)), dask.config.set(scheduler="sync"):
        io.update(tmp_path / "planes", here, **OPTIONS, **KINDS[kind])
    look()
    # One by one, in one go: what a reader may meet with is some of both, for as long as that takes.
    assert sorted(set(n_new)) == list(range(len(changed) + 1))
    assert n_new == sorted(n_new)


def chunks_of(path: Path) -> dict[str, bytes]:
    """Give the files of chunks, which are named by numbers, without looking at anything else."""
    files = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.name[-1].isdigit()}
    return {n: p.read_bytes() for n, p in files.items() if ".scout" not in n and p.is_file()}
