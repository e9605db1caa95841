"""What a path holds, told without reading pixels."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scout_dask_io.calibration import voxel_size
from scout_dask_io.execute import check_nb_workers
from scout_dask_io.filled import filled_of
from scout_dask_io.grid import Shape
from scout_dask_io.human import format_count, format_nbytes, format_shape
from scout_dask_io.jobs.render import filled_text, to_json
from scout_dask_io.jobs.sources import kind_of, open_any
from scout_dask_io.lazy import source_of
from scout_dask_io.remote import AnyPath, RemotePath, locate
from scout_dask_io.sharding import advise_shards
from scout_dask_io.source import FilledPlane
from scout_dask_io.store.growing import Unfinished, unfinished
from scout_dask_io.store.layout import detect_layout
from scout_dask_io.store.manifest import ManifestInfo, manifest_info
from scout_dask_io.store.metadata import Node, read_attributes, read_node
from scout_dask_io.store.usage import chunk_grid, measure_array
from scout_dask_io.tiff.info import TiffInfo, describe_path
from scout_dask_io.tiff.layout import CODEC_NAMES
from scout_dask_io.tiff.source import TiffSource
from scout_dask_io.voxel import VoxelSize

__all__ = ["InfoReport", "info"]

# As Zarr v2 metadata have it; v3 says it in words.
_BLOSC_SHUFFLES = {-1: "auto", 0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


@dataclass(frozen=True, slots=True)
class InfoReport:
    """What :func:`info` found; what does not apply is ``None`` or empty.

    Attributes
    ----------
    path, kind : str
        ``kind`` is ``"TIFF file"``, ``"folder of planes"``, ``"channel
        dataset"``, ``"Zarr array"`` or ``"Zarr group"``.
    shape : tuple of int or None
        In elements.
    dtype : str or None
        Of the elements; a foreign byte order of a Zarr array shows, as in ``">u2"``.
    axes : str or None
        A letter an axis, e.g. ``"czyx"``.
    chunks : tuple of int or None
        Extent of a chunk, in elements.
    shards : tuple of int or None
        Extent of a shard, which is then what a file holds.
    segment : str or None
        Strips or tiles of a TIFF, and their extent.
    codec : str
        Compression, readable.
    order, fill_value
        Of a Zarr array.
    layout : str or None
        ``"nested"`` or ``"flat"`` chunk files.
    zarr_format : int or None
        2 or 3.
    nbytes, stored_nbytes : int or None
        Size of the elements, and of the files, in bytes.
    n_files : int or None
        TIFF files, or all files of a Zarr array.
    n_chunks, n_present : int or None
        Chunk files of a full array, and those that are there; the others hold
        the fill value.
    channels : tuple of str
        Names along the first axis.
    voxel_size : VoxelSize or None
        In micrometres, ``None`` for what is not stated, and where it is stated.
    attributes : tuple of str
        Names of the user attributes.
    filled : tuple of FilledPlane
        Planes that hold the fill value because their files could not be read.
    manifest : ManifestInfo or None
        When a Zarr array was written, by which version, and what can be checked.
    unfinished : Unfinished or None
        A write of the same path that was interrupted, or is going on.
    details : tuple of str
        Further facts, one sentence each.
    members : tuple of str
        Arrays and groups in a group.
    """

    path: str
    kind: str
    shape: Shape | None = None
    dtype: str | None = None
    axes: str | None = None
    chunks: Shape | None = None
    shards: Shape | None = None
    segment: str | None = None
    codec: str = ""
    order: str | None = None
    fill_value: Any = None
    layout: str | None = None
    zarr_format: int | None = None
    nbytes: int | None = None
    stored_nbytes: int | None = None
    n_files: int | None = None
    n_chunks: int | None = None
    n_present: int | None = None
    channels: tuple[str, ...] = ()
    voxel_size: VoxelSize | None = None
    attributes: tuple[str, ...] = ()
    filled: tuple[FilledPlane, ...] = ()
    manifest: ManifestInfo | None = None
    unfinished: Unfinished | None = None
    details: tuple[str, ...] = field(default=())
    members: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How many times smaller the files are than the elements."""
        return self.nbytes / self.stored_nbytes if self.nbytes and self.stored_nbytes else None

    def to_json(self) -> str:
        """Give the report as JSON."""
        return to_json(self)

    def render(self) -> str:
        """Give the report as text for people."""
        rows = [(name, text) for name, text in self._rows() if text]
        return "\n".join([f"{self.path}: {self.kind}", *(f"  {n:<12}{t}" for n, t in rows)])

    def _rows(self) -> Iterable[tuple[str, str]]:
        if self.shape is not None:
            axes = f" ({', '.join(self.axes)})" if self.axes else ""
            yield "shape", (format_shape(self.shape) or "a single element") + axes
            yield "dtype", str(self.dtype)
        yield "channels", ", ".join(self.channels)
        if self.voxel_size:
            yield "voxel", f"{self.voxel_size}, by {self.voxel_size.source}"
        if self.chunks is not None:
            yield "chunks", format_shape(self.chunks)
        if self.shards is not None:
            yield "shards", format_shape(self.shards)
        yield "segments", self.segment or ""
        yield "codec", self.codec
        if self.layout is not None:
            yield "format", f"Zarr v{self.zarr_format}, {self.layout} chunk files"
        if self.order is not None:
            yield "order", f"{self.order}, fill value {self.fill_value}"
        if self.nbytes is not None:
            yield "size", format_nbytes(self.nbytes)
        if self.stored_nbytes is not None:
            files = f" in {format_count(self.n_files, 'file')}" if self.n_files else ""
            ratio = f", {self.ratio:.3g} times smaller" if self.ratio and self.ratio > 1 else ""
            yield "on disk", format_nbytes(self.stored_nbytes) + files + ratio
        if self.n_present is not None:
            noun = "shard" if self.shards else "chunk"
            yield "present", f"{self.n_present:,} of {format_count(self.n_chunks or 0, noun)}"
        if self.manifest is not None:
            yield "written", f"{self.manifest.written}, by scout_dask_io {self.manifest.library}"
            yield "manifest", self.manifest.checks
        yield from (("filled" if n == 0 else "", t) for n, t in enumerate(filled_text(self.filled)))
        if self.unfinished is not None:
            yield "unfinished", f"another write of it, {self.unfinished}"
        yield "attributes", ", ".join(self.attributes)
        yield from (("note" if n == 0 else "", text) for n, text in enumerate(self.details))
        yield from (("holds" if n == 0 else "", text) for n, text in enumerate(self.members))


