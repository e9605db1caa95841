"""Arrays and groups: opened once, whole or refused; and made, whole or not at all."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import zarr
import zarr.errors
from numcodecs.errors import UnknownCodecError
from zarr.storage import MemoryStore, StorePath

from scout_dask_io.core.formatting import cut, format_found
from scout_dask_io.core.grid import chunk_counts
from scout_dask_io.core.messages import OVERWRITE, RESUME, Way
from scout_dask_io.errors import (
    ChunkReadError,
    LayoutError,
    PathNotFoundError,
    ScoutIOError,
    TargetExistsError,
)
from scout_dask_io.files.disk import naming_errors
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location, as_local, as_remote
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.store.codecs import as_asked
from scout_dask_io.store.conventions import check_other_store
from scout_dask_io.store.decompression import bounded, max_stored_nbytes
from scout_dask_io.store.growth import finish_on_disk
from scout_dask_io.store.layout import (
    INDEX,
    both_layouts,
    checked_array,
    chunk_grid,
    detect_layout,
)
from scout_dask_io.store.legacy_store import LayoutStore, NestedDirectoryStore, NestedGroupStore
from scout_dask_io.store.manifest import MANIFEST_NAME, REGIONS_NAME
from scout_dask_io.store.metadata import Node, metadata_file, read_node, separator_of
from scout_dask_io.store.remote_staging import MARKER_NAME, check_free, clear, parse_marker
from scout_dask_io.store.staging import (
    begin_staging,
    check_destination,
    discard_staging,
    drop_staging,
    find_staging,
    publish,
    recover,
)
from scout_dask_io.store.url_store import UrlStore

_Node = TypeVar("_Node")
#: What numcodecs and zarr raise where a codec is not installed.
UNKNOWN_CODEC = (UnknownCodecError, zarr.errors.UnknownCodecError)
_INDEX = re.compile("[0-9]+")
# How a zip file begins.
_ZIP = b"PK\x03\x04"


def find_node(location: Location, *, reads: bool = False) -> Node | None:
    """Give the whole array or group at a location, ``None`` where there is none.

    What tells it is asked for at once, and each file read once. Whoever only ``reads`` it, by
    :func:`check_keys` where there seem to be no chunks, need not wait for a look at them.

    Raises
    ------
    PathNotFoundError
        If an unfinished write lies in its place.
    LayoutError
        If the metadata are damaged, or do not say how chunks are keyed that lie nested in a store.
    """
    if location.on_disk:
        return read_node(location, (MANIFEST_NAME,)) if location.is_folder else None
    beside = (MARKER_NAME, MANIFEST_NAME, REGIONS_NAME)
    node = read_node(location, beside, refuse=_refuse_unfinished)
    if node is None:
        # A level of an image that is not whole has no metadata yet.
        for group in location.parents[:1]:
            with suppress(ChunkReadError):
                check_whole(group)
    elif node.kind == "array" and not (
        reads and location.serves_threads and separator_of(node.metadata) == "/"
    ):
        check_keys(node)
    return node


def check_whole(location: Location) -> None:
    """Refuse what is being written in its place, in a store.

    Raises
    ------
    PathNotFoundError
        If it was not finished.
    """
    if not location.on_disk:
        _refuse_unfinished(location, {MARKER_NAME: (location / MARKER_NAME).read()})


def _refuse_unfinished(location: Location, files: Mapping[str, bytes | None]) -> None:
    if parse_marker(location, files[MARKER_NAME]) is not None:
        raise _unfinished(location, "there")


def _unfinished(location: Location, where: str) -> PathNotFoundError:
    return PathNotFoundError(
        f"{location}: an unfinished write lies {where}, and nothing is published yet. Repeat the "
        "write with " + RESUME + " to finish it, or " + OVERWRITE + " to start afresh."
    )


def open_node(location: Location, *, reads: bool = False) -> Node:
    """Give the whole array or group at a location, as :func:`find_node` does.

    Raises
    ------
    PathNotFoundError
        If there is none, or an unfinished one.
    LayoutError
        As for :func:`find_node`.
    """
    _recover(location)
    node = find_node(location, reads=reads)
    if node is None:
        raise _absent(location, "r")
    return node


def open_array(location: Location, *, reads: bool = False) -> Node:
    """Give the whole array at a location, as :func:`find_node` does.

    Raises
    ------
    PathNotFoundError
        If there is none, or an unfinished one.
    LayoutError
        As for :func:`find_node`.
    """
    _recover(location)
    return checked_array(location, find_node(location, reads=reads))


def _recover(location: Location) -> None:
    """Finish what was cut off while it was published, an overwrite or an append; refuse a file."""
    if not location.on_disk:
        return
    path = as_local(location)
    finish_on_disk(path)
    if path.is_folder:
        return
    if not path.stands():
        recover(path)
    elif path.exists():
        check_no_zip(location)
        raise LayoutError(
            f"{path} is a file, expected the directory of a Zarr array or group"
            + Way(". imread reads a TIFF file.", ".")
        )


def check_no_zip(location: Location, head: bytes | None = None) -> None:
    """Refuse a Zarr array or image that lies in one zip file: ``a.zarr.zip``, or ``a.ozx``.

    On a disk it is told by its first bytes, ``head`` where they are known, at a URL by its name.

    Raises
    ------
    LayoutError
        If it is one.
    """
    if location.on_disk:
        if head is None:
            head = location.read(len(_ZIP)) if location.is_file() else b""
        zipped = (head or b"").startswith(_ZIP)
    else:
        zipped = location.name.lower().endswith((".zip", ".ozx"))
    if zipped:
        name = os.path.splitext(location.name)[0]
        name = name if name.endswith(".zarr") else f"{name}.zarr"
        raise LayoutError(
            f"{location} is a zip file, and what lies in one is not read in place: unpack it, as "
            f"'python -m zipfile -e {location.name} {name}' does, and give {name}"
        )


def check_keys(node: Node) -> None:
    """Refuse an array in a store whose chunks are not keyed as its metadata say.

    Raises
    ------
    LayoutError
        If some are found by other keys alone.
    """
    # zarr looks for chunks where the metadata say, finds none elsewhere, and gives zeros.
    ndim = len(node.metadata["shape"])
    if node.zarr_format == 3 or ndim < 2:
        return
    stated = separator_of(node.metadata)
    if stated == "/" and node.head(MANIFEST_NAME) is not None:
        return  # this library's own, which it keys so
    found = set() if stated == "/" else _listed_separators(node)
    found = found or probed_separators(node)
    if found and (stated or ".") not in found:
        lie = "nested" if found == {"/"} else "flat"
        what = "does not say so" if stated is None else f"says {stated!r}"
        raise LayoutError(
            f"{node.location}: chunks are {lie}, and .zarray {what}: other software reads zeros. "
            f'Add "dimension_separator": "{min(found)}" to it, or have repair do so.'
        )


def separators_in_store(node: Node) -> set[str]:
    """Give how the chunks of a v2 array in a store are keyed: by a listing, or a look at some.

    Raises
    ------
    LayoutError
        If flat and nested chunks lie side by side.
    """
    return _listed_separators(node) or probed_separators(node)


def _listed_separators(node: Node) -> set[str]:
    """Give how the chunks of a v2 array in a store are keyed, by its listing, if it can be had.

    Raises
    ------
    LayoutError
        If flat and nested chunks lie side by side.
    """
    children: Sequence[Location] = ()
    with suppress(ChunkReadError):
        children = node.location.children()
    flat_name = re.compile(rf"{INDEX}(?:\.{INDEX}){{{len(node.metadata['shape']) - 1}}}")
    nested = [c.name for c in children if _INDEX.fullmatch(c.name) and c.is_folder]
    flat = [c.name for c in children if flat_name.fullmatch(c.name)]
    if nested and flat:
        raise both_layouts(node.location, flat[0], f"{nested[0]}/…")
    return {"/"} if nested else {"."} if children else set()


def probed_separators(node: Node) -> set[str]:
    """Give how the chunks are keyed, by a look at the first, the middle and the last of them."""
    shape, chunks = chunk_grid(node)
    last = [max(0, n - 1) for n in chunk_counts(shape, chunks)]
    indices = {tuple(int(n * part) for n in last) for part in (0, 0.5, 1)}
    stated = separator_of(node.metadata) or "."
    for separator in (stated, "/" if stated == "." else "."):
        for index in sorted(indices):
            # A store may forbid what is not there.
            with suppress(ChunkReadError):
                if (node.location / separator.join(map(str, index))).read(1) is not None:
                    return {separator}
    return set()


def open_stored(location: Location, nested: bool, mode: str) -> zarr.Array[Any] | zarr.Group:
    """Open the array or group at a location through zarr, as ``open`` says.

    Raises
    ------
    PathNotFoundError
        If there is none and ``mode`` makes none, or an unfinished one.
    TargetExistsError
        If ``mode`` would replace or adopt what is not Zarr.
    LayoutError
        If both layouts lie on disk, or the metadata are damaged.
    """
    _recover(location)
    if mode in ("a", "r", "r+"):
        node = find_node(location)
        if node is not None:
            return open_with_zarr(node, nested=nested, read_only=mode == "r")
        _check_absent(location, mode)
    return make_node(
        location,
        NestedGroupStore if nested else LayoutStore,
        lambda store: zarr.create_group(store=store, zarr_format=2),
        overwrite=mode == "w",
    )


def open_with_zarr(
    node: Node, *, nested: bool = True, read_only: bool = True
) -> zarr.Array[Any] | zarr.Group:
    """Open a node through zarr."""
    location, zarr_format = node.location, node.zarr_format
    if not location.on_disk:
        _ = node.attributes  # refused here where they are more than is parsed, as on a disk
    store: Any
    if not location.on_disk:
        store = store_of(location, read_only=read_only)
    elif node.kind == "group":
        store = (NestedGroupStore if nested else LayoutStore)(
            as_local(location), read_only=read_only
        )
    else:
        layout = detect_layout(node, nested=nested)
        kind = NestedDirectoryStore if layout.nested else LayoutStore
        store = kind(as_local(location), read_only=read_only)
    # What was consolidated once may be older than what lies there.
    as_it_is: Any = partial(zarr.open_group, use_consolidated=False)
    opening: Any = zarr.open_array if node.kind == "array" else as_it_is
    with _naming_errors(node):
        if node.kind == "array" and not location.on_disk:
            # Its metadata are here; zarr would read them once more.
            own = {"attributes": node.attributes} if zarr_format == 2 else {}
            return bounded(zarr.Array.from_dict(StorePath(store), {**node.metadata, **own}))
        if not location.on_disk:
            of_group = {**node.metadata, "attributes": node.attributes}
            of_group.pop("consolidated_metadata", None)  # as below
            return zarr.Group(zarr.AsyncGroup.from_dict(StorePath(store), of_group))
        opened: zarr.Array[Any] | zarr.Group = opening(
            store=store, mode="r" if read_only else "r+", zarr_format=zarr_format
        )
        if isinstance(opened, zarr.Array):
            opened = bounded(opened)
            if isinstance(store, LayoutStore):
                store.max_nbytes = max_stored_nbytes(opened)
    return opened


@contextmanager
def _naming_errors(node: Node) -> Iterator[None]:
    location = node.location
    try:
        yield
    except ScoutIOError:
        raise
    except OSError as err:
        told = (err.strerror or err) if location.on_disk else location.told(err)
        raise LayoutError(f"{location} cannot be opened: {told}") from err
    except UNKNOWN_CODEC as err:
        raise LayoutError(missing_codec(location, err)) from err
    except Exception as err:  # whatever zarr and its codecs make of metadata
        told, file = cut(location.told(err)), location / metadata_file(node)
        raise LayoutError(
            f"{location}: its metadata are of a kind that is not read ({told}): {_entry(node)} of "
            f"{file.name} is one that zarr does not know, or damaged. info shows what they say; "
            "read it with the software that wrote it."
        ) from err


# What zarr knows, of each entry that it may not.
_KNOWN: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "compressor": {"compressor": None},
        "filters": {"filters": None},
        "fill_value": {"fill_value": None},
        "dtype": {"dtype": "|u1", "fill_value": None},
    },
    3: {
        "codecs": {"codecs": [{"name": "bytes", "configuration": {"endian": "little"}}]},
        "fill_value": {"fill_value": 0},
        "dimension_names": {"dimension_names": None},
        "attributes": {"attributes": {}},
        "storage_transformers": {"storage_transformers": []},
        "data_type": {"data_type": "uint8", "fill_value": 0},
    },
}
_STANDARD = {
    "zarr_format", "node_type", "shape", "chunks", "chunk_grid", "chunk_key_encoding", "order",
    "dimension_separator", "consolidated_metadata", *_KNOWN[2], *_KNOWN[3],
}  # fmt: skip


def _entry(node: Node) -> str:
    """Name the entry of an array's metadata that zarr cannot read: without it, it can."""
    known_entries = dict(_KNOWN[node.zarr_format]) if node.kind == "array" else {}
    if node.zarr_format == 3:
        extents = [max(1, n) for n in node.metadata.get("shape", ())]
        grid = {"name": "regular", "configuration": {"chunk_shape": extents}}
        known_entries["chunk_grid"] = {"chunk_grid": grid}
    for name, known in known_entries.items():
        if name in node.metadata:
            with suppress(Exception):  # another entry, then
                zarr.Array.from_dict(StorePath(MemoryStore()), {**node.metadata, **known})
                return f"its {name}"
    others = sorted(format_found(name, 60) for name in node.metadata.keys() - _STANDARD)
    return f"one of the entries {', '.join(others[:4])}" if others else "an entry"


