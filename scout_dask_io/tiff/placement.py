"""Where the planes of a folder that still grows belong in the array, as far as that is sure.

The place of a plane is its rank among all, and while some are yet to come only a run is known: the
planes from the first name on whose numbers follow one another without a gap. Where a lower
name comes after all, whoever read by these places finds that they have moved.

What lists and reads names; no file is opened.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.name_fields import NameField, NameGrid, grid_of_names, grid_of_pattern
from scout_dask_io.core.selection import AS_IT_IS, Selection
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.tiff.dataset import list_tree
from scout_dask_io.tiff.folder import is_channel_folder, is_tiff, natural_key

_NUMBER = re.compile(r"([0-9]+)")


#: A folder of planes, one with a folder a channel, or one whose names carry other axes.
PlacementKind: TypeAlias = Literal["folder", "channels", "dataset"]


class Placement(Protocol):
    """How the names in a folder become places in the leading axes of an array."""

    @property
    def kind(self) -> PlacementKind:
        """What ``convert`` takes the folder for."""

    @property
    def axes(self) -> str:
        """A letter an axis, in the order of the array's: some of ``tcz``."""

    @property
    def extents(self) -> Shape:
        """How many planes there will be along each."""

    def names(self) -> list[str]:
        """List the TIFF files, below the folder and with ``/``; none where there is no folder."""

    def places(self, names: Sequence[str]) -> dict[Shape, str]:
        """Give the names whose places are known, by their place.

        All of them once there are as many as the extents say.
        """


def run_of(names: Sequence[str]) -> int:
    """Tell how many sorted names, from the first on, are numbered one after the other.

    Two are where nothing but numbers differs in them and the first of these goes by the least step
    that any two have: a microscope may count in micrometres.

    Examples
    --------
    >>> run_of(["z000.tif", "z010.tif", "z020.tif", "z040.tif"])
    3
    >>> run_of(["a.tif", "b.tif"])
    1
    """
    steps = [_step(a, b) for a, b in pairwise(names)]
    least = min((s for s in steps if s), default=0)
    for k, step in enumerate(steps, start=1):
        if not step or step != least:
            return k
    return len(names)


@lru_cache(1 << 18)  # each two are asked about again whenever planes have come
def _step(a: str, b: str) -> int:
    """Give by how much the first number that differs rises; 0 where names differ otherwise."""
    parts_a, parts_b = _NUMBER.split(a), _NUMBER.split(b)
    if parts_a[::2] != parts_b[::2]:
        return 0
    found = (int(m) - int(n) for n, m in zip(parts_a[1::2], parts_b[1::2], strict=True) if n != m)
    return max(next(found, 0), 0)