def info(
    path: str | os.PathLike[str],
    *,
    nb_workers: int | None = None,
    order: str = "alphabetical",
    storage_options: Mapping[str, Any] | None = None,
) -> InfoReport:
    """Tell what a path holds, without reading pixels.

    Reads headers and metadata, and lists the directories of a Zarr array to
    count its chunks.

    Parameters
    ----------
    path : path-like
        A TIFF file, a folder of planes or of channels, a Zarr array or group.
    nb_workers : int, optional
        How many headers are read at once.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Raises
    ------
    PathNotFoundError
        If there is nothing that can be read.
    TiffReadError, ShapeMismatchError, LayoutError
        If what is there is damaged, or does not fit together.
    """
    check_nb_workers(nb_workers)
    found = locate(path, storage_options)
    kind = kind_of(found)
    if kind == "tiff":
        return _tiff_file(describe_path(found))
    if kind != "zarr":
        return _planes(found, nb_workers, order)
    node = read_node(found)
    if node is not None and node.kind == "group":
        report = _group(found, node)
    else:
        report = _array(found)
    return replace(report, unfinished=unfinished(found))


def _tiff_file(found: TiffInfo) -> InfoReport:
    details = [f"{found.byte_order}-endian {'BigTIFF' if found.bigtiff else 'classic TIFF'}"]
    if found.n_pages > 1:
        details.append(format_count(found.n_pages, "page"))
    if found.n_series > 1:
        details.append(f"{found.n_series} series; this is the first")
    if len(found.levels) > 1:
        details.append("levels " + ", ".join(format_shape(level) for level in found.levels))
    dtype = np.dtype(found.dtype)
    return InfoReport(
        path=found.path,
        kind="TIFF file",
        shape=found.shape,
        dtype=found.dtype,
        axes=found.axes.lower(),
        segment=f"{found.segment}s of {format_shape(found.segment_shape)}",
        codec=found.compression,
        nbytes=math.prod(found.shape) * dtype.itemsize,
        stored_nbytes=found.file_nbytes,
        n_files=1,
        voxel_size=voxel_size(found.path),
        details=tuple(details),
    )


def _planes(path: AnyPath, nb_workers: int | None, order: str) -> InfoReport:
    opened = open_any(path, nb_workers, order=order)
    source = source_of(opened.array)
    if not isinstance(source, TiffSource):
        raise TypeError(f"the array of {path} was not built from TIFF files")
    first = describe_path(source.files[0].path)
    codecs = {CODEC_NAMES.get(x.compression, str(x.compression)) for x in source.layouts}
    report = _tiff_file(first)
    same = len(source.layouts) == 1
    lead = "cz" if opened.kind == "channels" else "z"
    axes = lead + (first.axes.lower() if len(first.shape) + len(lead) == source.ndim else "")
    return replace(
        report,
        path=str(path),
        kind="channel dataset" if opened.kind == "channels" else "folder of planes",
        shape=source.shape,
        axes=axes if len(axes) == source.ndim else None,
        segment=report.segment if same else None,
        codec=", ".join(sorted(codecs)),
        nbytes=source.nbytes,
        stored_nbytes=sum(f.size for f in source.files),
        n_files=len(source.files),
        channels=opened.channels or (),
        voxel_size=opened.voxel_size,
        details=report.details[:1] if same else ("files are stored in different ways",),
    )


