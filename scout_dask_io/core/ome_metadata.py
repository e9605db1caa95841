"""The metadata of OME-Zarr images: written and read as plain dictionaries. No files.

Source: the OME-NGFF specification, versions 0.4 and 0.5, "multiscales" and
"omero" metadata (https://ngff.openmicroscopy.org).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scout_dask_io.core.axes import letters_of
from scout_dask_io.core.image_info import (
    Channel,
    ImageInfo,
    channel_colors,
    color_of,
)
from scout_dask_io.core.pyramid import Level
from scout_dask_io.core.voxel_size import VoxelSize, micrometres_of
from scout_dask_io.errors import LayoutError

#: Versions that are written, each with the Zarr format it prescribes.
VERSIONS = {"0.4": 2, "0.5": 3}
_TYPES = {"t": "time", "c": "channel"}
#: What says that pixels are labels, in the metadata of an image; and in the attributes of an array.
LABEL_KEY = "image-label"


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """One level as the metadata have it: where it lies, and its scale and translation per axis."""

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Multiscale:
    """What the metadata of a group say of its image.

    Attributes
    ----------
    version : str
        Of the specification.
    info : ImageInfo
        Of the full level; ``"?"`` in its axes is one of a name and type that have no letter.
        Channels may be stated of an image without an axis for them.
    units : tuple of str or None
        Per axis.
    levels : tuple of StoredLevel
        The full resolution first.
    method : str
        How lower levels were made, where it is said.
    """

    version: str
    info: ImageInfo
    units: tuple[str | None, ...]
    levels: tuple[StoredLevel, ...]
    method: str = ""

    @property
    def axes(self) -> str:
        """A letter an axis."""
        return self.info.axes

    def factors(self, level: int) -> tuple[float, ...]:
        """Give how many times as long as those of level 0 a level's voxels are, ``(z, y, x)``."""
        pairs = zip(self.axes, self.levels[level].scale, self.levels[0].scale, strict=True)
        times = {axis: own / full for axis, own, full in pairs}
        return tuple(times.get(axis, 1.0) for axis in "zyx")

    def info_of(self, level: int, where: Any) -> ImageInfo:
        """Give what is known of a level; whoever reads of its voxel size is told of ``where``."""
        scale = self.levels[level].scale
        return replace(self.info, voxel_size=_voxel_size(self.axes, self.units, scale, where))


def _voxel_size(
    axes: str, units: Sequence[str | None], scale: Sequence[float], where: Any
) -> VoxelSize | None:
    """Give the size of voxels of a scale, along the axes whose unit is one of length."""
    sizes: dict[str, float] = {}
    for axis, unit, extent in zip(axes, units, scale, strict=True):
        factor = micrometres_of(unit)
        if axis in "zyx" and factor is not None:
            sizes[axis] = extent * factor
    if not sizes:
        return None
    z, y, x = (sizes.get(axis) for axis in "zyx")
    return VoxelSize(z, y, x, f"OME-Zarr metadata of {where}")


def image_metadata(
    name: str, info: ImageInfo, levels: Sequence[Level], *, version: str, method: str
) -> dict[str, Any]:
    """Give the attributes of an image's group, but for how its channels are shown.

    The centre of the first voxel of level 0 is the origin. A voxel of a lower
    level lies where those do that it is the mean of: half a voxel of its own
    minus half a one of level 0 farther. One that was picked lies where it lay.
    """
    axes, size = info.axes, info.voxel_size
    known = dict(zip("zyx", size.micrometres, strict=True)) if size else {}
    datasets = []
    for number, level in enumerate(levels):
        base = [known.get(a) or 1.0 for a in axes]
        scale = [b * t for b, t in zip(base, level.total, strict=True)]
        shift = [
            0.0 if method == "nearest" else b * (t - 1) / 2
            for b, t in zip(base, level.total, strict=True)
        ]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(shift):
            steps.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": [_axis(a, known.get(a) is not None) for a in axes],
        "datasets": datasets,
        "type": method,
        "metadata": {"method": f"scout_dask_io, {method} of pairs"},
    }
    image: dict[str, Any] = {"multiscales": [multiscale]}
    if info.labels:
        image[LABEL_KEY] = dict(info.image_label)
    if version == "0.5":
        return {"ome": {"version": "0.5", **image}}
    multiscale["version"] = version
    if info.labels:
        image[LABEL_KEY] = {"version": version, **info.image_label}
    return image


