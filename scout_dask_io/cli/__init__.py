"""The command line, ``scout-dask-io``: arguments in, jobs called, reports printed.

Exit codes: 0 done, 1 the job failed, 2 wrong usage or a path that is not there, 130
interrupted. As with diff, ``verify`` and ``scan`` give 1 where they found a fault, and 2 where
they could not look.
What a command finds goes to stdout; progress, warnings and errors go to stderr. With
``--json`` stdout has one object, of a failed command one with the key ``error``.
"""

from __future__ import annotations

# A command is there once its module is loaded.
from scout_dask_io.cli import check as check
from scout_dask_io.cli import convert as convert
from scout_dask_io.cli import demo as demo
from scout_dask_io.cli import export as export
from scout_dask_io.cli import look as look
from scout_dask_io.cli import preview as preview
from scout_dask_io.cli import pyramid as pyramid
from scout_dask_io.cli import view as view
from scout_dask_io.cli.base import cli as cli
from scout_dask_io.cli.run import main as main
