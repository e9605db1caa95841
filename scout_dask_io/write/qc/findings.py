"""What stands out in the planes of a volume, in words and as a JSON document. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scout_dask_io.core.formatting import format_count, format_percent
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import FilledPlane, ImageInfo
from scout_dask_io.store.sidecar import FORMAT
from scout_dask_io.write.qc.gather import grid_steps, sample_thinning
from scout_dask_io.write.qc.patterns import Change, of_focus, of_intensities, of_stripes
from scout_dask_io.write.qc.summary import PERCENTILES, VolumeSummary

# Planes, and groups of planes, that a sentence names one by one.
_NAMED = 12


@dataclass(frozen=True, slots=True)
class Subject:
    """Which array it is. Picklable.

    Attributes
    ----------
    name, source : str
        Of the array, and where its pixels came from.
    shape : tuple of int
        In elements.
    dtype : str
        As stored.
    info : ImageInfo
        What is known of it beside its pixels, its axes always.
    """

    name: str
    source: str
    shape: Shape
    dtype: str
    info: ImageInfo


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Planes that are equal.

    Attributes
    ----------
    planes : tuple of int
        Their numbers, in C order of the axes before the last two.
    compared : bool
        Whether every pixel was; otherwise all that was gathered of them agrees.
    """

    planes: tuple[int, ...]
    compared: bool


def qc_document(
    subject: Subject, summary: VolumeSummary, duplicates: Sequence[Duplicates], written: str
) -> dict[str, Any]:
    """Give what is known of the planes as a JSON document, its ``findings`` first.

    Filled planes are among neither the blank ones nor the duplicates. Lists of
    planes are in C order of ``planes["axes"]``.
    """
    planes, lead, info = summary.planes, summary.lead, subject.info
    size = info.voxel_size
    filled = {_number(f.plane, lead) for f in info.missing if f.plane}
    flat = (planes["n"] > 0) & (planes["min"] == planes["max"]) & (planes["n_strange"] == 0)
    blank = [int(k) for k in np.flatnonzero(flat) if int(k) not in filled]
    same = [
        Duplicates(kept, d.compared)
        for d in duplicates
        if len(kept := tuple(k for k in d.planes if k not in filled)) > 1
    ]
    step_y, step_x = grid_steps(subject.shape)
    thin_y, thin_x = sample_thinning(subject.shape)
    n_pixels = math.prod(subject.shape)
    n_saturated = int(summary.n_saturated.sum())
    names = _Names(info, lead)
    return {
        "format": FORMAT,
        "version": 1,
        "findings": [
            *_of_filled(info.missing, names),
            *_of_blank(blank, planes, names),
            *_of_duplicates(same, names),
            *_of_strange(planes, names, n_pixels),
            *_of_saturated(summary, subject, names, n_pixels),
            *_of_patterns(summary, subject, names, filled | set(blank)),
        ],
        "array": subject.name,
        "source": subject.source,
        "written": written,
        "shape": list(subject.shape),
        "dtype": subject.dtype,
        "axes": info.axes,
        "channels": list(info.names) or None,
        "voxel_size_um": None if size is None else list(size.micrometres),
        "exact": "min, max, n_saturated, n_not_finite, blank, and duplicates that were compared",
        "sampled": {
            "means_percentiles_histogram": _every(thin_y * step_y, thin_x * step_x),
            "projections": _every(step_y, step_x),
        },
        "blank": [_index(k, lead) for k in blank],
        "duplicates": [
            {"planes": [_index(k, lead) for k in d.planes], "compared": d.compared} for d in same
        ],
        "filled": [f.record for f in info.missing],
        "saturation": {"value": summary.saturation, "n": n_saturated, "n_pixels": n_pixels},
        "planes": {
            "axes": info.axes[:-2],
            "shape": list(subject.shape[:-2]),
            "min": _numbers(planes["min"], planes["n"] > 0),
            "max": _numbers(planes["max"], planes["n"] > 0),
            "mean": _numbers(np.round(summary.mean, 4)),
            **{
                f"p{p:02d}": _numbers(summary.percentiles[:, n]) for n, p in enumerate(PERCENTILES)
            },
            "sharpness": _numbers(np.round(summary.sharpness, 4)),
            "stripes_along_x": _numbers(np.round(summary.stripes[:, 0], 3)),
            "stripes_along_y": _numbers(np.round(summary.stripes[:, 1], 3)),
            "n_saturated": summary.n_saturated.tolist(),
            "n_not_finite": planes["n_strange"].tolist(),
        },
        "histogram": {"edges": summary.edges.tolist(), "counts": summary.counts.tolist()},
    }  # fmt: skip


def _every(rows: int, columns: int) -> dict[str, int]:
    return {"every_nth_row": rows, "every_nth_column": columns}


