"""Options that several commands share."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import click

from scout_dask_io.cli.base import State, flag, path_argument
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.run.progress import Events


def _extents(text: str) -> tuple[int, ...]:
    """Give the extents of chunks or shards from a text such as ``64,64,64``."""
    try:
        extents = tuple(int(part) for part in text.split(","))
    except ValueError:
        extents = ()
    if not extents or any(n < 1 and n != -1 for n in extents):
        raise click.BadParameter(f"{text!r} is not a chunk shape: give e.g. 64,64,64.")
    return extents


def numbers(what: str, example: str, above: float = -math.inf) -> Callable[..., Any]:
    """Give the callback of an option of as many numbers as its example has, or of none."""

    def parse(_: click.Context, __: click.Parameter, text: str | None) -> tuple[float, ...] | None:
        if text is None:
            return None
        try:
            found = tuple(float(part) for part in text.split(","))
        except ValueError:
            found = ()
        if len(found) != len(example.split(",")) or not all(above < v < math.inf for v in found):
            raise click.BadParameter(f"{text!r} is {what}: give e.g. {example}.")
        return found

    return parse


def _options(ctx: click.Context, option: Any, given: tuple[str, ...]) -> dict[str, Any] | None:
    """Give ``storage_options`` from texts: ``key=value``, or a JSON object."""
    found: dict[str, Any] = {}
    for text in given:
        try:
            if text.lstrip().startswith("{"):
                found |= parse_json(text)
                continue
            key, equals, value = text.partition("=")
            if not (key and equals):
                raise ValueError
        except ValueError:
            # What was given may be a secret.
            message = "expected key=value, or a JSON object."
            raise click.BadParameter(message) from None
        # Not numbers: keys and passwords may look like them. A JSON object has numbers.
        found[key] = parse_json(value) if value in ("true", "false", "null") else value
    return found or None


def _set_events(ctx: click.Context, _: click.Parameter, kind: str) -> None:
    if kind == "json":
        ctx.ensure_object(State).events = Events(sys.stderr)


_quiet = flag("-q", "--quiet", help="No progress, no summary.")
_progress = click.option(
    "--progress", type=click.Choice(["auto", "json"]), default="auto", show_default=True,
    expose_value=False, callback=_set_events, is_eager=True,
    help="What stderr tells meanwhile: a bar on a terminal and a few lines elsewhere, or for "
    "programs a JSON object a line, warnings and errors too.",
)  # fmt: skip


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add how a long job is told of."""
    return _quiet(_progress(function))


overwrite = flag("--overwrite", help="Replace what stands there once the new one is whole.")
src_dst = (path_argument("src"), path_argument("dst"))
listed = click.option(
    "--list", "listed", metavar="CSV", type=click.Path(),
    help="Convert what a table names, a line each: columns src, dst, and options such as "
    "voxel-size. One that fails stops no other; --resume keeps those that stand.",
)  # fmt: skip
resume = flag("--resume", help="Finish a write of DST that was interrupted.")
durable = flag("--durable", help="Sync all files to the disk, for power failures; slower.")
missing = click.option(
    "--missing", type=click.Choice(["error", "fill"]), default="error", show_default=True,
    help="Planes that cannot be read: name them all and stop, or write the fill value there "
    "and keep it on record.",
)  # fmt: skip
qc = flag(
    "--qc",
    help="Put a sheet of the planes beside DST, DST.qc.html and .qc.json: intensities, blank, "
    "identical and saturated planes, a histogram, projections.",
)
deep = flag("--deep", help="Decode the chunks too, where there is no DST.")
update = flag(
    "--update",
    help="DST was converted from SRC with these options: write again only what planes that "
    "changed, came or went have touched.",
)
content = flag("--content", help="With --update: compare pixels, not sizes and times of files.")
dry_run = flag("--dry-run", help="Print the plan; write nothing.")
ome = flag(
    "--ome",
    help="An OME-Zarr image with a pyramid of levels: version 0.4, or 0.5 with --zarr-format 3.",
)
labels = click.option(
    "--labels/--no-labels", default=None, show_default="what the source states",
    help="The pixels are labels, which a pyramid does not average.",
)  # fmt: skip
labels_too = flag(
    "--labels-too", help="Convert the labels that the source image lists, too; they are left else."
)
into = click.option(
    "--into", type=click.Path(), metavar="IMAGE",
    help="In the place of DST: an OME-Zarr image that stands, below which SRC becomes the labels "
    "that --label names.",
)  # fmt: skip
label = click.option("--label", metavar="NAME", help="The name of the labels, with --into.")


