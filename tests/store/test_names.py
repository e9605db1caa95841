"""Names are never patterns: a write touches its own place alone, whatever matches its name."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from helpers import make_volume
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import Lab

import scout_dask_io as io
from scout_dask_io.errors import ScoutIOError

SHAPE = (3, 5, 6)
# What some shell, URL or regular expression gives a meaning to.
NAMES = st.text("ab*?[]!-^{}|,#%+&=@~$'\"; üµ", min_size=1, max_size=6).filter(
    lambda name: name.strip() == name
)
#: What the patterns among the names below would match.
PATTERNS = ["*", "a[", "??", "[ab]b", "[!a]", "{ab,b}", "a*", "a b+c%20#é"]


def objects(fs: Any, root: str) -> dict[str, bytes]:
    return {key: fs.cat_file(key) for key in fs.find(root)}


def churn(fs: Any, root: str, url: str, name: str, others: list[str], **reach: Any) -> None:
    """Write, overwrite, write a region, fail and make anew under a name; its neighbours stay."""
    volume = make_volume(SHAPE)
    neighbours = {f"{root}/{other}/{file}": b"1" for other in others for file in ("0.0.0", "c/0")}
    neighbours |= {f"{root}/{name}{end}": b"2" for end in ("~", "2", ".zarr/.zarray")}
    for key, data in neighbours.items():
        fs.makedirs(key.rpartition("/")[0], exist_ok=True)
        fs.pipe_file(key, data)
    place = f"{url}/{name}"
    for step in range(2):
        io.write_zarr(place, volume + step, (2, 4, 4), overwrite=step > 0, **reach)
    part = (slice(2, 3), slice(0, 5), slice(0, 6))
    io.write_zarr(place, volume[part] + 7, region=part, **reach)
    want = volume + 1
    want[part] = volume[part] + 7
    np.testing.assert_array_equal(io.read_zarr(place, **reach).compute(), want)
    with pytest.raises(ScoutIOError):
        io.write_zarr(place, volume, (2, 4, 4), **reach)
    assert io.verify(place, **reach).ok
    io.write_ome_zarr(f"{place}x", volume, 2, **reach)
    io.write_ome_zarr(f"{place}x", volume + 3, 2, overwrite=True, **reach)
    np.testing.assert_array_equal(io.read_zarr(f"{place}x", **reach).compute(), volume + 3)
    io.open(place, mode="w", **reach)
    found = objects(fs, root)
    assert {key: found.get(key) for key in neighbours} == neighbours
    ours = {root + part for part in (f"/{name}/", f"/{name}x/")}
    assert {key for key in found if not any(key.startswith(p) for p in ours)} == set(neighbours)


def distinct(name: str, others: list[str]) -> list[str]:
    taken = (name, f"{name}x", f"{name}~", f"{name}2", f"{name}.zarr")
    return [other for other in others if other not in taken]


@settings(max_examples=5)
@given(NAMES, st.lists(NAMES, max_size=4))
@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_no_neighbour_is_touched_whatever_the_names(
    tmp_path: Path, kind: str, name: str, others: list[str]
) -> None:
    others = distinct(name, [*others, "a", "ab", "b", "*"])
    root = f"{tmp_path}/{uuid.uuid4().hex}"
    fs = fsspec.filesystem("file" if kind == "disk" else "memory")
    try:
        churn(fs, root, root if kind == "disk" else f"memory:/{root}", name, others)
    finally:
        fs.rm(root, recursive=True)


@pytest.mark.parametrize(
    "name", [*PATTERNS[:1], *(pytest.param(p, marks=pytest.mark.slow) for p in PATTERNS[1:])]
)
def test_no_neighbour_in_a_store_matches_a_name(lab: Lab, name: str) -> None:
    others = distinct(name, ["a", "ab", "b", "bb", "a1", "ab.zarr"])
    reach = {"storage_options": lab.options}
    churn(lab.fs, lab.bucket, f"s3://{lab.bucket}", name, others, **reach)
