"""Fields in the names of files: channel, time, z, position, and the grid that they span. No files.

Cameras and their programs put into a name what a plane is: ``scan_C01_xyz-Table Z0004.ome.tif``,
``Series001_z03_ch01.tif``, ``Ex_488_Em_525/000000_-00100/0040.tif``. The names of a dataset are
cut into words and numbers; those of one build are its *series*, what varies in them are its
*fields*, and every field is an axis. Where the fields span a full grid that is the dataset;
holes are named. What two readings fit is not guessed: the error shows the patterns that choose.

Why it is long: what words mean, how names are cut, and what is found in them go together.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, Self, TypeAlias

from scout_dask_io.core.formatting import format_count
from scout_dask_io.core.messages import Option, joined
from scout_dask_io.core.name_layouts import NameLayout, layout_of
from scout_dask_io.core.name_series import (
    DYES,
    EXTENSION,
    Series,
    is_number,
    is_well,
    largest_series,
    number_of,
)
from scout_dask_io.errors import ArgumentError, PathNotFoundError

Value: TypeAlias = int | float | str

#: The axes that names may tell of, in the order of the array; ``p`` are positions (tiles, sites,
#: wells) and ``v`` views (angles, cameras), each of which is an array of its own.
AXES = "pvtcz"
NAMES_OF_AXES = {"p": "position", "v": "view", "t": "time", "c": "channel", "z": "z"}
_NOUNS = {**NAMES_OF_AXES, "t": "time point", "z": "plane"}
#: Other names that a pattern may use.
_ALIASES = {
    "position": "p", "pos": "p", "tile": "p", "site": "p", "field": "p", "well": "p", "x": "p",
    "y": "p", "row": "p", "col": "p", "series": "p", "view": "v", "angle": "v", "camera": "v",
    "time": "t", "channel": "c", "wavelength": "c", "plane": "z", "slice": "z",
}  # fmt: skip

# What stands before a number, in lower case, and the axis that it names.
_KEYS = {
    "z": {
        "z", "zpos", "zs", "slice", "sl", "plane", "pln", "pl", "section", "sec", "depth", "zstep",
        "zslice",
    },
    "c": {
        "c", "ch", "chan", "channel", "channels", "color", "colour", "wl", "w", "wv", "wave",
        "wavelength", "laser", "lambda", "filter", "ex", "em", "dye", "fluor", "chn", "exc",
    },
    "t": {
        "t", "tp", "tm", "time", "timepoint", "timepoints", "frame", "frames", "l", "tl",
        "timelapse", "day",
    },
    "p": {
        "p", "pos", "position", "s", "site", "tile", "tiles", "f", "fov", "field", "series",
        "scene", "well", "x", "y", "row", "col", "column", "r", "m", "mosaic", "region", "xy",
        "stage", "posx", "posy", "b", "block", "fld", "sample", "chunk", "loc", "location", "point",
    },
    "v": {
        "v", "view", "angle", "ang", "cam", "cm", "camera", "illum", "illumination", "side", "i",
        "a", "sh", "shutter", "rot", "rotation", "arm", "lightsheet", "ls", "ill", "vs", "setup",
    },
}  # fmt: skip
_AXIS_OF_KEY = {key: axis for axis, keys in _KEYS.items() for key in keys}
# Words that tell views apart where something else tells channels.
_SIDES = frozenset({"left", "right", "l", "r", "top", "bottom", "front", "back", "up", "down"})
_COLOURS = frozenset("rgb")
# What stands behind a number.
_UNITS = {
    "nm": "c", "um": "z", "µm": "z", "μm": "z", "deg": "v", "msec": "t", "msecabs": "t",
}  # fmt: skip
# A number alone counts planes; more channels than these no microscope has.
_MOST_CHANNELS = 16
# Words that cameras put before a counter, whatever it counts: alone they say nothing.
_WEAK_KEYS = {
    "s", "f", "b", "m", "r", "i", "a", "l", "p", "x", "y", "frame", "frames", "stack", "series",
    "block", "sample", "rot", "ls", "side", "region", "row", "col", "column",
}  # fmt: skip
# Wavelengths in nanometres, as folders and files have them without a word beside.
_WAVELENGTHS = frozenset(
    {355, 365, 385, 395, 405, 425, 430, 440, 445, 450, 455, 458, 460, 470, 473, 475, 477, 480}
    | {485, 488, 490, 491, 495, 505, 510, 514, 515, 520, 525, 530, 532, 535, 540, 543, 546, 550}
    | {552, 555, 561, 565, 568, 570, 575, 580, 585, 590, 592, 594, 595, 600, 605, 610, 617, 620}
    | {625, 630, 632, 633, 635, 637, 638, 639, 640, 642, 645, 647, 650, 655, 660, 665, 670, 680}
    | {685, 690, 694, 700, 705, 730, 740, 750, 755, 770, 775, 780, 785, 790, 800, 808, 820, 830}
)

_AS_ZEROS = str.maketrans("123456789", "000000000")
_LETTERED = re.compile(r"(\D*?)(-?[0-9]+)")
_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")


class AmbiguousNamesError(ArgumentError):
    """More than one reading fits the names; ``varying`` says what varies in them, ``odd`` how."""

    varying = ""
    odd = "several numbers vary in the names"


@dataclass(frozen=True)
class NameField:
    """One axis of a dataset, as its file names tell of it.

    Attributes
    ----------
    axis : str
        One of :data:`AXES`.
    text : str
        What stands before the number in the names, as written there; may be empty.
    values : tuple
        What the names say along the axis, in order: numbers, or words.
    labels : tuple of str
        The values as names of channels or positions: as they are written, a channel that has
        a folder of its own by that.
    """

    axis: str
    text: str
    values: tuple[Value, ...]
    labels: tuple[str, ...]

    @property
    def is_word(self) -> bool:
        """Whether the names have words along it, and no numbers."""
        return isinstance(self.values[0], str)

    def __str__(self) -> str:
        shown = ", ".join(self.labels[:4])
        return shown if len(self.labels) <= 4 else f"{shown} … {self.labels[-1]}"


@dataclass(frozen=True)
class NameGrid:
    """How the files of a dataset are arranged.

    Attributes
    ----------
    fields : tuple of NameField
        In the order of :data:`AXES`; their lengths are the shape of the grid.
    files : dict
        The file at each index of the grid, an index a field.
    holes : tuple of str
        Places of the grid without a file, in words, e.g. ``"channel 1, z 7"``.
    gaps : tuple of str
        Numbers that no file has where a field otherwise goes in equal steps, e.g. ``"z 7"``.
    strays : tuple of str
        Names that are not of the series.
    guessed : tuple of str
        Axes that no word in the names states.
    pattern : str
        What reads the names so.
    layout : str
        Whose names they are, where that is known.
    """

    fields: tuple[NameField, ...]
    files: dict[tuple[int, ...], str]
    holes: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    guessed: tuple[str, ...] = ()
    pattern: str = ""
    layout: str = ""

    @property
    def axes(self) -> str:
        """The axes of the grid, e.g. ``"cz"``."""
        return "".join(f.axis for f in self.fields)

    @property
    def shape(self) -> tuple[int, ...]:
        """The extent of the grid along each of them."""
        return tuple(len(f.values) for f in self.fields)

    def along(self, axis: str) -> NameField | None:
        """Give the field of an axis, ``None`` if the names have none."""
        return next((f for f in self.fields if f.axis == axis), None)

    #: What this is a reading of.
    kind = "dataset"
    how_strays_differ = "is not named as the others are"

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of its channels; empty where the names have none."""
        channel = self.along("c")
        return () if channel is None else channel.labels

    @property
    def missing(self) -> tuple[str, ...]:
        """Whatever no file is there of, by the names."""
        return (*self.holes, *self.gaps)

    @property
    def positions(self) -> tuple[str, ...]:
        """The names of its positions and views, each of which is an array; empty of one alone."""
        return tuple(self._at_positions())

    def _at_positions(self) -> dict[str, tuple[int, ...]]:
        n = sum(f.axis in "pv" for f in self.fields)
        found = sorted({index[:n] for index in self.files}) if n else []
        return {
            " ".join(f.labels[k] for f, k in zip(self.fields, index, strict=False)): index
            for index in found
        }

    def at(self, position: str) -> Self:
        """Give the grid of one position; ``position`` is one of :attr:`positions`."""
        place = self._at_positions()[position]
        n = len(place)
        files = {index[n:]: name for index, name in self.files.items() if index[:n] == place}
        fields = self.fields[n:]
        return replace(self, fields=fields, files=files, holes=tuple(_holes(fields, files)))

    @property
    def rows(self) -> list[tuple[str, str]]:
        """A row a field: its axis, and what the names have along it."""
        return [(NAMES_OF_AXES[f.axis], f"{len(f.values)}: {f}") for f in self.fields]

    @property
    def record(self) -> dict[str, Any]:
        """How the names were read, as attributes of what is made of the files have it."""
        return {
            "pattern": self.pattern,
            "fields": {NAMES_OF_AXES[f.axis]: list(f.labels) for f in self.fields},
        }

    @property
    def how(self) -> str:
        """By what it is read, for sentences."""
        return "by the names of its files"

    @property
    def fields_text(self) -> str:
        """How many values each field has, in words."""
        parts = [format_count(len(f.values), _NOUNS[f.axis]) for f in self.fields]
        return " x ".join(parts or ["one plane"])

    def __str__(self) -> str:
        text = f"{format_count(len(self.files), 'file')}: {self.fields_text}"
        if self.guessed:
            names = " and ".join(NAMES_OF_AXES[a] for a in self.guessed)
            field = self.along(self.guessed[0])
            what = "order of the words" if field is not None and field.is_word else "numbers"
            text += f" ({names} by the {what} alone)"
        return text + (f", named as those of {self.layout}" if self.layout else "")


