"""The bridge to dask: a source becomes a lazy array, and can be found again in it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Set
from itertools import accumulate, product
from operator import index as as_index
from typing import Any, Protocol, TypeAlias

import dask.array as da
import numpy as np
from dask.array.core import normalize_chunks
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph, Layer, MaterializedLayer

from scout_dask_io.core.fork import guard_forks
from scout_dask_io.core.grid import Blocks, full_region
from scout_dask_io.core.source import Source, ViewSource
from scout_dask_io.errors import ChunkError, LayoutError
from scout_dask_io.run._dask import DataNode, Task, getter


class Labelled(Protocol):
    """An ``xarray.DataArray``, by what is asked of one."""

    @property
    def dims(self) -> tuple[Hashable, ...]:
        """Names of the dimensions."""

    @property
    def coords(self) -> Any:
        """Where elements lie along them."""

    @property
    def attrs(self) -> Any:
        """What else is stated."""


#: What a writer takes: lazy or in memory, or what a lazy array of this library is read from.
Pixels: TypeAlias = da.Array | np.ndarray[Any, Any] | Labelled | Source


class SourceLayer(Layer):
    """A graph layer of reads, one task a block, made from a source when they are asked for.

    A volume of 100,000 planes is built in a millisecond and pickles as its
    source; a writer that reads the source by regions of its own never makes
    the tasks at all.
    """

    has_legacy_tasks = False

    def __init__(self, name: str, source: Source, blocks: Blocks) -> None:
        super().__init__()
        self.name = name
        self.source = source
        self.blocks = blocks
        self._edges = [list(accumulate(axis, initial=0)) for axis in blocks]

    def __getitem__(self, key: Any) -> Task:
        if key not in self:
            raise KeyError(key)
        region = tuple(slice(e[i], e[i + 1]) for e, i in zip(self._edges, key[1:], strict=True))
        part, inside = self.source.narrow(region)
        # dask's slice fusion walks Task arguments by their `key`, which a DataNode has.
        return Task(key, getter, DataNode(None, part), inside)

    def __contains__(self, key: Any) -> bool:
        return (
            isinstance(key, tuple)
            and len(key) == len(self.blocks) + 1
            and key[0] == self.name
            and all(0 <= i < len(axis) for i, axis in zip(key[1:], self.blocks, strict=True))
        )

    def __iter__(self) -> Iterator[Any]:
        return product((self.name,), *(range(len(axis)) for axis in self.blocks))

    def __len__(self) -> int:
        return math.prod(len(axis) for axis in self.blocks)

    def is_materialized(self) -> bool:
        """Tell dask that the tasks are made on demand."""
        return False

    def get_output_keys(self) -> Set[Any]:
        """Give every block's key."""
        return set(self)

    def get_dependencies(self, key: Any, all_hlg_keys: Any) -> set[Any]:
        """Give the keys that a read depends on: none."""
        return set()

    def cull(self, keys: Set[Any], all_hlg_keys: Any) -> tuple[Layer, Mapping[Any, set[Any]]]:
        """Make the tasks of some blocks, and no others."""
        wanted = [key for key in keys if key in self]
        tasks = {key: self[key] for key in wanted}
        return MaterializedLayer(tasks, annotations=self.annotations), {k: set() for k in wanted}


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
    guard_forks()
    blocks = _blocks(source, chunks)
    full_name = f"{name}-{tokenize(source, blocks)}"
    layer = SourceLayer(full_name, source, blocks)
    graph = HighLevelGraph({full_name: layer}, {full_name: set()})
    return da.Array(graph, full_name, blocks, meta=np.empty((0,) * source.ndim, source.dtype))


def turned(array: da.Array, axes: str, order: str) -> da.Array:
    """Give an array as a reader gave it with its axes in another order, read as that.

    One whose axes lie so, or that was computed, is given as it is.

    Parameters
    ----------
    array : dask.array.Array
        Of ``axes``, a letter each.
    order : str
        The same letters.

    Raises
    ------
    LayoutError
        If the array has not as many axes.
    """
    source = source_of(array)
    if order == axes or source is None:
        return array
    if len(axes) != source.ndim:
        raise LayoutError(
            f"an array of shape {source.shape} is said to have the axes {', '.join(axes)}: "
            "correct them where they are stated, or read it by its own path"
        )
    view = ViewSource(source, full_region(source.shape), [axes.index(a) for a in order])
    return lazy_array(view)


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


def sources_in(array: da.Array) -> list[Source]:
    """Give every source that an array, lazy or computed on, reads."""
    layers = getattr(array.dask, "layers", {}).values()
    return [layer.source for layer in layers if isinstance(layer, SourceLayer)]
