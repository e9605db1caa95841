"""Which files of a folder are planes, and in which order they stack.

Numbers in file names: which are missing, and which two names share.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from scout_dask_io.core.messages import Option, joined, warn
from scout_dask_io.core.name_fields import AmbiguousNamesError, grid_of_names
from scout_dask_io.core.name_layouts import TIFF_ENDINGS
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.location import Location, locate_file
from scout_dask_io.files.names import ZARR_FILES
from scout_dask_io.tiff.range_reader import answered

# A minus before a number is its sign where a separator stands before it: not in 12-30-01.
# Digits of an identifier that follows a number, as MetaXpress has it in s189A35A04-20E3, are none.
_GUID = r"(?=[0-9-]*[A-Fa-f])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4})+(?:[0-9A-Fa-f]{8})?"
_DIGITS = re.compile(rf"([0-9]+?(?={_GUID})|{_GUID}|(?:(?<=[_ =,(])|^)-[0-9]+|[0-9]+)")


def natural_key(name: str) -> tuple[list[tuple[int, int]], str]:
    """Give the sort key that puts ``z2`` before ``z10``."""
    # Character by character as in alphabetical order, so that the two differ by
    # numbers alone: a run of digits sorts where digits do, by its value.
    key: list[tuple[int, int]] = []
    for part in _DIGITS.split(name):
        if part.isascii() and part[-1:].isdigit() and part.lstrip("-").isdigit():
            key.append((ord("0"), int(part)))
        else:
            key += ((ord(letter), 0) for letter in part)
    return key, name  # z01 and z1 are equal as numbers


def _sort_names(names: Sequence[str], order: str, where: str) -> list[str]:
    """Sort file names, and warn where alphabetical order is not the natural one."""
    if order == "natural":
        return sorted(names, key=natural_key)
    alphabetical = sorted(names)
    natural = sorted(names, key=natural_key)
    if alphabetical != natural:
        at = next(k for k, (a, b) in enumerate(zip(alphabetical, natural, strict=True)) if a != b)
        warn(
            f"files of {where!r} are stacked in alphabetical order, which is not their natural "
            f"order: position {at} is {alphabetical[at]!r}, by number it would be "
            f"{natural[at]!r}. Pass " + Option("order", "natural") + " to stack them by number."
        )
    return alphabetical


def is_tiff(name: str) -> bool:
    """Tell whether a name ends as one of a TIFF file does, :data:`TIFF_ENDINGS`, in any case."""
    return name.lower().endswith(TIFF_ENDINGS)


def is_channel(name: str) -> bool:
    """Tell whether a sub-folder's name may be that of a channel: not if hidden, nor ``*.zarr``.

    What was converted may lie beside the channels that it was made of.
    """
    return not name.startswith(".") and not name.lower().endswith(".zarr")


def is_channel_folder(folder: Location) -> bool:
    """Tell whether a folder may be a channel: by its name, and on a disk not if it is Zarr."""
    # An array that was put among the channels under another name holds no plane. In a store,
    # each look would be a request.
    return is_channel(folder.name) and not (
        folder.on_disk and any((folder / name).stands() for name in ZARR_FILES)
    )


def list_planes(folder: Any, order: str = "alphabetical") -> list[Location]:
    """List the TIFF files of a folder, in stacking order.

    What :func:`is_tiff` is true of counts; hidden files and folders do not. The folder is a
    path, or the place of one in a store.

    Raises
    ------
    PathNotFoundError
        If the folder is missing or holds no TIFF file.
    ArgumentError
        If ``folder`` is a file.
    TiffReadError
        If a store cannot be asked.
    """
    place = locate_file(folder)
    found = _list(place, "a file, not a folder; read it with imread")
    planes = {name: p for name, (p, is_folder) in found.items() if is_tiff(name) and not is_folder}
    if not planes:
        raise PathNotFoundError(
            f"{place!r} holds no TIFF file, by its name (hidden files and sub-folders do not count)"
        )
    return [planes[name] for name in _sort_names(list(planes), order, str(place))]


def holds_planes(folder: Location) -> bool:
    """Tell whether there is a TIFF file in a folder that is not hidden."""
    return any(
        is_tiff(p.name) and not below and not p.name.startswith(".")
        for p, below in folder.entries()
    )


def list_subfolders(folder: Any) -> list[Location]:
    """List the sub-folders of a folder, sorted by name.

    Those that :func:`is_channel_folder` is false of do not count.

    Raises
    ------
    PathNotFoundError
        If the folder is missing or has no sub-folder.
    """
    place = locate_file(folder)
    found = _list(place, "a file, not a folder of channels; read it with imread")
    folders = [
        p for _, (p, is_folder) in sorted(found.items()) if is_folder and is_channel_folder(p)
    ]
    if not folders:
        raise PathNotFoundError(
            f"{place!r} has no sub-folder: one folder of planes a channel was expected. "
            "Read a single folder of planes with imread_folder."
        )
    return folders


def list_channels(folder: Any, order: str = "natural") -> list[tuple[Location, list[Location]]]:
    """List the sub-folders of a folder that hold planes, each with these in stacking order.

    Others, that hold notes or nothing or may not be listed, are passed over, and a warning
    names them.

    Raises
    ------
    PathNotFoundError
        If the folder is missing, or none holds planes.
    """
    found: list[tuple[Location, list[Location]]] = []
    others: list[str] = []
    for below in list_subfolders(folder):
        try:
            found.append((below, list_planes(below, order)))
        except PathNotFoundError as err:
            others.append(str(err))
    if not found:
        raise PathNotFoundError(others[0])
    for text in others:
        warn(f"{text}: it is no channel, and passed over")
    return found


def _list(place: Location, if_file: str) -> dict[str, tuple[Location, bool]]:
    """Give what is in a folder and not hidden: by its name where it is, and whether a folder."""
    with answered():
        found = place.entries()
        if not found and not (place.on_disk and place.is_folder):
            if place.stands() and not (place.on_disk and not place.exists()):
                raise ArgumentError(f"{place!r} is {if_file}")
            told = "" if place.on_disk else ": no object has a name that begins so. Check the URL."
            raise PathNotFoundError(f"there is no folder {place!r}{told}")
    return {p.name: (p, is_folder) for p, is_folder in found if not p.name.startswith(".")}


_NUMBER = re.compile(r"[0-9]+")


def check_numbering(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give numbers that are missing in names that otherwise agree, and names that share one.

    Examples
    --------
    >>> check_numbering(["z0.tif", "z1.tif", "z01.tif", "z3.tif"])
    (('z2.tif',), ('z01.tif and z1.tif',))
    """
    series: dict[tuple[str, str], dict[int, list[str]]] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        runs = list(_NUMBER.finditer(stem))
        if runs:
            last = runs[-1]
            key = (stem[: last.start()], stem[last.end() :])
            series.setdefault(key, {}).setdefault(int(last.group()), []).append(name)
    gaps: list[str] = []
    duplicates: list[str] = []
    for (before, after), numbers in sorted(series.items()):
        found = sorted(numbers)
        duplicates += [" and ".join(sorted(numbers[n])) for n in found if len(numbers[n]) > 1]
        steps = Counter(b - a for a, b in pairwise(found))
        if len(found) < 3:
            continue
        # Microscopes may number by micrometres, in equal steps.
        step = min(steps, key=lambda s: (-steps[s], s))
        width = len(_NUMBER.findall(numbers[found[0]][0].rpartition(".")[0])[-1])
        suffix = "." + numbers[found[0]][0].rpartition(".")[2]
        for a, b in pairwise(found):
            if (b - a) % step == 0 and (b - a) // step <= 1000:
                gaps += [f"{before}{n:0{width}d}{after}{suffix}" for n in range(a + step, b, step)]
            elif b - a > step:
                gaps.append(f"between {numbers[a][0]} and {numbers[b][0]}")
    return tuple(gaps), tuple(duplicates)