@dataclass(frozen=True)
class _Column:
    """What varies at one place of the names of a series."""

    at: tuple[int, ...]  # its tokens
    text: str
    axis: str  # empty where no word says it
    values: tuple[Value, ...]  # of each file
    in_folder: bool
    labels: tuple[str, ...] = ()  # of each file, as written
    weak: bool = False  # the word may stand before any counter

    @property
    def is_word(self) -> bool:
        return isinstance(self.values[0], str)


def says_channels(field: NameField) -> bool:
    """Tell whether what is in names is of channels: a number that a word says so of, or dyes."""
    words = {v.lower() for v in field.values if isinstance(v, str)}
    return not words or any(map(_is_dye, words))


def grid_of_names(names: Iterable[str], where: str = "the folder") -> NameGrid:
    """Tell how files are arranged, by their names.

    Parameters
    ----------
    names : iterable of str
        Paths below the dataset's folder, with ``/``.
    where : str
        What a message calls the dataset.

    Raises
    ------
    ArgumentError
        If more than one reading fits; the message has the patterns that choose.

    Examples
    --------
    >>> names = [f"Series001_z{z:02d}_ch{c:02d}.tif" for z in range(4) for c in range(2)]
    >>> grid = grid_of_names(names)
    >>> grid.axes, grid.shape, grid.files[1, 2]
    ('cz', (2, 4), 'Series001_z02_ch01.tif')
    """
    names = sorted(names)
    grid = _grid_of_names(names, where)
    if grid.strays and grid.axes in ("", "c", "z", "cz"):
        return _of_channel_folders(names, where) or grid
    return grid


