"""What callers may rely on: names, parameters, defaults, attributes and options.

Where a name lives is not part of it: paths of our modules are taken out.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from types import FunctionType
from typing import Any

import pytest

import scout_dask_io as io
from scout_dask_io.cli import main

from .snapshot import check

OURS = "scout_dask_io"
PUBLIC = sorted(n for n in io.__all__ if n != "__version__")
CLICK = tuple(int(n) for n in version("click").split(".")[:2])


class _Text:
    """An annotation that is shown without quotes and without paths of our modules."""

    def __init__(self, annotation: Any) -> None:
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        self.text = re.sub(rf"\b{OURS}(\.\w+)*\.(?=\w)", "", text)

    def __repr__(self) -> str:
        return self.text


def _signature(function: Any) -> str:
    found = inspect.signature(function)
    parameters = [
        p if p.annotation is p.empty else p.replace(annotation=_Text(p.annotation))
        for p in found.parameters.values()
    ]
    result = found.return_annotation
    result = result if result is found.empty else _Text(result)
    return str(found.replace(parameters=parameters, return_annotation=result))


def _parameters(name: str, function: Any) -> str:
    """Give a signature with a parameter a line, so that a difference is one line."""
    text = _signature(function)
    depth, parts, part = 0, [], ""
    inner, _, result = text.rpartition(" -> ")
    if not inner:
        inner, result = text, ""
    for letter in inner[1:-1]:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += letter
    parts += [part.strip()] if part.strip() else []
    ending = f" -> {result}" if result else ""
    return "\n".join([f"{name}(", *(f"    {p}," for p in parts), f"){ending}"])


def _own_bases(cls: type) -> list[type]:
    return [base for base in cls.__mro__ if base.__module__.partition(".")[0] == OURS]


def _class(name: str, cls: type, *, constructor: bool) -> str:
    bases = [b for b in cls.__mro__[1:] if b is not object]
    shown = [b.__name__ for b in bases if b not in _own_bases(cls) or b.__name__ in PUBLIC]
    lines = [f"class {name}: {', '.join(shown)}"]
    own = [b for b in _own_bases(cls) if "__init__" in vars(b)]
    if own and constructor:
        lines.append(_parameters("__init__", vars(own[0])["__init__"]))
    # What a base of another library has is that library's interface.
    foreign = {m for b in bases if b not in _own_bases(cls) for m in vars(b)}
    found: dict[str, str] = {}
    for base in reversed(_own_bases(cls)):
        annotations = {n: repr(_Text(a)) for n, a in inspect.get_annotations(base).items()}
        for member in {*annotations, *vars(base)}:
            if member.startswith("_") or member in foreign:
                continue
            value = vars(base).get(member)
            if isinstance(value, (staticmethod, classmethod)):
                value = value.__func__
            if isinstance(value, property):
                result = inspect.signature(value.fget).return_annotation
                found[member] = f"{member}: {_Text(result)}"
            elif isinstance(value, FunctionType):
                found[member] = _parameters(member, value)
            else:
                found[member] = f"{member}: {annotations.get(member, 'value')}"
    return "\n".join([*lines, *(found[m] for m in sorted(found))])


def _classes() -> dict[str, list[type]]:
    """Give all classes of the package by name, wherever they live."""
    found: dict[str, list[type]] = {}
    for module in pkgutil.walk_packages(io.__path__, f"{OURS}."):
        if module.name.rpartition(".")[2] == "__main__":
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and value.__module__.startswith(f"{OURS}."):
                known = found.setdefault(name, [])
                if value not in known:
                    known.append(value)
    return found


def _given_back() -> dict[str, type]:
    """Give the classes of what the public functions return."""
    functions = [getattr(io, n) for n in PUBLIC]
    texts = [
        str(inspect.signature(f).return_annotation)
        for f in functions
        if isinstance(f, FunctionType)
    ]
    names = {word for text in texts for word in re.findall(r"\w+", text)}
    found = {n: c for n, c in _classes().items() if n in names and n not in PUBLIC}
    assert all(len(c) == 1 for c in found.values())
    return {n: c[0] for n, c in found.items()}


def test_the_public_names_are_these() -> None:
    check("names.txt", "\n".join(PUBLIC))


def test_the_public_functions_take_these_parameters() -> None:
    functions = [n for n in PUBLIC if isinstance(getattr(io, n), FunctionType)]
    check("functions.txt", "\n\n".join(_parameters(n, getattr(io, n)) for n in functions))


def test_the_public_classes_have_these_members() -> None:
    classes = [n for n in PUBLIC if isinstance(getattr(io, n), type)]
    check("classes.txt", "\n\n".join(_class(n, getattr(io, n), constructor=True) for n in classes))


def test_what_the_public_functions_return_has_these_members() -> None:
    found = _given_back()
    check(
        "returned.txt", "\n\n".join(_class(n, found[n], constructor=False) for n in sorted(found))
    )


def _run(*arguments: str) -> str:
    """Give what the command line prints, at a fixed width and under its own name."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as printed:
        patch.setenv("COLUMNS", "100")
        patch.setenv("NO_COLOR", "1")
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
    assert ended.value.code == 0
    command = "".join(f" {a}" for a in arguments if not a.startswith("-"))
    text = printed.getvalue()
    return re.sub(r"^Usage: .*? \[OPTIONS\]", f"Usage: scout-dask-io{command} [OPTIONS]", text)


COMMANDS = re.findall(
    r"(?m)^  (\w+)", _run("--help").partition("Commands:\n")[2].partition("\n\n")[0]
)


# click wraps and words defaults differently from version to version.
@pytest.mark.skipif(CLICK < (8, 2), reason="an older click words its help differently")
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_help_of_a_command_says_this(command: str) -> None:
    name = f"help-{command}.txt" if command else "help.txt"
    check(name, _run(*command.split(), "--help"))
