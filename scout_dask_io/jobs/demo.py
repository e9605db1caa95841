"""A demonstration: a small synthetic dataset is made, converted and verified.

A small synthetic organoid: nuclei under a light-sheet microscope, with its camera's noise.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scout_dask_io.core.formatting import Row, format_count, format_nbytes, format_s, format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.errors import ArgumentError, TargetExistsError, WriteError
from scout_dask_io.jobs.convert import ConvertReport, convert
from scout_dask_io.jobs.report import JobReport, array_text
from scout_dask_io.jobs.verify import VerifyReport, verify
from scout_dask_io.run.progress import Report
from scout_dask_io.write.tiff import imsave


@dataclass(frozen=True, slots=True)
class DemoReport(JobReport):
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

    def title(self) -> str:
        """Say that it is over."""
        return "Done"

    def rows(self) -> Iterable[Row]:
        """Say what was made and found."""
        made = self.convert
        chunks = f"{format_count(made.n_chunks, 'chunk')} of {format_shape(made.chunks)}"
        yield "planes", f"{self.n_files} TIFF files, {format_nbytes(made.nbytes)}: {self.planes}"
        yield "zarr", f"{chunks}, {format_nbytes(made.stored_nbytes)}: {self.zarr}"
        yield "array", array_text(made)
        yield "took", f"{format_s(made.elapsed_s)} to convert"
        yield "verify", self.verify.verdict()


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
    for channel, name in enumerate(CHANNELS):
        (planes / name).mkdir(parents=True)
        for z, plane in enumerate(organoid(channel)):
            # Uncompressed, as microscopes write them.
            imsave(planes / name / f"z{z:04d}.tif", plane, compress=0)
    tell(f"Converting it to {array}")
    converted = convert(planes, array, progress=progress)
    tell("Comparing the two, pixel by pixel")
    verified = verify(planes, array, progress=progress)
    n_files = sum(1 for _ in planes.glob("*/*.tif"))
    return DemoReport(str(planes), str(array), n_files, converted, verified)


def _new_folder(path: str | os.PathLike[str] | None) -> Path:
    if path is None:
        return Path(tempfile.mkdtemp(prefix="scout-dask-io-demo-"))
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fault = "not empty" if any(folder.iterdir()) else ""
    except (FileExistsError, NotADirectoryError):
        fault = "not a folder"
    except OSError as err:
        raise WriteError(f"{folder} cannot be made: {err.strerror or err}") from err
    if fault:
        raise TargetExistsError(f"{folder} is {fault}: give a new or empty folder, or none at all")
    return folder


#: Folder names of the two channels, in SCOUT's layout.
CHANNELS = ("color_0", "color_1")
#: Extent of a voxel in micrometres, (z, y, x).
VOXEL_SIZE_UM = (4.0, 1.8, 1.8)
#: Planes, rows, columns: unequal and no multiple of the default chunks.
SHAPE = (48, 400, 500)

_OFFSET = 100.0  # counts that the camera adds to every pixel
_READ_NOISE = 2.5  # counts, standard deviation
_RADIUS_UM = (9.0, 14.0)  # of a nucleus, least and most


def organoid(channel: int = 0, shape: Shape = SHAPE, *, seed: int = 0) -> np.ndarray:
    """Give one channel of a synthetic organoid, the same for the same arguments.

    uint16, ``(z, y, x)``, in memory. Channel 0 shows every nucleus, channel 1 the third of
    them that a second label marks. Light falls off with depth, photons and readout add
    noise, so no two planes are alike and the data compress about as camera data do.
    ``seed`` is that of the nuclei's places and of the noise.

    Raises
    ------
    ArgumentError
        If the channel is neither 0 nor 1, or ``shape`` is not three extents of at least 1.

    Examples
    --------
    >>> volume = organoid(shape=(8, 60, 80))
    >>> volume.shape, volume.dtype
    ((8, 60, 80), dtype('uint16'))
    """
    if channel not in (0, 1):
        raise ArgumentError(f"channel must be 0 or 1, got {channel!r}")
    if len(shape) != 3 or min(shape) < 1:
        raise ArgumentError(f"shape must be three extents of at least 1, got {shape!r}")
    light = _nuclei(channel, shape, np.random.default_rng((seed, 0)))
    depth = np.linspace(1.0, 0.6, shape[0], dtype=np.float32)[:, np.newaxis, np.newaxis]
    light *= depth
    noise = np.random.default_rng((seed, 1 + channel))
    # Photon noise as a normal of the same variance: close at these counts, and fast.
    sigma = np.sqrt(light + _READ_NOISE**2)
    light += _OFFSET + sigma * noise.standard_normal(shape, dtype=np.float32)
    np.rint(light, out=light)
    return np.clip(light, 0, 65535, out=light).astype(np.uint16)


def _nuclei(channel: int, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Give the expected photons a voxel: haze inside the organoid, and a blob a nucleus."""
    size = np.array(shape, np.float32)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    # How far from the centre, 1 at the organoid's surface.
    radius = sum(((a - (n - 1) / 2) / (0.46 * n)) ** 2 for a, n in zip(axes, size, strict=True))
    light: np.ndarray = 40.0 / (1.0 + np.exp(np.minimum(12.0 * (radius - 1.0), 50.0)))
    light = light.astype(np.float32)
    count = max(1, int(np.prod(size * VOXEL_SIZE_UM) / 30.0**3 / 2))
    for _ in range(count):
        place, grow = rng.uniform(-1, 1, 3), rng.uniform(*_RADIUS_UM)
        brightness, marked = rng.uniform(300, 900), rng.uniform() < 1 / 3
        if (place**2).sum() > 0.9 or (channel == 1 and not marked):
            continue
        centre = (size - 1) / 2 + place * 0.46 * size
        reach = grow / np.array(VOXEL_SIZE_UM)
        low = np.maximum(np.floor(centre - 1.6 * reach), 0).astype(int)
        high = np.minimum(np.ceil(centre + 1.6 * reach) + 1, size).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        near = np.ogrid[box]
        away = sum(((a - c) / r) ** 2 for a, c, r in zip(near, centre, reach, strict=True))
        light[box] += brightness * np.exp(-2.0 * away**2).astype(np.float32)
    return light
