"""The metadata of OME-Zarr images: written and read as plain dictionaries. No files.

Source: the OME-NGFF specification, versions 0.1 to 0.5, "multiscales" and
"omero" metadata (https://ngff.openmicroscopy.org).

What is stated and cannot be meant (a scale of 0, NaN or text) states nothing, and is told of;
what is not understood (an affine transformation, a version with coordinate systems) is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scout_dask_io.core.axes import ORDER, axis_letter, letters_of
from scout_dask_io.core.formatting import cut, format_found
from scout_dask_io.core.image_info import (
    Axis,
    Channel,
    ImageInfo,
    channel_colors,
    color_of,
)
from scout_dask_io.core.messages import warn
from scout_dask_io.core.pyramid import Level
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.errors import LayoutError

#: Versions that are written, each with the Zarr format it prescribes.
VERSIONS = {"0.4": 2, "0.5": 3}
#: The latest version that is read, and the first whose images name their axes.
_LATEST, _WITH_AXES = (0, 5), (0, 4)
_TYPES = {"t": "time", "c": "channel"}
#: What says that pixels are labels, in the metadata of an image; and in the attributes of an array.
LABEL_KEY = "image-label"
#: What holds a record of an image: an attribute of an array, a key in the text of a TIFF file.
RECORD_KEY = "image_frame"
# Of a record: what users noted with the array.
_ARRAY_KEY = "array_attributes"
#: Most levels, axes, and transformations of a level that are looked at: 2**64 elements along an
#: axis halve to one in 64 levels, numpy has 64 axes, and writers state two transformations.
MAX_LEVELS, MAX_AXES, MAX_STEPS = 64, 64, 64
#: Most channels whose names and colours are looked at.
MAX_CHANNELS = 10_000
# What the specification, and bioformats2raw, have in the attributes of a group.
_OWN_KEYS = frozenset(
    ("ome", "multiscales", "omero", LABEL_KEY, "labels", "plate", "well", "series")
)


@dataclass(frozen=True, slots=True)
class StoredLevel:
    """One level as the metadata have it.

    Attributes
    ----------
    path : str
        Where it lies in the group.
    scale, translation : tuple of float
        Per axis; 1 and 0 where nothing is stated.
    stated : tuple of bool
        Whether a scale is, per axis.
    """

    path: str
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    stated: tuple[bool, ...]


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
    levels : tuple of StoredLevel
        The full resolution first.
    method : str
        How lower levels were made, where it is said.
    """

    version: str
    info: ImageInfo
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
        frame = _frame(self.info.frame, self.levels[level])
        return replace(self.info, frame=frame, voxel_size=_voxel_size(self.axes, frame, where))


def _frame(axes: Sequence[Axis], level: StoredLevel) -> tuple[Axis, ...]:
    """Give axes with the scale and the translation of a level."""
    return tuple(
        replace(axis, scale=scale if stated else None, translation=shift)
        for axis, scale, shift, stated in zip(
            axes, level.scale, level.translation, level.stated, strict=True
        )
    )


def _voxel_size(letters: str, frame: Sequence[Axis], where: Any) -> VoxelSize | None:
    """Give the size of voxels along the axes whose unit is one of length."""
    sizes = {a: axis.micrometres for a, axis in zip(letters, frame, strict=True) if a in "zyx"}
    z, y, x = (sizes.get(a) for a in "zyx")
    if z is y is x is None:
        return None
    return VoxelSize(z, y, x, f"OME-Zarr metadata of {where}")


