"""Line charts and histograms as inline SVG, coloured by the style sheet around them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

__all__ = ["Band", "Line", "Marks", "histogram_chart", "line_chart", "thinned"]

#: In units of the drawing, which is stretched to the width it is given.
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 640, 62, 10, 10, 34


@dataclass(frozen=True, slots=True)
class Line:
    """A line; where a value is NaN it is broken. ``kind`` is a class of the style sheet."""

    values: np.ndarray
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Band:
    """The area between two lines."""

    low: np.ndarray
    high: np.ndarray
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class Marks:
    """Places along the lower edge."""

    places: Sequence[int]
    kind: str
    label: str


def thinned(values: np.ndarray, step: int, how: str) -> np.ndarray:
    """Put ``step`` values into one: their ``"min"``, ``"max"`` or ``"mean"``, NaN left out.

    Examples
    --------
    >>> thinned(np.array([1.0, 3.0, 2.0]), 2, "max").tolist()
    [3.0, 2.0]
    """
    if step == 1:
        return values
    rows = np.pad(values, (0, -len(values) % step), constant_values=np.nan).reshape(-1, step)
    known = ~np.isnan(rows)
    if how == "mean":
        total = np.where(known, rows, 0).sum(axis=1)
        return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)
    worst, reduce = (np.inf, np.min) if how == "min" else (-np.inf, np.max)
    found = reduce(np.where(known, rows, worst), axis=1)
    return np.where(known.any(axis=1), found, np.nan)


def line_chart(
    title: str,
    x_label: str,
    parts: Sequence[Line | Band],
    marks: Sequence[Marks] = (),
    *,
    step: int = 1,
    height: int = 170,
    floor: float | None = None,
    log: bool = False,
) -> str:
    """Draw lines and bands over the numbers of planes.

    Parameters
    ----------
    title, x_label : str
        What is drawn, and over what.
    parts
        The first is drawn first, below the others; all have a value every ``step`` planes.
    marks
        Places, in planes.
    step : int
        Planes a value.
    height : int
        Of the drawing, where it is ``WIDTH`` wide.
    floor : float, optional
        What the axis begins with at the latest.
    log : bool
        Let the axis be that of the logarithm of one more, where there is no value below 0
        and one above 1,000.
    """
    drawn = [v for p in parts for v in ((p.low, p.high) if isinstance(p, Band) else (p.values,))]
    values = np.concatenate(drawn)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    low = low if floor is None else min(low, floor)
    log = log and low >= 0 and high > 1000
    ticks = _powers(low, high) if log else _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    n = (len(drawn[0]) - 1) * step
    x = _Scale(0, max(n, 1), LEFT, WIDTH - RIGHT)
    y = _Scale(low, high, height - BOTTOM, TOP, log=log)
    body = ["".join(_rule(y(t), _text(t), WIDTH) for t in ticks)]
    body.append(_x_axis(_whole_ticks(max(n, 1)), x, x_label, height, WIDTH))
    for part in parts:
        if isinstance(part, Band):
            path = "".join(
                f"M{_points(at, part.high, x, y, step)}L{_points(at[::-1], part.low, x, y, step)}Z"
                for at in _pieces(part.low, part.high)
            )
        else:
            path = "".join(
                f"M{_points(at, part.values, x, y, step)}" for at in _pieces(part.values)
            )
        body.append(f'<path class="{type(part).__name__.lower()} {part.kind}" d="{path}"/>')
    for mark in marks:
        for place in mark.places:
            at, base = x(place), height - BOTTOM
            body.append(
                f'<path class="mark {mark.kind}" d="M{at:.1f} {base - 7}l4 7h-8Z">'
                f"<title>{escape(mark.label)}: {place}</title></path>"
            )
    keys = [(p.kind, p.label) for p in parts] + [(m.kind, m.label) for m in marks if m.places]
    return _figure(title, keys, "".join(body), height, WIDTH)


def histogram_chart(
    title: str,
    x_label: str,
    edges: np.ndarray,
    counts: np.ndarray,
    *,
    width: int = WIDTH,
    height: int = 190,
) -> str:
    """Draw counts over values, the counts on a logarithmic axis; empty bins have no bar.

    Values are on one too where the last bin is over ten times as wide as the first.
    """
    top = max(1, math.ceil(math.log10(max(int(counts.max()), 2))))
    low, high = float(edges[0]), float(edges[-1])
    log = edges[-1] - edges[-2] > 10 * (edges[1] - edges[0])
    x = _Scale(low, high, LEFT, width - RIGHT, log=bool(log))
    # A third of a decade below one, so that a single count is seen.
    y = _Scale(-0.3, top, height - BOTTOM, TOP)
    every = -(-top // 5)
    grid = "".join(
        _rule(y(k), f'10<tspan dy="-4" class="small">{k}</tspan>' if k else "1", width)
        for k in range(0, top + 1, every)
    )
    base = height - BOTTOM
    bars = "".join(
        f"M{x(a):.1f} {base}V{y(math.log10(c)):.1f}H{x(b):.1f}V{base}Z"
        for a, b, c in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        if c
    )
    ticks = _powers(low, high) if log else _ticks(low, high, width // 110)
    ticks = [t for t in ticks if low <= t <= high]
    body = grid + _x_axis(ticks, x, x_label, height, width) + f'<path class="bars" d="{bars}"/>'
    return _figure(title, [], body, height, width)


def _figure(title: str, keys: Sequence[tuple[str, str]], body: str, height: int, width: int) -> str:
    legend = "".join(
        f'<span class="key"><i class="{kind}"></i>{escape(label)}</span>'
        for kind, label in keys
        if label
    )
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b> {legend}</figcaption>'
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{body}</svg>'
        "</figure>"
    )


class _Scale:
    """A map from values to places in the drawing: linear, or of the logarithm of one more."""

    def __init__(
        self, low: float, high: float, start: float, end: float, *, log: bool = False
    ) -> None:
        self._log = log
        self._low, self._start = self._value(low), start
        self._factor = (end - start) / ((self._value(high) - self._low) or 1.0)

    def _value(self, value: float) -> float:
        return math.log1p(max(value, 0)) if self._log else value

    def __call__(self, value: float) -> float:
        return self._start + (self._value(value) - self._low) * self._factor


def _points(at: Sequence[int], values: np.ndarray, x: _Scale, y: _Scale, step: int) -> str:
    return "L".join(f"{x(k * step):.1f} {y(float(values[k])):.1f}" for k in at)


def _pieces(*lines: np.ndarray) -> list[list[int]]:
    """Give the runs of places at which all lines have a value; one alone comes twice."""
    places = np.flatnonzero(np.logical_and.reduce([np.isfinite(line) for line in lines]))
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return [(r if len(r) > 1 else np.repeat(r, 2)).tolist() for r in runs if len(r)]


def _ticks(low: float, high: float, n: int = 4) -> list[float]:
    """Give about ``n`` round values around a range, the first and last at its ends or beyond.

    Examples
    --------
    >>> _ticks(93, 1210)
    [0.0, 500.0, 1000.0, 1500.0]
    """
    span = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / n))
    step = next(s * power for s in (1, 2, 5, 10) if s * power * n >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{k * step:.12g}") for k in range(first, max(last, first + 1) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Give powers of ten around a range, 0 in the place of those below 10.

    Examples
    --------
    >>> _powers(3, 5000), _powers(100, 5000)
    ([0.0, 10.0, 100.0, 1000.0, 10000.0], [100.0, 1000.0, 10000.0])
    """
    first = math.floor(math.log10(low)) if low >= 10 else 0
    powers = [10.0**k for k in range(first, math.ceil(math.log10(high)) + 1)]
    return powers if first else [0.0, *powers[1:]]


def _whole_ticks(n: int) -> list[float]:
    return sorted({float(round(t)) for t in _ticks(0, n, 8) if t <= n})


def _rule(at: float, label: str, width: int) -> str:
    return (
        f'<path class="grid" d="M{LEFT} {at:.1f}H{width - RIGHT}"/>'
        f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _x_axis(ticks: Sequence[float], x: _Scale, label: str, height: int, width: int) -> str:
    base = height - BOTTOM
    marks = "".join(
        f'<path class="axis" d="M{x(t):.1f} {base}v4"/>'
        f'<text x="{x(t):.1f}" y="{base + 16}" text-anchor="middle">{_text(t)}</text>'
        for t in ticks
    )
    return (
        f'<path class="axis" d="M{LEFT} {base}H{width - RIGHT}"/>{marks}'
        f'<text x="{(LEFT + width - RIGHT) / 2:.0f}" y="{height - 3}" text-anchor="middle">'
        f"{escape(label)}</text>"
    )


def _text(value: float) -> str:
    if value.is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.4g}"
