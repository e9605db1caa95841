"""What the command line shows: lines that fit, paths as typed, one JSON object, exit codes."""

from __future__ import annotations

import json
import re
import shutil
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from helpers import make_volume, write_planes

from scout_dask_io.cli import main
from scout_dask_io.cli.base import cli, in_options, relative
from scout_dask_io.core.messages import OVERWRITE, RESUME, Option
from scout_dask_io.store.staging import begin_staging
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
    "nothing there": ("info nothing", 2),
    "stands already": ("convert planes a.zarr", 1),
    "nothing to verify": ("verify nothing", 2),
    "no manifest": ("verify foreign.zarr", 2),
    "planes alone": ("verify planes", 2),
    "nothing to scan": ("scan a.zarr", 2),
    "nothing to scan there": ("scan nothing", 2),
    "image of labels": ("convert planes b.zarr --labels", 2),
    "little memory": ("convert planes b.zarr --max-mem 10kB", 1),
    "no image of planes": ("pyramid planes b.zarr", 2),
    "no value fits": ("export i.zarr out --dtype uint8", 2),
    "too large a dtype": ("export i.zarr out.tif --imagej --dtype float64", 2),
    "levels of planes": ("export i.zarr out --levels 2", 2),
    "unfinished": ("info unfinished.zarr", 2),
    "unfinished already": ("convert planes unfinished.zarr", 1),
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
    begin_staging(folder / "unfinished.zarr")
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
    assert "--json " in text
    assert "For example:\n" in text
    assert not re.search(r"--\w+-\n", text), "an option's name is broken in two"


@pytest.mark.usefixtures("small_demo")
@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_each_report_shows_paths_from_the_working_directory(here: Path, line: str, capsys: Any):
    assert run(line) in (0, 1)
    out, _ = capsys.readouterr()
    assert out
    assert f"{here}/" not in out


def examples() -> dict[str, dict[str, Any]]:
    """Give the JSON objects of ``docs/commands.md``, by the command that stands above each."""
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    found = re.findall(r"^\$ scout-dask-io (.*)\n(\{\n(?:.*\n)*?\})$", page, re.MULTILINE)
    return {line.removesuffix(" --json"): json.loads(text) for line, text in found}


def test_the_page_of_commands_has_an_example_of_each():
    assert {line.split()[0] for line in examples()} == set(cli.commands)


@pytest.mark.usefixtures("small_demo")
@pytest.mark.parametrize("line", examples())
def test_the_keys_of_an_example_are_those_that_the_command_gives(
    here: Path, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    if line.startswith("view"):
        _let_view_end(monkeypatch)
    assert run(line, "--json") in (0, 1)
    assert shape_of(json.loads(capsys.readouterr().out)) == shape_of(examples()[line])


def test_events_are_those_of_the_page(here: Path, capsys: Any):
    page = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
    told = map(json.loads, re.findall(r'^\{"event": .*\}$', page, re.MULTILINE))
    keys = {event["event"]: set(event) for event in told}
    assert (
        run("convert planes d.ome.zarr", "--progress", "json", "-v", "--voxel-size", "4,2,2") == 0
    )
    assert run("convert planes a.zarr", "--progress", "json") == 1
    assert run("convert planes", "--progress", "json", "--json") == 2
    assert run("convert planes e.zarr --follow --planes 7 --settle 0", "--progress", "json") == 0
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {event["event"] for event in found} >= keys.keys() - {"progress"}
    for event in found:
        assert set(event) == keys[event["event"]]
    errors = [event["type"] for event in found if event["event"] == "error"]
    assert errors == ["TargetExistsError", "UsageError"]


def shape_of(value: Any) -> Any:
    """Give the keys of an object, and of those in it; of a list of objects, those of the first."""
    if isinstance(value, dict):
        return {key: shape_of(inner) for key, inner in value.items()}
    return [shape_of(value[0])] if isinstance(value, list) and value else None


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
    told = err.split("error: ")[1].split()
    assert told == relative(error["message"]).split()
    assert sorted(p.name for p in here.iterdir()) == before


@pytest.mark.parametrize(("line", "code"), FAILURES.values(), ids=FAILURES)
def test_every_option_that_a_message_names_is_one_of_the_command(
    here: Path, line: str, code: int, capsys: Any
):
    assert run(line) == code
    err = capsys.readouterr().err.split("error: ")[1]
    assert not re.search(r"(?<![\w-])\w+=(True|\d)|max_mem|nb_workers", err)
    for name, of in re.findall(r"(?<!\w)(--[a-z-]+)(?: of (convert)\b)?", err):
        command = of or ("convert" if "use convert with" in err else line.split()[0])
        known = {text for option in cli.commands[command].params for text in option.opts}
        assert name in known, err


@pytest.mark.parametrize(
    ("message", "running", "shown"),
    [
        ("give " + OVERWRITE, "convert", "give --overwrite"),
        ("give " + Option("order", "natural"), "info", "give --order natural"),
        (Option("max_mem") + "=2 GB is little", "convert", "--max-mem=2 GB is little"),
        ("raise " + Option("nb_workers"), "verify", "raise --workers"),
        ("with " + Option("scale", ("low", "high")) + ".", "export", "with --scale LOW,HIGH."),
        ("give " + Option("dtype", "") + " one", "export", "give --dtype one"),
        ("use convert with " + Option("ome", True, "convert"), "pyramid", "use convert with --ome"),
        ("write it with " + RESUME, "info", "write it with --resume of convert"),
        ("pass " + Option("series", 1), "export", "pass --series 1 of convert"),
        ("give " + Option("pattern", "a {z}.tif"), "info", "give --pattern 'a {z}.tif'"),
        ("pass " + Option("boxes", 1), "info", "pass boxes=1"),
        ("overwrite=True", "convert", "overwrite=True"),
    ],
)
def test_messages_name_options_instead_of_arguments(message: str, running: str, shown: str):
    assert in_options(message, running) == shown


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
