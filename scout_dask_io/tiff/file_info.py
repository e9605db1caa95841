"""What there is to say of one TIFF file as ``imread`` sees it; no pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tifffile

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.selection import AS_IT_IS, Selection
from scout_dask_io.core.voxel_size import merge_sizes
from scout_dask_io.errors import TiffReadError
from scout_dask_io.files.location import Location, locate_file
from scout_dask_io.tiff.describe import (
    describe_member,
    looked_at,
    one_of,
    pages_of,
    set_of,
    stated_alone,
)
from scout_dask_io.tiff.file_set import open_alone
from scout_dask_io.tiff.ifd import Window, read_header
from scout_dask_io.tiff.metadata import Stated
from scout_dask_io.tiff.open_file import opened
from scout_dask_io.tiff.page_layout import CODEC_NAMES, SourceFile
from scout_dask_io.tiff.plane_map import FileSet


@dataclass(frozen=True, slots=True)
class TiffInfo:
    """A TIFF file as ``imread`` sees it, at full resolution.

    ``stated`` has a letter an axis of ``shape``.
    ``segment`` is ``"strip"`` or ``"tile"``, ``segment_shape`` its extent as
    stored, ``(rows, columns)``. ``levels`` are the shapes of the resolutions,
    the full one first. ``member`` says which files the image lies in, where these are several.
    """

    path: str
    shape: Shape
    dtype: str
    stated: Stated
    compression: str
    segment: str
    segment_shape: tuple[int, int]
    byte_order: str
    bigtiff: bool
    n_pages: int
    n_series: int
    levels: tuple[Shape, ...]
    file_nbytes: int
    n_files: int = 1
    member: str = ""

    @property
    def info(self) -> ImageInfo:
        """What the file states by itself, whatever lies beside it."""
        stated = self.stated
        info = ImageInfo(stated.axes, merge_sizes(stated.sizes), stated.channels)
        return stated.image(stated.axes, self.shape, info, self.path)


def describe_path(path: Any, selection: Selection = AS_IT_IS, *, alone: bool = False) -> TiffInfo:
    """Describe a TIFF file, at a path or at a place in a store; reads its directories, no pixel.

    What lies in several files is described as one, as :func:`describe_image` reads it; if
    ``alone``, of a member of a set that is said which can be told of a page.

    Raises
    ------
    PathNotFoundError
        If there is no such file.
    ArgumentError
        If it has no such series.
    TiffReadError
        If it is damaged or no regular file.
    ArgumentError
        If it has no such series.
    """
    place = locate_file(path)
    with opened(place) as (fd, file):
        window = Window(fd, file.size)
        try:
            members, is_member = set_of(place, window, selection), False
        except TiffReadError:
            if not alone:
                raise
            members, is_member = None, True
        if is_member or (members is not None and selection.pages != "all"):
            with open_alone(fd, file, window, read_header(window, file.path)) as tif:
                own = _facts(tif, file, tif.pages.first)
            return _of_set(own, place, members, selection) if members and not alone else own
        with looked_at(fd, file, window, selection) as (tif, headers):
            lead, pages = pages_of(tif, headers)
            layout = pages[0].layout
            if selection.pages == "all":
                first, levels, n_series = tif.pages.first, [], 1
            else:
                series = tif.series[selection.series or 0]
                first, levels, n_series = series.keyframe, series.levels, len(tif.series)
            return replace(
                _facts(tif, file, first),
                shape=(*lead, *layout.shape),
                dtype=str(np.dtype(layout.dtype).newbyteorder("=")),
                n_series=n_series,
                levels=tuple(level.shape for level in levels),
                stated=stated_alone(fd, tif, headers, lead, layout),
            )


def _of_set(own: TiffInfo, place: Location, members: FileSet, selection: Selection) -> TiffInfo:
    """Give what there is to say of the image of a set that a file belongs to."""
    source = describe_member(place, members, selection)
    return replace(
        own,
        shape=source.shape,
        dtype=str(source.dtype),
        stated=source.stated,
        n_series=len(members.images),
        levels=(source.shape,),
        file_nbytes=sum(f.size for f in source.files),
        n_files=len(source.files),
        member=one_of(members) if len(members.files) > 1 else "",
    )


def _facts(tif: tifffile.TiffFile, file: SourceFile, first: tifffile.TiffPage) -> TiffInfo:
    """Give what is to be said of a file by one of its pages."""
    compression = int(first.compression)
    return TiffInfo(
        path=file.path,
        shape=first.shape,
        dtype=str(first.dtype),
        stated=Stated(),
        compression=CODEC_NAMES.get(compression, str(compression)),
        segment="tile" if first.is_tiled else "strip",
        segment_shape=(
            (first.tilelength, first.tilewidth)
            if first.is_tiled
            else (first.rowsperstrip, first.imagewidth)
        ),
        byte_order="little" if tif.byteorder == "<" else "big",
        bigtiff=tif.is_bigtiff,
        n_pages=len(tif.pages),
        n_series=1,
        levels=(first.shape,),
        file_nbytes=file.size,
    )
