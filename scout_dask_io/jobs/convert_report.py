"""What a conversion reports: what it would do, and what it has written."""

from __future__ import annotations

from dataclasses import dataclass

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.plan import WritePlan
from scout_dask_io.core.source import FilledPlane
from scout_dask_io.core.voxel_size import VoxelSize

__all__ = ["ConvertPlan", "ConvertReport", "QcReport"]


@dataclass(frozen=True, slots=True)
class QcReport:
    """What was gathered of the planes of an array that was converted.

    Attributes
    ----------
    sheet, data : str
        The HTML file to look at, and the JSON file with the figures of every plane.
    findings : tuple of str
        What stands out, a sentence each; empty where nothing does.
    """

    sheet: str
    data: str
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What :func:`convert` wrote.

    Attributes
    ----------
    path : str
        The Zarr array, or the group of the OME-Zarr image.
    shape, chunks : tuple of int
        In elements; of an image, of level 0.
    levels : tuple of tuple of int
        Shapes of the levels of an image, the full one first; empty of an array.
    dtype : str
        As stored.
    nbytes, stored_nbytes : int
        Size of the elements of the source, and of all files, in bytes.
    n_chunks : int
        Chunks of the grid, of all levels; those that hold only the fill value have no file.
    n_units, n_resumed : int
        Write units, and how many of them earlier runs had finished.
    filled : tuple of FilledPlane
        Planes that hold the fill value because their files could not be read.
    qc : QcReport or None
        What the planes are like, where that was asked for.
    elapsed_s : float
        From opening the source to the array standing at ``path``.
    """

    path: str
    shape: Shape
    dtype: str
    chunks: Shape
    levels: tuple[Shape, ...]
    nbytes: int
    stored_nbytes: int
    n_chunks: int
    n_units: int
    n_resumed: int
    filled: tuple[FilledPlane, ...]
    qc: QcReport | None
    elapsed_s: float

    @property
    def ratio(self) -> float:
        """How many times smaller the files are than the elements."""
        return self.nbytes / self.stored_nbytes if self.stored_nbytes else 1.0

    @property
    def nbytes_per_s(self) -> float:
        """Elements converted a second, in bytes."""
        return self.nbytes / max(self.elapsed_s, 1e-9)


@dataclass(frozen=True, slots=True)
class ConvertPlan:
    """What :func:`convert` would do.

    Attributes
    ----------
    source, destination : str
        Paths.
    replaces, resumes : bool
        Whether an array at the destination would be replaced, and whether an
        unfinished write of it would be finished.
    write : WritePlan
        Units, workers, memory; of an OME-Zarr image, of level 0 and those made with it.
    levels : tuple of tuple of int
        Shapes of the levels of an image, the full one first; empty of an array.
    n_tasks : int
        Tasks that dask would run: one a unit, and those that wait for them.
    channels : tuple of str
        Names of the channels, where the source is a channel dataset.
    voxel_size : VoxelSize or None
        As the source states it, in whole or in part, or as it was given.
    filled : tuple of FilledPlane
        Planes that would hold the fill value, since their files cannot be read.
    n_files : int
        Files at the destination, at most: a chunk that is all fill value has none.
    qc_sheet : str
        Where the sheet of the planes would lie; empty where none is asked for.
    free_nbytes : int or None
        Free on the destination's disk, in bytes; an object store does not say.
    advice : str
        What would make fewer files, where there would be over a million.
    """

    source: str
    destination: str
    replaces: bool
    resumes: bool
    write: WritePlan
    levels: tuple[Shape, ...]
    n_tasks: int
    channels: tuple[str, ...]
    voxel_size: VoxelSize | None
    filled: tuple[FilledPlane, ...]
    n_files: int
    qc_sheet: str
    free_nbytes: int | None
    advice: str
