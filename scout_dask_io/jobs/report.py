"""What the jobs report, as text for people.

What the jobs report, as JSON.

Errors and commands in the words of the command line.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scout_dask_io.core.formatting import format_count, format_nbytes, format_s, format_shape
from scout_dask_io.errors import ScoutIOError

if TYPE_CHECKING:
    from scout_dask_io.core.grid import Region, Shape
    from scout_dask_io.core.plan import WritePlan
    from scout_dask_io.core.source import FilledPlane
    from scout_dask_io.core.voxel_size import VoxelSize
    from scout_dask_io.jobs.convert import ConvertPlan, ConvertReport, QcReport
    from scout_dask_io.jobs.demo import DemoReport
    from scout_dask_io.jobs.verify import VerifyReport


#: Filled planes that a text names one by one.
_FILLED_NAMED = 10
#: Sentences on the planes that a summary has.
_FINDINGS = 6


def convert_text(report: ConvertReport, src: str) -> str:
    """Say what was written, how fast, and how to check it."""
    smaller = f", {report.ratio:.2f} times smaller" if report.ratio > 1 else ""
    rows = [
        ("array", array_text(report)),
        ("levels", levels_text(report.levels)),
        ("chunks", f"{format_count(report.n_chunks, 'chunk')} of {format_shape(report.chunks)}"),
        ("on disk", format_nbytes(report.stored_nbytes) + smaller),
        ("took", f"{format_s(report.elapsed_s)}, {format_nbytes(report.nbytes_per_s)}/s"),
        ("resumed", _resumed(report)),
        *filled_rows(report.filled),
        *_qc(report.qc),
        ("check it", command("verify", src, report.path)),
    ]
    return f"Wrote {report.path}\n{table(rows)}"


def levels_text(shapes: Sequence[Shape]) -> str:
    """Say how many levels there are, and their shapes; empty where there are none."""
    return f"{len(shapes)}: {', '.join(map(format_shape, shapes))}" if shapes else ""


def _resumed(report: ConvertReport) -> str:
    if not report.n_resumed:
        return ""
    return f"{report.n_resumed:,} of {format_count(report.n_units, 'write unit')} were finished"


def filled_text(filled: Sequence[FilledPlane]) -> list[str]:
    """Say which planes hold the fill value and why, a line each after the first; empty if none."""
    if not filled:
        return []
    lines = [f"{format_count(len(filled), 'plane')} could not be read; they hold the fill value:"]
    for f in filled[:_FILLED_NAMED]:
        where = f"plane {', '.join(map(str, f.plane))}" if f.plane else "in some plane"
        lines.append(f"  {where}: {f.file} ({f.reason})")
    if len(filled) > _FILLED_NAMED:
        lines.append(f"  and {len(filled) - _FILLED_NAMED:,} more (--json names all)")
    return lines


def filled_rows(filled: Sequence[FilledPlane]) -> list[tuple[str, str]]:
    """Give :func:`filled_text` as rows of a table."""
    return [("filled" if n == 0 else "", line) for n, line in enumerate(filled_text(filled))]


def _qc(qc: QcReport | None) -> list[tuple[str, str]]:
    if qc is None:
        return []
    found = qc.findings or ("nothing stands out: no blank, identical or saturated plane",)
    lines = list(found[:_FINDINGS])
    if len(found) > _FINDINGS:
        lines.append(f"and {len(found) - _FINDINGS} more")
    rows = [("planes" if n == 0 else "", line) for n, line in enumerate(lines)]
    return [*rows, ("sheet", qc.sheet)]


def plan_text(plan: ConvertPlan) -> str:
    """Say what a conversion would do, and what it would take."""
    write = plan.write
    tasks = "those that publish the image" if plan.levels else "one that publishes the array"
    rows = [
        ("array", array_text(write)),
        ("levels", levels_text(plan.levels)),
        ("channels", ", ".join(plan.channels)),
        ("voxel", voxel_text(plan.voxel_size)),
        ("chunks", f"{format_count(write.n_chunks, 'chunk')} of {format_shape(write.chunks)}"),
        ("shards", _shards(write)),
        ("units", f"{format_count(write.n_units, 'write unit')} of {format_shape(write.unit)}"),
        ("tasks", f"{plan.n_tasks:,}: one a unit, and {tasks}"),
        ("workers", f"{format_count(write.nb_workers, 'task')} at a time"),
        ("memory", memory_text(write)),
        ("reads", read_text(write)),
        ("files", f"{plan.n_files:,} at most"),
        ("sheet", f"{plan.qc_sheet}, and a JSON file" if plan.qc_sheet else ""),
        ("advice", plan.advice),
        ("disk", room_text(write.nbytes, plan.free_nbytes)),
        *filled_rows(plan.filled),
        ("replaces", f"the array at {plan.destination}" if plan.replaces else ""),
        ("resumes", "the unfinished write beside it" if plan.resumes else ""),
    ]
    return f"Would convert {plan.source} to {plan.destination}; nothing was written\n{table(rows)}"


def memory_text(plan: Any) -> str:
    """Say what a plan is expected to use, and may."""
    return (
        f"{format_nbytes(plan.projected_mem)} projected peak, {format_nbytes(plan.max_mem)} "
        "allowed, beside Python itself"
    )


def read_text(plan: Any) -> str:
    """Say how much a plan reads, and how often."""
    again = ""
    if plan.read_amplification > 1.005:
        again = f", each pixel {plan.read_amplification:.2f} times on average"
    return format_nbytes(plan.read_nbytes) + again


def room_text(nbytes: int, free_nbytes: int | None) -> str:
    """Say what is to be written, and what is free there."""
    free = "" if free_nbytes is None else f", {format_nbytes(free_nbytes)} free"
    return f"{format_nbytes(nbytes)} before compression{free}"


def voxel_text(size: VoxelSize | None) -> str:
    """Say how large a voxel is and who says so; empty where it is not known."""
    if size is None:
        return ""
    return f"{size}, as given" if size.source == "given" else f"{size}, by {size.source}"


def _shards(write: WritePlan) -> str:
    if write.shards is None:
        return ""
    return f"{format_count(write.n_stored, 'shard')} of {format_shape(write.shards)}"


def verify_text(report: VerifyReport) -> str:
    """Say whether two arrays are equal; if not, where they differ first."""
    lines = [f"{report.src} and {report.dst}: {_verdict(report)}"]
    if report.mismatch:
        return "\n".join([*lines, f"  {report.mismatch}"])
    lines += [
        f"  {_region(r.region)}: {format_count(r.n_differing, 'pixel')}, the first at "
        f"{_index(r.index)}: {r.src_value} and {r.dst_value}"
        for r in report.regions
    ]
    rest = report.n_regions - len(report.regions)
    if rest:
        lines.append(f"  and {format_count(rest, 'more region')}")
    rate = format_nbytes(report.nbytes / max(report.elapsed_s, 1e-9))
    lines.append(
        f"  compared {format_nbytes(report.nbytes)} in {format_s(report.elapsed_s)}, {rate}/s"
    )
    lines += [f"  {line}" for line in filled_text(report.filled)]
    return "\n".join(lines)


def _verdict(report: VerifyReport) -> str:
    if report.mismatch:
        return "different"
    if report.equal:
        return f"equal in all {format_count(report.n_voxels, 'pixel')}"
    return (
        f"different in {report.n_differing:,} of {format_count(report.n_voxels, 'pixel')}, in "
        f"{format_count(report.n_regions, 'region')}"
    )


def _region(region: Region) -> str:
    return "[" + ", ".join(f"{s.start}:{s.stop}" for s in region) + "]"


def _index(index: Shape) -> str:
    return "[" + ", ".join(map(str, index)) + "]"


def preview_text(made: Mapping[str, Any]) -> str:
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
    rows = [
        ("array", format_shape(made["shape"])),
        ("voxel", voxel_text(made["voxel_size"])),
        ("shows", shown),
        ("contrast", ", ".join(contrast)),
        ("read", f"{level}{a_pixel} {voxels} a pixel"),
    ]
    return f"Wrote {made['path']}\n{table(rows)}"


def demo_text(report: DemoReport) -> str:
    """Say what was made and found, and what to try next."""
    convert, planes, zarr = report.convert, report.planes, report.zarr
    rows = [
        ("planes", f"{report.n_files} TIFF files, {format_nbytes(convert.nbytes)}: {planes}"),
        (
            "zarr",
            f"{format_count(convert.n_chunks, 'chunk')} of {format_shape(convert.chunks)}, "
            f"{format_nbytes(convert.stored_nbytes)}: {zarr}",
        ),
        ("array", array_text(convert)),
        ("took", f"{format_s(convert.elapsed_s)} to convert"),
        ("verify", _verdict(report.verify)),
    ]
    cubes = str(Path(zarr).with_name("cubes.zarr"))
    tries = [
        ("What is in it:", command("info", zarr)),
        ("Other chunks, less memory:",
         command("convert", planes, cubes, "--chunks", "32,128,128", "--max-mem", "100MB")),
        ("Back to TIFF planes:", command("export", zarr, str(Path(zarr).with_name("planes")))),
        ("A picture of it:",
         command("preview", zarr, str(Path(zarr).with_suffix(".png")), "--mode", "max")),
    ]  # fmt: skip
    lines = [f"  {what}\n    {how}" for what, how in tries]
    return "\n".join(["Done", table(rows), "", "Try next", *lines])


def array_text(report: Any) -> str:
    """Give shape, dtype and size of what has these."""
    from numpy import dtype  # here, since the command line's --help does without

    name = dtype(report.dtype).name
    return f"{format_shape(report.shape)}, {name}, {format_nbytes(report.nbytes)}"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Give rows as lines, names before values; those without a value are left out."""
    return "\n".join(f"  {name:<10}{value}" for name, value in rows if value)


