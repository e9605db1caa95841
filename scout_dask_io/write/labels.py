"""Labels of an image, such as a segmentation, written below it: where its readers look for them.

What they say is the image's: axes, scale, translation, and levels of the same extents.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed

from scout_dask_io.core.axes import AXES
from scout_dask_io.core.formatting import format_shape
from scout_dask_io.core.grid import Shape, chunk_counts, iter_block_regions
from scout_dask_io.core.image_info import ImageInfo, label_color
from scout_dask_io.core.ome_metadata import (
    LABEL_KEY,
    VERSIONS,
    Multiscale,
    level_record,
    method_record,
)
from scout_dask_io.core.pyramid import Level, plan_levels
from scout_dask_io.core.source import Source
from scout_dask_io.errors import ArgumentError, PathNotFoundError, ShapeMismatchError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.read.labels import labels_for
from scout_dask_io.run.lazy import Pixels, source_of
from scout_dask_io.run.progress import Report
from scout_dask_io.store.codecs import LevelCodecs
from scout_dask_io.store.image import image_of_node, ome_attributes, place_of_level
from scout_dask_io.store.labels import label_place
from scout_dask_io.store.layout import chunk_grid
from scout_dask_io.store.metadata import Node, read_node
from scout_dask_io.store.nodes import open_node
from scout_dask_io.store.source import source_of_node
from scout_dask_io.write.arguments import (
    check_fill,
    compressor_of,
    plan_write,
    settings_of,
)
from scout_dask_io.write.inputs import WriteInput, check_unmasked, readable
from scout_dask_io.write.ome_zarr import (
    LevelsRecord,
    arrays_of,
    level_attributes,
    levels_settings,
    write_levels,
)
from scout_dask_io.write.options import Limits, Storage, WriteMode, usual_codecs
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.pyramid_plan import ImagePlan, plan_passes

if TYPE_CHECKING:
    import zarr

# So many labels have a colour at most: each takes a line of the metadata.
MAX_COLORS = 65_536


def write_labels(
    image: str | os.PathLike[str] | Location,
    name: str,
    data: Pixels,
    *,
    axes: str | None = None,
    colors: bool | Mapping[int, Any] = False,
    chunks: int | Sequence[int] | None = None,
    shards: int | Sequence[int] | None = None,
    codec: LevelCodecs = "default",
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    durable: bool = False,
    compute: bool = True,
    progress: bool | Report = False,
    storage_options: Mapping[str, Any] | None = None,
) -> zarr.Group | Delayed:
    """Put labels, such as a segmentation, below an OME-Zarr image, where its readers look for them.

    They become the group ``labels/NAME`` of the image, in its version of OME-Zarr, with its
    scale, translation and units, and with levels of the same extents, of the most frequent
    label each. The name is added to the list of the group ``labels``, which is made where the
    image has none; other labels, and the image itself, are left as they are. The labels are
    whole or not there, as with :func:`write_ome_zarr`, and listed once they are whole.

    Parameters
    ----------
    image : str or path-like
        The OME-Zarr image, or its URL.
    name : str
        Of the labels: one folder.
    data : dask.array.Array or numpy.ndarray
        Integers or bools: the extents of the image, without its channels. An axis of one
        element may lack.
    axes : str, optional
        A letter an axis, some of the image's; as for labels of each channel ``"czyx"``.
    colors : bool or mapping, optional
        ``True`` gives each label that occurs a colour of its own, always the same, for which
        level 0 is read once more. Or colours by label: six hexadecimal digits, or three or four
        numbers from 0 to 255. By default those that are stated of the data, or none, and
        viewers choose.
    chunks : int or sequence of int, optional
        Chunk extents of every level for the last axes; by default those of the image.
    shards, codec, overwrite, resume, max_mem, nb_workers, durable, compute, progress
        As for :func:`write_ome_zarr`.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    zarr.Group or Delayed
        The finished group, open for reading and writing.

    Raises
    ------
    PathNotFoundError, LayoutError
        If there is no image, or it is damaged.
    ShapeMismatchError
        If the data have other extents than the image.
    ArgumentError, ChunkError, MemoryLimitError, TargetExistsError, ResumeError, WriteError
        As :func:`write_ome_zarr`; also if the data are no whole numbers.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from scout_dask_io import write_labels, write_ome_zarr
    >>> path = tempfile.mkdtemp() + "/a.zarr"
    >>> volume = np.arange(8 * 600 * 500, dtype="u2").reshape(8, 600, 500)
    >>> _ = write_ome_zarr(path, volume, voxel_size=(4, 1, 1))
    >>> group = write_labels(path, "bright", volume > 30_000)
    >>> group["2"].shape, group.attrs["image-label"]["source"]
    ((8, 150, 125), {'image': '../../'})
    """
    storage = Storage(chunks, codec, shards=shards)
    plan = plan_labels(
        locate(image, storage_options), name, data, storage, Limits(max_mem, nb_workers),
        axes=axes, colors=colors,
    )  # fmt: skip
    return plan.run(WriteMode(overwrite, resume, durable, compute, progress))


@dataclass(frozen=True)
class LabelPlan:
    """Labels that are to be written below an image.

    Attributes
    ----------
    destination : Location
        Of the labels.
    image : ImagePlan
        Their levels, and how these are written.
    """

    destination: Location
    image: ImagePlan
    pixels: WriteInput
    info: ImageInfo
    metadata: dict[str, Any]
    version: str
    colors: bool
    codec: Any

    def run(self, mode: WriteMode) -> zarr.Group | Delayed:
        """Write them, or finish writing them; listed are they by what commits the levels."""
        compressors = [compressor_of(self.image.write, c) for c in usual_codecs(self.codec)]
        settings = {
            **settings_of(self.image.write, self.pixels, compressors[0], 0, self.metadata),
            **levels_settings(self.image, compressors),
            "colors": self.colors,
        }
        if mode.compute:
            preflight([self.pixels.data], self.destination)
        record = LevelsRecord(
            settings,
            partial(_describe, metadata=self.metadata, version=self.version, colors=self.colors),
            arrays_of(compressors, 0, (level_attributes(v, self.info) for v in self.image.levels)),
        )
        return write_levels(self.destination, self.image, self.pixels, record, mode)


def plan_labels(
    image: Location,
    name: str,
    data: Any,
    storage: Storage,
    limits: Limits,
    *,
    axes: str | None = None,
    colors: bool | Mapping[int, Any] = False,
) -> LabelPlan:
    """Give what :func:`write_labels` would do, and refuse what it would; nothing is created."""
    destination = label_place(image, name)
    node = open_node(image)
    found = image_of_node(node)
    if found is None:
        raise PathNotFoundError(
            f"{image} is no OME-Zarr image, expected one whose labels these are: give the group "
            "of an image, such as write_ome_zarr makes"
        )
    _, record = labels_for(data, True)
    data = _whole_numbers(data)
    full = source_of_node(open_node(place_of_level(image, found, 0)))
    data, axes = _without_singles(data, axes, found, full.shape)
    letters = _axes_of(data, axes, found, full.shape, image)
    at = [found.axes.index(a) for a in letters]
    version = {of: v for v, of in VERSIONS.items()}[node.zarr_format]
    chunks = storage.chunks
    if chunks is None:
        chunks = tuple(full.read_shape[k] for k in at)
    pixels = readable(data)
    own = replace(storage, chunks=chunks, zarr_format=node.zarr_format)
    write = plan_write(pixels, own, limits)
    for each in usual_codecs(storage.codec):
        compressor_of(write, each)
    check_fill(0, write.dtype)
    levels = _levels(write.shape, letters, found, at, image)
    plan = plan_passes(write, pixels.array, letters, levels, "mode")
    stated = record.get("colors") if colors is False else None
    label: dict[str, Any] = {**record, "source": {"image": "../../"}}
    label.pop("colors", None)
    if isinstance(colors, Mapping):
        stated = [{"label-value": int(v), "rgba": _rgba(c)} for v, c in colors.items()]
    if stated:
        label["colors"] = stated
    info = ImageInfo(letters, found.info.voxel_size, labels=True)
    metadata = _metadata(name, node, found, plan, at, label, version)
    return LabelPlan(
        destination, plan, pixels, info, metadata, version, colors is True, storage.codec
    )


def _whole_numbers(data: Any) -> Any:
    """Refuse what is no label, and give masks as 0 and 1."""
    check_unmasked(data)
    dtype = getattr(data, "dtype", None)
    if dtype is not None and np.dtype(dtype).kind == "b":
        return data.astype(np.uint8)
    if dtype is not None and np.dtype(dtype).kind not in "iu":
        raise ArgumentError(
            f"labels are whole numbers, got {np.dtype(dtype)}: say how they are made such, as "
            "data.astype('uint32') does"
        )
    return data


def _stated(data: Any) -> str:
    source = source_of(data) if isinstance(data, da.Array) else None
    return "" if source is None else source.info.axes


def _without_singles(
    data: Any, axes: str | None, image: Multiscale, extents: Shape
) -> tuple[Any, str | None]:
    """Give data without axes of one element that are stated of them and that the image lacks.

    A channel of labels is none of the image's where that has several.
    """
    letters = axes or _stated(data)
    if len(letters) != data.ndim:
        return data, axes
    n = dict(zip(image.axes, extents, strict=True))
    dropped = [
        k
        for k, (a, m) in enumerate(zip(letters, data.shape, strict=True))
        if m == 1 and (a not in n or (a == "c" and n[a] != 1))
    ]
    if not dropped:
        return data, axes
    index = tuple(0 if k in dropped else slice(None) for k in range(data.ndim))
    return data[index], "".join(a for k, a in enumerate(letters) if k not in dropped)


def _axes_of(
    data: Any, given: str | None, image: Multiscale, extents: Shape, where: Location
) -> str:
    """Give the axes of labels, and refuse those that do not fit an image."""
    known = image.axes
    left = iter(AXES[5])
    if not all(a in left for a in known):
        raise ArgumentError(
            f"{where} has its axes in the order {known!r}, and labels go to an image of "
            "(t, c, z, y, x) or some of these: convert it to another OME-Zarr image first"
        )
    n = dict(zip(known, extents, strict=True))
    shape = tuple(data.shape)
    stated = _stated(data)
    if given is None and len(stated) == len(shape) and set(stated) <= set(known):
        given = stated
    if given is None:
        given = known.replace("c", "") if len(shape) < len(known) else known
        for a in "tz":
            if len(given) > len(shape) and n.get(a) == 1:
                given = given.replace(a, "")
    order = iter(known)
    wanted = tuple(n.get(a, 0) for a in given)
    if len(given) != len(shape) or not all(a in order for a in given) or shape != wanted:
        room = known.replace("c", "")
        fits = tuple(n[a] for a in room)
        raise ShapeMismatchError(
            f"labels of shape {shape} do not fit {where}, which is {format_shape(extents)} along "
            f"({', '.join(known)}): expected {fits} along ({', '.join(room)}), with its channels "
            "where axes name them too. Crop, pad or resample them, or name their axes."
        )
    return given


def _levels(
    shape: Shape, axes: str, image: Multiscale, at: Sequence[int], where: Location
) -> tuple[Level, ...]:
    """Give levels of the image's extents, where factors lead there; else so many usual ones."""
    ones = (1,) * len(shape)
    levels, above = [Level(shape, ones, ones)], shape
    for number in range(1, len(image.levels)):
        node = read_node(place_of_level(where, image, number))
        if node is None or node.kind != "array":
            break  # a level that is missing
        extents, _ = chunk_grid(node)
        now = tuple(extents[k] for k in at)
        own, before = image.levels[number].scale, image.levels[number - 1].scale
        factors = tuple(
            _factor(n, m, own[k] / before[k]) for n, m, k in zip(above, now, at, strict=True)
        )
        if 0 in factors:
            return plan_levels(shape, axes, image.info.voxel_size, len(image.levels))
        last = levels[-1]
        total = tuple(t * f for t, f in zip(last.total, factors, strict=True))
        levels.append(Level(chunk_counts(last.shape, factors), factors, total))
        above = now
    return tuple(levels)


