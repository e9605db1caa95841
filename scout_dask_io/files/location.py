"""Places that are reached by a URL: object stores such as S3, and whatever else fsspec knows.

A store of objects has no rename and no directories. What it has is used here: an
object is read whole or in part, and appears whole when it is written.

URLs, the file systems of fsspec behind them, and the secrets that it takes to reach these.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import fsspec
from fsspec.core import url_to_fs

from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    ScoutIOError,
    TargetExistsError,
    WriteError,
)

_T = TypeVar("_T")


def locate(
    path: str | os.PathLike[str] | RemotePath | None,
    storage_options: Mapping[str, Any] | None = None,
) -> Path | RemotePath:
    """Give an absolute local path, or a place that is reached by a URL.

    ``file://`` is local. Nothing is looked at.

    Raises
    ------
    ArgumentError
        If it is no path, or ``storage_options`` are given for a local one.
    """
    if isinstance(path, RemotePath):
        return path
    # zarr takes text with "::" or "://" for a URL chain; a Path is a path.
    if not isinstance(path, (str, os.PathLike)) or os.fspath(path) in ("", b""):
        raise ArgumentError(f"path must be a local path or a URL, got {path!r}")
    if not is_url(path):
        if storage_options:
            raise ArgumentError(
                f"storage_options are for URLs such as s3://bucket/a.zarr; {path} is a local path"
            )
        return Path(os.path.abspath(os.fspath(path)))
    url = str(path).rstrip("/")
    if url.split("://")[0] in ("file", "local"):
        return Path(os.path.abspath(url.split("://", 1)[1]))
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise ArgumentError(
            f"storage_options must be a dict, got a {type(storage_options).__name__}"
        )
    found = RemotePath(url, dict(storage_options or {}))
    _ = found.fs  # for its errors
    return found


@dataclass(frozen=True)
class RemotePath:
    """A place in an object store, named as a ``Path`` names one on a disk. Picklable.

    Attributes
    ----------
    url : str
        Without a slash at its end.
    options : dict
        fsspec's ``storage_options``; never shown, since they may hold secrets.
    entry : dict or None
        What a listing said of the object, where this place comes from one.
    """

    url: str
    options: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    entry: dict[str, Any] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> RemotePath:
        return self._beside(f"{self.url}/{name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return RemotePath, (self.url, self.options)

    def _beside(self, url: str, entry: dict[str, Any] | None = None) -> RemotePath:
        """Give another place of the same store; it shares the connections of this one."""
        other = RemotePath(url, self.options, entry)
        if "_bound" in self.__dict__:
            other.__dict__["_bound"] = self.__dict__["_bound"]
        return other

    def suffixed(self, suffix: str) -> RemotePath:
        """Give the place beside this one whose name is longer by ``suffix``."""
        return self._beside(self.url + suffix)

    @property
    def name(self) -> str:
        """What comes after the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def parents(self) -> tuple[RemotePath, ...]:
        """The places above this one, the nearest first; a bucket has none above it."""
        scheme, _, rest = self.url.partition("://")
        parts = rest.split("/")
        return tuple(
            self._beside(f"{scheme}://{'/'.join(parts[:n])}") for n in range(len(parts) - 1, 0, -1)
        )

    @property
    def fs(self) -> Any:
        """The file system of fsspec; one an address and set of options in a process."""
        # A client's set-up takes 0.1 s, and some fsspec have one a thread where none is kept.
        # After a fork it would wait for ever; one that is not asynchronous is its thread's alone.
        process, bound = self.__dict__.get("_bound", (0, None))
        if process == os.getpid():
            return bound
        found = file_system(self.url, self.options)
        if found.async_impl:
            self.__dict__["_bound"] = (os.getpid(), found)
        return found

    @property
    def serves_threads(self) -> bool:
        """Whether several threads may ask the store at once."""
        return bool(self.fs.async_impl)

    @property
    def key(self) -> str:
        """The name that the file system has for it."""
        return str(self.fs._strip_protocol(self.url))

    def read(self, limit: int | None = None) -> bytes | None:
        """Give the whole object, or its first ``limit`` bytes; ``None`` if there is none.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        ends = {} if limit is None else {"start": 0, "end": limit}
        return self._ask(lambda: bytes(self.fs.cat_file(self.key, **ends)))

    def read_many(self, names: Sequence[str]) -> dict[str, bytes | None]:
        """Give the objects of some names below this one, asked for at once.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        fs = self.fs
        if len(names) < 2 or not fs.async_impl:
            return {name: (self / name).read() for name in names}
        keys = [f"{self.key}/{name}" for name in names]
        found = gathered(fs, [partial(fs._cat_file, key) for key in keys])
        return {
            name: (self / name)._ask(partial(_given, answer))
            for name, answer in zip(names, found, strict=True)
        }

    def info(self) -> dict[str, Any] | None:
        """Give what the store says of an object, or ``None`` if there is none."""
        found = self._ask(lambda: dict(self.fs.info(self.key)))
        return found if found is not None and found.get("type") == "file" else None

    def identity(self) -> tuple[str, ...] | None:
        """Give what changes when an object is written again; ``None`` if there is none."""
        found = self.info()
        if found is None:
            return None
        marks = ("ETag", "etag", "mtime", "LastModified", "created")
        return (str(found.get("size")), *(str(found[m]) for m in marks if m in found))

    def _ask(self, question: Callable[[], _T]) -> _T | None:
        try:
            return question()
        except (FileNotFoundError, IsADirectoryError):
            return None
        except Exception as err:  # whatever the store's own library raises
            raise ChunkReadError(f"{self.url}: cannot be read ({self.told(err)})") from err

    def is_file(self) -> bool:
        """Tell whether there is an object of this name."""
        return self.info() is not None

    def exists(self) -> bool:
        """Tell whether there is an object of this name, or one whose name begins with it."""
        return self.is_file() or next(self.find(), None) is not None

    def read_bytes(self) -> bytes:
        """Give the whole object.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        found = self.read()
        if found is None:
            raise FileNotFoundError(f"{self.url}: there is no such object")
        return found

    def write(self, data: bytes, *, new: bool = False) -> None:
        """Write an object whole, in one step.

        Raises
        ------
        TargetExistsError
            If ``new`` is asked for and there is one, where the store can tell in one step.
        WriteError
            If the store does not take it, after the tries of its own library.
        """
        with self.writing("it cannot be written"):
            try:
                self.fs.pipe_file(self.key, data, **({"mode": "create"} if new else {}))
            except FileExistsError as err:
                raise TargetExistsError(f"{self.url} is there already") from err

    def remove(self, names: list[str] | None = None) -> None:
        """Remove the object of this name, or those of some names below it; none is no error."""
        keys = [self.key] if names is None else [f"{self.key}/{name}" for name in names]
        with self.writing("objects of it cannot be removed"):
            for at in range(0, len(keys), 1000):
                with suppress(FileNotFoundError):
                    self.fs.rm(keys[at : at + 1000])

    def find(self) -> Iterator[tuple[str, int]]:
        """Yield ``(name below this one, size in bytes)`` of every object.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        found = self._ask(lambda: self.fs.find(self.key, detail=True)) or {}
        for key, entry in sorted(found.items()):
            name = key[len(self.key) :].lstrip("/")
            if name:
                yield name, int(entry.get("size") or 0)

    def children(self) -> list[RemotePath]:
        """Give the places directly below this one, sorted, each with its ``entry``.

        Of an object, and where there is nothing, none.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        found = self._ask(lambda: self.fs.ls(self.key, detail=True)) or []
        named = ((e["name"].rstrip("/").removeprefix(f"{self.key}/"), e) for e in found)
        # What begins otherwise is the object itself, or the empty one that stands for a folder.
        below = {name: e for name, e in named if name and "/" not in name}
        return [self._beside(f"{self.url}/{name}", below[name]) for name in sorted(below)]

    @property
    def is_folder(self) -> bool:
        """Whether the listing that this place comes from says that there is more below it."""
        return self.entry is not None and self.entry["type"] == "directory"

    def copy_below(self, to: RemotePath) -> None:
        """Copy all objects below this place, by the store itself, to another one of it.

        Those that are there with the same size stay.

        Raises
        ------
        WriteError
            If the store does not do it.
        """
        there = dict(to.find())
        names = [name for name, nbytes in self.find() if there.get(name) != nbytes]
        with to.writing(f"the objects of {self} cannot be copied there"):
            for at in range(0, len(names), 1000):
                some = names[at : at + 1000]
                self.fs.copy([f"{self.key}/{n}" for n in some], [f"{to.key}/{n}" for n in some])

    @contextmanager
    def writing(self, doing: str) -> Iterator[None]:
        """Turn whatever the store's own library raises into a ``WriteError`` that names the URL."""
        try:
            yield
        except ScoutIOError:
            raise
        except Exception as err:
            raise WriteError(f"{self.url}: {doing} ({self.told(err)})") from err

    def told(self, err: Exception) -> str:
        """Give the words of the store's own library, but for the secrets that it may repeat."""
        text = f"{type(err).__name__}: {str(err) or 'no reason given'}"
        return without_secrets(text, self.options)


