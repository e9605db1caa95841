"""``convert`` of many: what a table names, or sources into a folder. One that fails stops none."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from scout_dask_io.cli.base import State, joined_words, typed
from scout_dask_io.core.formatting import format_count
from scout_dask_io.core.json_document import parse_json
from scout_dask_io.core.messages import Option
from scout_dask_io.errors import ArgumentError, PathNotFoundError
from scout_dask_io.files.location import locate
from scout_dask_io.files.names import format_meant, stem_of, zarr_stands
from scout_dask_io.files.remote import is_url
from scout_dask_io.jobs.report import to_json

#: Columns that every list has, and what a cell of a flag may say.
_SRC, _DST = "src", "dst"
_YES, _NO = ("yes", "true", "1", "x"), ("", "no", "false", "0")
#: What takes a source or a destination of its own, or has no end that others could wait for.
_ALONE = ("list", "into", "label", "follow", "planes", "until", "marker", "json")


@dataclass(frozen=True, slots=True)
class Job:
    """One of many: where from, where to, and its own options as they are typed."""

    src: str
    dst: str
    options: tuple[str, ...]


def read_list(path: str, command: click.Command) -> list[Job]:
    """Give the conversions that a table names.

    Its first line names the columns: ``src``, ``dst``, and options of ``convert`` without their
    dashes. Columns are parted by commas, semicolons or tabs; an empty cell leaves an option to the
    command line.

    Raises
    ------
    PathNotFoundError
        If there is no such file.
    ArgumentError
        If it is no such table: the line, and what is wrong with it.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as err:
        raise PathNotFoundError(f"{path}: no such file, expected a table of conversions") from err
    except UnicodeDecodeError as err:
        raise ArgumentError(
            f"{path} is not text in UTF-8, expected a table: save it as CSV"
        ) from err
    head = text.partition("\n")[0]
    parted = max(",;\t", key=head.count)
    rows = csv.reader(io.StringIO(text), delimiter=parted)
    names = [name.strip().lstrip("-").replace("_", "-") for name in next(rows, [])]
    known = _options(command)
    wrong = [n for n in names if n not in known and n not in (_SRC, _DST)]
    if wrong or not {_SRC, _DST} <= set(names) or len(set(names)) < len(names):
        raise ArgumentError(
            f"{path}: its first line must name the columns, {_SRC}, {_DST} and options of convert "
            f"such as voxel-size, each once; found {', '.join(map(repr, names)) or 'nothing'}"
            + (f", of which {', '.join(map(repr, wrong))} is none" if wrong else "")
        )
    jobs: list[Job] = []
    taken: set[str] = set()
    for cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        where = f"{path}, line {rows.line_num}"
        if len(cells) > len(names):
            raise ArgumentError(
                f"{where}: {len(cells)} cells, expected {len(names)}: put what holds a comma, such "
                'as "4,1.8,1.8", into quotes'
            )
        row = dict(zip(names, (cell.strip() for cell in cells), strict=False))
        src, dst = row.pop(_SRC, ""), row.pop(_DST, "")
        if not src or not dst:
            raise ArgumentError(f"{where}: it names no {'destination' if src else 'source'}")
        place = str(locate(dst))
        if place in taken:
            raise ArgumentError(f"{where}: {dst} is the destination of an earlier line too")
        taken.add(place)
        words = [word for name, cell in row.items() for word in _words(known[name], cell, where)]
        jobs.append(Job(src, dst, tuple(words)))
    if not jobs:
        raise ArgumentError(f"{path} names no conversion: a line each, below the columns' names")
    return jobs


def _options(command: click.Command) -> dict[str, click.Option]:
    options = [p for p in command.params if isinstance(p, click.Option)]
    found = {max(p.opts, key=len).lstrip("-"): p for p in options}
    return {name: p for name, p in found.items() if name not in _ALONE}


def _words(option: click.Option, cell: str, where: str) -> list[str]:
    """Give a cell as what is typed."""
    name = max(option.opts, key=len)
    if not option.is_flag:
        return [name, cell] if cell else []
    if cell.lower() in _YES:
        return [name]
    if cell.lower() in _NO:
        return [max(option.secondary_opts, key=len)] if cell and option.secondary_opts else []
    raise ArgumentError(f"{where}: {name} is yes or no, got {cell!r}")


