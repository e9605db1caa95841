"""``export --dry-run`` says what ``export`` does, refuses what it refuses, and writes nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.cli import main
from scout_dask_io.core.source import ViewSource
from scout_dask_io.errors import (
    ArgumentError,
    MemoryLimitError,
    PathNotFoundError,
    ResumeError,
    ScoutIOError,
    TargetExistsError,
)
from scout_dask_io.jobs.export import export, plan_export

BOTH = make_volume((2, 9, 300, 270))
CHUNKS = (4, 64, 128)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.zarr"
    io.write_ome_zarr(path, BOTH, CHUNKS, levels=2, voxel_size=(4, 2, 2), channels=["syto", "sox2"])
    return path


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    """Give number and time of change of every file and folder."""
    found = {str(p): p.stat() for p in sorted(folder.rglob("*"))}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in found.items()}


@pytest.mark.parametrize(
    ("out", "options"),
    [
        ("planes", {"compress": 0}),
        ("cut", {"axis": "y", "region": [(2, 8), (70, 75), (0, 200)], "dtype": "f4"}),
        ("a.tif", {"level": 1, "compress": 3}),
        ("a.ome.tif", {"compress": 0}),
        ("fiji.tif", {"imagej": True, "dtype": "u1", "scale": (0, 40_000)}),
    ],
)
def test_the_plan_is_what_is_then_written(
    image: Path, tmp_path: Path, out: str, options: dict[str, Any]
):
    before = everything(tmp_path)
    plan = plan_export(image, tmp_path / out, **options)
    assert everything(tmp_path) == before
    report = export(image, tmp_path / out, **options)
    for name in ("kind", "n_files", "shape", "axes", "dtype", "nbytes", "voxel_size", "channels",
                 "filled", "read_amplification"):  # fmt: skip
        assert getattr(plan, name) == getattr(report, name), name
    assert (plan.source, plan.destination) == (str(image), report.path)
    assert (plan.n_standing, plan.n_replaced) == (0, 0)
    target = tmp_path / out
    files = sorted(target.rglob("*.tif")) if target.is_dir() else [target]
    assert [plan.first_file, plan.last_file] == [str(files[0]), str(files[-1])]
    assert plan.free_nbytes > 0
    with tifffile.TiffFile(files[-1]) as tiff:
        page = tiff.pages.first
        assert plan.bigtiff == tiff.is_bigtiff
        levels = (page, *(page.pages or ()))
        assert plan.levels == tuple(level.shape for level in levels)
        segment = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, None)
        assert plan.segment == (segment[0], segment[1] or page.shape[1])
        assert (plan.compress == 0) == (page.compression == 1)
        assert plan.dtype == str(page.dtype.newbyteorder("="))
        n_pages = report.nbytes // (page.shape[0] * page.shape[1] * page.dtype.itemsize)
        pixels = sum(level.shape[0] * level.shape[1] for level in levels)
    assert plan.written_nbytes == n_pages * pixels * np.dtype(plan.dtype).itemsize


def test_bytes_to_read_and_chunks_are_those_of_the_source(image: Path, tmp_path: Path):
    plan = plan_export(image, tmp_path / "a.tif")
    assert (plan.chunks, plan.read_nbytes, plan.read_amplification) == (
        (1, *CHUNKS),
        BOTH.nbytes,
        1,
    )
    plan = plan_export(image, tmp_path / "a.tif", dtype="f4", max_mem="600kB", compress=0)
    # Chunks have four planes, and memory for fewer.
    assert plan.read_amplification > 1
    assert plan.read_nbytes == round(BOTH.nbytes * plan.read_amplification)
    assert plan.nb_workers == 1


@pytest.mark.parametrize("name", ["planes", "a.tif", "a.ome.tif"])
def test_what_is_read_at_once_stays_below_the_projected_memory(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    plan = plan_export(image, tmp_path / name, nb_workers=2, max_mem="8MB")
    assert 0 < plan.projected_mem <= plan.max_mem == 8_000_000
    assert plan.nb_workers == 2
    largest, read = [], ViewSource.read

    def seen(view: ViewSource, region: Any) -> np.ndarray:
        found = read(view, region)
        largest.append(found.nbytes)
        return found

    monkeypatch.setattr(ViewSource, "read", seen)
    export(image, tmp_path / name, nb_workers=2, max_mem="8MB")
    assert (plan.nb_workers + 1) * max(largest) <= plan.projected_mem
    assert plan_export(image, tmp_path / "b.tif", nb_workers=1).projected_mem < (
        plan_export(image, tmp_path / "b.tif", nb_workers=3).projected_mem
    )


def test_a_plan_counts_what_stays_and_what_is_replaced(image: Path, tmp_path: Path):
    export(image, tmp_path / "planes")
    (tmp_path / "planes" / "c1" / "z0004.tif").unlink()
    before = everything(tmp_path)
    resumed = plan_export(image, tmp_path / "planes", resume=True)
    assert (resumed.n_files, resumed.n_standing, resumed.n_replaced) == (18, 17, 0)
    assert resumed.written_nbytes == BOTH[0, 0].nbytes
    # The part of the array that is read again holds four planes of one channel.
    assert resumed.read_nbytes == 4 * BOTH[0, 0].nbytes
    replaced = plan_export(image, tmp_path / "planes", overwrite=True)
    assert (replaced.n_standing, replaced.n_replaced) == (0, 17)
    # Of other settings nothing stays.
    other = plan_export(image, tmp_path / "planes", overwrite=True, resume=True, compress=2)
    assert (other.n_standing, other.n_replaced) == (0, 17)
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("out", "options", "error"),
    [
        ("b.tif", {"level": 5}, ArgumentError),
        ("b.tif", {"region": [(0, 400)]}, ArgumentError),
        ("b.tif", {"dtype": "u1"}, ArgumentError),
        ("b.tif", {"n_levels": 2}, ArgumentError),
        ("b.ome.tif", {"imagej": True}, ArgumentError),
        ("memory://b.tif", {}, ArgumentError),
        ("a.zarr/b.tif", {}, ArgumentError),
        ("b.tif", {"storage_options": {"anon": True}}, ArgumentError),
        ("b.tif", {"max_mem": "9kB"}, MemoryLimitError),
        ("nowhere/b.tif", {}, PathNotFoundError),
        ("there.tif", {}, TargetExistsError),
        ("there.tif", {"resume": True}, TargetExistsError),
        ("full", {}, TargetExistsError),
        ("full", {"overwrite": True}, TargetExistsError),
        ("done", {"resume": True, "compress": 2}, ResumeError),
    ],
)
def test_a_plan_is_refused_as_the_export_is(
    image: Path, tmp_path: Path, out: str, options: dict[str, Any], error: type[ScoutIOError]
):
    tifffile.imwrite(tmp_path / "there.tif", BOTH[0, 0])
    for folder in ("full", "done"):
        export(image, tmp_path / folder, region=[(0, 1), (0, 9), (0, 300), (0, 270)])
    (tmp_path / "full" / "c0" / "notes.tif").write_bytes(b"")
    if out == "done":
        options = {**options, "region": [(0, 1), (0, 9), (0, 300), (0, 270)]}
    place = out if "://" in out else tmp_path / out
    before = everything(tmp_path)
    told = []
    jobs: tuple[Callable[..., Any], ...] = (plan_export, export)
    for job in jobs:
        with pytest.raises(error) as refused:
            job(image, place, **options)
        told.append(str(refused.value))
    assert told[0] == told[1]
    assert everything(tmp_path) == before


def test_planes_that_were_filled_are_told_before_too(tmp_path: Path):
    filled = BOTH[0].copy()
    for z, plane in enumerate(filled):
        (tmp_path / "planes").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "planes" / f"z{z}.tif", plane)
    (tmp_path / "planes" / "z3.tif").write_bytes(b"")
    with pytest.warns(UserWarning, match="z3"):
        io.convert(tmp_path / "planes", tmp_path / "f.zarr", missing="fill")
    with pytest.warns(UserWarning, match="1 plane of the array could not be read"):
        plan = plan_export(tmp_path / "f.zarr", tmp_path / "out")
    assert [f.plane for f in plan.filled] == [(3,)]
    assert "z3.tif" in plan.render()


def test_a_lazy_array_has_a_plan_too(image: Path, tmp_path: Path):
    here = plan_export(image, tmp_path / "a.tif", voxel_size=(4, 2, 2))
    lazy = plan_export(io.read_zarr(image), tmp_path / "a.tif", voxel_size=(4, 2, 2))
    assert lazy.source == "the array"
    same = replace(here, source="the array", max_mem=lazy.max_mem)
    assert lazy == replace(same, free_nbytes=lazy.free_nbytes)


def test_the_command_prints_the_plan_of_a_url_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    url = f"memory://{uuid.uuid4().hex}/a.zarr"
    io.write_zarr(url, BOTH[0], CHUNKS, voxel_size=(4, 2, 2))
    line = ["export", url, "a.ome.tif", "--dry-run", "--storage-option", "{}", "--max-mem", "64MB"]
    for more in ([], ["--json"]):
        with pytest.raises(SystemExit) as done:
            main([*line, *more])
        assert not done.value.code
    assert list(tmp_path.iterdir()) == []
    text, _, found = capsys.readouterr().out.partition("{")
    assert text.startswith(f"Would export {url} to a.ome.tif; nothing was written\n")
    for row in (
        "array     9 x 300 x 270, uint16, 1.46 MB (z, y, x)",
        "voxel     4 x 2 x 2 micrometres (z, y, x), ",
        "files     1, an OME-TIFF: a.ome.tif",
        "format    TIFF, tiles of 256 x 256, Deflate 1",
        "levels    2: 300 x 270, 150 x 135",
        "chunks    4 x 64 x 128 in the source",
        "memory    ",
        "disk      1.82 MB before compression, ",
    ):
        assert row in text, row
    plan = json.loads("{" + found)
    assert plan["levels"] == [[300, 270], [150, 135]]
    assert plan["max_mem"] == 64_000_000
    assert plan["projected_mem"] <= plan["max_mem"]
