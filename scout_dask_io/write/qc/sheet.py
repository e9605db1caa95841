"""The sheet of a volume: one HTML file that says at a glance whether the planes are all right.

Nothing is loaded from elsewhere: charts are inline SVG, projections PNG in ``data:``
addresses. It follows the reader's light or dark scheme, and prints in black on white.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from scout_dask_io.core.formatting import format_count, format_shape
from scout_dask_io.core.picture import gray_png, nice_length
from scout_dask_io.store.beside import FORMAT
from scout_dask_io.write.qc.charts import Band, Line, Marks, histogram_chart, line_chart, thinned
from scout_dask_io.write.qc.sheet_style import STYLE
from scout_dask_io.write.qc.summary import Projections

__all__ = ["html_sheet"]

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
