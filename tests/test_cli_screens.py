"""What the command line shows: lines that fit, paths as typed, one JSON object, exit codes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from helpers import make_volume, write_planes

from scout_dask_io.cli import main, screen
from scout_dask_io.cli.base import cli
from scout_dask_io.cli.screen import fold, relative
from scout_dask_io.pyramid_writer import write_ome_zarr
from scout_dask_io.zarr_writer import write_zarr

SHAPE = (7, 300, 270)
# Each writes what it names into the working directory, which holds `planes`, `a.zarr`, `i.zarr`.
COMMANDS = {
    "scan": "scan planes",
    "scan of channels": "scan .",
    "info": "info a.zarr",
    "info of an image": "info i.zarr",
    "info of planes": "info planes",
    "plan": "convert planes b.zarr --ome --dry-run",
    "convert": "convert planes b.zarr",
    "convert with a sheet": "convert planes b.zarr --qc",
    "verify": "verify planes a.zarr",
    "verify one": "verify a.zarr",
    "verify an image": "verify i.zarr --deep",
    "verify a difference": "verify other.zarr a.zarr",
    "repair": "repair a.zarr",
    "pyramid": "pyramid a.zarr b.zarr",
    "plan of a pyramid": "pyramid i.zarr b.zarr --levels 3 --dry-run",
    "export": "export i.zarr out --dtype uint8 --scale 0,100",
    "plan of an export": "export i.zarr out --dry-run",
    "export a file": "export a.zarr out.ome.tif",
    "preview": "preview i.zarr out.png",
    "demo": "demo made",
}
FAILURES = {
    "usage": ("export a.zarr", 2),
    "option": ("convert planes b.zarr --chunks many", 2),
    "argument": ("export i.zarr out --level 9", 2),
    "nothing there": ("info nothing", 1),
    "stands already": ("convert planes a.zarr", 1),
    "nothing to verify": ("verify nothing", 2),
    "no manifest": ("verify foreign.zarr", 2),
    "planes alone": ("verify planes", 2),
    "nothing to scan": ("scan a.zarr", 2),
    "nothing to scan there": ("scan nothing", 2),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    volume = make_volume(SHAPE)
    write_planes(folder / "planes", volume)
    write_zarr(folder / "a.zarr", volume)
    write_zarr(folder / "other.zarr", volume + 1)
    write_zarr(folder / "foreign.zarr", volume)
    (folder / "foreign.zarr" / ".scout-manifest").unlink()
    write_ome_zarr(folder / "i.zarr", volume, voxel_size=(4, 1.8, 1.8))
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str, *more: str) -> int:
    """Run a command in this process, and give its exit code."""
    with pytest.raises(SystemExit) as left:
        main([*line.split(), *more])
    return int(left.value.code or 0)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_help_of_each_command_fits_and_names_json(name: str, width: int):
    command = cli.commands[name]
    settings = {**cli.context_settings, "terminal_width": width, "max_content_width": width}
    with click.Context(cli, info_name="scout-dask-io", **settings) as above:
        text = command.get_help(click.Context(command, above, name))
    assert max(map(len, text.splitlines())) <= width
    assert "--json" in text
    assert "For example:\n" in text
    assert not re.search(r"--\w+-\n", text), "an option's name is broken in two"


@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_each_report_fits_on_a_terminal(
    here: Path, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    width = 80
    monkeypatch.setattr(screen, "columns", lambda stream: width)
    assert run(line) in (0, 1)
    out, err = capsys.readouterr()
    assert out
    for shown in (out + err).splitlines():
        # Commands are to be typed as they stand, and no word is broken.
        assert len(shown) <= width or screen._COMMAND.search(shown), shown
    assert f"{here}/" not in out


@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_json_is_one_object_whose_keys_are_words(here: Path, line: str, capsys: Any):
    assert run(line, "--json") in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    assert "error" not in found
    keys = list(_keys(found))
    assert keys
    # `compressions` of a scan counts by the names of codecs.
    assert [k for k in keys if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", k)] == []


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _keys(item)


@pytest.mark.parametrize(("line", "code"), FAILURES.values(), ids=FAILURES)
def test_a_failure_says_so_on_both_ways_and_by_its_code(
    here: Path, line: str, code: int, capsys: Any
):
    before = sorted(p.name for p in here.iterdir())
    assert run(line) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("error: ") == 1
    assert run(line, "--json") == code
    out, again = capsys.readouterr()
    assert again == err
    error = json.loads(out)["error"]
    assert set(error) == {"type", "message"}
    told = relative(err.split("error: ")[1]).split()
    assert told == relative(error["message"]).split()
    assert sorted(p.name for p in here.iterdir()) == before


@pytest.mark.parametrize(
    ("line", "width", "meant"),
    [
        ("  took      0.5 s, 70 MB/s", 80, "  took      0.5 s, 70 MB/s"),
        ("  took      0.5 s, 70 MB/s and so on", 24,
         "  took      0.5 s, 70\n            MB/s and so\n            on"),
        ("error: a/b holds an array. Choose another", 30,
         "error: a/b holds an array.\n  Choose another"),
        ("a/" * 30, 40, "a/" * 30),
        ("one two " * 9, 0, "one two " * 9),
    ],
)  # fmt: skip
def test_lines_are_broken_between_words_under_their_value(line: str, width: int, meant: str):
    assert fold(line, width) == meant


def test_paths_below_the_working_directory_are_shown_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert relative(f"{tmp_path}/a b.zarr, '{tmp_path}/c' {tmp_path}") == (
        f"a b.zarr, 'c' {tmp_path}"
    )
    assert relative(f"/x{tmp_path}/a") == f"/x{tmp_path}/a"
    assert relative(f"{tmp_path}2/a") == f"{tmp_path}2/a"
    monkeypatch.chdir("/")
    assert relative("/a/b") == "/a/b"


def test_view_ends_quietly_when_it_is_interrupted_while_opening(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    page = pytest.importorskip("scout_dask_io.view.page")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "viewer", interrupted)
    assert run("view a.zarr") == 0
    assert capsys.readouterr() == ("", "\n")
