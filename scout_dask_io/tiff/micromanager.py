"""Micro-Manager's stacks of several files and NDTiff: which plane lies where, by their indices.

A multi-page file of Micro-Manager (``MMStack``) has at its head a summary, which all files of
a data set share, and the place of its index map: channel, slice, frame, position and the
directory's offset of each plane. NDTiff has one ``NDTiff.index`` for all files of a folder.

Sources: "Micro-Manager File Formats" of micro-manager.org; the specification of NDTiff
(github.com/micro-manager/NDTiffStorage, versions 2 and 3).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from scout_dask_io.core.image_info import named_channels
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.selection import ALL_PAGES
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.errors import TiffReadError
from scout_dask_io.files.location import Location
from scout_dask_io.tiff.ome_set import check_names
from scout_dask_io.tiff.plane_map import FileSet, Place, PlaneAt, PlaneMap

INDEX = "NDTiff.index"
#: Where the planes lie of which a data set has lower resolutions too.
FULL = "Full resolution"
_MOST_INDEX = 1 << 30
#: The tag of a page that has what Micro-Manager says of its plane, as JSON.
PLANE_METADATA = 51123
_INDEX_MAP, _SUMMARY, _INDEX_ENTRIES, _NDTIFF = 54773648, 2355492, 3453623, 483729
#: Of NDTiff's pixel types: bytes a sample, and samples.
_PIXELS = {0: (1, 0), 1: (2, 0), 2: (1, 3), 3: (2, 0), 4: (2, 0), 5: (2, 0), 6: (2, 0)}
_NDTIFF_AXES = {"time": "t", "channel": "c", "z": "z"}
_STACK = re.compile(r"(.*)_MMStack(?:_|(?=\.))(.*?)(?:\.ome)?\.tiff?", re.IGNORECASE)


def is_stack(head: bytes) -> bool:
    """Tell by its first 40 bytes whether a file is one of Micro-Manager's with an index map."""
    return _at_head(head, 8) == _INDEX_MAP and _at_head(head, 12) > 0


def is_ndtiff(head: bytes) -> bool:
    """Tell by its first 40 bytes whether a file is one of NDTiff."""
    return _at_head(head, 8) == _NDTIFF


def _at_head(head: bytes, at: int) -> int:
    order = {b"II": "<", b"MM": ">"}.get(bytes(head[:2]))
    if order is None or len(head) < at + 4:
        return 0
    return int(struct.unpack_from(order + "I", head, at)[0])


def read_stack(read: Callable[[int, int], bytes]) -> tuple[dict[str, Any], np.ndarray] | None:
    """Give summary and index map of a file; ``None`` where it has none that makes sense.

    ``read`` gives some bytes from an offset. A row of the map is channel, slice, frame, position
    and offset.
    """
    head = read(0, 40)
    order = {b"II": "<", b"MM": ">"}.get(bytes(head[:2]), "<")
    at, mark, n = (_at_head(head, k) for k in (12, 32, 36))
    try:
        if mark != _SUMMARY:
            return None
        summary = parse_json(read(40, n).split(b"\0", 1)[0].decode("utf-8", "replace"))
        mark, count = struct.unpack(order + "II", read(at, 8))
        if mark != _INDEX_ENTRIES or not isinstance(summary, dict):
            return None
        rows = np.frombuffer(read(at + 8, 20 * count), order + "u4").reshape(-1, 5)
    except (ValueError, struct.error):
        return None
    found = rows.astype(np.int64)
    return summary, found[found[:, 4] > 0]


def stack_members(own: str, beside: Mapping[str, str]) -> list[str]:
    """Give the files of a folder that may be of one data set with a file, by their names."""
    match = _STACK.fullmatch(own)
    if match is None:
        return sorted(beside.values())
    start = match[1] + "_MMStack"
    return sorted({own, *(n for n in beside.values() if n.startswith(start))})


