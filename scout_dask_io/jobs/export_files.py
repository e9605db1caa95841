"""Which files an export writes: their names, what may be replaced, and what stands already.

The kinds of TIFF files that an export writes, and how an array lies in them. No files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scout_dask_io.core.messages import OVERWRITE, RESUME, Option
from scout_dask_io.errors import (
    ArgumentError,
    PathNotFoundError,
    ResumeError,
    TargetExistsError,
    TiffReadError,
    WriteError,
)
from scout_dask_io.files.names import check_tiff_name
from scout_dask_io.jobs.export_selection import Exported
from scout_dask_io.jobs.export_values import SCALE, Conversion
from scout_dask_io.tiff.write_layout import TiffLayout, plan_layout
from scout_dask_io.tiff.write_metadata import is_whole, read_record
from scout_dask_io.tiff.writer import sweep_drafts
from scout_dask_io.write.tiff import check_target, is_ome_name

_TIFF = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Files:
    """The files of an export.

    Attributes
    ----------
    folders : tuple of Path
        Those that hold them, made where they are not there; none for one file.
    paths : tuple of Path
        The files.
    pages_each : int
        Pages in each of them; page ``k`` of all goes to file ``k // pages_each``.
    """

    folders: tuple[Path, ...]
    paths: tuple[Path, ...]
    pages_each: int

    def place(self, page: int) -> tuple[Path, int]:
        """Give the file that a page goes to, and its number there."""
        return self.paths[page // self.pages_each], page % self.pages_each


def name_files(target: Path, selection: Exported, n_pages: int) -> Files:
    """Give the one file, or the folder's, that ``target`` means; nothing is created.

    Raises
    ------
    PathNotFoundError
        If the directory that it lies in does not exist.
    ArgumentError
        If the name is that of another format, or the array has more axes than a folder has
        room for.
    TargetExistsError
        If something of another kind stands where a file or a folder goes.
    """
    if target.suffix.lower() in _TIFF:
        return Files((), (check_target(target),), n_pages)
    if not target.is_dir():
        check_tiff_name(target, folder=True)
    if not target.parent.is_dir():
        raise PathNotFoundError(
            f"{target} cannot be written: there is no directory {target.parent}. Create it first."
        )
    n_page_axes = 3 if selection.colour else 2
    lead = selection.view.shape[:-n_page_axes]
    letters = selection.axes[: len(lead)]
    # Channels of single planes, or moments, have a folder each too.
    n_planes = lead[-1] if letters.endswith("z") else 1
    outer = lead[:-1] if letters.endswith("z") else lead
    if len(outer) > 1:
        # One moment, or one channel, has no folder of its own.
        kept = [k for k, n in enumerate(outer) if n > 1] or [len(outer) - 1]
        outer, letters = tuple(outer[k] for k in kept), "".join(letters[k] for k in kept)
    if len(outer) > 1:
        raise ArgumentError(
            f"a folder holds planes, or channels of planes, and the array has shape "
            f"{selection.view.shape} ({', '.join(selection.axes)}): give a name that ends in .tif "
            "to write one file, or a region of one element along an axis"
        )
    first = selection.first_plane
    width = max(4, len(str(first + n_planes - 1)))
    names = [f"{selection.plane_axis}{first + k:0{width}d}.tif" for k in range(n_planes)]
    folders = [target]
    if outer:
        width = len(str(outer[0] - 1))
        folders = [target / f"{letters[0]}{k:0{width}d}" for k in range(outer[0])]
    for folder in dict.fromkeys((target, *folders)):
        if folder.exists() and not folder.is_dir():
            raise TargetExistsError(f"{folder} is a file: give the name of a folder to write")
    paths = tuple(check_target(f / n, parent=False) for f in folders for n in names)
    return Files(tuple(dict.fromkeys((target, *folders))), paths, 1)


def standing(
    files: Files, src: Any, records: Mapping[Path, dict[str, Any]], *, overwrite: bool, resume: bool
) -> set[Path]:
    """Check what stands there, and give the files that need not be written. Nothing is changed.

    Those are, with ``resume``, files that an export of the same source with the
    same settings wrote, and that are whole.

    Raises
    ------
    ArgumentError
        If the files would lie in the array that is exported.
    TargetExistsError
        If something stands there that may not be replaced, or would be read as
        a mixture with the new files.
    ResumeError
        If a file is of another export, and ``overwrite`` is not given.
    """
    top = files.folders[0] if files.folders else files.paths[0]
    _refuse_inside_source(top, src)
    if files.folders:
        _refuse_mixture(files, overwrite or resume)
    elif top.exists() and not (overwrite or resume):
        raise TargetExistsError(
            f"{top} already exists: give another name, or " + OVERWRITE + " to replace it"
        )
    done = set()
    if resume:
        for path in files.paths:
            if path.exists() and _is_done(path, records[path], files.pages_each == 1, overwrite):
                done.add(path)
    return done


def make_folders(files: Files, *, sweep: bool) -> None:
    """Make the folders of the files; with ``sweep``, remove what killed exports left in them.

    Raises
    ------
    WriteError
        If a folder cannot be made.
    """
    for folder in files.folders:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as err:
            raise WriteError(f"{folder} cannot be made: {err.strerror or err}") from err
    if sweep:
        sweep_drafts(files.paths)


def _is_done(path: Path, record: dict[str, Any], one_page: bool, overwrite: bool) -> bool:
    """Tell whether a file that stands is the one that would be written."""
    try:
        found = read_record(path)
    except TiffReadError:
        found = None
    if found == record:
        return is_whole(path, one_page=one_page)
    if overwrite:
        return False
    if found is None:
        raise TargetExistsError(
            f"{path} was not written by an export, or is damaged: " + OVERWRITE + " replaces it"
        )
    differing = [k for k in record if found.get(k) != record[k]]
    shown = ", ".join(f"{k} was {found.get(k)}, is {record[k]}" for k in differing)
    raise ResumeError(
        f"{path} is of another export: {shown or 'it says more than this one'}. Give another "
        "name, the settings it was written with, or " + OVERWRITE + " to write it anew."
    )


def _refuse_inside_source(target: Path, src: Any) -> None:
    if isinstance(src, (str, os.PathLike)):
        inside = Path(os.path.realpath(target))
        if inside.is_relative_to(os.path.realpath(src)):
            raise ArgumentError(f"{target} lies inside the array {src} that is exported")


def _refuse_mixture(files: Files, may_hold_planes: bool) -> None:
    """Raise unless what a folder holds is replaced, or is not read as planes or channels."""
    target, *inner = files.folders
    if not target.is_dir() or not any(target.iterdir()):
        return
    if not may_hold_planes:
        raise TargetExistsError(
            f"{target} is not empty: give a new folder, " + OVERWRITE + " to replace the planes of "
            "the same names, or " + RESUME + " to add those that an interrupted export left out"
        )
    meant = set(files.paths)
    others = [
        path
        for folder in inner or [target]
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _TIFF and check_target(path) not in meant
    ]
    if inner:
        others += [p for p in sorted(target.iterdir()) if p.is_dir() and p not in inner]
    others = [p for p in others if not p.name.startswith(".")]
    if others:
        raise TargetExistsError(
            f"{target} holds {len(others)} planes or folders besides those to be written, such "
            f"as {others[0].name!r}, and would read as a mixture: give a new folder, or remove "
            "them"
        )


_IMAGEJ_DTYPES = ("uint8", "uint16", "float32")


def file_kind(target: Path, imagej: bool) -> str:
    """Give what a name asks for: ``"planes"``, ``"tiff"``, ``"imagej"`` or ``"ome"``.

    Raises
    ------
    ArgumentError
        If it is no name of an ImageJ file, where one is asked for.
    """
    name = target.name.lower()
    ome = is_ome_name(name)
    if imagej and (ome or not name.endswith((".tif", ".tiff"))):
        raise ArgumentError(
            Option("imagej", True)
            + f" writes one file, and {target} is not the name of one: give a name that "
            "ends in .tif, and not in .ome.tif"
        )
    if ome:
        return "ome"
    if imagej:
        return "imagej"
    return "tiff" if name.endswith((".tif", ".tiff")) else "planes"


def for_imagej(chosen: Exported) -> Exported:
    """Give a selection with its axes in ImageJ's order.

    Raises
    ------
    ArgumentError
        If ImageJ has no such axes.
    """
    strange = set(chosen.axes) - set("tzcyxs")
    if strange:
        raise ArgumentError(
            f"ImageJ knows the axes t, z, c, y, x, and the array of shape {chosen.view.shape} has "
            f"{', '.join(chosen.axes)}: leave imagej out, or export a region of one element"
        )
    return chosen.reordered("".join(a for a in "tzcyxs" if a in chosen.axes))


def lay_out(
    kind: str,
    chosen: Exported,
    conversion: Conversion,
    compress: int | None,
    n_levels: int | None,
) -> TiffLayout:
    """Give how a selection lies in files of a kind.

    Raises
    ------
    ArgumentError
        If it cannot lie in them, or an argument does not go with them.
    """
    if n_levels is not None and kind != "ome":
        raise ArgumentError(
            Option("n_levels") + " is for an OME-TIFF, a name that ends in .ome.tif"
        )
    shape, dtype = chosen.view.shape, conversion.dtype
    if n_levels is not None and (isinstance(n_levels, bool) or not 1 <= n_levels <= 32):
        raise ArgumentError(f"n_levels must be a whole number from 1 to 32, got {n_levels!r}")
    row_axis = len(shape) - (3 if chosen.colour else 2)
    layout = plan_layout(
        shape,
        dtype,
        (0 if kind == "imagej" else 1) if compress is None else compress,
        step=min(chosen.view.read_shape[row_axis], shape[row_axis]),
        tiled=kind == "ome",
        n_levels=n_levels,
        colour=chosen.colour,
    )
    if kind != "imagej":
        return layout
    good = dtype.name in _IMAGEJ_DTYPES if layout.samples == 1 else shape[-1] == 3
    if not good or (layout.samples == 3 and dtype.name != "uint8"):
        raise ArgumentError(
            f"ImageJ reads uint8, uint16, float32 and RGB of uint8, and this would be {dtype}: "
            "give "
            + Option("dtype", "")
            + " one of them, with "
            + SCALE
            + " where it does not hold every value"
        )
    if layout.big and layout.compress:
        raise ArgumentError(
            "ImageJ reads files above 4 GB only where nothing is compressed: give "
            + Option("compress", 0)
        )
    return replace(layout, big=False, one_directory=layout.big)
