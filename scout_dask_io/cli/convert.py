"""``convert``: whatever holds pixels into a chunked Zarr array, or an OME-Zarr image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from scout_dask_io.cli import options as opt
from scout_dask_io.cli.base import (
    State,
    as_it_was,
    command,
    given_to,
    path_argument,
    print_report,
    scheduling,
    typed,
)
from scout_dask_io.cli.batch import (
    Job,
    convert_many,
    is_folder_of_many,
    jobs_into,
    read_list,
    words_of,
)
from scout_dask_io.core.messages import joined
from scout_dask_io.jobs.report import table

_FOLLOWING = ("planes", "until", "marker", "settle_s", "poll_s", "idle_s")


def _ends(
    paths: tuple[str, ...], into: str | None, label: str | None
) -> tuple[tuple[str, ...], str]:
    """Give the sources, and where the pixels go: to DST, or below the image they are labels of."""
    if not paths:
        raise click.UsageError("Missing argument 'SRC'.")
    if (into is None) != (label is None):
        raise click.UsageError("--into IMAGE and --label NAME go together: give both.")
    if into is not None:
        if len(paths) > 1:
            raise click.UsageError("--into takes the place of DST: give one of the two, and a SRC.")
        return paths, into
    if len(paths) == 1:
        raise click.UsageError("Give DST, or --into IMAGE in its place.")
    return paths[:-1], paths[-1]


@command(
    path_argument("paths", nargs=-1, metavar="SRC... DST"), opt.listed,
    opt.ome, opt.labels, opt.labels_too,
    opt.into, opt.label, opt.levels, opt.factors, opt.chunks, opt.codec, opt.zarr_format,
    opt.shards, opt.voxel_size, opt.axes, opt.workers, opt.max_mem, opt.overwrite, opt.resume,
    opt.order, opt.missing, opt.selection_checked, opt.follow, opt.update, opt.content,
    opt.qc, opt.durable, opt.dry_run, opt.scheduler, opt.storage_options, opt.quiet,
)  # fmt: skip
@click.pass_obj
def convert(
    state: State,
    /,
    paths: tuple[str, ...],
    listed: str | None,
    into: str | None,
    dry_run: bool,
    scheduler: str | None,
    quiet: bool,
    as_json: bool,
    follow: bool,
    update: bool,
    content: bool,
    **options: Any,
) -> None:
    """Convert SRC to a Zarr array, or an OME-Zarr image, at DST.

    DST is an array in chunks; with --ome, an image with a pyramid of levels. SRC is
    a TIFF file, a folder of TIFF planes, a folder with one folder of planes for
    each channel, folders whose names carry channel, time, z or position, a Zarr
    array, an array in an HDF5 file (file.h5::/path), or a .npy file. Either may be a
    URL; HDF5 and .npy files lie on a disk. Where DST ends in a slash it is a folder,
    and so it is of several SRC: each goes there by its name, with .zarr or .ome.zarr.

    For example:
      scout-dask-io convert brain/ch0 ch0.zarr
      scout-dask-io convert brain brain.zarr --chunks 64,256,256 --max-mem 2GB
      scout-dask-io convert brain brain.zarr --dry-run
      scout-dask-io convert brain brain.ome.zarr --ome --voxel-size 4,1.8,1.8
      scout-dask-io convert nuclei.tif nuclei.ome.zarr --ome --labels --levels 3
      scout-dask-io convert brain brain.ome.zarr --ome --factors 1,2,2 2,2,2 2,4,4
      scout-dask-io convert file.h5::/t00000/s00/0/cells cells.zarr
      scout-dask-io convert cells.tif --into brain.ome.zarr --label cells
      scout-dask-io convert brain s3://lab/brain.zarr --storage-option profile=lab
      scout-dask-io convert s3://lab/brain brain.zarr --storage-option anon=true
      scout-dask-io convert brain brain.zarr --zarr-format 3 --shards 512,512,512
      scout-dask-io convert brain brain.zarr --missing fill --qc
      scout-dask-io convert brain brain.zarr --scheduler tcp://10.0.0.1:8786
      scout-dask-io convert brain/ch0 ch0.zarr --follow --planes 400
      scout-dask-io convert brain/ch0 ch0.zarr --update --dry-run
      scout-dask-io convert brain embryo s3://lab/fish out/ --ome --resume
      scout-dask-io convert --list jobs.csv --ome --resume
    """
    if listed is not None:
        _convert_list(state, listed, (paths, into), as_json=as_json, follow=follow, **options)
        return
    sources, dst = _ends(paths, into, options["label"])
    if into is None and is_folder_of_many(dst, len(sources), options["storage_options"]):
        jobs = jobs_into(dst, sources, ome=options["ome"])
        if len(jobs) > 1:
            if follow:
                raise click.UsageError("--follow goes with one SRC: each has an end of its own.")
            resume = options["resume"]
            _convert_many(state, jobs, (*sources, dst), as_json=as_json, resume=resume)
            return
        dst = jobs[0].dst
    (src,) = sources
    state.if_interrupted = as_it_was(dst)
    following = {name: options.pop(name) for name in _FOLLOWING}
    if content and not update:
        raise click.UsageError("--content goes with --update.")
    if update and (follow or into is not None):
        raise click.UsageError("--update goes with neither --follow nor --into.")
    if follow:
        if dry_run or scheduler is not None or into is not None:
            raise click.UsageError(
                "--follow goes with none of --dry-run, --scheduler and --into: it runs here, into "
                "an array or image of its own."
            )
        state.if_interrupted = (
            "What is converted is kept: the same command with --resume goes on, and begins where "
            "nothing is."
        )
        _follow(
            src,
            dst,
            following,
            options,
            progress=state.progress(quiet),
            quiet=quiet,
            as_json=as_json,
        )
        return
    if any(following[name] is not None for name in ("planes", "until", "marker")):
        raise click.UsageError("--planes, --until and --marker go with --follow.")
    from scout_dask_io.jobs.convert import plan_convert
    from scout_dask_io.jobs.update import plan_update

    with scheduling(scheduler, options["nb_workers"]):
        plan: Any
        if update:
            plan = plan_update(src, dst, content=content, **options)
        else:
            plan = plan_convert(src, dst, **options)
        if dry_run:
            print_report(plan, as_json)
            return
        report = plan.run(progress=state.progress(quiet))
    checked = dst if into is None else f"{dst.rstrip('/')}/labels/{options['label']}"
    check = _check(src, checked, options)
    print_report(report, as_json, quiet, joined("\n", [report.render(), check]))


def _convert_list(
    state: State, path: str, given: tuple[Any, ...], *, as_json: bool, follow: bool, **options: Any
) -> None:
    """Convert what a table names."""
    if any(given) or follow:
        raise click.UsageError("--list names sources and destinations: it goes with no SRC, DST, "
                               "--into or --follow.")  # fmt: skip
    jobs = read_list(path, click.get_current_context().command)
    _convert_many(state, jobs, ("--list", path), as_json=as_json, resume=options["resume"])


def _convert_many(
    state: State, jobs: Sequence[Job], again: Sequence[str], *, as_json: bool, resume: bool
) -> None:
    """Convert one after the other, each with the options that were typed for all."""
    context = click.get_current_context()
    words = state.args[state.args.index("convert") + 1 :]
    common = words_of(context.command, words, without="--list")
    context.exit(convert_many(jobs, common, again, as_json=as_json, resume=resume))


def _follow(
    src: str,
    dst: str,
    how: dict[str, Any],
    options: dict[str, Any],
    *,
    progress: Any,
    quiet: bool,
    as_json: bool,
) -> None:
    """Convert planes as they arrive, and say what came of it."""
    if (how["planes"] is None) == (how["until"] is None):
        raise click.UsageError(
            "--follow needs --planes N, how many planes there will be, or --until FILE."
        )
    from scout_dask_io.jobs.follow import follow

    report = follow(src, dst, progress=progress, **how, **options)
    check = _check(src, dst, options)
    print_report(report, as_json, quiet, joined("\n", [report.render(), check]))


def _check(src: str, checked: str, options: dict[str, Any]) -> str:
    """Give the line that tells how to check what was written."""
    (row,) = table([("check it", typed("verify", src, checked, *given_to("verify", options)))])
    return row
