"""Updates: killed at any operation what stands is old or new, all levels alike."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
import zarr
from faults import Faults, injected
from harness import run
from helpers import described, make_volume, write_planes

import scout_dask_io as io

VOLUME = make_volume((13, 37, 29), seed=7)
OPTIONS: dict[str, Any] = {"chunks": (4, 16, 16), "nb_workers": 1, "max_mem": "1GB"}
KINDS: dict[str, dict[str, Any]] = {"array": {}, "image": {"ome": True, "levels": 3}}


def update(folder: str, nth: int, kind: str) -> int:
    faults = Faults(Path(folder) / "w", nth, kill=True)
    with injected(faults), dask.config.set(scheduler="sync"):
        io.update(Path(folder) / "planes", Path(folder) / "w/a.zarr", **OPTIONS, **KINDS[kind])
    return faults.count


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("n_points", [12, pytest.param(100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", list(KINDS))
def test_a_kill_at_any_operation_of_an_update_leaves_old_or_new(
    tmp_path: Path, kind: str, n_points: int
) -> None:
    files = write_planes(tmp_path / "planes", VOLUME)
    io.convert(tmp_path / "planes", tmp_path / "old/a.zarr", **OPTIONS, **KINDS[kind])
    tifffile.imwrite(files[6], VOLUME[6] + 1)
    files[-1].unlink()
    io.convert(tmp_path / "planes", tmp_path / "new/a.zarr", **OPTIONS, **KINDS[kind])
    old, new = (described(tmp_path / name / "a.zarr") for name in ("old", "new"))
    here = tmp_path / "w" / "a.zarr"
    shutil.copytree(tmp_path / "old", here.parent)
    total = run(update, str(tmp_path), 0, kind).value
    assert described(here) == new
    states = set()
    for nth in sorted({*np.linspace(1, total, n_points).astype(int).tolist(), total - 8}):
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
