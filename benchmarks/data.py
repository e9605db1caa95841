"""Makes what is measured: folders of TIFF planes and stored Zarr arrays, by fixed seeds."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tifffile

from benchmarks.layouts import CHUNKS, CODEC, Planes

__all__ = ["camera_plane", "make_planes", "make_stored", "plane_path"]

SEED = 20_190_613
BACKGROUND = 110.0  # camera offset, in counts
READ_NOISE = 18.0  # counts, so that SCOUT's codec halves the data, as it does on real planes
GAIN = 1.6  # shot noise: variance a count of signal


def plane_path(folder: Path, z: int) -> Path:
    """Give the path of plane ``z``; alphabetical order is z order."""
    return folder / f"z{z:06d}.tif"


def camera_plane(z: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Give plane ``z`` of a synthetic stack, ``(y, x)`` uint16; the same on every call.

    Blobs of 8 to 40 voxels in radius on a dark background, under shot and
    read noise that differ in every plane.
    """
    n_planes, height, width = shape
    blobs = np.random.default_rng(SEED)
    n_blobs = max(8, n_planes * height * width // 4_000_000)
    centers = blobs.uniform(0, 1, (n_blobs, 3)) * np.array(shape)
    radii = blobs.uniform(8, 40, n_blobs)
    peaks = blobs.uniform(200, 3000, n_blobs)
    signal = np.zeros((height, width), np.float32)
    for (cz, cy, cx), radius, peak in zip(centers, radii, peaks, strict=True):
        reach = 3 * radius
        if abs(cz - z) > reach:
            continue
        ys = np.arange(max(0, int(cy - reach)), min(height, int(cy + reach)), dtype=np.float32)
        xs = np.arange(max(0, int(cx - reach)), min(width, int(cx + reach)), dtype=np.float32)
        gy = np.exp(-(((ys - cy) / radius) ** 2))
        gx = np.exp(-(((xs - cx) / radius) ** 2))
        depth = peak * np.exp(-(((z - cz) / radius) ** 2))
        if ys.size and xs.size:
            window = np.s_[int(ys[0]) : int(ys[-1]) + 1, int(xs[0]) : int(xs[-1]) + 1]
            signal[window] += np.outer(gy, gx) * depth
    noise = np.random.default_rng((SEED, z)).standard_normal((height, width), np.float32)
    noise *= np.sqrt(GAIN * signal + READ_NOISE**2)
    noise += signal
    noise += BACKGROUND
    plane: np.ndarray = np.clip(noise, 0, 65_535, out=noise).astype(np.uint16)
    return plane


def _write_plane(path: Path, plane: np.ndarray, layout: Planes) -> None:
    compressed = layout.compression != "none"
    tifffile.imwrite(
        path,
        plane,
        compression={"none": None, "lzw": "lzw", "deflate": "zlib"}[layout.compression],
        predictor=layout.predictor if compressed else None,
        rowsperstrip=layout.rows_per_strip or layout.height,
        metadata=None,
    )


def _write_sparse(folder: Path, layout: Planes) -> None:
    """Write planes that are a true header over a hole, so that thousands cost no space."""
    first = plane_path(folder, 0)
    tifffile.imwrite(first, np.zeros((layout.height, layout.width), np.uint16), metadata=None)
    with tifffile.TiffFile(first) as tif:
        offset = tif.pages.first.dataoffsets[0]
    header = first.read_bytes()[:offset]
    size = first.stat().st_size
    for z in range(layout.n_planes):
        with plane_path(folder, z).open("wb") as file:
            file.write(header)
            file.truncate(size)


def make_planes(root: Path, layout: Planes) -> Path:
    """Write a folder of planes under ``root`` and give its path; one that is whole is kept."""
    folder = root / layout.key
    done = root / f"{layout.key}.done"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if layout.sparse:
        _write_sparse(folder, layout)
    else:

        def write(z: int) -> None:
            _write_plane(plane_path(folder, z), camera_plane(z, layout.shape), layout)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(write, range(layout.n_planes)))
    done.touch()
    return folder


def make_stored(root: Path, layout: Planes) -> tuple[Path, int]:
    """Store a stack as SCOUT would have: nested Zarr v2 in its codec; give path and sum.

    Chunk files are written here by numcodecs alone, so that no contender reads
    what it has written itself.
    """
    import numcodecs

    path = root / f"{layout.key}.zarr"
    done = root / f"{layout.key}.zarr.done"
    if done.exists():
        return path, int(done.read_text())
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    meta = {
        "zarr_format": 2,
        "shape": list(layout.shape),
        "chunks": list(CHUNKS),
        "dtype": "<u2",
        "compressor": CODEC,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }
    (path / ".zarray").write_text(json.dumps(meta, indent=4))
    codec = numcodecs.get_codec(dict(CODEC))
    cz, cy, cx = CHUNKS
    total = 0
    for z0 in range(0, layout.n_planes, cz):
        n = min(cz, layout.n_planes - z0)
        rows, columns = -(-layout.height // cy), -(-layout.width // cx)
        slab = np.zeros((cz, rows * cy, columns * cx), np.uint16)
        for z in range(n):
            slab[z, : layout.height, : layout.width] = camera_plane(z0 + z, layout.shape)
        total += int(slab.sum(dtype=np.uint64))
        for j in range(rows):
            parent = path / str(z0 // cz) / str(j)
            parent.mkdir(parents=True)
            for i in range(columns):
                chunk = slab[:, j * cy : (j + 1) * cy, i * cx : (i + 1) * cx]
                (parent / str(i)).write_bytes(codec.encode(np.ascontiguousarray(chunk)))
    done.write_text(str(total))
    return path, total
