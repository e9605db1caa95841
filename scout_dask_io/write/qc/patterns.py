"""What planes show beside their neighbours: periods, steps, drift, stripes, places, focus. Pure.

Each function takes figures of the planes of one series in order, NaN where a plane has none, and
gives what it found, or nothing. What they call found stands well above what the other planes
do; a stack of a few planes, or one of noise, has no such findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

# Planes of which a pattern can be told at all, repeats that make a period, and its planes at most.
FEW, REPEATS, LONGEST = 16, 3, 64
# Bends of a slow course through a stack that are told from a period, at most.
MOST_BENT = 8
# What a change must be, as part of the intensity, and how many times the usual one.
LEAST_CHANGE, TIMES_USUAL = 0.15, 8
# Parts of all change that a period or a drift explains.
EXPLAINED = 0.75
# Parts of a row that are held against one another, where stripes are looked for.
QUARTERS = 4
# Likeness of planes in another place, and how much more it is than in the place they have.
LIKE, MORE_LIKE = 0.4, 0.25


@dataclass(frozen=True, slots=True)
class Period:
    """Intensities that repeat: every how many planes, from what to what, and the first plane."""

    length: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Change:
    """Intensity that changes at a plane, for ``n`` planes, or from there on where that is 0."""

    plane: int
    n: int
    ratio: float


@dataclass(frozen=True, slots=True)
class Intensities:
    """What is found of the intensities of one series."""

    period: Period | None
    changes: tuple[Change, ...]
    drift: float | None


def of_intensities(values: np.ndarray) -> Intensities:
    """Look for a period, for sudden changes, and for drift in intensities above 0."""
    at = np.flatnonzero(np.isfinite(values) & (values > 0))
    if len(at) < FEW:
        return Intensities(None, (), None)
    found = np.log(values[at])
    period, pattern = _period(at, found)
    rest = found - pattern
    changes = _changes(at, rest)
    return Intensities(period, changes, None if changes else _drift(at, rest))


def _linear(at: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.asarray(np.polyval(np.polyfit(at, found, 1), at))


def _period(at: np.ndarray, found: np.ndarray) -> tuple[Period | None, np.ndarray]:
    """Give the shortest period that explains about as much as any, and what repeats.

    A slow course through the stack, as a sample has, is fitted along with what repeats.
    """
    n = len(found)
    course = min(max(n // 15, 2), MOST_BENT)
    place = 2 * (at - at[0]) / (at[-1] - at[0]) - 1
    basis, _ = np.linalg.qr(np.polynomial.legendre.legvander(place, course))
    rest = found - basis @ (basis.T @ found)
    none, whole = np.zeros(n), float(rest @ rest)
    if np.ptp(rest) < LEAST_CHANGE / 2:
        return None, none
    best: list[tuple[float, int, np.ndarray]] = []
    for length in range(2, min((int(at[-1] - at[0]) + 1) // REPEATS, LONGEST) + 1):
        phase = at % length
        counts = np.bincount(phase, minlength=length)
        free = n - length - course
        if 3 * free < n or counts.min() == 0:
            continue
        sums = np.bincount(phase, rest, length)
        if float(sums @ (sums / counts)) < EXPLAINED / 2 * whole:
            continue  # the means alone are far from enough
        shared = np.stack([np.bincount(phase, column, length) for column in basis.T])
        # Constants are in the course too: among the means that fit, those that add up to nothing.
        normal = np.diag(counts.astype(float)) - shared.T @ shared + 1
        means = np.linalg.solve(normal, sums)
        left = max(whole - float(means @ sums), 0.0) / free
        best.append((1 - left / (whole / (n - course - 1)), length, means))
    most = max((b[0] for b in best), default=0)
    if most < EXPLAINED:
        return None, none
    _, length, means = next(b for b in best if b[0] >= most - 0.02)
    if np.ptp(means) < LEAST_CHANGE:
        return None, none
    middle = float(np.mean(found))
    low, high = (float(np.exp(middle + v)) for v in (means.min(), means.max()))
    return Period(length, low, high), means[at % length]


def _changes(at: np.ndarray, found: np.ndarray) -> tuple[Change, ...]:
    """Give planes where values jump, apart from what they do elsewhere."""
    steps = np.diff(found)
    usual = 1.4826 * float(np.median(np.abs(steps - np.median(steps))))
    enough = max(LEAST_CHANGE, TIMES_USUAL * usual)
    large = np.flatnonzero(np.abs(steps) > enough).tolist()
    if len(large) > max(4, len(steps) // 8):
        return ()  # that is how they are
    changes: list[Change] = []
    k = 0
    while k < len(large):
        here, there = large[k], large[k + 1] if k + 1 < len(large) else None
        # There and back within three planes: these are odd, and not what follows.
        back = (
            there is not None
            and there - here <= 3
            and abs(steps[here] + steps[there]) < 0.5 * abs(steps[here])
        )
        n = there - here if back and there is not None else 0
        changes.append(Change(int(at[here + 1]), n, float(np.exp(steps[here]))))
        k += 2 if back else 1
    return tuple(changes)


def _drift(at: np.ndarray, found: np.ndarray) -> float | None:
    """Give the ratio of last to first where values rise or fall evenly, or ``None``."""
    line = _linear(at, found)
    spread = float(np.var(found))
    if spread == 0 or 1 - np.var(found - line) / spread < EXPLAINED:
        return None
    change = float(line[-1] - line[0])
    return float(np.exp(change)) if abs(change) > LEAST_CHANGE else None


@dataclass(frozen=True, slots=True)
class Displacement:
    """A plane that is more like the one before it in another place.

    Attributes
    ----------
    plane : int
        The later one.
    how : str
        ``"mirrored along y"``, ``"along x"``, ``"turned by 180°"`` or ``"shifted"``.
    shift : tuple of int
        Of pixels of the sample along y and x.
    """

    plane: int
    how: str
    shift: tuple[int, int] = (0, 0)


def prepared(planes: np.ndarray) -> np.ndarray:
    """Give planes whose extremes say no more than others, each of mean 0 and norm 1."""
    found = _as_floats(planes)
    rows = found.reshape(len(found), -1)
    # A sixteenth of the pixels tells well enough what the extremes are.
    some = rows[:, :: max(rows.shape[1] // 256, 1)]
    n = some.shape[1]
    ends = n // 50, n - 1 - n // 50
    low, high = np.partition(some, ends, axis=1)[:, ends].T
    np.clip(rows, low[:, None], high[:, None], out=rows)
    rows -= rows.mean(axis=1, keepdims=True)
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    rows /= np.where(norms > 0, norms, 1)[:, None]
    return found


def _as_floats(planes: np.ndarray) -> np.ndarray:
    found = planes.astype(np.float32)
    return np.nan_to_num(found, copy=False) if planes.dtype.kind == "f" else found


def displacement(plane: int, before: np.ndarray, after: np.ndarray) -> Displacement | None:
    """Tell whether a plane lies otherwise than the one before; both are :func:`prepared`."""
    like = float(np.vdot(before, after))
    if like > 1 - MORE_LIKE or min(after.shape) < 8 or not _is_smooth(before):
        return None
    best, found = like + MORE_LIKE, None
    turned = {
        "mirrored along y": after[::-1],
        "mirrored along x": after[:, ::-1],
        "turned by 180°": after[::-1, ::-1],
    }
    for how, other in turned.items():
        if (value := float(np.vdot(before, other))) > max(best, LIKE):
            best, found = value, Displacement(plane, how)
    crossed = np.fft.irfft2(np.fft.rfft2(before) * np.conj(np.fft.rfft2(after)), s=before.shape)
    at = np.unravel_index(int(np.argmax(crossed)), before.shape)
    shift = tuple(
        int(i) - n if 2 * int(i) > n else int(i) for i, n in zip(at, before.shape, strict=True)
    )
    if any(shift) and all(3 * abs(s) < n for s, n in zip(shift, before.shape, strict=True)):
        parts = [_overlap(before, shift), _overlap(after, tuple(-s for s in shift))]
        one, other = (prepared(part[None])[0] for part in parts)
        if float(np.vdot(one, other)) > max(best, LIKE):
            found = Displacement(plane, "shifted", (-shift[0], -shift[1]))
    return found


def _is_smooth(plane: np.ndarray) -> bool:
    """Tell whether pixels have to do with those beside them: in noise there is no place."""
    return float(np.vdot(plane[:-1], plane[1:]) + np.vdot(plane[:, :-1], plane[:, 1:])) > 0.1


def _overlap(plane: np.ndarray, shift: Any) -> np.ndarray:
    return plane[
        tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(shift, plane.shape, strict=True))
    ]


def stripes(planes: np.ndarray, below: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Tell how much the rows, and the columns, of each plane differ beyond what its pixels do.

    ``below`` and ``beside`` are the pixels next to those of the first rows and columns, one row
    and one column further, or none where ``planes`` has them: they tell of fine stripes, those of
    ``planes``, which lie farther apart, of coarse ones.

    Gives ``(plane, 2)``, as parts of what the mean of as many pixels without relation varies by;
    what only some quarters of a row have, as a sample has it, is no stripe.
    """
    found = _as_floats(planes)
    if min(found.shape[1:]) < 16:
        return np.zeros((len(found), 2))
    coarse = [_coarse(found, axis) for axis in (1, 2)]
    fine = []
    for axis, other in ((1, below), (2, beside)):
        n = other.shape[axis]
        here = (slice(None),) * axis
        apart = _as_floats(other) - found[(*here, slice(n))] if n else np.diff(found, axis=axis)
        fine.append(_shared(apart, axis))
    return np.maximum(coarse, fine).T


