"""Clocks of a process and everything it started. Standard library alone; Linux in full.

CPU seconds are user plus system time of the process, of the children that it
has waited for, and of those still alive. Memory is the resident peak.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

__all__ = ["cpu_s", "descendants", "own_peak_nbytes", "touch_memory", "tree_nbytes"]


def descendants(pid: int) -> list[int]:
    """Give the living processes that ``pid`` started, and those that they did."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(p) for p in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def _cpu_of(pid: int) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # Fields 14 to 17 of proc(5), counted after the name, which may hold blanks.
    fields = text.rpartition(")")[2].split()
    return sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def cpu_s() -> float:
    """Give the CPU seconds that this process and all its children have used so far."""
    used = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        used += usage.ru_utime + usage.ru_stime
    # /proc counts a waited-for grandchild under its own parent, so the living
    # descendants are all that is missing.
    return used + sum(_cpu_of(pid) for pid in descendants(os.getpid()))


def own_peak_nbytes() -> int:
    """Give the peak resident size of this process, in bytes, imports included."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            # ru_maxrss would not do: it outlives exec, so it may be the parent's.
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def tree_nbytes(pid: int) -> int:
    """Give the resident size now of a process with children, in bytes; 0 if it has none.

    Pages that a fork shares are counted once (PSS).
    """
    children = descendants(pid)
    if not children:
        return 0
    total = 0
    for one in (pid, *children):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(
            int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")
        )
    return total


def touch_memory(folder: Path, nbytes: int) -> None:
    """Make the kernel hold ``nbytes`` of memory and let go of it again, by a file in ``folder``.

    A virtual machine gives free memory back to its host after seconds, and the
    next touch of such a page costs several times the writing of it. Whoever runs
    after a pause would pay, by chance; after this, nobody does.
    """
    path = folder / "touch"
    block = bytes(1 << 22)
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(nbytes // len(block)):
                file.write(block)
    finally:
        path.unlink(missing_ok=True)
