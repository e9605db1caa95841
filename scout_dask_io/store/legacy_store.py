"""Local stores with nested chunk files, as zarr 2 had them.

zarr 2's ``NestedDirectoryStore`` is gone from zarr 3; its arrays remain. The stores here
read them right whatever they say of themselves, and write new ones that say it.

Local stores that know where chunk files lie, for arrays of any age.

The oldest arrays do not say in ``.zarray`` that their chunks are nested: zarr then looks
for flat files, finds none, and gives zeros. The store here asks the disk, and gives zarr
the metadata that fit.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, Literal, Self

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import LocalStore

from scout_dask_io.core.json_document import MAX_JSON_NBYTES
from scout_dask_io.errors import ChunkReadError, LayoutError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.store.layout import INDEX, OWN_PREFIX, choose_separator
from scout_dask_io.store.metadata import (
    Separator,
    are_of_one_array,
    check_array_metadata,
    parse_metadata,
    separator_of,
    side_by_side,
)


class LayoutStore(LocalStore):
    """A directory whose v2 arrays are read in the layout that lies on disk.

    When ``.zarray`` is read, its ``dimension_separator`` is set to what the
    chunk files say: in memory, the file is untouched. Keys are used as they are.

    Parameters
    ----------
    path : path-like
        The directory; always a local path, whatever characters it holds.
    read_only : bool
        Refuse every write. The directory must then exist.
    """

    #: What an array is taken for that has neither chunks nor a separator.
    _nested_by_default = False

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        # Absolute, so that a task in another process finds it; links are kept.
        super().__init__(Path(os.path.abspath(os.fspath(path))), read_only=read_only)
        # Arrays whose chunk keys are not what their metadata, as zarr has them, say.
        self._kept: dict[str, Literal["flat", "dotted"]] = {}
        #: Largest file that is read whole, other than metadata; where the root is an array.
        self.max_nbytes: int | None = None

    def with_read_only(self, read_only: bool = False) -> Self:
        """Give a store on the same directory that does or does not refuse writes."""
        store = type(self)(self.root, read_only=read_only)
        store._kept.update(self._kept)
        store.max_nbytes = self.max_nbytes
        return store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({os.fspath(self.root)!r})"

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a prefix; zarr warns of those that it does not know."""
        async for name in super().list_dir(prefix):
            if not name.startswith(OWN_PREFIX):
                yield name

    # Everything that zarr reads comes through these two.
    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Give the value of a key, metadata with the separator that fits the disk."""
        self._check(key, byte_range)
        found = await super().get(self._file_key(key), prototype, byte_range)
        if found is None:
            self._check_missing(key)
        elif byte_range is None and _is_metadata(key):
            return await asyncio.to_thread(self._fitted, key, found, prototype)
        return found

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Give the value of a key as :meth:`get` does, without an event loop."""
        self._check(key, byte_range)
        found = super().get_sync(self._file_key(key), prototype=prototype, byte_range=byte_range)
        if found is None:
            self._check_missing(key)
        elif byte_range is None and _is_metadata(key):
            return self._fitted(key, found, prototype)
        return found

    def _check(self, key: str, byte_range: ByteRequest | None) -> None:
        most = MAX_JSON_NBYTES if _is_metadata(key) else self.max_nbytes
        whole = byte_range is None
        _check_regular(self.root / self._file_key(key), most if whole else None)

    def _fitted(self, key: str, found: Buffer, prototype: BufferPrototype | None) -> Buffer:
        """Give metadata that fit what lies on disk.

        Raises
        ------
        LayoutError
            If no metadata can.
        """
        here, _, name = key.rpartition("/")
        if name == ".zattrs":
            parse_metadata(found.to_bytes(), self.root / key)  # for its errors
            return found
        directory = self.root / here
        v2_names = (".zarray", ".zgroup") if name == "zarr.json" else (name,)
        there = [n for n in v2_names if os.path.lexists(directory / n)]
        if there and os.path.lexists(directory / "zarr.json"):
            place = LocalLocation(directory)
            both = place.read_many((".zarray", "zarr.json"))
            if there != [".zarray"] or not are_of_one_array(place, both):
                raise side_by_side(directory, there[0])
        document = parse_metadata(found.to_bytes(), self.root / key)
        if not self._fit(document, here, name):
            return found
        prototype = prototype or default_buffer_prototype()
        return prototype.buffer.from_bytes(json.dumps(document).encode())

    def _fit(self, document: dict[str, Any], here: str, name: str) -> bool:
        """Set the separators of the arrays in a metadata document; tell if any was set."""
        if name == ".zarray":
            check_array_metadata(document, self.root / here / name)
            self._fit_array(document, here)
            return True
        if name == ".zmetadata":
            entries = document.get("metadata")
            for key, entry in entries.items() if isinstance(entries, dict) else ():
                child, _, entry_name = key.rpartition("/")
                if entry_name == ".zarray" and isinstance(entry, dict):
                    check_array_metadata(entry, self.root / here / key)
                    self._fit_array(entry, _join(here, child))
            return True
        if name == "zarr.json" and document.get("node_type") == "array":
            check_array_metadata(document, self.root / here / name)
            if separator_of(document) == ".":
                self._kept[here] = "flat"
        return False

    def _fit_array(self, metadata: dict[str, Any], here: str) -> None:
        if len(metadata["shape"]) < 2:
            return  # One index has no separator.
        directory = self.root / here
        separator, _ = choose_separator(directory, metadata, nested=self._nested_by_default)
        metadata["dimension_separator"] = self._settle(separator, here)

    def _settle(self, separator: Separator, here: str) -> Separator:
        return separator

    def _file_key(self, key: str) -> str:
        return key

    def _check_missing(self, key: str) -> None:
        pass


def _check_regular(path: Path, most: int | None) -> None:
    """Refuse what is neither a regular file nor nothing, or too large, before zarr opens it.

    Raises
    ------
    ChunkReadError
        If it could hang, never end, or be taken for fill.
    """
    # One stat, 2 microseconds beside the 100 that zarr takes a chunk.
    try:
        state = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as err:
        if os.path.islink(path):
            raise ChunkReadError(
                f"{path}: expected a regular file, found a link to nothing"
            ) from err
        return
    except OSError as err:
        raise ChunkReadError(f"{path}: cannot be read ({err.strerror or err})") from err
    if not stat.S_ISREG(state.st_mode):
        found = "a folder" if stat.S_ISDIR(state.st_mode) else "something else"
        raise ChunkReadError(f"{path}: expected a regular file, found {found}")
    if most is not None and state.st_size > most:
        raise ChunkReadError(
            f"{path}: the file has {state.st_size} bytes, more than the {most} that one of this "
            "kind can have here. It is damaged or belongs to another array."
        )


def _join(*parts: str) -> str:
    return "/".join(p for p in parts if p)


def _is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] in (".zarray", ".zattrs", ".zmetadata", "zarr.json")


_INDEX = re.compile(INDEX)
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
