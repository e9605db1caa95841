"""Text on its way to a person: options by their names, paths as they are typed, lines that fit."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from typing import TextIO

from scout_dask_io.jobs.report import as_options

# What another command begins with: it is to be typed as it stands.
_COMMAND = re.compile(r"scout-dask-io |-m scout_dask_io | -c '")
# A row of a table, or one that goes on with the value of the row above.
_ROW = re.compile(r" *\S+ {2,}| {4,}")


def for_people(text: str, stream: TextIO | None = None) -> str:
    """Give a report or a message as a person reads it on a stream, by default stdout."""
    width = columns(sys.stdout if stream is None else stream)
    lines = relative(text).splitlines()
    return "\n".join(
        line if _COMMAND.search(line) else fold(as_options(line), width) for line in lines
    )


def columns(stream: TextIO) -> int:
    """Give the width of the terminal that a stream goes to; 0 where it goes elsewhere."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError):
        return 0


def relative(text: str) -> str:
    """Give paths below the working directory without it, as they mostly were typed."""
    here = os.getcwd()
    if here == os.sep:
        return text
    return re.sub(rf"(?<![\w./-]){re.escape(here + os.sep)}(?=[^\s/])", "", text)


def fold(line: str, width: int) -> str:
    """Break a line between words where it is wider, and indent what follows to its value.

    Words that are wider, paths for instance, stay whole. Nothing is broken where
    the width is 0, since whoever reads it there is a program.

    Examples
    --------
    >>> print(fold("  took      0.53 s, 76.4 MB/s, 5 of 8 units", 32))
      took      0.53 s, 76.4 MB/s, 5
                of 8 units
    """
    if width < 20 or len(line) <= width:
        return line
    row = _ROW.match(line)
    indent = len(row[0]) if row else len(line) - len(line.lstrip()) + 2
    return "\n".join(
        textwrap.wrap(
            line,
            width,
            subsequent_indent=" " * min(indent, width // 2),
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
            replace_whitespace=False,
        )
    )
