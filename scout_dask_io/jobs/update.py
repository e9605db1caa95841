"""Converting again only what changed: planes that were acquired anew, came, went or moved.

Chunks that they touch grow beside what stands, as any write does, and are put into it once they are
all there (``store/patch.py``). Where what stands gets longer or shorter it is replaced as a whole:
chunks that no change touches are then the very files of the old one, by hard links.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from scout_dask_io.core.formatting import Row, format_count, format_s
from scout_dask_io.core.grid import (
    Blocks,
    Shape,
)
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import OVERWRITE, RESUME, Option
from scout_dask_io.errors import ArgumentError, PathNotFoundError, ResumeError, TargetExistsError
from scout_dask_io.files.local import LocalLocation
from scout_dask_io.files.location import as_local, locate
from scout_dask_io.jobs.convert import ConvertOptions, ConvertPlan, options_of, plan_with
from scout_dask_io.jobs.plane_changes import changes_of, compared, differing
from scout_dask_io.jobs.report import JobReport, Planned
from scout_dask_io.jobs.update_units import (
    changed_at,
    count_chunks,
    is_direct,
    total_of,
    touched_units,
    units_of,
    units_read,
)
from scout_dask_io.read.any import locate_all
from scout_dask_io.run.lazy import source_of
from scout_dask_io.run.progress import Report
from scout_dask_io.store.chunk_format import format_at
from scout_dask_io.store.growth import tail_of
from scout_dask_io.store.image import image_of_node
from scout_dask_io.store.local_transaction import LocalTransaction
from scout_dask_io.store.manifest import CHANGED, Manifest, manifest_of, read_manifest
from scout_dask_io.store.metadata import Node, read_node
from scout_dask_io.store.nodes import open_node
from scout_dask_io.store.patch import boxes_of, state_of
from scout_dask_io.store.reuse import Standing, note_units, reuse_units
from scout_dask_io.store.staging import drop_staging
from scout_dask_io.store.stored_rows import changed_rows
from scout_dask_io.store.unfinished import PLANES, UPDATES
from scout_dask_io.write.planes import Planes, pages_of, planes_of

# What must be the same, so that chunks of what stands are those that would be written.
_STORED_ALIKE = ("codec", "lower_codec", "fill_value")
#: Names of planes that a summary has.
_NAMED = 6


def update(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    content: bool = False,
    progress: bool | Report = False,
    **options: Any,
) -> UpdateReport:
    """Bring what was converted up to date: write again what planes that changed have touched.

    The manifest of ``dst`` has name, size and time of the last change of each file that it was
    made of. A plane counts as changed where one of these differs at its place; so planes that
    came, went or moved are found too, wherever they are. What stands at ``dst`` afterwards is
    what a conversion of the whole would make, levels and manifest included.

    Until all that is written anew is there, it stands as it was; then chunks are replaced, each in
    one step. Wherever it is killed, ``dst`` is old or new for this library, all levels of an image
    alike: the next that opens it finishes what was decided, and the same call goes on. Readers of
    this library that have the old one open are told so by ``SourceChangedError``; those of other
    software may, while chunks are replaced, get some of both, each of them whole.

    Parameters
    ----------
    src : path-like
        As it was converted: a folder of planes, of channels, a dataset, or TIFF files.
    dst : path-like
        The array or image that stands, on a disk.
    content : bool
        Compare pixels, and not what is on record of files: of arrays that older releases
        wrote, or where files were copied and have new times. Reads all of both.
    progress : bool or callable
        As for :func:`~scout_dask_io.write_zarr`.
    **options
        Those of :func:`convert` with which ``dst`` was converted.

    Returns
    -------
    UpdateReport
        Which planes changed, came, went and moved, and how many chunks were written again. Where
        there are none, nothing is written.

    Raises
    ------
    PathNotFoundError
        If nothing stands at ``dst``.
    ArgumentError
        If ``dst`` was written with other options, or it is not known from which planes; nothing
        is changed.
    TargetExistsError
        If another write of ``dst`` or an append to it is unfinished, or labels lie below it.
    """
    return plan_update(src, dst, content=content, **options).run(progress)


def plan_update(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    content: bool = False,
    **options: Any,
) -> UpdatePlan:
    """Give what :func:`update` would do with the same arguments; headers are read, and compared."""
    start = time.perf_counter()
    how = _checked(options_of(options))
    _, destination = locate_all(src, dst, how.storage_options)
    if not destination.on_disk:
        raise ArgumentError(
            f"{destination} lies in a store, which cannot replace an array in one step: convert to "
            "a disk and update there, or convert again with " + OVERWRITE
        )
    node = open_node(destination)
    if LocalTransaction.find(as_local(tail_of(destination))) is not None:
        raise TargetExistsError(
            f"an append to {destination} is unfinished: the same call with "
            + RESUME
            + " finishes it, and with "
            + OVERWRITE
            + " drops it; then it can be updated"
        )
    plan = plan_with(src, dst, how)
    now = planes_of(source_of(plan.source_array()))
    arrays = _standing(node, plan, now)
    if now is None:
        raise ArgumentError(
            f"{plan.source} is no folder of TIFF planes and no TIFF file, whose planes could be "
            "told apart: convert it again with " + OVERWRITE
        )
    before = _before(arrays.manifest, node, content=content)
    if content:
        mask = compared(plan, now, as_local(destination))
    else:
        mask = differing(before, now)
    changes = changes_of(before, now, mask)
    units = units_of(plan, now)
    touched = {
        level: touched_units(blocks, arrays.of.get(level), mask, now, total_of(plan, level))
        for level, blocks in units.items()
    }
    changed = {level: changed_at(mask, now, total_of(plan, level)) for level in units}
    direct = is_direct(plan, mask, now)
    return UpdatePlan(
        source=plan.source,
        destination=plan.destination,
        **changes,
        n_chunks=sum(count_chunks(plan, units[n], t) for n, t in touched.items()),
        n_all_chunks=sum(count_chunks(plan, units[n], None) for n in touched),
        current=not mask.any() and before is not None and before.record() == now.record(),
        _job=_Job(
            plan=plan,
            manifest=arrays.manifest,
            arrays=arrays.of,
            units=units,
            touched=touched,
            changed=changed,
            direct=direct,
            took_s=time.perf_counter() - start,
        ),
    )


def _checked(how: ConvertOptions) -> ConvertOptions:
    """Refuse options that do not go with an update; the rest is as for an overwrite."""
    if how.qc or how.label is not None or how.labels_too:
        raise ArgumentError(
            "an update goes with none of qc, label and labels_too: a sheet tells of all planes, "
            "and labels are images of their own. Convert again with " + OVERWRITE + " for a sheet"
        )
    if how.overwrite:
        raise ArgumentError(
            OVERWRITE + " writes all again, an update what changed: give one of the two"
        )
    return replace(how, overwrite=True, resume=True)


@dataclass(frozen=True)
class _Arrays:
    """What stands: its manifest, and each level, or the array under ``None``."""

    manifest: Manifest
    of: dict[int | None, Standing]


def _standing(node: Node, plan: ConvertPlan, now: Planes | None) -> _Arrays:
    """Give what stands, and refuse it where its chunks are not those that would be written.

    Raises
    ------
    ArgumentError
        If it has no manifest, or was written with other options, naming both.
    """
    place = node.location
    image = image_of_node(node)
    manifest = manifest_of(node)
    if manifest is None:
        raise ArgumentError(
            f"{place} has no manifest, so that it is not known what its chunks should be: convert "
            "again with " + OVERWRITE
        )
    if (image is not None) != bool(plan.levels):
        kind, other = ("an image", "an array") if image is not None else ("an array", "an image")
        raise ArgumentError(
            f"{place} is {kind}, and {other} is asked for: give " + Option("ome", image is not None)
        )
    names: list[int | None] = [None] if image is None else list(range(len(image.levels)))
    found: dict[int | None, Standing] = {}
    for level in names:
        root = place if level is None else place / str(level)
        own = read_node(root)
        fmt = None if own is None else format_at(own)
        stored = read_manifest(root)
        if fmt is not None and stored is not None:
            found[level] = Standing(as_local(root), fmt, stored.records)
    _check_alike(place, plan, now, found)
    return _Arrays(manifest, found)


def _check_alike(
    place: object, plan: ConvertPlan, now: Planes | None, found: Mapping[int | None, Standing]
) -> None:
    """Refuse arrays whose chunks hold other elements than those that would be written."""
    shapes: dict[int | None, Shape] = dict(enumerate(plan.levels)) or {None: plan.write.shape}
    asked = {"chunks": list(plan.write.chunks), "zarr_format": plan.write.zarr_format}
    asked |= {"shards": None if plan.write.shards is None else list(plan.write.shards)}
    for level, standing in found.items():
        fmt, shape = standing.format, shapes.get(level)
        described = fmt.described()
        there = {name: described.get(name) for name in asked}
        if there != asked or fmt.dtype.newbyteorder("=") != np.dtype(plan.write.dtype):
            raise _otherwise(place, f"{there} of {fmt.dtype}", f"{asked} of {plan.write.dtype}")
        kept = [k for k in range(len(fmt.shape)) if now is None or k not in now.axes]
        if shape is not None and (
            len(shape) != len(fmt.shape) or any(shape[k] != fmt.shape[k] for k in kept)
        ):
            raise _otherwise(place, f"the shape {fmt.shape}", f"{shape}")


def _otherwise(place: object, there: str, asked: str) -> ArgumentError:
    return ArgumentError(
        f"{place} has {there}, and what is to be converted has {asked}: repeat the options that "
        "it was converted with, or convert again with " + OVERWRITE
    )


def _check_settings(place: object, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to take chunks over that a conversion would write otherwise.

    Raises
    ------
    ArgumentError
        If their codec, fill value, or what lower levels are made by, is another.
    """
    there, asked = (parse_json(json.dumps(dict(each))) for each in (there, asked))
    pairs: list[tuple[str, Any, Any]] = [
        (name, there.get(name), asked.get(name)) for name in _STORED_ALIKE
    ]
    own, other = _halving(there), _halving(asked)
    n = min(len(own), len(other))
    pairs.append(("levels", own[:n], other[:n]))
    for name, stated, wanted in pairs:
        if stated != wanted:
            raise _otherwise(place, f"{name} {stated!r}", f"{name} {wanted!r}")


