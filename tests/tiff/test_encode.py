"""TIFF files as they are written: layout, strips, directories, and the draft that becomes whole."""

from __future__ import annotations

import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from helpers import make_volume, packs_bits
from hypothesis import given
from hypothesis import strategies as st

from scout_dask_io.errors import ArgumentError, WriteError
from scout_dask_io.tiff import write_layout
from scout_dask_io.tiff import writer as draft_module
from scout_dask_io.tiff.encode import Band, Tag, encode_directory, encode_strip
from scout_dask_io.tiff.write_layout import TiffLayout, plan_layout
from scout_dask_io.tiff.writer import TiffDraft


def strips_of(layout: TiffLayout, data: np.ndarray) -> list[Band]:
    pages = data.reshape(layout.n_pages, layout.height, *layout.shape[len(layout.lead) + 1 :])
    step = layout.rows_per_strip
    return [
        Band(page, row, [encode_strip(layout, pages[page, row : row + step])])
        for page in range(layout.n_pages)
        for row in range(0, layout.height, step)
    ]


def write(
    path: Path, layout: TiffLayout, data: np.ndarray, *, begin: int = 16, drop: int = 0
) -> None:
    """Write a file, its strips from ``begin`` on, the last ``drop`` of them left out."""
    strips = strips_of(layout, data)
    with TiffDraft(path, layout) as draft:
        # Past the header this leaves a hole: a sparse file that takes little of the disk.
        draft._end = begin
        draft.write(strips[: len(strips) - drop])
        draft.publish()


@pytest.mark.parametrize(
    ("shape", "dtype", "n_pages", "page", "samples"),
    [
        ((7, 9), "u2", 1, (7, 9), 1),
        ((5, 7, 9), "f4", 5, (7, 9), 1),
        ((2, 3, 5, 7, 9), "i8", 30, (7, 9), 1),
        ((40, 30, 3), "u1", 1, (40, 30), 3),
        ((40, 30, 4), "u2", 1, (40, 30), 4),
        ((6, 40, 30, 3), "u1", 6, (40, 30), 3),
        # Three columns of what no colour is stored in.
        ((5, 40, 3), "f4", 5, (40, 3), 1),
        ((5, 40, 3), "i2", 5, (40, 3), 1),
        # Colour takes three axes.
        ((40, 3), "u1", 1, (40, 3), 1),
        # Planar colour is not guessed.
        ((3, 40, 30), "u1", 3, (40, 30), 1),
    ],
)
def test_a_page_is_a_plane_or_a_colour_picture(shape, dtype, n_pages, page, samples):
    layout = plan_layout(shape, dtype)
    assert (layout.n_pages, (layout.height, layout.width), layout.samples) == (
        n_pages,
        page,
        samples,
    )
    assert layout.shape == shape


@pytest.mark.parametrize(
    "dtype", ["c8", "c16", "O", "S4", "U4", "M8[s]", "m8[s]", "V8", np.longdouble]
)
def test_a_dtype_that_tiff_cannot_hold_is_refused_with_those_it_can(dtype):
    with pytest.raises(ArgumentError, match=r"bool, integers of 8 to 64 bits, or floats of 16"):
        plan_layout((4, 5), dtype)


@pytest.mark.parametrize("shape", [(), (5,), (0, 5), (5, 0), (0, 4, 5), (3, 4, 0)])
def test_a_shape_without_planes_is_refused(shape):
    with pytest.raises(ArgumentError, match="at least two axes"):
        plan_layout(shape, "u2")


@pytest.mark.parametrize("compress", [-1, 10, True, False, 1.0, "1", None])
def test_a_level_that_is_none_is_refused(compress):
    with pytest.raises(ArgumentError, match="compress must be a whole number from 0"):
        plan_layout((4, 5), "u2", compress)


@pytest.mark.parametrize(
    ("shape", "dtype", "big"),
    [
        ((4000, 1024, 1024), "u1", False),
        ((4096, 1024, 1024), "u1", True),
        ((1950, 1024, 1024), "u2", False),
        ((2048, 1024, 1024), "u2", True),
        # Bits: 32 Gpx of mask are 4 GB.
        ((4096, 1024, 1024), "?", False),
        ((32768, 1024, 1024), "?", True),
        # Pixels of 3.4 GB, and directories of a GB more.
        ((1_700_000, 40, 50), "u1", True),
    ],
)
@pytest.mark.parametrize("compress", [0, 1])
def test_bigtiff_is_chosen_by_the_size_before_compression(shape, dtype, big, compress):
    assert plan_layout(shape, dtype, compress).big is big


