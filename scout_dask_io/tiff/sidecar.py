"""Files that microscopes leave beside TIFFs: sizes, names of channels, places of the stage.

Each is told by its name and by its content: Micro-Manager's ``metadata.txt`` and display settings,
mesoSPIM's ``*_meta.txt``, SmartSPIM's ``metadata.txt`` and ``metadata.json``, ``Index.idx.xml`` of
Opera and Operetta, ``MetaData/*.xml`` of LAS X. What makes no sense states nothing; what has no
unit and is none by the format is no size. Places are in micrometres, ``(z, y, x)``.

Sources: Micro-Manager's wiki, "Files on Disk"; the source of mesoSPIM-control (``write_metadata``);
the ``Evaluation``/``Images`` elements of PerkinElmer's index files as Bio-Formats'
``OperettaReader`` reads them; ``DimensionDescription`` of LAS X as its ``LIFReader`` does.

Why it is long: what each of these files says is a few lines, and they are looked for together.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from scout_dask_io.core.json_document import parse_json, parse_json_at
from scout_dask_io.core.name_layouts import TIFF_ENDING
from scout_dask_io.core.voxel_size import VoxelSize, micrometres_of
from scout_dask_io.errors import ScoutIOError
from scout_dask_io.files.location import Location
from scout_dask_io.tiff.image_record import NONSENSE
from scout_dask_io.tiff.ome_xml import local_name
from scout_dask_io.tiff.plane_map import Place

_MOST_TEXT, _MOST_XML = 4 << 20, 256 << 20
_META = re.compile(r"(?:.*_)?metadata\.(?:txt|json)", re.IGNORECASE)
_DISPLAY = re.compile(
    r"(?:.*_)?DisplaySettings\.json|display_and_comments\.txt|display_settings\.txt", re.IGNORECASE
)
_INDEX = re.compile(r"Index(?:\.idx|\.ref)?\.xml", re.IGNORECASE)


@dataclass(frozen=True)
class Sidecar:
    """What one file beside TIFFs states.

    Attributes
    ----------
    source : str
        The file.
    size : VoxelSize or None
        Of a voxel.
    channels : tuple of str
        Names of the channels, in the order of their numbers.
    extents : dict
        How many there are along an axis, by its letter.
    place : Place or None
        Of the stage, for what lies beside this file.
    places : dict
        Of the stage, by the name of a TIFF file.
    """

    source: str
    size: VoxelSize | None = None
    channels: tuple[str, ...] = ()
    extents: dict[str, int] = field(default_factory=dict)
    place: Place | None = None
    places: dict[str, Place] = field(default_factory=dict)


def sidecars_of(first: Location, folders: Sequence[Location]) -> tuple[Sidecar, ...]:
    """Give what is stated beside a TIFF by its own name, and in folders, in their order.

    Lists the folders on a disk; in a store it reads files of the usual names alone. What cannot
    be read states nothing.
    """
    found: list[Sidecar] = []
    try:
        found += of_file(first)
        for folder in folders:
            found += _of_folder(folder, first.name)
    except (ScoutIOError, OSError):
        return tuple(found)
    return tuple(found)


def of_file(first: Location) -> Iterator[Sidecar]:
    """Yield what lies beside one file by its own name: mesoSPIM's, with or without extension."""
    stem = re.sub(rf"(?i:\.ome)?{TIFF_ENDING}$", "", first.name)
    names = [f"{first.name}_meta.txt", f"{stem}_meta.txt"]
    for name, data in first.parent.read_many(names, _MOST_TEXT).items():
        if data is not None:
            yield from _asked(_of_mesospim, _text(data), str(first.parent / name))


def _of_folder(folder: Location, first: str) -> Iterator[Sidecar]:
    if folder.on_disk:
        entries = folder.entries()
        names = [p.name for p, is_folder in entries if not is_folder]
        names = [n for n in names if n.lower().endswith((".txt", ".json", ".xml"))]
        nested = [p for p, is_folder in entries if is_folder and p.name.lower() == "metadata"]
    else:
        names, nested = ["metadata.txt", "metadata.json", "Index.idx.xml"], []
    wanted = [n for n in names if _META.fullmatch(n) or _DISPLAY.fullmatch(n)]
    for name, data in folder.read_many(wanted, _MOST_TEXT).items():
        if data is None:
            continue
        where, text = str(folder / name), _text(data)
        kinds = (_of_display,) if _DISPLAY.fullmatch(name) else (_of_micromanager, _of_smartspim)
        for parse in kinds:
            yield from _asked(parse, text, where)
    for name in [n for n in names if _INDEX.fullmatch(n)][:1]:
        data = (folder / name).read(_MOST_XML)
        if data is not None:
            yield from _asked(_of_opera, data, str(folder / name))
    for below in nested:
        xml = [p for p, is_folder in below.entries() if p.name.lower().endswith(".xml")]
        # One a series, by the name that its files begin with.
        of_series = [p for p in xml if first.startswith(p.name[:-4])]
        for place in (of_series or (xml if len(xml) == 1 else []))[:1]:
            data = place.read(_MOST_TEXT)
            if data is not None:
                yield from _asked(_of_leica, data, str(place))


