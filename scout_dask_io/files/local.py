"""Files and directories on a local or shared disk, as locations."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scout_dask_io.core.threads import work_ahead
from scout_dask_io.errors import (
    ChunkReadError,
    LayoutError,
    PathNotFoundError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.files.disk import make_dirs, sync_files, sync_folders
from scout_dask_io.files.pace import N_AT_ONCE, Pace, pace_of
from scout_dask_io.files.system import (
    READ,
    move_to_new,
    replace,
    sync_dir,
)
from scout_dask_io.files.whole_files import Answer, Newest, iter_whole

if TYPE_CHECKING:
    _Base = Path
else:
    _Base = type(Path())  # Path itself cannot be subclassed before Python 3.12

# Folders whose state is looked at, at most.
_MOST_FOLDERS = 4096

#: Names of files that are being written begin so, and end in ``.tmp``.
DRAFT_PREFIX = ".scout-"
_NOT_THERE = (FileNotFoundError, NotADirectoryError)


class LocalLocation(_Base):
    """An absolute path on a disk; a ``Path`` that answers as every location does. Picklable."""

    #: It has folders, renames and links.
    on_disk = True
    #: Several threads may ask at once.
    serves_threads = True
    #: Two locations share files by links to the same bytes.
    shares_by_copies = False

    @property
    def takes_long(self) -> bool:
        """Whether files below were found to take as long as answers of a store do."""
        return pace_of(os.fspath(self)).is_slow

    def __repr__(self) -> str:
        """Give it in quotes, as messages name it."""
        return repr(str(self))

    def read(self, limit: int | None = None) -> bytes | None:
        """Give the whole file, or its first ``limit`` bytes; ``None`` if there is none.

        Raises
        ------
        LayoutError
            If it is no regular file, which could hang or never end, or cannot be read.
        """
        try:
            fd = os.open(self, READ)
        except _NOT_THERE as err:
            if os.path.islink(self):
                raise LayoutError(f"{self}: expected a regular file, found a link to "
                                     "nothing") from err  # fmt: skip
            return None
        except OSError as err:
            raise LayoutError(f"{self}: cannot be read ({err.strerror or err})") from err
        try:
            found = os.fstat(fd)
            if stat.S_ISDIR(found.st_mode):
                cause = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                raise LayoutError(f"{self}: expected a regular file, found a folder") from cause
            if not stat.S_ISREG(found.st_mode):
                raise LayoutError(f"{self}: expected a regular file")
            wanted = found.st_size if limit is None else min(limit, found.st_size)
            parts = []
            while wanted > 0 and (part := os.read(fd, wanted)):
                parts.append(part)
                wanted -= len(part)
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except MemoryError as err:
            raise LayoutError(
                f"{self}: has {found.st_size:,} bytes, more than there is memory for"
            ) from err
        except OSError as err:
            raise LayoutError(f"{self}: cannot be read ({err.strerror or err})") from err
        finally:
            os.close(fd)

    def read_many(self, names: Sequence[str], limit: int | None = None) -> dict[str, bytes | None]:
        """Give the files of some names below this one, each as :meth:`read` does."""
        return {name: (self / name).read(limit) for name in names}

    def iter_files(
        self,
        names: Iterable[str],
        max_nbytes: int,
        newest: Newest | None = None,
        *,
        in_order: bool = True,
        then: Callable[[], None] | None = None,
    ) -> Iterator[Answer]:
        """Yield ``(name, bytes)`` of files below this one, in the order of their names.

        See :meth:`Location.iter_files <scout_dask_io.files.location.Location.iter_files>`.
        """
        return iter_whole(os.fspath(self), names, max_nbytes, then)

    def write(
        self,
        data: bytes,
        *,
        new: bool = False,
        durable: bool = False,
        drafts: Path | None = None,
    ) -> None:
        """Write a file whole, in one step: beside its place, or in ``drafts``, then renamed.

        With ``durable``, it and its name are on the disk when this returns.

        Raises
        ------
        TargetExistsError
            If ``new`` is asked for and there is one.
        WriteError
            If it cannot be written; what stood there stands.
        """
        draft = (drafts or self.parent) / f"{DRAFT_PREFIX}{uuid.uuid4().hex}.tmp"
        try:
            draft.write_bytes(data)
            if durable:
                sync_files([draft])
            with suppress(FileNotFoundError):
                draft.chmod(self.stat().st_mode & 0o7777)
            if new:
                move_to_new(draft, self)
            else:
                replace(draft, self)
            if durable:
                sync_dir(self.parent)
        except BaseException as err:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            if isinstance(err, FileExistsError):
                raise TargetExistsError(f"{self} is there already") from err
            if isinstance(err, OSError):
                error = WriteError(f"{self} cannot be written: {err.strerror or err}")
                error.errno = err.errno
                raise error from err
            raise

    def remove(self, names: Sequence[str] | None = None) -> None:
        """Remove this file, or those of some names below it; none is no error.

        Raises
        ------
        WriteError
            If one cannot be removed.
        """
        for path in [self] if names is None else [self / name for name in names]:
            try:
                path.unlink(missing_ok=True)
            except NotADirectoryError:
                continue
            except OSError as err:
                raise WriteError(f"{path} cannot be removed: {err.strerror or err}") from err

    def hand_over(
        self, to: LocalLocation, pairs: Sequence[tuple[str, str]], *, durable: bool = False
    ) -> None:
        """Move files below this one to names below another place of the same disk, one by one.

        Each takes the place of what stands there in one step. One that is gone was moved already.

        Raises
        ------
        OSError
            If one cannot be moved.
        """
        here, there = os.fspath(self), os.fspath(to)
        for own, name in pairs:
            target = f"{there}/{name}"
            try:
                replace(f"{here}/{own}", target)
            except FileNotFoundError:
                if not os.path.lexists(f"{here}/{own}"):
                    continue
                make_dirs(Path(os.path.dirname(target)), Path(there))
                replace(f"{here}/{own}", target)
        if durable:
            sync_folders(there, (name for _, name in pairs))

    def identity(self) -> tuple[Any, ...] | None:
        """Give what changes when a file is written again; ``None`` if there is none."""
        try:
            found = os.stat(self)
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def file_state(self, name: str) -> tuple[Any, ...] | None:
        """Give what changes when a file below is written again: :meth:`identity`."""
        return (self / name).identity()

    def tree_state(self) -> tuple[int, int] | None:
        """Give the last change of the directories below, and how many they are.

        A file that is added, or replaced by a rename, changes its directory; one that is
        overwritten in place does not. At most 4,096 are looked at, and none beside a file whose
        name begins with a digit: no directory lies beside chunks, nor at the depth of these.
        """
        newest, seen, folders = 0, 0, [os.fspath(self)]
        pace, n = Pace(), 1
        while folders and seen < _MOST_FOLDERS:
            folders, below = folders[: _MOST_FOLDERS - seen], []
            look = partial(_folder_state, depth=_Depth())
            # The folders of one depth at once, where each waits for its answer.
            for took_s, changed_ns, inside in work_ahead(look, folders, n, n):
                pace.note(took_s)
                newest = max(newest, changed_ns)
                below += inside
            n = N_AT_ONCE if pace.is_slow else 1
            seen, folders = seen + len(folders), below
        return newest, seen

    def stands(self) -> bool:
        """Tell whether anything has this name, a link to nothing too."""
        return os.path.lexists(self)

    def is_link(self) -> bool:
        """Tell whether it is a symbolic link."""
        return self.is_symlink()

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory, or a link to one."""
        return self.is_dir()

    def children(self) -> list[LocalLocation]:
        """Give what lies directly in a directory, sorted; of what is none, nothing.

        Raises
        ------
        PathNotFoundError
            If it may not be listed.
        """
        return [child for child, _ in self.entries()]

    def entries(self) -> list[tuple[LocalLocation, bool]]:
        """Give what :meth:`children` does, each with whether it is a folder or a link to one.

        Raises
        ------
        PathNotFoundError
            If it may not be listed.
        """
        try:
            with os.scandir(self) as found:
                # By their names: comparing paths takes as long as all the rest of a large folder.
                named = sorted((e.name, _is_dir(e)) for e in found)
                return [(self / name, is_folder) for name, is_folder in named]
        except _NOT_THERE:
            return []
        except OSError as err:
            raise PathNotFoundError(f"{self} cannot be listed: {err.strerror or err}") from err

    def find(self) -> Iterator[tuple[str, int]]:
        """Yield ``(name below this one, size in bytes)`` of every regular file, links not followed.

        Raises
        ------
        ChunkReadError
            If a directory may not be listed.
        """
        queue = [(os.fspath(self), "")]
        while queue:
            folder, above = queue.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            queue.append((entry.path, f"{above}{entry.name}/"))
                        elif entry.is_file(follow_symlinks=False):
                            size = entry.stat(follow_symlinks=False).st_size
                            yield f"{above}{entry.name}", size
            except OSError as err:
                raise ChunkReadError(f"{folder} cannot be listed: {err.strerror or err}") from err

    def states(self, names: Iterable[str]) -> Iterator[tuple[int, int] | None]:
        """Yield size and time of the last change of files below; links are not followed.

        Raises
        ------
        ChunkReadError
            If one cannot be looked at.
        """
        root = os.fspath(self)
        for name in names:
            try:
                found = os.lstat(f"{root}/{name}")
            except _NOT_THERE:
                yield None
            except OSError as err:
                raise ChunkReadError(
                    f"{root}/{name} cannot be looked at: {err.strerror or err}"
                ) from err
            else:
                # Not the time of the contents, which tools set to what they like.
                size = found.st_size if stat.S_ISREG(found.st_mode) else -1
                yield size, found.st_ctime_ns

    def suffixed(self, suffix: str) -> LocalLocation:
        """Give the place beside this one whose name is longer by ``suffix``."""
        return self.with_name(self.name + suffix)

    def free_nbytes(self) -> int | None:
        """Give what is free where this is to stand, in bytes."""
        return shutil.disk_usage(self._that_stands()).free

    def can_share_files(self, other: object) -> bool:
        """Tell whether files of another location can stand here too, by links."""
        if not isinstance(other, LocalLocation):
            return False
        return self.parent._that_stands().stat().st_dev == other.stat().st_dev

    def _that_stands(self) -> LocalLocation:
        here = self
        while not here.exists():
            here = here.parent
        return here

    def lies_in(self, other: object) -> bool:
        """Tell whether this is another location, or lies below it, through links too."""
        return isinstance(other, LocalLocation) and self.resolve().is_relative_to(other.resolve())

    def below(self, name: str) -> LocalLocation | None:
        """Give what a name that some file states means here; ``None`` if it leads out of here."""
        found = self / name
        try:
            inside = found.resolve().is_relative_to(self.resolve())
            found.exists()
        except (OSError, ValueError, RuntimeError):  # too long, no text of the system, a loop
            return None
        return found if inside else None

    @property
    def options(self) -> None:
        """What it takes to reach it: nothing."""
        return None

    def told(self, err: BaseException) -> str:
        """Give the words of an error."""
        return str(err)


@dataclass
class _Depth:
    """The folders that lie equally deep: all hold chunks where one does, and are not listed."""

    holds_chunks: bool = False


def _folder_state(folder: str, depth: _Depth) -> tuple[float, int, list[str]]:
    """Give how long it took to look at a folder, its last change, and the folders in it.

    None beside a file whose name begins with a digit.
    """
    began, inside = time.perf_counter(), list[str]()
    changed_ns = os.stat(folder).st_mtime_ns
    took_s = time.perf_counter() - began
    if depth.holds_chunks:
        return took_s, changed_ns, inside
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                inside.append(entry.path)
            elif entry.name[:1].isdigit():
                depth.holds_chunks = True
                break
    return took_s, changed_ns, inside


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
