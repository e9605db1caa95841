"""What is read of a source, and how: one value, from the public door down to the headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from scout_dask_io.core.messages import Option
from scout_dask_io.errors import ArgumentError

#: What may be asked for where pages and metadata differ: all pages of a file one after the
#: other, or those alone that the metadata count.
ALL_PAGES = Option("pages", "all")
COUNTED_PAGES = Option("pages", "counted")

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "order": ("alphabetical", "natural"),
    "missing": ("error", "fill"),
    "names": ("check", "allow", "ignore"),
    "pages": ("all", "counted", None),
    "check": ("all", "first"),
}


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files, which of their images and pages, and what may be odd about them.

    Attributes
    ----------
    order : {"alphabetical", "natural"}
        How planes in a folder are sorted.
    missing : {"error", "fill"}
        What is done about planes in a folder that cannot be read.
    pattern, position : str or None
        How the names of a dataset's files are read, and which of its positions.
    names : {"check", "allow", "ignore"}
        What is done about names: ``"check"`` refuses what is odd, ``"allow"`` warns of it, and
        ``"ignore"`` stacks the files of a folder whatever they are named.
    series : int or None
        Which image of a TIFF file; ``None`` where one is expected, and the first is read.
    pages : {"all", "counted", None}
        What is read of a TIFF file that has other pages than its metadata count.
    allow_sparse : bool
        Whether strips and tiles that were never written are zeros.
    check : {"all", "first"}
        Which headers of a stack are read before it is given, the others before their pixels.
        Readers ask; jobs read all.
    known : mapping
        What headers say that were read before, by the path of the file and whether its OME-XML
        counts; who gives it sees to it that the files are as they were. Not asked for outside.

    Raises
    ------
    ArgumentError
        If one is none of these, or two exclude each other.

    Examples
    --------
    >>> Selection(series=1).chosen
    (('series', 1),)
    """

    order: str = "alphabetical"
    missing: str = "error"
    pattern: str | None = None
    position: str | None = None
    names: str = "allow"
    series: int | None = None
    pages: str | None = None
    allow_sparse: bool = False
    check: str = "all"
    known: Mapping[tuple[str, bool], Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if (found := getattr(self, name)) not in choices:
                known = ", ".join("None" if c is None else repr(c) for c in choices)
                raise ArgumentError(f"{name} must be one of {known}, got {found!r}")
        if self.series is not None:
            check_number("series", self.series)
        if self.pages == "all" and self.series:
            raise _excluded(f"series {self.series}")
        if self.check == "first" and self.missing == "fill":
            raise ArgumentError(
                Option("missing", "fill")
                + " needs every header read before, to know what is filled: leave check at 'all'"
            )

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """Give the selection that a job's keyword arguments make, and take its own out of them."""
        own = ("check", "known")
        names = [f.name for f in fields(cls) if f.name in options and f.name not in own]
        return cls(**{name: options.pop(name) for name in names})

    @property
    def chosen(self) -> tuple[tuple[str, Any], ...]:
        """What chooses among the images and pages of TIFF files, where it is not the default."""
        pairs = (("pages", self.pages), ("series", self.series))
        return tuple((name, value) for name, value in pairs if value is not None)

    def check_level(self, level: int) -> None:
        """Refuse a level of a file of which all pages are asked for.

        Raises
        ------
        ArgumentError
            If it is one, or no number.
        """
        check_number("level", level)
        if self.pages == "all" and level:
            raise _excluded(f"level {level}")


#: What is read where nothing is chosen.
AS_IT_IS = Selection()


def check_number(name: str, value: object) -> None:
    """Refuse what is no whole number from 0 up.

    Raises
    ------
    ArgumentError
        If it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ArgumentError(f"{name} must be 0 or a positive int, got {value!r}")


def _excluded(what: str) -> ArgumentError:
    return ArgumentError(
        ALL_PAGES
        + f" gives all pages of a file one after the other, and {what} is a part of them: "
        "give one of the two"
    )
