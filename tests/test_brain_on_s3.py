"""Planes to S3 and back, bit for bit, as an array and as an image, whatever the network does.

Each test runs on the real brain, where it is there, and on planes like it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import REPO, make_volume, shared_data, write_planes
from object_store import Lab, faulty_proxy, options

import scout_dask_io as io
from scout_dask_io.errors import PathNotFoundError, WriteError

CHUNKS = {"brain": (16, 256, 256), "synthetic": (4, 16, 64)}
FAULTS = (500, 503, "cut", "half")


class Planes:
    """A folder of planes, and what tifffile reads from it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder, self.chunks = folder, CHUNKS[kind]
        if kind == "brain":
            self.folder = shared_data("brain", "ch0")
        else:
            write_planes(folder, make_volume((9, 40, 50), ">u2"), byteorder=">")
        self.pixels = tifffile.imread(sorted(self.folder.glob("*.tif"))).astype("u2")
        # The first level below, by numpy: means of pairs along y and x, halves to the even one.
        size = tuple(n - n % 2 for n in self.pixels.shape[1:])
        whole = self.pixels[:, : size[0], : size[1]].astype("f8")
        pairs = whole.reshape(len(whole), size[0] // 2, 2, size[1] // 2, 2)
        self.halved = np.rint(pairs.mean(axis=(2, 4))).astype("u2")

    def write(self, kind: str, url: str, settings: dict[str, Any], **more: Any) -> None:
        """Convert them to an array, or to an image of two levels of voxels twice as high."""
        of_image = {"ome": True, "levels": 2, "voxel_size": (4, 2, 2)} if kind == "image" else {}
        io.convert(
            self.folder, url, chunks=self.chunks, storage_options=settings, **of_image, **more
        )

    def check(self, kind: str, url: str, settings: dict[str, Any]) -> None:
        """Compare what is read back with tifffile's pixels, and all chunks with the manifest."""
        lazy = io.read_zarr(url, storage_options=settings)
        assert (lazy.shape, lazy.dtype) == (self.pixels.shape, np.dtype("u2"))
        np.testing.assert_array_equal(lazy.compute(), self.pixels)
        if kind == "image":
            low = io.read_zarr(url, level=1, storage_options=settings).compute()
            z, y, x = self.pixels.shape
            assert low.shape == (z, -(-y // 2), -(-x // 2))
            _, y, x = self.halved.shape
            np.testing.assert_array_equal(low[:, :y, :x], self.halved)
        assert io.verify(url, storage_options=settings).ok
        assert io.verify(self.folder, url, storage_options=settings).equal


@pytest.fixture
def planes(of: str, tmp_path: Path) -> Planes:
    return Planes(of, tmp_path / "planes")


of_both = pytest.mark.parametrize(("of", "kind"), [("synthetic", "image"), ("brain", "array")])


@pytest.mark.parametrize(
    ("of", "kind"),
    [
        ("synthetic", "image"),
        pytest.param("brain", "array", marks=pytest.mark.slow),
        pytest.param("brain", "image", marks=pytest.mark.slow),
    ],
)
def test_planes_go_to_s3_and_back(
    lab: Lab, planes: Planes, of: str, kind: str, tmp_path: Path
) -> None:
    planes.write(kind, lab.url, lab.options)
    planes.check(kind, lab.url, lab.options)
    io.export(lab.url, tmp_path / "back", storage_options=lab.options)
    back = tifffile.imread(sorted((tmp_path / "back").glob("*.tif")))
    np.testing.assert_array_equal(back, planes.pixels)
    secrets = [str(value).encode() for value in (lab.options["endpoint_url"], "secret")]
    for name in lab.names():
        stored = lab.fs.cat_file(f"{lab.url}/{name}")
        assert not any(secret in stored for secret in secrets)


@pytest.mark.slow
@of_both
def test_faults_on_the_way_change_no_bit(lab: Lab, planes: Planes, of: str, kind: str) -> None:
    met: dict[tuple[str, str], int] = {}
    done: Counter[Any] = Counter()
    counting = Lock()

    def fault(method: str, path: str) -> Any:
        # Every fourth request fails when it is first made, in one of four ways by turns.
        with counting:  # many are under way
            number = len(met)
            if (method, path) in met or met.setdefault((method, path), number) % 4:
                return None
        wrong = FAULTS[number // 4 % 4]
        wrong = "cut" if wrong == "half" and method != "GET" else wrong
        done[wrong] += 1
        return wrong

    with faulty_proxy(lab.address, fault) as address:
        settings = options(address)
        planes.write(kind, lab.url, settings)
        planes.check(kind, lab.url, settings)
    assert set(done) == set(FAULTS)
    assert sum(done.values()) >= 12
    planes.check(kind, lab.url, lab.options)


@pytest.mark.slow
@of_both
def test_a_connection_that_stays_cut_ends_the_write_and_resume_goes_on(
    lab: Lab, planes: Planes, of: str, kind: str
) -> None:
    allowed, puts = [10**9], list[str]()

    def fault(method: str, path: str) -> Any:
        if method == "PUT":
            puts.append(path.partition("a.zarr/")[2].partition("?")[0])
        return "cut" if method == "PUT" and len(puts) > allowed[0] else None

    planes.write(kind, f"{lab.url}-whole", lab.options, nb_workers=1)
    whole = lab.names("deep/a.zarr-whole")
    n_chunks = len([n for n in whole if n.rpartition("/")[2].isdigit()])
    with faulty_proxy(lab.address, fault) as address:
        settings = options(address)
        allowed[0] = n_chunks // 2 + 3
        with pytest.raises(WriteError, match=rf"{lab.url}/.*resume=True"):
            planes.write(kind, lab.url, settings, nb_workers=1)
        stored, noted = set(lab.names()), {n for n in puts[: allowed[0]] if "journal" in n}
        assert noted
        assert not [n for n in stored if n.rpartition("/")[2] in (".zarray", ".zgroup")]
        for refuse in (io.open, io.read_zarr, io.info):
            with pytest.raises(PathNotFoundError, match=r"unfinished write.*resume=True"):
                refuse(lab.url, storage_options=lab.options)
        allowed[0] = 10**9
        puts.clear()
        planes.write(kind, lab.url, settings, nb_workers=1, resume=True)
    assert not set(puts) & noted
    assert lab.names() == whole
    planes.check(kind, lab.url, lab.options)


@pytest.mark.slow
@of_both
def test_a_writer_that_is_killed_is_resumed_by_another(
    lab: Lab, planes: Planes, of: str, kind: str
) -> None:
    code = """
import json, os, sys, threading, scout_dask_io as io
from scout_dask_io.store.remote_transaction import RemoteTransaction
src, url, settings, how = sys.argv[1:]
finish_unit, noted, one = RemoteTransaction.finish_unit, [], threading.Lock()
def killed(self, level, unit, *rest):
    with one:  # or another thread notes a fourth before the end
        finish_unit(self, level, unit, *rest)
        noted.append(unit)
        if len(noted) == 3:
            os.kill(os.getpid(), 9)
RemoteTransaction.finish_unit = killed
io.convert(src, url, storage_options=json.loads(settings), nb_workers=1, **json.loads(how))
"""
    how: dict[str, Any] = {"chunks": planes.chunks}
    how |= {"ome": True, "levels": 2, "voxel_size": (4, 2, 2)} if kind == "image" else {}
    arguments = [str(planes.folder), lab.url, json.dumps(lab.options), json.dumps(how)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    with pytest.raises(PathNotFoundError, match="unfinished"):
        io.read_zarr(lab.url, storage_options=lab.options)
    assert len([n for n in lab.names() if n.startswith(".scout-journal")]) == 3
    planes.write(kind, lab.url, lab.options, resume=True)
    planes.check(kind, lab.url, lab.options)
    left = [n for n in lab.names() if ".scout" in n and not n.endswith(".scout-manifest")]
    assert left == []