def _grid_of_names(names: Sequence[str], where: str) -> NameGrid:
    """Give the grid of names that are built alike, or of a known layout; of others none."""
    known = layout_of(names)
    if known is not None and (grid := _grid_of_layout(*known, names, where)) is not None:
        return grid
    series, strays = largest_series(names)
    columns = _merged(_columns(series))
    chosen, guessed = _axes(columns, series, where)
    _check_sign(chosen, series, where)
    fields, indices = _fields(chosen)
    grid = _grid(fields, indices, series.names, strays, guessed, where)
    return replace(grid, pattern=_pattern(chosen, series) if series.names else "")


def _of_channel_folders(names: Sequence[str], where: str) -> NameGrid | None:
    """Give the grid of folders that are named unlike each other and hold planes named alike.

    Those that hold fewer than half of the planes are strays. ``None`` where they are not so.
    """
    parts = [name.split("/") for name in names]
    folders = sorted({p[0] for p in parts}, key=_order)
    if len(folders) < 2 or {len(p) for p in parts} != {2}:
        return None
    number = {folder: n for n, folder in enumerate(folders)}
    alike = {f"ch{number[folder]}/{last}": f"{folder}/{last}" for folder, last in parts}
    try:
        grid = _grid_of_names(sorted(alike), where)
    except ArgumentError:
        return None
    if grid.axes != "cz" or grid.strays or grid.shape[0] != len(folders):
        return None
    per_folder = Counter(folder for folder, _ in parts)
    few = {folder for folder in folders if 2 * per_folder[folder] < grid.shape[1]}
    if few:
        kept = [name for name in names if name.split("/")[0] not in few]
        whole = _of_channel_folders(kept, where)
        return whole and replace(whole, strays=tuple(sorted(set(names).difference(kept))))
    fields = (NameField("c", "", tuple(folders), tuple(folders)), *grid.fields[1:])
    files = {index: alike[name] for index, name in grid.files.items()}
    pattern = "{c}" + grid.pattern[grid.pattern.index("/") :]
    return replace(grid, fields=fields, files=files, holes=tuple(_holes(fields, files)),
                   pattern=pattern)  # fmt: skip


def grid_of_pattern(names: Iterable[str], pattern: str, where: str = "the folder") -> NameGrid:
    """Tell how files are arranged, by a pattern such as ``"{name}_C{c}_Z{z}.tif"``.

    ``{c}``, ``{z}``, ``{t}``, ``{p}`` and ``{v}`` (or ``{channel}``, ``{time}``, ``{position}``,
    ``{tile}``, ``{x}``, ``{y}``, ``{view}`` …) are fields, numbers or words; any other name in
    braces is text that does not matter, ``*`` too. A pattern with named groups, ``(?P<z>…)``, is
    a regular expression. It is held against paths below the dataset's folder, with ``/``.

    Raises
    ------
    ArgumentError
        If the pattern has no field, or two files are the same by it.
    PathNotFoundError
        If no file fits it.
    """
    expression = _compiled(pattern)
    found: list[str] = []
    strays: list[str] = []
    matches: list[re.Match[str]] = []
    for name in sorted(names):
        match = expression.fullmatch(name)
        if match is None:
            strays.append(name)
        else:
            found.append(name)
            matches.append(match)
    if not found:
        some = ", ".join(strays[:3]) or "none"
        raise PathNotFoundError(
            f"{where}: no file fits the pattern {pattern!r}; there are {some}"
            f"{' and others' if len(strays) > 3 else ''}"
        )
    return _grid_of_matches(matches, found, strays, where, pattern)


