"""A pipeline of the kind that ``scout.io`` was written for, with our functions in its place.

Light-sheet planes are counted into a histogram, rescaled, denoised and put into a Zarr array; of
it, pools of processes compute probabilities of nuclei, make them binary, and segment them in
chunks with ghost cells. Written anew from what such a pipeline does: each step takes the paths and
arrays that the step before has left, in pools of forked processes, as is the default on Linux up
to Python 3.13, while the parent computes with dask itself. Where a caller must do otherwise than
with ``scout.io``, ``docs/from/scout.md`` says so.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import figure, make_volume, shared_data, write_planes
from tqdm import tqdm

import scout_dask_io as io

#: No step takes so long: a pool that hangs is ended then, with an error.
STEP_S = 240
DEEP = 4
BINS = np.arange(2**16 + 1)


def pooled(work: Callable[..., Any], jobs: list[Any], n: int = 2) -> list[Any]:
    """Do each job in a forked process, and show how far it is."""
    with multiprocessing.get_context("fork").Pool(n) as pool:
        coming = pool.imap(work, jobs)
        found = [coming.next(STEP_S) for _ in tqdm(jobs, disable=None)]
    figure("steps of a pipeline in forked pools", pools=1, hung=0)
    return found


@contextmanager
def computing(folder: Path) -> Iterator[None]:
    """Keep dask's threads of this process busy, as a notebook may."""
    stop = threading.Event()
    data = io.imread_folder(str(folder), 2)

    def work() -> None:
        while not stop.is_set():
            (data + 1).sum().compute()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(params=["made", "brain", "organoid"])
