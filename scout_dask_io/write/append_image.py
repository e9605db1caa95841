"""An OME-Zarr image grows along an axis: the rows that change of every level.

Of a lower level those change that are made of new rows, and the last old one where it was made of
an odd row alone. Each level has a tail of its own: old rows from the edge of a chunk on, as they
are stored, and then the halved rows of the level above, of which the first may be old ones too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np

from scout_dask_io.core.axes import DIMENSIONS_ATTRIBUTE
from scout_dask_io.core.downsample import METHODS, LowerSource
from scout_dask_io.core.grid import (
    Blocks,
    Shape,
    chunk_counts,
    clipped_chunks,
    full_region,
    uniform_blocks,
    with_axis,
)
from scout_dask_io.core.image_info import Channel, channel_colors, check_colors
from scout_dask_io.core.messages import warn
from scout_dask_io.core.ome_metadata import LABEL_KEY, Multiscale, level_record
from scout_dask_io.core.plan import WritePlan, copies_of, grow_unit, plan_source
from scout_dask_io.core.pyramid import Level, check_factors, plan_levels
from scout_dask_io.core.source import JoinedSource, Source
from scout_dask_io.core.voxel_size import ATTRIBUTE
from scout_dask_io.errors import ArgumentError, LayoutError, PathNotFoundError
from scout_dask_io.files.location import Location
from scout_dask_io.run.scheduler import planned
from scout_dask_io.store.codecs import resolve_codec
from scout_dask_io.store.growth import ArrayGrowth, Growth, settle, splice, tail_of, tidy
from scout_dask_io.store.image import LABELS_NAME, image_of_node, place_of_level
from scout_dask_io.store.image_info import CHANNELS_ATTRIBUTE
from scout_dask_io.store.labels import labels_in
from scout_dask_io.store.manifest import Manifest, manifest_of
from scout_dask_io.store.metadata import Node
from scout_dask_io.store.nodes import open_array, open_node
from scout_dask_io.store.transaction import Transaction, begin
from scout_dask_io.store.unfinished import NewArray
from scout_dask_io.write.append import (
    Standing,
    array_growth,
    axis_number,
    check_fit,
    check_lossless,
    check_settings,
    is_done,
    joined,
    new_channels,
    tail_settings,
    with_attributes,
)
from scout_dask_io.write.arguments import check_remote, plan_stored
from scout_dask_io.write.inputs import WriteInput, readable
from scout_dask_io.write.options import Limits, WriteMode
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.pyramid_plan import LEAST_NBYTES
from scout_dask_io.write.shown import measured_omero
from scout_dask_io.write.tasks import Pass, image_tasks, open_standing, run_write, standing_at
from scout_dask_io.write.unit import Target, noted_by
from scout_dask_io.write.uploads import upload_limit


@dataclass(frozen=True)
class StandingImage:
    """An image that is to grow.

    Attributes
    ----------
    node : Node
        Its group.
    image : Multiscale
        What that says.
    manifest : Manifest
        Of the group.
    arrays : tuple of Standing
        The levels, the full one first.
    """

    node: Node
    image: Multiscale
    manifest: Manifest
    arrays: tuple[Standing, ...]

    @classmethod
    def of(cls, place: Location) -> StandingImage:
        """Open the image at a place, and its levels.

        Raises
        ------
        ArgumentError
            If there is no image, or one whose lower levels this library has not made.
        """
        node = open_node(place)
        image = image_of_node(node)
        if image is None:
            what = "an array: append to it by write_zarr" if node.kind == "array" else "no image"
            raise ArgumentError(f"{place} is {what}; write_ome_zarr appends to OME-Zarr images")
        manifest = manifest_of(node)
        named_so = all(level.path == str(n) for n, level in enumerate(image.levels))
        if manifest is None or image.method not in METHODS or not named_so:
            raise ArgumentError(
                f"{place} has no manifest of this library, or levels that it has not made, so that "
                "it is not known how lower levels follow: write the image anew from its full "
                f"level, as pyramid {place / image.levels[0].path} does, and append to that."
            )
        places = [place_of_level(place, image, n) for n in range(len(image.levels))]
        return cls(node, image, manifest, tuple(Standing.of(open_array(p)) for p in places))

    @property
    def place(self) -> Location:
        """Where it lies."""
        return self.node.location

    @cached_property
    def factors(self) -> list[Shape] | None:
        """How many elements of the level above are one, by its scales; ``None`` of usual levels."""
        axes, shapes = self.image.axes, [array.format.shape for array in self.arrays]
        usual = plan_levels(shapes[0], axes, self.image.info.voxel_size, len(shapes))
        if [level.shape for level in usual] == shapes:
            return None
        scales = [np.asarray(level.scale) for level in self.image.levels]
        found = [np.rint(own / above) for above, own in pairwise(scales)]
        factors = [tuple(max(1, int(f)) for f in own) for own in found]
        made = zip(pairwise(shapes), factors, strict=True)
        fit = all(chunk_counts(above, own) == below for (above, below), own in made)
        return factors if fit else None

    def levels_after(self, shape: Shape, axis: int) -> tuple[Level, ...]:
        """Give the levels of the image when it has grown to a shape.

        As many as there are; or where there are as many as there are by default, as many as a
        larger image has by default. Of one that was made by factors, by these.

        Raises
        ------
        ArgumentError
            If those that stand would be halved along other axes.
        """
        axes, size = self.image.axes, self.image.info.voxel_size
        n = len(self.arrays)
        by_default = len(plan_levels(self.arrays[0].format.shape, axes, size)) == n
        found = plan_levels(shape, axes, size)
        if not by_default or len(found) < n:
            found = plan_levels(shape, axes, size, n)
        if self.factors is not None:
            found = plan_levels(shape, axes, factors=self.factors)
            check_factors(found, tuple(self.arrays[0].format.described()["chunks"]), axes)
        for number, (level, standing) in enumerate(zip(found, self.arrays, strict=False)):
            own = standing.format.shape
            others = [k for k in range(len(own)) if k != axis]
            before = self.arrays[number - 1].format.shape[axis] if number else own[axis]
            fits = -(-before // level.factors[axis]) == own[axis]
            if not fits or any(own[k] != level.shape[k] for k in others):
                raise ArgumentError(
                    f"{self.place}: level {number} has the shape {own}, and of an image of {shape} "
                    f"it would have {level.shape}: it was halved along other axes when the image "
                    f"was {self.arrays[0].format.shape}. Write the image anew, with all of its "
                    "elements."
                )
        if len(found) < n:
            raise ArgumentError(
                f"{self.place} has {n} levels, and an image of {shape} can have {len(found)}"
            )
        return found


def append_image(
    place: Location,
    data: Any,
    axis: Any,
    mode: WriteMode,
    limits: Limits,
    given: Mapping[str, Any],
) -> Any:
    """Append to the image at a place, as :func:`~scout_dask_io.write_ome_zarr` says.

    ``given`` are the settings that are not left out; but for names and colours of channels
    that are appended, they must be those of the image.
    """
    settle(place)
    standing = StandingImage.of(place)
    image, full = standing.image, standing.arrays[0]
    along = axis_number(axis, image.axes, None, place)
    letter = image.axes[along]
    pixels = readable(data)
    check_fit(place, full.format, data, along, image.axes)
    own = array_growth(full.format, data, along, 0)
    _check_image(standing, given, own.after)
    names = _names(standing, along, data, given)
    if own.before == own.after:
        return standing_at(place, mode)
    levels = standing.levels_after(own.after, along)
    arrays = _growths(standing, levels, own, along, data, names)
    metadata = _metadata(standing, levels)
    settings = Growth(along, arrays, pixels.digest, standing.manifest.job, mode.durable, metadata)
    if is_done(standing.manifest, settings, resume=mode.resume):
        return standing_at(place, mode)
    _warn_of_what_stays(standing, letter)
    for each, one in zip(standing.arrays, arrays, strict=False):
        check_lossless(each, one, along)
    colors = check_colors(given.get("colors"), len(names) - _n_channels(image, full.format.shape))
    shown = partial(_describe, standing=standing, growth=settings, names=names, colors=colors)
    rows = joined(full, arrays[0], along, pixels)
    return _write_tails(standing, settings, levels, rows, shown, mode, limits)


def _n_channels(image: Multiscale, shape: Shape) -> int:
    return shape[image.axes.index("c")] if "c" in image.axes else 1


def _check_image(standing: StandingImage, given: Mapping[str, Any], shape: Shape) -> None:
    """Refuse what is given and is not what the image has."""
    image = standing.image
    if "factors" in given:
        raise ArgumentError(
            f"{standing.place} has levels: leave factors out, what is appended has those of the "
            "image"
        )
    own = {
        "levels": len(image.levels),
        "axes": image.axes,
        "labels": image.info.labels,
        "method": image.method,
        "version": image.version,
    }
    for name, value in own.items():
        if name in given and given[name] != value:
            raise ArgumentError(
                f"{name} is {given[name]!r}, {standing.place} has {value!r}: leave {name} out, "
                "what is appended has that of the image"
            )
    if "voxel_size" in given:
        raise ArgumentError(f"{standing.place} has a voxel size: leave voxel_size out")
    kept = ("chunks", "shards", "fill_value", "codec")
    check_settings(standing.arrays[0], {k: v for k, v in given.items() if k in kept}, shape)


def _names(standing: StandingImage, axis: int, data: Any, given: Mapping[str, Any]) -> list[str]:
    """Give the names of all channels; those that are appended as given, or as stated."""
    image, shape = standing.image, standing.arrays[0].format.shape
    n = _n_channels(image, shape)
    names = [c.name for c in image.info.channels] or [str(k) for k in range(n)]
    appended = given.get("channels")
    if image.axes[axis] != "c":
        if appended is not None or given.get("colors") is not None:
            raise ArgumentError(
                "channels and colors are of channels that are appended: leave them out, "
                f"{standing.place} has its own"
            )
        return names
    n_new = data.shape[axis]
    found = [appended] if isinstance(appended, str) else list(appended or ())
    if appended is not None and len(found) != n_new:
        raise ArgumentError(
            f"channels must be {n_new} names, as many as are appended, got {appended!r}"
        )
    return [*names, *(map(str, found) if found else new_channels(data, n, n_new))]


def _growths(
    standing: StandingImage,
    levels: Sequence[Level],
    own: ArrayGrowth,
    axis: int,
    data: Any,
    names: Sequence[str],
) -> tuple[ArrayGrowth, ...]:
    """Give what becomes of each level; of one that is new, all."""
    letter = standing.image.axes[axis]
    found: list[ArrayGrowth] = []
    same = own.before[axis]  # rows that stay as they are
    for number, level in enumerate(levels):
        same //= level.factors[axis]
        if number >= len(standing.arrays):
            found.append(ArrayGrowth(number, (), level.shape, 0))
            continue
        array = standing.arrays[number]
        chunk = array.format.chunks[axis]
        one = ArrayGrowth(number, array.format.shape, level.shape, same // chunk * chunk)
        one = with_attributes(one, axis, data, array.node.attributes, letter)
        replaced = {**one.replaced, **({"channels": list(names)} if one.replaced else {})}
        size = _size_of(standing, level)
        if any(array.node.attributes.get(name) != value for name, value in size.items()):
            replaced |= size
        found.append(replace(one, replaced=replaced, added=one.added if number == 0 else {}))
    return tuple(found)


def _warn_of_what_stays(standing: StandingImage, letter: str) -> None:
    """Tell of what does not follow: labels below the image, and consolidated metadata."""
    place = standing.place
    for name in labels_in(place):
        try:
            image = image_of_node(open_node(place / LABELS_NAME / name))
        except (PathNotFoundError, LayoutError):
            continue
        if image is not None and letter in image.axes:
            warn(
                f"{place}: its labels {name!r} end where it ended along {letter!r}: append to them "
                f"too, by write_ome_zarr({str(place / LABELS_NAME / name)!r}, …, append="
                f"{letter!r})"
            )
    if standing.node.metadata.get("consolidated_metadata") or standing.node.head(".zmetadata"):
        warn(
            f"{place} has consolidated metadata, which do not know what is appended: readers that "
            "go by them alone find it once they are consolidated again"
        )


def _write_tails(
    standing: StandingImage,
    growth: Growth,
    levels: Sequence[Level],
    pixels: WriteInput,
    shown: Any,
    mode: WriteMode,
    limits: Limits,
) -> Any:
    place, axis = standing.place, growth.axis
    tail, fmt = tail_of(place), standing.arrays[0].format
    sharded = fmt.described().get("shards") is not None
    plan = plan_stored(pixels, fmt.chunks, limits, sharded=sharded)
    lower = zip(levels[1:], growth.arrays[1:], strict=True)
    plans = [plan, *(_lower_plan(plan, one.tail_shape(axis), level.factors, fmt.chunks, sharded)
                     for level, one in lower)]  # fmt: skip
    if mode.compute:
        preflight([pixels.data], place, in_place=True)
    txn = begin(
        tail,
        [_new_array(standing, growth, levels, n) for n in range(len(levels))],
        tail_settings(growth, standing.node.zarr_format),
        {"passes": [(n, p.units) for n, p in enumerate(plans)], "durable": mode.durable},
        overwrite=mode.overwrite,
        resume=mode.resume,
        durable=mode.durable,
        check=partial(check_remote, tail, plan, pixels.data, overwrite=False),
    )
    if txn is None:
        return _finish(place)
    begun = {int(n): tuple(map(tuple, units)) for n, units in txn.settings["passes"]}
    plans = [replace(p, units=begun[n]) for n, p in enumerate(plans)]
    limit = upload_limit(place, plan)
    targets = [Target(txn, txn.format(n), p.band, n, uploads=limit) for n, p in enumerate(plans)]
    targets = [replace(t, attempt=targets[0].attempt) for t in targets]
    units: dict[int | None, Blocks] = {n: p.units for n, p in enumerate(plans)}
    passes = (
        Pass(n, each, target, {n: each.units},
             _halved_rows(standing, growth, levels, n, txn) if n else None)
        for n, (each, target) in enumerate(zip(plans, targets, strict=True))
    )  # fmt: skip
    graph = image_tasks(f"append-{txn.name}", passes, pixels, mode)
    publish = partial(_commit, targets[0], units, shown, place)
    try:
        return run_write(graph, publish, pixels.array, targets[0], plans[0], mode)
    except BaseException:
        tidy(place)
        raise


def _commit(
    target: Target, units: dict[int | None, Blocks], shown: Any, place: Location, written: list[Any]
) -> Any:
    with target.attempt.working():
        target.transaction.commit(units, shown, known=noted_by(written))
        return _finish(place)


def _finish(place: Location) -> Any:
    splice(place)
    return open_standing(place)


def _lower_plan(
    plan: WritePlan, shape: Shape, factors: Shape, stored: Shape, sharded: bool
) -> WritePlan:
    """Plan the tail of a lower level, which is read chunk by chunk of the level above."""
    extents = zip(stored, shape, factors, strict=True)
    read = tuple(max(1, min(-(-c // max(f, 2)), n)) for c, n, f in extents)
    found = planned(
        plan_source,
        shape,
        np.dtype(plan.dtype),
        stored,
        read,
        nb_workers=plan.nb_workers,
        max_mem=plan.max_mem,
        n_copies=copies_of(sharded=sharded),
    )
    if math.prod(found.unit) * plan.itemsize < LEAST_NBYTES:
        unit = grow_unit(shape, found.band, plan.itemsize, LEAST_NBYTES)
        found = replace(found, units=uniform_blocks(shape, unit))
    return found


def _new_array(
    standing: StandingImage, growth: Growth, levels: Sequence[Level], n: int
) -> NewArray:
    """Give the tail of a level, described as that is; a new level as a writer describes it."""
    own = growth.arrays[n]
    if own.before:
        return standing.arrays[n].tail(own, growth.axis)
    last = standing.arrays[-1]
    fmt = last.format
    attributes = {
        k: growth.arrays[0].replaced.get(k, v)
        for k, v in last.node.attributes.items()
        if k in (CHANNELS_ATTRIBUTE, DIMENSIONS_ATTRIBUTE, LABEL_KEY)
    }
    attributes |= _size_of(standing, levels[n])
    described = fmt.described()
    inner = tuple(described["chunks"])
    lower = standing.manifest.settings.get("lower_codec")
    nbytes = math.prod(inner) * fmt.dtype.itemsize
    settings: dict[str, Any] = {
        "compressor": resolve_codec(lower or "none", nbytes, fmt.dtype.itemsize),
        "fill_value": fmt.fill(),
        "attributes": attributes,
    }
    if standing.node.zarr_format == 3:
        settings |= {"zarr_format": 3, "shards": described["shards"]}
        settings["dimension_names"] = list(standing.image.axes)
    dtype = fmt.dtype.newbyteorder("=").name
    return NewArray(levels[n].shape, inner, dtype, settings, n)


def _size_of(standing: StandingImage, level: Level) -> dict[str, Any]:
    """Give the attribute that states the size of a level's voxels, where the full one has it."""
    size = standing.arrays[0].node.attributes.get(ATTRIBUTE)
    if not isinstance(size, list):
        return {}
    times = dict(zip(standing.image.axes, level.total, strict=True))
    return {ATTRIBUTE: [s and s * times.get(a, 1) for a, s in zip("zyx", size, strict=True)]}


