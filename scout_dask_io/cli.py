"""The command line, ``scout-dask-io``: arguments in, jobs called, reports printed.

Exit codes: 0 done, 1 the job failed (or ``verify`` or ``scan`` found a fault), 2 wrong
usage, 130 interrupted. What a command finds goes to stdout; progress, warnings
and errors go to stderr.
"""

from __future__ import annotations

import inspect
import io
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import click

from scout_dask_io.errors import ArgumentError
from scout_dask_io.jobs import render
from scout_dask_io.progress import say

__all__ = ["cli", "main"]

_FOR_DEVELOPERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning)


@dataclass
class _State:
    """What ``main`` must know of a run that failed."""

    debug: bool = False
    #: What whoever interrupts the command should know.
    if_interrupted: str = ""
    #: Warnings that were printed; each is printed once.
    warned: set[str] = field(default_factory=set)


def _extents(text: str) -> tuple[int, ...]:
    """Give chunk extents from a text such as ``64,64,64``."""
    try:
        extents = tuple(int(part) for part in text.split(","))
    except ValueError:
        extents = ()
    if not extents or any(n < 1 and n != -1 for n in extents):
        raise click.BadParameter(f"{text!r} is not a chunk shape: give e.g. 64,64,64.")
    return extents


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(_State).debug = True


_flag = partial(click.option, is_flag=True)
_debug = _flag(
    "--debug", expose_value=False, callback=_set_debug, help="Show tracebacks and more warnings."
)
_json = _flag("--json", "as_json", help="Print JSON instead of text.")
_quiet = _flag("-q", "--quiet", help="No progress, no summary.")
_overwrite = _flag("--overwrite", help="Replace what stands there once the new one is whole.")
_src_dst = (click.argument("src"), click.argument("dst"))
_resume = _flag("--resume", help="Finish a conversion that was interrupted.")
_deep = _flag("--deep", help="Decode the chunks too, where there is no DST.")
_dry_run = _flag("--dry-run", help="Print the plan; write nothing.")
_workers = click.option(
    "-n", "--workers", "nb_workers", type=click.IntRange(min=1), metavar="N",
    show_default="one a core", help="Threads on this machine.",
)  # fmt: skip
_order = click.option(
    "--order", type=click.Choice(["alphabetical", "natural"]), default="alphabetical",
    show_default=True, help="How planes in a folder are sorted; natural puts z2 before z10.",
)  # fmt: skip
_chunks = click.option(
    "--chunks", type=_extents, metavar="EXTENTS", default="64,64,64", show_default=True,
    help="Extents of a chunk along the last axes, e.g. 32,256,256; -1 is a whole axis.",
)  # fmt: skip
_codec = click.option(
    "--codec", type=click.Choice(["zstd", "lz4", "none"]), default="zstd", show_default=True,
    help="Compression; lz4 is faster, its files are a little larger.",
)  # fmt: skip
_compress = click.option(
    "--compress", type=click.IntRange(0, 9), metavar="LEVEL", default=1, show_default=True,
    help="Lossless; 0 is off, 9 is smallest and slowest.",
)  # fmt: skip
_max_mem = click.option(
    "--max-mem", metavar="SIZE", show_default="a quarter of what is free",
    help="Memory to use at most, e.g. 2GB.",
)  # fmt: skip
_scheduler = click.option(
    "--scheduler", metavar="ADDRESS",
    help="Run on a dask cluster, e.g. tcp://10.0.0.1:8786; its workers must see the same paths.",
)  # fmt: skip


def _help(function: Callable[..., Any]) -> str:
    # click keeps the line breaks of a paragraph that begins with \b.
    return inspect.cleandoc(function.__doc__ or "").replace("For example:", "\b\nFor example:")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with 'scout-dask-io demo'; 'scout-dask-io COMMAND --help' has examples.",
)
@click.version_option(sys.modules["scout_dask_io"].__version__, message="scout-dask-io %(version)s")
@_debug
def cli() -> None:
    """Microscopy TIFF planes into chunked Zarr arrays, and back, in bounded memory."""