def _coarse(planes: np.ndarray, axis: int) -> np.ndarray:
    """Look at rows less the rows above and below."""
    n = planes.shape[axis]
    here = (slice(None),) * axis
    curved = planes[(*here, slice(2, n))] + planes[(*here, slice(0, n - 2))]
    curved *= np.float32(-0.5)
    curved += planes[(*here, slice(1, n - 1))]
    return _shared(curved, axis)


def _shared(apart: np.ndarray, axis: int) -> np.ndarray:
    """Compare what quarters of rows have in common with the noise of their mean."""
    along = 3 - axis
    wide = apart.shape[along]
    parts = np.array_split(apart, QUARTERS, axis=along)
    quarters = np.array([part.mean(axis=along, dtype=np.float64) for part in parts])
    alone = np.sum(np.square(quarters), axis=0)
    shared = (np.square(quarters.sum(axis=0)) - alone) / (QUARTERS * (QUARTERS - 1))
    noise = np.abs(apart, out=apart).mean(axis=(1, 2))
    # An edge of the sample, in a row or two, is no stripe: none counts for over four usual ones.
    most = 4 * np.abs(shared).mean(axis=1, keepdims=True)
    common = np.sqrt(np.maximum(np.clip(shared, -most, most).mean(axis=1), 0))
    return np.where(noise > 0, common / np.where(noise > 0, noise, 1) * np.sqrt(wide), 0.0)