def _grid_of_layout(
    layout: NameLayout,
    matches: Sequence[re.Match[str] | None],
    names: Sequence[str],
    where: str,
) -> NameGrid | None:
    """Give the grid of names of a known layout; ``None`` where it does not tell them apart.

    Fields are what varies of its groups, as far as it counts.
    """
    fits = [m for m in matches if m is not None]
    members = [m.string for m in fits]
    strays = tuple(n for n, m in zip(names, matches, strict=True) if m is None)
    # t0 comes before t1, wherever they stand.
    groups = sorted(layout.expression.groupindex, key=lambda g: re.sub("[^0-9]", "", g))
    columns: dict[str, _Column] = {}
    examples = {*strays, members[0]}
    for group in groups:
        raw = [m[group] or "" for m in fits]
        name_of = dict(zip(raw, members, strict=True))
        if len(name_of) > 1:
            columns[group] = _column_of_layout(group, raw)
            # Names that differ by digits alone fit a pattern alike, and one of each does.
            examples.update({r.translate(_AS_ZEROS): n for r, n in name_of.items()}.values())
    chosen = [g for g in columns if not g.startswith("_")]
    for group in columns:
        if group not in chosen and not _is_key_of_all([columns[g] for g in chosen], len(fits)):
            chosen.append(group)
    ordered = [columns[g] for g in groups if g in chosen]
    if not _is_key_of_all(ordered, len(fits)):
        return None
    fields, indices = _fields(ordered)
    grid = _grid(fields, indices, members, strays, (), where)
    pattern = _pattern_of_layout(fits[0], columns, chosen)
    if not chosen or not _reads_alike(pattern, grid, examples):
        pattern = layout.expression.pattern
    return replace(grid, pattern=pattern, layout=layout.name)


def _reads_alike(pattern: str, grid: NameGrid, names: Iterable[str]) -> bool:
    """Tell whether a pattern puts some of the names of a grid, and others, where the grid does."""
    try:
        found = grid_of_pattern(names, pattern)
    except (ArgumentError, PathNotFoundError):
        return False
    names = set(names)
    there = {name: index for index, name in grid.files.items() if name in names}
    along = [sorted(set(values)) for values in zip(*there.values(), strict=True)]
    files = {tuple(map(list.index, along, index)): name for name, index in there.items()}
    return found.files == files


def _column_of_layout(group: str, raw: Sequence[str]) -> _Column:
    """Give what varies in a group: numbers, with the word that is before them all, or words."""
    parts = {r: _LETTERED.fullmatch(r) for r in set(raw)}  # a dataset has few, in many names
    texts = {m[1] for m in parts.values() if m is not None}
    axis = _axis_of_group(group)
    if group == "well" or None in parts.values() or len(texts) != 1:
        return _Column((), "", axis, tuple(raw), False, tuple(raw))
    number_of = {r: int(m[2]) for r, m in parts.items() if m is not None}
    labels = tuple(raw) if axis == "c" else ()
    return _Column((), texts.pop(), axis, tuple(number_of[r] for r in raw), False, labels)


def _pattern_of_layout(
    first: re.Match[str], varying: Mapping[str, _Column], chosen: Sequence[str]
) -> str:
    """Give a pattern with the fields of the first name in braces, and what else varies as ``*``."""
    name, at, pattern = first.string, 0, ""
    for start, end, group in sorted((*first.span(g), g) for g in varying if first[g] is not None):
        axis = f"{{{_axis_of_group(group)}}}" if group in chosen else "*"
        pattern += name[at:start] + varying[group].text + axis
        at = end
    return pattern + name[at:]


def _grid_of_matches(
    matches: Sequence[re.Match[str]],
    names: Sequence[str],
    strays: Sequence[str],
    where: str,
    pattern: str,
) -> NameGrid:
    """Give the grid of names that fit one expression, by its groups."""
    columns = []
    for group in matches[0].re.groupindex:
        axis = _axis_of_group(group)
        raw = [m[group] or "" for m in matches]
        if axis and any(raw):
            distinct = set(raw)
            numbers = all(r and is_number(r) for r in distinct)
            value_of = {r: number_of(r) if numbers else r for r in distinct}
            values: tuple[Value, ...] = tuple(value_of[r] for r in raw)
            labels = tuple(raw) if axis == "c" or not numbers else tuple(map(str, values))
            columns.append(_Column((), "", axis, values, False, labels))
    fields, indices = _fields(columns)
    grid = _grid(fields, indices, names, strays, (), where)
    return replace(grid, pattern=pattern)


