"""Makes the n-th file operation under a folder fail, or kills the process there.

Only operations that change something, and opening files, count: open, write,
fsync, replace, rename, mkdir, unlink, rmdir, link. Readers' opens count too,
since files may become unreadable. Names are compared after links.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: What the sweep throws.
ERRNOS = {name: getattr(errno, name) for name in ("ENOSPC", "EIO", "EACCES", "EMFILE")}


class Faults:
    """Counts operations under ``root``, and fails the ``nth`` (from 1)."""

    def __init__(
        self, root: Path, nth: int = 0, number: int = 0, *, kill: bool = False, stop: bool = False
    ) -> None:
        self.root = os.path.realpath(root)
        self.nth, self.number, self.kill, self.stop = nth, number, kill, stop
        self.count = 0
        #: ``(operation, path)`` of all that was done.
        self.log: list[tuple[str, str]] = []
        self.hit: tuple[str, str] | None = None
        self._lock = threading.Lock()

    def step(self, operation: str, path: str | None) -> None:
        """Count one operation, and fail it if it is the one."""
        if path is None or not (path == self.root or path.startswith(self.root + "/")):
            return
        with self._lock:
            self.count += 1
            self.log.append((operation, os.path.relpath(path, self.root)))
            if self.count != self.nth:
                return
            self.hit = self.log[-1]
        if self.kill or self.stop:
            os.kill(os.getpid(), signal.SIGKILL if self.kill else signal.SIGSTOP)
        if self.stop:
            return
        raise OSError(self.number, os.strerror(self.number), path)


class Watched(Faults):
    """Has readers look at every operation, or at each so many."""

    def __init__(self, root: Path, look: Any, step: int = 1) -> None:
        super().__init__(root)
        self._look, self._looking, self._step = look, False, step

    def step(self, operation: str, path: str | None) -> None:
        """Look, unless it is the readers' own operation."""
        # zarr opens files in the thread of its event loop, where no reader can wait for it.
        aside = threading.current_thread() is not threading.main_thread()
        if self._looking or aside or path is None or not path.startswith(self.root):
            return
        self._looking = True
        try:
            if self.count % self._step == 0:
                self._look()
        finally:
            self._looking = False
        self.count += 1


def _place(path: Any, dir_fd: int | None = None) -> str | None:
    if isinstance(path, int):
        try:
            return os.readlink(f"/proc/self/fd/{path}")
        except OSError:
            return None
    text = os.fsdecode(path)
    if dir_fd is not None and not os.path.isabs(text):
        text = os.path.join(_place(dir_fd) or "", text)
    return os.path.join(
        os.path.realpath(os.path.dirname(os.path.abspath(text))), os.path.basename(text)
    )


class _File:
    """A file for writing whose writes count."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file, self._faults = file, faults

    def write(self, data: Any) -> Any:
        self._faults.step("write", _place(self._file.fileno()))
        return self._file.write(data)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def injected(faults: Faults) -> Iterator[Faults]:
    """Let the operations of this process pass through ``faults``."""
    real: dict[tuple[Any, str], Any] = {}

    def patch(module: Any, name: str, make: Callable[[Any], Any]) -> None:
        real[module, name] = getattr(module, name)
        setattr(module, name, make(real[module, name]))

    def by_path(operation: str) -> Callable[[Any], Any]:
        def make(function: Any) -> Any:
            def call(path: Any, *args: Any, **kwargs: Any) -> Any:
                dir_fd = kwargs.get("dir_fd", kwargs.get("src_dir_fd"))
                faults.step(operation, _place(path, dir_fd))
                return function(path, *args, **kwargs)

            return call

        return make

    def opener(function: Any) -> Any:
        def call(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if not isinstance(file, int):
                faults.step("open", _place(file))
            opened = function(file, mode, *args, **kwargs)
            return _File(opened, faults) if set(mode) & set("wax+") else opened

        return call

    for name in ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir", "link"):
        patch(os, name, by_path(name))
    patch(io, "open", opener)
    patch(builtins, "open", opener)
    try:
        yield faults
    finally:
        for (module, name), function in real.items():
            setattr(module, name, function)
