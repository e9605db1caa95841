"""What is fuzzed: each target reads bytes that anybody may have written.

An error of ours is an answer, and so is ``Damaged``, with which the TIFF parser tells its callers;
whatever else comes out is a finding.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import tifffile
import zarr
from helpers import make_volume
from zarr.codecs import BytesCodec, GzipCodec, ZstdCodec

import scout_dask_io as io
from scout_dask_io.core.ome_metadata import parse_image
from scout_dask_io.files.location import locate
from scout_dask_io.store.chunk_format import format_of
from scout_dask_io.store.journal import CHUNK_RECORD, append_unit, read_units
from scout_dask_io.store.manifest import _parse, manifest_bytes, parse_manifest
from scout_dask_io.store.remote_staging import parse_marker
from scout_dask_io.tiff import sidecar
from scout_dask_io.tiff.ifd import (
    Damaged,
    Window,
    describe_ifd,
    read_header,
    read_ifd,
    read_segments,
)
from scout_dask_io.tiff.page_chain import walk_chain

VOLUME = make_volume((2, 9, 11))
Target = Callable[[bytes], None]


@cache
def scratch() -> Path:
    """Give a folder of this process, in memory where there is a disk in memory."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Take an error of ours for an answer, if it names the file."""
    told = name
    try:
        yield
    except io.ScoutIOError as err:
        told = str(err)
    assert name in told, told


def tiff_directories(data: bytes) -> None:
    """Parse every directory of a file, and the tables of its segments."""
    fd = os.memfd_create("fuzz")
    try:
        os.write(fd, data)
        window = Window(fd, len(data))
        header = read_header(window)
        if header is None:
            return
        for offset in walk_chain(window, header).offsets[:8]:
            ifd = read_ifd(window, header, offset)
            found = describe_ifd(ifd, window, allow_sparse=bool(len(data) % 2))
            if found is not None:
                read_segments(ifd, window, found.layout)
    except (Damaged, io.ScoutIOError):
        pass
    finally:
        os.close(fd)


def tiff_files(data: bytes) -> None:
    """Read a file as ``info`` and ``imread`` do."""
    path = scratch() / "a.tif"
    path.write_bytes(data)
    for read in (io.info, _first_of):
        with _told("a.tif"):
            read(path)


def _first_of(path: Path) -> None:
    lazy = io.imread(path)
    if lazy.nbytes < 2**24:
        assert lazy.compute(scheduler="sync").shape == lazy.shape


def zarr_documents(data: bytes) -> None:
    """Describe and read what metadata say, of either format."""
    path = scratch() / "a.zarr"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    first, _, second = data.partition(b"\0")
    for name, part in zip(
        (".zarray", ".zattrs") if second else ("zarr.json",), (first, second), strict=False
    ):
        (path / name).write_bytes(part)
    for read in (io.info, _corner_of):
        with _told("a.zarr"):
            read(path)


def _corner_of(path: Path) -> None:
    lazy = io.read_zarr(path)
    np.asarray(lazy[(slice(0, 1),) * lazy.ndim].compute(scheduler="sync"))


def image_metadata(data: bytes) -> None:
    """Parse what groups and files beside planes state of an image."""
    text = data[1:].decode("utf-8", "replace")
    kind = data[0] % 7 if data else 0
    if kind == 0:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(found, dict):
            with suppress(io.ScoutIOError):
                parse_image(found, "here")
        return
    parsers: tuple[Any, ...] = (
        sidecar._of_micromanager, sidecar._of_display, sidecar._of_mesospim,
        sidecar._of_smartspim, sidecar._of_opera, sidecar._of_leica,
    )  # fmt: skip
    parse = parsers[kind - 1]
    list(sidecar._asked(parse, data[1:] if kind > 4 else text, "here"))
    list(sidecar._frames(text))


def manifests(data: bytes) -> None:
    """Parse a manifest, the note of a region, and the marker of an unfinished write."""
    for parse in (
        lambda: parse_manifest(data, "here"),
        lambda: _parse(data, locate("/here")),
        lambda: parse_marker(locate("/here"), data),
    ):
        with suppress(io.ScoutIOError):
            parse()


def journals(data: bytes) -> None:
    """Read a journal of which every second line has a checksum that fits."""
    path = scratch() / "journal"
    path.mkdir(exist_ok=True)
    lines = data.split(b"\n")
    fitted = [f"{zlib.crc32(line):08x} ".encode() + line for line in lines[::2]]
    (path / "a.log").write_bytes(b"\n".join([*fitted, *lines[1::2]]))
    try:
        for unit, records in read_units(path).items():
            assert isinstance(unit, int)
            assert records.dtype == CHUNK_RECORD
    except io.ScoutIOError:
        pass


CODECS: tuple[Any, ...] = (
    numcodecs.Zlib(1), numcodecs.GZip(1), numcodecs.Blosc("lz4"), numcodecs.Zstd(1),
    numcodecs.LZ4(), numcodecs.BZ2(1), numcodecs.LZMA(), numcodecs.PackBits(), None,
)  # fmt: skip


