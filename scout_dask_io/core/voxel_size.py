"""The size of a voxel: one record, whoever states it. Pure; nothing is guessed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any, TypeAlias

import numpy as np

from scout_dask_io.core.messages import Option, warn
from scout_dask_io.errors import ArgumentError

#: The attribute of a Zarr array, and the key in a TIFF description, that holds the sizes.
ATTRIBUTE = "voxel_size_um"

#: Lengths in micrometres, by the names that TIFF and OME metadata use.
MICROMETRES = {
    "pm": 1e-6,
    "picometer": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "decimeter": 1e5,
    "meter": 1e6,
    "kilometer": 1e9,
    "cm": 1e4,
    "m": 1e6,
    "in": 25400.0,
    "inch": 25400.0,
    "inches": 25400.0,
}


def micrometres_of(unit: object) -> float | None:
    """Give how many micrometres a unit of length is, ``None`` where it is none that is known.

    Plurals, British spellings, and the three ways to write the Greek letter mean the same.

    Examples
    --------
    >>> micrometres_of("Micrometres"), micrometres_of("\u03bcm"), micrometres_of("pixel")
    (1.0, 1.0, None)
    """
    name = str(unit).strip().lower()
    # Greek mu and the micro sign are different characters that look the same;
    # ImageJ writes an escape of six characters.
    for mu in ("\\u00b5", "\u03bc"):
        name = name.replace(mu, "\u00b5")
    if name not in MICROMETRES and len(name) > 3:
        name = name.replace("metre", "meter").removesuffix("s")
    return MICROMETRES.get(name)


# Sizes that differ by less say the same: whole nanometres are a hundredth of 0.1 micrometres.
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class VoxelSize:
    """Extent of a voxel per axis in micrometres, ``None`` where nothing states it.

    Attributes
    ----------
    z, y, x : float or None
        In micrometres.
    source : str
        Where it was found, for people: ``"OME-XML of a.tif"``.

    Examples
    --------
    >>> size = VoxelSize(4.0, 1.8, 1.8, "given")
    >>> size.micrometres, size.unit
    ((4.0, 1.8, 1.8), 'micrometer')
    """

    z: float | None
    y: float | None
    x: float | None
    source: str

    @property
    def unit(self) -> str:
        """The unit of all sizes, as OME-Zarr names it; always micrometres."""
        return "micrometer"

    @property
    def micrometres(self) -> tuple[float | None, float | None, float | None]:
        """The extents as ``(z, y, x)``."""
        return self.z, self.y, self.x

    def scaled(self, factors: Sequence[float]) -> VoxelSize:
        """Give the size of voxels that are ``(z, y, x)`` times as large."""
        z, y, x = (
            None if v is None else v * f for v, f in zip(self.micrometres, factors, strict=True)
        )
        return replace(self, z=z, y=y, x=x)

    def _repr_html_(self) -> str:
        """Give the size as a table, for notebooks."""
        names = "".join(f"<th>{axis}</th>" for axis in "zyx")
        sizes = "".join(f"<td>{'?' if v is None else f'{v:.4g} µm'}</td>" for v in self.micrometres)
        rows = f"<tr>{names}</tr><tr>{sizes}</tr>"
        return f"<table><caption>{escape(self.source)}</caption>{rows}</table>"

    def __str__(self) -> str:
        sizes = " x ".join("?" if v is None else f"{v:.4g}" for v in self.micrometres)
        return f"{sizes} micrometres (z, y, x)"


def as_voxel_size(given: Any) -> VoxelSize | None:
    """Give a caller's ``voxel_size`` argument as a record.

    Parameters
    ----------
    given : VoxelSize, sequence or None
        ``(z, y, x)`` in micrometres, ``None`` for what is not known; a record as it is.

    Raises
    ------
    ArgumentError
        If it is anything else.
    """
    if given is None or isinstance(given, VoxelSize):
        return given
    found = from_attribute(given, "given")
    if found is None:
        raise ArgumentError(
            f"voxel_size must be three sizes (z, y, x) in micrometres, each above 0, or None for "
            f"one that is not known, got {given!r}"
        )
    return found


def from_attribute(value: Any, source: str) -> VoxelSize | None:
    """Give three stored numbers as a record, ``None`` where they are no sizes."""
    if isinstance(value, (str, bytes)):
        return None
    try:
        given = list(value)
        sizes = [None if v is None else float(v) for v in given]
    except (TypeError, ValueError):
        return None
    good = len(sizes) == 3 and not any(isinstance(v, bool) for v in given)
    known = [v for v in sizes if v is not None]
    if not good or not known or not all(math.isfinite(v) and v > 0 for v in known):
        return None
    return VoxelSize(sizes[0], sizes[1], sizes[2], source)


def merge_sizes(stated: Iterable[VoxelSize]) -> VoxelSize | None:
    """Give one record from several statements, the first of which counts most.

    An axis that the first leaves open is taken from the next that states it.

    Warns
    -----
    UserWarning
        If two statements differ by more than 1 % along an axis; both are named.
    """
    chosen: list[VoxelSize] = []
    sizes: dict[str, tuple[float, VoxelSize]] = {}
    for statement in stated:
        for axis in "zyx":
            value: float | None = getattr(statement, axis)
            if value is None:
                continue
            if axis not in sizes:
                sizes[axis] = value, statement
                if statement not in chosen:
                    chosen.append(statement)
                continue
            first, winner = sizes[axis]
            if abs(value - first) > TOLERANCE * first:
                warn(
                    f"voxel sizes differ along {axis}: {first:.4g} micrometres by {winner.source}, "
                    f"{value:.4g} by {statement.source}. The first is used; "
                    + Option("voxel_size", "")
                    + " says "
                    "which is right."
                )
                break
    if not sizes:
        return None
    z, y, x = (sizes[axis][0] if axis in sizes else None for axis in "zyx")
    return VoxelSize(z, y, x, "; ".join(s.source for s in chosen))


#: A size as it is given: one, or its numbers ``(z, y, x)`` in micrometres.
VoxelSizeLike: TypeAlias = VoxelSize | Sequence[float | None] | np.ndarray[Any, Any] | None
