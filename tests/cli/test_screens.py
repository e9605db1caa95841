"""What the command line shows: lines that fit, paths as typed, one JSON object, exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from helpers import make_volume, write_planes

from scout_dask_io.cli import main, screen
from scout_dask_io.cli.base import cli
from scout_dask_io.cli.screen import fold, relative
from scout_dask_io.write.ome_zarr import write_ome_zarr
from scout_dask_io.write.zarr import write_zarr

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
    assert "--json-help" in text
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


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_each_key_of_the_json_is_explained_and_no_other(
    made: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    if name == "view":
        _let_view_end(monkeypatch)
    assert run(f"{name} --json-help") == 0
    cases = explained(capsys.readouterr().out)
    seen = set()
    lines = [line for line in (*COMMANDS.values(), "view a.zarr") if line.split()[0] == name]
    for n, line in enumerate(lines):
        shutil.copytree(made, tmp_path / str(n))
        monkeypatch.chdir(tmp_path / str(n))
        assert run(line, "--json") in (0, 1)
        found = json.loads(capsys.readouterr().out)
        assert isinstance(found, dict)
        fitting = [case for case, keys in cases.items() if fits(found, keys)]
        assert len(fitting) == 1, f"{line} gives {list(found)}"
        seen.update(fitting)
    assert seen == set(cases)


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_help_of_the_json_fits_and_explains_each_key(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    monkeypatch.setattr(shutil, "get_terminal_size", lambda *_: os.terminal_size((width, 25)))
    assert run(f"{name} --json-help") == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= width
    for case, keys in explained(out).items():
        assert keys, case
        # There is more than the type in brackets.
        assert [k for k, text in _walk(keys) if not re.match(r"\w|'|\"", text)] == []
        strange = [k for k, _ in _walk(keys) if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", k)]
        assert strange == []
    assert "`" not in out
    assert '"error"' in out


def explained(page: str) -> dict[str, Any]:
    """Give what a page of ``--json-help`` says: by command a tree of keys, each with its text."""
    cases: dict[str, Any] = {}
    for line in page.splitlines():
        if line.endswith("prints one object:"):
            above: list[Any] = [cases.setdefault(line, {})]
        elif row := re.match(r"((?:  ){1,6})([a-z0-9_]+(?:, [a-z0-9_]+)*)(?: +|$)(.*)", line):
            above = above[: len(row[1]) // 2]
            entry = [row[3], {}]
            above[-1].update(dict.fromkeys(row[2].split(", "), entry))
            above.append(entry[1])
        elif line.startswith(" " * 28):
            entry[0] = f"{entry[0]} {line.strip()}".strip()
    return cases


def fits(found: Any, keys: dict[str, Any]) -> bool:
    """Tell whether an object, or each of some, has just the keys that are explained."""
    if isinstance(found, list):
        return all(fits(item, keys) for item in found)
    if not isinstance(found, dict):
        return found is None
    return set(found) == set(keys) and all(
        not below or fits(found[name], below) for name, (_, below) in keys.items()
    )


def _walk(keys: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, (text, below) in keys.items():
        yield name, text
        yield from _walk(below)


def _let_view_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the browser view end once it has printed its address."""
    page = pytest.importorskip("scout_dask_io.view.browser")

    def ended(event: threading.Event) -> None:
        raise KeyboardInterrupt

    shown = SimpleNamespace(url="http://127.0.0.1:1/v/token/")
    monkeypatch.setattr(page, "viewer", lambda *_, **__: nullcontext(shown))
    monkeypatch.setattr(threading.Event, "wait", ended)


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
    page = pytest.importorskip("scout_dask_io.view.browser")

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "viewer", interrupted)
    assert run("view a.zarr") == 0
    assert capsys.readouterr() == ("", "\n")
