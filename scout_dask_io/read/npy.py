"""Arrays in ``.npy`` files, mapped into memory: read where they are asked for, and not copied."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from scout_dask_io.core.blocks import default_blocks
from scout_dask_io.core.grid import Blocks, Region, Shape, full_region, region_shape
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.errors import LayoutError, SourceChangedError
from scout_dask_io.files.location import Location

#: The first bytes of a file.
SIGNATURE = b"\x93NUMPY"


class NpySource(Source):
    """An array in a ``.npy`` file, mapped anew wherever a region is read: it travels as a path.

    Parameters
    ----------
    place : Location
        The file.

    Raises
    ------
    LayoutError
        If the header is damaged, the file is cut, or it holds no numbers.
    """

    def __init__(self, place: Location) -> None:
        self.path = str(place)
        self.state = _state(self.path)
        try:
            with open(self.path, "rb") as file:
                version = npy_format.read_magic(file)
                reader: Any = npy_format.read_array_header_1_0
                if version != (1, 0):
                    reader = npy_format.read_array_header_2_0
                shape, fortran, dtype = reader(file)
                self.offset = file.tell()
        except (ValueError, OSError, EOFError) as err:
            raise LayoutError(f"{place}: its header cannot be read: {err}. It is damaged.") from err
        self.stored = np.dtype(dtype)
        if self.stored.kind not in "biufc" or not shape:
            what = "Python objects" if self.stored.hasobject else f"{self.stored} of shape {shape}"
            raise LayoutError(
                f"{place} holds {what}, expected an array of numbers: load it with numpy, and save "
                "the numbers in it"
            )
        self.shape: Shape = tuple(int(n) for n in shape)
        self.fortran = bool(fortran)
        self.dtype = self.stored.newbyteorder("=")
        self.token = f"{self.path}-{self.state}"
        expected = self.offset + math.prod(self.shape) * self.stored.itemsize
        if self.state[0] < expected:
            raise LayoutError(
                f"{place} has {self.state[0]:,} bytes, expected {expected:,} for an array of shape "
                f"{self.shape} and dtype {self.stored}: it was cut. Copy it again."
            )

    @property
    def read_shape(self) -> Shape:
        """What lies together: a row, along the first axis where the order is Fortran's."""
        ones = (1,) * (len(self.shape) - 1)
        row = (self.shape[0], *ones) if self.fortran else (*ones, self.shape[-1])
        return tuple(max(1, n) for n in row)

    @property
    def default_chunks(self) -> Blocks:
        """Blocks of about 32 MB."""
        return default_blocks(self.shape, self.read_shape, self.dtype.itemsize)

    def sample_files(self) -> list[tuple[str, int]]:
        """Give the file."""
        return [(self.path, self.state[0])]

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the region, mapped.

        Raises
        ------
        SourceChangedError
            If the file is no longer the one that was opened.
        """
        if _state(self.path) != self.state:
            raise SourceChangedError(f"{self.path} has changed since it was opened: open it again")
        if 0 in region_shape(region):
            return
        order: Any = "F" if self.fortran else "C"
        mapped = np.memmap(self.path, self.stored, "r", self.offset, self.shape, order)
        yield full_region(region_shape(region)), mapped[region]


def _state(file: str) -> tuple[int, int]:
    try:
        found = os.stat(file)
    except OSError as err:
        raise SourceChangedError(f"{file} is not there any more, or cannot be read: {err}") from err
    return found.st_size, found.st_mtime_ns
