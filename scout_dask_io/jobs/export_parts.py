"""How an export reads: in parts of whole rows, each chunk once, within the memory allowed. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from dask.system import CPU_COUNT

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import Region, Shape, cuts, full_region
from scout_dask_io.core.source import ViewSource
from scout_dask_io.errors import MemoryLimitError
from scout_dask_io.tiff.bands import waiting_nbytes
from scout_dask_io.tiff.write_layout import TiffLayout

__all__ = ["Parts", "plan_parts"]

# What one thread reads at a time, where max_mem allows and the chunks ask for
# no more: long against the overhead, short against the memory.
PART_NBYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Parts:
    """Regions of whole rows that tile a view, and how many are in memory.

    Attributes
    ----------
    shape : tuple of int
        Of the view.
    slab : tuple of int
        Extent of a part along the axes before a page's own.
    rows : int
        Its rows.
    phase : tuple of int
        How far into a slab and into its rows the view begins, per axis.
    nb_workers, ahead : int
        Threads that read, and parts that are read or wait at once.
    encode_ahead : int
        Bands that are encoded or wait at once.
    read_amplification : float
        How often a chunk is decoded, on average.
    max_mem, projected_mem : int
        What may be used, and what all that is in memory at once takes, in bytes.
    """

    shape: Shape
    slab: Shape
    rows: int
    phase: Shape
    nb_workers: int
    ahead: int
    encode_ahead: int
    read_amplification: float
    max_mem: int
    projected_mem: int

    @property
    def _cuts(self) -> list[list[int]]:
        steps = (*self.slab, self.rows)
        extents = self.shape[: len(steps)]
        return [cuts(n, s, p) for n, s, p in zip(extents, steps, self.phase, strict=True)]

    def __len__(self) -> int:
        return math.prod(len(c) - 1 for c in self._cuts)

    def __iter__(self) -> Iterator[Region]:
        """Yield the parts, slab after slab, the top rows first."""
        whole = full_region(self.shape)[len(self.slab) + 1 :]
        for spans in product(*(pairwise(c) for c in self._cuts)):
            yield (*(slice(a, b) for a, b in spans), *whole)


def plan_parts(view: ViewSource, layout: TiffLayout, nb_workers: int, max_mem: int) -> Parts:
    """Choose the parts, the least that decode no chunk twice, and how many are in memory.

    Where ``max_mem`` does not hold two of them, one in hand and one that is
    read, slabs are made thinner, and chunks are decoded more than once.

    Raises
    ------
    MemoryLimitError
        If not even the rows of one plane that a chunk has fit.
    """
    n_lead = len(layout.lead)
    # Not clipped to the view: a chunk is decoded whole, and parts end where chunks do.
    chunk = view.read_shape
    step, height = chunk[n_lead], layout.height
    n_steps = -(-(height + view.phase[n_lead]) // step)
    per_row = math.prod(view.shape[n_lead + 1 :])
    converted = layout.dtype.itemsize if layout.dtype != view.dtype else 0
    itemsize = view.dtype.itemsize + converted
    band_nbytes = layout.rows_per_write * per_row * layout.dtype.itemsize
    # Bands in the encoders hold as much again once encoded; no more of them than a
    # quarter of the memory, whatever the threads.
    encode_ahead = int(np.clip(max_mem // 4 // max(2 * band_nbytes, 1), 1, 2 * CPU_COUNT))
    slab = list(chunk[:n_lead])
    while True:
        n_pages = math.prod(min(s, n) for s, n in zip(slab, view.shape, strict=False))
        row_nbytes = n_pages * per_row * itemsize
        for n_steps_each in (min(n_steps, max(1, PART_NBYTES // (row_nbytes * step))), 1):
            rows = step * n_steps_each
            aligned = rows % layout.rows_per_write == 0 or rows >= height
            fixed = waiting_nbytes(layout, n_pages, aligned=aligned and not view.phase[n_lead])
            fixed += 0 if layout.is_run else encode_ahead * 2 * band_nbytes
            # A part, and the chunk in hand before and after decoding.
            part = row_nbytes * min(rows, height) + 2 * math.prod(chunk) * view.dtype.itemsize
            at_once = (max_mem - fixed) // part
            if at_once >= 2:
                workers = min(nb_workers, at_once - 1)
                ahead = min(workers + 1, at_once - 1)
                return Parts(
                    shape=view.shape,
                    slab=tuple(slab),
                    rows=rows,
                    phase=tuple(p % s for p, s in zip(view.phase, (*slab, rows), strict=False)),
                    nb_workers=workers,
                    ahead=ahead,
                    encode_ahead=encode_ahead,
                    read_amplification=_amplification(view, slab),
                    max_mem=max_mem,
                    projected_mem=fixed + (ahead + 1) * part,  # those ahead, and one in hand
                )
        if n_pages == 1:
            raise MemoryLimitError(
                f"max_mem={format_nbytes(max_mem)} cannot hold {min(step, height)} rows of one "
                f"plane of shape {view.shape[n_lead:]} {view.dtype} and a chunk of {chunk}, both "
                "of them twice: "
                f"about {format_nbytes(2 * part + fixed)} are needed. Raise max_mem."
            )
        longest = max(range(len(slab)), key=lambda axis: slab[axis])
        slab[longest] = -(-slab[longest] // 2)


def _amplification(view: ViewSource, slab: list[int]) -> float:
    """Give how many chunks all slabs touch, against how many there are."""
    times = 1.0
    for n, s, c, phase in zip(view.shape, slab, view.read_shape, view.phase, strict=False):
        n_touched = sum(
            (b + phase - 1) // c - (a + phase) // c + 1 for a, b in pairwise(cuts(n, s, phase))
        )
        times *= n_touched / (len(cuts(n, c, phase)) - 1)
    return times
