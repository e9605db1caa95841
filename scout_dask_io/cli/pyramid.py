"""``pyramid``: levels for an array that stands.

Why it is short: a group of commands has a module.
"""

from __future__ import annotations

from typing import Any

import click

from scout_dask_io.cli import options as opt
from scout_dask_io.cli.base import State, as_it_was, command, print_report, scheduling


@command(
    *opt.src_dst, opt.levels, opt.factors, opt.labels, opt.voxel_size, opt.codec, opt.workers,
    opt.max_mem, opt.overwrite, opt.resume, opt.durable, opt.dry_run, opt.scheduler,
    opt.storage_options, opt.quiet,
)  # fmt: skip
@click.pass_obj
def pyramid(
    state: State,
    /,
    src: str,
    dst: str,
    dry_run: bool,
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
    state.if_interrupted = as_it_was(dst)
    from scout_dask_io.jobs.pyramid import plan_pyramid

    with scheduling(scheduler, options["nb_workers"]):
        plan = plan_pyramid(src, dst, **options)
        report = plan if dry_run else plan.run(progress=state.progress(quiet))
    print_report(report, as_json, quiet and not dry_run)
