"""Damages files in the ways that disks, networks and broken writers do."""

from __future__ import annotations

import random
import struct


def flip(data: bytes, rng: random.Random) -> bytes:
    """Flip one bit anywhere."""
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Keep the beginning."""
    return data[: rng.randrange(len(data))]


def header(data: bytes, rng: random.Random) -> bytes:
    """Overwrite one or more of the first 16 bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        out[rng.randrange(min(16, len(out)))] = rng.randrange(256)
    return bytes(out)


def zero_tail(data: bytes, rng: random.Random) -> bytes:
    """Zeros from somewhere on, as a file system leaves them after a crash."""
    at = rng.randrange(len(data))
    return data[:at] + bytes(len(data) - at)


def grow(data: bytes, rng: random.Random) -> bytes:
    """Bytes behind the end."""
    return data + rng.randbytes(rng.randrange(1, 64))


def noise(data: bytes, rng: random.Random) -> bytes:
    """A sector of something else."""
    at = rng.randrange(len(data))
    n = min(512, len(data) - at)
    return data[:at] + rng.randbytes(n) + data[at + n :]


CHUNK_MUTATIONS = (flip, truncate, header, zero_tail, grow, noise)


def ifd_entry(data: bytes, rng: random.Random) -> bytes:
    """Change a field of one tag of the first directory: code, type, count or value."""
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack(order + "H", data[2:4])[0] == 43
    if big:
        (at,) = struct.unpack(order + "Q", data[8:16])
        (n,) = struct.unpack(order + "Q", data[at : at + 8])
        start, width, fields = at + 8, 20, ((0, 2), (2, 2), (4, 8), (12, 8))
    else:
        (at,) = struct.unpack(order + "I", data[4:8])
        (n,) = struct.unpack(order + "H", data[at : at + 2])
        start, width, fields = at + 2, 12, ((0, 2), (2, 2), (4, 4), (8, 4))
    offset, size = rng.choice(fields)
    place = start + width * rng.randrange(n) + offset
    value = rng.choice(
        (rng.randbytes(size), bytes(size), b"\xff" * size, flip(data[place : place + size], rng))
    )
    return data[:place] + value + data[place + size :]


TIFF_MUTATIONS = (ifd_entry, ifd_entry, ifd_entry, truncate, header, flip, zero_tail, noise)