def image_metadata(
    name: str, info: ImageInfo, levels: Sequence[Level], *, version: str, method: str
) -> dict[str, Any]:
    """Give the attributes of an image's group, but for how its channels are shown.

    The centre of the first voxel of level 0 lies where it is stated to, else at the
    origin. A voxel of a lower level lies where those do that it is the mean of: half a
    voxel of its own minus half a one of level 0 farther. One that was picked lies where it lay.
    """
    frame = info.measured
    datasets = []
    for number, level in enumerate(levels):
        base = [1.0 if axis.scale is None else axis.scale for axis in frame]
        scale = [b * t for b, t in zip(base, level.total, strict=True)]
        shift = [
            axis.translation + (0.0 if method == "nearest" else b * (t - 1) / 2)
            for axis, b, t in zip(frame, base, level.total, strict=True)
        ]
        datasets.append(level_record(number, scale, shift))
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": [_axis(a, axis) for a, axis in zip(info.axes, frame, strict=True)],
        "datasets": datasets,
        "type": method,
        "metadata": method_record(method, levels),
    }
    image: dict[str, Any] = {"multiscales": [multiscale]}
    if info.labels:
        image[LABEL_KEY] = dict(info.image_label)
    if version == "0.5":
        return {"ome": {"version": "0.5", **image}, **info.group_attributes}
    multiscale["version"] = version
    if info.labels:
        image[LABEL_KEY] = {"version": version, **info.image_label}
    return {**image, **info.group_attributes}


def method_record(method: str, levels: Sequence[Level]) -> dict[str, str]:
    """Give what an image says of how its lower levels were made."""
    pairs = all(max(level.factors) <= 2 for level in levels)
    return {"method": f"scout_dask_io, {method} of {'pairs' if pairs else 'windows'}"}


def level_record(number: int, scale: list[float], translation: list[float]) -> dict[str, Any]:
    """Give what the metadata say of a level: where it lies in the group, and its pixels."""
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if any(translation):
        steps.append({"type": "translation", "translation": translation})
    return {"path": str(number), "coordinateTransformations": steps}


def _axis(letter: str, axis: Axis) -> dict[str, Any]:
    unit = {} if axis.unit is None else {"unit": axis.unit}
    return {"name": letter, "type": _TYPES.get(letter, "space"), **unit, **axis.extras}


def omero_metadata(
    info: ImageInfo,
    windows: Sequence[tuple[float, float]],
    limits: Sequence[tuple[float, float]],
) -> dict[str, Any]:
    """Give how channels are shown: a name, a colour and a contrast window in its limits each.

    What is stated of a channel counts before ``windows`` and ``limits``, those that were measured.
    """
    colors = channel_colors(info.colors, len(info.channels))
    channels = []
    for channel, color, window, limit in zip(info.channels, colors, windows, limits, strict=True):
        low, high = channel.window or window
        # Limits that are stated are left as they are, whatever the window.
        least, largest = channel.limits or (min(limit[0], low), max(limit[1], high))
        extras = dict(channel.extras)
        shown = {"min": least, "max": largest, "start": low, "end": high}
        channels.append(
            {
                "label": channel.name,
                "color": channel.color or color,
                "active": channel.active is not False,
                "window": {**shown, **extras.pop("window", {})},
                **extras,
            }
        )
    return {**info.display, "channels": channels}


def parse_image(
    attributes: Mapping[str, Any], where: str, file: str | None = None
) -> Multiscale | None:
    """Give what a group's attributes say of its image; ``None`` where they speak of none.

    ``where`` is the group, ``file`` the one in it that holds them, for what is said of them.
    Those of other conventions, whose ``multiscales`` are no list, speak of none.

    Warns
    -----
    UserWarning
        Of scales and translations that cannot be meant, naming them.

    Raises
    ------
    LayoutError
        If they speak of one and are damaged, are of a later version, or place it by a
        transformation that is no scale and translation.
    """
    ome = attributes.get("ome")
    image = ome if isinstance(ome, dict) else attributes
    found = image.get("multiscales")
    if not found or not isinstance(found, list):
        return None
    try:
        first = found[0]
        version = str(image.get("version") or first.get("version") or "")
        number = _check_version(version, first, where)
        for name, most in (("axes", MAX_AXES), ("datasets", MAX_LEVELS)):
            stated = first.get(name) or ()
            if len(stated) > most:
                raise ValueError(f"it lists {len(stated):,} {name}, and at most {most} are read")
        axes = [a if isinstance(a, dict) else {"name": a} for a in first.get("axes") or ()]
        early = not version or (number is not None and number < _WITH_AXES)
        if not axes and early:
            # Before axes were named there were always five, in this order.
            axes = [{"name": a} for a in ORDER]
        if not axes or not first["datasets"]:
            raise ValueError("no axes or no datasets")
        levels = tuple(
            _stored_level(n, first, len(axes), file or where) for n in range(len(first["datasets"]))
        )
        letters = letters_of((a["name"], a.get("type")) for a in axes)
        frame = _frame([_stated_axis(a) for a in axes], levels[0])
        channels, display = parse_omero(image.get("omero"), where)
        return Multiscale(
            version=version or "0.4",
            info=ImageInfo(
                letters,
                _voxel_size(letters, frame, where),
                channels,
                labels=LABEL_KEY in image,
                image_label=label_record(image.get(LABEL_KEY)),
                frame=frame,
                display=display,
                group_attributes={
                    k: v
                    for k, v in attributes.items()
                    if k not in _OWN_KEYS and not k.startswith("bioformats2raw")
                },
            ),
            levels=levels,
            method=str(first.get("type") or ""),
        )
    except LayoutError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as err:
        told = cut(f"{type(err).__name__}: {err}")
        raise LayoutError(
            f"{where}: the multiscales metadata are damaged ({told}). Read a level by its own "
            "path, or write the image again."
        ) from err


