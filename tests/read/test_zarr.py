"""read_zarr against zarr: every layout and format, damaged files, and what is read when."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import make_volume, shared_data

import scout_dask_io as io
from scout_dask_io.core.blocks import BLOCK_NBYTES
from scout_dask_io.errors import ChunkReadError, LayoutError, PathNotFoundError, SourceChangedError
from scout_dask_io.files import whole_files
from scout_dask_io.read.any import open_any
from scout_dask_io.run.lazy import source_of
from scout_dask_io.store import metadata
from scout_dask_io.store.source import ChunkFileSource, ZarrSource

SHAPE, CHUNKS = (9, 14, 19), (4, 5, 6)


def create_v2(path: Path, data: np.ndarray, *, sep: str = "/", **kwargs: Any) -> zarr.Array[Any]:
    """Write with plain zarr."""
    settings = {"compressors": numcodecs.Zlib(1), "chunks": CHUNKS[-data.ndim :], **kwargs}
    array = zarr.create_array(
        store=path,
        shape=data.shape,
        dtype=data.dtype,
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": sep},
        **settings,
    )
    array[...] = data
    return array


def check(path: Path, expected: np.ndarray, kind: type = ChunkFileSource) -> None:
    array = io.read_zarr(path)
    assert type(source_of(array)) is kind
    assert array.shape == expected.shape
    assert array.dtype == expected.dtype.newbyteorder("=")
    for chunks in (None, (3, 14, 7)[-expected.ndim :], -1):
        got = io.read_zarr(path, chunks=chunks).compute()
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, expected)
    part = tuple(slice(n // 3, n - 1) for n in expected.shape)
    np.testing.assert_array_equal(array[part].compute(), expected[part])


@pytest.mark.parametrize("sep", ["/", "."])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["|b1", "<u2", ">u2", ">i4", "<f2", ">f8", "<c8"])
def test_values_are_those_of_zarr(tmp_path: Path, dtype: str, order: str, sep: str) -> None:
    data = make_volume(SHAPE, dtype).astype(dtype)
    create_v2(tmp_path / "z", data, sep=sep, order=order)
    check(tmp_path / "z", data)


@pytest.mark.parametrize(
    "codec",
    [
        None,
        numcodecs.Blosc("zstd", 1, numcodecs.Blosc.BITSHUFFLE),
        numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
        numcodecs.Zstd(1),
        numcodecs.LZ4(),
        numcodecs.Zlib(1),
        numcodecs.GZip(1),
        numcodecs.BZ2(1),
        numcodecs.LZMA(preset=1),
    ],
    ids=str,
)
def test_every_compressor_is_read(tmp_path: Path, codec: Any) -> None:
    data = make_volume(SHAPE)
    create_v2(tmp_path / "z", data, compressors=codec)
    check(tmp_path / "z", data)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4, 5])
def test_one_to_five_axes_are_read(tmp_path: Path, ndim: int) -> None:
    data = make_volume((2, 3, *SHAPE)[-ndim:])
    create_v2(tmp_path / "z", data, chunks=(1, 2, *CHUNKS)[-ndim:])
    array = io.read_zarr(tmp_path / "z")
    np.testing.assert_array_equal(array.compute(), data)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("dtype", "fill"),
    [("<u2", 0), (">u2", 513), ("<f4", np.nan), ("<f4", -np.inf), ("|b1", True), ("<c8", 1 + 2j)],
)
def test_missing_chunks_hold_the_fill_value(
    tmp_path: Path, dtype: str, fill: Any, order: str
) -> None:
    data = make_volume(SHAPE, dtype).astype(dtype)
    create_v2(tmp_path / "z", data, fill_value=fill, order=order)
    for index in ((0, 0, 0), (2, 2, 3), (1, 0, 2)):
        (tmp_path / "z" / "/".join(map(str, index))).unlink(missing_ok=True)
        data[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, CHUNKS, strict=True))] = fill
    check(tmp_path / "z", data)


def test_an_undefined_fill_value_reads_as_zeros(tmp_path: Path) -> None:
    create_v2(tmp_path / "z", np.zeros(SHAPE, "u2"))
    meta = json.loads((tmp_path / "z" / ".zarray").read_text())
    (tmp_path / "z" / ".zarray").write_text(json.dumps({**meta, "fill_value": None}))
    check(tmp_path / "z", np.zeros(SHAPE, "u2"))


def test_an_array_without_a_chunk_is_all_fill(tmp_path: Path) -> None:
    io.new_zarr(tmp_path / "z", SHAPE, CHUNKS, "f4", fill_value=2.5)
    check(tmp_path / "z", np.full(SHAPE, 2.5, "f4"))


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_an_axis_without_elements_is_read(tmp_path: Path, shape: Any) -> None:
    io.new_zarr(tmp_path / "z", shape, (2,) * len(shape), "f4")
    got = io.read_zarr(tmp_path / "z")
    assert (got.shape, got.compute().shape) == (shape, shape)


def test_filters_are_read_through_zarr(tmp_path: Path) -> None:
    data = make_volume(SHAPE, "i4")
    create_v2(tmp_path / "z", data, filters=[numcodecs.Delta("i4")])
    check(tmp_path / "z", data, ZarrSource)


@pytest.mark.parametrize("sharded", [False, True])
def test_v3_is_read_through_zarr(tmp_path: Path, sharded: bool) -> None:
    data = make_volume(SHAPE)
    array = zarr.create_array(
        store=tmp_path / "z",
        shape=SHAPE,
        dtype="u2",
        chunks=CHUNKS,
        shards=(8, 10, 12) if sharded else None,
        zarr_format=3,
    )
    array[...] = data
    check(tmp_path / "z", data, ZarrSource)
    # Blocks are made of whole shards, so that none is opened twice.
    blocks = io.read_zarr(tmp_path / "z").chunksize
    unit = (8, 10, 12) if sharded else CHUNKS
    assert all(b % c == 0 or b == n for b, c, n in zip(blocks, unit, SHAPE, strict=True))


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("sep", ["/", "."])
def test_chunks_that_lie_on_disk_decide_over_silent_metadata(
    tmp_path: Path, sep: str, nested: bool
) -> None:
    data = make_volume(SHAPE)
    create_v2(tmp_path / "z", data, sep=sep)
    meta = json.loads((tmp_path / "z" / ".zarray").read_text())
    meta.pop("dimension_separator", None)
    (tmp_path / "z" / ".zarray").write_text(json.dumps(meta))
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "z", nested=nested).compute(), data)


def test_a_legacy_array_equals_its_planes() -> None:
    array = io.read_zarr(shared_data("legacy_scout.zarr"))
    planes = io.imread_folder(shared_data("brain", "ch0"))
    assert (array.shape, array.dtype) == ((30, 510, 667), np.dtype("u2"))
    np.testing.assert_array_equal(array.compute(), planes.compute())


def test_both_layouts_on_disk_are_an_error(tmp_path: Path) -> None:
    create_v2(tmp_path / "z", make_volume(SHAPE))
    (tmp_path / "z" / "0.0.1").write_bytes(b"1")
    with pytest.raises(LayoutError, match=r"0\.0\.1"):
        io.read_zarr(tmp_path / "z")


def test_default_blocks_are_whole_chunks_of_bounded_size(tmp_path: Path) -> None:
    io.new_zarr(tmp_path / "z", (300, 2000, 3000), (64, 64, 64), "u2")
    array = io.read_zarr(tmp_path / "z")
    assert array.chunksize == (64, 64, 3000)
    for axis in array.chunks:
        assert all(n % 64 == 0 for n in axis[:-1])
    assert np.prod(array.chunksize) * 2 <= BLOCK_NBYTES


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The chunk files that were asked for, as keys, in order."""
    asked: list[str] = []
    real = whole_files.read_file

    def recording(path: str, room: bytearray) -> memoryview | None:
        asked.append("/".join(path.split("/")[-3:]))
        return real(path, room)

    monkeypatch.setattr(whole_files, "read_file", recording)
    return asked