def _halving(settings: Mapping[str, Any]) -> list[Any]:
    """Give how lower levels are made, and how large the voxels of each are."""
    attributes = settings.get("attributes") or {}
    found = attributes.get("ome", attributes).get("multiscales")
    if not found or not isinstance(found, list):
        return []
    scales = [d["coordinateTransformations"][0]["scale"] for d in found[0]["datasets"]]
    return [found[0].get("type"), *scales]


def _before(manifest: Manifest, node: Node, *, content: bool) -> Planes | None:
    """Give the planes on record.

    Raises
    ------
    ArgumentError
        If there is no record, or what stands was changed otherwise, and pixels are not compared.
    """
    before = Planes.parse(manifest.settings.get(PLANES))
    if content:
        return before
    changed = manifest.settings.get("source") == CHANGED
    if before is None or changed:
        why = "regions of it were written since" if changed else "an older release wrote it"
        raise ArgumentError(
            f"{node.location}: it is not on record which planes it holds ({why}). "
            + Option("content", True)
            + " compares pixels instead; or convert again with "
            + OVERWRITE
        )
    return before


@dataclass(frozen=True, slots=True)
class _Job:
    """What an update needs to run."""

    plan: ConvertPlan
    manifest: Manifest
    arrays: Mapping[int | None, Standing]
    units: Mapping[int | None, Blocks]
    touched: Mapping[int | None, set[int]]
    changed: Mapping[int | None, np.ndarray]
    direct: bool
    took_s: float


