"""Folders that hold sets of files: which images are in them, and whether names tell the same.

A set states what each of its planes is, so it goes before what names may tell; but where each
file is one plane and the names agree with the metadata, names tell more: of UltraMicroscope's
files the channels, of a folder that has a part of a set which part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from typing import Any

from scout_dask_io.core.formatting import format_count
from scout_dask_io.core.image_info import named_channels
from scout_dask_io.core.messages import warn
from scout_dask_io.core.name_fields import NAMES_OF_AXES, NameGrid, grid_of_names, says_channels
from scout_dask_io.core.selection import AS_IT_IS, Selection
from scout_dask_io.errors import ArgumentError, PathNotFoundError, TiffReadError
from scout_dask_io.files.location import Location
from scout_dask_io.tiff.file_set import BrokenSetError, find_set, find_set_across, stage_of
from scout_dask_io.tiff.micromanager import FULL
from scout_dask_io.tiff.plane_map import FileSet, Place, PlaneMap
from scout_dask_io.tiff.range_reader import is_unreached
from scout_dask_io.tiff.set_source import MapSurvey, describe_map, survey_map
from scout_dask_io.tiff.source import TiffSource

_NOUNS = {"t": "time point", "c": "channel", "z": "plane"}
#: What is in the names of files that belong to sets, where other files come before them.
_MARKS = (".ome.tif", "_mmstack", "ndtiffstack")


@dataclass(frozen=True)
class Member:
    """One image of one position, and the folder of the set that it is in."""

    folder: Location
    members: FileSet
    image: PlaneMap


@dataclass(frozen=True)
class SetReading:
    """How the files of a dataset are arranged, by the metadata of the sets that they make up.

    It answers what a :class:`~scout_dask_io.tiff.dataset.NameReading` does.

    Attributes
    ----------
    root : Location
        The dataset's folder.
    sets : tuple of (str, FileSet)
        Each with the folder below the root that it lies in, which may be empty.
    strays : tuple of str
        Files that are of no set.
    is_across : bool
        Whether it is one set whose files lie in several folders.
    """

    root: Location
    sets: tuple[tuple[str, FileSet], ...]
    strays: tuple[str, ...] = ()
    is_across: bool = False

    #: What names have beside, which metadata do not.
    gaps: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()
    pattern: str = ""
    kind = "set"

    @cached_property
    def members(self) -> dict[str, Member]:
        """Every image of one position, by its name."""
        found: list[tuple[str, str, Member]] = []
        for below, one in self.sets:
            folder = self.root / below if below else self.root
            for image in one.by_position:
                member = Member(folder, one, image.ordered())
                prefix = one.images[0].name if len(one.images) == 1 else ""
                found.append((below or prefix, image.name, member))
        if len({name for _, name, _ in found}) == len(found):
            return {name: member for _, name, member in found}
        if len({start for start, _, _ in found}) == len(found):
            return {start: member for start, _, member in found}
        named = {f"{start} {name}".strip(): member for start, name, member in found}
        if len(named) == len(found):
            return named
        return {f"{start} {name} {k}".strip(): m for k, (start, name, m) in enumerate(found)}

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of its images, each of which is an array; empty of one alone."""
        return tuple(self.members) if len(self.members) > 1 else ()

    @property
    def places(self) -> list[Place | None]:
        """Where the stage was at each position, by the first plane of each or by the set; I/O."""
        found = [self.members[name] for name in self.positions]
        return [stage_of(one.folder, one.image) or one.image.place for one in found]

    @property
    def files(self) -> dict[str, None]:
        """All files, below the root, there or not."""
        return {
            f"{below}/{name}" if below else name: None
            for below, one in self.sets
            for name in one.files
        }

    @property
    def holes(self) -> tuple[str, ...]:
        """Files of the sets that are not there, and planes that are in none."""
        found = [f"{name!r}" for _, one in self.sets for name in sorted(one.lacking)]
        for one in self.members.values():
            empty = [k for k, plane in enumerate(one.image.planes) if plane is None]
            found += [one.image.words(k) for k in empty]
        return tuple(found)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of the first image."""
        return tuple(c.name for c in self._first.channels)

    @property
    def _first(self) -> PlaneMap:
        return next(iter(self.members.values())).image

    @property
    def axes(self) -> str:
        """The axes of the first image before those of a plane."""
        return self._first.axes

    @property
    def rows(self) -> list[tuple[str, str]]:
        """A row a field: its axis, and what there is along it."""
        names = self.positions
        found = []
        if names:
            shown = ", ".join(names[:4]) + (f" … {names[-1]}" if len(names) > 4 else "")
            found.append(("position", f"{len(names)}: {shown}"))
        image = self._first
        for axis, n in zip(image.axes, image.shape, strict=True):
            told = ", ".join(self.channels) if axis == "c" else ""
            found.append((NAMES_OF_AXES[axis], f"{n}: {told}" if told else str(n)))
        return found

    @property
    def record(self) -> dict[str, Any]:
        """How the files were read, as attributes of what is made of them have it."""
        image = self._first
        fields: dict[str, Any] = {
            NAMES_OF_AXES[a]: n for a, n in zip(image.axes, image.shape, strict=True)
        }
        if self.positions:
            fields["position"] = list(self.positions)
        return {"set": self.sets[0][1].kind, "fields": fields}

    @property
    def how_strays_differ(self) -> str:
        """Why a stray is left out, for sentences."""
        return f"is no file of {self.sets[0][1].kind} as the others are"

    @property
    def how(self) -> str:
        """By what it is read, for sentences."""
        return f"as {self.sets[0][1].kind}"

    def is_told_by(self, kind: str) -> bool:
        """Tell whether the kind of a folder says as much: it says nothing of sets."""
        return False

    def blocks_of(self, source: TiffSource) -> None:
        """Give none of its own: dask's blocks are those of the source."""

    def at(self, position: str) -> SetReading:
        """Give what is read of one position alone."""
        return _OnePosition(self.root, self.sets, self.strays, position=position)

    def describe(
        self, nb_workers: int | None = None, selection: Selection = AS_IT_IS
    ) -> TiffSource:
        """Describe the only image; reads the directories of its pages, no pixel.

        Raises
        ------
        PathNotFoundError, TiffReadError, ShapeMismatchError
            As for :func:`~scout_dask_io.tiff.set_source.describe_map`.
        """
        (member,) = self.members.values()
        return describe_map(member.folder, member.members, member.image, selection, nb_workers)

    def survey(
        self, nb_workers: int | None = None, selection: Selection = AS_IT_IS
    ) -> Iterator[MapSurvey]:
        """Read and check every file of every image; see :func:`survey_map`."""
        for one in self.members.values():
            yield survey_map(one.folder, one.members, one.image, selection, nb_workers)

    def __str__(self) -> str:
        image = self._first
        parts = [format_count(len(self.positions), "position")] if self.positions else []
        parts += [format_count(n, _NOUNS[a]) for a, n in zip(image.axes, image.shape, strict=True)]
        text = f"{format_count(len(self.files), 'file')} of {self.sets[0][1].kind}"
        return f"{text}: {' x '.join(parts or ['one plane'])}, by their metadata"


