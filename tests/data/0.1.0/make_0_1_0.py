"""Make the files beside this script with version 0.1.0 of scout_dask_io.

    python tests/data/0.1.0/make_0_1_0.py FOLDER

``FOLDER`` is new. The pixels are those of :func:`volume`, which the tests compute again.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import tifffile

import scout_dask_io as io

#: No multiple of the chunks, all axes unequal; eight chunks, each a write unit of its own.
SHAPE, CHUNKS, SHARDS = (11, 29, 31), (8, 16, 16), (8, 32, 32)
#: The write units that were finished when a write of an array and one of an image were stopped.
OF_ARRAY, OF_IMAGE = 3, 1
#: Regions of an array in a store: one that was written, and one that was stopped after one chunk.
DONE = (slice(0, 8), slice(0, 29), slice(0, 16))
BEGUN = (slice(8, 11), slice(0, 29), slice(0, 31))
VOXEL_SIZE = (4.0, 1.8, 1.8)
#: What does not depend on the machine.
ROOM: dict[str, Any] = {"nb_workers": 1, "max_mem": "100MB"}
#: A write of an array and one of an image; the interrupted ones are finished by the same call.
ARRAY: dict[str, Any] = {"chunks": CHUNKS, "codec": "zstd", "attributes": {"made": "0.1.0"}}
IMAGE: dict[str, Any] = {
    "chunks": CHUNKS,
    "levels": 3,
    "voxel_size": VOXEL_SIZE,
    "codec": ("zstd", "lz4"),
}


def volume(offset: int = 0) -> np.ndarray:
    """Give ``(z, y, x)`` uint16 of whole-number arithmetic alone; planes and chunks all differ."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return (1 + offset + 977 * z + 31 * y + 7 * x + (x * y * (z + 1)) % 13).astype("uint16")


class Stop:
    """Progress that ends the write after some units, as a kill or as an error."""

    def __init__(self, after: int, kill: bool) -> None:
        self.after, self.kill = after, kill

    def __call__(self, finished: int, *_: Any) -> None:
        if finished >= self.after:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("stopped on purpose")


def unfinished_array(folder: Path) -> None:
    io.write_zarr(folder / "a.zarr", volume(1), progress=Stop(OF_ARRAY, True), **ARRAY, **ROOM)


def unfinished_image(folder: Path) -> None:
    io.write_ome_zarr(
        folder / "a.ome.zarr", volume(2), progress=Stop(OF_IMAGE, True), **IMAGE, **ROOM
    )


def unfinished_in_store(folder: Path, write: Any, name: str, stop: Stop, **given: Any) -> None:
    """Stop a write to a store in memory, and keep each object as a file."""
    with suppress(RuntimeError):
        write(f"memory://pins-0.1.0/{name}", progress=stop, **given, **ROOM)
    keep_objects(folder, name)


def regions_in_store(folder: Path) -> None:
    """Write one region into an array in a store, begin another, and keep each object as a file."""
    url = "memory://pins-0.1.0/regions.zarr"
    io.write_zarr(url, volume(), **ARRAY, **ROOM)
    io.write_zarr(url, volume(5)[DONE], region=DONE, **ROOM)
    with suppress(RuntimeError):
        io.write_zarr(url, volume(6)[BEGUN], region=BEGUN, progress=Stop(1, False), **ROOM)
    keep_objects(folder, "regions.zarr")


def keep_objects(folder: Path, name: str) -> None:
    fs = fsspec.filesystem("memory")
    top = "/pins-0.1.0/"
    for key in fs.find(top + name):
        path = folder / key[len(top) :]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fs.cat_file(key))


def killed(name: str, folder: Path) -> None:
    folder.mkdir()
    done = subprocess.run([sys.executable, __file__, "--child", name, str(folder)], check=False)
    if done.returncode != -signal.SIGKILL:
        raise SystemExit(f"{name} was not killed")


def main(folder: Path) -> None:
    folder.mkdir()
    os.chdir(folder)
    here = Path()
    io.write_zarr(here / "v2.zarr", volume(), **ARRAY, **ROOM)
    io.write_zarr(here / "v3.zarr", volume(), zarr_format=3, **ARRAY, **ROOM)
    io.write_zarr(here / "sharded.zarr", volume(), zarr_format=3, shards=SHARDS, **ARRAY, **ROOM)
    io.write_ome_zarr(here / "image.ome.zarr", volume(), **IMAGE, **ROOM)
    io.write_ome_zarr(here / "image5.ome.zarr", volume(), version="0.5", **IMAGE, **ROOM)
    planes = here / "planes"
    planes.mkdir()
    for z, plane in enumerate(volume()):
        tifffile.imwrite(planes / f"z{z:04d}.tif", plane, photometric="minisblack")
    io.convert(planes, here / "qc.zarr", qc=True, chunks=CHUNKS, codec="zstd", **ROOM)
    shutil.rmtree(planes)
    killed("unfinished_array", here / "unfinished")
    killed("unfinished_image", here / "unfinished_image")
    store = here / "unfinished_in_store"
    array = {"data": volume(3), **ARRAY}
    unfinished_in_store(store, io.write_zarr, "a.zarr", Stop(OF_ARRAY, False), **array)
    image = {"data": volume(4), **IMAGE}
    unfinished_in_store(store, io.write_ome_zarr, "a.ome.zarr", Stop(OF_IMAGE, False), **image)
    regions_in_store(here / "in_store")
    without_the_machine(here)


def without_the_machine(folder: Path) -> None:
    """Take out what says where it was made: a path in the sheet, a host in names of journals."""
    for path in folder.glob("qc.zarr.qc.*"):
        path.write_text(path.read_text().replace(str(folder.resolve()), "/data"))
    for path in sorted(folder.glob("unfinished*/.*/*/journal/**/*.log")):
        path.rename(path.with_name("host-1-1.log"))


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        globals()[sys.argv[2]](Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]))
