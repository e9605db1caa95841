"""Computed blocks on disk for a while: raw files, so that units can be cut across them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Region, Shape, intersect, region_shape, relative_to
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.errors import WriteError

__all__ = ["ScratchSource", "scratch_path", "spill"]


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
        draft.replace(path)
    except OSError as err:
        draft.unlink(missing_ok=True)
        raise WriteError(
            f"{path}: a computed block of {block.nbytes} bytes cannot be kept on disk "
            f"({err.strerror}). Free space there, or raise max_mem so that blocks stay in "
            "memory; then resume=True goes on."
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
                got = os.preadv(
                    file.fileno(), [buffer.reshape(-1).view(np.uint8).data], first * row_nbytes
                )
                if got != buffer.nbytes:
                    raise WriteError(
                        f"{path}: read {got} of {buffer.nbytes} bytes at {first * row_nbytes}"
                    )
                place = tuple(slice(k, k + 1) for k in at)
                whole = tuple(slice(0, s.stop - s.start) for s in inside[cut:])
                yield (*place, *whole), buffer[trim].reshape((1,) * cut + region_shape(whole))