def stack_set(own: str, parts: Mapping[str, tuple[dict[str, Any], np.ndarray]]) -> FileSet | None:
    """Give the set of a file of which summary and index map are known, as of all beside it."""
    summary = parts[own][0]
    same = {
        name: rows
        for name, (other, rows) in parts.items()
        if all(other.get(k) == summary.get(k) for k in ("UUID", "Prefix", "StartTime", "Time"))
        and len(rows)
    }
    if own not in same:
        return None
    counts = [summary.get(k) for k in ("Channels", "Slices", "Frames", "Positions")]
    most = np.max([rows[:, :4].max(axis=0) for rows in same.values()], axis=0) + 1
    extents = {
        a: max(int(n), _count(stated))
        for a, n, stated in zip("cztr", most.tolist(), counts, strict=True)
    }
    axes = "tr" if summary.get("TimeFirst", True) else "rt"
    axes += "zc" if summary.get("SlicesFirst", True) else "cz"
    shape = tuple(extents[a] for a in axes)
    if math.prod(shape) > 10**8:
        return None
    planes: list[PlaneAt | None] = [None] * math.prod(shape)
    columns = ["cztr".index(a) for a in axes]
    first_of: dict[int, str] = {}
    for name in sorted(same, key=lambda n: (len(n), n)):
        rows = same[name]
        numbers = np.ravel_multi_index(tuple(rows[:, columns].T), shape)
        for number, at, position in zip(
            numbers.tolist(), rows[:, 4].tolist(), rows[:, 3].tolist(), strict=True
        ):
            known = planes[number]
            if known is not None and known.file != name:
                raise TiffReadError(
                    f"{known.file!r} and {name!r} both have the same planes of one Micro-Manager "
                    "data set: move one of them away"
                )
            planes[number] = PlaneAt(name, 0, at)
            first_of.setdefault(position, name)
    planned, places = _planned(summary, extents["r"])
    labels = _labels(first_of, extents["r"]) or planned
    labels = labels or tuple(f"Pos{k}" for k in range(extents["r"]))
    image = PlaneMap(
        str(summary.get("Prefix") or ""), axes, shape, planes, _sizes(summary),
        named_channels(_channel_names(summary, extents["c"])), labels,
        places=places,
    )  # fmt: skip
    return FileSet("a Micro-Manager data set", (image,))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 1


def _labels(first_of: Mapping[int, str], n: int) -> tuple[str, ...]:
    """Name positions as their files do, where each begins a file of its own; else none."""
    names = {k: _STACK.fullmatch(name) for k, name in first_of.items()}
    labels = {k: m[2] for k, m in names.items() if m is not None and m[2]}
    if len(set(labels.values())) < n or len(set(first_of.values())) < n:
        return ()
    return tuple(labels[k] for k in range(n))


def _planned(
    summary: Mapping[str, Any], n: int
) -> tuple[tuple[str, ...], tuple[Place | None, ...]]:
    """Give names and places of ``n`` positions as a summary lists them; empty where it does not."""
    listed = _plain(summary.get("StagePositions") or summary.get("InitialPositionList"))
    if not isinstance(listed, list) or len(listed) != n:
        return (), ()
    rows = [row if isinstance(row, dict) else {} for row in listed]
    labels = tuple(str(_plain(row.get("Label")) or "") for row in rows)
    places = tuple(map(_planned_place, rows))
    distinct = len(set(labels)) == n and all(labels)
    return labels if distinct else (), places if any(places) else ()


def _planned_place(row: Mapping[str, Any]) -> Place | None:
    devices = _plain(row.get("DevicePositions"))
    known = _plain(row.get("DeviceCoordinatesUm"))
    listed = (
        [_plain(d.get("Position_um")) for d in devices or () if isinstance(d, dict)]
        if isinstance(devices, list)
        else []
    )
    listed += list(known.values()) if isinstance(known, dict) else []
    numbers = [v for v in listed if isinstance(v, list) and all(map(_is_number, v))]
    x, y = next((v for v in numbers if len(v) == 2), (None, None))
    (z,) = next((v for v in numbers if len(v) == 1), (None,))
    return None if x is None and z is None else (z, y, x)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _plain(value: Any) -> Any:
    """Give what a property map holds, which names the type of each value."""
    if isinstance(value, dict) and "type" in value and ("scalar" in value or "array" in value):
        return value.get("scalar", value.get("array"))
    return value


