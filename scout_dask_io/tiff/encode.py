"""How an array lies in a TIFF file, and its rows as the bytes that are stored. No files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias, cast

import imagecodecs
import numpy as np

from scout_dask_io.errors import ArgumentError
from scout_dask_io.grid import Shape
from scout_dask_io.voxel import ATTRIBUTE, VoxelSize

Encoded: TypeAlias = bytes | bytearray | memoryview

__all__ = ["Encoded", "TiffLayout", "encode_strip", "plan_layout"]

# A region read decodes whole strips; 256 KiB are 64 rows of 2048 uint16, the
# height of a default chunk, and enough for Deflate to do its best.
STRIP_NBYTES = 2**18
# Deflate wants some context: below this, strips may cut across the caller's steps.
LEAST_STRIP_NBYTES = 2**15
# Offsets in a classic file have 32 bits; the margin is tifffile's, for the directories.
CLASSIC_NBYTES = 2**32 - 2**25

_KINDS = {"b": "bool", "u": "unsigned int", "i": "int", "f": "float"}


@dataclass(frozen=True, slots=True)
class TiffLayout:
    """How an array lies in one TIFF file.

    Attributes
    ----------
    shape : tuple of int
        Of the whole array; the file carries it, so it reads back unchanged.
    dtype : numpy.dtype
        Of the elements. Pixels are stored little-endian; bools as single bits.
    compress : int
        0 for plain pixels, all pages in one run; 1 to 9 for Deflate.
    samples : int
        3 or 4 where the last axis is colour, else 1.
    rows_per_strip : int
        Height of a strip; the whole page where nothing is compressed.
    big : bool
        BigTIFF rather than classic TIFF.
    voxel_size : VoxelSize or None
        Kept exactly in the description; y and x as resolution too.
    """

    shape: Shape
    dtype: np.dtype[Any]
    compress: int
    samples: int
    rows_per_strip: int
    big: bool
    voxel_size: VoxelSize | None = None

    @property
    def n_page_axes(self) -> int:
        """Trailing axes of the array that one page holds: 2, or 3 with colour."""
        return 2 if self.samples == 1 else 3

    @property
    def lead(self) -> Shape:
        """Axes that count the pages, in C order."""
        return self.shape[: -self.n_page_axes]

    @property
    def n_pages(self) -> int:
        """Number of pages; 1 for a single plane."""
        return math.prod(self.lead)

    @property
    def height(self) -> int:
        """Rows of a page."""
        return self.shape[-self.n_page_axes]

    @property
    def width(self) -> int:
        """Columns of a page."""
        return self.shape[1 - self.n_page_axes]

    @property
    def row_nbytes(self) -> int:
        """Stored size of a row before compression."""
        return _row_nbytes(self.width * self.samples, self.dtype)

    @property
    def n_strips(self) -> int:
        """Strips of a page."""
        return -(-self.height // self.rows_per_strip)

    @property
    def row_step(self) -> int:
        """Rows between places where a page may be cut for writing."""
        return self.rows_per_strip if self.compress else 1

    @property
    def rows_per_write(self) -> int:
        """Rows that :func:`encode_strip` is best given at a time."""
        return self.rows_per_strip if self.compress else max(1, 2**22 // self.row_nbytes)

    @property
    def predictor(self) -> bool:
        """Whether pixels are stored as differences from their left neighbours.

        On for 8 and 16 bit integers: 2 to 12 % smaller on light-sheet planes,
        8 % larger on masks, at the same speed. Label images are mostly wider
        and shrink about 100-fold either way, floats would only grow.
        """
        return self.compress > 0 and self.dtype.kind in "iu" and self.dtype.itemsize <= 2

    @property
    def description(self) -> bytes:
        """The array's shape, and the voxel size, in the form that tifffile writes and reads."""
        found: dict[str, Any] = {"shape": list(self.shape)}
        if self.voxel_size is not None:
            found[ATTRIBUTE] = list(self.voxel_size.micrometres)
        return json.dumps(found).encode("ascii")

    @property
    def resolution(self) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Pixels a centimetre along x and y, as fractions; ``None`` where either is not known."""
        size = self.voxel_size
        if size is None or size.x is None or size.y is None:
            return None
        return _fraction(1e4 / size.x), _fraction(1e4 / size.y)


def _row_nbytes(n_values: int, dtype: np.dtype[Any]) -> int:
    return -(-n_values // 8) if dtype.kind == "b" else n_values * dtype.itemsize


def plan_layout(
    shape: Shape,
    dtype: Any,
    compress: int = 1,
    *,
    step: int | None = None,
    voxel_size: VoxelSize | None = None,
) -> TiffLayout:
    """Choose how an array lies in a TIFF file. No I/O.

    A ``uint8`` or ``uint16`` array of three or more axes whose last has 3 or 4
    elements is colour: one RGB or RGBA page for each ``(y, x)``. Anything else
    is one grey page for each ``(y, x)``. The shape reads back the same either
    way; the choice is about what an image viewer shows.

    Parameters
    ----------
    shape : tuple of int
        Array extent per axis, in elements; at least two axes.
    dtype
        Bool, integer of 8 to 64 bits, or float of 16, 32 or 64 bits.
    compress : int
        0 is uncompressed, 1 (fast) to 9 (small) Deflate.
    step : int, optional
        Rows in which the pixels will come. Strips are chosen to end where
        steps do, if that makes strips of a reasonable size.
    voxel_size : VoxelSize, optional
        What the file says of the size of a voxel.

    Raises
    ------
    ArgumentError
        If a TIFF cannot hold such an array, or ``compress`` is no level.
    """
    found = np.dtype(dtype).newbyteorder("=")
    if found.kind not in _KINDS or found.itemsize > 8:
        raise ArgumentError(
            f"a TIFF cannot hold {np.dtype(dtype)}: give bool, integers of 8 to 64 bits, or "
            "floats of 16, 32 or 64 bits (save the real and the imaginary part of complex data "
            "apart)"
        )
    if len(shape) < 2 or 0 in shape:
        raise ArgumentError(
            f"a TIFF holds planes, and an array of shape {shape} has none: give at least two "
            "axes, none of them empty"
        )
    is_level = isinstance(compress, (int, np.integer)) and not isinstance(compress, bool)
    if not is_level or not 0 <= compress <= 9:
        raise ArgumentError(
            f"compress must be a whole number from 0 (none) to 9 (smallest), got {compress!r}"
        )
    colour = len(shape) >= 3 and shape[-1] in (3, 4) and found in (np.uint8, np.uint16)
    samples = shape[-1] if colour else 1
    *lead, height, width = shape[:-1] if colour else shape
    row = _row_nbytes(width * samples, found)
    rows = _choose_rows(height, row, step or height) if compress else height
    n_strips = -(-height // rows)
    directories = math.prod(lead) * (512 + 16 * n_strips)
    return TiffLayout(
        shape=tuple(shape),
        dtype=found,
        compress=int(compress),
        samples=samples,
        rows_per_strip=rows,
        big=math.prod(lead) * height * row + directories > CLASSIC_NBYTES,
        voxel_size=voxel_size,
    )


def _fraction(value: float) -> tuple[int, int]:
    """Give a positive number as a TIFF rational: two whole numbers below 2**32."""
    top = 2**32 - 1
    found = Fraction(value).limit_denominator(max(1, min(top, int(top / max(value, 1)))))
    return min(found.numerator, top), found.denominator


def _choose_rows(height: int, row_nbytes: int, step: int) -> int:
    """Give the height of a strip of about ``STRIP_NBYTES`` that goes well with ``step``."""
    most = max(1, STRIP_NBYTES // row_nbytes)
    if step >= height:
        return min(most, height)
    if step <= most:
        return min(most // step * step, height)
    divisor = next(d for d in range(most, 0, -1) if step % d == 0)
    return divisor if divisor == most or divisor * row_nbytes >= LEAST_STRIP_NBYTES else most


def encode_strip(layout: TiffLayout, rows: np.ndarray) -> Encoded:
    """Give the stored bytes of some rows of a page.

    ``rows`` has the shape ``(rows, width)``, with a third axis for colour, and
    the layout's dtype in any byte order. Uncompressed rows that need no change
    are not copied. Safe in threads; compression leaves the GIL.
    """
    if layout.dtype.kind == "b":
        stored = np.packbits(rows, axis=1)
    else:
        stored = np.ascontiguousarray(rows, layout.dtype.newbyteorder("<"))
    if not layout.compress:
        return stored.reshape(-1).view(np.uint8).data
    if layout.predictor:
        stored = imagecodecs.delta_encode(stored, axis=1)
    # Any buffer will do, whatever the library's hints say.
    encoded: Encoded = imagecodecs.deflate_encode(cast(Any, stored), level=layout.compress)
    return encoded