@dataclass(frozen=True, slots=True)
class UpdatePlan(JobReport):
    """What :func:`update` would do.

    Attributes
    ----------
    source, destination : str
        Paths.
    changed, came, went, moved : tuple of str
        Names of files, below the folder that they share: those that are others than those that
        were read, those that are new, those that are gone, and those whose planes have another
        place now.
    n_chunks : int
        Chunks, or shards, of all levels that would be written again.
    n_all_chunks : int
        All there are.
    current : bool
        Whether nothing is to be done.
    """

    source: str
    destination: str
    changed: tuple[str, ...]
    came: tuple[str, ...]
    went: tuple[str, ...]
    moved: tuple[str, ...]
    n_chunks: int
    n_all_chunks: int
    current: bool
    _job: _Job = field(repr=False, compare=False)

    def title(self) -> str:
        """Say what is to become of what."""
        return f"Would update {self.destination} from {self.source}; nothing was written"

    def rows(self) -> list[Row]:
        """Name the planes, and say how much is written again."""
        if self.current:
            return [("planes", "all as they were converted: nothing is to be done")]
        of = f"{self.n_chunks:,} of {format_count(self.n_all_chunks, 'chunk')}"
        return [
            *self.plane_rows(),
            ("again", f"{of} would be written again, the others are taken as they are"),
        ]

    def plane_rows(self) -> Iterator[Row]:
        """Name the planes that differ."""
        for word in ("changed", "came", "went", "moved"):
            names = getattr(self, word)
            if names:
                more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
                yield word, f"{format_count(len(names), 'file')}: {', '.join(names[:_NAMED])}{more}"

    def run(self, progress: bool | Report = False) -> UpdateReport:
        """Do it; arguments and errors are those of :func:`update`."""
        start = time.perf_counter()
        if not self.current:
            _prepare(self._job)
            self._job.plan.write_array(progress)
        elapsed_s = self._job.took_s + time.perf_counter() - start
        return UpdateReport(plan=self, elapsed_s=elapsed_s)


