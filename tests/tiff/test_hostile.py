"""Damaged, truncated and hostile files: one error that names the file, never zeros."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import make_volume, python, write_planes

from scout_dask_io.errors import PathNotFoundError, ScoutIOError, TiffReadError
from scout_dask_io.read.tiff import imread, imread_folder, imread_parallel

BOTH = pytest.mark.parametrize(
    "read", [imread, lambda p: imread_parallel([p])], ids=["imread", "imread_parallel"]
)


def set_tag(path: Path, name: str, value: object) -> None:
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[name].overwrite(value)


def write_bomb(path: Path, side: int = 60_000, tile: int = 16) -> None:
    """Write a few bytes that claim a huge page of small tiles."""
    tags = [(256, 4, side), (257, 4, side), (258, 3, 16), (259, 3, 8), (262, 3, 1), (277, 3, 1)]
    tags += [(322, 3, tile), (323, 3, tile), (324, 4, 8), (325, 4, 8)]
    body = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4) + bytes(40))


def zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def few_bytes(path: Path) -> None:
    path.write_bytes(b"II*")


def text(path: Path) -> None:
    path.write_bytes(b"not an image at all" * 10)


def no_page(path: Path) -> None:
    path.write_bytes(b"II*\0" + bytes(60))


def cut_pixels(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def cut_header(path: Path) -> None:
    os.truncate(path, 60)


def cut_strips(path: Path) -> None:
    tifffile.imwrite(path, make_volume((64, 20)), compression="lzw", rowsperstrip=8)
    os.truncate(path, path.stat().st_size - 1)


def rows_without_pixels(path: Path) -> None:
    tifffile.imwrite(path, make_volume((64, 20)), compression="lzw", rowsperstrip=8)
    set_tag(path, "ImageLength", 256)


def raw_rows_without_pixels(path: Path) -> None:
    tifffile.imwrite(path, make_volume((64, 20)), rowsperstrip=8)
    with path.open("ab") as file:
        file.write(bytes(20_000))
    set_tag(path, "ImageLength", 256)


def one_strip_too_short(path: Path) -> None:
    tifffile.imwrite(path, make_volume((64, 20)))
    with path.open("ab") as file:
        file.write(bytes(20_000))
    set_tag(path, "ImageLength", 256)
    set_tag(path, "RowsPerStrip", 256)


def unwritten_strip(path: Path) -> None:
    tifffile.imwrite(path, make_volume((64, 20)), compression="lzw", rowsperstrip=8)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tag = tif.pages.first.tags["StripOffsets"]
        tag.overwrite((*tag.value[:3], 0, *tag.value[4:]))


def unwritten_tile_of_a_general_codec(path: Path) -> None:
    tifffile.imwrite(path, make_volume((64, 64)), compression="lzma", tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+") as tif:
        tag = tif.pages.first.tags["TileByteCounts"]
        tag.overwrite((*tag.value[:3], 0, *tag.value[4:]))


def no_rows(path: Path) -> None:
    set_tag(path, "ImageLength", 0)


def no_rows_a_strip(path: Path) -> None:
    tifffile.imwrite(path, make_volume((64, 20)), compression="lzw", rowsperstrip=8)
    set_tag(path, "RowsPerStrip", 0)


def no_samples(path: Path) -> None:
    tifffile.imwrite(path, make_volume((64, 20)))
    set_tag(path, "SamplesPerPixel", 0)


def bomb_of_tiles(path: Path) -> None:
    write_bomb(path)


def bomb_of_one_tile(path: Path) -> None:
    write_bomb(path, 60_000, 60_000 // 16 * 16 + 16)


def bomb_tile_of_a_small_page(path: Path) -> None:
    write_bomb(path, 16, 65520)


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


DAMAGE = [
    zero_bytes,
    few_bytes,
    text,
    no_page,
    cut_pixels,
    cut_header,
    cut_strips,
    rows_without_pixels,
    raw_rows_without_pixels,
    one_strip_too_short,
    unwritten_strip,
    unwritten_tile_of_a_general_codec,
    no_rows,
    no_rows_a_strip,
    no_samples,
    bomb_of_tiles,
    bomb_of_one_tile,
    bomb_tile_of_a_small_page,
    to_fifo,
    to_device,
]


@BOTH
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_refused_when_the_array_is_built(tmp_path, damage: Callable, read):
    (path,) = write_planes(tmp_path, make_volume((1, 64, 20)), names=["z7.tif"])
    damage(path)
    with pytest.raises(TiffReadError, match=r"z7\.tif"):
        read(path)


def test_one_bad_file_of_a_folder_is_named(tmp_path):
    paths = write_planes(tmp_path, make_volume((200, 8, 9)))
    cut_pixels(paths[137])
    with pytest.raises(TiffReadError, match=r"z0137\.tif.*truncated"):
        imread_folder(tmp_path)


def test_a_link_to_nothing_is_named(tmp_path):
    write_planes(tmp_path, make_volume((3, 8, 9)))
    (tmp_path / "z0001b.tif").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PathNotFoundError, match=r"z0001b\.tif.*does not exist"):
        imread_folder(tmp_path)


def test_compressed_bytes_that_do_not_decode_are_an_error_when_read(tmp_path):
    for codec in ("lzw", "deflate", "zstd", "packbits", "jpeg2000", "lzma"):
        path = tmp_path / f"{codec}.tif"
        tifffile.imwrite(path, make_volume((64, 20)), compression=codec, rowsperstrip=8)
        with tifffile.TiffFile(path) as tif:
            at, n = tif.pages.first.dataoffsets[3], tif.pages.first.databytecounts[3]
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\xff\x01\x80" * (n // 3))
        lazy = imread(path)
        with pytest.raises(TiffReadError, match=rf"{codec}\.tif"):
            lazy.compute()


def test_a_short_last_strip_of_lzw_is_an_error_not_zeros(tmp_path):
    path = tmp_path / "short.tif"
    tifffile.imwrite(path, make_volume((60, 20)), compression="lzw", rowsperstrip=60)
    # Strips hold 60 rows; the header now says that they hold 64.
    set_tag(path, "ImageLength", 64)
    set_tag(path, "RowsPerStrip", 64)
    with pytest.raises(TiffReadError, match=r"short\.tif.*holds 2400 bytes of pixels, not 2560"):
        imread(path).compute()


def test_an_imagej_stack_that_lacks_planes_is_refused(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(
        path,
        make_volume((20, 30)),
        photometric="minisblack",
        metadata=None,
        description="ImageJ=1.53t\nimages=9\nslices=9\n",
    )
    with pytest.raises(TiffReadError, match=r"stack\.tif.*counts 9 pages.*has 1; pages=\"all\""):
        imread(path)
    assert imread(path, pages="all").shape == (20, 30)
    # With pixels that nothing accounts for it is no first plane of a stack that was split.
    with open(path, "ab") as file:
        file.write(bytes(20 * 30 * 2))
    with pytest.raises(TiffReadError, match=r"stack\.tif.*counts 9 pages.*has 1"):
        imread_parallel([path])


def test_a_cut_stack_of_pages_is_refused(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, make_volume((9, 20, 30)), photometric="minisblack")
    os.truncate(path, path.stat().st_size - 20 * 30 * 2 * 3)
    with pytest.raises(TiffReadError, match=r"stack\.tif"):
        imread(path)


def test_a_bomb_takes_no_time_and_no_memory(tmp_path):
    write_bomb(tmp_path / "bomb.tif")
    script = f"""