def missing_codec(location: Location, err: Exception) -> str:
    """Say that a codec is not installed, naming it as the error does, in quotes."""
    quoted = re.search(r"'([^']+)'", str(err))
    name = format_found(quoted[1] if quoted else str(err))
    return (
        f"{location}: its chunks are stored with the codec (compressor, filters) {name}, which is "
        "not installed here. Nothing is wrong with the array: install what brings the codec "
        "(numcodecs, imagecodecs-numcodecs and others do), or have it written with another."
    )


def open_alike(
    location: Location, settings: Mapping[str, Any], mode: str
) -> zarr.Array[Any] | None:
    """Open an existing array of the same shape, chunks and dtype; ``None`` if nothing is there.

    Raises
    ------
    TargetExistsError
        If what is there is another.
    PathNotFoundError
        If nothing is there, and ``mode`` makes none.
    """
    node = find_node(location)
    if node is None:
        if mode != "a":
            _check_absent(location, mode)
        return None
    return as_asked(location, open_with_zarr(node, read_only=mode == "r"), settings)


def make_node(
    location: Location,
    kind: type[LayoutStore],
    make: Callable[[Any], _Node],
    *,
    overwrite: bool,
) -> _Node:
    """Make a node: on a disk beside its place, in a store behind a marker until it is there.

    Raises
    ------
    TargetExistsError
        If there is something that is not to be replaced.
    WriteError
        If it cannot be made.
    """
    if location.on_disk:
        return _make_local(as_local(location), kind, make, overwrite=overwrite)
    return _make_remote(as_remote(location), make, overwrite=overwrite)


