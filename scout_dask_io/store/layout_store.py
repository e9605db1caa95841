"""Local stores that know where chunk files lie, for arrays of any age.

The oldest arrays do not say in ``.zarray`` that their chunks are nested: zarr then looks
for flat files, finds none, and gives zeros. The store here asks the disk, and gives zarr
the metadata that fit.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Literal, Self

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.core.buffer.core import default_buffer_prototype
from zarr.storage import LocalStore

from scout_dask_io.store.layout import choose_separator
from scout_dask_io.store.metadata import (
    Separator,
    check_array_metadata,
    parse_metadata,
    separator_of,
    side_by_side,
)

__all__ = ["LayoutStore"]


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

    def with_read_only(self, read_only: bool = False) -> Self:
        """Give a store on the same directory that does or does not refuse writes."""
        store = type(self)(self.root, read_only=read_only)
        store._kept.update(self._kept)
        return store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({os.fspath(self.root)!r})"

    # Everything that zarr reads comes through these two.
    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Give the value of a key, metadata with the separator that fits the disk."""
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
        found = super().get_sync(self._file_key(key), prototype=prototype, byte_range=byte_range)
        if found is None:
            self._check_missing(key)
        elif byte_range is None and _is_metadata(key):
            return self._fitted(key, found, prototype)
        return found

    def _fitted(self, key: str, found: Buffer, prototype: BufferPrototype | None) -> Buffer:
        """Give metadata that fit what lies on disk.

        Raises
        ------
        LayoutError
            If no metadata can.
        """
        here, _, name = key.rpartition("/")
        directory = self.root / here
        if name == "zarr.json":
            for v2_name in (".zarray", ".zgroup"):
                if os.path.lexists(directory / v2_name):
                    raise side_by_side(directory, v2_name)
        elif os.path.lexists(directory / "zarr.json"):
            raise side_by_side(directory, name)
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
        separator = choose_separator(directory, metadata, nested=self._nested_by_default)
        metadata["dimension_separator"] = self._settle(separator, here)

    def _settle(self, separator: Separator, here: str) -> Separator:
        return separator

    def _file_key(self, key: str) -> str:
        return key

    def _check_missing(self, key: str) -> None:
        pass


def _join(*parts: str) -> str:
    return "/".join(p for p in parts if p)


def _is_metadata(key: str) -> bool:
    return key.rpartition("/")[2] in (".zarray", ".zmetadata", "zarr.json")
