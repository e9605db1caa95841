"""``info`` and ``scan``: what a path holds, from headers and metadata alone.

Why it is short: a group of commands has a module.
"""

from __future__ import annotations

from typing import Any

import click

from scout_dask_io.cli.base import State, command, path_argument, print_report
from scout_dask_io.cli.options import order, selection, storage_options, workers


@command(path_argument("path"), workers, order, selection, storage_options)
def info(path: str, as_json: bool, **options: Any) -> None:
    """Tell what PATH holds, without reading pixels.

    PATH is a TIFF file, a folder of planes or of channels, or a Zarr array or group; or
    the URL of one.

    For example:
      scout-dask-io info brain/ch0
      scout-dask-io info volume.zarr --json
      scout-dask-io info s3://lab/brain/ch0 --storage-option profile=lab
    """
    from scout_dask_io.jobs.info import info

    print_report(info(path, **options), as_json)


@command(path_argument("src"), workers, selection, storage_options)
@click.pass_obj
def scan(state: State, /, src: str, as_json: bool, **options: Any) -> int:
    """Name every TIFF file at SRC that does not fit the others.

    Reads headers alone. SRC is a TIFF file, a folder of planes, or a folder of
    channels, or the URL of one. Exit code 0 if they can be read as one array, 1 if
    not, 2 if there are none.

    For example:
      scout-dask-io scan brain/ch0
      scout-dask-io scan brain --json
      scout-dask-io scan s3://lab/brain --storage-option profile=lab
    """
    from scout_dask_io.jobs.scan import scan

    state.code_of_errors = 2
    report = scan(src, **options)
    print_report(report, as_json)
    return 0 if report.ok else 1
