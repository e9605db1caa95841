"""Pages of TIFF files as a source: a description that reads regions, and travels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from typing import Any, cast

import numpy as np

from scout_dask_io.core.grid import Region, Shape, full_region, region_shape
from scout_dask_io.core.image_info import FilledPlane, ImageInfo
from scout_dask_io.core.indexing import normalize_index, take, takes_all
from scout_dask_io.core.source import Piece, Source
from scout_dask_io.core.voxel_size import VoxelSize, merge_sizes
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.files.requests import BATCH_NBYTES
from scout_dask_io.files.system import CAN_ASK
from scout_dask_io.tiff.metadata import Stated, sizes_beside
from scout_dask_io.tiff.open_file import shared_gate
from scout_dask_io.tiff.page_layout import PageLayout, SourceFile
from scout_dask_io.tiff.page_reader import (
    AreaReader,
    Opener,
    Scratch,
    iter_stacks,
    naming,
    open_pages,
)
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.pending import PendingHeaders
from scout_dask_io.tiff.raw_reader import RawReader, area_reader
from scout_dask_io.tiff.read_ahead import PageQueue

#: A dask block is a page by default, up to this size.
MAX_BLOCK_NBYTES = 256 << 20
#: A band of a write from a store: 64 planes of 1024 x 1024 are then asked for whole or in halves,
#: not in eighths.
STORE_BAND_NBYTES = 128 << 20


class TiffSource(Source):
    """Pages of one or more TIFF files, stacked in leading axes. Reads nothing by itself.

    The shape is that of the leading axes and then that of a page: ``(rows,
    columns)`` or ``(rows, columns, samples)``. Every read opens a file, compares
    it with the one that was described, reads the segments that the region
    needs and closes it.

    Parameters
    ----------
    table : PageTable
        The pages along the leading axes; their layouts are all of one shape, and of one dtype
        but for its byte order.
    token : str
        Names the content.
    nb_workers : int, optional
        How many threads of a process read these files at once.
    file_ndim : int
        How many of the leading axes count files; those after them count the
        pages of a file.
    filled : sequence of FilledPlane
        What the pages of no file stand for.
    stated : Stated
        What the first file says beside its pixels, or of two axes that count files what is
        known of the channels along the first. As ``filled``, it is known of the whole stack, and
        not of its parts.
    options : dict, optional
        What it takes to reach files in an object store; ``None`` says that they are
        local. No part of the token, and shown nowhere: there may be secrets in it.
    pending : PendingHeaders, optional
        What files must be whose headers are read when their pixels are.

    Raises
    ------
    SourceChangedError
        On reading, if a file is not the one that was described.
    TiffReadError
        On reading, if a file is damaged.
    ShapeMismatchError
        On reading, if the header of a file is read then, and it has another shape or dtype.
    """

    has_pages = True

    def __init__(
        self,
        table: PageTable,
        token: str,
        *,
        nb_workers: int | None = None,
        file_ndim: int = 0,
        filled: Sequence[FilledPlane] = (),
        stated: Stated | None = None,
        options: dict[str, Any] | None = None,
        pending: PendingHeaders | None = None,
    ) -> None:
        self.table = table
        self._filled = tuple(filled)
        self._stated = stated
        self._options = options
        self._pending = pending
        self.has_own_threads = options is not None  # pages are fetched ahead
        self.band_nbytes = 0 if options is None else STORE_BAND_NBYTES
        self.ahead_nbytes = 0 if options is None else BATCH_NBYTES
        self._gate_key = token
        self._gate: AbstractContextManager[Any] | None = None
        self._queued: tuple[PageQueue, int] | None = None
        self.token = token
        self.nb_workers = nb_workers
        self.file_ndim = file_ndim
        self.dtype = _native(table.layouts[0])
        self.shape = (*table.pages.shape[:-1], *table.layouts[0].shape)

    @property
    def stated(self) -> Stated:
        """What the first file, or the set of files, says beside its pixels."""
        return self._stated or Stated()

    @property
    def lead_ndim(self) -> int:
        """Number of axes before the page's own."""
        return self.table.pages.ndim - 1

    @property
    def layouts(self) -> tuple[PageLayout, ...]:
        """The layouts that the pages have."""
        return self.table.layouts

    @property
    def files(self) -> list[SourceFile]:
        """The files that are read, with the facts by which a change is noticed."""
        return [self.table.files[k] for k in range(len(self.table.files))]

    def place_of(self, file: SourceFile) -> Location:
        """Give where one of the files lies."""
        if self._options is None:
            return LocalLocation(file.path)
        return RemoteLocation(file.path, self._options)

    def sample_files(self) -> list[tuple[str, int]]:
        """Give the first file and the last; none of a store, which tells by its answers."""
        if self._options is not None:
            return []
        files = self.table.files
        ends = sorted({0, len(files) - 1})
        return [files[k][:2] for k in ends] if len(files) else []

    @property
    def filled(self) -> tuple[FilledPlane, ...]:
        """Planes that hold zeros because their files could not be read.

        Known of the whole stack; a narrowed source reads them as zeros, and does
        not carry the record.
        """
        return self._filled

    def with_attributes(self, attributes: Mapping[str, Any]) -> TiffSource:
        """Give the same source with what images that are made of it are to note."""
        noted = object.__new__(TiffSource)
        noted.__dict__.update(self.__dict__)
        noted._stated = replace(self._stated or Stated(), attributes=attributes)
        noted._info = None
        return noted

    def _look(self, given: VoxelSize | None = None) -> ImageInfo:
        """Give what the first file states, its sizes after those that lie beside the files."""
        stated = self._stated
        if stated is None:
            return ImageInfo(voxel_size=given)
        if given is None:
            sizes: list[VoxelSize] = []
            if stated.level == 0:
                first = self.place_of(self.table.files[0])
                sizes += sizes_beside(first, in_dataset=self.file_ndim > 0)
            given = merge_sizes([*sizes, *stated.sizes])
        axes = "cz"[2 - self.file_ndim :] + stated.axes
        axes = axes if stated.axes and len(axes) == self.ndim else ""
        info = ImageInfo(axes, given, stated.channels, self._filled, attributes=stated.attributes)
        return stated.image(axes, self.shape, info, self.table.files[0].path)

    @property
    def read_shape(self) -> Shape:
        """A row of raw pages, a strip or a tile of others; the largest where pages differ."""
        each = zip(*(layout.read_shape for layout in self.table.layouts), strict=True)
        return (1,) * self.lead_ndim + tuple(max(extents) for extents in each)

    @property
    def default_chunks(self) -> tuple[tuple[int, ...], ...]:
        """One block a file, or a page where that is over 256 MiB, or bands of segments."""
        extents = [1] * self.lead_ndim + list(self.shape[self.lead_ndim :])
        block_nbytes = math.prod(extents) * self.dtype.itemsize
        if self.file_ndim:
            in_file = math.prod(self.shape[self.file_ndim : self.lead_ndim])
            if in_file * block_nbytes <= MAX_BLOCK_NBYTES:
                extents[self.file_ndim : self.lead_ndim] = self.shape[
                    self.file_ndim : self.lead_ndim
                ]
        if block_nbytes > MAX_BLOCK_NBYTES:
            at = self.lead_ndim
            row_nbytes = block_nbytes // self.shape[at]
            step = self.read_shape[at]
            extents[at] = max(1, MAX_BLOCK_NBYTES // (row_nbytes * step)) * step
        return tuple(_cut(n, e) for n, e in zip(self.shape, extents, strict=True))

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the region in pieces that stay in the cache, some pages at a time, or rows of one.

        Pieces are rows of raw pages and clipped segments of others, in file
        byte order where nothing had to be undone.
        """
        if 0 in region_shape(region):
            return
        n = self.lead_ndim
        new_axes = (*(np.newaxis,) * n, ...)
        has_samples = len(region) - n > 2
        table, lead = self._settled(region[:n])
        readers = self._readers(table, region[n:])
        zeros = np.broadcast_to(self.dtype.type(0), (*(1,) * n, *region_shape(region[n:])))
        whole = full_region(zeros.shape[n:])
        first = readers[0]
        opener = self._opener_of(region[:n])
        # Closed here after an error too: its traceback keeps what it was raised in.
        with closing(open_pages(table, lead, readers, self._options, opener)) as pages:
            if n and len(readers) == 1 and first.depth > 1:
                for lead, stack in iter_stacks(first, pages):
                    if stack is None:
                        yield (*lead, *whole), zeros
                    else:
                        values = stack if has_samples else stack[..., 0]
                        yield (*lead, *whole), values[new_axes[1:]]
                return
            for place, number, page in pages:
                if page is None:
                    yield (*place, *whole), zeros
                    continue
                with naming(page):
                    for where, values in readers[number].pieces(page):
                        if has_samples:
                            yield (*place, *where), values[new_axes]
                        else:
                            yield (*place, where[0], where[1]), values[..., 0][new_axes]

    def _settled(self, lead: Region) -> tuple[PageTable, Region]:
        """Give the table with the pages of a region all known, and where the region is in it."""
        return (
            (self.table, lead) if self._pending is None else self._pending.settle(self.table, lead)
        )

    def _readers(self, table: PageTable, inner: Region) -> list[AreaReader]:
        area = (inner[0], inner[1], inner[2] if len(inner) > 2 else slice(0, 1))
        gate, scratch = self._own_gate(), Scratch()
        return [area_reader(layout, area, gate, scratch) for layout in table.layouts]

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Read one region into an array of its shape, in native byte order."""
        n = self.lead_ndim
        inner = region[n:]
        whole_rows = region_shape(inner[1:]) == self.shape[n + 1 :]
        as_in_memory = whole_rows and out.size and out[(0,) * n].flags.c_contiguous
        table, lead = self._settled(region[:n]) if as_in_memory else (self.table, region[:n])
        if not as_in_memory or not all(_is_memory_image(layout) for layout in table.layouts):
            super().read_into(region, out)
            return
        # Pixels lie in the file as they will in memory: no copy is needed.
        readers = cast("list[RawReader]", self._readers(table, inner))
        opener = self._opener_of(region[:n])
        with closing(open_pages(table, lead, readers, self._options, opener)) as pages:
            for place, number, page in pages:
                if page is None:
                    out[place] = 0
                    continue
                memory = out[place].reshape(-1).view(np.uint8).data
                with naming(page):
                    readers[number].read_rows(page, memory)

    def __getitem__(self, index: Any) -> np.ndarray:
        region, rest = normalize_index(index, self.shape)
        n = self.lead_ndim
        if all(map(takes_all, rest[:n])):
            return take(self.read(region), rest)
        # Steps and lists along the leading axes must not read what lies between.
        picks = [
            np.arange(s.start, s.stop)[slice(0, 1) if isinstance(r, int) else r]
            for s, r in zip(region[:n], rest[:n], strict=True)
        ]
        part = self._part(np.ix_(*picks), "picked")
        whole = tuple(slice(0, len(k)) for k in picks)
        kept = tuple(0 if isinstance(r, int) else slice(None) for r in rest[:n])
        return take(part.read((*whole, *region[n:])), (*kept, *rest[n:]))

    def narrow(self, region: Region) -> tuple[Source, Region]:
        """Give a source with only the pages and files that the region needs."""
        n = self.lead_ndim
        lead = region[:n]
        if region_shape(lead) == self.shape[:n]:
            return self, region
        part = self._part(lead, ",".join(f"{s.start}:{s.stop}" for s in lead))
        inner = full_region(region_shape(lead))
        return part, (*inner, *region[n:])

    def _part(self, lead: Any, where: str) -> TiffSource:
        """Give a source of some of the pages, by an index along the leading axes."""
        part = object.__new__(TiffSource)
        part.__dict__.update(self.__dict__)
        part.table = self.table.part(lead)
        part.shape = (*part.table.pages.shape[:-1], *self.shape[self.lead_ndim :])
        part.token = f"{self.token}[{where}]"
        part._filled, part._stated, part._info, part._queued = (), None, None, None
        return part

    def _opener_of(self, lead: Region) -> Opener | None:
        """Give who opens files once they were read ahead, where that is done."""
        if self._queued is None:
            return None
        queue, first = self._queued
        shape = self.shape[: self.lead_ndim]
        numbers = np.arange(first, first + math.prod(shape)).reshape(shape)[lead].reshape(-1)
        return lambda number, file: queue.open(int(numbers[number]), file)

    @property
    def reads_ahead(self) -> bool:
        """Of files on a disk: a store does not seek."""
        return self._options is None and CAN_ASK

    def read_ahead(self, nbytes: int) -> PagesAhead | None:
        """Give who has whole files read in order."""
        return PagesAhead(nbytes) if self.reads_ahead else None

    def _own_gate(self) -> AbstractContextManager[Any]:
        if self._gate is None:
            self._gate = shared_gate(self._gate_key, self.nb_workers)
        return self._gate

    def __reduce__(self) -> tuple[Any, ...]:
        # Who reads ahead does so in this process.
        state = dict(self.__dict__, _gate=None, _queued=None)
        del state["dtype"]
        return _load, (state,)


class PagesAhead:
    """Pages of sources that are read in order, so many bytes ahead of who reads parts of them."""

    def __init__(self, nbytes: int) -> None:
        self._queue = PageQueue(nbytes)
        self.close = self._queue.close

    def follow(self, part: Source) -> Source:
        """Give a source whose reads wait until their pages are here."""
        if not isinstance(part, TiffSource):
            return part
        first = self._queue.add(part.table)
        waiting = object.__new__(TiffSource)
        waiting.__dict__.update(part.__dict__)
        waiting._queued = self._queue, first
        return waiting


def token_of(files: Iterable[SourceFile], what: str) -> str:
    """Name the content of a source by its files, as they were found, and what is made of them."""
    digest = hashlib.blake2b(what.encode(), digest_size=16)
    for f in files:
        digest.update(f"\0{f.path}\0{f.size}\0{f.mtime_ns}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _load(state: dict[str, Any]) -> TiffSource:
    source = object.__new__(TiffSource)
    source.__dict__.update(state)
    source.dtype = _native(source.layouts[0])
    return source


def _native(layout: PageLayout) -> np.dtype[Any]:
    return np.dtype(layout.dtype).newbyteorder("=")


def _is_memory_image(layout: PageLayout) -> bool:
    return layout.coding == "raw" and not layout.planar and np.dtype(layout.dtype).isnative


def _cut(n: int, extent: int) -> tuple[int, ...]:
    whole, rest = divmod(n, extent)
    return (extent,) * whole + ((rest,) if rest else ())
