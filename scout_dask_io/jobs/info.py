"""What a path holds, told without reading pixels.

What a Zarr array, a group or an OME-Zarr image holds, by metadata and names of files.

What ``info`` reports: whatever a path holds, as text for people and as JSON.

Why it is long: whatever kind of thing lies there, one report tells of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from scout_dask_io.core.axes import guessed_axes
from scout_dask_io.core.formatting import (
    Row,
    format_count,
    format_found,
    format_nbytes,
    format_shape,
)
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import FilledPlane, ImageInfo
from scout_dask_io.core.ome_metadata import Multiscale
from scout_dask_io.core.selection import Selection
from scout_dask_io.core.shards import advise_shards
from scout_dask_io.core.voxel_size import VoxelSize, merge_sizes
from scout_dask_io.errors import LayoutError, PathNotFoundError
from scout_dask_io.files.location import Location, ask_at_once, locate
from scout_dask_io.jobs.convert import read_qc
from scout_dask_io.jobs.report import JobReport, filled_rows, voxel_text
from scout_dask_io.read.any import Opened, kind_of, node_at_url, open_any, open_zarr
from scout_dask_io.read.dataset import dataset_at, odd_about
from scout_dask_io.read.hdf5 import find_dataset, list_datasets, split_path
from scout_dask_io.read.npy import NpySource
from scout_dask_io.run.lazy import source_of
from scout_dask_io.run.scheduler import check_nb_workers
from scout_dask_io.store.conventions import convention_of
from scout_dask_io.store.image import image_of_node, open_level_node, place_of_level
from scout_dask_io.store.image_info import filled_of_node
from scout_dask_io.store.labels import labels_in
from scout_dask_io.store.layout import chunk_grid, detect_layout, measure_array
from scout_dask_io.store.manifest import ManifestInfo, manifest_info
from scout_dask_io.store.metadata import Node, dtype_named, read_node
from scout_dask_io.store.nodes import check_keys, open_node
from scout_dask_io.store.transaction import unfinished
from scout_dask_io.store.unfinished import Unfinished
from scout_dask_io.tiff.file_info import TiffInfo, describe_path
from scout_dask_io.tiff.metadata import sizes_beside
from scout_dask_io.tiff.page_layout import CODEC_NAMES
from scout_dask_io.tiff.source import TiffSource


def info(
    path: str | os.PathLike[str],
    *,
    nb_workers: int | None = None,
    order: str = "alphabetical",
    pattern: str | None = None,
    position: str | None = None,
    names: str = "allow",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> InfoReport:
    """Tell what a path holds, without reading pixels.

    Reads headers and metadata, and lists the directories of a Zarr array to
    count its chunks.

    Parameters
    ----------
    path : path-like
        A TIFF file, a folder of planes or of channels, a Zarr array or group, or an
        OME-Zarr image; or the URL of one. An HDF5 file, a dataset in one as
        ``"file.h5::/path"``, or a ``.npy`` file.
    nb_workers : int, optional
        How many headers are read at once.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    pattern, position, names
        How the files of a dataset are read, as for :func:`~scout_dask_io.convert`; of several
        positions the first is told of where none is given.
    series, pages, allow_sparse
        Which image and which pages of TIFF files, as for :func:`~scout_dask_io.imread_folder`.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Raises
    ------
    PathNotFoundError
        If there is nothing that can be read.
    ArgumentError
        If something is chosen that what lies there does not have.
    TiffReadError, ShapeMismatchError, LayoutError
        If what is there is damaged, or does not fit together.
    """
    check_nb_workers(nb_workers)
    how = Selection(
        order, pattern=pattern, position=position, names=names,
        series=series, pages=pages, allow_sparse=allow_sparse,
    )  # fmt: skip
    found = locate(path, storage_options)
    node = node_at_url(found, reads=True)
    if node is not None:
        dataset_at(found, "zarr", how)  # for its errors
        return zarr_info(node)
    kind = kind_of(found)
    grid = dataset_at(found, kind, how)
    if kind == "tiff":
        described = describe_path(found, how)
        sizes = [*sizes_beside(found, in_dataset=False), *described.stated.sizes]
        told = replace(described.info, voxel_size=merge_sizes(sizes))
        return _tiff_file(described, told, how)
    if kind == "hdf5":
        return _hdf5(found)
    if kind == "npy":
        return _npy(found)
    if kind != "zarr":
        if position is None and grid is not None and len(grid.positions) > 1:
            how = replace(how, position=grid.positions[0])
        return _planes(found, open_any(found, nb_workers, how), how)
    return zarr_info(open_node(found))


def _hdf5(place: Location) -> InfoReport:
    """Describe the dataset that a path names, or all in a file."""
    file, name = split_path(place)
    found = list_datasets(file)
    members = tuple(dataset.text for dataset in found)
    if name is None and len(found) != 1:
        return InfoReport(path=str(place), kind="HDF5 file", members=members)
    dataset = find_dataset(place)
    return InfoReport(
        path=dataset.path,
        kind="HDF5 dataset",
        shape=dataset.shape,
        dtype=str(dataset.dtype),
        axes=dataset.info.axes or None,
        chunks=dataset.chunks,
        codec=dataset.codec,
        nbytes=math.prod(dataset.shape) * dataset.dtype.itemsize,
        stored_nbytes=dataset.stored_nbytes,
        voxel_size=dataset.info.voxel_size,
        members=members if len(members) > 1 else (),
    )


def _npy(place: Location) -> InfoReport:
    source = NpySource(place)
    return InfoReport(
        path=str(place),
        kind="numpy file",
        shape=source.shape,
        dtype=str(source.stored),
        codec="none",
        nbytes=source.nbytes,
        stored_nbytes=source.state[0],
        n_files=1,
        details=(f"in {'Fortran' if source.fortran else 'C'} order",),
    )


def _tiff_file(found: TiffInfo, info: ImageInfo, selection: Selection) -> InfoReport:
    details = [found.member] if found.member else []
    details += [f"{found.byte_order}-endian {'BigTIFF' if found.bigtiff else 'classic TIFF'}"]
    if found.n_pages > 1:
        details.append(format_count(found.n_pages, "page"))
    if found.n_series > 1:
        this = f"series {selection.series}" if selection.series else "the first"
        details.append(f"{found.n_series} series; this is {this}")
    if len(found.levels) > 1:
        details.append("levels " + ", ".join(format_shape(level) for level in found.levels))
    if found.stated.ignored:
        details.append(found.stated.ignored)
    dtype = np.dtype(found.dtype)
    return InfoReport(
        path=found.path,
        kind="TIFF file",
        shape=found.shape,
        dtype=found.dtype,
        axes=info.axes or None,
        segment=f"{found.segment}s of {format_shape(found.segment_shape)}",
        codec=found.compression,
        nbytes=math.prod(found.shape) * dtype.itemsize,
        stored_nbytes=found.file_nbytes,
        n_files=found.n_files,
        channels=info.names,
        voxel_size=info.voxel_size,
        details=tuple(details),
    )


def _planes(path: Location, opened: Opened, selection: Selection) -> InfoReport:
    source = source_of(opened.array)
    if not isinstance(source, TiffSource):
        raise TypeError(f"the array of {path} was not built from TIFF files")
    first = describe_path(source.place_of(source.files[0]), selection, alone=True)
    codecs = {CODEC_NAMES.get(x.compression, str(x.compression)) for x in source.layouts}
    report = _tiff_file(first, opened.info, selection)
    same = len(source.layouts) == 1
    reading = opened.reading
    told = () if opened.unclear == "" else (opened.unclear,)
    return replace(
        report,
        path=str(path),
        kind=_KINDS[opened.kind if reading is None else reading.kind],
        shape=source.shape,
        segment=report.segment if same else None,
        codec=", ".join(sorted(codecs)),
        nbytes=source.nbytes,
        stored_nbytes=sum(f.size for f in source.files),
        n_files=len(source.files),
        details=(
            *(report.details[:1] if same else ("files are stored in different ways",)),
            *filter(None, [first.stated.ignored]),
            *(() if reading is None else odd_about(reading)),
            *told,
        ),
        reading="" if reading is None else str(reading),
        fields=() if reading is None else tuple(reading.rows),
        pattern="" if reading is None else reading.pattern,
    )


_KINDS = {
    "folder": "folder of planes",
    "channels": "channel dataset",
    "dataset": "dataset by the names of its files",
    "set": "dataset of files that make up images",
}

# As Zarr v2 metadata have it; v3 says it in words.
_BLOSC_SHUFFLES = {-1: "auto", 0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


def zarr_info(node: Node) -> InfoReport:
    """Tell what the array, the group or the image at a path holds, and of writes of it.

    Reads metadata, and lists the directories of an array to count its chunks.

    Raises
    ------
    PathNotFoundError, LayoutError
        If there is none that is whole, or what is there is damaged.
    """
    found, image = node.location, image_of_node(node)

    def described() -> InfoReport:
        if image is not None:
            return _image(node, image)
        return _group(node) if node.kind == "group" else _array(node)[0]

    report: InfoReport
    report, qc = ask_at_once(found, [described, lambda: read_qc(found)])
    if not found.on_disk and report.n_files == 0:
        report = _uncounted(report)
    sheet = None if qc is None else qc.sheet
    return replace(report, qc_sheet=sheet, unfinished=unfinished(found) if found.on_disk else None)


def _uncounted(report: InfoReport) -> InfoReport:
    """Give a report of what a store does not list, not even its metadata: nothing is counted."""
    levels = (replace(level, stored_nbytes=None, n_present=None) for level in report.levels)
    return replace(
        report,
        stored_nbytes=None,
        n_files=None,
        n_present=None,
        levels=tuple(levels),
        details=(*report.details, "the store lists nothing, so that its files are not counted"),
    )


def _array(
    node: Node, level: tuple[Multiscale, int] | None = None
) -> tuple[InfoReport, Opened | None]:
    """Describe an array; the second is it opened, if it can be read."""
    path, attributes = node.location, node.attributes
    layout = detect_layout(node)
    meta = layout.metadata
    shape, file_extent = chunk_grid(node)
    usage = measure_array(node, layout)
    if not path.on_disk and not usage.n_present:
        check_keys(node)
    codec, chunks, details = _codec(meta), file_extent, []
    try:
        opened = open_zarr(node, level=level)
    except LayoutError as err:
        # What cannot be read can still be described.
        unread = InfoReport(
            path=str(path),
            kind="Zarr array",
            shape=shape,
            dtype=_dtype(meta),
            chunks=chunks,
            codec=codec,
            fill_value=meta.get("fill_value"),
            layout=_named(layout),
            zarr_format=layout.zarr_format,
            stored_nbytes=usage.stored_nbytes,
            n_files=usage.n_files,
            n_chunks=usage.n_chunks,
            n_present=usage.n_present,
            attributes=tuple(attributes),
            details=(f"cannot be read: {err}",),
        )
        return unread, None
    for step in meta["codecs"] if layout.zarr_format == 3 else ():
        if isinstance(step, dict) and step.get("name") == "sharding_indexed":
            chunks = tuple(step["configuration"]["chunk_shape"])
    if layout.zarr_format == 2 and "dimension_separator" not in meta:
        details.append(f"a legacy array: .zarray does not say that chunks are {_named(layout)}")
    advice = advise_shards(shape, chunks, file_extent, opened.array.dtype.itemsize)
    details += [advice] if advice else []
    report = InfoReport(
        path=str(path),
        kind="Zarr array",
        shape=shape,
        dtype=_dtype(meta),
        axes=opened.info.axes or _axes(len(shape), bool(opened.channels)),
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
        channels=opened.channels,
        voxel_size=opened.info.voxel_size,
        attributes=tuple(attributes),
        filled=filled_of_node(node),
        manifest=manifest_info(node),
        details=tuple(details),
    )
    return report, opened


def _image(node: Node, image: Multiscale) -> InfoReport:
    """Describe the full level, with what the group says and what all levels take."""
    path = node.location
    places = [place_of_level(path, image, number) for number in range(len(image.levels))]
    firsts: dict[Location, int] = {}
    for number, place in enumerate(places):
        firsts.setdefault(place, number)
    calls = [partial(_level, node, image, number) for number in firsts.values()]
    labels, *answers = ask_at_once(path, [partial(labels_in, path), *calls])
    by_place = dict(zip(firsts, answers, strict=True))
    looked_at = [by_place[place] for place in places]
    found, stored_levels, missing = list[InfoReport](), [], []
    for stored, looked in zip(image.levels, looked_at, strict=True):
        if looked is None:
            missing.append(stored.path)
        else:
            found.append(looked[0])
            stored_levels.append(stored)
    levels = tuple(
        LevelInfo(
            path=stored.path,
            shape=report.shape or (),
            chunks=report.chunks or (),
            shards=report.shards,
            scale=stored.scale,
            translation=stored.translation,
            stored_nbytes=report.stored_nbytes or 0,
            n_chunks=report.n_chunks or 0,
            n_present=report.n_present or 0,
            codec=report.codec,
        )
        for report, stored in zip(found, stored_levels, strict=True)
    )
    opened = looked_at[0][1] or open_zarr(node)
    method = f"; lower levels by {image.method}" if image.method and len(levels) > 1 else ""
    return replace(
        found[0],
        path=str(path),
        kind="OME-Zarr image",
        axes=image.axes,
        stored_nbytes=sum(level.stored_nbytes or 0 for level in levels),
        n_files=sum(report.n_files or 0 for report in found),
        n_chunks=sum(level.n_chunks for level in levels),
        n_present=sum(level.n_present or 0 for level in levels),
        channels=opened.channels,
        voxel_size=opened.info.voxel_size,
        attributes=tuple(node.attributes),
        manifest=_manifest_of_all(found),
        details=(
            f"version {image.version} of OME-Zarr{method}",
            *(("its pixels are labels",) if opened.info.labels else ()),
            *(f"level {name} is stated, and is not there" for name in missing),
            *found[0].details,
        ),
        levels=levels,
        labels=labels,
    )


def _level(node: Node, image: Multiscale, number: int) -> tuple[InfoReport, Opened | None] | None:
    """Describe a level of an image; ``None`` of a lower one that is stated and not there."""
    try:
        # How its chunks are keyed is told by the listing.
        return _array(open_level_node(node, image, number, reads=True), (image, number))
    except PathNotFoundError:
        if not number:
            raise
        return None


def _manifest_of_all(levels: Sequence[InfoReport]) -> ManifestInfo | None:
    """Add up what the levels' manifests check; ``None`` if one has none."""
    found = [level.manifest for level in levels if level.manifest is not None]
    if len(found) != len(levels):
        return None
    return replace(
        found[0],
        n_files=sum(m.n_files for m in found),
        n_empty=sum(m.n_empty for m in found),
        n_unknown=sum(m.n_unknown for m in found),
    )