def _command(*parameters: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function, with these parameters, ``--json`` and ``--debug``."""

    def add(function: Callable[..., Any]) -> click.Command:
        for parameter in reversed((*parameters, _json, _debug)):
            function = parameter(function)
        return cli.command(help=_help(function))(function)

    return add


@_command(
    *_src_dst, _chunks, _codec, _workers, _max_mem, _overwrite, _resume, _order, _dry_run,
    _scheduler, _quiet,
)  # fmt: skip
@click.pass_obj
def convert(
    state: _State,
    /,
    src: str,
    dst: str,
    dry_run: bool,
    scheduler: str | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Convert SRC to a chunked Zarr array at DST.

    SRC is a TIFF file, a folder of TIFF planes, a folder with one folder of
    planes for each channel, or a Zarr array.

    For example:
      scout-dask-io convert brain/ch0 ch0.zarr
      scout-dask-io convert brain brain.zarr --chunks 64,256,256 --max-mem 2GB
      scout-dask-io convert brain brain.zarr --dry-run
      scout-dask-io convert brain brain.zarr --scheduler tcp://10.0.0.1:8786
    """
    from scout_dask_io.jobs.convert import convert, plan_convert

    state.if_interrupted = (
        f"{dst} is as it was. What is finished is kept: the same command with --resume goes on "
        "from there."
    )
    with _scheduling(scheduler, options["nb_workers"]):
        if dry_run:
            _print(plan_convert(src, dst, **options), render.plan_text, as_json)
            return
        report = convert(src, dst, progress=not quiet, **options)
    _print(report, lambda r: render.convert_text(r, src), as_json, quiet)


@_command(click.argument("path"), _workers, _order)
def info(path: str, as_json: bool, **options: Any) -> None:
    """Tell what PATH holds, without reading pixels.

    PATH is a TIFF file, a folder of planes or of channels, or a Zarr array or group.

    For example:
      scout-dask-io info brain/ch0
      scout-dask-io info volume.zarr --json
    """
    from scout_dask_io.jobs.info import info

    _print(info(path, **options), lambda report: report.render(), as_json)


@_command(
    click.argument("src"), click.argument("dst", required=False), _deep, _workers, _max_mem,
    _order, _scheduler, _quiet,
)  # fmt: skip
def verify(
    src: str, dst: str | None, scheduler: str | None, quiet: bool, as_json: bool, **options: Any
) -> int:
    """Compare SRC and DST pixel by pixel, or check one array against its manifest.

    Either may be a TIFF file, a folder of planes or of channels, or a Zarr
    array. Exit code 0 if they are equal; 1 if not, and the first regions that
    differ are named. With SRC alone, a Zarr array that this program wrote: every
    chunk file is read and compared with the checksum noted then.

    For example:
      scout-dask-io verify brain/ch0 ch0.zarr
      scout-dask-io verify brain/ch0 ch0.zarr -q && echo same
      scout-dask-io verify ch0.zarr
    """
    from scout_dask_io.jobs.verify import verify

    with _scheduling(scheduler, options["nb_workers"]):
        report: Any = verify(src, dst, progress=not quiet, **options)
    text = render.verify_text if dst is not None else _render
    _print(report, text, as_json, quiet and report.ok)
    return 0 if report.ok else 1


@_command(click.argument("src"), _workers)
def scan(src: str, as_json: bool, **options: Any) -> int:
    """Look through the TIFF files at SRC: headers alone, every file that does not fit by name.

    SRC is a TIFF file, a folder of planes, or a folder of channels. Exit code 1
    if they cannot be read as one array.

    For example:
      scout-dask-io scan brain/ch0
      scout-dask-io scan brain --json
    """
    from scout_dask_io.jobs.scan import scan

    report = scan(src, **options)
    _print(report, _render, as_json)
    return 0 if report.ok else 1


@_command(
    click.argument("zarr"), _flag("--dry-run", help="Say what would be done; change nothing.")
)
def repair(zarr: str, dry_run: bool, as_json: bool) -> None:
    """Mend the array or group at ZARR without touching its data.

    Adds a missing dimension_separator, so that other programs read what SCOUT
    wrote, and removes temporary files of programs that were killed.

    For example:
      scout-dask-io repair legacy.zarr --dry-run
    """
    from scout_dask_io.jobs.repair import repair

    _print(repair(zarr, dry_run=dry_run), _render, as_json)


@_command(
    click.argument("zarr"), click.argument("out"), _compress, _overwrite, _workers, _max_mem, _quiet
)
def export(zarr: str, out: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Write the array at ZARR as TIFF: one file, or a folder of planes.

    OUT is one TIFF file if its name ends in .tif or .tiff. Otherwise it is a
    folder with one file a plane, and one folder a channel where there are some.

    For example:
      scout-dask-io export volume.zarr planes/
      scout-dask-io export volume.zarr volume.tif
    """
    from scout_dask_io.jobs.export import export

    report = export(zarr, out, progress=not quiet, **options)
    _print(report, render.export_text, as_json, quiet)


@_command(click.argument("folder", metavar="[DIR]", required=False), _quiet)
def demo(folder: str | None, quiet: bool, as_json: bool) -> None:
    """Make a small synthetic dataset, convert it, verify it.

    Writes 60 MB to DIR, which must be new or empty, or to a new temporary
    folder; says what it did and what to try next. Takes a few seconds.
    """
    from scout_dask_io.jobs.demo import demo

    tell = None if quiet or as_json else click.echo
    report = demo(folder, progress=not quiet, say=tell)
    _print(report, render.demo_text, as_json, quiet)


@contextmanager
def _scheduling(address: str | None, nb_workers: int | None) -> Iterator[None]:
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


def _render(report: Any) -> str:
    return str(report.render())


def _print(report: Any, text: Callable[[Any], str], as_json: bool, quiet: bool = False) -> None:
    if as_json or not quiet:
        click.echo(render.to_json(report) if as_json else text(report))


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, and exit with its code."""
    state = _State()
    with warnings.catch_warnings():
        warnings.showwarning = _warner(state)  # restored on the way out
        code = _run(args, state)
    sys.exit(code)


def _run(args: Sequence[str] | None, state: _State) -> int:
    try:
        return int(cli.main(args, obj=state, standalone_mode=False) or 0)
    except click.ClickException as err:
        shown = io.StringIO()
        err.show(shown)
        click.echo(shown.getvalue().replace("Error: ", "error: "), err=True, nl=False)
        return err.exit_code
    except (click.Abort, KeyboardInterrupt) as err:
        failure: BaseException = err
        text, code = f"interrupted. {state.if_interrupted}".strip(), 130
    except Exception as err:
        failure = err
        text, code = render.error_text(err), 2 if isinstance(err, ArgumentError) else 1
    if state.debug:
        traceback.print_exception(failure)
    say(f"error: {text}")
    return code


def _warner(state: _State) -> Callable[..., None]:
    """Give what takes the place of ``warnings.showwarning``: one line a warning, each once."""

    def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
        text = render.as_options(str(message))
        for_people = not issubclass(category, _FOR_DEVELOPERS)
        if (for_people or state.debug) and text not in state.warned:
            state.warned.add(text)
            say(f"warning: {text}")

    return show