def _compiled(pattern: str) -> re.Pattern[str]:
    """Give the regular expression of a pattern, whose groups are named for axes."""
    if "(?P<" in pattern:
        try:
            expression = re.compile(pattern)
        except re.error as err:
            raise ArgumentError(f"pattern {pattern!r} is no regular expression: {err}") from err
    else:
        parts: list[str] = []
        n_fields = 0
        for part in re.split(r"(\{[^{}]*\}|\*)", pattern):
            axis = _axis_of_group(part[1:-1]) if part.startswith("{") else ""
            if axis:
                group = f"{axis}{n_fields}"
                n_fields += 1
                # A field of digits, with a sign; or a word, as short as can be.
                parts.append(rf"(?P<{group}>[-+]?[0-9]+(?:\.[0-9]+)?|[^/]+?)")
            elif part == "*" or part.startswith("{"):
                parts.append("[^/]*?")
            else:
                parts.append(re.escape(part))
        expression = re.compile("".join(parts))
    if not any(map(_axis_of_group, expression.groupindex)):
        raise ArgumentError(
            f"pattern {pattern!r} has no field: give {{z}}, {{c}}, {{t}}, {{position}} or {{view}} "
            'where the names have them, as in "{name}_C{c}_Z{z}.tif"'
        )
    return expression


def _axis_of_group(name: str) -> str:
    name = name.lower().rstrip("0123456789").removeprefix("_")
    return name if name in AXES and len(name) == 1 else _ALIASES.get(name, "")


def _columns(series: Series) -> list[_Column]:
    """Give what varies in the names of a series."""
    found = []
    for at, texts in enumerate(zip(*series.tokens, strict=True)):
        if len(set(texts)) == 1:
            continue
        counts = is_number(texts[0])
        values: tuple[Value, ...] = tuple(number_of(t) if counts else t for t in texts)
        first = series.tokens[0]
        text, axis = _key(first, at) if counts else ("", "c")
        if counts and at and len({tokens[at - 1] for tokens in series.tokens}) > 1:
            text, axis = "", ""  # of a word that varies the number is not
        if counts and not axis and _WAVELENGTHS.issuperset(values):
            axis = "c"
        if not counts and all(map(is_well, texts)):
            axis = "p"
        in_folder = "/" in first[at:]
        labels = _labels(series, at, text) if axis == "c" else ()
        weak = text.rstrip("_- =.").lower() in _WEAK_KEYS
        found.append(_Column((at,), text, axis, values, in_folder, labels, weak))
    return found


def _labels(series: Series, at: int, text: str) -> tuple[str, ...]:
    """Give every file's name of its channel: of the folder that is one channel's, or as written."""
    first = series.tokens[0]
    if "/" in first[at:]:
        level = first[:at].count("/")
        folders = [name.split("/")[level] for name in series.names]
        if _groups(folders) == _groups([tokens[at] for tokens in series.tokens]):
            return tuple(folders)
    unit = first[at + 1] if at + 1 < len(first) and first[at + 1].lower() in _UNITS else ""
    return tuple(f"{text}{tokens[at]}{unit}" for tokens in series.tokens)


def _key(tokens: Sequence[str], at: int) -> tuple[str, str]:
    """Give the word that names a number, and the axis that it stands for; empty if none does."""
    after = tokens[at + 1] if at + 1 < len(tokens) else ""
    if _is_in_brackets(tokens, at):
        return "", "p"
    if after.lower() in _UNITS:
        return "", _UNITS[after.lower()]
    before = tokens[at - 1] if at else ""
    if before[:1].isalpha():
        if before.lower() in _AXIS_OF_KEY:
            return before, _AXIS_OF_KEY[before.lower()]
        last = _CAMEL.findall(before)[-1:] or [""]
        return last[0], _AXIS_OF_KEY.get(last[0].lower(), "")
    word = tokens[at - 2] if at > 1 and before in "_- =." else ""
    # A letter is a word of its own where it touches the number: in b_0001 it is a brain.
    strong = len(word) > 1 or before == "=" or word.lower() in ("z", "t", "c")
    if word[:1].isalpha() and word.lower() in _AXIS_OF_KEY and strong:
        return f"{word}{before}", _AXIS_OF_KEY[word.lower()]
    return "", ""


def _is_in_brackets(tokens: Sequence[str], at: int) -> bool:
    """Tell whether a number is one of two that name a tile, as in ``[00 x 01]``."""
    return any(
        [tokens[start + k] for k in (0, 2, 3, 4, 6)] == ["[", " ", "x", " ", "]"]
        for start in (at - 1, at - 5)
        if start >= 0 and start + 6 < len(tokens)
    )


def _groups(values: Sequence[object]) -> tuple[int, ...]:
    """Give which files have equal values, the same for columns that part the files alike."""
    seen: dict[object, int] = {}
    return tuple(seen.setdefault(v, len(seen)) for v in values)


def _merged(columns: list[_Column]) -> list[_Column]:
    """Let one column stand for all that part the files alike, such as ``Ex_488_Em_525``."""
    by_groups: dict[tuple[int, ...], list[_Column]] = defaultdict(list)
    for column in columns:
        by_groups[_groups(column.values)].append(column)
    return [
        min(alike, key=lambda c: (not c.axis, c.is_word, c.in_folder, c.at))
        for alike in by_groups.values()
    ]


def _is_key_of_all(columns: Sequence[_Column], n_files: int) -> bool:
    """Tell whether no two files are alike in all columns."""
    if not columns:
        return n_files <= 1
    return len(set(zip(*(c.values for c in columns), strict=True))) == n_files


