"""An OME-Zarr image written in one go: its levels from the same pixels, whole or absent."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.delayed import Delayed

from scout_dask_io.core.ome_metadata import check_colors, image_metadata
from scout_dask_io.files.location import RemotePath, locate
from scout_dask_io.read.missing_planes import attributes_with_filled
from scout_dask_io.read.voxel_size import size_for
from scout_dask_io.store.codecs import LEVEL_CODECS, codecs_of_levels
from scout_dask_io.write.image_attributes import channel_labels, describe_image, level_attributes
from scout_dask_io.write.image_plan import plan_ome_zarr
from scout_dask_io.write.image_run import write_levels
from scout_dask_io.write.preflight import preflight
from scout_dask_io.write.qc.run import check_qc, subject_of
from scout_dask_io.write.write_arguments import check_fill, compressor_of, readable, settings_of

if TYPE_CHECKING:
    import zarr

__all__ = ["write_ome_zarr"]


def write_ome_zarr(
    path: str | os.PathLike[str] | RemotePath,
    data: Any,
    chunks: int | Sequence[int] = (64, 64, 64),
    *,
    levels: int | None = None,
    axes: str | None = None,
    labels: bool = False,
    method: str | None = None,
    channels: Sequence[str] | None = None,
    colors: Sequence[str] | None = None,
    voxel_size: Any = None,
    version: str = "0.4",
    shards: int | Sequence[int] | None = None,
    codec: Any = LEVEL_CODECS,
    fill_value: Any = 0,
    overwrite: bool = False,
    resume: bool = False,
    max_mem: int | str | None = None,
    nb_workers: int | None = None,
    durable: bool = False,
    qc: bool = False,
    compute: bool = True,
    progress: Any = False,
    storage_options: Mapping[str, Any] | None = None,
) -> zarr.Group | Delayed:
    """Stream an array into an OME-Zarr image: a group of levels, each half as large as the last.

    Level 0 holds the data as :func:`write_zarr` would; the levels below are made
    from the same pixels while they are in memory, as many as whole chunks allow,
    the others from the level above. y and x are halved alone until voxels are
    near isotropic (no edge 1.41 times another), where their size is known. The
    group appears at ``path`` whole, by one rename, and every level has its
    manifest; ``resume=True`` finishes an interrupted write.

    Parameters
    ----------
    path : str or path-like
        The group's directory. Or a URL, as for :func:`write_zarr`: an unfinished image
        there has no metadata and is refused by the readers.
    data : dask.array.Array or numpy.ndarray
        ``(y, x)``, ``(z, y, x)``, ``(c, z, y, x)`` or ``(t, c, z, y, x)``, unless ``axes``
        say otherwise.
    chunks : int or sequence of int
        Chunk extents of every level for the last axes, in elements.
    levels : int, optional
        How many, with level 0. By default down to one that is at most 256 wide,
        high and deep.
    axes : str, optional
        A letter an axis where it is another one than by their number, such as ``"tzyx"``.
    labels : bool
        The data are labels: lower levels hold the most frequent label, and no
        contrast is noted.
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
        :func:`write_zarr`. By default the lower levels have lz4: viewers read them over
        and over, and decode that in 0.6 of the time.
    fill_value, overwrite, resume, max_mem, nb_workers, durable, compute, progress
        As for :func:`write_zarr`.
    qc : bool
        As for :func:`write_zarr`, of level 0.
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
    source, array = readable(data)
    size = size_for(data, voxel_size)
    # What was made of the data: a checksum of a numpy array is not computed again.
    image = plan_ome_zarr(
        array if source is None else source, chunks, levels=levels, axes=axes, labels=labels,
        method=method, channels=channels, voxel_size=size, version=version, shards=shards,
        codec=codec, max_mem=max_mem, nb_workers=nb_workers,
    )  # fmt: skip
    plan = image.write
    check_fill(fill_value, plan.dtype)
    compressors = [compressor_of(plan, c) for c in codecs_of_levels(codec)]
    names = channel_labels(channels, image.axes, plan.shape, destination)
    shown = check_colors(colors, len(names))
    metadata = image_metadata(
        destination.name, image.axes, image.levels, size, version=version, method=image.method,
        labels=labels,
    )  # fmt: skip
    attributes = [level_attributes(lv, image.axes, size, channels) for lv in image.levels]
    attributes[0] = attributes_with_filled(attributes[0], data) or {}
    settings = {
        **settings_of(plan, source, array, compressors[0], fill_value, metadata),
        "levels": [level.shape for level in image.levels],
        "lower_codec": compressors[1] and compressors[1].get_config(),
        "shown": [names, shown],
    }
    subject = None
    if qc:
        check_qc(plan.shape, np.dtype(plan.dtype), destination)
        subject = subject_of(destination, data, plan, axes=image.axes, attributes=attributes[0])
    asked = preflight([data], destination) if compute else None
    describe = partial(
        describe_image, metadata=metadata, version=version, axes=image.axes,
        shown=None if labels else (names, shown),
    )  # fmt: skip
    return write_levels(
        destination,
        image,
        source,
        array,
        settings,
        describe,
        arrays=[
            {"compressor": compressors[n > 0], "fill_value": fill_value, "attributes": own}
            for n, own in enumerate(attributes)
        ],
        overwrite=overwrite,
        resume=resume,
        durable=durable,
        subject=subject,
        compute=compute,
        progress=progress,
        asked=asked,
    )
