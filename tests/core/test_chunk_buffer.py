"""Chunks cut from pieces in any order against slices of a padded array."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scout_dask_io.core.chunk_buffer import ChunkBuffer
from scout_dask_io.core.grid import Region, Shape, iter_block_regions, iter_regions, region_shape


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Shape, Shape]:
    chunks = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    return tuple(draw(st.integers(1, 11)) for _ in chunks), chunks


@st.composite
def bands_of(draw: st.DrawFn, shape: Shape, chunks: Shape) -> Region:
    """Draw a band: whole chunks of the array."""
    band = []
    for n, c in zip(shape, chunks, strict=True):
        last = -(-n // c)
        first = draw(st.integers(0, last - 1))
        band.append(slice(first * c, min(draw(st.integers(first + 1, last)) * c, n)))
    return tuple(band)


@st.composite
def pieces_of(draw: st.DrawFn, extent: Shape) -> list[Region]:
    """Draw a cut of a band into pieces, in any order."""
    axes = []
    for n in extent:
        edges = sorted({0, n, *draw(st.lists(st.integers(0, n), max_size=3))})
        axes.append(tuple(b - a for a, b in pairwise(edges)))
    return draw(st.permutations([r for _, r in iter_block_regions(tuple(axes))]))


def padded_chunks(
    array: np.ndarray, chunks: Shape, band: Region, fill: Any
) -> dict[Shape, np.ndarray]:
    """What the chunks of a band must be: slices of the array, padded with the fill value."""
    widths = [(0, -n % c) for n, c in zip(array.shape, chunks, strict=True)]
    padded = np.pad(array, widths, constant_values=fill)
    expected = {}
    for part in iter_regions(region_shape(band), chunks):
        starts = [p.start + b.start for p, b in zip(part, band, strict=True)]
        index = tuple(s // c for s, c in zip(starts, chunks, strict=True))
        at = tuple(slice(s, s + c) for s, c in zip(starts, chunks, strict=True))
        expected[index] = padded[at]
    return expected


def check(buffer: ChunkBuffer, array: np.ndarray, chunks: Shape, band: Region, fill: Any) -> None:
    expected = padded_chunks(array, chunks, band, fill)
    found = list(buffer.iter_chunks())
    assert [index for index, _ in found] == sorted(expected)
    for index, chunk in found:
        assert chunk.shape == chunks
        assert chunk.flags.c_contiguous
        np.testing.assert_array_equal(chunk, expected[index])


@given(st.data())
def test_chunks_are_slices_of_the_array_padded_with_the_fill_value(data: st.DataObject) -> None:
    shape, chunks = data.draw(arrays())
    array = np.arange(1, np.prod(shape) + 1, dtype="u2").reshape(shape)
    buffer = ChunkBuffer(chunks, np.dtype("u2"), 777)
    # One buffer serves band after band: nothing of an earlier one may show.
    for _ in range(3):
        band = data.draw(bands_of(shape, chunks))
        buffer.begin(band)
        assert not buffer.is_full()
        for where in data.draw(pieces_of(region_shape(band))):
            buffer.put(where, array[band][where])
        assert buffer.is_full()
        check(buffer, array, chunks, band, 777)


@pytest.mark.parametrize(
    ("stored", "given_dtype"),
    [
        ("<u2", ">u2"),  # ImageJ's planes are big-endian
        ("<f4", ">f4"),
        ("<c8", ">c8"),
        ("|b1", "|b1"),
        ("<i8", "<i8"),
    ],
)
def test_pieces_of_another_byte_order_are_converted(stored: str, given_dtype: str) -> None:
    array = (np.arange(5 * 7) % 11).reshape(5, 7).astype(given_dtype)
    buffer = ChunkBuffer((2, 3), np.dtype(stored), 0)
    band = (slice(0, 5), slice(0, 7))
    buffer.begin(band)
    buffer.put(band, array)
    check(buffer, array, (2, 3), band, 0)
    assert all(chunk.dtype == np.dtype(stored) for _, chunk in buffer.iter_chunks())


@pytest.mark.parametrize("flip", [np.s_[:, ::-1], np.s_[:, :, ::-1], np.s_[:]])
@pytest.mark.parametrize("order", ["C", "F"])
def test_pieces_may_be_views_in_any_memory_order(order: Any, flip: Any) -> None:
    array = np.arange(7 * 9 * 5, dtype="u4").reshape(7, 9, 5).astype("u4", order)
    buffer = ChunkBuffer((3, 4, 2), np.dtype("u4"), 0)
    band = (slice(0, 7), slice(0, 9), slice(0, 5))
    buffer.begin(band)
    for z in reversed(range(7)):
        # Turned, copied and turned back: in the order of the array, from the other end.
        view = array[z : z + 1][flip].copy("K")[flip]
        buffer.put((slice(z, z + 1), slice(0, 9), slice(0, 5)), view)
    check(buffer, array, (3, 4, 2), band, 0)


@pytest.mark.parametrize("fill", [np.float32("nan"), np.float32(-0.0), np.float32("inf")])
def test_special_fill_values_stand_past_the_edge(fill: Any) -> None:
    buffer = ChunkBuffer((4,), np.dtype("f4"), fill)
    buffer.begin((slice(0, 5),))
    buffer.put((slice(0, 5),), np.arange(5, dtype="f4"))
    (_, _), (_, last) = buffer.iter_chunks()
    assert last[1:].tobytes() == np.full(3, fill, "f4").tobytes()


def test_a_piece_that_is_left_out_shows() -> None:
    buffer = ChunkBuffer((2, 2), np.dtype("u1"), 0)
    buffer.begin((slice(0, 3), slice(0, 3)))
    buffer.put((slice(0, 3), slice(0, 2)), np.ones((3, 2), "u1"))
    assert not buffer.is_full()
    buffer.put((slice(0, 3), slice(2, 3)), np.ones((3, 1), "u1"))
    assert buffer.is_full()


def test_room_is_kept_for_the_next_band() -> None:
    buffer = ChunkBuffer((4, 4), np.dtype("u2"), 0)
    buffer.begin((slice(0, 8), slice(0, 8)))
    first = next(buffer.iter_chunks())[1]
    buffer.begin((slice(8, 12), slice(0, 8)))
    assert np.shares_memory(first, next(buffer.iter_chunks())[1])
