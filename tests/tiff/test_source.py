"""A source asks the files for what a region needs, and for nothing else."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import make_volume, python, write_planes

from scout_dask_io.errors import SourceChangedError, TiffReadError
from scout_dask_io.read.tiff import imread, imread_folder
from scout_dask_io.run.lazy import source_of
from scout_dask_io.tiff import open_file as files
from scout_dask_io.tiff import page_reader as area
from scout_dask_io.tiff import segment_reader as segments
from scout_dask_io.tiff.describe import describe_image, describe_planes
from scout_dask_io.tiff.page_layout import FileTable, SourceFile
from scout_dask_io.tiff.page_table import PageTable
from scout_dask_io.tiff.segment_reader import SegmentReader
from scout_dask_io.tiff.source import TiffSource

Reads = list[tuple[str, int, int]]


@pytest.fixture
def reads(monkeypatch) -> Reads:
    """Record every read: file name, first byte and number of bytes."""
    seen: Reads = []
    real = files.read_at

    def record(fd: int, offset: int, out: memoryview) -> int:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
        got = real(fd, offset, out)
        seen.append((name, offset, got))
        return got

    segments._tables.clear()
    monkeypatch.setattr(files, "read_at", record)
    return seen


def segments_of(path: Path, page: int = 0) -> list[tuple[int, int]]:
    with tifffile.TiffFile(path) as tif:
        found = tif.pages[page]
        return list(zip(found.dataoffsets, found.databytecounts, strict=True))


def test_rows_of_raw_planes_are_read_and_nothing_else(tmp_path, reads):
    volume = make_volume((5, 40, 30))
    paths = write_planes(tmp_path, volume)
    source = describe_planes([str(p) for p in paths])
    reads.clear()
    got = source[1:3, 10:17, 4:6]
    np.testing.assert_array_equal(got, volume[1:3, 10:17, 4:6])
    start = segments_of(paths[0])[0][0] + 10 * 60
    assert reads == [("z0001.tif", start, 7 * 60), ("z0002.tif", start, 7 * 60)]


def test_one_row_strips_that_touch_are_read_at_once(tmp_path, reads):
    volume = make_volume((1, 40, 30))
    paths = write_planes(tmp_path, volume, rowsperstrip=1)
    source = describe_planes([str(p) for p in paths])
    assert source.read_shape == (1, 1, 30)
    reads.clear()
    np.testing.assert_array_equal(source[0, 3:33], volume[0, 3:33])
    assert reads == [("z0000.tif", segments_of(paths[0])[3][0], 30 * 60)]


def test_long_rows_are_read_in_part_where_little_of_them_is_wanted(tmp_path, reads):
    volume = make_volume((1, 6, 40_000))
    paths = write_planes(tmp_path, volume)
    source = describe_planes([str(p) for p in paths])
    reads.clear()
    np.testing.assert_array_equal(source[0, 2:5, 100:110], volume[0, 2:5, 100:110])
    assert [n for _, _, n in reads] == [20, 20, 20]
    reads.clear()
    np.testing.assert_array_equal(source[0, 2:5, :10_000], volume[0, 2:5, :10_000])
    assert [n for _, _, n in reads] == [3 * 80_000]


@pytest.mark.parametrize("order", ["<", ">"])
def test_only_the_compressed_strips_that_a_region_touches_are_read(tmp_path, reads, order):
    volume = make_volume((3, 45, 30))
    paths = write_planes(
        tmp_path, volume, rowsperstrip=8, compression="lzw", predictor=True, byteorder=order
    )
    source = describe_planes([str(p) for p in paths])
    assert source.read_shape == (1, 8, 30)
    source[1:2]  # the table of strips is known from here on
    reads.clear()
    np.testing.assert_array_equal(source[1, 9:24], volume[1, 9:24])
    strips = segments_of(paths[1])[1:3]
    low, high = strips[0][0], strips[-1][0] + strips[-1][1]
    assert sum(n for _, _, n in reads) == high - low
    assert min(at for _, at, _ in reads) == low


def test_only_the_tiles_that_a_region_touches_are_read_each_once(tmp_path, reads):
    volume = make_volume((2, 70, 90))
    paths = write_planes(tmp_path, volume, tile=(16, 32), compression="deflate")
    source = describe_planes([str(p) for p in paths])
    assert source.read_shape == (1, 16, 32)
    source[1, :1]
    reads.clear()
    np.testing.assert_array_equal(source[1, 17:40, 33:60], volume[1, 17:40, 33:60])
    tiles = segments_of(paths[1])
    assert [(at, n) for _, at, n in reads] == [tiles[4], tiles[7]]


@pytest.mark.parametrize("codec", ["jpeg2000", "lzma"])
def test_the_general_decoder_reads_only_what_a_region_touches(tmp_path, reads, codec):
    volume = make_volume((2, 70, 90))
    paths = write_planes(tmp_path, volume, tile=(16, 32), compression=codec)
    source = describe_planes([str(p) for p in paths])
    source[1, :1]  # the table of tiles is known from here on
    reads.clear()
    np.testing.assert_array_equal(source[1, 17:40, 33:60], volume[1, 17:40, 33:60])
    tiles = segments_of(paths[1])
    assert [(at, n) for _, at, n in reads] == [tiles[4], tiles[7]]


def test_a_piece_of_many_strips_is_one_piece(tmp_path):
    volume = make_volume((1, 64, 30))
    paths = write_planes(tmp_path, volume, rowsperstrip=1, compression="zstd")
    source = describe_planes([str(p) for p in paths])
    pieces = list(source.iter_pieces((slice(0, 1), slice(5, 60), slice(2, 9))))
    assert [where for where, _ in pieces] == [(slice(0, 1), slice(0, 55), slice(0, 7))]


def test_steps_and_lists_open_no_file_between(tmp_path, reads):
    volume = make_volume((11, 8, 9))
    source = describe_planes([str(p) for p in write_planes(tmp_path, volume)])
    reads.clear()
    np.testing.assert_array_equal(source[::5, 2:4], volume[::5, 2:4])
    assert [name for name, _, _ in reads] == ["z0000.tif", "z0005.tif", "z0010.tif"]
    reads.clear()
    np.testing.assert_array_equal(source[[9, 3]], volume[[9, 3]])
    assert [name for name, _, _ in reads] == ["z0009.tif", "z0003.tif"]
    np.testing.assert_array_equal(source[[9, 3], :, ::2], volume[[9, 3], :, ::2])
    np.testing.assert_array_equal(source[-1, ::-1], volume[-1, ::-1])
    np.testing.assert_array_equal(source[::-3], volume[::-3])


def test_an_empty_region_reads_nothing(tmp_path, reads):
    source = describe_planes([str(p) for p in write_planes(tmp_path, make_volume((3, 8, 9)))])
    reads.clear()
    assert source[3:].shape == (0, 8, 9)
    assert source[1, 4:4].shape == (0, 9)
    assert list(source.iter_pieces((slice(0, 3), slice(2, 2), slice(0, 9)))) == []
    assert reads == []


def test_a_narrowed_source_carries_only_its_files(tmp_path):
    volume = make_volume((2, 20, 8, 9)).reshape(40, 8, 9)
    paths = [str(p) for p in write_planes(tmp_path, volume)]
    source = describe_planes(paths, lead=(2, 20))
    region = (slice(0, 2), slice(5, 7), slice(1, 4), slice(0, 9))
    part, inside = source.narrow(region)
    assert isinstance(part, TiffSource)
    assert [f.path for f in part.files] == [paths[k] for k in (5, 6, 25, 26)]
    assert inside == (slice(0, 2), slice(0, 2), slice(1, 4), slice(0, 9))
    expected = volume.reshape(2, 20, 8, 9)[region]
    again = pickle.loads(pickle.dumps(part))
    for one in (part, again):
        np.testing.assert_array_equal(one.read(inside), expected)
    finer, deeper = part.narrow((slice(1, 2), slice(1, 2), slice(0, 8), slice(0, 9)))
    assert [f.path for f in finer.files] == [paths[26]]
    np.testing.assert_array_equal(finer.read(deeper), volume[26][None, None])
    assert len({source.token, part.token, finer.token}) == 3
    assert source.narrow(tuple(slice(0, n) for n in source.shape))[0] is source


def test_a_hundred_thousand_planes_pickle_in_twenty_megabytes(tmp_path):
    (path,) = write_planes(tmp_path, make_volume((1, 8, 9)))
    one = describe_planes([str(path)])
    n = 100_000
    described = [
        SourceFile(f"/data/brain_2024_11_03/channel_0/z{z:06d}_488nm.tif", 8_388_900, 2**60 + z, z)
        for z in range(n)
    ]
    pages = np.repeat(one.table.pages, n, axis=0)
    pages[:, 0] = np.arange(n)
    source = TiffSource(PageTable(FileTable.of(described), one.layouts, pages), "many", file_ndim=1)
    data = pickle.dumps(source)
    assert len(data) < 20e6
    again = pickle.loads(data)
    assert again.shape == (n, 8, 9)
    assert again.token == source.token
    assert again.files[77_777] == described[77_777]
    part, _ = again.narrow((slice(5, 6), slice(0, 8), slice(0, 9)))
    assert len(pickle.dumps(part)) < 1000


def test_a_block_over_256_mib_is_cut_into_whole_segments(tmp_path):
    page = np.zeros((4, 5), "u2")
    tifffile.imwrite(tmp_path / "a.tif", page, compression="zstd", tile=(96, 128))
    small = describe_image(str(tmp_path / "a.tif"))
    layout = small.layouts[0]
    large = type(layout)(
        **{**{f: getattr(layout, f) for f in layout.__slots__}, "rows": 20_000, "columns": 20_000}
    )
    source = TiffSource(PageTable(FileTable.of(small.files), (large,), small.table.pages), "large")
    rows, columns = source.default_chunks
    assert columns == (20_000,)
    assert sum(rows) == 20_000
    assert all(n % 96 == 0 for n in rows[:-1])
    assert max(rows) * 20_000 * 2 <= 2**28


def rewrite(path: Path) -> None:
    found = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000))


def replace(path: Path) -> None:
    found = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
    os.replace(other, path)


def grow(path: Path) -> None:
    found = path.stat()
    with path.open("ab") as file:
        file.write(b"x")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 40)


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rewrite, "last modified"),
        (replace, "another file"),
        (grow, "size was"),
        (truncate, "size was"),
        (Path.unlink, "is gone"),
        (to_fifo, "no longer a regular file"),
    ],
)
def test_a_file_that_changed_is_an_error_that_says_what(tmp_path, change: Callable, says: str):
    volume = make_volume((3, 8, 9))
    paths = write_planes(tmp_path, volume)
    source = describe_planes([str(p) for p in paths])
    change(paths[1])
    np.testing.assert_array_equal(source[0], volume[0])
    with pytest.raises(SourceChangedError, match=rf"z0001\.tif.*{says}"):
        source[1]
    with pytest.raises(SourceChangedError, match=rf"z0001\.tif.*{says}"):
        list(source.iter_pieces((slice(1, 2), slice(0, 2), slice(0, 2))))


def test_a_read_that_comes_short_is_an_error_not_zeros(tmp_path, monkeypatch):
    (path,) = write_planes(tmp_path, make_volume((1, 8, 9)))
    source = describe_planes([str(path)])
    monkeypatch.setattr(files, "read_at", lambda fd, offset, out: len(out) - 1)
    with pytest.raises(TiffReadError, match=r"z0000\.tif.*only 143 of 144 bytes"):
        source[0]
    with pytest.raises(TiffReadError, match=r"z0000\.tif.*only"):
        source[0, :3, 2:5]


def test_reading_goes_on_where_the_system_gives_less_than_asked(tmp_path, monkeypatch):
    volume = make_volume((1, 8, 9))
    (path,) = write_planes(tmp_path, volume)
    source = describe_planes([str(path)])
    real = files.read_some_at
    monkeypatch.setattr(files, "read_some_at", lambda fd, at, out: real(fd, at, out[:5]))
    np.testing.assert_array_equal(source[0], volume[0])


def test_no_more_files_are_read_at_once_than_nb_workers(tmp_path, monkeypatch):
    volume = make_volume((12, 8, 9))
    source = describe_planes([str(p) for p in write_planes(tmp_path, volume)], 3)
    real, lock, all_in = files.read_at, threading.Lock(), threading.Barrier(3)
    now, most = 0, 0

    def counted(fd: int, offset: int, out: memoryview) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        all_in.wait(timeout=30)  # three readers must be inside at once, or this breaks
        got = real(fd, offset, out)
        with lock:
            now -= 1
        return got

    monkeypatch.setattr(files, "read_at", counted)

    def read(z: int) -> np.ndarray:
        # Each task has its own copy, as on a worker of a cluster.
        part, region = source.narrow((slice(z, z + 1), slice(0, 8), slice(0, 9)))
        return pickle.loads(pickle.dumps(part)).read(region)

    with ThreadPoolExecutor(8) as pool:
        planes = list(pool.map(read, range(12)))
    assert most == 3
    np.testing.assert_array_equal(np.concatenate(planes), volume)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "i8", "f8"])
@pytest.mark.parametrize("codec", ["lzw", "deflate", "zstd", "packbits"])
@pytest.mark.parametrize("segments", [{"rowsperstrip": 7}, {"tile": (16, 32)}])
def test_the_fast_decoder_gives_what_tifffiles_does(
    tmp_path, monkeypatch, order, dtype, codec, segments
):
    plane = make_volume((45, 37), dtype)
    predictor = codec != "packbits" and dtype in ("u1", "i2", "u4")
    path = tmp_path / "plane.tif"
    tifffile.imwrite(
        path, plane, byteorder=order, compression=codec, predictor=predictor, **segments
    )
    source = describe_image(str(path))
    assert source.layouts[0].coding == "direct"
    fast = source[3:40, 5:30]
    used: list[str] = []
    real = SegmentReader._general
    monkeypatch.setattr(
        SegmentReader, "_direct", lambda self, page: used.append("general") or real(self, page)
    )
    native = type(source.layouts[0])(
        **{
            **{f: getattr(source.layouts[0], f) for f in source.layouts[0].__slots__},
            "dtype": np.dtype(dtype).str,
            "extra": ord(order),  # as where tifffile described the page
        }
    )
    source.table.layouts = (native,)
    general = source[3:40, 5:30]
    assert used == ["general"]
    np.testing.assert_array_equal(fast, general)
    np.testing.assert_array_equal(fast, plane[3:40, 5:30])


def test_the_memory_of_segment_tables_is_bounded_and_forgets_the_oldest():
    from scout_dask_io.tiff.open_file import BoundedCache

    cache: BoundedCache[bytes] = BoundedCache(100, len)
    made: list[str] = []

    def make(name: str, size: int) -> bytes:
        return cache.get(name, lambda: made.append(name) or bytes(size))

    make("a", 40), make("b", 40), make("a", 40)
    assert made == ["a", "b"]
    make("c", 40)
    assert len(cache) == 2
    make("a", 40), make("b", 40)
    assert made == ["a", "b", "c", "b"]
    make("too large", 101)
    assert len(cache) == 2
    with pytest.raises(TypeError):
        pickle.dumps(cache)


def test_sixty_four_handles_serve_hundreds_of_planes(tmp_path):
    write_planes(tmp_path / "planes", np.arange(300 * 12).reshape(300, 3, 4).astype("u2"))
    tifffile.imwrite(
        tmp_path / "stack.tif",
        np.arange(100 * 12).reshape(100, 3, 4).astype("u2"),
        compression="zstd",
        photometric="minisblack",
    )
    script = f"""
