"""write_zarr: what lies on disk afterwards, whatever the data, and what is never touched."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask.array as da
import numcodecs
import numpy as np
import pytest
import zarr
from helpers import make_volume, write_planes
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import LocalStore

import scout_dask_io as io
from scout_dask_io.core.grid import chunk_counts
from scout_dask_io.errors import (
    ArgumentError,
    ChunkError,
    MemoryLimitError,
    ShapeMismatchError,
    TargetExistsError,
)
from scout_dask_io.store import local_transaction as sinks
from scout_dask_io.store.manifest import read_manifest

SHAPES = {1: (37,), 2: (19, 23), 3: (11, 13, 17), 4: (2, 7, 11, 13), 5: (2, 3, 5, 7, 9)}
DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]
CODECS: list[Any] = [
    "zstd",
    "lz4",
    "none",
    None,
    numcodecs.Zlib(3),
    numcodecs.GZip(3),
    numcodecs.Zstd(3),
    numcodecs.LZ4(),
    numcodecs.Blosc("blosclz", 5, numcodecs.Blosc.SHUFFLE),
    {"id": "zlib", "level": 1},
]


def tree(path: Path) -> dict[str, bytes]:
    """Every file below a directory, hidden ones too, with its bytes."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in (Path(folder, name) for folder, _, names in os.walk(path) for name in names)
        if file.exists()  # a dangling link does not
    }


def chunk_keys(path: Path) -> set[str]:
    return {k for k in tree(path) if not os.path.basename(k).startswith(".")}


def read_with_zarr(path: Path) -> np.ndarray:
    """Read through plain zarr, with nothing of this library in between."""
    return np.asarray(zarr.open_array(store=LocalStore(path, read_only=True), mode="r")[...])


def check_array(
    path: Path, expected: np.ndarray, chunks: tuple[int, ...], *, fill: Any = 0
) -> None:
    """Values by zarr and by this library, metadata, keys on disk, and nothing beside it."""
    native = expected.dtype.newbyteorder("=")
    for got in (read_with_zarr(path), io.read_zarr(path).compute()):
        assert (got.shape, got.dtype) == (expected.shape, native)
        assert got.tobytes() == np.ascontiguousarray(expected.astype(native)).tobytes()
    meta = json.loads((path / ".zarray").read_text())
    assert meta["zarr_format"] == 2
    assert meta["shape"] == list(expected.shape)
    assert meta["chunks"] == list(chunks)
    assert np.dtype(meta["dtype"]) == native
    assert meta["dimension_separator"] == "/"
    assert meta["order"] == "C"
    assert not meta["filters"]
    keys = set()
    blank = np.full((), fill, native).tobytes()
    for index in np.ndindex(*chunk_counts(expected.shape, chunks)):
        at = tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))
        part = np.ascontiguousarray(expected[at].astype(native))
        if part.tobytes() != blank * part.size:
            keys.add("/".join(map(str, index)))
    assert chunk_keys(path) == keys
    assert sorted(p.name for p in path.parent.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_written_as_zarr_reads_it(tmp_path: Path, dtype: str) -> None:
    data = make_volume((5, 7, 9), dtype)
    array = io.write_zarr(tmp_path / "a.zarr", data, (2, 4, 5))
    assert (array.shape, array.chunks, array.dtype) == ((5, 7, 9), (2, 4, 5), np.dtype(dtype))
    check_array(tmp_path / "a.zarr", data, (2, 4, 5))


@pytest.mark.parametrize("dtype", [">u2", ">i8", ">f4", ">c16"])
@pytest.mark.parametrize("blocks", [None, (2, 4, 5), (1, 7, 9)])
def test_big_endian_data_is_stored_in_native_order(tmp_path: Path, dtype: str, blocks: Any) -> None:
    data = make_volume((5, 7, 9), dtype).astype(dtype)
    given_data = data if blocks is None else da.from_array(data, chunks=blocks)
    io.write_zarr(tmp_path / "a.zarr", given_data, (2, 4, 5))
    check_array(tmp_path / "a.zarr", data, (2, 4, 5))


@pytest.mark.parametrize("kind", ["numpy", "numpy F", "dask aligned", "dask planes"])
@pytest.mark.parametrize("ndim", SHAPES)
def test_one_to_five_axes_with_ragged_edges(tmp_path: Path, ndim: int, kind: str) -> None:
    data = make_volume(SHAPES[ndim])
    chunks = (4, 5, 6)[-ndim:] if ndim < 3 else (1,) * (ndim - 3) + (4, 5, 6)
    given_data: Any = data
    if kind == "numpy F":
        given_data = np.asfortranarray(data)
    elif kind == "dask aligned":
        given_data = da.from_array(data, chunks=tuple(2 * c for c in chunks))
    elif kind == "dask planes":
        given_data = da.from_array(data, chunks=(1, *data.shape[1:])) + 0
    array = io.write_zarr(tmp_path / "deep" / "a.zarr", given_data, (4, 5, 6))
    assert array.chunks == chunks
    check_array(tmp_path / "deep" / "a.zarr", data, chunks)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (8, (8, 8, 8)),
        (-1, (11, 13, 17)),
        ((8,), (1, 1, 8)),
        ((5, 8), (1, 5, 8)),
        ((4, -1, 20), (4, 13, 20)),
        ([4, 5, 6], (4, 5, 6)),
        ((9, 9, 4, 5, 6), (4, 5, 6)),
        (np.int64(8), (8, 8, 8)),
    ],
)
def test_chunks_are_for_the_last_axes(tmp_path: Path, chunks: Any, expected: Any) -> None:
    data = make_volume(SHAPES[3])
    array = io.write_zarr(tmp_path / "a.zarr", data, chunks)
    assert array.chunks == expected
    check_array(tmp_path / "a.zarr", data, expected)


