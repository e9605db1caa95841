"""What zarr cannot open is one error that names it; ``info`` describes it all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, ChunkReadError, LayoutError

PLANE = make_volume((1, 5, 8))[0]


def stored(path: Path, zarr_format: Any, **changes: Any) -> Path:
    """Store a plane with zarr, and change its metadata."""
    zarr.create_array(path, data=PLANE, chunks=(5, 8), zarr_format=zarr_format)
    file = path / ("zarr.json" if zarr_format == 3 else ".zarray")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return path


GRID = {"name": "rectilinear", "configuration": {"chunk_shape": [[5], [4, 4]]}}
TRANSPOSE = {"name": "transpose", "configuration": {"order": "C"}}
BAD: dict[str, tuple[int, dict[str, Any], str]] = {
    "codec": (2, {"compressor": {"id": "squeeze"}}, "'squeeze', which is not installed"),
    "filter": (2, {"filters": [{"id": "sieve"}]}, "'sieve', which is not installed"),
    "object dtype": (2, {"dtype": "|O"}, "of a kind that is not read"),
    "v3 codec": (3, {"codecs": [{"name": "bytes"}, {"name": "acme.zip"}]}, "acme.zip"),
    "v3 codec by name": (3, {"codecs": ["bytes", "squash"]}, "of a kind that is not read"),
    "v3 dtype": (3, {"data_type": "float6_e3m2"}, "float6_e3m2"),
    "v3 dtype with settings": (3, {"data_type": {"name": "acme.fixed"}}, "acme.fixed"),
    "v3 transformer": (3, {"storage_transformers": [{"name": "mirror"}]}, "mirror"),
    "v3 transpose": (
        3,
        {"codecs": [{"name": "transpose", "configuration": {"order": "C"}}]},
        "zarr",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_zarr_cannot_open_is_one_error_that_names_it(tmp_path: Path, kind: str) -> None:
    zarr_format, changes, told = BAD[kind]
    path = stored(tmp_path / "a.zarr", zarr_format, **changes)
    verbs = {
        "read": lambda: io.read_zarr(path).compute(),
        "open": lambda: io.open(path, mode="r"),
        "preview": lambda: io.preview(path),
        "convert": lambda: io.convert(path, tmp_path / "b.zarr"),
    }
    for verb in verbs.values():
        with pytest.raises((LayoutError, ChunkReadError), match=told) as caught:
            verb()
        assert str(path) in str(caught.value)
        assert "file is damaged" not in str(caught.value)
    report = io.info(path)
    assert report.shape == PLANE.shape
    assert "cannot be read" in report.details[0]
    assert not (tmp_path / "b.zarr").exists()


def test_chunks_of_many_extents_are_an_error_of_ours(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.zarr", 3, chunk_grid=GRID)
    for verb in (io.read_zarr, io.info, lambda p: io.open(p, mode="r")):
        with pytest.raises(LayoutError):
            verb(path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore")
def test_text_is_told_apart(tmp_path: Path, zarr_format: Any) -> None:
    path = tmp_path / "a.zarr"
    words = zarr.create_array(path, shape=(3,), chunks=(2,), dtype=str, zarr_format=zarr_format)
    words[:] = np.array(["one", "two", "three"], dtype=object)
    for verb in (io.read_zarr, io.preview, lambda p: io.convert(p, tmp_path / "b.zarr")):
        with pytest.raises(LayoutError, match="holds text"):
            verb(path)
    assert io.info(path).shape == (3,)
    # The way out that the message names.
    assert list(zarr.open_array(path)[:]) == ["one", "two", "three"]


@pytest.mark.parametrize("dtype", ["M8[ms]", "m8[s]", [("x", "f4"), ("n", "u1")]], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_info_names_other_data_types(tmp_path: Path, dtype: Any) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(3, 4), chunks=(3, 4), dtype=np.dtype(dtype), zarr_format=3)
    assert io.info(path).shape == (3, 4)
    with pytest.raises(ArgumentError, match="real numbers"):
        io.preview(path)


@pytest.mark.parametrize(("shape", "dtype"), [((4, 5), "M8[s]"), ((4, 5), "S3"), ((1,) * 6, "u2")])
@pytest.mark.parametrize("ome", [False, True])
def test_what_cannot_be_converted_is_an_error_that_names_the_array(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, ome: bool
) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=shape, dtype=dtype, chunks=shape, zarr_format=2, fill_value=None)
    with pytest.raises(io.ArgumentError, match=rf"a\.zarr: data must .* {len(shape)} axes"):
        io.convert(path, tmp_path / "b.zarr", ome=ome)
    assert not (tmp_path / "b.zarr").exists()


def test_an_array_without_axes_is_no_picture(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(), dtype="i4", zarr_format=2)[...] = 5
    with pytest.raises(ArgumentError, match="a picture needs"):
        io.preview(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("dtype", "stated", "want"),
    [("u2", "0", 0), ("u2", "17", 17), ("f4", "1.5", 1.5), ("f4", "NaN", np.nan), ("i2", "-3", -3)],
)
def test_a_fill_value_in_quotes_is_a_number(
    tmp_path: Path, dtype: str, stated: str, want: Any
) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(4, 6), chunks=(2, 6), dtype=dtype, zarr_format=2)
    document = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps({**document, "fill_value": stated}))
    np.testing.assert_array_equal(
        io.read_zarr(path).compute(), np.full((4, 6), want, dtype), strict=True
    )


def migrated(path: Path) -> None:
    """Leave v2 and v3 metadata of one array, as zarr's migration does."""
    settings: dict[str, Any] = {"data": PLANE, "chunks": (3, 4)}
    zarr.create_array(path, zarr_format=2, compressors=numcodecs.Zlib(1), **settings)
    old = (path / ".zarray").read_bytes()
    keys = {"name": "v2", "separator": "."}
    codec = zarr.codecs.numcodecs.Zlib(level=1)
    zarr.create_array(
        path, zarr_format=3, compressors=codec, chunk_key_encoding=keys, overwrite=True, **settings
    )
    (path / ".zarray").write_bytes(old)


@pytest.mark.filterwarnings("ignore")
def test_metadata_of_both_formats_are_read_where_they_agree(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    migrated(path)
    np.testing.assert_array_equal(io.read_zarr(path).compute(), PLANE)
    assert io.open(path, mode="r").metadata.zarr_format == 3
    before = json.loads((path / ".zarray").read_text())
    for change in ({"shape": [5, 9]}, {"chunks": [5, 8]}, {"dtype": "<i2"}):
        (path / ".zarray").write_text(json.dumps({**before, **change}))
        with pytest.raises(LayoutError, match="side by side"):
            io.read_zarr(path)