def place_of_plane(text: bytes) -> Place | None:
    """Give where the stage was by the JSON of a plane, ``(z, y, x)`` in micrometres."""
    try:
        found = parse_json(text.split(b"\0", 1)[0].decode("utf-8", "replace"))
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    z, y, x = (
        float(v) if _is_number(v) else None
        for v in (_plain(found.get(f"{axis}PositionUm")) for axis in "ZYX")
    )
    return None if x is None and y is None and z is None else (z, y, x)


def read_summary(read: Callable[[int, int], bytes]) -> dict[str, Any]:
    """Give the summary at the head of a file of NDTiff; empty where there is none."""
    try:
        order = {b"II": "<", b"MM": ">"}.get(bytes(read(0, 2)), "<")
        mark, n = struct.unpack(order + "II", read(20, 8))
        found = parse_json(read(28, n).split(b"\0", 1)[0]) if mark == _SUMMARY else {}
    except (ValueError, struct.error):
        return {}
    return found if isinstance(found, dict) else {}


def _sizes(summary: Mapping[str, Any]) -> tuple[VoxelSize, ...]:
    pixel, step = (
        float(v) if isinstance(v, (int, float)) and math.isfinite(v) and v > 0 else None
        for v in (
            summary.get("PixelSize_um", summary.get("PixelSizeUm")),
            summary.get("z-step_um", 0),
        )
    )
    if pixel is None and step is None:
        return ()
    return (VoxelSize(step, pixel, pixel, "Micro-Manager's summary"),)


def _channel_names(summary: Mapping[str, Any], n: int) -> tuple[str, ...]:
    names = summary.get("ChNames") or ()
    if isinstance(names, str):
        try:
            names = parse_json(names)
        except ValueError:
            return ()
    found = tuple(map(str, names)) if isinstance(names, (list, tuple)) else ()
    return found if len(found) == n and any(found) else ()


def read_index(folder: Location) -> bytes | None:
    """Give the index of an NDTiff data set that lies in a folder; ``None`` where there is none."""
    return (folder / INDEX).read(_MOST_INDEX)


def _entries(data: bytes, where: str) -> Iterator[tuple[dict[str, Any], str, tuple[int, ...]]]:
    """Yield axes, file and numbers of each plane of an index.

    Raises
    ------
    TiffReadError
        If it is cut or makes no sense.
    """
    at, number = 0, 0
    while at < len(data):
        try:
            (n,) = struct.unpack_from("<I", data, at)
            axes = parse_json(data[at + 4 : at + 4 + n])
            at += 4 + n
            (n,) = struct.unpack_from("<I", data, at)
            name = data[at + 4 : at + 4 + n].decode()
            at += 4 + n
            numbers = struct.unpack_from("<IiiiiIii", data, at)
            at += 32
            if not all(isinstance(v, (int, str)) for v in axes.values()):
                raise ValueError("axes that are neither numbers nor words")
        except (struct.error, ValueError, AttributeError) as err:
            raise TiffReadError(
                f"{where!r} is damaged or cut after {number:,} planes: the planes of the NDTiff "
                "data set beside it cannot be told. Bring back the index as it was written; "
                + ALL_PAGES
                + " reads the pages of its files one after the other."
            ) from err
        yield axes, name, numbers
        number += 1


