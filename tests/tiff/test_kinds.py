"""Rare kinds of TIFF: made tag by tag; numpy and tifffile say what is in them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import TiffReadError
from scout_dask_io.read.tiff import imread

_CHARS = {1: "B", 3: "H", 4: "I", 5: "I", 12: "d"}


class Bytes:
    """A little-endian classic TIFF, put together page by page."""

    def __init__(self) -> None:
        self.data = bytearray(b"II*\0\0\0\0\0")
        self._link = 4

    def put(self, data: bytes) -> int:
        """Append some bytes at an even place, and give it."""
        self.data += bytes(len(self.data) % 2)
        at = len(self.data)
        self.data += data
        return at

    def page(self, tags: dict[int, tuple[int, Sequence[int] | bytes]]) -> None:
        """Append a directory: of each tag its type and values."""
        entries = b""
        for code, (kind, values) in sorted(tags.items()):
            packed = (
                values
                if isinstance(values, bytes)
                else struct.pack(f"<{len(values)}{_CHARS[kind]}", *values)
            )
            n = len(values) // (2 if kind == 5 else 1)
            place = packed.ljust(4, b"\0") if len(packed) <= 4 else self._place(packed)
            entries += struct.pack("<HHI", code, kind, n) + place
        at = self.put(struct.pack("<H", len(tags)) + entries + bytes(4))
        struct.pack_into("<I", self.data, self._link, at)
        self._link = len(self.data) - 4

    def _place(self, packed: bytes) -> bytes:
        return struct.pack("<I", self.put(packed))


def tags_of(shape: tuple[int, int], bits: Sequence[int] = (16,), **more: Any) -> dict[int, Any]:
    tags: dict[int, Any] = {256: (3, [shape[1]]), 257: (3, [shape[0]]), 258: (3, bits)}
    tags |= {259: (3, [1]), 262: (3, [1]), 277: (3, [len(bits)])}
    return tags | more


# ------------------------------------------------------------------ byte counts that cannot be
def write_strips(
    path: Path,
    plane: np.ndarray,
    rows: int,
    counts: Any,
    compression: int = 1,
    *,
    tail: bytes = b"",
    first: bytes = b"",
) -> None:
    """Write a plane in strips whose byte counts are what a function makes of the right ones."""
    out = Bytes()
    out.put(first)
    strips = [plane[k : k + rows].tobytes() for k in range(0, len(plane), rows)]
    if compression == 8:
        strips = [_deflated(s) for s in strips]
    offsets = [out.put(s) for s in strips]
    out.put(tail)
    tags = tags_of(plane.shape) | {259: (3, [compression]), 278: (3, [rows])}
    stated = [counts(len(s)) for s in strips]
    out.page(tags | {273: (4, offsets), 279: (4, stated)})
    path.write_bytes(out.data)


def _deflated(data: bytes) -> bytes:
    import zlib

    return zlib.compress(data)


@pytest.mark.parametrize("compression", [1, 8], ids=["plain", "deflate"])
@pytest.mark.parametrize("rows", [29, 8], ids=["one strip", "strips"])
@pytest.mark.parametrize(
    "counts",
    [lambda n: 0, lambda n: 1, lambda n: 37, lambda n: n - 1],
    ids=["none", "one", "few", "one less"],
)
def test_a_byte_count_that_is_too_small_hinders_nothing(tmp_path, compression, rows, counts):
    plane = make_volume((29, 31))
    write_strips(tmp_path / "a.tif", plane, rows, counts, compression)
    np.testing.assert_array_equal(imread(tmp_path / "a.tif").compute(), plane)
    np.testing.assert_array_equal(io.imread_folder(tmp_path)[0].compute(), plane)
    np.testing.assert_array_equal(imread(tmp_path / "a.tif", allow_sparse=True).compute(), plane)


@pytest.mark.parametrize("rows", [28, 7], ids=["one strip", "strips"])
def test_a_count_of_pixels_is_taken_for_one_of_bytes(tmp_path, rows):
    plane = make_volume((28, 31))
    write_strips(tmp_path / "a.tif", plane, rows, lambda n: n // 2)
    np.testing.assert_array_equal(imread(tmp_path / "a.tif").compute(), plane)


def test_a_strip_that_was_cut_is_not_filled_with_what_follows(tmp_path):
    plane = make_volume((29, 31))
    path = tmp_path / "cut.tif"
    write_strips(path, plane, 29, lambda n: 101)
    raw = bytearray(path.read_bytes())
    at = 8 + plane.nbytes  # the directory comes where the last pixels should be
    del raw[at - 200 : at - 100]
    struct.pack_into("<I", raw, 4, struct.unpack_from("<I", raw, 4)[0] - 100)
    path.write_bytes(raw)
    with pytest.raises(TiffReadError, match=r"cut\.tif.*holds 101"):
        imread(path)


def test_of_plain_strips_that_overlap_none_is_read_beyond_its_count(tmp_path):
    plane = make_volume((16, 31))
    path = tmp_path / "near.tif"
    out = Bytes()
    start = out.put(plane.tobytes())
    tags = tags_of(plane.shape) | {278: (3, [8]), 273: (4, [start, start + 60]), 279: (4, [9, 9])}
    out.page(tags)
    path.write_bytes(out.data)
    with pytest.raises(TiffReadError, match=r"near\.tif.*needs 496 bytes of pixels, it holds 9"):
        imread(path)


# ------------------------------------------------------------------ samples that are channels
NAMES = ("nuclei", "actin", "tubulin")


def ome_xml(shape: tuple[int, int, int, int], dtype: str = "uint16", each: int = 1) -> str:
    z, c, y, x = shape
    channels = "".join(
        f'<Channel ID="Channel:0:{k}" Name="{n}" SamplesPerPixel="{each}"/>'
        for k, n in enumerate(NAMES[: c // each])
    )
    return (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="{dtype}" '
        f'SizeX="{x}" SizeY="{y}" SizeZ="{z}" SizeC="{c}" SizeT="1">{channels}<TiffData/>'
        "</Pixels></Image></OME>"
    )


def write_pages(path: Path, pages: np.ndarray, description: str | None, **options: Any) -> None:
    with tifffile.TiffWriter(path) as out:
        for k, page in enumerate(pages):
            out.write(
                page,
                metadata=None,
                contiguous=False,
                photometric="minisblack",
                description=description.encode() if description and k == 0 else None,
                **options,
            )


def planar_ome(path: Path, stack: np.ndarray) -> None:
    write_pages(path, stack, ome_xml(stack.shape), planarconfig="separate")


def chunky_ome(path: Path, stack: np.ndarray) -> None:
    write_pages(path, stack.transpose(0, 2, 3, 1), ome_xml(stack.shape), planarconfig="contig")


def planar_shaped(path: Path, stack: np.ndarray) -> None:
    tifffile.imwrite(
        path,
        stack,
        photometric="minisblack",
        planarconfig="separate",
        metadata={"axes": "ZCYX", "channels": list(NAMES)},
    )


def chunky_shaped(path: Path, stack: np.ndarray) -> None:
    tifffile.imwrite(
        path,
        stack.transpose(0, 2, 3, 1),
        photometric="minisblack",
        planarconfig="contig",
        metadata={"axes": "ZYXC", "channels": list(NAMES)},
    )


def planar_lsm(path: Path, stack: np.ndarray) -> None:
    write_lsm(path, stack, NAMES)


def write_lsm(
    path: Path,
    stack: np.ndarray,
    names: Sequence[str] = (),
    voxel_m: tuple[float, float, float] = (4e-7, 5e-7, 3e-6),
) -> None:
    """Write a Zeiss LSM: of each plane a page of channels stored apart, and a thumbnail."""
    z, c, y, x = stack.shape
    out = Bytes()
    text = b"".join(struct.pack("<I", len(n) + 1) + n.encode() + b"\0" for n in names)
    colors = bytes([255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 255, 0][: 4 * c])
    head = struct.pack("<6I", 24 + len(colors) + len(text), c, c, 24, 24 + len(colors), 0)
    at = out.put(head + colors + text) if names else 0
    info = struct.pack("<Ii8i", 67127628, 144, x, y, z, c, 1, 2, 8, 8)
    info += struct.pack("<6dHHI", *voxel_m, 0, 0, 0, 0, 0, 0)
    info += struct.pack("<4IdI7I", 0, 0, 0, at, 0.0, *[0] * 8)
    for k, page in enumerate(stack):
        for n, image in enumerate([page, np.zeros((3, 8, 8), "u1")]):
            offsets = [out.put(band.tobytes()) for band in image]
            bits = [image.dtype.itemsize * 8] * len(image)
            tags = tags_of(image.shape[1:], bits) | {254: (4, [n]), 262: (3, [2]), 284: (3, [2])}
            tags |= {273: (4, offsets), 279: (4, [band.nbytes for band in image])}
            out.page(tags | ({34412: (1, info)} if k == n == 0 else {}))
    path.write_bytes(out.data)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.ome.tif", planar_ome),
        ("a.ome.tif", chunky_ome),
        ("a.tif", planar_shaped),
        ("a.tif", chunky_shaped),
        ("a.lsm", planar_lsm),
    ],
)
def test_samples_that_metadata_call_channels_are_channels(tmp_path, name, write):
    stack = make_volume((4, 3, 21, 33))
    path = tmp_path / name
    write(path, stack)
    lazy = imread(path)
    np.testing.assert_array_equal(lazy.compute(), stack.transpose(0, 2, 3, 1))
    info = io.info(path)
    assert info.axes[1:] == "yxc"
    assert info.channels == NAMES
    io.convert(path, tmp_path / "o.zarr", ome=True)
    made = io.info(tmp_path / "o.zarr")
    assert (made.axes, made.channels) == ("czyx", NAMES)
    np.testing.assert_array_equal(
        io.read_zarr(tmp_path / "o.zarr").compute(), stack.transpose(1, 0, 2, 3)
    )


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_grey_samples_are_channels_without_names_of_colours(tmp_path, n, planar):
    image = make_volume((n, 12, 15), "u1")
    stored = image if planar == "separate" else image.transpose(1, 2, 0)
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", planarconfig=planar, metadata=None)
    assert io.info(path).axes == "yxc"
    io.convert(path, tmp_path / "s.zarr", ome=True)
    made = io.info(tmp_path / "s.zarr")
    assert made.axes == "cyx"
    assert not {"red", "green", "blue"} & set(made.channels)


def test_rgb_samples_stay_colours(tmp_path):
    path = tmp_path / "rgb.ome.tif"
    stack = make_volume((4, 3, 12, 15), "u1").transpose(0, 2, 3, 1)
    tifffile.imwrite(path, stack, photometric="rgb", ome=True, metadata={"axes": "ZYXS"})
    assert io.info(path).axes == "zyxs"
    io.convert(path, tmp_path / "s.zarr", ome=True)
    assert io.info(tmp_path / "s.zarr").channels == ("red", "green", "blue")


# ------------------------------------------------------------------ sizes of MetaMorph and Zeiss
def write_stk(
    path: Path,
    stack: np.ndarray,
    steps: Sequence[float],
    size: float,
    unit: str = "um",
    *,
    heights: Sequence[float] = (),
) -> None:
    """Write a MetaMorph stack: one directory, planes in a run, sizes in its UIC tags."""
    out = Bytes()
    start = out.put(stack.tobytes())
    n = len(stack)
    uic2 = out.put(
        b"".join(
            struct.pack("<6I", round(s * 1000), 1000, 2459000, 40 * k, 2459000, 40 * k)
            for k, s in enumerate(steps)
        )
    )
    at = out.put(struct.pack("<II", round(size * 10000), 10000))
    word = out.put(struct.pack("<I", len(unit) + 1) + unit.encode() + b"\0")
    uic1 = out.put(struct.pack("<10I", 1, 0xFFFF, 3, 1, 4, at, 5, at, 6, word))
    tags = tags_of(stack.shape[1:]) | {273: (4, [start]), 279: (4, [stack[0].nbytes])}
    tags[278] = (3, [stack.shape[1]])
    if heights:
        z = b"".join(struct.pack("<II", round(h * 100), 100) for h in heights)
        tags[33631] = (4, b"")
        uic4 = out.put(struct.pack("<H", 40) + z + struct.pack("<H", 0))
    out.page(tags | {33628: (4, b""), 33629: (5, b"")})
    for code, count, place in (
        (33628, 5, uic1),
        (33629, n, uic2),
        (33631, n, uic4 if heights else 0),
    ):
        entry = out.data.rfind(struct.pack("<H", code))
        if code in tags or code != 33631:
            struct.pack_into("<II", out.data, entry + 4, count, place)
    path.write_bytes(out.data)


@pytest.mark.parametrize(
    ("steps", "size", "unit", "heights", "expected"),
    [
        ([0, 1.5, 1.5, 1.5], 0.325, "um", (), (1.5, 0.325, 0.325)),
        ([3.0] * 4, 0.108, "microns", (), (3.0, 0.108, 0.108)),
        ([0, 1.5, 2.5, 1.5], 0.325, "um", (), (None, 0.325, 0.325)),
        ([0] * 4, 0.65, "um", (10.0, 10.5, 11.0, 11.5), (0.5, 0.65, 0.65)),
        ([0] * 4, 1.0, "pixel", (), None),
    ],
)
def test_a_metamorph_stack_says_how_large_its_voxels_are(
    tmp_path, steps, size, unit, heights, expected
):
    stack = make_volume((4, 19, 23))
    write_stk(tmp_path / "m.stk", stack, steps, size, unit, heights=heights)
    np.testing.assert_array_equal(imread(tmp_path / "m.stk").compute(), stack)
    found = io.voxel_size(tmp_path / "m.stk")
    assert (found and found.micrometres) == expected


def test_a_zeiss_lsm_says_how_large_its_voxels_are(tmp_path):
    write_lsm(tmp_path / "z.lsm", make_volume((3, 3, 16, 18)), voxel_m=(2e-7, 3e-7, 1.2e-6))
    found = io.voxel_size(tmp_path / "z.lsm")
    assert found is not None
    np.testing.assert_allclose(found.micrometres, (1.2, 0.3, 0.2))


# ------------------------------------------------------------------ a last axis of one element
@pytest.mark.parametrize(
    "shape", [(31, 42, 1), (5, 31, 42, 1), (2, 1, 31, 42, 1), (1, 31, 42), (6, 1, 1), (6, 5, 1)]
)
@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])
def test_axes_of_one_element_stay(tmp_path, shape, compression):
    data = make_volume(shape)
    path = tmp_path / "ones.tif"
    tifffile.imwrite(path, data, compression=compression, photometric="minisblack")
    lazy = imread(path)
    np.testing.assert_array_equal(lazy.compute(), tifffile.imread(path))
    assert io.info(path).shape == io.scan(path).folders[0].shape == lazy.shape == data.shape
    np.testing.assert_array_equal(lazy[..., :4, :].compute(), data[..., :4, :])
    io.convert(path, tmp_path / "o.zarr")
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "o.zarr").compute(), data)


def test_planes_of_a_folder_have_no_axis_of_one_sample(tmp_path):
    volume = make_volume((3, 12, 15))
    for k, plane in enumerate(volume):
        tifffile.imwrite(tmp_path / f"z{k}.tif", plane[..., None])
    np.testing.assert_array_equal(io.imread_folder(tmp_path).compute(), volume)
    assert io.info(tmp_path).axes == "zyx"


def test_one_sample_is_one_channel(tmp_path):
    data = make_volume((5, 31, 42, 1))
    tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": "ZYXS"})
    io.convert(tmp_path / "a.tif", tmp_path / "o.zarr", ome=True)
    assert io.info(tmp_path / "o.zarr").axes == "czyx"
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "o.zarr")[0].compute(), data[..., 0])


# ------------------------------------------------------------------ segments never written
def write_sparse(path: Path, plane: np.ndarray, nodata: str, **options: Any) -> np.ndarray:
    """Write a plane of which some segments lack, and give what it is then."""
    text = [(42113, "s", 0, nodata, True)] if nodata else []
    tifffile.imwrite(path, plane, metadata=None, extratags=text, **options)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        page = tif.pages.first
        tags = [page.tags[k] for k in ((324, 325) if page.is_tiled else (273, 279))]
        for tag in tags:
            tag.overwrite([0 if k in (0, 3) else v for k, v in enumerate(tag.value)])
    return np.asarray(tifffile.imread(path))


@pytest.mark.parametrize("segments", [{"tile": (32, 16)}, {"rowsperstrip": 9}], ids=["t", "s"])
@pytest.mark.parametrize(
    "how",
    [{}, {"compression": "lzw"}, {"compression": "zlib", "predictor": True}, {"byteorder": ">"},
     {"compression": "lzma"}],
)  # fmt: skip
@pytest.mark.parametrize(
    ("dtype", "nodata"),
    [("f4", "nan"), ("f4", "-9999"), ("f4", "-1,5"), ("u2", "65535"), ("u2", "-1"), ("u2", "no"),
     ("i2", "-32768"), ("u1", ""), ("f8", "0"), ("u2", "1.5")],
)  # fmt: skip
def test_what_was_never_written_is_no_data(tmp_path, segments, how, dtype, nodata):
    if dtype[0] == "f" and "predictor" in how:
        how = {"compression": "zlib"}
    path = tmp_path / "holes.tif"
    expected = write_sparse(path, make_volume((2, 61, 45), dtype)[1], nodata, **segments, **how)
    with pytest.raises(TiffReadError, match=r"holes\.tif.*never written; allow_sparse=True"):
        imread(path)
    lazy = imread(path, allow_sparse=True)
    np.testing.assert_array_equal(lazy.compute(), expected)
    np.testing.assert_array_equal(lazy[5:40, 3:33].compute(), expected[5:40, 3:33])


def test_a_sparse_file_of_next_to_no_bytes_is_not_called_truncated(tmp_path):
    n = 64
    out = Bytes()
    tags = tags_of((512 * 8, 512 * 8), (32,)) | {259: (3, [5]), 339: (3, [3])}
    tags |= {322: (3, [512]), 323: (3, [512]), 324: (4, [0] * n), 325: (4, [0] * n)}
    out.page(tags | {42113: (2, b"-7\0")})
    path = tmp_path / "empty.tif"
    path.write_bytes(out.data)
    with pytest.raises(TiffReadError, match=r"never written; allow_sparse=True"):
        imread(path)
    corner = imread(path, allow_sparse=True)[-2:, -2:].compute()
    np.testing.assert_array_equal(corner, np.full((2, 2), -7, "f4"))


# ------------------------------------------------------------------ volumes as segments
@pytest.mark.parametrize("tile", [(4, 16, 32), (16, 16, 16), (2, 64, 64)])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "lzma"])
@pytest.mark.parametrize("samples", [0, 3])
def test_tiles_that_are_volumes_are_read(tmp_path, tile, compression, samples):
    shape = (11, 37, 53) + ((samples,) if samples else ())
    data = make_volume(shape, "u1" if samples else "u2")
    path = tmp_path / "deep.tif"
    tifffile.imwrite(
        path, data, tile=tile, compression=compression, volumetric=True,
        photometric="rgb" if samples else "minisblack",
    )  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread(path), data)
    lazy = imread(path)
    np.testing.assert_array_equal(lazy.compute(), data)
    part = (slice(3, 9), slice(7, 30), slice(11, 50))
    np.testing.assert_array_equal(lazy[part].compute(), data[part])
    np.testing.assert_array_equal(lazy[10].compute(), data[10])


def test_planar_volumes_are_read_with_samples_last(tmp_path):
    data = make_volume((3, 7, 37, 53), "u1")
    path = tmp_path / "deep.tif"
    tifffile.imwrite(
        path, data, tile=(4, 16, 16), compression="zlib", volumetric=True, photometric="rgb",
        planarconfig="separate",
    )  # fmt: skip
    np.testing.assert_array_equal(imread(path).compute(), data.transpose(1, 2, 3, 0))


# ------------------------------------------------------------------ thumbnails that come first
@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("below", [True, False], ids=["image in a SubIFD", "image after it"])
def test_a_thumbnail_that_comes_first_is_told_of_with_the_way_to_the_image(tmp_path, n, below):
    image, small = make_volume((n, 64, 96)), make_volume((n, 16, 24), "u1")
    path = tmp_path / "t.tif"
    with tifffile.TiffWriter(path) as out:
        for k in range(n):
            options = {"photometric": "minisblack", "metadata": None, "contiguous": False}
            out.write(small[k], subfiletype=1, subifds=int(below), **options)
            out.write(image[k], **options)
    with pytest.warns(UserWarning, match=r"t\.tif.*a thumbnail\. series=1"):
        first = imread(path)
    np.testing.assert_array_equal(first.compute(), tifffile.imread(path))
    np.testing.assert_array_equal(imread(path, series=1).compute(), np.squeeze(image))
    with pytest.raises(TiffReadError, match=r"t\.tif.*a thumbnail that comes first.*series=1"):
        io.imread_parallel([path])
    np.testing.assert_array_equal(
        io.imread_parallel([path], series=1).compute()[0], np.squeeze(image)
    )


def test_a_thumbnail_among_the_levels_is_a_level(tmp_path):
    full, small = make_volume((1, 64, 96))[0], make_volume((1, 8, 12), "u1")[0]
    path = tmp_path / "t.tif"
    with tifffile.TiffWriter(path) as out:
        options = {"photometric": "minisblack", "metadata": None, "contiguous": False}
        out.write(full, subifds=2, **options)
        out.write(small, subfiletype=1, **options)
        out.write(full[::2, ::2], subfiletype=1, **options)
    np.testing.assert_array_equal(imread(path).compute(), full)
    with tifffile.TiffFile(path) as tif:
        for k in range(len(tif.series[0].levels)):
            expected = tif.series[0].levels[k].asarray()
            np.testing.assert_array_equal(imread(path, level=k).compute(), expected)
