"""Datasets of many TIFF files whose names say where each belongs: one source a position.

The files are listed, and described as those of a folder are; axes from their names and from
inside them are put together in the order ``(t, c, z, y, x)``.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Self

import numpy as np

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import FilledPlane, named_channels
from scout_dask_io.core.messages import Option, joined, warn
from scout_dask_io.core.name_fields import NAMES_OF_AXES, NameField, NameGrid
from scout_dask_io.core.name_layouts import stage_of_name
from scout_dask_io.core.selection import AS_IT_IS, Selection
from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    PathNotFoundError,
    ShapeMismatchError,
    TiffReadError,
)
from scout_dask_io.files.location import Location, as_local
from scout_dask_io.files.names import ZARR_FILES
from scout_dask_io.files.voxel_csv import csv_sizes
from scout_dask_io.tiff.describe import pending_of, stated_by_first, survey_planes
from scout_dask_io.tiff.folder import is_channel, is_tiff
from scout_dask_io.tiff.metadata import Stated, stage_place
from scout_dask_io.tiff.page_layout import NO_FILE, FileTable
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.plane_map import Place
from scout_dask_io.tiff.sidecar import Sidecar, of_file, places_beside, sidecars_of
from scout_dask_io.tiff.source import MAX_BLOCK_NBYTES, TiffSource, token_of
from scout_dask_io.tiff.stack_check import NAMED, filled_planes

#: Folders below each other, and folders in all, that are looked into.
_DEEPEST, _MOST_FOLDERS = 6, 100_000
_ORDER = "tcz"


def list_tree(root: Location) -> list[str]:
    """List the TIFF files of a folder, or where it has none itself those of the folders below it.

    Hidden files and folders do not count, nor do ``*.zarr``. Names are relative, with ``/``.

    Raises
    ------
    PathNotFoundError
        If there is no TIFF file, or the folder may not be listed.
    """
    found = sorted(_tiffs_on_disk(root) if root.on_disk else _tiffs_in_store(root))
    direct = [name for name in found if "/" not in name]
    if not found:
        raise PathNotFoundError(f"{root!r} holds no TIFF file, nor do the folders below it")
    return direct or found


def holds_tiffs_below(root: Location) -> bool:
    """Tell whether there is a TIFF file in some folder below a folder."""
    return next(_tiffs_on_disk(root) if root.on_disk else _tiffs_in_store(root), None) is not None


def _tiffs_on_disk(root: Location) -> Iterator[str]:
    queue: list[tuple[Any, str, tuple[str, ...]]] = [(as_local(root), "", ())]
    n_seen = 0
    while queue and n_seen < _MOST_FOLDERS:
        folder, above, inside = queue.pop()
        real = os.path.realpath(folder)
        if real in inside:  # a link that leads back
            continue
        n_seen += 1
        try:
            entries = folder.entries()
        except PathNotFoundError as err:
            if not above:
                raise
            warn(f"{err}; what it holds is passed over")
            continue
        if above and any(p.name in ZARR_FILES for p, _ in entries):
            continue  # an array among the channels, whatever it is named
        tiffs = [p.name for p, is_folder in entries if is_tiff(p.name) and not is_folder]
        yield from (above + name for name in tiffs if not name.startswith("."))
        if tiffs and not above:
            return  # what lies below a folder of planes is not of them
        if len(inside) < _DEEPEST:
            queue += [
                (p, f"{above}{p.name}/", (*inside, real))
                for p, is_folder in entries
                if is_folder and is_channel(p.name)
            ]


def _tiffs_in_store(root: Location) -> Iterator[str]:
    try:
        for name, _ in root.find():
            *folders, last = name.split("/")
            if is_tiff(last) and not last.startswith(".") and all(map(is_channel, folders)):
                yield name
    except ChunkReadError as err:
        raise PathNotFoundError(str(err)) from err


@dataclass(frozen=True)
class NameReading(NameGrid):
    """How the files of a folder are arranged by their names, and what is read of them so.

    Attributes
    ----------
    root : Location
        The dataset's folder.
    """

    root: Location = field(kw_only=True)

    @classmethod
    def of(cls, root: Location, grid: NameGrid) -> Self:
        """Give the arrangement of the files of a folder."""
        return cls(**vars(grid), root=root)

    def is_told_by(self, kind: str) -> bool:
        """Tell whether the kind of a folder says as much: one stack, or one a channel's folder."""
        if self.axes in ("", "z"):
            return True
        if kind == "folder" or self.axes != "cz" or self.strays:
            return False
        folders = {(index[0], name.rpartition("/")[0]) for index, name in self.files.items()}
        n = self.shape[0]
        per_channel = len(folders) == n == len({folder for _, folder in folders})
        return per_channel and not self.holes

    @property
    def places(self) -> list[Place | None]:
        """Where the stage was at each position, ``(z, y, x)`` in micrometres, if that is stated.

        By the names of folders where they tell, by the files beside the planes (one look a folder),
        or by the OME-XML of each position's first file.
        """
        firsts: list[str] = []
        for name in self.positions:
            one = self.at(name)
            firsts.append(one.files[min(one.files)])
        by_name: list[Place | None] = [stage_of_name(name) for name in firsts]
        if firsts and all(place is not None for place in by_name):
            return by_name
        folders: dict[Location, dict[str, Place]] = {}
        found: list[Place | None] = []
        for name in firsts:
            path = self.root / name
            place = next((one.place for one in of_file(path) if one.place is not None), None)
            for folder in _above(path, self.root):
                if place is None and folder != self.root.parent:
                    if folder not in folders:
                        folders[folder] = places_beside(folder)
                    known = folders[folder]
                    # A folder of its own has one place, whichever of its planes tells of it.
                    place = known.get(path.name)
                    if place is None and folder != self.root and len(set(known.values())) == 1:
                        place = next(iter(known.values()))
            if place is None:
                with suppress(TiffReadError, PathNotFoundError):
                    place = stage_place(path)
            found.append(place)
        return found

    def describe(
        self,
        nb_workers: int | None = None,
        selection: Selection = AS_IT_IS,
    ) -> TiffSource:
        """Describe the files, which are those of one position; reads headers, no pixel.

        A file of several pages brings axes of its own, as its metadata state them. Where files
        are missing, ``missing="fill"`` has planes of zeros in their places.

        Raises
        ------
        ShapeMismatchError
            If the names have holes, or files differ in shape or dtype.
        TiffReadError, PathNotFoundError
            As for a folder of planes.
        ArgumentError
            If an axis would come twice, or it cannot be told what the pages of a file are.
        """
        root, shape = self.root, self.shape
        indices = sorted(self.files)
        if self.holes:
            lacks = joined("; ", self.holes, NAMED)
            text = f"{root!r} lacks {lacks} by the names of its files ({self.fields_text})"
            if selection.missing != "fill":
                raise ShapeMismatchError(
                    text + ". Bring them back; or " + Option("missing", "fill")
                    + " puts zeros in their places and says so."
                )  # fmt: skip
            warn(text + ". Their planes hold zeros.")
        paths = [root / self.files[index] for index in indices]
        survey = survey_planes(paths, nb_workers, selection, asked=True, whole=True)
        left_out = survey.check(selection.missing)
        files, layouts, rows = survey.table(left_out)
        lead = survey.kind.lead if survey.kind else ()
        stated = stated_by_first(paths, survey, left_out, selection, whole=True) or Stated()
        plane = "yxs"[: len(layouts[0].shape)]
        inner = _inner_axes(root, self, stated, lead, plane)
        kept = [n for a, n in zip(inner, lead, strict=True) if a != "_"]
        table = np.zeros((*shape, *lead, 4), np.int64)
        table[..., :] = (NO_FILE, 0, 0, -1)
        where = tuple(np.array(indices, np.intp).T) if shape else ()
        n_files = (len(indices),) if shape else ()
        table[where] = np.array(rows, np.int64).reshape(*n_files, *lead, 4)
        table = table.reshape(*shape, *kept, 4)
        axes = self.axes + inner.replace("_", "")
        order = sorted(range(len(axes)), key=lambda k: _ORDER.index(axes[k]))
        table = np.ascontiguousarray(table.transpose(*order, len(axes)))
        filled = _filled(self, indices, left_out, order)
        above = list(_above(paths[0], root))
        beside = sidecars_of(paths[0], above)
        letters = [*(axes[k] for k in order), *plane]
        extents = (*table.shape[:-1], *layouts[0].shape)
        _warn_of_counts(beside, dict(zip(letters, extents, strict=True)))
        channel = self.along("c")
        channels = stated.channels
        if channel is not None:
            # What a file states of the channels of a whole set is more than its name does.
            as_many = len(channels) == len(channel.values) and all(c.name for c in channels)
            if not as_many:
                firsts = {index[self.axes.index("c")]: index for index in reversed(indices)}
                files_of = [root / self.files[firsts[k]] for k in sorted(firsts)]
                channels = named_channels(stated.telling(_channel_names(channel, beside, files_of)))
        sizes = csv_sizes(above)
        sizes += [one.size for one in beside if one.size is not None]
        ordered = "".join(axes[k] for k in order)
        what = f"dataset {ordered} {table.shape} {[f.file for f in filled]} {indices}"
        what += "".join(f" {k}={v}" for k, v in selection.chosen)
        return TiffSource(
            PageTable(FileTable.of(files), layouts, table), token_of(files, what),
            nb_workers=nb_workers, filled=filled, options=paths[0].options,
            stated=Stated(ordered + plane, (*sizes, *stated.sizes), channels, record=stated.record),
            pending=pending_of(paths, survey, selection, whole=True),
        )  # fmt: skip

    def blocks_of(self, source: TiffSource) -> tuple[Any, ...]:
        """Give dask blocks of a file each, or of a page where a file is over 256 MiB."""
        info = source.info
        extents = [
            n if a not in self.axes else 1
            for a, n in zip(info.axes, source.shape[: source.lead_ndim], strict=False)
        ]
        nbytes = math.prod(extents) * math.prod(source.shape[source.lead_ndim :])
        if nbytes * source.dtype.itemsize > MAX_BLOCK_NBYTES:
            return source.default_chunks
        return (*extents, *source.default_chunks[source.lead_ndim :])