import resource, signal
signal.alarm(60)
from scout_dask_io.read.tiff import imread
from scout_dask_io.errors import TiffReadError
before = resource.getrusage(resource.RUSAGE_SELF)
try:
    imread({str(tmp_path / "bomb.tif")!r})
except TiffReadError:
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_maxrss - before.ru_maxrss < 20_000, after.ru_utime - before.ru_utime < 5)
"""
    assert python("-c", script).split() == ["True", "True"]


def test_an_ome_file_that_names_others_is_refused_and_they_are_not_opened(tmp_path):
    planes = make_volume((2, 20, 30))
    names = ["a.ome.tif", "../secret.tif"]
    data = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:0"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        'Type="uint16" SizeX="30" SizeY="20" SizeZ="2" SizeC="1" SizeT="1">'
        f"{data}</Pixels></Image></OME>"
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "a.ome.tif"
    tifffile.imwrite(path, planes[0], description=xml, metadata=None)
    os.mkfifo(tmp_path / "secret.tif")  # would hang if it were opened
    with pytest.raises(TiffReadError, match=r"a\.ome\.tif.*outside of its folder.*secret\.tif"):
        imread(path)
    lazy = imread_folder(folder)
    np.testing.assert_array_equal(lazy.compute(), planes[:1])


@pytest.mark.filterwarnings("ignore:.*series:UserWarning")
def test_mutants_are_refused_or_have_the_declared_shape(tmp_path):
    rng = np.random.default_rng(20)
    stack = make_volume((3, 48, 64))
    kinds: list[dict[str, object]] = [
        {},
        {"rowsperstrip": 5},
        {"compression": "lzw", "predictor": True, "rowsperstrip": 5},
        {"compression": "deflate", "tile": (16, 16)},
        {"compression": "zstd", "rowsperstrip": 9},
        {"byteorder": ">", "bigtiff": True},
        {"byteorder": ">", "imagej": True},
        {"ome": True},
        {"metadata": None},
        {"compression": "lzma", "tile": (32, 32)},
    ]
    outcomes: dict[str, int] = {}
    for number in range(150):
        path = tmp_path / f"{number}.tif"
        data = stack if number % 3 else stack[0]
        tifffile.imwrite(path, data, photometric="minisblack", **kinds[number % len(kinds)])
        with tifffile.TiffFile(path) as tif:
            places = [page.offset for page in tif.pages]
        raw = bytearray(path.read_bytes())
        if number % 4 == 0:
            del raw[rng.integers(len(raw)) :]
        else:
            for _ in range(rng.integers(1, 4)):
                at = rng.choice(places) + rng.integers(220)
                raw[min(at, len(raw) - 1)] = rng.integers(256)
        path.write_bytes(raw)
        try:
            lazy = imread(path)
            got = lazy.compute(scheduler="sync")
        except ScoutIOError as err:
            outcome = type(err).__name__ if path.name in str(err) else "nameless"
        else:
            outcome = "read"
            assert (got.shape, got.dtype) == (lazy.shape, lazy.dtype)
            assert np.count_nonzero(got) * 4 > got.size
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        path.unlink()
    assert set(outcomes) == {"read", "TiffReadError"}
    assert min(outcomes.values()) > 20


def test_a_sparse_page_of_more_tiles_than_it_lists_takes_no_memory(tmp_path):
    # 2**28 plain tiles without byte counts: none is made up before the offsets are counted.
    tags = [(256, 4, 16), (257, 4, 2**32 - 16), (258, 3, 16), (259, 3, 1), (262, 3, 1)]
    tags += [(277, 3, 1), (322, 3, 16), (323, 3, 16), (324, 4, 8)]
    body = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    (tmp_path / "a.tif").write_bytes(head + body + bytes(4) + bytes(600))
    script = f"""
