"""Charts as SVG: lines, bands, marks and columns between two axes.

Written here: what a library draws of one sheet takes it half a second, ten times what the sheet
itself does. Colours are classes of the page's style sheet, so a chart follows its scheme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import numpy as np

# Around what is drawn, in points: labels of values, half a label of the last plane, half a line,
# labels of planes and of their axis.
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 8, 34
# Values beyond are drawn there; the difference of two can be told.
_MOST = 1e300


@dataclass(frozen=True, slots=True)
class Scale:
    """One axis: linear, or logarithmic from a value on.

    Attributes
    ----------
    low, high : float
        Its ends.
    knee : float
        Up to here, either way, it is linear and as long as a decade; 0 where it is so throughout.
    n : int
        About how many labels there is room for.
    whole : bool
        Whether there is nothing between whole numbers.
    """

    low: float
    high: float
    knee: float = 0.0
    n: int = 5
    whole: bool = False

    def places(self, values: np.ndarray | Iterable[float]) -> np.ndarray:
        """Give where values lie: 0 at the low end, 1 at the high one, NaN of NaN.

        Examples
        --------
        >>> Scale(0, 1000, knee=10).places([0, 5, 10, 100, 1000]).tolist()
        [0.0, 0.16666666666666666, 0.3333333333333333, 0.6666666666666666, 1.0]
        """
        low, high = self._stretched(np.array([self.low, self.high]))
        found: np.ndarray = (self._stretched(np.asarray(values, np.float64)) - low) / (high - low)
        return found

    def _stretched(self, values: np.ndarray) -> np.ndarray:
        values = np.clip(values, -_MOST, _MOST)
        if not self.knee:
            return values
        values = values / self.knee
        decades = np.log10(np.maximum(np.abs(values), 1))
        found: np.ndarray = np.clip(values, -1, 1) + np.sign(values) * decades
        return found

    def labels(self) -> list[float]:
        """Give the values that are written beside the axis, all between its ends.

        Examples
        --------
        >>> Scale(0, 30).labels(), Scale(0, 30000, knee=10).labels()
        ([0.0, 10.0, 20.0, 30.0], [0, 10.0, 100.0, 1000.0, 10000.0])
        """
        if not self.knee:
            step = _step(self.low, self.high, self.n, self.whole)
            first = math.ceil(self.low / step - 1e-6)
            return [k * step for k in range(first, math.floor(self.high / step + 1e-6) + 1)]
        ends = (max(-self.low, 0), max(self.high, 0))
        decades = [math.floor(math.log10(max(v / self.knee, 0.1)) + 1e-9) for v in ends]
        every = -(-(sum(decades) + 2) // (self.n + 1))
        down, up = (
            [self.knee * 10.0**k for k in range(0, n + 1, every) if k <= n] for n in decades
        )
        found = [*(-v for v in reversed(down)), 0, *up]
        return [v for v in found if self.low <= v <= self.high]


def fitting(*values: np.ndarray, knee: float = 0.0, low: float | None = None) -> Scale:
    """Give the scale from one label to another that has all of some values, NaN left out.

    Examples
    --------
    >>> fitting(np.array([3.0, np.nan, 17.0]))
    Scale(low=0.0, high=20.0, knee=0.0, n=4, whole=False)
    >>> fitting(np.array([20.0, 17000.0]), knee=10)
    Scale(low=10.0, high=100000.0, knee=10, n=5, whole=False)
    """
    known = np.concatenate([v[np.isfinite(v)] for v in values])
    first, last = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    first, last = max(first, -_MOST), min(last, _MOST)
    first = first if low is None else low
    if first >= last:
        first, last = first - (low is None) * (abs(first) / 2 or 1), last + (abs(last) / 2 or 1)
    if knee:
        down = 10.0 ** math.floor(math.log10(first)) if first >= knee else min(first, 0.0)
        up = 10.0 ** math.ceil(math.log10(max(last, knee)))
        return Scale(down, up if up > down else up * 10, knee)
    # Neighbours among large numbers have labels that differ.
    last = max(last, first + 20 * float(np.spacing(max(abs(first), abs(last)))))
    step = _step(first, last, 5, False)
    down, up = math.floor(first / step), math.ceil(last / step)
    return Scale(down * step, up * step, n=up - down)


def _step(low: float, high: float, n: int, whole: bool) -> float:
    """Give 1, 2, 2.5 or 5 times a power of ten, of which some ``n`` lie between two values."""
    least = max((high - low) / n, 1.0 if whole else 1e-300)
    power = 10.0 ** math.floor(math.log10(least))
    steps = (1, 2, 5, 10) if whole or power == 1e-300 else (1, 2, 2.5, 5, 10)
    return next((power * s for s in steps if power * s >= least * 0.999), power * 10)


def label(value: float) -> str:
    """Write a value beside an axis.

    Examples
    --------
    >>> label(12000.0), label(0.30000000000000004)
    ('12,000', '0.3')
    """
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.4g}"


class Chart:
    """One chart, to which is added what it shows; its text is an element of the page.

    Parameters
    ----------
    title : str
        Above it, and read to those who cannot see it.
    size : (int, int)
        Width and height in points, with labels.
    x, y : Scale
        The axes.
    below : str
        What the x axis is.
    """

    def __init__(self, title: str, size: tuple[int, int], x: Scale, y: Scale, below: str) -> None:
        self._title, self._size, self._x, self._y = title, size, x, y
        self._right, self._bottom = size[0] - RIGHT, size[1] - BOTTOM
        self._drawn: list[str] = []
        self._keys: list[str] = []
        at = self._across([x.low, x.high]).mean()
        self._text = [f'<text x="{at:.1f}" y="{size[1] - 4}">{escape(below)}</text>']

    def _across(self, values: np.ndarray | Iterable[float]) -> np.ndarray:
        return LEFT + self._x.places(values) * (self._right - LEFT)

    def _up(self, values: np.ndarray | Iterable[float]) -> np.ndarray:
        return self._bottom - self._y.places(values) * (self._bottom - TOP)

    def _add(self, kind: str, drawn: str, key: str, shown: str = "") -> None:
        if drawn:
            self._drawn.append(f'<g class="{kind}">{drawn}</g>')
        if key:
            shape = f'<svg width="18" height="10" class="{kind}">{shown}</svg>'
            self._keys.append(f"<span>{shape} {escape(key)}</span>")

    def line(self, x: np.ndarray, y: np.ndarray, kind: str, key: str = "", dash: str = "") -> None:
        """Draw a line that is broken where there is no value; a value between two gaps is a dot."""
        at, up = self._across(x), self._up(y)
        how = 'fill="none" stroke="currentColor" stroke-width="1.6"'
        how += f' stroke-dasharray="{dash}"' if dash else ""
        drawn = []
        for start, stop in _runs(y):
            if stop - start == 1:
                drawn.append(
                    f'<circle cx="{at[start]:.1f}" cy="{up[start]:.1f}" r="2" fill="currentColor"/>'
                )
            else:
                drawn.append(f'<path d="M{_points(at[start:stop], up[start:stop])}" {how}/>')
        self._add(kind, "".join(drawn), key, f'<path d="M0 5H18" {how}/>')

    def band(
        self, x: np.ndarray, low: np.ndarray, high: np.ndarray, kind: str, key: str, opacity: float
    ) -> None:
        """Fill what lies between two lines."""
        at, down, up = self._across(x), self._up(low), self._up(high)
        how = f'fill="currentColor" opacity="{opacity}"'
        drawn = "".join(
            f'<path d="M{_points(at[a:b], up[a:b])}L{_points(at[a:b][::-1], down[a:b][::-1])}Z" '
            f"{how}/>"
            for a, b in _runs(low + high)
        )
        self._add(kind, drawn, key, f'<rect width="18" height="10" {how}/>')

    def marks(self, x: Iterable[float], kind: str, key: str) -> None:
        """Put triangles on the lower edge."""
        shape = 'fill="currentColor" d="M{:.1f} {:.1f}l4 8h-8z"'
        drawn = "".join(
            f"<path {shape.format(at, self._bottom - 9)}/>" for at in self._across(x).tolist()
        )
        self._add(kind, drawn, key, f"<path {shape.format(9, 1)}/>")

    def columns(self, edges: np.ndarray, heights: np.ndarray, kind: str) -> None:
        """Fill a column from each edge to the next, from the lower end of the axis up."""
        at, up = self._across(edges), self._up(heights)
        steps = "".join(
            f"V{y:.1f}H{x:.1f}" for y, x in zip(up.tolist(), at[1:].tolist(), strict=True)
        )
        drawn = (
            f'<path fill="currentColor" d="M{at[0]:.1f} {self._bottom}{steps}V{self._bottom}Z"/>'
        )
        self._add(kind, drawn, "")

    def __str__(self) -> str:
        """Give the title, what is what, and the drawing."""
        wide, high = self._size
        rules, text = [], list(self._text)
        for value in self._y.labels():
            at = float(self._up([value])[0])
            rules.append(f"M{LEFT} {at:.1f}H{self._right}")
            text.append(f'<text class="y" x="{LEFT - 4}" y="{at + 4:.1f}">{label(value)}</text>')
        ticks = [f"M{LEFT} {self._bottom}H{self._right}"]
        for value in self._x.labels():
            at = float(self._across([value])[0])
            ticks.append(f"M{at:.1f} {self._bottom}v4")
            text.append(f'<text x="{at:.1f}" y="{self._bottom + 15}">{label(value)}</text>')
        return (
            f'<div class="head"><b>{escape(self._title)}</b>{"".join(self._keys)}</div>'
            f'<svg role="img" aria-label="{escape(self._title)}" viewBox="0 0 {wide} {high}" '
            f'width="{wide}" height="{high}"><path class="rule" d="{"".join(rules)}"/>'
            f'{"".join(self._drawn)}<path class="axis" d="{"".join(ticks)}"/>{"".join(text)}</svg>'
        )


def _runs(values: np.ndarray) -> Iterable[tuple[int, int]]:
    """Give from where to where there are values."""
    known = np.pad(np.isfinite(values), 1).astype(np.int8)
    edges = np.flatnonzero(np.diff(known)).tolist()
    return list(pairwise(edges))[::2]


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
