"""What the figures were measured on: processor, memory, disk, versions. No names of hosts."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["available_nbytes", "describe_machine", "filesystem_of"]


def _meminfo(name: str) -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def available_nbytes() -> int:
    """Give the memory that could be had now, in bytes; 0 where it is not known."""
    return _meminfo("MemAvailable")


def filesystem_of(path: Path) -> str:
    """Give the kind of file system that a path lies on, e.g. ``"tmpfs"``."""
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return kind
    where = path.resolve()
    for line in mounts:
        _, mount, fs = line.split()[:3]
        if where.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, fs
    return kind


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _caches() -> dict[str, str]:
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / n).read_text().strip() for n in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}"] = size
    return found


def _revision() -> str:
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def describe_machine(workdir: Path) -> dict[str, Any]:
    """Give what a reader needs to judge the figures, as plain values."""
    kind = filesystem_of(workdir)
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "caches": _caches(),
        "memory_nbytes": _meminfo("MemTotal"),
        "system": f"{platform.system()} {platform.release()}",
        "load_average_at_start": [round(n, 2) for n in os.getloadavg()],
        "filesystem": kind,
        "cache_state": (
            "warm: all files lie in memory (tmpfs)"
            if kind in ("tmpfs", "ramfs")
            else "warm: all files were read once before, into the page cache"
        ),
        "revision": _revision(),
    }
