"""Memory that a job may use: what the caller allows, or a share of what is free.

Why it is short: what one process may use is asked in one place.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
from dask.utils import parse_bytes

from scout_dask_io.errors import ArgumentError

# A quarter of what is free leaves room for the page cache, which the reads
# live from, and for whatever else runs on the machine.
FREE_SHARE = 4


def parse_nbytes(value: int | str) -> int:
    """Give a size in bytes from a number or a text such as ``"2GB"`` or ``"512MiB"``.

    Raises
    ------
    ArgumentError
        If it is not a size, or not above 0.
    """
    nbytes = 0
    # dask takes texts without a number, such as "" and "MB", for 1.
    if not isinstance(value, str) or any(c.isdigit() for c in value):
        with contextlib.suppress(ValueError, TypeError, AttributeError, OverflowError):
            nbytes = int(parse_bytes(value)) if isinstance(value, str) else int(value)
    if nbytes < 1 or isinstance(value, bool):
        raise ArgumentError(
            f"{value!r} is not a size in bytes: give a whole number or a text such as '2GB'"
        )
    return nbytes


def default_max_mem() -> int:
    """Give a quarter of the memory that is free now, in bytes, within a container's limit."""
    free = psutil.virtual_memory().available
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            free = min(free, int(Path(name).read_text()))
        except (OSError, ValueError):
            continue
    return max(int(free) // FREE_SHARE, 1)


def resolve_max_mem(value: int | str | None) -> int:
    """Give ``max_mem`` in bytes; ``None`` is :func:`default_max_mem`."""
    return default_max_mem() if value is None else parse_nbytes(value)
