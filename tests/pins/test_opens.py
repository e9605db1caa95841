"""How often metadata are parsed, directories scanned and the first TIFF opened, on a disk.

Counted in a child process by events of the interpreter, see ``watched.py``. A number that differs
from the table fails the test, also where it is lower: then the table is lowered. Raising one takes
a reason in the commit. An attempt to open a file that is not there counts too.

Before the reorganisation (c878c92) and after it, attempts on documents of Zarr and ours together:

====================  ==========  ==========  ======  ======  ========
call                  documents   scans       most    first   TiffFile
====================  ==========  ==========  ======  ======  ========
read_zarr, v2         6 -> 4      16 -> 7     4 -> 2  0 -> 0  0 -> 0
read_zarr, v3         5 -> 5      8 -> 5      1 -> 1  0 -> 0  0 -> 0
read_zarr, image      7 -> 9      16 -> 7     4 -> 2  0 -> 0  0 -> 0
imread_folder         0 -> 0      1 -> 1      1 -> 1  1 -> 1  1 -> 1
convert               6 -> 9      30 -> 30    5 -> 5  3 -> 3  1 -> 1
convert --qc          11 -> 13    48 -> 39    5 -> 5  4 -> 3  3 -> 1
convert --ome         15 -> 13    45 -> 33    5 -> 5  4 -> 3  3 -> 1
convert --ome --qc    20 -> 17    63 -> 42    9 -> 5  5 -> 3  5 -> 1
info, v2              20 -> 9     27 -> 18    6 -> 4  0 -> 0  0 -> 0
info, image           67 -> 23    87 -> 48    10 -> 4  0 -> 0  0 -> 0
info, folder          0 -> 0      3 -> 3      3 -> 3  3 -> 2  4 -> 2
verify, v2            11 -> 5     19 -> 10    5 -> 3  0 -> 0  0 -> 0
verify, image         36 -> 20    53 -> 30    5 -> 3  0 -> 0  0 -> 0
voxel_size, folder    0 -> 3      1 -> 1      1 -> 1  1 -> 1  1 -> 1
====================  ==========  ==========  ======  ======  ========

``read_zarr`` reads a document that is there once, and info of an image ``.zarray`` 5 times, once
for its labels, where it was 35; but each node is also asked for documents that it does not have.
Zarr itself reads the document of a v3 array once more, and that of an array which ``open`` gives.
A directory of a v2 array is still listed twice. The first file of a folder is opened once more
than it was: whether it is one of a set is asked before names are read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import make_volume, python, write_planes

import scout_dask_io as io

#: Of each call: opens of Zarr's documents and of manifests, by their names, of all levels;
#: ``scans``, listings of directories, and ``most``, of one of them; ``first``, opens of the first
#: TIFF, and ``others``, the most of any other; ``TiffFile``, how often tifffile was given a file.
#: What is not named is 0.
PINNED: dict[str, dict[str, int]] = {
    "open, v2": {
        ".zarray": 2, "zarr.json": 1, ".zattrs": 1, ".zgroup": 1, ".scout-manifest": 1,
        "scans": 6, "most": 2,
    },
    "open, v3": {".zarray": 1, "zarr.json": 2, ".zgroup": 1, ".scout-manifest": 1},
    "open, image": {".zarray": 1, "zarr.json": 1, ".zattrs": 1, ".zgroup": 2, ".scout-manifest": 1},
    "read_zarr, v2": {
        ".zarray": 1, "zarr.json": 1, ".zgroup": 1, ".scout-manifest": 1, "scans": 7,
        "most": 2,
    },
    "read_zarr, v2 as SCOUT wrote it": {
        ".zarray": 1, "zarr.json": 1, ".zgroup": 1, ".scout-manifest": 1, "scans": 7,
        "most": 2,
    },
    "read_zarr, v3": {
        ".zarray": 1, "zarr.json": 2, ".zgroup": 1, ".scout-manifest": 1, "scans": 5,
        "most": 1,
    },
    "read_zarr, sharded": {
        ".zarray": 1, "zarr.json": 2, ".zgroup": 1, ".scout-manifest": 1, "scans": 5,
        "most": 1,
    },
    "read_zarr, image": {
        ".zarray": 2, "zarr.json": 2, ".zattrs": 1, ".zgroup": 2, ".scout-manifest": 2,
        "scans": 7, "most": 2,
    },
    "read_zarr, v2, computed": {
        ".zarray": 1, "zarr.json": 1, ".zgroup": 1, ".scout-manifest": 1, "scans": 7,
        "most": 2,
    },
    "read_zarr, v3, computed": {
        ".zarray": 1, "zarr.json": 2, ".zgroup": 1, ".scout-manifest": 1, "scans": 5,
        "most": 1,
    },
    "imread": {"first": 1, "TiffFile": 1},
    "imread_folder": {"scans": 1, "most": 1, "first": 1, "others": 1, "TiffFile": 1},
    "imread_folder, computed": {"scans": 1, "most": 1, "first": 2, "others": 2, "TiffFile": 1},
    "imread_channels": {
        ".zarray": 1, "zarr.json": 1, ".zgroup": 1, ".scout-manifest": 1, "scans": 3,
        "most": 1, "others": 1, "TiffFile": 1,
    },
    "voxel_size, folder": {
        ".zarray": 1, "zarr.json": 1, ".zgroup": 1, "scans": 1, "most": 1,
        "first": 1, "TiffFile": 1,
    },
    "voxel_size, image": {".zarray": 1, "zarr.json": 1, ".zattrs": 1, ".zgroup": 1},
    "write_zarr, folder": {
        ".zarray": 3, "zarr.json": 2, ".zattrs": 1, ".zgroup": 2, ".scout-manifest": 1,
        "scans": 18, "most": 3, "first": 3, "others": 3, "TiffFile": 1,
    },
    "write_zarr, resume, finished": {
        ".zarray": 2, "zarr.json": 1, ".zattrs": 1, ".zgroup": 1, ".scout-manifest": 2,
        "scans": 10, "most": 2, "first": 1, "others": 1, "TiffFile": 1,
    },
    "convert": {
        ".zarray": 3, "zarr.json": 2, ".zattrs": 1, ".zgroup": 2, ".scout-manifest": 1,
        "scans": 30, "most": 5, "first": 4, "others": 3, "TiffFile": 1,
    },
    "convert --qc": {
        ".zarray": 4, "zarr.json": 3, ".zattrs": 1, ".zgroup": 3, ".scout-manifest": 2,
        "scans": 39, "most": 5, "first": 4, "others": 3, "TiffFile": 1,
    },
    "convert --ome": {
        ".zarray": 3, "zarr.json": 3, ".zattrs": 1, ".zgroup": 4, ".scout-manifest": 2,
        "scans": 33, "most": 5, "first": 4, "others": 3, "TiffFile": 1,
    },
    "convert --ome --qc": {
        ".zarray": 4, "zarr.json": 4, ".zattrs": 1, ".zgroup": 5, ".scout-manifest": 3,
        "scans": 42, "most": 5, "first": 4, "others": 3, "TiffFile": 1,
    },
    "convert, zarr": {
        ".zarray": 8, "zarr.json": 7, ".zattrs": 5, ".zgroup": 7, ".scout-manifest": 6,
        "scans": 34, "most": 5,
    },
    "info, TIFF": {"first": 1, "TiffFile": 1},
    "info, folder": {"scans": 5, "most": 5, "first": 4, "others": 1, "TiffFile": 2},
    "info, v2": {
        ".zarray": 2, "zarr.json": 2, ".zattrs": 1, ".zgroup": 2, ".scout-manifest": 2,
        "scans": 18, "most": 4,
    },
    "info, v3": {
        ".zarray": 2, "zarr.json": 3, ".zgroup": 2, ".scout-manifest": 2, "scans": 14,
        "most": 2,
    },
    "info, image": {
        ".zarray": 5, "zarr.json": 5, ".zattrs": 4, ".zgroup": 5, ".scout-manifest": 4,
        "scans": 48, "most": 4,
    },
    "scan": {"scans": 3, "most": 3, "first": 2, "others": 1},
    "verify, v2": {
        ".zarray": 1, "zarr.json": 1, ".zattrs": 1, ".zgroup": 1, ".scout-manifest": 1,
        "scans": 10, "most": 3,
    },
    "verify, v3": {
        ".zarray": 1, "zarr.json": 2, ".zgroup": 1, ".scout-manifest": 1, "scans": 5,
        "most": 1,
    },
    "verify, image": {
        ".zarray": 4, "zarr.json": 4, ".zattrs": 4, ".zgroup": 4, ".scout-manifest": 4,
        "scans": 30, "most": 3,
    },
    "verify, folder and array": {
        ".zarray": 5, "zarr.json": 5, ".zattrs": 4, ".zgroup": 5, ".scout-manifest": 5,
        "scans": 10, "most": 3, "first": 4, "others": 3, "TiffFile": 1,
    },
    "pyramid": {
        ".zarray": 7, "zarr.json": 6, ".zattrs": 3, ".zgroup": 7, ".scout-manifest": 5,
        "scans": 47, "most": 6,
    },
    "export": {
        ".zarray": 3, "zarr.json": 3, ".zattrs": 2, ".zgroup": 3, ".scout-manifest": 3,
        "scans": 7, "most": 2, "TiffFile": 11,
    },
    "preview, image": {
        ".zarray": 4, "zarr.json": 4, ".zattrs": 2, ".zgroup": 4, ".scout-manifest": 4,
        "scans": 21, "most": 2,
    },
}  # fmt: skip

SHAPE, CHUNKS, SHARDS = (11, 29, 31), (8, 16, 16), (8, 32, 32)
VOLUME = make_volume(SHAPE, seed=9)
ROOM: dict[str, Any] = {"nb_workers": 1, "max_mem": "100MB"}
DOCUMENTS = (".zarray", ".zattrs", ".zgroup", "zarr.json", ".scout-manifest")
CONVERT = "io.convert(here / 'planes', here / 'new.zarr', chunks=(8, 16, 16), {}**ROOM)"
CALLS = {
    "open, v2": "io.open(here / 'v2.zarr', mode='r')",
    "open, v3": "io.open(here / 'v3.zarr', mode='r')",
    "open, image": "io.open(here / 'image.ome.zarr', mode='r')",
    "read_zarr, v2": "io.read_zarr(here / 'v2.zarr')",
    "read_zarr, v2 as SCOUT wrote it": "io.read_zarr(here / 'scout.zarr')",
    "read_zarr, v3": "io.read_zarr(here / 'v3.zarr')",
    "read_zarr, sharded": "io.read_zarr(here / 'sharded.zarr')",
    "read_zarr, image": "io.read_zarr(here / 'image.ome.zarr')",
    "read_zarr, v2, computed": "io.read_zarr(here / 'v2.zarr').compute()",
    "read_zarr, v3, computed": "io.read_zarr(here / 'v3.zarr').compute()",
    "imread": "io.imread(here / 'planes' / 'z0000.tif')",
    "imread_folder": "io.imread_folder(here / 'planes')",
    "imread_folder, computed": "io.imread_folder(here / 'planes').compute()",
    "imread_channels": "io.imread_channels(here / 'channels')",
    "voxel_size, folder": "io.voxel_size(here / 'planes')",
    "voxel_size, image": "io.voxel_size(here / 'image.ome.zarr')",
    "write_zarr, folder": "io.write_zarr(here / 'new.zarr', io.imread_folder(here / 'planes'), "
    "(8, 16, 16), **ROOM)",
    "write_zarr, resume, finished": "io.write_zarr(here / 'v2.zarr', io.imread_folder(here / "
    "'planes'), (8, 16, 16), resume=True, **ROOM)",
    "convert": CONVERT.format(""),
    "convert --qc": CONVERT.format("qc=True, "),
    "convert --ome": CONVERT.format("ome=True, "),
    "convert --ome --qc": CONVERT.format("ome=True, qc=True, "),
    "convert, zarr": "io.convert(here / 'v2.zarr', here / 'new.zarr', chunks=(8, 16, 16), **ROOM)",
    "info, TIFF": "io.info(here / 'planes' / 'z0000.tif', nb_workers=1)",
    "info, folder": "io.info(here / 'planes', nb_workers=1)",
    "info, v2": "io.info(here / 'v2.zarr', nb_workers=1)",
    "info, v3": "io.info(here / 'v3.zarr', nb_workers=1)",
    "info, image": "io.info(here / 'image.ome.zarr', nb_workers=1)",
    "scan": "io.scan(here / 'planes', nb_workers=1)",
    "verify, v2": "io.verify(here / 'v2.zarr', nb_workers=1)",
    "verify, v3": "io.verify(here / 'v3.zarr', nb_workers=1)",
    "verify, image": "io.verify(here / 'image.ome.zarr', nb_workers=1)",
    "verify, folder and array": "io.verify(here / 'planes', here / 'v2.zarr', nb_workers=1, "
    "max_mem='100MB')",
    "pyramid": "io.pyramid(here / 'v2.zarr', here / 'new.ome.zarr', levels=2, **ROOM)",
    "export": "io.export(here / 'v2.zarr', here / 'new', **ROOM)",
    "preview, image": "io.preview(here / 'image.ome.zarr')",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a source of every kind, which the calls read and add to."""
    here = tmp_path_factory.mktemp("sources")
    write_planes(here / "planes", VOLUME)
    for channel in ("color_0", "color_1"):
        write_planes(here / "channels" / channel, VOLUME)
    data = io.imread_folder(here / "planes")
    io.write_zarr(here / "v2.zarr", data, CHUNKS, **ROOM)
    io.write_zarr(here / "v3.zarr", data, CHUNKS, zarr_format=3, **ROOM)
    io.write_zarr(here / "sharded.zarr", data, CHUNKS, zarr_format=3, shards=SHARDS, **ROOM)
    io.write_ome_zarr(here / "image.ome.zarr", data, CHUNKS, levels=3, voxel_size=(4, 1, 1), **ROOM)
    # Nested chunks, and metadata that do not say so.
    io.write_zarr(here / "scout.zarr", data, CHUNKS, **ROOM)
    (here / "scout.zarr" / ".scout-manifest").unlink()
    metadata = json.loads((here / "scout.zarr" / ".zarray").read_text())
    del metadata["dimension_separator"]
    (here / "scout.zarr" / ".zarray").write_text(json.dumps(metadata))
    return here


