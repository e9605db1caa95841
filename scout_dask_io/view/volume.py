"""A lazy volume as a browser asks for it: an OME-Zarr image whose chunks are read on demand.

Nothing is stored: the metadata are made up from the lazy arrays, and a chunk is
read when it is asked for. Levels that a volume does not have are made by leaving
voxels out, as long as a chunk of them costs no more than `MAX_READ_NBYTES`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import dask.array as da
import numpy as np

from scout_dask_io.core.grid import Shape, chunk_counts, whole_chunks
from scout_dask_io.errors import ArgumentError
from scout_dask_io.read.region import read_region
from scout_dask_io.run.lazy import source_of

#: Steps along ``(z, y, x)`` at which a level is taken from the array.
Step = tuple[int, int, int]

# What one chunk may make a thread read: two at a time stay below 300 MB.
MAX_READ_NBYTES = 128 * 2**20
# Elements of a chunk that is sent: 512 kB of uint16.
CHUNK_SIZE = 2**18
# Levels are added until the largest plane has no axis above this.
SMALLEST = 512


class ServedVolume:
    """A ``(z, y, x)`` volume at one or more levels, readable as the files of an OME-Zarr image.

    Parameters
    ----------
    name : str
        For people.
    levels : sequence of dask.array.Array
        ``(y, x)``, ``(z, y, x)`` or ``(c, z, y, x)``, the full one first. Of an
        array alone, levels are made.
    scales : sequence of sequence of float
        Size of a voxel ``(z, y, x)`` of each level.
    translations : sequence of sequence of float, optional
        Where the centre of a level's first voxel lies.
    unit : str, optional
        Of the sizes, as OME-Zarr names it; ``None`` where they are not known.
    channel : int
        Which one is served of an array of channels.

    Raises
    ------
    ArgumentError
        If the array has other axes, or elements of a kind that browsers do not show.
    """

    def __init__(
        self,
        name: str,
        levels: Sequence[da.Array],
        scales: Sequence[Sequence[float]],
        translations: Sequence[Sequence[float]] | None = None,
        unit: str | None = None,
        channel: int = 0,
    ) -> None:
        full = levels[0]
        if full.ndim not in (2, 3, 4) or 0 in full.shape:
            raise ArgumentError(
                f"{name}: expected (y, x), (z, y, x) or (c, z, y, x), got shape {full.shape}"
            )
        self.name = name
        self.unit = unit
        self.dtype = _shown_dtype(full.dtype, name)
        self._channel = channel
        self._levels: list[tuple[da.Array, Step]] = [(array, (1, 1, 1)) for array in levels]
        self._scales = [tuple(map(float, s)) for s in scales]
        shifts = translations or [(0.0, 0.0, 0.0)] * len(levels)
        self._shifts = [tuple(map(float, t)) for t in shifts]
        self._chunks = [_served_chunks(array) for array in levels]
        if len(levels) == 1:
            self._add_levels()

    @property
    def n_levels(self) -> int:
        """How many levels there are."""
        return len(self._levels)

    def level_shape(self, level: int) -> Shape:
        """Extents ``(z, y, x)`` of a level, in elements."""
        array, step = self._levels[level]
        return chunk_counts(_zyx(array.shape), step)

    @property
    def scale(self) -> tuple[float, ...]:
        """Size ``(z, y, x)`` of a voxel of level 0."""
        return self._scales[0]

    def _add_levels(self) -> None:
        array, scale, chunks = self._levels[0][0], self._scales[0], self._chunks[0]
        step: Step = (1, 1, 1)
        while max(self.level_shape(-1)[1:]) > SMALLEST:
            step = _next_step(step, scale)
            if _read_nbytes(array, chunks, step) > MAX_READ_NBYTES:
                break
            self._levels.append((array, step))
            self._scales.append(tuple(s * k for s, k in zip(scale, step, strict=True)))
            # The voxel that is kept lies where it lay.
            self._shifts.append((0.0, 0.0, 0.0))
            self._chunks.append(chunks)

    def read(self, level: int, index: Sequence[int]) -> np.ndarray:
        """Read one chunk, clipped at the upper edge. Reads files, in this thread.

        Raises
        ------
        IndexError
            If there is no such level or chunk.
        """
        shape, chunks = self.level_shape(level), self._chunks[level]
        counts = chunk_counts(shape, chunks)
        if len(index) != 3 or not all(0 <= i < n for i, n in zip(index, counts, strict=True)):
            raise IndexError(f"there is no chunk {tuple(index)} in {counts}")
        array, step = self._levels[level]
        region = tuple(
            slice(i * c * s, min((i + 1) * c * s, n), s)
            for i, c, s, n in zip(index, chunks, step, _zyx(array.shape), strict=True)
        )
        # In this thread: a browser asks for many chunks at once.
        part: np.ndarray = read_region(array, (self._channel, *region)[-array.ndim :], nb_workers=1)
        return part.reshape((-1, *part.shape[-2:])).astype(self.dtype, copy=False)

    def sample(self) -> np.ndarray:
        """Read some voxels of the middle: what contrast is chosen by."""
        level = self.n_levels - 1
        counts = chunk_counts(self.level_shape(level), self._chunks[level])
        z, y, x = (n // 2 for n in counts)
        wide = [(z, j, i) for j in range(counts[1]) for i in range(counts[2])]
        # The whole middle plane where it is few chunks, else the middle of it.
        picked = wide if len(wide) <= 16 else [(z, y, x)]
        return np.concatenate([self.read(level, index).reshape(-1) for index in picked])

    def file(self, path: str) -> bytes | None:
        """Give the file at a path inside the image, ``None`` where it has none.

        A chunk is read from the volume's files when it is asked for.
        """
        if path == ".zgroup":
            return _json({"zarr_format": 2})
        if path == ".zattrs":
            return _json(self._attributes())
        level, _, rest = path.partition("/")
        if not level.isdecimal() or int(level) >= self.n_levels:
            return None
        if rest == ".zarray":
            return _json(self._array(int(level)))
        index = rest.split("/")
        if len(index) != 3 or not all(i.isdecimal() for i in index):
            return None
        try:
            part = self.read(int(level), [int(i) for i in index])
        except IndexError:
            return None
        chunk = np.zeros(self._chunks[int(level)], self.dtype)
        chunk[tuple(slice(0, n) for n in part.shape)] = part
        return chunk.tobytes()

    def _array(self, level: int) -> dict[str, Any]:
        return {
            "zarr_format": 2,
            "shape": self.level_shape(level),
            "chunks": self._chunks[level],
            "dtype": self.dtype.str,
            "compressor": None,
            "fill_value": 0,
            "order": "C",
            "filters": None,
            "dimension_separator": "/",
        }

    def _attributes(self) -> dict[str, Any]:
        axes: list[dict[str, str]] = [{"name": a, "type": "space"} for a in "zyx"]
        if self.unit is not None:
            axes = [{**axis, "unit": self.unit} for axis in axes]
        datasets = []
        for number, (scale, shift) in enumerate(zip(self._scales, self._shifts, strict=True)):
            steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
            if any(shift):
                steps.append({"type": "translation", "translation": shift})
            datasets.append({"path": str(number), "coordinateTransformations": steps})
        image = {"version": "0.4", "name": self.name, "axes": axes, "datasets": datasets}
        return {"multiscales": [image]}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _shown_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Give the dtype in which elements are sent: Neuroglancer has no float64, float16 and bool."""
    if dtype.kind in "iu":
        return dtype.newbyteorder("<")
    if dtype.kind == "b":
        return np.dtype("uint8")
    if dtype.kind == "f":
        return np.dtype("<f4")
    raise ArgumentError(f"{name}: elements of {dtype} cannot be shown; view its real part, say")


