"""Stores as others keep them: no right to list, folder markers, layouts that are not as stated."""

from __future__ import annotations

import json
from pathlib import Path

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


@pytest.mark.parametrize(
    "name",
    [
        "[x] {y}*?+#1",
        pytest.param("a+b %2F#1", marks=pytest.mark.slow),
        pytest.param("µm é&=;,@", marks=pytest.mark.slow),
    ],
)
def test_every_verb_reads_where_what_is_not_there_is_forbidden(
    lab: Lab, tmp_path: Path, name: str
) -> None:
    url = f"s3://{lab.bucket}/{name}/a.zarr"
    io.write_ome_zarr(url, VOLUME, 5, axes="zyx", levels=2, storage_options=lab.options)
    there = set(lab.names(f"{name}/a.zarr"))

    def forbid(method: str, path: str) -> int | None:
        return None if path.partition("?")[0].partition("a.zarr/")[2] in there else 403

    with faulty_proxy(lab.address, forbid) as address:
        so = {"storage_options": options(address)}
        np.testing.assert_array_equal(io.read_zarr(url, **so).compute(), VOLUME)
        told = io.info(url, **so)
        assert (told.shape, told.n_files) == (VOLUME.shape, None)
        assert "its files are not counted" in told.render()
        assert io.preview(url, **so).shape == VOLUME.shape
        io.convert(url, tmp_path / "b.zarr", **so)
        assert io.verify(url, tmp_path / "b.zarr", **so).equal
        io.export(url, tmp_path / "b.tif", **so)
    np.testing.assert_array_equal(io.imread(tmp_path / "b.tif").compute(), VOLUME)


@pytest.mark.slow
def test_every_verb_goes_beyond_the_thousand_keys_of_a_listing(lab: Lab, tmp_path: Path) -> None:
    so = {"storage_options": lab.options}
    data = np.arange(1, 22**3 + 1, dtype="u4").reshape(22, 22, 22)
    url, beside = (f"s3://{lab.bucket}/a+b %2F#[1]é/{name}.zarr" for name in ("a", "ab"))
    io.write_zarr(url, data, 2, codec="none", **so)
    io.write_zarr(beside, data[:2], 2, **so)
    assert len(lab.names("a+b %2F#[1]é/a.zarr")) > 11**3
    kept = lab.names("a+b %2F#[1]é/ab.zarr")
    np.testing.assert_array_equal(io.read_zarr(url, **so).compute(), data)
    assert io.verify(url, **so).ok
    assert io.info(url, **so).n_present == 11**3
    io.convert(url, tmp_path / "a.zarr", chunks=8, **so)
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr").compute(), data)
    io.write_zarr(url, data[:3], append=0, **so)
    assert io.read_zarr(url, **so)[22:].compute().tolist() == data[:3].tolist()
    # Overwritten, none of the old chunks stays, and no neighbour goes.
    io.write_zarr(url, data[:4] + 1, 2, overwrite=True, **so)
    assert len(lab.names("a+b %2F#[1]é/a.zarr")) < 300
    np.testing.assert_array_equal(io.read_zarr(url, **so).compute(), data[:4] + 1)
    assert lab.names("a+b %2F#[1]é/ab.zarr") == kept


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
    # The two ways out that the message names.
    kept = memory.fs.cat_file(f"{memory.key}/.zarray")
    memory.put(".zarray", json.dumps({**document, "dimension_separator": lies}).encode())
    np.testing.assert_array_equal(io.read_zarr(memory.url).compute(), VOLUME)
    memory.put(".zarray", kept)
    assert len(io.repair(memory.url).actions) == 1
    np.testing.assert_array_equal(io.read_zarr(memory.url).compute(), VOLUME)
