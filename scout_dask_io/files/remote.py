"""Places that are reached by a URL: object stores such as S3, and whatever else fsspec knows.

A store of objects has no rename and no directories. What it has is used here: an
object is read whole or in part, and appears whole when it is written.

URLs, the file systems of fsspec behind them, and the secrets that it takes to reach these.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

import fsspec
from fsspec.core import url_to_fs

from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    PathNotFoundError,
    ScoutIOError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.files.bucket import SCHEMES, NoBucketError, bucket_of, check_options, for_s3fs
from scout_dask_io.files.requests import (
    AHEAD_NBYTES,
    WINDOW,
    Client,
    FileSystem,
    RangeAnswer,
    answers_of,
    refusal,
    settled,
    together,
)
from scout_dask_io.files.whole_files import Answer, Newest

_T = TypeVar("_T")


@dataclass(frozen=True)
class RemoteLocation:
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

    def __repr__(self) -> str:
        return repr(self.url)

    def __truediv__(self, name: str) -> RemoteLocation:
        return self._beside(f"{self.url}/{name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteLocation, (self.url, self.options)

    def _beside(self, url: str, entry: dict[str, Any] | None = None) -> RemoteLocation:
        """Give another place of the same store; it shares the connections of this one."""
        other = RemoteLocation(url, self.options, entry)
        for name in ("_bound", "_asked"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def suffixed(self, suffix: str) -> RemoteLocation:
        """Give the place beside this one whose name is longer by ``suffix``."""
        return self._beside(self.url + suffix)

    @property
    def name(self) -> str:
        """What comes after the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> RemoteLocation:
        """The place above this one."""
        return self._beside(self.url.rpartition("/")[0])

    @property
    def parents(self) -> tuple[RemoteLocation, ...]:
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
    def client(self) -> Client:
        """What is asked: a bucket by obstore, or the file system of fsspec."""
        process, asked = self.__dict__.get("_asked", (0, None))
        if process == os.getpid():
            return asked  # type: ignore[no-any-return]
        found = bucket_of(self.url, self.options)
        if found is None:
            return FileSystem(self.fs)
        self.__dict__["_asked"] = (os.getpid(), found)
        return found

    @property
    def takes_long(self) -> bool:
        """A store is asked for much at once."""
        return True

    @property
    def serves_threads(self) -> bool:
        """Whether several threads may ask the store at once."""
        return self.client.at_once > 1

    @property
    def key(self) -> str:
        """The name that the file system has for it."""
        return self.client.key_of(self.url)

    def read(self, limit: int | None = None) -> bytes | None:
        """Give the whole object, or its first ``limit`` bytes; ``None`` if there is none.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        return self._ask(lambda: _given(*self.client.get_many([self.key], limit)))

    def read_many(self, names: Sequence[str], limit: int | None = None) -> dict[str, bytes | None]:
        """Give the objects of some names below this one, asked for at once.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        found = self.client.get_many([f"{self.key}/{name}" for name in names], limit)
        return {
            name: (self / name)._ask(partial(_given, answer))
            for name, answer in zip(names, found, strict=True)
        }

    def read_entries(
        self, names: Sequence[str], limit: int
    ) -> dict[str, tuple[bytes, dict[str, Any] | None] | None]:
        """Give the first bytes of objects below this one, and what each answer said of its object.

        That is ``None`` where the store does not say it.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        client, key = self.client, self.key
        if client.at_once == 1:
            return {
                n: None if d is None else (d, None) for n, d in self.read_many(names, limit).items()
            }
        begun = [client.begin(f"{key}/{name}", 0, limit) for name in names]
        found = {}
        for name, answer in zip(names, settled([b.result for b in begun]), strict=True):
            data = (self / name)._ask(partial(_given, answer if _failed(answer) else answer[0]))
            found[name] = None if data is None else (data, _entry_of(answer) or None)
        return found

    def given(self, answer: Any) -> bytes | None:
        """Give the bytes that an answer brought, or the error that it was; ``None`` if no object.

        Raises
        ------
        ChunkReadError
            If the store could not be asked.
        """
        return self._ask(partial(_given, answer))

    def together(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Ask several things at once; see :func:`~scout_dask_io.files.requests.together`."""
        return together(self.client, calls)

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[RangeAnswer]:
        """Give the bytes between offsets of an object, asked for at once, fewer where it ends.

        With each comes what the store said in that answer of the object that it is from, its
        ``ETag`` and ``size``; ``None`` where the store does not say it.

        Raises
        ------
        Exception
            Whatever the store's own library raises, after all its tries.
        """
        return self.client.get_ranges(self.key, ranges)

    def iter_files(
        self,
        names: Iterable[str],
        max_nbytes: int,
        newest: Newest | None = None,
        *,
        in_order: bool = True,
        then: Callable[[], None] | None = None,
    ) -> Iterator[Answer]:
        """Yield ``(name, bytes)`` of objects below this one, many of them asked for at once.

        See :meth:`Location.iter_files <scout_dask_io.files.location.Location.iter_files>`.
        """
        client, key = self.client, self.key
        at_once = max(1, min(client.at_once, AHEAD_NBYTES.get() // max(max_nbytes, 1)))
        # One byte more than may be: what is larger is not fetched whole.
        begin = partial(client.begin, start=0, stop=max_nbytes + 1)
        pairs = ((name, f"{key}/{name}") for name in names)
        with closing(answers_of(begin, pairs, at_once, in_order=in_order)) as answers:
            for name, answer in answers:
                if newest is not None:
                    newest.note(_changed_ns(_entry_of(answer)))
                yield name, (self / name)._chunk_of(answer, max_nbytes)
        if then is not None:
            then()

    def _chunk_of(self, answer: Any, max_nbytes: int) -> Any | ChunkReadError | None:
        if isinstance(answer, (FileNotFoundError, IsADirectoryError)):
            return None
        if _has_no_range(answer):
            return b""
        if isinstance(answer, BaseException):
            told = ChunkReadError(f"{self.url}: cannot be read ({self.told(answer)})")
            told.__cause__ = refusal(answer)
            return told
        data, _ = answer
        if len(data) > max_nbytes:
            return ChunkReadError(
                f"{self.url}: the object has more bytes than any encoding of this array's chunks "
                f"({max_nbytes}). It is damaged or belongs to another array."
            )
        return data

    def info(self) -> dict[str, Any] | None:
        """Give what the store says of an object, or ``None`` if there is none."""
        found = self._ask(lambda: self.client.about(self.key))
        return found if found is not None and found.get("type") == "file" else None

    def identity(self) -> tuple[str, ...] | None:
        """Give what changes when an object is written again; ``None`` if there is none."""
        return identity_of(self.info())

    def _ask(self, question: Callable[[], _T]) -> _T | None:
        try:
            return question()
        except (FileNotFoundError, IsADirectoryError):
            return None
        except NoBucketError as err:
            raise PathNotFoundError(f"{self.url}: {err}") from err
        except Exception as err:  # whatever the store's own library raises
            told = ChunkReadError(f"{self.url}: cannot be read ({self.told(err)})")
            raise told from refusal(err)

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
                self.client.put(self.key, data, new=new)
            except FileExistsError as err:
                raise TargetExistsError(f"{self.url} is there already") from err

    def remove(self, names: Sequence[str] | None = None) -> None:
        """Remove the object of this name, or those of some names below it; none is no error.

        Raises
        ------
        WriteError
            If the store does not do it for one; the others are removed.
        """
        keys = [self.key] if names is None else [f"{self.key}/{name}" for name in names]
        with self.writing("objects of it cannot be removed"):
            answers = self.client.remove(keys)
            for answer in answers:
                if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError):
                    raise answer

    def find(self) -> Iterator[tuple[str, int]]:
        """Yield ``(name below this one, size in bytes)`` of every object.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        for name, entry in sorted(self._listed().items()):
            if name:
                yield name, int(entry.get("size") or 0)

    def states(self, names: Iterable[str]) -> Iterator[tuple[int, int] | None]:
        """Yield size and time of the last change of objects below, by one listing.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        there = {n: (int(e.get("size") or 0), _changed_ns(e)) for n, e in self._listed().items()}
        yield from map(there.get, names)

    def _listed(self) -> dict[str, dict[str, Any]]:
        key = self.key
        found = self._ask(lambda: self.client.below(key)) or []
        return {
            e["name"][len(key) :].lstrip("/"): e
            for e in found
            # An empty object with a slash at its end stands for a folder.
            if e.get("type") != "directory" and not (e["name"].endswith("/") and not e.get("size"))
        }

    def children(self) -> list[RemoteLocation]:
        """Give the places directly below this one, sorted, each with its ``entry``.

        Of an object, and where there is nothing, none.

        Raises
        ------
        ChunkReadError
            If the store cannot be asked.
        """
        found = self._ask(lambda: self.client.children(self.key)) or []
        named = ((e["name"].rstrip("/").removeprefix(f"{self.key}/"), e) for e in found)
        # What begins otherwise is the object itself, or the empty one that stands for a folder.
        below = {name: e for name, e in named if name and "/" not in name}
        return [self._beside(f"{self.url}/{name}", below[name]) for name in sorted(below)]

    def file_state(self, name: str) -> None:
        """Give nothing: it takes a request."""

    def tree_state(self) -> None:
        """Give nothing: there are no folders that change."""

    def stands(self) -> bool:
        """Tell whether there is an object of this name, or one whose name begins with it."""
        return self.exists()

    def is_link(self) -> bool:
        """Tell that it is none."""
        return False

    def entries(self) -> list[tuple[RemoteLocation, bool]]:
        """Give what :meth:`children` does, each with whether there is more below it."""
        return [(child, child.is_folder) for child in self.children()]

    @property
    def is_folder(self) -> bool:
        """Whether the listing that this place comes from says that there is more below it."""
        return self.entry is not None and self.entry["type"] == "directory"

    def copy_below(self, to: RemoteLocation) -> None:
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
                self.client.copy((f"{self.key}/{n}", f"{to.key}/{n}") for n in some)

    def hand_over(
        self, to: RemoteLocation, pairs: Sequence[tuple[str, str]], *, durable: bool = False
    ) -> None:
        """Have the store copy objects below this place to names below another one of it.

        Raises
        ------
        WriteError
            If the store does not do it.
        """
        with to.writing(f"the objects of {self} cannot be copied there"):
            for at in range(0, len(pairs), 1000):
                some = pairs[at : at + 1000]
                self.client.copy((f"{self.key}/{own}", f"{to.key}/{name}") for own, name in some)

    #: It has no folders, no rename and no links.
    on_disk = False
    #: Objects that two places share are copies, made by the store.
    shares_by_copies = True

    def free_nbytes(self) -> None:
        """Give nothing: a store does not say what is free."""

    def can_share_files(self, other: object) -> bool:
        """Tell whether the store can copy the objects of another location here by itself."""
        return isinstance(other, RemoteLocation) and self.client.store is other.client.store

    def lies_in(self, other: object) -> bool:
        """Tell whether this is another location, or lies below it."""
        if not isinstance(other, RemoteLocation):
            return False
        if f"{self}/".startswith(f"{other}/"):
            return True
        # A store has several schemes, as "s3a" of S3, and its names may begin with a slash.
        same = self.client.protocols == other.client.protocols
        return same and f"{self.key}/".startswith(f"{other.key}/")

    def below(self, name: str) -> RemoteLocation | None:
        """Give what a name that some file states means here; ``None`` if it leads out of here."""
        found = posixpath.normpath(name)
        leads_out = posixpath.isabs(found) or found.split("/")[0] == ".."
        return None if leads_out else self / found

    @contextmanager
    def writing(self, doing: str) -> Iterator[None]:
        """Turn whatever the store's own library raises into a ``WriteError`` that names the URL."""
        try:
            yield
        except ScoutIOError:
            raise
        except Exception as err:
            raise WriteError(f"{self.url}: {doing} ({self.told(err)})") from err

    def told(self, err: BaseException) -> str:
        """Give the words of the store's own library, but for the secrets that it may repeat."""
        text = f"{type(err).__name__}: {str(err) or 'no reason given'}"
        return without_secrets(text, self.options)


def identity_of(entry: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """Give what changes when the object of an entry is written again; ``None`` of ``None``."""
    if entry is None:
        return None
    marks = ("ETag", "etag", "mtime", "LastModified", "created")
    return (str(entry.get("size")), *(str(entry[m]) for m in marks if m in entry))


def _failed(answer: Any) -> bool:
    return isinstance(answer, BaseException)


def _entry_of(answer: Any) -> dict[str, Any]:
    """Give what an answer said of the object whose bytes it brought."""
    return {} if isinstance(answer, BaseException) else answer[1] or {}


def _changed_ns(entry: Mapping[str, Any]) -> int:
    """Give when an object was put, as a listing says it; 0 where it does not."""
    for name in ("LastModified", "last_modified", "mtime", "updated", "created"):
        found = entry.get(name)
        if isinstance(found, datetime):
            found = found.timestamp()
        if isinstance(found, (int, float)):
            return int(found * 1e9)
    return 0


def _given(answer: Any) -> bytes:
    if _has_no_range(answer):
        return b""
    if isinstance(answer, BaseException):
        raise answer
    return bytes(answer)


def _has_no_range(answer: Any) -> bool:
    """Tell whether a store refused a range because the object is empty."""
    told = f"{type(answer).__name__} {answer}" if isinstance(answer, BaseException) else ""
    return "satisfiable" in told.lower() or "InvalidRange" in told


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
        return url_to_fs(url, **fs_options(url, options))[0]
    except ImportError as err:
        raise ArgumentError(
            f"{url} needs a library that is not installed: {err}. For s3:// it comes "
            "with pip install 'scout-dask-io[s3]'."
        ) from err
    except (TypeError, ValueError) as err:
        raise ArgumentError(f"{url}: storage_options do not fit: {err}") from err


def fs_options(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Give options as fsspec takes them, with as many connections of S3 as requests at once.

    Raises
    ------
    ArgumentError
        If one of S3's is not known.
    """
    found = {"use_listings_cache": False, **options}
    if url.partition("://")[0] in SCHEMES:
        check_options(url, options)
        found = for_s3fs(found)
        # botocore's own limit of 10 would leave two thirds of the window waiting.
        config = {"max_pool_connections": 2 * WINDOW, **(options.get("config_kwargs") or {})}
        found["config_kwargs"] = config
    return found


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
