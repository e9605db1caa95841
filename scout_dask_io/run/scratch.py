"""Computed blocks on disk for a while: raw files, so that units can be cut across them.

Results that wait for their users on local threads: the oldest on disk, once there are many.

Between the overlaps of a pipeline, dask keeps blocks whose neighbours are not
read yet: of the 320 blocks of a smoothed volume, 180 at a time. Workers of a
cluster spill them to disk; dask's local scheduler has no such thing, but takes
the mapping in which it keeps results.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from dask.callbacks import Callback

from scout_dask_io.core.grid import Region, Shape, full_region, intersect, region_shape, relative_to
from scout_dask_io.core.messages import RESUME, Option
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.errors import WriteError
from scout_dask_io.files.system import read_some_at, replace


def scratch_path(tmp: Path, index: Shape) -> Path:
    """Give the file of one computed block, beside the growing array."""
    return tmp / ("block-" + "-".join(map(str, index)))


def spill(path: Path, block: np.ndarray) -> None:
    """Write a computed block: its elements in C order and native byte order, nothing else.

    Raises
    ------
    WriteError
        If it cannot be written, naming the file.
    """
    draft = path.with_name(f"{path.name}-{os.getpid()}")
    try:
        with draft.open("wb", buffering=0) as file:
            view = np.ascontiguousarray(block).reshape(-1).view(np.uint8).data
            while view:
                view = view[file.write(view) :]
        replace(draft, path)
    except OSError as err:
        draft.unlink(missing_ok=True)
        raise WriteError(
            f"{path}: a computed block of {block.nbytes} bytes cannot be kept on disk "
            f"({err.strerror}). Free space there, or raise "
            + Option("max_mem")
            + " so that blocks stay in "
            "memory; then " + RESUME + " goes on."
        ) from err


class ScratchSource(Source):
    """Spilled blocks that hold a part of an array, read by regions."""

    def __init__(
        self, shape: Shape, dtype: np.dtype[Any], files: Sequence[tuple[Region, Path]]
    ) -> None:
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")
        self.token = ""
        self.files = tuple(files)

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the runs of each block that the region needs."""
        for where, path in self.files:
            shared = intersect(where, region)
            if shared is None:
                continue
            origin = relative_to(shared, region)
            for run, values in self._runs(path, region_shape(where), relative_to(shared, where)):
                yield (
                    tuple(
                        slice(o.start + r.start, o.start + r.stop)
                        for o, r in zip(origin, run, strict=True)
                    ),
                    values,
                )

    def _runs(self, path: Path, shape: Shape, inside: Region) -> Iterator[Piece]:
        """Yield ``inside`` of one file by contiguous reads; rows are read whole in x."""
        ndim = len(shape)
        # The axis along which a run is cut: all axes after it are read whole.
        cut = max((a for a in range(ndim - 1) if region_shape(inside)[a] != shape[a]), default=0)
        tail = shape[cut + 1 :]
        row_nbytes = int(np.prod(tail, dtype=np.int64)) * self.dtype.itemsize
        rows = inside[cut].stop - inside[cut].start
        buffer = np.empty((rows, *tail), self.dtype)
        trim = (slice(None), *inside[cut + 1 :])
        outer = [range(s.start, s.stop) for s in inside[:cut]]
        with path.open("rb", buffering=0) as file:
            for at in np.ndindex(*(len(r) for r in outer)):
                first = 0
                for axis, k in enumerate(at):
                    first = first * shape[axis] + outer[axis][k]
                first = first * shape[cut] + inside[cut].start
                got = _fill(
                    file.fileno(), buffer.reshape(-1).view(np.uint8).data, first * row_nbytes
                )
                if got != buffer.nbytes:
                    raise WriteError(
                        f"{path}: read {got} of {buffer.nbytes} bytes at {first * row_nbytes}"
                    )
                place = tuple(slice(k, k + 1) for k in at)
                whole = full_region(region_shape(inside[cut:]))
                yield (*place, *whole), buffer[trim].reshape((1,) * cut + region_shape(whole))


def _fill(fd: int, buffer: memoryview, offset: int) -> int:
    """Read until a buffer is full or the file ends, and give how many bytes were read.

    Linux gives at most 2 GiB - 4 KiB at once, and may give less.
    """
    got = 0
    while got < len(buffer):
        n = read_some_at(fd, offset + got, buffer[got:])
        if n == 0:
            break
        got += n
    return got


@dataclass(frozen=True, slots=True)
class _Spilled:
    """Where a result is that memory had no room for."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def load(self) -> np.ndarray:
        return np.fromfile(self.path, self.dtype).reshape(self.shape)


class SpillingCache(dict[Hashable, Any]):
    """The results of a local dask run; at most ``max_nbytes`` of arrays are in memory.

    Above that the arrays that have waited longest are moved to files, one each,
    and read again when a task wants them. A file goes when its result does.
    For the thread that runs the scheduler alone.

    Parameters
    ----------
    max_nbytes : int
        Bytes of arrays that may wait in memory. The newest stays there in any case.
    folder : Path
        Where files go.
    """

    def __init__(self, max_nbytes: int, folder: Path) -> None:
        super().__init__()
        self._max_nbytes, self._folder = max_nbytes, folder
        self._waiting: dict[Hashable, int] = {}  # in the order of their coming
        self._nbytes = 0
        self._number = 0
        self._running = False

    def begin(self) -> None:
        """Count from here on: what a graph brings along is in memory one way or the other."""
        self._running = True

    def __setitem__(self, key: Hashable, value: Any) -> None:
        self._forget(key)
        super().__setitem__(key, value)
        if not self._running or type(value) is not np.ndarray or value.dtype.hasobject:
            return
        self._waiting[key] = value.nbytes
        self._nbytes += value.nbytes
        while self._nbytes > self._max_nbytes and len(self._waiting) > 1:
            self._spill(next(iter(self._waiting)))

    def __getitem__(self, key: Hashable) -> Any:
        value = super().__getitem__(key)
        return value.load() if isinstance(value, _Spilled) else value

    def __delitem__(self, key: Hashable) -> None:
        self._forget(key)
        super().__delitem__(key)

    def clear(self) -> None:
        """Let go of every result, and remove the files."""
        for key in self:
            self._forget(key)
        super().clear()

    def _spill(self, key: Hashable) -> None:
        value = super().__getitem__(key)
        self._number += 1
        path = self._folder / f"waiting-{self._number}"
        spill(path, value)
        self._nbytes -= self._waiting.pop(key)
        super().__setitem__(key, _Spilled(path, value.shape, value.dtype))

    def _forget(self, key: Hashable) -> None:
        self._nbytes -= self._waiting.pop(key, 0)
        value = self.get(key)
        if isinstance(value, _Spilled):
            value.path.unlink(missing_ok=True)


class _Beginning(Callback):
    """Tells the cache when the run begins."""

    def __init__(self, cache: SpillingCache) -> None:
        super().__init__(start_state=lambda dsk, state: cache.begin())  # type: ignore[no-untyped-call]


@contextmanager
def spilling_cache(max_nbytes: int, folder: Path | None) -> Iterator[SpillingCache]:
    """Give the cache of one run of dask's threads; none of its files is left afterwards.

    Without a folder, files go where temporary files go.
    """
    with nullcontext(folder) if folder else TemporaryDirectory(prefix="scout-dask-io-") as scratch:
        cache = SpillingCache(max_nbytes, Path(scratch))
        with _Beginning(cache):
            try:
                yield cache
            finally:
                cache.clear()
