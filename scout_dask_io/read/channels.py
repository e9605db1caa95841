"""Readers of several channels: datasets with one folder a channel, and OME-Zarr images."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import dask.array as da

from scout_dask_io.core.axes import in_order
from scout_dask_io.core.messages import Way
from scout_dask_io.core.ome_metadata import Multiscale
from scout_dask_io.core.selection import Selection
from scout_dask_io.errors import ArgumentError, ShapeMismatchError
from scout_dask_io.files.location import Location, locate_file
from scout_dask_io.read.dataset import channels_of, dataset_at
from scout_dask_io.run.lazy import lazy_array, turned
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.store.image import image_of_node
from scout_dask_io.store.metadata import Node
from scout_dask_io.store.nodes import find_node
from scout_dask_io.store.source import level_source
from scout_dask_io.tiff.dataset import holds_tiffs_below
from scout_dask_io.tiff.describe import describe_planes
from scout_dask_io.tiff.file_info import describe_path
from scout_dask_io.tiff.folder import holds_planes, list_channels
from scout_dask_io.tiff.source import TiffSource


def imread_channels(
    path: Any,
    nb_workers: int | None = None,
    *,
    chunks: Any = None,
    order: str = "alphabetical",
    missing: str = "error",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    check: str = "all",
    storage_options: Mapping[str, Any] | None = None,
) -> da.Array:
    """Give a lazy dask array of a dataset folder that has one folder of planes a channel.

    Channels are the sub-folders in order of their names (hidden ones, ``*.zarr`` and those
    without a TIFF file do not count); :func:`channel_names` gives the names. Each is read as by
    :func:`imread_folder`, and all headers are checked against each other. Of an
    OME-Zarr image the full level is given, as its chunks lie.

    Parameters
    ----------
    path : str or path
        The dataset folder, e.g. with ``color_0/`` and ``color_1/`` inside, or an
        OME-Zarr image; or the URL of either.
    nb_workers : int, optional
        How many threads of a process read these files at once.
    chunks : optional
        Dask blocks, in any form that dask takes; by default one a file.
    order : {"alphabetical", "natural"}
        Order of the files in each folder.
    missing : {"error", "fill"}
        What to do about files that cannot be read; see :func:`imread_folder`.
        Channels must have as many files each all the same.
    series, pages
        Which image and which pages of each file; see :func:`imread_folder`.
    allow_sparse : bool
        Strips and tiles that were never written are zeros; see :func:`imread`.
    check : {"all", "first"}
        Which headers are read now. ``"first"`` reads the first, the last and 16 between, and looks
        at the size and time of the others, of which each is read before the first pixel of its
        plane is given: one that differs is the same error, then. On a disk that seeks or a share
        2,000 planes open in a tenth of the time.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    dask.array.Array
        ``(c, z, y, x)``.

    Raises
    ------
    PathNotFoundError
        If the folder is missing, or no sub-folder holds a TIFF file.
    ShapeMismatchError
        If channels differ in their number of planes, shape or dtype.
    TiffReadError
        If a file is damaged, truncated or no regular file.
    ArgumentError
        If an argument is not one of the above.

    Examples
    --------
    >>> import scout_dask_io as io
    >>> brain = io.imread_channels("brain")  # doctest: +SKIP
    >>> brain.shape  # doctest: +SKIP
    (2, 30, 510, 667)
    """
    workers = check_nb_workers(nb_workers)
    how = Selection(
        order, missing, series=series, pages=pages, allow_sparse=allow_sparse, check=check
    )
    place = locate_file(path, storage_options)
    node = find_node(place)
    image = image_of_node(node)
    if node is not None and image is not None:
        return _image_channels(node, image, chunks)
    return lazy_array(describe_channels(place, workers, how), chunks, name="imread")


def describe_channels(place: Location, nb_workers: int | None, selection: Selection) -> TiffSource:
    """Describe a folder with a folder of planes a channel; reads headers, no pixel.

    Raises
    ------
    PathNotFoundError, ShapeMismatchError, TiffReadError
        As for :func:`imread_channels`.
    """
    listed = list_channels(place, selection.order)
    planes = [found for _, found in listed]
    counts = {os.path.basename(str(folder)): len(found) for folder, found in listed}
    if len(set(counts.values())) > 1:
        raise ShapeMismatchError(
            f"channels of {str(place)!r} differ in their number of planes: "
            + ", ".join(f"{name!r} has {n}" for name, n in counts.items())
            + ". Complete them, or "
            + Way("read each with imread_folder", "give each folder by itself")
            + "."
        )
    lead = (len(planes), len(planes[0]))
    every = [p for channel in planes for p in channel]
    return describe_planes(every, nb_workers, selection, lead=lead, channels=list(counts))


def _image_channels(node: Node, image: Multiscale, chunks: Any) -> da.Array:
    """Give the full level of an image as ``(c, z, y, x)``; an axis that it lacks is 1 long."""
    axes = "czyx"
    if not set(image.axes) <= set(axes):
        raise ArgumentError(
            f"{node.location} has the axes {image.axes!r}, and channels are (c, z, y, x) or some "
            "of these: read it with read_zarr"
        )
    source = level_source(node, 0)
    if image.axes == axes:
        return lazy_array(source, chunks, name="read-zarr")
    whole = turned(lazy_array(source, name="read-zarr"), image.axes, in_order(image.axes))
    array: da.Array = whole[tuple(slice(None) if a in image.axes else None for a in axes)]
    return array if chunks is None else array.rechunk(chunks)


def channel_names(path: Any, *, storage_options: Mapping[str, Any] | None = None) -> list[str]:
    """Give the names of a dataset's channels, in the order of :func:`imread_channels`.

    Of an OME-Zarr image they are the labels that it states, of a TIFF file what its
    OME-XML, ImageJ metadata or the description by :func:`export` does, along the
    axis of its channels; and none where there is none stated. Of a folder whose files'
    names carry a channel it is as they are written, as for :func:`imread_dataset`. Lists a
    folder, or reads metadata, no more. URLs are reached with ``storage_options``.

    Raises
    ------
    PathNotFoundError
        If the folder is missing or has no sub-folder, or is a Zarr group of another kind.
    TiffReadError
        If a file is no TIFF, or a damaged one.
    """
    place = locate_file(path, storage_options)
    node = find_node(place)
    if node is not None:
        info = level_source(node, 0).info
        return list(info.names) if "c" in info.axes else []
    if not place.is_folder and place.is_file():
        info = describe_path(place).info
        return list(info.names) if "c" in info.axes else []
    if place.on_disk and holds_planes(place):
        return list(channels_of(place))
    if place.on_disk and holds_tiffs_below(place):
        grid = dataset_at(place, "channels")
        if grid is not None:  # folders of positions, time points or several levels are no channels
            return list(grid.channels)
    return [os.path.basename(str(folder)) for folder, _ in list_channels(place)]
