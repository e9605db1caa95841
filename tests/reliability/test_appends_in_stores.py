"""Appends in a store, cut off at any request: old or new, and finished by the same call."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from helpers import make_volume
from object_store import Lab, faulty_proxy, options

import scout_dask_io as io

# 5 planes: the old end lies inside of a chunk, at an odd plane of the full level.
BEFORE, CHUNKS = 5, (4, 16, 16)
VOLUME = make_volume((9, 20, 17), seed=7)
KINDS: dict[str, dict[str, Any]] = {
    "array": {},
    "v3": {"zarr_format": 3},
    "shards": {"zarr_format": 3, "shards": (4, 32, 32)},
    "image": {"levels": 2},
    "image v3": {"levels": 2, "version": "0.5"},
}


class Line:
    """Passes requests on to a store, and none after so many; ``left`` is told before each run."""

    def __init__(self) -> None:
        self.left, self.count = 10**9, 0

    def __call__(self, method: str, path: str) -> int | None:
        self.count += 1
        self.left -= 1
        return None if self.left >= 0 else 403


def write(url: str, data: Any, kind: str, storage: dict[str, Any], **how: Any) -> None:
    settings = {} if "append" in how else {"chunks": CHUNKS, **KINDS[kind]}
    call: Any = io.write_ome_zarr if "image" in kind else io.write_zarr
    with dask.config.set(scheduler="sync"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call(url, data, nb_workers=1, max_mem="1GB", storage_options=storage, **settings, **how)


def by_zarr(lab: Lab, name: str) -> dict[str, np.ndarray]:
    """Give what other software finds: an array under ``""``, or the levels of an image."""
    store = zarr.storage.FsspecStore.from_url(
        f"s3://{lab.bucket}/{name}", storage_options=dict(lab.options)
    )
    node = zarr.open(store, mode="r")
    if isinstance(node, zarr.Array):
        return {"": np.asarray(node[...])}
    return {str(n): np.asarray(node[str(n)][...]) for n in range(2)}


def objects(lab: Lab, name: str) -> dict[str, bytes]:
    """Give chunks and metadata, without what says when and by which write."""
    lab.fs.invalidate_cache()
    found = {key: lab.fs.cat_file(f"{lab.bucket}/{name}/{key}") for key in lab.names(name)}
    return {key: data for key, data in found.items() if ".scout" not in key}


def state(found: np.ndarray, before: np.ndarray, after: np.ndarray, full: bool) -> str:
    """Tell whether a level is old or new; only a lower one's last old row may be new before."""
    if found.shape == after.shape:
        np.testing.assert_array_equal(found, after)
        return "new"
    rows = len(before) if full else len(before) - 1
    np.testing.assert_array_equal(found[:rows], before[:rows])
    assert ((found == before) | (found == after[: len(before)])).all()
    return "old"


FEW = [("image v3", 1)]
ALL = [pytest.param(kind, 100, marks=pytest.mark.slow) for kind in KINDS]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "n_points"), [*FEW, *ALL])
def test_an_append_that_is_cut_off_at_any_request_leaves_old_or_new(
    lab: Lab, tmp_path: Path, kind: str, n_points: int
) -> None:
    root = f"s3://{lab.bucket}"
    write(f"{root}/before/a.zarr", VOLUME[:BEFORE], kind, lab.options)
    write(f"{root}/after/a.zarr", VOLUME[:BEFORE], kind, lab.options)
    line = Line()
    with faulty_proxy(lab.address, line) as address:
        storage = options(address)
        write(f"{root}/after/a.zarr", VOLUME[BEFORE:], kind, storage, append="z")
        total = line.count
        whole = objects(lab, "after/a.zarr")
        before, after = by_zarr(lab, "before/a.zarr"), by_zarr(lab, "after/a.zarr")
        assert after.get("", after.get("0")).shape == VOLUME.shape
        states = set()
        for nth in sorted({*np.linspace(1, total - 1, n_points).astype(int).tolist(), total - 1}):
            if lab.fs.exists(f"{lab.bucket}/w"):
                lab.fs.rm(f"{lab.bucket}/w", recursive=True)
            lab.fs.copy(f"{lab.bucket}/before/a.zarr", f"{lab.bucket}/w/a.zarr", recursive=True)
            line.left = nth
            with suppress(io.ScoutIOError, OSError):  # what tidies up may be in vain
                write(f"{root}/w/a.zarr", VOLUME[BEFORE:], kind, storage, append="z")
            lab.fs.invalidate_cache()
            found = by_zarr(lab, "w/a.zarr")
            stands = [
                state(found[name], before[name], after[name], name in ("", "0")) for name in found
            ]
            # The full level comes last.
            states.add(stands[0])
            assert stands[0] == "old" or set(stands) == {"new"}, f"request {nth}: {stands}"
            line.left = 10**9
            write(f"{root}/w/a.zarr", VOLUME[BEFORE:], kind, storage, append="z", resume=True)
            assert objects(lab, "w/a.zarr") == whole, f"request {nth}"
            assert not [key for key in lab.names("w/a.zarr") if "append" in key], f"request {nth}"
            assert io.verify(f"{root}/w/a.zarr", storage_options=lab.options).ok, f"request {nth}"
    assert "old" in states
