"""What TIFF files state beside their pixels: axes, size of a voxel, names and colours of channels.

Each kind of metadata of an open file is parsed once, whatever is in it; no pixel is read.

Sources: the OME schema 2016-06, ``Channel`` (``Name``, and ``Color`` as a signed 32-bit
integer of red, green, blue and alpha, from the highest byte to the lowest); and ImageJ's
metadata, whose ``LUTs`` have 256 reds, greens and blues a channel.

Why it is long: what each kind states is a few lines, and in which order they count is one list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import WHITE, Channel, ImageInfo, named_channels
from scout_dask_io.core.messages import Option, warn
from scout_dask_io.core.ome_metadata import with_record
from scout_dask_io.core.voxel_size import ATTRIBUTE, VoxelSize, from_attribute, micrometres_of
from scout_dask_io.errors import ScoutIOError
from scout_dask_io.files.location import Location, locate_file
from scout_dask_io.files.voxel_csv import csv_sizes
from scout_dask_io.tiff.image_record import ask, coarser, record_of
from scout_dask_io.tiff.ome_xml import local_name, ome_pixels
from scout_dask_io.tiff.open_file import OpenFile, opened
from scout_dask_io.tiff.page_layout import PageLayout, SourceFile
from scout_dask_io.tiff.plane_map import Place
from scout_dask_io.tiff.series import open_tiff, series_of
from scout_dask_io.tiff.sidecar import sidecars_of

#: Dots per inch that programs write when they know of no size.
_PRINT_RESOLUTIONS = (72, 96, 100, 150, 200, 300, 600, 1200)


#: Pixels smaller than a hundredth of a nanometre or larger than 10 cm are no pixels.
_LEAST_UM, _GREATEST_UM = 1e-5, 1e5

#: Photometric interpretations whose samples are no red, green and blue: grey, inks, L*a*b*.
_NO_COLORS = frozenset({0, 1, 5, 8, 9, 10})

_BLACK = "000000"


@dataclass(frozen=True, slots=True)
class Stated:
    """What a file states of one of its images.

    Attributes
    ----------
    axes : str
        A letter an axis, lower-case; empty where they are not as many as the image has.
    sizes : tuple of VoxelSize
        Of a voxel, the most telling first.
    channels : tuple of Channel
        Empty where nothing is stated of them.
    ignored : str
        What resolution its tags have that is no size of a voxel.
    record : mapping
        What else is stated of the image, as ``core.ome_metadata.image_record`` has it.
    names_others : bool
        Whether it tells of other files, with which it may make up a set.
    attributes : mapping
        What images that are made of it note; of a dataset, how its names were read.
    level : int
        At which resolution the image is.
    """

    axes: str = ""
    sizes: tuple[VoxelSize, ...] = ()
    channels: tuple[Channel, ...] = ()
    ignored: str = ""
    record: Mapping[str, Any] = field(default_factory=dict, hash=False)
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    level: int = 0
    names_others: bool = False

    def telling(self, names: Sequence[str]) -> Sequence[str]:
        """Give names of channels by folders or files, none where the record tells them better.

        Names as an export gives them, ``c0``, ``c1`` …, say nothing.
        """
        plain = [re.sub("(?<=c)0+(?=[0-9])", "", name) for name in names]
        numbered = plain == [f"c{k}" for k in range(len(names))]
        return () if numbered and "omero" in self.record else names

    def image(self, axes: str, shape: Shape, info: ImageInfo, where: str) -> ImageInfo:
        """Give what is known of an image of some axes with what the record says of it.

        Of a part of what the record is of, such as one of several channels, what it says of
        channels does not count.
        """
        if not self.record:
            return info
        record = {k: v for k, v in self.record.items() if axes or k != "axes"}
        shown = record.get("omero")
        n_channels = dict(zip(axes, shape, strict=False)).get("c", 1)
        if isinstance(shown, dict) and len(shown.get("channels") or ()) != n_channels:
            record["omero"] = {k: v for k, v in shown.items() if k != "channels"}
        return with_record(info, record, where)


def sizes_beside(first: Location, *, in_dataset: bool = True) -> Iterator[VoxelSize]:
    """Yield what is stated in the folder of planes of which the first is given, and above it.

    What lies on a disk beside one file by its own name, as mesoSPIM's metadata do, comes first.
    """
    if not in_dataset and first.on_disk:
        beside = sidecars_of(first, ())
        yield from (one.size for one in beside if one.size is not None)
    yield from csv_sizes(first.parents[: 1 + in_dataset])


def stage_place(path: Location) -> Place | None:
    """Give where the stage was at the first plane of an OME-TIFF; ``None`` where it does not say.

    Raises
    ------
    PathNotFoundError, TiffReadError
        If the file cannot be read.
    """
    with opened(path) as (fd, file), open_tiff(fd, file, _multifile=False) as tif:
        pixels = ask(lambda: ome_pixels(tif, 0))
    planes = [] if pixels is None else [e for e in pixels if local_name(e) == "Plane"]
    if not planes:
        return None
    found = [_stage(planes[0], a) for a in "ZYX"]
    return None if not any(v is not None for v in found) else (found[0], found[1], found[2])


def pixels_facts(
    pixels: ElementTree.Element, n_channels: int
) -> tuple[tuple[VoxelSize, ...], tuple[str, ...], tuple[str, ...], Place | None]:
    """Give what a ``Pixels`` element states: sizes, names and colours of channels, the stage."""
    size = ask(lambda: _size_of_ome(pixels))
    names, colors = ask(lambda: _channels_of_ome(pixels)) or ((), ())
    plane = next((e for e in pixels if local_name(e) == "Plane"), None)
    place = None if plane is None else tuple(_stage(plane, a) for a in "ZYX")
    known = place is not None and any(v is not None for v in place)
    sized = size is not None and any(v is not None for v in size.micrometres)
    return (
        (size,) if size is not None and sized else (),
        _names(names, n_channels),
        _colors(colors, n_channels),
        (place[0], place[1], place[2]) if place is not None and known else None,
    )


def _stage(plane: ElementTree.Element, axis: str) -> float | None:
    value = plane.get(f"Position{axis}")
    scale = micrometres_of(plane.get(f"Position{axis}Unit", "µm"))
    number = ask(lambda: None if value is None else float(value))
    return None if number is None or scale is None else number * scale


def file_sizes(path: Any) -> tuple[VoxelSize, ...]:
    """Give what a TIFF file states of the size of a voxel; reads its directories alone.

    ``path`` is a path, or the place of an object in a store.

    Raises
    ------
    PathNotFoundError, TiffReadError
        If the file cannot be read.
    """
    with (
        opened(locate_file(path)) as (fd, file),
        open_tiff(fd, file, _multifile=False) as tif,
    ):
        return tuple(Metadata(tif).sizes())


def stated_by(
    fd: OpenFile, file: SourceFile, lead: Shape, layout: PageLayout, series: int = 0
) -> Stated:
    """Give what a file that is open states; metadata that tifffile cannot make out state nothing.

    For who describes the file anyway, and must not refuse it for what stands beside its pixels.
    """

    def stated() -> Stated:
        with open_tiff(fd, file, _multifile=False) as tif:
            return stated_in(tif, lead, layout, series=series)

    return _or_nothing(stated)


def stated_of(tif: tifffile.TiffFile, lead: Shape, layout: PageLayout, series: int) -> Stated:
    """Give what :func:`stated_by` does, of what tifffile has open already."""
    return _or_nothing(lambda: stated_in(tif, lead, layout, series=series))


def _or_nothing(stated: Callable[[], Stated]) -> Stated:
    try:
        return stated()
    except (ScoutIOError, OSError, MemoryError):
        raise
    except Exception:  # whatever tifffile raises of metadata that make no sense
        return Stated()


def stated_in(
    tif: tifffile.TiffFile, lead: Shape, layout: PageLayout, *, series: int = 0, level: int = 0
) -> Stated:
    """Give what an open file states of a series at a resolution level.

    Its axes are those of the array that is read: some for the pages, and those of a page.
    """
    metadata = Metadata(tif, series)
    image = series_of(tif)[series].levels[level]
    axes = metadata.axes(image, layout)
    if len(axes) != len(lead) + len(layout.shape):
        axes = ""
    n_channels = dict(zip(axes, (*lead, *layout.shape), strict=False)).get("c", 1)
    record = metadata.record(level) if axes else {}
    shown = record.get("omero")
    # The file's own way has names without spaces at their ends, and not every colour.
    told = isinstance(shown, dict) and len(shown.get("channels") or ()) == n_channels
    channels = () if told else metadata.channels(n_channels)
    sizes = tuple(metadata.sizes(level))
    return Stated(axes, sizes, channels, metadata.ignored, record, level=level)


class Metadata:
    """The metadata of a series of an open file, each kind parsed once, when it is asked for.

    What makes no sense states nothing.
    """

    def __init__(self, tif: tifffile.TiffFile, series: int = 0) -> None:
        self._tif = tif
        self._series = series
        self._is_stated = False

    @cached_property
    def _shaped(self) -> dict[str, Any]:
        """The description that this library writes, and tifffile."""
        found = ask(lambda: self._tif.shaped_metadata)
        return found[0] if found else {}

    @cached_property
    def _ome(self) -> ElementTree.Element | None:
        return ask(lambda: ome_pixels(self._tif, self._series))

    @cached_property
    def _imagej(self) -> dict[str, Any]:
        return ask(lambda: self._tif.imagej_metadata if self._tif.is_imagej else None) or {}

    def axes(self, image: tifffile.TiffPageSeries, layout: PageLayout) -> str:
        """Give a letter an axis, samples last: colour, or channels that are stored as samples.

        Samples are channels where the metadata call them so: OME-XML that splits no channel
        in samples, axes that tifffile or a Zeiss LSM names; and where they are grey.
        """
        found = image.axes.lower()
        if layout.samples < 2 and image.shape[-3:] == (layout.rows, layout.columns, 1):
            # tifffile names such axes by their number alone.
            known = found.endswith(("yxs", "yxc"))
            found = found[:-3] + ("yx" + found[-1] if known else "yxs")
            if not layout.samples:
                return str(found[:-1])
        if not layout.samples:
            return str(found)
        at = len(found) - (3 if layout.planar else 1)
        letter = found[at : at + 1]
        others = found[:at] + found[at + 1 :]
        if letter == "s" and "c" not in others and self._has_grey_samples(image):
            letter = "c"
        return str(others + letter)

    def _has_grey_samples(self, image: tifffile.TiffPageSeries) -> bool:
        page = image.keyframe
        n = page.samplesperpixel
        if self._ome is not None:
            channels = [e for e in self._ome if local_name(e) == "Channel"]
            if len(channels) == n and all(e.get("SamplesPerPixel", "1") == "1" for e in channels):
                return True
        # Unassociated and associated alpha: what is grey has one channel then, and its mask.
        alpha = any(int(kind) in (1, 2) for kind in page.extrasamples)
        return int(page.photometric) in _NO_COLORS and not alpha

    def sizes(self, level: int = 0) -> Iterator[VoxelSize]:
        """Yield what is stated about the size of a voxel at a resolution level.

        In this order: the description that this library writes, OME-XML, ImageJ's
        metadata, and the resolution tags. Values without a unit of length, zeros, and
        print resolutions such as 72 dpi are no sizes. Lower levels are as much larger
        as they have fewer pixels.

        Warns
        -----
        UserWarning
            If a unit cannot be read, or if resolution tags that are no size of a voxel, and
            nobody's print, are all that is stated of the plane; see :meth:`ignored`.
        """
        factors = self._factors(level)
        name = self._tif.filehandle.path or self._tif.filehandle.name
        self._is_stated = False
        for find in (
            lambda: from_attribute(self._shaped.get(ATTRIBUTE), "description"),
            lambda: _size_of_ome(self._ome),
            lambda: _size_of_imagej(self._imagej, self._tif),
            lambda: _size_of_metamorph(self._tif),
            lambda: _size_of_lsm(self._tif),
            lambda: _size_of_tags(self._imagej, self._tif),
        ):
            found = ask(find)
            if found is not None and any(v is not None for v in found.micrometres):
                self._is_stated = self._is_stated or found.x is not None
                yield VoxelSize(*found.scaled(factors).micrometres, f"{found.source} of {name}")
        if self.ignored and not ask(lambda: _is_print(self._tif)):
            warn(
                f"{name}: {self.ignored}. "
                + Option("voxel_size", "")
                + " says what the size of a pixel is."
            )

    @cached_property
    def ignored(self) -> str:
        """What resolution is no size of a voxel; empty where there is one. After :meth:`sizes`."""
        if self._is_stated:
            return ""
        said = ask(lambda: _ignored_resolution(self._imagej, self._tif))
        return f"the resolution tags state {said}; they are ignored" if said else ""

    def channels(self, n: int) -> tuple[Channel, ...]:
        """Give what is stated about the ``n`` channels.

        Of the description that this library writes, OME-XML, and ImageJ's metadata, what
        the first of them states. What is not stated of each channel is not stated, but
        for a name: such a channel has its number. Nor are colours that show nothing, black,
        and white of several channels, which the OME schema has for a channel of no colour.
        """
        names: tuple[str, ...] = ()
        colors: tuple[str, ...] = ()
        for find in (
            lambda: _channels_of_shaped(self._shaped),
            lambda: _channels_of_ome(self._ome),
            lambda: _channels_of_imagej(self._imagej),
            lambda: _channels_of_lsm(self._tif),
        ):
            found = ask(find) or ((), ())
            names = names or _names(found[0], n)
            colors = colors or _colors(found[1], n)
        return named_channels(names, colors)

    def record(self, level: int = 0) -> dict[str, Any]:
        """Give what is stated beside sizes and channels, as :func:`record_of` does."""
        times = dict(zip("zyx", self._factors(level), strict=True))
        found = record_of(self._tif, self._shaped, self._ome, self._imagej)
        return found if level == 0 else coarser(found, times)

    def _factors(self, level: int) -> tuple[float, float, float]:
        if level == 0:
            return 1.0, 1.0, 1.0
        levels = series_of(self._tif)[self._series].levels
        extents = [dict(zip(s.axes, s.shape, strict=True)) for s in (levels[0], levels[level])]
        z, y, x = (extents[0].get(a, 1) / max(extents[1].get(a, 1), 1) for a in "ZYX")
        return z, y, x


def _length(value: Any, unit: Any) -> float | None:
    """Give a length in micrometres, ``None`` where value or unit makes no sense."""
    scale = micrometres_of(unit)
    if value is None or scale is None:
        return None
    length = float(value) * scale
    return length if math.isfinite(length) and length > 0 else None


def _size_of_ome(pixels: ElementTree.Element | None) -> VoxelSize | None:
    if pixels is None:
        return None
    given = pixels.attrib
    for axis in "XYZ":
        unit = given.get(f"PhysicalSize{axis}Unit", "µm")
        known = micrometres_of(unit) is not None or unit.lower() in ("pixel", "reference frame")
        if f"PhysicalSize{axis}" in given and not known:
            warn(
                f"OME-XML states the size of a pixel in {unit!r}, which is no unit that is known; "
                "the size is not used. " + Option("voxel_size", "") + " says what it is."
            )
            break
    z, y, x = (
        _length(given.get(f"PhysicalSize{a}"), given.get(f"PhysicalSize{a}Unit", "µm"))
        for a in "ZYX"
    )
    return VoxelSize(z, y, x, "OME-XML")


#: What ImageJ writes for a unit where there is none.
_NO_UNITS = ("", "pixel", "pixels", "px", "null", "none", "unknown")


def _size_of_imagej(meta: dict[str, Any], tif: tifffile.TiffFile) -> VoxelSize | None:
    if "unit" not in meta:
        return None
    unit = meta["unit"]
    units = {"X": unit, "Y": meta.get("yunit", unit), "Z": meta.get("zunit", unit)}
    for one in dict.fromkeys(map(str, units.values())):
        if micrometres_of(one) is None and one.strip().lower() not in _NO_UNITS:
            warn(
                f"ImageJ's metadata state the size of a pixel in {one!r}, which is no unit of "
                "length that is known; the size is not used. "
                + Option("voxel_size", "")
                + " says what it is."
            )
    x, y = _length(_per_pixel(tif, 282), units["X"]), _length(_per_pixel(tif, 283), units["Y"])
    impossible = any(v is not None and not _is_possible(v) for v in (x, y))
    if impossible or _no_size(tif) or _counts_by_tags(meta, tif):
        x = y = None
    return VoxelSize(_length(meta.get("spacing"), units["Z"]), y, x, "ImageJ metadata")


def _counts_by_tags(meta: dict[str, Any], tif: tifffile.TiffFile) -> bool:
    """Tell whether resolution tags count pixels by their own unit, and not by that of ImageJ.

    ImageJ writes no unit in the tags but inches and centimetres, where its own is the same;
    Micro-Manager counts pixels a centimetre, and has ImageJ's text say micrometres. Others leave
    a unit in the tags that means nothing. Pixels below 10 nm in a microscope's image, or of
    millimetres, tell which of the two was meant.
    """
    scale, pixels = micrometres_of(meta["unit"]), _per_pixel(tif, 282)
    by_tags = _length(pixels, _tag_unit(tif))
    if by_tags is None or scale is None or pixels is None:
        return False
    least = 0.01 if _tag_unit(tif) == "cm" else 0.001
    return pixels * scale < least and 0.001 <= by_tags <= 1000


def _size_of_metamorph(tif: tifffile.TiffFile) -> VoxelSize | None:
    """Give the size that the UIC tags of a MetaMorph stack state."""
    meta = tif.stk_metadata if tif.is_stk else None
    if not meta:
        return None
    unit = str(meta.get("CalibrationUnits") or "um").strip("\0 ")
    x, y = (
        _length(meta.get(f"{a}Calibration"), unit) if meta.get("SpatialCalibration", 1) else None
        for a in "XY"
    )
    return VoxelSize(_z_step(meta), y, x, "MetaMorph's UIC tags")


def _z_step(meta: dict[str, Any]) -> float | None:
    """Give the distance of MetaMorph's planes, which is in micrometres, where it is the same."""
    steps = np.abs(np.asarray(meta.get("ZDistance", ()), float))
    if len(steps) > 1 and steps[1] > 0 and np.allclose(steps[1:], steps[1], rtol=1e-3):
        return float(steps[1])
    heights = np.asarray(meta.get("AbsoluteZ", ()), float)
    if heights.ndim == 2 and heights[:, 1].all():  # numerators and denominators, of old tifffile
        heights = heights[:, 0] / heights[:, 1]
    steps = np.abs(np.diff(heights)) if heights.ndim == 1 else np.zeros(0)
    if len(steps) and steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-3):
        return float(steps[0])
    return None


