"""What a picture of a volume is made of: planes or projections of its channels, sampled."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.formatting import format_nbytes, format_shape
from scout_dask_io.core.grid import Shape
from scout_dask_io.core.ome_metadata import COLORS
from scout_dask_io.core.source import ArraySource, Source
from scout_dask_io.errors import ArgumentError
from scout_dask_io.run.lazy import source_of
from scout_dask_io.tiff.source import TiffSource
from scout_dask_io.view.sampling import MAX_COST_NBYTES, Reader, plan_samples, sample

__all__ = ["Panels"]

#: What would take longer than to read this much is refused: minutes at the least.
_MAX_PATIENCE_NBYTES = 16 * MAX_COST_NBYTES


class Panels:
    """What is shown of an array: panels a channel, each 2-D float32."""

    MAX_CHANNELS = len(COLORS)

    def __init__(self, array: Any, mode: str, size: int) -> None:
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
                f"{format_nbytes(plan.cost_nbytes)} of reading: show planes with mode='slices', "
                "part of it by index, or an OME-Zarr image with smaller levels"
            )
        free = [k for k in self.axes if k not in fixed]
        self.bins = tuple(plan.bins[k] for k in self.axes)
        self.step = tuple(
            s if k in fixed else max(s, plan.step[k])
            for s, k in zip(self.step, self.axes, strict=True)
        )
        self.partial |= any(sum(b - a for a, b in plan.runs[k]) < data.shape[k] for k in free)
        return sample(reader, plan, itemsize, **how)

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
