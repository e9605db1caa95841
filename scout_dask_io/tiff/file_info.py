"""What there is to say of one TIFF file as ``imread`` sees it; no pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import tifffile

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.voxel_size import merge_sizes
from scout_dask_io.files.location import locate_file
from scout_dask_io.tiff.describe import chain_of, describe_member, one_of, stated_alone
from scout_dask_io.tiff.file_set import find_set_of, open_alone
from scout_dask_io.tiff.ifd import Header, Window, read_header
from scout_dask_io.tiff.metadata import Stated
from scout_dask_io.tiff.open_file import opened
from scout_dask_io.tiff.page_layout import CODEC_NAMES, SourceFile
from scout_dask_io.tiff.series import check_counts, choose_series, describe_series


@dataclass(frozen=True, slots=True)
class TiffInfo:
    """A TIFF file as ``imread`` sees it; series 0 at full resolution.

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
        return ImageInfo(stated.axes, merge_sizes(stated.sizes), stated.channels)


def describe_path(path: Any, *, alone: bool = False) -> TiffInfo:
    """Describe a TIFF file, at a path or at a place in a store; reads its directories, no pixel.

    What lies in several files is described as one, as :func:`describe_image` reads it; if
    ``alone``, of a member of a set that is said which can be told of a page.

    Raises
    ------
    PathNotFoundError
        If there is no such file.
    TiffReadError
        If it is damaged or no regular file.
    """
    place = locate_file(path)
    with opened(place) as (fd, file):
        window = Window(fd, file.size)
        header = read_header(window, file.path)
        members = find_set_of(place, window, header)
        with open_alone(fd, file, window, header) as tif:
            if members is None:
                return _describe_open(tif, file, window, header)
            own = _facts(tif, file, tif.pages.first)
            if alone:
                return own
            source = describe_member(place, members, 0, 0)
    images = members.images
    several = len(members.files) > 1
    return replace(
        own,
        shape=source.shape,
        dtype=str(source.dtype),
        stated=source.stated,
        n_series=len(images),
        levels=(source.shape,),
        file_nbytes=sum(f.size for f in source.files),
        n_files=len(source.files),
        member=one_of(members) if several else "",
    )


def _describe_open(
    tif: tifffile.TiffFile, file: SourceFile, window: Window, header: Header | None
) -> TiffInfo:
    chain = chain_of(window, header, None)
    series = choose_series(tif, file, 0, 0)
    check_counts(tif, file, chain, window, header, None)
    lead, pages = describe_series(tif, file, series, window, header)
    layout = pages[0].layout
    return replace(
        _facts(tif, file, series.keyframe),
        shape=(*lead, *layout.shape),
        dtype=str(series.dtype),
        stated=stated_alone(tif, lead, layout),
        n_series=len(tif.series),
        levels=tuple(level.shape for level in series.levels),
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
