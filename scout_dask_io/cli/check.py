"""``verify`` and ``repair``: whether an array is as it should be, and mending its metadata."""

from __future__ import annotations

from typing import Any

import click

from scout_dask_io.cli import options as opt
from scout_dask_io.cli.base import (
    State,
    command,
    flag,
    path_argument,
    print_report,
    scheduling,
)


@command(
    path_argument("src"), path_argument("dst", required=False), opt.deep, opt.workers, opt.max_mem,
    opt.order, opt.selection, opt.axes, opt.scheduler, opt.storage_options, opt.quiet,
)  # fmt: skip
@click.pass_obj
def verify(
    state: State,
    /,
    src: str,
    dst: str | None,
    scheduler: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Compare SRC and DST, or check one array against its manifest.

    Every pixel is compared. Either may be a TIFF file, a folder of planes or of channels, a
    Zarr array, or an OME-Zarr image, of which the full level is compared. With SRC
    alone, a Zarr array or image that this program wrote: every chunk file, of
    all levels, is read and compared with the checksum noted then.

    Exit code 0 if all is equal; 1 if not, and the first regions or chunks that differ
    are named; 2 if it cannot be told, for want of a manifest or of a readable file.

    For example:
      scout-dask-io verify brain/ch0 ch0.zarr
      scout-dask-io verify brain/ch0 ch0.zarr -q && echo same
      scout-dask-io verify ch0.zarr
      scout-dask-io verify ch0.ome.zarr
    """
    from scout_dask_io.jobs.verify import verify

    state.code_of_errors = 2
    with scheduling(scheduler, options["nb_workers"]):
        report: Any = verify(src, dst, progress=state.progress(quiet), **options)
    print_report(report, as_json, quiet and report.ok)
    return 0 if report.ok else 1


@command(
    path_argument("zarr"),
    flag("--dry-run", help="Say what would be done; change nothing."),
    opt.storage_options,
)
def repair(zarr: str, as_json: bool, **options: Any) -> None:
    """Mend the array or group at ZARR without touching its data.

    ZARR is a path or a URL.

    Adds a missing dimension_separator, so that other programs read what SCOUT
    wrote, and removes temporary files of programs that were killed.

    For example:
      scout-dask-io repair legacy.zarr --dry-run
    """
    from scout_dask_io.jobs.repair import repair

    print_report(repair(zarr, **options), as_json)
