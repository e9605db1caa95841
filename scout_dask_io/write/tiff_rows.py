"""An array as the rows of TIFF pages: of numpy views, of dask a window of blocks at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
from dask.array.core import cached_cumsum

from scout_dask_io.core.grid import Region, Shape, full_region, intersect, region_shape, relative_to
from scout_dask_io.core.source import Piece
from scout_dask_io.errors import ShapeMismatchError
from scout_dask_io.run.block_groups import BlockGroups
from scout_dask_io.tiff.bands import Rows
from scout_dask_io.tiff.write_layout import TiffLayout

__all__ = ["common_step", "computed_rows", "rows_of"]

# Blocks that are computed at one time: at least as many as complete some rows
# of their planes, and beyond that about this much, to keep all threads busy.
WINDOW_NBYTES = 64 * 2**20


def common_step(extents: Iterable[int]) -> int:
    """Give the greatest number that all but the last of some extents are multiples of.

    It divides every border between them; one extent alone gives itself.

    Examples
    --------
    >>> common_step((64, 64, 30)), common_step((30,))
    (64, 30)
    """
    *inner, last = extents
    return int(np.gcd.reduce(inner)) if inner else last


def _cut_points(borders: Iterable[int], height: int, row_step: int) -> list[int]:
    """Give the borders between blocks at which a page may be cut, with 0 and ``height``.

    Examples
    --------
    >>> _cut_points([64, 96, 128, 150], 150, 64)
    [0, 64, 128, 150]
    """
    inner = {b for b in borders if b % row_step == 0 and 0 < b < height}
    return [0, *sorted(inner), height]


def rows_of(pieces: list[Piece], shape: Shape, layout: TiffLayout) -> Iterator[Rows]:
    """Yield rows for one strip at a time, page by page, from pieces that tile one region.

    The region is made of whole rows and begins and ends where the layout may
    be cut. Rows that lie in one piece are views of it.
    """
    n_lead = len(layout.lead)
    start = [min(where[axis].start for where, _ in pieces) for axis in range(n_lead + 1)]
    stop = [max(where[axis].stop for where, _ in pieces) for axis in range(n_lead + 1)]
    whole = full_region(shape)[n_lead + 1 :]
    first, last, step = start[n_lead], stop[n_lead], layout.rows_per_write
    bands = [(r, min(r + step, last)) for r in range(first, last, step)]
    touching = [
        [p for p in pieces if p[0][n_lead].start < r1 and r0 < p[0][n_lead].stop]
        for r0, r1 in bands
    ]
    for index in product(*(range(a, b) for a, b in zip(start[:-1], stop[:-1], strict=True))):
        page = int(np.ravel_multi_index(index, layout.lead)) if index else 0
        point = tuple(slice(i, i + 1) for i in index)
        for (r0, r1), near in zip(bands, touching, strict=True):
            values = _gather(near, (*point, slice(r0, r1), *whole), layout.dtype)
            yield page, r0, values.reshape(values.shape[n_lead:])


def _gather(pieces: list[Piece], region: Region, dtype: np.dtype[Any]) -> np.ndarray:
    if len(pieces) == 1:
        where, values = pieces[0]
        return values[relative_to(region, where)]
    out = np.empty(region_shape(region), dtype)
    for where, values in pieces:
        shared = intersect(where, region)
        if shared is not None:
            out[relative_to(shared, region)] = values[relative_to(shared, where)]
    return out


def computed_rows(array: da.Array, layout: TiffLayout) -> Iterator[Rows]:
    """Compute an array group by group, and yield its rows."""
    groups = _plan_groups(array, layout)
    keys = [[index for atom in group for index in atom] for group in groups]
    starts = [cached_cumsum(c, initial_zero=True) for c in array.chunks]
    # The groups of a slab may share what they are computed from (planes cut into cubes),
    # and those of the slabs before and after it too (overlaps).
    slabs = Counter(index[: len(layout.lead)] for group in keys for index in group[:1])
    computed = BlockGroups(array, keys, near=max(slabs.values()) + 1)
    for number, group in enumerate(groups):
        blocks = computed.compute(number)
        for atom in group:
            pieces = []
            for index in atom:
                where = tuple(slice(s[i], s[i + 1]) for s, i in zip(starts, index, strict=True))
                # Let go of each block when its rows are written, not at the end of the group.
                pieces.append((where, _checked(blocks.pop(index), where, array)))
            yield from rows_of(pieces, array.shape, layout)
            del pieces  # not to be held while the next group is computed


def _plan_groups(array: da.Array, layout: TiffLayout) -> list[list[list[Shape]]]:
    """Give groups of atoms of block indices; an atom completes some rows of its planes."""
    n_lead = len(layout.lead)
    borders = cached_cumsum(array.chunks[n_lead], initial_zero=True)
    cuts = {borders.index(c) for c in _cut_points(borders, layout.height, layout.row_step)}
    counts = array.numblocks
    groups: list[list[list[Shape]]] = []
    room = 0
    for lead in product(*(range(n) for n in counts[:n_lead])):
        atom: list[Shape] = []
        nbytes = 0
        for k in range(counts[n_lead]):
            for rest in product(*(range(n) for n in counts[n_lead + 1 :])):
                index = (*lead, k, *rest)
                extents = (c[i] for c, i in zip(array.chunks, index, strict=True))
                nbytes += int(np.prod(list(extents), dtype=np.int64)) * layout.dtype.itemsize
                atom.append(index)
            if k + 1 in cuts:
                if nbytes > room:
                    groups.append([])
                    room = WINDOW_NBYTES
                groups[-1].append(atom)
                room -= nbytes
                atom, nbytes = [], 0
    return groups


def _checked(block: Any, where: Region, array: da.Array) -> np.ndarray:
    values = np.asarray(block)
    meant = array.dtype.newbyteorder("=")
    if values.shape != region_shape(where) or values.dtype.newbyteorder("=") != meant:
        raise ShapeMismatchError(
            f"the block of the array {array.name} at {where} computed to {values.shape} "
            f"{values.dtype}, and the array says {region_shape(where)} {array.dtype}. Give the "
            "function that makes it the right dtype= and chunks=."
        )
    return values