@given(
    height=st.integers(1, 5000),
    row_nbytes=st.integers(1, 2**20),
    step=st.integers(1, 5000),
)
def test_a_strip_is_of_reasonable_size_and_ends_where_steps_do(height, row_nbytes, step):
    rows = write_layout._choose_rows(height, row_nbytes, step)
    assert 1 <= rows <= height
    assert rows == 1 or rows * row_nbytes <= write_layout.STRIP_NBYTES
    small = row_nbytes * step <= write_layout.STRIP_NBYTES
    if step < height and small:
        assert rows == height or rows % step == 0
    least = write_layout.LEAST_STRIP_NBYTES
    if row_nbytes * height >= write_layout.STRIP_NBYTES and row_nbytes < least:
        assert rows * row_nbytes >= least / 2


def test_strips_of_default_chunks_are_a_chunk_high():
    assert plan_layout((128, 2048, 2048), "u2", step=64).rows_per_strip == 64


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize("dtype", ["?", "u1", "u2", "f4", "f8"])
def test_strips_may_be_written_in_any_order(tmp_path, dtype, compress, monkeypatch):
    monkeypatch.setattr(write_layout, "STRIP_NBYTES", 400)
    data = make_volume((5, 43, 29), dtype)
    layout = plan_layout(data.shape, dtype, compress)
    strips = strips_of(layout, data)
    order = np.random.default_rng(0).permutation(len(strips))
    with TiffDraft(tmp_path / "a.tif", layout) as draft:
        for k in order:
            assert not draft.is_whole
            draft.write([strips[k]])
        assert draft.is_whole
        draft.publish()
    found = tifffile.imread(tmp_path / "a.tif")
    assert found.shape == data.shape
    assert found.dtype == data.dtype
    np.testing.assert_array_equal(found, data)


def test_an_uncompressed_file_is_one_run_of_pixels_that_can_be_mapped(tmp_path):
    data = make_volume((5, 43, 29), "f8")
    write(tmp_path / "a.tif", plan_layout(data.shape, "f8", 0), data)
    mapped = tifffile.memmap(tmp_path / "a.tif", mode="r")
    np.testing.assert_array_equal(mapped, data)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.series[0].dataoffset == 16
        assert [page.dataoffsets for page in file.pages] == [
            (16 + k * 43 * 29 * 8,) for k in range(5)
        ]


@pytest.mark.parametrize(
    ("dtype", "compress", "predictor"),
    [
        ("u1", 1, 2), ("i2", 9, 2), ("u2", 0, 1), ("u4", 1, 1),
        ("i8", 1, 1), ("f4", 1, 1), ("?", 1, 1),
    ],
)  # fmt: skip
def test_the_predictor_is_for_small_integers(tmp_path, dtype, compress, predictor):
    data = make_volume((2, 13, 17), dtype)
    write(tmp_path / "a.tif", plan_layout(data.shape, dtype, compress), data)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert [page.predictor for page in file.pages] == [predictor] * 2
        assert [page.compression for page in file.pages] == [8 if compress else 1] * 2


def test_a_higher_level_is_no_larger():
    rng = np.random.default_rng(1)
    plane = rng.poisson(200, (256, 512)).astype("u4")
    sizes = [
        len(encode_strip(plan_layout(plane.shape, "u4", level), plane)) for level in (0, 1, 6, 9)
    ]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < sizes[0] / 2


@pytest.mark.parametrize("compress", [0, 1])
@pytest.mark.parametrize(
    ("shape", "dtype"), [((3, 7, 9), "u2"), ((2, 7, 9, 4), "u1"), ((7, 9), "?")]
)
def test_a_bigtiff_reads_back_with_both_libraries(tmp_path, shape, dtype, compress, monkeypatch):
    monkeypatch.setattr(write_layout, "CLASSIC_NBYTES", 10)
    data = make_volume(shape, dtype)
    write(tmp_path / "a.tif", plan_layout(shape, dtype, compress), data)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_bigtiff
        assert file.series[0].shape == shape
        np.testing.assert_array_equal(file.asarray(), data)
    if dtype != "?" or packs_bits():
        by_libtiff = imagecodecs.tiff_decode((tmp_path / "a.tif").read_bytes(), index=None)
        np.testing.assert_array_equal(by_libtiff.reshape(shape), data)