@dataclass(frozen=True)
class _OnePosition(SetReading):
    """One position of a dataset."""

    position: str = ""

    @cached_property
    def members(self) -> dict[str, Member]:
        """The image of the position."""
        whole = SetReading(self.root, self.sets, self.strays)
        return {self.position: whole.members[self.position]}

    @property
    def files(self) -> dict[str, None]:
        """The files of the position, below the root."""
        (member,) = self.members.values()
        below = next(below for below, one in self.sets if one is member.members)
        return {f"{below}/{name}" if below else name: None for name in member.image.files}


def sets_in(root: Location, names: Sequence[str]) -> SetReading | None:
    """Give the sets that the files of a folder make up, ``None`` where they are no sets.

    Looks into the first file, and where that belongs to a set into one of every set. ``names``
    are the paths of files below the folder.

    Raises
    ------
    PathNotFoundError, TiffReadError
        If a file that is looked into cannot be read, or a set makes no sense.
    """
    by_folder: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folder, _, last = name.rpartition("/")
        by_folder[folder].append(last)
    found: list[tuple[str, FileSet]] = []
    strays: list[str] = []

    @cache  # the first file is looked into before, to see whether there are sets at all
    def find(below: str, name: str) -> FileSet | None:
        return _find(root / below if below else root, name)

    if FULL in by_folder:  # beside it lie lower resolutions of the same
        by_folder = defaultdict(list, {FULL: by_folder[FULL]})
    elif len(by_folder) > 1 and (across := find_set_across(root, names[0], names)) is not None:
        others = tuple(sorted(set(names).difference(across.files)))
        return SetReading(root, (("", across),), others, is_across=True)
    for below in sorted(by_folder):
        queue = sorted(by_folder[below])
        marked = [n for n in queue if any(mark in n.lower() for mark in _MARKS)]
        if not found and not any(find(below, name) for name in [queue[0], *marked[:1]]):
            return None
        while queue:
            one = find(below, queue[0])
            if one is None:
                strays.append(f"{below}/{queue[0]}" if below else queue[0])
                del queue[0]
                continue
            found.append((below, one))
            files = one.files  # built anew at each look
            queue = [name for name in queue if name not in files]
    if len(found) > 1 and not any(len(one.files) > 1 for _, one in found):
        return None  # each file is whole, and names say what it is
    if (whole := _joined_channels(found)) is not None:
        found = [("", whole)]
    return SetReading(root, tuple(found), tuple(strays))


