"""What ``info`` reports: whatever a path holds, as text for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from scout_dask_io.core.formatting import format_count, format_nbytes, format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.source import FilledPlane
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.jobs.json_text import to_json
from scout_dask_io.jobs.report import filled_text, voxel_text
from scout_dask_io.store.manifest import ManifestInfo
from scout_dask_io.store.unfinished import Unfinished

__all__ = ["InfoReport", "LevelInfo"]


@dataclass(frozen=True, slots=True)
class LevelInfo:
    """One level of an OME-Zarr image.

    Attributes
    ----------
    path : str
        Inside the group.
    shape, chunks : tuple of int
        In elements.
    shards : tuple of int or None
        Extent of a shard, where there are shards.
    scale, translation : tuple of float
        Per axis, in the units of the image's axes.
    stored_nbytes : int
        Size of its files, in bytes.
    n_chunks, n_present : int
        Chunk files of a full level, and those that are there.
    codec : str
        What its chunks are compressed with.
    """

    path: str
    shape: Shape
    chunks: Shape
    shards: Shape | None
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    stored_nbytes: int
    n_chunks: int
    n_present: int
    codec: str

    def text(self, chunks: Shape | None) -> str:
        """Give a line for people, with the chunks only if they are not those."""
        scale = ", ".join(f"{v:.6g}" for v in self.scale)
        own = f", chunks {format_shape(self.chunks)}" if self.chunks != chunks else ""
        return (
            f"{self.path}: {format_shape(self.shape)}, scale {scale}{own}, "
            f"{format_nbytes(self.stored_nbytes)}"
        )


@dataclass(frozen=True, slots=True)
class InfoReport:
    """What :func:`info` found; what does not apply is ``None`` or empty.

    Attributes
    ----------
    path, kind : str
        ``kind`` is ``"TIFF file"``, ``"folder of planes"``, ``"channel
        dataset"``, ``"Zarr array"``, ``"Zarr group"`` or ``"OME-Zarr image"``, of
        which shape, dtype and the like are those of its full level.
    shape : tuple of int or None
        In elements.
    dtype : str or None
        Of the elements; a foreign byte order of a Zarr array shows, as in ``">u2"``.
    axes : str or None
        A letter an axis, e.g. ``"czyx"``.
    chunks : tuple of int or None
        Extent of a chunk, in elements.
    shards : tuple of int or None
        Extent of a shard, which is then what a file holds.
    segment : str or None
        Strips or tiles of a TIFF, and their extent.
    codec : str
        Compression, readable.
    order, fill_value
        Of a Zarr array.
    layout : str or None
        ``"nested"`` or ``"flat"`` chunk files.
    zarr_format : int or None
        2 or 3.
    nbytes, stored_nbytes : int or None
        Size of the elements, and of the files, in bytes.
    n_files : int or None
        TIFF files, or all files of a Zarr array.
    n_chunks, n_present : int or None
        Chunk files of a full array, and those that are there; the others hold
        the fill value.
    channels : tuple of str
        Names, as far as they are stated.
    voxel_size : VoxelSize or None
        In micrometres, ``None`` for what is not stated, and where it is stated.
    attributes : tuple of str
        Names of the user attributes.
    filled : tuple of FilledPlane
        Planes that hold the fill value because their files could not be read.
    manifest : ManifestInfo or None
        When a Zarr array was written, by which version, and what can be checked.
    qc_sheet : str or None
        The HTML file beside a Zarr array that says what its planes are like.
    unfinished : Unfinished or None
        A write of the same path that was interrupted, or is going on.
    details : tuple of str
        Further facts, one sentence each.
    members : tuple of str
        Arrays and groups in a group.
    levels : tuple of LevelInfo
        Of an image, the full one first.
    """

    path: str
    kind: str
    shape: Shape | None = None
    dtype: str | None = None
    axes: str | None = None
    chunks: Shape | None = None
    shards: Shape | None = None
    segment: str | None = None
    codec: str = ""
    order: str | None = None
    fill_value: Any = None
    layout: str | None = None
    zarr_format: int | None = None
    nbytes: int | None = None
    stored_nbytes: int | None = None
    n_files: int | None = None
    n_chunks: int | None = None
    n_present: int | None = None
    channels: tuple[str, ...] = ()
    voxel_size: VoxelSize | None = None
    attributes: tuple[str, ...] = ()
    filled: tuple[FilledPlane, ...] = ()
    manifest: ManifestInfo | None = None
    qc_sheet: str | None = None
    unfinished: Unfinished | None = None
    details: tuple[str, ...] = field(default=())
    members: tuple[str, ...] = ()
    levels: tuple[LevelInfo, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How many times smaller the files are than the elements; ``None`` of an image."""
        if self.levels:
            return None
        return self.nbytes / self.stored_nbytes if self.nbytes and self.stored_nbytes else None

    def to_json(self) -> str:
        """Give the report as JSON."""
        return to_json(self)

    def render(self) -> str:
        """Give the report as text for people."""
        rows = [(name, text) for name, text in self._rows() if text]
        return "\n".join([f"{self.path}: {self.kind}", *(f"  {n:<12}{t}" for n, t in rows)])

    def _rows(self) -> Iterable[tuple[str, str]]:
        if self.shape is not None:
            axes = f" ({', '.join(self.axes)})" if self.axes else ""
            yield "shape", (format_shape(self.shape) or "a single element") + axes
            yield "dtype", str(self.dtype)
        yield "channels", ", ".join(self.channels)
        yield "voxel", voxel_text(self.voxel_size)
        if self.chunks is not None:
            yield "chunks", format_shape(self.chunks)
        if self.shards is not None:
            yield "shards", format_shape(self.shards)
        for n, level in enumerate(self.levels):
            yield "levels" if n == 0 else "", level.text(self.chunks)
        yield "segments", self.segment or ""
        yield "codec", self.codec
        others = dict.fromkeys(lv.codec for lv in self.levels if lv.codec != self.codec)
        for codec in others:
            paths = ", ".join(lv.path for lv in self.levels if lv.codec == codec)
            yield "", f"{codec}, levels {paths}"
        if self.layout is not None:
            yield "format", f"Zarr v{self.zarr_format}, {self.layout} chunk files"
        if self.order is not None:
            yield "order", f"{self.order}, fill value {self.fill_value}"
        if self.nbytes is not None:
            yield "size", format_nbytes(self.nbytes)
        if self.stored_nbytes is not None:
            files = f" in {format_count(self.n_files, 'file')}" if self.n_files else ""
            ratio = f", {self.ratio:.3g} times smaller" if self.ratio and self.ratio > 1 else ""
            yield "on disk", format_nbytes(self.stored_nbytes) + files + ratio
        if self.n_present is not None:
            noun = "shard" if self.shards else "chunk"
            yield "present", f"{self.n_present:,} of {format_count(self.n_chunks or 0, noun)}"
        if self.manifest is not None:
            yield "written", f"{self.manifest.written}, by scout_dask_io {self.manifest.library}"
            yield "manifest", self.manifest.checks
        yield from (("filled" if n == 0 else "", t) for n, t in enumerate(filled_text(self.filled)))
        yield "sheet", self.qc_sheet or ""
        if self.unfinished is not None:
            yield "unfinished", f"another write of it, {self.unfinished}"
        yield "attributes", ", ".join(self.attributes)
        yield from (("note" if n == 0 else "", text) for n, text in enumerate(self.details))
        yield from (("holds" if n == 0 else "", text) for n, text in enumerate(self.members))
