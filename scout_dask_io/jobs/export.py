"""Exporting a stored array as TIFF: one file, or a folder of planes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import dask.array as da

from scout_dask_io.amplification import axis_amplification
from scout_dask_io.errors import (
    ArgumentError,
    MemoryLimitError,
    PathNotFoundError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.execute import worker_count
from scout_dask_io.grid import (
    Region,
    Shape,
    chunk_counts,
    full_region,
    iter_regions,
    region_size,
)
from scout_dask_io.human import format_nbytes
from scout_dask_io.lazy import source_of
from scout_dask_io.memory import resolve_max_mem
from scout_dask_io.progress import Report, reporting
from scout_dask_io.source import Source
from scout_dask_io.store.zarr_source import open_source
from scout_dask_io.tiff.draft import Strip, TiffDraft
from scout_dask_io.tiff.encode import TiffLayout, encode_strip, plan_layout
from scout_dask_io.tiff_writer import check_target, in_order, iter_rows

__all__ = ["ExportReport", "export"]

# What one thread reads at a time, where max_mem allows and the chunks ask for
# no more: long against the overhead, short against the memory.
PART_NBYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What :func:`export` wrote.

    Attributes
    ----------
    path : str
        The file or the folder.
    n_files : int
        TIFF files written.
    shape : tuple of int
        Of the array, in elements.
    dtype : str
        Of the elements.
    nbytes, stored_nbytes : int
        Size of the elements, and of the files, in bytes.
    read_amplification : float
        How often a chunk was decoded, on average; above 1 where ``max_mem``
        does not hold a row of chunks.
    elapsed_s : float
        From opening the source to the last file standing.
    """

    path: str
    n_files: int
    shape: Shape
    dtype: str
    nbytes: int
    stored_nbytes: int
    read_amplification: float
    elapsed_s: float


def export(
    src: Any,
    out: str | os.PathLike[str],
    *,
    compress: int = 1,
    nb_workers: int | None = None,
    max_mem: int | str | None = None,
    overwrite: bool = False,
    progress: bool | Report = False,
) -> ExportReport:
    """Write a stored array as one TIFF file, or as a folder with one file a plane.

    One file if the name ends in ``.tif`` or ``.tiff``, as :func:`imsave` writes
    it. Otherwise a folder: ``z0000.tif``, ``z0001.tif`` … of a ``(z, y, x)``
    array; of a ``(c, z, y, x)`` array one folder of these a channel, ``c0``,
    ``c1`` …, which :func:`imread_channels` reads.

    Threads read rows of whole chunks, encode and write them, so each chunk is
    decoded once. Memory is ``nb_workers + 1`` times what a row of chunks takes
    (the planes of a chunk, its rows, the array's whole width) before and after
    encoding. Where that exceeds ``max_mem``, fewer threads run; where one is
    too many, it takes fewer planes at a time and decodes chunks more than once.

    Every file appears when it is whole. After a failure the planes of earlier
    slabs stand, the others are absent or as they were, and no part of a file
    is left.

    Parameters
    ----------
    src : str, path-like, Source or dask.array.Array
        Path of a Zarr array; or a source, or a lazy array as a reader gave it.
    out : str or path-like
        The file or the folder; its parent must exist.
    compress : int
        0 uncompressed, 1 (fast) to 9 (small) Deflate; lossless.
    nb_workers : int, optional
        Threads that read and encode at once; ``None`` for as many as dask uses.
    max_mem : int or str, optional
        What the export may use, in bytes or as ``"2GB"``; by default a quarter
        of what is free.
    overwrite : bool
        Replace files of the same names. Nothing else is touched, and a folder
        that holds other planes is refused, since it would read as a mixture.
    progress : bool or callable
        ``True`` for a bar, or ``f(done_units, total_units, done_nbytes)``.

    Raises
    ------
    ArgumentError
        If the source or an argument is not what is described here.
    PathNotFoundError
        If the source, or the parent of ``out``, does not exist.
    TargetExistsError
        If ``out`` holds something, and ``overwrite`` is not given or does not
        allow it.
    MemoryLimitError
        If not even one plane's row of chunks fits in ``max_mem``.
    WriteError
        If a file cannot be written.
    """
    start = time.perf_counter()
    source = _open_source(src)
    job = _plan_job(source, compress, worker_count(nb_workers), resolve_max_mem(max_mem))
    target = Path(out)
    if target.suffix.lower() in (".tif", ".tiff"):
        files, layout = _one_file(target, job, src, overwrite), job.layout
    else:
        files, layout = _folder_of_planes(target, job, src, overwrite), job.page_layout
    with reporting(progress, "export") as report:
        _run(job, files, layout, report)
    paths = {path for path, _ in files.values()}
    return ExportReport(
        path=os.fspath(target),
        n_files=len(paths),
        shape=source.shape,
        dtype=str(source.dtype),
        nbytes=source.nbytes,
        stored_nbytes=sum(os.stat(p).st_size for p in paths),
        read_amplification=job.read_amplification,
        elapsed_s=time.perf_counter() - start,
    )


