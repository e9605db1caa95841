"""What systems differ in: flags of open files, reads at a place, locks, links, room on a disk.

The one module that asks for what POSIX has and Windows lacks; each has a fallback in the
standard library, so that nothing outside it looks at the system.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, TypeAlias

StrPath: TypeAlias = "str | os.PathLike[str]"


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


#: Locks of POSIX, and of Windows; either is ``None`` elsewhere.
_FCNTL, _MSVCRT = _module("fcntl"), _module("msvcrt")


def _flags(*names: str) -> int:
    found = 0
    for name in names:
        found |= getattr(os, name, 0)
    return found


_ALWAYS = _flags("O_CLOEXEC", "O_NOINHERIT", "O_BINARY")
#: To read a file that may have become a FIFO, for whose writer nobody is to wait.
READ = os.O_RDONLY | _ALWAYS | _flags("O_NONBLOCK")
#: To write a file that must not be there, and to add to one.
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _ALWAYS
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | _ALWAYS
# To open a directory, where that can be.
_DIRECTORY = os.O_RDONLY | _ALWAYS | _flags("O_DIRECTORY")

#: What disks say that have no hard links, as exFAT or SMB, or no more of one file.
NO_LINK = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)

if hasattr(os, "preadv"):

    def read_some_at(fd: int, offset: int, out: memoryview) -> int:
        """Read into ``out`` from a place in a file, and give how many bytes; 0 is its end."""
        return os.preadv(fd, [out], offset)

else:

    def read_some_at(fd: int, offset: int, out: memoryview) -> int:
        """Read into ``out`` from a place in a file, and give how many bytes; 0 is its end.

        By moving its position: a descriptor that several threads share is not to be given.
        """
        os.lseek(fd, offset, os.SEEK_SET)
        return read_some(fd, out)


if hasattr(os, "readv"):

    def read_some(fd: int, out: memoryview) -> int:
        """Read on into ``out``, and give how many bytes were read; 0 is the end."""
        return os.readv(fd, [out])

else:

    def read_some(fd: int, out: memoryview) -> int:
        """Read on into ``out``, and give how many bytes were read; 0 is the end."""
        data = os.read(fd, len(out))
        out[: len(data)] = data
        return len(data)


if hasattr(os, "posix_fadvise"):

    def ask_for(fd: int, offset: int, nbytes: int) -> None:
        """Have bytes of a file brought into the system's cache, and do not wait for them."""
        os.posix_fadvise(fd, offset, nbytes, os.POSIX_FADV_WILLNEED)

    CAN_ASK = True
else:

    def ask_for(fd: int, offset: int, nbytes: int) -> None:
        """Do nothing: this system cannot be asked to read ahead."""

    CAN_ASK = False


def max_open_files() -> int:
    """Give how many files this process may have open; a guess where the system does not say."""
    resource = _module("resource")
    limit = 256 if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 1 << 20 if limit < 0 else int(limit)


def sync_dir(path: StrPath) -> None:
    """Sync a directory, so that the names in it outlast a power failure.

    Windows opens no directories, and keeps names with what they name.
    """
    if os.name == "nt" or not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(path, _DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def free_nbytes(path: StrPath) -> int:
    """Give how many bytes a user may still write to the disk that a path lies on."""
    return shutil.disk_usage(path).free


@contextmanager
def locked(folder: StrPath, *, wait: bool = True) -> Iterator[bool]:
    """Keep other processes from a directory while it is changed; ``False`` if another has it.

    The lock is on the directory itself where there are such locks (on network shares too, as far as
    these have them), else on a file of this machine's folder for temporary files. File
    systems without locks let everybody in.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        If there is no such directory.
    """
    if _FCNTL is None:
        with _locked_elsewhere(folder, wait=wait) as got:
            yield got
        return
    fd = os.open(folder, _DIRECTORY)
    try:
        try:
            _FCNTL.flock(fd, _FCNTL.LOCK_EX | (0 if wait else _FCNTL.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True
    finally:
        os.close(fd)


@contextmanager
def _locked_elsewhere(folder: StrPath, *, wait: bool) -> Iterator[bool]:
    with os.scandir(folder):  # there, and a directory
        pass
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    path = os.path.join(tempfile.gettempdir(), f"scout-{name}.lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | _ALWAYS, 0o666)
    got = False
    try:
        while _MSVCRT is not None:
            try:
                _MSVCRT.locking(fd, _MSVCRT.LK_NBLCK, 1)
            except OSError:
                if not wait:
                    yield False
                    return
                time.sleep(0.05)
            else:
                got = True
                break
        yield True
    finally:
        if got:
            with suppress(OSError):
                os.lseek(fd, 0, os.SEEK_SET)
                _MSVCRT.locking(fd, _MSVCRT.LK_UNLCK, 1)
        os.close(fd)
        with suppress(OSError):  # another has it open
            os.unlink(path)


def replace(source: StrPath, target: StrPath) -> None:
    """Give a file a name, in one step, in the place of what has it.

    Windows refuses while somebody has the target open, as scanners of viruses do for a moment:
    there it is tried again for two seconds.
    """
    last = time.monotonic() + 2
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or time.monotonic() > last:
                raise
            time.sleep(0.05)
