"""What a numpy-like index asks for: the region to read, and what to take of it. No I/O."""

from __future__ import annotations

from operator import index as as_index
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Region, Shape
from scout_dask_io.errors import ArgumentError


def normalize_index(index: Any, shape: Shape) -> tuple[Region, tuple[Any, ...]]:
    """Split any numpy-like index into the region to read and what to take of it.

    ``array[index]`` equals ``take(array[region], rest)``. The region is the
    least one, per axis, that holds every element asked for.

    Parameters
    ----------
    index
        An int, slice, ``...``, list or integer array, or a tuple of them;
        lists select along their own axis, as dask's fused slices do.
    shape : tuple of int
        Shape of the array that is indexed.

    Returns
    -------
    region : tuple of slice
        Step 1, inside ``shape``.
    rest : tuple
        Per axis an int, a slice or an integer array, relative to ``region``.

    Raises
    ------
    IndexError
        If there are too many indices or one is out of bounds.
    """
    given = index if isinstance(index, tuple) else (index,)
    if any(i is Ellipsis for i in given):
        at = next(k for k, i in enumerate(given) if i is Ellipsis)
        fill = (slice(None),) * (len(shape) - len(given) + 1)
        given = given[:at] + fill + given[at + 1 :]
    if len(given) > len(shape):
        raise IndexError(f"too many indices: {len(given)} for an array of shape {shape}")
    given = given + (slice(None),) * (len(shape) - len(given))
    pairs = [_normalize_axis(i, n) for i, n in zip(given, shape, strict=True)]
    return tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)


def _normalize_axis(item: Any, n: int) -> tuple[slice, Any]:
    if isinstance(item, slice):
        picked = range(*item.indices(n))
        if not picked:
            return slice(0, 0), slice(None)
        low, high = min(picked[0], picked[-1]), max(picked[0], picked[-1]) + 1
        return slice(low, high), slice(None, None, picked.step)
    if isinstance(item, (list, np.ndarray)):
        picks = np.asarray(item)
        if picks.dtype == bool:
            if picks.shape != (n,):
                raise IndexError(f"boolean index of shape {picks.shape} on an axis of length {n}")
            picks = np.flatnonzero(picks)
        if picks.ndim != 1 or (picks.dtype.kind not in "iu" and picks.size):
            raise IndexError(f"an index array must be a list of whole numbers, got {item!r}")
        # Small integers could not hold n: uint8 picks on an axis of 300.
        picks = picks.astype(np.intp)
        picks = np.where(picks < 0, picks + n, picks)
        if picks.size == 0:
            return slice(0, 0), picks
        if picks.min() < 0 or picks.max() >= n:
            raise IndexError(f"index {item!r} is out of bounds for an axis of length {n}")
        low = int(picks.min())
        return slice(low, int(picks.max()) + 1), picks - low
    try:
        i = as_index(item)
    except TypeError:
        raise ArgumentError(
            f"an index must be made of ints, slices and lists, got {item!r}"
        ) from None
    if not -n <= i < n:
        raise IndexError(f"index {i} is out of bounds for an axis of length {n}")
    i %= n
    return slice(i, i + 1), 0


def take(array: np.ndarray, rest: tuple[Any, ...]) -> np.ndarray:
    """Apply the second half of :func:`normalize_index`, axis by axis."""
    # Lists first and from the last axis on, so that axes keep their numbers
    # and a list never meets an int (numpy would then move the list's axis).
    for axis in reversed(range(len(rest))):
        item = rest[axis]
        if isinstance(item, np.ndarray):
            array = np.take(array, item, axis=axis)
    return array[tuple(slice(None) if isinstance(r, np.ndarray) else r for r in rest)]


def takes_all(item: Any) -> bool:
    """Tell whether one entry of ``rest`` takes all of the region along its axis, in any order."""
    return isinstance(item, int) or (isinstance(item, slice) and item.step in (None, 1, -1))
