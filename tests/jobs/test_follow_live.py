"""A microscope and a follower in processes of their own, the latter killed and begun again.

The writer's pauses are its own; nothing here waits for a time. Readers look at the destination all
the while: what they see is final, or fill, or a plane as it was before it was written again.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import zarr
from clusters import wait_for
from following import assert_as_converted, pixels
from helpers import REPO
from live_writer import SHAPE, plane, versions

import scout_dask_io as io

CHUNKS = (8, 16, 16)
FOLLOW = """
import pathlib, sys, scout_dask_io as io
from scout_dask_io.jobs import follow
src, dst, n, ome, begun = sys.argv[1:]
pathlib.Path(begun).touch()
io.follow(src, dst, int(n), settle_s=0.15, poll_s=0.03, idle_s=60, chunks=(8, 16, 16),
          ome=bool(int(ome)), qc=True, nb_workers=2, resume=True)
"""


def spawn(*args: object) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "tests")])}
    return subprocess.Popen([sys.executable, *map(str, args)], env=env)


def has_begun(mark: Path, follower: subprocess.Popen[bytes]) -> bool:
    return mark.exists() or follower.poll() is not None


class Readers:
    """Opens the destination by every reader, and holds what is there against what may be."""

    def __init__(self, dst: Path, seed: int, n: int) -> None:
        self.dst, self.n = dst, n
        last = versions(seed, n)
        # Of each plane what it may be: as it was written first, and last.
        self.may = [[plane(seed, z, v) for v in range(last[z] + 1)] for z in range(n)]
        self.extents: list[int] = []

    def check(self, array: np.ndarray, who: str) -> None:
        assert array.shape[1:] == SHAPE
        for z, found in enumerate(array):
            # Chunks are replaced one by one, so a plane may have some of both.
            cells = (found == may for may in self.may[z])
            fits = np.logical_or.reduce(list(cells))
            assert fits.all(), f"{who}: plane {z} of {len(array)} has pixels of no version"

    def look(self, turn: int) -> None:
        if turn % 3 == 0:
            try:
                ours = io.read_zarr(self.dst)
                self.check(ours.compute(), "read_zarr")
                self.extents.append(ours.shape[0])
            except (io.PathNotFoundError, io.SourceChangedError):
                pass  # as documented: not there yet, or grown since it was opened
        elif turn % 3 == 1 and self.dst.exists():
            node = zarr.open(str(self.dst), mode="r")
            array = node if isinstance(node, zarr.Array) else node["0"]
            self.check(np.asarray(array[...]), "zarr")
            self.extents.append(array.shape[0])
        elif self.dst.exists():
            self.tensorstore()

    def tensorstore(self) -> None:
        ts = pytest.importorskip("tensorstore")
        root = self.dst if (self.dst / ".zarray").exists() else self.dst / "0"
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(root)}}
        array = ts.open(spec, open=True, read=True).result()
        self.check(np.asarray(array.read().result()), "tensorstore")


def follow_a_microscope(tmp_path: Path, seed: int, n: int, mean_s: float, kills: int) -> None:
    rng = random.Random(seed)
    src, ome = tmp_path / "planes", seed % 2
    dst = tmp_path / ("a.ome.zarr" if ome else "a.zarr")
    readers = Readers(dst, seed, n)
    script = tmp_path / "follow.py"
    script.write_text(FOLLOW)
    writer, n_kills = None, 0
    try:
        for run in count():
            begun = tmp_path / f"begun-{run}"
            follower = spawn(script, src, dst, n, ome, begun)
            wait_for(partial(has_begun, begun, follower))
            if writer is None:
                writer = spawn(REPO / "tests" / "live_writer.py", src, seed, n, mean_s)
            # It is killed after so many looks of the readers, later each time.
            left = rng.randrange(2, 15) * (n_kills + 1) if n_kills < kills else -1
            for turn in count():
                with suppress(subprocess.TimeoutExpired):
                    follower.wait(0.005)
                    break
                readers.look(turn)
                left -= 1
                if left == 0:
                    follower.send_signal(signal.SIGKILL)
                    follower.wait()
                    n_kills += 1
                    break
            if follower.returncode == 0:
                break
            assert follower.returncode == -signal.SIGKILL, "it failed by itself"
        assert writer.wait() == 0
    finally:
        for process in filter(None, (writer, follower)):
            process.kill()
            process.wait()
    last = versions(seed, n)
    whole = np.stack([plane(seed, z, last[z]) for z in range(n)])
    assert np.array_equal(pixels(dst), whole)
    # Planes differ in compression, so the first does not tell how all of them are best cut.
    options = {"chunks": CHUNKS, "qc": True, "ome": bool(ome)}
    assert_as_converted(src, dst, tmp_path, units=False, **options)
    assert readers.extents == sorted(readers.extents)
    assert n_kills


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_microscope_is_followed_through_kills(tmp_path, seed):
    follow_a_microscope(tmp_path, seed, n=60, mean_s=0.02, kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 32))
def test_400_planes_are_followed_through_kills(tmp_path, seed):
    follow_a_microscope(tmp_path, seed, n=400, mean_s=0.02, kills=4)
