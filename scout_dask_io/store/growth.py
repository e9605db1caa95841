"""An array or an image that grows along an axis: its tail, and the tail becoming part of it.

What is appended is first an array of its own, the *tail*, written as any other:

```
<array>/.scout-append/tail                    the tail once it is whole
<array>/.scout-append/.tail.scout-partial/    on a disk, while it is written
```

It begins on the edge of a chunk, so that its first rows may be old ones, read back and written
again beside new ones. Once it has its name the append is decided, and :func:`splice` takes it in:

1. chunks beyond the old end, which no reader looks for yet;
2. the chunks that the old end lies in, each by one rename (in a store, one put). Their old
   elements are what they were, bit for bit, and the others lie beyond the shape that a reader has;
3. the manifest and the attributes;
4. the metadata with the new shape, in one step: from then on readers see all of it.

Whatever is cut off is taken up where it was: by the next that writes there, and on a disk by the
next that opens it. Of an image the levels follow one another, the full one last. Their old end is
not quite as still: where it lay at an odd plane, the last plane of a lower level was that plane
alone and becomes the mean of two, with step 2.

Why a reader that has opened the old array is left alone: it goes on with the old shape, and with
its pixels.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Region, Shape, chunk_counts, full_region
from scout_dask_io.errors import LayoutError, ScoutIOError, SourceChangedError, WriteError
from scout_dask_io.files.disk import naming_errors, remove_tree
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import Location, as_local
from scout_dask_io.files.system import locked, sync_dir
from scout_dask_io.store.chunk_format import ChunkFormat, format_at
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.layout import OWN_PREFIX
from scout_dask_io.store.manifest import (
    CHANGED,
    MANIFEST_NAME,
    NOTES_NAME,
    REGIONS_NAME,
    Manifest,
    manifest_bytes,
    manifest_of,
    note_states,
    parse_manifest,
    read_manifest,
    read_notes,
)
from scout_dask_io.store.metadata import Node, attributes_file, metadata_file, read_node
from scout_dask_io.store.patch import PATCH_NAME, put_in
from scout_dask_io.store.remote_staging import MARKER_NAME
from scout_dask_io.store.unfinished import level_settings

#: The directory in what grows that holds the tail, and the name of the tail in it.
APPEND_NAME = ".scout-append"
TAIL_NAME = "tail"
#: What directories are called that go, as soon as nothing is to find them any more.
DEAD_PREFIX = ".scout-append-dead-"
#: How long who opens an array waits for an update that another process puts in, in seconds; a
#: thousand chunks take some 0.05.
PATIENCE_S = 10.0
# What a manifest says of the write that made an array, and not of the array.
_OF_THE_WRITE = ("units", "passes")


def tail_of(place: Location) -> Location:
    """Give where the tail of an array or an image lies."""
    return place / f"{APPEND_NAME}/{TAIL_NAME}"


@dataclass(frozen=True)
class ArrayGrowth:
    """What becomes of one array.

    Attributes
    ----------
    level : int or None
        Which level of an image.
    before, after : tuple of int
        Its shapes; ``before`` is empty of a level that is new.
    start : int
        Where the tail begins along the axis: on the edge of a chunk, and of a shard.
    replaced : dict
        Attributes that get other values.
    added : dict
        What is added to lists among its attributes.
    """

    level: int | None
    before: Shape
    after: Shape
    start: int
    replaced: Mapping[str, Any] = field(default_factory=dict)
    added: Mapping[str, list[Any]] = field(default_factory=dict)

    def tail_shape(self, axis: int) -> Shape:
        """Give the shape of the tail."""
        return (*self.after[:axis], self.after[axis] - self.start, *self.after[axis + 1 :])

    def old_rows(self, axis: int, stop: int | None = None) -> Region:
        """Give the region of the array that the tail holds again, up to a row of it."""
        stop = self.before[axis] if stop is None else stop
        whole = full_region(self.before)
        return (*whole[:axis], slice(self.start, max(stop, self.start)), *whole[axis + 1 :])

    def attributes(self, there: Mapping[str, Any]) -> dict[str, Any]:
        """Give attributes as they are to be: what was added is not added again."""
        found = {**there, **self.replaced}
        for name, entries in self.added.items():
            own = found.get(name)
            own = own if isinstance(own, list) else []
            found[name] = [*own, *(entry for entry in entries if entry not in own)]
        return found


@dataclass(frozen=True)
class Growth:
    """An append that was begun, as the manifest of its tail has it.

    Attributes
    ----------
    axis : int
        Along which arrays grow.
    arrays : tuple of ArrayGrowth
        One, or the levels of an image, the full one first.
    source : str
        Names what is appended.
    job : str
        The write that made what grows; empty where no manifest says.
    durable : bool
        Whether files are synced before they count.
    metadata : dict
        What the attributes of an image's group say of its levels from then on.
    """

    axis: int
    arrays: tuple[ArrayGrowth, ...]
    source: str
    job: str = ""
    durable: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def said(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Give the attributes of an image's group with what they say from then on."""
        if not self.metadata or "ome" not in attributes:
            return {**attributes, **self.metadata}
        return {**attributes, "ome": {**attributes["ome"], **self.metadata}}

    @property
    def rows(self) -> tuple[int, int]:
        """The extents of the full array along the axis, before and after."""
        full = self.arrays[0]
        return full.before[self.axis], full.after[self.axis]

    @property
    def record(self) -> dict[str, Any]:
        """What stays on record of it in the manifest of what has grown."""
        return {"source": self.source, "axis": self.axis, "rows": list(self.rows)}

    def settings(self) -> dict[str, Any]:
        """Give it as JSON."""
        arrays = [
            {
                "level": a.level,
                "before": list(a.before),
                "after": list(a.after),
                "start": a.start,
                "replaced": dict(a.replaced),
                "added": dict(a.added),
            }
            for a in self.arrays
        ]
        return {
            "axis": self.axis,
            "arrays": arrays,
            "source": self.source,
            "job": self.job,
            "metadata": dict(self.metadata),
        }

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> Growth:
        """Give what :meth:`settings` gave, of the settings of a tail."""
        found = settings["growth"]
        arrays = tuple(
            ArrayGrowth(
                a["level"],
                tuple(a["before"]),
                tuple(a["after"]),
                int(a["start"]),
                a["replaced"],
                a["added"],
            )
            for a in found["arrays"]
        )
        durable = bool(settings.get("durable"))
        own = (found["source"], found["job"], durable, found["metadata"])
        return cls(int(found["axis"]), arrays, *own)


