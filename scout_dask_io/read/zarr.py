"""The reader of Zarr: a stored array becomes a lazy dask array."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import dask.array as da

from scout_dask_io.files.location import Location, locate
from scout_dask_io.run.lazy import lazy_array
from scout_dask_io.store.labels import open_label
from scout_dask_io.store.source import level_source, open_level


def read_zarr(
    path: str | os.PathLike[str] | Location,
    *,
    chunks: Any = None,
    nested: bool = True,
    level: int = 0,
    label: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> da.Array:
    """Give a lazy dask array of a stored Zarr array, or of a level of an OME-Zarr image.

    Building it reads the metadata; a block, when computed, decodes the chunks
    that it touches, each once, straight from their files (plain v2 arrays; v3,
    sharded and filtered ones go through zarr). Whether chunk files are nested or
    flat is what lies on disk, so legacy arrays without ``dimension_separator``
    read right. A chunk without a file holds the fill value.

    Parameters
    ----------
    path : str or path-like
        The array's directory, or its URL, e.g. ``"s3://bucket/a.zarr"``; or an image's.
    chunks : optional
        Dask blocks, in any form that dask takes. By default a few whole chunks,
        about 32 MB, wide along the last axes.
    nested : bool
        What to take an array for that has no chunk yet and says nothing.
    level : int
        Which level, where ``path`` is the group of an OME-Zarr image; 0 is the full one.
    label : str, optional
        The name of labels of the image at ``path``, which are read in its place.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    dask.array.Array
        In native byte order. Its name changes when chunk files are added or
        replaced; a chunk overwritten in place cannot be told without reading.

    Raises
    ------
    PathNotFoundError
        If there is no array (a ``FileNotFoundError``), or an unfinished one.
    LayoutError
        If the metadata are damaged, or both layouts lie on disk.
    ChunkReadError
        On computing, if a chunk is damaged, naming its file.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> import scout_dask_io as io
    >>> path = tempfile.mkdtemp() + "/a.zarr"
    >>> _ = io.write_zarr(path, np.arange(60).reshape(3, 4, 5), (2, 2, 2))
    >>> io.read_zarr(path)[1, 2].compute()
    array([30, 31, 32, 33, 34])
    """
    place = locate(path, storage_options)
    if label is None:
        source = open_level(place, level, nested=nested)
    else:
        source = level_source(open_label(place, label), level, nested=nested)
    return lazy_array(source, chunks, name="read-zarr")
