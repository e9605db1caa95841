"""Other software's readers of a store, told apart by where they read.

The one question is whether an object, found in a graph that is not run yet, may read from a
place. What is written there could be gone before it is read: zarr then gives zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, MemoryStore, StorePath, WrapperStore, ZipStore

from scout_dask_io.files.location import Location, as_remote
from scout_dask_io.store.url_store import UrlStore


def may_read(found: Any, place: Location) -> bool | None:
    """Tell whether an object reads from a place in a store, below it, or from all above it.

    Nothing is asked of the store.

    Parameters
    ----------
    found
        A store of zarr or a path in one, or text.
    place : Location
        At a URL.

    Returns
    -------
    bool or None
        ``True`` of a store too that does not say where it is; ``None`` of what is no reader
        itself, and may hold one.
    """
    if isinstance(found, str):
        return _names(found, place) or None
    path = ""
    if isinstance(found, StorePath):
        found, path = found.store, found.path
    if not isinstance(found, Store):
        return None
    while isinstance(found, WrapperStore):
        found = found._store
    if isinstance(found, (LocalStore, MemoryStore, ZipStore)):
        return False
    if isinstance(found, UrlStore):
        read, written = found.location / path if path else found.location, as_remote(place)
        addresses = [_stated(read.options), _stated(written.options)]
        if all(addresses) and addresses[0] != addresses[1]:
            return False
        return read.lies_in(written) or written.lies_in(read)
    if not isinstance(found, FsspecStore):
        return True
    # Of stores in memory, zarr makes asynchronous ones.
    fs = getattr(found.fs, "sync_fs", found.fs)
    ours = as_remote(place).fs
    if type(fs) is not type(ours) or _are_apart(fs, ours):
        return False
    there = f"{found.path}/{path}".strip("/")
    here = as_remote(place).key.strip("/")
    return f"{there}/".startswith(f"{here}/") or f"{here}/".startswith(f"{there}/")


def _names(text: str, place: Location) -> bool:
    """Tell whether a text is the URL or the key of a place, or of what lies in it."""
    head, scheme, rest = text.partition("://")
    key = as_remote(place).key.strip("/")
    return f"{(rest if scheme else head).strip('/')}/".startswith(f"{key}/")


def _are_apart(one: Any, other: Any) -> bool:
    """Tell whether two file systems of a kind are reached at addresses that differ."""
    addresses = [_address(fs) for fs in (one, other)]
    return all(addresses) and addresses[0] != addresses[1]


def _address(fs: Any) -> str:
    return _stated(getattr(fs, "storage_options", None) or {})


def _stated(options: Mapping[str, Any]) -> str:
    """Give the address that options name; empty where they name none."""
    deeper = options.get("client_kwargs") or {}
    given = options.get("endpoint_url") or options.get("endpoint") or deeper.get("endpoint_url")
    return str(given or "").rstrip("/")
