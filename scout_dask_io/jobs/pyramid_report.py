"""What adding levels reports: what it would do, and what it has written."""

from __future__ import annotations

from dataclasses import dataclass

from scout_dask_io.core.formatting import format_count, format_nbytes, format_s, format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.plan import WritePlan
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.jobs.json_text import to_json
from scout_dask_io.jobs.report import (
    levels_text,
    memory_text,
    read_text,
    room_text,
    table,
    voxel_text,
)

__all__ = ["PyramidPlan", "PyramidReport"]


@dataclass(frozen=True, slots=True)
class PyramidReport:
    """What :func:`pyramid` wrote.

    Attributes
    ----------
    src, path : str
        The array, and the group of the image.
    levels : tuple of tuple of int
        Shapes, the full level first.
    nbytes, stored_nbytes : int
        Size of the elements of the levels that were added, and of their files, in bytes.
    copied : bool
        Whether the full level is a copy that the store made, and no link.
    elapsed_s : float
        From opening the array to the image standing at ``path``.
    """

    src: str
    path: str
    levels: tuple[Shape, ...]
    nbytes: int
    stored_nbytes: int
    copied: bool
    elapsed_s: float

    def to_json(self) -> str:
        """Give the report as JSON."""
        return to_json(self)

    def render(self) -> str:
        """Give the report as text."""
        shapes = ", ".join(map(format_shape, self.levels))
        full = f"the files of {self.src}, shared with it: change neither in place"
        if self.copied:
            full = f"the objects of {self.src}, copied by the store"
        return (
            f"Wrote {self.path}\n"
            f"  levels    {len(self.levels)}: {shapes}\n"
            f"  added     {format_count(len(self.levels) - 1, 'level')}, "
            f"{format_nbytes(self.nbytes)}, {format_nbytes(self.stored_nbytes)} on disk\n"
            f"  full      {full}\n"
            f"  took      {format_s(self.elapsed_s)}"
        )


@dataclass(frozen=True, slots=True)
class PyramidPlan:
    """What :func:`pyramid` would do.

    Attributes
    ----------
    source, destination : str
        Paths.
    replaces, resumes : bool
        Whether an image at the destination would be replaced, and whether an
        unfinished write of it would be finished.
    levels : tuple of tuple of int
        Shapes, the full level first.
    chunks : tuple of int
        Of every level, in elements.
    shards : tuple of int or None
        Extent of a shard of every level, where there are shards.
    version : str
        Of the OME-Zarr metadata, ``"0.4"`` or ``"0.5"``.
    method : str
        How the levels are made: ``"mean"``, ``"mode"`` or ``"nearest"``.
    channels : tuple of str
        Names of the channels, where there are any.
    voxel_size : VoxelSize or None
        Of the full level.
    copied : bool
        Whether the store would copy the full level, instead of a link.
    n_shared_files, shared_nbytes : int
        Files of the array that would be linked or copied, and their size in bytes.
    nbytes : int
        Size of the elements of the levels that would be added, in bytes.
    n_files : int
        New files at most, without those: a chunk that is all fill value has none.
    write : WritePlan
        Of the first level that is added, and those made with it.
    n_tasks : int
        Tasks that dask would run: one a unit, and those that wait for them.
    free_nbytes : int or None
        Free on the destination's disk, in bytes; an object store does not say.
    """

    source: str
    destination: str
    replaces: bool
    resumes: bool
    levels: tuple[Shape, ...]
    chunks: Shape
    shards: Shape | None
    version: str
    method: str
    channels: tuple[str, ...]
    voxel_size: VoxelSize | None
    copied: bool
    n_shared_files: int
    shared_nbytes: int
    nbytes: int
    n_files: int
    write: WritePlan
    n_tasks: int
    free_nbytes: int | None

    def render(self) -> str:
        """Give the plan as text."""
        write = self.write
        shards = f" in shards of {format_shape(self.shards)}" if self.shards else ""
        how = "copied by the store" if self.copied else "linked"
        files = format_count(self.n_shared_files, "object" if self.copied else "file")
        rows = [
            ("image", f"OME-Zarr {self.version}"),
            ("levels", levels_text(self.levels)),
            ("channels", ", ".join(self.channels)),
            ("voxel", voxel_text(self.voxel_size)),
            ("full", f"{files} of {self.source}, {format_nbytes(self.shared_nbytes)}, {how}"),
            ("added", f"{format_count(len(self.levels) - 1, 'level')} by {self.method}"),
            ("chunks", format_shape(self.chunks) + shards),
            ("tasks", f"{self.n_tasks:,}: one a unit, and those that publish the image"),
            ("workers", f"{format_count(write.nb_workers, 'task')} at a time"),
            ("memory", memory_text(write)),
            ("reads", read_text(write)),
            ("files", f"{self.n_files:,} new at most"),
            ("disk", room_text(self.nbytes, self.free_nbytes)),
            ("replaces", f"the image at {self.destination}" if self.replaces else ""),
            ("resumes", "the unfinished write beside it" if self.resumes else ""),
        ]
        title = f"Would add levels to {self.source} at {self.destination}; nothing was written"
        return f"{title}\n{table(rows)}"
