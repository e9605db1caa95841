"""The plan of an OME-Zarr image: its levels, and the passes that write them. No files are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scout_dask_io.core.downsample import METHODS, method_for
from scout_dask_io.core.grid import Blocks, chunk_counts, uniform_blocks
from scout_dask_io.core.ome_metadata import VERSIONS
from scout_dask_io.core.plan import WritePlan, grow_unit, plan_source
from scout_dask_io.core.pyramid import Level, axes_of, plan_levels
from scout_dask_io.errors import ArgumentError
from scout_dask_io.read.voxel_size import size_for
from scout_dask_io.store.codecs import LEVEL_CODECS, codecs_of_levels
from scout_dask_io.write.pyramid_plan import fuse_levels, halved_blocks, stored_extent
from scout_dask_io.write.write_arguments import compressor_of, plan_write, readable

# Units of further passes, whose levels are small: one by one, a few chunks cost a task as much.
LEAST_NBYTES = 2 * 2**20

__all__ = ["ImagePlan", "plan_ome_zarr", "plan_pass"]


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """How an image will be written.

    Attributes
    ----------
    axes : str
        A letter an axis.
    levels : tuple of Level
        The full resolution first.
    write : WritePlan
        Of level 0, with the levels that its units make too.
    passes : tuple
        Each the level that a pass begins with, and its plan; the first is ``write``.
    method : str
        How lower levels are made.
    """

    axes: str
    levels: tuple[Level, ...]
    write: WritePlan
    passes: tuple[tuple[int, WritePlan], ...]
    method: str

    @property
    def n_units(self) -> int:
        """Write units of all passes."""
        return sum(plan.n_units for _, plan in self.passes)

    @property
    def n_files(self) -> int:
        """Chunk files, or shards, of all levels at most."""
        extent = stored_extent(self.write)
        return sum(math.prod(chunk_counts(level.shape, extent)) for level in self.levels)

    def units_of(self, level: int) -> Blocks:
        """Give the blocks of a level that the units of its pass make."""
        first, plan = max(p for p in self.passes if p[0] <= level)
        units = plan.units
        for below in self.levels[first + 1 : level + 1]:
            units = halved_blocks(units, below.factors)
        return units


def plan_ome_zarr(
    data: Any,
    chunks: int | Sequence[int] = (64, 64, 64),
    *,
    levels: int | None = None,
    axes: str | None = None,
    labels: bool = False,
    method: str | None = None,
    channels: Sequence[str] | None = None,
    voxel_size: Any = None,
    version: str = "0.4",
    shards: int | Sequence[int] | None = None,
    codec: Any = LEVEL_CODECS,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
) -> ImagePlan:
    """Give the plan that :func:`write_ome_zarr` would follow, without writing anything.

    Parameters and errors are those of :func:`write_ome_zarr`.
    """
    if version not in VERSIONS:
        raise ArgumentError(f"version must be one of {', '.join(VERSIONS)}, got {version!r}")
    if method is not None and method not in METHODS:
        raise ArgumentError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    source, array = readable(data)
    plan = plan_write(source, array, chunks, max_mem, nb_workers, VERSIONS[version], shards)
    for each in codecs_of_levels(codec):
        compressor_of(plan, each)
    letters = axes_of(len(plan.shape), channels=channels is not None, axes=axes)
    found = plan_levels(plan.shape, letters, size_for(data, voxel_size), levels)
    passes: list[tuple[int, WritePlan]] = []
    first = 0
    while first < len(found):
        begun = plan_pass(plan, found, first) if first else plan
        # The passes after the first read a level that is stored.
        blocks = array.chunks if array is not None and not first else None
        begun, n = fuse_levels(begun, found[first:], blocks)
        passes.append((first, begun))
        first += 1 + n
    method = method or method_for(np.dtype(plan.dtype), labels)
    return ImagePlan(letters, found, passes[0][1], tuple(passes), method)


def plan_pass(plan: WritePlan, levels: Sequence[Level], first: int) -> WritePlan:
    """Give the plan of a pass that reads the level above its first, chunk by chunk."""
    level, extent = levels[first], stored_extent(plan)
    read = tuple(-(-min(c, n) // f) for c, n, f in
                 zip(extent, levels[first - 1].shape, level.factors, strict=True))  # fmt: skip
    found = plan_source(
        level.shape,
        plan.dtype,
        plan.itemsize,
        extent,
        tuple(max(n, 1) for n in read),
        nb_workers=plan.nb_workers,
        max_mem=plan.max_mem,
    )
    units = found.units
    if math.prod(found.unit) * plan.itemsize < LEAST_NBYTES:
        unit = grow_unit(level.shape, found.band, plan.itemsize, LEAST_NBYTES)
        units = uniform_blocks(level.shape, unit)
    return replace(
        found,
        units=units,
        chunks=plan.chunks,
        shards=plan.shards,
        zarr_format=plan.zarr_format,
    )
