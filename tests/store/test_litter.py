"""What file managers leave in an array, disks without hard links, and JSON that stays JSON."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume
from object_store import Memory

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError, TargetExistsError

VOLUME = make_volume((5, 40, 42))
LITTER = [".DS_Store", "._.zarray", "Thumbs.db", "Desktop.ini", "0/._0", "0/0/.DS_Store"]


@pytest.mark.parametrize("name", LITTER)
def test_what_a_file_manager_leaves_is_no_hindrance(
    tmp_path: Path, memory: Memory, name: str
) -> None:
    for place in (tmp_path / "a.zarr", memory.url):
        io.write_zarr(place, VOLUME, 16)
        if isinstance(place, Path):
            (place / name).write_bytes(b"\0\5\x16\7")
        else:
            memory.put(name, b"\0\5\x16\7")
        np.testing.assert_array_equal(io.read_zarr(place).compute(), VOLUME)
        assert io.verify(place).ok
        io.write_zarr(place, VOLUME + 1, 16, overwrite=True)
        np.testing.assert_array_equal(io.read_zarr(place).compute(), VOLUME + 1)


@pytest.mark.parametrize("name", ["notes.txt", "0/._DS", ".DS_Store.txt", "old/.DS_Store"])
def test_a_foreign_file_is_named(tmp_path: Path, memory: Memory, name: str) -> None:
    name = name.replace("._DS", "_DS")
    for place in (tmp_path / "a.zarr", memory.url):
        io.write_zarr(place, VOLUME, 16)
        if isinstance(place, Path):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(b"1")
        else:
            memory.put(name, b"1")
        with pytest.raises(TargetExistsError, match=f"'{name.split('/.')[0]}"):
            io.write_zarr(place, VOLUME, 16, overwrite=True)


def test_a_folder_of_litter_alone_is_not_removed(tmp_path: Path, memory: Memory) -> None:
    memory.put(".DS_Store", b"1")
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/.DS_Store").write_bytes(b"1")
    for place in (tmp_path / "a.zarr", memory.url):
        with pytest.raises(TargetExistsError, match="DS_Store"):
            io.write_zarr(place, VOLUME, 16, overwrite=True)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_disk_without_hard_links_has_its_files_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def link(src: Any, dst: Any, **_: Any) -> None:
        raise OSError(code, os.strerror(code), src, None, dst)

    io.write_zarr(tmp_path / "a.zarr", VOLUME, 16)
    monkeypatch.setattr(os, "link", link)
    with pytest.warns(UserWarning, match="has no hard links"):
        io.pyramid(tmp_path / "a.zarr", tmp_path / "b.zarr", levels=2)
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "b.zarr").compute(), VOLUME)
    assert io.verify(tmp_path / "b.zarr").ok
    (tmp_path / "a.zarr/0/0/0").write_bytes(b"changed in place")
    np.testing.assert_array_equal(io.read_zarr(tmp_path / "b.zarr").compute(), VOLUME)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("inf")], {"a": -float("inf")}])
def test_attributes_that_are_no_json_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ArgumentError, match="None, or text"):
        io.write_zarr(tmp_path / "a.zarr", VOLUME, 16, attributes={"v": value})
    assert not list(tmp_path.iterdir())
    io.write_zarr(tmp_path / "a.zarr", VOLUME, 16, attributes={"v": None, "w": "NaN"})
