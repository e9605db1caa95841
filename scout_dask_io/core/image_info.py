"""What is known of an image beside its pixels: axes, voxel size, channels, planes that lack.

One record, :class:`ImageInfo`, which sources carry and writers write: as metadata state
it where they do, and the one guess by the number of axes where they do not.
"""

from __future__ import annotations

import colorsys
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scout_dask_io.core.grid import Region
from scout_dask_io.core.voxel_size import VoxelSize, micrometres_of
from scout_dask_io.errors import ArgumentError

#: Of channels in turn where none are stated, the same in every picture and viewer; magenta and
#: green are told apart by people who see red and green alike. One channel alone is white.
COLORS, WHITE = ("FF00FF", "00FF00", "00FFFF", "FFFF00", "FF8000", "0080FF"), "FFFFFF"
# Hues a golden angle apart stay distinct however many there are.
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class FilledPlane:
    """A plane that holds the fill value, since its file could not be read.

    Attributes
    ----------
    plane : tuple of int
        Where it is along the leading axes, ``(z,)`` or ``(c, z)``; empty where that
        is no longer known, since the array was computed from the one that was read.
    file : str
        The file that should have given it.
    reason : str
        Why it could not be read.
    """

    plane: tuple[int, ...]
    file: str
    reason: str

    @property
    def record(self) -> dict[str, Any]:
        """As attributes and documents have it."""
        return {"plane": list(self.plane) or None, "file": self.file, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel, as far as something is stated of it.

    Attributes
    ----------
    name : str
        Empty where none is stated.
    color : str or None
        Six hexadecimal digits.
    window : tuple of float or None
        The values that are shown black and in full colour.
    limits : tuple of float or None
        The range that a viewer lets these be moved in.
    active : bool or None
        Whether it is shown.
    extras : mapping
        Whatever else is stated of how it is shown, as OME-Zarr has it.
    """

    name: str = ""
    color: str | None = None
    window: tuple[float, float] | None = None
    limits: tuple[float, float] | None = None
    active: bool | None = None
    extras: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the elements along an axis lie, as far as something is stated of it.

    Attributes
    ----------
    scale : float or None
        From one element to the next, in ``unit``; above 0.
    translation : float
        Of the centre of the first element, in ``unit``.
    unit : str or None
        As it is stated: a length, a time, or whatever else.
    extras : mapping
        Whatever else is stated of the axis, as OME-Zarr has it.
    """

    scale: float | None = None
    translation: float = 0.0
    unit: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def micrometres(self) -> float | None:
        """The scale in micrometres, ``None`` where it is not stated or no length."""
        factor = micrometres_of(self.unit)
        return None if self.scale is None or factor is None else self.scale * factor

    def shifted(self, n: int) -> Axis:
        """Give it beginning ``n`` elements later; one without a scale is written with 1."""
        if not n:
            return self
        step = 1.0 if self.scale is None else self.scale
        return replace(self, translation=self.translation + n * step)

    def resized(self, micrometres: float) -> Axis:
        """Give it with another scale, in micrometres; it begins where it began.

        One whose unit is no length begins as many elements from the origin as it did.
        """
        own, factor = self.micrometres, micrometres_of(self.unit)
        if own is not None and math.isclose(own, micrometres, rel_tol=1e-9):
            return self
        times = micrometres / (self.scale or 1.0) if factor is None else factor
        return replace(
            self,
            scale=micrometres,
            translation=self.translation * times,
            unit="micrometer",
        )


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What is known of an image beside its pixels; what nothing states is empty or ``None``.

    Attributes
    ----------
    axes : str
        A letter an axis of the array, lower-case; ``s`` is colour.
    voxel_size : VoxelSize or None
        Of this level, in whole or in part.
    channels : tuple of Channel
        In their order.
    missing : tuple of FilledPlane
        Planes that hold the fill value because their files could not be read.
    labels : bool
        Whether the pixels are labels.
    frame : tuple of Axis
        Where the elements lie along each of ``axes``; empty where nothing but the size of a
        voxel is stated. It says the same as ``voxel_size`` where both state something.
    display : mapping
        What is stated of how the image is shown beside its channels, as OME-Zarr has it.
    attributes, group_attributes : mapping
        What users noted with the array, and with the group of the image that it is a level of.
    image_label : mapping
        What is stated of labels: their colours, properties and source, as OME-Zarr has it.

    Examples
    --------
    >>> info = ImageInfo("zcyx", channels=(Channel("syto", "0000FF"), Channel("sox2", "FF8000")))
    >>> part = info.cropped((slice(0, 5), slice(1, 2), slice(0, 8), slice(0, 9)))
    >>> part.transposed((1, 0, 2, 3)).axes, part.names, part.colors
    ('czyx', ('sox2',), ('FF8000',))
    """

    axes: str = ""
    voxel_size: VoxelSize | None = None
    channels: tuple[Channel, ...] = ()
    missing: tuple[FilledPlane, ...] = ()
    labels: bool = False
    frame: tuple[Axis, ...] = ()
    display: Mapping[str, Any] = field(default_factory=dict, hash=False)
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    group_attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    image_label: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the channels; empty where none is stated of any."""
        names = tuple(c.name for c in self.channels)
        return names if any(names) else ()

    @property
    def colors(self) -> tuple[str, ...]:
        """Colours of the channels; empty where one states none."""
        colors = tuple(c.color for c in self.channels if c.color is not None)
        return colors if len(colors) == len(self.channels) else ()

    @property
    def windows(self) -> tuple[tuple[float, float] | None, ...]:
        """What is shown of each channel, ``None`` where that is not stated."""
        return tuple(c.window for c in self.channels)

    @property
    def measured(self) -> tuple[Axis, ...]:
        """Where the elements lie along each axis, by the size of a voxel where that is all."""
        if self.frame or not self.axes:
            return self.frame
        sizes = self.voxel_size.micrometres if self.voxel_size else (None,) * 3
        known = dict(zip("zyx", sizes, strict=True))
        return tuple(
            Axis() if known.get(a) is None else Axis(known[a], unit="micrometer") for a in self.axes
        )

    def sized(self, size: VoxelSize | None) -> ImageInfo:
        """Give what is known with another voxel size, which counts; ``None`` changes nothing."""
        if size is None:
            return self
        known = dict(zip("zyx", size.micrometres, strict=True))
        frame = tuple(
            axis if known.get(a) is None else axis.resized(known[a] or 1.0)
            for a, axis in zip(self.axes, self.frame, strict=False)
        )
        return replace(self, voxel_size=size, frame=frame)

    def transposed(self, order: Sequence[int]) -> ImageInfo:
        """Give what is known of the array with its axes in another order."""
        return replace(
            self,
            axes="".join(self.axes[k] for k in order) if self.axes else "",
            frame=tuple(self.frame[k] for k in order) if self.frame else (),
        )

    def renamed(self, axes: str, shape: Sequence[int]) -> ImageInfo:
        """Give what is known where the axes of an array of this shape are others than are stated.

        What is stated of an axis of the same letter stays, and of channels if there are as many.
        """
        known = dict(zip(self.axes, self.measured, strict=False))
        frame = tuple(known.get(a, Axis()) for a in axes) if known else ()
        n_channels = dict(zip(axes, shape, strict=True)).get("c", 1)
        channels = self.channels if len(self.channels) == n_channels else ()
        return replace(self, axes=axes, frame=frame, channels=channels)

    def cropped(self, region: Region) -> ImageInfo:
        """Give what is known of a region; which planes of it lack is not told."""
        channels, at = self.channels, self.axes.find("c")
        if at >= 0:
            channels = channels[region[at]]
        missing = tuple(replace(plane, plane=()) for plane in self.missing)
        frame = self.frame
        if self.axes and any(part.start for part in region):
            # Channels are counted, and not placed.
            frame = tuple(
                axis if a in "cs" else axis.shifted(part.start)
                for a, axis, part in zip(self.axes, self.measured, region, strict=True)
            )
        return replace(self, channels=channels, missing=missing, frame=frame)

    def level(self, factors: Sequence[float]) -> ImageInfo:
        """Give what is known of a level whose voxels are ``(z, y, x)`` times as large."""
        size = self.voxel_size
        return self if size is None else replace(self, voxel_size=size.scaled(factors))

    def defaults(self, n_channels: int) -> ImageInfo:
        """Give so many channels, each with a name: those that are stated, or none of them."""
        channels = self.channels if len(self.channels) == n_channels else (Channel(),) * n_channels
        named = (replace(c, name=c.name or f"channel {k}") for k, c in enumerate(channels))
        return replace(self, channels=tuple(named))


def named_channels(names: Sequence[str], colors: Sequence[str] = ()) -> tuple[Channel, ...]:
    """Give channels of names and colours, each as many as there are channels or none."""
    n = max(len(names), len(colors))
    pairs = zip(names or ("",) * n, colors or (None,) * n, strict=True)
    return tuple(Channel(name, color) for name, color in pairs)


def channel_colors(stated: Sequence[str], n_channels: int) -> tuple[str, ...]:
    """Give six hexadecimal digits a channel: as stated, or where that is not for each the house's.

    Examples
    --------
    >>> channel_colors((), 2), channel_colors((), 1), channel_colors(("0000FF",), 1)
    (('FF00FF', '00FF00'), ('FFFFFF',), ('0000FF',))
    """
    known = stated if len(stated) == n_channels else (WHITE,) if n_channels == 1 else COLORS
    return tuple(known[k % len(known)] for k in range(n_channels))


def label_color(value: int) -> list[int]:
    """Give the colour of a label: red, green, blue and opacity, the same whenever it is asked.

    Examples
    --------
    >>> label_color(1), label_color(2)
    ([12, 79, 242, 255], [180, 242, 92, 255])
    """
    hue = value * _GOLDEN % 1.0
    # Neighbours in hue differ in lightness and saturation too.
    saturation, lightness = (0.73, 0.95, 0.62)[value % 3], (0.95, 0.8, 0.65)[value // 3 % 3]
    parts = colorsys.hsv_to_rgb(hue, saturation, lightness)
    return [*(round(255 * part) for part in parts), 255]


def color_of(found: Any) -> str | None:
    """Give a colour as six hexadecimal digits, ``None`` where it is none.

    Examples
    --------
    >>> color_of("#00ff00"), color_of("green")
    ('00FF00', None)
    """
    digits = str(found).removeprefix("#").upper()
    return digits if re.fullmatch("[0-9A-F]{6}", digits) else None


def check_colors(colors: Any, n_channels: int) -> list[str] | None:
    """Give colours as OME-Zarr has them.

    Raises
    ------
    ArgumentError
        If they are not six hexadecimal digits each, one a channel.
    """
    if colors is None:
        return None
    found = [color_of(c) for c in ([colors] if isinstance(colors, str) else colors)]
    good = [c for c in found if c is not None]
    if len(found) != n_channels or len(good) != n_channels:
        raise ArgumentError(
            f"colors must be {n_channels} of six hexadecimal digits, one a channel, such as "
            f"'00FF00', got {colors!r}"
        )
    return good
