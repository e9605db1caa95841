"""Series of names: those of a folder that are built alike, cut into words and numbers. No files.

A name is cut where letters, digits and other characters meet; names are built alike where
they have words, numbers and separators at the same places. Some are built alike though they
do not look it: ``DAPI_001`` and ``Cy5_001``, ``z-10`` and ``z0``, ``2.5um`` and ``5um``,
and the ``B03`` of a plate is one word.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

#: What ends a name and tells nothing.
EXTENSION = re.compile(r"(\.ome)?(\.[^./]+)$", re.IGNORECASE)
# A minus belongs to a number where a separator stands before it, or nothing: not in 12-30-01, nor
# in brain-7.
# A point does where a unit follows: else 001.002 may be two numbers.
_TOKEN = re.compile(
    r"(?:(?:(?<=[_ =/,(])|^)-)?"
    r"(?:(?<![0-9]\.)(?<![0-9])[0-9]+\.[0-9]+(?= ?(?:[uµμnm]m|deg|m?s|min|h)(?![^\W\d_]))|[0-9]+)"
    r"|[^\W\d_]+|[\W\d_]"
)
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")
_DIGITS = frozenset("0123456789")
# Rows and columns of plates of up to 384 wells.
_ROWS, _MOST_COLUMNS = frozenset("ABCDEFGHIJKLMNOP"), 24
#: Dyes have names as Cy3, Cy5 and Cy7; more words that differ by a number alone are counted.
_MOST_OF_A_STEM = 4


#: Words by which a file alone is known to be of a channel.
DYES = frozenset(
    {"dapi", "hoechst", "gfp", "egfp", "rfp", "yfp", "cfp", "mcherry", "tdtomato", "fitc", "tritc"}
    | {"cy", "texasred", "syto", "brightfield", "bf", "dic", "phase", "autofluorescence", "auto"}
    | {"red", "green", "blue", "farred", "alexa", "nuclei", "membrane", "draq", "sytox", "topro"}
)


@dataclass
class Series:
    """Names that are built alike.

    Attributes
    ----------
    names : list of str
        As they are.
    tokens : list of list of str
        Each name's words, numbers and separators; as many in every name.
    """

    names: list[str] = field(default_factory=list)
    tokens: list[list[str]] = field(default_factory=list)

    def add(self, other: Series) -> None:
        """Take in names of another series that are built alike after all."""
        self.names += other.names
        self.tokens += other.tokens


def is_number(token: str) -> bool:
    """Tell whether a token is a number; a word may end in one."""
    return token[-1] in _DIGITS and _NUMBER.fullmatch(token) is not None


def number_of(token: str) -> int | float:
    """Give the value of a token that is a number."""
    return float(token) if "." in token else int(token)


def is_well(token: str) -> bool:
    """Tell whether a token is the well of a plate, such as ``B03``."""
    column = token[1:]
    return token[0] in _ROWS and column.isdecimal() and column.isascii() and len(column) < 3


def largest_series(names: Sequence[str]) -> tuple[Series, tuple[str, ...]]:
    """Give the names that are built alike, and those that are not.

    Examples
    --------
    >>> series, others = largest_series(["Cy5_z1.tif", "Cy5_z2.tif", "dapi_z1.tif", "dapi_z2.tif"])
    >>> series.tokens[0], others
    (['Cy5', '_', 'z', '1'], ())
    """
    by_build: dict[tuple[str, ...], Series] = defaultdict(Series)
    for name in names:
        tokens = _TOKEN.findall(EXTENSION.sub("", name))
        one = by_build[tuple(map(_kind, tokens))]
        one.names.append(name)
        one.tokens.append(tokens)
    if not by_build:
        return Series(), ()
    every = list(by_build.values())
    if len(by_build) > 1:
        every = _joined_at_words(_joined_at_signs(by_build))
    largest = max(every, key=lambda s: len(s.names))
    if len(every) > 1 and len(largest.names) == 1:
        # Names of which no two are built alike, as GUIDs are, tell nothing.
        return Series(), tuple(names)
    strays = sorted(n for s in every if s is not largest for n in s.names)
    _join_wells(largest)
    return largest, tuple(strays)


def _joined_at_signs(by_build: dict[tuple[str, ...], Series]) -> list[Series]:
    """Join series that differ by the signs of numbers, as ``z-10``, ``z0`` and ``z+10`` do.

    Where all names have a minus it may be a separator, and stays one.
    """
    groups: dict[tuple[str, ...], list[tuple[tuple[str, ...], Series]]] = defaultdict(list)
    for build, series in by_build.items():
        groups[_without_signs(build)].append((build, series))
    found = []
    for alike in groups.values():
        if len(alike) == 1:
            found.append(alike[0][1])
            continue
        whole = Series()
        for build, series in alike:
            at = [k for k in range(len(build)) if _is_sign(build, k)]
            whole.add(Series(series.names, [_signed(t, at) for t in series.tokens]))
        found.append(whole)
    return found


def _is_sign(build: Sequence[str], at: int) -> bool:
    if build[at] not in "+-" or at + 1 == len(build) or build[at + 1] != "#" or not at:
        return False
    return build[at - 1] in "@_ =,(" if build[at] == "+" else build[at - 1] == "@"


def _without_signs(build: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(b for k, b in enumerate(build) if not _is_sign(build, k))


def _signed(tokens: list[str], at: Sequence[int]) -> list[str]:
    """Give tokens with the signs at some places put to the numbers after them."""
    signs = {k + 1: "-" if tokens[k] == "-" else "" for k in at}
    return [signs.get(k, "") + t for k, t in enumerate(tokens) if k + 1 not in signs]


def _joined_at_words(every: list[Series]) -> list[Series]:
    """Join series that differ by one word between separators, as ``DAPI`` and ``Cy5`` do.

    Each such word must stand in the same names otherwise, of which there are two or more but for
    dyes: so do channels, and a projection beside them does not.
    """
    groups: dict[tuple[str, ...], list[Series]] = defaultdict(list)
    for series in every:
        parts = _parts(series.tokens[0])
        groups[tuple("@" if p[0].isalnum() else p[0] for p in parts)].append(series)
    found: list[Series] = []
    for alike in groups.values():
        builds = [[tuple(map(_kind, p)) for p in _parts(s.tokens[0])] for s in alike]
        odd = [k for k, row in enumerate(zip(*builds, strict=True)) if len(set(row)) > 1]
        whole = _with_words(alike, odd[0]) if len(odd) == 1 else None
        found += alike if whole is None else [whole]
    return found


def _with_words(alike: Sequence[Series], at: int) -> Series | None:
    """Give series as one, in which a part of each name is a word; ``None`` if it is none."""
    whole = Series()
    beside: dict[str, set[str]] = defaultdict(set)
    by_stem: dict[str, set[str]] = defaultdict(set)
    for series in alike:
        for name, tokens in zip(series.names, series.tokens, strict=True):
            parts = _parts(tokens)
            word = "".join(parts[at])
            stem = word.rstrip("0123456789")
            if len(stem) < 2 and stem != word:
                return None  # of a letter the number counts
            row = [t for k, p in enumerate(parts) for t in ([word] if k == at else p)]
            whole.names.append(name)
            whole.tokens.append(row)
            beside[word].add("".join(t for k, p in enumerate(parts) for t in p if k != at))
            by_stem[stem].add(word)
    others = list(beside.values())
    are_dyes = all(stem.lower() in DYES for stem in by_stem)
    is_same = all(other == others[0] for other in others[1:]) and (len(others[0]) > 1 or are_dyes)
    return whole if is_same and max(map(len, by_stem.values())) <= _MOST_OF_A_STEM else None


def _parts(tokens: Sequence[str]) -> list[list[str]]:
    """Cut tokens at separators, each of which is a part too."""
    parts: list[list[str]] = []
    for token in tokens:
        if parts and token[-1].isalnum() and parts[-1][-1][-1].isalnum() and token[0] != "-":
            parts[-1].append(token)
        else:
            parts.append([token])
    return parts


def _kind(token: str) -> str:
    """Give what a token is: as names are cut here, one that ends in a digit is a number."""
    return "#" if token[-1] in _DIGITS else "@" if token[0].isalpha() else token


def _join_wells(series: Series) -> None:
    """Make one word of row and column of a plate's wells, where rows vary."""
    if not series.tokens:
        return
    first = series.tokens[0]
    for at in range(len(first) - 2, -1, -1):
        is_apart = at == 0 or not first[at - 1][-1].isalnum()
        if not is_apart or not is_well(first[at] + first[at + 1]):
            continue
        wells = {t[at] + t[at + 1] for t in series.tokens}
        fits = all(is_well(w) and 0 < int(w[1:]) <= _MOST_COLUMNS for w in wells)
        if fits and len({w[0] for w in wells}) > 1:
            for tokens in series.tokens:
                tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]
