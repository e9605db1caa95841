"""Checking a stored array against its manifest: each chunk file there, its size and CRC32C.

What one task of a check does: chunk files read, and held against their records.

Checking every level of an OME-Zarr image against its manifest.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from scout_dask_io.core.formatting import (
    Row,
    cut,
    format_count,
    format_found,
    format_nbytes,
    format_s,
)
from scout_dask_io.core.grid import Region, Shape, chunk_counts, chunk_region
from scout_dask_io.core.image_info import FilledPlane
from scout_dask_io.core.messages import Option
from scout_dask_io.core.ome_metadata import Multiscale
from scout_dask_io.errors import ArgumentError, ChunkReadError
from scout_dask_io.files.location import Location, ask_at_once, locate
from scout_dask_io.jobs.report import JobReport, filled_text
from scout_dask_io.run._dask import List, Task, TaskRef
from scout_dask_io.run.progress import Report, reporting
from scout_dask_io.run.scheduler import run_tasks, worker_count
from scout_dask_io.store.chunk_format import ChunkFormat, Decoder, format_at
from scout_dask_io.store.chunk_v2 import crc32c
from scout_dask_io.store.image import place_of_level
from scout_dask_io.store.image_info import filled_of_node
from scout_dask_io.store.manifest import UNKNOWN, Manifest, manifest_of
from scout_dask_io.store.metadata import Node, dtype_named
from scout_dask_io.store.nodes import find_node, open_node
from scout_dask_io.store.source import source_of_node
from scout_dask_io.write.preflight import preflight

# A task should last: 512 chunks of the default size are 270 MB of elements.
CHUNKS_PER_TASK = 512
TASK_NBYTES = 2**28
#: Chunks that are checked at most: their files would take years to write.
MAX_CHUNKS = 2**29


@dataclass(frozen=True, slots=True)
class CheckReport(JobReport):
    """What :func:`check` found.

    Attributes
    ----------
    path : str
        The array.
    deep : bool
        Whether chunks were decoded too.
    has_manifest : bool
        Without one, only what does not decode is noticed.
    mismatch : str
        How the metadata differ from the manifest; empty where they do not.
    n_chunks, n_files, n_empty : int
        Chunks of the grid, those with a file, and those that hold the fill value.
    n_missing, n_corrupt, n_extra, n_unknown : int
        Chunks that are not as they should be.
    bad : tuple of BadChunk
        The first of them, in C order.
    nbytes : int
        Bytes of chunk files read.
    filled : tuple of FilledPlane
        Planes that were never read: they hold the fill value, and are as written.
    elapsed_s : float
        From opening the array to this report.
    """

    path: str
    deep: bool
    has_manifest: bool
    mismatch: str
    n_chunks: int
    n_files: int
    n_empty: int
    n_missing: int
    n_corrupt: int
    n_extra: int
    n_unknown: int
    bad: tuple[BadChunk, ...]
    nbytes: int
    filled: tuple[FilledPlane, ...]
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return not (self.mismatch or self.bad or self.n_bad)

    @property
    def n_bad(self) -> int:
        """Chunks that are not as they should be."""
        return self.n_missing + self.n_corrupt + self.n_extra + self.n_unknown

    def title(self) -> str:
        """Say whether all is as it was written."""
        verdict = "as written" if self.ok else f"{self.n_bad:,} of {self.n_chunks:,} chunks are bad"
        return f"{self.path}: {self.mismatch or verdict}"

    def rows(self) -> Iterable[Row]:
        """Name what is bad, and say what was checked against what."""
        against = "its manifest" if self.has_manifest else "its metadata, as it has no manifest"
        yield from ((None, f"{bad.kind}: {bad.reason}") for bad in self.bad)
        if self.n_bad > len(self.bad):
            yield None, f"and {self.n_bad - len(self.bad):,} more"
        rate = format_nbytes(self.nbytes / max(self.elapsed_s, 1e-9))
        files = format_count(self.n_files, "chunk file")
        yield (
            None,
            (
                f"checked {files}, {format_nbytes(self.nbytes)}, against {against}; "
                f"{self.n_empty:,} chunks are empty; {format_s(self.elapsed_s)}, {rate}/s"
            ),
        )
        yield from ((None, line) for line in filled_text(self.filled))


def check(
    path: str | os.PathLike[str] | Location,
    *,
    deep: bool = False,
    nb_workers: int | None = None,
    progress: bool | Report = False,
    limit: int = 10,
    storage_options: Mapping[str, Any] | None = None,
) -> CheckReport:
    """Check the chunk files of a stored array against its manifest. Nothing is written.

    Each file is read whole, on the scheduler that dask is set to, and its size
    and CRC32C are compared; so any change on the disk is found, and a missing
    chunk is told from an empty one. Chunks that were overwritten through a
    ``zarr.Array`` since count as corrupt: the manifest is of what
    :func:`~scout_dask_io.write_zarr` wrote.

    Parameters
    ----------
    path : path-like
        The array's directory, or its URL.
    deep : bool
        Decode the chunks too. An array without a manifest can be checked so
        alone, and then a missing chunk cannot be told from an empty one.
    nb_workers : int, optional
        Files read at once in one process; by default one a core.
    progress : bool or callable
        As for :func:`~scout_dask_io.write_zarr`.
    limit : int
        How many bad chunks to name.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Raises
    ------
    PathNotFoundError, LayoutError
        If there is no array, or its metadata or manifest are damaged.
    ArgumentError
        If it has no manifest and ``deep`` is not given, or has filters or an unknown codec.
    """
    return check_node(
        open_node(locate(path, storage_options)),
        deep=deep,
        nb_workers=nb_workers,
        progress=progress,
        limit=limit,
    )


def check_node(
    node: Node, *, deep: bool, nb_workers: int | None, progress: bool | Report, limit: int
) -> CheckReport:
    """Check an array that was opened, as :func:`check` does."""
    start = time.perf_counter()
    root = node.location
    source = source_of_node(node)  # its errors say what lies there instead
    fmt = format_at(node)
    if fmt is None:
        raise ArgumentError(
            f"{root} is not a plain array of numbers (it has filters or an unknown codec): it "
            "cannot be checked chunk by chunk"
        )
    manifest = manifest_of(node)
    if manifest is None and not deep:
        raise ArgumentError(
            f"{root} has no manifest: it was not written by write_zarr or convert, or is older. "
            + Option("deep", True)
            + " decodes every chunk; or give a source to compare with."
        )
    counts = chunk_counts(fmt.shape, fmt.chunks)
    mismatch = "" if manifest is None else _mismatch(fmt, manifest, counts)
    records = None if manifest is None or mismatch else manifest.records.reshape(-1)
    preflight([source])
    workers = worker_count(nb_workers)
    parts = _run(root, fmt, records, counts, deep, workers, progress, limit)
    total = sum((p.counts for p in parts), Counter[str]())
    return CheckReport(
        path=str(root),
        deep=deep,
        has_manifest=manifest is not None,
        mismatch=mismatch,
        n_chunks=math.prod(counts),
        n_files=total["file"],
        n_empty=total["empty"],
        n_missing=total["missing"],
        n_corrupt=total["corrupt"],
        n_extra=total["extra"],
        n_unknown=total["unknown"],
        bad=tuple(b for p in parts for b in p.bad)[:limit],
        nbytes=sum(p.nbytes for p in parts),
        filled=filled_of_node(node),
        elapsed_s=time.perf_counter() - start,
    )


def _mismatch(fmt: ChunkFormat, manifest: Manifest, counts: Shape) -> str:
    """Say how an array's metadata differ from those that it was written with."""
    for name, value in fmt.described().items():
        written = manifest.settings.get(name, value)
        if name == "dtype":
            with suppress(ValueError):  # which is another, then
                written = dtype_named(written).str
        if written != value:
            said = written if isinstance(written, str) else format_found(written)
            return f"the {name} is {value} in the metadata, the manifest says {cut(said)}"
    if manifest.records.shape != counts:
        return f"the chunk grid is {counts}, the manifest's {manifest.records.shape}"
    return ""


