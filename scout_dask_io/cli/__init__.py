"""The command line, ``scout-dask-io``: arguments in, jobs called, reports printed.

Exit codes: 0 done, 1 the job failed, 2 wrong usage, 130 interrupted. As with diff,
``verify`` and ``scan`` give 1 where they found a fault, and 2 where they could not look.
What a command finds goes to stdout; progress, warnings and errors go to stderr. With
``--json`` stdout has one object, of a failed command one with the key ``error``;
``--json-help`` says what its keys mean.
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
