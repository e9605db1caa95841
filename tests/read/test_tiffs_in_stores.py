"""TIFF files in object stores: as on a disk, by few ranges, and whole or an error."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
import s3fs
import tifffile
import zarr
from helpers import command, make_volume, shared_data, write_channels, write_planes
from object_store import Lab, Request, faulty_proxy, options

import scout_dask_io as io
from scout_dask_io.errors import (
    ArgumentError,
    PathNotFoundError,
    ResumeError,
    ScoutIOError,
    SourceChangedError,
    TiffReadError,
)
from scout_dask_io.files.requests import AHEAD_NBYTES
from scout_dask_io.run.lazy import source_of
from scout_dask_io.tiff import segment_reader as segments

SHAPE = (7, 300, 410)
STRIPS = {"rowsperstrip": 3, "compression": "zlib"}


@pytest.fixture
def volume() -> np.ndarray:
    return make_volume(SHAPE)


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    segments._tables.clear()
    # What s3fs tries five times five times takes it half a minute to give up.
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 2)


def upload(lab: Lab, folder: Path, under: str) -> str:
    """Put a folder into the bucket, and give its URL."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            lab.put(f"{under}/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"s3://{lab.bucket}/{under}"


def in_memory(path: Path, name: str) -> str:
    """Put a file into fsspec's memory, and give its URL."""
    fsspec.filesystem("memory").pipe_file(f"/{name}", path.read_bytes())
    return f"memory://{name}"


def planes_at(lab: Lab, tmp_path: Path, volume: np.ndarray, **imwrite: Any) -> str:
    write_planes(tmp_path / "planes", volume, **imwrite)
    return upload(lab, tmp_path / "planes", "deep/planes")


@pytest.mark.parametrize("imwrite", [{}, STRIPS], ids=["raw", "zlib"])
def test_a_folder_in_a_store_is_read_as_one_on_a_disk(
    lab: Lab, tmp_path: Path, volume: np.ndarray, imwrite: dict[str, Any]
) -> None:
    url = planes_at(lab, tmp_path, volume, **imwrite)
    lab.put("deep/planes/notes.txt", b"no plane")
    lab.put("deep/planes/.z9999.tif", b"hidden")
    lab.put("deep/planes/below/z9999.tif", b"in another folder")
    lab.fs.touch(f"{lab.bucket}/deep/planes/")  # as some programs mark a folder
    lazy = io.imread_folder(url, storage_options=lab.options)
    local = io.imread_folder(tmp_path / "planes")
    assert (lazy.shape, lazy.dtype, lazy.chunks) == (local.shape, local.dtype, local.chunks)
    np.testing.assert_array_equal(lazy.compute(), volume)
    np.testing.assert_array_equal(lazy[2:5, 17:99, ::7].compute(), volume[2:5, 17:99, ::7])
    np.testing.assert_array_equal(lazy[[6, 1], :, 5].compute(), volume[[6, 1], :, 5])
    picked = [f"{url}/z0004.tif", f"{url}/z0001.tif"]
    some = io.imread_parallel(picked, 2, storage_options=lab.options)
    np.testing.assert_array_equal(some.compute(), volume[[4, 1]])
    one = io.imread(picked[0], storage_options=lab.options)
    np.testing.assert_array_equal(one.compute(), volume[4])
    part = io.read_region(lazy, np.s_[3, 10:20])
    np.testing.assert_array_equal(part, volume[3, 10:20])


def test_channels_and_their_voxel_size_are_found_in_a_store(lab: Lab, tmp_path: Path) -> None:
    volume = make_volume((2, 3, 20, 30))
    write_channels(tmp_path / "brain", volume)
    (tmp_path / "brain" / "voxel_size.csv").write_text("4000,1800,1700\n")
    url = upload(lab, tmp_path / "brain", "brain")
    lazy = io.imread_channels(url, storage_options=lab.options)
    np.testing.assert_array_equal(lazy.compute(), volume)
    assert io.channel_names(url, storage_options=lab.options) == ["color_0", "color_1"]
    for what in (lazy, url, f"{url}/color_1"):
        given = {} if what is lazy else {"storage_options": lab.options}
        size = io.voxel_size(what, **given)
        assert size is not None
        assert size.micrometres == (4.0, 1.8, 1.7)
        assert size.source == f"{url}/voxel_size.csv"
    found = io.info(url, storage_options=lab.options)
    assert (found.kind, found.shape, found.channels) == (
        "channel dataset", (2, 3, 20, 30), ("color_0", "color_1"),
    )  # fmt: skip
    assert found.path == url
    assert found.n_files == 6


