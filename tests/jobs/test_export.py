"""Exporting: the planes that come out, how often chunks are decoded, and what is refused."""

from __future__ import annotations

import json
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, read_ome, shared_data, write_planes

from scout_dask_io.core.grid import Region, chunk_counts, iter_chunk_indices
from scout_dask_io.core.source import Piece, Source, ViewSource
from scout_dask_io.errors import (
    ArgumentError,
    MemoryLimitError,
    PathNotFoundError,
    ResumeError,
    ShapeMismatchError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.jobs import export_engine as export_parts
from scout_dask_io.jobs.convert import convert
from scout_dask_io.jobs.export import export
from scout_dask_io.jobs.export_engine import Parts, plan_parts
from scout_dask_io.jobs.export_files import name_files
from scout_dask_io.jobs.export_selection import select
from scout_dask_io.jobs.export_values import Clipped
from scout_dask_io.read.channels import imread_channels
from scout_dask_io.read.tiff import imread, imread_folder
from scout_dask_io.read.voxel_size import voxel_size
from scout_dask_io.run.lazy import lazy_array
from scout_dask_io.store.create import new_zarr
from scout_dask_io.tiff import write_layout
from scout_dask_io.tiff import writer as draft
from scout_dask_io.tiff.write_layout import plan_layout
from scout_dask_io.write.ome_zarr import write_ome_zarr
from scout_dask_io.write.zarr import write_zarr


class Recorded(Source):
    """Chunks in memory that counts how often each is decoded."""

    def __init__(self, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        self.data, self.chunks = data, chunks
        self.shape, self.dtype, self.token = data.shape, data.dtype, "recorded"
        self.decoded: Counter[tuple[int, ...]] = Counter()
        self.fail_at: int | None = None
        self.lock = threading.Lock()

    @property
    def read_shape(self) -> tuple[int, ...]:
        return self.chunks

    def iter_pieces(self, region: Region) -> Iterator[Piece]:
        if self.fail_at is not None and region[0].start <= self.fail_at < region[0].stop:
            raise OSError("bad disk")
        with self.lock:
            self.decoded.update(iter_chunk_indices(region, self.chunks))
        yield tuple(slice(0, s.stop - s.start) for s in region), self.data[region]


class Reads:
    """Counts the bytes of what exports read and still hold."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.live_nbytes = self.peak_nbytes = 0
        self.lock = threading.Lock()
        read = ViewSource.read

        def counted(view: ViewSource, region: Region) -> np.ndarray:
            out = read(view, region)
            self._add(out.nbytes)
            weakref.finalize(out, self._add, -out.nbytes)
            return out

        monkeypatch.setattr(ViewSource, "read", counted)

    def _add(self, nbytes: int) -> None:
        with self.lock:
            self.live_nbytes += nbytes
            self.peak_nbytes = max(self.peak_nbytes, self.live_nbytes)


def make_zarr(path: Path, data: np.ndarray, chunks: tuple[int, ...]) -> Path:
    new_zarr(path, data.shape, chunks, data.dtype)[...] = data
    return path


def files_in(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "f4"])
def test_a_volume_becomes_a_folder_of_planes(tmp_path, dtype, compress):
    data = make_volume((11, 40, 30), dtype)
    src = make_zarr(tmp_path / "a.zarr", data, (4, 16, 16))
    report = export(src, tmp_path / "out", compress=compress)
    assert files_in(tmp_path / "out") == [f"z{z:04d}.tif" for z in range(11)]
    for z in range(11):
        plane = tifffile.imread(tmp_path / "out" / f"z{z:04d}.tif")
        assert plane.shape == (40, 30)
        assert plane.dtype == data.dtype
        np.testing.assert_array_equal(plane, data[z])
    np.testing.assert_array_equal(imread_folder(tmp_path / "out").compute(), data)
    stored = sum(p.stat().st_size for p in (tmp_path / "out").iterdir())
    expected = {
        "path": str(tmp_path / "out"),
        "kind": "planes",
        "n_files": 11,
        "n_written": 11,
        "shape": (11, 40, 30),
        "axes": "zyx",
        "dtype": str(data.dtype),
        "nbytes": data.nbytes,
        "stored_nbytes": stored,
        "n_levels": 1,
        "voxel_size": None,
        "channels": (),
        "clipped": Clipped(0, 0, 0),
        "filled": (),
        "read_amplification": 1.0,
        "elapsed_s": report.elapsed_s,
    }
    assert {name: getattr(report, name) for name in expected} == expected
    assert set(json.loads(report.to_json())) == set(expected)


def test_channels_become_folders_that_imread_channels_reads(tmp_path):
    data = make_volume((2, 7, 40, 30))
    src = make_zarr(tmp_path / "a.zarr", data, (1, 4, 16, 16))
    report = export(str(src), str(tmp_path / "out"))
    assert files_in(tmp_path / "out") == [f"c{c}/z{z:04d}.tif" for c in range(2) for z in range(7)]
    assert report.n_files == 14
    found = imread_channels(tmp_path / "out")
    assert found.shape == (2, 7, 40, 30)
    np.testing.assert_array_equal(found.compute(), data)


def test_names_have_digits_enough_to_sort(tmp_path):
    data = make_volume((12, 2, 3, 5))
    export(make_zarr(tmp_path / "a.zarr", data, (5, 2, 3, 5)), tmp_path / "out")
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == [f"c{c:02d}" for c in range(12)]
    np.testing.assert_array_equal(imread_channels(tmp_path / "out").compute(), data)
    many = Recorded(np.zeros((10_001, 1, 1), "u2"), (5000, 1, 1))
    files = name_files(tmp_path / "many", select(many, level=None, axis="z", region=None), 10_001)
    assert [files.place(page)[0].name for page in (0, 10_000)] == ["z00000.tif", "z10000.tif"]


@pytest.mark.parametrize("shape", [(40, 30), (1, 40, 30)])
def test_a_single_plane_becomes_a_folder_of_one(tmp_path, shape):
    data = make_volume(shape)
    export(make_zarr(tmp_path / "a.zarr", data, (16,) * len(shape)), tmp_path / "out")
    assert files_in(tmp_path / "out") == ["z0000.tif"]
    found = tifffile.imread(tmp_path / "out" / "z0000.tif")
    assert found.shape == (40, 30)
    np.testing.assert_array_equal(found, data.reshape(40, 30))


def test_colour_planes_stay_planes(tmp_path):
    data = make_volume((5, 40, 30, 3), "u1")
    export(make_zarr(tmp_path / "a.zarr", data, (2, 16, 16, 3)), tmp_path / "out")
    assert files_in(tmp_path / "out") == [f"z{z:04d}.tif" for z in range(5)]
    with tifffile.TiffFile(tmp_path / "out" / "z0003.tif") as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
        np.testing.assert_array_equal(file.asarray(), data[3])


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize("name", ["a.tif", "a.TIFF"])
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((40, 30), (16, 16)),
        ((11, 40, 30), (4, 16, 16)),
        ((2, 7, 40, 30), (2, 4, 16, 16)),
        ((2, 3, 5, 13, 11), (1, 2, 2, 8, 8)),
    ],
)
def test_an_array_becomes_one_file(tmp_path, shape, chunks, name, compress):
    data = make_volume(shape)
    report = export(
        make_zarr(tmp_path / "a.zarr", data, chunks), tmp_path / name, compress=compress
    )
    assert report.n_files == 1
    assert report.stored_nbytes == (tmp_path / name).stat().st_size
    for found in (tifffile.imread(tmp_path / name), imread(tmp_path / name).compute()):
        assert found.shape == shape
        assert found.dtype == data.dtype
        np.testing.assert_array_equal(found, data)


def test_the_original_arrays_come_back_as_planes(tmp_path):
    legacy = shared_data("legacy_scout.zarr")
    planes = sorted(shared_data("brain", "ch0").glob("*.tif"))
    report = export(legacy, tmp_path / "out")
    assert report.shape == (30, 510, 667)
    found = sorted((tmp_path / "out").iterdir())
    assert len(found) == len(planes) == 30
    for ours, theirs in zip(found, planes, strict=True):
        np.testing.assert_array_equal(tifffile.imread(ours), tifffile.imread(theirs))


def test_a_reader_s_array_and_a_source_are_exported_too(tmp_path):
    data = make_volume((6, 40, 30))
    write_planes(tmp_path / "in", data)
    export(imread_folder(tmp_path / "in"), tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), data)
    source = Recorded(data, (4, 16, 16))
    export(lazy_array(source), tmp_path / "b.tif")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), data)
    with pytest.raises(ArgumentError, match="Write a computed array with imsave"):
        export(lazy_array(source) + 1, tmp_path / "c.tif")


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize("name", ["out", "out.tif"])
@pytest.mark.parametrize("part_nbytes", [1, 2**23])
def test_each_chunk_is_decoded_once(tmp_path, monkeypatch, name, compress, part_nbytes):
    monkeypatch.setattr(export_parts, "PART_NBYTES", part_nbytes)
    monkeypatch.setattr(write_layout, "STRIP_NBYTES", 1000)
    monkeypatch.setattr(write_layout, "LEAST_STRIP_NBYTES", 100)
    source = Recorded(make_volume((2, 13, 50, 40)), (2, 4, 16, 12))
    report = export(source, tmp_path / name, compress=compress)
    assert set(source.decoded) == set(np.ndindex(chunk_counts(source.shape, source.chunks)))
    assert set(source.decoded.values()) == {1}
    assert report.read_amplification == 1.0
    reader = imread if name.endswith("tif") else imread_channels
    np.testing.assert_array_equal(reader(tmp_path / name).compute(), source.data)


@pytest.mark.parametrize("nb_workers", [1, 4])
def test_memory_is_a_few_rows_of_chunks(tmp_path, monkeypatch, nb_workers):
    monkeypatch.setattr(export_parts, "PART_NBYTES", 1)
    reads = Reads(monkeypatch)
    source = Recorded(make_volume((16, 256, 64)), (4, 16, 16))
    export(source, tmp_path / "out", nb_workers=nb_workers, compress=0)
    row_of_chunks = 4 * 16 * 64 * 2
    assert row_of_chunks <= reads.peak_nbytes <= (nb_workers + 2) * row_of_chunks
    assert reads.live_nbytes == 0


def plan(source: Source, nb_workers: int, max_mem: int) -> Parts:
    view = select(source, level=None, axis="z", region=None).view
    return plan_parts(view, plan_layout(view.shape, view.dtype, 0), nb_workers, max_mem)


def test_max_mem_bounds_the_workers_and_then_the_planes(tmp_path, monkeypatch):
    reads = Reads(monkeypatch)
    source = Recorded(make_volume((16, 64, 64)), (8, 16, 16))
    part = 8 * 16 * 64 * 2 + 2 * 4096  # a row of chunks, and a chunk before and after decoding
    parts = plan(source, 8, 4 * part)
    assert (parts.slab, parts.nb_workers, parts.ahead) == ((8,), 3, 3)
    parts = plan(source, 8, 2 * part)
    assert (parts.slab, parts.nb_workers, parts.ahead) == ((8,), 1, 1)
    assert parts.read_amplification == 1.0
    parts = plan(source, 8, 2 * part - 1)
    assert (parts.slab, parts.nb_workers, parts.read_amplification) == ((4,), 1, 2.0)
    report = export(source, tmp_path / "a.tif", max_mem=2 * part - 1, compress=0)
    assert report.read_amplification == 2.0
    assert set(source.decoded.values()) == {2}
    assert reads.peak_nbytes <= 2 * 4 * 16 * 64 * 2
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), source.data)


def test_what_cannot_fit_is_refused_before_anything_is_created(tmp_path, monkeypatch):
    monkeypatch.setattr(write_layout, "STRIP_NBYTES", 16 * 64 * 2)
    source = Recorded(make_volume((16, 64, 64)), (8, 16, 16))
    for name in ("a.tif", "out"):
        with pytest.raises(MemoryLimitError, match=r"max_mem=9 kB cannot hold 16 rows"):
            export(source, tmp_path / name, max_mem="9kB")
    with pytest.raises(ArgumentError, match="is not a size in bytes"):
        export(source, tmp_path / "a.tif", max_mem="plenty")
    with pytest.raises(ArgumentError, match="nb_workers"):
        export(source, tmp_path / "a.tif", nb_workers=0)
    with pytest.raises(ArgumentError, match="compress"):
        export(source, tmp_path / "out", compress=11)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 2, 5, 16, 18), (1, 1, 5, 16, 18), (3, 1, 1, 16, 18)])
def test_an_axis_of_one_element_takes_no_folder(tmp_path, shape):
    volume = make_volume(shape)
    write_ome_zarr(tmp_path / "a.ome.zarr", volume, chunks=8, axes="tczyx")
    export(tmp_path / "a.ome.zarr", tmp_path / "planes")
    found = imread_channels(tmp_path / "planes").compute()
    n = max(shape[0], shape[1])
    np.testing.assert_array_equal(found, volume.reshape(n, *shape[2:]))


def test_five_axes_are_one_file_and_no_folder(tmp_path):
    source = Recorded(make_volume((2, 2, 2, 5, 6)), (1, 1, 1, 5, 6))
    with pytest.raises(ArgumentError, match=r"a name that ends in \.tif"):
        export(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_source_or_parent_is_an_error_and_creates_nothing(tmp_path):
    with pytest.raises(PathNotFoundError):
        export(tmp_path / "no.zarr", tmp_path / "out")
    source = Recorded(make_volume((2, 5, 6)), (1, 5, 6))
    for name in ("out", "a.tif"):
        with pytest.raises(PathNotFoundError, match="there is no directory"):
            export(source, tmp_path / "no" / name)
    assert list(tmp_path.iterdir()) == []


def test_what_stands_is_refused_and_replaced_on_request(tmp_path):
    source = Recorded(make_volume((3, 5, 6)), (1, 5, 6))
    for name, what in (("a.tif", "already exists"), ("out", "is not empty")):
        export(source, tmp_path / name)
        before = files_in(tmp_path)
        changed = Recorded(source.data + 1, (1, 5, 6))
        with pytest.raises(TargetExistsError, match=what):
            export(changed, tmp_path / name)
        export(changed, tmp_path / name, overwrite=True)
        assert files_in(tmp_path) == before
        reader = imread if name == "a.tif" else imread_folder
        np.testing.assert_array_equal(reader(tmp_path / name).compute(), changed.data)


def test_overwrite_touches_nothing_else_and_makes_no_mixture(tmp_path):
    source = Recorded(make_volume((3, 5, 6)), (1, 5, 6))
    out = tmp_path / "out"
    out.mkdir()
    export(source, out)  # an empty folder is fine
    (out / "notes.txt").write_text("mine")
    export(source, out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"
    (out / "z0003.tif").write_bytes(b"older")
    with pytest.raises(TargetExistsError, match=r"such as 'z0003\.tif', and would read as a mix"):
        export(source, out, overwrite=True)
    channels = Recorded(make_volume((2, 3, 5, 6)), (1, 1, 5, 6))
    export(channels, tmp_path / "channels")
    (tmp_path / "channels" / "c2").mkdir()
    with pytest.raises(TargetExistsError, match="such as 'c2'"):
        export(channels, tmp_path / "channels", overwrite=True)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(TargetExistsError, match="is a file"):
        export(source, tmp_path / "file", overwrite=True)


@pytest.mark.parametrize("name", ["", "out", "a.tif", "0/a.tif"])
def test_nothing_is_written_into_the_source(tmp_path, name):
    data = make_volume((3, 5, 6))
    src = make_zarr(tmp_path / "a.zarr", data, (1, 5, 6))
    before = files_in(tmp_path)
    with pytest.raises(ArgumentError, match="inside the array"):
        export(src, src / name, overwrite=True)
    assert files_in(tmp_path) == before


def test_a_damaged_chunk_leaves_whole_planes_and_no_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(export_parts, "PART_NBYTES", 1)
    source = Recorded(make_volume((9, 300, 200)), (2, 64, 64))
    export(Recorded(source.data * 0, (2, 64, 64)), tmp_path / "out")
    (tmp_path / "a.tif").write_bytes(b"old")
    source.fail_at = 4
    for name in ("out", "a.tif"):
        with pytest.raises(OSError, match="bad disk"):
            export(source, tmp_path / name, overwrite=True, nb_workers=1)
    assert files_in(tmp_path / "out") == [f"z{z:04d}.tif" for z in range(9)]
    # Slabs before the damage are new, the others as they were.
    for z in range(9):
        meant = source.data[z] if z < 4 else 0 * source.data[z]
        found = tifffile.imread(tmp_path / "out" / f"z{z:04d}.tif")
        np.testing.assert_array_equal(found, meant)
    assert (tmp_path / "a.tif").read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tif", "out"]


@pytest.mark.parametrize("name", ["out", "a.tif"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_write_leaves_no_parts_and_no_threads(tmp_path, monkeypatch, name, error):
    calls = iter(range(1000))
    write_all = draft._write_all

    def full(handle, data):
        if next(calls) == 5:
            raise error
        write_all(handle, data)

    monkeypatch.setattr(draft, "_write_all", full)
    source = Recorded(make_volume((9, 30, 20)), (2, 16, 16))
    with pytest.raises(WriteError if isinstance(error, OSError) else KeyboardInterrupt):
        export(source, tmp_path / name)
    assert next(calls) == 6
    # Slabs of two planes, one strip each: two slabs were whole.
    expected = [f"out/z{z:04d}.tif" for z in range(5)] if name == "out" else []
    assert files_in(tmp_path)[:4] == expected[:4]
    assert not [f for f in files_in(tmp_path) if "partial" in f]
    assert not [t for t in threading.enumerate() if t.name.startswith("scout-tiff")]


def test_progress_counts_parts_and_bytes(tmp_path):
    source = Recorded(make_volume((9, 30, 20)), (2, 16, 16))
    seen: list[tuple[int, int, int]] = []
    export(source, tmp_path / "out", progress=lambda *args: seen.append(args))
    assert [done for done, _, _ in seen] == [1, 2, 3, 4, 5]
    assert {total for _, total, _ in seen} == {5}
    assert [nbytes for _, _, nbytes in seen] == [2400, 4800, 7200, 9600, 10800]


# -- parts of an array -------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_planes_lie_along_any_axis_and_each_chunk_is_decoded_once(tmp_path, axis, compress):
    source = Recorded(make_volume((13, 50, 40)), (4, 16, 12))
    report = export(source, tmp_path / "out", axis=axis, compress=compress)
    meant = np.moveaxis(source.data, "zyx".index(axis), 0)
    assert files_in(tmp_path / "out") == [f"{axis}{k:04d}.tif" for k in range(len(meant))]
    assert report.shape == meant.shape
    np.testing.assert_array_equal(imread_folder(tmp_path / "out").compute(), meant)
    assert set(source.decoded) == set(np.ndindex(chunk_counts(source.shape, source.chunks)))
    assert set(source.decoded.values()) == {1}
    export(source, tmp_path / "a.tif", axis=axis, compress=compress)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), meant)


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize("axis", ["z", "y", "x"])
@pytest.mark.parametrize("name", ["out", "a.tif", "a.ome.tif"])
def test_a_box_is_exported_and_each_of_its_chunks_decoded_once(
    tmp_path, monkeypatch, name, axis, compress
):
    monkeypatch.setattr(export_parts, "PART_NBYTES", 1)
    monkeypatch.setattr(write_layout, "STRIP_NBYTES", 500)
    monkeypatch.setattr(write_layout, "LEAST_STRIP_NBYTES", 100)
    source = Recorded(make_volume((2, 13, 70, 45)), (1, 4, 16, 12))
    box = (slice(3, 11), (17, 66), slice(None, 44))
    report = export(source, tmp_path / name, region=box, axis=axis, compress=compress)
    part = source.data[:, 3:11, 17:66, :44]
    meant = np.moveaxis(part, "czyx".index(axis), 1)
    assert report.shape == meant.shape
    assert report.read_amplification == 1.0
    touched = iter_chunk_indices((slice(0, 2), box[0], slice(17, 66), slice(0, 44)), source.chunks)
    assert source.decoded == Counter(touched)
    found = (imread if "." in name else imread_channels)(tmp_path / name)
    np.testing.assert_array_equal(found.compute(), meant)
    if name == "out" and axis == "y":  # planes keep their numbers
        assert files_in(tmp_path / "out")[0] == "c0/y0017.tif"


@pytest.mark.parametrize("box", [(slice(2, 9), slice(5, 20)), (slice(5, 11), slice(9, 30))])
@pytest.mark.parametrize("part_nbytes", [1, 2**23])
def test_a_box_smaller_than_the_chunks_has_each_of_them_decoded_once(
    tmp_path, monkeypatch, part_nbytes, box
):
    # Inside one chunk, and across the edge of two.
    monkeypatch.setattr(export_parts, "PART_NBYTES", part_nbytes)
    source = Recorded(make_volume((13, 40, 24)), (8, 24, 10))
    report = export(source, tmp_path / "a.tif", region=[*box, slice(None)])
    assert report.read_amplification == 1.0
    assert source.decoded == Counter(iter_chunk_indices((*box, slice(0, 24)), source.chunks))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), source.data[box])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"region": [(0, 4), (0, 5), (0, 6), (0, 7)]}, r"4 ranges, and the array .* has 3 axes"),
        ({"region": [(5, 3), (0, 5), (0, 6)]}, r"5:3 along z is not one inside 0:6"),
        ({"region": [slice(0, 6, 2)] * 3}, r"0:6:2 along z is not one inside 0:6: .* steps of 1"),
        ({"region": [(0, 7), (0, 5), (0, 6)]}, r"0:7 along z is not one inside 0:6"),
        ({"region": slice(0, 4, 2)}, r"goes up in steps of 1"),
        ({"region": ["z", "y", "x"]}, "is a slice or"),
        ({"axis": "c"}, "axis must be"),
        ({"level": 1}, "level= is for the path of an OME-Zarr group"),
        ({"dtype": "uint8"}, r"uint8 does not hold every value of uint16: give scale="),
        ({"dtype": "uint8", "scale": (5, 5)}, "low below high"),
        ({"dtype": "uint8", "scale": (5,)}, "two numbers"),
        ({"dtype": "u8", "scale": (0, 1)}, "is not scaled to uint64"),
        ({"dtype": "complex64"}, "must be bool, an integer or a float"),
        ({"dtype": "nonsense"}, "must be a numpy dtype"),
        ({"imagej": True}, "is not the name of one"),
        ({"n_levels": 2}, "n_levels is for an OME-TIFF"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_created(tmp_path, arguments, error):
    source = Recorded(make_volume((6, 20, 30)), (4, 16, 16))
    with pytest.raises(ArgumentError, match=error):
        export(source, tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


# -- dtypes ------------------------------------------------------------------------------------


def test_a_scale_maps_its_ends_to_the_dtype_s_and_what_is_clipped_is_counted(tmp_path):
    data = make_volume((6, 20, 30))
    source = Recorded(data, (4, 16, 16))
    with pytest.warns(
        UserWarning, match=r"lie outside of 1000 to 9000, and were clipped: .* below"
    ):
        report = export(source, tmp_path / "a.tif", dtype="uint8", scale=(1000, 9000))
    share = (np.clip(data.astype("f8"), 1000, 9000) - 1000) / 8000
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rint(255 * share))
    assert report.clipped == Clipped(int((data < 1000).sum()), int((data > 9000).sum()), 0)
    assert report.clipped.n_below > 0
    assert report.dtype == "uint8"
    assert report.nbytes == data.size


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4"])
@pytest.mark.parametrize("source_dtype", ["i2", "u4", "f4", "f8"])
def test_every_pair_of_dtypes_is_scaled_alike(tmp_path, source_dtype, dtype):
    data = np.linspace(-300, 900, 4 * 7 * 11).reshape(4, 7, 11).astype(source_dtype)
    if source_dtype == "u4":
        data = np.abs(np.linspace(-300, 900, 308)).reshape(4, 7, 11).astype("u4")
    if data.dtype.kind == "f":
        data[0, 0, :3] = np.nan, np.inf, -np.inf
    report = export(Recorded(data, (2, 4, 4)), tmp_path / "a.tif", dtype=dtype, scale=(-100.5, 700))
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == dtype
    unit = (data.astype("f8") + 100.5) / 800.5
    if dtype == "f4":
        np.testing.assert_allclose(found, unit.astype("f4"))
        assert report.clipped == Clipped(0, 0, 0)
        return
    ends = np.iinfo(dtype)
    unit = np.clip(np.where(np.isnan(unit), 0, unit), 0, 1)
    np.testing.assert_array_equal(found, np.rint(unit * (float(ends.max) - ends.min) + ends.min))
    n_nan = int(np.isnan(data).sum()) if data.dtype.kind == "f" else 0
    assert report.clipped == Clipped(int((data < -100.5).sum()), int((data > 700).sum()), n_nan)


def test_a_wider_dtype_holds_the_values_as_they_are(tmp_path):
    data = make_volume((3, 7, 9), "u2")
    export(Recorded(data, (2, 4, 4)), tmp_path / "a.tif", dtype="float32")
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, data)
    big = np.array([[[1e300, -1e300, 1.5]]])
    with pytest.warns(UserWarning, match="are beyond what float32 holds, and became infinite"):
        report = export(Recorded(big, (1, 1, 3)), tmp_path / "b.tif", dtype="float32")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), [[[np.inf, -np.inf, 1.5]]])
    assert report.clipped == Clipped(1, 1, 0)


# -- OME-TIFF ----------------------------------------------------------------------------------


def mean_of_four(data: np.ndarray) -> np.ndarray:
    """Give means of 2 x 2 pixels as float64; a last row or column has itself as its partner."""
    room = [(0, 0)] * (data.ndim - 2) + [(0, n % 2) for n in data.shape[-2:]]
    whole = np.pad(data, room, mode="edge").astype("f8")
    *lead, y, x = whole.shape
    return whole.reshape(*lead, y // 2, 2, x // 2, 2).mean(axis=(-3, -1))


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize(
    ("shape", "chunks", "axes"),
    [
        ((300, 530), (64, 64), "YX"),
        ((5, 517, 530), (2, 50, 64), "ZYX"),
        ((2, 3, 300, 270), (1, 2, 64, 64), "CZYX"),
        ((2, 2, 3, 40, 30), (1, 1, 2, 16, 16), "TCZYX"),
    ],
)
def test_an_ome_tiff_is_tiled_with_levels_of_means(tmp_path, shape, chunks, axes, compress):
    data = make_volume(shape)
    source = Recorded(data, chunks)
    path = tmp_path / "a.ome.tif"
    report = export(source, path, voxel_size=(2, 0.5, 0.25), compress=compress)
    assert set(source.decoded.values()) == {1}
    assert report.kind == "ome"
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        series = file.series[0]
        assert series.axes == axes
        assert file.pages[0].is_tiled
        assert report.n_levels == len(series.levels)
        np.testing.assert_array_equal(series.asarray(), data)
        meant = data
        for level in series.levels[1:]:
            meant = np.rint(mean_of_four(meant)).astype("u2")
            assert level.dtype == data.dtype
            np.testing.assert_array_equal(level.asarray(), meant)
        assert max(meant.shape[-2:]) <= 256
        assert len(series.levels) == 1 or max(series.levels[-2].shape[-2:]) > 256
    found = imread(path, level=report.n_levels - 1).compute()
    np.testing.assert_array_equal(found, meant)
    np.testing.assert_array_equal(imread(path).compute(), data)
    sizes = voxel_size(path).micrometres
    assert sizes == ((2.0 if "Z" in axes else None), 0.5, 0.25)


@pytest.mark.parametrize("dtype", ["?", "u4"])
def test_levels_of_masks_and_labels_hold_no_value_that_is_not_there(tmp_path, dtype):
    data = make_volume((3, 300, 290), dtype)
    data[:, ::2, ::2] = data[:, ::2, 1::2]  # two of four are alike: the most frequent
    export(Recorded(data, (2, 64, 64)), tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        found = file.series[0].levels[1].asarray()
    corners = [data[:, y::2, x::2] for y in (0, 1) for x in (0, 1)]
    alike = corners[2] != corners[3]
    np.testing.assert_array_equal(found[alike], corners[0][alike])


def test_levels_of_colour_and_of_floats_are_means(tmp_path):
    colour = make_volume((2, 300, 280, 3), "u1")
    export(Recorded(colour, (1, 64, 64, 3)), tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB
        np.testing.assert_array_equal(file.series[0].asarray(), colour)
        meant = np.rint(np.moveaxis(mean_of_four(np.moveaxis(colour, -1, 1)), 1, -1))
        np.testing.assert_array_equal(file.series[0].levels[1].asarray(), meant)
    floats = make_volume((2, 300, 280), "f4")
    export(Recorded(floats, (1, 64, 64)), tmp_path / "b.ome.tif", n_levels=2)
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as file:
        found = file.series[0].levels[1].asarray()
        np.testing.assert_allclose(found, mean_of_four(floats), rtol=1e-6)
        assert len(file.series[0].levels) == 2


def test_what_ome_cannot_say_is_refused_before_anything_is_created(tmp_path):
    with pytest.raises(ArgumentError, match="an OME-TIFF cannot hold int64"):
        export(Recorded(make_volume((2, 5, 6), "i8"), (1, 5, 6)), tmp_path / "a.ome.tif")
    with pytest.raises(ArgumentError, match="n_levels must be"):
        export(Recorded(make_volume((2, 5, 6)), (1, 5, 6)), tmp_path / "a.ome.tif", n_levels=0)
    assert list(tmp_path.iterdir()) == []


# -- ImageJ ------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [None, 1])
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_an_imagej_hyperstack_has_its_axes_sizes_and_ranges(tmp_path, dtype, compress):
    data = make_volume((2, 5, 40, 30), dtype)
    source = Recorded(data, (1, 2, 16, 16))
    path = tmp_path / "a.tif"
    report = export(source, path, imagej=True, voxel_size=(2, 0.5, 0.25), compress=compress)
    assert report.kind == "imagej"
    assert report.axes == "zcyx"
    assert set(source.decoded.values()) == {1}
    with tifffile.TiffFile(path) as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZCYX"
        np.testing.assert_array_equal(file.asarray(), data.swapaxes(0, 1))
        meta = file.imagej_metadata
        assert (meta["images"], meta["channels"], meta["slices"]) == (10, 2, 5)
        assert meta["hyperstack"]
        assert (meta["unit"], meta["spacing"]) == ("micron", 2.0)
        ranges = np.array([[c.min(), c.max()] for c in data])
        np.testing.assert_allclose(meta["Ranges"], ranges.ravel(), rtol=1e-6)
        np.testing.assert_allclose([meta["min"], meta["max"]], ranges[0], rtol=1e-6)
        tags = file.pages[0].tags
        assert tags["XResolution"].value == (4, 1)
        assert tags["YResolution"].value == (2, 1)
        assert file.is_bigtiff is False
    np.testing.assert_array_equal(imread(path).compute(), data.swapaxes(0, 1))
    assert voxel_size(path).micrometres == (2, 0.5, 0.25)


def test_a_stack_too_large_for_classic_tiff_has_one_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(write_layout, "CLASSIC_NBYTES", 10_000)
    data = make_volume((11, 40, 30))
    source = Recorded(data, (4, 16, 16))
    with pytest.raises(ArgumentError, match=r"above 4 GB only where nothing is compressed"):
        export(source, tmp_path / "a.tif", imagej=True, compress=1)
    export(source, tmp_path / "a.tif", imagej=True, voxel_size=(2, 0.5, 0.25))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert (file.is_bigtiff, len(file.pages)) == (False, 1)
        assert file.imagej_metadata["images"] == 11
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), data)
    np.testing.assert_array_equal(imread(tmp_path / "a.tif").compute(), data)


def test_what_imagej_does_not_read_is_refused_before_anything_is_created(tmp_path):
    with pytest.raises(ArgumentError, match="this would be uint32: give dtype="):
        export(Recorded(make_volume((2, 5, 6), "u4"), (1, 5, 6)), tmp_path / "a.tif", imagej=True)
    six = Recorded(make_volume((1, 1, 1, 2, 5, 6)), (1, 1, 1, 1, 5, 6))
    with pytest.raises(ArgumentError, match="ImageJ knows the axes t, z, c, y, x"):
        export(six, tmp_path / "a.tif", imagej=True)
    assert list(tmp_path.iterdir()) == []


# -- what is known of the array ----------------------------------------------------------------


def test_voxel_size_and_channels_of_an_array_are_written_out(tmp_path):
    data = make_volume((2, 3, 40, 30))
    write_zarr(
        tmp_path / "a.zarr", data, (1, 2, 16, 16), voxel_size=(4, 1.5, 0.75),
        attributes={"channels": ["nuclei", "ß-tubulin"]},
    )  # fmt: skip
    report = export(tmp_path / "a.zarr", tmp_path / "a.ome.tif")
    assert report.voxel_size.micrometres == (4, 1.5, 0.75)
    assert report.channels == ("nuclei", "ß-tubulin")
    pixels = tifffile.xml2dict(tifffile.TiffFile(tmp_path / "a.ome.tif").ome_metadata)["OME"][
        "Image"
    ]["Pixels"]
    assert [c["Name"] for c in pixels["Channel"]] == ["nuclei", "ß-tubulin"]
    assert [pixels[f"PhysicalSize{a}"] for a in "ZYX"] == [4, 1.5, 0.75]
    for name in ("b.tif", "planes"):
        export(tmp_path / "a.zarr", tmp_path / name)
        assert voxel_size(tmp_path / name).micrometres == (4, 1.5, 0.75)
    # The planes along x: their distance is the size along x.
    report = export(tmp_path / "a.zarr", tmp_path / "x.ome.tif", axis="x", region=[(1, 2), (0, 3),
                    (0, 40), (0, 30)])  # fmt: skip
    assert report.voxel_size.micrometres == (0.75, 4, 1.5)
    assert report.channels == ("ß-tubulin",)
    assert voxel_size(tmp_path / "x.ome.tif").micrometres == (0.75, 4, 1.5)


def test_planes_that_were_filled_are_told_again(tmp_path):
    data = make_volume((3, 40, 30))
    paths = write_planes(tmp_path / "in", data)
    paths[1].write_bytes(b"broken")
    with pytest.warns(UserWarning, match="z0001"):
        convert(tmp_path / "in", tmp_path / "a.zarr", chunks=(2, 16, 16), missing="fill")
    with pytest.warns(UserWarning, match="1 plane of the array could not be read when it was made"):
        report = export(tmp_path / "a.zarr", tmp_path / "out")
    assert [f.plane for f in report.filled] == [(1,)]


def make_ome_zarr(path: Path, data: np.ndarray, version: str) -> Path:
    """Write two levels with zarr alone."""
    fmt = 2 if version == "0.4" else 3
    group = zarr.open_group(path, mode="w", zarr_format=fmt)
    for name, level in (("0", data), ("1", data[..., ::2, ::2])):
        group.create_array(name, data=np.ascontiguousarray(level), chunks=(1, 2, 16, 16))
    scales = ([1, 4, 500, 250], [1, 4, 1000, 500])
    units = [None, "micrometer", "nanometer", "nanometer"]
    image = {
        "axes": [
            {"name": n, "type": "space"} | ({"unit": u} if u else {})
            for n, u in zip("czyx", units, strict=True)
        ],
        "datasets": [
            {"path": name, "coordinateTransformations": [{"type": "scale", "scale": s}]}
            for name, s in zip("01", scales, strict=True)
        ],
        "coordinateTransformations": [{"type": "scale", "scale": [1, 2, 1, 1]}],
        "version": version,
    }
    said = {
        "multiscales": [image],
        "omero": {"channels": [{"label": "nuclei"}, {"label": "fibres"}]},
    }
    group.attrs.update(said if version == "0.4" else {"ome": {"version": version, **said}})
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_level_of_an_ome_zarr_group_is_exported_with_its_voxel_size(tmp_path, version):
    data = make_volume((2, 3, 40, 30))
    src = make_ome_zarr(tmp_path / "a.ome.zarr", data, version)
    report = export(src, tmp_path / "a.ome.tif")
    assert (report.shape, report.axes) == ((2, 3, 40, 30), "czyx")
    assert report.voxel_size.micrometres == pytest.approx((8, 0.5, 0.25))
    assert report.channels == ("nuclei", "fibres")
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.ome.tif"), data)
    report = export(src, tmp_path / "b.tif", level=1, imagej=True)
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.imagej_metadata["Info"].splitlines()[:2] == [
            "Channel 1: nuclei",
            "Channel 2: fibres",
        ]
    assert report.voxel_size.micrometres == pytest.approx((8, 1.0, 0.5))
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "b.tif"), data[..., ::2, ::2].swapaxes(0, 1)
    )
    # A size that is given is of the full level, as in preview and view.
    report = export(src, tmp_path / "d.tif", level=1, voxel_size=(4, 1, 2))
    assert report.voxel_size.micrometres == pytest.approx((4, 2, 4))
    assert voxel_size(tmp_path / "d.tif").micrometres == pytest.approx((4, 2, 4))
    with pytest.raises(ArgumentError, match=r"level 2 of .*: it is an image of 2 levels"):
        export(src, tmp_path / "c.tif", level=2)


# -- resume ------------------------------------------------------------------------------------


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        name: ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns)
        for name in files_in(folder)
    }


def test_an_interrupted_export_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(export_parts, "PART_NBYTES", 1)
    source = Recorded(make_volume((9, 300, 200)), (2, 64, 64))
    source.fail_at = 4
    out = tmp_path / "out"
    with pytest.raises(OSError, match="bad disk"):
        export(source, out, nb_workers=1)
    before = stamps(out)
    assert list(before) == [f"z{z:04d}.tif" for z in range(4)]
    (out / f".z0004.tif.{'0' * 12}.partial").write_bytes(b"left by a kill")
    source.fail_at, source.decoded = None, Counter()
    seen: list[tuple[int, int, int]] = []
    with pytest.raises(TargetExistsError, match="resume=True"):
        export(source, out)
    report = export(source, out, resume=True, progress=lambda *args: seen.append(args))
    assert (report.n_files, report.n_written) == (9, 5)
    assert {index[0] for index in source.decoded} == {2, 3, 4}  # of the slabs that were missing
    after = stamps(out)
    assert {name: after[name] for name in before} == before
    assert list(after) == [f"z{z:04d}.tif" for z in range(9)]
    np.testing.assert_array_equal(imread_folder(out).compute(), source.data)
    assert seen[0] == (10, 25, 0)
    assert seen[-1][:2] == (25, 25)
    # All of it stands: nothing is read, nothing written.
    source.decoded = Counter()
    report = export(source, out, resume=True)
    assert (report.n_written, stamps(out), source.decoded) == (0, after, Counter())


def test_resume_writes_a_plane_that_is_not_whole_again(tmp_path):
    source = Recorded(make_volume((5, 40, 30)), (2, 16, 16))
    export(source, tmp_path / "out")
    plane = tmp_path / "out" / "z0003.tif"
    # Its directory moved to the front would stand; here the pixels' end is lost instead.
    data = bytearray(plane.read_bytes())
    at = data.index(b"\x11\x01")  # StripOffsets
    data[at + 8 : at + 12] = (2**31).to_bytes(4, "little")
    plane.write_bytes(data)
    report = export(source, tmp_path / "out", resume=True)
    assert report.n_written == 1
    np.testing.assert_array_equal(imread_folder(tmp_path / "out").compute(), source.data)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"compress": 2}, "compress was 1, is 2"),
        ({"dtype": "uint8", "scale": (0, 2**15)}, "dtype was uint16, is uint8"),
        ({"region": [(0, 5), (1, 40), (0, 30)]}, "box was "),
        ({"voxel_size": (1, 2, 3)}, "voxel_size_um was None, is"),
    ],
)
def test_resume_refuses_another_export_and_names_the_difference(tmp_path, changed, named):
    source = Recorded(make_volume((5, 40, 30)), (2, 16, 16))
    export(source, tmp_path / "out")
    before = stamps(tmp_path / "out")
    with pytest.raises(ResumeError, match=named):
        export(source, tmp_path / "out", resume=True, **changed)
    assert stamps(tmp_path / "out") == before
    report = export(source, tmp_path / "out", resume=True, overwrite=True, **changed)
    assert report.n_written == 5


def test_resume_refuses_planes_that_no_export_wrote(tmp_path):
    data = make_volume((5, 40, 30))
    write_planes(tmp_path / "out", data)
    source = Recorded(data, (2, 16, 16))
    with pytest.raises(TargetExistsError, match="was not written by an export"):
        export(source, tmp_path / "out", resume=True)
    (tmp_path / "out" / "z0000.tif").write_bytes(b"")
    with pytest.raises(TargetExistsError, match="or is damaged"):
        export(source, tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("name", "how"), [("a.tif", {}), ("a.ome.tif", {}), ("a.tif", {"imagej": True})]
)
def test_resume_keeps_a_single_file_that_stands_and_writes_one_that_does_not(tmp_path, name, how):
    source = Recorded(make_volume((5, 40, 30)), (2, 16, 16))
    report = export(source, tmp_path / name, resume=True, **how)
    assert report.n_written == 1
    before = stamps(tmp_path)
    report = export(source, tmp_path / name, resume=True, **how)
    assert (report.n_written, stamps(tmp_path)) == (0, before)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / name), source.data)
    other = Recorded(source.data, (2, 16, 16))
    other.token = "another"
    with pytest.raises(ResumeError, match="source was"):
        export(other, tmp_path / name, resume=True, **how)


@pytest.mark.compat
@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "u2", "u4", "f4", "f8"])
def test_ome_types_accepts_the_ome_xml(tmp_path, dtype):
    data = make_volume((2, 3, 300, 270), dtype)
    write_zarr(
        tmp_path / "a.zarr", data, (1, 2, 64, 64), voxel_size=(4, 1.5, 0.75),
        attributes={"channels": ["nuclei", "ß-tubulin"]},
    )  # fmt: skip
    export(tmp_path / "a.zarr", tmp_path / "a.ome.tif")
    ome = read_ome(tmp_path / "a.ome.tif")
    (image,) = ome.images
    pixels = image.pixels
    sizes = [getattr(pixels, f"size_{a}") for a in "tczyx"]
    assert sizes == [1, 2, 3, 300, 270]
    assert [getattr(pixels, f"physical_size_{a}") for a in "zyx"] == [4, 1.5, 0.75]
    assert {getattr(pixels, f"physical_size_{a}_unit").value for a in "zyx"} == {"µm"}
    assert [c.name for c in pixels.channels] == ["nuclei", "ß-tubulin"]
    meant = {"?": "bit", "u1": "uint8", "i2": "int16", "u2": "uint16", "u4": "uint32",
             "f4": "float", "f8": "double"}  # fmt: skip
    assert pixels.type.value == meant[dtype]
    assert pixels.dimension_order.value.startswith("XYZC")
    assert pixels.tiff_data_blocks[0].plane_count == 6


def test_what_convert_reads_is_exported_by_its_path_and_what_is_odd_is_refused(tmp_path: Path):
    volume = make_volume((2, 3, 8, 9))
    for c, z in np.ndindex(2, 3):
        write_planes(tmp_path / "src", volume[c, z][None], names=[f"b_C{c}_Z{z}.tif"])
    export(tmp_path / "src", tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.series[0].axes == "CZYX"
        np.testing.assert_array_equal(file.series[0].asarray(), volume)
    with pytest.raises(ArgumentError, match="has no level 1"):
        export(tmp_path / "src", tmp_path / "b.tif", level=1)
    with pytest.raises(PathNotFoundError, match=r"there is nothing|no Zarr"):
        export(tmp_path / "nothing", tmp_path / "b.tif")
    (tmp_path / "src" / "b_C1_Z1.tif").rename(tmp_path / "src" / "b_C1_Z7.tif")
    with pytest.raises((ArgumentError, ShapeMismatchError), match="channel 1, z 1"):
        export(tmp_path / "src", tmp_path / "b.tif")
    assert not (tmp_path / "b.tif").exists()
