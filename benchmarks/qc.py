"""What the sheet of the planes costs a conversion: CPU seconds, by turns, a process each.

    python -m benchmarks.qc [--shape Z Y X] [--compression NAME] [--ome] [--repeat N] [--dir FOLDER]

Camera-like planes (Poisson counts and read noise, seeded) as uncompressed TIFF, which
leaves a conversion the least to do beside encoding, or compressed by another name; into
an array, or an image with levels. Each round converts them without
and with ``qc``, in turns; user and system time of the process, imports and a small
conversion before it left out.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scout_dask_io as io
from benchmarks.pyramid import write_planes


def cpu_s(planes: Path, out: Path, qc: bool, ome: bool) -> float:
    """Give the CPU seconds of one conversion in this process; a smaller one warms up."""
    data = io.imread_folder(planes)
    write = io.write_ome_zarr if ome else io.write_zarr
    for part in (data[:8, :256, :256], data):
        start = time.process_time()
        write(out, part, qc=qc, nb_workers=2, overwrite=True)
        found = time.process_time() - start
    return found


def main() -> None:
    """Print the medians, and the median of the quotients of each round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(192, 2048, 2048))
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--compression", help="of the planes, such as zlib or lzw")
    parser.add_argument("--ome", action="store_true", help="an image with levels")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        planes, out, qc, kind = args.one
        print(cpu_s(Path(planes), Path(out), qc == "qc", kind == "image"))
        return
    root = Path(
        tempfile.mkdtemp(dir=args.dir or ("/dev/shm" if Path("/dev/shm").is_dir() else None))
    )
    runs: dict[str, list[float]] = {"plain": [], "qc": []}
    try:
        write_planes(root / "planes", tuple(args.shape), args.compression)
        for number in range(args.repeat):
            for kind in sorted(runs, reverse=bool(number % 2)):
                one = [str(root / "planes"), str(root / "out.zarr"), kind]
                one.append("image" if args.ome else "array")
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.qc", "--one", *one],
                    check=True, capture_output=True, text=True,
                )  # fmt: skip
                runs[kind].append(float(done.stdout))
                shutil.rmtree(root / "out.zarr")
    finally:
        shutil.rmtree(root)
    ratio = statistics.median(b / a for a, b in zip(*runs.values(), strict=True))
    plain, qc = (statistics.median(found) for found in runs.values())
    what = f"{' x '.join(map(str, args.shape))} uint16, {args.compression or 'raw'}"
    what += ", levels" if args.ome else ""
    print(
        f"{what}, medians of {args.repeat}: plain {plain:.3f}, "
        f"with qc {qc:.3f} CPU s, {ratio:.3f} times (by rounds), least {min(runs['plain']):.3f} "
        f"and {min(runs['qc']):.3f}"
    )


if __name__ == "__main__":
    main()
