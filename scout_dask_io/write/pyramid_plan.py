"""Which levels of a pyramid are made together: passes, each one plan of a write. Pure arithmetic.

A *pass* reads one level, or the source, and writes a level from it, and from the
same pixels as many levels below that as its units allow. A unit must hold whole
chunks of each of them, so that every chunk has one writer.

The plan of an OME-Zarr image: its levels, and the passes that write them. No files are made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import dask.array as da
import numpy as np

from scout_dask_io.core.downsample import METHODS, method_for
from scout_dask_io.core.formatting import format_shape, html_table
from scout_dask_io.core.grid import (
    Blocks,
    Shape,
    chunk_counts,
    uniform_blocks,
    whole_chunks,
    window_of,
)
from scout_dask_io.core.ome_metadata import VERSIONS
from scout_dask_io.core.plan import (
    UNIT_NBYTES,
    WritePlan,
    blocks_fit_chunks,
    copies_of,
    grow_unit,
    plan_computed,
    plan_source,
    room_of,
    unit_target,
)
from scout_dask_io.core.pyramid import Level, check_factors, plan_levels
from scout_dask_io.core.voxel_size import VoxelSizeLike
from scout_dask_io.errors import ArgumentError, MemoryLimitError
from scout_dask_io.read.axes import image_axes_for
from scout_dask_io.read.data_array import from_xarray, is_data_array
from scout_dask_io.read.labels import labels_for
from scout_dask_io.read.voxel_size import size_for
from scout_dask_io.run.lazy import Pixels
from scout_dask_io.store.codecs import LevelCodecs
from scout_dask_io.write.arguments import compressor_of, plan_write
from scout_dask_io.write.inputs import readable
from scout_dask_io.write.options import Limits, Storage, usual_codecs

# A level that is read again costs 3 to 6 % of the CPU of level 0, and reading up to a quarter
# of its size. Units of a few seconds do for that where they are many: none waits long at the end.
LARGE_UNIT_NBYTES = 4 * UNIT_NBYTES
MANY_UNITS = 64


def blocks_below(blocks: Blocks, factors: Shape) -> Blocks:
    """Give the blocks of the level below, each of what a block here becomes.

    Every border between blocks must be a multiple of the factor.

    Examples
    --------
    >>> blocks_below(((64, 64, 5), (7,)), (2, 1))
    ((32, 32, 3), (7,))
    """
    return tuple(tuple(-(-n // f) for n in axis) for axis, f in zip(blocks, factors, strict=True))


def fuse_levels(
    plan: WritePlan, levels: Sequence[Level], blocks: Blocks | None = None
) -> tuple[WritePlan, int]:
    """Give a plan whose units make lower levels too, and how many of these.

    As many as go without units above 256 MiB, or above 1 GiB where there are many,
    and none that leave workers idle; always one where it fits. The memory of their
    chunks in the making counts.

    Parameters
    ----------
    plan : WritePlan
        Of the first level.
    levels : sequence of Level
        The first level, and those below it.
    blocks : tuple of tuple of int, optional
        Of the dask array that is computed, if one is.
    """
    candidates = list(_candidates(levels, plan.stored))
    # Computed blocks that are whole units need not wait for one another.
    fitting = [c for c in candidates if blocks_fit_chunks(plan.units, c[1])]
    for n, least in reversed(fitting if plan.route == "blocks" and fitting else candidates):
        found = _with_units(plan, least, blocks)
        if found is None:
            continue
        if n > 1 and not _are_shared_out(found):
            continue
        held = _held_nbytes(found, levels[: n + 1])
        workers = found.nb_workers
        if found.projected_mem + workers * held <= plan.max_mem:
            return replace(found, projected_mem=found.projected_mem + workers * held), n
    return plan, 0


def _are_shared_out(plan: WritePlan) -> bool:
    """Tell whether no worker waits long for the others' last units: large ones must be many."""
    nbytes = math.prod(plan.unit) * plan.itemsize
    if nbytes > UNIT_NBYTES:
        return nbytes <= LARGE_UNIT_NBYTES and plan.n_units >= MANY_UNITS * plan.n_parallel
    return plan.n_units >= 2 * plan.n_parallel or plan.n_units == plan.n_parallel > 1