def _axes(
    columns: list[_Column], series: Series, where: str
) -> tuple[list[_Column], tuple[str, ...]]:
    """Give every column an axis, and leave out those that follow from others.

    Raises
    ------
    ArgumentError
        If more than one reading fits.
    """
    n_files = len(series.names)
    guessed: tuple[str, ...] = ()
    if len(columns) == 1:
        (only,) = columns
        if only.is_word and only.axis == "p":  # A1, A2, B1: wells, or two words and a counter
            raise _ambiguous([only], [], series, where)
        too_many = only.axis == "c" and len(set(only.values)) > _MOST_CHANNELS
        # Words in names of files that tell of no channel are as good as numbers.
        if not only.axis or too_many or only.weak or not (only.in_folder or _is_told(only)):
            return [_with_axis(only, "z")], ("z",)
        return columns, ()
    columns = [_ranked(c, columns) for c in columns]
    stated = [c for c in columns if c.axis and not (c.is_word and c.axis == "c")]
    words = [c for c in columns if c.is_word and c.axis == "c"]
    bare = [c for c in columns if not c.axis]
    if _is_key_of_all(stated, n_files):
        # What else varies follows from these: times of day, serial numbers.
        chosen = stated
    else:
        if words and (_has(stated, "c") or len(words) > 1):
            words = [w for w in words if not _follows(w, [*stated, *bare])]
        chosen = [*stated, *words]
        if not _is_key_of_all(chosen, n_files):
            bare = [b for b in bare if not _follows(b, chosen)]
            serial = [b for b in bare if len(set(b.values)) == n_files]
            if len(bare) > 1 and serial and not _is_grid([b for b in bare if b not in serial]):
                # Times of day and the like, which repeat; the number that does not counts.
                bare = serial[:1]
            if len(bare) == 1 and not _has(chosen, "z"):
                chosen, guessed = [*chosen, _with_axis(bare[0], "z")], ("z",)
            elif bare:
                raise _ambiguous(bare, chosen, series, where)
    for c in chosen:
        if c.axis == "c" and _is_lettered(c) and not _is_told(c):
            raise _ambiguous([c], [o for o in chosen if o is not c], series, where)
    for axis in "tcz":
        same = [c for c in chosen if c.axis == axis]
        sides = [c for c in same if c.is_word and _SIDES.issuperset(map(_lower, c.values))]
        if len(same) > 1 == len(sides):
            chosen = [_with_axis(c, "v") if c is sides[0] else c for c in chosen]
            same.remove(sides[0])
        if len(same) > 1:
            raise _ambiguous(same, [c for c in chosen if c.axis != axis], series, where)
    return chosen, guessed


def _is_lettered(column: _Column) -> bool:
    """Tell whether the values are letters in the names of files, as of a001 and b001."""
    return column.is_word and not column.in_folder and max(len(str(v)) for v in column.values) == 1


def _is_told(column: _Column) -> bool:
    """Tell whether channels are: numbers that a word says so of, dyes, or red, green and blue."""
    words = {_lower(v) for v in column.values}
    return not column.is_word or (words <= _COLOURS or any(map(_is_dye, words)))


def _is_dye(word: str) -> bool:
    return re.split("[^a-z]", word)[0] in DYES


def _lower(value: Value) -> str:
    return str(value).lower()


def _has(columns: Sequence[_Column], axis: str) -> bool:
    return any(c.axis == axis for c in columns)


def _with_axis(column: _Column, axis: str) -> _Column:
    return replace(column, axis=axis)


def _follows(column: _Column, others: Sequence[_Column]) -> bool:
    """Tell whether a column's value follows from those of others."""
    others = [c for c in others if c is not column]
    if not others:
        return False
    seen: dict[tuple[Value, ...], Value] = {}
    keys = zip(*(c.values for c in others), strict=True)
    return all(seen.setdefault(k, v) == v for k, v in zip(keys, column.values, strict=True))


def _ranked(column: _Column, columns: Sequence[_Column]) -> _Column:
    """Let a number that counts on over what a folder says begin anew in each folder.

    In ``ch0/ch00000.tif``, ``ch1/ch10000.tif`` the second number is the plane.
    """
    if column.is_word or column.in_folder or len(set(column.values)) < len(column.values):
        return column
    folders = [c for c in columns if c.in_folder and c is not column]
    if not folders or _is_grid([*folders, column]):
        return column
    by_folder: dict[tuple[Value, ...], list[Value]] = defaultdict(list)
    for key, value in zip(
        zip(*(c.values for c in folders), strict=True), column.values, strict=True
    ):
        by_folder[key].append(value)
    sizes = {len(v) for v in by_folder.values()}
    if len(sizes) != 1 or sizes == {1}:
        return column
    rank = {v: n for values in by_folder.values() for n, v in enumerate(sorted(values, key=_order))}
    axis = "z" if not column.axis or _has(folders, column.axis) else column.axis
    return _Column(column.at, "", axis, tuple(rank[v] for v in column.values), False)


