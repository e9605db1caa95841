"""Checking a stored array against its manifest: each chunk file there, its size and CRC32C."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from dask._task_spec import List, Task, TaskRef

from scout_dask_io.core.formatting import format_count, format_nbytes, format_s
from scout_dask_io.core.grid import Shape, chunk_counts
from scout_dask_io.core.source import FilledPlane
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import AnyPath, RemotePath, locate
from scout_dask_io.jobs.check_chunks import BadChunk, Part, check_chunks
from scout_dask_io.jobs.json_text import to_json
from scout_dask_io.jobs.report import filled_text
from scout_dask_io.read.missing_planes import filled_of
from scout_dask_io.run.admission import Asked
from scout_dask_io.run.progress import Report, reporting
from scout_dask_io.run.scheduler import admitting, run_tasks, worker_count
from scout_dask_io.store.chunk_format import StoredFormat, format_at
from scout_dask_io.store.manifest import Manifest, read_manifest
from scout_dask_io.store.source import open_source
from scout_dask_io.write.preflight import preflight

__all__ = ["CheckReport", "check"]

# A task should last: 512 chunks of the default size are 270 MB of elements.
CHUNKS_PER_TASK = 512
TASK_NBYTES = 2**28


@dataclass(frozen=True, slots=True)
class CheckReport:
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

    def to_json(self) -> str:
        """Give the report as JSON."""
        return to_json(self)

    def render(self) -> str:
        """Give the report as text."""
        against = "its manifest" if self.has_manifest else "its metadata, as it has no manifest"
        verdict = "as written" if self.ok else f"{self.n_bad:,} of {self.n_chunks:,} chunks are bad"
        lines = [f"{self.path}: {self.mismatch or verdict}"]
        lines += [f"  {bad.kind}: {bad.reason}" for bad in self.bad]
        if self.n_bad > len(self.bad):
            lines.append(f"  and {self.n_bad - len(self.bad):,} more")
        rate = format_nbytes(self.nbytes / max(self.elapsed_s, 1e-9))
        lines.append(
            f"  checked {format_count(self.n_files, 'chunk file')}, {format_nbytes(self.nbytes)}, "
            f"against {against}; {self.n_empty:,} chunks are empty; "
            f"{format_s(self.elapsed_s)}, {rate}/s"
        )
        return "\n".join([*lines, *(f"  {line}" for line in filled_text(self.filled))])


def check(
    path: str | os.PathLike[str] | RemotePath,
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
    start = time.perf_counter()
    root = locate(path, storage_options)
    source = open_source(root)  # its errors say what lies there instead
    fmt = format_at(root)
    if fmt is None:
        raise ArgumentError(
            f"{root} is not a plain array of numbers (it has filters or an unknown codec): it "
            "cannot be checked chunk by chunk"
        )
    manifest = read_manifest(root)
    if manifest is None and not deep:
        raise ArgumentError(
            f"{root} has no manifest: it was not written by write_zarr or convert, or is older. "
            "deep=True decodes every chunk; or give a source to compare with."
        )
    counts = chunk_counts(fmt.shape, fmt.chunks)
    mismatch = "" if manifest is None else _mismatch(fmt, manifest, counts)
    records = None if manifest is None or mismatch else manifest.records.reshape(-1)
    asked = preflight([source])
    workers = worker_count(nb_workers)
    parts = _run(root, fmt, records, counts, deep, workers, progress, limit, asked)
    total = sum((p.counts for p in parts), Counter[str]())
    return CheckReport(
        path=str(root),
        deep=deep,
        has_manifest=manifest is not None,
        mismatch=mismatch,
        n_chunks=int(np.prod(counts)),
        n_files=total["file"],
        n_empty=total["empty"],
        n_missing=total["missing"],
        n_corrupt=total["corrupt"],
        n_extra=total["extra"],
        n_unknown=total["unknown"],
        bad=tuple(b for p in parts for b in p.bad)[:limit],
        nbytes=sum(p.nbytes for p in parts),
        filled=filled_of(root),
        elapsed_s=time.perf_counter() - start,
    )


def _mismatch(fmt: StoredFormat, manifest: Manifest, counts: Shape) -> str:
    """Say how an array's metadata differ from those that it was written with."""
    for name, value in fmt.described().items():
        written = manifest.settings.get(name, value)
        if name == "dtype":
            written = np.dtype(written).str
        if written != value:
            return f"the {name} is {value} in the metadata, the manifest says {written}"
    if manifest.records.shape != counts:
        return f"the chunk grid is {counts}, the manifest's {manifest.records.shape}"
    return ""


def _run(
    root: AnyPath,
    fmt: StoredFormat,
    records: np.ndarray | None,
    counts: Shape,
    deep: bool,
    workers: int,
    progress: bool | Report,
    limit: int,
    asked: Asked | None,
) -> list[Part]:
    n_chunks = int(np.prod(counts))
    tasks: dict[Any, Any] = {}
    step = min(CHUNKS_PER_TASK, max(1, TASK_NBYTES // max(fmt.chunk_nbytes, 1)))
    for unit, first in enumerate(range(0, n_chunks, step)):
        last = min(first + step, n_chunks)
        part = None if records is None else records[first:last]
        key = ("check", unit)
        tasks[key] = Task(key, check_chunks, root, fmt, first, last, part, deep, limit)
    units = set(tasks)
    tasks = admitting(tasks, units, asked)
    tasks["check-report"] = Task("check-report", list, List(*map(TaskRef, list(tasks))))
    # The arrays of an image are called by numbers.
    name = "/".join(str(root).split("/")[-2:]) if root.name.isdigit() else root.name
    with reporting(progress, f"check {name}") as report:
        found: list[Part] = run_tasks(
            tasks, "check-report", units, nb_workers=workers, report=report, asked=asked
        )
    return found
