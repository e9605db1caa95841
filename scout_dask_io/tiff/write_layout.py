"""How an array will lie in a TIFF file: pages, strips or tiles, resolutions. No I/O."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Shape
from scout_dask_io.errors import ArgumentError

# A region read decodes whole strips; 256 KiB are 64 rows of 2048 uint16, the
# height of a default chunk, and enough for Deflate to do its best.
STRIP_NBYTES = 2**18
# Deflate wants some context: below this, strips may cut across the caller's steps.
LEAST_STRIP_NBYTES = 2**15
# Offsets in a classic file have 32 bits; the margin is tifffile's, for the directories.
CLASSIC_NBYTES = 2**32 - 2**25
# The side of a tile: what viewers of large images ask for, and 128 KiB of uint16.
TILE = 256

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
    tile : int
        Side of the square tiles that pages are cut into; 0 for strips.
    n_levels : int
        Resolutions of a page, each half the height and width of the one before.
    one_directory : bool
        All pages in one run behind a directory of the first alone, as ImageJ
        writes stacks that no classic TIFF could hold.
    labels : bool
        The pixels are labels, which no resolution averages.
    """

    shape: Shape
    dtype: np.dtype[Any]
    compress: int
    samples: int
    rows_per_strip: int
    big: bool
    tile: int = 0
    n_levels: int = 1
    one_directory: bool = False
    labels: bool = False

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
    def levels(self) -> list[tuple[int, int]]:
        """``(height, width)`` of a page at each level, the full one first."""
        return level_extents(self.height, self.width, self.n_levels)

    @property
    def nbytes(self) -> int:
        """Size of the pixels of all levels before compression, in bytes."""
        samples = sum(h * w for h, w in self.levels) * self.samples
        return self.n_pages * samples * self.dtype.itemsize

    @property
    def n_strips(self) -> int:
        """Strips of a page."""
        return -(-self.height // self.rows_per_strip)

    def n_segments(self, level: int = 0) -> int:
        """Strips or tiles of a page at a level."""
        if not self.tile:
            return self.n_strips
        height, width = self.levels[level]
        return -(-height // self.tile) * -(-width // self.tile)

    @property
    def is_run(self) -> bool:
        """Whether the pixels are one run, so that any rows can be written in their place."""
        return not (self.compress or self.tile)

    @property
    def row_step(self) -> int:
        """Rows between places where a page may be cut for writing."""
        return 1 if self.is_run else self.rows_per_write

    @property
    def rows_per_write(self) -> int:
        """Rows of a band."""
        if self.tile:
            return self.tile
        return self.rows_per_strip if self.compress else max(1, 2**22 // self.row_nbytes)

    @property
    def predictor(self) -> bool:
        """Whether pixels are stored as differences from their left neighbours.

        On for 8 and 16 bit integers: 2 to 12 % smaller on light-sheet planes,
        8 % larger on masks, at the same speed. Label images are mostly wider
        and shrink about 100-fold either way, floats would only grow.
        """
        return self.compress > 0 and self.dtype.kind in "iu" and self.dtype.itemsize <= 2


def level_extents(height: int, width: int, n_levels: int | None = None) -> list[tuple[int, int]]:
    """Give ``(height, width)`` of each level, the full one first; halves are rounded up.

    Without a number, levels go on until one fits in a tile.

    Examples
    --------
    >>> level_extents(510, 667)
    [(510, 667), (255, 334), (128, 167)]
    """
    found = [(height, width)]
    while len(found) < n_levels if n_levels is not None else max(found[-1]) > TILE:
        h, w = found[-1]
        found.append((-(-h // 2), -(-w // 2)))
    return found


def _row_nbytes(n_values: int, dtype: np.dtype[Any]) -> int:
    return -(-n_values // 8) if dtype.kind == "b" else n_values * dtype.itemsize


def plan_layout(
    shape: Shape,
    dtype: Any,
    compress: int = 1,
    *,
    step: int | None = None,
    tiled: bool = False,
    n_levels: int | None = 1,
    colour: bool | None = None,
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
    tiled : bool
        Tiles rather than strips.
    n_levels : int, optional
        Resolutions, for tiles; ``None`` for as many as end in one tile.
    colour : bool, optional
        Whether the last axis is colour, where that is known.

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
    may_be = len(shape) >= 3 and shape[-1] in (3, 4) and found in (np.uint8, np.uint16)
    if colour and not may_be:
        raise ArgumentError(
            f"colour planes have 3 or 4 samples of uint8 or uint16, got {shape[-1]} of {found}"
        )
    colour = may_be if colour is None else colour
    samples = shape[-1] if colour else 1
    *lead, height, width = shape[:-1] if colour else shape
    row = _row_nbytes(width * samples, found)
    rows = _choose_rows(height, row, step or height) if compress else height
    levels = level_extents(height, width, n_levels if tiled else 1)
    # A tile has a multiple of 16 rows, and small pages no tile of mostly padding.
    tile = min(TILE, -(-max(height, width) // 16) * 16) if tiled else 0
    nbytes = n_segments = 0
    for h, w in levels:
        down, across = (-(-h // tile), -(-w // tile)) if tile else (-(-h // rows), 1)
        n_segments += down * across
        stored = (down * tile, across * tile) if tile else (h, w)
        nbytes += stored[0] * _row_nbytes(stored[1] * samples, found)
    directories = 512 * len(levels) + 16 * n_segments
    return TiffLayout(
        shape=tuple(shape),
        dtype=found,
        compress=int(compress),
        samples=samples,
        rows_per_strip=rows,
        big=math.prod(lead) * (nbytes + directories) > CLASSIC_NBYTES,
        tile=tile,
        n_levels=len(levels),
    )


def _choose_rows(height: int, row_nbytes: int, step: int) -> int:
    """Give the height of a strip of about ``STRIP_NBYTES`` that goes well with ``step``."""
    most = max(1, STRIP_NBYTES // row_nbytes)
    if step >= height:
        return min(most, height)
    if step <= most:
        return min(most // step * step, height)
    divisor = next(d for d in range(most, 0, -1) if step % d == 0)
    return divisor if divisor == most or divisor * row_nbytes >= LEAST_STRIP_NBYTES else most
