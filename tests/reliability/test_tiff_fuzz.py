"""Damaged TIFF files: the declared shape and dtype, or one kind of error that names the file."""

from __future__ import annotations

import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from harness import GiB, MiB, failure, figure, run, say, start
from helpers import make_volume
from mutate import TIFF_MUTATIONS, header, ifd_entry, truncate

import scout_dask_io as io

SEED = 24
STRUCTURAL = (ifd_entry, truncate, header)


def pixels(shape: tuple[int, ...], dtype: str = "u2") -> np.ndarray:
    """Values of which no byte is zero, so that zeros in what is read were made up."""
    rng = np.random.default_rng(7)
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = rng.integers(1, 64 if "f" in dtype else 256, nbytes, dtype=np.uint8)
    return raw.view(dtype).reshape(shape)


PLANE = (61, 67)
ENCODINGS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "raw": (pixels(PLANE), {"rowsperstrip": 16}),
    "raw big-endian, one strip": (pixels(PLANE, ">u2"), {"byteorder": ">"}),
    "raw tiles": (pixels(PLANE), {"tile": (16, 32)}),
    "LZW": (pixels(PLANE), {"compression": "lzw", "rowsperstrip": 16}),
    "Deflate": (pixels(PLANE), {"compression": "zlib", "rowsperstrip": 16}),
    "Deflate with predictor": (
        pixels(PLANE),
        {"compression": "zlib", "predictor": True, "rowsperstrip": 16},
    ),
    "Zstd tiles": (pixels(PLANE), {"compression": "zstd", "tile": (16, 32)}),
    "PackBits": (pixels(PLANE), {"compression": "packbits", "rowsperstrip": 16}),
    "JPEG": (pixels(PLANE, "u1"), {"compression": "jpeg", "rowsperstrip": 16}),
    "RGB": (pixels((*PLANE, 3), "u1"), {"photometric": "rgb", "rowsperstrip": 16}),
    "BigTIFF": (pixels(PLANE, "f4"), {"bigtiff": True, "rowsperstrip": 16}),
    "pages": (pixels((3, *PLANE)), {"compression": "lzw", "rowsperstrip": 16}),
    "ImageJ stack": (pixels((4, *PLANE)), {"imagej": True}),
}


def read(path: str, how: str) -> tuple[Any, Any, np.ndarray]:
    """Give the declared shape, the declared dtype and what is read."""
    if how == "naive":
        with tifffile.TiffFile(path) as tif:
            series = tif.series[0]
            return series.shape, series.dtype, series.asarray()
    array = io.imread_parallel([path])[0] if how == "folder" else io.imread(path)
    return array.shape, array.dtype, array.compute(scheduler="sync")


def fuzz(folder: str, encoding: str, seed: int, n: int, how: str) -> Counter[str]:
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the decoders' own complaints
    path, rng = Path(folder) / "a.tif", random.Random(f"{encoding}{seed}")
    values, settings = ENCODINGS[encoding]
    tifffile.imwrite(path, values, **{"photometric": "minisblack", **settings})
    whole = path.read_bytes()
    found: Counter[str] = Counter()
    problems = []
    for k in range(n):
        mutation = rng.choice(TIFF_MUTATIONS)
        broken = mutation(whole, rng)
        if broken == whole:
            continue
        say(f"{k} {mutation.__name__}")
        path.write_bytes(broken)
        way = how if how == "naive" else ("folder" if k % 3 == 0 and values.ndim == 2 else "file")
        signal.setitimer(signal.ITIMER_REAL, 2 if how != "naive" else 20)
        began = time.process_time()
        problem = ""
        try:
            shape, dtype, got = read(str(path), way)
        except Exception as err:
            outcome = failure(err)
            found["error"] += 1
            if outcome.error[0] != "TiffReadError" or str(path) not in outcome.message:
                problem = f"not a TiffReadError that names the file: {outcome}"
                found["untyped"] += 1
        else:
            found["read"] += 1
            if got.shape != shape or got.dtype.newbyteorder("=") != np.dtype(dtype).newbyteorder(
                "="
            ):
                problem = f"declared {shape} {dtype}, read {got.shape} {got.dtype}"
                found["other shape"] += 1
            # Bits of one are half zeros, rightly so.
            elif mutation in STRUCTURAL and got.dtype.kind != "b" and (got == 0).mean() > 0.02:
                problem = f"{(got == 0).mean():.0%} zeros of {got.shape} {got.dtype}"
                found["zeros"] += 1
        if time.process_time() - began > 2:
            found["slow"] += 1
            problem += " slow"
        signal.setitimer(signal.ITIMER_REAL, 120)
        if problem:
            (Path(folder) / f"problem-{len(problems)}.tif").write_bytes(broken)
            problems.append(
                f"{encoding}, seed {seed}, mutant {k} {mutation.__name__} {way}: {problem}"
            )
    for problem in problems:
        found[problem] += 1
    return found