def impatient(address: str) -> dict[str, Any]:
    """Give storage_options with which the client tries once."""
    retries = {"max_attempts": 1, "mode": "standard"}
    return {**options(address), "config_kwargs": {"retries": retries}}


FLAVOURS: dict[str, tuple[Any, dict[str, Any]]] = {
    "tiles": ((70, 90), {"tile": (16, 32), "compression": "lzw"}),
    "big-endian": ((70, 90), {"byteorder": ">", "rowsperstrip": 7}),
    "big": ((70, 90), {"bigtiff": True, "predictor": True, "compression": "zlib"}),
    "colour": ((70, 90, 3), {"photometric": "rgb", "rowsperstrip": 9}),
    "planar": ((3, 70, 90), {"photometric": "rgb", "planarconfig": "separate"}),
    "jpeg": ((70, 96, 3), {"photometric": "ycbcr", "compression": "jpeg", "tile": (16, 16)}),
    "pages": ((5, 70, 90), {"photometric": "minisblack", "rowsperstrip": 8}),
    "imagej": ((5, 70, 90), {"imagej": True}),
    "ome": ((2, 5, 70, 90), {"ome": True, "metadata": {"axes": "CZYX"}, "compression": "zlib"}),
    "one strip": ((70, 90), {"rowsperstrip": 70, "compression": "zstd"}),
}


@pytest.mark.in_process
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_kind_of_file_is_read_from_a_store_as_from_a_disk(
    tmp_path: Path, flavour: str
) -> None:
    shape, imwrite = FLAVOURS[flavour]
    data = make_volume(shape, "u1" if flavour == "jpeg" else "u2")
    path = tmp_path / f"{flavour.replace(' ', '-')}.tif"
    tifffile.imwrite(path, data, **imwrite)
    url = in_memory(path, f"flavours/{path.name}")
    lazy, local = io.imread(url), io.imread(path)
    assert (lazy.shape, lazy.dtype, lazy.chunks) == (local.shape, local.dtype, local.chunks)
    np.testing.assert_array_equal(lazy.compute(), local.compute())
    crop = (
        (slice(3, 41), slice(5, 60))
        if flavour in ("colour", "jpeg")
        else (..., slice(3, 41), slice(5, 60))
    )
    np.testing.assert_array_equal(lazy[crop].compute(), local[crop].compute())
    report = io.info(url)
    assert (report.path, report.shape, report.segment) == (url, local.shape, io.info(path).segment)


@pytest.mark.in_process
def test_a_level_and_a_series_of_a_pyramid_are_read_from_a_store(tmp_path: Path) -> None:
    data = make_volume((128, 160))
    path = tmp_path / "pyramid.tif"
    with tifffile.TiffWriter(path) as tif:
        tif.write(data, subifds=1, tile=(32, 32), photometric="minisblack")
        tif.write(data[::2, ::2], subfiletype=1, tile=(32, 32), photometric="minisblack")
        tif.write(data[:40] + 1, tile=(32, 32), photometric="minisblack")
    url = in_memory(path, "pyramid.tif")
    np.testing.assert_array_equal(io.imread(url, series=1).compute(), data[:40] + 1)
    with pytest.warns(UserWarning, match="memory://pyramid.tif' holds 2 series"):
        np.testing.assert_array_equal(io.imread(url, level=1).compute(), data[::2, ::2])


class Counted:
    """The requests that go through a proxy."""

    def __init__(self, address: str, seen: list[Request]) -> None:
        self.options = options(address)
        self.seen = seen

    def took(self) -> Counter[str]:
        """Give how many requests there were of each method, and forget them; LIST is one."""
        found = Counter("LIST" if r.method == "GET" and not r.span else r.method for r in self.seen)
        self.seen.clear()
        return found


@pytest.fixture
def counted(lab: Lab) -> Any:
    seen: list[Request] = []
    with faulty_proxy(lab.address, lambda *_: None, seen) as address:
        yield Counted(address, seen)


def whole(array: da.Array) -> np.ndarray:
    return io.read_region(array, tuple(slice(0, n) for n in array.shape))


@pytest.mark.in_process
def test_a_plane_takes_one_request_to_describe_and_two_to_read(
    lab: Lab, tmp_path: Path, volume: np.ndarray, counted: Counted
) -> None:
    url = planes_at(lab, tmp_path, volume)
    lazy = io.imread_folder(url, storage_options=counted.options)
    assert counted.took() == {"LIST": 1, "GET": 7}
    np.testing.assert_array_equal(whole(lazy), volume)
    assert counted.took() == {"GET": 7}


