"""Metadata that claim what cannot be: one error of our own, at once, naming file and key."""

from __future__ import annotations

import json
import re
import shutil
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


@pytest.mark.parametrize("verb", ["read", "info", "verify"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("dtype", "V88888888888"), ("dtype", "[[["), ("filters", {"x": 2}), ("fill_value", [4, 5])],
    ids=str,
)
def test_entries_of_another_kind_are_an_error_of_our_own(
    tmp_path: Path, verb: str, name: str, value: Any
) -> None:
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / ".zarray").write_text(json.dumps({**V2, name: value}))
    if verb == "info" and name != "filters":
        assert "5 x 7 x 9" in str(io.info(path))  # what it can say, it says
    else:
        with pytest.raises(io.ScoutIOError, match=r"a\.zarr|\.zarray"):
            VERBS[verb](path)


def _image(path: Path, n: int, name: str = "0") -> Path:
    io.write_ome_zarr(path, np.arange(105, dtype="u2").reshape(3, 5, 7), chunks=(2, 3, 4), levels=1)
    stated = json.loads((path / ".zattrs").read_text())
    step = {"type": "scale", "scale": [1, 1, 1]}
    level = {"path": name, "coordinateTransformations": [step]}
    stated["multiscales"][0]["datasets"] = [level] * n
    (path / ".zattrs").write_text(json.dumps(stated))
    return path


@pytest.mark.parametrize("verb", VERBS)
def test_an_image_of_more_levels_than_there_can_be_is_refused(tmp_path: Path, verb: str) -> None:
    path = _image(tmp_path / "a.zarr", 2000)
    if verb == "open":
        return  # a group, whatever it states of an image
    with pytest.raises(io.LayoutError, match=r"a\.zarr.*2,000 datasets"):
        VERBS[verb](path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_levels_of_one_path_are_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scout_dask_io.jobs import info

    path, looks = _image(tmp_path / "a.zarr", 64), []
    real = info.measure_array
    monkeypatch.setattr(info, "measure_array", lambda *a: looks.append(a) or real(*a))
    assert len(io.info(path).levels) == 64
    assert len(looks) == 1


GRIDS: dict[str, Any] = {
    "none": {"grid": 5},
    "of texts": {"grid": ["a", 10**12]},
    "of lists": {"grid": [[1], 10**12]},
    "huge": {"grid": [2**62, 8]},
    "of another array": {"grid": [1, 1, 1]},
    "nowhere": {},
}


@pytest.mark.parametrize("grid", GRIDS)
def test_no_more_of_a_manifest_is_read_than_its_grid_takes(tmp_path: Path, grid: str) -> None:
    path = _made(tmp_path / "a.zarr", 2, [5, 7, 9], [2, 4, 4])
    manifest = path / ".scout-manifest"
    manifest.write_text(json.dumps({"scout_manifest": 1, **GRIDS[grid]}) + "\n")
    with manifest.open("r+b") as file:
        file.truncate(2**40)  # takes no room, and would take all memory
    np.testing.assert_array_equal(_first(path), [[[3]]])
    for verb in ("info", "verify"):
        with pytest.raises(io.LayoutError, match=r"\.scout-manifest( is damaged|: has 1,0)"):
            VERBS[verb](path)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("what", "told"),
    [(b"[" * 5000 + b"]" * 5000, "objects and lists inside"), (b"[" + b"[]," * 3_000_000 + b"0]",
     "values of JSON"), (b"1, 'q': 1", "not JSON"), (b'1, "q": 2', "'q' stands twice")],
    ids=["deep", "many", "none", "twice"],
)  # fmt: skip
def test_attributes_that_are_not_read_are_an_error_of_every_verb(
    tmp_path: Path, zarr_format: int, what: bytes, told: str
) -> None:
    path = _made(tmp_path / "a.zarr", zarr_format, [5, 7, 9], [2, 4, 4])
    name = "zarr.json" if zarr_format == 3 else ".zattrs"
    before = (path / name).read_bytes().rstrip()[:-1] + b"," if zarr_format == 3 else b"{"
    (path / name).write_bytes(before + b'"q": ' + what + b"}")
    for verb, work in VERBS.items():
        said = None
        try:
            work(path)
        except io.ScoutIOError as err:
            said = str(err)
        # What needs no attributes asks for none: v2 has them in a file of their own.
        assert said is not None or (zarr_format == 2 and verb not in ("open", "info"))
        assert said is None or (re.search(told, said) and name in said)
        for made in ("out.zarr", "out", "image.zarr"):
            shutil.rmtree(path.with_name(made), ignore_errors=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_an_array_that_says_nothing_of_a_compressor_has_none(tmp_path: Path) -> None:
    path = _made(tmp_path / "a.zarr", 2, [2, 4], [2, 4])
    document = json.loads((path / ".zarray").read_text())
    del document["compressor"]
    (path / ".zarray").write_text(json.dumps(document))
    data = np.arange(8, dtype="u2").reshape(2, 4)
    (path / "0").mkdir()
    (path / "0" / "0").write_bytes(data.tobytes())
    np.testing.assert_array_equal(io.read_zarr(path).compute(), data)
    assert io.info(path).codec == "none"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "dtype", ["\n,u2", "(2,2)<u2", "(" * 300 + "u2", "u2,u2", "[" * 99, "u2[9", ""]
)
def test_a_data_type_is_a_name_and_no_text_for_python(
    tmp_path: Path, zarr_format: int, dtype: str
) -> None:
    path = _made(tmp_path / "a.zarr", zarr_format, [5, 7, 9], [2, 4, 4])
    file = path / ("zarr.json" if zarr_format == 3 else ".zarray")
    name = "data_type" if zarr_format == 3 else "dtype"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: dtype}))
    if dtype or zarr_format == 2:
        assert io.info(path).dtype == dtype
    for verb in ("read", "verify", "convert"):
        with pytest.raises(io.LayoutError, match=name):
            VERBS[verb](path)