def test_pixels_beyond_4_gb_are_found_again(tmp_path):
    data = make_volume((3, 40, 30))
    layout = TiffLayout(data.shape, data.dtype, 1, 1, 8, big=True)
    write(tmp_path / "a.tif", layout, data, begin=5 * 2**30)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert min(file.pages[0].dataoffsets) >= 5 * 2**30
        np.testing.assert_array_equal(file.asarray(), data)


def test_a_classic_file_that_outgrows_its_offsets_is_not_published(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"old")
    data = make_volume((3, 40, 30))
    layout = plan_layout(data.shape, data.dtype)
    with pytest.raises(struct.error):
        write(tmp_path / "a.tif", layout, data, begin=5 * 2**30)
    assert (tmp_path / "a.tif").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("at", [8, 1026])
def test_directories_follow_each_other_at_even_offsets(big, at):
    tags = [Tag(270, "ASCII", b"odd!"), Tag(256, "LONG", [7]), Tag(273, "OFFSET", [1, 2, 3])]
    encoded = encode_directory(tags, at, big, last=False)
    assert len(encoded) % 8 == 0
    code, value = ("<Q", 8) if big else ("<I", 4)
    n_fixed = (8 + 3 * 20) if big else (2 + 3 * 12)
    assert struct.unpack_from(code, encoded, n_fixed) == (at + len(encoded),)
    last = encode_directory(tags, at, big, last=True)
    assert struct.unpack_from(code, last, n_fixed) == (0,)
    codes = [
        struct.unpack_from("<H", encoded, (8 if big else 2) + k * (12 + (value == 8) * 8))[0]
        for k in range(3)
    ]
    assert codes == [256, 270, 273]


def test_a_draft_that_is_not_whole_is_not_published(tmp_path):
    data = make_volume((3, 40, 30))
    layout = plan_layout(data.shape, data.dtype)
    with pytest.raises(RuntimeError, match="1 of 3 pages are not whole, the first is page 2"):
        write(tmp_path / "a.tif", layout, data, drop=1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_reads_back_with_fewer_pages_is_not_published(tmp_path, monkeypatch):
    (tmp_path / "a.tif").write_bytes(b"old")
    monkeypatch.setattr(
        draft_module,
        "encode_directory",
        lambda tags, at, big, *, last: encode_directory(tags, at, big, last=True),
    )
    data = make_volume((3, 40, 30))
    with pytest.raises(WriteError, match=r"a\.tif was not written"):
        write(tmp_path / "a.tif", plan_layout(data.shape, data.dtype), data)
    assert (tmp_path / "a.tif").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_until_it_is_published_a_draft_is_hidden_and_the_old_file_stands(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"old")
    data = make_volume((3, 40, 30))
    layout = plan_layout(data.shape, data.dtype)
    with TiffDraft(tmp_path / "a.tif", layout) as draft:
        draft.write(strips_of(layout, data))
        others = [p.name for p in tmp_path.iterdir() if p.name != "a.tif"]
        assert len(others) == 1
        assert others[0].startswith(".a.tif.")
        assert others[0].endswith(".partial")
        assert (tmp_path / "a.tif").read_bytes() == b"old"
        draft.publish()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), data)


def test_the_same_array_gives_the_same_file(tmp_path):
    data = make_volume((3, 40, 30))
    for name in ("a.tif", "b.tif"):
        write(tmp_path / name, plan_layout(data.shape, data.dtype), data)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_short_write_is_continued():
    class Slow:
        def __init__(self) -> None:
            self.taken = b""

        def write(self, data: memoryview) -> int:
            self.taken += bytes(data[:3])
            return len(data[:3])

    handle = Slow()
    draft_module._write_all(handle, b"0123456789")
    assert handle.taken == b"0123456789"
