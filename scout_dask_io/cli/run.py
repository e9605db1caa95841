"""Running the command line: errors become one paragraph, warnings one line, and an exit code."""

from __future__ import annotations

import io
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import click

from scout_dask_io.cli.base import State, cli
from scout_dask_io.cli.screen import for_people
from scout_dask_io.errors import ArgumentError
from scout_dask_io.jobs.report import as_options, error_text, notes_text, to_json
from scout_dask_io.run.progress import say

_FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and exit with its code."""
    state = State()
    with warnings.catch_warnings():
        warnings.showwarning = _warner(state)  # restored on the way out
        code = _run(args, state)
    sys.exit(code)


def _run(args: Sequence[str] | None, state: State) -> int:
    try:
        return int(cli.main(args, obj=state, standalone_mode=False) or 0)
    except click.ClickException as err:
        shown = io.StringIO()
        err.show(shown)
        click.echo(shown.getvalue().replace("Error: ", "error: "), err=True, nl=False)
        _tell_json(args, err, err.format_message())
        return err.exit_code
    except (click.Abort, KeyboardInterrupt) as err:
        failure: BaseException = err
        # click raises an Abort of its own from a KeyboardInterrupt.
        cause = err if isinstance(err, KeyboardInterrupt) else err.__cause__
        kept = notes_text(cause) if cause is not None else ""
        text, code = f"interrupted. {kept or state.if_interrupted}".strip(), 130
    except Exception as err:
        failure = err
        text = error_text(err)
        code = 2 if isinstance(err, ArgumentError) else state.code_of_errors
    if state.debug:
        traceback.print_exception(failure)
    say(for_people(f"error: {text}", sys.stderr))
    _tell_json(args, failure, text)
    return code


def _tell_json(args: Sequence[str] | None, failure: BaseException, text: str) -> None:
    """Where JSON was asked for, give an error as an object on stdout too."""
    if "--json" in (sys.argv[1:] if args is None else args):
        error = {"type": type(failure).__name__, "message": text}
        click.echo(to_json({"error": error}))


def _warner(state: State) -> Callable[..., None]:
    """Give what takes the place of ``warnings.showwarning``: one line a warning, each once."""

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        text = as_options(str(message))
        for_users = not issubclass(category, _FOR_DEVELOPERS)
        if (for_users or state.debug) and text not in state.warned:
            state.warned.add(text)
            say(for_people(f"warning: {text}", sys.stderr))

    return show
