"""What a source is: a small picklable description that reads regions of an array.

Readers describe files as a source; the dask floor makes it lazy; writers ask it
for the regions that they need, however the lazy array was blocked. Nothing here
opens a file.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np

from scout_dask_io.core.grid import (
    Region,
    Shape,
    cuts,
    full_region,
    intersect,
    region_shape,
    region_size,
    relative_to,
    shifted,
    with_axis,
)
from scout_dask_io.core.image_info import FilledPlane, ImageInfo
from scout_dask_io.core.indexing import normalize_index, take
from scout_dask_io.core.voxel_size import VoxelSize

Piece: TypeAlias = tuple[Region, np.ndarray]


class Source(ABC):
    """An array-like that reads regions on demand: no pixels and no open handles inside.

    Instances are picklable and safe to read from several threads. Subclasses
    set ``shape``, ``dtype`` (native byte order) and ``token``, and give
    :meth:`iter_pieces`; indexing rests on it.
    """

    shape: Shape
    dtype: np.dtype[Any]
    #: Names the content: equal for the same files unchanged, different after a change.
    token: str
    #: Whether one read is itself shared out to threads.
    has_own_threads = False
    #: Whether an axis that counts pages is one of planes: files have no letter for it, arrays do.
    has_pages = False
    #: What a band of a write should have where each request takes long, in bytes; 0 for no matter.
    band_nbytes = 0
    #: What a read of a large region holds of answers that it has not come to yet, in bytes.
    ahead_nbytes = 0
    _info: ImageInfo | None = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of the whole array in memory, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def asks_at_once(self) -> bool:
        """Whether a part of a region waits for answers as long as all of it."""
        return False

    @property
    def reads_ahead(self) -> bool:
        """Whether it is of use to read files in order, ahead of who reads parts of them."""
        return False

    @property
    def read_shape(self) -> Shape:
        """Extent per axis of the least region that is decoded at once.

        Reading a part of it costs as much as reading all of it. ``(1, 64,
        2048)`` for planes of 64-row compressed strips; rows of uncompressed
        strips are read singly, so ``(1, 1, 2048)``.
        """
        return (1,) * self.ndim

    @property
    def default_chunks(self) -> tuple[tuple[int, ...], ...]:
        """Dask blocks used where the caller asks for none, as dask's ``chunks``."""
        return tuple((n,) for n in self.shape)

    @property
    def info(self) -> ImageInfo:
        """What metadata state of the image: looked at once, when it is first asked for."""
        if self._info is None:
            self._info = self._look()
        return self._info

    def info_with(self, voxel_size: VoxelSize | None) -> ImageInfo:
        """Give :attr:`info` with a voxel size that counts instead of whatever is stated."""
        return self.info if voxel_size is None else self._look(voxel_size)

    def _look(self, given: VoxelSize | None = None) -> ImageInfo:
        """Look at the metadata; for the voxel size only where none is given."""
        return ImageInfo(voxel_size=given)

    @property
    def filled(self) -> tuple[FilledPlane, ...]:
        """Planes that hold the fill value because their files could not be read."""
        return self.info.missing

    @abstractmethod
    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield ``(where, values)`` pairs that tile ``region``, reading as they go.

        ``where`` is relative to the region's start; pieces are disjoint and
        together cover it. ``values`` has the shape of ``where`` and this
        source's kind and item size, but perhaps another byte order, and is
        only good until the next piece is asked for: the memory is used again.

        This is the one primitive that reads. Each segment is decoded once.
        """

    def read_ahead(self, nbytes: int) -> ReadAhead | None:
        """Give who reads files in order, so many bytes ahead; ``None`` where that is of no use."""
        return None

    def sample_files(self) -> list[tuple[str, int]]:
        """Give a few of its files with their sizes in bytes: who sees them, sees it all."""
        return []

    def narrow(self, region: Region) -> tuple[Source, Region]:
        """Give a source that carries only what ``region`` needs, and the region in it.

        Tasks carry the narrowed source, so that a worker gets the few paths of
        its block and not those of the whole volume.
        """
        return self, region

    def __getitem__(self, index: Any) -> np.ndarray:
        region, rest = normalize_index(index, self.shape)
        return take(self.read(region), rest)

    def read(self, region: Region) -> np.ndarray:
        """Read one region as a new C-contiguous array of native byte order."""
        out = np.empty(region_shape(region), self.dtype)
        self.read_into(region, out)
        return out

    def read_into(self, region: Region, out: np.ndarray) -> None:
        """Read one region into an array of its shape, in native byte order."""
        filled = 0
        if out.size:
            for where, values in self.iter_pieces(region):
                out[where] = values
                filled += region_size(where)
        if filled != out.size:
            raise RuntimeError(
                f"{type(self).__name__} gave {filled} of the {out.size} elements of {region}"
            )

    def reads(
        self, regions: Sequence[Region], outs: Sequence[np.ndarray], n: int
    ) -> list[Callable[[], None]]:
        """Give the work of reading regions into arrays of their shapes, to be done on threads.

        About ``n`` parts where the source reads what regions share once, else one a region.
        """
        return [partial(self.read_into, *pair) for pair in zip(regions, outs, strict=True)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        data = self.read(full_region(self.shape))
        return data if dtype is None else data.astype(dtype, copy=False)

    def __dask_tokenize__(self) -> tuple[str, str]:
        return (type(self).__name__, self.token)


class ReadAhead(Protocol):
    """Files that are read in order, ahead of those who read parts of a source."""

    def follow(self, part: Source) -> Source:
        """Give a part of the source that comes after those before; its reads wait their turn."""

    def close(self) -> None:
        """Read no further; parts that were given are read as any other."""


class ArraySource(Source):
    """A numpy array in memory, as a source."""

    def __init__(self, array: np.ndarray, token: str) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype.newbyteorder("=")
        self.token = token

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield a view of the region."""
        yield full_region(region_shape(region)), self.array[region]

    def narrow(self, region: Region) -> tuple[Source, Region]:
        """Give a source over a view of the region alone."""
        return ArraySource(self.array[region], self.token), full_region(region_shape(region))