@pytest.mark.in_process
def test_a_write_asks_twice_for_a_plane(
    lab: Lab, tmp_path: Path, volume: np.ndarray, counted: Counted
) -> None:
    url = planes_at(lab, tmp_path, volume)
    lazy = io.imread_folder(url, storage_options=counted.options)
    io.write_zarr(tmp_path / "a.zarr", lazy, (8, 16, 16), nb_workers=1)
    planes = [r.name for r in counted.seen if r.name.endswith(".tif")]
    assert len(planes) == 2 * 7
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr", mode="r")[...], volume)


@pytest.mark.in_process
@pytest.mark.parametrize("room", [1, 3])
def test_no_more_is_held_ahead_than_a_plan_has_room_for(
    lab: Lab, tmp_path: Path, volume: np.ndarray, room: int
) -> None:
    url = planes_at(lab, tmp_path, volume)
    running, most, lock = [0], [0], threading.Lock()
    both = threading.Barrier(room)

    def fault(method: str, path: str) -> None:
        if method == "GET" and path.endswith(".tif"):
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            with suppress(threading.BrokenBarrierError):
                both.wait(0.5)  # until as many are under way as may be
            with lock:
                running[0] -= 1

    with faulty_proxy(lab.address, fault) as address:
        lazy = io.imread_folder(url, 1, storage_options=options(address))
        most[0] = 0
        token = AHEAD_NBYTES.set(room * volume[0].nbytes)
        try:
            source = source_of(lazy)
            assert source is not None
            np.testing.assert_array_equal(source[:], volume)
        finally:
            AHEAD_NBYTES.reset(token)
    assert most[0] <= room


@pytest.mark.in_process
def test_a_hundred_strips_of_a_plane_are_one_request(
    lab: Lab, tmp_path: Path, volume: np.ndarray, counted: Counted
) -> None:
    url = planes_at(lab, tmp_path, volume, **STRIPS)
    lazy = io.imread_folder(url, storage_options=counted.options)
    counted.took()
    np.testing.assert_array_equal(whole(lazy), volume)
    # The tables of strips, once; and the strips.
    assert counted.took() == {"GET": 14}
    np.testing.assert_array_equal(whole(lazy), volume)
    assert counted.took() == {"GET": 7}


@pytest.mark.in_process
def test_a_directory_at_the_end_takes_one_request_more(
    lab: Lab, tmp_path: Path, counted: Counted
) -> None:
    data = make_volume((1, 300, 410))
    (path,) = write_planes(tmp_path / "planes", data, byteorder="<", **STRIPS)
    raw = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].offset
    n_tags = int.from_bytes(raw[at : at + 2], "little")
    directory = raw[at : at + 2 + 12 * n_tags + 4]
    raw += bytes(len(raw) % 2)
    raw[4:8] = len(raw).to_bytes(4, "little")
    path.write_bytes(bytes(raw + directory))
    url = upload(lab, tmp_path / "planes", "end")
    lazy = io.imread_folder(url, storage_options=counted.options)
    # Its tables have stayed where they were, in the first window.
    assert counted.took() == {"LIST": 1, "GET": 2}
    np.testing.assert_array_equal(whole(lazy), data)
    assert counted.took() == {"GET": 3}


