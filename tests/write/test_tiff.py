"""``imsave``: what is written reads back bit-equal, in bounded memory, whole or not at all."""

from __future__ import annotations

import errno
import math
import os
import threading
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from dask.array.core import normalize_chunks
from helpers import make_volume, packs_bits, python, read_ome

from scout_dask_io.errors import (
    ArgumentError,
    PathNotFoundError,
    ShapeMismatchError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.read.tiff import imread
from scout_dask_io.read.voxel_size import voxel_size
from scout_dask_io.read.zarr import read_zarr
from scout_dask_io.run.lazy import source_of
from scout_dask_io.tiff import write_layout
from scout_dask_io.tiff import writer as draft
from scout_dask_io.write import tiff as tiff_rows
from scout_dask_io.write.tiff import imsave
from scout_dask_io.write.zarr import write_zarr

DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
SHAPES = [
    (7, 9),
    (1, 1),
    (300, 17),
    (1, 40, 30),
    (5, 1, 1),
    (4, 1, 7),
    (5, 40, 3),  # grey planes three wide, or colour
    (40, 30, 4),
    (3, 40, 30),
    (2, 13, 11, 3),
    (1, 1, 4, 5),
    (2, 1, 3, 13, 11),
]


class Probe:
    """A dask array that counts how often each of its blocks is computed, and how many live."""

    def __init__(self, shape: tuple[int, ...], chunks: Any, dtype: Any = "u2") -> None:
        self.data = make_volume(shape, dtype)
        self.computed: Counter[tuple[int, ...]] = Counter()
        self.live = self.peak = 0
        lock = threading.Lock()

        def give_back() -> None:
            with lock:
                self.live -= 1

        def read(block_info: Any = None) -> np.ndarray:
            info = block_info[None]
            block = self.data[tuple(slice(*s) for s in info["array-location"])].copy()
            with lock:
                self.computed[tuple(info["chunk-location"])] += 1
                self.live += 1
                self.peak = max(self.peak, self.live)
            weakref.finalize(block, give_back)
            return block

        self.array = da.map_blocks(
            read,
            chunks=normalize_chunks(chunks, shape),
            dtype=dtype,
            meta=np.empty((0,) * len(shape), dtype),
        )

    @property
    def times(self) -> set[int]:
        """How often blocks were computed; every block with elements is in."""
        assert len(self.computed) >= math.prod(np.count_nonzero(c) for c in self.array.chunks)
        return set(self.computed.values())


def assert_reads_back(path: Path, data: np.ndarray) -> None:
    by_tifffile = tifffile.imread(path)
    assert by_tifffile.shape == data.shape
    assert by_tifffile.dtype == data.dtype.newbyteorder("=")
    np.testing.assert_array_equal(by_tifffile, data)
    ours = imread(path)
    assert ours.shape == data.shape
    assert ours.dtype == data.dtype.newbyteorder("=")
    np.testing.assert_array_equal(ours.compute(), data)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_written_reads_back(tmp_path, shape, dtype):
    data = make_volume(shape, dtype)
    for compress in (0, 1, 9):
        path = tmp_path / f"{compress}.tif"
        imsave(path, data, compress)
        assert_reads_back(path, data)
        if dtype != "?" or packs_bits():
            by_libtiff = imagecodecs.tiff_decode(path.read_bytes(), index=None)
            np.testing.assert_array_equal(by_libtiff.reshape(shape), data)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((300, 530), "u2", "YX"),
        ((3, 517, 530), "u1", "ZYX"),
        ((2, 3, 300, 270), "f4", "CZYX"),
        ((2, 2, 3, 40, 30), "i2", "TCZYX"),
        ((2, 300, 270, 3), "u1", "ZYXS"),
    ],
)
def test_the_name_of_an_ome_tiff_makes_one(tmp_path, shape, dtype, axes, lazy):
    data = make_volume(shape, dtype)
    path = tmp_path / "A.OME.tif"
    given = da.from_array(data, chunks=(*(1,) * (data.ndim - 2), 64, 64)) if lazy else data
    imsave(path, given, voxel_size=(2, 0.5, 0.25))
    assert_reads_back(path, data)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        (series,) = file.series
        assert series.axes == axes
        assert file.pages[0].is_tiled
        extents = [level.shape[axes.index("Y") :][:2] for level in series.levels]
        assert max(extents[-1]) <= 256
        assert [imread(path, level=n).shape for n in range(len(extents))] == [
            level.shape for level in series.levels
        ]
    assert extents == [(-(-shape[axes.index("Y")] // 2**n), -(-shape[axes.index("X")] // 2**n))
                       for n in range(len(extents))]  # fmt: skip
    pixels = read_ome(path).images[0].pixels
    extents = dict(zip(axes.replace("S", "C").lower(), shape, strict=True))
    meant_sizes = {a: extents.get(a, 1) for a in "tczyx"}
    assert {a: getattr(pixels, f"size_{a}") for a in "tczyx"} == meant_sizes
    assert (pixels.physical_size_y, pixels.physical_size_x) == (0.5, 0.25)
    assert pixels.physical_size_z == (2 if "Z" in axes else None)
    assert voxel_size(path).micrometres[1:] == (0.5, 0.25)


def test_what_an_ome_tiff_cannot_hold_is_refused_and_nothing_created(tmp_path):
    path = tmp_path / "a.ome.tiff"
    with pytest.raises(ArgumentError, match="an OME-TIFF cannot hold int64"):
        imsave(path, make_volume((2, 5, 6), "i8"))
    with pytest.raises(ArgumentError, match=r"no more axes than \(t, c, z, y, x\)"):
        imsave(path, make_volume((2, 1, 1, 2, 5, 6)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("compress", range(10))
def test_every_level_is_lossless(tmp_path, compress):
    data = make_volume((3, 50, 40))
    imsave(tmp_path / "a.tif", da.from_array(data, chunks=(2, 17, 40)), compress)
    assert_reads_back(tmp_path / "a.tif", data)


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f8"])
def test_big_endian_arrays_are_fine(tmp_path, dtype, compress):
    data = make_volume((3, 13, 11), dtype)
    imsave(tmp_path / "numpy.tif", data, compress)
    imsave(tmp_path / "dask.tif", da.from_array(data, chunks=(2, 5, 6)), compress)
    assert_reads_back(tmp_path / "numpy.tif", data)
    assert_reads_back(tmp_path / "dask.tif", data)


@pytest.mark.parametrize("compress", [0, 1])
def test_strided_arrays_and_lists_are_fine(tmp_path, compress):
    data = make_volume((6, 13, 22))
    for n, view in enumerate([data[::-2, :, ::2], data.T, np.asfortranarray(data), data[2]]):
        imsave(tmp_path / f"{n}.tif", view, compress)
        assert_reads_back(tmp_path / f"{n}.tif", view)
    imsave(str(tmp_path / "list.tif"), [[1, 2, 3], [4, 5, 6]], compress)
    assert_reads_back(tmp_path / "list.tif", np.array([[1, 2, 3], [4, 5, 6]]))


def test_a_stored_zarr_array_is_not_loaded_whole(tmp_path, monkeypatch):
    data = make_volume((6, 13, 22))
    stored = zarr.array(data, chunks=(2, 5, 22))
    imsave(tmp_path / "a.tif", stored)
    assert_reads_back(tmp_path / "a.tif", data)


@pytest.mark.parametrize("window", [1, 5_000, 2**30])
@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize(
    ("shape", "chunks", "dtype"),
    [
        ((30, 50, 40), (7, 16, 16), "u2"),
        ((50, 40), (7, 9), "u2"),
        ((20, 64, 48), (1, -1, -1), "f4"),
        ((6, 30, 20, 3), (4, 8, 8, 2), "u1"),  # colour cut apart
        ((5, 33, 20), ((2, 3), (5, 9, 1, 18), (20,)), "u2"),  # no regular steps
        ((5, 33, 20), ((2, 0, 3), (0, 16, 17, 0), (20,)), "u2"),  # empty blocks
        ((9, 33, 20), (-1, -1, -1), "?"),
        # Blocks that span two of the axes that count pages: pages come out of order.
        ((3, 12, 33, 20), (2, 5, 8, 20), "u2"),
        ((4, 5, 6, 7, 8), (3, 2, 4, 3, 5), "i2"),
    ],
    ids=str,
)
def test_a_dask_array_is_streamed_and_each_block_computed_once(
    tmp_path, monkeypatch, shape, chunks, dtype, compress, window
):
    monkeypatch.setattr(tiff_rows, "WINDOW_NBYTES", window)
    monkeypatch.setattr(write_layout, "STRIP_NBYTES", 16 * 40 * 2)
    monkeypatch.setattr(write_layout, "LEAST_STRIP_NBYTES", 40)
    probe = Probe(shape, chunks, dtype)
    imsave(tmp_path / "a.tif", probe.array, compress)
    assert_reads_back(tmp_path / "a.tif", probe.data)
    assert probe.times == {1}


@pytest.mark.parametrize("compress", [0, 1])
def test_no_more_than_a_few_blocks_live_at_one_time(tmp_path, monkeypatch, compress):
    monkeypatch.setattr(tiff_rows, "WINDOW_NBYTES", 1)
    monkeypatch.setattr(write_layout, "STRIP_NBYTES", 16 * 48 * 2)
    probe = Probe((32, 64, 48), (4, 16, 24))
    imsave(tmp_path / "a.tif", probe.array, compress)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), probe.data)
    assert probe.array.npartitions == 64
    # A row of blocks is two: those of one group, and of the last one's strips in flight.
    assert 2 <= probe.peak <= 4
    assert probe.live == 0


def test_a_window_holds_about_its_bytes(tmp_path, monkeypatch):
    probe = Probe((64, 16, 32), (1, -1, -1))
    monkeypatch.setattr(tiff_rows, "WINDOW_NBYTES", 4 * 16 * 32 * 2)
    imsave(tmp_path / "a.tif", probe.array, 0)
    # One group of four, and the last block of the group before.
    assert 4 <= probe.peak <= 5
    assert probe.times == {1}


def test_planes_cut_into_cubes_are_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_rows, "WINDOW_NBYTES", 1)
    monkeypatch.setattr(write_layout, "STRIP_NBYTES", 16 * 48 * 2)
    probe = Probe((32, 64, 48), (1, -1, -1))
    imsave(tmp_path / "a.tif", probe.array.rechunk((8, 16, 16)))
    assert_reads_back(tmp_path / "a.tif", probe.data)
    assert probe.times == {1}
    # The planes of a slab, and some of the next.
    assert probe.peak <= 2 * 8


def test_a_maximum_to_divide_by_is_computed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_rows, "WINDOW_NBYTES", 1)
    probe = Probe((32, 20, 30), (2, -1, -1))
    imsave(tmp_path / "a.tif", probe.array / probe.array.max())
    assert_reads_back(tmp_path / "a.tif", probe.data / probe.data.max())
    # Once for the maximum and once to be divided, in 16 groups.
    assert max(probe.times) == 2
    # What is read for the maximum is not kept: dask holds some blocks, not all 16.
    assert probe.peak < 12


