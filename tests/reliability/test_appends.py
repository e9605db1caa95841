"""Appends: killed at any operation old or new, and looked at, at every operation, by readers."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from faults import Faults, Watched, injected
from harness import run
from helpers import described, make_volume
from readers import by_tensorstore, by_us, by_zarr, levels

import scout_dask_io as io

# 13 planes: the old end lies inside of a chunk, at an odd plane of two levels.
BEFORE, AFTER, CHUNKS = 13, 22, (4, 16, 16)
VOLUME = make_volume((AFTER, 37, 29), seed=7)
KINDS: dict[str, dict[str, Any]] = {
    "array": {},
    "v3": {"zarr_format": 3},
    "shards": {"zarr_format": 3, "shards": (8, 32, 32)},
    "image": {"levels": 3},
    "image v3": {"levels": 3, "version": "0.5"},
}


def write(path: Path, data: Any, kind: str, **how: Any) -> None:
    settings = {} if "append" in how else KINDS[kind]
    call: Any = io.write_ome_zarr if "image" in kind else io.write_zarr
    call(path, data, CHUNKS, nb_workers=1, max_mem="1GB", **settings, **how)


def prepare(folder: Path, kind: str) -> Path:
    """Write what stands before, and beside it what is to stand."""
    write(folder / "before.zarr", VOLUME[:BEFORE], kind)
    write(folder / "after.zarr", VOLUME, kind)
    return folder


def check_level(found: np.ndarray, before: np.ndarray, after: np.ndarray, first: bool) -> str:
    """Tell whether a level is old or new; only its last old row may be new before the rest."""
    if found.shape == after.shape and (found == after).all():
        return "new"
    assert found.shape == before.shape
    rows = len(before) if first else len(before) - 1
    assert (found[:rows] == before[:rows]).all()
    assert ((found == before) | (found == after[: len(before)])).all()
    return "old"


def append(path: str, nth: int, kind: str, resume: bool) -> int:
    faults = Faults(Path(path).parent, nth, kill=True)
    with injected(faults), dask.config.set(scheduler="sync"):
        write(Path(path), VOLUME[BEFORE:], kind, append=0, resume=resume)
    return faults.count


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n_points", [4, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kill_at_any_operation_of_an_append_leaves_old_or_new(
    tmp_path: Path, kind: str, n_points: int
) -> None:
    prepare(tmp_path, kind)
    here = tmp_path / "w" / "a.zarr"
    shutil.copytree(tmp_path / "before.zarr", here)
    total = run(append, str(here), 0, kind, False).value
    want = described(here)
    states = set()
    for nth in sorted({*np.linspace(1, total, n_points).astype(int).tolist(), total - 1}):
        shutil.rmtree(here.parent)
        shutil.copytree(tmp_path / "before.zarr", here)
        outcome = run(append, str(here), nth, kind, False)
        assert outcome.signal == signal.SIGKILL, f"operation {nth}: {outcome}"
        # Other software looks at what lies there, level by level.
        for n, level in enumerate(levels(here, kind)):
            a, b = (by_zarr(p) for p in (_level(tmp_path / "before.zarr", level, here),
                                         _level(tmp_path / "after.zarr", level, here)))  # fmt: skip
            check_level(by_zarr(level), a, b, n == 0)
        # We finish what was decided: all of it is old, or all new, and as the manifest says.
        assert io.verify(here).ok, f"operation {nth}"
        stands = {
            check_level(
                by_us(level),
                by_zarr(_level(tmp_path / "before.zarr", level, here)),
                by_zarr(_level(tmp_path / "after.zarr", level, here)),
                True,
            )
            for level in levels(here, kind)
        }
        assert len(stands) == 1, f"operation {nth}: {stands}"
        states |= stands
        again = run(append, str(here), 0, kind, True)
        assert not again.error, f"operation {nth}: {again}"
        assert described(here) == want, f"operation {nth}"
    assert states == {"old", "new"}


def _level(whole: Path, level: Path, here: Path) -> Path:
    return whole / level.relative_to(here)


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        ("array", 3),
        ("image", 6),
        *(pytest.param(kind, 1, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_readers_that_look_at_every_operation_see_what_was_or_what_is_to_be(
    tmp_path: Path, kind: str, step: int
) -> None:
    prepare(tmp_path, kind)
    here = tmp_path / "w" / "a.zarr"
    shutil.copytree(tmp_path / "before.zarr", here)
    pairs = [
        (
            level,
            by_zarr(_level(tmp_path / "before.zarr", level, here)),
            by_zarr(_level(tmp_path / "after.zarr", level, here)),
        )
        for level in levels(here, kind)
    ]
    ours = io.read_zarr(levels(here, kind)[0])
    theirs = zarr.open_array(str(levels(here, kind)[0]), mode="r")
    seen: list[str] = []

    def look() -> None:
        for n, (level, before, after) in enumerate(pairs):
            for read in (by_us, by_zarr, by_tensorstore):
                seen.append(check_level(read(level), before, after, n == 0))
        # Who opened it before goes on.
        np.testing.assert_array_equal(ours.compute(scheduler="sync"), VOLUME[:BEFORE])
        np.testing.assert_array_equal(theirs[...], VOLUME[:BEFORE])

    watched = Watched(here.parent, look, step)
    with injected(watched), dask.config.set(scheduler="sync"):
        write(here, VOLUME[BEFORE:], kind, append=0)
    look()
    assert watched.count > 20
    assert (seen[0], seen[-1]) == ("old", "new")
