"""What a Zarr array, a group or an OME-Zarr image holds, by metadata and names of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from scout_dask_io.core.formatting import format_shape
from scout_dask_io.core.ome_metadata import Multiscale
from scout_dask_io.core.shards import advise_shards
from scout_dask_io.files.location import AnyPath, RemotePath
from scout_dask_io.jobs.info_report import InfoReport, LevelInfo
from scout_dask_io.jobs.qc import read_qc
from scout_dask_io.read.any import open_any
from scout_dask_io.read.missing_planes import filled_of
from scout_dask_io.store.image import place_of_level, read_image
from scout_dask_io.store.layout import detect_layout
from scout_dask_io.store.manifest import ManifestInfo, manifest_info
from scout_dask_io.store.metadata import Node, read_attributes, read_node
from scout_dask_io.store.unfinished import unfinished
from scout_dask_io.store.usage import chunk_grid, measure_array

__all__ = ["zarr_info"]

# As Zarr v2 metadata have it; v3 says it in words.
_BLOSC_SHUFFLES = {-1: "auto", 0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


def zarr_info(found: AnyPath) -> InfoReport:
    """Tell what the array, the group or the image at a path holds, and of writes of it.

    Reads metadata, and lists the directories of an array to count its chunks.

    Raises
    ------
    PathNotFoundError, LayoutError
        If there is none that is whole, or what is there is damaged.
    """
    node = read_node(found)
    image = read_image(found)
    if image is not None:
        report = _image(found, image)
    elif node is not None and node.kind == "group":
        report = _group(found, node)
    else:
        report = _array(found)
    qc = read_qc(found)
    sheet = None if qc is None else qc.sheet
    return replace(report, qc_sheet=sheet, unfinished=unfinished(found))


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


def _image(path: AnyPath, image: Multiscale) -> InfoReport:
    """Describe the full level, with what the group says and what all levels take."""
    found = [_array(place_of_level(path, image, n)) for n in range(len(image.levels))]
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
        for report, stored in zip(found, image.levels, strict=True)
    )
    opened = open_any(path)
    method = f"; lower levels by {image.method}" if image.method and len(levels) > 1 else ""
    node = read_node(path)
    return replace(
        found[0],
        path=str(path),
        kind="OME-Zarr image",
        axes=image.axes,
        stored_nbytes=sum(level.stored_nbytes for level in levels),
        n_files=sum(report.n_files or 0 for report in found),
        n_chunks=sum(level.n_chunks for level in levels),
        n_present=sum(level.n_present for level in levels),
        channels=opened.channels or (),
        voxel_size=opened.voxel_size,
        attributes=() if node is None else tuple(read_attributes(path, node)),
        manifest=_manifest_of_all(found),
        details=(f"version {image.version} of OME-Zarr{method}", *found[0].details),
        levels=levels,
    )


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
        return [child.name for child in path.children() if child.is_folder]
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
