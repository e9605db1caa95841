"""The seed's ``new_zarr``, ``new_zarr_like`` and ``open``: what they make, open and refuse."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import dask.array as da
import numcodecs
import numpy as np
import pytest
import zarr
from helpers import REPO, make_volume, shared_data
from zarr.storage import LocalStore, MemoryStore

from scout_dask_io.errors import (
    ArgumentError,
    ChunkError,
    LayoutError,
    PathNotFoundError,
    TargetExistsError,
)
from scout_dask_io.store.create import new_zarr, new_zarr_like
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.legacy_store import NestedDirectoryStore
from scout_dask_io.store.staging import begin_staging

SHAPE, CHUNKS = (5, 7, 9), (2, 3, 4)


def tree(path: Path) -> dict[str, bytes | None]:
    """Everything below a directory: files with their bytes, directories as ``None``."""
    found: dict[str, bytes | None] = {}
    for folder, names, files in os.walk(path):
        for name in files:
            full = Path(folder, name)
            content = os.fsencode(os.readlink(full)) if full.is_symlink() else full.read_bytes()
            found[full.relative_to(path).as_posix()] = content
        found.update({Path(folder, name).relative_to(path).as_posix(): None for name in names})
    return found


def zarray(path: Path) -> dict:
    return json.loads((path / ".zarray").read_bytes())


def test_a_new_array_is_scouts_format_on_disk(tmp_path: Path):
    path = tmp_path / "deep" / "er" / "a.zarr"
    array = new_zarr(str(path), SHAPE, CHUNKS, "uint16")
    assert zarray(path) == {
        "zarr_format": 2,
        "shape": [5, 7, 9],
        "chunks": [2, 3, 4],
        "dtype": "<u2",
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
        "compressor": {
            "id": "blosc",
            "cname": "zstd",
            "clevel": 1,
            "shuffle": 2,
            "blocksize": 48,
        },
    }
    assert (array.shape, array.chunks, array.dtype) == (SHAPE, CHUNKS, np.dtype("u2"))
    assert not array[:].any()
    data = make_volume(SHAPE)
    array[:] = data
    assert (path / "2" / "2" / "2").is_file()
    assert os.listdir(path.parent) == ["a.zarr"]  # nothing of the making is left
    np.testing.assert_array_equal(zarr.open_array(LocalStore(path), mode="r")[:], data)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[:], data)


def test_keywords_reach_the_metadata(tmp_path: Path):
    new_zarr(
        tmp_path / "a",
        SHAPE,
        CHUNKS,
        ">i4",
        compressor=numcodecs.Zlib(3),
        fill_value=-1,
        order="F",
        filters=[numcodecs.Delta(">i4")],
        attributes={"voxel_size_um": [4, 1.8, 1.8]},
    )[:2] = 7
    found = zarray(tmp_path / "a")
    assert found["compressor"] == {"id": "zlib", "level": 3}
    assert (found["fill_value"], found["order"], found["dtype"]) == (-1, "F", ">i4")
    assert found["filters"][0]["id"] == "delta"
    attributes = json.loads((tmp_path / "a" / ".zattrs").read_bytes())
    assert attributes == {"voxel_size_um": [4, 1.8, 1.8]}
    again = open_zarr(tmp_path / "a", mode="r")
    assert (again[:2] == 7).all()
    assert (again[2:] == -1).all()


@pytest.mark.parametrize(
    ("compressor", "stored"),
    [
        (None, None),
        ("none", None),
        ("lz4", {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 2, "blocksize": 48}),
        ("auto", {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2, "blocksize": 48}),
        ({"id": "zstd", "level": 5}, {"id": "zstd", "level": 5}),
    ],
)
def test_compressors_by_name_object_or_configuration(tmp_path, compressor, stored):
    array = new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", compressor=compressor)
    found = zarray(tmp_path / "a")["compressor"]
    assert (found and {k: found.get(k) for k in stored}) == stored
    data = make_volume(SHAPE)
    array[:] = data
    np.testing.assert_array_equal(open_zarr(tmp_path / "a")[:], data)


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "f2", "f4", ">f8", "c8", [("a", "u1")]])
def test_every_dtype_comes_back(tmp_path: Path, dtype):
    array = new_zarr(tmp_path / "a", (5,), (2,), dtype)
    data = np.ones(5, dtype)
    array[:] = data
    again = open_zarr(tmp_path / "a", mode="r")
    assert again.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(again[:], data)


@pytest.mark.parametrize(
    ("shape", "chunks", "expected"),
    [
        ((100, 80, 90), None, (64, 64, 64)),
        ((2, 100, 80, 90), True, (1, 64, 64, 64)),
        ((100, 80), None, (64, 64)),
        ((100, 80), False, (100, 80)),
        ((100, 80), 30, (30, 30)),
        ((100, 80), (30, -1), (30, 80)),
        ((100, 80), np.array([30, 200]), (30, 200)),
        (100, 30, (30,)),
        ((), (), ()),
        ((0, 80), (-1, 30), (1, 30)),
    ],
)
def test_chunks_in_every_form(shape, chunks, expected):
    assert new_zarr(None, shape, chunks, "u1", in_memory=True).chunks == expected


def test_flat_chunks_are_made_on_request(tmp_path: Path):
    array = new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", dimension_separator=".")
    array[:] = 1
    assert (tmp_path / "a" / "2.2.2").is_file()
    assert array.nchunks_initialized == 27


def test_in_memory_touches_no_disk(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (None, "a.zarr"):
        array = new_zarr(path, SHAPE, CHUNKS, "u2", in_memory=True)
        array[:] = make_volume(SHAPE)
        np.testing.assert_array_equal(array[:], make_volume(SHAPE))
        assert isinstance(array.store, MemoryStore)
        assert array.metadata.zarr_format == 2
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "codecs"),
    [
        ({}, ["bytes", "blosc"]),
        ({"compressor": None}, ["bytes"]),
        ({"compressor": "lz4"}, ["bytes", "blosc"]),
        ({"codecs": [zarr.codecs.BytesCodec(), zarr.codecs.GzipCodec()]}, ["bytes", "gzip"]),
        ({"shards": (4, 6, 8)}, ["sharding_indexed"]),
    ],
)
def test_v3_arrays_on_request(tmp_path: Path, settings, codecs):
    data = make_volume(SHAPE)
    array = new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", zarr_format=3, **settings)
    array[:] = data
    found = json.loads((tmp_path / "a" / "zarr.json").read_bytes())
    assert [c["name"] for c in found["codecs"]] == codecs
    if codecs == ["bytes", "blosc"]:
        expected = ("lz4" if settings else "zstd", "bitshuffle", 1, 48)
        config = found["codecs"][1]["configuration"]
        named = tuple(config[k] for k in ("cname", "shuffle", "clevel", "blocksize"))
        assert named == expected
    assert not (tmp_path / "a" / ".zarray").exists()
    np.testing.assert_array_equal(open_zarr(tmp_path / "a", mode="r")[:], data)
    np.testing.assert_array_equal(zarr.open_array(LocalStore(tmp_path / "a"))[:], data)


def test_a_runtime_setting_stays_with_the_array(tmp_path: Path):
    config = {"write_empty_chunks": True}
    array = new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", config=config)
    array[:] = 0
    assert array.nchunks_initialized == 27


@pytest.mark.parametrize("text", ["a::b", "odd://x", "memory://x::y", "s3:/bucket/x", "sub/zip::y"])
def test_text_that_looks_like_a_url_is_a_local_path(tmp_path: Path, monkeypatch, text: str):
    monkeypatch.chdir(tmp_path)
    new_zarr("a", SHAPE, CHUNKS, "u2")[:] = 7
    before = tree(tmp_path / "a")
    new_zarr(text, SHAPE, CHUNKS, "u2", mode="w")[:] = 1
    new_zarr(text, SHAPE, CHUNKS, "u2", overwrite=True)[:] = 2
    assert (open_zarr(text, mode="r")[:] == 2).all()
    assert (tmp_path / Path(text) / ".zarray").is_file()
    assert tree(tmp_path / "a") == before
    open_zarr(f"{text}-group", mode="w")
    assert (tmp_path / Path(f"{text}-group") / ".zgroup").is_file()
    assert tree(tmp_path / "a") == before


# What holds data is not replaced by accident.


@pytest.mark.parametrize("kind", ["written", "empty array", "group", "v3", "damaged"])
@pytest.mark.parametrize("settings", [{}, {"mode": "w-"}, {"mode": "x"}, {"overwrite": False}])
def test_what_stands_at_the_path_is_refused_naming_overwrite(tmp_path, kind, settings):
    path = tmp_path / "a"
    if kind == "group":
        open_zarr(path).create_array("x", shape=(4,), chunks=(2,), dtype="u1")[:] = 1
    else:
        array = new_zarr(path, SHAPE, CHUNKS, "u2", zarr_format=3 if kind == "v3" else 2)
        if kind == "written":
            array[:] = 7
    if kind == "damaged":
        (path / ".zarray").write_text("{")
    before = tree(tmp_path)
    with pytest.raises(TargetExistsError, match="overwrite=True") as caught:
        new_zarr(path, SHAPE, CHUNKS, "u2", **settings)
    assert isinstance(caught.value, FileExistsError)
    assert str(path) in str(caught.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("settings", [{"overwrite": True}, {"mode": "w"}])
@pytest.mark.parametrize("old_format", [2, 3])
def test_overwrite_replaces_all_of_the_old_array(tmp_path, old_format, settings):
    path = tmp_path / "a"
    new_zarr(path, (9, 9, 9), (2, 2, 2), "u1", zarr_format=old_format)[:] = 7
    array = new_zarr(path, SHAPE, CHUNKS, "u2", **settings)
    assert sorted(tree(tmp_path)) == ["a", "a/.zarray", "a/.zattrs"]
    assert not array[:].any()  # no stale chunk shows through
    array[:] = 3
    assert (open_zarr(path, mode="r")[:] == 3).all()


def test_overwrite_of_a_group_replaces_it(tmp_path: Path):
    open_zarr(tmp_path / "g").create_array("x", shape=(4,), chunks=(2,), dtype="u1")[:] = 1
    new_zarr(tmp_path / "g", SHAPE, CHUNKS, "u2", overwrite=True)
    assert sorted(tree(tmp_path / "g")) == [".zarray", ".zattrs"]


@pytest.mark.parametrize("settings", [{"overwrite": True}, {"mode": "w"}, {"mode": "a"}, {}])
@pytest.mark.parametrize("inside", ["notes.txt", "0/0/notes.txt", "other/.zarray"])
def test_strangers_files_are_never_removed(tmp_path: Path, inside: str, settings):
    path = tmp_path / "a"
    new_zarr(path, (9, 9, 9), (2, 2, 2), "u1")[:] = 7
    (path / inside).parent.mkdir(exist_ok=True, parents=True)
    (path / inside).write_text("mine")
    before = tree(tmp_path)
    with pytest.raises(TargetExistsError, match="a"):
        new_zarr(path, SHAPE, CHUNKS, "u2", **settings)
    assert tree(tmp_path) == before
    if settings.get("mode") == "w":
        with pytest.raises(TargetExistsError):
            open_zarr(path, mode="w")
        assert tree(tmp_path) == before


@pytest.mark.parametrize("settings", [{}, {"overwrite": True}])
def test_a_folder_a_file_or_a_link_is_never_replaced(tmp_path: Path, settings):
    (tmp_path / "planes").mkdir()
    (tmp_path / "planes" / "z0.tif").write_bytes(b"pixels")
    (tmp_path / "file").write_bytes(b"mine")
    new_zarr(tmp_path / "real", SHAPE, CHUNKS, "u2")[:] = 7
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = tree(tmp_path)
    for name in ("planes", "file", "link", "dangling"):
        with pytest.raises(TargetExistsError, match=name):
            new_zarr(tmp_path / name, SHAPE, CHUNKS, "u2", **settings)
    assert tree(tmp_path) == before
    assert (tmp_path / "link").is_symlink()


def test_an_empty_directory_is_free(tmp_path: Path):
    (tmp_path / "a").mkdir()
    new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2")
    assert zarray(tmp_path / "a")["shape"] == [5, 7, 9]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"dtype": "nonsense"}, TypeError),
        ({"fill_value": "red"}, (ValueError, TypeError)),
        ({"order": "Q"}, (ValueError, TypeError)),
        ({"compressor": "nope"}, ArgumentError),
        ({"compressor": {"id": "nope"}}, ArgumentError),
        ({"dimension_separator": "-"}, (ValueError, TypeError)),
        ({"chunks": (2, 3)}, ChunkError),
        ({"chunks": (2, 3, 0)}, ChunkError),
        ({"chunks": ((2, 2), (3, 3), (4, 4))}, ChunkError),
        ({"shape": (5, -7, 9)}, ArgumentError),
        ({"shape": (5, 7.5, 9)}, ArgumentError),
        ({"mode": "rw"}, ArgumentError),
        ({"store": "elsewhere"}, ArgumentError),
        ({"nonsense": 1}, TypeError),
        ({"zarr_format": 4}, (ValueError, TypeError, KeyError)),
        ({"zarr_format": 3, "compressor": numcodecs.Zlib()}, ArgumentError),
        ({"attributes": {"a": object()}}, TypeError),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_bad_argument_changes_nothing_even_with_overwrite(tmp_path, exists, changes, error):
    path = tmp_path / "deep" / "a"
    if exists:
        new_zarr(path, SHAPE, CHUNKS, "u2")[:] = 7
    before = tree(tmp_path)
    settings = {"shape": SHAPE, "chunks": CHUNKS, "dtype": "u2", "overwrite": True, **changes}
    with pytest.raises(error):
        new_zarr(path, **settings)
    assert tree(tmp_path) == before


def test_a_path_that_is_none_or_no_path_is_an_argument_error():
    for path in (None, "", 3, b"bytes"):
        with pytest.raises(ArgumentError, match="path"):
            new_zarr(path, SHAPE, CHUNKS, "u2")


def test_mode_a_opens_an_array_that_is_alike_and_refuses_another(tmp_path: Path):
    data = make_volume(SHAPE)
    new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", mode="a")[:] = data
    again = new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", mode="a")
    np.testing.assert_array_equal(again[:], data)
    again[0] = 1
    for change in ({"shape": (5, 7, 8)}, {"chunks": (2, 3, 5)}, {"dtype": "u1"}):
        settings = {"shape": SHAPE, "chunks": CHUNKS, "dtype": "u2", **change}
        with pytest.raises(TargetExistsError, match=f"{next(iter(change))}.*overwrite=True"):
            new_zarr(tmp_path / "a", mode="a", **settings)
    open_zarr(tmp_path / "g")
    with pytest.raises(TargetExistsError, match="group"):
        new_zarr(tmp_path / "g", SHAPE, CHUNKS, "u2", mode="a")


def test_modes_r_of_new_zarr_open_and_create_nothing(tmp_path: Path):
    for mode in ("r", "r+"):
        with pytest.raises(PathNotFoundError):
            new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", mode=mode)
    assert tree(tmp_path) == {}
    new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2")[:] = 7
    array = new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", mode="r")
    assert (array[:] == 7).all()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


RACE = """
import sys
from scout_dask_io import TargetExistsError, new_zarr
sys.stdin.readline()  # all start together
for k in range(20):
    try:
        new_zarr(f"{sys.argv[1]}/{k}.zarr", (5, 7, 9), (2, 3, 4), "u2")
        print("made", flush=True)
    except TargetExistsError:
        print("refused", flush=True)
