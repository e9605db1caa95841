"""No verb removes or changes what lies beside what it was asked to write."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from object_store import Lab, options

import scout_dask_io as io

DATA = np.arange(3 * 10 * 9, dtype="u2").reshape(3, 10, 9)
NAMES = st.text(st.sampled_from("ab*?[]{}+%# é.-"), min_size=1, max_size=5).map("n{}m".format)


def below(place: str, but: tuple[str, ...], how: dict[str, Any]) -> dict[str, Any]:
    """Give what every file holds that does not belong to one of some names: bytes, or a digest."""
    fs, root = fsspec.core.url_to_fs(place, **how) if "://" in place else (None, place)
    found: dict[str, Any]
    if fs is None:
        files = {str(p.relative_to(root)): p for p in Path(root).rglob("*") if p.is_file()}
        found = {name: p.read_bytes() for name, p in files.items()}
    elif place.startswith("memory:"):
        found = {key[len(root) :].lstrip("/"): fs.store[key].getvalue() for key in fs.store
                 if key.startswith(root + "/")}  # fmt: skip
    else:
        fs.invalidate_cache()
        bucket, _, prefix = root.partition("/")
        there = fs.find(bucket, detail=True).items()
        found = {key[len(root) + 1 :]: entry["ETag"] for key, entry in there
                 if key.startswith(f"{bucket}/{prefix}/")}  # fmt: skip
    return {k: v for k, v in found.items() if k.split("/")[0] not in but}


@pytest.fixture(params=["disk", "memory", pytest.param("s3", marks=pytest.mark.slow)])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Give new places, and what it takes to reach them."""
    if request.param == "disk":
        return lambda: (str(tmp_path / uuid.uuid4().hex), {})
    if request.param == "memory":
        return lambda: (f"memory://{uuid.uuid4().hex}", {})
    return in_bucket(request.getfixturevalue("lab"))


def in_bucket(lab: Lab) -> Any:
    return lambda: (f"s3://{lab.bucket}/{uuid.uuid4().hex}", options(lab.address))


@settings(max_examples=3, deadline=None, derandomize=True)
@given(names=st.lists(NAMES, min_size=3, max_size=3, unique=True))
def test_no_verb_touches_a_neighbour(places: Any, names: list[str]) -> None:
    place, so = places()
    url: dict[str, Any] = {"storage_options": so} if so else {}
    source, image, mine = (f"{name}.zarr" for name in names)
    io.write_zarr(f"{place}/{source}", DATA, (2, 4, 4), **url)
    io.write_ome_zarr(f"{place}/{image}", DATA, (2, 4, 4), axes="zyx", levels=1, **url)
    # Names that begin as others do, and what no program of ours wrote.
    io.write_zarr(f"{place}/{mine}.bak", DATA, **url)
    with fsspec.open(f"{place}/{mine}x/notes.txt", "w", auto_mkdir=True, **so) as notes:
        notes.write("kept")
    verbs: list[Any] = [
        lambda to, **how: io.convert(f"{place}/{source}", to, chunks=4, **how, **url),
        lambda to, **how: io.convert(f"{place}/{source}", to, ome=True, levels=2, **how, **url),
        lambda to, **how: io.pyramid(f"{place}/{source}", to, levels=2, **how, **url),
        lambda to, **how: io.write_zarr(to, DATA + 1, (2, 4, 4), **how, **url),
    ]
    before = below(place, (mine,), so)
    assert f"{mine}x/notes.txt" in before
    for n, verb in enumerate(verbs):
        verb(f"{place}/{mine}", overwrite=n > 0)
        assert below(place, (mine,), so) == before
    part = (slice(0, 2), slice(4, 8), slice(0, 4))
    io.write_zarr(f"{place}/{mine}", DATA[part], region=part, **url)
    io.write_zarr(f"{place}/{mine}", DATA, append="z", **url)
    io.verify(f"{place}/{source}", f"{place}/{mine}", **url)
    io.verify(f"{place}/{mine}", **url)
    io.info(f"{place}/{mine}", **url)
    io.preview(f"{place}/{mine}", **url)
    assert below(place, (mine,), so) == before
    io.write_labels(f"{place}/{image}", "cells", DATA, **url)
    io.write_labels(f"{place}/{image}", "others", DATA, **url)
    first = below(place, (mine,), so)
    io.write_labels(f"{place}/{image}", "cells", DATA + 1, overwrite=True, **url)
    now = below(place, (mine,), so)
    assert {k: v for k, v in now.items() if not k.startswith(f"{image}/labels/")} == before
    kept = f"{image}/labels/cells/"
    assert {k: v for k, v in now.items() if not k.startswith(kept)} == {
        k: v for k, v in first.items() if not k.startswith(kept)
    }


def test_no_verb_touches_a_neighbour_in_a_bucket(lab: Lab) -> None:
    check: Any = test_no_verb_touches_a_neighbour.hypothesis.inner_test  # type: ignore[attr-defined]
    check(in_bucket(lab), ["na*?m", "n[b]{m", "n%+# é.-m"])
