"""Writes what was measured: every run as JSON, a table in Markdown, a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contenders import CONTENDERS, US
from benchmarks.layouts import Case
from benchmarks.plot import draw
from benchmarks.runner import Run, Settings
from benchmarks.summary import Spread, Summary, summarize, verdicts

__all__ = ["one_line", "write_report"]


def one_line(run: Run) -> str:
    """Give a run as one line for the terminal."""
    name = f"{run.case:22} {run.contender:18} {run.repeat}"
    if run.status != "ok":
        return f"{name}  {run.status}: {run.why}"
    return (
        f"{name}  wall {run.wall_s:7.2f} s  CPU {run.cpu_s:7.2f} s  "
        f"peak {run.peak_nbytes / 1e6:7.0f} MB  out {run.out_nbytes / 1e6:7.1f} MB  {run.check}"
    )


def write_report(
    folder: Path,
    stem: str,
    cases: Sequence[Case],
    runs: Sequence[Run],
    machine: Mapping[str, Any],
    settings: Settings,
) -> list[Path]:
    """Write ``results-<stem>`` as JSON, table and plot, and give the paths.

    Cases of an earlier run of the same stem that were not run now are kept,
    with the machine and the versions that they were run on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / f"results-{stem}.json"
    kept: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    for case in cases:
        mine = [run.as_dict() for run in runs if run.case == case.name]
        if not mine:
            continue
        versions: dict[str, dict[str, str]] = {}
        for run in mine:
            versions.setdefault(run["contender"], run.pop("versions"))
            run.pop("versions", None)
        kept[case.name] = {
            "isolates": case.isolates,
            "shape": case.planes.shape,
            "voxels": math.prod(case.planes.shape),
            "compression": case.planes.compression,
            "rows_per_strip": case.planes.rows_per_strip,
            "max_mem": case.max_mem,
            "n_boxes": case.n_boxes,
            "box": case.box,
            "n_workers": settings.n_workers,
            "machine": dict(machine),
            "versions": versions,
            "runs": mine,
        }
    record.write_text(json.dumps(kept, indent=1) + "\n")
    table = folder / f"results-{stem}.md"
    table.write_text(render(stem, kept))
    paths = [record, table]
    drawn = draw(folder / f"results-{stem}.png", _summaries(kept))
    return [*paths, drawn] if drawn else paths


def _summaries(record: Mapping[str, Any]) -> dict[str, dict[str, Summary]]:
    return {name: summarize(c["runs"], c["voxels"]) for name, c in record.items()}


def _spread(value: Spread, scale: float, digits: int) -> str:
    median, low, high = (f"{v / scale:.{digits}f}" for v in (value.median, value.low, value.high))
    return f"{median} ({low} to {high})"


def _ratio(other: float, ours: float) -> str:
    return f"{other / ours:.2f}" if ours > 0 else ""


def render(stem: str, record: Mapping[str, Any]) -> str:
    """Give the whole table in Markdown."""
    lines = [
        f"# Benchmarks, size `{stem}`",
        "",
        f"Made by `python -m benchmarks --size {stem}`. Every run is a process of its own; "
        "contenders alternate. Median (least to greatest) of the rounds. CPU is user plus system, "
        "children included, imports and a tiny first run left out. Peak is resident memory, "
        "imports and children included, shared pages counted once. Ratios are to `ours`: above 1 "
        "is slower, or more. A floor holds all its data in memory, so its peak says nothing.",
        "",
    ]
    summaries = _summaries(record)
    for name, case in record.items():
        lines += _case_lines(name, case, summaries[name])
    lines += _target_lines(summaries) if stem == "full" else []
    lines += ["## Contenders", ""]
    lines += [f"- `{c.name}`: {c.what}" for c in CONTENDERS]
    lines += ["", "## Machine and versions", ""]
    lines += _machine_lines(record)
    return "\n".join(lines) + "\n"


def _case_lines(name: str, case: Mapping[str, Any], rows: Mapping[str, Summary]) -> list[str]:
    limit = f", max_mem {case['max_mem'] / 1e6:.0f} MB" if case["max_mem"] else ""
    boxes = f", {case['n_boxes']} boxes of {tuple(case['box'])}" if case["n_boxes"] else ""
    lines = [
        f"## {name}",
        "",
        f"Isolates {case['isolates']}. {tuple(case['shape'])} uint16, compression "
        f"{case['compression']}{limit}{boxes}, {case['n_workers']} workers.",
        "",
        "| contender | runs | wall s | CPU s | peak MB | files | written MB | wall ratio "
        "| CPU ratio | peak ratio | output |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    ours = rows.get(US)
    for one in rows.values():
        ratios = ["", "", ""]
        if ours is not None:
            ratios = [
                _ratio(getattr(one, f).median, getattr(ours, f).median)
                for f in ("wall_s", "cpu_s", "peak_nbytes")
            ]
        written = [str(one.n_files), f"{one.out_nbytes / 1e6:.1f}"] if one.n_files else ["", ""]
        cells = [
            f"`{one.contender}`",
            str(one.n_runs),
            _spread(one.wall_s, 1, 2),
            _spread(one.cpu_s, 1, 2),
            _spread(one.peak_nbytes, 1e6, 0),
            *written,
            *ratios,
            one.check,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for run in case["runs"]:
        if run["status"] != "ok":
            lines.append(f"- `{run['contender']}`: {run['status']}: {run['why']}")
    return lines if lines[-1] == "" else [*lines, ""]


def _target_lines(summaries: Mapping[str, Mapping[str, Summary]]) -> list[str]:
    lines = [
        "## Targets",
        "",
        "| case | figure | measured | bar | where the bar comes from | met |",
        "|---|---|--:|--:|---|---|",
    ]
    for target, value, bar in verdicts(summaries):
        scale, digits = (1e6, 0) if target.figure.endswith("nbytes") else (1, 2)
        if target.figure == "cpu_per_voxel":
            scale, digits = 1e-9, 2
        other = {"*": "the best peer", "": "fixed"}.get(target.against, f"`{target.against}`")
        where = other if target.limit else f"{target.factor:.2f} of {other} {target.against_case}"
        figure = target.figure.replace("nbytes", "MB").replace("cpu_per_voxel", "CPU ns a voxel")
        met = "yes" if value <= bar else "**no**"
        lines.append(
            f"| {target.case} | `{target.ours}` {figure} | {value / scale:.{digits}f} "
            f"| {bar / scale:.{digits}f} | {where.strip()} | {met} |"
        )
    return [*lines, ""]


def _machine_lines(record: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    seen: dict[str, list[str]] = {}
    for name, case in record.items():
        facts = dict(case["machine"])
        load = facts.pop("load_average_at_start")
        caches = ", ".join(f"{k} {v}" for k, v in facts.pop("caches").items())
        text = (
            f"{facts['processor']}, {facts['cores']} cores, {caches}, "
            f"{facts['memory_nbytes'] / 1e9:.0f} GB, {facts['system']}; "
            f"{facts['filesystem']}, {facts['cache_state']}; revision {facts['revision']}; "
            f"load average at the start {load[0]}"
        )
        seen.setdefault(text, []).append(name)
    lines += [f"- {', '.join(names)}: {text}" for text, names in seen.items()]
    versions: dict[str, set[str]] = {}
    for case in record.values():
        for contender, found in case["versions"].items():
            if found:
                text = ", ".join(f"{k} {v}" for k, v in found.items())
                versions.setdefault(text, set()).add(contender)
    lines += [f"- {', '.join(sorted(names))}: {text}" for text, names in versions.items()]
    return lines
