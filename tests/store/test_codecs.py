"""Codec presets: what they are, what they are refused for, and that any Zarr reads them."""

from __future__ import annotations

import numcodecs
import numpy as np
import pytest
from helpers import make_volume

from scout_dask_io.errors import ArgumentError, ChunkError
from scout_dask_io.store.codecs import BLOSC_MAX_NBYTES, blosc_blocksize, resolve_codec


@pytest.mark.parametrize("name", ["zstd", "lz4"])
def test_a_preset_is_blosc_with_bitshuffle_at_level_1(name: str):
    assert resolve_codec(name, 8192, 2).get_config() == {
        "id": "blosc",
        "cname": name,
        "clevel": 1,
        "shuffle": numcodecs.Blosc.BITSHUFFLE,
        "blocksize": 8192,
    }


def test_none_is_no_compression():
    assert resolve_codec("none", 8192, 2) is None
    assert resolve_codec(None, 8192, 2) is None


def test_a_codec_or_its_configuration_is_used_as_it_is():
    codec = numcodecs.Zlib(3)
    assert resolve_codec(codec, 8192, 2) is codec
    assert resolve_codec({"id": "zlib", "level": 3}, 8192, 2) == codec


@pytest.mark.parametrize("codec", ["gzip", "ZSTD", "", 3, True, {"id": "nope"}, {}, {"level": 3}])
def test_anything_else_is_an_argument_error(codec):
    with pytest.raises(ArgumentError, match="codec"):
        resolve_codec(codec, 8192, 2)


def test_a_chunk_above_bloscs_limit_is_refused_and_one_at_it_is_not():
    assert resolve_codec("zstd", BLOSC_MAX_NBYTES, 1) is not None
    with pytest.raises(ChunkError, match="choose smaller chunks"):
        resolve_codec("zstd", BLOSC_MAX_NBYTES + 1, 1)
    assert resolve_codec("none", BLOSC_MAX_NBYTES + 1, 1) is None


@pytest.mark.parametrize("itemsize", [1, 2, 3, 4, 8, 12, 16])
@pytest.mark.parametrize("n", [1, 7, 1000, 2**18 + 1, 2**21 + 5])
def test_a_block_is_whole_elements_and_within_the_chunk(n: int, itemsize: int):
    blocksize = blosc_blocksize(n * itemsize, itemsize)
    assert 0 < blocksize <= n * itemsize
    assert blocksize % itemsize == 0


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4", "f8", "c16", "?"])
@pytest.mark.parametrize("name", ["zstd", "lz4"])
@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (64, 96, 128)])
def test_a_preset_gives_back_what_it_was_given(shape, name, dtype):
    chunk = make_volume(shape, dtype)
    codec = resolve_codec(name, chunk.nbytes, chunk.itemsize)
    decoded = np.frombuffer(codec.decode(codec.encode(chunk)), chunk.dtype).reshape(shape)
    np.testing.assert_array_equal(decoded, chunk)
