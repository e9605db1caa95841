"""Errors and commands in the words of the command line."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

from scout_dask_io.errors import ScoutIOError

__all__ = ["as_options", "command", "error_text", "notes_text", "this_python"]


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
