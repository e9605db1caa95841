"""Exporting: the planes that come out, how often chunks are decoded, and what is refused."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import make_volume, shared_data, write_planes

from scout_dask_io.errors import (
    ArgumentError,
    MemoryLimitError,
    PathNotFoundError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.grid import Region, chunk_counts, iter_chunk_indices
from scout_dask_io.jobs import export as export_module
from scout_dask_io.jobs.export import ExportReport, export
from scout_dask_io.lazy import lazy_array
from scout_dask_io.readers import imread, imread_channels, imread_folder
from scout_dask_io.source import Piece, Source
from scout_dask_io.store.create import new_zarr
from scout_dask_io.tiff import draft, encode


class Recorded(Source):
    """Chunks in memory that counts how often each is decoded and how many bytes of reads live."""

    def __init__(self, data: np.ndarray, chunks: tuple[int, ...]) -> None:
        self.data, self.chunks = data, chunks
        self.shape, self.dtype, self.token = data.shape, data.dtype, "recorded"
        self.decoded: Counter[tuple[int, ...]] = Counter()
        self.live_nbytes = self.peak_nbytes = 0
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

    def read(self, region: Region) -> np.ndarray:
        out = super().read(region)
        nbytes = out.nbytes
        with self.lock:
            self.live_nbytes += nbytes
            self.peak_nbytes = max(self.peak_nbytes, self.live_nbytes)
        weakref.finalize(out, self._free, nbytes)
        return out

    def _free(self, nbytes: int) -> None:
        with self.lock:
            self.live_nbytes -= nbytes


def make_zarr(path: Path, data: np.ndarray, chunks: tuple[int, ...]) -> Path:
    new_zarr(path, data.shape, chunks, data.dtype)[...] = data
    return path


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


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
    assert report == ExportReport(
        path=str(tmp_path / "out"),
        n_files=11,
        shape=(11, 40, 30),
        dtype=str(data.dtype),
        nbytes=data.nbytes,
        stored_nbytes=stored,
        read_amplification=1.0,
        elapsed_s=report.elapsed_s,
    )


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
    job = export_module._plan_job(many, 1, 1, 10**9)
    files = export_module._folder_of_planes(tmp_path / "many", job, many, False)
    assert [files[page][0].name for page in (0, 10_000)] == ["z00000.tif", "z10000.tif"]


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
    monkeypatch.setattr(export_module, "PART_NBYTES", part_nbytes)
    monkeypatch.setattr(encode, "STRIP_NBYTES", 1000)
    monkeypatch.setattr(encode, "LEAST_STRIP_NBYTES", 100)
    source = Recorded(make_volume((2, 13, 50, 40)), (2, 4, 16, 12))
    report = export(source, tmp_path / name, compress=compress)
    assert set(source.decoded) == set(np.ndindex(chunk_counts(source.shape, source.chunks)))
    assert set(source.decoded.values()) == {1}
    assert report.read_amplification == 1.0
    reader = imread if name.endswith("tif") else imread_channels
    np.testing.assert_array_equal(reader(tmp_path / name).compute(), source.data)


@pytest.mark.parametrize("nb_workers", [1, 4])
def test_memory_is_a_few_rows_of_chunks(tmp_path, monkeypatch, nb_workers):
    monkeypatch.setattr(export_module, "PART_NBYTES", 1)
    source = Recorded(make_volume((16, 256, 64)), (4, 16, 16))
    export(source, tmp_path / "out", nb_workers=nb_workers, compress=0)
    row_of_chunks = 4 * 16 * 64 * 2
    assert row_of_chunks <= source.peak_nbytes <= (nb_workers + 1) * row_of_chunks
    assert source.live_nbytes == 0


def test_max_mem_bounds_the_workers_and_then_the_planes(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "STRIP_NBYTES", 16 * 64 * 2)
    source = Recorded(make_volume((16, 64, 64)), (8, 16, 16))
    row_of_chunks = 8 * 16 * 64 * 2  # 16 kB; a chunk is 4 kB
    job = export_module._plan_job(source, 1, 8, 3 * (2 * row_of_chunks + 8192))
    assert (job.slab, job.nb_workers, job.ahead, job.read_amplification) == ((8,), 2, 3, 1.0)
    job = export_module._plan_job(source, 1, 8, 2 * row_of_chunks + 8192)
    assert (job.slab, job.nb_workers, job.ahead, job.read_amplification) == ((8,), 1, 1, 1.0)
    job = export_module._plan_job(source, 1, 8, 2 * row_of_chunks)
    assert (job.slab, job.nb_workers, job.read_amplification) == ((4,), 1, 2.0)
    report = export(source, tmp_path / "a.tif", max_mem=2 * row_of_chunks)
    assert report.read_amplification == 2.0
    assert set(source.decoded.values()) == {2}
    assert source.peak_nbytes <= row_of_chunks
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), source.data)


def test_what_cannot_fit_is_refused_before_anything_is_created(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "STRIP_NBYTES", 16 * 64 * 2)
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
    monkeypatch.setattr(export_module, "PART_NBYTES", 1)
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
