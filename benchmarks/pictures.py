"""What pictures and exports cost: bytes read, wall and CPU seconds, peak memory, by turns.

    python -m benchmarks.pictures [--shape Z Y X] [--repeat N] [--dir FOLDER] [--case NAME]

``preview`` is of volumes of a terabyte, which take no room: every plane is a link to one
TIFF file, every chunk that a picture may need a link to one chunk file. So all reads come
from memory, and what is counted is what a disk would have to give.

``export`` is of a Zarr array of camera-like noise, in chunks of 64 x 64 x 64, into planes, one
BigTIFF, and a tiled OME-TIFF with a pyramid, each against the plain way: slabs by
zarr-python, files by tifffile, the same tiles and the same compression (Deflate 1 with the
predictor). The plain way reads the array again for each level of the pyramid.

Each run is a process of its own, contenders take turns, imports come before the clocks.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

import scout_dask_io as io
from benchmarks.codecs import camera_noise
from benchmarks.meter import cpu_s, own_peak_nbytes
from scout_dask_io.store.chunk_v2 import ChunkDecoder

# 10,000 planes of 7000 x 7000 uint16, and as much in chunks of 64 x 64 x 64.
PLANES = (10_000, 7000, 7000)
EXTENT, CHUNK = 8192, 64
EXPORTS = {"planes": "planes", "bigtiff": "out.tif", "ome": "out.ome.tif"}
DEFLATE: dict[str, Any] = {
    "compression": "zlib", "compressionargs": {"level": 1}, "predictor": True,
    "photometric": "minisblack",
}  # fmt: skip


# -- data ----------------------------------------------------------------------------------------


def make_planes(folder: Path) -> None:
    """Make a folder of planes that are all links to one."""
    folder.mkdir()
    small = camera_noise((1, 500, 500))[0]
    first = folder / "z00000.tif"
    tifffile.imwrite(first, np.tile(small, (PLANES[1] // 500, PLANES[2] // 500)))
    for z in range(1, PLANES[0]):
        os.link(first, folder / f"z{z:05d}.tif")


def make_volume(folder: Path) -> None:
    """Make an OME-Zarr image of a terabyte whose chunks are links."""
    small = camera_noise((64, 64, 64))
    levels = [512, 256, 128, 64, 32, 16]
    io.write_ome_zarr(folder, np.tile(small, (8, 8, 8)), levels=len(levels), voxel_size=(1, 1, 1))
    grown = EXTENT // levels[0]
    chunk = folder / "chunk"
    (folder / "0" / "0" / "0" / "0").rename(chunk)
    for number, extent in enumerate(levels):
        level = folder / str(number)
        metadata = json.loads((level / ".zarray").read_text())
        metadata["shape"] = [extent * grown] * 3
        (level / ".zarray").write_text(json.dumps(metadata))
        (level / ".scout-manifest").unlink()
        for old in level.glob("[0-9]*"):
            shutil.rmtree(old)
        n = extent * grown // CHUNK
        # Of large levels, the chunks of the three planes through the middle.
        every, middle = range(n), (n // 2,)
        boxes = [(every, every, every)] if n <= 16 else [
            tuple(middle if k == axis else every for k in range(3)) for axis in range(3)
        ]  # fmt: skip
        for z, y, x in {index for box in boxes for index in product(*box)}:
            row = level / str(z) / str(y)
            row.mkdir(parents=True, exist_ok=True)
            os.link(chunk, row / str(x))
    chunk.unlink()
    (folder / ".scout-manifest").unlink()


def make_array(path: Path, shape: tuple[int, int, int]) -> None:
    """Write the array that is exported."""
    small = camera_noise((64, 256, 256))
    times = [-(-n // m) for n, m in zip(shape, small.shape, strict=True)]
    whole = np.tile(small, times)[tuple(slice(n) for n in shape)]
    whole += np.arange(shape[0], dtype="u2")[:, None, None]  # no plane is like another
    io.write_zarr(path, whole)


# -- what is measured ------------------------------------------------------------------------------


def preview(src: Path, out: Path, **how: Any) -> None:
    """Make a picture."""
    io.preview(src, **how).save(out / "picture.png")


def export_ours(src: Path, out: Path, kind: str) -> None:
    """Export by this library, on two threads."""
    io.export(src, out / EXPORTS[kind], nb_workers=2)


def export_plainly(src: Path, out: Path, kind: str) -> None:
    """Export as one would without: a slab of chunks at a time, plane after plane."""
    array: Any = zarr.open_array(src, mode="r")
    shape = array.shape

    def planes(level: int = 0) -> Iterator[np.ndarray]:
        for z in range(0, shape[0], 64):
            for plane in array[z : z + 64]:
                for _ in range(level):
                    rows = plane.astype("f4").reshape(plane.shape[0] // 2, 2, -1, 2)
                    plane = np.rint(rows.mean(axis=(1, 3))).astype("u2")
                yield plane

    if kind == "planes":
        (out / "planes").mkdir()
        for z, plane in enumerate(planes()):
            tifffile.imwrite(out / "planes" / f"z{z:04d}.tif", plane, **DEFLATE)
        return
    common: dict[str, Any] = {**DEFLATE, "dtype": "u2", "maxworkers": 2}
    if kind == "bigtiff":
        tifffile.imwrite(out / "out.tif", planes(), shape=shape, bigtiff=True, **common)
        return
    n_levels = 1
    while max(shape[1:]) >> (n_levels - 1) > 256:
        n_levels += 1
    with tifffile.TiffWriter(out / "out.ome.tif", bigtiff=True, ome=True) as file:
        for level in range(n_levels):
            at = (shape[0], shape[1] >> level, shape[2] >> level)
            more = {"metadata": {"axes": "ZYX"}, "subifds": n_levels - 1} if not level else {}
            tiles = _tiles(planes(level))
            file.write(tiles, shape=at, tile=(256, 256), subfiletype=int(level > 0),
                       **common, **more)  # fmt: skip


def _tiles(planes: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for plane in planes:
        for y in range(0, plane.shape[0], 256):
            for x in range(0, plane.shape[1], 256):
                part = plane[y : y + 256, x : x + 256]
                yield np.pad(part, [(0, 256 - n) for n in part.shape])


def check(src: Path, out: Path, kind: str) -> None:
    """Refuse an export with other pixels than the array's."""
    found = out / EXPORTS[kind]
    planes = [found / f"z{z:04d}.tif" for z in range(3)] if kind == "planes" else found
    key = None if kind == "planes" else range(3)
    values = tifffile.imread(planes, key=key, series=None)
    expected: Any = zarr.open_array(src, mode="r")
    np.testing.assert_array_equal(values, expected[:3])