def _zyx(extents: Sequence[int]) -> Shape:
    """Give the extents along z, y and x of an array with other axes, or of a plane."""
    return (1, 1, *map(int, extents))[-3:]


def _read_shape(array: da.Array) -> Shape:
    """Give the part that is read at the least: a stored chunk, a strip, or a computed block."""
    source = source_of(array)
    return _zyx([int(n) for n in array.chunksize] if source is None else source.read_shape)


def _served_chunks(array: da.Array) -> Shape:
    """Give the extents of the chunks that are sent: whole stored ones, or a few rows of planes."""
    shape = _zyx(array.shape)
    z = min(max(_read_shape(array)[0], 4), shape[0], 64)
    side = 2 ** round(math.log2(CHUNK_SIZE / z) / 2)
    return (z, min(side, shape[1]), min(side, shape[2]))


def _next_step(step: Step, scale: Sequence[float]) -> Step:
    """Double the steps along the axes whose voxels are the finest now."""
    now = [s * k for s, k in zip(scale, step, strict=True)]
    finest = min(now)
    z, y, x = (k * 2 if v < 2 * finest else k for k, v in zip(step, now, strict=True))
    return z, y, x


def _read_nbytes(array: da.Array, chunks: Shape, step: Step) -> int:
    """Give what a chunk of a level makes the reader read and decode, in bytes."""
    read = _read_shape(array)
    extents = [min(c * s, n) for c, s, n in zip(chunks, step, _zyx(array.shape), strict=True)]
    if read[0] == 1:
        # Planes that are left out are not read.
        extents[0] = -(-extents[0] // step[0])
    return math.prod(whole_chunks(tuple(extents), read)) * int(array.dtype.itemsize)