@pytest.mark.in_process
def test_only_the_chunk_files_that_a_region_touches_are_read(
    tmp_path: Path, files_read: list[str]
) -> None:
    data = make_volume(SHAPE)
    create_v2(tmp_path / "z", data)
    array = io.read_zarr(tmp_path / "z")
    assert files_read == []
    np.testing.assert_array_equal(array[:, 5:9, 11:13].compute(), data[:, 5:9, 11:13])
    assert sorted(files_read) == [f"{z}/1/{x}" for z in range(3) for x in (1, 2)]
    files_read.clear()
    array[8].compute()
    assert sorted(files_read) == [f"2/{y}/{x}" for y in range(3) for x in range(4)]


@pytest.mark.in_process
def test_each_chunk_file_is_read_once_for_the_whole_array(
    tmp_path: Path, files_read: list[str]
) -> None:
    create_v2(tmp_path / "z", make_volume(SHAPE))
    io.read_zarr(tmp_path / "z").compute()
    assert len(files_read) == len(set(files_read)) == 3 * 3 * 4


def test_the_name_is_the_same_until_the_array_changes(tmp_path: Path) -> None:
    data = make_volume(SHAPE)
    create_v2(tmp_path / "z", data)
    # Directories' times are as coarse as the kernel's tick: set back what was just made.
    for folder, _, _ in os.walk(tmp_path / "z"):
        os.utime(folder, (10**9, 10**9))
    before = io.read_zarr(tmp_path / "z")
    assert io.read_zarr(tmp_path / "z").name == before.name
    assert io.read_zarr(tmp_path / "z", chunks=7).name != before.name
    zarr.open_array(tmp_path / "z", mode="r+")[0, 0, 0] = 999
    after = io.read_zarr(tmp_path / "z")
    assert after.name != before.name
    assert after[0, 0, 0].compute() == 999