def label_record(found: Any) -> dict[str, Any]:
    """Give what ``image-label`` says of labels, but for the version, which a writer states."""
    return {k: v for k, v in found.items() if k != "version"} if isinstance(found, dict) else {}


def _check_version(version: str, image: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Give a version as numbers, ``None`` of what is none.

    Raises
    ------
    LayoutError
        If it is later than those that are read.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    number = (int(found[1]), int(found[2])) if found else None
    if (number is not None and number > _LATEST) or "coordinateSystems" in image:
        levels = [d.get("path") for d in image.get("datasets") or () if isinstance(d, dict)]
        path = f"{where}/{levels[0]}" if levels else "its own path"
        what = f"is of version {version}" if version else "has coordinateSystems and no version"
        raise LayoutError(
            f"{where}: the OME-Zarr image {what}, and versions 0.1 to 0.5 are read: how its axes "
            f"and places are stated is not understood. Read a level as a plain array, {path}, or "
            "have the image written as 0.4 or 0.5."
        )
    return number


def _stated_axis(found: Mapping[str, Any]) -> Axis:
    unit = found.get("unit")
    extras = {k: v for k, v in found.items() if k not in ("name", "type", "unit")}
    return Axis(unit=None if unit is None else str(unit), extras=extras)


def _stored_level(number: int, image: Mapping[str, Any], ndim: int, where: str) -> StoredLevel:
    scale, shift, stated = np.ones(ndim), np.zeros(ndim), np.zeros(ndim, bool)
    key, dataset = "coordinateTransformations", image["datasets"][number]
    # Those of the whole image come after those of a level.
    for holder, name in ((dataset, f"datasets[{number}].{key}"), (image, key)):
        steps = _steps(holder.get(key), ndim, f"{where}: {name}")
        for n, (kind, values) in enumerate(steps):
            if n == MAX_STEPS:
                raise ValueError(f"{name} lists more than {MAX_STEPS}")
            given = np.array(values, float)
            known = np.isfinite(given)
            if kind == "scale":
                factors = np.where(known, given, 1.0)
                scale, shift, stated = scale * factors, shift * factors, stated | known
            else:
                shift = shift + np.where(known, given, 0.0)
    return StoredLevel(
        str(dataset["path"]), tuple(scale.tolist()), tuple(shift.tolist()), tuple(stated.tolist())
    )


def _steps(found: Any, ndim: int, name: str) -> Iterator[tuple[str, list[float]]]:
    """Yield scales and translations in the order in which they apply, NaN where none is meant.

    Raises
    ------
    LayoutError
        If one is another kind of transformation.
    """
    for step in found or ():
        kind = step["type"]
        if kind == "sequence":
            yield from _steps(step["transformations"], ndim, name)
        elif kind in ("affine", "rotation") and kind in step:
            matrix = np.array(step[kind], float)
            square = matrix[:ndim, :ndim]
            good = matrix.ndim == 2 and matrix.shape[1] in (ndim, ndim + 1)
            last = matrix[ndim:].ravel().tolist() if good else []
            if not good or len(square) != ndim or last not in ([], [0.0] * ndim + [1.0]) or (
                square != np.diag(np.diag(square))
            ).any():  # fmt: skip
                raise _not_understood(kind, name, step)
            yield "scale", _numbers(np.diag(square).tolist(), ndim, f"{name}, {kind}", above=0)
            yield "translation", matrix[:ndim, ndim:].ravel().tolist() or [0.0] * ndim
        elif kind in ("scale", "translation") and kind in step:
            above = {"above": 0} if kind == "scale" else {}
            yield kind, _numbers(step[kind], ndim, f"{name}, {kind}", **above)
        elif kind != "identity":
            raise _not_understood(kind, name, step)


def _not_understood(kind: Any, name: str, step: Mapping[str, Any]) -> LayoutError:
    what = format_found(kind)
    if "path" in step:
        what += f" by the path {format_found(step['path'])}"
    return LayoutError(
        f"{name} has a transformation {what}; a scale and a translation in numbers are understood. "
        "Read a level as a plain array, by its own path: it says nothing of where it lies then."
    )


def _numbers(found: Any, ndim: int, name: str, above: float = -math.inf) -> list[float]:
    """Give a number an axis, NaN for what is none that can be meant, which is warned of."""
    values = found if isinstance(found, list) and len(found) == ndim else [None] * ndim
    good = [
        isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and v > above
        for v in values
    ]
    if not all(good):
        what = "finite numbers" if above < 0 else "numbers above 0"
        warn(
            f"{name} is {format_found(found)}, expected {ndim} {what}: what is no such number is "
            "not used, and nothing is known along these axes"
        )
    return [float(v) if ok else math.nan for v, ok in zip(values, good, strict=True)]


def parse_omero(found: Any, where: str) -> tuple[tuple[Channel, ...], dict[str, Any]]:
    """Give what is stated of each channel, and what of the image beside them."""
    if not isinstance(found, dict):
        return (), {}
    channels = found.get("channels")
    entries = channels if isinstance(channels, list) else []
    if len(entries) > MAX_CHANNELS:
        raise LayoutError(
            f"{where}: omero lists {len(entries):,} channels, and at most {MAX_CHANNELS:,} are "
            "read. Read a level by its own path, or correct the metadata."
        )
    return (
        tuple(_channel(c if isinstance(c, dict) else {}, k, where) for k, c in enumerate(entries)),
        {k: v for k, v in found.items() if k not in ("channels", "version")},
    )


def _channel(found: Mapping[str, Any], number: int, where: str) -> Channel:
    label, color, window = (found.get(k) for k in ("label", "color", "window"))
    extras = {k: v for k, v in found.items() if k not in ("label", "color", "window", "active")}
    if color is not None and color_of(color) is None:
        warn(
            f"{where}: the color of channel {number} is {format_found(color)}, expected six "
            "hexadecimal digits: it is not used"
        )
    window = window if isinstance(window, dict) else {}
    more = {k: v for k, v in window.items() if k not in ("start", "end", "min", "max")}
    return Channel(
        str(number) if label is None or label == "" else str(label),
        color_of(color),
        _range(window, "start", "end"),
        _range(window, "min", "max"),
        found["active"] if isinstance(found.get("active"), bool) else None,
        {**extras, "window": more} if more else extras,
    )


def _range(found: Mapping[str, Any], least: str, largest: str) -> tuple[float, float] | None:
    try:
        low, high = float(found[least]), float(found[largest])
    except (TypeError, KeyError, ValueError):
        return None
    return (low, high) if math.isfinite(low) and math.isfinite(high) and low < high else None


def frame_record(info: ImageInfo, *, channels: bool = False) -> dict[str, Any]:
    """Give where elements lie and how channels are shown, for a format that has no place for it.

    Empty where nothing is stated but what every format of this library has: the size of a
    voxel in micrometres, names and colours; with ``channels`` these are there too.

    Examples
    --------
    >>> frame_record(ImageInfo("yx", frame=(Axis(2.0, 5.0, "mm"), Axis(1.5))))["axes"][0]
    {'name': 'y', 'scale': 2.0, 'translation': 5.0, 'unit': 'mm'}
    """
    found: dict[str, Any] = {}
    plain = all(
        not axis.translation
        and not axis.extras
        and (
            (axis.scale in (None, 1.0) and axis.unit is None)
            or (axis.unit == "micrometer" and a in "zyx")
        )
        for a, axis in zip(info.axes, info.frame, strict=False)
    )
    if not plain:
        found["axes"] = [
            {
                "name": a,
                "scale": axis.scale,
                "translation": axis.translation,
                "unit": axis.unit,
                **axis.extras,
            }
            for a, axis in zip(info.axes, info.frame, strict=True)
        ]
    shown = {}
    if channels or any(c != Channel(c.name, c.color) for c in info.channels):
        shown["channels"] = [_channel_record(c) for c in info.channels]
    shown |= info.display
    if shown:
        found["omero"] = shown
    if info.group_attributes:
        found["attributes"] = dict(info.group_attributes)
    return found


def image_record(info: ImageInfo) -> dict[str, Any]:
    """Give all that is known of an image beside its pixels, for a file of another format.

    What :func:`frame_record` gives, with the names and colours of channels, whether the pixels
    are labels, and what users noted with the array.
    """
    found = frame_record(info, channels=any(c != Channel() for c in info.channels))
    if info.labels:
        found[LABEL_KEY] = dict(info.image_label)
    if info.attributes:
        found[_ARRAY_KEY] = dict(info.attributes)
    return found


def _channel_record(channel: Channel) -> dict[str, Any]:
    extras = dict(channel.extras)
    window = extras.pop("window", {})
    for pair, names in ((channel.window, ("start", "end")), (channel.limits, ("min", "max"))):
        window = {**window, **(dict(zip(names, pair, strict=True)) if pair else {})}
    found = {"label": channel.name, "color": channel.color, "active": channel.active}
    stated = {k: v for k, v in found.items() if v is not None and v != ""}
    return {**stated, **({"window": window} if window else {}), **extras}


def with_record(info: ImageInfo, found: Any, where: str) -> ImageInfo:
    """Give what is known with what a record says; one that makes no sense says nothing.

    Axes go by their letters, and channels by their number. Where the axes are not known, they
    are those of the record. See :func:`image_record`.
    """
    if not isinstance(found, dict):
        return info
    axes = found.get("axes")
    if not info.axes and isinstance(axes, list):
        letters = [a.get("name") if isinstance(a, dict) else None for a in axes]
        if all(isinstance(a, str) and axis_letter(a) == a for a in letters):
            info = replace(info, axes="".join(map(str, letters)))
    known = {}
    for entry in axes if isinstance(axes, list) else ():
        if isinstance(entry, dict):
            given = entry.get("scale")
            known_scale = [1.0 if given is None else given]
            (scale,) = _numbers(known_scale, 1, f"{where}, scale", above=0)
            (shift,) = _numbers([entry.get("translation", 0)], 1, f"{where}, translation")
            rest = {k: v for k, v in entry.items() if k not in ("scale", "translation")}
            known[entry.get("name")] = replace(
                _stated_axis(rest),
                scale=None if given is None or math.isnan(scale) else scale,
                translation=0.0 if math.isnan(shift) else shift,
            )
    frame = tuple(known.get(a, Axis()) for a in info.axes) if known else info.frame
    channels, display = parse_omero(found.get("omero"), where)
    named = info.channels or (Channel(),) * len(channels)
    if len(channels) == len(named):
        channels = tuple(
            replace(c, name=own.name or c.name, color=own.color or c.color)
            for c, own in zip(channels, named, strict=True)
        )
    else:
        channels = info.channels
    size = info.voxel_size or (_voxel_size(info.axes, frame, where) if known else None)
    more, own = (found.get(key) for key in ("attributes", _ARRAY_KEY))
    return replace(
        info,
        frame=frame,
        channels=channels,
        display=display or info.display,
        labels=info.labels or LABEL_KEY in found,
        image_label=info.image_label or label_record(found.get(LABEL_KEY)),
        attributes=own if isinstance(own, dict) else info.attributes,
        group_attributes=more if isinstance(more, dict) else info.group_attributes,
    ).sized(size)
