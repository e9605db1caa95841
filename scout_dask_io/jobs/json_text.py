"""What the jobs report, as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

__all__ = ["to_json"]


def to_json(report: Any) -> str:
    """Give a report's fields and properties as JSON; sizes are ``_nbytes``, times ``_s``.

    Examples
    --------
    >>> print(to_json({"shape": (30, 510, 667), "filled": ()}))
    {
      "shape": [30, 510, 667],
      "filled": []
    }
    """
    return _laid_out(_plain(report), "")


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


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [f.name for f in dataclasses.fields(value)]
        names += [n for n, v in vars(type(value)).items() if isinstance(v, property)]
        return {n: _plain(getattr(value, n)) for n in names if not n.startswith("_")}
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, slice):
        return [value.start, value.stop]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has neither NaN nor infinities
    return value
