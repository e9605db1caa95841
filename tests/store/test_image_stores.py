"""OME-Zarr images in object stores: read, checked and looked at as those on a disk."""

from __future__ import annotations

import json
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr
from helpers import make_volume
from object_store import Lab

import scout_dask_io as io
from scout_dask_io.cli import main
from scout_dask_io.errors import ArgumentError, LayoutError, PathNotFoundError

BOTH = make_volume((2, 9, 40, 50))
CHUNKS = (4, 32, 32)


@pytest.fixture(scope="module")
def local(tmp_path_factory: Any) -> Path:
    """Give an image of three levels and two channels on a disk."""
    path: Path = tmp_path_factory.mktemp("image") / "a.zarr"
    io.write_ome_zarr(
        path, BOTH, CHUNKS, levels=3, voxel_size=(4, 2, 2), channels=["syto", "sox2"],
        colors=["00FF00", "FF00FF"],
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def stored(s3_address: str, local: Path) -> Lab:
    """Give a bucket with the same image in it, at ``lab.url``, for tests that change nothing."""
    lab = Lab(s3_address, "images")
    lab.fs.mkdir("images")
    lab.fs.put(str(local), lab.url, recursive=True)
    return lab


class InMemory:
    """The same image in fsspec's store in memory, for tests that damage it."""

    def __init__(self, local: Path) -> None:
        self.fs = fsspec.filesystem("memory")
        self.key = f"/{uuid.uuid4().hex}/a.zarr"
        self.url = f"memory:/{self.key}"
        for path in local.rglob("*"):
            if path.is_file():
                self.fs.pipe_file(
                    f"{self.key}/{path.relative_to(local).as_posix()}", path.read_bytes()
                )


@pytest.fixture
def damaged(local: Path) -> InMemory:
    return InMemory(local)


def test_every_level_at_a_url_is_read(stored: Lab, local: Path) -> None:
    settings: dict[str, Any] = {"storage_options": stored.options}
    for level in range(3):
        lazy = io.read_zarr(stored.url, level=level, **settings)
        expected = zarr.open_array(local / str(level), mode="r")
        assert (lazy.shape, lazy.dtype) == (expected.shape, np.dtype("u2"))
        np.testing.assert_array_equal(lazy.compute(), expected[...])
        again = io.read_zarr(f"{stored.url}/{level}", **settings)
        assert (again.name, io.voxel_size(again)) == (lazy.name, io.voxel_size(lazy))
    assert io.voxel_size(lazy).micrometres == (8, 8, 8)
    with pytest.raises(ArgumentError, match="image of 3 levels"):
        io.read_zarr(stored.url, level=3, **settings)
    with pytest.raises(ArgumentError, match="no levels"):
        io.read_zarr(f"{stored.url}/0", level=1, **settings)


def test_channels_of_an_image_are_read_as_those_of_a_dataset(
    damaged: InMemory, local: Path, tmp_path: Path
) -> None:
    for place in (local, damaged.url):
        lazy = io.imread_channels(place, chunks=(1, 3, -1, -1))
        assert (lazy.chunks, io.channel_names(place)) == (
            ((1, 1), (3, 3, 3), (40,), (50,)), ["syto", "sox2"]
        )  # fmt: skip
        np.testing.assert_array_equal(lazy.compute(), BOTH)
    for axes, part, shape in (
        ("zyx", BOTH[0], (1, 9, 40, 50)),
        ("cyx", BOTH[:, 0], (2, 1, 40, 50)),
    ):
        io.write_ome_zarr(tmp_path / axes, part, CHUNKS, axes=axes, levels=1)
        lazy = io.imread_channels(tmp_path / axes)
        assert (lazy.shape, lazy.dtype) == (shape, np.dtype("u2"))
        np.testing.assert_array_equal(lazy.compute(), part.reshape(shape))
    io.write_ome_zarr(tmp_path / "t", BOTH, CHUNKS, axes="tzyx", levels=1)
    with pytest.raises(ArgumentError, match="'tzyx'"):
        io.imread_channels(tmp_path / "t")


def test_sizes_that_the_group_alone_states_are_found(damaged: InMemory) -> None:
    for level in range(3):
        damaged.fs.rm(f"{damaged.key}/{level}/.zattrs")
    for level, size in ((0, (4, 2, 2)), (2, (8, 8, 8))):
        assert io.voxel_size(io.read_zarr(f"{damaged.url}/{level}")).micrometres == size


def test_a_level_outside_of_an_image_at_a_url_is_refused(damaged: InMemory) -> None:
    attributes = json.loads(damaged.fs.cat_file(f"{damaged.key}/.zattrs"))
    for path in ("../a.zarr/0", "x/../../a.zarr/0", "/a.zarr/0"):
        attributes["multiscales"][0]["datasets"][0]["path"] = path
        damaged.fs.pipe_file(f"{damaged.key}/.zattrs", json.dumps(attributes).encode())
        with pytest.raises(LayoutError, match="outside"):
            io.read_zarr(damaged.url)


def test_info_and_verify_know_an_image_at_a_url(stored: Lab, local: Path) -> None:
    settings: dict[str, Any] = {"storage_options": stored.options}
    there, here = io.info(stored.url, **settings), io.info(local)
    assert there.render().replace(stored.url, str(local)) == here.render()
    assert (there.kind, there.channels) == ("OME-Zarr image", ("syto", "sox2"))
    report: Any = io.verify(stored.url, **settings)
    assert report.ok
    assert [level.path for level in report.levels] == [f"{stored.url}/{n}" for n in range(3)]
    assert io.verify(local, stored.url, **settings).equal


def test_what_is_wrong_with_a_level_at_a_url_is_named(damaged: InMemory) -> None:
    data = bytearray(damaged.fs.cat_file(f"{damaged.key}/1/0/1/0/0"))
    data[-1] ^= 1
    damaged.fs.pipe_file(f"{damaged.key}/1/0/1/0/0", bytes(data))
    damaged.fs.rm_file(f"{damaged.key}/2/1/0/0/0")
    report: Any = io.verify(damaged.url)
    assert [level.n_bad for level in report.levels] == [0, 1, 1]
    assert report.levels[1].bad[0].index == (0, 1, 0, 0)
    damaged.fs.rm(f"{damaged.key}/2", recursive=True)
    assert io.verify(damaged.url).mismatch == "level 2 is not there"


def test_a_picture_of_an_image_at_a_url_is_that_of_the_same_on_a_disk(
    stored: Lab, local: Path, tmp_path: Path, capsys: Any
) -> None:
    for options in ({"voxel_size": (8, 2, 2), "mode": "max"}, {"size": 64}):
        there = io.preview(stored.url, storage_options=stored.options, **options)
        here = io.preview(local, **options)
        np.testing.assert_array_equal(there.image, here.image)
        assert (there.level, there.channels) == (here.level, ("syto", "sox2"))
    given = ["--storage-option", json.dumps(stored.options)]
    with pytest.raises(SystemExit) as done:
        main(["preview", stored.url, str(tmp_path / "a.png"), "--size", "64", *given])
    assert done.value.code == 0
    assert (tmp_path / "a.png").read_bytes() == here._repr_png_()


def test_a_size_that_is_given_is_that_of_the_full_level(tmp_path: Path) -> None:
    volume = make_volume((9, 140, 100))
    io.write_ome_zarr(tmp_path / "a.zarr", volume, CHUNKS, levels=3, voxel_size=(4, 1, 1))
    picture = io.preview(tmp_path / "a.zarr", size=64, voxel_size=(12, 3, 3))
    assert (picture.level, picture.shape) == (1, (9, 70, 50))
    assert picture.voxel_size.micrometres == (12, 6, 6)


def test_volumes_at_urls_are_viewed_chunk_by_chunk(stored: Lab, local: Path) -> None:
    pytest.importorskip("neuroglancer")
    with io.viewer(stored.url, local, storage_options=stored.options) as shown:
        layers = shown._viewer.state.to_json()["layers"]
        urls = [layer["source"][0]["url"].removeprefix("zarr2://") for layer in layers]
        served = [
            [urllib.request.urlopen(f"{u}/{name}", timeout=20).read() for u in urls]
            for name in (".zattrs", "0/0/0/0", "2/0/0/0")
        ]
        hidden = [*map(str, stored.options.values()), stored.address]
        assert not any(secret in json.dumps(shown._viewer.state.to_json()) for secret in hidden)
    assert [layer["name"] for layer in layers] == [
        "a.zarr syto", "a.zarr sox2", "a.zarr syto (2)", "a.zarr sox2 (2)"
    ]  # fmt: skip
    for files in served:
        assert files[:2] == files[2:]
    with pytest.raises(ArgumentError, match="local path"):
        io.viewer(local, storage_options=stored.options)


def test_where_nothing_is_the_error_says_so() -> None:
    with pytest.raises(PathNotFoundError, match="no Zarr array"):
        io.read_zarr("memory://images/none.zarr")