def _halved_rows(
    standing: StandingImage, growth: Growth, levels: Sequence[Level], n: int, txn: Transaction
) -> Source:
    """Give the rows of a level's tail: old ones that stay, and those that the level above makes."""
    axis, own = growth.axis, growth.arrays[n]
    same = 0 if not own.before else _same_rows(growth, levels, n)
    halved = LowerSource(
        _grown(standing, growth, n - 1, same * levels[n].factors[axis], txn.source(n - 1)),
        levels[n].factors,
        standing.image.method,
    )
    new = (halved, full_region(halved.shape))
    if same <= own.start:
        return halved
    old = standing.arrays[n].old_rows(own.old_rows(axis, same), own.start)
    return JoinedSource([(old, full_region(old.shape)), new], axis)


def _same_rows(growth: Growth, levels: Sequence[Level], n: int) -> int:
    """Give how many rows of a level are made of old rows alone, and stay."""
    same = growth.rows[0]
    for level in levels[: n + 1]:
        same //= level.factors[growth.axis]
    return same


def _grown(standing: StandingImage, growth: Growth, n: int, start: int, tail: Source) -> Source:
    """Give the rows of a level that has grown, from one of them on: stored ones, and its tail."""
    axis, own = growth.axis, growth.arrays[n]
    inside = full_region(tail.shape)
    skipped = max(start - own.start, 0)
    inside = with_axis(inside, axis, slice(skipped, tail.shape[axis]))
    if start >= own.start:
        return JoinedSource([(tail, inside)], axis)
    whole = full_region(own.before)
    region = with_axis(whole, axis, slice(start, own.start))
    old = standing.arrays[n].old_rows(region, own.start)
    return JoinedSource([(old, full_region(old.shape)), (tail, inside)], axis)


