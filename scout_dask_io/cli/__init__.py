"""The command line, ``scout-dask-io``: arguments in, jobs called, reports printed.

Exit codes: 0 done, 1 the job failed (or ``verify`` or ``scan`` found a fault), 2 wrong
usage, 130 interrupted. What a command finds goes to stdout; progress, warnings
and errors go to stderr.
"""

from __future__ import annotations

# A command is there once its module is loaded.
from scout_dask_io.cli import check, convert, demo, export, look, preview, pyramid, view
from scout_dask_io.cli.base import cli
from scout_dask_io.cli.run import main

__all__ = [
    "check",
    "cli",
    "convert",
    "demo",
    "export",
    "look",
    "main",
    "preview",
    "pyramid",
    "view",
]