def test_the_name_changes_when_the_array_is_overwritten(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "z", make_volume(SHAPE), CHUNKS)
    before = io.read_zarr(tmp_path / "z").name
    io.write_zarr(tmp_path / "z", make_volume(SHAPE), CHUNKS, overwrite=True)
    assert io.read_zarr(tmp_path / "z").name != before


def test_the_same_content_elsewhere_has_another_name(tmp_path: Path) -> None:
    names = set()
    for k in range(2):
        io.write_zarr(tmp_path / f"{k}.zarr", make_volume(SHAPE), CHUNKS)
        names.add(io.read_zarr(tmp_path / f"{k}.zarr").name)
    assert len(names) == 2


DAMAGE = ["cut", "empty", "random", "larger array", "smaller array", "fifo", "directory", "huge"]


def damage(file: Path, kind: str, codec: Any) -> None:
    data = file.read_bytes()
    if kind == "huge":
        os.truncate(file, 2**40)
        return
    file.unlink()
    if kind == "cut":
        file.write_bytes(data[:-5])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "random":
        file.write_bytes(np.random.default_rng(1).bytes(len(data) + 1))
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "directory":
        file.mkdir()
    else:
        elements = np.arange(500 if kind == "larger array" else 7, dtype="u2")
        file.write_bytes(elements.tobytes() if codec is None else bytes(codec.encode(elements)))


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize(
    "codec", [None, numcodecs.Blosc("zstd"), numcodecs.Zlib(1), numcodecs.Zstd(1)], ids=str
)
def test_a_damaged_chunk_is_an_error_that_names_its_file(
    tmp_path: Path, kind: str, codec: Any
) -> None:
    data = make_volume(SHAPE)
    create_v2(tmp_path / "z", data, compressors=codec)
    file = tmp_path / "z" / "1" / "0" / "2"
    damage(file, kind, codec)
    array = io.read_zarr(tmp_path / "z")
    with pytest.raises(ChunkReadError) as caught:
        array.compute()
    assert str(file) in str(caught.value)
    assert isinstance(caught.value, OSError)
    # The other chunks are as good as before.
    np.testing.assert_array_equal(array[:4].compute(), data[:4])


