"""One area of pages that share a layout: what is common to all ways to read it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from scout_dask_io.errors import ScoutIOError, TiffReadError
from scout_dask_io.tiff import open_file as files
from scout_dask_io.tiff.ifd import Damaged
from scout_dask_io.tiff.page_layout import PageLayout, SourceFile

#: ``(rows, columns, samples)``, where pages without samples have one.
Area: TypeAlias = tuple[slice, slice, slice]

__all__ = ["PIECE_NBYTES", "Area", "AreaReader", "Page", "Scratch", "depth_of", "naming", "span"]

#: Rows are handed on in pieces of about this size, which are still in the processor's caches
#: when the caller copies them. In smaller ones, threads wait for the interpreter more often.
PIECE_NBYTES = 1 << 21
# Most pages whose rows are read side by side.
_MAX_DEPTH = 16


class Scratch:
    """Memory that is used again from page to page of one call; never shared by threads."""

    def __init__(self) -> None:
        self._pixels = np.empty(0, np.uint8)
        self._coded = bytearray()

    def pixels(self, nbytes: int) -> np.ndarray:
        """Give room for decoded bytes."""
        if self._pixels.size < nbytes:
            self._pixels = np.empty(nbytes, np.uint8)
        return self._pixels[:nbytes]

    def coded(self, nbytes: int) -> memoryview:
        """Give room for bytes as they lie in the file."""
        if len(self._coded) < nbytes:
            self._coded = bytearray(nbytes)
        return memoryview(self._coded)[:nbytes]


class Page(NamedTuple):
    """One page of an open file."""

    fd: files.OpenFile
    file: SourceFile
    ifd: int
    data: int


class AreaReader(ABC):
    """Reads one area of pages that share a layout; made once for a whole call.

    ``gate`` is held while bytes are read, and never while the caller works.
    Not to be shared by threads.
    """

    def __init__(
        self,
        layout: PageLayout,
        area: Area,
        gate: AbstractContextManager[Any],
        scratch: Scratch | None = None,
    ) -> None:
        self.layout = layout
        self.area = area
        self.gate = gate
        self.scratch = scratch or Scratch()

    @property
    @abstractmethod
    def reach_nbytes(self) -> int:
        """The most that is read of a page, in bytes, where compression made nothing larger."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many pages go in a stack: a power of two, 1 where pages are read by themselves."""

    @abstractmethod
    def read(self, page: Page, at: int) -> None:
        """Read the area of a page into its place in a stack, one below :attr:`depth`."""

    @abstractmethod
    def stack(self, n: int) -> np.ndarray:
        """Give the area of the first pages of a stack, a page along axis 0."""

    @abstractmethod
    def pieces(self, page: Page) -> Iterator[tuple[Area, np.ndarray]]:
        """Yield ``(where, values)``, where ``where`` is relative to the area.

        ``values`` has three axes, and is good until the next is asked for.
        """

    def fetch(self, page: Page) -> None:
        """Let a file in a store get what the area needs of a page, in as few requests as it can."""
        if isinstance(page.fd, int):
            return
        page.fd.expect(self._ranges(page))
        with self.gate:
            page.fd.fetch()

    @abstractmethod
    def _ranges(self, page: Page) -> Sequence[tuple[int, int]]:
        """Give offset and length of what will be read."""

    def _fill(self, page: Page, offset: int, out: memoryview) -> None:
        with self.gate:
            got = files.read_at(page.fd, offset, out)
        if got != len(out):
            raise Damaged(f"only {got} of {len(out)} bytes at offset {offset} could be read")


def depth_of(nbytes: int) -> int:
    """Give how many pages go in a stack of which each takes so many bytes."""
    fit = min(PIECE_NBYTES // max(nbytes, 1), _MAX_DEPTH)
    return 1 << max(fit, 1).bit_length() - 1


def span(one: slice) -> range:
    """Give the numbers in a slice of step 1."""
    return range(one.start, one.stop)


class naming:
    """While a page is read, makes what goes wrong an error that names the file and the page."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, err: BaseException | None, traceback: Any) -> None:
        if not isinstance(err, Exception) or isinstance(err, (ScoutIOError, MemoryError)):
            return
        page, what = self._page, str(err) or type(err).__name__
        raise TiffReadError(
            f"cannot read {page.file.path!r} (page whose directory is at byte {page.ifd}): {what}"
        ) from err
