"""Where bytes lie, as one value: a path on a disk, or a place behind a URL.

All that the library does to files goes through a ``Location``; what a disk and a store do
differently is behind its methods, in :mod:`~scout_dask_io.files.local` and
:mod:`~scout_dask_io.files.remote`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Self

from scout_dask_io.core.formatting import cut
from scout_dask_io.core.threads import work_ahead
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.remote import RemoteLocation, is_url
from scout_dask_io.files.system import WINDOWS, refused_name
from scout_dask_io.files.whole_files import Answer, Newest

# Of calls that ask a store, those at one time.
_N_CALLS = 8


class Location(Protocol):
    """A file or a folder, there or not. A value: picklable, equal where it names the same.

    Names with ``/`` go down; they are never patterns. Reading gives ``None`` where there is
    nothing, and a ``ChunkReadError`` where it cannot be told; writing is whole or not at all.
    """

    @property
    def on_disk(self) -> bool:
        """Whether it lies on a disk, which has folders, renames and links."""

    @property
    def serves_threads(self) -> bool:
        """Whether several threads may ask at once."""

    @property
    def takes_long(self) -> bool:
        """Whether an answer takes so long that several are to be waited for at once."""

    @property
    def shares_by_copies(self) -> bool:
        """Whether files that two locations share are copies, made where they lie."""

    @property
    def options(self) -> dict[str, Any] | None:
        """What it takes to reach it; never to be shown."""

    @property
    def name(self) -> str:
        """What comes after the last slash."""

    @property
    def parent(self) -> Self:
        """The place above."""

    @property
    def parents(self) -> Sequence[Self]:
        """The places above, the nearest first."""

    def __truediv__(self, name: str) -> Self: ...

    def suffixed(self, suffix: str) -> Self:
        """Give the place beside this one whose name is longer by ``suffix``."""

    def below(self, name: str) -> Self | None:
        """Give what a name that some file states means here; ``None`` if it leads out of here."""

    def lies_in(self, other: object) -> bool:
        """Tell whether this is another location, or lies below it."""

    def read(self, limit: int | None = None) -> bytes | None:
        """Give a whole file, or its first ``limit`` bytes."""

    def read_many(self, names: Sequence[str], limit: int | None = None) -> dict[str, bytes | None]:
        """Give the files of some names below this one, asked for at once."""

    def iter_files(
        self,
        names: Iterable[str],
        max_nbytes: int,
        newest: Newest | None = None,
        *,
        in_order: bool = True,
        then: Callable[[], None] | None = None,
    ) -> Iterator[Answer]:
        """Yield ``(name, bytes)`` of the files of many names below this one.

        In the order of the names; or else, from a store, as they come.

        Several may be asked for at once, in bounded memory. ``None`` stands for one that is not
        there, and a ``ChunkReadError`` for one that is larger than ``max_nbytes`` or cannot be
        read. The bytes are only good until the next is asked for: the memory is used again.
        When the last of them was written is noted in ``newest``.

        ``then`` is called once all are read, on a slow disk while the last of them are yielded;
        what it raises is raised at the end.
        """

    def write(self, data: bytes, *, new: bool = False) -> None:
        """Write a file, only where there is none if ``new``."""

    def remove(self, names: Sequence[str] | None = None) -> None:
        """Remove this file, or those of some names below it; none is no error."""

    def hand_over(
        self, to: Any, pairs: Sequence[tuple[str, str]], *, durable: bool = False
    ) -> None:
        """Have files below this one take names below another place; each is whole there or old.

        On a disk they are moved, in a store they are copied.
        """

    def identity(self) -> tuple[Any, ...] | None:
        """Give what changes when a file is written again; ``None`` if there is none."""

    def file_state(self, name: str) -> tuple[Any, ...] | None:
        """Give what changes when a file below is written again, where that is cheap to ask."""

    def tree_state(self) -> tuple[int, int] | None:
        """Give what changes when files come and go below this one, where that is cheap to ask."""

    def is_file(self) -> bool:
        """Tell whether there is a file of this name."""

    def is_link(self) -> bool:
        """Tell whether it is a symbolic link."""

    @property
    def is_folder(self) -> bool:
        """Whether there is a folder of this name, as far as is known without asking a store."""

    def exists(self) -> bool:
        """Tell whether there is a file or a folder of this name."""

    def stands(self) -> bool:
        """Tell whether anything has this name, a link to nothing too."""

    def children(self) -> Sequence[Self]:
        """Give what lies directly below, sorted by name; of a file, and of nothing, none."""

    def entries(self) -> Sequence[tuple[Self, bool]]:
        """Give what lies directly below, sorted by name, each with whether it is a folder."""

    def states(self, names: Iterable[str]) -> Iterator[tuple[int, int] | None]:
        """Yield size in bytes, and time of the last change, of each file of some names below.

        ``None`` where there is none, and a size of -1 of what is no regular file. Times are
        nanoseconds by the clock of the disk or store, 0 where a store says none.
        """

    def find(self) -> Iterator[tuple[str, int]]:
        """Yield ``(name below this one, size in bytes)`` of every file."""

    def free_nbytes(self) -> int | None:
        """Give what is free where this is to stand, in bytes; ``None`` where that is unknown."""

    def can_share_files(self, other: object) -> bool:
        """Tell whether files of another location can stand here too, by links or copies."""

    def told(self, err: BaseException) -> str:
        """Give the words of an error, but for the secrets that it may repeat."""


def locate(
    path: str | os.PathLike[str] | Location | None,
    storage_options: Mapping[str, Any] | None = None,
) -> Location:
    """Give the location of an absolute local path, or of a place that is reached by a URL.

    ``file://`` is local. Nothing is looked at.

    Raises
    ------
    ArgumentError
        If it is no path, or ``storage_options`` are given for a local one.
    PathNotFoundError
        If it is relative, and the working directory is gone.
    """
    if isinstance(path, (RemoteLocation, LocalLocation)):
        return path
    # zarr takes text with "::" or "://" for a URL chain; a Path is a path.
    if not isinstance(path, (str, os.PathLike)) or os.fspath(path) in ("", b""):
        raise ArgumentError(f"path must be a local path or a URL, got {path!r}")
    if not is_url(path):
        if storage_options:
            raise ArgumentError(
                f"storage_options are for URLs such as s3://bucket/a.zarr; {path} is a local path"
            )
        return _on_disk(os.fspath(path))
    url = str(path).rstrip("/")
    if url.split("://")[0] in ("file", "local"):
        return _on_disk(url.split("://", 1)[1])
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise ArgumentError(
            f"storage_options must be a dict, got a {type(storage_options).__name__}"
        )
    found = RemoteLocation(url, dict(storage_options or {}))
    _ = found.client  # for its errors
    return found


def _on_disk(path: str) -> LocalLocation:
    if "\0" in path:
        raise ArgumentError(f"path {path!r} has a zero byte in it, which no name of a file has")
    if WINDOWS and (name := refused_name(path)):
        raise ArgumentError(
            f"{path}: {name!r} is no name of a file on Windows, which takes it for a device or a "
            'stream of another file, or leaves its end out. Give a name without <>:"|?*, and '
            "without a space or dot at its end"
        )
    try:
        found = LocalLocation(os.path.abspath(path))
        raw = os.fsencode(found)
    except UnicodeEncodeError as err:
        raise ArgumentError(f"path {path!r} is no name of a file on this system ({err})") from err
    except FileNotFoundError as err:
        raise PathNotFoundError(
            f"{path}: the working directory, which it is relative to, is gone. Give an absolute "
            "path, or change to a directory that exists."
        ) from err
    if len(raw) > 4095 or max(map(len, raw.split(b"/"))) > 255:
        raise ArgumentError(
            f"path {cut(str(found), 200)!r}: a name in it has more than 255 bytes, or all of it "
            "more than 4,095, which file systems do not take: give a shorter one"
        )
    return found


def locate_file(path: Any, storage_options: Mapping[str, Any] | None = None) -> Location:
    """Give what :func:`locate` does, of bytes too, as the system has file names."""
    return locate(os.fsdecode(path) if isinstance(path, bytes) else path, storage_options)


def as_local(location: Location) -> LocalLocation:
    """Give a location that must lie on a disk.

    Raises
    ------
    ArgumentError
        If it is a URL.
    """
    if not isinstance(location, LocalLocation):
        raise ArgumentError(
            f"{location} is a URL, expected a local path: this is done on disks alone"
        )
    return location


def as_remote(location: Location) -> RemoteLocation:
    """Give a location that must be a URL's.

    Raises
    ------
    ArgumentError
        If it lies on a disk.
    """
    if not isinstance(location, RemoteLocation):
        raise ArgumentError(f"{location} is a local path, expected a URL")
    return location


def is_path(value: object) -> bool:
    """Tell whether a value names a place: text, a path, or a location."""
    return isinstance(value, (str, os.PathLike, RemoteLocation))


def ask_at_once(place: Location, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Give what some calls give, in order; those of a store at the same time, up to eight.

    Unlike what is asked by :func:`~scout_dask_io.files.requests.together`, they may ask by this.

    Raises
    ------
    Exception
        The first call's that raised one.
    """
    n = 1 if place.on_disk or not place.serves_threads else min(len(calls), _N_CALLS)
    return list(work_ahead(lambda call: call(), calls, n, n))
