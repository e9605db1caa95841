"""Child processes for hostile cases: bounded in memory and time, and looked at when they die."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import resource
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from helpers import figure as figure

MiB = 2**20
GiB = 2**30

# What children need is imported once, in a process without threads that is forked for each.
PRELOAD = [
    "dask.array",
    "distributed",
    "faults",
    "helpers",
    "pytest",
    "scout_dask_io.read.tiff",
    "scout_dask_io.write.tiff",
    "scout_dask_io.read.zarr",
    "scout_dask_io.write.zarr",
    "tifffile",
    "zarr",
]


@dataclass
class Outcome:
    """What became of a child."""

    value: Any = None
    #: Names of the exception's class and of those it derives from; empty where there was none.
    error: tuple[str, ...] = ()
    message: str = ""
    notes: tuple[str, ...] = ()
    signal: int = 0
    seconds: float = 0.0
    #: Most resident memory beyond that at the start.
    peak_nbytes: int = 0

    @property
    def is_typed(self) -> bool:
        """Whether the error is one that the library raises on purpose."""
        return "ScoutIOError" in self.error

    def __str__(self) -> str:
        if self.signal:
            return f"died of {signal.Signals(self.signal).name} after {self.seconds:.2f} s"
        if self.error:
            return f"{self.error[0]}: {self.message}"
        return f"gave {self.value!r}"


@dataclass(frozen=True)
class Limits:
    """What a child may use."""

    seconds: float = 90.0
    memory_nbytes: int = 4 * GiB
    fsize_nbytes: int | None = None
    nofile: int | None = None
    uid: int | None = None


@dataclass
class Child:
    """A running child."""

    process: Any
    pipe: Any
    started: float = field(default_factory=time.monotonic)
    seconds: float = 90.0
    last_said: str = ""

    def wait_for(self, word: str) -> None:
        """Wait until the child says ``word`` (with :func:`say`)."""
        if not self.pipe.poll(self.seconds):
            raise TimeoutError(f"the child did not say {word!r}")
        said = self.pipe.recv()
        if said != ("said", word):
            raise RuntimeError(f"expected {word!r} of the child, got {said!r}")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, if the child is still there."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    def join(self) -> Outcome:
        """Wait for the end and give what became of the child; ``last_said`` is its last word."""
        outcome = Outcome()
        try:
            while self.pipe.poll(self.seconds + 20):
                kind, *rest = self.pipe.recv()
                if kind == "done":
                    outcome = rest[0]
                    break
                self.last_said = rest[0]
        except (EOFError, OSError):
            pass
        self.process.join(20)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        outcome.seconds = outcome.seconds or time.monotonic() - self.started
        if (self.process.exitcode or 0) < 0:
            outcome.signal = -self.process.exitcode
        self.pipe.close()
        return outcome


_pipe: Any = None


def say(word: str) -> None:
    """In a child: tell the parent that it has come so far."""
    _pipe.send(("said", word))


@cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    # With --portable children lack what this process does, from before they import the package.
    context.set_forkserver_preload([m for m in ["portable"] if m in sys.modules] + PRELOAD)
    before = os.environ.get("PYTHONPATH")
    # The server takes its import path from here; Python 3.11 does not hand sys.path on.
    os.environ["PYTHONPATH"] = os.pathsep.join(p or os.getcwd() for p in sys.path)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


def start(function: Callable[..., Any], *args: Any, **limits: Any) -> Child:
    """Start a child that calls a module's function; ``limits`` are those of :class:`Limits`."""
    allowed = Limits(**limits)
    context = _context()
    mine, theirs = context.Pipe()
    process = context.Process(target=_main, args=(theirs, function, args, allowed), daemon=False)
    # Children must not import the program that runs the tests, which takes longer than they do.
    with patch.dict(sys.modules, {"__main__": ModuleType("__main__")}):
        process.start()
    theirs.close()
    return Child(process, mine, seconds=allowed.seconds)


def run(function: Callable[..., Any], *args: Any, **limits: Any) -> Outcome:
    """Call a module's function in a child and give what became of it."""
    return start(function, *args, **limits).join()


def _main(pipe: Any, function: Callable[..., Any], args: tuple[Any, ...], limits: Limits) -> None:
    global _pipe
    _pipe = pipe
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, limits.seconds)
    limit(limits)
    # CPU seconds: a busy machine must not fail a test; what hangs meets the alarm.
    begun, rss = time.process_time(), _reset_peak()
    outcome = Outcome()
    try:
        outcome.value = function(*args)
    except BaseException as err:
        outcome = failure(err)
    outcome.seconds = time.process_time() - begun
    outcome.peak_nbytes = _status("VmHWM") - rss
    # The answer goes through, whatever the limits do to what comes after.
    pipe.send(("done", outcome))
    pipe.close()


def failure(err: BaseException) -> Outcome:
    """Give an exception as an outcome."""
    names = tuple(c.__name__ for c in type(err).__mro__)
    return Outcome(error=names, message=str(err), notes=tuple(getattr(err, "__notes__", ())))


def limit(limits: Limits) -> None:
    """Put limits on this process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    memory = _status("VmSize") + limits.memory_nbytes
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    if limits.fsize_nbytes is not None:
        # Python ignores SIGXFSZ, so a write past the limit is EFBIG, as a full disk is ENOSPC.
        resource.setrlimit(resource.RLIMIT_FSIZE, (limits.fsize_nbytes, limits.fsize_nbytes))
    if limits.nofile is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits.nofile, limits.nofile))
    if limits.uid is not None:
        os.setgroups([])
        os.setgid(limits.uid)
        os.setuid(limits.uid)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _reset_peak() -> int:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _status("VmHWM")
    return _status("VmRSS")


def tree(root: Path, *, leave_out: Iterable[str] = ()) -> dict[str, str]:
    """Give everything under a folder: kind, mode and contents, by relative path."""
    out = {}
    skipped = set(leave_out)
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if any(name == s or name.startswith(s + "/") for s in skipped):
            continue
        info = path.lstat()
        what = stat.filemode(info.st_mode)
        if path.is_symlink():
            what += f" -> {os.readlink(path)}"
        elif path.is_file():
            what += " " + hashlib.sha256(path.read_bytes()).hexdigest()
        out[name] = what
    return out


def litter(folder: Path, name: str) -> list[str]:
    """Give what lies beside an array or file and belongs to a write of it."""
    return sorted(p.name for p in folder.iterdir() if p.name.startswith(f".{name}"))
