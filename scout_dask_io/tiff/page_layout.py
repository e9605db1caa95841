"""What TIFF pages share and where each one lies: plain data, small enough to travel.

A *page* is one image file directory (IFD). Its :class:`PageLayout` is what
decoding needs and what thousands of pages share. What differs from page to
page is two numbers, kept in one integer table; the strip and tile tables of
compressed pages stay in the files and are read again when pixels are wanted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scout_dask_io.core.grid import Shape

#: Columns of a page table: index of the file, index of the layout, offset of
#: the IFD, and offset of the pixels of a raw page (-1 where it is not raw).
FILE, LAYOUT, IFD, DATA = range(4)
#: In the column of files: no file, the page holds zeros.
NO_FILE = -1
#: In the column of directories: the file's header is yet to be read, and its page has the number
#: that the column of pixels holds.
UNREAD = -2

CODEC_NAMES = {
    1: "none",
    2: "ccitt-rle",
    3: "ccitt-fax3",
    4: "ccitt-fax4",
    5: "lzw",
    6: "old-jpeg",
    7: "jpeg",
    8: "deflate",
    32773: "packbits",
    32946: "deflate",
    33003: "jpeg2000",
    33005: "jpeg2000",
    34712: "jpeg2000",
    34887: "lerc",
    34892: "jpeg",
    34925: "lzma",
    34926: "zstd",
    34934: "jpeg-xr",
    48124: "jetraw",
    50000: "zstd",
    50001: "webp",
    50002: "jpeg-xl",
    52546: "jpeg-xl",
}


@dataclass(frozen=True, slots=True)
class PageLayout:
    """How the pixels of a page are stored: all that decoding needs but the offsets.

    Attributes
    ----------
    rows, columns : int
        Extent of the page, in pixels.
    samples : int
        Length of the trailing samples axis, or 0 where the page has none.
    planar : bool
        Samples are stored one after the other, not interleaved. The samples
        axis is the last one all the same.
    dtype : str
        As stored, with byte order, e.g. ``">u2"``.
    compression, predictor : int
        Values of the TIFF tags.
    tiled : bool
        Segments are tiles; otherwise strips.
    segment_rows, segment_columns : int
        Extent of a whole segment, in pixels.
    coding : str
        ``"raw"``: all pixels lie in one run of bytes. ``"direct"``: segments
        that one codec call decodes. ``"general"``: tifffile decodes.
    extra : int
        Checksum of whatever else a general decoder depends on.
    sparse : bool
        Some segments were never written, and it is allowed to read them as holes.
    hole : bytes
        The pixel that stands where they are, in the byte order of ``dtype``; empty for zero.
    depth, segment_depth : int
        Planes of the directory that a page is one of, and of its segments where those are
        volumes; plane ``k`` has ``-1 - k`` in the page table's last column.
    """

    rows: int
    columns: int
    samples: int
    planar: bool
    dtype: str
    compression: int
    predictor: int
    tiled: bool
    segment_rows: int
    segment_columns: int
    coding: str
    extra: int = 0
    sparse: bool = False
    hole: bytes = b""
    depth: int = 1
    segment_depth: int = 1

    @property
    def shape(self) -> Shape:
        """Shape of the page: ``(rows, columns)`` or ``(rows, columns, samples)``."""
        plane = (self.rows, self.columns)
        return (*plane, self.samples) if self.samples else plane

    @property
    def nbytes(self) -> int:
        """Size of the decoded page, in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def bands(self) -> int:
        """Number of sample planes that are stored apart."""
        return self.samples if self.planar and self.samples else 1

    @property
    def interleaved(self) -> int:
        """Number of samples stored together at one pixel."""
        return 1 if self.planar else max(self.samples, 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Number of segments down and across one sample plane."""
        return -(-self.rows // self.segment_rows), -(-self.columns // self.segment_columns)

    @property
    def n_segments(self) -> int:
        """Number of segments of the whole directory."""
        down, across = self.grid
        return down * across * self.bands * self.deep

    @property
    def deep(self) -> int:
        """Number of segments along the planes of a directory."""
        return -(-self.depth // self.segment_depth)

    @property
    def segment_nbytes(self) -> int:
        """Size of one whole decoded segment, in bytes."""
        size = self.segment_rows * self.segment_columns * self.interleaved * self.segment_depth
        return size * np.dtype(self.dtype).itemsize

    @property
    def read_shape(self) -> Shape:
        """Least region of the page that is decoded at once."""
        if self.coding == "raw":
            plane: Shape = (1, self.columns)
        else:
            plane = (min(self.segment_rows, self.rows), min(self.segment_columns, self.columns))
        return (*plane, 1 if self.planar else self.samples) if self.samples else plane


@dataclass(frozen=True, slots=True)
class DescribedPage:
    """One page, as the header check found it."""

    layout: PageLayout
    ifd: int
    data: int


class SourceFile(NamedTuple):
    """A file and the facts by which a change of it is noticed.

    Of an object in a store ``path`` is its URL, ``mtime_ns`` a number that stands for its
    state, and ``inode`` 0.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int


class FileTable:
    """Paths and facts of many files: folders are kept once, numbers in one table.

    Two million numbers in Python objects would be 60 MB for the 100,000 planes
    of a large brain; this is 3 MB and as many bytes when pickled.
    """

    __slots__ = ("_facts", "_folders", "_names")

    def __init__(self, folders: tuple[str, ...], names: tuple[str, ...], facts: np.ndarray) -> None:
        self._folders = folders
        self._names = names
        # Columns: folder, size, mtime_ns, inode. Inodes of network file
        # systems use all 64 bits.
        self._facts = facts

    @classmethod
    def of(cls, files: Iterable[SourceFile]) -> FileTable:
        """Build the table of some files, in their order."""
        folders: dict[str, int] = {}
        names, facts = [], []
        for file in files:
            name = os.path.basename(file.path)
            names.append(name)
            folder = file.path[
                : len(file.path) - len(name)
            ]  # with its separator: joining is adding
            at = folders.setdefault(folder, len(folders))
            facts.append((at, file.size, file.mtime_ns & 0xFFFFFFFFFFFFFFFF, file.inode))
        table = np.array(facts, dtype=np.uint64).reshape(len(names), 4)
        return cls(tuple(folders), tuple(names), table)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, at: int) -> SourceFile:
        folder, size, mtime_ns, inode = self._facts[at].tolist()
        return SourceFile(self._folders[folder] + self._names[at], size, mtime_ns, inode)

    def span(self, start: int, stop: int) -> FileTable:
        """Give the files from ``start`` up to ``stop``, without copying numbers."""
        return FileTable(self._folders, self._names[start:stop], self._facts[start:stop])

    def pick(self, picks: Sequence[int]) -> FileTable:
        """Give the files at some positions."""
        names = tuple(self._names[k] for k in picks)
        return FileTable(self._folders, names, self._facts[np.asarray(picks, dtype=np.intp)])

    def __reduce__(self) -> tuple[Any, ...]:
        used = np.unique(self._facts[:, 0]).tolist()
        if len(used) == len(self._folders):
            folders, facts = self._folders, self._facts
        else:
            folders = tuple(self._folders[k] for k in used)
            facts = self._facts.copy()
            facts[:, 0] = np.searchsorted(np.array(used, dtype=np.uint64), facts[:, 0])
        return _load_files, (folders, self._names, facts.tobytes())


def _load_files(folders: tuple[str, ...], names: tuple[str, ...], facts: bytes) -> FileTable:
    return FileTable(folders, names, np.frombuffer(facts, np.uint64).reshape(-1, 4))
