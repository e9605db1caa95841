"""What an image says of itself and its levels: names, voxel sizes, and contrast, measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from scout_dask_io.core.ome_metadata import omero_metadata
from scout_dask_io.core.pyramid import Level
from scout_dask_io.core.source import Source
from scout_dask_io.core.voxel_size import ATTRIBUTE, VoxelSize
from scout_dask_io.errors import ArgumentError
from scout_dask_io.files.location import AnyPath
from scout_dask_io.store.source import open_source

__all__ = ["channel_labels", "describe_image", "level_attributes"]

# Elements of a channel that are read to measure its contrast, and that are sorted for it.
SAMPLED, SORTED = 2**21, 2**18


def channel_labels(
    channels: Sequence[str] | None, axes: str, shape: Sequence[int], path: AnyPath
) -> list[str]:
    """Give the names of all channels: those given, else their numbers, or the image's own."""
    n = shape[axes.index("c")] if "c" in axes else 1
    if channels is None:
        return (
            [str(k) for k in range(n)]
            if "c" in axes
            else [path.name.removesuffix(".zarr").removesuffix(".ome")]
        )
    names = [channels] if isinstance(channels, str) else [str(c) for c in channels]
    if len(names) != n:
        raise ArgumentError(
            f"channels must be {n} names, as many as the data have channels, got {channels!r}"
        )
    return names


def level_attributes(
    level: Level, axes: str, size: VoxelSize | None, channels: Sequence[str] | None
) -> dict[str, Any]:
    """Give the attributes of a level's array: channel names and the size of its voxels."""
    found: dict[str, Any] = {}
    if channels and axes[0] == "c":
        found["channels"] = list(channels)
    if size is not None:
        times = dict(zip(axes, level.total, strict=True))
        found[ATTRIBUTE] = list(size.scaled([times.get(a, 1) for a in "zyx"]).micrometres)
    return found


def describe_image(
    lowest: AnyPath,
    *,
    metadata: dict[str, Any],
    version: str,
    axes: str,
    shown: tuple[list[str], list[str] | None] | None,
) -> dict[str, Any]:
    """Give the group's attributes: contrast windows are of the lowest level.

    So is the range they may be moved in, but for integers, whose dtype has one.
    """
    if shown is None:
        return metadata
    names, colors = shown
    source = open_source(lowest)
    samples = [_real(_sample(source, axes, k)) for k in range(len(names))]
    windows = [_window(values) for values in samples]
    if source.dtype.kind in "iu":
        info = np.iinfo(source.dtype)
        limits = [(float(info.min), float(info.max))] * len(names)
    else:
        limits = [(float(v.min()), float(v.max())) if v.size else (0.0, 1.0) for v in samples]
    omero = omero_metadata(names, colors, windows, limits)
    if version == "0.5":
        return {"ome": {**metadata["ome"], "omero": omero}}
    return {**metadata, "omero": omero}


def _sample(source: Source, axes: str, channel: int) -> np.ndarray:
    """Read a channel, or of a large one as many chunks here and there as are 2 million elements."""
    chunks = source.read_shape
    grid = [
        1 if a == "c" else -(-n // c) for a, n, c in zip(axes, source.shape, chunks, strict=True)
    ]
    n_chunks = math.prod(grid)
    wanted = min(n_chunks, max(1, SAMPLED // math.prod(chunks)))
    if wanted == n_chunks:
        return source[tuple(slice(channel, channel + 1) if a == "c" else slice(None) for a in axes)]
    found = []
    for number in np.random.default_rng(0).choice(n_chunks, wanted, replace=False):
        index = np.unravel_index(number, grid)
        at = tuple(
            slice(channel, channel + 1) if a == "c" else slice(int(i) * c, (int(i) + 1) * c)
            for a, i, c in zip(axes, index, chunks, strict=True)
        )
        found.append(source[at].reshape(-1))
    return np.concatenate(found)


def _real(values: np.ndarray) -> np.ndarray:
    """Give the finite values, of complex ones the magnitude."""
    real = np.abs(values) if values.dtype.kind == "c" else values
    return real[np.isfinite(real)] if real.dtype.kind == "f" else real.reshape(-1)


def _window(finite: np.ndarray) -> tuple[float, float]:
    """Give the 1st and the 99.9th percentile, which most images show well."""
    if not finite.size:
        return 0.0, 1.0
    # Of a quarter of a million elements: sorting all of them took a tenth of a small write.
    some = finite[:: max(1, finite.size // SORTED)]
    if some.dtype.kind != "u":
        # Differences of signed integers may overflow in numpy's interpolation.
        some = some.astype(np.float64)
    low, high = (float(v) for v in np.percentile(some, (1, 99.9)))
    return (low, high) if high > low else (low, low + 1.0)
