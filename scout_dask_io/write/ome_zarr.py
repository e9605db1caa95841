"""An OME-Zarr image written in one go: its levels from the same pixels, whole or absent.

Writing the levels of an image: the tasks of its passes, and one that publishes them.

What an image says of itself and its levels: names, voxel sizes, and contrast, measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from dask.delayed import Delayed

from scout_dask_io.core.axes import DIMENSIONS_ATTRIBUTE
from scout_dask_io.core.downsample import LowerSource
from scout_dask_io.core.grid import Blocks, Shape
from scout_dask_io.core.image_info import Axis, Channel, ImageInfo, check_colors
from scout_dask_io.core.ome_metadata import LABEL_KEY, frame_record, image_metadata
from scout_dask_io.core.pyramid import Level
from scout_dask_io.core.source import Source
from scout_dask_io.core.voxel_size import ATTRIBUTE, VoxelSize, VoxelSizeLike
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import Location, locate
from scout_dask_io.read.data_array import from_xarray, is_data_array
from scout_dask_io.read.labels import labels_for
from scout_dask_io.read.missing_planes import attributes_with_filled
from scout_dask_io.read.voxel_size import size_for
from scout_dask_io.run.lazy import Pixels
from scout_dask_io.run.progress import Report
from scout_dask_io.store.codecs import LevelCodecs
from scout_dask_io.store.image import lies_under_labels
from scout_dask_io.store.labels import list_label
from scout_dask_io.store.nodes import open_with_zarr
from scout_dask_io.store.stored_rows import kept_rows
from scout_dask_io.store.transaction import begin
from scout_dask_io.store.unfinished import UPDATES, Describe, NewArray
from scout_dask_io.write.append_image import append_image
from scout_dask_io.write.arguments import (
    check_fill,
    check_remote,
    compressor_of,
    settings_of,
)
from scout_dask_io.write.inputs import WriteInput, readable
from scout_dask_io.write.options import CHUNKS, DEFAULT, Limits, WriteMode, usual_codecs
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.pyramid_plan import ImagePlan, plan_ome_zarr, plan_pass
from scout_dask_io.write.qc.findings import Subject
from scout_dask_io.write.qc.run import check_qc, put_sheet, subject_of
from scout_dask_io.write.shown import describe_image
from scout_dask_io.write.tasks import Pass, image_tasks, open_standing, run_write, standing_at
from scout_dask_io.write.unit import Lower, Target, noted_by
from scout_dask_io.write.uploads import upload_limit

if TYPE_CHECKING:
    import zarr


def write_ome_zarr(
    path: str | os.PathLike[str] | Location,
    data: Pixels,
    chunks: int | Sequence[int] | None = None,
    *,
    levels: int | Sequence[Sequence[int]] | None = None,
    factors: Sequence[Sequence[int]] | None = None,
    axes: str | None = None,
    labels: bool | None = None,
    method: str | None = None,
    channels: Sequence[str] | None = None,
    colors: Sequence[str] | None = None,
    voxel_size: VoxelSizeLike = None,
    version: str = "0.4",
    shards: int | Sequence[int] | None = None,
    codec: LevelCodecs = "default",
    fill_value: Any = 0,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    durable: bool = False,
    qc: bool = False,
    append: str | int | None = None,
    compute: bool = True,
    progress: bool | Report = False,
    storage_options: Mapping[str, Any] | None = None,
) -> zarr.Group | Delayed:
    """Stream an array into an OME-Zarr image: a group of levels, each smaller than the last.

    Level 0 holds the data as :func:`write_zarr` would; the levels below are made
    from the same pixels while they are in memory, as many as whole chunks allow,
    the others from the level above. Each is half as large as the last, and y and x
    are halved alone until voxels are near isotropic (no edge 1.41 times another), where their
    size is known; but where ``factors`` or shapes say otherwise. The
    group appears at ``path`` whole, by one rename, and every level has its
    manifest; ``resume=True`` finishes an interrupted write.

    Parameters
    ----------
    path : str or path-like
        The group's directory. Or a URL, as for :func:`write_zarr`: an unfinished image
        there has no metadata and is refused by the readers.
    data : dask.array.Array, numpy.ndarray or xarray.DataArray
        ``(y, x)``, ``(z, y, x)``, ``(c, z, y, x)`` or ``(t, c, z, y, x)``, unless ``axes``
        or the dimensions of a ``DataArray`` say otherwise, whose coordinates are kept.
    chunks : int or sequence of int, optional
        Chunk extents of every level for the last axes, in elements; by default
        ``(64, 64, 64)``, or what ``dask.config`` has.
    levels : int or sequence of shapes, optional
        How many, with level 0. By default down to one that is at most 256 wide,
        high and deep. Or the shape of each level below level 0, of its last axes, such as
        ``[(300, 1024, 1024), (150, 512, 512)]``; a remainder counts as one element more.
    factors : sequence of sequences of int, optional
        In the place of ``levels``: for each level below level 0, how many elements of the level
        above become one, along the last axes, such as ``[(1, 2, 2), (2, 2, 2)]``. Factors above 2
        divide the chunks' extents.
    axes : str, optional
        A letter an axis where it is another one than by their number, such as ``"tzyx"``.
    labels : bool, optional
        Whether the data are labels: lower levels hold the most frequent label, and no
        contrast is noted. By default whether they were read from labels alone, whose
        ``image-label`` the image then has too, or go below an image's ``labels``, where
        they are listed.
    method : {"mean", "mode", "nearest"}, optional
        How pairs become one; ``"mean"`` of images (rounded to the nearest whole
        number, halves to the even one), ``"mode"`` of labels and bools.
    channels : sequence of str, optional
        Names, as many as the axis ``c`` is long; with three axes, the first is ``c``.
    colors : sequence of str, optional
        As many, six hexadecimal digits each, such as ``"00FF00"``.
    voxel_size : VoxelSize or sequence of float, optional
        ``(z, y, x)`` in micrometres, of level 0; by default what
        :func:`voxel_size` finds for data as a reader gave them.
    version : {"0.4", "0.5"}
        Of OME-Zarr: 0.4 on Zarr v2, 0.5 on Zarr v3.
    shards : int or sequence of int, optional
        Extent of a shard; version 0.5 alone.
    codec : str, numcodecs codec, mapping, None, or tuple of two of them
        Of the full level and of those below it, or one for all, each as for
        :func:`write_zarr`. By default zstd, and of the lower levels lz4: viewers read them
        over and over, and decode that in 0.6 of the time.
    fill_value, overwrite, resume, max_mem, nb_workers, durable, compute, progress
        As for :func:`write_zarr`.
    qc : bool
        As for :func:`write_zarr`, of level 0.
    append : str or int, optional
        Let the image that stands at ``path`` grow along this axis, as for :func:`write_zarr`:
        every level, the metadata of each replaced in one step, the full one last. ``channels``
        and ``colors`` are then of channels that are appended. An image that has as many levels
        as there are by default gets those that a larger one has. Contrast windows that were
        measured are measured again. Where the image had an odd number of planes, the last plane
        of a lower level was one plane alone and becomes the mean of two: readers of the old
        shape see that right before the new shape.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    zarr.Group or Delayed
        The finished group, open for reading and writing.

    Raises
    ------
    ArgumentError, ChunkError, MemoryLimitError, TargetExistsError, ResumeError, WriteError
        As :func:`write_zarr`.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> volume = np.arange(8 * 600 * 500, dtype="u2").reshape(8, 600, 500)
    >>> group = write_ome_zarr(tempfile.mkdtemp() + "/a.zarr", volume, voxel_size=(4, 1, 1))
    >>> group["2"].shape, group["2"].attrs["voxel_size_um"]
    ((8, 150, 125), [4.0, 4.0, 4.0])
    """
    destination = locate(path, storage_options)
    mode = WriteMode(overwrite, resume, durable, compute, progress)
    stated = None
    if is_data_array(data):
        data, stated = from_xarray(data)
    if append is not None:
        if qc:
            raise ArgumentError("append goes without qc: a sheet tells of an array as a whole")
        coded = None if codec == DEFAULT else usual_codecs(codec)[0]
        given = {
            "chunks": None if chunks == CHUNKS else chunks, "levels": levels,
            "factors": factors, "axes": axes, "labels": labels, "method": method,
            "channels": channels, "colors": colors, "voxel_size": voxel_size,
            "version": None if version == "0.4" else version,
            "shards": shards, "codec": coded, "fill_value": fill_value or None,
        }  # fmt: skip
        said = {name: value for name, value in given.items() if value is not None}
        return cast(
            "zarr.Group | Delayed",
            append_image(destination, data, append, mode, Limits(max_mem, nb_workers), said),
        )
    if stated is not None:
        axes = (stated.axes or None) if axes is None else axes
        voxel_size = stated.voxel_size if voxel_size is None else voxel_size
    if labels is None and lies_under_labels(destination):
        labels = True
    labels, image_label = labels_for(data, labels)
    pixels = readable(data)
    size = size_for(data, voxel_size)
    # What was made of the data: a checksum of a numpy array is not computed again.
    image = plan_ome_zarr(
        pixels.data, chunks, levels=levels, factors=factors, axes=axes, labels=labels,
        method=method, channels=channels, voxel_size=size, version=version, shards=shards,
        codec=codec, max_mem=max_mem, nb_workers=nb_workers,
    )  # fmt: skip
    plan = image.write
    check_fill(fill_value, plan.dtype)
    compressors = [compressor_of(plan, c) for c in usual_codecs(codec)]
    known = stated or pixels.info
    info = stated_info(image.axes, plan.shape, size, channels, colors, labels=labels, known=known)
    info = replace(info, image_label=image_label)
    shown = with_labels(info, plan.shape, destination)
    metadata = image_metadata(
        destination.name, info, image.levels, version=version, method=image.method
    )
    attributes = [level_attributes(level, info) for level in image.levels]
    attributes[0] = attributes_with_filled({**known.attributes, **attributes[0]}, data) or {}
    settings = {
        **settings_of(plan, pixels, compressors[0], fill_value, metadata),
        **levels_settings(image, compressors),
        **shown_settings(shown),
    }
    subject = None
    if qc:
        check_qc(plan.shape, np.dtype(plan.dtype), destination)
        subject = subject_of(destination, data, plan, info)
    if compute:
        preflight([data], destination)
    describe = partial(describe_image, metadata=metadata, version=version, info=shown)
    record = LevelsRecord(settings, describe, arrays_of(compressors, fill_value, attributes))
    return write_levels(destination, image, pixels, record, mode, subject=subject)


class LevelsRecord(NamedTuple):
    """What is stored of an image beside its pixels.

    Attributes
    ----------
    settings : dict
        What a resumed write must share with the one that began.
    describe
        Gives the group's attributes from the lowest level.
    arrays : sequence of dict
        The settings of each level's array.
    """

    settings: dict[str, Any]
    describe: Describe
    arrays: Sequence[dict[str, Any]]


def write_levels(
    destination: Location,
    image: ImagePlan,
    pixels: WriteInput,
    record: LevelsRecord,
    mode: WriteMode,
    *,
    shared: Any = None,
    subject: Subject | None = None,
) -> zarr.Group | Delayed:
    """Write the levels of a plan, or finish writing them, and give the group its name.

    With ``shared``, the source of an array that stands, that becomes level 0 as it is stored, and
    the plan's levels come after it. With ``subject``, what the planes of level 0 are like is
    gathered and put beside the group.
    """
    first = int(shared is not None)
    limit = upload_limit(destination, image.write)
    txn = begin(
        destination,
        _new_arrays(image, first, record.arrays),
        {**record.settings, "first": first, "qc": subject is not None},
        {"passes": [(first + n, plan.units) for n, plan in image.passes]},
        overwrite=mode.overwrite,
        resume=mode.resume,
        durable=mode.durable,
        check=partial(
            check_remote, destination, image.write, pixels.data, overwrite=mode.overwrite
        ),
    )
    if txn is None:
        list_label(destination)  # which the run that finished it may not have come to
        return cast("zarr.Group | Delayed", standing_at(destination, mode))
    image = _as_begun(image, [(n - first, units) for n, units in txn.settings["passes"]])
    targets = [
        Target(txn, fmt, fmt.chunks, n, uploads=limit)
        for n, fmt in ((n, txn.format(n)) for n in range(first, first + len(image.levels)))
    ]
    tops = _with_lower(image, targets)
    tops[0] = replace(tops[0], qc=subject is not None)
    passes = _passes(image, tops, pixels)
    graph = image_tasks(f"write-{txn.name}", passes, pixels.kept_rows(txn, tops[0].level), mode)
    of_levels = {target.level: image.units_of(n) for n, target in enumerate(targets)}
    publish = partial(_commit, targets[0], of_levels, record.describe, shared, subject)
    written = run_write(graph, publish, pixels.array, tops[0], image.write, mode)
    return cast("zarr.Group | Delayed", written)


def _new_arrays(
    image: ImagePlan,
    first: int,
    arrays: Sequence[dict[str, Any]],
) -> list[NewArray]:
    """Give the levels as arrays that are to grow, from the number ``first`` on."""
    plan = image.write
    # Version 0.5 asks for the axes' names in the arrays too; of Zarr v2, who opens a level alone,
    # as xarray does, looks for them in an attribute.
    of_v3: dict[str, Any] = {}
    of_v2: dict[str, Any] = {DIMENSIONS_ATTRIBUTE: list(image.axes)}
    if plan.zarr_format == 3:
        of_v2, of_v3 = {}, {"zarr_format": 3, "shards": plan.shards}
        of_v3["dimension_names"] = list(image.axes)
    arrays = [{**own, "attributes": {**own["attributes"], **of_v2}, **of_v3} for own in arrays]
    return [
        NewArray(level.shape, plan.chunks, plan.dtype, own, n)
        for n, (level, own) in enumerate(zip(image.levels, arrays, strict=True), start=first)
    ]


def _as_begun(image: ImagePlan, passes: Sequence[tuple[int, Any]]) -> ImagePlan:
    """Give a plan with the units that the image was begun with, now or in an earlier run."""
    begun = []
    for first, units in passes:
        plan = plan_pass(image.write, image.levels, first) if first else image.write
        begun.append((first, replace(plan, units=tuple(map(tuple, units)))))
    return replace(image, passes=tuple(begun))


def _with_lower(image: ImagePlan, targets: Sequence[Target]) -> list[Target]:
    """Give the first target of each pass, with those that its units make too."""
    starts = [first for first, _ in image.passes] + [len(targets)]
    tops = []
    for k, (first, plan) in enumerate(image.passes):
        lower = tuple(
            Lower(targets[n], image.levels[n].factors, image.method)
            for n in range(first + 1, starts[k + 1])
        )
        # One attempt: whoever cancels it cancels the tasks of all levels.
        attempt = targets[0].attempt
        tops.append(replace(targets[first], band=plan.band, lower=lower, attempt=attempt))
    return tops


def _passes(image: ImagePlan, tops: Sequence[Target], pixels: WriteInput) -> Iterator[Pass]:
    """Yield the passes, each of which reads what the one before it has written.

    In an update they read what stands, but for the rows that changed; and those of the first
    lower level from the pixels, where these are few.
    """
    for (first, plan), top in zip(image.passes, tops, strict=True):
        level, factors = top.level or 0, image.levels[first].factors
        units: dict[int | None, Blocks] = {
            level + n: image.units_of(first + n) for n in range(len(top.lower) + 1)
        }
        halved: Source | None = None
        if top is not tops[0]:
            txn, above = top.transaction, pixels.source
            update = txn.settings.get(UPDATES)
            direct = level == 1 and isinstance(update, Mapping) and update.get("direct")
            if above is None or not direct:
                above = txn.source(level - 1)
            halved = LowerSource(above, factors, image.method)
            halved = kept_rows(txn.destination, level, update, halved)
        yield Pass(first, plan, top, units, halved)


def _commit(
    target: Target,
    units: Mapping[int | None, Blocks],
    describe: Describe,
    shared: Any,
    subject: Subject | None,
    written: list[Any],
) -> Any:
    txn = target.transaction
    with target.attempt.working():
        if subject is not None:
            put_sheet(target, units[target.level], subject)
        node = txn.commit(units, describe, shared, noted_by(written))
        list_label(txn.destination)
        if node is not None:
            return open_with_zarr(node, read_only=False)
        return open_standing(txn.destination)


def stated_info(
    axes: str,
    shape: Shape,
    size: VoxelSize | None,
    channels: Any,
    colors: Any,
    *,
    labels: bool,
    known: ImageInfo,
) -> ImageInfo:
    """Give what a caller states of an image, and what is ``known`` of its data as a reader gave it.

    Raises
    ------
    ArgumentError
        If names or colours are not as many as the data have channels.
    """
    n = shape[axes.index("c")] if "c" in axes else 1
    names = [channels] if isinstance(channels, str) else [str(c) for c in channels or ()]
    if channels is not None and len(names) != n:
        raise ArgumentError(
            f"channels must be {n} names, as many as the data have channels, got {channels!r}"
        )
    given = check_colors(colors, n)
    stated = known.channels if len(known.channels) == n else ()
    if names or given:
        stated = stated or (Channel(),) * n
    if names:
        stated = tuple(replace(c, name=name) for c, name in zip(stated, names, strict=True))
    if given:
        stated = tuple(replace(c, color=color) for c, color in zip(stated, given, strict=True))
    # An axis that the caller names otherwise is another; samples of colour are channels.
    letters = known.axes.replace("s", "c") if "c" not in known.axes else known.axes
    frame: tuple[Axis, ...] = ()
    if known.frame and len(letters) == len(axes):
        pairs_of = zip(axes, letters, known.frame, strict=True)
        frame = tuple(axis if a == own else Axis() for a, own, axis in pairs_of)
    kept = replace(known, voxel_size=None, missing=(), attributes={})
    return replace(kept, axes=axes, channels=stated, labels=labels, frame=frame).sized(size)


def with_labels(info: ImageInfo, shape: Shape, path: Location) -> ImageInfo:
    """Give each channel a name: its own, else its number, or the image's own for one alone."""
    names: Sequence[str] = [path.name.removesuffix(".zarr").removesuffix(".ome")]
    if "c" in info.axes:
        names = [str(k) for k in range(shape[info.axes.index("c")])]
    channels = info.channels if len(info.channels) == len(names) else (Channel(),) * len(names)
    named = (replace(c, name=c.name or name) for c, name in zip(channels, names, strict=True))
    return replace(info, channels=tuple(named))