def test_overlapping_blocks_are_computed_a_few_times_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_rows, "WINDOW_NBYTES", 1)
    probe = Probe((32, 20, 30), (2, -1, -1))
    smooth = probe.array.map_overlap(lambda b: b, depth={0: 1}, boundary="none", dtype="u2")
    imsave(tmp_path / "a.tif", smooth)
    assert_reads_back(tmp_path / "a.tif", probe.data)
    assert max(probe.times) <= 2


@pytest.mark.parametrize("scheduler", ["threads", "sync", "processes"])
def test_the_active_scheduler_is_used(tmp_path, scheduler):
    data = make_volume((6, 20, 30))
    array = da.from_array(data, chunks=(2, 10, 15)) + 1
    with dask.config.set(scheduler=scheduler):
        imsave(tmp_path / "a.tif", array)
    assert_reads_back(tmp_path / "a.tif", data + 1)


@pytest.mark.cluster
@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_cluster_computes_the_blocks(tmp_path, monkeypatch, processes):
    from distributed import Client, LocalCluster

    monkeypatch.setattr(tiff_rows, "WINDOW_NBYTES", 5_000)
    data = make_volume((20, 50, 40))
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
        ) as cluster,
        Client(cluster),
    ):
        array = da.from_array(data, chunks=(7, 16, 16))
        for n, meant in enumerate(
            [
                array,
                array + 1,
                array // (array.max() // 100 + 1),
                array.rechunk((10, 20, 20)),
                (array + 1).persist(),
                array.persist() + 2,
            ]
        ):
            imsave(tmp_path / f"{n}.tif", meant)
            assert_reads_back(tmp_path / f"{n}.tif", meant.compute())


