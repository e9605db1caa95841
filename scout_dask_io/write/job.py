"""Where arrays and images are to stand, and how they come to stand there.

Why it is short: it tells the two kinds of job apart.
"""

from __future__ import annotations

from typing import TypeAlias

from scout_dask_io.files.location import Location, as_local, as_remote
from scout_dask_io.write.local_job import LocalPlace
from scout_dask_io.write.remote_job import RemotePlace

Place: TypeAlias = LocalPlace | RemotePlace


def place_of(path: Location) -> Place:
    """Give the place that a path names."""
    return LocalPlace(as_local(path)) if path.on_disk else RemotePlace(as_remote(path))
