"""Following a folder while it grows: the lag behind its writer, and CPU against converting after.

    python -m benchmarks.live [--shape Z Y X] [--rate N] [--signal SHARE] [--repeat N] [--dir DIR]
    python -m benchmarks.live --update [--shape Z Y X] [--chunks Z Y X] [--ome] [--compression NAME]

A process drops ``Z`` planes, ``--rate`` a second, as symbolic links to 32 camera-like ones (Poisson
counts and read noise, seeded; uncompressed unless ``--compression`` names another) in memory; links
cost the writer nothing and are read as files are. ``follow`` converts them as they come, in a
process of its own, with its own defaults for settling and polling; then ``convert`` converts the
same folder in another, by turns. The lag is from the last link to the array standing at its place,
so it has two seconds of settling in it; what of it comes after the last plane had settled is given
too. CPU is user and system time of the process, imports and a small conversion before it left out.
Where the writer is faster than the machine converts, the lag is that of converting: the table says
how long this took alone.

By default a tenth of the rows of each plane hold a signal, and the others are 0, as outside of a
mask: what 200 planes of 2048 x 2048 a second become is then written in 6 GB, by two cores. With
``--signal 1`` it takes four cores and 60 GB.

With ``--update`` the folder is converted, three planes of it change, ``update`` brings the array up
to date, and the headers of the folder are read, each in a process of its own, by turns: once with
the three one after the other, and once far apart. The table has the share of chunks that these
planes touch, and the CPU of the update without that of the headers, as a share of the whole.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tifffile

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


def link(real: Path, folder: Path, n: int) -> None:
    """Link ``n`` planes into a folder."""
    planes = sorted(real.iterdir())
    folder.mkdir()
    for z in range(n):
        os.symlink(planes[z % len(planes)], folder / f"z{z:06d}.tif")


def acquire_again(real: Path, folder: Path, numbers: tuple[int, ...]) -> None:
    """Let planes be others than they were: copies of the next ones, with times of their own."""
    planes = sorted(real.iterdir())
    for z in numbers:
        path = folder / f"z{z:06d}.tif"
        path.unlink()
        shutil.copyfile(planes[(z + 1) % len(planes)], path)


def mask(folder: Path, share: float) -> None:
    """Let nothing but a share of the rows of each plane hold a signal."""
    for path in sorted(folder.iterdir()):
        plane = tifffile.imread(path)
        plane[round(share * len(plane)) :] = 0
        tifffile.imwrite(path, plane, rowsperstrip=64)


def check_room(root: Path, args: argparse.Namespace) -> None:
    """Refuse what would not fit: planes of this noise become about two thirds of their size."""
    nbytes, plane_nbytes = 2 * math.prod(args.shape), 2 * math.prod(args.shape[1:])
    needed = nbytes * args.signal * 2 / 3 + N_REAL * plane_nbytes
    free = shutil.disk_usage(root).free
    if needed > free:
        raise SystemExit(
            f"{root} has {free / 1e9:.1f} GB free, and {needed / 1e9:.1f} GB are needed: give "
            "--dir, fewer planes by --shape, or a smaller --signal"
        )


def bring_up_to_date(kind: str, planes: Path, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Convert, update or read headers in this process; give CPU seconds and chunks written."""
    warm = out.with_name(f"{out.name}.{os.getpid()}.warm")
    link(planes.parent / "real", warm, 8)
    io.convert(warm, warm.with_suffix(".zarr"), **options)
    io.update(warm, warm.with_suffix(".zarr"), **options)
    cpu_s, chunks = time.process_time(), (0, 1)
    if kind == "headers":
        io.imread_folder(planes)
    elif kind == "whole":
        io.convert(planes, out, nb_workers=2, overwrite=True, **options)
    else:
        report = io.update(planes, out, nb_workers=2, **options)
        chunks = (report.n_chunks, report.n_all_chunks)
    return {"cpu_s": time.process_time() - cpu_s, "chunks": chunks}