def _levels(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> Any:
    """Give how many levels there are, or the shapes of those below the full one."""
    words = [word for text in texts for word in text.split()]
    if len(words) != 1 or "," in words[0]:
        return _each(words, "how many levels there are, nor their shapes", "4 or 150,1024,1024")
    if not words[0].isdecimal() or int(words[0]) < 1:
        raise click.BadParameter(f"{words[0]!r} is not how many levels there are: give e.g. 4.")
    return int(words[0])


def _factors(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> Any:
    """Give by what each level is smaller than the one above."""
    words = [word for text in texts for word in text.split()]
    return _each(words, "by what a level is smaller", "1,2,2 2,2,2")


def _each(words: list[str], what: str, example: str) -> list[tuple[int, ...]] | None:
    try:
        return [tuple(int(part) for part in word.split(",")) for word in words] or None
    except ValueError:
        given = " ".join(words)
        raise click.BadParameter(f"{given!r} is not {what}: give e.g. {example}.") from None


levels = click.option(
    "--levels", multiple=True, callback=_levels, metavar="N", show_default="down to 256 pixels",
    help="Levels of the pyramid, with the full one; or the shape of each below it, e.g. "
    "150,1024,1024 75,512,512.",
)  # fmt: skip
factors = click.option(
    "--factors", multiple=True, callback=_factors, metavar="FACTORS",
    help="In the place of --levels: by what each level is smaller than the one above it, e.g. "
    "1,2,2 2,2,2 for two levels below the full one.",
)  # fmt: skip
workers = click.option(
    "-n", "--workers", "nb_workers", type=click.IntRange(min=1), metavar="N",
    show_default="one a core", help="Threads on this machine.",
)  # fmt: skip
_series = click.option(
    "--series", type=click.IntRange(min=0), metavar="N",
    help="Which image of TIFF files that hold several; the first by default.",
)  # fmt: skip
_pages = click.option(
    "--pages", type=click.Choice(["all", "counted"]),
    help="All pages of a TIFF file that are whole, one after the other, or those that its "
    "metadata count, where the two differ; which is an error by default.",
)  # fmt: skip
_allow_sparse = flag("--allow-sparse", help="Strips and tiles that were never written are zeros.")
order = click.option(
    "--order", type=click.Choice(["alphabetical", "natural"]), default="alphabetical",
    show_default=True, help="How planes in a folder are sorted; natural puts z2 before z10.",
)  # fmt: skip
_pattern = click.option(
    "--pattern", metavar="PATTERN",
    help="How names of files carry the axes, e.g. '{name}_C{c}_Z{z}.tif', with {t} and {position} "
    "too, or a regular expression; found by itself where one reading fits.",
)  # fmt: skip
_position = click.option(
    "--position", metavar="NAME", help="Which position of a dataset of several, as info lists them."
)
_names_help = (
    "Names of files that tell of gaps, of no members or of several stacks: {} warn, or stack the "
    "files as they are whatever they are named."
)
_names = click.option(
    "--names", type=click.Choice(["check", "allow", "ignore"]), default="check", show_default=True,
    help=_names_help.format("stop,"),
)  # fmt: skip
_names_read = click.option(
    "--names", type=click.Choice(["allow", "ignore"]), default="allow", show_default=True,
    help=_names_help.format("read what is there and"),
)  # fmt: skip


def selection(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says which files, images and pages are read, and how their names are."""
    for option in (_allow_sparse, _pages, _series, _names_read, _position, _pattern):
        function = option(function)
    return function


def selection_checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the same, where odd names are refused."""
    for option in (_allow_sparse, _pages, _series, _names, _position, _pattern):
        function = option(function)
    return function


def _counts(_: click.Context, __: click.Parameter, text: str | None) -> dict[str, int] | None:
    """Give the planes along each axis from a text such as ``400`` or ``c=2,z=400``."""
    if text is None:
        return None
    found: dict[str, int] = {}
    for part in text.split(","):
        axis, equals, number = part.strip().partition("=")
        axis, number = (axis, number) if equals else ("z", axis)
        if axis not in ("t", "c", "z") or axis in found or not number.isdecimal():
            raise click.BadParameter(f"{text!r} counts no planes: give 400, or c=2,z=400.")
        found[axis] = int(number)
    return found


_UNITS_S = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(_: click.Context, __: click.Parameter, text: str) -> float:
    """Give seconds from a text such as ``0.5``, ``30s``, ``30m`` or ``2h``."""
    number, unit = text.strip().rstrip("smh"), text.strip()[-1:]
    try:
        seconds = float(number) * _UNITS_S[unit if unit in _UNITS_S else ""]
        if not 0 <= seconds < math.inf or len(text.strip()) - len(number) > 1:
            raise ValueError
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time: give e.g. 2, 30s, 30m or 2h.") from None
    return seconds


follow_planes = click.option(
    "--planes", callback=_counts, metavar="N",
    help="With --follow: how many planes there will be; of several axes e.g. c=2,z=400.",
)  # fmt: skip
_until = click.option(
    "--until", metavar="FILE", type=click.Path(),
    help="With --follow, in the place of --planes: a file that is there once no plane is to come.",
)  # fmt: skip
_marker = click.option(
    "--marker", metavar="SUFFIX",
    help="With --follow: a plane counts once a file of its name and this suffix, e.g. .done, is "
    "there.",
)  # fmt: skip


def follow(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add what says how a folder is followed that still grows."""
    for name, default, text in (
        ("idle", "30m", "give up when nothing comes for so long"),
        ("poll", "0.5s", "how often folders are listed"),
        ("settle", "2s", "how long a file must have been left alone before it counts"),
    ):
        function = click.option(
            f"--{name}", f"{name}_s", metavar="TIME", default=default, show_default=True,
            callback=_seconds, help=f"With --follow: {text}.",
        )(function)  # fmt: skip
    return flag("--follow", help="SRC is still being written: convert planes as they arrive.")(
        follow_planes(_until(_marker(function)))
    )


chunks = click.option(
    "--chunks", type=_extents, metavar="EXTENTS", show_default="64,64,64",
    help="Extents of a chunk along the last axes, e.g. 32,256,256; -1 is a whole axis.",
)  # fmt: skip
zarr_format = click.option(
    "--zarr-format", type=click.Choice(["2", "3"]), default="2", show_default=True,
    callback=lambda ctx, option, value: int(value),
    help="2 is read by more programs; 3 can have shards.",
)  # fmt: skip
shards = click.option(
    "--shards", type=_extents, metavar="EXTENTS",
    help="Extents of what one file holds, as multiples of the chunks, e.g. 512,512,512: for "
    "arrays of over a million chunks. Zarr format 3 alone has them.",
)  # fmt: skip


codec = click.option(
    "--codec", type=click.Choice(["zstd", "lz4", "none"]),
    show_default="zstd, and lz4 for the lower levels of an image",
    callback=lambda ctx, option, value: value or "default",
    help="Compression; lz4 is faster, its files are a little larger.",
)  # fmt: skip
voxel_size = click.option(
    "--voxel-size", callback=numbers("not a voxel size", "4,1.8,1.8", above=0),
    metavar="Z,Y,X", show_default="what the source states",
    help="Size of a voxel in micrometres, e.g. 4,1.8,1.8.",
)  # fmt: skip
axes = click.option(
    "--axes", metavar="LETTERS", show_default="what the source states, or by their number",
    help="What the axes of SRC are, a letter each: t, c, z, y, x, e.g. tyx.",
)  # fmt: skip
storage_options = click.option(
    "--storage-option", "storage_options", multiple=True, callback=_options,
    metavar="KEY=VALUE",
    help="What it takes to reach a URL such as s3://bucket/a.zarr, e.g. anon=true or "
    "endpoint_url=https://…; or all as a JSON object. May be given several times.",
)  # fmt: skip
max_mem = click.option(
    "--max-mem", metavar="SIZE", show_default="a quarter of what is free",
    help="Memory to use at most, e.g. 2GB.",
)  # fmt: skip
scheduler = click.option(
    "--scheduler", metavar="ADDRESS",
    help="Run on a dask cluster, e.g. tcp://10.0.0.1:8786; its workers must see the same paths.",
)  # fmt: skip
