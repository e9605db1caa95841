"""Every kind of file that microscopes and programs write, against tifffile."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import make_volume, packs_bits
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scout_dask_io.read.tiff import imread, imread_folder
from scout_dask_io.run.lazy import source_of

STRIPS = {"rowsperstrip": 7}
TILES = {"tile": (32, 16)}
DTYPES = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
CODECS = [None, "lzw", "deflate", "adobe_deflate", "zstd", "packbits"]


def check(path: Path, expected: np.ndarray | None = None, **options: Any) -> None:
    """Hold the whole array and a few regions against tifffile's."""
    if expected is None:
        expected = tifffile.imread(path)
    lazy = imread(path, **options)
    data = lazy.compute()
    assert data.shape == lazy.shape == expected.shape
    assert data.dtype == lazy.dtype == expected.dtype
    assert data.dtype.isnative
    np.testing.assert_array_equal(data, expected)
    source = source_of(lazy)
    assert source is not None
    middle = tuple(slice(n // 3, n // 3 + max(1, n // 2)) for n in expected.shape)
    np.testing.assert_array_equal(source[middle], expected[middle])
    corner = tuple(slice(max(0, n - 3), n) for n in expected.shape)
    np.testing.assert_array_equal(source[corner], expected[corner])


@pytest.mark.parametrize("segments", [{}, STRIPS, TILES], ids=["one strip", "strips", "tiles"])
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("predictor", [False, True], ids=["plain", "predictor"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_each_codec_is_read_as_tifffile_reads_it(tmp_path, segments, codec, predictor, order):
    if predictor and codec in (None, "packbits"):
        pytest.skip("tifffile writes no predictor with this codec")
    plane = make_volume((3, 45, 37), "u2")[1]
    path = tmp_path / "plane.tif"
    tifffile.imwrite(
        path, plane, compression=codec, predictor=predictor, byteorder=order, **segments
    )
    check(path, plane)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("codec", [None, "lzw", "zstd"])
@pytest.mark.parametrize("bigtiff", [False, True], ids=["classic", "big"])
def test_each_dtype_is_read_as_tifffile_reads_it(tmp_path, dtype, order, codec, bigtiff):
    plane = make_volume((2, 45, 40), dtype)[1]
    for number, segments in enumerate([{}, STRIPS, TILES]):
        path = tmp_path / f"{number}.tif"
        predictor = codec == "lzw" and dtype[0] in "ui"
        tifffile.imwrite(
            path,
            plane,
            byteorder=order,
            bigtiff=bigtiff,
            compression=codec,
            predictor=2 if predictor else None,
            photometric="minisblack",
            **segments,
        )
        check(path, plane)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_the_floating_point_predictor_is_undone(tmp_path, dtype, order):
    plane = make_volume((2, 45, 40), dtype)[1]
    path = tmp_path / "plane.tif"
    tifffile.imwrite(path, plane, compression="deflate", predictor=3, byteorder=order, **STRIPS)
    check(path, plane)


@pytest.mark.parametrize("codec", [None, "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("segments", [{}, STRIPS, TILES], ids=["one strip", "strips", "tiles"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_samples_are_the_last_axis_chunky_or_planar(tmp_path, codec, segments, order, planar):
    image = make_volume((3, 45, 40), "u2").transpose(1, 2, 0)
    stored = image if planar == "contig" else image.transpose(2, 0, 1)
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(
        path,
        stored,
        photometric="rgb",
        planarconfig=planar,
        compression=codec,
        predictor=codec in ("lzw", "deflate"),
        byteorder=order,
        **segments,
    )
    check(path, image)
    np.testing.assert_array_equal(source_of(imread(path))[3:9, 5:30, 1:2], image[3:9, 5:30, 1:2])


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_stack_of_rgb_pages_keeps_samples_last(tmp_path, planar):
    stack = make_volume((4, 45, 40, 3), "u1")
    stored = stack if planar == "contig" else stack.transpose(0, 3, 1, 2)
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, **STRIPS)
    check(path, stack)


@pytest.mark.parametrize("segments", [{}, STRIPS, TILES], ids=["one strip", "strips", "tiles"])
@pytest.mark.parametrize("color", [False, True], ids=["gray", "rgb"])
def test_jpeg_is_read_as_tifffile_reads_it(tmp_path, segments, color):
    smooth = np.add.outer(np.arange(64), np.arange(80)).astype("u1")
    image = np.stack([smooth, smooth[::-1], 200 - smooth], -1) if color else smooth
    if not color and "rowsperstrip" in segments:
        segments = {"rowsperstrip": 16}
    path = tmp_path / "image.tif"
    tifffile.imwrite(
        path, image, compression="jpeg", photometric="rgb" if color else "minisblack", **segments
    )
    check(path)


@pytest.mark.parametrize("codec", ["jpeg2000", "lzma", "webp", "png", "jpegxl", "lerc"])
def test_what_imagecodecs_decodes_is_read(tmp_path, codec):
    image = make_volume((3, 64, 80), "u1").transpose(1, 2, 0)
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, image, compression=codec, photometric="rgb", tile=(32, 32))
    check(path)


@pytest.mark.parametrize("codec", ["group3", "group4", "tiff_ccitt", "packbits", None])
def test_pages_of_one_bit_a_pixel_are_read(tmp_path, codec):
    noise = np.random.default_rng(17).random((53, 91))
    noise[10:30, 20:70], noise[31:40] = 0, 1
    page = noise > 0.6
    Image.fromarray(page).save(tmp_path / "fax.tif", compression=codec)
    try:
        tifffile.imread(tmp_path / "fax.tif")
    except ValueError as err:
        pytest.skip(f"this tifffile does not read it: {err}")
    check(tmp_path / "fax.tif", page)


@pytest.mark.parametrize("dtype", ["c8", "c16"])
def test_complex_pixels_are_read(tmp_path, dtype):
    plane = (make_volume((45, 40), "f4") + 1j * make_volume((45, 40), "f4", seed=1)).astype(dtype)
    for number, options in enumerate([{}, {"compression": "zstd", **STRIPS}]):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, plane, byteorder=">", **options)
        check(path, plane)


def test_packed_bits_are_read(tmp_path):
    if not packs_bits():
        pytest.skip("this imagecodecs does not pack bits")
    plane = make_volume((45, 40), "u2") % 2**12
    path = tmp_path / "packed.tif"
    tifffile.imwrite(path, plane, bitspersample=12, **STRIPS)
    check(path, plane)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((5, 45, 40), {}),
        ((5, 45, 40), {"bigtiff": True, "byteorder": ">"}),
        ((5, 45, 40), {"compression": "lzw", **STRIPS}),
        ((5, 45, 40), {"metadata": None}),
        ((2, 5, 45, 40), {"metadata": {"axes": "TZYX"}, **TILES}),
        ((5, 45, 40), {"imagej": True}),
        ((2, 3, 4, 45, 40), {"imagej": True, "metadata": {"axes": "TZCYX"}}),
        ((5, 45, 40), {"ome": True}),
        ((2, 3, 45, 40), {"ome": True, "metadata": {"axes": "CZYX"}, "compression": "zstd"}),
        ((1, 5, 1, 45, 40), {}),
        ((5, 1, 40), {}),
        ((45, 40, 7), {"planarconfig": "contig"}),
        ((3, 16, 32, 32), {"volumetric": True}),
    ],
)
def test_stacks_have_the_shape_that_tifffile_gives(tmp_path, shape, options):
    stack = make_volume(shape, "u2")
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", **options)
    check(path)


def test_an_axis_of_length_one_after_the_columns_is_kept_where_the_file_says_so(tmp_path):
    stack = make_volume((5, 45, 1))
    for name, metadata in (("said.tif", {}), ("not.tif", None)):
        path = tmp_path / name
        tifffile.imwrite(path, stack, photometric="minisblack", metadata=metadata)
        check(path)
    np.testing.assert_array_equal(imread(tmp_path / "said.tif").compute(), stack)


def write_pyramid(path: Path, kind: str) -> list[np.ndarray]:
    full = make_volume((3, 64, 96), "u2")
    levels = [full, full[:, ::2, ::2], full[:, ::4, ::4]]
    with tifffile.TiffWriter(path, ome=kind == "ome") as writer:
        common: dict[str, Any] = {"photometric": "minisblack", "tile": (16, 16)}
        if kind == "pages":
            for level in levels:
                reduced = 0 if level is full else 1
                writer.write(level, subfiletype=reduced, metadata=None, **common)
        else:
            writer.write(full, subifds=2, **common)
            for level in levels[1:]:
                writer.write(level, subfiletype=1, **common)
    return levels


@pytest.mark.parametrize("kind", ["shaped", "ome", "pages"])
def test_each_level_of_a_pyramid_is_read(tmp_path, kind):
    path = tmp_path / "pyramid.tif"
    for number, level in enumerate(write_pyramid(path, kind)):
        check(path, level, level=number)


def test_each_series_is_read_and_the_first_warns_of_others(tmp_path):
    path = tmp_path / "two.tif"
    a, b = make_volume((3, 20, 30)), make_volume((40, 50), "u1")
    with tifffile.TiffWriter(path) as writer:
        writer.write(a, photometric="minisblack")
        writer.write(b, photometric="minisblack")
    with pytest.warns(UserWarning, match=r"2 series.*series=1"):
        np.testing.assert_array_equal(imread(path).compute(), a)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check(path, b, series=1)


@pytest.mark.parametrize("count", [3, 70_000])
def test_an_imagej_stack_with_one_directory_is_read_whole(tmp_path, count):
    """ImageJ writes stacks above 4 GB as one page and a count; the file here is sparse."""
    rows, columns = 128, 256
    path = tmp_path / "huge.tif"
    first = make_volume((rows, columns), ">u2").astype(">u2")
    tifffile.imwrite(
        path,
        first,
        byteorder=">",
        photometric="minisblack",
        description=f"ImageJ=1.53t\nimages={count}\nslices={count}\nloop=false\n",
        metadata=None,
    )
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.dataoffsets[0]
    last = make_volume((rows, columns), "u2", seed=1).astype(">u2")
    with path.open("r+b") as file:
        file.seek(start + (count - 1) * first.nbytes)
        file.write(last.tobytes())
    if count > 3:
        assert path.stat().st_size > 2**32
    lazy = imread(path)
    assert lazy.shape == (count, rows, columns)
    assert lazy.chunks[0][:3] == (1, 1, 1)
    np.testing.assert_array_equal(lazy[0].compute(), first)
    np.testing.assert_array_equal(lazy[count - 1].compute(), last)
    assert not lazy[1].compute().any()


CASES = {
    "raw": {},
    "big-endian": {"byteorder": ">", **STRIPS},
    "lzw strips": {"compression": "lzw", "predictor": True, "byteorder": ">", **STRIPS},
    "zstd tiles": {"compression": "zstd", "predictor": True, **TILES},
    "float predictor": {"compression": "deflate", "predictor": 3, "dtype": "f4", **STRIPS},
    "bilevel": {"dtype": "?", "rowsperstrip": 7},
    "planar": {"planar": True, "compression": "deflate", **STRIPS},
    "chunky": {"rgb": True, "byteorder": ">"},
}


@pytest.fixture(scope="module", params=CASES)
def any_source(request, tmp_path_factory):
    options = dict(CASES[request.param])
    dtype = options.pop("dtype", "u2")
    path = tmp_path_factory.mktemp("case") / "stack.tif"
    if options.pop("planar", False):
        stack = make_volume((4, 3, 45, 37), dtype)
        tifffile.imwrite(path, stack, photometric="rgb", planarconfig="separate", **options)
        stack = stack.transpose(0, 2, 3, 1)
    elif options.pop("rgb", False):
        stack = make_volume((4, 45, 37, 3), dtype)
        tifffile.imwrite(path, stack, photometric="rgb", **options)
    else:
        stack = make_volume((4, 45, 37), dtype)
        tifffile.imwrite(path, stack, photometric="minisblack", **options)
    return source_of(imread(path)), stack


@st.composite
def indices(draw, length: int):
    kind = draw(st.sampled_from(["int", "slice", "step", "list"]))
    if kind == "int":
        return draw(st.integers(-length, length - 1))
    if kind == "list":
        return draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=4))
    low = draw(st.integers(0, length))
    high = draw(st.integers(low, length))
    if kind == "slice":
        return slice(low, high)
    return slice(low, high, draw(st.integers(1, 5)))