def mutants(folder: Path, encoding: str, n: int, how: str = "ours") -> Counter[str]:
    child = start(fuzz, str(folder), encoding, SEED, n, how, seconds=120, memory_nbytes=1 * GiB)
    outcome = child.join()
    told = f"{encoding}, seed {SEED}, mutant {child.last_said}: {outcome}"
    assert not outcome.error, told
    assert outcome.value is not None, told
    return Counter(outcome.value)


@pytest.mark.parametrize("n", [12, pytest.param(120, marks=pytest.mark.slow)])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_row_24_a_damaged_tiff_is_an_error_or_has_the_declared_shape(
    tmp_path: Path, encoding: str, n: int
):
    found = mutants(tmp_path, encoding, n)
    figure(
        "TIFF mutants",
        tried=found["error"] + found["read"],
        errors=found["error"],
        made_up_zeros=found["zeros"],
        other_exceptions=found["untyped"],
        over_2_s=found["slow"],
    )
    problems = [k for k in found if k.startswith(encoding + ",")]
    assert not problems, "\n".join(problems)
    assert found["error"] > 0


def test_the_fuzz_finds_a_reader_without_header_checks(tmp_path: Path):
    found: Counter[str] = Counter()
    for encoding in ("raw", "LZW", "raw tiles"):
        found += mutants(tmp_path, encoding, 40, how="naive")
    assert found["untyped"] > 0
    assert found["zeros"] > 0


