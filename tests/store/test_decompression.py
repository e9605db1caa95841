"""Compressors of arrays that zarr decodes are what they were, and decode no more than a chunk."""

from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numcodecs
import numpy as np
import pytest
import zarr
from helpers import figure, make_volume
from numcodecs.registry import get_codec
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.codecs.numcodecs import BZ2, LZ4, LZMA, Delta, Zlib

import scout_dask_io as io
from scout_dask_io.store.chunk_v2 import crc32c
from scout_dask_io.store.decompression import bounded, decompress

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in")

VOLUME = make_volume((3, 10, 12))
CHUNKS = (2, 4, 8)
NBYTES = 2 * 4 * 8 * 2
#: Numbers of a bomb, and the most memory that any verb may take for it.
BOMB, MOST = 2**27, 2**25

V3: dict[str, Callable[[], list[Any]]] = {
    "gzip": lambda: [BytesCodec(), GzipCodec(level=1)],
    "zstd": lambda: [BytesCodec(), ZstdCodec(level=1, checksum=True)],
    "blosc": lambda: [BytesCodec(), BloscCodec(cname="lz4", clevel=1)],
    "zlib": lambda: [BytesCodec(), Zlib(level=1)],
    "lz4": lambda: [BytesCodec(), LZ4()],
    "bz2": lambda: [BytesCodec(), BZ2(level=1)],
    "lzma": lambda: [BytesCodec(), LZMA()],
    "gzip, crc32c": lambda: [BytesCodec(), GzipCodec(level=1), Crc32cCodec()],
    "transpose, gzip": lambda: [TransposeCodec(order=(2, 0, 1)), BytesCodec(), GzipCodec()],
    "delta, gzip": lambda: [Delta(dtype="<u2"), BytesCodec(), GzipCodec()],
    "gzip, zstd": lambda: [BytesCodec(), GzipCodec(level=1), ZstdCodec(level=1)],
}


def made(path: Path, kind: str) -> Path:
    settings: dict[str, Any] = {"shape": VOLUME.shape, "dtype": "u2", "store": str(path)}
    if kind == "v2 filter":
        array = zarr.create(
            chunks=CHUNKS, zarr_format=2, compressor=numcodecs.Zlib(1),
            filters=[numcodecs.Delta("u2")], **settings,
        )  # fmt: skip
    elif kind.startswith("shards of "):
        inner = V3[kind.removeprefix("shards of ")]()
        array = zarr.create_array(
            chunks=CHUNKS, shards=(2, 8, 16), filters=[c for c in inner if _is_filter(c)],
            compressors=[c for c in inner if not _is_filter(c) and not isinstance(c, BytesCodec)],
            **settings,
        )  # fmt: skip
    else:
        array = zarr.create(chunks=CHUNKS, zarr_format=3, codecs=V3[kind](), **settings)
    array[:] = VOLUME
    return path


def _is_filter(codec: Any) -> bool:
    return isinstance(codec, (TransposeCodec, Delta))


KINDS = (*V3, *(f"shards of {kind}" for kind in ("gzip", "zstd", "blosc", "lz4")), "v2 filter")


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_are_read_and_changed_as_they_were(tmp_path: Path, kind: str) -> None:
    path = made(tmp_path / "a.zarr", kind)
    name = "zarr.json" if (path / "zarr.json").exists() else ".zarray"
    before = json.loads((path / name).read_text())
    lazy = io.read_zarr(path)
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), VOLUME, strict=True)
    opened: Any = io.open(path, mode="r+")
    plain = zarr.open_array(str(path), mode="r")
    assert opened.metadata == plain.metadata
    assert repr(opened.metadata) == repr(plain.metadata)
    assert opened.compressors == plain.compressors
    for whole in (opened, pickle.loads(pickle.dumps(opened)), cloudpickle.loads(
        cloudpickle.dumps(opened))):  # fmt: skip
        np.testing.assert_array_equal(whole[:], VOLUME)
    opened[1] = 7
    opened.attrs["who"] = "me"
    after = json.loads((path / name).read_text())
    assert {**after, "attributes": {}} == {**before, "attributes": {}}
    np.testing.assert_array_equal(zarr.open_array(str(path), mode="r")[1], 7)
    np.testing.assert_array_equal(io.read_zarr(path)[[0, 2]].compute(), VOLUME[[0, 2]])


def with_crc32c(data: bytes) -> bytes:
    return data + crc32c(data).to_bytes(4, "little")


