"""Whether a stored array is still the one that was opened, and a name for the state it is in."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from scout_dask_io.core.json_document import parse_json
from scout_dask_io.errors import SourceChangedError
from scout_dask_io.files.location import Location
from scout_dask_io.files.remote import identity_of
from scout_dask_io.store.manifest import MANIFEST_NAME, REGIONS_NAME
from scout_dask_io.store.metadata import HEAD_NBYTES, Node, metadata_file

# What names the write stands in the first line of a manifest, before its settings.
_JOB = re.compile(rb'^\{"scout_manifest".*?"job": "([^"]+)"')
#: By how much the clocks of two machines differ at most.
CLOCKS_NS = 15 * 60 * 10**9


@dataclass(frozen=True)
class Fingerprint:
    """What tells an array from another one that takes its place. Picklable.

    Attributes
    ----------
    location : Location
        Where the array lies.
    name : str
        Its metadata file.
    file : tuple or None
        What the system or the store says of that file, where that is cheap.
    described : str
        What the metadata say, without attributes: these may change.
    written : str
        The write that made it, as the manifest names it; empty without one.
    regions : str
        The last region that was written into it since, in a store.
    opened_ns : int
        When it was opened, by the clock here.
    """

    location: Location
    name: str
    file: tuple[Any, ...] | None
    described: str
    written: str
    regions: str = ""
    opened_ns: int = field(default=0, compare=False)

    @classmethod
    def of(cls, node: Node) -> Fingerprint:
        """Give the fingerprint of an array that was opened."""
        name, written = metadata_file(node), _job(node.head(MANIFEST_NAME))
        file = node.location.file_state(name)
        if file is None and not written:
            # Without a manifest nothing but the file itself tells two writes apart.
            file = identity_of(node.entry) or (node.location / name).identity()
        regions = ""
        if written and not node.location.on_disk:
            regions = (node.head(REGIONS_NAME) or b"").decode()
        described = _described(node.metadata)
        return cls(node.location, name, file, described, written, regions, time.time_ns())

    def stood_before(self, changed_ns: float) -> bool:
        """Tell whether what was written at a time stood when the array was opened.

        Chunks of one that takes its place are newer. The clocks of a store and of who asks it
        may differ by 15 minutes: S3 refuses what is signed with a worse one.
        """
        return changed_ns + CLOCKS_NS < self.opened_ns

    def check(self) -> None:
        """Refuse an array that is no longer the one that was opened.

        On a disk that is one look at its metadata file; in a store one request for it and one
        for the manifest, at the same time. One that has grown by an append is the same still:
        what was there when it was opened is there.

        Raises
        ------
        SourceChangedError
            If it was replaced or removed.
        """
        # An overwrite puts another array in this one's place: chunks of both
        # would make a whole that never was.
        if self.file is not None and (self.location / self.name).identity() == self.file:
            return
        if self.file is None or self.written:
            found = self.location.read_many([self.name, MANIFEST_NAME], HEAD_NBYTES)
            raw = found[self.name]
            if raw is not None and len(raw) == HEAD_NBYTES:
                raw = (self.location / self.name).read()
            same = raw is not None and _is_described(raw, self.described, bool(self.written))
            if same and _job(found[MANIFEST_NAME]) == self.written:
                return
        raise SourceChangedError(
            f"{self.location} is no longer the array that was opened: it was replaced, "
            "resized or removed. Open it again to read what is there now."
        )

    def sample_files(self) -> list[tuple[str, int]]:
        """Give the metadata file with its size, where a file system says it."""
        if self.file is None:
            return []
        return [(os.fspath(self.location / self.name), self.file[1])]  # type: ignore[call-overload]

    def token(self) -> str:
        """Name the state that the array is in, chunks too as far as that can be seen cheaply."""
        # A region that was written changes what is there, and not what the array is.
        state: Any = self.location.tree_state() or self.regions
        return json.dumps([str(self.location), self.file, self.described, self.written, state])


class LastLook:
    """One look whether an array is still the one that was opened, for all parts of a read of it.

    Begun once the files of the last part are read: what was read before is of that array then.
    """

    def __init__(self, check: Callable[[], None], n_parts: int) -> None:
        self._check, self._n_left = check, n_parts
        self._lock = Lock()

    def part_is_read(self) -> None:
        """Look, if no other part is left."""
        with self._lock:
            self._n_left -= 1
            is_last = not self._n_left
        if is_last:
            self._check()


def _described(metadata: dict[str, Any]) -> str:
    return json.dumps({k: v for k, v in metadata.items() if k != "attributes"}, sort_keys=True)


def _described_by(raw: bytes) -> str:
    try:
        return _described(parse_json(raw))
    except (ValueError, AttributeError):
        return ""


def _is_described(raw: bytes, described: str, may_grow: bool) -> bool:
    """Tell whether a metadata file says what it said, but for a shape that has grown."""
    now = _described_by(raw)
    if now == described or not (may_grow and now):
        return now == described
    here, there = parse_json(now), parse_json(described)
    after, before = here.pop("shape", None), there.pop("shape", None)
    return bool(
        here == there
        and isinstance(after, list)
        and isinstance(before, list)
        and len(after) == len(before)
        and all(a >= b for a, b in zip(after, before, strict=True))
    )


def _job(head: bytes | None) -> str:
    """Give the write that made an array, of the first bytes of its manifest."""
    found = _JOB.search(head or b"")
    return found[1].decode() if found else ""
