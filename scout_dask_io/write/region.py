"""What a region of an array that stands must be, so that it can be written chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index as as_index
from typing import Any

from scout_dask_io.core.grid import Region, Shape, is_aligned, region_shape
from scout_dask_io.errors import ArgumentError, ChunkError, ShapeMismatchError
from scout_dask_io.files.location import Location
from scout_dask_io.store.chunk_format import ChunkFormat, format_at
from scout_dask_io.store.nodes import open_array


def stored_format(path: Location) -> ChunkFormat:
    """Give the format of the array that a region is written into.

    Raises
    ------
    PathNotFoundError
        If there is no array.
    LayoutError
        If it cannot be told how its chunks lie.
    ArgumentError
        If it has filters, an unknown codec, or elements that are no numbers.
    """
    fmt = format_at(open_array(path))
    if fmt is None:
        raise ArgumentError(
            f"{path} is not a plain array of numbers (it has filters or an unknown codec): "
            "regions of it are not written. Open it with zarr and write whole chunks of it."
        )
    return fmt


def check_region(region: Any, fmt: ChunkFormat, shape: Shape, dtype: Any) -> Region:
    """Give a region as slices of the array, checked against its chunks and the data.

    Raises
    ------
    ArgumentError
        If it is no tuple of slices of step 1, or the data have another dtype.
    ChunkError
        If it does not start and end on the edges of chunks.
    ShapeMismatchError
        If the data have another shape.
    """
    given = tuple(region) if isinstance(region, (tuple, list)) else (region,)
    if len(given) > len(fmt.shape) or not all(isinstance(s, slice) for s in given):
        raise ArgumentError(
            f"region must be up to {len(fmt.shape)} slices, one an axis, got {region!r}"
        )
    given += (slice(None),) * (len(fmt.shape) - len(given))
    found = []
    for s, n in zip(given, fmt.shape, strict=True):
        try:
            start = 0 if s.start is None else as_index(s.start)
            stop = n if s.stop is None else as_index(s.stop)
        except TypeError:
            raise ArgumentError(f"region must be made of whole numbers, got {s}") from None
        if s.step not in (None, 1) or not 0 <= start < stop <= n:
            raise ArgumentError(
                f"region has {s} on an axis of {n} elements, expected "
                f"0 <= start < stop <= {n} and no step"
            )
        found.append(slice(start, stop))
    where = tuple(found)
    if not is_aligned(where, fmt.shape, fmt.chunks):
        raise ChunkError(
            f"region {_text(where)} does not start and end on the edges of chunks of "
            f"{fmt.chunks} in an array of {fmt.shape}: two writers of one chunk would undo each "
            "other. Extend it to whole chunks; nothing was written."
        )
    if shape != region_shape(where):
        raise ShapeMismatchError(
            f"the data have shape {shape}, the region {_text(where)} has {region_shape(where)}"
        )
    if dtype != fmt.dtype.newbyteorder("="):
        raise ArgumentError(f"the data are {dtype}, the array holds {fmt.dtype}: convert them")
    return where


def _text(region: Sequence[slice]) -> str:
    return "[" + ", ".join(f"{s.start}:{s.stop}" for s in region) + "]"
