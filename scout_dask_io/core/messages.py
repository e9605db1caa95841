"""What people are told: texts that know which of their words are arguments, and warnings.

An error, a warning or a line of a report that names an argument to be given holds it as an
:class:`Option`: Python shows it as functions have it, the command line as its own options.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from scout_dask_io.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Option:
    """An argument that a message names, with a value or without.

    Added to texts it makes a :class:`Message`.

    Attributes
    ----------
    name : str
        Of the argument, as functions have it.
    value
        To be given; ``""`` leaves it open, ``None`` names the argument alone.
    of : str
        The command that has the option, where it is another than the one that runs.

    Examples
    --------
    >>> "give " + Option("overwrite", True) + ", or raise " + Option("max_mem")
    'give overwrite=True, or raise max_mem'
    >>> str(Option("order", "natural")), str(Option("scale", ("low", "high")))
    ('order="natural"', 'scale=(low, high)')
    """

    name: str
    value: Any = None
    of: str = ""

    def __str__(self) -> str:
        """Give the argument as functions have it."""
        if self.value is None:
            return self.name
        value = self.value
        if isinstance(value, tuple):
            value = f"({', '.join(map(str, value))})"
        elif isinstance(value, str) and value:
            value = f'"{value}"'
        return f"{self.name}={value}"

    def __add__(self, other: str) -> Message:
        """Give a message that begins with it."""
        return Message(self, other)

    def __radd__(self, other: str) -> Message:
        """Give a message that ends with it."""
        return Message(other, self)


@dataclass(frozen=True, slots=True)
class Way:
    """What to do, where functions and the command line have no word for it in common.

    Attributes
    ----------
    in_python : str
        With the name of a function.
    in_command : str
        As someone at the command line would do it.

    Examples
    --------
    >>> "it is a file: " + Way("read it with imread", "leave out --pattern")
    'it is a file: read it with imread'
    """

    in_python: str
    in_command: str

    def __str__(self) -> str:
        """Give it as functions have it."""
        return self.in_python

    def __add__(self, other: str) -> Message:
        """Give a message that begins with it."""
        return Message(self, other)

    def __radd__(self, other: str) -> Message:
        """Give a message that ends with it."""
        return Message(other, self)


class Message(str):
    """A text that knows which of its words are arguments; else a ``str`` as any other.

    ``+`` and :func:`joined` keep them; formatting gives an ordinary text.
    """

    parts: tuple[str | Option | Way, ...]

    def __new__(cls, *parts: str | Option | Way) -> Message:
        """Put texts, messages and arguments together."""
        message = super().__new__(cls, "".join(map(str, parts)))
        message.parts = tuple(
            inner for p in parts for inner in (p.parts if isinstance(p, Message) else (p,))
        )
        return message

    def __add__(self, other: str | Option | Way) -> Message:
        """Give both, one after the other."""
        return Message(self, other)

    def __radd__(self, other: str) -> Message:
        """Give both, one after the other."""
        return Message(other, self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the arguments on the way from a worker."""
        return Message, self.parts


def joined(between: str, texts: Iterable[str | Option | Way], most: int | None = None) -> str:
    """Give texts as one, as ``str.join`` does; messages keep the arguments that they name.

    Of more than ``most`` the first, and how many more there are.

    Examples
    --------
    >>> joined(", ", ["z1.tif", "z2.tif", "z3.tif"], 2)
    'z1.tif, z2.tif and 1 more'
    """
    found = list(texts)
    parts: list[str | Option | Way] = []
    for text in found[:most]:
        parts += [between, text] if parts else [text]
    if most is not None and len(found) > most:
        parts.append(f" and {len(found) - most:,} more")
    return Message(*parts)


def message_of(err: BaseException, start: str = "") -> str:
    """Give what an error says, without ``start``; the arguments that it names are kept."""
    told = err.args[0] if err.args and isinstance(err.args[0], Message) else str(err)
    if not isinstance(told, Message):
        return told.removeprefix(start)
    first, *others = told.parts
    return Message(first.removeprefix(start) if isinstance(first, str) else first, *others)


@contextmanager
def about(what: object) -> Iterator[None]:
    """Put what was given, a path, before an :class:`ArgumentError` that does not name it."""
    try:
        yield
    except ArgumentError as err:
        if str(what) in str(err):
            raise
        raise type(err)(Message(f"{what}: ", message_of(err))) from err


RESUME, OVERWRITE = Option("resume", True), Option("overwrite", True)

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")


def warn(message: str) -> None:
    """Warn, in the name of the first line outside the package, however deep the call is."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    warnings.warn_explicit(
        UserWarning(message),
        UserWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__", "sys"),
        frame.f_globals.setdefault("__warningregistry__", {}),
    )