CASES: dict[str, dict[str, Callable[[Path, Path], None]]] = {
    "preview-planes": {
        "three planes": lambda s, o: preview(s / "planes", o),
        "projections": lambda s, o: preview(s / "planes", o, mode="max"),
    },
    "preview-zarr": {
        "level 0 alone": lambda s, o: preview(s / "image" / "0", o),
        "pyramid": lambda s, o: preview(s / "image", o),
        "pyramid, projections": lambda s, o: preview(s / "image", o, mode="max"),
    },
    **{
        f"export-{kind}": {
            "export": lambda s, o, kind=kind: export_ours(s / "a.zarr", o, kind),  # type: ignore[misc]
            "plainly": lambda s, o, kind=kind: export_plainly(s / "a.zarr", o, kind),  # type: ignore[misc]
        }
        for kind in EXPORTS
    },
}


def read_nbytes() -> int:
    """Give the bytes that this process has read from files so far, from memory or disk."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("rchar:"):
            return int(line.split()[1])
    return 0


def child(case: str, name: str, folder: Path) -> None:
    """Run one contender once, and print what it took as JSON."""
    decoded: Counter[str] = Counter()
    plain = ChunkDecoder.decode

    def counting(self: ChunkDecoder, data: Any, path: Any) -> np.ndarray:
        decoded[str(path)] += 1
        return plain(self, data, path)

    ChunkDecoder.decode = counting  # type: ignore[method-assign]
    out = Path(tempfile.mkdtemp(dir=folder))
    try:
        # What is imported late, and the first threads, are no part of the work.
        io.preview(np.zeros((4, 64, 64), "u2"))
        read, cpu, wall = read_nbytes(), cpu_s(), time.perf_counter()
        CASES[case][name](folder, out)
        took = {
            "wall_s": time.perf_counter() - wall,
            "cpu_s": cpu_s() - cpu,
            "read_nbytes": read_nbytes() - read,
            "peak_nbytes": own_peak_nbytes(),
            "decoded": sum(decoded.values()),
            "chunks": len(decoded),
        }
        if case.startswith("export-"):
            check(folder / "a.zarr", out, case.removeprefix("export-"))
        print(json.dumps(took))
    finally:
        shutil.rmtree(out)


def run(case: str, name: str, folder: Path) -> dict[str, float]:
    """Run one contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.pictures", "--child", case, name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case}, {name}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print a line for each case and contender: medians."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 1024, 1024))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], args.child[1], Path(args.child[2]))
        return
    root = Path(
        tempfile.mkdtemp(dir=args.dir or ("/dev/shm" if Path("/dev/shm").is_dir() else None))
    )
    cases = args.case or list(CASES)
    try:
        if "preview-planes" in cases:
            make_planes(root / "planes")
        if "preview-zarr" in cases:
            make_volume(root / "image")
        if any(case.startswith("export-") for case in cases):
            make_array(root / "a.zarr", tuple(args.shape))
        print(f"export of {' x '.join(map(str, args.shape))} uint16; medians of {args.repeat}")
        for case in cases:
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in CASES[case]}
            for number in range(args.repeat):
                for name in list(runs)[:: -1 if number % 2 else 1]:
                    runs[name].append(run(case, name, root))
            for name, found in runs.items():
                at = {k: statistics.median(r[k] for r in found) for k in found[0]}
                once = f", {at['decoded']:,.0f} decoded of {at['chunks']:,.0f} chunks"
                print(
                    f"{case:14} {name:25} wall {at['wall_s']:6.2f} s, CPU {at['cpu_s']:6.2f} s, "
                    f"read {at['read_nbytes'] / 1e6:8,.0f} MB, peak "
                    f"{at['peak_nbytes'] / 1e6:5,.0f} MB{once if at['chunks'] else ''}",
                    flush=True,
                )
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
