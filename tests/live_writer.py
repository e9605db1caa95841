"""A microscope in a process of its own: drops planes in random bursts, in the ways that they come.

``python live_writer.py FOLDER SEED N MEAN_S [CHANNELS]`` writes ``z0000.tif`` and on: some at once,
some under a temporary name, some growing in place, and a few once more with other pixels. Some
bursts are out of order. What it wrote last is what :func:`plane` gives of the last version.
"""

from __future__ import annotations

import io
import random
import sys
import time
from pathlib import Path

import numpy as np
import tifffile

SHAPE = (24, 40)
#: Of how many planes one is written twice.
TWICE = 25


def plane(seed: int, z: int, version: int) -> np.ndarray:
    """Give a plane: a value that no other plane or version has, and structure."""
    base = np.arange(SHAPE[0] * SHAPE[1], dtype=np.uint16).reshape(SHAPE) % 13
    return (base + 20 * (2 * z + version + 1) + seed % 7).astype(np.uint16)


def versions(seed: int, n: int) -> list[int]:
    """Give which planes are written once more, by their last version."""
    rng = random.Random(seed)
    twice = set(rng.sample(range(n), max(1, n // TWICE)))
    return [int(z in twice) for z in range(n)]


def data_of(seed: int, z: int, version: int) -> bytes:
    """Give the file of a plane; every third one is compressed."""
    out = io.BytesIO()
    how = {"compression": "zlib"} if z % 3 == 2 else {}
    tifffile.imwrite(out, plane(seed, z, version), photometric="minisblack", **how)
    return out.getvalue()


def drop(rng: random.Random, path: Path, data: bytes, mean_s: float) -> None:
    """Write a file in one of the ways in which they come."""
    way = rng.randrange(4)
    if way == 0:
        draft = path.with_name(f".{path.name}.tmp")
        draft.write_bytes(data)
        draft.replace(path)
    elif way == 1:
        draft = path.with_name(f"{path.name}.part")
        draft.write_bytes(data)
        time.sleep(rng.random() * mean_s)
        draft.replace(path)
    elif way == 2:
        with path.open("wb") as file:
            for start in range(0, len(data), 600):
                file.write(data[start : start + 600])
                file.flush()
                time.sleep(rng.random() * mean_s / 4)
    else:
        path.write_bytes(data)


def main(folder: str, seed: int, n: int, mean_s: float) -> None:
    """Write all planes, those that come twice too before the last of all."""
    rng = random.Random(seed + 1000)
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    last = versions(seed, n)
    order = list(range(n))
    for start in range(0, n, 16):  # bursts arrive in any order
        if rng.random() < 0.3:
            part = order[start : start + 16]
            rng.shuffle(part)
            order[start : start + 16] = part
    again: list[int] = []
    burst = 0
    *most, final = order
    for z in most:
        drop(rng, root / f"z{z:04d}.tif", data_of(seed, z, 0), mean_s)
        if last[z]:
            again.append(z)
        if again and rng.random() < 0.1:
            late = again.pop(0)
            drop(rng, root / f"z{late:04d}.tif", data_of(seed, late, 1), mean_s)
        burst -= 1
        if burst <= 0:
            time.sleep(rng.random() * 4 * mean_s)
            burst = rng.choice([1, 3, 10, 30])
    for late in again:
        drop(rng, root / f"z{late:04d}.tif", data_of(seed, late, 1), mean_s)
    # Once all planes are there and have settled, a follower is right to end.
    drop(rng, root / f"z{final:04d}.tif", data_of(seed, final, last[final]), mean_s)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