def is_folder_of_many(dst: str, n_sources: int, storage_options: Mapping[str, Any] | None) -> bool:
    """Tell whether a destination is a folder for what sources become, each by a name of its own.

    One that ends in a slash is, but for a name of a file and for what is Zarr. Of several sources
    it must be.

    Raises
    ------
    ArgumentError
        If there are several sources, and it is or would be something else.
    """
    ends = dst.endswith(("/", os.sep))
    meant = format_meant(dst)
    if n_sources == 1 and (not ends or meant):
        return False
    place = locate(dst, storage_options if is_url(dst) else None)
    found = meant == "Zarr" or zarr_stands(place)
    if n_sources == 1:
        return not found
    why = ""
    if found:
        why = "is one Zarr array or image"
    elif place.is_file():
        why = "is a file"
    elif meant and not place.is_folder:
        why = f"is named as {meant}"
    elif place.on_disk and not ends and not place.is_folder:
        why = f"is not there: make it, or give {dst}/ to have it made"
    if why:
        if dst.isdigit():
            why += ". Numbers of one option have commas between them, as in --chunks 16,128,128"
        raise ArgumentError(f"several sources go into a folder, and {dst} {why}")
    return True


def jobs_into(folder: str, sources: Sequence[str], *, ome: bool) -> list[Job]:
    """Give the conversion of each source to an array or image of its name in a folder.

    Raises
    ------
    ArgumentError
        If two would have one name.
    """
    jobs: dict[str, Job] = {}
    for src in sources:
        name = stem_of(src) + (".ome.zarr" if ome else ".zarr")
        job = Job(src, f"{folder.rstrip('/' + os.sep)}/{name}", ())
        other = jobs.setdefault(name, job)
        if other is not job:
            raise ArgumentError(
                f"{other.src} and {src} would both become {job.dst}: convert them one by one, or "
                "name their destinations in a table, for " + Option("listed")
            )
    return list(jobs.values())


def words_of(command: click.Command, words: Sequence[str], without: str = "") -> list[str]:
    """Give the options among what was typed after a command, as they were typed.

    ``without`` is the name of one that is left out.
    """
    known = {name: p for p in command.params if isinstance(p, click.Option)
             for name in (*p.opts, *p.secondary_opts)}  # fmt: skip
    found: list[str] = []
    rest = iter(joined_words(words))
    for word in rest:
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            continue
        name, equals, _ = word.partition("=")
        taken = [word]
        waits = name.startswith("--") and not equals and _has_value(known[name])
        if not name.startswith("--"):
            # Letters of flags, and one with a value, which may follow at once.
            at = next((k for k, c in enumerate(word[1:], 2) if _has_value(known[f"-{c}"])), 0)
            waits = at == len(word)
        if waits:
            taken.append(next(rest))
        if name != without:
            found += taken
    return found


def _has_value(option: click.Option) -> bool:
    return not (option.is_flag or option.count)


def convert_many(
    jobs: Sequence[Job],
    common: Sequence[str],
    again: Sequence[str],
    *,
    as_json: bool,
    resume: bool,
) -> int:
    """Run conversions one after the other; give the exit code, 1 where one failed.

    With ``resume``, those whose destination stands are kept as they are. ``again`` is what was
    typed to name them.
    """
    from scout_dask_io.cli.run import run_command

    done: list[dict[str, Any]] = []
    for number, job in enumerate(jobs, 1):
        outcome: dict[str, Any] = {"src": job.src, "dst": job.dst}
        if not as_json:
            click.echo(f"{number} of {len(jobs)}: {job.src} -> {job.dst}")
        if resume and _stands(job.dst):
            outcome["outcome"] = "kept"
        else:
            printed = io.StringIO()
            with redirect_stdout(printed) if as_json else nullcontext():
                code = run_command(["convert", job.src, job.dst, *common, *job.options], State())
            if code == 130:
                stop = KeyboardInterrupt()
                stop.add_note(
                    f"{number - 1} of {len(jobs)} conversions were come to. The same command with "
                    "--resume keeps those that are whole and goes on."
                )
                raise stop
            outcome["outcome"] = "failed" if code else "done"
            if as_json:
                found = parse_json(printed.getvalue())
                outcome |= {"error": found["error"]} if code else {"report": found}
        done.append(outcome)
    counts = {how: sum(d["outcome"] == how for d in done) for how in ("done", "kept", "failed")}
    if as_json:
        click.echo(to_json({f"n_{how}": n for how, n in counts.items()} | {"jobs": done}))
        return int(counts["failed"] > 0)
    said = [f"{n} {how}" for how, n in counts.items() if n]
    click.echo(f"{format_count(len(jobs), 'conversion')}: {', '.join(said)}")
    for failed in (d for d in done if d["outcome"] == "failed"):
        click.echo(f"  failed    {failed['src']}")
    if counts["failed"]:
        resumed = () if resume else ("--resume",)
        click.echo("  go on     " + typed("convert", *again, *common, *resumed))
    return int(counts["failed"] > 0)


def _stands(dst: str) -> bool:
    """Tell whether an array or image stands at a destination; it is whole then."""
    from scout_dask_io.jobs.info import info

    try:
        info(dst)
    except Exception:
        return False
    return True
