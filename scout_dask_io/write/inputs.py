"""What is written: pixels that are read by regions, or an array that is computed by blocks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.source import ArraySource, Source
from scout_dask_io.errors import ArgumentError
from scout_dask_io.run.lazy import source_of
from scout_dask_io.store.chunk_v2 import array_crc32c
from scout_dask_io.store.stored_rows import kept_rows
from scout_dask_io.store.transaction import Transaction
from scout_dask_io.store.unfinished import UPDATES


@dataclass(frozen=True, slots=True)
class WriteInput:
    """Data that can be written: one of a source and an array.

    Attributes
    ----------
    source : Source or None
        Read by the regions that the writer needs.
    array : dask.array.Array or None
        Computed, where there is no source.
    """

    source: Source | None = None
    array: da.Array | None = None

    @property
    def data(self) -> Any:
        """The one that there is."""
        return self.array if self.source is None else self.source

    @property
    def shape(self) -> Shape:
        """In elements."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """In native byte order."""
        native: np.dtype[Any] = self.data.dtype.newbyteorder("=")
        return native

    @property
    def info(self) -> ImageInfo:
        """What is known of it as a reader gave it."""
        return ImageInfo() if self.source is None else self.source.info

    @property
    def digest(self) -> str:
        """Names the data, so that the same are known again."""
        token = self.source.token if self.source is not None else str(self.data.name)
        return hashlib.sha256(token.encode()).hexdigest()

    def kept_rows(self, txn: Transaction, level: int | None) -> WriteInput:
        """Give the same pixels, in an update those of planes that stay from what stands."""
        if self.source is None:
            return self
        update = txn.settings.get(UPDATES)
        return replace(self, source=kept_rows(txn.destination, level, update, self.source))


def readable(data: Any) -> WriteInput:
    """Give data as a source that is read by regions, or else as an array that must be computed.

    Raises
    ------
    ArgumentError
        If it is no array, masked, or of a kind that Zarr arrays of this library do not hold.
    """
    check_unmasked(data)
    if isinstance(data, da.Array):
        if any(np.isnan(n) for n in data.shape):
            raise ArgumentError(
                f"the array's shape {data.shape} is not known before it is computed: call "
                "compute_chunk_sizes() on it first"
            )
    elif not isinstance(data, (Source, np.ndarray)):
        raise ArgumentError(
            f"data must be a dask or numpy array, got {type(data).__name__}. "
            "np.asarray or dask.array.from_array makes it one."
        )
    check_kind(data.dtype, data.ndim)
    if isinstance(data, da.Array):
        source = source_of(data)
        return WriteInput(array=data) if source is None else WriteInput(source)
    if isinstance(data, Source):
        return WriteInput(data)
    token = f"numpy-{data.dtype.str}-{data.shape}-{array_crc32c(data):08x}"
    return WriteInput(ArraySource(data, token))


def check_kind(dtype: np.dtype[Any], ndim: int) -> None:
    """Refuse data of a kind that arrays of this library do not hold.

    Raises
    ------
    ArgumentError
        If they have no axis or more than five, or are no numbers.
    """
    # "g" and "G" are C's long doubles, which Zarr does not have.
    if not 1 <= ndim <= 5 or dtype.kind not in "biufc" or dtype.char in "gG":
        raise ArgumentError(
            f"data must have 1 to 5 axes and a bool, integer, float or complex dtype, got {ndim} "
            f"axes of {dtype}"
        )


def check_unmasked(data: Any) -> None:
    """Refuse a masked array, of numpy or dask: files hold no mask, and would show what it hides.

    Raises
    ------
    ArgumentError
        If it is one, or a list of some.
    """
    parts = data if isinstance(data, (list, tuple)) else (data,)
    for part in parts:
        if isinstance(getattr(part, "_meta", part), np.ma.MaskedArray):
            fill = "dask.array.ma.filled(data, 0)" if hasattr(part, "dask") else "data.filled(0)"
            raise ArgumentError(
                "the data are masked, and a file holds no mask: what is masked would be written as "
                f"if it were measured. Say what stands in its place, as {fill} does, and write the "
                "mask beside it where it matters."
            )
