"""In a store, an array is not overwritten by what is read from it, whoever reads: no zeros."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import fsspec
import numpy as np
import pytest
import zarr
from helpers import make_volume
from object_store import Lab, Memory
from zarr.storage import FsspecStore

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError

VOLUME = make_volume((5, 9, 10))


class Wrapper:
    """An array-like as xarray has them: it holds another, and what cannot be pickled."""

    def __init__(self, array: Any) -> None:
        self.array, self.lock = array, threading.Lock()
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __getitem__(self, where: Any) -> Any:
        with self.lock:
            return np.asarray(self.array[where])


def by_zarr(url: str, reach: dict[str, Any]) -> Any:
    return zarr.open_array(FsspecStore.from_url(url, storage_options=dict(reach)), mode="r")


def from_a_function(url: str, reach: dict[str, Any]) -> da.Array:
    def load() -> np.ndarray:
        mapper = fsspec.get_mapper(url, **reach)
        return np.frombuffer(mapper["0/0/0"], "u1")[:1].astype("u2")

    return da.zeros((5, 9, 10), chunks=5, dtype="u2") + da.from_delayed(
        dask.delayed(load)(), (1,), "u2"
    )


_places: list[tuple[str, dict[str, Any]]] = []


def _first_place() -> np.ndarray:
    url, reach = _places[-1]
    return np.frombuffer(fsspec.get_mapper(url, **reach)["0/0/0"], "u1")[:1].astype("u2")


def from_a_function_of_a_function(url: str, reach: dict[str, Any]) -> da.Array:
    _places.append((url, reach))
    part = da.from_delayed(dask.delayed(lambda: _first_place())(), (1,), "u2")
    return da.zeros((5, 9, 10), chunks=5, dtype="u2") + part


READERS: dict[str, Callable[[str, dict[str, Any]], da.Array]] = {
    "da.from_zarr": lambda u, o: da.from_zarr(by_zarr(u, o)),
    "da.from_zarr, computed on": lambda u, o: (da.from_zarr(by_zarr(u, o)) + 1).rechunk(4)[::-1],
    "da.from_zarr, by URL": lambda u, o: da.from_zarr(u, storage_options=o) * 2,
    "a wrapper": lambda u, o: da.from_array(Wrapper(by_zarr(u, o)), chunks=5, lock=True),
    "optimised": lambda u, o: dask.optimize(da.from_zarr(by_zarr(u, o)) + 1)[0],
    "ours, optimised": lambda u, o: dask.optimize(io.read_zarr(u, storage_options=o) + 1)[0],
    "a function": from_a_function,
    "a function of a function": from_a_function_of_a_function,
    "io.open": lambda u, o: da.from_array(io.open(u, mode="r", storage_options=o), chunks=5),
}


def check(url: str, fs: Any, key: str, reader: str, reach: dict[str, Any]) -> None:
    io.write_zarr(url, VOLUME, 5, storage_options=reach)
    lazy = READERS[reader](url, reach)
    before = {name: fs.cat_file(name) for name in fs.find(key)}
    for write in (io.write_zarr, io.write_ome_zarr):
        with pytest.raises(ArgumentError, match="write to another path"):
            write(url, lazy, 5, overwrite=True, storage_options=reach)
    assert {name: fs.cat_file(name) for name in fs.find(key)} == before
    # The way out.
    want = lazy.compute()
    io.write_zarr(f"{url}-new", lazy, 5, storage_options=reach)
    io.write_zarr(f"{url}-new", lazy, 5, overwrite=True, storage_options=reach)
    np.testing.assert_array_equal(io.read_zarr(f"{url}-new", storage_options=reach).compute(), want)


@pytest.mark.parametrize("reader", READERS)
def test_what_any_reader_reads_is_not_removed(memory: Memory, reader: str) -> None:
    check(memory.url, memory.fs, memory.key, reader, {})


@pytest.mark.parametrize("reader", ["da.from_zarr", "a wrapper"])
def test_what_any_reader_reads_from_s3_is_not_removed(lab: Lab, reader: str) -> None:
    check(lab.url, lab.fs, f"{lab.bucket}/deep/a.zarr", reader, lab.options)


def test_another_name_of_the_same_place_is_seen(lab: Lab) -> None:
    reach: dict[str, Any] = {"storage_options": lab.options}
    io.write_zarr(lab.url, VOLUME, 5, **reach)
    alias = lab.url.replace("s3://", "s3a://")
    other = {**lab.options, "use_ssl": False}
    for lazy in (io.read_zarr(alias, **reach), io.read_zarr(alias, storage_options=other) + 1):
        with pytest.raises(ArgumentError, match="write to another path"):
            io.write_zarr(lab.url, lazy, 5, overwrite=True, **reach)
    np.testing.assert_array_equal(io.read_zarr(lab.url, **reach).compute(), VOLUME)
