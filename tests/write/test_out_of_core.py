"""Stages larger than memory, and several outputs of one pass over the source."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from clusters import cluster
from helpers import make_volume, python

import scout_dask_io as io
from scout_dask_io.core.source import ArraySource
from scout_dask_io.run.lazy import lazy_array

MB = 10**6
VOLUME = make_volume((13, 40, 50), seed=41)
CHUNKS = (4, 16, 16)


class Recording(ArraySource):
    """An array that counts which regions of it are read."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array, "recording")
        self.reads: Counter[Any] = Counter()

    def narrow(self, region: Any) -> Any:
        return self, region

    def read(self, region: Any) -> np.ndarray:
        self.reads[tuple((s.start, s.stop) for s in region)] += 1
        return super().read(region)


# Blocks that are whole chunks, and planes, which cross their borders.
@pytest.mark.parametrize("blocks", [(4, 16, -1), (1, -1, -1)])
@pytest.mark.parametrize("annotations", [{}, {"retries": 2}])
def test_several_outputs_of_one_compute_read_the_source_once(
    tmp_path: Path, blocks: Any, annotations: dict[str, Any]
):
    source = Recording(VOLUME)
    array = lazy_array(source, blocks)
    with dask.annotate(**annotations):
        writes = [
            io.write_zarr(tmp_path / "more.zarr", array + 1, CHUNKS, compute=False),
            io.write_zarr(tmp_path / "wide.zarr", array.astype("u4") * 9, CHUNKS, compute=False),
            io.write_zarr(tmp_path / "max.zarr", array.max(axis=0), 16, compute=False),
        ]
    more, wide, largest = dask.compute(*writes, scheduler="sync")
    assert set(source.reads.values()) == {1}
    assert len(source.reads) == array.npartitions
    assert (more[:] == VOLUME + 1).all()
    assert (wide[:] == VOLUME.astype("u4") * 9).all()
    assert (largest[:] == VOLUME.max(axis=0)).all()
    assert (more.dtype, wide.dtype) == (VOLUME.dtype, np.dtype("u4"))


def test_a_write_and_a_sum_in_one_compute_read_the_source_once(tmp_path: Path):
    source = Recording(VOLUME)
    array = lazy_array(source, (4, -1, -1))
    write = io.write_zarr(tmp_path / "a.zarr", array * 2, CHUNKS, compute=False)
    _, total = dask.compute(write, array.sum(), scheduler="sync")
    assert total == VOLUME.sum()
    assert set(source.reads.values()) == {1}
    assert (io.open(tmp_path / "a.zarr")[:] == VOLUME * 2).all()


def test_a_delayed_write_reads_no_more_than_the_slice_that_it_needs(tmp_path: Path):
    source = Recording(VOLUME)
    array = lazy_array(source, (13, -1, -1))[4:8] + 1
    dask.compute(io.write_zarr(tmp_path / "a.zarr", array, CHUNKS, compute=False))
    assert list(source.reads) == [((4, 8), (0, 40), (0, 50))]


def smooth(block: np.ndarray) -> np.ndarray:
    """Mean of three planes; the outer two are cut off by the caller."""
    return (block.astype("u4") + np.roll(block, 1, 0) + np.roll(block, -1, 0)).astype("u4") // 3


def threshold(block: np.ndarray) -> np.ndarray:
    return np.where(block > 1000, block, 0).astype("u2")


def three_stages(
    path: Path, out: Path, max_mem: Any, depth: Any = (1, 0, 0), **settings: Any
) -> None:
    source = io.read_zarr(path, chunks=(64, 128, 128))
    smoothed = da.map_overlap(smooth, source, depth=depth, boundary="nearest", dtype="u4")
    io.write_zarr(out, smoothed.map_blocks(threshold, dtype="u2"), max_mem=max_mem, **settings)


def peak_nbytes(*, reset: bool = False) -> int:
    """Give this process's highest resident memory; or start to measure, and give it now."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmRSS:" if reset else "VmHWM:")[1].split()[0]) * 1024


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An array of 640 MB, ten times what its stages may hold."""
    folder = tmp_path_factory.mktemp("large")
    shape = (320, 1000, 1000)
    plane = np.random.default_rng(42).integers(0, 2000, shape[1:]).astype("u2")

    def make(block_info: Any) -> np.ndarray:
        (start, stop), rows, columns = block_info[None]["array-location"]
        part = plane[slice(*rows), slice(*columns)]
        return (part + np.arange(start, stop, dtype="u2")[:, None, None]).astype("u2")

    data = da.map_blocks(
        make, chunks=((64,) * 5, (128,) * 7 + (104,), (256,) * 3 + (232,)), dtype="u2"
    )
    io.write_zarr(folder / "large.zarr", data, codec="lz4", max_mem="64MB", nb_workers=2)
    return folder / "large.zarr"


def expected_planes(path: Path, first: int) -> np.ndarray:
    planes = io.open(path)[first - 1 : first + 2].astype("u4")
    mean = planes.sum(axis=0) // 3
    return np.where(mean > 1000, mean, 0)


def check_planes(large: Path, out: Path) -> None:
    for first in (63, 64, 200):
        assert (io.open(out)[first] == expected_planes(large, first)).all()


# A margin along z, which couples five blocks; and one around each block, which couples all.
@pytest.mark.slow
@pytest.mark.parametrize("depth", [(1, 0, 0), (1, 1, 1)])
def test_stages_ten_times_max_mem_keep_to_it_on_threads(large: Path, tmp_path: Path, depth: Any):
    # In a process of its own, whose memory is of this run alone.
    said = python(
        "-c",
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent.parent)!r})\n"
        "import write.test_out_of_core as t\n"
        f"t.measure_on_threads({str(large)!r}, {str(tmp_path / 'a.zarr')!r}, {depth})",
    )
    assert int(said) <= 64 * MB + 150 * MB
    check_planes(large, tmp_path / "a.zarr")


def measure_on_threads(path: str, out: str, depth: Any) -> None:
    """Print the bytes by which the peak of the stages is above what their imports take."""
    io.write_zarr(f"{out}-small", da.map_overlap(smooth, da.ones((9, 9, 9)), depth=1), (4, 4, 4))
    before = peak_nbytes(reset=True)
    three_stages(Path(path), Path(out), 64 * MB, depth, nb_workers=2)
    print(peak_nbytes() - before)


@pytest.mark.slow
@pytest.mark.cluster
def test_stages_ten_times_max_mem_keep_to_it_on_each_worker(large: Path, tmp_path: Path):
    with cluster(2, limit="256MB") as client:
        client.run(lambda: __import__("scout_dask_io.write.zarr"))
        before = client.run(peak_nbytes, reset=True)
        three_stages(large, tmp_path / "a.zarr", 64 * MB)
        peak = client.run(peak_nbytes)
    held = {worker: peak[worker] - before[worker] for worker in peak}
    print({w: f"{n / MB:.0f} MB" for w, n in held.items()})
    assert max(held.values()) <= 64 * MB + 150 * MB
    check_planes(large, tmp_path / "a.zarr")
