"""The levels of a pyramid: which axes are halved at each, and how far. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scout_dask_io.core.formatting import format_shape
from scout_dask_io.core.grid import Shape, chunk_counts
from scout_dask_io.core.messages import Option
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.errors import ArgumentError

#: A level whose spatial extents are all at most this is the last: it fits on a screen.
SMALLEST = 256
# Voxels that differ by less than this factor count as isotropic: after halving,
# longer ones would be farther from it than before.
ISOTROPIC = math.sqrt(2)


@dataclass(frozen=True, slots=True)
class Level:
    """One level.

    Attributes
    ----------
    shape : tuple of int
        In elements.
    factors : tuple of int
        How many elements of the level above become one, per axis: 1 or 2 but where they are given.
    total : tuple of int
        How many elements of level 0 are one, per axis.
    """

    shape: Shape
    factors: Shape
    total: Shape


def plan_levels(
    shape: Shape,
    axes: str,
    voxel_size: VoxelSize | None = None,
    levels: int | Sequence[Sequence[int]] | None = None,
    factors: Sequence[Sequence[int]] | None = None,
) -> tuple[Level, ...]:
    """Give the levels of a pyramid, the first of which is the array itself.

    At each level the spatial axes are halved along which a voxel is shorter than
    1.41 times its shortest edge, so that y and x are halved alone until voxels
    are near isotropic; where a size is not known, a voxel counts as a cube. An
    extent of 1 stays, and so does an array without elements. Time and channels are kept.

    Parameters
    ----------
    shape : tuple of int
        Of level 0, in elements.
    axes : str
        A letter an axis.
    voxel_size : VoxelSize, optional
        Of level 0.
    levels : int or sequence of shapes, optional
        How many, with level 0, by default down to one that is at most 256 wide, high and deep. Or
        the shape of each below level 0, along the last axes, of which what is left over counts as
        one more.
    factors : sequence of sequences of int, optional
        For each level below level 0, how many elements of the level above become one, along the
        last axes.

    Raises
    ------
    ArgumentError
        If ``levels`` is neither, both are given, or a level cannot be as it is asked for.

    Examples
    --------
    >>> size = VoxelSize(4.0, 1.8, 1.8, "given")
    >>> [level.shape for level in plan_levels((300, 2048, 1024), "zyx", size)]
    [(300, 2048, 1024), (300, 1024, 512), (150, 512, 256), (75, 256, 128)]
    >>> [level.shape for level in plan_levels((300, 2048), "yx", factors=[(2, 2), (1, 4)])]
    [(300, 2048), (150, 1024), (150, 256)]
    """
    if factors is not None:
        if levels is not None:
            raise ArgumentError(
                Option("levels") + " and " + Option("factors") + " both say which levels there "
                "are: give one of the two"
            )
        return _by_factors(shape, axes, factors)
    if levels is not None and not isinstance(levels, int):
        return _by_shapes(shape, axes, levels)
    if levels is not None and (isinstance(levels, bool) or levels < 1):
        raise ArgumentError(
            f"levels must be a whole number from 1 up, or the shapes of levels, got {levels!r}"
        )
    return _usual(shape, axes, voxel_size, levels)


def _by_factors(shape: Shape, axes: str, factors: object) -> tuple[Level, ...]:
    ones = (1,) * len(shape)
    found = [Level(shape, ones, ones)]
    for number, own in enumerate(_tuples(factors, len(shape), "factors", "(1, 2, 2)"), 1):
        found.append(_below(found[-1], number, ones[len(own) :] + own, axes))
    return tuple(found)


def _by_shapes(shape: Shape, axes: str, shapes: object) -> tuple[Level, ...]:
    ones = (1,) * len(shape)
    found = [Level(shape, ones, ones)]
    for own in _tuples(shapes, len(shape), "levels", "(150, 1024, 1024)"):
        above = found[-1].shape
        wanted = above[: len(above) - len(own)] + own
        if wanted == shape and len(found) == 1:
            continue  # who lists all levels begins with the full one
        factors = tuple(-(-n // m) for n, m in zip(above, wanted, strict=True))
        nearest = chunk_counts(above, factors)
        if nearest != wanted:
            raise ArgumentError(
                f"level {len(found)} cannot be {format_shape(wanted)}: each element is made of a "
                f"whole number of those of the level above, which is {format_shape(above)}. The "
                f"next smaller one is {format_shape(nearest)}"
            )
        found.append(_below(found[-1], len(found), factors, axes))
    return tuple(found)


def _tuples(given: object, n_axes: int, name: str, example: str) -> Sequence[Shape]:
    """Give what is asked of each level as tuples of whole numbers, of at most so many axes."""
    try:
        found = [tuple(own) for own in given]  # type: ignore[attr-defined]
        wrong = any(
            isinstance(n, bool) or int(n) != n or n < 1 for own in found for n in own
        ) or not all(1 <= len(own) <= n_axes for own in found)
    except (TypeError, ValueError):
        wrong = True
    if wrong or isinstance(given, str):
        raise ArgumentError(
            f"{name} must be whole numbers from 1 up for each level, along the last axes, of which "
            f"there are {n_axes}, such as [{example}, …], got {given!r}"
        )
    return [tuple(map(int, own)) for own in found]


def _below(above: Level, number: int, factors: Shape, axes: str) -> Level:
    """Give the level that factors make of another.

    Raises
    ------
    ArgumentError
        If they go past an extent, or are of time or channels, or there are none above 1.
    """
    for axis, n, f in zip(axes, above.shape, factors, strict=True):
        if f > 1 and axis not in "zyx":
            raise ArgumentError(
                f"level {number} would be smaller by {f} along {axis!r}: time and channels are "
                "kept, give 1 there"
            )
        if f > max(n, 1):
            raise ArgumentError(
                f"level {number} would be smaller by {f} along {axis!r}, where the level above has "
                f"{n}: give at most that"
            )
    if max(factors) == 1:
        raise ArgumentError(
            f"level {number} would be as large as the level above, "
            f"{format_shape(above.shape)}: leave it out, or give a factor above 1"
        )
    total = tuple(t * f for t, f in zip(above.total, factors, strict=True))
    return Level(chunk_counts(above.shape, factors), factors, total)


def check_factors(levels: Sequence[Level], chunks: Shape, axes: str) -> None:
    """Refuse factors that leave elements of one in several chunks, but for pairs.

    What becomes an element is then read, and in memory, chunk by chunk.

    Raises
    ------
    ArgumentError
        If a factor above 2 does not divide the extent of chunks where there are several.
    """
    for number, level in enumerate(levels[1:], 1):
        above = levels[number - 1].shape
        for axis, n, c, f in zip(axes, above, chunks, level.factors, strict=True):
            if f > 2 and c % f and n > c:
                raise ArgumentError(
                    f"level {number} would be smaller by {f} along {axis!r}, which does not divide "
                    f"the {c} elements of a chunk: give a factor that does, or "
                    + Option("chunks")
                    + f" of a multiple of {f} there"
                )


def _usual(
    shape: Shape, axes: str, voxel_size: VoxelSize | None, n_levels: int | None
) -> tuple[Level, ...]:
    sizes = edges(axes, voxel_size)
    ones = (1,) * len(shape)
    levels = [Level(shape, ones, ones)]
    while n_levels is None or len(levels) < n_levels:
        above = levels[-1]
        if 0 in above.shape:
            break
        spatial = [k for k, a in enumerate(axes) if a in "zyx"]
        if n_levels is None and max(above.shape[k] for k in spatial) <= SMALLEST:
            break
        now = {k: sizes[k] * above.total[k] for k in spatial if above.shape[k] > 1}
        if not now:
            break
        shortest = min(now.values())
        factors = tuple(
            2 if k in now and now[k] < ISOTROPIC * shortest else 1 for k in range(len(shape))
        )
        total = tuple(t * f for t, f in zip(above.total, factors, strict=True))
        levels.append(Level(chunk_counts(above.shape, factors), factors, total))
    return tuple(levels)


def edges(axes: str, voxel_size: VoxelSize | None) -> tuple[float, ...]:
    """Give the extent of a voxel per axis; 1.0 where it is not known, and for other axes."""
    known = dict(zip("zyx", voxel_size.micrometres, strict=True)) if voxel_size else {}
    if any(known.get(a) is None for a in axes if a in "zyx"):
        return (1.0,) * len(axes)
    return tuple(float(known.get(a) or 1.0) for a in axes)