def _named(layout: Any) -> str:
    return "nested" if layout.nested else "flat"


def _axes(ndim: int, channels: bool) -> str | None:
    """Give the house's own axes for planes, volumes, and channels that are named."""
    is_known = ndim in (2, 3) or (ndim == 4 and channels)
    return guessed_axes(ndim, channels=channels) if is_known else None


def _dtype(meta: dict[str, Any]) -> str:
    found = meta["dtype"] if meta["zarr_format"] == 2 else meta["data_type"]
    try:
        return str(dtype_named(found))
    except ValueError:
        # Structured, or one that v3 alone knows.
        return str(found.get("name", found) if isinstance(found, dict) else found)


def _codec(meta: dict[str, Any]) -> str:
    if meta["zarr_format"] == 3:
        stages = [c if isinstance(c, dict) else {"name": c} for c in meta["codecs"]]
        return " + ".join(_step(c.get("name"), c.get("configuration")) for c in stages)
    compressor = meta.get("compressor")
    steps = [*(meta.get("filters") or ()), *([compressor] if compressor else ())]
    steps = [c if isinstance(c, dict) else {"id": c} for c in steps]
    named = [_step(c.get("id"), {k: v for k, v in c.items() if k != "id"}) for c in steps]
    return " + ".join(named) or "none"


