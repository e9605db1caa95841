"""Damaged chunk files: what was written is read, or an error; a manifest leaves no doubt."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from harness import MiB, failure, figure, run, say, start
from helpers import make_volume
from mutate import CHUNK_MUTATIONS, flip

import scout_dask_io as io
from scout_dask_io.store.chunk_v2 import crc32c
from scout_dask_io.store.manifest import read_manifest

SEED = 9
VOLUME = make_volume((9, 40, 44), seed=3)
CHUNKS = (8, 32, 32)
CODECS: dict[str, Any] = {
    "blosc": "zstd",
    "lz4": "lz4",
    "zstd": numcodecs.Zstd(level=1),
    "zlib": numcodecs.Zlib(level=1),
    "gzip": numcodecs.GZip(level=1),
    "none": "none",
}


def chunk_files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))


def fuzz(path: str, codec: str, seed: int, n: int, reader: str) -> Counter[str]:
    """Damage one chunk after another and read the array; count what came of it."""
    root, rng = Path(path), random.Random(seed)
    files = chunk_files(root)
    manifest = read_manifest(root)
    found: Counter[str] = Counter()
    for k in range(n):
        file = rng.choice(files)
        mutation = rng.choice((*CHUNK_MUTATIONS, "swap"))
        whole = file.read_bytes()
        if mutation == "swap":
            other = rng.choice([f for f in files if f != file])
            broken = other.read_bytes()
        else:
            broken = mutation(whole, rng)
        say(f"{k} {mutation} {file.name}")
        file.write_bytes(broken)
        # A mutant that takes longer, in C code too, ends the process.
        signal.setitimer(signal.ITIMER_REAL, 2 if reader == "ours" else 20)
        began = time.process_time()
        try:
            if reader == "ours":
                values = io.read_zarr(root).compute(scheduler="sync")
            else:
                values = np.asarray(zarr.open_array(root, mode="r", zarr_format=2)[:])
        except Exception as err:
            outcome = failure(err)
            found["error"] += 1
            if not outcome.is_typed or str(file) not in outcome.message:
                found[f"untyped {outcome}"] += 1
        else:
            same = values.shape == VOLUME.shape and bool((values == VOLUME).all())
            found["identical" if same else "silent"] += 1
        found["slow"] += time.process_time() - began > 2
        signal.setitimer(signal.ITIMER_REAL, 60)
        index = tuple(map(int, file.relative_to(root).parts))
        if manifest is not None and broken != whole:
            size, crc = manifest.records[index]
            found["caught" if (len(broken), crc32c(broken)) != (size, crc) else "missed"] += 1
        file.write_bytes(whole)
    return found


def make(path: Path, codec: str) -> None:
    io.write_zarr(path, VOLUME, CHUNKS, codec=CODECS[codec], nb_workers=1)


def mutants(path: Path, codec: str, seed: int, n: int, reader: str = "ours") -> Counter[str]:
    child = start(fuzz, str(path), codec, seed, n, reader, seconds=120)
    outcome = child.join()
    told = f"{codec}, seed {seed}, mutant {child.last_said}: {outcome}"
    assert not outcome.error, told
    assert outcome.value is not None, told
    assert outcome.peak_nbytes < 64 * MiB + 4 * 8 * 32 * 32 * 2, outcome.peak_nbytes
    return Counter(outcome.value)


@pytest.mark.parametrize("n", [34, pytest.param(170, marks=pytest.mark.slow)])
@pytest.mark.parametrize("codec", CODECS)
def test_rows_09_10_a_damaged_chunk_is_caught_under_a_manifest(tmp_path: Path, codec: str, n: int):
    make(tmp_path / "a.zarr", codec)
    found = mutants(tmp_path / "a.zarr", codec, SEED, n)
    figure(
        "chunk mutants",
        tried=n,
        identical=found["identical"],
        errors=found["error"],
        wrong_when_read_unchecked=found["silent"],
        silent_under_manifest=found["missed"],
    )
    assert found["missed"] == 0
    assert found["caught"] >= n - found["identical"]
    assert found["error"] > 0
    assert found["slow"] == 0
    assert not [k for k in found if k.startswith("untyped")], found


def test_the_fuzz_finds_wrong_voxels_in_plain_blosc_without_a_check(tmp_path: Path):
    make(tmp_path / "a.zarr", "blosc")
    found = mutants(tmp_path / "a.zarr", "blosc", SEED, 40, reader="zarr")
    assert found["silent"] > 0


@pytest.mark.parametrize("n", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_row_09_every_flipped_bit_is_found_by_verify(tmp_path: Path, n: int):
    path, rng = tmp_path / "a.zarr", random.Random(SEED)
    make(path, "blosc")
    verify = io.verify
    files = chunk_files(path)
    silent = wrong = 0
    for _ in range(n):
        file = rng.choice(files)
        whole = file.read_bytes()
        file.write_bytes(flip(whole, rng))
        report = verify(path)
        silent += report.ok
        with contextlib.suppress(io.ChunkReadError):
            wrong += bool((io.read_zarr(path).compute(scheduler="sync") != VOLUME).any())
        file.write_bytes(whole)
    figure("bit flips", tried=n, silent_without_manifest=wrong, silent_under_manifest=silent)
    assert silent == 0
    assert verify(path).ok


def read_one(path: str) -> Any:
    return io.read_zarr(path).compute(scheduler="sync")


def blosc_claiming(nbytes: int, data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", nbytes) + data[8:]


BOMBS = {
    "a zstd frame of a gigabyte": lambda data: numcodecs.Zstd(9).encode(bytes(2**30)),
    "a zlib stream of a quarter": lambda data: numcodecs.Zlib(1).encode(bytes(2**28)),
    "a Blosc header that claims 2 GB": lambda data: blosc_claiming(2**31 - 1, data),
    "a file of 300 MB": None,
    "a FIFO": None,
    "a link to a device": None,
    "a directory": None,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_row_10_a_hostile_chunk_is_an_error_in_bounded_memory_and_time(tmp_path: Path, bomb: str):
    codec = "zlib" if "zlib" in bomb else "zstd" if "zstd" in bomb else "blosc"
    path = tmp_path / "a.zarr"
    make(path, codec)
    chunk = path / "0" / "1" / "0"
    make_bomb = BOMBS[bomb]
    data = chunk.read_bytes()
    chunk.unlink()
    if make_bomb is not None:
        chunk.write_bytes(make_bomb(data))
    elif "FIFO" in bomb:
        os.mkfifo(chunk)
    elif "device" in bomb:
        chunk.symlink_to("/dev/zero")
    elif "directory" in bomb:
        chunk.mkdir()
    else:
        with chunk.open("wb") as file:
            file.truncate(300 * 10**6)
    outcome = run(read_one, str(path), seconds=30, memory_nbytes=400 * MiB)
    assert outcome.error[:1] == ("ChunkReadError",), str(outcome)
    assert str(chunk) in outcome.message
    assert outcome.peak_nbytes < 3 * 8 * 32 * 32 * 2 + 64 * MiB, outcome.peak_nbytes


def test_row_13_missing_and_empty_chunks_are_told_apart_by_the_manifest(tmp_path: Path):
    volume = VOLUME.copy()
    volume[:8, :32, :32] = 0  # a whole chunk of the fill value
    path = tmp_path / "a.zarr"
    io.write_zarr(path, volume, CHUNKS, nb_workers=1)
    manifest = read_manifest(path)
    assert manifest is not None
    assert tuple(manifest.records[0, 0, 0]) == (0, 0)
    assert not (path / "0" / "0" / "0").exists()
    assert np.count_nonzero(manifest.records["nbytes"]) == len(chunk_files(path)) == 7
    shutil.rmtree(path / "1")
    # Without the manifest reading cannot tell, as in all Zarr software.
    assert (manifest.records[1]["nbytes"] > 0).all()
    with pytest.raises(io.ChunkReadError, match="the chunk is lost"):
        io.read_zarr(path)[8:].compute()
    assert (io.read_zarr(path)[:8].compute() == volume[:8]).all()
