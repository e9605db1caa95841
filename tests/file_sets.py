"""Sets of files as programs of microscopes write them: OME-TIFF, Micro-Manager, NDTiff."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def uuid_of(number: int) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{number:012x}"


def ome_files(
    folder: Path,
    images: Sequence[np.ndarray],
    axes: str,
    form: str,
    *,
    order: str = "XYCZT",
    companion: str = "",
    renamed: str = "",
    in_file: str = "",
    names: Sequence[str] = (),
    positions: Sequence[str] = (),
) -> list[Path]:
    """Write images as OME-TIFF of several files, each of which describes all of them.

    ``axes`` are those of an image before y and x; of ``p`` (the image) and these, a file holds
    the ones ``in_file``. ``form`` has a field ``{n}``, the number of the file, and one an axis.
    With ``companion``, a file of XML alone describes them; ``renamed`` is a form of the names
    that files have on the disk, where they are others than in the XML.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outer = [a for a in "p" + axes if a not in in_file]
    pages: dict[tuple[int, ...], list[np.ndarray]] = {}
    where: list[str] = ["" for _ in images]
    for number, image in enumerate(images):
        for index in product(*map(range, image.shape[:-2])):
            at = {"p": number, **dict(zip(axes, index, strict=True))}
            key = tuple(at[a] for a in outer)
            held = pages.setdefault(key, [])
            file = list(pages).index(key)
            name = form.format(n=file, **at)
            firsts = " ".join(f'First{a.upper()}="{at.get(a, 0)}"' for a in "zct")
            where[number] += (
                f'<TiffData IFD="{len(held)}" {firsts} PlaneCount="1">'
                f'<UUID FileName="{name}">{uuid_of(file)}</UUID></TiffData>'
            )
            held.append(image[index])
    body = ""
    for number, (image, data) in enumerate(zip(images, where, strict=True)):
        extents = {a: image.shape[axes.index(a)] if a in axes else 1 for a in "zct"}
        sizes = " ".join(f'Size{a.upper()}="{n}"' for a, n in extents.items())
        channels = "".join(
            f'<Channel ID="Channel:{number}:{k}" SamplesPerPixel="1"'
            + (f' Name="{names[k]}"' if names else "")
            + "/>"
            for k in range(extents["c"])
        )
        title = positions[number] if positions else f"image {number}"
        body += (
            f'<Image ID="Image:{number}" Name="{title}"><Pixels ID="Pixels:{number}" '
            f'DimensionOrder="{order}" Type="uint16" SizeX="{image.shape[-1]}" '
            f'SizeY="{image.shape[-2]}" {sizes} PhysicalSizeX="0.5" PhysicalSizeY="0.5" '
            f'PhysicalSizeZ="2">{channels}{data}</Pixels></Image>'
        )
    start = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}" UUID='
    if companion:
        (folder / companion).write_text(f'{start}"{uuid_of(999)}">{body}</OME>')
        body = f'<BinaryOnly MetadataFile="{companion}" UUID="{uuid_of(999)}"/>'
    written = []
    for file, (key, held) in enumerate(pages.items()):
        at = {"n": file, "p": 0, **dict(zip(outer, key, strict=True))}
        path = folder / (renamed or form).format(**at)
        path.parent.mkdir(exist_ok=True)
        with tifffile.TiffWriter(path) as out:
            for k, plane in enumerate(held):
                text = f'{start}"{uuid_of(file)}">{body}</OME>'.encode() if k == 0 else None
                out.write(
                    plane, description=text, metadata=None, contiguous=False,
                    photometric="minisblack",
                )  # fmt: skip
        written.append(path)
    return written


def _page(plane: np.ndarray, at: int, following: int, text: bytes = b"{}\0\0") -> bytes:
    """Give the directory of 162 bytes and the pixels that Micro-Manager writes for a plane."""
    data = at + 162
    tags = [(256, plane.shape[1]), (257, plane.shape[0]), (258, 16), (259, 1), (262, 1)]
    tags += [(273, data), (277, 1), (278, plane.shape[0]), (279, plane.nbytes)]
    out = struct.pack("<H", 13) + b"".join(struct.pack("<HHII", c, 4, 1, v) for c, v in tags)
    end = data + plane.nbytes
    out += struct.pack("<HHII", 282, 5, 1, end) + struct.pack("<HHII", 283, 5, 1, end)
    out += struct.pack("<HHII", 296, 3, 1, 3) + struct.pack("<HHII", 51123, 2, len(text), end + 8)
    out += struct.pack("<I", following) + plane.astype("<u2").tobytes()
    return out + struct.pack("<II", 10000, 1) + text


def _texts(places: Sequence[Any]) -> list[bytes]:
    """Give the JSON of planes at places of the stage, all of one length."""
    made = [
        json.dumps({f"{a}PositionUm": v for a, v in zip("ZYX", place or (), strict=False)}).encode()
        for place in places
    ]
    n = max(map(len, made)) + 1
    return [text.ljust(n + n % 2, b"\0") for text in made]


