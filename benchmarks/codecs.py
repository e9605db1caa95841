"""Which Blosc block size suits which chunk: speed against size over shapes and dtypes.

    python -m benchmarks.codecs [--planes FOLDER] [--repeat N]

Isolates the codec: one thread, chunks already cut and in memory, CPU seconds,
medians of rounds in which the block sizes take turns. Noise is camera-like
(Poisson counts with a gain, and read noise, over blobs, seeded), then its means of
2 x 2 pixels; ``--planes`` adds chunks of real planes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import tifffile
from numcodecs import Blosc

from scout_dask_io.core.downsample import downsample
from scout_dask_io.store.codecs import blosc_blocksize

SHAPES = ((32, 32, 32), (64, 64, 64), (16, 256, 256), (128, 128, 128), (64, 256, 256))
DTYPES = ("uint8", "uint16", "float32")
BLOCKS = (0, 2**16, 2**17, 2**18, 2**19, 2**20, 2**21)
CODECS = ("zstd", "lz4")


def camera_noise(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Give blobs under Poisson noise of gain 20 and read noise, around an offset of 100."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    light = np.full(shape, 10.0)
    for _ in range(6):
        cz, cy, cx = (rng.uniform(0, n) for n in shape)
        width = 2 * rng.uniform(8, 40) ** 2
        light += 150 * np.exp(-((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2) / width)
    counts = rng.poisson(light) * 20 + rng.normal(100, 8, shape)
    return counts.clip(0, 65535).astype("uint16")


def as_dtype(volume: np.ndarray, dtype: str) -> np.ndarray:
    """Give the volume as ``uint8`` (its upper bits), ``uint16``, or smooth ``float32``."""
    if dtype == "uint8":
        return (volume >> 4).clip(0, 255).astype("uint8")
    return volume.astype(dtype) / 7 if dtype == "float32" else volume


def cut(volume: np.ndarray, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Give the whole chunks of a volume, each contiguous, at most 32 MB of them."""
    counts = [n // c for n, c in zip(volume.shape, shape, strict=True)]
    chunks = []
    for at in np.ndindex(*counts):
        where = tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, shape, strict=True))
        chunks.append(np.ascontiguousarray(volume[where]))
        if sum(c.nbytes for c in chunks) > 32 * 2**20:
            break
    return chunks


def measure(chunks: list[np.ndarray], codec: Blosc) -> tuple[float, float, float]:
    """Give ``(encode MB/s, decode MB/s, ratio)``."""
    nbytes = sum(c.nbytes for c in chunks)
    start = time.thread_time()
    encoded = [codec.encode(c) for c in chunks]
    middle = time.thread_time()
    out = np.empty_like(chunks[0])
    for data in encoded:
        codec.decode(data, out)
    end = time.thread_time()
    return (
        nbytes / (middle - start) / 1e6,
        nbytes / (end - middle) / 1e6,
        nbytes / sum(map(len, encoded)),
    )


def main() -> None:
    """Print a table for each codec, shape and dtype; ``*`` marks the block size of the rule."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=Path, help="a folder of real planes")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    volumes = {"noise": camera_noise((128, 256, 512))}
    # What the lower levels of an image hold.
    volumes["averages"] = downsample(volumes["noise"], (1, 2, 2))
    if options.planes:
        paths = sorted(options.planes.glob("*.tif"))
        volumes["planes"] = np.stack([tifffile.imread(p) for p in paths]).astype("uint16")
    from numcodecs import blosc

    threads, blosc.use_threads = blosc.use_threads, False
    try:
        print("| data | codec | dtype | chunk | blocksize | encode MB/s | decode MB/s | ratio |")
        print("|---|---|---|---|---|---|---|---|")
        for name, volume in volumes.items():
            for dtype in DTYPES:
                typed = as_dtype(volume, dtype)
                for shape in SHAPES:
                    chunks = cut(
                        typed, tuple(min(c, n) for c, n in zip(shape, typed.shape, strict=False))
                    )
                    _table(name, dtype, shape, chunks, options.repeat)
    finally:
        blosc.use_threads = threads


def _table(name, dtype, shape, chunks, repeat) -> None:
    nbytes = chunks[0].nbytes
    blocks = [b for b in BLOCKS if b <= nbytes]
    if nbytes not in blocks:
        blocks.append(nbytes)
    for cname in CODECS:
        runs: dict[int, list[tuple[float, float, float]]] = {b: [] for b in blocks}
        for _ in range(repeat):
            for block in blocks:
                codec = Blosc(cname, 1, Blosc.BITSHUFFLE, block)
                runs[block].append(measure(chunks, codec))
        for block, found in runs.items():
            encode, decode, ratio = (statistics.median(r[k] for r in found) for k in range(3))
            rule = " *" if block == blosc_blocksize(nbytes, chunks[0].itemsize) else ""
            print(
                f"| {name} | {cname} | {dtype} | {'x'.join(map(str, shape))} | "
                f"{block or 'own'}{rule} | {encode:.0f} | {decode:.0f} | {ratio:.3f} |"
            )


if __name__ == "__main__":
    main()
