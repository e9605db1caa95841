"""The array that levels are added to: whether it can have them, and their plan."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scout_dask_io.core.downsample import HalvedSource, method_for
from scout_dask_io.core.formatting import format_shape
from scout_dask_io.core.ome_metadata import VERSIONS
from scout_dask_io.core.pyramid import Level, plan_levels
from scout_dask_io.core.source import Source, ViewSource
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import AnyPath, RemotePath
from scout_dask_io.jobs.destination import check_target
from scout_dask_io.read.any import locate_all, open_any
from scout_dask_io.read.image import as_image
from scout_dask_io.run.lazy import source_of
from scout_dask_io.store.chunk_format import format_at
from scout_dask_io.store.codecs import codecs_of_levels
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.image import level_path
from scout_dask_io.store.layout import detect_layout
from scout_dask_io.write.image_plan import ImagePlan, plan_ome_zarr
from scout_dask_io.write.write_arguments import compressor_of

__all__ = ["AddedLevels", "added_levels"]


@dataclass(frozen=True, slots=True)
class AddedLevels:
    """An array, and the levels that it is to have.

    Attributes
    ----------
    place, destination : Path or RemotePath
        Of the array or image that stands, and of the new image.
    replaces, resumes : bool
        As for :func:`~scout_dask_io.jobs.destination.check_target`.
    levels : tuple of Level
        The full one, which stands, first.
    top : HalvedSource
        Gives the first of those that are added.
    image : ImagePlan
        Of those that are added.
    compressor : numcodecs.abc.Codec or None
        Of those that are added.
    version : str
        Of the OME-Zarr metadata.
    fill_value : int, float, bool or None
        Of every level.
    channels, voxel_size
        As the array states them, the latter or as it was given.
    """

    place: AnyPath
    destination: AnyPath
    replaces: bool
    resumes: bool
    levels: tuple[Level, ...]
    top: HalvedSource
    image: ImagePlan
    compressor: Any
    version: str
    fill_value: Any
    channels: tuple[str, ...] | None
    voxel_size: VoxelSize | None

    @property
    def added_nbytes(self) -> int:
        """Size of the elements of the levels below the full one, in bytes."""
        n_elements = sum(math.prod(level.shape) for level in self.levels[1:])
        return n_elements * int(self.top.dtype.itemsize)


def added_levels(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    levels: int | None,
    labels: bool,
    voxel_size: Any,
    codec: Any,
    overwrite: bool,
    resume: bool,
    max_mem: int | str | None,
    nb_workers: int | None,
    storage_options: Mapping[str, Any] | None,
) -> AddedLevels:
    """Look at an array, and plan its levels; nothing is written.

    Raises
    ------
    PathNotFoundError, LayoutError
        If there is no array, or it cannot be read.
    ArgumentError
        If it can have no level, or cannot be shared with an image at the destination.
    TargetExistsError, MemoryLimitError
        As for :func:`~scout_dask_io.jobs.pyramid.pyramid`.
    """
    _, lower = codecs_of_levels(codec)
    place, destination = locate_all(src, dst, storage_options)
    replaces, resumes = check_target(place, destination, overwrite=overwrite, resume=resume)
    opened = open_any(place, voxel_size=voxel_size)
    full = level_path(place, 0)
    if opened.kind != "zarr":
        raise ArgumentError(f"{place} is no Zarr array: use convert with ome=True")
    _check_stored(full, destination)
    data, axes, names, *_ = as_image(opened)
    source = source_of(data)
    if not isinstance(source, Source) or isinstance(source, ViewSource):
        raise ArgumentError(
            f"{place} has its axes in the order {opened.axes!r}, OME-Zarr in the order "
            "'tczyx': use convert with ome=True"
        )
    size = opened.voxel_size
    found = plan_levels(source.shape, axes, size, levels)
    if len(found) < 2:
        raise ArgumentError(
            f"{place} is {format_shape(source.shape)}: as small as the last level of a "
            "pyramid, so there is none to add. levels= says how many the image is to have."
        )
    times = dict(zip(axes, found[1].total, strict=True))
    top = HalvedSource(source, found[1].factors, method_for(np.dtype(source.dtype), labels))
    stored: Any = open_zarr(full, mode="r")
    version = {of: v for v, of in VERSIONS.items()}[stored.metadata.zarr_format]
    image = plan_ome_zarr(
        top,
        stored.chunks,
        levels=len(found) - 1,
        axes=axes,
        labels=labels,
        voxel_size=None if size is None else size.scaled([times.get(a, 1) for a in "zyx"]),
        version=version,
        shards=stored.shards if version == "0.5" else None,
        codec=lower,
        max_mem=max_mem,
        nb_workers=nb_workers,
    )
    fill = None if stored.fill_value is None else np.asarray(stored.fill_value).item()
    return AddedLevels(
        place, destination, replaces, resumes, found, top, image, compressor_of(image.write, lower),
        version, fill, names, size,
    )  # fmt: skip


def _check_stored(array: AnyPath, destination: AnyPath) -> None:
    """Refuse an array that cannot be level 0 as it is stored."""
    layout = detect_layout(array)
    if format_at(array) is None or not layout.nested or (
        layout.zarr_format == 2 and "dimension_separator" not in layout.metadata
    ):  # fmt: skip
        raise ArgumentError(
            f"{array} does not say that its chunks are nested, or is no plain array of numbers, "
            "as OME-Zarr asks: use repair where only the metadata are old, else convert with "
            "ome=True"
        )
    if not _lie_together(array, destination):
        raise ArgumentError(
            f"{destination} and {array} lie on different file systems or stores, which cannot "
            "share files: choose a destination beside the array, or use convert with ome=True"
        )


def _lie_together(array: AnyPath, destination: AnyPath) -> bool:
    if isinstance(array, RemotePath) and isinstance(destination, RemotePath):
        return bool(array.fs is destination.fs)
    if isinstance(array, RemotePath) or isinstance(destination, RemotePath):
        return False
    there = destination.parent
    while not there.exists():
        there = there.parent
    return there.stat().st_dev == array.stat().st_dev