def _axis(name: str, has_unit: bool) -> dict[str, str]:
    axis = {"name": name, "type": _TYPES.get(name, "space")}
    return {**axis, "unit": "micrometer"} if has_unit else axis


def omero_metadata(
    info: ImageInfo,
    windows: Sequence[tuple[float, float]],
    limits: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """Give how channels are shown: a name, a colour and a contrast window in its limits each."""
    colors = channel_colors(info.colors, len(info.channels))
    return {
        "channels": [
            {
                "label": channel.name,
                "color": color,
                "active": True,
                "window": {
                    "min": min(least, low),
                    "max": max(largest, high),
                    "start": low,
                    "end": high,
                },
            }
            for channel, color, (low, high), (least, largest) in zip(
                info.channels, colors, windows, limits, strict=True
            )
        ]
    }


def parse_image(attributes: Mapping[str, Any], where: str) -> Multiscale | None:
    """Give what a group's attributes say of its image; ``None`` where they speak of none.

    Raises
    ------
    LayoutError
        If they speak of one and are damaged.
    """
    ome = attributes.get("ome")
    image = ome if isinstance(ome, dict) else attributes
    if not image.get("multiscales"):
        return None
    try:
        first = image["multiscales"][0]
        version = str(image.get("version") or first.get("version") or "0.4")
        axes = [a if isinstance(a, dict) else {"name": a} for a in first.get("axes", ())]
        levels = tuple(_stored_level(d, first, len(axes)) for d in first["datasets"])
        if not levels or not axes:
            raise ValueError("no axes or no datasets")
        letters = letters_of((a["name"], a.get("type")) for a in axes)
        units = tuple(a.get("unit") for a in axes)
        channels = tuple(
            Channel(str(c.get("label", k)), color_of(c.get("color")), _window(c.get("window")))
            for k, c in enumerate((image.get("omero") or {}).get("channels") or ())
        )
        return Multiscale(
            version=version,
            info=ImageInfo(
                letters,
                _voxel_size(letters, units, levels[0].scale, where),
                channels,
                labels=LABEL_KEY in image,
                image_label=label_record(image.get(LABEL_KEY)),
            ),
            units=units,
            levels=levels,
            method=str(first.get("type") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
        raise LayoutError(
            f"{where}: the multiscales metadata are damaged ({type(err).__name__}: {err}). Read a "
            "level by its own path, or write the image again."
        ) from err


def label_record(found: Any) -> dict[str, Any]:
    """Give what ``image-label`` says of labels, but for the version, which a writer states."""
    return {k: v for k, v in found.items() if k != "version"} if isinstance(found, dict) else {}


def _stored_level(dataset: Mapping[str, Any], image: Mapping[str, Any], ndim: int) -> StoredLevel:
    scale, shift = np.ones(ndim), np.zeros(ndim)
    # Those of the whole image come after those of a level.
    for steps in (dataset.get("coordinateTransformations"), image.get("coordinateTransformations")):
        for step in steps or ():
            if step["type"] == "scale":
                factors = np.array(step["scale"], float).reshape(ndim)
                scale, shift = scale * factors, shift * factors
            elif step["type"] == "translation":
                shift = shift + np.array(step["translation"], float).reshape(ndim)
    return StoredLevel(str(dataset["path"]), tuple(scale.tolist()), tuple(shift.tolist()))


def _window(found: Any) -> tuple[float, float] | None:
    try:
        low, high = float(found["start"]), float(found["end"])
    except (TypeError, KeyError, ValueError):
        return None
    return (low, high) if low < high else None