def stack_file(
    path: Path,
    planes: Sequence[np.ndarray],
    coords: Sequence[tuple[int, ...]],
    summary: Any,
    places: Sequence[Any] = (),
) -> None:
    """Write a file of Micro-Manager's; ``coords`` are (channel, slice, frame, position).

    ``places`` are those of the stage at each position.
    """
    texts = _texts([places[c[3]] if places else None for c in coords])
    body = json.dumps(summary).encode()
    start = 48 + len(body) + 20 * len(planes)
    start += start % 2
    step = 162 + planes[0].nbytes + 8 + len(texts[0])
    at_of = [start + k * step for k in range(len(planes))]
    end = start + len(planes) * step
    out = bytearray(b"II*\0" + struct.pack("<I", at_of[0]))
    out += struct.pack("<II", 54773648, 40 + len(body))
    out += struct.pack("<IIII", 483765892, end, 99384722, end + 10)
    out += struct.pack("<II", 2355492, len(body)) + body + struct.pack("<II", 3453623, len(planes))
    for coord, at in zip(coords, at_of, strict=True):
        out += struct.pack("<5I", *coord, at)
    out += bytes(start - len(out))
    for k, plane in enumerate(planes):
        out += _page(plane, at_of[k], at_of[k + 1] if k + 1 < len(planes) else 0, texts[k])
    tail = struct.pack("<II", 347834724, 2) + b"{}" + struct.pack("<II", 84720485, 2) + b"{}"
    path.write_bytes(out + tail)


def micromanager(
    folder: Path,
    volume: np.ndarray,
    *,
    split: int = 0,
    prefix: str = "run_1",
    labels: Sequence[str] = (),
    names: Sequence[str] = (),
    places: Sequence[Any] = (),
    **summary: Any,
) -> list[Path]:
    """Write ``(p, t, c, z, y, x)``: a position a file, of ``split`` planes at most, or one of all.

    With ``labels`` each position has files of its own. Planes come channel by channel, slice by
    slice, frame by frame, as with ``SlicesFirst`` and ``TimeFirst``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    n_p, n_t, n_c, n_z = volume.shape[:4]
    whole = {
        "MicroManagerVersion": "2.0", "Prefix": prefix, "Channels": n_c, "Slices": n_z,
        "Frames": n_t, "Positions": n_p, "PixelSize_um": 0.325, "z-step_um": 1.5,
        "UUID": f"u-{prefix}", **({"ChNames": list(names)} if names else {}), **summary,
    }  # fmt: skip
    every = [
        ((c, z, t, p), volume[p, t, c, z])
        for t, p, z, c in product(range(n_t), range(n_p), range(n_z), range(n_c))
    ]
    groups = [every]
    if labels:
        groups = [[e for e in every if e[0][3] == p] for p in range(n_p)]
    written = []
    for label, group in zip(labels or [""], groups, strict=True):
        step = split or len(group)
        for k in range(0, len(group), step):
            part = group[k : k + step]
            stem = f"{prefix}_MMStack" + (f"_{label}" if label else "")
            path = folder / (stem + (f"_{k // step}" if k else "") + ".ome.tif")
            stack_file(path, [x for _, x in part], [c for c, _ in part], whole, places)
            written.append(path)
    return written


def ndtiff(
    folder: Path,
    planes: Sequence[tuple[dict[str, Any], np.ndarray]],
    split: int,
    name: str = "r",
    places: Sequence[Any] = (),
    **stated: Any,
) -> list[Path]:
    """Write an NDTiff data set (version 3): files of ``split`` planes, and their index.

    ``places`` are those of the stage at each ``position``; ``stated`` is put into the summary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = b""
    written = []
    summary = json.dumps({"MicroManagerVersion": "2.0", **stated}).encode()
    for k in range(0, len(planes), split):
        part = planes[k : k + split]
        path = folder / (f"{name}_NDTiffStack" + (f"_{k // split}" if k else "") + ".tif")
        out = bytearray(b"II*\0" + bytes(4))
        out += struct.pack("<5I", 483729, 3, 3, 2355492, len(summary)) + summary
        out += bytes(len(out) % 2)
        struct.pack_into("<I", out, 4, len(out))
        texts = _texts([places[axes["position"]] if places else None for axes, _ in part])
        for n, (axes, plane) in enumerate(part):
            at, text_of = len(out), texts[n]
            size = 162 + plane.nbytes + 8 + len(text_of)
            out += _page(plane, at, at + size if n + 1 < len(part) else 0, text_of)
            text = json.dumps(axes).encode()
            index += struct.pack("<I", len(text)) + text
            index += struct.pack("<I", len(path.name)) + path.name.encode()
            h, w = plane.shape
            index += struct.pack(
                "<IiiiiIii", at + 162, w, h, 1, 0, at + size - len(text_of), len(text_of), 0
            )
        path.write_bytes(out)
        written.append(path)
    (folder / "NDTiff.index").write_bytes(index)
    return written


def grid_planes(volume: np.ndarray, names: Sequence[str], **words: Any) -> Iterator[Any]:
    """Yield the axes and the plane of each index; ``words`` are the values along an axis."""
    for index in product(*map(range, volume.shape[:-2])):
        axes = {n: words[n][k] if n in words else k for n, k in zip(names, index, strict=True)}
        yield axes, volume[index]