@dataclass(frozen=True, slots=True)
class _Job:
    """How an array is read, encoded and held in memory."""

    source: Source
    layout: TiffLayout
    row_step: int
    slab: Shape
    rows: int
    nb_workers: int
    ahead: int
    read_amplification: float

    @property
    def page_layout(self) -> TiffLayout:
        """Of a file that holds one page; its strips are cut as in a file of all pages."""
        lay = self.layout
        shape = lay.shape[len(lay.lead) :]
        return plan_layout(shape, lay.dtype, lay.compress, step=self.row_step)

    def iter_parts(self) -> Iterator[Region]:
        """Yield regions of whole rows that tile the array, slab after slab, top row first."""
        whole = full_region(self.layout.shape)[len(self.layout.lead) + 1 :]
        for slab in iter_regions(self.layout.lead, self.slab):
            for (rows,) in iter_regions((self.layout.height,), (self.rows,)):
                yield (*slab, rows, *whole)

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        counts = chunk_counts((*self.layout.lead, self.layout.height), (*self.slab, self.rows))
        return math.prod(counts)

    def encode(self, region: Region) -> tuple[Region, list[Strip]]:
        """Read a region and encode its rows; runs in threads."""
        pieces = [(region, self.source.read(region))]
        rows = iter_rows(pieces, self.layout.shape, self.layout)
        return region, [(page, row, encode_strip(self.layout, v)) for page, row, v in rows]


#: For each page of the array, the file that it goes to and its page number there.
_Files = dict[int, tuple[Path, int]]


def _open_source(src: Any) -> Source:
    if isinstance(src, Source):
        return src
    if isinstance(src, (str, os.PathLike)):
        return open_source(src)
    source = source_of(src) if isinstance(src, da.Array) else None
    if source is None:
        raise ArgumentError(
            "export takes the path of a Zarr array, or a lazy array just as a reader gave it, got "
            f"{src!r}. Write a computed array with imsave, or with write_zarr first."
        )
    return source


