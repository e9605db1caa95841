"""How a write ends: what is on the disk or in the store, in which order, by how many requests."""

from __future__ import annotations

import errno
import os
import pickle
import re
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from helpers import make_volume, write_planes
from object_store import Lab, Memory, faulty_proxy, options

import scout_dask_io as io
from scout_dask_io.core import plan as plan_module
from scout_dask_io.errors import WriteError
from scout_dask_io.store import manifest, metadata
from scout_dask_io.store.manifest import read_manifest

SHAPE, CHUNKS = (16, 32, 40), (4, 16, 16)


class Operations:
    """What is renamed and synced under a folder, in order."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, str]] = []
        for name in ("fsync", "replace", "rename", "mkdir"):
            self._note(root, name, monkeypatch)

    def _note(self, root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        real = getattr(os, name)

        def call(first: Any, *args: Any, **kwargs: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else str(first)
            done = real(first, *args, **kwargs)
            # A rename is known by the name that it gives.
            named = str(args[0]) if name in ("replace", "rename") else path
            self.log.append((name, os.path.relpath(named, root)))
            return done

        monkeypatch.setattr(os, name, call)

    def after(self, k: int, what: str, path: str) -> int:
        """Give where an operation comes after the k-th, or fail."""
        for at in range(k + 1, len(self.log)):
            if self.log[at] == (what, path):
                return at
        raise AssertionError(f"no {what} of {path} after {self.log[k]}: {self.log[k:]}")


def _blocks(data: np.ndarray) -> da.Array:
    """Give data as blocks of a chunk, so that each is a unit."""
    return da.from_array(data, chunks=CHUNKS) + np.zeros((), data.dtype)


def test_a_region_of_many_units_writes_the_manifest_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_volume(SHAPE, seed=1), make_volume(SHAPE, seed=2)
    io.write_zarr(tmp_path / "a.zarr", old, CHUNKS)
    written: list[Any] = []
    real = manifest.write_manifest

    def counted(*args: Any, **kwargs: Any) -> None:
        written.append(args)
        real(*args, **kwargs)

    monkeypatch.setattr(manifest, "write_manifest", counted)
    units: list[int] = []
    region = np.s_[4:16, 16:32, :]
    io.write_zarr(
        tmp_path / "a.zarr",
        _blocks(new[region]),
        region=region,
        progress=lambda done, *_: units.append(done),
    )
    assert units[-1] == 9
    # When it begins, and when all is in.
    assert len(written) == 2
    old[region] = new[region]
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "a.zarr"), old)
    assert io.verify(tmp_path / "a.zarr").ok


@pytest.mark.posix
@pytest.mark.parametrize("region", [None, np.s_[4:12, :, 16:40]], ids=["whole", "region"])
def test_durable_syncs_the_names_of_chunks_before_their_unit_is_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: Any
) -> None:
    volume = make_volume(SHAPE)
    if region is not None:
        io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS)
    ops = Operations(tmp_path, monkeypatch)
    data = _blocks(volume if region is None else volume[region] + np.uint16(1))
    io.write_zarr(
        tmp_path / "a.zarr",
        data,
        **({"chunks": CHUNKS} if region is None else {"region": region}),
        nb_workers=1,
        durable=True,
    )
    # What is whole from the start is written in its place, what stands is replaced.
    come = "fsync" if region is None else "replace"
    chunks = [
        (k, path)
        for k, (what, path) in enumerate(ops.log)
        if what == come and re.search(r"/\d+/\d+/\d+$", path)
    ]
    assert len(chunks) == (24 if region is None else 8)
    for k, path in chunks:
        synced = k
        for folder in (path.rsplit("/", n)[0] for n in (1, 2, 3)):
            synced = ops.after(synced, "fsync", folder)
        noted = [n for n in range(k, len(ops.log)) if ops.log[n][1].endswith(".log")]
        assert synced < noted[0], f"{path}: in the journal before its name is on the disk"


@pytest.mark.posix
def test_durable_syncs_the_manifest_of_a_region_before_and_after_its_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make_volume(SHAPE)
    io.write_zarr(tmp_path / "a.zarr", volume, CHUNKS)
    ops = Operations(tmp_path, monkeypatch)
    io.write_zarr(tmp_path / "a.zarr", volume[:4] + 1, region=np.s_[:4], durable=True)
    puts = [k for k, e in enumerate(ops.log) if e == ("replace", "a.zarr/.scout-manifest")]
    chunks = [k for k, (_, path) in enumerate(ops.log) if path == "a.zarr/0/0/0"]
    assert len(puts) == 2
    assert puts[0] < chunks[0] < puts[1]
    for k in puts:
        what, draft = ops.log[k - 1]
        assert (what, draft[-4:], draft[:14]) == ("fsync", ".tmp", "a.zarr/.scout-")
        ops.after(k, "fsync", "a.zarr")
    ops.log.clear()
    io.write_zarr(tmp_path / "a.zarr", volume[:4] + 2, region=np.s_[:4])
    assert not [path for what, path in ops.log if what == "fsync"]


@pytest.mark.posix
def test_durable_syncs_new_parents_into_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = Operations(tmp_path, monkeypatch)
    io.write_zarr(tmp_path / "new" / "deep" / "a.zarr", make_volume((3, 4, 5)), durable=True)
    for path, above in (("new", "."), ("new/deep", "new")):
        ops.after(ops.log.index(("mkdir", path)), "fsync", above)


def test_a_disk_that_is_full_in_the_journal_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, units = os.write, []

    def write(fd: int, data: Any) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".log"):
            if len(data) < 10:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(fd, bytes(data)[: len(data) - 5])
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(WriteError, match=r".journal.\S+\.log cannot be written: No space"):
        io.write_zarr(
            tmp_path / "a.zarr",
            _blocks(make_volume(SHAPE)),
            CHUNKS,
            nb_workers=1,
            progress=lambda done, *_: units.append(done),
        )
    assert set(units) <= {0}
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def filled(tmp_path: Path) -> list[da.Array]:
    """Give two stacks, each with a plane that could not be read."""
    found = []
    for name in ("one", "two"):
        paths = write_planes(tmp_path / name, make_volume((4, 16, 16)))
        paths[1 if name == "one" else 2].write_bytes(b"")
        with pytest.warns(UserWarning, match="1 of the 4"):
            found.append(io.imread_folder(tmp_path / name, missing="fill"))
    return found


def _named(path: Any) -> list[tuple[tuple[int, ...], str]]:
    return sorted((f.plane, Path(f.file).parent.name) for f in io.info(path).filled)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_writers_of_two_regions_at_once_lose_no_record_of_filled_planes(
    tmp_path: Path, filled: list[da.Array], monkeypatch: pytest.MonkeyPatch, zarr_format: int
) -> None:
    path = tmp_path / "a.zarr"
    volume = np.zeros((8, 16, 16), "u2")
    io.write_zarr(path, volume, (4, 8, 8), attributes={"mine": 1}, zarr_format=zarr_format)
    real, meet = metadata.json.dumps, threading.Barrier(2)

    def slowly(document: Any, **how: Any) -> str:
        # Whoever has read the attributes waits for the other, who must not have read them too.
        if "filled_planes" in str(document) and how.get("indent"):
            try:
                meet.wait(0.5)
            except threading.BrokenBarrierError:
                meet.reset()
        return real(document, **how)

    with monkeypatch.context() as patch:
        patch.setattr(metadata.json, "dumps", slowly)
        threads = [
            threading.Thread(
                target=io.write_zarr, args=(path, data), kwargs={"region": np.s_[z : z + 4]}
            )
            for z, data in zip((0, 4), filled, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert _named(path) == [((1,), "one"), ((6,), "two")]
    assert io.open(path, mode="r").attrs["mine"] == 1


def test_a_record_of_filled_planes_that_a_store_lost_is_in_the_note_of_the_region(
    memory: Memory, filled: list[da.Array]
) -> None:
    io.write_zarr(memory.url, np.zeros((8, 16, 16), "u2"), (4, 8, 8))
    writes = [
        io.write_zarr(memory.url, data, region=np.s_[z : z + 4], compute=False)
        for z, data in zip((0, 4), filled, strict=True)
    ]
    # As where the second had read the attributes before the first put them.
    raw = memory.fs.cat_file(f"{memory.key}/.zattrs")
    document = metadata.json.loads(raw)
    document["filled_planes"] = document["filled_planes"][1:]
    memory.put(".zattrs", metadata.json.dumps(document).encode())
    dask.compute(*writes)
    assert _named(memory.url) == [((1,), "one"), ((6,), "two")]
    assert io.verify(memory.url).ok


def test_a_store_is_asked_for_the_records_of_all_planes_at_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make_volume(SHAPE)
    monkeypatch.setattr(plan_module, "UNIT_NBYTES", 4096)
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    def fault(method: str, path: str) -> None:
        kind = "planes" if path.endswith(".planes") else "units"
        if method != "GET" or ".scout-journal/" not in path or "list-type" in path:
            return
        with lock:
            running[kind] += 1
            asked[kind] += 1
            most[kind] = max(most[kind], running[kind])
        time.sleep(0.2)
        with lock:
            running[kind] -= 1

    with faulty_proxy(lab.address, fault) as address:
        given = options(address)
        io.write_zarr(lab.url, volume, CHUNKS, qc=True, nb_workers=2, storage_options=given)
    assert asked["planes"] >= 16
    assert most["planes"] >= 5
    # What the units of this run noted is known.
    assert asked["units"] == 0
    np.testing.assert_array_equal(lab.by_zarr(), volume)


@pytest.mark.parametrize("place", ["disk", "store"])
def test_a_task_carries_no_settings_to_its_worker(
    tmp_path: Path, memory: Memory, place: str
) -> None:
    from scout_dask_io.files.location import locate
    from scout_dask_io.store.transaction import begin
    from scout_dask_io.store.unfinished import NewArray

    where = locate(tmp_path / "a.zarr" if place == "disk" else memory.url)
    settings = {"long": "x" * 10_000, "qc": False}
    how: dict[str, Any] = {"overwrite": False, "resume": False, "durable": False}
    new = [NewArray((5, 6), (2, 3), "u2", {})]
    txn = begin(where, new, settings, {"units": ((5,), (6,))}, check=lambda: None, **how)
    assert txn is not None
    assert txn.settings["units"] == ((5,), (6,))
    raw = pickle.dumps(txn)
    assert len(raw) < 1000
    there: Any = pickle.loads(raw)
    assert (there, there.settings) == (txn, {})
    # And it can be written through all the same.
    records = np.zeros((3, 2), [("nbytes", "<u4"), ("crc32c", "<u4")])
    fmt = there.format(None)
    there.put(None, fmt.chunk_key((0, 0)), b"\1" * 12)
    there.finish_unit(None, 0, records, [fmt.chunk_key((0, 0))])
    assert set(txn.finished(None)) == {0}
    there.commit({None: ((5,), (6,))})
    assert not txn.exists()
    found = read_manifest(where)
    assert found is not None
    assert found.settings["long"] == settings["long"]