def _size_of_lsm(tif: tifffile.TiffFile) -> VoxelSize | None:
    """Give the size that a Zeiss LSM states, in metres."""
    meta = tif.lsm_metadata if tif.is_lsm else None
    if not meta:
        return None
    z, y, x = (_length(meta.get(f"VoxelSize{a}"), "m") for a in "ZYX")
    return VoxelSize(z, y, x, "Zeiss LSM metadata")


def _tag_unit(tif: tifffile.TiffFile) -> str:
    """Give the unit of the resolution tags, empty where they have none."""
    return {2: "inch", 3: "cm"}.get(int(tif.pages.first.tags.valueof(296, 1)), "")


def _size_of_tags(meta: dict[str, Any], tif: tifffile.TiffFile) -> VoxelSize | None:
    unit, x, y = _tag_unit(tif), _per_pixel(tif, 282), _per_pixel(tif, 283)
    if not unit or x is None or y is None or x == 1 or _no_size(tif):
        return None
    across, down = _length(x, unit), _length(y, unit)
    if across is None or down is None or not (_is_possible(across) and _is_possible(down)):
        return None
    own = micrometres_of(meta.get("unit"))
    if own is not None:
        if own != micrometres_of(unit) and not _counts_by_tags(meta, tif) and across > 1000:
            return None  # the tags count pixels by ImageJ's unit, whatever they say
        if micrometres_of(meta.get("yunit", meta["unit"])) != own:
            down = None  # so does their second number by a unit of its own
    return VoxelSize(None, down, across, "resolution tags")


