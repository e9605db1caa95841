"""How the channels of an image are shown: contrast, measured on its lowest level."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from scout_dask_io.core.contrast import contrast_limits
from scout_dask_io.core.image_info import ImageInfo
from scout_dask_io.core.ome_metadata import omero_metadata
from scout_dask_io.core.source import Source

# Elements of a channel that are read to measure its contrast, and that are sorted for it.
# Sorting all of them took a tenth of a small write.
SAMPLED, SORTED = 2**21, 2**18
# The percentiles that are its darkest and its brightest value, which most images show well.
WINDOW = (1.0, 99.9)


def describe_image(
    levels: Callable[[int | None], Source],
    lowest: int,
    *,
    metadata: dict[str, Any],
    version: str,
    info: ImageInfo,
) -> dict[str, Any]:
    """Give the group's attributes: contrast windows are of the lowest level.

    So is the range they may be moved in, but for integers, whose dtype has one.
    """
    if info.labels:
        return metadata
    omero = measured_omero(levels(lowest), info)
    if version == "0.5":
        return {**metadata, "ome": {**metadata["ome"], "omero": omero}}
    return {**metadata, "omero": omero}


def measured_omero(source: Source, info: ImageInfo) -> dict[str, Any]:
    """Give how channels are shown, what is not stated of it as measured on a level."""
    # What is stated of each channel needs no look at the pixels.
    samples = [
        np.empty(0) if c.window and c.limits else _real(_sample(source, info.axes, k))
        for k, c in enumerate(info.channels)
    ]
    windows = [
        c.window or contrast_limits([v], WINDOW, n_sorted=SORTED)
        for c, v in zip(info.channels, samples, strict=True)
    ]
    if source.dtype.kind in "iu":
        dtype = np.iinfo(source.dtype)
        limits = [(float(dtype.min), float(dtype.max))] * len(samples)
    else:
        limits = [(float(v.min()), float(v.max())) if v.size else (0.0, 1.0) for v in samples]
    return omero_metadata(info, windows, limits)


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
