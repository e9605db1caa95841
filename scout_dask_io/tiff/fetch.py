"""Pages of files in object stores, fetched ahead of the one that is being decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from scout_dask_io.errors import ScoutIOError
from scout_dask_io.tiff.ahead import work_ahead
from scout_dask_io.tiff.decode import AreaReader, Page, unreadable

__all__ = ["fetch_pages"]

#: Pages that are fetched at once; clients have ten connections by default.
_N_PAGES = 8
#: What may be held of pages that are not yet asked for, in each call that reads.
_AHEAD_NBYTES = 16 << 20


def fetch_pages(
    pages: Iterable[Page | None],
    numbers: Sequence[int],
    readers: Sequence[AreaReader],
    *,
    serves_threads: bool,
) -> Iterator[Page | None]:
    """Yield the pages in order, each when what its area needs is here, or the first batch of it.

    Parameters
    ----------
    pages : iterable of Page or None
        Of files in a store; those that were yielded are let go, with what they hold. ``None``
        is a page of zeros, for which nothing is fetched.
    numbers : sequence of int
        Which of the readers each page is for.
    serves_threads : bool
        Whether several threads may ask the store at once.

    Raises
    ------
    SourceChangedError, TiffReadError
        If the store does not give what a page needs.
    """
    reach_nbytes = max((readers[k].reach_nbytes for k in set(numbers)), default=0)
    n_pages = min(_N_PAGES, len(numbers), _AHEAD_NBYTES // max(reach_nbytes, 1))
    n_pages = n_pages if serves_threads else 1

    def fetch(item: tuple[int, Page | None]) -> Page | None:
        number, page = item
        if page is not None:
            try:
                readers[number].fetch(page)
            except (ScoutIOError, MemoryError):
                raise
            except Exception as err:
                raise unreadable(page, err) from err
        return page

    return work_ahead(fetch, zip(numbers, pages, strict=True), n_pages, n_pages)