def test_the_default_chunks_are_64_cubed(tmp_path: Path) -> None:
    assert io.write_zarr(tmp_path / "a.zarr", np.ones((3, 70, 80), "u2")).chunks == (64, 64, 64)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_every_codec_is_read_by_zarr_and_named_in_the_metadata(tmp_path: Path, codec: Any) -> None:
    data = make_volume((5, 7, 9))
    io.write_zarr(tmp_path / "a.zarr", data, (2, 4, 5), codec=codec)
    check_array(tmp_path / "a.zarr", data, (2, 4, 5))
    found = json.loads((tmp_path / "a.zarr" / ".zarray").read_text())["compressor"]
    if codec in ("none", None):
        assert found is None
    elif codec in ("zstd", "lz4"):
        assert found == {
            "id": "blosc",
            "cname": codec,
            "clevel": 1,
            "shuffle": 2,
            "blocksize": 80,
        }
    else:
        config = codec if isinstance(codec, dict) else codec.get_config()
        assert {k: found[k] for k in ("id",)} == {"id": config["id"]}


def test_raw_zarray_of_the_defaults(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", make_volume((70, 70, 70)), attributes={"voxel": [1, 2.5]})
    assert json.loads((tmp_path / "a.zarr" / ".zarray").read_text()) == {
        "zarr_format": 2,
        "shape": [70, 70, 70],
        "chunks": [64, 64, 64],
        "dtype": "<u2",
        "compressor": {
            "id": "blosc",
            "cname": "zstd",
            "clevel": 1,
            "shuffle": 2,
            "blocksize": 64**3 * 2,
        },
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }
    assert json.loads((tmp_path / "a.zarr" / ".zattrs").read_text()) == {"voxel": [1, 2.5]}
    assert not (tmp_path / "a.zarr" / "zarr.json").exists()


@pytest.mark.parametrize("kind", ["numpy", "blocks", "gather"])
@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("u2", 0), ("u2", 7), ("i8", -3), ("f4", np.nan), ("f4", 1.5), ("?", True), ("f8", -np.inf)],
)
def test_chunks_that_hold_the_fill_value_alone_are_not_stored(
    tmp_path: Path, dtype: str, fill: Any, kind: str
) -> None:
    data = np.full((9, 10, 11), fill, dtype)
    data[5, 6, 7] = 0 if fill else 1
    data[8] = np.where(np.arange(110).reshape(10, 11) % 3, data[8], 1)
    given_data: Any = data
    if kind != "numpy":
        given_data = da.from_array(data, chunks=(4, 4, 4) if kind == "blocks" else (3, 10, 11))
    array = io.write_zarr(tmp_path / "a.zarr", given_data, 4, fill_value=fill)
    assert np.array_equal(array.fill_value, fill, equal_nan=dtype[0] == "f")
    assert "0/0/0" not in chunk_keys(tmp_path / "a.zarr")
    assert "1/1/1" in chunk_keys(tmp_path / "a.zarr")
    check_array(tmp_path / "a.zarr", data, (4, 4, 4), fill=fill)


