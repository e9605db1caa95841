"""``--series``, ``--pages`` and ``--allow-sparse`` on every command that reads TIFF."""

from __future__ import annotations

import json
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from helpers import make_volume

from scout_dask_io.cli import main

COMMANDS = ("info", "scan", "preview", "convert", "verify")


class Done(NamedTuple):
    exit_code: int
    stdout: str
    output: str


def run(*args: Any) -> Done:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(a) for a in args])
    return Done(int(ended.value.code or 0), out.getvalue(), out.getvalue() + err.getvalue())


def arguments(command: str, path: Path, tmp_path: Path, *options: Any) -> list[Any]:
    out = {"preview": ["o.png"], "convert": ["o.zarr"], "verify": ["o.zarr"]}.get(command, [])
    return [command, path, *(tmp_path / o for o in out), *options, "--json"]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    with tifffile.TiffWriter(tmp_path / "two.tif") as out:
        out.write(make_volume((2, 23, 31))[1], metadata=None)
        out.write(make_volume((2, 17, 19), "u1")[1], metadata=None)
    return tmp_path / "two.tif"


def shape_of(command: str, report: dict[str, Any]) -> list[int] | None:
    return report["folders"][0]["shape"] if command == "scan" else report.get("shape")


def test_each_takes_the_series_that_it_is_given(tmp_path, two):
    for command in COMMANDS:
        done = run(*arguments(command, two, tmp_path, "--series", 1))
        assert done.exit_code == 0, done.output
        shape = shape_of(command, json.loads(done.stdout))
        assert command == "verify" or shape == [17, 19]


def test_each_takes_pages_that_nobody_counts(tmp_path):
    path = tmp_path / "four.tif"
    with tifffile.TiffWriter(path) as out:
        for k, plane in enumerate(make_volume((4, 23, 31))):
            text = b"ImageJ=1.53t\nimages=3\nslices=3\n" if k == 0 else None
            out.write(plane, metadata=None, contiguous=False, description=text)
    for command in COMMANDS:
        for value, n in (("all", 4), ("counted", 3)):
            extra = ["--overwrite"] if command in ("preview", "convert") else []
            refused = run(*arguments(command, path, tmp_path, *extra))
            assert refused.exit_code, command
            assert "--pages all" in refused.output, command
            if command == "verify":
                run(*arguments("convert", path, tmp_path, "--pages", value, "--overwrite"))
            done = run(*arguments(command, path, tmp_path, "--pages", value, *extra))
            assert done.exit_code == 0, done.output
            shape = shape_of(command, json.loads(done.stdout))
            assert command == "verify" or shape == [n, 23, 31]


def test_each_reads_what_was_never_written_if_asked(tmp_path):
    path = tmp_path / "holes.tif"
    plane = np.ones((64, 64), "u2")
    tifffile.imwrite(path, plane, metadata=None, tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for code in (324, 325):
            tag = tif.pages.first.tags[code]
            tag.overwrite([0, *tag.value[1:]])
    for command in COMMANDS:
        refused = run(*arguments(command, path, tmp_path))
        assert refused.exit_code, command
        assert "--allow-sparse" in refused.output, command
        done = run(*arguments(command, path, tmp_path, "--allow-sparse"))
        assert done.exit_code == 0, done.output


def test_view_knows_them_too():
    shown = run("view", "--help").output
    assert all(option in shown for option in ("--series", "--pages", "--allow-sparse"))
