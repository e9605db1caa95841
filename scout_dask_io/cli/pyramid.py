"""``pyramid``: levels for an array that stands.

Why it is short: a group of commands has a module.
"""

from __future__ import annotations

from typing import Any

from scout_dask_io.cli.base import command, print_report, scheduling
from scout_dask_io.cli.options import (
    codec,
    dry_run,
    durable,
    labels,
    levels,
    max_mem,
    overwrite,
    quiet,
    resume,
    scheduler,
    src_dst,
    storage_options,
    voxel_size,
    workers,
)


@command(
    *src_dst, levels, labels, voxel_size, codec, workers, max_mem, overwrite, resume, durable,
    dry_run, scheduler, storage_options, quiet,
)  # fmt: skip
def pyramid(
    src: str,
    dst: str,
    dry_run: bool,
    durable: bool,
    scheduler: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Add levels to the Zarr array SRC: an OME-Zarr image at DST.

    Nothing of SRC is copied or changed: the image has links to its files as
    its full level, and new levels below. SRC may be deleted afterwards. Both
    must lie on one file system; or in one object store, which then copies the
    objects of SRC itself.

    For example:
      scout-dask-io pyramid brain.zarr brain.ome.zarr --voxel-size 4,1.8,1.8
      scout-dask-io pyramid brain.zarr brain.ome.zarr --dry-run
      scout-dask-io pyramid nuclei.zarr nuclei.ome.zarr --labels --levels 3
    """
    from scout_dask_io.jobs.pyramid import plan_pyramid, pyramid

    with scheduling(scheduler, options["nb_workers"]):
        if dry_run:
            print_report(plan_pyramid(src, dst, **options), as_json)
            return
        report = pyramid(src, dst, durable=durable, progress=not quiet, **options)
    print_report(report, as_json, quiet)
