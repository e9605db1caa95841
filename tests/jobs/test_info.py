"""``info`` says what is there: of TIFF files, folders, datasets, arrays and groups."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import make_volume, shared_data, write_channels, write_planes

import scout_dask_io as io
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.errors import ArgumentError, LayoutError, PathNotFoundError
from scout_dask_io.files.location import locate
from scout_dask_io.jobs.info import info
from scout_dask_io.store.create import new_zarr
from scout_dask_io.store.create import open as open_zarr
from scout_dask_io.store.layout import array_at, detect_layout, measure_array
from scout_dask_io.store.staging import begin_staging
from scout_dask_io.write.ome_zarr import write_ome_zarr

SHAPE, CHUNKS = (13, 37, 41), (4, 16, 16)


def test_a_tiff_file(tmp_path: Path):
    path = tmp_path / "a.tif"
    data = make_volume(SHAPE)
    tifffile.imwrite(path, data, photometric="minisblack", tile=(16, 32), compression="zlib",
                     bigtiff=True, byteorder=">")  # fmt: skip
    found = info(path)
    assert (found.kind, found.shape, found.dtype) == ("TIFF file", SHAPE, "uint16")
    assert (found.segment, found.codec) == ("tiles of 16 x 32", "deflate")
    assert (found.nbytes, found.stored_nbytes) == (data.nbytes, path.stat().st_size)
    assert found.details == ("big-endian BigTIFF", "13 pages")
    assert "13 x 37 x 41" in found.render()


def test_a_folder_and_a_dataset(tmp_path: Path):
    data = make_volume((2, *SHAPE))
    write_planes(tmp_path / "planes", data[0], compression="lzw", rowsperstrip=8)
    found = info(tmp_path / "planes")
    assert (found.kind, found.shape, found.axes) == ("folder of planes", SHAPE, "zyx")
    assert (found.codec, found.segment, found.n_files) == ("lzw", "strips of 8 x 41", 13)
    assert found.nbytes == data[0].nbytes
    sizes = [p.stat().st_size for p in (tmp_path / "planes").iterdir()]
    assert found.stored_nbytes == sum(sizes)
    write_channels(tmp_path / "set", data)
    found = info(tmp_path / "set", nb_workers=2)
    assert (found.kind, found.shape, found.axes) == ("channel dataset", (2, *SHAPE), "czyx")
    assert (found.channels, found.n_files, found.codec) == (("color_0", "color_1"), 26, "none")
    assert "color_0, color_1" in found.render()


def test_a_folder_of_files_that_are_stored_differently(tmp_path: Path):
    data = make_volume(SHAPE)
    write_planes(tmp_path / "p", data[:6], names=[f"a{k:02d}.tif" for k in range(6)])
    write_planes(
        tmp_path / "p", data[6:], names=[f"a{k:02d}.tif" for k in range(6, 13)], compression="zlib"
    )
    found = info(tmp_path / "p")
    assert (found.codec, found.segment, found.shape) == ("deflate, none", None, SHAPE)


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_array_and_how_much_of_it_is_there(tmp_path: Path, separator: str, zarr_format: int):
    keywords = {"dimension_separator": separator} if zarr_format == 2 else {
        "zarr_format": 3, "chunk_key_encoding": ("default", separator)
    }  # fmt: skip
    array = new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", attributes={"b": 1, "a": 2}, **keywords)
    array[:5] = 3  # two of four chunks deep, of 4 x 3 x 3
    found = info(tmp_path / "a")
    assert (found.kind, found.zarr_format) == ("Zarr array", zarr_format)
    assert (found.shape, found.dtype, found.chunks, found.shards) == (SHAPE, "uint16", CHUNKS, None)
    assert (found.axes, found.fill_value) == ("zyx", 0)
    assert found.layout == ("nested" if separator == "/" else "flat")
    assert (found.n_present, found.n_chunks) == (18, 36)
    assert found.nbytes == 13 * 37 * 41 * 2
    files = [Path(f, n) for f, _, names in os.walk(tmp_path / "a") for n in names]
    assert found.stored_nbytes == sum(f.stat().st_size for f in files)
    assert set(found.attributes) == {"a", "b"}
    assert "blosc" in found.codec
    assert "bitshuffle" in found.codec
    text = found.render()
    assert "18 of 36 chunks" in text
    assert f"Zarr v{zarr_format}, {found.layout} chunk files" in text


def test_order_filters_and_no_codec_show(tmp_path: Path):
    import numcodecs

    filters = [numcodecs.Delta("u2")]
    new_zarr(tmp_path / "a", SHAPE, CHUNKS, ">u2", compressor=None, order="F", fill_value=7)
    found = info(tmp_path / "a")
    assert (found.codec, found.order, found.fill_value, found.dtype) == ("none", "F", 7, ">u2")
    new_zarr(tmp_path / "b", SHAPE, CHUNKS, "u2", filters=filters, compressor=numcodecs.Zlib(3))
    assert info(tmp_path / "b").codec == "delta(dtype=<u2, astype=<u2) + zlib(level=3)"


def test_shards_are_counted_as_files(tmp_path: Path):
    array = new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2", zarr_format=3, shards=(8, 32, 32))
    array[:8] = 1
    found = info(tmp_path / "a")
    assert (found.chunks, found.shards) == (CHUNKS, (8, 32, 32))
    assert (found.n_present, found.n_chunks) == (4, 8)
    assert "4 of 8 shards" in found.render()
    assert "blosc" in found.codec


def test_only_chunks_of_the_array_count(tmp_path: Path):
    array = new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2")
    array[:] = 1
    path = tmp_path / "a"
    for name in ("9/0/0", "0/0/9", "0/0/0.partial", "0/00", ".scout-manifest", "0/0/01"):
        (path / name).write_bytes(b"xx") if (path / name).parent.is_dir() else None
    node = array_at(locate(path))
    usage = measure_array(node, detect_layout(node))
    assert (usage.n_present, usage.n_chunks) == (36, 36)


@pytest.mark.parametrize(("shape", "n_chunks"), [((), 1), ((7,), 4), ((0, 5), 0), ((5, 7), 12)])
def test_arrays_of_few_axes_are_counted(tmp_path: Path, shape, n_chunks):
    for zarr_format in (2, 3):
        path = tmp_path / str(zarr_format)
        array = new_zarr(path, shape, (2,) * len(shape), "u2", zarr_format=zarr_format)
        assert info(path).n_present == 0
        array[...] = np.ones(shape, "u2")
        found = info(path)
        assert (found.n_present, found.n_chunks) == (n_chunks, n_chunks)
        assert found.render()


def test_channels_and_voxel_size_of_an_array_come_from_its_attributes(tmp_path: Path):
    attributes = {"channels": ["dapi", "sox2"], "voxel_size_um": [4, 1.8, 1.8]}
    new_zarr(tmp_path / "a", (2, *SHAPE), (1, *CHUNKS), "u2", attributes=attributes)
    found = info(tmp_path / "a")
    assert (found.channels, found.axes) == (("dapi", "sox2"), "czyx")
    assert found.voxel_size == VoxelSize(4.0, 1.8, 1.8, f"attributes of {tmp_path / 'a'}")
    assert "4 x 1.8 x 1.8 micrometres" in found.render()


def test_a_voxel_size_that_a_file_states_in_part_is_shown_in_part(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", make_volume((5, 7)), resolution=(5000, 10000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    found = info(tmp_path / "a.tif").voxel_size
    assert found == VoxelSize(None, 1.0, 2.0, "resolution tags of a.tif")
    text = info(tmp_path / "a.tif").render()
    assert "? x 1 x 2 micrometres (z, y, x), by resolution tags of a.tif" in text


def test_a_group_lists_what_it_holds(tmp_path: Path):
    group = open_zarr(tmp_path / "g")
    group.attrs["name"] = "organoid"
    group.create_group("sub").create_array("x", shape=(4, 5), chunks=(2, 2), dtype="u1")
    found = info(tmp_path / "g")
    assert (found.kind, found.shape, found.attributes) == ("Zarr group", None, ("name",))
    assert found.members == ("sub/: group", "sub/x: 4 x 5, uint8, chunks 2 x 2")
    assert "sub/x" in found.render()


def test_a_legacy_array_is_told_as_one():
    found = info(shared_data("legacy_scout.zarr"))
    assert (found.shape, found.chunks) == ((30, 510, 667), (16, 256, 256))
    assert (found.layout, found.n_present, found.n_chunks) == ("nested", 12, 12)
    assert "legacy" in found.render()


def test_an_unfinished_write_is_told(tmp_path: Path):
    begin_staging(tmp_path / "a")
    with pytest.raises(PathNotFoundError, match=r"unfinished write.*resume=True"):
        info(tmp_path / "a")
    new_zarr(tmp_path / "b", SHAPE, CHUNKS, "u2")
    begin_staging(tmp_path / "b")
    assert "0 of 0 write units are finished" in info(tmp_path / "b").render()


def test_json_is_complete(tmp_path: Path):
    new_zarr(tmp_path / "a", SHAPE, CHUNKS, "f4", fill_value=np.nan)
    found = json.loads(info(tmp_path / "a").to_json())
    assert found["shape"] == [13, 37, 41]
    assert (found["n_present"], found["n_chunks"]) == (0, 36)
    assert found["fill_value"] == "NaN"
    assert found["ratio"] > 1


def test_what_cannot_be_told_is_an_error(tmp_path: Path):
    with pytest.raises(PathNotFoundError, match="there is no"):
        info(tmp_path / "missing")
    with pytest.raises(PathNotFoundError, match="no Zarr array"):
        info(tmp_path)
    new_zarr(tmp_path / "a", SHAPE, CHUNKS, "u2")
    (tmp_path / "a" / ".zarray").write_text("{")
    with pytest.raises(LayoutError, match="not JSON"):
        info(tmp_path / "a")
    with pytest.raises(ArgumentError, match="nb_workers"):
        info(tmp_path, nb_workers=0)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_image_and_its_levels(tmp_path: Path, version: str):
    both = make_volume((2, *SHAPE))
    write_ome_zarr(
        tmp_path / "a.zarr", both, CHUNKS, levels=3, channels=["syto", "sox2"],
        voxel_size=(4, 1.5, 1.5), version=version,
    )  # fmt: skip
    found = info(tmp_path / "a.zarr")
    assert (found.kind, found.shape, found.axes) == ("OME-Zarr image", (2, *SHAPE), "czyx")
    assert (found.dtype, found.chunks, found.channels) == (
        "uint16", (1, *CHUNKS), ("syto", "sox2")
    )  # fmt: skip
    assert found.voxel_size is not None
    assert found.voxel_size.micrometres == (4, 1.5, 1.5)
    assert [lv.path for lv in found.levels] == ["0", "1", "2"]
    assert [lv.shape for lv in found.levels] == [(2, 13, 37, 41), (2, 13, 19, 21), (2, 7, 10, 11)]
    assert [lv.scale for lv in found.levels] == [(1, 4, 1.5, 1.5), (1, 4, 3, 3), (1, 8, 6, 6)]
    assert found.levels[2].translation == (0, 2, 2.25, 2.25)
    assert {lv.chunks for lv in found.levels} == {(1, *CHUNKS)}
    assert [(lv.n_chunks, lv.n_present) for lv in found.levels] == [(72, 72), (32, 32), (4, 4)]
    names = [re.findall(r"cname=(\w+)", lv.codec) for lv in found.levels]
    assert names == [["zstd"], ["lz4"], ["lz4"]]
    for lv in found.levels:
        there = [p for p in (tmp_path / "a.zarr" / lv.path).rglob("*") if p.is_file()]
        assert lv.stored_nbytes == sum(p.stat().st_size for p in there)
    assert found.stored_nbytes == sum(lv.stored_nbytes for lv in found.levels)
    assert found.manifest is not None
    assert found.manifest.n_files == 108
    assert found.details[0] == f"version {version} of OME-Zarr; lower levels by mean"
    text = found.render()
    assert re.search(r"codec .*cname=zstd.*\n {14}.*cname=lz4.*, levels 1, 2\n", text)
    assert "levels      0: 2 x 13 x 37 x 41, scale 1, 4, 1.5, 1.5, " in text
    assert json.loads(found.to_json())["levels"][1]["scale"] == [1, 4, 3, 3]


def test_axes_are_those_that_metadata_state_in_lower_case(tmp_path: Path):
    io.write_zarr(
        tmp_path / "a", np.zeros((2, 3, 4), "u2"),
        attributes={"_ARRAY_DIMENSIONS": ["channel", "Y", "X"], "channels": ["dapi", "sox2"]},
    )  # fmt: skip
    assert (info(tmp_path / "a").axes, info(tmp_path / "a").channels) == ("cyx", ("dapi", "sox2"))
    io.write_zarr(tmp_path / "b", np.zeros((2, 3, 4), "u2"), attributes={"channels": ["x", "y"]})
    assert info(tmp_path / "b").axes == "cyx"
