"""Draws the medians with their spread; nothing happens where matplotlib is absent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.summary import Summary

__all__ = ["draw"]

_FIGURES = (
    ("cpu_s", "CPU seconds", 1.0),
    ("wall_s", "wall seconds", 1.0),
    ("peak_nbytes", "peak MB", 1e6),
)


def _color(name: str) -> str:
    if name.startswith("ours"):
        return "#1b7f5c"
    return "#b8b8b8" if name.startswith("floor") else "#6b84b5"


def draw(path: Path, cases: Mapping[str, Mapping[str, Summary]]) -> Path | None:
    """Draw one row of bars a case, and give the path; ``None`` where nothing was drawn."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    shown = {name: rows for name, rows in cases.items() if rows}
    if not shown:
        return None
    heights = [len(rows) + 1.5 for rows in shown.values()]
    figure = Figure(figsize=(13, 0.27 * sum(heights) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(shown), 3, squeeze=False, height_ratios=heights)
    for axes, (case, rows) in zip(grid, shown.items(), strict=True):
        for ax, (field, label, scale) in zip(axes, _FIGURES, strict=True):
            # A floor holds its data in memory, so its peak would only squeeze the others.
            names = list(rows)
            values = [getattr(row, field) for row in rows.values()]
            hidden = [field == "peak_nbytes" and n.startswith("floor") for n in names]
            medians = [0 if h else v.median / scale for v, h in zip(values, hidden, strict=True)]
            below = [
                0 if h else (v.median - v.low) / scale for v, h in zip(values, hidden, strict=True)
            ]
            above = [
                0 if h else (v.high - v.median) / scale for v, h in zip(values, hidden, strict=True)
            ]
            ax.barh(names, medians, xerr=[below, above], color=[_color(n) for n in names])
            ax.invert_yaxis()
            ax.set_title(f"{case}: {label}", fontsize=8, loc="left")
            ax.tick_params(labelsize=7)
            if field != "cpu_s":
                ax.set_yticklabels([])
            ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    return path
