"""Descriptions of TIFF files that claim what cannot be: OME-XML, ImageJ's text, JSON and others."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

PLANES = np.arange(6 * 8 * 9, dtype="u2").reshape(6, 8, 9)
_OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
XML = (
    f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{_OME}" '
    'UUID="urn:uuid:a3922d24-ea59-11f1-8736-02fc00000001" Creator="me"><Image ID="Image:0" '
    'Name="Image0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="9" SizeY="8" '
    'SizeC="2" SizeZ="3" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeXUnit="µm" '
    'PhysicalSizeY="0.5" PhysicalSizeZ="2.0"><Channel ID="Channel:0:0" SamplesPerPixel="1" '
    'Name="a" Color="-16711681"/><Channel ID="Channel:0:1" SamplesPerPixel="1" Name="b"/>'
    '<TiffData IFD="0" PlaneCount="6"/></Pixels></Image></OME>'
)
IMAGEJ = (
    "ImageJ=1.11a\nimages=6\nchannels=2\nslices=3\nhyperstack=true\nmode=grayscale\n"
    "spacing=2.0\nunit=um\nmin=0.0\nmax=255.0\n"
)
SHAPED = '{"shape": [3, 2, 8, 9], "axes": "ZCYX"}'
VALUES = [
    "", "0", "-1", "1", "2", "3", "7", "100000000", "2000000000", str(2**62), "1" + "0" * 400,
    "1.5", "nan", "inf", "-inf", "1e400", "1e-300", "x", "a" * 5000, "XYZCT", "XYCZT", "XYXYX",
    "true", "-0", "0x10", "?m", "?", "uint64", "complex", "bit", "9" * 100_000, "../../a.tif",
]  # fmt: skip
SHAPES = [
    "[]", "null", "0", "-1", f"[{2**62}, 8, 9]", f"[1{'0' * 400}]", "[3, 2, 8, 9, 1]",
    "[1.5, 2, 8, 9]", '"x"', "[-3, -2, 8, 9]", "[true]", "NaN", "[" * 1500 + "]" * 1500,
    "[" * 100_000 + "]" * 100_000, '[3, 2, 8, 9], "shape": [1]', "[1, 1, 1]",
    f"[{'1, ' * 70}3, 2, 8, 9]", f"[{'1, ' * 100_000}3, 2, 8, 9]",
]  # fmt: skip
AXES = [
    '""', '"XYZ"', '"ZZYX"', "null", "5", '["Z"]', f'"{"Z" * 100_000}"', '"zcyx"', '"QCYX"',
    '"QQYX"', '"\\ud800CYX"',
]  # fmt: skip


def documents() -> list[tuple[str, bytes]]:
    """Give every description with its name."""
    found = [*_of_xml(), *_structures(), *_bombs(), *_of_imagej(), *_of_json(), *_of_others()]
    return [(name, text.encode("utf-8", "surrogatepass")) for name, text in found] + [
        (f"bytes {raw[:4]!r}", raw) for raw in (b"\xff\xfe", b"\xc3\x28" * 1000, b"<OME\xff/>")
    ]


def sample(n: int, seed: int) -> list[tuple[str, bytes]]:
    """Give some of them: a tenth are bombs, which take long to look at, or all of those."""
    every, names = documents(), {name for name, _ in _bombs()}
    bombs = [d for d in every if d[0] in names]
    rng = random.Random(seed)
    chosen = rng.sample(bombs, min(n // 10, len(bombs)))
    return chosen + rng.sample([d for d in every if d[0] not in names], n - len(chosen))


def write(path: Path, description: bytes) -> None:
    """Write six pages, the first of them with a description."""
    with tifffile.TiffWriter(path) as file:
        for number, page in enumerate(PLANES):
            file.write(
                page,
                contiguous=False,
                metadata=None,
                description=description if not number else None,
                resolution=(2, 2),
                photometric="minisblack",
            )


def _of_xml() -> Iterator[tuple[str, str]]:
    for found in re.finditer(r'(\w+)="([^"]*)"', XML):
        key = found[1]
        for value in [*VALUES, "&#0;"]:
            text = XML[: found.start(2)] + value + XML[found.end(2) :]
            yield f"OME {key} at {found.start()} is {value[:20]}", text
        yield f"OME without {key}", XML[: found.start()] + XML[found.end() :]
        yield f"OME {key} twice", f"{XML[: found.end()]} {found[0]}{XML[found.end() :]}"


def _structures() -> Iterator[tuple[str, str]]:
    for name, text in (
        ("empty", "<OME/>"),
        ("cut", XML[:300]),
        ("of 2099", XML.replace("2016-06", "2099-01")),
        ("of nothing", f'<OME xmlns="{_OME}"><Image><Pixels/></Image></OME>'),
        ("in UTF-16, it says", XML.replace("UTF-8", "utf-16")),
        ("in nothing", XML.replace("UTF-8", "x-nothing")),
        ("of a companion outside", _binary_only("../../../etc/passwd")),
        ("of a device", _binary_only("/dev/zero")),
        ("of itself", _binary_only("a.tif")),
        ("of none", _binary_only("")),
        ("of a device as its member", _of_members(1, "/dev/zero")),
        ("of one that is gone", _of_members(1, "b.tif")),
        ("with an external entity", _with_entity('SYSTEM "file:///etc/passwd"', 1)),
    ):
        yield f"OME {name}", text


def _bombs() -> Iterator[tuple[str, str]]:
    lol = '<!DOCTYPE lolz [<!ENTITY a "' + "lol" * 10 + '">'
    lol += "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)) + "]>"
    head, body = XML[: XML.index("<OME")], XML[XML.index("<OME") :]
    modulo = (
        '<StructuredAnnotations><XMLAnnotation ID="Annotation:0" Namespace="openmicroscopy.org/'
        'omero/dimension/modulo"><Value><Modulo><ModuloAlongZ Type="lifetime" Start="0" '
        'End="4000000000" Step="{}"/></Modulo></Value></XMLAnnotation></StructuredAnnotations>'
    )
    plane = '<Plane TheZ="0" TheC="0" TheT="0" PositionX="1" PositionXUnit="mm"/>'
    for name, text in (
        ("laughs in a name", head + lol + body.replace('Name="a"', 'Name="&j;"')),
        ("laughs in a text", head + lol + _within("<X>&j;</X>", body)),
        ("one entity many times", _with_entity(f'"{"a" * 100_000}"', 3000)),
        ("100,000 deep", _within("<X>" * 100_000 + "</X>" * 100_000)),
        ("100,000 not closed", _within("<X>" * 100_000)),
        ("axis in an axis", _within(modulo.format(1))),
        ("axis in an axis by steps of 0", _within(modulo.format(0))),
        ("many channels", re.sub(r"(<Channel[^>]*/>)", r"\1" * 20_000, XML, count=1)),
        ("many places", re.sub(r"(<TiffData[^>]*/>)", r"\1" * 50_000, XML)),
        ("many images", re.sub(r"(<Image.*</Image>)", r"\1" * 5_000, XML)),
        ("many planes", XML.replace("</Pixels>", plane * 50_000 + "</Pixels>")),
        ("many attributes", XML.replace(
            "<Pixels ", "<Pixels " + " ".join(f'a{i}="x"' for i in range(100_000)) + " ")),
        ("50 million planes of itself", _of_members(50_000_000, "a.tif", "b.tif")),
        ("50 million planes of one that is gone", _of_members(50_000_000, "b.tif")),
    ):  # fmt: skip
        yield f"OME bomb: {name}", text


def _within(text: str, xml: str = XML) -> str:
    return xml.replace("</OME>", text + "</OME>")


def _with_entity(what: str, times: int) -> str:
    head, body = XML[: XML.index("<OME")], XML[XML.index("<OME") :]
    return f"{head}<!DOCTYPE q [<!ENTITY a {what}>]>" + _within(f"<X>{'&a;' * times}</X>", body)


def _binary_only(name: str) -> str:
    return f'<OME xmlns="{_OME}"><BinaryOnly MetadataFile="{name}" UUID="urn:uuid:1"/></OME>'


def _of_members(n: int, *names: str) -> str:
    members = "".join(
        f'<TiffData IFD="0" PlaneCount="{n}"><UUID FileName="{name}">urn:uuid:{k}</UUID></TiffData>'
        for k, name in enumerate(names)
    )
    return re.sub("<TiffData[^>]*/>", members, XML).replace('SizeZ="3"', f'SizeZ="{max(n, 3)}"')


def _of_imagej() -> Iterator[tuple[str, str]]:
    for line in IMAGEJ.splitlines():
        key = line.partition("=")[0]
        for value in VALUES:
            yield f"ImageJ {key}={value[:20]}", IMAGEJ.replace(line, f"{key}={value}")
    yield "ImageJ alone", "ImageJ=1.11a"
    yield "ImageJ of many keys", IMAGEJ + "".join(f"k{i}=1\n" for i in range(100_000))
    yield "ImageJ of a long line", IMAGEJ + "x=" + "y" * 5_000_000


def _of_json() -> Iterator[tuple[str, str]]:
    for shape in SHAPES:
        yield f"shape {shape[:20]}", SHAPED.replace("[3, 2, 8, 9]", shape)
    for axes in AXES:
        yield f"axes {axes[:20]}", SHAPED.replace('"ZCYX"', axes)
    yield "JSON 100,000 deep", '{"a":' * 100_000 + "1" + "}" * 100_000
    yield "JSON of one number", "9" * 100_000
    yield "JSON of Micro-Manager", '{"Channels": 1e400, "Slices": 1e999}'


def _of_others() -> Iterator[tuple[str, str]]:
    scanimage = "SI.VERSION_MAJOR=2020\n"
    yield "ScanImage slices", f"{scanimage}SI.hStackManager.numSlices=1{'0' * 400}"
    yield "ScanImage channels", f"{scanimage}SI.hChannels.channelSave=[{'1;' * 100_000}]"
    yield "ScanImage frames", f"{scanimage}SI.hFastZ.numFramesPerVolume=-1"
    yield "SCIFIO lengths", f"SCIFIO=0.40\naxes=X,Y,Z,C\nlengths=9,8,{'9' * 500},2"
    yield "SCIFIO axes", f"SCIFIO=0.40\naxes={'X,' * 100_000}\nlengths=9"
