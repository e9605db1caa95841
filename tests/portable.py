"""Takes away what Windows lacks, before the package is imported: a stand-in for such a system.

``import portable`` first. Locks, links, positioned and scattered reads, flags of ``open``, what is
known of a file system, and the exchange of two directories are gone; a directory cannot be opened,
and a link is refused as on a disk without. Names go on as POSIX has them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from typing import Any

# What the libraries take for themselves is not taken away.
import dask.array
import distributed
import fsspec
import imagecodecs
import psutil
import tifffile
import zarr

KEPT = (dask.array, distributed, fsspec, imagecodecs, psutil, tifffile, zarr)
GONE = (
    "preadv", "pread", "readv", "pwrite", "mkfifo", "fork", "posix_fadvise",
    "O_CLOEXEC", "O_NONBLOCK", "O_DIRECTORY", "O_NOFOLLOW", "O_DIRECT",
)  # fmt: skip

for name in GONE:
    if hasattr(os, name):
        delattr(os, name)
sys.modules["fcntl"] = None  # type: ignore[assignment]


def _no_link(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOTSUP, "no links here")


def _no_library(*_: Any, **__: Any) -> None:
    raise OSError("no such library here")


os.link = _no_link  # type: ignore[assignment]
ctypes.CDLL = _no_library  # type: ignore[assignment, misc]
_open = os.open


def _open_files(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
    if os.path.isdir(path):
        raise PermissionError(errno.EACCES, "directories are not opened here", os.fspath(path))
    return _open(path, flags, *args, **kwargs)


os.open = _open_files
shutil._use_fd_functions = False  # type: ignore[attr-defined] # as it is there
