"""Numbers in file names: which are missing, and which two names share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

__all__ = ["check_numbering"]

_NUMBER = re.compile(r"[0-9]+")


def check_numbering(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give numbers that are missing in names that otherwise agree, and names that share one.

    Examples
    --------
    >>> check_numbering(["z0.tif", "z1.tif", "z01.tif", "z3.tif"])
    (('z2.tif',), ('z01.tif and z1.tif',))
    """
    series: dict[tuple[str, str], dict[int, list[str]]] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        runs = list(_NUMBER.finditer(stem))
        if runs:
            last = runs[-1]
            key = (stem[: last.start()], stem[last.end() :])
            series.setdefault(key, {}).setdefault(int(last.group()), []).append(name)
    gaps: list[str] = []
    duplicates: list[str] = []
    for (before, after), numbers in sorted(series.items()):
        found = sorted(numbers)
        duplicates += [" and ".join(sorted(numbers[n])) for n in found if len(numbers[n]) > 1]
        steps = Counter(b - a for a, b in pairwise(found))
        if len(found) < 3:
            continue
        # Microscopes may number by micrometres, in equal steps.
        step = min(steps, key=lambda s: (-steps[s], s))
        width = len(_NUMBER.findall(numbers[found[0]][0].rpartition(".")[0])[-1])
        suffix = "." + numbers[found[0]][0].rpartition(".")[2]
        for a, b in pairwise(found):
            if (b - a) % step == 0 and (b - a) // step <= 1000:
                gaps += [f"{before}{n:0{width}d}{after}{suffix}" for n in range(a + step, b, step)]
            elif b - a > step:
                gaps.append(f"between {numbers[a][0]} and {numbers[b][0]}")
    return tuple(gaps), tuple(duplicates)
