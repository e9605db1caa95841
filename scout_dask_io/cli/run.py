"""Running the command line: errors become one paragraph, warnings one line, and an exit code."""

from __future__ import annotations

import io
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from scout_dask_io.cli.base import State, cli, in_options, relative
from scout_dask_io.core.messages import Message, Option, joined
from scout_dask_io.errors import ArgumentError, PathNotFoundError, ScoutIOError
from scout_dask_io.jobs.report import to_json
from scout_dask_io.run.progress import say

_FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and exit with its code."""
    state = State()
    with warnings.catch_warnings():
        warnings.showwarning = _warner(state)  # restored on the way out
        with _logging(state):
            code = run_command(args, state)
    sys.exit(code)


@contextmanager
def _logging(state: State) -> Iterator[None]:
    """Have what the library logs on stderr, a line each, without breaking a bar."""
    logger = logging.getLogger("scout_dask_io")
    level, handler = logger.level, _Lines(state)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Lines(logging.Handler):
    """Prints what is logged as the other lines are printed."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self._state = state

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        if self._state.events is None:
            say(relative(self.format(record)))
        else:
            self._state.events.tell("log", level=record.levelname, message=record.getMessage())


def run_command(args: Sequence[str] | None, state: State) -> int:
    """Run one command, print what came of it, and give the exit code."""
    state.args = list(sys.argv[1:] if args is None else args)
    try:
        return int(cli.main(args, obj=state, standalone_mode=False) or 0)
    except click.ClickException as err:
        if state.events is None:
            shown = io.StringIO()
            err.show(shown)
            click.echo(shown.getvalue().replace("Error: ", "error: "), err=True, nl=False)
        else:
            state.say("error", err.format_message(), type=type(err).__name__)
        _tell_json(args, err, err.format_message())
        return err.exit_code
    except (click.Abort, KeyboardInterrupt) as err:
        failure: BaseException = err
        # click raises an Abort of its own from a KeyboardInterrupt.
        cause = err if isinstance(err, KeyboardInterrupt) else err.__cause__
        text, code = joined(" ", ["interrupted.", *(_notes(cause) or [state.if_interrupted])]), 130
    except Exception as err:
        failure = err
        text = _error_text(err)
        # As for an argument that cannot be: nothing was there to begin with.
        wrong = isinstance(err, (ArgumentError, PathNotFoundError))
        code = 2 if wrong else state.code_of_errors
    if state.debug:
        traceback.print_exception(failure)
    text = in_options(text, state.command).strip()
    state.say("error", relative(text), type=type(failure).__name__)
    _tell_json(args, failure, text)
    return code


def _error_text(err: Exception) -> str:
    """Give one paragraph on an error: what went wrong, and what to do where that is known."""
    if isinstance(err, ScoutIOError):
        return joined(" ", [_said(err), *_notes(err)])
    if isinstance(err, MemoryError):
        less, fewer = Option("max_mem"), Option("nb_workers")
        return Message("out of memory: allow less with ", less, ", or use fewer ", fewer)
    if isinstance(err, OSError):
        where = f"{err.filename}: " if err.filename else ""
        text = f"{where}{err.strerror or str(err) or type(err).__name__}"
    else:
        text = f"unexpected {type(err).__name__}: {err} (--debug shows where it comes from)"
    notes = _notes(err)
    return joined(" ", [f"{text}.", *notes]) if notes else text


def _said(message: object) -> str:
    """Give what an error or a warning says, with the arguments that it names."""
    said = getattr(message, "args", None) or (message,)
    return said[0] if isinstance(said[0], Message) else str(message)


def _notes(err: BaseException | None) -> list[str]:
    """Give what was noted on an error on its way: what a job that failed has left."""
    return list(getattr(err, "__notes__", ()))


def _tell_json(args: Sequence[str] | None, failure: BaseException, text: str) -> None:
    """Where JSON was asked for, give an error as an object on stdout too."""
    if "--json" in (sys.argv[1:] if args is None else args):
        error = {"type": type(failure).__name__, "message": text}
        click.echo(to_json({"error": error}))


def _warner(state: State) -> Callable[..., None]:
    """Give what takes the place of ``warnings.showwarning``: one line a warning, each once."""

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        text = in_options(_said(message), state.command)
        for_users = not issubclass(category, _FOR_DEVELOPERS)
        if (for_users or state.debug) and text not in state.warned:
            state.warned.add(text)
            state.say("warning", relative(text))

    return show
