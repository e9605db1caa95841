"""zarr's store for a URL: what zarr does by it, and what it leaves alone."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import zarr
from object_store import Lab, Memory
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync

import scout_dask_io as io
from scout_dask_io.files.location import locate
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.store.url_store import UrlStore

DATA = np.arange(8 * 12 * 16, dtype="u2").reshape(8, 12, 16)


@pytest.fixture(params=["bucket", "memory"])
def store(request: pytest.FixtureRequest) -> UrlStore:
    if request.param == "memory":
        place = locate(Memory().url)
    else:
        lab = request.getfixturevalue("lab")
        place = locate(lab.url, lab.options)
    assert isinstance(place, RemoteLocation)
    return UrlStore(place)


def raw(store: UrlStore, key: str, span: object = None) -> bytes | None:
    found = sync(store.get(key, default_buffer_prototype(), span))  # type: ignore[arg-type]
    return None if found is None else found.to_bytes()


def test_objects_are_put_read_in_part_listed_and_removed(store: UrlStore) -> None:
    of = default_buffer_prototype().buffer.from_bytes
    for key in ("a/0", "a/1", "b", ".scout-manifest"):
        sync(store.set(key, of(key.encode() * 4)))
    assert raw(store, "a/0") == b"a/0" * 4
    assert raw(store, "a/0", RangeByteRequest(1, 4)) == b"/0a"
    assert raw(store, "a/0", OffsetByteRequest(10)) == b"/0"
    assert raw(store, "a/0", SuffixByteRequest(5)) == b"/0a/0"
    assert raw(store, "absent") is None
    assert sync(store.exists("b"))
    assert not sync(store.exists("a"))
    assert sync(store.getsize("b")) == 4

    async def names(found: object) -> list[str]:
        return sorted([name async for name in found])  # type: ignore[attr-defined]

    assert sync(names(store.list())) == [".scout-manifest", "a/0", "a/1", "b"]
    assert sync(names(store.list_prefix("a/"))) == ["a/0", "a/1"]
    assert sync(names(store.list_dir(""))) == ["a", "b"]
    assert sync(names(store.list_dir("a"))) == ["0", "1"]
    sync(store.delete_dir("a"))
    sync(store.delete("absent"))
    assert sync(names(store.list())) == [".scout-manifest", "b"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_makes_and_reads_arrays_and_groups_by_it(store: UrlStore, zarr_format: int) -> None:
    group = zarr.create_group(store, zarr_format=zarr_format)
    array = group.create_array("x", shape=DATA.shape, chunks=(4, 6, 8), dtype="u2")
    array[:] = DATA
    other = pickle.loads(pickle.dumps(store)).with_read_only(True)
    assert other != store
    assert other.with_read_only(False) == store
    found = zarr.open_group(other, mode="r")
    assert list(found.array_keys()) == ["x"]
    assert (found["x"][1:5, ::3] == DATA[1:5, ::3]).all()
    with pytest.raises(ValueError, match="read-only"):
        found["x"][0] = 0


def test_a_bucket_is_written_and_read_without_s3fs(lab: Lab) -> None:
    pytest.importorskip("obstore")
    script = f"""
import json, sys
import numpy as np, scout_dask_io as io
at = {{"storage_options": json.loads({json.dumps(json.dumps(lab.options))})}}
data = np.ones((4, 8, 8), "u2")
array = io.write_zarr({lab.url!r}, data, (4, 4, 4), **at)
group = io.write_ome_zarr({lab.url + "2"!r}, data, (4, 4, 4), **at)
assert (array[:] == data).all() and (group["0"][:] == data).all()
assert (io.read_zarr({lab.url!r}, **at).compute() == data).all()
print("s3fs" in sys.modules or "aiobotocore" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_a_store_that_is_read_is_known_for_what_it_reads(lab: Lab) -> None:
    io.write_zarr(lab.url, DATA, (4, 6, 8), storage_options=lab.options)
    array = io.open(lab.url, storage_options=lab.options)
    import dask.array as da

    lazy = da.from_array(array, chunks=(4, 6, 8))
    with pytest.raises(io.ArgumentError, match="removes before they are"):
        io.write_zarr(lab.url, lazy, (4, 6, 8), overwrite=True, storage_options=lab.options)
