"""The oldest supported dependencies, which CI installs, are the bounds of ``pyproject.toml``."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / ".ci").is_dir(), reason="no checkout")


def test_the_constraints_are_made_from_the_bounds():
    made = runpy.run_path(str(ROOT / ".ci/oldest"))["constraints"]
    expected = made((ROOT / "pyproject.toml").read_text())
    kept = (ROOT / ".ci/constraints-oldest.txt").read_text()
    assert kept == expected, "run: .ci/oldest > .ci/constraints-oldest.txt"


def test_a_bound_that_is_raised_is_seen_and_one_that_is_missing_refused():
    made = runpy.run_path(str(ROOT / ".ci/oldest"))["constraints"]
    text = (
        '[project]\ndependencies = ["dask[array]>=2025.4"]\n'
        '[project.optional-dependencies]\ns3 = ["s3fs>=1.0"]\nview = []\n'
    )
    assert made(text).splitlines()[1:] == ["dask==2025.4", "s3fs==1.0"]
    with pytest.raises(SystemExit, match="s3fs"):
        made(text.replace("s3fs>=1.0", "s3fs"))