def _step(name: Any, settings: Any) -> str:
    # What cannot be read is described too, so that nothing here is sure of its kind.
    settings = dict(settings) if isinstance(settings, dict) else {}
    name = name if isinstance(name, str) and len(name) < 100 else format_found(name, 100)
    inner = settings.get("codecs")
    if name == "sharding_indexed" and isinstance(inner, list):
        stages = [c if isinstance(c, dict) else {"name": c} for c in inner]
        steps = (_step(c.get("name"), c.get("configuration")) for c in stages)
        return f"shards of {' + '.join(steps)}"
    if name == "blosc" and settings.get("shuffle") in _BLOSC_SHUFFLES:
        settings["shuffle"] = _BLOSC_SHUFFLES[settings["shuffle"]]
    shown = [f"{k}={v}" for k, v in settings.items() if not isinstance(v, (dict, list))]
    return f"{name}({', '.join(shown)})" if shown else str(name)


def _group(node: Node) -> InfoReport:
    return InfoReport(
        path=str(node.location),
        kind="Zarr group",
        zarr_format=node.zarr_format,
        attributes=tuple(node.attributes),
        details=tuple(what for what in (convention_of(node.attributes),) if what),
        members=tuple(sorted(_members(node.location))),
    )


def _members(path: Location, above: str = "") -> Iterable[str]:
    """Yield a line a member of a group, those of its groups too."""
    for place in path.children():
        if place.name.startswith(".") or place.is_link() or not place.is_folder:
            continue
        name = f"{above}{place.name}"
        try:
            child = read_node(place)
        except LayoutError as err:
            yield f"{name}: cannot be read: {err}"
            continue
        if child is None:
            continue
        if child.kind == "group":
            yield f"{name}/: group"
            yield from _members(place, f"{name}/")
            continue
        try:
            chunks = f"chunks {format_shape(chunk_grid(child)[1])}"
        except LayoutError:
            chunks = "chunks of no regular grid"
        shape = format_shape(child.metadata["shape"])
        yield f"{name}: {shape}, {_dtype(child.metadata)}, {chunks}"


