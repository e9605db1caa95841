"""The requests that are made to a store, many at once, and fsspec's file systems as such.

Hooks of S3's client, and what its answers say of an object.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import ContextVar
from functools import lru_cache, partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, Protocol, TypeAlias, TypeVar

from scout_dask_io.core.fork import in_forked_child

_T = TypeVar("_T")
#: Bytes of an object, and what the answer that brought them said of it.
RangeAnswer: TypeAlias = tuple[Any, dict[str, Any] | None]

# Requests that are under way at once: what keeps a fast network busy at 30 ms a request.
WINDOW = 64
# What these may hold together, in bytes.
BATCH_NBYTES = 32 << 20
#: What a read may hold of answers that it has not come to yet, where a plan has room for less.
AHEAD_NBYTES: ContextVar[int] = ContextVar("ahead_nbytes", default=BATCH_NBYTES)


class Client(Protocol):
    """What a store is asked, by keys as fsspec has them: ``bucket/name`` of S3.

    What is not there is a ``FileNotFoundError``; whatever else the store's own library raises
    comes as it is, after all its tries. An entry is a dict as fsspec has it, with ``name``,
    ``type``, ``size``, and an ``ETag`` or times where the store says them.
    """

    @property
    def protocols(self) -> tuple[str, ...]:
        """The schemes of its URLs."""

    @property
    def at_once(self) -> int:
        """How many requests may be under way at once; 1 of a store that takes one at a time."""

    @property
    def store(self) -> Any:
        """What it asks: the same object for places between which objects can be copied."""

    def key_of(self, url: str) -> str:
        """Give the key of what a URL names."""

    def get(self, key: str, start: int = 0, stop: int | None = None) -> RangeAnswer:
        """Give an object's bytes between offsets, and what the answer said of it.

        One below 0 counts from the end.
        """

    def begin(self, key: str, start: int = 0, stop: int | None = None) -> Future[RangeAnswer]:
        """Ask for what :meth:`get` gives, and do not wait for it."""

    def get_many(self, keys: Sequence[str], limit: int | None = None) -> list[Any]:
        """Give objects, or their first bytes; what one raises stands in its place."""

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[RangeAnswer]:
        """Give the bytes between offsets of an object, asked for at once."""

    def about(self, key: str) -> dict[str, Any]:
        """Give the entry of an object, or of a folder."""

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """Write an object whole; one that is there is a ``FileExistsError`` where it is ``new``."""

    def remove(self, keys: Sequence[str]) -> list[Any]:
        """Remove objects; what one raises stands in its place."""

    def below(self, key: str) -> list[dict[str, Any]]:
        """Give the entries of all objects below a key."""

    def children(self, key: str) -> list[dict[str, Any]]:
        """Give the entries of what lies directly below a key."""

    def copy(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Have the store copy objects."""