def test_an_array_of_nothing_but_fill_stores_no_chunk(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", np.zeros((9, 10)), 4)
    assert chunk_keys(tmp_path / "a.zarr") == set()
    assert read_with_zarr(tmp_path / "a.zarr").sum() == 0


def test_minus_zero_is_kept(tmp_path: Path) -> None:
    data = np.zeros((5, 6), "f4")
    data[3, 4] = -0.0
    io.write_zarr(tmp_path / "a.zarr", data, 3)
    assert chunk_keys(tmp_path / "a.zarr") == {"1/1"}
    assert np.signbit(read_with_zarr(tmp_path / "a.zarr")[3, 4])


@pytest.mark.parametrize("shape", [(0,), (0, 5, 6), (5, 0, 6), (5, 6, 0), (0, 0)])
@pytest.mark.parametrize("kind", ["numpy", "blocks", "gather"])
def test_axes_without_elements_are_written(tmp_path: Path, shape: Any, kind: str) -> None:
    data: Any = np.zeros(shape, "u2")
    if kind != "numpy":
        data = da.zeros(shape, dtype="u2", chunks=4 if kind == "blocks" else 3) + 1
    array = io.write_zarr(tmp_path / "a.zarr", data, 4)
    assert (array.shape, array.dtype) == (shape, np.dtype("u2"))
    assert read_with_zarr(tmp_path / "a.zarr").shape == shape
    assert chunk_keys(tmp_path / "a.zarr") == set()


@st.composite
def dask_cases(draw: st.DrawFn) -> tuple[np.ndarray, Any, tuple[int, ...], int]:
    shape = tuple(draw(st.lists(st.integers(1, 13), min_size=1, max_size=4)))
    blocks = []
    for n in shape:
        edges = sorted({0, n, *draw(st.lists(st.integers(0, n), max_size=3))})
        blocks.append(tuple(b - a for a, b in pairwise(edges)))
    chunks = tuple(draw(st.integers(1, 15)) for _ in shape)
    return make_volume(shape, "u2", 3), tuple(blocks), chunks, draw(st.integers(1, 3))


@settings(max_examples=60)
@given(dask_cases())
def test_any_blocks_go_into_any_chunks(tmp_path_factory: pytest.TempPathFactory, case: Any) -> None:
    data, blocks, chunks, nb_workers = case
    path = tmp_path_factory.mktemp("any") / "a.zarr"
    given_data = da.from_array(data, chunks=blocks)
    # As little memory as there may be, so that scratch is taken too.
    least = 2 * (2 * int(np.prod([max(b) for b in blocks])) + 7 * int(np.prod(chunks)))
    io.write_zarr(path, given_data, chunks, nb_workers=nb_workers, max_mem=least)
    check_array(path, data, chunks)
    shutil.rmtree(path.parent)


@pytest.mark.in_process
def test_each_chunk_file_is_written_exactly_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: Counter[str] = Counter()
    real = sinks.write_file

    def counting(path: str, *args: Any, **kwargs: Any) -> None:
        written["/".join(path.split("/")[-3:])] += 1
        real(path, *args, **kwargs)

    monkeypatch.setattr(sinks, "write_file", counting)
    data = make_volume((9, 20, 31))
    write_planes(tmp_path / "planes", data)
    for k, given_data in enumerate(
        [
            data,
            io.imread_folder(tmp_path / "planes"),
            da.from_array(data, chunks=(8, 16, 16)) + 0,
            da.from_array(data, chunks=(5, 7, 31)) + 0,
        ]
    ):
        written.clear()
        io.write_zarr(tmp_path / f"{k}.zarr", given_data, 8)
        expected = {f"{z}/{y}/{x}" for z in range(2) for y in range(3) for x in range(4)}
        assert written == Counter(dict.fromkeys(expected, 1))


def test_the_manifest_lists_every_chunk_file(tmp_path: Path) -> None:
    data = make_volume((9, 20, 31))
    data[:8, :8, :8] = 0
    io.write_zarr(tmp_path / "a.zarr", data, 8)
    manifest = read_manifest(tmp_path / "a.zarr")
    assert manifest is not None
    assert manifest.records.shape == (2, 3, 4)
    for index in np.ndindex(2, 3, 4):
        file = tmp_path / "a.zarr" / "/".join(map(str, index))
        assert manifest.records[index]["nbytes"] == (file.stat().st_size if file.exists() else 0)
    assert manifest.records[0, 0, 0]["nbytes"] == 0


@pytest.mark.parametrize(
    "data",
    [
        [[1, 2], [3, 4]],
        np.array(5),
        np.zeros((1,) * 6),
        np.array(["a", "b"]),
        np.array([{}, {}], object),
        np.zeros(3, "datetime64[s]"),
        np.zeros(3, [("a", "u2")]),
        np.zeros(3, np.longdouble),
        None,
    ],
    ids=str,
)
def test_data_that_zarr_cannot_hold_is_refused_before_anything_is_created(
    tmp_path: Path, data: Any
) -> None:
    with pytest.raises(ArgumentError):
        io.write_zarr(tmp_path / "deep" / "a.zarr", data)
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_unknown_shape_is_refused(tmp_path: Path) -> None:
    data = da.from_array(np.arange(20), chunks=5)
    unknown = data[data > 7]
    for call in (
        lambda: io.write_zarr(tmp_path / "a.zarr", unknown),
        lambda: io.plan_zarr(unknown),
    ):
        with pytest.raises(ArgumentError, match="compute_chunk_sizes"):
            call()
    assert list(tmp_path.iterdir()) == []
    io.write_zarr(tmp_path / "a.zarr", unknown.compute_chunk_sizes(), 5)
    check_array(tmp_path / "a.zarr", np.arange(8, 20), (5,), fill=0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chunks": 0}, ChunkError),
        ({"chunks": (4, 4.5, 4)}, ChunkError),
        ({"chunks": (2**11, 2**11, 2**11)}, (ChunkError, MemoryLimitError)),
        ({"codec": "zip"}, ArgumentError),
        ({"codec": {"id": "nonsense"}}, ArgumentError),
        ({"codec": 5}, ArgumentError),
        ({"fill_value": -1}, ArgumentError),
        ({"fill_value": 0.5}, ArgumentError),
        ({"fill_value": np.nan}, ArgumentError),
        ({"fill_value": "zero"}, ArgumentError),
        ({"fill_value": [0, 1]}, ArgumentError),
        ({"attributes": {"a": object()}}, ArgumentError),
        ({"nb_workers": 0}, ArgumentError),
        ({"nb_workers": True}, ArgumentError),
        ({"nb_workers": 1.5}, ArgumentError),
        ({"max_mem": "much"}, ArgumentError),
        ({"max_mem": 0}, ArgumentError),
        ({"max_mem": 100}, MemoryLimitError),
    ],
    ids=str,
)
def test_arguments_are_checked_before_anything_is_created(
    tmp_path: Path, arguments: dict[str, Any], error: Any
) -> None:
    data = make_volume((9, 10, 11))
    for given_data in (
        data,
        da.from_array(data, chunks=3),
        da.from_array(data, chunks=(1, 10, 11)),
    ):
        with pytest.raises(error):
            io.write_zarr(tmp_path / "deep" / "a.zarr", given_data, **{"chunks": 4, **arguments})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["", None, 5])
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ArgumentError, match="path"):
        io.write_zarr(path, np.ones(3))