def _joined_channels(sets: Sequence[tuple[str, FileSet]]) -> FileSet | None:
    """Give sets as one, whose channels they are by the names of their folders.

    ``None`` where folders do not say so, as acquisitions of several days do not, where they hold
    more than one channel each, or other images than the first.
    """
    folders = [below for below, _ in sets]
    if len(sets) < 2 or len(set(folders)) < len(sets) or not all(folders):
        return None
    try:
        grid = grid_of_names([f"{below}/{k}.tif" for below in folders for k in range(2)])
    except ArgumentError:
        return None
    channel = grid.along("c")
    if channel is None or grid.axes != "cz" or grid.strays or not says_channels(channel):
        return None
    of_folder = dict(sets)
    ordered = [grid.files[k, 0].removesuffix("/0.tif") for k in range(len(sets))]
    images = [[image.squeezed() for image in of_folder[below].images] for below in ordered]
    kinds = [[(image.axes, image.shape) for image in one] for one in images]
    if any(kind != kinds[0] for kind in kinds) or any("c" in axes for axes, _ in kinds[0]):
        return None
    own = [c.name for one in images for c in one[0].channels]
    labels = own if len(set(own)) == len(ordered) == len(own) and all(own) else channel.labels
    joined = [
        replace(
            alike[0],
            axes="c" + alike[0].axes,
            shape=(len(alike), *alike[0].shape),
            planes=[
                None if p is None else p._replace(file=f"{below}/{p.file}")
                for below, image in zip(ordered, alike, strict=True)
                for p in image.planes
            ],
            channels=named_channels(labels),
        )
        for alike in zip(*images, strict=True)
    ]
    lacking = {f"{below}/{name}" for below, one in sets for name in one.lacking}
    return FileSet(sets[0][1].kind, tuple(joined), frozenset(lacking))


def _find(folder: Location, name: str) -> FileSet | None:
    """Give the set of a file; none of one that cannot be read, which is told of with the others."""
    try:
        return find_set(folder / name)
    except BrokenSetError:
        raise
    except (TiffReadError, PathNotFoundError) as err:
        if not folder.on_disk and is_unreached(err):
            raise
        return None


def is_told_by_names(grid: NameGrid, reading: SetReading, *, quiet: bool = False) -> bool:
    """Tell whether names put the planes of sets where the metadata do, so that they may be read.

    Of a set of which some files are not there, that is so where what is there has all planes
    along z: then somebody took channels, time points or positions apart, and unless ``quiet``
    is told of it. What one set says of files in several folders, all of which are there, goes
    before the names of the folders.
    """
    if reading.is_across and not reading.holes:
        return False
    if grid.holes or set(grid.strays) != set(reading.strays):
        return False
    where = {name: index for index, name in grid.files.items()}
    letters = grid.axes
    for below, one in reading.sets:
        places = list(_places(one, below))
        if len({name for name, _ in places}) < len(places):
            return False  # a file of several planes
        there = [(name, place) for name, place in places if name in where]
        if not _agree([where[name] for name, _ in there], letters, [p for _, p in there]):
            return False
        if one.lacking and not _has_all_planes(there, places):
            return False
        if one.lacking and not quiet:
            some = sorted(one.lacking)
            warn(
                f"{str(reading.root)!r} holds {len(there):,} of {len(places):,} files of "
                f"{one.kind}; what is there is read by its names, and {some[0]!r} "
                f"{'and others are' if len(some) > 1 else 'is'} not."
            )
    return True


def _places(members: FileSet, below: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield every plane's file and its place: image or position, and along each axis."""
    for number, image in enumerate(members.by_position):
        indices = product(*map(range, image.shape))
        for index, plane in zip(indices, image.planes, strict=True):
            if plane is not None:
                place = {"p": number, **dict(zip(image.axes, index, strict=True))}
                yield (f"{below}/{plane.file}" if below else plane.file), place


def _agree(
    indices: Sequence[tuple[int, ...]], letters: str, places: Sequence[Mapping[str, int]]
) -> bool:
    """Tell whether names and metadata number the axes alike, from wherever each begins."""
    for axis in "ptcz":
        # Views are positions to a set.
        at = [k for k, a in enumerate(letters) if a == axis or (axis == "p" and a == "v")]
        pairs = {
            (tuple(index[k] for k in at), place.get(axis, 0))
            for index, place in zip(indices, places, strict=True)
        }
        ours = [a for a, _ in pairs]
        theirs = [b for _, b in pairs]
        if len(set(ours)) < len(pairs) or len(set(theirs)) < len(pairs):
            return False
        if axis in "tz" and [b for _, b in sorted(pairs)] != sorted(theirs):
            return False
    return True


def _has_all_planes(
    there: Sequence[tuple[str, Mapping[str, int]]], places: Sequence[tuple[str, Mapping[str, int]]]
) -> bool:
    n_z = len({place.get("z", 0) for _, place in places})
    found: dict[tuple[int, ...], int] = defaultdict(int)
    for _, place in there:
        found[tuple(place.get(a, 0) for a in "ptc")] += 1
    return all(n == n_z for n in found.values()) and bool(found)
