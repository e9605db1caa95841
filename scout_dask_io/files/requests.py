"""Many requests to one file system of fsspec at once, and what S3's client is told beside them.

Hooks of S3's client, and what its answers say of an object.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeAlias

#: Bytes of an object, and what the answer that brought them said of it.
RangeAnswer: TypeAlias = tuple[bytes, dict[str, Any] | None]

# Requests that are under way at once: what keeps a fast network busy at 30 ms a request.
WINDOW = 32
# What these may hold together, in bytes.
BATCH_NBYTES = 32 << 20


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


def read_ranges_of(fs: Any, key: str, ranges: Sequence[tuple[int, int]]) -> list[RangeAnswer]:
    """Give the bytes between offsets of an object, and what came with them said of it.

    Raises
    ------
    Exception
        Whatever the store's own library raises, after all its tries.
    """
    if hook_s3(fs):
        found = gathered(fs, [partial(_range_of, fs, key, *span) for span in ranges])
    else:
        starts, stops = [r[0] for r in ranges], [r[1] for r in ranges]
        parts = fs.cat_ranges([key] * len(ranges), starts, stops, on_error="return")
        found = [p if isinstance(p, Exception) else (bytes(p), None) for p in parts]
    for answer in found:
        if isinstance(answer, BaseException):
            raise answer
    return found
