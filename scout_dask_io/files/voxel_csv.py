"""SCOUT's ``voxel_size.csv``: how large voxels are, beside planes and arrays."""

from __future__ import annotations

import os

from scout_dask_io.core.messages import Option, warn
from scout_dask_io.core.voxel_size import VoxelSize, from_attribute
from scout_dask_io.errors import ChunkReadError, LayoutError
from scout_dask_io.files.location import Location, locate

#: SCOUT's file of voxel sizes: three numbers (z, y, x) in nanometres, comma-separated.
CSV_NAME = "voxel_size.csv"


def csv_size(folder: str | os.PathLike[str] | Location) -> VoxelSize | None:
    """Give what SCOUT's ``voxel_size.csv`` in a folder says, ``None`` if there is none.

    Warns
    -----
    UserWarning
        If it is not three sizes, or cannot be read; it then does not count.
    """
    place = locate(folder) / CSV_NAME
    path = str(place)
    try:
        text = _start_of(place)
    except OSError as err:
        warn(
            f"{path!r} cannot be read ({err.strerror or err}), so the voxel size that it states is "
            "not known. Give " + Option("voxel_size", "") + ", or mend the cause and try again."
        )
        return None
    except ValueError as err:
        found, text = None, str(err)
    else:
        if text is None:
            return None
        lines = [line for line in text.splitlines() if line.strip()]
        numbers = [part.strip() for part in lines[0].split(",")] if len(lines) == 1 else []
        found = from_attribute(numbers, path)
    if found is None:
        warn(
            f"{path!r} does not count: expected one line of three numbers z,y,x in nanometres, "
            f"found {text[:80]!r}. Correct it, or give " + Option("voxel_size", "") + "."
        )
        return None
    # Divided: 700 times 0.001 is not 0.7.
    z, y, x = (None if v is None else v / 1000 for v in found.micrometres)
    return VoxelSize(z, y, x, path)


def _start_of(place: Location) -> str | None:
    """Give the first thousand bytes of a text file; ``None`` where there is none."""
    try:
        data = place.read(1000)
    except LayoutError as err:
        raise (err.__cause__ if isinstance(err.__cause__, OSError) else OSError(str(err))) from err
    except ChunkReadError as err:
        # So say stores of what is not there to who may not list what is.
        if isinstance(err.__cause__, PermissionError):
            return None
        raise
    return None if data is None else data.decode("utf-8-sig")
