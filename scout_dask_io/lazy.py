"""The bridge to dask: a source becomes a lazy array, and can be found again in it."""

from __future__ import annotations

from itertools import product
from operator import index as as_index
from typing import Any

import dask.array as da
import numpy as np
from dask._task_spec import DataNode, Task
from dask.array.core import cached_cumsum, getter, normalize_chunks
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

from scout_dask_io.errors import ChunkError
from scout_dask_io.grid import Blocks
from scout_dask_io.source import Source

__all__ = ["lazy_array", "source_of"]


class SourceLayer(MaterializedLayer):
    """A graph layer of reads, one task a block, that remembers its source."""

    def __init__(self, mapping: dict[Any, Any], source: Source) -> None:
        super().__init__(mapping)
        self.source = source


def lazy_array(source: Source, chunks: Any = None, *, name: str = "read") -> da.Array:
    """Give a lazy dask array over a source: one task a block, no root task, no I/O.

    Each task carries the part of the source that its block needs. Later slices
    are fused into the read by dask's optimisation, so a slice of a block reads
    no more than the slice. The array's name follows from the source's token.

    Parameters
    ----------
    source : Source
        What to read.
    chunks
        Blocks, in any form that dask takes; ``None`` is the source's own.

    Raises
    ------
    ChunkError
        If ``chunks`` does not fit the source's shape.
    """
    blocks = _blocks(source, chunks)
    full_name = f"{name}-{tokenize(source, blocks)}"
    starts = [cached_cumsum(c, initial_zero=True) for c in blocks]
    tasks: dict[Any, Any] = {}
    for ind in product(*(range(len(c)) for c in blocks)):
        region = tuple(slice(starts[axis][i], starts[axis][i + 1]) for axis, i in enumerate(ind))
        part, inside = source.narrow(region)
        key = (full_name, *ind)
        # dask's slice fusion walks Task arguments by their `key`, which a DataNode has.
        tasks[key] = Task(key, getter, DataNode(None, part), inside)
    graph = HighLevelGraph({full_name: SourceLayer(tasks, source)}, {full_name: set()})
    return da.Array(graph, full_name, blocks, meta=np.empty((0,) * source.ndim, source.dtype))


def _blocks(source: Source, chunks: Any) -> Blocks:
    """Give the extents of the blocks that ``chunks`` asks for."""
    ndim = source.ndim
    try:
        if isinstance(chunks, dict) and not all(k in range(-ndim, ndim) for k in chunks):
            raise ValueError(f"its keys are not axes from 0 to {ndim - 1}")
        blocks = normalize_chunks(
            source.default_chunks if chunks is None else chunks,
            shape=source.shape,
            dtype=source.dtype,
            previous_chunks=source.default_chunks,
        )
        # dask lets blocks below 0 and of unknown extent through.
        found = tuple(tuple(as_index(n) for n in axis) for axis in blocks)
        if any(n < 0 for axis in found for n in axis):
            raise ValueError("a block has an extent below 0")
    except (ValueError, TypeError, ZeroDivisionError) as err:
        raise ChunkError(
            f"chunks={chunks!r} does not fit an array of shape {source.shape}: {err}. "
            "Give an int, one entry per axis, 'auto', or None for the default blocks."
        ) from err
    return found


def source_of(array: da.Array) -> Source | None:
    """Give the source that a lazy array reads as it is, or ``None`` if it was computed on."""
    layer = getattr(array.dask, "layers", {}).get(array.name)
    return layer.source if isinstance(layer, SourceLayer) else None