def settle(place: Location) -> None:
    """Before anything is written: take in an append that was decided, and remove what is dead.

    One that was begun and is not whole stays: it may be finished.

    Raises
    ------
    WriteError
        If a file cannot be written or moved; the same call goes on.
    LayoutError
        If what has grown is no longer what it was when the append began.
    """
    splice(place)
    tail = tail_of(place)
    if place.on_disk:
        for dead in as_local(place).glob(f"{DEAD_PREFIX}*"):
            remove_tree(dead)
        return
    if (tail / MARKER_NAME).read() is None:
        names = [name for name, _ in (place / APPEND_NAME).find()]
        (place / APPEND_NAME).remove(names)


def finish_on_disk(place: LocalLocation) -> None:
    """Before something on a disk is opened: take in what was decided and cut off.

    Where another process is at it, an append is not waited for, since a reader finds the old array
    or the new one; an update is, for as long as its renames take. A reader may not be let to write
    there: then nothing is done, and nothing is said.

    Raises
    ------
    SourceChangedError
        If another process is still at an update after ``PATIENCE_S``.
    """
    for here in (place, place.parent):
        last = time.monotonic() + PATIENCE_S
        while (here / APPEND_NAME).is_dir():
            with suppress(ScoutIOError, OSError):
                splice(here, wait=False)
            if not _is_updated_elsewhere(here):
                break
            if time.monotonic() > last:
                raise SourceChangedError(
                    f"{here}: another process has been putting an update into it for "
                    f"{PATIENCE_S:g} s, and until it is through some chunks are old and some new. "
                    "Open it again later; if that process stands still, end it: then whoever opens "
                    "the array next puts the rest in."
                )
            time.sleep(0.005)


