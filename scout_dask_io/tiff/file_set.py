"""Images whose pages lie in several files of one folder: OME-TIFF, Micro-Manager and NDTiff.

:func:`find_set` tells by the head of one file which set it belongs to. Files are looked for
beside the one that was opened, wherever the program runs, and nowhere else; a folder on a disk
and one in a store are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial

import tifffile

from scout_dask_io.core.selection import ALL_PAGES
from scout_dask_io.errors import PathNotFoundError, TiffReadError
from scout_dask_io.files.location import Location
from scout_dask_io.tiff.folder import is_tiff
from scout_dask_io.tiff.ifd import Damaged, Header, Ifd, Window, read_header, read_ifd
from scout_dask_io.tiff.micromanager import (
    PLANE_METADATA,
    is_ndtiff,
    is_stack,
    ndtiff_set,
    place_of_plane,
    read_index,
    read_stack,
    read_summary,
    stack_members,
    stack_set,
)
from scout_dask_io.tiff.ome_set import is_ome, name_in, ome_set
from scout_dask_io.tiff.open_file import OpenFile, opened
from scout_dask_io.tiff.page_chain import walk_chain
from scout_dask_io.tiff.page_layout import SourceFile
from scout_dask_io.tiff.plane_map import FileSet, Place, PlaneMap
from scout_dask_io.tiff.range_reader import answered
from scout_dask_io.tiff.series import open_tiff

#: The tag of a page's description.
_DESCRIPTION = 270


class BrokenSetError(TiffReadError):
    """A file belongs to a set whose planes cannot be told, whatever else it may be read as."""


def find_set(place: Location) -> FileSet | None:
    """Give the set that a file belongs to, ``None`` where it is a file by itself.

    Reads the head of the file, and where that names others the listing of the folder, and of
    Micro-Manager's files each one's index.

    Raises
    ------
    PathNotFoundError, TiffReadError
        If the file cannot be read, or what it names is outside of its folder.
    """
    with opened(place) as (fd, file):
        window = Window(fd, file.size)
        return find_set_of(place, window, read_header(window, file.path))


def find_set_of(place: Location, window: Window, header: Header | None) -> FileSet | None:
    """Give what :func:`find_set` does, of a file that is open."""
    if header is None:
        return None
    head = bytes(window.get(0, min(40, window.size)))
    if is_ndtiff(head):
        return _ndtiff_of(place, window)
    if is_stack(head) and (found := _stack_of(place)) is not None:
        return found
    text = _text(read_ifd(window, header, header.first), window)
    if not is_ome(text):
        return None
    beside = cache(partial(_beside, place.parent))
    return ome_set(place.parent, place.name, text, beside, _description, _count_pages)


def find_set_across(root: Location, name: str, names: Sequence[str]) -> FileSet | None:
    """Give the OME-TIFF set of a file whose others lie in other folders, ``None`` if none do.

    ``names`` are those of the files below the folder. Reads the head of one file; of all, where
    files of several folders have one name.
    """
    try:
        text = _description(root / name)
    except (TiffReadError, PathNotFoundError):
        return None  # which is told of where the file is read
    if not is_ome(text):
        return None
    beside = {n.lower(): n for n in names}
    try:
        found = ome_set(root, name, text, lambda: beside, _description, _count_pages)
    except TiffReadError:
        return None
    if found is None or len({f.rpartition("/")[0] for f in found.files if f in names}) < 2:
        return None
    return found


def stage_of(folder: Location, image: PlaneMap) -> Place | None:
    """Give where the stage was at the first plane of an image of Micro-Manager, if that is stated.

    Looks into one file.
    """
    plane = next((p for p in image.planes if p is not None), None)
    if plane is None or (plane.ifd < 0 and plane.text < 0):
        return None
    try:
        with opened(folder / plane.file) as (fd, file):
            window = Window(fd, file.size)
            if plane.text >= 0:
                text = bytes(window.get(plane.text, plane.text_nbytes))
            else:
                header = read_header(window, file.path)
                ifd = None if header is None else read_ifd(window, header, plane.ifd)
                text = b"" if ifd is None else ifd.bytes_of(PLANE_METADATA, window) or b""
    except (Damaged, TiffReadError, PathNotFoundError):
        return None
    return place_of_plane(text)


def has_index(window: Window) -> bool:
    """Tell by its head whether a file is of Micro-Manager, with an index of its planes."""
    head = bytes(window.get(0, min(40, window.size)))
    return is_ndtiff(head) or is_stack(head)


def names_others(window: Window, header: Header | None) -> bool:
    """Tell whether a file may be one of a set, by what it has at its head."""
    if header is None:
        return False
    if has_index(window):
        return True
    return is_ome(_text(read_ifd(window, header, header.first), window))


def _ndtiff_of(place: Location, window: Window) -> FileSet | None:
    index = read_index(place.parent)
    if index is None:
        raise BrokenSetError(
            f"{str(place)!r} is of an NDTiff data set, whose index 'NDTiff.index' is not beside "
            "it: what its pages are cannot be told. Put the index there, or "
            + ALL_PAGES
            + " reads the pages of this file one after the other."
        )
    try:
        found = ndtiff_set(place.parent, index, read_summary(partial(_get, window)))
    except TiffReadError as err:
        raise BrokenSetError(*err.args) from err
    if place.name not in found.files:
        return None
    there = set(_beside(place.parent).values())
    return replace(found, lacking=frozenset(found.files) - there)


@contextmanager
def open_alone(
    fd: OpenFile, file: SourceFile, window: Window, header: Header | None
) -> Iterator[tifffile.TiffFile]:
    """Let tifffile look at a file that holds all its pages, by the name that it knows itself by."""
    name = os.path.basename(file.path)
    if header is not None:
        name = name_in(_text(read_ifd(window, header, header.first), window)) or name
    with open_tiff(fd, file, name=name) as tif:
        yield tif


def _text(ifd: Ifd, window: Window) -> bytes:
    try:
        return (ifd.bytes_of(_DESCRIPTION, window) or b"").split(b"\0", 1)[0]
    except Damaged:
        return b""


def _description(place: Location) -> bytes:
    """Give the description of a file's first page."""
    with opened(place) as (fd, file):
        window = Window(fd, file.size)
        header = read_header(window, file.path)
        return b"" if header is None else _text(read_ifd(window, header, header.first), window)