@cache
def _formats() -> list[Any]:
    """Give how chunks are stored: with every codec in v2, and v3 with and without shards."""
    found = []
    memory: dict[str, Any] = {}
    for codec in CODECS:
        array: Any = zarr.create(
            store=zarr.storage.MemoryStore(memory), shape=VOLUME.shape, chunks=(2, 8, 8),
            dtype="u2" if not isinstance(codec, numcodecs.PackBits) else "?", zarr_format=2,
            compressor=codec, overwrite=True,
        )  # fmt: skip
        found.append(format_of(json.loads(memory[".zarray"].to_bytes()), "."))
    for settings in (
        {"codecs": [BytesCodec(), GzipCodec(level=1)]},
        {"codecs": [BytesCodec(), ZstdCodec(level=1)]},
        {"shards": (2, 16, 16), "compressors": [ZstdCodec(level=1)]},
        {"shards": (2, 16, 16), "compressors": [GzipCodec(level=1)]},
    ):
        memory = {}
        make: Any = zarr.create_array if "shards" in settings else zarr.create
        array = make(
            store=zarr.storage.MemoryStore(memory), shape=VOLUME.shape, chunks=(2, 8, 8),
            dtype="u2", zarr_format=3, **settings,
        )  # fmt: skip
        del array
        found.append(format_of(json.loads(memory["zarr.json"].to_bytes()), "/"))
    return found


def chunks(data: bytes) -> None:
    """Decode a chunk file of the format that the first byte names."""
    formats = _formats()
    fmt = formats[data[0] % len(formats)] if data else formats[0]
    with _told("here"):
        assert fmt.decoder().decode(data[1:], "here").shape == fmt.chunks


# What they begin with: made, so that no corpus lies in the repository.


def _tiffs() -> list[bytes]:
    path, found = scratch() / "seed.tif", []
    kinds: tuple[dict[str, Any], ...] = (
        {}, {"rowsperstrip": 2}, {"compression": "lzw", "rowsperstrip": 4},
        {"compression": "deflate", "tile": (16, 16), "predictor": True}, {"bigtiff": True},
        {"byteorder": ">"}, {"ome": True}, {"imagej": True}, {"metadata": None},
    )  # fmt: skip
    for how in kinds:
        tifffile.imwrite(path, VOLUME, photometric="minisblack", **how)
        found.append(path.read_bytes())
    return found


def _documents() -> list[bytes]:
    found = []
    for zarr_format in (2, 3):
        path = scratch() / "seed.zarr"
        io.write_zarr(path, VOLUME, (2, 4, 4), zarr_format=zarr_format, overwrite=True)
        names = ("zarr.json",) if zarr_format == 3 else (".zarray", ".zattrs")
        parts = [(path / n).read_bytes() if (path / n).exists() else b"{}" for n in names]
        found.append(b"\0".join(parts))
    return found


def _images() -> list[bytes]:
    io.write_ome_zarr(scratch() / "i.zarr", VOLUME, chunks=(2, 4, 4), levels=2, overwrite=True)
    texts = [
        (scratch() / "i.zarr" / ".zattrs").read_text(),
        '{"Summary": {"PixelSize_um": 1.5, "z-step_um": 2, "ChNames": ["a"], "Frames": 1}, '
        '"FrameKey-0-0-0": {"PixelSizeUm": 1, "ZPositionUm": 3, "FileName": "a.tif"}}',
        '{"map": {"ChannelSettings": {"array": [{"Channel": {"scalar": "a"}}]}}}',
        "[Pixelsize in um] 1.625\n[z_stepsize] 2\n[Laser] 488 nm\n[z_planes] 4\n",
        "um/pix\tZ step (um)\n1.8\t2\n",
        "<I><Image><ChannelID>1</ChannelID><ChannelName>a</ChannelName><URL>x/a.tif</URL>"
        '<PositionX Unit="m">1e-3</PositionX><PlaneID>1</PlaneID></Image></I>',
        '<D><DimensionDescription DimID="1" NumberOfElements="4" Length="3" Unit="um"/></D>',
    ]
    return [bytes([kind]) + text.encode() for kind, text in enumerate(texts)]


def _manifests() -> list[bytes]:
    records = np.zeros((1, 3, 3), CHUNK_RECORD)
    note = {"scout_region": 1, "cells": [[0, 1]], "finished": True, "written": "x", "crc32c": 0}
    return [manifest_bytes(records, {"a": 1}, "job"), json.dumps(note).encode() + b"\n", b"{}"]


def _journals() -> list[bytes]:
    path = scratch() / "seed"
    path.mkdir(exist_ok=True)
    for old in path.iterdir():
        old.unlink()
    append_unit(path, 3, np.zeros(2, CHUNK_RECORD))
    (file,) = path.iterdir()
    return [file.read_bytes().strip().partition(b" ")[2], b'{"unit": 1, "chunks": ""}\n' * 3]


def _chunks() -> list[bytes]:
    found = []
    for n, fmt in enumerate(_formats()):
        values = np.arange(np.prod(fmt.chunks)).reshape(fmt.chunks).astype(fmt.dtype)
        found.append(bytes([n]) + bytes(fmt.encoder().encode(values)))
    return found


#: Each target, and what makes the inputs that it begins with.
TARGETS: dict[str, tuple[Target, Callable[[], list[bytes]]]] = {
    "tiff_directories": (tiff_directories, _tiffs),
    "tiff_files": (tiff_files, _tiffs),
    "zarr_documents": (zarr_documents, _documents),
    "image_metadata": (image_metadata, _images),
    "manifests": (manifests, _manifests),
    "journals": (journals, _journals),
    "chunks": (chunks, _chunks),
}


def quietly(target: Target) -> Target:
    """Give a target whose warnings, of which there are many, are not shown."""

    def one(data: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target(data)

    return one
