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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import PureWindowsPath
from typing import Any, TypeAlias, TypeVar

_T = TypeVar("_T")
StrPath: TypeAlias = "str | os.PathLike[str]"

#: Whether names, directories and open files are as Windows has them.
WINDOWS = os.name == "nt"
# Devices, in whose place no file is made, whatever the ending of its name.
_DEVICES = {"CON", "PRN", "AUX", "NUL"} | {f"{d}{n}" for d in ("COM", "LPT") for n in range(1, 10)}


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
NO_LINK = (
    errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV,
    *([errno.EINVAL] if WINDOWS else []),
)  # fmt: skip

if hasattr(os, "preadv"):

    def read_some_at(fd: int, offset: int, out: memoryview) -> int:
        """Read into ``out`` from a place in a file, and give how many bytes; 0 is its end."""
        return os.preadv(fd, [out], offset)

else:

    def read_some_at(fd: int, offset: int, out: memoryview) -> int:
        """Read into ``out`` from a place in a file, and give how many bytes; 0 is its end.

        By moving its position, and back: whoever reads on in the same file, as tifffile does, goes
        on where it was. A descriptor that several threads share is not to be given.
        """
        before = os.lseek(fd, 0, os.SEEK_CUR)
        os.lseek(fd, offset, os.SEEK_SET)
        try:
            return read_some(fd, out)
        finally:
            os.lseek(fd, before, os.SEEK_SET)


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


def refused_name(path: str) -> str:
    """Give the first name in a path that Windows takes for something else, or ``""``.

    There ``a:b.zarr`` is a hidden stream of a file ``a``, ``NUL`` and ``aux.tif`` are devices, and
    a space or dot at the end is left out: what is written there is lost, or lies elsewhere.

    Examples
    --------
    >>> refused_name("C:/lab/aux.tif"), refused_name("lab/t=1:30.zarr"), refused_name("lab/a.zarr")
    ('aux.tif', 't=1:30.zarr', '')
    """
    for part in PureWindowsPath(path).parts[bool(PureWindowsPath(path).anchor) :]:
        if part in (".", ".."):
            continue
        stem = part.partition(".")[0].rstrip(" ").upper()
        if stem in _DEVICES or set(part) & set('<>:"|?*') or part != part.rstrip(" ."):
            return part
    return ""


def sync_file(path: StrPath) -> None:
    """Sync a file that is there, so that what is in it outlasts a power failure.

    Windows syncs only what is open for writing; elsewhere one that may only be read is synced too.
    """
    for flags in (READ, os.O_RDWR | _ALWAYS):
        fd = os.open(path, flags)
        try:
            os.fsync(fd)
            return
        except OSError as err:
            if err.errno not in (errno.EBADF, errno.EACCES) or flags != READ:
                raise
        finally:
            os.close(fd)


def is_below_a_file(path: StrPath) -> bool:
    """Tell whether a file lies where a path that was not found has a folder.

    Windows calls that not found too; others say what it is, and are not asked here.
    """
    if not WINDOWS and hasattr(os, "O_DIRECTORY"):
        return False
    below, above = os.fspath(path), os.path.dirname(path)
    while above != below and not os.path.lexists(above):
        below, above = above, os.path.dirname(above)
    return os.path.lexists(above) and not os.path.isdir(above)


def sync_dir(path: StrPath) -> None:
    """Sync a directory, so that the names in it outlast a power failure.

    Windows opens no directories, and keeps names with what they name.
    """
    if WINDOWS or not hasattr(os, "O_DIRECTORY"):
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


def patiently(call: Callable[[], _T]) -> _T:
    """Give what a call gives that asks for a name which another program may be using.

    Windows refuses meanwhile, as while scanners of viruses look into a file, or another writer
    renames the directory that is to be listed: there it is tried again for two seconds.
    """
    last = time.monotonic() + 2
    while True:
        try:
            return call()
        except PermissionError:
            if not WINDOWS or time.monotonic() > last:
                raise
            time.sleep(0.05)


def replace(source: StrPath, target: StrPath) -> None:
    """Give a file a name, in one step and :func:`patiently`, in the place of what has it."""
    patiently(lambda: os.replace(source, target))


def move_to_new(source: StrPath, target: StrPath) -> None:
    """Give a file a name that nothing has; of many that try at once, one does.

    Where the disk has no hard links, the name is taken by an empty file first.

    Raises
    ------
    FileExistsError
        If there is something of that name.
    """
    try:
        os.link(source, target)
    except OSError as err:
        if err.errno not in NO_LINK:
            raise
        os.close(os.open(target, CREATE, 0o666))
        replace(source, target)
    else:
        os.unlink(source)


def rename_dir(source: StrPath, target: StrPath) -> None:
    """Give a directory a name that nothing has, or an empty directory.

    Windows does not rename onto an empty one either: there it goes first. It is done
    :func:`patiently`.

    Raises
    ------
    OSError
        If something else has the name.
    """

    def rename() -> None:
        try:
            os.rename(source, target)
        except FileExistsError:
            os.rmdir(target)
            os.rename(source, target)

    patiently(rename)