def _is_possible(length_um: float) -> bool:
    return _LEAST_UM < length_um < _GREATEST_UM


def _is_print(tif: tifffile.TiffFile) -> bool:
    """Tell whether the resolution is that of a print, which programs write as they like."""
    unit, x = _tag_unit(tif), _per_pixel(tif, 282)
    dpi = 0.0 if not unit or x is None else 1 / (x * (1.0 if unit == "inch" else 1 / 2.54))
    return any(abs(dpi - n) < 0.005 * n for n in _PRINT_RESOLUTIONS)


def _no_size(tif: tifffile.TiffFile) -> bool:
    """Tell whether the resolution is one that programs write where they know of no size.

    That of a print or a screen, or the placeholder of Bio-Formats, SCIFIO and Micro-Manager.
    """
    unit, x, y = _tag_unit(tif), _per_pixel(tif, 282), _per_pixel(tif, 283)
    if not unit or x is None or y is None:
        return False
    if _is_print(tif):
        return True
    if any(abs(1 / x - n) < 0.005 * n for n in (72, 96)):
        return True  # whatever the unit says
    has_placeholder = tif.is_ome or tif.is_micromanager or tif.is_ndtiff
    has_placeholder = has_placeholder or tif.pages.first.description.startswith("SCIFIO")
    return unit == "cm" and x == y == 1e-4 and has_placeholder


