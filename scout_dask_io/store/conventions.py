"""What other conventions than OME-Zarr, and stores other than Zarr, are called.

A group that is no image is told as what it is, with the arrays in it; a folder that holds no
Zarr but another chunked format is named, so that nobody looks for a damaged Zarr array.

Sources: the attributes that AnnData, SpatialData, geff, GeoZarr and the Zarr conventions
register, the xarray documentation ("Zarr encoding specification"), the N5 specification, and
Neuroglancer's "precomputed" documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from scout_dask_io.core.axes import DIMENSIONS_ATTRIBUTE
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.errors import ChunkReadError, LayoutError
from scout_dask_io.files.location import Location
from scout_dask_io.store.metadata import HEAD_NBYTES, METADATA_FILES, Node, read_node

# Keys in the attributes of a group, and what has them.
_BY_KEY = {
    "spatialdata_attrs": "a SpatialData collection",
    "geff": "a graph of tracks (geff)",
    "plate": "an OME-Zarr plate",
    "well": "a well of an OME-Zarr plate",
    "bioformats2raw.layout": "a collection of images by bioformats2raw",
}
# What AnnData and MuData say of a group, beginning so.
_BY_ENCODING = {"anndata": "an AnnData table", "mudata": "a MuData collection"}
# Arrays that are named, and nodes that are looked at to find them.
_NAMED, _LOOKED_AT = 10, 100


def convention_of(attributes: Mapping[str, Any]) -> str:
    """Give what a group is by its attributes; empty where no convention that is known has them.

    Examples
    --------
    >>> convention_of({"encoding-type": "anndata"}), convention_of({"geff": {}})
    ('an AnnData table', 'a graph of tracks (geff)')
    >>> convention_of({"proj:code": "EPSG:4326"}), convention_of({"note": 1})
    ('a GeoZarr dataset', '')
    """
    ome = attributes.get("ome")
    every = {**attributes, **(ome if isinstance(ome, dict) else {})}
    for key, name in _BY_KEY.items():
        if key in every:
            return name
    encoding = str(every.get("encoding-type", "")).lower()
    for start, name in _BY_ENCODING.items():
        if encoding.startswith(start):
            return name
    if any(str(key).startswith(("proj:", "spatial:", "geo:")) for key in every) or isinstance(
        every.get("multiscales"), dict
    ):
        return "a GeoZarr dataset"
    found = every.get("zarr_conventions")
    names = [str(c["name"]) for c in found or () if isinstance(c, dict) and "name" in c] if (
        isinstance(found, list)
    ) else []  # fmt: skip
    return f"a group of the Zarr conventions {', '.join(names)}" if names else ""


def arrays_below(node: Node) -> Iterator[tuple[str, Node]]:
    """Yield the arrays in a group and in its groups, by their names; each folder listed once.

    Those nearest come first. Folders of which the metadata are damaged are passed over.
    """
    waiting, looked_at = [("", node.location)], 0
    while waiting:
        above, group = waiting.pop(0)
        children: Sequence[Location] = ()
        with suppress(ChunkReadError, FileNotFoundError):
            children = group.children()
        for place in children:
            if place.name.startswith(".") or not place.is_folder or looked_at == _LOOKED_AT:
                continue
            looked_at += 1
            with suppress(LayoutError, ChunkReadError, FileNotFoundError):
                child = read_node(place)
                if child is not None and child.kind == "array":
                    yield above + place.name, child
                else:
                    # Folders between a group and an array need no metadata.
                    waiting.append((f"{above}{place.name}/", place))


def group_text(node: Node) -> str:
    """Say what a group is, where that is known, and which arrays it holds."""
    found = list(islice(arrays_below(node), _NAMED + 1))
    dims = {name: _dimensions(array) for name, array in found}
    unlisted = not found and not node.location.on_disk and not _lists(node.location)
    if unlisted:
        dims = {name: [] for name in _consolidated(node)}
    coordinates = {name for name, own in dims.items() if list(own) == [name]}
    what = convention_of(node.attributes)
    if not what and any(dims.values()) and len(found) > 1:
        what = "an xarray dataset"
    named = [
        f"{name} ({', '.join(map(str, dims[name]))})" if dims[name] else name
        for name in sorted(dims, key=lambda n: (n in coordinates, "/" in n, n))
    ]
    more = " and others" if len(named) > _NAMED else ""
    held = (
        f"it holds the arrays {', '.join(named[:_NAMED])}{more}" if named else "it holds no array"
    )
    if unlisted and not named:
        held = "the store lists nothing, so that it cannot be told which arrays it holds"
    way = ". Give an array's path."
    if named:
        first = min(dims, key=lambda n: (n in coordinates, "/" in n, n))
        way = f". Give an array's path, as {node.location / first}."
    return (f"it is {what}, and {held}" if what else held) + way


def _lists(group: Location) -> bool:
    """Tell whether a store lists what lies in a group: its own metadata at least."""
    with suppress(ChunkReadError, FileNotFoundError):
        return any(name in METADATA_FILES for name, _ in group.find())
    return False


def _consolidated(node: Node) -> list[str]:
    """Give the names of arrays by the consolidated metadata of a group, where it has some."""
    found: Any = node.metadata.get("consolidated_metadata")
    if node.zarr_format == 3:
        found = (found or {}).get("metadata")
        return [n for n, m in (found or {}).items() if m.get("node_type") == "array"]
    with suppress(ChunkReadError, ValueError):
        found = parse_json((node.location / ".zmetadata").read() or b"{}").get("metadata")
        return [n.removesuffix("/.zarray") for n in found or {} if n.endswith("/.zarray")]
    return []


def _dimensions(array: Node) -> list[Any]:
    found = array.metadata.get("dimension_names") or array.attributes.get(DIMENSIONS_ATTRIBUTE)
    return found if isinstance(found, list) and any(found) else []


def check_other_store(location: Location) -> None:
    """Refuse a folder that holds another chunked format than Zarr: N5, or Neuroglancer's.

    Reads the files that tell these, at a URL with a request each.

    Raises
    ------
    LayoutError
        If it does, naming the format.
    """
    for name, kind, tell in (
        ("attributes.json", "N5", _n5),
        ("info", "Neuroglancer's precomputed format", _precomputed),
    ):
        found = None
        with suppress(ChunkReadError, OSError, ValueError):
            raw = (location / name).read(HEAD_NBYTES)
            found = None if raw is None else parse_json(raw)
        if isinstance(found, dict) and (what := tell(found)):
            raise LayoutError(
                f"{location} is {what} of {kind}, by its {name}, and no Zarr: that is not read "
                "here. Have it written as Zarr by the software that made it, or with TensorStore, "
                "which reads both."
            )


def _n5(found: dict[str, Any]) -> str:
    if "blockSize" in found and "dimensions" in found:
        return "a dataset"
    return "a container" if "n5" in found else ""


def _precomputed(found: dict[str, Any]) -> str:
    typed = str(found.get("@type", "")).startswith("neuroglancer_")
    return "a volume" if typed or ("scales" in found and "data_type" in found) else ""
