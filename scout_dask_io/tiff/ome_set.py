"""OME-TIFF of several files: which plane of which image lies in which of them, by OME-XML.

Each file has the XML of the whole set in its first description, or (``BinaryOnly``) names the
file that has it: another member, or a companion of XML alone. Files are known by UUID, and
where that does not tell by name; names that lead out of the folder are refused. Members that
were put into folders, one a channel, are known by their names below the folder of all.

Source: the OME-TIFF specification and the OME schema 2016-06 (``TiffData``, ``UUID``,
``BinaryOnly``; ``PlaneCount`` is 1 where ``IFD`` is given, else all pages of the file).
"""

from __future__ import annotations

import math
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from xml.etree import ElementTree

from scout_dask_io.core.image_info import named_channels
from scout_dask_io.core.messages import Way
from scout_dask_io.core.selection import ALL_PAGES
from scout_dask_io.errors import TiffReadError
from scout_dask_io.files.location import Location
from scout_dask_io.tiff.metadata import pixels_facts
from scout_dask_io.tiff.ome_xml import local_name
from scout_dask_io.tiff.page_chain import MOST_CLAIMED, miscounted
from scout_dask_io.tiff.plane_map import FileSet, PlaneAt, PlaneMap

#: XML of a set of 100,000 files is some 20 MB.
_MOST_XML = 256 << 20
#: So many pages of a file are believed to be there before it is looked at; and so many to have
#: been in one that is gone.
_FEW, _MOST_GONE = 4096, 100_000
_NONSENSE = (ValueError, TypeError, KeyError, ElementTree.ParseError)
_UUID = re.compile(rb"""<(?:\w+:)?OME\b[^>]*?\bUUID\s*=\s*["']([^"']+)["']""")


def is_ome(text: bytes) -> bool:
    """Tell whether a description may be OME-XML of more files than its own."""
    return b"OME" in text[:2000] and (b"FileName" in text or b"BinaryOnly" in text)


def name_in(text: bytes) -> str:
    """Give the one name of a file that OME-XML has; empty where it has none, or several."""
    if not is_ome(text):
        return ""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return ""
    names = {e.get("FileName") or "" for e in root.iter() if local_name(e) == "UUID"} - {""}
    return names.pop() if len(names) == 1 else ""


def uuid_of(text: bytes) -> str:
    """Give the UUID that a file's OME-XML has for the file; empty where it has none."""
    found = _UUID.search(text[:4000])
    return "" if found is None else found[1].decode("latin-1")


def ome_set(
    folder: Location,
    own: str,
    text: bytes,
    beside: Callable[[], Mapping[str, str]],
    description: Callable[[Location], bytes],
    count_pages: Callable[[Location], int],
) -> FileSet | None:
    """Give the set that a file's OME-XML tells of; ``None`` where it is a file by itself.

    Parameters
    ----------
    folder : Location
        Where the files of the set are.
    own : str
        The file's name in it; with ``/`` where the files are in folders below.
    text : bytes
        Its description.
    beside : callable
        Gives the names of the TIFF files in the folder, or below it where that of the file is
        there, by these names in lower case.
    description, count_pages : callable
        Give the first description of a file beside it, and the number of its pages.

    Raises
    ------
    TiffReadError
        If it names files outside of the folder.
    """
    is_alone, who = "/" not in own, f"the OME-XML of {str(folder / own)!r}"
    first = own
    try:
        root = ElementTree.fromstring(text)
        companion = next((e for e in root.iter() if local_name(e) == "BinaryOnly"), None)
        if companion is not None:
            first = companion.get("MetadataFile") or ""
            check_names([first], who)
            first = own[: own.rfind("/") + 1] + first
            whole = _companion(folder, first, description)
            if whole is None:
                return None
            root = whole
    except _NONSENSE:
        return None
    names = {e.get("FileName") or "" for e in root.iter() if local_name(e) == "UUID"} - {""}
    if is_alone:
        check_names(sorted(names), who)
    if companion is None and len(names) < 2 and not _of_one_name(root):
        return None  # one file, which may have been renamed or copied
    members = _Members(folder, root, first, beside, description)

    def count(name: str) -> int:
        return count_pages(folder / name) if is_alone or name.lower() in beside() else 0

    try:
        images = _images(root, members, count)
    except _NONSENSE:
        return None
    if not images:
        return None
    found = FileSet("an OME-TIFF", tuple(images))
    if own not in found.files:
        return None  # what describes others and is none of them
    return replace(
        found, lacking=frozenset(name for name in found.files if name.lower() not in beside())
    )


