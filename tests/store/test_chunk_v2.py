"""Chunks to bytes and back against zarr and numcodecs, and files that are whole or refused."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import make_volume, python

from scout_dask_io.errors import ChunkReadError
from scout_dask_io.files.whole_files import Room, read_file
from scout_dask_io.store.chunk_v2 import (
    ArrayFormat,
    ChunkDecoder,
    ChunkEncoder,
    write_file,
)

SHAPE, CHUNKS = (5, 7, 9), (4, 3, 5)

CODECS: dict[str, Any] = {
    "none": None,
    "blosc-zstd": numcodecs.Blosc("zstd", 1, numcodecs.Blosc.BITSHUFFLE, blocksize=120),
    "blosc-lz4": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
    "zstd": numcodecs.Zstd(3),
    "zstd-checksum": numcodecs.Zstd(3, checksum=True),
    "lz4": numcodecs.LZ4(),
    "zlib": numcodecs.Zlib(6),
    "gzip": numcodecs.GZip(6),
    "bz2": numcodecs.BZ2(9),
    "lzma": numcodecs.LZMA(),
}
DTYPES = ["|b1", "|i1", "<u2", ">u2", "<i8", ">f4", "<f2", "<f8", "<c8", ">c16"]


def make_format(dtype: str = "<u2", codec: Any = None, **other: Any) -> ArrayFormat:
    meta = {
        "zarr_format": 2,
        "shape": SHAPE,
        "chunks": CHUNKS,
        "dtype": dtype,
        "compressor": None if codec is None else codec.get_config(),
        "fill_value": 0,
        "order": "C",
        "filters": None,
        **other,
    }
    found = ArrayFormat.from_metadata(meta, "/")
    assert found is not None
    return found


def make_chunk(dtype: str = "<u2") -> np.ndarray:
    return make_volume(CHUNKS, dtype).astype(dtype)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_chunk_decodes_to_what_was_encoded(dtype: str, codec: Any, order: str) -> None:
    fmt = make_format(dtype, codec, order=order)
    chunk = make_chunk(dtype)
    data = ChunkEncoder(fmt).encode(chunk)
    assert data is not None
    got = ChunkDecoder(fmt).decode(bytes(data), Path("0/0/0"))
    assert (got.shape, got.dtype) == (CHUNKS, np.dtype(dtype))
    np.testing.assert_array_equal(got, chunk)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_the_bytes_are_those_that_zarr_reads_and_writes(
    tmp_path: Path, codec: Any, order: str
) -> None:
    array = zarr.create_array(
        store=tmp_path / "z",
        shape=CHUNKS,
        chunks=CHUNKS,
        dtype=">u2",
        compressors=codec,
        order=order,
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    fmt = make_format(">u2", codec, order=order)
    chunk, other = make_chunk(">u2"), make_chunk(">u2")[::-1].copy()
    array[...] = other
    file = tmp_path / "z" / "0" / "0" / "0"
    np.testing.assert_array_equal(ChunkDecoder(fmt).decode(file.read_bytes(), file), other)
    file.write_bytes(bytes(ChunkEncoder(fmt).encode(chunk) or b""))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "z", mode="r")[...], chunk)


@pytest.mark.parametrize(
    "codec", [numcodecs.PackBits(), numcodecs.Delta("|b1"), numcodecs.Shuffle(2)], ids=str
)
def test_codecs_that_give_arrays_are_counted_in_bytes(codec: Any) -> None:
    dtype = "<u2" if codec.codec_id == "shuffle" else "|b1"
    fmt = make_format(dtype, codec)
    chunk = make_chunk(dtype)
    data = ChunkEncoder(fmt).encode(chunk)
    assert data is not None
    assert len(data) == len(bytes(data))
    if codec.codec_id == "shuffle":
        got = ChunkDecoder(fmt).decode(bytes(data), Path("0"))
        np.testing.assert_array_equal(got, chunk)


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("|b1", True),
        ("<u2", 0),
        (">u2", 513),
        ("<i8", -(2**63)),
        ("<f4", 0.5),
        ("<f8", "NaN"),
        ("<f2", "-Infinity"),
        ("<c8", [1.5, "NaN"]),
        ("<c16", [0.0, 2.0]),
    ],
)
def test_a_chunk_of_fill_values_is_not_stored_and_one_other_element_stores_it(
    dtype: str, fill: Any
) -> None:
    fmt = make_format(dtype, fill_value=fill)
    chunk = np.full(CHUNKS, fmt.fill(), dtype)
    encoder = ChunkEncoder(fmt)
    assert encoder.encode(chunk) is None
    for at in ((0, 0, 0), (3, 2, 4), (1, 1, 1)):
        other = chunk.copy()
        other[at] = not fill if dtype == "|b1" else 3
        assert encoder.encode(other) is not None


def test_minus_zero_is_not_the_fill_value_zero() -> None:
    for dtype in ("<f2", "<f4", ">f8", "<c8"):
        chunk = np.zeros(CHUNKS, dtype)
        encoder = ChunkEncoder(make_format(dtype))
        assert encoder.encode(chunk) is None
        chunk[-1, -1, -1] = -0.0
        data = encoder.encode(chunk)
        assert data is not None
        got = ChunkDecoder(make_format(dtype)).decode(bytes(data), Path("0"))
        assert got.tobytes() == chunk.tobytes()


def damaged(data: bytes, kind: str) -> bytes:
    if kind == "empty":
        return b""
    if kind == "cut in half":
        return data[: len(data) // 2]
    if kind == "last byte gone":
        return data[:-1]
    if kind == "header alone":
        return data[:3]
    if kind == "other bytes":
        return bytes(range(256)) * 2
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["empty", "cut in half", "last byte gone", "header alone"])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_cut_chunk_is_an_error_that_names_the_file(codec: Any, kind: str) -> None:
    fmt = make_format("<u2", codec)
    data = bytes(ChunkEncoder(fmt).encode(make_chunk()) or b"")
    with pytest.raises(ChunkReadError, match=r"a\.zarr.0.1.2"):
        ChunkDecoder(fmt).decode(damaged(data, kind), Path("a.zarr/0/1/2"))


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_bytes_that_are_no_chunk_are_an_error(codec: Any) -> None:
    with pytest.raises(ChunkReadError, match=r"restore it or write|belongs to another array"):
        ChunkDecoder(make_format("<u2", codec)).decode(
            damaged(b"", "other bytes"), Path("a.zarr/0/1/2")
        )


@pytest.mark.parametrize("factor", [2, 0.5], ids=["larger", "smaller"])
@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_chunk_of_another_array_is_an_error(codec: Any, factor: float) -> None:
    fmt = make_format("<u2", codec)
    elements = np.arange(int(np.prod(CHUNKS) * factor), dtype="<u2")
    data = elements.tobytes() if codec is None else bytes(codec.encode(elements))
    with pytest.raises(ChunkReadError, match=r"0.1.2.*(expected|cannot be decoded)"):
        ChunkDecoder(fmt).decode(data, Path("0/1/2"))


@pytest.mark.skipif(os.name == "nt", reason="limits its memory by resource")
def test_a_chunk_that_claims_gigabytes_takes_no_memory() -> None:
    # In a child with little room: a decoder that believed the header would fail there.
    out = python(
        "-c",
        """
