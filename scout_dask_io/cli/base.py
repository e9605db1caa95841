"""What every command has: the group, its common options, a scheduler, a printed report."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import click

from scout_dask_io.core.messages import Message, Option, Way
from scout_dask_io.core.selection import Selection
from scout_dask_io.jobs.report import to_json
from scout_dask_io.run.progress import Events, say


@dataclass
class State:
    """What ``main`` must know of a run that failed."""

    debug: bool = False
    #: How much is logged.
    verbose: int = 0
    #: What whoever interrupts the command should know.
    if_interrupted: str = ""
    #: The exit code where an error ends the command.
    code_of_errors: int = 1
    #: The command that runs; ``""`` before one does.
    command: str = ""
    #: What was typed after the program's name.
    args: list[str] = field(default_factory=list)
    #: Warnings that were printed; each is printed once.
    warned: set[str] = field(default_factory=set)
    #: Where what happens is told as JSON; ``None`` where people read it.
    events: Events | None = None

    def progress(self, quiet: bool) -> bool | Events:
        """Give what a job is told about its progress."""
        return self.events or not quiet

    def say(self, kind: str, text: str, **found: Any) -> None:
        """Print a line on stderr, such as an error: as text, or as an event."""
        if self.events is None:
            say(f"{kind}: {text}")
        else:
            self.events.tell(kind, **found, message=text)


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(State).debug = True


def _set_verbose(ctx: click.Context, _: click.Parameter, value: int) -> None:
    state = ctx.ensure_object(State)
    state.verbose = max(state.verbose, value)
    logging.getLogger("scout_dask_io").setLevel(LEVELS[min(state.verbose, 2)])


#: Of the logger, by how often ``-v`` is given.
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
flag = partial(click.option, is_flag=True)
#: An argument for which shells complete the names of files and folders.
path_argument = partial(click.argument, type=click.Path())
debug_flag = flag(
    "--debug", expose_value=False, callback=_set_debug, help="Show tracebacks and more warnings."
)
verbose_flag = click.option(
    "-v", "--verbose", count=True, expose_value=False, callback=_set_verbose,
    help="Log what is read and written, -vv each unit too.",
)  # fmt: skip
as_json_flag = flag("--json", "as_json", help="Print one JSON object instead of text.")


def _help(function: Callable[..., Any]) -> str:
    # click keeps the line breaks of a paragraph that begins with \b.
    return inspect.cleandoc(function.__doc__ or "").replace("For example:", "\b\nFor example:")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with 'scout-dask-io demo'; 'scout-dask-io COMMAND --help' has examples.",
)
@click.version_option(sys.modules["scout_dask_io"].__version__, message="scout-dask-io %(version)s")
@verbose_flag
@debug_flag
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Microscopy TIFF planes into chunked Zarr arrays, and back, in bounded memory."""
    ctx.ensure_object(State).command = ctx.invoked_subcommand or ""


#: Options that take as many words as there are levels, such as ``--factors 1,2,2 2,2,2``.
_OF_LEVELS = ("--levels", "--factors")


def joined_words(words: Sequence[str]) -> list[str]:
    """Give what was typed with the words of an option that takes several as one."""
    found: list[str] = []
    rest = list(words)
    while rest:
        found.append(rest.pop(0))
        name, equals, _ = found[-1].partition("=")
        if name in _OF_LEVELS:
            if not equals and rest:
                found.append(rest.pop(0))
            while rest and re.fullmatch(r"\d+(,\d+)+", rest[0]):
                found[-1] += f" {rest.pop(0)}"
    return found


class _Command(click.Command):
    """A command whose options may take several words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was typed."""
        return super().parse_args(ctx, joined_words(args))