def _numbers(values: np.ndarray, known: Any = True) -> list[Any]:
    """Give values as JSON has them: whole numbers as such, ``None`` for what is not known."""
    finite = np.isfinite(values) & known
    return [
        (int(v) if float(v).is_integer() else v) if ok else None
        for v, ok in zip(values.tolist(), finite.tolist(), strict=True)
    ]


def _number(index: Sequence[int], lead: Shape) -> int:
    return int(np.ravel_multi_index(tuple(index), lead))


def _index(number: int, lead: Shape) -> list[int]:
    return [int(i) for i in np.unravel_index(number, lead)]


class _Names:
    """How planes are called in a sentence."""

    def __init__(self, info: ImageInfo, lead: Shape) -> None:
        self._axes, self._lead, self._channels = info.axes[:-2], lead, info.names

    def __call__(self, numbers: Iterable[int]) -> str:
        """Name planes: ``z=3 to 9, 41``; of several channels, by channel."""
        series: dict[str, list[int]] = {}
        rest = 0
        for number in numbers:
            *before, last = _index(number, self._lead)
            runs = series.setdefault(self._series(before), [])
            if sum(map(len, series.values())) < _NAMED or (runs and runs[-1] == last - 1):
                runs.append(last)
            else:
                rest += 1
        axis = self._axes[-1:] or "the only plane"
        if not self._axes:
            return axis
        named = [f"{name}{axis}={_runs(runs)}" for name, runs in series.items() if runs]
        return "; ".join(named) + (f" and {rest:,} more" if rest else "")

    def series(self, number: int) -> str:
        """Name the series that a plane is of; of the only one, nothing."""
        name = self._series(_index(number, self._lead)[:-1])
        return f"{name.rstrip()}: " if name else ""

    def _series(self, index: list[int]) -> str:
        parts = [
            self._channels[i]
            if axis == "c" and self._channels and i < len(self._channels)
            else f"{axis}={i}"
            for axis, i in zip(self._axes, index, strict=False)
        ]
        return "".join(f"{part} " for part in parts)


