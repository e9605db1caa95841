"""The levels of a pyramid: which axes are halved at each, and how far. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scout_dask_io.core.grid import Shape, chunk_counts
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
        1 or 2 per axis: how many elements of the level above become one.
    total : tuple of int
        How many elements of level 0 are one, per axis.
    """

    shape: Shape
    factors: Shape
    total: Shape


def plan_levels(
    shape: Shape, axes: str, voxel_size: VoxelSize | None = None, n_levels: int | None = None
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
    n_levels : int, optional
        With level 0. By default down to a level that is at most 256 wide, high and deep.

    Raises
    ------
    ArgumentError
        If ``n_levels`` is not a whole number from 1 up.

    Examples
    --------
    >>> size = VoxelSize(4.0, 1.8, 1.8, "given")
    >>> [level.shape for level in plan_levels((300, 2048, 1024), "zyx", size)]
    [(300, 2048, 1024), (300, 1024, 512), (150, 512, 256), (75, 256, 128)]
    """
    if n_levels is not None and (
        isinstance(n_levels, bool) or not isinstance(n_levels, int) or n_levels < 1
    ):
        raise ArgumentError(f"levels must be a whole number from 1 up, got {n_levels!r}")
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