@pytest.mark.parametrize("blocks", [(3, 5, 6), (5, 5, 6), (1, 10, 11)])
def test_a_block_of_another_shape_than_declared_is_an_error(tmp_path: Path, blocks: Any) -> None:
    data = da.from_array(make_volume((9, 10, 11)), chunks=blocks)
    wrong = data.map_blocks(lambda b: b[:1, :1, :1], dtype="u2", chunks=data.chunks)
    with pytest.raises(ShapeMismatchError, match=r"shape \(1, 1, 1\), the dask array declared"):
        io.write_zarr(tmp_path / "a.zarr", wrong, (3, 5, 6))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("max_mem", [10_000, None])
@pytest.mark.parametrize("blocks", [(3, 5, 6), (1, 10, 11)])
def test_a_block_of_another_dtype_than_declared_is_an_error(
    tmp_path: Path, blocks: Any, max_mem: Any
) -> None:
    data = da.from_array(make_volume((9, 10, 11)), chunks=blocks)
    wrong = data.map_blocks(lambda b: b + 0.5, dtype="u2")
    with pytest.raises(ShapeMismatchError, match="dtype float64, the dask array declared uint16"):
        io.write_zarr(tmp_path / "a.zarr", wrong, (3, 5, 6), max_mem=max_mem)
    narrow = data.map_blocks(lambda b: b.astype("u1"), dtype="u2")
    io.write_zarr(tmp_path / "b.zarr", narrow, (3, 5, 6), max_mem=max_mem)
    check_array(tmp_path / "b.zarr", narrow.compute().astype("u2"), (3, 5, 6))