def _is_grid(columns: Sequence[_Column]) -> bool:
    n = math.prod(len(set(c.values)) for c in columns)
    return len(set(zip(*(c.values for c in columns), strict=True))) == n


def _ambiguous(
    unclear: Sequence[_Column], clear: Sequence[_Column], series: Series, where: str
) -> AmbiguousNamesError:
    """Give the error that shows the readings, and the pattern of each."""
    readings = [
        _pattern([*clear, *(_with_axis(c, a) for c, a in zip(unclear, axes, strict=True))], series)
        for axes in _readings(unclear, clear, series)
    ]
    patterns = [Option("pattern", p) for p in list(dict.fromkeys(readings))[:4]]
    some = joined(" or ", patterns or ["a pattern with {z}, {c}, {t} or {position}"])
    what = " and ".join(_examples(c) for c in unclear)
    error = AmbiguousNamesError(
        f"{where}: the names do not say which axis is which: {what} vary, as in "
        f"{series.names[0]!r}. Give " + some + "."
    )
    error.varying = what
    return error


def _is_after_hyphen(tokens: Sequence[str], at: int) -> bool:
    """Tell whether a number stands behind a word for planes and a hyphen."""
    return at > 1 and tokens[at - 1] == "-" and _AXIS_OF_KEY.get(tokens[at - 2].lower()) == "z"


def _check_sign(columns: Sequence[_Column], series: Series, where: str) -> None:
    """Refuse planes of which it cannot be told whether a hyphen is a minus, as in ``z-30``.

    It is a separator where it is one elsewhere in the names, and before counters: numbers with
    zeros before them, or in steps of 1 from 0 or 1.

    Raises
    ------
    AmbiguousNamesError
        If it may be either.
    """
    first = series.tokens[0] if series.names else []
    column = next((c for c in columns if c.axis == "z" and _is_after_hyphen(first, c.at[0])), None)
    if column is None:
        return
    (at,) = column.at
    hyphens = [k for k, token in enumerate(first[:-1]) if token == "-" and is_number(first[k + 1])]
    raw = {tokens[at] for tokens in series.tokens}
    values = sorted(set(column.values), key=_order)
    is_counter = any(values == list(range(n, n + len(values))) for n in (0, 1))
    if len(hyphens) > 1 or is_counter or any(r[0] == "0" and len(r) > 1 for r in raw):
        return
    pattern = _pattern(columns, series)
    signed = pattern.replace("-{z}", "{z}")
    up, down = (", ".join(f"{sign}{v}" for v in some[:3]) for sign, some in
                (("", values), ("-", values[::-1])))  # fmt: skip
    error = AmbiguousNamesError(
        f"{where}: the names do not say whether the hyphen before a number is a minus, as in "
        f"{series.names[0]!r}. Give " + Option("pattern", signed) + f" for z {down} …, or "
        + Option("pattern", pattern) + f" for z {up} …."
    )  # fmt: skip
    error.varying = _examples(column)
    error.odd = "the hyphen before a number may be a minus"
    raise error


def _readings(
    unclear: Sequence[_Column], clear: Sequence[_Column], series: Series
) -> Iterator[list[str]]:
    """Yield axes that columns may be of, none of which is taken, the likelier first."""
    free = [a for a in "zct" if not _has(clear, a)]
    n = len(unclear)
    if n == 1 and unclear[0].is_word:
        yield from ([a] for a in (("p", "c", "t") if _is_lettered(unclear[0]) else ("p", "cz")))
        return
    if n == 1:
        # What follows a point may be of the number before it.
        (at,) = unclear[0].at
        yield from ([c.axis] for c in clear if c.at == (at - 2,) and _is_decimal(series, at - 2))
        yield from ([a] for a in (*free, "p"))
        return
    axes = [*free, *"p" * n][:n]
    every = [axes, axes[::-1], ["t", *(a for a in free if a != "t"), *"p" * n][:n]]
    every.append(["p", *free, *"p" * n][:n])
    if n == 2 and "z" in free and _is_decimal_pair(unclear, series):
        every.insert(2, ["z", "z"])
    if not _is_grid(unclear):  # one axis in several parts, as dates are
        every = [[a] * n for a in (*free, "p")] + every
    for one in every:
        is_free = all(a == "p" or a in free for a in one)
        if is_free and not any(c.is_word and a == "z" for c, a in zip(unclear, one, strict=True)):
            yield one


def _is_decimal_pair(unclear: Sequence[_Column], series: Series) -> bool:
    first, second = (c.at[0] for c in unclear)
    return second == first + 2 and _is_decimal(series, first)


def _is_decimal(series: Series, at: int) -> bool:
    """Tell whether numbers at a place go on behind a point."""
    return all(t[at + 1 : at + 2] == ["."] and is_number(t[at + 2]) for t in series.tokens)


def _examples(column: _Column) -> str:
    values = sorted(set(column.values), key=_order)
    shown = ", ".join(f"{column.text}{v}" for v in values[:3])
    return f"{shown}{' …' if len(values) > 3 else ''} ({len(values):,} values)"


