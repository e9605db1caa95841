"""What is asked of a store to open, describe and read an array: counted, kind by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import numpy as np
import pytest
from object_store import Lab, Request, faulty_proxy

import scout_dask_io as io
from scout_dask_io.files.bucket import Bucket
from scout_dask_io.files.location import locate
from scout_dask_io.store.manifest import CHANGED, MANIFEST_NAME, manifest_of
from scout_dask_io.store.nodes import open_node
from scout_dask_io.store.remote_transaction import RemoteTransaction

DATA = np.arange(8 * 12 * 16, dtype="u2").reshape(8, 12, 16)


class Counted:
    """An array at a URL behind a server that notes what it is asked."""

    def __init__(self, lab: Lab, address: str, seen: list[Request]) -> None:
        self.options = {**lab.options, "endpoint_url": address}
        self.url, self.seen = lab.url, seen

    def kinds(self) -> Counter[str]:
        """Give the requests since the last time, by method."""
        found = Counter(r.method for r in self.seen)
        self.seen.clear()
        return found


@pytest.fixture
def counted(lab: Lab) -> Iterator[Counted]:
    seen: list[Request] = []
    with faulty_proxy(lab.address, lambda *_: None, seen) as address:
        yield Counted(lab, address, seen)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_opening_an_array_takes_five_requests_and_a_block_one_a_chunk(
    counted: Counted, zarr_format: int
):
    io.write_zarr(
        counted.url, DATA, (4, 6, 8), zarr_format=zarr_format, storage_options=counted.options
    )
    counted.kinds()
    lazy = io.read_zarr(counted.url, storage_options=counted.options)
    opened = counted.kinds()
    assert opened == Counter(GET=5)
    assert (lazy[:4, :6, :8].compute() == DATA[:4, :6, :8]).all()
    # One a chunk, whose record in the manifest tells whose it is.
    assert counted.kinds() == Counter(GET=1)
    assert (lazy.compute() == DATA).all()
    assert counted.kinds() == Counter(GET=8)


def test_info_takes_eight_requests_and_verify_no_head(counted: Counted):
    io.write_zarr(counted.url, DATA, (4, 6, 8), storage_options=counted.options)
    counted.kinds()
    assert io.info(counted.url, storage_options=counted.options).n_present == 8
    assert sum(counted.kinds().values()) <= 8
    # Of an array of other software no chunk is looked for: the listing says where they lie.
    (locate(counted.url, counted.options) / MANIFEST_NAME).remove()
    counted.kinds()
    assert io.info(counted.url, storage_options=counted.options).n_present == 8
    assert sum(counted.kinds().values()) <= 8
    io.write_zarr(counted.url, DATA, (4, 6, 8), overwrite=True, storage_options=counted.options)
    counted.kinds()
    assert io.verify(counted.url, storage_options=counted.options).ok
    found = counted.kinds()
    assert found["HEAD"] == 0
    assert found["GET"] <= 8 + 12


def test_info_of_an_image_asks_for_its_levels_once(counted: Counted):
    io.write_ome_zarr(
        counted.url, DATA, (4, 6, 8), axes="zyx", levels=3, storage_options=counted.options
    )
    counted.kinds()
    found = io.info(counted.url, storage_options=counted.options)
    assert [level.n_present for level in found.levels] == [8, 1, 1]
    asked = Counter(r.name for r in counted.seen)
    # The image and its labels: who reads a level by its own path looks at the group above it.
    assert asked[".zgroup"] == 2
    assert sum(asked.values()) <= 5 + 2 + 3 * (5 + 1 + 1) + 4 + 1


class Deep:
    """How many requests followed one another: those under way at once count as one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.depth, self._lock = 0, Lock()
        for name in ("get", "about", "put", "remove", "below", "children"):
            monkeypatch.setattr(Bucket, name, self._wrapped(getattr(Bucket, name)))

    def _wrapped(self, real: Any) -> Any:
        def call(bucket: Bucket, *args: Any, **kwargs: Any) -> Any:
            # A request begins after those that had ended: it is one deeper than the deepest.
            with self._lock:
                mine = self.depth + 1
            try:
                return real(bucket, *args, **kwargs)
            finally:
                with self._lock:
                    self.depth = max(self.depth, mine)

        return call