def summary(counts: dict[str, dict[str, int]]) -> dict[str, int]:
    """Give the numbers that the table holds, but for those that are 0."""
    found: dict[str, int] = {}
    for path, n in sorted(counts["opened"].items()):
        name = path.rpartition("/")[2]
        if name in DOCUMENTS:
            found[name] = found.get(name, 0) + n
    found["scans"] = sum(counts["scanned"].values())
    found["most"] = max(counts["scanned"].values(), default=0)
    tiffs = {p: n for p, n in counts["opened"].items() if p.endswith(".tif")}
    found["first"] = sum(n for p, n in tiffs.items() if p.endswith("planes/z0000.tif"))
    found["others"] = max((n for p, n in tiffs.items() if not p.endswith("z0000.tif")), default=0)
    found["TiffFile"] = sum(counts["tiffs"].values())
    return {name: n for name, n in found.items() if n}


@pytest.fixture(scope="module")
def counts(made: Path) -> dict[str, Any]:
    """Give what each call opens and scans; each writes into a folder of its own."""
    calls = {
        name: code.replace("here / 'new", f"here / 'out' / '{n}' / 'new")
        for n, (name, code) in enumerate(CALLS.items())
    }
    for n in range(len(calls)):
        (made / "out" / str(n)).mkdir(parents=True)
    watched = str(Path(__file__).with_name("watched.py"))
    return json.loads(python(watched, str(made), stdin=json.dumps(calls)).splitlines()[-1])


@pytest.mark.parametrize("name", CALLS)
def test_opens_and_scans_of_a_call(counts: dict[str, Any], name: str) -> None:
    assert counts[name] is not None, "the call failed"
    measured = summary(counts[name])
    assert measured == PINNED.get(name), json.dumps(counts[name], indent=1)