def _candidates(levels: Sequence[Level], extent: Shape) -> Iterator[tuple[int, Shape]]:
    """Yield how many lower levels may be made at once, and the least unit that takes."""
    first = levels[0]
    for n, level in enumerate(levels[1:], start=1):
        # Chunks are made smaller one by one, so no window may lie in two of them.
        cut = any(
            c % f and m > c
            for f, c, m in zip(level.factors, extent, levels[n - 1].shape, strict=True)
        )
        if cut:
            return
        times = (t // f for t, f in zip(level.total, first.total, strict=True))
        yield n, tuple(c * t for c, t in zip(extent, times, strict=True))


def _with_units(plan: WritePlan, least: Shape, blocks: Blocks | None) -> WritePlan | None:
    """Give the plan with units that are multiples of an extent, ``None`` if that cannot be."""
    shape, itemsize = plan.shape, plan.itemsize
    if blocks_fit_chunks(plan.units, least):
        return plan
    if plan.route == "source":
        # Whole bands too, so that no part of the source is read twice for it.
        step = tuple(
            n if m >= n or b >= n else math.lcm(b, m)
            for n, m, b in zip(shape, least, plan.band, strict=True)
        )
        unit = grow_unit(shape, step, itemsize, unit_target(plan.nbytes, plan.n_parallel))
        return replace(plan, units=uniform_blocks(shape, unit))
    if blocks is None:
        return None
    try:
        found = plan_computed(
            blocks,
            np.dtype(plan.dtype),
            least,
            room_of(plan),
            n_copies=copies_of(sharded=plan.shards is not None),
        )
    except MemoryLimitError:
        return None
    if found.route == "scratch" and plan.route != "scratch":
        return None
    return _stored_alike(found, plan)


def _stored_alike(found: WritePlan, plan: WritePlan) -> WritePlan:
    """Give a plan in stored chunks with what they are made of, and with all that runs it."""
    return replace(
        found,
        chunks=plan.chunks,
        shards=plan.shards,
        zarr_format=plan.zarr_format,
        n_threads=plan.n_threads,
    )


def _held_nbytes(plan: WritePlan, levels: Sequence[Level]) -> int:
    """Give the bytes of lower levels that one unit holds: of the first of them, what a window does.

    The first lower level is written as soon as bands have made whole chunks of it.
    """
    first, extent = levels[0], plan.stored
    total = 0
    for level in levels[1:]:
        times = tuple(t // f for t, f in zip(level.total, first.total, strict=True))
        held = plan.unit
        if level is levels[1]:
            held = tuple(map(min, plan.unit, window_of(plan.band, times, extent)))
        total += math.prod(whole_chunks(chunk_counts(held, times), extent))
    return total * plan.itemsize


# Units of further passes, whose levels are small: one by one, a few chunks cost a task as much.
LEAST_NBYTES = 2 * 2**20


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
        extent = self.write.stored
        return sum(math.prod(chunk_counts(level.shape, extent)) for level in self.levels)

    def __repr__(self) -> str:
        shapes = ", ".join(format_shape(level.shape) for level in self.levels)
        return f"<ImagePlan: {self.axes}, levels {shapes} by {self.method}, {self.write!r}>"

    def _repr_html_(self) -> str:
        """Give the plan as a table, for notebooks."""
        levels = ", ".join(format_shape(level.shape) for level in self.levels)
        first, *rest = self.write.rows()
        rows = [first, ("levels", f"{len(self.levels)} by {self.method}: {levels}"), *rest]
        return html_table(f"Plan of an image, {self.axes}", rows)

    def units_of(self, level: int) -> Blocks:
        """Give the blocks of a level that the units of its pass make."""
        first, plan = max(p for p in self.passes if p[0] <= level)
        units = plan.units
        for below in self.levels[first + 1 : level + 1]:
            units = blocks_below(units, below.factors)
        return units


def plan_ome_zarr(
    data: Pixels,
    chunks: int | Sequence[int] | None = None,
    *,
    levels: int | Sequence[Sequence[int]] | None = None,
    factors: Sequence[Sequence[int]] | None = None,
    axes: str | None = None,
    labels: bool | None = None,
    method: str | None = None,
    channels: Sequence[str] | None = None,
    voxel_size: VoxelSizeLike = None,
    version: str = "0.4",
    shards: int | Sequence[int] | None = None,
    codec: LevelCodecs = "default",
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
    if is_data_array(data):
        data, stated = from_xarray(data)
        axes = (stated.axes or None) if axes is None else axes
        voxel_size = stated.voxel_size if voxel_size is None else voxel_size
    labels, _ = labels_for(data, labels)
    pixels = readable(data)
    storage = Storage(chunks, codec, VERSIONS[version], shards)
    plan = plan_write(pixels, storage, Limits(max_mem, nb_workers))
    for each in usual_codecs(codec):
        compressor_of(plan, each)
    letters = image_axes_for(
        pixels.source, plan.shape, axes, channels, sized=voxel_size is not None
    )
    found = plan_levels(plan.shape, letters, size_for(data, voxel_size), levels, factors)
    method = method or method_for(np.dtype(plan.dtype), labels)
    return plan_passes(plan, pixels.array, letters, found, method)


def plan_passes(
    plan: WritePlan, array: da.Array | None, axes: str, levels: tuple[Level, ...], method: str
) -> ImagePlan:
    """Give how levels are written, of which ``plan`` is the full one.

    ``array`` is what is computed, where nothing is read by regions.

    Raises
    ------
    ArgumentError
        If factors do not fit the chunks.
    """
    check_factors(levels, plan.chunks, axes)
    passes: list[tuple[int, WritePlan]] = []
    first = 0
    while first < len(levels):
        begun = plan_pass(plan, levels, first) if first else plan
        # The passes after the first read a level that is stored.
        blocks = array.chunks if array is not None and not first else None
        begun, n = fuse_levels(begun, levels[first:], blocks)
        passes.append((first, begun))
        first += 1 + n
    return ImagePlan(axes, levels, passes[0][1], tuple(passes), method)


def plan_pass(plan: WritePlan, levels: Sequence[Level], first: int) -> WritePlan:
    """Give the plan of a pass that reads the level above its first, chunk by chunk."""
    level, extent = levels[first], plan.stored
    read = tuple(-(-min(c, n) // f) for c, n, f in
                 zip(extent, levels[first - 1].shape, level.factors, strict=True))  # fmt: skip
    found = plan_source(
        level.shape,
        np.dtype(plan.dtype),
        extent,
        tuple(max(n, 1) for n in read),
        room_of(plan),
        n_copies=copies_of(sharded=plan.shards is not None),
    )
    if math.prod(found.unit) * plan.itemsize < LEAST_NBYTES:
        unit = grow_unit(level.shape, found.band, plan.itemsize, LEAST_NBYTES)
        found = replace(found, units=uniform_blocks(level.shape, unit))
    return _stored_alike(found, plan)