def _prepare(job: _Job) -> None:
    """Begin to write the new array, and give it all that no change touches.

    Raises
    ------
    TargetExistsError
        If another write of the destination is unfinished.
    """
    txn = _begun(job.plan)
    try:
        _check_settings(txn.destination, job.manifest.settings, txn.settings)
    except ArgumentError:
        drop_staging(txn.staging)
        raise
    marked = bool(txn.settings.get(UPDATES))
    finished = {level: txn.finished(level) for level in job.units}
    if not marked and any(finished.values()):
        raise TargetExistsError(
            f"an unfinished write of {txn.destination} lies in {txn.where}: "
            + RESUME
            + " finishes it, and then it can be updated"
        )
    in_place = _fits(txn, job)
    if not marked:
        units: dict[str, Any] = {"units": job.units.get(None)}
        if None not in job.units:
            units = {"passes": [(n, blocks) for n, blocks in job.units.items()]}
        txn.note(**units, **{UPDATES: _patch(job, txn) if in_place else True})
    wanted = units_read(job.plan, job.units, job.touched, job.arrays) if in_place else {}
    for level, blocks in job.units.items():
        standing = job.arrays.get(level)
        done = set(finished[level]) | job.touched[level]
        rest = {n for n in range(math.prod(map(len, blocks))) if n not in done}
        if not rest or standing is None:
            continue
        taken = rest & wanted[level] if in_place else rest
        reuse_units(txn, level, blocks, taken, standing)
        note_units(txn, level, blocks, rest - taken, standing)


def _fits(txn: LocalTransaction, job: _Job) -> bool:
    """Tell whether what stands can take what changed in: its arrays are described as the new are.

    Else, where it gets longer or shorter, it is replaced as a whole.
    """
    for level in job.units:
        standing, new = job.arrays.get(level), read_node(txn.array(level))
        old = None if standing is None else read_node(locate(standing.root))
        if old is None or new is None or _described(old) != _described(new):
            return False
    return True


