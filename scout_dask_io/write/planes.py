"""The planes that an array is made of: which file each was read from, and in which state that was.

They stay on record in the manifest, so that planes which were written again are found later
without a look at pixels.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Shape, full_region
from scout_dask_io.core.source import Source, ViewSource
from scout_dask_io.store.unfinished import PLANES
from scout_dask_io.tiff.page_layout import FILE, NO_FILE
from scout_dask_io.tiff.source import TiffSource


@dataclass(frozen=True)
class Planes:
    """The pages along the leading axes of a TIFF source, each with its file's state.

    Attributes
    ----------
    lead : tuple of int
        How many there are along each of these axes.
    axes : tuple of int
        Which axis of the array each of them is.
    names : tuple of str
        Of the files, below the folder that they share.
    states : tuple of (int, int)
        Size and time of the last change of each, in nanoseconds.
    files : numpy.ndarray
        The number of each page's file, shaped like ``lead``; -1 where a page is filled.
    """

    lead: Shape
    axes: tuple[int, ...]
    names: tuple[str, ...]
    states: tuple[tuple[int, int], ...]
    files: np.ndarray

    def record(self) -> dict[str, Any]:
        """Give it as JSON; which file a page has is left out where each has the next."""
        numbers = self.files.reshape(-1).tolist()
        each = numbers == list(range(len(self.names)))
        return {
            "lead": list(self.lead),
            "axes": list(self.axes),
            "files": list(self.names),
            "sizes": [size for size, _ in self.states],
            "times": [time for _, time in self.states],
            **({} if each else {"pages": numbers}),
        }

    @classmethod
    def parse(cls, found: Any) -> Planes | None:
        """Give what :meth:`record` gave; ``None`` of what is no such record."""
        try:
            lead = tuple(int(n) for n in found["lead"])
            names = tuple(map(str, found["files"]))
            states = tuple((int(s), int(t)) for s, t in
                           zip(found["sizes"], found["times"], strict=True))  # fmt: skip
            numbers = found.get("pages", list(range(len(names))))
            files = np.array(numbers, np.int64).reshape(lead)
            return cls(lead, tuple(map(int, found["axes"])), names, states, files)
        except (KeyError, TypeError, ValueError):
            return None

    def keys(self) -> np.ndarray:
        """Give name, size and time of each page's file as one text, shaped like ``lead``."""
        texts = [f"{n}\0{s}\0{t}" for n, (s, t) in zip(self.names, self.states, strict=True)]
        return np.asarray(np.array([*texts, ""], object)[self.files])

    def by_name(self) -> dict[str, tuple[int, int]]:
        """Give the state of each file."""
        return dict(zip(self.names, self.states, strict=True))

    def pages_by_name(self) -> dict[str, list[Shape]]:
        """Give the pages of each file, by their place along the leading axes."""
        found: dict[str, list[Shape]] = {name: [] for name in self.names}
        for place, number in zip(np.ndindex(*self.lead), self.files.flat, strict=True):
            if number >= 0:
                found[self.names[number]].append(place)
        return found


def planes_of(source: Source | None) -> Planes | None:
    """Give the planes of what a reader of TIFF files gave; ``None`` of anything else."""
    viewed, axes = _viewed(source)
    if not isinstance(viewed, TiffSource):
        return None
    table = viewed.table
    lead = table.pages.shape[:-1]
    files = [table.files[k] for k in range(len(table.files))]
    paths = [file.path.replace(os.sep, "/") for file in files]
    # Of characters, cut back to a folder: to split each path took longer than all else.
    shared = os.path.commonprefix(paths).rfind("/") + 1  # noqa: RUF071
    names = tuple(path[shared:] for path in paths)
    numbers = np.where(table.pages[..., FILE] == NO_FILE, -1, table.pages[..., FILE])
    order = range(len(lead)) if axes is None else [axes.index(k) for k in range(len(lead))]
    states = tuple((int(file.size), int(file.mtime_ns)) for file in files)
    return Planes(tuple(lead), tuple(order), names, states, np.asarray(numbers, np.int64))


def pages_of(source: Source | None) -> TiffSource | None:
    """Give the TIFF source that a source is, or has the axes of in another order, whole."""
    viewed, _ = _viewed(source)
    return viewed if isinstance(viewed, TiffSource) else None


def _viewed(source: Source | None) -> tuple[Source | None, tuple[int, ...] | None]:
    """Give what a view of the whole has in another order, and that order; or the source itself."""
    if isinstance(source, ViewSource) and source.region == full_region(source.source.shape):
        return source.source, source.axes
    return source, None


def planes_noted(source: Source | None) -> Mapping[str, Any]:
    """Give what a write notes of the planes that it reads; nothing where there are none."""
    found = planes_of(source)
    return {} if found is None else {PLANES: found.record()}
