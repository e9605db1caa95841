"""Elements of one dtype as another: exactly where that goes, else scaled as the caller says.

What does not fit is counted, never dropped in silence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scout_dask_io.core.formatting import format_percent
from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.messages import Option
from scout_dask_io.errors import ArgumentError

SCALE = Option("scale", ("low", "high"))


@dataclass(frozen=True, slots=True)
class Clipped:
    """Elements that did not fit.

    Attributes
    ----------
    n_below, n_above : int
        Below the range, and above it.
    n_nan : int
        Not a number.
    """

    n_below: int = 0
    n_above: int = 0
    n_nan: int = 0

    def __add__(self, other: Clipped) -> Clipped:
        return Clipped(
            self.n_below + other.n_below,
            self.n_above + other.n_above,
            self.n_nan + other.n_nan,
        )

    @property
    def total(self) -> int:
        """All of them."""
        return self.n_below + self.n_above + self.n_nan


@dataclass(frozen=True, slots=True)
class Conversion:
    """How elements of ``source`` become elements of ``dtype``; picklable, safe in threads.

    With ``scale`` ``(low, high)``, ``low`` becomes the least value of an integer
    dtype and ``high`` its greatest, linearly and rounded to the nearest; what
    lies beyond takes the nearer end, and NaN the lower. For a float dtype they
    become 0 and 1, and nothing is clipped.
    """

    source: np.dtype[Any]
    dtype: np.dtype[Any]
    scale: tuple[float, float] | None = None

    def __call__(self, values: np.ndarray) -> tuple[np.ndarray, Clipped]:
        """Give the converted elements, and what did not fit."""
        if self.scale is None:
            return self._cast(values)
        out = np.empty(values.shape, self.dtype)
        clipped = Clipped()
        table = self._table() if self.source.itemsize <= 2 and self.source.kind in "iu" else None
        # By pages, so that no more than one is held as float64.
        n_lead = max(values.ndim - 2, 0)
        for index in np.ndindex(values.shape[:n_lead]):
            page = values[index]
            if self.dtype.kind in "iu":
                clipped += self._beyond(page)
            out[index] = self._scaled(page) if table is None else table[_as_index(page)]
        return out, clipped

    def shown(self, info: ImageInfo) -> ImageInfo:
        """Give what is known of the image, its contrast windows in the values that are written."""
        if self.scale is None:
            return info
        low, high = self.scale
        ends = np.iinfo(self.dtype) if self.dtype.kind in "iu" else None
        least, top = (0.0, 1.0) if ends is None else (float(ends.min), float(ends.max))

        def mapped(pair: tuple[float, float] | None) -> tuple[float, float] | None:
            if pair is None:
                return None
            first, last = (least + (v - low) / (high - low) * (top - least) for v in pair)
            return first, last

        channels = (
            replace(c, window=mapped(c.window), limits=mapped(c.limits)) for c in info.channels
        )
        return replace(info, channels=tuple(channels))

    def told(self, clipped: Clipped, n_elements: int) -> str:
        """Say what did not fit, of so many elements; empty where all did."""
        named = {"below": clipped.n_below, "above": clipped.n_above, "not a number": clipped.n_nan}
        beyond = ", ".join(f"{n:,} {where}" for where, n in named.items() if n)
        if not beyond:
            return ""
        share = f"{clipped.total:,} pixels ({format_percent(clipped.total, n_elements)})"
        if self.scale is None:
            return f"{share} are beyond what {self.dtype} holds, and became infinite: {beyond}"
        low, high = self.scale
        return f"{share} lie outside of {low:g} to {high:g}, and were clipped: {beyond}"

    def _cast(self, values: np.ndarray) -> tuple[np.ndarray, Clipped]:
        if self.dtype == self.source:
            return values, Clipped()
        with np.errstate(over="ignore"):
            out = values.astype(self.dtype)
        if np.can_cast(self.source, self.dtype, "safe"):
            return out, Clipped()
        lost = np.isinf(out) & np.isfinite(values)
        return out, Clipped(int((lost & (values < 0)).sum()), int((lost & (values > 0)).sum()))

    def _beyond(self, page: np.ndarray) -> Clipped:
        low, high = self.scale or (0.0, 0.0)
        n_nan = int(np.isnan(page).sum()) if page.dtype.kind == "f" else 0
        return Clipped(int(np.sum(page < low)), int(np.sum(page > high)), n_nan)

    def _scaled(self, page: np.ndarray) -> np.ndarray:
        low, high = self.scale or (0.0, 1.0)
        unit = (page.astype(np.float64) - low) / (high - low)
        if self.dtype.kind == "f":
            return unit.astype(self.dtype)
        ends = np.iinfo(self.dtype)
        np.clip(np.nan_to_num(unit, nan=0.0, posinf=2.0, neginf=-1.0), 0.0, 1.0, out=unit)
        rounded: np.ndarray = np.rint(unit * (float(ends.max) - float(ends.min)) + ends.min)
        return rounded.astype(self.dtype)

    def _table(self) -> np.ndarray:
        """Give the result for each value that the source dtype has, by its bits."""
        unsigned = np.dtype(f"u{self.source.itemsize}")
        every = np.arange(2 ** (8 * self.source.itemsize), dtype=np.uint32).astype(unsigned)
        return self._scaled(every.view(self.source))


def _as_index(page: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(page).view(np.dtype(f"u{page.dtype.itemsize}"))


def plan_conversion(source: np.dtype[Any], dtype: Any, scale: Any) -> Conversion:
    """Check what was asked for, and give the conversion.

    Without ``scale``, integers become any dtype that holds all their values,
    and anything becomes a float; the nearest one, where it has fewer digits.

    Raises
    ------
    ArgumentError
        If ``dtype`` does not hold the values and no scale is given, or the scale
        is no range.
    """
    source = source.newbyteorder("=")
    try:
        target = source if dtype is None else np.dtype(dtype).newbyteorder("=")
    except TypeError as err:
        raise ArgumentError(f"dtype must be a numpy dtype such as 'uint8', got {dtype!r}") from err
    if target.kind not in "biuf":
        raise ArgumentError(f"dtype must be bool, an integer or a float, got {target}")
    if scale is None:
        if not np.can_cast(source, target, "safe") and target.kind != "f":
            raise ArgumentError(
                f"{target} does not hold every value of {source}: give " + SCALE + ", the "
                "values that become its least and its greatest"
            )
        return Conversion(source, target)
    try:
        low, high = (float(v) for v in scale)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ArgumentError(f"scale must be two numbers (low, high), low below high, got {scale!r}")
    if source.kind == "b" or target.kind == "b" or (target.kind in "iu" and target.itemsize > 4):
        raise ArgumentError(
            f"{source} is not scaled to {target}: give "
            + Option("dtype", "")
            + " an integer of 8 to 32 bits, "
            "or a float"
        )
    return Conversion(source, target, (low, high))