def test_a_file_where_a_directory_of_chunks_belongs_is_an_error(tmp_path: Path) -> None:
    create_v2(tmp_path / "z", make_volume(SHAPE))
    for file in (tmp_path / "z" / "2" / "0").iterdir():
        file.unlink()
    (tmp_path / "z" / "2" / "0").rmdir()
    (tmp_path / "z" / "2" / "0").write_bytes(b"no directory")
    with pytest.raises(ChunkReadError, match=r"2.0.0"):
        io.read_zarr(tmp_path / "z").compute()


@pytest.mark.in_process
def test_a_chunk_that_may_not_be_read_is_no_fill_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_v2(tmp_path / "z", make_volume(SHAPE))
    real = os.open

    def refusing(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith("1/0/2"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(ChunkReadError, match=r"1.0.2.*Permission denied"):
        io.read_zarr(tmp_path / "z").compute()


def test_a_missing_path_is_an_error_and_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(PathNotFoundError):
        io.read_zarr(tmp_path / "no.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_group_names_the_arrays_in_it(tmp_path: Path) -> None:
    group = zarr.create_group(store=tmp_path / "g", zarr_format=2)
    for name in ("raw", "labels"):
        group.create_array(name, shape=(4,), dtype="u2")
    with pytest.raises(PathNotFoundError, match="labels, raw"):
        io.read_zarr(tmp_path / "g")
    assert io.read_zarr(tmp_path / "g" / "raw").shape == (4,)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"zarr_format": 2, "shape": "no"}'])
def test_damaged_metadata_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    create_v2(tmp_path / "z", make_volume(SHAPE))
    (tmp_path / "z" / ".zarray").write_text(text)
    with pytest.raises(LayoutError, match=r"\.zarray"):
        io.read_zarr(tmp_path / "z")


def test_reading_leaves_no_trace(tmp_path: Path) -> None:
    create_v2(tmp_path / "z", make_volume(SHAPE))
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    io.read_zarr(tmp_path / "z").compute()
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_attribute_that_changes_leaves_lazy_arrays_as_they_are(tmp_path, zarr_format):
    data = make_volume((4, 6, 8))
    array = io.write_zarr(tmp_path / "a.zarr", data, (2, 3, 4), zarr_format=zarr_format)
    lazy = io.read_zarr(tmp_path / "a.zarr")
    array.attrs["stain"] = "dapi"
    np.testing.assert_array_equal(lazy.compute(), data)
    io.write_zarr(tmp_path / "a.zarr", data + 1, (2, 3, 4), zarr_format=zarr_format, overwrite=True)
    with pytest.raises(SourceChangedError):
        lazy.compute()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_an_image_states_is_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zarr_format: int
):
    path = tmp_path / "a.zarr"
    data = np.arange(2 * 8 * 70 * 60, dtype="u2").reshape(2, 8, 70, 60)
    io.write_ome_zarr(
        path, data, (1, 4, 32, 32), levels=2, channels=["dapi", "sox2"], voxel_size=(4, 1, 1),
        version={2: "0.4", 3: "0.5"}[zarr_format],
    )  # fmt: skip
    files: Counter[str] = Counter()
    parse = metadata.parse_metadata

    def counted(raw: bytes, file: Any) -> dict[str, Any]:
        files[str(file)] += 1
        return parse(raw, file)

    monkeypatch.setattr(metadata, "parse_metadata", counted)
    opened = open_any(path)
    assert (opened.info.axes, opened.channels) == ("czyx", ("dapi", "sox2"))
    assert opened.info.voxel_size is not None
    assert opened.info.voxel_size.micrometres == (4, 1, 1)
    assert len(opened.info.colors) == 2
    assert None not in opened.info.windows
    assert set(files.values()) == {1}
    names = {".zgroup", ".zattrs", "0/.zarray", "0/.zattrs"}
    expected = names if zarr_format == 2 else {"zarr.json", "0/zarr.json"}
    assert {os.path.relpath(file, path) for file in files} == expected