def settled(calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Give what each call gives, or the error that it raises."""
    found: list[Any] = []
    for call in calls:
        try:
            found.append(call())
        except Exception as err:
            found.append(err)
    return found


def answers_of(
    begin: Callable[[str], Future[Any]],
    keys: Iterable[tuple[str, str]],
    at_once: int,
    *,
    in_order: bool,
) -> Generator[tuple[str, Any]]:
    """Yield names with the answers, or errors, to what is asked by their keys, so many at once.

    In the order of the names, or as they come. What is not asked for any more is cancelled.
    """
    begun: dict[Future[Any], str] = {}
    come: SimpleQueue[Future[Any]] = SimpleQueue()
    waiting = iter(keys)
    try:
        while True:
            # While one is decoded, the next are on their way.
            for name, key in islice(waiting, at_once - len(begun)):
                future = begin(key)
                begun[future] = name
                if not in_order:
                    future.add_done_callback(come.put)
            if not begun:
                return
            future = next(iter(begun)) if in_order else come.get()
            name = begun.pop(future)
            (answer,) = settled([future.result])
            yield name, answer
    finally:
        for future in begun:
            future.cancel()


def together(client: Client, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Ask a store several things at once; give what each call gives.

    They may ask many things each, but not by this. Of a store that takes one at a time, they are
    asked in turn, up to the first that fails.

    Raises
    ------
    Exception
        The first call's that raised one, when all have ended.
    """
    if client.at_once == 1 or len(calls) == 1:
        return [call() for call in calls]
    begun = [_questions().submit(call) for call in calls]
    wait(begun)
    return [future.result() for future in begun]


def asked_apart(call: Callable[[], _T]) -> Future[_T]:
    """Ask something in a thread of ours, as :func:`together` does; it asks nothing by this."""
    return _questions().submit(call)


@lru_cache
def _questions() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(16, thread_name_prefix="scout-question")


in_forked_child(_questions.cache_clear)


class FileSystem:
    """A file system of fsspec, as the requests that are made to it: a :class:`Client`."""

    def __init__(self, fs: Any) -> None:
        self.store = fs
        self.at_once = WINDOW if fs.async_impl else 1
        self.protocols = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)

    def key_of(self, url: str) -> str:
        """Give what the file system makes of a URL."""
        return str(self.store._strip_protocol(url))

    def get(self, key: str, start: int = 0, stop: int | None = None) -> RangeAnswer:
        """Give an object's bytes between offsets."""
        return _asked_for(self.store.cat_file(key, **self._ends(start, stop)), start, stop), None

    def begin(self, key: str, start: int = 0, stop: int | None = None) -> Future[RangeAnswer]:
        """Ask for what :meth:`get` gives; of what is not asynchronous, in the call."""
        fs = self.store
        if fs.async_impl:
            return asyncio.run_coroutine_threadsafe(self._begun(key, start, stop), fs.loop)
        done: Future[RangeAnswer] = Future()
        try:
            done.set_result(self.get(key, start, stop))
        except Exception as err:
            done.set_exception(err)
        return done

    async def _begun(self, key: str, start: int, stop: int | None) -> RangeAnswer:
        data = await self.store._cat_file(key, **self._ends(start, stop))
        return _asked_for(data, start, stop), None

    def _ends(self, start: int, stop: int | None) -> dict[str, Any]:
        if start or stop is not None:
            return {"start": start, "end": stop}
        # Without this it asks for the size before it reads an object whole.
        method = self.store._cat_file if self.store.async_impl else None
        parameters = inspect.signature(method).parameters if method else ()
        return {"max_concurrency": 1} if "max_concurrency" in parameters else {}

    def get_many(self, keys: Sequence[str], limit: int | None = None) -> list[Any]:
        """Give objects, or their first bytes; what one raises stands in its place."""
        fs, ends = self.store, self._ends(0, limit)
        if fs.async_impl and len(keys) > 1:
            return gathered(fs, [partial(fs._cat_file, key, **ends) for key in keys])
        return settled(partial(fs.cat_file, key, **ends) for key in keys)

    def get_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[RangeAnswer]:
        """Give the bytes between offsets of an object, asked for at once."""
        fs = self.store
        if hook_s3(fs):
            found = gathered(fs, [partial(_range_of, fs, key, *span) for span in ranges])
        else:
            starts, stops = [r[0] for r in ranges], [r[1] for r in ranges]
            parts = fs.cat_ranges([key] * len(ranges), starts, stops, on_error="return")
            found = [
                p if isinstance(p, Exception) else (_asked_for(bytes(p), *span), None)
                for p, span in zip(parts, ranges, strict=True)
            ]
        for answer in found:
            if isinstance(answer, BaseException):
                raise answer
        return found

    def about(self, key: str) -> dict[str, Any]:
        """Give the entry of an object, or of a folder."""
        return dict(self.store.info(key))

    def put(self, key: str, data: bytes, *, new: bool = False) -> None:
        """Write an object whole."""
        hook_s3(self.store)
        self.store.pipe_file(key, data, **({"mode": "create"} if new else {}))

    def remove(self, keys: Sequence[str]) -> list[Any]:
        """Remove objects; what one raises stands in its place."""
        # Not by ``rm``, for which a name with ``*``, ``?`` or ``[`` is a pattern.
        fs = self.store
        if hasattr(fs, "_bulk_delete") and len(keys) > 1:
            parts = [keys[at : at + 1000] for at in range(0, len(keys), 1000)]
            return gathered(fs, [partial(fs._bulk_delete, part) for part in parts])
        if fs.async_impl:
            return gathered(fs, [partial(fs._rm_file, key) for key in keys])
        return settled(partial(fs.rm_file, key) for key in keys)

    def below(self, key: str) -> list[dict[str, Any]]:
        """Give the entries of all objects below a key."""
        fs = self.store
        if hasattr(fs, "_lsdir") and hasattr(fs, "_iterdir"):
            # s3fs: one list. ``find`` asks two questions more where there is nothing.
            (answer,) = gathered(fs, [partial(fs._lsdir, key, delimiter="")])
            if isinstance(answer, BaseException):
                raise answer
            return list(answer)
        return list(fs.find(key, detail=True).values())

    def children(self, key: str) -> list[dict[str, Any]]:
        """Give the entries of what lies directly below a key."""
        return list(self.store.ls(key, detail=True))

    def copy(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Have the store copy objects."""
        sources, targets = zip(*pairs, strict=True)
        self.store.copy(list(sources), list(targets))


# S3's file systems whose client has the hooks below.
_HOOKED: weakref.WeakSet[Any] = weakref.WeakSet()
# What the answers to one read said of the object, in the context of the task that reads.
_SAID: ContextVar[list[dict[str, Any]] | None] = ContextVar("said", default=None)


def hook_s3(fs: Any) -> bool:
    """Tell whether a file system is S3's, and see to it that its client has our hooks."""
    # HTTP's has sessions too, of another library.
    if "s3" not in fs.protocol or not hasattr(fs, "set_session"):
        return False
    if fs not in _HOOKED:
        from fsspec.asyn import sync

        events = sync(fs.loop, fs.set_session).meta.events
        # It would ask before each object whether it may send it, however small it is.
        events.register_last("before-call.s3", _send_at_once)
        events.register_last("after-call.s3.GetObject", _note_answer)
        _HOOKED.add(fs)
    return True


def _send_at_once(params: dict[str, Any], **_: Any) -> None:
    params["headers"].pop("Expect", None)


def _asked_for(data: Any, start: int, stop: int | None) -> Any:
    """Give the bytes between offsets that an answer has, where it has the whole object instead.

    Web servers may answer so, and fsspec's file system does not look. Whoever asks for a range
    that there is gets more bytes of these than asked for, and so tells.
    """
    if start < 0 and len(data) > -start:
        return data[start:stop]
    if stop is not None and start >= 0 and len(data) > stop - start:
        return data[start:stop]
    return data


def _note_answer(parsed: Mapping[str, Any], **_: Any) -> None:
    said = _SAID.get()
    size = str(parsed.get("ContentRange")).rpartition("/")[2]
    if said is not None and parsed.get("ETag") and size.isdigit():
        said.append({"ETag": parsed["ETag"], "size": int(size)})


async def _range_of(fs: Any, key: str, start: int, stop: int) -> RangeAnswer:
    said: list[dict[str, Any]] = []
    _SAID.set(said)
    data = await fs._cat_file(key, start=start, end=stop)
    # The last: a read that was cut off was made again.
    return bytes(data), said[-1] if said else None


def gathered(fs: Any, calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Await coroutines of an asynchronous file system, so many at a time; give what each gave.

    What one raises stands in its place.
    """
    from fsspec.asyn import sync  # makes a logger, which importing this library does not

    async def every() -> list[Any]:
        slots = asyncio.Semaphore(WINDOW)

        async def one(call: Callable[[], Any]) -> Any:
            async with slots:
                return await call()

        return await asyncio.gather(*map(one, calls), return_exceptions=True)

    found: list[Any] = sync(fs.loop, every)
    return found


def refusal(err: BaseException) -> BaseException:
    """Give what a web server's refusal is to others, ``PermissionError``; any other error as is."""
    if getattr(err, "status", None) not in (401, 403):
        return err
    refused = PermissionError(str(err))
    refused.__cause__ = err
    return refused