def _is_updated_elsewhere(place: LocalLocation) -> bool:
    """Tell whether another process is just putting an update in."""
    folder = place / APPEND_NAME
    if not (folder / PATCH_NAME).is_dir():
        return False
    try:
        with locked(folder, wait=False) as alone:
            return not alone
    except OSError:
        return False


def splice(place: Location, *, wait: bool = True) -> Growth | None:
    """Take the whole tail of an array or an image in; give what has grown, ``None`` without one.

    A patch of an update (see ``store/patch.py``) is put in as well. What was done already is not
    done again. Without ``wait``, nothing is done either where another process is at it.

    Raises
    ------
    WriteError
        If a file cannot be written or moved; the same call goes on.
    LayoutError
        If what is to grow is no longer what it was when the append began.
    """
    tail = tail_of(place)
    with _alone(place, wait=wait) as alone:
        if not alone:
            return None
        if place.on_disk and (patch := as_local(place) / APPEND_NAME / PATCH_NAME).is_dir():
            with naming_errors(str(place), "what was updated cannot be put in"):
                put_in(as_local(place), patch)
                _remove(place)
            return None
        if (growth := _decided(tail)) is None:
            return None
        with naming_errors(str(place), "what was appended cannot be taken in"):
            # The full level last: what it says of the image is true then.
            for array in reversed(growth.arrays):
                at = "" if array.level is None else f"/{array.level}"
                _take_in(_below(place, at), _below(tail, at), growth, array)
            if growth.arrays[0].level is not None:
                _take_in_group(place, tail, growth)
            _remove(place)
        return growth


def _below(place: Location, name: str) -> Location:
    return place / name[1:] if name else place


@contextmanager
def _alone(place: Location, *, wait: bool) -> Iterator[bool]:
    """Keep other processes from taking the same tail in; on a disk that has locks."""
    if not place.on_disk:
        yield True
        return
    with ExitStack() as stack:
        try:
            alone = stack.enter_context(locked(as_local(place) / APPEND_NAME, wait=wait))
        except (FileNotFoundError, NotADirectoryError):
            alone = False
        yield alone


def _decided(tail: Location) -> Growth | None:
    """Give the append whose tail is whole, ``None`` where there is none."""
    if not tail.on_disk and (tail / MARKER_NAME).read() is not None:
        return None
    raw = (tail / MANIFEST_NAME).read()
    if raw is None or read_node(tail) is None:
        return None
    return Growth.parse(parse_manifest(raw, tail / MANIFEST_NAME).settings)


def _take_in(array: Location, tail: Location, growth: Growth, own: ArrayGrowth) -> None:
    node = read_node(array, (MANIFEST_NAME,))
    shape = None if node is None else tuple(node.metadata.get("shape", ()))
    if not own.before:
        _put_new(array, tail, growth, own)
        return
    if node is None or shape not in (own.before, own.after):
        raise LayoutError(
            f"{array} has the shape {shape}, and what is appended to it was begun when it had "
            f"{own.before}: it was changed meanwhile. Nothing was appended; remove "
            f"{tail_of(array) if own.level is None else tail_of(array.parent)} to give the "
            "append up, and append again."
        )
    if _has_grown(node, growth, own):
        return
    fmt, tail_node = format_at(node), read_node(tail)
    tail_fmt = None if tail_node is None else format_at(tail_node)
    stored = read_manifest(tail)
    if fmt is None or tail_fmt is None or stored is None:
        raise LayoutError(f"{tail}: the tail is damaged, remove it and append again")
    offset = own.start // fmt.chunks[growth.axis]
    _move_chunks(array, tail, (fmt, tail_fmt), stored.records, growth, own, offset)
    if array.on_disk:
        with locked(as_local(array)):
            _publish(array, tail, growth, own, stored.records)
    else:
        _publish(array, tail, growth, own, stored.records)


