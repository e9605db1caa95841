"""The chain of a file's directories: every page that it has, and where the chain goes astray.

A file that was cut, or whose 32-bit links wrapped round above 4 GB, holds fewer pages than it
should; and metadata count pages that are not there, or not all that are. What reads such a
file stops and says both numbers, unless it is told how to go on.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from xml.etree import ElementTree

from scout_dask_io.core.formatting import format_count
from scout_dask_io.core.selection import ALL_PAGES, COUNTED_PAGES
from scout_dask_io.tiff.ifd import Damaged, Header, Ifd, Window, read_ifd
from scout_dask_io.tiff.ome_xml import local_name

#: Planes that metadata may count where their file has fewer pages: it lacks the rest, and the
#: message says so. More than these are not worth a list.
MOST_CLAIMED = 1_000_000
_SIZES = frozenset(f"Size{axis}" for axis in "XYZCT")
_COUNTS = frozenset(("PlaneCount", "NumPlanes", "IFD", "FirstZ", "FirstC", "FirstT"))


@dataclass(frozen=True, slots=True)
class PageChain:
    """Where the directories of a file lie, in order.

    Attributes
    ----------
    offsets : tuple of int
        Of those that can be read.
    trouble : str
        Why there are no more though there should be; empty where the chain ends as it ought.
    """

    offsets: tuple[int, ...]
    trouble: str = ""

    def __len__(self) -> int:
        return len(self.offsets)


def walk_chain(window: Window, header: Header) -> PageChain:
    """Follow the links from directory to directory; reads the directories, a window each.

    Raises
    ------
    Damaged
        If there is not even a first one.
    """
    found: dict[int, int] = {}
    at = header.first
    while at:
        if at in found:
            return PageChain(
                tuple(found),
                f"the link from page {len(found) - 1} goes back to page {found[at]}",
            )
        try:
            following = _next_of(window, header, at, first=not found)
        except Damaged as err:
            if not found:
                raise
            what = f"the directory of page {len(found)} should be at byte {at}"
            if at >= window.size:
                what += f", but the file has {window.size} bytes; it is truncated"
            else:
                what += f", but {err}; it is truncated or damaged"
            return PageChain(tuple(found), what)
        found[at] = len(found)
        at = following
    return PageChain(tuple(found))


def _next_of(window: Window, header: Header, at: int, *, first: bool) -> int:
    order, big = header.order, header.big
    width, entry = (8, 20) if big else (2, 12)
    (count,) = struct.unpack(order + ("Q" if big else "H"), window.get(at, width))
    if not 0 < count <= 4096:
        raise Damaged(f"that claims {count} tags")
    if first:
        # Some writers end the file with its only directory, and leave out the link.
        return read_ifd(window, header, at).next
    place = at + width + count * entry
    (following,) = struct.unpack(order + ("Q" if big else "I"), window.get(place, 8 if big else 4))
    return int(following)


def check_chain(chain: PageChain, ifd: Ifd, window: Window) -> None:
    """Refuse a file that has lost pages.

    Raises
    ------
    Damaged
        If the chain went astray; the message has the pages found, and expected where the first
        directory's description says how many.
    """
    if not chain.trouble:
        return
    stated = stated_count(ifd, window)
    found, expected = format_count(len(chain), "page"), ""
    if stated is not None and stated[1] > len(chain):
        expected = f" of {stated[1]} that {stated[0]} counts"
    raise Damaged(
        f"its chain of pages breaks off after {found}{expected}: {chain.trouble}. "
        + ALL_PAGES
        + " reads the pages that are whole"
    )


def stated_count(ifd: Ifd, window: Window) -> tuple[str, int] | None:
    """Give who counts the pages of a file, and how many, by the description of its first one."""
    try:
        text = ifd.text(270, window)
    except Damaged:
        return None
    if text.startswith("ImageJ="):
        found = re.search(r"^images=(\d{1,9})\s*$", text[:4000], re.MULTILINE)
        return None if found is None else ("ImageJ", int(found.group(1)))
    if text.lstrip()[-7:].rstrip().endswith("OME>") or "<OME" in text[:1000]:
        return _ome_count(text)
    return None


def own_count(ifd: Ifd, window: Window, name: str) -> int | None:
    """Give how many pages the OME-XML of a file counts, ``None`` where it names other files."""
    found = stated_count(ifd, window)
    if found is None or found[0] != "OME-XML":
        return None
    names = set(re.findall(r"""FileName=["']([^"']*)""", ifd.text(270, window)))
    return None if {n for n in names if n.lower() != name.lower()} else found[1]


def _ome_count(text: str) -> tuple[str, int] | None:
    try:
        root = ElementTree.fromstring(text.encode("latin-1"))
        total = 0
        for pixels in root.iter():
            if local_name(pixels) != "Pixels":
                continue
            samples = 1
            for channel in pixels:
                if local_name(channel) == "Channel":
                    samples = int(channel.get("SamplesPerPixel", 1))
                    break
            total += math.prod(int(pixels.get(f"Size{a}", 1)) for a in "ZCT") // samples
    except (ElementTree.ParseError, ValueError, ZeroDivisionError):
        return None
    return ("OME-XML", total) if total else None


def check_ome_claims(root: ElementTree.Element, n_pages: int, page_size: int) -> None:
    """Refuse OME-XML that counts far more planes than its file has pages.

    tifffile makes a list of as many as are counted before it looks for one of them.
    ``page_size`` is the number of pixels of a page.

    Raises
    ------
    Damaged
        If there are over :data:`MOST_CLAIMED`, and more than pages; the message has both numbers.
    """
    most = max(MOST_CLAIMED, n_pages)
    for element in root.iter():
        stated = element.attrib
        sizes = [_whole(v) for name, v in stated.items() if name in _SIZES]
        counts = [_whole(v) for name, v in stated.items() if name in _COUNTS]
        counted = max([math.prod(sizes) // max(page_size, 1), *counts])
        if {"Start", "End"} <= stated.keys():
            counted = max(counted, _steps_of(stated))
        if counted > most:
            raise miscounted("OME-XML", counted, n_pages)


def _whole(text: str) -> int:
    return int(text) if re.fullmatch(r"\s*\d{1,400}\s*", text) else 1


def _steps_of(stated: dict[str, str]) -> int:
    """Give how many values an axis within an axis has, by where it begins and ends."""
    try:
        begin, end, step = (float(stated.get(k, 1)) for k in ("Start", "End", "Step"))
        return int(abs((end - begin) / step)) + 1
    except (ValueError, ZeroDivisionError, OverflowError):
        return 1


def miscounted(who: str, counted: int, total: int) -> Damaged:
    """Give the error of a file that has other pages than its metadata count."""
    text = f"{who} counts {format_count(counted, 'page')}, but the file has {total}; " + ALL_PAGES
    text += " reads all that it has, as plain pages"
    if counted < total:
        text += ", and " + COUNTED_PAGES + f" the first {counted} alone"
    return Damaged(text)
