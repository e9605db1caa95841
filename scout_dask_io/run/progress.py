"""Progress of a long job: a bar on a terminal, quiet lines elsewhere, JSON, or a callable."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TextIO, TypeAlias

from scout_dask_io.core.formatting import format_count, format_nbytes, format_s
from scout_dask_io.errors import ArgumentError

#: ``report(done_units, total_units, done_nbytes)``; the counts are totals so far.
Report: TypeAlias = Callable[[int, int, int], None]


class _Sink(Protocol):
    def update(self, done: int, total: int, nbytes: int) -> None: ...

    def close(self) -> None: ...


@contextmanager
def reporting(progress: bool | Report, label: str) -> Iterator[Report | None]:
    """Give what a job calls after each unit of work, or ``None`` for silence.

    The bar goes to stderr, and is closed however the job ends. Reports may come
    from several threads. A first report without bytes says how many units an
    earlier run had finished; they count as done but not towards the rate.

    Parameters
    ----------
    progress : bool or callable
        ``False`` reports nothing. ``True`` draws a bar where stderr is a
        terminal, and prints a line for every tenth of the work elsewhere, at
        most one in two seconds; before the first, of work that will take long, how long by the
        units that were measured. A callable is called as it is, and :class:`Events` print
        JSON.
    label : str
        What is being done, e.g. ``"write"``.

    Raises
    ------
    ArgumentError
        If ``progress`` is neither a bool nor callable.
    """
    if isinstance(progress, Events):
        sink: _Sink = _EventsOf(progress, label)
    elif progress is True:
        sink = _Bar(label) if sys.stderr.isatty() else _Lines(label, sys.stderr)
    else:
        yield _given(progress)
        return
    lock = threading.Lock()

    def report(done: int, total: int, nbytes: int) -> None:
        with lock:
            sink.update(done, total, nbytes)

    try:
        yield report
    finally:
        sink.close()


def _given(progress: Any) -> Any:
    """Give a callable that is to be told, ``None`` for ``False``."""
    if progress is False:
        return None
    if callable(progress):
        return progress
    raise ArgumentError(f"progress must be True, False or a callable, got {progress!r}")


def say(text: str) -> None:
    """Print a line on stderr without breaking a bar that is being drawn."""
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        print(text, file=sys.stderr, flush=True)
    else:
        tqdm.tqdm.write(text, file=sys.stderr)


class Events:
    """What happens, as a JSON object a line, for programs that run commands.

    Every object has the key ``event``; which others, docs/commands.md says. Lines are whole
    whichever thread tells of something.

    Parameters
    ----------
    stream : text file
        Where lines go.
    clock : callable
        Gives seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self.clock = stream, clock
        self._lock = threading.Lock()

    def tell(self, event: str, **found: Any) -> None:
        """Print an event."""
        line = json.dumps({"event": event, **found})
        with self._lock:
            print(line, file=self._stream, flush=True)

    def __call__(self, done: int, total: int, nbytes: int) -> None:
        """Tell of units that are done, as any callable is told."""
        self.tell("progress", n_done=done, n_units=total, nbytes=nbytes)


class _EventsOf:
    """Events of one job: its begin, how far it is ten times a second at most, and its end."""

    every_s = 0.1

    def __init__(self, events: Events, label: str) -> None:
        self._events, self._label = events, label
        self._start = self._last = events.clock()
        self._before = -1
        self._found: dict[str, Any] = {}

    def update(self, done: int, total: int, nbytes: int) -> None:
        now = self._events.clock()
        if self._before < 0:
            self._before = done if nbytes == 0 else 0
            self._events.tell(
                "begin", job=self._label, n_units=total, n_finished_before=self._before
            )
        elapsed = max(now - self._start, 1e-6)
        new = done - self._before
        self._found = {
            "job": self._label, "n_done": done, "n_units": total, "nbytes": nbytes,
            "elapsed_s": round(elapsed, 3), "nbytes_per_s": round(nbytes / elapsed),
            "left_s": round(elapsed * (total - done) / new, 3) if new > 0 else None,
        }  # fmt: skip
        if new > 0 and now - self._last >= self.every_s:
            self._last = now
            self._events.tell("progress", **self._found)

    def close(self) -> None:
        """Tell of the end, whether or not all is done."""
        if self._found:
            self._events.tell("end", **{k: v for k, v in self._found.items() if k != "left_s"})


class _Bar:
    """A tqdm bar; its rate is in bytes, since units differ in size from job to job."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None

    def update(self, done: int, total: int, nbytes: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            width = _columns()
            self._bar = tqdm(
                total=total,
                initial=done if nbytes == 0 else 0,
                desc=self._label,
                # A terminal without a size, as some containers give, would hide the bar.
                ncols=None if width else 80,
                nrows=None if width else 24,
                dynamic_ncols=bool(width),
                bar_format="{desc} {percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}, "
                "{remaining} left",
            )
        elapsed = self._bar.format_dict["elapsed"]
        if nbytes and elapsed:
            rate = f"{format_nbytes(nbytes)}, {format_nbytes(nbytes / elapsed)}/s"
            self._bar.set_postfix_str(rate, refresh=False)
        self._bar.update(done - self._bar.n)

    def tell(self, text: str) -> None:
        """Put a text beside the bar."""
        self._bar.set_postfix_str(text.removeprefix(", "))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()


def _columns() -> int:
    """Give the width of the terminal on stderr; 0 where it does not know."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return 0