def _run(
    root: Location,
    fmt: ChunkFormat,
    records: np.ndarray | None,
    counts: Shape,
    deep: bool,
    workers: int,
    progress: bool | Report,
    limit: int,
) -> list[Part]:
    n_chunks = math.prod(counts)
    if n_chunks > MAX_CHUNKS:
        raise ArgumentError(
            f"{root} has {n_chunks:,} chunks by its metadata, expected at most {MAX_CHUNKS:,} to "
            "check one by one. Check shape and chunks there: they may be damaged."
        )
    tasks: dict[Any, Any] = {}
    step = min(CHUNKS_PER_TASK, max(1, TASK_NBYTES // max(fmt.chunk_nbytes, 1)))
    for unit, first in enumerate(range(0, n_chunks, step)):
        last = min(first + step, n_chunks)
        part = None if records is None else records[first:last]
        key = ("check", unit)
        tasks[key] = Task(key, check_chunks, root, fmt, first, last, part, deep, limit)
    units = set(tasks)
    tasks["check-report"] = Task("check-report", list, List(*map(TaskRef, list(tasks))))
    # The arrays of an image are called by numbers.
    name = "/".join(str(root).split("/")[-2:]) if root.name.isdigit() else root.name
    with reporting(progress, f"check {name}") as report:
        found: list[Part] = run_tasks(
            tasks, "check-report", units, nb_workers=workers, report=report
        )
    return found


@dataclass(frozen=True, slots=True)
class BadChunk:
    """A chunk that is not what the manifest says.

    Attributes
    ----------
    kind : str
        ``"missing"``: a file was written and is not there; ``"corrupt"``: it has
        another size or checksum, or does not decode; ``"extra"``: a file where
        every element is the fill value; ``"unknown"``: in a region whose writing
        was not finished.
    index : tuple of int
        In the chunk grid.
    region : tuple of slice
        Where it lies in the array.
    reason : str
        What was found and what was expected.
    """

    kind: str
    index: Shape
    region: Region
    reason: str


@dataclass(frozen=True, slots=True)
class Part:
    """What one task found; as an int, the bytes that it read."""

    counts: Counter[str]
    bad: tuple[BadChunk, ...]
    nbytes: int

    def __int__(self) -> int:
        return self.nbytes


def check_chunks(
    root: Location,
    fmt: ChunkFormat,
    first: int,
    last: int,
    records: np.ndarray | None,
    deep: bool,
    limit: int,
) -> Part:
    """Check the chunks from one number in the grid to another, against their records if any."""
    counts: Counter[str] = Counter()
    bad: list[BadChunk] = []
    nbytes = 0
    grid = chunk_counts(fmt.shape, fmt.chunks)
    decoder = fmt.decoder() if deep else None
    indices = [tuple(map(int, np.unravel_index(n, grid))) for n in range(first, last)]
    files = root.iter_files(map(fmt.chunk_key, indices), fmt.max_nbytes)
    for (number, index), (key, data) in zip(enumerate(indices), files, strict=True):
        expected = None if records is None else tuple(map(int, records[number]))
        kind, reason, size = _check_one(f"{root}/{key}", data, expected, decoder)
        counts[kind] += 1
        counts["file"] += size > 0 and kind != "file"
        nbytes += size
        if reason and len(bad) < limit:
            region = chunk_region(index, fmt.shape, fmt.chunks)
            bad.append(BadChunk(kind, index, region, reason))
    return Part(counts, tuple(bad), nbytes)


def _check_one(
    path: str,
    data: memoryview | bytes | ChunkReadError | None,
    expected: Sequence[int] | None,
    decoder: Decoder | None,
) -> tuple[str, str, int]:
    """Give what a chunk is, what is wrong with it, and the bytes read."""
    if isinstance(data, ChunkReadError):
        return "corrupt", str(data), 0
    if expected is not None and expected[0] == UNKNOWN["nbytes"]:
        return "unknown", f"{path}: the writing of its region was not finished", len(data or b"")
    if data is None:
        if expected is None or expected[0] == 0:
            return "empty", "", 0
        return "missing", f"{path} is missing: it had {expected[0]} bytes", 0
    if expected is not None and expected[0] == 0:
        return "extra", f"{path}: a file of {len(data)} bytes, the chunk was empty", len(data)
    found = (len(data), crc32c(data))
    if expected is not None and found != tuple(expected):
        reason = (
            f"{path}: {found[0]} bytes of CRC32C {found[1]:08x}, "
            f"written were {expected[0]} of {expected[1]:08x}"
        )
        return "corrupt", reason, len(data)
    if decoder is not None:
        try:
            decoder.decode(data, path)
        except ChunkReadError as err:
            return "corrupt", str(err), len(data)
    return "file", "", len(data)


@dataclass(frozen=True, slots=True)
class ImageCheckReport(JobReport):
    """What :func:`check_image` found.

    Attributes
    ----------
    path : str
        The group.
    mismatch : str
        How its levels differ from those that were written; empty where they do not.
    levels : tuple of CheckReport
        A report for each level that is there, the full one first.
    elapsed_s : float
        From opening the image to this report.
    """

    path: str
    mismatch: str
    levels: tuple[CheckReport, ...]
    elapsed_s: float

    @property
    def ok(self) -> bool:
        """Whether all levels are as they should be."""
        return not self.mismatch and all(level.ok for level in self.levels)

    @property
    def n_bad(self) -> int:
        """Chunks of all levels that are not as they should be."""
        return sum(level.n_bad for level in self.levels)

    def title(self) -> str:
        """Say whether all levels are as they were written."""
        bad = [str(n) for n, level in enumerate(self.levels) if not level.ok]
        verdict = f"of which not as written: {', '.join(bad)}" if bad else "as written"
        count = format_count(len(self.levels), "level")
        return f"{self.path}: {self.mismatch or f'{count}, {verdict}'}"

    def rows(self) -> Iterable[Row]:
        """Give the report of each level."""
        for level in self.levels:
            yield from ((None, line) for line in level.render().splitlines())


def check_image(node: Node, image: Multiscale, **options: Any) -> ImageCheckReport:
    """Check the levels of an image that was opened, each as :func:`check` does.

    Raises
    ------
    LayoutError
        If the metadata or a manifest are damaged.
    ArgumentError
        If a level has no manifest and ``deep`` is not given.
    """
    start = time.perf_counter()
    places = [place_of_level(node.location, image, n) for n in range(len(image.levels))]
    levels = ask_at_once(node.location, [partial(find_node, place) for place in places])
    lost = [str(n) for n, level in enumerate(levels) if level is None]
    mismatch = f"level {', '.join(lost)} is not there" if lost else _level_mismatch(node, image)
    return ImageCheckReport(
        path=str(node.location),
        mismatch=mismatch,
        levels=tuple(check_node(level, **options) for level in levels if level is not None),
        elapsed_s=time.perf_counter() - start,
    )


def _level_mismatch(node: Node, image: Multiscale) -> str:
    manifest = manifest_of(node)
    written = None if manifest is None else manifest.settings.get("levels")
    if written is None or len(written) == len(image.levels):
        return ""
    return f"the metadata name {len(image.levels)} levels, {len(written)} were written"
