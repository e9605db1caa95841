"""Everything that is measured: us, the peers and the floor.

A contender names a module of this package. For each kind of case the module
has a function of that name (``convert``, ``computed``, ``reader``, ``index``,
``plan``) that imports what it needs, makes ready, and gives back the work to be
timed. An ``ImportError`` there makes the contender absent, and the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["CONTENDERS", "US", "Contender", "function_name"]

#: The contender that the others are compared with.
US = "ours"


@dataclass(frozen=True)
class Contender:
    """One way to do the kinds of cases that it takes."""

    name: str
    module: str
    what: str
    kinds: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()  # cases; empty is every case of its kinds
    interpreter: str = ""  # "" is this one; else a name that the command line maps to a path
    slabs_held: float = 0.0  # memory of a convert, in slabs one chunk thick
    volumes_held: float = 0.0  # memory of a convert, in whole volumes
    graph_nbytes: float = 0.0  # memory of a plan, in bytes a stored chunk
    output: str = "zarr"  # "zarr" | "shards" | "none": what a convert leaves behind


_READS = ("read-whole", "read-boxes")

CONTENDERS = (
    Contender(
        US,
        "ours",
        "scout_dask_io, default codec preset",
        ("convert", "computed", *_READS, "index", "plan"),
    ),
    Contender(
        "ours-lz4",
        "ours",
        "scout_dask_io, codec='lz4'",
        ("convert",),
        options={"codec": "lz4"},
        only=("convert-raw",),
    ),
    Contender(
        "ours-direct",
        "ours",
        "read_region of the same lazy array: no graph",
        ("read-boxes",),
        options={"direct": True},
    ),
    Contender(
        "floor",
        "floor",
        "chunks already cut in memory (and strips read), only coded; our Blosc block size",
        ("convert", "read-whole"),
        output="none",
        volumes_held=1.5,
    ),
    Contender(
        "floor-blosc-block",
        "floor",
        "the same in Blosc's own block size, as the peers use it",
        ("convert",),
        options={"whole_chunk_blocks": False},
        only=("convert-raw",),
        output="none",
        volumes_held=1.5,
    ),
    Contender(
        "scout",
        "scout",
        "the original SCOUT way: pool of processes over z-slabs, zarr 3",
        ("convert",),
        slabs_held=2.2,
    ),
    Contender(
        "scout-zarr2",
        "scout",
        "the original SCOUT way on zarr 2.18",
        ("convert",),
        interpreter="zarr2",
        slabs_held=2.2,
    ),
    Contender(
        "dask-image",
        "dask_ways",
        "dask-image imread, rechunk, to_zarr",
        ("convert", "index"),
        options={"reader": "dask-image"},
        volumes_held=2.0,
    ),
    Contender(
        "aszarr",
        "dask_ways",
        "tifffile aszarr, from_zarr, rechunk, to_zarr",
        ("convert", "index"),
        options={"reader": "aszarr"},
        volumes_held=2.0,
    ),
    Contender(
        "rechunk-to-zarr",
        "dask_ways",
        "the same lazy array, rechunk, to_zarr",
        ("computed", "plan"),
        graph_nbytes=3_000,
    ),
    Contender(
        "tensorstore",
        "slabs",
        "z-slabs on threads, TensorStore; reads: TensorStore alone",
        ("convert", *_READS),
        options={"writer": "tensorstore"},
        slabs_held=4.0,
    ),
    Contender(
        "tensorstore-dask",
        "slabs",
        "TensorStore under da.from_array",
        _READS,
        options={"writer": "tensorstore", "under_dask": True},
    ),
    Contender(
        "zarr-python",
        "slabs",
        "z-slabs on threads, zarr-python; reads: zarr-python alone",
        ("convert", *_READS),
        options={"writer": "zarr"},
        slabs_held=4.0,
    ),
    Contender(
        "zarrs",
        "slabs",
        "the same with the zarrs codec pipeline",
        ("convert", *_READS),
        options={"writer": "zarrs"},
        slabs_held=4.0,
    ),
    Contender("from-zarr", "dask_ways", "da.from_zarr", _READS, options={"reader": "from-zarr"}),
    Contender(
        "stack-to-chunk",
        "stack",
        "stack-to-chunk, pool of processes; Zarr v3, a slab a shard",
        ("convert",),
        interpreter="stack-to-chunk",
        output="shards",
        slabs_held=4.0,
    ),
    Contender(
        "tifffile-headers",
        "dask_ways",
        "every header opened by tifffile, one after another",
        ("index",),
        options={"reader": "headers"},
    ),
)


def function_name(kind: str) -> str:
    """Give the function of a contender's module that makes a kind of case ready."""
    return "reader" if kind.startswith("read-") else kind
