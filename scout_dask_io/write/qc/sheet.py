"""The sheet of a volume: one HTML file that says at a glance whether the planes are all right.

Nothing is loaded from elsewhere: what matplotlib draws is inline SVG, whose colours are those
of the style sheet. It follows the reader's light or dark scheme, and prints in black on white.
matplotlib is imported when something is drawn, and its settings are as they were afterwards.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from scout_dask_io.core.contrast import contrast_limits
from scout_dask_io.core.formatting import format_count, format_shape
from scout_dask_io.core.picture import nice_length
from scout_dask_io.store.sidecar import FORMAT
from scout_dask_io.write.qc.summary import Projections

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Points of a line, at most: more than a screen has pixels show nothing more.
N_POINTS = 600
# In points of a drawing: charts, the projection along z, all of them side by side, the least width.
WIDTH, PICTURE, SIDE, NARROW = 640, 300, 384, 28
# Of the projections: dim parts are to be seen too.
GAMMA = 0.7
# What is drawn in these becomes the variable of the style sheet.
COLORS = {"ink": "#1b1f24", "dim": "#626b76", "rule": "#d9dde3", "line": "#1f6feb",
          "alt": "#b3541e", "bad": "#c62f2f", "warn": "#a86500", "same": "#7a3fc0"}  # fmt: skip
SETTINGS = {
    "svg.fonttype": "none", "svg.hashsalt": FORMAT,
    "font.size": 11, "font.sans-serif": ["DejaVu Sans"], "text.color": COLORS["dim"],
    "axes.edgecolor": COLORS["dim"], "axes.labelcolor": COLORS["dim"], "axes.labelsize": 11,
    "axes.titlecolor": COLORS["ink"], "axes.titlelocation": "left", "axes.titlesize": 12,
    "axes.titleweight": "bold", "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True,
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False,
    "axes.autolimit_mode": "round_numbers", "axes.xmargin": 0, "axes.ymargin": 0,
    "grid.color": COLORS["rule"], "xtick.color": COLORS["dim"], "ytick.color": COLORS["dim"],
    "ytick.major.size": 0, "ytick.minor.size": 0, "xtick.minor.size": 0,
    "legend.frameon": False, "legend.columnspacing": 1.2, "legend.handlelength": 1.4,
}  # fmt: skip
# matplotlib's settings are of the process: of two sheets at once, one waits.
_DRAWING = threading.Lock()


def html_sheet(document: dict[str, Any], projections: Sequence[Projections]) -> str:
    """Give the sheet of what :func:`~scout_dask_io.write.qc.findings.qc_document` gave.

    Well-formed as XML too; of the same document, the same text.
    """
    from matplotlib import style

    n_z = (document["planes"]["shape"] or [1])[-1]
    n_series = len(document["planes"]["min"]) // n_z
    with _DRAWING, style.context(SETTINGS, after_reset=True):
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
    at_least = f"Largest; least is {_text(known[0])} in every plane" if flat else "Largest"
    charts = {"Intensity": 170, at_least: 110} | ({} if flat else {"Least": 110})
    if saturation["n"]:
        charts[f"Saturated at {saturation['value']:,}, per cent of the pixels"] = 120
    figure, axes = _charts(WIDTH, charts)
    x = np.arange(-(-n_z // step)) * step
    intensity, largest, *others = axes
    for low, high, alpha, label in (("p01", "p99", 0.16, "1 to 99 %"),
                                    ("p25", "p75", 0.3, "25 to 75 %")):  # fmt: skip
        intensity.fill_between(x, values(low, "min"), values(high, "max"), color=COLORS["line"],
                               alpha=alpha, linewidth=0, label=label)  # fmt: skip
    _line(intensity, x, values("p50", "mean"), "line", "median")
    _line(intensity, x, values("mean", "mean"), "alt", "mean", "--")
    same = [i for d in document["duplicates"] for i in d["planes"]]
    marks = {"blank": (document["blank"], "warn"), "identical": (same, "same"),
             "not read": ([f["plane"] for f in document["filled"]], "bad")}  # fmt: skip
    for label, (found, color) in marks.items():
        # Along the lower edge, as many as there are points.
        if at := sorted({z // step * step for z in places(found)}):
            above = intensity.get_xaxis_transform()
            intensity.plot(at, [0.03] * len(at), "^", color=COLORS[color], markersize=7,
                           label=label, transform=above)  # fmt: skip
    most = values("p99", "max")
    # One bright plane among dark ones would press all others to the floor.
    if np.isfinite(most).any() and np.nanmax(most) > 8 * np.nanmedian(most):
        _log_axis(intensity)
    _line(largest, x, values("max", "max"), "alt", "")
    _log_axis(largest)
    if not flat:  # by itself: beside the largest ones it would lie on the floor
        _line(others.pop(0), x, lows, "line", "")
    for ax in others:
        n_pixels = document["shape"][-1] * document["shape"][-2]
        _line(ax, x, values("n_saturated", "max") / n_pixels * 100, "bad", "")
        ax.set_ylim(bottom=0)
    for ax in axes:
        ax.set_xlabel(f"plane along {planes['axes'][-1]}", labelpad=1)
        ax.set_xlim(0, max((n_z - 1) // step * step, 1))
        ax.locator_params(axis="x", integer=True, nbins=9)
        ax.xaxis.set_major_formatter(_text)
        ax.yaxis.set_major_formatter(_text)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(loc="lower right", bbox_to_anchor=(1.01, 1), ncols=7)
    return f"<figure>{_svg(figure, ', '.join(charts))}</figure>"


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


def _charts(width: int, charts: dict[str, int]) -> tuple[Figure, list[Axes]]:
    """Give axes by their titles and heights, one below the other, with room for labels."""
    from matplotlib.figure import Figure

    left, right, top, bottom = 62, 14, 28, 34
    whole = sum(charts.values()) + top * len(charts)
    figure, axes, at = Figure(figsize=(width / 72, whole / 72)), [], whole
    for title, height in charts.items():
        at -= top + height
        box = (left / width, (at + bottom) / whole)
        size = ((width - left - right) / width, (height - bottom) / whole)
        axes.append(figure.add_axes((*box, *size)))
        axes[-1].set_title(title, x=-left / (width - left - right), pad=9)
        axes[-1].locator_params(axis="y", nbins=5)
    return figure, axes


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, color: str, label: str, how: str = "-") -> None:
    """Draw a line that is broken where there is no value; a value between two gaps is a dot."""
    known = np.pad(np.isfinite(y), 1)
    alone = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:]).tolist()
    ax.plot(x, y, how, color=COLORS[color], linewidth=1.6, label=label or None,
            marker="." if alone else "", markevery=alone)  # fmt: skip


def _log_axis(ax: Axes) -> None:
    """Let the axis be logarithmic above 10, where there is nothing below 0 and much above."""
    low, high = ax.dataLim.intervaly
    if low >= 0 and high > 1000:
        ax.set_yscale("symlog", linthresh=10, linscale=1)


def _text(value: float, _: float = 0) -> str:
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.4g}"


def _histogram(document: dict[str, Any], series: int) -> str:
    """Draw counts on a logarithmic axis; values are on one too where bins widen tenfold."""
    edges = np.array(document["histogram"]["edges"], np.float64)
    counts = np.array(document["histogram"]["counts"][series])
    figure, (ax,) = _charts(SIDE, {"Histogram of a sample": 170})
    # Below one, so that a single count is seen; an empty bin has no height.
    ax.stairs(np.maximum(counts, 0.5), edges, baseline=0.5, fill=True, color=COLORS["line"],
              linewidth=0)  # fmt: skip
    ax.set_yscale("log")
    ax.set_ylim(0.5, max(10, int(counts.max())) * 1.3)
    if edges[-1] - edges[-2] > 10 * (edges[1] - edges[0]):
        ax.set_xscale("symlog", linthresh=max(edges[1] - edges[0], 1))
    else:
        ax.locator_params(axis="x", nbins=4)
    ax.set_xlim(edges[0], edges[-1])
    ax.xaxis.set_major_formatter(_text)
    ax.yaxis.set_major_formatter(_text)
    ax.set_xlabel("value" if document["dtype"].startswith("float") else "grey value", labelpad=1)
    return f"<figure>{_svg(figure, 'Histogram of a sample')}</figure>"


def _ortho(document: dict[str, Any], found: Projections, n_z: int) -> str:
    """Lay out the projections: xy, zy to its right, zx below, all in proportion to the voxels."""
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

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
    figure = Figure(figsize=(across / 72, down / 72))
    low, most = contrast_limits([found.xy], (0.5, 99.8), specks_above=95)
    for image, left, top, width, height in panels:
        ax = figure.add_axes(
            (left / across, 1 - (top + height) / down, width / across, height / down)
        )
        ax.set_axis_off()
        ax.imshow(image.astype(np.float32), colormaps["gray"].with_extremes(bad="black"),
                  PowerNorm(GAMMA, low, most, clip=True), aspect="auto", interpolation="none",
                  extent=(0, width, height, 0))  # fmt: skip
    if known:
        length = nice_length(wide / 3)
        text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"
        ends = (w - 8 - length / wide * w, w - 8)
        figure.axes[0].plot(ends, (h - 7, h - 7), color="white", linewidth=3)
        figure.axes[0].text(sum(ends) / 2, h - 12, text, color="white", ha="center", va="bottom",
                            bbox={"color": "black", "alpha": 0.5, "pad": 1})  # fmt: skip
    note = "Maxima along z, x and y" if n_z > 1 else "Maxima along z"
    note += "; voxels drawn as cubes" if n_z > 1 and not known else ""
    return f"<figure>{_svg(figure, note)}<figcaption>{note}</figcaption></figure>"


def _svg(figure: Figure, alt: str) -> str:
    """Give a drawing as an element of the page: no addresses, colours by name."""
    out = io.StringIO()
    without = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=without)
    text = out.getvalue().partition("<svg")[2]
    # Elements are numbered afresh in each drawing, and only hashed names are referred to; a point
    # is a pixel of the page; a browser smooths what it enlarges.
    text = re.sub(r' id="[A-Za-z.]+_\d+"| xmlns(:\w+)?="[^"]*"| version="1.1"', "", text)
    text = re.sub(r'\s+clip-path="[^"]*"', "", text)  # nothing lies outside, but half a line
    text = re.sub(r"image-rendering:[^;\"]*;?|(?<=\d)pt(?=\")", "", text)
    for name, color in COLORS.items():
        text = text.replace(color, f"var(--{name})")
    return f'<svg role="img" aria-label="{escape(alt)}"{text.replace("xlink:href", "href")}'


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
svg { display: block; max-width: 100%; height: auto } .charts svg { width: 100% }
table { border-collapse: collapse } td, th { padding: 2px 16px 2px 0; text-align: right }
th { color: var(--dim); font-weight: 400 }
footer { margin-top: 24px; padding-top: 10px; border-top: 1px solid var(--rule); font-size: 13px }
@media print { body { padding: 0; max-width: none; zoom: .62;
  -webkit-print-color-adjust: exact; print-color-adjust: exact } }
"""