def entry(code: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", code, kind, count, value)


def handmade(tags: dict[int, tuple[int, int, int]], data: bytes = b"") -> bytes:
    """Give a classic little-endian TIFF of one directory; ``data`` lies at byte 1000."""
    entries = b"".join(entry(c, *tags[c]) for c in sorted(tags))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(1000, b"\0") + data


def page(rows: int, columns: int, **more: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    names = {
        "compression": 259, "offsets": 273, "rows_per_strip": 278, "counts": 279,
        "tile_width": 322, "tile_length": 323, "tile_offsets": 324, "tile_counts": 325,
    }  # fmt: skip
    tags = {
        256: (4, 1, columns), 257: (4, 1, rows), 258: (3, 1, 16), 259: (3, 1, 1),
        262: (3, 1, 1), 277: (3, 1, 1),
    }  # fmt: skip
    return tags | {names[k]: v for k, v in more.items()}


def table(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


ROW = 64 * 2
DATA = b"\x11" * (64 * ROW)
SHORT_TABLES = {
    # 256 rows are claimed, strips for 64 of them are there.
    "four strips of sixteen": handmade(
        page(256, 64, offsets=(4, 4, 1000), rows_per_strip=(4, 1, 16), counts=(4, 4, 1016)),
        table(*(1032 + k * 16 * ROW for k in range(4)), *[16 * ROW] * 4) + DATA,
    ),
    "one strip for all rows, too short": handmade(
        page(256, 64, offsets=(4, 1, 1000), rows_per_strip=(4, 1, 256), counts=(4, 1, 64 * ROW)),
        DATA,
    ),
    "offset zero": handmade(
        page(64, 64, offsets=(4, 1, 0), rows_per_strip=(4, 1, 64), counts=(4, 1, 64 * ROW)), DATA
    ),
    "one strip of two at zero": handmade(
        page(64, 64, offsets=(4, 2, 1000), rows_per_strip=(4, 1, 32), counts=(4, 2, 1008)),
        table(1016, 0, 32 * ROW, 32 * ROW) + DATA,
    ),
    "a strip past the end": handmade(
        page(64, 64, offsets=(4, 2, 1000), rows_per_strip=(4, 1, 32), counts=(4, 2, 1008)),
        table(1016, 1016 + 48 * ROW, 32 * ROW, 32 * ROW) + DATA,
    ),
    "two tiles of four": handmade(
        page(64, 64, tile_width=(4, 1, 32), tile_length=(4, 1, 32),
             tile_offsets=(4, 2, 1000), tile_counts=(4, 2, 1008)),
        table(1016, 1016 + 2048, 2048, 2048) + DATA,
    ),
}  # fmt: skip


def declared(path: str) -> tuple[Any, ...]:
    array = io.imread(path)
    return (array.shape, str(array.dtype), int((array.compute(scheduler="sync") == 0).sum()))


def stacked(path: str) -> tuple[Any, ...]:
    array = io.imread_folder(Path(path).parent)
    return (array.shape, str(array.dtype), int((array.compute(scheduler="sync") == 0).sum()))


@pytest.mark.parametrize("reader", [declared, stacked])
@pytest.mark.parametrize("kind", SHORT_TABLES)
def test_row_17_a_short_table_of_segments_is_an_error_never_zeros(
    tmp_path: Path, kind: str, reader: Any
):
    path = tmp_path / "a.tif"
    path.write_bytes(SHORT_TABLES[kind])
    outcome = run(reader, str(path), seconds=30)
    assert outcome.error[:1] == ("TiffReadError",), str(outcome)
    assert str(path) in outcome.message


def test_row_17_the_handmade_file_is_read_where_its_table_is_whole(tmp_path: Path):
    path = tmp_path / "a.tif"
    tags = page(64, 64, offsets=(4, 2, 1000), rows_per_strip=(4, 1, 32), counts=(4, 2, 1008))
    path.write_bytes(handmade(tags, table(1016, 1016 + 32 * ROW, 32 * ROW, 32 * ROW) + DATA))
    values = io.imread(path).compute()
    assert values.shape == (64, 64)
    assert (values == 0x1111).all()


SPARSE: dict[str, dict[str, Any]] = {
    "strips": {"rowsperstrip": 7},
    "one strip": {},
    "tiles": {"tile": (16, 32)},
    "lzw strips with a predictor": {"rowsperstrip": 7, "compression": "lzw", "predictor": True},
    "zstd tiles": {"tile": (16, 32), "compression": "zstd"},
    "lzma strips, which tifffile decodes": {"rowsperstrip": 7, "compression": "lzma"},
    "big-endian": {"rowsperstrip": 7, "byteorder": ">"},
}


@pytest.mark.parametrize("which", ["offset", "count", "both"])
@pytest.mark.parametrize("kind", SPARSE)
def test_row_17_segments_that_were_never_written_are_zeros_only_on_request(
    tmp_path: Path, kind: str, which: str
):
    plane = make_volume((1, 45, 70))[0] + np.uint16(1)
    paths = [tmp_path / f"z{k}.tif" for k in range(3)]
    for path in paths:
        tifffile.imwrite(path, plane, photometric="minisblack", **SPARSE[kind])
    expected = plane.copy()
    with tifffile.TiffFile(paths[1], mode="r+") as tif:
        page = tif.pages.first
        tiled = page.is_tiled
        n = len(page.dataoffsets)
        holes = sorted({0, n // 2, n - 1} - ({0} if n > 2 else set()))
        for code, applies in ((324 if tiled else 273, "offset"), (325 if tiled else 279, "count")):
            if which in (applies, "both"):
                tag = page.tags[code]
                values = list(np.atleast_1d(tag.value))
                for k in holes:
                    values[k] = 0
                tag.overwrite(values if len(values) > 1 else values[0])
        high, wide = page.chunks[:2]
        across = -(-70 // wide)
        for k in holes:
            i, j = divmod(k, across)
            expected[i * high : (i + 1) * high, j * wide : (j + 1) * wide] = 0
    if (kind, which) == ("one strip", "count"):
        # The other tags say how long the only plain strip is.
        np.testing.assert_array_equal(io.imread_folder(tmp_path).compute()[1], plane)
        return
    with pytest.raises(io.TiffReadError, match=r"z1\.tif"):
        io.imread(paths[1])
    with pytest.raises(io.TiffReadError, match=r"z1\.tif"):
        io.imread_folder(tmp_path)
    lazy = io.imread(paths[1], allow_sparse=True)
    assert np.array_equal(lazy.compute(), expected)
    assert np.array_equal(lazy[13:38, 20:61].compute(), expected[13:38, 20:61])
    whole = np.stack([plane, expected, plane])
    for stack in (
        io.imread_folder(tmp_path, allow_sparse=True),
        io.imread_parallel(paths, allow_sparse=True, chunks=(2, 16, -1)),
    ):
        assert np.array_equal(stack.compute(), whole)
        assert np.array_equal(pickle.loads(pickle.dumps(stack))[1, 5:31].compute(), expected[5:31])


def test_row_17_a_sparse_page_may_claim_no_more_segments_than_its_file_can_list(tmp_path: Path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, make_volume((1, 45, 70))[0], rowsperstrip=1, photometric="minisblack")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        tags = tif.pages.first.tags
        at, rows = tags[273].valueoffset, tags[257].valueoffset
        size = 2 if tags[273].dtype == 3 else 4
    data[at : at + size] = bytes(size)
    data[rows : rows + 2] = (60_000).to_bytes(2, "little")  # more rows than there are strips
    path.write_bytes(data)
    with pytest.raises(io.TiffReadError, match=r"a\.tif"):
        io.imread(path, allow_sparse=True)


NOT_IMAGES = {
    "60,000 rows of 60,000 in tiles of 16": handmade(
        page(60_000, 60_000, tile_width=(4, 1, 16), tile_length=(4, 1, 16),
             tile_offsets=(4, 14_062_500, 8), tile_counts=(4, 14_062_500, 8)),
    )[:287],
    "4 G rows of 4 G": handmade(
        page(2**32 - 1, 2**32 - 1, offsets=(4, 1, 1000), counts=(4, 1, 100)), bytes(100)
    ),
    "Deflate of a gigabyte": handmade(
        page(30_000, 20_000, compression=(3, 1, 8), offsets=(4, 1, 1000), counts=(4, 1, 100)),
        bytes(100),
    ),
    "no page": b"II*\0\0\0\0\0",
    "a directory that is its own next": handmade(
        page(8, 8, offsets=(4, 1, 1000), counts=(4, 1, 128)), bytes(range(1, 129))
    ).replace(bytes(4) + bytes(900 - 4), struct.pack("<I", 8) + bytes(900 - 4), 1),
    "empty": b"",
    "FIFO": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_row_23_a_bomb_ends_at_once_and_small(tmp_path: Path, kind: str):
    path = tmp_path / "a.tif"
    content = NOT_IMAGES[kind]
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    for reader in (declared, stacked):
        outcome = run(reader, str(path), seconds=30, memory_nbytes=1 * GiB)
        if kind.startswith("a directory") and not outcome.error:
            assert outcome.value[2] == 0
            continue
        assert outcome.error[:1] == ("TiffReadError",), str(outcome)
        assert str(path) in outcome.message
        assert outcome.peak_nbytes < 64 * MiB


def read_after_cut(path: str) -> str:
    array = io.imread(path)
    os.truncate(path, 600)
    return str(array.compute(scheduler="sync").sum())


def read_while_cut(path: str) -> str:
    """Cut the file while it is open: with a memory map this is SIGBUS."""
    from scout_dask_io.tiff import open_file as files

    array, real = io.imread(path), files.read_some_at
    done = []

    def cut_first(fd: int, offset: int, out: memoryview) -> int:
        if not done:
            done.append(os.truncate(path, 600))
        return real(fd, offset, out)

    files.read_some_at = cut_first
    return str(array.compute(scheduler="sync").sum())


@pytest.mark.parametrize("reader", [read_after_cut, read_while_cut])
def test_row_19_a_file_that_is_cut_while_it_is_read_is_an_error_not_a_signal(
    tmp_path: Path, reader: Any
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels((512, 512)), photometric="minisblack")
    outcome = run(reader, str(path), seconds=30)
    assert outcome.signal == 0, str(outcome)
    assert outcome.is_typed, str(outcome)
    assert str(path) in outcome.message


def test_row_22_an_ome_file_does_not_pull_in_others(tmp_path: Path):
    secret, folder = tmp_path / "secret.tif", tmp_path / "planes"
    folder.mkdir()
    tifffile.imwrite(secret, pixels(PLANE), photometric="minisblack")
    for k in range(3):
        names = ("a0.tif", "a1.tif", "../secret.tif")
        blocks = "".join(
            f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1">'
            f'<UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
            for z, name in enumerate(names)
        )
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" '
            f'SizeX="{PLANE[1]}" SizeY="{PLANE[0]}" SizeZ="3" SizeC="1" SizeT="1">{blocks}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(folder / f"a{k}.tif", pixels(PLANE) + k, description=xml, metadata=None,
                         photometric="minisblack")  # fmt: skip
    stack = io.imread_folder(folder)
    assert stack.shape == (3, *PLANE)
    for k in range(3):
        assert (stack[k].compute() == pixels(PLANE) + k).all()
    with pytest.raises(io.TiffReadError, match=r"a0\.tif"):
        io.imread(folder / "a0.tif").compute()


FEW_HANDLES = """
import sys, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
import scout_dask_io as io
stack = io.imread_folder(sys.argv[1], chunks=(50, -1, -1))
print(int(stack.astype("u8").sum().compute()))
io.write_zarr(sys.argv[2], stack, (16, 32, 32))
print(int(io.read_zarr(sys.argv[2]).astype("u8").sum().compute()))
"""


def test_row_26_a_folder_is_read_and_written_with_64_handles(tmp_path: Path):
    folder = tmp_path / "planes"
    folder.mkdir()
    total = 0
    for k in range(150):
        plane = pixels((20, 23)) // 2 + k
        total += int(plane.astype("u8").sum())
        tifffile.imwrite(folder / f"z{k:03d}.tif", plane, photometric="minisblack")
    done = subprocess.run(
        [sys.executable, "-c", FEW_HANDLES, str(folder), str(tmp_path / "a.zarr")],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(total)] * 2