def places_beside(folder: Location) -> dict[str, Place]:
    """Give the places of the stage that files in a folder state, by the names of TIFF files."""
    found: dict[str, Place] = {}
    try:
        for one in _of_folder(folder, ""):
            found |= one.places
        data = (folder / "metadata.txt").read(16 * _MOST_TEXT)
    except (ScoutIOError, OSError):
        return found
    if data is not None:
        for key, frame in _frames(_text(data)):
            place = _place(*(frame.get(f"{a}PositionUm") for a in "ZYX"))
            name = str(frame.get("FileName") or key).replace("\\", "/").rpartition("/")[2]
            if place is not None:
                found.setdefault(name, place)
    return found


def _asked(parse: Any, content: Any, where: str) -> Iterator[Sidecar]:
    try:
        found = parse(content, where)
    except NONSENSE:
        return
    if found is not None:
        yield found


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _number(value: Any) -> float | None:
    """Give the first number of a text, or a number as it is; ``None`` where it is none."""
    found = re.search(r"[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?", str(value))
    number = float(found[0]) if found and not isinstance(value, bool) else math.nan
    return number if math.isfinite(number) else None


def _size(z: Any, y: Any, x: Any, source: str) -> VoxelSize | None:
    sizes = [v if v is not None and v > 0 else None for v in map(_number, (z, y, x))]
    return VoxelSize(sizes[0], sizes[1], sizes[2], source) if any(sizes) else None


def _place(z: Any, y: Any, x: Any) -> Place | None:
    found = (_number(z), _number(y), _number(x))
    return None if found == (None, None, None) else found


def _of_micromanager(text: str, where: str) -> Sidecar | None:
    """Read the summary, and the metadata of the first frame; the file may be cut at its end."""
    at = re.search(r'"Summary"\s*:\s*(?=\{)', text)
    if at is None:
        return None
    summary = parse_json_at(text, at.end())
    frame = next((found for _, found in _frames(text)), {})
    pixel = _number(frame.get("PixelSizeUm")) or _number(summary.get("PixelSize_um"))
    step = abs(_number(summary.get("z-step_um")) or 0.0) or None
    names = summary.get("ChNames") or ()
    names = parse_json(names) if isinstance(names, str) else names
    counts = zip("tczyx", ("Frames", "Channels", "Slices", "Height", "Width"), strict=True)
    return Sidecar(
        where,
        _size(step, pixel, pixel, where),
        tuple(map(str, names)),
        {a: int(summary[k]) for a, k in counts if _number(summary.get(k))},
        _place(*(frame.get(f"{a}PositionUm") for a in "ZYX")),
    )


