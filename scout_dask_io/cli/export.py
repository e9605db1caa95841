"""``export``: a stored array back into TIFF."""

from __future__ import annotations

from typing import Any

import click

from scout_dask_io.cli import options as opt
from scout_dask_io.cli.base import (
    State,
    as_it_was,
    command,
    flag,
    path_argument,
    print_report,
)


def _box(_: click.Context, __: click.Parameter, text: str | None) -> list[slice] | None:
    """Give slices from a text such as ``0:30,100:400,:``."""
    if text is None:
        return None
    try:
        ranges = [part.split(":") for part in text.split(",")]
        if any(len(ends) != 2 for ends in ranges):
            raise ValueError
        return [slice(*(int(end) if end.strip() else None for end in ends)) for ends in ranges]
    except ValueError:
        raise click.BadParameter(f"{text!r} is no box: give e.g. 0:30,100:400,:") from None


_options = (
    flag("--imagej", help="Write OUT as a hyperstack for ImageJ and Fiji."),
    click.option(
        "--level", type=click.IntRange(min=0), metavar="N",
        help="Resolution of an OME-Zarr group to export; 0, the full one, by default.",
    ),
    click.option(
        "--axis", type=click.Choice(["z", "y", "x"]), default="z", show_default=True,
        help="What the planes lie along.",
    ),
    click.option(
        "--box", "region", callback=_box, metavar="Z,Y,X",
        help="Part to export, as ranges such as 0:30,100:400,: for the last axes.",
    ),
    click.option(
        "--dtype", metavar="NAME",
        help="To write, e.g. uint8 or float32; one that does not hold every value needs --scale.",
    ),
    click.option(
        "--scale", callback=opt.numbers("no range", "100,4000"), metavar="LOW,HIGH",
        help="Values that become the least and the greatest of an integer dtype, or 0 and 1 of a "
        "float; those beyond are clipped, and counted.",
    ),
    click.option(
        "--levels", "n_levels", type=click.IntRange(1, 32), metavar="N",
        help="Resolutions in an .ome.tif, 1 for no pyramid; by default until one fits in a tile.",
    ),
    click.option(
        "--compress", type=click.IntRange(0, 9), metavar="LEVEL",
        show_default="1, and 0 with --imagej",
        help="Lossless; 0 is off, 9 is smallest and slowest.",
    ),
    flag("--resume", help="Go on with an export that was interrupted; whole planes stay."),
)  # fmt: skip


@command(
    path_argument("zarr"), path_argument("out"), *_options, opt.voxel_size, opt.overwrite,
    opt.workers, opt.max_mem, opt.dry_run, opt.storage_options, opt.quiet,
)  # fmt: skip
@click.pass_obj
def export(
    state: State,
    /,
    zarr: str,
    out: str,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Write the array at ZARR, or a part of it, as TIFF.

    ZARR is an array, or an OME-Zarr group, or the URL of one; files that convert reads go too. OUT
    is one TIFF file if its name ends in .tif, a tiled OME-TIFF with a pyramid if it ends in
    .ome.tif. Otherwise it is a folder with one file a plane, and one folder a channel where there
    are some.

    For example:
      scout-dask-io export volume.zarr planes/
      scout-dask-io export volume.zarr volume.ome.tif --dry-run
      scout-dask-io export volume.zarr volume.ome.tif
      scout-dask-io export a.zarr fiji.tif --imagej --dtype uint8 --scale 0,4000
      scout-dask-io export volume.zarr cut.tif --axis y --box 0:30,100:400,:
      scout-dask-io export s3://lab/a.zarr planes/ --storage-option profile=lab
    """
    state.if_interrupted = as_it_was(out)
    from scout_dask_io.jobs.export import plan_export

    plan = plan_export(zarr, out, **options)
    if dry_run:
        print_report(plan, as_json)
        return
    state.if_interrupted = (
        f"What stands in {out} is whole. The same command with --resume goes on from there."
    )
    print_report(plan.run(progress=state.progress(quiet)), as_json, quiet)
