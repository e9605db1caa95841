"""Metadata that claim what cannot be: one error of our own, at once, naming file and key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scout_dask_io as io
from scout_dask_io.store.metadata import MAX_NDIM

V2: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [5, 7, 9],
    "chunks": [2, 4, 4],
    "dtype": "<u2",
    "compressor": None,
    "fill_value": 3,
    "order": "C",
    "filters": None,
    "dimension_separator": "/",
}
V3: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [5, 7, 9],
    "data_type": "uint16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 4, 4]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "fill_value": 3,
    "attributes": {},
}


def _made(path: Path, zarr_format: int, shape: Any, chunks: Any) -> Path:
    path.mkdir()
    if zarr_format == 2:
        (path / ".zarray").write_text(json.dumps({**V2, "shape": shape, "chunks": chunks}))
    else:
        grid = {"name": "regular", "configuration": {"chunk_shape": chunks}}
        (path / "zarr.json").write_text(json.dumps({**V3, "shape": shape, "chunk_grid": grid}))
    return path


def _first(path: Path) -> Any:
    lazy = io.read_zarr(path)
    return lazy[(slice(0, 1),) * lazy.ndim].compute(scheduler="sync")


VERBS: dict[str, Callable[[Path], Any]] = {
    "read": _first,
    "open": lambda path: io.open(path, mode="r"),
    "info": io.info,
    "verify": lambda path: io.verify(path, deep=True),
    "preview": io.preview,
    "convert": lambda path: io.convert(path, path.with_name("out.zarr")),
    "export": lambda path: io.export(path, path.with_name("out")),
    "pyramid": lambda path: io.pyramid(path, path.with_name("image.zarr")),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("shape", "chunks", "key"),
    [
        ([2**61] * 3, [32] * 3, "shape"),
        ([2**62, 2, 2], [1, 2, 2], "shape"),
        ([10**390, 2, 2], [2, 2, 2], "shape"),
        ([0, 2**62, 2**62], [1, 8, 8], "shape"),
        ([5, 7, 9], [2**61, 1, 1], "chunk"),
        ([2] * 80, [1] * 80, "shape"),
        ([2] * 2500, [1] * 2500, "shape"),
        ([5, 7, 9], [0, 4, 4], "chunk"),
        ([5, 7, 9], [2, 4], "chunk"),
        ([float("nan"), 7, 9], [2, 4, 4], "shape"),
        (None, None, "shape"),
    ],
    ids=str,
)
def test_extents_that_cannot_be_are_one_error_of_every_verb(
    tmp_path: Path, verb: str, zarr_format: int, shape: Any, chunks: Any, key: str
) -> None:
    path = _made(tmp_path / "a.zarr", zarr_format, shape, chunks)
    with pytest.raises(io.ScoutIOError) as caught:
        VERBS[verb](path)
    assert ("zarr.json" if zarr_format == 3 else ".zarray") in str(caught.value)
    assert key in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_trillion_chunks_are_counted_and_read_by_parts_and_not_enumerated(
    tmp_path: Path, zarr_format: int
) -> None:
    path = _made(tmp_path / "a.zarr", zarr_format, [10**4] * 3, [1] * 3)
    assert "1,000,000,000,000" in str(io.info(path))
    np.testing.assert_array_equal(_first(path), [[[3]]])
    with pytest.raises(io.ArgumentError, match=r"1,000,000,000,000 chunks by its metadata"):
        io.verify(path, deep=True)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("ndim", [0, 1, MAX_NDIM])
def test_arrays_of_any_rank_of_numpy_are_read(tmp_path: Path, zarr_format: int, ndim: int) -> None:
    path = _made(tmp_path / "a.zarr", zarr_format, [1] * ndim, [1] * ndim)
    found = io.read_zarr(path).compute(scheduler="sync")
    assert (found.shape, found.max()) == ((1,) * ndim, 3)