def _frames(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the key and the metadata of each frame that Micro-Manager describes whole."""
    for match in re.finditer(r'"(?:FrameKey|Metadata)-([^"]*)"\s*:\s*(?=\{)', text):
        try:
            found = parse_json_at(text, match.end())
        except ValueError:
            return
        yield match[1], found


def _of_display(text: str, where: str) -> Sidecar | None:
    """Read the names of channels of Micro-Manager's display settings, of whichever version."""
    found = parse_json(text)
    found = found.get("map", found)
    rows = found.get("ChannelSettings", found.get("Channels"))
    if isinstance(rows, dict):
        rows = rows.get("array")
    if isinstance(rows, list):
        names = [r.get("Channel", r.get("Name")) for r in rows]
        names = [n.get("scalar") if isinstance(n, dict) else n for n in names]
    else:
        names = [k for k, v in found.items() if isinstance(v, dict) and "Color" in v]
    return Sidecar(where, channels=tuple(map(str, names))) if names and all(names) else None


def _of_mesospim(text: str, where: str) -> Sidecar | None:
    """Read lines such as ``[Pixelsize in um] 1.625``."""
    lines = re.findall(r"^\s*\[([^\]]+)\][ \t:]*(.*?)\s*$", text, re.MULTILINE)
    stated = {key.strip().lower(): value for key, value in lines}
    pixel = stated.get("pixelsize in um")
    if pixel is None:
        return None
    laser = stated.get("laser", "")
    counts = zip("zyx", ("z_planes", "y_pixels", "x_pixels"), strict=True)
    return Sidecar(
        where,
        _size(stated.get("z_stepsize"), pixel, pixel, where),
        (laser,) if laser else (),
        {a: int(float(stated[k])) for a, k in counts if _number(stated.get(k))},
        _place(
            stated.get("z_start", stated.get("z_pos")), stated.get("y_pos"), stated.get("x_pos")
        ),
    )


def _of_smartspim(text: str, where: str) -> Sidecar | None:
    """Read ``µm/pix`` and ``Z step (µm)`` of a table with tabs, of lines, or of JSON."""
    stated: dict[str, Any] = {}
    try:
        queue: list[Any] = [parse_json(text)]
        while queue:
            one = queue.pop()
            if isinstance(one, dict):
                queue += one.values()
                stated |= {str(k): v for k, v in one.items() if not isinstance(v, (dict, list))}
    except ValueError:
        lines = [line.split("\t") for line in text.splitlines()]
        for line, below in zip(lines, [*lines[1:], []], strict=True):
            if len(line) == 2 or not any(map(_number, below)):
                stated |= {line[0]: line[1]} if len(line) == 2 else {}
            else:
                stated |= {k: v for k, v in zip(line, below, strict=False) if k not in stated}
        for key, value in re.findall(r"^([^:=\t\n]+)[:=][ \t]*(\S.*?)\s*$", text, re.MULTILINE):
            stated.setdefault(key, value)
    pixel = step = None
    for key, value in stated.items():
        name = re.sub(r"[^a-z/]", "", key.lower())
        if name.endswith("m/pix") or name in ("um/px", "m/px", "umperpix", "pixelsizeum"):
            pixel = pixel or _number(value)
        elif re.match("z_?steps?(size)?(u?m)?$", name):
            step = step or _number(value)
    return Sidecar(where, _size(step, pixel, pixel, where)) if pixel else None


def _children(element: ElementTree.Element) -> dict[str, ElementTree.Element]:
    return {local_name(e): e for e in element}


def _um(element: ElementTree.Element | None) -> float | None:
    """Give the length of an element such as ``<PositionX Unit="m">1e-3</PositionX>``."""
    if element is None or element.text is None:
        return None
    scale, value = micrometres_of(element.get("Unit", "m")), _number(element.text)
    return None if scale is None or value is None else value * scale


def _of_opera(data: bytes, where: str) -> Sidecar | None:
    """Read the images that an index lists, and the resolutions of channels, wherever they stand."""
    names: dict[int, str] = {}
    places: dict[str, Place] = {}
    heights: dict[int, float] = {}
    pixel: tuple[float | None, float | None] = (None, None)
    for _, element in ElementTree.iterparse(io.BytesIO(data)):
        tag = local_name(element)
        if tag not in ("Image", "Entry"):
            continue
        found = _children(element)
        if "ImageResolutionX" in found and pixel == (None, None):
            pixel = _um(found.get("ImageResolutionY")), _um(found["ImageResolutionX"])
        channel = _number(found["ChannelID"].text) if "ChannelID" in found else None
        channel = _number(element.get("ChannelID")) if channel is None else channel
        if channel is not None and "ChannelName" in found:
            names[int(channel)] = str(found["ChannelName"].text)
        if "URL" in found and found["URL"].text:
            x, y = _um(found.get("PositionX")), _um(found.get("PositionY"))
            z = _um(found.get("AbsPositionZ"))
            places[found["URL"].text.rpartition("/")[2]] = (z, y, x)
            plane, height = found.get("PlaneID"), _um(found.get("PositionZ"))
            height = z if height is None else height
            if plane is not None and height is not None:
                heights.setdefault(int(plane.text or 0), height)
        element.clear()
    if not places and pixel == (None, None):
        return None
    planes = sorted(heights)
    ends = (heights[planes[0]], heights[planes[-1]]) if planes else (0.0, 0.0)
    step = abs(ends[1] - ends[0]) / (planes[-1] - planes[0]) if len(planes) > 1 else None
    channels = tuple(names[k] for k in sorted(names))
    return Sidecar(where, _size(step, *pixel, where), channels, places=places)


def _of_leica(data: bytes, where: str) -> Sidecar | None:
    """Read the dimensions that LAS X exports: their length is from the first pixel to the last."""
    root = ElementTree.fromstring(data)
    sizes: dict[str, float | None] = {}
    extents: dict[str, int] = {}
    for element in root.iter():
        if local_name(element) != "DimensionDescription":
            continue
        axis = {"1": "x", "2": "y", "3": "z", "4": "t"}.get(
            element.get("DimID", ""), element.get("DimID", "").lower()
        )
        n, scale = int(element.get("NumberOfElements", 0)), micrometres_of(element.get("Unit"))
        length, voxel = element.get("Length"), element.get("Voxel")
        if axis not in "xyzt" or not axis or axis in extents:
            continue
        extents[axis] = n
        if axis == "t" or scale is None:
            continue
        if voxel is not None:
            sizes[axis] = abs((_number(voxel) or 0.0) * scale)
        elif length is not None and n > 1:
            sizes[axis] = abs((_number(length) or 0.0) * scale) / (n - 1)
    if not sizes:
        return None
    size = _size(sizes.get("z"), sizes.get("y"), sizes.get("x"), where)
    return Sidecar(where, size, extents=extents)