def check_names(names: Iterable[str], who: str) -> None:
    """Refuse names of files that lead out of a folder; ``who`` has them.

    Raises
    ------
    TiffReadError
        If there are any.
    """
    strange = [n for n in names if n in (".", "..") or "/" in n or "\\" in n or "\0" in n]
    if strange:
        raise TiffReadError(
            f"{who} names files outside of its folder: {', '.join(map(repr, strange[:3]))}; only "
            "files beside it are read. "
            + Way(
                "Where they are folders of one set, imread_dataset of the folder above reads it",
                "Where they are folders of one set, give the folder above",
            )
            + "; "
            + ALL_PAGES
            + " reads the pages of this file alone."
        )


def _companion(
    folder: Location, name: str, description: Callable[[Location], bytes]
) -> ElementTree.Element | None:
    """Give the XML that a file of pages alone points to; ``None`` where that is not there."""
    if not name:
        return None
    if name.lower().endswith((".tif", ".tiff", ".tf2", ".tf8", ".btf")):
        text: bytes | None = description(folder / name)
    else:
        text = (folder / name).read(_MOST_XML)
    if not text:
        return None
    root = ElementTree.fromstring(text)
    return None if any(local_name(e) == "BinaryOnly" for e in root) else root


def _of_one_name(root: ElementTree.Element) -> frozenset[str]:
    """Give the names that several files have, in folders of their own: a page of each is one."""
    found: dict[tuple[str, str], set[str]] = {}
    for data in root.iter():
        if local_name(data) == "TiffData":
            for e in data:
                if local_name(e) == "UUID" and e.text and (name := e.get("FileName")):
                    found.setdefault((name, data.get("IFD") or "0"), set()).add(e.text.strip())
    return frozenset(name for (name, _), uuids in found.items() if len(uuids) > 1)


class _Members:
    """Which file of a folder is meant by a UUID and a name."""

    def __init__(
        self,
        folder: Location,
        root: ElementTree.Element,
        own: str,
        beside: Callable[[], Mapping[str, str]],
        description: Callable[[Location], bytes],
    ) -> None:
        self._folder = folder
        self._beside = beside
        self._description = description
        self.own = own
        named: dict[str, set[str]] = {}
        for e in root.iter():
            if local_name(e) == "UUID" and e.text:
                named.setdefault(e.text.strip(), set()).add(e.get("FileName") or "")
        # A UUID that several names have tells nothing.
        self._unclear = {uuid for uuid, names in named.items() if len(names) > 1}
        self._shared = _of_one_name(root)
        self._by_uuid = {root.get("UUID") or "": own}
        self._known: dict[tuple[str, str], str] = {}
        self._uuids: dict[str, str] | None = None
        self._lasts: dict[str, list[str]] | None = None

    def resolve(self, element: ElementTree.Element | None) -> str:
        """Give the name of the file that an ``UUID`` element means, as the folder has it."""
        if element is None:
            return self.own
        uuid, name = (element.text or "").strip(), element.get("FileName") or ""
        key = uuid, name
        if key not in self._known:
            self._known[key] = self._resolve(uuid, name)
        return self._known[key]

    def _resolve(self, uuid: str, name: str) -> str:
        is_told = bool(uuid) and uuid not in self._unclear
        if is_told and uuid in self._by_uuid:
            return self._by_uuid[uuid]
        if name not in self._shared and (found := self._named(name)):
            return found
        if is_told and (renamed := self._renamed().get(uuid)):
            return renamed
        return f"{name} ({uuid})" if name in self._shared else name or uuid

    def _named(self, name: str) -> str:
        """Give the file of a name, as the folder has it; empty where there is none, or several."""
        if not name:
            return ""
        beside, own = self._beside(), self.own
        if "/" not in own:
            return own if name.lower() == own.lower() else beside.get(name.lower(), "")
        if self._lasts is None:
            self._lasts = {}
            for found in beside.values():
                self._lasts.setdefault(found.rpartition("/")[2].lower(), []).append(found)
        name = name.replace("\\", "/")
        for path in (posixpath.join(posixpath.dirname(own), name), name):
            if (found := posixpath.normpath(path).lower()) in beside:
                return beside[found]
        alike = self._lasts.get(name.lower(), [])  # none of a name with its folder
        return alike[0] if len(alike) == 1 else ""

    def _renamed(self) -> dict[str, str]:
        """Give the files of the folder by the UUIDs that they have, each of one file alone."""
        if self._uuids is None:
            found: list[tuple[str, str]] = []
            for name in self._beside().values():
                try:
                    found.append((uuid_of(self._description(self._folder / name)), name))
                except TiffReadError:
                    continue
            counts = Counter(uuid for uuid, _ in found)
            self._uuids = {uuid: name for uuid, name in found if uuid and counts[uuid] == 1}
        return self._uuids