import os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from scout_dask_io.read.tiff import imread, imread_folder
before = len(os.listdir("/proc/self/fd"))
lazy = imread_folder({str(tmp_path / "planes")!r})
stack = imread({str(tmp_path / "stack.tif")!r})
half_read = iter(stack)
print(int(lazy.sum().compute()), int(stack.sum().compute()))
print(len(os.listdir("/proc/self/fd")) - before)
"""
    sums = f"{sum(range(3_600))} {sum(range(1_200))}"
    assert python("-c", script).split("\n")[:2] == [sums, "0"]


def test_an_abandoned_read_leaves_no_file_open(tmp_path):
    source = describe_planes([str(p) for p in write_planes(tmp_path, make_volume((40, 8, 9)))])
    before = sorted(os.listdir("/proc/self/fd"))
    pieces = source.iter_pieces((slice(0, 40), slice(0, 8), slice(0, 9)))
    next(pieces)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    pieces.close()
    assert sorted(os.listdir("/proc/self/fd")) == before


WAYS = {
    "raw": {},
    "big-endian": {"byteorder": ">"},
    "strips": {"compression": "zlib", "rowsperstrip": 3},
    "one strip": {"compression": "lzw"},
    "predictor": {"compression": "zlib", "predictor": 2, "rowsperstrip": 5, "byteorder": ">"},
    "raw strips": {"compression": "zlib", "rowsperstrip": 4, "compressionargs": {"level": 0}},
}


@pytest.mark.parametrize("way", WAYS)
def test_pages_of_few_bytes_come_in_stacks_that_keep_pairs_together(tmp_path, monkeypatch, way):
    volume = make_volume((21, 8, 9))
    paths = write_planes(tmp_path, volume, **WAYS[way])
    # Of strips, whole ones are decoded.
    read = volume[0, 2:7] if way in ("raw", "big-endian") else volume[0]
    monkeypatch.setattr(area, "PIECE_NBYTES", 5 * read.nbytes)
    source = describe_planes([str(p) for p in paths])
    region = (slice(3, 20), slice(2, 7), slice(1, 9))
    found = []
    # They share memory: each is good until the next.
    for where, values in source.iter_pieces(region):
        found.append(where[0])
        assert where[1:] == (slice(0, 5), slice(0, 8))
        np.testing.assert_array_equal(values, volume[region][where])
    assert found == [slice(k, min(k + 4, 17)) for k in range(0, 17, 4)]
    picked = source[[1, 2, 3, 9]]  # a source of its own
    np.testing.assert_array_equal(picked, volume[[1, 2, 3, 9]])


@pytest.mark.parametrize("shape", [(7, 8, 9, 3), (7, 8, 9, 4)])
def test_stacks_of_compressed_colour_have_the_samples_that_are_asked_for(tmp_path, shape):
    colours = make_volume(shape, "u1")
    options = {"compression": "zlib", "predictor": 2, "rowsperstrip": 3, "photometric": "rgb"}
    paths = write_planes(tmp_path, colours, **options)
    source = describe_planes([str(p) for p in paths])
    region = (slice(1, 7), slice(3, 8), slice(2, 6), slice(1, 3))
    ((where, values),) = source.iter_pieces(region)
    assert where == tuple(slice(0, s.stop - s.start) for s in region)
    np.testing.assert_array_equal(values, colours[region])


@pytest.mark.parametrize("way", WAYS)
def test_a_plane_of_no_file_ends_a_stack_and_the_next_begins_where_it_would_have(
    tmp_path, monkeypatch, way
):
    volume = make_volume((11, 8, 9))
    paths = write_planes(tmp_path, volume, **WAYS[way])
    paths[4].write_bytes(b"no TIFF")
    volume[4] = 0
    monkeypatch.setattr(area, "PIECE_NBYTES", 4 * volume[0].nbytes)
    with pytest.warns(UserWarning, match="z0004"):
        source = source_of(imread_folder(tmp_path, missing="fill"))
    found = []
    for where, values in source.iter_pieces((slice(0, 11), slice(0, 8), slice(0, 9))):
        found.append(where[0])
        np.testing.assert_array_equal(values, volume[where])
    # 0 to 3 at once, 4 of no file; none crosses 8.
    assert found == [slice(0, 4), slice(4, 5), slice(5, 8), slice(8, 11)]


def test_a_damaged_strip_in_a_stack_names_its_file(tmp_path):
    paths = write_planes(tmp_path, make_volume((6, 8, 9)), compression="zlib", rowsperstrip=3)
    source = describe_planes([str(p) for p in paths])
    with tifffile.TiffFile(paths[3]) as tif:
        at = tif.pages.first.dataoffsets[1]
    status = paths[3].stat()
    with paths[3].open("r+b") as file:
        file.seek(at)
        file.write(bytes(8))
    os.utime(paths[3], ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(TiffReadError, match="z0003"):
        list(source.iter_pieces((slice(0, 6), slice(0, 8), slice(0, 9))))


@pytest.mark.posix  # reads as the profiler found them, by preadv
def test_a_read_past_the_end_does_not_depend_on_who_still_holds_the_buffer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "short"
    path.write_bytes(b"abc")
    held = []

    def read_at(fd: int, offset: int, out: memoryview) -> int:
        # As the profiler of a dask worker does, which keeps the frames it looked at.
        held.append(out)
        return os.preadv(fd, [out], offset)

    monkeypatch.setattr(files, "read_at", read_at)
    with open(path, "rb") as file:
        assert files.read_bytes(file.fileno(), 1, 100) == b"bc"
    assert len(held) == 1


@pytest.mark.posix  # which files are open is told by /proc
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_a_file_is_closed_once_reading_it_has_failed_whoever_keeps_the_error(tmp_path: Path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, make_volume((48, 64)), compression="deflate", tile=(16, 16))
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].dataoffsets[0]  # type: ignore[union-attr]
    raw = bytearray(path.read_bytes())
    raw[at : at + 8] = b"damaged!"
    path.write_bytes(raw)
    lazy = imread(path)
    with pytest.raises(TiffReadError, match="cannot read") as caught:
        lazy.compute(scheduler="sync")
    links = [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
    assert str(path) not in [os.readlink(fd) for fd in links if fd.exists()], caught.value
