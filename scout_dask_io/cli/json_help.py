"""``--json-help``: what the keys of a command's JSON mean, as the reports themselves say it.

The texts are those of the ``Attributes`` in the docstrings of the reports, and the
types those of their fields, so neither can be of another version than the JSON is.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import click

#: Column in which the texts begin.
_COLUMN = 28
_WORDS = {str: "text", int: "int", float: "float", bool: "bool", slice: "[start, stop]"}
_END = (
    "Sizes in bytes end in _nbytes, times in seconds in _s. A command that fails prints an object "
    'whose one key is "error", with its "type" and "message".'
)


class Key(NamedTuple):
    """A key of an object: its name, what its value means, its type, and the keys in it."""

    name: str
    text: str
    kind: str = ""
    below: tuple[Key, ...] = ()


#: Gives the keys of what a command prints, by the case in which it does; ``""`` where there is one.
Held: typing.TypeAlias = Callable[[], Mapping[str, Sequence[Key]]]


def keys_of(report: type) -> tuple[Key, ...]:
    """Give the keys of a report as JSON: its fields and properties, in order."""
    texts, hints = _attributes(report), typing.get_type_hints(report)
    keys = [
        Key(f.name, texts.get(f.name, ""), _words(hints[f.name]), _below(hints[f.name]))
        for f in dataclasses.fields(report)
    ]
    for name, value in vars(report).items():
        if isinstance(value, property) and value.fget is not None:
            kind = _words(typing.get_type_hints(value.fget)["return"])
            keys.append(Key(name, _plain(inspect.getdoc(value) or ""), kind))
    return tuple(key for key in keys if not key.name.startswith("_"))


def _attributes(report: type) -> dict[str, str]:
    """Give what the docstring of a class says of its attributes."""
    _, _, section = inspect.cleandoc(report.__doc__ or "").partition("\nAttributes\n")
    texts = {}
    # Names stand at the margin, what they mean is indented below them.
    for names, body in re.findall(r"^(\w.*)\n((?: +.*\n?|\n(?= ))*)", section, re.MULTILINE):
        for name in names.partition(" : ")[0].split(", "):
            texts[name] = _plain(body)
    return texts


def _plain(text: str) -> str:
    """Give a text without its marks, and arguments as the command line has them."""
    text = re.sub(r":\w+:`~?\.?([^`]*)`", r"\1", " ".join(text.split()))
    text = re.sub(r"``(\w+)=True``", r"--\1", text)
    return (
        text.replace("``None``", "null").replace('``"', '"').replace('"``', '"').replace("``", "'")
    )


def _below(hint: Any) -> tuple[Key, ...]:
    """Give the keys of the objects that a value is, or has."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return keys_of(hint)
    return next(filter(None, map(_below, typing.get_args(hint))), ())


def _words(hint: Any) -> str:
    """Say what a value is in JSON; empty where it may be anything."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        named = [_words(part) for part in parts if part is not type(None)]
        return " or ".join([*named, "null"]) if type(None) in parts else " or ".join(named)
    if typing.get_origin(hint) is tuple:
        return f"list of {_words(parts[0])}"
    if dataclasses.is_dataclass(hint) or typing.get_origin(hint) is dict:
        return "object"
    return _WORDS.get(hint, "")


def page(name: str, held: Mapping[str, Sequence[Key]], width: int) -> str:
    """Give what a command's JSON holds as text for people."""
    lines = []
    for case, keys in held.items():
        line = " ".join(filter(None, ("scout-dask-io", name, case, "--json")))
        lines += [f"{line} prints one object:", "", *_rows(keys, width), ""]
    return "\n".join([*lines, *textwrap.wrap(_END, width)])


def _rows(keys: Sequence[Key], width: int, depth: int = 1) -> Iterator[str]:
    # Those that are explained together are shown together.
    for (text, kind, below), some in groupby(keys, lambda key: key[1:]):
        head = f"{'  ' * depth}{', '.join(key.name for key in some)}"
        body = textwrap.wrap(
            f"{text} [{kind}]" if kind else text, width - _COLUMN, break_on_hyphens=False
        )
        if len(head) > _COLUMN - 2:
            yield head
            head = ""
        for line in body:
            yield head.ljust(_COLUMN) + line
            head = ""
        yield from _rows(below, width, depth + 1)


def json_help_flag(held: Held) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give the option that prints what a command's JSON holds, and ends."""

    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            width = ctx.make_formatter().width
            click.echo(page(ctx.info_name or "", held(), width))
            ctx.exit()

    return click.option(
        "--json-help",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Say what the keys of that object mean.",
    )