def _describe(
    tails: Callable[[int | None], Source],
    lowest: int,
    *,
    standing: StandingImage,
    growth: Growth,
    names: Sequence[str],
    colors: Sequence[str] | None,
) -> dict[str, Any]:
    """Give the attributes of the tails' group: what those of the image's group become.

    Contrast windows that were measured are measured again, of the lowest level as it will be.
    """
    image, attributes = standing.image, standing.node.attributes
    ome = dict(attributes["ome"]) if "ome" in attributes else dict(attributes)
    said: dict[str, Any] = dict(growth.metadata)
    if not image.info.labels and "omero" in ome:
        source = _grown(standing, growth, lowest, 0, tails(lowest))
        after = growth.arrays[lowest].after
        chunks = standing.arrays[min(lowest, len(standing.arrays) - 1)].format
        inner = tuple(chunks.described()["chunks"])
        read = clipped_chunks(inner, after)
        info = _shown_info(standing, names, colors)
        said["omero"] = measured_omero(_Chunked(source, read), info)
    if not said:
        return {"group": {}}
    return {"group": {"ome": {**ome, **said}} if "ome" in attributes else said}


class _Chunked(Source):
    """A source that is said to be read by chunks, as the array that it becomes will be."""

    def __init__(self, source: Source, read_shape: Shape) -> None:
        self.source, self.shape, self.dtype = source, source.shape, source.dtype
        self.token, self._read_shape = source.token, read_shape

    @property
    def read_shape(self) -> Shape:
        """One chunk."""
        return self._read_shape

    def iter_pieces(self, region: Any) -> Any:
        """Yield those of the source."""
        return self.source.iter_pieces(region)


