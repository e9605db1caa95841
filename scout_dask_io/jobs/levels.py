"""The levels of an OME-Zarr image, and the one that serves a picture of some size."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da

from scout_dask_io.errors import LayoutError
from scout_dask_io.readers import read_zarr
from scout_dask_io.store.metadata import read_attributes, read_node
from scout_dask_io.voxel import VoxelSize, from_attribute

__all__ = ["Level", "open_level"]

# UDUNITS names of lengths, as OME-Zarr axes have them; the voxel size is in micrometres.
_UM = {"angstrom": 1e-4, "nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "meter": 1e6}


@dataclass(frozen=True, slots=True)
class Level:
    """One level of an OME-Zarr image.

    Attributes
    ----------
    array : dask.array.Array
        Lazy; ``(z, y, x)`` or ``(c, z, y, x)``, the first time point where there are several.
    number, n_levels : int
        Which level it is, 0 being the full one, and of how many.
    voxel_size : VoxelSize or None
        Of this level.
    channels, colors : tuple of str
        Names and colours, ``"#rrggbb"``, of the channels; empty where not stated.
    """

    array: da.Array
    number: int
    n_levels: int
    voxel_size: VoxelSize | None
    channels: tuple[str, ...]
    colors: tuple[str, ...]


def open_level(path: str | os.PathLike[str], size: int) -> Level | None:
    """Open the smallest level whose longest axis in space still has ``size`` elements.

    ``None`` where the path is no OME-Zarr image. Reads metadata, no pixels.

    Raises
    ------
    LayoutError
        If the image's metadata are damaged.
    """
    root = Path(path)
    node = read_node(root) if root.is_dir() else None
    if node is None or node.kind != "group":
        return None
    attributes = read_attributes(root, node)
    image = attributes.get("ome", attributes)
    if not isinstance(image, dict) or not image.get("multiscales"):
        return None
    try:
        return _open(root, image, size)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as err:
        if isinstance(err, LayoutError):
            raise
        raise LayoutError(
            f"{root}: its OME-Zarr metadata cannot be understood ({type(err).__name__}: {err})"
        ) from err


def _open(root: Path, image: dict[str, Any], size: int) -> Level:
    first = image["multiscales"][0]
    names = [axis["name"] for axis in first["axes"]]
    space = [k for k, axis in enumerate(first["axes"]) if axis["name"] in ("z", "y", "x")]
    number, chosen = 0, None
    for k, dataset in enumerate(first["datasets"]):
        array = read_zarr(root / dataset["path"])
        if chosen is None or max(array.shape[a] for a in space) >= size:
            number, chosen = k, array
    if chosen is None:
        raise ValueError("it names no dataset")
    array = chosen[tuple(0 if n == "t" else slice(None) for n in names)] if "t" in names else chosen
    scales = next(
        t["scale"] for t in first["datasets"][number]["coordinateTransformations"]
        if t["type"] == "scale"
    )  # fmt: skip
    um = {
        names[k]: scales[k] * _UM[first["axes"][k]["unit"]]
        for k in space
        if first["axes"][k].get("unit") in _UM
    }
    voxel = from_attribute([um.get(a) for a in "zyx"], "OME-Zarr metadata")
    shown = (image.get("omero") or {}).get("channels") or []
    return Level(
        array,
        number,
        len(first["datasets"]),
        voxel,
        tuple(str(c.get("label", n)) for n, c in enumerate(shown)),
        tuple(f"#{c['color']}" for c in shown if len(str(c.get("color", ""))) == 6),
    )
