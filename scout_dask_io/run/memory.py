"""Memory that a job may use: what the caller allows, or a share of what is free.

Why it is short: what one process may use is asked in one place.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
from dask.utils import parse_bytes

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.messages import Option
from scout_dask_io.errors import ArgumentError
from scout_dask_io.run.settings import configured

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


#: Of a container, by both versions of cgroups: what it may use, what it uses, the statistics of
#: that, and the name there of files in the page cache, which give way to whoever needs memory.
_CGROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat",
     "total_inactive_file"),
)  # fmt: skip


def default_max_mem() -> int:
    """Give a quarter of the memory that is free now, in bytes, within a container's limit."""
    return max(free_mem() // FREE_SHARE, 1)


def free_mem() -> int:
    """Give the memory that is free now, in bytes, within a container's limit."""
    free = psutil.virtual_memory().available
    for names in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):
            free = min(free, _free_in_container(*names))
    return max(int(free), 0)


def _free_in_container(limit: str, usage: str, statistics: str, cached: str) -> int:
    """Give what a container's limit leaves, where there is one: without what it uses already."""
    root = Path("/sys/fs/cgroup")
    left = int((root / limit).read_text())
    with contextlib.suppress(OSError, ValueError, KeyError):
        stated = dict(line.split() for line in (root / statistics).read_text().splitlines())
        left -= max(int((root / usage).read_text()) - int(stated[cached]), 0)
    return max(left, 0)


def resolve_max_mem(value: int | str | None) -> int:
    """Give ``max_mem`` in bytes; ``None`` is what is configured, else :func:`default_max_mem`.

    Raises
    ------
    ArgumentError
        If it is no size, or a text of less than a million without a unit, which was forgotten.
    """
    if value is None:
        value = configured("max_mem")
    if value is None:
        return default_max_mem()
    nbytes = parse_nbytes(value)
    if isinstance(value, str) and nbytes < 10**6 and not any(c.isalpha() for c in value):
        text = value.strip()
        raise ArgumentError(
            Option("max_mem")
            + f" {text} has no unit, and is {format_nbytes(nbytes)}: give one, such as {text}GB "
            f"or {text}MB"
        )
    return nbytes