def _pattern(columns: Sequence[_Column], series: Series) -> str:
    """Give a pattern that reads the names of a series so."""
    axis_at = {at: c.axis for c in columns for at in c.at}
    constant = [len(set(texts)) == 1 for texts in zip(*series.tokens, strict=True)]
    text = ""
    for at, token in enumerate(series.tokens[0]):
        axis = axis_at.get(at, "")
        if axis and axis == axis_at.get(at - 2) and _is_decimal(series, at - 2):
            text = text[:-1]  # one number
        elif axis:
            text += "".join(f"{{{a}}}" for a in axis)
        else:
            text += token if constant[at] else "*"
    extension = EXTENSION.search(series.names[0])
    return text + (extension[0] if extension else "")


def _order(value: Value) -> tuple[int, float, tuple[tuple[int, int, str], ...]]:
    if not isinstance(value, str):
        return 0, value, ()
    parts = re.split("([0-9]+)", value)  # Pos2 before Pos10
    return 1, 0, tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts)


def _fields(columns: Sequence[_Column]) -> tuple[tuple[NameField, ...], list[tuple[int, ...]]]:
    """Give the fields, columns of one axis joined, and every file's index along each."""
    fields: list[NameField] = []
    places: list[list[int]] = []
    for axis in AXES:
        alike = [c for c in columns if c.axis == axis]
        if not alike:
            continue
        if len(alike) == 1:
            values: list[Value] = list(alike[0].values)
            text = alike[0].text
            written = alike[0].labels or [v if isinstance(v, str) else f"{text}{v}" for v in values]
        else:
            # Rows and columns of tiles, wells and their fields: one axis of places.
            values = [
                "_".join(f"{c.text}{v}" for c, v in zip(alike, row, strict=True))
                for row in zip(*(c.values for c in alike), strict=True)
            ]
            written, text = list(map(str, values)), ""
        orders = zip(*(map(_order, c.values) for c in alike), strict=True)
        order_of = dict(zip(values, orders, strict=True))
        distinct = sorted(set(values), key=lambda v: order_of[v])
        index = {v: n for n, v in enumerate(distinct)}
        label_of = dict(zip(values, written, strict=True))
        labels = tuple(label_of[v] for v in distinct)
        fields.append(NameField(axis, text, tuple(distinct), labels))
        places.append([index[v] for v in values])
    n_files = len(columns[0].values) if columns else 1
    return tuple(fields), [tuple(place[n] for place in places) for n in range(n_files)]


def _grid(
    fields: tuple[NameField, ...],
    indices: Sequence[tuple[int, ...]],
    names: Sequence[str],
    strays: Sequence[str],
    guessed: tuple[str, ...],
    where: str,
) -> NameGrid:
    files: dict[tuple[int, ...], str] = {}
    for index, name in zip(indices, names, strict=False):
        if index in files:
            raise ArgumentError(
                f"{where}: {files[index]!r} and {name!r} are the same by their names "
                f"({_words(fields, index) or 'nothing varies'}). Move one away, or give a pattern "
                "that tells them apart."
            )
        files[index] = name
    # Names of which no two are alike tell of no grid, and so of no holes in one.
    holes, gaps = _holes(fields, files) if files else [], _gaps(fields)
    return NameGrid(fields, files, tuple(holes), tuple(gaps), tuple(strays), guessed)


def _holes(fields: Sequence[NameField], files: dict[tuple[int, ...], str]) -> list[str]:
    """Name the places of a grid that have no file."""
    shape = [len(f.values) for f in fields]
    if math.prod(shape) == len(files):
        return []
    every = product(*map(range, shape))
    return [_words(fields, index) for index in every if index not in files]


def _gaps(fields: Sequence[NameField]) -> list[str]:
    """Give the numbers that are left out where a field otherwise goes in equal steps."""
    found: list[str] = []
    for f in fields:
        numbers = [v for v in f.values if not isinstance(v, str)]
        if f.axis not in "tz" or len(numbers) < max(3, len(f.values)):
            continue
        n_digits = max(len(str(v).partition(".")[2]) for v in numbers)
        counts = [round(v * 10**n_digits) for v in numbers]
        steps = Counter(b - a for a, b in pairwise(counts))
        step = min(steps, key=lambda s: (-steps[s], s))
        for k, (a, b) in enumerate(pairwise(counts)):
            if (b - a) % step == 0 and (b - a) // step <= 1000:
                between = range(a + step, b, step)
                found += [
                    f"{NAMES_OF_AXES[f.axis]} {n / 10**n_digits if n_digits else n}"
                    for n in between
                ]
            elif b - a > step and steps[step] > 1:  # times jitter
                found.append(f"{NAMES_OF_AXES[f.axis]} between {numbers[k]} and {numbers[k + 1]}")
    return found


def _words(fields: Sequence[NameField], index: Sequence[int]) -> str:
    return ", ".join(
        f"{NAMES_OF_AXES[f.axis]} {f.values[n]}" for f, n in zip(fields, index, strict=True)
    )
