"""Medians and spreads of runs, and how they stand against the targets. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["TARGETS", "Spread", "Summary", "Target", "summarize", "verdicts"]


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of one figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Summary:
    """One contender on one case."""

    contender: str
    n_runs: int
    wall_s: Spread
    cpu_s: Spread
    peak_nbytes: Spread
    out_nbytes: int
    n_files: int
    check: str
    voxels: int


def summarize(runs: Sequence[Mapping[str, Any]], voxels: int) -> dict[str, Summary]:
    """Give a summary for each contender that has at least one good run, in order."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if run["status"] == "ok":
            by_name.setdefault(run["contender"], []).append(run)
    return {
        name: Summary(
            name,
            len(ones),
            wall_s=Spread.of([r["wall_s"] for r in ones]),
            cpu_s=Spread.of([r["cpu_s"] for r in ones]),
            peak_nbytes=Spread.of([r["peak_nbytes"] for r in ones]),
            out_nbytes=ones[0]["out_nbytes"],
            n_files=ones[0]["n_files"],
            check=next((r["check"] for r in ones if r["check"]), "not asked for"),
            voxels=voxels,
        )
        for name, ones in by_name.items()
    }


@dataclass(frozen=True, slots=True)
class Target:
    """A bar at full size: a figure of ours at most ``factor`` times another's, or ``limit``."""

    case: str
    figure: str  # "cpu_s" | "wall_s" | "peak_nbytes" | "out_nbytes" | "cpu_per_voxel"
    factor: float = 1.0
    against: str = ""  # contender; "*" is the best of all peers
    against_case: str = ""  # empty: the same case
    limit: float = 0.0  # absolute, in the figure's unit
    ours: str = "ours"


TARGETS = (
    Target("convert-raw", "cpu_s", 1 / 1.7, "scout"),
    Target("convert-raw", "cpu_s", 1 / 1.7, "scout-zarr2"),
    Target("convert-raw", "cpu_s", 1 / 2, "tensorstore"),
    Target("convert-raw", "cpu_s", 1 / 4, "dask-image"),
    Target("convert-raw", "cpu_s", 1 / 4, "aszarr"),
    Target("convert-raw", "wall_s", 1.0, "*"),
    Target("convert-raw", "cpu_s", 1.7, "floor"),
    Target("convert-raw", "cpu_s", 1 / 2.6, "scout", ours="ours-lz4"),
    Target("convert-raw", "cpu_s", 1 / 2.6, "scout-zarr2", ours="ours-lz4"),
    Target("convert-raw", "peak_nbytes", limit=350e6),
    Target("convert-raw", "peak_nbytes", 1 / 4, "*"),
    Target("convert-raw", "out_nbytes", 1.0, "scout"),
    Target("convert-lzw", "cpu_s", 1.3, "floor"),
    Target("convert-lzw", "cpu_s", 1.0, "*"),
    Target("convert-lzw", "wall_s", 1.0, "*"),
    Target("convert-deflate", "cpu_s", 1.3, "floor"),
    Target("convert-deflate", "cpu_s", 1.0, "*"),
    Target("convert-deflate", "wall_s", 1.0, "*"),
    Target("convert-wide", "peak_nbytes", limit=662e6),
    Target("convert-wide", "cpu_per_voxel", 1.3, "ours", against_case="convert-raw"),
    Target("computed", "cpu_s", 1 / 2.5, "rechunk-to-zarr"),
    Target("computed", "peak_nbytes", limit=662e6),
    Target("read-whole", "cpu_s", 1 / 1.8, "from-zarr"),
    Target("read-whole", "cpu_s", 1 / 1.3, "tensorstore-dask"),
    Target("read-boxes", "wall_s", 1 / 2, "from-zarr"),
    Target("read-boxes", "wall_s", 1.0, "tensorstore"),
    Target("read-boxes", "wall_s", 1.0, "tensorstore-dask"),
    Target("read-boxes", "wall_s", 1.0, "tensorstore", ours="ours-direct"),
    Target("read-planes", "wall_s", 1 / 2, "from-zarr"),
    Target("read-planes", "wall_s", 1.0, "tensorstore"),
    Target("index", "cpu_s", limit=2.5),
    Target("plan", "wall_s", limit=5.0),
    Target("plan", "peak_nbytes", limit=300e6),
)


def _figure(summary: Summary, name: str) -> float:
    if name == "cpu_per_voxel":
        return summary.cpu_s.median / summary.voxels
    value = getattr(summary, name)
    return value.median if isinstance(value, Spread) else float(value)


def verdicts(cases: Mapping[str, Mapping[str, Summary]]) -> list[tuple[Target, float, float]]:
    """Give ``(target, ours, bar)`` for every target that these cases can decide."""
    found = []
    for target in TARGETS:
        mine = cases.get(target.case, {}).get(target.ours)
        if mine is None:
            continue
        if target.limit:
            found.append((target, _figure(mine, target.figure), target.limit))
            continue
        field = cases.get(target.against_case or target.case, {})
        if target.against == "*":
            peers = [s for n, s in field.items() if not n.startswith(("ours", "floor"))]
        else:
            peers = [field[target.against]] if target.against in field else []
        if peers:
            best = min(_figure(p, target.figure) for p in peers)
            found.append((target, _figure(mine, target.figure), best * target.factor))
    return found
