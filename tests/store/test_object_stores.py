"""Arrays in object stores: whole or refused, and resumed, whatever the network does."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import fsspec
import numpy as np
import pytest
import zarr
from helpers import REPO, command, make_volume, shared_data, write_planes
from object_store import Lab, faulty_proxy, options

import scout_dask_io as io
from scout_dask_io.errors import (
    ArgumentError,
    ChunkReadError,
    LayoutError,
    MemoryLimitError,
    PathNotFoundError,
    ResumeError,
    SourceChangedError,
    TargetExistsError,
    WriteError,
)
from scout_dask_io.files.location import locate
from scout_dask_io.files.remote import is_url
from scout_dask_io.store.journal import CHUNK_RECORD

SHAPE, CHUNKS, SHARDS = (11, 30, 41), (4, 8, 16), (8, 16, 32)
N_CHUNKS = 3 * 4 * 3


@pytest.fixture
def volume() -> np.ndarray:
    return make_volume(SHAPE)


class Stopping:
    """Blocks of a volume; computing fails once so many are through."""

    def __init__(self, volume: np.ndarray, after: int) -> None:
        self.computed: list[tuple[int, ...]] = []
        self.after = after
        blocks = da.from_array(volume, chunks=(4, 16, 41), name="volume")
        meta = np.empty((0, 0, 0), volume.dtype)
        self.array = da.map_blocks(self.take, blocks, dtype="u2", name="stopping", meta=meta)

    def take(self, block: np.ndarray, block_info: Any = None) -> np.ndarray:
        if len(self.computed) >= self.after:
            raise RuntimeError("stopped")
        self.computed.append(block_info[0]["chunk-location"])
        return block


@pytest.mark.parametrize(
    "settings", [{}, {"zarr_format": 3}, {"zarr_format": 3, "shards": SHARDS}], ids=str
)
def test_what_is_written_to_s3_is_read_by_zarr_and_by_us(
    lab: Lab, volume: np.ndarray, settings: dict[str, Any]
) -> None:
    array = io.write_zarr(
        lab.url, volume, CHUNKS, attributes={"a": 1}, storage_options=lab.options, **settings
    )
    assert (array.shape, array.chunks, array.attrs.asdict()) == (SHAPE, CHUNKS, {"a": 1})
    np.testing.assert_array_equal(lab.by_zarr(), volume)
    lazy = io.read_zarr(lab.url, storage_options=lab.options)
    assert (lazy.shape, lazy.dtype) == (SHAPE, np.dtype("u2"))
    np.testing.assert_array_equal(lazy.compute(), volume)
    np.testing.assert_array_equal(lazy[3:9, 5:30, 7].compute(), volume[3:9, 5:30, 7])
    own = [key for key in lab.names() if key.startswith(".scout")]
    assert own == [".scout-manifest"]
    report = io.verify(lab.url, storage_options=lab.options)
    assert (report.ok, report.n_empty) == (True, 0)
    assert io.verify(lab.url, deep=True, storage_options=lab.options).ok


def test_the_brain_goes_to_s3_and_back(lab: Lab, tmp_path: Path) -> None:
    brain = shared_data("brain", "ch0")
    report = io.convert(brain, lab.url, chunks=(16, 128, 128), storage_options=lab.options)
    assert report.path == lab.url
    assert report.stored_nbytes == sum(lab.fs.sizes(lab.fs.find(f"{lab.bucket}/deep/a.zarr")))
    assert io.verify(brain, lab.url, storage_options=lab.options).equal
    io.convert(lab.url, tmp_path / "back.zarr", storage_options=lab.options)
    assert io.verify(brain, tmp_path / "back.zarr").equal
    found = io.info(lab.url, storage_options=lab.options)
    assert (found.kind, found.shape, found.dtype) == ("Zarr array", (30, 510, 667), "uint16")
    assert (found.n_chunks, found.n_present) == (48, 48)
    assert found.stored_nbytes == report.stored_nbytes


def test_a_damaged_a_missing_and_a_foreign_object_are_found(lab: Lab, volume: np.ndarray) -> None:
    volume[4:8, :8, :16] = 0
    io.write_zarr(lab.url, volume, CHUNKS, storage_options=lab.options)
    data = bytearray(lab.fs.cat_file(f"{lab.url}/0/0/0"))
    data[-1] ^= 1
    lab.put("deep/a.zarr/0/0/0", bytes(data))
    lab.put("deep/a.zarr/1/0/0", bytes(data))
    lab.fs.rm_file(f"{lab.url}/2/3/2")
    report = io.verify(lab.url, storage_options=lab.options)
    assert [(bad.kind, bad.index) for bad in report.bad] == [
        ("corrupt", (0, 0, 0)), ("extra", (1, 0, 0)), ("missing", (2, 3, 2)),
    ]  # fmt: skip
    lab.put("deep/a.zarr/0/0/0", bytes(data[:20]))
    with pytest.raises(ChunkReadError, match=lab.url):
        io.read_zarr(lab.url, storage_options=lab.options)[0].compute()


def test_an_unfinished_array_is_refused_and_says_how_to_go_on(lab: Lab, volume: np.ndarray) -> None:
    data = Stopping(volume, after=3)
    settings: dict[str, Any] = {"storage_options": lab.options, "nb_workers": 1}
    with pytest.raises(RuntimeError, match="stopped") as failed:
        io.write_zarr(lab.url, data.array, CHUNKS, **settings)
    assert "3 of 6 write units are finished" in " ".join(failed.value.__notes__)
    keys = lab.names()
    assert ".scout-unfinished" in keys
    assert not {".zarray", ".zattrs", "zarr.json", ".scout-manifest"} & set(keys)
    for refuse in (io.open, io.read_zarr, io.info, io.verify):
        with pytest.raises(PathNotFoundError, match=r"unfinished write.*resume=True"):
            refuse(lab.url, storage_options=lab.options)
    with pytest.raises(TargetExistsError, match=r"unfinished write.*resume=True"):
        io.write_zarr(lab.url, volume, CHUNKS, storage_options=lab.options)
    with pytest.raises(TargetExistsError, match="unfinished write"):
        io.new_zarr(lab.url, SHAPE, CHUNKS, "u2", storage_options=lab.options)
    with pytest.raises(ResumeError, match="codec was"):
        io.write_zarr(lab.url, data.array, CHUNKS, codec="lz4", resume=True, **settings)
    assert lab.names() == keys
    before = set(data.computed)
    data.computed.clear()
    data.after = 99
    io.write_zarr(lab.url, data.array, CHUNKS, resume=True, **settings)
    assert set(data.computed).isdisjoint(before)
    assert len(data.computed) + len(before) == 6
    np.testing.assert_array_equal(lab.by_zarr(), volume)
    assert [k for k in lab.names() if k.startswith(".scout")] == [".scout-manifest"]
    data.computed.clear()
    io.write_zarr(lab.url, data.array, CHUNKS, resume=True, **settings)
    assert data.computed == []


def test_a_write_that_fails_before_a_unit_is_finished_leaves_nothing(
    lab: Lab, volume: np.ndarray
) -> None:
    data = Stopping(volume, after=0)
    with pytest.raises(RuntimeError, match="stopped"):
        io.write_zarr(lab.url, data.array, CHUNKS, storage_options=lab.options)
    assert lab.names() == []


def test_the_marker_is_put_first_and_removed_last(lab: Lab, volume: np.ndarray) -> None:
    seen: list[tuple[str, str]] = []

    def note(method: str, path: str) -> None:
        if method in ("PUT", "DELETE", "POST"):
            seen.append((method, path.partition("a.zarr/")[2].partition("?")[0]))

    with faulty_proxy(lab.address, note) as address:
        io.write_zarr(lab.url, volume, CHUNKS, storage_options=options(address))
    assert seen[0] == ("PUT", ".scout-unfinished")
    assert seen[-1][0] in ("DELETE", "POST")
    order = [key for method, key in seen if method == "PUT"]
    chunks = [at for at, key in enumerate(order) if key[0].isdigit()]
    assert len(chunks) == N_CHUNKS
    assert max(chunks) < order.index(".scout-manifest") < order.index(".zarray")


@pytest.mark.slow
def test_a_publication_that_was_cut_off_is_finished_by_resume(lab: Lab, volume: np.ndarray) -> None:
    cut = {"on": True}

    def fault(method: str, path: str) -> Any:
        return 500 if cut["on"] and method == "PUT" and path.endswith("/.zarray") else None

    with faulty_proxy(lab.address, fault) as address:
        settings: dict[str, Any] = {"storage_options": options(address)}
        with pytest.raises(WriteError, match=r"\.zarray"):
            io.write_zarr(lab.url, volume, CHUNKS, **settings)
        assert ".scout-manifest" in lab.names()
        with pytest.raises(PathNotFoundError, match="unfinished"):
            io.read_zarr(lab.url, storage_options=lab.options)
        cut["on"] = False
        io.write_zarr(lab.url, volume, CHUNKS, resume=True, **settings)
    np.testing.assert_array_equal(lab.by_zarr(), volume)
    assert [k for k in lab.names() if k.startswith(".scout")] == [".scout-manifest"]


FAULTS = {"an error of the server": 500, "throttling": 503, "a cut connection": "cut"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_faults_that_pass_are_overcome_by_the_client(
    lab: Lab, volume: np.ndarray, kind: str
) -> None:
    met: Counter[tuple[str, str]] = Counter()

    def fault(method: str, path: str) -> Any:
        # Two objects meet it once each, when it is written and when it is read.
        met[method, path] += 1
        chunk = path.partition("a.zarr/")[2]
        hit = chunk in ("0/1/2", "2/0/0")
        return FAULTS[kind] if hit and met[method, path] == 1 else None

    with faulty_proxy(lab.address, fault) as address:
        settings: dict[str, Any] = {"storage_options": options(address)}
        io.write_zarr(lab.url, volume, CHUNKS, **settings)
        np.testing.assert_array_equal(io.read_zarr(lab.url, **settings).compute(), volume)
    assert any(n > 1 for n in met.values())
    np.testing.assert_array_equal(lab.by_zarr(), volume)


@pytest.mark.slow
def test_a_store_that_goes_away_in_the_middle_ends_the_write_and_resume_finishes_it(
    lab: Lab, volume: np.ndarray
) -> None:
    down, puts = {"after": 14}, []

    def fault(method: str, path: str) -> Any:
        if method == "PUT":
            puts.append(path)
        return "cut" if len(puts) > down["after"] else None

    data = da.from_array(volume, chunks=(4, 16, 41)) + np.uint16(0)
    with faulty_proxy(lab.address, fault) as address:
        settings: dict[str, Any] = {"storage_options": options(address), "nb_workers": 1}
        with pytest.raises(WriteError, match=rf"{lab.url}/.*resume=True"):
            io.write_zarr(lab.url, data, CHUNKS, **settings)
        with pytest.raises(PathNotFoundError, match="unfinished"):
            io.open(lab.url, storage_options=lab.options)
        written = {p.partition("a.zarr/")[2] for p in puts[: down["after"]]}
        finished = {k for k in written if k.startswith(".scout-journal")}
        assert finished
        puts.clear()
        down["after"] = 10**9
        io.write_zarr(lab.url, data, CHUNKS, resume=True, **settings)
    again = {p.partition("a.zarr/")[2].partition("?")[0] for p in puts}
    assert not again & finished
    np.testing.assert_array_equal(lab.by_zarr(), volume)


@pytest.mark.slow
def test_a_process_that_is_killed_in_the_middle_is_resumed_by_another(
    lab: Lab, volume: np.ndarray, tmp_path: Path
) -> None:
    write_planes(tmp_path / "planes", volume)
    code = """
