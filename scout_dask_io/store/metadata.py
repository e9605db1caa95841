"""The metadata documents of a Zarr node: found, read as JSON, and checked.

Zarr v2 keeps them in ``.zarray``, ``.zgroup`` and ``.zattrs``, v3 in ``zarr.json``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from scout_dask_io.core.formatting import cut, format_found
from scout_dask_io.core.json_document import MAX_JSON_NBYTES, parse_json
from scout_dask_io.errors import ChunkReadError, LayoutError
from scout_dask_io.files.location import Location, as_local, as_remote
from scout_dask_io.files.names import ZARR_FILES

Separator: TypeAlias = Literal[".", "/"]

#: The files that make a directory a Zarr node.
NODE_FILES = ZARR_FILES
#: As much of a file as is read before it is known what it is.
HEAD_NBYTES = 1 << 16
#: All files of metadata.
METADATA_FILES = frozenset((*NODE_FILES, ".zattrs", ".zmetadata"))
#: Axes that numpy has.
MAX_NDIM = 32 if np.__version__.startswith("1.") else 64
#: Elements that an array may have: numpy counts bytes in 63 bits, of up to 16 an element.
MAX_ELEMENTS = 2**59
#: And a chunk, which is in memory whole.
MAX_CHUNK_ELEMENTS = 2**40
_DTYPE = re.compile(r"[<>|=]?[?\w]{1,20}(\[\w{1,20}\])?")
#: What file managers leave in every folder that is looked at, in lower case.
_LITTER = frozenset((".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory"))


@dataclass(frozen=True)
class Node:
    """An array or a group, as its metadata files say it: each is read once, and parsed once.

    Attributes
    ----------
    location : Location
        Where it lies.
    kind : str
        ``"array"`` or ``"group"``.
    zarr_format : int
        2 or 3.
    metadata : dict
        The document of ``.zarray``, ``.zgroup`` or ``zarr.json``, as it is stored.
    beside : dict
        The beginnings of other files that were asked for together with it.
    entry : dict or None
        What a store said of the object that holds the metadata, as it gave it.
    """

    location: Location
    kind: Literal["array", "group"]
    zarr_format: Literal[2, 3]
    metadata: dict[str, Any]
    beside: dict[str, bytes | None] = field(default_factory=dict, repr=False)
    entry: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    _attributes: dict[str, Any] | None = field(init=False, default=None, repr=False, compare=False)
    _files: list[tuple[str, int]] | None = field(
        init=False, default=None, repr=False, compare=False
    )

    # Not cached properties: up to Python 3.11 one lock is held for those of all nodes, and stores
    # are asked for several at once.

    @property
    def attributes(self) -> dict[str, Any]:
        """The user attributes: of ``.zattrs``, or of ``zarr.json``.

        Raises
        ------
        LayoutError
            If they are damaged.
        """
        if self._attributes is None:
            object.__setattr__(self, "_attributes", self._read_attributes())
        return cast("dict[str, Any]", self._attributes)

    def _read_attributes(self) -> dict[str, Any]:
        if self.zarr_format == 3:
            found = self.metadata.get("attributes") or {}
            return dict(found) if isinstance(found, dict) else {}
        raw = self.file(".zattrs")
        return {} if raw is None else parse_metadata(raw, self.location / ".zattrs")

    @property
    def files(self) -> list[tuple[str, int]]:
        """All that lies below, as :meth:`Location.find` gives it; listed once."""
        if self._files is None:
            object.__setattr__(self, "_files", list(self.location.find()))
        return cast("list[tuple[str, int]]", self._files)

    def has_below(self, name: str) -> bool:
        """Tell whether anything lies below a name; that alone is listed where not all was."""
        if self._files is not None:
            return any(found.startswith(f"{name}/") for found, _ in self.files)
        return next((self.location / name).find(), None) is not None

    def head(self, name: str) -> bytes | None:
        """Give the beginning of a file beside the metadata; ``None`` if there is none."""
        if name not in self.beside:
            self.beside.update(_read_allowed(self.location, (name,), []))
        return self.beside[name]

    def file(self, name: str) -> bytes | None:
        """Give a file of JSON beside the metadata, read at most once; ``None`` if there is none."""
        return _whole(self.location / name, self.head(name))


def read_node(
    location: Location,
    also: Sequence[str] = (),
    refuse: Callable[[Location, Mapping[str, bytes | None]], None] | None = None,
) -> Node | None:
    """Tell what the metadata at a location say it is, or give ``None`` if there are none.

    Files named by ``also`` are read at the same time, for :meth:`Node.head`; ``refuse`` looks
    at all of them first.

    Raises
    ------
    LayoutError
        If v2 and v3 metadata that contradict each other lie side by side, or the metadata
        are damaged.
    """
    refused: list[ChunkReadError] = []
    entries: dict[str, dict[str, Any]] = {}
    if location.on_disk:
        found = location.read_many((*NODE_FILES, *also), HEAD_NBYTES)
    else:
        # An array is told by five answers at once; only what is none is asked for more.
        found = _read_allowed(location, (".zarray", "zarr.json", *also), refused, entries)
        found[".zgroup"] = None
        if found[".zarray"] is None and not _is_array(found["zarr.json"]):
            found |= _read_allowed(location, (".zgroup", ".zattrs"), refused)
            also = (*also, ".zattrs")
        if refused and not any(found[name] is not None for name in NODE_FILES):
            raise refused[0]
    if refuse is not None:
        refuse(location, found)
    documents = {n: found[n] for n in NODE_FILES if found[n] is not None}
    if not documents:
        return None
    name, raw = next(iter(documents.items()))
    if "zarr.json" in documents and len(documents) > 1:
        if ".zgroup" in documents or not are_of_one_array(location, documents):
            raise side_by_side(location, name)
        name, raw = "zarr.json", documents["zarr.json"]
    file = location / name
    raw = _whole(file, raw)
    metadata = parse_metadata(raw or b"", file)
    kind: Any = "array" if name == ".zarray" else "group"
    zarr_format: Any = 2
    if name == "zarr.json":
        kind, zarr_format = metadata.get("node_type"), 3
        if metadata.get("zarr_format") != 3 or kind not in ("array", "group"):
            raise LayoutError(
                f"{file}: zarr_format {format_found(metadata.get('zarr_format'))} and node_type "
                f"{format_found(kind)}, expected 3 and 'array' or 'group'"
            )
    elif kind == "group" and metadata.get("zarr_format") != 2:
        found_format = format_found(metadata.get("zarr_format"))
        raise LayoutError(f"{file}: zarr_format {found_format}, expected 2")
    if kind == "array":
        check_array_metadata(metadata, file)
    beside = {n: found[n] for n in also}
    return Node(location, kind, zarr_format, metadata, beside, entries.get(name))


def _whole(file: Location, head: bytes | None) -> bytes | None:
    """Give a file of metadata whose first bytes are known: one byte more than is parsed at most."""
    if head is None or len(head) < HEAD_NBYTES:
        return head
    return file.read(MAX_JSON_NBYTES + 1)


def is_litter(name: str) -> bool:
    """Tell whether a file of this name is a file manager's: of macOS, Windows or KDE.

    Nobody's data are in it, so it goes with the folder that it describes.
    """
    return name.lower() in _LITTER or name.startswith("._")


def _read_allowed(
    location: Location,
    names: Sequence[str],
    refused: list[ChunkReadError],
    entries: dict[str, dict[str, Any]] | None = None,
) -> dict[str, bytes | None]:
    """Give the beginnings of files as ``read_many``; ``None`` of what a store forbids to read.

    S3 forbids what is not there to whom may not list. What was forbidden is added to ``refused``:
    where nothing at all is allowed, that is the error. What the store said of an object goes
    into ``entries``.
    """
    try:
        if location.on_disk:
            return location.read_many(names, HEAD_NBYTES)
        answers = as_remote(location).read_entries(names, HEAD_NBYTES)
        if entries is not None:
            entries |= {n: a[1] for n, a in answers.items() if a is not None and a[1]}
        return {name: None if a is None else a[0] for name, a in answers.items()}
    except ChunkReadError as err:
        if not isinstance(err.__cause__, PermissionError):
            raise
        refused.append(err)
    found: dict[str, bytes | None] = {}
    for name in names:
        try:
            found[name] = (location / name).read(HEAD_NBYTES)
        except ChunkReadError as err:
            if not isinstance(err.__cause__, PermissionError):
                raise
            found[name] = None
    return found


def are_of_one_array(location: Location, documents: Mapping[str, bytes | None]) -> bool:
    """Tell whether v2 and v3 metadata describe one array: its chunks too, where they lie.

    zarr's own migration leaves both.

    Raises
    ------
    LayoutError
        If either is damaged.
    """
    if any(documents.get(name) is None for name in (".zarray", "zarr.json")):
        return False
    v2, v3 = (
        parse_metadata(documents[name] or b"", location / name) for name in (".zarray", "zarr.json")
    )
    if v3.get("node_type") != "array":
        return False
    check_array_metadata(v2, location / ".zarray")
    check_array_metadata(v3, location / "zarr.json")
    grid = v3["chunk_grid"].get("configuration", {}) if isinstance(v3["chunk_grid"], dict) else {}
    try:
        same = dtype_named(v2["dtype"]).newbyteorder("=") == dtype_named(v3["data_type"])
    except ValueError:
        return False
    return (
        same
        and v2["shape"] == v3["shape"]
        and v2["chunks"] == grid.get("chunk_shape")
        and v3["chunk_key_encoding"]["name"] == "v2"
        and (separator_of(v2) or ".") == separator_of(v3)
    )


def dtype_named(name: Any) -> np.dtype[Any]:
    """Give the numpy type that metadata name, such as ``"<u2"`` or ``"uint16"``.

    Raises
    ------
    ValueError
        If they name none, or a structured one.
    """
    # numpy would have Python parse a text with commas or brackets.
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise ValueError(f"{format_found(name)} is no numpy type such as '<u2'")
    try:
        return np.dtype(name)
    except (TypeError, ValueError) as err:
        raise ValueError(f"{name!r} is no numpy type ({err})") from err


def _is_array(raw: bytes | None) -> bool:
    return raw is not None and b'"node_type"' in raw and b'"array"' in raw


def metadata_file(node: Node) -> str:
    """Give the name of the file that holds the metadata of a node."""
    if node.zarr_format == 3:
        return "zarr.json"
    return ".zarray" if node.kind == "array" else ".zgroup"


def attributes_file(node: Node) -> str:
    """Give the name of the file that holds the user attributes of a node."""
    return "zarr.json" if node.zarr_format == 3 else ".zattrs"


def separator_of(metadata: dict[str, Any]) -> Separator | None:
    """Give the separator that array metadata name, or ``None`` where v2 metadata are silent."""
    if metadata["zarr_format"] == 2:
        found = metadata.get("dimension_separator")
        return found if found in (".", "/") else None
    encoding = metadata["chunk_key_encoding"]
    default = "." if encoding["name"] == "v2" else "/"
    return "." if encoding.get("configuration", {}).get("separator", default) == "." else "/"


def replace_attributes(node: Node, attributes: dict[str, Any], *, durable: bool = False) -> None:
    """Put other user attributes in the place of a node's, in one step; ``durable`` on a disk.

    Raises
    ------
    WriteError
        If the file cannot be written; the old one stands.
    """
    file, document = node.location / ".zattrs", attributes
    if node.zarr_format == 3:
        file = node.location / "zarr.json"
        document = {**node.metadata, "attributes": attributes}
    data = json.dumps(document, indent=4).encode()
    if durable:
        as_local(file).write(data, durable=True)
    else:
        file.write(data)


def side_by_side(path: object, v2_name: str) -> LayoutError:
    """Give the error for v2 and v3 metadata in one directory."""
    return LayoutError(
        f"{path}: holds Zarr v2 metadata ({v2_name}) and v3 metadata (zarr.json) side by side; "
        "zarr-python would read v3 and hide the v2 data. dask's to_zarr leaves this behind when "
        "it writes onto a v2 array. Find out which of the two describes the data, and move the "
        "other file away."
    )


def parse_metadata(raw: bytes, file: object) -> dict[str, Any]:
    """Parse the bytes of a metadata file as a JSON object.

    Raises
    ------
    LayoutError
        If they are anything else.
    """
    try:
        document = parse_json(raw)
    except ValueError as err:
        raise LayoutError(
            f"{file}: {len(raw)} bytes that are not JSON as it is read here ({cut(str(err))}). The "
            "file is damaged; restore it, or write the array again."
        ) from err
    if not isinstance(document, dict):
        raise LayoutError(f"{file}: expected a JSON object, found {type(document).__name__}")
    return document


def check_array_metadata(metadata: dict[str, Any], file: object) -> None:
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
    filters = metadata.get("filters")
    if filters is not None and not isinstance(filters, list):
        raise _bad(file, "filters", filters, "null or a list")
    compressor = metadata.get("compressor")
    if compressor is not None and not (isinstance(compressor, dict) and "id" in compressor):
        raise _bad(file, "compressor", compressor, "null or an object with an 'id'")


def _check_v3(metadata: dict[str, Any], file: object) -> None:
    _check_extents(metadata.get("shape"), 0, "shape", file)
    encoding = metadata.get("chunk_key_encoding")
    if not isinstance(encoding, dict) or encoding.get("name") not in ("default", "v2"):
        raise _bad(file, "chunk_key_encoding", encoding, "an object named 'default' or 'v2'")
    if not isinstance(encoding.get("configuration", {}), dict):
        raise _bad(file, "chunk_key_encoding", encoding, "an object as its configuration")
    for name in ("chunk_grid", "data_type", "codecs"):
        if not metadata.get(name):
            raise _bad(file, name, metadata.get(name), "an entry")
    if not isinstance(metadata["codecs"], list):
        raise _bad(file, "codecs", metadata["codecs"], "a list of objects")
    for step in metadata["codecs"]:
        if isinstance(step, dict) and step.get("name") == "sharding_indexed":
            inner = step.get("configuration")
            for name in ("codecs", "index_codecs"):
                found = inner.get(name) if isinstance(inner, dict) else None
                if not isinstance(found, list) or not found:
                    raise _bad(file, f"{name} of its shards", found, "a list of codecs")
    grid = metadata["chunk_grid"]
    if not isinstance(grid, dict) or not isinstance(grid.get("configuration", {}), dict):
        raise _bad(file, "chunk_grid", grid, "an object, and one as its configuration")
    if grid.get("name") == "regular":
        chunks = grid.get("configuration", {}).get("chunk_shape")
        _check_extents(chunks, 1, "chunk_shape", file)
        if len(chunks) != len(metadata["shape"]):
            raise _bad(file, "chunk_shape", chunks, f"{len(metadata['shape'])} extents, as shape")


def _check_extents(found: Any, least: int, name: str, file: object) -> None:
    good = isinstance(found, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and n >= least for n in found
    )
    if not good:
        raise _bad(file, name, found, f"a list of whole numbers, each at least {least}")
    if len(found) > MAX_NDIM:
        raise _bad(file, name, found, f"at most {MAX_NDIM} axes, which is what numpy has")
    most = MAX_ELEMENTS if name == "shape" else MAX_CHUNK_ELEMENTS
    # An axis of no elements does not make room for others that cannot be.
    if math.prod(max(n, 1) for n in found) > most:
        raise _bad(file, name, found, f"extents whose product is at most {most:,}")


def _bad(file: object, name: str, found: Any, expected: str) -> LayoutError:
    return LayoutError(
        f"{file}: {name} is {format_found(found)}, expected {expected}. The file is damaged or "
        "was not written by Zarr; restore it, or write the array again."
    )
