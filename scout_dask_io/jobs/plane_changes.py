"""Which planes are others than those that were converted: by their files, or by their pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Shape, iter_regions
from scout_dask_io.core.source import Source
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.jobs.convert import ConvertPlan
from scout_dask_io.run.lazy import source_of
from scout_dask_io.store.source import open_level
from scout_dask_io.write.planes import Planes

# Of what is compared, as much at a time.
_BAND_NBYTES = 2**26


def differing(before: Planes | None, now: Planes) -> np.ndarray:
    """Tell of each plane whether another one, or none, was at its place."""
    mask = np.ones(now.lead, bool)
    if before is None or len(before.lead) != len(now.lead) or before.axes != now.axes:
        return mask
    both = tuple(slice(0, min(a, b)) for a, b in zip(before.lead, now.lead, strict=True))
    mask[both] = before.keys()[both] != now.keys()[both]
    for axis, (old, new) in enumerate(zip(before.lead, now.lead, strict=True)):
        if old > new:
            # What is past the new end is in its last chunks, and in rows halved from it.
            mask[(slice(None),) * axis + (slice(new - 1, new),)] = True
    return mask


def compared(plan: ConvertPlan, now: Planes, place: LocalLocation) -> np.ndarray:
    """Tell of each plane whether its pixels are others than those that stand at its place."""
    source: Any = source_of(plan.source_array())
    stands = open_level(place)
    mask = np.ones(now.lead, bool)
    same = len(stands.shape) == len(source.shape) and stands.dtype == source.dtype
    pages = [k for k in range(len(source.shape)) if k not in now.axes]
    if not same or any(stands.shape[k] != source.shape[k] for k in pages):
        return mask
    both = tuple(map(min, source.shape, stands.shape))
    mask[tuple(slice(0, both[axis]) for axis in now.axes)] = False
    for region in iter_regions(both, _band(stands.read_shape, source, now)):
        differs = _differ(source.read(region), stands.read(region))
        order = tuple(sorted(now.axes).index(axis) for axis in now.axes)
        planes = np.asarray(differs.any(axis=tuple(pages))).transpose(order)
        mask[tuple(region[axis] for axis in now.axes)] |= planes
    for k, axis in enumerate(now.axes):
        if stands.shape[axis] > source.shape[axis]:
            mask[(slice(None),) * k + (slice(-1, None),)] = True
    return mask


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    kind = f"V{a.dtype.itemsize}"
    return np.asarray(np.ascontiguousarray(a).view(kind) != np.ascontiguousarray(b).view(kind))


def _band(chunk: Shape, source: Source, now: Planes) -> Shape:
    """Give what is compared at a time: rows of whole chunks, which are decoded once."""
    band = list(chunk)
    for axis in reversed(range(len(band))):
        if axis not in now.axes:
            nbytes = math.prod(band) * source.dtype.itemsize
            steps = -(-source.shape[axis] // band[axis])
            band[axis] *= max(1, min(_BAND_NBYTES // max(nbytes, 1), steps))
    return tuple(band)


def changes_of(before: Planes | None, now: Planes, mask: np.ndarray) -> dict[str, Any]:
    """Give the names of files whose planes changed, came, went and moved."""
    named = [now.names[k] for k in np.unique(now.files[mask]) if k >= 0]
    if before is None:
        return {"changed": tuple(named), "came": (), "went": (), "moved": ()}
    old, new = before.by_name(), now.by_name()
    was, has = before.pages_by_name(), now.pages_by_name()
    there = [n for n in named if n in old]
    moved = {n for n in there if old[n] == new[n] and was[n] != has[n]}
    return {
        "changed": tuple(n for n in there if n not in moved),
        "came": tuple(n for n in named if n not in old),
        "went": tuple(n for n in before.names if n not in new),
        "moved": tuple(n for n in there if n in moved),
    }
