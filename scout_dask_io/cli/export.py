"""``export``: a stored array back into TIFF."""

from __future__ import annotations

from typing import Any

import click

from scout_dask_io.cli.base import command, print_report
from scout_dask_io.cli.options import compress, max_mem, overwrite, quiet, workers
from scout_dask_io.jobs import render


@command(
    click.argument("zarr"), click.argument("out"), compress, overwrite, workers, max_mem, quiet
)
def export(zarr: str, out: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Write the array at ZARR as TIFF: one file, or a folder of planes.

    OUT is one TIFF file if its name ends in .tif or .tiff. Otherwise it is a
    folder with one file a plane, and one folder a channel where there are some.

    For example:
      scout-dask-io export volume.zarr planes/
      scout-dask-io export volume.zarr volume.tif
    """
    from scout_dask_io.jobs.export import export

    report = export(zarr, out, progress=not quiet, **options)
    print_report(report, render.export_text, as_json, quiet)
