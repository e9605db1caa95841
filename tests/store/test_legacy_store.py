"""The stores against arrays of every age: nested, flat, silent, mixed, in groups."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import make_volume, shared_data
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from scout_dask_io.errors import LayoutError
from scout_dask_io.store.legacy_store import LayoutStore, NestedDirectoryStore, NestedGroupStore

SHAPE, CHUNKS = (5, 7, 9), (2, 3, 4)
BUFFER = default_buffer_prototype().buffer


def write_array(path: Path, *, nested: bool, says: str | None, data: np.ndarray) -> None:
    """Write a v2 array by hand: no library decides where its chunks go, or what it says."""
    path.mkdir(parents=True)
    codec = numcodecs.Blosc(cname="zstd", clevel=1, shuffle=numcodecs.Blosc.BITSHUFFLE)
    meta = {
        "zarr_format": 2,
        "shape": list(data.shape),
        "chunks": list(CHUNKS[: data.ndim]),
        "dtype": data.dtype.str,
        "compressor": codec.get_config(),
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    if says is not None:
        meta["dimension_separator"] = says
    (path / ".zarray").write_text(json.dumps(meta))
    chunks = tuple(meta["chunks"])
    for index in np.ndindex(*(-(-n // c) for n, c in zip(data.shape, chunks, strict=True))):
        part = data[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))]
        whole = np.zeros(chunks, data.dtype)
        whole[tuple(slice(0, n) for n in part.shape)] = part
        file = path / ("/" if nested else ".").join(map(str, index))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(codec.encode(whole))


def files(path: Path) -> dict[str, bytes]:
    return {
        Path(folder, name).relative_to(path).as_posix(): Path(folder, name).read_bytes()
        for folder, _, names in os.walk(path)
        for name in names
    }


def read(store: LocalStore, key: str) -> bytes | None:
    found = sync(store.get(key, default_buffer_prototype()))
    return None if found is None else found.to_bytes()


def test_plain_zarr_reads_a_silent_nested_array_as_zeros(tmp_path: Path):
    # The reason for all of this; the day it fails, zarr has learnt to look.
    write_array(tmp_path / "a", nested=True, says=None, data=make_volume(SHAPE))
    assert not zarr.open_array(store=LocalStore(tmp_path / "a"), mode="r")[:].any()


@pytest.mark.parametrize("says", [None, ".", "/"], ids=["silent", "dot", "slash"])
@pytest.mark.parametrize("kind", [LayoutStore, NestedDirectoryStore, NestedGroupStore])
def test_nested_chunks_read_right_whatever_the_metadata_say(tmp_path, kind, says):
    data = make_volume(SHAPE)
    write_array(tmp_path / "a", nested=True, says=says, data=data)
    before = files(tmp_path)
    array = zarr.open_array(store=kind(tmp_path / "a", read_only=True), mode="r")
    assert (array.shape, array.chunks, array.dtype) == (SHAPE, CHUNKS, np.dtype("u2"))
    np.testing.assert_array_equal(array[:], data)
    assert array.nchunks_initialized == array.nchunks == 27
    assert files(tmp_path) == before


@pytest.mark.parametrize("says", [None, ".", "/"], ids=["silent", "dot", "slash"])
def test_flat_chunks_read_right_or_are_an_error_never_zeros(tmp_path, says):
    data = make_volume(SHAPE)
    write_array(tmp_path / "a", nested=False, says=says, data=data)
    for kind in (LayoutStore, NestedGroupStore):
        array = zarr.open_array(store=kind(tmp_path / "a"), mode="r+")
        np.testing.assert_array_equal(array[:], data)
        assert array.nchunks_initialized == 27
    with pytest.raises(LayoutError, match=r"a: the chunks of this array are flat.*open\(path\)"):
        zarr.open_array(store=NestedDirectoryStore(tmp_path / "a"), mode="r+")


def test_a_write_to_a_silent_nested_array_lands_in_the_nested_file(tmp_path: Path):
    write_array(tmp_path / "a", nested=True, says=None, data=make_volume(SHAPE))
    names = set(files(tmp_path))
    zarr.open_array(store=NestedDirectoryStore(tmp_path / "a"), mode="r+")[:] = 7
    assert set(files(tmp_path)) == names
    again = zarr.open_array(store=NestedDirectoryStore(tmp_path / "a"), mode="r")
    np.testing.assert_array_equal(again[:], np.full(SHAPE, 7, "u2"))


def test_an_array_of_one_axis_is_the_same_in_both_layouts(tmp_path: Path):
    data = np.arange(1, 8, dtype="f4")
    for says in (None, ".", "/"):
        path = tmp_path / {None: "silent", ".": "dot", "/": "slash"}[says]
        write_array(path, nested=True, says=says, data=data)
        for kind in (LayoutStore, NestedDirectoryStore, NestedGroupStore):
            np.testing.assert_array_equal(zarr.open_array(store=kind(path), mode="r")[:], data)


@pytest.mark.parametrize("prefix", ["", "arr/", "group/arr/", "0/"])
def test_dotted_and_slashed_keys_are_one_nested_file(tmp_path: Path, prefix: str):
    store = NestedDirectoryStore(tmp_path)
    sync(store.set(f"{prefix}0.1.2", BUFFER.from_bytes(b"first")))
    assert list(files(tmp_path)) == [f"{prefix}0/1/2"]
    assert read(store, f"{prefix}0.1.2") == read(store, f"{prefix}0/1/2") == b"first"
    assert store.get_sync(f"{prefix}0.1.2").to_bytes() == b"first"
    store.set_sync(f"{prefix}0/1/2", BUFFER.from_bytes(b"again"))
    assert read(store, f"{prefix}0.1.2") == b"again"
    assert sync(store.exists(f"{prefix}0.1.2"))
    assert sync(store.getsize(f"{prefix}0.1.2")) == 5
    parts = sync(store.get_partial_values(default_buffer_prototype(), [(f"{prefix}0.1.2", None)]))
    assert parts[0].to_bytes() == b"again"
    sync(store.set_if_not_exists(f"{prefix}0.1.2", BUFFER.from_bytes(b"third")))
    assert read(store, f"{prefix}0.1.2") == b"again"
    sync(store.delete(f"{prefix}0.1.2"))
    assert files(tmp_path) == {}
    store.set_sync(f"{prefix}0.1.2", BUFFER.from_bytes(b"once"))
    store.delete_sync(f"{prefix}0.1.2")
    assert files(tmp_path) == {}
    assert read(store, f"{prefix}0.1.2") is None


@pytest.mark.parametrize("key", ["0", "c/0/1", "c.0.1", "a.1.2", "0.1.x", "v1.0/0", ".zattrs"])
def test_other_keys_are_files_of_their_own_name(tmp_path: Path, key: str):
    store = NestedDirectoryStore(tmp_path)
    sync(store.set(key, BUFFER.from_bytes(b"{}")))
    assert list(files(tmp_path)) == [key]


@pytest.mark.parametrize("key", ["0.1.2", "0/1/2"])
@pytest.mark.parametrize("prefix", ["", "g/3/"])
def test_a_raw_read_that_meets_a_flat_file_is_an_error(tmp_path: Path, prefix: str, key: str):
    (tmp_path / prefix).mkdir(parents=True, exist_ok=True)
    (tmp_path / f"{prefix}0.1.2").write_bytes(b"flat")
    store = NestedDirectoryStore(tmp_path)
    with pytest.raises(LayoutError, match="flat"):
        read(store, prefix + key)
    with pytest.raises(LayoutError, match="flat"):
        store.get_sync(prefix + key)
    assert read(store, f"{prefix}0.1.3") is None


def test_an_array_created_with_zarrs_defaults_is_nested_and_says_so(tmp_path: Path):
    data = make_volume(SHAPE)
    store = NestedDirectoryStore(tmp_path / "a")
    array = zarr.create(store=store, shape=SHAPE, chunks=CHUNKS, dtype="u2", zarr_format=2)
    array[:] = data
    assert json.loads((tmp_path / "a" / ".zarray").read_text())["dimension_separator"] == "/"
    assert (tmp_path / "a" / "2" / "2" / "2").is_file()
    assert not [n for n in files(tmp_path / "a") if "." in n.lstrip(".")]
    # Counted by the object that zarr made with dots, and by one opened anew.
    assert array.nchunks_initialized == 27
    again = zarr.open_array(store=LocalStore(tmp_path / "a"), mode="r")
    assert again.nchunks_initialized == 27
    np.testing.assert_array_equal(again[:], data)


def test_a_group_holds_nested_flat_and_silent_arrays_at_once(tmp_path: Path):
    root = tmp_path / "g"
    nested, flat = make_volume(SHAPE, seed=1), make_volume(SHAPE, seed=2)
    write_array(root / "nested", nested=True, says=None, data=nested)
    write_array(root / "sub" / "flat", nested=False, says=".", data=flat)
    for folder in (root, root / "sub"):
        (folder / ".zgroup").write_text('{"zarr_format": 2}')
    group = zarr.open_group(store=NestedGroupStore(root), mode="r+")
    np.testing.assert_array_equal(group["nested"][:], nested)
    np.testing.assert_array_equal(group["sub/flat"][:], flat)
    # Each goes on in its own layout, also in another process.
    pickle.loads(pickle.dumps(group["sub/flat"]))[:2] = 3
    group["nested"][:2] = 4
    assert not (root / "sub" / "flat" / "0").exists()
    assert not (root / "nested" / "0.0.0").exists()
    group["sub"].create_array("new", shape=SHAPE, chunks=CHUNKS, dtype="u2")[:] = nested
    assert (root / "sub" / "new" / "2" / "2" / "2").is_file()
    np.testing.assert_array_equal(zarr.open_group(root, mode="r")["sub/new"][:], nested)


def test_consolidated_metadata_of_a_legacy_group_read_right(tmp_path: Path):
    root = tmp_path / "g"
    data = make_volume(SHAPE)
    write_array(root / "a", nested=True, says=None, data=data)
    (root / ".zgroup").write_text('{"zarr_format": 2}')
    entries = {
        ".zgroup": {"zarr_format": 2},
        "a/.zarray": json.loads((root / "a" / ".zarray").read_text()),
    }
    document = {"zarr_consolidated_format": 1, "metadata": entries}
    (root / ".zmetadata").write_text(json.dumps(document))
    group = zarr.open_group(store=NestedGroupStore(root, read_only=True), mode="r")
    assert group.metadata.consolidated_metadata is not None
    np.testing.assert_array_equal(group["a"][:], data)


def test_v3_arrays_keep_their_own_keys(tmp_path: Path):
    data = make_volume((4, 6))
    for encoding in ("default", "v2"):
        for separator in (".", "/"):
            path = tmp_path / encoding / separator.replace("/", "slash")
            array = zarr.create_array(
                store=NestedDirectoryStore(path),
                shape=(4, 6),
                chunks=(2, 3),
                dtype="u2",
                zarr_format=3,
                chunk_key_encoding={"name": encoding, "separator": separator},
            )
            array[:] = data
            head = f"c{separator}" if encoding == "default" else ""
            assert (path / f"{head}1{separator}1").is_file()
            again = zarr.open_array(store=NestedDirectoryStore(path), mode="r")
            np.testing.assert_array_equal(again[:], data)
            np.testing.assert_array_equal(zarr.open_array(LocalStore(path), mode="r")[:], data)


def test_v2_and_v3_metadata_side_by_side_are_an_error(tmp_path: Path):
    write_array(tmp_path / "a", nested=True, says="/", data=make_volume(SHAPE))
    zarr.create_array(store=LocalStore(tmp_path / "b"), shape=SHAPE, chunks=CHUNKS, dtype="u2")
    (tmp_path / "b" / "zarr.json").rename(tmp_path / "a" / "zarr.json")
    for zarr_format in (None, 2, 3):
        with pytest.raises(LayoutError, match="side by side"):
            zarr.open_array(
                store=NestedDirectoryStore(tmp_path / "a"), mode="r", zarr_format=zarr_format
            )


def test_a_store_is_found_again_from_another_directory_and_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = NestedDirectoryStore("a")
    assert store.root == tmp_path / "a"
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert copy.root == store.root
    assert repr(store) == f"NestedDirectoryStore({str(tmp_path / 'a')!r})"


def test_a_read_only_store_refuses_to_write_and_makes_no_directory(tmp_path: Path):
    store = NestedDirectoryStore(tmp_path / "a", read_only=True)
    with pytest.raises(FileNotFoundError):
        read(store, ".zarray")
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="read-only"):
        sync(store.set("0.0.0", BUFFER.from_bytes(b"x")))
    with pytest.raises(ValueError, match="read-only"):
        store.set_sync("0.0.0", BUFFER.from_bytes(b"x"))
    assert files(tmp_path) == {}


def test_the_legacy_array_of_scout_equals_its_planes():
    import tifffile

    planes = sorted(shared_data("brain", "ch0").glob("*.tif"))
    expected = np.stack([tifffile.imread(p) for p in planes])
    store = NestedDirectoryStore(shared_data("legacy_scout.zarr"), read_only=True)
    array = zarr.open_array(store=store, mode="r")
    assert (array.shape, array.chunks, array.dtype) == (
        (30, 510, 667),
        (16, 256, 256),
        np.dtype("<u2"),
    )
    assert array.nchunks_initialized == 12
    np.testing.assert_array_equal(array[:], expected)


@pytest.mark.parametrize("kind", [LayoutStore, NestedDirectoryStore, NestedGroupStore])
def test_both_layouts_in_one_array_are_an_error_in_every_store(tmp_path: Path, kind):
    write_array(tmp_path / "a", nested=True, says="/", data=make_volume(SHAPE))
    (tmp_path / "a" / "0.0.0").write_bytes(b"written by one who guessed wrong")
    with pytest.raises(LayoutError, match=r"holds flat chunk files .'0\.0\.0'. and nested ones"):
        zarr.open_array(store=kind(tmp_path / "a"), mode="r+")