def compare_updates(root: Path, args: argparse.Namespace) -> None:
    """Print the table of ``--update``: medians of the rounds, of quotients by rounds."""
    n = args.shape[0]
    options = {"ome": args.ome, **({"chunks": args.chunks} if args.chunks else {})}
    cases = {"one after the other": (n // 3, n // 3 + 1, n // 3 + 2)}
    cases["far apart"] = (n // 6, n // 2, n - n // 6)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    link(root / "real", root / "planes", n)
    for _ in range(args.repeat):
        for name, numbers in cases.items():
            turn = {}
            for kind in ("whole", "headers", "update"):
                if kind == "update":
                    acquire_again(root / "real", root / "planes", numbers)
                words = (root / "planes", root / "a.zarr", json.dumps(options))
                turn[kind] = json.loads(_answer(_child(kind, *words)))
            found[name].append(turn)
    shape = " x ".join(map(str, args.shape))
    chunks = " x ".join(map(str, args.chunks or ())) or "default"
    levels = ", levels" if args.ome else ""
    pages = f", {args.compression}" if args.compression else ""
    print(f"{shape} uint16{pages}, chunks {chunks}{levels}; medians of {args.repeat}")
    print("planes that changed lie | chunks written | whole | headers | update | without headers")
    for name, turns in found.items():
        whole, headers, again = (
            statistics.median(t[kind]["cpu_s"] for t in turns)
            for kind in ("whole", "headers", "update")
        )
        share = statistics.median(
            (t["update"]["cpu_s"] - t["headers"]["cpu_s"]) / t["whole"]["cpu_s"] for t in turns
        )
        some, every = turns[0]["update"]["chunks"]
        print(
            f"{name} | {some} of {every}, {some / every:.1%} | {whole:.1f} s | {headers:.2f} s | "
            f"{again:.2f} s | {share:.1%} of the whole"
        )


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
    parser.add_argument("--signal", type=float, default=0.1, help="share of rows, not of --update")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--update", action="store_true", help="an update against the whole")
    parser.add_argument("--chunks", type=int, nargs=3, help="of --update")
    parser.add_argument("--ome", action="store_true", help="an image with levels, of --update")
    parser.add_argument("--compression", help="of the planes, such as zlib or lzw")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, *rest = args.one
        if kind == "drop":
            drop(Path(rest[0]), Path(rest[1]), int(rest[2]), float(rest[3]))
        elif kind in ("whole", "headers", "update"):
            places = Path(rest[0]), Path(rest[1])
            print(json.dumps(bring_up_to_date(kind, *places, json.loads(rest[2]))))
        else:
            print(json.dumps(convert_one(kind, Path(rest[0]), Path(rest[1]), int(rest[2]))))
        return
    n, *plane = args.shape
    root = Path(
        tempfile.mkdtemp(dir=args.dir or ("/dev/shm" if Path("/dev/shm").is_dir() else None))
    )
    rounds = []
    try:
        write_planes(root / "real", (min(N_REAL, n), *plane), args.compression)
        if args.update:
            compare_updates(root, args)
            return
        check_room(root, args)
        mask(root / "real", args.signal)
        for number in range(args.repeat):
            planes = root / f"planes{number}"
            follower = _child("follow", planes, root / "live.zarr", n)
            last = float(_answer(_child("drop", root / "real", planes, n, args.rate)))
            live = json.loads(_answer(follower))
            shutil.rmtree(root / "live.zarr")
            after = json.loads(_answer(_child("convert", planes, root / "after.zarr", n)))
            rounds.append((live["ended"] - last, live, after))
            for path in (*root.glob("*.zarr"), *root.glob("*.warm"), planes):
                shutil.rmtree(path)
    finally:
        shutil.rmtree(root)
    lag_s = statistics.median(lag for lag, _, _ in rounds)
    settled_s = statistics.median(live["lag_s"] for _, live, _ in rounds)
    ratio = statistics.median(live["cpu_s"] / after["cpu_s"] for _, live, after in rounds)
    alone_s = statistics.median(after["wall_s"] for _, _, after in rounds)
    each_s = statistics.median(live["cpu_s"] / n for _, live, _ in rounds)
    again = sum(live["n_again"] for _, live, _ in rounds)
    what = f"{' x '.join(map(str, args.shape))} uint16, {args.signal:.0%} of the rows not 0, "
    what += f"{args.rate:g} planes/s"
    print(
        f"{what} for {n / args.rate:.0f} s, medians of {args.repeat}: {lag_s:.1f} s behind the "
        f"last plane, {settled_s:.1f} after it had settled, {each_s * 1000:.1f} ms of CPU a "
        f"plane, {ratio:.3f} times that of converting after (by rounds), which alone took "
        f"{alone_s:.1f} s; {again} slabs written again"
    )


if __name__ == "__main__":
    main()
