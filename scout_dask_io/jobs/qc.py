"""The sheet that ``convert --qc`` puts beside an array: whether it can be had, what it found."""

from __future__ import annotations

import json
import warnings

import numpy as np

from scout_dask_io.errors import ArgumentError, ChunkReadError, LayoutError
from scout_dask_io.files.location import AnyPath
from scout_dask_io.jobs.convert_report import QcReport
from scout_dask_io.read.any import Opened
from scout_dask_io.read.image import stated_axes
from scout_dask_io.store.beside import check_beside, has_beside, sheet_paths, stands
from scout_dask_io.write.qc.run import check_qc

__all__ = ["check_planes", "read_qc", "warn_of_an_old_sheet"]


def check_planes(
    opened: Opened, destination: AnyPath, *, ome: bool, overwrite: bool, resume: bool
) -> None:
    """Refuse a source whose planes nothing can be told of, before anything is created.

    Raises
    ------
    ArgumentError
        If its last two axes are not ``(y, x)``, or as for :func:`~scout_dask_io.write.qc.run.check_qc`.
    TargetExistsError
        If other files lie where the sheet goes.
    """
    check_qc(opened.array.shape, np.dtype(opened.array.dtype), destination)
    axes = stated_axes(opened)
    if not ome and not axes.endswith("yx"):
        raise ArgumentError(
            f"{opened.path} has the axes {axes!r}, and qc tells of planes (y, x): give ome=True, "
            "which puts them last, or leave qc out"
        )
    if not resume:
        # A resumed write may have finished, with the sheet at its place: the writer looks.
        check_beside(destination, overwrite=overwrite)


def warn_of_an_old_sheet(destination: AnyPath) -> None:
    """Warn where the sheet of an array that is replaced stays, since the new one has none."""
    if not has_beside(destination):
        return
    _, sheet = sheet_paths(destination)
    try:
        stays = stands(sheet)
    except ChunkReadError:
        return  # of a store that does not let it be asked for, as for read_qc
    if stays:
        warnings.warn(
            f"{sheet} tells of the array that is replaced, and stays: qc=True replaces it",
            stacklevel=3,
        )


def read_qc(destination: AnyPath) -> QcReport | None:
    """Give what the files beside an array say; ``None`` where none is to be had.

    Raises
    ------
    LayoutError
        If the JSON file is damaged or cannot be read.
    """
    if not has_beside(destination):
        return None
    data, sheet = sheet_paths(destination)
    try:
        found = json.loads(data.read_bytes())
        findings = tuple(map(str, found["findings"]))
    except (FileNotFoundError, ChunkReadError):
        # So say stores of what is not there to who may read the array alone.
        return None
    except (ValueError, KeyError, TypeError, OSError) as err:
        raise LayoutError(
            f"{data} is damaged or cannot be read: {err}. Mend the cause, or remove it."
        ) from err
    return QcReport(str(sheet), str(data), findings)