@pytest.mark.in_process
def test_rows_of_a_plane_are_read_and_not_the_rest_of_it(
    lab: Lab, tmp_path: Path, counted: Counted
) -> None:
    data = make_volume((1, 2000, 1500))
    url = planes_at(lab, tmp_path, data, rowsperstrip=16)
    strips = tmp_path / "strips"
    write_planes(strips, data, rowsperstrip=16, compression="zlib")
    lazy = io.imread_folder(url, storage_options=counted.options)
    counted.seen.clear()
    np.testing.assert_array_equal(whole(lazy[:, 640:704]), data[:, 640:704])
    assert sum(r.nbytes for r in counted.seen) == 64 * 1500 * 2
    lazy = io.imread_folder(upload(lab, strips, "strips"), storage_options=counted.options)
    with tifffile.TiffFile(strips / "z0000.tif") as tif:
        wanted = sum(tif.pages[0].databytecounts[640 // 16 : 704 // 16])
    counted.seen.clear()
    np.testing.assert_array_equal(whole(lazy[:, 640:704]), data[:, 640:704])
    (pixels,) = [r for r in counted.seen if r.span and not r.span.startswith("bytes=0-")]
    assert pixels.nbytes == wanted
    assert sum(r.nbytes for r in counted.seen) <= wanted + 32 * 1024


@pytest.mark.in_process
def test_a_window_of_tiles_is_one_batch_of_ranges(
    lab: Lab, tmp_path: Path, counted: Counted
) -> None:
    data = make_volume((1, 1024, 2048))
    url = planes_at(lab, tmp_path, data, tile=(128, 128))
    lazy = io.imread_folder(url, storage_options=counted.options)
    counted.took()
    np.testing.assert_array_equal(whole(lazy[0, 130:700, 300:500]), data[0, 130:700, 300:500])
    asked = list(counted.seen)
    # Rows 1 to 5 of tiles, columns 2 and 3 of 16; what lies between, 14 tiles of 32 KiB, stays.
    assert sum(r.nbytes for r in asked if r.span.startswith("bytes=0-") is False) == 10 * 32768
    assert counted.took() == {"GET": 1 + 5}


@pytest.mark.in_process
def test_planes_are_fetched_at_once_and_no_more_than_nb_workers(
    lab: Lab, tmp_path: Path, volume: np.ndarray
) -> None:
    url = planes_at(lab, tmp_path, volume)
    pair, lock = threading.Barrier(2), threading.Lock()
    state = {"inside": 0, "most": 0, "wait": True}

    def fault(method: str, path: str) -> None:
        if method == "GET" and path.endswith(".tif"):
            with lock:
                state["inside"] += 1
                state["most"] = max(state["most"], state["inside"])
            if state["wait"]:
                pair.wait(timeout=30)  # breaks unless two are asked for at once
            with lock:
                state["inside"] -= 1

    with faulty_proxy(lab.address, fault) as address:
        four = [f"{url}/z{z:04d}.tif" for z in range(4)]
        lazy = io.imread_parallel(four, storage_options=options(address))
        np.testing.assert_array_equal(whole(lazy), volume[:4])
        assert state["most"] >= 2
        state |= {"wait": False, "most": 0}
        single = io.imread_parallel(four, 1, storage_options=options(address))
        np.testing.assert_array_equal(whole(single), volume[:4])
        assert state["most"] == 1


FAULTS = {"an error": 500, "throttling": 503, "a cut connection": "cut", "half an answer": "half"}


def passing(kind: Any, hit: Callable[[str], bool]) -> Any:
    """Give a fault that each object meets twice: as it is described, and as it is read."""
    met: Counter[tuple[str, str]] = Counter()

    def fault(method: str, path: str) -> Any:
        if method != "GET" or not hit(path):
            return None
        met[method, path] += 1
        return kind if met[method, path] % 2 == 1 else None

    return fault


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_faults_that_pass_are_overcome(
    lab: Lab, tmp_path: Path, volume: np.ndarray, kind: str
) -> None:
    url = planes_at(lab, tmp_path, volume, **STRIPS)
    fault = passing(FAULTS[kind], lambda path: path.endswith(("z0002.tif", "z0005.tif")))
    seen: list[Request] = []
    with faulty_proxy(lab.address, fault, seen) as address:
        lazy = io.imread_folder(url, storage_options=options(address))
        np.testing.assert_array_equal(lazy.compute(), volume)
    assert Counter(r.name for r in seen)["z0002.tif"] > 2


@pytest.mark.in_process
@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_a_store_that_stays_broken_is_an_error_that_names_the_file_and_never_zeros(
    lab: Lab, tmp_path: Path, volume: np.ndarray, kind: str
) -> None:
    url = planes_at(lab, tmp_path, volume)
    broken = {"on": False}
    tries: Counter[str] = Counter()

    def fault(method: str, path: str) -> Any:
        if not broken["on"] or not path.endswith("z0003.tif"):
            return None
        tries[method] += 1
        return FAULTS[kind]

    with faulty_proxy(lab.address, fault) as address:
        settings: dict[str, Any] = {"storage_options": impatient(address)}
        lazy = io.imread_folder(url, **settings)
        broken["on"] = True
        with pytest.raises(TiffReadError, match=rf"{url}/z0003\.tif"):
            lazy.compute()
        np.testing.assert_array_equal(lazy[:3].compute(), volume[:3])
        for missing in ("error", "fill"):
            with pytest.raises(TiffReadError, match=rf"{url}/z0003\.tif"):
                io.imread_folder(url, missing=missing, **settings)
        with pytest.raises(TiffReadError, match=rf"{url}/z0003\.tif"):
            io.scan(url, **settings)
    assert 4 <= sum(tries.values()) <= 80


@pytest.mark.in_process
@pytest.mark.slow
def test_a_store_that_is_not_there_is_asked_about_a_few_files_not_all(
    lab: Lab, tmp_path: Path
) -> None:
    url = planes_at(lab, tmp_path, make_volume((40, 8, 9)))
    asked: set[str] = set()

    def fault(method: str, path: str) -> Any:
        if path.endswith(".tif"):
            asked.add(path)
            return "cut"
        return None

    with (
        faulty_proxy(lab.address, fault) as address,
        pytest.raises(TiffReadError, match=rf"{url}/z0000\.tif.*the store does not give it"),
    ):
        io.imread_folder(url, 4, storage_options=impatient(address))
    assert len(asked) <= 8


def test_an_object_that_was_put_again_is_an_error(
    lab: Lab, tmp_path: Path, volume: np.ndarray
) -> None:
    url = planes_at(lab, tmp_path, volume)
    settings: dict[str, Any] = {"storage_options": lab.options}
    lazy = io.imread_folder(url, **settings)
    single = io.imread(f"{url}/z0002.tif", **settings)
    other = (tmp_path / "planes" / "z0003.tif").read_bytes()
    lab.put("deep/planes/z0002.tif", other)  # of the same size
    for array in (lazy, single):
        with pytest.raises(SourceChangedError, match=rf"{url}/z0002\.tif' changed"):
            array.compute()
    again = io.imread_folder(url, **settings)
    assert again.name != lazy.name
    np.testing.assert_array_equal(again[2].compute(), volume[3])
    np.testing.assert_array_equal(lazy[3:].compute(), volume[3:])
    lab.put("deep/planes/z0003.tif", other[:-1000])
    with pytest.raises(SourceChangedError, match=rf"{url}/z0003\.tif' changed"):
        lazy[3].compute()
    lab.fs.rm_file(f"{url}/z0004.tif")
    with pytest.raises(SourceChangedError, match=rf"{url}/z0004\.tif' is gone"):
        lazy[4].compute()


def test_an_object_that_is_put_again_while_it_is_read_is_an_error_not_a_mixture(
    lab: Lab, tmp_path: Path, volume: np.ndarray
) -> None:
    url = planes_at(lab, tmp_path, volume, **STRIPS)
    other = (tmp_path / "planes" / "z0003.tif").read_bytes()
    armed = {"on": False}
    asked: list[str] = []

    def fault(method: str, path: str) -> None:
        asked.append(method)
        if armed["on"] and len(asked) == 2:
            armed["on"] = False  # its tables are here, its pixels are asked for
            lab.put("deep/planes/z0002.tif", other)

    with faulty_proxy(lab.address, fault) as address:
        lazy = io.imread_folder(url, storage_options=options(address))
        asked.clear()
        armed["on"] = True
        with pytest.raises(SourceChangedError, match=rf"{url}/z0002\.tif' changed"):
            lazy[2].compute()
        assert not armed["on"]


def test_what_is_not_there_is_named(lab: Lab, tmp_path: Path, volume: np.ndarray) -> None:
    url = planes_at(lab, tmp_path, volume)
    settings: dict[str, Any] = {"storage_options": lab.options}
    for read in (io.imread_folder, io.imread_channels, io.scan, io.info):
        with pytest.raises(PathNotFoundError, match="s3://nowhere-at-all/planes"):
            read("s3://nowhere-at-all/planes", **settings)
        with pytest.raises(PathNotFoundError, match=f"s3://{lab.bucket}/empty"):
            read(f"s3://{lab.bucket}/empty", **settings)
    with pytest.raises(PathNotFoundError, match=rf"no object '{url}/z0099\.tif'"):
        io.imread(f"{url}/z0099.tif", **settings)
    with pytest.raises(PathNotFoundError, match=r"s3://nowhere-at-all/a\.tif"):
        io.imread("s3://nowhere-at-all/a.tif", **settings)
    with pytest.raises(ArgumentError, match=r"is a folder.*imread_folder"):
        io.imread(url, **settings)
    with pytest.raises(ArgumentError, match=r"z0001\.tif' is a file, not a folder.*imread"):
        io.imread_folder(f"{url}/z0001.tif", **settings)
    with pytest.raises(PathNotFoundError, match="holds no TIFF file"):
        io.imread_folder(f"s3://{lab.bucket}/deep", **settings)
    with pytest.raises(PathNotFoundError, match="has no sub-folder"):
        io.imread_channels(url, **settings)
    lab.put("text/notes.txt", b"words")
    with pytest.raises(PathNotFoundError, match=r"text holds no Zarr array .* no TIFF file"):
        io.convert(f"s3://{lab.bucket}/text", tmp_path / "a.zarr", **settings)
    assert not (tmp_path / "a.zarr").exists()


def test_what_may_not_be_read_is_named(lab: Lab, tmp_path: Path, volume: np.ndarray) -> None:
    url = planes_at(lab, tmp_path, volume)
    refused = {"what": "list-type"}

    def fault(method: str, path: str) -> Any:
        return 403 if refused["what"] in path else None

    with faulty_proxy(lab.address, fault) as address:
        settings: dict[str, Any] = {"storage_options": impatient(address)}
        for read in (io.imread_folder, io.scan):
            with pytest.raises(TiffReadError, match=rf"{url}.*PermissionError"):
                read(url, **settings)
        # Who may not list may still read a file, beside which nothing is looked for in vain.
        single = io.imread(f"{url}/z0002.tif", **settings)
        np.testing.assert_array_equal(single.compute(), volume[2])
        refused["what"] = "z0004.tif"
        with pytest.raises(TiffReadError, match=rf"{url}/z0004\.tif.*PermissionError"):
            io.imread_folder(url, missing="fill", **settings)
        (problem,) = io.scan(url, **settings).folders[0].problems
        assert (problem.path, problem.kind) == (f"{url}/z0004.tif", "unreachable")
    with pytest.raises(ScoutIOError, match="s3://closed/planes"):
        io.imread_folder("s3://closed/planes", storage_options=impatient("http://127.0.0.1:9"))


def test_damaged_files_of_a_store_are_named_filled_and_scanned(
    lab: Lab, tmp_path: Path, volume: np.ndarray
) -> None:
    url = planes_at(lab, tmp_path, volume)
    settings: dict[str, Any] = {"storage_options": lab.options}
    data = (tmp_path / "planes" / "z0002.tif").read_bytes()
    lab.put("deep/planes/z0002.tif", data[: len(data) // 2])
    lab.put("deep/planes/z0005.tif", b"")
    message = (
        rf"2 of the 7 files of '{url}' cannot be read.*'z0002\.tif' \(.*'z0005\.tif' \(it is e"
    )
    with pytest.raises(TiffReadError, match=message):
        io.imread_folder(url, **settings)
    report = io.scan(url, **settings)
    assert [(p.path, p.kind) for p in report.folders[0].problems] == [
        (f"{url}/z0002.tif", "unreadable"), (f"{url}/z0005.tif", "empty"),
    ]  # fmt: skip
    assert (report.ok, report.path, report.folders[0].n_files) == (False, url, 7)
    assert "z0005.tif (empty)" in report.render()
    assert json.loads(report.to_json())["folders"][0]["problems"][1]["path"] == f"{url}/z0005.tif"
    with pytest.warns(UserWarning, match=message):
        filled = io.imread_folder(url, missing="fill", **settings)
    expected = volume.copy()
    expected[[2, 5]] = 0
    np.testing.assert_array_equal(filled.compute(), expected)
    with pytest.warns(UserWarning, match=message):
        io.convert(url, tmp_path / "a.zarr", missing="fill", **settings)
    assert [f.file for f in io.info(tmp_path / "a.zarr").filled] == [
        f"{url}/z0002.tif", f"{url}/z0005.tif",
    ]  # fmt: skip


def test_a_source_in_a_store_travels_and_says_nothing_of_its_keys(
    lab: Lab, tmp_path: Path, volume: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="scout_dask_io")
    url = planes_at(lab, tmp_path, volume)
    given = {**lab.options, "secret": "hush-hush"}
    lazy = io.imread_folder(url, storage_options=given)
    source = source_of(lazy)
    assert source is not None
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again[1:3, 5], volume[1:3, 5])
    assert io.imread_folder(url, storage_options=lab.options).name == lazy.name
    io.write_zarr(tmp_path / "a.zarr", lazy, (4, 64, 64))
    stored = b"".join(p.read_bytes() for p in (tmp_path / "a.zarr").glob(".*"))
    tasks = [str(task) for task in dict(lazy.dask).values()]
    shown = [repr(lazy), repr(source), lazy.name, source.token, *tasks, caplog.text]
    lab.fs.rm_file(f"{url}/z0004.tif")
    with pytest.raises(SourceChangedError) as failed:
        lazy.compute()
    shown.append(str(failed.value))
    assert not any("hush" in text for text in shown)
    assert b"hush" not in stored
    assert not any("hush" in key for key in source.__dict__ if key != "_options")


@pytest.mark.in_process
def test_the_words_of_a_store_are_told_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = write_planes(tmp_path / "planes", make_volume((1, 8, 9)))
    url = in_memory(path, "told/z0.tif")
    lazy = io.imread(url, storage_options={"secret": "hush-hush"})

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("nobody is called hush-hush here")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_ranges", refuse)
    with pytest.raises(TiffReadError, match=rf"{url}.*nobody is called \*\*\* here"):
        lazy.compute()
    with pytest.raises(TiffReadError, match=rf"{url}.*nobody is called \*\*\* here"):
        io.imread_folder("memory://told", storage_options={"secret": "hush-hush"})


def test_urls_and_local_paths_are_not_mixed_up(tmp_path: Path, volume: np.ndarray) -> None:
    paths = write_planes(tmp_path / "planes", volume)
    url = in_memory(paths[0], "mixed/z0000.tif")
    with pytest.raises(ArgumentError, match=rf"{url} is a URL and {paths[1]} is not"):
        io.imread_parallel([paths[1], url])
    for read in (io.imread_folder, io.scan, io.imread_channels, io.voxel_size):
        with pytest.raises(ArgumentError, match="is a local path"):
            read(tmp_path / "planes", storage_options={"anon": True})
    np.testing.assert_array_equal(io.imread_folder(f"file://{tmp_path}/planes").compute(), volume)
    assert io.scan(f"file://{tmp_path}/planes").path == str(tmp_path / "planes")
    with pytest.raises(ArgumentError, match="TIFF files go to disks alone"):
        io.imsave("memory://mixed/out.tif", volume)


def test_planes_of_a_store_go_to_a_disk_and_to_a_store_and_are_verified(
    lab: Lab, tmp_path: Path, volume: np.ndarray
) -> None:
    url = planes_at(lab, tmp_path, volume, **STRIPS)
    settings: dict[str, Any] = {"storage_options": lab.options}
    chunks = (4, 128, 256)
    plan = io.convert(url, tmp_path / "a.zarr", chunks=chunks, **settings)
    assert plan.shape == SHAPE
    np.testing.assert_array_equal(io.open(tmp_path / "a.zarr", mode="r")[...], volume)
    assert io.verify(url, tmp_path / "a.zarr", **settings).equal
    out = f"s3://{lab.bucket}/deep/a.zarr"
    io.convert(url, out, chunks=chunks, **settings)
    np.testing.assert_array_equal(lab.by_zarr(), volume)
    assert io.verify(url, out, **settings).equal
    lazy = io.imread_folder(url, **settings)
    delayed = io.write_zarr(tmp_path / "b.zarr", lazy, chunks, compute=False)
    assert not (tmp_path / "b.zarr").exists()
    dask.compute(delayed)
    np.testing.assert_array_equal(io.open(tmp_path / "b.zarr", mode="r")[...], volume)
    image = io.preview(url, **settings)
    assert image.shape == SHAPE
    np.testing.assert_array_equal(image.image, io.preview(tmp_path / "planes").image)
    with pytest.raises(ArgumentError, match="lie in each other"):
        io.convert(url, f"{url}/a.zarr", **settings)
    assert io.scan(url, **settings).ok


@pytest.mark.in_process
def test_an_image_and_a_sheet_are_made_of_planes_in_a_store_of_any_kind(tmp_path: Path) -> None:
    volume = make_volume((6, 90, 110))
    for path in write_planes(tmp_path / "planes", volume):
        in_memory(path, f"any/planes/{path.name}")
    for target in (tmp_path / "a.ome.zarr", "memory://any/a.ome.zarr"):
        io.convert("memory://any/planes", target, ome=True, levels=2, chunks=(4, 32, 32))
        assert io.verify("memory://any/planes", target).equal
        assert [level.shape for level in io.info(target).levels] == [(6, 90, 110), (3, 45, 55)]
    io.convert("memory://any/planes", tmp_path / "b.zarr", qc=True)
    assert io.verify(tmp_path / "planes", tmp_path / "b.zarr").equal
    with pytest.raises(PathNotFoundError, match="no object 'memory://any/planes/none"):
        io.imread("memory://any/planes/none.tif")


@pytest.mark.in_process
def test_a_conversion_from_a_store_is_resumed_from_the_same_objects_alone(
    lab: Lab, tmp_path: Path, volume: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import scout_dask_io.core.plan as planning

    monkeypatch.setattr(planning, "UNIT_NBYTES", 4 * 64 * 410 * 2)
    monkeypatch.setattr("scout_dask_io.tiff.source.STORE_BAND_NBYTES", 4 * 64 * 410 * 2)
    url = planes_at(lab, tmp_path, volume)
    down = {"after": 18}
    gets: list[str] = []

    def fault(method: str, path: str) -> Any:
        if method == "GET" and path.endswith(".tif"):
            gets.append(path)
        return 500 if len(gets) > down["after"] else None

    target = tmp_path / "a.zarr"
    how: dict[str, Any] = {"chunks": (4, 64, 128), "nb_workers": 1}
    with faulty_proxy(lab.address, fault) as address:
        broken: dict[str, Any] = {**how, "storage_options": impatient(address)}
        with pytest.raises(TiffReadError, match=rf"{url}/z0"):
            io.convert(url, target, **broken)
        assert not target.exists()
    how |= {"storage_options": lab.options, "resume": True}
    last = (tmp_path / "planes" / "z0006.tif").read_bytes()
    lab.put("deep/planes/z0006.tif", (tmp_path / "planes" / "z0005.tif").read_bytes())
    with pytest.raises(ResumeError, match="source"):
        io.convert(url, target, **how)
    lab.put("deep/planes/z0006.tif", last)  # what it holds counts, not when it was put
    report = io.convert(url, target, **how)
    assert 0 < report.n_resumed < report.n_units
    np.testing.assert_array_equal(io.open(target, mode="r")[...], volume)


def test_the_brain_goes_from_planes_in_a_store_to_zarr_in_it_and_back(
    lab: Lab, tmp_path: Path
) -> None:
    brain = shared_data("brain", "ch0")
    url = upload(lab, brain, "brain/ch0")
    settings: dict[str, Any] = {"storage_options": lab.options}
    lazy, local = io.imread_folder(url, **settings), io.imread_folder(brain)
    assert (
        (lazy.shape, lazy.dtype) == (local.shape, local.dtype) == ((30, 510, 667), np.dtype("u2"))
    )
    out = f"s3://{lab.bucket}/deep/a.zarr"
    io.convert(url, out, chunks=(30, 256, 384), **settings)
    assert io.verify(brain, out, **settings).equal
    np.testing.assert_array_equal(io.read_zarr(out, **settings).compute(), local.compute())
    assert (io.voxel_size(lazy), io.voxel_size(local)) == (None, None)  # as ImageJ left them


def test_the_command_line_takes_urls_of_planes(lab: Lab, tmp_path: Path) -> None:
    volume = make_volume((5, 30, 41))
    url = planes_at(lab, tmp_path, volume)
    given = []
    for key in ("key", "secret", "endpoint_url"):
        given += ["--storage-option", f"{key}={lab.options[key]}"]
    assert f"{url} can be read whole" in command("scan", url, *given)
    assert json.loads(command("scan", url, "--json", *given))["folders"][0]["n_files"] == 5
    assert "folder of planes" in command("info", url, *given)
    assert json.loads(command("info", url, "--json", *given))["path"] == url
    target = str(tmp_path / "a.zarr")
    command("convert", url, target, "--chunks", "4,8,16", *given)
    np.testing.assert_array_equal(io.open(target, mode="r")[...], volume)
    assert "equal" in command("verify", url, target, *given)
    command("preview", url, str(tmp_path / "p.png"), *given)
    assert (tmp_path / "p.png").stat().st_size > 100


@pytest.mark.cluster
@pytest.mark.slow
def test_a_cluster_reads_planes_from_a_store(lab: Lab, tmp_path: Path, volume: np.ndarray) -> None:
    from clusters import cluster

    url = planes_at(lab, tmp_path, volume, **STRIPS)
    settings: dict[str, Any] = {"storage_options": lab.options}
    with cluster(2):
        lazy = io.imread_folder(url, **settings)
        np.testing.assert_array_equal((lazy + 1).compute(), volume + 1)
        io.convert(url, tmp_path / "a.zarr", chunks=(4, 64, 128), **settings)
        np.testing.assert_array_equal(io.open(tmp_path / "a.zarr", mode="r")[...], volume)
        assert io.verify(url, tmp_path / "a.zarr", **settings).equal
        lab.put("deep/planes/z0002.tif", (tmp_path / "planes" / "z0003.tif").read_bytes())
        with pytest.raises(SourceChangedError, match=r"z0002\.tif"):
            lazy.compute()
