"""What a job reports: one base, whose rows are text for people and whose fields are JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from scout_dask_io.core.formatting import (
    Row,
    format_count,
    format_nbytes,
    format_shape,
    html_table,
)
from scout_dask_io.core.messages import joined

if TYPE_CHECKING:  # they need numpy, which the command line's --help does without
    from scout_dask_io.core.grid import Shape
    from scout_dask_io.core.image_info import FilledPlane
    from scout_dask_io.core.voxel_size import VoxelSize

#: Filled planes that a text names one by one.
_FILLED_NAMED = 10
#: Width of the labels, with the space after them; more where one is longer, shown or not.
_COLUMN = 10


_T = TypeVar("_T")


class Planned(Generic[_T]):
    """A fact of a report that its ``plan`` knows: ``shape = Planned[Shape]("write.shape")``."""

    def __init__(self, name: str) -> None:
        self._get = attrgetter(f"plan.{name}")

    def __get__(self, report: Any, owner: type) -> _T:
        return cast(_T, self if report is None else self._get(report))


class JobReport:
    """What a job did, found, or would do.

    A report is a frozen dataclass: what its plan knows, its public fields and its
    properties are the keys of its JSON, in this order; but for ``plan`` itself. For
    people it has a title, and rows below.
    """

    __slots__ = ()

    def title(self) -> str:
        """Say in a line what it is about, and what came of it."""
        raise NotImplementedError

    def rows(self) -> Iterable[Row]:
        """Give what else there is to say; rows without text are left out."""
        raise NotImplementedError

    def render(self) -> str:
        """Give the report as text."""
        return joined("\n", [self.title(), *table(self.rows())])

    def to_json(self) -> str:
        """Give the report as JSON."""
        return to_json(self)

    def _repr_html_(self) -> str:
        """Give the report as a table, for notebooks."""
        return html_table(str(self.title()), self.rows())

    def __str__(self) -> str:
        return str(self.render())


def table(rows: Iterable[Row]) -> list[str]:
    """Give rows as lines, labels before texts.

    Examples
    --------
    >>> table([("array", "2 x 3"), ("", "of uint8"), ("voxel", ""), (None, "Nothing else.")])
    ['  array     2 x 3', '            of uint8', '  Nothing else.']
    """
    found = list(rows)
    width = max([_COLUMN, *(len(label) + 2 for label, _ in found if label)])
    lines = [("" if label is None else label.ljust(width), text) for label, text in found if text]
    return ["  " + label + text for label, text in lines]


def to_json(report: Any, said: Callable[[str], str] = str) -> str:
    """Give a report's fields and properties as JSON; sizes are ``_nbytes``, times ``_s``.

    ``said`` is made of each text, so that the command line can name its own options.

    Examples
    --------
    >>> print(to_json({"shape": (30, 510, 667), "filled": ()}))
    {
      "shape": [30, 510, 667],
      "filled": []
    }
    """
    return _laid_out(_plain(report, said), "")


def _laid_out(value: Any, indent: str) -> str:
    """Give JSON with a line for each item, but lists that fit in a line in one."""
    inner = f"{indent}  "
    if isinstance(value, dict) and value:
        items = [f"{json.dumps(k)}: {_laid_out(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inner + item for item in items) + f"\n{indent}}}"
    text = json.dumps(value, default=str)
    if not isinstance(value, list) or (len(inner + text) < 80 and "{" not in text):
        return text
    return "[\n" + ",\n".join(inner + _laid_out(v, inner) for v in value) + f"\n{indent}]"


def _plain(value: Any, said: Callable[[str], str]) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        known = vars(type(value))
        names = [n for n, v in known.items() if isinstance(v, Planned)]
        names += [f.name for f in dataclasses.fields(value) if f.name != "plan"]
        names += [n for n, v in known.items() if isinstance(v, property)]
        return {n: _plain(getattr(value, n), said) for n in names if not n.startswith("_")}
    if isinstance(value, dict):
        return {str(k): _plain(v, said) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, said) for v in value]
    if isinstance(value, slice):
        return [value.start, value.stop]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has neither NaN nor infinities
    return said(value) if isinstance(value, str) else value


def array_text(report: Any) -> str:
    """Give shape, dtype and size of what has these."""
    from numpy import dtype  # here, since the command line's --help does without

    name = dtype(report.dtype).name
    return f"{format_shape(report.shape)}, {name}, {format_nbytes(report.nbytes)}"


def levels_text(shapes: Sequence[Shape]) -> str:
    """Say how many levels there are, and their shapes; empty where there are none."""
    return f"{len(shapes)}: {', '.join(map(format_shape, shapes))}" if shapes else ""


def voxel_text(size: VoxelSize | None) -> str:
    """Say how large a voxel is and who says so; empty where it is not known."""
    if size is None:
        return ""
    return f"{size}, as given" if size.source == "given" else f"{size}, by {size.source}"


def room_text(nbytes: int, free_nbytes: int | None) -> str:
    """Say what is to be written, and what is free there."""
    free = "" if free_nbytes is None else f", {format_nbytes(free_nbytes)} free"
    return f"{format_nbytes(nbytes)} before compression{free}"


def filled_text(filled: Sequence[FilledPlane]) -> list[str]:
    """Say which planes hold the fill value and why, a line each after the first; empty if none."""
    if not filled:
        return []
    lines = [f"{format_count(len(filled), 'plane')} could not be read; they hold the fill value:"]
    for f in filled[:_FILLED_NAMED]:
        where = f"plane {', '.join(map(str, f.plane))}" if f.plane else "in some plane"
        lines.append(f"  {where}: {f.file} ({f.reason})")
    if len(filled) > _FILLED_NAMED:
        lines.append(f"  and {len(filled) - _FILLED_NAMED:,} more (--json names all)")
    return lines


def filled_rows(filled: Sequence[FilledPlane]) -> list[Row]:
    """Give :func:`filled_text` as rows of a table."""
    return [("filled" if n == 0 else "", line) for n, line in enumerate(filled_text(filled))]
