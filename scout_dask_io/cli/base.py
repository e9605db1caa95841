"""What every command has: the group, ``--json`` and ``--debug``, a scheduler, a printed report."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import click

from scout_dask_io.cli.json_help import Held, json_help_flag
from scout_dask_io.cli.screen import for_people
from scout_dask_io.jobs.report import to_json


@dataclass
class State:
    """What ``main`` must know of a run that failed."""

    debug: bool = False
    #: What whoever interrupts the command should know.
    if_interrupted: str = ""
    #: The exit code where an error ends the command.
    code_of_errors: int = 1
    #: Warnings that were printed; each is printed once.
    warned: set[str] = field(default_factory=set)


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(State).debug = True


flag = partial(click.option, is_flag=True)
#: An argument for which shells complete the names of files and folders.
path_argument = partial(click.argument, type=click.Path())
debug_flag = flag(
    "--debug", expose_value=False, callback=_set_debug, help="Show tracebacks and more warnings."
)
as_json_flag = flag("--json", "as_json", help="Print one JSON object instead of text.")


def _help(function: Callable[..., Any]) -> str:
    # click keeps the line breaks of a paragraph that begins with \b.
    return inspect.cleandoc(function.__doc__ or "").replace("For example:", "\b\nFor example:")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with 'scout-dask-io demo'; 'scout-dask-io COMMAND --help' has examples.",
)
@click.version_option(sys.modules["scout_dask_io"].__version__, message="scout-dask-io %(version)s")
@debug_flag
def cli() -> None:
    """Microscopy TIFF planes into chunked Zarr arrays, and back, in bounded memory."""


def command(*parameters: Any, held: Held) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function, with these parameters, ``--json`` and ``--debug``.

    ``held`` gives the keys of its JSON.
    """

    def add(function: Callable[..., Any]) -> click.Command:
        ends = (as_json_flag, json_help_flag(held), debug_flag)
        for parameter in reversed((*parameters, *ends)):
            function = parameter(function)
        return cli.command(help=_help(function))(function)

    return add


@contextmanager
def scheduling(address: str | None, nb_workers: int | None) -> Iterator[None]:
    """Run dask on a cluster, or here on so many threads."""
    if address is None:
        import dask

        with dask.config.set({} if nb_workers is None else {"num_workers": nb_workers}):
            yield
    else:
        from distributed import Client

        try:
            client = Client(address, timeout="10s")
        except ValueError as err:
            raise click.BadParameter(f"{address!r}: {err}.", param_hint="'--scheduler'") from err
        with client:
            yield


def render_report(report: Any) -> str:
    """Give a report's own text."""
    return str(report.render())


def print_report(
    report: Any, text: Callable[[Any], str], as_json: bool, quiet: bool = False
) -> None:
    """Print a report as JSON or as text; where it is to be quiet, as JSON alone."""
    if as_json or not quiet:
        click.echo(to_json(report) if as_json else for_people(text(report)))
