"""Readers give lazy arrays with the right shape, blocks, names and errors."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
from helpers import make_volume, shared_data, write_channels, write_planes

from scout_dask_io.errors import (
    ArgumentError,
    ChunkError,
    PathNotFoundError,
    ShapeMismatchError,
    SourceChangedError,
    TiffReadError,
)
from scout_dask_io.read.channels import channel_names, imread_channels
from scout_dask_io.read.tiff import imread, imread_folder, imread_parallel
from scout_dask_io.run.lazy import source_of
from scout_dask_io.tiff import open_file as files
from scout_dask_io.tiff.source import TiffSource


@pytest.fixture
def volume() -> np.ndarray:
    return make_volume((11, 45, 37))


@pytest.fixture
def folder(tmp_path, volume) -> Path:
    write_planes(tmp_path / "planes", volume)
    return tmp_path / "planes"


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Record the name of the file of every read."""
    seen: list[str] = []
    real = files.read_at

    def record(fd: int, offset: int, out: memoryview) -> int:
        seen.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        return real(fd, offset, out)

    monkeypatch.setattr(files, "read_at", record)
    return seen


def test_a_folder_is_one_lazy_array_of_one_block_a_file(folder, volume):
    lazy = imread_folder(folder)
    assert isinstance(lazy, da.Array)
    assert lazy.shape == (11, 45, 37)
    assert lazy.dtype == np.dtype("u2")
    assert lazy.chunks == ((1,) * 11, (45,), (37,))
    np.testing.assert_array_equal(lazy.compute(), volume)
    np.testing.assert_array_equal(np.asarray(lazy), volume)


@pytest.mark.in_process
def test_no_pixel_is_read_before_it_is_computed(folder, volume, reads):
    lazy = imread_folder(folder)
    assert len(reads) == 11  # one read a header
    sub = lazy[3:5, 10:20] + 1
    assert len(reads) == 11
    np.testing.assert_array_equal(sub.compute(), volume[3:5, 10:20] + 1)
    assert sorted(reads[11:]) == ["z0003.tif", "z0004.tif"]


@pytest.mark.in_process
@pytest.mark.parametrize("options", [{}, {"compression": "lzw", "rowsperstrip": 5}])
def test_a_slice_of_a_built_array_reads_only_its_rows(tmp_path, volume, options, monkeypatch):
    write_planes(tmp_path / "p", volume, **options)
    lazy = imread_folder(tmp_path / "p")
    lazy[:1].compute()
    asked: list[tuple[int, int]] = []
    real = files.read_at

    def record(fd: int, offset: int, out: memoryview) -> int:
        asked.append((offset, len(out)))
        return real(fd, offset, out)

    lazy[:].compute()  # segment tables are known from here on
    monkeypatch.setattr(files, "read_at", record)
    np.testing.assert_array_equal(lazy[:, 12:19].compute(), volume[:, 12:19])
    with tifffile.TiffFile(tmp_path / "p" / "z0000.tif") as tif:
        page = tif.pages.first
        if options:
            low = page.dataoffsets[2]
            high = page.dataoffsets[3] + page.databytecounts[3]
        else:
            low = page.dataoffsets[0] + 12 * 37 * 2
            high = low + 7 * 37 * 2
    assert len(asked) == 11
    assert (low, high - low) in asked
    if not options:
        assert set(asked) == {(low, high - low)}


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((4, 16, -1), ((4, 4, 3), (16, 16, 13), (37,))),
        (20, ((11,), (20, 20, 5), (20, 17))),
        (-1, ((11,), (45,), (37,))),
        ({1: 10}, ((11,), (10, 10, 10, 10, 5), (37,))),
        (((5, 6), (45,), (30, 7)), ((5, 6), (45,), (30, 7))),
        ((3, "auto", -1), ((3, 3, 3, 2), (45,), (37,))),
    ],
)
def test_chunks_in_any_form_are_read_straight_from_the_files(folder, volume, chunks, expected):
    lazy = imread_folder(folder, chunks=chunks)
    assert lazy.chunks == expected
    assert len(lazy.dask) == np.prod(lazy.numblocks)
    np.testing.assert_array_equal(lazy.compute(), volume)


