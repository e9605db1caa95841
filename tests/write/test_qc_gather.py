"""Statistics of planes, gathered piece by piece in units, against numpy on the whole array."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from helpers import make_volume

from scout_dask_io.core.grid import iter_block_regions, iter_regions, region_shape, uniform_blocks
from scout_dask_io.write.qc.gather import (
    PlaneGatherer,
    Record,
    grid_steps,
    sample_thinning,
    saturated,
)
from scout_dask_io.write.qc.summary import PERCENTILES, VolumeSummary, candidates, summarise


def gather(
    volume: np.ndarray, chunks: tuple[int, ...], unit: tuple[int, ...], seed: int = 0
) -> VolumeSummary:
    """Gather as a write does, from pieces in any order, in another byte order."""
    blocks = uniform_blocks(volume.shape, unit)
    records = []
    for _, region in iter_block_regions(blocks):
        gatherer = PlaneGatherer(volume.shape, volume.dtype, region)
        pieces = list(iter_regions(region_shape(region), chunks))
        random.Random(seed).shuffle(pieces)
        for where in pieces:
            values = volume[region][where]
            got = gatherer.put(where, values.astype(volume.dtype.newbyteorder(">")))
            assert got.dtype == volume.dtype
            np.testing.assert_array_equal(got, values)
        records.append(gatherer.record())
    return summarise(
        volume.shape, volume.dtype, blocks, lambda units: map(records.__getitem__, units)
    )


@pytest.mark.parametrize(
    ("shape", "chunks", "unit"),
    [
        ((7, 70, 145), (3, 16, 32), (3, 32, 64)),  # units that hold a part of a plane
        ((7, 70, 145), (3, 16, 32), (6, 70, 145)),  # whole planes
        ((7, 71, 145), (7, 5, 3), (7, 15, 9)),  # chunks smaller than the grid, odd words
        ((2, 3, 70, 145), (1, 2, 16, 32), (1, 3, 16, 145)),  # channels
        ((2, 3, 70, 145), (2, 2, 16, 32), (2, 2, 32, 64)),  # two of them in a chunk
        ((70, 145), (16, 32), (32, 32)),  # one plane
        ((2, 2, 3, 40, 30), (1, 1, 2, 16, 16), (1, 1, 3, 32, 30)),
    ],
)
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4", "bool"])
def test_planes_are_as_numpy_finds_them(
    shape: tuple[int, ...], chunks: tuple[int, ...], unit: tuple[int, ...], dtype: Any
) -> None:
    volume = make_volume(shape, dtype)
    got = gather(volume, chunks, unit)
    planes = volume.reshape(-1, *shape[-2:])
    n = planes[0].size
    assert got.lead == (shape[:-2] or (1,))
    assert np.array_equal(got.planes["min"], planes.min(axis=(1, 2)))
    assert np.array_equal(got.planes["max"], planes.max(axis=(1, 2)))
    assert got.planes["n"].tolist() == [n] * len(planes)
    (sy, sx), (ty, tx) = grid_steps(shape), sample_thinning(shape)
    sample = planes[:, :: ty * sy, :: tx * sx].reshape(len(planes), -1)
    np.testing.assert_allclose(got.mean, sample.mean(axis=1, dtype="f8"), rtol=1e-6)
    want = np.percentile(sample.astype("f8"), PERCENTILES, axis=1, method="inverted_cdf").T
    assert np.array_equal(got.percentiles, want)
    assert got.counts.sum() == sample.size
    # numpy closes the last bin above, where ours holds less than its edge.
    as_float = sample.astype("f8")
    ours = [np.count_nonzero((as_float >= a) & (as_float < b))
            for a, b in zip(got.edges[:-2], got.edges[1:-1], strict=True)]  # fmt: skip
    assert got.counts.sum(axis=0)[:-1].tolist() == ours


def test_projections_are_maxima_of_the_pixels_of_the_grid() -> None:
    volume = make_volume((2, 5, 150, 90))
    got = gather(volume, (1, 2, 16, 32), (1, 4, 48, 64))
    assert grid_steps(volume.shape) == (5, 5)
    grid = volume[..., ::5, ::5]
    assert len(got.projections) == 2
    for channel, found in zip(grid, got.projections, strict=True):
        np.testing.assert_array_equal(found.xy, channel.max(axis=0))
        np.testing.assert_array_equal(found.zy, channel.max(axis=2))
        np.testing.assert_array_equal(found.zx, channel.max(axis=1))


def test_projections_of_many_planes_have_few_rows() -> None:
    volume = make_volume((1100, 8, 9))
    got = gather(volume, (64, 8, 9), (128, 8, 9))
    want = np.pad(volume.max(axis=2), ((0, 1), (0, 0))).reshape(-1, 3, 8).max(axis=1)
    np.testing.assert_array_equal(got.projections[0].zy, want)


@pytest.mark.parametrize(("top", "unit"), [(65535, (2, 16, 40)), (4095, (5, 40, 33))])
def test_saturated_elements_are_counted_all(top: int, unit: tuple[int, ...]) -> None:
    volume = np.minimum(make_volume((5, 40, 33)), 4094)
    volume[3, 7:29, 1:30] = top
    volume[1, 0, 5] = top
    got = gather(volume, (2, 16, 16), unit)
    assert got.saturation == top
    assert got.n_saturated.tolist() == [0, 1, 0, 22 * 29, 0]


def test_a_value_of_12_bits_is_no_saturation_where_there_are_larger_ones() -> None:
    volume = make_volume((5, 40, 33))
    volume[2] = 4095
    volume[3, 0, 0] = 4096
    got = gather(volume, (2, 16, 16), (2, 16, 33))
    assert got.saturation is None
    assert got.n_saturated.sum() == 0


def test_what_is_not_finite_is_counted_and_left_out_of_everything_else() -> None:
    volume = make_volume((4, 40, 33), "f4")
    volume[1, 3:9, 2] = np.nan
    volume[1, 0, 0] = np.inf
    volume[2] = np.nan
    got = gather(volume, (2, 16, 16), (2, 16, 33))
    assert got.planes["n_strange"].tolist() == [0, 7, 40 * 33, 0]
    finite = np.where(np.isinf(volume), np.nan, volume)
    assert got.planes["min"][1] == np.nanmin(finite[1])
    assert got.planes["max"][1] == np.nanmax(finite[1])
    sample = finite
    np.testing.assert_allclose(got.mean[1], np.nanmean(sample[1], dtype="f8"), rtol=1e-6)
    assert np.isnan(got.mean[2])
    assert np.isnan(got.percentiles[2]).all()
    assert got.counts.sum() == np.isfinite(sample).sum()


def test_a_constant_volume_has_one_bin() -> None:
    got = gather(np.full((3, 20, 30), 7, "u2"), (2, 16, 16), (2, 20, 30))
    assert (got.edges.tolist(), got.counts.tolist()) == ([7, 8], [[3 * 20 * 30]])
    assert candidates(got) == []


@pytest.mark.parametrize("shape", [(9, 70, 45), (9, 64, 64)])
def test_equal_planes_are_found_and_blank_ones_are_not_called_equal(
    shape: tuple[int, ...],
) -> None:
    volume = make_volume(shape)
    volume[6] = volume[2]
    volume[[4, 5]] = 17
    assert candidates(gather(volume, (4, 16, 16), (4, 32, 16))) == [[2, 6]]


def test_two_chunks_that_changed_places_make_another_plane() -> None:
    volume = np.tile(make_volume((2, 16, 16)), (1, 8, 8))
    volume[:, 32:48] += 3
    volume[1] = np.roll(volume[0], 32, axis=0)
    assert candidates(gather(volume, (1, 32, 32), (1, 128, 128))) == []


def test_the_order_of_pieces_does_not_matter() -> None:
    volume = make_volume((7, 70, 45))
    one, other = (gather(volume, (3, 16, 32), (3, 70, 45), seed) for seed in (1, 2))
    assert np.array_equal(one.planes, other.planes)
    assert np.array_equal(one.percentiles, other.percentiles)
    assert np.array_equal(one.projections[0].zy, other.projections[0].zy)


def test_places_of_pieces_that_were_forgotten_are_found_out_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = make_volume((4, 150, 145))
    found = []
    for most in (1024, 1):
        monkeypatch.setattr("scout_dask_io.write.qc.gather.MAX_WAYS", most)
        found.append(gather(volume, (1, 16, 32), (4, 150, 145)))
    one, other = found
    assert np.array_equal(one.planes, other.planes)
    assert np.array_equal(one.percentiles, other.percentiles)
    assert np.array_equal(one.sharpness, other.sharpness)
    assert np.array_equal(one.stripes, other.stripes)
    assert np.array_equal(one.projections[0].xy, other.projections[0].xy)


def test_a_record_that_is_lacking_is_an_error() -> None:
    volume = make_volume((4, 40, 33))
    blocks = uniform_blocks(volume.shape, (4, 20, 33))
    first = (slice(0, 4), slice(0, 20), slice(0, 33))
    empty = PlaneGatherer(volume.shape, volume.dtype, first)
    with pytest.raises(RuntimeError, match="do not cover every plane"):
        summarise(volume.shape, volume.dtype, blocks, lambda units: (empty.record() for _ in units))


def test_a_record_is_a_sixteenth_of_its_unit_at_most() -> None:
    region = (slice(0, 64), slice(0, 128), slice(0, 512))
    gatherer = PlaneGatherer((64, 512, 512), np.dtype("u2"), region)
    assert len(gatherer.record()) < 64 * 128 * 512 * 2 / 16
    assert Record(gatherer.record(), np.dtype("u2")).sample.shape == (64, 9, 35)


def test_cameras_saturate_at_the_ends_of_their_bits() -> None:
    assert saturated(np.dtype("u1")) == (255,)
    assert saturated(np.dtype("u2")) == (4095, 16383, 65535)
    assert saturated(np.dtype("i2")) == (4095, 16383, 32767)
    assert saturated(np.dtype("f4")) == ()
