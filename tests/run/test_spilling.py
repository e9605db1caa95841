"""Results that wait on local threads: bounded in memory, whole when they are read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
from dask import threaded
from dask._task_spec import DataNode, List, Task, TaskRef
from dask.callbacks import Callback
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import WriteError
from scout_dask_io.run.scratch import SpillingCache, spilling_cache

VOLUME = make_volume((26, 50, 62), seed=51)


def in_memory(cache: dict[Any, Any]) -> int:
    return sum(v.nbytes for v in dict.values(cache) if isinstance(v, np.ndarray))


def started(max_nbytes: int, folder: Path) -> SpillingCache:
    cache = SpillingCache(max_nbytes, folder)
    cache.begin()
    return cache


ARRAYS = {
    "big-endian": VOLUME.astype(">u2"),
    "columns first": np.asfortranarray(VOLUME[:3].astype("f4")),
    "view": VOLUME[::3, 5:9, ::-1],
    "bool": VOLUME[0] > 100,
    "empty": np.zeros((0, 4), "u1"),
    "one": np.array(2.5),
    "dates": np.arange(5).astype("M8[s]"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_what_was_spilled_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    cache = started(0, tmp_path)
    cache["a"] = ARRAYS[name]
    cache["b"] = np.zeros(1000)
    assert len(list(tmp_path.iterdir())) == 1
    for _ in range(2):  # each of several users reads it
        assert cache["a"].dtype == ARRAYS[name].dtype
        np.testing.assert_array_equal(cache["a"], ARRAYS[name])


def test_those_that_waited_longest_are_in_files_until_they_are_let_go(tmp_path: Path) -> None:
    cache = started(3 * VOLUME[0].nbytes, tmp_path)
    for z in range(7):
        cache[z] = VOLUME[z]
        assert in_memory(cache) == min(z + 1, 3) * VOLUME[0].nbytes
    assert [z for z in range(7) if isinstance(dict.__getitem__(cache, z), np.ndarray)] == [4, 5, 6]
    assert len(list(tmp_path.iterdir())) == 4
    assert set(cache) == set(range(7))
    del cache[1]
    del cache[5]
    assert len(list(tmp_path.iterdir())) == 3
    cache[7] = VOLUME[7]  # there is room again
    assert len(list(tmp_path.iterdir())) == 3
    for z in (0, 2, 3, 4, 6, 7):
        np.testing.assert_array_equal(cache[z], VOLUME[z])
    cache.clear()
    assert list(tmp_path.iterdir()) == []
    assert not cache


def test_what_cannot_be_spilled_and_what_a_graph_brings_along_stays(tmp_path: Path) -> None:
    cache = SpillingCache(0, tmp_path)
    cache["given"] = VOLUME
    cache.begin()
    kept: dict[str, Any] = {
        "objects": np.array([[1], "a"], dtype=object),
        "masked": np.ma.masked_less(VOLUME, 3),
        "text": "text",
        "newest": VOLUME + 1,
    }
    for key, value in kept.items():
        cache[key] = value
    assert list(tmp_path.iterdir()) == []
    assert all(cache[key] is value for key, value in kept.items())


def test_a_result_that_cannot_be_kept_on_disk_is_an_error_that_names_the_file(
    tmp_path: Path,
) -> None:
    cache = started(0, tmp_path / "gone")
    cache["a"] = VOLUME
    with pytest.raises(WriteError, match=r"gone/waiting-1: .*Free space"):
        cache["b"] = VOLUME


class Watched(Callback):
    """Notes how much waits in memory after each task, and whether files were there."""

    def __init__(self, folder: Path, files: str) -> None:
        super().__init__(posttask=self._look)
        self.folder, self.files = folder, files
        self.most = self.n_files = 0

    def _look(self, key: Any, result: Any, dsk: Any, state: Any, worker: Any) -> None:
        self.most = max(self.most, in_memory(state["cache"]))
        self.n_files = max(self.n_files, len(list(self.folder.glob(self.files))))


def test_a_run_of_threads_keeps_no_more_than_it_may_and_leaves_no_file(tmp_path: Path) -> None:
    graph: dict[Any, Any] = {"given": DataNode("given", VOLUME)}
    graph |= {(z,): Task((z,), np.take, TaskRef("given"), z, 0) for z in range(26)}
    graph["sum"] = Task("sum", sum, List(*(TaskRef((z,)) for z in range(26))))
    watched = Watched(tmp_path, "waiting-*")
    with spilling_cache(4 * VOLUME[0].nbytes, tmp_path) as cache, watched:
        found = threaded.get(graph, "sum", cache, 2)
    np.testing.assert_array_equal(found, VOLUME.sum(axis=0, dtype="u2"))
    assert watched.most <= 4 * VOLUME[0].nbytes + VOLUME.nbytes
    assert watched.n_files >= 20
    assert list(tmp_path.iterdir()) == []


AROUND = (1, 0, 0)


def smooth(block: np.ndarray) -> np.ndarray:
    return (block + np.roll(block, 1, 0) + np.roll(block, -1, 0)) // 3


@pytest.mark.in_process
@pytest.mark.parametrize("blocks", [(4, 16, 16), (4, 10, -1)])
def test_a_pipeline_on_threads_keeps_the_blocks_that_wait_to_max_mem(
    tmp_path: Path, blocks: Any
) -> None:
    io.write_zarr(tmp_path / "a.zarr", VOLUME, (4, 16, 16))
    source = io.read_zarr(tmp_path / "a.zarr", chunks=blocks)
    smoothed = da.map_overlap(smooth, source, depth=AROUND, boundary="nearest", dtype="u2")
    most = []
    for max_mem in (60_000, 10**9):
        watched = Watched(tmp_path, ".b.zarr.scout-partial/*/tmp/waiting-*")
        with watched:
            array = io.write_zarr(
                tmp_path / "b.zarr",
                smoothed,
                (4, 16, 16),
                max_mem=max_mem,
                nb_workers=2,
                overwrite=True,
            )
        padded = np.pad(VOLUME, ((1, 1), (0, 0), (0, 0)), mode="edge")
        assert (array[:] == (padded[1:-1] + padded[:-2] + padded[2:]) // 3).all()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]
        most.append(watched.most)
    assert most[0] <= 60_000 < most[1]
    assert watched.n_files == 0