"""


def test_of_three_processes_that_create_one_array_exactly_one_does(tmp_path: Path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPO)},
        )
        for _ in range(3)
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    results = [racer.communicate(timeout=120)[0].split() for racer in racers]
    assert [sorted(one) for one in zip(*results, strict=True)] == [
        ["made", "refused", "refused"]
    ] * 20
    assert sorted(os.listdir(tmp_path)) == sorted(f"{k}.zarr" for k in range(20))
    for k in range(20):
        assert zarray(tmp_path / f"{k}.zarr")["shape"] == [5, 7, 9]


# new_zarr_like


def test_like_a_zarr_array(tmp_path: Path):
    model = new_zarr(None, SHAPE, CHUNKS, ">i2", in_memory=True)
    array = new_zarr_like(tmp_path / "a", model)
    assert (array.shape, array.chunks, array.dtype) == (SHAPE, CHUNKS, np.dtype(">i2"))


def test_like_a_dask_array_has_its_blocks_for_chunks(tmp_path: Path):
    array = new_zarr_like(tmp_path / "a", da.zeros(SHAPE, chunks=CHUNKS, dtype="f4"))
    assert (array.shape, array.chunks, array.dtype) == (SHAPE, CHUNKS, np.dtype("f4"))
    uneven = da.zeros((10,), chunks=((3, 5, 2),))
    assert new_zarr_like(None, uneven, in_memory=True).chunks == (5,)
    empty = da.zeros((0, 4), chunks=(2, 2))
    assert new_zarr_like(None, empty, in_memory=True).chunks == (1, 2)


def test_like_numpy_has_the_default_chunks_and_keywords_win(tmp_path: Path):
    model = np.zeros((2, 70, 80, 90), "u1")
    assert new_zarr_like(None, model, in_memory=True).chunks == (1, 64, 64, 64)
    changed = new_zarr_like(tmp_path / "a", model[0], chunks=(7, 8, 9), dtype="f4", fill_value=2)
    assert (changed.shape, changed.chunks, changed.dtype) == (
        (70, 80, 90),
        (7, 8, 9),
        np.dtype("f4"),
    )
    assert changed.fill_value == 2


def test_like_an_array_of_unknown_extent_or_no_array_is_an_argument_error(tmp_path: Path):
    unknown = da.zeros(10, chunks=5)[da.ones(10, chunks=5) > 0]
    for model in (unknown, [1, 2, 3], "text"):
        with pytest.raises((ArgumentError, ChunkError)):
            new_zarr_like(tmp_path / "a", model)
    assert tree(tmp_path) == {}


# open


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("mode", ["a", "r", "r+"])
@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("says", ["silent", "right", "wrong"])
def test_open_finds_the_layout_whatever_is_said(tmp_path, says, separator, mode, nested):
    path = tmp_path / "a"
    data = make_volume(SHAPE)
    new_zarr(path, SHAPE, CHUNKS, "u2", dimension_separator=separator)[:] = data
    meta = zarray(path)
    if says == "silent":
        del meta["dimension_separator"]
    elif says == "wrong":
        meta["dimension_separator"] = "." if separator == "/" else "/"
    (path / ".zarray").write_text(json.dumps(meta))
    before = tree(tmp_path)
    array = open_zarr(path, nested, mode)
    np.testing.assert_array_equal(array[:], data)
    assert array.nchunks_initialized == 27
    assert tree(tmp_path) == before
    if mode != "r":
        array[:] = data + 1
        np.testing.assert_array_equal(open_zarr(path, nested)[:], data + 1)
        assert set(tree(tmp_path)) == set(before)  # written in its own layout


def test_open_gives_a_nested_store_that_other_processes_can_use(tmp_path: Path):
    new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2")[:] = 5
    array = open_zarr(tmp_path / "a")
    assert isinstance(array.store, NestedDirectoryStore)
    assert (pickle.loads(pickle.dumps(array))[:] == 5).all()


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("mode", ["r", "r+"])
@pytest.mark.parametrize("exists", ["nothing", "empty", "planes"])
def test_a_missing_array_is_not_created_by_modes_r(tmp_path, exists, mode, nested):
    path = tmp_path / "deep" / "a"
    if exists != "nothing":
        path.mkdir(parents=True)
    if exists == "planes":
        (path / "z0.tif").write_bytes(b"pixels")
    before = tree(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected a Zarr array or group") as caught:
        open_zarr(path, nested, mode)
    assert isinstance(caught.value, PathNotFoundError)
    assert str(path) in str(caught.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("mode", ["a", "w", "w-"])
@pytest.mark.parametrize("nested", [True, False])
def test_a_missing_path_becomes_an_empty_v2_group(tmp_path: Path, mode: str, nested: bool):
    group = open_zarr(tmp_path / "deep" / "g", nested, mode)
    assert isinstance(group, zarr.Group)
    assert json.loads((tmp_path / "deep" / "g" / ".zgroup").read_bytes()) == {"zarr_format": 2}
    data = make_volume(SHAPE)
    array = group.create_array("x", shape=SHAPE, chunks=CHUNKS, dtype="u2")
    array[:] = data
    last = tmp_path / "deep" / "g" / "x" / ("2/2/2" if nested else "2.2.2")
    assert last.is_file()
    assert array.nchunks_initialized == 27
    for again in (True, False):
        np.testing.assert_array_equal(open_zarr(tmp_path / "deep" / "g", again)["x"][:], data)
        np.testing.assert_array_equal(open_zarr(tmp_path / "deep" / "g" / "x", again)[:], data)


def test_mode_a_does_not_make_a_group_of_a_folder_of_files(tmp_path: Path):
    (tmp_path / "z0.tif").write_bytes(b"pixels")
    with pytest.raises(TargetExistsError, match="no Zarr metadata"):
        open_zarr(tmp_path)
    assert tree(tmp_path) == {"z0.tif": b"pixels"}


def test_modes_w_replace_zarr_or_refuse(tmp_path: Path):
    new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2")[:] = 1
    before = tree(tmp_path)
    with pytest.raises(TargetExistsError):
        open_zarr(tmp_path / "a", mode="w-")
    assert tree(tmp_path) == before
    assert isinstance(open_zarr(tmp_path / "a", mode="w"), zarr.Group)
    assert not (tmp_path / "a" / ".zarray").exists()
    (tmp_path / "planes").mkdir()
    (tmp_path / "planes" / "z0.tif").write_bytes(b"pixels")
    with pytest.raises(TargetExistsError, match="planes"):
        open_zarr(tmp_path / "planes", mode="w")
    assert (tmp_path / "planes" / "z0.tif").read_bytes() == b"pixels"


@pytest.mark.parametrize("mode", ["a", "r", "r+", "w", "w-"])
def test_a_file_is_refused_by_every_mode(tmp_path: Path, mode: str):
    (tmp_path / "a.tif").write_bytes(b"pixels")
    with pytest.raises(LayoutError, match=r"a\.tif is a file.*imread"):
        open_zarr(tmp_path / "a.tif", mode=mode)
    assert tree(tmp_path) == {"a.tif": b"pixels"}


def test_an_unfinished_write_is_named_and_left_alone(tmp_path: Path):
    begin_staging(tmp_path / "a.zarr")
    before = tree(tmp_path)
    for mode in ("a", "r", "r+"):
        with pytest.raises(PathNotFoundError, match=r"unfinished write.*resume=True"):
            open_zarr(tmp_path / "a.zarr", mode=mode)
    with pytest.raises(TargetExistsError, match="unfinished write"):
        new_zarr(tmp_path / "a.zarr", SHAPE, CHUNKS, "u2")
    assert tree(tmp_path) == before


def test_groups_and_arrays_of_v3_open_too(tmp_path: Path):
    root = zarr.create_group(LocalStore(tmp_path / "g"), zarr_format=3)
    data = make_volume(SHAPE)
    root.create_array("x", shape=SHAPE, chunks=CHUNKS, dtype="u2")[:] = data
    for nested in (True, False):
        for mode in ("a", "r"):
            np.testing.assert_array_equal(open_zarr(tmp_path / "g", nested, mode)["x"][:], data)
            np.testing.assert_array_equal(open_zarr(tmp_path / "g" / "x", nested, mode)[:], data)


def test_a_mode_that_is_none_is_an_argument_error(tmp_path: Path):
    for mode in ("rw", "", 1):
        with pytest.raises(ArgumentError, match="mode"):
            open_zarr(tmp_path / "a", mode=mode)
    assert tree(tmp_path) == {}


def test_a_read_only_array_refuses_writes(tmp_path: Path):
    new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2")[:] = 5
    array = open_zarr(tmp_path / "a", mode="r")
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    assert (open_zarr(tmp_path / "a", mode="r")[:] == 5).all()


def test_the_legacy_array_opens_right_by_default():
    import tifffile

    planes = sorted(shared_data("brain", "ch0").glob("*.tif"))
    expected = np.stack([tifffile.imread(p) for p in planes])
    for nested in (True, False):
        array = open_zarr(shared_data("legacy_scout.zarr"), nested=nested, mode="r")
        assert array.chunks == (16, 256, 256)
        assert array.nchunks_initialized == 12
        np.testing.assert_array_equal(array[:], expected)