def shown_settings(info: ImageInfo) -> dict[str, Any]:
    """Give how channels are shown, of what a resumed write must share with the one that began."""
    found: dict[str, Any] = {"shown": [list(info.names), list(info.colors) or None]}
    stated = frame_record(info).get("omero")
    return found | ({"stated": stated} if stated else {})


def levels_settings(image: ImagePlan, compressors: Sequence[Any]) -> dict[str, Any]:
    """Give the levels and their codec, of what a resumed write must share with the first."""
    lower = compressors[1]
    return {
        "levels": [level.shape for level in image.levels],
        "lower_codec": lower and lower.get_config(),
    }


def arrays_of(
    compressors: Sequence[Any], fill_value: Any, attributes: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Give the settings of each level's array; the second compressor is of all but the first."""
    return [
        {"compressor": compressors[n > 0], "fill_value": fill_value, "attributes": own}
        for n, own in enumerate(attributes)
    ]


def level_attributes(level: Level, info: ImageInfo) -> dict[str, Any]:
    """Give the attributes of a level's array: channel names and the size of its voxels."""
    found: dict[str, Any] = {}
    if info.names and info.axes[0] == "c":
        found["channels"] = list(info.names)
    if info.labels:
        found[LABEL_KEY] = {}  # so that who opens it alone does not average it
    times = dict(zip(info.axes, level.total, strict=True))
    size = info.level([times.get(a, 1) for a in "zyx"]).voxel_size
    return found if size is None else {**found, ATTRIBUTE: list(size.micrometres)}
