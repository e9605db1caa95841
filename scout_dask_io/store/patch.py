"""A patch: the chunks of an array or image that stands which an update writes again.

It grows as any write does, beside its destination, with no chunk that stays as it is, and gets its
name in what it is for by one rename. From then on the update is decided:

```
<array>/.scout-append/patch/               chunks, metadata and manifests
<array>/.scout-append/patch/patch.json     which chunks of which arrays are replaced
```

:func:`put_in` then puts it in. First manifest and metadata say that another write stands there, so
that readers who have the array open are told; then chunks are replaced, each by one rename; the
manifests come last, that of an image's group last of all. Whatever is cut off is taken up where it
was, by the next that opens it or writes there. Other software that reads meanwhile, or before that
after a kill, finds each chunk old or new.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scout_dask_io.core.grid import Blocks, Region, Shape, chunk_cells, iter_block_regions
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.errors import LayoutError
from scout_dask_io.files.disk import make_dirs, sync_folders
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import locate
from scout_dask_io.files.system import replace
from scout_dask_io.store.chunk_format import ChunkFormat, format_at
from scout_dask_io.store.manifest import (
    MANIFEST_NAME,
    UNKNOWN,
    Manifest,
    manifest_bytes,
    read_manifest,
)
from scout_dask_io.store.metadata import METADATA_FILES, read_node

PATCH_NAME = "patch"
_DOCUMENT = "patch.json"


def boxes_of(units: Blocks, numbers: Iterable[int], chunks: Shape) -> list[list[list[int]]]:
    """Give the chunks of some units, as regions of the chunk grid in JSON."""
    wanted = set(numbers)
    return [
        [[s.start, s.stop] for s in chunk_cells(region, chunks)]
        for number, (_, region) in enumerate(iter_block_regions(units))
        if number in wanted
    ]


def state_of(array: Path) -> int:
    """Give a number that changes with the manifest of an array; 0 without one."""
    try:
        return zlib.crc32((array / MANIFEST_NAME).read_bytes())
    except FileNotFoundError:
        return 0


def describe_patch(folder: LocalLocation, arrays: Mapping[str, Any], *, durable: bool) -> None:
    """Write into a patch which chunks of which arrays it replaces."""
    document = {"scout_patch": 1, "arrays": arrays, "durable": durable}
    (folder / _DOCUMENT).write(json.dumps(document).encode(), durable=durable)


def put_in(place: LocalLocation, patch: LocalLocation) -> None:
    """Put a patch into what stands at a place; what was done already is not done again.

    Raises
    ------
    OSError
        If a file cannot be moved; the same call goes on.
    LayoutError
        If the patch is damaged.
    """
    raw = (patch / _DOCUMENT).read()
    if raw is None:
        raise LayoutError(f"{patch} is no whole patch: remove it, and update again")
    document = parse_json(raw)
    durable = bool(document["durable"])
    arrays = [_Patched(place, patch, name, boxes) for name, boxes in document["arrays"].items()]
    todo = [array for array in arrays if array.is_left()]
    for array in todo:
        array.announce(durable=durable)
    # All that can be done before or after lies outside of these renames: between the first and the
    # last of them other software reads some of both.
    pairs = [pair for array in todo for pair in array.moves()]
    for new, stands in pairs:
        _move(new, stands, place)
    for array in todo:
        if durable:
            array.sync()
        array.finish(durable=durable)
    group = _Patched(place, patch, "", [])
    if group.is_left():
        group.finish(durable=durable)


class _Patched:
    """One array of a patch, or an image's group."""

    def __init__(self, place: LocalLocation, patch: LocalLocation, name: str, boxes: Any) -> None:
        self._here = place / name if name else place
        self._new = patch / name if name else patch
        self._cells: list[Region] = [tuple(slice(*s) for s in box) for box in boxes]
        self._keys: list[str] = []

    @cached_property
    def _manifest(self) -> Manifest | None:
        return read_manifest(self._new)

    def is_left(self) -> bool:
        """Tell whether it is not put in yet; its manifest goes last."""
        return (self._new / MANIFEST_NAME).exists()

    def announce(self, *, durable: bool) -> None:
        """Say in the manifest that chunks are being replaced, and by which write."""
        manifest = self._manifest
        if manifest is None:
            return
        records = manifest.records.copy()
        for cells in self._cells:
            records[cells] = UNKNOWN
        data = manifest_bytes(records, manifest.settings, manifest.job)
        self._write(MANIFEST_NAME, data, durable)
        # Whoever has it open looks at the manifest once the metadata are another file.
        for name in METADATA_FILES:
            if (raw := (self._here / name).read()) is not None:
                self._write(name, raw, durable)

    def moves(self) -> list[tuple[str, str]]:
        """Give where each chunk lies in the patch, if it is stored there, and its place."""
        manifest, fmt = self._manifest, self._format()
        if manifest is None or fmt is None:
            raise LayoutError(f"{self._new} is damaged: remove the patch, and update again")
        here, new, sizes = str(self._here), str(self._new), manifest.records["nbytes"]
        chunks = [(fmt.chunk_key(index), nbytes) for index, nbytes in self._chunks(sizes)]
        self._keys = [key for key, _ in chunks]
        return [(f"{new}/{key}" if nbytes else "", f"{here}/{key}") for key, nbytes in chunks]

    def sync(self) -> None:
        """Let the chunks' names be on the disk."""
        sync_folders(str(self._here), self._keys)

    def finish(self, *, durable: bool) -> None:
        """Let metadata and, last, the manifest be those of the new array."""
        for name in (*sorted(METADATA_FILES), MANIFEST_NAME):
            raw = (self._new / name).read()
            if raw is not None:
                self._write(name, raw, durable)
            elif name != MANIFEST_NAME:
                (self._here / name).unlink(missing_ok=True)
        (self._new / MANIFEST_NAME).unlink()

    def _write(self, name: str, data: bytes, durable: bool) -> None:
        # What a kill leaves of it goes with the patch.
        (self._here / name).write(data, durable=durable, drafts=self._new)

    def _format(self) -> ChunkFormat | None:
        node = read_node(locate(self._new))
        return None if node is None else format_at(node)

    def _chunks(self, sizes: np.ndarray) -> Iterator[tuple[Shape, int]]:
        for cells in self._cells:
            for at, nbytes in np.ndenumerate(sizes[cells]):
                yield tuple(i + c.start for i, c in zip(at, cells, strict=True)), int(nbytes)


def _move(source: str, target: str, root: Path) -> None:
    """Replace a chunk that is stored, or remove one that is empty now; moved before, it stays."""
    if not source:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(target)
        return
    try:
        replace(source, target)
    except FileNotFoundError:
        if not os.path.lexists(source):
            return
        make_dirs(Path(os.path.dirname(target)), root)
        replace(source, target)
