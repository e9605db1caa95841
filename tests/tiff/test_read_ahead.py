"""Planes on a disk are read once and in order, however many tasks take rows of each."""

from __future__ import annotations

import os
import pickle
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
from helpers import write_planes

import scout_dask_io as io
from scout_dask_io.core.chunk_buffer import ChunkBuffer
from scout_dask_io.errors import SourceChangedError
from scout_dask_io.files import system
from scout_dask_io.jobs.convert import plan_convert
from scout_dask_io.run import memory
from scout_dask_io.run.lazy import source_of
from scout_dask_io.tiff import read_ahead
from scout_dask_io.tiff.read_ahead import PageQueue
from scout_dask_io.write import arguments, unit

pytestmark = pytest.mark.skipif(not system.CAN_ASK, reason="this system is not asked to read ahead")

N = 40
DATA = np.random.default_rng(3).integers(0, 9999, (N, 96, 70)).astype("u2")
CHUNKS = (16, 16, 16)
#: So little that a plane is read in several bands.
LITTLE: dict[str, Any] = {"max_mem": 200_000, "nb_workers": 2}


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    write_planes(tmp_path / "planes", DATA, names=[f"z{z:03d}.tif" for z in range(N)])
    return tmp_path / "planes"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    real = read_ahead.ask_for

    def ask_for(fd: int, offset: int, nbytes: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        found.append((name, offset, nbytes))
        real(fd, offset, nbytes)

    monkeypatch.setattr(read_ahead, "ask_for", ask_for)
    return found


def names() -> list[str]:
    return [f"z{z:03d}.tif" for z in range(N)]


def is_open(folder: Path) -> bool:
    """Tell whether a file of a folder is open in this process."""
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}").startswith(str(folder)):
                return True
    return False