def test_round_trips_of_opening_and_of_writing_one_chunk(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("obstore")
    settings: dict[str, Any] = {"storage_options": lab.options}

    def depth_of(call: Callable[[str], Any]) -> int:
        # The least of three: on a busy machine one of several at once may begin after another.
        depths = []
        for k in range(3):
            with monkeypatch.context() as patch:
                deep = Deep(patch)
                call(f"{lab.url}{k}")
            depths.append(deep.depth)
        return min(depths)

    assert depth_of(lambda url: io.write_zarr(url, DATA, DATA.shape, **settings)) <= 9
    assert depth_of(lambda url: io.read_zarr(url, **settings)) == 1
    image = depth_of(lambda url: io.write_ome_zarr(f"{url}i", DATA, DATA.shape, **settings))
    # One less where the levels' last objects are there before the first is asked for.
    assert image <= 10


def test_a_write_takes_two_requests_a_unit_beside_its_chunks(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("scout_dask_io.core.plan.UNIT_NBYTES", 512)
    settings: dict[str, Any] = {"storage_options": counted.options, "nb_workers": 2}
    io.write_zarr(counted.url, DATA, (4, 6, 8), **settings)
    # Of a unit: is the write still this one, and its note. The journal is not read again.
    n_units = 8
    found = counted.kinds()
    assert found["PUT"] == 8 + n_units + 4
    assert sum(found.values()) <= 8 + 2 * n_units + 12
    lazy = io.read_zarr(counted.url, storage_options=counted.options)
    assert (lazy.compute() == DATA).all()


def test_a_region_is_noted_without_reading_its_journal(counted: Counted):
    settings: dict[str, Any] = {"storage_options": counted.options}
    io.write_zarr(counted.url, DATA, (4, 6, 8), **settings)
    counted.seen.clear()
    io.write_zarr(counted.url, DATA[:4] + 1, region=np.s_[:4], **settings)
    assert not [r for r in counted.seen if r.method == "GET" and r.name.isdigit()]
    assert io.verify(counted.url, **settings).ok


def test_a_resumed_write_reads_the_notes_of_the_run_before_alone(
    counted: Counted, lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("scout_dask_io.core.plan.UNIT_NBYTES", 512)
    settings: dict[str, Any] = {"storage_options": counted.options, "nb_workers": 1}
    real, n = RemoteTransaction.finish_unit, []

    def stops(*args: Any) -> None:
        if len(n) >= 3:
            raise RuntimeError("on purpose")
        n.append(real(*args))

    with monkeypatch.context() as patch:
        patch.setattr(RemoteTransaction, "finish_unit", stops)
        with pytest.raises(RuntimeError, match="on purpose"):
            io.write_zarr(counted.url, DATA, (4, 6, 8), **settings)
    left = {k.rpartition("/")[2] for k in lab.names() if k.startswith(".scout-journal")}
    counted.seen.clear()
    io.write_zarr(counted.url, DATA, (4, 6, 8), resume=True, **settings)
    read = [r.name for r in counted.seen if r.method == "GET" and "?" not in r.name]
    notes = Counter(name for name in read if name.isdigit())
    assert set(notes) == left
    assert (lab.by_zarr() == DATA).all()


def test_a_manifest_is_read_without_a_list_of_the_chunks(counted: Counted):
    settings = {"storage_options": counted.options}
    io.write_zarr(counted.url, DATA, (4, 6, 8), **settings)
    io.write_zarr(counted.url, DATA[:4] + 1, region=np.s_[:4], **settings)
    node = open_node(locate(counted.url, counted.options))
    found = manifest_of(node)
    assert found is not None
    assert found.settings["source"] == CHANGED
    assert node._files is None
