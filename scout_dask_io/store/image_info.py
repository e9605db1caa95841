"""What the metadata of a stored array state of its image: axes, voxel size, channels, planes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from scout_dask_io.core.axes import DIMENSIONS_ATTRIBUTE, stated_axes
from scout_dask_io.core.formatting import format_found
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import Channel, FilledPlane, ImageInfo, named_channels
from scout_dask_io.core.ome_metadata import (
    LABEL_KEY,
    RECORD_KEY,
    Multiscale,
    frame_record,
    label_record,
    with_record,
)
from scout_dask_io.core.voxel_size import ATTRIBUTE, VoxelSize, from_attribute, micrometres_of
from scout_dask_io.errors import LayoutError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.files.voxel_csv import csv_size
from scout_dask_io.store.image import image_above, lies_under_labels
from scout_dask_io.store.manifest import MANIFEST_NAME, manifest_data, noted, parse_manifest
from scout_dask_io.store.metadata import Node, attributes_file, read_node

#: Attribute of a stored array: a list of ``{"plane", "file", "reason"}``.
FILLED_ATTRIBUTE = "filled_planes"
#: Attribute of a stored array: the names of the channels.
CHANNELS_ATTRIBUTE = "channels"
#: Attribute of an array that still grows: how far it is whole, and how long it will be.
GROWING_ATTRIBUTE = "scout_growing"
#: The attribute by which TensorStore states steps and units.
UNITS_ATTRIBUTE = "dimension_units"
_TIMES = {"s": "second", "ms": "millisecond", "us": "microsecond", "min": "minute", "h": "hour"}
# What a reader makes something of, and a writer writes anew.
_OWN_ATTRIBUTES = frozenset(
    (
        FILLED_ATTRIBUTE,
        CHANNELS_ATTRIBUTE,
        RECORD_KEY,
        GROWING_ATTRIBUTE,
        ATTRIBUTE,
        DIMENSIONS_ATTRIBUTE,
        LABEL_KEY,
        UNITS_ATTRIBUTE,
    )
)


def stored_info(
    node: Node,
    shape: Shape,
    level: tuple[Multiscale, int] | None = None,
    given: VoxelSize | None = None,
) -> ImageInfo:
    """Give what the metadata of an array state, in one look at them.

    Of a level of an image that is what the image states of it, but for a voxel size of
    the array's own. ``level`` says which it is, where the array was found by its image;
    else the groups above are asked only where the array states no voxel size. One that
    is ``given`` counts instead of all others.

    Raises
    ------
    LayoutError
        If the metadata are damaged.
    """
    path, attributes = node.location, node.attributes
    size = from_attribute(attributes.get(ATTRIBUTE), f"attributes of {path}")
    if level is None and size is None:
        level = image_above(path)
        if level is not None and len(level[0].axes) != len(shape):
            level = None  # whatever is wrong around it, the array is what it is
    if level is not None:
        info = level[0].info_of(level[1], path)
    else:
        axes = stated_axes(axis_names(node), len(shape))
        info = ImageInfo(axes, channels=named_channels(_names(attributes, axes, shape)))
        key = RECORD_KEY if RECORD_KEY in attributes else UNITS_ATTRIBUTE
        record = attributes.get(key)
        if key == UNITS_ATTRIBUTE:
            record = _record_of_units(record, axes)
        known = with_record(info.sized(size), record, f"{path}: {key}")
        info = known if len(known.axes) in (0, len(shape)) else info
    size = given or size or info.voxel_size
    if size is None and path.on_disk:
        size = csv_size(path.parent)
    if not info.labels:
        found = attributes.get(LABEL_KEY)
        is_labels = found is not None or lies_under_labels(path)
        info = replace(info, labels=is_labels, image_label=label_record(found))
    kept = {k: v for k, v in attributes.items() if k not in _OWN_ATTRIBUTES}
    return replace(info.sized(size), attributes=kept)


def _record_of_units(found: Any, axes: str) -> dict[str, Any] | None:
    """Give what TensorStore's ``dimension_units`` state, such as ``"4 um"`` or ``[4, "um"]``."""
    if not isinstance(found, list) or len(found) != len(axes):
        return None
    stated = []
    for letter, entry in zip(axes, found, strict=True):
        pair = entry.split(maxsplit=1) if isinstance(entry, str) else entry
        if not isinstance(pair, list) or not pair:
            continue
        try:
            scale, unit = float(pair[0]), str(pair[1]) if len(pair) > 1 else None
        except (TypeError, ValueError):
            continue  # a unit without a number
        factor = micrometres_of(unit)
        if factor is not None:
            # Times go by their names in OME-Zarr, lengths in micrometres here.
            scale, unit = float(f"{scale * factor:.12g}"), "micrometer"
        stated.append({"name": letter, "scale": scale, "unit": _TIMES.get(str(unit), unit)})
    return {"axes": stated} if stated else None


