"""What lies on the disk: the files of every output, and the keys of every JSON document in them.

Kept are names and kinds of values; the values are held against other readers elsewhere.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume, write_planes

import scout_dask_io as io

from .snapshot import check

#: Unequal, no multiples: eight chunks, two shards.
SHAPE, CHUNKS, SHARDS = (11, 29, 31), (8, 16, 16), (8, 32, 32)
SIZE = (4.0, 1.8, 1.8)
ROOM: dict[str, Any] = {"nb_workers": 1, "max_mem": "100MB"}
VOLUME = make_volume(SHAPE, seed=3)


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {None: "null"}.get(value, "bool")
    return {int: "number", float: "number", str: "text"}[type(value)]


def key_paths(value: Any, path: str = "") -> set[str]:
    """Give ``a.b[].c: kind`` of every leaf, the items of a list as one."""
    if isinstance(value, dict):
        inner = [key_paths(v, f"{path}.{k}" if path else k) for k, v in value.items()]
        return set().union(*inner) if inner else {f"{path}: {{}}"}
    if isinstance(value, list):
        found = [key_paths(v, f"{path}[]") for v in value]
        return set().union(*found) if found else {f"{path}: []"}
    return {f"{path}: {_kind(value)}"}


def _document(data: bytes) -> Any:
    """Give the JSON that bytes are, or as a manifest begin with; ``None`` where there is none."""
    for part in (data, data.partition(b"\n")[0]):
        if part[:1] in b"{" and part:
            try:
                return json.loads(part)
            except ValueError:
                continue
    return None


def _text(files: dict[str, bytes]) -> str:
    lines = [*sorted(files), ""]
    for name in sorted(files):
        found = _document(files[name])
        if found is not None:
            lines += [f"== {name}", *sorted(key_paths(found)), ""]
    return "\n".join(lines)


def layout(folder: Path) -> str:
    """Give all files below a folder, hidden ones too, folders that are empty, and JSON keys."""
    files = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            files[name] = path.read_bytes()
        elif not any(path.iterdir()):
            files[f"{name}/"] = b""
    return _text(files)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("array-v2", {"attributes": {"a": 1}, "voxel_size": SIZE}),
        ("array-v3", {"attributes": {"a": 1}, "voxel_size": SIZE, "zarr_format": 3}),
        ("array-v3-sharded", {"zarr_format": 3, "shards": SHARDS}),
        ("array-qc", {"qc": True}),
    ],
)
def test_an_array_is_these_files(tmp_path: Path, name: str, settings: dict[str, Any]) -> None:
    io.write_zarr(tmp_path / "a.zarr", VOLUME, CHUNKS, **settings, **ROOM)
    check(f"layout-{name}.txt", layout(tmp_path))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_image_is_these_files(tmp_path: Path, version: str) -> None:
    channels = np.stack([VOLUME, VOLUME[::-1]])
    io.write_ome_zarr(
        tmp_path / "a.ome.zarr", channels, CHUNKS, levels=3, voxel_size=SIZE, version=version,
        channels=["nuclei", "vessels"], **ROOM,
    )  # fmt: skip
    check(f"layout-image-{version}.txt", layout(tmp_path))


def test_a_conversion_with_a_sheet_is_these_files(tmp_path: Path) -> None:
    planes, out = tmp_path / "planes", tmp_path / "out"
    write_planes(planes, VOLUME)
    io.convert(planes, out / "a.zarr", chunks=CHUNKS, qc=True, **ROOM)
    io.convert(planes, out / "a.ome.zarr", chunks=CHUNKS, ome=True, levels=2, qc=True, **ROOM)
    check("layout-convert-qc.txt", layout(out))


def test_an_export_is_these_files(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", VOLUME, CHUNKS, **ROOM)
    out = tmp_path / "out"
    out.mkdir()
    io.export(tmp_path / "a.zarr", out / "planes", **ROOM)
    io.export(tmp_path / "a.zarr", out / "one.tif", **ROOM)
    io.export(tmp_path / "a.zarr", out / "pyramid.ome.tif", n_levels=2, **ROOM)
    check("layout-export.txt", layout(out))


def test_a_pyramid_is_these_files(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", VOLUME, CHUNKS, **ROOM)
    out = tmp_path / "out"
    out.mkdir()
    io.pyramid(tmp_path / "a.zarr", out / "a.ome.zarr", levels=3, voxel_size=SIZE, **ROOM)
    check("layout-pyramid.txt", layout(out))


class _Stop:
    """Progress that fails once a unit is finished."""

    def __call__(self, finished: int, *_: Any) -> None:
        if finished:
            raise RuntimeError("stopped on purpose")


def _anonymous(text: str, job: str) -> str:
    """Take the job's name out, and the names of journals, which say host, process and thread."""
    lines = [line.replace(job, "JOB") for line in text.splitlines()]
    return "\n".join(
        line.rpartition("/")[0] + "/WRITER.log" if line.endswith(".log") else line for line in lines
    )


def test_an_interrupted_write_is_these_files(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        io.write_zarr(tmp_path / "a.zarr", VOLUME, CHUNKS, progress=_Stop(), **ROOM)
    (job,) = (tmp_path / ".a.zarr.scout-partial").iterdir()
    check("layout-interrupted.txt", _anonymous(layout(tmp_path), job.name))


@pytest.mark.parametrize("name", ["array", "image"])
def test_a_write_in_a_store_is_these_objects(memory: Any, name: str) -> None:
    write: Any = io.write_zarr if name == "array" else io.write_ome_zarr
    given: dict[str, Any] = {} if name == "array" else {"levels": 2}
    with pytest.raises(RuntimeError, match="stopped"):
        write(memory.url, VOLUME, CHUNKS, progress=_Stop(), **given, **ROOM)
    read = memory.fs.cat_file
    found = {n: read(f"{memory.key}/{n}") for n in memory.names()}
    job = json.loads(found[".scout-unfinished"])["job"]
    unfinished = _anonymous(_text(found), job)
    write(memory.url, VOLUME, CHUNKS, resume=True, qc=False, **given, **ROOM)
    whole = _text({n: read(f"{memory.key}/{n}") for n in memory.names()})
    check(f"layout-store-{name}.txt", f"interrupted\n\n{unfinished}\n\nwhole\n\n{whole}")


def test_a_region_written_into_a_store_is_these_objects(memory: Any) -> None:
    io.write_zarr(memory.url, VOLUME, CHUNKS, **ROOM)
    region = (slice(0, 8), slice(0, 16), slice(0, 31))
    io.write_zarr(memory.url, VOLUME[region], region=region, **ROOM)
    found = {n: memory.fs.cat_file(f"{memory.key}/{n}") for n in memory.names()}
    text = re.sub(r"(?m)-[0-9a-f]{32}$", "-JOB", _text(found))
    check("layout-store-region.txt", text)
