"""Rows that stay are read from what stands, and what changed from elsewhere: no more than that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.core.grid import Region, full_region
from scout_dask_io.core.source import ArraySource
from scout_dask_io.files.location import locate
from scout_dask_io.store.chunk_format import format_at
from scout_dask_io.store.manifest import read_manifest
from scout_dask_io.store.metadata import read_node
from scout_dask_io.store.stored_rows import KeptRows, Rows, StoredRows, changed_rows, kept_rows

KINDS: list[dict[str, Any]] = [{}, {"zarr_format": 3, "shards": (8, 16, 16)}]


class Recorded(ArraySource):
    """Notes which regions are read."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(array, "anew")
        self.asked: list[Region] = []

    def iter_pieces(self, region: Region) -> Any:
        self.asked.append(region)
        return super().iter_pieces(region)


def stored(path: Path) -> StoredRows:
    node, manifest = read_node(locate(path)), read_manifest(locate(path))
    fmt = None if node is None else format_at(node)
    assert fmt is not None
    assert manifest is not None
    return StoredRows(Rows.of(locate(path), fmt, full_region(fmt.shape), manifest.records), "")


@pytest.mark.parametrize("how", KINDS, ids=str)
def test_nothing_but_planes_that_changed_is_read_anew(tmp_path: Path, how: dict[str, Any]) -> None:
    old = make_volume((13, 37, 29), seed=1)
    new = make_volume((13, 37, 29), seed=2)
    io.write_zarr(tmp_path / "a.zarr", old, (4, 16, 16), **how)
    changed = np.zeros((13, 1, 1), bool)
    changed[[0, 5, 6, 12]] = True
    anew = Recorded(new)
    source = KeptRows(stored(tmp_path / "a.zarr"), anew, changed)
    want = np.where(changed, new, old)
    for region, asked in (
        (np.s_[0:13, 0:37, 0:29], [slice(0, 1), slice(5, 7), slice(12, 13)]),
        (np.s_[3:9, 5:37, 1:20], [slice(5, 7)]),
        (np.s_[5:7, 16:32, 16:29], [slice(5, 7)]),
        (np.s_[7:12, 0:37, 0:29], []),
    ):
        anew.asked.clear()
        np.testing.assert_array_equal(source.read(region), want[region])
        assert anew.asked == [(planes, *region[1:]) for planes in asked]


def test_planes_along_two_axes_are_told_apart(tmp_path: Path) -> None:
    old, new = (make_volume((3 * 7, 20, 18), seed=s).reshape(3, 7, 20, 18) for s in (1, 2))
    io.write_zarr(tmp_path / "a.zarr", old, (2, 4, 16, 16))
    changed = np.zeros((3, 7, 1, 1), bool)
    changed[0, 2], changed[1, 2:4], changed[2, :] = True, True, True
    source = KeptRows(stored(tmp_path / "a.zarr"), ArraySource(new, ""), changed)
    want = np.where(changed, new, old)
    for region in (
        np.s_[0:3, 0:7, 0:20, 0:18],
        np.s_[0:2, 1:5, 4:20, 3:9],
        np.s_[2:3, 0:7, :9, :9],
    ):
        where = tuple(slice(s.start or 0, s.stop) for s in region)
        np.testing.assert_array_equal(source.read(where), want[where])


@pytest.mark.parametrize("damage", [b"", b"what is no chunk", None])
def test_a_chunk_that_is_not_what_the_manifest_says_gives_no_rows(
    tmp_path: Path, damage: bytes | None
) -> None:
    volume = make_volume((13, 37, 29))
    io.write_zarr(tmp_path / "a.zarr", volume, (4, 16, 16))
    file = tmp_path / "a.zarr" / "1" / "0" / "1"
    file.unlink() if damage is None else file.write_bytes(damage)
    changed = np.zeros((13, 1, 1), bool)
    changed[5] = True
    source = KeptRows(stored(tmp_path / "a.zarr"), anew := Recorded(volume), changed)
    np.testing.assert_array_equal(source.read(full_region(volume.shape)), volume)
    lost = [(slice(n, m), slice(0, 16), slice(16, 29)) for n, m in ((4, 5), (6, 8))]
    assert anew.asked == [(slice(5, 6), slice(0, 37), slice(0, 29)), *lost]


def test_what_is_noted_of_an_update_says_which_rows_are_kept(tmp_path: Path) -> None:
    volume = make_volume((13, 37, 29))
    path = locate(tmp_path / "a.zarr")
    io.write_zarr(path, volume, (4, 16, 16))
    changed = np.zeros((13, 1, 1), bool)
    changed[5] = True
    anew = Recorded(np.zeros_like(volume))
    noted = {"changed": {"": changed_rows(changed)}}
    found = kept_rows(path, None, noted, anew).read(full_region(volume.shape))
    np.testing.assert_array_equal(found, np.where(changed, 0, volume))
    # Other levels, other writes, and an array without a manifest are read from the source alone.
    assert kept_rows(path, 1, noted, anew) is anew
    assert kept_rows(path, None, None, anew) is anew
    assert kept_rows(path, None, True, anew) is anew
    (tmp_path / "a.zarr" / ".scout-manifest").unlink()
    assert kept_rows(path, None, noted, anew) is anew
