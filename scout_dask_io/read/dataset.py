"""Readers of datasets as microscopes leave them: names of files say what each one is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self, TypeAlias

import dask.array as da

from scout_dask_io.core.formatting import format_count
from scout_dask_io.core.messages import Message, Option, Way, joined, warn
from scout_dask_io.core.name_fields import (
    AmbiguousNamesError,
    NameGrid,
    grid_of_names,
    grid_of_pattern,
)
from scout_dask_io.core.selection import AS_IT_IS, Selection
from scout_dask_io.errors import ArgumentError, PathNotFoundError, TiffReadError
from scout_dask_io.files.location import Location, locate_file
from scout_dask_io.run.lazy import lazy_array
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.tiff.dataset import NameReading, list_tree
from scout_dask_io.tiff.describe import describe_plane
from scout_dask_io.tiff.folder import about_names
from scout_dask_io.tiff.plane_map import Place
from scout_dask_io.tiff.set_folder import SetReading, is_told_by_names, sets_in

#: How the files of a dataset are arranged: by their names, or by the metadata of sets of files.
Reading: TypeAlias = NameReading | SetReading
#: The attribute of an array, or of level 0 of an image, that says how the names of the files
#: were read that it was made of.
READING_ATTRIBUTE = "dataset"


def imread_dataset(
    path: Any,
    pattern: str | None = None,
    *,
    position: str | None = None,
    nb_workers: int | None = None,
    chunks: Any = None,
    missing: str = "error",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    check: str = "all",
    storage_options: Mapping[str, Any] | None = None,
) -> da.Array:
    """Give a lazy dask array of a folder, or a tree of them, whose names carry its axes.

    Channel, time point, z, position and view are found in the names of files and folders
    (``_C00_``, ``_z0012``, ``t0001/``, ``_488nm``, ``F001L01A01Z01C01`` …), where the files are
    stacks the axes inside them come along, and each position is an array of its own. Building
    the array lists the folder and reads and checks the header of every file of the
    position; no pixel is read. :func:`scan` and :func:`info` tell of the reading found.

    Parameters
    ----------
    path : str or path
        The folder, or its URL. Files in the folder count; where it has none, those of the
        folders below it.
    pattern : str, optional
        How to read the names, where they are not to be guessed at: ``"{name}_C{c}_Z{z}.tif"``.
        ``{t}``, ``{c}``, ``{z}``, ``{position}`` (``{p}``, ``{tile}``, ``{x}``, ``{y}`` …) and
        ``{view}`` are fields, numbers or words; other names in braces and ``*`` are text that
        does not matter. Or a regular expression with such groups, ``(?P<z>…)``. It is held
        against the path below the folder, with ``/``; files that do not fit are left out.
    position : str, optional
        Which position, by the names that :func:`dataset_positions` gives.
    nb_workers : int, optional
        How many threads of a process read these files at once.
    chunks : optional
        Dask blocks, in any form that dask takes; by default one a file.
    missing : {"error", "fill"}
        What to do about files that the names tell are missing, and about those that cannot be
        read: ``"fill"`` puts planes of zeros there, warns, and :func:`write_zarr` records them.
    series, pages
        Which image and which pages of each file; see :func:`imread_folder`.
    allow_sparse : bool
        Strips and tiles that were never written are zeros; see :func:`imread`.
    check : {"all", "first"}
        Which headers are read now. ``"first"`` reads the first, the last and 16 between, and looks
        at the size and time of the others, of which each is read before the first pixel of its
        plane is given; see :func:`imread_folder`. Of a set of files, as OME-TIFF and Micro-Manager
        have them, all are read either way: which page of which file a plane is lies in them.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    dask.array.Array
        ``(t, c, z, y, x)``, of these the axes that there are; colour samples come last.

    Warns
    -----
    UserWarning
        Of files that are left out since they are not named as the others are, and of numbers
        that no file has.

    Raises
    ------
    PathNotFoundError
        If there is no TIFF file, or none fits the pattern.
    ArgumentError
        If more than one reading fits the names (the message shows the patterns that choose),
        if there are several positions and none is given, or an axis is in names and files.
    ShapeMismatchError
        If files are missing, which are named, or differ in shape or dtype.
    TiffReadError
        If a file is damaged, truncated or no regular file.

    Examples
    --------
    >>> import scout_dask_io as io
    >>> brain = io.imread_dataset("brain")  # doctest: +SKIP
    >>> brain.shape, io.channel_names("brain")  # doctest: +SKIP
    ((2, 30, 510, 667), ['C00', 'C01'])
    >>> io.imread_dataset("run7", "{name}_{z}_{c}.tif")  # doctest: +SKIP
    """
    workers = check_nb_workers(nb_workers)
    how = Selection(
        missing=missing, pattern=pattern, position=position,
        series=series, pages=pages, allow_sparse=allow_sparse, check=check,
    )  # fmt: skip
    place = locate_file(path, storage_options)
    grid = read_dataset(place, pattern, pages)
    for text in odd_about(grid):
        warn(f"{str(place)!r}: {text}")
    return open_grid(grid, workers, how, chunks=chunks)


class Position(str):
    """The name of a position, with where the stage was.

    Attributes
    ----------
    position_um : tuple or None
        ``(z, y, x)`` in micrometres, ``None`` for what is not stated.
    """

    position_um: Place | None

    def __new__(cls, name: str, position_um: Place | None) -> Self:
        """Give a name that knows its place."""
        found = super().__new__(cls, name)
        found.position_um = position_um
        return found


def dataset_positions(
    path: Any, pattern: str | None = None, *, storage_options: Mapping[str, Any] | None = None
) -> list[Position]:
    """Give the names of a dataset's positions, each of which :func:`imread_dataset` reads alone.

    Each is a ``str`` with ``position_um``, where the stage was, ``(z, y, x)`` in micrometres: by
    the names of folders (TeraStitcher, SmartSPIM), files beside the planes (Micro-Manager,
    mesoSPIM, Opera), or OME-XML; ``None`` where nothing states it. Empty where there is one
    position that has no name. Lists folders, and reads what lies beside a first file each.

    Raises
    ------
    PathNotFoundError, ArgumentError
        As for :func:`imread_dataset`.
    """
    place = locate_file(path, storage_options)
    grid = read_dataset(place, pattern)
    return [Position(name, at) for name, at in zip(grid.positions, grid.places, strict=True)]


def read_dataset(place: Location, pattern: str | None = None, pages: str | None = None) -> Reading:
    """Give how the files of a dataset are arranged.

    By a pattern, by the metadata of sets of files (but not where with ``pages="all"`` the pages
    of each file are asked for), or by what is found in their names.

    Raises
    ------
    PathNotFoundError
        If there is no TIFF file, or none fits the pattern.
    ArgumentError
        If the place is a file, or more than one reading fits.
    TiffReadError
        If a set of files makes no sense.
    """
    names, where = _names_of(place), repr(str(place))
    if pattern is not None:
        return NameReading.of(place, grid_of_pattern(names, pattern, where))
    sets = None if pages == "all" else sets_in(place, names)
    if sets is None:
        grid = grid_of_names(names, where)
        if _holds_stacks(place, grid, pages):
            grid = _of_stacks(grid, where)
        return NameReading.of(place, grid)
    try:
        grid = grid_of_names(names, where)
    except ArgumentError:
        return sets
    return NameReading.of(place, grid) if is_told_by_names(grid, sets) else sets


def _holds_stacks(place: Location, grid: NameGrid, pages: str | None) -> bool:
    """Tell whether files that words alone tell apart hold several planes, by the first one's head.

    No I/O where anything else is in the names.
    """
    field = grid.along("z")
    if field is None or not field.is_word:
        return False
    try:
        found = describe_plane(place / min(grid.files.values()), Selection(pages=pages), whole=True)
    except (TiffReadError, PathNotFoundError):
        return False  # it is told of where the files are read
    return math.prod(found.lead) > 1


def _names_of(place: Location) -> list[str]:
    if place.on_disk and not place.is_folder and place.exists():
        raise ArgumentError(
            f"{place!r} is a file, not a folder; "
            + Way("read it with imread", "names tell nothing of one file: leave out --pattern")
        )
    return list_tree(place)


def dataset_at(place: Location, kind: str, selection: Selection = AS_IT_IS) -> Reading | None:
    """Give how files are arranged, where they are more than one stack or channels of it.

    By the metadata of sets of files, or by their names.

    ``None`` of one file, an array, a folder of planes, and one with a folder a channel; and of
    whatever files are to be stacked as they are, with ``names="ignore"``.

    Raises
    ------
    ArgumentError
        If more than one reading fits a folder's names, or something is chosen that what lies
        there does not have.
    """
    _check_fits(place, kind, selection)
    grid = _grid_of(place, kind, selection)
    if grid is None and selection.position is not None:
        raise ArgumentError(f"{place!r} has no positions by the names of its files")
    return grid


def _check_fits(place: Location, kind: str, selection: Selection) -> None:
    """Refuse what is chosen of files of another kind than lie there."""
    in_folders = kind in ("folder", "channels", "dataset")
    if selection.pattern is not None and (not in_folders or selection.names == "ignore"):
        raise ArgumentError(
            f"a pattern reads the names of files in folders; {place!r} is "
            + ("to be read without" if in_folders else "no folder of TIFF files")
        )
    if selection.chosen and not in_folders and kind != "tiff":
        ((name, value), *_) = selection.chosen
        raise ArgumentError(
            Option(name, value) + f" chooses in TIFF files, and {place!r} is none: leave it out"
        )


def _grid_of(place: Location, kind: str, selection: Selection) -> Reading | None:
    if kind not in ("folder", "channels", "dataset") or selection.names == "ignore":
        return None
    if selection.pattern is not None or kind == "dataset":
        return read_dataset(place, selection.pattern, selection.pages)
    try:
        grid = read_dataset(place, pages=selection.pages)
    except AmbiguousNamesError:
        if kind == "channels":
            return None  # a folder a channel, as ever
        raise
    except ArgumentError:
        return None  # files of one number, which are told of where they are stacked
    return None if grid.is_told_by(kind) else grid


def grid_of_stacks(place: Location) -> NameReading:
    """Give how files that are stacks themselves are arranged in a folder.

    Raises
    ------
    ArgumentError
        If the names do not tell it; the message shows the patterns that choose.
    """
    where = repr(str(place))
    grid = _of_stacks(grid_of_names(_names_of(place), where), where)
    reading = NameReading.of(place, grid)
    _check_told(reading)
    return reading


def _of_stacks(grid: NameGrid, where: str) -> NameGrid:
    """Give the grid of files that hold z: words that were taken for it tell channels apart.

    Raises
    ------
    ArgumentError
        If the words are letters, which may be anything.
    """
    field = grid.along("z")
    if field is None or not field.is_word:
        return grid
    labels = field.labels
    if max(map(len, labels)) == 1:
        start = f"{where} holds stacks, and their names do not say what {labels[0]!r} and "
        start += f"{labels[-1]!r} are: give "
        patterns = (grid.pattern.replace("{z}", axis) for axis in ("{t}", "{c}", "{position}"))
        raise ArgumentError(start + joined(" or ", (Option("pattern", p) for p in patterns)) + ".")
    fields = tuple(replace(f, axis="c") if f is field else f for f in grid.fields)
    return replace(grid, fields=fields, guessed=(), pattern=grid.pattern.replace("{z}", "{c}"))


def _check_told(grid: Reading) -> None:
    """Refuse names that tell of no dataset."""
    if not grid.files:
        shown = joined(", ", map(repr, grid.strays), 3)
        raise ArgumentError(
            f"{grid.root!r}: the names of its {len(grid.strays):,} files ({shown}) do not say how "
            "they belong together: give " + Option("pattern", "") + ", or name one of the files"
        )


def channels_of(place: Location) -> tuple[str, ...]:
    """Give the names of the channels of a folder's files, as metadata or names have them.

    Raises
    ------
    PathNotFoundError, ArgumentError, TiffReadError
        As for :func:`read_dataset`.
    """
    return read_dataset(place).channels


def about_folder(place: Location, names: Sequence[str], *, is_set: bool) -> Iterator[str]:
    """Say why the files of a folder may be no one stack: they are a set, or by their names.

    Where the first file may be one of a set, that is looked at. No I/O otherwise.
    """
    sets = sets_in(place, names) if is_set and len(names) > 1 else None
    if sets is not None:
        with suppress(ArgumentError):
            if is_told_by_names(grid_of_names(names, repr(str(place))), sets, quiet=True):
                sets = None
    if sets is None:
        yield from about_names(str(place), names)
        return
    yield (
        f"{str(place)!r} holds {sets}, and its files are stacked one after the other, whatever "
        "their metadata say. imread_dataset reads them as what they are."
    )


def odd_about(grid: Reading) -> list[str]:
    """Say in sentences what may not be meant about the names of a dataset."""
    found = [f"{name!r} {grid.how_strays_differ}, and is left out" for name in grid.strays[:5]]
    if len(grid.strays) > 5:
        found.append(f"{len(grid.strays) - 5:,} more files are left out")
    if grid.gaps:
        found.append("missing by the names: " + joined(", ", grid.gaps, 10))
    return found


def open_grid(
    grid: Reading,
    nb_workers: int | None = None,
    selection: Selection = AS_IT_IS,
    *,
    chunks: Any = None,
) -> da.Array:
    """Give the lazy array of one position of a dataset whose names were read.

    Raises
    ------
    ArgumentError
        If there are several positions and none is given, or not the one that is.
    """
    _check_told(grid)
    one = grid_at(grid, selection.position)
    source = one.describe(nb_workers, selection)
    chunks = one.blocks_of(source) if chunks is None else chunks
    record = grid.record | {"axes": source.info.axes}
    record |= {} if selection.position is None else {"position": selection.position}
    source = source.with_attributes({READING_ATTRIBUTE: record})
    return lazy_array(source, chunks, name="imread")


def grid_at(grid: Reading, position: str | None) -> Reading:
    """Give the grid of a position, which need not be named where there is but one.

    Raises
    ------
    ArgumentError
        If there are several positions and none is given, or not the one that is.
    """
    names, where = grid.positions, str(grid.root)
    if position is None and len(names) <= 1:
        return grid.at(names[0]) if names else grid
    if position in names:
        return grid.at(str(position))
    shown = ", ".join(map(repr, names[:20])) + (f" … {names[-1]!r}" if len(names) > 20 else "")
    if not names:
        raise ArgumentError(f"{where!r} has one position alone, which has no name")
    there = f"{where!r} has {format_count(len(names), 'position')}: {shown}"
    if position is not None:
        raise ArgumentError(f"{there}; {position!r} is none of them")
    text: Message = there + ". Each is an array of its own: give " + Option("position", names[0])
    raise ArgumentError(text + ", or another one.")
