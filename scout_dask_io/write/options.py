"""How a write goes about, as values: what it may use, how chunks are stored, what gives way.

They are made of the arguments of the functions that write, which say what each means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scout_dask_io.store.codecs import LEVEL_CODECS

#: Extents of a chunk where none are given.
CHUNKS = (64, 64, 64)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a write may use; ``None`` leaves it to the machine, or to the cluster.

    Attributes
    ----------
    max_mem : int, str or None
        In bytes, or as ``"2GB"``, of one process.
    nb_workers : int or None
        Threads of a local run.
    """

    max_mem: int | str | None = None
    nb_workers: int | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """How an array is stored; of an image, every level.

    Attributes
    ----------
    chunks : int, sequence of int, or None
        Extents of a chunk for the last axes; ``None`` are those of what stands, or the usual ones.
    codec
        Of the array; or of the full level and of those below it.
    zarr_format : {2, 3}
        Which format.
    shards : int, sequence of int, or None
        Extents of what one file holds.
    """

    chunks: int | Sequence[int] | None = CHUNKS
    codec: Any = LEVEL_CODECS
    zarr_format: int = 2
    shards: int | Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class WriteMode:
    """What becomes of what stands, and when and how the write runs.

    Attributes
    ----------
    overwrite, resume : bool
        Whether what stands is replaced, and whether an unfinished write is finished.
    durable : bool
        Whether files are synced before they count.
    compute : bool
        ``False`` gives a Delayed.
    progress : bool or callable
        What is told meanwhile.
    """

    overwrite: bool = False
    resume: bool = False
    durable: bool = False
    compute: bool = True
    progress: Any = False