def to_json(report: Any) -> str:
    """Give a report's fields and properties as JSON; sizes are ``_nbytes``, times ``_s``.

    Examples
    --------
    >>> print(to_json({"shape": (30, 510, 667), "filled": ()}))
    {
      "shape": [30, 510, 667],
      "filled": []
    }
    """
    return _laid_out(_plain(report), "")


def _laid_out(value: Any, indent: str) -> str:
    """Give JSON with a line for each item, but lists that fit in a line in one."""
    inner = f"{indent}  "
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(k)}: {_laid_out(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{indent}}}"
    text = json.dumps(value, default=str)
    if not isinstance(value, list) or (len(inner + text) < 80 and "{" not in text):
        return text
    return "[\n" + ",\n".join(inner + _laid_out(v, inner) for v in value) + f"\n{indent}]"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        names += [n for n, v in vars(type(value)).items() if isinstance(v, property)]
        return {n: _plain(getattr(value, n)) for n in names if not n.startswith("_")}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, slice):
        return [value.start, value.stop]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has neither NaN nor infinities
    return value


def error_text(err: Exception) -> str:
    """Give one paragraph on an error: what went wrong, and what to do where that is known."""
    kept = notes_text(err)
    if isinstance(err, ScoutIOError):
        return f"{as_options(str(err))} {kept}".strip()
    if isinstance(err, MemoryError):
        return "out of memory: allow less with --max-mem, or use fewer --workers"
    if isinstance(err, OSError):
        where = f"{err.filename}: " if err.filename else ""
        text = f"{where}{err.strerror or str(err) or type(err).__name__}"
        return f"{text}. {kept}".removesuffix(". ")
    text = f"unexpected {type(err).__name__}: {err} (--debug shows where it comes from)"
    return f"{text}. {kept}".removesuffix(". ")


