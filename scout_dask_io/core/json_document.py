"""JSON as it comes in files of others: parsed here alone, and bounded before it is.

A text of a few megabytes can ask for gigabytes (each ``[]`` is 3 bytes and becomes 64), and one
that is nested deeper than Python calls functions is an error of whoever walks it first. So a text
is measured first; what is too large, too deep, or says a key twice is a ``ValueError``.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

#: Largest text, in bytes or characters; what metadata are read up to. The colours and properties
#: of a hundred thousand labels take a quarter of it.
MAX_JSON_NBYTES = 2**26
#: Most values in a text: at up to 100 bytes each they fit in 200 MB.
MAX_VALUES = 2**21
#: Most objects and lists inside one another. OME-Zarr has eight.
MAX_DEPTH = 100


def parse_json(text: str | bytes) -> Any:
    """Give what a JSON text holds; numbers may be ``NaN`` and ``Infinity``, as others write them.

    Raises
    ------
    ValueError
        If it is no JSON, is larger or deeper than is read, or an object has a key twice: readers
        differ in which of the two they take.

    Examples
    --------
    >>> parse_json('{"shape": [2, 3]}')
    {'shape': [2, 3]}
    """
    if len(text) > MAX_JSON_NBYTES:
        raise ValueError(f"more than the {MAX_JSON_NBYTES:,} bytes of JSON that are read")
    # Counted inside of texts too, where they are rare.
    comma, bracket, brace = (b",", b"[", b"{") if isinstance(text, bytes) else (",", "[", "{")
    n_containers = text.count(bracket) + text.count(brace)  # type: ignore[arg-type]
    if n_containers + text.count(comma) > MAX_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"more than the {MAX_VALUES:,} values of JSON that are read")
    try:
        if isinstance(text, bytes) or text.startswith("\ufeff"):
            found = json.loads(text, object_pairs_hook=_object)
        else:
            found = _decoder().decode(text)
    except RecursionError as err:
        raise _too_deep() from err
    if n_containers > MAX_DEPTH:
        _check_depth(found)
    return found


def parse_json_at(text: str, start: int) -> Any:
    """Give the JSON value that begins at a place in a text, whatever follows it.

    Raises
    ------
    ValueError
        As for :func:`parse_json`; the text's size is for the caller to bound.

    Examples
    --------
    >>> parse_json_at('x = {"a": 1}, and more', 4)
    {'a': 1}
    """
    try:
        found = _decoder().raw_decode(text, start)[0]
    except RecursionError as err:
        raise _too_deep() from err
    _check_depth(found)
    return found


@cache
def _decoder() -> json.JSONDecoder:
    """Give a decoder: to make one takes as long as to parse a short text."""
    return json.JSONDecoder(object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _check_depth(found: Any) -> None:
    level = [found]
    for _ in range(MAX_DEPTH):
        level = [v for each in level for v in _members(each) if isinstance(v, (dict, list))]
        if not level:
            return
    raise _too_deep()


def _members(found: Any) -> Any:
    if isinstance(found, dict):
        return found.values()
    return found if isinstance(found, list) else ()


def _too_deep() -> ValueError:
    return ValueError(f"more than {MAX_DEPTH} objects and lists inside one another")
