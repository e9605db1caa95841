"""Following a folder while it grows: the lag behind its writer, and CPU against converting after.

    python -m benchmarks.live [--shape Z Y X] [--rate N] [--repeat N] [--dir FOLDER]

A process drops ``Z`` planes, ``--rate`` a second, as symbolic links to 32 camera-like ones (Poisson
counts and read noise, seeded, uncompressed) in memory; links cost the writer nothing and are read
as files are. ``follow`` converts them as they come, in a process of its own, with its own defaults
for settling and polling; then ``convert`` converts the same folder in another, by turns. The lag
is from the last link to the array standing at its place, so it has two seconds of settling in
it; CPU is user and system time of the process, imports and a small conversion before it left out.
Where the writer is faster than the machine converts, the lag is that of converting: the table says
how long this took alone.
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
from pathlib import Path

import scout_dask_io as io
from benchmarks.pyramid import write_planes

#: Planes that there are; the others are links to them.
N_REAL = 32


def drop(real: Path, folder: Path, n: int, rate: float) -> None:
    """Link ``n`` planes into a folder, ``rate`` a second, and print when the last was."""
    planes = sorted(real.iterdir())
    folder.mkdir()
    start = time.monotonic()
    for z in range(n):
        left = start + z / rate - time.monotonic()
        if left > 0:
            time.sleep(left)
        os.symlink(planes[z % len(planes)], folder / f"z{z:06d}.tif")
    print(time.time())


def convert_one(kind: str, planes: Path, out: Path, n: int) -> dict[str, float]:
    """Follow or convert in this process; give CPU and wall seconds, and when it was done."""
    warm = next(iter(sorted((planes.parent / "real").iterdir())))
    io.write_zarr(out.with_name(f"{out.name}.warm"), io.imread_parallel([warm] * 8), nb_workers=2)
    start_s, cpu_s = time.monotonic(), time.process_time()
    if kind == "follow":
        report = io.follow(planes, out, n, nb_workers=2)
        told = {"lag_s": report.lag_s, "n_again": report.n_again}
    else:
        io.convert(planes, out, nb_workers=2)
        told = {}
    spent = {"cpu_s": time.process_time() - cpu_s, "wall_s": time.monotonic() - start_s}
    return {**told, **spent, "ended": time.time()}


def _child(*args: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "benchmarks.live", "--one", *map(str, args)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def _answer(child: subprocess.Popen[str]) -> str:
    told, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"{child.args} failed")
    return told.splitlines()[-1]


def main() -> None:
    """Print lag and CPU, medians of the rounds, and the median of each round's quotient."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=3, default=(12_000, 2048, 2048))
    parser.add_argument("--rate", type=float, default=200.0, help="planes a second")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, *rest = args.one
        if kind == "drop":
            drop(Path(rest[0]), Path(rest[1]), int(rest[2]), float(rest[3]))
        else:
            print(json.dumps(convert_one(kind, Path(rest[0]), Path(rest[1]), int(rest[2]))))
        return
    n, *plane = args.shape
    root = Path(
        tempfile.mkdtemp(dir=args.dir or ("/dev/shm" if Path("/dev/shm").is_dir() else None))
    )
    rounds = []
    try:
        write_planes(root / "real", (min(N_REAL, n), *plane), None)
        for number in range(args.repeat):
            planes = root / f"planes{number}"
            follower = _child("follow", planes, root / "live.zarr", n)
            last = float(_answer(_child("drop", root / "real", planes, n, args.rate)))
            live = json.loads(_answer(follower))
            after = json.loads(_answer(_child("convert", planes, root / "after.zarr", n)))
            rounds.append((live["ended"] - last, live, after))
            for path in (*root.glob("*.zarr"), *root.glob("*.warm"), planes):
                shutil.rmtree(path)
    finally:
        shutil.rmtree(root)
    lag_s = statistics.median(lag for lag, _, _ in rounds)
    ratio = statistics.median(live["cpu_s"] / after["cpu_s"] for _, live, after in rounds)
    alone_s = statistics.median(after["wall_s"] for _, _, after in rounds)
    again = sum(live["n_again"] for _, live, _ in rounds)
    what = f"{' x '.join(map(str, args.shape))} uint16, {args.rate:g} planes/s"
    print(
        f"{what} for {n / args.rate:.0f} s, medians of {args.repeat}: {lag_s:.1f} s behind the "
        f"last plane, {ratio:.3f} times the CPU of converting after (by rounds), which alone took "
        f"{alone_s:.1f} s; {again} slabs "
        "written again"
    )


if __name__ == "__main__":
    main()