def notes_text(err: BaseException) -> str:
    """Give what was noted on an error on its way: what a job that failed has left."""
    return as_options(" ".join(getattr(err, "__notes__", ())))


def as_options(message: str) -> str:
    """Name a message's arguments as the command line has them.

    Examples
    --------
    >>> as_options("give overwrite=True, or raise max_mem")
    'give --overwrite, or raise --max-mem'
    >>> as_options("give dtype= one of them, with scale=(low, high)")
    'give --dtype one of them, with --scale LOW,HIGH'
    """
    message = re.sub(r"\b(deep|imagej|ome|overwrite|qc|resume)=True\b", r"--\1", message)
    message = re.sub(r"\b(codec|compress|order|missing|mode)=(['\"]?)(\w+)\2", r"--\1 \3", message)
    message = re.sub(r"\bdtype=(?!\w)", "--dtype", message)
    message = re.sub(r"\bvoxel_size=(?!\w)", "--voxel-size", message)
    message = re.sub(r"\b(n_)?levels=(?!\w)|\bn_levels\b", "--levels", message)
    message = message.replace("scale=(low, high)", "--scale LOW,HIGH")
    message = re.sub(r"\bzarr_format=3\b", "--zarr-format 3", message)
    message = re.sub(r"\b(max_mem|nb_workers)=(?=\w)", r"\1 ", message)
    return re.sub(r"\bnb_workers\b", "--workers", re.sub(r"\bmax_mem\b", "--max-mem", message))


def command(*args: str) -> str:
    """Give a command that can be typed as it stands, however this one was started."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        program = [this_python(), "-m", "scout_dask_io"]
    else:
        program = ["scout-dask-io" if shutil.which("scout-dask-io") else str(started)]
    return shlex.join([*program, *args])


def this_python() -> str:
    """Give what to type for the Python that runs."""
    found = shutil.which("python")
    # Not by what the links point to: environments share an interpreter.
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    return "python" if same else sys.executable