def _tiffs(folder: str) -> list[str]:
    """List the TIFF files of a folder that are not hidden; none where there is no folder.

    A link may lead anywhere: it is looked at once it is asked for, and not in each listing.
    """
    try:
        with os.scandir(folder) as entries:
            return [
                e.name
                for e in entries
                if is_tiff(e.name)
                and not e.name.startswith(".")
                and not e.is_dir(follow_symlinks=False)
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as err:
        raise PathNotFoundError(f"{folder} cannot be listed: {err.strerror or err}") from err


def _sorted(names: Iterable[str], order: str) -> list[str]:
    return sorted(names, key=natural_key) if order == "natural" else sorted(names)


def _known(names: list[str], n: int) -> list[str]:
    """Give the sorted names whose ranks are known, of which there will be ``n``."""
    return names if len(names) >= n else names[: run_of(names)]


@dataclass(frozen=True, slots=True)
class FolderPlacement:
    """Planes of one folder, stacked in the order of their names."""

    kind: ClassVar[PlacementKind] = "folder"
    root: LocalLocation
    extents: Shape
    order: str = "alphabetical"
    axes: str = "z"

    def names(self) -> list[str]:
        """List the folder."""
        return _tiffs(os.fspath(self.root))

    def places(self, names: Sequence[str]) -> dict[Shape, str]:
        """Give the run of names, or all of them, by their rank."""
        known = _known(_sorted(names, self.order), self.extents[0])
        return {(z,): name for z, name in enumerate(known)}


@dataclass(frozen=True, slots=True)
class ChannelPlacement:
    """Planes of one folder a channel: the channels in the order of the folders' names."""

    kind: ClassVar[PlacementKind] = "channels"
    root: LocalLocation
    extents: Shape
    order: str = "alphabetical"
    axes: str = "cz"

    def names(self) -> list[str]:
        """List the folder, and each that lies in it and may be a channel."""
        folders = [
            p.name for p, is_folder in self.root.entries() if is_folder and is_channel_folder(p)
        ]
        root = os.fspath(self.root)
        return [f"{f}/{name}" for f in sorted(folders) for name in _tiffs(os.path.join(root, f))]

    def places(self, names: Sequence[str]) -> dict[Shape, str]:
        """Give the run of each channel; a channel has the rank of its folder among those seen."""
        folders: dict[str, list[str]] = defaultdict(list)
        for name in names:
            folder, _, own = name.rpartition("/")
            folders[folder].append(own)
        return {
            (c, z): f"{folder}/{name}"
            for c, folder in enumerate(sorted(folders))
            for z, name in enumerate(
                _known(_sorted(folders[folder], self.order), self.extents[1])
            )
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class NamedPlacement:
    """Planes whose names carry their channel, time and z, in a folder or a tree of some.

    Parameters
    ----------
    root : LocalLocation
        The folder.
    axes, extents
        As for :class:`Placement`.
    pattern : str, optional
        What reads the names; by default what one reading of those that are there fits.
    position : str, optional
        Which position, where there are several.
    """

    kind: ClassVar[PlacementKind] = "dataset"
    root: LocalLocation
    axes: str
    extents: Shape
    pattern: str | None = None
    position: str | None = None

    def names(self) -> list[str]:
        """List the folder, or the tree below it."""
        try:
            return list_tree(self.root)
        except PathNotFoundError:
            if self.root.is_folder or not self.root.stands():
                return []
            raise

    def places(self, names: Sequence[str]) -> dict[Shape, str]:
        """Give the names whose numbers along each axis follow one another from the first on.

        None where the names that are there cannot be read yet.
        """
        grid = None
        with suppress(ArgumentError):  # of too few names to tell; the whole folder is told of later
            grid = self._grid(names)
        if grid is None or not set(grid.axes) <= set(self.axes):
            return {}
        fields = [grid.along(axis) for axis in self.axes]
        known = [
            n if field is None else _known_values(field, n)
            for field, n in zip(fields, self.extents, strict=True)
        ]
        found: dict[Shape, str] = {}
        for index, name in grid.files.items():
            at = dict(zip(grid.axes, index, strict=True))
            place = tuple(at.get(axis, 0) for axis in self.axes)
            if all(k < n for k, n in zip(place, known, strict=True)):
                found[place] = name
        return found

    def _grid(self, names: Sequence[str]) -> NameGrid | None:
        if not names:
            return None
        where = repr(str(self.root))
        grid = (
            grid_of_names(names, where)
            if self.pattern is None
            else grid_of_pattern(names, self.pattern, where)
        )
        positions = grid.positions
        if not positions:
            return grid
        if self.position is None:
            return grid.at(positions[0]) if len(positions) == 1 else None
        return grid.at(self.position) if self.position in positions else None


def _known_values(field: NameField, n: int) -> int:
    """Give how many values of an axis, from the first on, have the places that they will keep."""
    values: Sequence[Any] = field.values
    if len(values) >= n:
        return len(values)
    if any(isinstance(v, str) for v in values):
        return 0  # a word that is yet to come may sort before these
    steps = [round(b - a, 9) for a, b in pairwise(values)]
    least = min(steps, default=0)
    return next((k for k, step in enumerate(steps, start=1) if step != least), len(values))


def placement_of(
    root: LocalLocation, planes: Mapping[str, int], selection: Selection = AS_IT_IS
) -> Placement:
    """Give how planes are placed, by the axes that are counted and what is there by now.

    ``planes`` has the count along each axis: ``z`` alone is a folder of planes; ``c`` and ``z``
    with folders and no pattern is a folder a channel; all else goes by names.
    """
    axes = "".join(a for a in "tcz" if a in planes)
    extents = tuple(planes[a] for a in axes)
    if selection.pattern is None and selection.position is None:
        if axes == "z":
            return FolderPlacement(root, extents, selection.order)
        if axes == "cz" and not _tiffs(os.fspath(root)):
            return ChannelPlacement(root, extents, selection.order)
    return NamedPlacement(root, axes, extents, selection.pattern, selection.position)


def missing_places(extents: Shape, there: Mapping[Shape, str]) -> list[Shape]:
    """Give the places, in C order, for which nothing is there."""
    return [place for place in product(*map(range, extents)) if place not in there]
