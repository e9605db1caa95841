"""A disk that seeks, made of the kernel's block throttle: so many bytes and requests a second.

The throttle knows no seek distances and no queue, so it is a model: what it shows is how many
requests a way of reading makes, and whether it waits for them. Needs root and cgroups.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

V1 = Path("/sys/fs/cgroup/blkio")
V2 = Path("/sys/fs/cgroup")


def device_of(folder: Path) -> str:
    """Give ``major:minor`` of the whole disk that a folder lies on."""
    found = os.stat(folder).st_dev
    numbers = f"{os.major(found)}:{os.minor(found)}"
    part = Path("/sys/dev/block") / numbers
    if (part / "partition").exists():
        return (part.resolve().parent / "dev").read_text().strip()
    return numbers


def why_not(folder: Path) -> str:
    """Say why a disk cannot be throttled here; empty where it can."""
    if os.geteuid():
        return "needs root"
    if not (Path("/sys/dev/block") / device_of(folder)).exists():
        return f"{folder} lies on no block device"
    if (V1 / "blkio.throttle.read_bps_device").exists():
        return ""
    with suppress(OSError):
        if "io" in (V2 / "cgroup.controllers").read_text().split():
            return ""
    return "the kernel has no block throttle"


@contextmanager
def throttled(folder: Path, nbytes_per_s: int, requests_per_s: int) -> Iterator[Path]:
    """Make a group whose processes read the disk no faster; give the file that takes their ids."""
    device = device_of(folder)
    old = (V1 / "blkio.throttle.read_bps_device").exists()
    group = (V1 if old else V2) / f"scout-dask-io-{os.getpid()}"
    group.mkdir()
    try:
        if old:
            (group / "blkio.throttle.read_bps_device").write_text(f"{device} {nbytes_per_s}")
            (group / "blkio.throttle.read_iops_device").write_text(f"{device} {requests_per_s}")
        else:
            with suppress(OSError):
                (V2 / "cgroup.subtree_control").write_text("+io")
            (group / "io.max").write_text(f"{device} rbps={nbytes_per_s} riops={requests_per_s}")
        yield group / "cgroup.procs"
    finally:
        with suppress(OSError):
            group.rmdir()


def forget_files() -> None:
    """Drop the page cache, so that what is read next is read from the disk."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