def command(*parameters: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function, with these parameters, ``--json``, ``-v`` and ``--debug``."""

    def add(function: Callable[..., Any]) -> click.Command:
        for parameter in reversed((*parameters, as_json_flag, verbose_flag, debug_flag)):
            function = parameter(function)
        return cli.command(cls=_Command, help=_help(function))(function)

    return add


def as_it_was(dst: str) -> str:
    """Give what to know where a write is interrupted that has kept nothing yet."""
    return (
        f"{dst} is as it was. The same command with --resume goes on with what is kept, and "
        "begins where nothing is."
    )


def in_options(text: str, running: str) -> str:
    """Give a text with its arguments as options of the command line.

    An argument is an option of the command that the message names, or of the one that runs;
    else of ``convert``, and said to be; else it stays as functions have it.
    """
    if not isinstance(text, Message):
        return text
    return "".join(_as_typed(p, running) for p in text.parts)


def _as_typed(part: str | Option | Way, running: str) -> str:
    if isinstance(part, Way):
        return part.in_command
    return _as_option(part, running) if isinstance(part, Option) else part


def _as_option(argument: Option, running: str) -> str:
    named = argument.of or running
    for name, suffix in ((named, ""), ("convert", " of convert")):
        for option in cli.commands[name].params if name in cli.commands else ():
            if option.name == argument.name and isinstance(option, click.Option):
                return f"{_with_value(option, argument.value)}{suffix}"
    return str(argument)


def _with_value(option: click.Option, value: Any) -> str:
    name = max(option.opts, key=len)
    if option.is_flag or value is None or value == "":
        return name
    if isinstance(value, tuple):
        return f"{name} {','.join(value).upper()}"
    return f"{name} {shlex.quote(str(value))}"


def relative(text: str) -> str:
    """Give paths below the working directory without it, as they mostly were typed."""
    here = os.getcwd()
    if here == os.sep:
        return text
    return re.sub(rf"(?<![\w./-]){re.escape(here + os.sep)}(?=[^\s/])", "", text)


@contextmanager
def scheduling(address: str | None, nb_workers: int | None) -> Iterator[None]:
    """Run dask on a cluster, or here on so many threads."""
    if address is None:
        import dask

        with dask.config.set({} if nb_workers is None else {"num_workers": nb_workers}):
            yield
    else:
        from scout_dask_io.run.cluster import connect

        try:
            client = connect(address)
        except ValueError as err:
            raise click.BadParameter(f"{address!r}: {err}.", param_hint="'--scheduler'") from err
        with client:
            yield


def print_report(report: Any, as_json: bool, quiet: bool = False, text: str = "") -> None:
    """Print a report as JSON, or as text, by default its own; where to be quiet, as JSON alone."""
    state = click.get_current_context().ensure_object(State)
    if as_json:
        click.echo(to_json(report, lambda told: in_options(told, state.command)))
    elif not quiet:
        click.echo(relative(in_options(text or report.render(), state.command)))


def typed(*args: str) -> str:
    """Give a command that can be typed as it stands, however this one was started."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        program = [_this_python(), "-m", "scout_dask_io"]
    else:
        program = ["scout-dask-io" if shutil.which("scout-dask-io") else str(started)]
    return shlex.join([*program, *args])


def given_to(name: str, options: Mapping[str, Any]) -> list[str]:
    """Give options of a command that choose what is read, or let it be reached, as words.

    Of what reaches a store the value is left out where it may be a secret.
    """
    words: list[str] = []
    for option in cli.commands[name].params:
        value = options.get(str(option.name))
        if not isinstance(option, click.Option) or value in (None, False, option.default):
            continue
        word = max(option.opts, key=len)
        if option.name == "storage_options":
            for key, given in value.items():
                shown = given if isinstance(given, str) else json.dumps(given)
                words += [word, f"{key}={shown if key in _NO_SECRETS else '…'}"]
        elif option.name in _SELECTION and (
            not isinstance(option.type, click.Choice) or value in option.type.choices
        ):
            words += [word] if option.is_flag else [word, str(value)]
    return words


_SELECTION = {*(f.name for f in fields(Selection)), "axes"}
#: Keys of ``--storage-option`` whose values may stand on a screen.
_NO_SECRETS = {"anon", "profile", "endpoint_url", "region", "requester_pays", "project"}


def _this_python() -> str:
    """Give what to type for the Python that runs."""
    found = shutil.which("python")
    # Not by what the links point to: environments share an interpreter.
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    return "python" if same else sys.executable