def _shown_info(standing: StandingImage, names: Sequence[str], colors: Sequence[str] | None) -> Any:
    """Give what is stated of the channels: as it stands, but for windows that were measured."""
    info = standing.image.info
    stated = standing.manifest.settings.get("stated")
    records = stated.get("channels", ()) if isinstance(stated, dict) else ()
    own = list(info.channels) or [Channel()]
    n_old = len(own)
    by_house = [c.color for c in own] == list(channel_colors((), n_old)) and len(names) > n_old
    channels = []
    for k, name in enumerate(names):
        channel = own[k] if k < n_old else Channel()
        record = records[k] if k < len(records) and isinstance(records[k], dict) else {}
        if "window" not in record:
            channel = replace(channel, window=None, limits=None)
        if by_house and not colors:
            channel = replace(channel, color=None)
        if k >= n_old and colors:
            channel = replace(channel, color=colors[k - n_old])
        channels.append(replace(channel, name=name))
    return replace(info, channels=tuple(channels))


def _metadata(standing: StandingImage, levels: Sequence[Level]) -> dict[str, Any]:
    """Give what the group's attributes say of its levels, where it has others from then on.

    New ones, or such that are halved along an axis on which there was one element before.
    """
    image, attributes = standing.image, standing.node.attributes
    ome = attributes.get("ome", attributes)
    first, *rest = ome["multiscales"]
    full = image.levels[0]
    datasets = list(first["datasets"])
    for n, level in enumerate(levels):
        scale = [b * t for b, t in zip(full.scale, level.total, strict=True)]
        shift = [
            s + (0.0 if image.method == "nearest" else b * (t - 1) / 2)
            for s, b, t in zip(full.translation, full.scale, level.total, strict=True)
        ]
        if n < len(image.levels) and np.allclose(scale, image.levels[n].scale, 1e-9, 0):
            continue
        datasets[n : n + 1] = [level_record(n, scale, shift)]
    if datasets == first["datasets"]:
        return {}
    return {"multiscales": [{**first, "datasets": datasets}, *rest]}
