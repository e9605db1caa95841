"""Parts of chunks by the blocks of Blosc that hold them, against the whole decoded."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import make_volume
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import Blosc

import scout_dask_io as io
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.store import chunk_v2
from scout_dask_io.store.blosc_blocks import blocks_of
from scout_dask_io.store.chunk_v2 import ArrayFormat


def bytes_of(nbytes: int, seed: int = 0) -> np.ndarray:
    """Give bytes that compress, but not to nothing."""
    return np.random.default_rng(seed).integers(0, 9, nbytes).astype("u1")


@st.composite
def wholes(draw: st.DrawFn) -> tuple[bytes, np.ndarray]:
    itemsize = draw(st.sampled_from([1, 2, 3, 4, 8]))
    data = bytes_of(draw(st.integers(1, 20_000)) * itemsize, draw(st.integers(0, 99)))
    codec = Blosc(
        draw(st.sampled_from(["zstd", "lz4", "lz4hc", "zlib", "blosclz"])),
        draw(st.sampled_from([0, 1, 5])),
        draw(st.sampled_from([Blosc.NOSHUFFLE, Blosc.SHUFFLE, Blosc.BITSHUFFLE])),
        draw(st.sampled_from([0, 256, 1000, 4096, 1 << 20])),
    )
    return codec.encode(data.view(f"V{itemsize}")), data


@given(wholes(), st.data())
def test_the_blocks_of_a_part_decode_to_what_the_whole_has_there(
    encoded: tuple[bytes, np.ndarray], data: st.DataObject
) -> None:
    whole, expected = encoded
    start = data.draw(st.integers(0, len(expected) - 1))
    stop = data.draw(st.integers(start + 1, len(expected)))
    found = blocks_of(whole, start, stop)
    if found is None:
        return
    some, low, high = found
    assert low <= start < stop <= high
    assert high - low < len(expected)
    assert len(some) < len(whole)
    np.testing.assert_array_equal(np.frombuffer(Blosc().decode(some), "u1"), expected[low:high])


def test_blocks_may_lie_in_any_order() -> None:
    data = bytes_of(16 * 4096)
    whole = Blosc("zstd", 1, Blosc.NOSHUFFLE, 4096).encode(data)
    n = len(data) // 4096
    begins = np.frombuffer(whole, "<u4", n, 16)
    ends = [*begins[1:].tolist(), len(whole)]
    # As several threads of a writer may leave them.
    order, at = np.random.default_rng(3).permutation(n), 16 + 4 * n
    places, parts = np.zeros(n, "<u4"), []
    for k in order.tolist():
        places[k] = at
        parts.append(whole[begins[k] : ends[k]])
        at += len(parts[-1])
    mixed = whole[:16] + places.tobytes() + b"".join(parts)
    np.testing.assert_array_equal(np.frombuffer(Blosc().decode(mixed), "u1"), data)
    for start in range(0, len(data), 5000):
        found = blocks_of(mixed, start, start + 5000 if start + 5000 < len(data) else len(data))
        assert found is not None
        some, low, high = found
        np.testing.assert_array_equal(np.frombuffer(Blosc().decode(some), "u1"), data[low:high])


@given(wholes(), st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=4))
def test_a_damaged_header_gives_no_part_or_one_that_a_decoder_takes_or_refuses(
    encoded: tuple[bytes, np.ndarray], changes: list[tuple[int, int]]
) -> None:
    whole, data = bytearray(encoded[0]), encoded[1]
    for at, value in changes:
        whole[at % len(whole)] = value
    found = blocks_of(bytes(whole), 0, min(len(data), 10))
    if found is not None:
        some, low, high = found
        assert struct.unpack_from("<I4xI", some, 4) == (high - low, len(some))
        out = np.empty(high - low, "u1")
        with suppress(RuntimeError, ValueError):
            Blosc().decode(some, out=out)


@pytest.mark.parametrize("cut", [0, 3, 15, 17, 40])
def test_a_buffer_that_is_cut_off_gives_no_part(cut: int) -> None:
    whole = Blosc("zstd", 1, 1, 4096).encode(bytes_of(16 * 4096))
    assert blocks_of(whole[:cut], 0, 10) is None
    assert blocks_of(whole[:-1], 0, 10) is None


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("cname", "block_nbytes"), [("zstd", 4096), ("lz4", 65536)])
def test_parts_of_an_array_of_other_software_are_those_of_zarr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, cname: str, block_nbytes: int
) -> None:
    volume = make_volume((70, 80, 90)) // 256
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=volume.shape, dtype=volume.dtype, chunks=(64, 64, 64),
        zarr_format=2, order=order, compressors=Blosc(cname, 1, Blosc.SHUFFLE, 4096),
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )  # fmt: skip
    array[...] = volume
    decoded: list[int] = []

    def noted(data: Any, start: int, stop: int) -> Any:
        found = blocks_of(data, start, stop)
        decoded.append(64**3 * 2 if found is None else found[2] - found[1])
        return found

    monkeypatch.setattr(chunk_v2, "blocks_of", noted)
    lazy = io.read_zarr(tmp_path / "a.zarr")
    rng = np.random.default_rng(5)
    for _ in range(20):
        starts = [int(rng.integers(0, n)) for n in volume.shape]
        box = tuple(
            slice(s, int(rng.integers(s + 1, n + 1)))
            for s, n in zip(starts, volume.shape, strict=True)
        )
        np.testing.assert_array_equal(io.read_region(lazy, box), volume[box])
        np.testing.assert_array_equal(lazy[box].compute(), volume[box])
    boxes = [np.s_[3:5, 2:9, 60:69], np.s_[30, 2:9], np.s_[4:70, 78, 89]]
    for found, box in zip(io.read_region(lazy, boxes), boxes, strict=True):
        np.testing.assert_array_equal(found, volume[box])
    decoded.clear()
    plane = np.s_[7] if order == "C" else np.s_[:, :, 7]
    np.testing.assert_array_equal(io.read_region(lazy, plane), volume[plane])
    # A plane of a chunk has 8 KiB; at the edge it is less.
    assert max(decoded) == max(block_nbytes, 2 * 64**2)


def test_a_chunk_whose_needed_blocks_are_damaged_is_refused() -> None:
    fmt = ArrayFormat((64, 64, 64), (64, 64, 64), np.dtype("<u2"), 0, "C", "/",
                      Blosc("zstd", 1, Blosc.SHUFFLE, 32768).get_config())  # fmt: skip
    chunk = bytes_of(64**3 * 2).view("u2").reshape(64, 64, 64)
    data = bytearray(Blosc("zstd", 1, Blosc.SHUFFLE, 32768).encode(chunk))
    part = np.s_[60:61, 0:64, 0:64]
    np.testing.assert_array_equal(fmt.decoder().decode(data, "0", part)[part], chunk[part])
    data[-2000:] = b"\xff" * 2000
    with pytest.raises(ChunkReadError, match="cannot be decoded"):
        fmt.decoder().decode(data, "0", part)
