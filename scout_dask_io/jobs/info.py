"""What a path holds, told without reading pixels."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from scout_dask_io.core.formatting import format_count, format_shape
from scout_dask_io.files.location import AnyPath, locate
from scout_dask_io.jobs.info_report import InfoReport
from scout_dask_io.jobs.info_zarr import zarr_info
from scout_dask_io.read.any import kind_of, open_any
from scout_dask_io.read.voxel_size import voxel_size
from scout_dask_io.run.lazy import source_of
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.tiff.info import TiffInfo, describe_path
from scout_dask_io.tiff.open_file import Place
from scout_dask_io.tiff.page_layout import CODEC_NAMES
from scout_dask_io.tiff.source import TiffSource

__all__ = ["InfoReport", "info"]


def info(
    path: str | os.PathLike[str],
    *,
    nb_workers: int | None = None,
    order: str = "alphabetical",
    storage_options: Mapping[str, Any] | None = None,
) -> InfoReport:
    """Tell what a path holds, without reading pixels.

    Reads headers and metadata, and lists the directories of a Zarr array to
    count its chunks.

    Parameters
    ----------
    path : path-like
        A TIFF file, a folder of planes or of channels, a Zarr array or group, or an
        OME-Zarr image; or the URL of one.
    nb_workers : int, optional
        How many headers are read at once.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Raises
    ------
    PathNotFoundError
        If there is nothing that can be read.
    TiffReadError, ShapeMismatchError, LayoutError
        If what is there is damaged, or does not fit together.
    """
    check_nb_workers(nb_workers)
    found = locate(path, storage_options)
    kind = kind_of(found)
    if kind == "tiff":
        return _tiff_file(describe_path(found), found)
    if kind != "zarr":
        return _planes(found, nb_workers, order)
    return zarr_info(found)


def _tiff_file(found: TiffInfo, place: Place | AnyPath) -> InfoReport:
    details = [f"{found.byte_order}-endian {'BigTIFF' if found.bigtiff else 'classic TIFF'}"]
    if found.n_pages > 1:
        details.append(format_count(found.n_pages, "page"))
    if found.n_series > 1:
        details.append(f"{found.n_series} series; this is the first")
    if len(found.levels) > 1:
        details.append("levels " + ", ".join(format_shape(level) for level in found.levels))
    dtype = np.dtype(found.dtype)
    return InfoReport(
        path=found.path,
        kind="TIFF file",
        shape=found.shape,
        dtype=found.dtype,
        axes=found.axes.lower(),
        segment=f"{found.segment}s of {format_shape(found.segment_shape)}",
        codec=found.compression,
        nbytes=math.prod(found.shape) * dtype.itemsize,
        stored_nbytes=found.file_nbytes,
        n_files=1,
        channels=found.channels,
        voxel_size=voxel_size(place),
        details=tuple(details),
    )


def _planes(path: AnyPath, nb_workers: int | None, order: str) -> InfoReport:
    opened = open_any(path, nb_workers, order=order)
    source = source_of(opened.array)
    if not isinstance(source, TiffSource):
        raise TypeError(f"the array of {path} was not built from TIFF files")
    place = source.place_of(source.files[0])
    first = describe_path(place)
    codecs = {CODEC_NAMES.get(x.compression, str(x.compression)) for x in source.layouts}
    report = _tiff_file(first, place)
    same = len(source.layouts) == 1
    lead = "cz" if opened.kind == "channels" else "z"
    axes = lead + (first.axes.lower() if len(first.shape) + len(lead) == source.ndim else "")
    return replace(
        report,
        path=str(path),
        kind="channel dataset" if opened.kind == "channels" else "folder of planes",
        shape=source.shape,
        axes=axes if len(axes) == source.ndim else None,
        segment=report.segment if same else None,
        codec=", ".join(sorted(codecs)),
        nbytes=source.nbytes,
        stored_nbytes=sum(f.size for f in source.files),
        n_files=len(source.files),
        channels=opened.channels or first.channels,
        voxel_size=opened.voxel_size,
        details=report.details[:1] if same else ("files are stored in different ways",),
    )
