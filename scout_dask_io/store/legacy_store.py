"""Local stores with nested chunk files, as zarr 2 had them.

zarr 2's ``NestedDirectoryStore`` is gone from zarr 3; its arrays remain. The stores here
read them right whatever they say of themselves, and write new ones that say it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from scout_dask_io.errors import LayoutError
from scout_dask_io.store.layout_store import LayoutStore
from scout_dask_io.store.metadata import Separator, parse_metadata, separator_of

__all__ = ["NestedDirectoryStore", "NestedGroupStore"]

_INDEX = re.compile("0|[1-9][0-9]*")
_FLAT_KEY = re.compile(r"(.*/)?((?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+)")


class NestedDirectoryStore(LayoutStore):
    """A directory of v2 arrays with nested chunk files, as zarr 2's class of that name.

    Chunk keys ``0.1.2`` and ``0/1/2`` are both the file ``0/1/2``, at the root
    and in any group below. Arrays that say nothing of their layout, as
    ``scout.io`` wrote them, read right. An array that is created here says
    ``"dimension_separator": "/"``, whatever zarr was asked for.

    An array whose chunk files are flat is an error, never zeros.

    Parameters
    ----------
    path : path-like
        The directory; always a local path, whatever characters it holds. It is
        created at the first write.
    read_only : bool
        Refuse every write. The directory must then exist.

    Raises
    ------
    LayoutError
        When an array is read whose chunks are flat, or lie in both layouts.

    Examples
    --------
    >>> import tempfile, zarr
    >>> store = NestedDirectoryStore(tempfile.mkdtemp())
    >>> z = zarr.create(store=store, shape=(4, 6), chunks=(2, 3), dtype="u2", zarr_format=2)
    >>> z[:] = 1
    >>> sorted(p.name for p in (store.root / "0").iterdir())
    ['0', '1']
    """

    _nested_by_default = True

    def _settle(self, separator: Separator, here: str) -> Separator:
        self._kept.pop(here, None)
        if separator == ".":
            raise self._flat_array(self.root / here)
        return separator

    def _flat_array(self, directory: Path) -> LayoutError:
        return LayoutError(
            f"{directory}: the chunks of this array are flat files such as '0.1.2', a "
            "NestedDirectoryStore takes them for nested ones such as '0/1/2'. Open it with "
            "scout_dask_io.open(path), which finds the layout, or zarr.storage.LocalStore."
        )

    def _file_key(self, key: str) -> str:
        match = _FLAT_KEY.fullmatch(key)
        if match is None:
            return key
        above = match[1] or ""
        if self._kept.get(above[:-1]) == "flat":
            return key
        return above + match[2].replace(".", "/")

    def _check_missing(self, key: str) -> None:
        # Only chunks that have no nested file come here. An lstat or two each, so
        # that a flat file is never passed over for the fill value. Arrays may
        # have numbers for names: the key does not say where its indices begin.
        parts = self._file_key(key).split("/")
        for at in range(len(parts) - 2, -1, -1):
            if not (_INDEX.fullmatch(parts[at]) and _INDEX.fullmatch(parts[-1])):
                return
            if os.path.lexists(self.root.joinpath(*parts[:at], ".".join(parts[at:]))):
                raise self._flat_array(self.root.joinpath(*parts[:at]))

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Give parts of the values of several keys."""
        pairs = [(self._file_key(key), byte_range) for key, byte_range in key_ranges]
        return await super().get_partial_values(prototype, pairs)

    async def exists(self, key: str) -> bool:
        """Tell whether a key has a value."""
        return await super().exists(self._file_key(key))

    async def getsize(self, key: str) -> int:
        """Give the size of a key's value, in bytes."""
        return await super().getsize(self._file_key(key))

    async def _set(self, key: str, value: Buffer, exclusive: bool = False) -> None:
        await super()._set(self._file_key(key), self._nested(key, value), exclusive)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Set the value of a key, without an event loop."""
        super().set_sync(self._file_key(key), self._nested(key, value))

    def _nested(self, key: str, value: Buffer) -> Buffer:
        """Give array metadata that say ``/``; any other value as it is."""
        here, _, name = key.rpartition("/")
        if name == "zarr.json":
            document = parse_metadata(value.to_bytes(), self.root / key)
            if document.get("node_type") == "array" and separator_of(document) == ".":
                self._kept[here] = "flat"
            else:
                self._kept.pop(here, None)
            return value
        if name != ".zarray" or self._kept.get(here) == "flat":
            return value
        document = parse_metadata(value.to_bytes(), self.root / key)
        if document.get("dimension_separator") == "/":
            self._kept.pop(here, None)
            return value
        # zarr's array object keeps its dots until it is opened anew: see list_prefix.
        self._kept[here] = "dotted"
        document["dimension_separator"] = "/"
        return type(value).from_bytes(json.dumps(document, indent=4).encode())

    async def delete(self, key: str) -> None:
        """Remove a key."""
        await super().delete(self._file_key(key))

    def delete_sync(self, key: str) -> None:
        """Remove a key, without an event loop."""
        super().delete_sync(self._file_key(key))

    async def delete_dir(self, prefix: str) -> None:
        """Remove all keys below a prefix."""
        await super().delete_dir(prefix)
        here = prefix.strip("/")
        for name in [n for n in self._kept if not here or n == here or n.startswith(f"{here}/")]:
            del self._kept[name]

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield the keys below a prefix, those of chunks as the array at hand names them."""
        dotted = [name for name, kind in self._kept.items() if kind == "dotted"]
        async for key in super().list_prefix(prefix):
            yield next((d for name in dotted if (d := _dot(key, name)) is not None), key)


class NestedGroupStore(NestedDirectoryStore):
    """A nested store that also reads and writes the flat arrays of a group as they are."""

    def _settle(self, separator: Separator, here: str) -> Separator:
        if separator == ".":
            self._kept[here] = "flat"
        else:
            self._kept.pop(here, None)
        return separator


def _dot(key: str, array: str) -> str | None:
    """Give the dotted form of a nested chunk key of ``array``, ``None`` for other keys."""
    above = f"{array}/" if array else ""
    if not key.startswith(above):
        return None
    parts = key[len(above) :].split("/")
    return above + ".".join(parts) if all(map(_INDEX.fullmatch, parts)) else None