def _put_new(array: Location, tail: Location, growth: Growth, own: ArrayGrowth) -> None:
    """Put a level that is new to its place, its metadata last; nothing lists it yet."""
    node = read_node(tail, (MANIFEST_NAME,))
    group = read_node(array.parent, (MANIFEST_NAME,))
    manifest = None if node is None else manifest_of(node)
    whole = None if group is None else manifest_of(group)
    if node is None or manifest is None or whole is None:
        return  # moved before
    last = metadata_file(node)
    if array.on_disk:
        as_local(array).mkdir(exist_ok=True)
    settings = level_settings(grown_settings(whole, growth, own), own.level, own.after)
    data = manifest_bytes(manifest.records, settings, whole.job)
    _write(array / MANIFEST_NAME, data, growth, tail)
    names = [name for name, _ in tail.find() if name != last and not name.startswith(OWN_PREFIX)]
    for some in (names, [last]):
        tail.hand_over(array, [(name, name) for name in some], durable=growth.durable)


def _move_chunks(
    array: Location,
    tail: Location,
    formats: tuple[ChunkFormat, ChunkFormat],
    records: np.ndarray,
    growth: Growth,
    own: ArrayGrowth,
    offset: int,
) -> None:
    """Move the tail's chunks to their places, and remove what stands where there is none."""
    fmt, tail_fmt = formats
    axis = growth.axis
    # Cells that a reader with the old shape looks at come last.
    n_old = -(-own.before[axis] // fmt.chunks[axis]) - offset
    pairs: list[tuple[str, str]] = []
    last: list[tuple[str, str]] = []
    empty: list[str] = []
    sizes = records["nbytes"]
    for index in np.ndindex(records.shape):
        at = (*index[:axis], index[axis] + offset, *index[axis + 1 :])
        key = fmt.chunk_key(at)
        if sizes[index]:
            (last if index[axis] < n_old else pairs).append((tail_fmt.chunk_key(index), key))
        else:
            empty.append(key)
    # What other software has left beyond the end would read as elements of the array.
    array.remove(empty)
    for some in (pairs, last):
        tail.hand_over(array, some, durable=growth.durable)


def _publish(
    array: Location, tail: Location, growth: Growth, own: ArrayGrowth, records: np.ndarray
) -> None:
    """Bring manifest and attributes up to date, and then put the metadata with the new shape."""
    node = read_node(array, (MANIFEST_NAME,))
    if node is None or _has_grown(node, growth, own):
        return
    fmt = format_at(node)
    manifest = manifest_of(node)
    if fmt is not None and manifest is not None and not _is_noted(manifest, growth):
        grid = chunk_counts(own.after, fmt.chunks)
        whole = np.zeros(grid, CHUNK_RECORD)
        whole[full_region(manifest.records.shape)] = manifest.records
        axis = growth.axis
        cells = full_region(records.shape)
        offset = own.start // fmt.chunks[axis]
        along = slice(offset, offset + records.shape[axis])
        whole[(*cells[:axis], along, *cells[axis + 1 :])] = records
        settings = grown_settings(manifest, growth, own)
        finished = [] if array.on_disk else _finished_notes(array)
        _write(array / MANIFEST_NAME, manifest_bytes(whole, settings, manifest.job), growth, tail)
        if finished:
            # What they say is in the manifest now, and older than what was appended.
            (array / NOTES_NAME).remove(finished)
            (array / REGIONS_NAME).write(f"grown to {own.after}".encode())
    attributes = own.attributes(node.attributes)
    changed = attributes != node.attributes
    if changed and node.zarr_format == 2:
        _write_attributes(node, attributes, growth, tail)
    document = {**node.metadata, "shape": list(own.after)}
    if changed and node.zarr_format == 3:
        document["attributes"] = attributes
    if document == node.metadata:
        return
    _write(array / metadata_file(node), json.dumps(document, indent=4).encode(), growth, tail)


def _has_grown(node: Node, growth: Growth, own: ArrayGrowth) -> bool:
    """Tell whether an array has taken its tail in; of one that gets no longer, its manifest does.

    A lower level may have a row for an odd plane already that becomes that of two.
    """
    if own.before != own.after:
        return tuple(node.metadata["shape"]) == own.after
    manifest = manifest_of(node)
    return manifest is not None and _is_noted(manifest, growth)


def _is_noted(manifest: Manifest, growth: Growth) -> bool:
    """Tell whether a manifest is that of what has grown already."""
    return manifest.settings.get("appended") == growth.record


def _finished_notes(array: Location) -> list[str]:
    notes = zip(note_states(array), read_notes(array), strict=True)
    return [name for (name, _), note in notes if note.records is not None]


def grown_settings(manifest: Manifest, growth: Growth, own: ArrayGrowth) -> dict[str, Any]:
    """Give what the manifest of an array that has grown says of its write."""
    settings = {k: v for k, v in manifest.settings.items() if k not in _OF_THE_WRITE}
    if settings.get("source") != CHANGED:
        both = f"{settings.get('source')} {growth.source}"
        settings["source"] = hashlib.sha256(both.encode()).hexdigest()
    if "levels" in settings:
        settings["levels"] = [list(a.after) for a in growth.arrays]
        settings["attributes"] = growth.said(settings.get("attributes") or {})
    elif isinstance(settings.get("attributes"), dict):
        settings["attributes"] = own.attributes(settings["attributes"])
    return {**settings, "shape": list(own.after), "appended": growth.record}


def _take_in_group(group: Location, tail: Location, growth: Growth) -> None:
    """Bring the attributes and the manifest of an image's group up to date."""
    node, said = read_node(group, (MANIFEST_NAME,)), read_node(tail)
    if node is None or said is None:
        return
    own = said.attributes.get("group")
    attributes = {**node.attributes, **own} if isinstance(own, dict) else node.attributes
    if attributes != node.attributes:
        _write_attributes(node, attributes, growth, tail)
    manifest = manifest_of(node)
    if manifest is not None and not _is_noted(manifest, growth):
        settings = grown_settings(manifest, growth, growth.arrays[0])
        data = manifest_bytes(manifest.records, settings, manifest.job)
        _write(group / MANIFEST_NAME, data, growth, tail)


def _write(file: Location, data: bytes, growth: Growth, tail: Location) -> None:
    """Put a file in the place of an old one; what a kill leaves of it goes with the tail."""
    if file.on_disk:
        as_local(file).write(data, durable=growth.durable, drafts=as_local(tail))
    else:
        file.write(data)


def _write_attributes(
    node: Node, attributes: dict[str, Any], growth: Growth, tail: Location
) -> None:
    document = attributes
    if node.zarr_format == 3:
        document = {**node.metadata, "attributes": attributes}
    data = json.dumps(document, indent=4).encode()
    _write(node.location / attributes_file(node), data, growth, tail)


def _remove(place: Location) -> None:
    """Remove the tail that was taken in."""
    folder = place / APPEND_NAME
    if not place.on_disk:
        folder.remove([name for name, _ in folder.find()])
        return
    # Renamed first, so that nothing takes for whole what is half removed.
    dead = as_local(place) / f"{DEAD_PREFIX}{uuid.uuid4().hex}"
    try:
        as_local(folder).rename(dead)
    except OSError as err:
        raise WriteError(f"{folder} cannot be removed: {err.strerror or err}") from err
    remove_tree(dead)


def decide_patch(place: LocalLocation, grown: LocalLocation, *, durable: bool) -> None:
    """Let what has grown be the patch of what stands at a place, and put it in.

    Raises
    ------
    WriteError
        If a file cannot be moved; whoever opens the place next goes on.
    """
    folder = place / APPEND_NAME
    with naming_errors(str(place), "what was updated cannot be put in"):
        folder.mkdir(exist_ok=True)
        grown.rename(folder / PATCH_NAME)
        if durable:
            with suppress(FileNotFoundError):  # put in meanwhile, by one that has opened it
                sync_dir(folder)
    splice(place)


def tidy(place: Location) -> None:
    """Remove the directory of tails where nothing is in it."""
    if place.on_disk:
        with suppress(OSError):
            (as_local(place) / APPEND_NAME).rmdir()