def _make_local(
    path: LocalLocation,
    kind: type[LayoutStore],
    make: Callable[[Any], _Node],
    *,
    overwrite: bool,
) -> _Node:
    check_destination(path, overwrite=overwrite)
    if overwrite:
        discard_staging(path)
    staging = begin_staging(path)
    try:
        store = kind(staging.array)
        with naming_errors(path, "the array or group cannot be made"):
            node = make(store)
        publish(staging, overwrite=overwrite)
    except BaseException:
        drop_staging(staging)
        raise
    # The node was made at its first place, and has moved with its directory.
    store.root = path
    return node


def _make_remote(path: RemoteLocation, make: Callable[[Any], _Node], *, overwrite: bool) -> _Node:
    check_free(path, overwrite=overwrite)
    marker = path / MARKER_NAME
    marker.write(json.dumps({"job": uuid.uuid4().hex}).encode(), new=not overwrite)
    if overwrite:
        clear(path, keep_marker=True)
    with path.writing("the array or group cannot be made"):
        node = make(store_of(path, read_only=False))
    marker.remove()
    return node


def _check_absent(location: Location, mode: str) -> None:
    """Refuse a path without Zarr metadata, but for ``"a"`` where nothing is there at all."""
    if not location.on_disk:
        if mode != "a":
            raise _absent(location, mode)
        return
    path = as_local(location)
    staging = find_staging(path)
    empty = not path.exists() or not any(path.iterdir())
    if staging is None and mode == "a" and empty:
        return
    if staging is None and mode == "a":
        raise TargetExistsError(
            f"{path} holds files but no Zarr metadata, so no group is made there. Give the "
            "directory of an array or group, or a path that is free."
        )
    raise _absent(location, mode)


def _absent(location: Location, mode: str) -> PathNotFoundError:
    check_other_store(location)
    if not location.on_disk:
        return PathNotFoundError(
            f"{location}: there is no Zarr array or group. Check the URL; mode {mode!r} creates "
            "nothing."
        )
    staging = find_staging(as_local(location))
    if staging is not None:
        return _unfinished(location, f"in {staging.job}")
    found = "the directory holds no Zarr metadata" if location.exists() else "there is nothing"
    return PathNotFoundError(
        f"{location}: {found}, expected a Zarr array or group. Check the path; nothing was created."
    )


def store_of(location: Location, *, read_only: bool) -> UrlStore:
    """Give zarr's store for a URL."""
    return UrlStore(as_remote(location), read_only=read_only)
