"""Stored arrays as sources: blocks, tokens, pickles."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.core.grid import full_region, region_shape
from scout_dask_io.core.source import Source
from scout_dask_io.errors import PathNotFoundError
from scout_dask_io.store.source import ChunkFileSource, ZarrSource, open_source

SHAPE, CHUNKS = (9, 14, 19), (4, 5, 6)


@pytest.fixture(params=["direct", "zarr"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    data = make_volume(SHAPE)
    filters = None if request.param == "direct" else [numcodecs.Delta("u2")]
    io.new_zarr(tmp_path / "z", SHAPE, CHUNKS, "u2", filters=filters)[...] = data
    found = open_source(tmp_path / "z")
    assert type(found) is (ChunkFileSource if request.param == "direct" else ZarrSource)
    return found


def test_regions_are_those_of_the_array(source: Source) -> None:
    data = make_volume(SHAPE)
    for region in (
        full_region(SHAPE),
        (slice(3, 9), slice(4, 5), slice(0, 19)),
        (slice(8, 9), slice(13, 14), slice(18, 19)),
    ):
        got = source.read(region)
        np.testing.assert_array_equal(got, data[region])
        seen = np.zeros(region_shape(region), int)
        for where, values in source.iter_pieces(region):
            assert values.shape == region_shape(where)
            seen[where] += 1
        assert (seen == 1).all()


def test_the_least_read_is_a_chunk(source: Source) -> None:
    assert source.read_shape == CHUNKS
    assert (source.shape, source.dtype, source.ndim) == (SHAPE, np.dtype("u2"), 3)


def test_a_chunk_beyond_the_array_is_no_larger_than_it(tmp_path: Path) -> None:
    io.new_zarr(tmp_path / "z", (5, 6), (64, 64), "u2")[...] = 1
    assert open_source(tmp_path / "z").read_shape == (5, 6)


def test_a_source_pickles_and_reads_on(source: Source) -> None:
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.read(full_region(SHAPE)), make_volume(SHAPE))
    assert copy.token == source.token


def test_the_pickle_of_a_source_is_small(source: Source) -> None:
    assert len(pickle.dumps(source)) < 4000


def test_the_token_names_the_path_and_the_state(tmp_path: Path) -> None:
    for name in ("a", "b"):
        io.new_zarr(tmp_path / name, SHAPE, CHUNKS, "u2")[...] = 1
    for folder, _, _ in os.walk(tmp_path):
        os.utime(folder, (10**9, 10**9))
    one, two = open_source(tmp_path / "a").token, open_source(tmp_path / "b").token
    assert one != two
    assert one == open_source(tmp_path / "a").token
    (tmp_path / "a" / "2" / "1" / "3").unlink()
    assert open_source(tmp_path / "a").token != one


def test_opening_reads_no_chunk(tmp_path: Path) -> None:
    io.new_zarr(tmp_path / "z", SHAPE, CHUNKS, "u2")[...] = 1
    for folder, _, names in os.walk(tmp_path / "z"):
        for name in names:
            if name.isdigit():
                Path(folder, name).write_bytes(b"damaged")
    assert open_source(tmp_path / "z").shape == SHAPE


@pytest.mark.parametrize("made", ["nothing", "directory", "group"])
def test_what_is_no_array_is_an_error(tmp_path: Path, made: str) -> None:
    if made == "directory":
        (tmp_path / "z").mkdir()
    elif made == "group":
        zarr.create_group(store=tmp_path / "z", zarr_format=2)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PathNotFoundError):
        open_source(tmp_path / "z")
    assert sorted(tmp_path.rglob("*")) == before
