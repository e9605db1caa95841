"""What a .zarray says about its chunks, and what is left to zarr."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr

from scout_dask_io.errors import LayoutError
from scout_dask_io.store.chunk_v2 import ArrayFormat

META: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [5, 7],
    "chunks": [2, 3],
    "dtype": "<u2",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}


def make(**other: Any) -> ArrayFormat:
    found = ArrayFormat.from_metadata({**META, **other}, "/")
    assert found is not None
    return found


def test_fields_are_those_of_the_metadata() -> None:
    fmt = make(order="F", compressor={"id": "zlib", "level": 1}, fill_value=7)
    assert (fmt.shape, fmt.chunks, fmt.dtype) == ((5, 7), (2, 3), np.dtype("<u2"))
    assert (fmt.order, fmt.separator, fmt.fill_value) == ("F", "/", 7)
    assert fmt.chunk_nbytes == 12
    assert fmt.make_codec() == numcodecs.Zlib(1)
    assert make().make_codec() is None
    assert pickle.loads(pickle.dumps(fmt)) == fmt


@pytest.mark.parametrize(
    "other",
    [
        {"zarr_format": 3},
        {"filters": [{"id": "delta", "dtype": "<u2"}]},
        {"dtype": [["a", "<u2"]]},
        {"dtype": "|S5"},
        {"dtype": "|O"},
        {"dtype": "<M8[s]"},
        {"compressor": {"id": "unheard of"}},
        {"compressor": {"level": 1}},
        {"compressor": {"id": "zlib", "nonsense": 1}},
    ],
    ids=str,
)
def test_what_is_not_handled_here_is_left_to_zarr(other: dict[str, Any]) -> None:
    assert ArrayFormat.from_metadata({**META, **other}, "/") is None


@pytest.mark.parametrize(
    ("index", "separator", "key"),
    [
        ((0, 12), "/", "0/12"),
        ((0, 12), ".", "0.12"),
        ((3,), ".", "3"),
        ((1, 2, 3), "/", "1/2/3"),
        ((), "/", "0"),
    ],
)
def test_chunk_key_is_the_name_below_the_array(
    index: tuple[int, ...], separator: str, key: str
) -> None:
    fmt = ArrayFormat.from_metadata(META, separator)
    assert fmt is not None
    assert fmt.chunk_key(index) == key


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("?", True),
        ("u1", 255),
        ("i8", -(2**63)),
        ("u8", 2**64 - 1),
        ("f2", 0.5),
        ("f4", np.nan),
        ("f8", -np.inf),
        ("c8", 1 - 2j),
        ("c16", complex(np.nan, np.inf)),
    ],
)
def test_fill_values_are_those_that_zarr_wrote(tmp_path: Path, dtype: str, fill: Any) -> None:
    zarr.create_array(store=tmp_path / "z", shape=(4,), dtype=dtype, fill_value=fill, zarr_format=2)
    fmt = ArrayFormat.from_metadata(json.loads((tmp_path / "z" / ".zarray").read_text()), "/")
    assert fmt is not None
    expected = np.array(fill, dtype)
    assert fmt.fill().dtype == expected.dtype
    assert fmt.fill().tobytes() == expected.tobytes()


def test_fill_values_in_base64_are_read() -> None:
    text = base64.b64encode(np.array(513, ">u2").tobytes()).decode()
    assert make(dtype=">u2", fill_value=text).fill() == 513


def test_an_undefined_fill_value_is_zero() -> None:
    assert make(fill_value=None).fill_value is None
    assert make(fill_value=None, dtype=">f4").fill() == 0


@pytest.mark.parametrize(
    ("dtype", "fill"),
    [
        ("<u2", 70_000),
        ("<u2", -1),
        ("<u2", "NaN"),
        ("<u2", "x"),
        ("<f4", ""),
        ("<f4", "nonsense!"),
        ("<c8", ["nonsense", 0]),
        ("<c8", [1, 2, 3]),
        ("<u2", {}),
    ],
)
def test_a_fill_value_that_does_not_fit_is_an_error_that_names_it(dtype: str, fill: Any) -> None:
    with pytest.raises(LayoutError) as caught:
        make(dtype=dtype, fill_value=fill)
    assert f"fill_value {fill!r}" in str(caught.value)
