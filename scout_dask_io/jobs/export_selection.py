"""What an export reads: an array, or a level of a multiscale group, as planes along an axis."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.grid import Region, Shape, full_region
from scout_dask_io.core.source import Source, ViewSource
from scout_dask_io.core.voxel_size import VoxelSize, as_voxel_size
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.files.remote import RemoteLocation
from scout_dask_io.read.voxel_size import voxel_size as stated_voxel_size
from scout_dask_io.run.lazy import source_of
from scout_dask_io.store.image import open_level, read_image
from scout_dask_io.store.metadata import read_node
from scout_dask_io.store.source import open_source, source_of_node

_PLANE_AXES = ("z", "y", "x")
_BY_NDIM = {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of an array that is exported, its axes in the order of the pages.

    Attributes
    ----------
    view : ViewSource
        Reads it.
    axes : str
        A letter an axis of the view; the last two are a page's rows and
        columns, but for ``s``, which is colour. Whatever axis the planes lie
        along, it is named ``z`` here, and the others follow.
    voxel : VoxelSize or None
        In the order of these axes.
    channels : tuple of str
        Names along ``c``; empty where there are none.
    colors : tuple of str
        As many, six hexadecimal digits each; empty where they are not stated.
    plane_axis : str
        The array's own name for the axis that the planes lie along.
    first_plane : int
        Number of the first plane along it.
    record : dict
        What was chosen, so that another export can be held against it.
    """

    view: ViewSource
    axes: str
    voxel: VoxelSize | None
    channels: tuple[str, ...]
    colors: tuple[str, ...]
    plane_axis: str
    first_plane: int
    record: dict[str, Any]

    @property
    def colour(self) -> bool:
        """Whether the last axis is colour."""
        return self.axes.endswith("s")

    def reordered(self, axes: str) -> Selection:
        """Give the selection with its axes in another order."""
        order = [self.axes.index(a) for a in axes]
        turned = ViewSource(self.view.source, self.view.region, [self.view.axes[k] for k in order])
        return replace(self, view=turned, axes=axes)


def select(
    src: Any, *, level: int | None, axis: str, region: Any, voxel_size: Any = None
) -> Selection:
    """Open what is exported. Reads metadata alone.

    Raises
    ------
    ArgumentError
        If the source is of another kind, or has no such level, axis or region.
    PathNotFoundError, LayoutError
        If there is nothing at the path, or it cannot be read.
    """
    source, axes, voxel, (channels, colors) = _open(src, level, as_voxel_size(voxel_size))
    if axis not in _PLANE_AXES:
        raise ArgumentError(f"axis must be 'z', 'y' or 'x', got {axis!r}")
    if axis != "z" and ("z" not in axes or len(axes) < 3):
        raise ArgumentError(
            f"axis={axis!r} needs a volume, and the array of shape {source.shape} has axes {axes}"
        )
    box = _region(region, source.shape, axes)
    turned = axes.replace(axis, "").replace("z", axis + "z") if axis != "z" else axes
    view = ViewSource(source, box, [axes.index(a) for a in turned])
    # From here on the axis of the planes is z, and a page's rows and columns are y and x.
    roles = [a for a in turned if a in _PLANE_AXES]
    named = dict(zip(roles, "zyx"[3 - len(roles) :], strict=True))
    if voxel is not None and len(roles) == 3:
        z, y, x = (getattr(voxel, a) for a in roles)
        voxel = replace(voxel, z=z, y=y, x=x)
    at = axes.find("c")
    if at >= 0:
        channels, colors = channels[box[at]], colors[box[at]]
    return Selection(
        view=view,
        axes="".join(named.get(a, a) for a in turned),
        voxel=voxel,
        channels=channels,
        colors=colors,
        plane_axis=axis,
        first_plane=box[axes.index(axis)].start if axis in axes else 0,
        record={
            "source": _digest(source.token),
            "level": level or 0,
            "box": [[s.start, s.stop] for s in box],
            "axis": axis,
            "voxel_size_um": None if voxel is None else list(voxel.micrometres),
        },
    )