import json, os, sys, threading, scout_dask_io as io
from scout_dask_io.store.remote_transaction import RemoteTransaction
src, url, given = sys.argv[1:]
finish_unit, noted, one = RemoteTransaction.finish_unit, [], threading.Lock()
def killed(self, level, unit, *rest):
    with one:
        finish_unit(self, level, unit, *rest)
        noted.append(unit)
        if len(noted) == 2:
            os.kill(os.getpid(), 9)
RemoteTransaction.finish_unit = killed
import scout_dask_io.core.plan as plan
plan.UNIT_NBYTES = 4096
io.write_zarr(
    url, io.imread_folder(src), (4, 8, 16), nb_workers=1, storage_options=json.loads(given)
)
"""
    args = [sys.executable, "-c", code, str(tmp_path / "planes"), lab.url, json.dumps(lab.options)]
    env = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(args, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    with pytest.raises(PathNotFoundError, match="unfinished"):
        io.read_zarr(lab.url, storage_options=lab.options)
    noted = [k for k in lab.names() if k.startswith(".scout-journal")]
    assert len(noted) == 2
    stamps = {k: lab.fs.info(f"{lab.url}/{k}")["LastModified"] for k in lab.names() if "/" in k}
    records = [base64.b64decode(lab.fs.cat_file(f"{lab.url}/{k}").split()[1]) for k in noted]
    lazy = io.imread_folder(tmp_path / "planes")
    io.write_zarr(lab.url, lazy, CHUNKS, resume=True, storage_options=lab.options)
    np.testing.assert_array_equal(lab.by_zarr(), volume)
    there = [k for k in stamps if k[0].isdigit()]
    kept = [k for k in there if lab.fs.info(f"{lab.url}/{k}")["LastModified"] == stamps[k]]
    # Those of the units that were noted; of others some may have been on their way.
    assert len(kept) == sum(map(len, records)) // CHUNK_RECORD.itemsize > 0


def test_overwrite_replaces_an_array_and_nothing_foreign(lab: Lab, volume: np.ndarray) -> None:
    io.write_zarr(lab.url, volume, CHUNKS, storage_options=lab.options)
    lab.put("deep/a.zarr.txt", b"beside")
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        io.write_zarr(lab.url, volume, CHUNKS, storage_options=lab.options)
    small = volume[:4, :8, :16] + 1
    io.write_zarr(lab.url, small, CHUNKS, overwrite=True, storage_options=lab.options)
    assert lab.names() == [".scout-manifest", ".zarray", ".zattrs", "0/0/0"]
    np.testing.assert_array_equal(lab.by_zarr(), small)
    assert lab.fs.cat_file(f"{lab.bucket}/deep/a.zarr.txt") == b"beside"
    lab.put("deep/a.zarr/notes.txt", b"mine")
    before = lab.names()
    for write in (
        lambda: io.write_zarr(lab.url, volume, overwrite=True, storage_options=lab.options),
        lambda: io.new_zarr(lab.url, SHAPE, None, "u2", mode="w", storage_options=lab.options),
        lambda: io.open(lab.url, mode="w", storage_options=lab.options),
        lambda: io.write_zarr(
            f"s3://{lab.bucket}/deep", volume, overwrite=True, storage_options=lab.options
        ),
    ):
        with pytest.raises(TargetExistsError, match="never removed"):
            write()
    assert lab.names() == before


def test_an_array_is_not_overwritten_by_what_is_read_from_it(lab: Lab, volume: np.ndarray) -> None:
    io.write_zarr(lab.url, volume, CHUNKS, storage_options=lab.options)
    lazy = io.read_zarr(lab.url, storage_options=lab.options)
    for data in (lazy, lazy + 1):
        with pytest.raises(ArgumentError, match="removes before they are written"):
            io.write_zarr(lab.url, data, CHUNKS, overwrite=True, storage_options=lab.options)
    np.testing.assert_array_equal(lab.by_zarr(), volume)


def test_an_array_that_was_replaced_is_an_error_not_a_mixture(lab: Lab, volume: np.ndarray) -> None:
    io.write_zarr(lab.url, volume, CHUNKS, storage_options=lab.options)
    lazy = io.read_zarr(lab.url, storage_options=lab.options)
    name = lazy.name
    io.write_zarr(lab.url, volume + 1, CHUNKS, overwrite=True, storage_options=lab.options)
    with pytest.raises(SourceChangedError, match="no longer the array"):
        lazy.compute()
    assert io.read_zarr(lab.url, storage_options=lab.options).name != name


def test_a_nested_array_that_does_not_say_so_is_refused_not_read_as_zeros(
    lab: Lab, volume: np.ndarray
) -> None:
    io.write_zarr(lab.url, volume, CHUNKS, storage_options=lab.options)
    metadata = json.loads(lab.fs.cat_file(f"{lab.url}/.zarray"))
    del metadata["dimension_separator"]
    lab.put("deep/a.zarr/.zarray", json.dumps(metadata).encode())
    assert not lab.by_zarr().any()
    with pytest.raises(LayoutError, match="dimension_separator"):
        io.read_zarr(lab.url, storage_options=lab.options)


def test_flat_chunks_that_are_said_to_be_nested_are_refused_before_fill_is_given_for_them(
    lab: Lab, volume: np.ndarray
) -> None:
    pytest.importorskip("obstore")  # stores that take one request at a time look on opening
    store = zarr.storage.FsspecStore.from_url(lab.url, storage_options=dict(lab.options))
    keys = {"name": "v2", "separator": "."}
    zarr.create_array(store, data=volume, chunks=CHUNKS, zarr_format=2, chunk_key_encoding=keys)
    metadata = json.loads(lab.fs.cat_file(f"{lab.url}/.zarray"))
    lab.put("deep/a.zarr/.zarray", json.dumps({**metadata, "dimension_separator": "/"}).encode())
    reach = {"storage_options": lab.options}
    lazy = io.read_zarr(lab.url, **reach)
    for part in (lazy, lazy[:1, :1, :1], pickle.loads(pickle.dumps(lazy))):
        with pytest.raises(LayoutError, match=r"chunks are flat, and \.zarray says '/'"):
            part.compute()
    with pytest.raises(LayoutError, match="chunks are flat"):
        io.info(lab.url, **reach)
    # The way out that the message names.
    assert io.repair(lab.url, **reach).actions
    np.testing.assert_array_equal(io.read_zarr(lab.url, **reach).compute(), volume)


def test_an_array_of_others_without_a_chunk_is_fill(lab: Lab) -> None:
    store = zarr.storage.FsspecStore.from_url(lab.url, storage_options=dict(lab.options))
    keys = {"name": "v2", "separator": "/"}
    zarr.create_array(
        store, shape=(8, 8), chunks=(4, 4), dtype="u1", fill_value=7, zarr_format=2,
        chunk_key_encoding=keys,
    )  # fmt: skip
    lazy = io.read_zarr(lab.url, storage_options=lab.options)
    assert (lazy.compute() == 7).all()


def test_new_zarr_and_open_work_on_a_url(lab: Lab, volume: np.ndarray) -> None:
    settings: dict[str, Any] = {"storage_options": lab.options}
    array = io.new_zarr(lab.url, SHAPE, CHUNKS, "u2", **settings)
    assert lab.names() == [".zarray", ".zattrs"]
    assert json.loads(lab.fs.cat_file(f"{lab.url}/.zarray"))["dimension_separator"] == "/"
    array[...] = volume
    np.testing.assert_array_equal(io.open(lab.url, mode="r", **settings)[...], volume)
    with pytest.raises(TargetExistsError, match="already holds"):
        io.new_zarr(lab.url, SHAPE, CHUNKS, "u2", **settings)
    assert io.new_zarr(lab.url, SHAPE, CHUNKS, "u2", mode="a", **settings)[0, 0, 0] == 1
    with pytest.raises(TargetExistsError, match="an array of dtype uint16, asked for uint8"):
        io.new_zarr(lab.url, SHAPE, CHUNKS, "u1", mode="a", **settings)
    like = io.new_zarr_like(f"s3://{lab.bucket}/like", array, **settings)
    assert (like.shape, like.chunks, like.dtype) == (SHAPE, CHUNKS, np.dtype("u2"))
    with pytest.raises(PathNotFoundError, match="no Zarr array or group"):
        io.open(f"s3://{lab.bucket}/none", mode="r", **settings)
    group = io.open(f"s3://{lab.bucket}/group", **settings)
    group.create_array("a", shape=(3,), chunks=(2,), dtype="u1")
    assert io.info(f"s3://{lab.bucket}/group", **settings).members == ("a: 3, uint8, chunks 2",)


def test_blocks_that_would_go_through_scratch_files_are_refused(
    lab: Lab,
) -> None:
    planes = da.zeros((64, 512, 512), dtype="u2", chunks=(1, 512, 512))
    with pytest.raises(MemoryLimitError, match="no disk"):
        io.write_zarr(lab.url, planes, max_mem="16MB", nb_workers=1, storage_options=lab.options)
    assert lab.names() == []


def test_a_bucket_that_is_not_there_or_not_reached_is_named(lab: Lab, volume: np.ndarray) -> None:
    with pytest.raises(PathNotFoundError, match="s3://nowhere"):
        io.read_zarr("s3://nowhere-at-all/a.zarr", storage_options=lab.options)
    with pytest.raises(PathNotFoundError, match="s3://nowhere"):
        io.write_zarr("s3://nowhere-at-all/a.zarr", volume, storage_options=lab.options)
    closed = options("http://127.0.0.1:9")
    with pytest.raises(ChunkReadError, match="s3://closed"):
        io.read_zarr("s3://closed/a.zarr", storage_options=closed)


def test_local_paths_stay_local_whatever_they_look_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: np.ndarray
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("s3:", "s3:/b/a", "a::b", "odd://a", "./s3://b/a", "file::s3://b"):
        assert not is_url(name)
        assert locate(name) == Path(os.path.abspath(name))
    for path in (Path("s3://b/a"), Path("memory://a")):
        assert isinstance(locate(path), Path)
    (tmp_path / "s3:").mkdir()
    io.write_zarr("s3:/a.zarr", volume, CHUNKS)
    assert (tmp_path / "s3:" / "a.zarr" / ".zarray").is_file()
    io.write_zarr(f"file://{tmp_path}/f.zarr", volume, CHUNKS)
    assert (tmp_path / "f.zarr" / ".zarray").is_file()
    with pytest.raises(ArgumentError, match="local path"):
        io.read_zarr("a.zarr", storage_options={"anon": True})
    with pytest.raises(ArgumentError, match="is a URL"):
        io.imsave("s3://b/a.tif", volume)


def test_any_store_of_fsspec_will_do(volume: np.ndarray) -> None:
    io.write_zarr("memory://lab/a.zarr", volume, CHUNKS, zarr_format=3, shards=SHARDS)
    np.testing.assert_array_equal(io.read_zarr("memory://lab/a.zarr").compute(), volume)
    assert io.verify("memory://lab/a.zarr").ok
    assert fsspec.filesystem("memory").exists("/lab/a.zarr/zarr.json")


def test_secrets_are_not_shown(lab: Lab, volume: np.ndarray) -> None:
    io.write_zarr(lab.url, volume, CHUNKS, storage_options=lab.options)
    found = locate(lab.url, {**lab.options, "secret": "hush"})
    assert "hush" not in repr(found) + str(found)
    stored = b"".join(lab.fs.cat_file(f"{lab.url}/{k}") for k in lab.names())
    assert b"endpoint" not in stored


def test_the_command_line_takes_urls_and_what_reaches_them(lab: Lab, tmp_path: Path) -> None:
    write_planes(tmp_path / "planes", make_volume(SHAPE))
    given = []
    for key in ("key", "secret", "endpoint_url"):
        given += ["--storage-option", f"{key}={lab.options[key]}"]
    plan = command("convert", str(tmp_path / "planes"), lab.url, "--dry-run", *given)
    assert lab.url in plan
    assert lab.names() == []
    command("convert", str(tmp_path / "planes"), lab.url, "--chunks", "4,8,16", *given)
    np.testing.assert_array_equal(lab.by_zarr(), make_volume(SHAPE))
    as_json = ["--storage-option", json.dumps(lab.options)]
    assert "equal" in command("verify", str(tmp_path / "planes"), lab.url, *as_json)
    assert "36 of 36 chunks" in command("info", lab.url, *given)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local,
        Client(local) as client,
    ):
        yield client


@pytest.mark.cluster
@pytest.mark.slow
def test_a_cluster_writes_and_reads_s3(
    lab: Lab, volume: np.ndarray, cluster: Any, tmp_path: Path
) -> None:
    data = da.from_array(volume, chunks=(4, 16, 41)) + np.uint16(0)
    io.write_zarr(lab.url, data, CHUNKS, storage_options=lab.options)
    np.testing.assert_array_equal(lab.by_zarr(), volume)
    lazy = io.read_zarr(lab.url, storage_options=lab.options, chunks=(4, 16, -1))
    np.testing.assert_array_equal(lazy.compute(), volume)
    assert io.verify(lab.url, storage_options=lab.options).ok
    # Chunks of odd extents: the lower level is read back from the one above, by its tasks.
    image = f"s3://{lab.bucket}/image.zarr"
    io.write_ome_zarr(image, data, (5, 9, 17), levels=2, storage_options=lab.options)
    low = io.read_zarr(image, level=1, storage_options=lab.options)
    io.write_ome_zarr(tmp_path / "a.zarr", volume, (5, 9, 17), levels=2)
    np.testing.assert_array_equal(low.compute(), io.read_zarr(tmp_path / "a.zarr", level=1))
    assert io.verify(image, storage_options=lab.options).ok