def _factor(above: int, below: int, ratio: float) -> int:
    """Give what makes one extent the other, rounded either way: as scales say, or 2; else 0."""
    for f in (1, round(ratio) if 2 <= ratio < math.inf else 2, 2):
        if below == above if f == 1 else below in (above // f, -(-above // f)):
            return f
    return 0


def _metadata(
    name: str,
    node: Node,
    image: Multiscale,
    plan: ImagePlan,
    at: Sequence[int],
    label: dict[str, Any],
    version: str,
) -> dict[str, Any]:
    """Give the attributes of the group: the image's own axes, and where its levels lie."""
    raw = ome_attributes(node)["multiscales"][0].get("axes", ())
    axes = [dict(a) if isinstance(a, dict) else {"name": a} for a in (raw[k] for k in at)]
    full = image.levels[0]
    datasets = []
    for number, level in enumerate(plan.levels):
        scale = [full.scale[k] * t for k, t in zip(at, level.total, strict=True)]
        shift = [
            full.translation[k] + full.scale[k] * (t - 1) / 2
            for k, t in zip(at, level.total, strict=True)
        ]
        if number < len(image.levels):
            own = image.levels[number]
            if np.allclose([own.scale[k] for k in at], scale, rtol=0.05, atol=0):
                # A level of the image, which its labels lie upon.
                scale = [own.scale[k] for k in at]
                shift = [own.translation[k] for k in at]
        datasets.append(level_record(number, scale, shift))
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": axes,
        "datasets": datasets,
        "type": plan.method,
        "metadata": method_record(plan.method, plan.levels),
    }
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [multiscale], LABEL_KEY: label}}
    return {
        "multiscales": [{**multiscale, "version": version}],
        LABEL_KEY: {"version": version, **label},
    }


