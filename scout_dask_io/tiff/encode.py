"""Rows of an array as the bytes that are stored in a TIFF file. No files.

A *band* is some rows of one page at one level, across its whole width: the rows
of a strip, or of a row of tiles.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, cast

import imagecodecs
import numpy as np

from scout_dask_io.tiff.write_layout import TiffLayout

Encoded: TypeAlias = bytes | bytearray | memoryview

__all__ = ["Band", "Encoded", "encode_band", "encode_strip"]


class Band(NamedTuple):
    """Rows of a page as they are stored: one strip, or the tiles of a row from left to right."""

    page: int
    row: int
    segments: list[Encoded]
    level: int = 0


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


def encode_band(layout: TiffLayout, rows: np.ndarray) -> list[Encoded]:
    """Give the stored bytes of a band's strip or tiles; as :func:`encode_strip` in all else.

    Tiles at the lower and the right edge are filled up with zeros.
    """
    side = layout.tile
    if not side:
        return [encode_strip(layout, rows)]
    tiles = []
    for left in range(0, rows.shape[1], side):
        tile = rows[:, left : left + side]
        if tile.shape[:2] != (side, side):
            room = [(0, side - n) for n in tile.shape[:2]] + [(0, 0)] * (tile.ndim - 2)
            tile = np.pad(tile, room)
        tiles.append(encode_strip(layout, tile))
    return tiles
