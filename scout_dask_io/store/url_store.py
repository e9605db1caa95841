"""zarr's store for a place at a URL, by the requests that this library makes itself.

zarr's own store for URLs is fsspec's: it would have s3fs imported, which takes a second or two,
and make connections beside those that are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store

from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.files.requests import asked_apart
from scout_dask_io.store.layout import OWN_PREFIX

_T = TypeVar("_T")


class UrlStore(Store):
    """The objects below a place at a URL.

    The library's own objects are no members of a group. A forked child makes connections of its
    own, as the location does.

    Parameters
    ----------
    location : RemoteLocation
        The place.
    read_only : bool
        Refuse every write.
    """

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    def __init__(self, location: RemoteLocation, *, read_only: bool = False) -> None:
        super().__init__(read_only=read_only)
        self.location = location

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, UrlStore)
            and self.location == other.location
            and self.location.options == other.location.options
            and self.read_only == other.read_only
        )

    def __repr__(self) -> str:
        return f"<UrlStore({self.location})>"

    def with_read_only(self, read_only: bool = False) -> UrlStore:
        """Give a store of the same place that does or does not refuse writes."""
        return UrlStore(self.location, read_only=read_only)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Give an object or a part of it, ``None`` where there is none."""
        start, stop = 0, None
        if isinstance(byte_range, RangeByteRequest):
            start, stop = byte_range.start, byte_range.end
        elif isinstance(byte_range, OffsetByteRequest):
            start = byte_range.offset
        elif byte_range is not None:
            start = -byte_range.suffix
        place = self.location / key
        begun = place.client.begin(place.key, start, stop)
        data = place.given(*await asyncio.gather(_ended(begun), return_exceptions=True))
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Give parts of several objects, asked for at once."""
        calls = (self.get(key, prototype, byte_range) for key, byte_range in key_ranges)
        return list(await asyncio.gather(*calls))

    async def exists(self, key: str) -> bool:
        """Tell whether there is an object."""
        return await self._asked((self.location / key).is_file)

    async def getsize(self, key: str) -> int:
        """Give the size of an object, in bytes.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        found = await self._asked((self.location / key).info)
        if found is None:
            raise FileNotFoundError(key)
        return int(found["size"])

    async def set(self, key: str, value: Buffer) -> None:
        """Write an object whole."""
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(f"value must be a Buffer, got a {type(value).__name__}")
        data = value.to_bytes()
        await self._asked(lambda: (self.location / key).write(data))

    async def delete(self, key: str) -> None:
        """Remove an object; none is no error."""
        self._check_writable()
        await self._asked((self.location / key).remove)

    async def delete_dir(self, prefix: str) -> None:
        """Remove all objects below a prefix."""
        self._check_writable()
        names = [key async for key in self.list_prefix(f"{prefix.rstrip('/')}/".lstrip("/"))]
        if names:
            await self._asked(lambda: self.location.remove(names))

    async def list(self) -> AsyncIterator[str]:
        """Yield the names of all objects."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names of the objects that begin with a prefix."""
        above = prefix.rpartition("/")[0]
        place = self.location / above if above else self.location
        head = f"{above}/" if above else ""
        for name, _ in await self._asked(lambda: list(place.find())):
            if f"{head}{name}".startswith(prefix):
                yield f"{head}{name}"

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a prefix; zarr warns of those that it does not know."""
        above = prefix.rstrip("/")
        place = self.location / above if above else self.location
        for child in await self._asked(place.children):
            if not child.name.startswith(OWN_PREFIX):
                yield child.name

    async def _asked(self, call: Callable[[], _T]) -> _T:
        # A store that takes one request at a time is asked in zarr's own thread.
        if not self.location.serves_threads:
            return call()
        return await asyncio.wrap_future(asked_apart(call))


async def _ended(begun: Any) -> Any:
    return (await asyncio.wrap_future(begun))[0]
