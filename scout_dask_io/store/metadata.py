"""The metadata documents of a Zarr node: found, read as JSON, and checked.

Zarr v2 keeps them in ``.zarray``, ``.zgroup`` and ``.zattrs``, v3 in ``zarr.json``.
"""

from __future__ import annotations

import json
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from scout_dask_io.errors import LayoutError
from scout_dask_io.files.location import AnyPath, RemotePath

Separator: TypeAlias = Literal[".", "/"]

#: The files that make a directory a Zarr node.
NODE_FILES = (".zarray", ".zgroup", "zarr.json")
#: All files of metadata.
METADATA_FILES = frozenset((*NODE_FILES, ".zattrs", ".zmetadata"))


@dataclass(frozen=True)
class Node:
    """What the metadata files of a directory say it is.

    Attributes
    ----------
    kind : str
        ``"array"`` or ``"group"``.
    zarr_format : int
        2 or 3.
    metadata : dict
        The document of ``.zarray``, ``.zgroup`` or ``zarr.json``, as it is on disk.
    """

    kind: Literal["array", "group"]
    zarr_format: Literal[2, 3]
    metadata: dict[str, Any]


def read_node(path: str | os.PathLike[str] | RemotePath) -> Node | None:
    """Tell what the metadata at ``path`` say it is, or give ``None`` if there are none.

    Raises
    ------
    LayoutError
        If v2 and v3 metadata lie side by side, or the metadata are damaged.
    """
    path = path if isinstance(path, RemotePath) else Path(path)
    documents: dict[str, bytes | None] = {}
    if isinstance(path, RemotePath):
        # One request a name: to ask whether there is an object takes two where there is none.
        documents = {n: found for n in NODE_FILES if (found := (path / n).read()) is not None}
    else:
        # A dangling link or a FIFO is something, and is refused when it is read.
        documents = {n: None for n in NODE_FILES if os.path.lexists(path / n)}
    if not documents:
        return None
    present = list(documents)
    if "zarr.json" in present and len(present) > 1:
        raise side_by_side(path, present[0])
    raw = documents[present[0]]
    file = path / present[0]
    metadata = _read_metadata(file) if raw is None else parse_metadata(raw, file)
    if present[0] == "zarr.json":
        kind = metadata.get("node_type")
        if metadata.get("zarr_format") != 3 or kind not in ("array", "group"):
            raise LayoutError(
                f"{path / 'zarr.json'}: zarr_format {metadata.get('zarr_format')!r} and node_type "
                f"{kind!r}, expected 3 and 'array' or 'group'"
            )
        if kind == "array":
            check_array_metadata(metadata, path / "zarr.json")
        return Node("array" if kind == "array" else "group", 3, metadata)
    if present[0] == ".zarray":
        check_array_metadata(metadata, path / ".zarray")
        return Node("array", 2, metadata)
    if metadata.get("zarr_format") != 2:
        raise LayoutError(
            f"{path / '.zgroup'}: zarr_format {metadata.get('zarr_format')!r}, expected 2"
        )
    return Node("group", 2, metadata)


def separator_of(metadata: dict[str, Any]) -> Separator | None:
    """Give the separator that array metadata name, or ``None`` where v2 metadata are silent."""
    if metadata["zarr_format"] == 2:
        found = metadata.get("dimension_separator")
        return found if found in (".", "/") else None
    encoding = metadata["chunk_key_encoding"]
    default = "." if encoding["name"] == "v2" else "/"
    return "." if encoding.get("configuration", {}).get("separator", default) == "." else "/"


def read_attributes(path: str | os.PathLike[str] | RemotePath, node: Node) -> dict[str, Any]:
    """Give the user attributes of a node: of ``.zattrs``, or of its ``zarr.json``.

    Raises
    ------
    LayoutError
        If they are damaged.
    """
    if node.zarr_format == 3:
        found = node.metadata.get("attributes") or {}
        return dict(found) if isinstance(found, dict) else {}
    if isinstance(path, RemotePath):
        raw = (path / ".zattrs").read()
        return {} if raw is None else parse_metadata(raw, path / ".zattrs")
    file = Path(path) / ".zattrs"
    return _read_metadata(file) if os.path.lexists(file) else {}


