"""What lies on disk is told right, and what is not Zarr is never taken for it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from scout_dask_io.errors import LayoutError, PathNotFoundError
from scout_dask_io.files.location import locate
from scout_dask_io.store.layout import array_at, detect_layout, find_stranger

META = {
    "zarr_format": 2,
    "shape": [5, 7, 9],
    "chunks": [2, 3, 4],
    "dtype": "<u2",
    "compressor": None,
    "fill_value": 0,
    "order": "C",
    "filters": None,
}


def lay_out(path: Path, *names: str, **changes: object) -> Path:
    """Make an array directory with empty chunk files of the given names."""
    path.mkdir(parents=True, exist_ok=True)
    (path / ".zarray").write_text(json.dumps({**META, **changes}))
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"")
    return path


NESTED, FLAT, SAYS_SLASH, SAYS_DOT = (
    "0/1/2",
    "0.1.2",
    {"dimension_separator": "/"},
    {"dimension_separator": "."},
)


@pytest.mark.parametrize(
    ("names", "says", "nested", "separator", "decided_by"),
    [
        ([NESTED], {}, True, "/", "disk"),  # legacy: what scout.io wrote
        ([NESTED], {}, False, "/", "disk"),  # the argument is wrong
        ([NESTED], SAYS_DOT, True, "/", "disk"),  # the metadata are wrong
        ([FLAT], {}, True, ".", "disk"),
        ([FLAT], SAYS_SLASH, True, ".", "disk"),
        ([], SAYS_DOT, True, ".", "metadata"),  # no chunk yet
        ([], SAYS_SLASH, False, "/", "metadata"),
        ([], {}, True, "/", "argument"),
        ([], {}, False, ".", "argument"),
        # Not chunks: leftovers, strangers, a file where a directory is due, too few indices.
        (["0.1.2.partial", "notes.txt", "3", "0.1"], {}, True, "/", "argument"),
        (["0/1/notes", "01/0/0"], {}, False, ".", "argument"),
        ([FLAT, "0/1/notes.txt"], {}, True, ".", "disk"),  # no chunk in the directory
    ],
)
def test_what_lies_on_disk_decides(tmp_path, names, says, nested, separator, decided_by):
    path = lay_out(tmp_path / "a", *names, **says)
    found = detect_layout(array_at(locate(path)), nested=nested)
    assert (found.separator, found.decided_by, found.zarr_format) == (separator, decided_by, 2)
    assert found.nested == (separator == "/")
    assert found.metadata["shape"] == [5, 7, 9]


def test_empty_chunk_directories_beside_flat_chunks_are_no_sign(tmp_path: Path):
    path = lay_out(tmp_path / "a", FLAT)
    (path / "0" / "1").mkdir(parents=True)
    assert detect_layout(array_at(locate(path))).separator == "."


def test_both_layouts_in_one_array_are_an_error_that_names_a_file_of_each(tmp_path: Path):
    path = lay_out(tmp_path / "a", NESTED, "3.0.0")
    with pytest.raises(LayoutError, match=r"a: holds flat chunk files \('3.0.0'\).*'0/1/2'"):
        detect_layout(array_at(locate(path)))


def test_v3_metadata_say_how_chunks_are_keyed(tmp_path: Path):
    for encoding, separator in (("default", "/"), ("default", "."), ("v2", "."), ("v2", "/")):
        path = tmp_path / (encoding + {"/": "_slash", ".": "_dot"}[separator])
        zarr.create_array(
            store=LocalStore(path),
            shape=(4, 6),
            chunks=(2, 3),
            dtype="u2",
            chunk_key_encoding={"name": encoding, "separator": separator},
        )
        found = detect_layout(array_at(locate(path)))
        assert (found.separator, found.decided_by, found.zarr_format) == (separator, "metadata", 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ('{"zarr_format": 2, "sha', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1, 2]", "expected a JSON object, found list"),
        ("{}", "zarr_format is None"),
        ({"zarr_format": 3}, "shape is"),
        ({"shape": [5, 7]}, "as many as shape"),
        ({"shape": None}, "shape is None"),
        ({"shape": [5, -7, 9]}, "at least 0"),
        ({"shape": [5, True, 9]}, "whole numbers"),
        ({"chunks": [2, 0, 4]}, "at least 1"),
        ({"chunks": "auto"}, "chunks is 'auto'"),
        ({"dtype": None}, "dtype is None"),
        ({"order": "A"}, "order is 'A'"),
        ({"dimension_separator": "-"}, "dimension_separator is '-'"),
        ({"compressor": "blosc"}, "compressor is 'blosc'"),
    ],
)
def test_damaged_metadata_are_an_error_that_names_the_file(tmp_path, text, message):
    path = lay_out(tmp_path / "a", NESTED)
    if isinstance(text, dict):
        changed = {**META, **text}
        text = json.dumps({k: v for k, v in changed.items() if v is not None or k != "zarr_format"})
    if '"zarr_format": 3' in text:
        message = "zarr_format is 3, expected 2|chunk_key_encoding"
    (path / ".zarray").write_text(text)
    with pytest.raises(LayoutError, match=message) as caught:
        detect_layout(array_at(locate(path)))
    assert str(path / ".zarray") in str(caught.value)


def test_a_fifo_in_the_place_of_metadata_does_not_hang(tmp_path: Path):
    os.mkfifo(tmp_path / ".zarray")
    with pytest.raises(LayoutError, match="expected a regular file"):
        detect_layout(array_at(locate(tmp_path)))


@pytest.mark.parametrize("found", ["nothing", "no Zarr metadata", "a group"])
def test_no_array_is_an_error_that_says_what_is_there(tmp_path: Path, found: str):
    path = tmp_path / "a"
    if found != "nothing":
        path.mkdir()
    if found == "a group":
        (path / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(PathNotFoundError, match=f"found {found}"):
        detect_layout(array_at(locate(path)))


def group_of(path: Path) -> Path:
    path.mkdir()
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    return path


def test_arrays_and_groups_are_pure(tmp_path: Path):
    root = group_of(tmp_path / "g")
    (root / ".zattrs").write_text("{}")
    (root / ".zmetadata").write_text("{}")
    nested = lay_out(root / "nested", "0/0/0", "2/2/2", ".scout-manifest")
    (nested / "0" / "1").mkdir()  # left empty by deleted chunks
    lay_out(root / "flat", "0.0.0", f"0.0.1.{'a' * 32}.partial")
    lay_out(root / "line", "0", "3", shape=[9], chunks=[2])
    lay_out(root / "scalar", "0", shape=[], chunks=[])
    (root / ".scout").mkdir()
    (root / ".scout" / "anything").write_text("our own")
    assert find_stranger(root) is None
    (tmp_path / "empty").mkdir()
    assert find_stranger(tmp_path / "empty") is None


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("encoding", ["default", "v2"])
@pytest.mark.parametrize("shape", [(), (3,), (4, 6)])
def test_v3_arrays_are_pure(tmp_path, shape, encoding, separator):
    array = zarr.create_array(
        store=LocalStore(tmp_path / "a"),
        shape=shape,
        chunks=(2, 3)[: len(shape)],
        dtype="u2",
        chunk_key_encoding={"name": encoding, "separator": separator},
    )
    array[...] = np.ones(shape, "u2")
    assert find_stranger(tmp_path / "a") is None


@pytest.mark.parametrize(
    "stranger",
    [
        "notes.txt",
        "0/notes.txt",
        "0/0/notes.txt",
        "0/0/0/0",  # a level too deep
        "0/00",
        "c/0/0/0",  # keys of v3 in an array of v2
        "0.0",
        "nested.zarr/.zarray",
    ],
)
def test_one_foreign_file_at_any_depth_is_found(tmp_path: Path, stranger: str):
    path = lay_out(tmp_path / "a", "1/0/0", "1/2/2")
    (path / stranger).parent.mkdir(parents=True, exist_ok=True)
    (path / stranger).write_text("mine")
    found = find_stranger(path)
    assert found is not None
    assert found == path / stranger or found in (path / stranger).parents
    assert found != path
    assert find_stranger(path) is not None


@pytest.mark.parametrize("stranger", ["notes.txt", "plain/a.tif", "sub/notes.txt", "0.0.0"])
def test_a_foreign_file_in_a_group_is_found(tmp_path: Path, stranger: str):
    root = group_of(tmp_path / "g")
    group_of(root / "sub")
    (root / stranger).parent.mkdir(exist_ok=True)
    (root / stranger).write_text("mine")
    assert find_stranger(root) is not None


def test_links_are_never_pure_nor_gone_through(tmp_path: Path):
    real = lay_out(tmp_path / "real", "0/0/0")
    (tmp_path / "link").symlink_to(real)
    assert find_stranger(tmp_path / "link") == tmp_path / "link"
    for name in ("1", ".zattrs", ".scout"):
        path = lay_out(tmp_path / f"a{name}", "0/0/0")
        (path / name).symlink_to(real / "0")
        assert find_stranger(path) == path / name
    path = lay_out(tmp_path / "b", "0/0/0")
    (path / "0" / "1").symlink_to(real / "0" / "0")
    assert find_stranger(path) == path / "0" / "1"


def test_what_cannot_be_told_is_not_pure(tmp_path: Path):
    planes = tmp_path / "planes"
    planes.mkdir()
    (planes / "0").write_text("no metadata say what this is")
    assert find_stranger(planes) is not None
    damaged = lay_out(tmp_path / "damaged", "0/0/0")
    (damaged / ".zarray").write_text("{")
    assert find_stranger(damaged) == damaged / ".zarray"
    assert find_stranger(tmp_path / "missing") is not None
    (tmp_path / "file").write_text("")
    assert find_stranger(tmp_path / "file") is not None