import resource, signal
signal.alarm(60)
from scout_dask_io.read.tiff import imread
from scout_dask_io.errors import TiffReadError
before = resource.getrusage(resource.RUSAGE_SELF)
try:
    imread({str(tmp_path / "a.tif")!r}, allow_sparse=True)
except TiffReadError:
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(after.ru_maxrss - before.ru_maxrss < 100_000, after.ru_utime - before.ru_utime < 5)
"""
    assert python("-c", script).split() == ["True", "True"]


@pytest.mark.parametrize("allow_sparse", [False, True])
def test_a_strip_that_no_machine_can_count_is_refused(tmp_path, allow_sparse: bool):
    tags = [(256, 4, 2**32 - 1), (257, 4, 2**32 - 1), (258, 3, 64), (259, 3, 1), (262, 3, 1)]
    tags += [(273, 4, 8), (277, 3, 2**16 - 1), (278, 4, 2**32 - 1)]
    body = b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    (tmp_path / "a.tif").write_bytes(head + body + bytes(4) + bytes(600))
    with pytest.raises(TiffReadError, match=r"a\.tif"):
        imread(tmp_path / "a.tif", allow_sparse=allow_sparse)


def test_a_tag_of_two_numbers_instead_of_one_is_told_in_words(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8), "u2"), metadata=None)
    data = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", data, 4)
    (n,) = struct.unpack_from("<H", data, at)
    rows = range(at + 2, at + 2 + 12 * n, 12)
    (here,) = (k for k in rows if struct.unpack_from("<H", data, k)[0] == 277)
    struct.pack_into("<HHIHH", data, here, 277, 3, 2, 1, 1)  # samples per pixel
    path.write_bytes(data)
    with pytest.raises(TiffReadError, match=r"a\.tif': its tags are damaged.*TypeError"):
        imread(path)