def _ignored_resolution(meta: dict[str, Any], tif: tifffile.TiffFile) -> str:
    """Say what resolution the tags state where it is no size of a voxel; empty where it is one."""
    unit, x = _tag_unit(tif), _per_pixel(tif, 282)
    if not unit and micrometres_of(meta.get("unit")) is not None:
        unit = str(meta["unit"])
    if not unit or x is None or x == 1:
        return ""
    across = _length(x, unit)
    said = f"{1 / x:,.10g} pixels {'an' if unit == 'inch' else 'a'} {unit}"
    if _no_size(tif):
        return f"{said}, which programs write where they know of no size"
    if across is None or not _is_possible(across):
        return f"{said}, which no pixel has"
    return ""


def _per_pixel(tif: tifffile.TiffFile, code: int) -> float | None:
    """Give units per pixel from a tag that holds pixels per unit."""
    value = tif.pages.first.tags.valueof(code)
    if value is None or not value[0] or not value[1]:
        return None
    return float(value[1]) / float(value[0])


def ome_color(color: str) -> int:
    """Give six hexadecimal digits as OME-XML has them.

    Examples
    --------
    >>> ome_color("FF0000"), ome_color("0000FF")
    (-16776961, 65535)
    """
    value = int(color + "FF", 16)
    return value - 2**32 if value >= 2**31 else value