class _Lines:
    """Whole lines for logs: one at every tenth, not more than one in two seconds."""

    every_s = 2.0
    #: When it is said how long all takes, by how many units at least, and of how long a job.
    estimate_s, n_measured, long_s = 3.0, 3, 20.0

    def __init__(
        self, label: str, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._stream, self._clock = label, stream, clock
        self._start = self._last = clock()
        self._tenth: int | None = None
        self._before = 0
        self._estimated = False

    def update(self, done: int, total: int, nbytes: int) -> None:
        now, tenth = self._clock(), 10 * done // max(total, 1)
        if self._tenth is None:
            self._before = done if nbytes == 0 else 0
            self._tenth = 0
            if 0 < self._before < total:
                text = f"{self._label}: resumed, {done} of {total} units were finished"
                print(text, file=self._stream, flush=True)
        finished = done >= total
        if tenth <= self._tenth or not (finished or now - self._last >= self.every_s):
            self._estimate(done, total, now - self._start)
            return
        self._estimated = True  # each line says what is left
        self._tenth, self._last = tenth, now
        elapsed = max(now - self._start, 1e-6)
        text = f"{self._label} {100 * done // max(total, 1)} %, {done} of {total} units"
        if nbytes:
            text += f", {format_nbytes(nbytes)}, {format_nbytes(nbytes / elapsed)}/s"
        if finished:
            text += f", took {format_s(elapsed)}"
        elif done > self._before:
            left = elapsed * (total - done) / (done - self._before)
            text += f", about {format_s(left)} left"
        print(text, file=self._stream, flush=True)

    def _estimate(self, done: int, total: int, elapsed_s: float) -> None:
        """Say once how long the work that the plan has will take, by its first units."""
        new = done - self._before
        if self._estimated or elapsed_s < self.estimate_s or new < self.n_measured:
            return
        self._estimated = True
        left_s = elapsed_s * (total - done) / new
        if left_s < self.long_s:
            return
        units = format_count(total - self._before, "unit")
        text = (
            f"{self._label}: {units}, of which the first {new} took {format_s(elapsed_s)}: "
            f"about {format_s(left_s)} left"
        )
        print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to undo: every line was whole."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How far it is to follow a folder that grows.

    Attributes
    ----------
    n_arrived, n_converted : int
        Planes that are whole, and that are written.
    n_planes : int or None
        How many there will be, where that is known.
    lag_s : float
        How long the oldest plane that is whole has waited for being written.
    nbytes : int
        Bytes of elements that were written.
    """

    n_arrived: int
    n_converted: int
    n_planes: int | None
    lag_s: float
    nbytes: int

    def __str__(self) -> str:
        of = "" if self.n_planes is None else f" of {self.n_planes:,}"
        return (
            f"{self.n_arrived:,}{of} planes have come, {self.n_converted:,} are converted, "
            f"{self.lag_s:.1f} s behind"
        )


#: Called with each :class:`Followed` that differs from the last one.
FollowReporter: TypeAlias = Callable[[Followed], None]


@contextmanager
def following(
    progress: bool | FollowReporter | Events, label: str
) -> Iterator[FollowReporter | None]:
    """Give what is called as planes come and are written, or ``None`` for silence.

    As :func:`reporting`: a bar on a terminal, elsewhere a line at most every ten seconds.

    Raises
    ------
    ArgumentError
        If ``progress`` is neither a bool nor callable.
    """
    if isinstance(progress, Events):
        events = progress
        yield lambda found: events.tell("follow", job=label, **asdict(found))
        return
    if progress is not True:
        yield _given(progress)
        return
    sink: Any = _FollowBar(label) if sys.stderr.isatty() else _FollowLines(label, sys.stderr)
    try:
        yield sink.update
    finally:
        sink.close()


class _FollowBar:
    """A bar of planes that are converted, with those that have come and the lag beside it."""

    def __init__(self, label: str) -> None:
        self._bar = _Bar(label)

    def update(self, found: Followed) -> None:
        self._bar.update(found.n_converted, found.n_planes or found.n_arrived, 0)
        self._bar.tell(f", {found.n_arrived:,} have come, {found.lag_s:.1f} s behind")

    def close(self) -> None:
        self._bar.close()


class _FollowLines:
    """Whole lines for logs: one when something has moved, not more than one in ten seconds."""

    every_s = 10.0

    def __init__(
        self, label: str, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._label, self._stream, self._clock = label, stream, clock
        self._last_s = -float("inf")
        self._told: tuple[int, int] = (0, 0)

    def update(self, found: Followed) -> None:
        now_s, moved = self._clock(), (found.n_arrived, found.n_converted)
        whole = found.n_converted == found.n_planes
        if moved == self._told or not (whole or now_s - self._last_s >= self.every_s):
            return
        self._told, self._last_s = moved, now_s
        print(f"{self._label}: {found}", file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to undo: every line was whole."""
