"""What the axes of an array are: one letter each, by what states them, or by their number.

The one place where names, words, types and orders of axes are understood: readers of Zarr
attributes, of ``dimension_names`` and of OME metadata ask here, and so does whoever turns an
array into another order. A letter is lower-case: ``t`` time, ``c`` channel, ``z y x`` space,
``s`` samples of colour; one of ``qrpihe`` is an axis that means something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from scout_dask_io.errors import ArgumentError

#: Names of the axes of arrays by their number, as OME-Zarr orders them.
AXES = {2: "yx", 3: "zyx", 4: "czyx", 5: "tczyx"}
#: The order of an image's axes; samples of colour come last.
ORDER = AXES[5]
#: The attribute in which xarray, and whoever writes for it, keeps the names of a v2 array's axes.
DIMENSIONS_ATTRIBUTE = "_ARRAY_DIMENSIONS"

# Letters of axes that mean none of those.
_OTHERS = "qrpihe"
_WORDS = {
    letter: words.split()
    for letter, words in {
        "t": "time timepoint timepoints frame frames",
        "c": "channel channels ch wavelength band bands",
        "z": "depth plane planes slice slices section sections",
        "y": "height row rows lat latitude",
        "x": "width column columns col cols lon longitude",
        "s": "sample samples rgb rgba",
    }.items()
}
_LETTERS = {word: letter for letter, words in _WORDS.items() for word in words}
_TYPES = {"time": "t", "channel": "c"}


def axis_letter(name: Any, kind: Any = None) -> str:
    """Give the letter of an axis by its name, or its type as OME-NGFF has it; else ``"?"``.

    A letter that means something counts before the type, the type before words.

    Examples
    --------
    >>> axis_letter("Z"), axis_letter("Depth"), axis_letter("wave", "channel"), axis_letter("up")
    ('z', 'z', 'c', '?')
    """
    known = str(name).strip().lower()
    if len(known) == 1 and known in ORDER + "s":
        return known
    letter = _TYPES.get(str(kind).lower()) or _LETTERS.get(known)
    return letter or (known if len(known) == 1 and known in _OTHERS else "?")


def are_letters(axes: str, ndim: int) -> bool:
    """Tell whether a caller's axes are a letter an axis, each another, y and x among them.

    Examples
    --------
    >>> are_letters("tyx", 3), are_letters("yxs", 3), are_letters("zz", 2), are_letters("zyx", 4)
    (True, True, False, False)
    """
    letters = set(axes)
    return len(axes) == len(letters) == ndim and {"y", "x"} <= letters <= set(ORDER + "s")


def letters_of(axes: Iterable[tuple[Any, Any]]) -> str:
    """Give a letter an axis of names and types, each another; what has none gets one of none.

    Examples
    --------
    >>> letters_of([("angle", None), ("Time", "time"), ("y", "space"), ("x", "space")])
    'qtyx'
    """
    letters: list[str] = []
    for name, kind in axes:
        letter = axis_letter(name, kind)
        letters.append("?" if letter in letters else letter)
    free = iter([a for a in _OTHERS if a not in letters])
    return "".join(next(free, "?") if a == "?" else a for a in letters)


def stated_axes(names: Any, ndim: int) -> str:
    """Give the axes that a list of names states; empty where it states none.

    A name that means nothing beside one that does is an axis of no meaning; one that lacks
    is the one that remains, in the usual order.

    Examples
    --------
    >>> stated_axes(["time", "y", "x"], 3), stated_axes([None, "x"], 2), stated_axes(None, 2)
    ('tyx', 'yx', '')
    >>> stated_axes(["round", "y", "x"], 3), stated_axes(["dim_0", "dim_1"], 2)
    ('qyx', '')
    """
    if not isinstance(names, (list, tuple)) or len(names) != ndim:
        return ""
    known = [a for a in map(axis_letter, names) if a in ORDER + "s"]
    if not known or len(set(known)) != len(known):
        return ""
    left = [a for a in AXES.get(ndim, ORDER) if a not in known]
    # As many of the last of those as lack a name, so that z goes before t and c.
    n_open = sum(name is None for name in names)
    filled = iter(left[max(0, len(left) - n_open) :])
    return letters_of((next(filled, "?") if name is None else name, None) for name in names)


def guessed_axes(ndim: int, *, channels: bool = False) -> str:
    """Guess the axes of an array by their number. With ``channels``, the first of three is ``c``.

    Above five, letters that mean nothing come before those that do.

    Examples
    --------
    >>> guessed_axes(3), guessed_axes(3, channels=True), guessed_axes(7), guessed_axes(1)
    ('zyx', 'cyx', 'qrtczyx', '?')
    """
    if channels and ndim == 3:
        return "cyx"
    if 5 < ndim <= 11:
        return _OTHERS[: ndim - 5] + AXES[5]
    return AXES.get(ndim, "?" * ndim)


def axes_of(ndim: int, *, channels: bool = False, axes: str | None = None) -> str:
    """Give the axes of an OME-Zarr image, one letter each: those given, or by their number.

    Raises
    ------
    ArgumentError
        If OME-Zarr has no such array, or ``axes`` do not fit it.
    """
    if axes is not None:
        # A letter is found only behind the one before it, if all are in order.
        left = iter(AXES[5])
        if len(axes) != ndim or not axes.endswith("yx") or not all(a in left for a in axes):
            raise ArgumentError(
                f"axes must be {ndim} letters, some of 'tczyx' in this order with y and x, "
                f"got {axes!r}"
            )
        return axes
    if ndim not in AXES:
        raise ArgumentError(
            f"an OME-Zarr image has 2 to 5 axes, (t, c, z, y, x) at the most, got {ndim}"
        )
    return guessed_axes(ndim, channels=channels)


def pages_as_planes(axes: str) -> str:
    """Give the axes of TIFF pages of which no metadata say what they are, as planes along z.

    Examples
    --------
    >>> pages_as_planes("qyx"), pages_as_planes("qzyx"), pages_as_planes("ryx")
    ('zyx', 'qzyx', 'ryx')
    >>> pages_as_planes("iyxs")
    'zyxs'
    """
    strange = [a for a in axes if a not in ORDER + "s"]
    pages = len(strange) == 1 and strange[0] in "qi" and "z" not in axes
    return axes.replace(strange[0], "z") if pages else axes


def in_order(axes: str) -> str:
    """Give the letters in the order of pages: what means nothing, ``tczyx``, and colour last.

    Examples
    --------
    >>> in_order("xyz"), in_order("yxsc"), in_order("qzyx")
    ('zyx', 'cyxs', 'qzyx')
    """
    order = ORDER + "s"
    return "".join(sorted(axes, key=order.find))


def names_to_store(
    axes: str, names: Sequence[str] = (), shape: Sequence[int] = ()
) -> list[str] | None:
    """Give the names of axes as an array stores them; ``None`` of what readers take it for anyway.

    Of five axes nobody is sure, nor whether the last of three that is three or four long is
    colour, so that they are always named.

    Examples
    --------
    >>> names_to_store("tyx"), names_to_store("zyx"), names_to_store("cyx", ("dapi",))
    (['t', 'y', 'x'], None, None)
    >>> names_to_store("zyx", (), (9, 8, 3))
    ['z', 'y', 'x']
    """
    usual = guessed_axes(len(axes), channels=bool(names))
    means_nothing = not set(axes) <= set(ORDER + "s")
    like_colour = len(axes) > 2 and tuple(shape[-1:]) in ((3,), (4,))
    plain = len(axes) < 5 and axes == usual and not like_colour
    return None if not axes or means_nothing or plain else list(axes)