def _names(found: Sequence[str], n: int) -> tuple[str, ...]:
    if len(found) != n or not any(found):
        return ()
    return tuple(name or str(k) for k, name in enumerate(found))


def _colors(found: Sequence[str], n: int) -> tuple[str, ...]:
    """Give the colours if there is one of each channel and they show something."""
    stated = len(found) == n and all(re.fullmatch("[0-9A-F]{6}", c) for c in found)
    if not stated or _BLACK in found or (n > 1 and set(found) == {WHITE}):
        return ()
    return tuple(found)


def _channels_of_shaped(meta: dict[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
    names, colors = meta.get("channels", ()), meta.get("colors", ())
    return tuple(map(str, names)), tuple(map(str, colors))


def _channels_of_ome(
    pixels: ElementTree.Element | None,
) -> tuple[Sequence[str], Sequence[str]]:
    found = [] if pixels is None else [e for e in pixels if local_name(e) == "Channel"]
    return (
        tuple((e.get("Name") or "").strip() for e in found),
        tuple(f"{(int(e.get('Color') or 0) & 0xFFFFFFFF) >> 8:06X}" for e in found),
    )


def _channels_of_imagej(meta: dict[str, Any]) -> tuple[Sequence[str], Sequence[str]]:
    # As this library writes them, for Image > Show Info.
    lines = dict(_numbered_names(str(meta.get("Info", ""))))
    names = tuple(lines.get(k, "") for k in range(1, max(lines, default=0) + 1))
    luts = meta.get("LUTs") if meta.get("mode") != "grayscale" else None
    colors = tuple(_brightest(lut) for lut in luts) if luts is not None else ()
    return names, colors


def _channels_of_lsm(tif: tifffile.TiffFile) -> tuple[Sequence[str], Sequence[str]]:
    meta = tif.lsm_metadata if tif.is_lsm else None
    found = (meta or {}).get("ChannelColors") or {}
    names = tuple(str(name).strip("\0 ") for name in found.get("ColorNames", ()))
    return names, tuple(
        "".join(f"{int(v):02X}" for v in color[:3]) for color in found.get("Colors", ())
    )


def _numbered_names(info: str) -> Iterator[tuple[int, str]]:
    for number, name in re.findall(r"^Channel (\d{1,4}): (.+)$", info, re.MULTILINE):
        yield int(number), name.strip()


def _brightest(lut: Any) -> str:
    red, green, blue = np.asarray(lut, np.uint8).reshape(3, 256)[:, -1].tolist()
    return f"{red:02X}{green:02X}{blue:02X}"
