"""Texts that are kept beside the tests, and held against what is so today."""

from __future__ import annotations

import os
from pathlib import Path

SNAPSHOTS = Path(__file__).parent / "snapshots"
#: Set by ``python -m tests.pins``: texts are written, not compared.
REWRITE = "PINS_REWRITE"


def check(name: str, text: str) -> None:
    """Hold a text against the one of that name; a difference is shown line by line."""
    path = SNAPSHOTS / name
    lines = [line.rstrip() for line in text.strip("\n").splitlines()]
    if os.environ.get(REWRITE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        return
    assert path.exists(), f"there is no {name}: python -m tests.pins writes it"
    assert lines == path.read_text().splitlines(), f"{name} differs; see CONTRIBUTING.md, Tests"
