"""What an earlier export noted in a TIFF file of its own making."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scout_dask_io.errors import PathNotFoundError, TiffReadError
from scout_dask_io.tiff.describe import describe_image, describe_plane
from scout_dask_io.tiff.ifd import Window, read_header, read_ifd
from scout_dask_io.tiff.open_file import absolute, opened
from scout_dask_io.tiff.write_metadata import SOFTWARE

__all__ = ["is_whole", "read_record", "record_text"]

_SOFTWARE_TAG = 305


def record_text(record: dict[str, Any]) -> str:
    """Give a record as the text of the Software field."""
    return f"{SOFTWARE} {json.dumps(record)}"


def read_record(path: Path) -> dict[str, Any] | None:
    """Give the record in a file's first directory; ``None`` where there is no file or none in it.

    Raises
    ------
    TiffReadError
        If the file cannot be read as a TIFF.
    """
    try:
        with opened(absolute(path)) as (fd, file):
            window = Window(fd, file.size)
            header = read_header(window)
            if header is None:
                return None
            text = read_ifd(window, header, header.first).text(_SOFTWARE_TAG, window)
    except PathNotFoundError:
        return None
    name, _, body = text.partition(" ")
    try:
        found = json.loads(body) if name == SOFTWARE else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def is_whole(path: Path, *, one_page: bool) -> bool:
    """Tell whether all that a file's directories promise lies in it. Decodes nothing."""
    describe = describe_plane if one_page else describe_image
    try:
        describe(absolute(path))
    except TiffReadError:
        return False
    return True