def of_stripes(rows: np.ndarray, columns: np.ndarray) -> str:
    """Give the axis along which most planes have stripes, ``"x"`` or ``"y"``, or ``""``."""
    known = np.isfinite(rows) & np.isfinite(columns)
    if not known.any():
        return ""
    along_x, along_y = float(np.median(rows[known])), float(np.median(columns[known]))
    for one, other, axis in ((along_x, along_y, "x"), (along_y, along_x, "y")):
        if one > 3 and one > 2 * other:
            return axis
    return ""


def of_focus(sharpness: np.ndarray, level: np.ndarray) -> list[int]:
    """Give planes in which neighbouring pixels differ far less than in the planes around them.

    Dim planes differ less too: by the intensity at most, by its root where photons are few.
    """
    good = np.flatnonzero(np.isfinite(sharpness) & (sharpness > 0) & (level > 0))
    if len(good) < FEW:
        return []
    found: set[int] | None = None
    for power in (1.0, 0.5):
        values = np.log(sharpness[good]) - power * np.log(level[good])
        around = np.median(sliding_window_view(np.pad(values, 10, mode="reflect"), 21), axis=1)
        rest = values - around
        usual = 1.4826 * float(np.median(np.abs(rest)))
        low = {int(k) for k in good[rest < -max(0.35, TIMES_USUAL * usual)]}
        found = low if found is None else found & low
    return sorted(found or ())