def _described(node: Node) -> dict[str, Any]:
    return {k: v for k, v in node.metadata.items() if k != "attributes"}


def _patch(job: _Job, txn: LocalTransaction) -> dict[str, Any]:
    """Give what is noted of an update that puts nothing but its chunks into what stands."""
    names = {level: "" if level is None else str(level) for level in job.units}
    roots = {names[level]: job.arrays[level].root for level in job.units}
    return {
        "units": {names[level]: sorted(touched) for level, touched in job.touched.items()},
        "arrays": {
            names[level]: boxes_of(blocks, job.touched[level], txn.format(level).chunks)
            for level, blocks in job.units.items()
        },
        "states": {name: state_of(root) for name, root in roots.items()},
        "changed": {
            names[level]: changed_rows(mask)
            for level, mask in job.changed.items()
            if level or _decodes(job.plan)
        },
        "direct": job.direct,
    }


def _decodes(plan: ConvertPlan) -> bool:
    """Tell whether to read planes takes longer than to decode chunks: all but raw ones on a disk.

    Those are read at about three times the pace at which chunks are decoded.
    """
    pages = pages_of(source_of(plan.source_array()))
    return pages is None or not pages.reads_ahead or any(p.coding != "raw" for p in pages.layouts)


def _begun(plan: ConvertPlan) -> LocalTransaction:
    """Begin the write of a plan, or find that of an update that was interrupted."""
    _drop_stale(as_local(plan.place()))
    try:
        write = plan.begin()
    except ResumeError:
        # Planes changed again since an update was interrupted: it begins afresh.
        found = LocalTransaction.find(as_local(plan.place()))
        if found is None or not (found.staging.read_settings() or {}).get(UPDATES):
            raise
        drop_staging(found.staging)
        write = plan.begin()
    if write is None:
        raise PathNotFoundError(f"{plan.destination}: nothing stands there that can be updated")
    # What lies on a disk alone is updated.
    return cast(LocalTransaction, write.target.transaction)


def _drop_stale(place: LocalLocation) -> None:
    """Drop an update that was interrupted where what stands was changed since it began."""
    found = LocalTransaction.find(place)
    patch = None if found is None else (found.staging.read_settings() or {}).get(UPDATES)
    if found is not None and isinstance(patch, dict):
        states = patch["states"].items()
        if any(state_of(place / name if name else place) != state for name, state in states):
            drop_staging(found.staging)


@dataclass(frozen=True, slots=True)
class UpdateReport(JobReport):
    """What :func:`update` did.

    Attributes
    ----------
    plan : UpdatePlan
        Which planes changed, came, went and moved, and how many chunks that is.
    elapsed_s : float
        From opening the source to the array standing at ``path``.
    """

    path = Planned[str]("destination")
    changed = Planned[tuple[str, ...]]("changed")
    came = Planned[tuple[str, ...]]("came")
    went = Planned[tuple[str, ...]]("went")
    moved = Planned[tuple[str, ...]]("moved")
    n_chunks = Planned[int]("n_chunks")
    n_all_chunks = Planned[int]("n_all_chunks")
    current = Planned[bool]("current")
    plan: UpdatePlan
    elapsed_s: float

    def title(self) -> str:
        """Say what became of it."""
        if self.current:
            return f"{self.path} is up to date; nothing was written"
        return f"Updated {self.path}"

    def rows(self) -> list[Row]:
        """Name the planes, and say how much was written again."""
        of = f"{self.n_chunks:,} of {format_count(self.n_all_chunks, 'chunk')}"
        again = "" if self.current else f"{of} written, the others taken as they were"
        return [
            *self.plan.plane_rows(),
            ("again", again),
            ("took", format_s(self.elapsed_s)),
        ]
