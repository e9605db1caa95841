"""Stores as others keep them: no right to list, folder markers, layouts that are not as stated."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr
from helpers import make_volume
from object_store import Lab, Memory, faulty_proxy, options

import scout_dask_io as io
from scout_dask_io.errors import ChunkReadError, LayoutError

VOLUME = make_volume((5, 9, 10))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_store_that_forbids_what_is_not_there_is_read(lab: Lab, zarr_format: int) -> None:
    io.write_zarr(lab.url, VOLUME, 5, zarr_format=zarr_format, storage_options=lab.options)
    lab.fs.rm_file(f"{lab.bucket}/deep/a.zarr/.scout-manifest")
    there = set(lab.names())
    closed: set[str] = set()

    def forbid(method: str, path: str) -> int | None:
        name = path.partition("?")[0].partition("a.zarr/")[2]
        return None if name in there - closed else 403

    with faulty_proxy(lab.address, forbid) as address:
        reach = options(address)
        array = io.read_zarr(lab.url, storage_options=reach)
        np.testing.assert_array_equal(array.compute(), VOLUME)
        # A chunk that is forbidden may be there: it is no zeros.
        closed |= {name for name in there if name.endswith("0/1/1")}
        with pytest.raises(ChunkReadError):
            io.read_zarr(lab.url, storage_options=reach).compute()
        closed |= there
        with pytest.raises(ChunkReadError):
            io.read_zarr(lab.url, storage_options=reach)


def test_objects_that_stand_for_folders_are_no_part_of_an_array(lab: Lab) -> None:
    reach = {"storage_options": lab.options}
    io.write_zarr(lab.url, VOLUME, 5, **reach)
    for folder in ("", "0/", "0/1/"):
        lab.fs.call_s3("put_object", Bucket=lab.bucket, Key=f"deep/a.zarr/{folder}", Body=b"")
    assert io.verify(lab.url, **reach).ok
    io.write_zarr(lab.url, VOLUME + 1, 5, overwrite=True, **reach)
    np.testing.assert_array_equal(io.read_zarr(lab.url, **reach).compute(), VOLUME + 1)


@pytest.mark.parametrize(
    ("lies", "stated"), [("/", None), (".", "/"), ("/", "."), (".", "."), ("/", "/"), (".", None)]
)
def test_a_layout_that_is_not_as_stated_is_refused(
    memory: Memory, lies: str, stated: str | None
) -> None:
    keys = {"name": "v2", "separator": lies}
    store = zarr.storage.FsspecStore.from_url(memory.url)
    zarr.create_array(store, data=VOLUME, chunks=(5, 5, 5), zarr_format=2, chunk_key_encoding=keys)
    document = json.loads(memory.fs.cat_file(f"{memory.key}/.zarray"))
    memory.put(".zarray", json.dumps({**document, "dimension_separator": stated}).encode())
    if (stated or ".") == lies:
        np.testing.assert_array_equal(io.read_zarr(memory.url).compute(), VOLUME)
        return
    told = "does not say so" if stated is None else f"says '{stated}'"
    with pytest.raises(LayoutError, match=f"{told}: other software reads zeros"):
        io.read_zarr(memory.url)
    # The way out that the message names.
    memory.put(".zarray", json.dumps({**document, "dimension_separator": lies}).encode())
    np.testing.assert_array_equal(io.read_zarr(memory.url).compute(), VOLUME)
