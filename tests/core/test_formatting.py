"""Numbers as people read them."""

from __future__ import annotations

import pytest

from scout_dask_io.core.formatting import (
    format_count,
    format_nbytes,
    format_percent,
    format_s,
    format_shape,
)


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_540_000_000, "1.54 GB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),  # three digits of it would read 1e+03 kB
        (12_345_678_901_234, "12.3 TB"),
        (5e18, "5000 PB"),  # no unit above
    ],
)
def test_sizes_have_three_digits_and_a_decimal_unit(nbytes: float, text: str):
    assert format_nbytes(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.01 s"),
        (0.254, "0.25 s"),
        (9.94, "9.9 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (130, "2 min 10 s"),
        (3599.7, "1 h 00 min"),
        (3 * 3600 + 5 * 60, "3 h 05 min"),
        (86399, "1 d 0 h"),
        (2 * 86400 + 4 * 3600, "2 d 4 h"),
    ],
)
def test_times_have_their_two_largest_units(seconds: float, text: str):
    assert format_s(seconds) == text


def test_counts_have_their_noun_in_the_right_number():
    assert format_count(1, "unit") == "1 unit"
    assert format_count(0, "unit") == "0 units"


def test_shapes_have_a_sign_between_extents():
    assert format_shape((2, 30, 510, 667)) == "2 x 30 x 510 x 667"


@pytest.mark.parametrize(
    ("n", "of", "text"),
    [
        (0, 7, "0 %"),
        (1, 20_000, "under 0.01 %"),
        (1, 10_000, "0.01 %"),
        (994, 1000, "99 %"),
        (1999, 2000, "over 99 %"),  # two digits of it would read 1e+02 %
        (2000, 2000, "100 %"),
    ],
)
def test_shares_have_two_digits_and_only_all_is_a_hundred(n: int, of: int, text: str):
    assert format_percent(n, of) == text