def about_names(folder: str, names: Sequence[str]) -> Iterator[str]:
    """Say in sentences why the files of a folder may be no one stack, and what to do about it.

    Examples
    --------
    >>> next(about_names("run7", ["z0.tif", "z1.tif", "z3.tif"]))[:48]
    "'run7' has numbers that are missing: z2.tif. Its"
    """
    gaps, duplicates = check_numbering(names)
    whats = ("numbers that are missing", "files of the same number")
    for what, found in zip(whats, (gaps, duplicates), strict=True):
        if found:
            yield (
                f"{folder!r} has {what}: {joined(', ', found, 10)}. Its planes are stacked "
                "as they are, one after the other."
            )
    for text in odd_names(names, has_gaps=bool(gaps))[:5]:
        yield (
            f"{folder!r}: {text}. If that is not meant, put what belongs together in a folder "
            "of its own (a folder a channel is read as channels), and move what does not away."
        )


def odd_names(names: Sequence[str], has_gaps: bool | None = None) -> tuple[str, ...]:
    """Say in sentences why files may be no one stack of planes, by their names alone.

    More than one field that varies (channels beside planes), a plane that is missing where its
    number is not the last one, a file that is not named as the others are. ``has_gaps`` is
    whether :func:`check_numbering` finds numbers that are missing, where that is known.

    Examples
    --------
    >>> odd_names([f"z{z}_ch{c}.tif" for z in range(3) for c in range(2)])[0]
    'the names tell of 2 channels x 3 planes, which are stacked as one axis of 6'
    >>> odd_names(["z0.tif", "z1.tif", "z2.tif", "MAX_z.tif"])
    ("'MAX_z.tif' is not named as the others are",)
    """
    try:
        grid = grid_of_names(names)
    except ArgumentError as err:
        if isinstance(err, AmbiguousNamesError):
            return (f"{err.odd}: {err.varying}",)
        return ()  # files of the same number are told of by check_numbering
    found = []
    if len(grid.fields) > 1:
        found.append(
            f"the names tell of {grid.fields_text}, which are stacked as one axis of "
            f"{len(grid.files)}"
        )
    if len(grid.files) > 1:
        found += [f"{name!r} is not named as the others are" for name in grid.strays]
    if not (bool(check_numbering(names)[0]) if has_gaps is None else has_gaps):
        found += [f"missing by the names: {hole}" for hole in grid.missing]
    return tuple(found)
