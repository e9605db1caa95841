"""``demo``: the library at work on data that it makes.

Why it is short: a group of commands has a module.
"""

from __future__ import annotations

from pathlib import Path

import click

from scout_dask_io.cli.base import State, command, path_argument, print_report, typed
from scout_dask_io.cli.options import quiet


@command(path_argument("folder", metavar="[DIR]", required=False), quiet)
@click.pass_obj
def demo(state: State, /, folder: str | None, quiet: bool, as_json: bool) -> None:
    """Make a small synthetic dataset, convert it, verify it.

    Writes 60 MB to DIR, which must be new or empty, or to a new temporary
    folder; says what it did and what to try next. Takes a few seconds.

    For example:
      scout-dask-io demo
      scout-dask-io demo my-demo
    """
    from scout_dask_io.jobs.demo import demo

    tell = None if quiet or as_json else click.echo
    report = demo(folder, progress=state.progress(quiet), say=tell)
    print_report(
        report, as_json, quiet, f"{report.render()}\n\n{_next(report.planes, report.zarr)}"
    )


def _next(planes: str, zarr: str) -> str:
    """Say what to try next."""
    cubes = str(Path(zarr).with_name("cubes.zarr"))
    tries = [
        ("What is in it:", typed("info", zarr)),
        ("Other chunks, less memory:",
         typed("convert", planes, cubes, "--chunks", "32,128,128", "--max-mem", "100MB")),
        ("Back to TIFF planes:", typed("export", zarr, str(Path(zarr).with_name("planes")))),
        ("A picture of it:",
         typed("preview", zarr, str(Path(zarr).with_suffix(".png")), "--mode", "max")),
    ]  # fmt: skip
    lines = [f"  {what}\n    {how}" for what, how in tries]
    return "\n".join(["Try next", *lines])
