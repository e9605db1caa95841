"""The floor: what the codecs alone cost, on as many threads as the others may use.

Chunks are cut, and compressed strips are read, before the clock starts. What is
timed is only the decoding of every strip once and the encoding of every chunk
once; results are thrown away. No converter that decodes and encodes can be faster.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.common import Reader, chunk_keys, read_slab
from benchmarks.job import Job


def _on_threads(job: Job, call: Callable[[Any], object], items: Iterable[Any]) -> None:
    """Call for every item; items go in runs, so that handing them over costs nothing."""
    items = list(items)
    step = max(1, len(items) // (job.n_workers * 16))
    runs = [items[n : n + step] for n in range(0, len(items), step)]

    def one(run: list[Any]) -> None:
        for item in run:
            call(item)

    with ThreadPoolExecutor(job.n_workers) as pool:
        list(pool.map(one, runs))


def _cut(job: Job) -> np.ndarray:
    """Read the planes and give an array of whole chunks, one a row; edges are padded."""
    counts = [-(-n // c) for n, c in zip(job.shape, job.chunks, strict=True)]
    cut = np.zeros((*counts, *job.chunks), np.uint16)
    paths = job.paths
    _, cy, cx = job.chunks
    for k, (start, stop) in enumerate(job.slabs):
        slab = read_slab(paths[start:stop])
        for j in range(counts[1]):
            for i in range(counts[2]):
                part = slab[:, j * cy : (j + 1) * cy, i * cx : (i + 1) * cx]
                cut[k, j, i, : part.shape[0], : part.shape[1], : part.shape[2]] = part
    return cut.reshape(-1, math.prod(job.chunks))


def _strips(job: Job) -> tuple[list[tuple[bytes, int]], Callable[[tuple[bytes, int]], object]]:
    """Read every strip's bytes, and give the call that decodes one, predictor and all."""
    import tifffile

    strips: list[tuple[bytes, int]] = []
    for path in job.paths:
        with tifffile.TiffFile(path) as tif, Path(path).open("rb") as file:
            page = tif.pages.first
            width = page.imagewidth
            compression, predictor = page.compression, page.predictor
            for n, (offset, size) in enumerate(
                zip(page.dataoffsets, page.databytecounts, strict=True)
            ):
                file.seek(offset)
                rows = min(page.rowsperstrip, page.imagelength - n * page.rowsperstrip)
                strips.append((file.read(size), rows))
    decode = tifffile.TIFF.DECOMPRESSORS[compression]
    undo = tifffile.TIFF.UNPREDICTORS[predictor]
    local = threading.local()

    def call(strip: tuple[bytes, int]) -> object:
        data, rows = strip
        nbytes = rows * width * 2
        buffer = getattr(local, "buffer", None)
        if buffer is None or len(buffer) < nbytes:
            buffer = local.buffer = bytearray(nbytes)
        decoded = decode(data, out=memoryview(buffer)[:nbytes])
        values = np.frombuffer(decoded, np.uint16).reshape(rows, width)
        return undo(values, axis=-1, out=values) if predictor > 1 else values

    return strips, call


def convert(job: Job, whole_chunk_blocks: bool = True) -> Callable[[], None]:
    """Decode every strip and encode every chunk, once."""
    import numcodecs
    import numcodecs.blosc

    settings = dict(job.codec)
    if whole_chunk_blocks:
        settings["blocksize"] = math.prod(job.chunks) * 2
    codec = numcodecs.get_codec(settings)
    numcodecs.blosc.use_threads = False
    chunks = _cut(job)
    strips, decode = ([], None) if job.compression == "none" else _strips(job)

    def work() -> None:
        if decode is not None:
            _on_threads(job, decode, strips)
        _on_threads(job, codec.encode, chunks)

    return work


def reader(job: Job) -> Reader:
    """Decode every chunk of a stored array once, from memory; single regions are refused."""
    import json

    import numcodecs
    import numcodecs.blosc

    root = Path(job.stored)
    meta = json.loads((root / ".zarray").read_text())
    codec = numcodecs.get_codec(meta["compressor"])
    numcodecs.blosc.use_threads = False
    keys = list(chunk_keys(job.shape, job.chunks))
    encoded = [(root / "/".join(map(str, key))).read_bytes() for key in keys]
    local = threading.local()
    size = math.prod(job.chunks)

    def decode(data: bytes) -> None:
        if not hasattr(local, "out"):
            local.out = np.empty(size, np.uint16)
        codec.decode(data, out=local.out)

    def total() -> int:
        _on_threads(job, decode, encoded)
        return -1

    def get(region: tuple[slice, ...]) -> np.ndarray:
        raise NotImplementedError("the floor decodes chunks only; it gives no regions")

    return Reader(get, total)
