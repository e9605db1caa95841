"""The layouts and cases that are measured, each with a line on what it isolates.

Standard library alone: the child processes of every contender import it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

__all__ = ["CHUNKS", "CODEC", "SIZES", "Case", "Planes", "Size", "all_cases"]

#: Chunk extents of every array that is written or read.
CHUNKS = (64, 64, 64)

#: SCOUT's codec: Blosc zstd 1 with bitshuffle, in Blosc's own block size.
CODEC = {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 2, "blocksize": 0}


@dataclass(frozen=True, slots=True)
class Planes:
    """A folder of uint16 TIFF planes of camera-like noise over blobs."""

    n_planes: int
    height: int
    width: int
    compression: str = "none"  # "none" | "lzw" | "deflate"
    rows_per_strip: int | None = None  # None: the whole plane is one strip
    predictor: bool = False
    sparse: bool = False  # a true header over a hole: no pixels are stored

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent of the stack, ``(z, y, x)``."""
        return (self.n_planes, self.height, self.width)

    @property
    def nbytes(self) -> int:
        """Size of the pixels as uint16, in bytes."""
        return self.n_planes * self.height * self.width * 2

    @property
    def key(self) -> str:
        """A folder name that changes with any setting."""
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:8]
        return f"{self.compression}-{self.n_planes}x{self.height}x{self.width}-{digest}"


@dataclass(frozen=True, slots=True)
class Case:
    """One measured job over one layout."""

    name: str
    kind: str  # "convert" | "computed" | "read-whole" | "read-boxes" | "index" | "plan"
    isolates: str
    planes: Planes
    max_mem: int | None = None  # bytes; for contenders that take a limit
    box: tuple[int, int, int] | None = None  # read-boxes: extents of a box, in elements
    n_boxes: int = 0
    makes_files: bool = True  # False: the layout is described, nothing is written


@dataclass(frozen=True, slots=True)
class Size:
    """The extents that ``--size`` chooses."""

    name: str
    stack: tuple[int, int, int]
    wide: tuple[int, int, int]
    wide_max_mem: int
    computed_max_mem: int
    n_indexed: int
    plan: tuple[int, int, int]
    n_boxes: int
    n_plane_boxes: int
    rows_per_strip: int = field(default=64)


SIZES = {
    # No extent is a multiple of the chunk; two slabs, one of them ragged.
    "small": Size(
        "small",
        stack=(72, 200, 264),
        wide=(66, 520, 648),
        wide_max_mem=128_000_000,
        computed_max_mem=128_000_000,
        n_indexed=200,
        plan=(2_000, 1_000, 1_000),
        n_boxes=20,
        n_plane_boxes=3,
    ),
    "medium": Size(
        "medium",
        stack=(128, 1024, 1024),
        wide=(64, 4096, 4096),
        wide_max_mem=256_000_000,
        computed_max_mem=256_000_000,
        n_indexed=2_000,
        plan=(5_000, 7_000, 7_000),
        n_boxes=200,
        n_plane_boxes=10,
    ),
    "full": Size(
        "full",
        stack=(192, 2048, 2048),
        wide=(64, 8192, 8192),
        wide_max_mem=512_000_000,
        computed_max_mem=512_000_000,
        n_indexed=10_000,
        plan=(100_000, 7_000, 7_000),
        n_boxes=1_000,
        n_plane_boxes=20,
    ),
}


def all_cases(size: Size) -> tuple[Case, ...]:
    """Give every case at one size, in the order in which they run."""
    rows = size.rows_per_strip
    raw = Planes(*size.stack)
    lzw = Planes(*size.stack, compression="lzw", rows_per_strip=rows)
    deflate = Planes(*size.stack, compression="deflate", rows_per_strip=rows, predictor=True)
    onestrip = Planes(*size.stack, compression="deflate", predictor=True)
    # All planes distinct, though 8.6 GB at full size: a plane that comes again
    # within a chunk is a match to a codec that sees the whole chunk.
    wide = Planes(*size.wide)
    indexed = Planes(size.n_indexed, 2048, 2048, sparse=True)
    planned = Planes(*size.plan, sparse=True)
    return (
        Case("convert-raw", "convert", "cutting and encoding: no decoding at all", raw),
        Case("convert-lzw", "convert", "a slow decoder, in strips of 64 rows", lzw),
        Case(
            "convert-deflate", "convert", "a fast decoder and a predictor, 64-row strips", deflate
        ),
        Case(
            "convert-deflate-plane",
            "convert",
            "one compressed strip a plane: a part costs as much as the plane",
            onestrip,
        ),
        Case(
            "convert-wide",
            "convert",
            "planes far wider than memory allows a slab of",
            wide,
            max_mem=size.wide_max_mem,
        ),
        Case(
            "computed",
            "computed",
            "a computed array in blocks of whole planes, written as cubes",
            raw,
            max_mem=size.computed_max_mem,
        ),
        Case("read-whole", "read-whole", "decoding every chunk once, as a dask sum", raw),
        Case(
            "read-boxes",
            "read-boxes",
            "random cubes of a chunk's extents, most across 8 chunks: cost of one access",
            raw,
            box=CHUNKS,
            n_boxes=size.n_boxes,
        ),
        Case(
            "read-planes",
            "read-boxes",
            "3 whole planes at random depths: many chunks for few of their voxels",
            raw,
            box=(3, size.stack[1], size.stack[2]),
            n_boxes=size.n_plane_boxes,
        ),
        Case("index", "index", "opening a folder: every header, no pixel", indexed),
        Case(
            "plan",
            "plan",
            "the lazy array and the write plan of a volume that no disk here holds",
            planned,
            makes_files=False,
        ),
    )
