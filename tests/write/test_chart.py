"""Charts of the sheet of planes: where values lie, and what is left out."""

from __future__ import annotations

import re

import numpy as np
import pytest

from scout_dask_io.write.qc.chart import BOTTOM, LEFT, RIGHT, TOP, Chart, Scale, fitting


def chart() -> Chart:
    """Give a chart whose drawing is 100 wide and 50 high."""
    size = (LEFT + 100 + RIGHT, TOP + 50 + BOTTOM)
    return Chart("A <title>", size, Scale(0, 10), Scale(0, 5), "below")


def test_a_line_goes_through_its_values_and_is_broken_where_there_is_none() -> None:
    drawn = chart()
    drawn.line(np.arange(6), np.array([0, 5, np.nan, 1, np.nan, np.nan]), "alt", "mean")
    text = str(drawn)
    lines = re.findall(r'<path d="M([\d. ]*)" fill="none"', text)
    assert lines == [f"{LEFT:.1f} {TOP + 50:.1f} {LEFT + 10:.1f} {TOP:.1f}"]
    assert f'<circle cx="{LEFT + 30:.1f}" cy="{TOP + 40:.1f}"' in text
    assert "A &lt;title&gt;" in text


def test_columns_are_as_high_as_their_values() -> None:
    drawn = chart()
    drawn.columns(np.array([0, 5, 10]), np.array([5, 1]), "line")
    assert (
        f"M{LEFT:.1f} {TOP + 50}V{TOP:.1f}H{LEFT + 50:.1f}V{TOP + 40:.1f}H{LEFT + 100:.1f}"
    ) in str(drawn)


@pytest.mark.parametrize("knee", [0.0, 10.0])
@pytest.mark.parametrize(
    "values",
    [
        [0, 0], [7, 7], [-7, -7], [np.nan, np.nan], [], [65534, 65535], [-32768, 32767],
        [1e16, 1e16 + 2], [-1.7e308, 1.7e308], [0, 5e-324], [-1e-7, 3], [0, 1e5], [0.1, 0.3],
    ],
    ids=str,
)  # fmt: skip
def test_every_value_lies_between_the_ends_and_some_labels_do(
    values: list[float], knee: float
) -> None:
    found = np.array(values, np.float64)
    scale = fitting(found, knee=knee)
    places = scale.places(found[np.isfinite(found)])
    assert ((places >= 0) & (places <= 1)).all()
    labels = scale.labels()
    assert (1 if knee else 2) <= len(labels) <= 8
    assert labels == sorted(set(labels))
    assert scale.low <= labels[0] + 1e-6 * abs(labels[0])
    assert labels[-1] - 1e-6 * abs(labels[-1]) <= scale.high


def test_a_logarithmic_axis_has_a_label_a_decade_or_every_few() -> None:
    assert fitting(np.array([3.0, 2e4]), knee=10).labels() == [0, 10, 100, 1000, 10000, 100000]
    assert Scale(0, 1e12, knee=1, n=5).labels() == [0, 1, 1e3, 1e6, 1e9, 1e12]
    assert Scale(-500, 500, knee=10).labels() == [-100, -10, 0, 10, 100]