def ndtiff_set(folder: Location, data: bytes, summary: Mapping[str, Any]) -> FileSet:
    """Give the set that an index of NDTiff lists; ``summary`` is that of its files.

    Axes that are no time, channel or z tell positions apart.

    Raises
    ------
    TiffReadError
        If the index makes no sense, or is of a kind that is not read.
    """
    where = str(folder / INDEX)
    rows: list[dict[str, Any]] = []
    places: list[PlaneAt] = []
    kinds: set[tuple[int, ...]] = set()
    for axes, name, numbers in _entries(data, where):
        rows.append(axes)
        offset, width, height, pixel, compression = numbers[:5]
        places.append(PlaneAt(name, 0, -1, offset, *numbers[5:7]))
        kinds.add((width, height, pixel, compression))
    if not rows:
        raise TiffReadError(f"{where!r} lists no plane: the NDTiff data set is empty")
    check_names(sorted({p.file for p in places}), repr(where))
    if len(kinds) > 1 or next(iter(kinds))[3] != 0 or next(iter(kinds))[2] not in _PIXELS:
        shown = ", ".join(f"{w}x{h} of type {p}, compression {c}" for w, h, p, c in sorted(kinds))
        raise TiffReadError(
            f"{where!r} lists planes that are no one uncompressed array: {shown}. "
            + ALL_PAGES
            + " reads the pages of the files one after the other."
        )
    names = dict.fromkeys(key for row in rows for key in row)
    others = [name for name in names if name not in _NDTIFF_AXES]
    columns: dict[str, list[Any]] = {
        _NDTIFF_AXES[name]: [row.get(name, 0) for row in rows] for name in _NDTIFF_AXES
    }
    columns["r"] = [tuple(row.get(name, 0) for name in others) for row in rows]
    values: dict[str, list[Any]] = {a: _values(found) for a, found in columns.items()}
    number_of = {a: {v: k for k, v in enumerate(found)} for a, found in values.items()}
    index = np.array([[number_of[a][v] for v in columns[a]] for a in columns], np.int64).reshape(
        len(columns), -1
    )
    order = _slowest_first(index, list(columns))
    shape = tuple(len(values[a]) for a in order)
    if math.prod(shape) > 10**8:
        raise TiffReadError(f"{where!r} has axes of {math.prod(shape):,} planes, of which it lists "
                            f"{len(rows):,}")  # fmt: skip
    planes: list[PlaneAt | None] = [None] * math.prod(shape)
    rows_of = [index[list(columns).index(a)] for a in order]
    numbers_of = np.ravel_multi_index(tuple(rows_of), shape).tolist()
    for number, place in zip(numbers_of, places, strict=True):
        planes[number] = place
    channels = values["c"] if all(isinstance(v, str) for v in values["c"]) else []
    labels = [_label(others, v) for v in values["r"]]
    stated: tuple[str, ...] = ()
    stage: tuple[Place | None, ...] = ()
    if others == ["position"] and all(isinstance(k, int) for (k,) in values["r"]):
        stated, stage = _planned(summary, len(labels))
    image = PlaneMap(
        "", "".join(order), shape, planes, _sizes(summary), named_channels(channels),
        stated or tuple(labels), places=stage,
    )  # fmt: skip
    return FileSet("an NDTiff data set", (image,))


def _values(found: Sequence[Any]) -> list[Any]:
    """Give what an axis has, in order: whole numbers without gaps, words as they come."""
    distinct = list(dict.fromkeys(found))
    if all(isinstance(v, int) for v in distinct):
        return list(range(min(distinct), max(distinct) + 1))
    if all(isinstance(v, tuple) and all(isinstance(k, int) for k in v) for v in distinct):
        return sorted(distinct)
    return distinct


def _label(others: Sequence[str], value: tuple[Any, ...]) -> str:
    if not others:
        return ""
    if others == ["position"]:
        return value[0] if isinstance(value[0], str) else f"Pos{value[0]}"
    return " ".join(f"{name}{v}" for name, v in zip(others, value, strict=True))


def _slowest_first(index: np.ndarray, axes: Sequence[str]) -> list[str]:
    """Give axes in the order in which they vary from plane to plane, the slowest first."""
    changes = [int(np.abs(np.diff(row)).sum()) for row in index]
    return [axes[k] for k in sorted(range(len(axes)), key=lambda k: changes[k])]
