"""An OME-Zarr image holds its data and exact halves of them, whole or not at all."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import zarr
from helpers import make_volume, write_planes
from hypothesis import given, settings
from hypothesis import strategies as st

import scout_dask_io as io
from scout_dask_io.core import downsample as piecewise
from scout_dask_io.core import plan as plan_module
from scout_dask_io.core.grid import chunk_counts, iter_block_regions, region_size
from scout_dask_io.core.ome_metadata import parse_image
from scout_dask_io.core.plan import Room, plan_source
from scout_dask_io.core.pyramid import plan_levels
from scout_dask_io.errors import (
    ArgumentError,
    LayoutError,
    MemoryLimitError,
    ResumeError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.store import local_transaction as sinks
from scout_dask_io.store.manifest import read_manifest
from scout_dask_io.write import shown
from scout_dask_io.write import unit as cascade
from scout_dask_io.write.pyramid_plan import fuse_levels, plan_pass

SIZE = io.VoxelSize(4.0, 1.8, 1.8, "given")
VOLUME = make_volume((21, 150, 134))


def halved(values: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Give the mean of windows by plain numpy: padded with what does not count."""
    pads = [(0, n % f) for n, f in zip(values.shape, factors, strict=True)]
    padded = np.pad(values.astype("f8"), pads, constant_values=np.nan)
    shape = [m for n, f in zip(padded.shape, factors, strict=True) for m in (n // f, f)]
    axes = tuple(range(1, 2 * values.ndim, 2))
    return np.rint(np.nanmean(padded.reshape(shape), axis=axes)).astype(values.dtype)


def check(path: Path, volume: np.ndarray, levels: Any) -> None:
    """Compare every level with halves that numpy makes."""
    expected = volume
    for number, level in enumerate(levels):
        expected = halved(expected, level.factors) if number else expected
        stored = zarr.open_array(path / str(number), mode="r")
        assert (stored.shape, stored.dtype) == (level.shape, volume.dtype)
        np.testing.assert_array_equal(stored[...], expected)


def files(folder: Path) -> dict[str, bytes]:
    """Give every file under a folder and what it holds, manifests aside."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".scout" not in p.name
    }


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_levels_axes_scales_and_translations(tmp_path: Path, version: str):
    group = io.write_ome_zarr(
        tmp_path / "a.zarr", VOLUME, (8, 32, 32), levels=4, voxel_size=SIZE, version=version
    )
    levels = plan_levels(VOLUME.shape, "zyx", SIZE, 4)
    assert [lv.factors for lv in levels[1:]] == [(1, 2, 2), (2, 2, 2), (2, 2, 2)]
    check(tmp_path / "a.zarr", VOLUME, levels)
    assert group.metadata.zarr_format == (2 if version == "0.4" else 3)
    attributes = dict(group.attrs)
    image = attributes if version == "0.4" else attributes["ome"]
    (multiscale,) = image["multiscales"]
    assert (multiscale if version == "0.4" else image)["version"] == version
    assert multiscale["axes"] == [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    steps = [d["coordinateTransformations"] for d in multiscale["datasets"]]
    assert steps[0] == [{"type": "scale", "scale": [4.0, 1.8, 1.8]}]
    assert steps[2] == [
        {"type": "scale", "scale": [8.0, 7.2, 7.2]},
        # The centre of the first window: half way between its first and its last voxel.
        {"type": "translation", "translation": [2.0, pytest.approx(2.7), pytest.approx(2.7)]},
    ]
    assert group["2"].attrs["voxel_size_um"] == [8.0, 7.2, 7.2]
    if version == "0.4":
        meta = json.loads((tmp_path / "a.zarr" / "1" / ".zarray").read_text())
        assert (meta["zarr_format"], meta["dimension_separator"]) == (2, "/")
        assert (tmp_path / "a.zarr" / "1" / "0" / "0" / "0").is_file()


@pytest.mark.parametrize("route", ["source", "numpy", "blocks", "gather", "scratch", "odd"])
def test_every_way_to_write_gives_the_same_levels(tmp_path: Path, route: str):
    data: Any = VOLUME
    chunks, max_mem = (8, 16, 16), "200MB"
    if route == "source":
        write_planes(tmp_path / "p", VOLUME, compression="zlib", rowsperstrip=7)
        data = io.imread_folder(tmp_path / "p")
    elif route == "blocks":
        data = da.from_array(VOLUME, (16, 64, 64)) + 0
    elif route == "gather":
        data = da.from_array(VOLUME, (5, 70, 134)) + 0
    elif route == "scratch":
        data, max_mem = da.from_array(VOLUME, (1, 150, 134)) + 0, "250kB"
    elif route == "odd":
        chunks = (7, 15, 33)
    plan = io.plan_ome_zarr(data, chunks, levels=4, max_mem=max_mem, nb_workers=2)
    expected = {"numpy": "source", "odd": "source"}.get(route, route)
    assert plan.write.route == expected
    assert plan.write.projected_mem <= plan.write.max_mem
    starts = [first for first, _ in plan.passes]
    # Pairs would lie in two chunks of odd extents, so each level has a pass of its own.
    assert starts == [0, 1, 2, 3] if route == "odd" else starts[:2] != [0, 1]
    io.write_ome_zarr(tmp_path / "a.zarr", data, chunks, levels=4, max_mem=max_mem, nb_workers=2)
    check(tmp_path / "a.zarr", VOLUME, plan.levels)


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("rows", [150, 16, 7])
@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_are_halved_as_they_are_read_unless_they_are_too_large_for_the_cache(
    tmp_path: Path, monkeypatch, size, rows: int, compression: str | None, cached: bool
):
    taken = []
    cut = cascade.Cascade.put

    def put(self, index, chunk):
        taken.append(self._pieces.is_whole())
        cut(self, index, chunk)

    monkeypatch.setattr(cascade.Cascade, "put", put)
    if not cached:
        monkeypatch.setattr(piecewise, "CACHED_NBYTES", 1)
    write_planes(tmp_path / "p", VOLUME, compression=compression, rowsperstrip=rows)
    io.write_ome_zarr(
        tmp_path / "a.zarr", io.imread_folder(tmp_path / "p"), (8, 32, 32), levels=2,
        voxel_size=size,
    )  # fmt: skip
    check(tmp_path / "a.zarr", VOLUME, plan_levels(VOLUME.shape, "zyx", size, 2))
    assert taken == ([] if cached else [False] * (3 * 5 * 5))


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("band_nbytes", [1, 100_000, 10**9])
def test_the_first_lower_level_is_in_memory_a_window_at_a_time(
    tmp_path: Path, monkeypatch, band_nbytes: int, cached: bool
):
    windows = []
    begin = cascade.Cascade.open

    def note(self, window):
        if self._next is not None:
            windows.append(region_size(window))
        begin(self, window)

    monkeypatch.setattr(cascade.Cascade, "open", note)
    monkeypatch.setattr(plan_module, "BAND_NBYTES", band_nbytes)
    if not cached:
        monkeypatch.setattr(piecewise, "CACHED_NBYTES", 1)
    write_planes(tmp_path / "p", VOLUME)
    data = io.imread_folder(tmp_path / "p")
    plan = io.plan_ome_zarr(data, (8, 16, 16), levels=4, voxel_size=SIZE, nb_workers=3)
    assert [first for first, _ in plan.passes] == [0, 3]  # levels 1 and 2 come with level 0
    io.write_ome_zarr(
        tmp_path / "a.zarr", data, (8, 16, 16), levels=4, voxel_size=SIZE, nb_workers=3
    )
    check(tmp_path / "a.zarr", VOLUME, plan_levels(VOLUME.shape, "zyx", SIZE, 4))
    assert sum(windows) == VOLUME.size
    if band_nbytes == 1:
        # The fewest bands of 8 x 16 x 134 that become whole chunks of level 1.
        assert max(windows) == 8 * 32 * 134 < 16 * 64 * 134
        assert plan.write.unit == (16, 64, 134)


@pytest.mark.parametrize(("workers", "passes"), [(1, [0]), (2, [0]), (3, [0, 3]), (4, [0, 2])])
def test_all_levels_come_at_once_where_each_worker_has_as_much_to_do(
    tmp_path: Path, workers: int, passes: list[int]
):
    write_planes(tmp_path / "p", VOLUME)
    data = io.imread_folder(tmp_path / "p")
    plan = io.plan_ome_zarr(data, (8, 16, 16), levels=4, voxel_size=SIZE, nb_workers=workers)
    assert [first for first, _ in plan.passes] == passes
    # Of 2 workers one unit each; 3 would wait for the last of 2 units, or of 4.
    assert plan.write.n_units == {1: 2, 2: 2, 3: 6, 4: 15}[workers]


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 70)] * 3),
    chunks=st.tuples(*[st.integers(1, 24)] * 3),
    n_levels=st.integers(1, 5),
    z=st.sampled_from([0.5, 1.0, 1.5, 4.0, None]),
    budget=st.integers(20_000, 400_000),
)
def test_each_chunk_of_each_level_has_one_writer(shape, chunks, n_levels, z, budget):
    size = io.VoxelSize(z, 1.0, 1.0, "given")
    levels = plan_levels(shape, "zyx", size, n_levels)
    try:
        plan = plan_source(shape, np.dtype("uint16"), chunks, (1, 1, shape[2]), Room(2, budget))
    except MemoryLimitError:
        return
    fused, n = fuse_levels(plan, levels)
    assert fused.projected_mem <= budget
    assert n < len(levels)
    for level in levels[: n + 1]:
        written = np.zeros([-(-m // c) for m, c in zip(level.shape, chunks, strict=True)], int)
        for _, region in iter_block_regions(fused.units):
            # Where a unit lies in this level, and the chunks there.
            cells = []
            for s, t, c in zip(region, level.total, chunks, strict=True):
                start, stop = s.start // t, -(-s.stop // t)
                assert s.start % t == 0
                cells.append(slice(start // c, -(-stop // c)))
            written[tuple(cells)] += 1
        assert (written == 1).all()


@pytest.mark.parametrize(
    ("n_planes", "workers", "max_mem", "n_lower"),
    [
        (2000, 2, 2 * 10**9, 2),  # 448 units of 0.5 GB: the first level is not read again
        (500, 2, 2 * 10**9, 1),  # 112 such units would leave a worker idle at the end
        (2000, 16, 16 * 10**9, 1),
        (2000, 2, 190 * 10**6, 1),  # the memory holds less
    ],
)
def test_units_grow_for_further_levels_where_they_are_many(n_planes, workers, max_mem, n_lower):
    size = io.VoxelSize(4.0, 1.8, 1.8, "given")
    shape = (n_planes, 7000, 7000)
    levels = plan_levels(shape, "zyx", size)
    plan = plan_source(
        shape, np.dtype("uint16"), (64, 64, 64), (1, 1, 7000), Room(workers, max_mem)
    )
    fused, n = fuse_levels(plan, levels)
    assert n == n_lower
    assert fused.projected_mem <= max_mem
    assert math.prod(fused.unit) * 2 <= (2**30 if n == 2 else 2**28)


def test_lower_passes_are_cut_for_all_workers_of_a_cluster():
    size = io.VoxelSize(4.0, 1.8, 1.8, "given")
    levels = plan_levels((500, 7000, 7000), "zyx", size)
    one = plan_source(
        levels[0].shape, np.dtype("uint16"), (64, 64, 64), (1, 1, 7000), Room(2, 2 * 10**9)
    )
    fleet = replace(one, n_threads=32)
    # Further levels cost no more units than keep the fleet at work.
    assert fuse_levels(one, levels)[0].n_units >= 2 * 2
    assert fuse_levels(fleet, levels)[0].n_units >= 2 * 32
    for first in (1, 2):
        alone, shared = (plan_pass(plan, levels, first) for plan in (one, fleet))
        assert shared.n_threads == 32
        assert math.prod(shared.unit) < math.prod(alone.unit)
        assert shared.projected_mem <= shared.max_mem


def test_lower_levels_are_made_from_pixels_in_memory(tmp_path: Path, monkeypatch):
    reads: list[str] = []
    from scout_dask_io.files import whole_files

    real = whole_files.read_file
    monkeypatch.setattr(
        whole_files, "read_file", lambda path, room: reads.append(str(path)) or real(path, room)
    )
    plan = io.plan_ome_zarr(VOLUME, (8, 16, 16), levels=3, nb_workers=1)
    assert [first for first, _ in plan.passes] == [0]
    io.write_ome_zarr(tmp_path / "a.zarr", VOLUME, (8, 16, 16), levels=3, nb_workers=1)
    # The contrast is measured on the lowest level; no chunk of another is read back.
    assert reads
    assert all("/array/2/" in path for path in reads)


def test_a_level_is_the_last_when_it_fits_on_a_screen_or_when_asked():
    shapes = [lv.shape for lv in plan_levels((300, 2048, 1024), "zyx", SIZE)]
    assert shapes == [(300, 2048, 1024), (300, 1024, 512), (150, 512, 256), (75, 256, 128)]
    assert len(plan_levels((10, 200, 256), "zyx")) == 1
    assert [lv.factors for lv in plan_levels((1, 900, 800), "zyx")[1:]] == [(1, 2, 2)] * 2
    assert [lv.shape for lv in plan_levels((2, 1, 3, 2), "czyx", None, 9)] == [
        (2, 1, 3, 2), (2, 1, 2, 1), (2, 1, 1, 1)
    ]  # fmt: skip
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ArgumentError, match="levels"):
            plan_levels((5, 5), "yx", None, bad)


def test_channels_have_names_colours_and_windows(tmp_path: Path):
    both = np.stack([VOLUME, VOLUME // 7])
    group = io.write_ome_zarr(
        tmp_path / "a.zarr", both, (8, 32, 32), levels=2, channels=["syto", "sox2"],
        colors=["#00ff00", "FF00FF"],
    )  # fmt: skip
    shown = dict(group.attrs)["omero"]["channels"]
    assert [(c["label"], c["color"], c["active"]) for c in shown] == [
        ("syto", "00FF00", True), ("sox2", "FF00FF", True)
    ]  # fmt: skip
    for k, channel in enumerate(shown):
        low, high = np.percentile(group["1"][k].astype("f8"), (1, 99.9))
        window = channel["window"]
        assert (window["start"], window["end"]) == (pytest.approx(low), pytest.approx(high))
        assert (window["min"], window["max"]) == (0, 65535)
    assert dict(group.attrs)["multiscales"][0]["axes"][0] == {"name": "c", "type": "channel"}
    assert "unit" not in dict(group.attrs)["multiscales"][0]["axes"][1]
    check(tmp_path / "a.zarr", both, plan_levels(both.shape, "czyx", None, 2))
    parsed = parse_image(dict(group.attrs), "a")
    assert parsed is not None
    assert (parsed.axes, parsed.info.names, parsed.info.colors) == (
        "czyx", ("syto", "sox2"), ("00FF00", "FF00FF")
    )  # fmt: skip


def test_the_contrast_of_floats_may_be_moved_over_all_that_is_there(tmp_path: Path):
    data = np.random.default_rng(0).normal(size=(4, 40, 50)).astype("f4")
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    group = io.write_ome_zarr(tmp_path / "a.ome.zarr", data)
    (shown,) = dict(group.attrs)["omero"]["channels"]
    finite = data[np.isfinite(data)]
    assert (shown["window"]["min"], shown["window"]["max"]) == (finite.min(), finite.max())
    assert finite.min() < shown["window"]["start"] < shown["window"]["end"] < finite.max()
    assert shown["label"] == "a"


def test_an_image_without_elements_has_one_level(tmp_path: Path):
    group = io.write_ome_zarr(tmp_path / "a.zarr", np.zeros((0, 300, 400), "u2"), levels=3)
    assert group["0"].shape == (0, 300, 400)
    assert list(group) == ["0"]


def test_labels_are_never_averaged(tmp_path: Path):
    labels = np.kron(make_volume((7, 30, 25), "u4") % 5 * 1000, np.ones((3, 3, 3), "u4"))
    group = io.write_ome_zarr(tmp_path / "a.zarr", labels, (8, 32, 32), levels=3, labels=True)
    assert set(np.unique(group["2"][...])) <= {0, 1000, 2000, 3000, 4000}
    attributes = dict(group.attrs)
    assert "omero" not in attributes
    assert attributes["multiscales"][0]["type"] == "mode"
    nearest = io.write_ome_zarr(tmp_path / "b.zarr", labels, 32, levels=3, method="nearest")
    np.testing.assert_array_equal(nearest["2"][...], labels[::4, ::4, ::4])
    # What was picked lies where it lay.
    steps = dict(nearest.attrs)["multiscales"][0]["datasets"][2]["coordinateTransformations"]
    assert [s["type"] for s in steps] == ["scale"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_interrupted_image_is_finished_and_only_what_is_missing_is_written(
    tmp_path: Path, monkeypatch, version: str
):
    write_planes(tmp_path / "p", make_volume((70, 100, 90)))
    data = io.imread_folder(tmp_path / "p")
    options: dict[str, Any] = {"levels": 4, "version": version, "nb_workers": 1}
    io.write_ome_zarr(tmp_path / "whole.zarr", data, (4, 32, 32), **options)
    total = len([f for f in files(tmp_path / "whole.zarr") if Path(f).name.isdigit()])
    real, written, limit = sinks.write_file, [], [0]

    def failing(where: str, *args: Any, **kwargs: Any) -> None:
        if len(written) >= limit[0]:
            raise OSError(28, "No space left on device")
        written.append(str(where).split("/array/")[1])
        real(where, *args, **kwargs)

    monkeypatch.setattr(sinks, "write_file", failing)
    for stop_at in (total // 2, total - 2):
        path, limit[0] = tmp_path / f"{stop_at}.zarr", stop_at
        written.clear()
        with pytest.raises(WriteError, match="resume=True"):
            io.write_ome_zarr(path, data, (4, 32, 32), **options)
        assert not path.exists()
        with pytest.raises(TargetExistsError, match="unfinished"):
            io.write_ome_zarr(path, data, (4, 32, 32), **options)
        with pytest.raises(ResumeError, match="levels"):
            io.write_ome_zarr(path, data, (4, 32, 32), **{**options, "levels": 3}, resume=True)
        with pytest.raises(ResumeError, match="codec"):
            io.write_ome_zarr(path, data, (4, 32, 32), **options, codec="zstd", resume=True)
        limit[0] = 10**9
        io.write_ome_zarr(path, data, (4, 32, 32), **options, resume=True)
        # What is written twice are chunks of the one unit that was cut off, 32 planes.
        twice = [n.replace("/c/", "/").split("/") for n, k in Counter(written).items() if k > 1]
        assert len({int(z) * 4 // (32 >> int(level)) for level, z, *_ in twice}) == 1
        assert len(set(written)) == total
        found, whole = files(path), files(tmp_path / "whole.zarr")
        for name in (".zattrs", "zarr.json"):  # they hold the image's own name
            found.pop(name, None)
            whole.pop(name, None)
        assert found == whole
        assert not list(tmp_path.glob(".*scout*"))
    with pytest.raises(TargetExistsError):
        io.write_ome_zarr(tmp_path / "whole.zarr", data, (4, 32, 32), **options)
    before_files = files(tmp_path / "whole.zarr")
    io.write_ome_zarr(tmp_path / "whole.zarr", data, (4, 32, 32), **options, resume=True)
    assert files(tmp_path / "whole.zarr") == before_files


def test_each_level_has_its_manifest(tmp_path: Path):
    io.write_ome_zarr(tmp_path / "a.zarr", VOLUME, (8, 32, 32), levels=3)
    for level, shape in enumerate([(21, 150, 134), (11, 75, 67), (6, 38, 34)]):
        manifest = read_manifest(tmp_path / "a.zarr" / str(level))
        assert manifest is not None
        assert manifest.records.shape == chunk_counts(shape, (8, 32, 32))
        for index in np.ndindex(*manifest.records.shape):
            name = "/".join(map(str, index))
            size = (tmp_path / "a.zarr" / str(level) / name).stat().st_size
            assert manifest.records[index]["nbytes"] == size


def test_an_image_is_replaced_only_when_asked_and_strangers_never(tmp_path: Path):
    io.write_zarr(tmp_path / "a.zarr", VOLUME)
    with pytest.raises(TargetExistsError):
        io.write_ome_zarr(tmp_path / "a.zarr", VOLUME)
    io.write_ome_zarr(tmp_path / "a.zarr", VOLUME, overwrite=True)
    assert io.open(tmp_path / "a.zarr", mode="r")["0"].shape == VOLUME.shape
    (tmp_path / "a.zarr" / "notes.txt").write_text("keep")
    with pytest.raises(TargetExistsError, match="holds more"):
        io.write_ome_zarr(tmp_path / "a.zarr", VOLUME, overwrite=True)
    assert (tmp_path / "a.zarr" / "notes.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"version": "0.3"}, "version must be one of 0.4, 0.5"),
        ({"method": "median"}, "mean, mode, nearest"),
        ({"levels": 0}, "levels"),
        ({"channels": ["a"]}, "21 names"),
        ({"colors": ["red"]}, "six hexadecimal digits"),
        ({"shards": (64, 64, 64)}, "shards"),
        ({"voxel_size": (1, 2)}, "voxel_size"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(tmp_path, options, named):
    with pytest.raises(ArgumentError, match=named):
        io.write_ome_zarr(tmp_path / "a.zarr", VOLUME, **options)
    with pytest.raises(ArgumentError, match="2 to 5 axes"):
        io.write_ome_zarr(tmp_path / "a.zarr", VOLUME[0, 0])
    assert list(tmp_path.iterdir()) == []


def test_shards_hold_the_chunks_of_every_level(tmp_path: Path):
    group = io.write_ome_zarr(
        tmp_path / "a.zarr", VOLUME, (8, 16, 16), levels=3, version="0.5", shards=(16, 64, 64)
    )
    for level in range(3):
        array = group[str(level)]
        assert (array.chunks, array.shards) == ((8, 16, 16), (16, 64, 64))
    check(tmp_path / "a.zarr", VOLUME, plan_levels(VOLUME.shape, "zyx", None, 3))


def test_a_delayed_image_is_written_when_it_is_computed(tmp_path: Path):
    delayed = io.write_ome_zarr(
        tmp_path / "a.zarr", da.from_array(VOLUME, (5, 70, 134)) + 0, (8, 32, 32), levels=3,
        compute=False,
    )  # fmt: skip
    assert not (tmp_path / "a.zarr").exists()
    delayed.compute(scheduler="synchronous")
    check(tmp_path / "a.zarr", VOLUME, plan_levels(VOLUME.shape, "zyx", None, 3))


@pytest.mark.cluster
def test_a_cluster_writes_the_same_image(tmp_path: Path):
    from distributed import Client

    write_planes(tmp_path / "p", VOLUME)
    with Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None):
        io.write_ome_zarr(tmp_path / "a.zarr", io.imread_folder(tmp_path / "p"), 16, levels=4)
    check(tmp_path / "a.zarr", VOLUME, plan_levels(VOLUME.shape, "zyx", None, 4))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_level_is_read_by_its_number(tmp_path: Path, version: str):
    io.write_ome_zarr(tmp_path / "a.zarr", VOLUME, (8, 32, 32), levels=3, version=version)
    half = halved(VOLUME, (2, 2, 2))
    for level, expected in enumerate([VOLUME, half, halved(half, (2, 2, 2))]):
        found = io.read_zarr(tmp_path / "a.zarr", level=level)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(found.compute(), expected)
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr").compute(), VOLUME)
    for bad in (3, -1, True):
        with pytest.raises(ArgumentError, match="image of 3 levels"):
            io.read_zarr(tmp_path / "a.zarr", level=bad)
    with pytest.raises(ArgumentError, match="no levels"):
        io.read_zarr(tmp_path / "a.zarr" / "0", level=1)


@pytest.mark.compat
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_validator_finds_nothing_and_other_readers_read_it(tmp_path: Path, version: str):
    models = pytest.importorskip(f"ome_zarr_models.v{version.replace('.', '')}.image")
    both = np.stack([VOLUME, VOLUME // 3])
    io.write_ome_zarr(
        tmp_path / "a.zarr", both, (8, 32, 32), levels=3, channels=["a", "b"], voxel_size=SIZE,
        version=version,
    )  # fmt: skip
    models.Image.from_zarr(zarr.open_group(tmp_path / "a.zarr", mode="r"))
    ngff_zarr = pytest.importorskip("ngff_zarr")
    read = ngff_zarr.from_ngff_zarr(str(tmp_path / "a.zarr"))
    np.testing.assert_array_equal(np.asarray(read.images[0].data), both)
    assert [read.images[2].scale[a] for a in "zyx"] == [8.0, 7.2, 7.2]
    assert [read.images[2].translation[a] for a in "zyx"] == pytest.approx([2.0, 2.7, 2.7])


def test_names_and_sizes_of_an_image_are_those_of_its_metadata(tmp_path: Path):
    both = np.stack([VOLUME, VOLUME // 7])
    io.write_ome_zarr(tmp_path / "a.zarr", both, 32, levels=2, channels=["a", "b"], voxel_size=SIZE)
    for level in "01":
        # As other programs write levels: without attributes of their own.
        (tmp_path / "a.zarr" / level / ".zattrs").unlink()
    assert io.channel_names(tmp_path / "a.zarr") == ["a", "b"]
    size = io.voxel_size(tmp_path / "a.zarr")
    assert size is not None
    assert size.micrometres == (4.0, 1.8, 1.8)
    assert "OME-Zarr metadata" in size.source
    lower = io.voxel_size(io.read_zarr(tmp_path / "a.zarr", level=1))
    assert lower is not None
    assert lower.micrometres == (4.0, 3.6, 3.6)
    io.convert(tmp_path / "a.zarr", tmp_path / "b.zarr")
    shown = dict(io.open(tmp_path / "a.zarr", mode="r").attrs)["omero"]
    assert dict(io.open(tmp_path / "b.zarr", mode="r").attrs) == {
        "channels": ["a", "b"], "voxel_size_um": [4.0, 1.8, 1.8], "image_frame": {"omero": shown}
    }  # fmt: skip
    io.write_ome_zarr(tmp_path / "c.zarr", VOLUME)
    assert io.channel_names(tmp_path / "c.zarr") == []


def test_axes_may_be_named(tmp_path: Path):
    group = io.write_ome_zarr(tmp_path / "a.zarr", VOLUME, 32, levels=2, axes="tyx")
    assert [a["name"] for a in dict(group.attrs)["multiscales"][0]["axes"]] == ["t", "y", "x"]
    assert group["1"].shape == (21, 75, 67)
    for bad in ("zyx ", "yzx", "xyz", "yx", "zzx"):
        with pytest.raises(ArgumentError, match="'tczyx'"):
            io.write_ome_zarr(tmp_path / "b.zarr", VOLUME, axes=bad)


def test_a_level_outside_of_its_image_is_refused(tmp_path: Path):
    io.write_zarr(tmp_path / "secret.zarr", VOLUME)
    io.write_ome_zarr(tmp_path / "a.zarr", VOLUME, levels=1)
    path = tmp_path / "a.zarr" / ".zattrs"
    attributes = json.loads(path.read_text())
    attributes["multiscales"][0]["datasets"][0]["path"] = "../secret.zarr"
    path.write_text(json.dumps(attributes))
    with pytest.raises(LayoutError, match="outside"):
        io.read_zarr(tmp_path / "a.zarr")


def test_contrast_of_a_large_level_is_measured_on_some_of_it(tmp_path: Path, monkeypatch):
    from scout_dask_io.files import whole_files

    monkeypatch.setattr(shown, "SAMPLED", 20_000)
    reads: list[str] = []
    real = whole_files.read_file
    monkeypatch.setattr(
        whole_files, "read_file", lambda path, room: reads.append(str(path)) or real(path, room)
    )
    both = np.stack([VOLUME, VOLUME // 7])
    group = io.write_ome_zarr(tmp_path / "a.zarr", both, (8, 16, 16), levels=1, axes="czyx")
    assert len(reads) == 2 * (20_000 // (8 * 16 * 16))
    for k, channel in enumerate(dict(group.attrs)["omero"]["channels"]):
        low, high = np.percentile(both[k].astype("f8"), (1, 99.9))
        assert channel["window"]["start"] == pytest.approx(low, abs=high / 50)
        assert channel["window"]["end"] == pytest.approx(high, rel=0.02)


def test_a_resumed_image_sweeps_the_drafts_of_its_levels_manifests(tmp_path: Path):
    data = make_volume((20, 90, 110))

    def stop(done: int, total: int, nbytes: int) -> None:
        if done:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"chunks": (4, 32, 32), "levels": 2, "nb_workers": 1}
    with pytest.raises(KeyboardInterrupt):
        io.write_ome_zarr(tmp_path / "a.zarr", data, max_mem="1MB", progress=stop, **settings)
    (group,) = tmp_path.glob(".a.zarr.scout-partial/*/array")
    for folder in (group, group / "0", group / "1"):
        draft = folder / f".scout-manifest-{'0' * 32}.tmp"
        draft.write_bytes(b"a kill came while it was written")
    io.write_ome_zarr(tmp_path / "a.zarr", data, max_mem="1MB", resume=True, **settings)
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr" / "0")[:], data)
    assert [p.name for p in (tmp_path / "a.zarr").rglob("*.tmp")] == []


@pytest.mark.compat
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_reads_levels_axes_scales_and_channels(tmp_path: Path, version: str):
    reader = pytest.importorskip("ome_zarr.reader")
    parse_url = pytest.importorskip("ome_zarr.io").parse_url
    both = np.stack([VOLUME, VOLUME // 7])
    group = io.write_ome_zarr(
        tmp_path / "a.zarr", both, (8, 32, 32), levels=3, voxel_size=SIZE, version=version,
        channels=["syto", "sox2"], colors=["00FF00", "FF00FF"],
    )  # fmt: skip
    (node,) = list(reader.Reader(parse_url(tmp_path / "a.zarr"))())
    assert [a["name"] for a in node.metadata["axes"]] == list("czyx")
    assert node.metadata["channel_names"] == ["syto", "sox2"]
    assert node.metadata["colormap"] == [[[0, 0, 0], [0, 1, 0]], [[0, 0, 0], [1, 0, 1]]]
    scales = [steps[0]["scale"] for steps in node.metadata["coordinateTransformations"]]
    assert scales == [[1, 4, 1.8, 1.8], [1, 4, 3.6, 3.6], [1, 8, 7.2, 7.2]]
    for number, level in enumerate(node.data):
        assert level.shape == group[str(number)].shape
        np.testing.assert_array_equal(level.compute(), group[str(number)][...])
    np.testing.assert_array_equal(node.data[0].compute(), both)


@pytest.mark.compat
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_napari_ome_zarr_makes_layers_of_the_levels(tmp_path: Path, version: str):
    reader = pytest.importorskip("napari_ome_zarr._reader")
    both = np.stack([VOLUME, VOLUME // 7])
    io.write_ome_zarr(
        tmp_path / "a.zarr", both, (8, 32, 32), levels=3, voxel_size=SIZE, version=version,
        channels=["syto", "sox2"],
    )  # fmt: skip
    path = str(tmp_path / "a.zarr")
    ((data, options, kind),) = reader.napari_get_reader(path)(path)
    assert (kind, options["channel_axis"]) == ("image", 0)
    assert list(options["scale"]) == [4.0, 1.8, 1.8]
    assert [name.rpartition(" ")[2] for name in options["name"]] == ["syto", "sox2"]
    assert [level.shape for level in data] == [(2, 21, 150, 134), (2, 21, 75, 67), (2, 11, 38, 34)]
    np.testing.assert_array_equal(np.asarray(data[0]), both)


def codecs(path: Path, n: int) -> list[str]:
    """Give what the metadata of each level name as its codec."""
    metas = [json.loads((path / str(k) / ".zarray").read_text()) for k in range(n)]
    return [m["compressor"].get("cname", m["compressor"]["id"]) for m in metas]


def test_lower_levels_have_a_codec_of_their_own_where_one_is_asked_for_or_none(tmp_path: Path):
    options: dict[str, Any] = {"levels": 3, "overwrite": True}
    path = tmp_path / "a.zarr"
    levels = plan_levels(VOLUME.shape, "zyx", None, 3)
    for codec, expected in [
        ({}, ["zstd", "lz4", "lz4"]),
        ({"codec": "zstd"}, ["zstd"] * 3),
        ({"codec": {"id": "zlib", "level": 1}}, ["zlib"] * 3),
        ({"codec": ("lz4", {"id": "zlib", "level": 1})}, ["lz4", "zlib", "zlib"]),
    ]:
        io.write_ome_zarr(path, VOLUME, (8, 32, 32), **options, **codec)
        assert codecs(path, 3) == expected
        check(path, VOLUME, levels)
    before = files(path)
    for bad in [("zstd", "lz4", "lz4"), ("zstd", "zip")]:
        with pytest.raises(ArgumentError, match="codec"):
            io.write_ome_zarr(path, VOLUME, (8, 32, 32), **options, codec=bad)
    assert files(path) == before
    io.pyramid(path / "0", tmp_path / "b.zarr", levels=3)
    assert codecs(tmp_path / "b.zarr", 3) == ["lz4", "lz4", "lz4"]  # the full one as it stood
    io.convert(path / "0", tmp_path / "c.zarr")
    assert json.loads((tmp_path / "c.zarr/.zarray").read_text())["compressor"]["cname"] == "zstd"
    io.convert(path / "0", tmp_path / "d.zarr", ome=True, levels=2)
    assert codecs(tmp_path / "d.zarr", 2) == ["zstd", "lz4"]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_group_that_is_opened_lists_its_levels_and_no_file_of_this_library(
    tmp_path: Path, version: str
):
    written = io.write_ome_zarr(tmp_path / "a", VOLUME, axes="zyx", levels=2, version=version)
    (tmp_path / "a" / "notes.txt").touch()
    for group in (written, io.open(tmp_path / "a")):
        # zarr warns of what is no part of a hierarchy: of a stranger's file, not of the manifest.
        with pytest.warns(UserWarning, match="is not recognized") as warned:
            assert sorted(name for name, _ in group.members()) == ["0", "1"]
        assert ["notes.txt" in str(w.message) for w in warned] == [True]
