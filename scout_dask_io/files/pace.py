"""How long a disk takes to answer; where that is long, several files are asked for at once.

Why it is short: reading, writing and removing all go by the one rule.
"""

from __future__ import annotations

import math
from functools import lru_cache

#: Files that are asked for at once where each waits for its answer.
N_AT_ONCE = 16
# A disk is slow where the quickest of three took this long, and a second a gigabyte. A chunk comes
# from a disk in this machine, or from its cache, in 0.1 ms, and a share answers in one or more.
_SLOW_S = 1e-3
#: Files by which it is told.
N_TIMED = 3
_S_A_BYTE = 1e-9


class Pace:
    """How long files take: a disk is slow where the quickest of ``n`` took over ``slow_s``.

    The others of them may have waited for a processor. What their bytes take is left out.
    """

    def __init__(self, slow_s: float = _SLOW_S, n: int = N_TIMED) -> None:
        self._slow_s, self._of = slow_s, n
        self._quickest_s, self._n = math.inf, 0
        self.is_slow = False

    def note(self, took_s: float, nbytes: int = 0) -> None:
        """Take note of a file that was read or written."""
        self._quickest_s = min(self._quickest_s, took_s - nbytes * _S_A_BYTE)
        self._n += 1
        if self._n == self._of:
            self.is_slow = self._quickest_s > self._slow_s
            self._quickest_s, self._n = math.inf, 0


@lru_cache(64)
def pace_of(root: str) -> Pace:
    """Give how long the files below a folder take, as this process found it."""
    return Pace()
