"""Takes away what Windows lacks, before the package is imported: a stand-in for such a system.

``import portable`` first, or ``pytest --portable``. Gone are positioned and scattered reads, locks
of POSIX, FIFOs, forks, flags of ``open``, and the exchange of two directories; a link is refused
as on a disk without. A directory cannot be opened. What stands is not renamed over, nor a file
that is open replaced, removed, or moved with its directory; only what is open for writing is
synced. Names that Windows reserves, and those with its special characters, cannot be made. Locks
are those of ``msvcrt``. Paths are written as POSIX has them, and case counts.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import io
import os
import shutil
import sys
import traceback
from pathlib import PurePath
from types import ModuleType
from typing import Any

# What the libraries take for themselves is not taken away.
import dask.array
import distributed
import fsspec
import imagecodecs
import psutil
import tifffile
import zarr

try:
    import fcntl
except ImportError:  # on Windows itself there is nothing to take away
    fcntl = None  # type: ignore[assignment]

KEPT = (dask.array, distributed, fsspec, imagecodecs, psutil, tifffile, zarr)
GONE = (
    "preadv", "pread", "readv", "pwrite", "mkfifo", "fork", "posix_fadvise",
    "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "O_NOFOLLOW", "O_DIRECT",
)  # fmt: skip
#: What is answered to whom asks for what is not here.
NO_NAME, NO_LINK = "the name is not allowed here", "no links here"
NO_DIRECTORY = "directories are not opened here"
RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{d}{n}" for d in ("COM", "LPT") for n in range(1, 10))}


def check_name(path: Any) -> None:
    """Refuse a name that Windows has not, as it does."""
    if isinstance(path, int):
        return
    for part in PurePath(os.fsdecode(path)).parts:
        stem = part.partition(".")[0].rstrip(" ").upper()
        if set(part) & set('<>:"|?*\\') or part != part.rstrip(" ") or stem in RESERVED or (
            part.endswith(".") and part not in (".", "..")
        ):  # fmt: skip
            raise OSError(errno.EINVAL, NO_NAME, os.fspath(path))


def open_below(path: Any) -> str | None:
    """Give a file at a path, or below it, that this process has open."""
    if isinstance(path, int):
        return None
    whole = os.path.realpath(os.fsdecode(path))
    for fd in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if name == whole or name.startswith(whole + "/"):
            return name
    return None


def _is_used(path: Any) -> None:
    name = open_below(path)
    if name is not None:
        raise PermissionError(errno.EACCES, "a program has it open", os.fspath(path))


def _take_away() -> None:
    # Children of tests are forked by a server, of which the package sees nothing.
    from multiprocessing import forkserver

    forkserver.os = ModuleType("os")  # type: ignore[attr-defined]
    forkserver.os.__dict__.update(vars(os))  # type: ignore[attr-defined]
    for name in GONE:
        if hasattr(os, name):
            delattr(os, name)
    sys.modules["fcntl"] = None  # type: ignore[assignment]
    sys.modules["msvcrt"] = _locks()

    real_open, real_fsync = os.open, os.fsync
    real_rename, real_replace, real_mkdir = os.rename, os.replace, os.mkdir
    real_unlink, real_rmdir, real_file = os.unlink, os.rmdir, io.open

    def no_link(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOTSUP, NO_LINK)

    def no_library(*_: Any, **__: Any) -> None:
        raise OSError("no such library here")

    def open_files(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:  # a file that goes when it is closed, as there
            return real_open(path, flags, *args, **kwargs)
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, NO_DIRECTORY, os.fspath(path))
        if flags & os.O_CREAT:
            check_name(path)
        try:
            return real_open(path, flags, *args, **kwargs)
        except NotADirectoryError as err:  # below a file there is nothing
            raise FileNotFoundError(errno.ENOENT, "there is none", os.fspath(path)) from err

    def open_file(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wax"):
            check_name(file)
        return real_file(file, mode, *args, **kwargs)

    def fsync(fd: int) -> None:
        if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "what is not open for writing is not synced here")
        real_fsync(fd)

    def rename(src: Any, dst: Any, **kwargs: Any) -> None:
        check_name(dst)
        _is_used(src)
        if os.path.lexists(dst):
            raise FileExistsError(errno.EEXIST, "there is one", os.fspath(dst))
        real_rename(src, dst, **kwargs)

    def replace(src: Any, dst: Any, **kwargs: Any) -> None:
        check_name(dst)
        _is_used(src)
        _is_used(dst)
        if os.path.isdir(dst):
            raise PermissionError(errno.EACCES, "a directory is not replaced", os.fspath(dst))
        real_replace(src, dst, **kwargs)

    def mkdir(path: Any, *args: Any, **kwargs: Any) -> None:
        check_name(path)
        real_mkdir(path, *args, **kwargs)

    def unlink(path: Any, **kwargs: Any) -> None:
        _is_used(path)
        real_unlink(path, **kwargs)

    def rmdir(path: Any, **kwargs: Any) -> None:
        _is_used(path)
        real_rmdir(path, **kwargs)

    # zarr does on Windows what that has.
    zarr.storage._local._safe_move = rename
    os.link, ctypes.CDLL = no_link, no_library  # type: ignore[assignment, misc]
    os.open, os.fsync, os.rename, os.replace, os.mkdir = open_files, fsync, rename, replace, mkdir
    os.unlink, os.remove, os.rmdir = unlink, unlink, rmdir
    io.open = builtins.open = open_file
    if hasattr(shutil, "_rmtree_impl"):  # of Python 3.14: as it is there
        shutil._rmtree_impl = shutil._rmtree_unsafe  # type: ignore[attr-defined]
    shutil._use_fd_functions = False  # type: ignore[attr-defined]


def _locks() -> ModuleType:
    """Give a module that locks as ``msvcrt`` does."""
    module: Any = ModuleType("msvcrt")
    module.LK_NBLCK, module.LK_UNLCK = 2, 0

    def locking(fd: int, mode: int, nbytes: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN if mode == 0 else fcntl.LOCK_EX | fcntl.LOCK_NB)

    module.locking = locking
    return module  # type: ignore[no-any-return]


def lacks(error: BaseException) -> str:
    """Give what a test itself asked for that is not here, or ``""`` where it did not."""
    frames = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    if (cause := error.__cause__) is not None and lacks(cause) == NO_NAME:
        return NO_NAME  # whoever was given the name
    if isinstance(error, OSError) and error.strerror == NO_NAME:
        return NO_NAME
    if "is no name of a file on Windows" in str(error):  # and there the package says so
        return NO_NAME
    if any(f"{os.sep}scout_dask_io{os.sep}" in f for f in frames if os.sep + "tests" not in f):
        return ""
    if isinstance(error, AttributeError) and error.obj is os and error.name in GONE:
        return f"os.{error.name}"
    found = error.strerror if isinstance(error, OSError) else ""
    return found if found in (NO_LINK, NO_DIRECTORY) else ""


if fcntl is not None:
    _take_away()
