"""``verify`` against numpy: what is equal, what differs, and where."""

from __future__ import annotations

import json
import math
import os
import threading
import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, shared_data, write_channels, write_planes
from hypothesis import given, settings
from hypothesis import strategies as st

from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    MemoryLimitError,
    PathNotFoundError,
)
from scout_dask_io.jobs import verify as compare
from scout_dask_io.jobs import verify as module
from scout_dask_io.jobs.verify import verify
from scout_dask_io.read.any import open_any
from scout_dask_io.store.create import new_zarr

SHAPE, CHUNKS = (13, 37, 41), (4, 16, 16)


def stored(path: Path, data: np.ndarray, chunks=CHUNKS, **settings) -> Path:
    new_zarr(path, data.shape, chunks, data.dtype, **settings)[...] = data
    return path


@pytest.fixture
def planes(tmp_path: Path) -> tuple[Path, np.ndarray]:
    data = make_volume(SHAPE)
    write_planes(tmp_path / "planes", data)
    return tmp_path / "planes", data


@pytest.mark.parametrize("kind", ["file", "folder", "channels", "zarr", "v3", "flat"])
def test_every_kind_of_source_equals_the_array_made_of_it(tmp_path: Path, kind: str):
    data = make_volume((2, *SHAPE) if kind == "channels" else SHAPE)
    src = tmp_path / "src"
    if kind == "file":
        src = tmp_path / "src.tif"
        tifffile.imwrite(src, data, photometric="minisblack", compression="zlib", tile=(16, 16))
    elif kind == "folder":
        write_planes(src, data, byteorder=">")
    elif kind == "channels":
        write_channels(src, data)
    elif kind == "v3":
        stored(src, data, (5, 7, 9), zarr_format=3)
    else:
        stored(src, data, (5, 7, 9), dimension_separator="." if kind == "flat" else "/")
    dst = stored(tmp_path / "dst", data, (1, *CHUNKS) if kind == "channels" else CHUNKS)
    report = verify(src, dst)
    assert report.equal
    assert (report.mismatch, report.n_differing, report.n_regions, report.regions) == ("", 0, 0, ())
    assert (report.shape, report.dtype) == (data.shape, "uint16")
    assert (report.n_voxels, report.nbytes) == (data.size, data.nbytes)
    assert (report.src, report.dst) == (str(src), str(dst))


def test_one_voxel_is_found_with_its_chunk_and_both_values(tmp_path: Path, planes):
    src, data = planes
    changed = data.copy()
    changed[12, 36, 40] += 5
    report = verify(src, stored(tmp_path / "dst", changed))
    assert not report.equal
    assert (report.n_differing, report.n_regions, report.n_voxels) == (1, 1, data.size)
    (found,) = report.regions
    assert found.region == (slice(12, 13), slice(32, 37), slice(32, 41))
    assert (found.index, found.n_differing) == ((12, 36, 40), 1)
    assert found.src_value == data[12, 36, 40]
    assert found.dst_value == data[12, 36, 40] + 5


