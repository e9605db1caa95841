"""Buckets: by which library they are reached, what it is told, and what its answers become."""

from __future__ import annotations

import os
import pickle
import time
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
from object_store import Lab, faulty_proxy

import scout_dask_io as io
from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    SourceChangedError,
    TargetExistsError,
)
from scout_dask_io.files.bucket import for_s3fs
from scout_dask_io.files.location import as_remote, locate
from scout_dask_io.files.requests import FileSystem
from scout_dask_io.store.fingerprint import CLOCKS_NS
from scout_dask_io.store.source import open_source

KEYS = {"key": "some-key", "secret": "hush-hush", "region": "eu-south-1"}
DATA = np.arange(6 * 8 * 10, dtype="u2").reshape(6, 8, 10)
HERE = {"endpoint_url": "http://127.0.0.1:9"}


def by_fsspec(url: str, options: dict[str, Any]) -> bool:
    return isinstance(as_remote(locate(url, options)).client, FileSystem)


@pytest.mark.parametrize(
    ("url", "more", "fsspec_alone"),
    [
        ("s3://b/a.zarr", {}, False),
        ("s3a://b/a.zarr", {"anon": True}, False),
        ("s3://b/a.zarr", {"client_kwargs": {"region_name": "eu-west-3"}}, False),
        ("s3://b/a.zarr", {"config_kwargs": {"retries": {"max_attempts": 3}}}, False),
        ("s3://b/a.zarr", {"client_kwargs": {"verify": False}}, True),
        ("s3://b/a.zarr", {"s3_additional_kwargs": {"ACL": "private"}}, True),
        ("s3://b//a.zarr", {}, True),
        ("s3://b/./a.zarr", {}, True),
        ("memory://b/a.zarr", None, True),
    ],
)
def test_obstore_is_asked_for_what_it_can_be_told(url: str, more: Any, fsspec_alone: bool):
    pytest.importorskip("obstore")
    options = {} if more is None else {**KEYS, **HERE, **more}
    assert by_fsspec(url, options) == fsspec_alone


def test_an_option_that_is_not_known_is_named_and_so_are_those_that_are():
    with pytest.raises(ArgumentError, match=r"secrett.*Known are key, secret, token") as caught:
        locate("s3://b/a.zarr", {**KEYS, "secrett": "hush-hush"})
    assert "hush" not in str(caught.value)


def test_options_of_obstore_are_those_of_s3fs_by_other_names():
    own = {"access_key_id": "k", "secret_access_key": "s", "session_token": "t", "region": "r"}
    assert for_s3fs({**own, "endpoint": "http://x", "client_options": {}}) == {
        "key": "k", "secret": "s", "token": "t", "endpoint_url": "http://x",
        "client_kwargs": {"region_name": "r"},
    }  # fmt: skip


def test_secrets_are_in_no_text_and_what_is_not_given_does_not_travel():
    place = as_remote(locate("s3://b/a.zarr", {**KEYS, **HERE}))
    assert "hush" not in f"{place!r}{place.client!r}{vars(place.client)!r}{place}"
    bare = as_remote(locate("s3://b/a.zarr", {"anon": True, **HERE}))
    _ = bare.client
    sent = pickle.loads(pickle.dumps(bare))
    assert sent.__dict__.keys() == {"url", "options", "entry"}


@pytest.mark.parametrize(("status", "kind"), [(403, PermissionError), (404, FileNotFoundError)])
def test_what_a_store_refuses_is_pythons_error_of_that_name(
    lab: Lab, status: int, kind: type[Exception]
):
    with faulty_proxy(lab.address, lambda *_: 403 if status == 403 else None) as address:
        place = as_remote(locate(f"{lab.url}/x", {**lab.options, "endpoint_url": address}))
        for ask in (place.client.get, place.client.about):
            with pytest.raises(kind) as caught:
                ask(place.key)
            assert "Debug source" not in str(caught.value)
        if kind is PermissionError:
            with pytest.raises(ChunkReadError, match="PermissionError"):
                list(place.find())


def test_an_answer_that_comes_by_half_is_asked_for_again(lab: Lab):
    cut: set[str] = set()

    def fault(method: str, path: str) -> Any:
        if method != "GET" or path in cut:
            return None
        cut.add(path)
        return "half"

    lab.put("deep/a.zarr/there", b"1234567890")
    with faulty_proxy(lab.address, fault) as address:
        place = as_remote(locate(lab.url, {**lab.options, "endpoint_url": address}))
        assert place.read_many(["there", "absent"]) == {"there": b"1234567890", "absent": None}
        assert list(place.find()) == [("there", 10)]
    assert len(cut) >= 3


