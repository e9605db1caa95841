"""``demo``: the library at work on data that it makes.

Why it is short: a group of commands has a module.
"""

from __future__ import annotations

from typing import Any

import click

from scout_dask_io.cli.base import command, path_argument, print_report
from scout_dask_io.cli.json_help import keys_of
from scout_dask_io.cli.options import quiet
from scout_dask_io.jobs import report as render


def _held() -> dict[str, Any]:
    from scout_dask_io.jobs.demo import DemoReport

    return {"": keys_of(DemoReport)}


@command(path_argument("folder", metavar="[DIR]", required=False), quiet, held=_held)
def demo(folder: str | None, quiet: bool, as_json: bool) -> None:
    """Make a small synthetic dataset, convert it, verify it.

    Writes 60 MB to DIR, which must be new or empty, or to a new temporary
    folder; says what it did and what to try next. Takes a few seconds.

    For example:
      scout-dask-io demo
      scout-dask-io demo my-demo
    """
    from scout_dask_io.jobs.demo import demo

    tell = None if quiet or as_json else click.echo
    report = demo(folder, progress=not quiet, say=tell)
    print_report(report, render.demo_text, as_json, quiet)
