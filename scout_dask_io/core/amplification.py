"""How often elements are read again when steps along an axis cut segments. Pure arithmetic."""

from __future__ import annotations

import math

__all__ = ["axis_amplification", "axis_choices"]


def axis_amplification(n: int, step: int, read: int) -> float:
    """Give how often an element is read along one axis.

    The axis of ``n`` elements is worked off in steps of ``step``, and every
    step reads whole segments of ``read`` elements.

    Examples
    --------
    >>> axis_amplification(256, 64, 128)
    2.0
    >>> axis_amplification(256, 128, 64)
    1.0
    """
    if n == 0 or step >= n or step % read == 0:
        return 1.0
    touched = 0
    for start in range(0, n, step):
        stop = min(start + step, n)
        touched += min(-(-stop // read) * read, n) - start // read * read
    return touched / n


def axis_choices(n: int, chunk: int, read: int) -> list[int]:
    """Extents worth trying for a band along one axis: multiples of the chunk."""
    if axis_amplification(n, chunk, read) == 1.0:
        return [chunk]
    whole = -(-n // chunk) * chunk
    tries = {chunk, whole, math.lcm(chunk, read)}
    step = chunk
    while step < whole:
        tries.add(step)
        # Also one and two chunks past a power of two: a band a little larger
        # than a segment wastes little of its last one.
        tries.add(-(-step // read) * read // chunk * chunk + chunk)
        step *= 2
    return sorted(t for t in tries if chunk <= t <= whole)
