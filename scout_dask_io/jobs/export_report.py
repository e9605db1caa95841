"""What an export reports: what it would do, and what it has written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from scout_dask_io.core.formatting import format_count, format_nbytes, format_s, format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.source import FilledPlane
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.jobs.export_values import Clipped
from scout_dask_io.jobs.report import (
    JobReport,
    Row,
    array_text,
    filled_rows,
    memory_text,
    read_text,
    room_text,
    voxel_text,
)

_KINDS = {
    "planes": "one plane a file",
    "tiff": "one of all planes",
    "imagej": "a hyperstack for ImageJ",
    "ome": "an OME-TIFF",
}


@dataclass(frozen=True, slots=True)
class ExportReport(JobReport):
    """What :func:`export` wrote.

    Attributes
    ----------
    path : str
        The file or the folder.
    kind : str
        ``"planes"``, ``"tiff"``, ``"imagej"`` or ``"ome"``.
    n_files, n_written : int
        TIFF files that stand there now, and those written by this call; the
        others stood already (``resume=True``).
    shape : tuple of int
        Of what was exported, in elements, in the order in which it is stored.
    axes : str
        A letter an axis.
    dtype : str
        Of the elements as written.
    nbytes, stored_nbytes : int
        Size of the elements, and of the files, in bytes.
    n_levels : int
        Resolutions.
    voxel_size : VoxelSize or None
        As written; z is the distance of planes.
    channels : tuple of str
        Names of the channels, as written.
    clipped : Clipped
        Elements, written by this call, that lay outside of ``scale`` or that the
        dtype could not hold.
    filled : tuple of FilledPlane
        Planes of the array whose files could not be read when it was made.
    read_amplification : float
        How often a chunk was decoded, on average; above 1 where ``max_mem``
        does not hold a row of chunks.
    elapsed_s : float
        From opening the source to the last file standing.
    """

    path: str
    kind: str
    n_files: int
    n_written: int
    shape: Shape
    axes: str
    dtype: str
    nbytes: int
    stored_nbytes: int
    n_levels: int
    voxel_size: VoxelSize | None
    channels: tuple[str, ...]
    clipped: Clipped
    filled: tuple[FilledPlane, ...]
    read_amplification: float
    elapsed_s: float

    def title(self) -> str:
        """Say where the files stand."""
        return f"{'Wrote' if self.n_written else 'Nothing to do for'} {self.path}"

    def rows(self) -> Iterable[Row]:
        """Say what they hold."""
        files = format_count(self.n_files, "file")
        stood = self.n_files - self.n_written
        rate = format_nbytes(self.nbytes / max(self.elapsed_s, 1e-9))
        return [
            ("array", f"{array_text(self)} ({', '.join(self.axes)})"),
            ("channels", ", ".join(self.channels)),
            ("voxel", str(self.voxel_size or "")),
            ("levels", f"{self.n_levels}" if self.n_levels > 1 else ""),
            ("on disk", f"{files}, {format_nbytes(self.stored_nbytes)}"),
            *filled_rows(self.filled),
            ("stood", f"{format_count(stood, 'file')} of an earlier run" if stood else ""),
            ("took", format_s(self.elapsed_s) + ("" if stood else f", {rate}/s")),
        ]


@dataclass(frozen=True, slots=True)
class ExportPlan(JobReport):
    """What :func:`export` would do.

    Attributes
    ----------
    source, destination : str
        Paths; the source is ``"the array"`` where it was given as one.
    kind : str
        ``"planes"``, ``"tiff"``, ``"imagej"`` or ``"ome"``.
    n_files : int
        TIFF files that would stand there.
    first_file, last_file : str
        Their paths, in order.
    n_standing, n_replaced : int
        Those that stand already and stay (``resume=True``), and those that would
        be written in the place of others (``overwrite=True``).
    shape : tuple of int
        Of what would be exported, in elements, in the order in which it is stored.
    axes : str
        A letter an axis.
    dtype : str
        Of the elements as written.
    nbytes : int
        Size of the elements, in bytes.
    written_nbytes : int
        Size of those that would be written, of all levels, before compression, in bytes.
    levels : tuple of tuple of int
        Rows and columns of a page at each resolution, the full one first.
    segment : tuple of int
        Rows and columns of a strip, or of a tile.
    compress : int
        0 uncompressed, 1 to 9 Deflate.
    bigtiff : bool
        Whether a file is BigTIFF, which may exceed 4 GB.
    voxel_size : VoxelSize or None
        As it would be written; z is the distance of planes.
    channels : tuple of str
        Names of the channels, as they would be written.
    filled : tuple of FilledPlane
        Planes of the array whose files could not be read when it was made.
    chunks : tuple of int
        What is decoded as a whole, in elements, along the axes of ``shape``.
    read_nbytes : int
        Decoded bytes that would be read; parts that are read twice count twice.
    read_amplification : float
        How often a chunk would be decoded, on average.
    nb_workers : int
        Threads that would read at once.
    max_mem, projected_mem : int
        What the export may use, and is expected to use, in bytes.
    free_nbytes : int
        Free on the destination's disk, in bytes.
    """

    source: str
    destination: str
    kind: str
    n_files: int
    first_file: str
    last_file: str
    n_standing: int
    n_replaced: int
    shape: Shape
    axes: str
    dtype: str
    nbytes: int
    written_nbytes: int
    levels: tuple[Shape, ...]
    segment: Shape
    compress: int
    bigtiff: bool
    voxel_size: VoxelSize | None
    channels: tuple[str, ...]
    filled: tuple[FilledPlane, ...]
    chunks: Shape
    read_nbytes: int
    read_amplification: float
    nb_workers: int
    max_mem: int
    projected_mem: int
    free_nbytes: int

    def title(self) -> str:
        """Say what is to become of what."""
        return f"Would export {self.source} to {self.destination}; nothing was written"

    def rows(self) -> Iterable[Row]:
        """Say what the files would be, and what it would take."""
        to = f" to {self.last_file}" if self.n_files > 1 else ""
        big = "BigTIFF" if self.bigtiff else "TIFF"
        segments = "tiles" if self.kind == "ome" else "strips"
        packed = f"Deflate {self.compress}" if self.compress else "uncompressed"
        shapes = ", ".join(map(format_shape, self.levels))
        standing = format_count(self.n_standing, "whole file")
        replaced = format_count(self.n_replaced, "file")
        return [
            ("array", f"{array_text(self)} ({', '.join(self.axes)})"),
            ("channels", ", ".join(self.channels)),
            ("voxel", voxel_text(self.voxel_size)),
            ("files", f"{self.n_files:,}, {_KINDS[self.kind]}: {self.first_file}{to}"),
            ("format", f"{big}, {segments} of {format_shape(self.segment)}, {packed}"),
            ("levels", f"{len(self.levels)}: {shapes}" if len(self.levels) > 1 else ""),
            ("chunks", f"{format_shape(self.chunks)} in the source"),
            ("reads", read_text(self)),
            ("workers", f"{format_count(self.nb_workers, 'thread')} that read"),
            ("memory", memory_text(self)),
            ("disk", room_text(self.written_nbytes, self.free_nbytes)),
            *filled_rows(self.filled),
            ("resumes", f"{standing} of an earlier run would stay" if self.n_standing else ""),
            ("replaces", f"{replaced} of the same names" if self.n_replaced else ""),
        ]
