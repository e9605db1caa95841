"""How large a voxel is: asked of a path, or of the array that a reader gave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import dask.array as da

from scout_dask_io.core.ome_metadata import LABEL_KEY
from scout_dask_io.core.source import Source
from scout_dask_io.core.voxel_size import (
    ATTRIBUTE,
    VoxelSize,
    as_voxel_size,
    from_attribute,
    merge_sizes,
)
from scout_dask_io.errors import ArgumentError, PathNotFoundError, TiffReadError
from scout_dask_io.files.location import Location, is_path, locate_file
from scout_dask_io.read.labels import labels_for
from scout_dask_io.run.lazy import source_of
from scout_dask_io.store.image import image_of_node
from scout_dask_io.store.image_info import stored_info
from scout_dask_io.store.metadata import read_node
from scout_dask_io.tiff.folder import is_tiff, list_channels, list_planes
from scout_dask_io.tiff.metadata import file_sizes, sizes_beside


def voxel_size(
    path_or_array: Any, *, storage_options: Mapping[str, Any] | None = None
) -> VoxelSize | None:
    """Give the size of a voxel as it is stated for a path or an array; ``None`` if it is not.

    What counts, the first before the next: SCOUT's ``voxel_size.csv`` (z, y, x
    in nanometres) beside the planes or in the folder of the dataset, then in the
    first TIFF file its OME-XML, ImageJ's metadata, its resolution tags. An axis
    that one leaves open is taken from the next. Of Zarr, the attribute
    ``voxel_size_um`` counts, where there is none the metadata of the OME-Zarr
    image that it is, or is a level of, and then a ``voxel_size.csv`` beside it.
    Nothing is guessed: values without a unit, and print resolutions such as 72
    dpi, are no sizes. Reads headers and metadata alone.

    Parameters
    ----------
    path_or_array : path-like, dask.array.Array or zarr.Array
        A TIFF, a folder of planes or of channels, a Zarr array or an OME-Zarr image, or the
        URL of one; or an array as a reader of this library gave it. An array that was computed
        on, sliced too, does not say how large its voxels are.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    VoxelSize or None
        In micrometres, with where it was found.

    Warns
    -----
    UserWarning
        If two statements differ by more than 1 %, naming both; or if a
        ``voxel_size.csv`` cannot be understood.

    Raises
    ------
    PathNotFoundError, TiffReadError, LayoutError
        If the path cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np, scout_dask_io as io
    >>> folder = tempfile.mkdtemp()
    >>> ones = np.ones((4, 5, 6), "u2")
    >>> _ = io.write_zarr(folder + "/a.zarr", ones, voxel_size=(4, 1.8, 1.8))
    >>> io.voxel_size(folder + "/a.zarr").micrometres
    (4.0, 1.8, 1.8)
    """
    if isinstance(path_or_array, da.Array):
        source = source_of(path_or_array)
        return None if source is None else source.info.voxel_size
    if isinstance(path_or_array, Source):
        return path_or_array.info.voxel_size
    if is_path(path_or_array):
        return _of_place(locate_file(path_or_array, storage_options))
    if hasattr(path_or_array, "attrs"):
        return from_attribute(dict(path_or_array.attrs).get(ATTRIBUTE), "attributes")
    if hasattr(path_or_array, "shape"):
        return None
    raise ArgumentError(
        f"a path or an array was expected, got {type(path_or_array).__name__}: {path_or_array!r}"
    )


def size_for(data: Any, given: Any) -> VoxelSize | None:
    """Give the voxel size to write with ``data``: the one given, or what is stated for them.

    Raises
    ------
    ArgumentError
        If ``given`` is no voxel size.
    """
    size = as_voxel_size(given)
    is_array = isinstance(data, Source) or hasattr(data, "dtype")
    return voxel_size(data) if size is None and is_array else size


def attributes_with(
    attributes: dict[str, Any] | None, data: Any, given: Any
) -> dict[str, Any] | None:
    """Give the attributes of an array that is written from ``data``, with the size of a voxel.

    Those of labels say that they are. The size is the one ``given``, else the attribute's
    own, else what is stated for the data.

    Raises
    ------
    ArgumentError
        If ``given`` is no voxel size.
    """
    labels, record = labels_for(data, None)
    if labels and LABEL_KEY not in (attributes or {}):
        attributes = {**(attributes or {}), LABEL_KEY: record}
    stands = given is None and ATTRIBUTE in (attributes or {})
    size = None if stands else size_for(data, given)
    if size is None:
        return attributes
    return {**(attributes or {}), ATTRIBUTE: list(size.micrometres)}


def _of_place(place: Location) -> VoxelSize | None:
    # A store may forbid to ask for a file of the name of an array.
    may_be_file = place.on_disk or is_tiff(place.name)
    node = None if may_be_file else read_node(place)
    if node is None and not place.is_folder and place.is_file():
        return merge_sizes([*sizes_beside(place, in_dataset=False), *file_sizes(place)])
    if may_be_file:
        node = read_node(place)
    if node is None:
        return merge_sizes(_of_folder(place))
    image = image_of_node(node)
    return stored_info(node, (), None if image is None else (image, 0)).voxel_size


def _of_folder(folder: Location) -> Iterator[VoxelSize]:
    """Yield what is stated by the first plane that can be read, and beside it."""
    try:
        planes = list_planes(folder)
    except PathNotFoundError:
        planes = list_channels(folder)[0][1]
    for plane in planes:
        try:
            found = file_sizes(plane)
        except TiffReadError:
            if plane == planes[-1]:
                raise
            continue
        yield from sizes_beside(plane)
        yield from found
        return
