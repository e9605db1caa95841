"""The sheet of a volume: one HTML file that says at a glance whether the planes are all right.

Nothing is loaded from elsewhere: charts are inline SVG, projections PNG in ``data:``
addresses. It follows the reader's light or dark scheme, and prints in black on white.

Line charts and histograms as inline SVG, coloured by the style sheet around them. Pure.

How the sheet of a volume looks: its style sheet, light and dark, on a screen and in print.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from scout_dask_io.core.formatting import format_count, format_shape
from scout_dask_io.core.picture import gray_png, nice_length
from scout_dask_io.store.staging import FORMAT
from scout_dask_io.write.qc.summary import Projections

# Points of a line, at most: more than a screen has pixels show nothing more.
N_POINTS = 600
# In pixels of the page: the projection along z, all of them side by side, and the least width.
PICTURE, SIDE, NARROW = 300, 384, 28
# Of the projections: dim parts are to be seen too.
GAMMA = 0.7
_GAMMA_OF = np.rint(255 * (np.arange(256) / 255) ** GAMMA).astype(np.uint8)


def html_sheet(document: dict[str, Any], projections: Sequence[Projections]) -> str:
    """Give the sheet of what :func:`~scout_dask_io.write.qc.findings.qc_document` gave.

    Well-formed as XML too.
    """
    n_z = (document["planes"]["shape"] or [1])[-1]
    n_series = len(document["planes"]["min"]) // n_z
    blocks = [_block(document, k, n_z, n_series, projections[k]) for k in range(len(projections))]
    more = n_series - len(blocks)
    rest = f'<p class="note">{more:,} more are in the JSON file beside this one.</p>'
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta name="generator" content="{FORMAT}"/>'
        '<meta name="viewport" content="width=device-width"/>'
        f"<title>{escape(document['array'])}: planes</title><style>{STYLE}</style></head><body>"
        f'<h1>{escape(document["array"])}</h1><p class="sub">{_subtitle(document)}</p>'
        f"{_findings(document)}{''.join(blocks)}{rest if more > 0 else ''}{_footer(document)}"
        "</body></html>\n"
    )


def _subtitle(document: dict[str, Any]) -> str:
    shape = format_shape(document["shape"])
    size = document["voxel_size_um"]
    voxel = "voxel size not stated"
    if size is not None:
        voxel = "voxel " + " x ".join("?" if v is None else f"{v:.4g}" for v in size) + " µm"
    axes = ", ".join(document["axes"])
    return escape(
        f"{shape} {document['dtype']} ({axes}) · {voxel} · from {document['source']} · "
        f"{document['written'][:16].replace('T', ' ')} UTC"
    )


def _findings(document: dict[str, Any]) -> str:
    found = document["findings"]
    if not found:
        text = "Nothing stands out: no plane is blank, none like another, no pixel is saturated."
        return f'<ul class="findings none"><li>{text}</li></ul>'
    return f'<ul class="findings">{"".join(f"<li>{escape(text)}</li>" for text in found)}</ul>'


def _block(
    document: dict[str, Any], series: int, n_z: int, n_series: int, projections: Projections
) -> str:
    """Give what belongs to one channel: its projections, and charts along z."""
    planes = document["planes"]
    index = [int(i) for i in np.unravel_index(series, planes["shape"][:-1] or (1,))]
    at = slice(series * n_z, (series + 1) * n_z)
    title = ""
    if n_series > 1:
        title = f"<h2>{escape(_name(document, index))}</h2>"
    histogram = document["histogram"]
    counts = np.array(histogram["counts"][series])
    unit = "value" if document["dtype"].startswith("float") else "grey value"
    charts = _along_z(document, at, index) if n_z > 1 else _table(planes, series)
    pictures = _ortho(document, projections, n_z)
    pictures += histogram_chart(
        "Histogram of a sample", unit, np.array(histogram["edges"]), counts, width=SIDE
    )
    return (
        f'{title}<div class="block"><div class="pictures">{pictures}</div>'
        f'<div class="charts">{charts}</div></div>'
    )


def _name(document: dict[str, Any], index: Sequence[int]) -> str:
    names = document["channels"]
    return " ".join(
        names[i] if axis == "c" and names and i < len(names) else f"{axis} = {i}"
        for axis, i in zip(document["planes"]["axes"], index, strict=False)
    )


def _along_z(document: dict[str, Any], at: slice, index: list[int]) -> str:
    planes = document["planes"]
    n_z = at.stop - at.start
    step = -(-n_z // N_POINTS)

    def places(indices: Sequence[Any]) -> list[int]:
        return sorted({i[-1] for i in indices if i and (len(i) == 1 or list(i[:-1]) == index)})

    filled = places([f["plane"] for f in document["filled"]])

    def values(name: str, how: str) -> np.ndarray:
        found = np.array([np.nan if v is None else v for v in planes[name][at]], np.float64)
        found[filled] = np.nan  # their zeros are no pixels of the microscope
        return thinned(found, step, how)

    blank, same = places(document["blank"]), places(
        [i for d in document["duplicates"] for i in d["planes"]]
    )  # fmt: skip
    marks = [
        # As many as there are points.
        Marks(sorted({z // step * step for z in found}), kind, label)
        for found, kind, label in (
            (blank, "blank", "blank"),
            (same, "same", "identical"),
            (filled, "filled", "not read"),
        )
    ]
    most = values("p99", "max")
    axis = f"plane along {planes['axes'][-1]}"
    charts = line_chart(
        "Intensity",
        axis,
        [
            Band(values("p01", "min"), most, "outer", "1 to 99 %"),
            Band(values("p25", "min"), values("p75", "max"), "inner", "25 to 75 %"),
            Line(values("p50", "mean"), "median", "median"),
            Line(values("mean", "mean"), "mean", "mean"),
        ],
        marks,
        step=step,
        log=bool(np.nanmax(most) > 8 * np.nanmedian(most)) if np.isfinite(most).any() else False,
    )
    charts += line_chart(
        "Least and largest",
        axis,
        [Line(values("min", "min"), "min", "least"), Line(values("max", "max"), "max", "largest")],
        step=step,
        height=140,
        log=True,
    )
    if document["saturation"]["n"]:
        n_pixels = document["shape"][-1] * document["shape"][-2]
        hot = values("n_saturated", "max") / n_pixels * 100
        value = document["saturation"]["value"]
        charts += line_chart(
            f"Saturated at {value:,}, per cent of the pixels",
            axis,
            [Line(hot, "hot", "")],
            step=step,
            height=120,
            floor=0.0,
        )
    return charts


def _table(planes: dict[str, Any], number: int) -> str:
    names = {"min": "least", "p01": "1 %", "p50": "median", "mean": "mean", "p99": "99 %",
             "max": "largest"}  # fmt: skip
    heads = "".join(f"<th>{text}</th>" for text in names.values())
    cells = "".join(
        f"<td>{'' if planes[n][number] is None else format(planes[n][number], '.6g')}</td>"
        for n in names
    )
    return f"<figure><table><tr>{heads}</tr><tr>{cells}</tr></table></figure>"


def _ortho(document: dict[str, Any], found: Projections, n_z: int) -> str:
    """Lay out the projections: xy, zy to its right, zx below, all in proportion to the voxels."""
    size = document["voxel_size_um"] or [None]
    known = None not in size
    vz, vy, vx = size if known else (1.0, 1.0, 1.0)
    wide, high = document["shape"][-1] * vx, document["shape"][-2] * vy
    deep = n_z * vz if n_z > 1 else 0.0
    scale = min(PICTURE / max(wide, high), (SIDE - 4) / (wide + deep))
    w, h = (max(NARROW, round(v * scale)) for v in (wide, high))
    limits = _limits(found.xy)
    pictures = [_picture(found.xy, limits, w, h, "Maxima along z",
                         _scale_bar(wide, w) if known else "")]  # fmt: skip
    note = "Maxima along z"
    if n_z > 1:
        depth = max(NARROW, round(deep * scale))
        pictures += [
            _picture(found.zy.T, limits, depth, h, "Maxima along x"),
            _picture(found.zx, limits, w, depth, "Maxima along y"),
        ]
        note = "Maxima along z, x and y"
        note += "" if known else "; voxels drawn as cubes"
    return (
        f'<figure><div class="ortho" style="grid-template-columns: repeat(2, max-content)">'
        f"{''.join(pictures)}</div><figcaption>{note}</figcaption></figure>"
    )


def _limits(image: np.ndarray) -> tuple[float, float]:
    """Give what is black and white, such that a bright speck does not leave the rest black."""
    values = image[np.isfinite(image)]
    if not values.size:
        return 0.0, 1.0
    low, most, high = np.percentile(values, (0.5, 95, 99.8)).tolist()
    high = min(high, low + 3 * (most - low)) if most > low else high
    return low, high if high > low else low + 1


def _picture(
    image: np.ndarray, limits: tuple[float, float], w: int, h: int, alt: str, over: str = ""
) -> str:
    low, high = limits
    shown = (image.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    shown = np.nan_to_num(shown, posinf=255, neginf=0)
    png = gray_png(_GAMMA_OF[np.clip(shown, 0, 255).astype(np.uint8)])
    data = base64.b64encode(png).decode()
    return (
        f'<div><img alt="{alt}" width="{w}" height="{h}" src="data:image/png;base64,{data}"/>'
        f"{over}</div>"
    )


def _scale_bar(extent_um: float, pixels: int) -> str:
    length = nice_length(extent_um / 3)
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
    return f'<span class="bar" style="width: {length / extent_um * pixels:.0f}px">{text}</span>'


def _footer(document: dict[str, Any]) -> str:
    coarse, fine = document["sampled"].values()
    n = format_count(len(document["planes"]["min"]), "plane")
    return (
        f"<footer>Of {n}, exact: least and largest values, blank and saturated pixels, and what is "
        f"said to be identical. Means, percentiles and histogram are of {_nth(coarse)}, "
        f"projections of {_nth(fine)}. "
        "The JSON file beside this one has the figures of every plane.</footer>"
    )


def _nth(step: dict[str, int]) -> str:
    rows, columns = step["every_nth_row"], step["every_nth_column"]
    return f"one pixel in {rows * columns:,}" if rows * columns > 1 else "all pixels"


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


STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f5f6f8; --ink: #1b1f24; --dim: #626b76;
  --rule: #d9dde3; --line: #1f6feb; --alt: #b3541e; --bad: #c62f2f;
  --warn: #a86500; --same: #7a3fc0; --good: #2b7a3d }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1d2127; --ink: #e4e7eb;
  --dim: #98a2ae; --rule: #343a43; --line: #6ea8ff; --alt: #f0955c; --bad: #ff7b72; --warn: #e3b341;
  --same: #c9a7ff; --good: #6fcf87 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 24px 28px; max-width: 1120px; background: var(--back);
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 17px; margin: 26px 0 8px }
.sub, footer, figcaption, .note { color: var(--dim) }
.sub { margin: 2px 0 16px; overflow-wrap: anywhere }
.findings { margin: 0; padding: 12px 18px; list-style: none; border-radius: 8px;
  background: var(--card); border-left: 5px solid var(--warn) }
.findings.none { border-color: var(--good) }
.findings li + li { margin-top: 6px }
.block { display: flex; flex-wrap: wrap; gap: 20px 28px; align-items: flex-start;
  break-inside: avoid; margin-top: 20px } h2 + .block { margin-top: 0 }
.pictures { flex: 0 0 384px } .charts { flex: 1 1 480px; min-width: 0 }
figure { margin: 0 0 14px; break-inside: avoid }
figcaption { font-size: 13px; display: flex; flex-wrap: wrap; gap: 2px 14px }
figcaption b { color: var(--ink); font-weight: 600 }
.ortho { display: grid; gap: 4px; justify-content: start; align-items: start }
.ortho div { position: relative }
.ortho img { display: block; background: #000 }
.bar { position: absolute; right: 8px; bottom: 6px; color: #fff; font-size: 11px; line-height: 1.2;
  text-align: center; text-shadow: 0 0 3px #000, 0 0 3px #000; border-bottom: 3px solid #fff }
svg { display: block; width: 100%; height: auto }
svg text { font-size: 11px; fill: var(--dim) } svg .small { font-size: 8px }
.grid { stroke: var(--rule); fill: none } .axis { stroke: var(--dim); fill: none }
.line { fill: none; stroke-width: 1.6; stroke: var(--line); stroke-linejoin: round }
.band { fill: var(--line); stroke: none }
.outer { opacity: .16 } .inner { opacity: .3 }
.line.mean { stroke: var(--alt); stroke-dasharray: 4 3 }
.line.max { stroke: var(--alt) } .line.hot { stroke: var(--bad) }
.mark.blank { fill: var(--warn) } .mark.same { fill: var(--same) } .mark.filled { fill: var(--bad) }
.bars { fill: var(--line) }
.key { white-space: nowrap } .key i { display: inline-block; width: 16px; height: 0;
  margin-right: 5px; vertical-align: 4px; border-top: 2px solid var(--line) }
.key i.outer, .key i.inner { height: 9px; border: 0; background: var(--line); vertical-align: -1px }
.key i.mean { border-top: 2px dashed var(--alt) } .key i.max { border-color: var(--alt) }
.key i.hot { border-color: var(--bad) }
.key i.blank, .key i.same, .key i.filled { width: 0; border: 5px solid transparent; border-top: 0;
  border-bottom: 8px solid var(--warn); vertical-align: 0 }
.key i.same { border-bottom-color: var(--same) } .key i.filled { border-bottom-color: var(--bad) }
table { border-collapse: collapse } td, th { padding: 2px 16px 2px 0; text-align: right }
th { color: var(--dim); font-weight: 400 }
footer { margin-top: 24px; padding-top: 10px; border-top: 1px solid var(--rule); font-size: 13px }
@media print { :root { --back: #fff; --card: #f5f6f8; --ink: #000; --dim: #444; --rule: #ccc;
  --line: #1f6feb; --alt: #b3541e; --bad: #c62f2f; --warn: #a86500; --same: #7a3fc0;
  --good: #2b7a3d }
  body { padding: 0; max-width: none; zoom: .62; -webkit-print-color-adjust: exact;
  print-color-adjust: exact } }
"""