def bomb_of(kind: str) -> bytes:
    """Give a chunk file of a kind that decodes to far more than a chunk."""
    zeros = bytes(BOMB)
    inner = kind.removeprefix("shards of ")
    if inner in ("gzip", "transpose, gzip", "delta, gzip"):
        return gzip.compress(zeros, 1)
    if inner == "gzip, crc32c":
        return with_crc32c(gzip.compress(zeros, 1))
    if inner == "gzip, zstd":
        return bytes(numcodecs.Zstd(1).encode(gzip.compress(zeros, 1)))
    config: dict[str, Any] = {"id": "zlib" if inner == "v2 filter" else inner}
    return bytes(get_codec(config).encode(zeros))


def put(path: Path, kind: str) -> None:
    bomb = bomb_of(kind)
    if kind.startswith("shards of "):
        # Of four chunks, each the bomb, and the index of offsets and sizes with its CRC32C.
        index = np.array([[0, len(bomb)]] * 4, "<u8").tobytes()
        bomb += with_crc32c(index)
    for file in path.rglob("*"):
        if file.is_file() and not file.name.startswith((".", "zarr.json")):
            file.write_bytes(bomb)


def napari(path: Path, out: Path) -> None:
    from scout_dask_io.view.napari import get_reader

    read = get_reader(str(path))
    assert read is not None
    np.asarray(read(str(path))[0][0])


VERBS: dict[str, Callable[[Path, Path], Any]] = {
    "read": lambda path, out: io.read_zarr(path).compute(scheduler="sync"),
    "region": lambda path, out: io.read_region(io.read_zarr(path), np.s_[0, :2, :2]),
    "open": lambda path, out: io.open(path, mode="r")[0],
    "convert": lambda path, out: io.convert(path, out / "b.zarr", progress=False),
    "export": lambda path, out: io.export(path, out / "b.tif", progress=False),
    "preview": lambda path, out: io.preview(path),
    "napari": napari,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_is_an_error_that_takes_no_memory(
    tmp_path: Path, kind: str, peak: Callable[[], int]
) -> None:
    path, out = made(tmp_path / "a.zarr", kind), tmp_path / "out"
    put(path, kind)
    out.mkdir()
    for verb, work in VERBS.items():
        before = peak()
        # What is opened is zarr's own, with zarr's own errors.
        kinds = Exception if verb == "open" else io.ScoutIOError
        with pytest.raises(kinds) as caught:
            work(path, out)
        assert verb == "open" or "a.zarr" in str(caught.value)
        assert peak() - before < MOST, f"{verb} took {peak() - before:,} bytes"
        assert not list(out.iterdir())
    figure("bombs through zarr's codecs", verbs=len(VERBS) + 1, foreign_or_large=0)
    # What verify finds is no error of it.
    before = peak()
    if kind != "v2 filter":  # which is no array that is checked chunk by chunk
        assert not io.verify(path, deep=True).ok
    assert peak() - before < MOST


@pytest.fixture
def peak() -> Callable[[], int]:
    """Give what has been the most resident memory since it was asked before, and begins anew."""

    def asked() -> int:
        status = Path("/proc/self/status").read_text()
        most = int(status.partition("VmHWM:")[2].split()[0]) * 1024
        Path("/proc/self/clear_refs").write_text("5")
        return most

    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the most memory cannot be asked for anew here")
    asked()
    return asked


def test_a_file_of_a_chunk_that_is_too_large_is_not_read(
    tmp_path: Path, peak: Callable[[], int]
) -> None:
    for kind in ("gzip", "shards of gzip", "v2 filter"):
        path = made(tmp_path / f"{kind}.zarr", kind)
        for file in path.rglob("*"):
            if file.is_file() and not file.name.startswith((".", "zarr.json")):
                os.truncate(file, 2**34)  # takes no room
        before = peak()
        with pytest.raises(io.ChunkReadError, match=r"\.zarr"):
            io.read_zarr(path).compute(scheduler="sync")
        assert peak() - before < MOST


def test_streams_one_after_another_are_one_chunk() -> None:
    whole = b"abc" * 40
    for codec in (numcodecs.GZip(1), numcodecs.BZ2(1), numcodecs.LZMA()):
        two = bytes(codec.encode(whole[:50])) + bytes(codec.encode(whole[50:]))
        assert decompress(codec, two, len(whole)) == whole == bytes(codec.decode(two))
        with pytest.raises(ValueError, match="more than 119"):
            decompress(codec, two, len(whole) - 1)
        with pytest.raises(ValueError, match="cut off"):
            decompress(codec, two[:-5], len(whole))
    assert decompress(numcodecs.Blosc(), b"", 9) is None


def test_what_no_compressor_bounds_is_left_as_it_is() -> None:
    words = zarr.create_array(zarr.storage.MemoryStore(), shape=(3,), dtype=str, zarr_format=3)
    assert bounded(words) is words
    plain = zarr.create(store=zarr.storage.MemoryStore(), shape=(3,), dtype="u2",
                        zarr_format=3, codecs=[BytesCodec()])  # fmt: skip
    assert bounded(plain) is plain
