"""What is converted: the source opened, and checked against where it goes and how."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da

from scout_dask_io.core.ome_metadata import VERSIONS
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import AnyPath
from scout_dask_io.jobs.destination import check_target, warn_of_a_full_disk
from scout_dask_io.jobs.qc import check_planes
from scout_dask_io.read.any import Opened, locate_all, open_any, warn_of_numbering
from scout_dask_io.read.image import Image, as_image, leading_channels
from scout_dask_io.store.codecs import codecs_of_levels
from scout_dask_io.write.qc.run import check_qc_place

__all__ = ["ToConvert", "to_convert"]


@dataclass(frozen=True, slots=True)
class ToConvert:
    """A source that may be converted; nothing is written yet.

    Attributes
    ----------
    destination : Path or RemotePath
        Where it goes.
    replaces, resumes : bool
        As for :func:`~scout_dask_io.jobs.destination.check_target`.
    opened : Opened
        The source.
    data : dask.array.Array
        Its pixels; for an image, with their axes in its order.
    channels : tuple of str
        Names of its channels; empty where there are none.
    colors : tuple of str
        Of the channels of an image, where they are known for each.
    options : dict
        What both the plan and the write take, beside the data and the chunks.
    """

    destination: AnyPath
    replaces: bool
    resumes: bool
    opened: Opened
    data: da.Array
    channels: tuple[str, ...]
    colors: tuple[str, ...]
    options: dict[str, Any]


def to_convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    ome: bool,
    labels: bool,
    levels: int | None,
    codec: Any,
    zarr_format: int,
    shards: int | Sequence[int] | None,
    order: str,
    missing: str,
    voxel_size: Any,
    overwrite: bool,
    resume: bool,
    max_mem: int | str | None,
    nb_workers: int | None,
    qc: bool,
    storage_options: Mapping[str, Any] | None,
) -> ToConvert:
    """Open a source, and refuse what :func:`~scout_dask_io.jobs.convert.convert` refuses before it writes.

    Reads headers. Errors and warnings are those of :func:`~scout_dask_io.jobs.convert.convert`.
    """
    source, destination = locate_all(src, dst, storage_options)
    if not ome and (labels or levels is not None):
        raise ArgumentError("labels and levels are of OME-Zarr images: give ome=True too")
    if qc:
        check_qc_place(destination)
    replaces, resumes = check_target(source, destination, overwrite=overwrite, resume=resume)
    opened = open_any(source, nb_workers, order=order, missing=missing, voxel_size=voxel_size)
    warn_of_numbering(opened)
    if qc:
        check_planes(opened, destination, ome=ome, overwrite=overwrite, resume=resume)
    if ome:
        image = as_image(opened)
    else:
        image = Image(opened.array, "", leading_channels(opened))
    options: dict[str, Any] = {"shards": shards, "max_mem": max_mem, "nb_workers": nb_workers}
    if ome:
        versions = {of: version for version, of in VERSIONS.items()}
        if zarr_format not in versions:
            raise ArgumentError(f"zarr_format must be 2 or 3, got {zarr_format!r}")
        options |= {
            "axes": image.axes,
            "channels": image.channels,
            "levels": levels,
            "labels": labels,
            "voxel_size": opened.voxel_size,
            "version": versions[zarr_format],
            "codec": codec,
        }
    else:
        options |= {"codec": codecs_of_levels(codec)[0], "zarr_format": zarr_format}
    # The levels below the full one take at most a third as much.
    warn_of_a_full_disk(int(image.array.nbytes) * (4 if ome else 3) // 3, destination)
    return ToConvert(
        destination,
        replaces,
        resumes,
        opened,
        image.array,
        tuple(image.channels or ()),
        image.colors,
        options,
    )