def test_bigtiff_is_written_when_the_size_asks_for_it(tmp_path, monkeypatch):
    data = make_volume((3, 40, 30))
    monkeypatch.setattr(write_layout, "CLASSIC_NBYTES", data.nbytes)
    imsave(tmp_path / "big.tif", data)
    imsave(tmp_path / "small.tif", data[:2])
    for name, is_big in (("big.tif", True), ("small.tif", False)):
        with tifffile.TiffFile(tmp_path / name) as file:
            assert file.is_bigtiff is is_big
    assert_reads_back(tmp_path / "big.tif", data)


@pytest.mark.parametrize("lazy", [False, True])
def test_an_array_that_tiff_cannot_hold_is_refused_and_nothing_created(tmp_path, lazy):
    for data in (np.zeros((4, 5), "c8"), np.zeros(5), np.zeros((0, 5)), np.zeros(())):
        with pytest.raises(ArgumentError):
            imsave(tmp_path / "a.tif", da.from_array(data) if lazy else data)
    with pytest.raises(ArgumentError, match="got 10"):
        imsave(tmp_path / "a.tif", np.zeros((4, 5)), 10)
    with pytest.raises(ArgumentError, match="cannot hold object"):
        imsave(tmp_path / "a.tif", np.array([[1, None]]))
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_unknown_shape_is_refused(tmp_path):
    array = da.from_array(make_volume((6, 20)), chunks=3)
    with pytest.raises(ArgumentError, match=r"compute_chunk_sizes\(\)"):
        imsave(tmp_path / "a.tif", array[array[:, 0] > 5])
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_an_error_and_not_created(tmp_path):
    with pytest.raises(PathNotFoundError, match="there is no directory"):
        imsave(tmp_path / "no" / "a.tif", np.zeros((4, 5)))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_or_a_device_is_not_written_to(tmp_path):
    (tmp_path / "dir.tif").mkdir()
    os.mkfifo(tmp_path / "fifo.tif")
    with pytest.raises(TargetExistsError, match=r"dir\.tif is a directory"):
        imsave(tmp_path / "dir.tif", np.zeros((4, 5)))
    with pytest.raises(TargetExistsError, match=r"fifo\.tif is not a regular file"):
        imsave(tmp_path / "fifo.tif", np.zeros((4, 5)))
    with pytest.raises(ArgumentError, match="str or a Path"):
        imsave(17, np.zeros((4, 5)))  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir.tif", "fifo.tif"]


