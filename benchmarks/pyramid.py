"""What the levels of an OME-Zarr image cost on top of level 0: CPU seconds, by turns.

    python -m benchmarks.pyramid [--shape Z Y X] [--repeat N] [--workers N] [--dir FOLDER]

Level 0 alone is what ``write_zarr`` writes of the same planes. What a pyramid would cost
if the chunks of its lower levels only had to be encoded is told beside what it does cost.

Camera-like planes (Poisson counts and read noise, seeded) as uncompressed TIFF, which
leaves level 0 the least to do, and as deflated TIFF. Each round writes level 0 alone and
then the whole pyramid, or the other way round; user and system time of the process. As much
memory as both need is touched before: in a virtual machine, the first touch costs more.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numcodecs import blosc

import scout_dask_io as io
from benchmarks.codecs import camera_noise

SIZES = {"isotropic": (1.0, 1.0, 1.0), "4 x 1.8 x 1.8 um": (4.0, 1.8, 1.8)}


def write_planes(folder: Path, shape: tuple[int, int, int], compression: str | None) -> None:
    """Write planes of noise; tiles of one volume, shifted after each 64 planes.

    No chunk of any size that counts, nor one of the level below, holds the same pixels
    twice: where they do, the codec takes twice as long.
    """
    folder.mkdir()
    small = camera_noise((64, 512, 512))
    tiles = tuple(-(-n // 512) for n in shape[1:])
    for z in range(shape[0]):
        again = z // 64
        plane = np.roll(np.tile(small[z % 64], tiles), (131 * again, 197 * again), (0, 1))
        plane = plane[: shape[1], : shape[2]]
        tifffile.imwrite(folder / f"{z:05d}.tif", plane, compression=compression, rowsperstrip=64)


def cpu_s(planes: Path, out: Path, whole: bool, size: Any, workers: int) -> float:
    """Give the CPU seconds of one write, of level 0 or of the whole pyramid."""
    data = io.imread_folder(planes)
    write: Any = io.write_ome_zarr if whole else io.write_zarr
    np.ones(2 * data.nbytes, np.uint8)  # given back at once
    start = time.process_time()
    write(out, data, voxel_size=size, nb_workers=workers)
    found = time.process_time() - start
    shutil.rmtree(out)
    return found


def encode_s(image: Path) -> float:
    """Give the CPU seconds that encoding the chunks of the lower levels takes, and no more."""
    total = 0.0
    blosc.use_threads = False  # as inside a write
    for path in sorted(image.glob("[1-9]*")):
        array: Any = zarr.open_array(path, mode="r")
        codec = array.compressors[0]
        for cell in product(
            *(range(0, n, c) for n, c in zip(array.shape, array.chunks, strict=True))
        ):
            part = array[tuple(slice(k, k + c) for k, c in zip(cell, array.chunks, strict=True))]
            # Chunks at the edge are stored whole.
            chunk = np.zeros(array.chunks, array.dtype)
            chunk[tuple(slice(n) for n in part.shape)] = part
            start = time.process_time()
            codec.encode(chunk)
            total += time.process_time() - start
    return total


def main() -> None:
    """Print a line for each compression and voxel size: medians, and the quotient by rounds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(128, 1024, 1024))
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dir", type=Path, default=None)
    args = parser.parse_args()
    root = Path(
        tempfile.mkdtemp(dir=args.dir or ("/dev/shm" if Path("/dev/shm").is_dir() else None))
    )
    try:
        print(f"{' x '.join(map(str, args.shape))} uint16, medians of {args.repeat}, CPU s")
        for compression in (None, "zlib"):
            planes = root / f"{compression}"
            write_planes(planes, tuple(args.shape), compression)
            for name, size in SIZES.items():
                runs: dict[bool, list[float]] = {False: [], True: []}
                for number in range(args.repeat + 1):
                    for kind in sorted(runs, reverse=bool(number % 2)):
                        found = cpu_s(planes, root / "out.zarr", kind, size, args.workers)
                        if number:  # the first round warms up
                            runs[kind].append(found)
                io.write_ome_zarr(root / "out.zarr", io.imread_folder(planes), voxel_size=size)
                encoding = min(encode_s(root / "out.zarr") for _ in range(2))
                shutil.rmtree(root / "out.zarr")
                one, whole = (statistics.median(runs[k]) for k in (False, True))
                times = [b / a for a, b in zip(runs[False], runs[True], strict=True)]
                least = min(runs[True]) / min(runs[False])
                print(
                    f"{compression or 'raw':5} {name:18} level 0 {one:.2f}, pyramid {whole:.2f}, "
                    f"{statistics.median(times):.2f} times by rounds, {least:.2f} by the least; "
                    f"with the encoding alone {1 + encoding / one:.2f}",
                    flush=True,
                )
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