def planes(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a folder of planes: made, of a brain, or several of the one plane of an organoid."""
    folder = tmp_path / "planes"
    if request.param == "made":
        write_planes(folder, make_volume((9, 40, 45)))
    elif request.param == "brain":
        folder.mkdir()
        for path in sorted(shared_data("brain", "ch0").glob("*.tif"))[:9]:
            (folder / path.name).symlink_to(path)
    else:
        plane = tifffile.imread(shared_data("organoid_slice.tif"))[:200, :220]
        write_planes(folder, np.stack([np.roll(plane, k, 0) for k in range(5)]))
    return folder


def chunks_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Give chunks of several to an axis, some of them cut, and no more than a pool does soon."""
    return DEEP, max(16, shape[1] // 3), max(32, shape[2] // 3)


def paths_in(folder: Path) -> list[str]:
    return sorted(str(p) for p in folder.glob("*.tif"))


def truth(folder: Path) -> np.ndarray:
    return np.stack([tifffile.imread(p) for p in paths_in(folder)])


# preprocess: histogram, rescale, denoise, contrast, convert


def count_values(path: str) -> np.ndarray:
    return np.histogram(np.asarray(io.imread(path)), BINS)[0]


def rescale_plane(job: tuple[str, str, float, float]) -> None:
    source, target, low, high = job
    data = io.imread(source).astype("f4")
    scaled = np.clip((data - low) / (high - low), 0, 1)
    io.imsave(target, scaled.compute(), compress=1)


def denoise_plane(job: tuple[str, str]) -> None:
    source, target = job
    plane = io.imread(source).compute()
    padded = np.pad(plane, 1, mode="edge")
    rows, columns = plane.shape
    shifts = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    io.imsave(target, np.median(shifts, axis=0).astype("f4"))


def stretch_plane(job: tuple[str, str]) -> None:
    # A dask array is saved as it is, and taken block by block.
    io.imsave(job[1], np.sqrt(io.imread(job[0])), compress=3)


def convert_slab(job: tuple[list[str], Any, int]) -> None:
    paths, array, start = job
    part = paths[start : start + DEEP]
    array[start : start + len(part)] = io.imread_parallel(part, 2).compute()


def test_planes_are_counted_rescaled_denoised_and_converted_in_pools(
    planes: Path, tmp_path: Path
) -> None:
    volume, paths = truth(planes), paths_in(planes)
    with computing(planes):
        counts = sum(pooled(count_values, paths))
        np.testing.assert_array_equal(counts, np.histogram(volume, BINS)[0])
        low, high = 0.0, float(np.flatnonzero(counts)[-1])

        steps = [tmp_path / name for name in ("rescaled", "denoised", "contrast")]
        for folder in steps:
            folder.mkdir()
        names = [Path(p).name for p in paths]
        of = [[str(folder / name) for name in names] for folder in steps]
        pooled(rescale_plane, [(s, t, low, high) for s, t in zip(paths, of[0], strict=True)])
        pooled(denoise_plane, list(zip(of[0], of[1], strict=True)))
        pooled(stretch_plane, list(zip(of[1], of[2], strict=True)))
        scaled = np.clip((volume.astype("f4") - low) / (high - low), 0, 1)
        np.testing.assert_array_equal(truth(steps[0]), scaled)
        np.testing.assert_array_equal(truth(steps[2]), np.sqrt(truth(steps[1])))

        # The first plane gives shape and dtype, and children get the open array.
        first = io.imread(of[2][0])
        shape = (len(paths), *first.shape)
        array = io.new_zarr(str(tmp_path / "a.zarr"), shape, chunks_of(shape), first.dtype)
        starts = range(0, len(paths), DEEP)
        pooled(convert_slab, [(of[2], array, k) for k in starts])
    again = io.open(str(tmp_path / "a.zarr"), mode="r")
    np.testing.assert_array_equal(again[:], truth(steps[2]), strict=True)
    np.testing.assert_array_equal(io.imread_folder(str(steps[2]), 4).compute(), again[:])


# nuclei: probabilities, binary segmentation, chunks with ghost cells


def chunk_starts(shape: tuple[int, ...], chunks: tuple[int, ...]) -> list[tuple[int, ...]]:
    grid = [range(0, n, c) for n, c in zip(shape, chunks, strict=True)]
    return [(z, y, x) for z in grid[0] for y in grid[1] for x in grid[2]]


def chunk_at(start: tuple[int, ...], array: Any) -> tuple[slice, ...]:
    return tuple(slice(a, a + c) for a, c in zip(start, array.chunks, strict=True))


def ghosted(start: tuple[int, ...], array: Any, overlap: int) -> tuple[Any, Any]:
    """Give where a chunk with ghost cells lies, and where the chunk lies in it."""
    wide, inner = [], []
    for a, n, c in zip(start, array.shape, array.chunks, strict=True):
        low, high = max(0, a - overlap), min(n, a + c + overlap)
        wide.append(slice(low, high))
        inner.append(slice(a - low, min(a + c, n) - low))
    return tuple(wide), tuple(inner)


def predict_chunk(job: tuple[Any, Any, tuple[int, ...]]) -> None:
    array, probabilities, start = job
    wide, inner = ghosted(start, array, 1)
    probabilities[chunk_at(start, array)] = smooth(array[wide])[inner]


def smooth(data: np.ndarray) -> np.ndarray:
    """Average each plane with its neighbours, as far as there are."""
    data = data.astype("f4")
    out, n = data.copy(), np.full(len(data), 1, "f4")
    out[1:] += data[:-1]
    out[:-1] += data[1:]
    n[1:] += 1
    n[:-1] += 1
    return np.asarray(out / n[:, None, None], "f4")


def binarize_chunk(job: tuple[str, str, tuple[int, ...], float]) -> int:
    # Opened anew in the child, by its path.
    source, target, start, threshold = job
    probabilities: Any = io.open(source, mode="r")
    part = chunk_at(start, probabilities)
    binary = (probabilities[part] > threshold).astype("u1")
    io.open(target, mode="r+")[part] = binary
    return int(binary.sum())


inherited: dict[str, Any] = {}


def label_chunk(start: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    # What the child has of its parent, without being given it.
    binary, labels = inherited["binary"], inherited["labels"]
    part = chunk_at(start, binary)
    found = binary[part]
    labels[part] = np.where(found, np.cumsum(found).reshape(found.shape), 0)
    return start, int(np.count_nonzero(found))


def test_nuclei_are_found_in_chunks_by_pools(planes: Path, tmp_path: Path) -> None:
    volume = truth(planes)
    chunks = chunks_of(volume.shape)
    array = io.new_zarr(str(tmp_path / "data.zarr"), volume.shape, chunks, volume.dtype)
    array[:] = io.imread_folder(str(planes), 2).compute()
    probabilities = io.new_zarr_like(str(tmp_path / "prob.zarr"), array, dtype="f4")
    binary = io.new_zarr_like(str(tmp_path / "binary.zarr"), array, dtype="u1")
    labels = io.new_zarr_like(str(tmp_path / "labels.zarr"), array, dtype="u4")
    starts = chunk_starts(volume.shape, chunks)
    with computing(planes):
        pooled(predict_chunk, [(array, probabilities, start) for start in starts])
        expected = smooth(volume)
        np.testing.assert_allclose(probabilities[:], expected, rtol=1e-6)

        threshold = float(np.median(expected))
        jobs = [
            (str(tmp_path / "prob.zarr"), str(tmp_path / "binary.zarr"), start, threshold)
            for start in starts
        ]
        n_found = sum(pooled(binarize_chunk, jobs, 4))
        np.testing.assert_array_equal(binary[:], probabilities[:] > threshold)
        assert n_found == np.count_nonzero(binary[:])

        inherited.update(binary=binary, labels=labels)
        counts = dict(pooled(label_chunk, starts))
        assert sum(counts.values()) == np.count_nonzero(labels[:]) == n_found


# segment: whole volumes, and planes out of them


def segment_plane(job: tuple[str, int, str]) -> float:
    source, z, target = job
    plane = io.open(source, mode="r")[z]
    mask = plane > plane.mean()
    io.imsave(target, (mask * 255).astype("u1"), compress=1)
    return float(mask.mean())


def test_planes_of_a_stored_volume_are_segmented_in_a_pool(planes: Path, tmp_path: Path) -> None:
    volume = truth(planes)
    source = str(tmp_path / "data.zarr")
    io.write_zarr(source, io.imread_folder(str(planes), 2), chunks_of(volume.shape))
    (tmp_path / "masks").mkdir()
    targets = [str(tmp_path / "masks" / f"{z:04d}.tif") for z in range(len(volume))]
    with computing(planes):
        shares = pooled(segment_plane, [(source, z, t) for z, t in enumerate(targets)])
    expected = np.stack([plane > plane.mean() for plane in volume])
    np.testing.assert_allclose(shares, expected.mean(axis=(1, 2)))
    masks = io.imread_folder(str(tmp_path / "masks"), 2)
    np.testing.assert_array_equal(masks.compute(), expected * np.uint8(255), strict=True)


def test_an_array_that_scout_wrote_goes_on_in_a_pool(tmp_path: Path) -> None:
    legacy: Any = io.open(str(shared_data("legacy_scout.zarr")), mode="r")
    copied = io.new_zarr_like(str(tmp_path / "a.zarr"), legacy)
    starts = range(0, legacy.shape[0], legacy.chunks[0])
    pooled(_copy_slab, [(legacy, copied, k) for k in starts])
    np.testing.assert_array_equal(copied[:], truth(shared_data("brain", "ch0")))


def _copy_slab(job: tuple[Any, Any, int]) -> None:
    source, target, start = job
    part = slice(start, start + source.chunks[0])
    target[part] = source[part]


# What a caller must do otherwise, as docs/from/scout.md says


def test_what_stands_is_not_replaced_unasked(tmp_path: Path) -> None:
    io.new_zarr(str(tmp_path / "a.zarr"), (4, 4, 4), (2, 2, 2), "u2")
    with pytest.raises(FileExistsError):
        io.new_zarr(str(tmp_path / "a.zarr"), (4, 4, 5), (2, 2, 2), "u2")
    new = io.new_zarr(str(tmp_path / "a.zarr"), (4, 4, 5), (2, 2, 2), "u2", overwrite=True)
    assert new.shape == (4, 4, 5)


def test_what_is_read_is_lazy_until_numpy_asks(planes: Path) -> None:
    path = paths_in(planes)[0]
    lazy, plane = io.imread(path), tifffile.imread(path)
    assert (lazy.shape, lazy.dtype) == (plane.shape, plane.dtype.newbyteorder("="))
    np.testing.assert_array_equal(np.asarray(lazy), plane)
    np.testing.assert_array_equal(
        np.percentile(np.asarray(lazy), [1, 99]), np.percentile(plane, [1, 99])
    )
    assert float(lazy.max()) == plane.max()
    assert int((lazy > 100).sum()) == np.count_nonzero(plane > 100)
    np.testing.assert_array_equal(np.asarray(lazy[:5, 3]), plane[:5, 3])
