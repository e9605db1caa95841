"""Mending what can be mended in a stored array without touching its data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scout_dask_io.core.formatting import Row, format_count
from scout_dask_io.core.messages import RESUME
from scout_dask_io.errors import PathNotFoundError
from scout_dask_io.files.disk import naming_errors
from scout_dask_io.files.location import Location, as_local, locate
from scout_dask_io.jobs.report import JobReport
from scout_dask_io.store.layout import detect_layout, stale_files
from scout_dask_io.store.metadata import Node, parse_metadata, read_node, separator_of
from scout_dask_io.store.nodes import probed_separators, separators_in_store
from scout_dask_io.store.remote_staging import MARKER_NAME, parse_marker
from scout_dask_io.store.staging import find_staging, leftovers

_CONSOLIDATED = ".zmetadata"


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


def repair(
    path: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> RepairReport:
    """Add a missing ``dimension_separator``, and remove temporary files that nothing needs.

    A v2 array that says nothing of its layout, as SCOUT wrote it, is read by this
    library as it lies on the disk, and as zeros by others where its chunks are
    nested; the key tells them. ``.zarray`` is replaced in one step, and so are the
    consolidated metadata of a group. Temporary files are those that zarr and this library
    leave on a disk when they are killed; in a store neither leaves any. Of a
    group, every array is mended. Chunk files are neither read nor changed.

    No other process may be writing to the array.

    Parameters
    ----------
    path : path-like
        The directory of an array or group, or its URL.
    dry_run : bool
        Only say what would be done.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Raises
    ------
    PathNotFoundError
        If there is no array or group.
    LayoutError
        If both layouts lie in one array, or metadata are damaged; nothing is changed.
    WriteError
        If a file cannot be written or removed.
    """
    root = locate(path, storage_options)
    node = None if root.on_disk and not root.is_folder else read_node(root)
    if node is None:
        raise PathNotFoundError(f"{root}: expected a Zarr array or group, found none")
    # All is looked at before anything is changed.
    arrays = _arrays(root, "")
    separators = [(name, found) for name, array in arrays if (found := _missing(array))]
    of_group = _consolidated(root, dict(arrays))
    stale = [*stale_files(as_local(root)), *leftovers(as_local(root))] if root.on_disk else []
    actions = [
        f"{_file(root, name)}: add dimension_separator {found!r}" for name, found in separators
    ]
    if of_group is not None:
        actions.append(f"{root / _CONSOLIDATED}: add the same for the arrays of the group")
    actions += [f"{file}: remove, left by a write that was killed" for file in stale]
    if not dry_run:
        for name, found in separators:
            _add(_file(root, name), found)
        if of_group is not None:
            (root / _CONSOLIDATED).write(json.dumps(of_group, indent=4).encode())
        for file in stale:
            with naming_errors(file, "it cannot be removed"):
                if file.is_dir() and not file.is_symlink():
                    shutil.rmtree(file)
                else:
                    file.unlink(missing_ok=True)
    return RepairReport(str(root), dry_run, tuple(actions), _unfinished(root))


def _unfinished(root: Location) -> str:
    """Say where an unfinished write of a node lies; empty where there is none."""
    if root.on_disk:
        staging = find_staging(as_local(root))
        return "" if staging is None else str(staging.job)
    marker = root / MARKER_NAME
    return "" if parse_marker(root, marker.read()) is None else str(marker)


def _arrays(root: Location, below: str) -> list[tuple[str, Node]]:
    """Give the arrays at and below a node, each with its path below the first."""
    node = read_node(root)
    if node is None or node.kind == "array":
        return [] if node is None else [(below, node)]
    found: list[tuple[str, Node]] = []
    for place, is_folder in sorted(root.entries(), key=lambda entry: entry[0].name):
        if is_folder and not place.is_link() and not place.name.startswith("."):
            found += _arrays(place, f"{below}/{place.name}" if below else place.name)
    return found


def _file(root: Location, name: str) -> Location:
    for part in name.split("/") if name else ():
        root /= part
    return root / ".zarray"


def _missing(array: Node) -> str | None:
    """Give the separator that a v2 array should name and does not, or ``None``."""
    separator = _stored(array)
    return None if separator in (None, separator_of(array.metadata)) else separator


def _stored(array: Node) -> str | None:
    """Give how the chunks of a v2 array are keyed that are there, if there are any to tell it."""
    if array.zarr_format != 2 or len(array.metadata["shape"]) < 2:
        return None
    if array.location.on_disk:
        layout = detect_layout(array)
        return layout.separator if layout.decided_by == "disk" else None
    found = separators_in_store(array)
    # Other files may lie there alone; flat is what readers take it for that says nothing.
    if "/" in found or separator_of(array.metadata) != "/":
        return "/" if "/" in found else None
    return min(probed_separators(array), default=None)


def _consolidated(root: Location, arrays: Mapping[str, Node]) -> dict[str, Any] | None:
    """Give the consolidated metadata of a group as they should be; ``None`` where they are so."""
    raw = (root / _CONSOLIDATED).read()
    if raw is None:
        return None
    document = parse_metadata(raw, root / _CONSOLIDATED)
    known = document.get("metadata")
    changed = False
    for name, array in arrays.items():
        own = known.get(f"{name}/.zarray") if isinstance(known, dict) else None
        stored = _stored(array)
        if isinstance(own, dict) and stored not in (None, own.get("dimension_separator")):
            own["dimension_separator"] = stored
            changed = True
    return document if changed else None


def _add(file: Location, separator: str) -> None:
    document = parse_metadata(file.read() or b"", file)
    document["dimension_separator"] = separator
    file.write(json.dumps(document, indent=4).encode())