def _images(
    root: ElementTree.Element, who: _Members, count_pages: Callable[[str], int]
) -> list[PlaneMap]:
    found: list[PlaneMap] = []
    for element in root.iter():
        if local_name(element) != "Image":
            continue
        pixels = next((e for e in element if local_name(e) == "Pixels"), None)
        if pixels is None:
            continue
        one = _image(element.get("Name") or element.get("ID") or "", pixels, who, count_pages)
        if any(p is not None for p in one.planes):
            found.append(one)
    return found


def _image(
    name: str, pixels: ElementTree.Element, who: _Members, count_pages: Callable[[str], int]
) -> PlaneMap:
    axes = pixels.attrib["DimensionOrder"][:1:-1]  # without X and Y, the slowest first
    extents = {a: int(pixels.attrib[f"Size{a}"]) for a in axes}
    channel = next((e for e in pixels if local_name(e) == "Channel"), None)
    samples = 1 if channel is None else int(channel.get("SamplesPerPixel", 1))
    extents["C"] = max(extents["C"] // max(samples, 1), 1)
    shape = tuple(extents[a] for a in axes)
    total = math.prod(shape)
    if total < 1:
        raise ValueError(f"{total} planes")
    steps = [math.prod(shape[k + 1 :]) for k in range(len(shape))]
    found: dict[int, PlaneAt] = {}
    for data in pixels:
        if local_name(data) != "TiffData":
            continue
        file = who.resolve(next((e for e in data if local_name(e) == "UUID"), None))
        page = int(data.get("IFD", 0))
        start = [int(data.get(f"First{a}", 0)) for a in axes]
        if any(not 0 <= k < n for k, n in zip(start, shape, strict=True)):
            continue  # as ImageJ leaves them where it crops
        first = sum(k * step for k, step in zip(start, steps, strict=True))
        n = int(data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else 0)))
        if not 0 < n <= _FEW:
            there = count_pages(file)
            n = min(n or there, there or _MOST_GONE)
        found |= {first + k: PlaneAt(file, page + k) for k in range(min(n, total - first))}
    if total > max(MOST_CLAIMED, 2 * len(found)):
        raise miscounted("OME-XML", total, len(found))
    planes = [found.get(k) for k in range(total)]
    sizes, names, colors, place = pixels_facts(pixels, shape[axes.index("C")])
    return PlaneMap(
        name, axes.lower(), shape, planes, sizes, named_channels(names, colors), place=place
    )
