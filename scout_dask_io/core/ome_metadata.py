"""The metadata of OME-Zarr images: written and read as plain dictionaries. No files.

Source: the OME-NGFF specification, versions 0.4 and 0.5, "multiscales" and
"omero" metadata (https://ngff.openmicroscopy.org).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scout_dask_io.core.pyramid import Level
from scout_dask_io.core.voxel_size import VoxelSize, micrometres_of
from scout_dask_io.errors import ArgumentError, LayoutError

#: Versions that are written, each with the Zarr format it prescribes.
VERSIONS = {"0.4": 2, "0.5": 3}
_TYPES = {"t": "time", "c": "channel"}
#: Of channels in turn where none are stated, the same in every picture and viewer; magenta and
#: green are told apart by people who see red and green alike.
COLORS = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF8000", "0080FF")


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
    axes : str
        A letter an axis, or ``"?"`` for one of a longer name.
    units : tuple of str or None
        Per axis.
    levels : tuple of StoredLevel
        The full resolution first.
    channels : tuple of str
        Labels, where there are some.
    colors : tuple of str
        As many, six hexadecimal digits each; empty where one states none.
    windows : tuple
        As many pairs of the darkest and the brightest value to show, or ``None``.
    method : str
        How lower levels were made, where it is said.
    is_labels : bool
        Whether the pixels are labels.
    """

    version: str
    axes: str
    units: tuple[str | None, ...]
    levels: tuple[StoredLevel, ...]
    channels: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    windows: tuple[tuple[float, float] | None, ...] = ()
    method: str = ""
    is_labels: bool = False

    def factors(self, level: int) -> tuple[float, ...]:
        """Give how many times as long as those of level 0 a level's voxels are, ``(z, y, x)``."""
        pairs = zip(self.axes, self.levels[level].scale, self.levels[0].scale, strict=True)
        times = {axis: own / full for axis, own, full in pairs}
        return tuple(times.get(axis, 1.0) for axis in "zyx")

    def voxel_size(self, level: int, source: str) -> VoxelSize | None:
        """Give the size of a level's voxels, of the axes whose unit is one of length."""
        sizes: dict[str, float] = {}
        for axis, unit, scale in zip(self.axes, self.units, self.levels[level].scale, strict=True):
            factor = micrometres_of(unit)
            if axis in "zyx" and factor is not None:
                sizes[axis] = scale * factor
        if not sizes:
            return None
        return VoxelSize(sizes.get("z"), sizes.get("y"), sizes.get("x"), source)


def image_metadata(
    name: str,
    axes: str,
    levels: Sequence[Level],
    voxel_size: VoxelSize | None,
    *,
    version: str,
    method: str,
    labels: bool = False,
) -> dict[str, Any]:
    """Give the attributes of an image's group, but for how its channels are shown.

    The centre of the first voxel of level 0 is the origin. A voxel of a lower
    level lies where those do that it is the mean of: half a voxel of its own
    minus half a one of level 0 farther. One that was picked lies where it lay.
    """
    known = dict(zip("zyx", voxel_size.micrometres, strict=True)) if voxel_size else {}
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
    if labels:
        image["image-label"] = {}
    if version == "0.5":
        return {"ome": {"version": "0.5", **image}}
    multiscale["version"] = version
    if labels:
        image["image-label"]["version"] = version
    return image


def _axis(name: str, has_unit: bool) -> dict[str, str]:
    axis = {"name": name, "type": _TYPES.get(name, "space")}
    return {**axis, "unit": "micrometer"} if has_unit else axis


def omero_metadata(
    names: Sequence[str],
    colors: Sequence[str] | None,
    windows: Sequence[tuple[float, float]],
    limits: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """Give how channels are shown: a name, a colour and a contrast window in its limits each."""
    shown = colors or (("FFFFFF",) if len(names) == 1 else COLORS)
    return {
        "channels": [
            {
                "label": name,
                "color": shown[k % len(shown)],
                "active": True,
                "window": {
                    "min": min(least, low),
                    "max": max(largest, high),
                    "start": low,
                    "end": high,
                },
            }
            for k, (name, (low, high), (least, largest)) in enumerate(
                zip(names, windows, limits, strict=True)
            )
        ]
    }


def check_colors(colors: Any, n_channels: int) -> list[str] | None:
    """Give colours as OME-Zarr has them.

    Raises
    ------
    ArgumentError
        If they are not six hexadecimal digits each, one a channel.
    """
    if colors is None:
        return None
    given = [colors] if isinstance(colors, str) else list(colors)
    found = [str(c).removeprefix("#").upper() for c in given]
    if len(found) != n_channels or not all(re.fullmatch("[0-9A-F]{6}", c) for c in found):
        raise ArgumentError(
            f"colors must be {n_channels} of six hexadecimal digits, one a channel, such as "
            f"'00FF00', got {colors!r}"
        )
    return found


def channel_colors(stated: Sequence[str], n_channels: int) -> tuple[str, ...]:
    """Give ``"#rrggbb"`` a channel: as stated, or where that is not for each the house's own.

    Examples
    --------
    >>> channel_colors((), 2), channel_colors(("0000FF",), 1)
    (('#FF00FF', '#00FF00'), ('#0000FF',))
    """
    known = stated if len(stated) == n_channels else COLORS
    return tuple(f"#{known[k % len(known)]}" for k in range(n_channels))


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
        channels = (image.get("omero") or {}).get("channels") or ()
        return Multiscale(
            version=version,
            axes="".join(a["name"] if len(a["name"]) == 1 else "?" for a in axes),
            units=tuple(a.get("unit") for a in axes),
            levels=levels,
            channels=tuple(str(c.get("label", k)) for k, c in enumerate(channels)),
            colors=_stated_colors(channels),
            windows=tuple(_window(c.get("window")) for c in channels),
            method=str(first.get("type") or ""),
            is_labels="image-label" in image,
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
        raise LayoutError(
            f"{where}: the multiscales metadata are damaged ({type(err).__name__}: {err}). Read a "
            "level by its own path, or write the image again."
        ) from err


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


def _stated_colors(channels: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Give the colours that channels state; none at all where one is no colour."""
    found = tuple(str(c.get("color")).removeprefix("#").upper() for c in channels)
    return found if all(re.fullmatch("[0-9A-F]{6}", color) for color in found) else ()


def _window(found: Any) -> tuple[float, float] | None:
    try:
        low, high = float(found["start"]), float(found["end"])
    except (TypeError, KeyError, ValueError):
        return None
    return (low, high) if low < high else None
