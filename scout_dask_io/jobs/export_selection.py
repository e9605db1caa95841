"""What an export reads: an array, or a level of a multiscale group, as planes along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.axes import guessed_axes, pages_as_planes
from scout_dask_io.core.grid import Region, Shape, full_region
from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.messages import Way, about
from scout_dask_io.core.selection import Selection
from scout_dask_io.core.source import Source, ViewSource
from scout_dask_io.core.voxel_size import VoxelSize, as_voxel_size
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.location import Location, is_path, locate
from scout_dask_io.read.any import check_names, kind_of, open_any
from scout_dask_io.run.lazy import source_of
from scout_dask_io.store.image import image_of_node
from scout_dask_io.store.nodes import open_node
from scout_dask_io.store.source import level_source, source_of_node

_PLANE_AXES = ("z", "y", "x")


@dataclass(frozen=True, slots=True)
class Exported:
    """The part of an array that is exported, its axes in the order of the pages.

    Attributes
    ----------
    view : ViewSource
        Reads it.
    info : ImageInfo
        What is known of it. The last two axes are a page's rows and
        columns, but for ``s``, which is colour. Whatever axis the planes lie
        along, it is named ``z`` here, and the others follow, in the voxel size too.
    plane_axis : str
        The array's own name for the axis that the planes lie along.
    first_plane : int
        Number of the first plane along it.
    record : dict
        What was chosen, so that another export can be held against it.
    """

    view: ViewSource
    info: ImageInfo
    plane_axis: str
    first_plane: int
    record: dict[str, Any]

    @property
    def axes(self) -> str:
        """A letter an axis of the view."""
        return self.info.axes

    @property
    def colour(self) -> bool:
        """Whether the last axis is colour."""
        return self.axes.endswith("s")

    def reordered(self, axes: str) -> Exported:
        """Give the selection with its axes in another order."""
        order = [self.axes.index(a) for a in axes]
        turned = ViewSource(self.view.source, self.view.region, [self.view.axes[k] for k in order])
        return replace(self, view=turned, info=self.info.transposed(order))


def select(
    src: Any, *, level: int | None, axis: str, region: Any, voxel_size: Any = None
) -> Exported:
    """Open what is exported. Reads metadata alone.

    Raises
    ------
    ArgumentError
        If the source is of another kind, or has no such level, axis or region.
    PathNotFoundError, LayoutError
        If there is nothing at the path, or it cannot be read.
    """
    source, info = _open(src, level, as_voxel_size(voxel_size))
    axes, voxel = info.axes, info.voxel_size
    # However the array lies, pages have rows and columns, and colour comes last.
    lead = "".join(a for a in axes if a not in "yxs")
    order = lead + "yx" + "s" * ("s" in axes)
    if axis not in _PLANE_AXES:
        raise ArgumentError(f"axis must be 'z', 'y' or 'x', got {axis!r}")
    if axis != "z" and ("z" not in axes or len(axes) < 3):
        raise ArgumentError(
            f"axis={axis!r} needs a volume, and the array of shape {source.shape} has axes {axes}"
        )
    box = _region(region, source.shape, axes)
    turned = order.replace(axis, "").replace("z", axis + "z") if axis != "z" else order
    view = ViewSource(source, box, [axes.index(a) for a in turned])
    # From here on the axis of the planes is z, and a page's rows and columns are y and x.
    roles = [a for a in turned if a in _PLANE_AXES]
    named = dict(zip(roles, "zyx"[3 - len(roles) :], strict=True))
    if voxel is not None and len(roles) == 3:
        z, y, x = (getattr(voxel, a) for a in roles)
        voxel = replace(voxel, z=z, y=y, x=x)
    shown = "".join(named.get(a, a) for a in turned)
    part = info.cropped(box).transposed([axes.index(a) for a in turned])
    return Exported(
        view=view,
        info=replace(part, axes=shown, voxel_size=voxel),
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


def _open(src: Any, level: int | None, given: VoxelSize | None) -> tuple[Source, ImageInfo]:
    """Give a source and what is known of it, its voxel size by the one ``given`` of level 0."""
    source: Source | None
    if is_path(src):
        place = locate(src)
        try:
            node = open_node(place)
        except PathNotFoundError:
            found = _files_at(place, level, given)
            if found is None:
                raise
            return found
        path, image = node.location, image_of_node(node)
        if image is not None:
            source = level_source(node, level or 0)
            info = source.info
            if given is not None:
                info = info.sized(given.scaled(image.factors(level or 0)))
        elif level:
            raise ArgumentError(
                f"{path} is one array and has no level {level}: give the path of an OME-Zarr "
                "group, or leave level out"
            )
        else:
            source = source_of_node(node)
            info = source.info_with(given)
    else:
        if level:
            raise ArgumentError("level= is for the path of an OME-Zarr group")
        source = source_of(src) if isinstance(src, da.Array) else src
        if not isinstance(source, Source):
            raise ArgumentError(
                "export takes the path of a Zarr array, or a lazy array just as a reader gave it, "
                f"got {src!r}. Write a computed array with imsave, or with write_zarr first."
            )
        info = source.info_with(given)
    with about(src) if is_path(src) else nullcontext():
        return source, replace(info, axes=_axes(source, info.axes, info.names))


def _files_at(
    place: Location, level: int | None, given: VoxelSize | None
) -> tuple[Source, ImageInfo] | None:
    """Give what other files than Zarr hold, if a reader knows them, as ``convert`` reads it."""
    try:
        kind_of(place)
    except PathNotFoundError:
        return None
    if level:
        raise ArgumentError(f"{place} is no OME-Zarr group and has no level {level}: leave it out")
    opened = open_any(place, voxel_size=given)
    check_names(opened, Selection(names="check"))
    source = source_of(opened.array)
    if opened.unclear or source is None:
        raise ArgumentError(opened.unclear or f"{place} cannot be exported as it is: convert it")
    axes = pages_as_planes(opened.info.axes) if opened.info.axes else ""
    return source, replace(opened.info, axes=_axes(source, axes, opened.info.names))


def _axes(source: Source, stated: str, channels: Sequence[str]) -> str:
    """Give a letter an axis: as stated, in whatever order, or the house's own where none is."""
    ndim = len(source.shape)
    if len(stated) == ndim and len(set(stated)) == ndim:
        if not {"y", "x"} <= set(stated):
            raise ArgumentError(
                f"a TIFF holds planes (y, x), and the array of shape {source.shape} states that "
                f"its axes are {', '.join(stated)}: "
                + Way(
                    "read it, and write planes of it with imsave",
                    "planes of it can be written from Python alone",
                )
            )
        return stated
    if ndim > 11:
        raise ArgumentError(f"an array of {ndim} axes has more than a TIFF has: at most 11")
    colour = ndim >= 3 and source.shape[-1] in (3, 4) and source.dtype in (np.uint8, np.uint16)
    n = ndim - colour
    if n < 2:
        raise ArgumentError(
            f"a TIFF holds planes, and an array of shape {source.shape} has none: give at least "
            "two axes"
        )
    return guessed_axes(n, channels=bool(channels)) + "s" * colour


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
