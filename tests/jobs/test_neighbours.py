"""No verb removes or changes what lies beside what it was asked to write."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import tifffile
from helpers import write_planes
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
        files = {p.relative_to(root).as_posix(): p for p in Path(root).rglob("*") if p.is_file()}
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


#: Names with all that is a pattern, an escape or a part of a URL somewhere.
ODD, OTHER = "n[a-é]*?{b}+%23# .m", "n[a-é]1xb+%23# .m"


def test_repair_and_export_touch_no_neighbour(places: Any, tmp_path: Path) -> None:
    place, so = places()
    url: dict[str, Any] = {"storage_options": so} if so else {}
    other, mine = f"{OTHER}.zarr", f"{ODD}.zarr"
    for name in (other, f"{mine}.bak", mine):
        io.write_zarr(f"{place}/{name}", DATA, (2, 4, 4), **url)
        document = json.loads(read(f"{place}/{name}/.zarray", so))
        del document["dimension_separator"]
        write(f"{place}/{name}/.zarray", json.dumps(document).encode(), so)
    before, own = below(place, (mine,), so), below(f"{place}/{mine}", (), so)
    assert io.repair(f"{place}/{mine}", dry_run=True, **url).actions
    assert below(f"{place}/{mine}", (), so) == own
    assert len(io.repair(f"{place}/{mine}", **url).actions) == 1
    assert io.repair(f"{place}/{mine}", **url).actions == ()
    now = below(f"{place}/{mine}", (), so)
    assert {k for k in own if own[k] != now[k]} == {".zarray"}
    assert own.keys() == now.keys()
    assert below(place, (mine,), so) == before
    np.testing.assert_array_equal(io.read_zarr(f"{place}/{mine}", **url).compute(), DATA)

    out = tmp_path / "out"
    out.mkdir()
    for name in (f"{mine}.tif.bak", f"{mine}x.tif", f".{mine}.tif", f"{mine}planes.txt"):
        (out / name).write_bytes(b"kept")
    kept = below(str(out), (), so)
    for overwrite in (False, True):
        for file in (f"{mine}.tif", f"{mine}.ome.tif", f"{mine}planes"):
            io.export(f"{place}/{mine}", out / file, overwrite=overwrite, **url)
    mine_too = (f"{mine}.tif", f"{mine}.ome.tif", f"{mine}planes")
    assert below(str(out), mine_too, so) == kept
    assert below(place, (mine,), so) == before


def test_update_and_follow_touch_no_neighbour(tmp_path: Path) -> None:
    place, name = tmp_path, ODD
    planes = write_planes(place / "src", DATA)
    for beside in (f"{name}.zarr.bak", f"{name}x.zarr"):
        io.write_zarr(place / beside, DATA, (2, 4, 4))
    (place / f"{name}.zarr.txt").write_bytes(b"kept")
    mine = f"{name}.zarr"
    before = below(str(place), (mine,), {})
    assert io.follow(place / "src", place / mine, 3, settle_s=0, poll_s=0.01, chunks=4)
    assert below(str(place), (mine,), {}) == before
    tifffile.imwrite(planes[1], DATA[1] + 7, photometric="minisblack")
    before = below(str(place), (mine,), {})
    assert io.update(place / "src", place / mine, chunks=4)
    assert below(str(place), (mine,), {}) == before
    np.testing.assert_array_equal(io.read_zarr(place / mine)[1].compute(), DATA[1] + 7)


def read(place: str, how: dict[str, Any]) -> bytes:
    """Give the bytes at a path or URL, however it is named."""
    if "://" not in place:
        return Path(place).read_bytes()
    fs, path = fsspec.core.url_to_fs(place, **how)
    found: bytes = fs.cat_file(path)
    return found


def write(place: str, data: bytes, how: dict[str, Any]) -> None:
    """Put bytes at a path or URL, however it is named."""
    if "://" not in place:
        Path(place).write_bytes(data)
        return
    fs, path = fsspec.core.url_to_fs(place, **how)
    fs.pipe_file(path, data)


def test_no_verb_touches_a_neighbour_in_a_bucket(lab: Lab) -> None:
    check: Any = test_no_verb_touches_a_neighbour.hypothesis.inner_test  # type: ignore[attr-defined]
    check(in_bucket(lab), ["na*?m", "n[b]{m", "n%+# é.-m"])


def test_repair_and_export_touch_no_neighbour_in_a_bucket(lab: Lab, tmp_path: Path) -> None:
    test_repair_and_export_touch_no_neighbour(in_bucket(lab), tmp_path)
