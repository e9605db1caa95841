"""The bytes of TIFF headers and image file directories, classic and BigTIFF. No files."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["HEADER_NBYTES", "Tag", "encode_directory", "encode_header"]

# A BigTIFF header; a classic one is 8 bytes and leaves the rest unused, so that
# pixels begin at an offset that suits every dtype.
HEADER_NBYTES = 16

# Number in the file, and struct character, of the field types that are written here.
_FIELDS = {"BYTE": (1, "B"), "SHORT": (3, "H"), "LONG": (4, "I"), "RATIONAL": (5, "I")}


@dataclass(frozen=True, slots=True)
class Tag:
    """One field of a directory: ``code`` as the TIFF 6.0 specification numbers it.

    ``kind`` is ``"ASCII"``, ``"BYTE"``, ``"SHORT"``, ``"LONG"``, ``"RATIONAL"`` (pairs) or
    ``"OFFSET"``, which is 4 bytes in a classic file and 8 in a BigTIFF.
    """

    code: int
    kind: str
    values: bytes | Sequence[int]

    def encode(self, big: bool) -> tuple[int, int, bytes]:
        """Give the field type, the number of values and the values' bytes."""
        if self.kind == "ASCII":
            text = bytes(self.values) + b"\0"
            return 2, len(text), text
        offset = (16, "Q") if big else (4, "I")
        number, char = offset if self.kind == "OFFSET" else _FIELDS[self.kind]
        data = struct.pack(f"<{len(self.values)}{char}", *self.values)
        return number, len(self.values) // (2 if self.kind == "RATIONAL" else 1), data


def encode_header(first_directory: int, big: bool) -> bytes:
    """Give the little-endian file header that points to the first directory."""
    if big:
        return struct.pack("<2sHHHQ", b"II", 43, 8, 0, first_directory)
    return struct.pack("<2sHI8x", b"II", 42, first_directory)


def encode_directory(tags: Sequence[Tag], at: int, big: bool, *, last: bool) -> bytes:
    """Give a directory that will stand at file offset ``at``, its long values behind it.

    The next directory is expected right behind these bytes, unless this is the
    last. The length is a multiple of 8, so a directory that starts at an even
    offset is followed by one that does.

    Raises
    ------
    struct.error
        If an offset does not fit in a classic file.
    """
    count_format, entry_format, next_format, room = (
        ("<Q", "<HHQ", "<Q", 8) if big else ("<H", "<HHI", "<I", 4)
    )
    encoded = [(tag.code, *tag.encode(big)) for tag in sorted(tags, key=lambda t: t.code)]
    entry_nbytes = struct.calcsize(entry_format) + room
    fixed = struct.calcsize(count_format) + entry_nbytes * len(encoded) + room
    head = [struct.pack(count_format, len(encoded))]
    tail: list[bytes] = []
    end = fixed + fixed % 2
    for code, number, count, data in encoded:
        head.append(struct.pack(entry_format, code, number, count))
        if len(data) <= room:
            head.append(data.ljust(room, b"\0"))
        else:
            head.append(struct.pack(next_format, at + end))
            tail.append(data + b"\0" * (len(data) % 2))
            end += len(tail[-1])
    padding = -end % 8
    head.append(struct.pack(next_format, 0 if last else at + end + padding))
    return b"".join([*head, b"\0" * (fixed % 2), *tail, b"\0" * padding])
