"""Bands halved piece by piece, or not at all, against the band halved whole."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from helpers import make_volume
from hypothesis import given
from hypothesis import strategies as st

from scout_dask_io.core import downsample as piecewise
from scout_dask_io.core.downsample import PieceHalver, downsample
from scout_dask_io.core.grid import Region, Shape, chunk_counts, iter_block_regions, iter_regions


def fill(
    halver: PieceHalver, band: np.ndarray, factors: Shape, pieces: Iterable[Region]
) -> np.ndarray:
    """Give what a band becomes, 0 where nothing was given."""
    out = np.zeros(chunk_counts(band.shape, factors), band.dtype)
    halver.begin(band.shape)
    for where in pieces:
        found = halver.put(where, band[where])
        if found is not None:
            lower, values = found
            assert not out[lower].any()
            out[lower] = values
    return out


@st.composite
def cuts(draw: st.DrawFn) -> tuple[Shape, list[Region]]:
    """Draw a band and a cut of it into pieces, in any order."""
    shape = tuple(draw(st.integers(1, 9)) for _ in range(draw(st.integers(1, 4))))
    axes = []
    for n in shape:
        edges = sorted({0, n, *draw(st.lists(st.integers(0, n), max_size=3))})
        axes.append(tuple(b - a for a, b in pairwise(edges)))
    return shape, draw(st.permutations([r for _, r in iter_block_regions(tuple(axes))]))


@given(cut=cuts(), data=st.data(), method=st.sampled_from(["mean", "mode", "nearest"]))
def test_what_is_halved_piece_by_piece_is_the_band_halved(cut, data, method: str):
    shape, pieces = cut
    factors = tuple(data.draw(st.sampled_from([1, 2])) for _ in shape)
    band = make_volume(shape) % 1000 + 1
    expected = downsample(band, factors, method)
    halver = PieceHalver(factors, method, band.dtype)
    for _ in range(2):  # the next band begins anew
        found = fill(halver, band, factors, pieces)
        given_back = found != 0
        np.testing.assert_array_equal(found[given_back], expected[given_back])
        assert halver.is_whole() <= bool(given_back.all())
        cuts_no_pair = all(
            f == 1 or (s.start % 2 == 0 and (s.stop % 2 == 0 or s.stop == n))
            for where in pieces
            for s, f, n in zip(where, factors, shape, strict=True)
        )
        assert halver.is_whole() >= cuts_no_pair


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("shape", [(6, 10, 14), (5, 9, 7)])
def test_planes_that_come_one_at_a_time_wait_for_each_other(shape: Shape, order: int):
    band = make_volume(shape)
    for rows in (shape[1], 4):
        pieces = list(iter_regions(shape, (1, rows, shape[2])))[::order]
        halver = PieceHalver((2, 2, 2), "mean", band.dtype)
        found = fill(halver, band, (2, 2, 2), pieces)
        assert halver.is_whole()
        np.testing.assert_array_equal(found, downsample(band, (2, 2, 2)))


def test_a_byte_order_of_the_file_is_that_of_the_machine_afterwards():
    band = make_volume((4, 6, 8)).astype(">u2")
    halver = PieceHalver((2, 2, 2), "mean", np.dtype("<u2"))
    found = fill(halver, band, (2, 2, 2), iter_regions(band.shape, (1, 6, 8)))
    assert halver.is_whole()
    np.testing.assert_array_equal(found, downsample(band.astype("u2"), (2, 2, 2)))


def test_pieces_that_do_not_go_leave_the_band_to_its_chunks(monkeypatch):
    band = make_volume((4, 6, 8))
    planes = list(iter_regions(band.shape, (1, 6, 8)))
    halver = PieceHalver((2, 2, 2), "mean", band.dtype)
    fill(halver, band, (2, 2, 2), planes[:3])  # one is missing
    assert not halver.is_whole()
    fill(halver, band, (2, 2, 2), [*planes[:3], planes[2]])  # one comes twice, its other never
    assert not halver.is_whole()
    fill(halver, band, (2, 2, 2), iter_regions(band.shape, (1, 3, 8)))  # rows 2 and 3 apart
    assert not halver.is_whole()
    fill(halver, band.astype("u4"), (2, 2, 2), planes)  # would be converted
    assert not halver.is_whole()
    monkeypatch.setattr(piecewise, "CACHED_NBYTES", band[0].nbytes)
    fill(halver, band, (2, 2, 2), planes)  # pairs of planes are too large
    assert not halver.is_whole()
    fill(halver, band, (1, 2, 2), planes)
    assert not PieceHalver((2, 2), "mean", band.dtype).is_whole()  # no band yet
