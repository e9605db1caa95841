"""What the header check finds, against tifffile; and what a folder may hold."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from helpers import make_volume, packs_bits, shared_data, write_planes

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, ShapeMismatchError, TiffReadError
from scout_dask_io.files.pace import Pace
from scout_dask_io.tiff import describe, ome_xml
from scout_dask_io.tiff.describe import describe_image, describe_plane, describe_planes
from scout_dask_io.tiff.file_info import describe_path
from scout_dask_io.tiff.source import TiffSource

KINDS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "raw": (make_volume((45, 37)), {}),
    "big-endian BigTIFF": (make_volume((45, 37)), {"byteorder": ">", "bigtiff": True}),
    "strips": (make_volume((45, 37), "f4"), {"rowsperstrip": 1}),
    "lzw": (make_volume((45, 37)), {"compression": "lzw", "rowsperstrip": 4, "predictor": True}),
    "tiles": (make_volume((45, 37), "i1"), {"compression": "zstd", "tile": (16, 32)}),
    "rgb": (make_volume((45, 37, 3), "u1"), {"photometric": "rgb"}),
    "planar": (
        make_volume((3, 45, 37), "u2"),
        {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 4},
    ),
    "imagej": (make_volume((45, 37)), {"imagej": True}),
    "ome": (make_volume((45, 37)), {"ome": True}),
    "no description": (make_volume((45, 37)), {"metadata": None}),
    "resolution": (make_volume((45, 37)), {"resolution": (1.5, 2), "software": "x" * 5000}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_compact_reader_agrees_with_tifffile_and_needs_no_help(tmp_path, monkeypatch, kind):
    data, options = KINDS[kind]
    path = tmp_path / "plane.tif"
    tifffile.imwrite(path, data, **{"photometric": "minisblack", **options})
    monkeypatch.setattr(describe, "open_tiff", None)  # fails where it is called
    found = describe_plane(str(path))
    layout = found.pages[0].layout
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        rows, columns, samples = page.imagelength, page.imagewidth, page.samplesperpixel
        assert found.lead == ()
        assert layout.shape == ((rows, columns, samples) if samples > 1 else (rows, columns))
        assert np.dtype(layout.dtype) == np.dtype(tif.byteorder + page.dtype.char)
        assert found.pages[0].ifd == page.offset
        assert layout.planar == (page.planarconfig == 2)
        if page.is_final and page.is_contiguous:
            assert layout.coding == "raw"
            assert found.pages[0].data == page.dataoffsets[0]
        else:
            assert layout.coding == "direct"
            assert layout.compression == page.compression
            assert layout.predictor == page.predictor
            assert layout.tiled == page.is_tiled
            assert layout.n_segments == len(page.dataoffsets)
            shape = page.chunks[:2]
            assert (layout.segment_rows, layout.segment_columns) == shape
            assert found.pages[0].data == -1


def test_real_planes_need_no_help(monkeypatch):
    folder = shared_data("brain", "ch0")
    monkeypatch.setattr(describe, "open_tiff", None)
    paths = sorted(str(p) for p in folder.glob("*.tif"))
    source = describe_planes(paths)
    assert source.shape == (30, 510, 667)
    assert source.layouts[0].dtype == ">u2"
    np.testing.assert_array_equal(source[17], tifffile.imread(paths[17]))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "jpeg", "rowsperstrip": 16},
        {"compression": "lzma"},
        {"extratags": [(65123, "H", 1, 7, True)]},
        {"subifds": 0, "bitspersample": 4},
    ],
)
def test_unusual_planes_are_left_to_tifffile(tmp_path, monkeypatch, options):
    asked = []
    real = describe.open_tiff
    monkeypatch.setattr(describe, "open_tiff", lambda *a, **k: asked.append(1) or real(*a, **k))
    path = tmp_path / "plane.tif"
    options = {k: v for k, v in options.items() if k != "subifds"}
    if "bitspersample" in options and not packs_bits():
        pytest.skip("this imagecodecs does not pack bits")
    tifffile.imwrite(path, make_volume((48, 32), "u1") % 16, **options)
    source = describe_planes([str(path)])
    assert asked == [1]
    np.testing.assert_array_equal(source[0], tifffile.imread(path))


def test_raw_planes_share_one_layout_whatever_their_strips(tmp_path):
    volume = make_volume((4, 45, 37))
    for z, rows in enumerate([45, 1, 7, 16]):
        tifffile.imwrite(tmp_path / f"{z}.tif", volume[z], rowsperstrip=rows)
    source = describe_planes(sorted(str(p) for p in tmp_path.iterdir()))
    assert len(source.layouts) == 1
    np.testing.assert_array_equal(source[:], volume)


@pytest.mark.parametrize(
    ("odd", "options", "says"),
    [
        (make_volume((8, 10)), {}, r"differ in shape: '.*z0002\.tif' is \(8, 10\), .*\(8, 9\)"),
        (make_volume((9, 8)), {}, r"differ in shape.*z0002\.tif"),
        (make_volume((8, 9), "f4"), {}, r"differ in dtype: '.*z0002\.tif' is float32, .*uint16"),
        (make_volume((8, 9), "i2"), {}, r"differ in dtype.*z0002\.tif"),
        (make_volume((3, 8, 9)), {}, r"differ in shape: '.*z0002\.tif' is \(3, 8, 9\)"),
        (make_volume((8, 9, 3)), {"photometric": "rgb"}, r"differ in shape.*z0002\.tif"),
    ],
)
def test_a_plane_that_does_not_fit_is_named(tmp_path, odd, options, says):
    paths = write_planes(tmp_path, make_volume((5, 8, 9)))
    tifffile.imwrite(paths[2], odd, **{"photometric": "minisblack", **options})
    with pytest.raises(ShapeMismatchError, match=says):
        describe_planes([str(p) for p in paths])


def test_files_of_several_pages_stack_to_four_axes(tmp_path):
    stacks = make_volume((3, 4, 8, 9))
    paths = []
    for k, options in enumerate([{}, {"imagej": True}, {"compression": "lzw"}]):
        paths.append(str(tmp_path / f"{k}.tif"))
        tifffile.imwrite(paths[-1], stacks[k], photometric="minisblack", **options)
    source = describe_planes(paths)
    assert source.shape == (3, 4, 8, 9)
    assert source.default_chunks == ((1, 1, 1), (4,), (8,), (9,))
    np.testing.assert_array_equal(source[:], stacks)
    part, region = source.narrow((slice(1, 2), slice(2, 4), slice(0, 8), slice(3, 4)))
    assert [f.path for f in part.files] == [paths[1]]
    np.testing.assert_array_equal(part.read(region), stacks[1:2, 2:4, :, 3:4])


def test_an_extra_image_in_a_plane_file_is_refused_but_a_thumbnail_is_not(tmp_path):
    paths = write_planes(tmp_path, make_volume((3, 32, 48)))
    plane = make_volume((32, 48))
    with tifffile.TiffWriter(paths[1]) as writer:
        writer.write(plane, photometric="minisblack", metadata=None)
        writer.write(plane[::4, ::4], photometric="minisblack", subfiletype=1, metadata=None)
    source = describe_planes([str(p) for p in paths])
    np.testing.assert_array_equal(source[1], plane)
    with tifffile.TiffWriter(paths[1]) as writer:
        writer.write(plane, photometric="minisblack", metadata=None)
        writer.write(make_volume((20, 70)), photometric="minisblack", metadata=None)
    with pytest.raises(TiffReadError, match=r"z0001\.tif.*1 more image.*\(20, 70\)"):
        describe_planes([str(p) for p in paths])


def test_the_token_follows_the_files(tmp_path):
    paths = [str(p) for p in write_planes(tmp_path, make_volume((3, 8, 9)))]
    token = describe_planes(paths).token
    assert describe_planes(paths).token == token
    assert describe_planes(paths, 2).token == token
    assert describe_planes(paths[::-1]).token != token
    assert describe_planes(paths[:2]).token != token
    Path(paths[1]).write_bytes(Path(paths[1]).read_bytes())
    assert describe_planes(paths).token != token


def test_the_order_of_planes_does_not_depend_on_threads(tmp_path):
    volume = make_volume((500, 3, 4))
    paths = [str(p) for p in write_planes(tmp_path, volume)]
    for workers in (1, 3, None):
        source = describe_planes(paths, workers)
        assert isinstance(source, TiffSource)
        np.testing.assert_array_equal(source[:], volume)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"series": 1}, r"no series 1; it has 1: 0: \(3, 8, 9\) uint16"),
        ({"level": 1}, r"no level 1; it has 0: \(3, 8, 9\)"),
        ({"series": -1}, "series must be 0 or a positive int, got -1"),
        ({"level": True}, "level must be 0 or a positive int, got True"),
        ({"series": "a"}, "series must be"),
    ],
)
def test_a_series_or_level_that_is_not_there_is_an_argument_error(tmp_path, options, says):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, make_volume((3, 8, 9)), photometric="minisblack")
    with pytest.raises(ArgumentError, match=says):
        io.imread(path, **options)


def test_info_tells_what_a_file_is(tmp_path):
    path = tmp_path / "a.tif"
    stack = make_volume((2, 5, 64, 96))
    with tifffile.TiffWriter(path, bigtiff=True, byteorder=">", ome=True) as writer:
        common: dict[str, Any] = {"photometric": "minisblack", "tile": (32, 16)}
        writer.write(
            stack,
            subifds=1,
            compression="zstd",
            metadata={"axes": "CZYX"},
            **common,
        )
        writer.write(stack[..., ::2, ::2], subfiletype=1, compression="zstd", **common)
    found = describe_path(path)
    assert found.path == str(path)
    assert found.shape == (2, 5, 64, 96)
    assert found.info.axes == "czyx"
    assert found.dtype == "uint16"
    assert found.compression == "zstd"
    assert (found.segment, found.segment_shape) == ("tile", (32, 16))
    assert (found.byte_order, found.bigtiff) == ("big", True)
    assert (found.n_pages, found.n_series) == (10, 1)
    assert found.levels == ((2, 5, 64, 96), (2, 5, 32, 48))
    assert found.file_nbytes == path.stat().st_size


def test_info_moves_planar_samples_to_the_end_as_imread_does(tmp_path):
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(
        path, make_volume((4, 3, 8, 9), "u1"), photometric="rgb", planarconfig="separate"
    )
    found = describe_path(path)
    assert (found.shape, found.info.axes) == ((4, 8, 9, 3), "qyxs")


def test_ome_xml_is_parsed_once_here_and_once_by_tifffile_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    frame = np.zeros((2, 3, 16, 24), "u2")
    io.write_ome_zarr(tmp_path / "a.ome.zarr", frame, axes="czyx", voxel_size=(3, 2, 1))
    io.export(tmp_path / "a.ome.zarr", tmp_path / "own.ome.tif")
    tifffile.imwrite(tmp_path / "other.ome.tif", frame, metadata={"axes": "CZYX"})
    parsed: list[str] = []
    parse = ElementTree.fromstring

    def noted(text: Any, *args: Any) -> Any:
        parsed.append(text)
        return parse(text, *args)

    monkeypatch.setattr(ElementTree, "fromstring", noted)
    for name in ("own.ome.tif", "other.ome.tif"):
        assert describe_image(tmp_path / name).shape == frame.shape
        assert len(parsed) == 2
        parsed.clear()
    assert not len(ome_xml._roots)


@pytest.mark.parametrize(("slow", "most"), [(True, 16), (False, 1)], ids=["a share", "a disk"])
def test_headers_of_few_files_are_asked_for_at_once_where_each_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: bool, most: int
) -> None:
    volume = make_volume((3 + 16, 5, 7))
    write_planes(tmp_path, volume)
    all_at_once, lock, begun = threading.Barrier(most), threading.Lock(), list[int]()
    look = describe.describe_plane

    def waits(path: Any, **more: Any) -> Any:
        with lock:
            begun.append(len(begun))
            waits_for_others = begun[-1] >= 3
        if waits_for_others:
            all_at_once.wait(30)
        return look(path, **more)

    monkeypatch.setattr(describe, "describe_plane", waits)
    monkeypatch.setattr(Pace, "note", lambda pace, *took: setattr(pace, "is_slow", slow))
    np.testing.assert_array_equal(io.imread_folder(tmp_path).compute(), volume)
    assert len(begun) == len(volume)


def test_as_many_threads_as_are_asked_for_read_headers_on_a_disk_that_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make_volume((3 + 12, 5, 7))
    write_planes(tmp_path, volume)
    all_at_once, names = threading.Barrier(12), sorted(p.name for p in tmp_path.iterdir())
    look = describe.describe_plane

    def waits(path: Any, **more: Any) -> Any:
        if names.index(path.name) >= 3:
            all_at_once.wait(30)
        return look(path, **more)

    monkeypatch.setattr(describe, "describe_plane", waits)
    monkeypatch.setattr(describe, "_BATCH", 1)
    monkeypatch.setattr(Pace, "note", lambda pace, *took: setattr(pace, "is_slow", False))
    lazy = io.imread_folder(tmp_path, nb_workers=12)
    np.testing.assert_array_equal(lazy.compute(), volume)


@pytest.mark.parametrize("waits_from", [None, 2], ids=["never waits", "waits at last"])
def test_headers_are_read_by_who_asks_until_files_wait_for_their_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits_from: int | None
) -> None:
    volume = make_volume((3 + 12, 5, 7))
    write_planes(tmp_path, volume)
    here, batches = threading.get_ident(), list[int]()
    elsewhere: list[str] = []
    look = describe.describe_plane

    def noted(path: Any, **more: Any) -> Any:
        if threading.get_ident() != here:
            elsewhere.append(path.name)
        return look(path, **more)

    def waits(work: Callable[[], Any]) -> tuple[Any, bool]:
        batches.append(len(batches))
        return work(), len(batches) == waits_from

    monkeypatch.setattr(describe, "describe_plane", noted)
    monkeypatch.setattr(describe, "_BATCH", 2)
    monkeypatch.setattr(describe, "_waits", waits)
    monkeypatch.setattr(Pace, "note", lambda pace, *took: setattr(pace, "is_slow", False))
    np.testing.assert_array_equal(io.imread_folder(tmp_path).compute(), volume)
    expected = sorted(p.name for p in tmp_path.iterdir())
    assert sorted(elsewhere) == ([] if waits_from is None else expected[3 + 2 * 2 :])


@pytest.mark.parametrize(("took_s", "waits"), [(3.0, True), (1.5, False)])
def test_a_work_waits_that_took_twice_as_long_as_it_worked(
    monkeypatch: pytest.MonkeyPatch, took_s: float, waits: bool
) -> None:
    walls, works = iter([0.0, took_s]), iter([0.0, 1.0])
    clocks = {
        "perf_counter": staticmethod(walls.__next__),
        "thread_time": staticmethod(works.__next__),
    }
    monkeypatch.setattr(describe, "time", type("Clocks", (), clocks))
    assert describe._waits(lambda: "found") == ("found", waits)
