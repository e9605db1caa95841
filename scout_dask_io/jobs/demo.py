"""A demonstration: a small synthetic dataset is made, converted and verified."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scout_dask_io.errors import TargetExistsError, WriteError
from scout_dask_io.jobs.convert import convert
from scout_dask_io.jobs.convert_report import ConvertReport
from scout_dask_io.jobs.synthetic import CHANNELS, organoid
from scout_dask_io.jobs.verify import VerifyReport, verify
from scout_dask_io.run.progress import Report
from scout_dask_io.write.tiff import imsave

__all__ = ["DemoReport", "demo"]


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What :func:`demo` made and found.

    Attributes
    ----------
    planes, zarr : str
        The dataset of TIFF planes, and the array that was made of it.
    n_files : int
        TIFF files in the dataset.
    convert : ConvertReport
        How the conversion went.
    verify : VerifyReport
        What comparing the two pixel by pixel found.
    """

    planes: str
    zarr: str
    n_files: int
    convert: ConvertReport
    verify: VerifyReport


def demo(
    path: str | os.PathLike[str] | None = None,
    *,
    progress: bool | Report = False,
    say: Callable[[str], None] | None = None,
) -> DemoReport:
    """Make a synthetic organoid as TIFF planes, convert it to Zarr, and verify the result.

    Two channels of 48 planes of 400 x 500 pixels, 38 MB, in SCOUT's layout,
    the same on every machine. Takes a few seconds. The files stay.

    Parameters
    ----------
    path : str or path-like, optional
        A new or empty folder; a new one among the temporary files if not given.
    progress : bool or callable
        As for :func:`~scout_dask_io.write_zarr`.
    say : callable, optional
        Called with a line before each step.

    Raises
    ------
    TargetExistsError
        If ``path`` is a file, or a folder with something in it.
    WriteError
        If the folder or a file cannot be written.
    """
    tell = say or (lambda _: None)
    folder = _new_folder(path)
    planes, array = folder / "organoid", folder / "organoid.zarr"
    tell(f"Making a synthetic organoid in {planes}")
    n_files = _write_planes(planes)
    tell(f"Converting it to {array}")
    converted = convert(planes, array, progress=progress)
    tell("Comparing the two, pixel by pixel")
    verified = verify(planes, array, progress=progress)
    return DemoReport(str(planes), str(array), n_files, converted, verified)


def _new_folder(path: str | os.PathLike[str] | None) -> Path:
    if path is None:
        return Path(tempfile.mkdtemp(prefix="scout-dask-io-demo-"))
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
    except (FileExistsError, NotADirectoryError) as err:
        raise TargetExistsError(
            f"{folder} is not a folder: give a new or empty one, or none at all"
        ) from err
    except OSError as err:
        raise WriteError(f"{folder} cannot be made: {err.strerror or err}") from err
    if taken:
        raise TargetExistsError(
            f"{folder} is not empty: give a new or empty folder, or none at all"
        )
    return folder


def _write_planes(folder: Path) -> int:
    n_files = 0
    for channel, name in enumerate(CHANNELS):
        (folder / name).mkdir(parents=True)
        for z, plane in enumerate(organoid(channel)):
            # Uncompressed, as microscopes write them.
            imsave(folder / name / f"z{z:04d}.tif", plane, compress=0)
            n_files += 1
    return n_files
