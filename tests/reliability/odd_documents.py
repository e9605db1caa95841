"""Zarr metadata that claim what cannot be: made from arrays and images that are whole."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from helpers import make_volume
from numcodecs import Zlib
from zarr.codecs import BytesCodec, GzipCodec

import scout_dask_io as io
from scout_dask_io.store.journal import CHUNK_RECORD
from scout_dask_io.store.manifest import manifest_bytes

VOLUME = make_volume((3, 5, 7))
CHUNKS = (2, 3, 4)


@dataclass(frozen=True)
class Odd:
    """An array or image with one thing wrong, or odd, about its metadata.

    ``legal`` is what it holds, where it is odd and right; ``key`` is what an error should name.
    """

    name: str
    template: str
    change: Callable[[Path], None]
    legal: np.ndarray | None = None
    key: str = ""

    def is_named(self, told: str) -> bool:
        """Tell whether an error names the entry, or one that it lies in."""
        names = [part for part in self.key.split(".") if part and not part.isdigit()]
        # A group of which no image is known is answered by what it holds.
        return not names or any(name in told for name in (*names, "it holds the arrays"))

    def make(self, templates: Path, path: Path) -> None:
        """Put it at a path that is free."""
        shutil.copytree(templates / self.template, path, symlinks=True)
        self.change(path)


def make_templates(folder: Path) -> None:
    """Make the arrays and images that are whole: v2, v3, v3 with shards, and images of both."""
    codecs: dict[str, dict[str, Any]] = {
        "v2": {"zarr_format": 2, "compressor": Zlib(1)},
        "v3": {"zarr_format": 3, "codecs": [BytesCodec(), GzipCodec(level=1)]},
    }
    made: Any
    for name, how in codecs.items():
        made = zarr.create(
            store=str(folder / name), shape=VOLUME.shape, chunks=CHUNKS, dtype="u2",
            attributes={"who": "me"}, **how,
        )  # fmt: skip
        made[:] = VOLUME
    made = zarr.create_array(
        str(folder / "shards"), shape=VOLUME.shape, chunks=(2, 3, 4), shards=(2, 6, 8),
        dtype="u2", zarr_format=3,
    )  # fmt: skip
    made[:] = VOLUME
    io.write_ome_zarr(folder / "image2", VOLUME, chunks=CHUNKS, levels=2)
    stated = json.loads((folder / "image2" / ".zattrs").read_text())
    group = zarr.create_group(str(folder / "image3"), zarr_format=3)
    group.attrs["ome"] = {"version": "0.5", **stated}
    for name in ("0", "1"):
        level: Any = zarr.open_array(str(folder / "image2" / name), mode="r")
        copied = group.create_array(name, shape=level.shape, chunks=CHUNKS, dtype="u2")
        copied[:] = level[:]


VALUES: list[Any] = [
    None, True, 0, -1, 1, 2**62, 10**400, 1.5, float("nan"), float("inf"), "", "x", "a" * 5000,
    "\x00", [], {}, [None], [[1]], [{}], [0, 0, 0], [-1, -1, -1], [2**62] * 3, [10**400, 1, 1],
    [1.5, 2, 2], ["2"] * 3, [True] * 3, [1, 1], [1] * 70, [1] * 3000, {"id": "x"}, {"name": "x"},
    {"name": 3, "configuration": 4}, [{"id": "delta"}], [{"name": "x", "configuration": {}}],
]  # fmt: skip

V2_KEYS = [
    "zarr_format",
    "shape",
    "chunks",
    "dtype",
    "compressor",
    "fill_value",
    "order",
    "filters",
    "dimension_separator",
    "compressor.id",
    "compressor.level",
]
V3_KEYS = [
    "zarr_format",
    "node_type",
    "shape",
    "data_type",
    "chunk_grid",
    "chunk_grid.name",
    "chunk_grid.configuration",
    "chunk_grid.configuration.chunk_shape",
    "chunk_key_encoding",
    "chunk_key_encoding.name",
    "chunk_key_encoding.configuration",
    "chunk_key_encoding.configuration.separator",
    "codecs",
    "codecs.0",
    "codecs.0.name",
    "codecs.0.configuration",
    "codecs.0.configuration.endian",
    "codecs.1",
    "codecs.1.name",
    "codecs.1.configuration",
    "codecs.1.configuration.level",
    "fill_value",
    "attributes",
    "dimension_names",
    "storage_transformers",
    "unknown",
]
SHARD_KEYS = [
    "codecs.0.configuration",
    "codecs.0.configuration.chunk_shape",
    "codecs.0.configuration.codecs",
    "codecs.0.configuration.index_codecs",
    "codecs.0.configuration.index_location",
]
IMAGE_KEYS = [
    "multiscales",
    "multiscales.0",
    "multiscales.0.axes",
    "multiscales.0.axes.0",
    "multiscales.0.axes.0.name",
    "multiscales.0.axes.0.type",
    "multiscales.0.axes.0.unit",
    "multiscales.0.datasets",
    "multiscales.0.datasets.0",
    "multiscales.0.datasets.0.path",
    "multiscales.0.datasets.1.path",
    "multiscales.0.datasets.0.coordinateTransformations",
    "multiscales.0.datasets.0.coordinateTransformations.0",
    "multiscales.0.datasets.0.coordinateTransformations.0.type",
    "multiscales.0.datasets.0.coordinateTransformations.0.scale",
    "multiscales.0.coordinateTransformations",
    "multiscales.0.version",
    "multiscales.0.name",
    "omero",
    "omero.channels",
    "omero.channels.0",
    "omero.channels.0.window",
    "omero.channels.0.window.start",
    "omero.channels.0.color",
    "omero.channels.0.label",
    "omero.channels.0.active",
    "image-label",
    "labels",
    "bioformats2raw.layout",
    "plate",
]


def set_key(document: Any, key: str, value: Any) -> None:
    """Set an entry by its path of keys and indices; what is not there on the way is made."""
    *above, last = key.split(".") if not key.startswith("bioformats2raw") else [key]
    here = document
    for part in above:
        if isinstance(here, list):
            here = here[int(part)]
            continue
        if not isinstance(here.get(part), (dict, list)):
            here[part] = [{}] if part == "channels" else {}
        here = here[part]
    if isinstance(here, list):
        here[int(last)] = value
    else:
        here[last] = value


def edited(file: str, key: str, value: Any, above: str = "") -> Callable[[Path], None]:
    """Give what sets one entry of a JSON file; ``above`` is where its attributes begin."""

    def change(path: Path) -> None:
        document = json.loads((path / file).read_text())
        inner = document
        for part in above.split("/") if above else ():
            inner = inner[part]
        set_key(inner, key, copy.deepcopy(value))
        (path / file).write_text(json.dumps(document))

    return change


def _raw(file: str, data: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / file).write_bytes(data)

    return change


def _within(file: str, make: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / file).write_bytes(make((path / file).read_bytes()))

    return change


def _instead(file: str, what: str) -> Callable[[Path], None]:
    """Give what puts a folder, a FIFO, a device or a link in the place of a file."""

    def change(path: Path) -> None:
        place = path / file
        place.unlink(missing_ok=True)
        if what == "folder":
            place.mkdir()
        elif what == "fifo":
            os.mkfifo(place)
        else:
            place.symlink_to({"device": "/dev/zero", "loop": place.name, "nothing": "gone"}[what])

    return change


def _deep(levels: int, kind: str) -> bytes:
    return (
        (b"[" * levels + b"]" * levels)
        if kind == "list"
        else b'{"a":' * levels + b"1" + b"}" * levels
    )


def _short(value: Any) -> str:
    text = repr(value) if not (isinstance(value, int) and value > 2**70) else "10**400"
    return text if len(text) < 40 else f"{text[:20]}…{len(text)}"


def _edits() -> Iterator[Odd]:
    for template, file, above, keys in (
        ("v2", ".zarray", "", V2_KEYS),
        ("v3", "zarr.json", "", V3_KEYS),
        ("shards", "zarr.json", "", SHARD_KEYS),
        ("image2", ".zattrs", "", IMAGE_KEYS),
        ("image3", "zarr.json", "attributes/ome", IMAGE_KEYS),
    ):
        for key in keys:
            for value in VALUES:
                name = f"{template} {key}={_short(value)}"
                yield Odd(name, template, edited(file, key, value, above), key=key)


TEXTS: dict[str, bytes] = {
    "empty": b"", "blank": b"  \n", "null": b"null", "list": b"[]", "text": b'"x"', "number": b"7",
    "latin": '{"a": "é"}'.encode("latin-1"), "utf-16": '{"a": 1}'.encode("utf-16"),
    "cut": b'{"zarr_format": 2, "sha', "zeros": bytes(400), "long number": b"9" * 10000,
    "deep lists": _deep(1500, "list"), "deeper lists": _deep(100_000, "list"),
    "deep objects": _deep(1500, "object"), "deeper objects": _deep(100_000, "object"),
    "surrogate": b'{"a": "\\ud800"}',
}  # fmt: skip

FILES = {
    "v2": (".zarray", ".zattrs"),
    "v3": ("zarr.json",),
    "image2": (".zgroup", ".zattrs", "0/.zarray", "0/.zattrs", "1/.zarray"),
    "image3": ("zarr.json", "0/zarr.json", "1/zarr.json"),
}
ODD_PLACES = ("folder", "fifo", "device", "loop", "nothing")


def _texts() -> Iterator[Odd]:
    for template, files in FILES.items():
        for file in files:
            for name, data in TEXTS.items():
                yield Odd(f"{template} {file} {name}", template, _raw(file, data))
            for kind in ODD_PLACES:
                yield Odd(f"{template} {file} {kind}", template, _instead(file, kind))
            inside = _deep(1500, "list"), _deep(100_000, "object")
            for data in inside:
                yield Odd(
                    f"{template} {file} an entry {len(data)} deep", template,
                    _within(
                        file, lambda raw, data=data: raw.rstrip()[:-1] + b', "q": ' + data + b"}"
                    ),
                )  # fmt: skip
            yield Odd(
                f"{template} {file} BOM", template, _within(file, lambda raw: b"\xef\xbb\xbf" + raw)
            )
            yield Odd(
                f"{template} {file} twice", template,
                _within(
                    file,
                    lambda raw: raw.rstrip()[:-1] + b', "shape": [9, 9, 9], "dtype": "<f8"}',
                ),
            )  # fmt: skip
        for file in (".zmetadata", ".scout-manifest"):
            for kind in ODD_PLACES:
                yield Odd(f"{template} {file} {kind}", template, _instead(file, kind))
            yield Odd(f"{template} {file} deep", template, _raw(file, TEXTS["deeper lists"]))
    for template, chunk in (
        ("v2", "0.0.0"), ("v3", "c/0/0/0"), ("shards", "c/0/0/0"), ("image2", "0/0/0/0"),
        ("image3", "0/c/0/0/0"),
    ):  # fmt: skip
        for kind in ODD_PLACES:
            yield Odd(f"{template} chunk {kind}", template, _instead(chunk, kind))
        yield Odd(f"{template} chunk empty", template, _raw(chunk, b""))
        yield Odd(f"{template} chunk large", template, _raw(chunk, bytes(3_000_000)))


#: Lists of so many that whoever looks at each twice takes for ever, and texts that take memory.
MANY = 150_000


def _large() -> Iterator[Odd]:
    for template, file, above, keys in (
        ("v2", ".zarray", "", ("shape", "chunks", "filters")),
        ("v3", "zarr.json", "", ("shape", "codecs", "dimension_names", "attributes.filled")),
        ("image2", ".zattrs", "", LISTS),
        ("image3", "zarr.json", "attributes/ome", LISTS),
        ("image2", "0/.zattrs", "", ("filled_planes", "_ARRAY_DIMENSIONS")),
    ):
        for key in keys:
            for value in ({}, 1, "x", {"type": "scale", "scale": [1, 1, 1]}, {"color": "x"}):
                yield Odd(
                    f"{template} {key} has {MANY} of {value}", template,
                    edited(file, key, [value] * MANY, above),
                )  # fmt: skip
    for template, file in (("v2", ".zattrs"), ("v3", "zarr.json"), ("image2", ".zattrs")):
        for name, begin, part, end in (
            ("text", b'"', b"a", b'"'),
            ("lists", b"[", b"[],", b"0]"),
            ("numbers", b"[", b"7,", b"0]"),
            ("one key", b"{", b'"k":[],', b'"k":0}'),
        ):

            def fill(
                raw: bytes, begin: bytes = begin, part: bytes = part, end: bytes = end
            ) -> bytes:
                text = begin + part * (10**8 // len(part)) + end
                return raw.rstrip()[:-1] + b', "q": ' + text + b"}"

            yield Odd(f"{template} {file} 100 MB of {name}", template, _within(file, fill))
    for template in ("v2", "image2"):
        path = ".scout-manifest" if template == "v2" else "0/.scout-manifest"
        for name, head in (
            ("of 10 GB", b'{"grid": [2], "scout_manifest": 1}\n'),
            ("of 10 GB in its head", b""),
            ("of a grid of texts", b'{"grid": ["a", 1000000000000]}\n'),
            ("of a grid that is none", b'{"grid": 5, "scout_manifest": 1}\n'),
            ("of a huge grid", b'{"grid": [4611686018427387904, 8], "scout_manifest": 1}\n'),
            ("of another grid", manifest_bytes(np.zeros((1, 1, 1), CHUNK_RECORD), {})),
            ("of no axes", manifest_bytes(np.zeros((), CHUNK_RECORD), {})),
        ):
            yield Odd(f"{template} manifest {name}", template, _sparse(path, head))


LISTS = (
    "multiscales", "multiscales.0.axes", "multiscales.0.datasets",
    "multiscales.0.datasets.0.coordinateTransformations", "multiscales.0.coordinateTransformations",
    "omero.channels", "labels", "plate.wells", "image-label.colors",
)  # fmt: skip


def _sparse(file: str, head: bytes) -> Callable[[Path], None]:
    """Give what puts a file of 10 GB that takes no room."""

    def change(path: Path) -> None:
        (path / file).write_bytes(head)
        if len(head) < 60:
            os.truncate(path / file, 10**10)

    return change


PATHS = (
    "", ".", "..", "../..", "../a.zarr", "/", "/etc", "0/..", "0/../0", "./0", "0/", "//0", "%30",
    "0\x00", "x" * 300, "0/0", "\ud800",
)  # fmt: skip


def _images() -> Iterator[Odd]:
    for template, file, above in (
        ("image2", ".zattrs", ""),
        ("image3", "zarr.json", "attributes/ome"),
    ):
        for path in PATHS:
            yield Odd(
                f"{template} path {path[:20]!r}", template,
                edited(file, "multiscales.0.datasets.0.path", path, above),
            )  # fmt: skip
        for n in (0, 1, 2000):
            many = [
                {
                    "path": str(k),
                    "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}],
                }
                for k in range(n)
            ]
            yield Odd(
                f"{template} {n} datasets",
                template,
                edited(file, "multiscales.0.datasets", many, above),
            )
        same = [
            {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}
        ] * 2000
        yield Odd(
            f"{template} 2000 times one",
            template,
            edited(file, "multiscales.0.datasets", same, above),
        )
        for kind in ("0", "."):

            def link(path: Path, kind: str = kind) -> None:
                shutil.rmtree(path / "1")
                (path / "1").symlink_to(kind)

            yield Odd(f"{template} level 1 a link to {kind}", template, link)


def _sized(template: str, shape: list[int], chunks: list[int]) -> Callable[[Path], None]:
    file = ".zarray" if template == "v2" else "zarr.json"

    def change(path: Path) -> None:
        for found in path.iterdir():
            if found.name not in (".zarray", "zarr.json"):
                shutil.rmtree(found) if found.is_dir() else found.unlink()
        key = "chunks" if template == "v2" else "chunk_grid.configuration.chunk_shape"
        edited(file, "shape", shape)(path)
        edited(file, key, chunks)(path)
        edited(file, "fill_value", 5)(path)

    return change


def _extents() -> Iterator[Odd]:
    for template in ("v2", "v3"):
        for shape, chunks in (
            ([2**20] * 3, [1] * 3), ([10**4] * 3, [1] * 3), ([10**12], [1]),
            ([10**6, 10**6], [1, 1]),
            ([2**19] * 3, [64] * 3), ([2**30, 2**29], [2**20, 2**19]), ([4, 4, 4], [2**13] * 3),
            ([1, 2**33], [1, 2**33]), ([0, 5, 5], [1, 5, 5]), ([5, 0], [5, 1]), ([0], [1]),
            ([2**40, 0, 3], [1, 1, 1]), ([3, 3], [2**40, 1]), ([2] * 33, [1] * 33),
            ([1] * 65, [1] * 65),
        ):  # fmt: skip
            yield Odd(
                f"{template} {_short(shape)} by {_short(chunks)}",
                template,
                _sized(template, shape, chunks),
            )
        for shape in (
            [],
            [1],
            [1] * 5,
            [1] * 32,
            [1] * (32 if np.__version__ < "2" else 64),
            [3, 4, 5, 6],
        ):
            yield Odd(
                f"{template} legal {len(shape)} axes", template,
                _sized(template, shape, [max(1, n) for n in shape]), np.full(shape, 5, "u2"),
            )  # fmt: skip


def documents() -> list[Odd]:
    """Give them all, in one order."""
    return [*_edits(), *_texts(), *_images(), *_extents(), *_large()]


def sample(n: int, seed: int) -> list[Odd]:
    """Give some of them, the legal ones among them."""
    found = documents()
    legal = [odd for odd in found if odd.legal is not None]
    return [*random.Random(seed).sample(found, n), *legal]
