"""Mending what can be mended in a stored array without touching its data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scout_dask_io.core.formatting import Row, format_count
from scout_dask_io.core.messages import RESUME
from scout_dask_io.errors import PathNotFoundError
from scout_dask_io.files.disk import naming_errors
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.jobs.report import JobReport
from scout_dask_io.store.create import local_path
from scout_dask_io.store.layout import array_at, detect_layout, stale_files
from scout_dask_io.store.metadata import parse_metadata, read_node, separator_of
from scout_dask_io.store.staging import find_staging, leftovers


@dataclass(frozen=True, slots=True)
class RepairReport(JobReport):
    """What :func:`repair` did, or would do.

    Attributes
    ----------
    path : str
        The array or group.
    dry_run : bool
        Whether nothing was changed.
    actions : tuple of str
        One line each; empty where nothing needs mending.
    unfinished : str
        Where an unfinished write lies beside it; it is left for ``resume=True``.
    """

    path: str
    dry_run: bool
    actions: tuple[str, ...]
    unfinished: str

    def title(self) -> str:
        """Say how much there was to mend."""
        if not self.actions:
            return f"{self.path}: nothing to mend"
        verb = "would be mended" if self.dry_run else "mended"
        return f"{self.path}: {format_count(len(self.actions), 'thing')} {verb}"

    def rows(self) -> Iterable[Row]:
        """Name each thing, and what is left alone."""
        yield from ((None, action) for action in self.actions)
        if self.unfinished:
            yield None, f"an unfinished write lies in {self.unfinished}; " + RESUME + " finishes it"


def repair(path: str | os.PathLike[str], *, dry_run: bool = False) -> RepairReport:
    """Add a missing ``dimension_separator``, and remove temporary files that nothing needs.

    A v2 array that says nothing of its layout, as SCOUT wrote it, is read by this
    library as it lies on the disk, and as zeros by others where its chunks are
    nested; the key tells them. ``.zarray`` is replaced in one step. Temporary
    files are those that zarr and this library leave when they are killed. Of a
    group, every array is mended. Chunk files are neither read nor changed.

    No other process may be writing to the array.

    Parameters
    ----------
    path : path-like
        The directory of a local array or group.
    dry_run : bool
        Only say what would be done.

    Raises
    ------
    PathNotFoundError
        If there is no array or group.
    LayoutError
        If both layouts lie in one array, or metadata are damaged; nothing is changed.
    WriteError
        If a file cannot be written or removed.
    """
    root = local_path(path)
    node = read_node(root) if root.is_dir() else None
    if node is None:
        raise PathNotFoundError(f"{root}: expected a Zarr array or group, found none")
    # All is looked at before anything is changed.
    separators = [(array, separator) for array in _arrays(root) if (separator := _missing(array))]
    stale = [*stale_files(root), *leftovers(root)]
    actions = [
        f"{array / '.zarray'}: add dimension_separator {separator!r}"
        for array, separator in separators
    ]
    actions += [f"{file}: remove, left by a write that was killed" for file in stale]
    if not dry_run:
        for array, separator in separators:
            _add(array / ".zarray", separator)
        for file in stale:
            with naming_errors(file, "it cannot be removed"):
                if file.is_dir() and not file.is_symlink():
                    shutil.rmtree(file)
                else:
                    file.unlink(missing_ok=True)
    staging = find_staging(root)
    unfinished = "" if staging is None else str(staging.job)
    return RepairReport(str(root), dry_run, tuple(actions), unfinished)


def _arrays(root: LocalLocation) -> Iterator[LocalLocation]:
    """Yield the directories of the arrays at and below a node."""
    node = read_node(root)
    if node is None:
        return
    if node.kind == "array":
        yield root
        return
    for place in root.children():
        if place.is_folder and not place.is_link() and not place.name.startswith("."):
            yield from _arrays(place)


def _missing(array: LocalLocation) -> str | None:
    """Give the separator that a v2 array should name and does not, or ``None``."""
    layout = detect_layout(array_at(array))
    if layout.zarr_format != 2 or layout.decided_by != "disk":
        return None
    return None if separator_of(layout.metadata) == layout.separator else layout.separator


def _add(file: LocalLocation, separator: str) -> None:
    document = parse_metadata(file.read() or b"", file)
    document["dimension_separator"] = separator
    file.write(json.dumps(document, indent=4).encode())
