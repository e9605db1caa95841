"""What stands grows along an axis: the rows that are added, written as an array of their own.

What is checked before: that the new rows fit the array. How they become part of it, and what
readers see meanwhile, is told in :mod:`~scout_dask_io.store.growth`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from operator import index as as_index
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.axes import guessed_axes, stated_axes
from scout_dask_io.core.grid import Blocks, Region, Shape, expand_chunks, full_region, with_axis
from scout_dask_io.core.shards import fit_shards
from scout_dask_io.core.source import JoinedSource
from scout_dask_io.errors import ArgumentError, ChunkError, ChunkReadError, ShapeMismatchError
from scout_dask_io.files.location import Location
from scout_dask_io.read.missing_planes import filled_record
from scout_dask_io.run.lazy import lazy_array
from scout_dask_io.store.chunk_format import ChunkFormat, format_at
from scout_dask_io.store.codecs import resolve_codec
from scout_dask_io.store.growth import ArrayGrowth, Growth, settle, splice, tail_of, tidy
from scout_dask_io.store.image import image_above
from scout_dask_io.store.image_info import CHANNELS_ATTRIBUTE, GROWING_ATTRIBUTE, axis_names
from scout_dask_io.store.manifest import Manifest, manifest_of
from scout_dask_io.store.metadata import Node, metadata_file
from scout_dask_io.store.nodes import open_array
from scout_dask_io.store.stored_rows import Rows, StoredRows
from scout_dask_io.store.transaction import begin
from scout_dask_io.store.unfinished import NewArray
from scout_dask_io.write.arguments import check_remote, plan_stored
from scout_dask_io.write.inputs import WriteInput, readable
from scout_dask_io.write.options import Limits, WriteMode
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.tasks import open_standing, run_write, standing_at, unit_tasks
from scout_dask_io.write.unit import Target, noted_by, units_done
from scout_dask_io.write.uploads import upload_limit


@dataclass(frozen=True)
class Standing:
    """An array that is to grow: what it says, how its chunks are stored, what they should be."""

    node: Node
    format: ChunkFormat
    manifest: Manifest | None

    @classmethod
    def of(cls, node: Node) -> Standing:
        """Give what is needed of an array that was opened.

        Raises
        ------
        ArgumentError
            If it has filters, an unknown codec, or elements that are no numbers.
        """
        if GROWING_ATTRIBUTE in node.attributes:
            raise ArgumentError(
                f"{node.location} still grows: a conversion that follows a microscope shows in it "
                "what is whole so far. Append once that has ended, or to another array."
            )
        fmt = format_at(node)
        if fmt is None:
            raise ArgumentError(
                f"{node.location} is not a plain array of numbers (it has filters or an unknown "
                "codec): nothing is appended to it. Grow it with zarr, resize and then write, or "
                "convert it to a new array first."
            )
        return cls(node, fmt, manifest_of(node))

    @property
    def place(self) -> Location:
        """Where it lies."""
        return self.node.location

    @property
    def job(self) -> str:
        """The write that made it, where that is on record."""
        return "" if self.manifest is None else self.manifest.job

    def tail(self, own: ArrayGrowth, axis: int) -> NewArray:
        """Give the array of the rows that are written, described as this one is."""
        shape = own.tail_shape(axis)
        document = {**self.node.metadata, "shape": list(shape)}
        if self.node.zarr_format == 3:
            document["attributes"] = {}
        else:
            document["dimension_separator"] = "/"
        documents = {metadata_file(self.node): json.dumps(document, indent=4).encode()}
        dtype = self.format.dtype.newbyteorder("=").name
        return NewArray(shape, self.format.chunks, dtype, level=own.level, documents=documents)

    def old_rows(self, region: Region, start: int) -> StoredRows:
        """Give rows that are written again, each chunk checked when it is read."""
        records = None if self.manifest is None else self.manifest.records
        rows = Rows.of(self.place, self.format, region, records)
        return StoredRows(rows, f"rows-{self.job}-{self.format.shape}-{start}")


def append_array(
    place: Location,
    data: Any,
    axis: Any,
    mode: WriteMode,
    limits: Limits,
    given: Mapping[str, Any],
) -> Any:
    """Append rows to the array at a place, as :func:`~scout_dask_io.write_zarr` says.

    ``given`` are settings that must be those of the array.
    """
    settle(place)
    standing = Standing.of(open_array(place))
    if image_above(place) is not None:
        raise ArgumentError(
            f"{place} is a level of the image {place.parent}, whose other levels would not follow: "
            "append to the image, by write_ome_zarr"
        )
    fmt = standing.format
    names = axis_names(standing.node)
    attributes = standing.node.attributes
    letters = stated_axes(names, len(fmt.shape)) or guessed_axes(
        len(fmt.shape), channels=CHANNELS_ATTRIBUTE in attributes
    )
    along = axis_number(axis, letters, names, place)
    pixels = readable(data)
    check_fit(place, fmt, data, along, letters)
    own = array_growth(fmt, data, along)
    check_settings(standing, given, own.after)
    own = with_attributes(own, along, data, attributes, letters[along])
    growth = Growth(along, (own,), pixels.digest, standing.job, mode.durable)
    if is_done(standing.manifest, growth, resume=mode.resume):
        return standing_at(place, mode)
    check_lossless(standing, own, along)
    return _write_tail(standing, growth, joined(standing, own, along, pixels), mode, limits)


def _write_tail(
    standing: Standing,
    growth: Growth,
    pixels: WriteInput,
    mode: WriteMode,
    limits: Limits,
) -> Any:
    place, fmt, own = standing.place, standing.format, growth.arrays[0]
    tail = tail_of(place)
    sharded = fmt.described().get("shards") is not None
    plan = plan_stored(pixels, fmt.chunks, limits, sharded=sharded)
    limit = upload_limit(place, plan)
    if mode.compute:
        preflight([pixels.data], place, in_place=True)
    txn = begin(
        tail,
        [standing.tail(own, growth.axis)],
        tail_settings(growth, standing.node.zarr_format),
        {"units": plan.units, "durable": mode.durable},
        overwrite=mode.overwrite,
        resume=mode.resume,
        durable=mode.durable,
        check=partial(check_remote, tail, plan, pixels.data, overwrite=False),
    )
    if txn is None:  # it was whole, and not taken in
        return _finish(place)
    units: Blocks = tuple(map(tuple, txn.settings["units"]))
    target = Target(txn, txn.format(None), plan.band, uploads=limit)
    done = units_done(target, {None: units}, resume=mode.resume, deep=mode.durable)
    name = f"append-{txn.name}"
    plan = replace(plan, units=units)
    graph = unit_tasks(name, plan, pixels, target, done, mode)
    try:
        publish = partial(_commit, target, units, place)
        return run_write(graph, publish, pixels.array, target, plan, mode)
    except BaseException:
        tidy(place)
        raise


def _commit(target: Target, units: Blocks, place: Location, written: list[Any]) -> Any:
    with target.attempt.working():
        target.transaction.commit({None: units}, known=noted_by(written))
        return _finish(place)


def _finish(place: Location) -> Any:
    splice(place)
    return open_standing(place)


def tail_settings(growth: Growth, zarr_format: int) -> dict[str, Any]:
    """Give what a resumed append must share with the one that began."""
    return {
        "source": growth.source,
        "growth": growth.settings(),
        "zarr_format": zarr_format,
        "qc": False,
    }


def is_done(manifest: Manifest | None, growth: Growth, *, resume: bool) -> bool:
    """Tell whether there is nothing to do: no rows, or, to resume, these very ones were appended.

    ``growth`` counts from what stands, which would have them already.
    """
    before, after = growth.rows
    if after == before:
        return True
    last = None if manifest is None else manifest.settings.get("appended")
    rows = [2 * before - after, before]
    return resume and last == {**growth.record, "rows": rows}


def axis_number(axis: Any, letters: str, names: Any, place: Location) -> int:
    """Give the number of an axis by number, letter or name.

    Raises
    ------
    ArgumentError
        If there is no such axis.
    """
    ndim = len(letters)
    if isinstance(axis, str):
        if isinstance(names, (list, tuple)) and axis in names:
            return list(names).index(axis)
        if axis in letters and axis != "?":
            return letters.index(axis)
    elif not isinstance(axis, bool):
        try:
            number = as_index(axis)
        except TypeError:
            number = ndim
        if -ndim <= number < ndim:
            return number % ndim
    raise ArgumentError(
        f"append is {axis!r}, expected an axis of {place}: one of "
        f"{', '.join(map(repr, letters))}, or a number from 0 to {ndim - 1}"
    )


def check_fit(place: Location, fmt: ChunkFormat, data: Any, axis: int, letters: str) -> None:
    """Refuse rows that do not continue an array.

    Raises
    ------
    ShapeMismatchError
        If they have other extents along the other axes.
    ArgumentError
        If they have another dtype.
    """
    shape, dtype = tuple(data.shape), data.dtype.newbyteorder("=")
    own = fmt.dtype.newbyteorder("=")
    others = [k for k in range(len(fmt.shape)) if k != axis]
    if len(shape) != len(fmt.shape) or any(shape[k] != fmt.shape[k] for k in others):
        raise ShapeMismatchError(
            f"the data have shape {shape}, {place} has {fmt.shape}: to be appended along "
            f"{letters[axis]!r}, axis {axis}, they must be as long along all others. Crop or pad "
            "them, or append along another axis; nothing was written."
        )
    if dtype != own:
        raise ArgumentError(
            f"the data are {dtype}, {place} holds {own}: convert them, by data.astype"
            f"({own.name!r}). Nothing was written."
        )


def check_settings(standing: Standing, given: Mapping[str, Any], shape: Shape) -> None:
    """Refuse settings of a write that are not those of the array that grows; defaults say nothing.

    Raises
    ------
    ChunkError, ArgumentError
        If one is given and is another.
    """
    fmt, place = standing.format, standing.place
    described = fmt.described()
    chunks, shards = tuple(described["chunks"]), described.get("shards")
    if "chunks" in given and expand_chunks(shape, given["chunks"]) != chunks:
        raise ChunkError(
            f"chunks are {given['chunks']}, {place} has {chunks}: leave chunks out, what is "
            "appended has those that stand"
        )
    if given.get("shards") is not None:
        asked = fit_shards(shape, chunks, given["shards"], fmt.dtype.itemsize)
        if asked != (shards and tuple(shards)):
            raise ChunkError(
                f"shards are {given['shards']}, {place} has {shards and tuple(shards)}: leave "
                "shards out, what is appended has those that stand"
            )
    if given.get("zarr_format", described["zarr_format"]) != described["zarr_format"]:
        raise ArgumentError(
            f"zarr_format is {given['zarr_format']}, {place} has {described['zarr_format']}: leave "
            "zarr_format out"
        )
    if "fill_value" in given:
        asked_fill = np.array(given["fill_value"] or 0)
        own_fill = np.array(fmt.fill())
        if not np.array_equal(asked_fill, own_fill, equal_nan=own_fill.dtype.kind in "fc"):
            raise ArgumentError(
                f"fill_value is {given['fill_value']!r}, {place} has {own_fill}: leave fill_value "
                "out"
            )
    if "codec" in given:
        nbytes = math.prod(chunks) * fmt.dtype.itemsize
        codec = resolve_codec(given["codec"], nbytes, fmt.dtype.itemsize)
        asked_codec = None if codec is None else codec.get_config()
        stated = described.get("codec", asked_codec)
        if standing.manifest is not None:
            stated = standing.manifest.settings.get("codec", stated)
        if asked_codec != stated:
            raise ArgumentError(
                f"codec is {given['codec']!r}, {asked_codec}, {place} has {stated}: leave codec "
                "out, what is appended has that of what stands"
            )


def check_lossless(standing: Standing, own: ArrayGrowth, axis: int) -> None:
    """Refuse to write old rows again where their codec would change them: one chunk is tried.

    Raises
    ------
    ArgumentError
        If it does.
    """
    fmt, place = standing.format, standing.place
    if own.start == own.before[axis]:
        return
    index = tuple(own.start // c if k == axis else 0 for k, c in enumerate(fmt.chunks))
    key = fmt.chunk_key(index)
    ((_, data),) = place.iter_files([key], fmt.max_nbytes)
    if data is None or isinstance(data, ChunkReadError):
        return  # empty; or told of when it is read
    values = np.ascontiguousarray(fmt.decoder().decode(data, f"{place}/{key}")).copy()
    again = fmt.encoder().encode(values)
    if again is None or fmt.decoder().decode(again, key).tobytes() != values.tobytes():
        raise ArgumentError(
            f"{place}: its codec loses something, so that rows of the last chunks, which end at "
            f"{own.before[axis]} and not at a multiple of {fmt.chunks[axis]}, would not stay what "
            "they are. Append to an array whose end is that of a chunk, or write the array again."
        )


def array_growth(fmt: ChunkFormat, data: Any, axis: int, level: int | None = None) -> ArrayGrowth:
    """Give what becomes of an array to which data are appended."""
    before = fmt.shape
    after = with_axis(before, axis, before[axis] + data.shape[axis])
    return ArrayGrowth(level, before, after, before[axis] // fmt.chunks[axis] * fmt.chunks[axis])


def with_attributes(
    own: ArrayGrowth, axis: int, data: Any, attributes: Mapping[str, Any], letter: str
) -> ArrayGrowth:
    """Give a growth with what it changes of the attributes: planes that are filled, channels."""
    start = [slice(n if k == axis else 0, None) for k, n in enumerate(own.before)]
    added = filled_record(tuple(start), data)
    replaced: dict[str, Any] = {}
    names = attributes.get(CHANNELS_ATTRIBUTE)
    if letter == "c" and isinstance(names, list) and len(names) == own.before[axis]:
        n_new = own.after[axis] - own.before[axis]
        replaced[CHANNELS_ATTRIBUTE] = [*names, *new_channels(data, len(names), n_new)]
    return replace(own, replaced=replaced, added=added)


def new_channels(data: Any, first: int, n_new: int) -> list[str]:
    """Give the names of channels that are appended: as their source states them, else numbers."""
    stated = readable(data).info.names
    return list(stated) if len(stated) == n_new else [str(first + k) for k in range(n_new)]


def joined(standing: Standing, own: ArrayGrowth, axis: int, pixels: WriteInput) -> WriteInput:
    """Give the rows of a tail: old ones from the edge of a chunk on, and those that are new."""
    region = own.old_rows(axis)
    if own.start == own.before[axis]:
        return pixels
    old = standing.old_rows(region, own.start)
    if pixels.source is not None:
        parts = [(part, full_region(part.shape)) for part in (old, pixels.source)]
        return WriteInput(JoinedSource(parts, axis))
    rows = [lazy_array(old, name="old-rows"), pixels.array]
    return WriteInput(array=da.concatenate(rows, axis=axis))