def test_chunks_that_do_not_fit_are_an_error(folder):
    with pytest.raises(ChunkError, match=r"chunks=.*\(11, 45, 37\)"):
        imread_folder(folder, chunks=(4, 4))


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_every_scheduler_computes_the_same(folder, volume, scheduler, processes):
    settings = processes if scheduler == "processes" else {"scheduler": scheduler}
    with dask.config.set(settings, num_workers=2):
        lazy = imread_folder(folder, 2, chunks=(4, 20, 30))
        np.testing.assert_array_equal((lazy + 1).compute(), volume + 1)


def test_lazy_arrays_pickle(folder, volume):
    again = pickle.loads(pickle.dumps(imread_folder(folder, 3)))
    np.testing.assert_array_equal(again.compute(), volume)


def test_names_change_with_the_files_and_only_then(folder, volume):
    first = imread_folder(folder)
    assert imread_folder(folder).name == first.name
    assert imread_parallel(sorted(folder.iterdir())).name == first.name
    assert imread_folder(folder, chunks=20).name != first.name
    tifffile.imwrite(folder / "z0004.tif", volume[4] + 1)
    again = imread_folder(folder)
    assert again.name != first.name
    np.testing.assert_array_equal(again[4].compute(), volume[4] + 1)
    with pytest.raises(SourceChangedError, match=r"z0004\.tif"):
        first[4].compute()
    np.testing.assert_array_equal(first[5].compute(), volume[5])


def test_a_relative_path_still_reads_after_the_directory_changed(folder, volume, monkeypatch):
    monkeypatch.chdir(folder.parent)
    lazy = imread_folder("planes")
    plane = imread("planes/z0003.tif")
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(lazy.compute(), volume)
    np.testing.assert_array_equal(plane.compute(), volume[3])


def test_a_list_keeps_its_order_and_may_repeat(folder, volume):
    picks = [7, 2, 2, 10]
    lazy = imread_parallel((folder / f"z{k:04d}.tif" for k in picks), chunks=(4, -1, -1))
    assert lazy.chunks[0] == (4,)
    np.testing.assert_array_equal(lazy.compute(), volume[picks])


def test_alphabetical_order_is_kept_with_a_warning_and_natural_order_is_offered(tmp_path):
    volume = make_volume((12, 4, 5))
    write_planes(tmp_path, volume, names=[f"z{z}.tif" for z in range(12)])
    with pytest.warns(UserWarning, match="natural") as caught:
        lazy = imread_folder(tmp_path)
    assert caught[0].filename == __file__
    alphabetical = sorted(range(12), key=str)
    np.testing.assert_array_equal(lazy.compute(), volume[alphabetical])
    np.testing.assert_array_equal(imread_folder(tmp_path, order="natural").compute(), volume)


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2", np.nan])
def test_nb_workers_is_none_or_a_positive_int(folder, bad):
    for read, path in [
        (imread_folder, folder),
        (imread_parallel, sorted(folder.iterdir())),
        (imread_channels, folder.parent),
    ]:
        with pytest.raises(ArgumentError, match="nb_workers must be None or a positive int"):
            read(path, bad)


def test_nb_workers_bounds_the_reads_of_one_array(folder, monkeypatch, volume):
    lazy = imread_folder(folder, 2)
    real, lock, pair = files.read_at, threading.Lock(), threading.Barrier(2)
    now, most, rest = 0, 0, 10

    def counted(fd: int, offset: int, out: memoryview) -> int:
        nonlocal now, most, rest
        with lock:
            now += 1
            rest -= 1
            most = max(most, now)
            wait = rest >= 0
        if wait:
            pair.wait(timeout=30)  # breaks unless two readers are inside at once
        got = real(fd, offset, out)
        with lock:
            now -= 1
        return got

    monkeypatch.setattr(files, "read_at", counted)
    with dask.config.set(scheduler="threads", num_workers=8):
        np.testing.assert_array_equal(lazy.compute(), volume)
    assert most == 2