def _count_pages(place: Location) -> int:
    """Give how many pages a file has, 0 where it is not there."""
    try:
        with opened(place) as (fd, file):
            window = Window(fd, file.size)
            header = read_header(window, file.path)
            return 0 if header is None else len(walk_chain(window, header))
    except PathNotFoundError:
        return 0


def _beside(folder: Location) -> dict[str, str]:
    """Give the names of the TIFF files of a folder, by these names in lower case."""
    with answered():
        names = [p.name for p, is_folder in folder.entries() if not is_folder]
    return {name.lower(): name for name in names if is_tiff(name) and not name.startswith(".")}


def _stack_of(place: Location) -> FileSet | None:
    parts = {}
    for name in stack_members(place.name, _beside(place.parent)):
        try:
            with opened(place.parent / name) as (fd, file):
                window = Window(fd, file.size)
                head = bytes(window.get(0, min(40, file.size)))
                found = read_stack(partial(_get, window)) if is_stack(head) else None
        except TiffReadError:
            if name == place.name:
                raise
            continue
        if found is not None:
            parts[name] = found
    try:
        return stack_set(place.name, parts) if place.name in parts else None
    except TiffReadError as err:
        raise BrokenSetError(f"{str(place.parent)!r}: {err}") from err


def _get(window: Window, at: int, nbytes: int) -> bytes:
    try:
        return bytes(window.get(at, nbytes))
    except Damaged as err:
        raise ValueError(str(err)) from err
