"""Parts of shards at URLs: what is asked for, what comes of it, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import zarr
from object_store import Lab, Memory, Request, faulty_proxy

import scout_dask_io as io
from scout_dask_io.errors import ChunkReadError
from scout_dask_io.files.location import locate
from scout_dask_io.store.source import ChunkFileSource, ZarrSource, open_source

DATA = np.arange(10 * 20 * 30, dtype="u2").reshape(10, 20, 30) % 977
CHUNKS, SHARDS = (2, 4, 5), (4, 8, 15)


@pytest.fixture
def asked(lab: Lab) -> Iterator[tuple[str, dict[str, Any], list[Request]]]:
    seen: list[Request] = []
    with faulty_proxy(lab.address, lambda *_: None, seen) as address:
        yield lab.url, {**lab.options, "endpoint_url": address}, seen


def test_a_part_takes_an_index_a_shard_and_what_lies_together_in_one_range(
    asked: tuple[str, dict[str, Any], list[Request]],
) -> None:
    url, options, seen = asked
    how: dict[str, Any] = {"zarr_format": 3, "shards": SHARDS, "storage_options": options}
    io.write_zarr(url, DATA, CHUNKS, **how)
    lazy = io.read_zarr(url, storage_options=options)
    seen.clear()
    np.testing.assert_array_equal(lazy[:2, :4, :5].compute(), DATA[:2, :4, :5])
    pieces = [r for r in seen if r.name not in ("zarr.json", ".scout-manifest")]
    # The index, and one chunk of it.
    assert Counter(r.method for r in pieces) == Counter(GET=2)
    assert all(r.span for r in pieces)
    seen.clear()
    np.testing.assert_array_equal(io.read_region(lazy, np.s_[:4, :8, :15]), DATA[:4, :8, :15])
    pieces = [r for r in seen if r.name not in ("zarr.json", ".scout-manifest")]
    assert len(pieces) == 2  # eight chunks that lie one after the other are one range
    np.testing.assert_array_equal(lazy.compute(), DATA)
    np.testing.assert_array_equal(lazy[::3, 5, 2:29:4].compute(), DATA[::3, 5, 2:29:4])


@pytest.mark.parametrize("shards", [None, SHARDS])
def test_v3_in_stores_is_read_as_zarr_reads_it(memory: Memory, shards: Any) -> None:
    array = zarr.create_array(
        zarr.storage.FsspecStore.from_url(memory.url),
        shape=DATA.shape,
        chunks=CHUNKS,
        shards=shards,
        dtype="u2",
        fill_value=7,
        filters=[zarr.codecs.TransposeCodec(order=(2, 0, 1))],
    )
    array[:, :9] = DATA[:, :9]  # and shards, or parts of them, that are not there
    array[4:, :8, :10] = 7
    expected = np.asarray(array[...])
    source = open_source(locate(memory.url))
    assert isinstance(source, ZarrSource if shards else ChunkFileSource)
    for region in (np.s_[:, :, :], np.s_[1:7, 3:19, 4:22], np.s_[9:, :, 29:], np.s_[4:8, :8, :10]):
        np.testing.assert_array_equal(source[region], expected[region])


@pytest.mark.parametrize("location", ["start", "end"])
def test_an_index_lies_at_either_end(memory: Memory, location: Any) -> None:
    codec = zarr.codecs.ShardingCodec(chunk_shape=CHUNKS, index_location=location)
    array = zarr.create_array(
        zarr.storage.FsspecStore.from_url(memory.url),
        shape=DATA.shape,
        chunks=(*SHARDS[:1], 8, 15),
        dtype="u2",
        serializer=codec,
        compressors=None,
    )
    array[...] = DATA
    source = open_source(locate(memory.url))
    assert isinstance(source, ZarrSource)
    assert source._shards is not None
    np.testing.assert_array_equal(source[1:9, 2:19, 3:28], DATA[1:9, 2:19, 3:28])


@pytest.mark.parametrize("fault", ["index", "cut", "lost"])
def test_a_damaged_or_lost_shard_is_an_error_that_names_it(memory: Memory, fault: str) -> None:
    io.write_zarr(memory.url, DATA, CHUNKS, zarr_format=3, shards=SHARDS)
    key = f"{memory.key}/c/1/0/0"
    data = memory.fs.cat_file(key)
    if fault == "index":
        memory.fs.pipe_file(key, data[:-30] + b"\xff" * 10 + data[-20:])
    elif fault == "cut":
        memory.fs.pipe_file(key, data[:40])
    else:
        memory.fs.rm_file(key)
    lazy = io.read_zarr(memory.url)
    np.testing.assert_array_equal(lazy[:4].compute(), DATA[:4])
    with pytest.raises(ChunkReadError, match=r"c.1.0.0"):
        lazy[4:6, :4, :5].compute()