def attributes_of(info: ImageInfo, channels: Sequence[str] = ()) -> dict[str, Any]:
    """Give the attributes by which an array states what is known of its image.

    Those that users noted, names of channels, and where it lies and how it is shown, for which an
    array has an attribute; not its axes and the size of a voxel, which writers take by themselves.
    """
    # Names alone have an attribute of their own, where they are those of an axis.
    more = any(c != Channel(c.name) for c in info.channels) or bool(info.names and not channels)
    record = frame_record(info, channels=more)
    return {
        **info.attributes,
        **({RECORD_KEY: record} if record else {}),
        **({CHANNELS_ATTRIBUTE: list(channels)} if channels else {}),
    }


def axis_names(node: Node) -> Any:
    """Give what an array says that its axes are called.

    Raises
    ------
    LayoutError
        If these are not as many as its axes.
    """
    name, found = "dimension_names", node.metadata.get("dimension_names")
    if not found:
        name, found = DIMENSIONS_ATTRIBUTE, node.attributes.get(DIMENSIONS_ATTRIBUTE)
    shape = node.metadata.get("shape")
    if isinstance(found, list) and isinstance(shape, list) and len(found) != len(shape):
        raise LayoutError(
            f"{node.location}: {name} names {len(found)} axes, {found}, and the array has "
            f"{len(shape)}, of shape {tuple(shape)}. Correct the axes that are stated in "
            f"{node.location / attributes_file(node)}, or remove them there."
        )
    return found


def _names(attributes: dict[str, Any], axes: str, shape: Shape) -> Sequence[str]:
    """Give channel names where they are as many as the axis is long: ``c``, or the first one."""
    names, at = attributes.get(CHANNELS_ATTRIBUTE), max(axes.find("c"), 0)
    if not isinstance(names, list) or len(shape) < 3 or len(names) != shape[at]:
        return ()
    return [str(name) for name in names]


def filled_of(path: str | os.PathLike[str] | Location) -> tuple[FilledPlane, ...]:
    """Give the filled planes of a stored array: by its attributes, or else its manifest.

    Asked anew each time: a region that is written may add some.

    Raises
    ------
    LayoutError
        If its metadata are damaged, or its manifest is.
    """
    return filled_of_node(read_node(locate(path), (MANIFEST_NAME,)))


def filled_of_node(node: Node | None) -> tuple[FilledPlane, ...]:
    """Give the filled planes of an array that was opened, as :func:`filled_of` does."""
    if node is None or node.kind != "array":
        return ()
    found = node.attributes.get(FILLED_ATTRIBUTE)
    if found is None:
        data = manifest_data(node)
        settings = (
            {} if data is None else parse_manifest(data, node.location / MANIFEST_NAME).settings
        )
        attributes = settings.get("attributes")
        found = attributes.get(FILLED_ATTRIBUTE) if isinstance(attributes, dict) else None
    elif not node.location.on_disk:
        # Of two that add to the attributes of an object at once, one may lose: not its note.
        there = found if isinstance(found, list) else []
        found = [*there, *noted(node.location, FILLED_ATTRIBUTE)]
    return tuple(dict.fromkeys(_parsed(found))) if isinstance(found, list) else ()


def _parsed(entries: Sequence[Any]) -> Iterable[FilledPlane]:
    for entry in entries:
        try:
            plane = tuple(int(n) for n in entry["plane"] or ())
            yield FilledPlane(plane, str(entry["file"]), str(entry["reason"]))
        except (TypeError, ValueError, KeyError):
            # Never silent: whoever changed the record, something was filled.
            yield FilledPlane((), "?", f"its record cannot be understood: {format_found(entry)}")