@given(data=st.data())
def test_any_region_equals_numpys(any_source, data):
    source, stack = any_source
    index = tuple(data.draw(indices(n)) for n in stack.shape)
    expected = stack
    for axis in reversed(range(stack.ndim)):
        expected = expected[(slice(None),) * axis + (index[axis],)]
    got = source[index]
    assert got.dtype == stack.dtype
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


@given(data=st.data())
def test_pieces_are_disjoint_and_cover_any_region(any_source, data):
    source, stack = any_source
    region = []
    for n in stack.shape:
        low = data.draw(st.integers(0, n - 1))
        region.append(slice(low, data.draw(st.integers(low + 1, n))))
    shape = tuple(s.stop - s.start for s in region)
    seen = np.zeros(shape, int)
    got = np.zeros(shape, source.dtype)
    for where, values in source.iter_pieces(tuple(region)):
        assert values.shape == tuple(s.stop - s.start for s in where)
        assert values.dtype.newbyteorder("=") == source.dtype
        seen[where] += 1
        got[where] = values
    assert (seen == 1).all()
    np.testing.assert_array_equal(got, stack[tuple(region)])


def test_planes_of_mixed_codecs_and_byte_orders_stack(tmp_path):
    volume = make_volume((6, 45, 37), "u2")
    each = [
        {},
        {"byteorder": ">", **STRIPS},
        {"compression": "lzw", "predictor": True, **STRIPS},
        {"compression": "zstd", **TILES},
        {"bigtiff": True, "compression": "packbits"},
        {"byteorder": ">", "compression": "lzma"},
    ]
    for z, options in enumerate(each):
        tifffile.imwrite(tmp_path / f"z{z}.tif", volume[z], **options)
    lazy = imread_folder(tmp_path)
    assert lazy.shape == (6, 45, 37)
    np.testing.assert_array_equal(lazy.compute(), volume)
    source = source_of(lazy)
    assert source.read_shape == (1, 45, 37)
    np.testing.assert_array_equal(source[[5, 1], 3:30, ::2], volume[[5, 1], 3:30, ::2])
    part, region = source.narrow((slice(2, 4), slice(5, 20), slice(0, 37)))
    np.testing.assert_array_equal(part.read(region), volume[2:4, 5:20])
