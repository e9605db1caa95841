"""What is wrong with the answer of a verb to bytes that anybody may have written."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness import MiB, _reset_peak, _status, figure

import scout_dask_io as io

MOST_S, MOST_NBYTES, HANGS_S = 2.0, 200 * MiB, 120
SLOW = "took CPU for"


class Hangs(BaseException):
    """Raised by the alarm."""


def _alarm(number: int, frame: Any) -> None:
    raise Hangs


@contextmanager
def alarmed() -> Iterator[None]:
    """End what hangs, meanwhile."""
    before = signal.signal(signal.SIGALRM, _alarm)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def faults(
    call: Callable[[Path, Path], Any],
    path: Path,
    out: Path,
    is_named: Callable[[str], bool] = lambda told: True,
) -> Iterator[str]:
    """Yield what is wrong with an answer: foreign, long, slow or large, or it left something.

    ``is_named`` tells whether an error names what is wrong with the file at ``path``; ``out`` is
    a folder that is free, for what is made.
    """
    out.mkdir()
    before = _reset_peak()
    began = time.process_time()
    signal.setitimer(signal.ITIMER_REAL, HANGS_S)
    failed = True
    try:
        call(path, out)
        failed = False
    except io.ScoutIOError as err:
        told = str(err)
        if not any(name in told for name in (path.name, repr(str(path.parent)), str(out))):
            yield f"names no file: {told[:300]}"
        if len(told) > 2000:
            yield f"is {len(told)} long: {told[:100]}"
        if not is_named(told):
            yield f"names no key: {told[:300]}"
    except Hangs:
        yield "hangs"
    except Exception as err:
        yield f"foreign {type(err).__name__}: {str(err)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took, peak = time.process_time() - began, _status("VmHWM") - before
    if took > MOST_S:
        yield f"{SLOW} {took:.1f} s"
    if peak > MOST_NBYTES:
        yield f"took {peak / MiB:.0f} MiB"
    if failed and (left := [p.name for p in out.iterdir()]):
        yield f"left {left}"
    shutil.rmtree(out)


def told(what: str, n_documents: int, n_verbs: int, wrong: list[str], *, slow: bool) -> list[str]:
    """Note the figures of a run, and give what is wrong, seconds too where these are to count.

    Other processes take caches and memory from this one: seconds are for the slow part to hold.
    """
    figure(
        what,
        documents=n_documents,
        answers=n_documents * n_verbs,
        wrong_or_foreign=sum(SLOW not in w for w in wrong),
        over_2_s_of_CPU=sum(SLOW in w for w in wrong),
    )
    return [w for w in wrong if slow or SLOW not in w]


def view(path: Path, out: Path) -> None:
    """Look at what lies at a path in a browser, as ``view`` does."""
    pytest.importorskip("neuroglancer")
    io.viewer(path).close()