def test_no_request_asks_whether_it_may_be_sent(lab: Lab):
    with faulty_proxy(lab.address, lambda *_: None, seen := [], expected := []) as address:
        options = {**lab.options, "endpoint_url": address}
        place = as_remote(locate(lab.url, options))
        for client in (place.client, FileSystem(place.fs)):
            client.put(f"{place.key}/0/0", b"12345")
    assert [r.method for r in seen if r.name == "0"] == ["PUT", "PUT"]
    assert not expected


def test_a_slash_that_stands_for_a_folder_is_no_object(lab: Lab):
    lab.put("deep/a.zarr/0/0", b"1")
    lab.put("deep/a.zarr/empty", b"")
    for folder in ("deep/a.zarr/", "deep/a.zarr/0/", "deep/a.zarr/1/"):
        lab.fs.call_s3("put_object", Bucket=lab.bucket, Key=folder, Body=b"")
    place = locate(lab.url, lab.options)
    assert list(place.find()) == [("0/0", 1), ("empty", 0)]
    assert [(c.name, is_folder) for c, is_folder in place.entries()][:2] == [
        ("0", True),
        ("1", True),
    ]


def test_objects_are_removed_where_a_store_removes_none_in_bulk(lab: Lab):
    def fault(method: str, path: str) -> Any:
        return 403 if method == "POST" else None

    for n in range(3):
        lab.put(f"deep/a.zarr/{n}", b"1")
    with faulty_proxy(lab.address, fault) as address:
        place = as_remote(locate(lab.url, {**lab.options, "endpoint_url": address}))
        if isinstance(place.client, FileSystem):
            pytest.skip("s3fs has but the request in bulk")
        place.remove(["0", "2", "never"])
    assert lab.names() == ["1"]


def _sum(url: str, options: dict[str, Any]) -> int:
    return int(io.read_zarr(url, storage_options=options).sum().compute())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.in_process
def test_a_forked_child_reads_what_its_parent_reads(lab: Lab):
    io.write_zarr(lab.url, DATA, (3, 4, 5), storage_options=lab.options)
    assert _sum(lab.url, lab.options) == DATA.sum()
    with get_context("fork").Pool(1) as pool:
        assert pool.apply_async(_sum, (lab.url, lab.options)).get(60) == DATA.sum()


def test_a_foreign_array_that_was_replaced_is_told_by_the_age_of_its_chunks(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    import zarr

    def write(data: np.ndarray) -> None:
        store = zarr.storage.FsspecStore.from_url(lab.url, storage_options=dict(lab.options))
        zarr.create_array(store, data=data, chunks=(3, 4, 5), zarr_format=2, overwrite=True)

    write(DATA)
    real = time.time_ns
    asked: list[str] = []
    monkeypatch.setattr("time.time_ns", lambda: real() + CLOCKS_NS + 10**10)
    source = open_source(locate(lab.url, lab.options))
    monkeypatch.setattr(type(source.fingerprint), "check", lambda self: asked.append("looked"))
    assert (source.read(tuple(slice(0, n) for n in DATA.shape)) == DATA).all()
    is_told = not isinstance(as_remote(locate(lab.url, lab.options)).client, FileSystem)
    assert asked == ([] if is_told else ["looked"])
    monkeypatch.undo()
    fresh = open_source(locate(lab.url, lab.options))
    write(DATA[:, :4])
    with pytest.raises(SourceChangedError, match="no longer the array"):
        fresh.read(tuple(slice(0, n) for n in DATA.shape))


def test_a_bucket_that_is_not_there_is_said_to_be_missing(lab: Lab):
    pytest.importorskip("obstore")
    url = f"s3://{lab.bucket}-other/a.zarr"
    for ask in (
        lambda: io.read_zarr(url, storage_options=lab.options),
        lambda: io.write_zarr(url, DATA, axes="zyx", storage_options=lab.options),
    ):
        with pytest.raises(OSError, match="there is no such bucket: check its name") as caught:
            ask()
        assert "<" not in str(caught.value)


def test_what_a_server_says_in_xml_is_given_in_words(lab: Lab):
    pytest.importorskip("obstore")
    place = as_remote(locate(f"{lab.url}/x", lab.options))
    lab.put("deep/a.zarr/x", b"abc")
    with pytest.raises(OSError, match="InvalidRange") as caught:
        place.client.get(place.key, 10, 20)
    assert "<" not in str(caught.value)


def test_an_empty_bucket_takes_an_array_at_its_root(lab: Lab):
    url = f"s3://{lab.bucket}"
    io.write_zarr(url, DATA, axes="zyx", chunks=4, storage_options=lab.options)
    found = io.read_zarr(url, storage_options=lab.options).compute()
    np.testing.assert_array_equal(found, DATA)
    with pytest.raises(TargetExistsError, match="already holds a Zarr array"):
        io.write_zarr(url, DATA, axes="zyx", chunks=4, storage_options=lab.options)