def _above(first: Location, root: Location) -> Iterator[Location]:
    """Yield the folders that may have a file of sizes: those of a file up to one above the root."""
    for place in first.parents:
        yield place
        if place == root:
            yield place.parent
            return


def _channel_names(
    channel: NameField, beside: Sequence[Sidecar], files: Sequence[Location]
) -> Sequence[str]:
    """Give names of channels: words as they are, of numbers what files beside them state."""
    n = len(channel.values)
    if n != len(files) or any(isinstance(v, str) for v in channel.values):
        return channel.labels
    for one in beside:
        if len(one.channels) == len(set(one.channels)) == n > 1:
            return one.channels
    if not any(len(one.channels) == 1 for one in beside):
        return channel.labels
    own = [name for f in files for one in of_file(f) for name in one.channels]  # one a file
    return own if len(own) == len(set(own)) == n else channel.labels


def _warn_of_counts(beside: Sequence[Sidecar], extents: Mapping[str, int]) -> None:
    """Tell where what lies beside files counts other pixels or planes than there are."""
    for one in beside:
        differ = [
            f"{n} along {axis} and there are {extents.get(axis, 1)}"
            for axis, n in one.extents.items()
            if n != extents.get(axis, 1)
        ]
        if differ:
            warn(f"{one.source!r} states {', '.join(differ)}. What is there is read.")


