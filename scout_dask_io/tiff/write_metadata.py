"""What a TIFF file says of its pixels: the fields of its directories, and its metadata. No files.

Sizes go out the way each kind of file has them: OME-XML with physical sizes,
ImageJ's own text with ``spacing`` and ``unit``, and resolution tags everywhere.

What an earlier export noted in a TIFF file of its own making.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import tifffile

from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import Option
from scout_dask_io.core.ome_metadata import RECORD_KEY, image_record
from scout_dask_io.core.voxel_size import ATTRIBUTE, VoxelSize, micrometres_of
from scout_dask_io.errors import ArgumentError, PathNotFoundError, TiffReadError
from scout_dask_io.files.location import locate_file
from scout_dask_io.tiff.describe import describe_image, describe_plane
from scout_dask_io.tiff.encode import Tag
from scout_dask_io.tiff.ifd import Window, read_header, read_ifd
from scout_dask_io.tiff.image_record import NAMESPACE, SECONDS, TIME_UNITS
from scout_dask_io.tiff.metadata import ome_color
from scout_dask_io.tiff.open_file import opened
from scout_dask_io.tiff.write_layout import TiffLayout

SOFTWARE = "scout-dask-io"

# Codes of the TIFF specification, by numpy's kind of dtype where that decides.
_SAMPLE_FORMAT = {"b": 1, "u": 1, "i": 2, "f": 3}
_DEFLATE = 8
_NO_UNIT, _CENTIMETRE = 1, 3
_UM_PER_CM = 10_000
_NOTHING = ImageInfo()


@dataclass(frozen=True, slots=True)
class Notes:
    """What one TIFF file says of itself.

    Attributes
    ----------
    description : bytes
        The first page's ImageDescription.
    software : str
        What wrote the file, and what else a later run wants to know.
    pixel : tuple of float, optional
        Pixels per ``unit`` along ``(y, x)``.
    unit : int
        As the ResolutionUnit tag has it.
    tags : tuple of Tag
        Further fields of the first page.
    """

    description: bytes
    software: str = SOFTWARE
    pixel: tuple[float, float] | None = None
    unit: int = _NO_UNIT
    tags: tuple[Tag, ...] = ()


def plain_notes(
    layout: TiffLayout,
    info: ImageInfo = _NOTHING,
    *,
    software: str = SOFTWARE,
    stack: ImageInfo | None = None,
) -> Notes:
    """Give the notes of a file that tells its shape, and axes if known, in the form of tifffile.

    The voxel size, for whose z TIFF has no field, the names and colours of channels, and
    whatever else is known of the image stand beside the shape. Of the first of a stack of
    planes, that is what is known of the ``stack``.
    """
    said: dict[str, Any] = {"shape": list(layout.shape)}
    if info.axes:
        said["axes"] = info.axes.upper()
    if info.names:
        said["channels"] = list(info.names)
    if info.colors:
        said["colors"] = list(info.colors)
    if info.voxel_size is not None:
        said[ATTRIBUTE] = list(info.voxel_size.micrometres)
    if record := image_record(info if stack is None else stack):
        said[RECORD_KEY] = record
    return Notes(json.dumps(said).encode("ascii"), software, *_per_cm(info.voxel_size))


def _per_cm(voxel: VoxelSize | None) -> tuple[tuple[float, float] | None, int]:
    """Give pixels a centimetre along y and x, and the unit; neither where one is not known."""
    if voxel is None or voxel.y is None or voxel.x is None:
        return None, _NO_UNIT
    return (_UM_PER_CM / voxel.y, _UM_PER_CM / voxel.x), _CENTIMETRE


def ome_notes(
    layout: TiffLayout, info: ImageInfo, *, software: str = SOFTWARE, name: str = ""
) -> Notes:
    """Give the notes of an OME-TIFF: its OME-XML (schema 2016-06) and resolution tags.

    Sizes of pixels, the time step, where each plane lies, names and colours of channels are
    where the schema has them. Whatever else is known of the image, such as contrast windows, is
    in an annotation of this library's namespace.

    Raises
    ------
    ArgumentError
        If OME-XML has no such dtype or axes.
    """
    said: dict[str, Any] = {"Name": name} if name else {}
    axes, voxel = info.axes, info.voxel_size
    if voxel is not None:
        for axis, size in zip("zyx", voxel.micrometres, strict=True):
            if axis in axes and size is not None:
                said |= {f"PhysicalSize{axis.upper()}": size}
                said |= {f"PhysicalSize{axis.upper()}Unit": "µm"}
    stated: dict[str, Any] = {"Name": list(info.names)} if info.names else {}
    if info.colors:
        stated["Color"] = [ome_color(c) for c in info.colors]
    if stated:
        said["Channel"] = stated
    said |= _time_increment(info) | _positions(layout, info)
    stored = (layout.n_pages, 1, 1, layout.height, layout.width, layout.samples)
    xml = tifffile.OmeXml(Creator=SOFTWARE)
    try:
        xml.addimage(layout.dtype, layout.shape, stored, axes=axes.upper(), **said)
    except (tifffile.OmeXmlError, ValueError) as err:
        raise ArgumentError(
            f"an OME-TIFF cannot hold {layout.dtype} of axes {axes}: {err}. Give "
            + Option("dtype", "")
            + " one of "
            "bool, integers of 8 to 32 bits, floats of 32 or 64 bits, or another kind of file."
        ) from err
    text = _annotated(xml.tostring(declaration=True), image_record(info))
    return Notes(text.encode(), software, *_per_cm(voxel))


def _time_increment(info: ImageInfo) -> dict[str, Any]:
    """Give the time from one moment to the next as OME-XML has it, where it is stated."""
    axis = dict(zip(info.axes, info.frame, strict=False)).get("t")
    unit = None if axis is None else TIME_UNITS.get(str(axis.unit))
    if axis is None or axis.scale is None or unit is None:
        return {}
    return {"TimeIncrement": axis.scale, "TimeIncrementUnit": unit}


def _positions(layout: TiffLayout, info: ImageInfo) -> dict[str, Any]:
    """Give where the first pixel of each page lies, if any lies elsewhere than at the origin."""
    frame = dict(zip(info.axes, info.measured, strict=False))
    if not any(frame[a].translation for a in "zyx" if a in frame):
        return {}
    said: dict[str, Any] = {}
    for a in "zyx":
        axis = frame.get(a)
        factor = None if axis is None else micrometres_of(axis.unit)
        if axis is None or (factor is None and axis.unit is not None):
            continue
        shift, step = axis.translation, axis.scale or 1.0
        lead = layout.lead
        at = np.indices(lead).reshape(len(lead), -1)[info.axes.index(a)] if a == "z" else 0
        places = (shift + step * (at + np.zeros(layout.n_pages))) * (factor or 1.0)
        said[f"Position{a.upper()}"] = places.tolist()
        unit = "reference frame" if factor is None else "µm"
        said[f"Position{a.upper()}Unit"] = [unit] * layout.n_pages
    return {"Plane": said} if said else {}


def _annotated(text: str, record: dict[str, Any]) -> str:
    """Give OME-XML with a record in it."""
    if not record:
        return text
    name = "Annotation:image_frame"
    value = escape(json.dumps(record))
    note = (
        f'<StructuredAnnotations><CommentAnnotation ID="{name}" Namespace="{NAMESPACE}">'
        f"<Value>{value}</Value></CommentAnnotation></StructuredAnnotations>"
    )
    text = text.replace("</Pixels>", f'</Pixels><AnnotationRef ID="{name}"/>', 1)
    return text.removesuffix("</OME>") + note + "</OME>"


def imagej_notes(
    layout: TiffLayout,
    info: ImageInfo,
    *,
    software: str = SOFTWARE,
    ranges: Sequence[tuple[float, float]] = (),
) -> Notes:
    """Give the notes of an ImageJ hyperstack; axes are some of ``tzcyxs``, in this order.

    ``ranges`` has the least and the greatest value of each channel: what ImageJ
    shows as black and white. Channel names are what Image > Show Info lists, and
    colours of several channels are their lookup tables.
    """
    said: dict[str, Any] = {}
    axes, voxel, pixel = info.axes, info.voxel_size, None
    if voxel is not None and voxel.y is not None and voxel.x is not None:
        # A spacing has the unit of the pixels: without these it would be none.
        pixel = (1 / voxel.y, 1 / voxel.x)
        said["unit"] = "micron"
        if "z" in axes and voxel.z is not None:
            said["spacing"] = voxel.z
    said |= _origin_of_imagej(info)
    if ranges:
        said |= {"min": ranges[0][0], "max": ranges[0][1]}
    if layout.samples == 1:
        said["mode"] = "composite" if len(ranges) > 1 else "grayscale"
    text = tifffile.imagej_description(layout.shape, axes=axes.upper(), **said)
    more: dict[str, Any] = {}
    if info.names:
        more["Info"] = "\n".join(f"Channel {k}: {c}" for k, c in enumerate(info.names, 1))
    if record := image_record(info):
        line = f"{RECORD_KEY}: {json.dumps(record)}"
        more["Info"] = f"{more['Info']}\n{line}" if "Info" in more else line
    if len(info.colors) > 1:
        more["LUTs"] = [_lut(color) for color in info.colors]
    if len(ranges) > 1:
        more["Ranges"] = tuple(float(v) for pair in ranges for v in pair)
    tags = []
    for code, kind, count, data, _ in tifffile.imagej_metadata_tag(more, "<"):
        name, char = {1: ("BYTE", "B"), 4: ("LONG", "I")}[kind]
        tags.append(Tag(code, name, struct.unpack(f"<{count}{char}", data)))
    return Notes(text.encode("ascii"), software, pixel, _NO_UNIT, tuple(tags))


def _origin_of_imagej(info: ImageInfo) -> dict[str, Any]:
    """Give the seconds between frames, and which pixel lies at the origin, as ImageJ has them."""
    said: dict[str, Any] = {}
    for a, axis in zip(info.axes, info.frame, strict=False):
        seconds = SECONDS.get(str(axis.unit))
        if a == "t" and axis.scale is not None and seconds is not None:
            said["finterval"] = axis.scale * seconds
        elif a in "zyx" and axis.translation:
            said[f"{a}origin"] = -axis.translation / (axis.scale or 1.0)
    return said


def _lut(color: str) -> np.ndarray:
    """Give 256 reds, greens and blues from black to a colour."""
    return (np.outer(list(bytes.fromhex(color)), np.arange(256)) // 255).astype(np.uint8)


def first_page_tags(notes: Notes) -> list[Tag]:
    """Give the fields that only the first page has."""
    return [Tag(270, "ASCII", notes.description), *notes.tags]


def common_tags(layout: TiffLayout, notes: Notes, level: int) -> list[Tag]:
    """Give the fields that all pages share at a level."""
    height, width = layout.levels[level]
    bits = 1 if layout.dtype.kind == "b" else 8 * layout.dtype.itemsize
    # Resolution is required by the standard; 1 to 1 without a unit says nothing.
    per_y, per_x = notes.pixel or (1, 1)
    tags = [
        Tag(256, "LONG", [width]),
        Tag(257, "LONG", [height]),
        Tag(258, "SHORT", [bits] * layout.samples),
        Tag(259, "SHORT", [_DEFLATE if layout.compress else 1]),
        Tag(262, "SHORT", [1 if layout.samples == 1 else 2]),
        Tag(277, "SHORT", [layout.samples]),
        Tag(282, "RATIONAL", _rational(per_x * width / layout.width)),
        Tag(283, "RATIONAL", _rational(per_y * height / layout.height)),
        Tag(284, "SHORT", [1]),
        Tag(296, "SHORT", [notes.unit]),
        Tag(305, "ASCII", notes.software.encode("ascii", "backslashreplace")),
        Tag(339, "SHORT", [_SAMPLE_FORMAT[layout.dtype.kind]] * layout.samples),
    ]
    if layout.tile:
        tags += [Tag(322, "SHORT", [layout.tile]), Tag(323, "SHORT", [layout.tile])]
    else:
        tags.append(Tag(278, "LONG", [layout.rows_per_strip]))
    if level:
        tags.append(Tag(254, "LONG", [1]))  # a reduced image
    if layout.predictor:
        tags.append(Tag(317, "SHORT", [2]))
    if layout.samples == 4:
        # Alpha that colours are not multiplied by.
        tags.append(Tag(338, "SHORT", [2]))
    return tags


def _rational(value: float) -> list[int]:
    """Give a positive number as a TIFF rational: two whole numbers below 2**32."""
    top = 2**32 - 1
    found = Fraction(value).limit_denominator(max(1, min(top, int(top / max(value, 1)))))
    return [min(found.numerator, top), found.denominator]


_SOFTWARE_TAG = 305


def record_text(record: dict[str, Any]) -> str:
    """Give a record as the text of the Software field."""
    return f"{SOFTWARE} {json.dumps(record)}"


def read_record(path: Path) -> dict[str, Any] | None:
    """Give the record in a file's first directory; ``None`` where there is no file or none in it.

    Raises
    ------
    TiffReadError
        If the file cannot be read as a TIFF.
    """
    try:
        with opened(locate_file(path)) as (fd, file):
            window = Window(fd, file.size)
            header = read_header(window)
            if header is None:
                return None
            text = read_ifd(window, header, header.first).text(_SOFTWARE_TAG, window)
    except PathNotFoundError:
        return None
    name, _, body = text.partition(" ")
    try:
        found = parse_json(body) if name == SOFTWARE else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def is_whole(path: Path, *, one_page: bool) -> bool:
    """Tell whether all that a file's directories promise lies in it. Decodes nothing."""
    describe = describe_plane if one_page else describe_image
    try:
        describe(locate_file(path))
    except TiffReadError:
        return False
    return True
