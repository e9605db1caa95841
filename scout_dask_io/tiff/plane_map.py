"""Which plane of an image lies where, in images that several files make up. No files.

An image of a set of files is a :class:`PlaneMap`, all that the files of a set hold are a
:class:`FileSet`. Axes are letters: ``t``, ``c``, ``z``, and ``r`` for positions of the stage,
which are never one axis with planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import Channel
from scout_dask_io.core.voxel_size import VoxelSize

#: A place of the stage, ``(z, y, x)`` in micrometres; ``None`` where it is not stated.
Place: TypeAlias = tuple[float | None, float | None, float | None]
#: The order of axes in datasets.
ORDER = "tcz"
_WORDS = {"t": "time", "c": "channel", "z": "z", "r": "position"}


class PlaneAt(NamedTuple):
    """A plane in a file beside the others: its page's number, or the bytes where it lies.

    ``ifd`` is the offset of its directory, -1 where ``page`` counts; ``data`` that of its pixels
    where these alone are known: they are raw, and else as the first page of the file. ``text``
    and ``text_nbytes`` say where the JSON of the plane lies, -1 where no index does.
    """

    file: str
    page: int = 0
    ifd: int = -1
    data: int = -1
    text: int = -1
    text_nbytes: int = 0


@dataclass(frozen=True)
class PlaneMap:
    """One image of a set of files.

    Attributes
    ----------
    name : str
        Of the image, which is that of its position where there are several.
    axes : str
        A letter an axis, in the order in which metadata have them.
    shape : tuple of int
        Extent of each of ``axes``.
    planes : sequence of PlaneAt or None
        The planes in C order; ``None`` where nothing says in which file one lies.
    sizes : tuple of VoxelSize
        What the metadata of the set state of the size of a voxel.
    channels : tuple of Channel
        What they state of the channels.
    positions : tuple of str
        Names along ``r``, where the image has that axis.
    place : tuple or None
        Where the stage was, ``(z, y, x)`` in micrometres.
    places : tuple of (tuple or None)
        The same for each of ``positions``; empty where nothing states it.
    """

    name: str
    axes: str
    shape: Shape
    planes: Sequence[PlaneAt | None]
    sizes: tuple[VoxelSize, ...] = ()
    channels: tuple[Channel, ...] = ()
    positions: tuple[str, ...] = ()
    place: Place | None = None
    places: tuple[Place | None, ...] = ()

    def __post_init__(self) -> None:
        """Hold axes, shape and planes together."""
        if len(self.axes) != len(self.shape) or math.prod(self.shape) != len(self.planes):
            raise ValueError(f"{len(self.planes)} planes of {self.axes} {self.shape}")

    @property
    def files(self) -> dict[str, None]:
        """The names of its files, in the order of their planes."""
        return {p.file: None for p in self.planes if p is not None}

    @property
    def n_lacking(self) -> int:
        """How many planes lie in no file that is known."""
        return sum(p is None for p in self.planes)

    def taken(self, order: str, lead: Sequence[slice] | None = None) -> PlaneMap:
        """Give some of its axes in an order; the others must be 1 long, or cut so by ``lead``."""
        numbers = np.arange(len(self.planes)).reshape(self.shape)
        numbers = numbers[tuple(lead)] if lead is not None else numbers
        others = [a for a in self.axes if a not in order]
        numbers = numbers.transpose([self.axes.index(a) for a in [*order, *others]])
        shape = numbers.shape[: len(order)]
        planes = [self.planes[k] for k in numbers.reshape(shape).ravel().tolist()]
        return replace(self, axes=order, shape=shape, planes=planes)

    def squeezed(self) -> PlaneMap:
        """Give it without the axes that are 1 long."""
        kept = "".join(a for a, n in zip(self.axes, self.shape, strict=True) if n > 1)
        return self.taken(kept)

    def ordered(self) -> PlaneMap:
        """Give it squeezed, in the order ``(t, c, z)``."""
        kept = "".join(a for a in ORDER if a in self.axes and self.shape[self.axes.index(a)] > 1)
        return self.taken(kept)

    def of_position(self, number: int) -> PlaneMap:
        """Give the image at one of its positions."""
        at = self.axes.index("r")
        lead = [slice(None)] * len(self.axes)
        lead[at] = slice(number, number + 1)
        found = self.taken(self.axes.replace("r", ""), lead)
        place = self.places[number] if self.places else self.place
        return replace(found, name=self.positions[number], positions=(), place=place, places=())

    def counted(self) -> PlaneMap:
        """Give the least box around the planes that lie in some file."""
        there = np.array([p is not None for p in self.planes]).reshape(self.shape)
        if there.all() or not there.any():
            return self
        where = np.nonzero(there)
        found = self.taken(self.axes, [slice(int(w.min()), int(w.max()) + 1) for w in where])
        if "r" in self.axes:
            span = where[self.axes.index("r")]
            part = slice(int(span.min()), int(span.max()) + 1)
            found = replace(found, positions=self.positions[part], places=self.places[part])
        return found

    def words(self, number: int) -> str:
        """Say which plane one is, by its number in C order."""
        index = np.unravel_index(number, self.shape)
        found = [
            f"{_WORDS.get(a, a)} {k}"
            for a, k, n in zip(self.axes, index, self.shape, strict=True)
            if n > 1
        ]
        return ", ".join(found) or "the only plane"


@dataclass(frozen=True)
class FileSet:
    """All images that the files of a set hold.

    Attributes
    ----------
    kind : str
        What it is, with an article, for people.
    images : tuple of PlaneMap
        In the order of the metadata.
    lacking : dict
        Names of files that are not beside the others.
    """

    kind: str
    images: tuple[PlaneMap, ...]
    lacking: frozenset[str] = field(default_factory=frozenset)

    @property
    def files(self) -> dict[str, None]:
        """The names of all files, there or not."""
        return {name: None for image in self.images for name in image.files}

    @property
    def by_position(self) -> tuple[PlaneMap, ...]:
        """Its images, each of one position; their names differ."""
        found: list[PlaneMap] = []
        for image in self.images:
            n = image.shape[image.axes.index("r")] if "r" in image.axes else 0
            found += [image.of_position(k) for k in range(n)] if n else [image]
        names = [one.name for one in found]
        if len(set(names)) < len(names) or not all(names):
            found = [replace(one, name=f"{one.name or 'image'} {k}") for k, one in enumerate(found)]
        return tuple(found)

    def series_of(self, file: str) -> list[int]:
        """Give the numbers of the images that have planes in a file."""
        return [k for k, image in enumerate(self.images) if file in image.files]