def _inner_axes(root: Location, grid: NameGrid, stated: Stated, lead: Shape, plane: str) -> str:
    """Give a letter an axis of the pages in a file, ``_`` for one of length 1 that names have too.

    Raises
    ------
    ArgumentError
        If it cannot be told which axis is which.
    """
    found = stated.axes[: len(lead)] if len(stated.axes) == len(lead) + len(plane) else ""
    letters = list(found or "?" * len(lead))
    for k, (a, n) in enumerate(zip(letters, lead, strict=True)):
        if n == 1 and (a not in _ORDER or a in grid.axes):
            letters[k] = "_"
    unknown = [k for k, a in enumerate(letters) if a not in f"{_ORDER}_"]
    if len(unknown) == 1 and "z" not in grid.axes and "z" not in letters:
        letters[unknown[0]] = "z"  # pages of a file that does not say what they are
        unknown = []
    counts = Counter(grid.axes + "".join(letters))
    twice = [a for a, n in counts.items() if n > 1 and a in NAMES_OF_AXES]
    if not unknown and not twice:
        return "".join(letters)
    pages = "x".join(map(str, lead))
    if twice:
        axis = NAMES_OF_AXES[twice[0]]
        said = f"each file holds {lead[letters.index(twice[0])]} of {axis!r} by its own metadata"
        also = " (a guess, no word says it)" if twice[0] in grid.guessed else ""
        field = grid.along(twice[0])
        said += f", and the names count {len(field.values) if field else 0} of it too{also}"
    else:
        said = f"each file holds {pages} pages that do not say what they are"
    other = [a for a in ("t", "c", "p") if a not in grid.axes + "".join(letters)]
    guess = twice[0] if twice else "z"
    patterns = [
        Option(
            "pattern",
            grid.pattern.replace(f"{{{guess}}}", "{position}" if a == "p" else f"{{{a}}}"),
        )
        for a in other
    ]
    text = f"{root!r}: {said}. Say what the names count: "
    raise ArgumentError(text + joined(" or ", patterns) + ".")


def _filled(
    grid: NameGrid, indices: list[tuple[int, ...]], left_out: dict[int, Any], order: list[int]
) -> list[FilledPlane]:
    """Give the record of planes that hold zeros: those of files left out, and of none."""
    n = len(grid.shape)
    direct = len(order) == n  # axes inside files make one file many planes

    def place(index: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(index[k] for k in order) if direct else ()

    found = [
        replace(f, plane=place(indices[f.plane[0]]))
        for f in filled_planes(left_out, (max(len(indices), 1),))
    ]
    every = product(*map(range, grid.shape))
    empty = [index for index in every if index not in grid.files]
    found += [
        FilledPlane(place(index), hole, "there is no such file")
        for index, hole in zip(empty, grid.holes, strict=True)
    ]
    return sorted(found, key=lambda f: f.plane)