@pytest.mark.parametrize("kind", ["array", "image"])
def test_each_file_is_asked_for_once_in_order_and_opened_once_for_its_pixels(
    planes: Path,
    tmp_path: Path,
    asked: list[tuple[str, int, int]],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    lazy = io.imread_folder(planes)
    opened: Counter[str] = Counter()
    real = os.open

    def counted(path: Any, *args: Any, **kwargs: Any) -> int:
        opened[os.path.basename(str(path))] += 1
        return real(path, *args, **kwargs)

    threads = set(threading.enumerate())
    monkeypatch.setattr(os, "open", counted)
    if kind == "array":
        found = io.write_zarr(tmp_path / "a.zarr", lazy, CHUNKS, **LITTLE)
    else:
        found = io.write_ome_zarr(tmp_path / "a.ome.zarr", lazy, CHUNKS, **LITTLE)["0"]
    monkeypatch.undo()
    np.testing.assert_array_equal(found[...], DATA)
    size = (planes / "z000.tif").stat().st_size
    assert asked == [(name, 0, size) for name in names()]
    assert {name: opened[name] for name in names()} == dict.fromkeys(names(), 1)
    assert not is_open(planes)
    left = {t.name for t in set(threading.enumerate()) - threads}
    assert not [name for name in left if "read-ahead" in name]


def test_pages_of_one_raw_file_are_asked_for_one_after_another(
    tmp_path: Path, asked: list[tuple[str, int, int]]
) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", DATA)
    array = io.write_zarr(tmp_path / "a.zarr", io.imread(tmp_path / "stack.tif"), CHUNKS, **LITTLE)
    np.testing.assert_array_equal(array[...], DATA)
    offsets = [offset for _, offset, _ in asked]
    assert len(offsets) == N
    assert offsets == sorted(set(offsets))
    assert {nbytes for *_, nbytes in asked} == {DATA[0].nbytes}


def test_compressed_planes_and_headers_that_are_read_late(
    tmp_path: Path, asked: list[tuple[str, int, int]]
) -> None:
    place = tmp_path / "planes"
    place.mkdir()
    for z, plane in enumerate(DATA):
        tifffile.imwrite(place / f"z{z:03d}.tif", plane, compression="lzw", rowsperstrip=8)
    lazy = io.imread_folder(place, check="first")
    array = io.write_zarr(tmp_path / "a.zarr", lazy, CHUNKS, **LITTLE)
    np.testing.assert_array_equal(array[...], DATA)
    assert [name for name, *_ in asked] == names()


def _refuse(*args: Any) -> None:
    raise OSError(22, "Invalid argument")


@pytest.mark.parametrize("ask_for", [_refuse, None], ids=["a refusal", "an error of any kind"])
def test_what_fails_costs_nothing_but_the_order_and_leaves_nobody_waiting(
    planes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask_for: Any
) -> None:
    monkeypatch.setattr(read_ahead, "ask_for", ask_for)
    array = io.write_zarr(tmp_path / "a.zarr", io.imread_folder(planes), CHUNKS, **LITTLE)
    np.testing.assert_array_equal(array[...], DATA)


def test_a_file_that_changes_while_it_is_open_is_an_error(
    planes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = io.imread_folder(planes)
    real = read_ahead.ask_for

    def ask_for(fd: int, *args: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("z007.tif"):
            with (planes / "z007.tif").open("r+b") as file:
                file.truncate(100)
        real(fd, *args)

    monkeypatch.setattr(read_ahead, "ask_for", ask_for)
    with pytest.raises(SourceChangedError, match=r"z007\.tif"):
        io.write_zarr(tmp_path / "a.zarr", lazy, CHUNKS, **LITTLE)
    assert not (tmp_path / "a.zarr").exists()


def test_files_that_may_not_be_open_at_once_are_opened_again(
    planes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "max_open_files", lambda: 16)
    array = io.write_zarr(tmp_path / "a.zarr", io.imread_folder(planes), CHUNKS, **LITTLE)
    np.testing.assert_array_equal(array[...], DATA)


@pytest.mark.parametrize(("max_mem", "n_begun"), [("1GB", 8), (200_000, 2)])
def test_units_of_a_slab_are_begun_while_a_plane_is_waited_for_as_memory_permits(
    planes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_mem: Any, n_begun: int
) -> None:
    begun, at_work, most, lock = 0, 0, 0, threading.Lock()
    enough = threading.Event()
    real_unit, real_wait, real_put = unit._write_bands, PageQueue._wait_for, ChunkBuffer.put

    def write(*args: Any) -> None:
        nonlocal begun
        begun += 1
        if begun == n_begun:
            enough.set()
        real_unit(*args)

    def wait_for(queue: PageQueue, window: Any) -> None:
        if window.position == 3:
            assert enough.wait(30)
            assert begun == n_begun
        real_wait(queue, window)

    def put(buffer: ChunkBuffer, *args: Any) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        real_put(buffer, *args)
        with lock:
            at_work -= 1

    monkeypatch.setattr(unit, "_write_bands", write)
    monkeypatch.setattr(PageQueue, "_wait_for", wait_for)
    monkeypatch.setattr(ChunkBuffer, "put", put)
    data = io.imread_folder(planes)
    found = io.write_zarr(tmp_path / "a.zarr", data, CHUNKS, max_mem=max_mem, nb_workers=2)
    np.testing.assert_array_equal(found[...], DATA)
    assert most <= 2


def test_no_more_is_read_than_was_come_to_and_what_is_allowed_ahead(
    planes: Path, asked: list[tuple[str, int, int]]
) -> None:
    source: Any = source_of(io.imread_folder(planes))
    size = (planes / "z000.tif").stat().st_size
    queue = PageQueue(3 * size)
    try:
        assert queue.add(source.table.part(slice(0, 20))) == 0
        assert queue.add(source.table.part(slice(20, N))) == 20
        os.close(queue.open(4, source.files[4]))
    finally:
        queue.close()
    assert names()[:5] == [name for name, *_ in asked][:5]
    assert len(asked) <= 8
    os.close(queue.open(30, source.files[30]))  # closed: nobody waits


def test_a_part_that_travels_reads_by_itself(planes: Path) -> None:
    source: Any = source_of(io.imread_folder(planes))
    ahead = source.read_ahead(0)
    part = ahead.follow(source)
    copy = pickle.loads(pickle.dumps(part))
    np.testing.assert_array_equal(copy[3:5], DATA[3:5])
    np.testing.assert_array_equal(part[3:5], DATA[3:5])
    ahead.close()
    np.testing.assert_array_equal(part[9], DATA[9])


def test_the_plan_says_how_files_are_read(
    planes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(**given: Any) -> str:
        plan = plan_convert(planes, tmp_path / "a.zarr", chunks=CHUNKS, **given)
        return str(dict(plan.rows())["reads"])

    assert row(**LITTLE).endswith(", each file once, in order")
    assert row(max_mem="1GB").endswith(", each file once, in order")
    monkeypatch.setattr(arguments, "free_mem", lambda: 2 * 16 * DATA[0].nbytes - 1)
    assert ", each plane in " in row(**LITTLE)
    monkeypatch.undo()
    with dask.config.set(scheduler="processes"):
        assert row(**LITTLE).endswith(" pieces")
    io.write_zarr(tmp_path / "b.zarr", DATA, CHUNKS)
    again = plan_convert(tmp_path / "b.zarr", tmp_path / "c.zarr", chunks=(8, 8, 8))
    assert "each" not in dict(again.rows())["reads"]
    assert memory.free_mem() > 0


def test_files_are_read_whole_where_that_is_faster_than_to_ask_for_them(
    planes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[tuple[str, int, int]],
) -> None:
    monkeypatch.setattr(read_ahead, "_TRIED_NBYTES", 2**60)
    way = read_ahead.ReadingWay()
    way.reads = True
    monkeypatch.setattr(read_ahead, "ReadingWay", lambda: way)
    found = io.write_zarr(tmp_path / "a.zarr", io.imread_folder(planes), CHUNKS, nb_workers=2)
    np.testing.assert_array_equal(found[...], DATA)
    assert not asked
    assert way._nbytes[1] >= N * DATA[0].nbytes


def test_the_faster_way_is_kept_and_what_is_fast_is_asked_for() -> None:
    fast, slow = read_ahead.ReadingWay(), read_ahead.ReadingWay()
    for _ in range(9):
        fast.note(2**27, 2**27 / 2e9)
    assert not fast.reads
    fast.note(2**28, 4.0)  # what follows is not in the cache
    assert fast.reads
    slow.note(2**27, 2.0)
    assert slow.reads
    slow.note(2**27, 1.0)
    for _ in range(9):
        slow.note(2**27, 9.0)  # chosen once: what it waits for may be others
    assert slow.reads
