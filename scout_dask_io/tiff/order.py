"""Which files of a folder are planes, and in which order they stack."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from typing import Any

from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.tiff.files import absolute

__all__ = ["ORDERS", "list_planes", "list_subfolders", "natural_key", "sort_names"]

ORDERS = ("alphabetical", "natural")
_SUFFIXES = (".tif", ".tiff")
_DIGITS = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[list[tuple[int, int]], str]:
    """Give the sort key that puts ``z2`` before ``z10``."""
    # Character by character as in alphabetical order, so that the two differ by
    # numbers alone: a run of digits sorts where digits do, by its value.
    key: list[tuple[int, int]] = []
    for part in _DIGITS.split(name):
        if part.isascii() and part.isdigit():
            key.append((ord("0"), int(part)))
        else:
            key += ((ord(letter), 0) for letter in part)
    return key, name  # z01 and z1 are equal as numbers


def sort_names(names: Sequence[str], order: str, where: str) -> list[str]:
    """Sort file names, and warn where alphabetical order is not the natural one.

    Raises
    ------
    ArgumentError
        If ``order`` is neither ``"alphabetical"`` nor ``"natural"``.
    """
    if order not in ORDERS:
        raise ArgumentError(f"order must be one of {', '.join(map(repr, ORDERS))}, got {order!r}")
    if order == "natural":
        return sorted(names, key=natural_key)
    alphabetical = sorted(names)
    natural = sorted(names, key=natural_key)
    if alphabetical != natural:
        at = next(k for k, (a, b) in enumerate(zip(alphabetical, natural, strict=True)) if a != b)
        warnings.warn(
            f"files of {where!r} are stacked in alphabetical order, which is not their natural "
            f"order: position {at} is {alphabetical[at]!r}, by number it would be "
            f'{natural[at]!r}. Pass order="natural" to stack them by number.',
            UserWarning,
            stacklevel=4,
        )
    return alphabetical


def list_planes(folder: Any, order: str = "alphabetical") -> list[str]:
    """List the TIFF files of a folder as absolute paths, in stacking order.

    ``.tif`` and ``.tiff`` count, in any case; hidden files and folders do not.

    Raises
    ------
    PathNotFoundError
        If the folder is missing or holds no TIFF file.
    ArgumentError
        If ``order`` is unknown or ``folder`` is a file.
    """
    path = absolute(folder)
    names = [
        entry.name
        for entry in _scan(path, "a file, not a folder; read it with imread")
        if entry.name.lower().endswith(_SUFFIXES) and not entry.is_dir()
    ]
    if not names:
        raise PathNotFoundError(
            f"{path!r} holds no .tif or .tiff file (hidden files and sub-folders do not count)"
        )
    return [os.path.join(path, name) for name in sort_names(names, order, path)]


def list_subfolders(folder: Any) -> list[str]:
    """List the sub-folders of a folder as absolute paths, sorted by name; hidden ones do not count.

    Raises
    ------
    PathNotFoundError
        If the folder is missing or has no sub-folder.
    """
    path = absolute(folder)
    found = _scan(path, "a file, not a folder of channels; read it with imread")
    names = sorted(entry.name for entry in found if entry.is_dir())
    if not names:
        raise PathNotFoundError(
            f"{path!r} has no sub-folder: one folder of planes a channel was expected. "
            "Read a single folder of planes with imread_folder."
        )
    return [os.path.join(path, name) for name in names]


def _scan(path: str, if_file: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        raise PathNotFoundError(f"there is no folder {path!r}") from None
    except NotADirectoryError:
        raise ArgumentError(f"{path!r} is {if_file}") from None
