"""SCOUT's ``voxel_size.csv``: how large voxels are, beside planes and arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial

from scout_dask_io.core.messages import Option, warn
from scout_dask_io.core.voxel_size import VoxelSize, from_attribute
from scout_dask_io.errors import ChunkReadError, LayoutError
from scout_dask_io.files.location import Location, ask_at_once, locate

#: SCOUT's file of voxel sizes: three numbers (z, y, x) in nanometres, comma-separated.
CSV_NAME = "voxel_size.csv"


def csv_size(folder: str | os.PathLike[str] | Location) -> VoxelSize | None:
    """Give what SCOUT's ``voxel_size.csv`` in a folder says, ``None`` if there is none.

    Warns
    -----
    UserWarning
        If it is not three sizes, or cannot be read; it then does not count.
    """
    return next(iter(csv_sizes([locate(folder)])), None)


def csv_sizes(folders: Sequence[Location]) -> list[VoxelSize]:
    """Give what :func:`csv_size` does of each of some folders that has one, asked for at once."""
    places = [folder / CSV_NAME for folder in folders]
    starts = ask_at_once(places[0], [partial(_start_of, p) for p in places]) if places else []
    found = [_size_in(str(place), start) for place, start in zip(places, starts, strict=True)]
    return [size for size in found if size is not None]


def _start_of(place: Location) -> bytes | OSError | None:
    """Give the first thousand bytes of a file, or why not; ``None`` where there is none."""
    try:
        return place.read(1000)
    except LayoutError as err:
        return err.__cause__ if isinstance(err.__cause__, OSError) else OSError(str(err))
    except ChunkReadError as err:
        # So say stores of what is not there to who may not list what is.
        return None if isinstance(err.__cause__, PermissionError) else err


def _size_in(path: str, start: bytes | OSError | None) -> VoxelSize | None:
    """Give the size that the start of a file states, and warn of what it does not."""
    if start is None:
        return None
    if isinstance(start, OSError):
        warn(
            f"{path!r} cannot be read ({start.strerror or start}), so the voxel size that it "
            "states is not known. Give " + Option("voxel_size", "") + ", or mend the cause and "
            "try again."
        )
        return None
    try:
        text = start.decode("utf-8-sig")
    except ValueError as err:
        found, text = None, str(err)
    else:
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
