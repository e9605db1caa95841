"""Quality control of a write: what its units gathered of the planes, put beside the array."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise, tee
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.axes import axes_of, stated_axes
from scout_dask_io.core.grid import Blocks, Shape, cuts
from scout_dask_io.core.image_info import ImageInfo, named_channels
from scout_dask_io.core.messages import OVERWRITE, RESUME
from scout_dask_io.core.plan import WritePlan
from scout_dask_io.core.source import Source
from scout_dask_io.core.voxel_size import ATTRIBUTE, from_attribute
from scout_dask_io.errors import ArgumentError, ResumeError
from scout_dask_io.files.disk import naming_errors
from scout_dask_io.files.location import Location
from scout_dask_io.read.missing_planes import filled_in
from scout_dask_io.run.lazy import source_of
from scout_dask_io.store.sidecar import HTML_SUFFIX, JSON_SUFFIX, has_beside
from scout_dask_io.write.qc.findings import Duplicates, Subject, qc_document
from scout_dask_io.write.qc.sheet import html_sheet
from scout_dask_io.write.qc.summary import VolumeSummary, candidates, summarise
from scout_dask_io.write.unit import Target, record_name

#: Bytes of elements that are read again at most, to prove that planes are equal.
PROOF_NBYTES = 4 * 2**30


def check_qc(shape: Shape, kind: np.dtype[Any], destination: Location) -> None:
    """Refuse what nothing can be told of, before anything is created.

    Raises
    ------
    ArgumentError
        If the array has no planes, or is complex, or if nothing can lie beside it.
    """
    if len(shape) < 2 or 0 in shape or kind.kind not in "biuf":
        raise ArgumentError(
            "qc tells of planes (y, x) of a bool, integer or float dtype, got an array of shape "
            f"{shape} and dtype {kind.name}: leave qc out"
        )
    check_qc_place(destination)


def check_qc_place(destination: Location) -> None:
    """Refuse a destination beside which no sheet can lie. Nothing is looked at.

    Raises
    ------
    ArgumentError
        If it is a whole bucket of an object store.
    """
    try:
        destination.name.encode()
    except UnicodeEncodeError as err:
        raise ArgumentError(
            f"{os.fsencode(destination.name)!r} is a name that is not UTF-8, and the sheet of qc "
            "has it in its text: give the array another, or leave qc out"
        ) from err
    if not has_beside(destination):
        raise ArgumentError(
            f"{destination} is a whole bucket, and what qc gathers lies beside the array: give a "
            f"name in it, such as {destination}/a.zarr, or leave qc out"
        )


def info_of(
    attributes: dict[str, Any] | None, shape: Shape, axes: Sequence[Any] | None = None
) -> ImageInfo:
    """Give what the attributes of an array that is written say of it."""
    names = (attributes or {}).get("channels")
    channels = named_channels([str(n) for n in names]) if isinstance(names, (list, tuple)) else ()
    size = from_attribute((attributes or {}).get(ATTRIBUTE), "")
    known = stated_axes(axes, len(shape)) or axes_of(len(shape), channels=names is not None)
    return ImageInfo(known, size, channels)


def subject_of(destination: Location, data: Any, plan: WritePlan, info: ImageInfo) -> Subject:
    """Give what the sheet says of an array that is written from ``data``."""
    info = replace(info, missing=filled_in(data))
    return Subject(destination.name, _origin(data), plan.shape, plan.dtype, info)


def _origin(data: Any) -> str:
    source = data if isinstance(data, Source) else None
    if isinstance(data, da.Array):
        source = source_of(data)
    files = [path for path, _ in source.sample_files()] if source is not None else []
    if not files:
        return "a computed array"
    # Of a single file, the file; of a Zarr array's metadata, the array.
    common = os.path.commonpath(files)
    return os.path.dirname(common) if os.path.basename(common).startswith(".z") else common


def put_sheet(target: Target, units: Blocks, subject: Subject) -> None:
    """Make both files from the records of the units, ready to get their names with the array.

    Planes that seem equal are read from the growing array and compared, as far as
    4 GiB of elements go.

    Raises
    ------
    ResumeError
        If a unit has no record.
    WriteError, ChunkReadError
        If a file or object cannot be read or written.
    """
    txn, level = target.transaction, target.level
    if not txn.exists():
        return  # whoever commits says so

    def load(units: Iterable[int]) -> Iterator[bytes]:
        numbers, names = tee(units)
        records = txn.kept(level, map(record_name, names))
        for unit, found in zip(numbers, records, strict=True):
            if found is None:
                raise ResumeError(
                    f"unit {unit} has no record in {txn.where}: the write is not complete. The "
                    "same call with " + RESUME + " goes on."
                )
            yield found

    with naming_errors(txn.where, "what was gathered of the planes cannot be put together"):
        try:
            summary = summarise(target.format.shape, target.format.dtype, units, load)
        except ValueError as err:
            raise ResumeError(
                f"the records in {txn.where} cannot be understood: {err}. Start afresh, with "
                + OVERWRITE
                + " and no "
                + RESUME.name
                + "."
            ) from err
        same = _equal_planes(txn.source(level), summary)
        written = datetime.now(UTC).isoformat(timespec="seconds")
        document = qc_document(subject, summary, same, written)
        contents = {
            JSON_SUFFIX: json.dumps(document, allow_nan=False),
            HTML_SUFFIX: html_sheet(document, summary.projections),
        }
        txn.put_beside(contents)


def _equal_planes(source: Source, summary: VolumeSummary) -> list[Duplicates]:
    """Give the groups of planes that are equal, by every pixel as far as reading goes."""
    groups = candidates(summary)
    if not groups:
        return []
    found, left = [], PROOF_NBYTES
    for group in groups:
        nbytes = _reading_nbytes(source, group)
        if nbytes > left:
            found.append(Duplicates(tuple(group), compared=False))
            continue
        left -= nbytes
        by_digest: dict[bytes, list[int]] = {}
        for plane, digest in _digests(source, group, summary.lead):
            by_digest.setdefault(digest, []).append(plane)
        equal = (tuple(planes) for planes in by_digest.values() if len(planes) > 1)
        found.extend(Duplicates(planes, compared=True) for planes in equal)
    return found


def _reading_nbytes(source: Source, group: Sequence[int]) -> int:
    slab = math.prod(source.read_shape[:-2])
    return len(group) * slab * math.prod(source.shape[-2:]) * source.dtype.itemsize


def _digests(source: Source, group: Sequence[int], lead: Shape) -> Iterator[tuple[int, bytes]]:
    """Yield a plane and what tells its pixels from others, in rows of chunks."""
    rows = cuts(source.shape[-2], source.read_shape[-2])
    for plane in group:
        index = np.unravel_index(plane, lead)
        at = tuple(slice(int(i), int(i) + 1) for i in index)[: source.ndim - 2]
        digest = hashlib.blake2b(digest_size=16)
        for start, stop in pairwise(rows):
            digest.update(source[(*at, slice(start, stop), slice(None))].tobytes())
        yield plane, digest.digest()
