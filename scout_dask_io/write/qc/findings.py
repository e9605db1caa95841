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