def _plan_job(source: Source, compress: int, nb_workers: int, max_mem: int) -> _Job:
    """Choose the parts, the least that decode no chunk twice, and how many are in memory."""
    row_axis = source.ndim - plan_layout(source.shape, source.dtype, compress).n_page_axes
    chunk = tuple(min(c, n) for c, n in zip(source.read_shape, source.shape, strict=True))
    step = chunk[row_axis]
    layout = plan_layout(source.shape, source.dtype, compress, step=step)
    least = min(math.lcm(step, layout.row_step), layout.height)
    row_nbytes = math.prod(source.shape[row_axis + 1 :]) * source.dtype.itemsize
    slab = list(chunk[:row_axis])
    while True:
        slab_nbytes = math.prod(slab) * row_nbytes * least
        grown = min(least * max(1, PART_NBYTES // slab_nbytes), layout.height)
        for rows in (grown, least):
            # A part before and after encoding, and the chunk in hand before and after decoding.
            mem = 2 * math.prod(slab) * row_nbytes * rows
            mem += 2 * math.prod(chunk) * source.dtype.itemsize
            at_once = max_mem // mem
            if at_once >= 1:
                amplification = math.prod(
                    axis_amplification(n, s, c)
                    for n, s, c in zip(source.shape, slab, chunk, strict=False)
                )
                workers = max(1, min(nb_workers, at_once - 1))
                ahead = min(workers + 1, at_once)
                return _Job(source, layout, step, tuple(slab), rows, workers, ahead, amplification)
        if math.prod(slab) == 1:
            raise MemoryLimitError(
                f"max_mem={format_nbytes(max_mem)} cannot hold {least} rows of one plane of shape "
                f"{source.shape[row_axis:]} {source.dtype} and a chunk of {chunk}: about "
                f"{format_nbytes(mem)} are needed. Raise max_mem."
            )
        longest = max(range(len(slab)), key=lambda axis: slab[axis])
        slab[longest] = -(-slab[longest] // 2)


def _one_file(target: Path, job: _Job, src: Any, overwrite: bool) -> _Files:
    file = check_target(target)
    _refuse_inside_source(file, src)
    if file.exists() and not overwrite:
        raise TargetExistsError(
            f"{file} already exists: give another name, or overwrite=True to replace it"
        )
    return {page: (file, page) for page in range(job.layout.n_pages)}


def _folder_of_planes(target: Path, job: _Job, src: Any, overwrite: bool) -> _Files:
    """Check the folder, name its files and create the folders; nothing else is created."""
    lead = job.layout.lead
    if len(lead) > 2:
        raise ArgumentError(
            f"a folder holds planes, or channels of planes, and the array has shape "
            f"{job.source.shape}: give a name that ends in .tif to write one file"
        )
    n_channels, n_planes = (1, 1, *lead)[-2:]
    width = max(4, len(str(n_planes - 1)))
    names = [f"z{z:0{width}d}.tif" for z in range(n_planes)]
    folders = [target]
    if len(lead) == 2:
        width = len(str(n_channels - 1))
        folders = [target / f"c{c:0{width}d}" for c in range(n_channels)]
    if not target.parent.is_dir():
        raise PathNotFoundError(
            f"{target} cannot be written: there is no directory {target.parent}. Create it first."
        )
    _refuse_inside_source(target, src)
    for folder in dict.fromkeys((target, *folders)):
        if folder.exists() and not folder.is_dir():
            raise TargetExistsError(f"{folder} is a file: give the name of a folder to write")
    if target.is_dir() and any(target.iterdir()):
        _refuse_mixture(target, folders, names, overwrite)
    for folder in dict.fromkeys((target, *folders)):
        try:
            folder.mkdir(exist_ok=True)
        except OSError as err:
            raise WriteError(f"{folder} cannot be made: {err.strerror or err}") from err
    paths = [check_target(folder / name) for folder in folders for name in names]
    return {page: (path, 0) for page, path in enumerate(paths)}


def _refuse_inside_source(target: Path, src: Any) -> None:
    if isinstance(src, (str, os.PathLike)):
        inside = Path(os.path.realpath(target))
        if inside.is_relative_to(os.path.realpath(src)):
            raise ArgumentError(f"{target} lies inside the array {src} that is exported")


def _refuse_mixture(target: Path, folders: list[Path], names: list[str], overwrite: bool) -> None:
    """Raise unless what a folder holds is replaced, or is not read as planes or channels."""
    if not overwrite:
        raise TargetExistsError(
            f"{target} is not empty: give a new folder, or overwrite=True to replace the planes "
            "of the same names"
        )
    meant = set(names)
    others = [
        path
        for folder in folders
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in (".tif", ".tiff") and path.name not in meant
    ]
    if folders != [target]:
        others += [p for p in sorted(target.iterdir()) if p.is_dir() and p not in folders]
    others = [p for p in others if not p.name.startswith(".")]
    if others:
        raise TargetExistsError(
            f"{target} holds {len(others)} planes or folders besides those to be written, such "
            f"as {others[0].name!r}, and would read as a mixture: give a new folder, or remove "
            "them"
        )


def _run(job: _Job, files: _Files, layout: TiffLayout, report: Report | None) -> None:
    """Read and encode in threads, write in order, publish each file when it is whole."""
    done = nbytes = 0
    drafts: dict[Path, TiffDraft] = {}
    regions = ((region,) for region in job.iter_parts())
    try:
        with closing(in_order(job.encode, regions, job.nb_workers, job.ahead)) as encoded:
            for region, strips in encoded:
                _write_strips(strips, files, layout, drafts)
                strips.clear()  # not to be held while the next part is awaited
                done += 1
                nbytes += region_size(region) * job.source.dtype.itemsize
                if report is not None:
                    report(done, job.n_parts, nbytes)
    finally:
        for draft in drafts.values():
            draft.discard()


def _write_strips(
    strips: list[Strip], files: _Files, layout: TiffLayout, drafts: dict[Path, TiffDraft]
) -> None:
    for page, rows in groupby(strips, key=itemgetter(0)):
        path, number = files[page]
        if path not in drafts:
            drafts[path] = TiffDraft(path, layout)
        drafts[path].write((number, row, data) for _, row, data in rows)
        if drafts[path].is_whole:
            drafts[path].publish()
            del drafts[path]
