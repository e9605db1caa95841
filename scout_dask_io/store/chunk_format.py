"""The formats that the library writes object by object: plain v2 arrays, and v3 arrays.

Why it is short: it joins the two ways in which chunks are stored.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from scout_dask_io.files.location import AnyPath
from scout_dask_io.store.chunk_v2 import ArrayFormat, ChunkDecoder, ChunkEncoder
from scout_dask_io.store.chunk_v3 import ObjectDecoder, ObjectEncoder, ShardFormat
from scout_dask_io.store.layout import ArrayLayout, detect_layout

#: ``chunks`` of either is the extent of what one file holds: a chunk, or a shard.
StoredFormat: TypeAlias = ArrayFormat | ShardFormat


def format_of(metadata: dict[str, Any], separator: str) -> StoredFormat | None:
    """Give the format that metadata describe, or ``None`` where zarr itself must be asked."""
    if metadata["zarr_format"] == 3:
        return ShardFormat.from_metadata(metadata)
    return ArrayFormat.from_metadata(metadata, separator)


def format_at(path: AnyPath) -> StoredFormat | None:
    """Give the format of the array at a path, as :func:`format_of`.

    Raises
    ------
    PathNotFoundError, LayoutError
        If there is no array, or it cannot be told how its chunks lie.
    """
    layout: ArrayLayout = detect_layout(path)
    return format_of(layout.metadata, layout.separator)


def encoder_of(fmt: StoredFormat) -> ChunkEncoder | ObjectEncoder:
    """Give what encodes stored objects; one a task, not shared by threads."""
    return ChunkEncoder(fmt) if isinstance(fmt, ArrayFormat) else ObjectEncoder(fmt)


def decoder_of(fmt: StoredFormat) -> ChunkDecoder | ObjectDecoder:
    """Give what decodes stored objects; one a task, not shared by threads."""
    return ChunkDecoder(fmt) if isinstance(fmt, ArrayFormat) else ObjectDecoder(fmt)