def test_a_manifest_that_names_another_kind_of_data_is_told(tmp_path: Path) -> None:
    io.write_zarr(tmp_path / "a.zarr", np.arange(8, dtype="u2").reshape(2, 4), (2, 2))
    file = tmp_path / "a.zarr" / ".scout-manifest"
    head, _, body = file.read_bytes().partition(b"\n")
    document = json.loads(head)
    document["settings"]["dtype"] = "(9)" * 9
    file.write_bytes(json.dumps(document).encode() + b"\n" + body)
    assert "the manifest says (9)(9)" in io.verify(tmp_path / "a.zarr").mismatch


def test_a_grid_of_another_name_is_not_counted_by_extents_of_nothing(tmp_path: Path) -> None:
    path = _made(tmp_path / "a.zarr", 3, [5, 7, 9], [2, 4, 4])
    document = json.loads((path / "zarr.json").read_text())
    document["chunk_grid"] = {"name": "odd", "configuration": {"chunk_shape": [2, 0, 4]}}
    (path / "zarr.json").write_text(json.dumps(document))
    for verb in ("info", "read", "verify"):
        with pytest.raises(io.LayoutError, match="chunk_grid"):
            VERBS[verb](path)


def test_more_channels_than_are_read_are_refused(tmp_path: Path) -> None:
    path = _image(tmp_path / "a.zarr", 1)
    stated = json.loads((path / ".zattrs").read_text())
    stated["omero"] = {"channels": [{"color": "x"}] * 10_001}
    (path / ".zattrs").write_text(json.dumps(stated))
    with pytest.raises(io.LayoutError, match=r"a\.zarr.*omero lists 10,001 channels"):
        io.read_zarr(path)


@pytest.mark.parametrize("name", ["codecs", "index_codecs"])
def test_shards_without_codecs_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.zarr"
    io.write_zarr(path, np.ones((4, 4), "u2"), (2, 2), zarr_format=3, shards=(4, 4))
    document = json.loads((path / "zarr.json").read_text())
    document["codecs"][0]["configuration"][name] = ""
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(io.LayoutError, match=rf"zarr\.json: {name} of its shards is ''"):
        io.read_zarr(path)
