"""What readers see at the destination of a write that is still going on: its first slabs, whole.

```
<parent>/<name>/          an array of the slabs that are whole, or a group of such levels
    .scout-excerpt        names the write that it is an excerpt of
```

Chunks are hard links to those of the growing array, so they take no room and are there before the
metadata count them: first the files of a slab, then, in one step each, metadata with a larger
extent. A reader sees the extent that it opened, every chunk of which is there; nothing that it can
reach is ever taken away. When the write is committed, the finished array changes places with the
excerpt. Its attribute ``scout_growing`` says how far it is; one that is finished has none.

There is no excerpt where something else stands at the destination, nor on a disk without hard
links.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scout_dask_io.core.grid import Region, Shape, iter_chunk_indices
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import warn
from scout_dask_io.errors import LayoutError
from scout_dask_io.files.disk import make_dirs, naming_errors, remove_tree
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.system import NO_LINK, replace
from scout_dask_io.store.image_info import GROWING_ATTRIBUTE
from scout_dask_io.store.local_transaction import LocalTransaction
from scout_dask_io.store.unfinished import group_documents

EXCERPT_NAME = ".scout-excerpt"


def excerpt_job(destination: LocalLocation) -> str | None:
    """Give the write that what stands at a destination is an excerpt of; ``None`` of all else."""
    try:
        raw = (destination / EXCERPT_NAME).read()
        return None if raw is None else str(parse_json(raw)["job"])
    except (LayoutError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class ShownLevel:
    """A level that units make from level 0 as they go.

    Attributes
    ----------
    level : int or None
        Its number in the image; ``None`` of an array by itself.
    total : tuple of int
        How many elements of level 0 are one of it, per axis.
    """

    level: int | None
    total: Shape

    def region(self, region: Region) -> Region:
        """Give what a region of level 0 becomes here; it is whole chunks, or ends at the edge."""
        return tuple(
            slice(s.start // t, -(-s.stop // t)) for s, t in zip(region, self.total, strict=True)
        )


@dataclass(slots=True)
class Excerpt:
    """The slabs of a growing array, or image, that readers see at its destination.

    Parameters
    ----------
    txn : LocalTransaction
        The write.
    levels : sequence of ShownLevel
        What its units make, the full level first.
    axis : int
        Along which it grows.
    group : dict, optional
        Attributes of the image's group, for the levels that are shown.
    """

    txn: LocalTransaction
    levels: Sequence[ShownLevel]
    axis: int
    group: dict[str, Any] | None = None
    #: Whether the extent in the end is not known yet.
    is_open: bool = False
    #: How many elements of ``axis`` readers see; in level 0.
    extent: int = 0
    #: Why nothing is shown, where that is so.
    hidden: str = ""

    @property
    def place(self) -> LocalLocation:
        """Where readers find it."""
        return self.txn.destination

    def is_shown(self) -> bool:
        """Tell whether an excerpt of this very write stands at the destination."""
        return excerpt_job(self.place) == self.txn.name

    def recover(self) -> None:
        """Go on from what an earlier run showed: what readers could see stays in reach."""
        if not self.is_shown():
            return
        first = self.levels[0].level
        here = self.place if first is None else self.place / str(first)
        for name in ("zarr.json", ".zarray"):
            raw = (here / name).read()
            if raw is not None:
                self.extent = int(parse_json(raw)["shape"][self.axis])

    def show(self, regions: Iterable[Region], extent: int) -> None:
        """Let readers see some more: the chunks of these regions, and all up to an extent.

        Chunks that stand there already and were written again are replaced, each in one step.

        Raises
        ------
        WriteError
            If a file cannot be written.
        """
        standing = self.is_shown()
        if self.hidden or (not standing and self.place.stands()):
            self.hidden = self.hidden or f"something else stands at {self.place}"
            return
        root = self.place if standing else self.txn.staging.job / "excerpt"
        with naming_errors(root, "what is finished cannot be shown there"):
            if not standing:
                remove_tree(root)
                root.mkdir()
            if not self._link(regions, root):
                if not standing:
                    remove_tree(root)
                return
            if extent > self.extent or not standing:
                self._describe(root, extent)
            if not standing:
                root.rename(self.place)
        self.extent = max(extent, self.extent)

    def _link(self, regions: Iterable[Region], root: LocalLocation) -> bool:
        """Give the chunks of regions their second names; ``False`` where the disk has none.

        Folders are listed: where most of an array is fill value, to ask for each chunk took longer.
        """
        regions = list(regions)
        for shown in self.levels:
            fmt, whole = self.txn.format(shown.level), str(self.txn.array(shown.level))
            here = root if shown.level is None else root / str(shown.level)
            here.mkdir(exist_ok=True)
            folders: dict[str, set[str]] = {}
            for region in regions:
                for index in iter_chunk_indices(shown.region(region), fmt.chunks):
                    folder, _, name = fmt.chunk_key(index).rpartition("/")
                    folders.setdefault(folder, set()).add(name)
            for folder, names in folders.items():
                inside = f"{here}/{folder}"
                make_dirs(Path(inside), here)
                stored = names.intersection(_names_in(f"{whole}/{folder}"))
                for name in stored:
                    if not self._link_one(f"{whole}/{folder}/{name}", f"{inside}/{name}"):
                        return False
                # What is all fill value has no file; written before, it may have been another.
                for name in names.intersection(_names_in(inside)) - stored:
                    os.unlink(f"{inside}/{name}")
        return True

    def _link_one(self, chunk: str, shown: str) -> bool:
        try:
            try:
                os.link(chunk, shown)
            except FileExistsError:
                draft = f"{self.txn.tmp}/shown-{os.getpid()}"
                os.link(chunk, draft)
                replace(draft, shown)
                with suppress(FileNotFoundError):
                    os.unlink(draft)  # two names of one file: then the rename has done nothing
        except OSError as err:
            if err.errno not in NO_LINK:
                raise
            self.hidden = f"the disk of {self.place} has no hard links"
            warn(f"{self.hidden}: nothing can be read there before all is converted")
            return False
        return True

    def _describe(self, root: LocalLocation, extent: int) -> None:
        """Write metadata that count so much; the first time the group's too, and whose it is."""
        for shown in self.levels:
            here = root if shown.level is None else root / str(shown.level)
            here.mkdir(exist_ok=True)
            whole = self.txn.format(shown.level).shape[self.axis]
            n = min(-(-extent // shown.total[self.axis]), whole)
            planned = None if self.is_open else whole
            growing = {"axis": self.axis, "whole": n, "planned": planned}
            for name, document in self._documents(shown.level):
                if "shape" in document:
                    document["shape"][self.axis] = n
                if name != ".zarray":
                    document.get("attributes", document)[GROWING_ATTRIBUTE] = growing
                (here / name).write(json.dumps(document, indent=2).encode())
        if not (root / EXCERPT_NAME).is_file():
            for name, content in self._group_documents():
                (root / name).write(content)
            (root / EXCERPT_NAME).write(json.dumps({"job": self.txn.name}).encode())

    def _documents(self, level: int | None) -> Iterable[tuple[str, dict[str, Any]]]:
        """Give the metadata files of a growing array: what counts its elements comes last."""
        array = self.txn.array(level)
        raw = (array / "zarr.json").read()
        if raw is not None:
            document = parse_json(raw)
            return [("zarr.json", {**document, "attributes": document.get("attributes", {})})]
        attributes = parse_json((array / ".zattrs").read() or b"{}")
        return [(".zattrs", attributes), (".zarray", parse_json((array / ".zarray").read() or b""))]

    def _group_documents(self) -> Iterable[tuple[str, bytes]]:
        if self.group is None:
            return ()
        zarr_format = 3 if (self.txn.array(self.levels[0].level) / "zarr.json").is_file() else 2
        return group_documents(zarr_format, self.group).items()


def _names_in(folder: str) -> list[str]:
    """List a folder; nothing is in one that is not there."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def seen_extent(shape: Shape, axis: int, done: Iterable[Region]) -> int:
    """Give how far an array is whole along an axis, from its start, of disjoint whole regions.

    Examples
    --------
    >>> halves = [(slice(0, 4), slice(k, k + 3)) for k in (0, 3)]
    >>> seen_extent((8, 6), 0, halves), seen_extent((8, 6), 0, halves[:1])
    (4, 0)
    """
    counted: dict[tuple[int, int], int] = {}
    for region in done:
        n = 1
        for k, s in enumerate(region):
            n *= 1 if k == axis else s.stop - s.start
        span = (region[axis].start, region[axis].stop)
        counted[span] = counted.get(span, 0) + n
    across = 1
    for k, n in enumerate(shape):
        across *= 1 if k == axis else n
    reached = 0
    for (start, stop), n in sorted(counted.items()):
        if start != reached or n != across:
            break
        reached = stop
    return reached