AnyPath: TypeAlias = Path | RemotePath

# Objects of one call that are asked for at the same time.
WINDOW = 64


def gathered(fs: Any, calls: Sequence[Callable[[], Any]], window: int = WINDOW) -> list[Any]:
    """Await coroutines of an asynchronous file system, so many at a time; give what each gave.

    What one raises stands in its place.
    """
    from fsspec.asyn import sync  # makes a logger, which importing this library does not

    async def every() -> list[Any]:
        slots = asyncio.Semaphore(window)

        async def one(call: Callable[[], Any]) -> Any:
            async with slots:
                return await call()

        return await asyncio.gather(*map(one, calls), return_exceptions=True)

    found: list[Any] = sync(fs.loop, every)
    return found


def _given(answer: Any) -> bytes:
    if isinstance(answer, BaseException):
        raise answer
    return bytes(answer)


# Names of options whose values are never shown.
_SECRET = re.compile("key|secret|token|pass|cred|sas|signature|connection_string|user|account")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://")


def is_url(path: Any) -> bool:
    """Tell whether a path is a URL: text that begins with ``scheme://``, of a scheme of fsspec.

    Anything else is local: a ``Path``, and text with ``::`` in it, which fsspec
    would take for a chain of places.
    """
    if not isinstance(path, str) or "::" in path:
        return False
    match = _SCHEME.match(path)
    return match is not None and match[1] in fsspec.available_protocols()


def file_system(url: str, options: Mapping[str, Any]) -> Any:
    """Give the file system of fsspec that a URL is in. Listings are not kept: others write too.

    Raises
    ------
    ArgumentError
        If its library is not installed, or the options do not fit.
    """
    try:
        return url_to_fs(url, **{"use_listings_cache": False, **options})[0]
    except ImportError as err:
        raise ArgumentError(
            f"{url} needs a library that is not installed: {err}. For s3:// it comes "
            "with pip install 'scout-dask-io[s3]'."
        ) from err
    except (TypeError, ValueError) as err:
        raise ArgumentError(f"{url}: storage_options do not fit: {err}") from err


def without_secrets(text: str, options: Mapping[str, Any]) -> str:
    """Give a text in which the values of secret options are stars."""
    for secret in sorted(_secrets(options), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and len(value) > 3 and _SECRET.search(name.lower()):
            yield value
