"""What the system can do with directories: change places, sync, and go away; and its errors."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from scout_dask_io.core.threads import work_ahead
from scout_dask_io.errors import ScoutIOError, WriteError
from scout_dask_io.files.pace import N_AT_ONCE, Pace
from scout_dask_io.files.system import sync_dir, sync_file

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# What systems and file systems answer that cannot exchange.
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV}


def exchange(a: Path, b: Path) -> bool:
    """Let two directories change places in one step; ``False`` where the system cannot.

    Linux since 3.15 can, on ext4, xfs, btrfs, tmpfs and others, not on NFS.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    names = (os.fsencode(a), os.fsencode(b))
    if rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), os.fspath(b))


def hidden_name(path: Path) -> str:
    """Give how the names of hidden files beside a path begin: ``.``, and its own name.

    A name that is too long for anything to be added has its end replaced by a digest of it:
    systems take 255 bytes, and up to 46 are added.

    Examples
    --------
    >>> hidden_name(Path("a.zarr")), len(hidden_name(Path("a" * 250)))
    ('.a.zarr', 168)
    """
    raw = os.fsencode(path.name)
    if len(raw) <= 209:
        return f".{path.name}"
    return f".{raw[:150].decode(errors='ignore')}~{hashlib.sha256(raw).hexdigest()[:16]}"


def remove_tree(path: Path) -> None:
    """Remove a directory of the library's own as far as that goes; what is left harms nothing.

    Where each file waits for its answer, several folders of one depth are emptied at once.
    """
    pace, n = Pace(), 1
    depths, folders = list[list[str]](), [os.fspath(path)]
    while folders:
        depths.append(folders)
        below = list[str]()
        while folders:
            some, folders = folders[: 4 * n], folders[4 * n :]
            for took_s, inside in work_ahead(_empty, some, n, n):
                pace.note(took_s)
                below += inside
            n = N_AT_ONCE if pace.is_slow else 1
        folders = below
    for folders in reversed(depths):
        for _ in work_ahead(_remove_folder, folders, n, n):
            pass
    if path.exists():
        shutil.rmtree(path, ignore_errors=True)


def _empty(folder: str) -> tuple[float, list[str]]:
    """Remove the files of a folder; give how long each took, and the folders in it."""
    began, n_files, inside = time.perf_counter(), 1, list[str]()
    with suppress(OSError), os.scandir(folder) as found:
        for entry in list(found):
            if entry.is_dir(follow_symlinks=False):
                inside.append(entry.path)
                continue
            n_files += 1
            with suppress(OSError):
                os.unlink(entry.path)
    return (time.perf_counter() - began) / n_files, inside


def _remove_folder(folder: str) -> None:
    with suppress(OSError):
        os.rmdir(folder)


def make_dirs(path: Path, root: Path) -> None:
    """Make ``path`` and what lies between it and ``root``, which must exist.

    Raises
    ------
    FileNotFoundError
        If ``root`` is gone: it is not made again.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except FileNotFoundError:
        if path == root or root not in path.parents:
            raise
        make_dirs(path.parent, root)
        make_dirs(path, root)


def sync_files(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Sync files that are there, so that what is in them outlasts a power failure."""
    for path in paths:
        sync_file(path)


def sync_folders(root: str, names: Iterable[str]) -> None:
    """Sync the directories of files below ``root``, and those above them, the deepest first.

    Those that are not there are left out, but for ``root`` itself.
    """
    folders: set[str] = set()
    for name in names:
        folder = os.path.dirname(name)
        while folder and folder not in folders:
            folders.add(folder)
            folder = os.path.dirname(folder)
    for folder in sorted(folders, key=len, reverse=True):
        with suppress(FileNotFoundError):
            sync_dir(Path(root, folder))
    sync_dir(Path(root))


def sync_tree(root: Path) -> None:
    """Sync a directory and all below it, the deepest first, and its metadata files.

    Metadata files are ``zarr.json`` and those whose names begin with a dot; chunk
    files are synced when they are written.
    """

    def fail(err: OSError) -> None:
        raise err

    for here, _, names in os.walk(root, topdown=False, onerror=fail):
        own = (n for n in names if n.startswith(".") or n == "zarr.json")
        sync_files(os.path.join(here, name) for name in own)
        sync_dir(Path(here))


@contextmanager
def naming_errors(path: str | os.PathLike[str], doing: str) -> Iterator[None]:
    """Turn an error of the system into one of the library that names a path."""
    try:
        yield
    except ScoutIOError:
        raise
    except OSError as err:
        named = f" ({err.filename})" if err.filename not in (None, os.fspath(path)) else ""
        error = WriteError(f"{path}: {doing}: {err.strerror or err}{named}")
        error.errno = err.errno
        raise error from err
