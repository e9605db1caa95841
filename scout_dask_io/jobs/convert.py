"""Converting TIFFs, folders of planes, channel datasets or Zarr arrays into Zarr or OME-Zarr.

What is converted: the source opened, and checked against where it goes and how.

What a conversion reports: what it would do, and what it has written.

The sheet that ``convert --qc`` puts beside an array: whether it can be had, what it found.

Why it is long: what is checked, done and reported of a conversion is one thing.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import dask.array as da
import numpy as np

from scout_dask_io.core.axes import ORDER, names_to_store
from scout_dask_io.core.formatting import Row, format_count, format_nbytes, format_s, format_shape
from scout_dask_io.core.grid import Shape, chunk_counts
from scout_dask_io.core.image_info import FilledPlane
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import Option, about, warn
from scout_dask_io.core.ome_metadata import VERSIONS
from scout_dask_io.core.plan import WritePlan
from scout_dask_io.core.selection import AS_IT_IS, Selection
from scout_dask_io.core.shards import advise_shards
from scout_dask_io.core.voxel_size import VoxelSize, VoxelSizeLike
from scout_dask_io.errors import ArgumentError, ChunkReadError, LayoutError
from scout_dask_io.files.location import Location
from scout_dask_io.files.names import is_ome_zarr_name, ome_hint
from scout_dask_io.jobs.destination import (
    check_target,
    warn_of_a_full_disk,
)
from scout_dask_io.jobs.report import (
    JobReport,
    Planned,
    array_text,
    filled_rows,
    levels_text,
    room_text,
    voxel_text,
)
from scout_dask_io.read.any import (
    Opened,
    as_image,
    check_names,
    is_guess,
    leading_channels,
    locate_all,
    open_any,
    with_axes,
)
from scout_dask_io.read.axes import say_guess
from scout_dask_io.run.progress import Report
from scout_dask_io.store.codecs import LevelCodecs
from scout_dask_io.store.image_info import attributes_of, axis_names
from scout_dask_io.store.labels import label_place, labels_in
from scout_dask_io.store.manifest import read_manifest
from scout_dask_io.store.nodes import open_with_zarr
from scout_dask_io.store.sidecar import check_beside, has_beside, sheet_paths, stands
from scout_dask_io.store.transaction import unfinished
from scout_dask_io.write.inputs import check_kind
from scout_dask_io.write.labels import LabelPlan, plan_labels
from scout_dask_io.write.ome_zarr import write_ome_zarr
from scout_dask_io.write.options import Limits, Storage, WriteMode, usual_chunks, usual_codecs
from scout_dask_io.write.pyramid_plan import plan_ome_zarr
from scout_dask_io.write.qc.run import check_qc, check_qc_place
from scout_dask_io.write.tasks import DelayedWrite
from scout_dask_io.write.zarr import plan_zarr, write_zarr

if TYPE_CHECKING:
    import zarr

# What the writer of labels that go along is asked as that of their image is.
_OF_LABELS = frozenset(("shards", "max_mem", "nb_workers", "version", "codec"))
#: What says which levels an image has.
_OF_LEVELS = ("levels", "factors")
#: Sentences on the planes that a summary has.
_FINDINGS = 6


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    ome: bool = False,
    labels: bool | None = None,
    labels_too: bool = False,
    label: str | None = None,
    levels: int | Sequence[Sequence[int]] | None = None,
    factors: Sequence[Sequence[int]] | None = None,
    chunks: int | Sequence[int] | None = None,
    codec: LevelCodecs = "default",
    zarr_format: int = 2,
    shards: int | Sequence[int] | None = None,
    order: str = "alphabetical",
    missing: str = "error",
    pattern: str | None = None,
    position: str | None = None,
    names: str = "check",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    voxel_size: VoxelSizeLike = None,
    axes: str | None = None,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    durable: bool = False,
    qc: bool = False,
    progress: bool | Report = False,
    storage_options: Mapping[str, Any] | None = None,
) -> ConvertReport:
    """Convert a source of pixels to a chunked Zarr array or an OME-Zarr image, in bounded memory.

    The array at ``dst`` is whole or not there, as with
    :func:`~scout_dask_io.write_zarr`. Channel names and the voxel size are kept
    as the attributes ``channels`` and ``voxel_size_um`` (z, y, x, micrometres)
    where they are known, the latter ``null`` along an axis that nothing states.
    An OME-Zarr image has them, and the colours of channels, in its own metadata.
    They are those of channel folders, OME-XML, ImageJ and Zarr metadata.

    Parameters
    ----------
    src : str or path-like
        A TIFF, a folder of planes, a folder with one folder of planes a
        channel, a folder or a tree whose names carry channel, time, z or position, or a
        Zarr array; or the URL of one. A dataset of an HDF5 file, ``"file.h5::/path"``, or the
        file alone where it holds one array; a ``.npy`` file.
    dst : str or path-like
        The directory of the array or image, outside ``src``; or a URL such as
        ``"s3://bucket/a.zarr"``.
    ome : bool
        Write an OME-Zarr image, as :func:`~scout_dask_io.write_ome_zarr` does: version
        0.4, or 0.5 with ``zarr_format=3``. Axes that lie in another order than
        ``(t, c, z, y, x)`` are put into it, and colour samples become channels.
    labels : bool, optional
        Whether the pixels are labels, which are never averaged; by default whether the
        source says so. Its ``image-label`` (colours, properties, source) goes along.
    labels_too : bool
        Convert the labels that a source image lists too, into those of the new image. By
        default they are left, and the report says so.
    label : str, optional
        ``dst`` is an OME-Zarr image that stands, below which the source becomes labels of
        this name, as with :func:`~scout_dask_io.write_labels`.
    levels : int or sequence of shapes, optional
        How many levels the image has, with the full one; by default down to one of at
        most 256 elements along each axis. Or the shapes of those below the full one.
    factors : sequence of sequences of int, optional
        By what each level below the full one is smaller than the one above, as for
        :func:`~scout_dask_io.write_ome_zarr`.
    codec
        Of the array, as for :func:`~scout_dask_io.write_zarr`; or of the full level of an
        image and of those below it, as for :func:`~scout_dask_io.write_ome_zarr`.
    chunks, zarr_format, shards, overwrite, resume, max_mem, nb_workers, durable, progress
        As for :func:`~scout_dask_io.write_zarr`.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    missing : {"error", "fill"}
        What to do about planes in a folder that cannot be read. By default the
        error names every one, and nothing is created. ``"fill"`` writes the fill
        value in their place, as :func:`~scout_dask_io.imread_folder` says, and
        records plane, file and reason in the manifest and the attribute
        ``filled_planes``; :func:`~scout_dask_io.info` and
        :func:`~scout_dask_io.verify` repeat it.
    pattern, position : str, optional
        How the names of a dataset are read, and which of its positions is converted, as
        for :func:`~scout_dask_io.imread_dataset`. How they were read becomes the attribute
        ``dataset`` of an array.
    names : {"check", "allow", "ignore"}
        By default a folder is refused whose names have gaps, several series, or files that
        are no members. ``"allow"`` says that it is meant, and warns; ``"ignore"`` stacks the
        files of a folder, or of a folder a channel, whatever they are named.
    series, pages, allow_sparse
        Which image and which pages of TIFF files, as for :func:`~scout_dask_io.imread_folder`.
    storage_options : dict, optional
        What fsspec needs to reach those of the two that are URLs.
    voxel_size : VoxelSize or sequence of float, optional
        ``(z, y, x)`` in micrometres; by default what
        :func:`~scout_dask_io.voxel_size` finds.
    axes : str, optional
        A letter an axis of the source, such as ``"tyx"``, which counts instead of what the
        source states; by default that, or where it states nothing the usual axes of their
        number, of which an image of more than two warns.
    qc : bool
        Put a sheet beside the array that says what the planes are like, as for
        :func:`~scout_dask_io.write_zarr`.

    Warns
    -----
    UserWarning
        Of planes that are filled, of how the names of a dataset are read, with
        ``names="allow"`` of numbers missing or doubled in them, and where the array may not fit on
        the disk.

    Raises
    ------
    PathNotFoundError, TiffReadError, ShapeMismatchError, LayoutError
        If the source cannot be read; nothing is created.
    ArgumentError
        If an argument does not fit, one of the two paths lies in the other, or the names
        of files tell of no one stack or dataset; nothing is created.
    TargetExistsError, ResumeError, MemoryLimitError, WriteError
        As for :func:`~scout_dask_io.write_zarr`.
    """
    plan = plan_convert(
        src, dst, ome=ome, labels=labels, labels_too=labels_too, label=label,
        levels=levels, factors=factors, chunks=chunks, codec=codec,
        zarr_format=zarr_format, shards=shards, order=order, missing=missing,
        pattern=pattern, position=position, names=names,
        series=series, pages=pages, allow_sparse=allow_sparse,
        voxel_size=voxel_size, axes=axes, overwrite=overwrite, resume=resume, max_mem=max_mem,
        nb_workers=nb_workers, durable=durable, qc=qc, storage_options=storage_options,
    )  # fmt: skip
    return plan.run(progress)


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """How :func:`convert` writes: its parameters but ``progress``, which are said there."""

    ome: bool = False
    labels: bool | None = None
    labels_too: bool = False
    label: str | None = None
    levels: int | Sequence[Sequence[int]] | None = None
    factors: Sequence[Sequence[int]] | None = None
    chunks: int | Sequence[int] | None = None
    codec: LevelCodecs = "default"
    zarr_format: int = 2
    shards: int | Sequence[int] | None = None
    selection: Selection = AS_IT_IS
    voxel_size: VoxelSizeLike = None
    axes: str | None = None
    overwrite: bool = False
    resume: bool = False
    max_mem: int | str | None = None
    nb_workers: int | None = None
    durable: bool = False
    qc: bool = False
    storage_options: Mapping[str, Any] | None = None

    @property
    def sets_levels(self) -> bool:
        """Whether it is said which levels there are."""
        return self.levels is not None or self.factors is not None


def plan_convert(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], **options: Any
) -> ConvertPlan:
    """Give what :func:`convert` would do with the same arguments, without writing anything.

    Reads the headers of the source. Whatever :func:`convert` would refuse
    before it writes is refused here with the same error.
    """
    return plan_with(src, dst, options_of(options))


def options_of(options: dict[str, Any]) -> ConvertOptions:
    """Give the options that the keyword arguments of :func:`convert` make."""
    options = {"names": "check", **options}
    selection = Selection.taken_from(options)
    return ConvertOptions(selection=selection, **options)


def plan_with(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    how: ConvertOptions,
    opener: Callable[[Location], Opened] | None = None,
) -> ConvertPlan:
    """Give the plan of a conversion of what lies there, or of what ``opener`` gives of it."""
    start = time.perf_counter()
    source, destination = locate_all(src, dst, how.storage_options)
    image = destination
    if how.label is not None:
        destination = label_place(image, how.label)
        if how.sets_levels or how.qc or how.labels_too:
            raise ArgumentError(
                "labels below an image have its levels, and neither a sheet nor labels of their "
                "own: give "
                + Option("label", how.label)
                + " without "
                + Option("levels")
                + ", "
                + Option("qc")
                + " and "
                + Option("labels_too")
            )
    if not how.ome and (how.labels or how.sets_levels):
        raise ArgumentError(
            "labels and levels are of OME-Zarr images: give " + Option("ome", True) + " too"
        )
    if how.qc:
        check_qc_place(destination)
    replaces, resumes = check_target(
        source, destination, overwrite=how.overwrite, resume=how.resume
    )
    if is_ome_zarr_name(destination) and not how.ome and how.label is None:
        warn(ome_hint(destination))
    selection = how.selection
    if opener is None:
        opened = open_any(source, how.nb_workers, selection, voxel_size=how.voxel_size)
    else:
        opened = opener(source)
    check_names(opened, selection)
    with about(opened.path):
        check_kind(opened.array.dtype, opened.array.ndim)
    if how.axes is not None:
        opened = with_axes(opened, how.axes)
    elif how.ome and not opened.unclear and is_guess(opened):
        say_guess(opened.path, opened.axes)
    if how.qc:
        check_planes(opened, destination, how)
    data, info, channels = opened.array, opened.info, leading_channels(opened)
    names = labels_in(source) if opened.image is not None else ()
    if how.labels_too and not how.ome:
        raise ArgumentError("labels go along with an image: give " + Option("ome", True) + " too")
    if how.labels_too and not names:
        raise ArgumentError(
            f"{opened.path} lists no labels that could go along with an image: leave out "
            + Option("labels_too")
        )
    copied = tuple((name, open_any(label_place(source, name))) for name in names if how.labels_too)
    label: LabelPlan | None = None
    if how.ome or how.label is not None:
        with about(source):
            data, info = as_image(opened)
        channels = info.names
    free = destination.free_nbytes()
    # The levels below the full one take at most a third as much.
    warn_of_a_full_disk(int(data.nbytes) * (4 if how.ome else 3) // 3, destination, free)
    asked: dict[str, Any] = {
        "shards": how.shards, "max_mem": how.max_mem, "nb_workers": how.nb_workers,
    }  # fmt: skip
    shapes: tuple[Shape, ...] = ()
    totals: tuple[Shape, ...] = ((1,) * data.ndim,)
    if how.label is not None:
        # Axes of no meaning, such as pages, and those that are guessed are the image's.
        known = bool(opened.info.axes) and set(opened.info.axes) <= set(ORDER)
        chunks = usual_chunks() if how.chunks is None else how.chunks
        label = plan_labels(
            image, how.label, data, Storage(chunks, how.codec, shards=how.shards),
            Limits(how.max_mem, how.nb_workers), axes=info.axes if known else None,
        )  # fmt: skip
        write, shapes = label.image.write, tuple(level.shape for level in label.image.levels)
        n_units, n_tasks = label.image.n_units, label.image.n_units + len(label.image.passes)
        n_files = label.image.n_files + (3 - (write.zarr_format == 3)) * (2 + len(shapes))
        channels = ()
    elif how.ome:
        versions = {of: version for version, of in VERSIONS.items()}
        if how.zarr_format not in versions:
            raise ArgumentError(f"zarr_format must be 2 or 3, got {how.zarr_format!r}")
        asked |= {"axes": info.axes, "channels": channels or None, "labels": how.labels}
        asked |= {"levels": how.levels, "factors": how.factors, "voxel_size": info.voxel_size}
        asked |= {"version": versions[how.zarr_format], "codec": how.codec}
        levels = plan_ome_zarr(data, how.chunks, **asked)
        write, shapes = levels.write, tuple(level.shape for level in levels.levels)
        totals = tuple(level.total for level in levels.levels)
        n_units = levels.n_units
        # One task a unit, one that waits for each pass, the last of which publishes the image.
        n_tasks = n_units + len(levels.passes)
        # A group's metadata and manifest, and each level's.
        n_files = levels.n_files + (3 - (how.zarr_format == 3)) * (1 + len(shapes))
        asked["colors"] = info.colors or None
    else:
        asked |= {"codec": usual_codecs(how.codec)[0], "zarr_format": how.zarr_format}
        write = plan_zarr(data, how.chunks, **asked)
        n_units, n_tasks = write.n_units, write.n_units + 1
        asked["voxel_size"] = info.voxel_size
        asked |= {"attributes": attributes_of(opened.info, channels)}
        if names_of_axes := stored_names(opened, how):
            asked["axes"] = names_of_axes
        # zarr.json; or .zarray, and .zattrs where there is something to say.
        stated = bool(info.voxel_size or opened.filled or info.labels or asked["attributes"])
        n_files = write.n_stored + 1 + (how.zarr_format == 2 and stated)
    if (fill := fill_value_of(opened)) is not None:
        asked["fill_value"] = fill
    return ConvertPlan(
        source=os.fspath(src),
        destination=os.fspath(dst),
        replaces=replaces,
        resumes=resumes,
        write=write,
        levels=shapes,
        n_tasks=n_tasks,
        channels=channels,
        voxel_size=info.voxel_size,
        filled=opened.filled,
        n_files=n_files,
        qc_sheet=str(sheet_paths(destination)[1]) if how.qc else "",
        free_nbytes=free,
        advice=advise_shards(write.shape, write.chunks, write.stored, write.itemsize),
        labels=names if how.label is None else (),
        _job=_Job(
            destination,
            data,
            how,
            asked,
            n_units,
            label,
            copied,
            totals,
            took_s=time.perf_counter() - start,
        ),
    )


def of_last_axes(levels: Any, n_axes: int) -> Any:
    """Give shapes or factors of levels for an array that has the last axes alone."""
    return [tuple(own)[-n_axes:] for own in levels] if isinstance(levels, Sequence) else levels


def stored_names(opened: Opened, how: ConvertOptions) -> Any:
    """Give the names of axes that an array is asked to store, so that it says what its source says.

    Those that are given, else of a Zarr array its own, of an image the image's.
    """
    if how.axes:
        return list(how.axes)
    names: Any = None if opened.node is None else axis_names(opened.node)
    if opened.image is not None and not names:
        names = names_to_store(opened.info.axes, opened.channels, opened.array.shape)
    return names


def fill_value_of(opened: Opened) -> Any:
    """Give the fill value of a Zarr array that is converted; ``None`` where there is none."""
    if opened.node is None:
        return None
    stated = opened.node.metadata.get("fill_value")
    if stated is None or isinstance(stated, (int, float)):
        return stated or None
    # Text, such as "NaN", and lists are zarr's to understand.
    found = cast("zarr.Array[Any]", open_with_zarr(opened.node)).fill_value
    return None if found is None else np.asarray(found).item()


@dataclass(frozen=True, slots=True)
class _Job:
    """What a plan needs to run: the pixels, in an image with their axes in its order."""

    destination: Location
    data: da.Array
    how: ConvertOptions
    #: What the writer of arrays or images is asked, beside the data and what ``how`` says.
    asked: dict[str, Any]
    n_units: int
    #: What is to go below an image that stands.
    label: LabelPlan | None
    #: Names of the labels that go along, and what is read of each.
    copied: tuple[tuple[str, Opened], ...]
    #: How many elements of the full level are one of each level, per axis.
    totals: tuple[Shape, ...]
    took_s: float


def _finished_before(destination: Location, how: ConvertOptions) -> int | None:
    """Give how many units an interrupted run had finished; ``None`` where all stands finished."""
    if not how.resume:
        return 0
    there = unfinished(destination)
    if there is not None:
        return there.n_finished
    return None if destination.exists() and not how.overwrite else 0


def _count_units(destination: Location) -> int:
    manifest = read_manifest(destination)
    settings = {} if manifest is None else manifest.settings
    # An image has passes, each with the units of its first level.
    passes = [units for _, units in settings.get("passes", ())] or [settings.get("units", ())]
    return sum(math.prod(len(axis) for axis in units) for units in passes)


@dataclass(frozen=True, slots=True)
class QcReport:
    """What was gathered of the planes of an array that was converted.

    Attributes
    ----------
    sheet, data : str
        The HTML file to look at, and the JSON file with the figures of every plane.
    findings : tuple of str
        What stands out, a sentence each; empty where nothing does.
    """

    sheet: str
    data: str
    findings: tuple[str, ...]

    def rows(self) -> Iterable[Row]:
        """Say what stands out, and where the sheet is."""
        lines = self.findings or ("nothing stands out: no blank, identical or saturated plane",)
        for n, line in enumerate(lines[:_FINDINGS]):
            yield "" if n else "planes", line
        if len(lines) > _FINDINGS:
            yield "", f"and {len(lines) - _FINDINGS} more"
        yield "sheet", self.sheet


@dataclass(frozen=True, slots=True)
class ConvertReport(JobReport):
    """What :func:`convert` wrote.

    Attributes
    ----------
    plan : ConvertPlan
        What was planned, and what is said of it there: ``shape``, ``chunks``, ``dtype`` and
        ``nbytes`` of the array, or of level 0, ``levels`` and ``filled``; ``path`` is its
        destination.
    stored_nbytes : int
        Size of all files, in bytes.
    n_chunks : int
        Chunks of the grid, of all levels; those that hold only the fill value have no file.
    n_units, n_resumed : int
        Write units, and how many of them earlier runs had finished.
    qc : QcReport or None
        What the planes are like, where that was asked for.
    elapsed_s : float
        From opening the source to the array standing at ``path``.
    """

    path = Planned[str]("destination")
    shape = Planned[Shape]("write.shape")
    dtype = Planned[str]("write.dtype")
    chunks = Planned[Shape]("write.chunks")
    levels = Planned[tuple[Shape, ...]]("levels")
    nbytes = Planned[int]("write.nbytes")
    filled = Planned[tuple[FilledPlane, ...]]("filled")
    plan: ConvertPlan
    stored_nbytes: int
    n_chunks: int
    n_units: int
    n_resumed: int
    qc: QcReport | None
    elapsed_s: float

    @property
    def ratio(self) -> float:
        """How many times smaller the files are than the elements."""
        return self.nbytes / self.stored_nbytes if self.stored_nbytes else 1.0

    @property
    def nbytes_per_s(self) -> float:
        """Elements converted a second, in bytes."""
        return self.nbytes / max(self.elapsed_s, 1e-9)

    def title(self) -> str:
        """Say where it stands."""
        return f"Wrote {self.path}"

    def rows(self) -> Iterable[Row]:
        """Say what was written, and how fast."""
        smaller = f", {self.ratio:.2f} times smaller" if self.ratio > 1 else ""
        n_units = format_count(self.n_units, "write unit")
        yield "array", array_text(self)
        yield "levels", levels_text(self.levels)
        yield self.plan.labels_row()
        yield "chunks", f"{format_count(self.n_chunks, 'chunk')} of {format_shape(self.chunks)}"
        yield "on disk", format_nbytes(self.stored_nbytes) + smaller
        yield "took", f"{format_s(self.elapsed_s)}, {format_nbytes(self.nbytes_per_s)}/s"
        if self.n_resumed:
            yield "resumed", f"{self.n_resumed:,} of {n_units} were finished"
        yield from filled_rows(self.filled)
        if self.qc is not None:
            yield from self.qc.rows()


@dataclass(frozen=True, slots=True)
class ConvertPlan(JobReport):
    """What :func:`convert` would do.

    Attributes
    ----------
    source, destination : str
        Paths.
    replaces, resumes : bool
        Whether an array at the destination would be replaced, and whether an
        unfinished write of it would be finished.
    write : WritePlan
        Units, workers, memory; of an OME-Zarr image, of level 0 and those made with it.
    levels : tuple of tuple of int
        Shapes of the levels of an image, the full one first; empty of an array.
    n_tasks : int
        Tasks that dask would run: one a unit, and those that wait for them.
    channels : tuple of str
        Names of the channels, where the source is a channel dataset.
    voxel_size : VoxelSize or None
        As the source states it, in whole or in part, or as it was given.
    filled : tuple of FilledPlane
        Planes that would hold the fill value, since their files cannot be read.
    n_files : int
        Files at the destination, at most: a chunk that is all fill value has none.
    qc_sheet : str
        Where the sheet of the planes would lie; empty where none is asked for.
    free_nbytes : int or None
        Free on the destination's disk, in bytes; an object store does not say.
    advice : str
        What would make fewer files, where there would be over a million.
    labels : tuple of str
        Names of the labels that the source lists.
    """

    source: str
    destination: str
    replaces: bool
    resumes: bool
    write: WritePlan
    levels: tuple[Shape, ...]
    n_tasks: int
    channels: tuple[str, ...]
    voxel_size: VoxelSize | None
    filled: tuple[FilledPlane, ...]
    n_files: int
    qc_sheet: str
    free_nbytes: int | None
    advice: str
    labels: tuple[str, ...]
    _job: _Job = field(repr=False, compare=False)

    def source_array(self) -> da.Array:
        """Give what is read: lazy, with the axes that the array has."""
        return self._job.data

    def place(self) -> Location:
        """Give the destination as a location."""
        return self._job.destination

    def totals(self) -> tuple[Shape, ...]:
        """Give how many elements of the full level are one of each level, per axis."""
        return self._job.totals

    def begin(self) -> DelayedWrite | None:
        """Begin the write, and give its tasks; ``None`` where all stands finished already.

        The same plan with ``resume`` finishes it.
        """
        job = self._job
        how = job.how
        write: Any = write_ome_zarr if how.ome else write_zarr
        again = {"overwrite": how.overwrite, "resume": how.resume, "durable": how.durable}
        begun = write(
            job.destination, job.data, how.chunks, qc=how.qc, compute=False, **again, **job.asked
        )
        return begun if isinstance(begun, DelayedWrite) else None

    def write_array(self, progress: bool | Report = False) -> None:
        """Write the array, the image or the labels, and nothing beside it."""
        job, again = self._job, self._again(progress)
        how = job.how
        if job.label is not None:
            job.label.run(WriteMode(**again))
            return
        write: Any = write_ome_zarr if how.ome else write_zarr
        write(job.destination, job.data, how.chunks, qc=how.qc, **again, **job.asked)

    def run(self, progress: bool | Report = False) -> ConvertReport:
        """Do it, and give what was written; arguments and errors are those of :func:`convert`."""
        start = time.perf_counter()
        job = self._job
        destination, how = job.destination, job.how
        if how.overwrite and not how.qc:
            warn_of_an_old_sheet(destination)
        if self.advice:
            warn(self.advice)
        before = _finished_before(destination, how)
        self.write_array(progress)
        for name, opened in job.copied:
            self._copy(name, opened, self._again(progress))
        # A write that is resumed goes on with the units that it was begun with.
        n_units = _count_units(destination) if how.resume else job.n_units
        return ConvertReport(
            plan=self,
            stored_nbytes=sum(size for _, size in destination.find()),
            n_chunks=sum(
                math.prod(chunk_counts(shape, self.write.chunks))
                for shape in self.levels or [self.write.shape]
            ),
            n_units=n_units,
            n_resumed=n_units if before is None else before,
            qc=read_qc(destination) if how.qc else None,
            elapsed_s=job.took_s + time.perf_counter() - start,
        )

    def _again(self, progress: bool | Report) -> dict[str, Any]:
        """Give the options of a writer that say what becomes of what stands there."""
        how = self._job.how
        return {
            "overwrite": how.overwrite, "resume": how.resume, "durable": how.durable,
            "progress": progress,
        }  # fmt: skip

    def _copy(self, name: str, opened: Opened, again: dict[str, Any]) -> None:
        """Write labels of the source below the new image."""
        how = self._job.how
        data, info = as_image(opened)
        asked = {k: v for k, v in self._job.asked.items() if k in _OF_LABELS}
        asked |= {"axes": info.axes, "labels": True, "voxel_size": info.voxel_size}
        place = label_place(self._job.destination, name)
        if how.sets_levels:
            asked |= {name: of_last_axes(getattr(how, name), data.ndim) for name in _OF_LEVELS}
        elif opened.image is not None:
            asked["levels"] = len(opened.image.levels)
        write_ome_zarr(place, data, how.chunks, **again, **asked)

    def labels_row(self) -> Row:
        """Say what becomes of the labels that the source lists."""
        names = ", ".join(self.labels)
        if not names or self._job.copied:
            return ("labels", f"{names}, which go along" if names else "")
        return ("labels", f"{names} are left: " + Option("labels_too", True) + " takes them along")

    def title(self) -> str:
        """Say what is to become of what."""
        return f"Would convert {self.source} to {self.destination}; nothing was written"

    def rows(self) -> Iterable[Row]:
        """Say what would be written, and what it would take."""
        write, said = self.write, dict(self.write.rows())
        end = "those that publish the image" if self.levels else "one that publishes the array"
        return [
            ("array", said["array"]),
            ("levels", levels_text(self.levels)),
            ("channels", ", ".join(self.channels)),
            self.labels_row(),
            ("voxel", voxel_text(self.voxel_size)),
            ("chunks", said["chunks"]),
            ("shards", said["shards"]),
            ("units", said["units"]),
            ("tasks", f"{self.n_tasks:,}: one a unit, and {end}"),
            ("workers", said["workers"]),
            ("memory", said["memory"]),
            ("reads", said["reads"]),
            ("files", f"{self.n_files:,} at most"),
            ("sheet", f"{self.qc_sheet}, and a JSON file" if self.qc_sheet else ""),
            ("advice", self.advice),
            ("disk", room_text(write.nbytes, self.free_nbytes)),
            *filled_rows(self.filled),
            ("replaces", f"the array at {self.destination}" if self.replaces else ""),
            ("resumes", "the unfinished write beside it" if self.resumes else ""),
        ]


def check_planes(opened: Opened, destination: Location, how: ConvertOptions) -> None:
    """Refuse a source whose planes nothing can be told of, before anything is created.

    Raises
    ------
    ArgumentError
        If its last two axes are not ``(y, x)``, or as for ``check_qc``.
    TargetExistsError
        If other files lie where the sheet goes.
    """
    check_qc(opened.array.shape, np.dtype(opened.array.dtype), destination)
    axes = opened.axes
    if not how.ome and not axes.endswith("yx"):
        raise ArgumentError(
            f"{opened.path} has the axes {axes!r}, and qc tells of planes (y, x): give "
            + Option("ome", True)
            + ", "
            "which puts them last, or leave qc out"
        )
    if not how.resume:
        # A resumed write may have finished, with the sheet at its place: the writer looks.
        check_beside(destination, overwrite=how.overwrite)


def warn_of_an_old_sheet(destination: Location) -> None:
    """Warn where the sheet of an array that is replaced stays, since the new one has none."""
    if not has_beside(destination):
        return
    _, sheet = sheet_paths(destination)
    try:
        stays = stands(sheet)
    except ChunkReadError:
        return  # of a store that does not let it be asked for, as for read_qc
    if stays:
        warn(
            f"{sheet} tells of the array that is replaced, and stays: "
            + Option("qc", True)
            + " replaces it"
        )


def read_qc(destination: Location) -> QcReport | None:
    """Give what the files beside an array say; ``None`` where none is to be had.

    Raises
    ------
    LayoutError
        If the JSON file is damaged or cannot be read.
    """
    if not has_beside(destination):
        return None
    data, sheet = sheet_paths(destination)
    try:
        raw = data.read()
        if raw is None:
            return None
        found = parse_json(raw)
        findings = tuple(map(str, found["findings"]))
    except (FileNotFoundError, ChunkReadError):
        # So say stores of what is not there to who may read the array alone.
        return None
    except (ValueError, KeyError, TypeError, OSError) as err:
        raise LayoutError(
            f"{data} is damaged or cannot be read: {err}. Mend the cause, or remove it."
        ) from err
    return QcReport(str(sheet), str(data), findings)
