"""How a write goes about, as values: what it may use, how chunks are stored, what gives way.

They are made of the arguments of the functions that write, which say what each means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scout_dask_io.errors import ArgumentError
from scout_dask_io.run.settings import NAMESPACE, configured
from scout_dask_io.store.codecs import LEVEL_CODECS, PRESETS, codecs_of_levels

#: Extents of a chunk where none are given or configured.
CHUNKS = (64, 64, 64)
#: The codec that is configured, else the usual one.
DEFAULT = "default"


def usual_chunks() -> int | Sequence[int]:
    """Give the extents of a chunk where none are given: those that are configured, else the usual.

    Raises
    ------
    ArgumentError
        If the setting is none.
    """
    found = configured("chunks")
    if found is None:
        return CHUNKS
    extents = found if isinstance(found, (list, tuple)) else [found]
    if not extents or not all(type(n) is int and (n == -1 or n > 0) for n in extents):
        raise ArgumentError(
            f"the setting {NAMESPACE}.chunks of dask.config is {found!r}, expected extents of a "
            "chunk in elements, such as 64 or [64, 256, 256]"
        )
    return tuple(found) if isinstance(found, list) else found


def usual_codecs(codec: Any) -> tuple[Any, Any]:
    """Give the codec of the full level, or of an array, and that of the levels below it.

    ``"default"`` is what is configured, one or two, else the usual ones.

    Raises
    ------
    ArgumentError
        If the setting is none, or ``codec`` has neither one nor two.
    """
    if not isinstance(codec, str) or codec != DEFAULT:
        return codecs_of_levels(codec)
    found = configured("codec")
    if found is None:
        return LEVEL_CODECS
    both = tuple(found) if isinstance(found, (list, tuple)) else (found, found)
    if len(both) != 2 or not all(each in PRESETS for each in both if isinstance(each, str)) or any(
        not isinstance(each, (str, Mapping)) for each in both
    ):  # fmt: skip
        raise ArgumentError(
            f"the setting {NAMESPACE}.codec of dask.config is {found!r}, expected one of "
            f"{', '.join(PRESETS)}, the configuration of a numcodecs codec, or two of them, of the "
            "full level of an image and of those below it"
        )
    return both[0], both[1]


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
        Of the array; or of the full level and of those below it; or ``"default"``.
    zarr_format : {2, 3}
        Which format.
    shards : int, sequence of int, or None
        Extents of what one file holds.
    """

    chunks: int | Sequence[int] | None = None
    codec: Any = DEFAULT
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