def test_something_at_the_path_is_kept_without_overwrite(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", make_volume((5, 6, 7)), 4)
    before = tree(tmp_path)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        io.write_zarr(tmp_path / "a.zarr", np.ones((3, 3)), 4)
    assert tree(tmp_path) == before


def test_overwrite_replaces_an_array_wholly(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", make_volume((40, 6, 7)), 4, attributes={"old": 1})
    new = make_volume((5, 9), "f4", 1)
    array = io.write_zarr(tmp_path / "a.zarr", new, 4, overwrite=True)
    assert dict(array.attrs) == {}
    check_array(tmp_path / "a.zarr", new, (4, 4))
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize(
    "stranger", ["notes.txt", "0/0/notes.txt", "7", "other/.zarray", "a.tif", "0/0/0.bak"]
)
def test_a_directory_with_strangers_is_never_replaced(tmp_path: Path, stranger: str) -> None:
    path = tmp_path / "a.zarr"
    io.write_zarr(path, make_volume((5, 6, 7)), 4)
    (path / stranger).parent.mkdir(parents=True, exist_ok=True)
    (path / stranger).write_bytes(b"precious")
    before = tree(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(TargetExistsError, match="never removed"):
            io.write_zarr(path, np.ones((3, 3)), 4, overwrite=overwrite)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("kind", ["file", "link to a file", "link to an array", "dangling link"])
def test_a_file_or_a_link_in_the_place_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.zarr"
    if kind == "file":
        path.write_bytes(b"precious")
    elif kind == "link to an array":
        io.write_zarr(tmp_path / "real.zarr", make_volume((5, 6, 7)), 4)
        path.symlink_to(tmp_path / "real.zarr")
    else:
        path.symlink_to(tmp_path / "real")
        if kind == "link to a file":
            (tmp_path / "real").write_bytes(b"precious")
    before = tree(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(TargetExistsError):
            io.write_zarr(path, np.ones((3, 3)), 4, overwrite=overwrite)
    assert tree(tmp_path) == before
    assert path.is_symlink() == (kind != "file")


def test_an_empty_directory_is_a_free_place(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    data = make_volume((5, 6, 7))
    io.write_zarr(tmp_path / "a.zarr", data, 4)
    check_array(tmp_path / "a.zarr", data, (4, 4, 4))


@pytest.mark.parametrize("name", ["a::b", "file:b", "s3://b", "a b ü#%", "%41", ".hidden"])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_name_is_never_taken_for_a_url(tmp_path: Path, name: str, as_text: bool) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "sibling").write_bytes(b"precious")
    data = make_volume((5, 6, 7))
    path = f"{tmp_path}/{name}" if as_text else tmp_path / name
    for overwrite in (False, True):
        io.write_zarr(path, data, 4, overwrite=overwrite)
    assert (tmp_path / "a" / "sibling").read_bytes() == b"precious"
    np.testing.assert_array_equal(io.read_zarr(path).compute(), data)
    assert os.path.isfile(os.path.join(os.path.abspath(path), ".zarray"))


@pytest.mark.parametrize("chunks", [(4, 4, 4), (3, 5, 2)])
def test_an_array_can_be_computed_on_and_written_onto_itself(tmp_path: Path, chunks: Any) -> None:
    data = make_volume((9, 10, 11))
    io.write_zarr(tmp_path / "a.zarr", data, 4)
    io.write_zarr(
        tmp_path / "a.zarr", io.read_zarr(tmp_path / "a.zarr") + 1, chunks, overwrite=True
    )
    check_array(tmp_path / "a.zarr", data + 1, chunks)
    io.write_zarr(tmp_path / "a.zarr", io.read_zarr(tmp_path / "a.zarr"), (2, 9, 9), overwrite=True)
    check_array(tmp_path / "a.zarr", data + 1, (2, 9, 9))


def test_the_array_returned_is_open_for_writing(tmp_path: Path) -> None:
    array = io.write_zarr(tmp_path / "a.zarr", np.zeros((5, 6), "u2"), 4)
    array[4, 5] = 9
    assert read_with_zarr(tmp_path / "a.zarr")[4, 5] == 9
    assert chunk_keys(tmp_path / "a.zarr") == {"1/1"}


def test_a_relative_path_holds_when_the_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    later = io.write_zarr("a.zarr", da.ones((5, 6), chunks=3), 3, compute=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    later.compute(scheduler="sync")
    assert (tmp_path / "a.zarr" / ".zarray").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("chunks", (4, 8, 8)),
        ("chunks", 32),
        ("codec", "lz4"),
        ("fill_value", 7),
        ("zarr_format", 3),
        ("shards", (64, 64, 64)),
    ],
)
def test_what_a_region_has_of_its_own_is_refused_by_name(tmp_path: Path, name: str, value: Any):
    volume = make_volume((8, 16, 16))
    io.write_zarr(tmp_path / "a", volume)
    with pytest.raises(ArgumentError, match=rf"region goes with none of {name}: "):
        io.write_zarr(tmp_path / "a", volume + 1, region=np.s_[:], **{name: value})
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a").compute(), volume)
    defaults = {"chunks": (64, 64, 64), "codec": "zstd", "fill_value": 0, "zarr_format": 2}
    io.write_zarr(tmp_path / "a", volume + 1, region=np.s_[:], shards=None, **defaults)
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a").compute(), volume + 1)


# Of noise, LZMA makes more and not less.
@pytest.mark.parametrize("codec", ["none", numcodecs.LZMA()], ids=str)
def test_a_chunk_that_no_record_can_hold_is_refused_before_anything_is_made(tmp_path, codec):
    data = da.zeros((2**16, 2**16), dtype="u1", chunks=-1)
    size = "4,294,967,296 bytes .*more than the 4,261,412,864"
    with pytest.raises(ChunkError, match=size):
        io.plan_zarr(data, data.shape, codec=codec, max_mem="1TB")
    with pytest.raises(ChunkError, match=size):
        io.write_zarr(tmp_path / "a.zarr", data, data.shape, codec=codec, max_mem="1TB")
    assert list(tmp_path.iterdir()) == []
    below = data[: 2**16 - 512]
    assert io.plan_zarr(below, below.shape, codec=codec, max_mem="1TB").chunks == below.shape
