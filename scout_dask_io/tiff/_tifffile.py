"""Every private or undocumented name of tifffile that is used here, each with the reason.

tifffile promises nothing of these, so a release of it may break this module, and no other:
``tests/test_house.py`` finds them where they are used elsewhere.

Why it is short: it only gives facts on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tifffile


def series_pages(series: tifffile.TiffPageSeries) -> list[Any]:
    """Give the pages that a series lists, ``None`` where one is missing.

    ``series._pages``: iterating over a series makes up pages that its file does not list
    (ImageJ's, above 4 GB), and says nothing of those in other files. Without it, an image
    that lacks planes would be read as whole.
    """
    return list(series._pages)


def page_at(tif: tifffile.TiffFile, ifd: int) -> tifffile.TiffPage:
    """Give tifffile's view of the page whose directory is at an offset.

    ``TiffPage(tif, index=)`` at the handle's position: the public ``tif.pages[k]`` walks all
    directories before it, which makes a stack of n pages cost n squared. The index is only a
    number to show, but not 0, which would be taken for the first page.
    """
    first = tif.pages.first
    if first.offset == ifd:
        return first
    tif.filehandle.seek(ifd)
    return tifffile.TiffPage(tif, index=1)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep tifffile's log from a terminal where nobody asked for logs.

    Python prints warnings of a logger that has no handler; these name no path, and what they
    say is told by errors and warnings of our own. One that does nothing is enough, and takes
    nothing from whoever has set up logging. Each call has its own, so threads do not meet.
    """
    logger, handler = logging.getLogger("tifffile"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