def _array(path: AnyPath) -> InfoReport:
    layout = detect_layout(path)
    meta = layout.metadata
    node = Node("array", layout.zarr_format, meta)
    attributes = read_attributes(path, node)
    shape, file_extent = chunk_grid(meta)
    usage = measure_array(path, layout)
    opened = open_any(path)
    codec, chunks = _codec(meta), file_extent
    for step in meta["codecs"] if layout.zarr_format == 3 else ():
        if isinstance(step, dict) and step.get("name") == "sharding_indexed":
            chunks = tuple(step["configuration"]["chunk_shape"])
    details = []
    if layout.zarr_format == 2 and "dimension_separator" not in meta:
        details.append(f"a legacy array: .zarray does not say that chunks are {_named(layout)}")
    advice = advise_shards(shape, chunks, file_extent, opened.array.dtype.itemsize)
    details += [advice] if advice else []
    return InfoReport(
        path=str(path),
        kind="Zarr array",
        shape=shape,
        dtype=_dtype(meta),
        axes=_axes(meta, attributes, len(shape), bool(opened.channels)),
        chunks=chunks,
        shards=file_extent if chunks != file_extent else None,
        codec=codec,
        order=meta.get("order", "C") if layout.zarr_format == 2 else None,
        fill_value=meta.get("fill_value"),
        layout=_named(layout),
        zarr_format=layout.zarr_format,
        nbytes=int(opened.array.nbytes),
        stored_nbytes=usage.stored_nbytes,
        n_files=usage.n_files,
        n_chunks=usage.n_chunks,
        n_present=usage.n_present,
        channels=opened.channels or (),
        voxel_size=opened.voxel_size,
        attributes=tuple(attributes),
        filled=filled_of(path),
        manifest=manifest_info(path),
        details=tuple(details),
    )


def _named(layout: Any) -> str:
    return "nested" if layout.nested else "flat"


def _axes(
    meta: dict[str, Any], attributes: dict[str, Any], ndim: int, channels: bool
) -> str | None:
    """Give the letters of the axes that are stated, or the house's own for planes and volumes."""
    stated = meta.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS")
    if isinstance(stated, list) and all(isinstance(n, str) and len(n) == 1 for n in stated):
        return "".join(stated) if len(stated) == ndim else None
    if ndim == 4:
        return "czyx" if channels else None
    return {2: "yx", 3: "zyx"}.get(ndim)


def _dtype(meta: dict[str, Any]) -> str:
    found = meta["dtype"] if meta["zarr_format"] == 2 else meta["data_type"]
    try:
        return str(np.dtype(found))
    except TypeError:
        return str(found)  # structured, or one that v3 alone knows


def _codec(meta: dict[str, Any]) -> str:
    if meta["zarr_format"] == 3:
        return " + ".join(_step(c.get("name"), c.get("configuration")) for c in meta["codecs"])
    steps = [*(meta.get("filters") or ()), *([meta["compressor"]] if meta["compressor"] else ())]
    named = [_step(c.get("id"), {k: v for k, v in c.items() if k != "id"}) for c in steps]
    return " + ".join(named) or "none"


def _step(name: Any, settings: dict[str, Any] | None) -> str:
    settings = dict(settings or {})
    inner = settings.get("codecs")
    if name == "sharding_indexed" and isinstance(inner, list):
        steps = (_step(c.get("name"), c.get("configuration")) for c in inner)
        return f"shards of {' + '.join(steps)}"
    if name == "blosc" and settings.get("shuffle") in _BLOSC_SHUFFLES:
        settings["shuffle"] = _BLOSC_SHUFFLES[settings["shuffle"]]
    shown = [f"{k}={v}" for k, v in settings.items() if not isinstance(v, (dict, list))]
    return f"{name}({', '.join(shown)})" if shown else str(name)


def _group(path: AnyPath, node: Node) -> InfoReport:
    members: Sequence[str] = sorted(_members(path))
    return InfoReport(
        path=str(path),
        kind="Zarr group",
        zarr_format=node.zarr_format,
        attributes=tuple(read_attributes(path, node)),
        members=tuple(members),
    )


def _folders(path: AnyPath) -> list[str]:
    if isinstance(path, RemotePath):
        return [name for name, below in path.entries() if below]
    with os.scandir(path) as found:
        return [entry.name for entry in found if entry.is_dir(follow_symlinks=False)]


def _members(path: AnyPath, above: str = "") -> Iterable[str]:
    """Yield a line a member of a group, those of its groups too."""
    for folder in _folders(path):
        if folder.startswith("."):
            continue
        child = read_node(path / folder)
        name = f"{above}{folder}"
        if child is None:
            continue
        if child.kind == "group":
            yield f"{name}/: group"
            yield from _members(path / folder, f"{name}/")
            continue
        shape, chunks = chunk_grid(child.metadata)
        yield (
            f"{name}: {format_shape(shape)}, {_dtype(child.metadata)}, "
            f"chunks {format_shape(chunks)}"
        )