def _describe(
    levels: Callable[[int | None], Source],
    lowest: int,
    *,
    metadata: dict[str, Any],
    version: str,
    colors: bool,
) -> dict[str, Any]:
    """Give the group's attributes; with the colours of the labels that level 0 holds, if asked."""
    if not colors:
        return metadata
    values = _values(levels(0))
    listed = [{"label-value": v, "rgba": label_color(v)} for v in values if v]
    own = metadata["ome"] if version == "0.5" else metadata
    own = {**own, LABEL_KEY: {**own[LABEL_KEY], "colors": listed}}
    return {**metadata, "ome": own} if version == "0.5" else own


def _values(source: Source) -> list[int]:
    """Give the labels that occur, in order: read in pieces, in bounded memory."""
    found: set[int] = set()
    for _, region in iter_block_regions(source.default_chunks):
        found.update(np.unique(source.read(region)).tolist())
        if len(found) > MAX_COLORS:
            raise ArgumentError(
                f"there are over {MAX_COLORS:,} labels, and the metadata would hold a line for "
                "each: leave colors out, as viewers choose their own"
            )
    return sorted(found)


def _rgba(color: Any) -> list[int]:
    """Give a colour as ``image-label`` has it."""
    try:
        if isinstance(color, str):
            digits = color.removeprefix("#")
            parts = [int(digits[k : k + 2], 16) for k in range(0, len(digits), 2)]
        else:
            parts = [int(part) for part in color]
        if len(parts) not in (3, 4) or not all(0 <= part <= 255 for part in parts):
            raise ValueError
    except (TypeError, ValueError):
        raise ArgumentError(
            "colors of labels are six hexadecimal digits or three or four numbers from 0 to 255 "
            f"each, got {color!r}"
        ) from None
    return parts if len(parts) == 4 else [*parts, 255]