class PiecesSource(Source):
    """Arrays in memory that together tile an array of ``shape``."""

    def __init__(self, shape: Shape, pieces: Sequence[Piece], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")
        self.pieces = tuple(pieces)
        self.token = ""

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the part of each piece that lies in the region."""
        for where, values in self.pieces:
            shared = intersect(where, region)
            if shared is not None:
                yield relative_to(shared, region), values[relative_to(shared, where)]


class ViewSource(Source):
    """A region of a source, its axes in another order.

    Parameters
    ----------
    source : Source
        What is looked at.
    region : tuple of slice
        The part of it, in its own axes.
    axes : sequence of int
        For each axis of the view, the source's axis that it is.
    """

    def __init__(self, source: Source, region: Region, axes: Sequence[int]) -> None:
        self.source = source
        self.region = region
        self.axes = tuple(axes)
        self.shape = tuple(region_shape(region)[a] for a in self.axes)
        self.dtype = source.dtype
        self.token = f"{source.token}[{region}{self.axes}]"
        self.band_nbytes, self.ahead_nbytes = source.band_nbytes, source.ahead_nbytes

    @property
    def read_shape(self) -> Shape:
        """The source's own, in the view's order of axes."""
        return tuple(self.source.read_shape[a] for a in self.axes)

    @property
    def phase(self) -> Shape:
        """Per axis, how far into a region of ``read_shape`` the view begins."""
        return tuple(self.region[a].start % self.source.read_shape[a] for a in self.axes)

    @property
    def default_chunks(self) -> tuple[tuple[int, ...], ...]:
        """One region of ``read_shape`` each, cut where the source's are."""
        return tuple(
            tuple(b - a for a, b in pairwise(cuts(n, step, phase)))
            for n, step, phase in zip(self.shape, self.read_shape, self.phase, strict=True)
        )

    def _look(self, given: VoxelSize | None = None) -> ImageInfo:
        """Give what is known of the source, for the region and the order of axes."""
        return self.source.info_with(given).cropped(self.region).transposed(self.axes)

    @property
    def filled(self) -> tuple[FilledPlane, ...]:
        """Those of the source; which planes of the view they are is not told."""
        return tuple(replace(f, plane=()) for f in self.source.filled)

    def sample_files(self) -> list[tuple[str, int]]:
        """Give those of the source."""
        return self.source.sample_files()

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the source's pieces, turned."""
        wanted = list(self.region)
        for part, axis in zip(region, self.axes, strict=True):
            start = self.region[axis].start
            wanted[axis] = slice(start + part.start, start + part.stop)
        for where, values in self.source.iter_pieces(tuple(wanted)):
            yield tuple(where[a] for a in self.axes), values.transpose(self.axes)


class JoinedSource(Source):
    """Regions of sources one after the other along an axis.

    Parameters
    ----------
    parts : sequence of (Source, Region)
        Alike but for their extent along ``axis``; of the same dtype.
    axis : int
        Along which they follow one another.
    """

    def __init__(self, parts: Sequence[tuple[Source, Region]], axis: int) -> None:
        self.parts = tuple(parts)
        self.axis = axis
        extents = [region_shape(region) for _, region in self.parts]
        n = sum(extent[axis] for extent in extents)
        self.shape = with_axis(extents[0], axis, n)
        self.dtype = self.parts[0][0].dtype
        self.token = "+".join(f"{source.token}[{region}]" for source, region in self.parts)
        self.band_nbytes = max(source.band_nbytes for source, _ in self.parts)
        self.ahead_nbytes = max(source.ahead_nbytes for source, _ in self.parts)
        self.has_own_threads = any(source.has_own_threads for source, _ in self.parts)

    @property
    def asks_at_once(self) -> bool:
        """Whether one of the parts does."""
        return any(source.asks_at_once for source, _ in self.parts)

    @property
    def read_shape(self) -> Shape:
        """That of the longest part."""
        longest = max(self.parts, key=lambda part: region_size(part[1]))
        return longest[0].read_shape

    def _within(self, region: Region) -> Iterator[tuple[Source, Region, int]]:
        """Yield what a region touches: a source, where in it, and how far into the region."""
        axis, start = self.axis, 0
        for source, inside in self.parts:
            stop = start + region_shape(inside)[axis]
            low, high = max(start, region[axis].start), min(stop, region[axis].stop)
            if low < high:
                part = with_axis(region, axis, slice(low - start, high - start))
                yield source, shifted(part, inside), low - region[axis].start
            start = stop

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        """Yield the pieces of each part."""
        axis = self.axis
        for source, inside, offset in self._within(region):
            for where, values in source.iter_pieces(inside):
                along = slice(where[axis].start + offset, where[axis].stop + offset)
                yield with_axis(where, axis, along), values

    def narrow(self, region: Region) -> tuple[Source, Region]:
        """Narrow each part that the region touches."""
        parts = [source.narrow(inside) for source, inside, _ in self._within(region)]
        if len(parts) < 2:
            return parts[0] if parts else (self, region)
        return JoinedSource(parts, self.axis), full_region(region_shape(region))

    def sample_files(self) -> list[tuple[str, int]]:
        """Give those of all parts."""
        return [file for source, _ in self.parts for file in source.sample_files()]