def replace_attributes(path: AnyPath, node: Node, attributes: dict[str, Any]) -> None:
    """Put other user attributes in the place of a node's, in one step.

    Raises
    ------
    OSError
        If the file cannot be written; the old one stands.
    """
    file, document = path / ".zattrs", attributes
    if node.zarr_format == 3:
        file, document = path / "zarr.json", {**node.metadata, "attributes": attributes}
    if isinstance(file, RemotePath):
        file.write(json.dumps(document, indent=4).encode())
        return
    draft = file.with_name(f".scout-{uuid.uuid4().hex}.tmp")
    try:
        draft.write_text(json.dumps(document, indent=4))
        draft.replace(file)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def side_by_side(path: AnyPath, v2_name: str) -> LayoutError:
    """Give the error for v2 and v3 metadata in one directory."""
    return LayoutError(
        f"{path}: holds Zarr v2 metadata ({v2_name}) and v3 metadata (zarr.json) side by side; "
        "zarr-python would read v3 and hide the v2 data. dask's to_zarr leaves this behind when "
        "it writes onto a v2 array. Find out which of the two describes the data, and move the "
        "other file away."
    )


def _read_metadata(file: AnyPath) -> dict[str, Any]:
    """Read one metadata file as a JSON object.

    Raises
    ------
    LayoutError
        If it is not a regular file, cannot be read, or holds anything else.
    """
    try:
        # A FIFO would hang the open, a link to a device would never end.
        if not file.is_file():
            raise LayoutError(f"{file}: expected a regular file")
        raw = file.read_bytes()
    except OSError as err:
        raise LayoutError(f"{file}: cannot be read ({err.strerror or err})") from err
    return parse_metadata(raw, file)


def parse_metadata(raw: bytes, file: AnyPath) -> dict[str, Any]:
    """Parse the bytes of a metadata file as a JSON object.

    Raises
    ------
    LayoutError
        If they are anything else.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as err:
        raise LayoutError(
            f"{file}: {len(raw)} bytes that are not JSON ({err}). The file is damaged; restore "
            "it, or write the array again."
        ) from err
    if not isinstance(document, dict):
        raise LayoutError(f"{file}: expected a JSON object, found {type(document).__name__}")
    return document


def check_array_metadata(metadata: dict[str, Any], file: AnyPath) -> None:
    """Check the parts of array metadata that the library relies on.

    Raises
    ------
    LayoutError
        If one is missing or impossible; ``file`` is named.
    """
    if metadata.get("zarr_format") == 3:
        _check_v3(metadata, file)
        return
    if metadata.get("zarr_format") != 2:
        raise _bad(file, "zarr_format", metadata.get("zarr_format"), "2")
    _check_extents(metadata.get("shape"), 0, "shape", file)
    _check_extents(metadata.get("chunks"), 1, "chunks", file)
    if len(metadata["shape"]) != len(metadata["chunks"]):
        expected = f"{len(metadata['shape'])} extents, as many as shape {metadata['shape']} has"
        raise _bad(file, "chunks", metadata["chunks"], expected)
    if not isinstance(metadata.get("dtype"), (str, list)):
        raise _bad(file, "dtype", metadata.get("dtype"), "a numpy type such as '<u2'")
    if metadata.get("order", "C") not in ("C", "F"):
        raise _bad(file, "order", metadata["order"], "'C' or 'F'")
    if metadata.get("dimension_separator") not in (None, ".", "/"):
        raise _bad(file, "dimension_separator", metadata["dimension_separator"], "'.' or '/'")
    compressor = metadata.get("compressor")
    if compressor is not None and not (isinstance(compressor, dict) and "id" in compressor):
        raise _bad(file, "compressor", compressor, "null or an object with an 'id'")


def _check_v3(metadata: dict[str, Any], file: AnyPath) -> None:
    _check_extents(metadata.get("shape"), 0, "shape", file)
    encoding = metadata.get("chunk_key_encoding")
    if not isinstance(encoding, dict) or encoding.get("name") not in ("default", "v2"):
        raise _bad(file, "chunk_key_encoding", encoding, "an object named 'default' or 'v2'")
    if not isinstance(encoding.get("configuration", {}), dict):
        raise _bad(file, "chunk_key_encoding", encoding, "an object as its configuration")
    for name in ("chunk_grid", "data_type", "codecs"):
        if not metadata.get(name):
            raise _bad(file, name, metadata.get(name), "an entry")


def _check_extents(found: Any, least: int, name: str, file: AnyPath) -> None:
    good = isinstance(found, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and n >= least for n in found
    )
    if not good:
        raise _bad(file, name, found, f"a list of whole numbers, each at least {least}")


def _bad(file: AnyPath, name: str, found: Any, expected: str) -> LayoutError:
    return LayoutError(
        f"{file}: {name} is {found!r}, expected {expected}. The file is damaged or was not "
        "written by Zarr; restore it, or write the array again."
    )
