"""Parts of lazy arrays read at once: from their files, on threads, without a graph."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache, partial
from itertools import pairwise, product
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.system import CPU_COUNT

from scout_dask_io.core.fork import in_forked_child
from scout_dask_io.core.grid import Region, Shape, region_shape, relative_to
from scout_dask_io.core.indexing import normalize_index, take, takes_all
from scout_dask_io.core.source import Source
from scout_dask_io.run.lazy import source_of
from scout_dask_io.run.scheduler import check_nb_workers


def read_region(array: da.Array, index: Any, nb_workers: int | None = None) -> Any:
    """Read a part of a lazy array now, or a list of parts: ``array[index].compute()``, but quicker.

    For many small parts: patches to train on, the box around each cell. Of an
    array as a reader gave it, the part is read from its files without a graph,
    which takes dask about 3 ms to build and run, as long as decoding a box of
    64 x 64 x 64. The chunks, strips or planes that it touches are read on several
    threads. An array that was computed on is computed.

    Of a list of parts at once, such as a batch of patches, each chunk of a stored array is read and
    decoded once, however many parts lie in it, and all are asked for at the same time.

    Parameters
    ----------
    array : dask.array.Array
        From a reader of this library, or any other.
    index
        Ints, slices and lists of ints, as for ``array[index]``; or a list of such tuples.
    nb_workers : int, optional
        How many threads read, the calling one among them; by default one a core. 1 is right
        where the calls themselves come from many threads.

    Returns
    -------
    numpy.ndarray or list of numpy.ndarray
        Copies, in native byte order; a list of them where a list of parts is asked for.

    Raises
    ------
    IndexError
        If ``index`` lies outside the array.
    ArgumentError
        If ``nb_workers`` is no positive int.
    TiffReadError, ChunkReadError, SourceChangedError
        If a file is damaged or has changed.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> import scout_dask_io as io
    >>> path = tempfile.mkdtemp() + "/a.zarr"
    >>> _ = io.write_zarr(path, np.arange(60).reshape(3, 4, 5), (2, 2, 2))
    >>> io.read_region(io.read_zarr(path), np.s_[1, 2, :3])
    array([30, 31, 32])
    >>> [part.shape for part in io.read_region(io.read_zarr(path), [np.s_[:2, 1], np.s_[2, :, 3:]])]
    [(2, 5), (4, 2)]
    """
    n_threads = check_nb_workers(nb_workers) or CPU_COUNT
    source = source_of(array)
    if isinstance(index, list) and any(isinstance(i, (tuple, slice)) for i in index):
        if source is None:
            return [np.asarray(part) for part in dask.compute(*(array[i] for i in index))]
        pairs = [normalize_index(i, source.shape) for i in index]
        outs = _read_together(source, [region for region, _ in pairs], n_threads)
        return [take(out, rest) for out, (_, rest) in zip(outs, pairs, strict=True)]
    if source is None:
        return np.asarray(array[index].compute())
    region, rest = normalize_index(index, source.shape)
    if n_threads > 1 and source.asks_at_once:
        return take(_read_together(source, [region], n_threads)[0], rest)
    if n_threads == 1 or source.has_own_threads or not all(map(takes_all, rest)):
        # Sources know what not to read of a list or a slice with steps.
        return source[index]
    return take(_read(source, region, n_threads), rest)


def _read(source: Source, region: Region, n_threads: int) -> np.ndarray:
    # Two a thread: where they cannot be alike, the second ones make up for it.
    parts = list(_cut(region, source.read_shape, 2 * n_threads))
    if len(parts) == 1:
        return source.read(region)
    out = np.empty(region_shape(region), source.dtype)
    _run([partial(source.read_into, p, out[relative_to(p, region)]) for p in parts], n_threads)
    return out


def _read_together(source: Source, regions: Sequence[Region], n_threads: int) -> list[np.ndarray]:
    outs = [np.empty(region_shape(region), source.dtype) for region in regions]
    _run(source.reads(regions, outs, n_threads), n_threads)
    return outs


def _run(works: Sequence[Callable[[], None]], n_threads: int) -> None:
    """Do all of some work on threads, this one too; raise an error when all has ended."""
    if n_threads == 1 or len(works) == 1:
        for work in works:
            work()
        return
    left = deque(works)

    def work_off() -> None:
        while True:
            try:
                work = left.popleft()
            except IndexError:
                return
            work()

    pool = _pool(n_threads - 1)
    others = [pool.submit(work_off) for _ in range(min(n_threads, len(works)) - 1)]
    try:
        work_off()  # this thread would wait
    except BaseException:
        left.clear()
        raise
    finally:
        wait(others)
    for each in others:
        each.result()


# The threads of a pool end once it is neither kept here nor at work.
@lru_cache(2)
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads, thread_name_prefix="scout-read")


in_forked_child(_pool.cache_clear)


def _cut(region: Region, cell: Shape, n_parts: int) -> Iterator[Region]:
    """Cut a region where cells meet, first axis first, into ``n_parts`` or as many as there are.

    Examples
    --------
    >>> [part[0] for part in _cut((slice(3, 20),), (4,), 2)]
    [slice(3, 8, None), slice(8, 20, None)]
    """
    axes: list[list[slice]] = []
    for want, size in zip(region, cell, strict=True):
        low, high = want.start // size, -(-want.stop // size)
        n = max(1, min(high - low, -(-n_parts // math.prod(map(len, axes)))))
        edges = [low + (high - low) * k // n for k in range(1, n)]
        cuts = [want.start, *(edge * size for edge in edges), want.stop]
        axes.append([slice(a, b) for a, b in pairwise(cuts)])
    return product(*axes)
