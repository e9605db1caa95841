"""What is black and what is white is found in one way, whatever the picture is for."""

from __future__ import annotations

import numpy as np
import pytest

from scout_dask_io.core.contrast import contrast_limits

VALUES = np.random.default_rng(3).integers(-120, 127, 10_001, dtype="i1")


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "f8"])
def test_limits_are_percentiles_in_every_dtype(dtype: str):
    expected = tuple(np.percentile(VALUES.astype("f8"), (1, 99.8)))
    assert contrast_limits([VALUES.astype(dtype)]) == expected
    # Differences of a signed dtype overflow in it: -120 to 127 is more than 127.
    assert expected[1] - expected[0] > 127


def test_samples_count_together_and_what_is_not_finite_does_not():
    parts = [np.array([1.0, np.nan]), np.array([[2.0], [np.inf]]), np.array([3.0])]
    assert contrast_limits(parts, (0, 100)) == (1, 3)
    assert contrast_limits([np.full(3, np.nan)]) == (0, 1)
    assert contrast_limits([np.full(3, 7, "u1")]) == (7, 8)


def test_a_speck_does_not_leave_the_rest_black():
    image = np.arange(1000, dtype="f8")
    image[-5:] = 1e6
    low, high = contrast_limits([image], (0.5, 99.8), specks_above=95)
    assert high == low + 3 * (np.percentile(image, 95) - low)
    assert contrast_limits([image], (0.5, 99.8))[1] > 1e5


def test_a_part_is_sorted_where_that_is_asked():
    values = np.tile(np.arange(100), 50)
    assert contrast_limits([values], (0, 100), n_sorted=50) == (0, 1)  # each hundredth
    assert contrast_limits([values], (0, 100)) == (0, 99)