@dataclass(frozen=True, slots=True)
class LevelInfo:
    """One level of an OME-Zarr image.

    Attributes
    ----------
    path : str
        Inside the group.
    shape, chunks : tuple of int
        In elements.
    shards : tuple of int or None
        Extent of a shard, where there are shards.
    scale, translation : tuple of float
        Per axis, in the units of the image's axes.
    stored_nbytes : int or None
        Size of its files, in bytes; ``None`` in a store that lists nothing.
    n_chunks, n_present : int
        Chunk files of a full level, and those that are there, ``None`` as above.
    codec : str
        What its chunks are compressed with.
    """

    path: str
    shape: Shape
    chunks: Shape
    shards: Shape | None
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    stored_nbytes: int | None
    n_chunks: int
    n_present: int | None
    codec: str

    def text(self, chunks: Shape | None) -> str:
        """Give a line for people, with the chunks only if they are not those."""
        scale = ", ".join(f"{v:.6g}" for v in self.scale)
        own = f", chunks {format_shape(self.chunks)}" if self.chunks != chunks else ""
        size = "" if self.stored_nbytes is None else f", {format_nbytes(self.stored_nbytes)}"
        return f"{self.path}: {format_shape(self.shape)}, scale {scale}{own}{size}"


@dataclass(frozen=True, slots=True)
class InfoReport(JobReport):
    """What :func:`info` found; what does not apply is ``None`` or empty.

    Attributes
    ----------
    path, kind : str
        ``kind`` is ``"TIFF file"``, ``"folder of planes"``, ``"channel dataset"``,
        ``"HDF5 file"``, ``"HDF5 dataset"``, ``"numpy file"``, ``"Zarr array"``,
        ``"Zarr group"`` or ``"OME-Zarr image"``, of
        which shape, dtype and the like are those of its full level.
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
        Names, as far as they are stated.
    voxel_size : VoxelSize or None
        In micrometres, ``None`` for what is not stated, and where it is stated.
    attributes : tuple of str
        Names of the user attributes.
    filled : tuple of FilledPlane
        Planes that hold the fill value because their files could not be read.
    manifest : ManifestInfo or None
        When a Zarr array was written, by which version, and what can be checked.
    qc_sheet : str or None
        The HTML file beside a Zarr array that says what its planes are like.
    unfinished : Unfinished or None
        A write of the same path that was interrupted, or is going on.
    details : tuple of str
        Further facts, one sentence each.
    members : tuple of str
        Arrays and groups in a group.
    levels : tuple of LevelInfo
        Of an image, the full one first.
    reading, pattern : str
        How the names of a dataset's files were read: in a sentence, and as a pattern.
    fields : tuple of (str, str)
        Its fields: the axis, and what the names have along it.
    labels : tuple of str
        Names of the labels that an image lists below itself.
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
    qc_sheet: str | None = None
    unfinished: Unfinished | None = None
    details: tuple[str, ...] = field(default=())
    members: tuple[str, ...] = ()
    levels: tuple[LevelInfo, ...] = ()
    reading: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    pattern: str = ""
    labels: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How many times smaller the files are than the elements; ``None`` of an image."""
        if self.levels:
            return None
        return self.nbytes / self.stored_nbytes if self.nbytes and self.stored_nbytes else None

    def title(self) -> str:
        """Say what lies there."""
        return f"{self.path}: {self.kind}"

    def rows(self) -> Iterable[Row]:
        """Give what is known of it."""
        if self.shape is not None:
            axes = f" ({', '.join(self.axes)})" if self.axes else ""
            yield "shape", (format_shape(self.shape) or "a single element") + axes
            yield "dtype", str(self.dtype)
        yield "channels", ", ".join(self.channels)
        yield "voxel", voxel_text(self.voxel_size)
        yield "names", self.reading
        yield from ((f"  {axis}", values) for axis, values in self.fields)
        yield "pattern", self.pattern
        if self.chunks is not None:
            yield "chunks", format_shape(self.chunks)
        if self.shards is not None:
            yield "shards", format_shape(self.shards)
        for n, level in enumerate(self.levels):
            yield "levels" if n == 0 else "", level.text(self.chunks)
        yield "labels", ", ".join(self.labels)
        yield "segments", self.segment or ""
        yield "codec", self.codec
        others = dict.fromkeys(lv.codec for lv in self.levels if lv.codec != self.codec)
        for codec in others:
            paths = ", ".join(lv.path for lv in self.levels if lv.codec == codec)
            yield "", f"{codec}, levels {paths}"
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
        yield from filled_rows(self.filled)
        yield "sheet", self.qc_sheet or ""
        if self.unfinished is not None:
            yield "unfinished", f"another write of it, {self.unfinished}"
        yield "attributes", ", ".join(self.attributes)
        yield from (("note" if n == 0 else "", text) for n, text in enumerate(self.details))
        yield from (("holds" if n == 0 else "", text) for n, text in enumerate(self.members))
