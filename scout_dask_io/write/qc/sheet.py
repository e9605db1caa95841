"""The sheet of a volume: one HTML file that says at a glance whether the planes are all right.

Nothing is loaded from elsewhere: charts and projections are inline SVG, whose colours are those
of the style sheet. It follows the reader's light or dark scheme, and prints in black on white.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from scout_dask_io.core.contrast import contrast_limits
from scout_dask_io.core.formatting import format_count, format_shape
from scout_dask_io.core.picture import nice_length, png_bytes
from scout_dask_io.store.sidecar import FORMAT
from scout_dask_io.write.qc.chart import Chart, Scale, fitting, label
from scout_dask_io.write.qc.summary import Projections

# Points of a line, and pixels of a projection: more than a screen has show nothing more.
N_POINTS = 600
# In points of a drawing: charts, the projection along z, all of them side by side, the least width.
WIDTH, PICTURE, SIDE, NARROW = 640, 300, 384, 28
# Of the projections: dim parts are to be seen too.
GAMMA = 0.7


def html_sheet(document: dict[str, Any], projections: Sequence[Projections]) -> str:
    """Give the sheet of what :func:`~scout_dask_io.write.qc.findings.qc_document` gave.

    Well-formed as XML too; of the same document, the same text.
    """
    n_z = (document["planes"]["shape"] or [1])[-1]
    n_series = len(document["planes"]["min"]) // n_z
    blocks = [_block(document, k, n_z, n_series, found) for k, found in enumerate(projections)]
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
    size = document["voxel_size_um"]
    voxel = "voxel size not stated"
    if size is not None:
        voxel = "voxel " + " x ".join("?" if v is None else f"{v:.4g}" for v in size) + " µm"
    return escape(
        f"{format_shape(document['shape'])} {document['dtype']} ({', '.join(document['axes'])}) · "
        f"{voxel} · from {document['source']} · {document['written'][:16].replace('T', ' ')} UTC"
    )


def _findings(document: dict[str, Any]) -> str:
    found = document["findings"]
    if not found:
        text = (
            "Nothing stands out: no plane is blank, none like another or out of line with those "
            "around, no pixel is saturated."
        )
        return f'<ul class="findings none"><li>{text}</li></ul>'
    return f'<ul class="findings">{"".join(f"<li>{escape(text)}</li>" for text in found)}</ul>'


def _footer(document: dict[str, Any]) -> str:
    coarse, fine = (
        f"one pixel in {n:,}" if n > 1 else "all pixels"
        for n in (s["every_nth_row"] * s["every_nth_column"] for s in document["sampled"].values())
    )
    n = format_count(len(document["planes"]["min"]), "plane")
    return (
        f"<footer>Of {n}, exact: least and largest values, blank and saturated pixels, and what is "
        f"said to be identical. Means, percentiles and histogram are of {coarse}, projections of "
        f"{fine}. The JSON file beside this one has the figures of every plane.</footer>"
    )


def _block(
    document: dict[str, Any], series: int, n_z: int, n_series: int, projections: Projections
) -> str:
    """Give what belongs to one channel: its projections, and charts along z."""
    planes, names = document["planes"], document["channels"]
    index = [int(i) for i in np.unravel_index(series, planes["shape"][:-1] or (1,))]
    name = " ".join(
        names[i] if axis == "c" and names and i < len(names) else f"{axis} = {i}"
        for axis, i in zip(planes["axes"], index, strict=False)
    )
    title = f"<h2>{escape(name)}</h2>" if n_series > 1 else ""
    charts = _along_z(document, series * n_z, n_z, index) if n_z > 1 else _table(planes, series)
    return (
        f'{title}<div class="block"><div class="pictures">{_ortho(document, projections, n_z)}'
        f'{_histogram(document, series)}</div><div class="charts">{charts}</div></div>'
    )


def _table(planes: dict[str, Any], number: int) -> str:
    names = {"min": "least", "p01": "1 %", "p50": "median", "mean": "mean", "p99": "99 %",
             "max": "largest"}  # fmt: skip
    heads = "".join(f"<th>{text}</th>" for text in names.values())
    cells = "".join(
        f"<td>{'' if planes[n][number] is None else format(planes[n][number], '.6g')}</td>"
        for n in names
    )
    return f"<figure><table><tr>{heads}</tr><tr>{cells}</tr></table></figure>"


def _along_z(document: dict[str, Any], first: int, n_z: int, index: list[int]) -> str:
    """Draw what is known of the planes of one channel, one chart below the other."""
    planes, step = document["planes"], -(-n_z // N_POINTS)

    def places(indices: Sequence[Any]) -> list[int]:
        return sorted({i[-1] for i in indices if i and (len(i) == 1 or list(i[:-1]) == index)})

    filled = places([f["plane"] for f in document["filled"]])

    def values(name: str, how: str) -> np.ndarray:
        found = np.array([np.nan if v is None else v for v in planes[name][first : first + n_z]])
        found = found.astype(np.float64)
        found[filled] = np.nan  # their zeros are no pixels of the microscope
        return thinned(found, step, how)

    lows, saturation = values("min", "min"), document["saturation"]
    known = lows[np.isfinite(lows)]
    flat = bool(len(known)) and bool((known == known[0]).all())
    at_least = f"Largest; least is {label(known[0])} in every plane" if flat else "Largest"
    x = np.arange(-(-n_z // step)) * step
    along = Scale(0, max((n_z - 1) // step * step, 1), n=9, whole=True)
    below = f"plane along {planes['axes'][-1]}"

    def chart(title: str, height: int, y: Scale) -> Chart:
        return Chart(title, (WIDTH, height), along, y, below)

    parts = {name: values(name, how) for name, how in (
        ("p01", "min"), ("p25", "min"), ("p50", "mean"), ("mean", "mean"), ("p75", "max"),
        ("p99", "max"),
    )}  # fmt: skip
    most = parts["p99"]
    # One bright plane among dark ones would press all others to the floor.
    uneven = np.isfinite(most).any() and np.nanmax(most) > 8 * np.nanmedian(most)
    intensity = chart("Intensity", 178, _wide(*parts.values(), even=not uneven))
    intensity.band(x, parts["p01"], most, "line", "1 to 99 %", 0.16)
    intensity.band(x, parts["p25"], parts["p75"], "line", "25 to 75 %", 0.3)
    intensity.line(x, parts["p50"], "line", "median")
    intensity.line(x, parts["mean"], "alt", "mean", dash="6 3")
    same = [i for d in document["duplicates"] for i in d["planes"]]
    marks = {"blank": (document["blank"], "warn"), "identical": (same, "same"),
             "not read": ([f["plane"] for f in document["filled"]], "bad")}  # fmt: skip
    for key, (found, kind) in marks.items():
        # Along the lower edge, as many as there are points.
        if at := sorted({z // step * step for z in places(found)}):
            intensity.marks(at, kind, key)
    highs = values("max", "max")
    largest = chart(at_least, 118, _wide(highs))
    largest.line(x, highs, "alt")
    charts = [intensity, largest]
    if not flat:  # by itself: beside the largest ones it would lie on the floor
        charts.append(chart("Least", 118, fitting(lows)))
        charts[-1].line(x, lows, "line")
    if saturation["n"]:
        shares = values("n_saturated", "max") / (document["shape"][-1] * document["shape"][-2])
        title = f"Saturated at {saturation['value']:,}, per cent of the pixels"
        charts.append(chart(title, 128, fitting(shares * 100, low=0)))
        charts[-1].line(x, shares * 100, "bad")
    return "".join(f"<figure>{one}</figure>" for one in charts)


def _wide(*values: np.ndarray, even: bool = False) -> Scale:
    """Give a scale that is logarithmic above 10, where there is nothing below 0 and much above."""
    known = np.concatenate([v[np.isfinite(v)] for v in values])
    much = not even and known.size and known.min() >= 0 and known.max() > 1000
    return fitting(known, knee=10 if much else 0)


def thinned(values: np.ndarray, step: int, how: str) -> np.ndarray:
    """Put ``step`` values into one: their ``"min"``, ``"max"`` or ``"mean"``, NaN left out.

    Examples
    --------
    >>> thinned(np.array([1.0, 3.0, 2.0]), 2, "max").tolist()
    [3.0, 2.0]
    """
    rows = np.pad(values, (0, -len(values) % step), constant_values=np.nan).reshape(-1, step)
    rows = np.ma.masked_invalid(rows)
    found: np.ndarray = np.ma.filled(getattr(rows, how)(axis=1), np.nan)
    return found


def _histogram(document: dict[str, Any], series: int) -> str:
    """Draw counts on a logarithmic axis; values are on one too where bins widen tenfold."""
    edges = np.array(document["histogram"]["edges"], np.float64)
    counts = np.array(document["histogram"]["counts"][series])
    first = float(edges[1] - edges[0])
    widens = edges[-1] - edges[-2] > 10 * first
    x = Scale(float(edges[0]), float(edges[-1]), max(first, 1.0) if widens else 0.0, n=5)
    # A single count is seen, as high as a decade; an empty bin has no height.
    y = Scale(0, max(10, int(counts.max())) * 1.3, knee=1)
    kind = "value" if document["dtype"].startswith("float") else "grey value"
    chart = Chart("Histogram of a sample", (SIDE, 178), x, y, kind)
    chart.columns(edges, counts, "line")
    return f"<figure>{chart}</figure>"


def _ortho(document: dict[str, Any], found: Projections, n_z: int) -> str:
    """Lay out the projections: xy, zy to its right, zx below, all in proportion to the voxels."""
    size = document["voxel_size_um"] or [None]
    known = None not in size
    vz, vy, vx = size if known else (1.0, 1.0, 1.0)
    wide, high = document["shape"][-1] * vx, document["shape"][-2] * vy
    deep = n_z * vz if n_z > 1 else 0.0
    scale = min(PICTURE / max(wide, high), (SIDE - 4) / (wide + deep))
    w, h, d = (max(NARROW, round(v * scale)) for v in (wide, high, deep))
    panels = [(found.xy, 0, 0, w, h)]
    if n_z > 1:
        panels += [(found.zy.T, w + 4, 0, d, h), (found.zx, 0, h + 4, w, d)]
    across, down = (w + 4 + d, h + 4 + d) if n_z > 1 else (w, h)
    limits = contrast_limits([found.xy], (0.5, 99.8), specks_above=95)
    # A browser smooths what it enlarges.
    drawn = "".join(
        f'<image x="{left}" y="{top}" width="{width}" height="{height}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{_png(image, *limits)}"/>'
        for image, left, top, width, height in panels
    )
    if known:
        length = nice_length(wide / 3)
        text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
        left, middle = w - 8 - length / wide * w, w - 8 - length / wide * w / 2
        drawn += (
            f'<rect x="{left:.1f}" y="{h - 9}" width="{w - 8 - left:.1f}" height="3" fill="#fff"/>'
            f'<text class="bar" x="{middle:.1f}" y="{h - 13}">{text}</text>'
        )
    note = "Maxima along z, x and y" if n_z > 1 else "Maxima along z"
    note += "; voxels drawn as cubes" if n_z > 1 and not known else ""
    return (
        f'<figure><svg role="img" aria-label="{note}" viewBox="0 0 {across} {down}" '
        f'width="{across}" height="{down}">{drawn}</svg><figcaption>{note}</figcaption></figure>'
    )


def _png(image: np.ndarray, low: float, high: float) -> str:
    """Give an image in grey as a PNG file in base64, black where nothing is known."""
    for axis in (0, 1):
        step = -(-image.shape[axis] // N_POINTS)
        if step > 1:
            image = np.fmax.reduceat(image, range(0, image.shape[axis], step), axis=axis)
    shown = np.clip((image.astype(np.float64) - low) / (high - low), 0, 1) ** GAMMA
    grey = np.rint(np.nan_to_num(shown) * 255).astype(np.uint8)
    return b64encode(png_bytes(grey)).decode()


STYLE = """
:root { color-scheme: light dark; --back: #fff; --card: #f5f6f8; --ink: #1b1f24; --dim: #626b76;
  --rule: #d9dde3; --line: #1f6feb; --alt: #b3541e; --bad: #c62f2f;
  --warn: #a86500; --same: #7a3fc0; --good: #2b7a3d }
@media screen and (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1d2127;
  --ink: #e4e7eb; --dim: #98a2ae; --rule: #343a43; --line: #6ea8ff; --alt: #f0955c; --bad: #ff7b72;
  --warn: #e3b341; --same: #c9a7ff; --good: #6fcf87 } }
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
figcaption { font-size: 13px }
.head { display: flex; flex-wrap: wrap; gap: 0 14px; font-size: 12px; color: var(--dim) }
.head b { flex: 1; color: var(--ink); white-space: nowrap } .head span { white-space: nowrap }
svg[role] { display: block; max-width: 100%; height: auto } .charts svg[role] { width: 100% }
text { font-size: 11px; fill: var(--dim); text-anchor: middle } text.y { text-anchor: end }
text.bar { fill: #fff; stroke: #0008; stroke-width: 3px; paint-order: stroke }
path.rule, path.axis { fill: none; stroke: var(--rule) } path.axis { stroke: var(--dim) }
.line { color: var(--line) } .alt { color: var(--alt) } .bad { color: var(--bad) }
.warn { color: var(--warn) } .same { color: var(--same) }
table { border-collapse: collapse } td, th { padding: 2px 16px 2px 0; text-align: right }
th { color: var(--dim); font-weight: 400 }
footer { margin-top: 24px; padding-top: 10px; border-top: 1px solid var(--rule); font-size: 13px }
@media print { body { padding: 0; max-width: none; zoom: .62;
  -webkit-print-color-adjust: exact; print-color-adjust: exact } }
"""
