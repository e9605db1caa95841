"""``preview``: a picture of a volume."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import click

from scout_dask_io.cli.base import command, path_argument, print_report
from scout_dask_io.cli.options import (
    numbers,
    order,
    overwrite,
    selection,
    storage_options,
    voxel_size,
)
from scout_dask_io.core.formatting import Row, format_shape
from scout_dask_io.jobs.report import table, voxel_text


@command(
    path_argument("path"),
    path_argument("out", metavar="OUT.png"),
    click.option(
        "--mode", type=click.Choice(["slices", "max"]), default="slices", show_default=True,
        help="Planes through the middle, or maximum projections.",
    ),
    click.option(
        "--size", type=click.IntRange(64, 4096), metavar="PIXELS", default=512, show_default=True,
        help="Along the longest axis.",
    ),
    click.option(
        "--percentiles", callback=numbers("not a pair of numbers", "1,99.8"), metavar="LOW,HIGH",
        default="1,99.8", show_default=True,
        help="Of the values shown, that are black and full colour.",
    ),
    voxel_size, order, selection, overwrite, storage_options,
)  # fmt: skip
def preview(path: str, out: str, overwrite: bool, as_json: bool, **options: Any) -> None:
    """Make a picture of PATH: middle planes or projections.

    Three planes through its middle, or with --mode max the maximum along each axis.
    PATH is a TIFF file, a folder of planes or of channels, a Zarr array or an
    OME-Zarr image, or the URL of one. Only what the picture needs is read.

    For example:
      scout-dask-io preview brain brain.png
      scout-dask-io preview volume.zarr volume.png --mode max
      scout-dask-io preview s3://lab/a.zarr a.png --storage-option profile=lab
    """
    from scout_dask_io.view.preview import check_output, preview

    check_output(out, overwrite=overwrite)
    made = preview(path, **options)
    written = made.save(out, overwrite=overwrite)
    names = [f.name for f in dataclasses.fields(made) if f.name != "image"]
    report = {"path": written, **{n: getattr(made, n) for n in names}}
    print_report(report, as_json, text=_text(report))


def _text(made: Mapping[str, Any]) -> str:
    """Say what a picture shows: planes, values that are black and full colour, and what was read.

    ``made`` has the fields of a ``Preview`` but the image, and ``path``.
    """
    shown = "the plane"
    if len(made["step"]) > 2:
        places = ", ".join(f"{a} = {k}" for a, k in zip("zyx", made["at"], strict=False))
        shown = f"planes {places}" if made["mode"] == "slices" else "maximum projections"
    names = made["channels"] or [""] * len(made["limits"])
    contrast = [
        f"{name} {low:.4g} to {high:.4g}".strip()
        for name, (low, high) in zip(names, made["limits"], strict=True)
    ]
    level = "" if made["level"] is None else f"level {made['level']}, "
    a_pixel = format_shape(made["step"]) if max(made["step"]) > 1 else "one"
    voxels = "voxel" if a_pixel == "one" else "voxels"
    rows: list[Row] = [
        ("array", format_shape(made["shape"])),
        ("voxel", voxel_text(made["voxel_size"])),
        ("shows", shown),
        ("contrast", ", ".join(contrast)),
        ("read", f"{level}{a_pixel} {voxels} a pixel"),
    ]
    lines = "\n".join(table(rows))
    return f"Wrote {made['path']}\n{lines}"