def _open(
    src: Any, level: int | None, given: VoxelSize | None
) -> tuple[Source, str, VoxelSize | None, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Give a source, its axes, voxel size (by the one ``given`` of level 0), and its channels.

    Of these the names, and the colours.
    """
    if isinstance(src, (str, os.PathLike, RemoteLocation)):
        path = locate(src)
        image = read_image(path)
        if image is not None:
            source = source_of_node(open_level(path, level or 0))
            size = image.voxel_size(level or 0, f"OME-Zarr metadata of {path}")
            if given is not None:
                size = given.scaled(image.factors(level or 0))
            channels = image.channels, image.colors
            return source, _axes(source, image.axes, image.channels), size, channels
        if level:
            raise ArgumentError(
                f"{path} is one array and has no level {level}: give the path of an OME-Zarr "
                "group, or leave level out"
            )
        source = open_source(path)
        names, stated = _attributes(path)
        names = names if len(source.shape) > 2 and len(names) == source.shape[0] else ()
        size = given or stated_voxel_size(source)
        return source, _axes(source, stated, names), size, (names, ())
    if level:
        raise ArgumentError("level= is for the path of an OME-Zarr group")
    source_or_none = src if isinstance(src, Source) else None
    if isinstance(src, da.Array):
        source_or_none = source_of(src)
    if source_or_none is None:
        raise ArgumentError(
            "export takes the path of a Zarr array, or a lazy array just as a reader gave it, got "
            f"{src!r}. Write a computed array with imsave, or with write_zarr first."
        )
    size = given or stated_voxel_size(source_or_none)
    return source_or_none, _axes(source_or_none, "", ()), size, ((), ())


def _attributes(path: Location) -> tuple[tuple[str, ...], str]:
    """Give the channel names and the letters of the axes that an array's attributes state."""
    node = read_node(path)
    if node is None:
        return (), ""
    attributes = node.attributes
    names = attributes.get("channels")
    stated = node.metadata.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS")
    letters = stated if isinstance(stated, list) else []
    axes = "".join(letters) if all(isinstance(n, str) and len(n) == 1 for n in letters) else ""
    return tuple(map(str, names)) if isinstance(names, list) else (), axes


def _axes(source: Source, stated: str, channels: Sequence[str]) -> str:
    """Give a letter an axis: as stated, or the house's own order."""
    ndim = len(source.shape)
    if len(stated) == ndim and stated.endswith("yx") and len(set(stated)) == ndim:
        return stated
    colour = ndim >= 3 and source.shape[-1] in (3, 4) and source.dtype in (np.uint8, np.uint16)
    n = ndim - colour
    if n < 2:
        raise ArgumentError(
            f"a TIFF holds planes, and an array of shape {source.shape} has none: give at least "
            "two axes"
        )
    axes = "cyx" if n == 3 and channels else _BY_NDIM.get(n)
    if axes is None:
        # Letters that mean nothing, before those that do.
        axes = "qrpihe"[: n - 5] + _BY_NDIM[5] if n <= 11 else "?" * n
    return axes + "s" * colour


def _region(region: Any, shape: Shape, axes: str) -> Region:
    """Give the region that was asked for, in whole numbers inside the array."""
    if region is None:
        return full_region(shape)
    given = list(region) if isinstance(region, (tuple, list)) else [region]
    n = len(shape) - axes.endswith("s")
    if not 0 < len(given) <= n:
        raise ArgumentError(
            f"the region has {len(given)} ranges, and the array of shape {shape} has {n} axes "
            f"({axes[:n]}): give a range for each, or for the last ones"
        )
    parts = [slice(0, m) for m in shape]
    for at, item in enumerate(given, n - len(given)):
        parts[at] = _range(item, shape[at], axes[at])
    return tuple(parts)


def _range(item: Any, n: int, axis: str) -> slice:
    try:
        start, stop, step = (
            (item.start, item.stop, item.step) if isinstance(item, slice) else (*item, None)
        )
        low = 0 if start is None else int(start)
        high = n if stop is None else int(stop)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"a range along {axis} is a slice or (start, stop), got {item!r}"
        ) from None
    if step not in (None, 1) or not 0 <= low < high <= n:
        stride = "" if step in (None, 1) else f":{step}"
        raise ArgumentError(
            f"the range {low}:{high}{stride} along {axis} is not one inside 0:{n}: a range goes "
            "up in steps of 1, and holds at least one element"
        )
    return slice(low, high)


def _digest(token: str) -> str:
    from hashlib import blake2b

    return blake2b(token.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
