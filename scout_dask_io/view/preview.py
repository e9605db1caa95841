"""A picture of a volume: three planes through its middle, or its maximum projections.

What a picture of a volume is made of: planes or projections of its channels, sampled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.contrast import contrast_limits
from scout_dask_io.core.formatting import format_nbytes, format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.image_info import COLORS, ImageInfo, channel_colors
from scout_dask_io.core.messages import OVERWRITE, Option, about
from scout_dask_io.core.picture import blend, lay_out, paint, png_bytes
from scout_dask_io.core.selection import Selection
from scout_dask_io.core.source import ArraySource, Source
from scout_dask_io.core.voxel_size import VoxelSize, VoxelSizeLike, as_voxel_size
from scout_dask_io.errors import ArgumentError, TargetExistsError, WriteError
from scout_dask_io.files.disk import hidden_name
from scout_dask_io.files.location import is_path, locate
from scout_dask_io.read.labels import labels_for
from scout_dask_io.read.volume import open_volume
from scout_dask_io.read.voxel_size import size_for
from scout_dask_io.run.lazy import source_of
from scout_dask_io.tiff.source import TiffSource
from scout_dask_io.view.sampling import MAX_COST_NBYTES, Reader, plan_samples, sample

MODES = ("slices", "max")


@dataclass(frozen=True)
class Preview:
    """A picture, which a notebook shows by itself.

    Attributes
    ----------
    image : numpy.ndarray
        ``(y, x, 3)``, uint8.
    shape : tuple of int
        Of the array that was looked at.
    mode : str
        ``"slices"`` or ``"max"``.
    at : tuple of int
        Index of the planes that are shown, along the axes in space; empty with ``"max"``.
    limits : tuple of (float, float)
        Values that are black and full colour, a pair a channel; of labels, which have a colour
        each, the least and the greatest in the picture.
    channels : tuple of str
        Their names; empty for a single one.
    level : int or None
        The level of an OME-Zarr image that was read.
    step : tuple of int
        Elements along each axis in space that share one pixel.
    voxel_size : VoxelSize or None
        Of the array that was looked at.
    """

    image: np.ndarray = field(repr=False)
    shape: Shape
    mode: str
    at: Shape
    limits: tuple[tuple[float, float], ...]
    channels: tuple[str, ...]
    level: int | None
    step: Shape
    voxel_size: VoxelSize | None

    def _repr_png_(self) -> bytes:
        return png_bytes(self.image)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> str:
        """Write the picture as a PNG file, whole or not at all, and give its path.

        Raises
        ------
        ArgumentError
            If the name does not end in ``.png``.
        TargetExistsError
            If there is such a file and ``overwrite`` is not given.
        WriteError
            If it cannot be written.
        """
        target = check_output(path, overwrite=overwrite)
        draft = target.with_name(f"{hidden_name(target)}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(png_bytes(self.image))
            draft.replace(target)
        except OSError as err:
            draft.unlink(missing_ok=True)
            raise WriteError(f"{target} cannot be written: {err.strerror or err}") from err
        return str(target)


def preview(
    data: Any,
    *,
    mode: str = "slices",
    size: int = 512,
    percentiles: tuple[float, float] = (1.0, 99.8),
    voxel_size: VoxelSizeLike = None,
    order: str = "alphabetical",
    pattern: str | None = None,
    position: str | None = None,
    names: str = "allow",
    series: int | None = None,
    pages: str | None = None,
    allow_sparse: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Preview:
    """Give a picture of a volume: xy, and beside it zy and xz, in proportion.

    Reads what the picture needs, in bounded memory: of an OME-Zarr image the
    level that suffices, of planes in TIFF files the strips or tiles that hold what
    is shown. Where a pixel stands for several voxels, it is the mean (``"max"``:
    the maximum) of those that come with the same reads; of labels, which are drawn in their
    colours, one of them. Where even that
    would cost more than 2 GiB, fewer pixels are drawn, down to 64 along the longest
    axis. A maximum over a part of the planes or rows says so in the picture.

    Parameters
    ----------
    data : path-like, dask.array.Array or numpy.ndarray
        ``(y, x)``, ``(z, y, x)`` or ``(c, z, y, x)``; or a TIFF, a folder of
        planes or of channels, a Zarr array, an OME-Zarr image, or the URL of one.
        At most six channels are shown.
    mode : {"slices", "max"}
        Planes through the middle, or maximum projections.
    size : int
        Pixels along the longest axis, at least 64.
    percentiles : (float, float)
        Of a channel's values in the picture, that are black and full colour.
    voxel_size : VoxelSize or sequence of float, optional
        ``(z, y, x)`` in micrometres, of the full level, instead of what is stated.
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    pattern, position, names
        How the files of a dataset are read, as for :func:`~scout_dask_io.convert`.
    series, pages, allow_sparse
        Which image and which pages of TIFF files, as for :func:`~scout_dask_io.imread_folder`.
    storage_options : dict, optional
        What fsspec needs to reach a URL.

    Returns
    -------
    Preview
        Shown by a notebook; ``.save("out.png")`` writes it.

    Raises
    ------
    ArgumentError
        If an argument is not one of the above, the array has another number of axes, or
        maximum projections would take over 32 GiB of reading all the same.
    PathNotFoundError, TiffReadError, LayoutError, ChunkReadError
        If the path cannot be read.

    Examples
    --------
    >>> import numpy as np, scout_dask_io as io
    >>> ramp = np.arange(40 * 50 * 60, dtype="u2").reshape(40, 50, 60)
    >>> picture = io.preview(ramp, voxel_size=(4, 2, 2))
    >>> picture.at, picture.step
    ((20, 25, 30), (1, 1, 1))
    """
    _check(mode, size, percentiles)
    how = Selection(
        order, pattern=pattern, position=position, names=names,
        series=series, pages=pages, allow_sparse=allow_sparse,
    )  # fmt: skip
    level, array, title, at_level = None, data, "", ""
    channels: Sequence[str] = ()
    info = ImageInfo()
    if isinstance(data, (np.ndarray, da.Array)):
        voxel = size_for(data, voxel_size)
    elif is_path(data):
        given = as_voxel_size(voxel_size)
        volume = open_volume(locate(data, storage_options), "", how, voxel_size=given)
        number = volume.level_for(size)
        array, voxel = volume.levels[number], volume.voxel_size_of(number)
        info, title = volume.info, volume.name
        channels = info.names
        if volume.is_image:
            level, at_level = number, f", level {number} of {len(volume.levels)}"
    else:
        raise ArgumentError(f"a path or an array was expected, got {type(data).__name__}: {data!r}")
    is_labels, record = labels_for(array, None)
    labels = (info.labels or is_labels) and array.dtype.kind in "biu"
    with nullcontext() if array is data else about(data):
        shown = Panels(array, mode, size, labels=labels)
    limits = tuple(
        _extremes(panels) if labels else contrast_limits(panels, percentiles)
        for panels in shown.panels
    )
    single, colors = len(shown.panels) == 1, info.colors
    if shown.is_colour:
        channels, colors = ("red", "green", "blue"), ("FF0000", "00FF00", "0000FF")
    chosen = channel_colors(() if single else colors, shown.n_channels)
    chosen = tuple(f"#{color}" for color in chosen)[: len(shown.panels)]
    stated = {**record, **info.image_label}.get("colors")
    images = [
        paint(panels, stated) if labels else blend(panels, limits, chosen)
        for panels in zip(*shown.panels, strict=True)
    ]
    sizes, um_per_pixel = _sizes(shown, voxel, size)
    lines = [_words(f"{title}: " if title else "", array, at_level, voxel), shown.words()]
    text: list[tuple[str, str | None]] = [(line, None) for line in lines]
    for n, (low, high) in enumerate(limits):
        name = channels[n] if n < len(channels) else f"channel {n}"
        if labels:
            name = "labels" if single else f"labels {name}"
            text.append((f"{name}: {low:.0f} to {high:.0f}, each in its colour", None))
            continue
        named = f"{'values' if single else name}: {low:.4g} to {high:.4g}"
        text.append((named, None if single else chosen[n]))
    return Preview(
        image=lay_out(images, sizes, um_per_pixel, text, labels=labels),
        shape=tuple(array.shape),
        mode=mode,
        at=shown.at,
        limits=limits,
        channels=() if single else tuple(channels[: len(shown.panels)]),
        level=level,
        step=shown.step,
        voxel_size=voxel,
    )


def _extremes(panels: Sequence[np.ndarray]) -> tuple[float, float]:
    """Give the least and the greatest label in a picture."""
    return (
        float(min(panel.min() for panel in panels)),
        float(max(panel.max() for panel in panels)),
    )


def check_output(path: str | os.PathLike[str], *, overwrite: bool) -> Path:
    """Give where a picture goes, refusing what must not be written. Nothing is changed.

    Raises
    ------
    ArgumentError, TargetExistsError
        As for :meth:`Preview.save`.
    """
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise ArgumentError(f"{target} is no name of a picture: it must end in .png")
    if target.is_dir() or (os.path.lexists(target) and not overwrite):
        raise TargetExistsError(
            f"{target} stands there already. Choose another name, or give " + OVERWRITE + " to "
            "replace the picture."
        )
    return target


def _check(mode: str, size: int, percentiles: tuple[float, float]) -> None:
    if mode not in MODES:
        raise ArgumentError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}")
    if isinstance(size, bool) or not isinstance(size, int) or not 64 <= size <= 4096:
        raise ArgumentError(f"size must be an int from 64 to 4096, got {size!r}")
    try:
        low, high = (float(p) for p in percentiles)
    except (TypeError, ValueError):
        low, high = 1.0, 0.0
    if not 0 <= low < high <= 100:
        raise ArgumentError(
            f"percentiles must be two numbers from 0 to 100, the lower first, got {percentiles!r}"
        )


def _sizes(
    shown: Panels, voxel: VoxelSize | None, size: int
) -> tuple[list[tuple[int, int]], float | None]:
    """Give height and width of each panel in pixels, in proportion, and micrometres a pixel."""
    n = shown.shape
    known = (None, None, None) if voxel is None else voxel.micrometres
    x_um = known[2] if known[2] is not None else known[1]
    lateral = x_um or 1.0
    um = [v if v is not None and x_um is not None else lateral for v in known][-len(n) :]
    lengths = [k * v for k, v in zip(n, um, strict=True)]
    scale = max(lengths) / max(min(size, max(n)), 256)
    pixels = [max(1, round(v / scale)) for v in lengths]
    if len(n) == 2:
        return [(pixels[0], pixels[1])], None if x_um is None else scale
    z, y, x = pixels
    return [(y, x), (y, z), (z, x)], None if x_um is None else scale


def _words(title: str, array: Any, at_level: str, voxel: VoxelSize | None) -> str:
    size = "" if voxel is None else f"; voxel {voxel}".replace(" micrometres", " um")
    return f"{title}{format_shape(array.shape)} {array.dtype}{at_level}{size}"


#: What would take longer than to read this much is refused: minutes at the least.
_MAX_PATIENCE_NBYTES = 16 * MAX_COST_NBYTES


class Panels:
    """What is shown of an array: panels a channel, each 2-D float32."""

    MAX_CHANNELS = len(COLORS)

    def __init__(self, array: Any, mode: str, size: int, *, labels: bool = False) -> None:
        self.labels = labels
        if not array.ndim or array.dtype.kind not in "biuf":
            raise ArgumentError(
                "a picture needs an array (y, x), (z, y, x) or (c, z, y, x) of real numbers, got "
                f"shape {array.shape} of {array.dtype}"
            )
        data, cell, n_lead = _readable(array)
        samples = isinstance(data, TiffSource) and len(data.layouts[0].shape) == 3
        space = [k for k in range(data.ndim) if not (samples and k == data.ndim - 1)]
        if len(space) not in (2, 3, 4) or (samples and len(space) == 4) or data.dtype.kind == "c":
            raise ArgumentError(
                f"a picture needs an array (y, x), (z, y, x) or (c, z, y, x) of real numbers, got "
                f"shape {data.shape} of {data.dtype}: give a part of it by index"
            )
        if 0 in data.shape:
            raise ArgumentError(f"an array of shape {data.shape} has nothing to show")
        channel = data.ndim - 1 if samples else 0 if len(space) == 4 else None
        self.is_colour = samples and data.shape[-1] in (3, 4)
        self.mode = mode
        held_z = {space[-3]: 0} if len(space) > 2 and data.shape[space[-3]] == 1 else {}
        self.axes = space[-2:] if held_z else space[-3:]
        self.shape = tuple(data.shape[k] for k in self.axes)
        # Alpha is no colour.
        self.n_channels = 1 if channel is None else 3 if self.is_colour else data.shape[channel]
        self.at = tuple(n // 2 for n in self.shape) if mode == "slices" else ()
        self.panels: list[list[np.ndarray]] = []
        self.step, self.partial = (1,) * len(self.axes), False
        reader = Reader(data, cell, n_lead)
        flat = len(self.axes) == 2
        drawn = min(self.n_channels, self.MAX_CHANNELS)
        for c in range(drawn):
            held = held_z if channel is None else {**held_z, channel: c}
            self.panels.append(
                self._max(reader, held, size, drawn)
                if mode == "max" and not flat
                else self._slices(reader, held, size, drawn, [None] if flat else [0, 2, 1])
            )

    def _slices(
        self, reader: Reader, held: dict[int, int], size: int, drawn: int, across: list[Any]
    ) -> list[np.ndarray]:
        panels = []
        for k in across:
            fixed = held if k is None else {**held, self.axes[k]: self.shape[k] // 2}
            budget = MAX_COST_NBYTES // (len(across) * drawn)
            panel = np.squeeze(self._sample(reader, fixed, size, budget)[0], tuple(fixed))
            # The panel to the right has z across and y down.
            panels.append(panel.T if k == 2 else panel)
        return panels

    def _max(self, reader: Reader, held: dict[int, int], size: int, drawn: int) -> list[np.ndarray]:
        budget = MAX_COST_NBYTES // drawn
        xy, xz, yz = self._sample(reader, held, size, budget, projections=self.axes)
        z, y, x = self.bins
        return [xy.reshape(y, x), yz.reshape(z, y).T, xz.reshape(z, x)]

    def _sample(
        self, reader: Reader, fixed: dict[int, int], size: int, budget: int, **how: Any
    ) -> list[np.ndarray]:
        data = reader.data
        itemsize = int(data.dtype.itemsize)
        plan = plan_samples(tuple(data.shape), itemsize, reader, fixed, size, budget)
        if plan.cost_nbytes > _MAX_PATIENCE_NBYTES:
            raise ArgumentError(
                f"this picture of {format_shape(data.shape)} would take about "
                f"{format_nbytes(plan.cost_nbytes)} of reading: show planes with "
                + Option("mode", "slices")
                + ", "
                "part of it by index, or an OME-Zarr image with smaller levels"
            )
        free = [k for k in self.axes if k not in fixed]
        self.bins = tuple(plan.bins[k] for k in self.axes)
        self.step = tuple(
            s if k in fixed else max(s, plan.step[k])
            for s, k in zip(self.step, self.axes, strict=True)
        )
        self.partial |= any(sum(b - a for a, b in plan.runs[k]) < data.shape[k] for k in free)
        return sample(reader, plan, itemsize, labels=self.labels, **how)

    def words(self) -> str:
        """Say what is shown."""
        names = "zyx"[-len(self.shape) :]
        if self.at and len(self.shape) == 3:
            places = ", ".join(f"{n} = {k}" for n, k in zip(names, self.at, strict=True))
            said = f"planes through the middle: {places}"
        elif len(self.shape) == 3:
            said = "maximum projections"
            if self.partial:
                said += " of a part of the planes or rows"
        else:
            said = "one plane"
        if self.n_channels > len(self.panels):
            said += f"; {len(self.panels)} of {self.n_channels} channels"
        return said


def _readable(array: Any) -> tuple[Source | da.Array, Shape, int]:
    """Give what is read, its least region, and how many leading axes are read singly."""
    source = source_of(array) if isinstance(array, da.Array) else ArraySource(array, "")
    if isinstance(source, TiffSource):
        return source, source.read_shape, source.lead_ndim
    if source is not None:
        return source, source.read_shape, 0
    return array, tuple(max(axis, default=1) for axis in array.chunks), array.ndim