def _runs(numbers: Sequence[int]) -> str:
    """Give whole numbers in order, those that follow one another as from and to."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and parts[-1][-1] == n - 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ", ".join(
        str(p[0]) if len(p) == 1 else f"{p[0]}, {p[1]}" if len(p) == 2 else f"{p[0]} to {p[-1]}"
        for p in parts
    )


def _of_filled(filled: Sequence[FilledPlane], names: _Names) -> list[str]:
    if not filled:
        return []
    known = [f for f in filled if f.plane]
    if len(known) < len(filled):
        return [
            f"{format_count(len(filled), 'file')} of the source could not be read; which planes "
            "that concerns is not known."
        ]
    be = "plane could not be read and holds" if len(filled) == 1 else (
        "planes could not be read and hold")  # fmt: skip
    where = names(_number(f.plane, names._lead) for f in known)
    first = filled[0].file.rsplit("/", 1)[-1]
    return [f"{len(filled):,} {be} the fill value: {where} ({first}: {filled[0].reason})."]


def _of_blank(blank: Sequence[int], planes: np.ndarray, names: _Names) -> list[str]:
    if not blank:
        return []
    values = {planes["min"][k].item() for k in blank}
    value = f"every pixel is {values.pop():g}" if len(values) == 1 else "all pixels have one value"
    be = "plane is" if len(blank) == 1 else "planes are"
    return [f"{len(blank):,} {be} blank, {value}: {names(blank)}."]


def _of_duplicates(same: Sequence[Duplicates], names: _Names) -> list[str]:
    found = []
    for d in same[:_NAMED]:
        text = "identical" if d.compared else "probably identical (not every pixel was compared)"
        found.append(f"{format_count(len(d.planes), 'plane')} are {text}: {names(d.planes)}.")
    if len(same) > _NAMED:
        found.append(f"So are planes of {len(same) - _NAMED:,} more groups.")
    return found


def _of_strange(planes: np.ndarray, names: _Names, n_pixels: int) -> list[str]:
    where = np.flatnonzero(planes["n_strange"])
    if not len(where):
        return []
    n = int(planes["n_strange"].sum())
    be = "pixel is" if n == 1 else "pixels are"
    return [
        f"{n:,} {be} NaN or infinite ({format_percent(n, n_pixels)}), in "
        f"{format_count(len(where), 'plane')}: {names(where.tolist())}."
    ]


def _of_saturated(
    summary: VolumeSummary, subject: Subject, names: _Names, n_pixels: int
) -> list[str]:
    n = int(summary.n_saturated.sum())
    if not n or summary.saturation is None:
        return []
    bits = (summary.saturation + 1).bit_length() - 1
    signed = subject.dtype.startswith("int")
    top = subject.dtype if bits + signed == 8 * np.dtype(subject.dtype).itemsize else f"{bits} bits"
    worst = int(np.argmax(summary.n_saturated))
    per_plane = math.prod(subject.shape[-2:])
    be = "pixel is" if n == 1 else "pixels are"
    most = ""
    if len(summary.n_saturated) > 1:
        share = format_percent(int(summary.n_saturated[worst]), per_plane)
        most = f", most at {names([worst])} ({share})"
    return [
        f"{n:,} {be} saturated at {summary.saturation}, the largest value of {top} "
        f"({format_percent(n, n_pixels)}){most}."
    ]


def _of_patterns(
    summary: VolumeSummary, subject: Subject, names: _Names, left_out: set[int]
) -> list[str]:
    """Tell what planes show beside their neighbours, a series after the other."""
    if subject.dtype == "bool":
        return []
    n_z = summary.lead[-1]
    level = summary.percentiles[:, PERCENTILES.index(50)].copy()
    dark = ~(level > 0)
    level[dark] = summary.mean[dark]
    level[sorted(left_out)] = np.nan
    sharpness = np.where(np.isfinite(level), summary.sharpness, np.nan)
    found = []
    for series in range(len(level) // n_z):
        first = series * n_z
        here = slice(first, first + n_z)
        found += _of_intensities(level[here], first, names)
        axis = of_stripes(*np.where(np.isfinite(level[here]), summary.stripes[here].T, np.nan))
        if axis:
            where = names.series(first)
            found.append(
                f"{where or 'Planes '}have stripes along {axis}: neighbouring "
                f"{'rows' if axis == 'x' else 'columns'} differ far more than their pixels do."
            )
        blurred = [first + k for k in of_focus(sharpness[here], level[here])]
        if blurred:
            be = "plane is" if len(blurred) == 1 else "planes are"
            found.append(
                f"{len(blurred):,} {be} less sharp than the planes around, as out of focus: "
                f"{names(blurred)}."
            )
    return found + _of_displaced(summary, subject, names, left_out)


def _of_intensities(level: np.ndarray, first: int, names: _Names) -> list[str]:
    intensities, found = of_intensities(level), []
    where = names.series(first)
    if (period := intensities.period) is not None:
        found.append(
            f"{where}Intensities repeat every {period.length} planes: the median goes from "
            f"{period.low:,.0f} to {period.high:,.0f} and back, by "
            f"{_change(period.high / period.low)}."
        )
    groups: dict[bool, list[Change]] = {}
    for change in intensities.changes:
        groups.setdefault(change.n > 0, []).append(change)
    for change in groups.get(False, [])[:_NAMED]:
        found.append(
            f"Intensities change at once, by {_change(change.ratio)}, from "
            f"{names([first + change.plane])} on."
        )
    for change in groups.get(True, [])[:_NAMED]:
        planes = [first + change.plane + k for k in range(change.n)]
        be = "plane is" if change.n == 1 else "planes are"
        how = "darker" if change.ratio < 1 else "brighter"
        found.append(
            f"{change.n} {be} {how} than the planes around, by {_change(change.ratio)}: "
            f"{names(planes)}."
        )
    if intensities.drift is not None:
        found.append(
            f"{where}Intensities drift evenly from the first plane to the last, by "
            f"{_change(intensities.drift)}."
        )
    return found


def _change(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.0f} %"


def _of_displaced(
    summary: VolumeSummary, subject: Subject, names: _Names, left_out: set[int]
) -> list[str]:
    """Name planes that lie otherwise: those from which it goes back lie otherwise alone."""
    displaced = {d.plane: d for d in summary.displaced if d.plane not in left_out}
    n_z, found, done = summary.lead[-1], [], set()
    steps, thin = grid_steps(subject.shape), sample_thinning(subject.shape)
    for plane, d in sorted(displaced.items()):
        if plane in done:
            continue
        back = next(
            (
                k
                for k in range(plane + 1, min(plane + n_z - plane % n_z, plane + 4))
                if k in displaced
                and displaced[k].how == d.how
                and tuple(-s for s in displaced[k].shift) == d.shift
            ),
            None,
        )
        how = d.how
        if any(d.shift):
            y, x = (s * a * b for s, a, b in zip(d.shift, steps, thin, strict=True))
            how = f"shifted by about {y:,} pixels along y and {x:,} along x"
        if back is None:
            found.append(f"Planes from {names([plane])} on are {how}, against those before.")
        else:
            done.add(back)
            n = back - plane
            be = "plane is" if n == 1 else "planes are"
            found.append(f"{n} {be} {how}, against those around: {names(range(plane, back))}.")
    if len(found) > _NAMED:
        return [*found[:_NAMED], f"So are planes at {len(found) - _NAMED:,} more places."]
    return found
