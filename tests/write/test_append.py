"""Arrays that grow: equal to one write, and old or new wherever a writer is stopped."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import make_volume, write_planes
from object_store import Lab

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, ChunkError, ChunkReadError, ShapeMismatchError
from scout_dask_io.store.manifest import read_manifest

SHAPE, CHUNKS = (21, 25, 18), (4, 8, 8)
FORMATS: list[dict[str, Any]] = [
    {},
    {"codec": "lz4"},
    {"zarr_format": 3},
    {"zarr_format": 3, "shards": (8, 16, 16)},
]


@pytest.fixture
def volume() -> np.ndarray:
    return make_volume(SHAPE)


def rows(volume: np.ndarray, axis: int, start: int, stop: int) -> np.ndarray:
    return volume[(slice(None),) * axis + (slice(start, stop),)]


def stored(path: Path) -> dict[str, bytes]:
    """Give the chunk files of an array, by their names."""
    own = (p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in own if p.name != "zarr.json"}


def node(path: Path, name: str) -> Any:
    return json.loads((path / name).read_text())


@pytest.mark.parametrize("settings", FORMATS, ids=str)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_grew_in_ragged_steps_is_what_one_write_makes(
    tmp_path: Path, volume: np.ndarray, settings: dict[str, Any], axis: int
) -> None:
    whole, grown = tmp_path / "whole.zarr", tmp_path / "grown.zarr"
    n = SHAPE[axis]
    # A shard is cut at what is there when an array is made: both begin with as much.
    first = 17
    io.write_zarr(whole, volume, CHUNKS, attributes={"a": 1}, **settings)
    io.write_zarr(grown, rows(volume, axis, 0, first), CHUNKS, attributes={"a": 1}, **settings)
    for start, stop in pairwise([first, *(m for m in (18, 20) if m < n), n]):
        array = io.write_zarr(grown, rows(volume, axis, start, stop), append=axis)
        assert array.shape[axis] == stop
    np.testing.assert_array_equal(zarr.open_array(str(grown), mode="r")[...], volume)
    name = "zarr.json" if "zarr_format" in settings else ".zarray"
    if settings.get("shards"):
        return
    assert node(grown, name) == node(whole, name)
    assert stored(grown) == stored(whole)
    here, there = read_manifest(grown), read_manifest(whole)
    assert here is not None
    assert there is not None
    np.testing.assert_array_equal(here.records, there.records)
    assert here.settings["shape"] == there.settings["shape"] == list(SHAPE)
    assert io.verify(grown).ok
    assert not [p for p in grown.iterdir() if p.name.startswith(".scout-append")]


def test_an_array_that_ended_inside_of_chunks_along_all_axes_grows_along_each(
    tmp_path: Path, volume: np.ndarray
) -> None:
    path = tmp_path / "a.zarr"
    io.write_zarr(path, volume[:5, :11, :9], CHUNKS)
    io.write_zarr(path, volume[5:, :11, :9], append="z")
    io.write_zarr(path, volume[:, 11:, :9], append="y")
    io.write_zarr(path, volume[:, :, 9:], append=-1)
    np.testing.assert_array_equal(zarr.open_array(str(path), mode="r")[...], volume)
    assert io.verify(path).ok


def test_lazy_planes_and_computed_blocks_are_appended(tmp_path: Path, volume: np.ndarray) -> None:
    path = tmp_path / "a.zarr"
    write_planes(tmp_path / "planes", volume)
    lazy = io.imread_folder(tmp_path / "planes")
    io.write_zarr(path, lazy[:6], CHUNKS)
    io.write_zarr(path, lazy[6:13] + 0, append="z")
    write_planes(tmp_path / "rest", volume[13:])
    io.write_zarr(path, io.imread_folder(tmp_path / "rest"), append="z", max_mem="64MB")
    np.testing.assert_array_equal(io.read_zarr(path).compute(), volume)
    assert io.verify(tmp_path / "planes", path).ok


def test_a_delayed_append_grows_when_it_is_computed(tmp_path: Path, volume: np.ndarray) -> None:
    path = tmp_path / "a.zarr"
    io.write_zarr(path, volume[:6], CHUNKS)
    delayed = io.write_zarr(path, volume[6:], append=0, compute=False)
    assert zarr.open_array(str(path), mode="r").shape == (6, 25, 18)
    assert delayed.compute().shape == SHAPE
    np.testing.assert_array_equal(io.read_zarr(path).compute(), volume)


def test_an_array_of_zarr_s_own_grows_without_a_manifest(
    tmp_path: Path, volume: np.ndarray
) -> None:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(
        str(path), shape=(6, 25, 18), chunks=CHUNKS, dtype=">u2", zarr_format=2, fill_value=7,
        order="F",
    )  # fmt: skip
    array[...] = volume[:6]
    io.write_zarr(path, volume[6:], append=0)
    grown = zarr.open_array(str(path), mode="r")
    np.testing.assert_array_equal(grown[...], volume)
    assert (grown.dtype, grown.fill_value, grown.order) == (np.dtype(">u2"), 7, "F")


def test_fill_and_strays_beyond_the_old_end_read_as_fill(
    tmp_path: Path, volume: np.ndarray
) -> None:
    path = tmp_path / "a.zarr"
    io.write_zarr(path, volume[:8], CHUNKS)
    # Other software made it larger and smaller again, and left a chunk.
    stray = path / "2/0/0"
    stray.parent.mkdir(parents=True)
    shutil.copy(path / "0/0/0", stray)
    io.write_zarr(path, np.zeros((5, 25, 18), "u2"), append=0)
    assert not zarr.open_array(str(path), mode="r")[8:].any()
    assert not stray.exists()
    assert io.verify(path).ok


@pytest.mark.parametrize(
    ("data", "append", "settings", "error", "named"),
    [
        (np.zeros((3, 25, 17), "u2"), 0, {}, ShapeMismatchError, ["(3, 25, 17)", "(6, 25, 18)"]),
        (np.zeros((25, 18), "u2"), 0, {}, ShapeMismatchError, ["(25, 18)", "(6, 25, 18)"]),
        (np.zeros((3, 25, 18), "f4"), 0, {}, ArgumentError, ["float32", "uint16"]),
        (np.zeros((3, 25, 18), "u2"), "t", {}, ArgumentError, ["'t'", "'z', 'y', 'x'"]),
        (np.zeros((3, 25, 18), "u2"), 3, {}, ArgumentError, ["3", "0 to 2"]),
        (np.zeros((3, 25, 18), "u2"), 0, {"chunks": (8, 8, 8)}, ChunkError, ["(8, 8, 8)", "(4, 8"]),
        (np.zeros((3, 25, 18), "u2"), 0, {"codec": "lz4"}, ArgumentError, ["lz4", "zstd"]),
        (np.zeros((3, 25, 18), "u2"), 0, {"fill_value": 3}, ArgumentError, ["3", "0"]),
        (np.zeros((3, 25, 18), "u2"), 0, {"zarr_format": 3}, ArgumentError, ["3", "2"]),
        (np.zeros((3, 25, 18), "u2"), 0, {"shards": (8, 8, 8)}, ChunkError, ["shards", "None"]),
        (np.zeros((3, 25, 18), "u2"), 0, {"attributes": {}}, ArgumentError, ["attributes"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_error_that_names_both(
    tmp_path: Path, volume: np.ndarray, data: Any, append: Any, settings: Any, error: Any,
    named: list[str],
) -> None:  # fmt: skip
    path = tmp_path / "a.zarr"
    io.write_zarr(path, volume[:6], CHUNKS)
    before = sorted(str(p) for p in path.rglob("*"))
    with pytest.raises(error) as caught:
        io.write_zarr(path, data, append=append, **settings)
    assert all(text in str(caught.value) for text in named), str(caught.value)
    assert sorted(str(p) for p in path.rglob("*")) == before


def test_settings_that_are_the_array_s_own_may_be_given(tmp_path: Path, volume: np.ndarray) -> None:
    path = tmp_path / "a.zarr"
    own: dict[str, Any] = {"codec": "lz4", "fill_value": 9, "zarr_format": 3, "shards": (8, 8, 8)}
    io.write_zarr(path, volume[:8], CHUNKS, **own)
    io.write_zarr(path, volume[8:], CHUNKS, append=0, **own)
    np.testing.assert_array_equal(io.read_zarr(path).compute(), volume)


def test_a_damaged_chunk_that_would_be_written_again_is_refused(
    tmp_path: Path, volume: np.ndarray
) -> None:
    path = tmp_path / "a.zarr"
    io.write_zarr(path, volume[:6], CHUNKS)
    zarr.open_array(str(path), mode="r+")[5, 0, 0] = 4711
    with pytest.raises(ChunkReadError, match=r"1.0.0: found .*\.scout-manifest"):
        io.write_zarr(path, volume[6:], append=0)
    assert io.read_zarr(path).shape == (6, 25, 18)
    (path / ".scout-manifest").unlink()  # the way out
    io.write_zarr(path, volume[6:], append=0, overwrite=True)  # what was finished of the first
    assert not list(path.glob(".scout-append*"))
    assert io.read_zarr(path)[5, 0, 0].compute() == 4711
    np.testing.assert_array_equal(io.read_zarr(path)[6:].compute(), volume[6:])


def test_filled_planes_and_channels_follow(tmp_path: Path, volume: np.ndarray) -> None:
    files = write_planes(tmp_path / "planes", volume[:7])
    files[2].write_bytes(b"no tiff")
    with pytest.warns(UserWarning, match="cannot be read"):
        lazy = io.imread_folder(tmp_path / "planes", missing="fill")
    path = tmp_path / "a.zarr"
    io.write_zarr(path, lazy, CHUNKS)
    io.write_zarr(path, lazy, append="z")
    assert [f.plane for f in io.info(path).filled] == [(2,), (9,)]
    found = read_manifest(path)
    assert found is not None
    assert [f["plane"] for f in found.settings["attributes"]["filled_planes"]] == [[2], [9]]

    channels = tmp_path / "c.zarr"
    io.write_zarr(channels, volume[None], (1, *CHUNKS), attributes={"channels": ["dapi"]})
    io.write_zarr(channels, volume[None] + 1, append="c")
    assert io.info(channels).channels == ("dapi", "1")


def test_a_finished_append_is_not_done_twice_by_resume(tmp_path: Path, volume: np.ndarray) -> None:
    path = tmp_path / "a.zarr"
    io.write_zarr(path, volume[:6], CHUNKS)
    for _ in range(2):
        io.write_zarr(path, volume[6:], append=0, resume=True)
    np.testing.assert_array_equal(io.read_zarr(path).compute(), volume)
    io.write_zarr(path, volume[:0], append=0)
    assert io.read_zarr(path).shape == SHAPE


def test_our_readers_that_opened_the_old_array_go_on(tmp_path: Path, volume: np.ndarray) -> None:
    path = tmp_path / "a.zarr"
    for settings in ({}, {"zarr_format": 3}):
        io.write_zarr(path, volume[:6], CHUNKS, overwrite=True, **settings)
        old = io.read_zarr(path)
        io.write_zarr(path, volume[6:], append=0)
        np.testing.assert_array_equal(old.compute(), volume[:6])
        io.write_zarr(path, volume, CHUNKS, overwrite=True, **settings)
        with pytest.raises(io.SourceChangedError):
            old.compute()


@pytest.mark.parametrize("settings", [{}, {"zarr_format": 3}], ids=str)
def test_an_array_in_a_store_grows(lab: Lab, volume: np.ndarray, settings: dict[str, Any]) -> None:
    options = {"storage_options": lab.options}
    volume = volume[:, :12, :10]
    io.write_zarr(lab.url, volume[:6], CHUNKS, **settings, **options)
    io.write_zarr(lab.url, volume[4:6], region=slice(4, 6), **options)  # which leaves a note
    io.write_zarr(lab.url, volume[6:9], append="z", **options)
    io.write_zarr(lab.url, volume[9:], append="z", resume=True, **options)
    np.testing.assert_array_equal(lab.by_zarr(), volume)
    assert io.verify(lab.url, **options).ok
    own = [name for name in lab.names() if name.startswith(".scout")]
    assert own == [".scout-manifest", ".scout-regions-state"]


@pytest.mark.parametrize("write", [io.write_zarr, io.write_ome_zarr])
def test_what_a_conversion_still_shows_of_a_growing_folder_is_not_appended_to(
    tmp_path: Path, volume: np.ndarray, write: Any
) -> None:
    path = tmp_path / "a.zarr"
    write(path, volume[:8], CHUNKS, voxel_size=(1, 1, 1))
    full = path / "0" if write is io.write_ome_zarr else path
    attributes = node(full, ".zattrs")
    growing = {"axis": 0, "whole": 8, "planned": 21}
    (full / ".zattrs").write_text(json.dumps({**attributes, "scout_growing": growing}))
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with pytest.raises(ArgumentError, match="still grows"):
        write(path, volume[8:], append=0)
    assert {p: p.read_bytes() for p in path.rglob("*") if p.is_file()} == before
    # The way out: once it has ended, there is no such attribute.
    (full / ".zattrs").write_text(json.dumps(attributes))
    write(path, volume[8:], append=0)
    np.testing.assert_array_equal(io.read_zarr(path), volume)