def test_channels_are_the_first_axis_with_their_names(tmp_path):
    volume = make_volume((3, 5, 20, 30))
    names = ["b_red", "a_green", "c_blue"]
    write_channels(tmp_path, volume, names=names)
    (tmp_path / ".cache").mkdir()
    lazy = imread_channels(tmp_path)
    assert channel_names(tmp_path) == ["a_green", "b_red", "c_blue"]
    assert lazy.shape == (3, 5, 20, 30)
    assert lazy.chunks == ((1, 1, 1), (1,) * 5, (20,), (30,))
    np.testing.assert_array_equal(lazy.compute(), volume[[1, 0, 2]])
    cubes = imread_channels(tmp_path, 2, chunks=(3, 4, 16, 16))
    np.testing.assert_array_equal(cubes.compute(), volume[[1, 0, 2]])
    source = source_of(cubes)
    assert isinstance(source, TiffSource)
    part, _ = source.narrow((slice(0, 3), slice(4, 5), slice(0, 20), slice(0, 30)))
    assert [Path(f.path).parent.name for f in part.files] == channel_names(tmp_path)


def test_channels_that_do_not_fit_are_named(tmp_path):
    volume = make_volume((2, 5, 20, 30))
    folders = write_channels(tmp_path, volume)
    (folders[1] / "z0004.tif").unlink()
    with pytest.raises(ShapeMismatchError, match="'color_0' has 5, 'color_1' has 4"):
        imread_channels(tmp_path)
    write_planes(folders[1], make_volume((5, 20, 31)))
    with pytest.raises(ShapeMismatchError, match=r"5 of the 10 files.*color_1.z0000\.tif.*20 x 31"):
        imread_channels(tmp_path)
    write_planes(folders[1], make_volume((5, 20, 30), "u1"))
    with pytest.raises(ShapeMismatchError, match=r"color_1.z0000\.tif.*uint8.*uint16"):
        imread_channels(tmp_path)


def test_wrong_paths_say_what_to_do(folder, tmp_path):
    plane = folder / "z0000.tif"
    with pytest.raises(ArgumentError, match=r"is a folder.*imread_folder"):
        imread(folder)
    with pytest.raises(ArgumentError, match=r"is a file.*imread"):
        imread_folder(plane)
    with pytest.raises(ArgumentError, match="single path"):
        imread_parallel(str(plane))
    with pytest.raises(ArgumentError, match="is a file"):
        imread_channels(plane)
    with pytest.raises(PathNotFoundError, match=r"no sub-folder.*imread_folder"):
        imread_channels(folder)
    with pytest.raises(PathNotFoundError, match="list of paths is empty"):
        imread_parallel([])
    for call in (imread, imread_folder, imread_channels, channel_names):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            call(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        imread_parallel([plane, tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(PathNotFoundError, match="holds no"):
        imread_folder(tmp_path / "empty")
    with pytest.raises(TiffReadError, match="not a regular file"):
        imread("/dev/null")


def test_a_page_is_a_block_of_imread(tmp_path):
    stack = make_volume((2, 3, 20, 30))
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, imagej=True)
    lazy = imread(path)
    assert lazy.shape == (2, 3, 20, 30)
    assert lazy.chunks == ((1, 1), (1, 1, 1), (20,), (30,))
    np.testing.assert_array_equal(lazy.compute(), stack)
    np.testing.assert_array_equal(imread(path, chunks=-1).compute(), stack)


def test_real_planes_are_read_in_native_byte_order():
    paths = sorted(shared_data("brain", "ch0").glob("*.tif"))
    expected = np.stack([tifffile.imread(p) for p in paths])
    lazy = imread_folder(paths[0].parent, chunks=(16, 256, -1))
    data = lazy.compute()
    assert data.dtype == lazy.dtype == np.dtype("=u2")
    assert data.dtype.isnative
    np.testing.assert_array_equal(data, expected)


def test_the_real_dataset_has_two_channels():
    lazy = imread_channels(shared_data("brain"))
    assert lazy.shape == (2, 30, 510, 667)
    for c, name in enumerate(channel_names(shared_data("brain"))):
        expected = imread_folder(shared_data("brain", name))
        assert bool((lazy[c] == expected).all().compute())