@settings(max_examples=15)
@given(data=st.data())
def test_counts_and_regions_are_those_of_numpy(tmp_path_factory, data):
    shape = data.draw(st.tuples(*[st.integers(1, 20)] * data.draw(st.integers(1, 4))))
    chunks = data.draw(st.tuples(*[st.integers(1, 9)] * len(shape)))
    seed, limit = data.draw(st.integers(0, 99)), data.draw(st.integers(0, 5))
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 9, shape, dtype="u1")
    b = a + (rng.random(shape) < data.draw(st.sampled_from([0, 0.02, 0.5]))).astype("u1")
    folder = tmp_path_factory.mktemp("verify")
    src = stored(folder / "src", a, tuple(max(1, n // 2) for n in shape))
    report = verify(src, stored(folder / "dst", b, chunks), limit=limit, nb_workers=1)
    expected = []
    for ind in np.ndindex(*(math.ceil(n / c) for n, c in zip(shape, chunks, strict=True))):
        region = tuple(
            slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(ind, chunks, shape, strict=True)
        )
        count = int((a[region] != b[region]).sum())
        if count:
            expected.append((region, count))
    assert report.n_differing == (a != b).sum()
    assert report.n_regions == len(expected)
    assert [(r.region, r.n_differing) for r in report.regions] == expected[:limit]
    for r in report.regions:
        assert all(s.start <= i < s.stop for s, i in zip(r.region, r.index, strict=True))
        assert (r.src_value, r.dst_value) == (a[r.index], b[r.index])
        assert r.src_value != r.dst_value


@pytest.mark.parametrize("scheduler", ["threads", "synchronous", "processes"])
def test_the_answer_is_the_same_on_every_scheduler(
    tmp_path: Path, planes, scheduler: str, processes: dict[str, Any]
):
    src, data = planes
    changed = data.copy()
    changed[5:7, 3] ^= 1
    dst = stored(tmp_path / "dst", changed)
    settings = processes if scheduler == "processes" else {"scheduler": scheduler}
    with dask.config.set(settings):
        report = verify(src, dst)
    assert (report.n_differing, report.n_regions) == (2 * 41, 3)
    assert [r.region[2].start for r in report.regions] == [0, 16, 32]


def test_a_shape_or_dtype_that_differs_is_the_answer_and_nothing_is_read(
    tmp_path, planes, monkeypatch
):
    src, data = planes
    monkeypatch.setattr(module, "compare", None)
    for name, other, text in (
        ("shape", data[:-1], "the shape differs: (13, 37, 41) in"),
        ("dtype", data.astype("i4"), "the dtype differs: uint16 in"),
    ):
        report = verify(src, stored(tmp_path / name, other))
        assert not report.equal
        assert report.mismatch.startswith(text)
        assert str(tmp_path / name) in report.mismatch
        assert (report.n_voxels, report.n_differing, report.regions) == (0, 0, ())


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16"])
def test_floats_are_compared_by_their_bytes(tmp_path: Path, dtype: str):
    a = np.ones((5, 6), dtype)
    a[0, 0] = a[4, 5] = np.nan
    a[2, 3] = 0.0
    same = verify(stored(tmp_path / "a", a, (2, 4)), stored(tmp_path / "b", a.copy(), (3, 3)))
    assert same.equal
    b = a.copy()
    b[2, 3] = -0.0
    report = verify(tmp_path / "a", stored(tmp_path / "c", b, (3, 3)))
    assert (report.n_differing, report.regions[0].index) == (1, (2, 3))
    report = verify(tmp_path / "a", stored(tmp_path / "d", np.nan_to_num(a), (3, 3)))
    assert report.n_differing == 2


@pytest.mark.parametrize("dtype", ["?", "i1", "u4", ">u2", "i8"])
def test_other_dtypes_and_byte_orders(tmp_path: Path, dtype: str):
    a = make_volume(SHAPE, dtype)
    src = stored(tmp_path / "a", a.astype(a.dtype.newbyteorder("<")))
    assert verify(src, stored(tmp_path / "b", a)).equal
    b = a.copy()
    b[3, 4, 5] = not b[3, 4, 5]
    assert verify(src, stored(tmp_path / "c", b)).regions[0].index == (3, 4, 5)


@pytest.mark.parametrize("shape", [(), (1,), (0, 5), (5, 0, 3)])
def test_arrays_without_axes_or_elements(tmp_path: Path, shape):
    a = np.ones(shape, "u2")
    chunks = (2,) * len(shape)
    report = verify(stored(tmp_path / "a", a, chunks), stored(tmp_path / "b", a, chunks))
    assert report.equal
    assert report.n_voxels == a.size
    if a.size:
        other = verify(tmp_path / "a", stored(tmp_path / "c", a + 1, chunks))
        assert (other.n_differing, other.regions[0].src_value, other.regions[0].dst_value) == (
            1,
            1,
            2,
        )


def test_a_missing_chunk_is_the_fill_value(tmp_path: Path, planes):
    src, data = planes
    dst = stored(tmp_path / "dst", data)
    os.unlink(dst / "1" / "1" / "1")
    report = verify(src, dst)
    assert report.n_regions == 1
    assert report.regions[0].region == (slice(4, 8), slice(16, 32), slice(16, 32))
    assert report.regions[0].dst_value == 0


def test_a_damaged_chunk_is_an_error_that_names_its_file(tmp_path: Path, planes):
    src, data = planes
    dst = stored(tmp_path / "dst", data)
    (dst / "1" / "1" / "1").write_bytes(b"garbage")
    with pytest.raises(ChunkReadError, match="1/1/1"):
        verify(src, dst)


def test_order_is_passed_on(tmp_path: Path):
    data = make_volume((11, 20, 30))
    write_planes(tmp_path / "planes", data, names=[f"z{k}.tif" for k in range(11)])
    dst = stored(tmp_path / "dst", data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert verify(tmp_path / "planes", dst, order="natural").equal
    with pytest.warns(UserWarning, match="z10") as warned:
        report = verify(tmp_path / "planes", dst)
    assert len(warned) == 1
    assert not report.equal
    assert report.regions[0].region[0].start == 0


def test_json_holds_the_verdict_and_the_regions(tmp_path: Path, planes):
    src, data = planes
    changed = data.copy()
    changed[0, 0, 1] += 1
    found = json.loads(verify(src, stored(tmp_path / "dst", changed)).to_json())
    assert (found["equal"], found["n_differing"]) == (False, 1)
    assert found["regions"][0]["region"] == [[0, 4], [0, 16], [0, 16]]
    assert found["regions"][0]["index"] == [0, 0, 1]


def test_progress_counts_every_byte_once(tmp_path: Path, planes):
    src, data = planes
    seen = []
    verify(src, stored(tmp_path / "dst", data), progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (seen[-1][1], seen[-1][1], data.nbytes)
    assert [done for done, _, _ in seen] == list(range(len(seen)))


def test_no_more_regions_than_workers_are_in_hand_and_none_is_large(tmp_path, monkeypatch):
    data = make_volume((40, 256, 256))
    src = stored(tmp_path / "src", data, (8, 64, 64))
    dst = stored(tmp_path / "dst", data, (8, 64, 64))
    lock, now, peak, sizes = threading.Lock(), 0, 0, []
    differs = compare._differs

    def counting(a, b):
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
            sizes.append(a.nbytes)
        try:
            return differs(a, b)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(compare, "_differs", counting)
    assert verify(src, dst, nb_workers=2, max_mem="3MB").equal
    assert peak <= 2
    assert sum(sizes) == data.nbytes
    assert max(sizes) * 2 * 3 <= 3_000_000


def test_what_does_not_fit_in_memory_is_refused(tmp_path: Path, planes):
    src, data = planes
    dst = stored(tmp_path / "dst", data)
    with pytest.raises(MemoryLimitError):
        verify(src, dst, max_mem=1000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": -1},
        {"limit": True},
        {"limit": 1.5},
        {"nb_workers": 0},
        {"nb_workers": True},
        {"max_mem": "much"},
        {"order": "random"},
    ],
)
def test_a_wrong_argument_is_an_argument_error(tmp_path: Path, planes, wrong):
    src, data = planes
    dst = stored(tmp_path / "dst", data)
    with pytest.raises(ArgumentError):
        verify(src, dst, **wrong)


def test_what_is_not_there_or_cannot_be_read_says_so(tmp_path: Path, planes):
    src, _ = planes
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "notes.txt").write_text("")
    for name in ("missing", "empty", "text"):
        with pytest.raises(PathNotFoundError, match=name):
            verify(src, tmp_path / name)
    (tmp_path / ".a.zarr.scout-partial" / "job").mkdir(parents=True)
    with pytest.raises(PathNotFoundError, match=r"unfinished write.*resume=True"):
        verify(src, tmp_path / "a.zarr")
    zarr.create_group(tmp_path / "group", zarr_format=2).create_array(
        "inside", shape=(3,), chunks=(2,), dtype="u1"
    )
    with pytest.raises(PathNotFoundError, match="inside"):
        verify(src, tmp_path / "group")


def test_what_is_opened_keeps_channel_names_and_a_whole_voxel_size(tmp_path: Path):
    data = make_volume((2, *SHAPE))
    write_channels(tmp_path / "set", data, names=["dapi", "sox2"])
    opened = open_any(tmp_path / "set")
    assert (opened.kind, opened.channels, opened.info.voxel_size) == (
        "channels",
        ("dapi", "sox2"),
        None,
    )
    attributes = {"channels": ["dapi", "sox2"], "voxel_size_um": [4, 1.8, 1.8]}
    stored(tmp_path / "a", data, (1, *CHUNKS), attributes=attributes)
    opened = open_any(tmp_path / "a")
    assert (opened.kind, opened.channels) == ("zarr", ("dapi", "sox2"))
    assert opened.info.voxel_size is not None
    assert opened.info.voxel_size.micrometres == (4.0, 1.8, 1.8)
    stored(tmp_path / "b", data[0], attributes={"channels": ["x"], "voxel_size_um": [1, 2]})
    assert open_any(tmp_path / "b").channels == ()
    assert open_any(tmp_path / "b").info.voxel_size is None
    write_planes(tmp_path / "stated", data[0], imagej=True, resolution=(0.5, 0.25),
                 metadata={"unit": "um", "spacing": 4.0})  # fmt: skip
    opened = open_any(tmp_path / "stated")
    assert opened.info.voxel_size is not None
    assert opened.info.voxel_size.micrometres == (4.0, 4.0, 2.0)
    np.testing.assert_array_equal(open_any(tmp_path / "stated").array.compute(), data[0])


def test_the_legacy_array_equals_its_planes_and_not_the_other_channel():
    legacy = shared_data("legacy_scout.zarr")
    assert verify(shared_data("brain", "ch0"), legacy).equal
    report = verify(shared_data("brain", "ch1"), legacy)
    assert report.n_regions == 12
    assert len(report.regions) == 10