def test_an_existing_file_is_replaced_and_keeps_its_mode(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"old")
    path.chmod(0o640)
    data = make_volume((3, 40, 30))
    imsave(path, data)
    assert_reads_back(path, data)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_through_a_link_the_file_is_replaced_and_not_the_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.tif").symlink_to(tmp_path / "there" / "a.tif")
    data = make_volume((3, 40, 30))
    imsave(tmp_path / "link.tif", data)
    assert (tmp_path / "link.tif").is_symlink()
    assert_reads_back(tmp_path / "there" / "a.tif", data)


@pytest.mark.parametrize("compress", [0, 1])
def test_a_lazy_array_may_be_written_onto_its_own_file(tmp_path, compress):
    path = tmp_path / "a.tif"
    data = make_volume((5, 40, 30))
    tifffile.imwrite(path, data, photometric="minisblack")
    imsave(path, imread(path) + 1, compress)
    assert_reads_back(path, data + 1)


@pytest.fixture
def old_file(tmp_path):
    """An existing file; after the test it must be as it was, and alone."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, make_volume((2, 5, 6)))
    before = path.read_bytes()
    yield path
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    # Nothing is left that could still write.
    assert not [t for t in threading.enumerate() if t.name.startswith("scout-tiff")]


def failing(error: BaseException, at: int) -> da.Array:
    """Eight blocks, of which one raises."""

    def read(block_info: Any = None) -> np.ndarray:
        if block_info[None]["chunk-location"][0] == at:
            raise error
        return np.ones((2, 64, 64), "u2")

    return da.map_blocks(
        read, chunks=((2,) * 8, (64,), (64,)), dtype="u2", meta=np.empty((0,) * 3, "u2")
    )


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize("at", [0, 5, 7])
@pytest.mark.parametrize(
    "error", [ValueError("bad block"), OSError("bad disk"), KeyboardInterrupt(), SystemExit(3)]
)
def test_a_block_that_raises_leaves_the_old_file(old_file, monkeypatch, error, at, compress):
    monkeypatch.setattr(tiff_rows, "WINDOW_NBYTES", 1)
    with dask.config.set(scheduler="sync"), pytest.raises(type(error)) as caught:
        imsave(old_file, failing(error, at), compress)
    # As it was raised: not dressed up as an error of writing.
    assert not isinstance(caught.value, WriteError)


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("at", [0, 3, 15])
def test_a_full_disk_leaves_the_old_file(old_file, monkeypatch, at, lazy, compress):
    calls = iter(range(1000))
    write_all = draft._write_all

    def full(handle: Any, data: Any) -> None:
        if next(calls) == at:
            handle.write(memoryview(data)[:7])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_all(handle, data)

    monkeypatch.setattr(draft, "_write_all", full)
    data = make_volume((16, 64, 64))
    with pytest.raises(WriteError, match=r"a\.tif was not written.*No space left") as caught:
        imsave(old_file, da.from_array(data, chunks=(2, 64, 64)) if lazy else data, compress)
    assert caught.value.errno == errno.ENOSPC
    assert next(calls) == at + 1  # nothing was written after the error


@pytest.mark.parametrize("step", ["_write_directories", "_check"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
def test_a_failure_at_the_end_leaves_the_old_file(old_file, monkeypatch, step, error):
    def fail(self: draft.TiffDraft, *args: Any) -> None:
        raise error

    monkeypatch.setattr(draft.TiffDraft, step, fail)
    with pytest.raises(WriteError if isinstance(error, OSError) else KeyboardInterrupt):
        imsave(old_file, make_volume((3, 40, 30)))


def test_a_file_larger_than_allowed_leaves_the_old_file(old_file):
    # The operating system's own limit.
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(WriteError):
            imsave(old_file, np.ones((10, 200, 300), "u2"), 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_block_that_is_not_what_the_array_says_is_an_error(old_file):
    array = da.from_array(make_volume((4, 20, 30)), chunks=(2, 20, 30))
    wrong_dtype = array.map_blocks(lambda b: b.astype("f4"), dtype="u2")
    wrong_shape = array.map_blocks(lambda b: b[:, :10], dtype="u2")
    with pytest.raises(ShapeMismatchError, match=r"dtype float32, the dask array declared uint16"):
        imsave(old_file, wrong_dtype)
    with pytest.raises(ShapeMismatchError, match=r"shape \(2, 10, 30\), the dask array declared"):
        imsave(old_file, wrong_shape)


def test_a_block_of_a_narrower_dtype_than_declared_is_written_as_declared(tmp_path):
    data = make_volume((4, 20, 30), "u1")
    array = da.from_array(data, chunks=(2, 20, 30)).map_blocks(lambda b: b, dtype="u2")
    imsave(tmp_path / "a.tif", array)
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == "u2"
    np.testing.assert_array_equal(found, data)


def test_a_long_stack_streams_in_little_memory(tmp_path):
    # 100 MB of pixels through a window of 8.
    out = python(
        "-c",
        "import resource, sys\n"
        "import dask.array as da\n"
        "from scout_dask_io.write import tiff as writer\n"
        "writer.WINDOW_NBYTES = 2**23\n"
        "def save(n_planes):\n"
        "    data = da.ones((n_planes, 512, 1024), dtype='u2', chunks=(1, -1, -1))\n"
        "    writer.imsave(sys.argv[1], data)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(-save(20) + save(100))\n",
        str(tmp_path / "a.tif"),
    )
    # No more for five times the planes.
    assert int(out) * 1024 < 20e6
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 100
        assert int(file.pages[99].asarray().min()) == 1


@pytest.mark.parametrize(
    ("axes", "seen"), [("tyx", "TYX"), (("time", "y", "x"), "TYX"), ("cyx", "CYX"), (None, "ZYX")]
)
@pytest.mark.parametrize("name", ["a.ome.tif", "a.tif"])
def test_axes_that_are_given_are_those_of_the_file(
    tmp_path: Path, name: str, axes: Any, seen: str
) -> None:
    data = make_volume((5, 30, 40))
    imsave(tmp_path / name, data, voxel_size=(3, 2, 1), axes=axes)
    with tifffile.TiffFile(tmp_path / name) as tif:
        if axes is None and name == "a.tif":
            seen = "QYX"  # a file that says nothing of them
        assert tif.series[0].axes == seen
    np.testing.assert_array_equal(imread(tmp_path / name).compute(), data)


def test_planes_that_are_three_wide_are_no_colour_where_axes_say_so(tmp_path: Path) -> None:
    data = make_volume((5, 30, 3), "u1")
    imsave(tmp_path / "a.tif", data, axes="zyx")
    imsave(tmp_path / "rgb.tif", data, axes="yxs")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert (tif.series[0].axes, len(tif.pages)) == ("ZYX", 5)
    with tifffile.TiffFile(tmp_path / "rgb.tif") as tif:
        assert (tif.series[0].axes, len(tif.pages)) == ("YXS", 1)


@pytest.mark.parametrize("axes", ["yx", "zzx", "zyy", "qyx", "syx", "zcq", ("up", "y", "x")])
def test_axes_that_do_not_fit_are_refused_and_nothing_is_created(tmp_path: Path, axes: Any) -> None:
    with pytest.raises(ArgumentError, match="axes must be 3 different letters"):
        imsave(tmp_path / "a.ome.tif", make_volume((5, 30, 40)), axes=axes)
    assert not list(tmp_path.iterdir())


def test_a_stored_array_that_zarr_opened_keeps_axes_names_and_size(tmp_path: Path) -> None:
    stored = write_zarr(
        tmp_path / "a.zarr", make_volume((2, 5, 30, 40)), axes=("c", "t", "y", "x"),
        voxel_size=(None, 2, 1), attributes={"channels": ["dapi", "gfp"]},
    )  # fmt: skip
    imsave(tmp_path / "a.tif", stored)
    imsave(tmp_path / "b.tif", read_zarr(tmp_path / "a.zarr"))
    for name in ("a.tif", "b.tif"):
        lazy = imread(tmp_path / name)
        info = source_of(lazy).info
        assert (info.axes, info.names) == ("ctyx", ("dapi", "gfp"))
        assert voxel_size(lazy).micrometres == (None, 2.0, 1.0)


def test_labels_are_not_averaged_in_the_pyramid_of_an_ome_tiff(tmp_path: Path) -> None:
    data = np.kron(np.array([[2, 1000], [500, 40]], "u2"), np.ones((301, 301), "u2"))
    write_zarr(tmp_path / "a.zarr", data, attributes={"image-label": {}})
    imsave(tmp_path / "a.ome.tif", read_zarr(tmp_path / "a.zarr"))
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        levels = tif.series[0].levels
        assert len(levels) == 3
        assert {int(v) for level in levels for v in np.unique(level.asarray())} == {
            2, 40, 500, 1000,
        }  # fmt: skip