import resource, numcodecs, numpy as np
from pathlib import Path
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.store.chunk_v2 import ChunkDecoder
from scout_dask_io.store.chunk_v2 import ArrayFormat

zeros = np.zeros(64_000_000, "u1")
codecs = [numcodecs.Blosc("zstd"), numcodecs.Zstd(), numcodecs.LZ4(), numcodecs.Zlib(1),
          numcodecs.GZip(1), numcodecs.BZ2(1), numcodecs.LZMA(preset=0)]
bombs = [(codec, bytes(codec.encode(zeros))) for codec in codecs]
del zeros
for line in open("/proc/self/statm"):
    used = int(line.split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 30_000_000, -1))
for codec, bomb in bombs:
    meta = dict(zarr_format=2, shape=[60], chunks=[60], dtype="<u2", fill_value=0, order="C",
                compressor=codec.get_config(), filters=None)
    try:
        ChunkDecoder(ArrayFormat.from_metadata(meta, "/")).decode(bomb, Path("0"))
    except ChunkReadError as err:
        assert not isinstance(err.__cause__, MemoryError), (codec, err.__cause__)
        print(codec.codec_id)
""",
    )
    assert out.split() == ["blosc", "zstd", "lz4", "zlib", "gzip", "bz2", "lzma"]


def test_a_zstd_frame_without_a_size_is_decoded() -> None:
    # Written by a streaming compressor: magic, then a frame that says no content size.
    chunk = make_chunk()
    raw = chunk.tobytes()
    block = (len(raw) << 3 | 1).to_bytes(3, "little") + raw
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + block
    fmt = make_format("<u2", numcodecs.Zstd())
    np.testing.assert_array_equal(ChunkDecoder(fmt).decode(frame, Path("0")), chunk)


def test_read_file_gives_the_bytes_and_none_where_there_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "0").write_bytes(b"abcdef")
    assert read_file(tmp_path / "0", Room(6)) == b"abcdef"
    assert read_file(tmp_path / "1", Room(6)) is None
    assert read_file(tmp_path / "5" / "1", Room(6)) is None


def test_files_are_given_no_more_memory_than_the_largest_of_them_has(tmp_path: Path) -> None:
    room = Room(2**50)
    for name, data in (("0", b"abc"), ("1", b"abcdef" * 100), ("2", b"xy")):
        (tmp_path / name).write_bytes(data)
        found = read_file(tmp_path / name, room)
        assert found is not None
        assert (bytes(found), found.nbytes) == (data, len(data))
        assert len(found.obj) < 700


def test_read_file_goes_through_a_link_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"abc")
    (tmp_path / "0").symlink_to(tmp_path / "real")
    assert read_file(tmp_path / "0", Room(3)) == b"abc"


@pytest.mark.parametrize(
    "kind", ["fifo", "directory", "device", "loop", "too large", "below a file"]
)
def test_read_file_refuses_what_is_no_chunk_and_does_not_hang(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "0"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        path.write_bytes(b"")
        path = path / "1"
    with pytest.raises(ChunkReadError) as caught:
        read_file(path, Room(1000))
    assert str(path) in str(caught.value)


def test_write_file_makes_the_directories_and_replaces_whole(tmp_path: Path) -> None:
    root, tmp = tmp_path / "array", tmp_path / "tmp"
    root.mkdir()
    tmp.mkdir()
    path = root / "3" / "1" / "2"
    write_file(path, tmp / "a", b"first", root=root)
    assert path.read_bytes() == b"first"
    write_file(path, tmp / "a", memoryview(b"second"), root=root, durable=True)
    assert path.read_bytes() == b"second"
    assert list(tmp.iterdir()) == []


def test_write_file_leaves_nothing_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, tmp = tmp_path / "array", tmp_path / "tmp"
    root.mkdir()
    tmp.mkdir()
    (root / "0").write_bytes(b"old")

    def full(fd: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        write_file(root / "0", tmp / "a", b"new", root=root)
    assert (root / "0").read_bytes() == b"old"
    assert list(tmp.iterdir()) == []


def test_write_file_goes_on_after_short_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:3])))
    write_file(tmp_path / "0", tmp_path / "a", bytes(range(100)), root=tmp_path)
    assert (tmp_path / "0").read_bytes() == bytes(range(100))


def test_write_file_syncs_before_it_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b))[1])
    write_file(tmp_path / "0", tmp_path / "a", b"1", root=tmp_path, durable=True)
    assert calls == ["fsync", "replace"]
    calls.clear()
    write_file(tmp_path / "1", tmp_path / "a", b"1", root=tmp_path)
    assert calls == ["replace"]


def test_a_late_writer_of_a_discarded_job_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "job" / "array"
    with pytest.raises(FileNotFoundError):
        write_file(root / "0", tmp_path / "job" / "tmp" / "a", b"late", root=root)
    assert list(tmp_path.iterdir()) == []


def test_decoders_in_two_threads_do_not_share_their_buffer() -> None:
    fmt = make_format("<u2", CODECS["blosc-lz4"])
    chunks = [make_volume(CHUNKS, seed=s) for s in (1, 2)]
    data = [bytes(ChunkEncoder(fmt).encode(c) or b"") for c in chunks]
    wrong: list[int] = []

    def work(k: int) -> None:
        decoder = ChunkDecoder(fmt)
        for _ in range(200):
            if not np.array_equal(decoder.decode(data[k], Path("0")), chunks[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
