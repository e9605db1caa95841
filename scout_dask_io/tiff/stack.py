"""Pages read side by side: the rows of several are handed on as one piece.

Where an area has few bytes of a page, the calls around each piece, which take the
interpreter's lock anew, cost more than copying its pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np

from scout_dask_io.tiff.page_reader import AreaReader, Page, naming

Lead: TypeAlias = tuple[slice, ...]

__all__ = ["iter_stacks"]


def iter_stacks(
    reader: AreaReader, pages: Iterable[tuple[Lead, int, Page | None]]
) -> Iterator[tuple[Lead, np.ndarray | None]]:
    """Yield where some consecutive pages go, and the whole area of each.

    The values have four axes, the first along the last leading one, and are good until the
    next are asked for; there are none of a page of zeros. No stack crosses a multiple of
    ``reader.depth``, which is a power of two, so that planes which become one of a lower
    level come together.

    Raises
    ------
    SourceChangedError, TiffReadError
        If a page is not the one that was described, or cannot be read.
    """
    first: Lead = ()
    n = 0
    for place, _, page in pages:
        if n and (page is None or not _follows(first, n, place)):
            yield _from(first, n), reader.stack(n)
            n = 0
        if page is None:
            yield place, None
            continue
        if not n:
            first = place
        with naming(page):
            reader.read(page, n)
        n += 1
        if place[-1].stop % reader.depth == 0:
            yield _from(first, n), reader.stack(n)
            n = 0
    if n:
        yield _from(first, n), reader.stack(n)


def _follows(first: Lead, n: int, place: Lead) -> bool:
    return place[-1].start == first[-1].start + n and place[:-1] == first[:-1]


def _from(first: Lead, n: int) -> Lead:
    return (*first[:-1], slice(first[-1].start, first[-1].start + n))
