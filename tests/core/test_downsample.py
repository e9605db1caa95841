"""Halving is exact: against plain numpy, for every dtype, odd edges included."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from helpers import make_volume

from scout_dask_io.core.downsample import LowerSource, downsample
from scout_dask_io.core.grid import chunk_counts
from scout_dask_io.core.source import ArraySource
from scout_dask_io.errors import ArgumentError

FACTORS = [
    (2, 2, 2),
    (3, 1, 4),
    (1, 6, 2),
    (1, 2, 2),
    (2, 1, 1),
    (2, 2, 1),
    (1, 1, 2),
    (2, 1, 2),
    (1, 1, 1),
]
INTEGERS = ["u1", "i1", "u2", "i2", ">u2", "u4", "i4", "u8", "i8"]


def windows(values: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Give an object array of the lists of elements that become one."""
    out = np.empty(chunk_counts(values.shape, factors), object)
    for at in np.ndindex(*out.shape):
        where = tuple(slice(i * f, (i + 1) * f) for i, f in zip(at, factors, strict=True))
        out[at] = values[where].ravel().tolist()
    return out


def extreme(shape: tuple[int, ...], code: str) -> np.ndarray:
    """Give values over a dtype's whole range, its ends among them, and ties of the mean."""
    rng, info = np.random.default_rng(5), np.iinfo(np.dtype(code))
    native, n = np.dtype(code).newbyteorder("="), int(np.prod(shape))
    values = rng.integers(info.min, info.max, n, native, endpoint=True)
    values[: n // 4] = info.max
    values[-(n // 4) - 1 :] = rng.integers(0, 4, n // 4 + 1)
    values[n // 2 : n // 2 + 9] = info.min
    values = values.reshape(shape)
    return values.astype(code)


@pytest.mark.parametrize("code", INTEGERS)
@pytest.mark.parametrize("factors", FACTORS)
def test_the_mean_of_integers_is_the_nearest_and_of_halves_the_even(code: str, factors):
    for shape in [(4, 6, 8), (5, 7, 9), (1, 3, 2), (2, 1, 1)]:
        values = extreme(shape, code)
        # Python's integers and fractions overflow nowhere, and round halves to the even.
        expected = [round(Fraction(sum(w), len(w))) for w in windows(values, factors).ravel()]
        found = downsample(values, factors)
        assert found.dtype == np.dtype(code).newbyteorder("=") or factors == (1, 1, 1)
        assert found.shape == chunk_counts(shape, factors)
        assert found.ravel().tolist() == expected


@pytest.mark.parametrize("used", [16, 15, 14, 13, 8])
@pytest.mark.parametrize("factors", FACTORS)
def test_the_mean_is_exact_whatever_bits_a_camera_leaves_unused(used: int, factors):
    # Sums are kept in 16 bits while they fit: at each limit, and one above it.
    for top in (2**used - 1, 2 ** (used - 1)):
        values = np.minimum(extreme((5, 7, 9), "u2"), top).astype("u2")
        values[:2, :2] = top
        expected = [round(Fraction(sum(w), len(w))) for w in windows(values, factors).ravel()]
        assert downsample(values, factors).ravel().tolist() == expected


@pytest.mark.parametrize("code", ["f2", "f4", "f8", "c8", "c16"])
def test_the_mean_of_floats_neither_overflows_nor_loses_digits(code: str):
    values = make_volume((5, 7, 9), "f8").astype(code)
    expected = [np.mean(w) for w in windows(values, (2, 2, 2)).ravel()]
    found = downsample(values, (2, 2, 2))
    assert found.dtype == np.dtype(code)
    np.testing.assert_allclose(found.ravel(), np.array(expected).astype(code), rtol=1e-6)
    largest = np.full((2, 2, 2), np.finfo(code).max, code)
    np.testing.assert_array_equal(downsample(largest, (2, 2, 2)), largest[:1, :1, :1])
    nan = downsample(np.array([[[np.nan, 1, 2, 4]]], code), (1, 1, 2))
    assert np.isnan(nan[0, 0, 0])
    assert nan[0, 0, 1] == 3


@pytest.mark.parametrize("code", ["u1", "u2", "i4", "u8", "b1"])
def test_the_mode_is_the_most_frequent_label_and_the_first_of_equals(code: str):
    values = np.random.default_rng(1).integers(0, 3, (5, 7, 9)).astype(code)
    for factors in FACTORS[:5]:
        found = downsample(values, factors, "mode")
        expected = [max(w, key=lambda v, w=w: w.count(v)) for w in windows(values, factors).ravel()]
        assert found.dtype == values.dtype
        assert found.ravel().tolist() == expected
        nearest = downsample(values, factors, "nearest").ravel().tolist()
        assert nearest == [w[0] for w in windows(values, factors).ravel()]


def test_a_method_that_is_none_is_named():
    with pytest.raises(ArgumentError, match="mean, mode, nearest"):
        downsample(np.ones((2, 2)), (2, 2), "median")


@pytest.mark.parametrize("chunks", [(2, 4, 4), (3, 5, 7), (2, 5, 4), (5, 4, 4), (5, 14, 18)])
@pytest.mark.parametrize("method", ["mean", "mode", "nearest"])
def test_a_source_is_halved_region_by_region(chunks, method: str):
    volume = make_volume((5, 13, 18), "u1") // 60

    class InChunks(ArraySource):
        read_shape = chunks

        def iter_pieces(self, region):
            # Pieces end where chunks do, as those of stored arrays.
            cuts = [
                [(max(a, s.start), min(a + c, s.stop)) for a in range(0, n, c)
                 if a < s.stop and a + c > s.start]
                for s, c, n in zip(region, chunks, self.shape, strict=True)
            ]  # fmt: skip
            for cell in product(*cuts):
                where = tuple(slice(a, b) for a, b in cell)
                rel = zip(where, region, strict=True)
                yield (
                    tuple(slice(w.start - r.start, w.stop - r.start) for w, r in rel),
                    self.array[where],
                )

    source = LowerSource(InChunks(volume, "t"), (2, 2, 2), method)
    expected = downsample(volume, (2, 2, 2), method)
    assert (source.shape, source.dtype) == ((3, 7, 9), np.dtype("u1"))
    np.testing.assert_array_equal(source[...], expected)
    np.testing.assert_array_equal(source[1:3, 2:7, 4:8], expected[1:3, 2:7, 4:8])
