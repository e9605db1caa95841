"""Messages that know which of their words are arguments, and warnings in the caller's name."""

from __future__ import annotations

import ast
import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.cli.base import in_options
from scout_dask_io.core.messages import OVERWRITE, RESUME, Message, Option, Way, joined
from scout_dask_io.jobs.scan import scan


def test_a_message_reads_as_functions_have_it_and_keeps_its_arguments():
    message = "either " + RESUME + " or " + OVERWRITE + f" of {'max_mem'}"
    assert message == "either resume=True or overwrite=True of max_mem"
    assert isinstance(message, Message)
    assert message.parts == ("either ", RESUME, " or ", OVERWRITE, " of max_mem")
    assert joined(" ", ["a", message]).parts == ("a", " ", *message.parts)


@pytest.mark.parametrize("kind", [io.ArgumentError, io.TargetExistsError, io.WriteError])
def test_an_error_keeps_the_arguments_of_its_message_on_the_way_from_a_worker(kind: type):
    error = kind("raise " + Option("max_mem"))
    error.add_note("then " + RESUME)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "raise max_mem"
    assert again.args[0].parts == ("raise ", Option("max_mem"))
    assert again.__notes__[0].parts == ("then ", RESUME)


def _open_folder(folder: Path) -> None:
    io.imread_folder(folder)


def _open_channels(folder: Path) -> None:
    io.imread_channels(folder.parent)


def _convert(folder: Path) -> None:
    io.convert(folder, folder.parent / "out.zarr", names="allow")


def _convert_image(folder: Path) -> None:
    io.convert(folder, folder.parent / "image.zarr", ome=True, names="allow")


def _info(folder: Path) -> None:
    io.info(folder)


def _verify(folder: Path) -> None:
    io.verify(folder, folder)


def _preview(folder: Path) -> None:
    io.preview(folder, size=64)


@pytest.mark.parametrize(
    "call", [_open_folder, _open_channels, _convert, _convert_image, _info, _verify, _preview]
)
def test_a_warning_points_to_the_line_that_called_the_library(call, tmp_path: Path):
    names = ["z9.tif", "z10.tif", "z12.tif"]
    write_planes(tmp_path / "planes", make_volume((3, 20, 30)), names=names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(tmp_path / "planes")
    assert any("natural order" in str(w.message) for w in caught)
    assert {w.filename for w in caught} == {__file__}
    assert {w.lineno for w in caught} == {call.__code__.co_firstlineno + 1}


def test_what_scan_says_of_an_order_names_the_argument(tmp_path: Path):
    write_planes(tmp_path, make_volume((2, 20, 30)), names=["z9.tif", "z10.tif"])
    (told,) = scan(tmp_path).folders[0].warnings
    assert isinstance(told, Message)
    assert Option("order", "natural") in told.parts


PACKAGE = Path(io.__file__).parent
ARGUMENT = re.compile(
    r"\b(deep|imagej|ome|overwrite|qc|resume)=True\b|\b(missing|order)=|\bmax_mem\b"
)
NAMES = {"RESUME", "OVERWRITE", "SCALE", "_FILL", "_OME", "Option", "Message"}


def _plain_arguments(tree: ast.AST) -> Iterator[str]:
    """Yield texts of errors and warnings that name an argument, but not as one."""
    for node in ast.walk(tree):
        told: list[ast.expr] = []
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            told = node.exc.args
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("warn", "add_note")):
            told = node.args
        parts = [inner for arg in told for inner in ast.walk(arg)]
        options = [p for p in parts if isinstance(p, ast.Call) and ast.unparse(p.func) == "Option"]
        named = {id(inner) for option in options for inner in ast.walk(option)}
        for part in (p for p in parts if id(p) not in named):
            if isinstance(part, ast.FormattedValue):
                used = {n.id for n in ast.walk(part) if isinstance(n, ast.Name)}
                if used & NAMES:
                    yield ast.unparse(part)
            elif isinstance(part, ast.Constant) and isinstance(part.value, str):
                # What an argument must be is said of it by its name; what to give is an option.
                found = ARGUMENT.search(part.value)
                if found and not re.match(r"\w+ (must|is neither)", part.value):
                    yield part.value


def test_no_message_names_an_argument_to_be_given_as_plain_text():
    found = [
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for text in _plain_arguments(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        'raise WriteError(f"{path}: resume=True goes on")',
        'raise WriteError(f"{path}: {RESUME} goes on")',
        'warn("give " "max_mem")',
        'err.add_note(f"a {Option(name)}")',
    ],
)
def test_the_check_finds_plain_arguments(code: str):
    assert list(_plain_arguments(ast.parse(code)))
    assert not list(_plain_arguments(ast.parse('raise WriteError(f"{path}: " + RESUME)')))


def test_a_way_out_is_said_as_each_has_it():
    told = "it is a file: " + Way("read it with imread", "leave out --pattern") + "."
    assert told == "it is a file: read it with imread."
    assert in_options(told, "convert") == "it is a file: leave out --pattern."
    assert pickle.loads(pickle.dumps(told)).parts == told.parts


# Reached by calls from Python alone, whose arguments no command has.
OF_FUNCTIONS = {"read/tiff.py", "tiff/range_reader.py", "tiff/folder.py", "write/labels.py"}
OF_FUNCTIONS |= {
    "write/append.py",
    "write/append_image.py",
    "read/channels.py",
    "jobs/verify_manifest.py",
    "jobs/export_selection.py",
}


def test_no_message_sends_the_command_line_to_a_function():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text())))
        calls = [n for n in nodes if isinstance(n, ast.Call)]
        for call in calls:
            if ast.unparse(call.func) == "Way":
                call.args.clear()
        if path.relative_to(PACKAGE).as_posix() in OF_FUNCTIONS:
            continue
        told = [n for c in calls if ast.unparse(c.func).endswith("Error") for n in ast.walk(c)]
        texts = [str(n.value) for n in told if isinstance(n, ast.Constant)]
        found += [f"{path}: {t}" for t in texts if re.search(r"\bim(read|save)|\bwrite_\w", t)]
    assert found == []
