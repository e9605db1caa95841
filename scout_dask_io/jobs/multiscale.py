"""The levels of an OME-Zarr group: which array each is, its axes, voxel size and channels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scout_dask_io.errors import ArgumentError, LayoutError
from scout_dask_io.store.metadata import read_attributes, read_node
from scout_dask_io.voxel import VoxelSize

__all__ = ["Level", "find_level"]

_MICROMETRES = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}


@dataclass(frozen=True, slots=True)
class Level:
    """One level of a multiscale image: where its array lies, and what the group says of it."""

    path: Path
    axes: str
    voxel: VoxelSize | None
    channels: tuple[str, ...]


def find_level(path: Path, level: int) -> Level | None:
    """Give a level of the first image of an OME-Zarr group; ``None`` where ``path`` is none.

    Versions 0.4 and 0.5 of the format (https://ngff.openmicroscopy.org). Reads
    metadata alone.

    Raises
    ------
    ArgumentError
        If there is no such level.
    LayoutError
        If the group's metadata are damaged.
    """
    node = read_node(path) if path.is_dir() else None
    if node is None or node.kind != "group":
        return None
    attributes = read_attributes(path, node)
    inner = attributes.get("ome")
    ome: dict[str, Any] = inner if isinstance(inner, dict) else attributes
    if "multiscales" not in ome:
        return None
    try:
        image = ome["multiscales"][0]
        axes = [a if isinstance(a, dict) else {"name": a} for a in image["axes"]]
        letters = "".join(str(a["name"]) for a in axes)
        datasets = image["datasets"]
        places = [path / str(d["path"]) for d in datasets]
    except (KeyError, IndexError, TypeError) as err:
        raise LayoutError(f"{path}: its multiscales metadata are damaged: no {err}") from err
    if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level < len(places):
        raise ArgumentError(
            f"{path} has no level {level!r}: it has {len(places)}, from 0 (full size) to "
            f"{len(places) - 1}"
        )
    if not places[level].resolve().is_relative_to(path.resolve()):
        raise LayoutError(f"{path}: its level {level} would lie outside of it, {places[level]}")
    scales = [_scale(image, len(axes)), _scale(datasets[level], len(axes))]
    sizes: dict[str, float] = {}
    for k, axis in enumerate(axes):
        factor = _MICROMETRES.get(str(axis.get("unit")))
        if factor is not None:
            sizes[str(axis["name"])] = factor * scales[0][k] * scales[1][k]
    voxel = None
    if sizes:
        z, y, x = (sizes.get(a) for a in "zyx")
        voxel = VoxelSize(z, y, x, f"OME-Zarr metadata of {path}")
    return Level(places[level], letters, voxel, _channels(ome))


def _scale(holder: dict[str, Any], ndim: int) -> list[float]:
    for step in holder.get("coordinateTransformations") or ():
        found = step.get("scale")
        if step.get("type") == "scale" and isinstance(found, list) and len(found) == ndim:
            return [float(v) for v in found]
    return [1.0] * ndim


def _channels(ome: dict[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(str(c.get("label", "")) for c in ome["omero"]["channels"])
    except (KeyError, TypeError, AttributeError):
        return ()
